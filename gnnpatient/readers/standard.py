"""What a standard format gives, whichever it is: people, and tables of events in one set of columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from gnnpatient.errors import InputError

Schema = Mapping[str, Any]  # names and types; beartype cannot check the types of polars
RESERVED_COLUMNS = frozenset(  # what every format calls its own columns of events, beside time and code
    {"id", "time_bare", "known", "known_bare", "until", "until_bare", "value", "unit", "text", "refused"}
)
_DECADES = 20  # years: an end so long after everything else is a filler for "still open"
SIGN, POWER = r"^\s*(<=?|>=?|≤|≥)\s*", r"(?:[eE][+-]?[0-9]{1,2})?"
_CLEAR = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+|0,[0-9]+|[0-9]+,(?:[0-9]{1,2}|[0-9]{4,})"
BOUND = rf"{SIGN}([+-]?(?:{_CLEAR}){POWER})\s*$"
"""A number in words that is known from one side only, as in <5. A comma is decimal in <0,5; in <1,000 nobody
knows what it is, and <LOD holds no number."""


@dataclass(frozen=True, eq=False)
class StandardTables:
    """A folder of a standard format as tables: the same columns, whichever format it is.

    Attributes
    ----------
    people : polars.DataFrame
        A row a person: `id` (String), then what the format says of a person, as String, Float64 or
        Datetime("us"). A Datetime column X may have a Boolean beside it, X_bare: a date without a clock time.
        `birth` is the moment of birth where it is known.
    tables : mapping of str to polars.LazyFrame
        By the format's own name, a row an event: `id` (String), `time` (Datetime, null = untimed), `code`
        (String), and where the format has them `time_bare`, `known`, `known_bare`, `until`, `until_bare`,
        `value` (Float64), `unit` (String), `text` (String), and any column of the source by its own name.
        `refused` (String): why this row cannot be used; null = it can. `choice` (String): the column that a
        spec may choose a refused row by, in `where`; null = it cannot be used at all.
    flags : tuple of str
        What was noticed while the folder was read, for `check`.
    parents : polars.DataFrame or None
        Code hierarchies that come with the format: columns `child`, `parent` (codes as in `tables`).
    utc : bool
        Whether clock times are in UTC; else they are in the time zone that the spec gives to their table, as
        bare dates are in every format.
    periods : polars.DataFrame or None
        When a person is observed, a row a period: `id`, `start`, `end` (midnight is a bare date).
    decides : tuple of str
        Those of the flags that may decide a result.
    """

    people: pl.DataFrame
    tables: Mapping[str, pl.LazyFrame]
    flags: tuple[str, ...] = ()
    parents: pl.DataFrame | None = None
    utc: bool = False
    periods: pl.DataFrame | None = None
    decides: tuple[str, ...] = ()


def latest_ordinary(times: Sequence[pl.LazyFrame]) -> datetime | None:
    """The moment after which no end can be meant: 20 years after the year in which the data end.

    Of the latest hundredth of all times, what lies decades after the others is no part of the data.

    Parameters
    ----------
    times : sequence of polars.LazyFrame
        Of each table what happened when, a column `time` (Datetime, null = untimed).

    Returns
    -------
    datetime or None
        None where there are no data.
    """
    years = [
        rows.select(pl.col("time").dt.year().alias("year")).drop_nulls().group_by("year").len()
        for rows in times
    ]
    if not years:
        return None
    count = (
        pl.concat(years).group_by("year").agg(pl.col("len").sum()).sort("year").collect(engine="streaming")
    )
    if not len(count):
        return None
    most = count.filter(pl.col("len").cum_sum() >= 0.99 * pl.col("len").sum())["year"][0]
    last = count.filter(pl.col("year") <= most + _DECADES)["year"][-1]
    return datetime(last + _DECADES + 1, 1, 1)


def refuse_reserved(names: Iterable[str], where: Path, reserved: frozenset[str] = RESERVED_COLUMNS) -> None:
    """Refuse a source with a column of its own that is named as one that every format gets here.

    Parameters
    ----------
    names : iterable of str
        The columns of the source.
    where : Path
        The file, for the message.
    reserved : frozenset of str
        Names that are taken.

    Raises
    ------
    InputError
        If a name is reserved.
    """
    if both := reserved.intersection(names):
        raise InputError(
            f"{where}: column {min(both)!r} has a name that is used here; rename it in the source"
        )


def one_moment_each(rows: pl.DataFrame, what: str, whom: str) -> pl.DataFrame:
    """One moment a person; a bare date gives way to a clock time on its day.

    Parameters
    ----------
    rows : polars.DataFrame
        Columns person (by any name), `time`, `time_bare`; no time is null.
    what, whom : str
        What the rows are of, and what a person is called, for the message.

    Returns
    -------
    polars.DataFrame
        The same columns, a row a person.

    Raises
    ------
    InputError
        If two moments of a person do not agree, with the number of such persons.
    """
    person, bare = rows.columns[0], pl.col("time_bare")
    clock = (~bare).any().over(person, pl.col("time").dt.date())
    rows = rows.unique().filter(~bare | ~clock)
    if twice := rows.filter(pl.len().over(person) > 1)[person].n_unique():
        raise InputError(f"{what}: {twice} {whom}(s) with two different times; keep one")
    return rows
