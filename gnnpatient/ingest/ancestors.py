"""Ancestors of codes as nodes, by a hierarchy that the spec names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gnnpatient.errors import InputError, near
from gnnpatient.ingest.cells import text
from gnnpatient.ingest.rows import Rows
from gnnpatient.ingest.source import SourceTables
from gnnpatient.spec.nodes import NodeSpec
from gnnpatient.spec.tables import PREFIXES, HierarchySpec
from gnnpatient.times import FOREVER

if TYPE_CHECKING:
    from gnnpatient.ingest.hierarchy import Hierarchy


def hierarchy(source: SourceTables, name: str, codes: tuple[str, ...]) -> Hierarchy:
    """The hierarchy that the spec names.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    name : str
        Its name in the spec.
    codes : tuple of str
        The codes that it is for, where it is made from their first characters.

    Returns
    -------
    Hierarchy

    Raises
    ------
    InputError
        When the table has no such column, or the format brings no hierarchy.
    """
    from gnnpatient.ingest.hierarchy import Hierarchy

    form: HierarchySpec = source.spec.hierarchies[name]
    if form.prefix is not None:
        return Hierarchy.by_prefix(codes, PREFIXES[form.prefix])
    if form.table is not None:
        source.open(form.table)
        for column in (form.child, form.parent):
            if column not in (schema := source.schemas[form.table]):
                raise InputError(f"{form.table}: no column {column!r}{near(column, schema)}")
        pairs = source.rows(form.table, [form.child, form.parent]).select(form.child, form.parent).collect()
        source.audits[form.table].used[:] = True
        missing = source.spec.table(form.table).missing
        return Hierarchy.from_pairs(text(pairs[form.child], missing), text(pairs[form.parent], missing))
    parents = source.standard.parents if source.standard is not None else None
    if parents is None or not len(parents):
        raise InputError(f"hierarchies.{name}: the folder brings no hierarchy; name a table or a prefix")
    return Hierarchy.from_pairs(parents["child"], parents["parent"])


def ancestor_nodes(source: SourceTables, node: NodeSpec, rows: Rows) -> tuple[Rows, np.ndarray]:
    """Ancestors of a node type's codes, as nodes.

    An ancestor is known from the first of its descendants in the patient on, so that a child's ancestors are
    always there; where amendments have replaced all of those, it is gone until the next one.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    node : NodeSpec
        Spec of the ancestors, with `of` and `hierarchy`.
    rows : Rows
        The rows of the node type `of`.

    Returns
    -------
    rows : Rows
        The ancestors.
    pairs : numpy.ndarray
        (2, pair) int32: a code, and which ancestor is above it.
    """
    assert node.hierarchy is not None
    child, names, ancestor = hierarchy(source, node.hierarchy, rows.codes).ancestors(rows.codes)
    child, ancestor = child[child > 0], ancestor[child > 0]
    gone = np.full(len(rows.known), FOREVER) if rows.replaced is None else rows.replaced
    frame = pl.DataFrame({name: getattr(rows, name) for name in ("patient", "known", "happened", "code")})
    pairs = pl.DataFrame({"code": child.astype(np.int32), "ancestor": ancestor.astype(np.int32) + 1})
    each, order = ["patient", "ancestor"], ["known", "happened"]
    valid_rows = frame.with_columns(pl.Series("gone", gone)).filter(pl.col("known") < pl.col("gone"))
    valid_rows = valid_rows.join(pairs, on="code").sort(*each, *order)
    before = pl.col("gone").cum_max().shift(1).over(each)  # when the earlier descendants were all replaced
    valid_rows = valid_rows.with_columns((pl.col("known") > before).fill_null(True).cum_sum().alias("spell"))
    first = (
        valid_rows.group_by(*each, "spell")
        .agg(*(pl.col(name).sort_by(*order).first() for name in order), pl.col("gone").max())
        .sort("spell")
    )
    ancestors = Rows(
        patient=first["patient"].to_numpy(),
        known=first["known"].to_numpy(),
        happened=first["happened"].to_numpy(),
        code=first["ancestor"].to_numpy(),
        value=np.full(len(first), np.nan, np.float32),
        source=np.zeros(len(first), np.int64),
        codes=("other", *names),
        units=("",) * (1 + len(names)),
        replaced=None if rows.replaced is None else first["gone"].to_numpy(),
    )
    return ancestors, pairs.select("code", "ancestor").to_numpy().T.astype(np.int32)
