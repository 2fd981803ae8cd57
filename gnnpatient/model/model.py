"""The network: encode the nodes, pass messages, run along time, pool, predict each outcome.

What the model is: every row of a patient's record is a node that hears what came before it and what ran
beside it, and a state runs over the rows along time; the pools keep of each series and of the patient the
mean, the sum, the highest and the spread, from which each outcome has a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnnpatient.errors import InputError, near
from gnnpatient.graphs import Graphs
from gnnpatient.model.basis import Basis, fit_bases
from gnnpatient.model.encode import NodeEncoder
from gnnpatient.model.heads import HeadConfig, head_config, make_head
from gnnpatient.model.layers import LAYERS, added, layer_class, make_layer
from gnnpatient.model.pool import RowPool, SeriesPool
from gnnpatient.model.recurrence import AlongTime
from gnnpatient.model.relations import EncodedTable, RelationEncoder
from gnnpatient.model.table import RELATIONS, NodeTable, named_codes, tabulate
from gnnpatient.model.values import LastValue, ProgressionConfig
from gnnpatient.model.vocabulary import BETWEEN_ROWS, Vocabulary, fit_vocabulary

BASIS = ("_mean_", "_axes_")  # how the names of the principal axes begin among the tensors of a network


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The size and the kind of the network.

    Attributes
    ----------
    channels : int
        Channels of a node, default 32.
    num_layers : int
        Rounds of messages, default 1.
    dropout : float
        Share that a head drops in training, from 0 to below 1, default 0.3.
    conv : str or type
        A key of `gnnpatient.model.layers.LAYERS`, default ``"temporal"``; or a layer's class, also of PyG.
    relations : tuple of str
        Relations that are used, default all of `gnnpatient.model.table.RELATIONS`.
    node_dropout : float
        Share of the rows that is left out in training, default 0.
    encoders : mapping of str to type or None
        Encoders of the user's own by node type, see `gnnpatient.model.encode.NodeEncoder`; default none.

    Raises
    ------
    InputError
        When a share is not from 0 to below 1, `channels` or `num_layers` is below 1, a relation or a layer is
        unknown, an encoder is no class, or two classes have the same name.
    """

    channels: int = 32
    num_layers: int = 1
    dropout: float = 0.3
    conv: str | type = "temporal"
    relations: tuple[str, ...] = RELATIONS
    node_dropout: float = 0.0
    encoders: Mapping[str, type] | None = None

    def __post_init__(self) -> None:
        for name in ("dropout", "node_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}; must be >= 0 and < 1")
        for name in ("channels", "num_layers"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}; must be >= 1")
        object.__setattr__(self, "relations", tuple(self.relations))
        for name in self.relations:
            if name not in RELATIONS:
                raise InputError(f"unknown relation {name!r}{near(name, RELATIONS)}")
        layer_class(self.conv)
        if not isinstance(self.encoders, Mapping | None):
            raise InputError(
                f"encoders = {self.encoders!r}; must be classes by node type, as in {{'lab': X}}"
            )
        for kind, encoder in (self.encoders or {}).items():
            if not (isinstance(encoder, type) and issubclass(encoder, nn.Module)):
                raise InputError(
                    f"encoder of {kind!r}: must be a class of modules, made by X(features, channels)"
                )
        for one in (self.conv, *(self.encoders or {}).values()):
            if isinstance(one, type) and self.own[one.__name__] is not one:
                raise InputError(f"two classes called {one.__name__!r}; a saved model names them: rename one")

    @property
    def own(self) -> dict[str, type]:
        """Classes of the user's own, by the names that a saved model has for them."""
        classes = (self.conv, *(self.encoders or {}).values())
        return {one.__name__: one for one in classes if isinstance(one, type)}

    def to_dict(self) -> dict[str, Any]:
        """The fields as strings and numbers.

        Returns
        -------
        dict
            Classes by their names.
        """
        conv = self.conv if isinstance(self.conv, str) else self.conv.__name__
        encoders = {kind: encoder.__name__ for kind, encoder in (self.encoders or {}).items()}
        return asdict(self) | {"conv": conv, "relations": list(self.relations), "encoders": encoders}

    @staticmethod
    def from_dict(data: Mapping[str, Any], layers: Mapping[str, type] | None = None) -> ModelConfig:
        """Read what `to_dict` gave.

        Parameters
        ----------
        data : mapping
            The fields.
        layers : mapping of str to type, optional
            Classes of the user's own, by their names.

        Returns
        -------
        ModelConfig

        Raises
        ------
        InputError
            When its layer or an encoder is a class of the user's own that is not among `layers`.
        """
        conv, encoders, given = data["conv"], dict(data["encoders"]), layers or {}
        own = dict.fromkeys((*(() if conv in LAYERS else (conv,)), *encoders.values()))
        if any(name not in given for name in own):
            mapping = ", ".join(f"{name!r}: {name}" for name in own)
            raise InputError(
                f"it takes classes of the user's own, which no model folder holds; from Python: "
                f"layers={{{mapping}}}, as in load_predictor(folder, layers=...)"
            )
        encoders = {kind: given[name] for kind, name in encoders.items()}
        conv = conv if conv in LAYERS else given[conv]
        return ModelConfig(
            **{**data, "conv": conv, "relations": tuple(data["relations"]), "encoders": encoders}
        )


class PatientGNN(nn.Module):
    """The network: graphs in; log hazards (survival) or log probabilities (diagnosis) out.

    What `to_dict` gives and the tensors of `state_dict` are the whole model; neither holds a patient.

    Parameters
    ----------
    config : ModelConfig
        Size and kind of the network.
    vocabulary : Vocabulary
        Names and scales of the training graphs.
    heads : mapping of str to HeadConfig
        What is predicted of each outcome, by its name.
    bases : mapping of str to Basis, optional
        Principal axes of the vectors of each node type, from `fit_bases`; default zeros, to be loaded.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocabulary: Vocabulary,
        heads: Mapping[str, HeadConfig],
        bases: Mapping[str, Basis] | None = None,
    ):
        super().__init__()
        self.config, self.vocabulary, self.outcomes = config, vocabulary, tuple(heads)
        c = config.channels
        self.encode = NodeEncoder(vocabulary, c, config.encoders)
        names = tuple(name for name in vocabulary.relations if name in config.relations)
        between = tuple(name for name in config.relations if name not in BETWEEN_ROWS)
        self.relations = RelationEncoder(vocabulary, c, names)
        self.layers = nn.ModuleList(
            make_layer(config.conv, c, (*names, *between)) for _ in range(config.num_layers)
        )
        self.rows_only = all(getattr(layer, "rows_only", False) for layer in self.layers)
        sequence = any(getattr(layer, "sequence", False) for layer in self.layers)
        self.along = None if sequence else AlongTime(2 * c, c)
        self.project = nn.Identity() if sequence else nn.Linear(4 * c, 2 * c, bias=False)
        self.pool = (RowPool if sequence else SeriesPool)(named_codes(vocabulary), 2 * c, 2 * c)
        self.heads = nn.ModuleList(
            make_head(head, self.pool.size + c, config.dropout) for head in heads.values()
        )
        self.last = nn.ModuleDict(  # what a head reads beside the pools
            {
                str(i): LastValue(head, vocabulary)
                for i, head in enumerate(heads.values())
                if isinstance(head, ProgressionConfig)
            }
        )
        for i, (kind, axes) in enumerate(vocabulary.vectors.items()):
            basis = (bases or {}).get(kind)
            empty = torch.zeros(axes.columns), torch.zeros(axes.columns, axes.kept)
            mean, directions = empty if basis is None else (basis.mean.clone(), basis.axes.clone())
            self.register_buffer(f"_mean_{i}", mean)
            self.register_buffer(f"_axes_{i}", directions)

    @staticmethod
    def for_graphs(
        graphs: Graphs,
        heads: Mapping[str, HeadConfig],
        *,
        least: int = 1,
        **config: Any,
    ) -> PatientGNN:
        """Make a network for graphs like these.

        Parameters
        ----------
        graphs : Graphs
            Training graphs only, one landmark a patient; names and scales are learned from them.
        heads : mapping of str to HeadConfig
            What is predicted of each outcome, by its name.
        least : int
            Patients that a name, a scale or a fact needs to be kept, default 1.
        **config
            As in `ModelConfig`.

        Returns
        -------
        PatientGNN

        Examples
        --------
        >>> from gnnpatient import build_graphs
        >>> from gnnpatient.datasets.shipped import pbc
        >>> from gnnpatient.model.heads import SurvivalConfig
        >>> graphs = build_graphs(pbc().at(400))
        >>> death = SurvivalConfig(causes=("death",), times=(365.0, 730.0))
        >>> network = PatientGNN.for_graphs(graphs, {"death": death}, channels=16)
        >>> network(graphs)["death"].shape                             # (landmark, 1 + cause, time)
        torch.Size([312, 2, 2])
        """
        bases = fit_bases(graphs, least)
        vocabulary = fit_vocabulary(graphs, bases, least)
        return PatientGNN(ModelConfig(**config), vocabulary, heads, bases)

    def forward(self, graphs: Graphs | NodeTable) -> dict[str, Float[Tensor, "landmark _ ..."]]:
        """Predict every outcome at every landmark, as logarithms.

        `head(outcome)` turns them into a loss or a prediction.

        Parameters
        ----------
        graphs : Graphs or NodeTable
            A batch of landmarks; a table is that of `tabulate`.

        Returns
        -------
        dict of str to Float[Tensor, "landmark _ ..."]
            Of a survival outcome log hazards (landmark, 1 + cause, time) with slot 0 event-free; of a
            diagnosis log probabilities (landmark, class); of a progression those of being seen and of each
            bin (landmark, 1 + bin, time).
        """
        table = graphs if isinstance(graphs, NodeTable) else self.tabulate(graphs)
        z = self.embed(table)  # (landmark, channel)
        beside = {i: (last(table),) for i, last in self.last.items()}
        return {
            name: head(z, *beside.get(str(i), ()))
            for i, (name, head) in enumerate(zip(self.outcomes, self.heads, strict=True))
        }

    def embed(self, graphs: Graphs | NodeTable) -> Float[Tensor, "landmark channel"]:
        """What the heads read of each landmark.

        Parameters
        ----------
        graphs : Graphs or NodeTable
            A batch of landmarks.

        Returns
        -------
        Float[Tensor, "landmark channel"]
            The pools, then the state of the patient.
        """
        table = graphs if isinstance(graphs, NodeTable) else self.tabulate(graphs)
        table = table.restrict(self.config.relations)
        view = EncodedTable.of(table, self.relations)
        linear = self.encode.rows(table) + self.relations.arriving(table)  # (row, channel)
        rows, patients = linear, self.encode.patients(table)
        if self.rows_only:
            for layer in self.layers:
                rows = rows + added(layer, rows, view)
        else:
            x = torch.cat([rows, self.encode.timepoints(table), patients])  # (node, channel)
            for layer in self.layers:
                x = x + added(layer, x, view)
            rows, _, patients = x.split([len(rows), len(x) - len(rows) - len(patients), len(patients)])
        state = torch.cat([linear, rows], 1)  # (row, 2 channel), linear and not
        if self.along is not None:
            state = torch.cat([state, self.along(state, table)], 1)  # (row, 4 channel)
        return torch.cat([self.pool(self.project(state), table), patients], 1)

    def tabulate(self, graphs: Graphs) -> NodeTable:
        """Make the input of this network, see `gnnpatient.model.table.tabulate`.

        Parameters
        ----------
        graphs : Graphs
            In the cohort's own codes.

        Returns
        -------
        NodeTable
        """
        return tabulate(graphs, self.vocabulary, self.bases())

    def bases(self) -> dict[str, Basis]:
        """The principal axes of the vectors of each node type.

        Returns
        -------
        dict of str to Basis
        """
        return {
            kind: Basis(self.get_buffer(f"_mean_{i}"), self.get_buffer(f"_axes_{i}"))
            for i, kind in enumerate(self.vocabulary.vectors)
        }

    def head(self, outcome: str) -> Any:
        """The head of an outcome.

        Parameters
        ----------
        outcome : str
            Name of the outcome.

        Returns
        -------
        Head

        Raises
        ------
        InputError
            When the model has no such outcome.
        """
        if outcome not in self.outcomes:
            raise InputError(f"outcome {outcome!r}; this model has {', '.join(self.outcomes)}")
        return self.heads[self.outcomes.index(outcome)]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the tensors, as lists, strings and numbers.

        Returns
        -------
        dict
            Keys ``config``, ``vocabulary`` and ``heads``, classes by their names.
        """
        return {
            "config": self.config.to_dict(),
            "vocabulary": self.vocabulary.to_dict(),
            "heads": {name: self.head(name).config.to_dict() for name in self.outcomes},
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any], layers: Mapping[str, type] | None = None) -> PatientGNN:
        """Make the same model with fresh tensors; `load_state_dict` brings the trained ones.

        Parameters
        ----------
        data : mapping
            What `to_dict` gave.
        layers : mapping of str to type, optional
            Classes of the user's own, by the names in the model.

        Returns
        -------
        PatientGNN
        """
        return PatientGNN(
            ModelConfig.from_dict(data["config"], layers),
            Vocabulary.from_dict(data["vocabulary"]),
            {name: head_config(head) for name, head in data["heads"].items()},
        )
