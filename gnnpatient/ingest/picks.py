"""Moments that a spec writes down: a duration, the first or last event of a format, or row of a table."""

from __future__ import annotations

import numpy as np
import polars as pl

from gnnpatient.ingest.source import SourceTables, TableView
from gnnpatient.readers.tables import fits
from gnnpatient.spec.tables import PickSpec
from gnnpatient.times import FOREVER, NEVER

DURATION = r"-?\d+(\.\d+)?\s*(s|min|h|d|w|mo|y)"
"""How a spec writes a duration, as a regular expression."""


def picked_time(
    source: SourceTables,
    pick: PickSpec,
    patients: np.ndarray,
    *,
    end: bool = False,
    seen: bool = False,
    since: np.ndarray | None = None,
) -> np.ndarray:
    """The first or last event of a standard format that fits.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    pick : PickSpec
        Which codes fit, and whether the first or the last event counts.
    patients : numpy.ndarray
        (patient,) str: the ids.
    end : bool, default False
        A bare date counts from its last second instead of its first.
    seen : bool, default False
        Take the time at which the event became known.
    since : numpy.ndarray, optional
        (patient,) int64 seconds since 1970 before which none of a patient's events counts.

    Returns
    -------
    numpy.ndarray
        (patient,) int64 seconds since 1970, NEVER = no event fits.
    """
    assert source.standard is not None
    first = pick.pick == "first"
    parts = []
    for table in source.event_tables(None):
        source.open(table)
        schema = source.schemas[table]
        lazy = source.tables[table].lazy()
        lazy = lazy.filter(pl.col("refused").is_null()) if "refused" in schema else lazy
        at = source.moments(table, end=end).dt.epoch("s")
        if seen and "known" in schema:  # given where it is later; a bare date is known at its end
            late = source.moments(table, "known", end=True).dt.epoch("s")
            at = pl.max_horizontal(at, pl.when(pl.col("known") > pl.col("time")).then(late))
        lazy = lazy.filter(pl.col("time").is_not_null() & fits({"code": pick.code}))
        if since is not None:
            start = pl.DataFrame({"id": patients, "since": since}, schema_overrides={"id": pl.String})
            lazy = lazy.join(start.lazy(), on="id").filter(at >= pl.col("since"))
        best = at.min() if first else at.max()
        parts.append(lazy.group_by("id").agg(best.alias("at")).collect(engine="streaming"))
    found = pl.concat(parts, how="vertical_relaxed").group_by("id")
    one = found.agg(pl.col("at").min() if first else pl.col("at").max())
    wanted = pl.DataFrame({"id": patients}, schema={"id": pl.String})
    return wanted.join(one, on="id", how="left", maintain_order="left")["at"].fill_null(NEVER).to_numpy()


def picked_rows(source: SourceTables, pick: PickSpec) -> tuple[TableView, str]:
    """The rows of a table among which a pick chooses.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    pick : PickSpec
        With a table and a column, or with a node type that has a table, a column of times and one of codes.

    Returns
    -------
    view : TableView
        The rows that fit.
    column : str
        The column with their time.

    Raises
    ------
    InputError
        When the table has no such column.
    """
    if pick.table is not None and pick.column is not None:
        return source.view(pick.table, [pick.column], pick.where), pick.column
    node = source.spec.nodes[pick.node or ""]
    assert node.table is not None and node.time is not None and node.code is not None
    view = source.view(node.table, [node.time, node.code], node.where)
    floats = [node.code] if view.frame.schema[node.code].is_float() else []
    fit = view.frame.select(fits({node.code: pick.code}, floats).alias("fit"))["fit"]
    return view.filter(fit), node.time


def first_or_last(at: np.ndarray, owner: np.ndarray, patients: int, *, last: bool) -> np.ndarray:
    """The first or last time of each patient.

    Parameters
    ----------
    at : numpy.ndarray
        (row,) int64 seconds.
    owner : numpy.ndarray
        (row,) int64 patient of each row.
    patients : int
        How many patients there are.
    last : bool
        Take the last instead of the first.

    Returns
    -------
    numpy.ndarray
        (patient,) int64 seconds, NEVER = the patient has no row.

    Examples
    --------
    >>> first_or_last(np.array([5, 3, 4]), np.array([0, 0, 1]), 2, last=False)
    array([3, 4])
    """
    found = np.full(patients, NEVER if last else FOREVER)
    (np.maximum if last else np.minimum).at(found, owner, at)
    return np.where(found == FOREVER, NEVER, found)
