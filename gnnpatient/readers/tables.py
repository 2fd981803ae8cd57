"""A table of a cohort by its name: CSV, parquet, shards, a database or a frame, with nothing guessed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from gnnpatient.errors import InputError, near
from gnnpatient.readers.csv_file import BOMB, CSV, RATIO, CsvFormat, is_large, read_csv, scan_csv
from gnnpatient.readers.database import first_line, scan
from gnnpatient.readers.frames import Frames
from gnnpatient.spec.patterns import glob
from gnnpatient.spec.tables import TableSpec, Where

ENDINGS = (*CSV, ".parquet", ".sqlite", ".db", ".duckdb")


def read_table(place: Path | Frames, name: str, spec: TableSpec | None = None) -> pl.DataFrame | pl.LazyFrame:
    """One table. CSV cells stay text; all others keep their types, parquet, shards and a database unread.

    Parameters
    ----------
    place : Path or Frames
        The folder of the cohort, outside of which nothing is read; or frames in memory.
    name : str
        A file or a folder of shards in it, or FILE.sqlite/TABLE, FILE.duckdb/TABLE. A CSV is found packed
        (labs.csv.gz) where the name is that of the unpacked one, and the other way round. Or that of a frame.
    spec : TableSpec, optional
        Encoding and separator of a CSV; default: UTF-8 and commas, tabs in a .tsv. A frame has neither.

    Returns
    -------
    polars.DataFrame or polars.LazyFrame
        A frame of a CSV below 256 MB or of a frame, a lazy frame of anything else.

    Raises
    ------
    InputError
        If there is no such file, or a CSV twice, packed and not, or it has no rows; if a CSV breaks the rule
        of `csv_file`; if a file is not what its name says or unpacks to far too much; if the name leads out
        of the folder.
    """
    if isinstance(place, Frames):
        return place.table(name)
    folder, path = place, place / name
    try:
        inside, here = path.resolve().is_relative_to(folder.resolve()), path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, links in a ring, a NUL in it
        raise InputError(f"{name!r}: cannot be opened ({first_line(error)}); name another file") from None
    if not inside:
        raise InputError(f"{name}: leads out of {folder}; keep the tables of a cohort in one folder")
    if (table := scan(folder, name)) is not None:
        return table
    if (other := _other_form(path)) is not None and other.is_file():
        if here:
            raise InputError(f"{path}: {other.name} is there as well; keep one of them")
        if not other.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{name}: leads out of {folder}; keep the tables of a cohort in one folder")
        path, here = other, True
    if not here:
        there = sorted(p.name for p in folder.glob("*") if p.name.endswith(ENDINGS))
        raise InputError(f"{path}: no such file{near(name, there) if there else ''}")
    try:
        if path.suffix == ".parquet":
            return _scan_parquet(path)
        if path.name.endswith(CSV):
            form = CsvFormat.of(path, spec or TableSpec())
            frame = scan_csv(path, form) if is_large(path) else read_csv(path, form)
            if not frame.lazy().select(pl.len()).collect().item():
                raise InputError(f"{path}: no rows")
            return frame
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path}: {first_line(error)}") from None
    raise InputError(
        f"{path}: a table is a .csv, a .parquet, a folder of .parquet, FILE.sqlite/TABLE or FILE.duckdb/TABLE"
    )


def _other_form(path: Path) -> Path | None:
    """The name of a CSV when packed where it is the unpacked one's, and the reverse; None of other files."""
    if not path.name.endswith(CSV):
        return None
    packed = path.name.endswith(".gz")
    return path.with_name(path.name.removesuffix(".gz") if packed else f"{path.name}.gz")


def _scan_parquet(path: Path) -> pl.LazyFrame:
    # the name is no pattern and no home folder, whatever signs are in it
    lazy = pl.scan_parquet(path.absolute(), glob=False)
    rows = lazy.select(pl.len()).collect().item()
    if rows > BOMB / 10 and rows > RATIO * path.stat().st_size:
        raise InputError(f"{path}: {rows} rows in so small a file; is it broken, or one row repeated?")
    if not rows:
        raise InputError(f"{path}: no rows")
    return lazy


def fits(where: Where, floats: Iterable[str] = ()) -> pl.Expr:
    """Whether a row fits every column's patterns, in which * stands for any text.

    Parameters
    ----------
    where : mapping of str to sequence of str
        By column the patterns, of which a cell fits one.
    floats : iterable of str
        Columns of numbers with fractions, of which the whole ones are text without a point, as codes are.

    Returns
    -------
    polars.Expr
        Boolean, never null: an empty cell fits nothing.
    """
    fit = pl.lit(True)
    for name, patterns in where.items():
        exact = [p for p in patterns if "*" not in p]
        cell = pl.col(name).cast(pl.String)
        test = cell.is_in(exact)
        if name in floats:
            test = test | cell.str.replace(r"\.0$", "").is_in(exact)
        for pattern in patterns:
            if "*" in pattern:
                test = test | cell.str.contains(glob(pattern))
        fit = fit & test.fill_null(False)
    return fit


def column(table: pl.DataFrame, name: str, file: str) -> pl.Series:
    """A column by name.

    Parameters
    ----------
    table : polars.DataFrame
        The rows.
    name : str
        The column.
    file : str
        The name of the table, for the message.

    Returns
    -------
    polars.Series
        The column.

    Raises
    ------
    InputError
        If there is no such column; the message names the one with the nearest name.
    """
    try:
        return table.get_column(name)  # a list of all names, for each of 20 000 columns, would take minutes
    except pl.exceptions.ColumnNotFoundError:
        raise InputError(f"{file}: no column {name!r}{near(name, table.columns)}") from None


FRACTIONS = "250.0 and 250.00, 42 and 042 cannot be told apart; write codes as text"


def holds_fractions(dtype: Any) -> bool:
    """Whether a column of that type holds numbers with fractions, of which codes lose zeros.

    Parameters
    ----------
    dtype : polars.DataType
        The type of a column.

    Returns
    -------
    bool
        True for floats and for decimals with a scale.
    """
    return bool(dtype.is_float() or (dtype.is_decimal() and dtype.scale))


def is_plain(dtype: Any) -> bool:
    """Whether a cell of a column is one value that can be read: not a list, a record or any object.

    Parameters
    ----------
    dtype : polars.DataType
        The type of a column.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_plain(pl.Int64()), is_plain(pl.List(pl.Int64))
    (True, False)
    """
    return not (dtype.is_nested() or dtype == pl.Object or isinstance(dtype, pl.BaseExtension))
