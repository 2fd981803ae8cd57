"""What was last seen of each code, how often, and the statics: the columns of the linear family."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gnnpatient.graphs import Graphs, Nodes, merge_codes, positions
from gnnpatient.model.basis import Basis
from gnnpatient.model.vocabulary import MAX_DEVIATIONS, YEAR, Vocabulary, standardise

KNOTS = (-1.0, 0.0, 1.0)  # standard deviations at which the slope of a value may change
MISSING = 1  # place of a missing level among those of a category, after unknown


@dataclass(frozen=True)
class Column:
    """One input of the linear family.

    Attributes
    ----------
    group : str
        Node type, or "patient": columns of a group share a score.
    block : str
        What of it: "last", "seen", "count", "rare", "running", "bound", "content", "drift", "level" or
        "time", "hinge" or "filter".
    name : str
        Code, static column, or number of an axis.
    """

    group: str
    block: str
    name: str


@dataclass(frozen=True, eq=False)
class LinearColumns:
    """What was last seen of each code, and the statics, of the graphs of some landmarks.

    Of each event node type: the standardised last value of each code, whether there ever was a row, and the
    logarithm of 1 + its rows; of rare or unknown codes together the same but for the value; whether an
    interval is running; on which side of a bound the truth lies; of images and texts the mean content along
    the axes of the training vectors, and its change from the first to the last. Of "patient": static numbers
    with a flag, levels of categories, and the time since the latest timepoint and since the origin. What is
    missing is 0. Beside them, under a stronger ridge: hinges of each value (by how much it is above -1, 0 and
    1 standard deviations), and time filters (an exponentially weighted mean of a code's series minus its last
    value, at two half-lives).

    Attributes
    ----------
    vocabulary : Vocabulary
        Names and scales of the training graphs.
    bases : mapping of str to Basis
        Principal axes of the vectors of each node type.
    """

    vocabulary: Vocabulary
    bases: Mapping[str, Basis]

    @cached_property
    def names(self) -> tuple[Column, ...]:
        """The columns, those of a group one after the other."""
        names: list[Column] = []
        for kind, codes in self.vocabulary.codes.items():
            rare = kind in self.vocabulary.rare
            blocks = {
                "last": codes[1:],
                "seen": codes[1:],
                "count": codes[0 if rare else 1 :],
                "rare": codes[:1] if rare else (),
                "running": codes[0 if rare else 1 :] if kind in self.vocabulary.running else (),
                "bound": codes[1:] if kind in self.vocabulary.bounded else (),
                "hinge": _hinged(codes[1:]),
                "filter": tuple(f"{code}/{i}" for i in range(2) for code in codes[1:]),
            }
            if kind in self.vocabulary.vectors:
                axes = tuple(map(str, range(self.vocabulary.vectors[kind].kept)))
                blocks |= {"content": axes, "drift": axes}
            names += [Column(kind, block, name) for block, some in blocks.items() for name in some]
        numbers = self.vocabulary.numbers
        blocks = {"last": numbers, "seen": numbers, "hinge": _hinged(numbers)}
        names += [Column("patient", block, name) for block, some in blocks.items() for name in some]
        for name, levels in self.vocabulary.levels.items():
            names += [
                Column("patient", "level", f"{name}={level}") for level in ("unknown", "missing", *levels)
            ]
        times = [f"{name}.{unit}" for name in ("since", "day") for unit in ("log", "years")]
        return (*names, *(Column("patient", "time", name) for name in times))

    @cached_property
    def groups(self) -> tuple[slice, ...]:
        """Where the columns of each event node type lie, then those of "patient"."""
        size = [
            sum(column.group == group for column in self.names)
            for group in (*self.vocabulary.codes, "patient")
        ]
        ends = np.cumsum(size).tolist()
        return tuple(slice(end - width, end) for end, width in zip(ends, size, strict=True))

    def __call__(self, graphs: Graphs) -> Float[Tensor, "landmark column"]:
        """Read the columns off graphs.

        Parameters
        ----------
        graphs : Graphs
            In the cohort's own codes.

        Returns
        -------
        Float[Tensor, "landmark column"]
            float32, in the order of `names`, never nan.
        """
        graphs = merge_codes(graphs, self.vocabulary.codes, self.vocabulary.above)
        parts = [part for kind in self.vocabulary.codes for part in self._event(kind, graphs)]
        return torch.cat([*parts, *self._patient(graphs)], 1)

    def _event(self, kind: str, graphs: Graphs) -> Iterator[Float[Tensor, "landmark _"]]:
        words, size = self.vocabulary, len(graphs)
        codes, first = len(words.codes[kind]), 0 if kind in words.rare else 1
        nodes = graphs.nodes.get(kind)
        if nodes is None:
            width = sum(column.group == kind for column in self.names)
            yield graphs.statics.at.new_zeros(size, width)
            return
        value, age = graphs.last[kind].value, graphs.last[kind].age
        scale = words.values[kind].table()[:, None]
        last = standardise(value, scale.expand(3, *value.shape))[:, 1:]
        yield last.nan_to_num(0.0)
        seen = age.isfinite().to(value.dtype)
        yield seen[:, 1:]
        count = torch.bincount(nodes.owner * codes + nodes.code, minlength=size * codes).view(size, codes)
        yield count[:, first:].to(value.dtype).log1p()
        if kind in words.rare:
            yield seen[:, :1]
        if kind in words.running:
            running = torch.zeros_like(value)
            running[nodes.owner[nodes.open], nodes.code[nodes.open]] = 1.0
            yield running[:, first:]
        if kind in words.bounded:
            yield _sides(nodes, size, codes)[:, 1:]
        yield from _hinges(last)
        yield from self._filters(kind, nodes, last)
        if kind in words.vectors:
            yield from self._content(kind, nodes, size)

    def half_lives(self, kind: str) -> tuple[float, float]:
        """Days after which a row counts half in the time filters of a node type, by the ages of its rows.

        Parameters
        ----------
        kind : str
            An event node type.

        Returns
        -------
        tuple of float
            The shorter one, and the longer one: about the median age of a row in training.
        """
        middle, spread = self.vocabulary.times[kind].mean[0], self.vocabulary.times[kind].std[0]
        return math.expm1(max(middle - spread, 1e-3)), math.expm1(max(middle, 1e-3))

    def _filters(
        self, kind: str, nodes: Nodes, last: Float[Tensor, "landmark code"]
    ) -> Iterator[Float[Tensor, "landmark code"]]:
        """Exponentially weighted mean of each code's series, minus its last value, at two half-lives."""
        size, codes = last.shape[0], last.shape[1] + 1
        z = standardise(nodes.value, self.vocabulary.values[kind].table()[:, nodes.code])
        given = z.isfinite()
        z, age, slot = z[given], nodes.age[given], (nodes.owner * codes + nodes.code)[given]
        newest = age.new_full((size * codes,), torch.inf).scatter_reduce(0, slot, age, "amin")
        for half_life in self.half_lives(kind):
            weight = torch.exp2((newest[slot] - age) / half_life)
            total, sum_z = (z.new_zeros(size * codes).index_add(0, slot, y) for y in (weight, weight * z))
            mean = (sum_z / total).view(size, codes)[:, 1:]  # nan where there is no value
            yield (mean - last).nan_to_num(0.0)

    def _content(self, kind: str, nodes: Nodes, size: int) -> Iterator[Float[Tensor, "landmark axis"]]:
        """Mean content of a node type with vectors, and its change from the first to the last."""
        basis = self.bases[kind]
        if nodes.vector.shape[1] != len(basis.mean):  # another encoder made the vectors
            z = nodes.age.new_zeros(len(nodes), basis.axes.shape[1])
        else:
            z = ((nodes.vector - basis.mean) @ basis.axes).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        age = nodes.age.new_zeros(size)
        newest = age.scatter_reduce(0, nodes.owner, nodes.age, "amin", include_self=False)
        oldest = age.scatter_reduce(0, nodes.owner, nodes.age, "amax", include_self=False)
        yield _mean(z, nodes.owner, size)
        ends = [nodes.age == end[nodes.owner] for end in (newest, oldest)]
        last, first = (_mean(z[end], nodes.owner[end], size) for end in ends)
        yield last - first

    def _patient(self, graphs: Graphs) -> Iterator[Float[Tensor, "landmark _"]]:
        words, statics = self.vocabulary, graphs.statics
        number = _wanted(statics.number, graphs.numbers, words.numbers)
        z = standardise(number, words.values["patient"].table()[:, None].expand(3, *number.shape))
        yield z.nan_to_num(0.0)
        yield z.isfinite().to(z.dtype)
        yield from _hinges(z)
        category = dict(zip(graphs.levels, statics.category.T, strict=True))
        for name, known in words.levels.items():
            level = torch.full_like(statics.at, MISSING, dtype=torch.long)
            if name in category:
                place = positions((None, *graphs.levels[name]), (None, None, *known), level.device)
                level = torch.where(category[name] < 0, MISSING, place[category[name] + 1])
            yield nn.functional.one_hot(level, 2 + len(known)).to(statics.at.dtype)
        points, never = graphs["timepoint"], torch.full_like(statics.at, torch.inf)
        since = never.scatter_reduce(0, points.owner, points.age, "amin")
        seen = since.isfinite()
        yield self._times("timepoint", since.where(seen, 0.0)) * seen[:, None]
        yield self._times("patient", statics.at)

    def _times(self, kind: str, days: Float[Tensor, " landmark"]) -> Float[Tensor, "landmark 2"]:
        """Standardised log1p(days) and years."""
        mean, std, _ = self.vocabulary.times[kind].table()
        z = (torch.stack([days.log1p(), days / YEAR], 1) - mean) / std
        return z.clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)


def _hinged(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}>{knot:g}" for knot in KNOTS for name in names)


def _hinges(z: Float[Tensor, "landmark code"]) -> Iterator[Float[Tensor, "landmark code"]]:
    """By how much each standardised value is above each knot; 0 where it is missing."""
    return ((z - knot).clamp(min=0).nan_to_num(0.0) for knot in KNOTS)


def _mean(
    z: Float[Tensor, "node axis"], owner: Int[Tensor, " node"], size: int
) -> Float[Tensor, "landmark axis"]:
    total = z.new_zeros(size, z.shape[1]).index_add(0, owner, z)
    return total / torch.bincount(owner, minlength=size).clamp(min=1)[:, None]


def _sides(nodes: Nodes, size: int, codes: int) -> Float[Tensor, "landmark code"]:
    """Whether a code's last value is a bound: -1 the truth lies below, 1 above; of one moment the mean."""
    given = nodes.value.isfinite()
    slot, age = (nodes.owner * codes + nodes.code)[given], nodes.age[given]
    final = age == age.new_full((size * codes,), torch.inf).scatter_reduce(0, slot, age, "amin")[slot]
    assert nodes.bound is not None
    return _mean(nodes.bound[given][final, None].to(age.dtype), slot[final], size * codes).view(size, codes)


def _wanted(table: Tensor, names: tuple[str, ...], wanted: tuple[str, ...]) -> Tensor:
    """The wanted columns of a table with named columns; nan where it has no such column."""
    if names == wanted:
        return table
    padded = torch.cat([table.new_full((len(table), 1), torch.nan), table], 1)
    return padded[:, positions(wanted, (None, *names), table.device)]
