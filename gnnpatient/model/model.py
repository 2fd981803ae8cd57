"""The whole network: encode, pass messages, read out, predict each outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnnpatient.errors import InputError
from gnnpatient.graphs import EdgeType, Graphs
from gnnpatient.model.encode import Encode
from gnnpatient.model.heads import DiagnosisHead, HeadConfig, SurvivalHead, head_config, make_head
from gnnpatient.model.network import Network, Readout
from gnnpatient.model.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The size and the kind of the network.

    Attributes
    ----------
    channels : int
        Channels of a node, default 32.
    num_layers : int
        Rounds of messages, default 2.
    dropout : float
        Share of the channels that is dropped in training, from 0 to below 1, default 0.3.
    conv : str
        ``"sage"`` (default), ``"gatv2"``, ``"hgt"`` or ``"transformer"``.
    linear : bool
        Whether a linear path leads from the last observations to each outcome, default True.
    node_dropout : float
        Share of the event nodes whose content is hidden in training, default 0.

    Raises
    ------
    InputError
        When a share is not from 0 to below 1, or `channels` is below 1.
    """

    channels: int = 32
    num_layers: int = 2
    dropout: float = 0.3
    conv: str = "sage"
    linear: bool = True
    node_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("dropout", "node_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}; must be >= 0 and < 1")
        if self.channels < 1:
            raise InputError(f"channels {self.channels}; must be >= 1")


class PatientGNN(nn.Module):
    """The network: graphs in; log hazards (survival) or log probabilities (diagnosis) out.

    What `to_dict` gives and the tensors of `state_dict` are the whole model; neither holds a patient.

    Parameters
    ----------
    config : ModelConfig
        Size and kind of the network.
    vocabulary : Vocabulary
        Names and scales of the training graphs.
    edge_types : sequence of (source, relation, target)
        Edge types that carry messages; those of unknown node types are left out.
    heads : mapping of str to HeadConfig
        What is predicted of each outcome, by its name.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocabulary: Vocabulary,
        edge_types: Sequence[EdgeType],
        heads: Mapping[str, HeadConfig],
    ):
        super().__init__()
        known = set(vocabulary.kinds)
        self.config, self.vocabulary, self.outcomes = config, vocabulary, tuple(heads)
        self.edge_types = tuple(edge for edge in edge_types if {edge[0], edge[2]} <= known)
        c = config.channels
        self.encode = Encode(vocabulary, c)
        self.network = Network(
            vocabulary.kinds, self.edge_types, c, config.num_layers, config.dropout, config.conv
        )
        self.readout = Readout(c)
        groups = self.encode.groups if config.linear else ()
        self.heads = nn.ModuleList(make_head(h, 3 * c, c, groups, config.dropout) for h in heads.values())

    def forward(self, graphs: Graphs) -> dict[str, Float[Tensor, "landmark _ ..."]]:
        """Predict every outcome at every landmark, as logarithms.

        `head(outcome)` turns them into a loss or a prediction.

        Parameters
        ----------
        graphs : Graphs
            A batch of graphs, one a landmark.

        Returns
        -------
        dict of str to Float[Tensor, "landmark _ ..."]
            Of a survival outcome log hazards (landmark, 1 + cause, time) with slot 0 event-free; of a
            diagnosis log probabilities (landmark, class).
        """
        x = self.hide(self.encode(graphs))  # {node type: (node, channel)}
        x = self.network(x, graphs)  # {"timepoint" | "patient": (node, channel)}
        z = self.readout(x, graphs)  # (landmark, 3 channel)
        last = self.encode.last_observation(graphs) if self.config.linear else None  # (landmark, feature)
        return {name: head(z, last) for name, head in zip(self.outcomes, self.heads, strict=True)}

    def hide(self, x: dict[str, Float[Tensor, "_ channel"]]) -> dict[str, Float[Tensor, "_ channel"]]:
        """In training, zero the content of a share of the event nodes.

        So graphs with hidden nodes stay familiar.

        Parameters
        ----------
        x : dict of str to Float[Tensor, "_ channel"]
            Encoded nodes by type.

        Returns
        -------
        dict of str to Float[Tensor, "_ channel"]
        """
        p = self.config.node_dropout
        if not (self.training and p):
            return x
        kept = {
            kind: torch.rand(len(x[kind]), 1, device=x[kind].device) >= p for kind in self.vocabulary.codes
        }
        return x | {kind: x[kind] * keep for kind, keep in kept.items()}

    def linear_penalty(self) -> Float[Tensor, ""]:
        """Sum of the squared coefficients of the linear paths.

        Returns
        -------
        Float[Tensor, ""]
            Zero without linear paths.
        """
        shifts = [head.shift for head in map(self.head, self.outcomes) if head.shift is not None]
        return torch.stack([shift.penalty() for shift in shifts]).sum() if shifts else torch.zeros(())

    def head(self, outcome: str) -> SurvivalHead | DiagnosisHead:
        """The head of an outcome.

        Parameters
        ----------
        outcome : str
            Name of the outcome.

        Returns
        -------
        SurvivalHead or DiagnosisHead

        Raises
        ------
        InputError
            When the model has no such outcome.
        """
        if outcome not in self.outcomes:
            raise InputError(f"outcome {outcome!r}; this model has {', '.join(self.outcomes)}")
        return self.heads[self.outcomes.index(outcome)]  # type: ignore[return-value]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the tensors, as lists, strings and numbers.

        Returns
        -------
        dict
            Keys ``config``, ``vocabulary``, ``edge_types`` and ``heads``.
        """
        return {
            "config": asdict(self.config),
            "vocabulary": self.vocabulary.to_dict(),
            "edge_types": [list(edge) for edge in self.edge_types],
            "heads": {name: self.head(name).config.to_dict() for name in self.outcomes},
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> PatientGNN:
        """Make the same model with fresh tensors; `load_state_dict` brings the trained ones.

        Parameters
        ----------
        data : mapping
            What `to_dict` gave.

        Returns
        -------
        PatientGNN
        """
        return PatientGNN(
            ModelConfig(**data["config"]),
            Vocabulary.from_dict(data["vocabulary"]),
            [(source, name, target) for source, name, target in data["edge_types"]],
            {name: head_config(head) for name, head in data["heads"].items()},
        )
