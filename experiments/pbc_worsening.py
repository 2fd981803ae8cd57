"""Time until worse on PBC, death and transplant competing: ascites or oedema, stage, bilirubin x 1.5.

Claim: of all patients 1, 3 and 5 years after entry (first row) the default model ranks who will be worse no
worse than a stacked Cox model that takes the visit that shows it for the event; at each visit, among those
seen again within .3 to 1.25 years (second row), by an AUC of .795, .646 and .654 at least.
Worse is forecast for when it happens, between two visits or unseen; the first row counts it at the visit.
Last seen: see results/pbc_worsening.md (command, machine, time and figures).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console

from gnnpatient import InputError, PrognosisModel, metrics, read_cohort, read_spec
from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.datasets.shipped import DATA
from gnnpatient.spec.outcomes import ProgressionSpec, WorseSpec
from gnnpatient.study.baselines import StackedCox, fitted_marginal
from gnnpatient.study.evaluate import Evaluation, evaluate
from gnnpatient.study.fitted import family_models
from gnnpatient.study.folds import read_folds
from gnnpatient.study.scoreboard import Model, ModelRisks, scored_grid
from gnnpatient.times import DAY

YEAR = 365.25
MODELS = ("gnn", "cox")
FIRST = ("auc", "oe", "scaled_ibs", "oe_between", "log_between")  # figures of the first row
WORSE = {  # node type, codes, and what is worse
    "decompensation": ("sign", ["ascites", "edema"], {"reaches": 0.25}),  # .25: the mean of none and some
    "stage": ("stage", ["stage"], {"plus": 1}),
    "bilirubin": ("lab", ["bili"], {"times": 1.5}),
}
HIGHEST = {"stage": 4}  # who has it cannot be worse: neither trained on nor scored
GOALS = {"decompensation": 0.795, "stage": 0.646, "bilirubin": 0.654}  # second row


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is compared, in years."""

    landmarks: tuple[float, ...] = (1.0, 3.0, 5.0)
    horizons: tuple[float, ...] = (1.0, 3.0, 5.0)
    last: float = 7.0  # training landmarks are half-yearly from entry up to here
    seen: tuple[float, float] = (0.3, 1.25)  # second row: when a visit must come


def cohort_of(data: Path) -> Cohort:
    """PBC with the three outcomes."""
    spec = read_spec("pbc")
    worse = {
        name: ProgressionSpec(
            kind="progression", node=node, codes=codes, worse=WorseSpec(**rule), horizon="5y", gone="death"
        )
        for name, (node, codes, rule) in WORSE.items()
    }
    return read_cohort(spec.model_copy(update={"outcomes": {**spec.outcomes, **worse}}), data)


def make(name: str, outcome: str, members: int, seed: int) -> PrognosisModel | StackedCox:
    if name == "cox":
        return StackedCox(outcomes=[outcome], horizon=5 * YEAR)
    return PrognosisModel(outcomes=[outcome], members=members, seed=seed)


def at_risk(X: Landmarks, outcome: str) -> Landmarks:
    """Those who can be worse."""
    X = X.followed(outcome)
    return X[X.cohort.outcomes[outcome].baseline(X.patient, X.at) < HIGHEST.get(outcome, np.inf)]


def measured(cohort: Cohort, outcome: str) -> np.ndarray:
    """Which rows of the node type hold the value: (row,) bool."""
    known = cohort.outcomes[outcome]
    return known.code[known.events.code] & np.isfinite(known.events.value)


def visits(cohort: Cohort, patients: np.ndarray, outcome: str) -> Landmarks:
    """Every visit at which the value was measured, as known at the end of that day, while at risk."""
    events, rows = cohort.outcomes[outcome].events, measured(cohort, outcome)
    pairs = np.unique(np.stack([events.patient[rows], events.known[rows]], 1), axis=0)
    pairs = pairs[np.isin(pairs[:, 0], patients)]
    return at_risk(Landmarks(cohort, pairs[:, 0], pairs[:, 1]), outcome)


def second_row(X: Landmarks, outcome: str, window: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Which landmarks have a visit in the window, and which of them are worse at one of these visits."""
    known, rows = X.cohort.outcomes[outcome], np.flatnonzero(measured(X.cohort, outcome))
    patient, happened, value = (
        a[rows] for a in (known.events.patient, known.events.happened, known.events.value)
    )
    low, high = (days * YEAR * DAY for days in window)
    seen, worse = np.zeros(len(X), bool), np.zeros(len(X), bool)
    for i, base in enumerate(known.baseline(X.patient, X.at)):
        after = happened - X.at[i]
        here = (patient == X.patient[i]) & (after > low) & (after <= high)
        seen[i], worse[i] = here.any(), known.is_worse(value[here], base).any()
    return seen, worse


def ranked(rows: pl.DataFrame, models: Sequence[str], draws: int = 1000) -> list[str]:
    """The second row of one outcome: AUC of each model, pairs within a fold, patients resampled."""
    lines, first = [], rows.filter(model=models[0])
    for model in models:
        one = rows.filter(model=model)
        fold = (one["repeat"] * 100 + one["fold"]).to_numpy()
        risk, case = one["risk"].to_numpy(), one["worse"].to_numpy()

        def auc(
            weight: np.ndarray, risk: np.ndarray = risk, case: np.ndarray = case, fold: np.ndarray = fold
        ) -> float:
            return metrics.SCORES["auc"](risk, metrics.labelled(case, weight=weight), fold)

        value = auc(np.ones(len(one)))
        low, high = metrics.interval(metrics.bootstrap(auc, one["id"].to_numpy(), n=draws))
        lines.append(f"| {model} | {len(first)} | {case.mean():.3f} | {value:.3f} [{low:.3f}, {high:.3f}] |")
    return lines


def first_row(found: Evaluation, models: Sequence[str]) -> list[str]:
    """The first row of one outcome: means over landmarks."""
    lines = []
    for model in [*models, "gnn-cox"]:
        for row in found.rows:
            wanted = row["metric"] in FIRST and row["landmark"] is None
            if row["model"] == model and row["cause"] == "worse" and wanted and row["value"] is not None:
                within = "" if row["horizon"] is None else f"{row['horizon'] / YEAR:g} y"
                around = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
                lines.append(f"| {model} | {row['metric']} | {within} | {row['value']:.3f}{around} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA / "pbc")
    parser.add_argument("--folds", type=Path, required=True)
    parser.add_argument("--outcome", default=",".join(WORSE))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    study, console = Study(), Console(stderr=True)
    models, outcomes = args.models.split(","), args.outcome.split(",")
    for given, known in ((models, MODELS), (outcomes, tuple(WORSE))):
        if unknown := set(given) - set(known):
            parser.error(f"unknown {sorted(unknown)[0]!r}; there are {', '.join(known)}")
    try:
        cohort = cohort_of(args.data)
        folds = read_folds(args.folds, cohort, repeats=args.repeats)
    except InputError as refusal:
        parser.error(str(refusal))
    horizons = [h * YEAR for h in study.horizons]
    grid = scored_grid(horizons[-1], horizons)
    every = np.arange(0, study.last + 0.01, 0.5) * YEAR
    table = []
    for outcome in outcomes:
        parts, rows, names = [], [], dict[str, None]()
        for fold in folds:
            landmarks = at_risk(cohort.landmarks(fold.train, every), outcome)
            answers: dict[str, Model] = {}
            for name in models:
                began = time.perf_counter()
                model = make(name, outcome, args.members, args.seed).fit(landmarks)
                answers[name] = model
                if isinstance(model, PrognosisModel):
                    answers |= family_models(model.predictor_, outcome)
                took = time.perf_counter() - began
                console.print(f"{outcome} repeat {fold.repeat} fold {fold.fold} {name}: {took:.1f} s")
            sides = fold.train, fold.test
            days = np.array(study.landmarks) * YEAR
            at = [at_risk(cohort.landmarks(some, days), outcome) for some in sides]
            null = fitted_marginal(landmarks, outcome, grid.tolist(), at[0])
            parts.append(({**answers, "null": null}, at[1]))
            X = visits(cohort, fold.test, outcome)
            seen, worse = second_row(X, outcome, study.seen)
            for name, one in answers.items():
                names[name] = None
                risk = one.forecast(X[seen])[outcome].risk("worse", study.seen[1] * YEAR)
                about = {"outcome": outcome, "model": name, "repeat": fold.repeat, "fold": fold.fold}
                frame = pl.DataFrame({**about, "id": fold.ids(X[seen]), "at": X[seen].days})
                rows.append(frame.with_columns(risk=pl.Series(risk), worse=pl.Series(worse[seen])))
        table += rows
        found = evaluate(
            ModelRisks.of(parts, outcome, grid), outcome=outcome, horizons=horizons, cause="worse"
        )
        print(f"\n## {outcome}\n\n| model | landmarks | worse | AUC, seen again (goal {GOALS[outcome]}) |")
        print("\n".join(["|---|---|---|---|", *ranked(pl.concat(rows), list(names))]))
        print("\n| model | figure | within | mean over landmarks |\n|---|---|---|---|")
        print("\n".join(first_row(found, list(names))))
        print("\n".join(["", *(f"- {note}" for note in found.warnings)]))
        pl.concat(table).write_parquet(args.out)


if __name__ == "__main__":
    main()
