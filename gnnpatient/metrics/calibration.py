"""Calibration: whether risks equal the shares that come true."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Num

from gnnpatient.metrics.horizon import AtHorizon, checked_at_horizon
from gnnpatient.metrics.incidence import (
    Cause,
    Rows,
    quotient,
)


def observed_expected(
    risk: Rows, time: Rows, event: Cause, horizon: float, *, cause: int = 1, weight: Rows | None = None
) -> float:
    """Observed over expected: Aalen-Johansen incidence over mean risk; above 1 the forecast is too low.

    Parameters
    ----------
    risk : (row,) float
        Forecast probability of `cause` by `horizon`.
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    horizon : float
        In the unit of `time`.
    cause : int, default 1
        The cause that is scored; the others compete with it.
    weight : (row,) float, optional
        How often each row counts. Default: once.

    Returns
    -------
    float
        nan where it is not estimable (see `not_estimable`), or the mean risk is 0.

    References
    ----------
    Aalen & Johansen 1978, Scand. J. Stat. 5:141.
    """
    return observed_expected_at(risk, checked_at_horizon(risk, time, event, horizon, cause, weight))


def observed_expected_at(risk: Rows, at: AtHorizon | None) -> float:
    """Observed over expected, from what is known at the horizon.

    Parameters
    ----------
    risk : (row,) float
        Forecast probability of the cause by the horizon.
    at : AtHorizon or None
        From `at_horizon`; None gives nan.

    Returns
    -------
    float
    """
    return np.nan if at is None else quotient(at.observed * at.weight.sum(), at.weight @ risk)


def calibration_slope(
    risk: Rows, time: Rows, event: Cause, horizon: float, *, cause: int = 1, weight: Rows | None = None
) -> float:
    """Slope of a logistic regression of the outcome on logit(risk): below 1 the risks are too extreme.

    Risks are clipped to [1e-4, 1 - 1e-4].

    Parameters
    ----------
    risk : (row,) float
        Forecast probability of `cause` by `horizon`.
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    horizon : float
        In the unit of `time`.
    cause : int, default 1
        The cause that is scored; the others compete with it.
    weight : (row,) float, optional
        How often each row counts. Default: once.

    Returns
    -------
    float
        nan where it is not estimable (see `not_estimable`), or no finite slope fits best: all risks are
        equal, or those of cases and others do not overlap.

    References
    ----------
    Cox 1958, Biometrika 45:562.
    Albert & Anderson 1984, Biometrika 71:1 (when no maximum exists).
    """
    return slope_at(risk, checked_at_horizon(risk, time, event, horizon, cause, weight))


def slope_at(risk: Rows, at: AtHorizon | None) -> float:
    """Calibration slope, from what is known at the horizon.

    Parameters
    ----------
    risk : (row,) float
        Forecast probability of the cause by the horizon.
    at : AtHorizon or None
        From `at_horizon`; None gives nan.

    Returns
    -------
    float
    """
    if at is None:
        return np.nan
    x, used = _logit(risk), at.share > 0
    case, other = x[used & at.case], x[used & ~at.case]
    parted_up = other.max(initial=-np.inf) <= case.min(initial=np.inf)
    parted_down = case.max(initial=-np.inf) <= other.min(initial=np.inf)
    if parted_up or parted_down:  # the likelihood has no maximum (Albert & Anderson 1984)
        return np.nan
    return float(_logistic(np.stack([np.ones_like(x), x], axis=1), at.case, at.share)[1])


def calibration_curve(
    risk: Rows,
    time: Rows,
    event: Cause,
    horizon: float,
    *,
    cause: int = 1,
    weight: Rows | None = None,
    points: int = 101,
) -> tuple[Float[np.ndarray, " {points}"], Float[np.ndarray, " {points}"]]:
    """Smoothed share with the event at each risk (see `ici`).

    Parameters
    ----------
    risk : (row,) float
        Forecast probability of `cause` by `horizon`.
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    horizon : float
        In the unit of `time`.
    cause : int, default 1
        The cause that is scored; the others compete with it.
    weight : (row,) float, optional
        How often each row counts. Default: once.
    points : int, default 101
        How many risks, from their 1st to their 99th percentile.

    Returns
    -------
    risk, share : (point,) float
        All nan where not estimable.

    References
    ----------
    Austin & Steyerberg 2019, Stat. Med. 38:4051.
    """
    return calibration_curve_at(risk, checked_at_horizon(risk, time, event, horizon, cause, weight), points)


def calibration_curve_at(
    risk: Rows, at: AtHorizon | None, points: int = 101
) -> tuple[Float[np.ndarray, " {points}"], Float[np.ndarray, " {points}"]]:
    """Smoothed share with the event at each risk, from what is known at the horizon.

    Parameters
    ----------
    risk : (row,) float
        Forecast probability of the cause by the horizon.
    at : AtHorizon or None
        From `at_horizon`; None gives nan.
    points : int, default 101
        How many risks, from their 1st to their 99th percentile.

    Returns
    -------
    risk, share : (point,) float
    """
    if at is None:
        return np.full(points, np.nan), np.full(points, np.nan)
    low, high = _quantile(risk, at.weight, np.array([0.01, 0.99]))
    grid = np.linspace(low, high, points)
    return grid, _smooth(risk, at, grid)


def ici(
    risk: Rows, time: Rows, event: Cause, horizon: float, *, cause: int = 1, weight: Rows | None = None
) -> float:
    """Integrated calibration index: mean absolute difference of the risk and the smoothed outcome; 0 is best.

    The smooth is a logistic regression on a restricted cubic spline of logit(risk), weighted for censoring
    and with competing events as 0; the identity is one of its curves. Chance alone keeps the index above 0,
    the more so the fewer the rows: compare it with another model's on the same rows.

    Parameters
    ----------
    risk : (row,) float
        Forecast probability of `cause` by `horizon`.
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    horizon : float
        In the unit of `time`.
    cause : int, default 1
        The cause that is scored; the others compete with it.
    weight : (row,) float, optional
        How often each row counts. Default: once.

    Returns
    -------
    float
        nan where it is not estimable (see `not_estimable`).

    References
    ----------
    Austin & Steyerberg 2019, Stat. Med. 38:4051.
    Harrell 2015, Regression Modeling Strategies, ch. 2 (restricted cubic splines, their knots).
    """
    return ici_at(risk, checked_at_horizon(risk, time, event, horizon, cause, weight))


def ici_at(risk: Rows, at: AtHorizon | None) -> float:
    """Integrated calibration index, from what is known at the horizon.

    Parameters
    ----------
    risk : (row,) float
        Forecast probability of the cause by the horizon.
    at : AtHorizon or None
        From `at_horizon`; None gives nan.

    Returns
    -------
    float
    """
    if at is None:
        return np.nan
    return quotient(at.weight @ np.abs(_smooth(risk, at, risk) - risk), at.weight.sum())


def _smooth(risk: Rows, at: AtHorizon, where: Num[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    """Share with the event at the risks `where`, by a ridged logistic spline through the rows."""
    x = _logit(risk)
    knots = np.unique(_quantile(x, at.weight, np.array([0.1, 0.5, 0.9])))  # Harrell's for three
    basis = _spline(x, knots)
    # The ridge is far below one row's worth; it keeps the curve finite where risks part cases from others.
    coefficient = _logistic(basis, at.case, at.share, ridge=1e-4)
    return _expit(_spline(_logit(where), knots) @ coefficient)


def _spline(x: Float[np.ndarray, " row"], knots: Float[np.ndarray, " knot"]) -> Float[np.ndarray, "row term"]:
    """Restricted cubic spline, linear beyond its outer knots (Stone & Koo 1985): one bend an inner knot."""
    *inner, last = knots
    spread = last - knots[0] if inner else 1.0

    def bend(knot: float) -> Float[np.ndarray, " row"]:
        return (np.maximum(x - knot, 0) ** 3 - np.maximum(x - last, 0) ** 3) / ((last - knot) * spread)

    terms = [bend(knot) - bend(inner[-1]) for knot in inner[:-1]]
    return np.stack([np.ones_like(x), x - knots[0], *terms], axis=1)


def _logistic(
    x: Float[np.ndarray, "row term"], y: Bool[np.ndarray, " row"], weight: Rows, ridge: float = 0.0
) -> Float[np.ndarray, " term"]:
    """Coefficients of a weighted logistic regression by Newton's method; nan where it finds no maximum."""
    b, penalty = np.zeros(x.shape[1]), ridge * np.eye(x.shape[1])
    for _ in range(30):
        q = _expit(x @ b)
        curvature = (x * (weight * q * (1 - q))[:, None]).T @ x + penalty
        step = np.linalg.lstsq(curvature, x.T @ (weight * (y - q)) - ridge * b)[0]
        b = b + step
        if np.abs(step).max() <= 1e-8 * (1 + np.abs(b).max()):
            return b
    return np.full_like(b, np.nan)


def _logit(risk: Num[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    p = np.clip(risk.astype(float), 1e-4, 1 - 1e-4)
    return np.log(p / (1 - p))


def _expit(x: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    return np.exp(-np.logaddexp(0, -x))


def _quantile(x: Rows, weight: Rows, share: Float[np.ndarray, " share"]) -> Float[np.ndarray, " share"]:
    """The least value with at least that share of the weight up to it."""
    order = np.argsort(x)
    reached = np.cumsum(weight[order])
    return x[order][np.minimum(np.searchsorted(reached, share * reached[-1]), len(x) - 1)]
