"""What a cohort holds before anyone models it: its values, and what looks wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, exp, log
from typing import Any

import numpy as np
import polars as pl

from gnnpatient.cohort.cohort import Cohort
from gnnpatient.cohort.diagnosis import Diagnosis
from gnnpatient.cohort.survival import Survival
from gnnpatient.times import DAY, NEVER

MIN_MEASURED = 10  # more different values than that, and it is a measurement rather than a score
SCALES = (10, 18, 38.67, 88.4, 100, 1000)
"""Between units that are mixed up: dilutions and prefixes, mmol of glucose, mmol of cholesterol, umol of
creatinine, all to mg/dL. Fahrenheit and Celsius are looked for as well."""
TIMES = (24, 30.44, 60, 365.25, 1440, 3600, 8766, 86400)
"""Between units of time that are mixed up: hours, months, minutes and years to days, and to one another."""
FIGURES = ("min", "q01", "median", "q99", "max")  # of a distribution
AGES = (0.0, 125.0)  # nobody is older
_AGE = re.compile(r"(?i)(^|[^a-z])(age|alter|leeftijd|edad|eta|alder)([^a-z]|$)")
_IN_YEARS = re.compile(r"(?i)^(|y|yr|yrs|a|years?)$")
_WORDS = re.compile(r"-9{1,6}|9{3,7}")  # fillers among words
FILLERS = np.array([9.96921e36, 3.4028235e38, 1e15, 1e20, 1e30, 2**31 - 1, 2**31, 2**32 - 1, 2**15, 65535])
"""What software writes where it has nothing: netCDF, the ends of the types. Runs of 9, 8 or 7 are others."""


@dataclass(frozen=True)
class ColumnSummary:
    """The values of one code, or of one baseline covariate.

    Attributes
    ----------
    kind : str
        Node type; "patient" for a baseline covariate.
    code : str
        Code, or name of the covariate.
    rows, patients : int
        How many there are.
    missing : float
        Share of the rows without a value.
    min, q01, median, q99, max : float or None
        Of the values; None where there is none, or it is a category.
    unit : str
        "" where the spec names none.
    range : [low, high] or None
        What the spec's [units] says is possible.
    flags : list of str
        What looks wrong, a sentence each.
    """

    kind: str
    code: str
    rows: int
    patients: int
    missing: float
    min: float | None
    q01: float | None
    median: float | None
    q99: float | None
    max: float | None
    unit: str
    range: list[float] | None
    flags: list[str]

    def to_dict(self) -> dict[str, Any]:
        """One entry of `distributions` in `check --json`.

        Returns
        -------
        dict
            Every attribute by its name.
        """
        return asdict(self)


def distributions(cohort: Cohort) -> list[ColumnSummary]:
    """The values of each code that has rows, in the order of the spec.

    Rows that the reader refused are not here but in `cohort.report`. A flag is a suspicion, none of it is
    acted on: one value throughout; one value in more than half of the rows of a measurement; a filler, a
    value that comes again and again far from all others; a few negative values among positive ones; a value
    ten times the 99th percentile, or as far from all others; values on two scales, which an almost empty
    stretch parts and a known factor between units joins, or a clean gap; an age that nobody has.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    list of ColumnSummary

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> distributions(pbc())[0].code
    'bili'
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
            rows.append(ColumnSummary(kind, name, **row, flags=_flags(values)))
    return rows


def statics(cohort: Cohort) -> list[ColumnSummary]:
    """The values of each baseline covariate, of kind "patient", with the flags of `distributions`.

    Its rows are the patients; a category has no figures. The range of an age that [units] does not give is 0
    to 125 years.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    list of ColumnSummary

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> [one.code for one in statics(pbc())]
    ['age', 'sex', 'trt']
    """
    numbers = [_number(cohort, i, name) for i, name in enumerate(cohort.spec.patient.number)]
    return numbers + [_category(cohort, i, name) for i, name in enumerate(cohort.spec.patient.category)]


def _number(cohort: Cohort, i: int, name: str) -> ColumnSummary:
    """A number of the patients."""
    column = np.asarray(cohort.number[:, i], np.float64)
    values, unit = np.sort(column[~np.isnan(column)]), cohort.spec.unit(name)
    figures: dict[str, float | None] = dict.fromkeys(FIGURES)
    if len(values):
        figures = dict(zip(FIGURES, np.quantile(values, (0, 0.01, 0.5, 0.99, 1)).tolist(), strict=True))
    possible = list(unit.range) if unit and unit.range else None
    flags = _flags(values, zeros=True)
    if _AGE.search(name) and possible is None and _IN_YEARS.match(unit.to if unit else ""):
        possible = list(AGES)
        flags += _impossible(values)
    missing, count = float(np.isnan(column).mean()), len(cohort)
    unit_name = unit.to if unit else ""
    return ColumnSummary(
        "patient", name, count, count, missing, **figures, unit=unit_name, range=possible, flags=flags
    )


def _category(cohort: Cohort, i: int, name: str) -> ColumnSummary:
    """A category of the patients."""
    level, names = np.asarray(cohort.category[:, i]), cohort.levels[name]
    known_levels = level[level >= 0]
    flags = [
        f"filler? the level {word!r} in {n} of {len(level)} patients; leave a missing value empty"
        for word, n in zip(names, np.bincount(known_levels, minlength=len(names)).tolist(), strict=True)
        if n and _WORDS.fullmatch(word)
    ]
    if len(known_levels) >= MIN_MEASURED and known_levels.min() == known_levels.max():
        flags.append(f"constant: one level in all {len(known_levels)} patients")
    missing, count = float((level < 0).mean()), len(cohort)
    nothing: dict[str, None] = dict.fromkeys(FIGURES)
    return ColumnSummary("patient", name, count, count, missing, **nothing, unit="", range=None, flags=flags)


def _impossible(values: np.ndarray) -> list[str]:
    """Whether some of these are ages that nobody has."""
    wrong = int(((values < AGES[0]) | (values > AGES[1])).sum())
    if not wrong:
        return []
    ends = f"from {values[0]:g} to {values[-1]:g}"
    return [
        f"impossible: {wrong} of {len(values)} ages, {ends}, are not within {AGES[0]:g} to {AGES[1]:g} years"
    ]


def _flags(values: np.ndarray, zeros: bool = False) -> list[str]:
    """What looks wrong in the sorted values of one code; zeros: 0 may be in most rows, as of a score."""
    if not len(values):
        return []
    different, count = np.unique(values, return_counts=True)
    most = different[count.argmax()]
    flags = []
    if len(different) == 1:
        flags += [f"constant: {most:g} in all {len(values)} rows"] * (len(values) >= MIN_MEASURED)
    elif len(different) > MIN_MEASURED and count.max() > len(values) / 2 and not (zeros and most == 0):
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
    centred = (values < 0).mean() > 0.1  # a standardised value has no unit, and near 0 no scale
    if len(different) > MIN_MEASURED and not centred and (scales := _two_scales(values)):
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
    are many. Where nothing else is negative, such a number below 0 is one without a gap, and so is a 0 far
    from what is above it.
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
            if (known or len(x) - few >= MIN_MEASURED) and gap >= wide * span > 0:
                filler[order[-few:]] = True
                break
    below, above = np.flatnonzero(different < 0), different[different > 0]
    if 0 < len(below) <= 3 and len(above) >= MIN_MEASURED and (count[below] > 1).all():
        filler[below] |= all(map(_is_filler, different[below]))
    zero = np.flatnonzero(different == 0)
    if len(zero) and not len(below) and len(above) >= MIN_MEASURED and count[zero[0]] > 1:
        low, high = np.quantile(above, (0.25, 0.75))
        filler[zero] |= above[0] >= 3 * (high - low)
    return filler


def _alone(different: np.ndarray) -> int:
    """How many of the highest different values, three at most, lie ten times further off than the others'
    own range; 0 = none."""
    for few in range(1, 4):
        low, high = different[:-few], different[-few:]
        known = all(map(_is_filler, high))
        if len(low) >= (MIN_MEASURED if known else 20) and high[0] - low[-1] >= 10 * (low[-1] - low[0]):
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
    if len(x) < max(MIN_MEASURED, 2 * least):
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
    """What looks wrong in times after day 0: years among days, as 2 beside 730.

    Of the rows of a node type, and of the times of a survival outcome with and without an event: two scales,
    as `distributions` finds them in values; of an outcome also many at a whole number of years, in days, and
    many at that number itself.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    list of str
        A sentence each, with counts.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> durations(pbc())
    []
    """
    flags = []
    for kind, events in cohort.events.items():
        days = np.sort(events.happened[events.happened > 0] / DAY)
        if kind != "timepoint" and (flag := _two_scales(days, TIMES)):
            flags.append(f"{kind}: times: {flag.replace('values', 'times')}")
    for name, outcome in grouped_outcomes(cohort).items():
        if not outcome.has_curve:
            continue
        truth = cohort.survival(name)
        time = np.asarray(truth.time)
        for what, group in (("with an event", truth.event > 0), ("without an event", truth.event == 0)):
            here = group & (time != NEVER) & (time > 0)
            days = np.sort(time[here] / DAY)
            if flag := _two_scales(days, TIMES) or _years_beside_days(days):
                flags.append(f"outcome {name}: times {what}: {flag.replace('values', 'times')}")
    return flags


def followup(cohort: Cohort) -> list[dict[str, Any]]:
    """How long patients are followed from entry on, which shows a wrong unit of times.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    list of dict
        Of each survival outcome: its name, and the days to the event or the end of observation, their median
        and the longest.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> [(row["outcome"], round(row["median"]), round(row["longest"])) for row in followup(pbc())]
    [('death', 2300, 5225)]
    """
    found = []
    for name, outcome in grouped_outcomes(cohort).items():
        if not outcome.has_curve:
            continue
        truth = cohort.survival(name)
        time = np.asarray(truth.time)
        days = (time - np.asarray(cohort.entry))[
            (time != NEVER) & cohort.enters & (time > cohort.entry)
        ] / DAY
        if len(days):
            found.append({"outcome": name, "median": float(np.median(days)), "longest": float(days.max())})
    return found


def _years_beside_days(days: np.ndarray) -> str | None:
    """Whether a number of years, in days, and the number itself both come again and again: 2 beside 730.

    Not one year, since a first day has a crowd of its own. Either is in 5 % and 3 of all, and the number of
    years is three times as frequent as the days around it.
    """
    values, count = np.unique(days, return_counts=True)
    least = max(3, 0.05 * len(days))
    for year in values[(count >= least) & (values >= 2) & (values <= 50)]:
        small = int(count[values == year].sum())
        large = int(count[np.abs(values - year * 365.25) <= max(1, year / 4 + 0.75)].sum())
        around = count[(np.abs(values - year) <= 3) & (values != year)].sum() / 6
        if year % 1 == 0 and large >= least and small > 3 * around:
            return f"{small} of {len(days)} are {year:g} and {large} are {year:g} years of days: two scales?"
    return None


def grouped_outcomes(cohort: Cohort) -> dict[str, Survival | Diagnosis]:
    """The outcomes that part the patients at entry in groups: survival, and a diagnosis but for a task.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    dict of str to Survival or Diagnosis
        By the name of the outcome.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> list(grouped_outcomes(pbc()))
    ['death']
    """
    outcomes: Mapping[str, Any] = cohort.outcomes
    return {name: outcome for name, outcome in outcomes.items() if outcome.has_patient_groups}
