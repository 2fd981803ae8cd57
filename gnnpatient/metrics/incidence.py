"""Kaplan-Meier and Aalen-Johansen estimates, and the chance to be uncensored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num, Shaped

from gnnpatient.errors import InputError

Rows = Num[np.ndarray, " row"]
Cause = Int[np.ndarray, " row"]  # 0 = censored
Fold = Shaped[np.ndarray, " row"]
Steps = Num[np.ndarray, " step"]
MIN_OWN_UNCENSORED = (
    0.05  # of a row's own chance to be uncensored; below, its weight is capped at 20, and counted
)


@dataclass(frozen=True, eq=False)
class Censoring:
    """Kaplan-Meier estimate G of the chance to be still uncensored: a step function."""

    at: Float[np.ndarray, " step"]
    value: Float[np.ndarray, " step_plus_1"]  # value[0] = 1 before the first step

    def left(self, u: Num[np.ndarray, "*shape"] | float) -> Any:
        """G(u-), uncensored just before u: what weighs an event at u, since events precede censorings."""
        return self.value[np.searchsorted(self.at, u, "left")]

    def right(self, u: Num[np.ndarray, "*shape"] | float) -> Any:
        """G(u), uncensored at u included: what weighs a row that is followed beyond u."""
        return self.value[np.searchsorted(self.at, u, "right")]


@dataclass(frozen=True, eq=False)
class CoxCensoring:
    """A chance G to be still uncensored for each row of its own, where censoring depends on what is known.

    G of the row is the common one to the power of its relative hazard, so that where all hazards are alike it
    is the Kaplan-Meier estimate. Below .05 it is read as .05.
    """

    at: Float[np.ndarray, " step"]
    value: Float[np.ndarray, " step_plus_1"]  # of a relative hazard of one; value[0] = 1
    relative: Float[np.ndarray, " row"]

    def left(self, u: Num[np.ndarray, " row"] | float) -> Any:
        """G(u-) of each row."""
        return self._at(np.searchsorted(self.at, u, "left"))

    def right(self, u: Num[np.ndarray, " row"] | float) -> Any:
        """G(u) of each row."""
        return self._at(np.searchsorted(self.at, u, "right"))

    def _at(self, step: Any) -> Any:
        return np.maximum(self.value[step] ** self.relative, MIN_OWN_UNCENSORED)

    def __getitem__(self, rows: np.ndarray) -> CoxCensoring:
        return CoxCensoring(self.at, self.value, self.relative[rows])


def cox_censoring(time: Rows, event: Cause, relative: Rows, *, weight: Rows | None = None) -> CoxCensoring:
    """The common G by the relative hazards of being censored (Breslow 1974, as a product); events precede
    censorings at ties.

    >>> G = cox_censoring(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1, 1, 0, 1]), np.ones(4))
    >>> G.right(2.0)
    array([0.5, 0.5, 0.5, 0.5])
    """
    time, event, weight = checked_rows(time, event, weight)
    at, step = np.unique(time, return_inverse=True)
    mass = weight * relative
    at_risk = np.cumsum(np.bincount(step, mass, len(at))[::-1])[::-1]
    at_risk = at_risk - np.bincount(
        step, mass * (event > 0), len(at)
    )  # who fails at a time is not censored at it
    hazard = _ratio(np.bincount(step, weight * (event == 0), len(at)), at_risk)
    value = np.concatenate([[1.0], np.cumprod(1 - np.minimum(hazard, 1))])
    return CoxCensoring(at, value, np.asarray(relative, dtype=float))


def censoring(time: Rows, event: Cause, *, weight: Rows | None = None) -> Censoring:
    """Kaplan-Meier with the roles of event and censoring exchanged; events precede censorings at ties.

    >>> G = censoring(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1, 1, 0, 1]))
    >>> float(G.left(2.0)), float(G.right(2.0))     # the failure at 2 leaves two at risk of censoring
    (1.0, 0.5)
    """
    time, event, weight = checked_rows(time, event, weight)
    at, at_risk, (left, *failed) = _counts(time, event, weight, causes=int(event.max(initial=0)))
    staying = 1 - _ratio(left, at_risk - np.sum(failed, axis=0))
    return Censoring(at, np.concatenate([[1.0], np.cumprod(staying)]))


def aalen_johansen(
    time: Rows,
    event: Cause,
    at: Num[np.ndarray, " time"],
    *,
    causes: int,
    weight: Rows | None = None,
) -> Float[np.ndarray, "1+{causes} time"]:
    """Cumulative incidence at the times `at` (Aalen & Johansen 1978); slot 0 is event-free, slots sum to one.

    >>> aalen_johansen(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 2, 0, 1]), np.array([1.0, 3.0]), causes=2)
    array([[0.75, 0.5 ],
           [0.25, 0.25],
           [0.  , 0.25]])
    """
    time, event, weight = checked_rows(time, event, weight)
    if event.max(initial=0) > causes:
        raise InputError(f"event has cause {event.max():g}, but causes={causes}; count every competing cause")
    steps, at_risk, (_, *failed) = _counts(time, event, weight, causes)
    hazard = _ratio(np.reshape(failed, (causes, len(steps))), at_risk)  # (cause, step)
    free = np.cumprod(np.concatenate([[1.0], 1 - hazard.sum(0)]))  # (1 + step,)
    incidence = np.cumsum(hazard * free[:-1], axis=1)
    table = np.vstack([free, np.pad(incidence, ((0, 0), (1, 0)))])
    return table[:, np.searchsorted(steps, at, "right")]


def checked_rows(time: Rows, event: Cause, weight: Rows | None) -> tuple[Rows, Cause, Rows]:
    weight = np.ones(len(time)) if weight is None else np.asarray(weight, dtype=float)
    if not time.shape == event.shape == weight.shape:
        raise InputError(
            f"time {time.shape}, event {event.shape}, weight {weight.shape}; give one number a row"
        )
    if (
        not np.isfinite(time).all()
        or not np.isfinite(weight).all()
        or np.any(event < 0)
        or np.any(weight < 0)
    ):
        raise InputError("time, event or weight holds nan, infinity or a negative count; leave such rows out")
    return np.asarray(time, dtype=float), event, weight


def _counts(time: Rows, event: Cause, weight: Rows, causes: int) -> tuple[Steps, Steps, list[Steps]]:
    """The distinct times; at each, how many are at risk; how many are censored, then fail by each cause."""
    at, step = np.unique(time, return_inverse=True)
    count = [np.bincount(step, weight * (event == k), len(at)) for k in range(causes + 1)]
    return at, np.cumsum(np.sum(count, axis=0)[::-1])[::-1], count


def _ratio(part: Num[np.ndarray, "*cause step"], total: Steps) -> Float[np.ndarray, "*cause step"]:
    """0 where nobody is left."""
    return np.divide(part, total, out=np.zeros(part.shape), where=np.broadcast_to(total > 0, part.shape))


def quotient(part: float, total: float) -> float:
    return float(part / total) if total > 0 else np.nan
