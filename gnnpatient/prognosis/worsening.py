"""What came of each landmark where of one cause only an interval is known: worse between two visits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.outcomes import Outcome
from gnnpatient.cohort.splits import landmark_weights
from gnnpatient.cohort.worsening import Worsening
from gnnpatient.errors import InputError
from gnnpatient.metrics import aalen_johansen, cumulative_incidence
from gnnpatient.model.heads import SurvivalConfig
from gnnpatient.model.intervals import SeenIntervals
from gnnpatient.prognosis.targets import SurvivalTarget, last_estimable
from gnnpatient.times import DAY, seconds

STEPS, CLOSE = 200, 1e-5  # of self-consistency: at most, and the change of a hazard below which it ends
FLOOR = 1e-12  # of a probability


@dataclass(frozen=True, eq=False)
class WorseningTarget(SurvivalTarget):
    """What came of each landmark, for one outcome of the time until a visit shows that a value is worse.

    Attributes
    ----------
    after : ndarray
        Days after the landmark of the last visit that was not worse. The first cause came in (after, time];
        of the others nothing is known of it from there on.
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
        size : int
            Number of landmarks.

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
        """The probability of what was seen, see `SeenIntervals`.

        Parameters
        ----------
        prediction : ndarray
            (landmark, 1 + cause, time), the incidence.
        times : tuple of float
            Days after the landmark.

        Returns
        -------
        ndarray
            (landmark,) float64; 1 where it was not at risk, or nothing was seen.
        """
        before = np.concatenate([np.ones_like(prediction[:, :1, :1]), prediction[:, :1, :-1]], 2)
        steps = np.concatenate([prediction[:, :1], np.diff(prediction[:, 1:], prepend=0.0, axis=2)], 1)
        hazard = (steps / before.clip(FLOOR)).clip(FLOOR)
        log_hazard = torch.from_numpy(np.log(hazard / hazard.sum(1, keepdims=True)))
        event, time, after = (torch.from_numpy(np.where(self.known, x, 0)) for x in self.columns)
        end = torch.tensor(times, dtype=torch.float64)
        seen = SeenIntervals.of(event, time, after, end, torch.float64)
        found: np.ndarray = seen.log_likelihood(log_hazard).exp().numpy()
        return found

    def between(self, times: tuple[float, ...], hazard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Say how much of the first cause lies in each interval, and how much of that was watched for it.

        Parameters
        ----------
        times : tuple of float
            Days after the landmark.
        hazard : ndarray
            (time,) expected cumulative hazard of the first cause in each interval, which decides where only a
            longer time is known.

        Returns
        -------
        placed : ndarray
            (landmark, time) float64, the probability that it came in each interval.
        watched : ndarray
            (landmark, time) float64, the share of each interval that was event-free: up to the last visit
            without it, or up to where it came.
        """
        return between(self.first, self.time, self.after, times, hazard)


def between(
    first: np.ndarray, time: np.ndarray, after: np.ndarray, times: tuple[float, ...], hazard: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Share an event that came in (after, time] over the intervals of a grid, see `WorseningTarget.between`.

    Of (after, time] what lies beyond the last time counts as being event-free up to that.

    Parameters
    ----------
    first : ndarray
        (landmark,) bool, who has the event; the others are watched up to `after`.
    time, after : ndarray
        (landmark,) days after the landmark.
    times : tuple of float
        Ends of the intervals in days, rising.
    hazard : ndarray
        (time,) expected cumulative hazard of each interval.

    Returns
    -------
    placed, watched : ndarray
        (landmark, time) float64.

    Examples
    --------
    >>> first, time, after = np.array([True, False]), np.array([2.0, 9.0]), np.array([0.5, 1.5])
    >>> placed, watched = between(first, time, after, (1.0, 2.0, 3.0), np.full(3, 1e-6))
    >>> placed.round(3)
    array([[0.333, 0.667, 0.   ],
           [0.   , 0.   , 0.   ]])
    >>> watched.round(3)
    array([[0.917, 0.333, 0.   ],
           [1.   , 0.5  , 0.   ]])
    """
    end, hazard = np.array(times), hazard.clip(FLOOR)
    start = np.append(0.0, end[:-1])

    def share(until: np.ndarray) -> np.ndarray:
        found: np.ndarray = ((until[:, None] - start) / (end - start)).clip(0, 1)
        return found

    watched, placed = share(after), np.zeros((len(first), len(end)))
    low, high = after[first], time[first]
    within = ((end[-1] - low) / (high - low)).clip(0, 1)
    part = share(high) - share(low)
    part[within == 0] = 1.0
    came = part * np.exp(-(hazard.cumsum() - hazard)) * -np.expm1(-hazard)
    placed[first] = came * (within / came.sum(1))[:, None]
    # in the interval itself up to the middle of where it may have come
    inside = share(low) + part / 2
    rest = placed[first].sum(1, keepdims=True) - placed[first].cumsum(1)  # it came later
    watched[first] = rest + placed[first] * inside + (1 - within)[:, None]
    return placed, watched


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

    The hazard of the first cause, constant in each interval, is self-consistent [1]_: each event is shared
    over the time in which it may lie as that hazard has it. It is watched for up to the last visit without
    it; the other causes are watched for up to `time`, and count at their own times. They are taken to have
    the same hazard whether the first came unseen or not.

    Parameters
    ----------
    event : ndarray
        (landmark,) int, 0 censored, k the k-th cause.
    time : ndarray
        (landmark,) days, of the end of observation, or by which the first cause came.
    after : ndarray
        (landmark,) days of the last visit without the first cause.
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
    >>> event, after = np.array([1, 0, 0, 2]), np.array([0.0, 2.0, 2.0, 1.0])
    >>> interval_incidence(event, np.array([1.0, 2.0, 2.0, 2.0]), after, (1.0, 2.0), causes=2).round(2)
    array([[0.75, 0.5 ],
           [0.25, 0.25],
           [0.  , 0.25]])
    """
    weight = np.ones(len(event)) if weight is None else weight
    at, first = np.array(times), event == 1
    others = np.where(first, 0, event - 1).clip(0)
    gone = aalen_johansen(time, others, at, causes=max(causes - 1, 1), weight=weight)
    free = np.concatenate([[1.0], gone[0]]).clip(FLOOR)
    total, step = 0.0 - np.diff(np.log(free)), np.diff(gone[1:], prepend=0.0, axis=1)
    other = total * step / np.maximum(step.sum(0), 1e-300)
    hazard = np.diff(at, prepend=0.0) / at[-1]  # where nothing is known yet, all alike
    for _ in range(STEPS):
        placed, watched = between(first, time, after, times, hazard)
        now = weight @ placed / np.maximum(weight @ watched, 1e-300)
        near, hazard = np.abs(now - hazard).max() < CLOSE, now
        if near:
            break
    cumulative = np.concatenate([hazard[None], other[: causes - 1]]).cumsum(1)
    found: np.ndarray = cumulative_incidence(cumulative[None])[0]
    return found
