"""A recurrent pass along time: gated linear recurrences, over all rows of all landmarks at once."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnnpatient.model.table import NodeTable

MIN_STEPS = 4  # below which a scan goes step by step


def _scan(a: Tensor, b: Tensor) -> Tensor:
    """h[t] = a[t] h[t - 1] + b[t]: pairs of steps first, then the steps between; a and b stay."""
    h = torch.empty_like(b)
    if not len(b):
        return h
    h[0] = b[0]
    if len(b) <= MIN_STEPS:
        for t in range(1, len(b)):
            torch.addcmul(b[t], a[t], h[t - 1], out=h[t])
        return h
    even = len(b) // 2 * 2
    second = a[1:even:2]
    h[1:even:2] = _scan(second * a[0:even:2], torch.addcmul(b[1:even:2], second, b[0:even:2]))
    torch.addcmul(b[2::2], a[2::2], h[1 : len(b) - 1 : 2], out=h[2::2])
    return h


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        h = _scan(a, b)
        ctx.save_for_backward(a, h)
        return h

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, h = ctx.saved_tensors
        later = torch.cat([a[1:], a[:1]]).flip(0)  # the first of these is multiplied by nothing
        b = _scan(later, grad.flip(0)).flip(0)
        before = torch.cat([torch.zeros_like(h[:1]), h[:-1]])
        return b * before, b


def recurrence(
    decay: Float[Tensor, "row channel"], entry: Float[Tensor, "row channel"]
) -> Float[Tensor, "row channel"]:
    """h[t] = decay[t] h[t - 1] + entry[t], from h[-1] = 0, in about 3 log2(row) operations [1]_.

    Where the decay is 0 a new sequence begins, so that ragged sequences need no padding.

    Parameters
    ----------
    decay : Float[Tensor, "row channel"]
        What is kept of the state before, 0 to 1.
    entry : Float[Tensor, "row channel"]
        What is added.

    Returns
    -------
    Float[Tensor, "row channel"]
        The states.

    References
    ----------
    .. [1] Blelloch GE. Prefix sums and their applications. CMU-CS-90-190, 1990.

    Examples
    --------
    >>> recurrence(torch.tensor([[0.0], [0.5], [0.5]]), torch.ones(3, 1)).T
    tensor([[1.0000, 1.5000, 1.7500]])
    """
    return _Recurrence.apply(decay, entry)


class AlongTime(nn.Module):
    """A state that runs along the rows of each landmark in order of time, and one that runs back.

    A minimal gated unit [1]_: how much of its state a row keeps and what it adds depend on the row alone, so
    that all rows are computed at once.

    Parameters
    ----------
    channels : int
        Channels of a row.
    states : int
        Channels of the states of each direction.

    References
    ----------
    .. [1] Feng L et al. Were RNNs all we needed? arXiv:2410.01201, 2024.
    """

    def __init__(self, channels: int, states: int):
        super().__init__()
        self.states = states
        self.gates = nn.Linear(channels, 4 * states)

    def forward(self, x: Float[Tensor, "row channel"], table: NodeTable) -> Float[Tensor, "row two_states"]:
        """The states after each row.

        Parameters
        ----------
        x : Float[Tensor, "row channel"]
            The rows.
        table : NodeTable
            A batch of landmarks.

        Returns
        -------
        Float[Tensor, "row two_states"]
            Of what came up to the row, and of what came from it on.
        """
        s = self.states
        y = self.gates(x)  # (row, keep forth, keep back, add forth, add back)
        first, last = _ends(table)
        keep, add = y[:, : 2 * s].sigmoid(), y[:, 2 * s :]
        entry = (1 - keep) * add
        decay = torch.cat([keep[:, :s] * first, (keep[:, s:] * last).flip(0)], 1)
        forth, back = recurrence(decay, torch.cat([entry[:, :s], entry[:, s:].flip(0)], 1)).chunk(2, 1)
        return torch.cat([forth, back.flip(0)], 1)


def _ends(table: NodeTable) -> tuple[Float[Tensor, "row 1"], Float[Tensor, "row 1"]]:
    """0 for the first row of each landmark, else 1; and likewise for the last."""
    owner = table.owner
    inner = (owner[1:] == owner[:-1]).to(table.x.dtype)
    end = inner.new_zeros(min(1, len(owner)))
    return torch.cat([end, inner])[:, None], torch.cat([inner, end])[:, None]
