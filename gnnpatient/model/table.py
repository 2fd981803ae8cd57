"""The input of the network: all nodes of some landmarks in one table, everything that has no parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gnnpatient.errors import InputError
from gnnpatient.graphs import Graphs, Nodes, merge_codes, positions
from gnnpatient.model.basis import Basis
from gnnpatient.model.vocabulary import BETWEEN_ROWS, MAX_DEVIATIONS, Vocabulary, _times, standardise

# columns of `NodeTable.x`
FEATURES = ("value", "given", "bound", "open", "log_age", "age", "log_duration", "duration")
# columns of `NodeTable.attribute`
ATTRIBUTES = ("edge", "change", "given", "log_gap", "gap")
# every relation of the nodes of a table; the last three join rows, timepoints and patients
RELATIONS = (*BETWEEN_ROWS, "next_timepoint", "at", "of")
# rows of a category's embedding before its levels
OTHER, MISSING = 0, 1


@dataclass(frozen=True, eq=False)
class Relation:
    """The edges of one relation.

    Attributes
    ----------
    source : Int[Tensor, " edge"]
        The node that an edge starts at.
    target : Int[Tensor, " edge"]
        The node that it ends at.
    attribute : Float[Tensor, "edge attribute"]
        As in `NodeTable.attribute`; as a layer sees it, encoded as channels.
    """

    source: Int[Tensor, " edge"]
    target: Int[Tensor, " edge"]
    attribute: Float[Tensor, "edge attribute"]


@dataclass(frozen=True, eq=False)
class NodeTable:
    """All nodes of some landmarks: first the rows, then the timepoints, then one patient a landmark.

    A row is an event node of any node type. Rows and timepoints of a landmark lie together, in order of time.

    Attributes
    ----------
    ptr : Int[Tensor, " landmark_plus_1"]
        First row of each landmark, and one past the last.
    owner : Int[Tensor, " row"]
        Landmark of each row.
    code : Int[Tensor, " row"]
        Code of each row, in one numbering over all node types, see `code_names`.
    kind : Int[Tensor, " row"]
        Node type of each row, in the order of the vocabulary.
    x : Float[Tensor, "row feature"]
        FEATURES; values and times standardised, a missing value is 0 and not given.
    vector : Float[Tensor, "row axis"]
        The embedding of an image or a text on its principal axes, else zeros.
    timepoint : Int[Tensor, " row"]
        Timepoint of each row.
    before : Int[Tensor, " row"]
        Timepoint of the row before it in its series, -1 = it is the first.
    series : Int[Tensor, " row"]
        Series of each row: the rows of one code, or of one tracked object, in a landmark.
    edge_ptr : Int[Tensor, " landmark_plus_1"]
        First edge of each landmark.
    source : Int[Tensor, " edge"]
        The row that an edge starts at, of all relations between rows together.
    target : Int[Tensor, " edge"]
        The row that it ends at; edges are sorted by it.
    relation : Int[Tensor, " edge"]
        Which relation it is of, in `names`.
    attribute : Float[Tensor, "edge attribute"]
        ATTRIBUTES: 1, the change of the value in the code's own scale, whether there is one, and the time
        between both ends, on a logarithmic and on a linear scale. Of ``during`` the change is the value of
        the interval, as a dose, and the time is that since it began.
    share : Float[Tensor, "edge 1"]
        One over the number of edges of the relation into the row.
    timepoint_ptr : Int[Tensor, " landmark_plus_1"]
        First timepoint of each landmark.
    timepoint_x : Float[Tensor, "timepoint 2"]
        Age of each timepoint, on a logarithmic and on a linear scale.
    series_ptr : Int[Tensor, " landmark_plus_1"]
        First series of each landmark.
    series_owner : Int[Tensor, " series"]
        Landmark of each series.
    series_code : Int[Tensor, " series"]
        Code of each series.
    series_size : Int[Tensor, " series"]
        Number of rows of each series.
    latest : Int[Tensor, " series"]
        Latest row of each series.
    static : Float[Tensor, "landmark static"]
        Days from the origin to the landmark, on a logarithmic and on a linear scale; the standardised static
        numbers, 0 where missing; and whether each is given.
    level : Int[Tensor, "landmark category"]
        Static levels: 0 rare or unknown, 1 missing, then the known ones.
    names : tuple of str
        Relations between rows.
    """

    ptr: Int[Tensor, " landmark_plus_1"]
    owner: Int[Tensor, " row"]
    code: Int[Tensor, " row"]
    kind: Int[Tensor, " row"]
    x: Float[Tensor, "row feature"]
    vector: Float[Tensor, "row axis"]
    timepoint: Int[Tensor, " row"]
    before: Int[Tensor, " row"]
    series: Int[Tensor, " row"]
    edge_ptr: Int[Tensor, " landmark_plus_1"]
    source: Int[Tensor, " edge"]
    target: Int[Tensor, " edge"]
    relation: Int[Tensor, " edge"]
    attribute: Float[Tensor, "edge attribute"]
    share: Float[Tensor, "edge 1"]
    timepoint_ptr: Int[Tensor, " landmark_plus_1"]
    timepoint_x: Float[Tensor, "timepoint 2"]
    series_ptr: Int[Tensor, " landmark_plus_1"]
    series_owner: Int[Tensor, " series"]
    series_code: Int[Tensor, " series"]
    series_size: Int[Tensor, " series"]
    latest: Int[Tensor, " series"]
    static: Float[Tensor, "landmark static"]
    level: Int[Tensor, "landmark category"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.static)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.code)

    @property
    def nodes(self) -> int:
        """Number of nodes: rows, timepoints and patients."""
        return len(self.code) + len(self.timepoint_x) + len(self.static)

    @cached_property
    def timepoint_owner(self) -> Int[Tensor, " timepoint"]:
        """Landmark of each timepoint."""
        return _owner(self.timepoint_ptr, len(self.timepoint_x))

    @cached_property
    def relations(self) -> dict[str, Relation]:
        """Every relation by its name, with both ends as nodes: RELATIONS.

        ``at`` leads from a row to its timepoint, ``next_timepoint`` to the next one, ``of`` to the patient.
        """
        rows, points, device = self.rows, len(self.timepoint_x), self.x.device
        relations = {}
        for name in BETWEEN_ROWS:
            edge = (self.relation == (self.names.index(name) if name in self.names else -1)).nonzero()[:, 0]
            relations[name] = Relation(self.source[edge], self.target[edge], self.attribute[edge])
        point = rows + torch.arange(points, device=device)
        owner = self.timepoint_owner
        later = (owner[1:] == owner[:-1]).nonzero()[:, 0]
        ends = {
            "next_timepoint": (point[later], point[later + 1]),
            "at": (torch.arange(rows, device=device), rows + self.timepoint),
            "of": (point, rows + points + owner),
        }
        for name, (source, target) in ends.items():
            none = self.x.new_zeros(len(source), len(ATTRIBUTES))
            relations[name] = Relation(source, target, none)
        return relations

    def take(self, landmarks: Int[Tensor, " landmark"]) -> NodeTable:
        """The table of some landmarks, in this order.

        Parameters
        ----------
        landmarks : Int[Tensor, " landmark"]
            Positions of landmarks; one may come several times.

        Returns
        -------
        NodeTable
        """
        row, ptr, shift, owner = _ranges(self.ptr, landmarks)
        point, timepoint_ptr, point_shift, _ = _ranges(self.timepoint_ptr, landmarks)
        series, series_ptr, series_shift, series_owner = _ranges(self.series_ptr, landmarks)
        edge, edge_ptr, _, edge_owner = _ranges(self.edge_ptr, landmarks)
        down, point_down = shift.index_select(0, edge_owner), point_shift.index_select(0, owner)
        before = self.before.index_select(0, row)
        columns = {
            **_selected(self, ("code", "kind", "x", "vector"), row),
            **_selected(self, ("relation", "attribute", "share"), edge),
            **_selected(self, ("series_code", "series_size"), series),
            **_selected(self, ("static", "level"), landmarks),
        }
        return NodeTable(
            **columns,
            ptr=ptr,
            owner=owner,
            timepoint=self.timepoint.index_select(0, row) - point_down,
            before=torch.where(before < 0, -1, before - point_down),
            series=self.series.index_select(0, row) - series_shift.index_select(0, owner),
            edge_ptr=edge_ptr,
            source=self.source.index_select(0, edge) - down,
            target=self.target.index_select(0, edge) - down,
            timepoint_ptr=timepoint_ptr,
            timepoint_x=self.timepoint_x.index_select(0, point),
            series_ptr=series_ptr,
            series_owner=series_owner,
            latest=self.latest.index_select(0, series) - shift.index_select(0, series_owner),
            names=self.names,
        )

    def keep(self, kept: Bool[Tensor, " row"]) -> NodeTable:
        """The table without some of the rows, and without their edges; landmarks and timepoints stay.

        Parameters
        ----------
        kept : Bool[Tensor, " row"]
            False where a row is left out.

        Returns
        -------
        NodeTable
        """
        place = kept.cumsum(0) - 1
        used = torch.zeros_like(self.series_code, dtype=torch.bool)
        used[self.series[kept]] = True
        series = (used.cumsum(0) - 1)[self.series[kept]]
        table = self.with_edges(kept[self.source] & kept[self.target])
        return replace(
            table,
            **{
                name: getattr(self, name)[kept]
                for name in ("owner", "code", "kind", "x", "vector", "timepoint")
            },
            ptr=_counted(kept)[self.ptr],
            before=table.before[kept],
            series=series,
            source=place[table.source],
            target=place[table.target],
            series_ptr=_counted(used)[self.series_ptr],
            series_owner=self.series_owner[used],
            series_code=self.series_code[used],
            series_size=torch.bincount(series),
            latest=_latest(series),
        )

    def restrict(self, relations: Sequence[str]) -> NodeTable:
        """The table with some relations between rows alone.

        Parameters
        ----------
        relations : sequence of str
            Names of relations.

        Returns
        -------
        NodeTable
        """
        names = tuple(name for name in self.names if name in relations)
        if names == self.names:
            return self
        place = [names.index(name) if name in names else -1 for name in self.names]
        relation = torch.tensor(place, device=self.relation.device)[self.relation]
        return replace(self, relation=relation, names=names).with_edges(relation >= 0)

    def with_edges(self, kept: Bool[Tensor, " edge"]) -> NodeTable:
        """The table without some of the edges between rows.

        Parameters
        ----------
        kept : Bool[Tensor, " edge"]
            False where an edge is left out.

        Returns
        -------
        NodeTable
        """
        source, target, relation = self.source[kept], self.target[kept], self.relation[kept]
        return replace(
            self,
            edge_ptr=_counted(kept)[self.edge_ptr],
            source=source,
            target=target,
            relation=relation,
            attribute=self.attribute[kept],
            share=_share(target * len(self.names) + relation, self.rows * len(self.names)),
            before=_before(source, target, relation, self.names, self.timepoint),
        )

    @staticmethod
    def cat(tables: Sequence[NodeTable]) -> NodeTable:
        """Put tables of one vocabulary together, their landmarks one after the other.

        Parameters
        ----------
        tables : sequence of NodeTable
            At least one.

        Returns
        -------
        NodeTable
        """

        def joined(name: str, size: str = "") -> Tensor:
            """The column of all tables, each moved up by the sizes of those before it."""
            columns, moved = [getattr(table, name) for table in tables], 0
            if name.endswith("ptr"):
                sizes = [int(ptr[-1]) for ptr in columns]
                columns = [ptr[bool(i) :] for i, ptr in enumerate(columns)]
            else:
                sizes = [len(getattr(table, size)) if size else 0 for table in tables]
            out = []
            for column, more in zip(columns, sizes, strict=True):
                out.append(torch.where(column < 0, column, column + moved) if moved else column)
                moved += more
            return torch.cat(out)

        counted = {
            "owner": "static",
            "series_owner": "static",
            "timepoint": "timepoint_x",
            "before": "timepoint_x",
            "series": "series_code",
            "latest": "code",
            "source": "code",
            "target": "code",
        }
        names = [f.name for f in fields(NodeTable) if f.name != "names"]
        columns = {name: joined(name, counted.get(name, "")) for name in names}
        return NodeTable(**columns, names=tables[0].names)

    def to(self, device: torch.device | str) -> NodeTable:
        """Copy the table to another device.

        Parameters
        ----------
        device : torch.device or str
            As "cpu" or "cuda".

        Returns
        -------
        NodeTable
        """
        columns = {f.name: getattr(self, f.name) for f in fields(NodeTable) if f.name != "names"}
        return NodeTable(**{name: x.to(device) for name, x in columns.items()}, names=self.names)


def _selected(table: NodeTable, names: Sequence[str], index: Tensor) -> dict[str, Tensor]:
    return {name: getattr(table, name).index_select(0, index) for name in names}


def _latest(series: Tensor) -> Tensor:
    """Latest row of each series: rows are in order of time."""
    size = int(series.max()) + 1 if len(series) else 0
    row = torch.arange(len(series), device=series.device)
    return torch.zeros_like(row[:size]).scatter_reduce_(0, series, row, "amax")


def _share(slot: Tensor, size: int) -> Tensor:
    """One over the number of edges of each slot, for each edge."""
    return torch.bincount(slot, minlength=size).float().reciprocal_()[slot, None]


def _before(
    source: Tensor, target: Tensor, relation: Tensor, names: Sequence[str], timepoint: Tensor
) -> Tensor:
    """Timepoint of the row before each row in its series; rows of one moment share it."""
    before = torch.full_like(timepoint, -1)
    if "same" in names:
        same = relation == names.index("same")
        before[target[same]] = timepoint[source[same]]
    return before


def _owner(ptr: Tensor, size: int) -> Tensor:
    landmarks = torch.arange(len(ptr) - 1, device=ptr.device)
    return torch.repeat_interleave(landmarks, ptr.diff(), output_size=size)


def _ranges(ptr: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of the chosen landmarks: their elements, the new ptr, by how much each moves down, and the owners."""
    start = ptr.index_select(0, landmarks)
    count = ptr.index_select(0, landmarks + 1) - start
    new = torch.cat([count.new_zeros(1), count.cumsum(0)])
    size = int(new[-1])
    shift = start - new[:-1]
    owner = _owner(new, size)
    return torch.arange(size, device=ptr.device) + shift.index_select(0, owner), new, shift, owner


def _counted(flag: Tensor) -> Tensor:
    """How many are true before each position, and at the end."""
    return torch.cat([flag.new_zeros(1, dtype=torch.long), flag.cumsum(0)])


def code_names(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Node type and code of each number in `NodeTable.code`.

    Parameters
    ----------
    vocabulary : Vocabulary
        Names and scales of the training graphs.

    Returns
    -------
    list of (node type, code)
    """
    return [(kind, name) for kind, names in vocabulary.codes.items() for name in names]


def named_codes(vocabulary: Vocabulary) -> Float[Tensor, "code 1"]:
    """1 for each number in `NodeTable.code` that has a name of its own, 0 for "rare or unknown".

    Parameters
    ----------
    vocabulary : Vocabulary
        Names and scales of the training graphs.

    Returns
    -------
    Float[Tensor, "code 1"]
    """
    named = [float(position > 0) for names in vocabulary.codes.values() for position in range(len(names))]
    return torch.tensor(named)[:, None]


def tabulate(graphs: Graphs, vocabulary: Vocabulary, bases: Mapping[str, Basis] | None = None) -> NodeTable:
    """Make the input of the network: everything that has no parameter.

    Codes and levels are matched by name. A rare or unknown code is that of its nearest known ancestor, else
    one code for all of them, and its value is ignored. A node type that the vocabulary lacks is left out.

    Parameters
    ----------
    graphs : Graphs
        In the cohort's own codes.
    vocabulary : Vocabulary
        Names and scales of the training graphs.
    bases : mapping of str to Basis, optional
        Principal axes of the vectors of each node type; needed where the vocabulary has vectors.

    Returns
    -------
    NodeTable

    Raises
    ------
    InputError
        When a basis is missing.
    """
    missing = [kind for kind in vocabulary.vectors if kind not in (bases or {})]
    if missing:
        raise InputError(f"no basis for the vectors of {', '.join(missing)}; give those of `fit_bases`")
    graphs = merge_codes(graphs, vocabulary.codes, vocabulary.above)
    kinds = {kind: graphs.nodes[kind] for kind in vocabulary.codes if kind in graphs.nodes}
    parts = [_columns(kind, nodes, graphs, vocabulary, bases or {}) for kind, nodes in kinds.items()]
    empty = _columns("", None, graphs, vocabulary, {})
    rows = {name: torch.cat([empty[name], *(part[name] for part in parts)]) for name in empty}
    order = rows["code"].argsort(stable=True)
    order = order[rows["age"][order].argsort(descending=True, stable=True)]
    order = order[rows["owner"][order].argsort(stable=True)]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    sizes = [len(nodes) for nodes in kinds.values()]
    base = dict(zip(kinds, torch.tensor([0, *sizes]).cumsum(0).tolist(), strict=False))
    rows = {name: column[order] for name, column in rows.items()}
    landmarks = len(graphs)
    series, series_owner, series_code = _series(rows)
    points = graphs["timepoint"]
    by_time = points.age.argsort(descending=True, stable=True)
    by_time = by_time[points.owner[by_time].argsort(stable=True)]
    later = torch.empty_like(by_time)
    later[by_time] = torch.arange(len(by_time), device=by_time.device)
    timepoint = later[rows["timepoint"]]
    names = vocabulary.relations
    source, target, relation = _edges(graphs, names, base, place)
    clock = _clock(vocabulary, graphs.statics.at.device)
    return NodeTable(
        ptr=_pointer(rows["owner"], landmarks),
        owner=rows["owner"],
        code=rows["code"],
        kind=rows["kind"],
        x=rows["x"],
        vector=rows["vector"],
        timepoint=timepoint,
        before=_before(source, target, relation, names, timepoint),
        series=series,
        edge_ptr=_pointer(rows["owner"][target], landmarks),
        source=source,
        target=target,
        relation=relation,
        attribute=_attributes(source, target, relation, rows, vocabulary),
        share=_share(target * len(names) + relation, len(order) * len(names)),
        timepoint_ptr=_pointer(points.owner, landmarks),
        timepoint_x=_standard_times(points.age[by_time], clock),
        series_ptr=_pointer(series_owner, landmarks),
        series_owner=series_owner,
        series_code=series_code,
        series_size=torch.bincount(series),
        latest=_latest(series),
        static=_static(graphs, vocabulary),
        level=_levels(graphs, vocabulary),
        names=names,
    )


def _columns(
    kind: str,
    nodes: Nodes | None,
    graphs: Graphs,
    vocabulary: Vocabulary,
    bases: Mapping[str, Basis],
) -> dict[str, Tensor]:
    """The columns of the rows of one node type; of none, empty ones."""
    at = graphs.statics.at
    axes = max((axes.kept for axes in vocabulary.vectors.values()), default=0)
    if nodes is None:
        none = at.new_zeros(0, dtype=torch.long)
        names = ("owner", "code", "kind", "timepoint", "track")
        return {
            **dict.fromkeys(names, none),
            "age": at.new_zeros(0),
            "z": at.new_zeros(0),
            "x": at.new_zeros(0, len(FEATURES)),
            "vector": at.new_zeros(0, axes),
        }
    known = list(vocabulary.codes)
    offset = sum(len(vocabulary.codes[name]) for name in known[: known.index(kind)])
    z = vocabulary.values[kind].apply(nodes.value, nodes.code).masked_fill(nodes.code == 0, torch.nan)
    clock = _clock(vocabulary, at.device)
    duration = getattr(nodes, "duration", None)
    duration = torch.zeros_like(nodes.age) if duration is None else duration
    track = getattr(nodes, "track", None)
    bound = torch.zeros_like(nodes.age) if nodes.bound is None else nodes.bound.to(z.dtype)
    has = (duration > 0).to(z.dtype)[:, None]
    flags = torch.stack([z.nan_to_num(0.0), z.isfinite().to(z.dtype), bound, nodes.open.to(z.dtype)], 1)
    vector = at.new_zeros(len(nodes), axes)
    if kind in vocabulary.vectors and nodes.vector.shape[1] == vocabulary.vectors[kind].columns:
        basis = bases[kind]
        content = (nodes.vector - basis.mean.to(at.device)) @ basis.axes.to(at.device)
        vector[:, : content.shape[1]] = content.clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
    return {
        "owner": nodes.owner,
        "code": nodes.code + offset,
        "kind": torch.full_like(nodes.code, known.index(kind)),
        "timepoint": nodes.timepoint,
        "track": torch.full_like(nodes.code, -1) if track is None else track.long(),
        "age": nodes.age,
        "z": z,
        "x": torch.cat([flags, _standard_times(nodes.age, clock), has * _spans(duration, clock)], 1),
        "vector": vector,
    }


def _clock(vocabulary: Vocabulary, device: torch.device) -> Tensor:
    """The scale of all times of rows: that of the timepoints."""
    return vocabulary.times["timepoint"].table().to(device)


def _standard_times(days: Tensor, clock: Tensor) -> Tensor:
    mean, std, _ = clock
    return ((_times(days) - mean) / std).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)


def _spans(days: Tensor, clock: Tensor) -> Tensor:
    """A span on the clock: the logarithm as ages are, and linear from 0 on."""
    mean, std, _ = clock
    log, linear = _times(days).unbind(1)
    spans = torch.stack([(log - mean[0]) / std[0], linear / std[1]], 1)
    return spans.clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)


def _series(rows: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Series of each row, landmark and code of each series."""
    code, track = rows["code"], rows["track"] + 1
    codes, tracks = (int(x.max()) + 1 if len(x) else 1 for x in (code, track))
    key, series = ((rows["owner"] * codes + code) * tracks + track).unique(return_inverse=True)
    return series, key // (codes * tracks), key // tracks % codes


def _pointer(owner: Tensor, landmarks: int) -> Tensor:
    return torch.cat([owner.new_zeros(1), torch.bincount(owner, minlength=landmarks).cumsum(0)])


def _edges(
    graphs: Graphs, names: Sequence[str], base: Mapping[str, int], place: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Source, target and relation of all edges between rows, by target and relation."""
    sources, targets, relations = ([place.new_zeros(0)] for _ in range(3))
    for (one, name, other), edge in graphs.edges.items():
        if name in names and one in base and other in base:
            sources.append(place[base[one] + edge[0]])
            targets.append(place[base[other] + edge[1]])
            relations.append(torch.full_like(edge[0], names.index(name)))
    source, target, relation = map(torch.cat, (sources, targets, relations))
    order = (target * max(1, len(names)) + relation).argsort(stable=True)
    return source[order], target[order], relation[order]


def _attributes(
    source: Tensor, target: Tensor, relation: Tensor, rows: Mapping[str, Tensor], vocabulary: Vocabulary
) -> Tensor:
    """ATTRIBUTES of each edge."""
    z, code = rows["z"], rows["code"][target]
    gap = (rows["age"][source] - rows["age"][target]).clamp(min=0)
    change = torch.full_like(gap, torch.nan)
    for i, name in enumerate(vocabulary.relations):
        if name == "during":
            change = torch.where(relation == i, z[source], change)
        elif name in ("same", "first"):
            moved = (z[target] - z[source]) / _change_scale(name, vocabulary, z)[code]
            change = torch.where(relation == i, moved, change)
    given = change.isfinite()
    change = change.nan_to_num(0.0).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
    flags = torch.stack([torch.ones_like(change), change, given.to(z.dtype)], 1)
    return torch.cat([flags, _spans(gap, _clock(vocabulary, z.device))], 1)


def _change_scale(name: str, vocabulary: Vocabulary, like: Tensor) -> Tensor:
    """By what a change of each code is divided."""
    scales = vocabulary.changes if name == "same" else vocabulary.drifts
    spread = [
        std
        for kind, names in vocabulary.codes.items()
        for std in (scales[kind].std if kind in scales else (1.0,) * len(names))
    ]
    return like.new_tensor(spread)


def _static(graphs: Graphs, vocabulary: Vocabulary) -> Tensor:
    """Day of the landmark, static numbers matched by name, and which are given."""
    number, wanted = graphs.statics.number, vocabulary.numbers
    if graphs.numbers != wanted:
        padded = torch.cat([number.new_full((len(number), 1), torch.nan), number], 1)
        number = padded[:, positions(wanted, (None, *graphs.numbers), number.device)]
    scale = vocabulary.values["patient"].table().to(number.device)
    number = standardise(number, scale[:, None].expand(3, *number.shape))
    day = _standard_times(graphs.statics.at, vocabulary.times["patient"].table().to(number.device))
    return torch.cat([day, number.nan_to_num(0.0), number.isfinite().to(day.dtype)], 1)


def _levels(graphs: Graphs, vocabulary: Vocabulary) -> Tensor:
    """Rows of the level embeddings, matched by name."""
    column = dict(zip(graphs.levels, graphs.statics.category.T, strict=True))
    absent = torch.full_like(graphs.statics.at, MISSING, dtype=torch.long)
    found = []
    for name, known in vocabulary.levels.items():
        if name not in column:
            found.append(absent)
            continue
        place = positions((None, *graphs.levels[name]), (None, None, *known), absent.device)
        found.append(torch.where(column[name] < 0, MISSING, place[column[name] + 1]))
    return torch.stack(found, 1) if found else absent.new_zeros(len(absent), 0)
