"""Folds of a cohort: made, or read from files with columns repeat, fold, id.

The model of a fold is fitted on the other folds of its repeat and scored on the fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.cohort.splits import PatientKFold, StratifiedPatientKFold
from gnnpatient.errors import InputError
from gnnpatient.ingest.cells import ids
from gnnpatient.readers.tables import read_table


@dataclass(frozen=True, eq=False)
class Fold:
    """One split of the patients, as positions in the cohort.

    Attributes
    ----------
    repeat, fold : int
        As the file has them.
    train, test : (patient,) int64 array
        Sorted positions in the cohort.
    dtype : polars data type
        Of the file's id column.
    """

    repeat: int
    fold: int
    train: np.ndarray  # (patient,) int64
    test: np.ndarray  # (patient,) int64
    dtype: Any  # polars dtype of the file's id column

    def ids(self, landmarks: Landmarks) -> pl.Series:
        """The patients' ids in the type of the fold file.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times.

        Returns
        -------
        polars.Series
            One id a landmark.
        """
        return pl.Series(landmarks.ids.astype(str)).cast(self.dtype)


def read_folds(path: str | Path, cohort: Cohort, repeats: int | None = None) -> list[Fold]:
    """Read the splits of a file.

    Parameters
    ----------
    path : str or Path
        A .csv or .parquet file with columns repeat, fold, id.
    cohort : Cohort
        Whose patients the ids name.
    repeats : int, optional
        Read the first repeats only.

    Returns
    -------
    list of Fold
        By repeat, then by fold.

    Raises
    ------
    InputError
        When a column is missing or a cell is empty, a patient is in two folds of a repeat, or an id is not in
        the cohort.
    """
    path = Path(path)
    table = read_table(path.parent, path.name).lazy().collect()
    if missing := {"repeat", "fold", "id"} - set(table.columns):
        raise InputError(f"{path}: no column {sorted(missing)[0]!r}; a fold file has repeat, fold, id")
    dtype = table["id"].dtype
    table = table.select(pl.col("repeat", "fold").cast(pl.Int64, strict=False), id=ids(table["id"]))
    if table.null_count().row(0) != (0,) * table.width:
        raise InputError(f"{path}: empty cells, or repeat or fold is not a whole number")
    table = table.unique(["repeat", "fold", "id"], maintain_order=True)
    both = int(table.select(pl.struct("repeat", "id").is_duplicated()).to_series().sum())
    if both:
        people = table.filter(pl.struct("repeat", "id").is_duplicated())["id"].n_unique()
        raise InputError(
            f"{path}: {people} patient(s) in more than one fold of a repeat, so in training and in test"
        )
    folds = []
    for repeat in sorted(table["repeat"].unique())[:repeats]:
        part = table.filter(repeat=repeat)
        try:
            position = cohort.positions(part["id"].to_numpy().astype(str))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        fold = part["fold"].to_numpy()
        for one in sorted(part["fold"].unique()):
            folds.append(
                Fold(repeat, one, np.sort(position[fold != one]), np.sort(position[fold == one]), dtype)
            )
    return folds


def make_folds(cohort: Cohort, outcome: str, count: int, seed: int = 0) -> list[Fold]:
    """Split all patients, whole groups together, with each event or label spread evenly.

    Parameters
    ----------
    cohort : Cohort
    outcome : str
        Whose events or labels are spread.
    count : int
        Number of folds.
    seed : int, default 0

    Returns
    -------
    list of Fold

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> [len(fold.test) for fold in make_folds(pbc(), "death", 3)]
    [104, 104, 104]
    """
    everybody = Landmarks(cohort, np.arange(len(cohort)), np.where(cohort.enters, cohort.entry, 0))
    spread = StratifiedPatientKFold(count, seed=seed, outcome=outcome)
    has_none = cohort.outcomes[outcome].strata is None  # of a value
    split = (PatientKFold(count, seed=seed) if has_none else spread).split(everybody)
    return [Fold(0, i, train, test, pl.String) for i, (train, test) in enumerate(split)]


def check_folds(cohort: Cohort, folds: Sequence[Fold]) -> None:
    """Refuse folds with an empty side, or with a group on both sides.

    Parameters
    ----------
    cohort : Cohort
        Whose patients are split.
    folds : sequence of Fold

    Raises
    ------
    InputError
        When there is no fold, a side is empty, or a group is on both sides.
    """
    if not folds:
        raise InputError(
            "no fold to compare on; give a fold file with repeat, fold, id, or a number of folds"
        )
    for fold in folds:
        if not (len(fold.train) and len(fold.test)):
            raise InputError(
                f"fold {fold.fold} of repeat {fold.repeat}: one side is empty; give at least two folds"
            )
        both = np.intersect1d(cohort.groups[fold.train], cohort.groups[fold.test])
        if len(both):
            raise InputError(
                f"fold {fold.fold} of repeat {fold.repeat}: {len(both)} group(s) on both sides; split by "
                "group"
            )
