"""CSV files as text: one reader, with one rule, for every table and every format."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow
import pyarrow.csv

from gnnpatient.errors import InputError
from gnnpatient.files import room_for
from gnnpatient.readers.database import first_line
from gnnpatient.spec.graph import TableSpec

CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
LARGEST = 2 << 30  # bytes that a packed CSV may hold: a small file must not fill the memory
BOMB, RATIO = 1 << 28, 200  # from so many bytes on, no honest table unpacks to so many times its size
CELL = 64 << 20  # bytes of the longest cell
COLUMNS = 50_000  # of the widest CSV: each takes 11 kB for every part that is read at once


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
        raise InputError(f"{path}: {first_line(error)}") from None
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
        raise InputError(f"{path}: {first_line(error)}") from None
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
