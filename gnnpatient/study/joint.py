"""A joint model of one value over time and of survival, by jmstate (the extra "joint").

References
----------
Laplante F, Ambroise C (2025). A general framework for joint multi-state models. arXiv:2510.07128.
Rizopoulos D (2011). Biometrics 67:819-829 (dynamic prediction).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.errors import InputError, near
from gnnpatient.prognosis.forecast import Forecast
from gnnpatient.times import DAY, YEAR

GRID = 30  # times at which a curve is given
FREE = "free"  # the state in which nothing has happened yet


class JointModel(BaseEstimator):
    """Each patient's line of the logarithm of one value, and hazards of each cause that follow it.

    The line has a random level and slope; the log hazard of a cause is that of a Weibull law, an effect of
    the value of the line at that time, and effects of the numbers among the baseline covariates. It is fitted
    to all values and the outcome of the training patients from their entry, by stochastic gradients; a
    forecast draws lines given the values known at the landmark, and futures of these. Needs jmstate, as by
    ``pip install "gnnpatient[joint]"``.

    Parameters
    ----------
    outcome : str
        Name of a survival outcome.
    kind, code : str
        Node type and code of the value, which must be above 0.
    horizon : float
        Days after a landmark up to which it forecasts.
    draws : int, default 300
        Futures of each landmark.
    steps : int, default 1000
        Of the fit, at most.
    seed : int, default 0
    """

    def __init__(
        self,
        outcome: str,
        *,
        kind: str,
        code: str,
        horizon: float,
        draws: int = 300,
        steps: int = 1000,
        seed: int = 0,
    ) -> None:
        self.outcome = outcome
        self.kind = kind
        self.code = code
        self.horizon = horizon
        self.draws = draws
        self.steps = steps
        self.seed = seed

    def fit(self, X: Landmarks, y: None = None) -> JointModel:
        """Fit to all that is known of the patients of X.

        Parameters
        ----------
        X : Landmarks
            Of the training patients.
        y : None
            Ignored; outcomes are read from X.

        Returns
        -------
        JointModel

        Raises
        ------
        InputError
            When jmstate is not there, or the value is unknown or not above 0.
        """
        try:
            import jmstate  # noqa: F401
        except ImportError:
            raise InputError('a joint model needs jmstate; pip install "gnnpatient[joint]"') from None
        if self.code not in X.cohort.codes.get(self.kind, ()):
            known = X.cohort.codes.get(self.kind, ())
            raise InputError(f"no code {self.code!r} of {self.kind!r}{near(self.code, known)}")
        from jmstate import MultiStateJointModel
        from jmstate.functions.base_hazards import Weibull
        from jmstate.types import ModelParameters, PrecisionParameters

        patient = np.unique(X.patient)
        entry = X.cohort.landmarks(patient, times=["entry"]).followed(self.outcome)
        truth = entry.outcome(self.outcome)
        number, _ = X.cohort.statics(entry.patient, entry.at)
        self.middle_ = np.nanmean(number, 0)
        self.spread_ = np.where(np.nanstd(number, 0) > 0, np.nanstd(number, 0), 1.0)
        self.causes_ = X.cohort.causes(self.outcome)
        end = truth["time"] / YEAR
        paths = [
            [(0.0, FREE), *([(float(t), self.causes_[k - 1])] if k else [])]
            for t, k in zip(end, truth["event"].tolist(), strict=True)
        ]
        keys = [(FREE, cause) for cause in self.causes_]
        # at the event itself nothing is censored any more
        data = self._data(entry, np.full(len(entry), np.inf), paths, end)
        level = data.y[torch.isfinite(data.y)]
        one = torch.ones(1, dtype=torch.float64)
        effects = torch.zeros(data.x.shape[1], dtype=torch.float64)
        rate = {k: max(float((truth["event"] == i).sum() / end.sum()), 1e-4) for i, k in enumerate(keys, 1)}
        parameters = ModelParameters(
            torch.stack([level.mean(), torch.zeros((), dtype=torch.float64)]),
            PrecisionParameters.from_covariance(torch.diag(torch.tensor([0.5, 0.05], dtype=torch.float64)), "full"),
            PrecisionParameters.from_covariance(0.2 * torch.eye(1, dtype=torch.float64), "spherical"),
            {key: Weibull(1 / rate[key], 1.0, clock_type="calendar") for key in keys},
            {key: 0 * one for key in keys},
            {key: effects.clone() for key in keys},
        ).double()
        torch.manual_seed(self.seed)
        optimizer = torch.optim.Adam(parameters.parameters(), lr=0.05)
        options: dict[str, Any] = {"max_iter": self.steps, "verbose": False}
        self.model_ = MultiStateJointModel(_design(keys), parameters, optimizer, **options)
        self.model_.fit(data)
        seen = {"landmarks": len(entry), "times": 1, "patients": len(patient), "columns": 1 + data.x.shape[1]}
        self.saw_ = {self.outcome: seen}
        return self

    def _data(self, X: Landmarks, until: np.ndarray, paths: list[Any], censored: np.ndarray) -> Any:
        """Values after each patient's entry known by `until` (seconds), as jmstate wants them; years."""
        from jmstate.types import ModelData

        events = X.cohort.events[self.kind]
        code = X.cohort.codes[self.kind].index(self.code)
        entry = X.cohort.landmarks(X.patient, times=["entry"])
        first = np.zeros(len(X.cohort), np.int64)
        first[entry.patient] = entry.at
        rows = []
        for who, end, last in zip(X.patient, until, censored, strict=True):
            mine = np.arange(events.ptr[who], events.ptr[who + 1])
            mine = mine[(events.code[mine] == code) & (events.known[mine] <= end)]
            years = np.maximum(events.happened[mine] - first[who], 0) / DAY / YEAR
            value = events.value[mine].astype(np.float64)
            some = np.isfinite(value) & (value > 0) & (years <= last + 1e-9)
            rows.append((years[some], np.log(value[some])))
        most = max(1, *(len(t) for t, _ in rows))
        t, y = (np.full((len(rows), most), np.nan) for _ in range(2))
        for i, (when, value) in enumerate(rows):
            t[i, : len(when)], y[i, : len(value)] = when, value
        number, _ = X.cohort.statics(X.patient, X.at)
        x = np.nan_to_num((number - self.middle_) / self.spread_)
        of = (torch.from_numpy(np.asarray(part, np.float64)) for part in (x, t, y[:, :, None]))
        x_, t_, y_ = of
        return ModelData(x_, t_, y_, paths, torch.from_numpy(censored.astype(np.float64))[:, None])

    def forecast(self, X: Landmarks) -> dict[str, Forecast]:
        """Shares of drawn futures in which each cause has come.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.

        Returns
        -------
        dict of str to Forecast
            Of the one outcome; nan where a patient is not at risk.
        """
        at_risk = X.at_risk(self.outcome) if self.outcome in X.cohort.outcomes else np.ones(len(X), bool)
        grid = np.linspace(0, self.horizon, GRID + 1)[1:]
        curves = np.full((len(X), 1 + len(self.causes_), GRID), np.nan)
        curves[at_risk] = self._incidence(X[at_risk], grid)
        return {self.outcome: Forecast(self.outcome, self.causes_, grid, curves, X.ids, X.days, at_risk)}

    def _incidence(self, X: Landmarks, grid: np.ndarray) -> np.ndarray:
        if not len(X):
            return np.zeros((0, 1 + len(self.causes_), len(grid)))
        entry = X.cohort.landmarks(np.unique(X.patient), times=["entry"])
        first = np.zeros(len(X.cohort), np.int64)
        first[entry.patient] = entry.at
        now = np.maximum(X.at - first[X.patient], 0) / DAY / YEAR
        data = self._data(X, X.at.astype(np.float64), [[(0.0, FREE)]] * len(X), now)
        torch.manual_seed(self.seed)
        end = torch.from_numpy(now + (grid[-1] + 1) / YEAR)[:, None]
        futures = self.model_.predict_trajectories(data, end, max_length=2, n_samples=self.draws)
        count = np.zeros((len(X), 1 + len(self.causes_), len(grid)))
        for draw in futures:
            for i, path in enumerate(draw):
                if len(path) > 1:
                    when, cause = path[-1]
                    count[i, 1 + self.causes_.index(cause), (when - now[i]) * YEAR <= grid] += 1
        count /= len(futures)
        count[:, 0] = 1 - count[:, 1:].sum(1)
        return count


def _design(keys: list[tuple[str, str]]) -> Any:
    from jmstate.types import ModelDesign

    def effects(fixed: torch.Tensor, x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return fixed + b

    def line(t: torch.Tensor, each: torch.Tensor) -> torch.Tensor:
        level, slope = each.chunk(2, dim=-1)
        return (level + slope * t).unsqueeze(-1)

    return ModelDesign(effects, line, dict.fromkeys(keys, line))
