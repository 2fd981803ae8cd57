"""How far towards the truth: all node types of a ward beside the best one, its comparators and the oracle.

Claim: with nothing missing, the graph goes most of the way in C from the best unimodal model to the truth.
Last seen: see results/ward.md (command, machine, time and figures).

    python experiments/ward.py --seeds 100,101 --folds 2 --out ward.parquet --table results/ward.md

Death within 30 days, asked on day 5, discharge competing; C within folds. `truth X` is what the rows of one
node type tell for certain, `truth` what all do. `told boosted` are trees that are handed the true parts and the
product (METHODS 21): how much of the truth can be learned from so many patients at all.
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

import numpy as np
import polars as pl
from rich.console import Console

from gnnpatient import Cohort, Landmarks, PatientKFold, PrognosisModel, read_cohort, read_spec
from gnnpatient.datasets.ward import SimulatedTruth, write_ward
from gnnpatient.datasets.ward.hazards import INFORMATIVE
from gnnpatient.files import atomic_file
from gnnpatient.metrics import at_horizon, concordance
from gnnpatient.prognosis.problem import FitConfig
from gnnpatient.study.ablations import Comparator, LateFusion, RestrictedModel, comparators, modalities_of
from gnnpatient.study.fitted import family_models
from gnnpatient.study.scoreboard import Model

DAY, HORIZON, TIMES = 5.0, 30.0, (2, 3, 4, 5, 6, 7, 8, 10)
DEATH = 2  # position of the cause, from 1


def make(folder: Path, n: int, seed: int, missing: float) -> tuple[Cohort, SimulatedTruth]:
    """The cohort and what is true of it; images and texts by the encoders that need no weights."""
    truth = write_ward(folder / "tables", n, seed, missing)
    return read_cohort(read_spec("ward"), folder / "tables"), truth


def boosted(train: Landmarks, test: Landmarks, truth: SimulatedTruth) -> np.ndarray:
    """Trees on the true growth, finding, age, drug, high lactate, and the product of the last two."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    def parts(landmarks: Landmarks) -> np.ndarray:
        who = landmarks.patient
        drug, high = truth.drug[who, landmarks.days.astype(int)], truth.high[who]
        return np.stack([truth.growth[who], truth.finding[who], truth.age[who], drug, high, drug * high], 1)

    outcome = train.outcome("death")
    known = at_horizon(outcome["time"], outcome["event"].astype(np.int64), HORIZON, cause=DEATH)
    assert known is not None
    trees = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.05, max_leaf_nodes=8, random_state=0)
    trees.fit(parts(train), known.case, sample_weight=known.share)
    return trees.predict_proba(parts(test))[:, 1]


def risks(
    cohort: Cohort, truth: SimulatedTruth, train: np.ndarray, test: Landmarks, members: int, epochs: int
) -> dict[str, np.ndarray]:
    """The risk that each model gives to the landmarks of `test`, fitted on the patients `train`."""
    X = cohort.landmarks(train, times=TIMES).followed("death")
    every = comparators(cohort, modalities_of(cohort))
    single = [f"only {kind}" for kind in modalities_of(cohort)]

    def fit(one: Comparator) -> RestrictedModel:
        dropout = 0.0 if len(one.kinds) < 2 else None
        budget = {"members": members, "epochs": epochs, "kind_dropout": dropout, **one.choices}
        model = PrognosisModel(outcomes=["death"], horizon=HORIZON, **budget)
        return RestrictedModel(model.fit(one.landmarks(X)), one.cohort)

    models = {name: fit(every[name]) for name in ("gnn", *single)}
    said: dict[str, Model] = {**models, "late": LateFusion(tuple(models[name] for name in single))}
    said |= family_models(models["gnn"].model.predictor_, "death")
    out = {name: model.forecast(test)["death"].risk("death", HORIZON) for name, model in said.items()}
    out["told boosted"] = boosted(X, test, truth)
    out["truth"] = truth.risk(test.patient, DAY, HORIZON)
    for kind in INFORMATIVE:
        out[f"truth {kind}"] = truth.risk(test.patient, DAY, HORIZON, given=[kind])
    return out


def one_seed(n: int, seed: int, missing: float, folds: int, members: int, epochs: int) -> dict[str, float]:
    """C of each model over `folds` of five folds of one ward."""
    with tempfile.TemporaryDirectory() as folder:
        cohort, truth = make(Path(folder), n, seed, missing)
    landmarks = cohort.at(DAY).followed("death")
    parts, found = [], []
    for fold, (_, test) in enumerate(PatientKFold(5, seed=seed).split(landmarks, groups=landmarks.patient)):
        if fold < folds:
            held = landmarks[test]
            left = np.setdiff1d(np.arange(len(cohort.ids)), held.patient)
            found.append(risks(cohort, truth, left, held, members, epochs))
            parts.append(np.full(len(test), fold))
            outcome = held.outcome("death")
            found[-1] |= {"time": outcome["time"], "event": outcome["event"].astype(np.int64)}
    whole = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    when, event, fold = whole.pop("time"), whole.pop("event"), np.concatenate(parts)
    return {
        name: concordance(risk, when, event, HORIZON, cause=DEATH, fold=fold) for name, risk in whole.items()
    }


def page(found: pl.DataFrame, minutes: float) -> str:
    """Every seed, and the mean; how far each goes from the best unimodal model to the truth."""
    import torch

    names = [name for name in found.columns if name != "seed"]
    best = found.select(pl.max_horizontal(pl.col("^only .*$")).alias("c"))["c"].to_numpy()
    told = found.select(pl.max_horizontal(pl.col("^truth .+$")).alias("c"))["c"].to_numpy()
    top = found["truth"].to_numpy()
    lines = [
        f"# ward: seeds {', '.join(map(str, found['seed']))}",
        "",
        f"    {shlex.join(['python', 'experiments/ward.py', *sys.argv[1:]])}",
        "",
        f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}; "
        f"{minutes:.0f} minutes.",
        "C of death within 30 days, asked on day 5. The way goes from the best unimodal model to the truth:",
        "of the fitted ones that with the highest C on the scored patients, or the one that tells most.",
        "",
        "| model | mean C | least | most | way from best fitted unimodal | way from best known unimodal |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in names:
        c = found[name].to_numpy()
        ways = [float(np.mean(c - low) / np.mean(top - low)) for low in (best, told)]
        lines.append(
            f"| {name} | {c.mean():.4f} | {c.min():.4f} | {c.max():.4f} | {ways[0]:.0%} | {ways[1]:.0%} |"
        )
    lines += ["", "| seed | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for row in found.iter_rows(named=True):
        lines.append(f"| {row['seed']} | " + " | ".join(f"{row[name]:.3f}" for name in names) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="100", help="of the wards, with commas between")
    parser.add_argument("--patients", type=int, default=2000)
    parser.add_argument("--missing", type=float, default=0.0)
    parser.add_argument("--folds", type=int, default=5, help="how many of the five are fitted and scored")
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=FitConfig.epochs)
    parser.add_argument("--out", type=Path, required=True, help="parquet, a row a seed")
    parser.add_argument("--table", type=Path, help="the same as a page")
    args = parser.parse_args()
    console, start, rows = Console(), time.monotonic(), []
    for seed in map(int, args.seeds.split(",")):
        c = one_seed(args.patients, seed, args.missing, args.folds, args.members, args.epochs)
        rows.append({"seed": seed, **c})
        console.print(f"{seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in c.items()))
        frame = pl.DataFrame(rows)
        with atomic_file(args.out) as part:
            frame.write_parquet(part)
        if args.table:
            with atomic_file(args.table) as part:
                part.write_text(page(frame, (time.monotonic() - start) / 60), encoding="utf-8")


if __name__ == "__main__":
    main()
