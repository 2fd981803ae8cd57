"""Labels of progressions: made from the packed rows of the values that they follow, once these are there."""

from __future__ import annotations

from gnnpatient.ingest.record import Codes, Draft, FollowUp, LabelReader
from gnnpatient.spec.outcomes import ProgressionSpec


def _read(record: FollowUp, name: str, spec: ProgressionSpec, draft: Draft | None) -> None:
    return None


def _followed(spec: ProgressionSpec) -> Codes:
    return [(spec.node, spec.codes)]


PROGRESSION = LabelReader(read=_read, followed=_followed)
"""How the labels of a progression are read."""
