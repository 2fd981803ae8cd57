"""What is known of each row at a horizon, and what it weighs."""

from __future__ import annotations

from collections.abc import Sequence
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

MIN_UNCENSORED = 0.1  # G(horizon), below which no score is given
MIN_BEYOND = 20  # patients followed beyond the horizon, below which no score is given


def not_estimable(
    time: Rows,
    event: Cause,
    horizon: float,
    *,
    weight: Rows | None = None,
    patient: Shaped[np.ndarray, " row"] | None = None,
) -> str | None:
    """Why no score is given at this horizon; None where one is.

    Parameters
    ----------
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    horizon : float
        In the unit of `time`.
    weight : (row,) float, optional
        How often each row counts. Default: once.
    patient : (row,), optional
        Which patient each row is of. Default: each row is another patient; the rows of one count once.

    Returns
    -------
    str or None
        One line with the number found and the number needed.

    Examples
    --------
    >>> not_estimable(np.arange(30.0), np.ones(30, dtype=int), 25.0)
    'horizon 25: 4 rows are followed beyond it; 20 are needed'
    """
    time, event, weight = checked_rows(time, event, weight)
    return _reason(time, weight, horizon, censoring(time, event, weight=weight), patient)


@dataclass(frozen=True, eq=False)
class AtHorizon:
    """What happened to each row by a horizon, and what it weighs. `at_horizon` makes it.

    Attributes
    ----------
    horizon : float
        In the unit of `time`.
    cause : int
        The cause that is scored.
    time, event : (row,)
        As given.
    case, gone, beyond : (row,) bool
        Had the event of the cause by the horizon; had a competing event by it; is followed beyond it. All
        False: censored before it.
    weight : (row,) float
        How often each row counts.
    inverse : (row,) float
        1 / G(T-) up to the horizon, 1 / G(horizon) beyond it.
    share : (row,) float
        weight * inverse; 0 for rows censored before the horizon.
    patient : (row,) or None
        Which patient each row is of; None: each row is another patient.
    staying : Censoring, CoxCensoring or None
        The G behind `inverse`; None where nothing is censored.
    """

    horizon: float
    cause: int
    time: Rows
    event: Cause
    case: Bool[np.ndarray, " row"]
    gone: Bool[np.ndarray, " row"]
    beyond: Bool[np.ndarray, " row"]
    weight: Float[np.ndarray, " row"]
    inverse: Float[np.ndarray, " row"]
    share: Float[np.ndarray, " row"]
    patient: Shaped[np.ndarray, " row"] | None = None
    staying: Censoring | CoxCensoring | None = None

    @property
    def fewest(self) -> float:
        """Patients among the cases, or among those known to be no case, whichever are fewer."""
        other = (self.gone | self.beyond) & ~self.case
        return min(_patients(self.weight, part, self.patient) for part in (self.case, other))

    @property
    def capped(self) -> int:
        """Rows whose own probability of being uncensored was below .05, so that their weight was capped."""
        used = (self.share > 0) & (self.inverse >= 1 / MIN_OWN_UNCENSORED)
        return int(used.sum()) if isinstance(self.staying, CoxCensoring) else 0

    @cached_property
    def when(self) -> Int[np.ndarray, " row"]:
        """Ranks of the times."""
        return dense_ranks(self.time)

    @cached_property
    def observed(self) -> float:
        """Aalen-Johansen incidence of the cause at the horizon; the weighted share with a G of each row."""
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
    """What is known at a horizon, for SCORES and `integrate`.

    Parameters
    ----------
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    horizon : float
        In the unit of `time`.
    cause : int, default 1
        The cause that is scored.
    weight : (row,) float, optional
        How often each row counts. Default: once.
    staying : Censoring or CoxCensoring, optional
        Probability of being uncensored. Default: the Kaplan-Meier estimate of these rows.
    patient : (row,), optional
        Which patient each row is of. Default: each row is another patient.

    Returns
    -------
    AtHorizon or None
        None where nothing is estimable (see `not_estimable`).

    Raises
    ------
    InputError
        When `cause` is below 1, or an array is not valid.
    """
    return at_horizons(time, event, [horizon], cause=cause, weight=weight, staying=staying, patient=patient)[
        0
    ]


def at_horizons(
    time: Rows,
    event: Cause,
    horizons: Sequence[float],
    *,
    cause: int = 1,
    weight: Rows | None = None,
    staying: Censoring | CoxCensoring | None = None,
    patient: Shaped[np.ndarray, " row"] | None = None,
) -> list[AtHorizon | None]:
    """What is known at each of several horizons, as `at_horizon` says it of one.

    Parameters
    ----------
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    horizons : sequence of float
        In the unit of `time`.
    cause : int, default 1
        The cause that is scored.
    weight : (row,) float, optional
        How often each row counts. Default: once.
    staying : Censoring or CoxCensoring, optional
        Probability of being uncensored. Default: the Kaplan-Meier estimate of these rows.
    patient : (row,), optional
        Which patient each row is of. Default: each row is another patient.

    Returns
    -------
    list of AtHorizon or None
        None where nothing is estimable (see `not_estimable`).

    Raises
    ------
    InputError
        When `cause` is below 1, or an array is not valid.
    """
    time, event, weight = checked_rows(time, event, weight)
    if cause < 1:
        raise InputError(f"cause={cause}; causes count from 1, 0 is censored")
    staying = staying or censoring(time, event, weight=weight)
    before = staying.left(time)  # G(T-) of each row, whatever the horizon
    hit, other = event == cause, (event != cause) & (event != 0)
    # neither G nor the number at risk rises with the horizon: one that is not estimable ends the later ones
    ended, found = np.inf, list[AtHorizon | None]()
    for horizon in horizons:
        if horizon >= ended or _reason(time, weight, horizon, staying, patient):
            ended = min(ended, horizon)
            found.append(None)
            continue
        beyond = time > horizon
        inverse = 1 / np.where(beyond, staying.right(horizon), before)
        case, gone = ~beyond & hit, ~beyond & other
        share = np.where(case | gone | beyond, weight * inverse, 0.0)
        found.append(
            AtHorizon(
                horizon, cause, time, event, case, gone, beyond, weight, inverse, share, patient, staying
            )
        )
    return found


def labelled(
    case: Bool[np.ndarray, " row"],
    *,
    weight: Rows | None = None,
    patient: Shaped[np.ndarray, " row"] | None = None,
) -> AtHorizon:
    """What is known of a label without censoring, for SCORES.

    Parameters
    ----------
    case : (row,) bool
        Whether the row has the label.
    weight : (row,) float, optional
        How often each row counts. Default: once.
    patient : (row,), optional
        Which patient each row is of. Default: each row is another patient.

    Returns
    -------
    AtHorizon

    Examples
    --------
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
    """As `at_horizon`, after a check of the risks.

    Parameters
    ----------
    risk : (row,) float
        What is scored.
    time : (row,) float
        From the landmark to the event or the end of observation, >= 0.
    event : (row,) int
        0 = censored, k = cause k.
    horizon : float
        In the unit of `time`.
    cause : int
        The cause that is scored.
    weight : (row,) float or None
        How often each row counts; None: once.
    staying : Censoring or None
        Probability of being uncensored. Default: the Kaplan-Meier estimate of these rows.

    Returns
    -------
    AtHorizon or None
        None where nothing is estimable.
    """
    checked_rows(time, event, weight)
    check_risk(risk, time)
    return at_horizon(time, event, horizon, cause=cause, weight=weight, staying=staying)


def check_risk(risk: Rows, time: Rows) -> None:
    """Refuse risks that are not one finite number a row.

    Parameters
    ----------
    risk : (row,) float
        What is scored.
    time : (row,) float
        As many rows.

    Raises
    ------
    InputError
        With the shapes and the count of what is not finite.
    """
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
    """G at a horizon; where each row has its own, that of a relative hazard of one."""
    if isinstance(staying, CoxCensoring):
        return staying.value[np.searchsorted(staying.at, horizon, "right")]
    return staying.right(horizon)


def _patients(weight: Rows, rows: Bool[np.ndarray, " row"], patient: np.ndarray | None) -> float:
    """Number of patients among these rows, each as often as it was drawn."""
    if patient is None:
        return float(weight[rows].sum())
    _, first = np.unique(patient[rows], return_index=True)
    return float(weight[rows][first].sum())
