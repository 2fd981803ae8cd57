"""One table of what is known at each landmark, and models that learn one outcome from it.

A model of tables reads the landmarks once (`rows`), learns from that (`learn`), and answers; so that many
configurations of it learn from one reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PowerTransformer, StandardScaler

from gnnpatient.cohort.build import build_graphs
from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.view import last_rows, static_columns
from gnnpatient.errors import InputError
from gnnpatient.graphs import Names
from gnnpatient.model.basis import fit_bases
from gnnpatient.model.vocabulary import fit_vocabulary
from gnnpatient.prognosis.aggregates import STATISTICS, Aggregates
from gnnpatient.prognosis.forecast import DiagnosisForecast, Forecast, answerable
from gnnpatient.prognosis.inputs import kept_names, last_landmarks, restrict, spaced_landmarks
from gnnpatient.prognosis.kinds import target_of
from gnnpatient.prognosis.rows import answerable_labels
from gnnpatient.prognosis.targets import LabelsTarget, LabelTarget

GRID = 60  # times at which a curve is given
BATCH = 4096  # landmarks whose graphs are built at once, for a forecast
WHAT = ("last", "history", "values", "timing")
VALUES = ("last", "mean", "sd", "min", "max", "change")  # statistics of what a row says
TIMING = ("since", "first", "gap", "count", "running", "duration", "share")  # and of when rows are there


def scaled_columns(table: pl.DataFrame) -> ColumnTransformer:
    """Impute, scale and clip numbers, one-hot encode names; learned from the rows that it is fitted on.

    Parameters
    ----------
    table : polars.DataFrame
        From `features`.

    Returns
    -------
    ColumnTransformer
        Unfitted.
    """
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


@dataclass(frozen=True, eq=False)
class History:
    """The history of each code as columns: last, mean, slope, extremes, counts and times, and the statics.

    Attributes
    ----------
    aggregates : Aggregates
        The columns, as the trees of PrognosisModel have them.
    """

    aggregates: Aggregates

    @classmethod
    def fit(cls, X: Landmarks, least: int, what: str = "history") -> History:
        """Choose the columns.

        Parameters
        ----------
        X : Landmarks
            Training landmarks.
        least : int
            Fewest patients from whom a name is learned.
        what : {"history", "values", "timing"}, default "history"
            All; or what rows say, without when and how many there are; or the reverse. The statics and the
            day of the landmark are in all.

        Returns
        -------
        History
        """
        whole = build_graphs(last_landmarks(X))
        bases = fit_bases(whole, least)
        vocabulary = fit_vocabulary(whole, bases, least)
        found = Aggregates.fit(build_graphs(X), X.patient, vocabulary, bases, least)
        if what == "history":
            return cls(found)
        kept = [_is_of(what, STATISTICS[s], b, found) for b, _, s in found.columns.tolist()]
        return cls(replace(found, columns=found.columns[kept], edges=found.edges[kept]))

    def __call__(self, X: Landmarks) -> np.ndarray:
        """Compute the columns of any landmarks.

        Parameters
        ----------
        X : Landmarks

        Returns
        -------
        (landmark, column) float64 array
            nan is missing.
        """
        return self.aggregates.values(build_graphs(X)).astype(np.float64)


def _is_of(what: str, statistic: str, block: int, found: Aggregates) -> bool:
    """Whether a column is among the values, or among the times and numbers of rows."""
    kinds = len(found.vocabulary.codes)
    contents = len(found.vocabulary.vectors)
    if block == kinds + contents + 1:
        return True  # a static
    if what == "values":
        return block < kinds + contents and (block >= kinds or statistic in VALUES)
    return (block < kinds or block == kinds + contents) and statistic in TIMING


@dataclass(frozen=True, eq=False)
class Columns:
    """What a model of tables sees of landmarks, as numbers; learned from training landmarks alone.

    Attributes
    ----------
    kinds : sequence of str or None
        Node types that it may see; None: all.
    names : Names
        Codes and levels that keep their name.
    columns : tuple of str
        Of the table of last observations.
    last : ColumnTransformer or None
        Its scales; None where nothing of it is used.
    history : History or None
    scales : Pipeline or None
        Of the history; None: it is given as it is, nan where missing.
    """

    kinds: Sequence[str] | None
    names: Names
    columns: tuple[str, ...]
    last: ColumnTransformer | None
    history: History | None
    scales: Pipeline | None

    @classmethod
    def fit(cls, X: Landmarks, outcome: str, what: str, least: int, *, scaled: bool) -> Columns:
        """Learn the columns and their scales.

        Parameters
        ----------
        X : Landmarks
            Training landmarks.
        outcome : str
            What is forecast, whose own inputs may be restricted.
        what : {"last", "history", "values", "timing"}
            Last observations, or these and the history of each code; for trees the history, or of it what the
            rows say ("values"), or when and how many there are ("timing").
        least : int
            Codes and levels of fewer patients count as one.
        scaled : bool
            Whether columns are filled and scaled; else the history alone is given, nan where missing.

        Returns
        -------
        Columns
        """
        if what not in WHAT:
            raise InputError(f"columns = {what!r}; must be {', '.join(WHAT[:-1])} or {WHAT[-1]}")
        kinds = X.cohort.inputs([outcome])
        seen = restrict(X, kinds)
        names = kept_names(seen, least)
        last, columns = None, tuple[str, ...]()
        if scaled and what in ("last", "history"):
            table = features(seen, names)
            last, columns = scaled_columns(table).fit(table), tuple(table.columns)
        history, scales = None, None
        if what != "last" or not scaled:
            history = History.fit(seen, least, "history" if what == "last" else what)
            scales = _scales().fit(history(seen)) if scaled and len(history.aggregates) else None
        return cls(kinds, names, columns, last, history, scales)

    def __call__(self, X: Landmarks) -> np.ndarray:
        """Compute them.

        Parameters
        ----------
        X : Landmarks

        Returns
        -------
        (landmark, column) float64 array
        """
        parts = [self._part(X[i : i + BATCH]) for i in range(0, max(len(X), 1), BATCH)]
        return np.concatenate(parts)

    def _part(self, X: Landmarks) -> np.ndarray:
        X, found = restrict(X, self.kinds), []
        if self.last is not None:
            found.append(self.last.transform(features(X, self.names, self.columns)))
        if self.history is not None:
            values = self.history(X)
            found.append(values if self.scales is None else self.scales.transform(values))
        return np.concatenate(found, 1)


def _scales() -> Pipeline:
    return make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        StandardScaler(),
        FunctionTransformer(np.clip, kw_args={"min": -4, "max": 4}),
    )


@dataclass(frozen=True, eq=False)
class TableRows:
    """Training landmarks of one outcome, read once.

    Attributes
    ----------
    landmarks : Landmarks
        Those with something to learn.
    columns : Columns
    x : (landmark, column) float64 array
    names : tuple of str
        Causes or classes.
    code : (landmark,) int64 array
        0 censored, k the k-th cause; or the class.
    time : (landmark,) float64 array
        Days of follow-up, cut at the horizon; empty for a diagnosis.
    weight : (landmark,) float64 array
        What each counts; ones of survival.
    grid : (time,) float64 array
        Days at which a curve is given; empty for a diagnosis.
    by_label : tuple of LabelTarget, optional
        Of an outcome of several labels yes or no of each; code and weight are empty then.
    """

    landmarks: Landmarks
    columns: Columns
    x: np.ndarray
    names: tuple[str, ...]
    code: np.ndarray
    time: np.ndarray
    weight: np.ndarray
    grid: np.ndarray
    by_label: tuple[LabelTarget, ...] = ()

    def of_label(self, target: LabelTarget) -> TableRows | None:
        """The rows of one label, as those of a diagnosis; None where all or none have it.

        Parameters
        ----------
        target : LabelTarget

        Returns
        -------
        TableRows or None
        """
        known = target.known
        if len(np.unique(target.label[known])) < 2:
            return None
        about = {"code": target.label[known], "weight": target.share[known], "names": ("no", "yes")}
        return replace(self, landmarks=self.landmarks[known], x=self.x[known], by_label=(), **about)

    @property
    def share(self) -> float:
        """Patients a landmark: what a landmark counts beside a sum over patients."""
        return len(np.unique(self.landmarks.patient)) / len(self.landmarks)

    @property
    def saw(self) -> dict[str, int]:
        """What the model sees: landmarks, their times, patients, columns."""
        return {**seen_landmarks(self.landmarks), "columns": self.x.shape[1]}


def seen_landmarks(X: Landmarks) -> dict[str, int]:
    """How many landmarks, times of these and patients a model is fitted on.

    Parameters
    ----------
    X : Landmarks

    Returns
    -------
    dict of str to int
    """
    return {
        "landmarks": len(X),
        "times": len(np.unique(X.moments)),
        "patients": len(np.unique(X.patient)),
    }


@runtime_checkable
class CurveLearner(Protocol):
    """What a model of tables has learned of a survival outcome."""

    def incidence(self, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
        """Being event-free, then each cause: (landmark, 1 + cause, time).

        Parameters
        ----------
        x : (landmark, column) array
        grid : (time,) array

        Returns
        -------
        (landmark, 1 + cause, time) float64 array
        """


@runtime_checkable
class ClassLearner(Protocol):
    """What a model of tables has learned of a diagnosis."""

    def probability(self, x: np.ndarray) -> np.ndarray:
        """Of each class: (landmark, class).

        Parameters
        ----------
        x : (landmark, column) array

        Returns
        -------
        (landmark, class) float64 array
        """


@dataclass(frozen=True, eq=False)
class _EachLabel:
    """A model of each label; None of one that all or none had, which has 0."""

    models: tuple[ClassLearner | None, ...]

    def probability(self, x: np.ndarray) -> np.ndarray:
        none = np.zeros(len(x))
        return np.stack([none if one is None else one.probability(x)[:, 1] for one in self.models], 1)


class TableModel(BaseEstimator):
    """What models of tables have in common: they differ in `learn`.

    Attributes
    ----------
    outcomes : sequence of str or None
        Names; None: all of its kind.
    landmarks : int or None
        How many of the times of X are used; None: all.
    min_patients : int
        Codes and levels of fewer training patients count as one.
    columns : str
        What it sees, see `Columns.fit`.
    """

    _scaled: ClassVar[bool] = True
    _of_curves: ClassVar[bool] = True
    outcomes: Sequence[str] | None
    landmarks: int | None
    min_patients: int
    columns: str

    def fit(self, X: Landmarks, y: None = None) -> TableModel:
        """Fit one model an outcome.

        Parameters
        ----------
        X : Landmarks
            Training patients at prediction times.
        y : None
            Ignored; outcomes are read from X.

        Returns
        -------
        The model itself.

        Raises
        ------
        InputError
            When a named outcome is of another kind, or there is nothing to learn.
        """
        return self.fit_rows({name: self.rows(X, name) for name in self._outcomes(X)})

    def fit_rows(self, rows: Mapping[str, TableRows]) -> TableModel:
        """Fit one model an outcome to what `rows` read.

        Parameters
        ----------
        rows : mapping of str to TableRows
            By the name of the outcome.

        Returns
        -------
        The model itself.
        """
        self.models_ = {name: self._learned(one) for name, one in rows.items()}
        self.columns_ = {name: one.columns for name, one in rows.items()}
        self.names_ = {name: one.names for name, one in rows.items()}
        self.kinds_ = {name: one.landmarks.cohort.outcomes[name].kind for name, one in rows.items()}
        self.grid_ = {name: one.grid for name, one in rows.items()}
        self.saw_ = {name: one.saw for name, one in rows.items()}
        return self

    def _learned(self, rows: TableRows) -> Any:
        return self.learn(rows)

    def _outcomes(self, X: Landmarks) -> list[str]:
        known = X.cohort.outcomes_with_model(self.outcomes)
        return [
            n for n, one in known.items() if one.has_curve == self._of_curves or self.outcomes is not None
        ]

    def rows(self, X: Landmarks, name: str) -> TableRows:
        """Read training landmarks.

        Parameters
        ----------
        X : Landmarks
        name : str
            Of the outcome.

        Returns
        -------
        TableRows

        Raises
        ------
        InputError
            When the outcome is of another kind, or there is nothing to learn.
        """
        raise NotImplementedError

    def learn(self, rows: TableRows) -> Any:
        """Learn from training landmarks.

        Parameters
        ----------
        rows : TableRows

        Returns
        -------
        CurveLearner or ClassLearner
        """
        raise NotImplementedError

    def _chosen(self, X: Landmarks, name: str) -> Landmarks:
        if self.landmarks is None or X.cohort.outcomes[name].has_own_moments:
            return X.followed(name)
        return spaced_landmarks(X, self.landmarks).followed(name)


class CurveModel(TableModel):
    """A model of tables for survival: cause-specific, each cause's model counts the others as censored.

    Attributes
    ----------
    horizon : float or None
        Days up to which patients are followed; None: the longest follow-up.
    """

    _of_curves: ClassVar[bool] = True
    horizon: float | None

    def rows(self, X: Landmarks, name: str) -> TableRows:
        """Read training landmarks, followed up to the horizon.

        Parameters
        ----------
        X : Landmarks
        name : str
            Of a survival outcome.

        Returns
        -------
        TableRows

        Raises
        ------
        InputError
            When it is a diagnosis, or nobody has an event within the horizon.
        """
        known = X.cohort.outcomes_with_model([name])[name]
        if not known.has_curve:
            raise InputError(
                f"outcome {name!r} is no survival; {type(self).__name__} has a curve of each cause"
            )
        labelled = self._chosen(X, name)
        truth = labelled.outcome(name)
        horizon = float(self.horizon or truth["time"].max())
        time = truth["time"].clip(max=horizon)
        event = np.where(truth["time"] <= horizon, truth["event"], 0).astype(np.int64)
        if not event.any():
            raise InputError(f"outcome {name!r}: no events within {horizon:g} days; nothing to learn")
        columns = Columns.fit(labelled, name, self.columns, self.min_patients, scaled=self._scaled)
        grid = np.linspace(0, horizon, GRID + 1)[1:]
        about = labelled, columns, columns(labelled), X.cohort.causes(name)
        return TableRows(*about, event, time, np.ones(len(time)), grid)

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
        found = {}
        for name, learned in self.models_.items():
            at_risk = X.at_risk(name) if name in X.cohort.outcomes else np.ones(len(X), bool)
            grid = self.grid_[name]
            curves = learned.incidence(self.columns_[name](X), grid)
            curves[~at_risk] = np.nan
            found[name] = Forecast(name, self.names_[name], grid, curves, X.ids, X.days, at_risk)
        return found


class ClassModel(TableModel):
    """A model of tables for a diagnosis; landmarks without a label are left out."""

    _of_curves: ClassVar[bool] = False

    def rows(self, X: Landmarks, name: str) -> TableRows:
        """Read training landmarks with a label.

        Parameters
        ----------
        X : Landmarks
        name : str
            Of a diagnosis.

        Returns
        -------
        TableRows

        Raises
        ------
        InputError
            When it is survival, or has fewer than two classes among the landmarks.
        """
        outcome = X.cohort.outcomes_with_model([name])[name]
        if outcome.has_curve:
            raise InputError(f"outcome {name!r} is survival; use StackedCox")
        labelled = self._chosen(X, name)
        target = target_of(labelled, name)
        assert isinstance(target, LabelTarget | LabelsTarget)
        labelled, target = labelled[target.known], target[target.known]
        parts = target.by_label if isinstance(target, LabelsTarget) else (target,)
        if not any(len(np.unique(part.label[part.known])) > 1 for part in parts):
            raise InputError(f"outcome {name!r}: fewer than two classes among {len(labelled)} landmarks")
        columns = Columns.fit(labelled, name, self.columns, self.min_patients, scaled=self._scaled)
        none = np.zeros(0)
        about = labelled, columns, columns(labelled), outcome.names
        if isinstance(target, LabelsTarget):
            return TableRows(*about, none.astype(np.int64), none, none, none, target.by_label)
        return TableRows(*about, target.label, none, target.share, none)

    def _learned(self, rows: TableRows) -> Any:
        """What was learned of a diagnosis, or of each label."""
        if not rows.by_label:
            return self.learn(rows)
        each = [rows.of_label(target) for target in rows.by_label]
        return _EachLabel(tuple(None if one is None else self.learn(one) for one in each))

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
        for name, learned in self.models_.items():
            at_risk, classes = answerable(X, name), self.names_[name]
            probability = np.zeros((len(X), len(classes)))
            if len(X):
                probability[:] = learned.probability(self.columns_[name](X))
            if isinstance(learned, _EachLabel):
                probability[~answerable_labels(X, name, len(classes))] = np.nan
            probability[~at_risk] = np.nan
            about = name, classes, probability, X.ids, X.days, at_risk
            found[name] = DiagnosisForecast(*about, kind=self.kinds_[name])
        return found
