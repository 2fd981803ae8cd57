"""Names of codes that stand in a table of their own, as d_labitems names each itemid."""

from __future__ import annotations

import re
from typing import Any

import polars as pl

from gnnpatient.ingest.cells import ids
from gnnpatient.propose.parts import plain
from gnnpatient.propose.sheets import Sheet, share

_CODE = "\0code"  # beside columns of any name
_NAME = re.compile(r"label|name$|desc|title")


def add_names(sheets: list[Sheet], others: list[Sheet]) -> None:
    """Add to each table the names of its codes, which another table has with one row a code.

    Parameters
    ----------
    sheets : list of Sheet
        The tables with a patient column; `named` of each is set.
    others : list of Sheet
        The tables without one.
    """
    for sheet in sheets:
        for other in others:
            known = {plain(c): c for c in other.raw.columns}
            for code in [c for c in sheet.raw.columns if plain(c) in known and c != sheet.key]:
                if found := _joined(sheet, code, other, known[plain(code)]):
                    sheet.named[code] = found


def _joined(sheet: Sheet, code: str, other: Sheet, key: str) -> tuple[str, dict[str, Any]] | None:
    """The column that was added, and the join that adds it; None where the table names no code."""
    if other.raw[key].null_count() or other.raw[key].n_unique() < len(other.raw):
        return None
    words = [c for c in other.raw.columns if other.kind[c] == "text" and _NAME.search(plain(c))]
    words = [c for c in words if c != key and c not in sheet.raw.columns]
    mine = ids(sheet.raw[code])
    if not words or share(mine.drop_nulls().is_in(ids(other.raw[key]).implode())) < 0.5:
        return None
    name = words[0]
    right = pl.DataFrame({_CODE: ids(other.raw[key]), name: other.cells[name]})
    column = pl.DataFrame({_CODE: mine}).join(right, on=_CODE, how="left", maintain_order="left")[name]
    sheet.raw, sheet.cells = sheet.raw.with_columns(column), sheet.cells.with_columns(column)
    sheet.kind[name] = "text"
    by = code if code == key else {code: key}
    return name, {"table": other.name, "by": by, "columns": [name]}
