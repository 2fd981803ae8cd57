"""Models on disk, as safetensors and JSON, written whole or not at all. None of them can hold code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from safetensors.torch import save_file
from torch import Tensor

from gnnpatient.errors import InputError
from gnnpatient.files import atomic_folder, file_hash, is_name, is_sealed, sealed
from gnnpatient.model.basis import Basis
from gnnpatient.model.heads import HEADS, HeadConfig
from gnnpatient.model.vocabulary import Vocabulary
from gnnpatient.prognosis.card import card
from gnnpatient.prognosis.conformal import Calibration
from gnnpatient.prognosis.disclosure import disclosed
from gnnpatient.prognosis.families import FAMILIES
from gnnpatient.prognosis.predictor import Predictor
from gnnpatient.prognosis.problem import Family
from gnnpatient.prognosis.stack import MARGINAL, Stack
from gnnpatient.prognosis.states import from_states, on_their_own, read_state, to_states
from gnnpatient.prognosis.summary import FORMAT

CELLS = ("codes", "unit")  # of a head: words of the data, as in the vocabulary, of which no path is made


def _named(text: str) -> str:
    if not is_name(text):
        raise ValueError("not a name")
    return text


def _family_name(text: str) -> str:
    if text not in FAMILIES:
        raise ValueError("not a family")
    return text


def _named_slots(head: HeadConfig) -> HeadConfig:
    for key, value in head.to_dict().items():
        if key in CELLS:
            continue
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                _named(text)
    return head


Name = Annotated[str, AfterValidator(_named)]  # of which a path may be made
FamilyName = Annotated[str, AfterValidator(_family_name)]
if TYPE_CHECKING:
    _AnyHead = HeadConfig
else:
    _AnyHead = reduce(or_, (config for config, _ in HEADS.values()))

NamedHead = Annotated[_AnyHead, Field(discriminator="kind"), AfterValidator(_named_slots)]
# (start, slot, time), (1 + cause, time) or (class,)
Table = list[list[list[float]]] | list[list[float]] | list[float]


class _Closed(BaseModel):
    """A part of config.json."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Model(_Closed):
    vocabulary: Vocabulary
    heads: dict[Name, NamedHead] = Field(min_length=1)
    families: dict[FamilyName, dict[str, Any]] = Field(min_length=1)  # facts, see Family.load
    stacks: dict[Name, Stack]


class _LandmarkTables(_Closed):
    days: list[float | None]  # None: entry
    tables: list[Table]


class _Calibration(_Closed):
    method: Literal["cv+", "split"]
    patients: int | str
    scores: list[float]
    above: list[float]
    total: float
    cutoff: float | None
    until: float | None


class Config(_Closed):
    """The content of config.json. It is read from outside, so every place of it has a type.

    Attributes
    ----------
    format : int
        Version of the layout.
    choices : dict
        The parameters of `PrognosisModel`.
    kinds : tuple of str or None
        Node types that the model sees; None: all.
    members : int
        How often each family was fitted.
    model : _Model
        Names, scales, heads, families and their weights.
    null : dict
        The forecast without inputs, by outcome.
    about : dict
        Counts and names of the training data.
    nulls : dict
        The forecast without inputs at some landmark times, by outcome.
    calibrations : dict
        How surprising what came was, by outcome.
    weights : str
        sha256 of model.safetensors.
    digest : str
        Digest of all fields above it.
    """

    format: int
    choices: dict[str, Any]
    kinds: tuple[str, ...] | None
    members: int = Field(ge=1)
    model: _Model
    null: dict[str, Table]
    about: dict[str, Any]
    nulls: dict[str, _LandmarkTables] = {}
    calibrations: dict[str, _Calibration] = {}
    weights: str
    digest: str


def save_predictor(predictor: Predictor, folder: str | Path, choices: Mapping[str, Any]) -> None:
    """Write a model as a folder: config.json, model.safetensors and README.md (its card), without a patient.

    Parameters
    ----------
    predictor : Predictor
        The fitted families.
    folder : str or Path
        A new or empty folder.
    choices : mapping
        The parameters of `PrognosisModel`.

    Raises
    ------
    InputError
        When the folder is not empty or cannot be written.
    """
    with atomic_folder(folder) as part:
        config = {
            "format": FORMAT,
            "choices": dict(choices),
            "kinds": predictor.kinds,
            "members": predictor.members,
            "model": {
                "vocabulary": predictor.vocabulary.to_dict(),
                "heads": {name: head.to_dict() for name, head in predictor.heads.items()},
                "families": {name: family.facts() for name, family in predictor.families.items()},
                "stacks": {
                    name: stack.written(int(choices.get("min_patients", 1)))
                    for name, stack in predictor.stacks.items()
                },
            },
            "null": {name: table.tolist() for name, table in predictor.null.items()},
            "about": disclosed(predictor.about, int(choices.get("min_patients", 1))),
            "nulls": {
                name: {"days": [None if d != d else d for d in days.tolist()], "tables": tables.tolist()}
                for name, (days, tables) in predictor.nulls.items()
            },
            "calibrations": {
                name: one.written(int(choices.get("min_patients", 1)))
                for name, one in predictor.calibrations.items()
            },
        }
        tensors = {
            key: tensor
            for name, family in predictor.families.items()
            for key, tensor in to_states(name, family.tensors()).items()
        }
        for i, kind in enumerate(predictor.vocabulary.vectors):
            tensors |= to_states(f"vectors.{i}", vars(predictor.bases[kind]))
        save_file(on_their_own(tensors), part / "model.safetensors")
        config["weights"] = file_hash(part / "model.safetensors")
        # numpy's numbers come in with the choices, from a grid search
        text = sealed(config, allow_nan=False, default=lambda x: x.tolist())
        Config.model_validate_json(text)  # finds a model that could not be loaded again
        (part / "config.json").write_text(text, encoding="utf-8")
        (part / "README.md").write_text(card(config), encoding="utf-8")


def load_predictor(folder: str | Path, layers: Mapping[str, type] | None = None) -> Predictor:
    """Load a model to forecast with. Needs no scikit-learn, polars or torch-geometric.

    Parameters
    ----------
    folder : str or Path
        The folder of `PrognosisModel.save_pretrained`, or the run that holds it.
    layers : mapping of str to type, optional
        Classes of your own, layers and encoders, by the names that the model was fitted with, as in
        ``{"MyConv": MyConv}``: a model folder holds no code.

    Returns
    -------
    Predictor

    Raises
    ------
    InputError
        When it is no model, of another version, or a file was changed.
    """
    return read_model(folder, layers)[0]


def read_config(folder: str | Path) -> tuple[Path, dict[str, Any]]:
    """Read the config.json of a model.

    The digest in it is no signature: who changes the file on purpose can compute it anew.

    Parameters
    ----------
    folder : str or Path
        The folder of a model, or the run that holds it.

    Returns
    -------
    tuple of (Path, dict)
        The model's folder, and the content.

    Raises
    ------
    InputError
        When it is no model, of another version, or the file was changed.
    """
    path, raw, _ = _read_config(folder)
    return path, json.loads(raw)


def _read_config(folder: str | Path) -> tuple[Path, bytes, Config]:
    path = _model_folder(folder)
    file = path / "config.json"
    try:
        raw = file.read_bytes()
        version = json.loads(raw.decode("utf-8"))["format"]
        if version != FORMAT:
            raise InputError(f"{path}: format {version}, this version reads {FORMAT}; fit it again")
        config = Config.model_validate_json(raw)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file}: not the config of a gnnpatient model; download it again") from None
    if not is_sealed(raw):
        raise InputError(f"{file}: not as it was written, its digest does not fit; download the model again")
    return path, raw, config


def _model_folder(folder: str | Path) -> Path:
    """The folder itself, or the model of a run."""
    path = Path(folder)
    if (path / "model" / "config.json").is_file():
        path = path / "model"
    if path.is_file() or not (path / "config.json").is_file():
        content = (
            "a file" if path.is_file() else "no folder with a config.json" if path.exists() else "not there"
        )
        raise InputError(
            f"{folder}: {content}; a model is a folder of save_pretrained (config.json, model.safetensors), "
            "and nothing else is loaded"
        )
    return path


def read_model(
    folder: str | Path, layers: Mapping[str, type] | None = None
) -> tuple[Predictor, dict[str, Any]]:
    """Load a model and the choices that it was fitted with.

    Parameters
    ----------
    folder : str or Path
        The folder of a model, or the run that holds it.
    layers : mapping of str to type, optional
        Classes of the user's own, by their names.

    Returns
    -------
    tuple of (Predictor, dict)

    Raises
    ------
    InputError
        When it is no model, of another version, or a file was changed, or a class of the user's own is not
        given.
    """
    path, _, config = _read_config(folder)
    tensors = read_state(path / "model.safetensors", config.weights).tensors
    try:
        bases = _bases(config.model.vocabulary, tensors)
        families = _families(config, tensors, bases, layers)
        null, nulls = _marginals(config)
        if not set(config.calibrations) <= set(config.model.heads):
            raise ValueError("calibrations")
        calibrations = {name: Calibration.read(dict(one)) for name, one in config.calibrations.items()}
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError) as error:
        if isinstance(error, InputError):  # as where a class of the user's own is not given
            raise InputError(f"{path}: {error}") from None
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path}: config.json and model.safetensors do not fit together ({reason})"
        ) from None
    parts = families, config.model.stacks, config.model.heads, config.model.vocabulary, bases
    return Predictor(*parts, config.kinds, null, config.about, nulls, calibrations), config.choices


def _bases(vocabulary: Vocabulary, tensors: Mapping[str, Tensor]) -> dict[str, Basis]:
    """The principal axes of vectors, of the sizes that the vocabulary has for them."""
    found = dict[str, Basis]()
    for i, (kind, axes) in enumerate(vocabulary.vectors.items()):
        mean, directions = (tensors[f"vectors.{i}.{name}"] for name in ("mean", "axes"))
        shapes = (axes.columns,), (axes.columns, axes.kept)
        kinds = {mean.dtype, directions.dtype}
        if not axes.kept >= 1 or (mean.shape, directions.shape) != shapes or kinds != {torch.float32}:
            raise ValueError(f"vectors of {kind!r}")
        found[kind] = Basis(mean, directions)
    return found


def _families(
    config: Config,
    tensors: Mapping[str, Tensor],
    bases: Mapping[str, Basis],
    layers: Mapping[str, type] | None,
) -> dict[str, Family]:
    """The families. Each compares what could make it large with the sizes of its tensors."""
    model, found = config.model, dict[str, Family]()
    for name, facts in model.families.items():
        own = from_states(name, tensors)
        found[name] = FAMILIES[name].load(facts, own, model.vocabulary, bases, model.heads, layers)
        if found[name].members != config.members:
            raise ValueError(f"members of {name!r}")
    if set(model.stacks) != set(model.heads):
        raise ValueError("stacks")
    for stack in model.stacks.values():
        if not {*stack.weights, *stack.without_graph} <= {*found, MARGINAL}:
            raise ValueError("weights of a family that is not there")
    return found


def _marginals(
    config: Config,
) -> tuple[dict[str, np.ndarray], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """The forecasts without inputs, of all landmarks together and of some alone."""
    null = {name: np.array(table, np.float64) for name, table in config.null.items()}
    for name, head in config.model.heads.items():
        if null[name].shape != head.shape:
            raise ValueError(f"null of {name!r}")
    nulls = {n: (np.array(one.days, float), np.array(one.tables)) for n, one in config.nulls.items()}
    for name, (days, tables) in nulls.items():
        if not len(days) or tables.shape != (len(days), *null[name].shape):
            raise ValueError(f"nulls of {name!r}")
    return null, nulls
