"""PBC, and forecasts of it that are known to be perfect, worthless, or the same for everybody."""

from dataclasses import dataclass

import numpy as np
import pytest

YEAR = 365.25
TIMES = np.arange(0.5, 5.01, 0.5) * YEAR


@pytest.fixture(scope="session")
def pbc():
    from gnnpatient.datasets.shipped import pbc

    return pbc()


@pytest.fixture(scope="session")
def times():
    return TIMES


@dataclass(eq=False)
class Says:
    """A model whose risk of the k-th cause by each time is `risk(X, k)`: (ask, time) or (ask, 1)."""

    risk: object

    def forecast(self, X):
        from gnnpatient.prognosis.forecast import Forecast

        causes = X.cohort.outcomes["death"].causes
        curves = [np.broadcast_to(self.risk(X, k), (len(X), len(TIMES))) for k in range(1, 1 + len(causes))]
        incidence = np.stack([1 - np.sum(curves, 0), *curves], 1)
        return {"death": Forecast("death", causes, TIMES, incidence, X.ids, X.days, np.ones(len(X), bool))}


@pytest.fixture(scope="session")
def says():
    return Says


@pytest.fixture(scope="session")
def null(pbc):
    """The null of all patients at one and three years."""
    from gnnpatient.metrics import aalen_johansen
    from gnnpatient.study.baselines import MarginalModel

    truth = pbc.landmarks(times=[YEAR]).followed().outcome("death")
    table = aalen_johansen(truth["time"], truth["event"].astype(int), TIMES, causes=2)
    return MarginalModel("death", ("transplant", "death"), TIMES, table)
