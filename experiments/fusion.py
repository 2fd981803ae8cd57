"""Does fusion help? Every node type alone, every one left out, and other ways to put them together.

Claim: on a cohort with something to fuse (ward) all node types together forecast better than the best
unimodal model, chosen on inner folds; on its twin, which has nothing to fuse, this is said at most once in
twenty seeds. Of other cohorts nothing is claimed: the sentences say what it is, by the rules in
gnnpatient.study.compare. Last seen: results/fusion-ward.md and fusion-twin.md (1 000 patients each, one
member: it helps, and on the twin it does not), fusion-covid-icu.md (landmarks that are contaminated),
fusion-covid-death.md and fusion-tcga-luad.md (428 genes of two families, graphs/tcga.prepare.py). With an
earlier model: PBC (the default data), seed 0, --members 1, five folds made here: no evidence that adding
sign and stage to lab helps, C +.003 (-.026 to .029), scaled IBS +.011 (-.032 to .057).

    python experiments/fusion.py --data packed/ward --outcome death --missing image,note --out ward.parquet
    python experiments/fusion.py --data mine/spec.toml --outcome death --folds folds.csv --out mine.parquet
    python experiments/fusion.py --data tcga-luad-families --models statics,gru --landmarks 0,365.25 \\
        --members 1 --epochs 8 --out tcga.parquet --table fusion-tcga-luad.md
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from gnnpatient import InputError, open_cohort, read_cohort, read_spec
from gnnpatient.cohort.cohort import Cohort
from gnnpatient.datasets.shipped import DATA
from gnnpatient.files import atomic_file
from gnnpatient.prognosis.problem import FitConfig
from gnnpatient.study.compare import compare, make_folds
from gnnpatient.study.comparison import Comparison
from gnnpatient.study.folds import Fold, read_folds
from gnnpatient.study.missingness import missing_curve, pattern_only
from gnnpatient.times import YEAR

SHOWN = ("c", "auc", "scaled_ibs", "ibs", "scaled_brier", "brier")
CURVED = ("c", "auc", "scaled_ibs", "scaled_brier")  # of the missing-modality curve


def load(data: Path, spec: str | None, cache: Path | None) -> Cohort:
    """A packed cohort, a spec with its tables beside it, or a folder of tables and the spec that reads it."""
    if (data / "manifest.json").is_file():
        return open_cohort(data)
    if data.suffix == ".toml":
        return read_cohort(read_spec(data), data.parent, cache=cache)
    return read_cohort(read_spec(spec or data.name), data, cache=cache)


def forecasts(found: Comparison, folds: Sequence[Fold], unit: float) -> pl.DataFrame:
    """A row a landmark and model: model, repeat, fold, landmark, id, the risk of the cause by each time.

    Of a diagnosis: the probability of the class, as `risk`.
    """
    parts = []
    for i, fold in enumerate(folds):
        mine = found.risks.fold == i
        X = found.risks.landmarks[mine]
        for name, risks in found.risks.risks.items():
            risk = risks[found.cause][mine]
            about = {"model": name, "repeat": fold.repeat, "fold": fold.fold, "landmark": X.days / unit}
            frame = pl.DataFrame({**about, "id": fold.ids(X)})
            names = [f"risk_{t:g}" for t in (found.risks.times / unit).tolist()] or ["risk"]
            parts.append(frame.with_columns(**{n: pl.Series(risk[:, j]) for j, n in enumerate(names)}))
    return pl.concat(parts)


def table(found: Comparison) -> str:
    """Means over landmarks and horizons, a line a model and a line a difference; then the sentences."""
    lines: dict[str, dict[str, str]] = {row["model"]: {} for row in found.rows}
    for row in found.rows:
        if row["landmark"] is None and row["horizon"] is None and row["metric"] in SHOWN:
            lines[row["model"]][row["metric"]] = value(row)
    shown = [metric for metric in SHOWN if any(metric in cells for cells in lines.values())]
    said = [f"| model | parameters | {' | '.join(shown)} |", "|---|" + "---:|" * (1 + len(shown))]
    for name, cells in lines.items():
        size = found.parameters.get(name, "")
        said.append(f"| {name} | {size} | {' | '.join(cells.get(metric, '') for metric in shown)} |")
    return "\n".join([*said, "", *(f"- {sentence}" for sentence in found.sentences)])


def value(figure: Mapping[str, Any]) -> str:
    """A figure and its interval, as in the tables."""
    if figure["value"] is None:
        return "-"
    limits = "" if figure["low"] is None else f" [{figure['low']:.4f}, {figure['high']:.4f}]"
    return f"{figure['value']:.4f}{limits}"


def curve(rows: Sequence[Mapping[str, Any]]) -> str:
    """The missing-modality curve, a line a node type and share."""
    rows = [row for row in rows if row["horizon"] is None and row["metric"] in CURVED]
    shown = list(dict.fromkeys(row["metric"] for row in rows))
    lines: dict[tuple[str, float, float], dict[str, str]] = {}
    for row in rows:
        cells = lines.setdefault((row["kind"], row["share"], row["lacking"]), {})
        cells[row["metric"]] = value(row)
    said = [
        "## Missing-modality curve",
        "",
        "The model as fitted, with a node type taken from a share of the scored patients, drawn",
        "once. Brackets are each figure's own, not of a difference.",
        "",
        f"| taken | share of patients | landmarks without a row of it | {' | '.join(shown)} |",
        "|---|---:|---:|" + "---:|" * len(shown),
    ]
    for (kind, share, lacking), cells in lines.items():
        said.append(f"| {kind} | {share:g} | {lacking:.3f} | {' | '.join(cells[m] for m in shown)} |")
    return "\n".join(said)


def pattern(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the pattern of missingness has by itself, a line a deciding figure."""
    said = [
        "## What the pattern of missingness has by itself",
        "",
        "A share is given where the gain of all node types over the baseline covariates is sure.",
        "",
        "| figure | statics | presence | gnn | presence - statics | share of the gain |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        known = " | ".join(f"{row[name]:.4f}" for name in ("statics", "presence", "gnn"))
        share = "-" if row["share"] is None else f"{row['share']:.0%}"
        said.append(f"| {row['metric']} | {known} | {value(row['gain'])} | {share} |")
    return "\n".join(said)


def page(found: Comparison, about: Mapping[str, Any], cohort: Cohort, folds: int, cpu: float) -> str:
    """The tables as a file of results/: with the command, on what it ran, and how the figures came about."""
    import torch

    over = f"landmarks (days: {', '.join(f'{day:g}' for day in np.unique(found.risks.landmarks.days))})"
    if found.horizons:
        over += f" and horizons (days: {', '.join(f'{day:g}' for day in found.horizons)})"
    said = (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}; "
        f"{cpu / 60:.0f} CPU minutes. {found.patients} patients scored, {found.events} with {found.cause}; "
        f"{folds} folds, groups whole. Means over {over}; "
        "brackets: 95 % over draws of patients, the fitted models held fixed."
    )
    command = shlex.join(["python", "experiments/fusion.py", *sys.argv[1:]])
    parts = [f"# fusion: {cohort.spec.cohort}", f"    {command}", said, table(found)]
    parts += [curve(about["missing"])] if about["missing"] else []
    parts += [pattern(about["pattern"])] if about["pattern"] else []
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA / "pbc", help="packed cohort, spec, or folder")
    parser.add_argument("--spec", help="where --data is a folder of tables; default: its name")
    parser.add_argument("--cache", type=Path, help="embeddings made earlier, so that each is made once")
    parser.add_argument("--folds", type=Path, help="repeat, fold, id; default: five folds made here")
    parser.add_argument("--outcome", default="death")
    parser.add_argument("--cause", help="default: the one named like the outcome, else the first")
    parser.add_argument(
        "--models", help="models beside that of all node types and the unimodal ones; default: all"
    )
    parser.add_argument("--landmarks", help="days")
    parser.add_argument("--horizons", help="days")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=FitConfig.epochs)
    parser.add_argument("--draws", type=int, default=200, help="of patients, for the intervals")
    parser.add_argument("--missing", default="", help="node types of which to draw the curve")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--years", action="store_true", help="write landmarks and times in years, not in days"
    )
    parser.add_argument("--out", type=Path, required=True, help="parquet; figures go beside it as .json")
    parser.add_argument("--table", type=Path, help="Markdown: the command, the figures and the sentences")
    args = parser.parse_args()
    console, began = Console(stderr=True, highlight=False, soft_wrap=True), time.perf_counter()

    def numbers(text: str | None) -> list[float] | None:
        return None if text is None else [float(part) for part in text.split(",")]

    def progress(what: str, done: int, total: int, /, within: str = "") -> None:
        if not within:
            console.print(f"{time.perf_counter() - began:7.0f} s  {done}/{total}  {what}")

    try:
        cohort = load(args.data, args.spec, args.cache)
        if args.folds:
            folds = read_folds(args.folds, cohort, args.repeats)
        else:
            folds = make_folds(cohort, args.outcome, 5, args.seed)
        found = compare(
            cohort,
            args.outcome,
            cause=args.cause,
            folds=folds,
            models=None if args.models is None else [m for m in args.models.split(",") if m],
            landmarks=numbers(args.landmarks),
            horizons=numbers(args.horizons),
            members=args.members,
            epochs=args.epochs,
            n=args.draws,
            seed=args.seed,
            progress=progress,
        )
        curves = [row for kind in args.missing.split(",") if kind for row in missing_curve(found, kind)]
    except InputError as refusal:
        parser.error(str(refusal))
    about: dict[str, Any] = {**found.to_dict(), "missing": curves, "pattern": pattern_only(found)}
    about["seconds"] = time.perf_counter() - began
    with atomic_file(args.out.with_suffix(".json")) as part:
        part.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    with atomic_file(args.out) as part:
        forecasts(found, folds, YEAR if args.years else 1.0).write_parquet(part)
    if args.table:
        with atomic_file(args.table) as part:
            part.write_text(page(found, about, cohort, len(folds), time.process_time()), encoding="utf-8")
    console.print(table(found), markup=False)


if __name__ == "__main__":
    main()
