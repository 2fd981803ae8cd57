"""The attributes of relations as channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnnpatient.model.table import ATTRIBUTES, BETWEEN_ROWS, NodeTable, Relation, code_names
from gnnpatient.model.vocabulary import Vocabulary

BY_CODE = ("same", "first")  # the change along these has a slope of its own per code


class RelationEncoder(nn.Module):
    """The attributes of each relation between rows, as channels.

    Linear in the change and the gap, with a slope of its own for the change of each code, from the row before
    it and from the first of its series.

    Parameters
    ----------
    vocabulary : Vocabulary
        Names and scales of the training graphs.
    channels : int
        Channels of a node.
    relations : sequence of str
        Relations that are used.
    """

    def __init__(self, vocabulary: Vocabulary, channels: int, relations: Sequence[str]):
        super().__init__()
        self.names = tuple(name for name in BETWEEN_ROWS if name in relations)
        self.channels = channels
        self.by_code = tuple(name for name in self.names if name in BY_CODE)
        codes, size = len(code_names(vocabulary)), len(ATTRIBUTES) + 1  # and a bias: there is an edge
        self.linear = nn.Parameter(torch.empty(len(self.names) * size, channels).uniform_(-0.4, 0.4))
        self.slope = nn.Parameter(0.5 * torch.randn(codes, len(self.by_code) * channels))

    def forward(self, table: NodeTable, name: str) -> Float[Tensor, "edge channel"]:
        """Encode the attributes of one relation.

        Parameters
        ----------
        table : NodeTable
            A batch of landmarks.
        name : str
            A relation between rows.

        Returns
        -------
        Float[Tensor, "edge channel"]
            Zeros of a relation that is not used.
        """
        relation = table.edges[name]
        attribute = relation.attribute
        if name not in self.names:
            return attribute.new_zeros(len(attribute), self.channels)
        i, size = self.names.index(name), len(ATTRIBUTES) + 1
        weight = self.linear[i * size : (i + 1) * size]
        x = torch.addmm(weight[-1], attribute, weight[:-1])
        if name in self.by_code:
            j = self.by_code.index(name) * self.channels
            slope = self.slope[:, j : j + self.channels].index_select(0, table.code[relation.target])
            x = x + attribute[:, :1] * slope
        return x

    def arriving(self, table: NodeTable) -> Float[Tensor, "row channel"]:
        """The encoded attributes, averaged over the edges of each relation into a row, summed over relations.

        The same as the mean of `forward`, with sums before matrices: they are linear, and all the edges
        of a series have its code.

        Parameters
        ----------
        table : NodeTable
            A batch of landmarks.

        Returns
        -------
        Float[Tensor, "row channel"]
        """
        if not self.names:
            return table.x.new_zeros(table.rows, self.channels)
        means = {name: _mean_attribute(table.edges[name], table.rows) for name in self.names}
        x = torch.cat(list(means.values()), 1) @ self.linear
        if self.by_code:
            slope = self.slope.index_select(0, table.code).view(table.rows, len(self.by_code), self.channels)
            change = torch.stack([means[name][:, 0] for name in self.by_code], 1)
            x = x + (slope * change[:, :, None]).sum(1)
        return x


def _mean_attribute(relation: Relation, rows: int) -> Tensor:
    """Mean attribute of the edges into each row, and whether there is one."""
    x = nn.functional.pad(relation.attribute, (0, 1), value=1.0)
    total = x.new_zeros(rows, x.shape[1]).index_add_(0, relation.target, x)
    return total / total[:, -1:].clamp(min=1)


class EncodedRelation:
    """A relation as a layer sees it: its attributes as channels, computed when they are first read.

    Parameters
    ----------
    relation : Relation
        Its edges.
    attribute : callable
        Gives the encoded attributes.

    Attributes
    ----------
    source, target : Int[Tensor, " edge"]
        The nodes at both ends of each edge.
    """

    def __init__(self, relation: Relation, attribute: Callable[[], Tensor]):
        self.source, self.target, self._attribute = relation.source, relation.target, attribute

    @cached_property
    def attribute(self) -> Float[Tensor, "edge channel"]:
        """The encoded attributes of each edge."""
        return self._attribute()


@dataclass(frozen=True, eq=False)
class EncodedTable(NodeTable):
    """A table as a layer sees it: `relations` have encoded attributes.

    Attributes
    ----------
    encoder : RelationEncoder
        What encodes them.
    """

    encoder: RelationEncoder

    @staticmethod
    def of(table: NodeTable, encoder: RelationEncoder) -> EncodedTable:
        """Take over the columns of a table.

        Parameters
        ----------
        table : NodeTable
            A batch of landmarks.
        encoder : RelationEncoder
            What encodes the attributes.

        Returns
        -------
        EncodedTable
        """
        return EncodedTable(**{f.name: getattr(table, f.name) for f in fields(table)}, encoder=encoder)

    @cached_property
    def relations(self) -> dict[str, Any]:
        """Every relation by its name: `EncodedRelation`, with both ends as nodes."""

        def attribute(name: str, edges: int) -> Callable[[], Tensor]:
            if name in BETWEEN_ROWS:
                return lambda: self.encoder(self, name)
            return lambda: self.x.new_zeros(edges, self.encoder.channels)

        return {
            name: EncodedRelation(relation, attribute(name, len(relation.source)))
            for name, relation in super().relations.items()
        }
