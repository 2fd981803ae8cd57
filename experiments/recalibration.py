"""Does it help to recalibrate the stacked answer of a diagnosis on the forecasts that it is learned from?

Claim: no. On six outcomes at hand a recalibration that must lower the log loss out of fold by more than two
standard errors is kept in 2 of 30 fits, both of an outcome of 89 patients, and it makes those worse. So `fit`
has none.
Last seen: see results/recalibration.md (command, machine, time and figures).

    python experiments/recalibration.py --data DATA --out results/recalibration.md

DATA holds icu-timeseries/, support2/ and covid-cxr/; PBC comes with the library. Of each outer fold the
families are fitted and stacked on the others as always. What each member says of the patients that it held
out, mixed by the weights of the stack, is recalibrated by an intercept a class and one slope (of two classes
the logistic one; Van Hoorde et al. 2014), fitted on those patients alone: nobody who is scored is among them.
The rule: fitted on four of five parts of the patients and scored on the fifth, in turn, the mean gain in log
loss a patient must exceed two standard errors.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
from rich.console import Console

from gnnpatient import PrognosisModel, read_cohort, read_spec
from gnnpatient.cohort.build import build_graphs
from gnnpatient.cohort.cohort import Cohort
from gnnpatient.cohort.splits import StratifiedPatientKFold
from gnnpatient.datasets.shipped import DATA
from gnnpatient.files import atomic_file
from gnnpatient.prognosis import estimator
from gnnpatient.prognosis.fit import _out_of_fold, fit_stacks
from gnnpatient.prognosis.predictor import probabilities
from gnnpatient.study.updating import ClassUpdate, fit_class_update

PARTS, CLEAR, LEAST = 5, 2.0, 10
HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Study:
    """One outcome, and when it is asked."""

    spec: str  # of the library, or a file here
    folder: str  # of DATA; "" = comes with the library
    outcome: str
    added: str = ""  # the outcome, where the spec does not have it
    without: tuple[str, ...] = ()  # node types
    at: float | str = "entry"
    prepared: str = ""  # a script of graphs/ that makes the tables


STUDIES = {
    "icu mortality": Study(
        spec=str(HERE / "icu-mortality.toml"),
        folder="icu-timeseries/mortality24/eicu_demo",
        outcome="mortality",
        at=1.0,
    ),
    "support2 death in hospital": Study(
        spec="support2",
        folder="support2",
        outcome="hospital",
        added='kind = "diagnosis"\ntable = "support2.csv"\ncolumn = "hospdead"',
    ),
    "support2 function at 2 months (5 ordered)": Study(
        spec="support2",
        folder="support2",
        outcome="function",
        added='kind = "diagnosis"\ntable = "support2.csv"\ncolumn = "sfdm2"\n'
        'ordered = ["no(M2 and SIP pres)", "adl>=4 (>=5 if sur)", "SIP>=30", "Coma or Intub", '
        '"<2 mo. follow-up"]',
    ),
    "pbc stage (4 ordered)": Study(
        spec="pbc",
        folder="",
        outcome="stage",
        added='kind = "diagnosis"\ntable = "pbcseq.csv"\ncolumn = "first_stage"\n'
        'ordered = ["1", "2", "3", "4"]',
        without=("stage",),
    ),
    "covid death": Study(
        spec="covid-cxr", folder="covid-cxr", outcome="death", without=("image",), prepared="covid-cxr"
    ),
    "covid intensive care": Study(
        spec="covid-cxr",
        folder="covid-cxr",
        outcome="icu_contaminated",
        without=("image",),
        prepared="covid-cxr",
    ),
}


def read(study: Study, data: Path) -> Cohort:
    """The cohort with the one outcome."""
    folder = data / study.folder if study.folder else DATA / "pbc"
    spec = read_spec(study.spec)
    with tempfile.TemporaryDirectory() as made:
        if study.prepared:
            script = HERE.parent / "graphs" / f"{study.prepared}.prepare.py"
            subprocess.run(
                [sys.executable, script, folder, "--out", f"{made}/tables"], check=True, capture_output=True
            )
            folder = Path(made) / "tables"
        if study.outcome == "stage":  # that of the first visit
            rows = pl.read_csv(folder / "pbcseq.csv", infer_schema=False)
            first = rows.group_by("id", maintain_order=True).agg(first_stage=pl.col("stage").first())
            folder = Path(made)
            rows.join(first, on="id").write_csv(folder / "pbcseq.csv")
        raw = spec.model_dump(exclude_defaults=True, by_alias=True, mode="json")
        raw["nodes"] = {
            name: node for name, node in raw.get("nodes", {}).items() if name not in study.without
        }
        if study.added:
            raw["outcomes"] = {study.outcome: tomllib.loads(study.added)}
        else:
            raw["outcomes"] = {study.outcome: raw["outcomes"][study.outcome]}
        return read_cohort(type(spec).model_validate(raw), folder)


def out_of_fold(problem: Any, families: Any, stack: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the landmarks, and the stacked answer to each by the members that had held it out."""
    rows, found = _out_of_fold(problem), []
    for member, mine in enumerate(rows):
        graphs = build_graphs(problem.landmarks[mine])
        mixed = np.zeros((len(mine), *problem.heads[name].shape))
        share = np.bincount(
            problem.targets[name].label[problem.train(member)].clip(0), minlength=mixed.shape[1]
        )
        for family, weight in stack.weights.items():
            if family == "marginal":
                mixed += weight * share / share.sum()
            elif weight:
                answer = families[family].forecast(graphs, [member])[name]
                mixed += weight * probabilities(answer, problem.heads[name])[0]
        found.append(mixed)
    return np.concatenate(rows), np.concatenate(found)


def recalibration(
    p: np.ndarray, label: np.ndarray, patient: np.ndarray, seed: int
) -> tuple[ClassUpdate, bool, float]:
    """Fitted on all of them; whether the rule keeps it; and its gain a patient in standard errors."""
    weight = 1 / np.bincount(patient)[patient]

    def fitted(rows: np.ndarray) -> ClassUpdate:
        own = [len(np.unique(patient[rows & (label == k)])) >= LEAST for k in range(p.shape[1])]
        return fit_class_update("slope", p[rows], label[rows], weight[rows], np.array(own))

    every, at = np.unique(patient, return_inverse=True)
    part = np.random.default_rng(seed).permutation(len(every))[at] % PARTS
    gain = np.zeros(len(p))
    for k in range(PARTS):
        new, rows = fitted(part != k)(p[part == k]), np.flatnonzero(part == k)
        gain[rows] = np.log(new[np.arange(len(rows)), label[rows]] / p[rows, label[rows]])
    each = np.bincount(at, gain * weight)
    error = each.std() / np.sqrt(len(each))
    return fitted(np.ones(len(p), bool)), bool(each.mean() > CLEAR * error), float(each.mean() / error)


def one(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Log loss and Brier score of held-out patients, as they are and recalibrated."""
    study = STUDIES[name]
    cohort = read(study, args.data)
    X = cohort.landmarks(times=[study.at]).followed(study.outcome)
    X = X[X.outcome(study.outcome)["label"] >= 0]
    if len(X) > args.patients:
        X = X[np.sort(np.random.default_rng(args.seed).permutation(len(X))[: args.patients])]
    label = X.outcome(study.outcome)["label"].astype(int)
    said, always, ruled = (np.zeros((len(X), len(cohort.outcomes[study.outcome].names))) for _ in range(3))
    kept, gains, slopes = 0, [], []
    for train, test in StratifiedPatientKFold(args.folds, seed=args.seed).split(X, label, X.groups):
        seen: dict[str, Any] = {}

        def stacked(problem: Any, families: Any, seen: dict[str, Any] = seen) -> Any:
            stacks = fit_stacks(problem, families)
            rows, p = out_of_fold(problem, families, stacks[study.outcome], study.outcome)
            seen["fitted"] = p, problem.targets[study.outcome].label[rows], problem.landmarks.patient[rows]
            return stacks

        with mock.patch.object(estimator, "fit_stacks", stacked):
            model = PrognosisModel(outcomes=[study.outcome], families=args.families, seed=args.seed).fit(
                X[train]
            )
        update, keep, z = recalibration(*seen["fitted"], args.seed)
        said[test] = model.forecast(X[test])[study.outcome].probability
        always[test] = update(said[test])
        ruled[test] = always[test] if keep else said[test]
        kept, gains, slopes = kept + keep, [*gains, z], [*slopes, update.slope]
    rows, truth = np.arange(len(X)), np.eye(said.shape[1])[label]
    loss, square = (
        {k: f(p) for k, p in (("as is", said), ("always", always), ("rule", ruled))}
        for f in (
            lambda p: -np.log(p[rows, label].clip(1e-12)),
            lambda p: np.square(p - truth).sum(1),
        )
    )
    found: dict[str, Any] = {
        "outcome": name,
        "patients": len(X),
        "rarest": int(np.bincount(label).min()),
        "kept": kept,
    }
    found |= {
        "slope": float(np.mean(slopes)),
        "z": float(np.mean(gains)),
        "loss": float(loss["as is"].mean()),
    }
    for of, each in (("loss", loss), ("square", square)):
        for way in ("always", "rule"):
            d = each[way] - each["as is"]
            found |= {f"{of} {way}": float(d.mean()), f"{of} {way} se": float(d.std() / np.sqrt(len(d)))}
    return found


def page(found: list[dict[str, Any]], args: argparse.Namespace, minutes: float) -> str:
    """The figures as a page."""
    import torch

    lines = [
        "# recalibration: of the stacked answer of a diagnosis, on forecasts out of fold",
        "",
        f"    {shlex.join(['python', 'experiments/recalibration.py', *sys.argv[1:]])}",
        "",
        f"{os.cpu_count()} cores, one thread, Python {platform.python_version()}, torch {torch.__version__}; "
        f"{minutes:.0f} minutes. {args.folds} outer folds, families {', '.join(args.families)}, 5 members;",
        "development figures. Differences are recalibrated minus as it is, of held-out patients: below 0 is",
        "better; +- 1.96 standard errors over patients, the fitted models held fixed. Kept: outer folds in",
        "which the rule keeps it. Slope: mean over folds; z: the mean gain out of fold in standard errors.",
        "",
        "| outcome | patients (rarest class) | slope | z | kept | log loss | always | by the rule | Brier |",
        "|---|---:|---:|---:|---:|---:|---|---|---|",
    ]
    for row in found:
        spans = [
            f"{row[k]:+.4f} +- {1.96 * row[f'{k} se']:.4f}"
            for k in ("loss always", "loss rule", "square rule")
        ]
        lines.append(
            f"| {row['outcome']} | {row['patients']} ({row['rarest']}) | {row['slope']:.2f} "
            f"| {row['z']:+.1f} | {row['kept']} of {args.folds} | {row['loss']:.4f} | {' | '.join(spans)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--outcomes", default=",".join(STUDIES))
    parser.add_argument("--families", type=lambda text: text.split(","), default=["linear", "boosted"])
    parser.add_argument("--patients", type=int, default=3000, help="sampled of each outcome, at most")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="a page")
    args = parser.parse_args()
    console, start, found = Console(stderr=True), time.monotonic(), list[dict[str, Any]]()
    for name in args.outcomes.split(","):
        found.append(one(name, args))
        console.print(found[-1])
        with atomic_file(args.out) as part:
            part.write_text(page(found, args, (time.monotonic() - start) / 60), encoding="utf-8")


if __name__ == "__main__":
    main()
