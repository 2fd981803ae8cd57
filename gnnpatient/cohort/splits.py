"""Parts of a cohort: folds and shares of patients, and the times at which landmarks are drawn or scored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gnnpatient.cohort.cohort import ENTRY, Landmarks, check_landmarks
from gnnpatient.errors import InputError
from gnnpatient.times import DAY, YEAR

# Share of all draws that the landmarks at entry have at least; more where there are fewer than five times.
_MIN_ENTRY_SHARE = 0.2


@dataclass(frozen=True)
class PatientKFold:
    """K folds by patient, for scikit-learn: no patient is in both the training and the test part.

    Where the cohort has groups, as hospitals, no group is in both either.

    Parameters
    ----------
    n_splits : int
        Number of folds.
    seed : int
        Of the shuffle.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> X = pbc().landmarks(times=[365, 1095])
    >>> train, test = next(PatientKFold(5).split(X))
    >>> len(set(X[train].ids) & set(X[test].ids))
    0
    """

    n_splits: int = 5
    seed: int = 0

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Give the number of folds.

        Parameters
        ----------
        X, y, groups : object
            Not used; scikit-learn passes them.

        Returns
        -------
        int

        Examples
        --------
        >>> PatientKFold(10).get_n_splits()
        10
        """
        return self.n_splits

    def split(
        self, X: Landmarks, y: np.ndarray | None = None, groups: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Split landmarks into folds.

        Parameters
        ----------
        X : Landmarks
            Landmarks of one cohort.
        y : ndarray, optional
            What `StratifiedPatientKFold` spreads evenly, (landmark,); of a structured array the first field.
        groups : ndarray, optional
            Group of each landmark that is kept together, (landmark,). Default: the groups of the cohort.

        Yields
        ------
        train, test : ndarray
            Positions of the landmarks of both parts, int64.

        Raises
        ------
        InputError
            When `groups` splits the landmarks of a patient, or there are fewer groups than folds.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> [len(test) for _, test in PatientKFold(5).split(pbc().at(0))]
        [63, 63, 62, 62, 62]
        """
        check_landmarks(X, "split")
        group, member = np.unique(X.groups if groups is None else groups, return_inverse=True)
        if len(np.unique([X.patient, member], axis=1).T) > len(np.unique(X.patient)):
            raise InputError(
                "groups split the landmarks of one patient; give every landmark of a patient the same group"
            )
        if not 2 <= self.n_splits <= len(group):
            raise InputError(
                f"n_splits = {self.n_splits} for {len(group)} patients or groups; take 2 to {len(group)}"
            )
        fold = np.empty(len(group), np.int64)
        fold[_deal_order(member, self._strata(X, y), self.seed)] = np.arange(len(group)) % self.n_splits
        fold = fold[member]
        for k in range(self.n_splits):
            yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)

    def _strata(self, X: Landmarks, y: np.ndarray | None) -> np.ndarray | None:
        """What is spread evenly over the folds, one entry a landmark; None: nothing."""
        return None


@dataclass(frozen=True)
class StratifiedPatientKFold(PatientKFold):
    """K folds by patient, with each event or label spread evenly over the folds.

    Parameters
    ----------
    n_splits : int
        Number of folds.
    seed : int
        Of the shuffle.
    outcome : str, optional
        Outcome whose events or labels are spread, where `split` gets no `y`. Default: the first of
        `Cohort.outcome_names`.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> X = pbc().at(0)
    >>> died = X.outcome("death")["event"] == 2
    >>> [int(died[test].sum()) for _, test in StratifiedPatientKFold(5, outcome="death").split(X)]
    [28, 28, 28, 28, 28]
    """

    outcome: str | None = None

    def _strata(self, X: Landmarks, y: np.ndarray | None) -> np.ndarray | None:
        if y is None:
            name = self.outcome or X.cohort.outcome_names()[0]
            outcome = X.cohort.outcomes[name]
            if outcome.strata is None:
                raise InputError(
                    f"outcome {name!r} is a {outcome.kind}; give y, one entry a landmark, to spread"
                )
            return outcome.strata[X.patient]
        return y[y.dtype.names[0]] if y.dtype.names else y


def _deal_order(member: np.ndarray, strata: np.ndarray | None, seed: int) -> np.ndarray:
    """The groups in the order in which they are dealt out to parts: (group,) int64.

    They are shuffled, then sorted by stratum, so that taking every k-th spreads each stratum evenly. The
    stratum of a group is the highest of its members.
    """
    size = int(member.max(initial=-1)) + 1
    shuffled = np.random.default_rng(seed).permutation(size)
    if strata is None:
        return shuffled
    stratum = np.zeros(size, np.int64)
    np.maximum.at(stratum, member, np.unique(strata, return_inverse=True)[1])
    return shuffled[np.argsort(stratum[shuffled], kind="stable")]


def deal_share(member: np.ndarray, strata: np.ndarray | None, share: float, seed: int) -> np.ndarray:
    """Draw a share of the groups, of each stratum in proportion.

    Parameters
    ----------
    member : ndarray
        Number of each row's group, from 0, (row,) int64; a group is drawn as a whole.
    strata : ndarray or None
        What is spread evenly, (row,). None: nothing.
    share : float
        From 0 to 1.
    seed : int
        Of the shuffle.

    Returns
    -------
    ndarray
        Whether each row is drawn, (row,) bool.

    Examples
    --------
    >>> int(deal_share(np.arange(10), None, 0.3, seed=0).sum())
    3
    """
    order = _deal_order(member, strata, seed)
    # The sum crosses a whole number at every 1/share-th group.
    step = np.floor(np.arange(len(order) + 1) * share + 0.5)
    drawn = np.zeros(len(order), bool)
    drawn[order] = np.diff(step) > 0
    return drawn[member]


def landmark_weights(moments: np.ndarray) -> np.ndarray:
    """Give the weight of each landmark in training.

    Every prediction time counts the same, but entry at least a fifth: there every patient has a landmark.

    Parameters
    ----------
    moments : ndarray
        `Landmarks.moments`, (landmark,) int64.

    Returns
    -------
    ndarray
        (landmark,) float64, with a mean of one.

    Examples
    --------
    >>> landmark_weights(np.array([10, 10, 10, 20])).round(2)
    array([0.67, 0.67, 0.67, 2.  ])
    """
    at, which, count = np.unique(moments, return_inverse=True, return_counts=True)
    return (len(moments) * landmark_shares(at) / count)[which]


def landmark_shares(at: np.ndarray) -> np.ndarray:
    """Give the probability with which each prediction time is drawn.

    Parameters
    ----------
    at : ndarray
        Different values of `Landmarks.moments`, (time,) int64.

    Returns
    -------
    ndarray
        (time,) float64, with a sum of one.

    Examples
    --------
    >>> landmark_shares(np.array([ENTRY, 10, 20, 30, 40, 50, 60, 70, 80])).tolist()
    [0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    """
    share = np.full(len(at), 1 / max(1, len(at)))
    if len(at) > 1 / _MIN_ENTRY_SHARE and (entry := at == ENTRY).any():
        share = np.where(entry, _MIN_ENTRY_SHARE, (1 - _MIN_ENTRY_SHARE) / (len(at) - 1))
    return share


def default_landmarks(ends: np.ndarray) -> list[float]:
    """Give the prediction times at which a cohort is scored unless others are named.

    Parameters
    ----------
    ends : ndarray
        Second until which each patient can have landmarks, (patient,) int64.

    Returns
    -------
    list of float
        Days: 1, 3 and 5 years where half of the patients reach the last, else quarters of their median time.

    Examples
    --------
    >>> default_landmarks(np.array([80, 100, 120]) * DAY)
    [25.0, 50.0, 75.0]
    """
    end = float(np.median(ends)) / DAY
    if end >= 5 * YEAR:
        return [y * YEAR for y in (1, 3, 5)]
    return [float(f"{end * q:.2g}") for q in (0.25, 0.5, 0.75)]


def default_horizons(last: float) -> list[float]:
    """Give the horizons at which forecasts are scored unless others are named.

    Parameters
    ----------
    last : float
        Days that the forecasts reach.

    Returns
    -------
    list of float
        Days: 1, 3 and 5 years as far as they are reached, else thirds of `last`.

    Examples
    --------
    >>> default_horizons(1500.0)
    [365.25, 1095.75]
    """
    years = [y * YEAR for y in (1, 3, 5) if y * YEAR <= last * (1 + 1e-9)]
    return years if len(years) > 1 else [last / 3, 2 * last / 3, last]
