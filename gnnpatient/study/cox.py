"""A ridge Cox model, with sums over risk sets taken at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_STEPS = 50
MAX_HALVINGS = 30
ENOUGH = 1e-10  # of the gain of a step, relative to the likelihood
MAX_SCORE = 50.0  # of a log relative hazard: beyond it the exponential is a number no more


@dataclass(frozen=True, eq=False)
class RidgeCox:
    """A proportional hazards model with a ridge penalty; tied events by Breslow's way.

    Attributes
    ----------
    beta : (column,) float64 array
        Log hazard ratios.
    times : (event time,) float64 array
        Times with an event, rising.
    hazard : (event time,) float64 array
        Cumulative hazard of a row of zeros, by then.

    References
    ----------
    Cox DR (1972). J R Stat Soc B 34:187-220.
    Verweij PJM, van Houwelingen HC (1994). Stat Med 13:2427-2436 (the ridge).
    """

    beta: np.ndarray
    times: np.ndarray
    hazard: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, event: np.ndarray, time: np.ndarray, alpha: float) -> RidgeCox:
        """Maximise the log partial likelihood minus half of `alpha` times the squared coefficients.

        Parameters
        ----------
        x : (row, column) float64 array
            Standardised columns.
        event : (row,) bool array
            Whether follow-up ended by the event.
        time : (row,) float64 array
            Of follow-up.
        alpha : float
            Penalty, beside a sum over rows.

        Returns
        -------
        RidgeCox

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(2000, 2))
        >>> time = rng.exponential(np.exp(-x[:, 0]))
        >>> RidgeCox.fit(x, np.ones(2000, bool), time, 1.0).beta.round(1)
        array([1., 0.])
        """
        x, time, event = np.asarray(x, np.float64), np.asarray(time, np.float64), np.asarray(event, bool)
        order = np.argsort(time, kind="stable")
        x, time, event = x[order], time[order], event[order]
        times, count = np.unique(time[event], return_counts=True)
        first = np.searchsorted(time, times)  # who is at risk at a time: all from here on
        upto = np.searchsorted(times, time, "right")  # events that a row has lived through, its own included
        had = x[event].sum(0)

        def at_risk(w: np.ndarray) -> np.ndarray:
            return np.add.reduceat(w, first, axis=0)[::-1].cumsum(0)[::-1]

        def gain(beta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
            score = x @ beta
            # a step may be far too long before it is halved
            w = np.exp(np.clip(score - score.mean(), -MAX_SCORE, MAX_SCORE))
            total = at_risk(w)
            likelihood = (score[event] - score.mean()).sum() - count @ np.log(total)
            return float(likelihood - alpha / 2 * beta @ beta), w, total

        beta = np.zeros(x.shape[1])
        value, w, total = gain(beta)
        for _ in range(MAX_STEPS):
            if not x.shape[1]:
                break
            mean = at_risk(w[:, None] * x) / total[:, None]
            lived = np.append(0.0, (count / total).cumsum())[upto]
            gradient = had - count @ mean - alpha * beta
            curved = x.T @ (x * (w * lived)[:, None]) - (mean * count[:, None]).T @ mean
            curved[np.diag_indices(len(beta))] += max(alpha, 1e-8)
            step = np.linalg.solve(curved, gradient)
            for _ in range(MAX_HALVINGS):
                better, w, total = gain(beta + step)
                if better >= value:
                    break
                step = step / 2
            else:
                better, w, total = gain(beta)
                break
            beta, gained, value = beta + step, better - value, better
            if gained <= ENOUGH * abs(value):
                break
        score = x @ beta
        scale = np.exp(-score.mean())  # of a row of zeros, beside that of the mean score
        return cls(beta, times, (count / total).cumsum() * scale)

    def score(self, x: np.ndarray) -> np.ndarray:
        """Log relative hazard, to a row of zeros.

        Parameters
        ----------
        x : (row, column) array

        Returns
        -------
        (row,) float64 array
        """
        return np.asarray(x @ self.beta, np.float64)

    def cumulative(self, x: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Cumulative hazard by each time.

        Parameters
        ----------
        x : (row, column) array
        times : (time,) array

        Returns
        -------
        (row, time) float64 array
        """
        base = np.append(0.0, self.hazard)[np.searchsorted(self.times, times, "right")]
        return np.exp(self.score(x).clip(max=MAX_SCORE))[:, None] * base
