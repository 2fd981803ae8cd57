"""Death with transplant competing on PBC, asked 1, 3 and 5 years after entry.

Claim: the default model over all visits forecasts better than the strongest simple comparator, a Cox model
on last observations stacked over landmarks, by the integrated Brier score, and clearly better than itself
without any event node. `nograph`, `graph`, `linear` and `boosted` are answers of one fit with `gnn`.
Last seen: see results/pbc_landmark.md (command, machine, time and figures).
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console

from gnnpatient import InputError, PrognosisModel, read_cohort, read_spec
from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.datasets.shipped import DATA
from gnnpatient.study.baselines import StackedCox
from gnnpatient.study.fitted import family_models
from gnnpatient.study.folds import read_folds
from gnnpatient.study.joint import JointModel
from gnnpatient.study.scoreboard import Model

YEAR = 365.25
GRID = np.arange(0.5, 5.01, 0.5)  # years after the landmark
MODELS = ("gnn", "statics", "cox")


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is compared."""

    landmarks: tuple[float, ...] = (1.0, 3.0, 5.0)  # years
    last: float = 7.0  # years: training landmarks are drawn from entry up to here
    horizon: float = 5.5  # years
    outcome: str = "death"
    cause: str = "death"


def train_asks(cohort: Cohort, patients: np.ndarray, study: Study) -> Landmarks:
    """Half-yearly landmarks of the training patients, from entry on."""
    times = np.arange(0, study.last + 0.01, 0.25) * YEAR
    return cohort.landmarks(patients, times).followed(study.outcome)


def make(model: str, study: Study, seed: int) -> PrognosisModel | StackedCox | JointModel:
    horizon = study.horizon * YEAR
    if model == "cox":
        return StackedCox(outcomes=[study.outcome], horizon=horizon)
    if model == "joint":  # of log bilirubin
        return JointModel(outcomes=[study.outcome], code="bili", horizon=horizon, seed=seed)
    kinds = () if model == "statics" else None
    return PrognosisModel(outcomes=[study.outcome], kinds=kinds, horizon=horizon, seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA / "pbc")
    parser.add_argument("--folds", type=Path, required=True)
    parser.add_argument("--models", default=",".join(MODELS), help="joint, too")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    study, console = Study(), Console(stderr=True)
    models = args.models.split(",")
    if unknown := set(models) - {*MODELS, "joint"}:
        parser.error(f"unknown model {sorted(unknown)[0]!r}; there are {', '.join(MODELS)}, joint")
    try:
        cohort = read_cohort(read_spec("pbc"), args.data)
        folds = read_folds(args.folds, cohort, repeats=args.repeats)
    except InputError as refusal:
        parser.error(str(refusal))
    rows = []
    for fold in folds:
        landmarks = train_asks(cohort, fold.train, study)
        for name in models:
            began = time.perf_counter()
            model = make(name, study, args.seed).fit(landmarks)
            answers: dict[str, Model] = {name: model}
            if isinstance(model, PrognosisModel) and name == "gnn":
                answers |= family_models(model.predictor_, study.outcome)
            for landmark, (answer, one) in itertools.product(study.landmarks, answers.items()):
                test = cohort.at(landmark * YEAR, patient=fold.test).followed(study.outcome)
                risk = one.forecast(test)[study.outcome].risks(GRID * YEAR, study.cause)
                about = {"model": answer, "repeat": fold.repeat, "fold": fold.fold, "landmark": landmark}
                frame = pl.DataFrame({**about, "id": fold.ids(test)})
                columns = {f"risk_{h:g}": pl.Series(risk[:, i]) for i, h in enumerate(GRID)}
                rows.append(frame.with_columns(**columns))
            took = time.perf_counter() - began
            console.print(
                f"repeat {fold.repeat} fold {fold.fold} {name}: {len(landmarks)} landmarks, {took:.1f} s"
            )
    pl.concat(rows).write_parquet(args.out)


if __name__ == "__main__":
    main()
