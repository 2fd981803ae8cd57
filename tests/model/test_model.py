import json
from dataclasses import replace

import pytest
import torch

from gnnpatient.errors import InputError
from gnnpatient.model.encode import fit_bases, fit_vocabulary
from gnnpatient.model.heads import SurvivalConfig
from gnnpatient.model.model import ModelConfig, PatientGNN

HEADS = {
    "death": SurvivalConfig(causes=("transplant", "death"), times=(365.25, 730.5)),
    "type": SurvivalConfig(causes=("any",), times=(30.0, 60.0, 90.0)),
}


def make_model(graphs, **choices):
    torch.manual_seed(0)
    vocabulary = fit_vocabulary(graphs)
    model = PatientGNN(ModelConfig(channels=8, **choices), vocabulary, tuple(graphs.edges), HEADS)
    model.encode.start(fit_bases(graphs))
    with torch.no_grad():  # as if trained: nothing at its neutral start
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("conv", ["sage", "gatv2", "hgt", "transformer"])
def test_alone_or_together(make_graphs, one, conv):
    graphs = make_graphs(5, asks=8, nobody=(2,), pictures=5)
    model = make_model(graphs, conv=conv)
    assert set(model.vocabulary.vectors) == {"image.ct"} and model.vocabulary.running
    together = model(graphs)
    for ask in range(len(graphs)):
        for name, log_hazard in model(one(graphs, ask)).items():
            torch.testing.assert_close(log_hazard[0], together[name][ask], rtol=1e-5, atol=1e-5)


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


@pytest.mark.parametrize("conv", ["sage", "gatv2", "hgt", "transformer"])
def test_other_cohorts_graphs(make_graphs, conv):
    """A kind of the model that is missing, a kind it never saw, all nodes gone: an answer all the same."""
    graphs = make_graphs(2)
    fewer = replace(
        graphs,
        nodes={k: n for k, n in graphs.nodes.items() if k != "drug"},
        edges={e: i for e, i in graphs.edges.items() if "drug" not in e},
    )
    model = make_model(graphs, conv=conv)
    empty = make_graphs(2, empty=("drug",))
    for x in model(fewer).values():
        assert x.isfinite().all()
    same = replace(
        empty,
        nodes={k: n for k, n in empty.nodes.items() if k != "drug"},
        edges={e: i for e, i in empty.edges.items() if "drug" not in e},
    )
    for a, b in zip(model(empty).values(), model(same).values(), strict=True):
        torch.testing.assert_close(a, b)
    small = make_model(fewer, conv=conv)
    for a, b in zip(small(graphs).values(), small(fewer).values(), strict=True):
        assert torch.equal(a, b)


def test_same_seed_same_bits(graphs):
    def train():
        model = make_model(graphs, node_dropout=0.2).train()
        optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(3):
            optimiser.zero_grad()
            event, time = torch.tensor([0, 1, 2, 0, 1, 2]), torch.linspace(10.0, 800.0, 6)
            model.head("death").loss(model(graphs)["death"], event, time).mean().backward()
            optimiser.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(train(), train())


def test_config_and_tensors_are_the_whole_model(graphs):
    model = make_model(graphs)
    again = PatientGNN.from_dict(json.loads(json.dumps(model.to_dict(), allow_nan=False)))
    again.load_state_dict(model.state_dict())
    for a, b in zip(model(graphs).values(), again.eval()(graphs).values(), strict=True):
        assert torch.equal(a, b)


def test_start_is_the_answer_before_training(graphs):
    torch.manual_seed(0)
    model = PatientGNN(ModelConfig(), fit_vocabulary(graphs), tuple(graphs.edges), HEADS).eval()
    hazard = torch.tensor([[0.1, 0.2, 0.3]])
    model.head("type").start(hazard)
    answer = model.head("type").predict(model(graphs)["type"])
    assert torch.allclose(answer[:, 0], (1 - hazard[0]).cumprod(0).expand(6, 3))


def test_without_the_linear_path(graphs):
    model = make_model(graphs, linear=False)
    assert model.head("death").shift is None
    assert model(graphs)["death"].isfinite().all()


def test_refusals(graphs):
    with pytest.raises(InputError, match="dropout 1"):
        ModelConfig(dropout=1.0)
    with pytest.raises(InputError, match="death, type"):
        make_model(graphs).head("icu")
