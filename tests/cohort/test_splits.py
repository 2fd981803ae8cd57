"""Splits that divide no patient, and spread what is rare."""

import numpy as np
import pytest

from gnnpatient.errors import InputError


@pytest.mark.parametrize("name", ["PatientKFold", "StratifiedPatientKFold"])
def test_nobody_stands_on_both_sides(tiny, name):
    import gnnpatient

    X = tiny.landmarks(times=[0, 2, 4]).followed()
    folds = list(getattr(gnnpatient, name)(4, seed=3).split(X))
    tested = np.concatenate([test for _, test in folds])
    assert sorted(tested) == list(range(len(X)))
    for train, test in folds:
        assert sorted([*train, *test]) == list(range(len(X)))
        assert not set(X[train].ids) & set(X[test].ids)
        sites = [set(tiny.group[X[side].patient]) - {""} for side in (train, test)]
        assert not sites[0] & sites[1]
    again = list(getattr(gnnpatient, name)(4, seed=3).split(X))
    assert all((a[1] == b[1]).all() for a, b in zip(folds, again, strict=True))


def test_strata_are_spread_evenly(tiny):
    from dataclasses import replace

    from gnnpatient import StratifiedPatientKFold

    X = replace(tiny, group=None).at(0).followed()
    y = X.outcome("death")
    for labels in (None, y, y["event"]):
        counts = [
            np.bincount(y["event"][test], minlength=3)
            for _, test in StratifiedPatientKFold(4).split(X, labels)
        ]
        assert (np.ptp(counts, axis=0) <= 1).all()


def test_folds_that_cannot_be(tiny):
    from gnnpatient import PatientKFold

    X = tiny.landmarks(times=[0, 2])
    with pytest.raises(InputError, match="n_splits = 500"):
        list(PatientKFold(500).split(X))
    with pytest.raises(InputError, match="groups split the landmarks of one patient"):
        list(PatientKFold(2).split(X, groups=np.arange(len(X))))


def test_scikit_learn_splits_landmarks(tiny):
    from sklearn.base import BaseEstimator
    from sklearn.model_selection import GroupKFold, cross_val_score

    from gnnpatient import PatientKFold

    class Counting(BaseEstimator):
        def fit(self, X, y):
            self.seen_ = set(X.ids)
            return self

        def score(self, X, y):
            assert len(X) == len(y) and (X.outcome("death") == y).all()
            return len(self.seen_ & set(X.ids))

    X = tiny.landmarks(times=[0, 3]).followed()
    for cv, groups in ((PatientKFold(3), None), (GroupKFold(3), X.groups)):
        assert cross_val_score(Counting(), X, X.outcome(), cv=cv, groups=groups).tolist() == [0, 0, 0]
