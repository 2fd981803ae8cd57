"""Columns of the rows of a table as one value a patient."""

from __future__ import annotations

import numpy as np
import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.ingest.cells import text
from gnnpatient.ingest.source import TableView


def one_each(
    view: TableView, name: str, values: pl.Series, owner: np.ndarray, patients: int, *, hint: str = ""
) -> np.ndarray:
    """The row that holds each patient's value of a column that is constant in a patient.

    Parameters
    ----------
    view : TableView
        Rows of the table, for the message.
    name : str
        The column.
    values : polars.Series
        (row,) values; null = missing.
    owner : numpy.ndarray
        The patient of each row, -1 = nobody's.
    patients : int
        How many patients there are.
    hint : str, default ""
        What to do where a patient has two values, for the message.

    Returns
    -------
    numpy.ndarray
        (patient,) int64 row of the view that comes first, -1 = the patient has no value.

    Raises
    ------
    InputError
        When a patient has two different values.
    """
    rows = np.flatnonzero(values.is_not_null().to_numpy() & (owner >= 0))
    first = np.full(patients, -1)
    first[owner[rows][::-1]] = rows[::-1]
    cells = values.to_numpy()
    differ = cells[rows] != cells[first[owner[rows]]]
    if differ.any():
        row, people = rows[differ][0], len(np.unique(owner[rows[differ]]))
        lines = f"{view.line(first[owner[row]])} and {view.line(row)}"
        raise InputError(
            f"{view.table}: column {name!r} differs between lines {lines}, in {people} patient(s); "
            f"statics and outcomes come from columns that are constant in a patient{'; ' * bool(hint)}{hint}"
        )
    return first


def take(values: np.ndarray, rows: np.ndarray, missing: object) -> np.ndarray:
    """Values at some rows.

    Parameters
    ----------
    values : numpy.ndarray
        (row,) values.
    rows : numpy.ndarray
        Positions in `values`, -1 = none.
    missing : object
        The value where there is no row.

    Returns
    -------
    numpy.ndarray
        One value for each of `rows`.

    Examples
    --------
    >>> take(np.array([1.5, 2.5]), np.array([1, -1, 0]), np.nan)
    array([2.5, nan, 1.5])
    """
    out = np.asarray(values)[rows] if len(values) else np.full(len(rows), missing)
    out[rows < 0] = missing
    return out


def levels(cells: pl.Series) -> tuple[tuple[str, ...], np.ndarray]:
    """The distinct words of a column, and which of them each row holds.

    Parameters
    ----------
    cells : polars.Series
        (row,) words; null = missing.

    Returns
    -------
    tuple of str
        The words in alphabetical order.
    numpy.ndarray
        (row,) int32 position among them, -1 = missing.

    Examples
    --------
    >>> levels(pl.Series(["b", "a", None, "b"]))
    (('a', 'b'), array([ 1,  0, -1,  1], dtype=int32))
    """
    level = text(cells)
    names = tuple(level.drop_nulls().unique().sort())
    return names, level.cast(pl.Enum(names)).to_physical().cast(pl.Int32).fill_null(-1).to_numpy()
