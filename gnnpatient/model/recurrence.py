"""A recurrent pass along time: gated linear recurrences, over all rows of all landmarks at once."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnnpatient.model.table import NodeTable

MIN_STEPS = 4  # below which a scan goes step by step


def _scan(a: Tensor, b: Tensor, h: Tensor) -> None:
    """h[t + 1] = a[t] h[t] + b[t], written to h from h[0] on: every second step first, then those between."""
    n = len(b)
    if n <= MIN_STEPS:
        for t in range(n):
            torch.addcmul(b[t], a[t], h[t], out=h[t + 1])
        return
    first, second = slice(0, n - 1, 2), slice(1, n, 2)
    _scan(a[second] * a[first], torch.addcmul(b[second], a[second], b[first]), h[: n + 1 - n % 2 : 2])
    torch.addcmul(b[::2], a[::2], h[:n:2], out=h[1::2])


def _scan_back(a: Tensor, b: Tensor, h: Tensor) -> None:
    """h[t] = a[t] h[t + 1] + b[t], written to h down from h[-1], which is given."""
    n = len(b)
    if n <= MIN_STEPS:
        for t in range(n - 1, -1, -1):
            torch.addcmul(b[t], a[t], h[t + 1], out=h[t])
        return
    first, second = slice(n % 2 + 1, n, 2), slice(n % 2, n - 1, 2)
    _scan_back(a[second] * a[first], torch.addcmul(b[second], a[second], b[first]), h[n % 2 :: 2])
    between = slice(1 - n % 2, n, 2)
    torch.addcmul(b[between], a[between], h[2 - n % 2 :: 2], out=h[between])


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        h = b.new_empty(len(b) + 1, *b.shape[1:])
        h[0] = 0
        _scan(a, b, h)
        ctx.save_for_backward(a, h)
        return h[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, h = ctx.saved_tensors
        if not len(grad):
            return a, grad
        entry = torch.empty_like(grad)
        entry[-1] = grad[-1]
        _scan_back(a[1:], grad[:-1], entry)
        return entry * h[:-1], entry


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
