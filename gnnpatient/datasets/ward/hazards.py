"""The process behind the ward: its constants, and the daily hazards of death, discharge and transfer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

CAUSES = ("discharge", "death")
NODE_TYPES = ("lab", "sign", "drug", "image", "note")
INFORMATIVE = ("lab", "drug", "image", "note")  # signs and notes of other findings are noise

DAYS = 120  # the truth reaches this far
FOLLOW_UP = 60.0  # days until observation ends


class Effects(NamedTuple):
    """Log hazard ratios of death.

    Attributes
    ----------
    base : float
        Daily hazard of death where all else is zero.
    growth : float
        For each standard deviation of the lesion's growth.
    finding : float
        Of an effusion.
    drug_if_high : float
        Of metformin where lactate is high.
    high : float
        Of high lactate.
    age : float
        For each 10 years above 65.
    """

    base: float
    growth: float
    finding: float
    drug_if_high: float
    high: float
    age: float


WARD = Effects(base=0.0025, growth=1.1, finding=2.0, drug_if_high=2.8, high=0.0, age=0.2)
NEGATIVE_CONTROL = Effects(base=0.0070, growth=0.0, finding=0.0, drug_if_high=0.0, high=1.8, age=0.2)
CALM = 4.0  # days until hazards of death and discharge have risen to their plateau
DISCHARGE, DISCHARGE_FALLS = 0.045, 0.25  # a day where death has .01; power by which that lowers it
TRANSFER, TRANSFER_HIGH, TRANSFER_AGE = 0.004, 0.6, 0.2  # a day; log hazard ratios
HIGH, FINDING, DRUG = 0.5, 0.3, 0.5  # shares of patients; DRUG of the days, too
SWITCH = 0.02  # chance that the drug is started, or stopped, at the end of a day
VISITS_RISE = 0.12  # log rate ratio of visits, draws and images per standard deviation of log hazard
GAP_FALLS = 0.3  # the sicker half lacks a node type up to this share less often, the other half more often

GROWTH, GROWTH_MEAN, GROWTH_LASTS, GROWTH_PIVOT = 0.22, 0.1, 3.0, 1.27  # see `log_area`
SITES = 20


def log_ratio(effects: Effects, age: Any, growth: Any, finding: Any, high: Any, drug: Any) -> Any:
    """Log of the daily hazard of death at its plateau.

    Parameters
    ----------
    effects : Effects
        Log hazard ratios.
    age : float or array
        Years. This and the following broadcast.
    growth : float or array
        Standard deviations above the mean.
    finding, high, drug : bool or array
        Whether there is an effusion, lactate is high, metformin runs.

    Returns
    -------
    np.ndarray
        Of the broadcast shape.
    """
    return (
        effects.growth * growth
        + effects.finding * finding
        + effects.drug_if_high * drug * high
        + effects.high * high
        + effects.age * (age - 65) / 10
        + np.log(effects.base)
    )


def hazards(day: Any, ratio: Any) -> tuple[Any, Any]:
    """Daily hazards from one day to the next.

    Parameters
    ----------
    day : int or array
        Days after admission.
    ratio : float or array
        What `log_ratio` gives.

    Returns
    -------
    discharge, death : np.ndarray
        Of the broadcast shape; discharge falls as death rises.
    """
    rise = 1 - np.exp(-(np.asarray(day) + 1) / CALM)
    middle = np.log(0.01)  # the log hazard of death at which DISCHARGE holds
    return rise * DISCHARGE * np.exp(-DISCHARGE_FALLS * (ratio - middle)), rise * np.exp(ratio)


def transfer(age: Any, high: Any) -> Any:
    """Daily hazard of being transferred, which ends observation.

    Parameters
    ----------
    age : float or array
        Years.
    high : bool or array
        Whether lactate is high.

    Returns
    -------
    np.ndarray
        Of the broadcast shape.
    """
    return TRANSFER * np.exp(TRANSFER_HIGH * high + TRANSFER_AGE * (age - 65) / 10)


def log_area(size: Any, growth: Any, day: Any) -> Any:
    """Log of the lesion's pixels: growth shows soon, slows down, and turns on the pivot.

    Two images show it. Across patients the size at the pivot (about day 1.7, between the first two images)
    has nothing to do with growth, so one image shows little.

    Parameters
    ----------
    size : float or array
        Log pixels at the pivot.
    growth : float or array
        Standard deviations above the mean.
    day : float or array
        Days after admission.

    Returns
    -------
    np.ndarray
        Of the broadcast shape, between log 20 and log 900.
    """
    passed = GROWTH_LASTS * (1 - np.exp(-np.asarray(day) / GROWTH_LASTS))
    return np.clip(
        size + GROWTH_MEAN * passed + GROWTH * growth * (passed - GROWTH_PIVOT), np.log(20), np.log(900)
    )
