"""The further rows of a worsening: who of those seen again is worse, and what visits show of when it came.

The first row, of all patients, counts who is gone or not seen as not worse. Among those who came back alone a
model is easily flattered: who does not come back is often the one who is worst off. So it never stands alone.

A forecast of when it becomes worse cannot be held against the visit that shows it, which comes later, or
never. What visits show is an interval; `between_visits` holds a forecast against that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gnnpatient import metrics
from gnnpatient.cohort.worsening import Worsening
from gnnpatient.prognosis.worsening import FLOOR, WorseningTarget, interval_incidence
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
        "worse is forecast for when it happens, which may be before a visit or unseen; auc, brier, oe and "
        "scaled_ibs here count it at the visit that shows it, so oe below 1 is no fault; oe_between and "
        "log_between take it as what came between two visits"
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


def between_visits(
    scored: ModelRisks,
    outcome: str,
    horizons: Sequence[float],
    pairs: Sequence[tuple[str, str]] = (),
    *,
    n: int = 200,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Hold forecasts of a worsening against the intervals in which it came.

    `oe_between` is observed over expected: the incidence of worse among the scored landmarks by
    self-consistency (`gnnpatient.prognosis.worsening.interval_incidence`) over the mean forecast.
    `log_between` is the mean logarithm of the probability of what was seen: of the interval of an event, of
    no event up to the last visit without it, of being gone at its own time. It is a proper score, higher is
    better; a difference of two models is in natural units (nats) a landmark.

    Parameters
    ----------
    scored : ModelRisks
        Landmarks with the risks of each model.
    outcome : str
        Name of an outcome with `worse`.
    horizons : sequence of float
        Days after the landmark, among the times of `scored`.
    pairs : sequence of (str, str)
        Models whose `log_between` is compared, first minus second.
    n : int, default 200
        Bootstrap draws of patients or groups; the fitted models are held fixed.
    seed : int, default 0
        Of the draws.

    Returns
    -------
    list of dict
        As the rows of an `Evaluation`, of each landmark and of the mean over landmarks (landmark None). A
        landmark where fewer than 5 patients were seen to be worse has none.
    """
    landmarks, times = scored.landmarks, tuple(float(time) for time in scored.times)
    units, unit_name = resampling_units(landmarks)
    target, rows = WorseningTarget.of(landmarks, outcome), list[dict[str, Any]]()
    cause, columns = target.causes[0], [int(np.abs(scored.times - h).argmin()) for h in horizons]
    seen: dict[str, np.ndarray] = {}
    for model, risks in scored.risks.items():
        incidence = np.stack([risks[name] for name in target.causes], 1)
        free = 1 - incidence.sum(1, keepdims=True)
        seen[model] = np.log(target.likelihood(np.concatenate([free, incidence], 1), times).clip(FLOOR))
    groups = {
        day: at
        for day, at in landmarks.by_landmark.items()
        if len(np.unique(landmarks.patient[at][target.event[at] == 1])) >= MIN_CASES
    }

    def score(weight: np.ndarray) -> np.ndarray:
        """(landmark, figure): of each model the ratios and the log score."""
        found = np.full((len(groups), len(seen), len(horizons) + 1), np.nan)
        for g, at in enumerate(groups.values()):
            here = at[weight[at] > 0]
            if not (one := weight[here]).sum() or not (target.event[here] == 1).any():
                continue
            event, time, after = (column[here] for column in target.columns)
            share = one / one.sum()
            came = interval_incidence(event, time, after, times, causes=len(target.causes), weight=one)[1]
            for m, model in enumerate(seen):
                expected = share @ scored.risks[model][cause][np.ix_(here, columns)]
                found[g, m, :-1] = came[columns] / expected.clip(FLOOR)
                found[g, m, -1] = share @ seen[model][here]
        return found

    if not groups:
        return rows
    value = score(np.ones(len(landmarks), np.int64))
    draws = metrics.bootstrap(score, units, n=n, seed=seed)
    places: list[tuple[float | None, Any]] = [(day, g) for g, day in enumerate(groups)]
    if len(groups) > 1:
        places.append((None, slice(None)))
    order = {model: m for m, model in enumerate(seen)}
    for day, g in places:
        one, drawn = (_over(value, g, 0), _over(draws, g, 1))
        figures = [
            (model, metric, horizon, one[m, k], drawn[:, m, k])
            for model, m in order.items()
            for k, (metric, horizon) in enumerate(
                [*(("oe_between", float(h)) for h in horizons), ("log_between", None)]
            )
        ]
        figures += [
            (f"{a}-{b}", "log_between", None, one[order[a], -1] - one[order[b], -1], apart)
            for a, b in pairs
            for apart in [drawn[:, order[a], -1] - drawn[:, order[b], -1]]
        ]
        rows += [
            {"model": model, "landmark": day, "horizon": horizon, "cause": cause, "metric": metric}
            | {"value": float(figure) if np.isfinite(figure) else None}
            | bootstrap_interval(figure, around, units, unit_name)
            | {"group": None, "censoring": "km"}
            for model, metric, horizon, figure, around in figures
        ]
    return rows


def _over(figures: np.ndarray, place: Any, axis: int) -> np.ndarray:
    """The figures of one landmark, or their mean over landmarks."""
    found: np.ndarray = np.take(figures, place, axis) if isinstance(place, int) else figures.mean(axis)
    return found
