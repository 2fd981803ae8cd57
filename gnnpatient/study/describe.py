"""What a cohort holds, before anyone models it: values, duplicated people, its size, Table 1."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from math import ceil, exp, log, log1p
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.cohort.outcomes import Diagnosis, Survival
from gnnpatient.errors import InputError
from gnnpatient.times import DAY, NEVER

if TYPE_CHECKING:
    import pandas as pd

# -- values --

MEASURED = 10  # more different values than that, and it is a measurement rather than a score
SCALES = (10, 18, 38.67, 88.4, 100, 1000)
"""Between units that are mixed up: dilutions and prefixes, mmol of glucose, mmol of cholesterol, umol of
creatinine, all to mg/dL. Fahrenheit and Celsius are looked for as well."""
TIMES = (24, 30.44, 60, 365.25, 1440, 3600, 8766, 86400)
"""Between units of time that are mixed up: hours, months, minutes and years to days, and to one another."""
AGES = (0.0, 125.0)  # nobody is older
_AGE = re.compile(r"(?i)(^|[^a-z])(age|alter|leeftijd|edad|eta|alder)([^a-z]|$)")
_IN_YEARS = re.compile(r"(?i)^(|y|yr|yrs|a|years?)$")
_WORDS = re.compile(r"-9{1,6}|9{3,7}")  # fillers among words
FILLERS = np.array([9.96921e36, 3.4028235e38, 1e15, 1e20, 1e30, 2**31 - 1, 2**31, 2**32 - 1, 2**15, 65535])
"""What software writes where it has nothing: netCDF, the ends of the types. Runs of 9, 8 or 7 are others."""


def distributions(cohort: Cohort) -> list[dict[str, Any]]:
    """One row a code that has rows, in the order of the spec.

    rows, patients; missing: the share of rows without a value; min, q01, median, q99, max: of the values,
    None where there is none; unit ("" = not said); range: what [units] holds possible, or None; flags: what
    looks wrong, in words, [] = nothing. Rows that the reader refused are not here but in `cohort.report`.

    A flag is a suspicion, none of it is acted on: one value throughout; one value in more than half of the
    rows of a measurement; a filler, a value that comes again and again far from all others; a few negative
    values among positive ones; a value ten times the 99th percentile, or as far from all others; values on
    two scales, which an almost empty stretch parts and a known factor between units joins, or a clean gap; an
    age that nobody has.
    """
    rows = []
    for kind, events in cohort.events.items():
        if kind == "timepoint":
            continue
        table = pl.DataFrame({"code": events.code, "patient": events.patient, "value": events.value})
        value = pl.col("value").fill_nan(None).cast(pl.Float64)
        known = (
            table.group_by("code", maintain_order=False)
            .agg(
                rows=pl.len(),
                patients=pl.col("patient").n_unique(),
                missing=value.is_null().mean(),
                min=value.min(),
                q01=value.quantile(0.01, "linear"),
                median=value.median(),
                q99=value.quantile(0.99, "linear"),
                max=value.max(),
                values=value.drop_nulls().sort(),
            )
            .sort("code")
        )
        for row in known.iter_rows(named=True):
            code, values = row.pop("code"), np.asarray(row.pop("values"))
            name = cohort.codes[kind][code]
            unit = cohort.spec.unit(name)
            row |= {
                "unit": cohort.units[kind][code],
                "range": list(unit.range) if unit and unit.range else None,
            }
            rows.append({"kind": kind, "code": name, **row, "flags": _flags(values)})
    return rows


def statics(cohort: Cohort) -> list[dict[str, Any]]:
    """One row a static, of kind "patient", in the columns of `distributions` and with its flags.

    Its rows are the patients; of a category there are no figures. The range of an age that [units] does not
    give is 0 to 125 years.
    """
    rows = []
    none = dict.fromkeys(("min", "q01", "median", "q99", "max"))
    of = cohort.spec.patient
    for i, name in enumerate(of.number):
        column = np.asarray(cohort.number[:, i], np.float64)
        values, unit = np.sort(column[~np.isnan(column)]), cohort.spec.unit(name)
        figures = none
        if len(values):
            figures = dict(zip(none, np.quantile(values, (0, 0.01, 0.5, 0.99, 1)).tolist(), strict=True))
        row = {"missing": float(np.isnan(column).mean()), **figures}
        row |= {"unit": unit.to if unit else "", "range": list(unit.range) if unit and unit.range else None}
        flags = _flags(values, zeros=True)
        if _AGE.search(name) and row["range"] is None and _IN_YEARS.match(unit.to if unit else ""):
            row["range"] = list(AGES)
            flags += _impossible(values)
        rows.append({"code": name, **row, "flags": flags})
    for i, name in enumerate(of.category):
        level, names = np.asarray(cohort.category[:, i]), cohort.levels[name]
        given = level[level >= 0]
        flags = [
            f"filler? the level {word!r} in {n} of {len(level)} patients; leave a missing value empty"
            for word, n in zip(names, np.bincount(given, minlength=len(names)).tolist(), strict=True)
            if n and _WORDS.fullmatch(word)
        ]
        if len(given) >= MEASURED and given.min() == given.max():
            flags.append(f"constant: one level in all {len(given)} patients")
        row = {"missing": float((level < 0).mean()), **none, "unit": "", "range": None}
        rows.append({"code": name, **row, "flags": flags})
    size = {"rows": len(cohort), "patients": len(cohort)}
    return [{"kind": "patient", "code": row.pop("code"), **size, **row} for row in rows]


def _impossible(values: np.ndarray) -> list[str]:
    """Whether some of these are ages of nobody."""
    odd = int(((values < AGES[0]) | (values > AGES[1])).sum())
    if not odd:
        return []
    ends = f"from {values[0]:g} to {values[-1]:g}"
    return [
        f"impossible: {odd} of {len(values)} ages, {ends}, are not within {AGES[0]:g} to {AGES[1]:g} years"
    ]


def _flags(values: np.ndarray, zeros: bool = False) -> list[str]:
    """What looks wrong in the sorted values of one code; zeros: 0 may be in most rows, as of a score."""
    if not len(values):
        return []
    different, count = np.unique(values, return_counts=True)
    most = different[count.argmax()]
    flags = []
    if len(different) == 1:
        flags += [f"constant: {most:g} in all {len(values)} rows"] * (len(values) >= MEASURED)
    elif len(different) > MEASURED and count.max() > len(values) / 2 and not (zeros and most == 0):
        flags.append(f"one value: {most:g} in {count.max() / len(values):.0%} of the rows")
    filler = _fillers(different, count)
    if filler.any():
        rest = different[~filler]
        for value, n in zip(different[filler], count[filler], strict=True):
            flags.append(
                f"filler? {value:g} in {n} of {len(values)} values, the others are {rest[0]:g} to "
                f"{rest[-1]:g}; leave a missing value empty"
            )
        values = values[~np.isin(values, different[filler])]
        different, count = rest, count[~filler]
    negative = int((values < 0).sum())
    if 0 < negative <= max(1, len(values) / 20) and len(values) - negative >= 2:
        flags.append(
            f"negative: {negative} of {len(values)} values, the lowest {values[0]:g}; the rest is not"
        )
    top = float(np.quantile(values, 0.99))
    if (extreme := int((values > 10 * top).sum())) and top > 0:
        flags.append(
            f"extreme: {extreme} values over 10 times the 99th percentile, the highest {values[-1]:g}"
        )
    elif (few := _alone(different)) and count[-few:].sum() <= max(1, len(values) / 100):
        flags.append(
            f"extreme: {count[-few:].sum()} values up to {values[-1]:g}, the others end at "
            f"{different[-few - 1]:g}"
        )
    if len(different) > MEASURED and (scales := _two_scales(values)):
        flags.append(scales)
    elif len(different) >= 8 and (factor := _clean_gap(values)):
        flags.append(
            f"two scales: {factor[1]} of {len(values)} values are about {factor[0]:.3g} times the others, "
            "and none lies between"
        )
    return flags


def _is_filler(value: float) -> bool:
    """Whether a number is one that people and software write for nothing: -9, 99, 999.9, 8888, 1e20."""
    if value in (-1.0, -7.0, -8.0, -9.0) or np.isclose(abs(value), FILLERS, rtol=1e-5).any():
        return True
    digits = (f"{abs(value):.7g}" if abs(value) < 1e6 else f"{abs(value):.0f}").replace(".", "").lstrip("0")
    return len(digits) >= 2 and digits in tuple(len(digits) * d for d in "987")


def _fillers(different: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Which of the different values, sorted, stand for nothing, however many rows have them: (value,) bool.

    They come again, at most three of them at one end, with a gap to all others that is ten times as wide as
    the others' own range; of a number that is known as a filler five times as wide, or once where the others
    are many. Where nothing else is
    negative, such a number below 0 is one without a gap, and so is a 0 far from what is above it.
    """
    filler = np.zeros(len(different), bool)
    for end in (1, -1):
        order = np.arange(len(different))[::end]
        x, n = end * different[order], count[order]
        for few in range(1, 4):
            if len(x) - few < 2 or (n[-few:] < 2).any():
                break
            gap, span = x[-few] - x[-few - 1], x[-few - 1] - x[0]
            known = all(map(_is_filler, different[order[-few:]]))
            wide = (1 if len(x) - few >= 5 else 5) if known else 10
            if (known or len(x) - few >= MEASURED) and gap >= wide * span > 0:
                filler[order[-few:]] = True
                break
    below, above = np.flatnonzero(different < 0), different[different > 0]
    if 0 < len(below) <= 3 and len(above) >= MEASURED and (count[below] > 1).all():
        filler[below] |= all(map(_is_filler, different[below]))
    zero = np.flatnonzero(different == 0)
    if len(zero) and not len(below) and len(above) >= MEASURED and count[zero[0]] > 1:
        low, high = np.quantile(above, (0.25, 0.75))
        filler[zero] |= above[0] >= 3 * (high - low)
    return filler


def _alone(different: np.ndarray) -> int:
    """How many of the highest different values, three at most, lie ten times further off than the others'
    own range; 0 = none."""
    for few in range(1, 4):
        low, high = different[:-few], different[-few:]
        known = all(map(_is_filler, high))
        if len(low) >= (MEASURED if known else 20) and high[0] - low[-1] >= 10 * (low[-1] - low[0]):
            return few
    return 0


def _clean_gap(values: np.ndarray) -> tuple[float, int] | None:
    """The factor between the two halves of sorted values, and how many are in the upper one, where nothing
    lies between them.

    The gap between the logarithms is at least half as wide again as either side (twice, of fewer than 40
    values) and a factor of 2; either side has three different values, and 4 or 2 % of all.
    """
    x = np.log(values[values > 0])
    least = max(4, ceil(0.02 * len(x)))
    if len(x) < max(MEASURED, 2 * least):
        return None
    cut = int(np.diff(x)[least - 1 : len(x) - least].argmax()) + least
    low, high = x[:cut], x[cut:]
    gap, wide = high[0] - low[-1], max(low[-1] - low[0], high[-1] - high[0])
    if min(len(np.unique(low)), len(np.unique(high))) < 3 or gap < log(2):
        return None
    if gap < (1.5 if len(x) >= 40 else 2) * wide:
        return None
    return exp(float(np.median(high) - np.median(low))), len(high)


def _two_scales(values: np.ndarray, scales: Sequence[float | int] = SCALES) -> str | None:
    """Whether sorted values look like one measurement in two units.

    They are parted at the emptiest stretch of their logarithms that leaves 2 % and 10 values on either side,
    if it is four times as empty as either side's middle half. Then the quartiles of both sides have to agree
    after conversion, so that neither a long tail nor two sorts of patients pass for two units.
    """
    positive = values[values > 0]
    least = max(10, ceil(0.02 * len(positive)))
    if len(positive) < 2 * least + 1:
        return None
    x = np.log(positive)
    step = max(1, least // 4)  # a density from single neighbours would be all noise
    width = x[step:] - x[:-step]
    inner = slice(least - step, len(x) - least)  # so that the widest stretch leaves `least` on either side
    at = int(width[inner].argmax()) + inner.start
    cut = at + int(np.diff(x[at : at + step + 1]).argmax()) + 1
    low, high = (np.quantile(part, (0.25, 0.5, 0.75)) for part in (positive[:cut], positive[cut:]))
    for part, size in ((low, cut), (high, len(x) - cut)):
        if width[at] / step < 4 * (np.log(part[2] / part[0]) / (size / 2)):
            return None
    factor = min(scales, key=lambda f: abs(np.log(high[1] / low[1] / f)))
    ratio = np.abs(np.log(high / low / factor))
    if ratio[1] < log(1.2) and ratio.max() < log(1.35):
        return f"two scales: {len(x) - cut} of {len(values)} values are about {factor:g} times the others"
    celsius = (high - 32) / 1.8
    if scales is SCALES and (np.abs(celsius - low) < 0.05 * low).all():
        return f"two scales: {len(x) - cut} of {len(values)} values are Fahrenheit if the others are Celsius"
    return None


def durations(cohort: Cohort) -> list[str]:
    """What looks wrong in times after day 0: years among days, as 2 beside 730. Counted, each in words.

    Of the rows of a kind, and of the times of a survival outcome with and without an event: two scales, as
    `distributions` finds them in values; of an outcome also many at a whole number of years, in days, and
    many at that number itself.
    """
    flags = []
    for kind, events in cohort.events.items():
        days = np.sort(events.happened[events.happened > 0] / DAY)
        if kind != "timepoint" and (flag := _two_scales(days, TIMES)):
            flags.append(f"{kind}: times: {flag.replace('values', 'times')}")
    for name, truth in grouped(cohort).items():
        if not isinstance(truth, Survival):
            continue
        time = np.asarray(truth.time)
        for what, group in (("with an event", truth.event > 0), ("without an event", truth.event == 0)):
            here = group & (time != NEVER) & (time > 0)
            days = np.sort(time[here] / DAY)
            if flag := _two_scales(days, TIMES) or _years_beside_days(days):
                flags.append(f"outcome {name}: times {what}: {flag.replace('values', 'times')}")
    return flags


def _years_beside_days(days: np.ndarray) -> str | None:
    """Whether a number of years, in days, and the number itself both come again and again: 2 beside 730.

    Not one year, since a first day has a crowd of its own. Either is in 5 % and 3 of all, and the number of
    years is three times as frequent as the days around it.
    """
    whole, count = np.unique(days, return_counts=True)
    least = max(3, 0.05 * len(days))
    for year in whole[(count >= least) & (whole >= 2) & (whole <= 50)]:
        small = int(count[whole == year].sum())
        large = int(count[np.abs(whole - year * 365.25) <= max(1, year / 4 + 0.75)].sum())
        around = count[(np.abs(whole - year) <= 3) & (whole != year)].sum() / 6
        if year % 1 == 0 and large >= least and small > 3 * around:
            return f"{small} of {len(days)} are {year:g} and {large} are {year:g} years of days: two scales?"
    return None


# -- people --

LEAST_ROWS = 3  # of a record that may show two people to be one
BY_CHANCE = 0.05  # pairs of different people expected to share a record: from there on it says nothing


def duplicates(cohort: Cohort) -> dict[str, Any]:
    """Ids that are nearly equal, and people who are there more than once under different ids. Counts only.

    near_ids: ids that equal another but for case, blanks or leading zeros.
    groups, patients, pairs: of people whose whole record (known, code and value of every row, at least 3) is
    the same, or whose record, statics and outcomes all are; if it is so rare that fewer than .05 pairs of
    different people in a cohort of this size would share it. Two healthy people with two normal findings on
    day 0 are not one.
    ids: {"near": groups of ids, "people": groups of ids}. The only place with ids; whether to show them is up
    to the caller.
    """
    plain = (
        pl.Series(cohort.ids.astype(str))
        .str.replace_all(r"\s", "")
        .str.to_lowercase()
        .str.replace(r"^(\D*)0+(\d)", "$1$2")
    )
    near = _groups(pl.DataFrame({"key": plain}), np.ones(len(cohort), bool))
    record, rows, chance = _records(cohort)
    rest, also = _beside(cohort)
    pairs = len(cohort) ** 2 / 2
    same = _groups(record, (rows >= LEAST_ROWS) & (pairs * np.exp(chance) < BY_CHANCE))
    same += _groups(pl.concat([record, rest], how="horizontal"), pairs * np.exp(chance + also) < BY_CHANCE)
    people = _joined(same)
    return {
        "near_ids": sum(map(len, near)),
        "groups": len(people),
        "patients": sum(map(len, people)),
        "pairs": sum(len(group) * (len(group) - 1) // 2 for group in people),
        "ids": {"near": _named(cohort, near), "people": _named(cohort, people)},
    }


def _groups(keys: pl.DataFrame, eligible: np.ndarray) -> list[list[int]]:
    """Positions of eligible patients with equal keys, two or more."""
    table = keys.with_columns(position=pl.int_range(pl.len())).filter(pl.Series(eligible))
    equal = table.group_by(keys.columns).agg("position").filter(pl.col("position").list.len() > 1)
    return [sorted(group) for group in equal["position"].to_list()]


def _joined(groups: list[list[int]]) -> list[list[int]]:
    """Groups that share somebody are one."""
    home: dict[int, set[int]] = {}
    for group in groups:
        union = set(group).union(*(home.get(one, set()) for one in group))
        home |= dict.fromkeys(union, union)
    return sorted(sorted(group) for group in {id(group): group for group in home.values()}.values())


def _named(cohort: Cohort, groups: Iterable[list[int]]) -> list[list[str]]:
    return sorted(cohort.ids[group].astype(str).tolist() for group in groups)


def _records(cohort: Cohort) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Of each patient: two hashes of the whole record, its rows, log chance that another one has the same.

    The chance is a product of shares: for each moment, of other patients known to have a row at it; for each
    value that a code takes, of other patients with that code who have it too. A code that is there, and a
    value that comes again, count as sure, since codes go together and values stay.
    """
    parts = [
        pl.DataFrame(
            {"patient": e.patient, "known": e.known, "code": e.code, "bits": _bits(e.value)}
        ).with_columns(kind=pl.lit(i, pl.Int32))
        for i, (kind, e) in enumerate(cohort.events.items())
        if kind != "timepoint"
    ]
    blank = pl.DataFrame({"patient": [], "known": [], "code": [], "bits": [], "kind": []}).cast(pl.Int64)
    table = pl.concat(parts) if parts else blank
    row, code = pl.struct("kind", "known", "code", "bits"), ["kind", "code"]

    def others(*same: str) -> pl.Expr:
        return (pl.col("patient").n_unique().over(same) - 1).clip(1)

    moments = table.unique(["patient", "known"]).select(
        "patient", log=(others("known") / max(len(cohort) - 1, 1)).log()
    )
    values = table.unique(["patient", *code, "bits"]).select(
        "patient", log=(others(*code, "bits") / others(*code)).log()
    )
    chance = pl.concat([moments, values]).group_by("patient").agg(pl.col("log").sum())
    hashes = (
        table.with_columns(one=row.hash(1), two=row.hash(2))
        .group_by("patient")
        .agg(pl.col("one", "two").sum(), rows=pl.len())
    )
    patients = pl.DataFrame({"patient": np.arange(len(cohort))}).cast(table.schema["patient"])
    for part in (hashes, chance):
        patients = patients.join(part, on="patient", how="left", maintain_order="left")
    patients = patients.fill_null(0)
    return patients.select("one", "two"), patients["rows"].to_numpy(), patients["log"].to_numpy()


def _bits(value: np.ndarray) -> np.ndarray:
    """Floats as integers that are equal where they are, nan included: (row,) int32."""
    return np.where(np.isnan(value), np.float32(np.nan), value.astype(np.float32)).view(np.int32)


def _beside(cohort: Cohort) -> tuple[pl.DataFrame, np.ndarray]:
    """Statics, entry and outcomes of each patient as columns, and the log chance that another has them."""
    columns = {f"number {i}": _bits(cohort.number[:, i]) for i in range(cohort.number.shape[1])}
    given = [~np.isnan(cohort.number[:, i]) for i in range(cohort.number.shape[1])]
    columns |= {f"category {i}": cohort.category[:, i] for i in range(cohort.category.shape[1])}
    given += [cohort.category[:, i] >= 0 for i in range(cohort.category.shape[1])]
    columns["entry"] = cohort.entry
    given.append(np.ones(len(cohort), bool))
    for name, truth in grouped(cohort).items():
        if isinstance(truth, Survival):
            columns |= {f"time {name}": truth.time, f"event {name}": truth.event}
            given += [truth.time != NEVER] * 2
    chance = np.zeros(len(cohort))
    for column, there in zip(columns.values(), given, strict=True):
        _, level, count = np.unique(column, return_inverse=True, return_counts=True)
        share = np.maximum(count[level] - 1, 1) / max(len(cohort) - 1, 1)
        chance += np.where(there, np.log(share), 0)
    return pl.DataFrame({name: np.ascontiguousarray(column) for name, column in columns.items()}), chance


# -- size --

SHRINKAGE, OPTIMISM, MARGIN = 0.9, 0.05, 0.05  # the three criteria of Riley et al.
EXPLAINED = 0.15  # of the R2 that could be had at most, where nothing better is known


def sample_size(cohort: Cohort) -> list[dict[str, Any]]:
    """Is the cohort large enough for a new model? One row a survival outcome and cause, or a diagnosis.

    patients at risk at entry, of a diagnosis those whose label is known; events, or those who have it;
    parameters: statics and codes, one each, so at the least; events_per_parameter; follow_up: its mean in
    days; criteria: patients that each of the three asks for (Riley et al. 2019, Stat Med 38:1276-1296), with
    an R2 of .15 of the highest possible, as they advise where no earlier model says better; needed: the
    largest; enough; sentence. Other causes count as censored. None where there is no event, and of follow_up
    where a label is at stake. No row of a diagnosis with more classes, or one asked at moments of its own.

    The criteria are meant for regression without penalty; a model that shrinks or pools needs less, one that
    looks for interactions more.
    """
    parameters = cohort.number.shape[1] + cohort.category.shape[1]
    for kind, e in cohort.events.items():
        parameters += 0 if kind == "timepoint" else len(np.unique(e.code))
    rows = []
    for name, truth in grouped(cohort).items():
        who, group, groups = _at_risk(cohort, truth)
        if isinstance(truth, Diagnosis) and len(groups) > 2:
            continue
        follow_up = None
        if isinstance(truth, Survival) and len(who):
            follow_up = float((truth.time[who] - cohort.entry[who]).mean() / DAY)
        for k, cause in enumerate(groups[1:], start=1):
            events, patients = int((group == k).sum()), len(who)
            row: dict[str, Any] = {
                "outcome": name,
                "cause": cause,
                "patients": patients,
                "events": events,
                "parameters": parameters,
                "events_per_parameter": events / parameters if parameters else None,
                "follow_up": follow_up,
                "criteria": None,
                "needed": None,
                "enough": False,
                "sentence": f"{name}, {cause}: no events, so nothing can be learned of it.",
            }
            if isinstance(truth, Diagnosis) and events == patients > 0:
                row["sentence"] = f"{name}, {cause}: all have it, so nothing can be learned of it."
            elif events:
                needs = riley if isinstance(truth, Survival) else riley_binary
                asked = needs(events / patients, parameters)
                needed = max(asked.values())
                row |= {"criteria": asked, "needed": needed, "enough": patients >= needed}
                row["sentence"] = (
                    f"{name}, {cause}: {patients} patients with {events} events for {parameters} candidate "
                    f"parameters are {'enough' if row['enough'] else 'too few'} for a new model; "
                    f"at least {needed} patients are advised (Riley 2019)."
                )
            rows.append(row)
    return rows


def riley(events: float, parameters: int, r2: float | None = None) -> dict[str, int]:
    """Patients that a new time-to-event model needs by each criterion of Riley et al. 2019.

    events: expected per patient over the mean follow-up (rate times time, so it may exceed 1). r2: Cox-Snell,
    default .15 of its maximum, which follows from the null log-likelihood a patient, events (log events - 1).

    shrinkage  of the effects by 10 % at most
    optimism   apparent and adjusted Nagelkerke's R2 differ by .05 at most
    margin     the overall risk at the mean follow-up is known to +- .05 (95 %, exponential)

    >>> riley(0.065 * 2.07, 25, 0.051)     # recurrent thrombosis, in their section 6
    {'shrinkage': 4286, 'optimism': 866, 'margin': 168}
    """
    margin = ceil(events * (1.96 / log1p(MARGIN * exp(events))) ** 2)
    return _overfit(events * (log(events) - 1), parameters, r2) | {"margin": margin}


def riley_binary(share: float, parameters: int, r2: float | None = None) -> dict[str, int]:
    """The same of a label that is yes or no; share: of those who have it, above 0 and below 1.

    The null log-likelihood a patient is share log share + (1 - share) log (1 - share); `margin`: the overall
    share is known to +- .05.

    >>> riley_binary(0.174, 24, 0.288)
    {'shrinkage': 623, 'optimism': 662, 'margin': 221}
    """
    null = share * log(share) + (1 - share) * log1p(-share)
    return _overfit(null, parameters, r2) | {"margin": ceil((1.96 / MARGIN) ** 2 * share * (1 - share))}


def _overfit(null: float, parameters: int, r2: float | None) -> dict[str, int]:
    """The first two criteria, from the null log-likelihood a patient."""
    highest = 1 - exp(2 * null)
    r2 = EXPLAINED * highest if r2 is None else r2

    def patients(shrinkage: float) -> int:
        return ceil(parameters / ((shrinkage - 1) * log1p(-r2 / shrinkage)))

    return {"shrinkage": patients(SHRINKAGE), "optimism": patients(r2 / (r2 + OPTIMISM * highest))}


def grouped(cohort: Cohort) -> dict[str, Survival | Diagnosis]:
    """The outcomes that part the patients at entry in groups: survival, and a diagnosis but for a task."""
    truths: Mapping[str, object] = cohort.outcomes
    return {name: truth for name, truth in truths.items() if isinstance(truth, Survival | Diagnosis)}


def _at_risk(cohort: Cohort, truth: Survival | Diagnosis) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Who is at risk at entry with a known outcome: positions, the group of each, and their names."""
    asks = cohort.entries()
    if isinstance(truth, Survival):
        who = asks.patient[(truth.time[asks.patient] != NEVER) & truth.at_risk(asks.patient, asks.at)]
        return who, truth.event[who], ("event_free", *truth.causes)
    label = truth.truth(asks.patient, asks.at)["label"]
    free = (label >= 0) & truth.open(asks.patient, asks.at)
    return asks.patient[free], label[free], truth.classes


# -- Table 1 --

SCORE = 5  # different values of a code, up to which they are shown as levels


def table1(cohort: Cohort, outcome: str, *, codes: int = 40) -> pd.DataFrame:
    """Table 1 of those at risk at entry: a column for everybody, the event-free and each cause, by tableone.

    Of a diagnosis: of those who have a label and do not know it at entry, a column a class.

    Rows are the statics and what was known at entry: numbers as median [quartiles], categories, codes with
    at most 5 different values and codes without values as n (%); of the codes, those `codes` that most people
    have. Missing counts the patients without it; a cell is empty where a group has no value at all.
    The groups are what came of them by the end of follow-up, so no test is made: who was followed longer had
    more time for an event. With a horizon a diagnosis has the label that an ask at entry has.
    """
    try:
        maker = importlib.import_module("tableone").TableOne
    except ModuleNotFoundError:
        raise InputError("Table 1 needs the package tableone; pip install 'gnnpatient[report]'") from None
    (name,) = cohort.outcome_names(outcome)
    if name not in (truths := grouped(cohort)):
        raise InputError(
            f"outcome {name!r} is no survival and no label of a patient; Table 1 needs one of them"
        )
    who, group, groups = _at_risk(cohort, truths[name])
    if not len(who):
        raise InputError(f"outcome {name!r}: nobody is at risk at entry, so there is no Table 1")
    frame, categories = _at_entry(cohort, cohort.entries(who), codes)
    if not (columns := frame.columns):
        raise InputError(
            f"cohort {cohort.spec.cohort!r}: nothing is known of anybody at entry, so no Table 1"
        )
    title = f"outcome: {name}"
    frame = frame.with_columns(pl.Series(title, np.array(groups)[group]))
    with warnings.catch_warnings():
        # tableone 0.9.6 sets a row in a way that pandas 3 deprecates, and averages groups without values
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        made = maker(
            frame.to_pandas(),
            columns=columns,
            categorical=categories,
            continuous=[column for column in columns if column not in categories],
            nonnormal=[column for column in columns if column not in categories],
            groupby=title,
            order={title: [group for group in groups if group in set(frame[title])]},
            include_null=False,
            pval=False,
        )
    return made.tableone.replace("nan [nan,nan]", "")


def _at_entry(cohort: Cohort, asks: Landmarks, codes: int) -> tuple[pl.DataFrame, list[str]]:
    """What is known at the asks, one column a static and code that anybody has, and which are categories."""
    seen = asks.to_frame()
    statics = cohort.spec.patient
    table = {column: seen[column] for column in (*statics.number, *statics.category)}
    categories = list(statics.category)
    found: list[tuple[int, str, pl.Series, bool]] = []
    for kind, e in cohort.events.items():
        if kind == "timepoint":
            continue
        pairs = np.unique(np.stack([e.code, _bits(e.value)])[:, ~np.isnan(e.value)], axis=1)
        different = np.bincount(pairs[0], minlength=len(cohort.codes[kind]))  # values of each code
        for c, code in enumerate(cohort.codes[kind]):
            if f"{kind}.{code}.n" not in seen.columns:
                continue
            value, has, unit = seen[f"{kind}.{code}"], seen[f"{kind}.{code}.n"] > 0, cohort.units[kind][c]
            label = f"{kind}.{code}" + (f" ({unit})" if unit else "")
            if not different[c]:
                value = has.replace_strict({True: "yes", False: "no"})
            elif different[c] <= SCORE:
                levels = value.drop_nulls().unique().to_list() or [0.0]
                value = value.replace_strict(
                    levels, [f"{v:g}" for v in levels], default=None, return_dtype=pl.String
                )
            found.append((int(has.sum()), label, value, bool(different[c] <= SCORE)))
    most = sorted(range(len(found)), key=lambda i: -found[i][0])[:codes]
    for i in sorted(most):
        _, label, column, category = found[i]
        table[label] = column
        categories += [label] * category
    kept = {label: column for label, column in table.items() if column.null_count() < len(column)}
    return pl.DataFrame(kept), [label for label in categories if label in kept]
