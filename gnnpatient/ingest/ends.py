"""When observation ends, and which dates cannot be: open ends, dates far from everything, gaps (METHODS 28).

All arrays are (patient,) int64 seconds after each patient's origin; NEVER or FOREVER = there is none.
"""

from __future__ import annotations

import time as clock
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from gnnpatient.cohort.outcomes import Spells
from gnnpatient.errors import InputError
from gnnpatient.ingest.events import Rows
from gnnpatient.ingest.patients import BEYOND, Patients, entered, given_in_days, patient_table
from gnnpatient.ingest.source import PEOPLE, SourceTables
from gnnpatient.readers.dates import end_of_day, is_midnight
from gnnpatient.spec.tables import Moment, PickSpec
from gnnpatient.times import DAY, FOREVER, NEVER, YEAR

DECADES = round(20 * YEAR * DAY)
"""A date so far from all others is none. Only dates are judged so; among offsets the gap must be twice it."""

WASHOUT = 30 * DAY
"""A diagnosis within so long after a gap was there before it: nobody is asked until then."""

_PLACEHOLDERS = (
    "01-01",
    "07-01",
    "12-31",
)  # the days that stand for a birth of which the year alone is known


def given(times: np.ndarray) -> np.ndarray:
    """Which times there are: (patient,) bool."""
    return (times != NEVER) & (times != FOREVER)


@dataclass(frozen=True, eq=False)
class Ordinary:
    """What the bulk of a cohort's dates says: where it ends, and where each patient's own dates do."""

    origin: np.ndarray  # what leads to the axis that all share: seconds since 1970, or 0 without a calendar
    calendar: bool
    first: np.ndarray  # the patient's own first and last date that is not far from the others
    last: np.ndarray
    end: int  # the data's last day, on the shared axis
    shifted: bool  # most of the dates lie after today, as where a table was moved to 2100 and later
    born: np.ndarray  # the earliest that the birth can have been, NEVER = not known

    @property
    def gap(self) -> int:
        return DECADES if self.calendar else 2 * DECADES

    def far(self, times: np.ndarray) -> np.ndarray:
        """Which times lie decades after every other date of the patient and of the cohort: (patient,) bool.

        Times of this sort count as others; those beyond must be few, or all on one day, or a lifetime away.
        """
        there = given(times)
        at = np.where(there, times, 0)
        axis = at + self.origin
        late = there & (at > self.last + self.gap) & (axis > self.end + self.gap)
        if not late.any():
            return late
        top = int(axis[there & ~late].max(initial=self.end))
        beyond = np.sort(axis[late])
        alone = np.flatnonzero(np.diff(beyond, prepend=top) > self.gap)
        late &= axis >= (beyond[alone[0]] if len(alone) else FOREVER)
        few, one = 2 * late.sum() <= there.sum(), late.sum() > 1 and np.ptp(axis[late]) < 2 * DAY
        lifetime = axis[late].min(initial=FOREVER) > self.end + 3 * DECADES
        return late & (few or one or lifetime)

    def open(self, ends: np.ndarray) -> np.ndarray:
        """Which ends are fillers for "still open": (patient,) bool; those after today, too, where few are."""
        late = self.far(ends)
        if self.calendar and not self.shifted:
            there = given(ends)
            ahead = there & ~late & (np.where(there, ends, 0) + self.origin > _today())
            late |= ahead & (2 * ahead.sum() <= there.sum())
        return late

    def astray(self, times: np.ndarray) -> np.ndarray:
        """Which times lie decades before or after all other dates: (patient,) bool. Day 0 does not."""
        return self.open(np.where(times == 0, NEVER, times)) | (
            given(times) & (times < self.first - self.gap)
        )

    def impossible(self, times: np.ndarray, *, old: bool = True) -> np.ndarray:
        """Which events cannot be: (patient,) bool. `old`: those decades before all of a patient are none."""
        there = given(times)
        at = np.where(there, times, 0)
        wrong = self.far(times)
        wrong |= (self.born != NEVER) & (at < self.born)
        if self.calendar:
            wrong |= old & (at < self.first - DECADES)
            wrong |= (not self.shifted) & (at + self.origin > _today())
        return there & wrong

    def filler(self, times: np.ndarray) -> np.ndarray:
        """Which times decades ahead mean "has not happened": in 9999, or on a day that several have."""
        late = self.far(times)
        _, place, people = np.unique(
            (times[late] + self.origin[late]) // DAY, return_inverse=True, return_counts=True
        )
        late[late] = (people[place] > 1) | (times[late] >= BEYOND)
        return late

    def reach(self, ends: np.ndarray) -> np.ndarray:
        """Ends of a cut after the origin, none after the data's last day.

        Only where the data fill the window of anybody: without that they do not say how far they reach.
        """
        beyond = ends + self.origin > self.end
        if not self.calendar or not beyond.any() or not (self.last >= ends)[~beyond].any():
            return ends
        return np.where(beyond, np.maximum(self.end - self.origin, 0), ends)


def _today() -> int:
    """Seconds since 1970; a day later, as clocks differ."""
    return int(clock.time()) + DAY


def far_rows(
    rows: Mapping[str, Rows], origin: np.ndarray, born: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Which rows of each kind, and whose day 0, are of no time of the patient's, as 1900-01-01 is.

    They lie more than 20 years from day 0 and from the bulk of the patient's rows, and several patients have
    the same day, or it is one or two days and no birth says that they can be. A history of years is none.
    """
    none = {kind: np.zeros(len(of.patient), bool) for kind, of in rows.items()}
    some = np.zeros(len(origin), bool)
    for of in rows.values():
        some[of.patient[np.abs(of.happened) > DECADES]] = True
    lost = np.zeros(len(origin), bool)
    if not some.any():
        return none, lost
    mine = {kind: np.flatnonzero(some[of.patient]) for kind, of in rows.items()}
    who, when = np.flatnonzero(some), np.zeros(some.sum(), np.int64)
    patient = np.concatenate([who, *(rows[kind].patient[at] for kind, at in mine.items())])
    when = np.concatenate([when, *(rows[kind].happened[at] for kind, at in mine.items())])
    frame = pl.DataFrame({"patient": patient, "when": when, "day": (when + origin[patient]) // DAY})
    frame = frame.with_row_index("row").with_columns(
        zero=pl.col("row") < len(who), known=born[patient] != NEVER
    )
    frame = frame.sort("patient", "when").with_columns(
        part=((pl.col("when").diff() > DECADES) | (pl.col("patient").diff() != 0)).fill_null(True).cum_sum()
    )
    parts = frame.group_by("patient", "part").agg(
        pl.col("day").n_unique().alias("days"), pl.col("zero").any()
    )
    home = parts.sort("patient", "days", "zero").group_by("patient", maintain_order=True).last()["part"]
    parts = parts.filter(~pl.col("part").is_in(home.implode()))
    away = frame.join(parts.select("part", "days", pl.col("zero").alias("start")), on="part")
    same = away.group_by("day").agg(pl.col("patient").n_unique().alias("people"), pl.len().alias("rows"))
    filler = same.filter((pl.col("people") > 1) & (5 * pl.col("rows") >= len(away)))["day"]
    few = (pl.col("days") <= 2) & ~pl.col("known") & ~pl.col("start")
    found = np.zeros(len(frame), bool)
    found[away.filter(pl.col("day").is_in(filler.implode()) | few)["row"].to_numpy()] = True
    start = len(who)
    lost[who[found[:start]]] = True
    for kind, at in mine.items():
        none[kind][at] = found[start : start + len(at)]
        start += len(at)
    many = 2 * sum(of.sum() for of in none.values()) > sum(map(len, none.values()))
    # what most rows are is not far from the others
    return {kind: of & ~many for kind, of in none.items()}, lost


def far_zeros(low: np.ndarray, high: np.ndarray, same: np.ndarray, born: np.ndarray) -> np.ndarray:
    """Whose day 0 is no time of theirs: (patient,) bool.

    It lies decades further from all their dates, first to last (low, high), than anybody's dates lie from a
    day 0 that is nearer; or several have the `same` far one. Few are so, and a birth that is day 0 never is.
    """
    there = np.flatnonzero(low <= high)
    near = np.maximum(low[there], -high[there])  # below 0 where it lies amid them
    reach = np.maximum(np.abs(low[there]), np.abs(high[there]))
    order = np.argsort(near, kind="stable")
    nearer = np.maximum.accumulate(reach[order])[:-1]
    parted = 1 + np.flatnonzero(near[order][1:] > nearer + DECADES)
    parted = parted[2 * (len(there) - parted) <= len(there)]
    far = same & bool(2 * (near > DECADES).sum() <= len(there) or 2 * same.sum() > len(there))
    if len(parted):
        far[there[order[parted[0] :]]] = True
    return far & ~((born <= 0) & (born > -367 * DAY))


def ordinary(
    source: SourceTables, patients: Patients, rows: Mapping[str, Rows], times: Iterable[np.ndarray]
) -> Ordinary:
    """The bulk of the dates: rows, day 0, and other times, each (patient,). Rows far from it are flagged."""
    count, calendar = len(patients), patients.origin is not None
    origin = np.zeros(count, np.int64) if patients.origin is None else patients.origin
    first, last = np.zeros(count, np.int64), np.zeros(count, np.int64)
    born = _born(source, patients)
    lone, lost = far_rows(rows if calendar else {}, origin, born)
    low, high = np.full(count, FOREVER), np.full(count, NEVER)  # of the patient's own dates
    ahead = total = 0
    for kind, of in rows.items():
        near = ~lone.setdefault(kind, np.zeros(len(of.patient), bool))
        np.minimum.at(first, of.patient[near], of.happened[near])
        np.maximum.at(last, of.patient[near], of.happened[near])
        np.minimum.at(low, of.patient[near], of.happened[near])
        np.maximum.at(high, of.patient[near], of.happened[near])
        if calendar:
            ahead += int((of.happened + origin[of.patient] > _today()).sum())
            total += len(of.happened)
    ahead, total = ahead + int((origin > _today()).sum()), total + count
    held = Ordinary(origin, calendar, first, last, 0, 2 * ahead > total, born)
    held = replace(held, end=int((last + origin).max(initial=0)))
    for more in times:
        more = np.where(held.impossible(more, old=False), NEVER, more)
        there = given(more)
        np.maximum.at(last, np.flatnonzero(there), more[there])
        low, high = np.where(there, np.minimum(low, more), low), np.where(there, np.maximum(high, more), high)
    lost = far_zeros(low, high, lost, born) if calendar else lost
    for these, what in (
        (lost, "lies decades from all their rows, a filler?"),
        (born > 0, "lies before the birth"),
    ):
        if these.any():
            source.doubt(f"origin: day 0 of {int(these.sum())} patient(s) {what}", decides=True)
    held = replace(held, end=int((last + origin).max(initial=0)))
    _tell(source, rows, held, lone)
    return held


def _born(source: SourceTables, patients: Patients) -> np.ndarray:
    """The earliest that each birth can have been; a year before it where the date looks like a year alone."""
    never = np.full(len(patients), NEVER)
    if source.door is None or patient_table(source) != PEOPLE or patients.origin is None:
        return never
    if "birth" not in source.schemas[PEOPLE]:
        return never
    view = source.view(PEOPLE, ["birth"])
    who, day = view.who(patients.ids), view.column("birth").dt.to_string("%m-%d").fill_null("")
    at = view.column("birth").dt.epoch("s").fill_null(NEVER).to_numpy()
    vague = (day.is_in(_PLACEHOLDERS) | day.str.ends_with("-15")).to_numpy()
    mine = (who >= 0) & (at != NEVER)
    never[who[mine]] = (at - np.where(vague, 366 * DAY, DAY))[mine] - patients.origin[who[mine]]
    return never


def _tell(
    source: SourceTables, rows: Mapping[str, Rows], of: Ordinary, lone: Mapping[str, np.ndarray]
) -> None:
    """Flag rows that cannot be, or hardly: before the birth, decades away, after today, never known."""
    for kind, held in rows.items():
        axis, unborn = held.happened + of.origin[held.patient], of.born[held.patient]
        early = (unborn != NEVER) & (held.happened < unborn)
        _flag(source, kind, held, early, "lie before the birth")
        away = lone[kind] & ~early
        _, day = np.unique(axis[away] // DAY, return_counts=True)
        same = int(day.max(initial=0))
        more = f"; {same} of them on one day, a filler?" if same > 1 else ""
        what = "lie more than 20 years from day 0 and from the other rows of the patient"
        _flag(source, kind, held, away, what, more)
        ahead = ~away & (axis > _today())
        if of.calendar and not of.shifted and 2 * ahead.sum() <= len(ahead):
            _flag(source, kind, held, ahead, "lie after today")
        late = (held.known + of.origin[held.patient] > of.end + of.gap) & ~lone[kind]
        late &= held.known > of.last[held.patient] + of.gap
        _flag(source, kind, held, late, "become known decades after all other dates: never seen")


def _flag(source: SourceTables, kind: str, rows: Rows, these: np.ndarray, what: str, more: str = "") -> None:
    if these.any():
        patients = len(np.unique(rows.patient[these]))
        source.doubt(f"{kind}: {int(these.sum())} row(s) of {patients} patient(s) {what}{more}")


def open_intervals(source: SourceTables, rows: Mapping[str, Rows], of: Ordinary) -> dict[str, Rows]:
    """The rows, those whose interval ends decades after everything with an end that is not known."""
    out = dict(rows)
    for kind, held in rows.items():
        if held.until is None:
            continue
        there = held.until != FOREVER
        at = np.where(there, held.until, 0)
        late = (
            there & (at > of.last[held.patient] + of.gap) & (at + of.origin[held.patient] > of.end + of.gap)
        )
        if late.any():
            source.doubt(
                f"{kind}: {int(late.sum())} end(s) lie decades after all other dates; taken as not known"
            )
            out[kind] = replace(held, until=np.where(late, FOREVER, held.until))
    return out


def closed(
    source: SourceTables, of: Ordinary, ends: np.ndarray, what: str, *, own: bool = False
) -> np.ndarray:
    """Ends of observation, of which those that are still open lie where the data end: counted, flagged.

    That is the latest day of anything else; without a calendar, or where the end is a row (`own`), each
    patient's own last row.
    """
    late = of.open(ends)
    if not late.any():
        return ends
    others = given(ends) & ~late
    day = max(of.end, int((ends + of.origin)[others].max(initial=of.end)))
    own |= not of.calendar
    stop = of.last if own else np.maximum(day - of.origin, 0)
    where = "the patient's last row" if own else "the last day of the data"
    source.doubt(
        f"{what}: {int(late.sum())} of {int(given(ends).sum())} end(s) lie decades after all other dates or "
        f"after today, so they are not known; observed to {where} instead",
        decides=True,
    )
    return np.where(late, stop, ends)


def is_last_row(source: SourceTables, what: Moment | None) -> bool:
    """Whether an end of observation is the patient's last row; `last` is that of a format."""
    return (source.door is not None and what == "last") or (
        isinstance(what, PickSpec) and what.pick == "last"
    )


def read_entry(
    source: SourceTables, of: Ordinary, patients: Patients, rows: Mapping[str, Rows]
) -> tuple[np.ndarray, np.ndarray]:
    """When each patient enters, FOREVER = never, and the end of that day where it is a bare date.

    On a bare date a patient is there from the first second on. A time decades before or after all other dates
    is none: a column then says nothing, so day 0; of events the next one counts, and whoever has none never
    enters, as who enters because of what comes later would be chosen by the future (METHODS 5).
    """
    what, table = source.spec.patient.entry, patient_table(source)
    assert what is not None

    def read(since: np.ndarray | None = None) -> list[np.ndarray]:
        return [entered(source, what, table, patients, rows, end=end, since=since) for end in (False, True)]

    begin, end = read()
    wrong = of.astray(begin)
    told = f"entry: {int(wrong.sum())} lie decades from all other dates; taken as not given"
    if not isinstance(what, PickSpec):
        if wrong.any():
            source.doubt(f"{told}, so day 0", decides=True)
        if given_in_days(what):  # after a bare date: the end of that day
            end = begin + patients.first_day
        entry = np.where(wrong | (begin == NEVER), 0, begin)
        return entry, np.where(begin == NEVER, patients.first_day, np.where(wrong, 0, end))
    if wrong.any():
        source.doubt(f"{told}, the next such event counts", decides=True)
        begin, end = read(np.where(wrong, of.first - of.gap, NEVER))
    enters = given(begin) & ~of.astray(begin)
    if not enters.any():
        raise InputError(f"entry: no patient has an event that fits {', '.join(what.code)}")
    if not enters.all():
        source.steps.append(["with the entry event", int(enters.sum())])
    return np.where(enters, begin, FOREVER), np.where(enters, end, FOREVER)


# Gaps


@dataclass(frozen=True, eq=False)
class Periods:
    """Stretches in which somebody is observed, joined where they touch; sorted by patient and begin."""

    patient: np.ndarray  # (period,) int64
    begin: np.ndarray  # (period,) int64 seconds after the origin
    end: np.ndarray  # (period,) int64 seconds

    def first_end(self, entry: np.ndarray) -> np.ndarray:
        """The end of the first period that ends after each patient's entry, FOREVER = none is known."""
        end, last = np.full(len(entry), FOREVER), np.full(len(entry), NEVER)
        later = self.end > entry[self.patient]
        np.minimum.at(end, self.patient[later], self.end[later])
        np.maximum.at(last, self.patient, self.end)
        return np.where((end == FOREVER) & (last != NEVER), last, end)


def read_periods(source: SourceTables, patients: Patients) -> Periods | None:
    """The periods of observation that a format names; None = it names none."""
    table = None if source.door is None else source.door.periods
    if table is None or patients.origin is None:
        return None
    index = pl.DataFrame(
        {"id": patients.ids, "patient": np.arange(len(patients)), "origin": patients.origin},
        schema_overrides={"id": pl.String},
    )
    end = pl.col("end")
    held = (
        table.drop_nulls()
        .join(index, on="id")
        .select(
            "patient",
            (pl.col("start").dt.epoch("s") - pl.col("origin")).alias("begin"),
            (end_of_day(end, is_midnight(end)).dt.epoch("s") - pl.col("origin")).alias("end"),
        )
        .filter(pl.col("begin") <= pl.col("end"))
        .sort("patient", "begin", "end")
        # a new stretch begins where all before have ended a day ago or longer
        .with_columns(pl.col("end").cum_max().shift(1).over("patient").alias("before"))
        .with_columns((pl.col("begin") > pl.col("before") + DAY).fill_null(True).cum_sum().alias("stretch"))
        .group_by("stretch")
        .agg(pl.col("patient").first(), pl.col("begin").min(), pl.col("end").max())
        .sort("stretch")
    )
    if not len(held):
        return None
    periods = Periods(*(held[name].to_numpy().astype(np.int64) for name in ("patient", "begin", "end")))
    people, count = np.unique(periods.patient, return_counts=True)
    if n := int((count > 1).sum()):
        source.doubt(
            f"observation_period: {n} of {len(people)} person(s) have a gap between two periods; nobody is "
            "at risk in a gap, and what happens there is not counted",
            decides=True,
        )
    if lost := len(patients) - len(people):
        source.doubt(f"observation_period: {lost} person(s) have no period; their periods are not known")
    return periods


def spells(
    periods: Periods,
    entry: np.ndarray,
    time: np.ndarray,
    begun: np.ndarray,
    event: np.ndarray,
    last: np.ndarray,
    until: np.ndarray,
    washout: bool,
) -> Spells:
    """Each period as a stretch with an end of its own.

    time, begun, event, until: of the first event of each patient; last: the other ends of observation. Nobody
    is at risk again who had an event before; of a diagnosis (washout) nobody in the first days after a gap.
    """
    alone = np.setdiff1d(np.arange(len(entry)), periods.patient)  # of these nothing is known: one period
    who = np.concatenate([periods.patient, alone])
    begin = np.concatenate([periods.begin, np.full(len(alone), NEVER)])
    end = np.concatenate([periods.end, np.full(len(alone), FOREVER)])
    order = np.lexsort((begin, who))
    who, begin = who[order], begin[order]
    end = np.minimum(end[order], last[who])
    again = np.zeros(len(who), bool)
    again[1:] = (np.diff(who) == 0) & (end[:-1] > entry[who[:-1]])
    begin = np.where(again & washout, begin + WASHOUT, begin)
    had = event[who] > 0
    inside = had & (begun[who] <= end) & (time[who] > begin)
    stop = np.where(inside, np.minimum(time[who], end), end)
    keep = (stop > np.maximum(begin, entry[who])) & ~(had & (time[who] <= begin))
    return Spells(
        patient=who[keep],
        begin=begin[keep],
        until=np.where(inside, np.minimum(until[who], stop), stop)[keep],
        time=stop[keep],
        event=np.where(inside, event[who], 0)[keep].astype(np.int8),
    )


def first_spell(
    spells: Spells, entry: np.ndarray, time: np.ndarray, event: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time, event and `until` of each patient's first stretch; who has none is not observed after entry."""
    had = (event > 0) & (time <= entry)  # prevalent
    stop = np.where(had, time, np.minimum(last, entry))
    event, until = np.where(had, event, 0).astype(np.int8), stop.copy()
    who, row = np.unique(spells.patient, return_index=True)
    stop[who], event[who], until[who] = spells.time[row], spells.event[row], spells.until[row]
    return stop, event, until
