"""Every kind of outcome answers the questions that others ask of it."""

from typing import get_args

import numpy as np
import pytest

from gnnpatient.cohort.outcomes import Outcome
from gnnpatient.cohort.survival import Survival

FLAGS = ("has_model", "has_curve", "has_course", "has_own_moments", "has_patient_groups")
KINDS = get_args(Outcome)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_can_do(kind):
    kinds = ("survival", "recurrent", "states", "diagnosis", "ordered", "labels", "progression")
    kinds = (*kinds, "worsening")
    assert kind.kind in kinds and len(kind.name_noun) == 2
    for name in (*FLAGS, "strata", "names", "ends", "at_risk", "open", "truth", "columns", "flow"):
        assert hasattr(kind, name), f"{kind.__name__} lacks {name}"
    assert not kind.has_curve or (kind.has_model and kind.has_course)
    for flag, method in {"has_course": "course", "has_patient_groups": "groups_at"}.items():
        assert not getattr(kind, flag) or hasattr(kind, method)


def test_groups_at_entry_are_those_at_risk(tiny):
    X = tiny.at(3)
    for outcome in tiny.outcomes.values():
        if outcome.has_patient_groups:
            group = outcome.groups_at(X.patient, X.at)
            assert np.array_equal(group >= 0, outcome.at_risk(X.patient, X.at))
            assert group.max() < len(outcome.group_names)


def test_an_event_that_was_taken_back_counted_until_then():
    outcome = Survival(np.array([90]), np.zeros(1, np.int8), ("death",), retracted=np.array([[0, 10, 20]]))
    assert outcome.at_risk(np.zeros(4, np.int64), np.array([9, 10, 19, 20])).tolist() == [
        True,
        False,
        False,
        True,
    ]
