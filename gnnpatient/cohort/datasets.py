"""Cohorts that come with the package, through the same road as any user's tables."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from gnnpatient.cohort.cohort import Cohort, read_cohort
from gnnpatient.cohort.spec import read_spec

DATA = Path(__file__).parent.parent / "data"


@cache
def pbc() -> Cohort:
    """Mayo Clinic primary biliary cirrhosis: 312 patients, 1 945 visits, 140 deaths, 29 transplants."""
    return read_cohort(read_spec("pbc"), DATA / "pbc")
