"""Inpatient stays, and ends that mean "still open"."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from gnnpatient.readers.omop.files import Table
from gnnpatient.readers.omop.layout import LAYOUTS, STAYS


def begin_times(events: dict[str, Table]) -> list[pl.LazyFrame]:
    """When what is in the tables began, without deaths.

    Parameters
    ----------
    events : dict of str to Table
        The clinical tables, by name.

    Returns
    -------
    list of polars.LazyFrame
        A column `time` each.
    """
    tables = [(LAYOUTS[name], table) for name, table in events.items() if name != "death"]
    return [table.rows.select(table.moment(layout.start)[0].alias("time")) for layout, table in tables]


def without_fillers(time: pl.Expr, limit: datetime | None) -> pl.Expr:
    """An end, null where it is a filler for "still open".

    Parameters
    ----------
    time : polars.Expr
        Datetime.
    limit : datetime or None
        After which no end can be meant; None = there is no such.

    Returns
    -------
    polars.Expr
        Datetime.
    """
    return time if limit is None else pl.when(time <= limit).then(time)


def filler_flags(events: dict[str, Table], periods: Table | None, limit: datetime | None) -> list[str]:
    """Flags for the ends that are fillers.

    Parameters
    ----------
    events : dict of str to Table
        The clinical tables, by name.
    periods : Table or None
        observation_period.
    limit : datetime or None
        After which no end can be meant; None = there is no such.

    Returns
    -------
    list of str
        One a table that has any.
    """
    ends = [(table, LAYOUTS[name].end) for name, table in events.items() if LAYOUTS[name].end]
    ends += [] if periods is None else [(periods, "observation_period_end")]
    flags = []
    for table, stem in ends:
        if limit is None or not {f"{stem}_date", f"{stem}_datetime"} & {*table.types}:
            continue
        if fillers := table.rows.select((table.moment(stem)[0] > limit).sum()).collect().item():
            what = "observed to the last day of the data" if table is periods else "taken as not known"
            flags.append(f"{table.file.name}: {fillers} end(s) lie decades after all other dates; {what}")
    return flags


@dataclass(frozen=True, eq=False)
class Stays:
    """Where the ends of inpatient stays are looked up, as a join may turn rows over.

    Attributes
    ----------
    named : polars.DataFrame
        Every visit: `key` (person and visit), `stay` (whether it is inpatient), `end`.
    dated : polars.DataFrame
        Of conditions without a visit, those in a stay: `key` (person and day), `end`.
    """

    named: pl.DataFrame  # every visit: key (person and visit), stay, end
    dated: pl.DataFrame  # of conditions without a visit, those in a stay: key (person and day), end

    def end(self, table: Table) -> tuple[pl.Expr, pl.Expr]:
        """The end of the stay that each condition is of.

        Parameters
        ----------
        table : Table
            The conditions.

        Returns
        -------
        end : polars.Expr
            Datetime; null = it is of none, or that stay has no end.
        endless : polars.Expr
            Boolean: it is of a stay without an end.
        """
        ends: list[pl.Expr] = []
        endless: list[pl.Expr] = []
        named, dated = _by_visit(table), _by_day(table)
        named_there = named.is_in(self.named["key"].implode()).fill_null(False)
        for key, where, found in (
            (named, named_there, self.named.filter("stay")),
            (dated, ~named_there, self.dated),
        ):
            end = key.replace_strict(found["key"], found["end"], default=None, return_dtype=pl.Datetime("us"))
            ends.append(pl.when(where).then(end))
            open_ = found.filter(pl.col("end").is_null())["key"]
            endless.append(where & key.is_in(open_.implode()).fill_null(False))
        return pl.coalesce(ends), pl.any_horizontal(endless)


def _by_visit(table: Table) -> pl.Expr:
    return pl.concat_str([table.ident("person_id"), table.ident("visit_occurrence_id")], separator=" ")


def _by_day(table: Table) -> pl.Expr:
    day = table.moment("condition_start")[0].dt.to_string("%Y-%m-%d")
    return pl.concat_str([table.ident("person_id"), day], separator=" ")


def inpatient_stays(events: dict[str, Table], limit: datetime | None) -> tuple[Stays | None, list[str]]:
    """The visits by person and id, and the inpatient stays that conditions without a visit lie in.

    Parameters
    ----------
    events : dict of str to Table
        The clinical tables, by name.
    limit : datetime or None
        After which no end can be meant; None = there is no such.

    Returns
    -------
    stays : Stays or None
        None without a table of visits.
    flags : list of str
        How many conditions have no visit.
    """
    visits, conditions = events.get("visit_occurrence"), events.get("condition_occurrence")
    if visits is None:
        return None, []
    every = _visits(visits, limit)
    named = every.drop_nulls("key").group_by("key")
    named_stays = named.agg(pl.col("stay").any(), pl.col("end").filter("stay").max())
    if conditions is None:
        return Stays(named_stays, pl.DataFrame(schema={"key": pl.String, "end": pl.Datetime("us")})), []
    lost = ~_by_visit(conditions).is_in(named_stays["key"].implode()).fill_null(False)
    day = conditions.moment("condition_start")[0].dt.date()
    wanted = conditions.rows.filter(lost).select(
        conditions.ident("person_id").alias("id"), _by_day(conditions).alias("key"), day.alias("day")
    )
    rows = wanted.drop_nulls().collect(engine="streaming")
    dated = _stays_of_days(every, rows)
    inside = rows["key"].is_in(dated["key"].implode()).sum()
    flags = [
        f"{conditions.file.name}: {n} code(s) without a visit of that person {what}"
        for n, what in (
            (inside, "lie in an inpatient stay by their day; known at its end"),
            (len(rows) - inside, "lie in no inpatient stay; known at their time"),
        )
        if n
    ]
    return Stays(named_stays, dated), flags


def _visits(visits: Table, limit: datetime | None) -> pl.DataFrame:
    """Every visit: id of the person, key, whether it is a stay, start, end."""
    moments = {}
    for name in ("start", "end"):
        there = {f"visit_{name}_date", f"visit_{name}_datetime"} & set(visits.types)
        moments[name] = visits.moment(f"visit_{name}")[0] if there else pl.lit(None).cast(pl.Datetime("us"))
    moments["end"] = without_fillers(moments["end"], limit)
    return visits.rows.select(
        visits.ident("person_id").alias("id"),
        _by_visit(visits).alias("key"),
        visits.concept("visit_concept_id").is_in(STAYS).fill_null(False).alias("stay"),
        **moments,
    ).collect(engine="streaming")


def _stays_of_days(visits: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The end of the stay that a day lies in, by key: of several the last one; a stay without an end reaches
    to the next one."""
    first, last = pl.col("start").dt.date(), pl.col("end").dt.date()
    stays = visits.filter("stay").drop_nulls(["id", "start"]).sort("id", "start").select("id", "start", "end")
    until = pl.coalesce(last, first.shift(-1).over("id") - pl.duration(days=1), pl.date(9999, 12, 31))
    stays = stays.with_columns(first.alias("first"), until.alias("last"))
    dated = rows.unique().join(stays, on="id").filter(pl.col("day").is_between("first", "last"))
    return dated.group_by("key").agg(pl.col("end").max())
