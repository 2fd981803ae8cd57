"""Packed columns: a kind's rows back to back, sorted by (patient, known), so that the past is a prefix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cached_property

import numpy as np

from gnnpatient.cohort.arrays import StoredColumns

_MAX_BISECTED = (
    32  # asks up to which bisecting each patient's own segment beats one search over the whole column
)


@dataclass(frozen=True, eq=False)
class Events:
    """All nodes of one kind. Rows of patient p are ptr[p]:ptr[p + 1], in the order they became known."""

    ptr: np.ndarray  # (patient + 1,) int64
    known: np.ndarray  # (row,) int64 seconds after the origin
    happened: np.ndarray  # (row,) int64 seconds, <= known
    code: np.ndarray  # (row,) int32 into Cohort.codes[kind]; 0 = other
    value: np.ndarray  # (row,) float32, nan = missing
    timepoint: np.ndarray  # (row,) int32, position among the patient's timepoints
    until: np.ndarray | None = (
        None  # (row,) int64 seconds: when it ended, FOREVER = not yet; hidden until then
    )
    replaced: np.ndarray | None = None  # (row,) int64 seconds: from when on an amendment stands in its place
    # (row,) int32: row of Cohort.vectors[kind], what a picture or a text says; a measurement has that of its
    # picture, in the vectors of the kind that it measures
    vector: np.ndarray | None = None
    study: np.ndarray | None = None  # (row,) int64: what rows of several kinds share, -1 = none
    bound: np.ndarray | None = None  # (row,) int8: -1 the truth lies below the value, 1 above, 0 it is that

    def __len__(self) -> int:
        return len(self.known)

    @cached_property
    def patient(self) -> np.ndarray:
        """The patient of each row: (row,) int64."""
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
        """One past the last row known at or before `at`, for each ask: (ask,) int64."""
        if len(patient) <= _MAX_BISECTED:
            segments = zip(self.ptr[patient], self.ptr[patient + 1], at, strict=True)
            ends = [s + np.searchsorted(self.known[s:e], t, "right") for s, e, t in segments]
            return np.array(ends, dtype=np.int64)
        if not len(self):
            return np.zeros(len(patient), np.int64)
        key, span, low = self._search
        return np.searchsorted(key, patient * span + np.clip(at - low, -1, span - 2), "right")

    def visible_rows(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What each ask sees: (ask + 1,) segment offsets, (node,) ask, (node,) row. A row that an amendment
        has replaced by then is left out; later rows are never read.
        """
        start = self.ptr[patient]
        count = self.visible_end(patient, at) - start
        ptr = np.concatenate([[0], count.cumsum()])
        owner = np.repeat(np.arange(len(patient)), count)
        row = np.arange(ptr[-1]) + (start - ptr[:-1])[owner]
        if self.replaced is not None:
            stands = self.replaced[row] > at[owner]
            owner, row = owner[stands], row[stands]
            ptr = np.concatenate([[0], np.bincount(owner, minlength=len(patient)).cumsum()])
        return ptr, owner, row

    def columns(self) -> dict[str, np.ndarray]:
        """Its arrays by name; until and replaced only where it has them."""
        every = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: column for name, column in every.items() if column is not None}

    @classmethod
    def from_columns(cls, columns: StoredColumns, patients: int, rows: int) -> Events:
        """The columns of one kind that a cohort's folder has, memory-mapped."""
        required = {f.name for f in fields(cls) if f.default is MISSING}
        names = [f.name for f in fields(cls)[1:] if f.name in required or f.name in columns]
        ptr = columns.read("ptr", patients + 1)
        return cls(ptr, **{name: columns.read(name, rows) for name in names})

    def empty(self) -> Events:
        """The same patients without a single row."""
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
    """Stable order by the columns, the first one leading: (row,) int64."""
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
    """The kinds with their timepoint column, and the kind "timepoint" itself.

    A timepoint is floor(happened / every), known from the first of its children on: a parent never comes
    after its child, so every prefix is a closed graph.
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
