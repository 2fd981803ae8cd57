"""Tables as they are found: their first rows, what each column holds, and the unit of times."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.ingest.cells import MISSING, ids, moment, number, text
from gnnpatient.propose.names import (
    KEYS,
    MAX_COLUMNS,
    MAX_LEVELS,
    MAX_ROWS,
    NO,
    NUMBERED,
    PATIENT,
    PERSON,
    ROW,
    SPELLED,
    YES,
)
from gnnpatient.propose.parts import Block, bare, plain
from gnnpatient.readers.csv_file import CSV, found_encoding, found_separator
from gnnpatient.readers.database import first_line
from gnnpatient.readers.frames import Frames
from gnnpatient.readers.tables import is_plain, read_table
from gnnpatient.spec.tables import TableSpec, TimeSpec
from gnnpatient.times import DAY


@dataclass(frozen=True)
class Layout:
    """Rows that say together what came of a patient: `propose.layouts` finds them.

    Attributes
    ----------
    time : str or None
        Column since when the values of a row hold; None: the rows have no time.
    answers : dict of str to str
        Columns that say what came, and are no input: by column the reason.
    shown : tuple of str
        Columns that a node type of the layout's own shows.
    """

    time: str | None
    answers: dict[str, str]
    shown: tuple[str, ...]


@dataclass
class Sheet:
    """The first rows of a table, as they are and as numbers.

    Attributes
    ----------
    name : str
        The file, as [tables] names it.
    raw : DataFrame
        Its first rows.
    readme : str
        The README of the folder.
    block : Block
        [tables."FILE"].
    cells : DataFrame
        The rows as Float64 (dates: days since 1970) or String; null = missing.
    kind : dict of str to str
        By column: number, date, duration, text, empty, or mixed for numbers and a few words.
    date_format : dict of str to str
        By column of dates: the format of strptime; ``""`` = ISO 8601.
    ambiguous : set of str
        Columns of dates whose day could be the month.
    unit_decided : bool
        Whether the unit or format of its times is written already.
    key : str
        The column with the patient's id.
    has_outcome : bool
        Whether it has an outcome with a time.
    layout : Layout or None
        What its rows say together of a patient's outcome; None where one row says it.
    others : frozenset of str
        The other tables, by the names that a README may call them.
    named : dict of str to (str, dict)
        By column of codes: the column with their names, which a join adds, and that join.
    barred : frozenset of str
        Columns that must not be inputs, and are no part of an outcome that the spec names.
    """

    name: str
    raw: pl.DataFrame
    readme: str
    block: Block = field(default_factory=Block)
    cells: pl.DataFrame = field(default_factory=pl.DataFrame)
    kind: dict[str, str] = field(default_factory=dict)
    date_format: dict[str, str] = field(default_factory=dict)
    ambiguous: set[str] = field(default_factory=set)
    unit_decided: bool = False
    key: str = ""
    has_outcome: bool = False
    layout: Layout | None = None
    others: frozenset[str] = frozenset()
    named: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    barred: frozenset[str] = frozenset()
    _known_states: dict[str, dict[str, int]] = field(default_factory=dict, repr=False)

    @cached_property
    def patient_ids(self) -> pl.Series:
        """The patient of each row."""
        return ids(self.raw[self.key]).alias(PATIENT)

    @cached_property
    def rows(self) -> pl.DataFrame:
        """The cells of the rows with a patient."""
        return self.cells.with_columns(self.patient_ids).filter(pl.col(PATIENT).is_not_null())

    @cached_property
    def first_values(self) -> pl.DataFrame:
        """A row for each patient: PATIENT, and the first value of each column."""
        if self.one_row_each:
            return self.rows.select(PATIENT, pl.exclude(PATIENT))
        return self.rows.group_by(PATIENT, maintain_order=True).agg(pl.all().drop_nulls().first())

    @cached_property
    def constant_columns(self) -> set[str]:
        """Columns that do not change within a patient, and are filled in most rows of a patient."""
        if self.one_row_each:
            return {c for c in self.raw.columns if self.rows[c].count()} - {self.key}
        patients, every = self.rows.group_by(PATIENT, maintain_order=True), pl.exclude(PATIENT)
        alike = patients.agg((pl.all().min() == pl.all().max()).fill_null(True)).select(every.all())
        given = patients.agg(pl.all().is_not_null().mean()).select(every.replace(0.0, None).mean())
        return {c for c in alike.columns if alike[c][0] and (given[c][0] or 0) >= 0.9} - {self.key}

    @cached_property
    def one_row_each(self) -> bool:
        """Whether each patient has one row."""
        return self.patient_ids.n_unique() == len(self.patient_ids)

    @cached_property
    def person_columns(self) -> list[str]:
        """Columns that describe a person, as age and sex."""
        return [c for c in self.raw.columns if c in self.constant_columns and PERSON.match(plain(c))]

    @property
    def standalone(self) -> bool:
        """Whether the table could be a cohort of its own."""
        return bool(self.person_columns) or self.has_outcome

    def words(self, name: str) -> pl.Series:
        """Cells in the form in which states are compared: 1.0 is 1.

        Parameters
        ----------
        name : str
            A column.

        Returns
        -------
        Series
            null = missing.
        """
        return text(self.raw[name], MISSING).str.replace(r"^(-?\d+)\.0+$", "$1")

    def states(self, name: str) -> dict[str, int]:
        """How many patients have each word of a column.

        Parameters
        ----------
        name : str
            A column.

        Returns
        -------
        dict of str to int
            Empty where there are many words, or times.
        """
        if name not in self._known_states:
            self._known_states[name] = self._states(name)
        return self._known_states[name]

    def _states(self, name: str) -> dict[str, int]:
        numbers = self.kind[name] == "number"
        if self.kind[name] in ("date", "duration") or (numbers and self.n_distinct(name) > MAX_LEVELS):
            return {}
        frame = pl.DataFrame({"who": self.patient_ids, "word": self.words(name)}).drop_nulls().unique()
        count = frame.group_by("word").len().sort("word")
        return dict(count.iter_rows()) if len(count) <= MAX_LEVELS else {}

    def is_binary(self, name: str) -> bool:
        """Whether a column holds 0 and 1, or false and true.

        Parameters
        ----------
        name : str
            A column.

        Returns
        -------
        bool
        """
        return {state.lower() for state in self.states(name)} in ({"0", "1"}, {"true", "false"})

    def is_yes_or_no(self, name: str) -> bool:
        """Whether a column holds 0 and 1, or words for yes and no.

        Parameters
        ----------
        name : str
            A column.

        Returns
        -------
        bool
        """
        states = [state.lower() for state in self.states(name)]
        return len(states) == 2 and any(s in YES for s in states) and any(s in NO for s in states)

    def n_distinct(self, name: str) -> int:
        """How many different values a column has.

        Parameters
        ----------
        name : str
            A column.

        Returns
        -------
        int
        """
        if name not in self._distinct:  # joined since
            self._distinct[name] = self.cells[name].drop_nulls().n_unique()
        return self._distinct[name]

    @cached_property
    def _distinct(self) -> dict[str, int]:
        every = [pl.col(c).drop_nulls().n_unique() for c in self.cells.columns]
        blocks = [every[i : i + 500] for i in range(0, len(every), 500)]
        return {c: n for block in blocks for c, n in self.cells.select(block).row(0, named=True).items()}

    def happened(self, flag: str) -> pl.Series:
        """What a column of 0 and 1 says of each patient, as the rows of `first_values`.

        Parameters
        ----------
        flag : str
            A binary column.

        Returns
        -------
        Series
            bool, null = not known.
        """
        value = self.first_values[flag]
        return value.str.to_lowercase().is_in(["1", "true"]) if value.dtype == pl.String else value == 1

    def is_integer(self, name: str) -> bool:
        """Whether all values are whole numbers.

        Parameters
        ----------
        name : str
            A column.

        Returns
        -------
        bool
        """
        cells = self.cells[name]
        return self.kind[name] == "number" and bool((cells.round() == cells).fill_null(True).all())

    def names_rows(self, name: str) -> bool:
        """Whether a column is an id, or the number of a row.

        Parameters
        ----------
        name : str
            A column.

        Returns
        -------
        bool
        """
        word = plain(name)
        named = ROW.search(word) or word in KEYS
        if not named or not (self.kind[name] == "text" or self.is_integer(name)):
            return False
        return self.raw[name].n_unique() > MAX_LEVELS or word in KEYS

    def counts_rows(self, name: str) -> bool:
        """Whether a column holds consecutive whole numbers, each once, as no measurement of a patient does.

        Parameters
        ----------
        name : str
            A column.

        Returns
        -------
        bool
        """
        cells = self.cells[name] if self.kind[name] == "number" and self.is_integer(name) else None
        if cells is None or cells.len() <= MAX_LEVELS or cells.null_count() or cells.n_unique() < cells.len():
            return False
        return float(cells.max()) - float(cells.min()) + 1 == cells.len()  # type: ignore[arg-type]

    def lines(self) -> list[str]:
        """The lines of the README, first those that name this table; none that is about another one.

        Returns
        -------
        list of str
        """
        stem = rf"(?<![\w.]){re.escape(table_name(self.name))}(?!\w)"
        own, of_all = list[str](), list[str]()
        for line in self.readme.splitlines():
            if re.search(stem, line):
                own.append(line)
            else:  # a sentence about another table ends what is said of all
                sentences = re.split(r"(?<=[.;])\s+", line)
                others = (any(_is_about(s, other) for other in self.others) for s in sentences)
                of_all.append(" ".join(sentences[: next((i for i, of in enumerate(others) if of), None)]))
        return own + of_all

    @cached_property
    def documented(self) -> dict[str, str]:
        """The unit of each column by a table in the README that has a column `unit`."""
        found: dict[str, str] = {}
        name = unit = -1
        for line in self.lines():
            cells = [cell.strip().strip("`*").strip() for cell in line.strip().strip("|").split("|")]
            words = [cell.lower() for cell in cells]
            if len(cells) < 2:
                name = unit = -1
            elif any(word in ("unit", "units") for word in words):
                unit = next(i for i, word in enumerate(words) if word in ("unit", "units"))
                called = (i for i, word in enumerate(words) if re.match("column|variable|name|field", word))
                name = next(called, 0)
            elif 0 <= unit < len(cells) and name < len(cells):
                found.setdefault(cells[name], cells[unit])
        return found

    def clock(self, time: str, *others: str) -> None:
        """Write the format of dates or the unit of offsets into [tables."FILE"], or ask for it.

        Parameters
        ----------
        time : str
            A column with times.
        *others : str
            Further columns that may show the unit.
        """
        if self.unit_decided or self.kind[time] == "duration":
            return
        self.unit_decided, place, notes = True, f"tables.{bare(self.name)}.time", self.block.notes
        if self.kind[time] == "date":
            if date_format := self.date_format[time]:
                self.block.keys["time"] = {"format": date_format}
                if time in self.ambiguous:
                    notes.append(f"ASK: {place}: is it {date_format}, or does the month come first?")
            return
        found = {name: _unit(self, name) for name in dict.fromkeys((time, *others))}
        found = {name: (unit, why) for name, (unit, why) in found.items() if unit}
        for name, (unit, why) in found.items():
            self.block.keys |= {"time": {"unit": unit}} if unit != "d" else {}
            notes.append(f"{self.name}: {name} is in {unit}: {why}")
            if odd := [f"{other} in {of}" for other, (of, _) in found.items() if of != unit]:
                ask = f"a table has one unit for its times, but {', '.join(odd)}; bring them to one"
                notes.append(f"ASK: {place}: {ask}")
            return
        notes.append(
            f"ASK: {place}: {time} is taken as days; it reaches {self.reach(time):.4g}. Else time = "
            '{ unit = "s", "min", "h", "w", "mo" or "y" }'
        )

    def clock_of_all(self) -> None:
        """Write the unit that the README gives for all times, where no column showed one."""
        if not self.unit_decided and (unit := _unit_of_times(self)):
            self.unit_decided = True
            self.block.keys |= {"time": {"unit": unit}} if unit != "d" else {}
            self.block.notes.append(f"{self.name}: times are in {unit}: from the README, of times")

    def reach(self, name: str) -> float:
        """The largest absolute value of a column of numbers.

        Parameters
        ----------
        name : str
            A column of numbers.

        Returns
        -------
        float
            0 where there is none.
        """
        return float(self.cells[name].abs().max() or 0)  # type: ignore[arg-type]


def share(flags: pl.Series) -> float:
    """The share that is true among those that are known.

    Parameters
    ----------
    flags : Series
        bool, null = not known.

    Returns
    -------
    float
        0 where none is known.
    """
    return float(flags.mean() or 0)  # type: ignore[arg-type]


def table_name(name: str) -> str:
    """What a README calls a table: its name without the ending, also where its rows were numbered since.

    Parameters
    ----------
    name : str
        The table, as [tables] names it.

    Returns
    -------
    str

    Examples
    --------
    >>> table_name("more/labs.csv.gz"), table_name("labs_numbered.csv")
    ('labs', 'labs')
    """
    return Path(name).name.partition(".")[0].removesuffix(NUMBERED)


def _is_about(line: str, table: str) -> bool:
    """Whether a line of a README is about a table: it begins with its name, or names the file."""
    head = re.split(r"[:|]", line.strip().strip("|*- #`"), maxsplit=1)[0]
    named = re.escape(table)
    return bool(
        re.search(rf"(?<![\w.]){named}\.(csv|tsv|parquet|txt)", line)
        or (len(head) < 60 and re.search(rf"(?:^|[,`] *){named}(?![\w.])", head))
    )


_UNITS = "|".join(f"(?P<{unit}>{spelled})" for unit, spelled in SPELLED.items())


def _unit(sheet: Sheet, name: str) -> tuple[str, str]:
    """The unit of a column of offsets, and where it was found: name, README or size; else "", ""."""
    parts = re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    for unit, spelled in SPELLED.items():
        if any(re.fullmatch(spelled, part) for part in parts):
            return unit, "from its name"
    if found := re.fullmatch(rf"(?i)(?:in )?(?:{_UNITS})", sheet.documented.get(name, "")):
        return str(found.lastgroup), "from the README"
    near = rf"(?i)(?<![\w.]){re.escape(name)}(?![\w.])[^.;|]{{0,40}}?(?<![\w-])(?:{_UNITS})(?!\w)"
    for line in sheet.lines():
        if found := re.search(near, line):
            # "in days, converted to months" is asked
            units = _units_named(_clause(line, found))
            return (str(found.lastgroup), "from the README") if len(units) == 1 else ("", "")
    if name.lower().endswith("offset"):
        if found := re.search(rf"(?i)offset[^.;|]{{0,40}}?\b(?:{_UNITS})\b", sheet.readme):
            return str(found.lastgroup), "from the README, of offsets"
        if sheet.reach(name) > 5000:
            return "min", "from its large numbers; check that"
    return _unit_of_all_times(sheet)


def _clause(line: str, found: re.Match[str]) -> str:
    """What is matched in a line, to the end of the sentence or cell."""
    return found[0] + re.split(r"[.;|]", line[found.end() :], maxsplit=1)[0]


def _units_named(text: str) -> set[str]:
    """The units of time in a text, without those of an age and of numbers, as in 30 days."""
    text = re.sub(rf"(?i)\bage\b[^.;|,]{{0,25}}|\d[\d.]*[ -](?:{_UNITS})(?!\w)", "", text)
    return {str(found.lastgroup) for found in re.finditer(rf"(?i)(?<![\w-])(?:{_UNITS})(?!\w)", text)}


def _unit_of_times(sheet: Sheet) -> str:
    """The unit that the README gives for all times; else ""."""
    of_times = (
        r"(?i)\b(?:times?|durations?|follow-?up|survival|offsets?|time units?)\b[^.;|]{0,25}?"
        rf"(?:\b(?:in|are|is)\b|[:(=])\s*(?:(?:given|measured) )?(?:in )?(?:{_UNITS})(?!\w)"
    )
    units = set[str]()
    for line in sheet.lines():
        for found in re.finditer(of_times, line):
            units |= _units_named(_clause(line, found))
    return units.pop() if len(units) == 1 else ""


def _unit_of_all_times(sheet: Sheet) -> tuple[str, str]:
    """The unit that the README gives for all times, or the only one that the lines of the table name."""
    if unit := _unit_of_times(sheet):
        return unit, "from the README, of times"
    stem = rf"(?<![\w.]){re.escape(table_name(sheet.name))}(?!\w)"
    units = {unit for line in sheet.lines() if re.search(stem, line) for unit in _units_named(line)}
    return (units.pop(), "the only unit of time in its line of the README") if len(units) == 1 else ("", "")


def tables(folder: Path, inside: str = "") -> list[str]:
    """The tables of a folder and of the folders in it; a folder of similar shards is one table.

    Parameters
    ----------
    folder : Path
        The folder.
    inside : str, default ""
        A folder in it, with a slash behind.

    Returns
    -------
    list of str
        Their names, as [tables] has them.
    """
    found: list[str] = []
    for path in sorted((folder / inside).iterdir()):
        name = f"{inside}{path.name}"
        if path.is_file() and name.endswith((*CSV, ".parquet")) and not path.name.startswith("."):
            found.append(name)
        elif path.is_dir() and not inside and not name.startswith("."):
            found += [name] if _shards(path) else tables(folder, f"{name}/")
    return found


def _shards(folder: Path) -> bool:
    """Whether a folder holds several files, all with the same columns."""
    shards = sorted(folder.rglob("*.parquet"))
    try:
        schemas = {str(pl.scan_parquet(shard, glob=False).collect_schema()) for shard in shards}
        return len(shards) > 1 and len(schemas) == 1
    except (pl.exceptions.PolarsError, OSError):
        return False


def read(folder: Path, name: str, readme: str) -> Sheet:
    """Read the first rows of a table.

    Parameters
    ----------
    folder : Path
        The folder of the tables.
    name : str
        The table, as `tables` gives it.
    readme : str
        The README of the folder.

    Returns
    -------
    Sheet

    Raises
    ------
    InputError
        When the file cannot be read, with the reason.
    """
    path, keys = folder / name, dict[str, Any]()
    typed = not name.endswith(CSV)
    try:
        if typed:
            shards = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
            raw = pl.scan_parquet([shard.absolute() for shard in shards], glob=False).head(MAX_ROWS).collect()
        else:
            keys, raw = _csv(folder, name)
    except InputError as error:
        raise InputError(f"{name}: not read: {str(error).removeprefix(f'{path}: ')}") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{name}: not read: {first_line(error)}") from None
    return sheet_of(name, raw, readme, keys, typed=typed)


def from_frame(frames: Frames, name: str) -> Sheet:
    """Read the first rows of a frame in memory, text as `check` reads it: that of a CSV but for a .parquet.

    Parameters
    ----------
    frames : Frames
        The tables.
    name : str
        One of them.

    Returns
    -------
    Sheet

    Raises
    ------
    InputError
        When it cannot be read, with the reason.
    """
    raw = frames.table(name).head(MAX_ROWS)
    for column, dtype in raw.schema.items():
        if not is_plain(dtype):  # a question to its owner as an empty column; named, it is refused
            raw = raw.with_columns(pl.lit(None, dtype=pl.String).alias(column))
    return sheet_of(name, _without_blanks(raw), typed=name.endswith(".parquet"))


def sheet_of(
    name: str, raw: pl.DataFrame, readme: str = "", keys: dict[str, Any] | None = None, *, typed: bool = True
) -> Sheet:
    """What the columns of a frame hold.

    Parameters
    ----------
    name : str
        The table, as [tables] names it.
    raw : DataFrame
        Its first rows.
    readme : str, default ""
        What is said about the tables.
    keys : dict, optional
        How the file is written, as [tables."FILE"] has it.
    typed : bool, default True
        Numbers and dates have their types, and texts are words; False: the cells of a CSV, all texts.

    Returns
    -------
    Sheet

    Raises
    ------
    InputError
        When there are too many columns.
    """
    keys = {} if keys is None else keys
    if len(raw.columns) > MAX_COLUMNS:
        raise InputError(
            f"{name}: not read: {len(raw.columns)} columns; choose some, or summarise them first"
        )
    sheet = Sheet(name, raw, readme, Block([], keys))
    if keys.get("decimal") == ",":
        raw = raw.with_columns(pl.col(pl.String).str.replace(r"^\s*(-?\d+),(\d+)\s*$", "$1.$2"))
    sheet.cells = pl.DataFrame({column: _cells(sheet, raw[column], typed) for column in raw.columns})
    texts = [raw[column].str.strip_chars() for column in raw.columns if raw[column].dtype == pl.String]
    if missing_words := [word for word in MISSING[1:] if any((cells == word).any() for cells in texts)]:
        listed = ", ".join(missing_words)
        note = f"{name}: {listed} is taken as missing; a code that is called so would be lost"
        sheet.block.notes.append(note)
        sheet.block.keys["missing"] = missing_words
    return sheet


def _csv(folder: Path, name: str) -> tuple[dict[str, Any], pl.DataFrame]:
    """How a CSV is written, where the defaults do not fit, and its first rows, by the reader of `check`."""
    path, keys = folder / name, dict[str, Any]()
    if (encoding := found_encoding(path)) != "utf-8":
        keys["encoding"] = encoding
    separator = found_separator(path, encoding)
    if separator != ("\t" if ".tsv" in path.name else ","):
        keys["separator"] = separator
    raw = read_table(folder, name, TableSpec(**keys))
    raw = _without_blanks(raw.lazy().head(MAX_ROWS).collect())
    if separator != ",":
        comma = pl.all().str.contains(r"^-?\d+,\d+$").any()
        numbers = pl.all().str.contains(r"^\s*(-?\d+(,\d+)?)?\s*$").fill_null(True).all()
        if any(raw.select(comma & numbers).row(0)):
            keys["decimal"] = ","
    return keys, raw


def _without_blanks(raw: pl.DataFrame) -> pl.DataFrame:
    """Empty cells as null, and no row of nothing else."""
    words = pl.col(pl.String)
    raw = raw.with_columns(pl.when(words != "").then(words).name.keep())
    return raw.filter(~pl.all_horizontal(pl.all().is_null()))


def _cells(sheet: Sheet, cells: pl.Series, typed: bool) -> pl.Series:
    """A column as numbers, days or words; what it is goes into `sheet.kind`. Typed cells are not parsed."""
    name, epoch = cells.name, pl.zeros(len(cells), dtype=pl.Int64, eager=True)
    if cells.dtype.is_temporal() and cells.dtype != pl.Time:
        span = cells.dtype == pl.Duration
        sheet.kind[name], sheet.date_format[name] = "duration" if span else "date", ""
        return moment(cells, None if span else epoch, name, limit=None).at / DAY
    if cells.dtype.is_numeric() or cells.dtype == pl.Boolean:
        sheet.kind[name] = "number"
        return number(cells)[0]
    words = text(cells.cast(pl.String, strict=False), MISSING)
    given = len(words) - words.null_count()
    value, odd = number(words)
    date_format = None if typed else _date_format(sheet, name, words.drop_nulls())
    iso = words.str.contains(r"^\d{4}-\d\d-\d\d([T ]|$)").sum()
    if not given:
        sheet.kind[name] = "empty"
    elif date_format is not None or iso >= 0.9 * given:
        sheet.kind[name], sheet.date_format[name] = "date", date_format or ""
        if date_format is None:
            words = words.set(~words.str.contains(r"^\d{4}-").fill_null(True), None)
        return moment(words, epoch, name, TimeSpec(format=date_format), limit=None).at / DAY
    elif not typed and odd.sum() <= 0.1 * given:
        sheet.kind[name] = "mixed" if odd.any() else "number"
        return value
    else:
        sheet.kind[name] = "text"
    return words


def _date_format(sheet: Sheet, name: str, words: pl.Series) -> str | None:
    """The strptime format of dates that are not ISO 8601; None where they are none. Ambiguous: day first."""
    first = words[0].strip() if len(words) else ""
    if re.fullmatch(r"\d{1,2}-[A-Za-z]{3}-\d{4}", first):
        return "%d-%b-%Y"
    if "dat" in plain(name) and words.str.contains(r"^[12]\d{3}[01]\d[0-3]\d$").all() and first:
        return "%Y%m%d"
    shape = r"\d{1,2}(?P<sign>[./-])\d{1,2}[./-]\d{4}(?P<clock> \d{1,2}:\d{2}(?P<second>:\d{2})?)?"
    if not (found := re.fullmatch(shape, first)):
        return None
    alike = words.str.contains(r"^\s*\d{1,2}[./-]\d{1,2}[./-]\d{4}")
    if share(alike) < 0.9:
        return None
    parts = words.str.extract_groups(r"^(\d{1,2})[./-](\d{1,2})").struct
    month_last, month_first = (
        bool((parts.field(i).cast(pl.Int64, strict=False) > 12).any()) for i in ("1", "2")
    )
    if month_last and month_first:
        return None
    if not month_last and not month_first:
        sheet.ambiguous.add(name)
    clock = (" %H:%M" if found["clock"] else "") + (":%S" if found["second"] else "")
    return found["sign"].join(("%m", "%d", "%Y") if month_first else ("%d", "%m", "%Y")) + clock
