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
from gnnpatient.propose.names import KEYS, MAX_COLUMNS, MAX_LEVELS, MAX_ROWS, PATIENT, PERSON, ROW, SPELLED
from gnnpatient.propose.parts import Block, bare, plain
from gnnpatient.readers.csv_file import CSV, found_encoding, found_separator
from gnnpatient.readers.database import first_line
from gnnpatient.readers.tables import read_table
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
        return self.rows.group_by(PATIENT, maintain_order=True).agg(pl.all().drop_nulls().first())

    @cached_property
    def constant_columns(self) -> set[str]:
        """Columns that do not change within a patient, and are filled in most rows of a patient."""
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
        if self.kind[name] in ("date", "duration"):
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
        return self.cells[name].drop_nulls().n_unique()

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
        if not ROW.search(word) or not (self.kind[name] == "text" or self.is_integer(name)):
            return False
        return self.raw[name].n_unique() > MAX_LEVELS or word in KEYS

    def lines(self) -> list[str]:
        """The lines of the README, first those that name this table.

        Returns
        -------
        list of str
        """
        return sorted(self.readme.splitlines(), key=lambda line: Path(self.name).stem not in line)

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
        for name in (time, *others):
            unit, why = _unit(self, name)
            if unit:
                self.block.keys |= {"time": {"unit": unit}} if unit != "d" else {}
                notes.append(f"{self.name}: {name} is in {unit}: {why}")
                return
        notes.append(
            f"ASK: {place}: {time} is taken as days; it reaches {self.reach(time):.4g}. Else time = "
            '{ unit = "s", "min", "h", "w", "mo" or "y" }'
        )

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


def _unit(sheet: Sheet, name: str) -> tuple[str, str]:
    """The unit of a column of offsets, and where it was found: name, README or size; else "", ""."""
    parts = re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    for unit, spelled in SPELLED.items():
        if any(re.fullmatch(spelled, part) for part in parts):
            return unit, "from its name"
    units = "|".join(f"(?P<{unit}>{spelled})" for unit, spelled in SPELLED.items())
    near = rf"(?i)(?<![\w.]){re.escape(name)}(?![\w.])[^.;|]{{0,40}}?(?<![\w-])(?:{units})(?!\w)"
    for line in sheet.lines():
        if found := re.search(near, line):
            return str(found.lastgroup), "from the README"
    if name.lower().endswith("offset"):
        if found := re.search(rf"(?i)offset[^.;|]{{0,40}}?\b(?:{units})\b", sheet.readme):
            return str(found.lastgroup), "from the README, of offsets"
        if sheet.reach(name) > 5000:
            return "min", "from its large numbers; check that"
    return "", ""


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
    raw = raw.lazy().head(MAX_ROWS).collect().with_columns(pl.when(pl.all() != "").then(pl.all()).name.keep())
    raw = raw.filter(~pl.all_horizontal(pl.all().is_null()))  # a row of empty cells is none
    if separator != ",":
        comma = pl.all().str.contains(r"^-?\d+,\d+$").any()
        numbers = pl.all().str.contains(r"^\s*(-?\d+(,\d+)?)?\s*$").fill_null(True).all()
        if any(raw.select(comma & numbers).row(0)):
            keys["decimal"] = ","
    return keys, raw


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
