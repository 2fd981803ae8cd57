"""The forecast without inputs: what came of all training landmarks, or of one landmark time."""

from __future__ import annotations

import numpy as np

from gnnpatient.cohort.cohort import ENTRY, Landmarks
from gnnpatient.cohort.splits import landmark_weights
from gnnpatient.prognosis.targets import MIN_REMAINING, Target

MAX_LANDMARK_TABLES = 8  # landmark times of which a forecast without inputs is kept
TABLE_FACTOR = 5  # times `min_patients` that a landmark time needs for a table of its own


def nearest(landmarks: Landmarks, days: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Choose for each landmark the table of its landmark time.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times.
    days : ndarray
        (table,) float64, the landmark time of each table; nan: entry, whenever that is.
    tables : ndarray
        (table, ...), from `landmark_marginals`.

    Returns
    -------
    ndarray
        (landmark, ...): at entry the table of entry, else that of the nearest day.
    """
    away = np.abs(landmarks.days[:, None] - days)
    at_entry = (landmarks.moments == ENTRY)[:, None]
    return tables[np.where(np.isnan(days), np.where(at_entry, -1.0, np.inf), away).argmin(1)]


def at_landmarks(
    landmarks: Landmarks, overall: np.ndarray, tables: tuple[np.ndarray, np.ndarray] | None
) -> np.ndarray:
    """Forecast without any input.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times.
    overall : ndarray
        Of all landmark times together, from `overall_marginal`.
    tables : tuple of ndarray or None
        Of some landmark times, from `landmark_marginals`.

    Returns
    -------
    ndarray
        (landmark, 1 + cause, time) or (landmark, class).
    """
    if tables is not None:
        return nearest(landmarks, *tables)
    return np.repeat(overall[None], len(landmarks), 0)


def overall_marginal(
    target: Target, landmarks: Landmarks, times: tuple[float, ...], least: int = 1
) -> np.ndarray:
    """Forecast without inputs, of all landmark times together, as it is written down.

    Parameters
    ----------
    target : Target
        What came of each landmark.
    landmarks : Landmarks
        The training landmarks.
    times : tuple of float
        Days after the landmark, of an outcome with a time grid.
    least : int
        Fewest patients that a figure may be of to be written down, default 1.

    Returns
    -------
    ndarray
        (1 + cause, time) or (class,).
    """
    table = target.marginal(landmarks.moments, times)
    return target.disclosed(table, landmarks.patient, times, least)


def landmark_marginals(
    target: Target, landmarks: Landmarks, times: tuple[float, ...], least: int = 1
) -> tuple[np.ndarray, np.ndarray] | None:
    """Forecast without inputs at some landmark times.

    Neighbouring landmark times share a table where there are more than 8. One with fewer than 5 times `least`
    patients has none: disclosing nothing of fewer than `least` would put it far from its own.

    Parameters
    ----------
    target : Target
        What came of each landmark.
    landmarks : Landmarks
        The training landmarks.
    times : tuple of float
        Days after the landmark, of an outcome with a time grid.
    least : int
        Fewest patients that a figure may be of to be written down, default 1.

    Returns
    -------
    tuple of ndarray or None
        (table,) days, nan = entry, and (table, ...) the forecasts; None: fewer than two.
    """
    time, position = np.unique(landmarks.moments, return_inverse=True)
    weight = landmark_weights(landmarks.moments)
    mass = np.bincount(position, weight)
    group = (MAX_LANDMARK_TABLES * (mass.cumsum() - mass / 2) / mass.sum()).astype(int)
    if len(time) <= MAX_LANDMARK_TABLES:
        group = np.arange(len(time))
    group = np.where(time == ENTRY, -1, group)[position]
    days, tables = [], []
    for one in np.unique(group):
        rows = group == one
        if len(np.unique(landmarks.patient[rows & target.tells])) >= max(MIN_REMAINING, TABLE_FACTOR * least):
            day = (
                np.nan if one < 0 else float(f"{np.average(landmarks.days[rows], weights=weight[rows]):.4g}")
            )
            days.append(day)
            table = target[rows].marginal(landmarks.moments[rows], times)
            table = target[rows].disclosed(table, landmarks.patient[rows], times, least)
            tables.append(target.rounded(table))
    return (np.array(days), np.stack(tables)) if len(days) > 1 else None
