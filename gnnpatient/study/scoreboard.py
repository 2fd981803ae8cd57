"""Scores of models at landmarks, for all rows and for each bootstrap draw: one engine of every comparison.

A `Scoreboard` scores (cause, model, landmark, column) once. `evaluate` and `compare` ask it for their columns
and take their means; neither scores by itself. Scores compare patients of one fold only, count patients where
one has several landmarks, and weigh by inverse probability of censoring (`gnnpatient.metrics`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gnnpatient import metrics
from gnnpatient.cohort.cohort import Landmarks, join_landmarks
from gnnpatient.cohort.outcomes import Labels, Progression
from gnnpatient.prognosis.forecast import Answer, DiagnosisForecast, Forecast, judged
from gnnpatient.prognosis.multistate import StatesForecast
from gnnpatient.prognosis.recurrent import RecurrentForecast
from gnnpatient.prognosis.values import ProgressionForecast, asked_for
from gnnpatient.progress import Progress
from gnnpatient.study.intervals import resampling_units
from gnnpatient.times import DAY

MIN_CASES = 5  # patients among the cases, and among the others, for a score that ranks or fits them
NEED_CASES = ("auc", "auc1", "c", "slope", "ici", "auprc")  # the scores that rank or fit patients
MIN_SEEN = 20  # patients with a value, for a score of values
INTERVAL = 0.9  # of a value
LEARN_AHEAD = 2  # times the time asked for, up to which comparators of a value learn

WORDS = {
    "c": "C",
    "auc": "AUC",
    "scaled_ibs": "scaled IBS",
    "scaled_brier": "scaled Brier",
    "scaled_crps": "scaled CRPS",
    "scaled_mse": "scaled MSE",
    "rps": "RPS",
    "scaled_rps": "scaled RPS",
    "qwk": "quadratic-weighted kappa",
}
"""Metrics in sentences."""

Column = tuple[str, float | None]
"""A metric and its horizon in days; None: of the whole curve, or of a label without a horizon."""


GRID_SIZE = 60  # times up to the last horizon at which forecasts are taken, for the integrated Brier score


def scored_grid(last: float, horizons: Sequence[float], size: int = GRID_SIZE) -> np.ndarray:
    """The times at which curves are scored: the horizons, and a grid for the integrated Brier score.

    Parameters
    ----------
    last : float
        Where the grid ends, in days.
    horizons : sequence of float
        Days.
    size : int, default 60
        Times of the grid.

    Returns
    -------
    array
        (time,) float64 days, rising.

    Examples
    --------
    >>> scored_grid(10.0, [4.0], size=2)
    array([ 4.,  5., 10.])
    """
    return np.unique(np.concatenate([np.linspace(0, last, size + 1)[1:], horizons]))


@dataclass(frozen=True)
class ScoreSet:
    """Which scores judge outcomes of a kind.

    Attributes
    ----------
    at_horizon, overall : tuple of str
        Metrics of `evaluate`: one figure a horizon, and one in all.
    compared_at_horizon, compared_overall : tuple of str
        The same of `compare`.
    deciding : tuple of two str
        Fusion helps where both are better.
    selecting : str
        Chooses the best unimodal model on inner folds: the lower the better.
    """

    at_horizon: tuple[str, ...]
    overall: tuple[str, ...]
    compared_at_horizon: tuple[str, ...]
    compared_overall: tuple[str, ...]
    deciding: tuple[str, str]
    selecting: str


SCORE_SETS = {
    "survival": ScoreSet(
        at_horizon=("auc", "auc1", "c", "brier", "oe", "slope", "ici"),
        overall=("ibs", "tau", "scaled_ibs"),
        compared_at_horizon=("c", "auc"),
        compared_overall=("ibs", "scaled_ibs"),
        deciding=("c", "scaled_ibs"),
        selecting="ibs",
    ),
    "diagnosis": ScoreSet(
        at_horizon=(),
        overall=("auc", "auprc", "brier", "oe", "slope", "ici", "scaled_brier"),
        compared_at_horizon=(),
        compared_overall=("auc", "brier", "scaled_brier"),
        deciding=("auc", "scaled_brier"),
        selecting="brier",
    ),
    "ordered": ScoreSet(
        at_horizon=(),
        overall=(
            *("auc", "auprc", "brier", "oe", "slope", "ici", "scaled_brier"),
            *("rps", "scaled_rps", "qwk"),
        ),
        compared_at_horizon=(),
        compared_overall=("qwk", "rps", "scaled_rps"),
        deciding=("qwk", "scaled_rps"),
        selecting="rps",
    ),
    "labels": ScoreSet(
        at_horizon=(),
        overall=("auc", "auprc", "brier", "oe", "slope", "ici", "scaled_brier"),
        compared_at_horizon=(),
        compared_overall=("auc", "brier", "scaled_brier"),
        deciding=("auc", "scaled_brier"),
        selecting="brier",
    ),
    "progression": ScoreSet(
        at_horizon=(),
        overall=(
            *("rmse", "mae", "crps", "coverage", "width"),
            *("auc", "brier"),  # of being seen
            *("scaled_crps", "scaled_mse"),
        ),
        compared_at_horizon=(),
        compared_overall=("rmse", "crps", "scaled_mse", "scaled_crps"),
        deciding=("scaled_mse", "scaled_crps"),
        selecting="crps",
    ),
}
"""By the kind of an outcome. Of a progression AUC and Brier score are of being seen, the others of the value.
Of ordered classes RPS and kappa are of all classes together, the others of a class or a higher one.

References: AUC (Blanche et al. 2013), C (Uno et al. 2011, Wolbers et al. 2014), Brier score and its integral
IBS (Graf et al. 1999), scaled scores 1 - score / score of the marginal model (Kattan & Gerds 2018), O/E and
slope (Cox 1958, Van Calster et al. 2019), ICI (Austin & Steyerberg 2019), RPS (Epstein 1969), kappa with
squared distances (Cohen 1968).
"""

TOGETHER = {"ordered": "all classes", "labels": "all labels"}
"""By the kind of an outcome, the cause of the figures that are of all of its classes or labels."""

OF_ALL = {"ordered": ("rps", "scaled_rps", "qwk"), "labels": ("auc", "auprc", "brier", "scaled_brier")}
"""The metrics of those figures. Of labels they are means over those that 5 patients have, and 5 have not."""


@runtime_checkable
class Model(Protocol):
    """Whatever answers landmarks with forecasts."""

    def forecast(self, X: Landmarks) -> Mapping[str, Answer]:
        """Forecast every outcome of the model.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.

        Returns
        -------
        mapping of str to Forecast or DiagnosisForecast
            By the name of the outcome.
        """
        ...


@dataclass(frozen=True, eq=False)
class ModelRisks:
    """Landmarks with the risk that each model gives them, of several folds each by the models of its fold.

    Attributes
    ----------
    landmarks : Landmarks
        The landmarks that are scored.
    fold : (landmark,) int64 array
        Which models answered.
    risks : mapping
        Model -> cause -> (landmark, time); of a diagnosis model -> class -> (landmark, 1); of a progression
        model -> outcome -> (landmark, figure), see `VALUE_FIGURES`.
    times : (time,) float64 array
        Days, the grid of the integrated Brier score, horizons included; empty for a diagnosis.
    calibrated : mapping of str to ndarray
        By model that has them, its calibrated answers at level 0.9: of a time (landmark, 1) the bound in
        days, of a diagnosis (landmark, class) 1 for the classes in the set, of a value (landmark, 2) the
        interval; nan where there is none.
    promises : mapping of str to float
        How often they are promised to hold.
    """

    landmarks: Landmarks
    fold: np.ndarray  # (landmark,) int64
    risks: Mapping[str, Mapping[str, np.ndarray]]  # model -> cause -> (landmark, time)
    times: np.ndarray  # (time,) float64
    calibrated: Mapping[str, np.ndarray] = field(default_factory=dict)
    promises: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        parts: Iterable[tuple[Mapping[str, Model], Landmarks]],
        outcome: str,
        times: Any = (),
        progress: Progress | None = None,
    ) -> ModelRisks:
        """Forecast the landmarks of each fold by the models of that fold.

        Parameters
        ----------
        parts : iterable of (mapping of str to Model, Landmarks)
            The models of a fold by name, and the landmarks to score; the same names in every fold.
        outcome : str
            Name of the outcome.
        times : array of float, optional
            Days after the landmark at which risks are taken; none of a diagnosis.
        progress : Progress, optional
            Called after each model.

        Returns
        -------
        ModelRisks
            The landmarks of all folds.

        Raises
        ------
        InputError
            When the landmarks are of different cohorts.
        """
        times = np.asarray(times, np.float64)
        landmarks, folds, risks = [], [], []
        calibrated, promises = dict[str, list[np.ndarray]](), dict[str, float]()
        for i, (models, X) in enumerate(parts):
            landmarks.append(X)
            folds.append(np.full(len(X), i))
            forecasts = {}
            for done, (name, model) in enumerate(models.items(), 1):
                forecasts[name] = model.forecast(X)[outcome]
                if progress:
                    progress("forecasts", done, len(models))
            risks.append({name: RISKS[type(f)](f, times, X) for name, f in forecasts.items()})
            for name, f in forecasts.items():
                calibrated.setdefault(name, []).append(_calibrated(f))
                if f.calibration is not None and f.calibration.reaches(INTERVAL):
                    promises[name] = min(promises.get(name, 1.0), f.calibration.promise(INTERVAL))
        joined = {
            name: {c: np.concatenate([r[name][c] for r in risks]) for c in causes}
            for name, causes in risks[0].items()
        }
        answers = {name: np.concatenate(each) for name, each in calibrated.items() if name in promises}
        return cls(join_landmarks(*landmarks), np.concatenate(folds), joined, times, answers, promises)


def _curve_risks(forecast: Forecast, times: np.ndarray, X: Landmarks) -> dict[str, np.ndarray]:
    """Of each cause (landmark, time)."""
    return {cause: forecast.risks(times, cause) for cause in forecast.causes}


NUMBER = "(number)"
"""Beside the causes: the expected number of events that recur."""


def _recurrent_risks(forecast: RecurrentForecast, times: np.ndarray, X: Landmarks) -> dict[str, np.ndarray]:
    """Of each cause, and the expected number of events, (landmark, time)."""
    return _curve_risks(forecast, times, X) | {NUMBER: forecast.expected_at(times)}


STATE = "(in {})"
"""Beside the causes: the probability of being in a state, by its name."""


def _state_risks(forecast: StatesForecast, times: np.ndarray, X: Landmarks) -> dict[str, np.ndarray]:
    """Of each cause, and of being in each state, (landmark, time)."""
    there = {STATE.format(state): forecast.in_state_at(state, times) for state in forecast.states}
    return _curve_risks(forecast, times, X) | there


def _class_risks(forecast: DiagnosisForecast, times: np.ndarray, X: Landmarks) -> dict[str, np.ndarray]:
    """Of each class or label that is judged (landmark, 1); 0 of a label that is known already."""
    names = judged(forecast.classes, forecast.kind)
    risks = {name: forecast.risk(name)[:, None] for name in names}
    if forecast.kind != "labels":
        return risks
    return {name: np.where(np.isnan(risk), 0.0, risk) for name, risk in risks.items()}


def _calibrated(forecast: Answer) -> np.ndarray:
    """The calibrated answers, nan where there are none, see `ModelRisks.calibrated`."""
    if isinstance(forecast, Forecast):
        return forecast.time_bound(INTERVAL)[:, None]
    if isinstance(forecast, DiagnosisForecast):
        here = forecast.is_calibrated & forecast.at_risk
        return np.where(here[:, None], forecast.class_set(INTERVAL), np.nan)
    if not (isinstance(forecast, ProgressionForecast) and forecast.is_calibrated):
        return np.full((len(forecast), 2), np.nan)
    return np.stack(forecast.interval(INTERVAL), 1)


VALUE_FIGURES = ("mean", "median", "low", "high", "crps", "seen")
"""What is kept of the forecast of a value at the time asked for; its score is nan where no value was seen."""


def _value_figures(forecast: ProgressionForecast, times: np.ndarray, X: Landmarks) -> dict[str, np.ndarray]:
    """What is scored of a forecast value (landmark, figure)."""
    value, low_high = seen_values(X, forecast.outcome), forecast.interval(INTERVAL)
    crps, there = np.full(len(X), np.nan), np.isfinite(value)
    crps[there] = metrics.crps_of(forecast.distribution()[there], forecast.edges, value[there])
    each = forecast.mean(), forecast.quantile(0.5), *low_high, crps, forecast.p_seen()
    return {forecast.outcome: np.stack(each, 1)}


RISKS: Mapping[type, Callable[[Any, np.ndarray, Landmarks], dict[str, np.ndarray]]] = {
    Forecast: _curve_risks,
    RecurrentForecast: _recurrent_risks,
    StatesForecast: _state_risks,
    DiagnosisForecast: _class_risks,
    ProgressionForecast: _value_figures,
}
"""How the risks of a forecast are read, by its class."""


def seen_values(X: Landmarks, outcome: str) -> np.ndarray:
    """The value of each landmark at the time asked for, where it was seen and the patient was there.

    Parameters
    ----------
    X : Landmarks
        With `to`, see `Cohort.at`.
    outcome : str
        Name of a progression of a value.

    Returns
    -------
    (landmark,) float64 array
        nan where none was seen within the window, or the patient was gone or no longer observed by then.
    """
    truth, known = X.outcome(outcome), X.cohort.outcomes[outcome]
    assert isinstance(known, Progression) and X.to is not None
    lost = known.followed_until(X.patient, X.at) < X.to
    return np.where(truth["gone"] | lost, np.nan, truth["value"])


@dataclass(frozen=True, eq=False)
class ObservedOutcome:
    """What came of each landmark.

    Attributes
    ----------
    kind : str
        "survival" of all outcomes with curves, "diagnosis", "ordered", "labels" or "progression".
    code : (landmark,) int64 array
        Survival: the event, 0 = censored. Diagnosis: the class, -1 = not looked for; with a horizon 1 = seen,
        2 = dead or gone before, 0 = neither. Progression: 1 = a value was seen, 0 = none was, though the
        patient was there and followed, -1 = gone or lost before.
    time : (landmark,) float64 array or None
        Days until then; None: a label that no censoring hides.
    judged : mapping of str to int
        Name of each cause or class that is judged -> its code.
    group : (landmark,) int64 array
        What the patient counts as, by position in `names`; -1 = as none of them.
    names : tuple of str
        Survival: "event_free" and the causes. Diagnosis: the classes.
    horizon : float or None
        Days within which the codes of a diagnosis must come.
    pooled : bool
        Whether each landmark has a time of its own, so that all of them together have one figure.
    value : (landmark,) float64 array or None
        Of a progression what was seen; nan where nothing was.
    seen : (landmark,) float64 array or None
        Of a progression whether a value was seen, 1 or 0; nan where the window was not followed to its end.
    parts : tuple of ObservedOutcome
        Of several labels what came of each, yes or no. Then `code` is 0 where any of them was looked for or
        may still be, and `group` where any is known.
    """

    kind: str
    code: np.ndarray  # (landmark,) int64
    time: np.ndarray | None  # (landmark,) float64
    judged: Mapping[str, int]
    group: np.ndarray  # (landmark,) int64
    names: tuple[str, ...]
    horizon: float | None = None
    pooled: bool = False
    value: np.ndarray | None = None  # (landmark,) float64
    seen: np.ndarray | None = None  # (landmark,) float64
    parts: tuple[ObservedOutcome, ...] = ()

    @classmethod
    def of(cls, landmarks: Landmarks, outcome: str) -> ObservedOutcome:
        """Read what came of some landmarks.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times, all of them at risk.
        outcome : str
            Name of a survival outcome or a diagnosis.

        Returns
        -------
        ObservedOutcome

        Raises
        ------
        InputError
            When a patient is not at risk, the outcome has no model, or a value is asked for without a time.
        """
        known, truth = landmarks.cohort.outcomes_with_model([outcome])[outcome], landmarks.outcome(outcome)
        if isinstance(known, Progression) and not known.has_curve:
            return cls._of_value(landmarks, known, outcome)
        if known.has_curve:
            causes = {cause: k for k, cause in enumerate(known.names, 1)}
            event, names = truth["event"].astype(np.int64), ("event_free", *known.names)
            group = known.strata[landmarks.patient] if known.has_patient_groups else event
            return cls("survival", event, truth["time"], causes, group, names)
        if isinstance(known, Labels):
            return cls._of_labels(landmarks, known, truth["label"].astype(np.int64))
        first = 1 if known.kind == "ordered" or len(known.names) == 2 else 0
        classes = {name: first + k for k, name in enumerate(judged(known.names, known.kind))}
        label = truth["label"].astype(np.int64)
        horizon = None if known.horizon is None else known.horizon / DAY
        code, time = label, None
        if known.has_course:
            event, time = known.course(landmarks.patient, landmarks.at)
            code = event.astype(np.int64)
        return cls(known.kind, code, time, classes, label, known.names, horizon, known.has_own_moments)

    @classmethod
    def _of_labels(cls, landmarks: Landmarks, known: Labels, label: np.ndarray) -> ObservedOutcome:
        """Read yes or no of each label."""
        horizon, parts = None if known.horizon is None else known.horizon / DAY, []
        for k, part in enumerate(known.parts):
            code, time = label[:, k], None
            if part.has_course:
                event, time = part.course(landmarks.patient, landmarks.at)
                code = np.where(part.at_risk(landmarks.patient, landmarks.at), event.astype(np.int64), -1)
            parts.append(cls("diagnosis", code, time, {"yes": 1}, label[:, k], ("no", "yes"), horizon))
        code = np.where(np.any([part.code >= 0 for part in parts], axis=0), 0, -1)
        group = np.where((label >= 0).any(1), 0, -1)
        judged_labels = {name: k for k, name in enumerate(known.names)}
        names = known.names
        return cls(known.kind, code, None, judged_labels, group, names, horizon, parts=tuple(parts))

    @classmethod
    def _of_value(cls, landmarks: Landmarks, known: Progression, outcome: str) -> ObservedOutcome:
        """Read the values seen at the times asked for."""
        assert landmarks.to is not None
        value = seen_values(landmarks, outcome)
        seen = known.seen_around(landmarks.patient, landmarks.at, landmarks.to - landmarks.at)
        there = np.isfinite(value)
        code = np.where(there, 1, np.where(seen == 0, 0, -1))
        ahead = np.unique(asked_for(landmarks))
        horizon = float(ahead[0]) if len(ahead) == 1 else None
        group = np.where(there, 0, -1)
        names = {outcome: 1}
        return cls(known.kind, code, None, names, group, ("seen value",), horizon, False, value, seen)

    def unseen(self, landmarks: Landmarks) -> list[str]:
        """Say of how many a value was seen at the time asked for, and why not of the others.

        Parameters
        ----------
        landmarks : Landmarks
            The rows that this was read from.

        Returns
        -------
        list of str
            A line a landmark; none of an outcome that is no value.
        """
        if self.value is None:
            return []
        (outcome,) = self.judged
        gone = landmarks.outcome(outcome)["gone"]
        lines = []
        for day, rows in landmarks.by_landmark.items():
            there = self.code[rows] == 1
            parts = {
                "seen": there,
                "gone by then": gone[rows] & ~there,
                "there without a visit": self.code[rows] == 0,
                "no longer followed": (self.code[rows] < 0) & ~gone[rows],
            }
            words = [f"{share.mean():.0%} {name} ({share.sum()})" for name, share in parts.items()]
            lines.append(f"{outcome} of {len(rows)} landmarks at {day:g} d: {', '.join(words)}")
        return lines

    @property
    def scores(self) -> ScoreSet:
        """What the outcome is judged by."""
        return SCORE_SETS[self.kind]

    @property
    def has_label(self) -> np.ndarray:
        """Which landmarks have an answer by themselves: (landmark,) bool.

        Of survival all; of a diagnosis those with a label. One that censoring hides counts in the
        censoring weights alone.
        """
        return np.ones(len(self.code), bool) if self.kind == "survival" else self.group >= 0

    def counts(self, landmarks: Landmarks) -> dict[str, int]:
        """Number of patients with each cause, or of each class.

        Parameters
        ----------
        landmarks : Landmarks
            The rows that this was read from.

        Returns
        -------
        dict of str to int
        """
        every = np.ones(len(self.code), bool)
        return {name: len(np.unique(landmarks.patient[had])) for name, had in self.with_each(every).items()}

    def with_each(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Which of some landmarks count as with each cause, class or label.

        Parameters
        ----------
        rows : (row,) int64 or (landmark,) bool array
            The landmarks.

        Returns
        -------
        dict of str to (row,) bool array
        """
        if self.parts:
            pairs = zip(self.names, self.parts, strict=True)
            return {name: part.group[rows] == 1 for name, part in pairs}
        first = 1 if self.kind == "survival" else 0
        return {name: self.group[rows] == k for k, name in list(enumerate(self.names))[first:]}

    @property
    def together(self) -> str | None:
        """The cause of figures that are of all classes or labels; None where there is none."""
        return TOGETHER.get(self.kind)

    @property
    def all_causes(self) -> tuple[str, ...]:
        """Every cause of which there are figures."""
        return (*self.judged, *((self.together,) if self.together is not None else ()))

    def defines(self, cause: str, metric: str) -> bool:
        """Whether a metric is one of a cause.

        Parameters
        ----------
        cause : str
            One of `all_causes`.
        metric : str
            Name of the score.

        Returns
        -------
        bool
        """
        if cause == self.together:
            return metric in OF_ALL[self.kind]
        return self.kind != "ordered" or metric not in OF_ALL[self.kind]

    def opened(self, k: int, rows: np.ndarray) -> np.ndarray:
        """Which of some landmarks are scored for one cause: of a label those at which it was open.

        Parameters
        ----------
        k : int
            Code of the cause.
        rows : (row,) int64 array
            Positions of the landmarks.

        Returns
        -------
        (row,) bool array
        """
        return self.parts[k].code[rows] >= 0 if self.parts else np.ones(len(rows), bool)

    def labels(
        self,
        k: int,
        rows: np.ndarray,
        weight: np.ndarray,
        patient: np.ndarray | None = None,
        hazard: np.ndarray | None = None,
    ) -> metrics.AtHorizon | None:
        """What is known of one class of a diagnosis.

        Parameters
        ----------
        k : int
            Code of the class, or position of the label.
        rows : (row,) int64 array
            Positions of the landmarks, see `opened`.
        weight : (row,) array
            How often each was drawn.
        patient : (row,) array, optional
            Whose each row is, where some are of one patient.
        hazard : (row,) array, optional
            Relative hazard of being lost; None: all alike.

        Returns
        -------
        metrics.AtHorizon or None
            None where nothing can be estimated.
        """
        if self.parts:
            return self.parts[k].labels(1, rows, weight, patient, hazard)
        if self.time is None or self.horizon is None:
            case = self.code[rows] >= k if self.kind == "ordered" else self.code[rows] == k
            return metrics.labelled(case, weight=weight, patient=patient)
        time, event = self.time[rows], self.code[rows]
        staying = _censoring(time, event, weight, hazard)
        return metrics.at_horizon(
            time, event, self.horizon, cause=k, weight=weight, staying=staying, patient=patient
        )


@dataclass(frozen=True, eq=False)
class Scoreboard:
    """Every score of every model at each landmark.

    Attributes
    ----------
    models : ModelRisks
        What each model answers; one called "null" is what scaled scores are relative to.
    observed : ObservedOutcome
        What came of the same landmarks.
    causes : tuple of str
        The causes or classes that are scored.
    columns : tuple of (str, float or None)
        Metrics and their horizons.
    members : (landmark,) bool array
        Which landmarks are scored.
    hazard : (landmark,) float64 array or None
        Relative hazard of being lost; None: all alike (Kaplan-Meier weights).
    without_interval : collection of str
        Metrics that draws leave out, as too slow.
    by_patient : bool
        Whether the bootstrap draws patients though splits keep groups together: where the members are those
        of one such group, whose figures are of it alone.
    """

    models: ModelRisks
    observed: ObservedOutcome
    causes: tuple[str, ...]
    columns: tuple[Column, ...]
    members: np.ndarray  # (landmark,) bool
    hazard: np.ndarray | None = None  # (landmark,) float64
    without_interval: Collection[str] = ()
    by_patient: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The models."""
        return tuple(self.models.risks)

    @cached_property
    def rows(self) -> np.ndarray:
        """Positions of the landmarks that are scored: (member,) int64."""
        return np.flatnonzero(self.members)

    @cached_property
    def by_landmark(self) -> dict[float | None, np.ndarray]:
        """Members of each landmark, by its day, as positions in `rows`; None: all in one figure."""
        if self.observed.pooled:
            return {None: np.arange(len(self.rows))}
        place = np.cumsum(self.members) - 1
        each = self.models.landmarks.by_landmark.items()
        return {day: place[rows[self.members[rows]]] for day, rows in each}

    @cached_property
    def units(self) -> tuple[np.ndarray, str]:
        """What the bootstrap draws: the unit of each member, and its name."""
        return resampling_units(self.models.landmarks[self.rows], self.by_patient)

    @cached_property
    def all_rows(self) -> np.ndarray:
        """The scores of all members: (cause, model, landmark, column), nan where not estimable."""
        return self.scores(np.ones(len(self.rows), np.int64))

    @cached_property
    def occupied(self) -> np.ndarray:
        """Landmarks with a member: (landmark,) bool."""
        return self._occupied(np.ones(len(self.rows), np.int64))

    def draws(
        self,
        summary: Callable[[np.ndarray, np.ndarray], np.ndarray],
        n: int,
        seed: int,
        progress: Progress | None = None,
        what: str = "intervals",
    ) -> np.ndarray:
        """Scores of n bootstrap draws of patients or groups; the fitted models are held fixed.

        Parameters
        ----------
        summary : callable
            Of scores (cause, model, landmark, column) and of which landmarks are occupied (landmark,) to an
            array.
        n : int
            Number of draws.
        seed : int
            Of the draws.
        progress : Progress, optional
            Called after each draw.
        what : str
            Its name there, default ``"intervals"``.

        Returns
        -------
        array
            (draw, ...) of `summary`.
        """
        counter = itertools.count(1)

        def summarised(weight: np.ndarray) -> np.ndarray:
            found = summary(self.scores(weight, self.without_interval), self._occupied(weight))
            if progress:
                done = next(counter)
                progress(what, done, n, within=f"{done} of {n}")
            return found

        return metrics.bootstrap(summarised, self.units[0], n=n, seed=seed)

    def scores(self, weight: np.ndarray, skip: Collection[str] = ()) -> np.ndarray:
        """Every score, with members counted `weight` times.

        Parameters
        ----------
        weight : (member,) int64 array
            How often each member is drawn.
        skip : collection of str
            Metrics to leave out (nan).

        Returns
        -------
        (cause, model, landmark, column) float64 array
            nan where not estimable, or nobody is drawn.
        """
        shape = len(self.causes), len(self.names), len(self.by_landmark), len(self.columns)
        out = np.full(shape, np.nan)
        score = {
            "survival": self._curve_scores,
            "progression": self._value_scores,
        }.get(self.observed.kind, self._label_scores)
        for i, place in enumerate(self.by_landmark.values()):
            drawn = place[weight[place] > 0]
            if len(drawn):
                out[:, :, i] = score(self.rows[drawn], weight[drawn], skip)
        return out

    def fewest(self) -> dict[tuple[str, float | None, float | None], float]:
        """Patients among the cases, or among the others, whichever are fewer.

        Returns
        -------
        dict
            (cause, landmark, horizon) -> number; without those where nothing is estimable.
        """
        horizons = list(dict.fromkeys(h for _, h in self.columns if h is not None))
        found: dict[tuple[str, float | None, float | None], float] = {}
        for cause in self.causes:
            if cause == self.observed.together:
                continue
            k = self.observed.judged[cause]
            for day, place in self.by_landmark.items():
                rows = self.rows[place]
                rows = rows[self.observed.opened(k, rows)]
                if not len(rows):
                    continue
                weight = np.ones(len(rows), np.int64)
                patient = self._repeated_patients(rows)
                known: Mapping[Any, metrics.AtHorizon | None]
                if self.observed.kind == "progression":
                    known = {self.observed.horizon: self._seen(rows, weight)[1]}
                elif self.observed.kind == "survival":
                    known = self._known(horizons, k, rows, weight)
                else:
                    known = {self.observed.horizon: self.observed.labels(k, rows, weight, patient)}
                found |= {(cause, day, h): at.fewest for h, at in known.items() if at is not None}
        return found

    def _occupied(self, weight: np.ndarray) -> np.ndarray:
        return np.array([bool((weight[place] > 0).any()) for place in self.by_landmark.values()])

    def _repeated_patients(self, rows: np.ndarray) -> np.ndarray | None:
        """The patients of some rows where one has several, so that counts are of patients."""
        patient = self.models.landmarks.patient[rows]
        return patient if len(np.unique(patient)) < len(patient) else None

    def _known(
        self,
        horizons: Sequence[float],
        k: int,
        rows: np.ndarray,
        weight: np.ndarray,
        staying: Any = None,
    ) -> dict[float, metrics.AtHorizon | None]:
        """What is known of cause k at each horizon."""
        assert self.observed.time is not None
        time, event, patient = (
            self.observed.time[rows],
            self.observed.code[rows],
            self._repeated_patients(rows),
        )
        known = metrics.at_horizons(
            time, event, horizons, cause=k, weight=weight, staying=staying, patient=patient
        )
        return dict(zip(horizons, known, strict=True))

    def _curve_scores(self, rows: np.ndarray, weight: np.ndarray, skip: Collection[str]) -> np.ndarray:
        """Scores of incidence curves at one landmark: (cause, model, column)."""
        assert self.observed.time is not None
        time, event, fold = self.observed.time[rows], self.observed.code[rows], self.models.fold[rows]
        hazard = None if self.hazard is None else self.hazard[rows]
        staying, times = _censoring(time, event, weight, hazard), self.models.times
        at = list(dict.fromkeys([*(h for _, h in self.columns if h is not None), *times.tolist()]))
        out = np.full((len(self.causes), len(self.names), len(self.columns)), np.nan)
        for i, cause in enumerate(self.causes):
            known = self._known(at, self.observed.judged[cause], rows, weight, staying)
            risks = [by_cause[cause][rows] for by_cause in self.models.risks.values()]
            integrals = [metrics.integrate(risk, [known[t] for t in times.tolist()]) for risk in risks]
            null = integrals[self.names.index("null")][0] if "null" in self.names else np.nan
            for m, (risk, (ibs, tau)) in enumerate(zip(risks, integrals, strict=True)):
                overall = {"ibs": ibs, "tau": tau, "scaled_ibs": 1 - ibs / null if null else np.nan}
                for c, (metric, horizon) in enumerate(self.columns):
                    if horizon is None:
                        out[i, m, c] = overall[metric]
                    elif metric not in skip:
                        column = int(np.abs(times - horizon).argmin())
                        out[i, m, c] = _score(metric, risk[:, column], known[horizon], fold)
        return out

    def _seen(self, rows: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, metrics.AtHorizon]:
        """Which of some rows were followed to see whether a value is seen, and whether one was."""
        assert self.observed.seen is not None
        followed = np.isfinite(self.observed.seen[rows])
        rows, weight = rows[followed], weight[followed]
        known = metrics.labelled(
            self.observed.seen[rows] == 1, weight=weight, patient=self._repeated_patients(rows)
        )
        return followed, known

    def _value_scores(self, rows: np.ndarray, weight: np.ndarray, skip: Collection[str]) -> np.ndarray:
        """Scores of values at one landmark: (cause, model, column)."""
        assert self.observed.value is not None
        value, fold = self.observed.value[rows], self.models.fold[rows]
        there, (followed, known) = np.isfinite(value), self._seen(rows, weight)
        _, first = np.unique(self.models.landmarks.patient[rows[there]], return_index=True)
        enough = weight[there][first].sum() >= MIN_SEEN  # patients, each as often as it was drawn
        out = np.full((1, len(self.names), len(self.columns)), np.nan)
        found: list[dict[str, float]] = []
        for (by_outcome,) in (risks.values() for risks in self.models.risks.values()):
            mean, median, low, high, crps, seen = by_outcome[rows].T
            of_value = {
                "rmse": metrics.rmse(mean, value, weight=weight),
                "mae": metrics.mae(median, value, weight=weight),
                "crps": float(np.average(crps[there], weights=weight[there])) if there.any() else np.nan,
                "coverage": metrics.coverage(low, high, value, weight=weight),
                "width": metrics.width(low, high, value, weight=weight),
            }
            of_seen = {name: _score(name, seen[followed], known, fold[followed]) for name in ("auc", "brier")}
            found.append({name: x if enough else np.nan for name, x in of_value.items()} | of_seen)
        null = found[self.names.index("null")] if "null" in self.names else {}
        for m, figures in enumerate(found):
            scaled = {
                "scaled_crps": 1 - figures["crps"] / null.get("crps", np.nan),
                "scaled_mse": 1 - (figures["rmse"] / null.get("rmse", np.nan)) ** 2,
            }
            for c, (metric, _) in enumerate(self.columns):
                if metric not in skip:
                    out[0, m, c] = (figures | scaled)[metric]
        return out

    def _label_scores(self, rows: np.ndarray, weight: np.ndarray, skip: Collection[str]) -> np.ndarray:
        """Scores of probabilities of classes or labels at one landmark: (cause, model, column)."""
        together = self.observed.together
        causes = tuple(self.observed.judged) if together in self.causes else self.causes
        each = [self._scores_of(cause, rows, weight, skip) for cause in causes]
        if together not in self.causes:
            return np.stack(each)
        whole = self._scores_of_all(np.stack(each), rows, weight, self._counted(rows))
        return np.stack([whole if cause == together else each[causes.index(cause)] for cause in self.causes])

    def _scores_of(
        self, cause: str, rows: np.ndarray, weight: np.ndarray, skip: Collection[str]
    ) -> np.ndarray:
        """Scores of one class or label at one landmark: (model, column)."""
        k = self.observed.judged[cause]
        open_ = self.observed.opened(k, rows)
        out = np.full((len(self.names), len(self.columns)), np.nan)
        if not open_.any():
            return out
        rows, weight = rows[open_], weight[open_]
        patient, fold = self._repeated_patients(rows), self.models.fold[rows]
        hazard = None if self.hazard is None else self.hazard[rows]
        known = self.observed.labels(k, rows, weight, patient, hazard)
        risks = [by_class[cause][rows, 0] for by_class in self.models.risks.values()]
        brier = [_score("brier", risk, known, fold) for risk in risks]
        null = brier[self.names.index("null")] if "null" in self.names else np.nan
        for m, risk in enumerate(risks):
            ready = {"brier": brier[m], "scaled_brier": 1 - brier[m] / null if null else np.nan}
            for c, (metric, _) in enumerate(self.columns):
                if metric in ready:
                    out[m, c] = ready[metric]
                elif metric not in skip and self.observed.defines(cause, metric):
                    out[m, c] = _score(metric, risk, known, fold)
        return out

    @cached_property
    def _enough(self) -> dict[float | None, np.ndarray]:
        """By landmark, of which labels enough patients are cases, and enough others: (cause,) bool."""
        judged_causes = tuple(self.observed.judged)
        fewest = replace(self, causes=judged_causes).fewest()
        horizon = self.observed.horizon
        return {
            day: np.array([fewest.get((one, day, horizon), 0) >= MIN_CASES for one in judged_causes])
            for day in self.by_landmark
        }

    def _counted(self, rows: np.ndarray) -> np.ndarray:
        """Which classes or labels the figures of all together are of, at the landmark of rows: (cause,) bool.

        The same in all draws: else a draw without a rare label would have another mean.
        """
        if self.observed.kind != "labels":
            return np.ones(len(self.observed.judged), bool)
        at = next(day for day, place in self.by_landmark.items() if np.isin(rows[0], self.rows[place]))
        return self._enough[at]

    def _scores_of_all(
        self, each: np.ndarray, rows: np.ndarray, weight: np.ndarray, counted: np.ndarray
    ) -> np.ndarray:
        """Scores of all classes or labels together, of those of each (cause, model, column): (model, column).

        Of labels the mean over those that are counted; the scaled Brier score is that of their mean.
        """
        out = np.full(each.shape[1:], np.nan)
        null = self.names.index("null") if "null" in self.names else None
        place = {metric: c for c, (metric, _) in enumerate(self.columns)}
        if not counted.any():
            return out
        mean = self._briers(each, place, rows, weight)[counted].mean(0)
        scaled = 1 - mean / mean[null] if null is not None and mean[null] else np.full(len(mean), np.nan)
        ready = {"rps": mean, "scaled_rps": scaled, "brier": mean, "scaled_brier": scaled}
        for metric, c in place.items():
            if not self.observed.defines(self.observed.together or "", metric):
                continue
            if metric in ready:
                out[:, c] = ready[metric]
            elif metric == "qwk":
                out[:, c] = self._kappas(rows, weight)
            else:
                out[:, c] = each[counted, :, c].mean(0)
        return out

    def _briers(
        self, each: np.ndarray, place: Mapping[str, int], rows: np.ndarray, weight: np.ndarray
    ) -> np.ndarray:
        """The Brier score of each class or label: (cause, model)."""
        if "brier" in place:
            found: np.ndarray = each[:, :, place["brier"]]
            return found
        only = replace(self, columns=(("brier", self.observed.horizon),), causes=tuple(self.observed.judged))
        return only._label_scores(rows, weight, ())[:, :, 0]

    def _kappas(self, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Agreement of the median class of each forecast with what came: (model,)."""
        found = []
        for by_class in self.models.risks.values():
            at_least = np.stack([by_class[cause][rows, 0] for cause in self.observed.judged], 1)
            median = (at_least >= 0.5).sum(1)
            classes = len(self.observed.names)
            found.append(
                metrics.weighted_kappa(median, self.observed.code[rows], classes, weight=weight.astype(float))
            )
        return np.array(found)


def _censoring(
    time: np.ndarray, event: np.ndarray, weight: np.ndarray, hazard: np.ndarray | None
) -> metrics.Censoring | metrics.CoxCensoring:
    """The chance to be still uncensored: for all alike, or by each row's hazard of being lost."""
    if hazard is None:
        return metrics.censoring(time, event, weight=weight)
    return metrics.cox_censoring(time, event, hazard, weight=weight)


def _score(metric: str, risk: np.ndarray, known: metrics.AtHorizon | None, fold: np.ndarray) -> float:
    """A score; nan of those that rank where fewer than 5 patients are cases, or others."""
    if known is None or (metric in NEED_CASES and known.fewest < MIN_CASES):
        return np.nan
    return metrics.SCORES[metric](risk, known, fold)
