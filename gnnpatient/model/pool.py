"""Pools: what many rows say together."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gnnpatient.model.table import NodeTable

POOLS = 4  # mean, scaled sum, maximum, spread


class _Moments(torch.autograd.Function):
    """Sum, sum of squares and maximum of the rows of each group, with one pass back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
        total = x.new_zeros(size, x.shape[1]).index_add_(0, group, x)
        square = x.new_zeros(size, x.shape[1]).index_add_(0, group, x * x)
        top = torch.full_like(total, -torch.inf).scatter_reduce_(0, group[:, None].expand_as(x), x, "amax")
        ctx.save_for_backward(x, group, top)
        return total, square, top

    @staticmethod
    def backward(ctx: Any, total: Tensor, square: Tensor, top: Tensor) -> tuple[Tensor, None, None]:
        x, group, highest = ctx.saved_tensors
        is_top = (x == highest.index_select(0, group)).to(x.dtype)
        ties = torch.zeros_like(highest).index_add_(0, group, is_top)
        grad = torch.addcmul(total.index_select(0, group), x, square.index_select(0, group), value=2.0)
        return grad.addcmul_(is_top, (top / ties.clamp(min=1)).index_select(0, group)), None, None


def moments(
    x: Float[Tensor, "row channel"], group: Int[Tensor, " row"], size: int
) -> tuple[Float[Tensor, "group channel"], Float[Tensor, "group channel"], Float[Tensor, "group channel"]]:
    """Sum, sum of squares and maximum of the rows of each group.

    Parameters
    ----------
    x : Float[Tensor, "row channel"]
        The rows.
    group : Int[Tensor, " row"]
        Group of each row.
    size : int
        Number of groups.

    Returns
    -------
    tuple of Float[Tensor, "group channel"]
        Zeros, zeros and -inf of a group without rows.
    """
    return _Moments.apply(x, group, size)


def summary(
    total: Float[Tensor, "group channel"],
    square: Float[Tensor, "group channel"],
    top: Float[Tensor, "group channel"],
    count: Float[Tensor, " group"],
) -> Float[Tensor, "group four_channels"]:
    """Mean, sum over the square root of the count, maximum and standard deviation.

    Parameters
    ----------
    total, square, top : Float[Tensor, "group channel"]
        From `moments`.
    count : Float[Tensor, " group"]
        Rows of each group.

    Returns
    -------
    Float[Tensor, "group four_channels"]
        Of a group without rows zeros, and a spread that every single row has too.
    """
    many = count.clamp(min=1)[:, None]
    mean = total / many
    spread = (torch.addcmul(square / many, mean, mean, value=-1).clamp(min=0) + 1e-4).sqrt()
    return torch.cat([mean, total / (3 * many.sqrt()), top.masked_fill(top.isinf(), 0.0), spread], 1)


class SeriesPool(nn.Module):
    """Pools over each code's series first, then over the patient.

    What a series is like goes through a small network that knows its code, and is pooled over the series of
    the patient: the fastest of several objects is the maximum of what each of them did.

    Parameters
    ----------
    codes : int
        Number of codes.
    width : int
        Channels of a row.
    channels : int
        Channels of a series.
    """

    def __init__(self, codes: int, width: int, channels: int):
        super().__init__()
        self.code = nn.Parameter(torch.randn(codes, channels))
        self.series = nn.Linear(POOLS * width, channels)
        self.hidden = nn.Sequential(nn.ReLU(), nn.Linear(channels, channels), nn.ReLU())
        self.size = POOLS * (width + channels)

    def forward(self, x: Float[Tensor, "row channel"], table: NodeTable) -> Float[Tensor, "landmark size"]:
        """Pool the rows of each landmark.

        Parameters
        ----------
        x : Float[Tensor, "row channel"]
            States of the rows.
        table : NodeTable
            A batch of landmarks.

        Returns
        -------
        Float[Tensor, "landmark size"]
            Mean, scaled sum, maximum and spread of the rows, then of the series.
        """
        series, owner, size = len(table.series_code), table.series_owner, len(table)
        total, square, top = moments(x, table.series, series)
        count = torch.bincount(table.series, minlength=series).to(x.dtype)
        s = self.series(summary(total, square, top, count)) + self.code.index_select(0, table.series_code)
        s = self.hidden(s)  # (series, channel)
        total = total.new_zeros(size, x.shape[1]).index_add(0, owner, total)
        square = square.new_zeros(size, x.shape[1]).index_add(0, owner, square)
        top = moments(top, owner, size)[2]
        rows = summary(total, square, top, table.ptr.diff().to(x.dtype))
        return torch.cat([rows, summary(*moments(s, owner, size), table.series_ptr.diff().to(x.dtype))], 1)


class RowPool(nn.Module):
    """Mean and maximum over the rows of each landmark, nothing more.

    Parameters
    ----------
    codes : int
        Number of codes, unused.
    width : int
        Channels of a row.
    channels : int
        Unused.
    """

    def __init__(self, codes: int, width: int, channels: int):
        super().__init__()
        self.size = 2 * width

    def forward(self, x: Float[Tensor, "row channel"], table: NodeTable) -> Float[Tensor, "landmark size"]:
        """Pool the rows of each landmark.

        Parameters
        ----------
        x : Float[Tensor, "row channel"]
            States of the rows.
        table : NodeTable
            A batch of landmarks.

        Returns
        -------
        Float[Tensor, "landmark size"]
        """
        total, _, top = moments(x, table.owner, len(table))
        mean = total / table.ptr.diff().clamp(min=1)[:, None]
        return torch.cat([mean, top.masked_fill(top.isinf(), 0.0)], 1)
