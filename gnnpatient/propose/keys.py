"""The patient's id where no known name says it: by the words of a name, and by what a column holds."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import polars as pl

from gnnpatient.ingest.cells import ids
from gnnpatient.propose import names
from gnnpatient.propose.names import MAX_LEVELS
from gnnpatient.propose.parts import plain
from gnnpatient.propose.sheets import Sheet, share

MAX_TRIED = 50  # columns of a table that are looked at row by row
MAX_LONG = 40  # characters of an id
MAX_GAPS = 0.02  # share of the rows that may have no id
CONTAINED = 0.95  # share of the values of a column that are ids elsewhere, to be ids, too
FEW = 0.1  # share of the patients whom a table must have at least, to be told by its values


@dataclass(frozen=True)
class Candidate:
    """A column that may be the patient's id, in every table that has one of its name.

    Attributes
    ----------
    name : str
        The name, as the first table spells it.
    columns : dict of str to str
        By table, the column.
    word : int
        What its name says, as `word_of` gives it.
    why : str
        What speaks for it.
    rank : tuple
        The larger, the likelier.
    """

    name: str
    columns: dict[str, str]
    word: int
    why: str
    rank: tuple[float, ...]


def word_of(name: str) -> int:
    """What a name says of an id: 3 a person's, 2 an id, 1 nothing, 0 an id of something else.

    Parameters
    ----------
    name : str
        A column.

    Returns
    -------
    int

    Examples
    --------
    >>> [word_of(name) for name in ("StudyNr", "subject_label", "unit_no", "wbc", "session_label")]
    [3, 3, 2, 1, 0]
    """
    parts = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])", "_", name))
    words = [part.lower() for part in parts]
    if not words:
        return 1
    if any(names.ID_OF_OTHERS.match(word) for word in words):
        return 0
    of_person = [bool(names.ID_OF_PERSON.match(word)) for word in words]
    of_any = [bool(names.ID_WORD.match(word)) for word in words]
    if any(of_person) and all(a or b for a, b in zip(of_person, of_any, strict=True)):
        return 3
    return 2 if of_any[-1] or of_any[0] else 1


def candidates(sheets: list[Sheet]) -> list[Candidate]:
    """The columns that may be the patient's id, the likeliest first.

    An id is text or a whole number, is hardly ever missing, and is no measured value. Several tables share
    it; it is unique in one of them and repeated in others. In a single table it is unique in each row, or
    the rows with one value have each a time of their own.

    Parameters
    ----------
    sheets : list of Sheet
        All tables.

    Returns
    -------
    list of Candidate
    """
    able = {
        sheet.name: {c: n for c in sheet.raw.columns[:MAX_TRIED] if (n := possible(sheet, c))}
        for sheet in sheets
    }
    found: dict[str, list[tuple[Sheet, str]]] = {}
    for sheet in sheets:
        for column in able[sheet.name]:
            found.setdefault(plain(column) or column, []).append((sheet, column))
    likely = [_candidate(places, len(sheets), able) for places in found.values()]
    return sorted((one for one in likely if one is not None), key=lambda one: one.rank, reverse=True)


def possible(sheet: Sheet, column: str) -> int:
    """How many values a column has that could be ids.

    Parameters
    ----------
    sheet : Sheet
        A table.
    column : str
        One of its columns.

    Returns
    -------
    int
        0 where it cannot be an id: a value, a time, a state, or with gaps.
    """
    word, cells = plain(column), sheet.raw[column]
    if sheet.kind[column] not in ("text", "number", "mixed") or cells.null_count() > MAX_GAPS * len(cells):
        return 0
    if sheet.kind[column] == "number" and not sheet.is_integer(column):
        return 0
    if names.PERSON.match(word) or word in names.ANALYTE or names.SPLIT.match(word):
        return 0
    told = word_of(column)
    if told < 2 and (names.CLOCK.search(word) or names.HAPPENS.search(word) or names.UNIT.search(word)):
        return 0
    written = ids(cells).drop_nulls()
    if not len(written) or (written.str.len_chars() > MAX_LONG).any():
        return 0
    n = written.n_unique()
    return n if n > 1 else 0


def _candidate(
    places: list[tuple[Sheet, str]], n_tables: int, able: dict[str, dict[str, int]]
) -> Candidate | None:
    """A column of one name in some tables, if it can be the id; else None."""
    word = max(word_of(column) for _, column in places)
    values = [able[sheet.name][column] for sheet, column in places]
    unique = [n == len(sheet.raw) for n, (sheet, _) in zip(values, places, strict=True)]
    if max(values) <= MAX_LEVELS and not any(unique):  # the words of a category
        return None
    sheet, column = places[0]
    first = -min(of.raw.columns.index(c) for of, c in places)
    if n_tables > 1 and len(places) > 1:
        same = all(_shared(sheet, column, *other) for other in places[1:])
        if not same or (word <= 1 and not any(unique)):
            return None
        why = f"{len(places)} tables have it"
        why += " and it is unique in one" if any(unique) and not all(unique) else ""
    elif any(unique):
        counts = sheet.kind[column] == "number" and bool((sheet.cells[column].diff().drop_nulls() > 0).all())
        named = word >= 2 or sheet.kind[column] == "text" or sheet.names_rows(column)
        if not named and not (counts and first == 0 and len(sheet.raw) > MAX_LEVELS):
            return None
        why = "it differs in every row"
    elif in_time(sheet, column):
        if word <= 1 and (sheet.kind[column] != "text" or sheet.n_distinct(column) > 0.5 * len(sheet.raw)):
            return None
        why = "its rows have a time each"
    elif word == 3 or (word == 2 and first == 0):
        why = "by its name"
    else:
        return None
    rank = (len(places), word, any(unique), max(values) if n_tables > 1 else 0, first)
    return Candidate(column, {of.name: c for of, c in places}, word, why, rank)


def _shared(sheet: Sheet, column: str, other: Sheet, there: str) -> bool:
    """Whether a column has mostly the values of another, or the other way round."""
    one, two = ids(sheet.raw[column]).drop_nulls().unique(), ids(other.raw[there]).drop_nulls().unique()
    small, large = sorted((one, two), key=len)
    return share(small.is_in(large.implode())) >= 0.5


def in_time(sheet: Sheet, column: str) -> bool:
    """Whether the rows of each value of a column have each another time.

    Parameters
    ----------
    sheet : Sheet
        A table.
    column : str
        One of its columns.

    Returns
    -------
    bool
    """
    times = [c for c in sheet.raw.columns if sheet.kind[c] in ("number", "date") and c != column]
    times = [
        c
        for c in times
        if sheet.kind[c] == "date" or names.CLOCK.search(plain(c)) or names.COUNTER.match(plain(c))
    ]
    every = pl.Series("who", ids(sheet.raw[column]))
    again = Counter(every.drop_nulls().to_list())
    if not again or max(again.values()) < 2:
        return False
    for time in times[:10]:
        frame = pl.DataFrame({"who": every, "at": sheet.cells[time]}).drop_nulls()
        if len(frame) and len(frame.unique()) >= 0.98 * len(frame) > 0.9 * len(sheet.raw):
            return True
    return False


def contained(sheet: Sheet, known: pl.Series) -> str:
    """The column of a table whose values are ids of patients that another table has, under another name.

    Parameters
    ----------
    sheet : Sheet
        A table in which no column is called as the id.
    known : Series
        The ids of the patients, each once.

    Returns
    -------
    str
        "" where there is none.
    """
    only_count = bool(known.str.contains(r"^\d{1,6}$").all())
    found = []
    for column in sheet.raw.columns[:MAX_TRIED]:
        word = word_of(column)
        if not possible(sheet, column) or word < (3 if only_count else 1):
            continue
        mine = ids(sheet.raw[column]).drop_nulls().unique()
        if len(mine) >= max(2, FEW * len(known)) and share(mine.is_in(known.implode())) >= CONTAINED:
            found.append((word, -sheet.raw.columns.index(column), column))
    return max(found)[-1] if found else ""


def of_other_rows(sheet: Sheet, column: str) -> bool:
    """Whether a column is the id of a stay, a sample or a visit: no value, whatever its type.

    By its name it is an id, it has many values, and each belongs to one patient.

    Parameters
    ----------
    sheet : Sheet
        A table with a patient column.
    column : str
        One of its columns.

    Returns
    -------
    bool
    """
    if word_of(column) == 1 or not (sheet.kind[column] == "text" or sheet.is_integer(column)):
        return False
    frame = pl.DataFrame({"who": sheet.patient_ids, "id": ids(sheet.raw[column])}).drop_nulls().unique()
    return len(frame) > MAX_LEVELS and frame["id"].n_unique() == len(frame)
