"""The table that flchain.toml reads, made from the table as it is published.

    python graphs/flchain.prepare.py DATA_DIR --out DIR
    gnnpatient check flchain --data DIR

DATA_DIR holds flchain.csv, which has no column that says who a row is of. DIR gets flchain.csv with a column
`row`, the number of the row from 0 on. Those who died on the day of their sample died half a day later, since
nobody is at risk at the moment of an event. What was done is printed, with counts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from gnnpatient.errors import InputError
from gnnpatient.files import atomic_folder
from gnnpatient.readers.tables import read_table

SAME_DAY = 0.5  # days


def prepare(data: Path, out: Path) -> list[tuple[str, int]]:
    """Write the table; what was done, with counts.

    Refused: a table with a row that has no number of days, an `out` that holds anything.
    """
    frame = read_table(data, "flchain.csv").lazy().collect().with_row_index("row")
    days = frame["futime"].cast(pl.Float64, strict=False)
    if bad := days.null_count():
        raise InputError(f"flchain.csv: {bad} row(s) whose futime is not a number; download it again")
    same = days == 0
    frame = frame.with_columns(futime=days.set(same, SAME_DAY))
    with atomic_folder(out) as part:
        frame.write_csv(part / "flchain.csv")
    return [("rows that got a number", len(frame)), ("ends on the day of the sample", int(same.sum()))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        done = prepare(args.data, args.out)
    except InputError as refusal:
        parser.error(str(refusal))
    table = Table("what", "how many", box=None)
    for what, n in done:
        table.add_row(what, str(n))
    Console().print(table)


if __name__ == "__main__":
    main()
