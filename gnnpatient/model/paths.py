"""Transitions between states: a hazard for each in each interval, and what follows from them all.

One mechanism for events that recur and for outcomes of several states. What is learned are the counts of each
transition and the exposure in the state that it leaves (a piecewise-constant hazard each); what is answered
is the product integral of all of them from a state on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gnnpatient.errors import InputError
from gnnpatient.model.scores import Scores, courses, hold

SMALLEST = 1e-6  # cumulative hazard of a transition in an interval
LARGEST = 12.0  # logarithm of one
MOST_EXITS = 30.0  # cumulative hazard of leaving a state in an interval, above which nobody stays
ENDED = 1e-15  # probability of more jumps than were added up


def follow(
    log_hazard: Float[Tensor, "landmark transition time"],
    transitions: Sequence[tuple[int, int]],
    states: int,
    starts: Sequence[int],
) -> tuple[Float[Tensor, "landmark start state time"], Float[Tensor, "landmark start transition time"]]:
    """Where a patient is, and how often each transition has happened by then, on average.

    The product integral of hazards that are constant within intervals [1]_: the transition matrix of an
    interval is the exponential of its generator, and that of several the product. A transition from a state
    to itself leaves the patient there and is counted.

    Parameters
    ----------
    log_hazard : Float[Tensor, "landmark transition time"]
        Logarithm of the cumulative hazard of each transition in each interval.
    transitions : sequence of tuple of int
        From and to which state each leads.
    states : int
        How many there are.
    starts : sequence of int
        The states to begin in.

    Returns
    -------
    occupation : Float[Tensor, "landmark start state time"]
        Probability of each state at the end of each interval; sums to one over the states.
    number : Float[Tensor, "landmark start transition time"]
        Expected number of each transition by then.

    References
    ----------
    .. [1] Aalen OO, Johansen S. An empirical transition matrix for non-homogeneous Markov chains based on
       censored observations. Scandinavian Journal of Statistics 5:141-150, 1978.

    Examples
    --------
    >>> h = torch.tensor([[[0.5, 0.5]]], dtype=torch.float64)      # well to dead, two intervals
    >>> occupation, number = follow(h.log(), [(0, 1)], 2, [0])
    >>> occupation[0, 0].round(decimals=3).tolist()
    [[0.607, 0.368], [0.393, 0.632]]
    >>> number[0, 0].round(decimals=3).tolist()
    [[0.393, 0.632]]
    """
    hazard = log_hazard.clamp(max=LARGEST).exp()
    leaves = torch.tensor([float(a != b) for a, b in transitions]).to(hazard)
    source, target = (torch.tensor(ends, device=hazard.device) for ends in zip(*transitions, strict=True))
    eye = torch.eye(states, dtype=hazard.dtype, device=hazard.device)
    now = eye[list(starts)].expand(len(hazard), -1, -1)
    count = hazard.new_zeros(len(hazard), len(starts), len(transitions))
    occupied, counted = [], []
    for t in range(hazard.shape[2]):
        rate = hazard[:, :, t]
        rate = rate.where(leaves == 0, rate.clamp(max=MOST_EXITS))
        moves = rate * leaves
        generator = torch.einsum("lq,qs->lqs", moves, eye[target] - eye[source])
        generator = torch.einsum("qr,lqs->lrs", eye[source], generator)
        now, spent = _advance(now, generator)
        count = count + rate[:, None] * spent[:, :, source]
        occupied.append(now)
        counted.append(count)
    return torch.stack(occupied, -1), torch.stack(counted, -1)


def _advance(
    now: Float[Tensor, "landmark start state"], generator: Float[Tensor, "landmark state state"]
) -> tuple[Float[Tensor, "landmark start state"], Float[Tensor, "landmark start state"]]:
    """The states an interval later, and the share of it spent in each: all terms are positive.

    Jensen A (1953). Skandinavisk Aktuarietidskrift 36:87-91 (uniformisation).
    """
    fastest = max(float((-generator.diagonal(dim1=1, dim2=2)).max()) if len(generator) else 0.0, SMALLEST)
    jump = generator / fastest
    weight, left, n = math.exp(-fastest), -math.expm1(-fastest), 0  # of n jumps, and of more than n
    then, spent = weight * now, left / fastest * now
    while left > ENDED:
        n += 1
        now = now + now @ jump
        weight *= fastest / n
        left -= weight
        then, spent = then + weight * now, spent + max(left, 0.0) / fastest * now
        if n > fastest and weight < ENDED:
            break
    return then, spent


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """What a head of recurrent events predicts: the next event, and how many there will be.

    From a landmark on a patient has had no further event yet (state 0), or one or more (state 1), or is gone
    by one of the other causes. How likely the next event and how many more there are are learned apart, so
    that events may come in runs; the number is never below the probability of the next one.

    Attributes
    ----------
    kind : str
        Always ``"recurrent"``.
    causes : tuple of str
        The event that recurs, then what ends it.
    times : tuple of float
        Ends of the intervals in days after the landmark, rising; the last one is the horizon.

    Raises
    ------
    InputError
        When there is no cause, or the times do not rise from above 0.
    """

    kind: Literal["recurrent"] = "recurrent"
    causes: tuple[str, ...]
    times: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.causes:
            raise InputError("an outcome of recurrent events without causes; name at least one")
        if not self.times or any(a >= b for a, b in zip((0.0, *self.times), self.times, strict=False)):
            raise InputError(f"times {list(self.times)}; must be days above 0, rising")

    @property
    def transitions(self) -> tuple[tuple[int, int], ...]:
        """From and to which state each leads: the next event, gone before it, one more event, gone later."""
        gone = range(2, 1 + len(self.causes))
        return ((0, 1), *((0, k) for k in gone), (1, 1), *((1, k) for k in gone))

    @property
    def num_states(self) -> int:
        """No further event, one or more, and each cause that ends it."""
        return 1 + len(self.causes)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the prediction for one landmark, see `probabilities`."""
        return 1 + 2 * len(self.causes), len(self.times)

    @property
    def names(self) -> tuple[str, ...]:
        """The causes."""
        return self.causes

    def probabilities(
        self, answer: Float[Tensor, "landmark transition time"]
    ) -> Float[Tensor, "landmark slot time"]:
        """What a family answers, as probabilities and a number of events.

        Parameters
        ----------
        answer : Float[Tensor, "landmark transition time"]
            Log cumulative hazards.

        Returns
        -------
        Float[Tensor, "landmark slot time"]
            At the end of each interval: no event and not gone; each cause as the first to come; the expected
            number of events; gone by each other cause, with or without an event before.
        """
        occupation, number = follow(answer, self.transitions, self.num_states, [0])
        size = len(self.causes)
        first, later = number[:, 0, :size], number[:, 0, size:]
        return torch.cat(
            [occupation[:, 0, :1], first, first[:, :1] + later[:, :1], (first + later)[:, 1:]], 1
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as lists, strings and numbers.

        Returns
        -------
        dict
            Keys ``kind``, ``causes`` and ``times``.
        """
        return {"kind": self.kind, "causes": list(self.causes), "times": list(self.times)}


@dataclass(frozen=True, kw_only=True)
class StatesConfig:
    """What a head of several states predicts: in which one a patient will be, from each that can be left.

    Attributes
    ----------
    kind : str
        Always ``"states"``.
    states : tuple of str
        Names of the states: those that can be left, then those that end it.
    sources, targets : tuple of int
        From and to which state each transition leads.
    times : tuple of float
        Ends of the intervals in days after the landmark, rising; the last one is the horizon.

    Raises
    ------
    InputError
        When a transition leads nowhere, nothing ends it, or the times do not rise from above 0.
    """

    kind: Literal["states"] = "states"
    states: tuple[str, ...]
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    times: tuple[float, ...]

    def __post_init__(self) -> None:
        ends, size = set(self.sources), len(self.states)
        if not ends or ends != set(range(len(ends))) or len(ends) == size:
            raise InputError("states: those that can be left come first, and one at least ends it")
        if len(self.targets) != len(self.sources) or not set(self.targets) <= set(range(size)):
            raise InputError("transitions: each leads from a state to one of the states")
        if not self.times or any(a >= b for a, b in zip((0.0, *self.times), self.times, strict=False)):
            raise InputError(f"times {list(self.times)}; must be days above 0, rising")

    @property
    def transitions(self) -> tuple[tuple[int, int], ...]:
        """From and to which state each leads."""
        return tuple(zip(self.sources, self.targets, strict=True))

    @property
    def num_starts(self) -> int:
        """How many states can be left."""
        return len(set(self.sources))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the prediction for one landmark: (start, state and transition, time)."""
        return self.num_starts, len(self.states) + len(self.sources), len(self.times)

    @property
    def causes(self) -> tuple[str, ...]:
        """The states that end it."""
        return self.states[self.num_starts :]

    @property
    def names(self) -> tuple[str, ...]:
        """The states that end it."""
        return self.causes

    def probabilities(
        self, answer: Float[Tensor, "landmark transition time"]
    ) -> Float[Tensor, "landmark start slot time"]:
        """What a family answers, as probabilities of states and numbers of transitions.

        Parameters
        ----------
        answer : Float[Tensor, "landmark transition time"]
            Log cumulative hazards.

        Returns
        -------
        Float[Tensor, "landmark start slot time"]
            From each state that can be left, at the end of each interval: the probability of each state; then
            the expected number of each transition.
        """
        found = follow(answer, self.transitions, len(self.states), range(self.num_starts))
        return torch.cat(found, 2)

    def to_dict(self) -> dict[str, Any]:
        """The fields as lists, strings and numbers.

        Returns
        -------
        dict
            Keys ``kind``, ``states``, ``sources``, ``targets`` and ``times``.
        """
        names = ("states", "sources", "targets", "times")
        return {"kind": self.kind} | {name: list(getattr(self, name)) for name in names}


PathConfig = RecurrentConfig | StatesConfig


def poisson(
    log_hazard: Float[Tensor, "landmark transition time"],
    count: Float[Tensor, "landmark transition time"],
    exposure: Float[Tensor, "landmark transition time"],
) -> Float[Tensor, " landmark"]:
    """Negative log-likelihood of hazards that are constant within intervals [1]_.

    For events that recur it is the working likelihood of a marginal rate [2]_: right on average whether or
    not the events of a patient hang together.

    Parameters
    ----------
    log_hazard : Float[Tensor, "landmark transition time"]
        Logarithm of the cumulative hazard of each transition in each interval.
    count : Float[Tensor, "landmark transition time"]
        How often each happened.
    exposure : Float[Tensor, "landmark transition time"]
        The share of each interval in which it could have.

    Returns
    -------
    Float[Tensor, " landmark"]

    References
    ----------
    .. [1] Friedman M. Piecewise exponential models for survival data with covariates. Annals of Statistics
       10:101-113, 1982.
    .. [2] Lawless JF, Nadeau C. Some simple robust methods for the analysis of recurrent events.
       Technometrics 37:158-168, 1995.

    Examples
    --------
    >>> one = torch.ones(1, 1, 1)
    >>> poisson(one.log(), one, one).tolist()
    [1.0]
    """
    return (exposure * log_hazard.clamp(max=LARGEST).exp() - count * log_hazard).flatten(1).sum(1)


class PathHead(nn.Module):
    """A hazard of each transition in each interval, each with scores like those of `SurvivalHead`.

    After `start`, and before any training, every landmark gets the given hazards.

    Parameters
    ----------
    config : RecurrentConfig or StatesConfig
        Transitions and time grid.
    channels : int
        Channels of the pools.
    dropout : float
        Share that is dropped in training, default 0.

    Attributes
    ----------
    courses : Float[Tensor, "course time"]
        By what the scores of a transition are multiplied in each interval; the first is 1.
    """

    courses: Tensor

    def __init__(self, config: PathConfig, channels: int, dropout: float = 0.0):
        super().__init__()
        size, transitions = len(config.times), len(config.transitions)
        self.config = config
        self.register_buffer("courses", courses(size), persistent=False)
        self.scores = Scores(channels, transitions * len(self.courses), dropout)
        self.bias = nn.Parameter(torch.zeros(transitions, size))

    @torch.no_grad()
    def start(self, prior: Float[Tensor, "transition time"]) -> None:
        """Begin with these hazards, such as those of all training landmarks together.

        Parameters
        ----------
        prior : Float[Tensor, "transition time"]
            Cumulative hazard of each transition in each interval; raised to at least 1e-6.
        """
        self.bias.copy_(prior.clamp(min=SMALLEST).log())

    def hold(self, learned: Bool[Tensor, " transition"]) -> None:
        """Keep the hazards of some transitions at those it began with, whatever is trained.

        Parameters
        ----------
        learned : Bool[Tensor, " transition"]
            False: to be kept.
        """
        hold(self.bias, learned)
        self.scores.hold(learned.repeat_interleave(len(self.courses)))

    def forward(self, z: Float[Tensor, "landmark channel"]) -> Float[Tensor, "landmark transition time"]:
        """The logarithm of the cumulative hazard of each transition in each interval.

        Parameters
        ----------
        z : Float[Tensor, "landmark channel"]
            What the pools say of each landmark.

        Returns
        -------
        Float[Tensor, "landmark transition time"]
        """
        score = self.scores(z).unflatten(1, (-1, len(self.courses)))  # (landmark, transition, course)
        return score @ self.courses + self.bias

    def loss(
        self,
        log_hazard: Float[Tensor, "landmark transition time"],
        count: Float[Tensor, "landmark transition time"],
        exposure: Float[Tensor, "landmark transition time"],
    ) -> Float[Tensor, " landmark"]:
        """Negative log-likelihood of each landmark, see `poisson`.

        Parameters
        ----------
        log_hazard : Float[Tensor, "landmark transition time"]
            From `forward`.
        count : Float[Tensor, "landmark transition time"]
            How often each transition happened.
        exposure : Float[Tensor, "landmark transition time"]
            The share of each interval in which it could have.

        Returns
        -------
        Float[Tensor, " landmark"]
        """
        return poisson(log_hazard, count, exposure)

    def predict(self, log_hazard: Float[Tensor, "landmark transition time"]) -> Float[Tensor, "landmark ..."]:
        """What follows from the hazards, see the `probabilities` of the configuration.

        Parameters
        ----------
        log_hazard : Float[Tensor, "landmark transition time"]
            From `forward`.

        Returns
        -------
        Float[Tensor, "landmark ..."]
        """
        return self.config.probabilities(log_hazard)
