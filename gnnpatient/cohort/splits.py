"""Parts of a cohort: folds by patient, and the landmarks that are drawn and scored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gnnpatient.cohort.cohort import ENTRY, Landmarks
from gnnpatient.errors import InputError
from gnnpatient.times import DAY, YEAR

ENTRY_SHARE = 0.2  # of all draws of a landmark; more where it is one of fewer than five


@dataclass(frozen=True)
class PatientKFold:
    """K folds by patient (and by group, where the cohort has one): nobody stands on both sides.

    >>> from gnnpatient.datasets.shipped import pbc
    >>> X = pbc().landmarks(times=[365, 1095])
    >>> train, test = next(PatientKFold(5).split(X))
    >>> len(set(X[train].ids) & set(X[test].ids))
    0
    """

    n_splits: int = 5
    seed: int = 0

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        return self.n_splits

    def split(
        self, X: Landmarks, y: np.ndarray | None = None, groups: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions of the training and the test asks of each fold."""
        group, member = np.unique(X.groups if groups is None else groups, return_inverse=True)
        if len(np.unique([X.patient, member], axis=1).T) > len(np.unique(X.patient)):
            raise InputError(
                "groups part the asks of one patient; give every ask of a patient the same group"
            )
        if not 2 <= self.n_splits <= len(group):
            raise InputError(
                f"n_splits = {self.n_splits} for {len(group)} patients or groups; take 2 to {len(group)}"
            )
        fold = np.empty(len(group), np.int64)
        fold[deal_order(member, self._strata(X, y), self.seed)] = np.arange(len(group)) % self.n_splits
        fold = fold[member]
        for k in range(self.n_splits):
            yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)

    def _strata(self, X: Landmarks, y: np.ndarray | None) -> np.ndarray | None:
        """What is spread evenly over the folds, one entry a landmark; None: nothing."""
        return None


@dataclass(frozen=True)
class StratifiedPatientKFold(PatientKFold):
    """As PatientKFold, with each event or label spread evenly over the folds.

    `y`, one entry an ask, says what to spread; without it, that of `outcome` (default: the first one).
    """

    outcome: str | None = None

    def _strata(self, X: Landmarks, y: np.ndarray | None) -> np.ndarray | None:
        if y is None:
            name = self.outcome or X.cohort.outcome_names()[0]
            outcome = X.cohort.outcomes[name]
            if outcome.strata is None:
                raise InputError(f"outcome {name!r} is a {outcome.kind}; give y, one entry an ask, to spread")
            return outcome.strata[X.patient]
        return y[y.dtype.names[0]] if y.dtype.names else y


def deal_order(member: np.ndarray, strata: np.ndarray | None, seed: int) -> np.ndarray:
    """The groups in the order in which they are dealt out to folds: (group,) int64.

    They are shuffled, then sorted by stratum, so that whoever takes every k-th spreads each stratum evenly.
    A group's stratum is the highest of its members.

    member: (row,) int64, the group of each row; strata: (row,) what is spread, None = nothing.
    """
    size = int(member.max(initial=-1)) + 1
    shuffled = np.random.default_rng(seed).permutation(size)
    if strata is None:
        return shuffled
    stratum = np.zeros(size, np.int64)
    np.maximum.at(stratum, member, np.unique(strata, return_inverse=True)[1])
    return shuffled[np.argsort(stratum[shuffled], kind="stable")]


def deal_share(member: np.ndarray, strata: np.ndarray | None, share: float, seed: int) -> np.ndarray:
    """A share of the groups, each stratum in proportion: (row,) bool. See `deal_order`."""
    order = deal_order(member, strata, seed)
    # the sum crosses a whole number at every 1/share-th group
    step = np.floor(np.arange(len(order) + 1) * share + 0.5)
    chosen = np.zeros(len(order), bool)
    chosen[order] = np.diff(step) > 0
    return chosen[member]


def landmark_weights(moments: np.ndarray) -> np.ndarray:
    """How often a draw takes each ask, with a mean of one, where `moments` are their landmarks: first a
    landmark, then an ask. Every landmark counts the same, but entry at least a fifth of all: there everybody
    is asked once.
    """
    at, which, count = np.unique(moments, return_inverse=True, return_counts=True)
    return (len(moments) * landmark_shares(at) / count)[which]


def landmark_shares(at: np.ndarray) -> np.ndarray:
    """How often each of some landmarks is drawn, summing to one: (landmark,).

    >>> landmark_shares(np.array([ENTRY, 10, 20, 30, 40, 50, 60, 70, 80])).tolist()
    [0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    """
    share = np.full(len(at), 1 / max(1, len(at)))
    if len(at) > 1 / ENTRY_SHARE and (entry := at == ENTRY).any():
        share = np.where(entry, ENTRY_SHARE, (1 - ENTRY_SHARE) / (len(at) - 1))
    return share


def default_landmarks(ends: np.ndarray) -> list[float]:
    """1, 3 and 5 years if half of the patients can be asked until then, else quarters of that time (days).

    ends: (patient,) seconds until which each can be asked.
    """
    end = float(np.median(ends)) / DAY
    if end >= 5 * YEAR:
        return [y * YEAR for y in (1, 3, 5)]
    return [float(f"{end * q:.2g}") for q in (0.25, 0.5, 0.75)]


def default_horizons(last: float) -> list[float]:
    """1, 3 and 5 years where a forecast of `last` days reaches them, else thirds of it (days)."""
    years = [y * YEAR for y in (1, 3, 5) if y * YEAR <= last * (1 + 1e-9)]
    return years if len(years) > 1 else [last / 3, 2 * last / 3, last]
