"""Intervals and p values of scores, from bootstrap draws of patients or groups."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import t as student

from gnnpatient import metrics
from gnnpatient.cohort.landmarks import Landmarks

FEW_UNITS = 30  # groups below which intervals are by t
LEAST_UNITS = 5  # groups below which there is none


def units_of(asks: Landmarks) -> tuple[np.ndarray, str]:
    """What the intervals resample: the number of each ask's unit, and "patients" or "groups"."""
    return asks.groups, "patients" if asks.cohort.group is None else "groups"


def spread(value: float, draws: np.ndarray, units: np.ndarray, kind: str) -> dict[str, Any]:
    """An interval of a figure: low, high, draws (that gave a number), interval (of what, and how)."""
    nothing: dict[str, Any] = {"low": None, "high": None, "draws": None, "interval": None}
    if not np.isfinite(value) or not len(draws):
        return nothing
    done, count = int(np.isfinite(draws).sum()), len(np.unique(units))
    nothing["draws"] = done
    if done * 2 < len(draws) or (kind == "groups" and count < LEAST_UNITS):
        return nothing
    if kind == "groups" and count < FEW_UNITS:  # a bootstrap of few is too narrow by the root of (n - 1) / n
        error = float(np.nanstd(draws, ddof=1)) * np.sqrt(count / (count - 1))
        wide = float(student.ppf(0.975, count - 1)) * error
        return {
            "low": float(value - wide),
            "high": float(value + wide),
            "draws": done,
            "interval": "groups, t",
        }
    low, high = metrics.interval(draws[:, None])
    return {"low": float(low[0]), "high": float(high[0]), "draws": done, "interval": kind}


def chance(value: float, draws: np.ndarray, units: np.ndarray, kind: str) -> float:
    """The two-sided p value of a difference, by a normal of its bootstrap's spread; of few groups by a t."""
    error, count = float(np.nanstd(draws, ddof=1)), len(np.unique(units))
    if not error:
        return float(value == 0)
    if kind == "groups" and count < FEW_UNITS:
        error *= np.sqrt(count / (count - 1))
        return float(2 * student.sf(abs(value) / error, count - 1))
    return math.erfc(abs(value) / error / math.sqrt(2))
