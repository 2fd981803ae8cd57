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
    """A statistic of draws of patients with replacement.

    A patient is drawn or left out with all rows and folds. To draw what splits keep together, give the group
    of each row as `patient`. Fitted models stay as they are, so the spread leaves out what another training
    set would change.

    Parameters
    ----------
    statistic : callable
        From how often each row was drawn, (row,) int, to a number or an array.
    patient : (row,)
        Which patient (or group) each row is of.
    n : int, default 200
        How many draws.
    seed : int, default 0
        The same seed gives the same draws.

    Returns
    -------
    (n, ...) float

    References
    ----------
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13.

    Examples
    --------
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
    """Percentile interval of draws.

    Parameters
    ----------
    draws : (draw, ...) float
        From `bootstrap`; nan and infinity are left out.
    level : float, default 0.95
        Share of the draws inside.

    Returns
    -------
    low, high : float or array
        nan where fewer than half of the draws are finite.

    Examples
    --------
    >>> low, high = interval(np.arange(101.0), level=0.9)
    >>> round(float(low), 6), round(float(high), 6)
    (5.0, 95.0)
    """
    some = np.isfinite(draws).sum(axis=0) * 2 >= max(len(draws), 1)
    low, high = np.nanquantile(np.where(some, draws, 0.0), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.where(some, low, np.nan)[()], np.where(some, high, np.nan)[()]
