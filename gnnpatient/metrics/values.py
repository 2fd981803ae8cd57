"""Scores of forecast values: how far off, how honest the distribution, how often its interval holds.

A row without a value (nan: not seen, or dead) is left out of every score, and a forecast is not read there.
Values and scores are in the unit of the value.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Num

from gnnpatient.errors import InputError
from gnnpatient.metrics.incidence import Rows, quotient

Bins = Num[np.ndarray, "row bin"]


def rmse(forecast: Rows, value: Rows, *, weight: Rows | None = None) -> float:
    """Root mean squared error of a forecast mean.

    Parameters
    ----------
    forecast : (row,) float
        What was forecast.
    value : (row,) float
        What came; nan: not seen, so not scored.
    weight : (row,) float, optional
        How often each row counts. Default: once.

    Returns
    -------
    float
        nan where nothing was seen.

    Raises
    ------
    InputError
        When a seen value has no forecast, or lengths differ.

    Examples
    --------
    >>> rmse(np.array([1.0, 2.0, 9.0]), np.array([1.0, 4.0, np.nan]))
    1.4142135623730951
    """
    return float(np.sqrt(_mean(np.square, forecast, value, weight)))


def mae(forecast: Rows, value: Rows, *, weight: Rows | None = None) -> float:
    """Mean absolute error of a forecast median.

    Parameters
    ----------
    forecast, value, weight
        As in `rmse`.

    Returns
    -------
    float
        nan where nothing was seen.

    Examples
    --------
    >>> mae(np.array([1.0, 2.0]), np.array([1.0, 4.0]), weight=np.array([1, 3]))
    1.5
    """
    return _mean(np.abs, forecast, value, weight)


def pinball(forecast: Rows, value: Rows, quantile: float, *, weight: Rows | None = None) -> float:
    """Mean pinball loss of a forecast quantile: least where that quantile is right.

    Parameters
    ----------
    forecast : (row,) float
        The quantile that was forecast.
    value, weight
        As in `rmse`.
    quantile : float
        Which one, 0 to 1.

    Returns
    -------
    float
        nan where nothing was seen. Of the median it is half the mean absolute error.

    Raises
    ------
    InputError
        When the quantile is outside [0, 1], and as `rmse`.

    References
    ----------
    Koenker & Bassett 1978, Econometrica 46:33.

    Examples
    --------
    >>> pinball(np.array([1.0, 1.0]), np.array([0.0, 3.0]), 0.9)
    0.95
    """
    if not 0 <= quantile <= 1:
        raise InputError(f"quantile = {quantile}; must be from 0 to 1")
    return _mean(lambda miss: np.maximum(-quantile * miss, (1 - quantile) * miss), forecast, value, weight)


def crps(
    probability: Bins, edges: Float[np.ndarray, " edge"], value: Rows, *, weight: Rows | None = None
) -> float:
    """Continuous ranked probability score of a distribution over bins, even inside a bin; 0 is best.

    The squared distance of the forecast distribution function and that of the value, integrated over all
    values: of a forecast without spread the absolute error. Exact for the bins as they are.

    Parameters
    ----------
    probability : (row, bin) float
        Of each bin; each row sums to one.
    edges : (bin + 1,) float
        Ends of the bins, rising. A value outside them adds its distance to the nearest.
    value, weight
        As in `rmse`.

    Returns
    -------
    float
        nan where nothing was seen.

    Raises
    ------
    InputError
        When a seen value has no forecast, edges do not rise, or lengths differ.

    References
    ----------
    Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102:359.

    Examples
    --------
    >>> certain = np.array([[0.0, 1.0, 0.0]])                  # between 1 and 1.001
    >>> round(crps(certain, np.array([0.0, 1.0, 1.001, 5.0]), np.array([3.0])), 3)
    1.999
    """
    if probability.ndim != 2 or edges.shape != (probability.shape[1] + 1,) or (np.diff(edges) <= 0).any():
        raise InputError(
            f"probability has shape {probability.shape} with {len(edges)} edges; give one rising edge more "
            "than bins"
        )
    seen, w = _seen(probability.sum(1), value, weight)
    return quotient(w @ crps_of(probability[seen], edges, value[seen]), w.sum())


def crps_of(probability: Bins, edges: Float[np.ndarray, " edge"], value: Rows) -> Float[np.ndarray, " row"]:
    """The score of each row, see `crps`.

    Parameters
    ----------
    probability, edges, value
        As in `crps`, all of them given.

    Returns
    -------
    (row,) float
    """
    width = np.diff(edges)
    above = np.cumsum(probability, 1)  # distribution function at the right end of each bin, linear inside
    below = above - probability
    inside = value.clip(edges[0], edges[-1])
    cut = ((inside[:, None] - edges[:-1]) / width).clip(0, 1)  # share of each bin that lies left of the value
    level = below + cut * probability

    def thirds(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Mean of the square of what goes from a to b in a line."""
        return np.asarray((a * a + a * b + b * b) / 3)

    left, right = cut * thirds(below, level), (1 - cut) * thirds(1 - level, 1 - above)
    return np.asarray(((left + right) * width).sum(1) + np.abs(value - inside))


def crps_of_quantiles(
    forecast: Num[np.ndarray, "row quantile"],
    quantiles: Float[np.ndarray, " quantile"],
    value: Rows,
    *,
    weight: Rows | None = None,
) -> float:
    """Continuous ranked probability score of forecast quantiles: twice their pinball loss, integrated.

    Each quantile stands for the probabilities that are nearest to it, so that those in the tails are as good
    as the outermost ones say.

    Parameters
    ----------
    forecast : (row, quantile) float
        The quantiles.
    quantiles : (quantile,) float
        Which ones, rising, within (0, 1).
    value, weight
        As in `rmse`.

    Returns
    -------
    float
        nan where nothing was seen.

    Raises
    ------
    InputError
        When quantiles do not rise within (0, 1), and as `rmse`.

    Examples
    --------
    >>> level = (np.arange(100) + 0.5) / 100                         # of an even distribution, 0 to 1
    >>> round(crps_of_quantiles(level[None], level, np.array([0.5])), 3)
    0.083
    """
    if len(quantiles) == 0 or np.any(np.diff([0.0, *quantiles, 1.0]) <= 0):
        raise InputError(f"quantiles {np.array2string(quantiles, threshold=6)}; must rise within 0 to 1")
    ends = np.concatenate([[0.0], (quantiles[1:] + quantiles[:-1]) / 2, [1.0]])
    losses = [
        pinball(column, value, q, weight=weight)
        for column, q in zip(forecast.T, quantiles.tolist(), strict=True)
    ]
    return float(2 * np.diff(ends) @ losses)


def coverage(low: Rows, high: Rows, value: Rows, *, weight: Rows | None = None) -> float:
    """Share of the values that lie in their interval, ends included.

    Parameters
    ----------
    low, high : (row,) float
        Ends of the intervals.
    value, weight
        As in `rmse`.

    Returns
    -------
    float
        nan where nothing was seen.

    Examples
    --------
    >>> coverage(np.zeros(4), np.ones(4), np.array([0.5, 1.0, 2.0, np.nan]))
    0.6666666666666666
    """
    seen, w = _seen(np.asarray(low) + high, value, weight)
    return quotient(w @ ((low[seen] <= value[seen]) & (value[seen] <= high[seen])), w.sum())


def width(low: Rows, high: Rows, value: Rows, *, weight: Rows | None = None) -> float:
    """Mean width of the intervals of those seen: of two with the same coverage the narrower is better.

    Parameters
    ----------
    low, high, value, weight
        As in `coverage`.

    Returns
    -------
    float
        nan where nothing was seen.

    Examples
    --------
    >>> width(np.zeros(3), np.array([1.0, 2.0, 9.0]), np.array([0.5, 5.0, np.nan]))
    1.5
    """
    seen, w = _seen(np.asarray(low) + high, value, weight)
    return quotient(w @ (high - low)[seen], w.sum())


def _mean(
    loss: Callable[[np.ndarray], np.ndarray], forecast: Rows, value: Rows, weight: Rows | None
) -> float:
    """Mean loss of what is forecast too much, over the values that were seen."""
    seen, w = _seen(forecast, value, weight)
    return quotient(w @ loss(np.asarray(forecast, float)[seen] - value[seen]), w.sum())


def _seen(forecast: Rows, value: Rows, weight: Rows | None) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the rows with a value, and their weights; refused where one has no forecast."""
    if np.shape(forecast) != np.shape(value) or (weight is not None and len(weight) != len(value)):
        sizes = len(forecast), *([] if weight is None else [len(weight)])
        raise InputError(f"{len(value)} values with {', '.join(map(str, sizes))} forecasts or weights")
    seen = np.flatnonzero(np.isfinite(value))
    if missing := int((~np.isfinite(np.asarray(forecast, float)[seen])).sum()):
        raise InputError(f"no forecast (nan) of {missing} of {len(seen)} values that were seen")
    return seen, np.ones(len(seen)) if weight is None else np.asarray(weight, float)[seen]
