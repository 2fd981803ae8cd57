"""PBC by scikit-survival and by hand, against ours. `make_pbc.py` makes the numbers."""

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from gnnpatient.datasets.shipped import DATA, pbc
from gnnpatient.metrics import aalen_johansen
from gnnpatient.prognosis.targets import SurvivalTarget
from gnnpatient.times import YEAR

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "pbc.json").read_text())


def test_the_data_are_those_of_the_numbers():
    assert GOLDEN["data"].endswith(sha256((DATA / "pbc" / "pbcseq.csv").read_bytes()).hexdigest())


def test_counts():
    cohort, counts = pbc(), GOLDEN["counts"]
    death = cohort.outcomes["death"]
    assert death.causes == ("transplant", "death")
    assert counts == {
        "patients": len(cohort),
        "visits": len(cohort.events["timepoint"]),
        "transplant": int((death.event == 1).sum()),
        "death": int((death.event == 2).sum()),
        "rows": {kind: len(cohort.events[kind]) for kind in cohort.spec.nodes},
    }
    assert (len(cohort), counts["visits"], counts["death"], counts["transplant"]) == (312, 1945, 140, 29)


def test_incidence():
    truth = pbc().at(0).outcome("death")
    times = np.array(GOLDEN["years"]) * YEAR
    ours = aalen_johansen(truth["time"], truth["event"].astype(int), times, causes=2)
    golden = np.array([GOLDEN["transplant"], GOLDEN["death"]])
    assert ours[1:] == pytest.approx(golden, abs=1e-12)
    assert ours[0] == pytest.approx(1 - golden.sum(0), abs=1e-12)
    target = SurvivalTarget(("transplant", "death"), truth["event"].astype(np.int64), truth["time"])
    assert target.marginal(np.zeros(312), tuple(times)) == pytest.approx(ours)


@pytest.mark.slow
def test_the_script_makes_the_file():
    run = subprocess.run([sys.executable, HERE / "make_pbc.py"], capture_output=True, text=True, check=True)
    made = json.loads(run.stdout)
    for cause in ("transplant", "death"):
        assert made.pop(cause) == pytest.approx(GOLDEN[cause], abs=1e-12)
    kept = {key: value for key, value in GOLDEN.items() if key not in ("transplant", "death", "package")}
    assert {key: value for key, value in made.items() if key != "package"} == kept
