"""Who was in the training data? An attack on models of random halves of PBC, with reference models.

Claim: none of safety. What a model folder says in words and counts is of ten patients or more; its weights
are attacked here, and what the attack finds is described. An attack that finds nothing is one attack that
found nothing, with so many patients and models: other attacks may do better.
Last seen: see results/membership.md (command, machine, time and figures).

    python experiments/membership.py --out membership.parquet --table results/membership.md

Each model is fitted on a random half. A patient's log-likelihood under a model is compared with what it is
under the other models: those that were fitted with this patient, and those that were not (Carlini et al.,
Membership inference attacks from first principles, 2022). Some patients are made outliers beforehand: their
values are far from the others', and they die at once.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console

from gnnpatient import PrognosisModel, metrics
from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.cohort.survival import Survival
from gnnpatient.datasets.shipped import pbc
from gnnpatient.files import atomic_file
from gnnpatient.times import DAY

YEAR = 365.25
HORIZON = 5 * YEAR
GRID = np.arange(1, 11) * HORIZON / 10
ALARMS = 0.05  # false ones


def with_outliers(cohort: Cohort, chosen: np.ndarray) -> Cohort:
    """The same, where the chosen have a hundred times the values and die within ten to forty days."""
    death = cohort.survival("death")
    odd = np.isin(np.arange(len(cohort)), chosen)
    events = {
        kind: e if kind == "timepoint" else replace(e, value=np.where(odd[e.patient], e.value * 100, e.value))
        for kind, e in cohort.events.items()
    }
    soon = (10 + np.arange(len(cohort)) % 31) * DAY
    event = np.where(odd, death.causes.index("death") + 1, death.event).astype(np.int8)
    changed = Survival(np.where(odd, soon, death.time), event, death.causes)
    return replace(cohort, events=events, outcomes={"death": changed})


def log_likelihood(model: PrognosisModel, landmarks: Landmarks) -> np.ndarray:
    """Of each patient, the mean over landmarks: of the half-year of the event, or of being free so far."""
    forecast, truth = model.forecast(landmarks)["death"], landmarks.outcome("death")
    time, event = truth["time"].clip(max=HORIZON), np.where(truth["time"] <= HORIZON, truth["event"], 0)
    grid = np.append(0.0, GRID)
    curves = np.stack([forecast.risks(grid, cause) for cause in forecast.causes], 1)
    interval = np.searchsorted(grid, time).clip(1)
    rows, cause = np.arange(len(landmarks)), (event - 1).clip(0)
    happened = curves[rows, cause, interval] - curves[rows, cause, interval - 1]
    free = 1 - curves.sum(1)
    share = (time - grid[interval - 1]) / np.diff(grid)[interval - 1]
    still = free[rows, interval - 1] * (1 - share) + free[rows, interval] * share
    each = np.log(np.where(event > 0, happened, still).clip(1e-6))
    count = np.bincount(landmarks.patient, minlength=len(landmarks.cohort))
    return np.bincount(landmarks.patient, each, minlength=len(landmarks.cohort)) / count.clip(1)


def attack(said: np.ndarray, member: np.ndarray) -> np.ndarray:
    """How much rather each (model, patient) is one of a member: by the normal distributions of the other
    models' log-likelihoods, with and without this patient, of a spread common to all patients.
    """
    score = np.zeros(said.shape)
    for target in range(len(said)):
        others = np.arange(len(said)) != target
        found = []
        for inside in (member[others], ~member[others]):
            count = inside.sum(0).clip(1)
            mean = (said[others] * inside).sum(0) / count
            spread = ((said[others] - mean) ** 2 * inside).sum(0) / count
            found.append((mean, 0.5 * spread + 0.5 * np.median(spread) + 1e-9))
        (mean, var), (mean_out, var_out) = found
        score[target] = (said[target] - mean_out) ** 2 / var_out - (said[target] - mean) ** 2 / var
        score[target] += np.log(var_out / var)
    return score


def figures(
    score: np.ndarray, member: np.ndarray, who: np.ndarray, draws: int, seed: int
) -> dict[str, float]:
    """AUC of the attack on these patients and its true alarms at 5 % false ones, with 95 % intervals."""
    flat, inside = score[:, who].ravel(), member[:, who].ravel()
    patient = np.broadcast_to(who, (len(score), len(who))).ravel()

    def both(weight: np.ndarray) -> tuple[float, float]:
        order = np.argsort(-flat, kind="stable")
        hit, alarm = (np.cumsum((weight * side)[order]) for side in (inside, ~inside))
        hit, alarm = hit / hit[-1], alarm / alarm[-1]
        return float(np.trapezoid(hit, alarm)), float(np.interp(ALARMS, alarm, hit))

    value = both(np.ones(len(flat)))
    low, high = metrics.interval(metrics.bootstrap(both, patient, n=draws, seed=seed))
    found = {"auc": value[0], "auc low": low[0], "auc high": high[0]}
    return found | {"hits": value[1], "hits low": low[1], "hits high": high[1]}


def page(found: pl.DataFrame, args: argparse.Namespace, minutes: float) -> str:
    import torch

    lines = [
        "# membership: an attack with reference models",
        "",
        f"    {shlex.join(['python', 'experiments/membership.py', *sys.argv[1:]])}",
        "",
        f"{os.cpu_count()} cores, one thread, Python {platform.python_version()}, torch {torch.__version__}; "
        f"{minutes:.0f} minutes.",
        f"{args.models} models, each of a random half of PBC: {args.members} member, {args.epochs} epochs.",
        "AUC of telling training patients from the others (.5: no better than a coin) and the share of them",
        f"that is told at 5 % false alarms ({ALARMS:.2f}: no better). Brackets: 95 % over draws of patients,",
        "the fitted models held fixed. `answers` is an attack by the loss alone, without reference models.",
        "",
        "| min_patients | patients | attack | AUC | told at 5 % false alarms |",
        "|---:|---|---|---|---|",
    ]
    for one in found.iter_rows(named=True):
        auc = f"{one['auc']:.3f} [{one['auc low']:.3f}, {one['auc high']:.3f}]"
        hits = f"{one['hits']:.3f} [{one['hits low']:.3f}, {one['hits high']:.3f}]"
        who = f"{one['n']} {one['who']}"
        lines.append(f"| {one['min_patients']} | {who} | {one['attack']} | {auc} | {hits} |")
    return "\n".join(lines) + "\n" + CONCLUSION


CONCLUSION = """
This is what these attacks find with as many models of this size. Where an interval lies above the value of a
coin the model tells of its training patients; where it holds that value no attack was found, which is no
proof that there is none, and makes no model private.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--least", default="10,1", help="values of min_patients")
    parser.add_argument("--models", type=int, default=24, help="refits on random halves, for each of them")
    parser.add_argument("--outliers", type=int, default=16)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="parquet, a row a setting and group")
    parser.add_argument("--table", type=Path, help="the same as a page")
    args = parser.parse_args()
    console, start, rng = Console(stderr=True), time.monotonic(), np.random.default_rng(args.seed)
    whole = pbc()
    odd = rng.permutation(len(whole))[: args.outliers]
    cohort = with_outliers(whole, odd)
    landmarks = cohort.landmarks(times=[0.0, YEAR, 3 * YEAR]).followed("death")
    halves = np.array(
        [np.isin(np.arange(len(cohort)), rng.permutation(len(cohort))[::2]) for _ in range(args.models)]
    )
    groups = {"outliers": np.sort(odd), "others": np.setdiff1d(np.unique(landmarks.patient), odd)}
    rows = []
    for least in map(int, args.least.split(",")):
        said = []
        for i, inside in enumerate(halves):
            model = PrognosisModel(
                outcomes=["death"],
                horizon=HORIZON,
                members=args.members,
                epochs=args.epochs,
                min_patients=least,
                seed=i,
            ).fit(landmarks[inside[landmarks.patient]])
            said.append(log_likelihood(model, landmarks))
            console.print(f"min_patients {least}: model {i + 1} of {args.models}")
        table = np.array(said)
        for name, score in (("reference models", attack(table, halves)), ("answers", table)):
            for who, patients in groups.items():
                about = {"min_patients": least, "who": who, "n": len(patients), "attack": name}
                rows.append(about | figures(score, halves, patients, args.draws, args.seed))
        found = pl.DataFrame(rows)
        with atomic_file(args.out) as part:
            found.write_parquet(part)
        if args.table:
            with atomic_file(args.table) as part:
                part.write_text(page(found, args, (time.monotonic() - start) / 60), encoding="utf-8")


if __name__ == "__main__":
    main()
