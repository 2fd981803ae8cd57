"""Reading the labels of an outcome goes through one dict: a kind of outcome is a file and a line of it."""

from typing import get_args

from gnnpatient.ingest import labels
from gnnpatient.spec.outcomes import OutcomeSpec


def test_every_kind_of_outcome_has_a_reader():
    assert set(labels._READERS) == set(get_args(OutcomeSpec))
