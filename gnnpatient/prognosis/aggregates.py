"""History of each code as columns of a table, one row a landmark, and their bins, for models of tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from gnnpatient.graphs import Graphs, Nodes, merge_codes, positions
from gnnpatient.model.basis import Basis
from gnnpatient.model.vocabulary import MAX_DEVIATIONS, Vocabulary

# What is computed of the rows of one code of one landmark.
STATISTICS = (
    *("last", "mean", "sd", "min", "max", "slope", "change"),  # of its values
    *(
        "since",
        "first",
        "gap",
    ),  # days from the latest and the first row to the landmark, mean between moments
    *("count", "running", "duration", "share", "dose"),  # 0 without a row
)
CONTENT = ("mean", "change")  # along each axis of the vectors of a node type
VALUES, ZERO_FILLED = STATISTICS[:7], STATISTICS[10:]
VISITS, STATICS = "timepoint", "patient"
MAX_COLUMNS = 512  # those that most patients have
MAX_BINS = 32  # of a column
MISSING = 255  # the bin of a missing value
LARGEST = float(np.finfo(np.float32).max)  # of a sum of products, too


@dataclass(frozen=True)
class _Part:
    """Statistics of the items (codes, axes, statics) of one block, where a landmark has them."""

    owner: Int[ndarray, " slot"]
    item: Int[ndarray, " slot"]
    values: Float[ndarray, "slot statistic"]


@dataclass(frozen=True, eq=False)
class Aggregates:
    """Columns of the history of each code, and the edges of their bins; neither keeps a patient's value.

    A column is a statistic of an item of a block. Blocks are the node types of the vocabulary with their
    codes, their contents with the axes of their vectors, the visits, and the statics. Values are raw, in the
    unit of the code; without a row a statistic is missing (nan), a count is 0.

    Attributes
    ----------
    vocabulary : Vocabulary
        Names of the training graphs.
    bases : mapping of str to Basis
        Principal axes of the vectors of each node type.
    columns : ndarray
        Block, item and statistic of each column.
    edges : ndarray
        Of each column the upper edges of its bins, rising, then inf.
    """

    vocabulary: Vocabulary
    bases: Mapping[str, Basis]
    columns: Int[ndarray, "column 3"]
    edges: Float[ndarray, "column edge"]

    def __len__(self) -> int:
        return len(self.columns)

    @classmethod
    def fit(
        cls,
        graphs: Graphs,
        patient: Int[ndarray, " landmark"],
        vocabulary: Vocabulary,
        bases: Mapping[str, Basis],
        least: int = 1,
    ) -> Aggregates:
        """Choose the columns, and the edges of their bins.

        A column needs `least` patients who have it, and two bins. Of columns that part the landmarks alike
        one is kept; where there are more than `MAX_COLUMNS`, those that most landmarks have.

        Parameters
        ----------
        graphs : Graphs
            Training graphs, of some landmarks of each patient.
        patient : ndarray
            Whose landmark each is.
        vocabulary : Vocabulary
            Names of the training graphs.
        bases : mapping of str to Basis
            Principal axes of the vectors of each node type.
        least : int
            Fewest patients in a bin, default 1.

        Returns
        -------
        Aggregates
        """

        def unbinned(columns: np.ndarray) -> Aggregates:
            return cls(vocabulary, bases, columns, np.full((len(columns), MAX_BINS - 1), np.inf, np.float32))

        empty = unbinned(np.zeros((0, 3), np.int64))
        blocks, counts = [], []
        for block, part in enumerate(empty._parts(graphs)):
            items = len(empty._blocks[block][1])
            count = np.zeros((items, part.values.shape[1]), np.int64)
            np.add.at(count, part.item, np.isfinite(part.values))
            item, statistic = np.nonzero(count >= least)
            blocks.append(np.stack([np.full(len(item), block), item, statistic], 1))
            counts.append(count[item, statistic])
        # twice as many as are kept: some will have one bin, or part the landmarks as another does
        columns, count = np.concatenate(blocks), np.concatenate(counts)
        columns = columns[np.sort(np.argsort(-count, kind="stable")[: 2 * MAX_COLUMNS])]
        table = unbinned(columns).values(graphs)
        edges = np.stack([_edges(x, patient, least) for x in table.T]) if len(columns) else empty.edges
        seen: dict[bytes, int] = {}
        for place, bins in enumerate(_binned(table, edges).T):
            if np.isfinite(edges[place, 0]):
                seen.setdefault(bins.tobytes(), place)
        kept = np.array(list(seen.values())[:MAX_COLUMNS], np.int64)
        return cls(vocabulary, bases, columns[kept], edges[kept])

    @cached_property
    def _blocks(self) -> tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]:
        """Name, items and statistics of each block."""
        known = self.vocabulary
        axes = {kind: tuple(map(str, range(size.kept))) for kind, size in known.vectors.items()}
        levels = tuple(f"{name} = {level}" for name, names in known.levels.items() for level in names)
        return (
            *((kind, names, STATISTICS) for kind, names in known.codes.items()),
            *((f"{kind} content", names, CONTENT) for kind, names in axes.items()),
            (VISITS, ("",), STATISTICS),
            (STATICS, ("day", *known.numbers, *levels), ("last",)),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The columns in words, as ``"lab bilirubin slope"``."""
        found = []
        for block, item, statistic in self.columns.tolist():
            kind, items, statistics = self._blocks[block]
            found.append(" ".join(part for part in (kind, items[item], statistics[statistic]) if part))
        return tuple(found)

    def values(self, graphs: Graphs) -> Float[ndarray, "landmark column"]:
        """Compute the columns.

        Parameters
        ----------
        graphs : Graphs
            Of any landmarks, in the cohort's own codes, on the CPU.

        Returns
        -------
        ndarray
            float32; nan is missing.
        """
        table = np.full((len(graphs), len(self)), np.nan, np.float32)
        for block, part in enumerate(self._parts(graphs)):
            _, items, statistics = self._blocks[block]
            mine = np.flatnonzero(self.columns[:, 0] == block)
            place = np.full((len(items), len(statistics)), -1)
            place[self.columns[mine, 1], self.columns[mine, 2]] = mine
            for statistic, name in enumerate(statistics):
                if name in ZERO_FILLED:
                    table[:, place[place[:, statistic] >= 0, statistic]] = 0.0
                to = place[part.item, statistic]
                some = to >= 0
                table[part.owner[some], to[some]] = part.values[some, statistic].clip(-LARGEST, LARGEST)
        return table

    def bins(self, graphs: Graphs) -> UInt8[ndarray, "landmark column"]:
        """Compute the columns, each value as the number of its bin, `MISSING` where there is none.

        Parameters
        ----------
        graphs : Graphs
            Of any landmarks, in the cohort's own codes, on the CPU.

        Returns
        -------
        ndarray
        """
        return _binned(self.values(graphs), self.edges)

    def _parts(self, graphs: Graphs) -> Iterator[_Part]:
        """The statistics of each block in turn."""
        known, size = self.vocabulary, len(graphs)
        graphs = merge_codes(graphs, known.codes, known.above)
        for kind in known.codes:
            nodes = graphs.nodes.get(kind)
            yield _none(STATISTICS) if nodes is None else _series(nodes)
        for kind, axes in known.vectors.items():
            nodes = graphs.nodes.get(kind)
            if nodes is None or nodes.vector.shape[1] != axes.columns or not len(nodes):
                yield _none(CONTENT)
            else:
                yield _content(nodes, self.bases[kind])
        yield _series(graphs[VISITS])
        statics, columns = graphs.statics, [graphs.statics.at.numpy()]
        for name in known.numbers:
            at = graphs.numbers.index(name) if name in graphs.numbers else None
            columns.append(np.full(size, np.nan) if at is None else statics.number[:, at].numpy())
        places = {name: i for i, name in enumerate(graphs.levels)}
        for name, levels in known.levels.items():
            if name not in places:
                columns += [np.full(size, np.nan)] * len(levels)
                continue
            level = statics.category[:, places[name]]
            place = positions(graphs.levels[name], (None, *levels), level.device).numpy()
            of = np.where(level.numpy() < 0, np.nan, place[level.numpy()] if len(place) else np.nan)
            columns += [np.where(np.isnan(of), np.nan, of == i) for i in range(1, 1 + len(levels))]
        item, owner = np.divmod(np.arange(size * len(columns)), max(size, 1))
        yield _Part(owner, item, np.concatenate(columns)[:, None])

    def tensors(self) -> dict[str, Tensor]:
        """Columns and edges by name.

        Returns
        -------
        dict of str to Tensor
        """
        edges = np.where(np.isfinite(self.edges), self.edges, np.finfo(np.float32).max)
        return {"columns": torch.from_numpy(self.columns), "edges": torch.from_numpy(edges)}

    @classmethod
    def load(
        cls, tensors: Mapping[str, Tensor], vocabulary: Vocabulary, bases: Mapping[str, Basis]
    ) -> Aggregates:
        """Read what `tensors` gave.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            From `tensors`.
        vocabulary : Vocabulary
            Names of the training graphs.
        bases : mapping of str to Basis
            Principal axes of the vectors of each node type.

        Returns
        -------
        Aggregates

        Raises
        ------
        KeyError, ValueError
            When they do not fit together.
        """
        columns, edges = tensors["columns"].numpy(), tensors["edges"].numpy()
        edges = np.where(edges < np.finfo(np.float32).max, edges, np.inf).astype(np.float32)
        found = cls(vocabulary, bases, columns, edges)
        if columns.shape[1:] != (3,) or columns.dtype != np.int64 or len(edges) != len(columns):
            raise ValueError("columns")
        if edges.ndim != 2 or edges.shape[1] != MAX_BINS - 1:
            raise ValueError("edges")
        if ((edges[:, 1:] <= edges[:, :-1]) & np.isfinite(edges[:, 1:])).any():  # each column's rise
            raise ValueError("edges")
        sizes = np.array([(len(items), len(statistics)) for _, items, statistics in found._blocks])
        if (columns < 0).any() or (columns[:, 0] >= len(sizes)).any():
            raise ValueError("columns")
        if (columns[:, 1:] >= sizes[columns[:, 0]]).any():
            raise ValueError("columns")
        return found


def _none(statistics: tuple[str, ...]) -> _Part:
    """No slot: a node type that these graphs lack."""
    none = np.zeros(0, np.int64)
    return _Part(none, none, np.zeros((0, len(statistics))))


def _series(nodes: Nodes) -> _Part:
    """The statistics of the rows of each code of each landmark; rows of code 0 share no unit: no values."""
    owner, code, age = nodes.owner.numpy(), nodes.code.numpy(), nodes.age.numpy().astype(np.float64)
    order = np.lexsort((-age, code, owner))  # of one slot together, the oldest first
    owner, code, age = owner[order], code[order], age[order]
    new = np.append(True, (np.diff(owner) != 0) | (np.diff(code) != 0))[: len(order)]
    slot, start = new.cumsum() - 1, np.flatnonzero(new)
    value = np.where(code > 0, nodes.value.numpy()[order].astype(np.float64), np.nan)
    assert nodes.duration is not None
    open_, duration = nodes.open.numpy()[order], nodes.duration.numpy()[order].astype(np.float64)

    def total(x: ndarray) -> ndarray:
        return np.bincount(slot, x, minlength=len(start))

    first, since = age[start], age[np.append(start[1:], len(age))[: len(start)] - 1]
    moments = total(new | np.append(True, np.diff(age) != 0)[: len(age)]) - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.where(moments > 0, (first - since) / moments, np.nan)
        share = np.where(first > 0, np.minimum(total(duration) / first, 1.0), 0.0)
    dose = total(np.nan_to_num(value) * duration)
    rows = [since, first, gap, total(np.ones(len(slot))), total(open_), total(duration), share, dose]
    return _Part(owner[start], code[start], np.stack([*_moments(slot, age, value, len(start)), *rows], 1))


def _moments(slot: ndarray, age: ndarray, value: ndarray, size: int) -> list[ndarray]:
    """VALUES of each slot, nan where it has none; the rows of a slot lie together, the oldest first."""
    found = np.full((len(VALUES), size), np.nan)
    given = np.isfinite(value)
    slot, age, value = slot[given], age[given], value[given]
    if not len(slot):
        return list(found)
    start = np.flatnonzero(np.append(True, np.diff(slot) != 0))
    at, group = slot[start], np.append(True, np.diff(slot) != 0).cumsum() - 1
    end = np.append(start[1:], len(slot)) - 1

    def mean(x: ndarray, some: ndarray | None = None) -> ndarray:
        weight = np.ones(len(x)) if some is None else some.astype(np.float64)
        return np.bincount(group, x * weight) / np.bincount(group, weight)

    middle = mean(value)
    away, days = value - middle[group], mean(age)[group] - age
    count = np.bincount(group)
    last, first = (mean(value, age == age[edge][group]) for edge in (end, start))
    with np.errstate(divide="ignore", invalid="ignore"):
        sd = np.where(count > 1, np.sqrt(mean(away**2) * count / (count - 1)), np.nan)
        slope = np.where(age[start] > age[end], mean(days * away) / mean(days**2), np.nan)
    change = np.where(age[start] > age[end], last - first, np.nan)
    low, high = np.minimum.reduceat(value, start), np.maximum.reduceat(value, start)
    found[:, at] = [last, middle, sd, low, high, slope, change]
    return list(found)


def _content(nodes: Nodes, basis: Basis) -> _Part:
    """Mean content of each landmark along each axis, and how it changed from its first row to the last."""
    content = ((nodes.vector - basis.mean) @ basis.axes).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS).double()
    owner, age = nodes.owner, nodes.age
    who, place = owner.unique(return_inverse=True)

    def mean(some: Tensor) -> Tensor:
        weight = some.double()[:, None]
        total = content.new_zeros(len(who), content.shape[1]).index_add_(0, place, content * weight)
        return total / weight.new_zeros(len(who), 1).index_add_(0, place, weight)

    none = age.new_full((len(who),), torch.inf)
    last = none.scatter_reduce(0, place, age, "amin")
    first = (-none).scatter_reduce(0, place, age, "amax")
    change = mean(age == last[place]) - mean(age == first[place])
    change = change.where((first > last)[:, None], torch.nan)
    values = torch.stack([mean(torch.ones_like(age)), change], 2)
    axis = torch.arange(content.shape[1]).expand(len(who), -1)
    return _Part(
        who.repeat_interleave(content.shape[1]).numpy(), axis.flatten().numpy(), values.flatten(0, 1).numpy()
    )


def _edges(x: Float[ndarray, " row"], patient: Int[ndarray, " row"], least: int) -> Float[ndarray, " edge"]:
    """Upper edges of the bins of a column, then inf.

    An edge is the roundest number from a quantile up to the next one; each bin, and what is missing if it is
    of any, has values of `least` patients.
    """
    edges = np.full(MAX_BINS - 1, np.inf, np.float32)
    order = np.argsort(x, kind="stable")
    order = order[: np.isfinite(x).sum()]
    value, patient = x[order].astype(np.float64), patient[order]
    cut = np.unique(value[(np.arange(1, MAX_BINS) * len(value)) // MAX_BINS]) if len(value) else value
    low, high = cut, np.append(cut[1:], value[-1:])  # where the values are many, the next quantile is near
    low, high = low[low < high], high[low < high]
    round_edges = _roundest(low, high).astype(np.float32)
    of = np.argsort(patient, kind="stable")
    again = patient[of[1:]] == patient[of[:-1]]
    before, last = np.full(len(patient), -1), np.ones(len(patient), bool)
    before[of[1:][again]] = of[:-1][again]  # where the same patient's value below is
    last[of[:-1][again]] = False
    ahead = np.append(last[::-1].cumsum()[::-1], 0)  # patients from each place on
    kept = since = 0
    for edge, upto in zip(round_edges, np.searchsorted(value, round_edges, "right"), strict=True):
        if np.count_nonzero(before[since:upto] < since) >= least and ahead[upto] >= least:
            edges[kept], kept, since = edge, kept + 1, upto
    return edges


def _roundest(low: Float[ndarray, " edge"], high: Float[ndarray, " edge"]) -> Float[ndarray, " edge"]:
    """A number with few digits in each [low, high)."""
    step = 10.0 ** np.floor(np.log10(high - low))
    written = low.astype(np.float32).astype(str).astype(np.float64)  # 0.6, not 0.6000000238
    return np.ceil(np.round(written / step, 6)) * step


def _binned(table: Float[ndarray, "row column"], edges: Float[ndarray, "column edge"]) -> ndarray:
    """The number of each value's bin, `MISSING` where there is none."""
    bins = np.empty(table.shape, np.uint8)
    for place, (x, edge) in enumerate(zip(table.T, edges, strict=True)):
        bins[:, place] = np.where(np.isfinite(x), np.searchsorted(edge, x, "left"), MISSING)
    return bins
