"""OMOP CDM 5.4: a folder with a parquet or CSV file a table, codes named by their concepts."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
import pyarrow
import pyarrow.csv

from gnnpatient.errors import InputError
from gnnpatient.readers.meds import DOOR, Schema, settle, taken
from gnnpatient.readers.standard import StandardTables, latest_ordinary
from gnnpatient.readers.tables import (
    BOUND,
    FRACTIONS,
    calendar,
    census,
    end_of_day,
    fractions,
    unclosed,
)
from gnnpatient.spec.tables import TableSpec


@dataclass(frozen=True)
class Layout:
    """Which columns of one CDM table say what."""

    prefix: str
    start: str  # of the names <start>_date and <start>_datetime
    end: str = ""
    concept: tuple[str, ...] = ()  # the first that is not 0 counts
    source: str = ""  # what stands for a concept that is missing or 0
    value: str = ""
    unit: tuple[str, str] = ("", "")  # concept, source value
    text: tuple[str, ...] = ()  # the first that is not empty counts


_VALUE = "value_as_number"
_UNIT = ("unit_concept_id", "unit_source_value")
LAYOUTS = {
    "visit_occurrence": Layout(
        "VISIT", "visit_start", "visit_end", ("visit_concept_id",), "visit_source_value"
    ),
    "condition_occurrence": Layout(
        "CONDITION", "condition_start", "condition_end", ("condition_concept_id",), "condition_source_value"
    ),
    "drug_exposure": Layout(
        "DRUG",
        "drug_exposure_start",
        "drug_exposure_end",
        ("drug_concept_id",),
        "drug_source_value",
        value="quantity",
        unit=("", "dose_unit_source_value"),
    ),
    "measurement": Layout(
        "MEASUREMENT",
        "measurement",
        concept=("measurement_concept_id",),
        source="measurement_source_value",
        value=_VALUE,
        unit=_UNIT,
        text=("value_as_string", "value_source_value"),
    ),
    "observation": Layout(
        "OBSERVATION",
        "observation",
        concept=("observation_concept_id",),
        source="observation_source_value",
        value=_VALUE,
        unit=_UNIT,
        text=("value_as_string", "value_source_value"),
    ),
    "procedure_occurrence": Layout(
        "PROCEDURE", "procedure", concept=("procedure_concept_id",), source="procedure_source_value"
    ),
    "device_exposure": Layout(
        "DEVICE",
        "device_exposure_start",
        "device_exposure_end",
        ("device_concept_id",),
        "device_source_value",
    ),
    "note": Layout(
        "NOTE",
        "note",
        concept=("note_class_concept_id", "note_type_concept_id"),
        source="note_title",
        text=("note_text",),
    ),
    "death": Layout("DEATH", "death"),
}

STAYS = (9201, 262, 8717, 32037, 8971, 8920, 581379, 581382, 581383, 581384)
"""Visits whose diagnosis codes are given at their end: inpatient (with or without an emergency room before),
hospital, intensive care, psychiatric and rehabilitation stays, and inpatient units of their own."""

_ANCESTOR = ("ancestor_concept_id", "descendant_concept_id", "min_levels_of_separation")
_NAMED = frozenset(  # columns of concepts whose names are used
    [f"{what}_concept_id" for what in ("gender", "race", "ethnicity", "cause", "value_as")]
    + [name for layout in LAYOUTS.values() for name in (*layout.concept, layout.unit[0]) if name]
)
_GIVEN, _ENDS = "has a time", "has an end"
_BOUNDS = {4171756: "<", 4171754: "<=", 4172704: ">", 4171755: ">="}  # operators
_CODED = "value_as_concept_id"
_SUFFIXES = (".parquet", ".csv", ".csv.gz")
_NOTHING = pl.lit(None)


def read(folder: Path) -> StandardTables:
    """The clinical tables of a folder, by the CDM's own names; those without a file are not there.

    A file is <table>.parquet, .csv or .csv.gz, in upper or lower case; CSV is separated by commas or tabs and
    held in memory as text. Column names are lower case; every column of the source stays beside ours.

    code: "PREFIX//<concept_id> <concept_name>", without the name where no concept table gives it; with
        concept 0 or none "PREFIX//<source value>"; without either the row is `refused`. A death is "DEATH".
        A note is named by its class, else its type, else its title. A row with no number but a value concept
        has "//<name or id of that concept>" at the end of its code.
    time: the datetime, else the date; exactly 00:00:00 is a bare date. `until`: likewise, of visits,
        conditions, drugs and devices.
    known: of conditions only. A code of an inpatient stay (`STAYS`) is known at the end of that visit, never
        before its own time; any other is known at its time. A code without a visit of that person (none is
        named, or one that is not there) belongs to the inpatient stay of the person that its day lies in, of
        several the one that ends last; a stay without an end reaches to the next one. Flags count those, and
        those that lie in none: they are known at their time. All other tables are known at their time.
    value: value_as_number, or the quantity of a drug. A number that was reported as < or > is kept as it is,
        and counted in the flags. unit: the name of the unit's concept, else its source value, else its id.
    text: of a note; of a value that is neither number nor concept; of a death its cause.
    refused: "no patient id", "time is not a date", "end is not a date", "no concept and no source value",
        "inpatient visit without an end" (of a condition: nothing says when its code was known).

    people, by person_id: `birth` (birth_datetime, else year, month and day as a bare date, a missing month
    being 1 July and a missing day the 15th); `gender`, `race`, `ethnicity`: the name of the concept, else the
    source value, else the id; `death`, if there is a death table; `observation_start`, `observation_end` over
    all observation periods; `last`, when the last event of any table that is not refused has passed (a bare
    date counts at the end of its day). Events of persons who are not in the person table stay in the tables.

    parents, if there is a concept_ancestor: steps of one level, from the codes that occur upwards, in the
    prefix of the child; a code with a value concept lies below the same code without.

    Refused: no person table, two files for one table, a file that cannot be read, a column that is missing or
    has a name of ours, a person without an id, two rows for one person that differ, two deaths of one person.
    """
    files = _files(folder)
    flags: list[str] = []

    def opened(name: str, only: tuple[str, ...] = ()) -> Table | None:
        if name not in files:
            return None
        table = _open(files[name], name, only)
        if table is None:
            flags.append(f"{files[name].name}: nothing in it, not even a header; taken as no table")
        return table

    person = opened("person")
    if person is None:
        raise InputError(f"{folder}: no table person; OMOP has person.parquet or person.csv here")
    events = {name: table for name in LAYOUTS if (table := opened(name)) is not None}
    for name, table in events.items():
        taken(table.types, table.file, DOOR | {"time", "code"})
        _needed(table, LAYOUTS[name])
    periods, concepts = opened("observation_period"), opened("concept", ("concept_id", "concept_name"))
    ancestors = opened("concept_ancestor", _ANCESTOR)

    with _polars(folder):
        links = _links(events, ancestors)
        names = _names([person, *events.values()], concepts, links)
        limit = latest_ordinary(_begun(events))
        decides = _open_ends(events, periods, limit)
        visits = events.get("visit_occurrence")
        conditions = events.get("condition_occurrence")
        stays = None if visits is None else _stays(visits, conditions, limit, decides)
        tables = {
            name: _rows(name, table, LAYOUTS[name], names, stays, limit) for name, table in events.items()
        }
        people = _people(person, names, flags)
        observed = _periods(periods, events, limit)
        for part in (_deaths(tables, folder), _observed(observed), _last(tables)):
            if part is not None:
                people = people.join(part, on="id", how="left")
        flags += _notices(events, tables)
        parents = None if links is None else _parents(links, events, tables, names)
    return StandardTables(
        people.sort("id"), tables, tuple(flags), parents, periods=observed, decides=tuple(decides)
    )


@dataclass(frozen=True, eq=False)
class Table:
    """A file to be scanned, and its columns as expressions; a column that is not there is null."""

    file: Path
    rows: pl.LazyFrame
    types: Schema

    def word(self, name: str) -> pl.Expr:
        """As text without blanks around it; empty is null."""
        if name not in self.types:
            return _NOTHING.cast(pl.String)
        cell = pl.col(name)
        if self.types[name].is_float():  # whole numbers in a column with gaps, as pandas writes them
            whole = cell.cast(pl.Int64, strict=False)
            cell = pl.when(whole == cell).then(whole.cast(pl.String)).otherwise(cell.cast(pl.String))
        cell = cell.cast(pl.String).str.strip_chars()
        return pl.when(cell != "").then(cell)

    def ident(self, name: str) -> pl.Expr:
        """Ids of the CDM are whole numbers: 12.0 is 12."""
        cell = self.word(name)
        return cell.str.replace(r"^(-?\d+)\.0$", "$1") if self.types.get(name) == pl.String else cell

    def number(self, name: str) -> pl.Expr:
        """nan and what is not a number are null."""
        cell = pl.col(name) if name in self.types and self.types[name].is_numeric() else self.word(name)
        return cell.cast(pl.Float64, strict=False).fill_nan(None)

    def concept(self, name: str) -> pl.Expr:
        """Ids of concepts; 0, no matching concept, is null."""
        cell = self.number(name).cast(pl.Int64, strict=False)
        return pl.when(cell != 0).then(cell)

    def moment(self, stem: str) -> tuple[pl.Expr, pl.Expr]:
        """<stem>_datetime, else <stem>_date; and where text is given that ought to be one."""
        names = [name for name in (f"{stem}_datetime", f"{stem}_date") if name in self.types]
        time = pl.coalesce([self._stamp(name) for name in names])
        written = [self.word(name).is_not_null() for name in names if not self.types[name].is_temporal()]
        return time, pl.any_horizontal(pl.lit(False), *written)

    def _stamp(self, name: str) -> pl.Expr:
        cell, dtype = pl.col(name), self.types[name]
        if isinstance(dtype, pl.Datetime) and dtype.time_zone:
            cell = cell.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        if dtype == pl.Null or dtype.is_temporal():
            return cell.cast(pl.Datetime("us"))
        return self.word(name).map_batches(
            lambda cells: calendar(cells, None)[0], return_dtype=pl.Datetime("us"), is_elementwise=True
        )


def _files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    wanted = {*LAYOUTS, "person", "observation_period", "concept", "concept_ancestor"}
    for file in sorted(folder.glob("*")):
        name = file.name.lower()
        for suffix in _SUFFIXES:
            if name.endswith(suffix) and (table := name.removesuffix(suffix)) in wanted:
                if table in found:
                    raise InputError(f"{folder}: both {found[table].name} and {file.name}; keep one of them")
                found[table] = file
    return found


def _open(file: Path, name: str, only: tuple[str, ...]) -> Table | None:
    """Column names in lower case; `only` these, all of which are needed. None: an empty file."""
    if not file.stat().st_size:
        return None
    if file.name.lower().endswith(".parquet"):
        try:
            rows = pl.scan_parquet(file, glob=False, hive_partitioning=False)
            header = rows.collect_schema().names()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(f"{file}: not a whole parquet file ({str(error).splitlines()[0]})") from None
        columns = _lower(header, file, only)
        rows = rows.select(pl.col(old).alias(new) for old, new in columns.items())
    else:
        frame = _csv(file, name, only)
        if frame is None:
            return None
        rows = frame.lazy()
    return Table(file, rows, rows.collect_schema())


def _lower(header: list[str], file: Path, only: tuple[str, ...]) -> dict[str, str]:
    lower = [name.strip().lower() for name in header]
    if twice := [name for i, name in enumerate(lower) if name in lower[:i]]:
        raise InputError(f"{file}: column {twice[0]!r} stands twice in the header")
    if missing := [name for name in only if name not in lower]:
        raise InputError(f"{file}: no column {missing[0]!r}; OMOP has it there")
    return {old: new for old, new in zip(header, lower, strict=True) if not only or new in only}


def _csv(file: Path, name: str, only: tuple[str, ...]) -> pl.DataFrame | None:
    """All cells as text, empty ones null. By pyarrow, which counts the cells of every line."""

    def opened() -> io.BufferedIOBase:
        return gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb")

    try:
        with opened() as raw:
            first = raw.readline().decode("utf-8-sig")
    except UnicodeError:
        raise InputError(f"{file}: not utf-8; write it as utf-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: {error}") from None
    if not first.strip():
        return None
    separator = "\t" if "\t" in first else ","
    # the vocabularies come separated by tabs, with quotes that are part of a name
    quote = '"' if separator == "," or name not in ("concept", "concept_ancestor") else ""
    header = next(csv.reader([first], delimiter=separator))
    columns = _lower(header, file, only)
    quotes, lines = census(file, "utf-8")
    uneven: list[str] = []

    def skip(line: pyarrow.csv.InvalidRow) -> str:
        uneven.append(
            f"line {line.number} has {line.actual_columns} cells, the header {line.expected_columns}"
        )
        return "error"

    def parsed(*, threads: bool) -> pyarrow.Table:  # only one thread knows the number of a line
        with opened() as raw:
            return pyarrow.csv.read_csv(
                raw,
                pyarrow.csv.ReadOptions(use_threads=threads),
                pyarrow.csv.ParseOptions(
                    delimiter=separator,
                    quote_char=quote or False,
                    newlines_in_values=bool(quote),
                    invalid_row_handler=None if threads else skip,
                ),
                pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(header, pyarrow.string()),
                    include_columns=list(columns),
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )

    try:
        table = parsed(threads=True)
    except (pyarrow.ArrowInvalid, UnicodeError, OSError, EOFError, zlib.error) as error:
        with suppress(pyarrow.ArrowInvalid, UnicodeError, OSError, EOFError, zlib.error):
            parsed(threads=False)
        if uneven:
            raise InputError(f"{file}: {uneven[0]}; write every cell") from None
        if isinstance(error, UnicodeError) or "UTF8" in str(error):
            raise InputError(f"{file}: not utf-8; write it as utf-8") from None
        raise InputError(f"{file}: {str(error).splitlines()[0]}") from None
    # it would swallow the rows that follow; two of them make an even number, and fewer rows than lines
    odd = bool(quote) and quotes % 2 == 1
    held = bool(quote) and quotes > 0 and lines > len(table)
    if odd or (held and unclosed(file, TableSpec(separator=separator), quotes)):
        raise InputError(f"{file}: a quote is never closed; close it, or double quotes inside a cell")
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.rename(columns)


def _needed(table: Table, layout: Layout) -> None:
    named = (*layout.concept, *([layout.source] if layout.source else []))
    for either in (("person_id",), (f"{layout.start}_date", f"{layout.start}_datetime"), named):
        if either and not any(name in table.types for name in either):
            raise InputError(f"{table.file}: no column {either[0]!r}; OMOP has it there")


@contextmanager
def _polars(folder: Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{folder}: {str(error).splitlines()[0]}") from None


@dataclass(frozen=True, eq=False)
class Names:
    """Concepts that occur and have a name."""

    concept: pl.Series
    name: pl.Series

    def of(self, concept: pl.Expr) -> pl.Expr:
        """The name of a concept, null where it has none."""
        return concept.replace_strict(self.concept, self.name, default=None, return_dtype=pl.String)

    def label(self, concept: pl.Expr) -> pl.Expr:
        """The id of a concept, and its name where it has one."""
        both = self.concept.cast(pl.String) + " " + self.name
        alone = concept.cast(pl.String)
        return concept.replace_strict(self.concept, both, default=alone, return_dtype=pl.String)


def _names(tables: list[Table], concepts: Table | None, links: pl.DataFrame | None) -> Names:
    """Of the concepts that occur only: a full vocabulary has millions."""
    if concepts is None:
        return Names(pl.Series(dtype=pl.Int64), pl.Series(dtype=pl.String))
    used = [
        table.rows.select(table.concept(name).alias("concept")).unique()
        for table in tables
        for name in sorted(_NAMED.intersection(table.types))
    ]
    used += [] if links is None else [links.lazy().select(pl.col("parent").alias("concept"))]
    rows = concepts.rows.select(
        concepts.concept("concept_id").alias("concept"), concepts.word("concept_name").alias("name")
    )
    rows = rows.drop_nulls().join(pl.concat(used), on="concept", how="semi")
    found = rows.group_by("concept").agg(pl.col("name").min()).collect(engine="streaming")
    return Names(found["concept"], found["name"])


def _main(table: Table, layout: Layout) -> pl.Expr:
    return pl.coalesce([table.concept(name) for name in layout.concept])


def _midnight(time: pl.Expr) -> pl.Expr:
    return (time.dt.time() == pl.time(0)).fill_null(False)


def _begun(events: dict[str, Table]) -> list[pl.LazyFrame]:
    """When what is in the tables began, without deaths."""
    tables = [(LAYOUTS[name], table) for name, table in events.items() if name != "death"]
    return [table.rows.select(table.moment(layout.start)[0].alias("time")) for layout, table in tables]


def _within(time: pl.Expr, limit: datetime | None) -> pl.Expr:
    """An end, null where it is a filler for "still open"."""
    return time if limit is None else pl.when(time <= limit).then(time)


def _open_ends(events: dict[str, Table], periods: Table | None, limit: datetime | None) -> list[str]:
    """Flags for the ends that are fillers."""
    ends = [(table, LAYOUTS[name].end) for name, table in events.items() if LAYOUTS[name].end]
    ends += [] if periods is None else [(periods, "observation_period_end")]
    flags = []
    for table, stem in ends:
        if limit is None or not {f"{stem}_date", f"{stem}_datetime"} & {*table.types}:
            continue
        if odd := table.rows.select((table.moment(stem)[0] > limit).sum()).collect().item():
            what = "observed to the last day of the data" if table is periods else "taken as not known"
            flags.append(f"{table.file.name}: {odd} end(s) lie decades after all other dates; {what}")
    return flags


def _rows(
    name: str,
    table: Table,
    layout: Layout,
    names: Names,
    stays: Stays | None,
    limit: datetime | None,
) -> pl.LazyFrame:
    """One table in the columns of a Door, with those of the source beside them."""
    # times first, in a step of their own: the rest asks for them again and again
    time, given = table.moment(layout.start)
    first = {"id": table.ident("person_id"), "time": time, _GIVEN: given}
    time = pl.col("time")
    ours = {"id": pl.col("id"), "time": time, "time_bare": _midnight(time)}
    refused = [
        pl.when(pl.col("id").is_null()).then(pl.lit("no patient id")),
        pl.when(pl.col(_GIVEN) & time.is_null()).then(pl.lit("time is not a date")),
    ]
    if f"{layout.end}_date" in table.types or f"{layout.end}_datetime" in table.types:
        first["until"], first[_ENDS] = table.moment(layout.end)
        until = _within(pl.col("until"), limit)
        ours |= {"until": until, "until_bare": _midnight(until)}
        refused.append(pl.when(pl.col(_ENDS) & pl.col("until").is_null()).then(pl.lit("end is not a date")))
    rows = table.rows.select(**first, **{column: pl.col(column) for column in table.types})
    if name == "condition_occurrence" and stays is not None:
        end, endless = stays.end(table)
        later = end_of_day(end, _midnight(end)) > end_of_day(time, _midnight(time))
        known = pl.when(later).then(end).otherwise(time)
        ours |= {"known": known, "known_bare": _midnight(known)}
        refused.append(pl.when(endless).then(pl.lit("inpatient visit without an end")))

    value = table.number(layout.value)
    if layout.value in table.types:
        ours["value"] = value
    unit, written = layout.unit
    if unit in table.types or written in table.types:
        concept = table.concept(unit)
        ours["unit"] = pl.coalesce(names.of(concept), table.word(written), concept.cast(pl.String))
    if name == "death":
        code, cause = pl.lit("DEATH"), table.concept("cause_concept_id")
        ours["text"] = pl.coalesce(names.of(cause), table.word("cause_source_value"), cause.cast(pl.String))
    else:
        what = pl.coalesce(names.label(_main(table, layout)), table.word(layout.source))
        code = pl.lit(f"{layout.prefix}//") + what
        refused.append(pl.when(what.is_null()).then(pl.lit("no concept and no source value")))
    coded = table.concept(_CODED)
    if _CODED in table.types:
        meant = pl.coalesce(names.of(coded), coded.cast(pl.String))
        code = pl.when(value.is_null() & coded.is_not_null()).then(code + "//" + meant).otherwise(code)
    ours["code"] = code
    texts = [column for column in layout.text if column in table.types]
    if layout.value in table.types and not table.types[layout.value].is_numeric():
        texts.insert(0, layout.value)  # a number that does not read as one is text
    if layout.text and texts:
        text = pl.coalesce([table.word(column) for column in texts])
        ours["text"] = pl.when(value.is_null() & coded.is_null()).then(text)
    if layout.value in table.types and "operator_concept_id" in table.types:  # then with its sign, as in <5
        sign = table.concept("operator_concept_id").replace_strict(
            list(_BOUNDS), list(_BOUNDS.values()), default=None, return_dtype=pl.String
        )
        said = pl.concat_str(sign, value.cast(pl.String))  # null where either is
        ours["text"] = pl.coalesce(said, ours["text"]) if "text" in ours else said
    return rows.select(
        **ours, refused=pl.coalesce(refused), **{column: pl.col(column) for column in table.types}
    )


@dataclass(frozen=True, eq=False)
class Stays:
    """Where the ends of inpatient stays are looked up, as a join may turn rows over."""

    named: pl.DataFrame  # every visit: key (person and visit), stay, end
    dated: pl.DataFrame  # of conditions without a visit, those in a stay: key (person and day), end

    def end(self, table: Table) -> tuple[pl.Expr, pl.Expr]:
        """Of each condition the end of its stay, null = it is of none; and whether that stay has no end."""
        ends: list[pl.Expr] = []
        endless: list[pl.Expr] = []
        named, dated = _by_visit(table), _by_day(table)
        given = named.is_in(self.named["key"].implode()).fill_null(False)
        for key, where, found in (
            (named, given, self.named.filter("stay")),
            (dated, ~given, self.dated),
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


def _stays(visits: Table, conditions: Table | None, limit: datetime | None, decides: list[str]) -> Stays:
    """The visits by person and id, and the inpatient stays that conditions without a visit lie in."""
    moments = {}
    for name in ("start", "end"):
        there = {f"visit_{name}_date", f"visit_{name}_datetime"} & set(visits.types)
        moments[name] = visits.moment(f"visit_{name}")[0] if there else _NOTHING.cast(pl.Datetime("us"))
    moments["end"] = _within(moments["end"], limit)
    every = visits.rows.select(
        visits.ident("person_id").alias("id"),
        _by_visit(visits).alias("key"),
        visits.concept("visit_concept_id").is_in(STAYS).fill_null(False).alias("stay"),
        **moments,
    ).collect(engine="streaming")
    named = (
        every.drop_nulls("key").group_by("key").agg(pl.col("stay").any(), pl.col("end").filter("stay").max())
    )
    none = Stays(named, pl.DataFrame(schema={"key": pl.String, "end": pl.Datetime("us")}))
    if conditions is None:
        return none
    lost = ~_by_visit(conditions).is_in(named["key"].implode()).fill_null(False)
    day = conditions.moment("condition_start")[0].dt.date()
    wanted = conditions.rows.filter(lost).select(
        conditions.ident("person_id").alias("id"), _by_day(conditions).alias("key"), day.alias("day")
    )
    rows = wanted.drop_nulls().collect(engine="streaming")
    first, last = pl.col("start").dt.date(), pl.col("end").dt.date()
    stays = every.filter("stay").drop_nulls(["id", "start"]).sort("id", "start").select("id", "start", "end")
    until = pl.coalesce(last, first.shift(-1).over("id") - pl.duration(days=1), pl.date(9999, 12, 31))
    stays = stays.with_columns(first.alias("first"), until.alias("last"))
    dated = rows.unique().join(stays, on="id").filter(pl.col("day").is_between("first", "last"))
    dated = dated.group_by("key").agg(pl.col("end").max())
    inside = rows["key"].is_in(dated["key"].implode()).sum()
    for n, what in (
        (inside, "lie in an inpatient stay by their day; known at its end"),
        (len(rows) - inside, "lie in no inpatient stay; known at their time"),
    ):
        if n:
            decides.append(f"{conditions.file.name}: {n} code(s) without a visit of that person {what}")
    return Stays(named, dated)


def _people(person: Table, names: Names, flags: list[str]) -> pl.DataFrame:
    if "person_id" not in person.types:
        raise InputError(f"{person.file}: no column 'person_id'; OMOP has it there")
    who = person.ident("person_id").alias("id")
    year, month, day = (person.number(f"{part}_of_birth").cast(pl.Int64) for part in ("year", "month", "day"))
    day = pl.when(month.is_null()).then(1).otherwise(day.fill_null(15))
    date = pl.format("{}-{}-{}", *(n.cast(pl.String).str.zfill(2) for n in (year, month.fill_null(7), day)))
    birth = date.str.to_datetime("%Y-%m-%d", strict=False, time_unit="us")
    given = year.is_not_null()
    if "birth_datetime" in person.types:
        birth = pl.coalesce(person.moment("birth")[0], birth)
        given = given | person.word("birth_datetime").is_not_null()
    columns = [who, birth.alias("birth"), _midnight(birth).alias("birth_bare"), given.alias("given")]
    for what in ("gender", "race", "ethnicity"):
        concept = person.concept(f"{what}_concept_id")
        word = pl.coalesce(names.of(concept), person.word(f"{what}_source_value"), concept.cast(pl.String))
        columns.append(word.alias(what))
    people = person.rows.unique().select(columns).collect()
    if not len(people):
        raise InputError(f"{person.file}: no rows")
    if nobody := people["id"].null_count():
        raise InputError(
            f"{person.file}: column 'person_id' holds {nobody} null(s); every person needs an id"
        )
    if twice := people.filter(pl.len().over("id") > 1)["id"].n_unique():
        raise InputError(f"{person.file}: {twice} person(s) with two rows that differ; keep one")
    if odd := len(people.filter("given", pl.col("birth").is_null())):
        flags.append(f"{person.file.name}: {odd} birth(s) that are no date: taken as missing")
    return people.drop("given")


def _deaths(tables: dict[str, pl.LazyFrame], folder: Path) -> pl.DataFrame | None:
    if "death" not in tables:
        return None
    rows = tables["death"].filter(pl.col("refused").is_null()).select("id", "time", "time_bare").collect()
    rows = settle(rows.drop_nulls("time"), f"{folder}: table death", "person")
    return rows.rename({"time": "death", "time_bare": "death_bare"})


def _periods(periods: Table | None, events: dict[str, Table], limit: datetime | None) -> pl.DataFrame | None:
    """Id, start and end of every observation period; one that is still open ends with the data."""
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
        ends = [rows.lazy().select(time="end"), *_begun(events)]
        last = pl.concat([one.filter(pl.col("time") <= limit).max() for one in ends]).max().collect().item()
        rows = rows.with_columns(pl.when(pl.col("end") > limit).then(last).otherwise("end").alias("end"))
    return rows


def _observed(periods: pl.DataFrame | None) -> pl.DataFrame | None:
    if periods is None:
        return None
    rows = periods.group_by("id").agg(
        pl.col("start").min().alias("observation_start"), pl.col("end").max().alias("observation_end")
    )
    start, end = pl.col("observation_start"), pl.col("observation_end")
    return rows.with_columns(observation_start_bare=_midnight(start), observation_end_bare=_midnight(end))


def _last(tables: dict[str, pl.LazyFrame]) -> pl.DataFrame | None:
    passed = end_of_day(pl.col("time"), pl.col("time_bare")).alias("last")
    parts = [rows.filter(pl.col("refused").is_null()).select("id", passed) for rows in tables.values()]
    if not parts:
        return None
    return pl.concat(parts).group_by("id").agg(pl.col("last").max()).collect(engine="streaming")


def _notices(events: dict[str, Table], tables: dict[str, pl.LazyFrame]) -> list[str]:
    notices = [
        f"{table.file.name}: column {source!r} holds {kind}: {FRACTIONS}"
        for name, table in events.items()
        if (source := LAYOUTS[name].source) and (kind := table.types.get(source)) and fractions(kind)
    ]
    for name in ("measurement", "observation"):
        if name in tables and "text" in (has := tables[name].collect_schema()):
            words = pl.col("text")
            said = words.is_not_null() & ~words.str.contains(BOUND) & pl.col("refused").is_null()
            said = said & pl.col("value").is_null() if "value" in has else said
            if count := tables[name].select(said.sum()).collect(engine="streaming").item():
                notices.append(f"{events[name].file.name}: {count} value(s) are text, no number")
    table = events.get("measurement")
    if table is not None and "operator_concept_id" in table.types:
        bound = table.concept("operator_concept_id").is_in(list(_BOUNDS)) & table.number(_VALUE).is_not_null()
        if count := table.rows.select(bound.sum()).collect().item():
            notices.append(f"{table.file.name}: {count} value(s) reported as < or >: kept as that number")
    if "condition_occurrence" in events and "visit_occurrence" not in events:
        notices.append(
            f"{events['condition_occurrence'].file.name}: no table visit_occurrence, so that codes of "
            "inpatient stays count as known at their start"
        )
    return notices


def _links(events: dict[str, Table], ancestors: Table | None) -> pl.DataFrame | None:
    """Steps of one level upwards from the concepts that occur: prefix, child, parent (ids)."""
    if ancestors is None:
        return None
    upper, lower, level = _ANCESTOR
    child, parent = ancestors.concept(lower).alias("child"), ancestors.concept(upper).alias("parent")
    single = ancestors.rows.filter(ancestors.number(level) == 1).select(child, parent).drop_nulls()
    steps = single.filter(pl.col("child") != pl.col("parent")).unique().collect(engine="streaming")
    front = pl.DataFrame(schema={"prefix": pl.String, "child": pl.Int64})
    for name, table in events.items():
        if (layout := LAYOUTS[name]).concept:
            concepts = table.rows.select(_main(table, layout).alias("child")).unique().drop_nulls().collect()
            front.vstack(concepts.select(pl.lit(layout.prefix).alias("prefix"), "child"), in_place=True)
    seen, found = front, []
    while len(front):  # a level at a time
        links = front.join(steps, on="child")
        found.append(links.select("prefix", "child", "parent"))
        front = links.select("prefix", child="parent").unique().join(seen, on=["prefix", "child"], how="anti")
        seen = pl.concat([seen, front])
    return pl.concat(found) if found else None


def _parents(
    links: pl.DataFrame, events: dict[str, Table], tables: dict[str, pl.LazyFrame], names: Names
) -> pl.DataFrame | None:
    code = pl.col("prefix") + "//"
    parts = [
        links.select(
            (code + names.label(pl.col("child"))).alias("child"),
            (code + names.label(pl.col("parent"))).alias("parent"),
        )
    ]
    for name, table in events.items():
        if _CODED in table.types:
            main = _main(table, LAYOUTS[name])
            plain = (pl.lit(f"{LAYOUTS[name].prefix}//") + names.label(main)).alias("parent")
            rows = tables[name].select(pl.col("code").alias("child"), plain).unique().drop_nulls()
            parts.append(rows.filter(pl.col("child") != pl.col("parent")).collect(engine="streaming"))
    pairs = pl.concat(parts).unique().sort("child", "parent")
    return pairs if len(pairs) else None
