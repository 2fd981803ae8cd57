"""Comparators of a forecast value: simple, strong, fitted on the same landmarks, asked for the same time.

Each learns from the later values of the training landmarks and the time between, and answers with the
distribution of the value at the times that are asked for, and the chance that a value is seen then.

References
----------
Laird NM, Ware JH (1982). Biometrics 38:963-974 (the linear mixed model).
Koenker R, Bassett G (1978). Econometrica 46:33-50 (quantiles).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import numpy as np
from scipy.special import ndtr
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.progression import Progression
from gnnpatient.cohort.splits import landmark_weights
from gnnpatient.errors import InputError
from gnnpatient.model.values import hats, pair_weights
from gnnpatient.prognosis.inputs import last_landmarks, spaced_landmarks
from gnnpatient.prognosis.problem import draw_landmarks
from gnnpatient.prognosis.rows import answerable
from gnnpatient.prognosis.value_target import is_skewed, later_values, value_times
from gnnpatient.prognosis.values import ProgressionForecast, asked_for
from gnnpatient.study.mixed_model import MixedModel
from gnnpatient.study.tabular import History, seen_landmarks
from gnnpatient.times import DAY, YEAR

FOLDS = 5  # by patient, within the training part
BINS = 100  # of the distributions, even on the scale that is learned on
MARGIN = 0.5  # by which they reach beyond the training values, as a share of these
MAX_TIMES = 12  # at which a forecast is given; of more that are asked for some, and between them a line
BANDS = 5  # of the time ahead, within which errors are alike
TIMES_AHEAD = 4  # drawn for each training landmark, to learn when a value is seen
RIDGES = np.logspace(-1, 4, 11)
KEPT = (0.0, 0.5, 1.0)  # shares of the last value
QUANTILES = np.array([0.02, 0.05, 0.2, 0.5, 0.8, 0.95, 0.98])
GROWN: Mapping[str, Any] = {
    "learning_rate": 0.08,
    "max_iter": 200,
    "max_leaf_nodes": 8,
    "l2_regularization": 1.0,
    "max_features": 0.5,
    "early_stopping": True,
    "n_iter_no_change": 15,
    "random_state": 0,
}
LEAF_PATIENTS = 20
MAX_LANDMARKS = 16_384  # that are learned from; of more, a first one of every patient before a second of any


@dataclass(frozen=True, eq=False)
class LaterValues:
    """What the training landmarks have to teach of an outcome. Days.

    Attributes
    ----------
    landmarks : Landmarks
        Training landmarks, those without a later value among them: nothing is seen of these.
    outcome : str
        Name of the outcome.
    owner : ndarray
        The landmark of each later value.
    ahead : ndarray
        Days after it.
    importance : ndarray
        How much each landmark counts, as in training of a model: see `landmark_weights`.
    value : ndarray
        The value, or of a change its change, on the scale that is learned on.
    log : bool
        Whether that is the logarithm: where it makes the values less skewed.
    times : tuple of float
        At each of which a landmark counts once, however many values it has there.
    """

    landmarks: Landmarks
    outcome: str
    owner: np.ndarray  # (pair,) int64
    ahead: np.ndarray  # (pair,) float64
    importance: np.ndarray  # (landmark,) float64
    value: np.ndarray  # (pair,) float64
    log: bool
    times: tuple[float, ...]

    @classmethod
    def of(
        cls, X: Landmarks, outcome: str, horizon: float | None, *, may_log: bool = True, least: int = 1
    ) -> LaterValues:
        """Read the later values of some landmarks, the same eight at most as a model learns from.

        Parameters
        ----------
        X : Landmarks
            Training landmarks, at risk.
        outcome : str
        horizon : float or None
            Days ahead up to which values are taken.
        may_log : bool, default True
            Whether the scale may be the logarithm.
        least : int, default 1
            Fewest patients with a value between two of the times by which values are weighed.

        Returns
        -------
        LaterValues

        Raises
        ------
        InputError
            When there is none.
        """
        truth, importance = cast(Progression, X.cohort.outcomes[outcome]), landmark_weights(X.moments)
        if len(X) > MAX_LANDMARKS:
            rng = np.random.default_rng(0)
            rows, share = draw_landmarks(X.patient, len(X), MAX_LANDMARKS, rng)
            X, importance = X[rows], importance[rows] * share
        last = truth.baseline(X.patient, X.at)
        end = np.inf if horizon is None else horizon
        found, when = later_values(truth, X, np.ones(len(X), bool), last, end)
        owner, pair = np.nonzero(np.isfinite(found))
        ahead, value = when[owner, pair], found[owner, pair]
        if not len(owner):
            raise InputError(f"outcome {outcome!r}: no later value of {len(X)} landmarks; nothing to learn")
        log = bool(may_log and truth.spec.target == "value" and is_skewed(value))
        times = value_times(ahead, X.patient[owner], float(ahead.max()), least)
        return cls(X, outcome, owner, ahead, importance, np.log(value) if log else value, log, times)

    @cached_property
    def weight(self) -> np.ndarray:
        """What each later value counts, (pair,): as for a model, see `pair_weights`; a mean landmark 1."""
        new = np.append(True, np.diff(self.owner) != 0)
        rank = np.arange(len(self.owner)) - np.flatnonzero(new)[new.cumsum() - 1]
        share = np.zeros((len(self.landmarks), int(rank.max()) + 1, len(self.times)))
        share[self.owner, rank] = hats(self.times, self.ahead)
        weight = self.importance[self.owner] * pair_weights(share)[self.owner, rank]
        return np.asarray(weight * (new.sum() / weight.sum()))

    @cached_property
    def patient(self) -> np.ndarray:
        """Whose each later value is, (pair,)."""
        return self.landmarks.patient[self.owner]

    @cached_property
    def fold(self) -> np.ndarray:
        """A fold of each later value, by patient, (pair,)."""
        who, place = np.unique(self.patient, return_inverse=True)
        return (np.random.default_rng(0).permutation(len(who)) % FOLDS)[place]

    def last(self, X: Landmarks) -> np.ndarray:
        """The last known value on the scale that is learned on; of a change 0.

        Parameters
        ----------
        X : Landmarks
            Any landmarks.

        Returns
        -------
        ndarray
            (landmark,) float64, nan = none.
        """
        truth = cast(Progression, X.cohort.outcomes[self.outcome])
        found = truth.baseline(X.patient, X.at)
        if truth.spec.target == "change":
            return np.zeros_like(found)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(found > 0, np.log(found), np.nan) if self.log else found


@runtime_checkable
class ValueLearner(Protocol):
    """What a comparator has learned of one outcome."""

    def below(self, edges: np.ndarray, X: Landmarks, days: np.ndarray) -> np.ndarray:
        """Chance of a value below each edge, if it is seen.

        Parameters
        ----------
        edges : ndarray
            On the scale that was learned on, (edge,).
        X : Landmarks
        days : ndarray
            After the landmark, (time,).

        Returns
        -------
        ndarray
            (landmark, edge, time).
        """

    def seen(self, X: Landmarks, days: np.ndarray) -> np.ndarray:
        """Chance that a value is seen around each time.

        Parameters
        ----------
        X : Landmarks
        days : ndarray
            (time,).

        Returns
        -------
        ndarray
            (landmark, time).
        """


class _ValueComparator(BaseEstimator):
    """What the comparators have in common.

    Parameters
    ----------
    outcomes : sequence of str, optional
        Progressions of a value to forecast; default: all of the cohort.
    horizon : float, optional
        Days ahead up to which later values are learned from; default: all.
    landmarks : int, optional
        How many of the times of X are used, evenly spaced; default: all, as a model sees them.
    min_patients : int, default 10
        Codes and levels of fewer training patients count as one, as in PrognosisModel.
    """

    may_log: ClassVar[bool] = True

    def __init__(
        self,
        *,
        outcomes: Sequence[str] | None = None,
        horizon: float | None = None,
        landmarks: int | None = None,
        min_patients: int = 10,
    ) -> None:
        self.outcomes = outcomes
        self.horizon = horizon
        self.landmarks = landmarks
        self.min_patients = min_patients

    def fit(self, X: Landmarks, y: None = None) -> _ValueComparator:
        """Fit one model an outcome.

        Parameters
        ----------
        X : Landmarks
            Training patients at prediction times.
        y : None
            Ignored; values are read from X.

        Returns
        -------
        The comparator itself.

        Raises
        ------
        InputError
            When a named outcome is no progression of a value, or there is no later value.
        """
        self.learned_: dict[str, ValueLearner] = {}
        self.saw_: dict[str, dict[str, int]] = {}
        self.edges_: dict[str, np.ndarray] = {}
        self.log_: dict[str, bool] = {}
        self.reach_: dict[str, float] = {}
        for name in value_outcomes(X, self.outcomes):
            labelled = X if self.landmarks is None else spaced_landmarks(X, self.landmarks)
            later = LaterValues.of(
                labelled.followed(name),
                name,
                self.horizon,
                may_log=self.may_log,
                least=self.min_patients,
            )
            self.learned_[name], self.saw_[name] = self._learn(later), seen_landmarks(later.landmarks)
            low, high = later.value.min(), later.value.max()
            beyond = MARGIN * max(high - low, 1e-6)
            self.edges_[name] = np.linspace(low - beyond, high + beyond, BINS + 1)
            self.log_[name], self.reach_[name] = later.log, float(later.ahead.max())
        return self

    def _learn(self, later: LaterValues) -> ValueLearner:
        raise NotImplementedError

    def forecast(self, X: Landmarks) -> dict[str, ProgressionForecast]:
        """The distribution of each value at the times asked for.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times; without `to` forecasts go as far as there was something to learn.

        Returns
        -------
        dict of str to ProgressionForecast
            By the name of the outcome. The chance to be alive is not forecast: 1.
        """
        return {name: self._forecast(X, name) for name in self.learned_}

    def _forecast(self, X: Landmarks, name: str) -> ProgressionForecast:
        days, edges = _times(X, self.reach_[name]), self.edges_[name]
        here = answerable(X, name)
        probability = np.full((len(X), len(edges) - 1, len(days)), np.nan)
        seen = np.full((len(X), len(days)), np.nan)
        if here.any():
            some = X[here]
            below = self.learned_[name].below(edges, some, days)
            below[:, 0], below[:, -1] = 0.0, 1.0  # the outer bins are open
            probability[here] = np.diff(np.maximum.accumulate(below, 1), axis=1)
            seen[here] = self.learned_[name].seen(some, days)
        ends = np.exp(edges) if self.log_[name] else edges
        return ProgressionForecast.from_array(probability, ends, days, X, name, seen=seen)


def value_outcomes(X: Landmarks, names: Sequence[str] | None) -> tuple[str, ...]:
    """The progressions of a value among some outcomes.

    Parameters
    ----------
    X : Landmarks
    names : sequence of str or None
        None: of all outcomes of the cohort.

    Returns
    -------
    tuple of str

    Raises
    ------
    InputError
        When a named one is none.
    """
    every = {name: t for name, t in X.cohort.outcomes.items() if isinstance(t, Progression)}
    found = tuple(name for name, truth in every.items() if truth.spec.target != "worse")
    if names is None:
        return found
    for name in names:
        if X.cohort.check_outcome(name) not in found:
            raise InputError(f"outcome {name!r} is no progression of a value; there is {', '.join(found)}")
    return tuple(names)


def _times(X: Landmarks, reach: float) -> np.ndarray:
    """Days after the landmark at which an answer is given: those asked for, or as many as are enough."""
    asked = np.unique(asked_for(X))
    asked = asked[np.isfinite(asked)]
    if not len(asked):
        return reach * np.arange(1, MAX_TIMES + 1) / MAX_TIMES
    if len(asked) <= MAX_TIMES:
        return asked
    return np.unique(np.quantile(asked, np.linspace(0, 1, MAX_TIMES)))


def _log_time(days: np.ndarray) -> np.ndarray:
    """The time ahead as a column."""
    return np.log1p(np.asarray(days) / 30)


# ---- parts


@dataclass(frozen=True, eq=False)
class _Bands:
    """A mean for each band of the time ahead, a line between their middles."""

    at: np.ndarray  # (band,) log time
    level: np.ndarray  # (band,)

    @classmethod
    def fit(cls, ahead: np.ndarray, figure: np.ndarray, weight: np.ndarray) -> _Bands:
        time = _log_time(ahead)
        cut = np.unique(np.quantile(time, np.linspace(0, 1, BANDS + 1)[1:-1]))
        band = np.searchsorted(cut, time, "left")
        total = np.bincount(band, weight)
        some = total > 0
        at, level = (np.bincount(band, weight * x)[some] / total[some] for x in (time, figure))
        return cls(at, level)

    def __call__(self, days: np.ndarray) -> np.ndarray:
        return np.interp(_log_time(days), self.at, self.level)


def _seen_labels(later: LaterValues) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Landmarks, times drawn ahead of them, whether a value was seen around, and weight: where known."""
    X, rng = later.landmarks, np.random.default_rng(1)
    truth = cast(Progression, X.cohort.outcomes[later.outcome])
    owner = np.repeat(np.arange(len(X)), TIMES_AHEAD)
    ahead = rng.uniform(0, later.ahead.max(), len(owner))
    after = np.maximum(np.rint(ahead * DAY), 1).astype(np.int64)
    seen = truth.seen_around(X.patient[owner], X.at[owner], after)
    known = np.isfinite(seen)
    return owner[known], ahead[known], seen[known], later.importance[owner[known]]


@dataclass(frozen=True, eq=False)
class _SeenByTime:
    """The share seen, by the time ahead alone."""

    share: _Bands | None

    @classmethod
    def fit(cls, later: LaterValues) -> _SeenByTime:
        _, ahead, seen, weight = _seen_labels(later)
        return cls(_Bands.fit(ahead, seen, weight) if len(seen) else None)

    def __call__(self, X: Landmarks, days: np.ndarray) -> np.ndarray:
        share = np.ones(len(days)) if self.share is None else self.share(days).clip(0, 1)
        return np.tile(share, (len(X), 1))


def _normal(edges: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Chance below each edge: (landmark, edge, time) of (landmark, time)."""
    return ndtr((edges[:, None] - mean[:, None]) / sd[:, None])


# ---- last value carried forward


@dataclass(frozen=True, eq=False)
class _Carried:
    later: LaterValues
    middle: float
    variance: _Bands
    chance: _SeenByTime

    def below(self, edges: np.ndarray, X: Landmarks, days: np.ndarray) -> np.ndarray:
        last = np.where(np.isnan(last := self.later.last(X)), self.middle, last)
        shape = len(X), len(days)
        sd = np.sqrt(np.broadcast_to(self.variance(days), shape))
        return _normal(edges, np.broadcast_to(last[:, None], shape), sd)

    def seen(self, X: Landmarks, days: np.ndarray) -> np.ndarray:
        return self.chance(X, days)


class LastValue(_ValueComparator):
    """The last known value carried forward, with the spread that training values had around it.

    Where none is known it is the training mean. The spread rises with the time ahead; the chance to be seen
    is the share of the training landmarks at that time. Parameters are those of all these comparators.

    Parameters
    ----------
    outcomes : sequence of str, optional
        Progressions of a value to forecast; default: all of the cohort.
    horizon : float, optional
        Days ahead up to which later values are learned from; default: all.
    landmarks : int, optional
        How many of the times of X are used, evenly spaced; default: all, as a model sees them.
    min_patients : int, default 10
        Codes and levels of fewer training patients count as one, as in PrognosisModel.
    """

    may_log = False  # its mean is the last value itself

    def _learn(self, later: LaterValues) -> ValueLearner:
        middle = float(np.average(later.value, weights=later.weight))
        last = later.last(later.landmarks)[later.owner]
        miss = later.value - np.where(np.isnan(last), middle, last)
        variance = _Bands.fit(later.ahead, miss**2, later.weight)
        floor = max(1e-6 * float(np.var(later.value)), 1e-12)
        variance = _Bands(variance.at, variance.level.clip(floor))
        return _Carried(later, middle, variance, _SeenByTime.fit(later))


# ---- ridge regression


@dataclass(frozen=True, eq=False)
class _Ridge:
    later: LaterValues
    history: History
    columns: Any  # scales of the columns
    own: np.ndarray  # those of the outcome's codes
    ahead: StandardScaler
    middle: float
    kept: float  # share of the last value from which the rest is learned
    beta: np.ndarray
    variance: _Bands
    seeing: LogisticRegression | None

    def below(self, edges: np.ndarray, X: Landmarks, days: np.ndarray) -> np.ndarray:
        table, shape = self.columns.transform(self.history(X)), (len(X), len(days))
        last = np.where(np.isnan(last := self.later.last(X)), self.middle, last)
        mean = np.stack(
            [self.kept * last + _design(table, self.own, self._time(d, X)) @ self.beta for d in days], 1
        )
        return _normal(edges, mean, np.sqrt(np.broadcast_to(self.variance(days), shape)))

    def seen(self, X: Landmarks, days: np.ndarray) -> np.ndarray:
        if self.seeing is None:
            return np.ones((len(X), len(days)))
        table = self.columns.transform(self.history(X))
        tables = [_design(table, self.own, self._time(d, X)) for d in days]
        return np.stack([self.seeing.predict_proba(x)[:, 1] for x in tables], 1)

    def _time(self, day: float, X: Landmarks) -> np.ndarray:
        return np.asarray(self.ahead.transform(np.full((len(X), 1), _log_time(np.array(day)))))


def _design(table: np.ndarray, own: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Columns of history, the time ahead, its square, and its products with the outcome's own history."""
    return np.concatenate([np.ones_like(time), table, time, time**2, time * table[:, own]], 1)


class RidgeHistory(_ValueComparator):
    """Ridge regression of the later value on the history of all codes and the time ahead.

    The columns are last values, means, slopes, extremes, counts and times of each code and the statics; the
    logarithm of the time ahead, its square, and its products with the history of its own codes. What is
    learned is the value, the change since the last one, or half way between. That and the penalty are
    chosen on five folds of the training patients, whose errors out of fold give the spread. The chance to be
    seen is a ridge logistic regression on the same columns.

    Parameters
    ----------
    outcomes, horizon, landmarks, min_patients
        As in `LastValue`.
    """

    def _learn(self, later: LaterValues) -> ValueLearner:
        history = History.fit(later.landmarks, self.min_patients)
        truth = cast(Progression, later.landmarks.cohort.outcomes[later.outcome])
        own = _own_columns(history, truth, later.landmarks)
        columns = make_pipeline(
            SimpleImputer(strategy="median", keep_empty_features=True),
            StandardScaler(),
            FunctionTransformer(np.clip, kw_args={"min": -4, "max": 4}),
        )
        table = columns.fit_transform(history(later.landmarks))
        ahead = StandardScaler().fit(_log_time(later.ahead)[:, None])
        middle = float(np.average(later.value, weights=later.weight))
        last = later.last(later.landmarks)[later.owner]
        last = np.where(np.isnan(last), middle, last)
        x = _design(table[later.owner], own, ahead.transform(_log_time(later.ahead)[:, None]))
        tried = {kept: _ridge(x, later.value - kept * last, later.weight, later.fold) for kept in KEPT}
        kept = min(tried, key=lambda share: float(later.weight @ tried[share][1] ** 2))
        beta, miss = tried[kept]
        variance = _Bands.fit(later.ahead, miss**2, later.weight)
        owner, time, seen, weight = _seen_labels(later)
        seeing = None
        if len(np.unique(seen)) == 2:
            design = _design(table[owner], own, ahead.transform(_log_time(time)[:, None]))
            share = len(np.unique(later.patient)) / weight.sum()
            seeing = LogisticRegression(C=share / 5, max_iter=2000).fit(design, seen.astype(int), weight)
        return _Ridge(later, history, columns, own, ahead, middle, kept, beta, variance, seeing)


def _own_columns(history: History, truth: Progression, X: Landmarks) -> np.ndarray:
    """Which columns are of values of the outcome's codes."""
    codes = X.cohort.codes[truth.spec.node]
    names = {f"{truth.spec.node} {codes[code]}" for code in np.flatnonzero(truth.code)}
    of_values = ("last", "mean", "sd", "min", "max", "slope", "change")
    return np.array(
        [
            i
            for i, name in enumerate(history.aggregates.names)
            if name.rpartition(" ")[0] in names and name.endswith(of_values)
        ],
        np.int64,
    )


def _ridge(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, fold: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients with the penalty that is best on held-out folds, and the errors out of fold."""
    rooted = np.sqrt(weight)[:, None]
    x, y = x * rooted, y * rooted[:, 0]
    parts = [(x[fold == k].T @ x[fold == k], x[fold == k].T @ y[fold == k]) for k in range(FOLDS)]
    whole, right = (sum(part) for part in zip(*parts, strict=True))
    penalty = np.eye(x.shape[1])
    penalty[0, 0] = 0  # of the constant

    def left_out(ridge: float) -> np.ndarray:
        out = np.empty_like(y)
        for k, (gram, product) in enumerate(parts):
            beta = np.linalg.lstsq(whole - gram + ridge * penalty, right - product, rcond=None)[0]
            out[fold == k] = y[fold == k] - x[fold == k] @ beta
        return out

    errors = {ridge: left_out(ridge) for ridge in RIDGES.tolist()}
    best = min(errors, key=lambda ridge: float(errors[ridge] @ errors[ridge]))
    beta = np.linalg.lstsq(whole + best * penalty, right, rcond=None)[0]
    return beta, errors[best] / rooted[:, 0]


# ---- boosted quantiles


@dataclass(frozen=True, eq=False)
class _Grown:
    later: LaterValues
    history: History
    middle: float
    quantiles: tuple[HistGradientBoostingRegressor, ...]
    mean: HistGradientBoostingRegressor
    seeing: HistGradientBoostingClassifier | None

    def below(self, edges: np.ndarray, X: Landmarks, days: np.ndarray) -> np.ndarray:
        table = self.history(X)
        last = np.where(np.isnan(last := self.later.last(X)), self.middle, last)
        out = np.empty((len(X), len(edges), len(days)))
        for i, day in enumerate(days.tolist()):
            x = _with_time(table, last, np.full(len(X), day))
            found = np.sort(np.stack([model.predict(x) for model in self.quantiles], 1), axis=1)
            at = _spread_out(found) + last[:, None]
            at += (last + self.mean.predict(x) - _mean_of(at))[:, None]
            level = np.concatenate([[0.0], QUANTILES, [1.0]])
            out[:, :, i] = [np.interp(edges, row, level) for row in at]
        return out

    def seen(self, X: Landmarks, days: np.ndarray) -> np.ndarray:
        if self.seeing is None:
            return np.ones((len(X), len(days)))
        table, last = self.history(X), self.later.last(X)
        tables = [_with_time(table, last, np.full(len(X), day)) for day in days.tolist()]
        return np.stack([self.seeing.predict_proba(x)[:, 1] for x in tables], 1)


def _with_time(table: np.ndarray, last: np.ndarray, days: np.ndarray) -> np.ndarray:
    return np.concatenate([table, last[:, None], _log_time(days)[:, None]], 1)


def _somewhere(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A table whose columns without any value among the rows that count are 0: trees cannot bin those."""
    return np.where(np.isnan(x[weight > 0]).all(0), 0.0, x)


def _spread_out(quantile: np.ndarray) -> np.ndarray:
    """Quantiles with ends: the tails are as wide as those of a normal between the outermost ones."""
    wide = np.maximum(quantile[:, -2] - quantile[:, 1], 1e-9)
    low, high = quantile[:, :1] - 0.4 * wide[:, None], quantile[:, -1:] + 0.4 * wide[:, None]
    steps = np.linspace(0, 1e-9, quantile.shape[1] + 2)
    return np.concatenate([low, quantile, high], 1) + steps


def _mean_of(quantile: np.ndarray) -> np.ndarray:
    """Mean of the distribution between quantiles."""
    share = np.diff([0.0, *QUANTILES, 1.0])
    return np.asarray((quantile[:, 1:] + quantile[:, :-1]) / 2 @ share)


class BoostedQuantiles(_ValueComparator):
    """Gradient boosted trees of the mean and of seven quantiles of the change since the last value.

    The columns are those of `RidgeHistory`, the last value and the logarithm of the time ahead. The number of
    trees is decided on a fifth of the training patients. Quantiles are sorted, and moved so that their mean
    is that of the trees of the mean. The chance to be seen is of trees, too.

    Parameters
    ----------
    outcomes, horizon, landmarks, min_patients
        As in `LastValue`.
    """

    def _learn(self, later: LaterValues) -> ValueLearner:
        history = History.fit(later.landmarks, self.min_patients)
        table = history(later.landmarks)
        middle = float(np.average(later.value, weights=later.weight))
        last = later.last(later.landmarks)
        anchor = np.where(np.isnan(last), middle, last)[later.owner]
        x = _with_time(table[later.owner], last[later.owner], later.ahead)
        y, stop = later.value - anchor, later.fold == 0
        rows = {"min_samples_leaf": int(LEAF_PATIENTS * max(1.0, len(y) / len(np.unique(later.patient))))}

        def grow(model: Any) -> Any:
            held = {"X_val": x[stop], "y_val": y[stop], "sample_weight_val": later.weight[stop]}
            weight = later.weight[~stop]
            return model.fit(_somewhere(x[~stop], weight), y[~stop], weight, **held)

        regressor = HistGradientBoostingRegressor
        quantiles = tuple(
            grow(regressor(loss="quantile", quantile=q, **GROWN, **rows)) for q in QUANTILES.tolist()
        )
        mean = grow(regressor(**GROWN, **rows))
        owner, time, seen, weight = _seen_labels(later)
        seeing = None
        if len(np.unique(seen)) == 2:
            learned = HistGradientBoostingClassifier(
                **{**GROWN, "early_stopping": False, "max_iter": 60}, **rows
            )
            x = _with_time(table[owner], last[owner], time)
            seeing = learned.fit(_somewhere(x, weight), seen.astype(int), weight)
        return _Grown(later, history, middle, quantiles, mean, seeing)


# ---- linear mixed model


@dataclass(frozen=True, eq=False)
class _Lines:
    later: LaterValues
    model: MixedModel
    covariates: _Covariates
    chance: _SeenByTime

    def below(self, edges: np.ndarray, X: Landmarks, days: np.ndarray) -> np.ndarray:
        truth = cast(Progression, X.cohort.outcomes[self.later.outcome])
        owner, after, value = truth.earlier(X.patient, X.at)
        time = (X.at[owner] + after) / DAY / YEAR
        value = _on_scale(value, self.later.log)
        known = np.isfinite(value)
        owner, time, value = owner[known], time[known], value[known]
        statics = self.covariates(X)
        x = _over_time(statics[owner], time)
        line, left = self.model.predict(value, x, time, owner, len(X))
        means, variances = [], []
        for day in days.tolist():
            when = (X.days + day) / YEAR
            z = np.stack([np.ones_like(when), when], 1)
            means.append(_over_time(statics, when) @ self.model.beta + (z * line).sum(1))
            variances.append(self.model.noise + np.einsum("pi,pij,pj->p", z, left, z))
        mean = np.stack(means, 1)
        if truth.spec.target == "change":
            mean = mean - truth.baseline(X.patient, X.at)[:, None]
        return _normal(edges, mean, np.sqrt(np.stack(variances, 1)))

    def seen(self, X: Landmarks, days: np.ndarray) -> np.ndarray:
        return self.chance(X, days)


@dataclass(frozen=True, eq=False)
class _Covariates:
    """Statics as columns: numbers in standard deviations, a missing one 0; a column a level but the first."""

    middle: np.ndarray
    spread: np.ndarray
    levels: tuple[tuple[int, int], ...]

    @classmethod
    def fit(cls, X: Landmarks, least: int) -> _Covariates:
        number, category = X.cohort.statics(X.patient, X.at)
        some = np.isfinite(number)
        count = np.maximum(some.sum(0), 1)
        middle = np.where(some, number, 0).sum(0) / count
        spread = np.sqrt(np.where(some, (number - middle) ** 2, 0).sum(0) / count)
        levels = []
        for i in range(category.shape[1]):
            names, counts = np.unique(category[:, i], return_counts=True)
            kept = names[(counts >= least) & (names >= 0)]
            levels += [(i, int(level)) for level in kept[1:]]
        return cls(middle, np.where(spread > 0, spread, 1), tuple(levels))

    def __call__(self, X: Landmarks) -> np.ndarray:
        number, category = X.cohort.statics(X.patient, X.at)
        columns = [np.nan_to_num((number - self.middle) / self.spread)]
        columns += [(category[:, [i]] == level).astype(float) for i, level in self.levels]
        return np.concatenate([np.ones((len(X), 1)), *columns], 1)


def _over_time(statics: np.ndarray, time: np.ndarray) -> np.ndarray:
    """The statics, and the time."""
    return np.concatenate([statics, time[:, None]], 1)


def _on_scale(value: np.ndarray, log: bool) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(value > 0, np.log(value), np.nan) if log else value


class LinearMixed(_ValueComparator):
    """A linear mixed model: a random intercept and slope for each patient, with dynamic prediction.

    It is fitted on all values of training patients, each once, with the statics and time as fixed effects
    (restricted maximum likelihood), and asked given the values that are known at the landmark. It does not
    know that those who are seen, or live, are others than those who are not. The chance to be seen is the
    share of the training landmarks at that time.

    Parameters
    ----------
    outcomes, horizon, landmarks, min_patients
        As in `LastValue`.
    """

    def _learn(self, later: LaterValues) -> ValueLearner:
        X = last_landmarks(later.landmarks)
        truth = cast(Progression, X.cohort.outcomes[later.outcome])
        log = later.log
        parts = [truth.earlier(X.patient, X.at), truth.later(X.patient, X.at)]
        owner, after, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        value = _on_scale(value, log)
        known = np.isfinite(value)
        owner, value = owner[known], value[known]
        time = (X.at[owner] + after[known]) / DAY / YEAR
        covariates = _Covariates.fit(X, self.min_patients)
        x = _over_time(covariates(X)[owner], time)
        model = MixedModel.fit(value, x, time, owner)
        return _Lines(later, model, covariates, _SeenByTime.fit(later))


# ---- without inputs


@dataclass(frozen=True, eq=False)
class _Shared:
    later: LaterValues
    chance: _SeenByTime

    def below(self, edges: np.ndarray, X: Landmarks, days: np.ndarray) -> np.ndarray:
        order = np.argsort(self.later.value)
        value, weight = self.later.value[order], self.later.weight[order]
        away = np.abs(_log_time(self.later.ahead[order])[:, None] - _log_time(days))
        near = weight[:, None] * np.maximum(1 - away / _log_time(np.array(180.0)), 1e-6)
        upto = np.concatenate([np.zeros((1, len(days))), near.cumsum(0)]) / near.sum(0)
        return np.tile(upto[np.searchsorted(value, edges)], (len(X), 1, 1))

    def seen(self, X: Landmarks, days: np.ndarray) -> np.ndarray:
        return self.chance(X, days)


class TrainingValues(_ValueComparator):
    """The later values of the training landmarks, those about as far ahead first: the same for everybody.

    Parameters
    ----------
    outcomes, horizon, landmarks, min_patients
        As in `LastValue`.
    """

    def _learn(self, later: LaterValues) -> ValueLearner:
        return _Shared(later, _SeenByTime.fit(later))


VALUE_COMPARATORS: Mapping[str, type[_ValueComparator]] = {
    "last": LastValue,
    "ridge": RidgeHistory,
    "quantiles": BoostedQuantiles,
    "mixed": LinearMixed,
}
"""By the name that they have in tables."""
