"""Boosted trees of a progression: what they add to a line through the last values, and who is seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from gnnpatient.model.values import STARTS, ProgressionConfig, hats, log_bins, pair_weights
from gnnpatient.prognosis.aggregates import MAX_BINS, MISSING
from gnnpatient.prognosis.states import from_states
from gnnpatient.prognosis.trees import Trees
from gnnpatient.prognosis.value_linear import NEAR, fit_spread
from gnnpatient.prognosis.value_target import ProgressionTarget

# Later values of a landmark that are learned from: more of them make the leaves larger, as a leaf has more
# rows than any nine patients have.
MAX_PAIRS = 2
REACH = 6.0  # what trees add at most, and the logit of being seen


@runtime_checkable
class Part(Protocol):
    """Some landmarks that a member learns from."""

    @property
    def rows(self) -> ndarray:
        """Position of each among all landmarks."""

    @property
    def patient(self) -> ndarray:
        """Whose each is."""

    @property
    def weight(self) -> ndarray:
        """How much each counts."""

    @property
    def bins(self) -> ndarray:
        """Columns of each, as bins."""


# Patient, columns, what is learned and weight of the rows to learn from, and of those that decide when to
# stop; whether one of two classes is learned. Gives trees, None where they do not help, and what those of the
# first rows alone say of the second ones.
Grow = Callable[[Sequence[ndarray], Sequence[ndarray], bool], tuple[Trees | None, ndarray]]


@dataclass(frozen=True, eq=False)
class ValueTrees:
    """The trees of a member for one progression.

    Attributes
    ----------
    start : ndarray
        A line through the last values, see `gnnpatient.model.values.STARTS`.
    middle : Trees
        What is added to it.
    seen : Trees
        Logit of being seen, or what is added to that of the line.
    spread : ndarray
        What is added to the logarithm of the standard deviation, and the logit of the wide part.
    """

    start: Float[ndarray, "start time"]
    middle: Trees
    seen: Trees
    spread: Float[ndarray, " 2"]

    def log_probabilities(
        self,
        bins: UInt8[ndarray, "landmark column"],
        last: Float[ndarray, "landmark 2"],
        head: ProgressionConfig,
    ) -> Float[Tensor, "landmark slot time"]:
        """What a head answers.

        Parameters
        ----------
        bins : ndarray
            Columns of some landmarks, without last value and time.
        last : ndarray
            Last values, from `ProgressionConfig.anchored`.
        head : ProgressionConfig
            What is predicted.

        Returns
        -------
        Float[Tensor, "landmark slot time"]
            Log probability of being seen, and of each bin.
        """
        size = len(head.times)
        middle = np.empty((len(bins), size))
        seen = np.empty((len(bins), size))
        for k in range(size):
            x = with_time(bins, last, np.full(len(bins), head.times[k]), head)
            middle[:, k] = self.middle(x)[:, 0].clip(-REACH, REACH)
            seen[:, k] = self.seen(x)[:, 0]
        middle += self.start[0] + last @ self.start[1:3]
        seen = (seen + self.start[4]).clip(-REACH, REACH)
        log_sd = np.broadcast_to(self.start[3] + self.spread[0], middle.shape).copy()
        wide = torch.tensor(float(self.spread[1]), dtype=torch.float64)
        edges = torch.from_numpy(head.scaled_edges)
        logs = log_bins(torch.from_numpy(middle), torch.from_numpy(log_sd), wide, edges)
        chance = torch.nn.functional.logsigmoid(torch.from_numpy(seen))
        return torch.cat([chance[:, None], logs], 1)

    def tensors(self) -> dict[str, Tensor]:
        """The arrays by name.

        Returns
        -------
        dict of str to Tensor
        """
        return {
            "start": torch.from_numpy(self.start),
            "spread": torch.from_numpy(self.spread),
            **{f"middle.{name}": tensor for name, tensor in self.middle.tensors().items()},
            **{f"seen.{name}": tensor for name, tensor in self.seen.tensors().items()},
        }

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], head: ProgressionConfig, columns: int) -> ValueTrees:
        """Read what `tensors` gave.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            From `tensors`.
        head : ProgressionConfig
            What is predicted.
        columns : int
            How many columns a landmark has, without last value and time.

        Returns
        -------
        ValueTrees

        Raises
        ------
        KeyError, ValueError
            When they do not fit together.
        """
        start, spread = tensors["start"].numpy(), tensors["spread"].numpy()
        if start.shape != (len(STARTS), len(head.times)) or spread.shape != (2,):
            raise ValueError("trees of a progression")
        if not (np.isfinite(start).all() and np.isfinite(spread).all()):
            raise ValueError("trees of a progression")
        trees = [Trees.load(from_states(name, tensors), 1, columns + 2) for name in ("middle", "seen")]
        return cls(start, trees[0], trees[1], spread)


def with_time(
    bins: UInt8[ndarray, "row column"],
    last: Float[ndarray, "row 2"],
    when: Float[ndarray, " row"],
    head: ProgressionConfig,
) -> UInt8[ndarray, "row column_and_two"]:
    """Columns with the last value and the time beside them, as bins of fixed ends.

    Parameters
    ----------
    bins : ndarray
        Columns.
    last : ndarray
        From `ProgressionConfig.anchored`.
    when : ndarray
        Days after the landmark.
    head : ProgressionConfig
        What is predicted.

    Returns
    -------
    ndarray
    """
    level = np.searchsorted(np.linspace(-2.5, 2.5, MAX_BINS - 1), last[:, 0])
    level = np.where(last[:, 1] > 0, MISSING, level)
    time = np.round(hats(head.times, when) @ np.arange(len(head.times)) * 3)
    return np.concatenate([bins, np.stack([level, time], 1).astype(np.uint8)], 1)


def grow_values(
    target: ProgressionTarget,
    head: ProgressionConfig,
    start: Float[ndarray, "start time"],
    learn: Part,
    stop: Part,
    grow: Grow,
    least: int,
) -> ValueTrees:
    """Grow the trees of a member.

    Parameters
    ----------
    target : ProgressionTarget
        What came of all landmarks.
    head : ProgressionConfig
        What is predicted.
    start : ndarray
        A line through the last values of the member's patients.
    learn, stop : Part
        Landmarks to learn from, and those that decide when to stop.
    grow : callable
        Grows trees from tables of both: patient, bins, target, weight.
    least : int
        Fewest patients that a figure may be of to be written down.

    Returns
    -------
    ValueTrees
    """
    tables = [_values(target, head, start, part) for part in (learn, stop)]
    middle, said = grow(tables[0][:4], tables[1][:4], False)
    _, _, away, weight, sd = tables[1]
    patients = len(np.unique(tables[1][0]))
    residual = (away - said) / sd
    ones = np.ones((len(residual), 1))
    if patients < least:  # too few to say how far trees are from the truth
        residual, ones, weight = residual[:0], ones[:0], weight[:0]
    spread, wide = fit_spread(residual, ones, weight * (patients / max(weight.sum(), 1e-12)))
    limited = np.clip(spread[0], -0.7, 0.7)
    seen = [_seen(target, head, part) for part in (learn, stop)]
    trees, _ = grow(seen[0], seen[1], True)
    line = start.copy()
    if trees is not None:
        line[4] = 0.0
    none = Trees.constant(np.zeros(1))
    return ValueTrees(line, middle or none, trees or none, np.array([limited, wide]))


def _values(
    target: ProgressionTarget, head: ProgressionConfig, start: ndarray, part: Part
) -> tuple[ndarray, ndarray, ndarray, ndarray, ndarray]:
    """Of each later value its patient, columns, distance from the line, weight, and the line's deviation."""
    mine = target[part.rows]
    bins = cast(ndarray, mine.bins)
    there, count = bins >= 0, (bins >= 0).sum(1, keepdims=True)
    place = np.floor((there.cumsum(1) - 1) * np.minimum(count, MAX_PAIRS) / count.clip(min=1) + 1e-9)
    place = np.where(there, place, np.maximum.accumulate(place, 1))
    new = there & (np.diff(place, prepend=-1.0, axis=1) > 0)  # the first of each part
    owner, pair = np.nonzero(new)
    when, last = mine.when[owner, pair], head.anchored(mine.last[owner])
    share = hats(head.times, when)
    line = share @ start[0] + last[:, 0] * (share @ start[1]) + last[:, 1] * (share @ start[2])
    chosen = np.where(new[..., None], mine.shares(head.times), 0.0)
    near = 1 / (NEAR + when / head.times[-1])
    weight = part.weight[owner] * pair_weights(chosen)[owner, pair] * near
    weight = weight * (part.weight[np.unique(owner)].sum() / max(weight.sum(), 1e-12))
    x = with_time(part.bins[owner], last, when, head)
    away = head.scaled(mine.value[owner, pair]) - line
    return part.patient[owner], x, away, weight, np.exp(share @ start[3])


def _seen(
    target: ProgressionTarget, head: ProgressionConfig, part: Part
) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Of each landmark and time its patient, columns, whether a value was seen, and weight."""
    mine = target[part.rows]
    seen = cast(ndarray, mine.seen)
    owner, k = np.nonzero(np.isfinite(seen))
    last = head.anchored(mine.last[owner])
    weight = part.weight[owner] / seen.shape[1]
    x = with_time(part.bins[owner], last, np.array(head.times)[k], head)
    return part.patient[owner], x, seen[owner, k].astype(np.int64), weight
