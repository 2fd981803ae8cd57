"""Tables and node types that are lost as a whole: every row refused is an error, over half a flag."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from gnnpatient.content.image.base import NO_FILE, UNREADABLE
from gnnpatient.errors import InputError
from gnnpatient.ingest.audit import RowAudit, quoted
from gnnpatient.ingest.cells import example, ids
from gnnpatient.ingest.source import NO_KEY, PEOPLE, SourceTables, TableView
from gnnpatient.readers.tables import fits
from gnnpatient.spec.nodes import NodeSpec

_STRANGER = "patient not in the patient table"
_CHOSEN = (  # nothing went wrong
    "nothing in it that the spec asks for",
    "not chosen by where",
    "no day 0",
    "blank text",
    NO_KEY,
)
UNREAD = (  # why a reader of a format could not read a row; other reasons say that nothing happened
    "no patient id",
    "no patient",
    "patient not in the data",
    "no code",
    "no concept and no source value",
    "not a time",
    "time is not a date",
    "end is not a date",
)


def check_lost_nodes(source: SourceTables, kind: str, used: np.ndarray) -> None:
    """Refuse a node type that has rows of which none is used; flag one of which over half is refused.

    One of a single row, or whose images cannot be opened, is flagged as well.

    Parameters
    ----------
    source : SourceTables
        The tables, after the node type has been read.
    kind : str
        The node type.
    used : numpy.ndarray
        Numbers of its rows over all tables.

    Raises
    ------
    InputError
        When none of its rows is used; with the reasons and a cell that was refused.
    """
    node, lost, views = source.spec.nodes[kind], list[tuple[TableView, np.ndarray]](), source.views.pop(kind)
    for view in views:
        is_used = np.zeros(len(view.audit.used), bool)
        position = used - view.audit.start
        is_used[position[(position >= 0) & (position < len(is_used))]] = True
        rows = np.flatnonzero(~is_used[view.row] & _wrong(view.audit)[view.row])
        lost.append((view, _not_left_out(source, view, rows)))
    if not len(used):  # the reader of the format may have refused them
        unread = [_unread(source, view, node) for view in views]
        lost += [(view, np.arange(len(view))) for view in unread if view is not None]
    count = sum(len(rows) for _, rows in lost)
    total = sum(map(len, views)) + sum(len(rows) for _, rows in lost[len(views) :])
    if 2 * count > total:
        view, rows = max(lost, key=lambda part: len(part[1]))
        _refuse_or_flag(source, view, rows, (count, total), node, f" ({kind})", none=not len(used))


def check_lost_tables(source: SourceTables) -> None:
    """Refuse or flag, likewise, tables without nodes and what a format's reader could not read.

    Parameters
    ----------
    source : SourceTables
        The tables, after all has been read.

    Raises
    ------
    InputError
        When none of a table's rows is used.
    """
    for table, audit in source.audits.items():
        if table == PEOPLE or source.holds_nodes(table):
            continue
        rows = np.flatnonzero(~(audit.used | audit.collapsed) & _wrong(audit))
        known, none = int((audit.used | audit.collapsed).sum()), not audit.used.any()
        if source.is_event_table(table):
            rows = rows[np.isin(audit.reasons_of(rows), UNREAD)]
            known, none = len(audit.used) - len(rows), False
        if len(rows) <= known:
            continue
        if source.is_event_table(table):
            view = TableView(source, table, pl.DataFrame(), rows, audit)
            rows = np.arange(len(rows))
        else:
            view = source.view(table, [])
            rows = _not_left_out(source, view, rows)
        if len(rows) > known:
            _refuse_or_flag(source, view, rows, (len(rows), len(rows) + known), None, "", none=none)


def _wrong(audit: RowAudit) -> np.ndarray:
    """Rows that were to be read and could not be: (row,) bool."""
    wrong = [reason not in _CHOSEN and not reason.startswith("hidden: ") for reason in audit.reasons]
    return np.array(wrong)[audit.reason]


def _not_left_out(source: SourceTables, view: TableView, rows: np.ndarray) -> np.ndarray:
    """Rows of a view without those of patients who are in the patient table, but not in the cohort."""
    strangers = view.audit.reasons_of(view.row[rows]) == _STRANGER
    if 2 * len(rows) <= len(view) or not strangers.any():
        return rows
    known = (
        ids(view.column(source.key(view.table)))
        .is_in(_everybody(source).implode())
        .fill_null(False)
        .to_numpy()
    )
    return rows[~(strangers & known[rows])]


def _everybody(source: SourceTables) -> pl.Series:
    """All ids of the patient table, whoever is chosen."""
    table = source.spec.patient.table or PEOPLE
    return ids(source.view(table, []).column(source.key(table))).drop_nulls().unique(maintain_order=True)


def _unread(source: SourceTables, view: TableView, node: NodeSpec) -> TableView | None:
    """The rows of a format's table for a node type that the reader of the format could not read."""
    table, schema = view.table, source.schemas[view.table]
    if not source.is_event_table(table) or "refused" not in schema or {*(node.where or {})} - {*schema}:
        return None
    rows = source.tables[table].lazy().with_row_index("gnnpatient row")
    rows = rows.filter(pl.col("refused").is_in(UNREAD) & fits(node.where or {}))
    found = rows.select("gnnpatient row").collect(engine="streaming").to_series().to_numpy()
    return TableView(source, table, pl.DataFrame(), found.astype(np.int64), view.audit)


def _refuse_or_flag(
    source: SourceTables,
    view: TableView,
    rows: np.ndarray,
    count: tuple[int, int],
    node: NodeSpec | None,
    of: str,
    *,
    none: bool,
) -> None:
    """Refuse, or flag, with the reasons, a cell that was refused for the main one, and what to do."""
    reasons, many = np.unique(view.audit.reasons_of(view.row[rows]).astype(str), return_counts=True)
    order = np.argsort(-many, kind="stable")
    why = ", ".join(f"{many[i]} {reasons[i]}" for i in order[:3])
    main = str(reasons[order[0]])
    row = int(rows[int((view.audit.reasons_of(view.row[rows]) == main).argmax())])
    # one row is a slip rather than a form, and broken images are no fault of the table; a wrong folder is
    none = none and count[1] > 1 and (not main.startswith(UNREADABLE) or main == f"{UNREADABLE}{NO_FILE}")
    hint = _hint(source, view, row, main, node, ids_shown=none)
    of = f"{view.table}{of}"
    if none:
        raise InputError(f"{of}: none of {count[1]} rows is used: {why}{hint}")
    source.flag(f"{of}: {count[0]} of {count[1]} rows refused: {why}{hint}", decides=True)


def _hint(
    source: SourceTables, view: TableView, row: int, reason: str, node: NodeSpec | None, *, ids_shown: bool
) -> str:
    """A cell that was refused, beside one that can be read; no id of a patient in a flag."""
    table, form = view.table, source.spec.table(view.table).time

    def cell(name: str | None) -> str:
        """The cell of a column in that row, "" where there is none."""
        if name is None or name not in source.schemas[table]:
            return ""
        line = source.rows(table, [name]).slice(int(view.row[row]), 1).select(name).collect()
        return quoted(line[name][0])

    if reason == _STRANGER:
        return _alike(source, view) if ids_shown else "; are the ids written as in the patient table?"
    if reason.startswith("no patient"):
        return f"; is the patient in column {source.key(table)!r}?"
    if reason == "no time":
        return '; untimed = "origin" in the node takes such rows as of day 0'
    if reason.startswith("known ") and node is not None:
        return f"; {cell(node.known or 'known')} is not read, {example(form)} would be"
    if reason.startswith("time ") and not source.is_event_table(table):
        return f"; {cell(node.time if node is not None else None)} is not read, {example(form)} would be"
    if reason in ("time is not a date", "not a time"):
        dates = [n for n in source.schemas[table] if re.search(r"_date(time)?$", n)]
        shown = [word for name in dates if (word := cell(name)) not in ("", "an empty cell")]
        return f"; {shown[0]} is not read, {example(form)} would be" if shown else ""
    if node is None:
        return ""
    if reason == "unknown unit":
        return f"; {cell(node.unit or 'unit')} is not among the units of [units]"
    if reason in ("value not a finite number", "out of range"):
        names = [node.value or "value"] if node.columns is None else list(node.columns)
        shown = [word for name in names if (word := cell(name)) not in ("", "an empty cell")]
        return f", as {shown[0]}" if shown else ""
    return ""


def _alike(source: SourceTables, view: TableView) -> str:
    """An id of the table beside one of the patients that may be meant."""

    def bared(name: str) -> pl.Expr:
        word = pl.col(name).str.strip_chars().str.to_lowercase().str.replace(r"^.*/", "")
        return word.str.replace(r"^(-?\d+)\.0+$", "$1").str.replace(r"^0+(.)", "$1").alias("bare")

    everybody = _everybody(source).to_frame("patient")
    strangers = ids(view.column(source.key(view.table))).drop_nulls().to_frame("id")
    strangers = strangers.filter(~pl.col("id").is_in(everybody["patient"].implode()))
    meant = everybody.with_columns(bared("patient"))
    pairs = strangers.with_columns(bared("id")).join(meant, on="bare", maintain_order="left")
    one, other = (
        (pairs if len(pairs) else pl.concat([strangers[:1], everybody[:1]], how="horizontal"))
        .select("id", "patient")
        .row(0)
    )
    way = "write them alike in both tables" if len(pairs) else "is that the column with the patients' ids?"
    return f"; ids look like {quoted(one)}, the patients have {quoted(other)}: {way}"
