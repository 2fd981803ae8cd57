"""Principal axes of the embedding vectors of each node type, learned from training graphs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gnnpatient.graphs import Graphs, Nodes, moving

# vectors of a node type to learn axes from: with fewer, a model could hold one patient's image
MIN_VECTORS = 10
# about how many vectors axes are learned from: of every k-th landmark, where there are more
MAX_BASIS_VECTORS = 2**15
MAX_AXES = 16  # principal axes of a node type's vectors


@dataclass(frozen=True)
class Axes:
    """Sizes of the layout of a node type's embedding vectors.

    Attributes
    ----------
    columns : int
        Columns of a vector.
    kept : int
        Principal axes that are kept.
    """

    columns: int
    kept: int


@dataclass(frozen=True, eq=False)
class Basis:
    """Where the training vectors of a node type lie: ``z = (vector - mean) @ axes``, each of unit variance.

    Attributes
    ----------
    mean : Float[Tensor, " feature"]
        Mean of the training vectors.
    axes : Float[Tensor, "feature axis"]
        The axes, scaled to unit variance.
    """

    mean: Float[Tensor, " feature"]
    axes: Float[Tensor, "feature axis"]

    @staticmethod
    def fit(nodes: Nodes, least: int = 1) -> Basis:
        """Learn the principal axes of the standardised columns [1]_.

        Where names need several patients, so do columns, each of which must differ in as many, and axes: one
        of which half the variance is a single patient's is zeroed.

        Parameters
        ----------
        nodes : Nodes
            Training nodes with vectors.
        least : int
            Patients that a column or an axis needs, default 1.

        Returns
        -------
        Basis

        References
        ----------
        .. [1] Jolliffe IT. Principal Component Analysis. 2nd ed., Springer, 2002.
        """
        some = nodes.owner % max(1, math.ceil(len(nodes) / MAX_BASIS_VECTORS)) == 0
        vector, owner = nodes.vector[some].double(), nodes.owner[some]
        if least > 1:
            count, median = moving(vector, owner)
            vector = vector.where(count >= least, median)
        mean, axes = _principal(vector, max(1, min(vector.shape[1], MAX_AXES, len(vector) // 4)))
        if least > 1:
            axes = axes * _shared((vector - mean) @ axes, owner)
        return Basis(mean.float(), axes.float())

    @property
    def sizes(self) -> Axes:
        """How many columns and axes there are."""
        columns, kept = self.axes.shape
        return Axes(columns, kept)


def _shared(z: Float[Tensor, "row axis"], owner: Int[Tensor, " row"]) -> Float[Tensor, " axis"]:
    """1 for each axis of which no owner has half of the variance, else 0."""
    who, place = owner.unique(return_inverse=True)
    each = z.new_zeros(len(who), z.shape[1]).index_add_(0, place, z.square())
    return (2 * each.amax(0) < each.sum(0)).to(z.dtype)


def _turned(axes: Float[Tensor, "feature axis"]) -> Float[Tensor, "feature axis"]:
    """Choose the sign of each axis so that its sum is positive: an axis and its opposite are the same."""
    sign = torch.sign(axes.sum(0))
    return axes * torch.where(sign == 0, 1.0, sign)


def _principal(x: Float[Tensor, "node feature"], size: int) -> tuple[Tensor, Tensor]:
    """Mean, and the leading principal axes, (feature, size), along each of which the variance is 1."""
    mean, std = x.mean(0), x.std(0, correction=0)
    x = (x - mean) / std.clamp(min=1e-9 + 1e-6 * mean.abs())
    _, value, axes = torch.linalg.svd(x, full_matrices=False)
    # an axis along which the training vectors do not vary gets zeros
    spread = value[:size] / len(x) ** 0.5
    weight = axes[:size].T * torch.where(spread > 1e-3 * spread[0] + 1e-9, 1 / spread.clamp(min=1e-9), 0.0)
    found = x.new_zeros(x.shape[1], size)
    found[:, : weight.shape[1]] = weight / std.clamp(min=1e-9 + 1e-6 * mean.abs())[:, None]
    return mean, _turned(found)


def fit_bases(graphs: Graphs, least: int = 1) -> dict[str, Basis]:
    """Learn the basis of each node type with enough vectors of enough patients.

    Parameters
    ----------
    graphs : Graphs
        Training graphs only, one landmark per patient.
    least : int
        Patients with vectors that a basis needs, default 1; ten vectors are needed in any case.

    Returns
    -------
    dict of str to Basis
    """
    events = [kind for kind in graphs.nodes if kind != "timepoint"]
    return {
        kind: Basis.fit(graphs[kind], least)
        for kind in events
        if graphs[kind].vector.shape[1]
        and len(graphs[kind]) >= MIN_VECTORS
        and len(graphs[kind].owner.unique()) >= least
    }
