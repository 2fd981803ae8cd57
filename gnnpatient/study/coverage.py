"""How often calibrated answers hold: intervals of values, sets of classes, lower bounds on times."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from gnnpatient import metrics
from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.prognosis.conformal import LEVEL
from gnnpatient.prognosis.targets import followed_labels, pooled_landmark
from gnnpatient.study.intervals import bootstrap_interval, resampling_units
from gnnpatient.study.scoreboard import ModelRisks, ObservedOutcome
from gnnpatient.study.subgroups import Groups, is_unit

MIN_PATIENTS = 20  # with an answer, for a figure
MIN_UNCENSORED = 0.1  # share of patients that must be followed as long as a bound
WHAT = {"survival": "time bound", "diagnosis": "set", "ordered": "set", "progression": "interval"}


def coverage_rows(
    scored: ModelRisks,
    observed: ObservedOutcome,
    groups: Groups | None = None,
    *,
    n: int = 200,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Score the calibrated answers of each model that has them, at each landmark and on average.

    Of a time the coverage is the share that is event-free at its bound, of a diagnosis that whose class is in
    the set, of a value that within the interval of those that are seen. Who is lost before is represented by
    others of the same landmark and group (inverse probability of censoring weights, held fixed in the draws).

    Parameters
    ----------
    scored : ModelRisks
        With `calibrated`.
    observed : ObservedOutcome
        What came of the same landmarks.
    groups : mapping, optional
        From `gnnpatient.study.subgroups.groups_of`: the same of each group, behind those of everybody. The
        promise is one on average over everybody: no group has one of its own.
    n : int, default 200
        Bootstrap draws.
    seed : int, default 0
        Of the draws.

    Returns
    -------
    list of dict
        model, what ("time bound", "set", "interval"), group (None: everybody), level, promise, landmark
        (None: the mean over landmarks), patients, value (the coverage; None with fewer than 20 patients),
        low, high, draws, interval, size (mean: days, classes, or the width in the unit of the value).
    """
    if observed.kind not in WHAT:
        return []
    X = scored.landmarks
    parts: list[tuple[str | None, np.ndarray, bool]] = [(None, np.ones(len(X), bool), False)]
    for by, each in (groups or {}).items():
        parts += [(name, members, is_unit(X, by)) for name, members in each.items()]
    rows = list[dict[str, Any]]()
    for group, members, by_patient in parts:
        mine = np.flatnonzero(members)
        units, name = resampling_units(X, by_patient)
        for model in scored.calibrated:
            found = _rows(scored, observed, model, mine, units[mine], name, n, seed)
            rows += [{"model": model, "group": group} | row for row in found]
    return rows


def _rows(
    scored: ModelRisks,
    observed: ObservedOutcome,
    model: str,
    members: np.ndarray,
    units: np.ndarray,
    name: str,
    n: int,
    seed: int,
) -> list[dict[str, Any]]:
    """The rows of a model, of some of the landmarks."""
    X = scored.landmarks[members]
    held, weight, size = _held(X, observed, members, scored.calibrated[model][members])
    there = np.isfinite(held) & (weight > 0)
    held = np.where(there, held, 0.0)
    if not there.any():
        return []
    places = [rows for rows in X.by_landmark.values() if there[rows].any()]
    places = [np.arange(len(X))] if observed.pooled else places
    days = [None if observed.pooled else float(X.days[p][0]) for p in places]
    enough = [len(np.unique(X.patient[p[there[p]]])) >= MIN_PATIENTS for p in places]
    parts = [p for p, some in zip(places, enough, strict=True) if some]
    shares = partial(_shares, parts, weight * there, weight * held)
    where = np.append(np.where(enough, np.cumsum(enough) - 1, len(parts)), -1)

    def figures(drawn: np.ndarray) -> np.ndarray:
        whole = np.append(shares(drawn), np.nan)[where[:-1]]
        return np.append(whole, whole.mean())

    value = figures(np.ones(len(X)))
    draws = metrics.bootstrap(figures, units, n=n, seed=seed)
    found = []
    for i in range(len(places) + (len(places) > 1)):
        mine = places[i] if i < len(places) else np.concatenate(places)
        mine = mine[there[mine]]
        found.append(
            {
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
    return found


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
    X: Landmarks, observed: ObservedOutcome, rows: np.ndarray, answer: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each answer held (nan: not known), how much it counts, and its size: (landmark,) each.

    Of the landmarks X, which are those at `rows` of what was observed.
    """
    ones, code = np.ones(len(X)), observed.code[rows]
    if observed.kind == "progression":
        assert observed.value is not None
        (low, high), value = answer.T, observed.value[rows]
        inside = ((value >= low) & (value <= high)).astype(float)
        return np.where(np.isfinite(value) & np.isfinite(low), inside, np.nan), ones, high - low
    group, time = pooled_landmark(X.moments), None if observed.time is None else observed.time[rows]
    if observed.kind in ("diagnosis", "ordered"):
        label, weight = code, ones
        if time is not None and observed.horizon is not None:
            label, weight = followed_labels(code, time, group, observed.horizon)
        inside = answer[np.arange(len(X)), np.maximum(label, 0)]
        return np.where((label >= 0) & np.isfinite(inside), inside, np.nan), weight, answer.sum(1)
    assert time is not None
    bound, lost = answer[:, 0], np.ones(len(X))
    for one in np.unique(group):
        mine = group == one
        g = metrics.censoring(time[mine], code[mine])
        longest = np.nanmax(bound[mine]) if np.isfinite(bound[mine]).any() else 0.0
        followed = g.left(time[mine])
        early = time[mine] < longest
        lost[mine] = np.where(early, 1 / np.where(early, followed, 1.0), 1.0)
        if g.left(longest) < MIN_UNCENSORED:
            lost[mine] = np.nan
    missed = (code > 0) & (time < bound)
    return np.where(np.isfinite(bound), 1 - missed * lost, np.nan), ones, np.nan_to_num(bound)
