"""The `Graphs` type: one disjoint union of the asked patients' graphs, as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

EdgeType = tuple[str, str, str]


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
