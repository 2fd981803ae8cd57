"""Questions put to a model: patient i, as known at time t. scikit-learn may split, shuffle and group them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from gnnpatient.errors import InputError
from gnnpatient.times import DAY, NEVER, YEAR

if TYPE_CHECKING:
    import polars as pl

    from gnnpatient.cohort.cohort import Cohort

ENTRY = NEVER  # the landmark that is each patient's own entry
ENTRY_SHARE = 0.2  # of all draws of a landmark; more where it is one of fewer than five


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Asks. What lies after `at` does not exist for an ask."""

    cohort: Cohort
    patient: np.ndarray  # (ask,) int64, position in the cohort
    at: np.ndarray  # (ask,) int64 seconds after the patient's origin
    to: np.ndarray | None = None  # (ask,) int64 seconds: the moment that a value is wanted for, after `at`

    def __len__(self) -> int:
        return len(self.patient)

    @property
    def shape(self) -> tuple[int]:
        return (len(self.patient),)

    @property
    def ids(self) -> np.ndarray:
        """The patient's id of each ask: (ask,) str."""
        return self.cohort.ids[self.patient]

    @property
    def days(self) -> np.ndarray:
        """`at` in days after the origin: (ask,) float64."""
        return self.at / DAY

    @property
    def moments(self) -> np.ndarray:
        """Which landmark each ask belongs to: its time, or ENTRY at its patient's entry, whenever that was:
        (ask,) int64."""
        return np.where(self.at == self.cohort.at_entry[self.patient], ENTRY, self.at)

    @property
    def by_landmark(self) -> dict[float, np.ndarray]:
        """Positions of the asks of each landmark, by its day; the day of entry is the median of theirs."""
        at, which = np.unique(self.moments, return_inverse=True)
        days = at / DAY
        if len(at) and at[0] == ENTRY:
            days[0] = np.median(self.days[which == 0])
            if days[0] in days[1:]:  # of other patients, who entered at another time
                days[0] = np.nextafter(days[0], np.inf)
        return {day: np.flatnonzero(which == i) for i, day in enumerate(days.tolist())}

    @property
    def entry_day(self) -> float | None:
        """The day by which `by_landmark` calls entry; None where it is no landmark."""
        return next(iter(self.by_landmark)) if (self.moments == ENTRY).any() else None

    @property
    def early(self) -> np.ndarray:
        """Which asks come on the day of entry, before what was measured on it is known: (ask,) bool."""
        day = self.cohort.entry[self.patient] <= self.at
        return day & (self.at < self.cohort.at_entry[self.patient])

    def __getitem__(self, rows: Any) -> Landmarks:
        rows = rows[0] if isinstance(rows, tuple) else rows
        to = None if self.to is None else np.atleast_1d(self.to[rows])
        return Landmarks(self.cohort, np.atleast_1d(self.patient[rows]), np.atleast_1d(self.at[rows]), to)

    def at_risk(self, outcome: str | None = None) -> np.ndarray:
        """Entered, not failed, still observed: entry <= at < time, (ask,) bool.

        Of a diagnosis: its label not yet known; of a progression: not gone, and with a value to compare with.
        Without a name: for every survival outcome, or every outcome where there is none.
        """
        names = self.cohort.outcome_names() if outcome is None else self.cohort.named(outcome)
        entered = self.cohort.entry[self.patient] <= self.at
        outcomes = (self.cohort.outcomes[name] for name in names)
        return reduce(np.logical_and, (o.at_risk(self.patient, self.at) for o in outcomes), entered)

    def followed(self, outcome: str | None = None) -> Landmarks:
        """The asks of patients who are still at risk then."""
        return self[self.at_risk(outcome)]

    def outcome(self, name: str | None = None) -> np.ndarray:
        """What came of each ask, structured (ask,).

        Survival: event (0 censored, k = k-th cause), time (days). Diagnosis: label (-1 not looked for), time
        until it is known. Progression: see `gnnpatient.cohort.outcomes.Progression.truth`.
        """
        (name,) = self.cohort.outcome_names(one=True) if name is None else self.cohort.named(name)
        if not (risk := self.at_risk(name)).all():
            raise InputError(
                f"{int((~risk).sum())} of {len(self)} asks come when the patient is not at risk of {name!r}; "
                f"keep the others with .followed({name!r})"
            )
        return self.cohort.outcomes[name].truth(self.patient, self.at, self.to)

    @property
    def groups(self) -> np.ndarray:
        """What splits must not part: the patient's group, or the patient: (ask,) int64."""
        return self.cohort.groups[self.patient]

    def to_frame(self) -> pl.DataFrame:
        """One row an ask: statics, and of each code the last value, its age in days and a count."""
        return self.cohort.frame(self)


def together(*parts: Landmarks) -> Landmarks:
    """Asks of one cohort, one part after the other; none wants a value for a later moment."""
    cohort = parts[0].cohort
    if any(part.cohort is not cohort for part in parts):
        raise InputError("the parts ask different cohorts; score each cohort on its own")
    return Landmarks(
        cohort, np.concatenate([part.patient for part in parts]), np.concatenate([part.at for part in parts])
    )


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
        fold = self._deal(X, y, group, member)[member]
        for k in range(self.n_splits):
            yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)

    def _deal(self, X: Landmarks, y: np.ndarray | None, group: np.ndarray, member: np.ndarray) -> np.ndarray:
        """The fold of each group."""
        fold = np.empty(len(group), np.int64)
        fold[np.random.default_rng(self.seed).permutation(len(group))] = np.arange(len(group)) % self.n_splits
        return fold


@dataclass(frozen=True)
class StratifiedPatientKFold(PatientKFold):
    """As PatientKFold, with each event or label spread evenly over the folds.

    `y`, one entry an ask, says what to spread; without it, that of `outcome` (default: the first one).
    """

    outcome: str | None = None

    def _deal(self, X: Landmarks, y: np.ndarray | None, group: np.ndarray, member: np.ndarray) -> np.ndarray:
        if y is None:
            name = self.outcome or X.cohort.outcome_names()[0]
            outcome = X.cohort.outcomes[name]
            if outcome.strata is None:
                raise InputError(f"outcome {name!r} is a {outcome.kind}; give y, one entry an ask, to spread")
            y = outcome.strata[X.patient]
        elif y.dtype.names:
            y = y[y.dtype.names[0]]
        stratum = np.zeros(len(group), np.int64)
        np.maximum.at(stratum, member, np.unique(y, return_inverse=True)[1])
        shuffled = np.random.default_rng(self.seed).permutation(len(group))
        fold = np.empty(len(group), np.int64)
        fold[shuffled[np.argsort(stratum[shuffled], kind="stable")]] = np.arange(len(group)) % self.n_splits
        return fold


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


def few_landmarks(ends: np.ndarray) -> list[float]:
    """1, 3 and 5 years if half of the patients can be asked until then, else quarters of that time (days).

    ends: (patient,) seconds until which each can be asked.
    """
    end = float(np.median(ends)) / DAY
    if end >= 5 * YEAR:
        return [y * YEAR for y in (1, 3, 5)]
    return [float(f"{end * q:.2g}") for q in (0.25, 0.5, 0.75)]


def few_horizons(last: float) -> list[float]:
    """1, 3 and 5 years where a forecast of `last` days reaches them, else thirds of it (days)."""
    years = [y * YEAR for y in (1, 3, 5) if y * YEAR <= last * (1 + 1e-9)]
    return years if len(years) > 1 else [last / 3, 2 * last / 3, last]
