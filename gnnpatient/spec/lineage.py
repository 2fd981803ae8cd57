"""Where the content of a column comes from, through the joins of [tables], and joins that cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gnnpatient.errors import InputError
from gnnpatient.spec.tables import JoinSpec, TableSpec

Cell = tuple[str, str]
"""A table and a column of it."""


def join_of(tables: Mapping[str, TableSpec], cell: Cell) -> JoinSpec | None:
    """The join that gives a table a column.

    Parameters
    ----------
    tables : mapping of str to TableSpec
        [tables] of a spec.
    cell : tuple of str and str
        The table and the column.

    Returns
    -------
    JoinSpec or None
        None where the column is the table's own.
    """
    table, column = cell
    joins = tables[table].join if table in tables else ()
    return next((join for join in joins if column in join.columns), None)


def home(tables: Mapping[str, TableSpec], cell: Cell) -> Cell:
    """The table whose own column it is, and its name there.

    Parameters
    ----------
    tables : mapping of str to TableSpec
        [tables] of a spec, whose joins have been checked.
    cell : tuple of str and str
        A table and a column, joined or its own.

    Returns
    -------
    tuple of str and str
    """
    while join := join_of(tables, cell):
        cell = join.table, join.columns[cell[1]]
    return cell


def made_of(tables: Mapping[str, TableSpec], cell: Cell) -> set[Cell]:
    """The own columns that decide what is in a column: where it comes from, and the keys on the way.

    Parameters
    ----------
    tables : mapping of str to TableSpec
        [tables] of a spec, whose joins have been checked.
    cell : tuple of str and str
        A table and a column, joined or its own.

    Returns
    -------
    set of tuple of str and str
    """
    if (join := join_of(tables, cell)) is None:
        return {cell}
    found = made_of(tables, (join.table, join.columns[cell[1]]))
    for here, there in join.by.items():
        found |= made_of(tables, (cell[0], here)) | made_of(tables, (join.table, there))
    return found


def roots(tables: Mapping[str, TableSpec], cell: Cell) -> set[Cell]:
    """The own columns of a table that decide what is in one of its columns: itself, or the keys of its join.

    Parameters
    ----------
    tables : mapping of str to TableSpec
        [tables] of a spec, whose joins have been checked.
    cell : tuple of str and str
        A table and a column, joined or its own.

    Returns
    -------
    set of tuple of str and str
    """
    if (join := join_of(tables, cell)) is None:
        return {cell}
    return {root for here in join.by for root in roots(tables, (cell[0], here))}


def joined_columns(tables: Mapping[str, TableSpec], table: str) -> Iterator[str]:
    """The columns that a table gains.

    Parameters
    ----------
    tables : mapping of str to TableSpec
        [tables] of a spec.
    table : str
        The table.

    Yields
    ------
    str
    """
    for join in tables[table].join if table in tables else ():
        yield from join.columns


def check_joins(tables: Mapping[str, TableSpec], *, has_format: bool) -> None:
    """Refuse joins that cannot be: of a format's events, of a table with itself or in a ring, names twice.

    Parameters
    ----------
    tables : mapping of str to TableSpec
        [tables] of a spec.
    has_format : bool
        Whether the folder is in a standard format.

    Raises
    ------
    InputError
        Naming the table, the join and what to do.
    """
    for name, spec in tables.items():
        place = f'tables."{name}".join'
        if spec.join and has_format:
            raise InputError(f"{place}: the tables of a format are joined by its reader; remove join")
        gained = [column for join in spec.join for column in join.columns]
        for i, join in enumerate(spec.join):
            before = {column for earlier in spec.join[:i] for column in earlier.columns}
            if twice := before & set(join.columns):
                column = min(twice)
                raise InputError(
                    f"{place}: {column!r} is gained twice; rename one, as in columns = "
                    f'{{ {column}_2 = "{join.columns[column]}" }}'
                )
            if later := set(join.by) & (set(gained) - before):
                raise InputError(
                    f"{place}: by names {min(later)!r}, which the table gains here or later only; join by a "
                    "column that is there before"
                )
        _check_ring(tables, name)


def _check_ring(tables: Mapping[str, TableSpec], start: str) -> None:
    """Refuse a table that gains columns from itself, through whichever tables."""
    ways: list[tuple[str, ...]] = [(start,)]
    while ways:
        way = ways.pop()
        for join in tables[way[-1]].join if way[-1] in tables else ():
            if join.table == start:
                ring = " from ".join((*way, start))
                raise InputError(f'tables."{start}".join: a ring of joins, {ring}; take one of them out')
            if join.table not in way:
                ways.append((*way, join.table))
