"""Coherence: whether what a model says later is, on average, what it said before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from gnnpatient.errors import InputError
from gnnpatient.metrics.incidence import Rows, quotient
from gnnpatient.metrics.resampling import bootstrap, interval

Estimate = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Coherence:
    """The answer of `coherence`: each figure with the ends of its 95 % interval.

    Attributes
    ----------
    intercept, slope : tuple of float
        Of the line of the later forecast on the earlier one; 0 and 1 of a coherent model.
    error : tuple of float
        Mean absolute difference of the two. New findings keep it above 0: compare it with another model's.
    draws : (draw, 3) float
        Intercept, slope and error of each bootstrap draw; of the same seed and units they are paired.
    """

    intercept: Estimate
    slope: Estimate
    error: Estimate
    draws: Float[np.ndarray, "draw 3"]


def coherence(
    earlier: Rows,
    later: Rows,
    unit: Shaped[np.ndarray, " row"],
    *,
    weight: Rows | None = None,
    n: int = 200,
    seed: int = 0,
) -> Coherence:
    """Regress a later forecast on the earlier one of the same days.

    A row is a patient at risk at a landmark s and still at risk at s + u. `later` is the risk within h,
    forecast at s + u; `earlier` is what was said at s of the same days, for those who would be event-free
    until then (`Forecast.given_event_free`). If both are the true risk given what was known, the later one
    is on average the earlier one, whatever that is: intercept 0, slope 1. The other way round that does not
    hold, as the later one knows more. Forecasts have to be out of fold.

    Parameters
    ----------
    earlier, later : (row,) float
        Two forecasts of one cause.
    unit : (row,)
        Which patient, or group that splits keep together, each row is of: intervals resample them and hold
        the models fixed.
    weight : (row,) float, optional
        1 / G(u), with G the probability of being uncensored u after the row's landmark. Default: 1, which is
        the same where all rows are of one landmark.
    n : int, default 200
        How many draws.
    seed : int, default 0
        Of the draws.

    Returns
    -------
    Coherence
        nan where all earlier forecasts are equal.

    Raises
    ------
    InputError
        When the arrays differ in length, a number is not finite, or a weight is negative.

    References
    ----------
    Jewell & Nielsen 1993, Scand. J. Stat. 20:1 (consistency of a marker's hazard over time).

    Examples
    --------
    >>> earlier, later = np.array([0.1, 0.1, 0.3, 0.3]), np.array([0.0, 0.2, 0.2, 0.4])
    >>> found = coherence(earlier, later, np.arange(4))
    >>> round(found.slope[0], 6), round(found.error[0], 6)
    (1.0, 0.1)
    """
    x, y = np.asarray(earlier, float), np.asarray(later, float)
    w = np.ones(len(x)) if weight is None else np.asarray(weight, float)
    if not x.shape == y.shape == w.shape == np.shape(unit):
        raise InputError(
            f"earlier {x.shape}, later {y.shape}, weight {w.shape}, unit {np.shape(unit)}; give one a row"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all() and np.isfinite(w).all()) or np.any(w < 0):
        raise InputError(
            "earlier, later or weight is not finite, or a weight is negative; leave such rows out"
        )

    def figures(count: np.ndarray) -> np.ndarray:
        share = w * count
        total = share.sum()
        x_mean, y_mean = quotient(share @ x, total), quotient(share @ y, total)
        from_mean = x - x_mean
        slope = quotient(share * from_mean @ (y - y_mean), share @ np.square(from_mean))
        return np.array([y_mean - slope * x_mean, slope, quotient(share @ np.abs(y - x), total)])

    draws = bootstrap(figures, unit, n=n, seed=seed).reshape(n, 3)
    low, high = interval(draws)
    intercept, slope, error = (
        (float(v), float(a), float(b)) for v, a, b in zip(figures(np.ones(len(x))), low, high, strict=True)
    )
    return Coherence(intercept, slope, error, draws)
