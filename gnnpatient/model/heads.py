"""Heads: each owns how its outcome is learned (`loss`) and how it is predicted (`predict`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gnnpatient.errors import InputError
from gnnpatient.model.intervals import SeenIntervals
from gnnpatient.model.paths import PathConfig, PathHead, RecurrentConfig, StatesConfig
from gnnpatient.model.scores import Scores, courses, hold
from gnnpatient.model.values import ProgressionConfig, ProgressionHead

BEND_WEIGHT = 0.3  # of what moves ordered classes other than up or down together
MOMENT = 1e-9  # days: what happens at the landmark itself is in the first interval


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

    @property
    def names(self) -> tuple[str, ...]:
        """Causes, classes, or what else of it is counted."""

    def probabilities(self, answer: Float[Tensor, "landmark _ ..."]) -> Float[Tensor, "landmark _ ..."]:
        """What a family answers, as probabilities.

        Parameters
        ----------
        answer : Float[Tensor, "landmark _ ..."]
            Logarithms, as the head's `forward` gives them.

        Returns
        -------
        Float[Tensor, "landmark _ ..."]
            Of `shape` for each landmark.
        """

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
        ``"survival"``, or ``"worsening"`` where the time of the first cause is known to an interval only.
    causes : tuple of str
        Names of the causes, at least one.
    times : tuple of float
        Ends of the intervals in days after the landmark, rising; the last one is the horizon.

    Raises
    ------
    InputError
        When there is no cause, or the times do not rise from above 0.
    """

    kind: Literal["survival", "worsening"] = "survival"
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

    @property
    def names(self) -> tuple[str, ...]:
        """The causes."""
        return self.causes

    def probabilities(
        self, answer: Float[Tensor, "landmark slot time"]
    ) -> Float[Tensor, "landmark slot time"]:
        """What a family answers, as probabilities.

        Parameters
        ----------
        answer : Float[Tensor, "landmark slot time"]
            Log hazards.

        Returns
        -------
        Float[Tensor, "landmark slot time"]
            The cumulative incidence, slot 0 event-free; they sum to one to the precision of `answer`.
        """
        return incidence(answer.log_softmax(1))

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
    """What a diagnosis head predicts: one of some classes, or each of some labels.

    Attributes
    ----------
    kind : str
        ``"diagnosis"``; ``"ordered"`` where the classes rise in the order of their names; ``"labels"`` where
        they are labels, each of which applies or not by itself.
    classes : tuple of str
        Names of the classes or labels, at least two and all different.
    times : tuple of float
        Always empty: a class is predicted at the landmark itself.

    Raises
    ------
    InputError
        When there are fewer than two different names, or a name appears twice.
    """

    kind: Literal["diagnosis", "ordered", "labels"] = "diagnosis"
    classes: tuple[str, ...]
    times: ClassVar[tuple[float, ...]] = ()

    def __post_init__(self) -> None:
        if len(set(self.classes)) < 2 or len(set(self.classes)) < len(self.classes):
            raise InputError(f"classes {list(self.classes)}; must be two or more different names")

    @property
    def shape(self) -> tuple[int]:
        """Shape of the prediction for one landmark: (class,)."""
        return (len(self.classes),)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""
        return self.classes

    def probabilities(self, answer: Float[Tensor, "landmark class"]) -> Float[Tensor, "landmark class"]:
        """What a family answers, as probabilities.

        Parameters
        ----------
        answer : Float[Tensor, "landmark class"]
            Log probabilities; of labels log odds.

        Returns
        -------
        Float[Tensor, "landmark class"]
            The probability of each class; they sum to one to the precision of `answer`, but for labels.
        """
        return answer.sigmoid() if self.kind == "labels" else answer.log_softmax(1).exp()

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


def num_logits(head: HeadConfig) -> int:
    """How many scores of a landmark a linear or boosted model needs: one a cause, class, label or transition.

    Parameters
    ----------
    head : HeadConfig
        What is predicted.

    Returns
    -------
    int

    Examples
    --------
    >>> num_logits(SurvivalConfig(causes=("transplant", "death"), times=(365.0,)))
    2
    """
    if isinstance(head, PathConfig):
        return len(head.transitions)
    return head.shape[0] - (not isinstance(head, DiagnosisConfig))


@runtime_checkable
class Head(Protocol):
    """What a head must offer: an `nn.Module` made by ``Head(config, channels, dropout)``.

    Attributes
    ----------
    config : HeadConfig
        What it predicts.
    """

    config: Any

    def start(self, prior: Tensor) -> None:
        """Begin with the forecast without inputs: what every landmark gets before any training.

        Parameters
        ----------
        prior : Tensor
            From `Problem.start`: hazards (cause, time), or shares (class,), of labels of each by itself.
        """

    def forward(self, z: Float[Tensor, "landmark channel"]) -> Float[Tensor, "landmark _ ..."]:
        """Predict, as logarithms.

        Parameters
        ----------
        z : Float[Tensor, "landmark channel"]
            What the pools say of each landmark.

        Returns
        -------
        Float[Tensor, "landmark _ ..."]
        """

    def loss(self, output: Tensor, *target: Tensor) -> Float[Tensor, " landmark"]:
        """Loss of each landmark.

        Parameters
        ----------
        output : Tensor
            From `forward`.
        *target : Tensor
            What came of each landmark.

        Returns
        -------
        Float[Tensor, " landmark"]
        """

    def predict(self, output: Tensor) -> Tensor:
        """The prediction as probabilities.

        Parameters
        ----------
        output : Tensor
            From `forward`.

        Returns
        -------
        Tensor
        """


class SurvivalHead(nn.Module):
    """Discrete-time competing hazards: per interval a choice among staying event-free and the causes [1]_.

    A cause has a score that is the same for all intervals, and a few that fade in and out along the grid:
    cosines of the place of an interval, of one half turn and more, each with less weight. The logit of
    staying event-free is 0. After `start`, and before any training, every landmark gets the given hazards.

    Parameters
    ----------
    config : SurvivalConfig
        Causes and time grid.
    channels : int
        Channels of the pools.
    dropout : float
        Share that is dropped in training, default 0.

    Attributes
    ----------
    times : Float[Tensor, " time"]
        Ends of the intervals in days after the landmark, float64.
    start_of : Float[Tensor, " time"]
        Starts of the intervals.
    width : Float[Tensor, " time"]
        Their lengths.
    position : Int[Tensor, " time"]
        Their numbers, from 0.
    courses : Float[Tensor, "course time"]
        By what the scores of a cause are multiplied in each interval; the first is 1.

    References
    ----------
    .. [1] Tutz G, Schmid M. Modeling Discrete Time-to-Event Data. Springer, 2016, ch. 8.
    """

    times: Tensor
    start_of: Tensor
    width: Tensor
    position: Tensor
    courses: Tensor

    def __init__(self, config: SurvivalConfig, channels: int, dropout: float = 0.0):
        super().__init__()
        causes, size = len(config.causes), len(config.times)
        self.config = config
        ends = torch.tensor((0.0, *config.times), dtype=torch.float64)
        self.register_buffer("times", ends[1:], persistent=False)
        self.register_buffer("start_of", ends[:-1], persistent=False)
        self.register_buffer("width", ends.diff(), persistent=False)
        self.register_buffer("position", torch.arange(size), persistent=False)
        self.register_buffer("courses", courses(size), persistent=False)
        self.scores = Scores(channels, causes * len(self.courses), dropout)
        self.bias = nn.Parameter(torch.zeros(causes, size))

    @torch.no_grad()
    def start(self, prior: Float[Tensor, "cause time"]) -> None:
        """Begin with these hazards, such as those of the training landmarks' Aalen-Johansen estimate.

        Parameters
        ----------
        prior : Float[Tensor, "cause time"]
            Hazard of each cause in each interval; raised to at least 1e-5.
        """
        hazard = prior.clamp(min=1e-5)
        free = (1 - hazard.sum(0)).clamp(min=1e-5)
        self.bias.copy_((hazard / free).log())

    def hold(self, learned: Bool[Tensor, " cause"]) -> None:
        """Keep the hazards of some causes at those it began with, whatever is trained.

        Parameters
        ----------
        learned : Bool[Tensor, " cause"]
            False: to be kept.
        """
        hold(self.bias, learned)
        self.scores.hold(learned.repeat_interleave(len(self.courses)))

    def forward(self, z: Float[Tensor, "landmark channel"]) -> Float[Tensor, "landmark slot time"]:
        """The log probability, per interval, of staying event-free and of each cause.

        Parameters
        ----------
        z : Float[Tensor, "landmark channel"]
            What the pools say of each landmark.

        Returns
        -------
        Float[Tensor, "landmark slot time"]
            Slot 0 is event-free; the slots of an interval sum to one after `exp`.
        """
        score = self.scores(z).unflatten(1, (-1, len(self.courses)))  # (landmark, cause, course)
        logits = score @ self.courses + self.bias
        return nn.functional.pad(logits, (0, 0, 1, 0)).log_softmax(dim=1)

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
        time = time.double().clamp(min=MOMENT)
        interval = torch.searchsorted(self.times, time).masked_fill_(event == 0, -1)
        ended = interval[:, None] == self.position
        free = ((time[:, None] - self.start_of) / self.width).clamp_(0, 1)
        # the interval of an event: its cause's alone
        free = free.masked_fill_(ended, 0.0).to(log_hazard.dtype)
        cause = log_hazard.gather(1, event.long()[:, None, None].expand(-1, 1, len(self.times)))[:, 0]
        return -torch.addcmul(cause * ended, log_hazard[:, 0], free).sum(1)

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


class WorseningHead(SurvivalHead):
    """Competing hazards where of the first cause only an interval of time is known, as of what a visit shows.

    Parameters
    ----------
    config : SurvivalConfig
        Causes and time grid.
    channels : int
        Channels of the pools.
    dropout : float
        Share that is dropped in training, default 0.
    """

    def loss(  # type: ignore[override]
        self,
        log_hazard: Float[Tensor, "landmark slot time"],
        event: Int[Tensor, " landmark"],
        time: Float[Tensor, " landmark"],
        after: Float[Tensor, " landmark"],
    ) -> Float[Tensor, " landmark"]:
        """Negative log-likelihood of each landmark, see `SeenIntervals`.

        Parameters
        ----------
        log_hazard : Float[Tensor, "landmark slot time"]
            From `forward`.
        event : Int[Tensor, " landmark"]
            0 none, k for ``causes[k - 1]``.
        time : Float[Tensor, " landmark"]
            Days after the landmark by which the event came, or of the end of observation.
        after : Float[Tensor, " landmark"]
            Days after the landmark of the last visit without the first cause.

        Returns
        -------
        Float[Tensor, " landmark"]
        """
        return -SeenIntervals.of(event, time, after, self.times, log_hazard.dtype).log_likelihood(log_hazard)


class DiagnosisHead(nn.Module):
    """Which class: a score for each.

    After `start`, and before any training, every landmark gets the given shares.

    Parameters
    ----------
    config : DiagnosisConfig
        The classes.
    channels : int
        Channels of the pools.
    dropout : float
        Share that is dropped in training, default 0.
    """

    def __init__(self, config: DiagnosisConfig, channels: int, dropout: float = 0.0):
        super().__init__()
        self.config = config
        self.scores = Scores(channels, len(config.classes), dropout)
        self.bias = nn.Parameter(torch.zeros(len(config.classes)))

    @torch.no_grad()
    def start(self, prior: Float[Tensor, " class"]) -> None:
        """Begin with these shares, such as those of the training landmarks.

        Parameters
        ----------
        prior : Float[Tensor, " class"]
            Share of each class; raised to at least 1e-5.
        """
        self.bias.copy_(prior.clamp(min=1e-5).log())

    def hold(self, learned: Bool[Tensor, " class"]) -> None:
        """Keep the logits of some classes at those it began with, whatever is trained.

        Parameters
        ----------
        learned : Bool[Tensor, " class"]
            False: to be kept.
        """
        hold(self.bias, learned)
        self.scores.hold(learned)

    def forward(self, z: Float[Tensor, "landmark channel"]) -> Float[Tensor, "landmark class"]:
        """The log probability of each class.

        Parameters
        ----------
        z : Float[Tensor, "landmark channel"]
            What the pools say of each landmark.

        Returns
        -------
        Float[Tensor, "landmark class"]
        """
        return (self.scores(z) + self.bias).log_softmax(dim=1)

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


def contrasts(classes: int) -> Float[Tensor, "contrast class"]:
    """By what scores of ordered classes are multiplied: a rise from the lowest to the highest, then bends.

    A score on the rise moves the log odds of neighbours, nearly the same for all of them (the
    adjacent-category model [1]_); the others are quieter, so that a penalty leaves them out unless they are
    needed. All together they are every way in which the classes may differ.

    Parameters
    ----------
    classes : int
        Number of classes.

    Returns
    -------
    Float[Tensor, "contrast class"]
        Of mean zero: half waves of a cosine, of standard deviation one, after the first of `BEND_WEIGHT`.

    References
    ----------
    .. [1] Agresti A. Analysis of Ordinal Categorical Data. 2nd ed. Wiley, 2010, ch. 4.

    Examples
    --------
    >>> contrasts(3)
    tensor([[-1.2247,  0.0000,  1.2247],
            [-0.2121,  0.4243, -0.2121]])
    """
    place = (torch.arange(classes, dtype=torch.float64) + 0.5) / classes
    turns = torch.arange(1, classes, dtype=torch.float64)[:, None]
    waves = -(turns * torch.pi * place).cos()
    waves = waves / waves.square().mean(1, keepdim=True).sqrt()
    found = (waves * torch.where(turns > 1, BEND_WEIGHT, 1.0)).float()
    return found.where(found.abs() > 1e-6, 0.0)


class OrderedHead(DiagnosisHead):
    """Which of some ordered classes: scores that move them up or down together, and quieter ones that bend.

    After `start`, and before any training, every landmark gets the given shares.

    Parameters
    ----------
    config : DiagnosisConfig
        The classes, rising.
    channels : int
        Channels of the pools.
    dropout : float
        Share that is dropped in training, default 0.

    Attributes
    ----------
    contrasts : Float[Tensor, "contrast class"]
        From `contrasts`.
    learned : Bool[Tensor, " class"]
        Landmarks of the other classes teach nothing.
    """

    contrasts: Tensor
    learned: Tensor

    def __init__(self, config: DiagnosisConfig, channels: int, dropout: float = 0.0):
        super().__init__(config, channels, dropout)
        classes = len(config.classes)
        self.scores = Scores(channels, classes - 1, dropout)
        self.register_buffer("contrasts", contrasts(classes), persistent=False)
        self.register_buffer("learned", torch.ones(classes, dtype=torch.bool), persistent=False)

    def hold(self, learned: Bool[Tensor, " class"]) -> None:
        """Learn nothing of some classes but where they lie among the others.

        Parameters
        ----------
        learned : Bool[Tensor, " class"]
            False: too few had it.
        """
        hold(self.bias, learned)
        self.learned = learned

    def forward(self, z: Float[Tensor, "landmark channel"]) -> Float[Tensor, "landmark class"]:
        """The log probability of each class.

        Parameters
        ----------
        z : Float[Tensor, "landmark channel"]
            What the pools say of each landmark.

        Returns
        -------
        Float[Tensor, "landmark class"]
        """
        return (self.scores(z) @ self.contrasts + self.bias).log_softmax(dim=1)

    def loss(
        self, log_probability: Float[Tensor, "landmark class"], label: Int[Tensor, " landmark"]
    ) -> Float[Tensor, " landmark"]:
        """Cross-entropy of each landmark; 0 where it is of a class that is not learned.

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
        return super().loss(log_probability, label) * self.learned.to(log_probability)[label.long()]


class LabelsHead(DiagnosisHead):
    """Which labels: a score for each, of yes or no by itself.

    After `start`, and before any training, every landmark gets the given shares.

    Parameters
    ----------
    config : DiagnosisConfig
        The labels.
    channels : int
        Channels of the pools.
    dropout : float
        Share that is dropped in training, default 0.
    """

    @torch.no_grad()
    def start(self, prior: Float[Tensor, " class"]) -> None:
        """Begin with these shares, such as those of the training landmarks.

        Parameters
        ----------
        prior : Float[Tensor, " class"]
            Share of each label; held at least 1e-5 from 0 and 1.
        """
        self.bias.copy_(prior.logit(1e-5))

    def forward(self, z: Float[Tensor, "landmark channel"]) -> Float[Tensor, "landmark class"]:
        """The log odds of each label.

        Parameters
        ----------
        z : Float[Tensor, "landmark channel"]
            What the pools say of each landmark.

        Returns
        -------
        Float[Tensor, "landmark class"]
        """
        return cast(Tensor, self.scores(z) + self.bias)

    def loss(  # type: ignore[override]
        self,
        log_odds: Float[Tensor, "landmark class"],
        label: Int[Tensor, "landmark class"],
        share: Float[Tensor, "landmark class"],
    ) -> Float[Tensor, " landmark"]:
        """Cross-entropy of each landmark, summed over its labels that are known.

        Parameters
        ----------
        log_odds : Float[Tensor, "landmark class"]
            From `forward`.
        label : Int[Tensor, "landmark class"]
            1 = yes, 0 = no, -1 = not known.
        share : Float[Tensor, "landmark class"]
            For how many each label stands; 0 where it is not known.

        Returns
        -------
        Float[Tensor, " landmark"]
        """
        yes = (label == 1).to(log_odds)
        each = nn.functional.binary_cross_entropy_with_logits(log_odds, yes, reduction="none")
        return (each * share.to(log_odds)).sum(1)

    def predict(self, log_odds: Float[Tensor, "landmark class"]) -> Float[Tensor, "landmark class"]:
        """The probability of each label.

        Parameters
        ----------
        log_odds : Float[Tensor, "landmark class"]
            From `forward`.

        Returns
        -------
        Float[Tensor, "landmark class"]
        """
        return log_odds.sigmoid()


def make_head(config: HeadConfig, channels: int, dropout: float) -> nn.Module:
    """Make the head of a configuration.

    Parameters
    ----------
    config : HeadConfig
        What it predicts.
    channels : int
        Channels of the pools.
    dropout : float
        Share that is dropped in training.

    Returns
    -------
    torch.nn.Module
    """
    make: Any = HEADS[config.kind][1]
    head: nn.Module = make(config, channels, dropout)
    return head


# the config and the head of each kind of outcome; add a line for your own
HEADS: dict[str, tuple[type, type[nn.Module]]] = {
    "survival": (SurvivalConfig, SurvivalHead),
    "worsening": (SurvivalConfig, WorseningHead),
    "recurrent": (RecurrentConfig, PathHead),
    "states": (StatesConfig, PathHead),
    "diagnosis": (DiagnosisConfig, DiagnosisHead),
    "ordered": (DiagnosisConfig, OrderedHead),
    "labels": (DiagnosisConfig, LabelsHead),
    "progression": (ProgressionConfig, ProgressionHead),
}
