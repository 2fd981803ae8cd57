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
    """Daily hazard of death where all else is zero, and log hazard ratios."""

    base: float
    growth: float  # per standard deviation
    finding: float
    drug_if_high: float
    high: float
    age: float  # per 10 years above 65


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
    """Log hazard ratio of death; arrays of one shape, or of shapes that broadcast."""
    return (
        effects.growth * growth
        + effects.finding * finding
        + effects.drug_if_high * drug * high
        + effects.high * high
        + effects.age * (age - 65) / 10
        + np.log(effects.base)
    )


def hazards(day: Any, ratio: Any) -> tuple[Any, Any]:
    """Daily hazards of discharge and of death from `day` to the next, by the log hazard of death."""
    rise = 1 - np.exp(-(np.asarray(day) + 1) / CALM)
    middle = np.log(0.01)  # the log hazard of death at which DISCHARGE holds
    return rise * DISCHARGE * np.exp(-DISCHARGE_FALLS * (ratio - middle)), rise * np.exp(ratio)


def transfer(age: Any, high: Any) -> Any:
    """Daily hazard of being transferred, which ends observation."""
    return TRANSFER * np.exp(TRANSFER_HIGH * high + TRANSFER_AGE * (age - 65) / 10)


def log_area(size: Any, growth: Any, day: Any) -> Any:
    """Log of the lesion's pixels: growth shows soon, slows down, and turns on the pivot.

    Two images tell it. Across patients the size at the pivot (about day 1.7, between the first two images)
    has nothing to do with growth, so one image tells little.
    """
    passed = GROWTH_LASTS * (1 - np.exp(-np.asarray(day) / GROWTH_LASTS))
    return np.clip(
        size + GROWTH_MEAN * passed + GROWTH * growth * (passed - GROWTH_PIVOT), np.log(20), np.log(900)
    )
