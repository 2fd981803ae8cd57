"""Packed rows: one node type's rows, sorted by patient and the time they became known.

So the past of a patient is the beginning of the patient's rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cached_property

import numpy as np

from gnnpatient.cohort.arrays import StoredColumns
from gnnpatient.show import Shown, Summary, counted

# Landmarks up to which a bisection each is faster than one search over the whole column.
_MAX_BISECTED = 32


@dataclass(frozen=True, eq=False, repr=False)
class Events(Shown):
    """All rows of one node type. Rows of patient p are ptr[p]:ptr[p + 1], in the order they became known.

    Attributes
    ----------
    ptr : ndarray
        First row of each patient, and one past the last row.
    known : ndarray
        Second after the origin at which the row became known.
    happened : ndarray
        Second after the origin that the row is about; not after `known`.
    code : ndarray
        Position in `Cohort.codes[kind]`, 0 = other.
    value : ndarray
        Value in the unit of the code, nan = missing.
    timepoint : ndarray
        Position among the patient's timepoints.
    until : ndarray, optional
        Second at which an interval ended, FOREVER = not yet; not visible before.
    replaced : ndarray, optional
        Second from which an amendment replaces the row, FOREVER = never.
    vector : ndarray, optional
        Row of `Cohort.vectors[kind]`, the embedding of an image or a text; a measurement has that of its
        image, in the vectors of the node type that it measures.
    study : ndarray, optional
        Number that rows of several node types share, -1 = none.
    bound : ndarray, optional
        -1 = the true value is below `value`, 1 = above, 0 = it is `value`.
    track : ndarray, optional
        Number of the object (a lesion, an implant) that the row is of, in the order in which the patient's
        objects of this node type became known; -1 = of none.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> stage = pbc().events["stage"]
    >>> stage.ptr[:3], stage.known[:2] // 86_400                   # the first patient has two rows; days
    (array([0, 2, 3]), array([  0, 192]))
    """

    ptr: np.ndarray  # (patient + 1,) int64
    known: np.ndarray  # (row,) int64 seconds
    happened: np.ndarray  # (row,) int64 seconds
    code: np.ndarray  # (row,) int32
    value: np.ndarray  # (row,) float32
    timepoint: np.ndarray  # (row,) int32
    until: np.ndarray | None = None  # (row,) int64 seconds
    replaced: np.ndarray | None = None  # (row,) int64 seconds
    vector: np.ndarray | None = None  # (row,) int32
    study: np.ndarray | None = None  # (row,) int64
    bound: np.ndarray | None = None  # (row,) int8
    track: np.ndarray | None = None  # (row,) int32

    def _summary(self) -> Summary:
        return Summary(f"Events: {len(self)} rows of {counted(len(self.ptr) - 1, 'patient')}")

    def __len__(self) -> int:
        return len(self.known)

    @cached_property
    def patient(self) -> np.ndarray:
        """Position of each row's patient, (row,) int64."""
        return np.repeat(np.arange(len(self.ptr) - 1), np.diff(self.ptr))

    @cached_property
    def _search(self) -> tuple[np.ndarray, int, int]:
        """A key that rises over the whole column, (patient, known) in one integer, with its span and low end.

        Times lie within 150 years of the origin, so the key fits 63 bits up to 400 million patients.
        """
        low = int(self.known.min())
        span = int(self.known.max()) - low + 2
        assert (len(self.ptr) - 1) * span < 2**63
        return self.patient * span + (self.known - low), span, low

    def visible_end(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Give the row after the last one that is known at each landmark.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            Row, (landmark,) int64; the visible rows are ptr[patient] up to it.
        """
        if len(patient) <= _MAX_BISECTED:
            segments = zip(self.ptr[patient], self.ptr[patient + 1], at, strict=True)
            ends = [s + np.searchsorted(self.known[s:e], t, "right") for s, e, t in segments]
            return np.array(ends, dtype=np.int64)
        if not len(self):
            return np.zeros(len(patient), np.int64)
        key, span, low = self._search
        return np.searchsorted(key, patient * span + np.clip(at - low, -1, span - 2), "right")

    def visible_rows(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give the rows that are visible at each landmark; later rows are never read.

        A row that an amendment has replaced by then is left out.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ptr : ndarray
            First node of each landmark, and one past the last node, (landmark + 1,) int64.
        owner : ndarray
            Landmark of each node, (node,) int64.
        row : ndarray
            Row of each node, (node,) int64.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> X = pbc().at([100, 400], patient="1")
        >>> pbc().events["stage"].visible_rows(X.patient, X.at)
        (array([0, 1, 3]), array([0, 1, 1]), array([0, 0, 1]))
        """
        start = self.ptr[patient]
        count = self.visible_end(patient, at) - start
        ptr = np.concatenate([[0], count.cumsum()])
        owner = np.repeat(np.arange(len(patient)), count)
        row = np.arange(ptr[-1]) + (start - ptr[:-1])[owner]
        if self.replaced is not None:
            valid = self.replaced[row] > at[owner]
            owner, row = owner[valid], row[valid]
            ptr = np.concatenate([[0], np.bincount(owner, minlength=len(patient)).cumsum()])
        return ptr, owner, row

    def columns(self) -> dict[str, np.ndarray]:
        """Give the arrays by name, without those that are None.

        Returns
        -------
        dict
            Name -> array.
        """
        every = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: column for name, column in every.items() if column is not None}

    @classmethod
    def from_columns(cls, columns: StoredColumns, patients: int, rows: int) -> Events:
        """Read what `columns` gave, memory-mapped.

        Parameters
        ----------
        columns : StoredColumns
            The arrays of the node type.
        patients : int
            Number of patients of the cohort.
        rows : int
            Number of rows.

        Returns
        -------
        Events
        """
        required = {f.name for f in fields(cls) if f.default is MISSING}
        names = [f.name for f in fields(cls)[1:] if f.name in required or f.name in columns]
        ptr = columns.read("ptr", patients + 1)
        return cls(ptr, **{name: columns.read(name, rows) for name in names})

    def empty(self) -> Events:
        """Give the same patients without any row.

        Returns
        -------
        Events
        """
        none = {name: column[:0] for name, column in self.columns().items()}
        return Events(**{**none, "ptr": np.zeros_like(self.ptr)})


def _packed_keys(columns: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """As few int64 columns as 63 bits allow that together sort like the given ones."""
    keys: list[np.ndarray] = []
    room = 2**63  # of the last key; more than that starts a new one
    for column in columns:
        low = int(column.min())
        span = int(column.max()) - low + 1
        here = column.astype(np.int64) - low
        if room * span < 2**63:
            keys[-1], room = keys[-1] * span + here, room * span
        else:
            keys, room = [*keys, here], span
    return keys


def sort(*columns: np.ndarray) -> np.ndarray:
    """Give the order of rows by several integer columns.

    Parameters
    ----------
    *columns : ndarray
        (row,) integers; the first column leads.

    Returns
    -------
    ndarray
        Positions of the rows in that order, ties as they were, (row,) int64.

    Examples
    --------
    >>> sort(np.array([1, 0, 0]), np.array([5, 7, 6]))
    array([2, 1, 0])
    """
    if not len(columns[0]):
        return np.zeros(0, np.int64)
    keys = _packed_keys(columns)
    order = np.argsort(keys[0], kind="stable")
    if len(keys) > 1:  # the other keys matter only where the first one ties, which is seldom
        tie = np.flatnonzero(np.diff(keys[0][order]) == 0)
        tied = np.union1d(tie, tie + 1)
        order[tied] = order[tied][np.lexsort([key[order[tied]] for key in keys[::-1]])]
    return order


def with_timepoints(kinds: Mapping[str, Events], every: int, patients: int) -> dict[str, Events]:
    """Assign every row to a timepoint, and make the node type "timepoint".

    A timepoint is floor(happened / every). It is known from the first of its rows on, so that no row is ever
    visible without its timepoint.

    Parameters
    ----------
    kinds : Mapping
        Node type -> rows.
    every : int
        Seconds between timepoints.
    patients : int
        Number of patients of the cohort.

    Returns
    -------
    dict
        Node type -> rows, with "timepoint" as the last.
    """
    events = list(kinds.values())
    patient = np.concatenate([e.patient for e in events] or [np.zeros(0, np.int64)])
    slot = np.concatenate([e.happened // every for e in events] or [np.zeros(0, np.int64)])
    known = np.concatenate([e.known for e in events] or [np.zeros(0, np.int64)])
    order = sort(patient, slot, known)
    patient_, slot_, known_ = patient[order], slot[order], known[order]
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(patient_) != 0) | (np.diff(slot_) != 0)
    group = np.empty(len(order), np.int64)  # which (patient, slot) each row of each kind belongs to
    group[order] = first.cumsum() - 1
    owner, begin, seen = patient_[first], slot_[first] * every, known_[first]
    by_known = sort(owner, seen, begin)
    ptr = np.concatenate([[0], np.bincount(owner, minlength=patients).cumsum()]).astype(np.int64)
    position = np.empty(len(by_known), np.int64)
    position[by_known] = np.arange(len(by_known))
    local = (position - ptr[owner]).astype(np.int32)
    out, start = {}, 0
    for kind, e in kinds.items():
        out[kind] = replace(e, timepoint=local[group[start : start + len(e)]])
        start += len(e)
    count = len(by_known)
    out["timepoint"] = Events(
        ptr,
        seen[by_known],
        begin[by_known],
        np.zeros(count, np.int32),
        np.full(count, np.nan, np.float32),
        (np.arange(count) - ptr[owner[by_known]]).astype(np.int32),
    )
    return out
