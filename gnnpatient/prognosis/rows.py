"""What forecasts of every kind share: their rows, the checks of other models' numbers, the model spread."""

from __future__ import annotations

from typing import Any

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.diagnosis import Labels
from gnnpatient.errors import InputError, InputTypeError

SPREAD = (0.05, 0.95)  # quantiles over members between which the model spread lies
MIN_MEMBERS = 5  # members from which a spread is shown
ROUNDING = 1e-5  # of probabilities that other models give, as sums in float32


def member_spread(risk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take the 5 % and 95 % quantiles over members.

    Parameters
    ----------
    risk : ndarray
        (member, ...).

    Returns
    -------
    tuple of ndarray
        Low and high.
    """
    low, high = np.quantile(risk, SPREAD, axis=0)
    return low, high


def positions(rows: Any, size: int) -> np.ndarray:
    """Find the landmarks that an index means.

    Parameters
    ----------
    rows : int, slice or array_like
        As in ``forecast[rows]``.
    size : int
        How many landmarks there are.

    Returns
    -------
    ndarray
        (landmark,) int64.

    Raises
    ------
    InputTypeError
        When it is a name.
    """
    if isinstance(rows, str):
        raise InputTypeError(
            f"a forecast is indexed by landmark, as in forecast[0]; a cause is .risk(cause={rows!r})"
        )
    return np.atleast_1d(np.arange(size)[rows])


def kept(forecast: Any, keep: np.ndarray) -> dict[str, Any]:
    """Take what forecasts of every kind have of each landmark, of some of them.

    Parameters
    ----------
    forecast : Forecast, DiagnosisForecast or ProgressionForecast
    keep : ndarray
        Positions of the landmarks.

    Returns
    -------
    dict of str to ndarray
        ids, at, at_risk, members.
    """
    members = None if forecast.members is None else forecast.members[:, keep]
    each = {name: getattr(forecast, name)[keep] for name in ("ids", "at", "at_risk")}
    return each | {"members": members}


def numbers(x: Any, what: str) -> np.ndarray:
    """Read an array or a tensor as float64.

    Parameters
    ----------
    x : array_like or Tensor
    what : str
        Its name, for the message.

    Returns
    -------
    ndarray

    Raises
    ------
    InputError
        When it holds no numbers.
    """
    if hasattr(x, "detach"):
        x = x.detach().cpu().double().numpy()
    try:
        return np.asarray(x, np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{what} is {type(x).__name__}; give an array or a tensor of numbers"
            f"{', days after the landmark' if what == 'times' else ''}"
        ) from None


def rising_times(times: Any) -> np.ndarray:
    """Read the times of a forecast.

    Parameters
    ----------
    times : array_like
        Days after the landmark.

    Returns
    -------
    ndarray
        (time,) float64.

    Raises
    ------
    InputError
        When there is none, or they do not rise from 0 or more.
    """
    grid = np.atleast_1d(numbers(times, "times"))
    if grid.ndim != 1 or not len(grid) or not np.isfinite(grid).all():
        raise InputError("times must be a list of days after the landmark")
    if grid[0] < 0 or (np.diff(grid) <= 0).any():
        raise InputError(f"times must rise from > 0, days after the landmark; found {grid[:4].tolist()}")
    return grid


def check_rows(x: np.ndarray, what: str, rows: np.ndarray) -> None:
    """Refuse probabilities that are missing or outside [0, 1].

    Parameters
    ----------
    x : ndarray
        (landmark, ...), of the landmarks at the positions `rows`.
    what : str
        Its name, for the message.
    rows : ndarray
        (landmark,) int64.

    Raises
    ------
    InputError
        When one is.
    """
    wrong = np.argwhere(~((x >= -ROUNDING) & (x <= 1 + ROUNDING)))
    if len(wrong):
        found = x[tuple(wrong[0])]
        raise InputError(
            f"{what} {found:g} in row {rows[wrong[0][0]]}; must lie in [0, 1]"
            f"{', for every landmark at risk' if np.isnan(found) else ', not logits or hazard ratios'}"
        )


def check_sums(total: np.ndarray, of: str, rows: np.ndarray, least: float = 0.0) -> None:
    """Refuse probabilities that sum to more than 1, or to less than `least`.

    Parameters
    ----------
    total : ndarray
        (landmark, column), of the landmarks at the positions `rows`.
    of : str
        What was summed, for the message.
    rows : ndarray
        (landmark,) int64.
    least : float
        Default 0.

    Raises
    ------
    InputError
        When a sum is outside.
    """
    wrong = np.argwhere((total > 1 + ROUNDING) | (total < least - ROUNDING))
    if len(wrong):
        raise InputError(
            f"{of} sum to {total[tuple(wrong[0])]:g} in row {rows[wrong[0][0]]}; "
            f"must be {'1' if least else 'at most 1'}"
        )


def answerable(landmarks: Landmarks, outcome: str) -> np.ndarray:
    """Find the landmarks that get a forecast: those at risk, of a diagnosis those whose label is open.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times.
    outcome : str
        Name of the outcome; where the cohort has none of that name, every landmark gets a forecast.

    Returns
    -------
    ndarray
        (landmark,) bool.
    """
    truth = landmarks.cohort.outcomes.get(outcome)
    # without the outcome the cohort does not show who is no longer at risk
    if truth is None:
        return np.ones(len(landmarks), bool)
    entered: np.ndarray = landmarks.cohort.entry[landmarks.patient] <= landmarks.at
    return entered & truth.open(landmarks.patient, landmarks.at)


def answerable_labels(landmarks: Landmarks, outcome: str, size: int) -> np.ndarray:
    """Find the labels that get a forecast at each landmark: those that are not known yet.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times.
    outcome : str
        Name of an outcome of several labels; where the cohort has none of that name, all get a forecast.
    size : int
        How many labels there are.

    Returns
    -------
    ndarray
        (landmark, label) bool.
    """
    truth = landmarks.cohort.outcomes.get(outcome)
    if not isinstance(truth, Labels):
        return np.ones((len(landmarks), size), bool)
    return truth.opened(landmarks.patient, landmarks.at)
