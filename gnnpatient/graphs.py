"""The `Graphs` type: the graphs of some landmarks in one disjoint union, as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gnnpatient.errors import UnknownNameError, near
from gnnpatient.show import Shown, Summary, Table, counted, listed

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

EdgeType = tuple[str, str, str]
# Columns of the features of a node: of one that holds a value or a content, and of a timepoint.
NODE_FEATURES = ("value", "given", "below", "above", "age", "open", "duration")
TIMEPOINT_FEATURES = ("age",)
# Numbers on the edges of a relation, and of its reverse: later minus earlier value, days between both rows,
# days since the interval began, its value. Values are in the unit of their code.
ATTRIBUTES = {
    "same": ("change", "gap"),
    "first": ("change", "gap"),
    "next": ("gap",),
    "during": ("since", "value"),
}
# Level of a category that stands for all levels without a name of their own.
RARE = "rare or unknown"


@dataclass(frozen=True, eq=False)
class Nodes:
    """The nodes of one type, of all landmarks one after the other, in the order they became known.

    Attributes
    ----------
    ptr : Tensor
        First node of each landmark, and one past the last node.
    code : Tensor
        Position in `Graphs.codes[kind]`, 0 = other.
    value : Tensor
        Value in the unit of the code; nan = missing, which is not zero.
    age : Tensor
        Days from the node to its landmark, at least 0.
    owner : Tensor
        Landmark of each node.
    timepoint : Tensor
        Timepoint node of each node, in this union; a timepoint has its own position.
    open : Tensor
        Whether the node is an interval, as a drug or a stay, that is running at the landmark.
    row : Tensor
        Row of the embedding matrix of the node type, -1 = none.
    vector : Tensor
        That row, the embedding of an image or a text; without columns in other node types.
    bound : Tensor, optional
        -1 = the true value is below `value`, 1 = above. Default: 0, it is `value`.
    duration : Tensor, optional
        Days that an interval lasted, or has lasted by the landmark where it is open. Default: 0, it is none.
    track : Tensor, optional
        Number of the object (a lesion, an implant) within its patient and node type. Default: -1, of none.
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
    duration: Float[Tensor, " node"] | None = None
    track: Int[Tensor, " node"] | None = None

    def __post_init__(self) -> None:
        absent = {"bound": (0, torch.int8), "duration": (0, torch.float32), "track": (-1, torch.int32)}
        for name, (value, dtype) in absent.items():
            if getattr(self, name) is None:
                column = torch.full((len(self.code),), value, dtype=dtype, device=self.code.device)
                object.__setattr__(self, name, column)

    def __len__(self) -> int:
        return len(self.code)


@dataclass(frozen=True, eq=False)
class Statics:
    """The static columns of each landmark's patient.

    Attributes
    ----------
    number : Tensor
        Numbers, nan = missing.
    category : Tensor
        Positions in `Graphs.levels`, -1 = missing.
    at : Tensor
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
    value : Tensor
        Value of the latest row that has one, nan = none has.
    age : Tensor
        Days since the latest row, with or without a value, inf = no row.
    """

    value: Float[Tensor, "landmark code"]
    age: Float[Tensor, "landmark code"]


@dataclass(frozen=True, eq=False, repr=False)
class Graphs(Shown):
    """The graphs of some landmarks, with every node type and relation of the spec, also without rows.

    `gnnpatient.build_graphs` makes them. `graphs[kind]` gives the nodes of a type, `len` the landmarks.

    Attributes
    ----------
    nodes : Mapping
        Node type -> its nodes, in the order of the spec, then "timepoint".
    edges : Mapping
        (source, relation, target) -> positions of both ends of each edge.
    statics : Statics
        Static columns.
    codes : Mapping
        Node type -> names behind `Nodes.code`; position 0 is "other".
    numbers : tuple of str
        Names of the columns of `Statics.number`.
    levels : Mapping
        Name of each column of `Statics.category` -> names of its levels.

    Examples
    --------
    >>> from gnnpatient import build_graphs
    >>> from gnnpatient.datasets.shipped import pbc
    >>> graphs = build_graphs(pbc().at([100, 400], patient="1"))
    >>> len(graphs), list(graphs.nodes), graphs["stage"].age.tolist()
    (2, ['lab', 'sign', 'stage', 'timepoint'], [100.0, 400.0, 208.0])
    >>> graphs.edges["stage", "next", "stage"].tolist()           # of the second landmark
    [[1], [2]]
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
        if kind not in self.nodes:
            raise UnknownNameError(f"unknown node type {str(kind)!r}{near(str(kind), self.nodes)}")
        return self.nodes[kind]

    def _summary(self) -> Summary:
        nodes = [(kind, len(nodes)) for kind, nodes in self.nodes.items()]
        edges = [
            (f"{source} {relation} {target}", edge.shape[1])
            for (source, relation, target), edge in self.edges.items()
            if not relation.startswith("rev_")
        ]
        facts = [
            ("nodes", listed([f"{n} {kind}" for kind, n in nodes])),
            ("edges", f"{sum(n for _, n in edges)} in {len(edges)} relations, and each reversed"),
        ]
        tables = [
            Table(["<nodes", "number"], [(kind, str(n)) for kind, n in nodes]),
            Table(["<edges", "number"], [(name, str(n)) for name, n in edges]),
        ]
        return Summary(f"Graphs of {counted(len(self), 'landmark')}", facts, tables, ["nodes", "edges"])

    @cached_property
    def last(self) -> dict[str, Last]:
        """Last value of every code, and age of its latest row, by node type; of one moment, the mean value.

        Examples
        --------
        >>> from gnnpatient import build_graphs
        >>> from gnnpatient.datasets.shipped import pbc
        >>> graphs = build_graphs(pbc().at(400, patient="1"))
        >>> dict(zip(graphs.codes["stage"], graphs.last["stage"].value[0].tolist()))
        {'other': nan, 'stage': 4.0}
        """
        return {
            kind: _last(nodes, len(self), len(self.codes[kind]))
            for kind, nodes in self.nodes.items()
            if kind != "timepoint"
        }

    @property
    def attribute_names(self) -> dict[EdgeType, tuple[str, ...]]:
        """Edge type -> names of the columns of `edge_attributes`; most relations have none.

        Examples
        --------
        >>> from gnnpatient import build_graphs
        >>> from gnnpatient.datasets.shipped import pbc
        >>> build_graphs(pbc().at(400, patient="1")).attribute_names["lab", "same", "lab"]
        ('change', 'gap')
        """
        return {edge_type: ATTRIBUTES.get(_plain(edge_type), ()) for edge_type in self.edges}

    @cached_property
    def edge_attributes(self) -> dict[EdgeType, Float[Tensor, "edge attribute"]]:
        """Numbers on the edges of each type; a reversed relation has those of its relation.

        They compare the two rows that an edge joins, so that nothing is in them that neither row has. nan: a
        row has no value.

        Examples
        --------
        >>> from gnnpatient import build_graphs
        >>> from gnnpatient.datasets.shipped import pbc
        >>> graphs = build_graphs(pbc().at(400, patient="1"))
        >>> graphs.edge_attributes["stage", "same", "stage"]          # the stage stayed, in 192 days
        tensor([[  0., 192.]])
        """
        out: dict[EdgeType, Tensor] = {}
        for (source, relation, target), edge in self.edges.items():
            if relation.startswith("rev_"):
                out[source, relation, target] = out[target, relation.removeprefix("rev_"), source]
                continue
            out[source, relation, target] = self._attributes(source, relation, target, edge)
        return out

    def _attributes(self, source: str, relation: str, target: str, edge: Tensor) -> Tensor:
        """(edge, attribute) of one relation, see ATTRIBUTES."""
        names = ATTRIBUTES.get(relation, ())
        if not names:
            return self.statics.at.new_zeros(edge.shape[1], 0)
        one, other = self.nodes[source], self.nodes[target]
        start, end = edge
        columns = {}
        columns["gap"] = columns["since"] = one.age[start] - other.age[end]
        if "change" in names:
            columns["change"] = other.value[end] - one.value[start]
        if "value" in names:
            columns["value"] = one.value[start]
        return torch.stack([columns[name] for name in names], 1)

    @property
    def feature_names(self) -> dict[str, tuple[str, ...]]:
        """Node type -> names of the columns of `features`, "patient" first.

        Examples
        --------
        >>> from gnnpatient import build_graphs
        >>> from gnnpatient.datasets.shipped import pbc
        >>> names = build_graphs(pbc().at(400)).feature_names
        >>> names["lab"], names["patient"][:3]
        (('value', 'given', 'below', 'above', 'age', 'open', 'duration'), ('day', 'age', 'age.given'))
        """
        names = {
            kind: TIMEPOINT_FEATURES
            if kind == "timepoint"
            else (*NODE_FEATURES, *(f"vector.{i}" for i in range(nodes.vector.shape[1])))
            for kind, nodes in self.nodes.items()
        }
        statics = ["day"]
        for name in self.numbers:
            statics += [name, f"{name}.given"]
        for name, levels in self.levels.items():
            statics += [f"{name}={level}" for level in levels]
        return {"patient": tuple(statics), **names}

    def features(self) -> dict[str, Float[Tensor, "node feature"]]:
        """Give one matrix of numbers a node type; nothing is fitted, a row depends on its own graph only.

        A node has value (in the unit of its code, 0 where there is none), given (1 = there is a value, else
        0), below and above (1 = the true value is below or above it), age (days before the landmark), open
        (1 = an interval that is running), duration (days that an interval has lasted), and its embedding. A
        timepoint has age. "patient" has day (of the landmark, after the origin), each number (0 where it is
        missing) with a column that says whether it is given, and each category one-hot (all 0 = missing).
        Values are not scaled: codes have different units.

        Returns
        -------
        dict of str to Tensor
            Node type -> float32, with the columns of `feature_names`, never nan.

        Examples
        --------
        >>> from gnnpatient import build_graphs
        >>> from gnnpatient.datasets.shipped import pbc
        >>> build_graphs(pbc().at(400, patient="1")).features()["stage"].tolist()
        [[4.0, 1.0, 0.0, 0.0, 400.0, 0.0, 0.0], [4.0, 1.0, 0.0, 0.0, 208.0, 0.0, 0.0]]
        """
        statics = self.statics
        columns = [statics.at[:, None], _given_pairs(statics.number)]
        for column, levels in zip(statics.category.T, self.levels.values(), strict=True):
            columns.append((column[:, None] == torch.arange(len(levels), device=column.device)).float())
        features = {
            kind: nodes.age[:, None] if kind == "timepoint" else _node_features(nodes)
            for kind, nodes in self.nodes.items()
        }
        return {"patient": torch.cat(columns, 1), **features}

    def to(self, device: torch.device | str) -> Graphs:
        """Copy the graphs to another device.

        Parameters
        ----------
        device : torch.device or str
            As "cpu" or "cuda".

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
        """Convert the graphs to PyG.

        Returns
        -------
        torch_geometric.data.HeteroData
            With every node and edge type. A node type has code, value, bound, age, timepoint, open, duration,
            track, row, vector, batch and ptr, as in `Nodes`; "patient" has number, category and at, as in
            `Statics`. Each has x, see `features`. An edge type has edge_index, and edge_attr where it has
            attributes, see `edge_attributes`, with 0 for nan.

        Examples
        --------
        >>> from gnnpatient import build_graphs
        >>> from gnnpatient.datasets.shipped import pbc
        >>> data = build_graphs(pbc().at(400)).hetero_data()
        >>> data["patient"].num_nodes, data["stage"].code.shape
        (312, torch.Size([787]))
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
            store.bound, store.duration, store.track = nodes.bound, nodes.duration, nodes.track
            store.num_nodes = len(nodes)
        for kind, x in self.features().items():
            data[kind].x = x
        for name, edge in self.edges.items():
            data[name].edge_index = edge
        for name, attributes in self.edge_attributes.items():
            if attributes.shape[1]:
                data[name].edge_attr = attributes.nan_to_num(0.0)
        return data


def _plain(edge_type: EdgeType) -> str:
    """The relation of an edge type, also of a reversed one."""
    return edge_type[1].removeprefix("rev_")


def _node_features(nodes: Nodes) -> Float[Tensor, "node feature"]:
    """The columns NODE_FEATURES, and the embedding."""
    given, bound, duration = nodes.value.isfinite(), nodes.bound, nodes.duration
    assert bound is not None and duration is not None
    flags = [given, bound < 0, bound > 0]
    columns = [
        nodes.value.where(given, 0.0),
        *(flag.float() for flag in flags),
        nodes.age,
        nodes.open.float(),
        duration,
    ]
    return torch.cat([torch.stack(columns, 1), nodes.vector], 1)


def _given_pairs(x: Float[Tensor, "row column"]) -> Float[Tensor, "row two_columns"]:
    """Each column with nan as 0, followed by one that says where it is not nan."""
    given = x.isfinite()
    return torch.stack([x.where(given, 0.0), given.float()], 2).flatten(1)


_T = TypeVar("_T", Nodes, Statics)


def _moved(record: _T, device: torch.device | str) -> _T:
    """A record of tensors on another device."""
    return replace(record, **{f.name: getattr(record, f.name).to(device) for f in fields(record)})


def _last(nodes: Nodes, landmarks: int, codes: int) -> Last:
    """Last observation of each code, see `Graphs.last`."""
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
    """The codes and levels that keep their name: those of enough patients.

    A row of another code gets the code of its nearest ancestor in `above`, else position 0, without a value;
    no row is dropped. Other levels become the level RARE.

    Attributes
    ----------
    codes : Mapping
        Node type -> codes; position 0 is "other", for those that are rare or unknown.
    above : Mapping
        Node type -> the codes that replace rare ones below them, nearest first.
    levels : Mapping
        Category -> levels.
    """

    codes: Mapping[str, tuple[str, ...]]
    above: Mapping[str, tuple[str, ...]]
    levels: Mapping[str, tuple[str, ...]]

    def merge(self, graphs: Graphs) -> Graphs:
        """Rename the codes and levels of graphs.

        Parameters
        ----------
        graphs : Graphs
            Graphs of any landmarks; node types without names stay.

        Returns
        -------
        Graphs
            In a category, RARE is the first level.
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
    """Find the codes and levels of at least so many patients.

    Parameters
    ----------
    graphs : Graphs
        Graphs of the training patients alone, one landmark a patient.
    least : int
        Number of patients.

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
        present = column >= 0
        landmark = torch.arange(len(column), device=column.device)[present]
        count = patients_of(column[present], landmark, len(every)).tolist()
        levels[name] = tuple(level for level, n in zip(every, count, strict=True) if n >= max(least, 1))
    return Names(codes, above, levels)


def _over(
    graphs: Graphs, kind: str, rare: Bool[Tensor, " node"], kept_names: tuple[str, ...], least: int
) -> tuple[str, ...]:
    """Ancestors that replace the rare codes of a node type, nearest first.

    These are the ancestors that keep their name, and those with enough patients among the rows that no nearer
    one has taken. Of two ancestors of a code the nearer one is that of fewer patients.
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
    """Replace the codes of graphs by those that are known.

    A row of another code gets the code of its nearest ancestor in `above`, without a value, since it shares
    no unit with the other rows. A row without such an ancestor gets position 0.

    Parameters
    ----------
    graphs : Graphs
        Graphs of any landmarks.
    codes, above : Mapping
        As in `Names`.

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
    """Of each node the position in `known` of the first of `above` among its ancestors; 0 = none is."""
    device = graphs[kind].code.device
    rank = torch.full_like(graphs[kind].code, len(above))
    for child, ancestors in _ancestor_types(graphs, kind):
        start, end = graphs.edges[child, "is_a", ancestors]
        code = positions((None, *graphs.codes[ancestors][1:]), (None, *above), device)[
            graphs[ancestors].code[end]
        ]
        rank = rank.scatter_reduce(0, start[code > 0], code[code > 0] - 1, "amin")
    return torch.cat([positions(above, (None, *known[1:]), device), rank.new_zeros(1)])[rank]


def _ancestor_types(graphs: Graphs, kind: str) -> list[tuple[str, str]]:
    """Pairs of the node type and each type of its ancestors."""
    return [
        (source, target) for source, relation, target in graphs.edges if relation == "is_a" and source == kind
    ]


def patients_of(index: Int[Tensor, " row"], owner: Int[Tensor, " row"], size: int) -> Int[Tensor, " index"]:
    """Count the different owners of each number.

    Parameters
    ----------
    index : Tensor
        Number of each row, below `size`.
    owner : Tensor
        Owner of each row, as its patient.
    size : int
        Count of numbers.

    Returns
    -------
    Tensor
        Owners of each number.

    Examples
    --------
    >>> patients_of(torch.tensor([0, 0, 2]), torch.tensor([7, 7, 8]), 3)
    tensor([1, 0, 1])
    """
    if not len(index):
        return torch.zeros(size, dtype=torch.long, device=index.device)
    span = int(owner.max()) + 1
    return torch.bincount(torch.unique(index * span + owner) // span, minlength=size)


def moving(
    x: Float[Tensor, "row column"], owner: Int[Tensor, " row"]
) -> tuple[Int[Tensor, " column"], Float[Tensor, " column"]]:
    """Count the owners with another value than the median in each column.

    Parameters
    ----------
    x : Tensor
        Values.
    owner : Tensor
        Owner of each row, as its patient.

    Returns
    -------
    owners : Tensor
        Number of owners, of each column.
    median : Tensor
        Median of each column.
    """
    owners, place = owner.unique(return_inverse=True)
    median = x.median(0).values
    away = x.new_zeros(len(owners), x.shape[1]).index_add_(0, place, (x != median).to(x.dtype))
    return (away > 0).sum(0), median


@lru_cache(maxsize=512)
def positions(
    names: tuple[str | None, ...], known: tuple[str | None, ...], device: torch.device
) -> Int[Tensor, " name"]:
    """Find the position of each name among others.

    Parameters
    ----------
    names : tuple of str
        Names to find.
    known : tuple of str
        Names among which they are found.
    device : torch.device
        Of the answer.

    Returns
    -------
    Tensor
        Position of each of `names` in `known`, 0 = not there.
    """
    position = {name: i for i, name in enumerate(known)}
    return torch.tensor([position.get(name, 0) for name in names], dtype=torch.long, device=device)
