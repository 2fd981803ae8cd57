"""A tiny cohort for tests of models, explainers and evaluations: seeded, made in a moment, no download.

It has what real cohorts have and what breaks code: two times a row, units, long and wide tables, missing
statics, node types that a third of the patients lack, patients without a single row, ties, competing causes.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

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
    """Write the tables and `ward.toml` of a small ward.

    Lactate drives death, its absence discharge: log daily hazards are -4 + lactate and -2.5 - lactate, where
    lactate is that patient's level in standard units. Patients enter at day 0; follow-up ends by day 30.

    Parameters
    ----------
    folder : path
        A folder that exists.
    patients : int, default 80
        Number of patients; the last one has no rows.
    seed : int, default 0
        The same seed gives the same bytes.

    Returns
    -------
    Path
        The TOML.
    """
    folder, rng = Path(folder), np.random.default_rng(seed)
    level = rng.normal(size=patients)  # of lactate, and of risk
    table, left = _patients(rng, level)
    tables = {"patients.csv": table}
    tables["labs.csv"] = _labs(rng, left, level)  # in this order: all draw from one stream
    tables["vitals.csv"] = _vitals(rng, left)
    tables["drugs.csv"] = _drugs(rng, left)
    for name, frame in tables.items():
        frame.write_csv(folder / name)
    (folder / "ward.toml").write_text(TINY.lstrip(), encoding="utf-8")
    return folder / "ward.toml"


def tiny_cohort(patients: int = 80, seed: int = 0) -> Cohort:
    """The cohort of `write_ward`, read.

    Parameters
    ----------
    patients : int, default 80
        Number of patients; the last one has no rows.
    seed : int, default 0
        The same seed gives the same cohort.

    Returns
    -------
    Cohort
        A new object each time.

    Examples
    --------
    >>> tiny_cohort().outcomes["death"].causes
    ('discharge', 'death')
    """
    with TemporaryDirectory() as folder:
        return read_cohort(write_ward(folder, patients, seed), folder)


def _patients(rng: np.random.Generator, level: np.ndarray) -> tuple[pl.DataFrame, np.ndarray]:
    """patients.csv, and the day on which each patient leaves."""
    n = len(level)
    death = rng.exponential(np.exp(4 - level))
    discharge = rng.exponential(np.exp(2.5 + level))
    end = rng.uniform(5, 30, n)
    left = np.minimum.reduce([death, discharge, end]).round(2) + 0.01
    missing = rng.random((n, 2)) < 0.1
    age, sex = rng.normal(60, 15, n).round(1), rng.choice(["female", "male"], n)
    frame = pl.DataFrame(
        {
            "pid": _ids(np.arange(n)),
            "age": np.where(missing[:, 0], "", age.astype(str)),
            "sex": np.where(missing[:, 1], "", sex),
            "site": rng.choice(["", "north", "south", "east"], n, p=[0.7, 0.1, 0.1, 0.1]),
            "left": left,
            "died": (death <= np.minimum(discharge, end)).astype(int),
            "discharged": (discharge < np.minimum(death, end)).astype(int),
        }
    )
    return frame, left


def _rows(rng: np.random.Generator, left: np.ndarray, mean: int) -> tuple[np.ndarray, np.ndarray]:
    """Owner and day of the rows of a node type; a third of the patients lack it, the last one has none."""
    n = len(left)
    count = rng.poisson(mean, n) * (rng.random(n) > 0.3) * (np.arange(n) < n - 1)
    owner = np.repeat(np.arange(n), count)
    return owner, (rng.random(len(owner)) * left[owner] * 8).astype(int) / 8  # eighths of a day: ties


def _labs(rng: np.random.Generator, left: np.ndarray, level: np.ndarray) -> pl.DataFrame:
    """labs.csv: two times a row, empty results, and glucose in two units."""
    owner, day = _rows(rng, left, 10)
    analyte = rng.choice(["lactate", "glucose", "sodium"], len(owner))
    molar = (analyte == "glucose") & (rng.random(len(owner)) < 0.3)
    noise = rng.normal(0, 0.3, len(owner))
    kinds = [analyte == "lactate", molar, analyte == "glucose"]
    result = np.select(kinds, [2 + level[owner] + noise, 6 + noise, 108 + 18 * noise], 140 + 5 * noise)
    return pl.DataFrame(
        {
            "pid": _ids(owner),
            "drawn": day,
            "resulted": day + rng.choice([0.0, 0.125, 1.5], len(owner)),
            "analyte": analyte,
            "result": np.where(rng.random(len(owner)) < 0.05, "", result.round(2).astype(str)),
            "unit": np.select(kinds, ["mmol/L", "mmol/L", "mg/dL"], "mEq/L"),
        }
    )


def _vitals(rng: np.random.Generator, left: np.ndarray) -> pl.DataFrame:
    """vitals.csv: a wide table with empty cells."""
    owner, day = _rows(rng, left, 6)
    pulse, temperature = rng.normal(80, 10, len(owner)).round(), rng.normal(37, 0.5, len(owner)).round(1)
    return pl.DataFrame(
        {
            "pid": _ids(owner),
            "day": day,
            "pulse": np.where(rng.random(len(owner)) < 0.1, "", pulse.astype(str)),
            "temperature": np.where(rng.random(len(owner)) < 0.3, "", temperature.astype(str)),
        }
    )


def _drugs(rng: np.random.Generator, left: np.ndarray) -> pl.DataFrame:
    """drugs.csv: codes without values."""
    owner, day = _rows(rng, left, 4)
    drug = rng.choice(["heparin", "insulin", "cefazolin"], len(owner))
    return pl.DataFrame({"pid": _ids(owner), "given": day, "drug": drug})


def _ids(patient: np.ndarray) -> np.ndarray:
    return np.array([f"p{i:03d}" for i in patient], dtype=np.str_)
