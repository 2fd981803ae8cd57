"""Refused rows with line and reason, written for a person to look at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from gnnpatient.files import atomic_file, file_name, inside
from gnnpatient.ingest.source import SourceTables
from gnnpatient.readers.tables import is_plain


def write_quarantine(source: SourceTables, folder: Path) -> Mapping[str, int]:
    """Write the refused rows of each table with line and reason, as TABLE.csv. They hold data of patients.

    Parameters
    ----------
    source : SourceTables
        The tables, after all has been read.
    folder : pathlib.Path
        Made where it is not there yet.

    Returns
    -------
    dict
        How many rows were written, by table; a table of which none was refused has no file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, int] = {}
    names: set[str] = set()
    for table, audit in source.audits.items():
        if not len(rows := audit.refused):
            continue
        name = file_name(table).removesuffix(".csv")
        name += "_" * next(n for n in range(len(names) + 1) if f"{name}{'_' * n}".casefold() not in names)
        names.add(name.casefold())
        with atomic_file(inside(folder, f"{name}.csv")) as part:
            disarmed(_refused_rows(source, table, rows)).write_csv(part)
        written[table] = len(rows)
    return written


def _refused_rows(source: SourceTables, table: str, rows: np.ndarray) -> pl.DataFrame:
    """Some rows of a table as text, after their line and reason."""
    schema, audit = source.schemas[table], source.audits[table]
    cells = [
        pl.col(name)
        .cast(pl.String, strict=False)
        .alias(re.sub(r"^(line|reason)$", r"\1 (of the table)", name))
        for name, dtype in ((name, schema[name]) for name in source.own_columns(table))
        if is_plain(dtype) and dtype != pl.Duration
    ]
    line = pl.int_range(2, pl.len() + 2, dtype=pl.Int64).alias("line")
    refused = pl.DataFrame({"line": rows + 2, "reason": audit.reasons_of(rows).astype(str)}).lazy()
    lines = source.tables[table].lazy().select(line, *cells)
    return refused.join(lines, on="line", how="left", maintain_order="left").collect()


def disarmed(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame that no spreadsheet runs: text and column names that begin with = + - @ get an apostrophe.

    Parameters
    ----------
    frame : polars.DataFrame
        To be written for people.

    Returns
    -------
    polars.DataFrame

    Examples
    --------
    >>> disarmed(pl.DataFrame({"drug": ["=cmd()", "statin"]}))["drug"].to_list()
    ["'=cmd()", 'statin']
    """
    begins = r"^[=+\-@\t\r]"
    risky = pl.col(pl.String).str.contains(begins)
    text_ = pl.when(risky).then("'" + pl.col(pl.String)).otherwise(pl.col(pl.String))
    return frame.with_columns(text_.name.keep()).rename(
        {name: f"'{name}" for name in frame.columns if re.match(begins, name)}
    )
