"""The linear family: a score for each node type from what was last seen of it, and products of two scores.

Its columns are read off the graphs by the names and scales of the vocabulary; its ridge is chosen, for each
member, on folds inside what the member learns from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gnnpatient.cohort.build import build_graphs
from gnnpatient.cohort.splits import landmark_weights
from gnnpatient.errors import InputError
from gnnpatient.graphs import Graphs, Nodes, merge_codes, moving, positions
from gnnpatient.model.basis import Basis
from gnnpatient.model.heads import HeadConfig, SurvivalConfig
from gnnpatient.model.vocabulary import MAX_DEVIATIONS, YEAR, Vocabulary, standardise
from gnnpatient.prognosis.problem import Problem

# penalties on the squared coefficients, on the scale of a sum over patients
RIDGES = tuple(0.4 * 2**k for k in range(11))
DEFAULT_RIDGE = 12.8  # where there are too few folds to choose one
MAX_ROWS = 100_000  # landmarks that are learned from, at most
MAX_TRIAL_ROWS = 4096  # landmarks on which a ridge is chosen, at most
CELLS = 2**26  # of the columns of all landmarks: bounds the memory
CHUNK = 1024  # landmarks whose graphs are built at once
STEPS, TRIAL_STEPS = 200, 20  # at most, in the end and to choose
TOLERANCE, TRIAL_TOLERANCE = 3e-7, 1e-5  # of the loss, below which a fit has ended
SMALLEST_HAZARD = 1e-5
KNOTS = (-1.0, 0.0, 1.0)  # standard deviations at which the slope of a value may change
# how many times as much ridge the coefficients of a block get: these show in hundreds of patients at least
PENALTIES = {"hinge": 16.0, "filter": 16.0}
MAX_MEMBERS = 10_000  # of a model that is loaded
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
        number = _columns(statics.number, graphs.numbers, words.numbers)
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


def _columns(table: Tensor, names: tuple[str, ...], wanted: tuple[str, ...]) -> Tensor:
    """The wanted columns of a table with named columns; nan where it has no such column."""
    if names == wanted:
        return table
    padded = torch.cat([table.new_full((len(table), 1), torch.nan), table], 1)
    return padded[:, positions(wanted, (None, *names), table.device)]


@dataclass(frozen=True, eq=False)
class Scores:
    """The coefficients of some members for one outcome.

    A group holds the columns of one node type. Its score is linear in them up to a learned limit a, ``a
    tanh(s / a)``. Where the effect of one node type depends on another (a drug that harms where a lab is
    high), the product of two scores carries it for one coefficient.

    Attributes
    ----------
    weight : Float[Tensor, "member logit column"]
        Coefficient of each column: of a survival outcome for each cause, of a diagnosis for each class.
    limit : Float[Tensor, "member logit group"]
        Logarithm of a.
    middle : Float[Tensor, "member logit group"]
        What is added to a score.
    product : Float[Tensor, "member logit pair"]
        Coefficient of the product of each two scores.
    bias : Float[Tensor, "member logit time"]
        Logit where all scores are 0; of a diagnosis with one time.
    """

    weight: Float[Tensor, "member logit column"]
    limit: Float[Tensor, "member logit group"]
    middle: Float[Tensor, "member logit group"]
    product: Float[Tensor, "member logit pair"]
    bias: Float[Tensor, "member logit time"]

    def shift(
        self, x: Float[Tensor, "column landmark"], groups: Sequence[int]
    ) -> Float[Tensor, "member logit landmark"]:
        """Score landmarks.

        Parameters
        ----------
        x : Float[Tensor, "column landmark"]
            Columns of some landmarks, in the order of the groups.
        groups : sequence of int
            Number of columns of each group.

        Returns
        -------
        Float[Tensor, "member logit landmark"]
            What is added to each logit, the same for all times.
        """
        members, logits, _ = self.weight.shape
        parts = zip(self.weight.split(tuple(groups), 2), x.split(tuple(groups)), strict=True)
        score = torch.stack(
            [(part.flatten(0, 1) @ of).unflatten(0, (members, logits)) for part, of in parts], 2
        )
        limit = self.limit.exp()[..., None]
        score = limit * ((score + self.middle[..., None]) / limit).tanh()  # (member, logit, group, landmark)
        first, second = torch.triu_indices(len(groups), len(groups), 1)
        factor = score.new_zeros(members, logits, len(groups), len(groups))
        factor[:, :, first, second] = self.product
        return score.sum(2) + (score * (factor @ score)).sum(2)

    def log_probabilities(
        self, x: Float[Tensor, "column landmark"], groups: Sequence[int], head: HeadConfig
    ) -> Tensor:
        """What a head answers.

        Parameters
        ----------
        x : Float[Tensor, "column landmark"]
            Columns of some landmarks, in the order of the groups.
        groups : sequence of int
            Number of columns of each group.
        head : HeadConfig
            What is predicted.

        Returns
        -------
        Tensor
            (member, landmark, ...): log hazards (1 + cause, time), or log probabilities (class,).
        """
        shift = self.shift(x, groups)
        if head.kind == "diagnosis":
            return (shift + self.bias).transpose(1, 2).log_softmax(2)
        logits = shift.transpose(1, 2)[..., None] + self.bias[:, None]
        return torch.cat([torch.zeros_like(logits[:, :, :1]), logits], 2).log_softmax(2)


class _Loss(Protocol):
    """What became of some landmarks, and what each of them adds to the loss of each fit."""

    def __call__(
        self,
        shift: Float[Tensor, "fit logit landmark"],
        bias: Float[Tensor, "fit logit time"],
    ) -> Float[Tensor, "fit landmark"]: ...


class _SurvivalLoss:
    """Negative log-likelihood of discrete-time competing hazards, see `SurvivalHead.loss`.

    A shift is the same for all intervals, so ``log(1 + sum_k exp(bias_kt + shift_k))`` is a product of
    matrices instead of a softmax per interval.
    """

    def __init__(self, head: SurvivalConfig, event: np.ndarray, time: np.ndarray):
        end, when = torch.tensor(head.times, dtype=torch.float64), torch.from_numpy(time)
        start = torch.cat([end.new_zeros(1), end[:-1]])
        at_risk = ((when[:, None] - start) / (end - start)).clamp(0, 1)
        ended = torch.from_numpy(event > 0) & (when <= end[-1])
        self.ended, self.row = ended.float(), torch.arange(len(event))
        self.cause = (torch.from_numpy(event) - 1).clamp(min=0)
        self.interval = torch.bucketize(when, end).clamp(max=len(end) - 1)
        at_risk[self.row[ended], self.interval[ended]] = 1.0  # the interval of an event counts in whole
        self.at_risk = at_risk.T.float().contiguous()  # (time, landmark)

    def __call__(self, shift: Tensor, bias: Tensor) -> Tensor:
        logit = shift[:, self.cause, self.row] + bias[:, self.cause, self.interval]
        top = shift.detach().amax(1, keepdim=True).clamp(min=0)  # no overflow
        total = (bias.exp().mT @ (shift - top).exp() + (-top).exp()).log() + top  # (fit, time, landmark)
        return (total * self.at_risk).sum(1) - logit * self.ended


class _DiagnosisLoss:
    """Cross-entropy."""

    def __init__(self, head: HeadConfig, label: np.ndarray):
        self.label, self.row = torch.from_numpy(label).long(), torch.arange(len(label))

    def __call__(self, shift: Tensor, bias: Tensor) -> Tensor:
        return -(shift + bias).log_softmax(1)[:, self.label, self.row]


LOSSES: Mapping[str, Any] = {"survival": _SurvivalLoss, "diagnosis": _DiagnosisLoss}


@dataclass(frozen=True, eq=False)
class _Fits:
    """Several fits at once, each of some of the landmarks: their parameters are the rows of one matrix.

    A weight is the product of one factor for the column, shared by all logits, and one for the logit, so that
    a ridge penalty on both acts as a group lasso [1]_: columns without information are left out.

    References
    ----------
    .. [1] Hoff PD. Lasso, fractional norm and structured sparse estimation using a Hadamard product
       parametrization. Computational Statistics & Data Analysis 115:186-198, 2017.
    """

    x: Float[Tensor, "column landmark"]
    groups: tuple[int, ...]
    loss: _Loss
    weight: Float[Tensor, "fit landmark"]  # sums to one
    patients: Float[Tensor, " fit"]
    bias: Float[Tensor, "fit logit time"]  # what it starts with
    penalty: Float[Tensor, " column"]  # times the ridge

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters of one fit."""
        columns, groups, logits = len(self.x), len(self.groups), self.bias.shape[1]
        per_group = {name: (logits, groups) for name in ("limit", "middle")}
        pairs = (logits, groups * (groups - 1) // 2)
        factors = {"column": (columns,), "weight": (logits, columns)}
        return factors | per_group | {"product": pairs, "bias": tuple(self.bias.shape[1:])}

    def parts(self, flat: Float[Tensor, "fit parameter"]) -> dict[str, Tensor]:
        """The parameters by name."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        split = zip(self.shapes.items(), flat.split(sizes, 1), strict=True)
        return {name: part.reshape(len(flat), *shape) for (name, shape), part in split}

    def start(self) -> Float[Tensor, "fit parameter"]:
        """Where a fit begins: no column has a weight."""
        parts = {name: torch.zeros(len(self.bias), *shape) for name, shape in self.shapes.items()}
        parts |= {"column": torch.full_like(parts["column"], 0.3), "bias": self.bias}
        return torch.cat([part.flatten(1) for part in parts.values()], 1)

    def scores(self, flat: Float[Tensor, "fit parameter"]) -> Scores:
        """The coefficients that the parameters stand for."""
        parts = self.parts(flat)
        column = parts.pop("column")
        return Scores(**parts | {"weight": parts["weight"] * column[:, None]})

    def losses(self, flat: Float[Tensor, "fit parameter"]) -> Float[Tensor, "fit landmark"]:
        """What each landmark adds to the loss of each fit, without the penalty."""
        scores = self.scores(flat)
        return self.loss(scores.shift(self.x, self.groups), scores.bias)

    def fit(
        self, flat: Float[Tensor, "fit parameter"], ridge: Float[Tensor, " fit"], steps: int, tolerance: float
    ) -> Float[Tensor, "fit parameter"]:
        """Minimise the penalised mean loss of each."""
        shapes = {name: torch.ones(shape) for name, shape in self.shapes.items()}
        shapes |= {"bias": torch.zeros(self.shapes["bias"])}
        penalty = torch.cat(
            [
                (one * self.penalty if name in ("column", "weight") else one).flatten()
                for name, one in shapes.items()
            ]
        )

        def value(flat: Tensor) -> tuple[Tensor, Tensor]:
            flat = flat.detach().requires_grad_()
            found = (self.losses(flat) * self.weight).sum(1)
            found = found + ridge / self.patients * (flat.square() * penalty).sum(1)
            (slope,) = torch.autograd.grad(found.sum(), flat)
            return found.detach(), slope

        return minimise(value, flat, steps, tolerance)


def minimise(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    x: Float[Tensor, "fit parameter"],
    steps: int,
    tolerance: float,
    memory: int = 12,
) -> Float[Tensor, "fit parameter"]:
    """Minimise several functions at once, each by L-BFGS [1]_ with steps that are halved until they go down.

    Parameters
    ----------
    function : callable
        Gives of each row its value (fit,) and slope (fit, parameter).
    x : Float[Tensor, "fit parameter"]
        Where to begin; a row is the argument of one function.
    steps : int
        Steps at most.
    tolerance : float
        A row ends where a step gains less than this share of its value.
    memory : int
        Past steps that shape the next one, default 12.

    Returns
    -------
    Float[Tensor, "fit parameter"]

    References
    ----------
    .. [1] Liu DC, Nocedal J. On the limited memory BFGS method for large scale optimization. Mathematical
       Programming 45:503-528, 1989.

    Examples
    --------
    >>> middle = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> minimise(lambda x: ((x - middle).square().sum(1), 2 * (x - middle)), torch.zeros(2, 2), 9, 1e-6)
    tensor([[1., 2.],
            [3., 4.]])
    """
    value, slope = function(x)
    active = torch.ones(len(x), dtype=torch.bool)
    scale = 1 / slope.abs().sum(1).clamp(min=1.0)
    past: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(steps):
        way = -_times_inverse(slope, past, scale)
        down = (way * slope).sum(1)
        way = way.where((down < 0)[:, None], -slope * scale[:, None])
        down = (way * slope).sum(1)
        length = torch.ones_like(value)
        for _ in range(10):
            there = x.where(~active[:, None], x + length[:, None] * way)
            found, steep = function(there)
            lower = found <= value + 1e-4 * length * down
            if (lower | ~active).all():
                break
            length = torch.where(lower, length, length / 3)
        moved = active & lower
        move, turn = there - x, steep - slope
        bend = (move * turn).sum(1)
        useful = moved & (bend > 1e-9 * turn.square().sum(1))
        past.append((move * useful[:, None], turn * useful[:, None], 1 / bend.where(useful, torch.inf)))
        past = past[-memory:]
        scale = scale.where(~useful, bend / turn.square().sum(1).where(useful, 1.0))
        active = moved & (value - found > tolerance * found.abs())
        x = x.where(~moved[:, None], there)
        value, slope = value.where(~moved, found), slope.where(~moved[:, None], steep)
        if not active.any():
            break
    return x


def _times_inverse(slope: Tensor, past: Sequence[tuple[Tensor, Tensor, Tensor]], scale: Tensor) -> Tensor:
    """The slope times the inverse of the curvature that past steps have shown, of each row."""
    way, shares = slope, []
    for move, turn, share in reversed(past):
        shares.append(share * (move * way).sum(1))
        way = way - shares[-1][:, None] * turn
    way = way * scale[:, None]
    for (move, turn, share), before in zip(past, reversed(shares), strict=True):
        way = way + (before - share * (turn * way).sum(1))[:, None] * move
    return way


@dataclass(frozen=True, eq=False)
class _Learning:
    """The landmarks that one outcome is learned from."""

    problem: Problem
    outcome: str
    rows: np.ndarray  # (landmark,) positions in the problem
    x: Float[Tensor, "column landmark"]
    groups: tuple[int, ...]
    columns: tuple[Column, ...]
    fold: np.ndarray  # (landmark,) which fold each is of

    def fits(self, left_out: Sequence[tuple[int, ...]], some: np.ndarray) -> _Fits:
        """Fits of some of the landmarks, each without some folds."""
        problem, rows = self.problem, self.rows[some]
        head, target = problem.heads[self.outcome], problem.targets[self.outcome]
        weight = self.weights(some)
        inside = [~np.isin(self.fold[some], folds) for folds in left_out]
        weights = torch.from_numpy(np.stack([weight * mask for mask in inside])).float()
        starts = [_logits(problem.start(self.outcome, rows[mask]), head) for mask in inside]
        return _Fits(
            self.x[:, torch.from_numpy(some)],
            self.groups,
            LOSSES[head.kind](head, *(column[rows] for column in target.columns)),
            weights / weights.sum(1, keepdim=True).clamp(min=1e-9),
            torch.tensor([float(len(np.unique(problem.landmarks.patient[rows[mask]]))) for mask in inside]),
            torch.stack(starts),
            torch.tensor([PENALTIES.get(column.block, 1.0) for column in self.columns]),
        )

    def fit(self, members: int) -> tuple[Scores, tuple[float, ...]]:
        """Fit each member without its own fold, by the ridge that its other folds choose."""
        ridges = self.choose(members)
        fits = self.fits([(member,) for member in range(members)], np.arange(len(self.rows)))
        flat = fits.fit(fits.start(), torch.tensor(ridges), STEPS, TOLERANCE)
        if not flat.isfinite().all():
            raise InputError(f"outcome {self.outcome!r}: the linear model has no finite coefficients")
        return fits.scores(flat), ridges

    def choose(self, members: int) -> tuple[float, ...]:
        """Choose the ridge of each member: that of the lowest loss on its other folds in turn.

        The fit without the folds i and j is scored on j for member i, which sees nothing of i, and on i for
        member j. A fit goes on from that of the weaker ridge.
        """
        folds = len(self.problem.folds)
        if folds < 3:
            return (DEFAULT_RIDGE,) * members
        pairs = [(i, j) for i in range(members) for j in range(i + 1, folds)]
        draw = np.random.default_rng(self.problem.config.seed).permutation(len(self.rows))
        some = np.sort(draw[:MAX_TRIAL_ROWS])
        fits, fold = self.fits(pairs, some), torch.from_numpy(self.fold[some])
        weight, flat, found = torch.from_numpy(self.weights(some)), fits.start(), list[Tensor]()
        for ridge in RIDGES:
            flat = fits.fit(flat, torch.full((len(pairs),), ridge), TRIAL_STEPS, TRIAL_TOLERANCE)
            with torch.no_grad():
                loss = fits.losses(flat).double() * weight
            total = torch.zeros(members, dtype=torch.float64)
            for each, (i, j) in zip(loss, pairs, strict=True):
                for member, other in ((i, j), (j, i)):
                    if member < members:
                        total[member] += each[fold == other].sum()
            found.append(total)
            if len(found) > 2 and (torch.stack(found[-3:]).diff(dim=0) > 0).all():
                break
        return tuple(RIDGES[place] for place in torch.stack(found).argmin(0).tolist())

    def weights(self, some: np.ndarray) -> np.ndarray:
        """For how many each of some landmarks counts: every landmark time the same."""
        rows = self.rows[some]
        moments = self.problem.landmarks.moments[rows]
        return landmark_weights(moments) * self.problem.targets[self.outcome].share[rows]


def _logits(start: np.ndarray, head: HeadConfig) -> Float[Tensor, "logit time"]:
    """What a head starts with, as logits."""
    share = torch.from_numpy(start).float().clamp(min=SMALLEST_HAZARD)
    if head.kind == "diagnosis":
        return share.log()[:, None]
    return (share / (1 - share.sum(0)).clamp(min=SMALLEST_HAZARD)).log()


class LinearHazard:
    """The linear family, see `problem.Family`.

    Attributes
    ----------
    name : str
        ``"linear"``.
    columns : LinearColumns
        What it reads off the graphs.
    heads : mapping of str to HeadConfig
        What is predicted, by outcome.
    members : int
        Members; those that are left without the same fold are equal.
    scores : mapping of str to Scores
        The coefficients of the different members, by outcome.
    ridges : mapping of str to tuple of float
        The penalty of each of them on its squared coefficients, on the scale of a sum over patients.
    """

    name: ClassVar[str] = "linear"

    def __init__(
        self,
        columns: LinearColumns,
        heads: Mapping[str, HeadConfig],
        members: int,
        scores: Mapping[str, Scores],
        ridges: Mapping[str, tuple[float, ...]],
    ):
        self.columns, self.heads, self.members = columns, heads, members
        self.scores, self.ridges = scores, ridges

    @classmethod
    def fit(cls, problem: Problem) -> Self:
        """Fit every member, each on `problem.train(member)` alone.

        Parameters
        ----------
        problem : Problem
            What there is to learn from.

        Returns
        -------
        LinearHazard

        Raises
        ------
        InputError
            When a coefficient is not finite.
        """
        X, columns = problem.landmarks, LinearColumns(problem.vocabulary, problem.bases)
        most = min(MAX_ROWS, max(CHUNK, CELLS // len(columns.names)))
        rows = np.sort(np.random.default_rng(problem.config.seed).permutation(len(X))[:most])
        starts = range(0, len(rows), CHUNK)
        x = torch.cat([columns(build_graphs(X[rows[i : i + CHUNK]])) for i in starts])
        scale = _scales(x, torch.from_numpy(X.patient[rows]), problem.config.min_patients)
        kept = scale.nonzero()[:, 0]
        x = (x[:, kept] * scale[kept]).T.contiguous()
        groups = tuple(int((scale[part] > 0).sum()) for part in columns.groups)
        names = tuple(columns.names[i] for i in kept.tolist())
        fold = np.empty(len(X), np.int64)
        for k, (_, held_out) in enumerate(problem.folds):
            fold[held_out] = k
        members = min(problem.config.members, len(problem.folds))
        report = problem.progress or (lambda *_: None)
        scores, ridges = {}, {}
        for done, (outcome, target) in enumerate(problem.targets.items()):
            report("linear", done, len(problem.targets))
            known = np.flatnonzero(target.known[rows])
            some = x[:, torch.from_numpy(known)]
            learning = _Learning(problem, outcome, rows[known], some, groups, names, fold[rows[known]])
            fitted, ridges[outcome] = learning.fit(members)
            weight = torch.zeros(*fitted.weight.shape[:2], len(scale))
            weight[:, :, kept] = fitted.weight * scale[kept]
            scores[outcome] = replace(fitted, weight=weight)
        report("linear", len(problem.targets), len(problem.targets))
        return cls(columns, problem.heads, problem.config.members, scores, ridges)

    def forecast(self, graphs: Graphs, members: Sequence[int] | None = None) -> dict[str, Tensor]:
        """Forecast every outcome.

        Parameters
        ----------
        graphs : Graphs
            In the cohort's own codes, on the CPU.
        members : sequence of int, optional
            Which members; default: all.

        Returns
        -------
        dict of str to Tensor
            (member, landmark, ...) float64 as a head's `forward` gives them: log hazards (1 + cause, time)
            with slot 0 event-free, or log probabilities (class,).
        """
        x = self.columns(graphs).double().T
        sizes = [part.stop - part.start for part in self.columns.groups]
        which = range(self.members) if members is None else members
        answers = {}
        for outcome, scores in self.scores.items():
            rows = [member % len(scores.bias) for member in which]
            some = Scores(**{name: part[rows].double() for name, part in vars(scores).items()})
            answers[outcome] = some.log_probabilities(x, sizes, self.heads[outcome])
        return answers

    def to(self, device: torch.device) -> None:
        """Stay where it is: its columns are read and scored on the CPU.

        Parameters
        ----------
        device : torch.device
            Where the others compute.
        """

    def facts(self) -> dict[str, Any]:
        """Everything but the tensors and what is in the vocabulary and the heads, as JSON holds it.

        Returns
        -------
        dict
            Keys ``members`` and ``ridges``.
        """
        return {"members": self.members, "ridges": {name: [*some] for name, some in self.ridges.items()}}

    def tensors(self) -> dict[str, Tensor]:
        """The fitted numbers by name.

        Returns
        -------
        dict of str to Tensor
            Of each outcome, by its position, the fields of its `Scores`; of each node type with vectors, by
            its position, mean and axes.
        """
        tensors = {
            f"outcome.{i}.{name}": part
            for i, scores in enumerate(self.scores.values())
            for name, part in vars(scores).items()
        }
        for i, kind in enumerate(self.columns.vocabulary.vectors):
            basis = self.columns.bases[kind]
            tensors |= {f"vectors.{i}.mean": basis.mean, f"vectors.{i}.axes": basis.axes}
        return tensors

    @classmethod
    def load(
        cls,
        facts: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        vocabulary: Vocabulary,
        heads: Mapping[str, HeadConfig],
        layers: Mapping[str, type] | None = None,
    ) -> Self:
        """Read what `facts` and `tensors` gave.

        Parameters
        ----------
        facts : mapping
            From `facts`.
        tensors : mapping of str to Tensor
            From `tensors`.
        vocabulary : Vocabulary
            Names and scales of the training graphs.
        heads : mapping of str to HeadConfig
            What is predicted, by outcome.
        layers : mapping of str to type, optional
            Not used: classes of the user's own, which other families take.

        Returns
        -------
        LinearHazard

        Raises
        ------
        KeyError, ValueError, TypeError, RuntimeError
            When they do not fit together.
        """
        bases = {
            kind: Basis(*(tensors[f"vectors.{i}.{name}"] for name in ("mean", "axes")))
            for i, kind in enumerate(vocabulary.vectors)
        }
        columns = LinearColumns(vocabulary, bases)
        if {kind: basis.sizes for kind, basis in bases.items()} != dict(vocabulary.vectors):
            raise ValueError("axes of vectors that are not those of the vocabulary")
        members, scores, ridges = facts["members"], {}, {}
        if type(members) is not int or not 1 <= members <= MAX_MEMBERS:
            raise ValueError(f"{members!r} members of the linear family")
        for i, (outcome, head) in enumerate(heads.items()):
            scores[outcome] = Scores(**{f.name: tensors[f"outcome.{i}.{f.name}"] for f in fields(Scores)})
            ridges[outcome] = tuple(_ridge(one) for one in facts["ridges"][outcome])
            if len(ridges[outcome]) != len(scores[outcome].bias):
                raise ValueError(f"outcome {outcome!r}: other ridges than members of the linear family")
            _check(scores[outcome], columns, head)
        return cls(columns, heads, members, scores, ridges)


def _ridge(ridge: Any) -> float:
    """A ridge, as it was saved."""
    if not 0 <= ridge < math.inf:
        raise ValueError(f"ridge {ridge} of the linear family")
    return float(ridge)


def _check(scores: Scores, columns: LinearColumns, head: HeadConfig) -> None:
    """Refuse coefficients of other shapes than these columns and this head need."""
    logits = head.shape[0] - (head.kind == "survival")
    groups = len(columns.groups)
    wanted = {
        "weight": len(columns.names),
        "limit": groups,
        "middle": groups,
        "product": groups * (groups - 1) // 2,
        "bias": max(1, len(head.times)),
    }
    for name, size in wanted.items():
        part = getattr(scores, name)
        if part.shape != (len(scores.bias), logits, size) or not part.isfinite().all():
            raise ValueError(f"coefficients {name!r} of the linear family do not fit its columns")


def _scales(
    x: Float[Tensor, "landmark column"], patient: Int[Tensor, " landmark"], least: int
) -> Float[Tensor, " column"]:
    """By what each column is multiplied to have a standard deviation of one: a ridge then weighs all alike.

    A column that is almost always of one value grows fourfold at most; one that varies in fewer than `least`
    patients gets zero. Scales are rounded to steps of a tenth of their logarithm, since the deviation of a
    flag gives away a count.
    """
    spread = x.std(0, correction=0)
    usable = (moving(x, patient)[0] >= least) & (spread > 1e-6)
    scale = (1 / spread.clamp(min=0.25)).log().mul(10).round().div(10).exp()
    return scale.where(usable, 0.0)
