"""Heads: each owns how its outcome is learned (`loss`) and how it is predicted (`predict`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gnnpatient.errors import InputError


def incidence(log_hazard: Float[Tensor, "landmark slot time"]) -> Float[Tensor, "landmark slot time"]:
    """Cumulative incidence from the logarithms of discrete-time hazards.

    With h_k(s) the hazard of cause k in interval s and S(s) the probability of staying event-free to its end,
    ``F_k(t) = sum over s <= t of h_k(s) S(s - 1)`` [1]_.

    Parameters
    ----------
    log_hazard : Float[Tensor, "landmark slot time"]
        Log probability, per interval, of staying event-free (slot 0) and of each cause.

    Returns
    -------
    Float[Tensor, "landmark slot time"]
        Probability of being event-free (slot 0), and of each cause having happened, at the end of each
        interval.

    References
    ----------
    .. [1] Kalbfleisch JD, Prentice RL. The Statistical Analysis of Failure Time Data. 2nd ed., 2002, ch. 8.

    Examples
    --------
    >>> h = torch.tensor([[[0.9, 0.5], [0.1, 0.5]]])     # one landmark, one cause, two times
    >>> incidence(h.log())
    tensor([[[0.9000, 0.4500],
             [0.1000, 0.5500]]])
    """
    free = log_hazard[:, :1].cumsum(-1)
    before = torch.cat([torch.zeros_like(free[..., :1]), free[..., :-1]], dim=-1)
    return torch.cat([free.exp(), (log_hazard[:, 1:] + before).exp().cumsum(-1)], dim=1)


@runtime_checkable
class HeadConfig(Protocol):
    """What a head predicts, as a saved model keeps it."""

    @property
    def kind(self) -> str:
        """Which head it is: a key of `HEADS`."""

    @property
    def times(self) -> tuple[float, ...]:
        """Days after the landmark for which it predicts; ``()`` for the landmark itself."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the prediction for one landmark."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as lists, strings and numbers.

        Returns
        -------
        dict
            With the key ``kind``; `head_config` reads it.
        """


@dataclass(frozen=True, kw_only=True)
class SurvivalConfig:
    """What a survival head predicts: event-free or one of the causes, at the end of each interval.

    Attributes
    ----------
    kind : str
        Always ``"survival"``.
    causes : tuple of str
        Names of the causes, at least one.
    times : tuple of float
        Ends of the intervals in days after the landmark, rising; the last one is the horizon.

    Raises
    ------
    InputError
        When there is no cause, or the times do not rise from above 0.
    """

    kind: Literal["survival"] = "survival"
    causes: tuple[str, ...]
    times: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.causes:
            raise InputError("a survival outcome without causes; name at least one")
        if not self.times or any(a >= b for a, b in zip((0.0, *self.times), self.times, strict=False)):
            raise InputError(f"times {list(self.times)}; must be days above 0, rising")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the prediction for one landmark: (1 + cause, time)."""
        return 1 + len(self.causes), len(self.times)

    def to_dict(self) -> dict[str, Any]:
        """The fields as lists, strings and numbers.

        Returns
        -------
        dict
            Keys ``kind``, ``causes`` and ``times``.
        """
        return {"kind": self.kind, "causes": list(self.causes), "times": list(self.times)}


@dataclass(frozen=True, kw_only=True)
class DiagnosisConfig:
    """What a diagnosis head predicts: one of some classes.

    Attributes
    ----------
    kind : str
        Always ``"diagnosis"``.
    classes : tuple of str
        Names of the classes, at least two and all different.
    times : tuple of float
        Always empty: a class is predicted at the landmark itself.

    Raises
    ------
    InputError
        When there are fewer than two different names, or a name appears twice.
    """

    kind: Literal["diagnosis"] = "diagnosis"
    classes: tuple[str, ...]
    times: ClassVar[tuple[float, ...]] = ()

    def __post_init__(self) -> None:
        if len(set(self.classes)) < 2 or len(set(self.classes)) < len(self.classes):
            raise InputError(f"classes {list(self.classes)}; must be two or more different names")

    @property
    def shape(self) -> tuple[int]:
        """Shape of the prediction for one landmark: (class,)."""
        return (len(self.classes),)

    def to_dict(self) -> dict[str, Any]:
        """The fields as lists, strings and numbers.

        Returns
        -------
        dict
            Keys ``kind`` and ``classes``.
        """
        return {"kind": self.kind, "classes": list(self.classes)}


def head_config(data: Mapping[str, Any]) -> HeadConfig:
    """Make the configuration that `to_dict` wrote.

    Parameters
    ----------
    data : mapping
        With the key ``kind`` and the fields of that configuration.

    Returns
    -------
    HeadConfig
    """
    make: Any = HEADS[data["kind"]][0]
    config: HeadConfig = make(**{name: tuple(x) if isinstance(x, list) else x for name, x in data.items()})
    return config


class Shift(nn.Module):
    """Shifts of the logits by the last observations: a score per group of columns, and their products.

    A group holds the columns of one node type. Its score is linear in them up to a learned limit a, ``a
    tanh(s / a)``, so that a yes or no can be read off columns that measure it with noise. Where the effect of
    one node type depends on another (a drug that harms where a lab is high), the product of two scores
    carries it for one coefficient. Weights are products u v, with the u of a column shared by all logits, so
    that a ridge penalty on both acts as a group lasso [1]_: columns without information are left out.

    Parameters
    ----------
    groups : sequence of int
        Number of columns of each group, in the order of the columns.
    shifts : int
        How many logits are shifted: one a cause, or one a class.

    Attributes
    ----------
    scale : Float[Tensor, " feature"]
        By what each column is multiplied, see `start`.

    References
    ----------
    .. [1] Hoff PD. Lasso, fractional norm and structured sparse estimation using a Hadamard product
       parametrization. Computational Statistics & Data Analysis 115:186-198, 2017.
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
    def start(
        self, x: Float[Tensor, "landmark feature"], usable: Bool[Tensor, " feature"] | None = None
    ) -> None:
        """Scale each column to a standard deviation of one, so that a penalty weighs all alike.

        A column that is almost always of one value grows fourfold at most; one that is constant gets zero.

        Parameters
        ----------
        x : Float[Tensor, "landmark feature"]
            Last observations of the training landmarks.
        usable : Bool[Tensor, " feature"], optional
            Columns that may be used, the others get zero. Scales are then rounded to steps of a tenth of
            their logarithm, since the deviation of a flag gives away a count. Default: all, unrounded.
        """
        spread = x.std(0, correction=0)
        scale = (1 / spread.clamp(min=0.25)).where(spread > 1e-6, 0.0)
        if usable is not None:
            scale = (scale.log() * 10).round().div(10).exp().where(usable, 0.0)
        self.scale.copy_(scale)

    def forward(self, x: Float[Tensor, "landmark feature"]) -> Float[Tensor, "landmark shift"]:
        """Score the last observations.

        Parameters
        ----------
        x : Float[Tensor, "landmark feature"]
            Last observations, in the order of the groups.

        Returns
        -------
        Float[Tensor, "landmark shift"]
            What is added to each logit.
        """
        weight = self.weight * (self.column * self.scale)
        parts = zip(x.split(self.groups, 1), weight.split(self.groups, 1), strict=True)
        score = torch.stack(
            [of @ part.T for part, of in parts]
        )  # (group, shift, landmark): landmarks last is fastest
        limit, middle = self.limit.exp().T[:, :, None], self.middle.T[:, :, None]
        score = limit * ((score + middle) / limit).tanh()
        pairs = score.index_select(0, self._first) * score.index_select(0, self._second)
        return (score.sum(0) + (pairs * self.product.T[:, :, None]).sum(0)).T

    def penalty(self) -> Float[Tensor, ""]:
        """Sum of the squares of all coefficients.

        Returns
        -------
        Float[Tensor, ""]
        """
        moved = (self.column, self.weight, self.limit, self.middle, self.product)
        return torch.stack([part.square().sum() for part in moved]).sum()


class Head(nn.Module):
    """What all heads have in common: a hidden layer over the readout, and shifts by the last observations.

    Logits and shifts start at zero, so that before any training every landmark gets the same prediction.

    Parameters
    ----------
    logits : int
        Size of the output layer.
    shifts : int
        How many logits the last observations shift.
    channels : int
        Size of the readout.
    hidden : int
        Size of the hidden layer, default 32.
    groups : sequence of int
        Groups of columns of the last observations; ``()`` leaves the shifts out.
    dropout : float
        Share of the hidden units that is dropped in training, default 0.
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
    """Discrete-time competing hazards: per interval a choice among staying event-free and the causes [1]_.

    The logits come from a hidden layer over the readout, plus (with `groups`) one shift per cause by the last
    observations, the same for all intervals. The logit of staying event-free is 0. After `start`, and before
    any training, every landmark gets the given hazards.

    Parameters
    ----------
    config : SurvivalConfig
        Causes and time grid.
    channels : int
        Size of the readout.
    hidden : int
        Size of the hidden layer, default 32.
    groups : sequence of int
        Groups of columns of the last observations; ``()`` leaves the shifts out.
    dropout : float
        Share of the hidden units that is dropped in training, default 0.

    Attributes
    ----------
    times : Float[Tensor, " time"]
        Ends of the intervals in days after the landmark, float64.

    References
    ----------
    .. [1] Tutz G, Schmid M. Modeling Discrete Time-to-Event Data. Springer, 2016, ch. 8.
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
        """Begin with these hazards, such as those of the training landmarks' Aalen-Johansen estimate.

        Parameters
        ----------
        hazard : Float[Tensor, "cause time"]
            Hazard of each cause in each interval; raised to at least 1e-5.
        """
        hazard = hazard.clamp(min=1e-5)
        free = (1 - hazard.sum(0)).clamp(min=1e-5)
        self.out.bias.copy_((hazard / free).log().flatten())

    def log_hazard(
        self, z: Float[Tensor, "landmark channel"], last: Float[Tensor, "landmark feature"] | None = None
    ) -> Float[Tensor, "landmark slot time"]:
        """The log probability, per interval, of staying event-free and of each cause.

        Parameters
        ----------
        z : Float[Tensor, "landmark channel"]
            The readout.
        last : Float[Tensor, "landmark feature"], optional
            The last observations; needed where the head has shifts.

        Returns
        -------
        Float[Tensor, "landmark slot time"]
            Slot 0 is event-free; the slots of an interval sum to one after `exp`.
        """
        logits = self.out(self.hidden(z)).unflatten(1, (len(self.config.causes), len(self.config.times)))
        if self.shift is not None:
            logits = logits + self.shift(last)[:, :, None]
        return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1).log_softmax(dim=1)

    def forward(
        self, z: Float[Tensor, "landmark channel"], last: Float[Tensor, "landmark feature"] | None = None
    ) -> Float[Tensor, "landmark slot time"]:
        """The same as `log_hazard`.

        Parameters
        ----------
        z : Float[Tensor, "landmark channel"]
            The readout.
        last : Float[Tensor, "landmark feature"], optional
            The last observations.

        Returns
        -------
        Float[Tensor, "landmark slot time"]
        """
        return self.log_hazard(z, last)

    def loss(
        self,
        log_hazard: Float[Tensor, "landmark slot time"],
        event: Int[Tensor, " landmark"],
        time: Float[Tensor, " landmark"],
    ) -> Float[Tensor, " landmark"]:
        """Negative log-likelihood of each landmark [1]_.

        An interval is (start, end]: an event on a grid time belongs to the interval that ends there. An
        interval cut by censoring counts by the share of it that was observed, with a constant hazard inside.
        Whatever comes after the last time counts as event-free up to it.

        Parameters
        ----------
        log_hazard : Float[Tensor, "landmark slot time"]
            From `forward`.
        event : Int[Tensor, " landmark"]
            0 censored, k for ``causes[k - 1]``.
        time : Float[Tensor, " landmark"]
            Days after the landmark of the event or of censoring.

        Returns
        -------
        Float[Tensor, " landmark"]

        References
        ----------
        .. [1] Tutz G, Schmid M. Modeling Discrete Time-to-Event Data. Springer, 2016, ch. 8.
        """
        event, interval, free = self._observed(event, time)
        rows, free = torch.arange(len(event), device=event.device), free.to(log_hazard.dtype)
        return -(log_hazard[:, 0] * free).sum(1) - log_hazard[rows, event, interval] * (event > 0)

    def first_loss(
        self,
        last: Float[Tensor, "landmark feature"],
        event: Int[Tensor, " landmark"],
        time: Float[Tensor, " landmark"],
    ) -> Callable[[], Float[Tensor, " landmark"]]:
        """Prepare `loss` before any message, as a function of the current biases and shifts.

        A shift is the same for all intervals, so ``log(1 + sum_k exp(bias_kt + shift_k))`` is a product of
        matrices instead of a softmax per interval.

        Parameters
        ----------
        last : Float[Tensor, "landmark feature"]
            The last observations.
        event : Int[Tensor, " landmark"]
            0 censored, k for ``causes[k - 1]``.
        time : Float[Tensor, " landmark"]
            Days after the landmark of the event or of censoring.

        Returns
        -------
        callable
            Without arguments; gives the loss of each landmark.
        """
        shifts = self.shift
        assert shifts is not None
        event, interval, free = self._observed(event, time)
        ended, cause = event > 0, (event - 1).clamp(min=0)
        rows = torch.arange(len(event), device=event.device)
        at_risk = free.T.to(last.dtype).contiguous()  # (time, landmark)
        at_risk[interval, rows] += ended

        def loss() -> Tensor:
            shift, bias = shifts(last).T, self.out.bias.unflatten(0, (-1, len(self.times)))
            top = shift.detach().amax(0).clamp(min=0)  # no overflow
            total = (-top).exp() + bias.exp().T @ (shift - top).exp()
            logit = shift[cause, rows] + bias[cause, interval]
            return ((total.log() + top) * at_risk).sum(0) - logit * ended

        return loss

    def _observed(self, event: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What was observed of each landmark: event, interval, and the event-free share of each interval.

        The event is that up to the last time, the interval the one it fell in; shares are (landmark, time), 0
        to 1.
        """
        time, last = time.double(), len(self.times)
        start = torch.cat([self.times.new_zeros(1), self.times[:-1]])
        free = ((time[:, None] - start) / (self.times - start)).clamp(0, 1)
        event = torch.where(time <= self.times[-1], event.long(), 0)
        interval = torch.bucketize(time, self.times).clamp(max=last - 1)
        # the interval of an event is its cause's alone
        event_interval = nn.functional.one_hot(interval, last).bool() & (event > 0)[:, None]
        return event, interval, free.masked_fill(event_interval, 0.0)

    def predict(self, log_hazard: Float[Tensor, "landmark slot time"]) -> Float[Tensor, "landmark slot time"]:
        """Cumulative incidence at `config.times`, see `incidence`.

        Parameters
        ----------
        log_hazard : Float[Tensor, "landmark slot time"]
            From `forward`.

        Returns
        -------
        Float[Tensor, "landmark slot time"]
            Slot 0 is event-free; the slots sum to one.
        """
        return incidence(log_hazard)


class DiagnosisHead(Head):
    """Which class: logits from a hidden layer over the readout, plus shifts by the last observations.

    After `start`, and before any training, every landmark gets the given shares.

    Parameters
    ----------
    config : DiagnosisConfig
        The classes.
    channels : int
        Size of the readout.
    hidden : int
        Size of the hidden layer, default 32.
    groups : sequence of int
        Groups of columns of the last observations; ``()`` leaves the shifts out.
    dropout : float
        Share of the hidden units that is dropped in training, default 0.
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
        """Begin with these shares, such as those of the training landmarks.

        Parameters
        ----------
        share : Float[Tensor, " class"]
            Share of each class; raised to at least 1e-5.
        """
        self.out.bias.copy_(share.clamp(min=1e-5).log())

    def forward(
        self, z: Float[Tensor, "landmark channel"], last: Float[Tensor, "landmark feature"] | None = None
    ) -> Float[Tensor, "landmark class"]:
        """The log probability of each class.

        Parameters
        ----------
        z : Float[Tensor, "landmark channel"]
            The readout.
        last : Float[Tensor, "landmark feature"], optional
            The last observations; needed where the head has shifts.

        Returns
        -------
        Float[Tensor, "landmark class"]
        """
        logits = self.out(self.hidden(z))
        if self.shift is not None:
            logits = logits + self.shift(last)
        return logits.log_softmax(dim=1)

    def loss(
        self, log_probability: Float[Tensor, "landmark class"], label: Int[Tensor, " landmark"]
    ) -> Float[Tensor, " landmark"]:
        """Cross-entropy of each landmark.

        Parameters
        ----------
        log_probability : Float[Tensor, "landmark class"]
            From `forward`.
        label : Int[Tensor, " landmark"]
            Position in `config.classes`.

        Returns
        -------
        Float[Tensor, " landmark"]
        """
        return -log_probability.gather(1, label.long()[:, None])[:, 0]

    def first_loss(
        self, last: Float[Tensor, "landmark feature"], label: Int[Tensor, " landmark"]
    ) -> Callable[[], Float[Tensor, " landmark"]]:
        """Prepare `loss` before any message, as a function of the current biases and shifts.

        Parameters
        ----------
        last : Float[Tensor, "landmark feature"]
            The last observations.
        label : Int[Tensor, " landmark"]
            Position in `config.classes`.

        Returns
        -------
        callable
            Without arguments; gives the loss of each landmark.
        """
        shifts = self.shift
        assert shifts is not None
        return lambda: self.loss((self.out.bias + shifts(last)).log_softmax(dim=1), label)

    def predict(self, log_probability: Float[Tensor, "landmark class"]) -> Float[Tensor, "landmark class"]:
        """The probability of each class.

        Parameters
        ----------
        log_probability : Float[Tensor, "landmark class"]
            From `forward`.

        Returns
        -------
        Float[Tensor, "landmark class"]
            Sums to one over the classes.
        """
        return log_probability.exp()


def make_head(
    config: HeadConfig, channels: int, hidden: int, groups: Sequence[int], dropout: float
) -> SurvivalHead | DiagnosisHead:
    """Make the head of a configuration.

    Parameters
    ----------
    config : HeadConfig
        What it predicts.
    channels : int
        Size of the readout.
    hidden : int
        Size of the hidden layer.
    groups : sequence of int
        Groups of columns of the last observations; ``()`` leaves the shifts out.
    dropout : float
        Share of the hidden units that is dropped in training.

    Returns
    -------
    SurvivalHead or DiagnosisHead
    """
    make: Any = HEADS[config.kind][1]
    head: SurvivalHead | DiagnosisHead = make(config, channels, hidden, groups, dropout)
    return head


# the config and the head of each kind of outcome
HEADS: Mapping[str, tuple[type, type[Head]]] = {
    "survival": (SurvivalConfig, SurvivalHead),
    "diagnosis": (DiagnosisConfig, DiagnosisHead),
}
