"""What a node says, as channels: names and scales learned from training graphs, values laid on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gnnpatient.errors import InputError
from gnnpatient.graphs import Graphs, Nodes, frequent, merge_codes, moving, patients_of, positions

YEAR = 365.25
MIN_VECTORS = 10  # vectors of a kind to learn from; of fewer a model could hold one patient's picture
# vectors that axes are learned from, about: of every k-th ask, where there are more
MAX_BASIS_VECTORS = 2**15
MAX_AXES = 16  # principal axes that are kept of a kind's vectors, at most
MAX_LASTING_AXES = 4  # of them, turned: those along which patients last longest
MAX_CHANGE_AXES = 32  # principal axes of changes
MAX_DRIFT_AXES = 8  # of them, turned: those of steady drift that are kept
# successive vectors of one patient, or successive changes, for each axis that they turn
MIN_PAIRS_PER_AXIS = 8
TANH_SLOPE = 4.0  # slope of a level, or of a value in two heaps, before its tanh
# kurtosis below which the values of a code fall into two heaps; a uniform's is 1.8
MAX_BIMODAL_KURTOSIS = 1.5
MIN_BIMODAL_VALUES = 100  # values of a code that tell so
MAX_DEVIATIONS = 4.0  # standard deviations beyond which a value says no more than "extreme"
OTHER, MISSING = 0, 1  # rows of a category's embedding before its levels


@dataclass(frozen=True)
class Scale:
    """Where the training values of each code lie: mean and standard deviation, of the log where `log`.

    `heaps` are codes whose values fall into two heaps, on either side of the mean.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    log: tuple[bool, ...]
    heaps: tuple[bool, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.mean), len(self.std), len(self.log), len(self.heaps)}
        if len(sizes) > 1 or not all(std > 0 for std in self.std):
            raise InputError(
                "a scale without a mean, a deviation above 0 and two flags for each of its columns"
            )

    @staticmethod
    def fit(
        value: Float[Tensor, " row"],
        code: Int[Tensor, " row"],
        size: int,
        *,
        log: bool = True,
        owner: Int[Tensor, " row"] | None = None,
        least: int = 1,
    ) -> Scale:
        """All codes at once; nan is left out. Without a value: mean 0; without spread: std |mean|, or 1.

        A code goes by its logarithm when its values are all positive and that is the less skewed. Two heaps
        are told by a low kurtosis (Darlington 1970). One with values of fewer than `least` owners gets the
        scale of the others together, among which its own values are not, so that nothing tells them.

        >>> Scale.fit(torch.tensor([1.0, 3.0, torch.nan]), torch.tensor([0, 0, 1]), 2)
        Scale(mean=(2.0, 0.0), std=(1.0, 1.0), log=(False, False), heaps=(False, False))
        """
        given = value.isfinite()
        value, code = value[given].double(), code[given]
        if owner is not None and least > 1:
            few = patients_of(code, owner[given], size) < least
            own = vars(Scale.fit(value[~few[code]], code[~few[code]], size, log=log))
            rest = vars(Scale._shared(value, code, few, owner[given], least, log))
            return Scale(
                **{
                    name: tuple(
                        rest[name][0] if rare else one for one, rare in zip(column, few.tolist(), strict=True)
                    )
                    for name, column in own.items()
                }
            )
        positive = torch.ones(size, dtype=torch.bool, device=value.device)
        positive[code[value <= 0]] = False
        plain, logged = _moments(value, code, size), _moments(value.clamp(min=1e-300).log(), code, size)
        take = positive & (logged[2].abs() < plain[2].abs()) & log
        mean, std, _, kurtosis = (torch.where(take, y, x) for x, y in zip(plain, logged, strict=True))
        many = torch.bincount(code, minlength=size) >= MIN_BIMODAL_VALUES
        heaps = (kurtosis < MAX_BIMODAL_KURTOSIS) & many
        return Scale(*(tuple(column.tolist()) for column in (mean, std, take, heaps)))

    @staticmethod
    def _shared(
        value: Float[Tensor, " row"],
        code: Int[Tensor, " row"],
        few: Bool[Tensor, " code"],
        owner: Int[Tensor, " row"],
        least: int,
        log: bool,
    ) -> Scale:
        """One scale: of the codes that are not of few; where all are, of all together; mean 0 and deviation 1
        where those are too few as well.
        """
        some = ~few[code] if not few.all() else torch.full_like(code, len(owner.unique()) >= least) > 0
        return Scale.fit(value[some], torch.zeros_like(code[some]), 1, log=log)

    def table(self) -> Float[Tensor, "3 code"]:
        """Mean, std and log as one tensor, as `standardise` takes it."""
        return torch.tensor([self.mean, self.std, [float(flag) for flag in self.log]])

    def apply(self, value: Float[Tensor, " row"], code: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
        """Standard deviations from the mean, at most four; nan stays nan.

        >>> Scale((2.0,), (1.0,), (False,), (False,)).apply(torch.tensor([3.0, 99.0]), torch.tensor([0, 0]))
        tensor([1., 4.])
        """
        return standardise(value, self.table().to(value.device)[:, code])


def standardise(value: Float[Tensor, "..."], scale: Float[Tensor, "3 ..."]) -> Float[Tensor, "..."]:
    """Value by value on its own scale (mean, std, log). Under log, zero and less lie at the lower limit."""
    mean, std, log = scale
    logged = value.clamp(min=torch.finfo(value.dtype).tiny).log()
    return ((torch.where(log > 0, logged, value) - mean) / std).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)


def _moments(x: Tensor, code: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, standard deviation, skewness and kurtosis of each code, in two passes."""
    count = torch.bincount(code, minlength=size).clamp(min=1)

    def mean_of(y: Tensor) -> Tensor:
        return y.new_zeros(size).index_add_(0, code, y) / count

    mean = mean_of(x)
    away = x - mean[code]
    std = mean_of(away**2).sqrt()
    skew, kurtosis = (mean_of(away**k) / std**k for k in (3, 4))  # nan without spread: below nothing
    flat = std <= 1e-6 * mean.abs()
    return mean, torch.where(flat, torch.where(mean == 0, 1.0, mean.abs()), std), skew, kurtosis


def _times(days: Float[Tensor, " row"]) -> Float[Tensor, "row 2"]:
    """A time span as the network sees it before scaling: log1p(days), and years."""
    return torch.stack([days.log1p(), days / YEAR], 1)


@dataclass(frozen=True)
class Axes:
    """How the vectors of a kind are laid out."""

    columns: int
    kept: int  # principal axes
    lasting: int  # of them, turned, those that the linear path sees as a level
    drifting: int  # axes of change that it sees


@dataclass(frozen=True)
class Vocabulary:
    """What the training graphs held: the names, in the model's own numbering, and their scales."""

    codes: Mapping[str, tuple[str, ...]]  # per event kind; position 0 is "other": rare or unknown
    above: Mapping[str, tuple[str, ...]]  # per kind the codes that stand for rarer ones below, nearest first
    rare: tuple[
        str, ...
    ]  # kinds in which enough patients had a code at position 0, beside others with a name
    numbers: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]  # per category; embedded after "other" and "missing"
    values: Mapping[str, Scale]  # per event kind, a scale a code; "patient": a scale a number
    times: Mapping[str, Scale]  # per event kind, "timepoint" and "patient": log1p(days) and years
    vectors: Mapping[str, Axes]  # per kind with pictures or texts
    running: tuple[str, ...]  # kinds of which some interval was running
    bounded: tuple[str, ...] = ()  # kinds of which some value was a bound (<5)

    def __post_init__(self) -> None:
        columns = {kind: len(names) for kind, names in self.codes.items()} | {"patient": len(self.numbers)}
        spans = dict.fromkeys(self.kinds, 2)
        for table, size in ((self.values, columns), (self.times, spans)):
            if {kind: len(scale.mean) for kind, scale in table.items()} != size:
                raise InputError(f"a vocabulary whose scales are not those of its {', '.join(size)}")
        if not set(self.rare) <= set(self.codes) or not all(
            set(names) <= set(self.codes[kind][1:]) for kind, names in self.above.items()
        ):
            raise InputError("a vocabulary that names codes or kinds which it does not have")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every node kind of the model: events, then "timepoint" and "patient"."""
        return (*self.codes, "timepoint", "patient")

    def to_dict(self) -> dict[str, Any]:
        """Lists, strings and numbers only."""

        def scales(table: Mapping[str, Scale]) -> dict[str, Any]:
            return {k: {name: [*column] for name, column in vars(s).items()} for k, s in table.items()}

        return {
            "codes": {kind: list(names) for kind, names in self.codes.items()},
            "above": {kind: list(names) for kind, names in self.above.items()},
            "rare": list(self.rare),
            "numbers": list(self.numbers),
            "levels": {name: list(levels) for name, levels in self.levels.items()},
            "values": scales(self.values),
            "times": scales(self.times),
            "vectors": {kind: asdict(axes) for kind, axes in self.vectors.items()},
            "running": list(self.running),
            **({"bounded": list(self.bounded)} if self.bounded else {}),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Vocabulary:
        def scales(table: Mapping[str, Any]) -> dict[str, Scale]:
            return {k: Scale(**{name: tuple(s) for name, s in scale.items()}) for k, scale in table.items()}

        return Vocabulary(
            codes={kind: tuple(names) for kind, names in data["codes"].items()},
            above={kind: tuple(names) for kind, names in data["above"].items()},
            rare=tuple(data["rare"]),
            numbers=tuple(data["numbers"]),
            levels={name: tuple(levels) for name, levels in data["levels"].items()},
            values=scales(data["values"]),
            times=scales(data["times"]),
            vectors={kind: Axes(**sizes) for kind, sizes in data["vectors"].items()},
            running=tuple(data["running"]),
            bounded=tuple(data.get("bounded", ())),
        )


def fit_vocabulary(graphs: Graphs, bases: Mapping[str, Basis] | None = None, least: int = 1) -> Vocabulary:
    """Names that occur in these graphs and the scales of their values; hand it training graphs only.

    least: patients that a name, a scale or a fact needs to be kept; each patient has one ask here. bases:
    what `fit_bases` found in them, if it has been asked already.
    """
    bases = fit_bases(graphs, least) if bases is None else bases
    events = [kind for kind in graphs.nodes if kind != "timepoint"]
    names, statics = frequent(graphs, least), graphs.statics
    several = [kind for kind in events if len(graphs.codes[kind]) > 1 and least > 1]  # else none is rare
    graphs = names.merge(graphs)
    values, times = {}, {}
    for kind in events:
        nodes = graphs[kind]
        size = len(names.codes[kind])
        values[kind] = Scale.fit(nodes.value, nodes.code, size, owner=nodes.owner, least=least)
    column = torch.arange(len(graphs.numbers), device=statics.number.device).expand_as(statics.number)
    who = torch.arange(len(graphs), device=statics.number.device)
    values["patient"] = Scale.fit(
        statics.number.flatten(),
        column.flatten(),
        len(graphs.numbers),
        owner=who[:, None].expand_as(statics.number).flatten(),
        least=least,
    )
    spans = {kind: (graphs[kind].age, graphs[kind].owner) for kind in (*events, "timepoint")}
    for kind, (days, owner) in (spans | {"patient": (statics.at, who)}).items():
        if len(owner.unique()) < least:  # too few to say when: as all rows together
            days, owner = spans["timepoint"]
        column = torch.arange(2, device=days.device).expand(len(days), 2)
        owner = owner[:, None].expand(len(days), 2).flatten()
        times[kind] = Scale.fit(
            _times(days).flatten(), column.flatten(), 2, log=False, owner=owner, least=least
        )

    def enough(kind: str, rows: Bool[Tensor, " node"]) -> bool:
        return len(graphs[kind].owner[rows].unique()) >= max(least, 1)

    return Vocabulary(
        codes=names.codes,
        above=names.above,
        rare=tuple(kind for kind in several if enough(kind, graphs[kind].code == 0)),
        numbers=graphs.numbers,
        levels=names.levels,
        values=values,
        times=times,
        vectors={kind: basis.sizes for kind, basis in bases.items()},
        running=tuple(kind for kind in events if enough(kind, graphs[kind].open)),
        bounded=tuple(kind for kind in events if enough(kind, _side(graphs[kind]) != 0)),
    )


def _side(nodes: Nodes) -> Int[Tensor, " node"]:
    """On which side of each value the truth lies; 0 where the value is it."""
    return torch.zeros_like(nodes.code) if nodes.bound is None else nodes.bound.long()


def _successive(
    owner: Int[Tensor, " node"], age: Float[Tensor, " node"]
) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """Nodes that follow each other in one ask, by when they happened: the earlier, the later."""
    order = torch.argsort(age, descending=True, stable=True)
    order = order[torch.argsort(owner[order], stable=True)]
    earlier, later = order[:-1], order[1:]
    same = (owner[earlier] == owner[later]) & (age[earlier] > age[later])
    return earlier[same], later[same]


@dataclass(frozen=True, eq=False)
class Basis:
    """Where the training vectors of a kind lie: z = (vector - mean) @ axes, of unit variance each.

    Which axes matter nobody says, and outcomes are too few to tell. Time tells something: what is of the
    patient lasts from one report to the next, and a disease drifts, while noise does neither. So the axes
    are turned to come in the order of how well they last. Changes have axes of their own, in which a step
    from one vector to the next has unit variance.
    """

    mean: Float[Tensor, " feature"]
    axes: Float[Tensor, "feature axis"]
    lasting: int  # leading axes that are seen as a level
    drift: Float[Tensor, "feature drifting"]

    @staticmethod
    def fit(nodes: Nodes, least: int = 1) -> Basis:
        """Principal axes of the standardised columns (Jolliffe 2002), turned by the patients' own series.

        Without enough patients who have several vectors each axis is a level, and nothing drifts. Where names
        need several patients (`least`), so do columns, each of which must differ in as many, and axes: one of
        which half is a single patient's says nothing.
        """
        some = nodes.owner % max(1, math.ceil(len(nodes) / MAX_BASIS_VECTORS)) == 0
        vector, owner = nodes.vector[some].double(), nodes.owner[some]
        if least > 1:
            count, median = moving(vector, owner)
            vector = vector.where(count >= least, median)
        mean, axes = _principal(vector, max(1, min(vector.shape[1], MAX_AXES, len(vector) // 4)))
        if least > 1:
            axes = axes * _shared((vector - mean) @ axes, owner)
        kept, drift = axes.shape[1], vector[:0].T
        lasting, (earlier, later) = kept, _successive(owner, nodes.age[some])
        if len(earlier) >= MIN_PAIRS_PER_AXIS * kept and len(owner[earlier].unique()) >= least:
            z = (vector - mean) @ axes
            axes, lasting = axes @ _lasting(z[earlier], z[later]), min(kept, MAX_LASTING_AXES)
            if least > 1:
                axes = axes * _shared((vector - mean) @ axes, owner)
            drift = _drifting(vector, owner, earlier, later, least)
        return Basis(mean.float(), axes.float(), lasting, drift.float())

    @property
    def sizes(self) -> Axes:
        """How many of each."""
        columns, kept = self.axes.shape
        return Axes(columns, kept, self.lasting, self.drift.shape[1])


def _lasting(earlier: Float[Tensor, "pair axis"], later: Float[Tensor, "pair axis"]) -> Tensor:
    """Turns white axes so that they fall in correlation between successive values (Switzer & Green 1984)."""
    together = earlier.T @ later / len(earlier)
    return _turned(torch.linalg.eigh((together + together.T) / 2)[1].flip(1))


def _shared(z: Float[Tensor, "row axis"], owner: Int[Tensor, " row"]) -> Float[Tensor, " axis"]:
    """1 for each axis of which no owner has half of the variance, else 0."""
    who, place = owner.unique(return_inverse=True)
    each = z.new_zeros(len(who), z.shape[1]).index_add_(0, place, z.square())
    return (2 * each.amax(0) < each.sum(0)).to(z.dtype)


def _drifting(
    vector: Float[Tensor, "node feature"],
    owner: Int[Tensor, " node"],
    earlier: Int[Tensor, " pair"],
    later: Int[Tensor, " pair"],
    least: int,
) -> Float[Tensor, "feature drifting"]:
    """Axes along which patients change, most first; each column counts by its own changes.

    With enough patients who have three vectors or more, those along which one change is like the next: noise
    goes back by half of what it came, a drift goes on.
    """
    change = vector[later] - vector[earlier]
    spread, whole = change.std(0, correction=0), vector.std(0, correction=0)
    column = torch.where(spread > 1e-6 * whole.max(), 1 / spread.clamp(min=1e-30), 0.0)
    change = change * column
    value, axes = torch.linalg.eigh(change.T @ change / len(change))
    value, axes = value.flip(0)[:MAX_CHANGE_AXES], axes.flip(1)[:, :MAX_CHANGE_AXES]
    follows = torch.nonzero(later[:-1] == earlier[1:])[:, 0]
    if len(follows) >= MIN_PAIRS_PER_AXIS * axes.shape[1] and len(owner[earlier[follows]].unique()) >= least:
        together = (change[follows] @ axes).T @ (change[follows + 1] @ axes) / len(follows)
        value, turn = torch.linalg.eigh((together + together.T) / 2)
        value, axes = value.flip(0), axes @ turn.flip(1)
    axes = axes[:, value > 1e-9][:, :MAX_DRIFT_AXES]
    if least > 1:
        axes = axes[:, _shared(change @ axes, owner[earlier]) > 0]
    step = (change @ axes).square().mean(0).sqrt()
    return _turned(column[:, None] * axes / step.clamp(min=1e-9))


def _turned(axes: Float[Tensor, "feature axis"]) -> Float[Tensor, "feature axis"]:
    """An axis and its opposite are the same: take the one that sums up."""
    sign = torch.sign(axes.sum(0))
    return axes * torch.where(sign == 0, 1.0, sign)


def _principal(x: Float[Tensor, "node feature"], size: int) -> tuple[Tensor, Tensor]:
    """Mean, and the leading principal axes, (feature, size), along each of which the variance is 1."""
    mean, std = x.mean(0), x.std(0, correction=0)
    x = (x - mean) / std.clamp(min=1e-9 + 1e-6 * mean.abs())
    _, value, axes = torch.linalg.svd(x, full_matrices=False)
    spread = value[:size] / len(x) ** 0.5  # along an axis of which no training vector says anything, nothing
    weight = axes[:size].T * torch.where(spread > 1e-3 * spread[0] + 1e-9, 1 / spread.clamp(min=1e-9), 0.0)
    found = x.new_zeros(x.shape[1], size)
    found[:, : weight.shape[1]] = weight / std.clamp(min=1e-9 + 1e-6 * mean.abs())[:, None]
    return mean, _turned(found)


def fit_bases(graphs: Graphs, least: int = 1) -> dict[str, Basis]:
    """The basis of each kind with vectors enough to learn from, of at least so many patients; hand it
    training graphs only, with an ask a patient.
    """
    events = [kind for kind in graphs.nodes if kind != "timepoint"]
    return {
        kind: Basis.fit(graphs[kind], least)
        for kind in events
        if graphs[kind].vector.shape[1]
        and len(graphs[kind]) >= MIN_VECTORS
        and len(graphs[kind].owner.unique()) >= least
    }


class Encode(nn.Module):
    """Every node's own content as channels: code, value, given or not, age, running or not; or the statics.

    Names are matched by name. A rare or unknown code is that of its nearest known ancestor, else one code for
    all of them, and its value says nothing either way; a rare or unknown level is one level for all. A node
    kind that these graphs lack has zero rows, one that the model does not know is left out.
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
            self.register_buffer(f"_drift_{i}", torch.zeros(axes.columns, axes.drifting))
        self.static = nn.Linear(2 + 2 * len(vocabulary.numbers), channels)
        for kind, scale in vocabulary.values.items():
            self.register_buffer(self._buffer("value", kind), scale.table(), persistent=False)
            self.register_buffer(
                self._buffer("heaps", kind), torch.tensor(scale.heaps, dtype=torch.bool), persistent=False
            )
        for kind, scale in vocabulary.times.items():
            self.register_buffer(self._buffer("time", kind), scale.table(), persistent=False)

    def _buffer(self, what: str, kind: str) -> str:
        return f"_{what}_{self.vocabulary.kinds.index(kind)}"  # a kind's name may hold a dot

    def _scale(self, what: str, kind: str) -> Float[Tensor, "3 code"]:
        return self.get_buffer(self._buffer(what, kind))

    def forward(self, graphs: Graphs) -> dict[str, Float[Tensor, "_ channel"]]:
        """{kind: (node, channel)} in the order of `vocabulary.kinds`; "patient" has a row an ask."""
        graphs = self.merged(graphs)
        x = {kind: self._event(i, kind, graphs) for i, kind in enumerate(self.vocabulary.codes)}
        x["timepoint"] = self.time[-1](self.times("timepoint", graphs["timepoint"].age))
        x["patient"] = self._patient(graphs)
        return x

    def merged(self, graphs: Graphs) -> Graphs:
        """The same graphs by the codes of this vocabulary."""
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
        """Lay the vectors of each kind on the axes of the training vectors."""
        for i, kind in enumerate(self.vocabulary.vectors):
            self.get_buffer(f"_mean_{i}").copy_(bases[kind].mean)
            self.get_buffer(f"_axes_{i}").copy_(bases[kind].axes)
            self.get_buffer(f"_drift_{i}").copy_(bases[kind].drift)

    def content(self, kind: str, nodes: Nodes) -> Float[Tensor, "node axis"]:
        """What the pictures or texts say, on the training axes; zeros where another encoder made them."""
        i = tuple(self.vocabulary.vectors).index(kind)
        mean, axes = self.get_buffer(f"_mean_{i}"), self.get_buffer(f"_axes_{i}")
        if nodes.vector.shape[1] != len(mean):
            return axes.new_zeros(len(nodes), axes.shape[1])
        return ((nodes.vector - mean) @ axes).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)

    def _level_and_change(self, kind: str, graphs: Graphs) -> Float[Tensor, "ask feature"]:
        """Mean content on the axes that last, and the change from first to last on those that drift.

        On an axis that lasts a level goes through tanh: what reports state or deny falls into two heaps.
        """
        axes, place = self.vocabulary.vectors[kind], tuple(self.vocabulary.vectors).index(kind)
        asks = graphs.statics.at
        nodes = graphs.nodes.get(kind)
        if nodes is None or nodes.vector.shape[1] != axes.columns or not len(nodes):
            return asks.new_zeros(len(asks), axes.lasting + axes.drifting)

        def mean_of(z: Float[Tensor, "node axis"], rows: Bool[Tensor, " node"]) -> Tensor:
            owner = nodes.owner[rows]
            total = z.new_zeros(len(asks), z.shape[1]).index_add(0, owner, z[rows])
            return total / torch.bincount(owner, minlength=len(asks)).clamp(min=1)[:, None]

        level = mean_of(
            self.content(kind, nodes)[:, : axes.lasting], torch.ones_like(nodes.owner, dtype=torch.bool)
        )
        if axes.lasting == axes.kept and not axes.drifting:  # of principal axes none says one thing alone
            return level
        z, none = nodes.vector @ self.get_buffer(f"_drift_{place}"), asks.new_zeros(len(asks))
        oldest = none.scatter_reduce(0, nodes.owner, nodes.age, "amax", include_self=False)[nodes.owner]
        newest = none.scatter_reduce(0, nodes.owner, nodes.age, "amin", include_self=False)[nodes.owner]
        change = mean_of(z, nodes.age == newest) - mean_of(z, nodes.age == oldest)
        return torch.cat([(TANH_SLOPE * level).tanh(), change.clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)], 1)

    def _rare(self, kind: str, graphs: Graphs) -> Float[Tensor, "ask 2"]:
        """Of the rare or unknown codes: the logarithm of 1 + their rows, and whether there is any."""
        count = torch.zeros_like(graphs.statics.at)
        if kind in graphs.nodes:
            owner = graphs[kind].owner[graphs[kind].code == 0]
            count = torch.bincount(owner, minlength=len(graphs)).to(count.dtype)
        return torch.stack([count.log1p(), (count > 0).to(count.dtype)], 1)

    def _running(self, kind: str, graphs: Graphs) -> Float[Tensor, "ask code"]:
        """1 where an interval of a known code is running; first, in kinds that have them, of a rare code."""
        known = self.vocabulary.codes[kind]
        running = graphs.statics.at.new_zeros(len(graphs), len(known))
        if kind in graphs.nodes:
            nodes = graphs[kind]
            running[nodes.owner[nodes.open], nodes.code[nodes.open]] = 1.0
        return running if kind in self.vocabulary.rare else running[:, 1:]

    def _bounds(self, kind: str, graphs: Graphs) -> Float[Tensor, "ask code"]:
        """Whether the last value of a known code is a bound: -1 the truth lies below, 1 above, 0 it is that.

        Values of one moment are averaged."""
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

    def _patient(self, graphs: Graphs) -> Float[Tensor, "ask channel"]:
        time = self.times("patient", graphs.statics.at)
        x = self.static(torch.cat([time, *_given(self.numbers(graphs))], 1))
        for table, level in zip(self.level, self.levels(graphs), strict=True):
            x = x + _take(table, level)
        return x

    def times(self, kind: str, days: Float[Tensor, " row"]) -> Float[Tensor, "row 2"]:
        """Standardised log1p(days) and years."""
        mean, std, _ = self._scale("time", kind)
        return ((_times(days) - mean) / std).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)

    def numbers(self, graphs: Graphs) -> Float[Tensor, "ask number"]:
        """Standardised static numbers, by name; nan = missing."""
        number = _columns(graphs.statics.number, graphs.numbers, self.vocabulary.numbers)
        return standardise(number, self._scale("value", "patient")[:, None].expand(3, *number.shape))

    def levels(self, graphs: Graphs) -> list[Int[Tensor, " ask"]]:
        """Rows of the level embeddings, a tensor a category."""
        column = dict(zip(graphs.levels, graphs.statics.category.T, strict=True))
        absent = torch.full_like(graphs.statics.at, MISSING, dtype=torch.long)
        return [
            self._level(column[name], graphs.levels[name], known) if name in column else absent
            for name, known in self.vocabulary.levels.items()
        ]

    def _level(self, index: Tensor, names: tuple[str, ...], known: tuple[str, ...]) -> Tensor:
        position = positions((None, *names), (None, None, *known), index.device)
        return torch.where(index < 0, MISSING, position[index + 1])

    def last_observation(self, graphs: Graphs) -> Float[Tensor, "ask feature"]:
        """The last value of every known code and the statics, for a linear path beside the message passing.

        In order: per kind z of each code (where there are two heaps: which one) and whether it was ever seen,
        with rare codes how many rows (log) and whether any, with intervals whether one is running, with
        bounds on which side the truth lies, with pictures or texts the mean content and its change; then the
        same z and given flag of the static numbers, levels one-hot, the time since the latest timepoint and
        since the origin. Missing: z 0, flag 0.
        """
        graphs, parts = self.merged(graphs), list[Tensor]()
        for kind, known in self.vocabulary.codes.items():
            if kind in graphs.nodes:
                value, age = graphs.last[kind].value[:, 1:], graphs.last[kind].age[:, 1:]
            else:
                value = age = graphs.statics.at.new_full((len(graphs), len(known) - 1), torch.nan)
            z = standardise(value, self._scale("value", kind)[:, None, 1:].expand(3, *value.shape))
            z = _parted(z, self.get_buffer(self._buffer("heaps", kind))[1:])
            parts += [_given(z)[0], age.isfinite().to(z.dtype)]
            if kind in self.vocabulary.rare:
                parts.append(self._rare(kind, graphs))
            if kind in self.vocabulary.running:
                parts.append(self._running(kind, graphs))
            if kind in self.vocabulary.bounded:
                parts.append(self._bounds(kind, graphs))
            if kind in self.vocabulary.vectors:
                parts.append(self._level_and_change(kind, graphs))
        parts += _given(_parted(self.numbers(graphs), self.get_buffer(self._buffer("heaps", "patient"))))
        for table, level in zip(self.level, self.levels(graphs), strict=True):
            parts.append(nn.functional.one_hot(level, len(table)).to(graphs.statics.at.dtype))
        points, never = graphs["timepoint"], torch.full_like(graphs.statics.at, torch.inf)
        since = never.scatter_reduce(0, points.owner, points.age, "amin")
        seen = since.isfinite()
        parts.append(self.times("timepoint", since.where(seen, 0.0)) * seen[:, None])
        return torch.cat([*parts, self.times("patient", graphs.statics.at)], 1)

    @property
    def groups(self) -> tuple[int, ...]:
        """Columns of `last_observation` that are of each event kind, and of the patient."""
        sizes = {kind: 2 * (len(names) - 1) for kind, names in self.vocabulary.codes.items()}
        for kind in self.vocabulary.rare:
            sizes[kind] += 2
        for kind in self.vocabulary.running:
            sizes[kind] += len(self.vocabulary.codes[kind]) - (kind not in self.vocabulary.rare)
        for kind in self.vocabulary.bounded:
            sizes[kind] += len(self.vocabulary.codes[kind]) - 1
        for kind, axes in self.vocabulary.vectors.items():
            sizes[kind] += axes.lasting + axes.drifting
        patient = 2 * len(self.vocabulary.numbers) + 4
        patient += sum(2 + len(levels) for levels in self.vocabulary.levels.values())
        return (*sizes.values(), patient)


def _rows(zero: int, drawn: int, channels: int) -> nn.Parameter:
    return nn.Parameter(torch.cat([torch.zeros(zero, channels), torch.randn(drawn, channels)]))


def _take(table: Tensor, row: Tensor) -> Tensor:
    return table.index_select(0, row)  # on a CPU its backward is five times as fast as nn.Embedding's


def _parted(z: Float[Tensor, "ask column"], heaps: Bool[Tensor, " column"]) -> Float[Tensor, "ask column"]:
    """Columns of two heaps by the heap a value is in, and little by where in it."""
    return torch.where(heaps, (TANH_SLOPE * z).tanh(), z)


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
