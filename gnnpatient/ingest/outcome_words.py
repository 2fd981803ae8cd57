"""What words mean for an outcome: states, flags and classes of a table, names of causes, patterns."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

import numpy as np
import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.ingest.cells import MISSING
from gnnpatient.ingest.columns import one_each, take
from gnnpatient.ingest.source import SourceTables, TableView
from gnnpatient.readers.tables import fits
from gnnpatient.spec.outcomes import CauseSpec, DiagnosisSpec, SurvivalSpec
from gnnpatient.spec.patterns import fitting

DEATH = re.compile(r"(?i)death|dead|died|mort|decea|expire|exitus|surviv|tod|décès|muerte")
"""Finds names of outcomes and causes that are deaths."""

ROWS_THAT_CHANGE = (
    "if each row is a stretch of time, name start = COLUMN and stop = COLUMN beside the flag; if each is an "
    'event, choose those of a cause: { time = COLUMN, where = { COLUMN = "..." } }'
)
"""How an outcome of several rows a patient is written, for messages."""

_ALIKE = 0.6  # of 1, from which on a cell may be a word that is spelled otherwise
_YES_NO = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0}


def read_states(
    view: TableView, name: str, outcome: SurvivalSpec, owner: np.ndarray, count: int
) -> np.ndarray:
    """What the status column means for each patient.

    Parameters
    ----------
    view : TableView
        Rows of the table.
    name : str
        The outcome.
    outcome : SurvivalSpec
        Its spec, with `status`.
    owner : numpy.ndarray
        (row,) int64 patient of each row, -1 = nobody's.
    count : int
        How many patients there are.

    Returns
    -------
    numpy.ndarray
        (patient,) int64: 0 censored, k the k-th cause, -1 not given.

    Raises
    ------
    InputError
        When a state has no meaning, or a patient has two states.
    """
    assert outcome.status is not None
    code = pl.Series(state_codes(view, name, outcome))
    code = code.set(code < 0, None)
    rows = one_each(view, outcome.status.column, code, owner, count, hint=ROWS_THAT_CHANGE)
    return take(code.fill_null(-1).to_numpy(), rows, -1)


def state_codes(view: TableView, name: str, outcome: SurvivalSpec) -> np.ndarray:
    """What the status column means in each row.

    Parameters
    ----------
    view : TableView
        Rows of the table.
    name : str
        The outcome.
    outcome : SurvivalSpec
        Its spec, with `status`.

    Returns
    -------
    numpy.ndarray
        (row,) int64: 0 censored, k the k-th cause, -1 not given.

    Raises
    ------
    InputError
        When a state has no meaning.
    """
    assert outcome.status is not None
    status = outcome.status
    numbers = ("censored", *outcome.cause_names)
    meaning = {state: numbers.index(word) for state, word in status.states.items()}
    cells = _as_named(view.text(status.column, meaning), meaning)
    if (unknown := cells.is_not_null() & ~cells.is_in(list(meaning))).any():
        row = unknown.arg_true()[0]
        raise InputError(
            f"{view.table}: outcome {name!r}, line {view.line(row)}: state {cells[row]!r} is not in states; "
            'add it, as the name of a cause or as "censored"'
        )
    code = cells.replace_strict(list(meaning), list(meaning.values()), default=None, return_dtype=pl.Int64)
    return code.fill_null(-1).to_numpy()


def read_event_flags(
    view: TableView, name: str, cause: str, flag: str, owner: np.ndarray, count: int
) -> np.ndarray:
    """Whether a cause happened to each patient, by a column of 0 and 1.

    Parameters
    ----------
    view : TableView
        Rows of the table.
    name, cause : str
        The outcome and its cause.
    flag : str
        The column.
    owner : numpy.ndarray
        (row,) int64 patient of each row, -1 = nobody's.
    count : int
        How many patients there are.

    Returns
    -------
    numpy.ndarray
        (patient,) int64: 1 happened, 0 censored, -1 not given.

    Raises
    ------
    InputError
        When a cell is neither 0 nor 1, or a patient has both.
    """
    value = pl.Series(event_flags(view, name, cause, flag))
    value = value.set(value < 0, None)
    rows = one_each(view, flag, value, owner, count, hint=ROWS_THAT_CHANGE)
    return take(value.fill_null(-1).to_numpy(), rows, -1)


def event_flags(view: TableView, name: str, cause: str, flag: str) -> np.ndarray:
    """Whether a cause happened in each row, by a column of 0 and 1.

    Parameters
    ----------
    view : TableView
        Rows of the table.
    name, cause : str
        The outcome and its cause.
    flag : str
        The column.

    Returns
    -------
    numpy.ndarray
        (row,) int64: 1 happened, 0 censored, -1 not given.

    Raises
    ------
    InputError
        When a cell is neither 0 nor 1.
    """
    cells = view.symbols(flag).str.to_lowercase()
    if (unknown := cells.is_not_null() & ~cells.is_in(list(_YES_NO))).any():
        row = unknown.arg_true()[0]
        raise InputError(
            f"{view.table}: outcome {name!r}, cause {cause!r}, line {view.line(row)}: flag {cells[row]!r} is "
            "not 0 or 1; give the words a meaning with status = { states = {...} }"
        )
    value = cells.replace_strict(list(_YES_NO), list(_YES_NO.values()), default=None, return_dtype=pl.Int64)
    return value.fill_null(-1).to_numpy()


def read_classes(
    view: TableView, name: str, outcome: DiagnosisSpec, owner: np.ndarray, count: int
) -> np.ndarray:
    """The class of each patient.

    Parameters
    ----------
    view : TableView
        Rows of the table.
    name : str
        The outcome.
    outcome : DiagnosisSpec
        Its spec, with `column`.
    owner : numpy.ndarray
        (row,) int64 patient of each row, -1 = nobody's.
    count : int
        How many patients there are.

    Returns
    -------
    numpy.ndarray
        (patient,) int16 position among the classes, -1 = not looked for.

    Raises
    ------
    InputError
        When a cell is neither 0 nor 1 and the spec gives words no meaning, or a patient has two classes.
    """
    assert outcome.column is not None
    if outcome.classes:
        meaning = {cell: outcome.class_names.index(word) for cell, word in outcome.classes.items()}
        cells = _as_named(view.text(outcome.column, meaning), meaning)
        _flag_unnamed_cells(view, name, outcome, cells.filter(owner >= 0))
    else:
        meaning, cells = _YES_NO, view.symbols(outcome.column).str.to_lowercase()
        if (unknown := cells.is_not_null() & ~cells.is_in(list(meaning))).any():
            row = unknown.arg_true()[0]
            raise InputError(
                f"{view.table}: outcome {name!r}, line {view.line(row)}: {cells[row]!r} is not 0 or 1; give "
                "the words a meaning with classes = { ... }; cells that it does not name are not looked for"
            )
    label = cells.replace_strict(list(meaning), list(meaning.values()), default=None, return_dtype=pl.Int16)
    return take(label.fill_null(-1).to_numpy(), one_each(view, outcome.column, label, owner, count), -1)


def _flag_unnamed_cells(view: TableView, name: str, outcome: DiagnosisSpec, cells: pl.Series) -> None:
    """Flag cells that the spec gives no meaning, with the word that each is nearest to.

    Of an order no cell should be left out; a word of classes may be spelled otherwise.
    """
    words = {word.strip().casefold(): word for word in outcome.classes}
    other = cells.filter(~cells.is_in([*outcome.classes, *MISSING]).fill_null(True)).value_counts()
    if not len(other):
        return
    count, key = dict[str | None, int](), "ordered" if outcome.ordered else "classes"
    for cell, n in other.iter_rows():
        alike = difflib.get_close_matches(cell[:200].strip().casefold(), words, n=1, cutoff=_ALIKE)
        nearest = words[alike[0]] if alike else None
        count[nearest] = count.get(nearest, 0) + n
    few = count.pop(None, 0)
    said = [f"{n} nearest to {word!r}" for word, n in sorted(count.items(), key=lambda one: -one[1])]
    what = ", ".join(said + [f"{few} like none"] * bool(few))
    view.source.flag(
        f"{view.table}: outcome {name!r}: {sum(count.values()) + few} cell(s) are no word of {key}, so not "
        f"looked for: {what}; a word spelled otherwise, or a class left out?",
        decides=bool(outcome.ordered or count),
    )


def _as_named(cells: pl.Series, words: Collection[str]) -> pl.Series:
    """Cells as the spec names them; a whole number that it does not name goes without its .0."""
    named = cells.is_in(list(words)).fill_null(False)
    return cells.zip_with(named, cells.str.replace(r"^(-?\d+)\.0+$", "$1"))


def flag_unmatched_patterns(
    source: SourceTables,
    place: str,
    patterns: Collection[str],
    known: Collection[str],
    of: str,
    *,
    show: bool = True,
) -> None:
    """Flag patterns none of which fits anything that there is: then nobody can have it.

    Parameters
    ----------
    source : SourceTables
        For the flag.
    place : str
        Where the spec has the patterns.
    patterns : collection of str
        Codes or cells, in which * stands for any characters.
    known : collection of str
        What there is.
    of : str
        Where that is.
    show : bool, default True
        Where no pattern is near to anything, show some of what is there.
    """
    if any(fitting(known, patterns)):
        return
    sought = [pattern.replace("*", "") for pattern in tuple(patterns)[:20]]
    examples = sorted(set(known))[:100_000]
    alike = dict.fromkeys(c for word in sought for c in difflib.get_close_matches(word, examples, n=2))
    hint = f"; did you mean {' or '.join(map(repr, list(alike)[:3]))}?" if alike else ""
    if not alike and show:
        hint = f"; there are {', '.join(map(repr, examples[:5])) or 'none'}"
    named = ", ".join(map(repr, tuple(patterns)[:3])) + ", ..." * (len(patterns) > 3)
    source.flag(f"{place}: {named} fits nothing {of}, so nobody has it{hint}", decides=True)


def flag_unmatched_cells(source: SourceTables, place: str, spec: CauseSpec, table: str | None) -> None:
    """Flag patterns of `where` that fit no cell of their column in any table that has it.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    place : str
        Where the spec has the patterns.
    spec : CauseSpec
        The cause, with `where`.
    table : str or None
        The table of the outcome.
    """
    files = source.event_tables(spec.table or table)
    for file in files:
        source.open(file)
    for column, patterns in spec.where.items():
        having = [f for f in files if column in source.schemas[f]]
        cells = [pl.col(column).cast(pl.String).alias("cell").unique()]
        if any(
            source.rows(f, [column])
            .select(fits({column: patterns}, [column] * source.schemas[f][column].is_float()).any())
            .collect(engine="streaming")
            .item()
            for f in having
        ):
            continue
        known = {c for f in having for c in source.rows(f, [column]).select(cells).collect()["cell"]} - {None}
        flag_unmatched_patterns(source, place, patterns, known, f"in column {column!r}", show=False)
