"""The only place where graphs are made: landmarks in, one patient graph each out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from gnnpatient.cohort.cohort import Landmarks, check_landmarks
from gnnpatient.cohort.packed import Events, sort
from gnnpatient.files import room_for
from gnnpatient.graphs import EdgeType, Graphs, Nodes, Statics
from gnnpatient.times import DAY

_MAX_COMPLETE = 4  # rows of a moment that are joined to every row of another one
_NODE_BYTES = 80  # that a node takes
_EDGE_BYTES = 24  # that an edge takes together with its reverse
_ATTRIBUTE_BYTES = 8  # that its attributes take


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
            code=torch.from_numpy(h.code.astype(np.int64)),
            value=torch.from_numpy(h.events.value[h.row]),
            age=torch.from_numpy(((landmarks.at[h.owner] - h.happened) / DAY).astype(np.float32)),
            owner=torch.from_numpy(h.owner),
            timepoint=torch.from_numpy(h.events.timepoint[h.row] + first[h.owner]),
            open=torch.from_numpy(h.open()),
            row=torch.from_numpy(h.vector_row()),
            vector=torch.from_numpy(h.vectors(cohort.vectors.get(kind))),
            bound=None if h.events.bound is None else torch.from_numpy(h.events.bound[h.row]),
            duration=torch.from_numpy(h.duration()),
            track=None if h.events.track is None else torch.from_numpy(h.events.track[h.row]),
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
            both = torch.from_numpy(_edges(visible[source], relation, visible.get(target), nodes[source]))
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
        # at four edges a row of each relation; "during" is counted when it is known how many it has
        of_kind = [name for source, name, _ in cohort.spec.edge_types[::2] if source == kind]
        relations = len(of_kind) - of_kind.count("during")
        width = cohort.vectors[kind].shape[1] if kind in cohort.vectors else 0
        row_bytes = _NODE_BYTES + 4 * width + 4 * relations * (_EDGE_BYTES + _ATTRIBUTE_BYTES)
        rows, size = rows + count, size + count * row_bytes
    room_for(size, f"graphs of {len(landmarks)} landmarks with {rows} rows")


class _VisibleRows:
    """The visible rows of one node type, of all landmarks one after the other."""

    def __init__(self, events: Events, landmarks: Landmarks) -> None:
        self.events = events
        self.ptr, self.owner, self.row = events.visible_rows(landmarks.patient, landmarks.at)
        self.happened = events.happened[self.row]
        self.code = events.code[self.row]
        self.at = landmarks.at[self.owner]

    @cached_property
    def end(self) -> np.ndarray | None:
        """When each row's interval ended, as is known at the landmark: later than that where it is open."""
        if self.events.until is None:
            return None
        return np.minimum(self.events.until[self.row], self.at + 1)

    def open(self) -> np.ndarray:
        """Whether each row's interval is running at the landmark; never where the node type has none."""
        return np.zeros(len(self.row), bool) if self.end is None else self.end > self.at

    def duration(self) -> np.ndarray:
        """Days that each row's interval has lasted by the landmark, 0 = it is none: (node,) float32."""
        if self.end is None:
            return np.zeros(len(self.row), np.float32)
        lasted = np.minimum(self.end, self.at) - self.happened
        return (np.maximum(lasted, 0) / DAY).astype(np.float32)

    @cached_property
    def moments(self) -> Groups:
        """The moments of each landmark."""
        return Groups.of(self.owner, moment=self.happened)

    @cached_property
    def series(self) -> Groups:
        """The moments of each series: the rows of one code, of one object where they have one."""
        track = () if self.events.track is None else (self.events.track[self.row],)
        return Groups.of(self.owner, self.code, *track, moment=self.happened)

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
    source, nth = _each(end - start)
    target = order[start[source] + nth]
    return np.stack([source, target, source])


def _edges(one: _VisibleRows, relation: str, other: _VisibleRows | None, nodes: Nodes) -> np.ndarray:
    """(3, edge) source, target, source again: the first two rows are the edge, the last two its reverse."""
    if relation == "at":
        source, target = np.arange(len(one.owner)), nodes.timepoint.numpy()
    elif relation == "of":
        source, target = np.arange(len(one.owner)), one.owner
    elif relation == "next":
        source, target = one.moments.following()
    elif relation == "same":
        source, target = one.series.following()
    elif relation == "first":
        source, target = one.series.from_first()
    else:
        assert other is not None
        source, target = _during(one, other)
    return np.stack([source, target, source])


def _during(intervals: _VisibleRows, rows: _VisibleRows) -> tuple[np.ndarray, np.ndarray]:
    """Join each interval to the rows that happened while it was running, at most one of each code a row.

    It is running from its beginning until before its end, as far as that is known at the landmark. Of several
    of one code it is the one that ends last, of those the one that began last. A row is not joined to itself.
    """
    if intervals.end is None or not (len(intervals.row) and len(rows.row)):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = sort(intervals.owner, intervals.code, intervals.happened, intervals.end)
    owner, code, begin, end = (
        column[order] for column in (intervals.owner, intervals.code, intervals.happened, intervals.end)
    )
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(owner) != 0) | (np.diff(code) != 0)
    by_end = sort(new.cumsum(), end)
    rank = np.empty(len(order), np.int64)
    rank[by_end] = np.arange(len(order))
    latest = by_end[np.maximum.accumulate(rank)]  # of those that began by then, which one ends last
    # From its beginning until the next one begins, `latest` speaks for the code, as long as it is running.
    stop = end[latest]
    stop[:-1][~new[1:]] = np.minimum(stop[:-1], begin[1:])[~new[1:]]
    here = np.flatnonzero(begin < stop)
    place = rows.moments.place(owner[here], begin[here], stop[here])
    count = place[1] - place[0]
    pairs = int(count.sum())
    room_for(pairs * (_EDGE_BYTES + _ATTRIBUTE_BYTES), f"{pairs} edges of what happened during intervals")
    pair, nth = _each(count)
    source, target = order[latest[here[pair]]], rows.moments.order[place[0][pair] + nth]
    if rows is intervals:  # who ends last may be the row itself, then it is the one before
        itself = source == target
        at = np.empty(len(order), np.int64)
        at[order] = np.arange(len(order))
        mine = at[target[itself]]
        before = latest[np.maximum(mine - 1, 0)]
        running = ~new[mine] & (end[before] > begin[mine])
        source[itself] = np.where(running, order[before], -1)
        source, target = source[source >= 0], target[source >= 0]
    return source, target


def _each(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each number as often as it says: which one it is, and which of its times, from 0 on."""
    which = np.repeat(np.arange(len(count)), count)
    return which, np.arange(len(which)) - np.repeat(count.cumsum() - count, count)


def _ancestors(is_a: np.ndarray, child: _VisibleRows, ancestors: _VisibleRows) -> np.ndarray:
    """(3, edge) each node, the nodes of its ancestors at the same landmark, the node again."""
    order = np.argsort(is_a[0], kind="stable")
    code, ancestor = is_a[:, order].astype(np.int64)
    mine = child.events.code[child.row]
    start, end = np.searchsorted(code, mine), np.searchsorted(code, mine, "right")
    source, nth = _each(end - start)
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


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows by series and moment. Those of one moment of a series are a group, without an order of their own.

    Two groups are joined completely while one of them has at most four rows. Beyond that each row of the
    later group is joined to the row of its rank (modulo) in the earlier one, so that the number of edges
    grows with the rows, not with their square: there are at most four for each row.

    Attributes
    ----------
    order : ndarray
        The rows, by series and moment.
    owner, moment : ndarray
        Landmark and moment of each, in that order.
    start : ndarray
        First of each group, in that order.
    first : ndarray
        Number of the first group in the series of each group.
    """

    order: np.ndarray  # (row,) int64
    owner: np.ndarray  # (row,) int64
    moment: np.ndarray  # (row,) int64
    start: np.ndarray  # (group,) int64
    first: np.ndarray  # (group,) int64

    @classmethod
    def of(cls, owner: np.ndarray, *series: np.ndarray, moment: np.ndarray) -> Groups:
        """Group rows.

        Parameters
        ----------
        owner : ndarray
            Landmark of each row, (row,) integers.
        *series : ndarray
            Further columns, (row,) integers; rows with the same of all are a series.
        moment : ndarray
            When each row happened, (row,) int64.

        Returns
        -------
        Groups
        """
        order = sort(owner, *series, moment)
        new = np.zeros(len(order), bool)
        new[:1] = True
        for column in (owner, *series):
            new[1:] |= np.diff(column[order]) != 0
        moment = moment[order]
        start = np.flatnonzero(new | (np.diff(moment, prepend=0) != 0))
        first = np.maximum.accumulate(np.where(new[start], np.arange(len(start)), 0))
        return cls(order, owner[order], moment, start, first)

    @cached_property
    def size(self) -> np.ndarray:
        """Number of rows of each group."""
        return np.diff(np.append(self.start, len(self.order)))

    def following(self) -> tuple[np.ndarray, np.ndarray]:
        """Join every row to those of the next moment of its series.

        Returns
        -------
        earlier, later : ndarray
            Rows of both ends of each edge, (edge,) int64.

        Examples
        --------
        >>> Groups.of(np.array([0, 0, 0, 1]), moment=np.array([5, 7, 7, 9])).following()
        (array([0, 0]), array([1, 2]))
        """
        later = np.flatnonzero(self.first < np.arange(len(self.first)))
        before, after = self.size[later - 1], self.size[later]
        return self._joined(later - 1, later, np.minimum(before, after) > _MAX_COMPLETE)

    def from_first(self) -> tuple[np.ndarray, np.ndarray]:
        """Join the rows of the first moment of each series to every later row of it.

        A first moment of more than four rows gives each later row one edge.

        Returns
        -------
        earlier, later : ndarray
            Rows of both ends of each edge, (edge,) int64.

        Examples
        --------
        >>> Groups.of(np.array([0, 0, 0]), moment=np.array([5, 7, 9])).from_first()
        (array([0, 0]), array([1, 2]))
        """
        later = np.flatnonzero(self.first < np.arange(len(self.first)))
        first = self.first[later]
        return self._joined(first, later, self.size[first] > _MAX_COMPLETE)

    def _joined(
        self, earlier: np.ndarray, later: np.ndarray, by_rank: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The rows of pairs of groups, joined by rank or completely."""
        before, after = self.size[earlier], self.size[later]
        pair, nth = _each(np.where(by_rank, after, before * after))
        place = np.where(by_rank[pair], nth % before[pair], nth // after[pair])
        source = self.order[self.start[earlier][pair] + place]
        return source, self.order[self.start[later][pair] + nth % after[pair]]

    def place(self, owner: np.ndarray, *moments: np.ndarray) -> tuple[np.ndarray, ...]:
        """Find where moments would be among the rows of their landmarks, where the landmark is the series.

        Parameters
        ----------
        owner : ndarray
            Landmark of each moment, (moment,) integers.
        *moments : ndarray
            (moment,) int64.

        Returns
        -------
        tuple of ndarray
            For each, the position in `order` of the first row that did not happen before, (moment,) int64.

        Examples
        --------
        >>> rows = Groups.of(np.array([0, 0, 1]), moment=np.array([5, 7, 6]))
        >>> rows.place(np.array([0, 1]), np.array([6, 6]))
        (array([1, 2]),)
        """
        low = int(self.moment.min())
        span = int(self.moment.max()) - low + 2
        key = self.owner * span + self.moment - low
        wanted = [owner * span + np.clip(moment - low, 0, span - 1) for moment in moments]
        return tuple(np.searchsorted(key, one) for one in wanted)
