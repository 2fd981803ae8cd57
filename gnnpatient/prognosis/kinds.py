"""The kinds of outcome that a model can forecast: what learns and what answers each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.prognosis.forecast import DiagnosisForecast, Forecast
from gnnpatient.prognosis.targets import LabelTarget, SurvivalTarget, Target


@dataclass(frozen=True)
class Kind:
    """What learns and answers one kind of outcome."""

    target: type[Target]
    forecast: type[Forecast] | type[DiagnosisForecast]


KINDS: Mapping[str, Kind] = {
    "survival": Kind(SurvivalTarget, Forecast),
    "diagnosis": Kind(LabelTarget, DiagnosisForecast),
}


def target_of(landmarks: Landmarks, name: str) -> Target:
    """What came of each landmark, of one outcome; one that is not at risk teaches nothing."""
    kind = landmarks.cohort.outcomes_with_model([name])[name].kind
    return KINDS[kind].target.of(landmarks, name)
