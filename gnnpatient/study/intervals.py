"""Intervals and p values of scores, from bootstrap draws of patients or groups.

References
----------
Efron B, Tibshirani RJ (1993). An introduction to the bootstrap, ch. 13 (percentile intervals).
Cameron AC, Miller DL (2015). J Hum Resour 50:317-372 (few clusters: t with one degree of freedom less).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from gnnpatient import metrics
from gnnpatient.cohort.cohort import Landmarks

MIN_GROUPS_FOR_PERCENTILES = 30  # with fewer, intervals are by t
MIN_GROUPS = 5  # with fewer, there is no interval


def resampling_units(landmarks: Landmarks, by_patient: bool = False) -> tuple[np.ndarray, str]:
    """What a bootstrap draws: the groups that splits keep together where a cohort has them, else patients.

    Parameters
    ----------
    landmarks : Landmarks
        The rows that are scored.
    by_patient : bool, default False
        Draw patients even so, where the rows are of one group of those.

    Returns
    -------
    units : (landmark,) array
        The number of the unit of each landmark.
    name : str
        "groups" or "patients".
    """
    if by_patient:
        return landmarks.patient, "patients"
    return landmarks.groups, "patients" if landmarks.cohort.group is None else "groups"


def bootstrap_interval(value: float, draws: np.ndarray, units: np.ndarray, name: str) -> dict[str, Any]:
    """95 % interval of a score: percentiles of its draws, or of fewer than 30 groups by t.

    The interval by t has one degree of freedom less than there are groups (Cameron & Miller 2015).

    Parameters
    ----------
    value : float
        The score of all rows.
    draws : (draw,) array
        The score of each bootstrap draw, nan where it could not be estimated; empty for no interval.
    units, name
        As `resampling_units` returns them.

    Returns
    -------
    dict
        low, high; draws: how many gave a number; interval: "patients", "groups" or "groups, t". All None
        where fewer than half of the draws gave a number (but for `draws`), or of fewer than 5 groups.

    Examples
    --------
    >>> found = bootstrap_interval(0.5, np.linspace(0, 1, 101), np.arange(40), "patients")
    >>> round(found["low"], 3), round(found["high"], 3), found["draws"], found["interval"]
    (0.025, 0.975, 101, 'patients')
    """
    nothing: dict[str, Any] = {"low": None, "high": None, "draws": None, "interval": None}
    if not np.isfinite(value) or not len(draws):
        return nothing
    finite, groups = int(np.isfinite(draws).sum()), len(np.unique(units))
    nothing["draws"] = finite
    if finite * 2 < len(draws) or (name == "groups" and groups < MIN_GROUPS):
        return nothing
    if name == "groups" and groups < MIN_GROUPS_FOR_PERCENTILES:
        half = float(student.ppf(0.975, groups - 1)) * _corrected_error(draws, groups)
        low, high = float(value - half), float(value + half)
        return {"low": low, "high": high, "draws": finite, "interval": "groups, t"}
    low, high = metrics.interval(draws[:, None])
    return {"low": float(low[0]), "high": float(high[0]), "draws": finite, "interval": name}


def p_value(value: float, draws: np.ndarray, units: np.ndarray, name: str) -> float:
    """Two-sided p value of a difference, by a normal distribution of its bootstrap's spread.

    Of fewer than 30 groups it is by t with one degree of freedom less than groups.

    Parameters
    ----------
    value : float
        The difference in all rows.
    draws : (draw,) array
        The difference in each bootstrap draw, nan where it could not be estimated.
    units, name
        As `resampling_units` returns them.

    Returns
    -------
    float
        1 where draws do not vary and the difference is 0, and 0 where they do not and it is not.
    """
    groups = len(np.unique(units))
    if name == "groups" and groups < MIN_GROUPS_FOR_PERCENTILES and float(np.nanstd(draws, ddof=1)):
        return float(2 * student.sf(abs(value) / _corrected_error(draws, groups), groups - 1))
    error = float(np.nanstd(draws, ddof=1))
    return math.erfc(abs(value) / error / math.sqrt(2)) if error else float(value == 0)


def _corrected_error(draws: np.ndarray, groups: int) -> float:
    """Standard error of a bootstrap of few groups, which alone is too narrow by the root of (n - 1) / n."""
    return float(np.nanstd(draws, ddof=1)) * np.sqrt(groups / (groups - 1))


def holm(p: Sequence[float]) -> list[float]:
    """P values adjusted for being the smallest of several, by Holm's step-down rule.

    Parameters
    ----------
    p : sequence of float
        P values of one family.

    Returns
    -------
    list of float
        In the same order.

    References
    ----------
    Holm S (1979). A simple sequentially rejective multiple test procedure. Scand J Stat 6:65-70.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p, float)[order] * np.arange(len(p), 0, -1)
    out = np.empty(len(p))
    out[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return out.tolist()
