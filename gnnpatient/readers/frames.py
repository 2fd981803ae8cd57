"""Tables held in memory: pandas or polars frames, by the names that the spec has for its files."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from gnnpatient.errors import InputError, near


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames by the names of tables.

    Attributes
    ----------
    frames : mapping of str to frame
        pandas DataFrame, polars DataFrame or polars LazyFrame. They are never changed.
    may_be_empty : bool, default False
        Whether a frame may have no rows.
    """

    frames: Mapping[str, Any]
    may_be_empty: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no frame before anything is read."""
        if not self.frames:
            raise InputError("tables: an empty mapping; give frames by name, as in {'labs.csv': frame}")
        for name, frame in self.frames.items():
            if not isinstance(name, str):
                raise InputError(f"tables: {name!r} is no name of a table; names are text, as in 'labs.csv'")
            if not is_frame(frame):
                raise InputError(f"{name}: {_what(frame)}; give a pandas or polars DataFrame")

    def __str__(self) -> str:
        return "the frames"

    def table(self, name: str) -> pl.DataFrame:
        """One frame, of polars. The columns keep their types, and share their memory where they can.

        A level of a pandas index that has a name is a column, too; an index of row numbers without a name is
        left out. A LazyFrame is collected. A column of Python objects of several types has the type Object.

        Parameters
        ----------
        name : str
            Name of the table, as in the spec.

        Returns
        -------
        polars.DataFrame
            In the order of the rows of the frame.

        Raises
        ------
        InputError
            When there is no frame of that name, it has no rows, two of its columns have one name, a name is
            not text, or its index holds something and has no name.
        """
        if name not in self.frames:
            raise InputError(f"{name}: no such frame{near(name, self.frames)}")
        frame = self.frames[name]
        if isinstance(frame, pl.LazyFrame):
            try:
                frame = frame.collect()
            except pl.exceptions.PolarsError as error:
                raise InputError(f"{name}: frame cannot be collected: {str(error).splitlines()[0]}") from None
        elif not isinstance(frame, pl.DataFrame):
            frame = _from_pandas(frame, name)
        if not frame.height and not self.may_be_empty:
            raise InputError(f"{name}: frame has no rows")
        return frame


def tables_of(tables: Any, example: str | None = None, *, may_be_empty: bool = False) -> Path | Frames:
    """Where the tables of a cohort are: a folder, or frames in memory.

    Parameters
    ----------
    tables : str, Path or mapping
        The folder, or frames by name.
    example : str, optional
        Name of a table, for the message.
    may_be_empty : bool, default False
        Whether a frame may have no rows.

    Returns
    -------
    Path or Frames

    Raises
    ------
    InputError
        When it is neither.
    """
    if isinstance(tables, str | Path):
        return Path(tables)
    if isinstance(tables, Frames):
        return tables
    if isinstance(tables, Mapping):
        return Frames(tables, may_be_empty)
    hint = f"as in {{{example or 'labs.csv'!r}: frame}}"
    if is_frame(tables):
        raise InputError(f"tables: a frame without a name; give a mapping of names to frames, {hint}")
    raise InputError(f"tables: {_what(tables)}; give a folder, or a mapping of names to frames, {hint}")


def is_frame(found: Any) -> bool:
    """Whether something is a table of pandas or polars. pandas is not imported for that.

    Parameters
    ----------
    found : object
        Anything.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_frame(pl.DataFrame()), is_frame([1, 2])
    (True, False)
    """
    pandas = sys.modules.get("pandas")
    return isinstance(found, pl.DataFrame | pl.LazyFrame) or (
        pandas is not None and isinstance(found, pandas.DataFrame)
    )


def _what(found: Any) -> str:
    """What was given instead of a frame: its type alone, since it may hold patients."""
    name = type(found).__name__
    if name == "Series":
        return "a Series is one column"
    if isinstance(found, str | Path):
        return f"{str(found)!r} is a path; a mapping holds frames (files are read from a folder)"
    return f"{name} is no frame"


def _from_pandas(frame: Any, name: str) -> pl.DataFrame:
    """The columns of a pandas frame, and the levels of its index that have a name."""
    columns = {label: frame.iloc[:, i] for i, label in enumerate(frame.columns)}
    for label in frame.columns:
        if not isinstance(label, str):
            raise InputError(
                f"{name}: frame has a column called {label!r}, which is not text; "
                "rename it, as in frame.columns.astype(str)"
            )
    if repeated := [label for label, n in Counter(frame.columns).items() if n > 1]:
        raise InputError(f"{name}: column {repeated[0]!r} appears twice in the frame")
    for i, label in enumerate(frame.index.names):
        level = frame.index.get_level_values(i)
        if label is None and level.dtype.kind in "iu" and frame.index.nlevels == 1:
            continue  # numbers of rows, whichever were kept
        if label is None:
            raise InputError(
                f"{name}: frame has an index of {level.dtype} without a name; name it "
                "(frame.rename_axis('NAME')) and it is a column, or drop it (frame.reset_index(drop=True))"
            )
        if not isinstance(label, str) or label in columns:
            raise InputError(
                f"{name}: frame has an index called {label!r}, "
                f"{'as a column is, too' if label in columns else 'which is not text'}; "
                "rename it, or drop it (frame.reset_index(drop=True))"
            )
        columns[label] = level.to_series()
    return pl.DataFrame([_polars_column(label, cells) for label, cells in columns.items()])


def _polars_column(name: str, cells: Any) -> pl.Series:
    """A column of pandas; nan, NaT and NA are null. What polars has no plain type for gets Object."""
    import pyarrow

    try:
        if cells.dtype.kind != "c" and not hasattr(cells.dtype, "fill_value"):  # complex, sparse
            column = pl.Series(pl.from_pandas(cells.rename(name)))
            if not isinstance(column.dtype, pl.BaseExtension):  # periods, intervals
                return column
    except (pyarrow.ArrowException, pl.exceptions.PolarsError, TypeError, ValueError):
        pass  # refused where the spec asks for it, else nobody's concern
    return pl.Series(name, [None] * len(cells), dtype=pl.Object)
