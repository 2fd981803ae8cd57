"""What came of each ask, and what can be learned of it: horizon, time grid, the forecast without inputs."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.outcomes import Diagnosis, Outcome
from gnnpatient.cohort.splits import landmark_weights
from gnnpatient.errors import InputError
from gnnpatient.metrics import aalen_johansen, censoring, integrated_brier
from gnnpatient.model.heads import DiagnosisConfig, HeadConfig, SurvivalConfig
from gnnpatient.prognosis.disclosure import (
    HORIZON_STEPS,
    coarse_incidence,
    coarse_shares,
    pooled,
    round_time,
)
from gnnpatient.prognosis.forecast import Answer, DiagnosisForecast, Forecast
from gnnpatient.times import DAY

MIN_REMAINING = 20  # patients who must be observed beyond the horizon
MIN_UNCENSORED = 0.1  # share that must not be censored by it
MIN_EVENT_PATIENTS = 5  # patients with an event, below which a fit warns


class Target(ABC):
    """What came of each landmark, of one outcome: the data that one kind of head learns from."""

    # how the model card counts patients: "12 patients with death", "12 patients of class yes"
    COUNTED: ClassVar[str]
    # what makes a patient informative, in a warning: "3 of 40 patients with an event"
    INFORMATIVE: ClassVar[str]

    @classmethod
    @abstractmethod
    def of(cls, landmarks: Landmarks, name: str) -> Target:
        """Read the outcome `name` at these landmarks; one that is not at risk teaches nothing."""

    @classmethod
    @abstractmethod
    def from_y(cls, outcome: Outcome, y: np.ndarray, size: int) -> Target:
        """Read what a caller gives as `y`."""

    @property
    @abstractmethod
    def known(self) -> np.ndarray:
        """Which landmarks teach something: (landmark,) bool."""

    @property
    @abstractmethod
    def strata(self) -> np.ndarray:
        """What inner folds spread evenly: (landmark,) int64."""

    @property
    @abstractmethod
    def columns(self) -> tuple[np.ndarray, ...]:
        """What the head's loss takes beside the predictions, each (landmark,)."""

    @property
    @abstractmethod
    def counts(self) -> dict[str, np.ndarray]:
        """The landmarks of each cause or class: (landmark,) bool."""

    @property
    def weight(self) -> np.ndarray | None:
        """For how many each known landmark stands, (landmark,) float64; None: for itself."""
        return None

    @property
    def share(self) -> np.ndarray:
        """`weight`, with 1 where none is given: (landmark,) float64."""
        return np.ones(len(self.known)) if self.weight is None else self.weight

    @abstractmethod
    def __getitem__(self, rows: np.ndarray) -> Target: ...

    @abstractmethod
    def check(self, name: str) -> None:
        """Refuse what cannot be learned."""

    @abstractmethod
    def informative(self, patient: np.ndarray) -> int:
        """How many patients tell something beyond the commonest course."""

    @abstractmethod
    def head_config(
        self, name: str, landmarks: Landmarks, horizon: float | None, num_times: int, least: int
    ) -> HeadConfig:
        """The head that learns from these landmarks."""

    @abstractmethod
    def marginal(self, moments: np.ndarray, times: tuple[float, ...] = ()) -> np.ndarray:
        """What is forecast without any input, every landmark counting the same."""

    @abstractmethod
    def disclosed(
        self, table: np.ndarray, patient: np.ndarray, times: tuple[float, ...], least: int
    ) -> np.ndarray:
        """A `marginal` as it is written down, without what it tells of fewer than `least` patients."""

    @staticmethod
    @abstractmethod
    def start(marginal: np.ndarray) -> np.ndarray:
        """What a head starts with: the marginal in the head's own terms."""

    @abstractmethod
    def skills(self, forecast: Answer, null: np.ndarray) -> list[float]:
        """One minus the share of the null's error that is left, of each cause, or of all classes together."""


@dataclass(frozen=True, eq=False)
class SurvivalTarget(Target):
    """What came of each landmark, for one survival outcome."""

    COUNTED = "with"
    INFORMATIVE = "with an event"

    causes: tuple[str, ...]
    event: np.ndarray  # (landmark,) int64: 0 censored, k = causes[k - 1]
    time: np.ndarray  # (landmark,) days after it; nan where it is not at risk of this outcome

    @classmethod
    def of(cls, landmarks: Landmarks, name: str) -> SurvivalTarget:
        outcome, at_risk = landmarks.cohort.outcomes_with_model([name])[name], landmarks.at_risk(name)
        truth = landmarks[at_risk].outcome(name)
        event, time = np.zeros(len(landmarks), np.int64), np.full(len(landmarks), np.nan)
        event[at_risk], time[at_risk] = truth["event"], truth["time"]
        return cls(outcome.names, event, time)

    @classmethod
    def from_y(cls, outcome: Outcome, y: np.ndarray, size: int) -> SurvivalTarget:
        if y.dtype.names is None or len(y.dtype.names) != 2 or len(y) != size:
            raise InputError(
                "y: a structured array of event and time, one entry an ask, for a model of one outcome"
            )
        event, time = (y[field] for field in y.dtype.names)
        causes = outcome.names
        if event.dtype.kind not in "biu" or not ((event >= 0) & (event <= len(causes))).all():
            raise InputError(
                f"y: its first field is the event: 0 censored, 1 to {len(causes)} for {', '.join(causes)}"
            )
        if not (np.isfinite(time) & (time > 0)).all():
            raise InputError("y: its second field is the time, days after the ask, above 0")
        return cls(causes, event.astype(np.int64), time.astype(float))

    @property
    def known(self) -> np.ndarray:
        return np.isfinite(self.time)

    @property
    def strata(self) -> np.ndarray:
        return self.event * self.known

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        return self.event, self.time

    @property
    def counts(self) -> dict[str, np.ndarray]:
        return {cause: self.known & (self.event == k) for k, cause in enumerate(self.causes, 1)}

    def __getitem__(self, rows: np.ndarray) -> SurvivalTarget:
        return SurvivalTarget(self.causes, self.event[rows], self.time[rows])

    def check(self, name: str) -> None:
        for cause, happened in self.counts.items():
            if not happened.any() and len(self.causes) == 1:
                raise InputError(
                    f"outcome {name!r}: no events of {cause!r} among {len(self.event)} asks; nothing to learn"
                )
        if not (self.event > 0).any():
            raise InputError(f"outcome {name!r}: no events among {len(self.event)} asks; nothing to learn")

    def informative(self, patient: np.ndarray) -> int:
        return len(set().union(*_patients(self, patient)))

    def head_config(
        self, name: str, landmarks: Landmarks, horizon: float | None, num_times: int, least: int
    ) -> SurvivalConfig:
        last = (
            last_estimable(self, landmarks.patient, landmarks.moments) if horizon is None else float(horizon)
        )
        if horizon is None and least > 1:
            last = round_time(last, self.time[self.event > 0])
        if not last > 0:
            raise InputError(f"horizon {last:g} days; it lies after the ask")
        if not ((self.event > 0) & (self.time <= last)).any():
            raise InputError(f"outcome {name!r}: no events within {last:g} days of an ask; nothing to learn")
        times = time_grid(self, landmarks.moments, last, num_times, landmarks.patient, least)
        return SurvivalConfig(causes=self.causes, times=times)

    def marginal(self, moments: np.ndarray, times: tuple[float, ...] = ()) -> np.ndarray:
        """Aalen-Johansen of the landmarks, every landmark counting the same: (1 + cause, time)."""
        known = self.known
        return aalen_johansen(
            self.time[known],
            self.event[known],
            np.array(times),
            causes=len(self.causes),
            weight=landmark_weights(moments)[known],
        )

    def disclosed(
        self, table: np.ndarray, patient: np.ndarray, times: tuple[float, ...], least: int
    ) -> np.ndarray:
        return coarse_incidence(table, self.event, self.time, patient, times, least)

    @staticmethod
    def start(marginal: np.ndarray) -> np.ndarray:
        """Hazards (cause, time) that a head starts with, from the incidence of all landmarks."""
        free = np.concatenate([[1.0], marginal[0, :-1]]).clip(1e-6)
        return np.diff(marginal[1:], prepend=0.0, axis=1) / free

    def skills(self, forecast: Answer, null: np.ndarray) -> list[float]:
        """Of each cause, by the integrated Brier score (Graf et al. 1999)."""
        curves, known, found = cast(Forecast, forecast), self.known, []
        time, event = self.time[known], self.event[known]
        for k in range(1, 1 + len(curves.causes)):
            error, _ = integrated_brier(curves.incidence[known, k], curves.times, time, event, cause=k)
            null_error, _ = integrated_brier(null[:, k], curves.times, time, event, cause=k)
            if null_error != 0:  # else nobody had this cause here or in training: nothing to explain
                found.append(1 - error / null_error)
        return found


@dataclass(frozen=True, eq=False)
class LabelTarget(Target):
    """Which class each landmark turned out to be of, for one diagnosis."""

    COUNTED = "of class"
    INFORMATIVE = "outside the commonest class"

    classes: tuple[str, ...]
    # (landmark,) int64 into classes; -1 = not looked for, not at risk, or lost before the horizon
    label: np.ndarray
    # (landmark,) for how many each known label stands; None: for itself
    weight: np.ndarray | None = None

    @classmethod
    def of(cls, landmarks: Landmarks, name: str) -> LabelTarget:
        return label_target(
            landmarks.cohort.outcomes_with_model([name])[name], landmarks, landmarks.at_risk(name)
        )

    @classmethod
    def from_y(cls, outcome: Outcome, y: np.ndarray, size: int) -> LabelTarget:
        last = len(outcome.names) - 1
        if y.shape != (size,) or y.dtype.kind not in "iu" or not ((y >= -1) & (y <= last)).all():
            raise InputError(
                f"y: an int array, one entry an ask: 0 to {last} for {', '.join(outcome.names)}, -1 = not "
                "looked for"
            )
        return cls(outcome.names, y.astype(np.int64))

    @property
    def known(self) -> np.ndarray:
        return self.label >= 0

    @property
    def strata(self) -> np.ndarray:
        return self.label.clip(min=0)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        return (self.label,)

    @property
    def counts(self) -> dict[str, np.ndarray]:
        return {name: self.label == k for k, name in enumerate(self.classes)}

    def __getitem__(self, rows: np.ndarray) -> LabelTarget:
        return LabelTarget(self.classes, self.label[rows], None if self.weight is None else self.weight[rows])

    def check(self, name: str) -> None:
        present = [one for one, landmarks in self.counts.items() if landmarks.any()]
        if len(present) < 2:
            raise InputError(
                f"outcome {name!r}: {'all labels are ' + repr(present[0]) if present else 'no label'} among "
                f"{len(self.label)} asks; nothing to learn"
            )

    def informative(self, patient: np.ndarray) -> int:
        """Patients who are not of the commonest class alone."""
        parts = _patients(self, patient)
        parts.remove(max(parts, key=len))
        return len(set().union(*parts))

    def head_config(
        self, name: str, landmarks: Landmarks, horizon: float | None, num_times: int, least: int
    ) -> DiagnosisConfig:
        return DiagnosisConfig(classes=self.classes)

    def marginal(self, moments: np.ndarray, times: tuple[float, ...] = ()) -> np.ndarray:
        """Share of each class among the labelled landmarks, every landmark counting the same: (class,)."""
        known = self.known
        weight = landmark_weights(moments[known]) * self.share[known]
        share = np.bincount(self.label[known], weight, minlength=len(self.classes))
        return share / share.sum()

    def disclosed(
        self, table: np.ndarray, patient: np.ndarray, times: tuple[float, ...], least: int
    ) -> np.ndarray:
        return coarse_shares(table, self.label, patient, least)

    @staticmethod
    def start(marginal: np.ndarray) -> np.ndarray:
        """Shares (class,) that a head starts with."""
        return marginal

    def skills(self, forecast: Answer, null: np.ndarray) -> list[float]:
        """One number, by the Brier score over all classes (Brier 1950)."""
        probability, known = cast(DiagnosisForecast, forecast).probability, self.known
        truth, share = np.eye(len(self.classes))[self.label[known]], self.share[known, None]
        error, null_error = (float((share * np.square(p - truth)).sum()) for p in (probability[known], null))
        return [1 - error / null_error] if null_error else []


def _patients(target: Target, patient: np.ndarray) -> list[set[int]]:
    """The patients of each cause or class."""
    return [set(patient[landmarks].tolist()) for landmarks in target.counts.values()]


def check_targets(targets: Mapping[str, Target], landmarks: Landmarks) -> None:
    """Refuse at once what could only fail after an epoch."""
    if not len(landmarks):
        raise InputError("no ask to train on; nobody is at risk at these landmarks")
    for name, target in targets.items():
        target.check(name)
        few = target.informative(landmarks.patient)
        if few < MIN_EVENT_PATIENTS and len(np.unique(landmarks.groups)) > 1:  # one alone is refused soon
            warnings.warn(
                f"outcome {name!r}: {few} of {len(np.unique(landmarks.patient))} patients "
                f"{target.INFORMATIVE}; what is learned of so few is chance",
                stacklevel=3,
            )


def last_estimable(target: SurvivalTarget, patient: np.ndarray, moments: np.ndarray) -> float:
    """The longest horizon (days) at which a score can still be estimated from these asks (METHODS 15)."""
    known = np.isfinite(target.time)
    time, event = target.time[known], target.event[known]
    longest = np.zeros(patient.max() + 1)
    np.maximum.at(longest, patient[known], time)
    beyond = np.sort(longest[np.unique(patient[known])])[::-1]
    if len(beyond) <= MIN_REMAINING:
        return float(time.max())  # too few patients to score at any horizon, not too few to forecast
    g = censoring(time, event, weight=landmark_weights(moments[known]))
    grid = np.unique(time)
    free = grid[g.right(grid) >= MIN_UNCENSORED]
    return float(min(np.nextafter(beyond[MIN_REMAINING - 1], 0), free.max(initial=grid[0])))


def time_grid(
    target: SurvivalTarget,
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
    cuts = np.unique(
        np.round(cuts[cuts < horizon * (1 - 1e-3)] / horizon * HORIZON_STEPS).clip(1, HORIZON_STEPS - 1)
    )
    ends = np.append(cuts * horizon / HORIZON_STEPS, horizon)
    event_patient = (np.arange(len(target.time)) if patient is None else patient)[seen]
    return tuple(ends[pooled(np.searchsorted(ends, time), event_patient, len(ends), least)].tolist())


def label_target(outcome: Outcome, asks: Landmarks, at_risk: np.ndarray) -> LabelTarget:
    """What came of each ask; those that are not `at_risk`, (ask,) bool, have no label.

    Of a diagnosis within a horizon, who was lost before it is represented by the others: what came at T
    weighs 1/G(T-), who is free of it beyond the horizon h 1/G(h), with G of the asks at risk of the same
    landmark (METHODS 9). The weights of a landmark have a mean of one. Where G(h) < .1 nothing is learned.
    """
    label = np.full(len(asks), -1, np.int64)
    patient, at = asks.patient[at_risk], asks.at[at_risk]
    if not outcome.has_course:
        label[at_risk] = outcome.truth(patient, at)["label"]
        return LabelTarget(outcome.names, label)
    diagnosis = cast(Diagnosis, outcome)
    assert diagnosis.horizon is not None
    event, time = diagnosis.course(patient, at)
    code, share = _followed_labels(
        event, time, _pooled_landmark(asks.moments[at_risk]), diagnosis.horizon / DAY
    )
    label[at_risk], weight = code, np.zeros(len(asks))
    weight[at_risk] = share
    return LabelTarget(outcome.names, label, weight)


def _followed_labels(
    event: np.ndarray, time: np.ndarray, landmark: np.ndarray, horizon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Label (-1 = lost before the horizon) and weight of each row: `event` 1 is yes, any other end no.

    >>> _followed_labels(np.array([1, 2, 0, 0]), np.array([1.0, 2.0, 3.0, 9.0]), np.zeros(4), 5.0)
    (array([ 1,  0, -1,  0]), array([0.75, 0.75, 0.  , 1.5 ]))
    """
    label, weight = np.full(len(event), -1, np.int64), np.zeros(len(event))
    for one in np.unique(landmark):
        rows = np.flatnonzero(landmark == one)
        when, what = time[rows], event[rows]
        g = censoring(when, what)
        if g.right(horizon) < MIN_UNCENSORED:
            continue
        beyond = when > horizon
        seen = beyond | (what > 0)
        inverse = 1 / np.where(beyond, g.right(horizon), g.left(np.minimum(when, horizon)))
        label[rows] = np.where(seen, ~beyond & (what == 1), -1)
        weight[rows] = np.where(seen, inverse * seen.sum() / (inverse @ seen), 0.0)
    return label, weight


def _pooled_landmark(at: np.ndarray) -> np.ndarray:
    """A number for each landmark: (ask,) int64. Times of few asks, as of visits, go with their neighbours."""
    _, time, count = np.unique(at, return_inverse=True, return_counts=True)
    few = count < MIN_REMAINING
    pooled = np.where(few, count, 0).cumsum() // (2 * MIN_REMAINING)
    return np.where(few, -1 - pooled, np.arange(len(count)))[time]
