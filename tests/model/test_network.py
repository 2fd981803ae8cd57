import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gnnpatient.errors import InputError
from gnnpatient.graphs import Graphs, Nodes, Statics
from gnnpatient.model import network as module
from gnnpatient.model.network import Network, Readout, Transformer, dropout

KINDS = ("lab", "image.ct", "drug", "timepoint", "patient")
C = 8


def states(graphs, grad=False):
    draw = torch.Generator().manual_seed(1)
    sizes = {kind: len(graphs) if kind == "patient" else len(graphs[kind]) for kind in KINDS}
    return {k: torch.randn(n, C, generator=draw).requires_grad_(grad) for k, n in sizes.items()}


class Reference(nn.Module):
    """The same network as PyG's HeteroConv of SAGEConv; a kind's root and bias sit in its first edge type."""

    def __init__(self, network: Network):
        super().__init__()
        from torch_geometric.nn import HeteroConv, SAGEConv

        self.network, self.convs = network, nn.ModuleList()
        for sage in network.convs:
            convs = {e: SAGEConv((C, C), C, aggr="mean") for edges in sage.into.values() for e in edges}
            for edges, lin in zip(sage.into.values(), sage.lin, strict=True):
                root, *blocks = lin.weight.detach().split(C, dim=1)
                for i, (edge, block) in enumerate(zip(edges, blocks, strict=True)):
                    convs[edge].lin_l.weight.data = block.clone()
                    convs[edge].lin_l.bias.data = lin.bias.detach() * (i == 0)
                    convs[edge].lin_r.weight.data = root * (i == 0)
            self.convs.append(HeteroConv(convs, aggr="sum"))

    def forward(self, x, data):
        norms = iter(self.network.norms)
        for conv, targets in zip(self.convs, self.network.targets, strict=True):
            y = conv(x, data.edge_index_dict)
            x = x | {k: x[k] + F.relu(next(norms)(y[k])) for k in targets}
        return x

    def weight_gradients(self):
        for sage, hetero in zip(self.network.convs, self.convs, strict=True):
            for edges, lin in zip(sage.into.values(), sage.lin, strict=True):
                convs = [hetero.convs[edge] for edge in edges]
                yield lin.bias.grad, convs[0].lin_l.bias.grad
                blocks = [convs[0].lin_r.weight.grad, *(conv.lin_l.weight.grad for conv in convs)]
                yield lin.weight.grad, torch.cat(blocks, 1)


@pytest.mark.filterwarnings("ignore:There exist node types")  # the last layer makes what is read, no more
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("empty", [(), ("lab",), ("lab", "image.ct", "drug")])
def test_equals_pyg_forward_and_gradient(make_graphs, layers, empty):
    graphs = make_graphs(layers, asks=7, empty=empty, nobody=(0, 3, 6))
    torch.manual_seed(0)
    network = Network(KINDS, tuple(graphs.edges), C, layers)
    reference = Reference(network)
    x, y = states(graphs, grad=True), states(graphs, grad=True)
    ours, theirs = network(x, graphs), reference(y, graphs.hetero_data())
    assert set(ours) == {"timepoint", "patient"}

    def close(a, b):
        torch.testing.assert_close(
            a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(b.detach().abs().max()) if len(b) else 1.0)
        )

    for kind in ours:
        close(ours[kind], theirs[kind])
    sum((v * v.detach().cos()).sum() for v in ours.values()).backward()
    sum((theirs[k] * theirs[k].detach().cos()).sum() for k in ours).backward()
    for kind in KINDS:
        zero = torch.zeros_like(x[kind])
        close(*(zero if v.grad is None else v.grad for v in (x[kind], y[kind])))
    for a, b in reference.weight_gradients():
        close(a, torch.zeros_like(a) if b is None else b)


@pytest.mark.parametrize("conv", ["sage", "gatv2", "hgt", "transformer"])
def test_alone_or_together(make_graphs, one, conv):
    graphs = make_graphs(3)
    torch.manual_seed(0)
    network, readout = Network(KINDS, tuple(graphs.edges), C, 2, conv=conv), Readout(C)
    x = states(graphs)
    together = readout(network(x, graphs), graphs)
    assert together.isfinite().all() and together.shape == (len(graphs), 3 * C)
    for ask in range(len(graphs)):
        mine = {k: x[k][graphs[k].owner == ask] for k in KINDS[:-1]} | {
            "patient": x["patient"][ask : ask + 1]
        }
        alone = one(graphs, ask)
        torch.testing.assert_close(
            readout(network(mine, alone), alone)[0], together[ask], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("conv", ["sage", "gatv2", "hgt", "transformer"])
def test_asks_without_any_node(make_graphs, conv):
    graphs = make_graphs(0, asks=3, nobody=(0, 1, 2))
    network, readout = Network(KINDS, tuple(graphs.edges), C, 2, conv=conv), Readout(C)
    z = readout(network(states(graphs, grad=True), graphs), graphs)
    z.sum().backward()
    assert z.isfinite().all() and not z[:, C:].any()


def test_readout_takes_the_latest_and_shares_ties():
    age = torch.tensor([5.0, 2.0, 9.0, 1.0, 1.0])
    owner = torch.tensor([0, 0, 0, 2, 2])
    code = torch.zeros(5, dtype=torch.long)
    shut, points = torch.zeros(5, dtype=torch.bool), torch.arange(5)
    nodes = Nodes(
        torch.tensor([0, 3, 3, 5]),
        code,
        torch.full((5,), torch.nan),
        age,
        owner,
        points,
        shut,
        points * 0 - 1,
        torch.zeros(5, 0),
    )
    nothing = torch.zeros(3, 0)
    graphs = Graphs({"timepoint": nodes}, {}, Statics(nothing, nothing.long(), torch.zeros(3)), {}, (), {})
    x = {"timepoint": torch.arange(10.0).view(5, 2), "patient": torch.zeros(3, 2)}
    readout = Readout(2)
    nn.init.zeros_(readout.query.bias)  # a zero query: every timepoint counts the same
    z = readout(x, graphs)
    assert z[:, 4:].tolist() == [[2, 3], [0, 0], [7, 8]]
    assert z[:, 2:4].tolist() == [[2, 3], [0, 0], [7, 8]]


def test_unknown_choices_are_refused(graphs):
    with pytest.raises(InputError, match="sage, gatv2, hgt, transformer"):
        Network(KINDS, tuple(graphs.edges), C, conv="gcn")
    with pytest.raises(InputError, match="num_layers 0"):
        Network(KINDS, tuple(graphs.edges), C, 0)
    with pytest.raises(InputError, match="multiple of 4"):
        Network(KINDS, tuple(graphs.edges), 30, conv="hgt")


def test_dropout_is_unbiased_and_seeded():
    torch.manual_seed(0)
    x = dropout(torch.ones(400, 1001), 0.3)
    assert sorted(x.unique().tolist()) == pytest.approx([0, 1 / 0.7], rel=2e-3)
    assert float((x == 0).float().mean()) == pytest.approx(0.3, abs=5e-3)
    assert float(x.mean()) == pytest.approx(1, abs=5e-3)
    torch.manual_seed(0)
    assert torch.equal(x, dropout(torch.ones(400, 1001), 0.3))


def plain(transformer, x, graphs, ask):
    """One ask's patient by torch's own attention, token by token in any order, and nobody else beside it."""
    tokens = [x["patient"][ask : ask + 1]]
    nodes = [(x[k][i], graphs[k].age[i]) for k in KINDS[:3] for i in (graphs[k].owner == ask).nonzero()[:, 0]]
    nodes = sorted(nodes, key=lambda node: float(node[1]))[: module.MAX_TOKENS]
    state = torch.cat([*tokens, *(node[0][None] for node in reversed(nodes))])[None]
    for block in transformer.blocks:
        attention = nn.MultiheadAttention(C, block.heads, batch_first=True)
        both = block.both
        attention.in_proj_weight.data = torch.cat([block.query.weight, both.weight]).detach()
        attention.in_proj_bias.data = torch.cat([block.query.bias, both.bias]).detach()
        attention.out_proj.load_state_dict(block.out.state_dict())
        y = block.before(state)
        state = state + attention(y, y, y, need_weights=False)[0]
        state = state + block.dense(block.between(state))
    return transformer.norm(state[0, 0])


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("tokens", "pairs"), [(512, 2**21), (512, 1), (3, 60)])
def test_a_transformer_is_attention_over_the_latest_nodes(make_graphs, monkeypatch, layers, tokens, pairs):
    """In one piece or in many, the longest asks cut to their latest nodes: what plain attention says."""
    monkeypatch.setattr(module, "MAX_TOKENS", tokens)
    monkeypatch.setattr(module, "MAX_TOKEN_PAIRS", pairs)
    graphs = make_graphs(4, asks=7, empty=("drug",) if layers == 2 else (), nobody=(0, 3, 6))
    sizes = sum(torch.bincount(graphs[k].owner, minlength=7) for k in KINDS[:3])
    assert sizes.max() > 3 and (sizes == 0).sum() >= 3
    torch.manual_seed(0)
    transformer = Transformer(KINDS, C, layers, 0.0, 4)
    x = states(graphs)
    y = transformer(x, graphs)
    assert y["timepoint"] is x["timepoint"]
    for ask in range(7):
        expected = plain(transformer, x, graphs, ask)
        torch.testing.assert_close(y["patient"][ask], expected, rtol=1e-5, atol=1e-5)


def test_a_transformer_needs_no_edge_and_uses_every_weight(make_graphs):
    graphs = make_graphs(3)
    torch.manual_seed(0)
    network = Network(KINDS, (), C, 2, conv="transformer")
    x = states(graphs, grad=True)
    network(x, graphs)["patient"].cos().sum().backward()
    assert all(
        p.grad is not None and p.grad.any() for n, p in network.named_parameters() if "both.bias" not in n
    )
    assert all(x[kind].grad.abs().sum(1).all() for kind in KINDS[:3] if len(x[kind]))
    per_block = 12 * C * C + 13 * C  # attention 4, dense layers 8 squares; biases and two norms
    assert sum(p.numel() for p in network.parameters()) == 2 * per_block + 2 * C


def test_a_transformer_forgets_some_of_what_it_reads_in_training(graphs):
    network = Network(KINDS, (), C, 2, dropout=0.5, conv="transformer")
    x = states(graphs)
    torch.manual_seed(0)
    first, second = network(x, graphs)["patient"], network(x, graphs)["patient"]
    assert not torch.equal(first, second)
    network.eval()
    assert torch.equal(network(x, graphs)["patient"], network(x, graphs)["patient"])
