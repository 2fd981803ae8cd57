"""Cohorts that come with the package, through the same road as any user's tables."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from gnnpatient.cohort.cohort import Cohort
from gnnpatient.ingest.read import read_cohort
from gnnpatient.spec.graph import read_spec

DATA = Path(__file__).parent.parent / "data"


@cache
def pbc() -> Cohort:
    """Mayo Clinic primary biliary cirrhosis: 312 patients, 1 945 visits, 140 deaths, 29 transplants.

    Returns
    -------
    Cohort
        Read once; every later call gives the same object.

    Examples
    --------
    >>> len(pbc().ids)
    312
    """
    return read_cohort(read_spec("pbc"), DATA / "pbc")


def ward(
    n: int = 400,
    seed: int = 0,
    missing: float = 0.3,
    negative_control: bool = False,
    *,
    cache: str | Path | None = None,
    twin: bool | None = None,
) -> Cohort:
    """A simulated ward with images, reports, laboratory values and drugs, whose true risks are known.

    `gnnpatient.datasets.ward.write_ward` with the same arguments writes its tables and gives the truth.

    Parameters
    ----------
    n : int, default 400
        Number of patients.
    seed : int, default 0
        Seed of everything, >= 0.
    missing : float, default 0.3
        Share of the patients who lack a node type, 0 to 1.
    negative_control : bool, default False
        Whether the risk depends on one node type alone, so that there is nothing to fuse.
    cache : path, optional
        A folder that keeps the embeddings; without it they are made again each time.
    twin : bool, optional
        The former name of `negative_control`. Deprecated.

    Returns
    -------
    Cohort
        The cohort, with its embeddings.
    """
    from gnnpatient.datasets.ward import write_ward

    if twin is not None:
        warnings.warn("twin= is now negative_control=", DeprecationWarning, stacklevel=2)
        negative_control = twin
    with TemporaryDirectory() as folder:
        write_ward(Path(folder) / "data", n, seed, missing, negative_control)
        return read_cohort(read_spec("ward"), Path(folder) / "data", cache=cache)


def clinic(n: int = 1000, seed: int = 0) -> Cohort:
    """Simulated outpatients with a level that drifts, whose true values and risks are known.

    `gnnpatient.datasets.clinic.write_clinic` with the same arguments writes its tables and gives the truth.

    Parameters
    ----------
    n : int, default 1000
        Number of patients.
    seed : int, default 0
        Seed of everything, >= 0.

    Returns
    -------
    Cohort

    Examples
    --------
    >>> X = clinic(50).at("1y", to="2y").followed("level")
    >>> X.outcome("level")["value"][:3].round(1)          # nan: not seen within 90 days of the time
    array([46.5, 67.4, 35.9])
    """
    from gnnpatient.datasets.clinic import write_clinic

    with TemporaryDirectory() as folder:
        write_clinic(Path(folder) / "data", n, seed)
        return read_cohort(read_spec("clinic"), Path(folder) / "data")
