"""How often calibrated answers hold: values and times of patients whom no fit has seen.

Claim: the .9 interval of a value holds .885 to .915 of the values of 4 000 patients of the simulated clinic,
and >= .87 of the systolic pressures of Framingham; the .9 bound on the event-free time holds about as often.
On PBC the figures are printed. Marginal promise of CV+ at .9: .8. Of the clinic the coverage of times is
exact (nobody is lost to the truth); elsewhere it is weighted for censoring.
Last seen: see results/uncertainty.md (command, machine, time and figures).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from rich.console import Console

from gnnpatient import InputError, PrognosisModel, read_cohort
from gnnpatient.cohort.cohort import Cohort, join_landmarks
from gnnpatient.cohort.splits import PatientKFold
from gnnpatient.datasets.clinic import ClinicTruth, write_clinic
from gnnpatient.datasets.shipped import pbc
from gnnpatient.study.coverage import coverage_rows
from gnnpatient.study.scoreboard import ModelRisks, ObservedOutcome

YEAR = 365.25
HELD_OUT = 4000  # of the clinic
OUTCOMES = {  # cohort -> a value or None, a time, years after the landmark, landmarks, landmarks of training
    "clinic": ("level", "death", 1.0, (0.0, 1.0, 2.0, 3.0), 8),
    "framingham": ("sysbp", "death", 6.0, (0.0, 6.0), 3),
    "pbc": (None, "death", 1.0, (0.0, 1.0, 3.0, 5.0), 16),
}


def sides(name: str, patients: int, data: Path | None, seed: int) -> Iterator[tuple]:
    """Cohort, training patients, held-out patients, and what is true where that is known."""
    if name == "clinic":
        with TemporaryDirectory() as folder:
            truth = write_clinic(Path(folder) / "data", patients + HELD_OUT, seed=seed)
            cohort = read_cohort("clinic", Path(folder) / "data")
        every = np.arange(patients + HELD_OUT)
        yield cohort, every[:patients], every[patients:], truth
        return
    if name == "framingham" and data is None:
        raise InputError("framingham needs --data DIR, a folder with framingham/")
    cohort = pbc() if name == "pbc" else read_cohort("framingham", data / "framingham")
    if name == "pbc":
        for train, test in PatientKFold(2, seed=seed).split(cohort.entries()):
            yield cohort, train, test, None
        return
    order = np.random.default_rng(seed).permutation(len(cohort))
    yield cohort, np.sort(order[:patients]), np.sort(order[patients:]), None


def rows_of(
    name: str, patients: int, families: Sequence[str], data: Path | None, seed: int
) -> Iterator[dict[str, object]]:
    value, event, ahead, landmarks, drawn = OUTCOMES[name]
    for fold, (cohort, train, test, truth) in enumerate(sides(name, patients, data, seed)):
        whole = cohort.landmarks(train, n=drawn, seed=seed) if name != "framingham" else exams(cohort, train)
        outcomes = [one for one in (value, event) if one is not None]
        model = PrognosisModel(outcomes=outcomes, families=tuple(families), seed=seed)
        model.fit(whole[np.logical_or.reduce([whole.at_risk(one) for one in outcomes])])
        for outcome in outcomes:
            to = ahead if outcome == value else None
            X = asked(cohort, test, landmarks, to).followed(outcome)
            scored = ModelRisks.of([({"gnn": model}, X)], outcome, [] if to else [365.0])
            for row in coverage_rows(scored, ObservedOutcome.of(X, outcome), n=200):
                about = {
                    "cohort": name,
                    "fold": fold,
                    "outcome": outcome,
                    "train": len(np.unique(whole.patient)),
                }
                exact = exactly(model, cohort, truth, test, row) if outcome == event else None
                yield {**about, **row, "exact": exact}


def exams(cohort: Cohort, patients: np.ndarray):
    """Each exam of the training patients."""
    events = cohort.events["exam"]
    rows = np.flatnonzero(np.isin(events.patient, patients))
    pairs = np.unique(np.stack([events.patient[rows], events.known[rows]], 1), axis=0)
    return cohort.at(pairs[:, 1] / 86_400, patient=pairs[:, 0])


def asked(cohort: Cohort, patients: np.ndarray, landmarks: Sequence[float], ahead: float | None):
    parts = []
    for year in landmarks:
        to = None if ahead is None else (year + ahead) * YEAR
        parts.append(cohort.at(year * YEAR, patient=patients, to=to))
    return join_landmarks(*parts)


def exactly(model, cohort: Cohort, truth: ClinicTruth | None, patients: np.ndarray, row) -> float | None:
    """The share whose true event-free time reaches the bound."""
    if truth is None or row["landmark"] is None:
        return None
    X = cohort.at(row["landmark"], patient=patients).followed("death")
    bound = model.forecast(X)["death"].time_bound()
    return float(np.mean((truth.death[X.patient] - row["landmark"] >= bound)[np.isfinite(bound)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", choices=list(OUTCOMES), default="clinic")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--patients", type=int, default=600, help="training patients")
    parser.add_argument("--families", default="linear,boosted,graph")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    start, out = time.monotonic(), Console(width=160)
    try:
        found = pl.DataFrame(
            list(rows_of(args.cohort, args.patients, args.families.split(","), args.data, args.seed)),
            infer_schema_length=None,
        )
    except InputError as refusal:
        raise SystemExit(f"uncertainty: {refusal}") from None
    for row in found.iter_rows(named=True):
        at = "mean" if row["landmark"] is None else f"{row['landmark'] / YEAR:.0f} y"
        exact = "" if row["exact"] is None else f", exact {row['exact']:.3f}"
        around = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
        holds = "-" if row["value"] is None else f"{row['value']:.3f}{around}"
        out.print(
            f"{row['cohort']} {row['fold']} {row['outcome']} {row['what']} at {at}: {holds}{exact}, "
            f"n {row['patients']}, size {row['size']:.4g}, train {row['train']}"
        )
    if args.out is not None:
        found.write_parquet(args.out)
    out.print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
