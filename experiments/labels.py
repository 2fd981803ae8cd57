"""Label efficiency: the product fitted on half of the patients, beside a fair Cox fitted on all of them.

Claim: over 10 random halves by patient the integrated Brier score of the product on a half is no worse than
that of a stacked Cox on all (upper end of the difference <= +.0005), on 2 of 3 cohorts.
Last seen: see results/labels.md, where it has been run (command, machine, date and figures).

    python experiments/labels.py --data DATA --folds FOLDS --work W --out FILE --table results/labels.md

Cohorts, landmarks and folds are those of pooled.py. In each fold a half of the training patients (or groups)
is drawn anew; two repeats of five folds are ten halves, and every patient is scored twice while held out. Cox
sees the same rows and landmarks of all training patients, and once of the same half.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pooled import STUDIES, Task, splits
from rich.console import Console
from worlds import command

from gnnpatient import PrognosisModel
from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.study.evaluate import Evaluation, evaluate
from gnnpatient.study.models import comparators_of
from gnnpatient.study.scoreboard import Model, ModelRisks

MODELS = ("gnn", "cox", "cox-half", "null")  # the product sees a half


def half_of(X: Landmarks, seed: Sequence[int]) -> Landmarks:
    """The landmarks of a random half of the patients, whole groups together."""
    units = np.unique(X.groups)
    chosen = np.random.default_rng(list(seed)).permutation(units)[: (len(units) + 1) // 2]
    return X[np.flatnonzero(np.isin(X.groups, chosen))]


def models_of(task: Task, seed: int, choices: dict[str, Any]) -> tuple[dict[str, Model], Landmarks]:
    """The models of one fold, and whom they are scored on."""
    study = task.study
    train, test = task.landmarks
    half = half_of(train, (seed, task.repeat, task.fold))
    how: dict[str, Any] = {"outcomes": [study.outcome], "horizon": study.horizon, "device": "cpu"}
    gnn = PrognosisModel(**how, seed=seed + task.repeat, **choices).fit(half)
    whole = comparators_of(train, test, study.outcome, study.horizon, task.times.tolist())
    part = comparators_of(half, test, study.outcome, study.horizon, task.times.tolist())
    cox, cox_half = (next(one for key, one in each.items() if key != "null") for each in (whole, part))
    return {"gnn": gnn, "cox": cox, "cox-half": cox_half, "null": whole["null"]}, test


def scores_of(task: Task, scored: ModelRisks, draws: int) -> Evaluation:
    """The figures of the cause: the product on a half, and Cox on a half, each minus Cox on all."""
    study = task.study
    horizons = [] if study.horizon is None else [study.horizon]
    how: dict[str, Any] = {"horizons": horizons, "cause": study.cause, "n": draws}
    pairs = [("gnn", "cox"), ("cox-half", "cox")]
    return evaluate(scored, outcome=study.outcome, against=pairs, **how)


def row(name: str, found: Evaluation, halves: int) -> str:
    """One cohort."""
    metric = "ibs" if any(one["metric"] == "ibs" for one in found.rows) else "brier"
    rows = {one["model"]: one for one in found.rows if one["metric"] == metric}  # the mean comes last
    cells = [f"{rows[model]['value']:.4f}" if rows[model]["value"] is not None else "-" for model in MODELS]
    for pair in ("gnn-cox", "cox-half-cox"):
        one = rows[pair]
        around = "" if one["low"] is None else f" [{one['low']:+.4f}, {one['high']:+.4f}]"
        cells.append("-" if one["value"] is None else f"{one['value']:+.4f}{around}")
    return f"| {name} | {metric} | {halves} | {found.patients} | " + " | ".join(cells) + " |"


def risks_of(task: Task, models: dict[str, Model], test: Landmarks) -> pl.DataFrame:
    """Risks at the horizon in the scorer's format."""
    study, parts = task.study, []
    at = task.times if study.horizon is None else task.times[-1:]
    found = ModelRisks.of([(models, test)], study.outcome, at)
    for model, risks in found.risks.items():
        about = {"cohort": task.cohort, "model": model, "repeat": task.repeat, "fold": task.fold}
        risk = risks[study.cause][:, -1].astype(float)
        parts.append(pl.DataFrame({**about, "landmark": test.days, "id": test.ids, "risk": risk}))
    return pl.concat(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folds", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the packed cohorts")
    parser.add_argument("--cohorts", default="pbc,rotterdam,framingham")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--patients", type=int, default=None, help="of a cohort, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--members", type=int, default=None)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", type=Path, default=None)
    args = parser.parse_args()
    console = Console(stderr=True)
    if unknown := set(args.cohorts.split(",")) - set(STUDIES):
        parser.error(f"unknown cohort {sorted(unknown)[0]!r}; there are {', '.join(STUDIES)}")
    given = {"members": args.members, "epochs": args.epochs}
    choices = {name: value for name, value in given.items() if value is not None}
    args.work.mkdir(parents=True, exist_ok=True)
    lines = [
        "# labels: the product on half of the patients, Cox on all",
        "",
        f"    {command('labels')}",
        "",
        f"{time.strftime('%Y-%m-%d')}; {os.cpu_count()} shared cores, Python {platform.python_version()}.",
        "Means over landmarks; brackets: 95 % over draws of patients, the fitted models held fixed.",
        "",
        "| cohort | score | halves | patients | gnn, half | Cox, all | Cox, half | null | gnn half - Cox all "
        "| Cox half - Cox all |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    frames = []
    for name in args.cohorts.split(","):
        any_fold = Task(args.data, args.folds, args.work, name, 0, 0, patients=args.patients)
        parts = []
        for fold in [one for one in splits(any_fold) if one.repeat < args.repeats]:
            task = Task(
                args.data, args.folds, args.work, name, fold.repeat, fold.fold, patients=args.patients
            )
            began = time.perf_counter()
            models, test = models_of(task, args.seed, choices)
            parts.append((models, test))
            frames.append(risks_of(task, models, test))
            took = time.perf_counter() - began
            console.print(f"{name} repeat {fold.repeat} fold {fold.fold}: {took:.0f} s")
        scored = ModelRisks.of(parts, any_fold.study.outcome, any_fold.times)
        lines.append(row(name, scores_of(any_fold, scored, args.draws), len(parts)))
    pl.concat(frames).write_parquet(args.out)
    if args.table is not None:
        args.table.write_text("\n".join(lines) + "\n")
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
