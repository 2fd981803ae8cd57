"""The kinds of outcome, and the one configuration of a model."""

import inspect
from dataclasses import fields

import pytest

from gnnpatient import PrognosisModel
from gnnpatient.model.heads import HEADS, head_config
from gnnpatient.model.model import ModelConfig
from gnnpatient.prognosis.kinds import KINDS
from gnnpatient.prognosis.problem import FitConfig


def test_every_kind_has_a_head_and_every_head_a_kind():
    assert set(KINDS) == set(HEADS)
    for kind in KINDS.values():
        assert not getattr(kind.target, "__abstractmethods__", None)


@pytest.mark.parametrize("config", [ModelConfig, FitConfig])
def test_the_parameters_of_the_model_have_the_defaults_of_its_configurations(config):
    parameters = inspect.signature(PrognosisModel).parameters
    for field in fields(config):
        if field.name not in ("kind_dropout", "relations"):  # it depends on the cohort; all
            assert parameters[field.name].default == field.default, field.name


def test_a_head_without_a_time_grid_has_no_times():
    labels = head_config({"kind": "diagnosis", "classes": ["no", "yes"]})
    assert labels.times == () and labels.shape == (2,)
    curves = head_config({"kind": "survival", "causes": ["a"], "times": [1.0, 2.0]})
    assert curves.times == (1.0, 2.0) and curves.shape == (2, 2)
