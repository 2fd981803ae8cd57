"""Encoders: the content of nodes as channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnnpatient.errors import InputError, near
from gnnpatient.model.table import FEATURES, NodeTable, code_names, named_codes
from gnnpatient.model.vocabulary import Vocabulary

OWN_SHARE = 0.1  # by which the own embedding of a code with ancestors is multiplied


class CodeEmbedding(nn.Module):
    """A vector for each code: its own, and the sum of those that it shares with all codes below an ancestor.

    So a thousand rare codes of a family speak with one voice, and each keeps a quiet one of its own. Position
    0 of each node type, the rare and unknown, starts at zero.

    Parameters
    ----------
    vocabulary : Vocabulary
        Names and scales of the training graphs.
    channels : int
        Channels of a node.
    """

    _place: Tensor
    _above: Tensor
    _share: Tensor

    def __init__(self, vocabulary: Vocabulary, channels: int):
        super().__init__()
        names = code_names(vocabulary)
        kinds = vocabulary.ancestors
        ancestors = [
            a for kind, codes in vocabulary.codes.items() for a in kinds.get(kind, [()] * len(codes))
        ]
        shared = {name: i for i, name in enumerate(dict.fromkeys(a for above in ancestors for a in above))}
        pairs = [(i, shared[name]) for i, above in enumerate(ancestors) for name in above]
        place, above = torch.tensor(pairs, dtype=torch.long).view(-1, 2).unbind(1)
        self.register_buffer("_place", place, persistent=False)
        self.register_buffer("_above", above, persistent=False)
        share = torch.tensor([OWN_SHARE if above else 1.0 for above in ancestors])[:, None]
        self.register_buffer("_share", share, persistent=False)
        self.own = nn.Parameter(torch.randn(len(names), channels) * named_codes(vocabulary))
        self.shared = nn.Parameter(torch.randn(len(shared), channels))

    def forward(self) -> Float[Tensor, "code channel"]:
        """The vectors of all codes.

        Returns
        -------
        Float[Tensor, "code channel"]
        """
        if not len(self._place):
            return self.own
        return (self.own * self._share).index_add(0, self._place, self.shared.index_select(0, self._above))


def _made(encoder: type, features: int, channels: int) -> nn.Module:
    """An encoder of the user's own."""
    try:
        made: nn.Module = encoder(features, channels)
    except (TypeError, ValueError) as error:
        name = encoder.__name__
        raise InputError(f"encoder {name}: cannot be made by {name}(features, channels): {error}") from error
    return made


def checked(what: str, module: nn.Module, shape: Sequence[int], *given: Any) -> Tensor:
    """What a module of the user's own gives: its faults are told by its name.

    Parameters
    ----------
    what : str
        What it is, with its name.
    module : torch.nn.Module
        The module.
    shape : sequence of int
        Of what its `forward` must give.
    *given
        What it is called with.

    Returns
    -------
    Tensor

    Raises
    ------
    InputError
        When it is of another shape, or `forward` fails.
    """
    try:
        more = module(*given)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, InputError | torch.OutOfMemoryError):
            raise
        found = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"{what}: forward failed, {found}") from error
    if not isinstance(more, Tensor) or more.shape != shape:
        gave = tuple(more.shape) if isinstance(more, Tensor) else type(more).__name__
        raise InputError(f"{what}: forward gave {gave}; must be {tuple(shape)}, a row for each that it got")
    return more


class NodeEncoder(nn.Module):
    """Every node's own content as channels.

    A row: its code, its value by a slope of its code, whether it is missing, a bound, a running interval, its
    age and duration, and the embedding of its image or text. A timepoint: its age. A patient: the statics.

    Parameters
    ----------
    vocabulary : Vocabulary
        Names and scales of the training graphs.
    channels : int
        Channels of a node.
    encoders : mapping of str to type
        Classes of the user's own by node type, made by ``encoder(features, channels)``: what ``forward(x)``
        gives for (row, feature), `gnnpatient.model.table.FEATURES` and then the axes of the vectors, is added
        to the rows of that type.
    """

    def __init__(
        self, vocabulary: Vocabulary, channels: int, encoders: Mapping[str, type[nn.Module]] | None = None
    ):
        super().__init__()
        names = code_names(vocabulary)
        self.code = CodeEmbedding(vocabulary, channels)
        self.slope = nn.Parameter(0.5 * torch.randn(len(names), channels))
        self.features = nn.Linear(len(FEATURES), channels, bias=False)
        axes = max((axes.kept for axes in vocabulary.vectors.values()), default=0)
        kinds = list(vocabulary.codes)
        self.with_vectors = tuple(kinds.index(kind) for kind in vocabulary.vectors)
        self.vector = nn.ModuleList(nn.Linear(axes, channels, bias=False) for _ in vocabulary.vectors)
        for kind in encoders or {}:
            if kind not in kinds:
                raise InputError(f"an encoder of an unknown node type {kind!r}{near(kind, kinds)}")
        self.with_own = tuple(kinds.index(kind) for kind in encoders or {})
        self.own = nn.ModuleList(
            _made(one, len(FEATURES) + axes, channels) for one in (encoders or {}).values()
        )
        self.timepoint = nn.Linear(2, channels)
        self.static = nn.Linear(2 + 2 * len(vocabulary.numbers), channels)
        sizes = [2 + len(names) for names in vocabulary.levels.values()]
        self.level = nn.ParameterList(
            torch.cat([torch.zeros(2, channels), 0.5 * torch.randn(size - 2, channels)]) for size in sizes
        )

    def timepoints(self, table: NodeTable) -> Float[Tensor, "timepoint channel"]:
        """Encode the timepoints.

        Parameters
        ----------
        table : NodeTable
            A batch of landmarks.

        Returns
        -------
        Float[Tensor, "timepoint channel"]
        """
        return cast(Tensor, self.timepoint(table.timepoint_x))

    def rows(self, table: NodeTable) -> Float[Tensor, "row channel"]:
        """Encode the rows.

        Parameters
        ----------
        table : NodeTable
            A batch of landmarks.

        Returns
        -------
        Float[Tensor, "row channel"]
        """
        both = torch.cat([self.code(), self.slope], 1).index_select(0, table.code)
        own, slope = both.chunk(2, 1)
        x = torch.addcmul(own + self.features(table.x), slope, table.x[:, :1])
        for kind, vector in zip(self.with_vectors, self.vector, strict=True):
            x = x + vector(table.vector) * (table.kind == kind)[:, None]
        for kind, encoder in zip(self.with_own, self.own, strict=True):
            row = (table.kind == kind).nonzero()[:, 0]
            features = torch.cat([table.x[row], table.vector[row]], 1)
            more = checked(f"encoder {type(encoder).__name__}", encoder, x[row].shape, features)
            x = x.index_add(0, row, more)
        return x

    def patients(self, table: NodeTable) -> Float[Tensor, "landmark channel"]:
        """Encode the statics.

        Parameters
        ----------
        table : NodeTable
            A batch of landmarks.

        Returns
        -------
        Float[Tensor, "landmark channel"]
        """
        x = self.static(table.static)
        for embedding, level in zip(self.level, table.level.unbind(1), strict=True):
            x = x + embedding.index_select(0, level)
        return x
