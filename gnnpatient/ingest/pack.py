"""Tidy rows to packed columns: sorted, exact repeats collapsed once."""

from __future__ import annotations

import numpy as np

from gnnpatient.cohort.packed import Events, sort
from gnnpatient.ingest.rows import Rows


def pack(rows: Rows, patients: int) -> tuple[Events, np.ndarray, np.ndarray]:
    """Rows sorted by (patient, known, happened, code, value bits, object), exact repeats collapsed once.

    Ties are broken by content, so that the order of the table does not show. What a row says of the time
    after it (until, replaced) does not tell it from its repeats, since that may not show before; of repeats
    the longest counts.

    Parameters
    ----------
    rows : Rows
        The rows of one node type.
    patients : int
        How many patients there are.

    Returns
    -------
    events : Events
        Without their timepoints.
    used, collapsed : numpy.ndarray
        Numbers of the source rows that are used, and that repeat one of those.
    """
    value = np.where(np.isnan(rows.value), np.float32(np.nan), rows.value) + np.float32(0)  # one nan, one 0
    bits = value.view(np.int32)
    columns = [rows.patient, rows.known, rows.happened - rows.known, rows.code, bits]
    columns += [column for column in (rows.bound, rows.vector, rows.study, rows.track) if column is not None]
    order = sort(*columns)
    repeat = np.zeros(len(order), bool)
    repeat[1:] = np.logical_and.reduce([np.diff(column[order]) == 0 for column in columns])
    keep = order[~repeat]
    ptr = np.concatenate([[0], np.bincount(rows.patient[keep], minlength=patients).cumsum()]).astype(np.int64)
    begin = np.flatnonzero(~repeat)

    def longest(column: np.ndarray | None) -> np.ndarray | None:
        if column is None:
            return None
        return np.maximum.reduceat(column[order], begin) if len(begin) else column[:0]

    events = Events(
        ptr,
        rows.known[keep],
        rows.happened[keep],
        rows.code[keep],
        value[keep],
        np.zeros(len(keep), np.int32),
        longest(rows.until),
        longest(rows.replaced),
        None if rows.vector is None else rows.vector[keep],
        None if rows.study is None else rows.study[keep],
        None if rows.bound is None else rows.bound[keep],
        None if rows.track is None else _numbered(rows.patient[keep], rows.track[keep]),
    )
    return events, rows.source[keep], rows.source[order[repeat]]


def _numbered(patient: np.ndarray, track: np.ndarray) -> np.ndarray:
    """Objects by their number within the patient, in the order of their first rows: (row,) int32, -1 = none.

    No later row changes the number of an earlier one, and no id can be told from it.
    """
    order = sort(patient, track)  # ties stay, so the first row of an object comes first
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(patient[order]) != 0) | (np.diff(track[order]) != 0)
    begins = np.zeros(len(order), bool)
    begins[order[first]] = True
    begins &= track >= 0
    nth = begins.cumsum()  # of the object that begins here, over all patients
    before = np.concatenate([[0], nth])[np.searchsorted(patient, patient)]
    number = np.empty(len(order), np.int64)
    number[order] = (nth - before - 1)[order[first]][first.cumsum() - 1]
    return np.where(track < 0, -1, number).astype(np.int32)
