"""Comparators that a graph network has to beat: simple, strong, fitted on the same landmarks.

References
----------
van Houwelingen HC (2007). Scand J Stat 34:70-85 (stacked landmark Cox models).
Ishwaran H, Kogalur UB, Blackstone EH, Lauer MS (2008). Ann Appl Stat 2:841-860 (survival forests).
Friedman M (1982). Ann Stat 10:101-113 (piecewise exponential models).
Aalen OO, Johansen S (1978). Scand J Stat 5:141-150 (the marginal model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import numpy as np
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sksurv.ensemble import RandomSurvivalForest
from sksurv.util import Surv

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.metrics import cumulative_incidence
from gnnpatient.prognosis.forecast import DiagnosisForecast, Forecast, answerable
from gnnpatient.prognosis.kinds import KINDS, curve_head, target_of
from gnnpatient.prognosis.marginal import landmark_marginals, nearest
from gnnpatient.prognosis.predictor import Predictor
from gnnpatient.prognosis.rows import answerable_labels
from gnnpatient.prognosis.targets import MIN_REMAINING
from gnnpatient.prognosis.values import ProgressionForecast
from gnnpatient.study.cox import RidgeCox
from gnnpatient.study.tabular import ClassModel, CurveModel, TableRows, features, scaled_columns
from gnnpatient.study.value_baselines import VALUE_COMPARATORS, TrainingValues

MIN_LOST = 10  # landmarks whose follow-up ended by censoring, for a model of it
CENSORING_RIDGE = 5.0
MAX_JUMPS = 1000  # times at which hazards of several causes are put together
TIMES_ALIKE = 10  # landmark times up to which a penalty is as given; with more it grows as the rows do
BANDS = 5  # of the follow-up, within which a relative hazard is constant
MAX_BOOSTED_ROWS = 30_000  # landmarks times bands that boosted hazards learn from
FOREST_TIMES = 12  # at which a survival forest counts events
MAX_TREE_ROWS = 1500  # that a tree of a survival forest is grown on


# ---- Cox and logistic regression


@dataclass(frozen=True, eq=False)
class _CoxOfCauses:
    """A Cox model a cause; None where nobody had it."""

    models: tuple[RidgeCox | None, ...]

    def incidence(self, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
        jumps = np.unique(np.concatenate([one.times for one in self.models if one is not None]))
        some = jumps[np.linspace(0, len(jumps) - 1, min(len(jumps), MAX_JUMPS)).round().astype(int)]
        every = np.union1d(np.append(some, 0.0), grid)
        total = np.zeros((len(x), len(self.models), len(every)))
        for k, one in enumerate(self.models):
            if one is not None:
                total[:, k] = one.cumulative(x, every)
        return cumulative_incidence(total)[:, :, np.searchsorted(every, grid)]


class StackedCox(CurveModel):
    """Cause-specific ridge Cox models on last observations, stacked over landmarks (van Houwelingen 2007).

    One row a landmark, of the same rows that a network sees: the last value of each code, or of one without
    values whether, how often and how long ago it was seen; the baseline covariates, the time since the latest
    row and the day of the landmark. Each cause's model is followed up to the horizon, and the hazards give
    cumulative incidences. Missing values take the training median.

    Parameters
    ----------
    outcomes : sequence of str, optional
        Survival outcomes to forecast; default: all survival outcomes of the cohort.
    horizon : float, optional
        Days up to which patients are followed; default: the longest follow-up.
    landmarks : int, optional
        How many of the times of X are stacked, evenly spaced; default: all, as the network sees them.
    alpha : float, default 50
        Ridge penalty of each Cox model beside a sum over the rows of up to ten landmark times; of more times,
        whose rows say the same again, it is that much larger.
    columns : {"last", "history"}, default "last"
        "history" adds the mean, spread, extremes, slope, change, counts and times of each code.
    min_patients : int, default 10
        Codes and levels of fewer training patients count as one, as in PrognosisModel.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> X = pbc().landmarks(times=[0, 365]).followed("death")
    >>> cox = StackedCox(outcomes=["death"], horizon=1826.0).fit(X)
    >>> cox.forecast(X[4:6])["death"].risk("death").round(2)
    array([0.05, 0.82])
    """

    def __init__(
        self,
        *,
        outcomes: Sequence[str] | None = None,
        horizon: float | None = None,
        landmarks: int | None = None,
        alpha: float = 50.0,
        columns: str = "last",
        min_patients: int = 10,
    ) -> None:
        self.outcomes = outcomes
        self.horizon = horizon
        self.landmarks = landmarks
        self.alpha = alpha
        self.columns = columns
        self.min_patients = min_patients

    def learn(self, rows: TableRows) -> _CoxOfCauses:
        """Fit one model a cause.

        Parameters
        ----------
        rows : TableRows

        Returns
        -------
        CurveLearner
        """
        events = [rows.code == k for k in range(1, 1 + len(rows.names))]
        alpha = self.alpha * max(1.0, rows.saw["times"] / TIMES_ALIKE)
        return _CoxOfCauses(
            tuple(RidgeCox.fit(rows.x, had, rows.time, alpha) if had.any() else None for had in events)
        )


@dataclass(frozen=True, eq=False)
class _Classifier:
    """A classifier of scikit-learn; a class that was not there to be learned has 0."""

    model: Any
    classes: int

    def probability(self, x: np.ndarray) -> np.ndarray:
        out = np.zeros((len(x), self.classes))
        out[:, self.model.classes_.astype(int)] = self.model.predict_proba(x)
        return out


class StackedLogistic(ClassModel):
    """Ridge logistic regression on last observations, for a diagnosis; multinomial with several classes, of
    several labels a regression each.

    Rows, features and their scales are those of StackedCox; a diagnosis with `when = "same"` is read from its
    inputs alone. Landmarks without a label are left out.

    Parameters
    ----------
    outcomes : sequence of str, optional
        Diagnoses to forecast; default: all of the cohort.
    landmarks : int, optional
        How many of the times of X are stacked, evenly spaced; default: all, as the network sees them.
    ridge : float, default 5
        Penalty on half the squared coefficients, beside a sum over patients.
    columns : {"last", "history"}, default "last"
        As of StackedCox.
    min_patients : int, default 10
        Codes and levels of fewer training patients count as one, as in PrognosisModel.
    """

    def __init__(
        self,
        *,
        outcomes: Sequence[str] | None = None,
        landmarks: int | None = None,
        ridge: float = 5.0,
        columns: str = "last",
        min_patients: int = 10,
    ) -> None:
        self.outcomes = outcomes
        self.landmarks = landmarks
        self.ridge = ridge
        self.columns = columns
        self.min_patients = min_patients

    def learn(self, rows: TableRows) -> _Classifier:
        """Fit the regression.

        Parameters
        ----------
        rows : TableRows

        Returns
        -------
        ClassLearner
        """
        model = LogisticRegression(C=rows.share / self.ridge, max_iter=10_000)
        return _Classifier(model.fit(rows.x, rows.code, sample_weight=rows.weight), len(rows.names))


# ---- boosted trees


@dataclass(frozen=True, eq=False)
class _BoostedCauses:
    """Of each cause a relative hazard by trees, beside the hazard of all rows together in each band."""

    ends: np.ndarray  # (band,) of each the last day
    hazard: np.ndarray  # (cause, band) a day
    models: tuple[HistGradientBoostingRegressor | None, ...]

    def incidence(self, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
        days = np.diff(self.ends, prepend=0.0)
        total = np.zeros((len(x), len(self.models), len(self.ends)))
        for k, model in enumerate(self.models):
            if model is not None and len(x):
                each = [model.predict(_with_band(x, band)) for band in range(len(self.ends))]
                total[:, k] = (np.stack(each, 1) * self.hazard[k] * days).cumsum(1)
        return incidence_between(total, self.ends, grid)


def incidence_between(total: np.ndarray, ends: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Incidences from cumulative hazards by some days, between which hazards are constant.

    Parameters
    ----------
    total : (row, cause, day) array
    ends : (day,) array
        Rising, above 0.
    grid : (time,) array
        Up to the last of them.

    Returns
    -------
    (row, 1 + cause, time) float64 array
    """
    every, known = np.union1d(ends, grid), np.append(0.0, ends)
    place = np.interp(every, known, np.arange(len(known)))
    low = np.floor(place).astype(int).clip(max=len(ends) - 1)
    total = np.concatenate([np.zeros((*total.shape[:2], 1)), total], 2)
    between = total[:, :, low] + (place - low) * (total[:, :, low + 1] - total[:, :, low])
    return cumulative_incidence(between)[:, :, np.searchsorted(every, grid)]


def _with_band(x: np.ndarray, band: int | np.ndarray) -> np.ndarray:
    return np.column_stack([x, np.broadcast_to(np.asarray(band, np.float64), len(x))])


class BoostedHazards(CurveModel):
    """Gradient boosted hazards on the history of each code: a Poisson model of each cause (Friedman 1982).

    The follow-up is cut into bands with as many events each; in a band the hazard of a cause is that of all
    landmarks together times a sum of trees over the history and the band. Missing values stay missing. Where
    landmarks times bands are more than 30 000, so many are drawn.

    Parameters
    ----------
    outcomes, horizon, landmarks, min_patients
        As of StackedCox.
    rate : float, default 0.05
        Learning rate.
    trees : int, default 150
        Trees of each cause.
    leaves : int, default 6
        Leaves of a tree, at most.
    leaf_patients : int, default 20
        Patients' worth of rows in a leaf, at least.
    ridge : float, default 1
        Penalty of the leaves.
    share : float, default 0.5
        Columns that a split may choose from.
    columns : {"history", "values", "timing"}, default "history"
        All; or what rows say, without when and how many there are; or the reverse.
    seed : int, default 0
    """

    _scaled: ClassVar[bool] = False

    def __init__(
        self,
        *,
        outcomes: Sequence[str] | None = None,
        horizon: float | None = None,
        landmarks: int | None = None,
        rate: float = 0.05,
        trees: int = 150,
        leaves: int = 6,
        leaf_patients: int = 20,
        ridge: float = 1.0,
        share: float = 0.5,
        columns: str = "history",
        min_patients: int = 10,
        seed: int = 0,
    ) -> None:
        self.outcomes = outcomes
        self.horizon = horizon
        self.landmarks = landmarks
        self.rate = rate
        self.trees = trees
        self.leaves = leaves
        self.leaf_patients = leaf_patients
        self.ridge = ridge
        self.share = share
        self.columns = columns
        self.min_patients = min_patients
        self.seed = seed

    def learn(self, rows: TableRows) -> _BoostedCauses:
        """Grow the trees of each cause.

        Parameters
        ----------
        rows : TableRows

        Returns
        -------
        CurveLearner
        """
        ends = bands(rows, BANDS)
        begun = np.append(0.0, ends[:-1])
        lived = (rows.time[:, None] - begun).clip(0, ends - begun)  # (landmark, band)
        there = lived > 0
        row, band = np.nonzero(there)
        if len(row) > MAX_BOOSTED_ROWS:
            some = np.sort(np.random.default_rng(self.seed).permutation(len(row))[:MAX_BOOSTED_ROWS])
            row, band = row[some], band[some]
        x = _with_band(rows.x[row], band)
        last = np.searchsorted(ends, rows.time).clip(max=len(ends) - 1)  # the band in which a row ends
        hazard = np.zeros((len(rows.names), len(ends)))
        models: list[HistGradientBoostingRegressor | None] = []
        for k in range(len(rows.names)):
            had = (rows.code[row] == k + 1) & (last[row] == band)
            exposed = np.bincount(band, lived[row, band], len(ends))
            hazard[k] = np.bincount(band, had, len(ends)) / np.maximum(exposed, 1e-9)
            expected = lived[row, band] * hazard[k][band]
            some = expected > 0
            if not had.any():
                models.append(None)
                continue
            options = boosting(self, rows, len(row) / len(rows.landmarks))
            model = HistGradientBoostingRegressor(loss="poisson", **options)
            models.append(model.fit(x[some], had[some] / expected[some], sample_weight=expected[some]))
        return _BoostedCauses(ends, hazard, tuple(models))


def bands(rows: TableRows, count: int) -> np.ndarray:
    """The last day of each part of the follow-up, with about as many events each.

    Parameters
    ----------
    rows : TableRows
    count : int
        Parts, at most.

    Returns
    -------
    (band,) float64 array
    """
    horizon = float(rows.grid[-1])
    cuts = np.quantile(rows.time[rows.code > 0], np.arange(1, count) / count)
    return np.unique(np.append(cuts[(cuts > 0) & (cuts < horizon)], horizon))


def boosting(model: Any, rows: TableRows, each: float = 1.0) -> dict[str, Any]:
    """Parameters of scikit-learn's boosting.

    Parameters
    ----------
    model : BoostedHazards or BoostedClasses
    rows : TableRows
    each : float, default 1
        Rows of each landmark.

    Returns
    -------
    dict
    """
    return {
        "learning_rate": model.rate,
        "max_iter": model.trees,
        "max_leaf_nodes": model.leaves,
        "min_samples_leaf": max(1, round(model.leaf_patients * each / rows.share)),
        "l2_regularization": model.ridge,
        "max_features": model.share,
        "early_stopping": False,
        "random_state": model.seed,
    }


class BoostedClasses(ClassModel):
    """Gradient boosted trees on the history of each code, for a diagnosis.

    Parameters
    ----------
    outcomes, landmarks, min_patients
        As of StackedLogistic.
    rate, trees, leaves, leaf_patients, ridge, share, columns, seed
        As of BoostedHazards.
    """

    _scaled: ClassVar[bool] = False

    def __init__(
        self,
        *,
        outcomes: Sequence[str] | None = None,
        landmarks: int | None = None,
        rate: float = 0.05,
        trees: int = 100,
        leaves: int = 6,
        leaf_patients: int = 20,
        ridge: float = 1.0,
        share: float = 0.5,
        columns: str = "history",
        min_patients: int = 10,
        seed: int = 0,
    ) -> None:
        self.outcomes = outcomes
        self.landmarks = landmarks
        self.rate = rate
        self.trees = trees
        self.leaves = leaves
        self.leaf_patients = leaf_patients
        self.ridge = ridge
        self.share = share
        self.columns = columns
        self.min_patients = min_patients
        self.seed = seed

    def learn(self, rows: TableRows) -> _Classifier:
        """Grow the trees.

        Parameters
        ----------
        rows : TableRows

        Returns
        -------
        ClassLearner
        """
        model = HistGradientBoostingClassifier(**boosting(self, rows))
        return _Classifier(model.fit(rows.x, rows.code, sample_weight=rows.weight), len(rows.names))


# ---- random forests


@dataclass(frozen=True, eq=False)
class _ForestOfCauses:
    """A survival forest a cause; None where nobody had it."""

    ends: np.ndarray  # (time,) days by which events are counted
    models: tuple[RandomSurvivalForest | None, ...]

    def incidence(self, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
        total = np.zeros((len(x), len(self.models), len(self.ends)))
        for k, model in enumerate(self.models):
            if model is not None and len(x):
                hazard = model.predict_cumulative_hazard_function(x, return_array=True)
                place = np.searchsorted(model.unique_times_, self.ends, "right")
                total[:, k] = np.concatenate([np.zeros((len(x), 1)), hazard], 1)[:, place]
        return incidence_between(total, self.ends, grid)


class SurvivalForest(CurveModel):
    """Random survival forests on the history of each code, one a cause (Ishwaran et al. 2008).

    Cause-specific: the forest of a cause counts the others as censored, and its cumulative hazards, the means
    over trees, are put together to incidences. Events are counted by twelve days with as many each, and
    between them hazards are even.

    Parameters
    ----------
    outcomes, horizon, landmarks, min_patients
        As of StackedCox.
    trees : int, default 50
        Trees of each cause, each grown on a draw of at most 1500 rows.
    leaf_patients : int, default 10
        Patients' worth of rows of its draw in a leaf, at least.
    share : float, default 0.3
        Columns that a split may choose from.
    columns : {"history", "values", "timing"}, default "history"
        All; or what rows say, without when and how many there are; or the reverse.
    seed : int, default 0
    """

    _scaled: ClassVar[bool] = False

    def __init__(
        self,
        *,
        outcomes: Sequence[str] | None = None,
        horizon: float | None = None,
        landmarks: int | None = None,
        trees: int = 50,
        leaf_patients: float = 10,
        share: float = 0.3,
        columns: str = "history",
        min_patients: int = 10,
        seed: int = 0,
    ) -> None:
        self.outcomes = outcomes
        self.horizon = horizon
        self.landmarks = landmarks
        self.trees = trees
        self.leaf_patients = leaf_patients
        self.share = share
        self.columns = columns
        self.min_patients = min_patients
        self.seed = seed

    def learn(self, rows: TableRows) -> _ForestOfCauses:
        """Grow the forest of each cause.

        Parameters
        ----------
        rows : TableRows

        Returns
        -------
        CurveLearner
        """
        drawn = min(len(rows.x), MAX_TREE_ROWS)
        ends = bands(rows, FOREST_TIMES)
        time = ends[np.searchsorted(ends, rows.time).clip(max=len(ends) - 1)]
        models: list[RandomSurvivalForest | None] = []
        for k in range(1, 1 + len(rows.names)):
            if not (rows.code == k).any():
                models.append(None)
                continue
            forest = RandomSurvivalForest(
                n_estimators=self.trees,
                max_features=self.share,
                min_samples_leaf=leaf_rows(self, rows, drawn),
                max_samples=None if drawn == len(rows.x) else drawn,
                random_state=self.seed,
            )
            models.append(forest.fit(rows.x, Surv.from_arrays(rows.code == k, time)))
        return _ForestOfCauses(ends, tuple(models))


def leaf_rows(model: Any, rows: TableRows, drawn: int) -> int:
    """Rows of a leaf, so that about as many patients as wanted are in it.

    Parameters
    ----------
    model : SurvivalForest or ClassForest
    rows : TableRows
    drawn : int
        Rows that a tree is grown on.

    Returns
    -------
    int
    """
    patients = rows.share * len(rows.x)
    return max(1, round(model.leaf_patients * max(1.0, drawn / patients)))


class ClassForest(ClassModel):
    """A random forest on the history of each code, for a diagnosis.

    Parameters
    ----------
    outcomes, landmarks, min_patients
        As of StackedLogistic.
    trees, leaf_patients, share, columns, seed
        As of SurvivalForest.
    """

    _scaled: ClassVar[bool] = False

    def __init__(
        self,
        *,
        outcomes: Sequence[str] | None = None,
        landmarks: int | None = None,
        trees: int = 200,
        leaf_patients: float = 10,
        share: float = 0.3,
        columns: str = "history",
        min_patients: int = 10,
        seed: int = 0,
    ) -> None:
        self.outcomes = outcomes
        self.landmarks = landmarks
        self.trees = trees
        self.leaf_patients = leaf_patients
        self.share = share
        self.columns = columns
        self.min_patients = min_patients
        self.seed = seed

    def learn(self, rows: TableRows) -> _Classifier:
        """Grow the forest.

        Parameters
        ----------
        rows : TableRows

        Returns
        -------
        ClassLearner
        """
        drawn = min(len(rows.x), MAX_TREE_ROWS)
        forest = RandomForestClassifier(
            n_estimators=self.trees,
            max_features=self.share,
            min_samples_leaf=leaf_rows(self, rows, drawn),
            max_samples=None if drawn == len(rows.x) else drawn,
            random_state=self.seed,
        )
        return _Classifier(forest.fit(rows.x, rows.code, sample_weight=rows.weight), len(rows.names))


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


def tell_saw(rows: Sequence[dict[str, Any]], models: Mapping[str, Any], outcome: str) -> None:
    """Write into each figure of a comparator, and of a difference from it, what it was fitted on.

    Parameters
    ----------
    rows : sequence of dict
        Figures, of which `model` names the model; "saw" is added, None where it is no comparator's.
    models : mapping of str to model
        By name, those with ``saw_`` being comparators.
    outcome : str
    """
    told = {}
    for name, model in models.items():
        if (saw := getattr(model, "saw_", {}).get(outcome)) is not None:
            columns = f", {saw['columns']} columns" if "columns" in saw else ""
            at = f"{saw['times']} time{'s' * (saw['times'] > 1)}"
            told[name] = f"{saw['landmarks']} landmarks at {at} of {saw['patients']} patients{columns}"
    for row in rows:
        names = (name for name in told if row["model"] == name or row["model"].endswith(f"-{name}"))
        row["saw"] = told.get(next(names, ""))


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
    x = scaled_columns(table).fit_transform(table)
    if not x.shape[1]:
        return np.ones(len(X))
    when = np.where(lost, time, np.nextafter(time, 0))
    log = RidgeCox.fit(x, lost, when, CENSORING_RIDGE).score(x)
    return np.exp(np.clip(log - log.mean(), -4, 4))


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
