"""Cohorts that come with the package, through the same road as any user's tables."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from gnnpatient.cohort.cohort import Cohort
from gnnpatient.ingest.read import read_cohort
from gnnpatient.spec.graph import read_spec

DATA = Path(__file__).parent.parent / "data"


@cache
def pbc() -> Cohort:
    """Mayo Clinic primary biliary cirrhosis: 312 patients, 1 945 visits, 140 deaths, 29 transplants."""
    return read_cohort(read_spec("pbc"), DATA / "pbc")


def ward(
    n: int = 400, seed: int = 0, missing: float = 0.3, twin: bool = False, *, cache: str | Path | None = None
) -> Cohort:
    """A made-up ward with pictures, reports, laboratory values and drugs, whose true risks are known.

    `gnnpatient.datasets.ward.write_ward` with the same arguments writes its tables and gives the truth.
    cache: a folder that keeps the embeddings.
    """
    from gnnpatient.datasets.ward import write_ward

    with TemporaryDirectory() as folder:
        write_ward(Path(folder) / "data", n=n, seed=seed, missing=missing, twin=twin)
        return read_cohort(read_spec("ward"), Path(folder) / "data", cache=cache)
