"""A linear mixed model of values over time: each patient has a line around the line of all.

References
----------
Laird NM, Ware JH (1982). Biometrics 38:963-974 (the model).
Rizopoulos D (2012). Joint Models for Longitudinal and Time-to-Event Data, ch. 2 and 7 (dynamic prediction).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

_START = (-0.5, 0.0, -1.5)  # log of the spread of levels and of slopes, beside their tie


@dataclass(frozen=True, eq=False)
class MixedModel:
    """Random intercept and slope: value = x beta + level + slope * time + noise.

    Attributes
    ----------
    beta : ndarray
        Effects of the columns of x.
    covariance : ndarray
        Of a patient's level and slope, (2, 2).
    noise : float
        Variance of a value around its patient's line.
    """

    beta: np.ndarray  # (column,)
    covariance: np.ndarray  # (2, 2)
    noise: float

    @classmethod
    def fit(cls, value: np.ndarray, x: np.ndarray, time: np.ndarray, owner: np.ndarray) -> MixedModel:
        """Fit by restricted maximum likelihood; a patient costs two by two matrices.

        Parameters
        ----------
        value : ndarray
            (row,) float64.
        x : ndarray
            (row, column) float64, with a column of ones.
        time : ndarray
            (row,) float64, in a unit in which slopes are not much larger than levels.
        owner : ndarray
            (row,) whose each value is.

        Returns
        -------
        MixedModel

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> owner, time = np.repeat(np.arange(400), 5), np.tile(np.arange(5.0), 400)
        >>> level, slope = rng.normal(3, 1, 400), rng.normal(0.5, 0.2, 400)
        >>> value = level[owner] + slope[owner] * time + rng.normal(0, 0.5, 2000)
        >>> found = MixedModel.fit(value, np.stack([np.ones(2000), time], 1), time, owner)
        >>> bool(np.abs(found.beta - [3, 0.5]).max() < 0.1), np.sqrt(np.diag(found.covariance)).round(1)
        (True, array([1. , 0.2]))
        >>> round(found.noise, 2)
        0.25
        """
        who, owner = np.unique(owner, return_inverse=True)
        parts = _Parts.of(value, x, time, owner, len(who))
        found = minimize(lambda theta: parts.solve(_factor(theta))[0], _START, method="Nelder-Mead", tol=1e-8)
        _, beta, noise = parts.solve(factor := _factor(found.x))
        return cls(beta, noise * factor @ factor.T, noise)

    def predict(
        self, value: np.ndarray, x: np.ndarray, time: np.ndarray, owner: np.ndarray, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Level and slope of each patient, as far as some values show them.

        Parameters
        ----------
        value, x, time, owner
            As in `fit`; owner is a number below `size`.
        size : int
            Patients, also those without a value.

        Returns
        -------
        mean : ndarray
            (patient, 2).
        covariance : ndarray
            (patient, 2, 2), of what is left unknown.
        """
        z = _Parts.of(value - x @ self.beta, x[:, :0], time, owner, size)
        factor = np.linalg.cholesky(self.covariance / self.noise + 1e-12 * np.eye(2))
        shrunk = z.shrunk(factor)[0]
        return np.einsum("pij,pj->pi", shrunk, z.zy), self.noise * shrunk


@dataclass(frozen=True, eq=False)
class _Parts:
    """Products of the columns of each patient: z has the columns one and time."""

    zz: np.ndarray  # (patient, 2, 2)
    zx: np.ndarray  # (patient, 2, column)
    zy: np.ndarray  # (patient, 2)
    xx: np.ndarray  # (column, column)
    xy: np.ndarray  # (column,)
    yy: float
    rows: int

    @classmethod
    def of(cls, y: np.ndarray, x: np.ndarray, time: np.ndarray, owner: np.ndarray, size: int) -> _Parts:
        z = np.stack([np.ones_like(time), time], 1)
        zz, zx, zy = np.zeros((size, 2, 2)), np.zeros((size, 2, x.shape[1])), np.zeros((size, 2))
        np.add.at(zz, owner, z[:, :, None] * z[:, None])
        np.add.at(zx, owner, z[:, :, None] * x[:, None])
        np.add.at(zy, owner, z * y[:, None])
        return cls(zz, zx, zy, x.T @ x, x.T @ y, float(y @ y), len(y))

    def shrunk(self, factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Covariance of a line given its values, in units of the noise, and log determinants."""
        inner = np.eye(2) + factor.T @ self.zz @ factor
        return factor @ np.linalg.inv(inner) @ factor.T, np.linalg.slogdet(inner)[1]

    def solve(self, factor: np.ndarray) -> tuple[float, np.ndarray, float]:
        """Minus twice the restricted log likelihood (but for a constant), and the best beta and noise."""
        shrunk, log = self.shrunk(factor)
        pulled = shrunk @ self.zx  # (patient, 2, column)
        left = self.xx - np.einsum("pia,pib->ab", self.zx, pulled)
        left += 1e-10 * np.trace(left) * np.eye(len(left))  # columns may say the same, or nothing
        right = self.xy - np.einsum("pia,pi->a", pulled, self.zy)
        total = self.yy - np.einsum("pi,pij,pj->", self.zy, shrunk, self.zy)
        beta = np.linalg.solve(left, right)
        free = self.rows - len(beta)
        noise = max(float(total - right @ beta) / free, 1e-12)
        return float(free * np.log(noise) + log.sum() + np.linalg.slogdet(left)[1]), beta, noise


def _factor(theta: np.ndarray) -> np.ndarray:
    """A lower triangle from three free numbers."""
    a, b, c = np.asarray(theta, float).tolist()
    return np.array([[np.exp(a), 0.0], [b, np.exp(c)]])
