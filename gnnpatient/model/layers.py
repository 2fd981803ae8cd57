"""Layers: one round of messages among the nodes of a table. Write your own in 20 lines.

A layer is a class with the arguments (channels, relations) and a `forward` that gives every node what is
added to its state.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from gnnpatient.errors import InputError, near
from gnnpatient.model.encode import checked
from gnnpatient.model.table import RELATIONS, NodeTable
from gnnpatient.model.vocabulary import BETWEEN_ROWS

MAX_TOKENS = 512  # rows of a landmark that a Transformer reads at most, the latest ones
MAX_TOKEN_PAIRS = 2**21  # pairs of tokens that are attended at a time, padding included: bounds the memory
HEADS = 4  # attention heads, where the channels are a multiple of it


@runtime_checkable
class Layer(Protocol):
    """What a layer must offer: an `nn.Module` made by ``Layer(channels, relations)``.

    `relations` are the names of those that it may use, see `gnnpatient.model.table.RELATIONS`. A class
    attribute ``rows_only = True`` says that it gets and gives the states of the rows alone. Another one,
    ``sequence = True``, says that it reads them as a sequence or a set: then no pass along time follows, and
    the pools are plain.
    """

    def forward(self, x: Float[Tensor, "node channel"], table: NodeTable) -> Float[Tensor, "node channel"]:
        """Give what is added to the state of each node.

        Parameters
        ----------
        x : Float[Tensor, "node channel"]
            States of the nodes: rows, then timepoints, then patients.
        table : NodeTable
            The batch; ``table.relations[name]`` has ``source``, ``target`` and the encoded ``attribute`` of
            each edge.

        Returns
        -------
        Float[Tensor, "node channel"]
        """


def mean_of(
    message: Float[Tensor, "edge channel"], target: Int[Tensor, " edge"], size: int
) -> Float[Tensor, "node channel"]:
    """Mean of the messages into each node; zeros where there is none.

    Parameters
    ----------
    message : Float[Tensor, "edge channel"]
        One message an edge.
    target : Int[Tensor, " edge"]
        The node that it goes to.
    size : int
        Number of nodes.

    Returns
    -------
    Float[Tensor, "node channel"]

    Examples
    --------
    >>> mean_of(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]), 2).T
    tensor([[2., 0.]])
    """
    total = message.new_zeros(size, message.shape[1]).index_add(0, target, message)
    return total * _share(target, size, message.dtype)


def _share(target: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """One over the number of edges into each node, (node, 1)."""
    return torch.bincount(target, minlength=size).clamp_(min=1).to(dtype).reciprocal_()[:, None]


class Temporal(nn.Module):
    """The default: what came before a row, what ran when it happened, and what else its visits held.

    A row hears its predecessors along every relation between rows, each by a matrix of its own, beside the
    encoded attributes that are in its state. The rows of a timepoint add up to a visit; a row reads its own
    visit, and that of its predecessor of the same code: an effect from one visit to the next is two steps.

    Parameters
    ----------
    channels : int
        Channels of a node.
    relations : sequence of str
        Relations that are used.

    Attributes
    ----------
    rows_only : bool
        True: it gets and gives the states of the rows alone.
    """

    rows_only: ClassVar = True

    def __init__(self, channels: int, relations: Sequence[str]):
        super().__init__()
        self.relations = tuple(name for name in BETWEEN_ROWS if name in relations)
        self.visits = "at" in relations
        self.source = nn.Linear(channels, max(1, len(self.relations)) * channels, bias=False)
        self.visit = nn.Linear(3 * channels, channels)

    def forward(self, x: Float[Tensor, "row channel"], table: NodeTable) -> Float[Tensor, "row channel"]:
        """One round of messages.

        Parameters
        ----------
        x : Float[Tensor, "row channel"]
            States of the rows.
        table : NodeTable
            The batch.

        Returns
        -------
        Float[Tensor, "row channel"]
        """
        h = self.heard(x, table).relu()  # (row, channel)
        if self.visits:
            place = torch.stack([table.timepoint, table.before], 1).add_(1)  # visit 0 is empty
            visit = h.new_zeros(len(table.timepoint_x) + 1, h.shape[1]).index_add(0, place[:, 0], h)
            read = visit.index_select(0, place.flatten()).view(table.rows, 2 * h.shape[1])
            h = h + self.visit(torch.cat([h, read], 1)).relu()
        return h

    def heard(self, x: Float[Tensor, "row channel"], table: NodeTable) -> Float[Tensor, "row channel"]:
        """What a row is, and the mean of what it hears along every relation.

        Parameters
        ----------
        x : Float[Tensor, "row channel"]
            States of the rows.
        table : NodeTable
            The batch.

        Returns
        -------
        Float[Tensor, "row channel"]
        """
        k, c = len(self.relations), x.shape[1]
        if not k:
            return x
        slot = torch.add(table.relation, table.source, alpha=k)
        message = self.source(x).view(len(x) * k, c).index_select(0, slot)  # (edge, channel)
        return x.index_add(0, table.target, message * table.share)


class _Between(nn.Module):
    """A layer of messages along every relation and its reverse, with a norm: ``relu(norm(messages))``."""

    def __init__(self, channels: int, relations: Sequence[str]):
        super().__init__()
        self.relations = tuple(name for name in RELATIONS if name in relations)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Float[Tensor, "node channel"], table: NodeTable) -> Float[Tensor, "node channel"]:
        """One round of messages.

        Parameters
        ----------
        x : Float[Tensor, "node channel"]
            States of the nodes.
        table : NodeTable
            The batch.

        Returns
        -------
        Float[Tensor, "node channel"]
        """
        return F.relu(self.norm(self.messages(x, self.both(table))))

    def both(self, table: NodeTable) -> dict[str, Int[Tensor, "2 edge"]]:
        """The edges of each relation and of its reverse.

        Parameters
        ----------
        table : NodeTable
            The batch.

        Returns
        -------
        dict of str to Int[Tensor, "2 edge"]
            Sources and targets, by the name of the relation, ``rev_...`` reversed.
        """
        edges = {}
        for name in self.relations:
            relation = table.relations[name]
            edges[name] = torch.stack([relation.source, relation.target])
            edges[f"rev_{name}"] = edges[name].flip(0)
        return edges

    def messages(self, x: Tensor, edges: Mapping[str, Tensor]) -> Tensor:
        """What each node hears."""
        raise NotImplementedError


class GraphSAGE(_Between):
    """The means along every relation and its reverse, and the node itself, as one matrix.

    Equal to PyG's ``HeteroConv({relation: SAGEConv((c, c), c, aggr="mean")}, aggr="sum")`` with the root
    weights and biases added up [1]_.

    Parameters
    ----------
    channels : int
        Channels of a node.
    relations : sequence of str
        Relations that are used.

    References
    ----------
    .. [1] Hamilton WL, Ying R, Leskovec J. Inductive representation learning on large graphs. NeurIPS 2017.
    """

    def __init__(self, channels: int, relations: Sequence[str]):
        super().__init__(channels, relations)
        self.linear = nn.Linear((1 + 2 * len(self.relations)) * channels, channels)

    def messages(
        self, x: Float[Tensor, "node channel"], edges: Mapping[str, Int[Tensor, "2 edge"]]
    ) -> Float[Tensor, "node channel"]:
        """What each node hears.

        Parameters
        ----------
        x : Float[Tensor, "node channel"]
            States of the nodes.
        edges : mapping of str to Int[Tensor, "2 edge"]
            From `both`.

        Returns
        -------
        Float[Tensor, "node channel"]
        """
        means = [mean_of(x.index_select(0, edge[0]), edge[1], len(x)) for edge in edges.values()]
        return self.linear(torch.cat([x, *means], 1))


class PyG(_Between):
    """A convolution of PyG, one for every relation and its reverse, added up.

    Parameters
    ----------
    channels : int
        Channels of a node.
    relations : sequence of str
        Relations that are used.
    conv : type
        A `MessagePassing` class that is made by ``conv(channels, channels)``; it gets the encoded attributes
        where it takes ``edge_dim``.
    """

    def __init__(self, channels: int, relations: Sequence[str], conv: type):
        super().__init__(channels, relations)
        taken = inspect.signature(conv).parameters
        options: dict[str, object] = {"edge_dim": channels} if "edge_dim" in taken else {}
        options |= {"add_self_loops": False} if "add_self_loops" in taken else {}
        self.attributes = "edge_dim" in taken
        self.convs = nn.ModuleList(conv(channels, channels, **options) for _ in 2 * self.relations)

    def forward(self, x: Float[Tensor, "node channel"], table: NodeTable) -> Float[Tensor, "node channel"]:
        """One round of messages.

        Parameters
        ----------
        x : Float[Tensor, "node channel"]
            States of the nodes.
        table : NodeTable
            The batch.

        Returns
        -------
        Float[Tensor, "node channel"]
        """
        y = torch.zeros_like(x)
        for (name, edge), conv in zip(self.both(table).items(), self.convs, strict=True):
            if self.attributes:
                y = y + conv(x, edge, table.relations[name.removeprefix("rev_")].attribute)
            else:
                y = y + conv(x, edge)
        return F.relu(self.norm(y))


class GATv2(PyG):
    """Attention over the neighbours of each relation, by torch-geometric [1]_.

    Parameters
    ----------
    channels : int
        Channels of a node.
    relations : sequence of str
        Relations that are used.

    References
    ----------
    .. [1] Brody S, Alon U, Yahav E. How attentive are graph attention networks? ICLR 2022.
    """

    def __init__(self, channels: int, relations: Sequence[str]):
        from torch_geometric.nn import GATv2Conv

        super().__init__(channels, relations, GATv2Conv)


class HGT(_Between):
    """The heterogeneous graph transformer by torch-geometric; all nodes are of one type [1]_.

    Parameters
    ----------
    channels : int
        Channels of a node.
    relations : sequence of str
        Relations that are used.

    References
    ----------
    .. [1] Hu Z, Dong Y, Wang K, Sun Y. Heterogeneous graph transformer. WWW 2020.
    """

    def __init__(self, channels: int, relations: Sequence[str]):
        from torch_geometric.nn import HGTConv

        super().__init__(channels, relations)
        names = [("node", name, "node") for one in self.relations for name in (one, f"rev_{one}")]
        self.conv = HGTConv(channels, channels, (["node"], names), heads=_heads(channels))

    def messages(
        self, x: Float[Tensor, "node channel"], edges: Mapping[str, Int[Tensor, "2 edge"]]
    ) -> Float[Tensor, "node channel"]:
        """What each node hears.

        Parameters
        ----------
        x : Float[Tensor, "node channel"]
            States of the nodes.
        edges : mapping of str to Int[Tensor, "2 edge"]
            From `both`.

        Returns
        -------
        Float[Tensor, "node channel"]
        """
        found = {("node", name, "node"): edge for name, edge in edges.items()}
        return cast(Tensor, self.conv({"node": x}, found)["node"])


def _heads(channels: int) -> int:
    if channels % HEADS:
        raise InputError(f"{channels} channels for {HEADS} attention heads; must be a multiple of {HEADS}")
    return HEADS


class GRU(nn.Module):
    """A bidirectional GRU over the rows in order of time: the rival that sees no relation [1]_.

    A row holds its own value and, by the encoded attributes in its state, the change from the row of its code
    before it and the time since.

    Parameters
    ----------
    channels : int
        Channels of a node.
    relations : sequence of str
        Unused.

    Attributes
    ----------
    rows_only : bool
        True: it gets and gives the states of the rows alone.
    sequence : bool
        True: it reads the rows as a sequence or a set.

    References
    ----------
    .. [1] Cho K et al. Learning phrase representations using RNN encoder-decoder. EMNLP 2014.
    """

    rows_only: ClassVar = True
    sequence: ClassVar = True

    def __init__(self, channels: int, relations: Sequence[str]):
        super().__init__()
        self.gru = nn.GRU(channels, channels, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * channels, channels)

    def forward(self, x: Float[Tensor, "row channel"], table: NodeTable) -> Float[Tensor, "row channel"]:
        """Read the rows of each landmark.

        Parameters
        ----------
        x : Float[Tensor, "row channel"]
            States of the rows.
        table : NodeTable
            The batch.

        Returns
        -------
        Float[Tensor, "row channel"]
        """
        rows, count = table.rows, table.ptr.diff()
        if not rows:
            return torch.zeros_like(x)
        local = torch.arange(rows, device=x.device) - table.ptr[table.owner]
        padded = x.new_zeros(len(table), int(count.max()), x.shape[1])
        padded[table.owner, local] = x
        packed = nn.utils.rnn.pack_padded_sequence(
            padded, count.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.gru(packed)[0], batch_first=True, total_length=padded.shape[1]
        )
        return cast(Tensor, self.out(states[table.owner, local]))


class Transformer(nn.Module):
    """Self-attention over the rows of a landmark, as a set: no edge is used [1]_.

    A row's state holds its age already, so there is no position beside it. Of a landmark with more than 512
    rows the latest are read.

    Parameters
    ----------
    channels : int
        Channels of a node.
    relations : sequence of str
        Unused.

    Attributes
    ----------
    rows_only : bool
        True: it gets and gives the states of the rows alone.
    sequence : bool
        True: it reads the rows as a sequence or a set.

    References
    ----------
    .. [1] Xiong R et al. On layer normalization in the transformer architecture. ICML 2020.
    """

    rows_only: ClassVar = True
    sequence: ClassVar = True

    def __init__(self, channels: int, relations: Sequence[str]):
        super().__init__()
        self.heads = _heads(channels)
        self.before, self.between = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query, self.both = nn.Linear(channels, channels), nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.dense = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.ReLU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Float[Tensor, "row channel"], table: NodeTable) -> Float[Tensor, "row channel"]:
        """Let the rows of a landmark attend to each other.

        Parameters
        ----------
        x : Float[Tensor, "row channel"]
            States of the rows.
        table : NodeTable
            The batch.

        Returns
        -------
        Float[Tensor, "row channel"]
            Zeros of rows that are not read.
        """
        size = table.ptr.diff().clamp(max=MAX_TOKENS)
        order = size.argsort(descending=True, stable=True)  # landmarks of like size together
        sizes, begin, added = size[order].tolist(), 0, torch.zeros_like(x)
        while begin < len(sizes) and (width := sizes[begin]):
            some = order[begin : begin + max(1, MAX_TOKEN_PAIRS // width**2)]
            token = torch.arange(width, device=x.device)
            present = token < size[some, None]
            row = (table.ptr[some + 1] - size[some])[:, None] + token
            row = row.clamp(max=len(x) - 1)
            added = added.index_add(0, row[present], self._block(x[row], present)[present])
            begin += len(some)
        return added

    def _block(self, x: Tensor, present: Tensor) -> Tensor:
        """What is added to each token, (landmark, token, channel)."""
        y = self.before(x)
        query = self._split(self.query(y))
        key, value = (self._split(part) for part in self.both(y).chunk(2, dim=-1))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=present[:, None, None, :])
        more = self.out(attended.transpose(1, 2).flatten(2))
        return more + self.dense(self.between(x + more))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (landmark, head, token, channel / heads)


# the layer of each name in `ModelConfig.conv`
LAYERS: dict[str, type[nn.Module]] = {
    "temporal": Temporal,
    "sage": GraphSAGE,
    "gatv2": GATv2,
    "hgt": HGT,
    "gru": GRU,
    "transformer": Transformer,
}


def layer_class(conv: str | type) -> type:
    """Find a layer by its name; a class is given back.

    Parameters
    ----------
    conv : str or type
        A key of LAYERS, or a class.

    Returns
    -------
    type

    Raises
    ------
    InputError
        When there is no layer of that name, or a class of the user's own has the name of one of LAYERS: a
        model that names it could not be loaded again.
    """
    if isinstance(conv, type):
        if LAYERS.get(conv.__name__, conv) is not conv:
            raise InputError(f"conv: a class called {conv.__name__!r}, as one of the layers here; rename it")
        return conv
    if isinstance(conv, nn.Module):
        raise InputError(f"conv: a module; give its class, as in conv={type(conv).__name__}")
    if not isinstance(conv, str) or conv not in LAYERS:
        raise InputError(f"unknown conv {conv!r}, nor a class{near(str(conv), LAYERS)}")
    return LAYERS[conv]


def make_layer(conv: str | type, channels: int, relations: Sequence[str]) -> nn.Module:
    """Make a layer by its name, of a user's class, or of a convolution of PyG.

    Parameters
    ----------
    conv : str or type
        A key of LAYERS, a class made by ``conv(channels, relations)`` whose `forward` takes the states and a
        table, or a PyG `MessagePassing` class.
    channels : int
        Channels of a node.
    relations : sequence of str
        Relations that are used.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    InputError
        When there is no such layer, or a class cannot be made or called so.
    """
    layer: Any = layer_class(conv)
    taken = inspect.signature(getattr(layer, "forward", len)).parameters
    of_pyg = hasattr(layer, "propagate") or "edge_index" in taken
    if not (isinstance(layer, type) and issubclass(layer, nn.Module)) or not (of_pyg or len(taken) > 2):
        raise InputError(f"conv {layer.__name__}: no layer, which is a module with forward(self, x, table)")
    try:
        return PyG(channels, relations, layer) if of_pyg else layer(channels, relations)
    except (TypeError, ValueError) as error:
        made = "channels, channels" if of_pyg else "channels, relations"
        raise InputError(
            f"conv {layer.__name__}: cannot be made by {layer.__name__}({made}): {error}"
        ) from error


def added(layer: nn.Module, x: Float[Tensor, "node channel"], table: Any) -> Float[Tensor, "node channel"]:
    """What a layer adds to the states, if it is of their shape.

    Parameters
    ----------
    layer : torch.nn.Module
        From `make_layer`.
    x : Float[Tensor, "node channel"]
        States of the nodes, or of the rows alone.
    table : NodeTable or EncodedTable
        The batch.

    Returns
    -------
    Float[Tensor, "node channel"]

    Raises
    ------
    InputError
        When it is of another shape, which could be spread over the nodes without a word, or it fails.
    """
    if type(layer) in LAYERS.values():
        return cast(Tensor, layer(x, table))
    own = next(iter(layer.convs), layer) if isinstance(layer, PyG) else layer  # none without relations
    return checked(f"layer {type(own).__name__}", layer, x.shape, x, table)
