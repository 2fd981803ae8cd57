"""Every layer of LAYERS, one of a user's own, and PyG's as they are: the laws of the graphs hold for them."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from gnnpatient import build_graphs, read_cohort, read_spec
from gnnpatient.errors import InputError
from gnnpatient.graphs import Graphs
from gnnpatient.model import layers as module
from gnnpatient.model.heads import SurvivalConfig
from gnnpatient.model.layers import LAYERS, GraphSAGE, Layer, Transformer, make_layer, mean_of
from gnnpatient.model.model import ModelConfig, PatientGNN
from gnnpatient.model.table import RELATIONS, tabulate
from gnnpatient.model.vocabulary import fit_vocabulary

HEADS = {"death": SurvivalConfig(causes=("transplant", "death"), times=(365.25, 730.5))}


class Own(nn.Module):
    """A layer of one's own: gated means along each relation."""

    def __init__(self, channels, relations):
        super().__init__()
        self.relations = relations
        self.message = nn.ModuleDict({name: nn.Linear(2 * channels, channels) for name in relations})
        self.gate = nn.Linear(2 * channels, channels)

    def forward(self, x, table):
        heard = torch.zeros_like(x)
        for name in self.relations:
            edge = table.relations[name]
            message = self.message[name](torch.cat([x[edge.source], edge.attribute], 1)).relu()
            heard = heard + mean_of(message, edge.target, len(x))
        return self.gate(torch.cat([x, heard], 1)).sigmoid() * heard


def pyg_conv():
    from torch_geometric.nn import GATv2Conv

    return GATv2Conv


CONVS = [*LAYERS, Own, pyg_conv]


def network_for(graphs: Graphs, conv="temporal", **choices) -> PatientGNN:
    conv = conv() if conv is pyg_conv else conv
    torch.manual_seed(0)
    network = PatientGNN.for_graphs(graphs, HEADS, conv=conv, **{"channels": 8, **choices})
    with torch.no_grad():  # as if trained: nothing at its neutral start
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


SPEC = """
cohort = "c"
[patient]
table = "people.csv"
key = "id"
[nodes.lab]
table = "labs.csv"
time = "day"
known = "known"
code = "code"
value = "value"
[nodes.drug]
table = "drugs.csv"
time = "day"
until = "until"
code = "code"
value = "dose"
"""


def cohort_of(tmp_path, poisoned: bool):
    """Labs and intervals of thirty patients; poisoned: what is known after day 10 is another."""
    draw, n = np.random.default_rng(0), 300
    day = draw.integers(0, 20, n) + 0.5
    known = day + draw.random(n)
    value = np.exp(draw.normal(size=n))
    lab = {
        "id": [f"p{i % 30}" for i in range(n)],
        "day": day,
        "known": known,
        "code": draw.choice(["a", "b"], n),
    }
    begin = draw.integers(0, 20, n) + 0.25
    until = begin + 5 * draw.random(n)
    if poisoned:
        value = np.where(known > 10, 1e9, value)
        until = np.where(until > 10, until + 1000, until)
    drug = {"id": lab["id"], "day": begin, "until": until, "code": draw.choice(["x", "y"], n)}
    dose = np.where(begin > 10, 7e7, 1.0) if poisoned else np.ones(n)
    frames = {
        "people.csv": pl.DataFrame({"id": [f"p{i}" for i in range(31)]}),  # the last has no row
        "labs.csv": pl.DataFrame({**lab, "value": value}),
        "drugs.csv": pl.DataFrame({**drug, "dose": dose}),
    }
    (tmp_path / "c.toml").write_text(SPEC)
    return read_cohort(read_spec(tmp_path / "c.toml"), frames)


@pytest.mark.parametrize("conv", CONVS)
def test_the_future_cannot_be_seen(tmp_path, conv):
    plain, poisoned = (cohort_of(tmp_path, poisoned) for poisoned in (False, True))
    graphs = build_graphs(plain.at(10.0))
    network = network_for(graphs, conv)
    assert network.vocabulary.relations == ("same", "first", "next", "during")
    answer = network(graphs)["death"]
    assert torch.equal(answer, network(build_graphs(poisoned.at(10.0)))["death"])
    later = network(build_graphs(plain.at(21.0)))["death"]
    assert not torch.allclose(later, network(build_graphs(poisoned.at(21.0)))["death"]), "there is a future"
    assert answer[-1].isfinite().all(), "and of a patient without a row an answer"


@pytest.mark.parametrize("conv", CONVS)
def test_alone_or_together(make_graphs, one, conv):
    graphs = make_graphs(5, asks=8, nobody=(2,), pictures=5)
    network = network_for(graphs, conv)
    assert set(network.vocabulary.vectors) == {"image.ct"}
    together = network(graphs)["death"]
    table = network.tabulate(graphs)
    order = torch.tensor([3, 2, 7, 3, 0])
    torch.testing.assert_close(network(table.take(order))["death"], together[order], rtol=1e-5, atol=1e-5)
    for ask in range(len(graphs)):
        alone = network(one(graphs, ask))["death"]
        torch.testing.assert_close(alone[0], together[ask], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("conv", CONVS)
def test_slots_sum_to_one_and_the_same_seed_is_the_same_bits(graphs, conv):
    def trained():
        network = network_for(graphs, conv).train()
        optimiser = torch.optim.AdamW(network.parameters(), 1e-2)
        for _ in range(2):
            optimiser.zero_grad()
            event, time = torch.tensor([0, 1, 2, 0, 1, 2]), torch.linspace(10.0, 800.0, 6)
            network.head("death").loss(network(graphs)["death"], event, time).mean().backward()
            optimiser.step()
        return network.eval()(graphs)["death"].detach()

    one, two = trained(), trained()
    assert torch.equal(one, two)
    assert torch.allclose(one.exp().sum(1), torch.ones(6, 2), atol=1e-5)
    assert not torch.equal(one, network_for(graphs, conv)(graphs)["death"]), "and it learns"


@pytest.mark.parametrize("conv", CONVS)
def test_a_saved_network_is_the_same_and_a_class_is_given_back(graphs, conv):
    network = network_for(graphs, conv)
    data = json.loads(json.dumps(network.to_dict(), allow_nan=False))
    own = {} if isinstance(conv, str) else {data["config"]["conv"]: network.config.conv}
    again = PatientGNN.from_dict(data, own)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.eval()(graphs)["death"], network(graphs)["death"])
    if own:
        with pytest.raises(InputError, match=f"layers={{'{data['config']['conv']}'"):
            PatientGNN.from_dict(data)


@pytest.mark.parametrize("conv", [name for name in LAYERS if name not in ("gru", "transformer")])
def test_a_layer_hears_every_relation(graphs, conv):
    """Without one of them the answer is another; a rival hears none."""
    network = network_for(graphs, conv)
    table = tabulate(graphs, network.vocabulary)
    answer = network(table)["death"]
    layer = make_layer(conv, 8, (*network.relations.names, "at", "of", "next_timepoint"))
    assert isinstance(layer, Layer)
    for name in network.vocabulary.relations:
        rest = tuple(other for other in table.names if other != name)
        kept = torch.tensor([table.names[r] in rest for r in table.relation.tolist()])
        assert not torch.allclose(network(table.with_edges(kept))["death"], answer), name


@pytest.mark.parametrize("names", [RELATIONS, ("same", "at", "of"), ("next_timepoint",)])
@pytest.mark.parametrize("empty", [(), ("lab",), ("lab", "image.ct", "drug")])
def test_sage_equals_pyg_forward_and_gradient(make_graphs, names, empty):
    from torch_geometric.nn import HeteroConv, SAGEConv

    graphs, c = make_graphs(3, asks=7, empty=empty, nobody=(0, 3, 6)), 8
    table = tabulate(graphs, fit_vocabulary(make_graphs(3)))
    torch.manual_seed(0)
    layer = GraphSAGE(c, names)
    edges = {("n", name, "n"): edge for name, edge in layer.both(table).items()}
    assert len(edges) == 2 * len(names)
    root, *blocks = layer.linear.weight.detach().split(c, 1)
    convs = {}
    for i, (edge, block) in enumerate(zip(edges, blocks, strict=True)):
        convs[edge] = SAGEConv((c, c), c, aggr="mean")
        convs[edge].lin_l.weight.data = block.clone()
        convs[edge].lin_l.bias.data = layer.linear.bias.detach() * (i == 0)
        convs[edge].lin_r.weight.data = root * (i == 0)
    hetero = HeteroConv(convs, aggr="sum")
    x, y = (
        torch.randn(table.nodes, c, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in "ab"
    )
    ours, theirs = layer(x, table), layer.norm(hetero({"n": y}, edges)["n"]).relu()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    (ours * ours.detach().cos()).sum().backward()
    (theirs * ours.detach().cos()).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-4)
    found = [hetero.convs[edge].lin_l.weight.grad for edge in edges]
    first = next(iter(edges))
    wanted = torch.cat([hetero.convs[first].lin_r.weight.grad, *found], 1)
    torch.testing.assert_close(layer.linear.weight.grad, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        layer.linear.bias.grad, hetero.convs[first].lin_l.bias.grad, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("tokens, pairs", [(512, 2**21), (2, 2**21), (3, 20)])
def test_a_transformer_is_attention_over_the_latest_rows(make_graphs, monkeypatch, tokens, pairs):
    """Landmark by landmark, by softmax as one writes it down."""
    monkeypatch.setattr(module, "MAX_TOKENS", tokens)
    monkeypatch.setattr(module, "MAX_TOKEN_PAIRS", pairs)
    graphs = make_graphs(3, asks=8)
    table = tabulate(graphs, fit_vocabulary(graphs))
    torch.manual_seed(0)
    layer, x = Transformer(8, ()), torch.randn(table.rows, 8)
    got = layer(x, table)
    for i in range(8):
        first, last = int(table.ptr[i]), int(table.ptr[i + 1])
        read = range(max(first, last - tokens), last)
        assert not got[first : max(first, last - tokens)].any()
        if not len(read):
            continue
        state = x[read.start : last]
        y = layer.before(state)
        query, (key, value) = layer.query(y), layer.both(y).chunk(2, 1)
        attended = []
        for head in range(4):
            part = slice(2 * head, 2 * head + 2)
            weight = (query[:, part] @ key[:, part].T / 2**0.5).softmax(1)
            attended.append(weight @ value[:, part])
        more = layer.out(torch.cat(attended, 1))
        wanted = more + layer.dense(layer.between(state + more))
        torch.testing.assert_close(got[read.start : last], wanted, rtol=1e-4, atol=1e-5)


def test_a_rival_sees_no_edge(graphs):
    for conv in ("gru", "transformer"):
        network = network_for(graphs, conv)
        assert network.along is None
        table = tabulate(graphs, network.vocabulary)
        x = torch.randn(table.rows, 8)
        bare = table.with_edges(torch.zeros(len(table.source), dtype=torch.bool))
        assert torch.equal(network.layers[0](x, table), network.layers[0](x, bare))


class Counted(TorchDispatchMode):
    """Counts operators that are no views."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += not func.is_view
        return func(*args, **(kwargs or {}))


def operators(graphs: Graphs) -> int:
    network = network_for(graphs).train()
    table = network.tabulate(graphs)
    event, time = torch.arange(len(graphs)) % 3, torch.linspace(10.0, 800.0, len(graphs))
    with Counted() as counted:
        network.head("death").loss(network(table)["death"], event, time).mean().backward()
    return counted.n


def test_a_step_is_few_operators_and_hardly_more_of_more_kinds(make_graphs):
    graphs = make_graphs(0, asks=32)
    assert len(graphs.codes) == 3
    twice = Graphs(
        nodes={
            **{f"{kind} again": nodes for kind, nodes in graphs.nodes.items() if kind != "timepoint"},
            **graphs.nodes,
        },
        edges={
            **graphs.edges,
            **{
                (f"{a} again", name, f"{b} again" if b in graphs.codes else b): edge
                for (a, name, b), edge in graphs.edges.items()
                if a in graphs.codes
            },
        },
        statics=graphs.statics,
        codes={**{f"{kind} again": names for kind, names in graphs.codes.items()}, **graphs.codes},
        numbers=graphs.numbers,
        levels=graphs.levels,
    )
    three, six = operators(graphs), operators(twice)
    assert three <= 300 and six <= three + 12, (three, six)


def test_choices_are_refused_where_they_are_made():
    with pytest.raises(InputError, match="did you mean 'sage'"):
        ModelConfig(conv="sge")
    with pytest.raises(InputError, match="did you mean 'during'"):
        ModelConfig(relations=("durin",))
    with pytest.raises(InputError, match="multiple of 4"):
        make_layer("hgt", 6, ())
    with pytest.raises(InputError, match="multiple of 4"):
        make_layer("transformer", 6, ())


class Wide(Own):
    def forward(self, x, table):
        return torch.zeros(len(x), x.shape[1] + 1)


class Spread(Own):
    def forward(self, x, table):
        return x.new_zeros(1)  # would be added to every node without a word


class Nothing(Own):
    def forward(self, x, table):
        return None


class Narrow(nn.Linear):
    def forward(self, x):
        return super().forward(x)[:, :1]


class Alone(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x, table):
        return x


class NoTable(Own):
    def forward(self, x):
        return x


class Faulty(Own):
    def forward(self, x, table):
        return table.relations["sme"]


class OtherWord(Own):
    def forward(self, x, batch):  # whatever it calls the table
        return super().forward(x, batch)


def test_a_layer_of_ones_own_is_told_what_is_wrong(graphs):
    from torch_geometric.nn import GINEConv, SAGEConv

    for layer, line in {
        Wide: "layer Wide: forward gave .*33.*; must be .*, 32",
        Spread: r"layer Spread: forward gave \(1,\); must be .*, 32",
        Nothing: "layer Nothing: forward gave NoneType",
        Faulty: "layer Faulty: forward failed, KeyError: 'sme'",
        Alone: r"conv Alone: cannot be made by Alone\(channels, relations\)",
        NoTable: r"conv NoTable: no layer, which is a module with forward\(self, x, table\)",
        int: "conv int: no layer",
        GINEConv: r"conv GINEConv: cannot be made by GINEConv\(channels, channels\)",
        type("sage", (Own,), {}): "conv: a class called 'sage'.*rename it",
    }.items():
        with pytest.raises(InputError, match=line):
            network_for(graphs, layer, channels=32)(graphs)
    with pytest.raises(InputError, match=r"encoder Narrow: forward gave .*1\); must be "):
        network_for(graphs, encoders={"lab": Narrow})(graphs)
    with pytest.raises(InputError, match=r"encoder Alone: cannot be made by Alone\(features, channels\)"):
        network_for(graphs, encoders={"lab": Alone})
    assert network_for(graphs, OtherWord)(graphs)["death"].isfinite().all()
    assert network_for(graphs, SAGEConv, relations=())(graphs)["death"].isfinite().all()


def test_many_rows_of_one_moment_stay_linear(tmp_path):
    """Twice the rows: twice the edges at most, and an answer."""
    (tmp_path / "c.toml").write_text(SPEC)

    def table_of(rows):
        frame = {"id": ["p"] * 3 * rows, "day": np.repeat([1.0, 2.0, 3.0], rows)}
        frames = {
            "people.csv": pl.DataFrame({"id": ["p", "q"]}),
            "labs.csv": pl.DataFrame(
                {
                    **frame,
                    "known": frame["day"],
                    "code": ["a", "b"] * (3 * rows // 2),
                    "value": np.arange(3.0 * rows),
                }
            ),
            "drugs.csv": pl.DataFrame(
                {
                    **frame,
                    "until": frame["day"] + 1.5,
                    "code": ["x", "y"] * (3 * rows // 2),
                    "dose": np.arange(3.0 * rows),
                }
            ),
        }
        graphs = build_graphs(read_cohort(read_spec(tmp_path / "c.toml"), frames).at(9.0))
        network = network_for(graphs)
        assert network(graphs)["death"].isfinite().all()
        return network.tabulate(graphs)

    few, many = table_of(200), table_of(400)
    assert many.names == ("same", "first", "next", "during") and many.rows == 2 * few.rows == 2400
    for name in many.names:
        assert 0 < len(many.relations[name].source) <= 2 * len(few.relations[name].source)
    assert len(many.source) <= 4 * many.rows * len(many.names)
