"""The patients: their ids, when their time begins, and the groups that keep them together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.ingest.cells import ids
from gnnpatient.ingest.columns import one_each, take
from gnnpatient.ingest.picks import first_or_last, picked_rows, picked_time
from gnnpatient.ingest.scripts import normalized, script_flags
from gnnpatient.ingest.source import PEOPLE, SourceTables, TableView
from gnnpatient.ingest.statics import (
    Clock,
    birth_columns,
    check_export,
    flag_late_statics,
    read_statics,
    row_clocks,
)
from gnnpatient.spec.tables import PickSpec
from gnnpatient.times import NEVER


@dataclass(frozen=True, eq=False)
class Patients:
    """The patient table, one entry a patient, sorted by id.

    Attributes
    ----------
    ids : numpy.ndarray
        Their ids.
    number : numpy.ndarray
        Statics that are numbers, nan = missing.
    category : numpy.ndarray
        Statics that are words, as positions in `levels`, -1 = missing.
    levels : dict
        The words of each category.
    origin : numpy.ndarray or None
        When their time begins, in seconds since 1970, UTC; None = the tables give days after it.
    group : numpy.ndarray or None
        Who is kept together in a split, "" = a group of their own.
    first_day : numpy.ndarray
        The end of day 0 in seconds after the origin where it is a bare date, else 0.
    number_known, category_known : numpy.ndarray or None
        Since when each static is known, in seconds after the origin; None = all are as of the origin.
    """

    ids: np.ndarray  # (patient,) str
    number: np.ndarray  # (patient, column) float32
    category: np.ndarray  # (patient, column) int32
    levels: dict[str, tuple[str, ...]]
    origin: np.ndarray | None  # (patient,) int64 seconds
    group: np.ndarray | None  # (patient,) str
    first_day: np.ndarray  # (patient,) int64 seconds
    number_known: np.ndarray | None = None  # (patient, column) int64 seconds
    category_known: np.ndarray | None = None  # (patient, column) int64 seconds

    def __len__(self) -> int:
        return len(self.ids)

    def day_zero(self, owner: np.ndarray) -> pl.Series | None:
        """The origin of each row's patient.

        Parameters
        ----------
        owner : numpy.ndarray
            (row,) int64 patient of each row, -1 = nobody's.

        Returns
        -------
        polars.Series or None
            (row,) int64 seconds since 1970, 0 for rows of nobody; None = there are no origins.
        """
        return None if self.origin is None else pl.Series(take(self.origin, owner, 0))


@dataclass(frozen=True, eq=False)
class _DayZero:
    """Who has a day 0, and when it is."""

    ids: np.ndarray  # (patient,) str
    origin: np.ndarray | None = None  # (patient,) int64 seconds since 1970
    first_day: np.ndarray | None = None  # (patient,) int64 seconds: how much later that day ends


def read_patients(source: SourceTables) -> Patients:
    """Ids, statics, day 0 and group of the patients.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.

    Returns
    -------
    Patients

    Raises
    ------
    InputError
        When nobody has an id, somebody has no day 0, or a column does not hold what the spec says.
    """
    spec, table = source.spec.patient, patient_table(source)
    view, clocks = _patient_rows(source, table)
    found = _patients_with_day_zero(source, view, _read_ids(source, view))
    owner, count = view.patient_index(found.ids), len(found.ids)
    if isinstance(spec.origin, str):
        origin, first_day = _read_origin(view, spec.origin, owner, count)
        found = _DayZero(found.ids, origin, first_day)
    elif source.standard is not None and spec.origin is None:
        raise InputError(
            f"a {source.spec.format} folder has dates; name day 0 in [patient], as in "
            f'origin = {{ code = "...", pick = "first" }}, or a column of people: '
            f"{', '.join(_date_columns(source.schemas[table]))}"
        )
    statics = read_statics(view, clocks, owner, count, found.origin)
    group = None
    if spec.group:
        site = _read_groups(source, view, spec.group)
        rows = one_each(view, spec.group, site, owner, count)
        group = take(site.fill_null("").to_numpy().astype(str), rows, "")
    if not source.holds_nodes(table):
        view.audit.use_first_rows(view.row, owner)
    flag_late_statics(view, clocks, statics)
    return Patients(
        ids=found.ids,
        number=statics.number,
        category=statics.category,
        levels=statics.levels,
        origin=found.origin,
        group=group,
        first_day=np.zeros(count, np.int64) if found.first_day is None else found.first_day,
        number_known=statics.number_known,
        category_known=statics.category_known,
    )


def patient_table(source: SourceTables) -> str:
    """The table that lists the patients.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.

    Returns
    -------
    str
        That of the spec, else the people of the standard format.
    """
    return source.spec.patient.table or PEOPLE


def _patient_rows(source: SourceTables, table: str) -> tuple[TableView, list[Clock]]:
    """The rows of the patient table that `where` chooses, and what says when they became known."""
    spec = source.spec.patient
    source.open(table)
    born = birth_columns(source, table)
    columns = [name for name in spec.columns if not (born and name == "age")]
    columns += [name for name in (spec.origin, spec.group) if isinstance(name, str)] + [*born]
    if source.is_standard(table):
        check_export(source, table)
    clocks = row_clocks(source, table)
    timed = [name for time, known, _ in clocks for name in (time, known) if name is not None]
    view = source.view(table, [*columns, *timed], spec.where)
    if spec.where:
        every = source.view(table, []).row
        source.audits[table].refuse(np.setdiff1d(every, view.row), "not chosen by where")
    return view, clocks


def _read_ids(source: SourceTables, view: TableView) -> np.ndarray:
    """The distinct ids, sorted: (patient,) str. Some that may be one patient's are flagged."""
    table, key = view.table, source.key(view.table)
    every_id = ids(view.column(key)).drop_nulls().unique()
    if every_id.str.contains("\0", literal=True).any():  # numpy would take two such ids for one
        raise InputError(f"{table}: column {key!r}: an id holds a NUL; write ids as plain text")
    names = np.sort(every_id.to_numpy().astype(str))
    if not len(names):
        where = source.spec.patient.where
        if source.standard is not None and not where:
            raise InputError(f"{source.place}: names no patient, so its rows are nobody's; add the patients")
        chosen = " and fits where" if where else ""
        raise InputError(f"{table}: no patient has an id in column {key!r}{chosen}")
    if alike := len(names) - normalized(pl.Series(names)).n_unique():
        source.flags.append(f"{table}: {alike} id(s) differ from another in case or blanks only; kept apart")
    for flag in script_flags(every_id, "id(s)"):
        source.flag(f"{table}: {flag}")
    source.steps.append(["in the patient table", len(names)])
    return names


def _patients_with_day_zero(source: SourceTables, view: TableView, names: np.ndarray) -> _DayZero:
    """Those who have a day 0; rows of others are refused. A column of the patient table is read later."""
    origin, table = source.spec.patient.origin, view.table
    if isinstance(origin, PickSpec):
        return _picked_day_zero(source, view, names, origin)
    if origin is None or source.standard is None:
        return _DayZero(names)
    dated_ids = ids(view.column(source.key(table))).filter(view.column(origin).is_not_null())
    names = names[np.isin(names, dated_ids.to_numpy().astype(str))]
    view.refuse(view.column(origin).is_null().to_numpy(), "no day 0")
    source.steps.append([f"with {origin}, which gives day 0", len(names)])
    if not len(names):
        raise InputError(f"{table}: column {origin!r} gives nobody a day 0; name another")
    return _DayZero(names)


def _picked_day_zero(source: SourceTables, view: TableView, names: np.ndarray, pick: PickSpec) -> _DayZero:
    if pick.table is None and pick.node is None:
        origin, day_end = picked_time(source, pick, names), picked_time(source, pick, names, end=True)
    else:
        origin, day_end = _picked_dates(source, pick, names)
    has = origin != NEVER
    first_day = (day_end - origin)[has]
    if not has.any():
        raise InputError(f"origin: no patient has an event that fits {pick.words}")
    if pick.pick == "last":
        source.flag(
            'origin: pick = "last" chooses day 0 by what comes after it: who comes again has no landmark '
            'before, so risks hold for the others only (pick = "first" has no such choice)',
            decides=True,
        )
    key = ids(view.column(source.key(view.table)))
    view.refuse(key.is_in(names[~has].tolist()).fill_null(False).to_numpy(), "no day 0")
    source.steps.append(["with an event that gives day 0", int(has.sum())])
    return _DayZero(names[has], origin[has], first_day)


def _picked_dates(source: SourceTables, pick: PickSpec, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The date of each one's first or last row of a table: (patient,) first and last second since 1970."""
    view, name = picked_rows(source, pick)
    owner = view.patient_index(names)
    when = view.moment(name, pl.zeros(len(owner), eager=True, dtype=pl.Int64), limit=None)
    bad = (when.bad | (when.at.is_not_null() & ~when.dated)) & pl.Series(owner >= 0)  # days after what?
    if bad.any():
        row = bad.arg_true()[0]
        raise InputError(
            f"{view.table}: column {name!r}, line {view.line(row)}: not a date; day 0 needs one"
            f"{view.time_hint(name, row)}"
        )
    rows = np.flatnonzero(when.at.is_not_null().to_numpy() & (owner >= 0))
    if not source.holds_nodes(view.table):
        view.audit.used[view.row[rows]] = True
    begin, end = (
        first_or_last(at.fill_null(0).to_numpy()[rows], owner[rows], len(names), last=pick.pick == "last")
        for at in (when.at, when.end)
    )
    return begin, end


def _read_origin(
    view: TableView, name: str, owner: np.ndarray, patients: int
) -> tuple[np.ndarray, np.ndarray]:
    """Day 0 of each patient in seconds since 1970, and how many seconds later that day ends.

    Of a bare date it is the first second; where it is none, the day ends at once.
    """
    when = view.moment(name, pl.zeros(len(owner), eager=True, dtype=pl.Int64), limit=None)
    bad = when.bad | (when.at.is_not_null() & ~when.dated)  # days after what?
    pick = f'{{ table = "{view.table}", column = "{name}", pick = "first" }}'
    rows = one_each(view, name, when.at, owner, patients, hint=f"origin = {pick} takes the first")
    if bad.any() or (rows < 0).any():
        bad = bad if bad.any() else pl.Series(owner == (rows < 0).argmax())
        row = bad.arg_true()[0]
        raise InputError(
            f"{view.table}: column {name!r}, line {view.line(row)}: not a date; every patient needs a day 0"
            f"{view.time_hint(name, row)}"
        )
    length = (when.end - when.at).fill_null(0).to_numpy()
    return when.at.fill_null(NEVER).to_numpy()[rows], length[rows]


def _date_columns(schema: Any) -> list[str]:
    return [name for name, dtype in schema.items() if dtype.is_temporal()]


def _read_groups(source: SourceTables, view: TableView, name: str) -> pl.Series:
    """The group of each row, without blanks around it and in one Unicode form; an empty one is null."""
    site = view.text(name).str.strip_chars().str.normalize("NFC")
    site = site.set(site == "", None)
    names = site.drop_nulls().unique()
    if alike := len(names) - normalized(names).n_unique():
        source.flag(f"{view.table}: {alike} group(s) differ from another in case or blanks only; kept apart")
    return site
