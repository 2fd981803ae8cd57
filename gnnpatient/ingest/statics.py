"""What does not change in a patient: numbers and categories, and since when each is known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.ingest.columns import levels, one_each, take
from gnnpatient.ingest.picks import DURATION
from gnnpatient.ingest.source import SourceTables, TableView
from gnnpatient.spec.tables import BirthSpec, PatientSpec, PickSpec
from gnnpatient.times import DAY, FOREVER, NEVER, YEAR, seconds

ALWAYS = np.iinfo(np.int64).min
"""Since when a static is known that is as of the origin."""

_MAX_AGE = 120  # years; nobody is known to have been older when entering a cohort
_EXPORTED = ("marital", "deceased")  # of people of a format: as of the export, which is after day 0
_MIN_TIMED_SHARE = 0.9  # of the rows have a time in a column that says when each row became known

Clock = tuple[str, str | None, bool]
"""Columns: when a row of the patient table happened, became known; whether one without a time is of day 0."""


@dataclass(frozen=True, eq=False)
class Statics:
    """What does not change in a patient.

    Attributes
    ----------
    number : numpy.ndarray
        Numbers, nan = missing.
    category : numpy.ndarray
        Words, as positions in `levels`, -1 = missing.
    levels : dict
        The words of each category.
    number_known, category_known : numpy.ndarray or None
        Since when each is known, in seconds after the origin; None = all are as of the origin.
    """

    number: np.ndarray  # (patient, column) float32
    category: np.ndarray  # (patient, column) int32
    levels: dict[str, tuple[str, ...]]
    number_known: np.ndarray | None  # (patient, column) int64 seconds
    category_known: np.ndarray | None  # (patient, column) int64 seconds


@dataclass(frozen=True, eq=False)
class _OwnedRows:
    """The rows of the patient table, whose they are and when they became known."""

    view: TableView
    owner: np.ndarray  # (row,) int64, -1 = nobody's
    patients: int
    origin: np.ndarray | None  # (patient,) int64 seconds since 1970
    since: np.ndarray | None  # (row,) int64 seconds after the origin; None = as of the origin
    known: dict[str, np.ndarray] = field(default_factory=dict)  # (patient,) of each static


def read_statics(
    view: TableView, clocks: list[Clock], owner: np.ndarray, patients: int, origin: np.ndarray | None
) -> Statics:
    """The statics of each patient.

    Parameters
    ----------
    view : TableView
        Rows of the patient table.
    clocks : list of Clock
        What may say when a row became known, see `row_clocks`.
    owner : numpy.ndarray
        (row,) int64 patient of each row, -1 = nobody's.
    patients : int
        How many there are.
    origin : numpy.ndarray or None
        (patient,) int64 seconds since 1970.

    Returns
    -------
    Statics

    Raises
    ------
    InputError
        When a number is none, or a patient has two values of one static.
    """
    spec = view.source.spec.patient
    rows = _OwnedRows(view, owner, patients, origin, _row_known(view, clocks, origin, owner))
    number, category = np.zeros((patients, 0), np.float32), np.zeros((patients, 0), np.int32)
    words: dict[str, tuple[str, ...]] = {}
    for name in spec.number:
        number = np.c_[number, _number(rows, name)].astype(np.float32)
    for name in spec.category:
        words[name], level = _category(rows, name)
        category = np.c_[category, level].astype(np.int32)
    if rows.since is None:
        return Statics(number, category, words, None, None)
    known = (_stacked(rows.known, names, patients) for names in (spec.number, spec.category))
    return Statics(number, category, words, *known)


def flag_late_statics(view: TableView, clocks: list[Clock], statics: Statics) -> None:
    """Flag statics that become known after day 0 only.

    Parameters
    ----------
    view : TableView
        Rows of the patient table.
    clocks : list of Clock
        What says when a row became known.
    statics : Statics
        As they were read.
    """
    source, spec = view.source, view.source.spec.patient
    if statics.number_known is None or statics.category_known is None:
        return
    late = np.concatenate([(at > 0).sum(0) for at in (statics.number_known, statics.category_known)])
    if late.any():
        names = (*spec.number, *spec.category)
        listed = ", ".join(f"{name} of {n}" for name, n in zip(names, late.tolist(), strict=True) if n)
        source.flag(
            f"{view.table}: statics are known from the time of their row on ({_time_columns(spec, clocks)}): "
            f'{listed} patient(s) only after day 0; where that is not so, set known = "0d" or a column in '
            "[patient]",
            decides=True,
        )


def age_from_birth(source: SourceTables, table: str) -> bool:
    """Whether the age is that at day 0, from the birth that the spec or a standard format's people give.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    table : str
        The patient table, opened.

    Returns
    -------
    bool
    """
    spec, has_age = source.spec.patient, "age" in source.schemas[table]
    if spec.birth is not None:
        if has_age:
            raise InputError(f"{table}: has a column 'age' already; remove birth, or rename that column")
        return True
    return "age" in spec.number and not has_age and source.standard is not None


def _number(rows: _OwnedRows, name: str) -> np.ndarray:
    """A number of each patient: (patient,) float, nan = missing."""
    view = rows.view
    if name == "age" and age_from_birth(view.source, view.table):
        rows.known[name] = np.full(rows.patients, ALWAYS)
        return _age(rows)
    amount, bad = view.number(name)
    if bad.any():
        raise InputError(
            f"{view.table}: column {name!r}, line {view.line(int(bad.argmax()))}: not a number; correct "
            "the cell, or move the column to category in [patient]"
        )
    row = _static(rows, name, pl.Series(amount, nan_to_null=True))
    return take(amount, row, np.nan)


def _category(rows: _OwnedRows, name: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The words of a category, and that of each patient among them: (patient,) int32, -1 = missing."""
    cells = rows.view.text(name)
    words, level = levels(cells)
    return words, take(level, _static(rows, name, cells), -1)


def birth_columns(source: SourceTables, table: str) -> tuple[str, ...]:
    """The columns that give the age at day 0.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    table : str
        The patient table, opened.

    Returns
    -------
    tuple of str
        None where the age is a column, or not asked for.
    """
    return (source.spec.patient.birth_columns or ("birth",)) if age_from_birth(source, table) else ()


def _age(rows: _OwnedRows) -> np.ndarray:
    """Years from birth to day 0; nan where either is unknown."""
    assert rows.origin is not None
    birth = rows.view.source.spec.patient.birth
    if birth is None:
        return _age_by_date(rows, "birth")
    age = _age_by_date(rows, birth) if isinstance(birth, str) else _age_by_year(rows, birth)
    if old := int((age > _MAX_AGE).sum()):
        rows.view.source.flag(
            f"{rows.view.table}: the age of {old} patient(s) is above {_MAX_AGE}, as where the very old are "
            "moved to hide their age; taken as missing"
        )
    if unborn := int((age < -1 / YEAR).sum()):  # a birth may have a clock time, of day 0
        rows.view.source.flag(
            f"{rows.view.table}: {unborn} patient(s) are born after day 0; their age is taken as missing",
            decides=True,
        )
    return np.where((age > _MAX_AGE) | (age < -1 / YEAR), np.nan, age.clip(min=0))


def _age_by_year(rows: _OwnedRows, birth: BirthSpec) -> np.ndarray:
    """Years by the age in some year, moved to the year of day 0."""
    found = {}
    for name in (birth.age, birth.year):
        cells, bad = rows.view.number(name)
        if bad.any():
            line = rows.view.line(int(bad.argmax()))
            raise InputError(
                f"{rows.view.table}: column {name!r}, line {line}: not a number; correct the cell"
            )
        row = one_each(rows.view, name, pl.Series(cells, nan_to_null=True), rows.owner, rows.patients)
        found[name] = take(cells, row, np.nan)
    assert rows.origin is not None
    year = pl.from_epoch(pl.Series(rows.origin))
    return found[birth.age] + year.dt.year().to_numpy() - found[birth.year]


def _age_by_date(rows: _OwnedRows, name: str) -> np.ndarray:
    assert rows.origin is not None
    view, owner = rows.view, rows.owner
    born = view.moment(name, pl.zeros(len(owner), eager=True, dtype=pl.Int64), limit=None).at
    row = one_each(view, name, born, owner, rows.patients)
    birth = take(born.fill_null(NEVER).to_numpy(), row, NEVER)
    return np.where(birth == NEVER, np.nan, (rows.origin - birth.astype(np.float64)) / DAY / YEAR)


def _static(rows: _OwnedRows, name: str, cells: pl.Series) -> np.ndarray:
    """The row that gives each patient's value of a static, -1 = none; and notes since when it is known.

    A value without a time at which it became known is left out where other rows have one.
    """
    view, owner, patients, since = rows.view, rows.owner, rows.patients, rows.since
    source, spec = view.source, view.source.spec.patient
    if name in spec.first:
        row = _earliest_row(cells, view.row if since is None else since, owner, patients)
    else:
        hint = f'first = ["{name}"] takes the earliest row; what changes is a node: [nodes.NAME] columns'
        row = one_each(view, name, cells, owner, patients, hint=hint)
    if since is None:
        _flag_later_rows(rows, name, row)
        rows.known[name] = np.full(patients, ALWAYS)
        return row
    known = np.full(patients, FOREVER)
    filled = np.flatnonzero(cells.is_not_null().to_numpy() & (owner >= 0))
    np.minimum.at(known, owner[filled], since[filled])
    untimed = (row >= 0) & (known == FOREVER)
    if untimed.any():
        source.flag(
            f"{view.table}: {name!r} of {int(untimed.sum())} patient(s) is in rows without a time; left out",
            decides=True,
        )
    rows.known[name] = np.where((row < 0) | untimed, ALWAYS, known)
    return np.where(untimed, -1, row)


def _flag_later_rows(rows: _OwnedRows, name: str, row: np.ndarray) -> None:
    """Flag values of later rows that count as known on day 0, as nothing says when rows became known."""
    if rows.view.source.spec.patient.known is not None:
        return
    first = np.full(rows.patients + 1, -1)  # row of each patient; the last entry is for rows of nobody
    first[rows.owner[::-1]] = np.arange(len(rows.owner))[::-1]
    if later := int(((row >= 0) & (row != first[:-1])).sum()):
        rows.view.source.flag(
            f"{rows.view.table}: {name!r} of {later} patient(s) is in a later row and counts as known on "
            "day 0; [patient] known names the column that times a row",
            decides=True,
        )


def _earliest_row(cells: pl.Series, at: np.ndarray, owner: np.ndarray, patients: int) -> np.ndarray:
    """The earliest row that gives each patient's value, -1 = none; at one moment the smallest value."""
    rows = np.flatnonzero(cells.is_not_null().to_numpy() & (owner >= 0))
    rank = cells.rank("dense").fill_null(0).to_numpy()
    rows = rows[np.lexsort((rank[rows], at[rows]))]
    first = np.full(patients, -1)
    first[owner[rows][::-1]] = rows[::-1]
    return first


def _stacked(columns: Mapping[str, np.ndarray], names: tuple[str, ...], patients: int) -> np.ndarray:
    """Some columns side by side: (patient, column) int64."""
    return np.stack([columns[name] for name in names], 1) if names else np.zeros((patients, 0), np.int64)


# When a row of the patient table became known


def row_clocks(source: SourceTables, table: str) -> list[Clock]:
    """What may say when a row of the patient table became known.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    table : str
        The patient table, opened.

    Returns
    -------
    list of Clock
        [patient] known, else the times of the nodes that are read from the table, and the column that day 0
        is picked from there; where the earliest row counts also the start of start-stop rows.
    """
    spec, schema = source.spec.patient, source.schemas[table]
    if spec.known is not None:
        fixed = spec.known not in schema and re.fullmatch(DURATION, spec.known.strip())
        return [] if fixed else [(spec.known, None, False)]
    found: dict[Clock, None] = {}
    if spec.columns and (column := _column_of_rows(source, table)) in schema:
        found[column, None, False] = None
    for node in source.spec.nodes.values():
        time, known = node.time, node.known
        if spec.columns and node.table == table and time is not None and time in schema:
            known = known if known in schema else None
            found[time, known, node.untimed == "origin"] = None
    return list(found)


def _column_of_rows(source: SourceTables, table: str) -> str:
    """The column that tells when the rows of the patient table are, by day 0 or an outcome; "" = none."""
    spec = source.spec.patient
    if isinstance(spec.origin, PickSpec) and spec.origin.table == table:
        return spec.origin.column or ""
    stretches = (outcome.stretches for outcome in source.spec.outcomes.values() if spec.first)
    return next((found[1] for found in stretches if found is not None and found[0] == table), "")


def _time_columns(spec: PatientSpec, clocks: list[Clock]) -> str:
    """The columns that time the rows of the patient table, in words."""
    return " and ".join(dict.fromkeys(known or time for time, known, _ in clocks)) or str(spec.known)


def _row_known(
    view: TableView, clocks: list[Clock], origin: np.ndarray | None, owner: np.ndarray
) -> np.ndarray | None:
    """When each row of the patient table became known: (row,) int64 seconds, FOREVER = nothing says so.

    None: all of it is as of the origin. Where nodes of several times are read from the table, a row is known
    at the last of those that most rows have. A time that fewer have is that of an event and not of the row,
    unless it is the only one that tells the rows of a patient apart.
    """
    source, spec = view.source, view.source.spec.patient
    if not clocks:
        late = seconds(spec.known) if spec.known is not None else 0
        return np.full(len(view), late) if late > 0 else None
    at, owned = np.stack([_known_by(view, clock, origin, owner) for clock in clocks]), owner >= 0
    share = (at[:, owned] < FOREVER).mean(1) if owned.any() else np.zeros(len(at))
    use = (share >= _MIN_TIMED_SHARE) | (spec.known is not None)
    if not use.any():
        if np.bincount(owner[owned]).max(initial=0) < 2:
            source.flag(
                f"{view.table}: statics count as known on day 0, whatever {_time_columns(spec, clocks)} "
                "says, which few rows have; [patient] known names the column that times a row"
            )
            return None
        use[share.argmax()] = True
    at = np.where(at[use] < FOREVER, at[use], ALWAYS).max(0)
    return np.where(at == ALWAYS, FOREVER, at)


def _known_by(view: TableView, clock: Clock, origin: np.ndarray | None, owner: np.ndarray) -> np.ndarray:
    """When each row became known by one clock; a bare date at its end, that of the origin at the origin."""
    start = None if origin is None else pl.Series(take(origin, owner, 0))
    time, known, day_zero = clock
    at = np.full(len(view), ALWAYS)
    for name in (time, known):
        if name is None:
            continue
        when = view.moment(name, start)
        begin, end = when.at.fill_null(0).to_numpy(), when.end.fill_null(0).to_numpy()
        valid = (when.at.is_not_null() & ~when.bad).to_numpy()
        moment = np.where((begin < end) & (begin <= 0) & (end >= 0), 0, end)
        empty = (when.at.is_null() & ~when.bad).to_numpy() & day_zero & (name == time)
        at = np.maximum(at, np.where(valid, moment, np.where(empty, 0, FOREVER)))
    return at


def check_export(source: SourceTables, table: str) -> None:
    """Check statics of a format's people that may not be of day 0: what may change since is flagged.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    table : str
        The patient table, opened.

    Raises
    ------
    InputError
        When a static is a date, which may lie after day 0.
    """
    spec, schema = source.spec.patient, source.schemas[table]
    for name in spec.columns:
        if name in schema and schema[name].is_temporal():
            raise InputError(
                f"{table}: column {name!r} is a date, which may lie after day 0; name numbers or words"
            )
        if name in _EXPORTED and name in schema and spec.known is None:
            source.flag(
                f"{table}: {name!r} is as of the export, not of day 0; leave it out, or say since when it is "
                "known in [patient] known",
                decides=True,
            )
