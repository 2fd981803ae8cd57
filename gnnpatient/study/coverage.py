"""How often calibrated answers hold: intervals of values, sets of classes, lower bounds on times."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from gnnpatient import metrics
from gnnpatient.prognosis.conformal import LEVEL
from gnnpatient.prognosis.targets import followed_labels, pooled_landmark
from gnnpatient.study.intervals import bootstrap_interval, resampling_units
from gnnpatient.study.scoreboard import ModelRisks, ObservedOutcome

MIN_PATIENTS = 20  # with an answer, for a figure
MIN_UNCENSORED = 0.1  # share of patients that must be followed as long as a bound
WHAT = {"survival": "time bound", "diagnosis": "set", "ordered": "set", "progression": "interval"}


def coverage_rows(
    scored: ModelRisks, observed: ObservedOutcome, *, n: int = 200, seed: int = 0
) -> list[dict[str, Any]]:
    """Score the calibrated answers of each model that has them, at each landmark and on average.

    Of a time the coverage is the share that is event-free at its bound, of a diagnosis that whose class is in
    the set, of a value that within the interval of those that are seen. Who is lost before is represented by
    others of the same landmark (inverse probability of censoring weights, held fixed in the draws).

    Parameters
    ----------
    scored : ModelRisks
        With `calibrated`.
    observed : ObservedOutcome
        What came of the same landmarks.
    n : int, default 200
        Bootstrap draws.
    seed : int, default 0
        Of the draws.

    Returns
    -------
    list of dict
        model, what ("time bound", "set", "interval"), level, promise, landmark (None: the mean over
        landmarks), patients, value (the coverage), low, high, draws, interval, size (mean: days, classes, or
        the width in the unit of the value).
    """
    if observed.kind not in WHAT:
        return []
    X, rows = scored.landmarks, list[dict[str, Any]]()
    for model, answers in scored.calibrated.items():
        held, weight, size = _held(scored, observed, model, answers)
        there = np.isfinite(held) & (weight > 0)
        held = np.where(there, held, 0.0)
        if not there.any():
            continue
        places = [rows_ for rows_ in X.by_landmark.values() if there[rows_].any()]
        places = [np.arange(len(X))] if observed.pooled else places
        days = [None if observed.pooled else float(X.days[p][0]) for p in places]
        enough = [len(np.unique(X.patient[p[there[p]]])) >= MIN_PATIENTS for p in places]
        units, name = resampling_units(X)
        parts = [p for p, some in zip(places, enough, strict=True) if some]
        shares = partial(_shares, parts, weight * there, weight * held)
        where = np.append(np.where(enough, np.cumsum(enough) - 1, len(parts)), -1)

        def figures(drawn: np.ndarray, shares: Any = shares, where: np.ndarray = where) -> np.ndarray:
            each = shares(drawn)
            whole = np.append(each, np.nan)[where[:-1]]
            return np.append(whole, whole.mean())

        value = figures(np.ones(len(X)))
        draws = metrics.bootstrap(figures, units, n=n, seed=seed)
        for i in range(len(places) + (len(places) > 1)):
            mine = places[i] if i < len(places) else np.concatenate(places)
            mine = mine[there[mine]]
            rows.append(
                {
                    "model": model,
                    "what": WHAT[observed.kind],
                    "level": LEVEL,
                    "promise": scored.promises.get(model),
                    "landmark": days[i] if i < len(places) else None,
                    "patients": len(np.unique(X.patient[mine])),
                    "value": float(value[i]) if np.isfinite(value[i]) else None,
                    **_interval(float(value[i]), draws[:, i], units, name, mine),
                    "size": float(np.average(size[mine], weights=weight[mine])),
                }
            )
    return rows


def _interval(
    value: float, draws: np.ndarray, units: np.ndarray, name: str, mine: np.ndarray
) -> dict[str, Any]:
    """That of draws; where all answers held, or none, the exact binomial one, as draws are alike."""
    found = bootstrap_interval(value, draws, units, name)
    if value not in (0.0, 1.0) or found["low"] is None:
        return found
    away = 1 - 0.025 ** (1 / len(np.unique(units[mine])))
    return found | ({"low": 1 - away, "high": 1.0} if value else {"low": 0.0, "high": away})


def _shares(
    places: Sequence[np.ndarray], weight: np.ndarray, held: np.ndarray, drawn: np.ndarray
) -> np.ndarray:
    """The share that held at each landmark, of those who were drawn: (landmark,)."""
    total = np.array([drawn[p] @ weight[p] for p in places])
    share = np.array([drawn[p] @ held[p] for p in places])
    return np.where(total > 0, share / np.where(total > 0, total, 1.0), np.nan)


def _held(
    scored: ModelRisks, observed: ObservedOutcome, model: str, answer: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each answer held (nan: not known), how much it counts, and its size: (landmark,) each."""
    X, ones = scored.landmarks, np.ones(len(scored.landmarks))
    if observed.kind == "progression":
        assert observed.value is not None
        low, high = answer.T
        inside = ((observed.value >= low) & (observed.value <= high)).astype(float)
        return np.where(np.isfinite(observed.value) & np.isfinite(low), inside, np.nan), ones, high - low
    group = pooled_landmark(X.moments)
    if observed.kind in ("diagnosis", "ordered"):
        label, weight = observed.code, ones
        if observed.time is not None and observed.horizon is not None:
            label, weight = followed_labels(observed.code, observed.time, group, observed.horizon)
        inside = answer[np.arange(len(X)), np.maximum(label, 0)]
        return np.where((label >= 0) & np.isfinite(inside), inside, np.nan), weight, answer.sum(1)
    assert observed.time is not None
    bound, lost = answer[:, 0], np.ones(len(X))
    for one in np.unique(group):
        mine = group == one
        g = metrics.censoring(observed.time[mine], observed.code[mine])
        longest = np.nanmax(bound[mine]) if np.isfinite(bound[mine]).any() else 0.0
        followed = g.left(observed.time[mine])
        early = observed.time[mine] < longest
        lost[mine] = np.where(early, 1 / np.where(early, followed, 1.0), 1.0)
        if g.left(longest) < MIN_UNCENSORED:
            lost[mine] = np.nan
    missed = (observed.code > 0) & (observed.time < bound)
    return np.where(np.isfinite(bound), 1 - missed * lost, np.nan), ones, np.nan_to_num(bound)
