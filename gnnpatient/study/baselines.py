"""Rivals that a graph network has to beat: simple, strong, fitted on the same asks."""

from __future__ import annotations

from collections.abc import Sequence

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
from gnnpatient.cohort.outcomes import Survival, Task
from gnnpatient.cohort.view import last_rows, static_columns
from gnnpatient.errors import InputError
from gnnpatient.graphs import Names
from gnnpatient.prognosis.forecast import DiagnosisForecast, Forecast, answerable
from gnnpatient.prognosis.inputs import kept_names, restrict
from gnnpatient.prognosis.targets import label_target

LEAST_LOST = 10  # asks that ended by censoring, for a model of it
LOST_RIDGE = 5.0
POINTS = 60  # times at which a curve is given


class StackedCox(BaseEstimator):
    """Cause-specific ridge Cox models on last observations, stacked over landmarks.

    One row an ask (van Houwelingen 2007), of the same rows that a network sees: the last value of each code,
    or of one without values whether, how often and how long ago it was seen; the statics, the time since the
    last row and the ask's own day. Each cause's model is followed up to the horizon, and the two hazards give
    cumulative incidences. Missing values take the training median.

    landmarks: how many of X's times are stacked, evenly; alpha: the ridge penalty of each model;
    min_patients: codes and levels of fewer training patients count as one, as in PrognosisModel.
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
        """Fit on the asks of X at `landmarks` of its times."""
        chosen = _few(X, self.landmarks)
        names = X.cohort.outcome_names() if self.outcomes is None else tuple(self.outcomes)
        self.models_, self.causes_, self.grid_, self.columns_ = {}, {}, {}, {}
        self.names_ = kept_names(chosen, self.min_patients)
        for name in names:
            asks = chosen.followed(name)
            truth = asks.outcome(name)
            horizon = float(self.horizon or truth["time"].max())
            time, event = (
                truth["time"].clip(max=horizon),
                np.where(truth["time"] <= horizon, truth["event"], 0),
            )
            if not event.any():
                raise InputError(f"outcome {name!r}: no events within {horizon:g} days; nothing to learn")
            self.causes_[name] = X.cohort.survival(name).causes
            self.grid_[name] = np.linspace(0, horizon, POINTS + 1)[1:]
            table = features(asks, self.names_)
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
        """Cumulative incidences as from PrognosisModel."""
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
        total = np.zeros((len(causes), len(X), len(every)))
        for k, (hazard, own) in enumerate(zip(steps, jumps, strict=True)):
            if hazard is not None and own is not None:
                position = np.searchsorted(own, every, "right") - 1
                total[k] = np.where(position >= 0, hazard[:, position.clip(0)], 0.0)
        step = np.diff(total, prepend=0.0, axis=-1)
        free = np.exp(-total.sum(0))
        before = np.concatenate([np.ones_like(free[:, :1]), free[:, :-1]], -1)
        # each cause takes its share of what leaves in a step, so that the slots sum to one
        leave = (before - free) / np.maximum(step.sum(0), 1e-300)
        curve = np.concatenate([free[None], (step * leave).cumsum(-1)])
        position = np.searchsorted(every, grid, "right") - 1
        incidence = curve[:, :, position].transpose(1, 0, 2)
        incidence[~at_risk] = np.nan
        return Forecast(name, causes, grid, incidence, X.ids, X.days, at_risk)


class StackedLogistic(BaseEstimator):
    """Ridge logistic regression (of several classes: multinomial) on last observations, for a diagnosis.

    Rows, features and their scales are those of StackedCox; a diagnosis with `when = "same"` is read from its
    inputs alone. Asks without a label are left out.

    landmarks: how many of X's times are stacked, evenly (moments of its own: all); ridge: the penalty on half
    the squared coefficients, beside a sum over patients; min_patients: as of StackedCox.
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
        """Fit on the asks of X at `landmarks` of its times."""
        self.models_, self.classes_, self.kinds_, self.columns_, self.names_ = {}, {}, {}, {}, {}
        for name, outcome in X.cohort.outcomes_with_model(self.outcomes).items():
            if isinstance(outcome, Survival):
                if self.outcomes is not None:
                    raise InputError(f"outcome {name!r} is survival; StackedCox would do")
                continue
            asks = (X if isinstance(outcome, Task) else _few(X, self.landmarks)).followed(name)
            target = label_target(outcome, asks, np.ones(len(asks), bool))
            asks, target = asks[target.known], target[target.known]
            label = target.label
            if len(np.unique(label)) < 2:
                raise InputError(f"outcome {name!r}: fewer than two classes among {len(asks)} asks")
            self.kinds_[name] = X.cohort.inputs([name])
            self.classes_[name] = outcome.classes
            seen = restrict(asks, self.kinds_[name])
            self.names_[name] = kept_names(seen, self.min_patients)
            table = features(seen, self.names_[name])
            self.columns_[name] = table.columns
            share = len(np.unique(asks.patient)) / len(asks)
            model = LogisticRegression(C=share / self.ridge, max_iter=10_000)
            self.models_[name] = make_pipeline(_columns(table), model).fit(
                table, label, logisticregression__sample_weight=target.weight
            )
        return self

    def forecast(self, X: Landmarks) -> dict[str, DiagnosisForecast]:
        """Probabilities of classes as from PrognosisModel."""
        found = {}
        for name, model in self.models_.items():
            at_risk, classes = answerable(X, name), self.classes_[name]
            probability = np.zeros((len(X), len(classes)))
            if len(X):
                seen = restrict(X, self.kinds_[name])
                said = model.predict_proba(features(seen, self.names_[name], self.columns_[name]))
                probability[:, model.classes_] = said  # a class that was not there to be learned has 0
            probability[~at_risk] = np.nan
            found[name] = DiagnosisForecast(name, classes, probability, X.ids, X.days, at_risk)
        return found


def censoring_hazard(X: Landmarks, time: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Relative hazard of being lost, around one, by a ridge Cox model on last observations: (ask,).

    time: days of each ask's follow-up; lost: whether that ended by censoring, which comes after an event of
    the same time. All alike where fewer than 10 were lost.
    """
    if lost.sum() < LEAST_LOST:
        return np.ones(len(X))
    table = features(X)
    columns = _columns(table)
    x = columns.fit_transform(table)
    if not x.shape[1]:
        return np.ones(len(X))
    when = np.where(lost, time, np.nextafter(time, 0))
    model = CoxPHSurvivalAnalysis(alpha=LOST_RIDGE).fit(x, Surv.from_arrays(lost, when))
    log = model.predict(x)
    return np.exp(np.clip(log - log.mean(), -4, 4))


def _few(X: Landmarks, count: int) -> Landmarks:
    """The asks at `count` of its landmarks, evenly: entry, where it is one, and the last among them."""
    moments = X.moments
    every = np.unique(moments)
    chosen = every[np.unique(np.linspace(0, len(every) - 1, count).round().astype(int))]
    return X[np.isin(moments, chosen)]


def _columns(table: pl.DataFrame) -> ColumnTransformer:
    """Imputes, scales and clips numbers, spreads names; what it learns comes from this table's rows alone."""
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
    """What is known at each ask, a row an ask: the statics, its day, days since the latest row; of each code
    the last value, or where none was ever given (a diagnosis, a drug) whether there is a row, how many there
    are and the age of the latest.

    names: the codes and levels that keep theirs (default: all); columns: of the table that a model was fitted
    on (default: those of this one); one of a code that is not
    here is null.
    """
    graphs = build_graphs(X) if names is None else names.merge(build_graphs(X))
    wanted = None if columns is None else set(columns)
    found: dict[str, pl.Series] = {"day of the ask": pl.Series(X.days)}
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
        called = {what: _name(what, last.kind, last.code) for what in of}
        chosen: tuple[str, ...]
        if wanted is None:
            chosen = ("value",) if np.isfinite(last.value).any() else ("seen", "count", "age")
        else:
            chosen = tuple(what for what, name in called.items() if name in wanted)
        found |= {called[what]: pl.Series(of[what]).fill_nan(None) for what in chosen}
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
