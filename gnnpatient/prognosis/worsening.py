"""What came of each landmark where of one cause only an interval is known: worse between two visits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.outcomes import Outcome
from gnnpatient.cohort.splits import landmark_weights
from gnnpatient.cohort.worsening import Worsening
from gnnpatient.errors import InputError
from gnnpatient.metrics import aalen_johansen
from gnnpatient.model.heads import SurvivalConfig
from gnnpatient.prognosis.targets import SurvivalTarget, last_estimable
from gnnpatient.times import DAY, seconds

STEPS, CLOSE = 200, 1e-5  # of self-consistency: at most, and the change of a probability below which it ends


@dataclass(frozen=True, eq=False)
class WorseningTarget(SurvivalTarget):
    """What came of each landmark, for one outcome of the time until a visit shows that a value is worse.

    Attributes
    ----------
    after : ndarray
        Days after the landmark of the last visit that was not worse: the first cause came in (after, time].
    """

    after: np.ndarray  # (landmark,) float64

    @classmethod
    def of(cls, landmarks: Landmarks, name: str) -> WorseningTarget:
        """Read an outcome at landmarks.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times; those not at risk teach nothing.
        name : str
            Name of the outcome.

        Returns
        -------
        WorseningTarget
        """
        at_risk = landmarks.at_risk(name)
        base, after = SurvivalTarget.of(landmarks, name), np.full(len(landmarks), np.nan)
        after[at_risk] = landmarks[at_risk].outcome(name)["after"]
        return cls(base.causes, base.event, base.time, after)

    @classmethod
    def from_y(cls, outcome: Outcome, y: np.ndarray, size: int) -> WorseningTarget:
        """Read a structured array of event, time and after.

        Parameters
        ----------
        outcome : Outcome
            The outcome that `y` is about.
        y : ndarray
            Three fields per landmark: the event (0 = neither, k for the k-th cause), the time (days, above
            0), and the days after which the first cause came, below the time.

        Returns
        -------
        WorseningTarget

        Raises
        ------
        InputError
            When `y` is anything else.
        """
        names = y.dtype.names
        if names is None or len(names) != 3:
            raise InputError(
                "y: must be a structured array of event, time and after, one entry per landmark, for one "
                "outcome"
            )
        base, after = SurvivalTarget.from_y(outcome, y[list(names[:2])], size), y[names[2]].astype(float)
        if not ((after >= 0) & ((after < base.time) | (base.event != 1))).all():
            raise InputError(
                "y: its third field must be the days after which the first cause came, >= 0 and < time"
            )
        return cls(base.causes, base.event, base.time, after)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """Event, time and after, as `WorseningHead.loss` takes them."""
        return self.event, self.time, self.after

    def __getitem__(self, rows: np.ndarray) -> WorseningTarget:
        return WorseningTarget(self.causes, self.event[rows], self.time[rows], self.after[rows])

    @property
    def first(self) -> np.ndarray:
        """Which landmarks have the first cause: (landmark,) bool."""
        return self.known & (self.event == 1)

    def head_config(
        self, name: str, landmarks: Landmarks, horizon: float | None, num_times: int, least: int
    ) -> SurvivalConfig:
        """Choose the time grid, up to the horizon of the outcome where that can be estimated.

        Parameters
        ----------
        name : str
            Name of the outcome.
        landmarks : Landmarks
            The training landmarks.
        horizon : float or None
            Days up to which to forecast, where they are fewer than the outcome's own.
        num_times : int
            Intervals of the time grid, at most.
        least : int
            Fewest patients that a figure may be of to be written down.

        Returns
        -------
        SurvivalConfig

        Raises
        ------
        InputError
            When no event lies within the horizon, or the horizon is not above 0.
        """
        spec = cast(Worsening, landmarks.cohort.outcomes[name]).spec
        assert spec.horizon is not None
        own = seconds(spec.horizon) / DAY
        if horizon is not None:
            horizon = min(horizon, own)
        elif own <= last_estimable(self, landmarks.patient, landmarks.moments):
            horizon = own
        return replace(super().head_config(name, landmarks, horizon, num_times, least), kind="worsening")

    def marginal(self, moments: np.ndarray, times: tuple[float, ...] = ()) -> np.ndarray:
        """The incidence of the landmarks, every landmark time counting the same, see `interval_incidence`.

        Parameters
        ----------
        moments : ndarray
            (landmark,) int64, the landmark time of each, see `Landmarks.moments`.
        times : tuple of float
            Days after the landmark.

        Returns
        -------
        ndarray
            (1 + cause, time) float64; slot 0 is event-free.
        """
        known = self.known
        event, time, after = (column[known] for column in self.columns)
        weight = landmark_weights(moments)[known]
        return interval_incidence(event, time, after, times, causes=len(self.causes), weight=weight)

    def likelihood(self, prediction: np.ndarray, times: tuple[float, ...]) -> np.ndarray:
        """The probability of what was seen: of the first cause that it came in (after, time].

        The incidence is linear between times. Where `time` lies beyond the last one, see `possible`.

        Parameters
        ----------
        prediction : ndarray
            (landmark, 1 + cause, time), the incidence.
        times : tuple of float
            Days after the landmark.

        Returns
        -------
        ndarray
            (landmark,) float64; 1 where it was not at risk, or not followed to the first time.
        """
        share, within = self._possible(times)
        came = (share * np.diff(prediction[:, 1], prepend=0.0, axis=1)).sum(1).clip(0.0)
        found = came**within * prediction[:, 0, -1] ** (1 - within)
        return np.where(self.first, found, super().likelihood(prediction, times))

    def placed(self, incidence: np.ndarray, times: tuple[float, ...]) -> np.ndarray:
        """Say in which interval the event of each landmark lies: of several, as a forecast has it.

        Parameters
        ----------
        incidence : ndarray
            (1 + cause, time), the forecast.
        times : tuple of float
            Days after the landmark.

        Returns
        -------
        ndarray
            (landmark, time) float64, the probability of each interval; of the first cause in proportion to
            its incidence in those that are possible.
        """
        share, within = self._possible(times)
        placed = _placed(share, within, np.diff(incidence[1], prepend=0.0))
        return np.where(self.first[:, None], placed, super().placed(incidence, times))

    def _possible(self, times: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
        after, time = (np.where(self.first, x, least) for x, least in ((self.after, 0.0), (self.time, 1.0)))
        return possible(after, time, times)


def possible(after: np.ndarray, time: np.ndarray, times: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Find the intervals in which an event may lie that came in (after, time].

    Of an event that was seen beyond the last time only a part counts as within, the share of (after, time]
    that lies there; the rest counts as being event-free to the end.

    Parameters
    ----------
    after, time : ndarray
        (landmark,) days after the landmark.
    times : tuple of float
        Ends of the intervals.

    Returns
    -------
    share : ndarray
        (landmark, time) float64, which share of each interval lies in (after, time].
    within : ndarray
        (landmark,) float64, which share of (after, time] lies before the last time. Where it is 0 the
        intervals do not matter, and all are possible.

    Examples
    --------
    >>> share, within = possible(np.array([0.0, 1.5, 4.0]), np.array([1.0, 4.5, 5.0]), (1.0, 2.0, 3.0))
    >>> share
    array([[1. , 0. , 0. ],
           [0. , 0.5, 1. ],
           [1. , 1. , 1. ]])
    >>> within
    array([1. , 0.5, 0. ])
    """
    end = np.array(times)
    start = np.append(0.0, end[:-1])
    after, time = after[:, None], time[:, None]
    share = (np.minimum(time, end) - np.maximum(after, start)).clip(0.0) / (end - start)
    within = ((end[-1] - after) / (time - after))[:, 0].clip(0.0, 1.0)
    return np.where(within[:, None] > 0, share, 1.0), within


def _placed(share: np.ndarray, within: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The probability of each interval, (landmark, time), where the incidence rises by `step` in it."""
    each = share * np.maximum(step, 1e-12)
    placed: np.ndarray = each * (within / each.sum(1))[:, None]
    return placed


def interval_incidence(
    event: np.ndarray,
    time: np.ndarray,
    after: np.ndarray,
    times: tuple[float, ...],
    *,
    causes: int,
    weight: np.ndarray | None = None,
) -> np.ndarray:
    """Cumulative incidence where of the first cause only an interval (after, time] is known.

    Self-consistent [1]_ on the grid of `times`, linear between them: each such event is shared over the
    intervals in which it may lie in proportion to the incidence there, and the incidence is the
    Aalen-Johansen estimate with these shares. Other causes and censoring count at their own times.

    Parameters
    ----------
    event : ndarray
        (landmark,) int, 0 censored, k the k-th cause.
    time : ndarray
        (landmark,) days, of the end of observation, or by which the first cause came.
    after : ndarray
        (landmark,) days after which the first cause came.
    times : tuple of float
        Ends of the intervals in days, rising.
    causes : int
        How many there are.
    weight : ndarray, optional
        (landmark,) how often each counts; default: once.

    Returns
    -------
    ndarray
        (1 + cause, time) float64; row 0 is event-free.

    References
    ----------
    .. [1] Turnbull BW. The empirical distribution function with arbitrarily grouped, censored and truncated
       data. Journal of the Royal Statistical Society B 38:290-295, 1976.

    Examples
    --------
    >>> event, after = np.array([1, 1, 0, 2]), np.array([0.0, 0.0, 4.0, 0.0])
    >>> interval_incidence(event, np.array([1.0, 2.0, 4.0, 3.0]), after, (1.0, 2.0, 4.0), causes=2).round(3)
    array([[0.5 , 0.5 , 0.25],
           [0.5 , 0.5 , 0.5 ],
           [0.  , 0.  , 0.25]])
    """
    weight = np.ones(len(event)) if weight is None else weight
    at, first = np.array(times), event == 1
    share, within = possible(after[first], time[first], times)
    rest = weight[first] @ (1 - within)  # event-free to the last time
    when, kind = np.append(time[~first], [*at, at[-1]]), np.append(event[~first], [*np.ones(len(at)), 0])
    step = np.diff(at, prepend=0.0)  # where nothing is known yet, all alike
    table = np.zeros((1 + causes, len(at)))
    for _ in range(STEPS):
        shared = weight[first] @ _placed(share, within, step)
        before, mass = table, np.append(weight[~first], [*shared, rest])
        table = aalen_johansen(when, kind.astype(np.int64), at, causes=causes, weight=mass)
        step = np.diff(table[1], prepend=0.0)
        if np.abs(table - before).max() < CLOSE:
            break
    return table
