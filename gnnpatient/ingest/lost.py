"""Tables and kinds of node that are lost as a whole: every row refused is an error, over half a flag."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.ingest.cells import example, ids
from gnnpatient.ingest.source import PEOPLE, RowAudit, SourceTables, TableView, quoted
from gnnpatient.readers.tables import fits
from gnnpatient.spec.nodes import NodeSpec

_STRANGER = "patient not in the patient table"
_CHOSEN = (  # nothing went wrong
    "nothing in it that the spec asks for",
    "not chosen by where",
    "no day 0",
    "blank text",
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


def lost_kind(source: SourceTables, kind: str, used: np.ndarray) -> None:
    """Refuse a kind of which rows are asked and none is used; flag one of which over half is refused.

    One of a single row, or whose pictures cannot be opened, is flagged as well.
    used: the numbers of its rows over all tables.
    """
    node, lost, views = source.spec.nodes[kind], list[tuple[TableView, np.ndarray]](), source.asked.pop(kind)
    for view in views:
        mine = np.zeros(len(view.account.used), bool)
        here = used - view.account.start
        mine[here[(here >= 0) & (here < len(mine))]] = True
        rows = np.flatnonzero(~mine[view.row] & _wrong(view.account)[view.row])
        lost.append((view, _not_left_out(source, view, rows)))
    if not len(used):  # the reader of the format may have refused them
        unread = [_unread(source, view, node) for view in views]
        lost += [(view, np.arange(len(view))) for view in unread if view is not None]
    count = sum(len(rows) for _, rows in lost)
    total = sum(map(len, views)) + sum(len(rows) for _, rows in lost[len(views) :])
    if 2 * count > total:
        view, rows = max(lost, key=lambda part: len(part[1]))
        _say(source, view, rows, (count, total), node, f" ({kind})", none=not len(used))


def lost_tables(source: SourceTables) -> None:
    """The same of tables without nodes, once all is read, and of what a format's reader could not read."""
    for table, account in source.accounts.items():
        if table == PEOPLE or source.holds_nodes(table):
            continue
        rows = np.flatnonzero(~(account.used | account.collapsed) & _wrong(account))
        known, none = int((account.used | account.collapsed).sum()), not account.used.any()
        if source.is_events(table):
            rows = rows[np.isin(_reason(account, rows), UNREAD)]
            known, none = len(account.used) - len(rows), False
        if len(rows) <= known:
            continue
        if source.is_events(table):
            view = TableView(source, table, pl.DataFrame(), rows, account)
            rows = np.arange(len(rows))
        else:
            view = source.view(table, [])
            rows = _not_left_out(source, view, rows)
        if len(rows) > known:
            _say(source, view, rows, (len(rows), len(rows) + known), None, "", none=none)


def _wrong(account: RowAudit) -> np.ndarray:
    """Rows that were to be read and could not be: (row,) bool."""
    wrong = [reason not in _CHOSEN and not reason.startswith("hidden: ") for reason in account.reasons]
    return np.array(wrong)[account.why]


def _not_left_out(source: SourceTables, view: TableView, rows: np.ndarray) -> np.ndarray:
    """Rows of a view without those of patients who are in the patient table, but not in the cohort."""
    strangers = _reason(view.account, view.row[rows]) == _STRANGER
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


def _reason(account: RowAudit, rows: np.ndarray) -> np.ndarray:
    return np.array(account.reasons, dtype=object)[account.why[rows]]


def _unread(source: SourceTables, view: TableView, node: NodeSpec) -> TableView | None:
    """The rows that a kind asks of a format's table, but that the reader of the format could not read."""
    table, schema = view.table, source.schemas[view.table]
    if not source.is_events(table) or "refused" not in schema or {*(node.where or {})} - {*schema}:
        return None
    rows = source.tables[table].lazy().with_row_index("gnnpatient row")
    rows = rows.filter(pl.col("refused").is_in(UNREAD) & fits(node.where or {}))
    found = rows.select("gnnpatient row").collect(engine="streaming").to_series().to_numpy()
    return TableView(source, table, pl.DataFrame(), found.astype(np.int64), view.account)


def _say(
    source: SourceTables,
    view: TableView,
    rows: np.ndarray,
    count: tuple[int, int],
    node: NodeSpec | None,
    of: str,
    *,
    none: bool,
) -> None:
    """Refuse, or flag, with the reasons, a cell that was refused for the first of them, and the way out."""
    reasons, many = np.unique(_reason(view.account, view.row[rows]).astype(str), return_counts=True)
    order = np.argsort(-many, kind="stable")
    why = ", ".join(f"{many[i]} {reasons[i]}" for i in order[:3])
    main = str(reasons[order[0]])
    row = int(rows[int((_reason(view.account, view.row[rows]) == main).argmax())])
    # one row is a slip rather than a form, and broken pictures are no fault of the table
    none = none and count[1] > 1 and not main.startswith("picture: ")
    hint = _hint(source, view, row, main, node, ids_shown=none)
    of = f"{view.table}{of}"
    if none:
        raise InputError(f"{of}: none of {count[1]} rows is used: {why}{hint}")
    source.doubt(f"{of}: {count[0]} of {count[1]} rows refused: {why}{hint}", decides=True)


def _hint(
    source: SourceTables, view: TableView, row: int, reason: str, node: NodeSpec | None, *, ids_shown: bool
) -> str:
    """A cell that was refused, beside one that would do; no id of a patient in a flag."""
    table, how = view.table, source.spec.table(view.table)

    def cell(name: str | None) -> str:
        """The cell of a column in that row, "" where there is none."""
        if name is None or name not in source.schemas[table]:
            return ""
        whole = source.tables[table].lazy().slice(int(view.row[row]), 1).select(name).collect()
        return quoted(whole[name][0])

    own = source.is_events(table)
    if reason == _STRANGER:
        return _alike(source, view) if ids_shown else "; are the ids written as in the patient table?"
    if reason.startswith("no patient"):
        return f"; the patient stands in column {source.key(table)!r}?"
    if reason == "no time":
        return '; untimed = "origin" in the node takes such rows as of day 0'
    if reason.startswith("known ") and node is not None:
        return f"; {cell(node.known or 'known')} is not read, {example(how.time)} would be"
    if reason.startswith("time ") and not own:
        return f"; {cell(node.time if node is not None else None)} is not read, {example(how.time)} would be"
    if reason in ("time is not a date", "not a time"):
        dates = [n for n in source.schemas[table] if re.search(r"_date(time)?$", n)]
        held = next((shown for n in dates if (shown := cell(n)) not in ("", "an empty cell")), "")
        return f"; {held} is not read, {example(how.time)} would be" if held else ""
    if node is None:
        return ""
    if reason == "unknown unit":
        return f"; {cell(node.unit or 'unit')} is not among the units of [units]"
    if reason in ("value not a finite number", "out of range"):
        names = [node.value or "value"] if node.columns is None else list(node.columns)
        odd = [shown for n in names if (shown := cell(n)) not in ("", "an empty cell")]
        return f", as {odd[0]}" if odd else ""
    return ""


def _alike(source: SourceTables, view: TableView) -> str:
    """An id of the table beside one of the patients that may be meant."""

    def bared(name: str) -> pl.Expr:
        word = pl.col(name).str.strip_chars().str.to_lowercase().str.replace(r"^.*/", "")
        return word.str.replace(r"^(-?\d+)\.0+$", "$1").str.replace(r"^0+(.)", "$1").alias("bare")

    everybody = _everybody(source).to_frame("theirs")
    mine = ids(view.column(source.key(view.table))).drop_nulls().to_frame("mine")
    mine = mine.filter(~pl.col("mine").is_in(everybody["theirs"].implode()))
    meant = everybody.with_columns(bared("theirs"))
    pairs = mine.with_columns(bared("mine")).join(meant, on="bare", maintain_order="left")
    one, other = (
        (pairs if len(pairs) else pl.concat([mine[:1], everybody[:1]], how="horizontal"))
        .select("mine", "theirs")
        .row(0)
    )
    way = "write them alike in both tables" if len(pairs) else "is that the column with the patients' ids?"
    return f"; ids look like {quoted(one)}, the patients have {quoted(other)}: {way}"
