"""The head of a progression: the distribution of a value at a few times, and whether one is seen then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gnnpatient.errors import InputError
from gnnpatient.graphs import Graphs
from gnnpatient.model.scores import Scores, hold
from gnnpatient.model.table import FEATURES, NodeTable, code_names
from gnnpatient.model.vocabulary import Vocabulary

WIDE = 3.0  # times the deviation of most values is that of the rest
FEW = 0.02  # share of the rest, before any training
LEAST = 1e-7  # probability of a bin
FAR = 6.0  # deviations from the middle that a last value counts at most
COURSES = 3  # courses in time of the effect on the middle
COURSE_WEIGHT = 0.3  # of those that are not constant
STARTS = ("middle", "last", "none", "log_sd", "seen")  # rows of what a head starts with


@dataclass(frozen=True, kw_only=True)
class ProgressionConfig:
    """What a progression head predicts: the probability of bins of a value at each time, and of a value.

    Attributes
    ----------
    kind : str
        Always ``"progression"``.
    node : str
        Node type with the value.
    codes : tuple of str
        Codes of that node type, at least one.
    unit : str
        Unit of the value, ``""`` for none.
    target : {"value", "change"}
        Whether the bins are of the value, or of its change since the last one known.
    gone : str or None
        The survival outcome of the same model whose events end this one.
    times : tuple of float
        Days after the landmark, rising.
    edges : tuple of float
        Ends of the bins, rising; what lies outside is in the first or the last bin.
    log : bool
        Whether values are taken by their logarithm.
    anchor : tuple of float
        Middle and width of the last known values, by their logarithm where `log`.
    has_end : bool
        Whether the spec said when observation ends; else who did not come back counted as not seen.

    Raises
    ------
    InputError
        When there is no code, or times or edges do not rise.
    """

    kind: Literal["progression"] = "progression"
    node: str
    codes: tuple[str, ...]
    unit: str
    target: Literal["value", "change"]
    gone: str | None
    times: tuple[float, ...]
    edges: tuple[float, ...]
    log: bool
    anchor: tuple[float, float]
    has_end: bool = True

    def __post_init__(self) -> None:
        if not self.codes:
            raise InputError("a progression without codes; name at least one")
        if not self.times or any(a >= b for a, b in zip((0.0, *self.times), self.times, strict=False)):
            raise InputError(f"times {list(self.times)}; must be days above 0, rising")
        rising = all(a < b for a, b in zip(self.edges, self.edges[1:], strict=False))
        if len(self.edges) < 3 or not rising or not all(map(math.isfinite, self.edges)):
            raise InputError(f"edges {list(self.edges)[:4]}; must be the ends of two bins or more, rising")
        if self.log and self.edges[0] <= 0:
            raise InputError(f"edges {list(self.edges)[:4]}; must be above 0 where values are by logarithm")
        if not self.anchor[1] > 0:
            raise InputError(f"anchor {self.anchor}; its width must be above 0")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the prediction for one landmark: (1 + bin, time); slot 0 is that a value is seen."""
        return len(self.edges), len(self.times)

    @property
    def names(self) -> tuple[str, ...]:
        """What is counted of it."""
        return ("value",)

    def to_dict(self) -> dict[str, Any]:
        """The fields as lists, strings and numbers.

        Returns
        -------
        dict
        """
        return {name: list(x) if isinstance(x, tuple) else x for name, x in vars(self).items()}

    def probabilities(
        self, answer: Float[Tensor, "landmark slot time"]
    ) -> Float[Tensor, "landmark slot time"]:
        """What a family answers, as probabilities.

        Parameters
        ----------
        answer : Float[Tensor, "landmark slot time"]
            Logarithms.

        Returns
        -------
        Float[Tensor, "landmark slot time"]
            Slot 0 that a value is seen; the others of each bin, if one is; they sum to one.
        """
        return torch.cat([answer[:, :1].clamp(max=0).exp(), answer[:, 1:].softmax(1)], 1)

    def scaled(self, value: np.ndarray) -> np.ndarray:
        """Values, or changes, on the scale that is learned on.

        Parameters
        ----------
        value : ndarray
            In the unit; nan stays nan.

        Returns
        -------
        ndarray
            With the bins from about -2.5 to 2.5; nothing lies beyond twice that.
        """
        ends = np.array(self.edges)
        value = np.asarray(value, np.float64)
        if self.log:
            ends, value = np.log(ends), np.log(np.maximum(value, 1e-2 * ends[0]))
        width = (ends[-1] - ends[0]) / 5
        return ((value - (ends[0] + ends[-1]) / 2) / width).clip(-5, 5)

    @property
    def scaled_edges(self) -> np.ndarray:
        """The edges on the scale that is learned on: (bin + 1,)."""
        return self.scaled(np.array(self.edges))

    def anchored(self, last: np.ndarray) -> np.ndarray:
        """Last known values as the families take them.

        Parameters
        ----------
        last : ndarray
            (landmark,), nan = none.

        Returns
        -------
        ndarray
            (landmark, 2): deviations from the middle, 0 where there is none, and whether there is none.
        """
        last = np.asarray(last, np.float64)
        if self.log:
            last = np.log(np.maximum(last, 1e-2 * self.edges[0]))
        z = ((last - self.anchor[0]) / self.anchor[1]).clip(-FAR, FAR)
        return np.stack([np.nan_to_num(z), np.isnan(z)], 1).astype(np.float64)


def last_value(graphs: Graphs, head: ProgressionConfig) -> np.ndarray:
    """Read the last known value off graphs; of several at one moment their mean.

    Parameters
    ----------
    graphs : Graphs
        In the cohort's own codes.
    head : ProgressionConfig
        Which codes.

    Returns
    -------
    ndarray
        (landmark,) float64, nan = none.
    """
    found = np.full(len(graphs), np.nan)
    if head.node not in graphs.nodes:
        return found
    nodes = graphs.nodes[head.node]
    wanted = torch.tensor([name in head.codes for name in graphs.codes[head.node]], dtype=torch.bool)
    rows = (wanted[nodes.code] & nodes.value.isfinite()).numpy()
    owner, age, value = (x.numpy()[rows] for x in (nodes.owner, nodes.age, nodes.value))
    newest = np.full(len(graphs), np.inf)
    np.minimum.at(newest, owner, age)
    final = age == newest[owner]
    count = np.bincount(owner[final], minlength=len(graphs))
    total = np.bincount(owner[final], value[final].astype(np.float64), minlength=len(graphs))
    found[count > 0] = total[count > 0] / count[count > 0]
    return found


def hats(times: Sequence[float], when: np.ndarray) -> np.ndarray:
    """The share that each of some times has in what is between: linear, before the first all of the first.

    Parameters
    ----------
    times : sequence of float
        Rising.
    when : ndarray
        Days; nan gives nan.

    Returns
    -------
    ndarray
        (..., time), with sum one.

    Examples
    --------
    >>> hats((10.0, 30.0), np.array([5.0, 15.0, 40.0]))
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.  , 1.  ]])
    """
    grid, when = np.array(times), np.asarray(when, np.float64)
    inside = when.clip(grid[0], grid[-1])
    unit = np.eye(len(grid))
    return np.stack([np.interp(inside, grid, one) for one in unit], -1)


def pair_weights(share: np.ndarray) -> np.ndarray:
    """How much each later value counts: those of a landmark around one time for one value at most.

    So at each time everybody counts alike who has a value there, however many, and however long followed.

    Parameters
    ----------
    share : ndarray
        (landmark, pair, time), from `hats`; 0 where there is no value.

    Returns
    -------
    ndarray
        (landmark, pair) float64.

    Examples
    --------
    >>> pair_weights(hats((10.0, 30.0), np.array([[9.0, 10.0], [20.0, 40.0]])))
    array([[0.5       , 0.5       ],
           [0.83333333, 0.66666667]])
    """
    return np.asarray((share / np.maximum(share.sum(1, keepdims=True), 1.0)).sum(2))


def log_bins(
    middle: Float[Tensor, "*batch time"],
    log_sd: Float[Tensor, "*batch time"],
    wide: Float[Tensor, "..."],
    edges: Float[Tensor, " edge"],
) -> Float[Tensor, "*batch bin time"]:
    """Log probability of each bin under a normal distribution, a small part of which is three times as wide.

    Parameters
    ----------
    middle : Float[Tensor, "*batch time"]
        Means.
    log_sd : Float[Tensor, "*batch time"]
        Logarithms of the standard deviation of the larger part.
    wide : Float[Tensor, "..."]
        Logit of the share of the wide part.
    edges : Float[Tensor, " edge"]
        Ends of the bins; the first and the last one are open.

    Returns
    -------
    Float[Tensor, "*batch bin time"]
        The probabilities sum to one over the bins, but for their least.
    """
    away = (edges[1:-1, None] - middle[..., None, :]) / log_sd[..., None, :].exp()
    share = wide.sigmoid()
    p = (1 - share) * _between(away) + share * _between(away / WIDE)
    return p.clamp(min=LEAST).log()


def _between(z: Float[Tensor, "*batch edge time"]) -> Float[Tensor, "*batch bin time"]:
    """Probabilities between standard normal deviates, each from the tail that it is nearer to."""
    low = nn.functional.pad(z, (0, 0, 1, 0), value=-math.inf)
    high = nn.functional.pad(z, (0, 0, 0, 1), value=math.inf)
    upper = low > 0
    a, b = torch.where(upper, -high, low), torch.where(upper, -low, high)
    return torch.special.ndtr(b) - torch.special.ndtr(a)


class LastValue(nn.Module):
    """Reads the last known value of some codes off node tables, on the scale of a head.

    Parameters
    ----------
    config : ProgressionConfig
        Which codes, and the scale.
    vocabulary : Vocabulary
        Names and scales of the table.

    Attributes
    ----------
    wanted : Bool[Tensor, " code"]
        Which codes of the table are read.
    scale : Float[Tensor, "3 code"]
        Mean, standard deviation and log flag of each code of the table.
    """

    wanted: Tensor
    scale: Tensor

    def __init__(self, config: ProgressionConfig, vocabulary: Vocabulary):
        super().__init__()
        self.config = config
        names = code_names(vocabulary)
        named = [kind == config.node and code in config.codes for kind, code in names]
        scales = [vocabulary.values[kind].table() for kind in vocabulary.codes]
        table = torch.cat(scales, 1) if scales else torch.zeros(3, 0)
        self.register_buffer("wanted", torch.tensor(named, dtype=torch.bool), persistent=False)
        self.register_buffer("scale", table, persistent=False)

    def forward(self, table: NodeTable) -> Float[Tensor, "landmark 2"]:
        """Deviations of the last value from the middle, 0 where there is none, and whether there is none.

        Parameters
        ----------
        table : NodeTable
            A batch of landmarks.

        Returns
        -------
        Float[Tensor, "landmark 2"]
        """
        age, given = (table.x[:, FEATURES.index(name)] for name in ("age", "given"))
        rows = (self.wanted[table.code] & (given > 0)).nonzero()[:, 0]
        owner, age = table.owner[rows], age[rows]
        newest = age.new_full((len(table),), torch.inf).scatter_reduce(0, owner, age, "amin")
        final = age == newest[owner]
        rows, owner = rows[final], owner[final]
        mean, std, log = self.scale[:, table.code[rows]]
        value = table.x[rows, FEATURES.index("value")] * std + mean
        if self.config.log:
            value = torch.where(log > 0, value, value.clamp(min=1e-2 * self.config.edges[0]).log())
        else:
            value = torch.where(log > 0, value.exp(), value)
        none = torch.zeros_like(newest)
        count = none.index_add(0, owner, torch.ones_like(value))
        z = (
            none.index_add(0, owner, value) / count.clamp(min=1) - self.config.anchor[0]
        ) / self.config.anchor[1]
        missing = count == 0
        return torch.stack([z.clamp(-FAR, FAR).masked_fill(missing, 0.0), missing.to(z)], 1)


class ProgressionHead(nn.Module):
    """The distribution of a value at each time: its middle starts at the last known one, drawn to the mean.

    After `start`, and before any training, every landmark gets what a line through the last values says.

    Parameters
    ----------
    config : ProgressionConfig
        Times and bins.
    channels : int
        Channels of the pools.
    dropout : float
        Share that is dropped in training, default 0.

    Attributes
    ----------
    courses : Float[Tensor, "course time"]
        By what the scores of the middle are multiplied at each time; the first is 1.
    edges : Float[Tensor, " edge"]
        Ends of the bins on the scale that is learned on.
    grid : Float[Tensor, " time"]
        Days after the landmark of each time.
    """

    courses: Tensor
    edges: Tensor
    grid: Tensor

    def __init__(self, config: ProgressionConfig, channels: int, dropout: float = 0.0):
        super().__init__()
        self.config, size = config, len(config.times)
        place = (torch.arange(size) + 0.5) / size
        turns = torch.arange(min(COURSES, size))[:, None]
        courses = (turns * torch.pi * place).cos() * COURSE_WEIGHT ** (turns > 0)
        self.register_buffer("courses", courses, persistent=False)
        self.register_buffer("edges", torch.from_numpy(config.scaled_edges).float(), persistent=False)
        self.register_buffer("grid", torch.tensor(config.times), persistent=False)
        self.scores = Scores(channels, len(courses) + 2, dropout)
        self.bias = nn.Parameter(torch.zeros(len(STARTS), size))
        self.wide = nn.Parameter(torch.tensor(math.log(FEW / (1 - FEW))))

    @torch.no_grad()
    def start(self, prior: Float[Tensor, "start time"]) -> None:
        """Begin with a line through the last values.

        Parameters
        ----------
        prior : Float[Tensor, "start time"]
            STARTS: the middle, what a last value adds to it and what none does, the logarithm of the standard
            deviation, and the logit of being seen.
        """
        self.bias.copy_(prior)

    def hold(self, learned: Bool[Tensor, " one"]) -> None:
        """Keep what it began with, whatever is trained.

        Parameters
        ----------
        learned : Bool[Tensor, " one"]
            False: to be kept.
        """
        every = learned.all()[None]
        hold(self.bias, every.expand(len(self.bias)))
        hold(self.wide, every)
        self.scores.hold(every.expand(len(self.courses) + 2))

    def forward(
        self, z: Float[Tensor, "landmark channel"], last: Float[Tensor, "landmark 2"]
    ) -> Float[Tensor, "landmark slot time"]:
        """The log probability of being seen (slot 0) and, if seen, of each bin.

        Parameters
        ----------
        z : Float[Tensor, "landmark channel"]
            What the pools say of each landmark.
        last : Float[Tensor, "landmark 2"]
            From `LastValue`.

        Returns
        -------
        Float[Tensor, "landmark slot time"]
        """
        scores = self.scores(z)
        shift, spread, seen = scores.split([len(self.courses), 1, 1], 1)
        middle = self.bias[0] + last @ self.bias[1:3] + shift @ self.courses
        bins = log_bins(middle, self.bias[3] + spread, self.wide, self.edges)
        return torch.cat([nn.functional.logsigmoid(self.bias[4] + seen)[:, None], bins], 1)

    def loss(
        self,
        logs: Float[Tensor, "landmark slot time"],
        bins: Int[Tensor, "landmark pair"],
        when: Float[Tensor, "landmark pair"],
        seen: Float[Tensor, "landmark time"],
    ) -> Float[Tensor, " landmark"]:
        """Negative log-likelihood of each landmark, over all times: what is not known adds nothing.

        Parameters
        ----------
        logs : Float[Tensor, "landmark slot time"]
            From `forward`.
        bins : Int[Tensor, "landmark pair"]
            The bin of each later value; -1: none.
        when : Float[Tensor, "landmark pair"]
            Days after the landmark of each.
        seen : Float[Tensor, "landmark time"]
            1 where a value was seen around that time, 0 where none was, nan where that is not known.

        Returns
        -------
        Float[Tensor, " landmark"]
        """
        there = (bins >= 0).to(logs.dtype)
        share = self._hats(when).to(logs.dtype)
        index = 1 + bins.long().clamp(min=0)[..., None].expand(-1, -1, logs.shape[2])
        p = (logs.gather(1, index).exp() * share).sum(2).clamp(min=LEAST)
        share = share * there[..., None]
        weight = (share / share.sum(1, keepdim=True).clamp(min=1)).sum(2)  # see `pair_weights`
        of_values = -(p.log() * weight).sum(1)
        known = seen.isfinite()
        y, log_seen = seen.nan_to_num(0.0).to(logs.dtype), logs[:, 0].clamp(max=-LEAST)
        each = -(y * log_seen + (1 - y) * (-log_seen.expm1()).log())
        of_seen = (each * known).sum(1)
        return (of_values + of_seen) / len(self.grid)

    def _hats(self, when: Float[Tensor, "landmark pair"]) -> Float[Tensor, "landmark pair time"]:
        """See `hats`."""
        grid, t = self.grid, when.clamp(float(self.grid[0]), float(self.grid[-1]))
        if len(grid) == 1:
            return torch.ones_like(t)[..., None]
        right = torch.bucketize(t, grid.to(t)).clamp(1, len(grid) - 1)
        left = right - 1
        share = (t - grid[left]) / (grid[right] - grid[left])
        zeros = t.new_zeros(*t.shape, len(grid))
        return zeros.scatter(2, left[..., None], (1 - share)[..., None]).scatter_add(
            2, right[..., None], share[..., None]
        )

    def predict(self, logs: Float[Tensor, "landmark slot time"]) -> Float[Tensor, "landmark slot time"]:
        """The probabilities, see `ProgressionConfig.probabilities`.

        Parameters
        ----------
        logs : Float[Tensor, "landmark slot time"]
            From `forward`.

        Returns
        -------
        Float[Tensor, "landmark slot time"]
        """
        return self.config.probabilities(logs)
