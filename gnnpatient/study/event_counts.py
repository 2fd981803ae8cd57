"""How good the expected number of events that recur is: observed over expected, and the squared error."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from gnnpatient import metrics
from gnnpatient.cohort.recurrent import Recurrent
from gnnpatient.study.intervals import bootstrap_interval, resampling_units
from gnnpatient.study.scoreboard import NUMBER, ModelRisks
from gnnpatient.times import DAY, duration

FIGURES = ("number_oe", "number_mse", "number_scaled_mse")
"""Of each model, landmark and horizon: events over expected events; the mean squared error of the number, up
to a constant that is the same for all models; one minus that error over that of the marginal model."""
NULL = "null"  # the model whose error the scaled one is beside


def event_counts(
    scored: ModelRisks,
    outcome: str,
    horizons: Sequence[float],
    *,
    group: tuple[str, np.ndarray, bool] | None = None,
    n: int = 200,
    seed: int = 0,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Score the expected number of events within a horizon.

    Each event counts for one over the probability of still being followed, at its landmark; those who are
    gone for good have no more, and are not censored. See `metrics.seen_number`.

    Parameters
    ----------
    scored : ModelRisks
        Landmarks with the risks of each model.
    outcome : str
        Name of an outcome of events that recur.
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
        As those of an `Evaluation`, with the metrics of `FIGURES`, of each landmark and model that forecasts
        a number. None where a horizon cannot be estimated.
    notes : list of str
        A sentence a landmark: the mean number that was observed, by Cook and Lawless.
    """
    landmarks = scored.landmarks
    known = landmarks.cohort.outcomes[outcome]
    assert isinstance(known, Recurrent)
    models = {name: risks[NUMBER] for name, risks in scored.risks.items() if NUMBER in risks}
    name_of, members, by_patient = group or ("", np.ones(len(landmarks), bool), False)
    units, unit_name = resampling_units(landmarks, by_patient)
    start = f"{name_of}: " if name_of else ""
    rows, notes = list[dict[str, Any]](), list[str]()
    for day, rows_of_day in landmarks.by_landmark.items():
        at = rows_of_day[members[rows_of_day]]
        if not len(at):
            continue
        here = landmarks[at]
        first, last, gone, end = known.later(here.patient, here.at)
        number = last - first
        owner = np.repeat(np.arange(len(at)), number)
        place = np.arange(len(owner)) - np.repeat(number.cumsum() - number, number) + first[owner]
        happened, end = (known.happened[place] - here.at[owner]) / DAY, (end - here.at) / DAY
        mean = metrics.mean_number(owner, happened, end, gone.astype(np.int64), np.array(horizons))
        one = {"weight": np.ones(len(at)), "patient": here.patient}
        seen = [metrics.seen_number(owner, happened, end, gone, float(h), **one) for h in horizons]
        each = [
            f"{'not estimable' if some is None else f'{m:.2f}'} within {duration(h)}"
            for m, h, some in zip(mean, horizons, seen, strict=True)
        ]
        notes.append(f"{start}{known.recurs} at {day:g} d, mean number observed: {', '.join(each)}")
        for horizon in horizons:
            column = int(np.abs(scored.times - horizon).argmin())
            names = list(models)
            forecasts = np.stack([models[name][at, column] for name in names])
            null = names.index(NULL) if NULL in names else None
            truth = owner, happened, end, gone, float(horizon)
            score = partial(_score, forecasts, null, truth, here.patient)
            value = score(np.ones(len(at)))
            draws = metrics.bootstrap(score, units[at], n=n, seed=seed)
            for m, name in enumerate(names):
                for k, figure in enumerate(FIGURES):
                    rows.append(
                        {"model": name, "landmark": day, "horizon": float(horizon), "cause": known.recurs}
                        | {"metric": figure}
                        | {"value": float(value[m, k]) if np.isfinite(value[m, k]) else None}
                        | bootstrap_interval(value[m, k], draws[:, m, k], units[at], unit_name)
                        | {"group": name_of or None, "censoring": "km"}
                    )
    return rows, notes


def _score(
    forecasts: np.ndarray, null: int | None, truth: tuple[Any, ...], patient: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """The figures of each forecast (model, landmark): (model, figure)."""
    seen = metrics.seen_number(*truth, weight=weight, patient=patient)
    if seen is None:
        return np.full((len(forecasts), len(FIGURES)), np.nan)
    error = np.array([seen.squared_error(one) for one in forecasts])
    ratio = np.array([seen.observed_expected(one) for one in forecasts])
    scaled = np.full(len(error), np.nan) if null is None or not error[null] else 1 - error / error[null]
    return np.stack([ratio, error, scaled], 1)
