"""What a head makes of the pools, and how a part of it is kept as it is."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

HIDDEN = 32  # units of the hidden layer of a head
LINE = 0.3  # by which the pools beside it are multiplied
COURSES = 4  # courses in time of an effect
COURSE_WEIGHT = 0.3  # of those that are not constant


def courses(size: int) -> Float[Tensor, "course time"]:
    """By what the scores of an effect are multiplied along a time grid: 1, and cosines of half turns.

    Parameters
    ----------
    size : int
        Intervals of the grid.

    Returns
    -------
    Float[Tensor, "course time"]

    Examples
    --------
    >>> (courses(2) > 0).tolist()
    [[True, True], [True, False]]
    """
    place = (torch.arange(size) + 0.5) / size
    turns = torch.arange(min(COURSES, size))[:, None]
    return (turns * torch.pi * place).cos() * COURSE_WEIGHT ** (turns > 0)


class Scores(nn.Module):
    """What a head makes of the pools: a hidden layer, and beside it, more quietly, the pools themselves.

    What is linear in the pools need not be put together from corners. At full weight it would be learned long
    before the rest, and end the training.

    Parameters
    ----------
    channels : int
        Channels of the pools.
    scores : int
        Scores of a landmark.
    dropout : float
        Share of the pools that is dropped in training, default 0.
    hidden : int
        Units of the hidden layer, default 32.
    """

    def __init__(self, channels: int, scores: int, dropout: float = 0.0, hidden: int = HIDDEN):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(channels, hidden)
        self.out = nn.Linear(hidden + channels, scores, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, z: Float[Tensor, "landmark channel"]) -> Float[Tensor, "landmark score"]:
        """The scores, zeros before any training.

        Parameters
        ----------
        z : Float[Tensor, "landmark channel"]
            What the pools say of each landmark.

        Returns
        -------
        Float[Tensor, "landmark score"]
        """
        z = self.dropout(z)
        return cast(Tensor, self.out(torch.cat([self.hidden(z).relu(), LINE * z], 1)))

    def hold(self, learned: Bool[Tensor, " score"]) -> None:
        """Keep some scores at zero, whatever is trained.

        Parameters
        ----------
        learned : Bool[Tensor, " score"]
            False: to be kept.
        """
        hold(self.out.weight, learned)


def hold(parameter: Tensor, learned: Bool[Tensor, " row"]) -> None:
    """Let no gradient reach the other rows of a parameter.

    Parameters
    ----------
    parameter : Tensor
        With a row each, or a number.
    learned : Bool[Tensor, " row"]
        False: to be kept.
    """
    if not learned.all():
        keep = learned.to(parameter).view(parameter.shape[:1] + (1,) * (parameter.ndim - 1))
        parameter.register_hook(lambda grad: grad * keep.to(grad.device))
