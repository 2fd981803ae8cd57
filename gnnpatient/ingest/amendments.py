"""Rows that amend others of the same table: from when on each is replaced."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.ingest.cells import ids
from gnnpatient.ingest.patients import Patients
from gnnpatient.ingest.rows import Rows
from gnnpatient.ingest.source import SourceTables
from gnnpatient.spec.nodes import NodeSpec
from gnnpatient.times import FOREVER


def amendments_of(
    source: SourceTables, table: str, node: NodeSpec, patients: Patients, time: str | None, known: str | None
) -> pl.DataFrame:
    """The rows of a table that have an id or amend another.

    A row that is refused, or that `where` leaves out, is among them: the one it amends is wrong all the same.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    table : str
        The table that the node type is read from.
    node : NodeSpec
        Its spec, with `row` and `amends`.
    patients : Patients
        Whose rows they are.
    time, known : str or None
        The columns that say when a row happened and when it became known.

    Returns
    -------
    polars.DataFrame
        row (its number over all tables), patient, id, amends, since (seconds after the origin from which on
        the amendment is known; null = nothing says when).
    """
    assert node.row is not None and node.amends is not None
    view = source.view(table, [c for c in (time, known, node.row, node.amends) if c])
    view = view.filter(ids(view.column(node.row)).is_not_null() | view.column(node.amends).is_not_null())
    owner = view.patient_index(patients.ids)
    origin, since = patients.day_zero(owner), pl.repeat(None, len(view), dtype=pl.Int64, eager=True)
    for name in (known, time):
        if name is None or (name == time and known is not None and not source.is_event_table(table)):
            continue
        when = view.moment(name, origin)
        at, bad = when.end, when.bad
        if node.untimed == "origin" and name == time:
            at = at.fill_null(0)
        since = since.fill_null(at.set(bad, None))
    if time is None and known is None:
        since = since.fill_null(0)
    frame = pl.DataFrame(
        {
            "row": view.audit.start + view.row,
            "patient": owner,
            "id": ids(view.column(node.row)),
            "amends": ids(view.column(node.amends)),
            "since": since,
        }
    )
    return frame.filter(pl.col("patient") >= 0)


def with_replaced(source: SourceTables, kind: str, rows: Rows, amendments: pl.DataFrame) -> Rows:
    """The rows with the time from which an amendment replaces each: once both are known.

    This holds, too, where the other one cannot be used itself; where its time is not known, the row is
    refused. Of rows that amend each other none counts any more once all are known.

    Parameters
    ----------
    source : SourceTables
        For refused rows and flags.
    kind : str
        The node type.
    rows : Rows
        Its rows.
    amendments : polars.DataFrame
        As of `amendments_of`, of all its tables.

    Returns
    -------
    Rows
        With `replaced`.

    Raises
    ------
    InputError
        When a row amends itself.
    """
    if itself := amendments.filter(pl.col("id") == pl.col("amends")).height:
        raise InputError(f"{kind}: {itself} row(s) amend themselves; amends names the row that is replaced")
    frame = pl.DataFrame({"row": rows.source, "patient": rows.patient, "known": rows.known})
    links = amendments.select("row", "id", "amends")
    frame = frame.join(links, on="row", how="left", maintain_order="left")
    _flag_amendments_of_nothing(source, kind, frame)
    since = _replaced_since(amendments, rows)
    frame = frame.join(since, on=["patient", "id"], how="left", maintain_order="left")
    gone = pl.when(pl.col("since").is_null()).then(FOREVER).otherwise(pl.max_horizontal("known", "since"))
    replaced = frame.select(gone).to_series().to_numpy()
    unknown = frame["unknown"].fill_null(False).to_numpy()
    if masked := int(frame["lost"].fill_null(False).sum()):
        source.flag(f"{kind}: {masked} row(s) are amended by a row that is not used; hidden from then on")
    source.refuse(rows.source[unknown], "amended by a row without a known time")
    frame = frame.join(_rings(amendments), on="row", how="left", maintain_order="left")
    if ring := len(frame) - frame["closed"].null_count():
        source.flag(f"{kind}: {ring} row(s) amend each other; none counts once all are known")
    # one that was known before stays, so that its day is not taken back by what came later
    never = (pl.col("known") >= pl.col("closed")).fill_null(False) & (pl.Series(replaced) <= pl.col("known"))
    refused = frame.select(never).to_series().to_numpy()
    source.refuse(rows.source[refused], "amends a row that amends it")
    return replace(rows, replaced=replaced).only(~(unknown | refused))


def _flag_amendments_of_nothing(source: SourceTables, kind: str, frame: pl.DataFrame) -> None:
    nothing = frame.filter(pl.col("amends").is_not_null()).join(
        frame, left_on=["patient", "amends"], right_on=["patient", "id"], how="anti"
    )
    if len(nothing):
        source.flags.append(
            f"{kind}: {len(nothing)} amendment(s) of a row that the patient does not have; kept"
        )


def _replaced_since(amendments: pl.DataFrame, rows: Rows) -> pl.DataFrame:
    """Since when each (patient, id) is amended; whether by one without a time, or one that is no node."""
    lost = ~pl.col("row").is_in(pl.Series(rows.source).unique().implode())
    since, unknown = pl.col("since").min(), pl.col("since").is_null().any().alias("unknown")
    by_id = amendments.drop_nulls("amends").group_by("patient", pl.col("amends").alias("id"))
    return by_id.agg(since, unknown, lost.any().alias("lost"))


def _rings(amendments: pl.DataFrame) -> pl.DataFrame:
    """The rows that amend each other, in a ring of any length: row, closed (seconds: when all were known)."""
    amendments = amendments.drop_nulls(["id", "amends"])
    ends = amendments.select("patient", pl.col("amends").alias("id"))
    # most amend a row that amends no other
    if not len(ends.join(amendments, on=["patient", "id"], how="semi")):
        return amendments.select("row", pl.col("since").alias("closed")).clear()
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    both = pl.concat([amendments.select("patient", "id"), ends])
    number = both.select(pl.struct("patient", "id").rank("dense").cast(pl.Int64) - 1).to_series().to_numpy()
    start, end, size = number[: len(amendments)], number[len(amendments) :], int(number.max()) + 1
    links = coo_array((np.ones(len(amendments)), (start, end)), shape=(size, size))
    _, part = connected_components(links, directed=True, connection="strong")
    frame = amendments.with_columns(pl.Series("part", part[start])).filter(
        pl.Series(part[start] == part[end])
    )
    return frame.select("row", pl.col("since").max().over("part").alias("closed"))
