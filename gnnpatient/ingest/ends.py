"""When observation begins and ends: open intervals, ends that are not known, entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from gnnpatient.errors import InputError
from gnnpatient.ingest.dates import UsualDates, is_given
from gnnpatient.ingest.moments import entry_time, is_whole_days
from gnnpatient.ingest.patients import Patients, patient_table
from gnnpatient.ingest.rows import Rows
from gnnpatient.ingest.source import SourceTables
from gnnpatient.spec.tables import Moment, PickSpec
from gnnpatient.times import FOREVER, NEVER


def open_intervals(source: SourceTables, rows: Mapping[str, Rows], dates: UsualDates) -> dict[str, Rows]:
    """The rows, of which ends decades after all other dates are not known.

    Parameters
    ----------
    source : SourceTables
        For flags.
    rows : mapping of str to Rows
        The rows of each node type.
    dates : UsualDates
        The bulk of the dates.

    Returns
    -------
    dict of str to Rows
    """
    out = dict(rows)
    for kind, events in rows.items():
        if events.until is None:
            continue
        present = events.until != FOREVER
        at = np.where(present, events.until, 0)
        late = (
            present
            & (at > dates.last[events.patient] + dates.gap)
            & (at + dates.origin[events.patient] > dates.end + dates.gap)
        )
        if late.any():
            source.flag(
                f"{kind}: {int(late.sum())} end(s) lie decades after all other dates; taken as not known"
            )
            out[kind] = replace(events, until=np.where(late, FOREVER, events.until))
    return out


def close_open_ends(
    source: SourceTables, dates: UsualDates, ends: np.ndarray, what: str, *, at_last_row: bool = False
) -> np.ndarray:
    """Ends of observation, of which those that are still open lie where the data end: counted, flagged.

    Parameters
    ----------
    source : SourceTables
        For flags.
    dates : UsualDates
        The bulk of the dates.
    ends : numpy.ndarray
        (patient,) int64 seconds after the origin.
    what : str
        What ends, for the flag.
    at_last_row : bool, default False
        The data of a patient end with the last row, as they do without a calendar; else with the latest day
        of anything.

    Returns
    -------
    numpy.ndarray
        (patient,) int64 seconds after the origin.
    """
    late = dates.is_open(ends)
    if not late.any():
        return ends
    others = is_given(ends) & ~late
    day = max(dates.end, int((ends + dates.origin)[others].max(initial=dates.end)))
    at_last_row |= not dates.calendar
    stop = dates.last if at_last_row else np.maximum(day - dates.origin, 0)
    where = "the patient's last row" if at_last_row else "the last day of the data"
    source.flag(
        f"{what}: {int(late.sum())} of {int(is_given(ends).sum())} end(s) lie decades after all other dates "
        f"or after today, so they are not known; observed to {where} instead",
        decides=True,
    )
    return np.where(late, stop, ends)


def is_last_row(source: SourceTables, what: Moment | None) -> bool:
    """Whether an end of observation is the patient's last row.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    what : str, PickSpec or None
        The end by the spec; of a standard format `last` is that of its rows.

    Returns
    -------
    bool
    """
    return (source.standard is not None and what == "last") or (
        isinstance(what, PickSpec) and what.pick == "last"
    )


def read_entry(
    source: SourceTables, dates: UsualDates, patients: Patients, rows: Mapping[str, Rows]
) -> tuple[np.ndarray, np.ndarray]:
    """When each patient enters.

    On a bare date a patient is there from the first second on. A time decades before or after all other dates
    is none: a column then says nothing, so day 0; of events the next one counts, and whoever has none never
    enters, as who enters because of what comes later would be chosen by the future.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    dates : UsualDates
        The bulk of the dates.
    patients : Patients
        Who may enter.
    rows : mapping of str to Rows
        The rows of each node type.

    Returns
    -------
    entry : numpy.ndarray
        (patient,) int64 seconds after the origin, FOREVER = never.
    first_day : numpy.ndarray
        (patient,) the end of that day where entry is a bare date, else `entry`.

    Raises
    ------
    InputError
        When nobody has an event that starts observation.
    """
    what, table = source.spec.patient.entry, patient_table(source)
    assert what is not None

    def read(since: np.ndarray | None = None) -> list[np.ndarray]:
        return [
            entry_time(source, what, table, patients, rows, end=end, since=since) for end in (False, True)
        ]

    begin, end = read()
    wrong = dates.is_astray(begin)
    message = f"entry: {int(wrong.sum())} lie decades from all other dates; taken as not given"
    if not isinstance(what, PickSpec):
        if wrong.any():
            source.flag(f"{message}, so day 0", decides=True)
        if is_whole_days(what):  # after a bare date: the end of that day
            end = begin + patients.first_day
        entry = np.where(wrong | (begin == NEVER), 0, begin)
        return entry, np.where(begin == NEVER, patients.first_day, np.where(wrong, 0, end))
    if wrong.any():
        source.flag(f"{message}, the next such event counts", decides=True)
        begin, end = read(np.where(wrong, dates.first - dates.gap, NEVER))
    enters = is_given(begin) & ~dates.is_astray(begin)
    if not enters.any():
        raise InputError(f"entry: no patient has an event that fits {what.words}")
    if not enters.all():
        source.steps.append(["with the entry event", int(enters.sum())])
    return np.where(enters, begin, FOREVER), np.where(enters, end, FOREVER)
