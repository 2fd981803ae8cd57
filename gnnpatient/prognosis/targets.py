"""What came of each ask, and what can be learned of it: horizon, time grid, the forecast without inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gnnpatient.cohort.landmarks import Landmarks
from gnnpatient.errors import Refused
from gnnpatient.metrics import aalen_johansen, censoring
from gnnpatient.prognosis.few import STEPS, pooled

REMAIN = 20  # patients who must be observed beyond the horizon, and the share that must not be censored by it
UNCENSORED = 0.1


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
                raise Refused(
                    f"outcome {name!r}: no events of {cause!r} among {len(self.event)} asks; nothing to learn"
                )
        if not (self.event > 0).any():
            raise Refused(f"outcome {name!r}: no events among {len(self.event)} asks; nothing to learn")

    @staticmethod
    def start(null: np.ndarray) -> np.ndarray:
        """Hazards (cause, time) that a head starts with, from the incidence of all asks."""
        free = np.concatenate([[1.0], null[0, :-1]]).clip(1e-6)
        return np.diff(null[1:], prepend=0.0, axis=1) / free


@dataclass(frozen=True, eq=False)
class LabelTarget:
    """Which class each ask turned out to be of, for one diagnosis."""

    classes: tuple[str, ...]
    label: np.ndarray  # (ask,) int64 into classes; -1 = not looked for, or not at risk

    @property
    def known(self) -> np.ndarray:
        """Which asks teach something: (ask,) bool."""
        return self.label >= 0

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
        return LabelTarget(self.classes, self.label[rows])

    def check(self, name: str) -> None:
        """Refuse what cannot be learned."""
        there = [one for one, asks in self.counted.items() if asks.any()]
        if len(there) < 2:
            raise Refused(
                f"outcome {name!r}: {'all labels are ' + repr(there[0]) if there else 'no label'} among "
                f"{len(self.label)} asks; nothing to learn"
            )

    @staticmethod
    def start(null: np.ndarray) -> np.ndarray:
        """Shares (class,) that a head starts with."""
        return null


def weights(at: np.ndarray) -> np.ndarray:
    """How often `Draw` takes each ask, with a mean of one: every time counts the same."""
    _, time, count = np.unique(at, return_inverse=True, return_counts=True)
    return len(at) / len(count) / count[time]


def last_estimable(target: Target, patient: np.ndarray, at: np.ndarray) -> float:
    """The longest horizon (days) at which a score can still be estimated from these asks (METHODS 15)."""
    known = np.isfinite(target.time)
    time, event = target.time[known], target.event[known]
    longest = np.zeros(patient.max() + 1)
    np.maximum.at(longest, patient[known], time)
    beyond = np.sort(longest[np.unique(patient[known])])[::-1]
    if len(beyond) <= REMAIN:
        return float(time.max())  # too few patients to score at any horizon, not too few to forecast
    g = censoring(time, event, weight=weights(at[known]))
    grid = np.unique(time)
    free = grid[g.right(grid) >= UNCENSORED]
    return float(min(np.nextafter(beyond[REMAIN - 1], 0), free.max(initial=grid[0])))


def time_grid(
    target: Target,
    at: np.ndarray,
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
    time, weight = target.time[seen], weights(at)[seen]
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


def null_incidence(target: Target, at: np.ndarray, times: tuple[float, ...]) -> np.ndarray:
    """Aalen-Johansen of the asks, every landmark counting the same: (1 + cause, time)."""
    known = np.isfinite(target.time)
    return aalen_johansen(
        target.time[known],
        target.event[known],
        np.array(times),
        causes=len(target.causes),
        weight=weights(at)[known],
    )


def null_shares(target: LabelTarget, at: np.ndarray) -> np.ndarray:
    """Share of each class among the labelled asks, every landmark counting the same: (class,)."""
    known = target.known
    share = np.bincount(target.label[known], weights(at[known]), minlength=len(target.classes))
    return share / share.sum()


def check_targets(targets: Mapping[str, Target | LabelTarget], landmarks: Landmarks) -> None:
    """Refuse at once what could only fail after an epoch."""
    if not len(landmarks):
        raise Refused("no ask to train on; nobody is at risk at these landmarks")
    for name, target in targets.items():
        target.check(name)
