"""CSV and parquet files as polars frames, with ids as strings and nothing guessed."""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path

import polars as pl
import pyarrow
import pyarrow.csv

from gnnpatient.cohort.spec import DAY, TableSpec, near
from gnnpatient.errors import Refused

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""Words that mean missing in a number, time or category. In an id only the empty cell does."""

LIFETIME = 125 * 366 * DAY  # a time further from the origin than this is a slip, not a time


def read_table(folder: Path, name: str, how: TableSpec | None = None) -> pl.DataFrame:
    """One file as a frame. CSV cells stay text; parquet keeps its types.

    Refused: no such file, no rows, a doubled header, a line with a cell too few or too many, a quote that
    never ends, a file that is not what its name says.
    """
    path = folder / name
    if not path.is_file():
        there = sorted(p.name for p in folder.glob("*") if p.suffix in (".csv", ".parquet"))
        raise Refused(f"{path}: no such file{near(name, there) if there else ''}")
    try:
        if path.suffix == ".parquet":
            table = pl.read_parquet(path)
        elif path.suffix == ".csv":
            table = _read_csv(path, how or TableSpec())
        else:
            raise Refused(f"{path}: a table is .csv or .parquet, not {path.suffix or 'without a suffix'!r}")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise Refused(f"{path}: {str(error).splitlines()[0]}") from None
    if not len(table):
        raise Refused(f"{path}: no rows")
    return table


def _read_csv(path: Path, how: TableSpec) -> pl.DataFrame:
    """By pyarrow, which counts the cells of every line; polars fills a short one with nulls in silence."""
    encoding, separator = how.encoding, how.separator
    try:
        with path.open(encoding=encoding.replace("utf-8", "utf-8-sig"), newline="") as handle:
            header = next(csv.reader(handle, delimiter=separator), [])
    except (UnicodeError, LookupError):
        raise Refused(_encoding(path, how)) from None
    if doubled := [name for i, name in enumerate(header) if name in header[:i]]:
        raise Refused(f"{path}: column {doubled[0]!r} stands twice in the header")
    if not header:
        raise Refused(f"{path}: no rows")
    uneven: list[str] = []

    def skip(line: pyarrow.csv.InvalidRow) -> str:
        uneven.append(
            f"line {line.number} has {line.actual_columns} cells, the header {line.expected_columns}"
        )
        return "error"

    def read(*, threads: bool) -> pyarrow.Table:  # only one thread knows the number of a line
        return pyarrow.csv.read_csv(
            path,
            pyarrow.csv.ReadOptions(encoding=encoding, use_threads=threads),
            pyarrow.csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, invalid_row_handler=None if threads else skip
            ),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pyarrow.string())),
        )

    try:
        table = read(threads=True)
    except (pyarrow.ArrowInvalid, UnicodeError) as error:
        with suppress(pyarrow.ArrowInvalid, UnicodeError):
            read(threads=False)
        if uneven:
            other = next((s for s in ";\t|," if s != separator and s in header[0]), None)
            hint = (
                f"; set separator = {other!r} in [tables.{path.name!r}]?"
                if len(header) == 1 and other
                else ""
            )
            raise Refused(f"{path}: {uneven[0]}{hint}{_unclosed(path, how)}") from None
        if isinstance(error, UnicodeError) or "UTF8" in str(error):
            raise Refused(_encoding(path, how)) from None
        raise Refused(f"{path}: {str(error).splitlines()[0]}") from None
    if lost := _unclosed(path, how):
        raise Refused(f"{path}{lost.replace(';', ':', 1)}")
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _encoding(path: Path, how: TableSpec) -> str:
    return f"{path}: not {how.encoding}; set encoding, as in [tables.{path.name!r}] encoding = 'latin1'"


def _unclosed(path: Path, how: TableSpec) -> str:
    """Where a quote begins that never ends and swallows the rest of the file; "" where there is none."""
    with path.open("rb") as raw:
        if not sum(chunk.count(b'"') for chunk in iter(lambda: raw.read(1 << 20), b"")) % 2:
            return ""
    start = 1
    with path.open(encoding=how.encoding, newline="") as handle:
        lines = csv.reader(handle, delimiter=how.separator, strict=True)
        try:
            for _ in lines:
                start = lines.line_num + 1
        except csv.Error:
            return f"; a quote on line {start} is never closed"
    return ""


def column(table: pl.DataFrame, name: str, file: str) -> pl.Series:
    """A column by name, or a refusal that names the near one."""
    if name not in table.columns:
        raise Refused(f"{file}: no column {name!r}{near(name, table.columns)}")
    return table[name]


def _plain(series: pl.Series) -> pl.Series:
    """As strings; whole numbers without the `.0` that pandas gives to a column with gaps."""
    if series.dtype.is_float():
        whole = series.cast(pl.Int64, strict=False)
        exact = whole.cast(series.dtype) == series
        return series.cast(pl.String).zip_with(~exact.fill_null(False), whole.cast(pl.String))
    return series.cast(pl.String)


def text(series: pl.Series) -> pl.Series:
    """As strings; words for missing become null."""
    series = _plain(series)
    return series.set(series.is_in(MISSING), None)


def ids(series: pl.Series) -> pl.Series:
    """Ids as they stand: `1`, `01` and ` 1` are three patients. Empty is null."""
    series = _plain(series)
    return series.set(series == "", None)


def number(series: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Numbers (null = missing), and where a cell holds something that is not a finite number."""
    if series.dtype.is_numeric() or series.dtype == pl.Boolean:
        value, odd = series.cast(pl.Float64), pl.Series([False]).new_from_index(0, len(series))
    else:
        cell = text(series.cast(pl.String).str.strip_chars())
        value = cell.cast(pl.Float64, strict=False)
        odd = cell.is_not_null() & value.is_null()
    value = value.set(value.is_nan(), None)
    bad = odd | value.is_infinite().fill_null(False)
    return value.set(bad, None), bad


def moment(series: pl.Series, origin: pl.Series | None, where: str) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Seconds after the origin of each row, whether it is a bare date, and where a cell is not a time.

    Numbers are days after the origin; text is ISO 8601 and needs `origin` (seconds since 1970 of each row).
    A bare date gives the first second of its day.
    """
    none = pl.Series([False]).new_from_index(0, len(series))
    if series.dtype.is_temporal():
        stamp, bare = series.cast(pl.Datetime("us")), none | (series.dtype == pl.Date)
        days, odd = pl.Series([None], dtype=pl.Float64).new_from_index(0, len(series)), stamp.is_not_null()
    else:
        days, odd = number(series)
        cell = series.cast(pl.String).str.strip_chars().set(~odd, None)
        if (unclear := cell.str.contains(r"^\d{1,2}[./-]\d{1,2}[./-]\d{2,4}").fill_null(False)).any():
            row = unclear.arg_true()[0]
            raise Refused(f"{where}, line {row + 2}: {cell[row]!r} is ambiguous; write dates as 2021-03-04")
        bare = (cell.str.len_chars() == 10).fill_null(False)
        date = cell.str.to_datetime("%Y-%m-%d", strict=False, time_unit="us", exact=True)
        stamp = _clock(cell.str.replace(" ", "T", literal=True)).zip_with(~bare, date)
    if origin is None and stamp.is_not_null().any():
        raise Refused(f"{where}: holds dates; name the column of day 0 as origin in [patient]")
    at = (days * DAY).round()
    if origin is not None:
        at = at.fill_null((stamp.dt.epoch("s") - origin).cast(pl.Float64))
    at = at.set((at.abs() > LIFETIME).fill_null(False), None)
    bad = at.is_null() & (days.is_not_null() | odd)
    return at.cast(pl.Int64), bare, bad


def _clock(stamp: pl.Series) -> pl.Series:
    """Dates with a clock time, to the minute, the second or a part of it."""
    minute = stamp.str.to_datetime("%Y-%m-%dT%H:%M", strict=False, time_unit="us", exact=True)
    return minute.fill_null(
        stamp.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False, time_unit="us", exact=True)
    )
