"""The rows of one node type as tidy columns, not yet sorted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gnnpatient.spec.patterns import fitting
from gnnpatient.times import FOREVER

_ROW_COLUMNS = (  # those with one entry a row
    *("patient", "known", "happened", "code", "value", "source", "until", "replaced"),
    *("vector", "study", "narrow", "begun", "bound", "track"),
)


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one node type. Times are int64 seconds after the patient's origin.

    Attributes
    ----------
    patient : numpy.ndarray
        Position in the patient table.
    known : numpy.ndarray
        When the row became known.
    happened : numpy.ndarray
        When it happened, at or before `known`; of a bare date the last second.
    code : numpy.ndarray
        What it is, as a position in `codes`.
    value : numpy.ndarray
        How much, in the unit of its code; nan = missing.
    source : numpy.ndarray
        Number of the row that it came from, over all tables.
    codes : tuple of str
        The codes of this node type; position 0 is "other".
    units : tuple of str
        The unit of each code, "" = none.
    until : numpy.ndarray or None
        When it ended; FOREVER = not known. None = no row has an end.
    vector : numpy.ndarray or None
        Row of `matrix`; of a measurement the vector of its image.
    study : numpy.ndarray or None
        What rows of several node types share, -1 = none.
    matrix : numpy.ndarray or None
        Embeddings of images or texts.
    replaced : numpy.ndarray or None
        When an amendment took its place; FOREVER = never. None = no row is amended.
    narrow : numpy.ndarray or None
        The code before `level` rolled it up, as a position in `narrow_codes`.
    narrow_codes : tuple of str
        The codes before `level` rolled them up.
    begun : numpy.ndarray or None
        Of a bare date its first second, else `happened`. None = no row is on a bare date.
    bound : numpy.ndarray or None
        -1 the truth lies below the value, 1 above, 0 it is the value. None = no value is a bound.
    track : numpy.ndarray or None
        Which object it is of, as the place of its id among all ids; -1 = of none.
    """

    patient: np.ndarray  # (row,) int64
    known: np.ndarray  # (row,) int64 seconds
    happened: np.ndarray  # (row,) int64 seconds
    code: np.ndarray  # (row,) int32
    value: np.ndarray  # (row,) float32
    source: np.ndarray  # (row,) int64
    codes: tuple[str, ...]
    units: tuple[str, ...]
    until: np.ndarray | None = None  # (row,) int64 seconds
    vector: np.ndarray | None = None  # (row,) int32
    study: np.ndarray | None = None  # (row,) int64
    matrix: np.ndarray | None = None  # (vector, channel) float32
    replaced: np.ndarray | None = None  # (row,) int64 seconds
    narrow: np.ndarray | None = None  # (row,) int32
    narrow_codes: tuple[str, ...] = ()
    begun: np.ndarray | None = None  # (row,) int64 seconds
    bound: np.ndarray | None = None  # (row,) int8
    track: np.ndarray | None = None  # (row,) int32

    def fitting(self, patterns: Iterable[str]) -> np.ndarray:
        """Which rows have a code that fits one of some patterns, as it is or as it was before `level`.

        Parameters
        ----------
        patterns : iterable of str
            Codes, in which * stands for any characters.

        Returns
        -------
        numpy.ndarray
            (row,) bool.
        """
        patterns = tuple(patterns)
        fit = np.array(fitting(self.codes, patterns), bool)[self.code]
        if self.narrow is None:
            return fit
        return fit | np.array(fitting(self.narrow_codes, patterns), bool)[self.narrow]

    @property
    def not_amended(self) -> np.ndarray:
        """Which rows no amendment ever replaces: (row,) bool. Outcomes are read from these."""
        return np.ones(len(self.known), bool) if self.replaced is None else self.replaced == FOREVER

    def only(self, keep: np.ndarray) -> Rows:
        """Some of the rows; the codes stay.

        Parameters
        ----------
        keep : numpy.ndarray
            (row,) bool, or positions of rows.

        Returns
        -------
        Rows
        """
        columns: dict[str, Any] = {name: getattr(self, name) for name in _ROW_COLUMNS}
        return replace(self, **{name: c[keep] for name, c in columns.items() if c is not None})
