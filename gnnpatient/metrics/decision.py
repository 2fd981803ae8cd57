"""Whether acting on a forecast does more good than harm: net benefit at thresholds of risk."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Num

from gnnpatient.errors import InputError
from gnnpatient.metrics.horizon import AtHorizon, checked_at_horizon
from gnnpatient.metrics.incidence import Cause, Rows


def net_benefit(
    risk: Rows,
    time: Rows,
    event: Cause,
    horizon: float,
    thresholds: Num[np.ndarray, " threshold"],
    *,
    cause: int = 1,
    weight: Rows | None = None,
) -> Float[np.ndarray, " threshold"]:
    """Net benefit of treating everybody at or above each threshold: a decision curve.

    The share of cases who are treated, minus the share of others who are, each of these counting p / (1 - p):
    whoever treats from a risk of p on takes 1 / p - 1 needless treatments for one that is needed. Treating
    nobody has 0; to treat everybody is the net benefit of a risk of 1. Weighted for censoring (IPCW); who had
    a competing event by the horizon is no case.

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
    thresholds : (threshold,) float
        Risks, above 0 and below 1.
    cause : int, default 1
        The cause that is scored; the others compete with it.
    weight : (row,) float, optional
        How often each row counts. Default: once.

    Returns
    -------
    (threshold,) float
        Cases per patient; nan where it is not estimable (see `not_estimable`).

    Raises
    ------
    InputError
        When an array is not valid, or a threshold is not between 0 and 1.

    References
    ----------
    Vickers & Elkin 2006, Med. Decis. Making 26:565.
    Vickers, Cronin, Elkin & Gonen 2008, BMC Med. Inform. Decis. Mak. 8:53 (censoring, competing risks).

    Examples
    --------
    >>> time, event = np.full(40, 9.0), np.repeat([0, 1], [30, 10])
    >>> time[event == 1] = 1.0
    >>> net_benefit(event * 0.9, time, event, 5.0, np.array([0.2, 0.5]))
    array([0.25, 0.25])
    >>> net_benefit(np.ones(40), time, event, 5.0, np.array([0.2, 0.5]))      # everybody is treated
    array([ 0.0625, -0.5   ])
    """
    return net_benefit_at(risk, checked_at_horizon(risk, time, event, horizon, cause, weight), thresholds)


def net_benefit_at(
    risk: Rows, at: AtHorizon | None, thresholds: Num[np.ndarray, " threshold"]
) -> Float[np.ndarray, " threshold"]:
    """Net benefit, from what is known at the horizon.

    Parameters
    ----------
    risk : (row,) float
        Forecast probability of the cause by the horizon.
    at : AtHorizon or None
        From `at_horizon`; None gives nan.
    thresholds : (threshold,) float
        Risks, above 0 and below 1.

    Returns
    -------
    (threshold,) float

    Raises
    ------
    InputError
        When a threshold is not between 0 and 1.
    """
    if not ((thresholds > 0) & (thresholds < 1)).all():
        raise InputError(
            f"thresholds from {thresholds.min():g} to {thresholds.max():g}; must be above 0, below 1"
        )
    if at is None:
        return np.full(len(thresholds), np.nan)
    order = np.argsort(risk)[::-1]
    case = np.append(0, np.cumsum((at.share * at.case)[order]))
    other = np.append(0, np.cumsum((at.share * ~at.case)[order]))
    treated = np.searchsorted(-risk[order], -thresholds, "right")  # at the threshold, too
    return (case[treated] - other[treated] * thresholds / (1 - thresholds)) / at.weight.sum()
