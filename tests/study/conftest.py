"""PBC, and forecasts of it that are known to be perfect, worthless, or the same for everybody."""

from dataclasses import dataclass

import numpy as np
import polars as pl
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


SPEC = {
    "cohort": "made up",
    "patient": {"table": "patients.csv", "key": "pid", "number": ["age"], "category": ["sex", "drug"]},
    "outcomes": {
        "death": {
            "kind": "survival",
            "table": "patients.csv",
            "causes": {"death": {"time": "day", "flag": "died"}},
        }
    },
}


class Knows:
    """The true risk of everybody, but for what is planted."""

    def __init__(self, times, hazard):
        self.times, self.hazard = times, hazard

    def forecast(self, X):
        risk = 1 - np.exp(-self.hazard[X.patient][:, None] * self.times)
        from gnnpatient.prognosis.forecast import Forecast

        return {"death": Forecast.from_array(risk, self.times, "death", X)}


def _made(patients=500, seed=0, sites=0, plant=lambda hazard, sex, rng: hazard, days=(0.0,), times=(300.0,)):
    """Patients with a known hazard, and the forecasts of one who knows it but for `plant`."""
    rng = np.random.default_rng(seed)
    hazard = np.exp(rng.normal(np.log(0.004), 1.0, patients))
    end, death = rng.uniform(200, 900, patients), rng.exponential(1 / hazard)
    sex = rng.choice(["f", "m"], patients, p=[0.6, 0.4])
    frame = pl.DataFrame(
        {
            "pid": [f"p{i:04d}" for i in range(patients)],
            "age": rng.normal(60, 9, patients).round(1),
            "sex": sex,
            "drug": np.where(np.arange(patients) < 15, "rare", "usual"),
            "site": rng.choice([f"s{i}" for i in range(sites)], patients) if sites else [""] * patients,
            "day": np.minimum(end, death).round(3) + 0.01,
            "died": (death <= end).astype(int),
        }
    )
    spec = {**SPEC, "patient": SPEC["patient"] | {"group": "site"}} if sites else SPEC
    from gnnpatient import read_cohort, read_spec
    from gnnpatient.study.scoreboard import ModelRisks

    cohort = read_cohort(read_spec(spec), {"patients.csv": frame})
    X = cohort.landmarks(times=list(days)).followed("death")
    times = np.array(times)
    models = {"gnn": Knows(times, plant(hazard, sex, rng)), "cox": Knows(times, hazard)}
    return ModelRisks.of([(models, X)], "death", times)


@pytest.fixture(scope="session")
def planted():
    """Make patients with a known hazard, and what is forecast for them up to 300 days."""
    return _made
