"""CSV and parquet files as polars frames, with ids as strings and nothing guessed."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow
import pyarrow.csv

from gnnpatient.cohort.readers.database import scan
from gnnpatient.cohort.spec import DAY, UNITS, YEAR, TableSpec, TimeSpec, Where, glob, near
from gnnpatient.errors import Refused

CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
ENDINGS = (*CSV, ".parquet", ".sqlite", ".db", ".duckdb")
LARGEST = 2 << 30  # bytes that a packed CSV may hold: a small file must not fill the memory
YEARS_FROM = 1900  # among dates, a number from here on is a year or a day of a spreadsheet, no offset
BOMB, RATIO = 1 << 28, 200  # from so many bytes on, no honest table unpacks to so many times its size
CELL = 64 << 20  # bytes of the longest cell
COLUMNS = 50_000  # of the widest CSV: each takes 11 kB for every part that is read at once

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""Words that mean missing in a number or a time. In codes, levels, labels, groups and ids only the empty cell
does: NA is sodium."""

LIFETIME = 125 * 366 * DAY  # a time further from the origin than this is a slip, not a time


def read_table(folder: Path, name: str, how: TableSpec | None = None) -> pl.DataFrame | pl.LazyFrame:
    """One table. CSV cells stay text; parquet, a folder of shards and a database keep their types, unread.

    Refused: no such file, no rows, a doubled header, a line with a cell too few or too many, a quote that
    never ends or swallows lines, a NUL byte, a file that is not what its name says or unpacks to far too
    much, a name that leads out of the folder.
    """
    path = folder / name
    try:
        inside, here = path.resolve().is_relative_to(folder.resolve()), path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, links in a ring, a NUL in it
        raise Refused(f"{name!r}: cannot be opened ({_first_line(error)}); name another file") from None
    if not inside:
        raise Refused(f"{name}: leads out of {folder}; keep the tables of a cohort in one folder")
    if (table := scan(folder, name)) is not None:
        return table
    if not here:
        there = sorted(p.name for p in folder.glob("*") if p.name.endswith(ENDINGS))
        raise Refused(f"{path}: no such file{near(name, there) if there else ''}")
    try:
        if path.suffix == ".parquet":
            # its name is no pattern and no home folder, whatever signs are in it
            lazy = pl.scan_parquet(path.absolute(), glob=False)
            rows = lazy.select(pl.len()).collect().item()
            if rows > BOMB / 10 and rows > RATIO * path.stat().st_size:
                raise Refused(f"{path}: {rows} rows in so small a file; is it broken, or one row repeated?")
            empty = not rows
        elif path.name.endswith(CSV):
            frame = _read_csv(path, how or TableSpec())
            empty, lazy = not len(frame), None
        else:
            raise Refused(
                f"{path}: a table is a .csv, a .parquet, a folder of .parquet, FILE.sqlite/TABLE or "
                "FILE.duckdb/TABLE"
            )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise Refused(f"{path}: {_first_line(error)}") from None
    if empty:
        raise Refused(f"{path}: no rows")
    return frame if lazy is None else lazy


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _read_csv(path: Path, how: TableSpec) -> pl.DataFrame:
    """By pyarrow, which counts the cells of every line; polars fills a short one with nulls in silence."""
    encoding, separator = _codec(how), _separator(path, how)
    quotes, lines = census(path, encoding)
    try:
        with _open(path, encoding) as handle:
            header = next(csv.reader(handle, delimiter=separator), [])
            blank = not header and bool(handle.read(1 << 16).strip())
    except (UnicodeError, LookupError):
        raise Refused(_encoding(path, how)) from None
    except csv.Error as error:
        raise Refused(f"{path}: line 1, the header: {error}; is a quote never closed?") from None
    except (OSError, EOFError, zlib.error) as error:
        raise Refused(f"{path}: {_first_line(error)}") from None
    if doubled := sorted(name for name, n in Counter(header).items() if n > 1):
        raise Refused(f"{path}: column {doubled[0]!r} stands twice in the header")
    if len(header) > COLUMNS:
        raise Refused(f"{path}: {len(header)} columns; write it long, a row a value, or as parquet")
    if blank:
        raise Refused(f"{path}: line 1 is blank; the names of the columns belong there")
    if not header or not lines:
        raise Refused(f"{path}: no rows")
    uneven: list[str] = []

    def skip(line: pyarrow.csv.InvalidRow) -> str:
        uneven.append(
            f"line {line.number} has {line.actual_columns} cells, the header {line.expected_columns}"
        )
        return "error"

    def read(*, threads: bool, block: int | None = None) -> pyarrow.Table:
        return pyarrow.csv.read_csv(  # only one thread knows the number of a line
            path.absolute(),  # a first ~ is a sign like any other
            pyarrow.csv.ReadOptions(encoding=encoding, use_threads=threads, block_size=block),
            pyarrow.csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, invalid_row_handler=None if threads else skip
            ),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pyarrow.string())),
        )

    def tried() -> pyarrow.Table:
        try:
            return read(threads=True)
        except pyarrow.ArrowInvalid as error:
            if "straddles" not in str(error):  # it wants room for the longest line
                raise
            return read(threads=True, block=CELL)

    other = next((s for s in ";\t|," if s != separator and s in header[0]), None)
    hint = f"; set separator = {other!r} in [tables.{path.name!r}]?" if len(header) == 1 and other else ""
    try:
        table = tried()
    except (pyarrow.ArrowInvalid, UnicodeError) as error:
        with suppress(pyarrow.ArrowInvalid, UnicodeError):
            read(threads=False, block=CELL)
        if uneven:
            raise Refused(f"{path}: {uneven[0]}{hint}{unclosed(path, how, quotes)}") from None
        if isinstance(error, UnicodeError) or "UTF8" in str(error):
            raise Refused(_encoding(path, how)) from None
        if "straddles" in str(error):
            lost = unclosed(path, how, quotes) or f"; a line is longer than {CELL >> 20} MB"
            raise Refused(f"{path}{lost.replace(';', ':', 1)}") from None
        raise Refused(f"{path}: {str(error).splitlines()[0]}") from None
    # Fewer rows than lines: a quote may hold lines together that are rows of their own.
    if (quotes % 2 or (quotes and lines > len(table))) and (lost := unclosed(path, how, quotes)):
        raise Refused(f"{path}{lost.replace(';', ':', 1)}")
    if hint:
        raise Refused(f"{path}: one column, {header[0]!r}{hint}")
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


_OTHER = {  # first bytes of what is sometimes called .csv
    b"\x1f\x8b": "packed by gzip; call it .csv.gz",
    b"PK\x03\x04": "a zip or a workbook; unpack it, or save it as CSV",
    b"PAR1": "parquet; call it .parquet",
    b"\xff\xfe": "UTF-16; set encoding = 'utf-16'",
    b"\xfe\xff": "UTF-16; set encoding = 'utf-16'",
}


def _encoding(path: Path, how: TableSpec) -> str:
    return f"{path}: not {how.encoding}; set encoding, as in [tables.{path.name!r}] encoding = 'latin1'"


def _separator(path: Path, how: TableSpec) -> str:
    """That of the spec; without one, a tab for what is called .tsv."""
    if how.separator != "\t" and (not how.separator.isascii() or how.separator < " " or how.separator == '"'):
        raise Refused(f"{path}: separator = {how.separator!r}; give one of , ; | or a tab")
    named = "separator" in how.model_fields_set
    return "\t" if not named and ".tsv" in path.name else how.separator


def _codec(how: TableSpec) -> str:
    """The encoding; UTF-8 under one name, with a byte order mark or without."""
    return "utf-8" if how.encoding.lower() in ("utf-8", "utf8", "utf_8", "utf-8-sig") else how.encoding


def _open(path: Path, encoding: str) -> io.TextIOWrapper:
    """The text of a CSV, unpacked where it is packed."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="")


def census(path: Path, encoding: str) -> tuple[int, int]:
    """How many quotes a CSV holds, and how many lines after the first, at least.

    A packed one that holds too much is refused before it fills the memory, a NUL byte before a text is cut.
    """
    opener: Any = gzip.open if path.suffix == ".gz" else open
    quotes = size = ends = 0
    last = b"\n"
    wide = encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32", "utf16", "utf32"))
    try:
        packed = path.stat().st_size
        with opener(path, "rb") as raw:
            for chunk in iter(lambda: raw.read(1 << 20), b""):
                what = [what for mark, what in _OTHER.items() if not size and chunk.startswith(mark)]
                if what and not wide:
                    raise Refused(f"{path}: by its first bytes {what[0]}")
                if not wide and (nul := chunk.find(b"\0")) >= 0:
                    line = ends + chunk[:nul].count(b"\n") + 1
                    raise Refused(f"{path}: line {line} holds a NUL byte; is it cut, or encoding = 'utf-16'?")
                quotes, size, last = quotes + chunk.count(b'"'), size + len(chunk), chunk[-1:]
                # a lone \r ends a line as well, and \r\n counts once
                ends += chunk.count(b"\n") + chunk.count(b"\r") - chunk.count(b"\r\n")
                if path.suffix == ".gz" and (size > LARGEST or (size > BOMB and size > RATIO * packed)):
                    raise Refused(f"{path}: unpacks to {size >> 20} MB or more; unpack it, or write parquet")
    except (OSError, EOFError, zlib.error) as error:
        raise Refused(f"{path}: {_first_line(error)}") from None
    return quotes, ends - (last in (b"\n", b"\r"))


@contextmanager
def _long_cells() -> Iterator[None]:
    """Python's reader of CSV takes cells of 131072 characters at most, unless it is told otherwise."""
    before = csv.field_size_limit(CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def unclosed(path: Path, how: TableSpec, quotes: int) -> str:
    """Where a quote begins that is not closed where its cell ends and swallows lines; "" where none does.

    What follows a closing quote in its line is sloppy, no more; after several lines it is a row that is lost.
    """
    if not quotes:
        return ""
    start = 1
    with _long_cells(), _open(path, _codec(how)) as handle:
        lines = csv.reader(handle, delimiter=_separator(path, how), strict=True)
        while True:
            try:
                next(lines)
            except StopIteration:
                return ""
            except csv.Error as error:
                if "expected after" not in str(error) or lines.line_num > start:
                    return f"; a quote on line {start} is never closed"
                if quotes % 2:
                    return f"; line {start}: text after a closing quote; write a quote inside a cell twice"
            start = lines.line_num + 1


def fits(where: Where) -> pl.Expr:
    """Whether a row fits every column's patterns, in which * stands for any text."""
    fit = pl.lit(True)
    for name, patterns in where.items():
        exact = [p for p in patterns if "*" not in p]
        cell = pl.col(name).cast(pl.String)
        test = cell.is_in(exact)
        for pattern in patterns:
            if "*" in pattern:
                test = test | cell.str.contains(glob(pattern))
        fit = fit & test.fill_null(False)
    return fit


def column(table: pl.DataFrame, name: str, file: str) -> pl.Series:
    """A column by name, or a refusal that names the near one."""
    if name not in table.columns:
        raise Refused(f"{file}: no column {name!r}{near(name, table.columns)}")
    return table[name]


def _plain(series: pl.Series) -> pl.Series:
    """As strings; whole numbers without the `.0` that pandas gives to a column with gaps; nan is null."""
    if series.dtype == pl.Duration:
        raise Refused(f"column {series.name!r} holds {series.dtype}; write text")
    if series.dtype.is_decimal():
        return series.cast(pl.String).str.replace(r"\.0*$", "")
    if series.dtype.is_float():
        series = series.fill_nan(None)
        whole = series.cast(pl.Int64, strict=False)
        exact = whole.cast(series.dtype) == series
        return series.cast(pl.String).zip_with(~exact.fill_null(False), whole.cast(pl.String))
    return series.cast(pl.String)


def text(series: pl.Series, missing: Iterable[str] = ()) -> pl.Series:
    """As strings; the empty cell and these words become null, any other stays as it stands."""
    series = _plain(series)
    return series.set(series.is_in(["", *missing]), None)


def without(series: pl.Series, missing: Collection[str]) -> pl.Series:
    """Numbers or times without these words: -9 as text or as a number."""
    if not missing:
        return series
    if series.dtype.is_numeric():
        words = [float(word) for word in missing if re.fullmatch(r"[+-]?\d+(\.\d*)?", word)]
        return series.set(series.cast(pl.Float64).is_in(words).fill_null(False), None)
    if series.dtype != pl.String:
        return series
    return series.set(series.str.strip_chars().is_in(list(missing)).fill_null(False), None)


def taken_for_missing(series: pl.Series) -> pl.Series:
    """The words of a column of numbers or times that are taken for missing; null in all other cells."""
    if series.dtype != pl.String:
        return pl.Series([None], dtype=pl.String).new_from_index(0, len(series))
    cell = series.str.strip_chars()
    return cell.set(~cell.is_in(MISSING[1:]).fill_null(False), None)


def ids(series: pl.Series) -> pl.Series:
    """Ids as they stand: `1`, `01` and ` 1` are three patients. Empty is null."""
    series = _plain(series)
    return series.set(series == "", None)


def number(series: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Numbers (null = missing), and where a cell holds something that is not a finite number."""
    if series.dtype.is_numeric() or series.dtype == pl.Boolean:
        value, odd = series.cast(pl.Float64), pl.Series([False]).new_from_index(0, len(series))
    else:
        cell = text(series.cast(pl.String).str.strip_chars(), MISSING)
        value = cell.cast(pl.Float64, strict=False)
        odd = cell.is_not_null() & value.is_null()
    value = value.set(value.is_nan(), None)
    bad = odd | value.is_infinite().fill_null(False)
    return value.set(bad, None), bad


BOUND = r"^\s*(<=?|>=?|≤|≥)\s*(\S+)\s*$"  # a number that is known from one side only, as in <5


def bounded(cells: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Cells without the sign of a bound before them; and -1 where the truth lies below, 1 above, else 0."""
    sign = cells.str.extract(BOUND, 1).str.slice(0, 1)
    side = sign.replace_strict(["<", "≤", ">", "≥"], [-1, -1, 1, 1], default=0, return_dtype=pl.Int8)
    return cells.str.extract(BOUND, 2).fill_null(cells), side.fill_null(0)


def moment(
    series: pl.Series,
    origin: pl.Series | None,
    where: str,
    how: TimeSpec | None = None,
    bare: pl.Series | None = None,
    line: Callable[[int], int] = lambda row: row + 2,
    doubt: Callable[[str], None] = lambda what: None,
) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Seconds after the origin of each row, whether it is a bare date, and where a cell is not a time.

    Numbers and durations are time after the origin; dates are ISO 8601 or written as `how.format` says, and
    need `origin` (seconds since 1970, UTC, of each row). Among dates a number from 1900 on is no offset.
    A bare date gives the first second of its day; `bare` says so where the type cannot. `doubt` is told what
    is read, but looks like a slip.
    """
    how = how or TimeSpec()
    none = pl.Series([False]).new_from_index(0, len(series))
    unset = pl.Series([None], dtype=pl.Float64).new_from_index(0, len(series))
    if series.dtype == pl.Duration:
        offset, stamp, odd = series.dt.total_microseconds() / 1e6, _no_stamp(len(series)), none
        flag = none
    elif series.dtype.is_temporal():
        offset, odd = unset, series.is_not_null()
        flag = none | (series.dtype == pl.Date) if bare is None else bare.fill_null(False)
        stamp = _utc(series.cast(pl.Datetime("us")) if series.dtype == pl.Date else series, how)
    elif how.format is not None:
        offset, cell = unset, series.cast(pl.String).str.strip_chars()
        cell = cell.set(cell.is_in(MISSING), None)
        odd, flag = cell.is_not_null(), none | (not _CLOCK.search(how.format))
        stamp = _utc(_written(cell, how.format, where), how)
    else:
        number_, odd = number(series)
        offset = number_ * UNITS[how.unit]
        cell = series.cast(pl.String).str.strip_chars().set(~odd, None)
        if (unclear := cell.str.contains(r"^\d{1,2}[./-]\d{1,2}[./-]\d{2,4}").fill_null(False)).any():
            row = unclear.arg_true()[0]
            raise Refused(
                f"{where}, line {line(row)}: {cell[row]!r} is ambiguous; write dates as 2021-03-04, or set "
                "time = { format = ... } of that table, as in '%d/%m/%Y'"
            )
        flag = (cell.str.len_chars() == 10).fill_null(False)
        date = cell.str.to_datetime("%Y-%m-%d", strict=False, time_unit="us", exact=True)
        stamp = _clock(cell.str.replace(" ", "T", literal=True), how).zip_with(~flag, _utc(date, how))
        if stamp.is_not_null().any():  # a great number among dates is a year, or a spreadsheet's day
            slip = (number_.abs() >= YEARS_FROM).fill_null(False)
            odd, offset = odd | slip, offset.set(slip, None)
        elif origin is not None and "unit" not in how.model_fields_set:
            _slip(number_, where, doubt)
    if origin is None and stamp.is_not_null().any():
        raise Refused(f"{where}: holds dates; name the column of day 0 as origin in [patient]")
    at = offset.round()
    if origin is not None:
        at = at.fill_null((stamp.dt.epoch("s") - origin).cast(pl.Float64))
    at = at.set((at.abs() > LIFETIME).fill_null(False), None)
    bad = at.is_null() & (offset.is_not_null() | odd)
    return at.cast(pl.Int64), flag, bad


def _slip(days: pl.Series, where: str, doubt: Callable[[str], None]) -> None:
    """Whether all offsets of a cohort that has dates look like something else."""
    low, high = days.min(), days.max()
    if not isinstance(low, float) or not isinstance(high, float):
        return
    serial = "days of a spreadsheet" if low > 100 * YEAR and high * DAY < LIFETIME else ""
    what = "calendar years" if low >= 1900 and high <= 2100 else serial
    if what and (days.drop_nulls() % 1 == 0).all():
        doubt(f"{where}: {low:g} to {high:g} look like {what}; they are read as days after day 0")


def _no_stamp(size: int) -> pl.Series:
    return pl.Series([None], dtype=pl.Datetime("us")).new_from_index(0, size)


def _utc(stamp: pl.Series, how: TimeSpec) -> pl.Series:
    """Clock times in UTC, without a zone. A moment that a change of the clock leaves out is no time; of one
    that it doubles, the earlier counts."""
    dtype = stamp.dtype
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return stamp.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Datetime("us"))
    if how.timezone is None:
        return stamp.cast(pl.Datetime("us"))
    local = stamp.dt.replace_time_zone(how.timezone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Datetime("us"))


_CLOCK = re.compile("%[-_0]?[HIklMSRTrXcs+]")  # signs of strptime that say something of the clock time
_DAY = re.compile("%[-_0]?[dejDFvxcs+]")  # of the day


def _written(cell: pl.Series, form: str, where: str) -> pl.Series:
    if not _DAY.search(form):
        raise Refused(f"{where}: format {form!r} names no day, so nobody knows when; write whole dates")
    try:
        if _CLOCK.search(form):
            return cell.str.to_datetime(form, strict=False, time_unit="us", exact=True)
        return cell.str.to_date(form, strict=False, exact=True).cast(pl.Datetime("us"))
    except pl.exceptions.PolarsError as error:
        raise Refused(f"{where}: format {form!r}: {_first_line(error)}") from None


def _clock(stamp: pl.Series, how: TimeSpec) -> pl.Series:
    """Dates with a clock time, to the minute, the second or a part of it, with or without an offset."""
    zone = stamp.str.extract(r"\d(Z|[+-]\d\d:?\d\d)$", 1)
    plain = stamp.str.replace(r"(\d)(Z|[+-]\d\d:?\d\d)$", "$1")
    minute = plain.str.to_datetime("%Y-%m-%dT%H:%M", strict=False, time_unit="us", exact=True)
    local = minute.fill_null(
        plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False, time_unit="us", exact=True)
    )
    if zone.null_count() == len(zone):
        return _utc(local, how)
    digits = zone.str.replace_all(r"[^0-9]", "").str.zfill(4)
    minutes = digits.str.slice(0, 2).cast(pl.Int64, strict=False) * 60
    minutes = (minutes + digits.str.slice(2, 2).cast(pl.Int64, strict=False)).fill_null(0)
    minutes = minutes.set(minutes > 14 * 60, None)  # no clock on earth
    ahead = minutes * zone.str.starts_with("-").fill_null(False).cast(pl.Int64).replace({0: -1, 1: 1})
    return _utc(local, how).zip_with(
        zone.is_null(), local + pl.Series(ahead * 60_000_000).cast(pl.Duration("us"))
    )
