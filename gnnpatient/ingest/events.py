"""Tables to tidy rows: of whom, when known, when happened, what, how much; used, collapsed or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.ingest.amendments import amendments_of, with_replaced
from gnnpatient.ingest.ancestors import hierarchy
from gnnpatient.ingest.cells import ids, number, split_bounds
from gnnpatient.ingest.contents import study_numbers, with_content
from gnnpatient.ingest.patients import Patients
from gnnpatient.ingest.rows import Rows
from gnnpatient.ingest.scripts import script_flags
from gnnpatient.ingest.source import SourceTables, TableView
from gnnpatient.ingest.units import convert_values
from gnnpatient.readers.standard import BOUND
from gnnpatient.readers.tables import FRACTIONS, holds_fractions
from gnnpatient.spec.graph import GraphSpec
from gnnpatient.spec.nodes import NodeSpec
from gnnpatient.times import FOREVER


@dataclass(frozen=True, eq=False)
class _Columns:
    """Which columns of a table a node type is read from; None = not given."""

    time: str | None
    known: str | None
    until: str | None
    code: str | None
    value: str | None
    unit: str | None
    words: str | None  # of a standard format: holds values in words, such as "<5"
    wide: dict[str, tuple[str, str]]  # code and unit of each column of a wide table

    def names(self, node: NodeSpec) -> list[str]:
        """All of them, and those that the node names beside them."""
        long = (self.time, self.known, self.until, self.code, self.value, self.unit)
        extra = (node.row, node.amends, node.content, node.study, node.track, self.words)
        return [*(name for name in (*long, *extra) if name is not None), *self.wide]


@dataclass(frozen=True, eq=False)
class _Times:
    """When the rows of a view were, in int64 seconds after the origin of each row's patient."""

    known: np.ndarray  # (row,)
    happened: np.ndarray  # (row,)
    begun: np.ndarray  # (row,): the first second at which it can have happened
    valid: np.ndarray  # (row,) bool: it has all of these
    until: np.ndarray | None = None  # (row,)


@dataclass(frozen=True, eq=False)
class _Cells:
    """What the cells of a view say; of a wide table one entry a cell, of a long one a row."""

    row: np.ndarray  # (cell,) position in the view
    code: pl.Series  # (cell,) str
    unit: pl.Series  # (cell,) str, "" = none
    value: np.ndarray  # (cell,) float64
    bad: np.ndarray  # (cell,) bool: the value is not a finite number
    bound: np.ndarray  # (cell,) int8: -1 the truth lies below it, 1 above, 0 it is the value


@dataclass(frozen=True, eq=False)
class _TableRows:
    """What one table gives to a node type."""

    view: TableView
    patient: np.ndarray  # (cell,) int64
    times: _Times  # of each cell
    cells: _Cells
    codes: tuple[str, ...]  # of all columns of a wide table; of a long one none
    amendments: pl.DataFrame | None  # every amendment of the table
    content: pl.Series | None  # (cell,) file names or texts
    study: pl.Series | None  # (cell,)
    track: pl.Series | None  # (cell,) ids of objects


def read_rows(source: SourceTables, kind: str, node: NodeSpec, patients: Patients) -> Rows:
    """The tidy rows of one node type; what cannot be used is refused with its reason.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    kind : str
        The node type.
    node : NodeSpec
        Its spec.
    patients : Patients
        Whose rows are read.

    Returns
    -------
    Rows
        Not yet sorted.

    Raises
    ------
    InputError
        When a column is not there, a code comes in two units, or a row amends itself.
    """
    parts = [_read_table(source, kind, table, node, patients) for table in source.event_tables(node.table)]
    source.views[kind] = [part.view for part in parts]
    name, narrow, narrow_codes = _rolled_up(source, node, pl.concat([part.cells.code for part in parts]))
    codes = _code_names(source, kind, parts, name)
    code = name.cast(pl.Enum(codes)).to_physical().cast(pl.Int32).to_numpy()
    unit = pl.concat([part.cells.unit for part in parts])
    value, bad, bound = (
        np.concatenate([getattr(part.cells, column) for part in parts])
        for column in ("value", "bad", "bound")
    )
    values = convert_values(source, kind, codes, code, unit, value, blank=node.blank, bound=bound)
    with np.errstate(over="ignore"):
        value = values.value.astype(np.float32)
    refused = {**values.refused, "value not a finite number": bad | np.isinf(value)}
    if node.bounds == "refuse":
        refused["value is a bound (< or >)"] = bound != 0
    number = np.concatenate([part.view.audit.start + part.view.row[part.cells.row] for part in parts])
    keep = _refuse_cells(source, kind, number, refused)
    known, happened, begun = (
        np.concatenate([getattr(part.times, column) for part in parts])
        for column in ("known", "happened", "begun")
    )
    assert values.bound is not None
    rows = Rows(
        patient=np.concatenate([part.patient for part in parts]),
        known=known,
        happened=happened,
        code=code,
        value=value,
        source=number,
        codes=codes,
        units=values.units,
        until=_until(parts),
        study=_studies(source, parts),
        narrow=narrow,
        narrow_codes=narrow_codes,
        begun=begun if (begun < happened).any() else None,
        bound=values.bound if (values.bound[keep] != 0).any() else None,
        track=_objects(parts),
    ).only(keep)
    _flag_bounds(source, kind, rows)
    if node.content is not None:
        cells = pl.concat([part.content for part in parts if part.content is not None])
        rows = with_content(source, kind, node, rows, cells.filter(pl.Series(keep)), patients)
    if node.amends is not None:
        amendments = [part.amendments for part in parts if part.amendments is not None]
        rows = with_replaced(source, kind, rows, pl.concat(amendments))
    return rows


def _rolled_up(
    source: SourceTables, node: NodeSpec, name: pl.Series
) -> tuple[pl.Series, np.ndarray | None, tuple[str, ...]]:
    """The codes at the level of the node; and as they were before, as positions among their names."""
    if node.level is None:
        return name, None, ()
    assert node.hierarchy is not None
    codes = tuple(name.unique().sort())
    narrow = name.cast(pl.Enum(codes)).to_physical().cast(pl.Int32).to_numpy()
    level = hierarchy(source, node.hierarchy, codes).level(codes, node.level)
    return name.replace_strict(codes, level, return_dtype=pl.String) if codes else name, narrow, codes


def _code_names(source: SourceTables, kind: str, parts: list[_TableRows], name: pl.Series) -> tuple[str, ...]:
    """The names of all codes, "other" first; of a wide table in the order of its columns."""
    wide = tuple(dict.fromkeys(code for part in parts for code in part.codes))
    codes = wide or tuple(sorted(name.unique()))
    codes = ("other", *(code for code in codes if code != "other"))
    for flag in script_flags(pl.Series(codes[1:], dtype=pl.String), "code(s)", letters=False):
        source.flag(f"{kind}: {flag}")
    return codes


def _refuse_cells(
    source: SourceTables, kind: str, number: np.ndarray, refused: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Note the reasons of refused cells; which are kept: (cell,) bool."""
    keep = ~np.logical_or.reduce(list(refused.values()))
    for reason, cell in refused.items():
        source.refuse(number[cell], reason)
        if n := int(np.isin(number[cell], number[keep]).sum()):
            source.flags.append(f"{kind}: {n} cells left out of rows that are used: {reason}")
    return keep


def _flag_bounds(source: SourceTables, kind: str, rows: Rows) -> None:
    if rows.bound is None:
        return
    count = Counter(rows.code[rows.bound != 0].tolist())
    most = ", ".join(f"{n} of {rows.codes[i]!r}" for i, n in count.most_common(5))
    more = f" and {len(count) - 5} more codes" if len(count) > 5 else ""
    source.flag(
        f"{kind}: {count.total()} value(s) are bounds (< or >), the number taken and marked: {most}{more}"
    )


def _until(parts: list[_TableRows]) -> np.ndarray | None:
    ends = [part.times.until for part in parts]
    if all(end is None for end in ends):
        return None
    size = [len(part.cells.row) for part in parts]
    return np.concatenate([np.full(n, FOREVER) if e is None else e for n, e in zip(size, ends, strict=True)])


def _studies(source: SourceTables, parts: list[_TableRows]) -> np.ndarray | None:
    cells = [part.study for part in parts if part.study is not None]
    return study_numbers(source, pl.concat(cells)) if cells else None


def _objects(parts: list[_TableRows]) -> np.ndarray | None:
    """The object of each row, as the place of its id among all ids, -1 = none: (row,) int32."""
    cells = [part.track for part in parts if part.track is not None]
    if not cells:
        return None
    track = pl.concat(cells)
    names = pl.Enum(track.drop_nulls().unique().sort())
    return track.cast(names).to_physical().cast(pl.Int32).fill_null(-1).to_numpy()


def _read_table(
    source: SourceTables, kind: str, table: str, node: NodeSpec, patients: Patients
) -> _TableRows:
    """What one table gives, each row with its times, code, unit and value; refused ones are left out."""
    source.open(table)
    columns = _columns(source, table, node)
    view = source.view(table, columns.names(node), node.where)
    owner = view.patient_index(patients.ids)
    times = _times(view, node, patients, owner, columns)
    times = replace(times, valid=times.valid & (owner >= 0))
    if columns.until is not None:
        times = replace(times, until=_ends(source, kind, view, columns.until, patients, owner, times))
    read_cells = _long_cells if node.columns is None else _wide_cells
    cells = read_cells(view, kind, node, columns, times.valid)
    row = cells.row
    return _TableRows(
        view=view,
        patient=owner[row],
        times=_Times(
            times.known[row],
            times.happened[row],
            times.begun[row],
            times.valid[row],
            None if times.until is None else times.until[row],
        ),
        cells=cells,
        codes=tuple(code for code, _ in columns.wide.values()),
        amendments=(
            amendments_of(source, table, node, patients, columns.time, columns.known) if node.amends else None
        ),
        content=ids(view.column(node.content))[row].rename("content") if node.content else None,
        study=ids(view.column(node.study))[row].rename("study") if node.study else None,
        track=ids(view.column(node.track))[row].rename("track") if node.track else None,
    )


def _columns(source: SourceTables, table: str, node: NodeSpec) -> _Columns:
    """The columns that the spec names, else those of the format where it has them."""
    standard = set(source.schemas[table]) if source.is_event_table(table) else set()

    def named(name: str) -> str | None:
        return getattr(node, name) or (name if name in standard else None)

    value = None if node.columns else named("value")
    return _Columns(
        time=named("time"),
        known=named("known"),
        until=named("until"),
        code=None if node.columns else named("code"),
        value=value,
        unit=None if node.columns else named("unit"),
        words="text" if value == "value" and "text" in standard and node.text is None else None,
        wide=_wide_columns(source, table, node.columns or {}),
    )


def _wide_cells(view: TableView, kind: str, node: NodeSpec, columns: _Columns, valid: np.ndarray) -> _Cells:
    """The cells of a wide table that hold something, by column."""
    value, bad, bound = view.amounts(list(columns.wide), words="bounds" in node.model_fields_set)
    column, row = np.nonzero((~np.isnan(value) | bad) & valid)
    code = pl.Series([code for code, _ in columns.wide.values()], dtype=pl.String)[column]
    unit = pl.Series([unit for _, unit in columns.wide.values()], dtype=pl.String)[column]
    unit = unit.zip_with(unit != "", _spec_units(view.source.spec, code))
    place = column, row
    return _Cells(row, code.rename("code"), unit.rename("unit"), value[place], bad[place], bound[place])


def _long_cells(view: TableView, kind: str, node: NodeSpec, columns: _Columns, valid: np.ndarray) -> _Cells:
    """The rows of a long table that have a code; without a column of codes it is the node type's name."""
    source, name = view.source, columns.code
    codes = view.text(name) if name else pl.Series([kind]).new_from_index(0, len(view))
    if name and holds_fractions(dtype := view.column(name).dtype):
        count = codes.drop_nulls().n_unique()
        source.flag(f"{view.table}: column {name!r} holds {dtype}, {count} codes: {FRACTIONS}")
    view.refuse(codes.is_null().to_numpy(), "no code")
    row = np.flatnonzero(valid & codes.is_not_null().to_numpy())
    code = codes[row]
    unit = view.symbols(columns.unit)[row].fill_null("") if columns.unit else _spec_units(source.spec, code)
    value, bad, bound = np.full(len(row), np.nan), np.zeros(len(row), bool), np.zeros(len(row), np.int8)
    if columns.value:
        amounts = view.amount(columns.value, words="bounds" in node.model_fields_set)
        value, bad, bound = (column[row] for column in amounts)
    if columns.words:
        value, bound = _bounds_in_words(view.column(columns.words)[row], value, bound)
    return _Cells(row, code.rename("code"), unit.rename("unit"), value, bad, bound)


def _bounds_in_words(
    words: pl.Series, amount: np.ndarray, bound: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values and bounds of a format, with those that it holds in words: a bound, with its number or alone."""
    words = words.cast(pl.String)
    words = words.set(~words.str.contains(BOUND).fill_null(False), None)
    bare, side = split_bounds(words)
    cells, bad = number(bare.str.replace(",", ".", literal=True))
    found = cells.fill_null(np.nan).to_numpy()
    take = ~np.isnan(found) & ~bad.to_numpy() & (np.isnan(amount) | (amount == found))
    return np.where(take, found, amount), np.where(take, side.to_numpy(), bound).astype(np.int8)


def _wide_columns(source: SourceTables, table: str, columns: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Code and unit of each column of a wide table.

    Columns that fit a pattern come by name, so that their order in the file does not matter.
    """
    schema, meant = source.schemas[table], source.spec.used_columns(table)
    found: dict[str, tuple[str, str]] = {}
    for name, unit in columns.items():
        if name in schema or name.count("*") != 1:
            found[name] = (name, unit)
            continue
        start, end = name.split("*")
        fit = [c for c in sorted(schema) if c.startswith(start) and c.endswith(end) and len(c) >= len(name)]
        free = [c for c in fit if c not in meant and c not in columns]
        if not free:
            why = f"{fit[0]!r} fits {name!r}, but means something else" if fit else f"no column fits {name!r}"
            raise InputError(
                f"{table}: {why}; take the pattern out of columns = {{...}}, or write another one"
            )
        for column in free:
            found.setdefault(column, (column[len(start) : len(column) - len(end)], unit))
    seen: dict[str, str] = {}
    for column, (code, _) in found.items():
        if seen.setdefault(code, column) != column:
            raise InputError(f"{table}: columns {seen[code]!r} and {column!r} both have the code {code!r}")
    return found


def _spec_units(spec: GraphSpec, name: pl.Series) -> pl.Series:
    """The unit of each row's code where the tables have no units: that of [units], else none."""
    specs = {code: spec.unit(code) for code in name.unique()}
    units = {code: one.to for code, one in specs.items() if one is not None}
    return name.replace_strict(units, default="", return_dtype=pl.String) if units else name.str.slice(0, 0)


def _times(
    view: TableView, node: NodeSpec, patients: Patients, owner: np.ndarray, columns: _Columns
) -> _Times:
    """When each row happened and became known, and which rows say so.

    A bare date counts from its first second where it is judged by its day.
    """
    origin = patients.day_zero(owner)
    wrong = "is not days, ISO 8601 or within 125 years of day 0"
    if view.source.spec.table(view.table).time.format is not None:
        wrong = "is not written in the format of its table, or not within 125 years of day 0"
    if columns.time is None:  # untimed = "origin"
        at = end = pl.zeros(len(view), dtype=pl.Int64, eager=True)
    else:
        when = view.moment(columns.time, origin)
        at, end = when.at, when.end
        view.refuse(when.bad.to_numpy(), f"time {wrong}")
        if node.untimed == "origin":
            at, end = (each.fill_null(0).set(when.bad, None) for each in (at, end))
    view.refuse(at.is_null().to_numpy(), "no time")
    valid = at.is_not_null().to_numpy()
    begun, last = at.fill_null(0).to_numpy(), end.fill_null(0).to_numpy()
    if columns.known is None:
        return _Times(last, last, begun, valid)
    found = view.moment(columns.known, origin)
    view.refuse(found.bad.to_numpy(), f"known {wrong}")
    seen = found.end
    # a format says when something became known only where that is later
    if view.source.is_event_table(view.table):
        seen = seen.zip_with(seen.is_not_null() | found.bad, end)
    view.refuse(seen.is_null().to_numpy(), "no known time")
    valid &= seen.is_not_null().to_numpy()
    known = seen.fill_null(0).to_numpy()
    late = valid & (begun > known)
    view.refuse(late, "happened after it was known")
    return _Times(known, np.minimum(last, known), begun, valid & ~late)


def _ends(
    source: SourceTables,
    kind: str,
    view: TableView,
    until: str,
    patients: Patients,
    owner: np.ndarray,
    times: _Times,
) -> np.ndarray:
    """When each row's interval ended. An end that cannot be is no end: what began stays, and is counted."""
    when = view.moment(until, patients.day_zero(owner))
    end = when.end.fill_null(FOREVER).to_numpy()
    wrong = (when.bad.to_numpy() | (end < times.begun)) & times.valid
    if n := int(wrong.sum()):
        source.flags.append(f"{kind}: {n} end(s) before the beginning or not a time; taken as not known")
    return np.where(wrong, FOREVER, end)
