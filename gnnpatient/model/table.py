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
from gnnpatient.model.vocabulary import MAX_DEVIATIONS, Vocabulary, _times, standardise

# columns of `NodeTable.x`
FEATURES = ("value", "given", "bound", "open", "log_age", "age", "log_duration", "duration")
# columns of `Relation.attribute`
ATTRIBUTES = ("change", "given", "log_gap", "gap")
# relations between rows, of all node types together; "at" and "of" join them to timepoints and patients
BETWEEN_ROWS = ("same", "first", "next", "during", "describes", "measures", "is_a")
RELATIONS = (*BETWEEN_ROWS, "next_timepoint", "at", "of")
# rows of a category's embedding before its levels
OTHER, MISSING = 0, 1


@dataclass(frozen=True, eq=False)
class Relation:
    """The edges of one relation, of all node types; in order of their landmarks.

    Attributes
    ----------
    source : Int[Tensor, " edge"]
        The node that an edge starts at.
    target : Int[Tensor, " edge"]
        The node that it ends at.
    attribute : Float[Tensor, "edge attribute"]
        ATTRIBUTES: the change of the value in the code's own scale, whether there is one, and the time
        between both ends, on a logarithmic and on a linear scale. Of ``during`` the change is the value of
        the interval, as a dose, the time is that since it began. In the network: the encoded attributes.
    ptr : Int[Tensor, " landmark_plus_1"]
        First edge of each landmark, and one past the last.
    """

    source: Int[Tensor, " edge"]
    target: Int[Tensor, " edge"]
    attribute: Float[Tensor, "edge attribute"]
    ptr: Int[Tensor, " landmark_plus_1"]


@dataclass(frozen=True, eq=False)
class NodeTable:
    """All nodes of some landmarks: first the rows, then the timepoints, then one patient a landmark.

    A row is an event node of any node type. The rows of a landmark lie together, in order of time.

    Attributes
    ----------
    ptr : Int[Tensor, " landmark_plus_1"]
        First row of each landmark, and one past the last.
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
    series : Int[Tensor, " row"]
        Series of each row: the rows of one code, or of one tracked object, in a landmark.
    timepoint_ptr : Int[Tensor, " landmark_plus_1"]
        First timepoint of each landmark.
    timepoint_x : Float[Tensor, "timepoint 2"]
        Age of each timepoint, on a logarithmic and on a linear scale.
    series_ptr : Int[Tensor, " landmark_plus_1"]
        First series of each landmark.
    series_code : Int[Tensor, " series"]
        Code of each series.
    edges : mapping of str to Relation
        Relations between rows, and "next_timepoint".
    number : Float[Tensor, "landmark number"]
        Standardised static numbers; nan is missing.
    level : Int[Tensor, "landmark category"]
        Static levels: 0 rare or unknown, 1 missing, then the known ones.
    day : Float[Tensor, "landmark 2"]
        Days from the origin to the landmark, on a logarithmic and on a linear scale.
    """

    ptr: Int[Tensor, " landmark_plus_1"]
    code: Int[Tensor, " row"]
    kind: Int[Tensor, " row"]
    x: Float[Tensor, "row feature"]
    vector: Float[Tensor, "row axis"]
    timepoint: Int[Tensor, " row"]
    series: Int[Tensor, " row"]
    timepoint_ptr: Int[Tensor, " landmark_plus_1"]
    timepoint_x: Float[Tensor, "timepoint 2"]
    series_ptr: Int[Tensor, " landmark_plus_1"]
    series_code: Int[Tensor, " series"]
    edges: Mapping[str, Relation]
    number: Float[Tensor, "landmark number"]
    level: Int[Tensor, "landmark category"]
    day: Float[Tensor, "landmark 2"]

    def __len__(self) -> int:
        return len(self.day)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.code)

    @property
    def nodes(self) -> int:
        """Number of nodes: rows, timepoints and patients."""
        return len(self.code) + len(self.timepoint_x) + len(self.day)

    @cached_property
    def owner(self) -> Int[Tensor, " row"]:
        """Landmark of each row."""
        return _owner(self.ptr, len(self.code))

    @cached_property
    def timepoint_owner(self) -> Int[Tensor, " timepoint"]:
        """Landmark of each timepoint."""
        return _owner(self.timepoint_ptr, len(self.timepoint_x))

    @cached_property
    def series_owner(self) -> Int[Tensor, " series"]:
        """Landmark of each series."""
        return _owner(self.series_ptr, len(self.series_code))

    @cached_property
    def relations(self) -> dict[str, Relation]:
        """Every relation by its name, with both ends as nodes: RELATIONS.

        ``at`` leads from a row to its timepoint, ``of`` from a timepoint to its patient.
        """
        rows, points = self.rows, len(self.timepoint_x)
        relations = dict(self.edges)
        none = self.x.new_zeros(1, len(ATTRIBUTES))
        after = relations["next_timepoint"]
        relations["next_timepoint"] = replace(after, source=after.source + rows, target=after.target + rows)
        row, point = (torch.arange(n, device=self.x.device) for n in (rows, points))
        relations["at"] = Relation(row, rows + self.timepoint, none.expand(rows, -1), self.ptr)
        of = rows + points + self.timepoint_owner
        relations["of"] = Relation(rows + point, of, none.expand(points, -1), self.timepoint_ptr)
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
        landmarks = torch.as_tensor(landmarks, device=self.day.device)
        row, ptr, shift, _ = _ranges(self.ptr, landmarks)
        point, timepoint_ptr, point_shift, _ = _ranges(self.timepoint_ptr, landmarks)
        series, series_ptr, series_shift, _ = _ranges(self.series_ptr, landmarks)
        owner = _owner(ptr, len(row))
        edges = {}
        for name, relation in self.edges.items():
            edge, edge_ptr, _, edge_owner = _ranges(relation.ptr, landmarks)
            moved = (point_shift if name == "next_timepoint" else shift).index_select(0, edge_owner)
            edges[name] = Relation(
                relation.source.index_select(0, edge) - moved,
                relation.target.index_select(0, edge) - moved,
                relation.attribute.index_select(0, edge),
                edge_ptr,
            )
        return NodeTable(
            ptr=ptr,
            code=self.code.index_select(0, row),
            kind=self.kind.index_select(0, row),
            x=self.x.index_select(0, row),
            vector=self.vector.index_select(0, row),
            timepoint=self.timepoint.index_select(0, row) - point_shift.index_select(0, owner),
            series=self.series.index_select(0, row) - series_shift.index_select(0, owner),
            timepoint_ptr=timepoint_ptr,
            timepoint_x=self.timepoint_x.index_select(0, point),
            series_ptr=series_ptr,
            series_code=self.series_code.index_select(0, series),
            edges=edges,
            number=self.number.index_select(0, landmarks),
            level=self.level.index_select(0, landmarks),
            day=self.day.index_select(0, landmarks),
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
        edges = {}
        for name, relation in self.edges.items():
            if name == "next_timepoint":
                edges[name] = relation
                continue
            stay = kept[relation.source] & kept[relation.target]
            edges[name] = Relation(
                place[relation.source[stay]],
                place[relation.target[stay]],
                relation.attribute[stay],
                _counted(stay)[relation.ptr],
            )
        columns = ("code", "kind", "x", "vector", "timepoint")
        return replace(
            self,
            **{name: getattr(self, name)[kept] for name in columns},
            ptr=_counted(kept)[self.ptr],
            series=(used.cumsum(0) - 1)[self.series[kept]],
            series_ptr=_counted(used)[self.series_ptr],
            series_code=self.series_code[used],
            edges=edges,
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

        def shifted(values: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
            before, moved = 0, []
            for value, size in zip(values, sizes, strict=True):
                moved.append(value + before)
                before += size
            return torch.cat(moved)

        def joined(ptrs: Sequence[Tensor]) -> Tensor:
            sizes = [int(ptr[-1]) for ptr in ptrs]
            first = ptrs[0].new_zeros(1)
            return torch.cat([first, shifted([ptr[1:] for ptr in ptrs], sizes)])

        rows, points = [t.rows for t in tables], [len(t.timepoint_x) for t in tables]
        edges = {}
        for name in tables[0].edges:
            parts = [t.edges[name] for t in tables]
            sizes = points if name == "next_timepoint" else rows
            edges[name] = Relation(
                shifted([part.source for part in parts], sizes),
                shifted([part.target for part in parts], sizes),
                torch.cat([part.attribute for part in parts]),
                joined([part.ptr for part in parts]),
            )
        plain = ("code", "kind", "x", "vector", "timepoint_x", "series_code", "number", "level", "day")
        return NodeTable(
            **{name: torch.cat([getattr(t, name) for t in tables]) for name in plain},
            **{
                name: joined([getattr(t, name) for t in tables])
                for name in ("ptr", "timepoint_ptr", "series_ptr")
            },
            timepoint=shifted([t.timepoint for t in tables], points),
            series=shifted([t.series for t in tables], [len(t.series_code) for t in tables]),
            edges=edges,
        )

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
        columns = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "edges"}
        edges = {
            name: Relation(**{f.name: getattr(relation, f.name).to(device) for f in fields(relation)})
            for name, relation in self.edges.items()
        }
        return NodeTable(**{name: column.to(device) for name, column in columns.items()}, edges=edges)


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
    series, series_ptr, series_code = _series(rows, landmarks)
    edges = {name: _relation(name, graphs, vocabulary, base, place, rows, landmarks) for name in BETWEEN_ROWS}
    points = graphs["timepoint"]
    edges["next_timepoint"] = _next_timepoint(graphs, points, vocabulary, landmarks)
    clock = _clock(vocabulary, graphs.statics.at.device)
    return NodeTable(
        ptr=_pointer(rows["owner"], landmarks),
        code=rows["code"],
        kind=rows["kind"],
        x=rows["x"],
        vector=rows["vector"],
        timepoint=rows["timepoint"],
        series=series,
        timepoint_ptr=_pointer(points.owner, landmarks),
        timepoint_x=_standard_times(points.age, clock),
        series_ptr=series_ptr,
        series_code=series_code,
        edges=edges,
        number=_numbers(graphs, vocabulary),
        level=_levels(graphs, vocabulary),
        day=_standard_times(graphs.statics.at, vocabulary.times["patient"].table().to(clock.device)),
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


def _series(rows: Mapping[str, Tensor], landmarks: int) -> tuple[Tensor, Tensor, Tensor]:
    """Series of each row, first series of each landmark, code of each series."""
    code, track = rows["code"], rows["track"] + 1
    codes, tracks = (int(x.max()) + 1 if len(x) else 1 for x in (code, track))
    key, series = ((rows["owner"] * codes + code) * tracks + track).unique(return_inverse=True)
    return series, _pointer(key // (codes * tracks), landmarks), key // tracks % codes


def _pointer(owner: Tensor, landmarks: int) -> Tensor:
    return torch.cat([owner.new_zeros(1), torch.bincount(owner, minlength=landmarks).cumsum(0)])


def _relation(
    name: str,
    graphs: Graphs,
    vocabulary: Vocabulary,
    base: Mapping[str, int],
    place: Tensor,
    rows: Mapping[str, Tensor],
    landmarks: int,
) -> Relation:
    """The edges of one relation between rows, of all node types."""
    found = [
        torch.stack([place[base[source] + edge[0]], place[base[target] + edge[1]]])
        for (source, relation, target), edge in graphs.edges.items()
        if relation == name and source in base and target in base
    ]
    source, target = torch.cat([place.new_zeros(2, 0), *found], 1)
    order = target.argsort(stable=True)
    source, target = source[order], target[order]
    clock = _clock(vocabulary, place.device)
    gap = (rows["age"][source] - rows["age"][target]).clamp(min=0)
    z = rows["z"]
    if name == "during":
        change = z[source]
    elif name in ("same", "first"):
        change = (z[target] - z[source]) / _change_scale(name, vocabulary, z)[rows["code"][target]]
    else:
        change = torch.full_like(gap, torch.nan)
    given = change.isfinite()
    change = change.nan_to_num(0.0).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
    attribute = torch.cat([torch.stack([change, given.to(z.dtype)], 1), _spans(gap, clock)], 1)
    return Relation(source, target, attribute, _pointer(rows["owner"][target], landmarks))


def _change_scale(name: str, vocabulary: Vocabulary, like: Tensor) -> Tensor:
    """By what a change of each code is divided."""
    scales = vocabulary.changes if name == "same" else vocabulary.drifts
    spread = [
        std
        for kind, names in vocabulary.codes.items()
        for std in (scales[kind].std if kind in scales else (1.0,) * len(names))
    ]
    return like.new_tensor(spread)


def _next_timepoint(graphs: Graphs, points: Nodes, vocabulary: Vocabulary, landmarks: int) -> Relation:
    edge = graphs.edges.get(("timepoint", "next", "timepoint"))
    source, target = points.code.new_zeros(2, 0) if edge is None else edge
    order = target.argsort(stable=True)
    source, target = source[order], target[order]
    gap = (points.age[source] - points.age[target]).clamp(min=0)
    spans = _spans(gap, _clock(vocabulary, gap.device))
    attribute = torch.cat([torch.zeros_like(spans), spans], 1)
    return Relation(source, target, attribute, _pointer(points.owner[target], landmarks))


def _numbers(graphs: Graphs, vocabulary: Vocabulary) -> Tensor:
    """Standardised static numbers, matched by name; nan is missing."""
    number, wanted = graphs.statics.number, vocabulary.numbers
    if graphs.numbers != wanted:
        padded = torch.cat([number.new_full((len(number), 1), torch.nan), number], 1)
        number = padded[:, positions(wanted, (None, *graphs.numbers), number.device)]
    scale = vocabulary.values["patient"].table().to(number.device)
    return standardise(number, scale[:, None].expand(3, *number.shape))


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
