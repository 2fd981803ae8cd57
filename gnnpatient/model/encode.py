"""The encoding of nodes: their own content as channels, by the names and scales of a vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gnnpatient.errors import InputError
from gnnpatient.graphs import Graphs, Nodes, merge_codes, positions
from gnnpatient.model.basis import Basis
from gnnpatient.model.vocabulary import MAX_DEVIATIONS, Vocabulary, _times, standardise

# rows of a category's embedding before its levels
OTHER, MISSING = 0, 1


class Encode(nn.Module):
    """Every node's own content as channels: code, value, missing, age, running; of patients the statics.

    Codes and levels are matched by name. A rare or unknown code is that of its nearest known ancestor, else
    one code for all of them, and its value is ignored; a rare or unknown level is one level for all. A node
    type that these graphs lack has zero rows, one that the model does not know is left out.

    Parameters
    ----------
    vocabulary : Vocabulary
        Names and scales of the training graphs.
    channels : int
        Channels of a node.
    """

    def __init__(self, vocabulary: Vocabulary, channels: int):
        super().__init__()
        self.vocabulary, self.channels = vocabulary, channels
        # rows that training may never show (other, missing) start at zero, so as to add no noise later
        self.code = nn.ParameterList(
            _rows(1, len(names) - 1, channels) for names in vocabulary.codes.values()
        )
        self.slope = nn.ParameterList(
            _rows(0, len(names) - 1, channels) for names in vocabulary.codes.values()
        )
        self.missing = nn.Parameter(torch.zeros(len(vocabulary.codes), channels))
        self.open = nn.Parameter(torch.zeros(len(vocabulary.codes), channels))
        # only where a kind has bounds: without any, a model is what it was
        bound = nn.Parameter(torch.zeros(len(vocabulary.bounded), channels)) if vocabulary.bounded else None
        self.register_parameter("bound", bound)
        self.level = nn.ParameterList(_rows(2, len(names), channels) for names in vocabulary.levels.values())
        self.time = nn.ModuleList(nn.Linear(2, channels) for _ in vocabulary.kinds[:-1])
        self.vector = nn.ModuleList(
            nn.Linear(axes.kept, channels, bias=False) for axes in vocabulary.vectors.values()
        )
        for i, axes in enumerate(vocabulary.vectors.values()):
            self.register_buffer(f"_mean_{i}", torch.zeros(axes.columns))
            self.register_buffer(f"_axes_{i}", torch.zeros(axes.columns, axes.kept))
        self.static = nn.Linear(2 + 2 * len(vocabulary.numbers), channels)
        for kind, scale in vocabulary.values.items():
            self.register_buffer(self._buffer("value", kind), scale.table(), persistent=False)
        for kind, scale in vocabulary.times.items():
            self.register_buffer(self._buffer("time", kind), scale.table(), persistent=False)

    def _buffer(self, what: str, kind: str) -> str:
        return f"_{what}_{self.vocabulary.kinds.index(kind)}"  # a kind's name may hold a dot

    def _scale(self, what: str, kind: str) -> Float[Tensor, "3 code"]:
        return self.get_buffer(self._buffer(what, kind))

    def forward(self, graphs: Graphs) -> dict[str, Float[Tensor, "_ channel"]]:
        """Encode all nodes.

        Parameters
        ----------
        graphs : Graphs
            A batch of graphs.

        Returns
        -------
        dict of str to Float[Tensor, "_ channel"]
            (node, channel) of each node type, in the order of `vocabulary.kinds`; "patient" has a row per
            landmark.
        """
        graphs = self.merged(graphs)
        x = {kind: self._event(i, kind, graphs) for i, kind in enumerate(self.vocabulary.codes)}
        x["timepoint"] = self.time[-1](self.times("timepoint", graphs["timepoint"].age))
        x["patient"] = self._patient(graphs)
        return x

    def merged(self, graphs: Graphs) -> Graphs:
        """The same graphs in the codes of this vocabulary.

        Parameters
        ----------
        graphs : Graphs
            In the cohort's own codes.

        Returns
        -------
        Graphs
        """
        return merge_codes(graphs, self.vocabulary.codes, self.vocabulary.above)

    def _event(self, i: int, kind: str, graphs: Graphs) -> Float[Tensor, "node channel"]:
        if kind not in graphs.nodes:
            return self.missing.new_zeros(0, self.channels)
        nodes = graphs[kind]
        code = nodes.code
        z, given = _given(standardise(nodes.value, self._scale("value", kind).index_select(1, code)))
        feature = torch.cat([self.times(kind, nodes.age), 1 - given[:, None]], 1)
        time = cast(nn.Linear, self.time[i])
        weight = torch.cat([time.weight, self.missing[i, :, None]], 1)
        x = nn.functional.linear(feature, weight, time.bias) + nodes.open[:, None] * self.open[i]
        slope = nn.functional.pad(self.slope[i], (0, 0, 1, 0))  # the values of rare codes share no unit
        x = x + _take(self.code[i], code) + z[:, None] * _take(slope, code)
        if kind in self.vocabulary.bounded and nodes.bound is not None:
            place = self.vocabulary.bounded.index(kind)
            x = x + nodes.bound[:, None].to(x.dtype) * self.get_parameter("bound")[place]
        if kind in self.vocabulary.vectors:
            place = tuple(self.vocabulary.vectors).index(kind)
            x = x + cast(nn.Linear, self.vector[place])(self.content(kind, nodes))
        return x

    def start(self, bases: Mapping[str, Basis]) -> None:
        """Set the axes of each node type's vectors to those of the training vectors.

        Parameters
        ----------
        bases : mapping of str to Basis
            From `fit_bases`; one for each of `vocabulary.vectors`.
        """
        for i, kind in enumerate(self.vocabulary.vectors):
            self.get_buffer(f"_mean_{i}").copy_(bases[kind].mean)
            self.get_buffer(f"_axes_{i}").copy_(bases[kind].axes)

    def content(self, kind: str, nodes: Nodes) -> Float[Tensor, "node axis"]:
        """The vectors of images or texts on the training axes.

        Parameters
        ----------
        kind : str
            A node type with vectors.
        nodes : Nodes
            Its nodes.

        Returns
        -------
        Float[Tensor, "node axis"]
            Limited to four standard deviations; zeros where another encoder made the vectors.
        """
        i = tuple(self.vocabulary.vectors).index(kind)
        mean, axes = self.get_buffer(f"_mean_{i}"), self.get_buffer(f"_axes_{i}")
        if nodes.vector.shape[1] != len(mean):
            return axes.new_zeros(len(nodes), axes.shape[1])
        return ((nodes.vector - mean) @ axes).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)

    def _level(self, kind: str, graphs: Graphs) -> Float[Tensor, "landmark axis"]:
        """Mean content of a node type with vectors."""
        axes, origin_days = self.vocabulary.vectors[kind], graphs.statics.at
        nodes = graphs.nodes.get(kind)
        if nodes is None or nodes.vector.shape[1] != axes.columns or not len(nodes):
            return origin_days.new_zeros(len(origin_days), axes.kept)
        content = self.content(kind, nodes)
        total = content.new_zeros(len(origin_days), content.shape[1]).index_add(0, nodes.owner, content)
        return total / torch.bincount(nodes.owner, minlength=len(origin_days)).clamp(min=1)[:, None]

    def _rare(self, kind: str, graphs: Graphs) -> Float[Tensor, "landmark 2"]:
        """Of the rare or unknown codes: the logarithm of 1 + their rows, and whether there is any."""
        count = torch.zeros_like(graphs.statics.at)
        if kind in graphs.nodes:
            owner = graphs[kind].owner[graphs[kind].code == 0]
            count = torch.bincount(owner, minlength=len(graphs)).to(count.dtype)
        return torch.stack([count.log1p(), (count > 0).to(count.dtype)], 1)

    def _running(self, kind: str, graphs: Graphs) -> Float[Tensor, "landmark code"]:
        """1 where an interval of a known code is running; first, in kinds that have them, of a rare code."""
        known = self.vocabulary.codes[kind]
        running = graphs.statics.at.new_zeros(len(graphs), len(known))
        if kind in graphs.nodes:
            nodes = graphs[kind]
            running[nodes.owner[nodes.open], nodes.code[nodes.open]] = 1.0
        return running if kind in self.vocabulary.rare else running[:, 1:]

    def _bounds(self, kind: str, graphs: Graphs) -> Float[Tensor, "landmark code"]:
        """Whether the last value of a known code is a bound: -1 the truth lies below, 1 above, 0 it is the
        value.

        Values of one moment are averaged.
        """
        known, nodes = self.vocabulary.codes[kind], graphs.nodes.get(kind)
        side = graphs.statics.at.new_zeros(len(graphs) * len(known))
        if nodes is None or nodes.bound is None:
            return side.view(len(graphs), len(known))[:, 1:]
        given = nodes.value.isfinite()
        slot, age, bound = (
            (nodes.owner * len(known) + nodes.code)[given],
            nodes.age[given],
            nodes.bound[given],
        )
        final = age == torch.full_like(side, torch.inf).scatter_reduce(0, slot, age, "amin")[slot]
        count = torch.zeros_like(side).index_add_(0, slot[final], torch.ones_like(age[final]))
        side = side.index_add_(0, slot[final], bound[final].to(side.dtype)) / count.clamp(min=1)
        return side.view(len(graphs), len(known))[:, 1:]

    def _patient(self, graphs: Graphs) -> Float[Tensor, "landmark channel"]:
        time = self.times("patient", graphs.statics.at)
        x = self.static(torch.cat([time, *_given(self.numbers(graphs))], 1))
        for table, level in zip(self.level, self.levels(graphs), strict=True):
            x = x + _take(table, level)
        return x

    def times(self, kind: str, days: Float[Tensor, " row"]) -> Float[Tensor, "row 2"]:
        """Standardised log1p(days) and years.

        Parameters
        ----------
        kind : str
            A node type, "timepoint" or "patient".
        days : Float[Tensor, " row"]
            Time spans in days.

        Returns
        -------
        Float[Tensor, "row 2"]
            Limited to four standard deviations.
        """
        mean, std, _ = self._scale("time", kind)
        return ((_times(days) - mean) / std).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)

    def numbers(self, graphs: Graphs) -> Float[Tensor, "landmark number"]:
        """Standardised static numbers, matched by name.

        Parameters
        ----------
        graphs : Graphs
            A batch of graphs.

        Returns
        -------
        Float[Tensor, "landmark number"]
            nan is missing.
        """
        number = _columns(graphs.statics.number, graphs.numbers, self.vocabulary.numbers)
        return standardise(number, self._scale("value", "patient")[:, None].expand(3, *number.shape))

    def levels(self, graphs: Graphs) -> list[Int[Tensor, " landmark"]]:
        """Rows of the level embeddings.

        Parameters
        ----------
        graphs : Graphs
            A batch of graphs.

        Returns
        -------
        list of Int[Tensor, " landmark"]
            One tensor per static category: 0 rare or unknown, 1 missing, then the known levels.
        """
        column = dict(zip(graphs.levels, graphs.statics.category.T, strict=True))
        absent = torch.full_like(graphs.statics.at, MISSING, dtype=torch.long)
        return [
            self._row_of(column[name], graphs.levels[name], known) if name in column else absent
            for name, known in self.vocabulary.levels.items()
        ]

    def _row_of(self, index: Tensor, names: tuple[str, ...], known: tuple[str, ...]) -> Tensor:
        position = positions((None, *names), (None, None, *known), index.device)
        return torch.where(index < 0, MISSING, position[index + 1])

    def last_observation(self, graphs: Graphs) -> Float[Tensor, "landmark feature"]:
        """The last value of every known code and the statics, for a linear path beside the message passing.

        In order, per node type: the standardised last value of each code and whether there ever was a row; where there are rare codes, how many rows (log) and whether any; where
        there are intervals, whether one is running; where there are bounds, on which side the truth lies;
        where there are images or texts, the mean content. Then the same value and flag of the
        static numbers, levels one-hot, and the time since the latest timepoint and since the origin. Missing
        values are 0, with flag 0.

        Parameters
        ----------
        graphs : Graphs
            A batch of graphs.

        Returns
        -------
        Float[Tensor, "landmark feature"]
        """
        graphs, parts = self.merged(graphs), list[Tensor]()
        for kind, known in self.vocabulary.codes.items():
            if kind in graphs.nodes:
                value, age = graphs.last[kind].value[:, 1:], graphs.last[kind].age[:, 1:]
            else:
                value = age = graphs.statics.at.new_full((len(graphs), len(known) - 1), torch.nan)
            z = standardise(value, self._scale("value", kind)[:, None, 1:].expand(3, *value.shape))
            parts += [_given(z)[0], age.isfinite().to(z.dtype)]
            if kind in self.vocabulary.rare:
                parts.append(self._rare(kind, graphs))
            if kind in self.vocabulary.running:
                parts.append(self._running(kind, graphs))
            if kind in self.vocabulary.bounded:
                parts.append(self._bounds(kind, graphs))
            if kind in self.vocabulary.vectors:
                parts.append(self._level(kind, graphs))
        parts += _given(self.numbers(graphs))
        for table, level in zip(self.level, self.levels(graphs), strict=True):
            parts.append(nn.functional.one_hot(level, len(table)).to(graphs.statics.at.dtype))
        points, never = graphs["timepoint"], torch.full_like(graphs.statics.at, torch.inf)
        since = never.scatter_reduce(0, points.owner, points.age, "amin")
        seen = since.isfinite()
        parts.append(self.times("timepoint", since.where(seen, 0.0)) * seen[:, None])
        return torch.cat([*parts, self.times("patient", graphs.statics.at)], 1)

    @property
    def groups(self) -> tuple[int, ...]:
        """Number of columns of `last_observation` that belong to each event node type, and to the patient."""
        sizes = {kind: 2 * (len(names) - 1) for kind, names in self.vocabulary.codes.items()}
        for kind in self.vocabulary.rare:
            sizes[kind] += 2
        for kind in self.vocabulary.running:
            sizes[kind] += len(self.vocabulary.codes[kind]) - (kind not in self.vocabulary.rare)
        for kind in self.vocabulary.bounded:
            sizes[kind] += len(self.vocabulary.codes[kind]) - 1
        for kind, axes in self.vocabulary.vectors.items():
            sizes[kind] += axes.kept
        patient = 2 * len(self.vocabulary.numbers) + 4
        patient += sum(2 + len(levels) for levels in self.vocabulary.levels.values())
        return (*sizes.values(), patient)


def _rows(zero: int, drawn: int, channels: int) -> nn.Parameter:
    return nn.Parameter(torch.cat([torch.zeros(zero, channels), torch.randn(drawn, channels)]))


def _take(table: Tensor, row: Tensor) -> Tensor:
    return table.index_select(0, row)  # on a CPU its backward is five times as fast as nn.Embedding's


def _given(z: Tensor) -> tuple[Tensor, Tensor]:
    """The value with 0 where it is missing, and 1 where it is given."""
    given = z.isfinite()
    return z.nan_to_num(0.0), given.to(z.dtype)


def _columns(table: Tensor, names: tuple[str, ...], wanted: tuple[str, ...]) -> Tensor:
    """The wanted columns of a table with named columns; nan where it has no such column."""
    if names == wanted:
        return table
    padded = torch.cat([table.new_full((len(table), 1), torch.nan), table], 1)
    return padded[:, positions(wanted, (None, *names), table.device)]
