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
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow
import pyarrow.csv

from gnnpatient.errors import InputError, near
from gnnpatient.files import room_for
from gnnpatient.readers.database import scan
from gnnpatient.spec.patterns import glob
from gnnpatient.spec.tables import TableSpec, TimeSpec, Where
from gnnpatient.times import DAY, UNITS, YEAR

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
        raise InputError(f"{name!r}: cannot be opened ({_first_line(error)}); name another file") from None
    if not inside:
        raise InputError(f"{name}: leads out of {folder}; keep the tables of a cohort in one folder")
    if (table := scan(folder, name)) is not None:
        return table
    if not here:
        there = sorted(p.name for p in folder.glob("*") if p.name.endswith(ENDINGS))
        raise InputError(f"{path}: no such file{near(name, there) if there else ''}")
    try:
        if path.suffix == ".parquet":
            # its name is no pattern and no home folder, whatever signs are in it
            lazy = pl.scan_parquet(path.absolute(), glob=False)
            rows = lazy.select(pl.len()).collect().item()
            if rows > BOMB / 10 and rows > RATIO * path.stat().st_size:
                raise InputError(
                    f"{path}: {rows} rows in so small a file; is it broken, or one row repeated?"
                )
            empty = not rows
        elif path.name.endswith(CSV):
            frame = _read_csv(path, how or TableSpec())
            empty, lazy = not len(frame), None
        else:
            raise InputError(
                f"{path}: a table is a .csv, a .parquet, a folder of .parquet, FILE.sqlite/TABLE or "
                "FILE.duckdb/TABLE"
            )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path}: {_first_line(error)}") from None
    if empty:
        raise InputError(f"{path}: no rows")
    return frame if lazy is None else lazy


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _read_csv(path: Path, how: TableSpec) -> pl.DataFrame:
    """By pyarrow, which counts the cells of every line; polars fills a short one with nulls in silence."""
    encoding, separator = _codec(how), _separator(path, how)
    room_for(2 * path.stat().st_size, str(path))
    quotes, lines = census(path, encoding)
    try:
        with _open(path, encoding) as handle:
            header = next(csv.reader(handle, delimiter=separator), [])
            blank = not header and bool(handle.read(1 << 16).strip())
    except (UnicodeError, LookupError):
        raise InputError(_encoding(path, how)) from None
    except csv.Error as error:
        raise InputError(f"{path}: line 1, the header: {error}; is a quote never closed?") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: {_first_line(error)}") from None
    if doubled := sorted(name for name, n in Counter(header).items() if n > 1):
        raise InputError(f"{path}: column {doubled[0]!r} stands twice in the header")
    if len(header) > COLUMNS:
        raise InputError(f"{path}: {len(header)} columns; write it long, a row a value, or as parquet")
    if blank:
        raise InputError(f"{path}: line 1 is blank; the names of the columns belong there")
    if not header or not lines:
        raise InputError(f"{path}: no rows")
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
            raise InputError(f"{path}: {uneven[0]}{hint}{unclosed(path, how, quotes)}") from None
        if isinstance(error, UnicodeError) or "UTF8" in str(error):
            raise InputError(_encoding(path, how)) from None
        if "straddles" in str(error):
            lost = unclosed(path, how, quotes) or f"; a line is longer than {CELL >> 20} MB"
            raise InputError(f"{path}{lost.replace(';', ':', 1)}") from None
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from None
    # Fewer rows than lines: a quote may hold lines together that are rows of their own.
    if (quotes % 2 or (quotes and lines > len(table))) and (lost := unclosed(path, how, quotes)):
        raise InputError(f"{path}{lost.replace(';', ':', 1)}")
    if hint:
        raise InputError(f"{path}: one column, {header[0]!r}{hint}")
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
        raise InputError(f"{path}: separator = {how.separator!r}; give one of , ; | or a tab")
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
                    raise InputError(f"{path}: by its first bytes {what[0]}")
                if not wide and (nul := chunk.find(b"\0")) >= 0:
                    line = ends + chunk[:nul].count(b"\n") + 1
                    raise InputError(
                        f"{path}: line {line} holds a NUL byte; is it cut, or encoding = 'utf-16'?"
                    )
                quotes, size, last = quotes + chunk.count(b'"'), size + len(chunk), chunk[-1:]
                # a lone \r ends a line as well, and \r\n counts once
                ends += chunk.count(b"\n") + chunk.count(b"\r") - chunk.count(b"\r\n")
                if path.suffix == ".gz" and (size > LARGEST or (size > BOMB and size > RATIO * packed)):
                    raise InputError(
                        f"{path}: unpacks to {size >> 20} MB or more; unpack it, or write parquet"
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: {_first_line(error)}") from None
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


def fits(where: Where, floats: Iterable[str] = ()) -> pl.Expr:
    """Whether a row fits every column's patterns, in which * stands for any text.

    floats: columns of numbers with fractions, of which the whole ones are text without a point, as codes are.
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
    """A column by name, or a refusal that names the near one."""
    try:
        return table.get_column(name)  # a list of all names, for each of 20 000 columns, would take minutes
    except pl.exceptions.ColumnNotFoundError:
        raise InputError(f"{file}: no column {name!r}{near(name, table.columns)}") from None


def _plain(series: pl.Series) -> pl.Series:
    """As strings; whole numbers without the `.0` that pandas gives to a column with gaps; nan is null."""
    if series.dtype == pl.Duration:
        raise InputError(f"column {series.name!r} holds {series.dtype}; write text")
    if series.dtype.is_decimal():
        return series.cast(pl.String).str.replace(r"\.0*$", "")
    if series.dtype.is_float():
        series = series.fill_nan(None)
        whole = series.cast(pl.Int64, strict=False)
        exact = whole.cast(series.dtype) == series
        return series.cast(pl.String).zip_with(~exact.fill_null(False), whole.cast(pl.String))
    return series.cast(pl.String)


FRACTIONS = "250.0 and 250.00, 42 and 042 cannot be told apart; write codes as text"


def fractions(dtype: Any) -> bool:
    """Whether a column of that type holds numbers with fractions, of which codes lose zeros."""
    return bool(dtype.is_float() or (dtype.is_decimal() and dtype.scale))


def text(series: pl.Series, missing: Iterable[str] = ()) -> pl.Series:
    """As strings; the empty cell and these words become null, any other stays as it stands."""
    series = _plain(series)
    return series.set(series.is_in(["", *missing]), None)


def without(
    series: pl.Series,
    missing: Collection[str],
    points: Callable[[pl.Series], pl.Series] = lambda cells: cells,
) -> pl.Series:
    """Numbers or times without these words: -9 as a number or as text, where -9.0 is -9, too.

    points: gives the text of numbers a decimal point.
    """
    if not missing:
        return series
    words = [float(word) for word in missing if re.fullmatch(r"[+-]?\d+(\.\d*)?", word)]
    if series.dtype.is_numeric():
        return series.set(series.cast(pl.Float64).is_in(words).fill_null(False), None)
    if series.dtype != pl.String:
        return series
    cell = series.str.strip_chars()
    gone = cell.is_in(list(missing))
    if words:
        gone = gone | points(cell).cast(pl.Float64, strict=False).is_in(words).fill_null(False)
    return series.set(gone.fill_null(False), None)


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


@dataclass(frozen=True, eq=False)
class Moments:
    """When each row was, (row,) Int64 seconds after its origin; null = missing, or not a time."""

    at: pl.Series  # of a bare date the first second of its day
    end: pl.Series  # of a bare date the last second of its day, else as `at`
    bad: pl.Series  # Boolean: a cell that is not a time, or too far from the origin
    far: pl.Series  # Boolean, those of `bad` that are a time, but too far from the origin
    dated: pl.Series  # Boolean: a date, not an offset

    @property
    def bare(self) -> pl.Series:
        """Whether it is a date without a clock time."""
        return (self.end > self.at).fill_null(False)


_SIGN, _POWER = r"^\s*(<=?|>=?|≤|≥)\s*", r"(?:[eE][+-]?[0-9]{1,2})?"
_SIDED = rf"{_SIGN}([+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+){_POWER})\s*$"
_CLEAR = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+|0,[0-9]+|[0-9]+,(?:[0-9]{1,2}|[0-9]{4,})"
BOUND = rf"{_SIGN}([+-]?(?:{_CLEAR}){_POWER})\s*$"
"""A number in words that is known from one side only, as in <5. A comma is decimal in <0,5; in <1,000 nobody
knows what it is, and <LOD holds no number."""


def bounded(cells: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Cells without the sign of a bound before them; and -1 where the truth lies below, 1 above, else 0."""
    sign = cells.str.extract(_SIDED, 1).str.slice(0, 1)
    side = sign.replace_strict(["<", "≤", ">", "≥"], [-1, -1, 1, 1], default=0, return_dtype=pl.Int8)
    return cells.str.extract(_SIDED, 2).fill_null(cells), side.fill_null(0)


def moment(
    series: pl.Series,
    origin: pl.Series | None,
    where: str,
    how: TimeSpec | None = None,
    bare: pl.Series | None = None,
    line: Callable[[int], int] = lambda row: row + 2,
    doubt: Callable[[str], None] = lambda what: None,
    limit: int | None = LIFETIME,
    utc: bool = False,
) -> Moments:
    """Seconds after the origin of each row.

    Numbers and durations are time after the origin; dates are ISO 8601 or written as `how.format` says, and
    need `origin` (seconds since 1970, UTC, of each row). Among dates a number from 1900 on is no offset.
    A bare date is a day of the time zone; `bare` says so where the type cannot. `doubt` is told what is read,
    but looks like a slip. `limit`: seconds from the origin beyond which nothing is a time; None where the
    dates give the origin itself, which may be any. `utc`: clock times are in UTC, whatever the time zone.
    """
    how = how or TimeSpec()
    none = pl.Series([False]).new_from_index(0, len(series))
    offset = pl.Series([None], dtype=pl.Float64).new_from_index(0, len(series))
    stamp, flag, odd = _no_stamp(len(series)), none, none
    if series.dtype == pl.Duration:
        offset = series.dt.total_microseconds() / 1e6
    elif series.dtype.is_temporal():
        odd = series.is_not_null()
        flag = none | (series.dtype == pl.Date) if bare is None else bare.fill_null(False)
        given = series.cast(pl.Datetime("us")) if series.dtype == pl.Date else series
        stamp = stamped(given, flag, None if utc else how.timezone, how.timezone)
    elif how.format is not None:
        cell = series.cast(pl.String).str.strip_chars()
        cell = cell.set(cell.is_in(MISSING), None)
        odd, flag = cell.is_not_null(), none | (not _CLOCK.search(how.format))
        stamp = _written(cell, how.format, where)
        stamp = first_second(stamp, how.timezone) if flag.any() else localized(stamp, how.timezone)
    else:
        number_, odd = number(series)
        offset = number_ * UNITS[how.unit]
        cell = series.cast(pl.String).str.strip_chars().set(~odd, None)
        if (unclear := cell.str.contains(r"^\d{1,2}[./-]\d{1,2}[./-]\d{2,4}").fill_null(False)).any():
            row = unclear.arg_true()[0]
            raise InputError(
                f"{where}, line {line(row)}: {cell[row]!r} is ambiguous; write dates as 2021-03-04, or set "
                "time = { format = ... } of that table, as in '%d/%m/%Y'"
            )
        if (digits := _digits(number_, how)) is not None:
            cell, offset = cell.fill_null(digits), offset.set(digits.is_not_null(), None)
            number_, odd = number_.set(digits.is_not_null(), None), odd | digits.is_not_null()
        stamp, flag = calendar(cell, how.timezone)
        _zones(cell.filter(~flag & stamp.is_not_null()), where, how, doubt)
        if stamp.is_not_null().any():  # a great number among dates is a year, or a spreadsheet's day
            slip = (number_.abs() >= YEARS_FROM).fill_null(False)
            odd, offset = odd | slip, offset.set(slip, None)
        elif origin is not None and "unit" not in how.model_fields_set:
            _slip(number_, where, doubt)
    if origin is None and stamp.is_not_null().any():
        raise InputError(f"{where}: holds dates; name the column of day 0 as origin in [patient]")
    at = offset.round()
    dated = stamp.is_not_null()
    if origin is not None:
        at = at.fill_null((stamp.dt.epoch("s") - origin).cast(pl.Float64))
    far = (at.abs() > (limit or 2**52)).fill_null(False)
    at = at.set(far, None)
    bad = at.is_null() & (offset.is_not_null() | odd)
    at = at.cast(pl.Int64)
    end = at
    if flag.any():
        length = last_second(stamp, how.timezone).dt.epoch("s") - stamp.dt.epoch("s")
        end = (at + length.set(~(flag & dated), 0)).fill_null(at)
    return Moments(at, end, bad, far, dated)


def midnights(series: pl.Series, how: TimeSpec) -> int:
    """How many clock times a column holds where each of them is midnight, as it is written; else 0."""
    if series.dtype.is_temporal():
        local = series.drop_nulls() if isinstance(series.dtype, pl.Datetime) else series.clear()
    elif how.format is not None:
        clock = _CLOCK.search(how.format) is not None
        cell = series.cast(pl.String).str.strip_chars()
        local = _written(cell, how.format, series.name).drop_nulls() if clock else series.clear()
    elif series.dtype == pl.String:
        clocks = series.filter(series.str.contains(_STAMP).fill_null(False))
        if len(clocks) and not clocks[:100].str.contains(_MIDNIGHT).all():  # most columns are told at once
            return 0
        return len(clocks) if clocks.str.contains(_MIDNIGHT).all() else 0
    else:
        return 0
    return len(local) if not len(local) or (local.dt.truncate("1d") == local).all() else 0


def offsets(series: pl.Series, form: str, where: str) -> bool:
    """Whether a column of a table with a format holds numbers after day 0 and not one date in that format."""
    if series.null_count() == len(series) or number(series)[1].any():
        return False
    return not _written(_plain(series).str.strip_chars(), form, where).is_not_null().any()


def calendar(cells: pl.Series, zone: str | None) -> tuple[pl.Series, pl.Series]:
    """Dates as text: their first moment in UTC (null = no date), and which are bare."""
    local, ahead, bare = iso(cells)
    stamp = stamped(local, bare, zone, zone)
    moved = local - (ahead * 60_000_000).cast(pl.Duration("us"))
    return (stamp if ahead.null_count() == len(ahead) else moved.fill_null(stamp)), bare


# Days and time zones


def stamped(given: pl.Series, bare: pl.Series, zone: str | None, day: str | None) -> pl.Series:
    """The first moment of clock times of a `zone` and of bare dates of the zone `day`, in UTC."""
    stamp = localized(given, zone)
    if day is None or not bare.any():
        return stamp
    return stamp.zip_with(~bare, first_second(given.dt.replace_time_zone(None).cast(pl.Datetime("us")), day))


def localized(stamp: pl.Series, zone: str | None) -> pl.Series:
    """Clock times of a time zone in UTC (METHODS 3). A moment that a change of the clock leaves out is no
    time; of one that it doubles, the earlier counts."""
    return _plain_utc(stamp) if zone is None or _zoned(stamp) else _in_utc(stamp, zone, "earliest")


def first_second(day: pl.Series, zone: str | None) -> pl.Series:
    """The first second of local days, given as midnights without a zone, in UTC.

    Null for a day that a time zone left out, as that of 30 December 2011 in Samoa.
    """
    if zone is None:
        return day
    begun = _in_utc(day, zone, "earliest")
    if begun.null_count() > day.null_count():  # the clock was put forward at midnight
        eve = _in_utc(day.dt.offset_by("-1s"), zone, "latest")
        begun = begun.fill_null(eve.dt.offset_by("1s"))
        begun = begun.set((_local(begun, zone).dt.date() != day.dt.date()).fill_null(False), None)
    return begun


def end_of_day(time: pl.Expr, bare: pl.Expr) -> pl.Expr:
    """When a moment without a zone has surely passed: a bare date at the last second of its day."""
    return pl.when(bare).then(time + pl.duration(days=1, seconds=-1)).otherwise(time)


def last_second(begun: pl.Series, zone: str | None) -> pl.Series:
    """The end of the local days that begin at these moments (UTC): the last second before the next midnight.

    A day lasts 23 or 25 hours where the clock is changed.
    """
    if zone is None:
        return begun.dt.offset_by(f"{DAY - 1}s")
    late = _local(begun, zone).dt.truncate("1d").dt.offset_by(f"{DAY - 1}s")
    return _in_utc(late, zone, "latest").fill_null(begun.dt.offset_by(f"{DAY - 1}s"))


def _zoned(stamp: pl.Series) -> bool:
    return isinstance(stamp.dtype, pl.Datetime) and stamp.dtype.time_zone is not None


def _plain_utc(stamp: pl.Series) -> pl.Series:
    """Without a zone: what has one in UTC, what has none as it stands."""
    stamp = stamp.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if _zoned(stamp) else stamp
    return stamp.cast(pl.Datetime("us"))


def _in_utc(local: pl.Series, zone: str, twice: Literal["earliest", "latest"]) -> pl.Series:
    stamp = local.dt.replace_time_zone(zone, ambiguous=twice, non_existent="null")
    return _plain_utc(stamp)


def _local(stamp: pl.Series, zone: str) -> pl.Series:
    return stamp.dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)


def example(how: TimeSpec) -> str:
    """How a time of a table is written so that it is read."""
    if how.format is None:
        return "2021-03-04, 2021-03-04 08:30 or 2021-03-04T08:30:00+01:00"
    try:
        return pl.Series([datetime(2021, 3, 4, 8, 30)]).dt.strftime(how.format)[0]
    except pl.exceptions.PolarsError:  # it names a time zone
        return f"the format {how.format!r} says"


# ISO 8601 and what databases make of it

_ISO = (
    r"^(?P<date>\d{4}-\d\d-\d\d|\d{8})"
    r"(?:[Tt]|\s+)(?P<minute>\d\d:?\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<part>\d+))?)?"
    r"\s*(?P<zone>[Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?(?:\[[\w/+-]+\])?$"
)
_STAMP = r"^\s*\d{4}-?\d\d-?\d\d(?:[Tt]|\s+)\d"  # a day and a clock time, of whatever form
_MIDNIGHT = (
    r"^\s*\S{8,10}?(?:[Tt]|\s+)00:?00(?::?00(?:[.,]0+)?)?"
    r"(?:\s*(?:[A-Za-z]+|[+-]\d\d(?::?\d\d)?))?(?:\[.*\])?\s*$"
)
_ZONE = r"(:\d\d|:\d\d\.\d+)(Z|[+-]\d\d:?\d\d)$"  # the commonest, behind a clock time


def iso(cells: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Dates and clock times as they are written (null = neither), minutes ahead of UTC (null = not said), and
    which are bare dates.

    2021-03-04 or 20210304; behind it T or a blank and a clock time to the minute, the second or a part of
    it, with a point or a comma; behind that Z, UTC, GMT, +01, +0100 or +01:00, with a blank or not.
    """
    bare = (cells.str.len_chars() == 10).fill_null(False)
    date = cells.set(~bare, None).str.to_datetime("%Y-%m-%d", strict=False, time_unit="us", exact=True)
    short = cells.str.contains(r"^\d{8}$").fill_null(False)
    if short.any():
        bare = bare | short
        days = cells.set(~short, None).str.to_datetime("%Y%m%d", strict=False, time_unit="us", exact=True)
        date = date.fill_null(days)
    clock = cells.set(bare, None)
    zone = clock.str.extract(_ZONE, 2)
    plain = clock.str.replace(_ZONE, "$1").str.replace(" ", "T", literal=True)
    local = plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False, time_unit="us", exact=True)
    if local.null_count() > clock.null_count():
        local = local.fill_null(plain.str.to_datetime("%Y-%m-%dT%H:%M", strict=False, time_unit="us"))
    ahead = _ahead(zone)
    local = local.set(zone.is_not_null() & ahead.is_null(), None)
    other = (clock.is_not_null() & local.is_null()).arg_true()
    if len(other):
        slow, further = _forms(clock.gather(other))
        local, ahead = local.scatter(other, slow), ahead.scatter(other, further)
    return date.fill_null(local), ahead, bare


def _forms(cells: pl.Series) -> tuple[pl.Series, pl.Series]:
    """`iso` of clock times in every form."""
    parts = cells.str.extract_groups(_ISO).struct
    day = parts.field("date").str.replace_all("-", "", literal=True)
    clock = parts.field("minute").str.replace(":", "", literal=True) + parts.field("second").fill_null("00")
    local = (day + " " + clock).str.to_datetime("%Y%m%d %H%M%S", strict=False, time_unit="us", exact=True)
    part = (parts.field("part").fill_null("") + "000000").str.slice(0, 6).cast(pl.Int64)
    zone = parts.field("zone")
    ahead = _ahead(zone)
    local = (local + part.cast(pl.Duration("us"))).set(zone.is_not_null() & ahead.is_null(), None)
    return local, ahead


def _ahead(zone: pl.Series) -> pl.Series:
    """Minutes ahead of UTC; null where there is no zone, or one that no clock on earth has."""
    if zone.null_count() == len(zone):
        return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(zone))
    digits = zone.str.replace_all(r"[^0-9]", "").str.pad_end(4, "0")
    minutes = digits.str.slice(0, 2).cast(pl.Int64, strict=False) * 60
    minutes = minutes + digits.str.slice(2, 2).cast(pl.Int64, strict=False)
    minutes = minutes.set((minutes > 14 * 60).fill_null(False), None)
    return minutes * zone.str.starts_with("-").fill_null(False).cast(pl.Int64).replace({0: 1, 1: -1})


def _digits(number_: pl.Series, how: TimeSpec) -> pl.Series | None:
    """Numbers such as 20210304 as text, where most of that size are dates: no offset in days is so long."""
    if "unit" in how.model_fields_set or not (long := (number_ >= 10_000_101).fill_null(False)).any():
        return None
    whole = number_.set(~long | (number_ > 99_991_231).fill_null(False), None)
    words = whole.cast(pl.Int64).cast(pl.String).set((whole % 1 != 0).fill_null(False), None)
    dates = words.str.to_datetime("%Y%m%d", strict=False, time_unit="us", exact=True)
    return words if 2 * (len(dates) - dates.null_count()) > int(long.sum()) else None


def _zones(clocks: pl.Series, where: str, how: TimeSpec, doubt: Callable[[str], None]) -> None:
    """Whether some clock times of a column say their zone and others do not."""
    plain = int((~clocks.str.contains(r"(?i)(Z|UTC|GMT|[+-]\d\d:?(\d\d)?)$")).sum())
    if 0 < plain < len(clocks):
        read = f"as of {how.timezone}" if how.timezone else "as UTC; or set timezone in its time = { ... }"
        doubt(f"{where}: {plain} of {len(clocks)} clock times have no zone, the others have; read {read}")


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


_CLOCK = re.compile("%[-_0]?[HIklMSRTrXcs+]")  # signs of strptime that say something of the clock time
_DAY = re.compile("%[-_0]?[dejDFvxcs+]")  # of the day


def _written(cell: pl.Series, form: str, where: str) -> pl.Series:
    if not _DAY.search(form):
        raise InputError(f"{where}: format {form!r} names no day, so nobody knows when; write whole dates")
    try:
        if _CLOCK.search(form):
            return cell.str.to_datetime(form, strict=False, time_unit="us", exact=True)
        return cell.str.to_date(form, strict=False, exact=True).cast(pl.Datetime("us"))
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{where}: format {form!r}: {_first_line(error)}") from None
