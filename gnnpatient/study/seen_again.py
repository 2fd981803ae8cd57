"""The second row of a worsening: who of those seen again is worse, and who is not seen again.

The first row, of all patients, counts who is gone or not seen as not worse. Among those who came back alone a
model is easily flattered: who does not come back is often the one who is worst off. So it never stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gnnpatient import metrics
from gnnpatient.cohort.worsening import Worsening
from gnnpatient.study.intervals import bootstrap_interval, resampling_units
from gnnpatient.study.scoreboard import MIN_CASES, ModelRisks
from gnnpatient.times import duration


def seen_again(
    scored: ModelRisks, outcome: str, horizons: Sequence[float], *, n: int = 200, seed: int = 0
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rank those who are seen again within a horizon by their risk of being worse.

    A case was shown worse at a visit by the horizon; the others had a visit by then and none was worse.

    Parameters
    ----------
    scored : ModelRisks
        Landmarks with the risks of each model.
    outcome : str
        Name of an outcome with `worse`.
    horizons : sequence of float
        Days after the landmark, among the times of `scored`.
    n : int, default 200
        Bootstrap draws of patients or groups; the fitted models are held fixed.
    seed : int, default 0
        Of the draws.

    Returns
    -------
    rows : list of dict
        As those of an `Evaluation`, with the metric "auc_seen", of each landmark and model. Pairs are within
        a fold. None where fewer than 5 patients are cases, or others.
    notes : list of str
        What the first row counts; then a sentence a landmark and horizon: how many were seen again, and what
        became of the others.
    """
    landmarks, rows = scored.landmarks, list[dict[str, Any]]()
    notes = [
        "worse is forecast for when it happens, which may be before a visit or unseen; here it counts at the "
        "visit that shows it, so observed/expected below 1 is no fault"
    ]
    known = landmarks.cohort.outcomes[outcome]
    assert isinstance(known, Worsening)
    units, unit_name = resampling_units(landmarks)
    truth = landmarks.outcome(outcome)
    cause, *gone = known.causes
    for day, at in landmarks.by_landmark.items():
        for horizon in horizons:
            here = truth[at]
            seen = here["seen"] <= horizon
            case = (here["event"] == 1) & (here["time"] <= horizon)
            rest = here[~seen]
            ended = {
                name: int(((rest["event"] == k) & (rest["time"] <= horizon)).sum())
                for k, name in enumerate(gone, 2)
            }
            ended["not seen"] = int((~seen).sum()) - sum(ended.values())
            shares = ", ".join(f"{name} {count / len(here):.0%}" for name, count in ended.items())
            notes.append(
                f"auc_seen at {day:g} d is of the {int(seen.sum())} of {len(here)} landmarks seen again "
                f"within {duration(horizon)}; the others: {shares}"
            )
            again = at[seen]
            column = int(np.abs(scored.times - horizon).argmin())
            for model, risks in scored.risks.items():
                risk = risks[cause][again, column]
                value, draws = _auc(
                    risk, case[seen], scored.fold[again], landmarks.patient[again], units[again], n, seed
                )
                rows.append(
                    {"model": model, "landmark": day, "horizon": float(horizon), "cause": cause}
                    | {"metric": "auc_seen", "value": float(value) if np.isfinite(value) else None}
                    | bootstrap_interval(value, draws, units[again], unit_name)
                    | {"group": None, "censoring": "km"}
                )
    return rows, notes


def _auc(
    risk: np.ndarray,
    case: np.ndarray,
    fold: np.ndarray,
    patient: np.ndarray,
    unit: np.ndarray,
    n: int,
    seed: int,
) -> tuple[float, np.ndarray]:
    """The AUC, and that of each draw; nan with fewer than 5 patients among the cases or the others."""

    def score(weight: np.ndarray) -> float:
        at = metrics.labelled(case, weight=weight, patient=patient)
        return metrics.SCORES["auc"](risk, at, fold) if at.fewest >= MIN_CASES else np.nan

    return score(np.ones(len(risk), np.int64)), metrics.bootstrap(score, unit, n=n, seed=seed)
