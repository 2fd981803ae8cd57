"""The true risk of simulated patients as one model among others: the most that could be known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.prognosis.forecast import Forecast

Risk = Callable[[np.ndarray, np.ndarray, float, str], np.ndarray]


@dataclass(frozen=True, eq=False)
class Oracle:
    """Forecasts from the known risk of a simulated cohort.

    Attributes
    ----------
    outcome : str
        Name of the survival outcome.
    causes : tuple of str
        Its causes.
    times : (time,) float64 array
        Days after the landmark.
    risk : callable
        (position, day, horizon, cause) -> (landmark,) float64: the true probability of the cause within the
        horizon for patients at risk on that day. The position is that in the cohort; day and horizon are in
        days; the truth of `gnnpatient.datasets.ward` has such a method.
    """

    outcome: str
    causes: tuple[str, ...]
    times: np.ndarray  # (time,) float64
    risk: Risk

    def forecast(self, X: Landmarks) -> dict[str, Forecast]:
        """The true cumulative incidence.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.

        Returns
        -------
        dict of str to Forecast
            Of the one outcome; nan where a patient is not at risk.
        """
        at_risk = X.at_risk(self.outcome)
        table = np.full((len(X), 1 + len(self.causes), len(self.times)), np.nan)
        for k, cause in enumerate(self.causes, 1):
            for i, time in enumerate(self.times.tolist()):
                table[at_risk, k, i] = self.risk(X.patient[at_risk], X.days[at_risk], time, cause)
        table[:, 0] = 1 - table[:, 1:].sum(1)
        return {self.outcome: Forecast(self.outcome, self.causes, self.times, table, X.ids, X.days, at_risk)}
