"""What became of every row of a table: used, collapsed or refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(eq=False)
class RowAudit:
    """What became of each row of one table.

    Attributes
    ----------
    start : int
        Number of the first row; the rows of all tables are numbered one after the other.
    used : numpy.ndarray
        Whether something was read from the row: (row,) bool.
    collapsed : numpy.ndarray
        Whether the row repeats one that is used: (row,) bool.
    reason : numpy.ndarray
        Why a row that is neither used nor collapsed was refused, as a position in `reasons`: (row,) int8.
    reasons : list of str
        Reasons in the order in which they came up; position 0 is that nothing in the spec reads the row.
    """

    start: int
    used: np.ndarray  # (row,) bool
    collapsed: np.ndarray  # (row,) bool
    reason: np.ndarray  # (row,) int8
    reasons: list[str]

    @classmethod
    def of(cls, rows: int, start: int = 0) -> RowAudit:
        """An audit in which nothing has been read yet.

        Parameters
        ----------
        rows : int
            Rows of the table.
        start : int, default 0
            Number of its first row.

        Returns
        -------
        RowAudit

        Examples
        --------
        >>> RowAudit.of(3).summary()["refused"]
        {'nothing in it that the spec asks for': 3}
        """
        unread = ["nothing in it that the spec asks for"]
        return cls(start, np.zeros(rows, bool), np.zeros(rows, bool), np.zeros(rows, np.int8), unread)

    def refuse(self, where: np.ndarray, reason: str) -> None:
        """Note a reason; the first one that a row gets stays.

        Parameters
        ----------
        where : numpy.ndarray
            Positions of rows in the table.
        reason : str
            Why they are left out, for people.
        """
        rows = where[self.reason[where] == 0]
        if len(rows):
            self.reasons += [reason] * (reason not in self.reasons)
            self.reason[rows] = self.reasons.index(reason)

    def reasons_of(self, rows: np.ndarray) -> np.ndarray:
        """The reason of each of some rows.

        Parameters
        ----------
        rows : numpy.ndarray
            Positions of rows in the table.

        Returns
        -------
        numpy.ndarray
            (row,) str objects.
        """
        return np.array(self.reasons, dtype=object)[self.reason[rows]]

    def use_first_rows(self, row: np.ndarray, patient: np.ndarray) -> None:
        """Mark the first row of each patient as used and further ones, with the same content, as collapsed.

        Parameters
        ----------
        row : numpy.ndarray
            Positions of rows in the table.
        patient : numpy.ndarray
            The patient of each, -1 = nobody's.
        """
        patients, first = np.unique(patient, return_index=True)
        self.used[row[first[patients >= 0]]] = True
        self.collapsed[row[patient >= 0]] = True

    @property
    def refused(self) -> np.ndarray:
        """Positions of the rows that are neither used nor an exact repeat."""
        return np.flatnonzero(~(self.used | self.collapsed))

    def summary(self) -> dict[str, Any]:
        """Counts for `check`.

        Returns
        -------
        dict
            `rows` = `used` + `collapsed` + the sum of `refused`, which counts by reason.
        """
        collapsed, refused = self.collapsed & ~self.used, self.refused
        count = np.bincount(self.reason[refused], minlength=len(self.reasons)).tolist()
        return {
            "rows": len(self.used),
            "used": int(self.used.sum()),
            "collapsed": int(collapsed.sum()),
            "refused": {reason: n for reason, n in zip(self.reasons, count, strict=True) if n},
        }


def quoted(cell: object) -> str:
    """A cell for a message, in quotes and cut after 40 characters.

    Parameters
    ----------
    cell : object
        A value of a table; None or an empty string is an empty cell.

    Returns
    -------
    str

    Examples
    --------
    >>> quoted("n/a"), quoted(None)
    ("'n/a'", 'an empty cell')
    """
    word = str(cell)
    if cell is None or not word:
        return "an empty cell"
    return repr(word if len(word) < 41 else f"{word[:40]}...")
