"""Several states: where patients are over time without inputs, and how far a forecast of it is off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from gnnpatient.metrics.horizon import not_estimable
from gnnpatient.metrics.incidence import Cause, Rows, censoring, checked_rows


@dataclass(frozen=True, eq=False)
class Stays:
    """From when to when rows are in a state, and to which one they go on: a row for each stay.

    Attributes
    ----------
    state : (stay,) int
        Where it is.
    start, end : (stay,) float
        Times after the landmark.
    to : (stay,) int
        Which transition ends it; -1 = none, the end of observation.
    weight : (stay,) float
        How often it counts.
    """

    state: Int[np.ndarray, " stay"]
    start: Num[np.ndarray, " stay"]
    end: Num[np.ndarray, " stay"]
    to: Int[np.ndarray, " stay"]
    weight: Num[np.ndarray, " stay"]


def transition_probabilities(
    stays: Stays,
    transitions: Sequence[tuple[int, int]],
    states: int,
    start: int,
    at: Num[np.ndarray, " time"],
) -> tuple[Float[np.ndarray, "{states} time"], Float[np.ndarray, "transition time"]]:
    """Aalen-Johansen estimate of being in each state, and of the number of each transition [1]_.

    The product integral of the Nelson-Aalen estimates. Of patients in one state at a landmark it is right
    whether or not the process has a memory [2]_.

    Parameters
    ----------
    stays : Stays
        Of all rows.
    transitions : sequence of tuple of int
        From and to which state each leads.
    states : int
        How many there are.
    start : int
        The state to begin in.
    at : (time,) float
        Times after the landmark.

    Returns
    -------
    occupation : (state, time) float
        Each column sums to one.
    number : (transition, time) float

    References
    ----------
    .. [1] Aalen OO, Johansen S. Scandinavian Journal of Statistics 5:141-150, 1978.
    .. [2] Putter H, Spitoni C. Non-parametric estimation of transition probabilities in non-Markov
       multi-state models: the landmark Aalen-Johansen estimator. Statistical Methods in Medical Research
       27:2081-2092, 2018.

    Examples
    --------
    >>> one = np.array([0, 0, 1]), np.array([0.0, 0.0, 1.0]), np.array([1.0, 3.0, 2.0]), np.array([0, -1, 1])
    >>> stays = Stays(*one, np.ones(3))
    >>> transition_probabilities(stays, [(0, 1), (1, 2)], 3, 0, np.array([1.0, 2.0]))[0]
    array([[0.5, 0.5],
           [0.5, 0. ],
           [0. , 0.5]])
    """
    moved = stays.to >= 0
    when, place = np.unique(stays.end[moved], return_inverse=True)
    count = np.zeros((len(when), len(transitions)))
    np.add.at(count, (place, stays.to[moved]), stays.weight[moved])
    there = np.zeros((states, len(when)))
    for state in {source for source, _ in transitions}:
        mine = stays.state == state
        for times, sign in ((stays.start[mine], 1.0), (stays.end[mine], -1.0)):
            order = np.argsort(times, kind="stable")
            total = np.append(0.0, stays.weight[mine][order].cumsum())
            there[state] += sign * total[np.searchsorted(times[order], when, "left")]  # start < when <= end
    occupation, number = np.eye(states)[start], np.zeros(len(transitions))
    found, counted = np.empty((1 + len(when), states)), np.empty((1 + len(when), len(transitions)))
    found[0], counted[0] = occupation, number
    sources, targets = (np.array(ends) for ends in zip(*transitions, strict=True))
    at_risk = there[sources].T  # (time, transition)
    share = np.divide(count, at_risk, out=np.zeros_like(count), where=at_risk > 1e-12)
    for t in range(len(when)):
        moves = occupation[sources] * share[t]
        occupation = occupation.copy()
        np.subtract.at(occupation, sources, moves)
        np.add.at(occupation, targets, moves)
        number = number + moves
        found[1 + t], counted[1 + t] = occupation, number
    column = np.searchsorted(when, at, "right")
    return found[column].T, counted[column].T


@dataclass(frozen=True, eq=False)
class SeenStates:
    """In which state each row is seen at a horizon, and for how many it stands.

    Attributes
    ----------
    state : (row,) int
        The state at the horizon, or the one that ended it before.
    share : (row,) float
        0 of rows censored before the horizon; of the others one over the probability of not being censored.
    weight : (row,) float
        How often each row counts.
    """

    state: Int[np.ndarray, " row"]
    share: Rows
    weight: Rows

    def brier(self, probability: Rows, state: int) -> float:
        """Brier score of being in a state, weighted for censoring [1]_.

        Parameters
        ----------
        probability : (row,) float
            Forecast of being there at the horizon.
        state : int
            Which one.

        Returns
        -------
        float

        References
        ----------
        .. [1] Graf E, Schmoor C, Sauerbrei W, Schumacher M. Statistics in Medicine 18:2529-2545, 1999.

        Examples
        --------
        >>> SeenStates(np.array([0, 1]), np.ones(2), np.ones(2)).brier(np.array([0.5, 1.0]), 1)
        0.125
        """
        error = np.square((self.state == state) - probability)
        return float((self.weight * self.share) @ error) / float(self.weight.sum())

    def observed_expected(self, probability: Rows, state: int) -> float:
        """How many are in a state over how many were expected there.

        Parameters
        ----------
        probability : (row,) float
            Forecast of being there at the horizon.
        state : int
            Which one.

        Returns
        -------
        float
            nan where nobody was expected.

        Examples
        --------
        >>> SeenStates(np.array([0, 1]), np.ones(2), np.ones(2)).observed_expected(np.array([0.2, 0.6]), 1)
        1.25
        """
        expected = float(self.weight @ probability)
        there: Bool[np.ndarray, " row"] = self.state == state
        return float((self.weight * self.share) @ there) / expected if expected > 0 else np.nan


def seen_states(
    state: Int[np.ndarray, " row"],
    end: Rows,
    gone: Cause,
    horizon: float,
    *,
    weight: Rows | None = None,
    patient: np.ndarray | None = None,
) -> SeenStates | None:
    """Weigh the rows whose state is known at a horizon for those who were censored before it.

    Parameters
    ----------
    state : (row,) int
        The state at the horizon, or at the end of observation where that comes before.
    end : (row,) float
        From the landmark to the end of observation.
    gone : (row,) int
        Whether a state that cannot be left ended it (above 0); 0 = censored.
    horizon : float
        In the unit of `end`.
    weight : (row,) float, optional
        How often each row counts. Default: once.
    patient : (row,) int, optional
        Which patient each row is of. Default: each row is another patient.

    Returns
    -------
    SeenStates or None
        None where nothing can be estimated, see `not_estimable`.

    Examples
    --------
    >>> end, gone = np.repeat([1.0, 3.0], 30), np.zeros(60, int)
    >>> float(seen_states(np.zeros(60, int), end, gone, 2.0).share.sum())   # half stand for all
    60.0
    """
    end, gone, weight = checked_rows(end, gone, weight)
    if not_estimable(end, gone, horizon, weight=weight, patient=patient) is not None:
        return None
    staying, beyond = censoring(end, gone, weight=weight), end > horizon
    known = beyond | (gone > 0)
    inverse = 1 / np.where(beyond, staying.right(horizon), staying.left(np.minimum(end, horizon)))
    return SeenStates(state, np.where(known, inverse, 0.0), weight)
