"""Columns that a table gains from another one: many rows to one, keys compared as ids are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from gnnpatient.errors import InputError, near
from gnnpatient.ingest.audit import quoted
from gnnpatient.readers.tables import is_plain
from gnnpatient.spec.tables import JoinSpec

ROW = "gnnpatient row"
"""The column with the position of each row in its table."""
KEY = "gnnpatient key {}"
"""The columns of a dictionary with its keys."""


@dataclass(frozen=True, eq=False)
class Dictionary:
    """The rows of the other table of a join.

    Attributes
    ----------
    frame : polars.DataFrame
        Keys as strings, in columns `KEY`, and the columns gained under the name that they get: one row a key.
    row : polars.Series
        Position of each row in its table.
    repeats : polars.Series
        Positions of the rows that repeat another one.
    keyless : polars.Series
        Positions of the rows without a key.
    """

    frame: pl.DataFrame
    row: pl.Series  # (key,) UInt32
    repeats: pl.Series  # (row,) UInt32
    keyless: pl.Series  # (row,) UInt32


def written_id(name: str, dtype: Any) -> pl.Expr:
    """A column as ids are compared: as text, whole numbers without the `.0` of a column with gaps.

    Parameters
    ----------
    name : str
        The column.
    dtype : polars.DataType
        Its type.

    Returns
    -------
    polars.Expr
        String; null = empty.

    Examples
    --------
    >>> pl.DataFrame({"id": [12.0, 1.5, None]}).select(written_id("id", pl.Float64))["id"].to_list()
    ['12', '1.5', None]
    """
    cell = pl.col(name)
    if dtype == pl.Binary:  # some writers leave text without its type
        cell = cell.cast(pl.String)
    elif dtype.is_decimal():
        cell = cell.cast(pl.String).str.replace(r"\.0*$", "")
    elif dtype.is_float():
        cell = cell.fill_nan(None)
        whole = cell.cast(pl.Int64, strict=False)
        cell = pl.when(whole.cast(dtype) == cell).then(whole.cast(pl.String)).otherwise(cell.cast(pl.String))
    else:
        cell = cell.cast(pl.String)
    return pl.when(cell != "").then(cell).alias(name)


def check_columns(table: str, schema: Mapping[str, Any], join: JoinSpec, other: Mapping[str, Any]) -> None:
    """Refuse a join whose keys or columns are not there, or whose columns the table has already.

    Parameters
    ----------
    table : str
        The table that gains columns.
    schema : mapping of str to polars.DataType
        Its columns so far.
    join : JoinSpec
        What it gains.
    other : mapping of str to polars.DataType
        The columns of the other table.

    Raises
    ------
    InputError
        Naming the column and what to do.
    """
    for place, names, columns in (
        (table, join.by, schema),
        (join.table, join.by.values(), other),
        (join.table, join.columns.values(), other),
    ):
        for name in names:
            if name not in columns:
                raise InputError(f"{place}: no column {name!r}, which join needs{near(name, columns)}")
            if not is_plain(columns[name]) or columns[name] == pl.Duration:
                raise InputError(
                    f"{place}: column {name!r} holds {columns[name]}; write one plain value a cell"
                )
    for new, old in join.columns.items():
        if new in schema:
            raise InputError(
                f"{table}: column {new!r} is there already, so it cannot come from {join.table} as well; "
                f'rename it, as in columns = {{ {new}_2 = "{old}" }}'
            )


def read_dictionary(
    rows: pl.LazyFrame, schema: Mapping[str, Any], own: Iterable[str], join: JoinSpec
) -> Dictionary:
    """The rows of the other table of a join: each key once.

    Parameters
    ----------
    rows : polars.LazyFrame
        The other table with the position of each row, ROW.
    schema : mapping of str to polars.DataType
        The types of its columns.
    own : iterable of str
        The columns that it does not gain itself; rows equal in all of them are one.
    join : JoinSpec
        The key and the columns gained.

    Returns
    -------
    Dictionary

    Raises
    ------
    InputError
        When a key has two different rows.
    """
    keys = [written_id(old, schema[old]).alias(KEY.format(i)) for i, old in enumerate(join.by.values())]
    gained = [pl.col(old).alias(new) for new, old in join.columns.items()]
    frame = rows.select(ROW, *keys, *gained).collect(engine="streaming")
    names = [KEY.format(i) for i in range(len(join.by))]
    full = pl.all_horizontal(pl.col(names).is_not_null())
    keyless, frame = frame.filter(~full)[ROW], frame.filter(full)
    repeats = frame[ROW].clear()
    twice = frame.filter(pl.struct(names).is_duplicated())
    if len(twice):
        whole = rows.filter(pl.col(ROW).is_in(twice[ROW].implode()))
        unique = whole.collect(engine="streaming").unique(list(own), keep="first", maintain_order=True)
        first = unique[ROW].implode()
        _check_once(twice.filter(pl.col(ROW).is_in(first)), names, join)
        repeats = twice.filter(~pl.col(ROW).is_in(first))[ROW]
        frame = frame.filter(~pl.col(ROW).is_in(repeats.implode()))
    return Dictionary(frame.drop(ROW), frame[ROW], repeats, keyless)


def _check_once(rows: pl.DataFrame, names: list[str], join: JoinSpec) -> None:
    """Refuse rows that differ and have one key."""
    differ = rows.filter(pl.struct(names).is_duplicated())
    if not len(differ):
        return
    first = differ.filter(pl.all_horizontal(pl.col(name) == differ[name][0] for name in names))
    key = ", ".join(
        f"{old} = {quoted(differ[name][0])}" for old, name in zip(join.by.values(), names, strict=True)
    )
    lines = " and ".join(str(row + 2) for row in first[ROW][:2])
    count = differ.select(names).n_unique()
    raise InputError(
        f"{join.table}: {key} has {len(first)} rows that differ, lines {lines}; {count} key(s) like that; a "
        "join takes one row a key: name one more column in by, or keep one row of each"
    )


def with_columns(
    rows: pl.LazyFrame, schema: Mapping[str, Any], join: JoinSpec, found: Dictionary, wanted: Iterable[str]
) -> pl.LazyFrame:
    """Rows with some of the columns that a join gives them, in the same order.

    Parameters
    ----------
    rows : polars.LazyFrame
        The rows, with the columns of the key.
    schema : mapping of str to polars.DataType
        The types of these.
    join : JoinSpec
        What they gain.
    found : Dictionary
        The rows of the other table.
    wanted : iterable of str
        Which of the columns.

    Returns
    -------
    polars.LazyFrame
        Null where a row has no key, or one that the other table lacks.
    """
    names = [KEY.format(i) for i in range(len(join.by))]
    keys = [written_id(here, schema[here]).alias(name) for name, here in zip(names, join.by, strict=True)]
    other = found.frame.lazy().select(*names, *wanted)
    joined = rows.with_columns(keys).join(other, on=names, how="left", maintain_order="left")
    return joined.drop(names)


def count_unmatched(
    rows: pl.LazyFrame, schema: Mapping[str, Any], join: JoinSpec, found: Dictionary
) -> tuple[int, int, str]:
    """How many rows gain nothing.

    Parameters
    ----------
    rows : polars.LazyFrame
        The rows, with the columns of the key.
    schema : mapping of str to polars.DataType
        The types of these.
    join : JoinSpec
        What they gain.
    found : Dictionary
        The rows of the other table.

    Returns
    -------
    lost : int
        Rows whose key the other table lacks.
    keyless : int
        Rows without a key.
    example : str
        A key that the other table lacks, "" where there is none.
    """
    names = [KEY.format(i) for i in range(len(join.by))]
    keys = [written_id(here, schema[here]).alias(name) for name, here in zip(names, join.by, strict=True)]
    counts = rows.select(keys).group_by(names).len("gnnpatient rows").collect(engine="streaming")
    full = pl.all_horizontal(pl.col(names).is_not_null())
    keyless = int(counts.filter(~full)["gnnpatient rows"].sum())
    lost = counts.filter(full).join(found.frame.select(names), on=names, how="anti")
    example = ", ".join(map(quoted, lost.select(names).sort(names).row(0))) if len(lost) else ""
    return int(lost["gnnpatient rows"].sum()), keyless, example
