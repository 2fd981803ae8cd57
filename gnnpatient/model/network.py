"""Messages along the typed edges, and what an ask reads from its nodes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gnnpatient.errors import InputError
from gnnpatient.graphs import EdgeType, Graphs

CONVS = ("sage", "gatv2", "hgt", "transformer")
READ_TYPES = ("timepoint", "patient")  # the readout sees these alone, so the last layer makes no others
MAX_TOKENS = 512  # nodes of an ask that a Transformer reads at most, the latest ones
MAX_TOKEN_PAIRS = 2**21  # pairs of tokens that are attended at a time, padding included: bounds the memory


@dataclass(frozen=True, eq=False)
class Link:
    """The edges of one type in one batch. None: edge i ends at node i (containment needs no index)."""

    source: Int[Tensor, " edge"] | None
    target: Int[Tensor, " edge"] | None
    share: Float[Tensor, "target 1"] | None  # one over the in-degree; None where every target has one edge

    def mean(self, x: Float[Tensor, "source channel"]) -> Float[Tensor, "target channel"]:
        """Mean over the sources of each target; zeros where it has none."""
        if self.source is not None:
            x = x.index_select(0, self.source)
        if self.target is None or self.share is None:
            return x
        return x.new_zeros(len(self.share), x.shape[1]).index_add_(0, self.target, x) * self.share


def link(graphs: Graphs, edge_type: EdgeType) -> Link:
    """The edges of this type; containment is read off the nodes: each has one timepoint and one ask."""
    source, name, target = edge_type
    up = {"at": lambda: graphs[source].timepoint, "of": lambda: graphs[source].owner}
    down = {"rev_at": lambda: graphs[target].timepoint, "rev_of": lambda: graphs[target].owner}
    if name in down:
        return Link(down[name](), None, None)
    size = len(graphs) if target == "patient" else len(graphs[target])
    start, end = (None, up[name]()) if name in up else graphs.edges[edge_type]
    share = torch.bincount(end, minlength=size).clamp_(min=1).to(graphs.statics.at.dtype).reciprocal_()
    return Link(start, end, share[:, None])


class Sage(nn.Module):
    """GraphSAGE for one layer: the means along every edge type into a kind, and the node itself, one matrix.

    Equal to PyG's HeteroConv({edge: SAGEConv((c, c), c, aggr="mean")}, aggr="sum") with the root weights and
    biases of a target kind added up (Hamilton et al. 2017). A mean and a matrix commute: the matrix goes
    first where there are fewer sources than targets.
    """

    def __init__(self, edge_types: Sequence[EdgeType], targets: Sequence[str], channels: int):
        super().__init__()
        self.channels = channels
        into = {kind: tuple(edge for edge in edge_types if edge[2] == kind) for kind in targets}
        self.into = {kind: edges for kind, edges in into.items() if edges}
        self.lin = nn.ModuleList(
            nn.Linear((1 + len(edges)) * channels, channels) for edges in self.into.values()
        )

    def forward(
        self, x: dict[str, Float[Tensor, "_ channel"]], links: dict[EdgeType, Link]
    ) -> dict[str, Float[Tensor, "_ channel"]]:
        """{kind: (node, channel)} of the kinds that receive something."""
        return {
            kind: self._gather(x, kind, edges, lin, links)
            for (kind, edges), lin in zip(self.into.items(), cast(Iterable[nn.Linear], self.lin), strict=True)
        }

    def _gather(
        self, x: dict[str, Tensor], kind: str, edges: tuple[EdgeType, ...], lin: nn.Linear, links: dict
    ) -> Tensor:
        root, *weights = lin.weight.split(self.channels, dim=1)
        y = F.linear(x[kind], root, lin.bias)
        for edge, weight in zip(edges, weights, strict=True):
            if edge not in links:
                continue
            if len(x[edge[0]]) < len(x[kind]):
                y = y + links[edge].mean(x[edge[0]] @ weight.T)
            else:
                y = torch.addmm(y, links[edge].mean(x[edge[0]]), weight.T)
        return y


class Gatv2(nn.Module):
    """GATv2 (Brody et al. 2022) for one layer by torch-geometric, summed over the edge types into a kind."""

    def __init__(self, edge_types: Sequence[EdgeType], targets: Sequence[str], channels: int, heads: int):
        super().__init__()
        from torch_geometric.nn import GATv2Conv

        self.edge_types = [edge for edge in edge_types if edge[2] in targets]
        self.convs = nn.ModuleList(
            GATv2Conv((channels, channels), channels // heads, heads, add_self_loops=False)
            for _ in self.edge_types
        )

    def forward(self, x: dict[str, Tensor], edges: dict[EdgeType, Tensor]) -> dict[str, Tensor]:
        y: dict[str, Tensor] = {}
        for edge, conv in zip(self.edge_types, self.convs, strict=True):
            source, _, target = edge
            message = conv((x[source], x[target]), edges[edge])
            y[target] = y[target] + message if target in y else message
        return y


class Hgt(nn.Module):
    """HGT (Hu et al. 2020) for one layer by torch-geometric."""

    def __init__(
        self,
        edge_types: Sequence[EdgeType],
        targets: Sequence[str],
        kinds: Sequence[str],
        channels: int,
        heads: int,
    ):
        super().__init__()
        from torch_geometric.nn import HGTConv

        self.plain = {kind: f"kind{i}" for i, kind in enumerate(kinds)}  # HGTConv takes no dot in a name
        self.edge_types, self.targets = [edge for edge in edge_types if edge[2] in targets], targets
        names = [self._plain(edge) for edge in self.edge_types]
        self.conv = HGTConv(channels, channels, (list(self.plain.values()), names), heads=heads)

    def _plain(self, edge: EdgeType) -> EdgeType:
        return self.plain[edge[0]], edge[1], self.plain[edge[2]]

    def forward(self, x: dict[str, Tensor], edges: dict[EdgeType, Tensor]) -> dict[str, Tensor]:
        y = self.conv(
            {self.plain[kind]: value for kind, value in x.items()},
            {self._plain(edge): edges[edge] for edge in self.edge_types},
        )
        return {kind: y[self.plain[kind]] for kind in self.targets}


class Block(nn.Module):
    """Self-attention and two dense layers, each behind a layer norm (Xiong et al. 2020)."""

    def __init__(self, channels: int, dropout: float, heads: int):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before, self.between = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query, self.both = nn.Linear(channels, channels), nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.dense = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.ReLU(), nn.Linear(4 * channels, channels)
        )

    def forward(
        self, x: Float[Tensor, "ask token channel"], there: Bool[Tensor, "ask token"], made: int
    ) -> Float[Tensor, "ask made channel"]:
        """New states of the first `made` tokens of each ask, which attend to all that are there."""
        y = self.before(x)
        x = x[:, :made]
        query = self._split(self.query(y[:, :made]))
        key, value = (self._split(part) for part in self.both(y).chunk(2, dim=-1))
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=there[:, None, None, :])
        x = x + self._drop(self.out(heard.transpose(1, 2).flatten(2)))
        return x + self._drop(self.dense(self.between(x)))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (ask, head, token, channel / heads)

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout) if self.training and self.dropout else x


class Transformer(nn.Module):
    """The nodes of an ask and its patient as one set of tokens; no edge is used.

    When a node was and what it says is in its encoding already, so there is no position beside it. Of an ask
    with more than 512 nodes the latest are read (of equal age: in the order of the kinds, then of the rows).
    Timepoints hold nothing but their age and are returned as they came.
    """

    def __init__(self, kinds: Sequence[str], channels: int, num_layers: int, dropout: float, heads: int):
        super().__init__()
        self.kinds = tuple(kind for kind in kinds if kind not in READ_TYPES)
        self.blocks = nn.ModuleList(Block(channels, dropout, heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, x: dict[str, Float[Tensor, "_ channel"]], graphs: Graphs
    ) -> dict[str, Float[Tensor, "_ channel"]]:
        """{kind: (node, channel)} to "timepoint", unchanged, and "patient" after it has read the tokens."""
        token, rank, size, order = self._tokens(x, graphs)
        sizes, made, begin, node = size.tolist(), [], 0, 0
        while begin < len(sizes):  # asks of like size together, the longest first
            width = 1 + sizes[begin]
            end = min(len(sizes), begin + max(1, MAX_TOKEN_PAIRS // width**2))
            count = size[begin:end]
            last = node + sum(sizes[begin:end])
            state = token.new_zeros(end - begin, width, token.shape[1])
            state[:, 0] = x["patient"].index_select(0, order[begin:end])
            row = torch.arange(end - begin, device=token.device).repeat_interleave(count)
            state[row, 1 + rank[node:last]] = token[node:last]
            made.append(self._read(state, torch.arange(width, device=token.device) <= count[:, None]))
            begin, node = end, last
        patient = torch.cat(made) if made else x["patient"]
        return {"timepoint": x["timepoint"], "patient": patient[order.argsort()]}

    def _read(
        self, state: Float[Tensor, "ask token channel"], there: Bool[Tensor, "ask token"]
    ) -> Float[Tensor, "ask channel"]:
        for i, block in enumerate(self.blocks, 1):
            state = block(state, there, 1 if i == len(self.blocks) else state.shape[1])
        return self.norm(state[:, 0])

    def _tokens(self, x: dict[str, Tensor], graphs: Graphs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens, the longest ask and the latest first; their rank; sizes and order of the asks."""
        kinds = [kind for kind in self.kinds if kind in graphs.nodes]
        none = graphs.statics.at.new_zeros(0)
        token = torch.cat([x[kind] for kind in kinds] or [x["patient"][:0]])
        owner = torch.cat([graphs[kind].owner for kind in kinds] or [none.long()])
        age = torch.cat([graphs[kind].age for kind in kinds] or [none])
        full = torch.bincount(owner, minlength=len(graphs))
        size = full.clamp(max=MAX_TOKENS)
        order = size.argsort(descending=True, stable=True)
        by_age = age.argsort(stable=True)
        place = by_age[order.argsort()[owner[by_age]].argsort(stable=True)]
        full = full[order]
        rank = torch.arange(len(place), device=age.device) - (full.cumsum(0) - full).repeat_interleave(full)
        read = rank < MAX_TOKENS
        return token.index_select(0, place[read]), rank[read], size[order], order


class Network(nn.Module):
    """`num_layers` rounds of messages, each x + dropout(relu(norm(conv(x)))), a layer norm a kind.

    A kind into which no edge type of the model leads keeps its state. The last round makes "timepoint" and
    "patient" only, and only those are returned. conv = "transformer" is a `Transformer` instead, the rival
    that sees the same nodes and no edge.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        edge_types: Sequence[EdgeType],
        channels: int,
        num_layers: int = 2,
        dropout: float = 0.0,
        conv: str = "sage",
        heads: int = 4,
    ):
        super().__init__()
        if conv not in CONVS:
            raise InputError(f"conv {conv!r}; one of {', '.join(CONVS)} would do")
        if num_layers < 1:
            raise InputError(f"num_layers {num_layers}; 1 or more would do")
        if conv != "sage" and channels % heads:
            raise InputError(
                f"{channels} channels for {heads} attention heads; a multiple of {heads} would do"
            )
        self.edge_types, self.dropout, self.fast = tuple(edge_types), dropout, conv == "sage"
        self.targets: list[tuple[str, ...]] = []
        self.transformer: Transformer | None = None
        convs: list[nn.Module] = []
        if conv == "transformer":
            self.transformer = Transformer(kinds, channels, num_layers, dropout, heads)
            num_layers = 0  # of messages
        for layer in range(num_layers):
            made = READ_TYPES if layer == num_layers - 1 else kinds
            targets = tuple(kind for kind in kinds if kind in made and any(e[2] == kind for e in edge_types))
            self.targets.append(targets)
            if conv == "sage":
                convs.append(Sage(edge_types, targets, channels))
            elif conv == "gatv2":
                convs.append(Gatv2(edge_types, targets, channels, heads))
            else:
                convs.append(Hgt(edge_types, targets, kinds, channels, heads))
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for targets in self.targets for _ in targets)

    def forward(
        self, x: dict[str, Float[Tensor, "_ channel"]], graphs: Graphs
    ) -> dict[str, Float[Tensor, "_ channel"]]:
        """{kind: (node, channel)} to the same of "timepoint" and "patient"."""
        if self.transformer is not None:
            return self.transformer(x, graphs)
        x = dict(x)
        edges = self._links(graphs) if self.fast else self._edges(graphs)
        norms = iter(self.norms)
        for conv, targets in zip(self.convs, self.targets, strict=True):
            y = conv(x, edges)
            for kind in targets:
                x[kind] = x[kind] + self._drop(F.relu(next(norms)(y[kind])))
        return {kind: x[kind] for kind in READ_TYPES}

    def _links(self, graphs: Graphs) -> dict[EdgeType, Link]:
        return {edge: link(graphs, edge) for edge in self.edge_types if edge in graphs.edges}

    def _edges(self, graphs: Graphs) -> dict[EdgeType, Tensor]:
        none = graphs.statics.at.new_zeros((2, 0), dtype=torch.long)
        return {edge: graphs.edges.get(edge, none) for edge in self.edge_types}

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout) if self.training and self.dropout else x


def dropout(x: Float[Tensor, "*shape"], p: float) -> Float[Tensor, "*shape"]:
    """Zero a share p (to 1/256) of x and scale up the rest: F.dropout at a sixth of its cost on a CPU.

    A random byte an element, drawn eight at a time; unbiased, as the scale is that of the rounded p.
    """
    lost = min(round(p * 256), 255)
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device).random_(-(2**63), None)
    byte = words.view(torch.int8)[: x.numel()].view(x.shape).to(x.dtype)  # -128 .. 127
    return x * byte.add_(129 - lost).clamp_(0, 1).mul_(256 / (256 - lost))


class Readout(nn.Module):
    """The patient's state, its timepoints by attention, and its latest timepoint: (ask, 3 channels).

    An ask without timepoints reads zeros for the last two. Timepoints of equal age share being the latest.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.query = nn.Linear(channels, channels)

    def forward(
        self, x: dict[str, Float[Tensor, "_ channel"]], graphs: Graphs
    ) -> Float[Tensor, "ask three_channels"]:
        patient, timepoint = x["patient"], x["timepoint"]
        owner, age = graphs["timepoint"].owner, graphs["timepoint"].age
        score = (timepoint * self.query(patient).index_select(0, owner)).sum(1) / math.sqrt(
            timepoint.shape[1]
        )
        attended = _segment_sum(
            _softmax(score, owner, len(patient))[:, None] * timepoint, owner, len(patient)
        )
        youngest = age.new_zeros(len(patient)).scatter_reduce_(0, owner, age, "amin", include_self=False)
        latest = (age == youngest[owner]).to(age.dtype)
        share = latest / _segment_sum(latest, owner, len(patient))[owner]
        return torch.cat(
            [patient, attended, _segment_sum(share[:, None] * timepoint, owner, len(patient))], 1
        )


def _segment_sum(x: Tensor, owner: Tensor, size: int) -> Tensor:
    return x.new_zeros(size, *x.shape[1:]).index_add_(0, owner, x)


def _softmax(score: Tensor, owner: Tensor, size: int) -> Tensor:
    top = score.detach().new_zeros(size).scatter_reduce_(0, owner, score.detach(), "amax", include_self=False)
    weight = (score - top[owner]).exp()
    return weight / _segment_sum(weight, owner, size)[owner]
