"""The tables of a cohort, each opened once, and views of their rows as words, numbers and times."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gnnpatient.content.encoder import OwnEncoder
from gnnpatient.errors import InputError, NoColumnError, near
from gnnpatient.files import room_for
from gnnpatient.ingest.audit import RowAudit, quoted
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
    names_zone,
    number,
    split_bounds,
    text,
    without_missing,
)
from gnnpatient.ingest.joins import (
    ROW,
    Dictionary,
    check_columns,
    count_unmatched,
    read_dictionary,
    with_columns,
)
from gnnpatient.ingest.scripts import latin_lookalikes
from gnnpatient.progress import Progress
from gnnpatient.readers.dates import end_of_day, end_of_local_day, utc_moments
from gnnpatient.readers.frames import Frames
from gnnpatient.readers.standard import StandardTables
from gnnpatient.readers.tables import column, fits, is_plain, read_table
from gnnpatient.spec.graph import GraphSpec
from gnnpatient.spec.lineage import home, joined_columns
from gnnpatient.spec.tables import TableSpec, TimeSpec, Where

PEOPLE = "people"
"""Name of the table of persons that a standard format gives."""

NO_KEY = "no key to be found by"
"""Why a row is left out of a table that only joins read."""

AS_MISSING, AS_IT_STANDS = "taken as missing", "taken as a word"
_COMMA = r"^\s*([+-]?\d*),(\d+)\s*$"  # a number with a decimal comma
_POINT = r"^\s*[+-]?\d*\.\d+\s*$"  # where commas are decimal, a point parts thousands: 1.234 is not 1.2
_MIN_MIDNIGHTS = 5  # from so many clock times on it is no accident that all are midnight
_MAX_COLUMNS = 500  # that are read at once: polars takes time by the square of their number


@dataclass(eq=False)
class TableView:
    """Some rows of one table, with the columns that the spec names.

    Attributes
    ----------
    source : SourceTables
        All tables of the cohort.
    table : str
        Name of the table: a file in the folder, or a table of the standard format.
    frame : polars.DataFrame
        The columns of these rows.
    row : numpy.ndarray
        Position of each row in the table: (row,) int64.
    audit : RowAudit
        What became of all rows of the table.
    """

    source: SourceTables
    table: str
    frame: pl.DataFrame
    row: np.ndarray  # (row,) int64
    audit: RowAudit

    def __len__(self) -> int:
        return len(self.row)

    def filter(self, keep: pl.Series) -> TableView:
        """Some of the rows.

        Parameters
        ----------
        keep : polars.Series
            (row,) Boolean.

        Returns
        -------
        TableView
        """
        return replace(self, frame=self.frame.filter(keep), row=self.row[keep.to_numpy()])

    def line(self, i: Any) -> int:
        """The line of a row in the file; the first line of a table is 2, after the header.

        Parameters
        ----------
        i : int
            Row of this view.

        Returns
        -------
        int
        """
        return int(self.row[i]) + 2

    def refuse(self, where: np.ndarray, reason: str) -> None:
        """Note why rows are left out.

        Parameters
        ----------
        where : numpy.ndarray
            (row,) bool, of this view.
        reason : str
            For people; the first reason of a row stays.
        """
        self.audit.refuse(self.row[where], reason)

    def time_hint(self, name: str, row: int) -> str:
        """For a message: a cell that is not a time, beside one that would be read.

        Parameters
        ----------
        name : str
            The column.
        row : int
            Row of this view.

        Returns
        -------
        str
        """
        would = example(self.form(name).time)
        return f"; {quoted(self.column(name)[row])} is not read, {would} would be"

    def has(self, name: str) -> bool:
        """Whether the view holds a column.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        bool
        """
        return name in self.frame.schema

    def column(self, name: str) -> pl.Series:
        """A column as it was read.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        polars.Series
            (row,) of any type.

        Raises
        ------
        InputError
            When the table has no such column.
        """
        return column(self.frame, name, self.table)

    def form(self, name: str) -> TableSpec:
        """How a column is written: as the spec says of this table, or of the one that a join takes it from.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        TableSpec
        """
        return self.source.spec.table(self.source.home(self.table, name))

    def _typed(self, name: str) -> bool:
        """Whether the file of a column gives it a type, so that text there is no number."""
        return self.source.home(self.table, name).endswith(".parquet")

    def text(self, name: str, named: Collection[str] = ()) -> pl.Series:
        """The words of a column as they are written: codes, levels, labels, groups.

        A word that looks as if it meant missing, such as NA, stays a word, and is counted for a flag.

        Parameters
        ----------
        name : str
            The column.
        named : collection of str, default ()
            Words to which the spec gives a meaning: never missing.

        Returns
        -------
        polars.Series
            (row,) str; null = an empty cell, or a word that means missing by the spec.
        """
        cells = text(self.column(name), [word for word in self.form(name).missing if word not in named])
        looks_missing = [word for word in MISSING[1:] if word not in named]
        self.source.count_missing_words(self, name, cells, looks_missing, AS_IT_STANDS)
        return cells

    def symbols(self, name: str) -> pl.Series:
        """The words of a column that are short for numbers or name a unit, so that NA means missing.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        polars.Series
            (row,) str; null = missing.
        """
        cells = text(self.column(name), self.form(name).missing)
        self.source.count_missing_words(self, name, cells, MISSING[1:], AS_MISSING)
        return text(cells, MISSING)

    def _cells(self, name: str) -> pl.Series:
        """The cells of a column of numbers or times, without the words that the spec says are missing.

        Other words that are taken for missing are counted.
        """
        points = partial(self._decimal_points, name)
        cells = without_missing(self.column(name), self.form(name).missing, points)
        self.source.count_missing_words(self, name, missing_words(cells), MISSING[1:], AS_MISSING)
        return cells

    def number(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A column of numbers.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        value : numpy.ndarray
            (row,) float64, nan = missing.
        bad : numpy.ndarray
            (row,) bool, where a cell holds something that is not a finite number.

        Raises
        ------
        InputError
            When the column holds text in parquet, times, or numbers with an undeclared decimal comma.
        """
        cells = self._cells(name)
        if cells.dtype == pl.String and self._typed(name):
            raise InputError(f"{self.table}: column {name!r} holds text; write numbers with a numeric type")
        return self._numbers(name, cells)

    def amount(self, name: str, *, words: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A column of values, some of which may be bounds such as "<5".

        Parameters
        ----------
        name : str
            The column.
        words : bool, default False
            Read text in parquet, too.

        Returns
        -------
        value : numpy.ndarray
            (row,) float64, nan = missing; of a bound its number.
        bad : numpy.ndarray
            (row,) bool, where a cell holds something that is not a finite number.
        bound : numpy.ndarray
            (row,) int8: -1 where the truth lies below the value, 1 above, 0 where it is the value.

        Raises
        ------
        InputError
            As in `number`.
        """
        cells = self._cells(name)
        if cells.dtype != pl.String or (self._typed(name) and not words):
            return *self.number(name), np.zeros(len(self), np.int8)
        bare, bound = split_bounds(cells)
        value, bad = self._numbers(name, bare)
        side = bound.to_numpy()
        bad = bad | ((side != 0) & np.isnan(value))  # "<" and no number behind it
        return value, bad, np.where(bad, 0, side).astype(np.int8)

    def _numbers(self, name: str, cells: pl.Series) -> tuple[np.ndarray, np.ndarray]:
        if cells.dtype.is_temporal():
            raise InputError(f"{self.table}: column {name!r} holds {cells.dtype}; a value is a number")
        value, bad = number(self._decimal_points(name, cells))
        if bad.any() and cells.dtype == pl.String:
            comma = bad & cells.str.contains(_COMMA).fill_null(False)
            if comma.any():
                row = comma.arg_true()[0]
                raise InputError(
                    f"{self.table}: column {name!r}, line {self.line(row)}: {cells[row]!r}; if that is a "
                    f'decimal comma, set decimal = "," in [tables."{self.source.home(self.table, name)}"]'
                )
        return value.fill_null(np.nan).to_numpy(), bad.to_numpy()

    def amounts(
        self, names: Sequence[str], *, words: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Many columns of values.

        Columns of nothing but plain numbers and empty cells are read together: one by one, 20 000 columns
        take minutes.

        Parameters
        ----------
        names : sequence of str
            The columns.
        words : bool, default False
            Read text in parquet, too.

        Returns
        -------
        value, bad, bound : numpy.ndarray
            As of `amount`, (column, row) each.

        Raises
        ------
        InputError
            As in `number`, or when the values do not fit into memory.
        """
        size = len(names), len(self)
        room_for(len(names) * len(self) * 27, f"{self.table}: {size[0]} columns of {size[1]} rows")
        value, bad, bound = np.full(size, np.nan), np.zeros(size, bool), np.zeros(size, np.int8)
        for start in range(0, len(names), _MAX_COLUMNS):
            block = names[start : start + _MAX_COLUMNS]
            plain = self._plain_numbers(block)
            for i, name in enumerate(block, start):
                if name in plain:
                    value[i] = plain[name]
                else:
                    value[i], bad[i], bound[i] = self.amount(name, words=words)
        return value, bad, bound

    def _plain_numbers(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Those columns that hold nothing but plain numbers and empty cells: (row,) float64 each."""
        schema = self.frame.schema
        names = [
            n
            for n in names
            if n in schema
            and (
                schema[n].is_numeric()
                or (schema[n] == pl.String and self.form(n).decimal != "," and not self._typed(n))
            )
        ]
        cells = self.frame.select(names)
        numbers = cells.cast(pl.Float64, strict=False)
        plain = {}
        for name in names:
            found, cell = numbers.get_column(name).to_numpy(), cells.get_column(name)
            filled = len(cell) - cell.null_count()
            if cell.dtype == pl.String:
                filled -= int((cell == "").sum())
            if int(np.isfinite(found).sum()) == filled:
                plain[name] = found
        return plain

    def moment(self, name: str, origin: pl.Series | None, limit: int | None = LIFETIME) -> Moments:
        """A column of times: days after the origin, or dates, as the spec says of the table.

        Parameters
        ----------
        name : str
            The column.
        origin : polars.Series or None
            (row,) int64 seconds since 1970: the origin of each row's patient; None = there is none.
        limit : int or None
            How many seconds from the origin a time may lie; None = any.

        Returns
        -------
        Moments
            Seconds after the origin: (row,) first and last second of each, and where a cell is no time.

        Raises
        ------
        InputError
            When the column cannot be times at all.
        """
        cells, form = self._cells(name), self.form(name).time
        if cells.dtype in (pl.Time, pl.Boolean):
            raise InputError(
                f"{self.table}: column {name!r} holds {cells.dtype}; write days after day 0, or dates"
            )
        where, standard = f"{self.table}: column {name!r}", self.source.is_standard(self.table)
        form = form.model_copy(update={"timezone": self.source.zone(self.source.home(self.table, name))})
        points = cells if cells.dtype.is_temporal() else self._decimal_points(name, cells)
        if form.format is None:
            cells = points
        elif not cells.dtype.is_temporal() and holds_offsets(points, form.format, where):
            cells, form = points, form.model_copy(update={"format": None})
        bare = self.frame[f"{name}_bare"] if standard and self.has(f"{name}_bare") else None
        utc = standard and self.source.standard is not None and self.source.standard.utc
        found = moment(cells, origin, where, form, bare, self.line, self.source.flag, limit, utc)
        if not standard and limit is not None:  # of day 0 a date and its midnight are one
            self._flag_midnights(name, form)
        if not standard and form.timezone is None and (zoned := names_zone(cells)) is not None:
            self.source.flag_zones(where, zoned)
        return found

    def _flag_midnights(self, name: str, form: TimeSpec) -> None:
        """Flag a whole column of clock times that are all midnight: dates to which a program gave a clock."""
        if not count_midnights(self.column(name), form):
            return
        every = self if len(self) == len(self.audit.used) else self.source.view(self.table, [name])
        if (count := count_midnights(every.column(name), form)) >= _MIN_MIDNIGHTS:
            self.source.flag(
                f"{self.table}: column {name!r}: all {count} clock times are midnight: dates? write them as "
                "dates (pandas: column.dt.date), so that they are known at the end of their day"
            )

    def _decimal_points(self, name: str, cells: pl.Series) -> pl.Series:
        """Numbers with a decimal comma as numbers with a point, where the spec says that they have one."""
        if self.form(name).decimal != "," or cells.dtype != pl.String:
            return cells
        thousands = cells.str.contains(_POINT).fill_null(False)
        return cells.str.replace(_COMMA, "$1.$2").zip_with(~thousands, cells + "?")

    def patient_index(self, patients: np.ndarray) -> np.ndarray:
        """The patient of each row; rows without one are refused.

        Parameters
        ----------
        patients : numpy.ndarray
            (patient,) str: the ids.

        Returns
        -------
        numpy.ndarray
            (row,) int64 position among them, -1 = nobody's row.

        Raises
        ------
        InputError
            When the ids of a parquet file hold nulls: a join gone wrong rather than an empty cell.
        """
        name = self.source.key(self.table)
        key = ids(self.column(name))
        if key.null_count() and self.table.endswith(".parquet"):
            raise InputError(
                f"{self.table}: column {name!r} holds {key.null_count()} null(s); every row needs a patient"
            )
        index = pl.DataFrame(
            {"id": patients, "position": np.arange(len(patients))}, schema_overrides={"id": pl.String}
        )
        found = pl.DataFrame({"id": key}).join(index, on="id", how="left", maintain_order="left")["position"]
        self._flag_lookalike_ids(key, found, patients)
        self.refuse(key.is_null().to_numpy(), "no patient id")
        self.refuse(found.is_null().to_numpy(), "patient not in the patient table")
        return found.fill_null(-1).to_numpy()

    def _flag_lookalike_ids(self, key: pl.Series, found: pl.Series, patients: np.ndarray) -> None:
        """Flag ids of nobody that differ from a patient's in look-alike letters alone."""
        unknown, known = key.filter(found.is_null() & key.is_not_null()), pl.Series(patients, dtype=pl.String)
        if unknown.is_empty() or all(
            (s.str.len_bytes() == s.str.len_chars()).all() for s in (unknown, known)
        ):
            return
        if n := int(latin_lookalikes(unknown).is_in(latin_lookalikes(known).to_list()).sum()):
            self.source.flag(
                f"{self.table}: {n} row(s) of nobody hold an id that looks like a patient's and is written "
                "with other letters or digits; write ids in one script"
            )


@dataclass(eq=False)
class SourceTables:
    """The tables of a cohort, each opened once, and what was found while they were read.

    Attributes
    ----------
    place : pathlib.Path or Frames
        Where the tables are: a folder, or frames in memory.
    spec : GraphSpec
        What they mean.
    files : pathlib.Path or None
        Where the files are that tables name: images, a task; None = in the folder of the tables.
    tables : dict
        Each opened table, by name, without what it gains by a join.
    dictionaries : dict
        The other table of each join that has been used, by table and position of the join.
    schemas : dict
        Column names and types of each opened table, with those that it gains.
    audits : dict
        What became of the rows of each opened table.
    flags : list of str
        What looks wrong, for people.
    decisive : list of str
        Those flags that may decide a result, so that fitting a model repeats them.
    studies : dict
        Number of each study key, over all node types.
    encoders : dict
        Encoder of each node type with images or texts.
    image_keys : dict
        Of each node type with vectors, what each vector was made of.
    cache : pathlib.Path or None
        Folder that keeps embeddings; None = they are made anew.
    device : str, default "auto"
        Where embeddings are made.
    allow_network : bool, default False
        Whether an encoder may be downloaded.
    own_encoders : mapping
        Encoders of a user, by the names that the spec has for them.
    embed : bool, default True
        False: images and texts are opened and counted, but not embedded.
    progress : Progress or None
        Called with what is done, how far, and of how many.
    views : dict
        Of each node type, the rows that it is read from.
    steps : list
        Steps of eligibility: what, how many patients are left.
    outcome_steps : dict
        Likewise of each outcome.
    missing_words : dict
        Rows by (table, word that looks missing, what became of it) and column.
    clocks : dict
        The first column of clock times with, and without, a time zone that they name; none is in [tables].
    death_texts : dict
        Of each node type with texts, patient and known of the rows whose text mentions a death.
    """

    place: Path | Frames
    spec: GraphSpec
    files: Path | None = None
    tables: dict[str, pl.DataFrame | pl.LazyFrame] = field(default_factory=dict)
    dictionaries: dict[tuple[str, int], Dictionary] = field(default_factory=dict)
    schemas: dict[str, Any] = field(default_factory=dict)  # pl.Schema, which the checker of types cannot read
    audits: dict[str, RowAudit] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    decisive: list[str] = field(default_factory=list)
    studies: dict[str, int] = field(default_factory=dict)
    encoders: dict[str, str] = field(default_factory=dict)
    image_keys: dict[str, list[str]] = field(default_factory=dict)
    cache: Path | None = None
    device: str = "auto"
    allow_network: bool = False
    own_encoders: Mapping[str, OwnEncoder] = field(default_factory=dict)
    embed: bool = True
    progress: Progress | None = None
    views: dict[str, list[TableView]] = field(default_factory=dict)
    steps: list[list[Any]] = field(default_factory=list)
    outcome_steps: dict[str, list[list[Any]]] = field(default_factory=dict)
    missing_words: dict[tuple[str, str, str], dict[str, list[np.ndarray]]] = field(default_factory=dict)
    clocks: dict[bool, str] = field(default_factory=dict)
    death_texts: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @cached_property
    def folder(self) -> Path:
        """The folder with the files that tables name."""
        if self.files is not None:
            return self.files
        if isinstance(self.place, Frames):
            raise InputError("images and tasks lie in a folder, frames in none; give files=FOLDER")
        return self.place

    @cached_property
    def standard(self) -> StandardTables | None:
        """The tables of a standard format; None where the spec names every table itself."""
        if self.spec.format is None:
            return None
        if isinstance(self.place, Frames):
            raise InputError(
                f"format = {self.spec.format!r} is read from a folder, not from frames; give the folder"
            )
        if not self.place.is_dir():
            raise InputError(f"{self.place}: no such folder")
        standard = import_module(f"gnnpatient.readers.{self.spec.format}").read(self.place)
        assert isinstance(standard, StandardTables)
        self.flags += standard.flags
        for what in standard.decides:
            self.flag(what, decides=True)
        return standard

    def open(self, table: str) -> RowAudit:
        """Open a table where this has not been done.

        Parameters
        ----------
        table : str
            A file in the folder, or a table of the standard format.

        Returns
        -------
        RowAudit
            What became of its rows so far.

        Raises
        ------
        InputError
            When there is no such table, or it cannot be read.
        """
        if table not in self.audits:
            frame = self._load(table)
            self.tables[table], self.schemas[table] = frame, frame.collect_schema()
            self._open_joins(table)
            size = len(frame) if isinstance(frame, pl.DataFrame) else frame.select(pl.len()).collect().item()
            start = max((audit.start + len(audit.used) for audit in self.audits.values()), default=0)
            self.audits[table] = RowAudit.of(size, start)
            if "refused" in self.schemas[table] and self.is_event_table(table):
                self._refuse_unread_rows(table)
        return self.audits[table]

    def _load(self, table: str) -> pl.DataFrame | pl.LazyFrame:
        standard = self.standard
        if standard is None:
            return read_table(self.place, table, self.spec.table(table))
        if table == PEOPLE:
            return standard.people
        if table in standard.tables:
            return standard.tables[table]
        assert isinstance(self.place, Path)
        if not (self.place / table).exists():
            raise InputError(f"no table {table!r} in {self.place}{near(table, (PEOPLE, *standard.tables))}")
        return read_table(self.place, table, self.spec.table(table))

    def _open_joins(self, table: str) -> None:
        """Add the columns that a table gains to its schema."""
        for join in self.spec.table(table).join:
            self.open(join.table)
            other, schema = self.schemas[join.table], self.schemas[table]
            check_columns(table, schema, join, other)
            gained = {new: other[old] for new, old in join.columns.items()}
            self.schemas[table] = pl.Schema({**schema, **gained})

    def home(self, table: str, column: str) -> str:
        """The table whose own column it is.

        Parameters
        ----------
        table : str
            Name of the table.
        column : str
            One of its columns, which may come by a join.

        Returns
        -------
        str
        """
        return home(self.spec.tables, (table, column))[0]

    def own_columns(self, table: str) -> list[str]:
        """The columns of an opened table without those that it gains by a join.

        Parameters
        ----------
        table : str
            Name of the table.

        Returns
        -------
        list of str
        """
        gained = set(joined_columns(self.spec.tables, table))
        return [name for name in self.schemas[table] if name not in gained]

    def rows(self, table: str, columns: Iterable[str] = ()) -> pl.LazyFrame:
        """All rows of an opened table in their order.

        Parameters
        ----------
        table : str
            Name of the table.
        columns : iterable of str
            What is asked for; of the columns that the table gains by a join only these are there.

        Returns
        -------
        polars.LazyFrame
            With the position of each row, "gnnpatient row".

        Raises
        ------
        InputError
            When a key of a join has two different rows, or no row finds its own.
        """
        lazy = self.tables[table].lazy().with_row_index(ROW)
        joins, needed = self.spec.table(table).join, set(columns)
        wanted = dict[int, list[str]]()
        for i, join in reversed([*enumerate(joins)]):
            if gained := [new for new in join.columns if new in needed]:
                wanted[i] = gained
                needed |= set(join.by)
        for i, gained in sorted(wanted.items()):
            found = self._dictionary(table, i)
            lazy = with_columns(lazy, self.schemas[table], joins[i], found, gained)
        return lazy

    def _dictionary(self, table: str, position: int) -> Dictionary:
        """The other table of a join; rows of this one that it lacks are counted."""
        if (table, position) not in self.dictionaries:
            join = self.spec.table(table).join[position]
            other, schema = self.rows(join.table, join.columns.values()), self.schemas[join.table]
            try:
                found = read_dictionary(other, schema, self.own_columns(join.table), join)
                rows = self.rows(table, join.by)
                lost, keyless, key = count_unmatched(rows, self.schemas[table], join, found)
            except pl.exceptions.PolarsError as error:
                raise InputError(f"{join.table}: {str(error).splitlines()[0]}") from None
            self.dictionaries[table, position] = found
            self._flag_unmatched(table, position, lost, keyless, key)
        return self.dictionaries[table, position]

    def _flag_unmatched(self, table: str, position: int, lost: int, keyless: int, key: str) -> None:
        join, size = self.spec.table(table).join[position], len(self.audits[table].used)
        names, columns = ", ".join(map(repr, join.by)), ", ".join(map(repr, join.columns))
        if lost + keyless == size:
            keys = self.dictionaries[table, position].frame
            there = ", ".join(map(quoted, keys.row(0)[: len(join.by)])) if len(keys) else "none"
            raise InputError(
                f"{table}: no row finds its own in {join.table} by {names}, as {key or 'empty cells'}; keys "
                f"there look like {there}: is by right?"
            )
        if lost or keyless:
            empty = f", {keyless} of them without a key" if keyless else ""
            self.flag(
                f"{table}: {lost + keyless} of {size} row(s) have no row in {join.table} by {names}{empty}; "
                f"their {columns} is empty",
                decides=2 * (lost + keyless) > size,
            )

    def mark_dictionaries(self) -> None:
        """Say what became of the rows of tables that only joins read: used, repeats, or without a key."""
        asked = [(self.spec.table(table).join[i].table, d) for (table, i), d in self.dictionaries.items()]
        for table in dict.fromkeys(table for table, _ in asked):
            audit = self.audits[table]
            if audit.used.any() or audit.collapsed.any() or len(audit.reasons) > 1:
                continue  # it has another meaning, too
            for found in (found for other, found in asked if other == table):
                audit.used[found.row.to_numpy()] = True
                audit.collapsed[found.repeats.to_numpy()] = True
                audit.refuse(found.keyless.to_numpy().astype(np.int64), NO_KEY)

    def _refuse_unread_rows(self, table: str) -> None:
        """Note the reasons for which the reader of a format refused rows."""
        lazy = self.tables[table].lazy()
        unread = lazy.select("refused").with_row_index("row").drop_nulls().collect()
        for reason in unread["refused"].unique().sort():
            rows = unread.filter(pl.col("refused") == reason)["row"].to_numpy().astype(np.int64)
            self.audits[table].refuse(rows, reason)

    def is_event_table(self, table: str) -> bool:
        """Whether a table comes from a standard format, in the columns of its events.

        Parameters
        ----------
        table : str
            Name of the table.

        Returns
        -------
        bool
        """
        return self.standard is not None and table in self.standard.tables

    def is_standard(self, table: str) -> bool:
        """Whether a standard format gives a table, people included, in columns that all formats share.

        Parameters
        ----------
        table : str
            Name of the table.

        Returns
        -------
        bool
        """
        return self.is_event_table(table) or (self.standard is not None and table == PEOPLE)

    def zone(self, table: str) -> str | None:
        """The time zone of the clock times and days of a table.

        People who have none are in the zone of the other tables of the format, where these have one.

        Parameters
        ----------
        table : str
            Name of the table.

        Returns
        -------
        str or None
            An IANA name such as Europe/Berlin; None = the table has no zone.
        """
        named = self.spec.table(table).time.timezone
        if named is None and self.standard is not None and table == PEOPLE:
            zones = {self.spec.table(name).time.timezone for name in self.standard.tables} - {None}
            return zones.pop() if len(zones) == 1 else None
        return named

    def moments(self, table: str, column: str = "time", *, end: bool = False) -> pl.Expr:
        """The times of a format's events in UTC.

        Parameters
        ----------
        table : str
            An opened table of events.
        column : str, default "time"
            Which of its times.
        end : bool, default False
            Take the last second of a bare date instead of the first.

        Returns
        -------
        polars.Expr
            Datetime in microseconds.
        """
        flag = f"{column}_bare"
        bare = pl.col(flag).fill_null(False) if flag in self.schemas[table] else pl.lit(False)
        day = self.zone(table)
        if day is None:
            at = pl.col(column).cast(pl.Datetime("us"))
            return end_of_day(at, bare) if end else at
        zone = None if self.standard is not None and self.standard.utc else day

        def utc(rows: pl.Series) -> pl.Series:
            written, dated = rows.struct.field("time"), rows.struct.field("bare")
            at = utc_moments(written.cast(pl.Datetime("us")), dated, zone, day)
            return end_of_local_day(at, dated, day) if end else at

        both = pl.struct(pl.col(column).alias("time"), bare.alias("bare"))
        return both.map_batches(utc, return_dtype=pl.Datetime("us"), is_elementwise=True).alias("time")

    def flag(self, what: str, *, decides: bool = False) -> None:
        """Flag something once.

        Parameters
        ----------
        what : str
            What looks wrong, for people.
        decides : bool, default False
            It may decide a result, so that fitting a model repeats it.
        """
        self.flags += [what] * (what not in self.flags)
        if decides:
            self.decisive += [what] * (what not in self.decisive)

    def flag_zones(self, place: str, zoned: bool) -> None:
        """Flag clock times without a time zone beside some with one, which lie hours apart from them.

        Parameters
        ----------
        place : str
            The table and the column.
        zoned : bool
            Whether they name their zone.
        """
        self.clocks.setdefault(zoned, place)
        if len(self.clocks) == 2:
            self.flag(
                f"{self.clocks[False]}: clock times without a time zone, read as UTC, while those of "
                f"{self.clocks[True]} name theirs; set timezone in the time = {{ ... }} of that table",
                decides=True,
            )

    def count_missing_words(
        self, view: TableView, name: str, cells: pl.Series, words: Collection[str], became: str
    ) -> None:
        """Remember in which rows a column holds words that look missing.

        Parameters
        ----------
        view : TableView
            The rows.
        name : str
            The column.
        cells : polars.Series
            (row,) its cells.
        words : collection of str
            Words that look missing.
        became : str
            What became of them: AS_MISSING or AS_IT_STANDS.
        """
        if cells.dtype != pl.String or not (found := cells.is_in(list(words))).any():
            return
        for word in cells.filter(found).unique().sort():
            rows = view.row[(cells == word).fill_null(False).to_numpy()]
            self.missing_words.setdefault((view.table, word, became), {}).setdefault(name, []).append(rows)

    def missing_word_flags(self) -> list[str]:
        """Flags of the words that look missing: how many cells of which columns, and what to do.

        Returns
        -------
        list of str
            One a table, word and what became of it.
        """
        flags = []
        for (table, word, became), columns in sorted(self.missing_words.items()):
            counts = {name: len(np.unique(np.concatenate(rows))) for name, rows in columns.items()}
            most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            listed = ", ".join(f"{name!r} {n}" for name, n in most[:4])
            more = f" and {len(most) - 4} more column(s)" if len(most) > 4 else ""
            out = f'; missing = [{word!r}] in [tables."{table}"] makes it missing' * (became == AS_IT_STANDS)
            flags.append(
                f"{table}: {sum(counts.values())} cell(s) hold {word!r}, {became}: {listed}{more}{out}"
            )
        return flags

    def event_tables(self, table: str | None) -> tuple[str, ...]:
        """The tables that a part of the spec reads.

        Parameters
        ----------
        table : str or None
            The table that it names; None = all of the standard format.

        Returns
        -------
        tuple of str
        """
        if table is not None:
            return (table,)
        assert self.standard is not None
        return tuple(self.standard.tables)

    def key(self, table: str) -> str:
        """The column with the patient's id.

        Parameters
        ----------
        table : str
            Name of the table.

        Returns
        -------
        str

        Raises
        ------
        InputError
            When the spec names none.
        """
        if table == PEOPLE or self.is_event_table(table):
            return "id"
        name = self.spec.table(table).key or self.spec.patient.key
        if name is None:
            raise InputError(f'{table}: which column holds the patient? set key in [tables."{table}"]')
        return name

    def view(self, table: str, columns: Iterable[str], where: Where | None = None) -> TableView:
        """Some columns of the rows of a table.

        Parameters
        ----------
        table : str
            Name of the table, which is opened where this has not been done.
        columns : iterable of str
            The columns, beside that of the patient.
        where : mapping, optional
            Patterns of cells by column; only rows that fit all of them are in the view.

        Returns
        -------
        TableView

        Raises
        ------
        InputError
            When a column is not there, holds lists or bytes, or the view does not fit into memory.
        """
        audit, schema, where = self.open(table), self.schemas[table], where or {}
        wanted = [self.key(table), *columns, *where]
        for name in wanted:
            if name not in schema:
                raise NoColumnError(f"{table}: no column {name!r}{near(name, schema)}")
            if not is_plain(schema[name]):
                mixed = "cells of several types, or of one that is not plain"
                raise InputError(
                    f"{table}: column {name!r} holds {mixed if schema[name] == pl.Object else schema[name]}; "
                    "write one plain value a cell"
                )
        if self.is_standard(table):
            wanted += [f"{name}_bare" for name in wanted if f"{name}_bare" in schema]
        width = len(set(wanted))
        lazy, in_parts = self._rows_where(table, wanted, where), isinstance(self.tables[table], pl.LazyFrame)
        try:
            room_for(8 * width * len(audit.used), f"{table}: {width} column(s) of {len(audit.used)} rows")
        except InputError:
            if not (where and in_parts):
                raise
            fit = lazy.select(pl.len()).collect(engine="streaming").item()  # only these come into memory
            room_for(8 * width * fit, f"{table}: {width} column(s) of {fit} rows")
        cells: list[Any] = [*dict.fromkeys(wanted)]
        if where and in_parts:
            cells = [_copied(name) if schema[name] == pl.String else name for name in cells]
        try:
            frame = lazy.select(ROW, *cells).collect(engine="streaming")
        except pl.exceptions.PolarsError as error:
            raise InputError(f"{table}: {str(error).splitlines()[0]}") from None
        for name in (name for name, dtype in frame.schema.items() if dtype == pl.Binary):
            try:  # some writers leave text without its type
                frame = frame.with_columns(pl.col(name).cast(pl.String))
            except pl.exceptions.PolarsError:
                raise InputError(f"{table}: column {name!r} holds bytes; write text or numbers") from None
        return TableView(self, table, frame, frame[ROW].to_numpy().astype(np.int64), audit)

    def _rows_where(self, table: str, columns: Iterable[str], where: Where) -> pl.LazyFrame:
        """The rows of a table that fit, with their position; of a format those that are facts."""
        schema = self.schemas[table]
        lazy = self.rows(table, columns)
        if self.is_event_table(table) and "refused" in schema:
            fact = pl.col("refused").is_null()
            lazy = lazy.filter(fact | pl.col("choice").is_in([*where]) if "choice" in schema else fact)
        if where:
            lazy = lazy.filter(fits(where, [name for name in where if schema[name].is_float()]))
        return lazy

    def mark_used(self, rows: np.ndarray) -> None:
        """Mark rows as used.

        Parameters
        ----------
        rows : numpy.ndarray
            Their numbers over all tables.
        """
        for audit, position in self._by_table(rows):
            audit.used[position] = True

    def mark_collapsed(self, rows: np.ndarray) -> None:
        """Mark rows as exact repeats of others.

        Parameters
        ----------
        rows : numpy.ndarray
            Their numbers over all tables.
        """
        for audit, position in self._by_table(rows):
            audit.collapsed[position] = True

    def refuse(self, rows: np.ndarray, reason: str) -> None:
        """Note why rows are left out.

        Parameters
        ----------
        rows : numpy.ndarray
            Their numbers over all tables.
        reason : str
            For people; the first reason of a row stays.
        """
        for audit, position in self._by_table(rows):
            audit.refuse(position, reason)

    def _by_table(self, rows: np.ndarray) -> Iterator[tuple[RowAudit, np.ndarray]]:
        """Rows, by their number over all tables, as positions in each table."""
        for audit in self.audits.values():
            inside = (rows >= audit.start) & (rows < audit.start + len(audit.used))
            yield audit, rows[inside] - audit.start

    def holds_nodes(self, table: str) -> bool:
        """Whether a node type is read from a table.

        Parameters
        ----------
        table : str
            Name of the table.

        Returns
        -------
        bool
        """
        return any(node.table == table for node in self.spec.nodes.values())


def _copied(name: str) -> pl.Expr:
    """A column of text, without the cells of rows that were left out, which polars would keep in memory."""
    return pl.concat_str(pl.col(name), pl.lit("")).alias(name)
