"""Persons: birth, demographics, death, and when they were observed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.readers.dates import end_of_day, is_midnight
from gnnpatient.readers.omop.concepts import Names
from gnnpatient.readers.omop.files import Table, as_moment
from gnnpatient.readers.omop.stays import begin_times
from gnnpatient.readers.standard import one_moment_each


def persons(person: Table, names: Names) -> tuple[pl.DataFrame, list[str]]:
    """A row a person: id, birth, gender, race and ethnicity.

    Parameters
    ----------
    person : Table
        The table person.
    names : Names
        Of concepts.

    Returns
    -------
    people : polars.DataFrame
        By `id`.
    flags : list of str
        How many births are no date.

    Raises
    ------
    InputError
        If there is no row, a person without an id, or one with two rows that differ.
    """
    if "person_id" not in person.types:
        raise InputError(f"{person.file}: no column 'person_id'; OMOP has it there")
    birth, written = _birth(person)
    columns = [
        person.ident("person_id").alias("id"),
        birth.alias("birth"),
        is_midnight(birth).alias("birth_bare"),
        written.alias("written"),
    ]
    for characteristic in ("gender", "race", "ethnicity"):
        concept = person.concept(f"{characteristic}_concept_id")
        word = pl.coalesce(
            names.of(concept), person.word(f"{characteristic}_source_value"), concept.cast(pl.String)
        )
        columns.append(word.alias(characteristic))
    people = person.rows.unique().select(columns).collect()
    if not len(people):
        raise InputError(f"{person.file}: no rows")
    if missing := people["id"].null_count():
        raise InputError(
            f"{person.file}: column 'person_id' holds {missing} null(s); every person needs an id"
        )
    if repeated := people.filter(pl.len().over("id") > 1)["id"].n_unique():
        raise InputError(f"{person.file}: {repeated} person(s) with two rows that differ; keep one")
    lost = len(people.filter("written", pl.col("birth").is_null()))
    flags = [f"{person.file.name}: {lost} birth(s) that are no date: taken as missing"] * (lost > 0)
    return people.drop("written"), flags


def _birth(person: Table) -> tuple[pl.Expr, pl.Expr]:
    """The moment of birth, null = it is not known; and where something is written of it."""
    year, month, day = (person.number(f"{part}_of_birth").cast(pl.Int64) for part in ("year", "month", "day"))
    day = pl.when(month.is_null()).then(1).otherwise(day.fill_null(15))
    date = pl.format("{}-{}-{}", *(n.cast(pl.String).str.zfill(2) for n in (year, month.fill_null(7), day)))
    birth = as_moment(date)
    written = year.is_not_null()
    if "birth_datetime" in person.types:
        birth = pl.coalesce(person.moment("birth")[0], birth)
        written = written | person.word("birth_datetime").is_not_null()
    return birth, written


def deaths(tables: dict[str, pl.LazyFrame], folder: Path) -> pl.DataFrame | None:
    """When each person died.

    Parameters
    ----------
    tables : dict of str to polars.LazyFrame
        The clinical tables in the columns of every format.
    folder : Path
        The folder, for the message.

    Returns
    -------
    polars.DataFrame or None
        `id`, `death`, `death_bare`; None without a table of deaths.

    Raises
    ------
    InputError
        If a person has two deaths.
    """
    if "death" not in tables:
        return None
    rows = tables["death"].filter(pl.col("refused").is_null()).select("id", "time", "time_bare").collect()
    rows = one_moment_each(rows.drop_nulls("time"), f"{folder}: table death", "person")
    return rows.rename({"time": "death", "time_bare": "death_bare"})


def observation_periods(
    periods: Table | None, events: dict[str, Table], limit: datetime | None
) -> pl.DataFrame | None:
    """Id, start and end of every observation period; one that is still open ends with the data.

    Parameters
    ----------
    periods : Table or None
        The table observation_period.
    events : dict of str to Table
        The clinical tables, by name.
    limit : datetime or None
        After which no end can be meant; None = there is no such.

    Returns
    -------
    polars.DataFrame or None
        `id`, `start`, `end`; None without that table.

    Raises
    ------
    InputError
        If a column is missing.
    """
    if periods is None:
        return None
    times = []
    for name in ("start", "end"):
        stem = f"observation_period_{name}"
        if "person_id" not in periods.types or not {f"{stem}_date", f"{stem}_datetime"} & {*periods.types}:
            raise InputError(f"{periods.file}: no column 'person_id' or no {stem}_date; OMOP has them there")
        times.append(periods.moment(stem)[0].alias(name))
    rows = periods.rows.select(periods.ident("person_id").alias("id"), *times).drop_nulls("id").collect()
    if limit is not None and (rows["end"] > limit).any():
        ends = [rows.lazy().select(time="end"), *begin_times(events)]
        last = pl.concat([one.filter(pl.col("time") <= limit).max() for one in ends]).max().collect().item()
        rows = rows.with_columns(pl.when(pl.col("end") > limit).then(last).otherwise("end").alias("end"))
    return rows


def observed_span(periods: pl.DataFrame | None) -> pl.DataFrame | None:
    """Of each person the first start and the last end.

    Parameters
    ----------
    periods : polars.DataFrame or None
        Of `observation_periods`.

    Returns
    -------
    polars.DataFrame or None
        `id`, `observation_start`, `observation_end`, and of both whether they are bare dates.
    """
    if periods is None:
        return None
    rows = periods.group_by("id").agg(
        pl.col("start").min().alias("observation_start"), pl.col("end").max().alias("observation_end")
    )
    start, end = pl.col("observation_start"), pl.col("observation_end")
    return rows.with_columns(observation_start_bare=is_midnight(start), observation_end_bare=is_midnight(end))


def last_moments(tables: dict[str, pl.LazyFrame]) -> pl.DataFrame | None:
    """When the last event of each person has passed.

    Parameters
    ----------
    tables : dict of str to polars.LazyFrame
        The clinical tables in the columns of every format.

    Returns
    -------
    polars.DataFrame or None
        `id`, `last`; None where there is no table.
    """
    passed = end_of_day(pl.col("time"), pl.col("time_bare")).alias("last")
    parts = [rows.filter(pl.col("refused").is_null()).select("id", passed) for rows in tables.values()]
    if not parts:
        return None
    return pl.concat(parts).group_by("id").agg(pl.col("last").max()).collect(engine="streaming")
