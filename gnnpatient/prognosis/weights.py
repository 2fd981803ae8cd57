"""What each landmark counts in a fit, by the group of its patient."""

from __future__ import annotations

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.errors import InputError, near


def group_weights(X: Landmarks, column: str, least: int = 1) -> np.ndarray:
    """Give each landmark the weight of its patient's group, so that small groups count as much as large ones.

    Of a category, or of "group" (or the name of the column that splits keep together), the weight is one over
    the number of training patients in the group, and who lacks it is a group; a number is the weight itself.

    Parameters
    ----------
    X : Landmarks
        The training landmarks.
    column : str
        A baseline covariate, as known at the landmark, or "group".
    least : int, default 1
        A group of fewer patients has the weight of one of so many.

    Returns
    -------
    ndarray
        (landmark,) float64, above 0, with a mean of one over landmarks.

    Raises
    ------
    InputError
        When there is no such column, or a number is missing or not above 0.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> X = pbc().at(0)                                             # 276 women, 36 men
    >>> np.unique(group_weights(X, "sex").round(2))
    array([0.57, 4.33])
    """
    patient = X.cohort.spec.patient
    number, category = X.cohort.statics(X.patient, X.at)
    if column in patient.number:
        weight = number[:, patient.number.index(column)].astype(np.float64)
        if not (np.isfinite(weight) & (weight > 0)).all():
            bad = int((~(np.isfinite(weight) & (weight > 0))).sum())
            raise InputError(f"weights = {column!r}: missing, or not above 0, at {bad} of {len(X)} landmarks")
    elif column in patient.category:
        weight = _inverse(category[:, patient.category.index(column)], X.patient, least)
    elif column == "group" or column == patient.group:
        if X.cohort.group is None:
            raise InputError(
                "weights = 'group': the spec has no [patient] group; add it, or name a covariate"
            )
        weight = _inverse(X.groups, X.patient, least)
    else:
        known = (*patient.category, *patient.number, "group")
        raise InputError(f"weights: unknown column {column!r}{near(column, known)}")
    return weight / weight.mean()


def _inverse(level: np.ndarray, patient: np.ndarray, least: int) -> np.ndarray:
    """One over the patients that have a level at some landmark."""
    _, group = np.unique(level, return_inverse=True)
    pairs = np.unique(np.stack([group, patient]), axis=1)
    counts = np.bincount(pairs[0])
    return 1 / np.maximum(counts, least)[group].astype(np.float64)
