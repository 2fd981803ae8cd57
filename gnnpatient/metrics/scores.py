"""Discrimination and accuracy: AUC, concordance, Brier score; and all scores by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Num

from gnnpatient.errors import InputError
from gnnpatient.metrics.calibration import ici_at, observed_expected_at, slope_at
from gnnpatient.metrics.horizon import AtHorizon, check_risk, checked_at_horizon
from gnnpatient.metrics.incidence import (
    MIN_OWN_UNCENSORED,
    Cause,
    CoxCensoring,
    Fold,
    Rows,
    censoring,
    quotient,
)
from gnnpatient.metrics.pairs import MAX_PAIRS, dense_ranks, fold_index, mass_below, mass_below_earlier


def auc(
    risk: Rows,
    time: Rows,
    event: Cause,
    horizon: float,
    *,
    cause: int = 1,
    fold: Fold | None = None,
    weight: Rows | None = None,
    definition: Literal[1, 2] = 2,
) -> float:
    """Time-dependent AUC: how often a case has a higher risk than a control; ties count .5.

    Cases have the event by the horizon (cumulative), controls are event-free at it (dynamic). Both are
    weighted for censoring (IPCW).

    Parameters
    ----------
    risk : (row,) float
        Forecast probability of `cause` by `horizon`; any score that rises with it will do.
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    horizon : float
        In the unit of `time`.
    cause : int, default 1
        The cause that is scored; the others compete with it.
    fold : (row,), optional
        Only rows of one fold are compared. Default: all rows.
    weight : (row,) float, optional
        How often each row counts. Default: once.
    definition : 1 or 2, default 2
        2: rows with a competing event by the horizon are controls, too; 1: they are left out.

    Returns
    -------
    float
        nan where it is not estimable (see `not_estimable`), or without a pair.

    Raises
    ------
    InputError
        When an array is not valid, or `definition` is neither 1 nor 2.

    References
    ----------
    Uno, Cai, Tian & Wei 2007, J. Am. Stat. Assoc. 102:527.
    Blanche, Dartigues & Jacqmin-Gadda 2013, Stat. Med. 32:5381 (the two definitions).
    """
    if definition not in (1, 2):
        raise InputError(
            f"definition={definition!r}; 2 counts competing events among the controls, 1 does not"
        )
    return _auc(risk, checked_at_horizon(risk, time, event, horizon, cause, weight), fold, definition)


def _auc(risk: Rows, at: AtHorizon | None, fold: Fold | None, definition: int) -> float:
    if at is None:
        return np.nan
    rank, group = dense_ranks(risk), fold_index(fold, len(risk))
    control = at.beyond | at.gone if definition == 2 else at.beyond
    won, of = mass_below((group[at.case], rank[at.case]), (group[control], rank[control]), at.share[control])
    return quotient(at.share[at.case] @ won, at.share[at.case] @ of)


def concordance(
    risk: Rows,
    time: Rows,
    event: Cause,
    horizon: float,
    *,
    cause: int = 1,
    fold: Fold | None = None,
    weight: Rows | None = None,
) -> float:
    """Concordance: how often, of two rows, the one with the earlier event by the horizon has the higher risk.

    A case at T is compared with every row that is followed beyond T, with weight 1/G(T-)^2, and with every
    row that had a competing event at U <= T, with weight 1/(G(T-) G(U-)). Tied risks count .5.

    Parameters
    ----------
    risk : (row,) float
        Forecast probability of `cause` by `horizon`; any score that rises with it will do.
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    horizon : float
        In the unit of `time`.
    cause : int, default 1
        The cause that is scored; the others compete with it.
    fold : (row,), optional
        Only rows of one fold are compared. Default: all rows.
    weight : (row,) float, optional
        How often each row counts. Default: once.

    Returns
    -------
    float
        nan where it is not estimable (see `not_estimable`), or without a pair.

    References
    ----------
    Uno, Cai, Pencina, D'Agostino & Wei 2011, Stat. Med. 30:1105.
    Wolbers, Blanche, Koller, Witteman & Gerds 2014, Biostatistics 15:526 (competing risks).
    """
    return _concordance(risk, checked_at_horizon(risk, time, event, horizon, cause, weight), fold)


def _concordance(risk: Rows, at: AtHorizon | None, fold: Fold | None) -> float:
    if at is None:
        return np.nan
    rank, group, when = dense_ranks(risk), fold_index(fold, len(risk)), at.when
    case, gone = at.case, at.gone
    if isinstance(at.staying, CoxCensoring):
        return _concordance_each(rank, group, at, at.staying)
    later_won, later_of = mass_below_earlier(
        (-when[case], group[case], rank[case]), (-when, group, rank), at.weight
    )
    # Controls must come strictly earlier; 2T < 2T + 1 lets in those gone on the case's own day.
    gone_won, gone_of = mass_below_earlier(
        (2 * when[case] + 1, group[case], rank[case]),
        (2 * when[gone], group[gone], rank[gone]),
        at.share[gone],
    )
    share, inverse = at.share[case], at.inverse[case]
    return quotient(share @ (inverse * later_won + gone_won), share @ (inverse * later_of + gone_of))


def _concordance_each(rank: np.ndarray, group: np.ndarray, at: AtHorizon, staying: CoxCensoring) -> float:
    """Concordance where each row has its own G: case by case, later rows weigh 1/G at the case's time.

    Above `MAX_PAIRS` pairs only every n-th case is taken.
    """
    won = of = 0.0
    with np.errstate(divide="ignore"):
        log = np.log(staying.value)  # 0 where all are censored, which the floor holds up
    gone = np.flatnonzero(at.gone)
    cases = np.flatnonzero(at.case & (at.weight > 0))
    for i in cases[:: 1 + len(cases) * len(rank) // MAX_PAIRS]:
        step = np.searchsorted(staying.at, at.time[i], "left")
        inverse = np.exp(np.minimum(-log[step] * staying.relative, -np.log(MIN_OWN_UNCENSORED)))
        mass = np.where(at.time > at.time[i], at.weight * inverse, 0.0)
        mass[gone] += np.where(at.time[gone] <= at.time[i], at.share[gone], 0.0)
        mass = np.where(group == group[i], mass, 0.0) * at.share[i]
        won += mass @ (0.5 * (rank < rank[i]) + 0.5 * (rank <= rank[i]))
        of += mass.sum()
    return quotient(won, of)


def average_precision(
    risk: Rows,
    time: Rows,
    event: Cause,
    horizon: float,
    *,
    cause: int = 1,
    fold: Fold | None = None,
    weight: Rows | None = None,
) -> float:
    """Area under the precision-recall curve: the share of cases among those at or above the risk of a case.

    The mean over cases, by steps and not by lines between them. A forecast that is the same for everybody has
    the share of the cases among all, so it is read beside that.

    Parameters
    ----------
    risk : (row,) float
        Forecast probability of `cause` by `horizon`; any score that rises with it will do.
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    horizon : float
        In the unit of `time`.
    cause : int, default 1
        The cause that is scored; the others compete with it.
    fold : (row,), optional
        Only rows of one fold are compared. Default: all rows.
    weight : (row,) float, optional
        How often each row counts. Default: once.

    Returns
    -------
    float
        nan where it is not estimable (see `not_estimable`), or without a case.

    References
    ----------
    Davis & Goadrich 2006, ICML 233. Yuan, Zhou, Li & Zhang 2018, Biometrics 74:1014 (censoring).
    """
    return _average_precision(risk, checked_at_horizon(risk, time, event, horizon, cause, weight), fold)


def _average_precision(risk: Rows, at: AtHorizon | None, fold: Fold | None) -> float:
    if at is None:
        return np.nan
    used = at.share > 0
    rank, group = dense_ranks(risk), fold_index(fold, len(risk))
    order = np.flatnonzero(used)[np.lexsort((-rank[used], group[used]))]
    group, rank, case = group[order], rank[order], (at.share * at.case)[order]
    cases, rows = (np.append(0, np.cumsum(mass)) for mass in (case, at.share[order]))
    tie = np.append(0, np.cumsum((np.diff(group) != 0) | (np.diff(rank) != 0)))
    first, last = np.searchsorted(group, group, "left"), np.searchsorted(tie, tie, "right")
    precision = (cases[last] - cases[first]) / (rows[last] - rows[first])
    return quotient(case @ precision, case.sum())


def brier(
    risk: Rows, time: Rows, event: Cause, horizon: float, *, cause: int = 1, weight: Rows | None = None
) -> float:
    """Brier score: mean squared difference of the risk and what happened by the horizon; 0 is best.

    Weighted for censoring (IPCW); a competing event counts as 0.

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
    Graf, Schmoor, Sauerbrei & Schumacher 1999, Stat. Med. 18:2529.
    Schoop, Beyersmann, Schumacher & Binder 2011, Biom. J. 53:88 (competing risks).
    """
    return _brier(risk, checked_at_horizon(risk, time, event, horizon, cause, weight))


def _brier(risk: Rows, at: AtHorizon | None) -> float:
    if at is None:
        return np.nan
    return quotient(at.share @ np.square(at.case - risk.astype(float)), at.weight.sum())


def integrated_brier(
    risk: Num[np.ndarray, "row time"],
    times: Num[np.ndarray, " time"],
    time: Rows,
    event: Cause,
    *,
    cause: int = 1,
    weight: Rows | None = None,
) -> tuple[float, float]:
    """Integrated Brier score: the mean Brier score over (0, tau].

    tau is the last of `times` that is estimable. Trapezoid rule from a score of 0 at time 0, where everything
    is known.

    Parameters
    ----------
    risk : (row, time) float
        Forecast probability of `cause` by each of `times`.
    times : (time,) float
        Horizons, > 0 and rising, in the unit of `time`.
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    cause : int, default 1
        The cause that is scored.
    weight : (row,) float, optional
        How often each row counts. Default: once.

    Returns
    -------
    score, tau : float
        (nan, 0) where none of `times` is estimable.

    Raises
    ------
    InputError
        When `times` do not rise, or an array is not valid.

    References
    ----------
    Graf, Schmoor, Sauerbrei & Schumacher 1999, Stat. Med. 18:2529.
    """
    if np.any(np.diff(times, prepend=0.0) <= 0):
        raise InputError(f"times {np.array2string(times, threshold=6)}; they must be positive and rise")
    staying = censoring(time, event, weight=weight)
    known = [checked_at_horizon(risk[:, 0], time, event, h, cause, weight, staying) for h in times.tolist()]
    return integrate(risk, known)


def integrate(risk: Num[np.ndarray, "row time"], known: Sequence[AtHorizon | None]) -> tuple[float, float]:
    """Integrated Brier score from what is known at each time.

    Parameters
    ----------
    risk : (row, time) float
        Forecast probability by each time.
    known : sequence of AtHorizon or None
        What is known at each time, from `at_horizon`; from the first None on nothing counts.

    Returns
    -------
    score, tau : float
        As `integrated_brier`.
    """
    if risk.shape[1] != len(known):
        raise ValueError(f"{risk.shape[1]} columns of risk for {len(known)} times")
    # after the first None every later time is None, too: neither G nor the number at risk rises
    seen: list[AtHorizon] = []
    for at in known:
        if at is None:
            break
        seen.append(at)
    if not seen:
        return np.nan, 0.0
    risk = risk[:, : len(seen)]
    if len(risk) != len(seen[0].time) or not np.isfinite(risk).all():
        for now, at in zip(risk.T, seen, strict=True):
            check_risk(now, at.time)  # says which is wrong
    error = np.stack([at.case for at in seen], 1) - risk.astype(float)
    total = np.einsum("ij,ij->j", np.stack([at.share for at in seen], 1), np.square(error))
    score = [0.0, *(quotient(t, at.weight.sum()) for t, at in zip(total, seen, strict=True))]
    tau = seen[-1].horizon
    return float(np.trapezoid(score, [0.0, *(at.horizon for at in seen)]) / tau), tau


SCORES: Mapping[str, Callable[[Rows, AtHorizon | None, Fold | None], float]] = {
    "auc": lambda risk, at, fold: _auc(risk, at, fold, 2),
    "auc1": lambda risk, at, fold: _auc(risk, at, fold, 1),
    "c": _concordance,
    "brier": lambda risk, at, fold: _brier(risk, at),
    "oe": lambda risk, at, fold: observed_expected_at(risk, at),
    "slope": lambda risk, at, fold: slope_at(risk, at),
    "ici": lambda risk, at, fold: ici_at(risk, at),
    "auprc": _average_precision,
}
"""All scores by name: from (risk, `AtHorizon` or None, fold or None) to a float. What is known is shared."""
