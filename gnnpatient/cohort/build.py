"""The only place where graphs are born: landmarks in, one disjoint patient graph each out."""

from __future__ import annotations

import numpy as np
import torch

from gnnpatient.cohort.landmarks import Landmarks
from gnnpatient.cohort.packed import Events, sort
from gnnpatient.cohort.spec import DAY
from gnnpatient.graphs import EdgeType, Graphs, Nodes, Statics


def build_graphs(landmarks: Landmarks) -> Graphs:
    """The graphs of all asks in one disjoint union, of what was known at each. Later rows are never read.

    >>> from gnnpatient.cohort.datasets import pbc
    >>> graphs = build_graphs(pbc().at(400, patient="1"))
    >>> len(graphs["timepoint"]), graphs["sign"].age.unique().tolist()
    (2, [208.0, 400.0])
    """
    cohort = landmarks.cohort
    held = {kind: _Held.of(events, landmarks) for kind, events in cohort.events.items()}
    first = held["timepoint"].ptr  # of each ask's timepoints
    nodes = {
        kind: Nodes(
            ptr=torch.from_numpy(h.ptr),
            code=torch.from_numpy(h.events.code[h.row].astype(np.int64)),
            value=torch.from_numpy(h.events.value[h.row]),
            age=torch.from_numpy(((landmarks.at[h.owner] - h.happened) / DAY).astype(np.float32)),
            owner=torch.from_numpy(h.owner),
            timepoint=torch.from_numpy(h.events.timepoint[h.row] + first[h.owner]),
        )
        for kind, h in held.items()
    }
    edges: dict[EdgeType, torch.Tensor] = {}
    for source, rule, target in cohort.spec.edge_types[::2]:
        both = torch.from_numpy(_edges(held[source], rule, nodes[source], len(cohort.codes[source])))
        edges[source, rule, target] = both[:2]
        edges[target, f"rev_{rule}", source] = both[1:]
    return Graphs(
        nodes=nodes,
        edges=edges,
        statics=Statics(
            number=torch.from_numpy(cohort.number[landmarks.patient]),
            category=torch.from_numpy(cohort.category[landmarks.patient].astype(np.int64)),
            at=torch.from_numpy(landmarks.days.astype(np.float32)),
        ),
        codes=cohort.codes,
        numbers=cohort.spec.patient.number,
        levels=cohort.levels,
    )


class _Held:
    """The visible rows of one kind, all asks back to back."""

    def __init__(self, events: Events, ptr: np.ndarray, owner: np.ndarray, row: np.ndarray) -> None:
        self.events, self.ptr, self.owner, self.row = events, ptr, owner, row
        self.happened = events.happened[row]

    @classmethod
    def of(cls, events: Events, landmarks: Landmarks) -> _Held:
        start = events.ptr[landmarks.patient]
        count = events.visible(landmarks.patient, landmarks.at) - start
        ptr = np.concatenate([[0], count.cumsum()])
        owner = np.repeat(np.arange(len(landmarks)), count)
        return cls(events, ptr, owner, np.arange(ptr[-1]) + (start - ptr[:-1])[owner])


def _edges(held: _Held, rule: str, nodes: Nodes, codes: int) -> np.ndarray:
    """(3, edge) source, target, source again: the first two rows are the edge, the last two its reverse."""
    if rule == "at":
        source, target = np.arange(len(held.owner)), nodes.timepoint.numpy()
    elif rule == "of":
        source, target = np.arange(len(held.owner)), held.owner
    elif rule == "next":
        source, target = following(held.owner, held.happened)
    else:
        source, target = following(held.owner * codes + nodes.code.numpy(), held.happened)
    return np.stack([source, target, source])


def following(series: np.ndarray, happened: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges from every row to the rows of the next later moment of its series.

    Rows of one moment are one group: joined completely to the next group, not among themselves.
    """
    order = sort(series, happened)
    s, t = series[order], happened[order]
    new = np.ones(len(order), bool)
    new[1:] = (s[1:] != s[:-1]) | (t[1:] != t[:-1])
    start = np.flatnonzero(new)  # of each group
    size = np.diff(np.append(start, len(order)))
    here = np.flatnonzero(s[start[1:]] == s[start[:-1]])  # groups that have a next one
    wide = size[here + 1]
    count = size[here] * wide
    pair = np.repeat(np.arange(len(here)), count)
    nth = np.arange(len(pair)) - np.repeat(count.cumsum() - count, count)
    return order[start[here][pair] + nth // wide[pair]], order[start[here + 1][pair] + nth % wide[pair]]
