"""Heads: each owns how its outcome is learned (`loss`) and how it is answered (`answer`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gnnpatient.errors import InputError


def incidence(log_hazard: Float[Tensor, "ask slot time"]) -> Float[Tensor, "ask slot time"]:
    """Cumulative incidence from the logs of discrete-time hazards; slot 0 of the middle axis is event-free.

    F_k(t) = sum over s <= t of h_k(s) S(s-1)   (Kalbfleisch & Prentice 2002, ch. 8)

    >>> h = torch.tensor([[[0.9, 0.5], [0.1, 0.5]]])     # one ask, one cause, two times
    >>> incidence(h.log())
    tensor([[[0.9000, 0.4500],
             [0.1000, 0.5500]]])
    """
    free = log_hazard[:, :1].cumsum(-1)
    before = torch.cat([torch.zeros_like(free[..., :1]), free[..., :-1]], dim=-1)
    return torch.cat([free.exp(), (log_hazard[:, 1:] + before).exp().cumsum(-1)], dim=1)


@runtime_checkable
class HeadConfig(Protocol):
    """What a head answers, as the model's file keeps it."""

    @property
    def kind(self) -> str:
        """Which head it is: a key of `HEADS`."""

    @property
    def times(self) -> tuple[float, ...]:
        """Days after the landmark at which it answers; () for the landmark itself."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the answer to one landmark."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as lists, strings and numbers."""


@dataclass(frozen=True, kw_only=True)
class SurvivalConfig:
    """What a survival head answers: event-free or one of the causes, at the end of each interval."""

    kind: Literal["survival"] = "survival"
    causes: tuple[str, ...]
    times: tuple[float, ...]  # days after the ask: ends of the intervals, rising; the last is the horizon

    def __post_init__(self) -> None:
        if not self.causes:
            raise InputError("a survival outcome without causes; one name or more would do")
        if not self.times or any(a >= b for a, b in zip((0.0, *self.times), self.times, strict=False)):
            raise InputError(f"times {list(self.times)}; rising days above 0 would do")

    @property
    def shape(self) -> tuple[int, int]:
        """Of the answer to one ask: (1 + cause, time)."""
        return 1 + len(self.causes), len(self.times)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "causes": list(self.causes), "times": list(self.times)}


@dataclass(frozen=True, kw_only=True)
class DiagnosisConfig:
    """What a diagnosis head answers: one of some classes."""

    kind: Literal["diagnosis"] = "diagnosis"
    classes: tuple[str, ...]
    times: ClassVar[tuple[float, ...]] = ()  # none: one moment, the landmark's

    def __post_init__(self) -> None:
        if len(set(self.classes)) < 2 or len(set(self.classes)) < len(self.classes):
            raise InputError(f"classes {list(self.classes)}; two different names or more would do")

    @property
    def shape(self) -> tuple[int]:
        """Of the answer to one ask: (class,)."""
        return (len(self.classes),)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "classes": list(self.classes)}


def head_config(data: Mapping[str, Any]) -> HeadConfig:
    """What `to_dict` wrote."""
    make: Any = HEADS[data["kind"]][0]
    config: HeadConfig = make(**{name: tuple(x) if isinstance(x, list) else x for name, x in data.items()})
    return config


class Shift(nn.Module):
    """Shifts of the logits by the last observations: a score for each group of columns, and products of them.

    A group is what one kind of node says. Its score is linear in the columns up to a limit of its own,
    a tanh(s / a), so that a yes or no can be read off columns that say it with noise. Where the effect of one
    kind depends on another (a drug that harms where a lab is high), the product of two scores tells it, for
    one coefficient. Weights are u v, the u of a column shared by all logits: a ridge on both is a group lasso
    (Hoff 2017), so columns that say nothing are left out.
    """

    scale: Tensor
    _first: Tensor
    _second: Tensor

    def __init__(self, groups: Sequence[int], shifts: int):
        super().__init__()
        self.groups = tuple(groups)
        first, second = torch.triu_indices(len(groups), len(groups), 1)
        self.register_buffer("_first", first, persistent=False)
        self.register_buffer("_second", second, persistent=False)
        self.register_buffer("scale", torch.ones(sum(groups)))
        self.column = nn.Parameter(torch.full((sum(groups),), 0.3))
        self.weight = nn.Parameter(torch.zeros(shifts, sum(groups)))
        self.limit = nn.Parameter(torch.zeros(shifts, len(groups)))  # log a
        self.middle = nn.Parameter(torch.zeros(shifts, len(groups)))
        self.product = nn.Parameter(torch.zeros(shifts, len(first)))

    @torch.no_grad()
    def start(self, x: Float[Tensor, "ask feature"], told: Bool[Tensor, " feature"] | None = None) -> None:
        """Give each column a deviation of one over these asks, so that a penalty weighs all alike.

        A column that is rarely anything but one value grows fourfold at most, one that never is gets zero.
        told: columns that may be used; then deviations are rounded to steps of a tenth, as those of flags
        are counts.
        """
        spread = x.std(0, correction=0)
        scale = (1 / spread.clamp(min=0.25)).where(spread > 1e-6, 0.0)
        if told is not None:
            scale = (scale.log() * 10).round().div(10).exp().where(told, 0.0)
        self.scale.copy_(scale)

    def forward(self, x: Float[Tensor, "ask feature"]) -> Float[Tensor, "ask shift"]:
        weight = self.weight * (self.column * self.scale)
        parts = zip(x.split(self.groups, 1), weight.split(self.groups, 1), strict=True)
        score = torch.stack([of @ part.T for part, of in parts])  # (group, shift, ask): asks last is fastest
        limit, middle = self.limit.exp().T[:, :, None], self.middle.T[:, :, None]
        score = limit * ((score + middle) / limit).tanh()
        pairs = score.index_select(0, self._first) * score.index_select(0, self._second)
        return (score.sum(0) + (pairs * self.product.T[:, :, None]).sum(0)).T

    def penalty(self) -> Float[Tensor, ""]:
        """Sum of the squares of all that moves an answer."""
        moved = (self.column, self.weight, self.limit, self.middle, self.product)
        return torch.stack([part.square().sum() for part in moved]).sum()


class Head(nn.Module):
    """What the heads have in common: a hidden layer over the readout, and shifts by the last observations.

    Logits and shifts start at nothing, so that before any training every ask is answered alike.
    """

    def __init__(
        self,
        logits: int,
        shifts: int,
        channels: int,
        hidden: int = 32,
        groups: Sequence[int] = (),
        dropout: float = 0.0,
    ):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.out = nn.Linear(hidden, logits)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.shift = Shift(groups, shifts) if groups else None


class SurvivalHead(Head):
    """Discrete-time competing hazards: per interval a choice among event-free and the causes.

    Logits come from a hidden layer over the readout, plus (with `groups`) one shift a cause, the same for all
    intervals, by the last observations. An event-free logit is 0. After `start`, and
    before any training, every ask is answered by the given hazards.
    """

    times: Tensor

    def __init__(
        self,
        config: SurvivalConfig,
        channels: int,
        hidden: int = 32,
        groups: Sequence[int] = (),
        dropout: float = 0.0,
    ):
        causes = len(config.causes)
        super().__init__(causes * len(config.times), causes, channels, hidden, groups, dropout)
        self.config = config
        self.register_buffer("times", torch.tensor(config.times, dtype=torch.float64), persistent=False)

    @torch.no_grad()
    def start(self, hazard: Float[Tensor, "cause time"]) -> None:
        """Begin with these hazards, such as the training asks' Aalen-Johansen (each at least 1e-5)."""
        hazard = hazard.clamp(min=1e-5)
        free = (1 - hazard.sum(0)).clamp(min=1e-5)
        self.out.bias.copy_((hazard / free).log().flatten())

    def log_hazard(
        self, z: Float[Tensor, "ask channel"], last: Float[Tensor, "ask feature"] | None = None
    ) -> Float[Tensor, "ask slot time"]:
        """The log probability, per interval, of staying event-free and of each cause."""
        logits = self.out(self.hidden(z)).unflatten(1, (len(self.config.causes), len(self.config.times)))
        if self.shift is not None:
            logits = logits + self.shift(last)[:, :, None]
        return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1).log_softmax(dim=1)

    def forward(
        self, z: Float[Tensor, "ask channel"], last: Float[Tensor, "ask feature"] | None = None
    ) -> Float[Tensor, "ask slot time"]:
        return self.log_hazard(z, last)

    def loss(
        self,
        log_hazard: Float[Tensor, "ask slot time"],
        event: Int[Tensor, " ask"],
        time: Float[Tensor, " ask"],
    ) -> Float[Tensor, " ask"]:
        """Negative log-likelihood of each ask: `event` 0 censored, k = causes[k-1]; `time` in days after it.

        An interval counts (start, end]: an event on a grid time belongs to the interval that ends there. An
        interval cut by censoring counts the share of it that was observed, its hazard held constant inside.
        Whatever comes after the last time was event-free up to it.
        """
        event, interval, free = self._observed(event, time)
        asks, free = torch.arange(len(event), device=event.device), free.to(log_hazard.dtype)
        return -(log_hazard[:, 0] * free).sum(1) - log_hazard[asks, event, interval] * (event > 0)

    def first_loss(
        self, last: Float[Tensor, "ask feature"], event: Int[Tensor, " ask"], time: Float[Tensor, " ask"]
    ) -> Callable[[], Float[Tensor, " ask"]]:
        """`loss` before any message, as a function of the biases and shifts there are when it is called.

        A shift is the same for all intervals, so log(1 + sum_k exp(bias_kt + shift_k)) is a product of
        matrices instead of a softmax an interval.
        """
        shifts = self.shift
        assert shifts is not None
        event, interval, free = self._observed(event, time)
        ended, cause = event > 0, (event - 1).clamp(min=0)
        asks = torch.arange(len(event), device=event.device)
        at_risk = free.T.to(last.dtype).contiguous()  # (time, ask)
        at_risk[interval, asks] += ended

        def loss() -> Tensor:
            shift, bias = shifts(last).T, self.out.bias.unflatten(0, (-1, len(self.times)))
            top = shift.detach().amax(0).clamp(min=0)  # no overflow
            total = (-top).exp() + bias.exp().T @ (shift - top).exp()
            logit = shift[cause, asks] + bias[cause, interval]
            return ((total.log() + top) * at_risk).sum(0) - logit * ended

        return loss

    def _observed(self, event: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each ask the event up to the last time, the interval it fell in, and what was event-free of each
        interval: (ask, time) from 0 to 1.
        """
        time, last = time.double(), len(self.times)
        start = torch.cat([self.times.new_zeros(1), self.times[:-1]])
        free = ((time[:, None] - start) / (self.times - start)).clamp(0, 1)
        event = torch.where(time <= self.times[-1], event.long(), 0)
        interval = torch.bucketize(time, self.times).clamp(max=last - 1)
        own = nn.functional.one_hot(interval, last).bool() & (event > 0)[:, None]
        return event, interval, free.masked_fill(own, 0.0)  # the interval of an event is its cause's alone

    def predict(self, log_hazard: Float[Tensor, "ask slot time"]) -> Float[Tensor, "ask slot time"]:
        """Cumulative incidence at `config.times`; slot 0 event-free."""
        return incidence(log_hazard)


class DiagnosisHead(Head):
    """Which class: logits from a hidden layer over the readout, plus shifts by the last observations.

    After `start`, and before any training, every ask is answered by the given shares.
    """

    def __init__(
        self,
        config: DiagnosisConfig,
        channels: int,
        hidden: int = 32,
        groups: Sequence[int] = (),
        dropout: float = 0.0,
    ):
        classes = len(config.classes)
        super().__init__(classes, classes, channels, hidden, groups, dropout)
        self.config = config

    @torch.no_grad()
    def start(self, share: Float[Tensor, " class"]) -> None:
        """Begin with these shares, such as those of the training asks (each at least 1e-5)."""
        self.out.bias.copy_(share.clamp(min=1e-5).log())

    def forward(
        self, z: Float[Tensor, "ask channel"], last: Float[Tensor, "ask feature"] | None = None
    ) -> Float[Tensor, "ask class"]:
        """The log probability of each class."""
        logits = self.out(self.hidden(z))
        if self.shift is not None:
            logits = logits + self.shift(last)
        return logits.log_softmax(dim=1)

    def loss(
        self, log_probability: Float[Tensor, "ask class"], label: Int[Tensor, " ask"]
    ) -> Float[Tensor, " ask"]:
        """Cross-entropy of each ask: `label` is a position in `config.classes`."""
        return -log_probability.gather(1, label.long()[:, None])[:, 0]

    def first_loss(
        self, last: Float[Tensor, "ask feature"], label: Int[Tensor, " ask"]
    ) -> Callable[[], Float[Tensor, " ask"]]:
        """`loss` before any message, as a function of the biases and shifts there are when it is called."""
        shifts = self.shift
        assert shifts is not None
        return lambda: self.loss((self.out.bias + shifts(last)).log_softmax(dim=1), label)

    def predict(self, log_probability: Float[Tensor, "ask class"]) -> Float[Tensor, "ask class"]:
        """The probability of each class."""
        return log_probability.exp()


def make_head(
    config: HeadConfig, channels: int, hidden: int, groups: Sequence[int], dropout: float
) -> SurvivalHead | DiagnosisHead:
    """The head that answers what a config says."""
    make: Any = HEADS[config.kind][1]
    head: SurvivalHead | DiagnosisHead = make(config, channels, hidden, groups, dropout)
    return head


# the config and the head of each kind of outcome
HEADS: Mapping[str, tuple[type, type[Head]]] = {
    "survival": (SurvivalConfig, SurvivalHead),
    "diagnosis": (DiagnosisConfig, DiagnosisHead),
}
