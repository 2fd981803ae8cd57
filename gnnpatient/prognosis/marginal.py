"""The forecast without inputs: what came of all training landmarks together."""

from __future__ import annotations

import numpy as np

from gnnpatient.cohort.cohort import ENTRY, Landmarks
from gnnpatient.cohort.splits import landmark_weights
from gnnpatient.prognosis.targets import MIN_REMAINING, Target

MAX_LANDMARK_TABLES = 8  # landmarks, at most, of which the forecast without inputs is kept
TABLE_FACTOR = 5  # times `min_patients` that a landmark needs for a table of its own


def nearest(landmarks: Landmarks, days: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Of each ask the table of its landmark: at entry that of entry (day nan), else of the nearest day."""
    away = np.abs(landmarks.days[:, None] - days)
    at_entry = (landmarks.moments == ENTRY)[:, None]
    return tables[np.where(np.isnan(days), np.where(at_entry, -1.0, np.inf), away).argmin(1)]


def landmark_marginals(
    target: Target, asks: Landmarks, times: tuple[float, ...], least: int = 1
) -> tuple[np.ndarray, np.ndarray] | None:
    """The forecast without inputs at some landmarks: (landmark,) days, nan = entry, whenever it is, and
    (landmark, ...) tables; None: no two.

    Neighbouring landmarks share a table where there are many. One of fewer than TOLD times `least` patients
    has none: what is told of no fewer than `least` (METHODS 34) would be far from its own.
    """
    time, position = np.unique(asks.moments, return_inverse=True)
    weight = landmark_weights(asks.moments)
    mass = np.bincount(position, weight)
    group = (MAX_LANDMARK_TABLES * (mass.cumsum() - mass / 2) / mass.sum()).astype(int)
    if len(time) <= MAX_LANDMARK_TABLES:
        group = np.arange(len(time))
    group = np.where(time == ENTRY, -1, group)[position]
    days, tables = [], []
    for one in np.unique(group):
        rows = group == one
        if len(np.unique(asks.patient[rows & target.known])) >= max(MIN_REMAINING, TABLE_FACTOR * least):
            day = np.nan if one < 0 else float(f"{np.average(asks.days[rows], weights=weight[rows]):.4g}")
            days.append(day)
            table = target[rows].marginal(asks.moments[rows], times)
            tables.append(target[rows].disclosed(table, asks.patient[rows], times, least).round(4))
            tables[-1][0] = 1 - tables[-1][1:].sum(0)
    return (np.array(days), np.stack(tables)) if len(days) > 1 else None
