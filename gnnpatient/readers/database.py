"""Tables that are not one file: SQLite, DuckDB, a folder of parquet shards. All are read lazily."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from gnnpatient.errors import InputError, near

ENDINGS = (".sqlite", ".sqlite3", ".db", ".duckdb")
BATCH = 50_000  # rows in memory as Python objects at a time
WAIT = 1.0  # seconds until a locked SQLite file is refused
SECONDS = 20.0  # that a view may take before its first row and in all, and a second more for each
RATE = 10 << 20  # bytes of its file: a small file may hold a view that never ends
CELL = 64 << 20  # bytes of the longest cell, which a view can make of nothing

Reads = Callable[[list[str], int | None], Iterator[pl.DataFrame]]


def scan(folder: Path, name: str) -> pl.LazyFrame | None:
    """A table that is not one file, read lazily: of a database, or a folder of parquet shards.

    What a .db file is, its first bytes say. A column of a database keeps its type. In SQLite, where every
    cell has its own, a column of whole numbers and fractions is float, and one with any text is text; bytes
    stay bytes. Shards are taken in the order of their paths, and folders such as `year=2020/` give no column.

    Parameters
    ----------
    folder : Path
        The folder of the cohort; nothing outside it is read, links included.
    name : str
        What the spec calls the table: ward.sqlite/labs, ward.db/labs, ward.duckdb/labs, or labs, a folder.

    Returns
    -------
    polars.LazyFrame or None
        None where the name is that of a single file.

    Raises
    ------
    InputError
        If the file lies outside `folder`, or there is no such file, table or shard; if a file is locked,
        broken or not a database; if a table has no rows; if shards differ; if a view does not end.
    """
    parts = Path(name).parts
    if not parts:
        return None
    file = next((i for i, part in enumerate(parts, 1) if part.endswith(ENDINGS)), 0)
    path = folder.joinpath(*parts[:file]) if file else folder / name
    if path.is_dir():
        _inside(folder, path, parts)
        return _shards(folder, folder / name)
    if not file:
        return None
    _inside(folder, path, parts[:file])
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob("*") if p.name.endswith(ENDINGS))
        raise InputError(f"{path}: no such file{near(path.name, there) if there else ''}")
    try:
        with path.open("rb") as handle:
            head = handle.read(16)
    except OSError as error:
        raise InputError(f"{path}: {first_line(error)}") from None
    table = "/".join(parts[file:])
    if head[8:12] == b"DUCK":
        return _duckdb(path, table)
    if head == b"SQLite format 3\0":
        return _sqlite(path, table)
    kind = "DuckDB" if path.suffix == ".duckdb" else "SQLite"
    raise InputError(f"{path}: not a {kind} database, by its first bytes; is it whole, and not packed?")


def _inside(folder: Path, path: Path, parts: tuple[str, ...]) -> None:
    out = Path(*parts).is_absolute() or ".." in parts
    if out or not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{path}: leads out of {folder}; keep the tables of a cohort in one folder")


def first_line(error: Exception) -> str:
    """The first line of what an error says; its type where it says nothing.

    Parameters
    ----------
    error : Exception
        Any error.

    Returns
    -------
    str
        One line.

    Examples
    --------
    >>> first_line(ValueError("no such column")), first_line(EOFError())
    ('no such column', 'EOFError')
    """
    return (str(error).splitlines() or [type(error).__name__])[0]


def _quoted(name: str) -> str:
    """As an identifier: in SQL a quote inside one is doubled."""
    return '"' + name.replace('"', '""') + '"'


def _known(path: Path, table: str, known: list[str]) -> None:
    if not known:
        raise InputError(f"{path}: holds no table")
    if not table:
        raise InputError(
            f"{path}: name a table of it, as in {path.name}/{known[0]}; known: {', '.join(known)}"
        )
    if table not in known:
        raise InputError(f"{path}: no table {table!r}{near(table, known)}")


class _Clock:
    """The time that the queries of one view take, without that of the code that uses the rows.

    A table ends where its file does and has no limit.
    """

    def __init__(self, path: Path, table: str, *, view: bool):
        self.limit = SECONDS + path.stat().st_size / RATE if view else None
        self.name = f"{path}/{table}"
        self.spent, self.late = 0.0, False

    @contextmanager
    def running(self, stop: Callable[[], None]) -> Iterator[None]:
        """Refused where what is inside is still at work when the time is over, and so was stopped."""
        limit = self.limit
        if limit is None:
            yield
            return
        over, start = threading.Event(), time.monotonic()

        def watch() -> None:
            while not over.wait(max(0.0, limit - self.spent - (time.monotonic() - start))):
                self.late = True
                stop()
                if over.wait(0.1):  # it may have been between two steps: again
                    return

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            yield
        except Exception:
            if not self.late:
                raise
        finally:
            over.set()
            watching.join()
            self.spent += time.monotonic() - start
        if self.late:
            raise InputError(
                f"{self.name}: a view that took over {limit:.0f} s; does it end? write it as a table, "
                "as in CREATE TABLE ... AS SELECT * FROM ..."
            ) from None


def _lazy(reads: Reads, schema: Mapping[str, Any]) -> pl.LazyFrame:
    """Reads only the columns and rows that a query asks for."""

    def source(
        columns: list[str] | None, keep: pl.Expr | None, rows: int | None, batch: int | None
    ) -> Iterator[pl.DataFrame]:
        del batch  # a hint only
        for frame in reads(list(schema) if columns is None else columns, rows):
            yield frame if keep is None else frame.filter(keep)

    return register_io_source(source, schema=schema)


# SQLite


def _open_sqlite(path: Path) -> closing[sqlite3.Connection]:
    # polars hands a scan from thread to thread, one at a time
    where = f"{path.resolve().as_uri()}?mode=ro"
    base = sqlite3.connect(where, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False)
    base.execute(
        "PRAGMA trusted_schema = OFF"
    )  # a view of the file calls no function that touches other files
    base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, CELL)
    return closing(base)


def _sqlite(path: Path, table: str) -> pl.LazyFrame:
    try:
        with _open_sqlite(path) as base:
            listing = (
                "SELECT name, type, sql FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name"
            )
            listed = {name: (kind, sql) for name, kind, sql in base.execute(listing)}
            _known(path, table, [name for name in listed if not name.startswith("sqlite_")])
            kind, sql = listed[table]
            stored = kind == "table" and not re.match(r"(?i)\s*create\s+virtual", sql or "")
            clock = _Clock(path, table, view=not stored)
            with clock.running(base.interrupt):
                schema = _sqlite_types(base, path, table)
    except (sqlite3.Error, UnicodeError) as error:
        raise InputError(f"{path}/{table}: {first_line(error)}") from None

    def reads(columns: list[str], rows: int | None) -> Iterator[pl.DataFrame]:
        asked = {name: schema[name] for name in columns}
        cells = ", ".join(
            f"CAST({_quoted(name)} AS TEXT)" if kind == pl.String else _quoted(name)
            for name, kind in asked.items()
        )
        limit = -1 if rows is None else rows
        try:
            with _open_sqlite(path) as base:
                query = f"SELECT {cells or 'NULL'} FROM {_quoted(table)} LIMIT ?"
                clock = _Clock(path, table, view=not stored)
                with clock.running(base.interrupt):
                    cursor = base.execute(query, (limit,))
                while True:
                    with clock.running(base.interrupt):
                        lines = cursor.fetchmany(BATCH)
                    if not lines:
                        break
                    if asked:
                        yield pl.DataFrame(lines, schema=asked, orient="row")
                    else:
                        yield pl.DataFrame(height=len(lines))
        except (sqlite3.Error, UnicodeError) as error:
            raise InputError(f"{path}/{table}: {first_line(error)}") from None
        except (pl.exceptions.PolarsError, TypeError, OverflowError) as error:
            raise InputError(f"{path}/{table}: changed while it was read: {first_line(error)}") from None

    return _lazy(reads, schema)


def _sqlite_types(base: sqlite3.Connection, path: Path, table: str) -> dict[str, Any]:
    """By what the cells of a column are; by what was declared where all are missing."""
    listing = base.execute("SELECT name, upper(type) FROM pragma_table_info(?)", (table,))
    declared: dict[str, str] = dict(listing.fetchall())
    seen = ", ".join(f"group_concat(DISTINCT typeof({_quoted(name)}))" for name in declared)
    rows, *kinds = base.execute(f"SELECT count(*), {seen} FROM {_quoted(table)}").fetchone()
    if not rows:
        raise InputError(f"{path}/{table}: no rows")
    schema: dict[str, Any] = {}
    for (name, word), kind in zip(declared.items(), kinds, strict=True):
        found = set(kind.split(",")) - {"null"}
        if "blob" in found and len(found) > 1:
            raise InputError(
                f"{path}/{table}: column {name!r} mixes bytes with {min(found - {'blob'})}; store one kind"
            )
        if not found:
            floats = any(part in word for part in ("REAL", "FLOA", "DOUB"))
            found = {"integer"} if "INT" in word else {"real"} if floats else {"text"}
        if "blob" in found:
            schema[name] = pl.Binary
        elif "text" in found:
            schema[name] = pl.String
        else:
            schema[name] = pl.Float64 if "real" in found else pl.Int64
    return schema


# DuckDB


def _open_duckdb(path: Path) -> closing[Any]:
    import duckdb

    # A view of the file must not read other files, nor a query the variables of this program.
    shut: dict[str, str | bool | int | float | list[str]] = {
        "enable_external_access": False,
        "python_enable_replacements": False,
    }
    return closing(duckdb.connect(str(path.absolute()), read_only=True, config=shut))  # md: is no service


def _duckdb(path: Path, table: str) -> pl.LazyFrame:
    try:
        import duckdb
    except ImportError:
        raise InputError(f"{path}: needs duckdb; pip install 'gnnpatient[database]'") from None
    wrong = (duckdb.Error, pl.exceptions.PolarsError)

    def asked(base: Any, cells: str, limit: str) -> Any:
        return base.sql(f"SELECT {cells or 'NULL'} FROM {places[table]}{limit}")

    try:
        with _open_duckdb(path) as base:
            listing = (
                "SELECT table_schema, table_name, table_type FROM information_schema.tables ORDER BY ALL"
            )
            places, views = dict[str, str](), dict[str, bool]()
            for place, name, kind in base.execute(listing).fetchall():
                full = name if place == "main" else f"{place}.{name}"
                places[full], views[full] = f"{_quoted(place)}.{_quoted(name)}", "VIEW" in kind
            _known(path, table, list(places))
            with _Clock(path, table, view=views[table]).running(base.interrupt):
                cell = _duckdb_cells(asked(base, "*", " LIMIT 0"))
                first = pl.DataFrame(asked(base, ", ".join(cell.values()), " LIMIT 1").to_arrow_table())
    except wrong as error:
        raise InputError(f"{path}/{table}: {first_line(error)}") from None
    if not len(first):
        raise InputError(f"{path}/{table}: no rows")

    def reads(columns: list[str], rows: int | None) -> Iterator[pl.DataFrame]:
        limit = "" if rows is None else f" LIMIT {rows:d}"
        try:
            with _open_duckdb(path) as base:
                clock = _Clock(path, table, view=views[table])
                with clock.running(base.interrupt):
                    query = asked(base, ", ".join(cell[name] for name in columns), limit)
                    stream = (
                        getattr(query, "to_arrow_reader", None) or query.fetch_arrow_reader
                    )  # duckdb 2 or 1
                    batches = stream(BATCH)
                while True:
                    with clock.running(base.interrupt):
                        batch = next(batches, None)
                    if batch is None:
                        break
                    yield pl.DataFrame(batch) if columns else pl.DataFrame(height=batch.num_rows)
        except wrong as error:
            raise InputError(f"{path}/{table}: {first_line(error)}") from None

    return _lazy(reads, first.schema)


def _duckdb_cells(table: Any) -> dict[str, str]:
    """How each column is asked for: fixed lists of words and spans of time as text, others as they are."""
    as_text = {
        name: str(kind).startswith(("ENUM", "INTERVAL"))
        for name, kind in zip(table.columns, table.types, strict=True)
    }
    return {
        name: f"CAST({_quoted(name)} AS VARCHAR) AS {_quoted(name)}" if text else _quoted(name)
        for name, text in as_text.items()
    }


# Parquet shards


def _shards(folder: Path, place: Path) -> pl.LazyFrame:
    """All *.parquet below a folder, as one table; hidden files (`._0.parquet` of some systems) are none."""
    place = place.absolute()
    shards = sorted(p for p in place.rglob("*.parquet") if p.is_file() and not p.name.startswith("."))
    if not shards:
        raise InputError(f"{place}: no .parquet file below this folder")
    first: Mapping[str, Any] = {}
    for shard in shards:
        _inside(folder, shard, ())
        try:
            schema = pl.scan_parquet(shard, glob=False, hive_partitioning=False).collect_schema()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(f"{shard}: {first_line(error)}") from None
        first = first or schema
        for name in [*first, *schema]:
            one, other = first.get(name), schema.get(name)
            if one != other:
                raise InputError(
                    f"{shard}: column {name!r} is {_type(other)}, in {shards[0].name} {_type(one)}; "
                    "write all shards with one schema"
                )
    frame = pl.scan_parquet(shards, glob=False, hive_partitioning=False)
    try:
        rows = frame.select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{place}: {first_line(error)}") from None
    if not rows:
        raise InputError(f"{place}: no rows")
    return frame


def _type(kind: Any) -> str:
    return "not there" if kind is None else str(kind)
