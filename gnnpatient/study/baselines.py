"""Comparators that a graph network has to beat: simple, strong, fitted on the same landmarks.

References
----------
van Houwelingen HC (2007). Scand J Stat 34:70-85 (stacked landmark Cox models).
Aalen OO, Johansen S (1978). Scand J Stat 5:141-150 (the marginal model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PowerTransformer
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from gnnpatient.cohort.build import build_graphs
from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.view import last_rows, static_columns
from gnnpatient.errors import InputError
from gnnpatient.graphs import Names
from gnnpatient.metrics import cumulative_incidence
from gnnpatient.prognosis.forecast import DiagnosisForecast, Forecast, answerable
from gnnpatient.prognosis.inputs import kept_names, restrict, spaced_landmarks
from gnnpatient.prognosis.kinds import KINDS, curve_head, target_of
from gnnpatient.prognosis.marginal import landmark_marginals, nearest
from gnnpatient.prognosis.predictor import Predictor
from gnnpatient.prognosis.rows import answerable_labels
from gnnpatient.prognosis.targets import MIN_REMAINING, LabelsTarget, LabelTarget
from gnnpatient.prognosis.values import ProgressionForecast
from gnnpatient.study.value_baselines import VALUE_COMPARATORS, TrainingValues

MIN_LOST = 10  # landmarks whose follow-up ended by censoring, for a model of it
CENSORING_RIDGE = 5.0
GRID = 60  # times at which a curve is given


class StackedCox(BaseEstimator):
    """Cause-specific ridge Cox models on last observations, stacked over landmarks (van Houwelingen 2007).

    One row a landmark, of the same rows that a network sees: the last value of each code, or of one without
    values whether, how often and how long ago it was seen; the baseline covariates, the time since the latest
    row and the day of the landmark. Each cause's model is followed up to the horizon, and the hazards give
    cumulative incidences. Missing values take the training median.

    Parameters
    ----------
    outcomes : sequence of str, optional
        Survival outcomes to forecast; default: all outcomes of the cohort.
    horizon : float, optional
        Days up to which patients are followed; default: the longest follow-up.
    landmarks : int, default 10
        How many of the times of X are stacked, evenly spaced.
    alpha : float, default 50
        Ridge penalty of each Cox model.
    min_patients : int, default 10
        Codes and levels of fewer training patients count as one, as in PrognosisModel.
    """

    def __init__(
        self,
        *,
        outcomes: Sequence[str] | None = None,
        horizon: float | None = None,
        landmarks: int = 10,
        alpha: float = 50.0,
        min_patients: int = 10,
    ) -> None:
        self.outcomes = outcomes
        self.horizon = horizon
        self.landmarks = landmarks
        self.alpha = alpha
        self.min_patients = min_patients

    def fit(self, X: Landmarks, y: None = None) -> StackedCox:
        """Fit one model a cause.

        Parameters
        ----------
        X : Landmarks
            Training patients at prediction times.
        y : None
            Ignored; outcomes are read from X.

        Returns
        -------
        StackedCox

        Raises
        ------
        InputError
            When nobody has an event within the horizon.
        """
        chosen = spaced_landmarks(X, self.landmarks)
        names = X.cohort.outcome_names() if self.outcomes is None else tuple(self.outcomes)
        self.models_, self.causes_, self.grid_, self.columns_ = {}, {}, {}, {}
        self.names_ = kept_names(chosen, self.min_patients)
        for name in names:
            labelled = chosen.followed(name)
            truth = labelled.outcome(name)
            horizon = float(self.horizon or truth["time"].max())
            time, event = (
                truth["time"].clip(max=horizon),
                np.where(truth["time"] <= horizon, truth["event"], 0),
            )
            if not event.any():
                raise InputError(f"outcome {name!r}: no events within {horizon:g} days; nothing to learn")
            self.causes_[name] = X.cohort.causes(name)
            self.grid_[name] = np.linspace(0, horizon, GRID + 1)[1:]
            table = features(labelled, self.names_)
            self.columns_[name] = table.columns
            self.models_[name] = [
                self._cox(table, event == k, time) if (event == k).any() else None
                for k in range(1, 1 + len(self.causes_[name]))
            ]
        return self

    def _cox(self, table: pl.DataFrame, event: np.ndarray, time: np.ndarray) -> Pipeline:
        model = make_pipeline(_columns(table), CoxPHSurvivalAnalysis(alpha=self.alpha))
        return model.fit(table, Surv.from_arrays(event, time))

    def forecast(self, X: Landmarks) -> dict[str, Forecast]:
        """Cumulative incidence of each cause.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.

        Returns
        -------
        dict of str to Forecast
            By the name of the outcome, at 60 times up to the horizon; nan where a patient is not at risk.
        """
        return {name: self._forecast(X, name) for name in self.models_}

    def _forecast(self, X: Landmarks, name: str) -> Forecast:
        at_risk = X.at_risk(name) if name in X.cohort.outcomes else np.ones(len(X), bool)
        causes, grid = self.causes_[name], self.grid_[name]
        table = features(X, self.names_, self.columns_[name])
        steps = [
            model.predict_cumulative_hazard_function(table, return_array=True) if model is not None else None
            for model in self.models_[name]
        ]
        jumps = [None if model is None else model[-1].unique_times_ for model in self.models_[name]]
        every = np.unique(np.concatenate([[0.0], *(j for j in jumps if j is not None)]))
        total = np.zeros((len(X), len(causes), len(every)))
        for k, (hazard, times) in enumerate(zip(steps, jumps, strict=True)):
            if hazard is not None and times is not None:
                position = np.searchsorted(times, every, "right") - 1
                total[:, k] = np.where(position >= 0, hazard[:, position.clip(0)], 0.0)
        incidence = cumulative_incidence(total)[:, :, np.searchsorted(every, grid, "right") - 1]
        incidence[~at_risk] = np.nan
        return Forecast(name, causes, grid, incidence, X.ids, X.days, at_risk)


class StackedLogistic(BaseEstimator):
    """Ridge logistic regression on last observations, for a diagnosis; multinomial with several classes, of
    several labels a regression each.

    Rows, features and their scales are those of StackedCox; a diagnosis with `when = "same"` is read from its
    inputs alone. Landmarks without a label are left out.

    Parameters
    ----------
    outcomes : sequence of str, optional
        Diagnoses to forecast; default: all of the cohort.
    landmarks : int, default 10
        How many of the times of X are stacked, evenly spaced; all of a task with moments of its own.
    ridge : float, default 5
        Penalty on half the squared coefficients, beside a sum over patients.
    min_patients : int, default 10
        Codes and levels of fewer training patients count as one, as in PrognosisModel.
    """

    def __init__(
        self,
        *,
        outcomes: Sequence[str] | None = None,
        landmarks: int = 10,
        ridge: float = 5.0,
        min_patients: int = 10,
    ) -> None:
        self.outcomes = outcomes
        self.landmarks = landmarks
        self.ridge = ridge
        self.min_patients = min_patients

    def fit(self, X: Landmarks, y: None = None) -> StackedLogistic:
        """Fit one model a diagnosis.

        Parameters
        ----------
        X : Landmarks
            Training patients at prediction times.
        y : None
            Ignored; labels are read from X.

        Returns
        -------
        StackedLogistic

        Raises
        ------
        InputError
            When a named outcome is survival, or has fewer than two classes among the landmarks.
        """
        self.models_, self.classes_, self.kinds_, self.columns_, self.names_ = {}, {}, {}, {}, {}
        self.forms_: dict[str, str] = {}
        for name, outcome in X.cohort.outcomes_with_model(self.outcomes).items():
            if outcome.has_curve:
                if self.outcomes is not None:
                    raise InputError(f"outcome {name!r} is survival; use StackedCox")
                continue
            labelled = (X if outcome.has_own_moments else spaced_landmarks(X, self.landmarks)).followed(name)
            target = target_of(labelled, name)
            assert isinstance(target, LabelTarget | LabelsTarget)
            labelled, target = labelled[target.known], target[target.known]
            parts: Sequence[LabelTarget] = target.by_label if isinstance(target, LabelsTarget) else (target,)
            if not any(len(np.unique(part.label[part.known])) > 1 for part in parts):
                raise InputError(f"outcome {name!r}: fewer than two classes among {len(labelled)} landmarks")
            self.kinds_[name] = X.cohort.inputs([name])
            self.classes_[name] = outcome.names
            seen = restrict(labelled, self.kinds_[name])
            self.names_[name] = kept_names(seen, self.min_patients)
            table = features(seen, self.names_[name])
            self.columns_[name] = table.columns
            self.models_[name] = [self._logistic(table, part, labelled.patient) for part in parts]
            self.forms_[name] = outcome.kind
        return self

    def _logistic(self, table: pl.DataFrame, target: LabelTarget, patient: np.ndarray) -> Pipeline | None:
        """The model of one label, or of all classes; None of a label that all or none have."""
        known = target.known
        if len(np.unique(target.label[known])) < 2:
            return None
        share = len(np.unique(patient[known])) / known.sum()
        model = LogisticRegression(C=share / self.ridge, max_iter=10_000)
        weight = None if target.weight is None else target.weight[known]
        return make_pipeline(_columns(table), model).fit(
            table.filter(known), target.label[known], logisticregression__sample_weight=weight
        )

    def forecast(self, X: Landmarks) -> dict[str, DiagnosisForecast]:
        """Probability of each class.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.

        Returns
        -------
        dict of str to DiagnosisForecast
            By the name of the outcome; nan where the label is not open.
        """
        found = {}
        for name, models in self.models_.items():
            at_risk, classes, form = answerable(X, name), self.classes_[name], self.forms_[name]
            probability = np.zeros((len(X), len(classes)))
            if len(X):
                seen = restrict(X, self.kinds_[name])
                table = features(seen, self.names_[name], self.columns_[name])
                for k, model in enumerate(models):
                    if model is None:
                        continue
                    if form == "labels":
                        probability[:, k] = model.predict_proba(table)[:, 1]
                    else:  # a class that was not there to be learned has 0
                        probability[:, model.classes_] = model.predict_proba(table)
            if form == "labels":
                probability[~answerable_labels(X, name, len(classes))] = np.nan
            probability[~at_risk] = np.nan
            found[name] = DiagnosisForecast(name, classes, probability, X.ids, X.days, at_risk, kind=form)
        return found


COMPARATORS: Mapping[str, Mapping[str, Any]] = {
    "survival": {"cox": StackedCox},
    "worsening": {"cox": StackedCox},
    "recurrent": {"cox": StackedCox},
    "states": {"cox": StackedCox},
    "diagnosis": {"logistic": StackedLogistic},
    "ordered": {"logistic": StackedLogistic},
    "labels": {"logistic": StackedLogistic},
    "progression": VALUE_COMPARATORS,
}
"""Estimators of the plain comparators by their names, by the kind of the outcome."""


def censoring_hazard(X: Landmarks, time: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Relative hazard of being lost, around one, by a ridge Cox model on last observations.

    Parameters
    ----------
    X : Landmarks
        Patients at prediction times.
    time : (landmark,) float64 array
        Days of follow-up.
    lost : (landmark,) bool array
        Whether it ended by censoring; at equal times events come before censoring.

    Returns
    -------
    (landmark,) float64 array
        Ones where fewer than 10 were lost.

    References
    ----------
    Robins JM, Finkelstein DM (2000). Biometrics 56:779-788 (weights by a model of censoring).
    """
    if lost.sum() < MIN_LOST:
        return np.ones(len(X))
    table = features(X)
    columns = _columns(table)
    x = columns.fit_transform(table)
    if not x.shape[1]:
        return np.ones(len(X))
    when = np.where(lost, time, np.nextafter(time, 0))
    model = CoxPHSurvivalAnalysis(alpha=CENSORING_RIDGE).fit(x, Surv.from_arrays(lost, when))
    log = model.predict(x)
    return np.exp(np.clip(log - log.mean(), -4, 4))


def _columns(table: pl.DataFrame) -> ColumnTransformer:
    """Impute, scale and clip numbers, one-hot encode names; learned from the rows of this table alone."""
    numbers = [c for c in table.columns if table[c].dtype != pl.String and table[c].n_unique() > 1]
    names = [c for c in table.columns if table[c].dtype == pl.String]
    return make_column_transformer(
        (
            make_pipeline(
                SimpleImputer(strategy="median", keep_empty_features=True),
                PowerTransformer(),
                FunctionTransformer(np.clip, kw_args={"min": -4, "max": 4}),
            ),
            numbers,
        ),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), names),
    )


def features(X: Landmarks, names: Names | None = None, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """What is known at each landmark, one row a landmark, for models of tables.

    Baseline covariates, the day of the landmark and days since the latest row. Of each code the last value;
    or, where none was ever given (a diagnosis, a drug), whether there is a row, how many, and the age of the
    latest.

    Parameters
    ----------
    X : Landmarks
        Patients at prediction times.
    names : Names, optional
        Codes and levels that keep their name; default: all.
    columns : sequence of str, optional
        Columns of the table that a model was fitted on; default: those of this one. One of a code that is not
        here is null.

    Returns
    -------
    polars.DataFrame
    """
    graphs = build_graphs(X) if names is None else names.merge(build_graphs(X))
    wanted = None if columns is None else set(columns)
    found: dict[str, pl.Series] = {"day of the landmark": pl.Series(X.days)}
    found |= {_name("static", name): values for name, values in static_columns(graphs)}
    since = np.full(len(X), np.nan)
    for last in last_rows(graphs):
        since = np.fmin(since, last.age)
        of = {
            "value": last.value,
            "seen": (last.count > 0).astype(np.float64),
            "count": last.count.astype(np.float64),
            "age": last.age,
        }
        name_of = {what: _name(what, last.kind, last.code) for what in of}
        chosen: tuple[str, ...]
        if wanted is None:
            chosen = ("value",) if np.isfinite(last.value).any() else ("seen", "count", "age")
        else:
            chosen = tuple(what for what, name in name_of.items() if name in wanted)
        found |= {name_of[what]: pl.Series(of[what]).fill_nan(None) for what in chosen}
    if graphs.codes.keys() - {"timepoint"}:
        found["days since the latest row"] = pl.Series(since).fill_nan(None)
    if columns is None:
        return pl.DataFrame(found)
    empty, none = (pl.Series([v], dtype=pl.Float64).new_from_index(0, len(X)) for v in (None, 0.0))
    absent = {name: none if name.startswith(("seen\t", "count\t")) else empty for name in columns}
    return pl.DataFrame({name: found.get(name, absent[name]) for name in columns})


def _name(*parts: str) -> str:
    """A name that no other parts have, whatever codes are called."""
    return "\t".join(parts)


LandmarkTables = Mapping[int, np.ndarray]
"""Second of a landmark, as in `Landmarks.moments` -> the forecast without input there."""

NearestTables = tuple[np.ndarray, np.ndarray]
"""Days of some landmarks, and the forecast without input there."""


@dataclass(frozen=True, eq=False)
class MarginalModel:
    """The Aalen-Johansen estimate of the training landmarks, the same for everybody at a landmark.

    Attributes
    ----------
    outcome : str
        Name of the survival outcome.
    causes : tuple of str
        Its causes.
    times : (time,) float64 array
        Days after the landmark.
    incidence : (1 + cause, time) float64 array
        For landmarks without a table of their own; slot 0 is event-free.
    tables : mapping of int to array
        The same of some landmarks, by their second after the origin (`Landmarks.moments`).
    near : (days, tables) or None
        The same of the landmarks that a model was fitted at; the nearest one counts.
    """

    outcome: str
    causes: tuple[str, ...]
    times: np.ndarray
    incidence: np.ndarray  # (1 + cause, time)
    tables: LandmarkTables = field(default_factory=dict)
    near: NearestTables | None = None

    def forecast(self, X: Landmarks) -> dict[str, Forecast]:
        """The incidence of each patient's landmark.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.

        Returns
        -------
        dict of str to Forecast
            Of the one outcome.
        """
        table = _of_landmark(X, self.incidence, self.tables, self.near)
        head = curve_head(X, self.outcome, tuple(self.times.tolist()))
        parts = self.outcome, head, table[None], X, X.at_risk(self.outcome)
        return {self.outcome: cast(Forecast, KINDS[head.kind].forecast.of_members(*parts))}


@dataclass(frozen=True, eq=False)
class ClassPrior:
    """The share of each class among the training landmarks, the same for everybody at a landmark.

    Attributes
    ----------
    outcome : str
        Name of the diagnosis.
    classes : tuple of str
        Its classes.
    share : (class,) float64 array
        For landmarks without a table of their own.
    tables, near
        As of MarginalModel.
    kind : str
        As of DiagnosisForecast.
    """

    outcome: str
    classes: tuple[str, ...]
    share: np.ndarray  # (class,)
    tables: LandmarkTables = field(default_factory=dict)
    near: NearestTables | None = None
    kind: str = "diagnosis"

    def forecast(self, X: Landmarks) -> dict[str, DiagnosisForecast]:
        """The shares of each patient's landmark.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.

        Returns
        -------
        dict of str to DiagnosisForecast
            Of the one outcome.
        """
        table, at_risk = _of_landmark(X, self.share, self.tables, self.near), answerable(X, self.outcome)
        if self.kind == "labels":
            table = np.where(answerable_labels(X, self.outcome, len(self.classes)), table, np.nan)
        rows = table, X.ids, X.days, at_risk
        return {self.outcome: DiagnosisForecast(self.outcome, self.classes, *rows, kind=self.kind)}


@dataclass(frozen=True, eq=False)
class MarginalValues:
    """The distribution of the later values of the training landmarks, the same for everybody at a landmark.

    Attributes
    ----------
    outcome : str
        Name of the progression.
    times : (time,) float64 array
        Days after the landmark.
    edges : (bin + 1,) float64 array
        Ends of the bins.
    share : (1 + bin, time) float64 array
        For landmarks without a table of their own; slot 0 is that a value is seen.
    near
        As of MarginalModel.
    """

    outcome: str
    times: np.ndarray
    edges: np.ndarray
    share: np.ndarray  # (1 + bin, time)
    near: NearestTables | None = None

    def forecast(self, X: Landmarks) -> dict[str, ProgressionForecast]:
        """The distribution of each patient's landmark.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.

        Returns
        -------
        dict of str to ProgressionForecast
            Of the one outcome.
        """
        table = _of_landmark(X, self.share, {}, self.near)
        bins = table[:, 1:] / table[:, 1:].sum(1, keepdims=True)
        of = bins, self.edges, self.times, X, self.outcome
        return {self.outcome: ProgressionForecast.from_array(*of, seen=table[:, 0])}


def _of_landmark(
    X: Landmarks, other: np.ndarray, tables: LandmarkTables, near: NearestTables | None
) -> np.ndarray:
    """The table of each landmark, else of the nearest one, else `other`: (landmark, ...)."""
    out = np.repeat(other[None], len(X), 0) if near is None else nearest(X, *near)
    for at, table in tables.items():
        out[X.moments == at] = table
    return out


def marginal_model(
    predictor: Predictor, outcome: str, train: Landmarks | None = None
) -> MarginalModel | ClassPrior | MarginalValues:
    """What a model has to beat: a forecast without input, at each landmark the same for everybody.

    Parameters
    ----------
    predictor : Predictor
        The fitted model, which holds the tables of its training landmarks.
    outcome : str
        Name of the outcome.
    train : Landmarks, optional
        Training patients at the landmarks that are scored, at risk then. A landmark with fewer than 20 of
        them, or all without `train`, has the table of the training landmark nearest to it.

    Returns
    -------
    MarginalModel, ClassPrior or MarginalValues
    """
    head = predictor.heads[outcome].to_dict()
    if head["kind"] == "progression":
        of = np.array(head["times"]), np.array(head["edges"]), predictor.null[outcome]
        return MarginalValues(outcome, *of, predictor.nulls.get(outcome))
    tables = {} if train is None else _tables(train, outcome, tuple(head.get("times", ())))
    overall, near = predictor.null[outcome], predictor.nulls.get(outcome)
    if "classes" in head:
        return ClassPrior(outcome, tuple(head["classes"]), overall, tables, near, head["kind"])
    names = predictor.heads[outcome].names
    return MarginalModel(outcome, names, np.array(head["times"]), overall, tables, near)


def fitted_marginal(
    train: Landmarks, outcome: str, times: Sequence[float] = (), scored: Landmarks | None = None
) -> MarginalModel | ClassPrior | TrainingValues:
    """The forecast without input, of training landmarks alone, without a fitted model.

    Parameters
    ----------
    train : Landmarks
        Training landmarks, at risk then.
    outcome : str
        Name of the outcome.
    times : sequence of float, default ()
        Days after the landmark; none of a diagnosis; of a progression the last is up to which it learns.
    scored : Landmarks, optional
        Training patients at the landmarks that are scored, as in `marginal_model`.

    Returns
    -------
    MarginalModel, ClassPrior or TrainingValues

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> X = pbc().landmarks(times=[0, 365]).followed("death")
    >>> null = fitted_marginal(X, "death", [365.0, 730.0]).forecast(X)["death"]
    >>> null.risk("death", 730.0)[[0, -1]].round(3)                     # on day 0, and on day 365
    array([0.106, 0.128])
    """
    truth, grid = train.cohort.outcomes[outcome], tuple(times)
    if truth.kind == "progression":
        last = max(grid, default=None)
        return TrainingValues(outcomes=[outcome], horizon=last).fit(train)
    target = target_of(train, outcome)
    overall, near = target.marginal(train.moments, grid), landmark_marginals(target, train, grid)
    tables = {} if scored is None else _tables(scored, outcome, grid)
    if truth.has_curve:
        return MarginalModel(outcome, truth.names, np.array(grid), overall, tables, near)
    return ClassPrior(outcome, truth.names, overall, tables, near, truth.kind)


def _tables(train: Landmarks, outcome: str, times: tuple[float, ...]) -> dict[int, np.ndarray]:
    """The forecast without input of each landmark at which at least 20 patients are known."""
    tables: dict[int, np.ndarray] = {}
    for rows in train.by_landmark.values():
        X = train[rows]
        target = target_of(X, outcome)
        if len(np.unique(X.patient[target.known])) >= MIN_REMAINING:
            tables[int(X.moments[0])] = target.marginal(X.moments, times)
    return tables
