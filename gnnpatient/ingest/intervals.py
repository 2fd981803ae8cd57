"""Start-stop rows (counting process): from when to when each patient is observed, and what ended it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.ingest.moments import BEYOND, is_far_ahead
from gnnpatient.ingest.outcome_words import event_flags, state_codes
from gnnpatient.ingest.periods import Periods
from gnnpatient.ingest.record import CauseTimes, Draft, Intervals, Record
from gnnpatient.ingest.source import SourceTables, TableView
from gnnpatient.spec.outcomes import SurvivalSpec
from gnnpatient.times import FOREVER, NEVER


@dataclass(frozen=True, eq=False)
class _Events:
    """Which rows end with an event, by one column, and which of them counts."""

    column: str
    cause: np.ndarray  # (row,) int8: the k-th cause of the outcome, 0 = none
    pick: str | None
    causes: tuple[int, ...]  # that the column can say


def read_intervals(record: Record, name: str, outcome: SurvivalSpec) -> Intervals:
    """The start-stop rows of an outcome.

    Patients with rows that overlap, or that stop before they start, are left out and counted.

    Parameters
    ----------
    record : Record
        All that has been read of the patients.
    name : str
        The outcome.
    outcome : SurvivalSpec
        Its spec, with start and stop.

    Returns
    -------
    Intervals

    Raises
    ------
    InputError
        When a cell is empty or cannot be read, most patients have rows that overlap, or rows before the last
        one end with an event and the spec does not say which counts.
    """
    source, patients = record.source, record.patients
    assert outcome.stretches is not None
    table, *columns = outcome.stretches
    assert table is not None
    flags = [part.flag for _, part in outcome.parts if part.start is not None and part.flag is not None]
    words = [outcome.status.column] if outcome.status is not None else flags
    view = source.view(table, [*columns, *words])
    owner = view.patient_index(patients.ids)
    view = view.filter(pl.Series(owner >= 0))
    owner = owner[owner >= 0]
    if not source.holds_nodes(table):
        view.audit.used[view.row] = True
    (start, start_end), (stop, stop_end) = (_times(record, view, name, column, owner) for column in columns)
    events = _events(view, name, outcome)
    order = np.lexsort((stop, start, owner))
    columns_of_rows = (owner, start, stop, *(one.cause for one in events))
    order = order[_first_of_repeats(*(column[order] for column in columns_of_rows))]
    rows = _Rows(name, view, order, owner[order], start[order], stop[order], stop_end[order], len(patients))
    wrong = rows.wrong(columns)
    passing = [1 + outcome.cause_names.index(name) for name in outcome.passing]
    parts = [part for one in events for part in rows.event_times(one, ~wrong, passing)]
    first, last = rows.ends
    at_first = order[first]
    there = np.zeros(len(patients), bool)
    there[rows.owner[first]] = True
    there &= ~wrong

    def of_patients(values: np.ndarray, of: np.ndarray) -> np.ndarray:
        out = np.full(len(patients), FOREVER)
        out[rows.owner[of]] = values
        return np.where(there, out, FOREVER)

    return Intervals(
        parts=parts,
        entry=of_patients(start[at_first], first),
        entry_end=of_patients(start_end[at_first], first),
        last=of_patients(rows.stop_end[last], last),
        there=there,
        periods=rows.periods(there),
    )


def _times(
    record: Record, view: TableView, name: str, column: str, owner: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A column of times: (row,) first and last second of each."""
    when = view.moment(column, record.patients.day_zero(owner))
    late = is_far_ahead(view, column, when.bad, owner, record.patients)
    bad = when.bad & ~late
    if bad.any():
        row = bad.arg_true()[0]
        raise InputError(
            f"{view.table}: column {column!r}, line {view.line(row)}: not a time{view.time_hint(column, row)}"
        )
    if (empty := when.at.is_null() & ~late).any():
        raise InputError(
            f"{view.table}: outcome {name!r}, line {view.line(empty.arg_true()[0])}: {column!r} is empty; "
            "a row needs both start and stop"
        )
    begin, end = (each.set(late, BEYOND).to_numpy() for each in (when.at, when.end))
    return begin, end


def _events(view: TableView, name: str, outcome: SurvivalSpec) -> list[_Events]:
    """Which cause each row ends with, by each column that says so."""
    names = outcome.cause_names
    if (status := outcome.status) is not None:
        state = state_codes(view, name, outcome)
        _refuse_empty(view, name, status.column, state)
        return [_Events(status.column, state.astype(np.int8), status.pick, tuple(range(1, 1 + len(names))))]
    found = []
    for cause, part in outcome.parts:
        if part.start is None or part.flag is None:
            continue
        flag, k = event_flags(view, name, cause, part.flag), 1 + names.index(cause)
        _refuse_empty(view, name, part.flag, flag)
        found.append(_Events(part.flag, np.where(flag == 1, k, 0).astype(np.int8), part.pick, (k,)))
    return found


def _refuse_empty(view: TableView, name: str, column: str, code: np.ndarray) -> None:
    if (code < 0).any():
        line = view.line(int((code < 0).argmax()))
        raise InputError(
            f"{view.table}: outcome {name!r}, line {line}: {column!r} is empty; missing is not censored"
        )


def _first_of_repeats(*columns: np.ndarray) -> np.ndarray:
    """Which sorted rows differ from the one before: (row,) bool."""
    new = np.zeros(len(columns[0]), bool)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return new


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows, sorted by patient and start."""

    name: str  # of the outcome
    view: TableView
    order: np.ndarray  # (row,) int64: the row of the view
    owner: np.ndarray  # (row,) int64
    start: np.ndarray  # (row,) int64 seconds, of a bare date the first
    stop: np.ndarray  # (row,) int64 seconds, of a bare date the first
    stop_end: np.ndarray  # (row,) int64 seconds, of a bare date the last
    patients: int

    @property
    def _follows(self) -> np.ndarray:
        """Whether the row before is of the same patient: (row,) bool."""
        return np.diff(self.owner, prepend=-1) == 0

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """The first and the last row of each patient who has any."""
        first = np.flatnonzero(~self._follows)
        return first, np.append(first[1:], len(self.owner)) - 1 if len(first) else first

    def wrong(self, columns: Sequence[str]) -> np.ndarray:
        """Who has rows that overlap or do not stop after they start, counted and flagged: (patient,) bool."""
        start, stop = columns
        source, wrong = self.view.source, np.zeros(self.patients, bool)
        many = len(np.unique(self.owner))
        before = np.roll(self.stop, 1)
        for rows, what, way in (
            # from a bare date to the same one is a day: who comes and dies on it is observed
            (self.stop_end <= self.start, f"rows with {stop} at or before {start}", "correct them"),
            (self._follows & (self.start < before), "rows that overlap", self._way_out(stop)),
        ):
            people = np.unique(self.owner[rows])
            people = people[~wrong[people]]
            if not len(people):
                continue
            wrong[people] = True
            line = self.view.line(int(self.order[rows].min()))
            where = (
                f"outcome {self.name!r}: {len(people)} of {many} patient(s) have {what}, as in line {line} of"
            )
            if 2 * wrong.sum() > many:
                raise InputError(f"{where} {self.view.table}; {way}")
            source.flag(f"{where} {self.view.table}; left out of this outcome", decides=True)
            step = [f"{what}, left out", len(people)]
            source.outcome_steps.setdefault(self.name, []).append(step)
        return wrong

    def _way_out(self, stop: str) -> str:
        return (
            "a patient's rows follow one another; if each row is of one of several events, write "
            f'causes = {{ NAME = {{ time = "{stop}", where = {{ ... }} }} }} and exit = {{ table = '
            f'"{self.view.table}", column = "{stop}", pick = "last" }}'
        )

    def event_times(
        self, events: _Events, right: np.ndarray, passing: Sequence[int] = ()
    ) -> list[CauseTimes]:
        """The event of each patient, by the column's causes; of those that do not end it every one."""
        (_, last), count, cause = self.ends, self.patients, events.cause[self.order]
        found = []
        for k in set(passing) & set(events.causes):
            of = np.flatnonzero((cause == k) & right[self.owner])
            never, end = np.full(count, NEVER), self.stop_end[of]
            every = np.stack([self.owner[of], end, self.stop[of], end], 1)
            open_end, nobody = np.full(count, FOREVER), np.zeros(count, bool)
            found.append(CauseTimes(k, never, never, open_end, nobody, every=every))
            cause = np.where(cause == k, 0, cause)
        is_last = np.zeros(len(self.owner), bool)
        is_last[last] = True
        earlier = (cause > 0) & ~is_last & right[self.owner]
        if earlier.any():
            self._check_earlier(events, cause, earlier, is_last)
        counts = is_last if events.pick != "first" else _first_where(self.owner, cause > 0)
        rows = np.flatnonzero(counts & (cause > 0) & right[self.owner])
        for k in events.causes:
            if k in passing:
                continue
            of = rows[cause[rows] == k]
            time, begun = np.full(count, NEVER), np.full(count, NEVER)
            time[self.owner[of]], begun[self.owner[of]] = self.stop_end[of], self.stop[of]
            found.append(CauseTimes(k, time, begun, np.full(count, FOREVER), np.zeros(count, bool)))
        return found

    def _check_earlier(
        self, events: _Events, cause: np.ndarray, earlier: np.ndarray, is_last: np.ndarray
    ) -> None:
        """Refuse events in rows before the last one, or flag what becomes of them where the spec says it."""
        source, column = self.view.source, events.column
        low, high = np.full(self.patients, 127), np.full(self.patients, -1)
        np.minimum.at(low, self.owner, cause)
        np.maximum.at(high, self.owner, cause)
        several = np.unique(self.owner[~is_last])
        repeated = bool((low[several] == high[several]).all())
        people = len(np.unique(self.owner[earlier]))
        place, line = f"outcome {self.name!r}", self.view.line(int(self.order[earlier].min()))
        if events.pick is None and repeated:
            raise InputError(
                f"{self.view.table}: {place}: {column!r} is the same in every row of a patient, and {people} "
                f'patient(s) have the event in all; if it is repeated, write pick = "last" (at the last '
                'row); if each row ends with an event of its own, pick = "first"'
            )
        if events.pick is None:
            raise InputError(
                f"{self.view.table}: {place}, line {line}: {people} patient(s) go on after a row with "
                f'{column!r}; if events recur, pick = "first" counts the first and recurrent = true all of '
                'them; pick = "last" takes what the last row says'
            )
        if events.pick == "last" and not repeated:
            source.flag(
                f"{place}: {people} patient(s) have events by {column!r} before their last row; pick = "
                '"last" does not count them (pick = "first" counts the first)',
                decides=True,
            )
        if events.pick == "first":
            what = f"recurrent events: {people} patient(s) go on after their first one; only the first counts"
            if repeated:
                what = (
                    f"{column!r} is the same in every row of a patient; if it is repeated, pick = "
                    '"first" puts the event at the end of the first row: write pick = "last"'
                )
            source.flag(f"{place}: {what}", decides=repeated)

    def periods(self, right: np.ndarray) -> Periods:
        """The rows as periods of observation, joined where one starts as the other stops."""
        keep = right[self.owner]
        owner, start, stop, end = (of[keep] for of in (self.owner, self.start, self.stop, self.stop_end))
        # from one bare date to the next day there is no gap: the first ends with its last second
        reach = np.roll(np.where(end > stop, end + 1, end), 1)
        touches = (np.diff(owner, prepend=-1) == 0) & (start <= reach)
        first = np.flatnonzero(~touches)
        last = np.append(first[1:], len(owner)) - 1 if len(first) else first
        return Periods(owner[first], start[first], end[last])


def _first_where(owner: np.ndarray, these: np.ndarray) -> np.ndarray:
    """The first of these rows in each patient: (row,) bool."""
    rows = np.flatnonzero(these)
    first = np.zeros(len(owner), bool)
    first[rows[np.unique(owner[rows], return_index=True)[1]]] = True
    return first


def flag_gaps(source: SourceTables, name: str, intervals: Intervals) -> None:
    """Flag gaps between the rows of a patient.

    Parameters
    ----------
    source : SourceTables
        For the flag.
    name : str
        The outcome.
    intervals : Intervals
        Its rows.
    """
    people, count = np.unique(intervals.periods.patient, return_counts=True)
    if n := int((count > 1).sum()):
        source.flag(
            f"outcome {name!r}: {n} of {len(people)} patient(s) have a gap between two rows; nobody is at "
            "risk in a gap, and what happens there is not counted",
            decides=True,
        )


def first_starts(
    source: SourceTables, drafts: Mapping[str, Draft], first_day: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """When each patient enters where [patient] does not say it: at the first start, not before day 0.

    Before that nobody is at risk (delayed entry, left truncation); who enters later is counted and flagged.

    Parameters
    ----------
    source : SourceTables
        For the steps and flags.
    drafts : mapping of str to Draft
        The events of each survival outcome; of several with start-stop rows the earliest start counts.
    first_day : numpy.ndarray
        (patient,) int64 seconds: the end of day 0 where it is a bare date.

    Returns
    -------
    entry : numpy.ndarray
        (patient,) int64 seconds after the origin.
    first_day : numpy.ndarray
        (patient,) the end of that day where the start is a bare date, else `entry`.
    """
    entry, end = np.full(len(first_day), FOREVER), np.full(len(first_day), FOREVER)
    for name, draft in drafts.items():
        rows = draft.intervals
        if rows is None:
            continue
        earlier = rows.entry < entry
        entry, end = np.where(earlier, rows.entry, entry), np.where(earlier, rows.entry_end, end)
        late = rows.there & (rows.entry > 0)
        if n := int(late.sum()):
            source.flag(
                f"outcome {name!r}: {n} of {int(rows.there.sum())} patient(s) start after day 0 (delayed "
                "entry); they enter with their first row and are not at risk before it",
                decides=True,
            )
            step = ["start after day 0, at risk from their first row", n]
            source.outcome_steps.setdefault(name, []).append(step)
    late = (entry != FOREVER) & (entry > 0)
    return np.where(late, entry, 0), np.where(late, end, first_day)
