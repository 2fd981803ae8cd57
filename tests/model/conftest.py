"""Seeded random graphs of every shape that the model must bear, and one ask cut out of many."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gnnpatient.graphs import EdgeType, Graphs, Nodes, Statics


def _ptr(owner: Tensor, asks: int) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.long), torch.bincount(owner, minlength=asks).cumsum(0)])


def _relations(kind: str, nodes: Nodes) -> dict[EdgeType, Tensor]:
    """What is read off the columns, row by row."""
    edges: dict[str, list[tuple[int, int]]] = {"next": [], "same": [], "first": [], "during": []}
    rows = range(len(nodes))

    def moments(i: int, same: bool) -> list[float]:
        mine = [j for j in rows if nodes.owner[j] == nodes.owner[i] and nodes.age[j] > nodes.age[i]]
        return [float(nodes.age[j]) for j in mine if not same or nodes.code[j] == nodes.code[i]]

    for i in rows:
        for j in rows:
            if nodes.owner[i] != nodes.owner[j] or i == j:
                continue
            begun, like = nodes.age[j] >= nodes.age[i], nodes.code[i] == nodes.code[j]
            lasts = nodes.age[j] - nodes.duration[j] < nodes.age[i]
            if nodes.duration[j] > 0 and begun and lasts:
                edges["during"].append((j, i))
            if nodes.age[j] <= nodes.age[i]:
                continue
            if nodes.age[j] == min(moments(i, same=False)):
                edges["next"].append((j, i))
            if like and nodes.age[j] == min(moments(i, same=True)):
                edges["same"].append((j, i))
            if like and nodes.age[j] == max(moments(i, same=True)):
                edges["first"].append((j, i))
    found: dict[EdgeType, Tensor] = {}
    for name, pairs in edges.items():
        found |= _both(kind, name, kind, torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T)
    return found


def make_graphs(
    seed: int, asks: int = 6, empty: tuple[str, ...] = (), nobody: tuple[int, ...] = (1,), pictures: int = 0
) -> Graphs:
    """`empty` kinds have no rows; the asks of `nobody` have neither timepoints nor events.

    pictures: columns of the vectors of "image.ct"; with any, those of a timepoint are of one moment.
    """
    draw = torch.Generator().manual_seed(seed)
    size = torch.randint(1, 5, (asks,), generator=draw)
    size[[a for a in nobody if a < asks]] = 0
    owner = torch.repeat_interleave(torch.arange(asks), size)
    days = 2.0 + torch.randint(0, 400, (len(owner),), generator=draw)
    codes = {
        "lab": ("other", "bili", "albumin", "inr"),
        "image.ct": ("other", "chest"),
        "drug": ("other", "a"),
    }
    nodes, edges = {}, {}
    for kind, names in codes.items():
        n = 0 if kind in empty or not len(owner) else int(torch.randint(8, 20, (1,), generator=draw))
        timepoint = torch.randint(0, max(len(owner), 1), (n,), generator=draw)
        timepoint = timepoint[owner[timepoint].argsort(stable=True)] if n else timepoint
        value = torch.exp(torch.randn(n, generator=draw))
        value[torch.rand(n, generator=draw) < 0.2] = torch.nan
        own = owner[timepoint]
        columns = pictures if kind == "image.ct" else 0
        age = days[timepoint] - torch.rand(n, generator=draw)  # of one moment where there are pictures
        age = days[timepoint] if columns else age
        lasts = 300 * torch.rand(n, generator=draw) * (kind == "drug")
        lasts = torch.minimum(lasts, age)
        nodes[kind] = Nodes(
            ptr=_ptr(own, asks),
            code=torch.randint(0, len(names), (n,), generator=draw),
            value=value,
            age=age,
            owner=own,
            timepoint=timepoint,
            open=torch.arange(n) % 3 == 0,
            row=torch.full((n,), -1),
            vector=torch.randn(n, columns, generator=draw),
            bound=torch.randint(-1, 2, (n,), generator=draw).to(torch.int8),
            duration=lasts,
        )
        edges |= _both(kind, "at", "timepoint", torch.stack([torch.arange(n), timepoint]))
        edges |= _relations(kind, nodes[kind])
    index = torch.arange(len(owner))
    nothing = torch.full((len(owner),), torch.nan)
    code, shut, plain = torch.zeros_like(index), index < 0, torch.zeros(len(index), 0)
    nodes["timepoint"] = Nodes(
        _ptr(owner, asks), code, nothing, days, owner, index, shut, index * 0 - 1, plain
    )
    edges |= _both("timepoint", "of", "patient", torch.stack([index, owner]))
    number = 50 + 10 * torch.randn(asks, 2, generator=draw)
    number[torch.rand(asks, 2, generator=draw) < 0.2] = torch.nan
    number[0, 0] = torch.nan
    category = torch.randint(-1, 2, (asks, 1), generator=draw)
    statics = Statics(number, category, 1000 * torch.rand(asks, generator=draw))
    return Graphs(nodes, edges, statics, codes, ("age", "weight"), {"sex": ("f", "m")})


def _both(source: str, name: str, target: str, edge: Tensor) -> dict[EdgeType, Tensor]:
    return {(source, name, target): edge, (target, f"rev_{name}", source): edge.flip(0)}


def one(graphs: Graphs, ask: int) -> Graphs:
    """This ask alone."""
    start = {kind: int(nodes.ptr[ask]) for kind, nodes in graphs.nodes.items()} | {"patient": ask}
    nodes = {}
    for kind, all_nodes in graphs.nodes.items():
        mine = slice(int(all_nodes.ptr[ask]), int(all_nodes.ptr[ask + 1]))
        nodes[kind] = Nodes(
            ptr=all_nodes.ptr[ask : ask + 2] - start[kind],
            code=all_nodes.code[mine],
            value=all_nodes.value[mine],
            age=all_nodes.age[mine],
            owner=all_nodes.owner[mine] - ask,
            timepoint=all_nodes.timepoint[mine] - start["timepoint"],
            open=all_nodes.open[mine],
            row=all_nodes.row[mine],
            vector=all_nodes.vector[mine],
            bound=all_nodes.bound[mine],
            duration=all_nodes.duration[mine],
            track=all_nodes.track[mine],
        )
    edges = {}
    for (source, name, target), edge in graphs.edges.items():
        owner = edge[1] if target == "patient" else graphs[target].owner[edge[1]]
        shift = torch.tensor([[start[source]], [start[target]]])
        edges[source, name, target] = edge[:, owner == ask] - shift
    statics = Statics(
        *(x[ask : ask + 1] for x in (graphs.statics.number, graphs.statics.category, graphs.statics.at))
    )
    return replace(graphs, nodes=nodes, edges=edges, statics=statics)


@pytest.fixture
def graphs() -> Graphs:
    return make_graphs(0)


@pytest.fixture(name="make_graphs")
def _make_graphs():
    return make_graphs


@pytest.fixture(name="one")
def _one():
    return one
