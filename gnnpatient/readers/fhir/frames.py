"""Columns of rows and times, as every table of FHIR has them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from gnnpatient.readers.dates import end_of_day, parse_iso


def column(name: str, cells: list[Any], dtype: Any = pl.String) -> pl.Series:
    """A column; half a surrogate pair, which JSON may hold and text may not, becomes a question mark.

    Parameters
    ----------
    name : str
        Its name.
    cells : list
        Its cells; None = missing.
    dtype : polars.DataType
        Its type; default String.

    Returns
    -------
    polars.Series
        The column.
    """
    try:
        return pl.Series(name, cells, dtype=dtype)
    except UnicodeEncodeError:
        cleaned = [c if c is None else c.encode("utf-8", "replace").decode() for c in cells]
        return pl.Series(name, cleaned, dtype=dtype)


def day_end(name: str) -> pl.Expr:
    """The last second of a bare date, any other time as it is.

    Parameters
    ----------
    name : str
        A column of times that has `<name>_bare` beside it.

    Returns
    -------
    polars.Expr
        Datetime.
    """
    return end_of_day(pl.col(name), pl.col(f"{name}_bare"))


def until_as_known(frame: pl.DataFrame, where: pl.Expr) -> pl.DataFrame:
    """`until` as `known` at some rows, and no interval at all.

    Parameters
    ----------
    frame : polars.DataFrame
        Rows with `known`, `until` and both `_bare`.
    where : polars.Expr
        Boolean: the rows.

    Returns
    -------
    polars.DataFrame
        The same columns.
    """
    return frame.with_columns(
        pl.when(where).then(pl.col("until")).otherwise(pl.col("known")).alias("known"),
        pl.when(where).then(pl.col("until_bare")).otherwise(pl.col("known_bare")).alias("known_bare"),
    ).with_columns(
        pl.lit(None, dtype=pl.Datetime("us")).alias("until"),
        pl.lit(None, dtype=pl.Boolean).alias("until_bare"),
    )


def latest_times(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The latest of one kind of time of each person, in rows that can be used.

    Parameters
    ----------
    frame : polars.DataFrame
        A table of events.
    name : str
        `time`, `known` or `until`.

    Returns
    -------
    polars.DataFrame
        `id`, `last`, `last_bare`.
    """
    rows = frame.filter(pl.col("refused").is_null() & pl.col(name).is_not_null())
    rows = rows.select("id", pl.col(name).alias("last"), pl.col(f"{name}_bare").alias("last_bare"))
    return rows.group_by("id").agg(at_latest("last"), at_latest("last_bare"))


def at_latest(name: str) -> pl.Expr:
    """A column of the row in which `last` ends latest, within a group.

    Parameters
    ----------
    name : str
        The column.

    Returns
    -------
    polars.Expr
        One cell a group.
    """
    return pl.col(name).get(day_end("last").arg_max())


def utc_times(cells: pl.Series, count: Counter[str]) -> tuple[pl.Series, pl.Series]:
    """FHIR dateTimes as UTC. A year or a month stands for its last day.

    Parameters
    ----------
    cells : polars.Series
        String; null = missing.
    count : Counter of str
        Gets how many stand for a whole month or year, and how many clock times have no zone.

    Returns
    -------
    stamp : polars.Series
        Datetime("us"); null = missing or not a time.
    bare : polars.Series
        Boolean: a date without a clock time; null where `stamp` is.
    """
    if cells.null_count() == len(cells):  # as of every type that a folder does not have
        nulls = [None] * len(cells)
        return pl.Series(cells.name, nulls, pl.Datetime("us")), pl.Series(cells.name, nulls, pl.Boolean)
    cells = cells.set(cells.str.contains(" ", literal=True).fill_null(False), None)  # FHIR has a T there
    part = cells.str.contains(r"^\d{4}(-\d\d)?$").fill_null(False)
    if part.any():  # a year ends with its December
        month = cells.set(~part, None).str.replace(r"^\d{4}$", "${0}-12")
        first_of = (month + "-01").str.to_date("%Y-%m-%d", strict=False)
        last = first_of.dt.month_end().dt.to_string("%Y-%m-%d")
        cells = cells.zip_with(~part, last)
        count["date(s) without day or month stand for their last day"] += last.count()
    local, ahead, bare = parse_iso(cells)
    stamp = (local - (ahead * 60_000_000).cast(pl.Duration("us"))).fill_null(local)
    clock = stamp.is_not_null() & ~bare
    count["time(s) without a zone read as UTC"] += int((ahead.is_null() & clock).sum())
    return stamp, bare.set(stamp.is_null(), None)
