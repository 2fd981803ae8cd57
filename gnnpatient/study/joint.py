"""A joint model of one value over time and of survival, fitted by jmstate (the extra "joint").

What a patient's future looks like given a line, and which lines the values known so far allow, is computed
here, without chance: jmstate only fits.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import skew
from sklearn.base import BaseEstimator

from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.errors import InputError, near
from gnnpatient.prognosis.forecast import Forecast
from gnnpatient.study.tabular import GRID, seen_landmarks
from gnnpatient.times import DAY, YEAR

STEPS, AVERAGED = 400, 100  # of the gradient; the last ones, whose mean is the answer
RATE = 0.05  # of a step
NODES = 15  # at which each of level and slope is taken
PAST = 30  # parts of the time from entry to the landmark
BATCH = 128  # landmarks at once, which bounds the memory


@dataclass(frozen=True, eq=False)
class Lines:
    """What was learned: the law of the patients' lines, and of each cause's hazard given a line.

    The hazard of a cause is that of a Weibull law times exp(link * value of the line + effects of x). Time
    is in years since entry, the value in standard deviations of those of the training patients.

    Attributes
    ----------
    mean : (2,) float64 array
        Mean level at entry and slope.
    covariance : (2, 2) float64 array
        Of level and slope over patients.
    noise : float
        Variance of a value around its line.
    rate, shape, link : (cause,) float64 array
        The cumulative hazard at a line of zero is (rate * time) ** shape.
    effects : (cause, column) float64 array
        Log hazard ratios of the baseline covariates.
    """

    mean: np.ndarray
    covariance: np.ndarray
    noise: float
    rate: np.ndarray
    shape: np.ndarray
    link: np.ndarray
    effects: np.ndarray

    def given(self, t: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Law of the line of each patient, given values alone.

        Parameters
        ----------
        t, y : (patient, value) float64 array
            Years and values; nan: none.

        Returns
        -------
        mean : (patient, 2) float64 array
        covariance : (patient, 2, 2) float64 array
        """
        there = np.isfinite(y)
        z = np.where(there[:, :, None], np.stack([np.ones_like(t), t], 2), 0.0)
        prior = np.linalg.inv(self.covariance)
        covariance = np.linalg.inv(prior + np.einsum("pti,ptj->pij", z, z) / self.noise)
        told = np.einsum("pti,pt->pi", z, np.where(there, y, 0.0)) / self.noise
        return np.einsum("pij,pj->pi", covariance, told + prior @ self.mean), covariance

    def hazards(self, line: np.ndarray, x: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """Hazard of each cause summed over each interval, given lines.

        Parameters
        ----------
        line : (patient, line, 2) float64 array
        x : (patient, column) float64 array
        edges : (patient, 1 + interval) float64 array
            Years since entry; the value is taken in the middle of each interval.

        Returns
        -------
        (patient, line, cause, interval) float64 array
        """
        base = np.diff((self.rate[:, None] * edges[:, None, :]) ** self.shape[:, None], axis=2)
        middle = (edges[:, None, :-1] + edges[:, None, 1:]) / 2
        value = line[:, :, :1] + line[:, :, 1:] * middle
        score = self.link[:, None] * value[:, :, None, :] + (x @ self.effects.T)[:, None, :, None]
        return np.asarray(base[:, None] * np.exp(score.clip(max=30.0)))

    def incidence(
        self, t: np.ndarray, y: np.ndarray, x: np.ndarray, now: np.ndarray, ahead: np.ndarray, since: float
    ) -> np.ndarray:
        """Being event-free, then each cause, of patients without an event by now.

        Parameters
        ----------
        t, y : (patient, value) float64 array
            Values known by now.
        x : (patient, column) float64 array
        now : (patient,) float64 array
            Years since entry.
        ahead : (time,) float64 array
            Years after now, rising, above 0.
        since : float
            Years after entry from which on patients were followed: what the law of the lines is about.

        Returns
        -------
        (patient, 1 + cause, time) float64 array
        """
        mean, covariance = self.given(t, y)
        at, weight = np.polynomial.hermite_e.hermegauss(NODES)
        nodes = np.stack(np.meshgrid(at, at), 2).reshape(-1, 2)
        line = mean[:, None] + np.einsum("pij,nj->pni", np.linalg.cholesky(covariance), nodes)
        begin = np.minimum(since, now)[:, None]
        past = self.hazards(line, x, begin + (now[:, None] - begin) * np.linspace(0, 1, PAST + 1)).sum((2, 3))
        share = (weight[:, None] * weight).reshape(-1) * np.exp(past.min(1, keepdims=True) - past)
        share /= share.sum(1, keepdims=True)
        coming = self.hazards(line, x, now[:, None] + np.concatenate([[0.0], ahead]))
        total = coming.sum(2)
        free = np.exp(-total.cumsum(2))
        before = np.concatenate([np.ones_like(free[:, :, :1]), free[:, :, :-1]], 2)
        gone = (before - free)[:, :, None] * coming / np.maximum(total, 1e-300)[:, :, None]
        causes = np.einsum("pn,pnkt->pkt", share, gone).cumsum(2)
        return np.concatenate([1 - causes.sum(1, keepdims=True), causes], 1)


class JointModel(BaseEstimator):
    """Each patient's line of one value over time, and hazards of each cause that follow the line.

    A line has a level and a slope of the patient's own. The log hazard of a cause is that of a Weibull law
    of the time since entry, plus an effect of the line's value at that moment, and effects of the numbers
    among the baseline covariates. All are fitted together to every value of the training patients and to
    their outcome from their first landmark on, so that values which end with death are no trouble. A
    forecast weighs the lines that the values known at the landmark, and being event-free until then, leave.
    The logarithm of the value is taken where all are above 0 and it is the less skewed.

    Parameters
    ----------
    outcomes : sequence of str
        The name of one survival outcome.
    code : str
        Code of the value, or ``"NODE/CODE"`` where several node types have it.
    horizon : float, optional
        Days after a landmark up to which it forecasts; default: the longest follow-up.
    seed : int, default 0
        Of the fit.

    Attributes
    ----------
    lines_ : Lines
        What was learned.
    saw_ : dict
        Landmarks (the first of each patient), times, patients and columns, by the name of the outcome.

    References
    ----------
    Laplante F, Ambroise C (2025). A general framework for joint multi-state models. arXiv:2510.07128.
    Rizopoulos D (2011). Biometrics 67:819-829 (dynamic prediction).

    Examples
    --------
    >>> JointModel(outcomes=["death"], code="bili", horizon=1826.0)
    JointModel(code='bili', horizon=1826.0, outcomes=['death'])
    """

    def __init__(
        self, *, outcomes: Sequence[str], code: str, horizon: float | None = None, seed: int = 0
    ) -> None:
        self.outcomes = outcomes
        self.code = code
        self.horizon = horizon
        self.seed = seed

    def fit(self, X: Landmarks, y: None = None) -> JointModel:
        """Fit to all values of the patients of X, and to their outcome from their first landmark on.

        Parameters
        ----------
        X : Landmarks
            Of the training patients; entry should be among their times.
        y : None
            Ignored; outcomes are read from X.

        Returns
        -------
        JointModel

        Raises
        ------
        InputError
            When jmstate is not there, the outcome has no curve, or the value is unknown.
        """
        fitted = self.check(X.cohort)
        (outcome,) = self.outcomes
        self.node_, self.place_ = self._found(X.cohort, outcome)
        X = X.followed(outcome)
        order = np.lexsort((X.at, X.patient))
        first = X[order[np.unique(X.patient[order], return_index=True)[1]]]
        truth = first.outcome(outcome)
        if not truth["event"].any():
            raise InputError(f"outcome {outcome!r}: no events; nothing to learn")
        self.outcome_, self.causes_ = outcome, X.cohort.causes(outcome)
        horizon = float(self.horizon or X.outcome(outcome)["time"].max())
        self.grid_ = np.linspace(0, horizon, GRID + 1)[1:]
        t, value = self._values(first, first.at + (truth["time"] * DAY).astype(np.int64))
        there = np.isfinite(value)
        if there.sum() < 2 or np.nanstd(value) == 0:
            raise InputError(f"{self.code!r} has no two values that differ; a joint model needs a line of it")
        every = value[there]
        self.logarithm_ = bool((every > 0).all() and abs(skew(np.log(every))) < abs(skew(every)))
        scaled = np.log(every) if self.logarithm_ else every
        self.centre_, self.scale_ = float(scaled.mean()), float(scaled.std())
        number = X.cohort.statics(first.patient, first.at)[0].astype(np.float64)
        some = np.isfinite(number).any(0)
        self.columns_ = np.flatnonzero(some)
        self.middle_, self.spread_ = np.nanmean(number[:, some], 0), np.nanstd(number[:, some], 0)
        self.spread_ = np.where(self.spread_ > 0, self.spread_, 1.0)
        begin = self._years(first)
        self.since_ = float(begin.min())
        end = begin + truth["time"].astype(np.float64) / YEAR
        data = self._x(first), t, self._scaled(value), begin, end, truth["event"].astype(np.int64)
        self.lines_ = fitted(*data, len(self.causes_), self.seed)
        self.saw_ = {outcome: {**seen_landmarks(first), "columns": 1 + len(self.columns_)}}
        return self

    def check(self, cohort: Cohort) -> Callable[..., Lines]:
        """Refuse what cannot be fitted, before anything is.

        Parameters
        ----------
        cohort : Cohort

        Returns
        -------
        callable
            What fits lines.

        Raises
        ------
        InputError
            When jmstate is not there, the outcome has no curve, or the value is unknown.
        """
        fitted = _jmstate()
        (outcome,) = self.outcomes
        if not cohort.outcomes_with_model([outcome])[outcome].has_curve:
            raise InputError(f"outcome {outcome!r} is no survival; a joint model has a curve of each cause")
        self._found(cohort, outcome)
        return fitted

    def _found(self, cohort: Cohort, outcome: str) -> tuple[str, int]:
        """Node type of the value, and the code's place."""
        node, _, code = self.code.rpartition("/")
        kinds = cohort.inputs([outcome])
        codes = {
            kind: list(names)
            for kind, names in cohort.codes.items()
            if kind in cohort.events and (kinds is None or kind in kinds)
        }
        wanted = {kind: names.index(self.code) for kind, names in codes.items() if self.code in names}
        wanted = wanted or {
            kind: names.index(code) for kind, names in codes.items() if node == kind and code in names
        }
        if len(wanted) > 1:
            kind = sorted(wanted)[0]
            raise InputError(
                f"{self.code!r} is a code of {', '.join(sorted(wanted))}; give one, as {kind}/{self.code}"
            )
        if not wanted:
            every = [name for names in codes.values() for name in names]
            raise InputError(f"no value {self.code!r} for a joint model{near(self.code, every)}")
        return next(iter(wanted.items()))

    def _entered(self, X: Landmarks) -> np.ndarray:
        entry = X.cohort.landmarks(np.unique(X.patient), times=["entry"])
        first = np.zeros(len(X.cohort), np.int64)
        first[entry.patient] = entry.at
        return np.asarray(first[X.patient])

    def _years(self, X: Landmarks) -> np.ndarray:
        return np.asarray(np.maximum(X.at - self._entered(X), 0) / DAY / YEAR)

    def _values(self, X: Landmarks, until: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Years since entry and values as known at `until` (seconds), a row a landmark, nan behind them."""
        events, first = X.cohort.events[self.node_], self._entered(X)
        _, row, place = events.visible_rows(X.patient, until)
        kept = (events.code[place] == self.place_) & np.isfinite(events.value[place])
        row, place = row[kept], place[kept]
        column = np.arange(len(row)) - np.searchsorted(row, row)
        t, value = (np.full((len(X), max(1, column.max(initial=0) + 1)), np.nan) for _ in range(2))
        t[row, column] = (events.happened[place] - first[row]) / DAY / YEAR
        value[row, column] = events.value[place]
        return t, value

    def _scaled(self, value: np.ndarray) -> np.ndarray:
        if self.logarithm_:
            value = np.log(np.where(value > 0, value, np.nan))
        return (value - self.centre_) / self.scale_

    def _x(self, X: Landmarks) -> np.ndarray:
        number = X.cohort.statics(X.patient, X.at)[0][:, self.columns_].astype(np.float64)
        return np.nan_to_num((number - self.middle_) / self.spread_)

    def forecast(self, X: Landmarks) -> dict[str, Forecast]:
        """Cumulative incidence of each cause.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.

        Returns
        -------
        dict of str to Forecast
            Of the one outcome, at 60 times up to the horizon; nan where a patient is not at risk.
        """
        name = self.outcome_
        at_risk = X.at_risk(name) if name in X.cohort.outcomes else np.ones(len(X), bool)
        curves = np.full((len(X), 1 + len(self.causes_), len(self.grid_)), np.nan)
        rows = np.flatnonzero(at_risk)
        for i in range(0, len(rows), BATCH):
            part = X[rows[i : i + BATCH]]
            t, value = self._values(part, part.at)
            about = t, self._scaled(value), self._x(part), self._years(part), self.grid_ / YEAR
            curves[rows[i : i + BATCH]] = self.lines_.incidence(*about, self.since_)
        return {name: Forecast(name, self.causes_, self.grid_, curves, X.ids, X.days, at_risk)}


def _jmstate() -> Callable[..., Lines]:
    """What fits lines; refused where the extra is not installed."""
    try:
        importlib.import_module("jmstate")
    except ImportError:
        raise InputError('a joint model needs jmstate; pip install "gnnpatient[joint]"') from None
    return _fitted


def _fitted(
    x: np.ndarray,
    t: np.ndarray,
    y: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    event: np.ndarray,
    causes: int,
    seed: int,
) -> Lines:
    """Fit by jmstate: stochastic gradients, lines drawn by a Markov chain; the mean of the last steps."""
    import torch
    from jmstate import MultiStateJointModel
    from jmstate.functions.base_hazards import Weibull
    from jmstate.types import ModelData, ModelDesign, ModelParameters, PrecisionParameters
    from sklearn.exceptions import ConvergenceWarning

    def tensor(values: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(values, np.float64))

    def line(t: torch.Tensor, each: torch.Tensor) -> torch.Tensor:
        level, slope = each.chunk(2, dim=-1)
        return (level + slope * t).unsqueeze(-1)

    def each(fixed: torch.Tensor, x: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        return fixed + own

    keys = [(0, k) for k in range(1, 1 + causes)]
    # jmstate calls it a scale, but the hazard at shape 1 is this number
    rate = [max((event == k).sum(), 0.5) / (end - begin).sum() for _, k in keys]
    parameters = ModelParameters(
        tensor([0.0, 0.0]),
        PrecisionParameters.from_covariance(tensor([[1.0, 0.0], [0.0, 0.05]]), "full"),
        PrecisionParameters.from_covariance(tensor([[0.15]]), "spherical"),
        {key: Weibull(float(one), 1.0, clock_type="absolute") for key, one in zip(keys, rate, strict=True)},
        {key: tensor([0.0]) for key in keys},
        {key: tensor(np.zeros(x.shape[1])) for key in keys},
    ).double()
    paths = [
        [(float(since), 0), *([(float(until), int(k))] if k else [])]
        for since, until, k in zip(begin, end, event, strict=True)
    ]
    data = ModelData(tensor(x), tensor(t), tensor(y)[:, :, None], paths, tensor(end)[:, None])
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as many steps are made as are asked for
        torch.manual_seed(seed)
        optimizer = torch.optim.Adam(parameters.parameters(), lr=RATE)
        model = MultiStateJointModel(
            ModelDesign(each, line, dict.fromkeys(keys, line)),
            parameters,
            optimizer,
            n_quad=8,
            n_chains=3,
            n_subsample=5,
            max_iter=STEPS,
            tol=0.0,
            verbose=False,
        ).fit(data)
    mean = torch.stack(model.params_history_[-AVERAGED:]).mean(0)
    torch.nn.utils.vector_to_parameters(mean, parameters.parameters())
    if not bool(torch.isfinite(mean).all()):
        raise InputError("the joint model did not converge; leave the value out of the rivals")

    def numbers(name: str) -> np.ndarray:
        return np.stack([getattr(parameters, name)[str(key)].detach().numpy() for key in keys])

    bases = [parameters.base_hazards[str(key)] for key in keys]
    return Lines(
        parameters.fixed_effects.detach().numpy(),
        parameters.random_prec.covariance.detach().numpy(),
        float(parameters.noise_prec.covariance.detach()),
        np.exp([float(base.log_lmda.detach()) for base in bases]),
        np.exp([float(base.log_k.detach()) for base in bases]),
        numbers("link_coefs")[:, 0],
        numbers("x_coefs"),
    )
