"""One time a patient, as the spec describes it: a column, a duration, or the first or last of some events."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.ingest.columns import one_each, take
from gnnpatient.ingest.patients import Patients
from gnnpatient.ingest.picks import DURATION, first_or_last, picked_rows, picked_time
from gnnpatient.ingest.rows import Rows
from gnnpatient.ingest.source import SourceTables, TableView
from gnnpatient.spec.tables import Moment, PickSpec
from gnnpatient.times import DAY, FOREVER, NEVER, YEAR, seconds

_ROWS_THAT_CHANGE = (
    "if each row is a stretch of time, name start and stop in the cause or status; if each is an event or a "
    "visit, choose rows: { time, where } in a cause, { table, column, pick } in [patient] and as exit"
)
BEYOND = round(400 * YEAR * DAY)
"""Seconds after the origin: what stands for "never" or "still open"."""


def moment_of(
    source: SourceTables,
    what: Moment,
    table: str | None,
    patients: Patients,
    rows: Mapping[str, Rows],
    *,
    end: bool = True,
    beyond: bool = False,
) -> np.ndarray:
    """One time a patient.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    what : str or PickSpec
        A column of `table`, a duration after the origin, or the first or last of some events.
    table : str or None
        Where the column is.
    patients : Patients
        Whose times they are.
    rows : mapping of str to Rows
        The rows of each node type.
    end : bool, default True
        A bare date counts from its last second; False: from its first.
    beyond : bool, default False
        A year far ahead, as in 9999-12-31, is a time: BEYOND. Else it is refused as any slip.

    Returns
    -------
    numpy.ndarray
        (patient,) int64 seconds after the origin, NEVER = not given.

    Raises
    ------
    InputError
        When it is a column of no table, or a cell is not a time.
    """
    if isinstance(what, PickSpec):
        if what.table is not None:
            return _row_time(source, what, patients, end=end, beyond=beyond)
        if what.node is None:
            assert patients.origin is not None
            at = picked_time(source, what, patients.ids, end=end)
            return np.where(at == NEVER, NEVER, at - patients.origin)
        of = rows[what.node]
        return first_event(of, of.fitting(what.code), len(patients), last=what.pick == "last")
    if is_duration(source, what, table):
        return np.full(len(patients), seconds(what), np.int64)
    if table is None:
        raise InputError(f"{what!r}: a column of which table? name a table, or give a duration such as 1y")
    view = source.view(table, [what])
    return patient_time(view, what, view.patient_index(patients.ids), patients, end, beyond=beyond)


def is_duration(source: SourceTables, what: Moment | None, table: str | None) -> bool:
    """Whether a moment of the spec is a duration after the origin.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    what : str, PickSpec or None
        The moment; None = none is given.
    table : str or None
        A table whose column of that name comes first.

    Returns
    -------
    bool
    """
    if not isinstance(what, str) or (table is not None and what in source.schemas.get(table, {})):
        return False
    return re.fullmatch(DURATION, what.strip()) is not None


def is_whole_days(what: Moment) -> bool:
    """Whether a moment is a duration of whole days, which after a bare date ends with the day.

    Parameters
    ----------
    what : str or PickSpec
        The moment.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_whole_days("2w"), is_whole_days("36h")
    (True, False)
    """
    found = re.fullmatch(DURATION, what.strip()) if isinstance(what, str) else None
    return found is not None and found[2] in ("d", "w") and seconds(found[0]) % DAY == 0


def entry_time(
    source: SourceTables,
    what: Moment,
    table: str | None,
    patients: Patients,
    rows: Mapping[str, Rows],
    *,
    end: bool,
    since: np.ndarray | None = None,
) -> np.ndarray:
    """When observation starts.

    An event starts it when it is known, and does so whatever an amendment says of it later: eligibility uses
    nothing later than the landmark.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    what : str or PickSpec
        A column of `table`, a duration after the origin, or the first or last of some events.
    table : str or None
        Where the column is.
    patients : Patients
        Whose times they are.
    rows : mapping of str to Rows
        The rows of each node type.
    end : bool
        A bare date counts from its last second; False: from its first.
    since : numpy.ndarray, optional
        (patient,) int64 seconds after the origin before which no event counts.

    Returns
    -------
    numpy.ndarray
        (patient,) int64 seconds after the origin, NEVER = not given.
    """
    if not isinstance(what, PickSpec):
        return moment_of(source, what, table, patients, rows, end=end, beyond=True)
    if what.table is not None:
        return _row_time(source, what, patients, end=end, beyond=True, since=since)
    if what.node is None:
        assert patients.origin is not None
        first = None if since is None else np.where(since == NEVER, NEVER, since + patients.origin)
        at = picked_time(source, what, patients.ids, end=end, seen=True, since=first)
        return np.where(at == NEVER, NEVER, at - patients.origin)
    of, first = rows[what.node], np.full(len(patients), FOREVER)
    these = of.fitting(what.code)
    if of.replaced is not None:
        these &= of.known < of.replaced
    if since is not None:
        these &= of.known >= since[of.patient]
    np.minimum.at(first, of.patient[these], of.known[these])
    return np.where(first == FOREVER, NEVER, first)


def _row_time(
    source: SourceTables,
    pick: PickSpec,
    patients: Patients,
    *,
    end: bool,
    beyond: bool,
    since: np.ndarray | None = None,
) -> np.ndarray:
    """The time of each patient's first or last row of a table; as in `entry_time`, none before `since`."""
    view, name = picked_rows(source, pick)
    owner = view.patient_index(patients.ids)
    at = _times(view, name, owner, patients, end, beyond=beyond)
    rows = np.flatnonzero(at.is_not_null().to_numpy() & (owner >= 0))
    times, owner = at.fill_null(0).to_numpy()[rows], owner[rows]
    if not source.holds_nodes(view.table):
        view.audit.used[view.row[rows]] = True
    if since is not None:
        later = times >= since[owner]
        times, owner = times[later], owner[later]
    return first_or_last(times, owner, len(patients), last=pick.pick == "last")


def patient_time(
    view: TableView,
    name: str,
    owner: np.ndarray,
    patients: Patients,
    end: bool = True,
    *,
    beyond: bool = False,
) -> np.ndarray:
    """The time that a column gives each patient.

    Parameters
    ----------
    view : TableView
        Rows of the table.
    name : str
        The column.
    owner : numpy.ndarray
        (row,) int64 patient of each row, -1 = nobody's.
    patients : Patients
        Whose times they are.
    end : bool, default True
        A bare date counts from its last second; False: from its first.
    beyond : bool, default False
        A year far ahead, as in 9999-12-31, is a time: BEYOND. Else it is refused as any slip.

    Returns
    -------
    numpy.ndarray
        (patient,) int64 seconds after the origin, NEVER = not given.

    Raises
    ------
    InputError
        When a cell is not a time, or a patient has two times.
    """
    at = _times(view, name, owner, patients, end, beyond=beyond)
    rows = one_each(view, name, at, owner, len(patients), hint=_ROWS_THAT_CHANGE)
    return take(at.fill_null(NEVER).to_numpy(), rows, NEVER)


def _times(
    view: TableView, name: str, owner: np.ndarray, patients: Patients, end: bool, *, beyond: bool
) -> pl.Series:
    """A column of times: (row,) Int64 seconds after the origin, null = empty; as in `patient_time`."""
    when = view.moment(name, patients.day_zero(owner))
    at, bad = when.end if end else when.at, when.bad
    if beyond and (far := is_far_ahead(view, name, bad, owner, patients)).any():
        at, bad = at.set(far, BEYOND), bad & ~far
    if bad.any():
        row = bad.arg_true()[0]
        raise InputError(
            f"{view.table}: column {name!r}, line {view.line(row)}: not a time; write days after day 0 or a "
            f"date within 125 years of it{view.time_hint(name, row)}"
        )
    return at


def is_far_ahead(
    view: TableView, name: str, bad: pl.Series, owner: np.ndarray, patients: Patients
) -> pl.Series:
    """Which of the cells that are no time lie in a year far ahead, as 9999-12-31 does.

    Parameters
    ----------
    view : TableView
        Rows of the table.
    name : str
        The column.
    bad : polars.Series
        (row,) Boolean: the cell is no time.
    owner : numpy.ndarray
        (row,) int64 patient of each row, -1 = nobody's.
    patients : Patients
        With their origins.

    Returns
    -------
    polars.Series
        (row,) Boolean.
    """
    if not bad.any() or patients.origin is None:
        return bad & False
    year = (
        view.column(name).cast(pl.String).str.extract(r"(\d{4,})").cast(pl.Int64, strict=False).fill_null(0)
    )
    start = pl.Series(take(patients.origin, owner, 0)) / DAY / YEAR + 1970
    return bad & (year > start + 100) & (year <= 9999)


def first_event(rows: Rows, these: np.ndarray, patients: int, *, last: bool = False) -> np.ndarray:
    """When the first or last of some rows happened in each patient.

    A row that an amendment replaces, sooner or later, does not count: what it said was wrong.

    Parameters
    ----------
    rows : Rows
        The rows of one node type.
    these : numpy.ndarray
        (row,) bool: which of them count.
    patients : int
        How many patients there are.
    last : bool, default False
        Take the last instead of the first.

    Returns
    -------
    numpy.ndarray
        (patient,) int64 seconds after the origin, NEVER = none of them is this patient's.
    """
    these = these & rows.not_amended
    far = np.iinfo(np.int64).min if last else np.iinfo(np.int64).max
    at = np.full(patients, far)
    (np.maximum if last else np.minimum).at(at, rows.patient[these], rows.happened[these])
    return np.where(at == far, NEVER, at)
