"""Does the judge of fusion say "helps" where nothing is to be fused? Twins of the ward, one a seed.

Claim: in the twin one node type tells all (death depends on age and on high lactate alone), so that over 20
seeds "helps" may be said once (METHODS 21).
Last seen: see results/twins.md (command, machine, time and figures).

    python experiments/twins.py --seeds 0-19 --out twins.parquet --table results/twins.md

Death within 30 days, asked on day 5: all node types beside the best unimodal model, chosen on inner folds.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from gnnpatient import read_cohort, read_spec
from gnnpatient.datasets.ward import write_ward
from gnnpatient.files import atomic_file
from gnnpatient.study.compare import compare
from gnnpatient.study.comparison import Comparison

DAY, HORIZON = 5.0, 30.0


def one_seed(n: int, seed: int, missing: float, members: int, epochs: int) -> Comparison:
    """Two folds of one twin; images and texts by the encoders that need no weights."""
    with tempfile.TemporaryDirectory() as folder:
        write_ward(Path(folder) / "tables", n, seed, missing, negative_control=True)
        cohort = read_cohort(read_spec("ward"), Path(folder) / "tables")
    how: dict[str, Any] = {"landmarks": [DAY], "horizons": [HORIZON], "members": members, "epochs": epochs}
    return compare(cohort, "death", folds=2, models=[], seed=seed, **how)


def row(seed: int, found: Comparison) -> dict[str, Any]:
    """What is said of a seed, and why."""
    primary = found.primary
    figures = {
        f"{metric} {key}": primary[metric][key]
        for metric in found.scores.deciding
        for key in ("value", "low", "high")
    }
    return {
        "seed": seed,
        "verdict": primary["verdict"],
        "best": found.best_in_words,
        "p": primary["p"],
        **figures,
    }


def page(found: pl.DataFrame, minutes: float) -> str:
    """Every seed, and how often each verdict came."""
    import torch

    count = dict(found["verdict"].value_counts(sort=True).iter_rows())
    lines = [
        "# twins: is fusion said to help where it cannot?",
        "",
        f"    {shlex.join(['python', 'experiments/twins.py', *sys.argv[1:]])}",
        "",
        f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}; "
        f"{minutes:.0f} minutes.",
        f"{len(found)} twins of the ward: " + ", ".join(f"{n} x {verdict}" for verdict, n in count.items()),
        "All node types minus the best unimodal model, mean; brackets: 95 % over draws of patients, the",
        "fitted models held fixed.",
        "",
        "| seed | best unimodal model | C | scaled IBS | p | verdict |",
        "|---:|---|---:|---:|---:|---|",
    ]
    for one in found.iter_rows(named=True):
        c, ibs = (
            f"{one[f'{m} value']:+.3f} [{one[f'{m} low']:+.3f}, {one[f'{m} high']:+.3f}]"
            for m in ("c", "scaled_ibs")
        )
        lines.append(f"| {one['seed']} | {one['best']} | {c} | {ibs} | {one['p']:.2g} | {one['verdict']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-19", help="of the twins: first-last")
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--missing", type=float, default=0.0)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True, help="parquet, a row a seed")
    parser.add_argument("--table", type=Path, help="the same as a page")
    args = parser.parse_args()
    first, _, last = args.seeds.partition("-")
    console, start, rows = Console(), time.monotonic(), []
    for seed in range(int(first), int(last or first) + 1):
        found = one_seed(args.patients, seed, args.missing, args.members, args.epochs)
        rows.append(row(seed, found))
        console.print(f"{seed}: {found.sentence}", markup=False, soft_wrap=True)
        frame = pl.DataFrame(rows)
        with atomic_file(args.out) as part:
            frame.write_parquet(part)
        if args.table:
            with atomic_file(args.table) as part:
                part.write_text(page(frame, (time.monotonic() - start) / 60), encoding="utf-8")


if __name__ == "__main__":
    main()
