"""The tables of a cohort, each opened once, and what became of every row: used, collapsed or refused."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gnnpatient.errors import InputError, near
from gnnpatient.files import atomic_file, file_name, inside, room_for
from gnnpatient.ingest.cells import (
    LIFETIME,
    MISSING,
    Moments,
    count_midnights,
    example,
    holds_offsets,
    ids,
    missing_words,
    moment,
    number,
    split_bounds,
    text,
    without_missing,
)
from gnnpatient.progress import Progress
from gnnpatient.readers.dates import end_of_day, end_of_local_day, utc_moments
from gnnpatient.readers.standard import StandardTables
from gnnpatient.readers.tables import column, fits, read_table
from gnnpatient.spec.graph import GraphSpec
from gnnpatient.spec.tables import TimeSpec, Where

PEOPLE = "people"  # the table of persons that a standard format gives
AS_MISSING, AS_IT_STANDS = "taken as missing", "taken as a word"
_COMMA = r"^\s*([+-]?\d*),(\d+)\s*$"  # a number with a decimal comma
_POINT = r"^\s*[+-]?\d*\.\d+\s*$"  # where commas are decimal, a point parts thousands: 1.234 is not 1.2


_LOOKS = str.maketrans(  # letters of Cyrillic and Greek that look like Latin ones
    "АВЕЅZІЈКМНОРСТУХаеіјорсухѕԁһԛԝѵΑΒΕΖΗΙΚΜΝΟΡΤΥΧοανικρυχ‐‑‒–—−",  # noqa: RUF001
    "ABESZIJKMHOPCTYXaeijopcyxsdhqwvABEZHIKMNOPTYXoavikpux------",
)
_LATIN, _OTHERS = r"\p{Latin}", r"[\p{L}&&[^\p{Latin}]]"


def plainly(words: pl.Series) -> pl.Series:
    """Words as they look: letters of other scripts that look like Latin ones, and digits of any, as those."""
    far = words.filter(words.str.len_bytes() != words.str.len_chars()).unique()
    seen = {word: _plainly(word) for word in far.drop_nulls()}
    return words.replace(seen) if seen else words


def _plainly(word: str) -> str:
    letters = unicodedata.normalize("NFKC", word).translate(_LOOKS)
    return "".join(str(unicodedata.decimal(c, c)) for c in letters if unicodedata.category(c) != "Cf")


def scripts(words: pl.Series, what: str, *, letters: bool = True) -> list[str]:
    """Flags where two words look the same; with `letters` also where letters of two scripts stand in one
    word, or in some words beside the others. Counted, of different words."""
    words = words.drop_nulls().unique()
    latin, other = (words.str.contains(letters) for letters in (_LATIN, _OTHERS))
    mixed = int((latin & other).sum())
    alone = min(int((latin & ~other).sum()), int((other & ~latin).sum()))
    bare = words.str.normalize("NFKC").str.replace_all(
        r"\p{Cf}", ""
    )  # wide and hidden ones are told elsewhere
    alike = bare.n_unique() - plainly(bare).n_unique()
    flags = []
    if mixed and letters:
        flags.append(f"{mixed} {what} mix letters of two scripts, as Latin and Cyrillic")
    if alone and letters:
        flags.append(f"{alone} {what} are written in another script than the others")
    if alike:
        flags.append(f"{alike} {what} look like another one and are written with other letters or digits")
    return flags


DATES = 5  # from so many clock times on it is no accident that all are midnight
BLOCK = 500  # columns that are read at once: polars takes time by the square of their number


@dataclass(eq=False)
class RowAudit:
    """What became of each row of one table."""

    start: int  # rows of all tables are numbered one after the other; this is the first one's number
    used: np.ndarray  # (row,) bool
    collapsed: np.ndarray  # (row,) bool: an exact repeat of a row that is used
    why: np.ndarray  # (row,) int8 into reasons: why a row that is neither used nor collapsed was refused
    reasons: list[str]

    @classmethod
    def of(cls, rows: int, start: int = 0) -> RowAudit:
        none = ["nothing in it that the spec asks for"]
        return cls(start, np.zeros(rows, bool), np.zeros(rows, bool), np.zeros(rows, np.int8), none)

    def refuse(self, where: np.ndarray, reason: str) -> None:
        """Note a reason at positions of rows; the first one that a row gets stays."""
        rows = where[self.why[where] == 0]
        if len(rows):
            self.reasons += [reason] * (reason not in self.reasons)
            self.why[rows] = self.reasons.index(reason)

    def claim(self, row: np.ndarray, who: np.ndarray) -> None:
        """The first row of each patient is used, further ones (the same in what is asked) are collapsed."""
        patients, first = np.unique(who, return_index=True)
        self.used[row[first[patients >= 0]]] = True
        self.collapsed[row[who >= 0]] = True

    @property
    def refused(self) -> np.ndarray:
        """Positions of the rows that are neither used nor an exact repeat."""
        return np.flatnonzero(~(self.used | self.collapsed))

    def summary(self) -> dict[str, Any]:
        """rows = used + collapsed + refused, for `check`."""
        collapsed, refused = self.collapsed & ~self.used, self.refused
        count = np.bincount(self.why[refused], minlength=len(self.reasons)).tolist()
        return {
            "rows": len(self.used),
            "used": int(self.used.sum()),
            "collapsed": int(collapsed.sum()),
            "refused": {reason: n for reason, n in zip(self.reasons, count, strict=True) if n},
        }


def quoted(cell: object) -> str:
    """A cell for a message, short."""
    word = str(cell)
    return (
        "an empty cell" if cell is None or not word else repr(word if len(word) < 41 else f"{word[:40]}...")
    )


@dataclass(eq=False)
class TableView:
    """Some rows of one table, with the columns that are asked of them."""

    source: SourceTables
    table: str
    frame: pl.DataFrame
    row: np.ndarray  # (row,) int64, position in the table
    account: RowAudit

    def __len__(self) -> int:
        return len(self.row)

    def some(self, keep: pl.Series) -> TableView:
        """Some of its rows."""
        return replace(self, frame=self.frame.filter(keep), row=self.row[keep.to_numpy()])

    def line(self, i: Any) -> int:
        """Where row i of this view stands in the file; the first line of a table is 2, after the header."""
        return int(self.row[i]) + 2

    def refuse(self, where: np.ndarray, reason: str) -> None:
        """Note why rows, (row,) bool, are left out."""
        self.account.refuse(self.row[where], reason)

    def shown(self, name: str, row: int) -> str:
        """For a message: a cell that is no time, beside one that is."""
        would = example(self.source.spec.table(self.table).time)
        return f"; {quoted(self.column(name)[row])} is none, {would} would be"

    def has(self, name: str) -> bool:
        return name in self.frame.schema

    def column(self, name: str) -> pl.Series:
        return column(self.frame, name, self.table)

    @property
    def missing(self) -> tuple[str, ...]:
        """The words that the spec says are missing in this table."""
        return self.source.spec.table(self.table).missing

    def text(self, name: str, named: Collection[str] = ()) -> pl.Series:
        """Words as they stand, of codes, levels, labels and groups. Only an empty cell is missing, and a word
        that the spec calls so; not one that it names here. One that looks missing is counted."""
        cells = text(self.column(name), [word for word in self.missing if word not in named])
        self.source.note(self, name, cells, [word for word in MISSING[1:] if word not in named], AS_IT_STANDS)
        return cells

    def plain(self, name: str) -> pl.Series:
        """Words that are short for numbers, or name a unit: those that mean missing in a number do here."""
        cells = text(self.column(name), self.missing)
        self.source.note(self, name, cells, MISSING[1:], AS_MISSING)
        return text(cells, MISSING)

    def _given(self, name: str) -> pl.Series:
        """The cells of a column of numbers or times, without the words that the spec says are missing; other
        words that are taken for missing are counted."""
        cells = without_missing(self.column(name), self.missing, self._points)
        self.source.note(self, name, missing_words(cells), MISSING[1:], AS_MISSING)
        return cells

    def number(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (nan = missing), and where a cell holds something that is not a finite number."""
        cells = self._given(name)
        if cells.dtype == pl.String and self.table.endswith(".parquet"):
            raise InputError(f"{self.table}: column {name!r} holds text; write numbers with a numeric type")
        return self._numbers(name, cells)

    def amount(self, name: str, *, words: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same for values; and which are a bound: -1 where the truth lies below it, 1 above, else 0.

        words: parquet may hold text, too.
        """
        cells = self._given(name)
        if cells.dtype != pl.String or (self.table.endswith(".parquet") and not words):
            return *self.number(name), np.zeros(len(self), np.int8)
        bare, bound = split_bounds(cells)
        value, bad = self._numbers(name, bare)
        side = bound.to_numpy()
        bad = bad | ((side != 0) & np.isnan(value))  # "<" and no number behind it
        return value, bad, np.where(bad, 0, side).astype(np.int8)

    def _numbers(self, name: str, cells: pl.Series) -> tuple[np.ndarray, np.ndarray]:
        if cells.dtype.is_temporal():
            raise InputError(f"{self.table}: column {name!r} holds {cells.dtype}; a value is a number")
        value, bad = number(self._points(cells))
        if bad.any() and cells.dtype == pl.String:
            comma = bad & cells.str.contains(_COMMA).fill_null(False)
            if comma.any():
                row = comma.arg_true()[0]
                raise InputError(
                    f"{self.table}: column {name!r}, line {self.line(row)}: {cells[row]!r}; if that is a "
                    f'decimal comma, set decimal = "," in [tables."{self.table}"]'
                )
        return value.fill_null(np.nan).to_numpy(), bad.to_numpy()

    def amounts(
        self, names: Sequence[str], *, words: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same of many columns, (column, row) each. What holds plain numbers and empty cells alone is
        read at once: one by one, 20 000 columns take minutes."""
        size = len(names), len(self)
        room_for(len(names) * len(self) * 27, f"{self.table}: {size[0]} columns of {size[1]} rows")
        value, bad, side = np.full(size, np.nan), np.zeros(size, bool), np.zeros(size, np.int8)
        kinds, text_ = self.frame.schema, self.source.spec.table(self.table).decimal != ","
        texts = text_ and not self.table.endswith(".parquet")
        for start in range(0, len(names), BLOCK):
            some = names[start : start + BLOCK]
            plain = [
                n for n in some if n in kinds and (kinds[n].is_numeric() or (texts and kinds[n] == pl.String))
            ]
            cells = self.frame.select(plain)
            read = cells.cast(pl.Float64, strict=False)
            for i, name in enumerate(some, start):
                if name in plain:
                    found, cell = read.get_column(name).to_numpy(), cells.get_column(name)
                    given = len(cell) - cell.null_count()
                    if cell.dtype == pl.String:
                        given -= int((cell == "").sum())
                    if int(np.isfinite(found).sum()) == given:
                        value[i] = found
                        continue
                value[i], bad[i], side[i] = self.amount(name, words=words)
        return value, bad, side

    def moment(self, name: str, origin: pl.Series | None, limit: int | None = LIFETIME) -> Moments:
        """When each row was, in seconds after the origin, and where a cell is not a time."""
        cells, how = self._given(name), self.source.spec.table(self.table).time
        if cells.dtype in (pl.Time, pl.Boolean):
            raise InputError(
                f"{self.table}: column {name!r} holds {cells.dtype}; write days after day 0, or dates"
            )
        where, ours = f"{self.table}: column {name!r}", self.source.is_ours(self.table)
        how = how.model_copy(update={"timezone": self.source.zone(self.table)})
        if how.format is None:
            cells = self._points(cells)
        elif not cells.dtype.is_temporal() and holds_offsets(self._points(cells), how.format, where):
            cells, how = self._points(cells), how.model_copy(update={"format": None})
        bare = self.frame[f"{name}_bare"] if ours and self.has(f"{name}_bare") else None
        utc = ours and self.source.door is not None and self.source.door.utc
        found = moment(cells, origin, where, how, bare, self.line, self.source.doubt, limit, utc)
        if not ours and limit is not None:  # of day 0 a date and its midnight are one
            self._tell_midnights(name, how)
        return found

    def _tell_midnights(self, name: str, how: TimeSpec) -> None:
        """Flag a whole column of clock times that are all midnight: dates, given one by a program."""
        if not count_midnights(self.column(name), how):
            return
        every = self if len(self) == len(self.account.used) else self.source.view(self.table, [name])
        if (count := count_midnights(every.column(name), how)) >= DATES:
            self.source.doubt(
                f"{self.table}: column {name!r}: all {count} clock times are midnight: dates? write them as "
                "dates, so that they are known at the end of their day"
            )

    def _points(self, cells: pl.Series) -> pl.Series:
        """Numbers with a decimal comma as numbers with a point, where the spec says that they have one."""
        if self.source.spec.table(self.table).decimal != "," or cells.dtype != pl.String:
            return cells
        thousands = cells.str.contains(_POINT).fill_null(False)
        return cells.str.replace(_COMMA, "$1.$2").zip_with(~thousands, cells + "?")

    def _strangers(self, key: pl.Series, found: pl.Series, patients: np.ndarray) -> None:
        """Flag ids of nobody that differ from a patient's in look-alike letters alone."""
        odd, known = key.filter(found.is_null() & key.is_not_null()), pl.Series(patients, dtype=pl.String)
        if odd.is_empty() or all((s.str.len_bytes() == s.str.len_chars()).all() for s in (odd, known)):
            return
        if n := int(plainly(odd).is_in(plainly(known).to_list()).sum()):
            self.source.doubt(
                f"{self.table}: {n} row(s) of nobody hold an id that looks like a patient's and is written "
                "with other letters or digits; write ids in one script"
            )

    def who(self, patients: np.ndarray) -> np.ndarray:
        """Position of each row's patient, -1 where the row belongs to nobody: (row,) int64."""
        name = self.source.key(self.table)
        key = ids(self.column(name))
        if key.null_count() and self.table.endswith(
            ".parquet"
        ):  # a join gone wrong rather than an empty cell
            raise InputError(
                f"{self.table}: column {name!r} holds {key.null_count()} null(s); every row needs a patient"
            )
        index = pl.DataFrame(
            {"id": patients, "position": np.arange(len(patients))}, schema_overrides={"id": pl.String}
        )
        found = pl.DataFrame({"id": key}).join(index, on="id", how="left", maintain_order="left")["position"]
        self._strangers(key, found, patients)
        self.refuse(key.is_null().to_numpy(), "no patient id")
        self.refuse(found.is_null().to_numpy(), "patient not in the patient table")
        return found.fill_null(-1).to_numpy()


@dataclass(eq=False)
class SourceTables:
    """The tables of a cohort, each opened once, with its account."""

    folder: Path
    spec: GraphSpec
    tables: dict[str, pl.DataFrame | pl.LazyFrame] = field(default_factory=dict)
    schemas: dict[str, Any] = field(default_factory=dict)  # pl.Schema, which the checker of types cannot read
    accounts: dict[str, RowAudit] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    decisive: list[str] = field(default_factory=list)  # those that may decide a result: fit tells them
    studies: dict[str, int] = field(default_factory=dict)  # study key -> its number, over all kinds
    encoders: dict[str, str] = field(default_factory=dict)  # of each kind with pictures or texts
    pictures: dict[str, list[str]] = field(default_factory=dict)  # of each kind, what its vectors are made of
    cache: Path | None = None  # folder of embeddings
    device: str = "auto"
    allow_network: bool = False  # to fetch an encoder
    embed: bool = True  # False: pictures and texts are opened and counted, not embedded
    progress: Progress | None = None
    asked: dict[str, list[TableView]] = field(
        default_factory=dict
    )  # of each kind, the rows that it is read from
    steps: list[list[Any]] = field(default_factory=list)  # of eligibility: what, how many patients
    outcome_steps: dict[str, list[list[Any]]] = field(default_factory=dict)  # likewise, of each outcome
    words: dict[tuple[str, str, str], dict[str, list[np.ndarray]]] = field(default_factory=dict)
    # of each table, word that looks missing, and what became of it: in which rows of which column
    deaths: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """Of each kind with texts, patient and known of the rows whose text tells a death."""

    @cached_property
    def door(self) -> StandardTables | None:
        """What a standard format gives; None where every table is named."""
        if self.spec.format is None:
            return None
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder")
        door = import_module(f"gnnpatient.readers.{self.spec.format}").read(self.folder)
        assert isinstance(door, StandardTables)
        self.flags += door.flags
        for what in door.decides:
            self.doubt(what, decides=True)
        return door

    def open(self, table: str) -> RowAudit:
        """The account of a table; the table itself is opened where this has not been done."""
        if table not in self.accounts:
            if self.door is not None and table == PEOPLE:
                self.tables[table] = self.door.people
            elif self.door is not None and table in self.door.tables:
                self.tables[table] = self.door.tables[table]
            elif self.door is not None and not (self.folder / table).exists():
                raise InputError(
                    f"no table {table!r} in {self.folder}{near(table, (PEOPLE, *self.door.tables))}"
                )
            else:
                self.tables[table] = read_table(self.folder, table, self.spec.table(table))
            frame = self.tables[table]
            self.schemas[table] = frame.collect_schema()
            size = len(frame) if isinstance(frame, pl.DataFrame) else frame.select(pl.len()).collect().item()
            start = max((a.start + len(a.used) for a in self.accounts.values()), default=0)
            self.accounts[table] = RowAudit.of(size, start)
            if "refused" in self.schemas[table] and self.is_events(table):
                given = frame.lazy().select("refused").with_row_index("row").drop_nulls().collect()
                for reason in given["refused"].unique().sort():
                    rows = given.filter(pl.col("refused") == reason)["row"].to_numpy().astype(np.int64)
                    self.accounts[table].refuse(rows, reason)
        return self.accounts[table]

    def is_events(self, table: str) -> bool:
        """Whether this table comes from a standard format, in the columns of its events."""
        return self.door is not None and table in self.door.tables

    def is_ours(self, table: str) -> bool:
        """Whether a standard format gives this table, in the columns that every format has here."""
        return self.is_events(table) or (self.door is not None and table == PEOPLE)

    def zone(self, table: str) -> str | None:
        """The time zone of the clock times and days of a table; that of people, where it has none, is that of
        the tables of the format where these have one."""
        named = self.spec.table(table).time.timezone
        if named is None and self.door is not None and table == PEOPLE:
            zones = {self.spec.table(name).time.timezone for name in self.door.tables} - {None}
            return zones.pop() if len(zones) == 1 else None
        return named

    def moments(self, table: str, column: str = "time", *, end: bool = False) -> pl.Expr:
        """The times of a format's events in UTC, of a bare date the first second, or the last (`end`)."""
        flag = f"{column}_bare"
        bare = pl.col(flag).fill_null(False) if flag in self.schemas[table] else pl.lit(False)
        day = self.zone(table)
        if day is None:
            at = pl.col(column).cast(pl.Datetime("us"))
            return end_of_day(at, bare) if end else at
        zone = None if self.door is not None and self.door.utc else day

        def utc(rows: pl.Series) -> pl.Series:
            given, dated = rows.struct.field("time"), rows.struct.field("bare")
            at = utc_moments(given.cast(pl.Datetime("us")), dated, zone, day)
            return end_of_local_day(at, dated, day) if end else at

        both = pl.struct(pl.col(column).alias("time"), bare.alias("bare"))
        return both.map_batches(utc, return_dtype=pl.Datetime("us"), is_elementwise=True).alias("time")

    def doubt(self, what: str, *, decides: bool = False) -> None:
        """Flag something once; decides: it may decide a result, so `pack` and `fit` tell it, too."""
        self.flags += [what] * (what not in self.flags)
        if decides:
            self.decisive += [what] * (what not in self.decisive)

    def note(self, view: TableView, name: str, cells: pl.Series, words: Collection[str], how: str) -> None:
        """Remember in which rows a column holds words that look missing, and what became of them."""
        if cells.dtype != pl.String or not (found := cells.is_in(list(words)).fill_null(False)).any():
            return
        for word in cells.filter(found).unique().sort():
            rows = view.row[(cells == word).fill_null(False).to_numpy()]
            self.words.setdefault((view.table, word, how), {}).setdefault(name, []).append(rows)

    def told_words(self) -> list[str]:
        """Flags of the words that look missing: how many cells of which columns, and the way out."""
        flags = []
        for (table, word, how), columns in sorted(self.words.items()):
            counts = {name: len(np.unique(np.concatenate(rows))) for name, rows in columns.items()}
            most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            listed = ", ".join(f"{name!r} {n}" for name, n in most[:4])
            more = f" and {len(most) - 4} more column(s)" if len(most) > 4 else ""
            out = f'; missing = [{word!r}] in [tables."{table}"] makes it missing' * (how == AS_IT_STANDS)
            flags.append(f"{table}: {sum(counts.values())} cell(s) say {word!r}, {how}: {listed}{more}{out}")
        return flags

    def event_tables(self, table: str | None) -> tuple[str, ...]:
        """One table, or all that the format has."""
        if table is not None:
            return (table,)
        assert self.door is not None
        return tuple(self.door.tables)

    def key(self, table: str) -> str:
        """The column with the patient's id."""
        if table == PEOPLE or self.is_events(table):
            return "id"
        name = self.spec.table(table).key or self.spec.patient.key
        if name is None:
            raise InputError(f'{table}: which column holds the patient? set key in [tables."{table}"]')
        return name

    def view(self, table: str, columns: Iterable[str], where: Where | None = None) -> TableView:
        """The rows of a table that fit `where`, with these columns; refused where one is not there."""
        account, schema, where = self.open(table), self.schemas[table], where or {}
        wanted = [self.key(table), *columns, *where]
        for name in wanted:
            if name not in schema:
                raise InputError(f"{table}: no column {name!r}{near(name, schema)}")
            if schema[name].is_nested() or schema[name] == pl.Object:
                raise InputError(
                    f"{table}: column {name!r} holds {schema[name]}; write one plain value a cell"
                )
        if self.is_ours(table):
            wanted += [f"{name}_bare" for name in wanted if f"{name}_bare" in schema]
        columns_ = len(set(wanted))
        room_for(
            8 * columns_ * len(account.used), f"{table}: {columns_} column(s) of {len(account.used)} rows"
        )
        lazy = self.tables[table].lazy().with_row_index("gnnpatient row")
        if self.is_events(table) and "refused" in schema:
            fact = pl.col("refused").is_null()
            lazy = lazy.filter(fact | pl.col("choice").is_in([*where]) if "choice" in schema else fact)
        if where:
            lazy = lazy.filter(fits(where, [name for name in where if schema[name].is_float()]))
        try:
            frame = lazy.select("gnnpatient row", *dict.fromkeys(wanted)).collect(engine="streaming")
        except pl.exceptions.PolarsError as error:
            raise InputError(f"{table}: {str(error).splitlines()[0]}") from None
        for name in (name for name, dtype in frame.schema.items() if dtype == pl.Binary):
            try:  # some writers leave text without its type
                frame = frame.with_columns(pl.col(name).cast(pl.String))
            except pl.exceptions.PolarsError:
                raise InputError(f"{table}: column {name!r} holds bytes; write text or numbers") from None
        return TableView(self, table, frame, frame["gnnpatient row"].to_numpy().astype(np.int64), account)

    def mark(self, rows: np.ndarray, what: str) -> None:
        """Rows, by their number over all tables, are "used" or "collapsed"."""
        for account in self.accounts.values():
            own = rows[(rows >= account.start) & (rows < account.start + len(account.used))]
            getattr(account, what)[own - account.start] = True

    def refuse(self, rows: np.ndarray, reason: str) -> None:
        """Rows, by their number over all tables, are left out."""
        for account in self.accounts.values():
            own = rows[(rows >= account.start) & (rows < account.start + len(account.used))]
            account.refuse(own - account.start, reason)

    def holds_nodes(self, table: str) -> bool:
        return any(node.table == table for node in self.spec.nodes.values())

    def quarantine(self, folder: Path) -> Mapping[str, int]:
        """Write each table's refused rows with line and reason, as TABLE.csv. Patients are in it."""
        folder.mkdir(parents=True, exist_ok=True)
        written: dict[str, int] = {}
        names: set[str] = set()
        for table, account in self.accounts.items():
            if not len(rows := account.refused):
                continue
            lazy, schema = self.tables[table].lazy(), self.schemas[table]
            own = {name: re.sub(r"^(line|reason)$", r"\1 (of the table)", name) for name in schema}
            cells = [
                pl.col(name).cast(pl.String, strict=False).alias(own[name])
                for name, dtype in schema.items()
                if not dtype.is_nested() and dtype != pl.Duration and dtype != pl.Object
            ]
            picked = lazy.select(pl.int_range(2, pl.len() + 2, dtype=pl.Int64).alias("line"), *cells)
            reason = np.array(account.reasons)[account.why[rows]]
            kept = pl.DataFrame({"line": rows + 2, "reason": reason}).lazy()
            frame = kept.join(picked, on="line", how="left", maintain_order="left").collect()
            name = file_name(table).removesuffix(".csv")
            name += "_" * next(n for n in range(len(names) + 1) if f"{name}{'_' * n}".casefold() not in names)
            names.add(name.casefold())
            with atomic_file(inside(folder, f"{name}.csv")) as part:
                disarmed(frame).write_csv(part)
            written[table] = len(rows)
        return written


def disarmed(frame: pl.DataFrame) -> pl.DataFrame:
    """Text that begins with = + - @ gets an apostrophe before it, so that no spreadsheet runs it.

    So do names of columns.
    """
    begins = r"^[=+\-@\t\r]"
    risky = pl.col(pl.String).str.contains(begins)
    text_ = pl.when(risky).then("'" + pl.col(pl.String)).otherwise(pl.col(pl.String))
    return frame.with_columns(text_.name.keep()).rename(
        {name: f"'{name}" for name in frame.columns if re.match(begins, name)}
    )


def one_each(view: TableView, name: str, values: pl.Series, who: np.ndarray, patients: int) -> np.ndarray:
    """The row that holds each patient's value of a column, -1 = none; refused where a patient has two."""
    rows = np.flatnonzero(values.is_not_null().to_numpy() & (who >= 0))
    first = np.full(patients, -1)
    first[who[rows][::-1]] = rows[::-1]
    cells = values.to_numpy()
    differ = cells[rows] != cells[first[who[rows]]]
    if differ.any():
        row, people = rows[differ][0], len(np.unique(who[rows[differ]]))
        lines = f"{view.line(first[who[row]])} and {view.line(row)}"
        raise InputError(
            f"{view.table}: column {name!r} differs between lines {lines}, in {people} patient(s); "
            "statics and outcomes come from columns that are constant in a patient"
        )
    return first


def take(values: np.ndarray, rows: np.ndarray, missing: object) -> np.ndarray:
    """values[rows], with `missing` where a row is -1."""
    out = np.asarray(values)[rows] if len(values) else np.full(len(rows), missing)
    out[rows < 0] = missing
    return out


def levels(cells: pl.Series) -> tuple[tuple[str, ...], np.ndarray]:
    """The words of a column in order, and each row's place among them; -1 = missing."""
    level = text(cells)
    names = tuple(level.drop_nulls().unique().sort())
    return names, level.cast(pl.Enum(names)).to_physical().cast(pl.Int32).fill_null(-1).to_numpy()
