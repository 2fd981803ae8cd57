"""L-BFGS of several functions at once: many small fits cost hardly more than one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def minimise(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    x: Float[Tensor, "fit parameter"],
    steps: int,
    tolerance: float,
    memory: int = 12,
) -> Float[Tensor, "fit parameter"]:
    """Minimise several functions at once, each by L-BFGS [1]_ with steps that are halved until they go down.

    Parameters
    ----------
    function : callable
        Gives of each row its value (fit,) and slope (fit, parameter).
    x : Float[Tensor, "fit parameter"]
        Where to begin; a row is the argument of one function.
    steps : int
        Steps at most.
    tolerance : float
        A row ends where a step gains less than this share of its value.
    memory : int
        Past steps that shape the next one, default 12.

    Returns
    -------
    Float[Tensor, "fit parameter"]

    References
    ----------
    .. [1] Liu DC, Nocedal J. On the limited memory BFGS method for large scale optimization. Mathematical
       Programming 45:503-528, 1989.

    Examples
    --------
    >>> middle = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> minimise(lambda x: ((x - middle).square().sum(1), 2 * (x - middle)), torch.zeros(2, 2), 9, 1e-6)
    tensor([[1., 2.],
            [3., 4.]])
    """
    value, slope = function(x)
    active = torch.ones(len(x), dtype=torch.bool)
    scale = 1 / slope.abs().sum(1).clamp(min=1.0)
    past: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(steps):
        way = -_times_inverse(slope, past, scale)
        down = (way * slope).sum(1)
        way = way.where((down < 0)[:, None], -slope * scale[:, None])
        down = (way * slope).sum(1)
        length = torch.ones_like(value)
        for _ in range(10):
            there = x.where(~active[:, None], x + length[:, None] * way)
            found, steep = function(there)
            lower = found <= value + 1e-4 * length * down
            if (lower | ~active).all():
                break
            length = torch.where(lower, length, length / 3)
        moved = active & lower
        move, turn = there - x, steep - slope
        bend = (move * turn).sum(1)
        useful = moved & (bend > 1e-9 * turn.square().sum(1))
        kept = useful[:, None]
        past.append((move * kept, turn * kept, 1 / bend[:, None].where(kept, torch.inf)))
        past = past[-memory:]
        scale = scale.where(~useful, bend / turn.square().sum(1).where(useful, 1.0))
        active = moved & (value - found > tolerance * found.abs())
        x = x.where(~moved[:, None], there)
        value, slope = value.where(~moved, found), slope.where(~moved[:, None], steep)
        if not active.any():
            break
    return x


def _times_inverse(slope: Tensor, past: Sequence[tuple[Tensor, Tensor, Tensor]], scale: Tensor) -> Tensor:
    """The slope times the inverse of the curvature that past steps have shown, of each row."""
    way, shares = slope, []
    for move, turn, share in reversed(past):
        shares.append(share * (move * way).sum(1, keepdim=True))
        way = torch.addcmul(way, shares[-1], turn, value=-1)
    way = way * scale[:, None]
    for (move, turn, share), before in zip(past, reversed(shares), strict=True):
        way = torch.addcmul(way, before - share * (turn * way).sum(1, keepdim=True), move)
    return way
