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
    """Kaplan-Meier estimate G of the probability of being uncensored: a step function.

    Attributes
    ----------
    at : (step,) float
        Times of the steps, rising.
    value : (step + 1,) float
        G before the first step (1) and from each step on.

    References
    ----------
    Kaplan & Meier 1958, J. Am. Stat. Assoc. 53:457.
    """

    at: Float[np.ndarray, " step"]
    value: Float[np.ndarray, " step_plus_1"]

    def left(self, u: Num[np.ndarray, "*shape"] | float) -> Any:
        """G(u-), uncensored just before u: the weight of an event at u, since events precede censorings.

        Parameters
        ----------
        u : float or array
            Times.

        Returns
        -------
        float or array
            As `u`.
        """
        return self.value[np.searchsorted(self.at, u, "left")]

    def right(self, u: Num[np.ndarray, "*shape"] | float) -> Any:
        """G(u), still uncensored after u: the weight of a row that is followed beyond u.

        Parameters
        ----------
        u : float or array
            Times.

        Returns
        -------
        float or array
            As `u`.
        """
        return self.value[np.searchsorted(self.at, u, "right")]


@dataclass(frozen=True, eq=False)
class CoxCensoring:
    """Probability of being uncensored for each row, where censoring depends on covariates.

    G of a row is the common G to the power of its relative hazard, at least .05. Where all hazards are equal,
    it is the Kaplan-Meier estimate.

    Attributes
    ----------
    at : (step,) float
        Times of the steps, rising.
    value : (step + 1,) float
        G of a relative hazard of one, before the first step (1) and from each step on.
    relative : (row,) float
        Relative hazard of being censored, > 0.

    References
    ----------
    Gerds & Schumacher 2006, Biom. J. 48:1029.
    """

    at: Float[np.ndarray, " step"]
    value: Float[np.ndarray, " step_plus_1"]
    relative: Float[np.ndarray, " row"]

    def left(self, u: Num[np.ndarray, " row"] | float) -> Any:
        """G(u-) of each row.

        Parameters
        ----------
        u : float or (row,) array
            A time common to all rows, or one for each.

        Returns
        -------
        (row,) array
        """
        return self._at(np.searchsorted(self.at, u, "left"))

    def right(self, u: Num[np.ndarray, " row"] | float) -> Any:
        """G(u) of each row.

        Parameters
        ----------
        u : float or (row,) array
            A time common to all rows, or one for each.

        Returns
        -------
        (row,) array
        """
        return self._at(np.searchsorted(self.at, u, "right"))

    def _at(self, step: Any) -> Any:
        return np.maximum(self.value[step] ** self.relative, MIN_OWN_UNCENSORED)

    def __getitem__(self, rows: np.ndarray) -> CoxCensoring:
        return CoxCensoring(self.at, self.value, self.relative[rows])


def cox_censoring(time: Rows, event: Cause, relative: Rows, *, weight: Rows | None = None) -> CoxCensoring:
    """Common probability of being uncensored, given the relative hazards of being censored.

    Breslow's estimate as a product; events precede censorings at ties.

    Parameters
    ----------
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    relative : (row,) float
        Relative hazard of being censored, > 0.
    weight : (row,) float, optional
        How often each row counts. Default: once.

    Returns
    -------
    CoxCensoring

    References
    ----------
    Breslow 1974, Biometrics 30:89.

    Examples
    --------
    >>> G = cox_censoring(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1, 1, 0, 1]), np.ones(4))
    >>> G.right(2.0)
    array([0.5, 0.5, 0.5, 0.5])
    """
    time, event, weight = checked_rows(time, event, weight)
    at, step = np.unique(time, return_inverse=True)
    mass = weight * relative
    at_risk = np.cumsum(np.bincount(step, mass, len(at))[::-1])[::-1]
    # A row that fails at a time is not censored at it.
    at_risk = at_risk - np.bincount(step, mass * (event > 0), len(at))
    hazard = _ratio(np.bincount(step, weight * (event == 0), len(at)), at_risk)
    value = np.concatenate([[1.0], np.cumprod(1 - np.minimum(hazard, 1))])
    return CoxCensoring(at, value, np.asarray(relative, dtype=float))


def censoring(time: Rows, event: Cause, *, weight: Rows | None = None) -> Censoring:
    """Kaplan-Meier estimate with the roles of event and censoring exchanged.

    Events precede censorings at ties.

    Parameters
    ----------
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    weight : (row,) float, optional
        How often each row counts. Default: once.

    Returns
    -------
    Censoring

    References
    ----------
    Kaplan & Meier 1958, J. Am. Stat. Assoc. 53:457.

    Examples
    --------
    >>> G = censoring(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1, 1, 0, 1]))
    >>> float(G.left(2.0)), float(G.right(2.0))     # the failure at 2 leaves two at risk of censoring
    (1.0, 0.5)
    """
    time, event, weight = checked_rows(time, event, weight)
    at, at_risk, (left, *failed) = _counts(time, event, weight, causes=int(event.max(initial=0)))
    staying = 1 - _ratio(left, at_risk - np.sum(failed, axis=0))
    return Censoring(at, np.concatenate([[1.0], np.cumprod(staying)]))


def cumulative_incidence(hazards: Float[np.ndarray, "row cause time"]) -> Float[np.ndarray, "row slot time"]:
    """Cumulative incidence of each cause from cumulative cause-specific hazards: one model a cause will do.

    A model of one cause that counts the others as censoring gives the hazard of that cause among those still
    event-free. One minus its own survival curve is not the risk of the cause: it leaves out that the others
    come first.

    Parameters
    ----------
    hazards : (row, cause, time) float array
        Cumulative hazard of each cause by each time, rising from 0 before the first.

    Returns
    -------
    (row, 1 + cause, time) float array
        The probability of being event-free, then of each cause; they sum to 1.

    References
    ----------
    Putter H, Fiocco M, Geskus RB (2007). Stat Med 26:2389-2430.

    Examples
    --------
    >>> cumulative_incidence(np.array([[[0.1, 0.2], [0.3, 0.6]]])).round(3).tolist()
    [[[0.67, 0.449], [0.082, 0.138], [0.247, 0.413]]]
    """
    # exp(-700) is 0 as good as that of an infinite hazard, whose steps would be no numbers
    total = np.minimum(np.asarray(hazards, np.float64).transpose(1, 0, 2), 700.0)
    step = np.diff(total, prepend=0.0, axis=-1)
    free = np.exp(-total.sum(0))
    before = np.concatenate([np.ones_like(free[:, :1]), free[:, :-1]], -1)
    # each cause takes its share of what leaves in a step, so that the slots sum to one
    leave = (before - free) / np.maximum(step.sum(0), 1e-300)
    curve = np.concatenate([free[None], (step * leave).cumsum(-1)])
    found: np.ndarray = curve.transpose(1, 0, 2)
    return found


def aalen_johansen(
    time: Rows,
    event: Cause,
    at: Num[np.ndarray, " time"],
    *,
    causes: int,
    weight: Rows | None = None,
) -> Float[np.ndarray, "1+{causes} time"]:
    """Aalen-Johansen estimate of the cumulative incidence of each cause.

    Parameters
    ----------
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    at : (time,) float
        Times at which the incidence is wanted.
    causes : int
        How many causes there are; competing causes must be among them.
    weight : (row,) float, optional
        How often each row counts. Default: once.

    Returns
    -------
    (1 + cause, time) float
        Row 0 is the probability of being event-free; each column sums to one.

    Raises
    ------
    InputError
        When `event` holds a cause above `causes`, or an array is not valid.

    References
    ----------
    Aalen & Johansen 1978, Scand. J. Stat. 5:141.

    Examples
    --------
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
    """Refuse rows that cannot be scored; the default weight is one a row.

    Parameters
    ----------
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    weight : (row,) float or None
        How often each row counts; None: once.

    Returns
    -------
    time, event, weight : (row,) arrays

    Raises
    ------
    InputError
        When the arrays differ in length, or hold nan, infinity or negative counts.
    """
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
    """The distinct times; at each how many are at risk, are censored, and fail by each cause."""
    at, step = np.unique(time, return_inverse=True)
    count = [np.bincount(step, weight * (event == k), len(at)) for k in range(causes + 1)]
    return at, np.cumsum(np.sum(count, axis=0)[::-1])[::-1], count


def _ratio(part: Num[np.ndarray, "*cause step"], total: Steps) -> Float[np.ndarray, "*cause step"]:
    """The quotient, 0 where nobody is left."""
    return np.divide(part, total, out=np.zeros(part.shape), where=np.broadcast_to(total > 0, part.shape))


def quotient(part: float, total: float) -> float:
    """A quotient that is nan where there is nothing to divide by.

    Parameters
    ----------
    part, total : float
        Numerator and denominator.

    Returns
    -------
    float
        nan unless `total` > 0.
    """
    return float(part / total) if total > 0 else np.nan
