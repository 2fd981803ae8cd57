"""What came of each ask, and what can be learned of it: horizon, time grid, the forecast without inputs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gnnpatient.cohort.landmarks import ENTRY, Landmarks, landmark_weights
from gnnpatient.cohort.outcomes import Diagnosis, Survival, Task
from gnnpatient.errors import InputError
from gnnpatient.metrics import aalen_johansen, censoring
from gnnpatient.prognosis.few import STEPS, coarse_incidence, coarse_shares, pooled
from gnnpatient.times import DAY

REMAIN = 20  # patients who must be observed beyond the horizon, and the share that must not be censored by it
UNCENSORED = 0.1
FEW_EVENTS = 5  # patients with an event, below which a fit warns
NULLS = 8  # landmarks, at most, of which the forecast without inputs is kept
TOLD = 5  # times `min_patients` that a landmark needs for a table of its own


@dataclass(frozen=True, eq=False)
class Target:
    """What came of each ask, for one survival outcome."""

    causes: tuple[str, ...]
    event: np.ndarray  # (ask,) int64: 0 censored, k = causes[k - 1]
    time: np.ndarray  # (ask,) days after the ask; nan where the ask is not at risk of this outcome

    @property
    def known(self) -> np.ndarray:
        """Which asks teach something: (ask,) bool."""
        return np.isfinite(self.time)

    @property
    def strata(self) -> np.ndarray:
        """What inner folds spread evenly: (ask,) int64."""
        return self.event * self.known

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """What the head's loss takes beside the answers, each (ask,)."""
        return self.event, self.time

    @property
    def counted(self) -> dict[str, np.ndarray]:
        """The asks of each cause: (ask,) bool."""
        return {cause: self.known & (self.event == k) for k, cause in enumerate(self.causes, 1)}

    def __getitem__(self, rows: np.ndarray) -> Target:
        return Target(self.causes, self.event[rows], self.time[rows])

    def check(self, name: str) -> None:
        """Refuse what cannot be learned."""
        for cause, happened in self.counted.items():
            if not happened.any() and len(self.causes) == 1:
                raise InputError(
                    f"outcome {name!r}: no events of {cause!r} among {len(self.event)} asks; nothing to learn"
                )
        if not (self.event > 0).any():
            raise InputError(f"outcome {name!r}: no events among {len(self.event)} asks; nothing to learn")

    @staticmethod
    def start(null: np.ndarray) -> np.ndarray:
        """Hazards (cause, time) that a head starts with, from the incidence of all asks."""
        free = np.concatenate([[1.0], null[0, :-1]]).clip(1e-6)
        return np.diff(null[1:], prepend=0.0, axis=1) / free


@dataclass(frozen=True, eq=False)
class LabelTarget:
    """Which class each ask turned out to be of, for one diagnosis."""

    classes: tuple[str, ...]
    label: (
        np.ndarray
    )  # (ask,) int64 into classes; -1 = not looked for, not at risk, or lost before the horizon
    weight: np.ndarray | None = None  # (ask,) for how many each known label stands; None: for itself

    @property
    def known(self) -> np.ndarray:
        """Which asks teach something: (ask,) bool."""
        return self.label >= 0

    @property
    def share(self) -> np.ndarray:
        """What each ask weighs, 1 where no censoring hides a label: (ask,) float64."""
        return np.ones(len(self.label)) if self.weight is None else self.weight

    @property
    def strata(self) -> np.ndarray:
        """What inner folds spread evenly: (ask,) int64."""
        return self.label.clip(min=0)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """What the head's loss takes beside the answers, each (ask,)."""
        return (self.label,)

    @property
    def counted(self) -> dict[str, np.ndarray]:
        """The asks of each class: (ask,) bool."""
        return {name: self.label == k for k, name in enumerate(self.classes)}

    def __getitem__(self, rows: np.ndarray) -> LabelTarget:
        return LabelTarget(self.classes, self.label[rows], None if self.weight is None else self.weight[rows])

    def check(self, name: str) -> None:
        """Refuse what cannot be learned."""
        there = [one for one, asks in self.counted.items() if asks.any()]
        if len(there) < 2:
            raise InputError(
                f"outcome {name!r}: {'all labels are ' + repr(there[0]) if there else 'no label'} among "
                f"{len(self.label)} asks; nothing to learn"
            )

    @staticmethod
    def start(null: np.ndarray) -> np.ndarray:
        """Shares (class,) that a head starts with."""
        return null


def last_estimable(target: Target, patient: np.ndarray, moments: np.ndarray) -> float:
    """The longest horizon (days) at which a score can still be estimated from these asks (METHODS 15)."""
    known = np.isfinite(target.time)
    time, event = target.time[known], target.event[known]
    longest = np.zeros(patient.max() + 1)
    np.maximum.at(longest, patient[known], time)
    beyond = np.sort(longest[np.unique(patient[known])])[::-1]
    if len(beyond) <= REMAIN:
        return float(time.max())  # too few patients to score at any horizon, not too few to forecast
    g = censoring(time, event, weight=landmark_weights(moments[known]))
    grid = np.unique(time)
    free = grid[g.right(grid) >= UNCENSORED]
    return float(min(np.nextafter(beyond[REMAIN - 1], 0), free.max(initial=grid[0])))


def time_grid(
    target: Target,
    moments: np.ndarray,
    horizon: float,
    size: int,
    patient: np.ndarray | None = None,
    least: int = 1,
) -> tuple[float, ...]:
    """Ends of at most `size` intervals up to the horizon, with as many events in each as in the next.

    least: above 1 no end is a patient's time, but a whole 50th of the horizon, and each interval has events
    of at least so many patients, or none. patient: (ask,) whose ask each is; None: each is another one's.
    """
    seen = np.isfinite(target.time) & (target.event > 0) & (target.time <= horizon)
    time, weight = target.time[seen], landmark_weights(moments)[seen]
    order = np.argsort(time, kind="stable")
    share = weight[order].cumsum() / weight.sum()
    cuts = time[order][np.searchsorted(share, np.arange(1, size) / size).clip(max=len(time) - 1)]
    if least <= 1:
        cuts = np.unique(cuts[(cuts > horizon * 1e-3) & (cuts < horizon * (1 - 1e-3))])
        return (*cuts.tolist(), horizon)
    cuts = np.unique(np.round(cuts[cuts < horizon * (1 - 1e-3)] / horizon * STEPS).clip(1, STEPS - 1))
    ends = np.append(cuts * horizon / STEPS, horizon)
    who = (np.arange(len(target.time)) if patient is None else patient)[seen]
    return tuple(ends[pooled(np.searchsorted(ends, time), who, len(ends), least)].tolist())


def null_incidence(target: Target, moments: np.ndarray, times: tuple[float, ...]) -> np.ndarray:
    """Aalen-Johansen of the asks, every landmark counting the same: (1 + cause, time)."""
    known = np.isfinite(target.time)
    return aalen_johansen(
        target.time[known],
        target.event[known],
        np.array(times),
        causes=len(target.causes),
        weight=landmark_weights(moments)[known],
    )


def null_shares(target: LabelTarget, moments: np.ndarray) -> np.ndarray:
    """Share of each class among the labelled asks, every landmark counting the same: (class,)."""
    known = target.known
    counts = landmark_weights(moments[known]) * target.share[known]
    share = np.bincount(target.label[known], counts, minlength=len(target.classes))
    return share / share.sum()


def null_table(target: Target | LabelTarget, moments: np.ndarray, times: tuple[float, ...]) -> np.ndarray:
    """Aalen-Johansen (1 + cause, time), or shares (class,)."""
    if isinstance(target, LabelTarget):
        return null_shares(target, moments)
    return null_incidence(target, moments, times)


def coarse(
    table: np.ndarray,
    target: Target | LabelTarget,
    patient: np.ndarray,
    times: tuple[float, ...],
    least: int,
) -> np.ndarray:
    """A `null_table` as it is written down, without what it tells of fewer than `least` patients."""
    if isinstance(target, LabelTarget):
        return coarse_shares(table, target, patient, least)
    return coarse_incidence(table, target, patient, times, least)


def landmark_nulls(
    target: Target | LabelTarget, asks: Landmarks, times: tuple[float, ...], least: int = 1
) -> tuple[np.ndarray, np.ndarray] | None:
    """The forecast without inputs at some landmarks: (landmark,) days, nan = entry, whenever it is, and
    (landmark, ...) tables; None: no two.

    Neighbouring landmarks share a table where there are many. One of fewer than TOLD times `least` patients
    has none: what is told of no fewer than `least` (METHODS 34) would be far from its own.
    """
    time, position = np.unique(asks.moments, return_inverse=True)
    weight = landmark_weights(asks.moments)
    mass = np.bincount(position, weight)
    group = (NULLS * (mass.cumsum() - mass / 2) / mass.sum()).astype(int)
    group = np.where(time == ENTRY, -1, np.arange(len(time)) if len(time) <= NULLS else group)[position]
    days, tables = [], []
    for one in np.unique(group):
        rows = group == one
        if len(np.unique(asks.patient[rows & target.known])) >= max(REMAIN, TOLD * least):
            day = np.nan if one < 0 else float(f"{np.average(asks.days[rows], weights=weight[rows]):.4g}")
            days.append(day)
            table = null_table(target[rows], asks.moments[rows], times)
            tables.append(coarse(table, target[rows], asks.patient[rows], times, least).round(4))
            tables[-1][0] = 1 - tables[-1][1:].sum(0)
    return (np.array(days), np.stack(tables)) if len(days) > 1 else None


def target_of(asks: Landmarks, name: str) -> Target | LabelTarget:
    """What came of each ask, of one outcome; an ask that is not at risk teaches nothing."""
    outcome, at_risk = asks.cohort.answered([name])[name], asks.at_risk(name)
    if not isinstance(outcome, Survival):
        return label_target(outcome, asks, at_risk)
    truth = asks[at_risk].outcome(name)
    event, time = np.zeros(len(asks), np.int64), np.full(len(asks), np.nan)
    event[at_risk], time[at_risk] = truth["event"], truth["time"]
    return Target(outcome.causes, event, time)


def label_target(outcome: Diagnosis | Task, asks: Landmarks, at_risk: np.ndarray) -> LabelTarget:
    """What came of each ask; those that are not `at_risk`, (ask,) bool, have no label.

    Of a diagnosis within a horizon, who was lost before it is represented by the others: what came at T
    weighs 1/G(T-), who is free of it beyond the horizon h 1/G(h), with G of the asks at risk of the same
    landmark (METHODS 9). The weights of a landmark have a mean of one. Where G(h) < .1 nothing is learned.
    """
    label = np.full(len(asks), -1, np.int64)
    if not isinstance(outcome, Diagnosis) or outcome.horizon is None:
        label[at_risk] = outcome.truth(asks.patient[at_risk], asks.at[at_risk])["label"]
        return LabelTarget(outcome.classes, label)
    event, time = outcome.course(asks.patient[at_risk], asks.at[at_risk])
    code, share = followed_labels(event, time, landmark_of(asks.moments[at_risk]), outcome.horizon / DAY)
    label[at_risk], weight = code, np.zeros(len(asks))
    weight[at_risk] = share
    return LabelTarget(outcome.classes, label, weight)


def followed_labels(
    event: np.ndarray, time: np.ndarray, landmark: np.ndarray, horizon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Label (-1 = lost before the horizon) and weight of each row: `event` 1 is yes, any other end no.

    >>> followed_labels(np.array([1, 2, 0, 0]), np.array([1.0, 2.0, 3.0, 9.0]), np.zeros(4), 5.0)
    (array([ 1,  0, -1,  0]), array([0.75, 0.75, 0.  , 1.5 ]))
    """
    label, weight = np.full(len(event), -1, np.int64), np.zeros(len(event))
    for one in np.unique(landmark):
        rows = np.flatnonzero(landmark == one)
        when, what = time[rows], event[rows]
        g = censoring(when, what)
        if g.right(horizon) < UNCENSORED:
            continue
        beyond = when > horizon
        seen = beyond | (what > 0)
        inverse = 1 / np.where(beyond, g.right(horizon), g.left(np.minimum(when, horizon)))
        label[rows] = np.where(seen, ~beyond & (what == 1), -1)
        weight[rows] = np.where(seen, inverse * seen.sum() / (inverse @ seen), 0.0)
    return label, weight


def landmark_of(at: np.ndarray) -> np.ndarray:
    """A number for each landmark: (ask,) int64. Times of few asks, as of visits, go with their neighbours."""
    _, time, count = np.unique(at, return_inverse=True, return_counts=True)
    few = count < REMAIN
    pooled = np.where(few, count, 0).cumsum() // (2 * REMAIN)
    return np.where(few, -1 - pooled, np.arange(len(count)))[time]


def check_targets(targets: Mapping[str, Target | LabelTarget], landmarks: Landmarks) -> None:
    """Refuse at once what could only fail after an epoch."""
    if not len(landmarks):
        raise InputError("no ask to train on; nobody is at risk at these landmarks")
    for name, target in targets.items():
        target.check(name)
        parts = [set(landmarks.patient[asks].tolist()) for asks in target.counted.values()]
        if isinstance(target, LabelTarget):  # those who are not of the commonest class
            parts.remove(max(parts, key=len))
        few = len(set().union(*parts))
        if few < FEW_EVENTS and len(np.unique(landmarks.groups)) > 1:  # one alone is refused soon
            what = "outside the commonest class" if isinstance(target, LabelTarget) else "with an event"
            warnings.warn(
                f"outcome {name!r}: {few} of {len(np.unique(landmarks.patient))} patients {what}; what is "
                "learned of so few is chance",
                stacklevel=3,
            )
