"""The true risk as a model among others: how far a fitted one is from what could be known at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.prognosis.forecast import Forecast

Risk = Callable[[np.ndarray, np.ndarray, float, str], np.ndarray]


@dataclass(frozen=True, eq=False)
class Oracle:
    """Forecasts from a known truth, as `gnnpatient.datasets.ward.SimulatedTruth.risk` gives it.

    risk(position, at in days, horizon in days, cause): the true chance of the cause within the horizon for
    those at risk at `at`, (ask,) float64; positions are those of the cohort.
    """

    outcome: str
    causes: tuple[str, ...]
    times: np.ndarray  # (time,) days after the ask
    risk: Risk

    def forecast(self, X: Landmarks) -> dict[str, Forecast]:
        at_risk = X.at_risk(self.outcome)
        table = np.full((len(X), 1 + len(self.causes), len(self.times)), np.nan)
        for k, cause in enumerate(self.causes, 1):
            for i, time in enumerate(self.times.tolist()):
                table[at_risk, k, i] = self.risk(X.patient[at_risk], X.days[at_risk], time, cause)
        table[:, 0] = 1 - table[:, 1:].sum(1)
        return {self.outcome: Forecast(self.outcome, self.causes, self.times, table, X.ids, X.days, at_risk)}
