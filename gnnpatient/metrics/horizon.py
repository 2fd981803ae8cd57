"""What is known of each row at a horizon, and what it weighs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from gnnpatient.errors import InputError
from gnnpatient.metrics.incidence import (
    MIN_OWN_UNCENSORED,
    Cause,
    Censoring,
    CoxCensoring,
    Rows,
    aalen_johansen,
    censoring,
    checked_rows,
    quotient,
)
from gnnpatient.metrics.pairs import dense_ranks

MIN_UNCENSORED = 0.1
MIN_BEYOND = 20  # patients


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
    time, event, weight = checked_rows(time, event, weight)
    return _reason(time, weight, horizon, censoring(time, event, weight=weight), patient)


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
        used = (self.share > 0) & (self.inverse >= 1 / MIN_OWN_UNCENSORED)
        return int(used.sum()) if isinstance(self.staying, CoxCensoring) else 0

    @cached_property
    def when(self) -> Int[np.ndarray, " row"]:
        """Rank of the times."""
        return dense_ranks(self.time)

    @cached_property
    def observed(self) -> float:
        """Aalen-Johansen incidence of the cause at the horizon; the weighted share where G is a row's own."""
        if isinstance(self.staying, CoxCensoring):
            return quotient(self.share @ self.case, self.share.sum())
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
    time, event, weight = checked_rows(time, event, weight)
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

    >>> from gnnpatient.metrics import SCORES
    >>> SCORES["auc"](np.array([0.1, 0.4, 0.3]), labelled(np.array([False, True, True])), None)
    1.0
    """
    weight = np.ones(len(case)) if weight is None else np.asarray(weight, dtype=float)
    none, zero = np.zeros(len(case), bool), np.zeros(len(case))
    one = np.ones(len(case))
    return AtHorizon(0.0, 1, zero, case.astype(int), case, none, ~case, weight, one, weight, patient)


def checked_at_horizon(
    risk: Rows,
    time: Rows,
    event: Cause,
    horizon: float,
    cause: int,
    weight: Rows | None,
    staying: Censoring | None = None,
) -> AtHorizon | None:
    checked_rows(time, event, weight)
    check_risk(risk, time)
    return at_horizon(time, event, horizon, cause=cause, weight=weight, staying=staying)


def check_risk(risk: Rows, time: Rows) -> None:
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
    if uncensored < MIN_UNCENSORED:
        return f"horizon {horizon:g}: {uncensored:.3f} stay uncensored; at least {MIN_UNCENSORED} is needed"
    beyond, counted = _patients(weight, time > horizon, patient), "rows" if patient is None else "patients"
    if beyond < MIN_BEYOND:
        return f"horizon {horizon:g}: {beyond:g} {counted} are followed beyond it; {MIN_BEYOND} are needed"
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
