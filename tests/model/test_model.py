import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from gnnpatient.errors import InputError
from gnnpatient.model.heads import SurvivalConfig
from gnnpatient.model.model import ModelConfig, PatientGNN
from gnnpatient.model.vocabulary import fit_vocabulary

HEADS = {
    "death": SurvivalConfig(causes=("transplant", "death"), times=(365.25, 730.5)),
    "type": SurvivalConfig(causes=("any",), times=(30.0, 60.0, 90.0)),
}


def make_model(graphs, **choices):
    torch.manual_seed(0)
    model = PatientGNN.for_graphs(graphs, HEADS, channels=8, **choices)
    with torch.no_grad():  # as if trained: nothing at its neutral start
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def test_shapes_and_no_nan_with_missing_values(make_graphs):
    graphs = make_graphs(1)
    assert graphs["lab"].value.isnan().any() and graphs.statics.number.isnan().any()
    model = make_model(graphs).train()
    out = model(graphs)
    assert {name: tuple(x.shape) for name, x in out.items()} == {"death": (6, 3, 2), "type": (6, 2, 3)}
    event, time = torch.tensor([0, 1, 2, 0, 1, 2]), torch.linspace(10.0, 800.0, 6)
    model.head("death").loss(out["death"], event, time).mean().backward()
    assert all(x.isfinite().all() for x in out.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("conv", ["temporal", "sage", "gatv2", "hgt", "gru", "transformer"])
def test_other_cohorts_graphs(make_graphs, conv):
    """A kind of the model that is missing, a kind it never saw, all nodes gone: an answer all the same."""
    graphs = make_graphs(2)

    def without_drugs(graphs):
        return replace(
            graphs,
            nodes={k: n for k, n in graphs.nodes.items() if k != "drug"},
            edges={e: i for e, i in graphs.edges.items() if "drug" not in e},
        )

    model, empty = make_model(graphs, conv=conv), make_graphs(2, empty=("drug",))
    for a, b in zip(model(empty).values(), model(without_drugs(empty)).values(), strict=True):
        torch.testing.assert_close(a, b)
    nothing = make_graphs(2, empty=("drug", "lab", "image.ct"))
    for x in (*model(without_drugs(graphs)).values(), *model(nothing).values()):
        assert x.isfinite().all()
    small = make_model(without_drugs(graphs), conv=conv)
    for a, b in zip(small(graphs).values(), small(without_drugs(graphs)).values(), strict=True):
        assert torch.equal(a, b)


def test_missing_is_not_zero(graphs):
    model = make_model(graphs)
    table = model.tabulate(graphs)
    zero = replace(table, x=table.x.clone())
    zero.x[:, 0], zero.x[:, 1] = 0.0, 1.0
    missing = replace(table, x=zero.x.clone())
    missing.x[:, 1] = 0.0
    assert not torch.allclose(model(zero)["death"], model(missing)["death"])


def test_config_and_tensors_are_the_whole_model(make_graphs):
    graphs = make_graphs(1, asks=9, pictures=5)
    model = make_model(graphs)
    again = PatientGNN.from_dict(json.loads(json.dumps(model.to_dict(), allow_nan=False)))
    again.load_state_dict(model.state_dict())
    assert again.bases().keys() == {"image.ct"}
    for a, b in zip(model(graphs).values(), again.eval()(graphs).values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("conv", ["temporal", "gru"])
def test_start_is_the_answer_before_training(graphs, conv):
    torch.manual_seed(0)
    model = PatientGNN(ModelConfig(conv=conv), fit_vocabulary(graphs), HEADS).eval()
    hazard = torch.tensor([[0.1, 0.2, 0.3]])
    model.head("type").start(hazard)
    answer = model.head("type").predict(model(graphs)["type"])
    assert torch.allclose(answer[:, 0], (1 - hazard[0]).cumprod(0).expand(6, 3))


class Squares(nn.Module):
    """An encoder of one's own."""

    def __init__(self, features, channels):
        super().__init__()
        self.linear = nn.Linear(features, channels)

    def forward(self, x):
        return self.linear(x.square())


def test_an_encoder_of_ones_own_is_added_to_its_node_type(make_graphs):
    graphs = make_graphs(1, asks=9, pictures=5)
    model = make_model(graphs, encoders={"image.ct": Squares})
    table = model.tabulate(graphs)
    mine = table.kind == 1
    x = model.encode.rows(table)
    wanted = model.encode.own[0](torch.cat([table.x, table.vector], 1))
    again = PatientGNN.from_dict(json.loads(json.dumps(model.to_dict())), {"Squares": Squares})
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(graphs)["death"], model(graphs)["death"])
    with torch.no_grad():
        for parameter in model.encode.own.parameters():
            parameter.zero_()
    torch.testing.assert_close(x - model.encode.rows(table), wanted * mine[:, None])
    assert mine.any() and not mine.all()
    with pytest.raises(InputError, match="Squares"):
        PatientGNN.from_dict(model.to_dict())
    with pytest.raises(InputError, match=r"did you mean 'image\.ct'"):
        make_model(graphs, encoders={"image.mr": Squares})


def test_refusals(graphs):
    with pytest.raises(InputError, match="dropout 1"):
        ModelConfig(dropout=1.0)
    with pytest.raises(InputError, match="num_layers 0"):
        ModelConfig(num_layers=0)
    with pytest.raises(InputError, match="death, type"):
        make_model(graphs).head("icu")


@pytest.mark.parametrize("conv", ["temporal", "sage", "gatv2", "hgt", "gru", "transformer"])
def test_without_a_relation_and_without_a_row(make_graphs, conv):
    """One row a landmark at most, or none at all: the statics alone answer."""
    nothing = make_graphs(2, empty=("drug", "lab", "image.ct"))
    model = make_model(nothing, conv=conv)
    assert model.vocabulary.relations == ()
    assert model(nothing)["death"].isfinite().all() and model(make_graphs(3))["death"].isfinite().all()
    moved = replace(nothing, statics=replace(nothing.statics, number=nothing.statics.number + 5))
    assert not torch.allclose(model(nothing)["death"], model(moved)["death"])


def test_what_is_rare_or_unknown_starts_without_a_voice_of_its_own(make_graphs):
    model = PatientGNN.for_graphs(make_graphs(1), HEADS, channels=8)
    first = [sum(len(names) for names in list(model.vocabulary.codes.values())[:i]) for i in range(2)]
    for own in (model.encode.code.own, model.pool.code):
        assert (own[first] == 0).all() and (own[first[0] + 1 : first[1]] != 0).all()
