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
    """Chance that a case, who has the event by the horizon, got a higher risk than a control; ties count .5.

    Cumulative cases, dynamic controls, weighted for censoring (Uno et al. 2007; Blanche, Dartigues &
    Jacqmin-Gadda 2013). Controls of definition 2 are event-free at the horizon or gone by a competing event,
    of definition 1 event-free only. Only rows of one `fold`, scored by the same fitted model, are compared;
    nan without a pair.
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
    """Chance that of two people the one with the earlier event, by the horizon, was given the higher risk.

    A case at T is compared with all who are followed beyond T, weight 1/G(T-)^2 (Uno et al. 2011), and with
    all who went by a competing event at U <= T, weight 1/(G(T-) G(U-)) (Wolbers et al. 2014). Tied risks
    count .5. Only rows of one `fold` are compared; nan without a pair.
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
    """The same where each row has a G of its own: pair by pair, later rows weigh 1/G at the case's time.

    Of very many pairs every n-th case is taken.
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


def brier(
    risk: Rows, time: Rows, event: Cause, horizon: float, *, cause: int = 1, weight: Rows | None = None
) -> float:
    """Mean squared distance of the risk from what came by the horizon; 0 is best (Graf et al. 1999).

    A competing event counts as an outcome of 0 (Schoop et al. 2011).
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
    """Mean Brier score over (0, tau], and tau, the last of `times` that is estimable; (nan, 0) if none is.

    Trapezoid rule from a score of 0 at time 0, where everything is known.
    """
    if np.any(np.diff(times, prepend=0.0) <= 0):
        raise InputError(f"times {np.array2string(times, threshold=6)}; they must be positive and rise")
    staying = censoring(time, event, weight=weight)
    known = [checked_at_horizon(risk[:, 0], time, event, h, cause, weight, staying) for h in times.tolist()]
    return integrate(risk, known)


def integrate(risk: Num[np.ndarray, "row time"], known: Sequence[AtHorizon | None]) -> tuple[float, float]:
    """`integrated_brier` by what is known at each of its times."""
    grid, score = [0.0], [0.0]
    for now, at in zip(risk.T, known, strict=True):
        if at is None:  # and so will be every later one: neither G nor the number at risk rises
            break
        check_risk(now, at.time)
        grid.append(at.horizon)
        score.append(_brier(now, at))
    tau = grid[-1]
    return (float(np.trapezoid(score, grid) / tau), tau) if tau else (np.nan, 0.0)


SCORES: Mapping[str, Callable[[Rows, AtHorizon | None, Fold | None], float]] = {
    "auc": lambda risk, at, fold: _auc(risk, at, fold, 2),
    "auc1": lambda risk, at, fold: _auc(risk, at, fold, 1),
    "c": _concordance,
    "brier": lambda risk, at, fold: _brier(risk, at),
    "oe": lambda risk, at, fold: observed_expected_at(risk, at),
    "slope": lambda risk, at, fold: slope_at(risk, at),
    "ici": lambda risk, at, fold: ici_at(risk, at),
}
"""The scores above by what is known at a horizon, which many of them then share."""
