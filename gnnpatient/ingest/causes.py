"""When a cause of a survival outcome happened in each patient, by rows, cells or a column."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from gnnpatient.errors import InputError, near
from gnnpatient.ingest.cells import ids, text
from gnnpatient.ingest.moments import BEYOND, first_event, is_far_ahead, patient_time
from gnnpatient.ingest.outcome_words import flag_unmatched_cells, flag_unmatched_patterns, read_event_flags
from gnnpatient.ingest.record import CauseTimes, Record, RefuseIf
from gnnpatient.ingest.source import PEOPLE
from gnnpatient.readers.tables import fits
from gnnpatient.spec.outcomes import CauseSpec
from gnnpatient.spec.tables import Where
from gnnpatient.times import FOREVER, NEVER

_DEATHS = ("DEATH", "MEDS_DEATH", "MEDS_DEATH//*")  # codes of a death in the formats
_UNTIMED = ("time is not a date", "not a time")  # why the reader of a format refused a row that has no time


@dataclass(frozen=True)
class _Cause:
    """A cause of an outcome, and the part of the spec that says when it happened."""

    outcome: str
    name: str
    position: int  # among the causes, from 1 on
    spec: CauseSpec
    table: str | None  # of the outcome

    @property
    def place(self) -> str:
        return f"outcome {self.outcome!r}, cause {self.name!r}"


def read_cause(
    record: Record,
    outcome: str,
    cause: tuple[int, str],
    spec: CauseSpec,
    table: str | None,
    refuse_if: RefuseIf,
) -> CauseTimes:
    """When a cause happened in each patient, by one part of the spec.

    Parameters
    ----------
    record : Record
        All that has been read of the patients.
    outcome : str
        The outcome.
    cause : tuple of int and str
        Position of the cause, from 1 on, and its name.
    spec : CauseSpec
        Codes of a node type, cells of a table, or a column of times, with or without a flag.
    table : str or None
        The table of the outcome.
    refuse_if : callable
        Refuses the outcome, see `refusal`.

    Returns
    -------
    CauseTimes

    Raises
    ------
    InputError
        When a column or a time cannot be read, or a flag is missing.
    """
    part = _Cause(outcome, cause[1], cause[0], spec, table)
    if spec.node is not None:
        return _from_nodes(record, part, spec.node)
    if spec.where:
        return _from_cells(record, part, spec.where)
    return _from_column(record, part, refuse_if)


def _from_nodes(record: Record, part: _Cause, node: str) -> CauseTimes:
    """By the rows of a node type that have one of some codes."""
    count, spec, rows = len(record.patients), part.spec, record.rows[node]
    these = rows.fitting(spec.codes)
    time = begun = first_event(rows, these, count)
    if rows.begun is not None:
        begun = first_event(replace(rows, happened=rows.begun), these, count)
    if not these.any():
        codes = (*rows.codes[1:], *rows.narrow_codes)
        flag_unmatched_patterns(record.source, part.place, spec.codes, codes, f"of {node}")
    never, undated = np.full(count, FOREVER), _undated_nodes(record, spec)
    valid = these & rows.not_amended
    first = rows.happened if rows.begun is None else rows.begun
    every = np.stack([column[valid] for column in (rows.patient, rows.happened, first, rows.known)], 1)
    return CauseTimes(part.position, time, begun, never, undated, from_rows=True, every=every)


def _from_cells(record: Record, part: _Cause, where: Where) -> CauseTimes:
    """By the rows of tables that fit `where`: the earliest of each patient."""
    source, spec, count = record.source, part.spec, len(record.patients)
    never = np.full(count, FOREVER)
    found = CauseTimes(part.position, never.copy(), never.copy(), never, np.zeros(count, bool))
    rows = [np.zeros((0, 4), np.int64)]
    for table in source.event_tables(spec.table or part.table):
        source.open(table)
        if source.is_event_table(table) and (missing := set(where) - set(source.schemas[table])):
            if spec.table:
                column = min(missing)
                raise InputError(f"{table}: no column {column!r}{near(column, source.schemas[table])}")
            continue
        rows.append(_add_table(record, part, table, where, found))
    if (found.time == FOREVER).all() and not found.undated.any():
        flag_unmatched_cells(source, part.place, spec, part.table)
    time = np.where(found.time == FOREVER, NEVER, found.time)
    return replace(found, time=time, every=np.concatenate(rows))


def _add_table(record: Record, part: _Cause, table: str, where: Where, found: CauseTimes) -> np.ndarray:
    """Add the rows of one table that fit to what has been found; give each as in `CauseTimes.every`."""
    source, patients, column = record.source, record.patients, part.spec.time or "time"
    view = source.view(table, [column], where)
    owner = view.patient_index(patients.ids)
    when = view.moment(column, patients.day_zero(owner))
    late = is_far_ahead(
        view, column, when.bad, owner, patients
    )  # judged later, beside all dates, like a column of times
    lost = when.far & ~late & pl.Series(owner >= 0)  # it happened at an unknown time
    if (bad := when.bad & ~late & ~when.far).any():
        row = bad.arg_true()[0]
        hint = view.time_hint(column, row)
        raise InputError(f"{table}: {part.place}, line {view.line(row)}: not a time{hint}")
    begin, end = (each.set(late, BEYOND) for each in (when.at, when.end))
    dated = begin.is_not_null().to_numpy() & ~lost.to_numpy() & (owner >= 0)
    whose = owner[dated].astype(np.int64)
    time, begun = (each.fill_null(0).to_numpy()[dated] for each in (end, begin))
    np.minimum.at(found.time, whose, time)
    np.minimum.at(found.begun, whose, begun)
    found.undated[:] |= _undated(record, table, column, where)
    found.undated[owner[lost.to_numpy()]] = True
    if not source.holds_nodes(table):
        view.audit.used[view.row[dated]] = True
    return np.stack([whose, time, begun, time], 1)


def _from_column(record: Record, part: _Cause, refuse_if: RefuseIf) -> CauseTimes:
    """By a column of times, and where there is one a flag that tells an event from censoring."""
    patients, spec, count = record.patients, part.spec, len(record.patients)
    table = spec.table or part.table
    assert table is not None and spec.time is not None
    view, owner = record.view(table, [c for c in (spec.time, spec.flag) if c], use=True)
    time = patient_time(view, spec.time, owner, patients, beyond=True)
    begun = patient_time(view, spec.time, owner, patients, end=False, beyond=True)
    happened, never = time != NEVER, np.full(count, FOREVER)
    if spec.flag is None:
        undated = _undated_deaths(record, table, spec.time, part.table, owner)
        return CauseTimes(part.position, time, begun, never, undated)
    flag = read_event_flags(view, part.outcome, part.name, spec.flag, owner, count)
    refuse_if(flag < 0, f"flag {spec.flag!r} is empty; missing is not censored")
    refuse_if((flag == 1) & ~happened, f"cause {part.name!r} happened, but its time is missing")
    censored = np.where(happened & (flag == 0), time, FOREVER)
    time = np.where(happened & (flag == 1), time, NEVER)
    return CauseTimes(part.position, time, begun, censored, np.zeros(count, bool))


# Events without a time


def _undated(record: Record, table: str, time: str, where: Where) -> np.ndarray:
    """Who has a row that fits, but none of it says when: (patient,) bool."""
    source = record.source
    schema, lazy = source.schemas[table], source.rows(table, [time, *where]).filter(fits(where))
    if source.is_event_table(table) and "refused" in schema:
        lazy = lazy.filter(pl.col("refused").is_null() | pl.col("refused").is_in(_UNTIMED))
    rows = lazy.select(source.key(table), time).collect(engine="streaming")
    blank = rows[time].is_null() if rows[time].dtype.is_temporal() else text(rows[time]).is_null()
    owner = ids(rows.filter(blank)[source.key(table)]).drop_nulls()
    return np.isin(record.patients.ids, owner.to_numpy().astype(str))


def _undated_nodes(record: Record, spec: CauseSpec) -> np.ndarray:
    """Who has a row of these codes that is no node, as it has no time: (patient,) bool."""
    source, node = record.source, record.source.spec.nodes[spec.node or ""]
    found = np.zeros(len(record.patients), bool)
    if node.made or node.columns is not None or node.untimed == "origin":
        return found
    for table in source.event_tables(node.table):
        standard = set(source.schemas[table]) if source.is_event_table(table) else set()
        code, time = (
            name or (what if what in standard else None)
            for name, what in ((node.code, "code"), (node.time, "time"))
        )
        if code is not None and time is not None:
            found |= _undated(record, table, time, {**node.where, code: spec.codes})
    return found


def _undated_deaths(
    record: Record, table: str, time: str, outcome: str | None, owner: np.ndarray
) -> np.ndarray:
    """Who has a row in a table of events without a time, or is dead by the format: (patient,) bool.

    A table in which everybody has a row is none of events: there an empty cell says that nothing happened.
    """
    source, count = record.source, len(record.patients)
    if table == PEOPLE:
        if source.standard is None or time != "death":
            return np.zeros(count, bool)
        dead = np.zeros(count, bool)
        for file in source.standard.tables:
            source.open(file)
            dead |= _undated(record, file, "time", {"code": _DEATHS})
        return dead
    has_row = np.bincount(owner[owner >= 0], minlength=count) > 0
    if table in (outcome, record.source.spec.patient.table) or has_row.all():
        return np.zeros(count, bool)
    return _undated(record, table, time, {})
