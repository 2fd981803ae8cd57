"""What the experiments on cohorts of tables have in common: fit models fold by fold, write their forecasts.

Each of nafld.py, icu.py, tables.py and tcga.py names its cohorts and calls `run`. Fold files have repeat,
fold, id; without one, folds are made by patient and group from the seed. Each fold is fitted on the
complement of its test part. `--out` is parquet: model, repeat, fold, landmark (days), id, the risk by each
horizon (years).
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from worlds import command

from gnnpatient import InputError, PrognosisModel, read_cohort, read_spec
from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.files import atomic_file
from gnnpatient.prognosis.run import scored_landmarks, training_landmarks
from gnnpatient.spec.graph import spec_path
from gnnpatient.study.baselines import fitted_marginal
from gnnpatient.study.evaluate import evaluate
from gnnpatient.study.fitted import family_models
from gnnpatient.study.folds import Fold, make_folds, read_folds
from gnnpatient.study.rivals import PUBLISHED_BUDGET, RIVALS, TunedRival, told_of
from gnnpatient.study.scoreboard import Model, ModelRisks, scored_grid
from gnnpatient.times import YEAR

FAMILIES = ("nograph", "graph")  # answers of the one fit of gnn, written with it
SHOWN = {"survival": ("auc", "scaled_ibs", "oe"), "diagnosis": ("auc", "scaled_brier", "oe")}


@dataclass(frozen=True, kw_only=True)
class Study:
    """One cohort: what is asked of it, and when."""

    spec: str  # a shipped name, or a file beside this script
    folder: str  # in DATA
    outcome: str
    cause: str
    fit_at: tuple[float | str, ...] = ("entry",)  # days
    scored_at: tuple[float | str, ...] = ("entry",)
    horizons: tuple[float, ...] = ()  # days; none of a diagnosis
    patient: Mapping[str, Any] = field(default_factory=dict)  # keys of [patient] that differ from the spec's


def read(study: Study, data: Path) -> Cohort:
    """The cohort of a study."""
    beside = Path(__file__).parent / f"{study.spec}.toml"
    path = beside if beside.exists() else spec_path(study.spec)
    spec = tomllib.loads(path.read_text())
    spec["patient"] |= study.patient
    return read_cohort(read_spec(spec), data / study.folder)


def models_of(
    names: Sequence[str], study: Study, kind: str, args: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """Unfitted models by their names; `cox` and `logistic` are chosen as all rivals are."""
    found: dict[str, Any] = {}
    last = study.horizons[-1] if study.horizons else None
    for name in names:
        if name == "gnn":
            size = {"members": args.members, "epochs": args.epochs}
            found[name] = PrognosisModel(
                outcomes=[study.outcome], horizon=last, seed=seed, device="cpu", **size
            )
        elif name in RIVALS[kind]:
            found[name] = TunedRival(
                name,
                outcome=study.outcome,
                horizon=last,
                budget=args.configurations,
                members=args.members,
                epochs=args.epochs,
                seed=seed,
                device="cpu",
            )
        else:
            raise InputError(f"unknown model {name!r}; there are gnn, {', '.join(RIVALS[kind])}")
    return found


def fitted(models: Mapping[str, Any], X: Landmarks, study: Study, grid: np.ndarray) -> dict[str, Model]:
    """The models and the marginal one, fitted on the landmarks of a fold; with gnn its families."""
    found: dict[str, Model] = {}
    for name, model in models.items():
        found[name] = model.fit(X)
        if name == "gnn":
            each = family_models(model.predictor_, study.outcome)
            found |= {family: each[family] for family in FAMILIES if family in each}
    found["null"] = fitted_marginal(X, study.outcome, grid.tolist())
    return found


def forecasts(models: Mapping[str, Model], test: Landmarks, study: Study, fold: Fold) -> pl.DataFrame:
    """A row a model and landmark."""
    parts = []
    for name, model in models.items():
        answer = model.forecast(test)[study.outcome]
        about = {"model": name, "repeat": fold.repeat, "fold": fold.fold, "landmark": test.days}
        if study.horizons:
            risk = answer.risks(study.horizons, study.cause)
            columns = {f"risk_{h / YEAR:g}": risk[:, i] for i, h in enumerate(study.horizons)}
        else:
            columns = {"risk": answer.risk(study.cause)}
        parts.append(pl.DataFrame({**about, "id": fold.ids(test), **columns}))
    return pl.concat(parts)


def run(doc: str | None, name: str, studies: Mapping[str, Study]) -> None:
    """The command line of one experiment."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cohort", choices=list(studies), default=next(iter(studies)))
    parser.add_argument("--folds", type=Path, help="parquet of repeat, fold, id; default: five are made")
    parser.add_argument("--outcome", help="default: that of the study")
    parser.add_argument("--models", help="gnn, and rivals by name; default: gnn and the linear rival")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--configurations", type=int, default=PUBLISHED_BUDGET, help="of each rival")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--draws", type=int, default=200, help="of patients, for the intervals")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", type=Path, help="figures as a page")
    args = parser.parse_args()
    console, began = Console(stderr=True), time.process_time()
    study = studies[args.cohort]
    try:
        cohort = read(study, args.data)
        if args.outcome:
            study = replace(study, outcome=cohort.check_outcome(args.outcome))
        kind = cohort.outcomes[study.outcome].kind
        args.models = args.models or ("gnn,cox" if kind == "survival" else "gnn,logistic")
        models_of(args.models.split(","), study, kind, args, args.seed)  # a wrong name is refused now
        if args.folds:
            folds = read_folds(args.folds, cohort, args.repeats)
        else:
            each = [make_folds(cohort, study.outcome, 5, args.seed + r) for r in range(args.repeats)]
            folds = [replace(fold, repeat=r) for r, some in enumerate(each) for fold in some]
        grid = scored_grid(study.horizons[-1], study.horizons) if study.horizons else np.zeros(0)
        frames, parts, told = [], [], []
        for fold in folds:
            plan = {"outcomes": [study.outcome], "landmarks": list(study.fit_at), "seed": args.seed}
            train = training_landmarks(cohort, fold.train, plan)
            test = scored_landmarks(cohort, fold.test, study.outcome, study.scored_at)
            made = models_of(args.models.split(","), study, kind, args, args.seed + fold.repeat)
            of_fold = fitted(made, train, study, grid)
            parts.append((of_fold, test))
            frames.append(forecasts(of_fold, test, study, fold))
            told.append({key: told_of(model, study.outcome) for key, model in made.items()})
            console.print(
                f"repeat {fold.repeat} fold {fold.fold}: {len(train)} landmarks, {len(test)} scored"
            )
    except InputError as refusal:
        parser.error(str(refusal))
    with atomic_file(args.out) as part:
        pl.concat(frames).write_parquet(part)
    text = page(name, args, study, kind, parts, grid, told, time.process_time() - began)
    if args.table:
        with atomic_file(args.table) as part:
            part.write_text(text, encoding="utf-8")
    else:
        print(text)


def page(
    name: str,
    args: argparse.Namespace,
    study: Study,
    kind: str,
    parts: Sequence[tuple[Mapping[str, Model], Landmarks]],
    grid: np.ndarray,
    told: Sequence[Mapping[str, Mapping[str, Any]]],
    seconds: float,
) -> str:
    """The figures with command, commit, machine and date, and what each rival was chosen as."""
    names = list(parts[0][0])
    pairs = [(names[0], other) for other in names[1:] if other not in (*FAMILIES, "null")]
    found = evaluate(
        ModelRisks.of(parts, study.outcome, grid),
        outcome=study.outcome,
        cause=study.cause,
        horizons=list(study.horizons),
        against=pairs,
        n=args.draws,
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    ).stdout.strip()
    lines = [f"# {name}: {args.cohort}", "", f"    {command(name)}", ""]
    machine = f"{os.cpu_count()} shared cores, Python {platform.python_version()}"
    made = f"{time.strftime('%Y-%m-%d')}, commit {commit}; {machine}; {seconds:.0f} CPU s"
    lines += [f"**Development** figures. {made}."]
    lines += [
        "",
        f"{found.patients} patients scored, {found.events[study.cause]} with {study.cause}; means over "
        "landmarks. Brackets: 95 % over draws of patients or groups, the fitted models held fixed.",
        "",
    ]
    metrics = SHOWN["diagnosis" if kind in ("diagnosis", "ordered", "labels") else "survival"]
    lines += [f"| model | horizon, days | {' | '.join(metrics)} |", f"|---|---:|{'---:|' * len(metrics)}"]
    landmarks = {row["landmark"] for row in found.rows}
    at = None if None in landmarks else next(iter(landmarks))
    rows = {
        (row["model"], row["horizon"], row["metric"]): row
        for row in found.rows
        if row["landmark"] == at and row["group"] is None and row["metric"] in metrics
    }
    for model in dict.fromkeys(model for model, *_ in rows):
        for horizon in dict.fromkeys(h for m, h, _ in rows if m == model):
            cells = [_figure(rows.get((model, horizon, metric))) for metric in metrics]
            if any(cells):
                lines.append(
                    f"| {model} | {'' if horizon is None else f'{horizon:g}'} | {' | '.join(cells)} |"
                )
    lines.append("")
    for rival in dict.fromkeys(key for one in told for key in one):
        each = [one[rival] for one in told if "chosen" in one.get(rival, {})]
        if each:
            saw, chosen = each[0]["saw"], [one["chosen"] or "the defaults" for one in each]
            seen = f"{saw['landmarks']} landmarks at {saw['times']} times of {saw['patients']} patients"
            lines.append(
                f"- {rival}: {saw['configurations']} configurations, {seen}; chosen by fold: {chosen}"
            )
    return "\n".join(lines) + "\n"


def _figure(row: Mapping[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "" if row is None else "-"
    around = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{around}"
