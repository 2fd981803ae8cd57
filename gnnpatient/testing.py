"""A tiny cohort for tests of models, explainers and evaluations: seeded, made in a moment, no download.

It has what real cohorts have and what breaks code: two times a row, units, long and wide tables, missing
statics, kinds that a third of the patients lack, patients without a single row, ties, and competing causes.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from gnnpatient.cohort.cohort import Cohort
from gnnpatient.ingest.read import read_cohort

TINY = """
cohort = "tiny"
source = "made by gnnpatient.testing"

[patient]
table = "patients.csv"
key = "pid"
number = ["age"]
category = ["sex"]
group = "site"

[timepoints]
every = "1d"

[units]
glucose = { to = "mg/dL", from = { "mmol/L" = 18.0 }, range = [1, 2000] }

[nodes.lab]
table = "labs.csv"
time = "drawn"
known = "resulted"
code = "analyte"
value = "result"
unit = "unit"
edges = ["at", "same"]

[nodes.vital]
table = "vitals.csv"
time = "day"
columns = { pulse = "1/min", temperature = "C" }
edges = ["at", "next"]

[nodes.drug]
table = "drugs.csv"
time = "given"
code = "drug"
edges = ["at", "next", "same"]

[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { discharge = { time = "left", flag = "discharged" }, death = { time = "left", flag = "died" } }
"""


def write_ward(folder: str | Path, patients: int = 80, seed: int = 0) -> Path:
    """Write the tables and `ward.toml` of a small ward into a folder that exists; returns the TOML's path.

    Lactate drives death, its absence discharge: log daily hazards are -4 + lactate and -2.5 - lactate, where
    lactate is that patient's level in standard units. Patients enter at day 0; follow-up ends by day 30.
    """
    import polars as pl

    folder, rng = Path(folder), np.random.default_rng(seed)
    pid = np.array([f"p{i:03d}" for i in range(patients)])
    level = rng.normal(size=patients)  # of lactate, and of risk
    death = rng.exponential(np.exp(4 - level))
    leave = rng.exponential(np.exp(2.5 + level))
    end = rng.uniform(5, 30, patients)
    left = np.minimum.reduce([death, leave, end]).round(2) + 0.01
    missing = rng.random((patients, 2)) < 0.1
    age, sex = rng.normal(60, 15, patients).round(1), rng.choice(["female", "male"], patients)
    pl.DataFrame(
        {
            "pid": pid,
            "age": np.where(missing[:, 0], "", age.astype(str)),
            "sex": np.where(missing[:, 1], "", sex),
            "site": rng.choice(["", "north", "south", "east"], patients, p=[0.7, 0.1, 0.1, 0.1]),
            "left": left,
            "died": (death <= np.minimum(leave, end)).astype(int),
            "discharged": (leave < np.minimum(death, end)).astype(int),
        }
    ).write_csv(folder / "patients.csv")

    def rows(mean: int) -> tuple[np.ndarray, np.ndarray]:
        """Owner and day of the rows of a kind; a third of the patients lack it, the last one has none."""
        count = (
            rng.poisson(mean, patients) * (rng.random(patients) > 0.3) * (np.arange(patients) < patients - 1)
        )
        owner = np.repeat(np.arange(patients), count)
        return owner, (rng.random(len(owner)) * left[owner] * 8).astype(int) / 8  # eighths of a day: ties

    owner, day = rows(10)
    analyte = rng.choice(["lactate", "glucose", "sodium"], len(owner))
    molar = (analyte == "glucose") & (rng.random(len(owner)) < 0.3)
    noise = rng.normal(0, 0.3, len(owner))
    result = np.select(
        [analyte == "lactate", molar, analyte == "glucose"],
        [2 + level[owner] + noise, 6 + noise, 108 + 18 * noise],
        140 + 5 * noise,
    ).round(2)
    pl.DataFrame(
        {
            "pid": pid[owner],
            "drawn": day,
            "resulted": day + rng.choice([0.0, 0.125, 1.5], len(owner)),
            "analyte": analyte,
            "result": np.where(rng.random(len(owner)) < 0.05, "", result.astype(str)),
            "unit": np.select(
                [analyte == "lactate", molar, analyte == "glucose"], ["mmol/L", "mmol/L", "mg/dL"], "mEq/L"
            ),
        }
    ).write_csv(folder / "labs.csv")

    owner, day = rows(6)
    pulse, temperature = rng.normal(80, 10, len(owner)).round(), rng.normal(37, 0.5, len(owner)).round(1)
    pl.DataFrame(
        {
            "pid": pid[owner],
            "day": day,
            "pulse": np.where(rng.random(len(owner)) < 0.1, "", pulse.astype(str)),
            "temperature": np.where(rng.random(len(owner)) < 0.3, "", temperature.astype(str)),
        }
    ).write_csv(folder / "vitals.csv")

    owner, day = rows(4)
    drug = rng.choice(["heparin", "insulin", "cefazolin"], len(owner))
    pl.DataFrame({"pid": pid[owner], "given": day, "drug": drug}).write_csv(folder / "drugs.csv")
    (folder / "ward.toml").write_text(TINY.lstrip(), encoding="utf-8")
    return folder / "ward.toml"


def tiny_cohort(patients: int = 80, seed: int = 0) -> Cohort:
    """The same cohort in memory.

    >>> tiny_cohort().outcomes["death"].causes
    ('discharge', 'death')
    """
    with TemporaryDirectory() as folder:
        return read_cohort(write_ward(folder, patients, seed), folder)
