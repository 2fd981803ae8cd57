"""Write a simulated ward into a folder."""

from __future__ import annotations

import os
import warnings

import numpy as np

from gnnpatient.datasets.ward.hazards import INFORMATIVE
from gnnpatient.datasets.ward.patients import WardPatients
from gnnpatient.datasets.ward.radiograph import pillow, write_radiographs
from gnnpatient.datasets.ward.tables import (
    draw_studies,
    drugs_table,
    labs_table,
    patients_table,
    visits_table,
)
from gnnpatient.datasets.ward.truth import SimulatedTruth
from gnnpatient.errors import InputError
from gnnpatient.files import atomic_folder


def write_ward(
    folder: str | os.PathLike[str],
    n: int = 400,
    seed: int = 0,
    missing: float = 0.3,
    negative_control: bool = False,
    *,
    images: bool = True,
    truth: bool = False,
    twin: bool | None = None,
) -> SimulatedTruth:
    """Write the tables and images of a simulated ward into a folder; the same seed gives the same bytes.

    Parameters
    ----------
    folder : path
        New or empty.
    n : int, default 400
        Number of patients, 1 to 100 000.
    seed : int, default 0
        Seed of everything, >= 0.
    missing : float, default 0.3
        Share of the patients who lack a node type, for each node type; 0 to 1.
    negative_control : bool, default False
        Whether the risk depends on one node type alone, so that there is nothing to fuse.
    images : bool, default True
        Whether images are drawn. Without them pillow is not needed; images.csv and all else stay the same.
    truth : bool, default False
        Whether truth.npz is written beside the tables.
    twin : bool, optional
        The former name of `negative_control`. Deprecated.

    Returns
    -------
    SimulatedTruth
        What is hidden in the tables, and the true risks.

    Raises
    ------
    InputError
        When n, seed or missing is out of range, the folder is not empty, or images are wanted without pillow.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     truth = write_ward(folder, 20, images=False)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['drugs.csv', 'images.csv', 'labs.csv', 'notes.csv', 'patients.csv', 'visits.csv']
    >>> low, high = truth.risk(3, at_days=5.0, horizon_days=[10, 30])
    >>> bool(0 < low < high < 1)
    True
    """
    if twin is not None:
        warnings.warn("twin= is now negative_control=", DeprecationWarning, stacklevel=2)
        negative_control = twin
    if not 1 <= n <= 100_000:
        raise InputError(f"n = {n} patients; give 1 to 100000, as many as p00000 has digits for")
    if not 0 <= missing <= 1:
        raise InputError(f"missing = {missing:g}; give the share of patients who lack a node type, 0 to 1")
    if seed < 0:
        raise InputError(f"seed = {seed}; must be >= 0")
    if images:
        pillow()
    ward = WardPatients(n, seed, missing, negative_control)
    studies = draw_studies(ward)
    tables = {
        "patients.csv": patients_table(ward),
        "labs.csv": labs_table(ward),
        "visits.csv": visits_table(ward),
        "drugs.csv": drugs_table(ward),
        "images.csv": studies.images,
        "notes.csv": studies.notes,
    }
    hidden = _truth(ward)
    with atomic_folder(folder) as part:
        for name, frame in tables.items():
            frame.write_csv(part / name, datetime_format="%Y-%m-%dT%H:%M:%S")
        if images:
            (part / "images").mkdir()
            write_radiographs(ward, studies, part / "images")
        if truth:
            hidden.save(part / "truth.npz")
    return hidden


def _truth(ward: WardPatients) -> SimulatedTruth:
    return SimulatedTruth(
        negative_control=ward.negative_control,
        ids=ward.ids,
        age=ward.age,
        growth=ward.growth,
        high=ward.high,
        finding=ward.finding,
        drug=ward.drug,
        end=ward.end,
        event=ward.event,
        informative_from=np.stack([ward.informative_from[name] for name in INFORMATIVE], axis=1),
    )
