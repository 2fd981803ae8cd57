"""The `Graphs` type: one disjoint union of the graphs of many landmarks, as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

EdgeType = tuple[str, str, str]
RARE = "rare or unknown"  # the name of a level, beside those that are kept, for all that are not


@dataclass(frozen=True, eq=False)
class Nodes:
    """The nodes of one type: all landmarks one after the other, in each by when the nodes became known.

    Attributes
    ----------
    ptr : (landmark + 1,) int64
        Segment offsets: landmark i has the nodes ``ptr[i]:ptr[i + 1]``.
    code : (node,) int64
        Index into ``Graphs.codes[type]``; 0 = other.
    value : (node,) float32
        nan = missing, which is not zero.
    age : (node,) float32
        Days from when it happened to the landmark, >= 0.
    owner : (node,) int64
        Which landmark the node belongs to.
    timepoint : (node,) int64
        Which timepoint node of this batch; a timepoint names itself.
    open : (node,) bool
        Whether an interval (a drug, a stay) is running at the landmark.
    row : (node,) int64
        Row of the node type's embedding matrix; -1 = none.
    vector : (node, feature) float32
        That row: the embedding of an image or a text. Node types without embeddings have no column.
    bound : (node,) int8, optional
        -1: the true value lies below `value`, 1: above it, 0: it is the value. Default: zeros.
    """

    ptr: Int[Tensor, " landmark_plus_1"]
    code: Int[Tensor, " node"]
    value: Float[Tensor, " node"]
    age: Float[Tensor, " node"]
    owner: Int[Tensor, " node"]
    timepoint: Int[Tensor, " node"]
    open: Bool[Tensor, " node"]
    row: Int[Tensor, " node"]
    vector: Float[Tensor, "node feature"]
    bound: Int[Tensor, " node"] | None = None

    def __post_init__(self) -> None:
        if self.bound is None:
            none = torch.zeros(len(self.code), dtype=torch.int8, device=self.code.device)
            object.__setattr__(self, "bound", none)

    def __len__(self) -> int:
        return len(self.code)


@dataclass(frozen=True, eq=False)
class Statics:
    """Baseline covariates, which do not change in a patient: one row for each landmark.

    Attributes
    ----------
    number : (landmark, number) float32
        nan = missing.
    category : (landmark, category) int64
        Index into ``Graphs.levels[name]``; -1 = missing.
    at : (landmark,) float32
        Days from the patient's origin to the landmark.
    """

    number: Float[Tensor, "landmark number"]
    category: Int[Tensor, "landmark category"]
    at: Float[Tensor, " landmark"]


@dataclass(frozen=True, eq=False)
class Last:
    """The last observation of each code of one node type.

    Attributes
    ----------
    value : (landmark, code) float32
        Of the latest row with a value, the mean of those that are simultaneous; nan = no such row.
    age : (landmark, code) float32
        Days since the latest row, with or without a value; inf = no row.
    """

    value: Float[Tensor, "landmark code"]
    age: Float[Tensor, "landmark code"]


@dataclass(frozen=True, eq=False)
class Graphs:
    """The graphs of a batch of landmarks, built by `gnnpatient.build_graphs` and nowhere else.

    Every node type and edge type of the spec is present, with zero rows where there is nothing.

    Attributes
    ----------
    nodes : mapping of str to Nodes
        By node type, in the order of the spec, then ``"timepoint"``.
    edges : mapping of (source, relation, target) to (2, edge) int64
        Row 0 holds positions of the source node type, row 1 of the target.
    statics : Statics
        The baseline covariates of each landmark's patient.
    codes : mapping of str to tuple of str
        By node type, the names behind `Nodes.code`; position 0 is ``"other"``.
    numbers : tuple of str
        Names of the columns of `Statics.number`.
    levels : mapping of str to tuple of str
        By column of `Statics.category`, the names behind its numbers.
    """

    nodes: Mapping[str, Nodes]
    edges: Mapping[EdgeType, Int[Tensor, "2 edge"]]
    statics: Statics
    codes: Mapping[str, tuple[str, ...]]
    numbers: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.statics.at)

    def __getitem__(self, kind: str) -> Nodes:
        return self.nodes[kind]

    @cached_property
    def last(self) -> dict[str, Last]:
        """By node type, the last value of every code (simultaneous ones averaged) and age of its last row."""
        return {
            kind: _last(nodes, len(self), len(self.codes[kind]))
            for kind, nodes in self.nodes.items()
            if kind != "timepoint"
        }

    def to(self, device: torch.device | str) -> Graphs:
        """The same graphs on another device; the original stays where it is.

        Parameters
        ----------
        device : torch.device or str
            As for ``Tensor.to``.

        Returns
        -------
        Graphs
        """
        return replace(
            self,
            nodes={kind: _moved(nodes, device) for kind, nodes in self.nodes.items()},
            edges={name: edge.to(device) for name, edge in self.edges.items()},
            statics=_moved(self.statics, device),
        )

    def hetero_data(self) -> HeteroData:
        """The same as PyG's HeteroData, with every node and edge type.

        Returns
        -------
        HeteroData
            The store of a node type has code, value, bound, age, timepoint, open, row, vector, batch and ptr;
            that of ``"patient"`` has number, category and at.
        """
        from torch_geometric.data import HeteroData

        data = HeteroData()
        patient = data["patient"]
        patient.number, patient.category, patient.at = (
            self.statics.number,
            self.statics.category,
            self.statics.at,
        )
        patient.num_nodes = len(self)
        patient.batch = torch.arange(len(self), device=self.statics.at.device)
        for kind, nodes in self.nodes.items():
            store = data[kind]
            store.code, store.value, store.age = nodes.code, nodes.value, nodes.age
            store.timepoint, store.batch, store.ptr = nodes.timepoint, nodes.owner, nodes.ptr
            store.open, store.row, store.vector = nodes.open, nodes.row, nodes.vector
            store.bound = nodes.bound
            store.num_nodes = len(nodes)
        for name, edge in self.edges.items():
            data[name].edge_index = edge
        return data


_T = TypeVar("_T", Nodes, Statics)


def _moved(record: _T, device: torch.device | str) -> _T:
    return replace(record, **{f.name: getattr(record, f.name).to(device) for f in fields(record)})


def _last(nodes: Nodes, landmarks: int, codes: int) -> Last:
    every, given = nodes.owner * codes + nodes.code, nodes.value.isfinite()
    never = nodes.age.new_full((landmarks * codes,), torch.inf)
    slot, value, age = every[given], nodes.value[given], nodes.age[given]
    final = age == never.scatter_reduce(0, slot, age, "amin")[slot]
    total = value.new_zeros(landmarks * codes).index_add_(0, slot[final], value[final])
    count = value.new_zeros(landmarks * codes).index_add_(0, slot[final], torch.ones_like(value[final]))
    mean = torch.where(count > 0, total / count, torch.nan)
    latest = never.scatter_reduce(0, every, nodes.age, "amin")
    return Last(mean.view(landmarks, codes), latest.view(landmarks, codes))


@dataclass(frozen=True)
class Names:
    """Which codes and levels keep their name: those of enough patients.

    A rarer or unknown code becomes its nearest ancestor in `above`, else position 0 of its node type, where
    it has no value; no row is dropped. All rarer or unknown levels of a category become one level.

    Attributes
    ----------
    codes : mapping of str to tuple of str
        By node type; position 0 is ``"other"``, rare or unknown.
    above : mapping of str to tuple of str
        By node type, the ancestors that stand for rarer codes below them, nearest first.
    levels : mapping of str to tuple of str
        By category.
    """

    codes: Mapping[str, tuple[str, ...]]
    above: Mapping[str, tuple[str, ...]]
    levels: Mapping[str, tuple[str, ...]]

    def merge(self, graphs: Graphs) -> Graphs:
        """The same graphs with these names only.

        Parameters
        ----------
        graphs : Graphs
            With the codes and levels of their cohort.

        Returns
        -------
        Graphs
            In a category `RARE` comes first. Node types without names here stay as they are.
        """
        graphs, levels = merge_codes(graphs, self.codes, self.above), dict(graphs.levels)
        hidden = {
            kind: replace(nodes, value=nodes.value.masked_fill(nodes.code == 0, torch.nan))
            for kind, nodes in graphs.nodes.items()
        }
        columns = []
        for column, (name, every) in zip(graphs.statics.category.T, graphs.levels.items(), strict=True):
            levels[name] = (RARE, *self.levels.get(name, ()))
            place = positions((None, *every), (None, *self.levels.get(name, ())), column.device)
            columns.append(torch.where(column < 0, -1, place[column + 1]))
        category = torch.stack(columns, 1) if columns else graphs.statics.category
        statics = replace(graphs.statics, category=category)
        return replace(graphs, nodes=hidden, statics=statics, levels=levels)


def frequent(graphs: Graphs, least: int) -> Names:
    """The codes and levels of at least so many patients.

    Parameters
    ----------
    graphs : Graphs
        Training graphs only, one landmark for each patient.
    least : int
        How many patients a name needs.

    Returns
    -------
    Names
    """
    codes, above = {}, {}
    for kind in graphs.nodes:
        if kind == "timepoint":
            continue
        nodes, names = graphs[kind], graphs.codes[kind]
        kept = patients_of(nodes.code, nodes.owner, len(names)) >= max(least, 1)
        kept[0] = False
        kept_names = tuple(name for name, keep in zip(names, kept.tolist(), strict=True) if keep)
        over = _over(graphs, kind, ~kept[nodes.code], kept_names, least)
        codes[kind] = (names[0], *kept_names, *(name for name in over if name not in kept_names))
        if over:
            above[kind] = over
    levels = {}
    for column, (name, every) in zip(graphs.statics.category.T, graphs.levels.items(), strict=True):
        given = column >= 0
        landmark = torch.arange(len(column), device=column.device)[given]
        count = patients_of(column[given], landmark, len(every)).tolist()
        levels[name] = tuple(level for level, n in zip(every, count, strict=True) if n >= max(least, 1))
    return Names(codes, above, levels)


def _over(
    graphs: Graphs, kind: str, rare: Bool[Tensor, " node"], kept_names: tuple[str, ...], least: int
) -> tuple[str, ...]:
    """Ancestors that rare rows of a node type go to, nearest first.

    These are ancestors whose name is kept anyway, and ancestors to which the rows of enough patients come
    that no nearer ancestor has taken. Of two ancestors of a code the nearer one is that of fewer patients.
    """
    found: list[str] = []
    owner, rare, named = graphs[kind].owner, rare.clone(), set(kept_names)
    for child, ancestors in _ancestor_types(graphs, kind):
        nodes, names = graphs[ancestors], graphs.codes[ancestors]
        start, end = graphs.edges[child, "is_a", ancestors]
        size = patients_of(nodes.code, nodes.owner, len(names)).tolist()
        start, code = start[rare[start]], nodes.code[end[rare[start]]]
        order = code.argsort(stable=True)
        rows = dict(enumerate(start[order].split(torch.bincount(code, minlength=len(names)).tolist())))
        for i in sorted(range(1, len(names)), key=lambda i: (size[i], names[i])):
            taken = rows[i][rare[rows[i]]]
            if names[i] in named or (least > 1 and len(owner[taken].unique()) >= least):
                found.append(names[i])
                rare[taken] = False
    return tuple(dict.fromkeys(found))


def merge_codes(
    graphs: Graphs, codes: Mapping[str, tuple[str, ...]], above: Mapping[str, tuple[str, ...]]
) -> Graphs:
    """The same graphs with these codes only.

    A row of another code becomes the nearest of its ancestors in `above`, where its value is hidden, since it
    shares no unit with the others; else it becomes position 0.

    Parameters
    ----------
    graphs : Graphs
        With the codes of their cohort.
    codes : mapping of str to tuple of str
        By node type, the names that stay; node types that are not named stay as they are.
    above : mapping of str to tuple of str
        By node type, ancestors among these names, nearest first.

    Returns
    -------
    Graphs
    """
    nodes, names = dict(graphs.nodes), dict(graphs.codes)
    for kind, known in codes.items():
        if kind not in nodes or names[kind] is known:
            continue
        one = nodes[kind]
        place = positions((None, *names[kind][1:]), (None, *known[1:]), one.code.device)[one.code]
        if above.get(kind):
            up = _nearest(graphs, kind, known, above[kind]).masked_fill(place > 0, 0)
            one = replace(one, value=one.value.masked_fill(up > 0, torch.nan))
            place = place + up
        nodes[kind] = replace(one, code=place)
        names[kind] = known
    return replace(graphs, nodes=nodes, codes=names)


def _nearest(
    graphs: Graphs, kind: str, known: tuple[str, ...], above: tuple[str, ...]
) -> Int[Tensor, " node"]:
    """For each node the position in `known` of its first ancestor in `above`; 0 = it has none there."""
    device = graphs[kind].code.device
    rank = torch.full_like(graphs[kind].code, len(above))
    for child, ancestors in _ancestor_types(graphs, kind):
        start, end = graphs.edges[child, "is_a", ancestors]
        named = (None, *graphs.codes[ancestors][1:])
        code = positions(named, (None, *above), device)[graphs[ancestors].code[end]]
        rank = rank.scatter_reduce(0, start[code > 0], code[code > 0] - 1, "amin")
    return torch.cat([positions(above, (None, *known[1:]), device), rank.new_zeros(1)])[rank]


def _ancestor_types(graphs: Graphs, kind: str) -> list[tuple[str, str]]:
    """The node type with each node type of its ancestors."""
    return [(source, target) for source, rule, target in graphs.edges if rule == "is_a" and source == kind]


def patients_of(index: Int[Tensor, " row"], owner: Int[Tensor, " row"], size: int) -> Int[Tensor, " index"]:
    """How many owners each number has.

    Parameters
    ----------
    index : (row,) int64
        Numbers, 0 to `size` - 1.
    owner : (row,) int64
        To whom each row belongs.
    size : int
        How many numbers there are.

    Returns
    -------
    (size,) int64
    """
    if not len(index):
        return torch.zeros(size, dtype=torch.long, device=index.device)
    span = int(owner.max()) + 1
    return torch.bincount(torch.unique(index * span + owner) // span, minlength=size)


def moving(
    x: Float[Tensor, "row column"], owner: Int[Tensor, " row"]
) -> tuple[Int[Tensor, " column"], Float[Tensor, " column"]]:
    """In each column, how many owners have any value other than the median.

    Parameters
    ----------
    x : (row, column) float
        Values.
    owner : (row,) int64
        To whom each row belongs.

    Returns
    -------
    count : (column,) int64
        Owners with another value in some row.
    median : (column,) float
        Of all rows.
    """
    owners, place = owner.unique(return_inverse=True)
    median = x.median(0).values
    away = x.new_zeros(len(owners), x.shape[1]).index_add_(0, place, (x != median).to(x.dtype))
    return (away > 0).sum(0), median


@lru_cache(maxsize=512)
def positions(
    names: tuple[str | None, ...], known: tuple[str | None, ...], device: torch.device
) -> Int[Tensor, " name"]:
    """For each name its position among known ones; 0 where it is unknown.

    Parameters
    ----------
    names : tuple of str or None
        What is looked up.
    known : tuple of str or None
        Where; its position 0 stands for unknown.
    device : torch.device
        Of the answer.

    Returns
    -------
    (name,) int64
    """
    position = {name: i for i, name in enumerate(known)}
    return torch.tensor([position.get(name, 0) for name in names], dtype=torch.long, device=device)
