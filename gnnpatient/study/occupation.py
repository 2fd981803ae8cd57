"""How good the probability of being in each state is: Brier score, observed over expected, by state."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from gnnpatient import metrics
from gnnpatient.cohort.states import States
from gnnpatient.prognosis.multistate import StatesTarget
from gnnpatient.study.intervals import bootstrap_interval, resampling_units
from gnnpatient.study.scoreboard import STATE, ModelRisks

FIGURES = ("state_oe", "state_brier", "state_scaled_brier")
"""Of each model, landmark, horizon and state: how many are in it over how many were expected; the Brier score
of being in it; one minus that over the score of the marginal model."""
OVERALL = ("state_ibs", "state_scaled_ibs")
"""The Brier score over time, up to the last time that can be estimated, and one minus that over the score of
the marginal model."""
NULL = "null"


def occupation_scores(
    scored: ModelRisks,
    outcome: str,
    horizons: Sequence[float],
    *,
    group: tuple[str, np.ndarray, bool] | None = None,
    n: int = 200,
    seed: int = 0,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Score the probability of being in each state.

    Rows whose state is known at a horizon stand for those who were censored before it; who was in a state
    that cannot be left is known for good. See `metrics.seen_states`.

    Parameters
    ----------
    scored : ModelRisks
        Landmarks with the risks of each model.
    outcome : str
        Name of an outcome of several states.
    horizons : sequence of float
        Days after the landmark, among the times of `scored`.
    group : tuple of str, ndarray and bool, optional
        The name of a group, which landmarks are in it, and whether the bootstrap draws its patients though
        splits keep them together; default: everybody. Who was lost is weighed within the group.
    n : int, default 200
        Bootstrap draws of patients or groups; the fitted models are held fixed.
    seed : int, default 0
        Of the draws.

    Returns
    -------
    rows : list of dict
        As those of an `Evaluation`, with the state as cause and the metrics of `FIGURES` and `OVERALL`, of
        each landmark and model that forecasts states. None where a horizon cannot be estimated.
    notes : list of str
        A sentence a landmark: how many are in which state then.
    """
    landmarks = scored.landmarks
    known = landmarks.cohort.outcomes[outcome]
    assert isinstance(known, States)
    names = [name for name, risks in scored.risks.items() if STATE.format(known.states[0]) in risks]
    name_of, members, by_patient = group or ("", np.ones(len(landmarks), bool), False)
    units, unit_name = resampling_units(landmarks, by_patient)
    start = f"{name_of}: " if name_of else ""
    rows, notes = list[dict[str, Any]](), list[str]()
    for day, rows_of_day in landmarks.by_landmark.items():
        at = rows_of_day[members[rows_of_day]]
        if not len(at):
            continue
        here = landmarks[at]
        target = StatesTarget.of(here, outcome)
        count = np.bincount(target.now, minlength=len(known.states))
        there = [f"{n} {state}" for state, n in zip(known.states, count, strict=True) if n]
        notes.append(f"{start}{outcome} at {day:g} d: {', '.join(there)}")
        risks = np.stack(
            [
                np.stack([scored.risks[name][STATE.format(state)][at] for state in known.states])
                for name in names
            ]
        )  # (model, state, landmark, time)
        states = np.stack([target.state_by(time) for time in scored.times.tolist()], 1)
        columns = [int(np.abs(scored.times - horizon).argmin()) for horizon in horizons]
        null = names.index(NULL) if NULL in names else None
        score = partial(_scores, risks, states, target, scored.times, columns, null, here.patient)
        value, draws = score(np.ones(len(at))), metrics.bootstrap(score, units[at], n=n, seed=seed)
        places = [(h, metric) for h in horizons for metric in FIGURES] + [(None, m) for m in OVERALL]
        for m, name in enumerate(names):
            for k, state in enumerate(known.states):
                for c, (horizon, metric) in enumerate(places):
                    figure = value[m, k, c]
                    rows.append(
                        {"model": name, "landmark": day, "cause": state, "metric": metric}
                        | {"horizon": None if horizon is None else float(horizon)}
                        | {"value": float(figure) if np.isfinite(figure) else None}
                        | bootstrap_interval(figure, draws[:, m, k, c], units[at], unit_name)
                        | {"group": name_of or None, "censoring": "km"}
                    )
    return rows, notes


def _scores(
    risks: np.ndarray,
    states: np.ndarray,
    target: StatesTarget,
    times: np.ndarray,
    columns: Sequence[int],
    null: int | None,
    patient: np.ndarray,
    weight: np.ndarray,
) -> np.ndarray:
    """Every figure: (model, state, figure), the horizons of `columns` after one another, then over time."""
    models, size = risks.shape[:2]
    brier, ratio = (np.full((models, size, len(times)), np.nan) for _ in range(2))
    for t, time in enumerate(times.tolist()):
        seen = metrics.seen_states(
            states[:, t], target.time, target.event, time, weight=weight, patient=patient
        )
        if seen is None:
            break
        for m in range(models):
            for k in range(size):
                brier[m, k, t] = seen.brier(risks[m, k, :, t], k)
                if t in columns:
                    ratio[m, k, t] = seen.observed_expected(risks[m, k, :, t], k)
    last = int(np.isfinite(brier[0, 0]).sum()) if models else 0
    whole = np.full((models, size), np.nan)
    if last:
        steps = np.diff(times[:last], prepend=0.0)
        whole = (brier[:, :, :last] @ steps) / times[last - 1]

    def scaled(error: np.ndarray) -> np.ndarray:
        if null is None:
            return np.full_like(error, np.nan)
        base = error[null]
        return 1 - np.divide(error, base, out=np.full_like(error, np.nan), where=base > 0)

    each = [x for c in columns for x in (ratio[:, :, c], brier[:, :, c], scaled(brier[:, :, c]))]
    return np.stack([*each, whole, scaled(whole)], -1)
