"""CSV files as text: one reader, with one rule, for every table, every format and the draft of a spec.

The rule: the first line names the columns, each once; every other line has as many cells, or none at all; a
quote that begins a cell is closed at its end; no NUL byte; one encoding for the whole file. What breaks it is
refused with its line.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow
import pyarrow.csv
from polars.io.plugins import register_io_source

from gnnpatient.errors import InputError
from gnnpatient.files import room_for
from gnnpatient.readers.database import first_line
from gnnpatient.spec.tables import TableSpec

CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
SEPARATORS = ",;\t|"
BOMB, RATIO = 1 << 28, 200  # from so many bytes on, no honest table unpacks to so many times its size
_MAX_UNPACKED = 2 << 30  # bytes that a packed CSV may hold: a small file must not fill the memory
_MIN_LARGE = 1 << 28  # bytes from which on a CSV is read in parts
_PART = 4 << 20  # bytes of such a part, where no line is longer
_USUAL_RATIO = 6  # of a table: how many times its size a packed CSV usually holds
_MAX_CELL = 64 << 20  # bytes of the longest cell
_MAX_COLUMNS = 50_000  # each takes 11 kB for every part that is read at once
_DAMAGED = (OSError, EOFError, zlib.error)
_OTHER_FORMATS = {  # first bytes of what is sometimes called .csv
    b"\x1f\x8b": "packed by gzip; call it .csv.gz",
    b"PK\x03\x04": "a zip or a workbook; unpack it, or save it as CSV",
    b"PAR1": "parquet; call it .parquet",
    b"\xff\xfe": "UTF-16; set encoding = 'utf-16'",
    b"\xfe\xff": "UTF-16; set encoding = 'utf-16'",
}

Columns = Callable[[list[str]], Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class CsvFormat:
    """How a CSV file is written.

    Attributes
    ----------
    encoding : str
        A codec of Python; default UTF-8, with a byte order mark or without.
    separator : str
        The sign between two cells; default a comma.
    quoted : bool
        Whether a cell may stand between double quotes; else a quote is a sign like any other.
    settable : bool
        Whether the spec says encoding and separator, so that an error may name its keys.
    """

    encoding: str = "utf-8"
    separator: str = ","
    quoted: bool = True  # whether a cell may stand between quotes; else a quote is a sign like any other
    settable: bool = True  # whether the spec says encoding and separator, so that an error may name its keys

    @classmethod
    def of(cls, path: Path, spec: TableSpec) -> CsvFormat:
        """As the spec says; without a separator there, a tab for what is called .tsv.

        Parameters
        ----------
        path : Path
            The file.
        spec : TableSpec
            What the spec says of it.

        Returns
        -------
        CsvFormat
            Its encoding and separator.

        Raises
        ------
        InputError
            If the separator is none of , ; | or a tab.
        """
        sign = spec.separator
        if sign != "\t" and (not sign.isascii() or sign < " " or sign == '"'):
            raise InputError(f"{path}: separator = {sign!r}; give one of , ; | or a tab")
        if "separator" not in spec.model_fields_set and ".tsv" in path.name:
            sign = "\t"
        return cls(encoding=spec.encoding, separator=sign)

    @property
    def codec(self) -> str:
        """The encoding; UTF-8 under one name, with a byte order mark or without."""
        utf8 = self.encoding.lower() in ("utf-8", "utf8", "utf_8", "utf-8-sig")
        return "utf-8" if utf8 else self.encoding

    @property
    def is_wide(self) -> bool:
        """Whether NUL bytes are part of its signs."""
        codec = self.codec.lower().replace("_", "-")
        return codec.startswith(("utf-16", "utf-32", "utf16", "utf32"))

    def lines(self, handle: io.TextIOWrapper, *, strict: bool = False) -> Any:
        """The cells of each line, by Python's own reader.

        Parameters
        ----------
        handle : text file
            The file, opened with newline="".
        strict : bool
            Whether a badly closed quote is an error; default no.

        Returns
        -------
        iterator of list of str
            A list a line.
        """
        if not self.quoted:
            return csv.reader(handle, delimiter=self.separator, quoting=csv.QUOTE_NONE)
        return csv.reader(handle, delimiter=self.separator, strict=strict)


def read_csv(
    path: Path, form: CsvFormat, *, columns: Columns | None = None, empty_is_null: bool = False
) -> pl.DataFrame:
    """All cells as text.

    Parameters
    ----------
    path : Path
        The file; packed by gzip if it ends in .gz.
    form : CsvFormat
        How it is written.
    columns : callable, optional
        Of the names in the header, those that are read, and what they are called then; default: all, as
        they are.
    empty_is_null : bool
        Whether an empty cell is null; default: it is "".

    Returns
    -------
    polars.DataFrame
        Without columns where the file has not even a header, without rows where it has nothing else.

    Raises
    ------
    InputError
        If the file breaks the rule of this module, holds bytes of another encoding, is another kind of file,
        is damaged, or is too large for the memory.
    """
    room_for(2 * path.stat().st_size, str(path))
    quotes, lines = _census(path, form)
    if not (header := _header(path, form)):
        return pl.DataFrame()
    names = {name: name for name in header} if columns is None else columns(header)
    if lines < 1:
        return pl.DataFrame(schema=dict.fromkeys(names.values(), pl.String))
    hint = _other_separator(path, form, header)
    parse = partial(_parse, path, form, header, list(names), empty_is_null)
    try:
        table = _with_room(parse)
    except (pyarrow.ArrowInvalid, UnicodeError, *_DAMAGED) as error:
        raise InputError(f"{path}: {_cause(path, form, parse, error, quotes, hint)}") from None
    # fewer rows than lines: a quote may hold lines together that are rows of their own
    if (quotes % 2 or lines > len(table)) and (lost := _unclosed(path, form, quotes)):
        raise InputError(f"{path}: {lost}")
    if hint:
        raise InputError(f"{path}: one column, {header[0]!r}; {hint}")
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame if columns is None else frame.rename(dict(names))


def is_large(path: Path) -> bool:
    """Whether a CSV holds so much that it is better read in parts, each time that it is needed.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    bool
    """
    return path.stat().st_size * (_USUAL_RATIO if _is_packed(path) else 1) > _MIN_LARGE


def scan_csv(path: Path, form: CsvFormat) -> pl.LazyFrame:
    """All cells as text, by the rule of `read_csv`, but in parts: what is not asked for is not kept.

    The file is gone through twice at once, which finds what is wrong in it, and once more by each query.

    Parameters
    ----------
    path : Path
        The file; packed by gzip if it ends in .gz.
    form : CsvFormat
        How it is written.

    Returns
    -------
    polars.LazyFrame

    Raises
    ------
    InputError
        As `read_csv`; a packed file may hold any size that is honest for its own.
    """
    quotes, lines = _census(path, form, most=sys.maxsize)
    if not (header := _header(path, form)):
        return pl.LazyFrame()
    if hint := _other_separator(path, form, header):
        raise InputError(f"{path}: one column, {header[0]!r}; {hint}")
    rows, block = _count_rows(path, form, header, quotes) if lines > 0 else (0, _PART)
    if (quotes % 2 or lines > rows) and (lost := _unclosed(path, form, quotes)):
        raise InputError(f"{path}: {lost}")

    def source(
        columns: list[str] | None, keep: pl.Expr | None, limit: int | None, batch: int | None
    ) -> Iterator[pl.DataFrame]:
        del batch  # a hint only
        names, left = header if columns is None else columns, rows if limit is None else min(limit, rows)
        if not names or not left:
            yield pl.DataFrame(schema=dict.fromkeys(names, pl.String)) if names else pl.DataFrame(height=left)
            return
        for frame in _batches(path, form, header, names, block, quotes):
            part, left = frame[:left], left - min(left, len(frame))
            yield part if keep is None else part.filter(keep)
            if not left:
                return

    return register_io_source(source, schema=dict.fromkeys(header, pl.String))


def _count_rows(path: Path, form: CsvFormat, header: list[str], quotes: int) -> tuple[int, int]:
    """How many rows there are, and the size of the parts to read them in, each longer than any line."""
    for block in (_PART, _MAX_CELL):
        with suppress(_LongLineError):
            return sum(len(part) for part in _batches(path, form, header, header[:1], block, quotes)), block
    raise InputError(f"{path}: a line is longer than {_MAX_CELL >> 20} MB")


class _LongLineError(Exception):
    """A line is longer than the parts in which a file is read."""


def _batches(
    path: Path, form: CsvFormat, header: list[str], names: list[str], block: int, quotes: int
) -> Iterator[pl.DataFrame]:
    """Some columns of a CSV, in parts."""
    uneven: list[str] = []
    try:
        options = _options(form, header, names, False, block=block, threads=False, uneven=uneven)
        with pyarrow.csv.open_csv(_opened(path), *options) as reader:
            for batch in reader:
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                yield frame
    except (pyarrow.ArrowInvalid, UnicodeError, *_DAMAGED) as error:
        if "straddles" in str(error):
            raise _LongLineError from None
        if uneven:
            lost = _unclosed(path, form, quotes) or "write every cell"
            raise InputError(f"{path}: {uneven[0]}; {lost}") from None
        if isinstance(error, UnicodeError) or "UTF8" in str(error):
            raise InputError(f"{path}: {_wrong_encoding(path, form)}") from None
        raise InputError(f"{path}: {first_line(error)}") from None


def found_encoding(path: Path) -> str:
    """The encoding of a CSV whose spec says none.

    Parameters
    ----------
    path : Path
        The file, which is read as a whole.

    Returns
    -------
    str
        utf-8 where all bytes are that, else latin1, which every file is.
    """
    try:
        with _open_text(path, "utf-8") as handle:
            while handle.read(1 << 20):
                pass
    except UnicodeError:
        return "latin1"
    except _DAMAGED as error:
        raise InputError(f"{path}: {first_line(error)}") from None
    return "utf-8"


def found_separator(path: Path, encoding: str = "utf-8", choices: str = SEPARATORS) -> str:
    """The separator of a CSV whose spec says none: the sign that stands most often in the first line.

    Parameters
    ----------
    path : Path
        The file, of which the first line is read.
    encoding : str
        Its encoding; default UTF-8.
    choices : str
        The signs that may be meant; of equals the first one counts.

    Returns
    -------
    str
        One of the choices.
    """
    try:
        with _open_text(path, encoding, errors="replace") as handle:
            return max(choices, key=handle.readline(1 << 24).count)
    except _DAMAGED as error:
        raise InputError(f"{path}: {first_line(error)}") from None


def _open_text(path: Path, encoding: str, errors: str = "strict") -> io.TextIOWrapper:
    """The text of a CSV, unpacked where it is packed."""
    opener: Any = gzip.open if _is_packed(path) else open
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    return opener(path, "rt", encoding=encoding, errors=errors, newline="")


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _open_bytes(path: Path) -> Any:
    return gzip.open(path) if _is_packed(path) else path.open("rb")


def _wrong_encoding(path: Path, form: CsvFormat) -> str:
    if not form.settable:
        return f"not {form.encoding}; write it as {form.encoding}"
    return f"not {form.encoding}; set encoding, as in [tables.{path.name!r}] encoding = 'latin1'"


def _census(path: Path, form: CsvFormat, most: int = _MAX_UNPACKED) -> tuple[int, int]:
    """How many quotes a CSV holds, and how many lines after the first, at least.

    A packed one that holds too much is refused before it fills the memory, a NUL byte before a text is cut.
    """
    quotes = size = ends = 0
    last, wide, packed = b"\n", form.is_wide, _is_packed(path)
    try:
        stored = path.stat().st_size
        with _open_bytes(path) as raw:
            for chunk in iter(lambda: raw.read(1 << 20), b""):
                other = [name for mark, name in _OTHER_FORMATS.items() if not size and chunk.startswith(mark)]
                if other and not wide:
                    raise InputError(f"{path}: by its first bytes {other[0]}")
                if not wide and (nul := chunk.find(b"\0")) >= 0:
                    line = ends + chunk[:nul].count(b"\n") + 1
                    raise InputError(
                        f"{path}: line {line} holds a NUL byte; is it cut, or encoding = 'utf-16'?"
                    )
                quotes, size, last = quotes + chunk.count(b'"'), size + len(chunk), chunk[-1:]
                # a lone \r ends a line as well, and \r\n counts once
                ends += chunk.count(b"\n") + chunk.count(b"\r") - chunk.count(b"\r\n")
                if packed and (size > most or (size > BOMB and size > RATIO * stored)):
                    raise InputError(
                        f"{path}: unpacks to {size >> 20} MB or more; unpack it, or write parquet"
                    )
    except _DAMAGED as error:
        raise InputError(f"{path}: {first_line(error)}") from None
    return quotes if form.quoted else 0, ends - (last in (b"\n", b"\r"))


def _header(path: Path, form: CsvFormat) -> list[str]:
    """The names of the columns; none where the file is empty."""
    try:
        with _open_text(path, form.codec) as handle:
            header: list[str] = next(form.lines(handle), [])
            blank = not header and bool(handle.read(1 << 16).strip())
    except (UnicodeError, LookupError):
        raise InputError(f"{path}: {_wrong_encoding(path, form)}") from None
    except csv.Error as error:
        raise InputError(f"{path}: line 1, the header: {error}; is a quote never closed?") from None
    except _DAMAGED as error:
        raise InputError(f"{path}: {first_line(error)}") from None
    if repeated := sorted(name for name, n in Counter(header).items() if n > 1):
        raise InputError(f"{path}: column {repeated[0]!r} appears twice in the header")
    if len(header) > _MAX_COLUMNS:
        raise InputError(f"{path}: {len(header)} columns; write it long, a row a value, or as parquet")
    if blank:
        raise InputError(f"{path}: line 1 is blank; the names of the columns belong there")
    return header


def _other_separator(path: Path, form: CsvFormat, header: list[str]) -> str:
    """What to do where a header of one column holds another separator; "" where it does not."""
    other = next((s for s in ";\t|," if s != form.separator and s in header[0]), None)
    if len(header) > 1 or other is None:
        return ""
    if not form.settable:
        return "separate the cells by commas or tabs"
    return f"set separator = {other!r} in [tables.{path.name!r}]?"


def _parse(
    path: Path,
    form: CsvFormat,
    header: list[str],
    names: list[str],
    empty_is_null: bool,
    *,
    threads: bool = True,
    block: int | None = None,
    uneven: list[str] | None = None,
) -> pyarrow.Table:
    """By pyarrow, which counts the cells of every line; polars fills a short one with nulls in silence.

    uneven: gets what lines have too many cells or too few; only one thread knows the number of a line.
    """
    options = _options(form, header, names, empty_is_null, block=block, threads=threads, uneven=uneven)
    return pyarrow.csv.read_csv(_opened(path), *options)


def _opened(path: Path) -> Any:
    """A file as pyarrow reads it."""
    place = str(path.absolute())  # a first ~ is a sign like any other
    return pyarrow.input_stream(place, compression="gzip") if _is_packed(path) else place


def _options(
    form: CsvFormat,
    header: list[str],
    names: list[str],
    empty_is_null: bool,
    *,
    block: int | None,
    threads: bool,
    uneven: list[str] | None,
) -> tuple[Any, Any, Any]:
    """How pyarrow reads, parses and converts a CSV."""

    def note(line: pyarrow.csv.InvalidRow) -> str:
        assert uneven is not None
        uneven.append(
            f"line {line.number} has {line.actual_columns} cells, the header {line.expected_columns}"
        )
        return "error"

    return (
        pyarrow.csv.ReadOptions(encoding=form.codec, use_threads=threads, block_size=block),
        pyarrow.csv.ParseOptions(
            delimiter=form.separator,
            quote_char='"' if form.quoted else False,
            newlines_in_values=form.quoted,
            invalid_row_handler=None if uneven is None else note,
        ),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(header, pyarrow.string()),
            include_columns=names,
            strings_can_be_null=empty_is_null,
            null_values=[""],
        ),
    )


def _with_room(parse: Callable[..., pyarrow.Table]) -> pyarrow.Table:
    """In blocks of the usual size, else in such that hold the longest line."""
    try:
        return parse()
    except pyarrow.ArrowInvalid as error:
        if "straddles" not in str(error):
            raise
        return parse(block=_MAX_CELL)


def _cause(
    path: Path,
    form: CsvFormat,
    parse: Callable[..., pyarrow.Table],
    error: Exception,
    quotes: int,
    hint: str,
) -> str:
    """Why a file could not be parsed: the first line that is wrong, and what to do."""
    uneven: list[str] = []
    with suppress(pyarrow.ArrowInvalid, UnicodeError, *_DAMAGED):
        parse(threads=False, block=_MAX_CELL, uneven=uneven)
    if uneven:
        lost = [part for part in (hint, _unclosed(path, form, quotes)) if part]
        return "; ".join([uneven[0], *(lost or ["write every cell"])])
    if isinstance(error, UnicodeError) or "UTF8" in str(error):
        return _wrong_encoding(path, form)
    if "straddles" in str(error):
        return _unclosed(path, form, quotes) or f"a line is longer than {_MAX_CELL >> 20} MB"
    return first_line(error)


@contextmanager
def _long_cells() -> Iterator[None]:
    """Python's own reader of CSV takes cells of at most 131072 characters by default; here longer ones."""
    before = csv.field_size_limit(_MAX_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _unclosed(path: Path, form: CsvFormat, quotes: int) -> str:
    """Where a quote begins that is not closed where its cell ends and swallows lines; "" where none does.

    Text behind a closing quote on the same line loses nothing; behind one that was opened lines before, the
    rows between are lost.
    """
    if not quotes:
        return ""
    start = 1
    with _long_cells(), _open_text(path, form.codec) as handle:
        lines = form.lines(handle, strict=True)
        while True:
            try:
                next(lines)
            except StopIteration:
                return ""
            except csv.Error as error:
                if "expected after" not in str(error) or lines.line_num > start:
                    return (
                        f"a quote on line {start} is never closed; close it, or double quotes inside a cell"
                    )
                if quotes % 2:
                    return f"line {start}: text after a closing quote; write a quote inside a cell twice"
            start = lines.line_num + 1
