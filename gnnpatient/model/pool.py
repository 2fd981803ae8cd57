"""Pools: what many rows say together."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gnnpatient.model.table import NodeTable

POOLS = 4  # mean, scaled sum, maximum, spread
LEAST_VARIANCE = 1e-4  # so that a spread of nothing has a slope


with warnings.catch_warnings():  # it is said once a process to be in beta
    warnings.simplefilter("ignore")
    torch.zeros(1).index_reduce_(0, torch.zeros(1, dtype=torch.long), torch.zeros(1), "amax")


def _highest(x: Tensor, group: Tensor, size: int) -> Tensor:
    """Maximum of each group, -inf of none; on a CPU ten times as fast as `scatter_reduce_`."""
    top = x.new_full((size, x.shape[1]), -torch.inf)
    if x.is_cuda:
        return top.scatter_reduce_(0, group[:, None].expand_as(x), x, "amax")
    return top.index_reduce_(0, group, x, "amax")


class _Summary(torch.autograd.Function):
    """`summary`, with one pass back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Tensor, count: Tensor) -> Tensor:
        size, width = len(count), x.shape[1]
        n = count.clamp(min=1).to(x.dtype)[:, None]
        out = x.new_zeros(size, POOLS * width)
        mean, scaled, top, spread = out.split(width, 1)
        mean.index_add_(0, group, x).div_(n)
        factor = n.sqrt() / 3
        torch.mul(mean, factor, out=scaled)
        top.copy_(_highest(x, group, size)).masked_fill_((count == 0)[:, None], 0.0)
        spread.index_add_(0, group, x * x).div_(n).addcmul_(mean, mean, value=-1)
        spread.clamp_(min=0).add_(LEAST_VARIANCE).sqrt_()
        ctx.save_for_backward(x, group, n, factor, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, group, n, factor, out = ctx.saved_tensors
        width = x.shape[1]
        mean, _, top, spread = out.split(width, 1)
        of_mean, of_scaled, of_top, of_spread = (grad / n).split(width, 1)
        slope = of_spread / spread
        constant = torch.addcmul(of_mean, of_scaled, factor).addcmul_(slope, mean, value=-1)
        is_top = x == top.index_select(0, group)
        ties = torch.zeros_like(slope).index_add_(0, group, is_top.to(x.dtype))
        down = torch.cat([constant, slope, of_top * (n / ties)], 1).index_select(0, group)
        constant, slope, share = down.split(width, 1)
        return torch.addcmul(constant, x, slope).addcmul_(is_top, share), None, None


def summary(
    x: Float[Tensor, "row channel"], group: Int[Tensor, " row"], count: Int[Tensor, " group"]
) -> Float[Tensor, "group four_channels"]:
    """Mean, sum over three square roots of the count, maximum and standard deviation of each group.

    Parameters
    ----------
    x : Float[Tensor, "row channel"]
        The rows.
    group : Int[Tensor, " row"]
        Group of each row.
    count : Int[Tensor, " group"]
        Rows of each group.

    Returns
    -------
    Float[Tensor, "group four_channels"]
        Of a group without rows zeros, and the least spread.

    Examples
    --------
    >>> summary(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]), torch.tensor([2]))
    tensor([[2.0000, 0.9428, 3.0000, 1.0000]])
    """
    return _Summary.apply(x, group, count)


class SeriesPool(nn.Module):
    """Pools over each code's series first, then over the patient.

    What a series is like, its latest row and all of them, goes through a small network that knows its code,
    and is pooled over the series of the patient: the fastest of several objects is the maximum of what each
    of them did.

    Parameters
    ----------
    named : Float[Tensor, "code 1"]
        From `gnnpatient.model.table.named_codes`: what is rare or unknown starts at zero, so that a code that
        no training patient had adds no noise.
    width : int
        Channels of a row.
    channels : int
        Channels of a series.
    """

    def __init__(self, named: Float[Tensor, "code 1"], width: int, channels: int):
        super().__init__()
        self.code = nn.Parameter(torch.randn(len(named), channels) * named)
        self.series = nn.Linear((1 + POOLS) * width, channels, bias=False)
        self.hidden = nn.Linear(channels, channels)
        self.size = (1 + POOLS) * width + POOLS * channels

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
            Mean of the latest row of each series; mean, scaled sum, maximum and spread of all rows, then of
            the series.
        """
        series, many = len(table.series_code), table.series_ptr.diff()
        group = torch.cat([table.series, table.owner + series])  # the series and the patients at once
        said = summary(x.repeat(2, 1), group, torch.cat([table.series_size, table.ptr.diff()]))
        said, whole = said.split([series, len(table)])
        latest = x.index_select(0, table.latest)  # (series, width)
        s = self.series(torch.cat([latest, said], 1)) + self.code.index_select(0, table.series_code)
        s = self.hidden(s.relu()).relu()  # (series, channel)
        last = x.new_zeros(len(table), x.shape[1]).index_add(0, table.series_owner, latest)
        last = last / many.clamp(min=1)[:, None]
        return torch.cat([last, whole, summary(s, table.series_owner, many)], 1)


class RowPool(nn.Module):
    """Mean, scaled sum, maximum and spread over the rows of each landmark, nothing more.

    Parameters
    ----------
    named : Float[Tensor, "code 1"]
        Unused.
    width : int
        Channels of a row.
    channels : int
        Unused.
    """

    def __init__(self, named: Float[Tensor, "code 1"], width: int, channels: int):
        super().__init__()
        self.size = POOLS * width

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
        return summary(x, table.owner, table.ptr.diff())
