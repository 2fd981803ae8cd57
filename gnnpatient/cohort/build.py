"""The only place where graphs are made: landmarks in, one patient graph each out."""

from __future__ import annotations

import numpy as np
import torch

from gnnpatient.cohort.cohort import Landmarks, check_landmarks
from gnnpatient.cohort.packed import Events, sort
from gnnpatient.files import room_for
from gnnpatient.graphs import EdgeType, Graphs, Nodes, Statics
from gnnpatient.times import DAY

_MAX_COMPLETE = 4  # rows of a moment that are joined to every row of the next one
_NODE_BYTES = 64  # that a node takes
_RELATION_BYTES = 64  # that its part of each relation takes, at four edges of it


def build_graphs(landmarks: Landmarks) -> Graphs:
    """Build the graph of what was known at each landmark. Later rows are never read.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times.

    Returns
    -------
    Graphs
        All graphs in one disjoint union, with every node type and relation of the spec, also without rows.

    Raises
    ------
    InputError
        When the rows on disk are not as they were packed, or the graphs take more memory than there is.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> graphs = build_graphs(pbc().at(400, patient="1"))
    >>> len(graphs["timepoint"]), graphs["sign"].age.unique().tolist()
    (2, [208.0, 400.0])
    """
    cohort = check_landmarks(landmarks, "build_graphs").cohort
    cohort.verify(landmarks.patient)
    _check_memory(landmarks)
    visible = {kind: _VisibleRows(events, landmarks) for kind, events in cohort.events.items()}
    first = visible["timepoint"].ptr  # of each landmark's timepoints
    nodes = {
        kind: Nodes(
            ptr=torch.from_numpy(h.ptr),
            code=torch.from_numpy(h.events.code[h.row].astype(np.int64)),
            value=torch.from_numpy(h.events.value[h.row]),
            age=torch.from_numpy(((landmarks.at[h.owner] - h.happened) / DAY).astype(np.float32)),
            owner=torch.from_numpy(h.owner),
            timepoint=torch.from_numpy(h.events.timepoint[h.row] + first[h.owner]),
            open=torch.from_numpy(h.open(landmarks.at)),
            row=torch.from_numpy(h.vector_row()),
            vector=torch.from_numpy(h.vectors(cohort.vectors.get(kind))),
            bound=None if h.events.bound is None else torch.from_numpy(h.events.bound[h.row]),
        )
        for kind, h in visible.items()
    }
    edges: dict[EdgeType, torch.Tensor] = {}
    for source, relation, target in cohort.spec.edge_types[::2]:
        if relation in ("describes", "measures"):
            one, other = visible[source], visible[target]
            measures = cohort.spec.nodes[source].measures is not None
            common = _image_numbers(one, other) if measures else (one.study(), other.study())
            both = torch.from_numpy(_joined(one, other, *common))
        elif relation == "is_a":
            both = torch.from_numpy(_ancestors(cohort.is_a[target], visible[source], visible[target]))
        else:
            both = torch.from_numpy(
                _edges(visible[source], relation, nodes[source], len(cohort.codes[source]))
            )
        edges[source, relation, target] = both[:2]
        edges[target, f"rev_{relation}", source] = both[1:]
    number, category = cohort.statics(landmarks.patient, landmarks.at)
    return Graphs(
        nodes=nodes,
        edges=edges,
        statics=Statics(
            number=torch.from_numpy(number),
            category=torch.from_numpy(category.astype(np.int64)),
            at=torch.from_numpy(landmarks.days.astype(np.float32)),
        ),
        codes=cohort.codes,
        numbers=cohort.spec.patient.number,
        levels=cohort.levels,
    )


def _check_memory(landmarks: Landmarks) -> None:
    """Refuse graphs that take more memory than there is, before any is taken."""
    cohort, size, rows = landmarks.cohort, 0, 0
    for kind, events in cohort.events.items():
        end, begin = events.visible_end(landmarks.patient, landmarks.at), events.ptr[landmarks.patient]
        count = int((end - begin).sum())
        relations = sum(kind in (source, target) for source, _, target in cohort.spec.edge_types)
        width = cohort.vectors[kind].shape[1] if kind in cohort.vectors else 0
        rows, size = rows + count, size + count * (_NODE_BYTES + 4 * width + relations * _RELATION_BYTES)
    room_for(size, f"graphs of {len(landmarks)} landmarks with {rows} rows")


class _VisibleRows:
    """The visible rows of one node type, of all landmarks one after the other."""

    def __init__(self, events: Events, landmarks: Landmarks) -> None:
        self.events = events
        self.ptr, self.owner, self.row = events.visible_rows(landmarks.patient, landmarks.at)
        self.happened = events.happened[self.row]

    def open(self, at: np.ndarray) -> np.ndarray:
        """Whether each row's interval is running at the landmark; never where the node type has none."""
        if self.events.until is None:
            return np.zeros(len(self.row), bool)
        return self.events.until[self.row] > at[self.owner]

    def vector_row(self) -> np.ndarray:
        """Row of the embedding matrix of each node, -1 = none: (node,) int64."""
        if self.events.vector is None:
            return np.full(len(self.row), -1)
        return self.events.vector[self.row].astype(np.int64)

    def study(self) -> np.ndarray:
        """Number that each node shares with nodes of other types, -1 = none: (node,) int64."""
        if self.events.study is None:
            return np.full(len(self.row), -1)
        return self.events.study[self.row]

    def vectors(self, matrix: np.ndarray | None) -> np.ndarray:
        """Embedding of each node's image or text: (node, channel) float32; no channel in other types."""
        if matrix is None or self.events.vector is None:
            return np.zeros((len(self.row), 0), np.float32)
        return np.asarray(matrix)[self.events.vector[self.row]].astype(np.float32)


def _image_numbers(one: _VisibleRows, other: _VisibleRows) -> tuple[np.ndarray, np.ndarray]:
    """A number for the image of each measurement, and for each image; -1 = none.

    It is the same where the content and the moment are the same.
    """
    vector = np.concatenate([one.vector_row(), other.vector_row()])
    happened = np.concatenate([one.happened, other.happened])
    if not len(vector):
        return vector, vector
    span = int(vector.max()) + 2  # times lie within 150 years, so the product fits 63 bits
    _, number = np.unique((happened - happened.min()) * span + vector + 1, return_inverse=True)
    number = np.where(vector < 0, -1, number)
    return number[: len(one.row)], number[len(one.row) :]


def _joined(one: _VisibleRows, other: _VisibleRows, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(3, edge) each node, the other type's nodes with its number at the same landmark, the node again.

    The number -1 joins nothing.
    """
    if not (len(mine) and len(theirs)):
        return np.zeros((3, 0), np.int64)
    span = int(max(mine.max(), theirs.max())) + 2
    key = other.owner * span + theirs + 1
    order = np.flatnonzero(theirs >= 0)
    order = order[np.argsort(key[order], kind="stable")]
    wanted = np.where(mine >= 0, one.owner * span + mine + 1, -1)
    start, end = (np.searchsorted(key[order], wanted, side) for side in ("left", "right"))
    source = np.repeat(np.arange(len(mine)), end - start)
    nth = np.arange(len(source)) - np.repeat((end - start).cumsum() - (end - start), end - start)
    target = order[start[source] + nth]
    return np.stack([source, target, source])


def _edges(visible: _VisibleRows, relation: str, nodes: Nodes, codes: int) -> np.ndarray:
    """(3, edge) source, target, source again: the first two rows are the edge, the last two its reverse."""
    if relation == "at":
        source, target = np.arange(len(visible.owner)), nodes.timepoint.numpy()
    elif relation == "of":
        source, target = np.arange(len(visible.owner)), visible.owner
    elif relation == "next":
        source, target = following(visible.owner, visible.happened)
    else:
        source, target = following(visible.owner * codes + nodes.code.numpy(), visible.happened)
    return np.stack([source, target, source])


def _ancestors(is_a: np.ndarray, child: _VisibleRows, ancestors: _VisibleRows) -> np.ndarray:
    """(3, edge) each node, the nodes of its ancestors at the same landmark, the node again."""
    order = np.argsort(is_a[0], kind="stable")
    code, ancestor = is_a[:, order].astype(np.int64)
    mine = child.events.code[child.row]
    start, end = np.searchsorted(code, mine), np.searchsorted(code, mine, "right")
    source = np.repeat(np.arange(len(mine)), end - start)
    nth = np.arange(len(source)) - np.repeat((end - start).cumsum() - (end - start), end - start)
    wanted = ancestor[start[source] + nth]
    span = int(max(ancestor.max(initial=0), ancestors.events.code[ancestors.row].max(initial=0))) + 1
    # A landmark has one node of each ancestor.
    key = ancestors.owner * span + ancestors.events.code[ancestors.row]
    by_key = np.argsort(key, kind="stable")
    wanted_key = child.owner[source] * span + wanted
    place = np.searchsorted(key[by_key], wanted_key).clip(max=max(0, len(key) - 1))
    # An ancestor may be left out by choice.
    there = key[by_key][place] == wanted_key if len(key) else np.zeros(len(place), bool)
    source, target = source[there], by_key[place[there]]
    return np.stack([source, target, source])


def following(series: np.ndarray, happened: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join every row to the rows of the next later moment of its series, by at most four edges a row.

    Rows of one moment form a group and are not joined to each other. Two groups are joined completely while
    one of them has at most four rows. Beyond that each row of the later group is joined to the row of its
    rank (modulo) in the earlier one, so that the number of edges grows with the rows, not with their square.

    Parameters
    ----------
    series : ndarray
        Series of each row, (row,) int64.
    happened : ndarray
        Moment of each row, (row,) int64.

    Returns
    -------
    earlier, later : ndarray
        Rows of both ends of each edge, (edge,) int64.

    Examples
    --------
    >>> following(np.array([0, 0, 0, 1]), np.array([5, 7, 7, 9]))
    (array([0, 0]), array([1, 2]))
    """
    order = sort(series, happened)
    s, t = series[order], happened[order]
    new = np.ones(len(order), bool)
    new[1:] = (s[1:] != s[:-1]) | (t[1:] != t[:-1])
    start = np.flatnonzero(new)  # of each group
    size = np.diff(np.append(start, len(order)))
    here = np.flatnonzero(s[start[1:]] == s[start[:-1]])  # groups that have a next one
    before, wide = size[here], size[here + 1]
    by_rank = np.minimum(before, wide) > _MAX_COMPLETE
    count = np.where(by_rank, wide, before * wide)
    pair = np.repeat(np.arange(len(here)), count)
    nth = np.arange(len(pair)) - np.repeat(count.cumsum() - count, count)
    earlier = np.where(by_rank[pair], nth % before[pair], nth // wide[pair])
    return order[start[here][pair] + earlier], order[start[here + 1][pair] + nth % wide[pair]]
