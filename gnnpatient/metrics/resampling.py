"""Intervals by drawing patients with replacement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped


def bootstrap(
    statistic: Callable[[Int[np.ndarray, " row"]], Any],
    patient: Shaped[np.ndarray, " row"],
    *,
    n: int = 200,
    seed: int = 0,
) -> Float[np.ndarray, "{n} ..."]:
    """`statistic` of n draws of patients with replacement; it is given how often each row was drawn.

    A patient comes or stays away with all rows and folds; so does a group where its numbers are given as
    `patient`: what is drawn is what splits do not part. Fitted models are held fixed, so the spread leaves
    out what another training set would change.

    >>> bootstrap(lambda weight: weight.sum(), np.array(["a", "b", "c"]), n=3)
    array([3., 3., 3.])
    """
    ids, owner = np.unique(patient, return_inverse=True)
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(ids), size=len(ids)) for _ in range(n))
    return np.array(
        [statistic(np.bincount(drawn, minlength=len(ids))[owner]) for drawn in draws], dtype=float
    )


def interval(draws: Float[np.ndarray, "draw ..."], level: float = 0.95) -> tuple[Any, Any]:
    """Percentile interval of the draws that gave a number (not nan); nan where fewer than half did."""
    some = np.isfinite(draws).sum(axis=0) * 2 >= max(len(draws), 1)
    low, high = np.nanquantile(np.where(some, draws, 0.0), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.where(some, low, np.nan)[()], np.where(some, high, np.nan)[()]
