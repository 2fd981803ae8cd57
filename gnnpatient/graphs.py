"""The `Graphs` type: one disjoint union of the asked patients' graphs, as tensors."""

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
    """The nodes of one kind, all asks back to back, in each ask ordered by when they became known."""

    ptr: Int[Tensor, " ask_plus_1"]  # segment offsets: ask a holds nodes ptr[a]:ptr[a + 1]
    code: Int[Tensor, " node"]  # index into Graphs.codes[kind]; 0 = other
    value: Float[Tensor, " node"]  # nan = missing, which is not zero
    age: Float[Tensor, " node"]  # days from `happened` to the ask, >= 0
    owner: Int[Tensor, " node"]  # which ask
    timepoint: Int[Tensor, " node"]  # which timepoint node of this batch; a timepoint names itself
    open: Bool[Tensor, " node"]  # an interval (a drug, a stay) that is running at the ask
    row: Int[Tensor, " node"]  # of the kind's embedding matrix; -1 = none
    vector: Float[Tensor, "node feature"]  # that row: what a picture or a text says; no column in other kinds
    bound: Int[Tensor, " node"] | None = None  # -1 the truth lies below the value, 1 above; default: 0

    def __post_init__(self) -> None:
        if self.bound is None:
            none = torch.zeros(len(self.code), dtype=torch.int8, device=self.code.device)
            object.__setattr__(self, "bound", none)

    def __len__(self) -> int:
        return len(self.code)


@dataclass(frozen=True, eq=False)
class Statics:
    """What does not change in a patient, one row an ask."""

    number: Float[Tensor, "ask number"]  # nan = missing
    category: Int[Tensor, "ask category"]  # index into Graphs.levels[name]; -1 = missing
    at: Float[Tensor, " ask"]  # days from the patient's origin to the ask


@dataclass(frozen=True, eq=False)
class Last:
    """The last observation of each code of one kind."""

    value: Float[Tensor, "ask code"]  # of the latest row that has one; nan = none has
    age: Float[Tensor, "ask code"]  # days since the latest row, with or without a value; inf = none so far


@dataclass(frozen=True, eq=False)
class Graphs:
    """Every node kind and edge type of the spec is present, with zero rows where there is nothing.

    Built by `gnnpatient.build_graphs` and nowhere else.
    """

    nodes: Mapping[str, Nodes]  # event kinds in the order of the spec, then "timepoint"
    edges: Mapping[EdgeType, Int[Tensor, "2 edge"]]  # row 0 source, row 1 target
    statics: Statics
    codes: Mapping[str, tuple[str, ...]]  # names behind Nodes.code; position 0 is "other"
    numbers: tuple[str, ...]  # names of the columns of Statics.number
    levels: Mapping[str, tuple[str, ...]]  # per column of Statics.category, the names behind its numbers

    def __len__(self) -> int:
        return len(self.statics.at)

    def __getitem__(self, kind: str) -> Nodes:
        return self.nodes[kind]

    @cached_property
    def last(self) -> dict[str, Last]:
        """The latest given value of every code (those of one moment averaged), and the latest row's age."""
        return {
            kind: _last(nodes, len(self), len(self.codes[kind]))
            for kind, nodes in self.nodes.items()
            if kind != "timepoint"
        }

    def to(self, device: torch.device | str) -> Graphs:
        """The same graphs on another device; the original stays where it is."""
        return replace(
            self,
            nodes={kind: _moved(nodes, device) for kind, nodes in self.nodes.items()},
            edges={name: edge.to(device) for name, edge in self.edges.items()},
            statics=_moved(self.statics, device),
        )

    def hetero_data(self) -> HeteroData:
        """The same as PyG's HeteroData, complete in every node and edge type.

        A node store holds code, value, bound, age, timepoint, open, row, vector, batch, ptr; "patient"
        number, category, at.
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


def _last(nodes: Nodes, asks: int, codes: int) -> Last:
    every, given = nodes.owner * codes + nodes.code, nodes.value.isfinite()
    never = nodes.age.new_full((asks * codes,), torch.inf)
    slot, value, age = every[given], nodes.value[given], nodes.age[given]
    final = age == never.scatter_reduce(0, slot, age, "amin")[slot]
    total = value.new_zeros(asks * codes).index_add_(0, slot[final], value[final])
    count = value.new_zeros(asks * codes).index_add_(0, slot[final], torch.ones_like(value[final]))
    mean = torch.where(count > 0, total / count, torch.nan)
    latest = never.scatter_reduce(0, every, nodes.age, "amin")
    return Last(mean.view(asks, codes), latest.view(asks, codes))


@dataclass(frozen=True)
class Names:
    """Which codes and levels keep their name: those of enough patients (METHODS 34).

    A rarer or unknown code goes to the nearest ancestor in `above`, else to position 0 of its kind: a row
    without a value there, and never dropped. A rarer or unknown level goes to one level for all of them.
    """

    codes: Mapping[str, tuple[str, ...]]  # per event kind; position 0 is "other": rare or unknown
    above: Mapping[str, tuple[str, ...]]  # per kind the codes that stand for rarer ones below, nearest first
    levels: Mapping[str, tuple[str, ...]]  # per category

    def merge(self, graphs: Graphs) -> Graphs:
        """The same graphs by these names; in a category RARE comes first. Kinds without names stay."""
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
    """The names of at least so many patients. Hand it training graphs alone, an ask a patient."""
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
    """Ancestors of this kind's codes that rare rows go to, nearest first: those with a name of their own, and
    those to which the rows of enough patients come that no nearer one has taken.

    Of two ancestors of a code the nearer one is that of fewer patients.
    """
    found: list[str] = []
    owner, rare, named = graphs[kind].owner, rare.clone(), set(kept_names)
    for child, family in _families(graphs, kind):
        nodes, names = graphs[family], graphs.codes[family]
        start, end = graphs.edges[child, "is_a", family]
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
    """The same graphs with these codes: a row of another code goes to the nearest of its ancestors that is in
    `above`, where its value is hidden, since it shares no unit with the others, else to position 0.
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
    """Of each node the position in `known` of the first of `above` among its ancestors; 0 = none is."""
    device = graphs[kind].code.device
    rank = torch.full_like(graphs[kind].code, len(above))
    for child, family in _families(graphs, kind):
        start, end = graphs.edges[child, "is_a", family]
        code = positions((None, *graphs.codes[family][1:]), (None, *above), device)[graphs[family].code[end]]
        rank = rank.scatter_reduce(0, start[code > 0], code[code > 0] - 1, "amin")
    return torch.cat([positions(above, (None, *known[1:]), device), rank.new_zeros(1)])[rank]


def _families(graphs: Graphs, kind: str) -> list[tuple[str, str]]:
    """The kind, and each kind of its ancestors."""
    return [(source, target) for source, rule, target in graphs.edges if rule == "is_a" and source == kind]


def patients_of(index: Int[Tensor, " row"], owner: Int[Tensor, " row"], size: int) -> Int[Tensor, " index"]:
    """How many owners each of `size` numbers has."""
    if not len(index):
        return torch.zeros(size, dtype=torch.long, device=index.device)
    span = int(owner.max()) + 1
    return torch.bincount(torch.unique(index * span + owner) // span, minlength=size)


def moving(
    x: Float[Tensor, "row column"], owner: Int[Tensor, " row"]
) -> tuple[Int[Tensor, " column"], Float[Tensor, " column"]]:
    """How many owners have ever anything else than the median in each column, and that median."""
    owners, place = owner.unique(return_inverse=True)
    median = x.median(0).values
    away = x.new_zeros(len(owners), x.shape[1]).index_add_(0, place, (x != median).to(x.dtype))
    return (away > 0).sum(0), median


@lru_cache(maxsize=512)
def positions(
    names: tuple[str | None, ...], known: tuple[str | None, ...], device: torch.device
) -> Int[Tensor, " name"]:
    """For each of `names`, its position in `known`; 0 where it is unknown."""
    position = {name: i for i, name in enumerate(known)}
    return torch.tensor([position.get(name, 0) for name in names], dtype=torch.long, device=device)
