"""Who is compared with whom in the target-leakage check: cases, and controls of the same fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.cohort.splits import PatientKFold
from gnnpatient.cohort.survival import Survival
from gnnpatient.times import DAY, NEVER, YEAR

NEAR_DAYS = 30.0  # days before the event
MIN_CASES = 10  # cases, and different controls; with fewer there is no verdict
FOLDS = 5
MAX_CASES, MAX_CONTROLS = 300, 30  # drawn at most, of a cause and for each case: enough for an AUC to +- .03


class QueryTimes(NamedTuple):
    """When cases and their controls are judged.

    Attributes
    ----------
    case : (case,) int64 array
        Seconds after the origin.
    control : (case, control) int64 array
        The same of the controls of each case.
    mask : (case, control) bool array
        Both have entered, and the control is at risk.
    """

    case: np.ndarray  # (case,) int64 seconds
    control: np.ndarray  # (case, control) int64 seconds
    mask: np.ndarray  # (case, control) bool: both have entered, and the control is at risk

    def of(self, keep: np.ndarray) -> QueryTimes:
        """Those of some cases.

        Parameters
        ----------
        keep : (case,) int64 array
            Positions of the cases.

        Returns
        -------
        QueryTimes
        """
        return QueryTimes(self.case[keep], self.control[keep], self.mask[keep])


@dataclass(frozen=True, eq=False)
class MatchedCases:
    """Cases and their controls, judged near and far from the event, or once.

    A control outside the mask is nobody.

    Attributes
    ----------
    case : (case,) int64 array
        Positions in the cohort.
    control : (case, control) int64 array
        The same of the controls of each case.
    fold : (case,) int64 array
        Of the case; its controls are of the same one.
    near : QueryTimes
        Just before the event, or the only moment.
    far : QueryTimes or None
        Long before the event.
    span : int or None
        Seconds that count as near; None where there is one moment only.
    when : str
        Where an AUC of `near` belongs, in words.
    """

    case: np.ndarray  # (case,) int64, position in the cohort
    control: np.ndarray  # (case, control) int64
    fold: np.ndarray  # (case,) int64; the controls are of the same one
    near: QueryTimes
    far: QueryTimes | None = None
    span: int | None = None
    when: str = "just before it"

    def __len__(self) -> int:
        return len(self.case)

    @property
    def has_enough(self) -> bool:
        """Whether there are at least 10 cases, and 10 different controls."""
        there = self.case, self.control[self.near.mask]
        return all(len(np.unique(patient)) >= MIN_CASES for patient in there)

    def comparable(self) -> MatchedCases:
        """Without the cases that nobody can be compared with.

        Returns
        -------
        MatchedCases
        """
        keep = np.flatnonzero(self.near.mask.any(1))
        kept = replace(self, case=self.case[keep], control=self.control[keep], fold=self.fold[keep])
        return replace(kept, near=self.near.of(keep), far=self.far and self.far.of(keep))

    def split(self, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A column over all landmarks, the cases and then the controls row by row, in its two parts.

        Parameters
        ----------
        column : (landmark, ...) array

        Returns
        -------
        case : (case, ...) array
        control : (case, control, ...) array
        """
        return column[: len(self)], column[len(self) :].reshape(*self.control.shape, *column.shape[1:])


ControlSets = tuple[MatchedCases, ...]
"""One comparison, or several of the same cases: then the lowest AUC counts."""


def patient_folds(cohort: Cohort, seed: int) -> np.ndarray:
    """The fold of each patient, whole groups together. One group alone cannot be held out, so it is parted.

    Parameters
    ----------
    cohort : Cohort
    seed : int

    Returns
    -------
    (patient,) int64 array
    """
    origins = Landmarks(cohort, np.arange(len(cohort)), np.zeros(len(cohort), np.int64))
    groups = origins.groups if len(np.unique(origins.groups)) > 1 else origins.patient
    fold = np.zeros(len(cohort), np.int64)
    parts = min(FOLDS, len(np.unique(groups)))
    if parts > 1:
        for k, (_, test) in enumerate(PatientKFold(parts, seed).split(origins, groups=groups)):
            fold[test] = k
    return fold


def near_and_far(end: np.ndarray, entry: np.ndarray, case: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Moments near and far from the end of each patient.

    Parameters
    ----------
    end, entry : (patient,) int64 array
        Seconds after the origin.
    case : (case,) int64 array
        Positions of the cases, which decide how far is far.

    Returns
    -------
    near, far : (patient,) int64 array
        Seconds after the origin.
    span : int
        Seconds that count as near.
    """
    length = end - entry
    long = bool((length[case] > YEAR * DAY).sum() >= MIN_CASES)
    longest = length[case].max()
    span = int(min(NEAR_DAYS * DAY, longest if long else longest / 10))
    return end - 1, end - (int(YEAR * DAY) + 1 if long else length - length // 2), span


def matched_at_event(
    cohort: Cohort, truth: Survival, k: int, fold: np.ndarray, seed: int
) -> Iterator[MatchedCases]:
    """The cases of a cause with controls at the same moment: those at risk, then those without the event.

    Parameters
    ----------
    cohort : Cohort
    truth : Survival
    k : int
        Which cause, from 1.
    fold : (patient,) int64 array
    seed : int
        Of the controls.

    Yields
    ------
    MatchedCases
        Two, or none with fewer than 10 cases.
    """
    rng, entry = np.random.default_rng(seed), cohort.entry
    known = (truth.time != NEVER) & (truth.time > entry)
    case = np.flatnonzero(known & (truth.event == k))
    if len(case) < MIN_CASES:
        return
    late, early, span = near_and_far(truth.time, entry, case)
    case = np.sort(rng.permutation(case)[:MAX_CASES])
    near, far = late[case], early[case]
    for never in (False, True):

        def fits(rows: np.ndarray, pool: np.ndarray, never: bool = never) -> np.ndarray:
            has, at = truth.event[pool] == k, near[rows, None]
            fit = (entry[pool] <= at) & (truth.time[pool] > at)
            return fit & (~has if never else ~(has & (truth.time[pool] <= at + 1 + span)))

        control, mask = _draw_controls(case, np.flatnonzero(known), fold, fits, rng)
        before = mask & (entry[case] <= far)[:, None] & (entry[control] <= far[:, None])
        near_, far_ = (np.broadcast_to(at[:, None], mask.shape) for at in (near, far))
        query = QueryTimes(near, near_, mask), QueryTimes(far, far_, before)
        yield MatchedCases(case, control, fold[case], *query, span).comparable()


def matched_at_own_time(
    cohort: Cohort,
    patient: np.ndarray,
    case: np.ndarray,
    others: np.ndarray,
    fold: np.ndarray,
    seed: int,
    near: np.ndarray,
    far: np.ndarray | None = None,
    span: int | None = None,
    when: str = "",
) -> MatchedCases:
    """Cases with controls of the other classes, each judged at a moment of its own.

    Parameters
    ----------
    cohort : Cohort
    patient : (landmark,) int64 array
        Whose each landmark is.
    case, others : int64 array
        Positions of the cases and of possible controls among the landmarks.
    fold : (patient,) int64 array
    seed : int
        Of the controls.
    near, far : (landmark,) int64 array
        Seconds after the origin; without `far` there is one moment only.
    span : int, optional
        Seconds that count as near.
    when : str
        Where an AUC of `near` belongs, in words.

    Returns
    -------
    MatchedCases
    """
    rng = np.random.default_rng(seed)
    case = np.sort(rng.permutation(case)[:MAX_CASES])

    def fits(rows: np.ndarray, pool: np.ndarray) -> np.ndarray:
        return patient[pool] != patient[case[rows], None]

    control, mask = _draw_controls(case, others, fold[patient], fits, rng)
    drawn = MatchedCases(
        patient[case],
        patient[control],
        fold[patient[case]],
        QueryTimes(near[case], near[control], mask),
        span=span,
        when=when,
    )
    if far is not None:
        entered = cohort.entry[patient] <= far
        before = mask & entered[case, None] & entered[control]
        drawn = replace(drawn, far=QueryTimes(far[case], far[control], before))
    return drawn.comparable()


def _draw_controls(
    case: np.ndarray,
    others: np.ndarray,
    fold: np.ndarray,
    fits: Callable[[np.ndarray, np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Controls of each case among others of its fold, and which of them are there: (case, control) each.

    fits(rows, pool): which of the pool can be controls of these rows of `case`, (row, pool) bool.
    """
    control = np.zeros((len(case), MAX_CONTROLS), np.int64)
    mask = np.zeros((len(case), MAX_CONTROLS), bool)
    for f in np.unique(fold[case]):
        rows, pool = np.flatnonzero(fold[case] == f), others[fold[others] == f]
        if len(pool):
            fit = fits(rows, pool)
            lot = rng.random(fit.shape) + ~fit  # those who fit come first
            order = np.argpartition(lot, min(MAX_CONTROLS, len(pool)) - 1, axis=1)[:, :MAX_CONTROLS]
            control[rows, : order.shape[1]] = pool[order]
            mask[rows, : order.shape[1]] = np.take_along_axis(fit, order, 1)
    return control, mask
