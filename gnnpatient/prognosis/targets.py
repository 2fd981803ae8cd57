"""What came of each landmark, and what can be learned from it: horizon, time grid, marginals."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.diagnosis import Diagnosis, Labels, rarest
from gnnpatient.cohort.outcomes import Outcome
from gnnpatient.cohort.splits import landmark_weights
from gnnpatient.errors import InputError
from gnnpatient.metrics import aalen_johansen, censoring, integrated_brier, ranked_probability
from gnnpatient.model.heads import DiagnosisConfig, HeadConfig, SurvivalConfig
from gnnpatient.prognosis.disclosure import (
    HORIZON_STEPS,
    coarse_incidence,
    coarse_shares,
    pooled,
    round_time,
)
from gnnpatient.prognosis.forecast import Answer, DiagnosisForecast, Forecast
from gnnpatient.show import counted
from gnnpatient.times import DAY

MIN_REMAINING = 20  # patients who must be observed beyond the horizon
MIN_UNCENSORED = 0.1  # share that must not be censored by it
MAX_BEYOND = 1.1  # of the longest follow-up, a horizon above which a fit warns
MIN_EVENT_PATIENTS = 5  # patients with an event, below which a fit warns
UNKNOWN = 0.5  # what is said of a label that was looked for in nobody


class Target(ABC):
    """What came of each landmark, of one outcome: the data that one kind of head learns from.

    A subclass per kind of outcome, named in `gnnpatient.prognosis.kinds.KINDS`.

    Attributes
    ----------
    COUNTED : str
        How the model card counts patients: ``"with"`` in "12 patients with death".
    INFORMATIVE : str
        What makes a patient informative, in a warning: ``"with an event"`` in "3 of 40 patients with an
        event".
    TEACHING : str
        From which patients the weights of the families are learned, see `has_event`: ``"with the event"`` in
        "that takes 100 patients with the event".
    """

    COUNTED: ClassVar[str]
    INFORMATIVE: ClassVar[str]
    TEACHING: ClassVar[str] = "with the event"

    @classmethod
    @abstractmethod
    def of(cls, landmarks: Landmarks, name: str) -> Target:
        """Read an outcome at landmarks.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times; those not at risk teach nothing.
        name : str
            Name of the outcome.

        Returns
        -------
        Target
        """

    @classmethod
    @abstractmethod
    def from_y(cls, outcome: Outcome, y: np.ndarray, size: int) -> Target:
        """Read what a caller passes as `y`.

        Parameters
        ----------
        outcome : Outcome
            The outcome that `y` is about.
        y : ndarray
            One entry per landmark.
        size : int
            Number of landmarks.

        Returns
        -------
        Target

        Raises
        ------
        InputError
            When `y` has another shape, type or range than this kind of outcome needs.
        """

    @property
    @abstractmethod
    def known(self) -> np.ndarray:
        """Which landmarks teach something: (landmark,) bool."""

    @property
    def tells(self) -> np.ndarray:
        """Which landmarks say what the answer was: (landmark,) bool; by default `known`."""
        return self.known

    @property
    @abstractmethod
    def strata(self) -> np.ndarray:
        """What inner folds spread evenly: (landmark,) int64."""

    @property
    @abstractmethod
    def columns(self) -> tuple[np.ndarray, ...]:
        """What the head's loss takes beside the predictions, each (landmark, ...)."""

    @property
    @abstractmethod
    def counts(self) -> dict[str, np.ndarray]:
        """The landmarks of each cause or class, by its name: (landmark,) bool."""

    @property
    def parts(self) -> tuple[np.ndarray, ...]:
        """The landmarks that teach each score of a model, each (landmark,) bool; by default `counts`."""
        return tuple(self.counts.values())

    @property
    def weight(self) -> np.ndarray | None:
        """For how many each known landmark stands, (landmark,) float64; None: for itself."""
        return None

    @property
    def share(self) -> np.ndarray:
        """`weight`, with 1 where there is none: (landmark,) float64."""
        return np.ones(len(self.known)) if self.weight is None else self.weight

    def enough(self, patient: np.ndarray, least: int) -> np.ndarray:
        """Which causes or classes enough patients had to learn more of them than how many they are.

        Parameters
        ----------
        patient : ndarray
            (landmark,) int64, whose landmark each is.
        least : int
            Fewest patients.

        Returns
        -------
        ndarray
            (cause,) or (class,) bool.
        """
        return np.array([len(np.unique(patient[had])) >= least for had in self.parts])

    @abstractmethod
    def __getitem__(self, rows: np.ndarray) -> Target: ...

    @abstractmethod
    def check(self, name: str) -> None:
        """Check that something can be learned.

        Parameters
        ----------
        name : str
            Name of the outcome, for the message.

        Raises
        ------
        InputError
            When nothing can be learned from these landmarks.
        """

    @abstractmethod
    def informative(self, patient: np.ndarray) -> int:
        """Count the patients who show more than the commonest course.

        Parameters
        ----------
        patient : ndarray
            (landmark,) int64, whose landmark each is.

        Returns
        -------
        int
        """

    @abstractmethod
    def has_event(self, times: tuple[float, ...]) -> np.ndarray:
        """Which landmarks show more than the commonest course.

        Parameters
        ----------
        times : tuple of float
            Days after the landmark, of an outcome with a time grid.

        Returns
        -------
        ndarray
            (landmark,) bool: an event by the last time, or another class than the commonest.
        """

    @abstractmethod
    def head_config(
        self, name: str, landmarks: Landmarks, horizon: float | None, num_times: int, least: int
    ) -> HeadConfig:
        """Choose the head that learns from these landmarks.

        Parameters
        ----------
        name : str
            Name of the outcome, for messages.
        landmarks : Landmarks
            The training landmarks.
        horizon : float or None
            Days up to which to forecast; None: the last horizon that can be estimated.
        num_times : int
            Intervals of the time grid, at most.
        least : int
            Fewest patients that a figure may be of to be written down.

        Returns
        -------
        HeadConfig

        Raises
        ------
        InputError
            When no event lies within the horizon, or the horizon is not above 0.
        """

    @abstractmethod
    def marginal(self, moments: np.ndarray, times: tuple[float, ...] = ()) -> np.ndarray:
        """Forecast without any input, every landmark time counting the same.

        Parameters
        ----------
        moments : ndarray
            (landmark,) int64, the landmark time of each, see `Landmarks.moments`.
        times : tuple of float
            Days after the landmark, of an outcome with a time grid.

        Returns
        -------
        ndarray
            Of the shape of the head's prediction for one landmark.
        """

    @abstractmethod
    def disclosed(
        self, table: np.ndarray, patient: np.ndarray, times: tuple[float, ...], least: int
    ) -> np.ndarray:
        """A `marginal` as it is written down, without what it discloses of fewer than `least` patients.

        Parameters
        ----------
        table : ndarray
            From `marginal`.
        patient : ndarray
            (landmark,) int64, whose landmark each is.
        times : tuple of float
            Those of `table`.
        least : int
            Fewest patients that a figure may be of to be written down.

        Returns
        -------
        ndarray
            Like `table`.
        """

    def posed(self, head: HeadConfig, landmarks: Landmarks, name: str, least: int = 1) -> Target:
        """The same as a head needs it.

        Parameters
        ----------
        head : HeadConfig
            From `head_config`.
        landmarks : Landmarks
            Those of this target.
        name : str
            Name of the outcome.
        least : int
            Fewest patients that a figure may be of to be written down, default 1.

        Returns
        -------
        Target
            By default itself.
        """
        return self

    def rounded(self, table: np.ndarray) -> np.ndarray:
        """A forecast without inputs to four digits.

        Parameters
        ----------
        table : ndarray
            From `disclosed`.

        Returns
        -------
        ndarray
            Like `table`: its slots sum to one.
        """
        found = table.round(4)
        if (found[1:].sum(0) > 1).any():  # of several causes, each rounded up
            found = np.floor(table * 1e4) / 1e4
        found[0] = np.maximum(1 - found[1:].sum(0), 0.0)
        return found

    @abstractmethod
    def start(self, marginal: np.ndarray) -> np.ndarray:
        """Turn a marginal into what a head starts with.

        Parameters
        ----------
        marginal : ndarray
            From `marginal`.

        Returns
        -------
        ndarray
            As the head's `start` takes it.
        """

    @abstractmethod
    def likelihood(self, prediction: np.ndarray, times: tuple[float, ...]) -> np.ndarray:
        """The probability that a prediction gave to what was seen of each landmark.

        Parameters
        ----------
        prediction : ndarray
            (landmark, ...), probabilities as a head predicts them.
        times : tuple of float
            Days after the landmark, of an outcome with a time grid.

        Returns
        -------
        ndarray
            (landmark,) float64, or of several things that were seen (landmark, thing); 1 where nothing was.
        """

    def importance(self, times: tuple[float, ...]) -> np.ndarray:
        """For how much each probability of `likelihood` counts.

        Parameters
        ----------
        times : tuple of float
            Days after the landmark, of an outcome with a time grid.

        Returns
        -------
        ndarray
            Of the shape of `likelihood`; by default `share`.
        """
        return self.share

    @abstractmethod
    def skills(self, forecast: Answer, null: np.ndarray, cause: str | None = None) -> list[float]:
        """Score a forecast: one minus its error over that of the marginal model ("null").

        Parameters
        ----------
        forecast : Forecast or DiagnosisForecast
            Of the landmarks of this target.
        null : ndarray
            Of the known landmarks alone, the forecast without inputs.
        cause : str, optional
            The one cause to score; default: all. Of a diagnosis unused: all classes are scored together.

        Returns
        -------
        list of float
            Of each cause that can be scored, or of all classes together; empty where nothing can be scored.
        """


@dataclass(frozen=True, eq=False)
class SurvivalTarget(Target):
    """What came of each landmark, for one survival outcome.

    Attributes
    ----------
    causes : tuple of str
        Names of the causes.
    event : ndarray
        0 censored, k for ``causes[k - 1]``.
    time : ndarray
        Days after the landmark of the event or of censoring; nan where it is not at risk of this outcome.
    """

    COUNTED = "with"
    INFORMATIVE = "with an event"

    causes: tuple[str, ...]
    event: np.ndarray  # (landmark,) int64
    time: np.ndarray  # (landmark,) float64

    @classmethod
    def of(cls, landmarks: Landmarks, name: str) -> SurvivalTarget:
        """Read a survival outcome at landmarks.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times; those not at risk teach nothing.
        name : str
            Name of the outcome.

        Returns
        -------
        SurvivalTarget
        """
        outcome, at_risk = landmarks.cohort.outcomes_with_model([name])[name], landmarks.at_risk(name)
        truth = landmarks[at_risk].outcome(name)
        event, time = np.zeros(len(landmarks), np.int64), np.full(len(landmarks), np.nan)
        event[at_risk], time[at_risk] = truth["event"], truth["time"]
        return cls(outcome.names, event, time)

    @classmethod
    def from_y(cls, outcome: Outcome, y: np.ndarray, size: int) -> SurvivalTarget:
        """Read a structured array of event and time, as scikit-survival's `Surv` makes it.

        Parameters
        ----------
        outcome : Outcome
            The outcome that `y` is about.
        y : ndarray
            Two fields per landmark: the event (0 censored, k for the k-th cause) and the time (days, above
            0).
        size : int
            Number of landmarks.

        Returns
        -------
        SurvivalTarget

        Raises
        ------
        InputError
            When `y` is anything else.
        """
        if y.dtype.names is None or len(y.dtype.names) != 2 or len(y) != size:
            raise InputError(
                "y: must be a structured array of event and time, one entry per landmark, for one outcome"
            )
        event, time = (y[field] for field in y.dtype.names)
        causes = outcome.names
        if event.dtype.kind not in "biu" or not ((event >= 0) & (event <= len(causes))).all():
            raise InputError(
                f"y: its first field must be the event: 0 censored, 1 to {len(causes)} for "
                f"{', '.join(causes)}"
            )
        if not (np.isfinite(time) & (time > 0)).all():
            raise InputError("y: its second field must be the time, days after the landmark, > 0")
        return cls(causes, event.astype(np.int64), time.astype(float))

    @property
    def known(self) -> np.ndarray:
        """Which landmarks are at risk: (landmark,) bool."""
        return np.isfinite(self.time)

    @property
    def strata(self) -> np.ndarray:
        """The event: (landmark,) int64."""
        return self.event * self.known

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """Event and time, as `SurvivalHead.loss` takes them."""
        return self.event, self.time

    @property
    def counts(self) -> dict[str, np.ndarray]:
        """The landmarks of each cause, by its name: (landmark,) bool."""
        return {cause: self.known & (self.event == k) for k, cause in enumerate(self.causes, 1)}

    def __getitem__(self, rows: np.ndarray) -> SurvivalTarget:
        return SurvivalTarget(self.causes, self.event[rows], self.time[rows])

    def check(self, name: str) -> None:
        """Check that there are events.

        Parameters
        ----------
        name : str
            Name of the outcome, for the message.

        Raises
        ------
        InputError
            When there is no event.
        """
        for cause, happened in self.counts.items():
            if not happened.any() and len(self.causes) == 1:
                raise InputError(
                    f"outcome {name!r}: no events of {cause!r} among {len(self.event)} landmarks; nothing to "
                    "learn"
                )
        if not (self.event > 0).any():
            raise InputError(
                f"outcome {name!r}: no events among {len(self.event)} landmarks; nothing to learn"
            )

    def informative(self, patient: np.ndarray) -> int:
        """Count the patients with an event.

        Parameters
        ----------
        patient : ndarray
            (landmark,) int64, whose landmark each is.

        Returns
        -------
        int
        """
        return len(set().union(*_patients(self, patient)))

    def has_event(self, times: tuple[float, ...]) -> np.ndarray:
        """Which landmarks have an event by the last time.

        Parameters
        ----------
        times : tuple of float
            Days after the landmark.

        Returns
        -------
        ndarray
            (landmark,) bool.
        """
        seen: np.ndarray = (self.strata > 0) & (self.time <= times[-1])
        return seen

    def head_config(
        self, name: str, landmarks: Landmarks, horizon: float | None, num_times: int, least: int
    ) -> SurvivalConfig:
        """Choose the horizon and the time grid.

        Parameters
        ----------
        name : str
            Name of the outcome, for messages.
        landmarks : Landmarks
            The training landmarks.
        horizon : float or None
            Days up to which to forecast; None: see `last_estimable`.
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
        last = (
            last_estimable(self, landmarks.patient, landmarks.moments) if horizon is None else float(horizon)
        )
        if horizon is None and least > 1:
            last = round_time(last, self.time[self.event > 0])
        if not last > 0:
            raise InputError(f"horizon {last:g} days; must be > 0, days after the landmark")
        if not ((self.event > 0) & (self.time <= last)).any():
            raise InputError(
                f"outcome {name!r}: no events within {last:g} days of a landmark; nothing to learn"
            )
        if horizon is not None:
            self._warn_of(name, last, landmarks.patient)
        times = time_grid(self, landmarks.moments, last, num_times, landmarks.patient, least)
        return SurvivalConfig(causes=self.causes, times=times)

    def _warn_of(self, name: str, horizon: float, patient: np.ndarray) -> None:
        """Warn of a horizon that nobody is followed to, or within which hardly anything happens."""
        longest = float(self.time[self.known].max())
        if horizon > MAX_BEYOND * longest and (self.event[self.known] == 0).any():
            warnings.warn(
                f"outcome {name!r}: the horizon is {horizon:g} days, and nobody is followed beyond "
                f"{longest:.0f}: the forecast goes on from there without data",
                stacklevel=4,
            )
        few = len(np.unique(patient[(self.event > 0) & (self.time <= horizon)]))
        if few < MIN_EVENT_PATIENTS <= self.informative(patient):
            warnings.warn(
                f"outcome {name!r}: {counted(few, 'patient')} with an event within {horizon:g} days, the "
                "horizon; what is learned from so few is chance. A number is days; years are written '5y'",
                stacklevel=4,
            )

    def marginal(self, moments: np.ndarray, times: tuple[float, ...] = ()) -> np.ndarray:
        """The Aalen-Johansen estimate [1]_ of the landmarks, every landmark time counting the same.

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

        References
        ----------
        .. [1] Aalen OO, Johansen S. An empirical transition matrix for non-homogeneous Markov chains based on
           censored observations. Scandinavian Journal of Statistics 5:141-150, 1978.
        """
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
        """An incidence as it is written down, see `disclosure.coarse_incidence`.

        Parameters
        ----------
        table : ndarray
            (1 + cause, time), from `marginal`.
        patient : ndarray
            (landmark,) int64, whose landmark each is.
        times : tuple of float
            Those of `table`.
        least : int
            Fewest patients that a figure may be of to be written down.

        Returns
        -------
        ndarray
            (1 + cause, time) float64.
        """
        return coarse_incidence(table, self.event, self.time, patient, times, least)

    def start(self, marginal: np.ndarray) -> np.ndarray:
        """Turn an incidence into hazards.

        Parameters
        ----------
        marginal : ndarray
            (1 + cause, time), from `marginal`.

        Returns
        -------
        ndarray
            (cause, time) float64.
        """
        free = np.concatenate([[1.0], marginal[0, :-1]]).clip(1e-6)
        return np.diff(marginal[1:], prepend=0.0, axis=1) / free

    def likelihood(self, prediction: np.ndarray, times: tuple[float, ...]) -> np.ndarray:
        """The probability of the cause and interval of each event, or of being event-free as long as seen.

        Of what is observed within an interval without an event only its start counts; whatever comes after
        the last time is being event-free up to it.

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
        rows = np.arange(len(prediction))
        time = np.where(self.known, self.time, 0.0)
        # (landmark, slot, 1 + time): at day 0 everybody is event-free
        whole = np.concatenate([np.zeros_like(prediction[..., :1]), prediction], -1)
        whole[:, 0, 0] = 1.0
        event = np.where(time <= times[-1], self.event * self.known, 0)
        interval = np.searchsorted(times, time).clip(max=len(times) - 1)
        happened = whole[rows, event, interval + 1] - whole[rows, event, interval]
        return np.where(event > 0, happened, whole[rows, 0, np.searchsorted(times, time, "right")])

    def skills(self, forecast: Answer, null: np.ndarray, cause: str | None = None) -> list[float]:
        """Score each cause by the integrated Brier score [1]_.

        Parameters
        ----------
        forecast : Forecast
            Of the landmarks of this target.
        null : ndarray
            (known landmark, 1 + cause, time), the forecast without inputs.
        cause : str, optional
            The one cause to score; default: all.

        Returns
        -------
        list of float
            Of each cause that somebody had, here or in training.

        References
        ----------
        .. [1] Graf E, Schmoor C, Sauerbrei W, Schumacher M. Assessment and comparison of prognostic
           classification schemes for survival data. Statistics in Medicine 18:2529-2545, 1999.
        """
        curves, known, found = cast(Forecast, forecast), self.known, []
        time, event = self.time[known], self.event[known]
        for k in [curves.slot(cause)] if cause else range(1, 1 + len(curves.causes)):
            error, _ = integrated_brier(curves.incidence[known, k], curves.times, time, event, cause=k)
            null_error, _ = integrated_brier(null[:, k], curves.times, time, event, cause=k)
            if null_error != 0:  # else nobody had this cause here or in training: nothing to explain
                found.append(1 - error / null_error)
        return found


@dataclass(frozen=True, eq=False)
class LabelTarget(Target):
    """Which class each landmark turned out to be of, for one diagnosis.

    Attributes
    ----------
    classes : tuple of str
        Names of the classes.
    label : ndarray
        Position in `classes`; -1: never looked for, not at risk, or lost before the horizon.
    weight : ndarray or None
        For how many each known label stands; None: for itself.
    """

    COUNTED = "of class"
    INFORMATIVE = "outside the commonest class"

    classes: tuple[str, ...]
    label: np.ndarray  # (landmark,) int64
    weight: np.ndarray | None = None  # (landmark,) float64

    @classmethod
    def of(cls, landmarks: Landmarks, name: str) -> LabelTarget:
        """Read a diagnosis at landmarks.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times; those not at risk teach nothing.
        name : str
            Name of the outcome.

        Returns
        -------
        LabelTarget
        """
        return label_target(
            landmarks.cohort.outcomes_with_model([name])[name], landmarks, landmarks.at_risk(name)
        )

    @classmethod
    def from_y(cls, outcome: Outcome, y: np.ndarray, size: int) -> LabelTarget:
        """Read class positions.

        Parameters
        ----------
        outcome : Outcome
            The outcome that `y` is about.
        y : ndarray
            (landmark,) int: position in the outcome's classes; -1: never looked for.
        size : int
            Number of landmarks.

        Returns
        -------
        LabelTarget

        Raises
        ------
        InputError
            When `y` is anything else.
        """
        last = len(outcome.names) - 1
        if y.shape != (size,) or y.dtype.kind not in "iu" or not ((y >= -1) & (y <= last)).all():
            raise InputError(
                f"y: must be an int array, one entry per landmark: 0 to {last} for "
                f"{', '.join(outcome.names)}, -1 = never looked for"
            )
        return cls(outcome.names, y.astype(np.int64))

    @property
    def known(self) -> np.ndarray:
        """Which landmarks have a label: (landmark,) bool."""
        return self.label >= 0

    @property
    def strata(self) -> np.ndarray:
        """The label: (landmark,) int64."""
        return self.label.clip(min=0)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """The label, as `DiagnosisHead.loss` takes it."""
        return (self.label,)

    @property
    def counts(self) -> dict[str, np.ndarray]:
        """The landmarks of each class, by its name: (landmark,) bool."""
        return {name: self.label == k for k, name in enumerate(self.classes)}

    def __getitem__(self, rows: np.ndarray) -> LabelTarget:
        weight = None if self.weight is None else self.weight[rows]
        return type(self)(self.classes, self.label[rows], weight)

    def check(self, name: str) -> None:
        """Check that there are two classes.

        Parameters
        ----------
        name : str
            Name of the outcome, for the message.

        Raises
        ------
        InputError
            When there are labels of one class only, or none.
        """
        present = [one for one, landmarks in self.counts.items() if landmarks.any()]
        if len(present) < 2:
            raise InputError(
                f"outcome {name!r}: {'all labels are ' + repr(present[0]) if present else 'no label'} among "
                f"{len(self.label)} landmarks; nothing to learn"
            )

    def informative(self, patient: np.ndarray) -> int:
        """Count the patients who are not of the commonest class alone.

        Parameters
        ----------
        patient : ndarray
            (landmark,) int64, whose landmark each is.

        Returns
        -------
        int
        """
        parts = _patients(self, patient)
        parts.remove(max(parts, key=len))
        return len(set().union(*parts))

    def has_event(self, times: tuple[float, ...] = ()) -> np.ndarray:
        """Which landmarks have another label than the commonest.

        Parameters
        ----------
        times : tuple of float
            Unused.

        Returns
        -------
        ndarray
            (landmark,) bool.
        """
        known: np.ndarray = self.known
        return known & (self.label != np.bincount(self.label[known], minlength=1).argmax())

    def head_config(
        self, name: str, landmarks: Landmarks, horizon: float | None, num_times: int, least: int
    ) -> DiagnosisConfig:
        """Name the classes.

        Parameters
        ----------
        name : str
            Unused.
        landmarks : Landmarks
            Unused.
        horizon : float or None
            Unused.
        num_times : int
            Unused.
        least : int
            Unused.

        Returns
        -------
        DiagnosisConfig
        """
        return DiagnosisConfig(classes=self.classes)

    def marginal(self, moments: np.ndarray, times: tuple[float, ...] = ()) -> np.ndarray:
        """Share of each class among the labelled landmarks, every landmark time counting the same.

        Parameters
        ----------
        moments : ndarray
            (landmark,) int64, the landmark time of each, see `Landmarks.moments`.
        times : tuple of float
            Unused.

        Returns
        -------
        ndarray
            (class,) float64.
        """
        known = self.known
        weight = landmark_weights(moments[known]) * self.share[known]
        share = np.bincount(self.label[known], weight, minlength=len(self.classes))
        return share / share.sum()

    def disclosed(
        self, table: np.ndarray, patient: np.ndarray, times: tuple[float, ...], least: int
    ) -> np.ndarray:
        """Shares as they are written down, see `disclosure.coarse_shares`.

        Parameters
        ----------
        table : ndarray
            (class,), from `marginal`.
        patient : ndarray
            (landmark,) int64, whose landmark each is.
        times : tuple of float
            Unused.
        least : int
            Fewest patients that a figure may be of to be written down.

        Returns
        -------
        ndarray
            (class,) float64.
        """
        return coarse_shares(table, self.label, patient, least)

    def start(self, marginal: np.ndarray) -> np.ndarray:
        """Shares are what a head starts with.

        Parameters
        ----------
        marginal : ndarray
            (class,), from `marginal`.

        Returns
        -------
        ndarray
            The same.
        """
        return marginal

    def likelihood(self, prediction: np.ndarray, times: tuple[float, ...] = ()) -> np.ndarray:
        """The probability of each label.

        Parameters
        ----------
        prediction : ndarray
            (landmark, class), the probabilities.
        times : tuple of float
            Unused.

        Returns
        -------
        ndarray
            (landmark,) float64; 1 where there is no label.
        """
        label = self.label.clip(min=0)
        return np.where(self.known, np.take_along_axis(prediction, label[:, None], 1)[:, 0], 1.0)

    def skills(self, forecast: Answer, null: np.ndarray, cause: str | None = None) -> list[float]:
        """Score all classes together by the Brier score [1]_.

        Parameters
        ----------
        forecast : DiagnosisForecast
            Of the landmarks of this target.
        null : ndarray
            (known landmark, class), the forecast without inputs.
        cause : str, optional
            Unused.

        Returns
        -------
        list of float
            One number, or none where the marginal model makes no error.

        References
        ----------
        .. [1] Brier GW. Verification of forecasts expressed in terms of probability. Monthly Weather Review
           78:1-3, 1950.
        """
        probability, known = cast(DiagnosisForecast, forecast).probability, self.known
        truth, share = np.eye(len(self.classes))[self.label[known]], self.share[known, None]
        error, null_error = (float((share * np.square(p - truth)).sum()) for p in (probability[known], null))
        return [1 - error / null_error] if null_error else []


@dataclass(frozen=True, eq=False)
class OrderedTarget(LabelTarget):
    """Which of some ordered classes each landmark turned out to be of.

    Attributes are those of `LabelTarget`.
    """

    @classmethod
    def of(cls, landmarks: Landmarks, name: str) -> OrderedTarget:
        """Read a diagnosis with ordered classes at landmarks.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times; those not at risk teach nothing.
        name : str
            Name of the outcome.

        Returns
        -------
        OrderedTarget
        """
        found = LabelTarget.of(landmarks, name)
        return cls(found.classes, found.label, found.weight)

    def head_config(
        self, name: str, landmarks: Landmarks, horizon: float | None, num_times: int, least: int
    ) -> DiagnosisConfig:
        """Name the classes, rising.

        Parameters
        ----------
        name : str
            Unused.
        landmarks : Landmarks
            Unused.
        horizon : float or None
            Unused.
        num_times : int
            Unused.
        least : int
            Unused.

        Returns
        -------
        DiagnosisConfig
        """
        return DiagnosisConfig(kind="ordered", classes=self.classes)

    def skills(self, forecast: Answer, null: np.ndarray, cause: str | None = None) -> list[float]:
        """Score all classes together by `gnnpatient.metrics.ranked_probability`.

        Parameters
        ----------
        forecast : DiagnosisForecast
            Of the landmarks of this target.
        null : ndarray
            (known landmark, class), the forecast without inputs.
        cause : str, optional
            Unused.

        Returns
        -------
        list of float
            One number, or none where the marginal model makes no error.
        """
        label, weight = self.label[self.known], self.share[self.known]
        each = cast(DiagnosisForecast, forecast).probability[self.known], null
        error, null_error = (ranked_probability(p, label, weight=weight) for p in each)
        return [1 - error / null_error] if null_error else []


@dataclass(frozen=True, eq=False)
class LabelsTarget(Target):
    """Which labels each landmark turned out to have, for one outcome of several.

    Attributes
    ----------
    by_label : tuple of LabelTarget
        Yes or no of each label, with weights of its own.
    labels : tuple of str
        Names of the labels.
    """

    COUNTED = "with"
    INFORMATIVE = "with a label"

    by_label: tuple[LabelTarget, ...]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, landmarks: Landmarks, name: str) -> LabelsTarget:
        """Read the labels of landmarks.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times; a label that is not at risk then teaches nothing.
        name : str
            Name of the outcome.

        Returns
        -------
        LabelsTarget
        """
        outcome = cast(Labels, landmarks.cohort.outcomes_with_model([name])[name])
        entered = landmarks.at_risk(name)
        where = landmarks.patient, landmarks.at
        parts = [label_target(one, landmarks, entered & one.at_risk(*where)) for one in outcome.parts]
        return cls(tuple(parts), outcome.labels)

    @classmethod
    def from_y(cls, outcome: Outcome, y: np.ndarray, size: int) -> LabelsTarget:
        """Read yes or no of each label.

        Parameters
        ----------
        outcome : Outcome
            The outcome that `y` is about.
        y : ndarray
            (landmark, label) int: 1 = yes, 0 = no, -1 = never looked for.
        size : int
            Number of landmarks.

        Returns
        -------
        LabelsTarget

        Raises
        ------
        InputError
            When `y` is anything else.
        """
        names = outcome.names
        if y.shape != (size, len(names)) or y.dtype.kind not in "iu" or not ((y >= -1) & (y <= 1)).all():
            raise InputError(
                f"y: must be an int array, one row per landmark, a column for each of {', '.join(names)}: "
                "1 = yes, 0 = no, -1 = never looked for"
            )
        return cls(tuple(LabelTarget(("no", "yes"), column.astype(np.int64)) for column in y.T), names)

    @property
    def label(self) -> np.ndarray:
        """1 = yes, 0 = no, -1 = not known: (landmark, label) int64."""
        return np.stack([part.label for part in self.by_label], 1)

    @property
    def known(self) -> np.ndarray:
        """Which landmarks have any label that is known: (landmark,) bool."""
        return np.any([part.known for part in self.by_label], axis=0)

    @property
    def strata(self) -> np.ndarray:
        """The rarest label that each landmark has: (landmark,) int64."""
        return rarest(self.label)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """The labels and for how many each stands, as `LabelsHead.loss` takes them."""
        share = np.stack([np.where(part.known, part.share, 0.0) for part in self.by_label], 1)
        return self.label, share

    @property
    def counts(self) -> dict[str, np.ndarray]:
        """The landmarks with each label, by its name: (landmark,) bool."""
        return {name: part.label == 1 for name, part in zip(self.labels, self.by_label, strict=True)}

    def enough(self, patient: np.ndarray, least: int) -> np.ndarray:
        """Which labels enough patients have, and enough lack.

        Parameters
        ----------
        patient : ndarray
            (landmark,) int64, whose landmark each is.
        least : int
            Fewest patients.

        Returns
        -------
        ndarray
            (label,) bool.
        """
        return np.array([part.enough(patient, least).all() for part in self.by_label])

    def __getitem__(self, rows: np.ndarray) -> LabelsTarget:
        return LabelsTarget(tuple(part[rows] for part in self.by_label), self.labels)

    def check(self, name: str) -> None:
        """Check that of some label there are both yes and no.

        Parameters
        ----------
        name : str
            Name of the outcome, for the message.

        Raises
        ------
        InputError
            When there is no label with both.
        """
        if not any((part.label == 0).any() and (part.label == 1).any() for part in self.by_label):
            raise InputError(
                f"outcome {name!r}: no label of which both yes and no are among {len(self.label)} landmarks; "
                "nothing to learn"
            )

    def informative(self, patient: np.ndarray) -> int:
        """Count the patients who have a label.

        Parameters
        ----------
        patient : ndarray
            (landmark,) int64, whose landmark each is.

        Returns
        -------
        int
        """
        return len(np.unique(patient[self.has_event()]))

    def has_event(self, times: tuple[float, ...] = ()) -> np.ndarray:
        """Which landmarks have a label.

        Parameters
        ----------
        times : tuple of float
            Unused.

        Returns
        -------
        ndarray
            (landmark,) bool.
        """
        return np.any([part.label == 1 for part in self.by_label], axis=0)

    def head_config(
        self, name: str, landmarks: Landmarks, horizon: float | None, num_times: int, least: int
    ) -> DiagnosisConfig:
        """Name the labels.

        Parameters
        ----------
        name : str
            Unused.
        landmarks : Landmarks
            Unused.
        horizon : float or None
            Unused.
        num_times : int
            Unused.
        least : int
            Unused.

        Returns
        -------
        DiagnosisConfig
        """
        return DiagnosisConfig(kind="labels", classes=self.labels)

    def marginal(self, moments: np.ndarray, times: tuple[float, ...] = ()) -> np.ndarray:
        """Share of each label among landmarks where it is known, every landmark time counting the same.

        Parameters
        ----------
        moments : ndarray
            (landmark,) int64, the landmark time of each, see `Landmarks.moments`.
        times : tuple of float
            Unused.

        Returns
        -------
        ndarray
            (label,) float64; one half of a label of which nothing is known.
        """
        each = (part.marginal(moments)[1] if part.known.any() else UNKNOWN for part in self.by_label)
        return np.array([*each])

    def disclosed(
        self, table: np.ndarray, patient: np.ndarray, times: tuple[float, ...], least: int
    ) -> np.ndarray:
        """Shares as they are written down, see `disclosure.coarse_shares`.

        Parameters
        ----------
        table : ndarray
            (label,), from `marginal`.
        patient : ndarray
            (landmark,) int64, whose landmark each is.
        times : tuple of float
            Unused.
        least : int
            Fewest patients that a figure may be of to be written down.

        Returns
        -------
        ndarray
            (label,) float64.
        """
        pairs = zip(table.tolist(), self.by_label, strict=True)
        return np.array([one.disclosed(np.array([1 - p, p]), patient, (), least)[1] for p, one in pairs])

    def rounded(self, table: np.ndarray) -> np.ndarray:
        """Shares to four digits.

        Parameters
        ----------
        table : ndarray
            From `disclosed`.

        Returns
        -------
        ndarray
            Like `table`.
        """
        return table.round(4)

    def start(self, marginal: np.ndarray) -> np.ndarray:
        """Shares are what a head starts with.

        Parameters
        ----------
        marginal : ndarray
            (label,), from `marginal`.

        Returns
        -------
        ndarray
            The same.
        """
        return marginal

    def likelihood(self, prediction: np.ndarray, times: tuple[float, ...] = ()) -> np.ndarray:
        """The probability of what came of each label.

        Parameters
        ----------
        prediction : ndarray
            (landmark, label), the probabilities.
        times : tuple of float
            Unused.

        Returns
        -------
        ndarray
            (landmark, label) float64; 1 where it is not known.
        """
        label = self.label
        return np.where(label < 0, 1.0, np.where(label == 1, prediction, 1 - prediction))

    def importance(self, times: tuple[float, ...] = ()) -> np.ndarray:
        """For how many each label of a landmark stands.

        Parameters
        ----------
        times : tuple of float
            Unused.

        Returns
        -------
        ndarray
            (landmark, label) float64; 0 where it is not known.
        """
        return self.columns[1]

    def skills(self, forecast: Answer, null: np.ndarray, cause: str | None = None) -> list[float]:
        """Score all labels together by the Brier score.

        Parameters
        ----------
        forecast : DiagnosisForecast
            Of the landmarks of this target.
        null : ndarray
            (known landmark, label), the forecast without inputs.
        cause : str, optional
            The one label to score; default: all.

        Returns
        -------
        list of float
            One number, or none where the marginal model makes no error.
        """
        probability, known = cast(DiagnosisForecast, forecast).probability[self.known], self.known
        label, share = (column[known] for column in self.columns)
        if cause is not None:
            share = share * (np.array(self.labels) == cause)
        truth = np.where(label == 1, 1.0, 0.0)
        error, null_error = (
            float(np.where(share > 0, share * np.square(p - truth), 0.0).sum()) for p in (probability, null)
        )
        return [1 - error / null_error] if null_error else []


def _patients(target: Target, patient: np.ndarray) -> list[set[int]]:
    """The patients of each cause or class."""
    return [set(patient[landmarks].tolist()) for landmarks in target.counts.values()]


def check_targets(targets: Mapping[str, Target], landmarks: Landmarks) -> None:
    """Find out before any epoch what could only fail after one.

    Warns where an outcome has fewer than 5 informative patients.

    Parameters
    ----------
    targets : mapping of str to Target
        By the name of the outcome.
    landmarks : Landmarks
        The training landmarks.

    Raises
    ------
    InputError
        When there is no landmark, or nothing to learn of an outcome.
    """
    if not len(landmarks):
        raise InputError("no landmark to train on: nobody is at risk at these times; choose other landmarks")
    for name, target in targets.items():
        target.check(name)
        few = target.informative(landmarks.patient)
        if few < MIN_EVENT_PATIENTS and len(np.unique(landmarks.groups)) > 1:  # one alone is refused soon
            warnings.warn(
                f"outcome {name!r}: {few} of {len(np.unique(landmarks.patient))} patients "
                f"{target.INFORMATIVE}; what is learned from so few is chance",
                stacklevel=3,
            )


def last_estimable(target: SurvivalTarget, patient: np.ndarray, moments: np.ndarray) -> float:
    """The longest horizon at which a score can still be estimated from these landmarks.

    At least 20 patients are observed beyond it, and at least a tenth would be uncensored then. With too few
    patients to score at any horizon: the last time.

    Parameters
    ----------
    target : SurvivalTarget
        What came of each landmark.
    patient : ndarray
        (landmark,) int64, whose landmark each is.
    moments : ndarray
        (landmark,) int64, the landmark time of each.

    Returns
    -------
    float
        Days.
    """
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
    """Choose the ends of the intervals of a time grid, with equally many events in each.

    Parameters
    ----------
    target : SurvivalTarget
        What came of each landmark.
    moments : ndarray
        (landmark,) int64, the landmark time of each.
    horizon : float
        Days; the last end.
    size : int
        Intervals, at most.
    patient : ndarray, optional
        (landmark,) int64, whose landmark each is; default: each is another patient's.
    least : int
        Above 1 no end is a patient's time, but a multiple of a 50th of the horizon, and each interval has
        events of at least so many patients, or none. Default 1.

    Returns
    -------
    tuple of float
        Days after the landmark, rising.
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


def label_target(outcome: Outcome, landmarks: Landmarks, at_risk: np.ndarray) -> LabelTarget:
    """Read the label of each landmark.

    Of a diagnosis within a horizon h, landmarks that were lost before are represented by the others (inverse
    probability of censoring weights [1]_): an event at T weighs 1/G(T-), being free beyond the horizon
    1/G(h), with G the Kaplan-Meier estimate of staying uncensored among the landmarks of the same landmark
    time. The weights of a landmark time have a mean of one. Where G(h) < 0.1 nothing is learned.

    Parameters
    ----------
    outcome : Outcome
        A diagnosis, or a task.
    landmarks : Landmarks
        Patients at prediction times.
    at_risk : ndarray
        (landmark,) bool; the others get no label.

    Returns
    -------
    LabelTarget

    References
    ----------
    .. [1] Graf E, Schmoor C, Sauerbrei W, Schumacher M. Assessment and comparison of prognostic
       classification schemes for survival data. Statistics in Medicine 18:2529-2545, 1999.
    """
    label = np.full(len(landmarks), -1, np.int64)
    patient, at = landmarks.patient[at_risk], landmarks.at[at_risk]
    if not outcome.has_course:
        label[at_risk] = outcome.truth(patient, at)["label"]
        return LabelTarget(outcome.names, label)
    diagnosis = cast(Diagnosis, outcome)
    assert diagnosis.horizon is not None
    event, time = diagnosis.course(patient, at)
    code, share = followed_labels(
        event, time, pooled_landmark(landmarks.moments[at_risk]), diagnosis.horizon / DAY
    )
    label[at_risk], weight = code, np.zeros(len(landmarks))
    weight[at_risk] = share
    return LabelTarget(outcome.names, label, weight)


def followed_labels(
    event: np.ndarray, time: np.ndarray, landmark: np.ndarray, horizon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Read what came within a horizon, where that is known, and for how many each row stands.

    Parameters
    ----------
    event : ndarray
        (landmark,) int64, 1 = yes, above 1 = gone without it, 0 = lost.
    time : ndarray
        (landmark,) float64, days until then.
    landmark : ndarray
        (landmark,) int64, number of the landmark time, see `pooled_landmark`.
    horizon : float
        Days.

    Returns
    -------
    tuple of ndarray
        The label, 1 = yes, 0 = no, -1 = lost before the horizon; and the weight.

    Examples
    --------
    >>> followed_labels(np.array([1, 2, 0, 0]), np.array([1.0, 2.0, 3.0, 9.0]), np.zeros(4), 5.0)
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


def pooled_landmark(at: np.ndarray) -> np.ndarray:
    """Number the landmark times; those of few landmarks join their neighbours.

    Parameters
    ----------
    at : ndarray
        `Landmarks.moments`, (landmark,) int64.

    Returns
    -------
    ndarray
        (landmark,) int64.
    """
    _, time, count = np.unique(at, return_inverse=True, return_counts=True)
    few = count < MIN_REMAINING
    pooled = np.where(few, count, 0).cumsum() // (2 * MIN_REMAINING)
    return np.where(few, -1 - pooled, np.arange(len(count)))[time]
