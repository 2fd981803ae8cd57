"""Scores of forecasts under censoring and competing risks, and their intervals: pure numpy functions.

One row is one ask. `time` runs from the ask to the event or the end of observation, in any unit that
`horizon` shares (days in this package). `event` is 0 for censored, k for cause k. `risk` is the forecast
probability of `cause` by `horizon`; `auc` and `concordance` take any score that rises with it. `weight`
counts how often a row was drawn, so that a bootstrap needs no copies. An event at the horizon has happened by
it; rows "beyond" it are followed longer.

Rows censored before the horizon are represented by the others (inverse probability of censoring weights): a
case or a competing event at T weighs 1/G(T-), a row beyond the horizon h weighs 1/G(h). Where G(h) < .1 or
fewer than 20 rows (patients, where `patient` says whose each row is) are beyond h, every score is nan, and
`not_estimable` says why. Elsewhere G(T-) >= G(h) >= .1, so no weight exceeds 10 and none is ever capped, but
where each row has a G of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped

from gnnpatient.errors import InputError

Rows = Num[np.ndarray, " row"]
Cause = Int[np.ndarray, " row"]  # 0 = censored
Fold = Shaped[np.ndarray, " row"]
Steps = Num[np.ndarray, " step"]

LEAST_UNCENSORED = 0.1
LEAST_BEYOND = 20  # patients
LEAST_OF_ONE = 0.05  # of a row's own chance to be uncensored; below, its weight is capped at 20, and counted
MANY_PAIRS = 2**28
FEW_PAIRS = 2**14  # up to which a table of all pairs is faster than sorting


@dataclass(frozen=True, eq=False)
class Censoring:
    """Kaplan-Meier estimate G of the chance to be still uncensored: a step function."""

    at: Float[np.ndarray, " step"]
    value: Float[np.ndarray, " step_plus_1"]  # value[0] = 1 before the first step

    def left(self, u: Num[np.ndarray, "*shape"] | float) -> Any:
        """G(u-), uncensored just before u: what weighs an event at u, since events precede censorings."""
        return self.value[np.searchsorted(self.at, u, "left")]

    def right(self, u: Num[np.ndarray, "*shape"] | float) -> Any:
        """G(u), uncensored at u included: what weighs a row that is followed beyond u."""
        return self.value[np.searchsorted(self.at, u, "right")]


@dataclass(frozen=True, eq=False)
class CoxCensoring:
    """A chance G to be still uncensored for each row of its own, where censoring depends on what is known.

    G of the row is the common one to the power of its relative hazard, so that where all hazards are alike it
    is the Kaplan-Meier estimate. Below .05 it is read as .05.
    """

    at: Float[np.ndarray, " step"]
    value: Float[np.ndarray, " step_plus_1"]  # of a relative hazard of one; value[0] = 1
    relative: Float[np.ndarray, " row"]

    def left(self, u: Num[np.ndarray, " row"] | float) -> Any:
        """G(u-) of each row."""
        return self._at(np.searchsorted(self.at, u, "left"))

    def right(self, u: Num[np.ndarray, " row"] | float) -> Any:
        """G(u) of each row."""
        return self._at(np.searchsorted(self.at, u, "right"))

    def _at(self, step: Any) -> Any:
        return np.maximum(self.value[step] ** self.relative, LEAST_OF_ONE)

    def __getitem__(self, rows: np.ndarray) -> CoxCensoring:
        return CoxCensoring(self.at, self.value, self.relative[rows])


def cox_censoring(time: Rows, event: Cause, relative: Rows, *, weight: Rows | None = None) -> CoxCensoring:
    """The common G by the relative hazards of being censored (Breslow 1974, as a product); events precede
    censorings at ties.

    >>> G = cox_censoring(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1, 1, 0, 1]), np.ones(4))
    >>> G.right(2.0)
    array([0.5, 0.5, 0.5, 0.5])
    """
    time, event, weight = _rows(time, event, weight)
    at, step = np.unique(time, return_inverse=True)
    mass = weight * relative
    there = np.cumsum(np.bincount(step, mass, len(at))[::-1])[::-1]
    there = there - np.bincount(
        step, mass * (event > 0), len(at)
    )  # who fails at a time is not censored at it
    hazard = _ratio(np.bincount(step, weight * (event == 0), len(at)), there)
    value = np.concatenate([[1.0], np.cumprod(1 - np.minimum(hazard, 1))])
    return CoxCensoring(at, value, np.asarray(relative, dtype=float))


def censoring(time: Rows, event: Cause, *, weight: Rows | None = None) -> Censoring:
    """Kaplan-Meier with the roles of event and censoring exchanged; events precede censorings at ties.

    >>> G = censoring(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1, 1, 0, 1]))
    >>> float(G.left(2.0)), float(G.right(2.0))     # the failure at 2 leaves two at risk of censoring
    (1.0, 0.5)
    """
    time, event, weight = _rows(time, event, weight)
    at, at_risk, (left, *failed) = _counts(time, event, weight, causes=int(event.max(initial=0)))
    staying = 1 - _ratio(left, at_risk - np.sum(failed, axis=0))
    return Censoring(at, np.concatenate([[1.0], np.cumprod(staying)]))


def aalen_johansen(
    time: Rows,
    event: Cause,
    at: Num[np.ndarray, " time"],
    *,
    causes: int,
    weight: Rows | None = None,
) -> Float[np.ndarray, "1+{causes} time"]:
    """Cumulative incidence at the times `at` (Aalen & Johansen 1978); slot 0 is event-free, slots sum to one.

    >>> aalen_johansen(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 2, 0, 1]), np.array([1.0, 3.0]), causes=2)
    array([[0.75, 0.5 ],
           [0.25, 0.25],
           [0.  , 0.25]])
    """
    time, event, weight = _rows(time, event, weight)
    if event.max(initial=0) > causes:
        raise InputError(f"event has cause {event.max():g}, but causes={causes}; count every competing cause")
    steps, at_risk, (_, *failed) = _counts(time, event, weight, causes)
    hazard = _ratio(np.reshape(failed, (causes, len(steps))), at_risk)  # (cause, step)
    free = np.cumprod(np.concatenate([[1.0], 1 - hazard.sum(0)]))  # (1 + step,)
    incidence = np.cumsum(hazard * free[:-1], axis=1)
    table = np.vstack([free, np.pad(incidence, ((0, 0), (1, 0)))])
    return table[:, np.searchsorted(steps, at, "right")]


def not_estimable(
    time: Rows,
    event: Cause,
    horizon: float,
    *,
    weight: Rows | None = None,
    patient: Shaped[np.ndarray, " row"] | None = None,
) -> str | None:
    """Why no score is given at this horizon; None where one is. Many rows of one `patient` count as one.

    >>> not_estimable(np.arange(30.0), np.ones(30, dtype=int), 25.0)
    'horizon 25: 4 rows are followed beyond it; 20 are needed'
    """
    time, event, weight = _rows(time, event, weight)
    return _reason(time, weight, horizon, censoring(time, event, weight=weight), patient)


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
    return _auc(risk, _at_horizon(risk, time, event, horizon, cause, weight), fold, definition)


def _auc(risk: Rows, at: AtHorizon | None, fold: Fold | None, definition: int) -> float:
    if at is None:
        return np.nan
    rank, group = _dense(risk), _group(fold, len(risk))
    control = at.beyond | at.gone if definition == 2 else at.beyond
    won, of = _beaten((group[at.case], rank[at.case]), (group[control], rank[control]), at.share[control])
    return _quotient(at.share[at.case] @ won, at.share[at.case] @ of)


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
    return _concordance(risk, _at_horizon(risk, time, event, horizon, cause, weight), fold)


def _concordance(risk: Rows, at: AtHorizon | None, fold: Fold | None) -> float:
    if at is None:
        return np.nan
    rank, group, when = _dense(risk), _group(fold, len(risk)), at.when
    case, gone = at.case, at.gone
    if isinstance(at.staying, CoxCensoring):
        return _concordance_each(rank, group, at, at.staying)
    later_won, later_of = _beaten_earlier(
        (-when[case], group[case], rank[case]), (-when, group, rank), at.weight
    )
    # Controls must come strictly earlier; 2T < 2T + 1 lets in those gone on the case's own day.
    gone_won, gone_of = _beaten_earlier(
        (2 * when[case] + 1, group[case], rank[case]),
        (2 * when[gone], group[gone], rank[gone]),
        at.share[gone],
    )
    share, inverse = at.share[case], at.inverse[case]
    return _quotient(share @ (inverse * later_won + gone_won), share @ (inverse * later_of + gone_of))


def _concordance_each(rank: np.ndarray, group: np.ndarray, at: AtHorizon, staying: CoxCensoring) -> float:
    """The same where each row has a G of its own: pair by pair, later rows weigh 1/G at the case's time.

    Of very many pairs every n-th case is taken.
    """
    won = of = 0.0
    with np.errstate(divide="ignore"):
        log = np.log(staying.value)  # 0 where all are censored, which the floor holds up
    gone = np.flatnonzero(at.gone)
    cases = np.flatnonzero(at.case & (at.weight > 0))
    for i in cases[:: 1 + len(cases) * len(rank) // MANY_PAIRS]:
        step = np.searchsorted(staying.at, at.time[i], "left")
        inverse = np.exp(np.minimum(-log[step] * staying.relative, -np.log(LEAST_OF_ONE)))
        mass = np.where(at.time > at.time[i], at.weight * inverse, 0.0)
        mass[gone] += np.where(at.time[gone] <= at.time[i], at.share[gone], 0.0)
        mass = np.where(group == group[i], mass, 0.0) * at.share[i]
        won += mass @ (0.5 * (rank < rank[i]) + 0.5 * (rank <= rank[i]))
        of += mass.sum()
    return _quotient(won, of)


def brier(
    risk: Rows, time: Rows, event: Cause, horizon: float, *, cause: int = 1, weight: Rows | None = None
) -> float:
    """Mean squared distance of the risk from what came by the horizon; 0 is best (Graf et al. 1999).

    A competing event counts as an outcome of 0 (Schoop et al. 2011).
    """
    return _brier(risk, _at_horizon(risk, time, event, horizon, cause, weight))


def _brier(risk: Rows, at: AtHorizon | None) -> float:
    if at is None:
        return np.nan
    return _quotient(at.share @ np.square(at.case - risk.astype(float)), at.weight.sum())


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
    known = [_at_horizon(risk[:, 0], time, event, h, cause, weight, staying) for h in times.tolist()]
    return integrate(risk, known)


def integrate(risk: Num[np.ndarray, "row time"], known: Sequence[AtHorizon | None]) -> tuple[float, float]:
    """`integrated_brier` by what is known at each of its times."""
    grid, score = [0.0], [0.0]
    for now, at in zip(risk.T, known, strict=True):
        if at is None:  # and so will be every later one: neither G nor the number at risk rises
            break
        _check(now, at.time)
        grid.append(at.horizon)
        score.append(_brier(now, at))
    tau = grid[-1]
    return (float(np.trapezoid(score, grid) / tau), tau) if tau else (np.nan, 0.0)


def observed_expected(
    risk: Rows, time: Rows, event: Cause, horizon: float, *, cause: int = 1, weight: Rows | None = None
) -> float:
    """Aalen-Johansen incidence over mean risk: above 1 the forecast is too low. nan if none is expected."""
    return _observed_expected(risk, _at_horizon(risk, time, event, horizon, cause, weight))


def _observed_expected(risk: Rows, at: AtHorizon | None) -> float:
    return np.nan if at is None else _quotient(at.observed * at.weight.sum(), at.weight @ risk)


def calibration_slope(
    risk: Rows, time: Rows, event: Cause, horizon: float, *, cause: int = 1, weight: Rows | None = None
) -> float:
    """Slope of a logistic regression of outcome on logit(risk) (Cox 1958): below 1 the risks are too extreme.

    Risks are read as at least 1e-4 and at most 1 - 1e-4. nan where no finite slope is the best one: all risks
    are equal, or no case overlaps with the others.
    """
    return _slope(risk, _at_horizon(risk, time, event, horizon, cause, weight))


def _slope(risk: Rows, at: AtHorizon | None) -> float:
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
    """Risks from their 1st to 99th percentile, and at each the smoothed share that had the event (see `ici`).

    All nan where not estimable.
    """
    at = _at_horizon(risk, time, event, horizon, cause, weight)
    if at is None:
        return np.full(points, np.nan), np.full(points, np.nan)
    low, high = _quantile(risk, at.weight, np.array([0.01, 0.99]))
    grid = np.linspace(low, high, points)
    return grid, _smooth(risk, at, grid)


def ici(
    risk: Rows, time: Rows, event: Cause, horizon: float, *, cause: int = 1, weight: Rows | None = None
) -> float:
    """Integrated calibration index (Austin & Steyerberg 2019): mean distance of risk and smoothed outcome.

    The smooth is a logistic regression on a restricted cubic spline of logit(risk), weighted for censoring
    and with competing events as an outcome of 0; the identity is one of its curves. Chance alone keeps it
    above 0, the more so the fewer the rows: read it beside a rival's on the same rows.
    """
    return _ici(risk, _at_horizon(risk, time, event, horizon, cause, weight))


def _ici(risk: Rows, at: AtHorizon | None) -> float:
    if at is None:
        return np.nan
    return _quotient(at.weight @ np.abs(_smooth(risk, at, risk) - risk), at.weight.sum())


SCORES: Mapping[str, Callable[[Rows, AtHorizon | None, Fold | None], float]] = {
    "auc": lambda risk, at, fold: _auc(risk, at, fold, 2),
    "auc1": lambda risk, at, fold: _auc(risk, at, fold, 1),
    "c": _concordance,
    "brier": lambda risk, at, fold: _brier(risk, at),
    "oe": lambda risk, at, fold: _observed_expected(risk, at),
    "slope": lambda risk, at, fold: _slope(risk, at),
    "ici": lambda risk, at, fold: _ici(risk, at),
}
"""The scores above by what is known at a horizon, which many of them then share."""


def bootstrap(
    statistic: Callable[[Int[np.ndarray, " row"]], Any],
    patient: Shaped[np.ndarray, " row"],
    *,
    n: int = 200,
    seed: int = 0,
) -> Float[np.ndarray, "{n} ..."]:
    """`statistic` of n draws of patients with replacement; it is given how often each row was drawn.

    A patient comes or stays away with all rows and folds; so does a group where its numbers are given as
    `patient`: what is drawn is what splits do not part. Fitted models are held fixed, so the spread leaves
    out what another training set would change.

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
    """Percentile interval of the draws that gave a number (not nan); nan where fewer than half did."""
    some = np.isfinite(draws).sum(axis=0) * 2 >= max(len(draws), 1)
    low, high = np.nanquantile(np.where(some, draws, 0.0), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.where(some, low, np.nan)[()], np.where(some, high, np.nan)[()]


# -- what is known at a horizon --


@dataclass(frozen=True, eq=False)
class AtHorizon:
    """What came of each row by a horizon, and what it weighs. `at_horizon` makes it."""

    horizon: float
    cause: int
    time: Rows
    event: Cause
    case: Bool[np.ndarray, " row"]
    gone: Bool[np.ndarray, " row"]  # by a competing event
    beyond: Bool[np.ndarray, " row"]
    weight: Float[np.ndarray, " row"]
    inverse: Float[np.ndarray, " row"]  # 1/G(T-) up to the horizon, 1/G(h) beyond it
    share: Float[np.ndarray, " row"]  # weight * inverse; 0 if censored before the horizon
    patient: Shaped[np.ndarray, " row"] | None = None  # whose each row is; None: each of another
    staying: Censoring | CoxCensoring | None = None

    @property
    def fewest(self) -> float:
        """Patients among the cases, or among those who are known to be none, whichever are fewer."""
        other = (self.gone | self.beyond) & ~self.case
        return min(_patients(self.weight, part, self.patient) for part in (self.case, other))

    @property
    def capped(self) -> int:
        """Rows whose own chance to be uncensored was too small, so that their weight was capped."""
        used = (self.share > 0) & (self.inverse >= 1 / LEAST_OF_ONE)
        return int(used.sum()) if isinstance(self.staying, CoxCensoring) else 0

    @cached_property
    def when(self) -> Int[np.ndarray, " row"]:
        """Rank of the times."""
        return _dense(self.time)

    @cached_property
    def observed(self) -> float:
        """Aalen-Johansen incidence of the cause at the horizon; the weighted share where G is a row's own."""
        if isinstance(self.staying, CoxCensoring):
            return _quotient(self.share @ self.case, self.share.sum())
        causes, at = max(self.cause, int(np.max(self.event))), np.array([self.horizon])
        return float(
            aalen_johansen(self.time, self.event, at, causes=causes, weight=self.weight)[self.cause, 0]
        )


def at_horizon(
    time: Rows,
    event: Cause,
    horizon: float,
    *,
    cause: int = 1,
    weight: Rows | None = None,
    staying: Censoring | CoxCensoring | None = None,
    patient: Shaped[np.ndarray, " row"] | None = None,
) -> AtHorizon | None:
    """What is known at a horizon, for SCORES and `integrate`; None where nothing is estimable.

    staying: the chance to be still uncensored (default: the Kaplan-Meier estimate of these rows); patient:
    whose each row is, where some have several.
    """
    time, event, weight = _rows(time, event, weight)
    if cause < 1:
        raise InputError(f"cause={cause}; causes count from 1, 0 is censored")
    staying = staying or censoring(time, event, weight=weight)
    if _reason(time, weight, horizon, staying, patient):
        return None
    beyond = time > horizon
    inverse = 1 / np.where(beyond, staying.right(horizon), staying.left(np.minimum(time, horizon)))
    case, gone = ~beyond & (event == cause), ~beyond & (event != cause) & (event != 0)
    share = np.where(case | gone | beyond, weight * inverse, 0.0)
    return AtHorizon(
        horizon, cause, time, event, case, gone, beyond, weight, inverse, share, patient, staying
    )


def labelled(
    case: Bool[np.ndarray, " row"],
    *,
    weight: Rows | None = None,
    patient: Shaped[np.ndarray, " row"] | None = None,
) -> AtHorizon:
    """What is known of a label that no censoring hides, for SCORES: cases have it, controls do not.

    >>> SCORES["auc"](np.array([0.1, 0.4, 0.3]), labelled(np.array([False, True, True])), None)
    1.0
    """
    weight = np.ones(len(case)) if weight is None else np.asarray(weight, dtype=float)
    none, zero = np.zeros(len(case), bool), np.zeros(len(case))
    one = np.ones(len(case))
    return AtHorizon(0.0, 1, zero, case.astype(int), case, none, ~case, weight, one, weight, patient)


def _at_horizon(
    risk: Rows,
    time: Rows,
    event: Cause,
    horizon: float,
    cause: int,
    weight: Rows | None,
    staying: Censoring | None = None,
) -> AtHorizon | None:
    _rows(time, event, weight)
    _check(risk, time)
    return at_horizon(time, event, horizon, cause=cause, weight=weight, staying=staying)


def _check(risk: Rows, time: Rows) -> None:
    if risk.shape != time.shape or not np.isfinite(risk).all():
        bad = np.count_nonzero(~np.isfinite(risk))
        raise InputError(f"risk {risk.shape} for {len(time)} rows, {bad} not finite; give one number a row")


def _reason(
    time: Rows,
    weight: Rows,
    horizon: float,
    staying: Censoring | CoxCensoring,
    patient: Shaped[np.ndarray, " row"] | None,
) -> str | None:
    uncensored = float(_uncensored(staying, horizon))
    if uncensored < LEAST_UNCENSORED:
        return f"horizon {horizon:g}: {uncensored:.3f} stay uncensored; at least {LEAST_UNCENSORED} is needed"
    beyond, who = _patients(weight, time > horizon, patient), "rows" if patient is None else "patients"
    if beyond < LEAST_BEYOND:
        return f"horizon {horizon:g}: {beyond:g} {who} are followed beyond it; {LEAST_BEYOND} are needed"
    return None


def _uncensored(staying: Censoring | CoxCensoring, horizon: float) -> Any:
    """G at a horizon; of rows that each have their own, that of a relative hazard of one."""
    if isinstance(staying, CoxCensoring):
        return staying.value[np.searchsorted(staying.at, horizon, "right")]
    return staying.right(horizon)


def _patients(weight: Rows, rows: Bool[np.ndarray, " row"], patient: np.ndarray | None) -> float:
    """How many patients these rows are of, each as often as it was drawn."""
    if patient is None:
        return float(weight[rows].sum())
    _, first = np.unique(patient[rows], return_index=True)
    return float(weight[rows][first].sum())


def _rows(time: Rows, event: Cause, weight: Rows | None) -> tuple[Rows, Cause, Rows]:
    weight = np.ones(len(time)) if weight is None else np.asarray(weight, dtype=float)
    if not time.shape == event.shape == weight.shape:
        raise InputError(
            f"time {time.shape}, event {event.shape}, weight {weight.shape}; give one number a row"
        )
    if (
        not np.isfinite(time).all()
        or not np.isfinite(weight).all()
        or np.any(event < 0)
        or np.any(weight < 0)
    ):
        raise InputError("time, event or weight holds nan, infinity or a negative count; leave such rows out")
    return np.asarray(time, dtype=float), event, weight


def _counts(time: Rows, event: Cause, weight: Rows, causes: int) -> tuple[Steps, Steps, list[Steps]]:
    """The distinct times; at each, how many are at risk; how many are censored, then fail by each cause."""
    at, step = np.unique(time, return_inverse=True)
    count = [np.bincount(step, weight * (event == k), len(at)) for k in range(causes + 1)]
    return at, np.cumsum(np.sum(count, axis=0)[::-1])[::-1], count


def _ratio(part: Num[np.ndarray, "*cause step"], whole: Steps) -> Float[np.ndarray, "*cause step"]:
    """0 where nobody is left."""
    return np.divide(part, whole, out=np.zeros(part.shape), where=np.broadcast_to(whole > 0, part.shape))


def _quotient(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else np.nan


# -- comparing pairs in O(n log n) --


def _dense(x: Shaped[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
    """Ranks from 0; equal values share one."""
    return np.unique(x, return_inverse=True)[1]


def _group(fold: Shaped[np.ndarray, " some"] | None, rows: int) -> Int[np.ndarray, " {rows}"]:
    if fold is None:
        return np.zeros(rows, dtype=int)
    if len(fold) != rows:
        raise InputError(f"fold has {len(fold)} entries for {rows} rows; give one a row")
    return _dense(fold)


def _beaten(
    case: tuple[np.ndarray, np.ndarray],
    control: tuple[np.ndarray, np.ndarray],
    mass: Float[np.ndarray, " control"],
) -> tuple[Float[np.ndarray, " case"], Float[np.ndarray, " case"]]:
    """For each case, the mass of its block's controls with a lower rank plus half of the equal; and of all.

    Both come as (block, rank). Sums are differences of one running sum, in such a way that a block of equal
    ranks gives exactly half of its all.
    """
    ranks = 1 + max(case[1].max(initial=0), control[1].max(initial=0))
    key = control[0] * ranks + control[1]
    order = np.argsort(key)
    key, running = key[order], np.concatenate([[0.0], np.cumsum(mass[order])])
    first = case[0] * ranks
    bounds = (first, first + case[1], first + case[1] + 1, first + ranks)
    start, low, high, end = (running[np.searchsorted(key, bound)] for bound in bounds)
    return (low - start) + 0.5 * (high - low), end - start


def _beaten_earlier(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
    control: tuple[np.ndarray, np.ndarray, np.ndarray],
    mass: Float[np.ndarray, " control"],
) -> tuple[Float[np.ndarray, " case"], Float[np.ndarray, " case"]]:
    """As `_beaten`, among the controls of strictly earlier `when`. Both come as (when, block, rank).

    All are lined up by `when`. "Earlier" splits into runs as in a merge sort: at each width, whoever stands
    in a right-hand run meets all of the run to its left, once. So log2(n) rounds of `_beaten` count every
    pair.
    """
    if len(case[0]) * len(control[0]) <= FEW_PAIRS:
        earlier = (control[0] < case[0][:, None]) & (control[1] == case[1][:, None])
        won = 0.5 * (control[2] < case[2][:, None]) + 0.5 * (control[2] <= case[2][:, None])
        return (earlier * won) @ mass, earlier @ mass
    cases, size = len(case[0]), len(case[0]) + len(control[0])
    place = np.empty(size, dtype=int)
    order = np.argsort(np.concatenate([case[0], control[0]]), kind="stable")  # cases first at ties
    place[order] = np.arange(size)
    of_case, of_control = place[:cases], place[cases:]
    blocks = 1 + max(case[1].max(initial=0), control[1].max(initial=0))
    won, of = np.zeros(cases), np.zeros(cases)
    for level in range(max(size - 1, 0).bit_length()):
        right, left = of_case >> level & 1 == 1, of_control >> level & 1 == 0
        here = (of_case[right] >> level + 1) * blocks + case[1][right]
        there = (of_control[left] >> level + 1) * blocks + control[1][left]
        more, all_of = _beaten((here, case[2][right]), (there, control[2][left]), mass[left])
        won[right] += more
        of[right] += all_of
    return won, of


# -- calibration --


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
