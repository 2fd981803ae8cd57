"""One tiny cohort and one model of it, made once."""

from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

QUICK = {"members": 1, "epochs": 1, "channels": 8, "batch_size": 32, "horizon": 10.0}


@pytest.fixture(scope="session")
def quick():
    """Choices of a model that is fitted in a moment."""
    return QUICK


@pytest.fixture(scope="session")
def cohort():
    from gnnpatient.testing import tiny_cohort

    return tiny_cohort()


@pytest.fixture(scope="session")
def train(cohort):
    """Asks of the first sixty patients."""
    return cohort.landmarks(np.arange(60), times=[0, 2, 4, 7]).followed()


@pytest.fixture(scope="session")
def test(cohort):
    """Asks of the others."""
    return cohort.landmarks(np.arange(60, 80), times=[1, 3]).followed()


@pytest.fixture(scope="session")
def model(train):
    from gnnpatient import PrognosisModel

    return PrognosisModel(**QUICK | {"members": 2, "epochs": 2}).fit(train)


@pytest.fixture(scope="session")
def single(cohort):
    """The same patients, with one cause: gone by whatever way."""
    from gnnpatient.cohort.survival import Survival

    death = cohort.outcomes["death"]
    return replace(cohort, outcomes={"gone": Survival(death.time, np.minimum(death.event, 1), ("gone",))})


@pytest.fixture(scope="session")
def single_model(single):
    from gnnpatient import PrognosisModel

    return PrognosisModel(**QUICK).fit(single.landmarks(np.arange(60), times=[0, 3]).followed())


@pytest.fixture
def standins(monkeypatch):
    """Families that are fitted in no time, see standin.py."""
    spec = spec_from_file_location("standin", Path(__file__).parent / "standin.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    for place in ("fit", "estimator", "checkpoint"):
        monkeypatch.setattr(f"gnnpatient.prognosis.{place}.FAMILIES", module.STANDINS)
    return module.STANDINS
