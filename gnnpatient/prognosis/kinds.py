"""The kinds of outcome that a model can forecast: what learns and what answers each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.model.heads import HEADS, HeadConfig
from gnnpatient.prognosis.forecast import DiagnosisForecast, Forecast
from gnnpatient.prognosis.multistate import StatesForecast, StatesTarget
from gnnpatient.prognosis.recurrent import RecurrentForecast, RecurrentTarget
from gnnpatient.prognosis.targets import LabelsTarget, LabelTarget, OrderedTarget, SurvivalTarget, Target
from gnnpatient.prognosis.value_target import ProgressionTarget
from gnnpatient.prognosis.values import ProgressionForecast
from gnnpatient.prognosis.worsening import WorseningTarget


@dataclass(frozen=True)
class Kind:
    """What learns from, and what forecasts, one kind of outcome.

    Attributes
    ----------
    target : type
        The class that reads the outcome of each landmark.
    forecast : type
        The class of its forecasts.
    """

    target: type[Target]
    forecast: type[Forecast] | type[DiagnosisForecast] | type[ProgressionForecast]


KINDS: Mapping[str, Kind] = {
    "survival": Kind(SurvivalTarget, Forecast),
    "worsening": Kind(WorseningTarget, Forecast),
    "recurrent": Kind(RecurrentTarget, RecurrentForecast),
    "states": Kind(StatesTarget, StatesForecast),
    "diagnosis": Kind(LabelTarget, DiagnosisForecast),
    "ordered": Kind(OrderedTarget, DiagnosisForecast),
    "labels": Kind(LabelsTarget, DiagnosisForecast),
    "progression": Kind(ProgressionTarget, ProgressionForecast),
}


def target_of(landmarks: Landmarks, name: str) -> Target:
    """Read an outcome at landmarks.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times; those not at risk teach nothing.
    name : str
        Name of the outcome.

    Returns
    -------
    Target

    Raises
    ------
    InputError
        When there is no such outcome, or it has no model.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> target_of(pbc().at(0), "death").causes
    ('transplant', 'death')
    """
    kind = landmarks.cohort.outcomes_with_model([name])[name].kind
    return KINDS[kind].target.of(landmarks, name)


def curve_head(landmarks: Landmarks, name: str, times: tuple[float, ...]) -> HeadConfig:
    """Say what a forecast of curves without a fitted model is of.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times.
    name : str
        Name of an outcome with curves.
    times : tuple of float
        Days after the landmark.

    Returns
    -------
    HeadConfig

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> curve_head(pbc().at(0), "death", (365.0,)).names
    ('transplant', 'death')
    """
    outcome = landmarks.cohort.outcomes_with_model([name])[name]
    if outcome.kind == "states":
        return cast(StatesTarget, target_of(landmarks, name)).config(times)
    config: HeadConfig = HEADS[outcome.kind][0](causes=outcome.names, times=times)
    return config
