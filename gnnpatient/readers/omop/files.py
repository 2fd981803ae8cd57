"""The files of a folder as tables of the CDM, with their columns as expressions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.readers.csv_file import CsvFormat, found_separator, read_csv
from gnnpatient.readers.database import first_line
from gnnpatient.readers.dates import parse_dates
from gnnpatient.readers.omop.layout import ANCESTOR, LAYOUTS, Layout
from gnnpatient.readers.standard import RESERVED_COLUMNS, Schema, refuse_reserved

_SUFFIXES = (".parquet", ".csv", ".csv.gz")
_NOTHING = pl.lit(None)


@dataclass(frozen=True, eq=False)
class Table:
    """A file to be scanned, and its columns as expressions; a column that is not there is null.

    Attributes
    ----------
    file : Path
        The file.
    rows : polars.LazyFrame
        Its rows.
    types : mapping of str to polars.DataType
        Its columns, in lower case.
    """

    file: Path
    rows: pl.LazyFrame
    types: Schema

    def word(self, name: str) -> pl.Expr:
        """As text without blanks around it; empty is null.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        polars.Expr
            String.
        """
        if name not in self.types:
            return _NOTHING.cast(pl.String)
        cell = pl.col(name)
        if self.types[name].is_float():  # whole numbers in a column with gaps, as pandas writes them
            integers = cell.cast(pl.Int64, strict=False)
            cell = pl.when(integers == cell).then(integers.cast(pl.String)).otherwise(cell.cast(pl.String))
        cell = cell.cast(pl.String).str.strip_chars()
        return pl.when(cell != "").then(cell)

    def ident(self, name: str) -> pl.Expr:
        """An id: those of the CDM are whole numbers, 12.0 is 12.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        polars.Expr
            String.
        """
        cell = self.word(name)
        return cell.str.replace(r"^(-?\d+)\.0$", "$1") if self.types.get(name) == pl.String else cell

    def number(self, name: str) -> pl.Expr:
        """As numbers; nan and what is not a number are null.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        polars.Expr
            Float64.
        """
        cell = pl.col(name) if name in self.types and self.types[name].is_numeric() else self.word(name)
        return cell.cast(pl.Float64, strict=False).fill_nan(None)

    def concept(self, name: str) -> pl.Expr:
        """As ids of concepts; 0, no matching concept, is null.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        polars.Expr
            Int64.
        """
        cell = self.number(name).cast(pl.Int64, strict=False)
        return pl.when(cell != 0).then(cell)

    def moment(self, stem: str) -> tuple[pl.Expr, pl.Expr]:
        """When something was: <stem>_datetime, else <stem>_date.

        Parameters
        ----------
        stem : str
            What the names of both columns begin with.

        Returns
        -------
        time : polars.Expr
            Datetime("us"); null = not said, or no date.
        written : polars.Expr
            Boolean: text is there that ought to be a date.
        """
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
        return as_moment(self.word(name))


def as_moment(cells: pl.Expr) -> pl.Expr:
    """Dates and clock times as text, by the parser of every table.

    Parameters
    ----------
    cells : polars.Expr
        String.

    Returns
    -------
    polars.Expr
        Datetime("us"); null where a cell is neither a date nor a clock time.
    """
    return cells.map_batches(
        lambda words: parse_dates(words, None)[0], return_dtype=pl.Datetime("us"), is_elementwise=True
    )


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a folder that are there.

    Attributes
    ----------
    person : Table
        A row a person.
    events : dict of str to Table
        The clinical tables, by name.
    periods, concepts, ancestors : Table or None
        observation_period, concept and concept_ancestor.
    flags : list of str
        Which tables hold nothing.
    """

    person: Table
    events: dict[str, Table]  # the clinical ones, by name
    periods: Table | None
    concepts: Table | None
    ancestors: Table | None
    flags: list[str]


def open_tables(folder: Path) -> Tables:
    """Every table of a folder that is used, with its columns checked.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    Tables
        What is there.

    Raises
    ------
    InputError
        If there is no person table, two files for one table, a file that cannot be read, or a column that
        is missing or has a reserved name.
    """
    files, flags = _files(folder), list[str]()

    def table(name: str, only: tuple[str, ...] = ()) -> Table | None:
        if name not in files:
            return None
        if (found := _open(files[name], name, only)) is None:
            flags.append(f"{files[name].name}: nothing in it, not even a header; taken as no table")
        return found

    person = table("person")
    if person is None:
        raise InputError(f"{folder}: no table person; OMOP has person.parquet or person.csv here")
    events = {name: found for name in LAYOUTS if (found := table(name)) is not None}
    for name, found in events.items():
        refuse_reserved(found.types, found.file, RESERVED_COLUMNS | {"time", "code"})
        _need_columns(found, LAYOUTS[name])
    periods, concepts = table("observation_period"), table("concept", ("concept_id", "concept_name"))
    return Tables(person, events, periods, concepts, table("concept_ancestor", ANCESTOR), flags)


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
            raise InputError(f"{file}: not a whole parquet file ({first_line(error)})") from None
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
    if repeated := [name for i, name in enumerate(lower) if name in lower[:i]]:
        raise InputError(f"{file}: column {repeated[0]!r} appears twice in the header")
    if missing := [name for name in only if name not in lower]:
        raise InputError(f"{file}: no column {missing[0]!r}; OMOP has it there")
    return {old: new for old, new in zip(header, lower, strict=True) if not only or new in only}


def _csv(file: Path, name: str, only: tuple[str, ...]) -> pl.DataFrame | None:
    """All cells as text, empty ones null; None where there is not even a header."""
    separator = found_separator(file, choices=",\t")
    # the vocabularies come separated by tabs, with quotes that are part of a name
    quoted = separator == "," or name not in ("concept", "concept_ancestor")
    form = CsvFormat(separator=separator, quoted=quoted, settable=False)
    frame = read_csv(file, form, columns=lambda header: _lower(header, file, only), empty_is_null=True)
    return frame if frame.columns else None


def _need_columns(table: Table, layout: Layout) -> None:
    named = (*layout.concept, *([layout.source] if layout.source else []))
    for either in (("person_id",), (f"{layout.start}_date", f"{layout.start}_datetime"), named):
        if either and not any(name in table.types for name in either):
            raise InputError(f"{table.file}: no column {either[0]!r}; OMOP has it there")


@contextmanager
def polars_errors(folder: Path) -> Iterator[None]:
    """What polars raises while it reads, as an `InputError` that names the folder.

    Parameters
    ----------
    folder : Path
        The folder.

    Yields
    ------
    None
        Once.
    """
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{folder}: {first_line(error)}") from None
