"""What has been read of the patients when their outcomes are read, and how a kind of outcome takes part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnnpatient.cohort.outcomes import Outcome
from gnnpatient.cohort.survival import Survival
from gnnpatient.errors import InputError
from gnnpatient.ingest.dates import UsualDates
from gnnpatient.ingest.patients import Patients
from gnnpatient.ingest.periods import Periods
from gnnpatient.ingest.rows import Rows
from gnnpatient.ingest.source import SourceTables, TableView
from gnnpatient.spec.outcomes import SurvivalSpec
from gnnpatient.times import FOREVER, NEVER


@dataclass(frozen=True, eq=False)
class Record:
    """All that has been read of the patients.

    Attributes
    ----------
    source : SourceTables
        The tables of the cohort.
    patients : Patients
        Who they are.
    rows : mapping of str to Rows
        The rows of each node type, before any code is hidden.
    """

    source: SourceTables
    patients: Patients
    rows: Mapping[str, Rows]

    def last_row(self, missing: int = 0) -> np.ndarray:
        """When the last row of each patient happened.

        Parameters
        ----------
        missing : int, default 0
            The value for a patient without a row; by default day 0.

        Returns
        -------
        numpy.ndarray
            (patient,) int64 seconds after the origin.
        """
        last = np.full(len(self.patients), missing)
        for rows in self.rows.values():
            np.maximum.at(last, rows.patient, rows.happened)
        return last

    def view(self, table: str, columns: list[str], *, use: bool = False) -> tuple[TableView, np.ndarray]:
        """Some columns of a table, and the patient of each row.

        Parameters
        ----------
        table : str
            Name of the table.
        columns : list of str
            The columns.
        use : bool, default False
            Mark the rows as used where the table holds no nodes.

        Returns
        -------
        view : TableView
            The rows.
        owner : numpy.ndarray
            (row,) int64, -1 = nobody's.
        """
        view = self.source.view(table, columns)
        owner = view.patient_index(self.patients.ids)
        if use and not self.source.holds_nodes(table):
            view.audit.use_first_rows(view.row, owner)
        return view, owner


@dataclass(frozen=True, eq=False)
class FollowUp(Record):
    """All that has been read of the patients, and when each is observed.

    Attributes
    ----------
    dates : UsualDates
        The bulk of the dates.
    entry : numpy.ndarray
        When observation begins, FOREVER = never.
    exit : numpy.ndarray or None
        When it ends by [patient], NEVER = not given; None = the spec does not say.
    exit_cuts : bool
        That end is a duration, which cuts and never prolongs.
    periods : Periods or None
        Periods of observation with gaps between them.
    """

    dates: UsualDates
    entry: np.ndarray  # (patient,) int64 seconds
    exit: np.ndarray | None  # (patient,) int64 seconds
    exit_cuts: bool
    periods: Periods | None

    @property
    def observed_until(self) -> np.ndarray | None:
        """When the observation of each patient ends, FOREVER = never, (patient,) int64; None: not said.

        The exit of [patient], and the end of the first period of observation after entry.
        """
        if self.exit is None and self.periods is None:
            return None
        end = np.full(len(self.patients), NEVER) if self.exit is None else self.exit
        end = np.where(end == NEVER, FOREVER, end)
        return end if self.periods is None else np.minimum(end, self.periods.first_end(self.entry))

    def at_risk_until(self, event: np.ndarray, time: np.ndarray, begun: np.ndarray) -> np.ndarray:
        """Until when each patient is at risk.

        An event on a bare date can have been at any moment of it, so nobody is at risk after a row of that
        day: an autopsy of the morning would give the death away. At the moment of the row itself
        they are.

        Parameters
        ----------
        event : numpy.ndarray
            (patient,) which event it is, 0 = none.
        time, begun : numpy.ndarray
            (patient,) int64 seconds: its time, and the first second at which it can have been.

        Returns
        -------
        numpy.ndarray
            (patient,) int64 seconds.
        """
        until, bare = time.copy(), (event > 0) & (begun < time)
        if bare.any():
            for rows in self.rows.values():
                owner = rows.patient
                that_day = bare[owner] & (rows.known >= begun[owner]) & (rows.known < time[owner])
                np.minimum.at(until, owner[that_day], rows.known[that_day] + 1)
        return until


@dataclass(frozen=True, eq=False)
class CauseTimes:
    """When one cause of a survival outcome happened, by one part of the spec.

    Attributes
    ----------
    cause : int
        Position among the causes, from 1 on.
    time : numpy.ndarray
        When it happened, NEVER or FOREVER = it did not.
    begun : numpy.ndarray
        The first second at which that can have been; earlier than `time` on a bare date.
    censored : numpy.ndarray
        When observation for it ended, FOREVER = the part does not say.
    undated : numpy.ndarray
        In whom it happened without a time.
    from_rows : bool
        It was read from the rows of a node type.
    every : ndarray or None
        Each time that it happened, where there may be several: patient, time, the first second at which that
        can have been, and when it was known. None: `time` alone.
    """

    cause: int
    time: np.ndarray  # (patient,) int64 seconds
    begun: np.ndarray  # (patient,) int64 seconds
    censored: np.ndarray  # (patient,) int64 seconds
    undated: np.ndarray  # (patient,) bool
    from_rows: bool = False
    every: np.ndarray | None = None  # (event, 4) int64


@dataclass(frozen=True, eq=False)
class Intervals:
    """The start-stop rows of an outcome, sorted by patient and start, exact repeats once.

    Attributes
    ----------
    parts : list of CauseTimes
        The event of each patient, by cause.
    entry, entry_end : numpy.ndarray
        When the first row of each patient starts, FOREVER = none; of a bare date its first and last second.
    last : numpy.ndarray
        The end of the last row, FOREVER = none.
    there : numpy.ndarray
        Who has rows that can be used.
    periods : Periods
        The rows, joined where one starts as the other stops.
    """

    parts: list[CauseTimes]
    entry: np.ndarray  # (patient,) int64 seconds
    entry_end: np.ndarray  # (patient,) int64 seconds
    last: np.ndarray  # (patient,) int64 seconds
    there: np.ndarray  # (patient,) bool
    periods: Periods

    @property
    def has_gaps(self) -> bool:
        """Whether somebody has a gap between two rows."""
        return len(np.unique(self.periods.patient)) < len(self.periods.patient)


RefuseIf = Callable[[np.ndarray, str], None]
"""Refuses the outcome where something is wrong with a patient: (patient,) bool, and what."""


@dataclass(frozen=True, eq=False)
class Draft:
    """The events of a survival outcome as the tables say them, before it is known when observation ends.

    Attributes
    ----------
    name : str
        The outcome.
    spec : SurvivalSpec
        Its spec.
    present : numpy.ndarray
        Who is in the table of the outcome, where it has one.
    refuse_if : callable
        Refuses the outcome, by line where it has a table.
    parts : list of CauseTimes
        In the order of the spec.
    censored : numpy.ndarray
        When each patient was lost to follow-up, FOREVER = the tables do not say.
    undated : numpy.ndarray
        In whom it happened at an unknown time.
    intervals : Intervals or None
        The start-stop rows that it is read from; None = there are none.
    passing : ndarray or None
        Of causes that do not end it each time that one happened, sorted: patient, time and position among
        the causes, then the first second at which that can have been, and when it was known; `spec` and
        `parts` are then of what ends it. None = every cause does.
    """

    name: str
    spec: SurvivalSpec
    present: np.ndarray  # (patient,) bool
    refuse_if: RefuseIf
    parts: list[CauseTimes]
    censored: np.ndarray  # (patient,) int64 seconds
    undated: np.ndarray  # (patient,) bool
    intervals: Intervals | None = None
    passing: np.ndarray | None = None  # (event, 5) int64

    @property
    def first(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Event (0 = none), its time and its first second; of two at one moment the first that is named."""
        count = len(self.present)
        event, time, begun = np.zeros(count, np.int8), np.full(count, FOREVER), np.full(count, FOREVER)
        for part in self.parts:
            first = (part.time != NEVER) & (part.time < time)
            event, time = np.where(first, part.cause, event).astype(np.int8), np.where(first, part.time, time)
            begun = np.where(first, part.begun, begun)
        return event, time, begun


Codes = list[tuple[str, tuple[str, ...]]]
"""Node types, and patterns of their codes."""

EndedBy = Mapping[str, tuple[SurvivalSpec, Survival]]
"""The survival outcomes, whose events may end others."""


def _no_draft(record: Record, name: str, spec: Any) -> Draft | None:
    return None


def _unchanged(
    follow_up: FollowUp, name: str, spec: Any, label: Any, survival: EndedBy, lost: np.ndarray
) -> Any:
    return label


def _no_codes(spec: Any) -> Codes:
    return []


def _no_patterns(spec: Any) -> tuple[str, ...]:
    return ()


def _no_patterns_of(spec: Any, kind: str) -> tuple[str, ...]:
    return ()


def _no_deaths(name: str, spec: Any, label: Any) -> tuple[np.ndarray, np.ndarray] | None:
    return None


@dataclass(frozen=True, kw_only=True)
class LabelReader:
    """How the labels of one kind of outcome are read. A step that a kind does not need keeps its default.

    Attributes
    ----------
    read : callable
        (follow-up, name, spec, draft) -> outcome; None = it is made from the packed rows.
    draft : callable
        (record, name, spec) -> draft, of a kind whose events may end others.
    end : callable
        (follow-up, name, spec, outcome, survival outcomes, lost) -> the outcome, ended by events of others;
        lost: (patient,) int64 seconds at which each patient was lost to follow-up, FOREVER = not known.
    codes : callable
        spec -> the codes that the labels are read from.
    hide : callable
        spec -> the patterns of codes that the spec hides by name.
    revealing : callable
        (spec, node type) -> all patterns of codes of that node type that give the label away.
    followed : callable
        spec -> the codes that it goes on to follow, which must not be hidden.
    deaths : callable
        (name, spec, outcome) -> who dies, (patient,) bool, and when, (patient,) int64 seconds; None = the
        outcome is no death.
    """

    read: Callable[[FollowUp, str, Any, Any], Outcome | None]
    draft: Callable[[Record, str, Any], Draft | None] = _no_draft
    end: Callable[[FollowUp, str, Any, Any, EndedBy, np.ndarray], Outcome] = _unchanged
    codes: Callable[[Any], Codes] = _no_codes
    hide: Callable[[Any], tuple[str, ...]] = _no_patterns
    revealing: Callable[[Any, str], tuple[str, ...]] = _no_patterns_of
    followed: Callable[[Any], Codes] = _no_codes
    deaths: Callable[[str, Any, Any], tuple[np.ndarray, np.ndarray] | None] = _no_deaths


def refusal(
    name: str,
    view: TableView | None = None,
    owner: np.ndarray | None = None,
    present: np.ndarray | None = None,
) -> RefuseIf:
    """A function that refuses an outcome where something is wrong with a patient.

    Parameters
    ----------
    name : str
        The outcome.
    view : TableView, optional
        Rows of its table, so that the message names a line.
    owner : numpy.ndarray, optional
        (row,) int64 patient of each row.
    present : numpy.ndarray, optional
        (patient,) bool: of others nothing is wrong.

    Returns
    -------
    callable
        Takes (patient,) bool and what is wrong; raises InputError where it is.
    """

    def refuse_if(wrong: np.ndarray, what: str) -> None:
        wrong = wrong if present is None else wrong & present
        if not wrong.any():
            return
        if view is None or owner is None:
            raise InputError(f"outcome {name!r}: {int(wrong.sum())} patient(s): {what}")
        line = view.line(int(np.flatnonzero(owner == wrong.argmax())[0]))
        raise InputError(f"{view.table}: outcome {name!r}, line {line}: {what}")

    return refuse_if
