"""One verdict over several cohorts: a random-effects meta-analysis of paired differences.

References
----------
DerSimonian R, Laird N (1986). Control Clin Trials 7:177-188 (random effects).
Viechtbauer W (2005). J Educ Behav Stat 30:261-293 (restricted maximum likelihood).
Hartung J, Knapp G (2001). Stat Med 20:3875-3889 (the interval of the mean).
Higgins JPT, Thompson SG, Spiegelhalter DJ (2009). J R Stat Soc A 172:137-159 (prediction interval).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import t as student

from gnnpatient.errors import InputError

LEVEL = 0.95
MIN_COHORTS = 6  # fewer describe, they decide nothing (METHODS 18)


@dataclass(frozen=True)
class Pooled:
    """The mean of a difference over cohorts.

    Attributes
    ----------
    mean, low, high : float
        Mean over cohorts, and its 95 % interval (Hartung-Knapp).
    p : float
        That the mean is 0, two-sided.
    tau2 : float
        Variance between cohorts (restricted maximum likelihood).
    prediction : tuple of float, or None
        Where the difference of one more such cohort lies, 95 %; None of two cohorts.
    cohorts : int
        How many.
    """

    mean: float
    low: float
    high: float
    p: float
    tau2: float
    prediction: tuple[float, float] | None
    cohorts: int

    @property
    def descriptive(self) -> bool:
        """Whether there are too few cohorts to decide anything."""
        return self.cohorts < MIN_COHORTS

    def to_dict(self) -> dict[str, object]:
        """For JSON.

        Returns
        -------
        dict
        """
        return {**asdict(self), "descriptive": self.descriptive}


def pool(difference: Sequence[float], variance: Sequence[float]) -> Pooled:
    """Pool one difference a cohort with random effects.

    Parameters
    ----------
    difference : sequence of float
        One a cohort; outcomes of the same people are one cohort.
    variance : sequence of float
        Its squared standard error.

    Returns
    -------
    Pooled

    Raises
    ------
    InputError
        When there are fewer than two cohorts, or a number is not finite or a variance not above 0.

    Examples
    --------
    >>> found = pool([0.01, 0.03, 0.02], [1e-5, 1e-5, 1e-5])
    >>> round(found.mean, 3), round(found.tau2, 7)
    (0.02, 9e-05)
    """
    y, v = np.asarray(difference, np.float64), np.asarray(variance, np.float64)
    if y.shape != v.shape or y.ndim != 1 or len(y) < 2:
        raise InputError(f"{len(y)} differences, {len(v)} variances; give one of each of two or more cohorts")
    if not (np.isfinite(y).all() and np.isfinite(v).all() and (v > 0).all()):
        raise InputError("a difference is not finite, or a variance not above 0; leave that cohort out")
    tau2 = between(y, v)
    weight = 1 / (v + tau2)
    mean = float(weight @ y / weight.sum())
    spread = float(np.sqrt(weight @ (y - mean) ** 2 / ((len(y) - 1) * weight.sum())))
    far = float(student.ppf(0.5 + LEVEL / 2, len(y) - 1))
    p = 2 * float(student.sf(abs(mean) / spread, len(y) - 1)) if spread else float(mean == 0)
    prediction = None
    if len(y) > 2:
        wide = float(student.ppf(0.5 + LEVEL / 2, len(y) - 2)) * float(np.sqrt(tau2 + spread**2))
        prediction = (mean - wide, mean + wide)
    return Pooled(mean, mean - far * spread, mean + far * spread, p, tau2, prediction, len(y))


def between(difference: np.ndarray, variance: np.ndarray) -> float:
    """The variance between cohorts, by restricted maximum likelihood.

    Parameters
    ----------
    difference : (cohort,) float64 array
    variance : (cohort,) float64 array
        Squared standard errors.

    Returns
    -------
    float
        Not below 0.
    """

    def loss(tau2: float) -> float:
        total = variance + tau2
        weight = 1 / total
        mean = weight @ difference / weight.sum()
        return float(np.log(total).sum() + np.log(weight.sum()) + weight @ (difference - mean) ** 2) / 2

    upper = float(np.var(difference, ddof=1) * len(difference) + variance.max())
    grid = np.concatenate([[0.0], np.geomspace(1e-6, 1.0, 200) * upper])
    best = int(np.argmin([loss(tau2) for tau2 in grid]))
    if best == 0 and loss(float(grid[1])) >= loss(0.0):
        return 0.0
    inside = (float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)]))
    return float(minimize_scalar(loss, bounds=inside, method="bounded", options={"xatol": 1e-9 * upper}).x)


def cohort_variance(draws: Sequence[float], refits: Sequence[float] = ()) -> float:
    """The variance of a cohort's difference: that over draws of its patients plus that over refits.

    The second one is not divided by their number: a claim is about a fit, not about the mean of some.

    Parameters
    ----------
    draws : sequence of float
        The difference in bootstrap draws of patients or groups, the fitted models held fixed; nan where a
        draw could not be scored.
    refits : sequence of float, default ()
        The difference in all patients by each refit (seed and partition).

    Returns
    -------
    float
    """
    return float(np.nanvar(draws, ddof=1)) + (float(np.var(refits, ddof=1)) if len(refits) > 1 else 0.0)
