"""A recurrent pass along time: gated linear recurrences, over all rows of all landmarks at once."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnnpatient.model.table import NodeTable

MIN_STEPS = 4  # below which a scan goes step by step


def _scan(a: Tensor, b: Tensor, h: Tensor) -> None:
    """h[t] = a[t] h[t - 1] + b[t], written to h: every second step first, then the steps between [1]_."""
    n = len(b)
    h[:1] = b[:1]
    if n <= MIN_STEPS:
        for t in range(1, n):
            torch.addcmul(b[t], a[t], h[t - 1], out=h[t])
        return
    first, second = slice(0, n - 1, 2), slice(1, n, 2)
    _scan(a[second] * a[first], torch.addcmul(b[second], a[second], b[first]), h[second])
    torch.addcmul(b[2::2], a[2::2], h[1 : n - 1 : 2], out=h[2::2])


def _scan_back(a: Tensor, b: Tensor, h: Tensor) -> None:
    """h[t] = a[t + 1] h[t + 1] + b[t], written to h."""
    n = len(b)
    h[n - 1 :] = b[n - 1 :]
    if n <= MIN_STEPS:
        for t in range(n - 2, -1, -1):
            torch.addcmul(b[t], a[t + 1], h[t + 1], out=h[t])
        return
    odd = n % 2
    first, second, after = slice(1 + odd, n, 2), slice(odd, n - 1, 2), slice(2 + odd, n - 1, 2)
    decay = torch.empty_like(a[second])
    torch.mul(a[first][:-1], a[after], out=decay[1:])
    _scan_back(decay, torch.addcmul(b[second], a[first], b[first]), h[second])
    between, later = slice(1 - odd, n - 2, 2), slice(2 - odd, n - 1, 2)
    torch.addcmul(b[between], a[later], h[later], out=h[between])


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        h = torch.empty_like(b)
        _scan(a, b, h)
        ctx.save_for_backward(a, h)
        return h

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, h = ctx.saved_tensors
        entry = torch.empty_like(grad)
        _scan_back(a, grad, entry)
        decay = torch.zeros_like(entry)
        torch.mul(entry[1:], h[:-1], out=decay[1:])
        return decay, entry


def recurrence(
    decay: Float[Tensor, "row channel"], entry: Float[Tensor, "row channel"]
) -> Float[Tensor, "row channel"]:
    """h[t] = decay[t] h[t - 1] + entry[t], from h[-1] = 0, in some 4 log2(row) operations [1]_.

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
        forth, back = self.gates(x).chunk(2, 1)  # each: keep, add
        keep, add = torch.cat([forth, back.flip(0)], 1).unflatten(1, (2, 2, -1)).unbind(2)
        keep = keep.sigmoid()  # (row, direction, state)
        entry = torch.addcmul(add, keep, add, value=-1)
        states = recurrence((keep * _inner(table)).flatten(1), entry.flatten(1))
        forth, back = states.chunk(2, 1)
        return torch.cat([forth, back.flip(0)], 1)


def _inner(table: NodeTable) -> Float[Tensor, "row direction 1"]:
    """0 where a sequence begins: at the first row of each landmark, and at the last in the flipped order."""
    inner = table.x.new_ones(table.rows + 1, 2)
    inner[table.ptr[:-1], 0] = 0
    inner[table.rows - table.ptr[1:], 1] = 0
    return inner[:-1, :, None]
