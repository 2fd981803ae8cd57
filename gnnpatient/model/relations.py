"""The attributes of relations as channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gnnpatient.model.table import ATTRIBUTES, NodeTable, Relation, code_names
from gnnpatient.model.vocabulary import Vocabulary

BY_CODE = ("same", "first")  # the change along these has a slope of its own per code
CHANGE = ATTRIBUTES.index("change")


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
        Relations between rows that are used.
    """

    def __init__(self, vocabulary: Vocabulary, channels: int, relations: Sequence[str]):
        super().__init__()
        self.names, self.channels = tuple(relations), channels
        self.by_code = tuple(name for name in self.names if name in BY_CODE)
        columns = len(self.names) * len(ATTRIBUTES)
        self.linear = nn.Parameter(torch.empty(columns, channels).uniform_(-0.4, 0.4))
        self.slope = nn.Parameter(
            0.5 * torch.randn(len(code_names(vocabulary)), len(self.by_code) * channels)
        )

    def forward(self, relation: Relation, name: str, code: Int[Tensor, " row"]) -> Tensor:
        """Encode the attributes of one relation.

        Parameters
        ----------
        relation : Relation
            Its edges.
        name : str
            Its name.
        code : Int[Tensor, " row"]
            Code of each row.

        Returns
        -------
        Float[Tensor, "edge channel"]
            Zeros of a relation that is not used.
        """
        attribute = relation.attribute
        if name not in self.names:
            return attribute.new_zeros(len(attribute), self.channels)
        i = self.names.index(name)
        x = attribute @ self.linear[i * len(ATTRIBUTES) : (i + 1) * len(ATTRIBUTES)]
        if name in self.by_code:
            j = self.by_code.index(name) * self.channels
            slope = self.slope[:, j : j + self.channels].index_select(0, code[relation.target])
            x = x + attribute[:, CHANGE, None] * slope
        return x

    def arriving(self, table: NodeTable) -> Float[Tensor, "row channel"]:
        """The encoded attributes, averaged over the edges of a relation into a row, summed over relations.

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
        k, rows = len(self.names), table.rows
        slot = torch.add(table.relation, table.target, alpha=k)
        mean = table.x.new_zeros(rows * k, len(ATTRIBUTES))
        mean = mean.index_add_(0, slot, table.attribute * table.share).view(rows, k, len(ATTRIBUTES))
        x = mean.flatten(1) @ self.linear
        if self.by_code:
            place = self.names.index(self.by_code[0])  # they stand together
            change = mean[:, place : place + len(self.by_code), CHANGE, None]
            slope = self.slope.index_select(0, table.code).view(rows, len(self.by_code), self.channels)
            x = x + (slope * change).sum(1)
        return x


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

        return {
            name: EncodedRelation(relation, partial(self.encoder, relation, name, self.code))
            for name, relation in super().relations.items()
        }
