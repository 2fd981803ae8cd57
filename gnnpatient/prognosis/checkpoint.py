"""Models and the states of a fit on disk: safetensors and JSON, whole or not at all. None can hold code."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gnnpatient.errors import InputError
from gnnpatient.files import atomic_file, atomic_folder, file_hash, is_name, is_sealed, sealed
from gnnpatient.model.model import PatientGNN
from gnnpatient.prognosis.card import card
from gnnpatient.prognosis.disclosure import disclosed
from gnnpatient.prognosis.predictor import Predictor

FORMAT = 5
HEADER_LIMIT = 16 * 2**20  # bytes; a header larger than this is an attack or an accident


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _named(text: str) -> str:
    if not is_name(text):
        raise ValueError("not a name")
    return text


Name = Annotated[str, AfterValidator(_named)]  # of which a path may be made


class ScaleConfig(Closed):
    mean: list[float]
    std: list[float]
    log: list[bool]
    heaps: list[bool]


class AxesConfig(Closed):
    columns: int = Field(ge=1)
    kept: int = Field(ge=1)
    lasting: int = Field(ge=0)
    drifting: int = Field(ge=0)


class VocabularyConfig(Closed):
    codes: dict[str, list[str]]
    above: dict[str, list[str]]
    rare: list[str]
    numbers: list[str]
    levels: dict[str, list[str]]
    values: dict[str, ScaleConfig]
    times: dict[str, ScaleConfig]
    vectors: dict[str, AxesConfig]
    running: list[str]
    bounded: list[str] = []


class SurvivalHeadConfig(Closed):
    kind: Literal["survival"]
    causes: list[Name]
    times: list[float]


class DiagnosisHeadConfig(Closed):
    kind: Literal["diagnosis"]
    classes: list[Name]


class NetworkConfig(Closed):
    config: dict[str, bool | int | float | str]
    vocabulary: VocabularyConfig
    edge_types: list[list[str]]
    heads: dict[Name, SurvivalHeadConfig | DiagnosisHeadConfig] = Field(min_length=1)


class NullsConfig(Closed):
    days: list[float | None]  # None: entry, whenever that is
    tables: list[list[list[float]] | list[float]]


class Config(Closed):
    """What config.json holds; read from outside, so every place of it has a type."""

    format: int
    choices: dict[str, Any]
    kinds: list[str] | None
    members: int = Field(ge=1)
    model: NetworkConfig
    null: dict[str, list[list[float]] | list[float]]
    about: dict[str, Any]
    nulls: dict[str, NullsConfig] = {}
    weights: str  # sha256 of model.safetensors
    digest: str  # of all that stands above it


@dataclass(frozen=True)
class State:
    """Where a member's training stands: tensors, and numbers that JSON holds exactly."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def write_state(path: Path, state: State) -> None:
    """One file, in one step: the older one stays until the new one is whole."""
    with atomic_file(path) as part:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
        facts = json.dumps(state.facts)
        save_file(tensors, part, metadata={"facts": facts, "digest": _digest(tensors, facts)})


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_state(path: Path, sha256: str | None = None) -> State:
    """Tensors and facts of a safetensors file; refused if it is cut, changed, not finite, or something else.

    sha256: of the file as it should be; without it, what `write_state` put into the file counts.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(8)
            size = struct.unpack("<Q", raw)[0] if len(raw) == 8 else None
        if size is None or size > min(HEADER_LIMIT, path.stat().st_size):
            raise InputError(f"{path}: not a safetensors file, or cut; get it again")
        with safe_open(path, "pt") as opened:
            about = opened.metadata() or {}
            facts = json.loads(about.get("facts", "{}"))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}; get it again") from None
    except json.JSONDecodeError:
        raise InputError(f"{path}: its facts are not JSON; get it again") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InputError(f"{path}: weights not finite ({name}); this model answers nothing")
    if sha256 is None and about.get("digest") != _digest(tensors, about.get("facts", "")):
        raise InputError(f"{path}: its content is not what was written; get it again, or begin a new run")
    if sha256 is not None and file_hash(path) != sha256:
        raise InputError(f"{path}: not the weights that its config.json was written with; get it again")
    return State(tensors, facts)


def save_predictor(predictor: Predictor, folder: str | Path, choices: Mapping[str, Any]) -> None:
    """Write a model as a folder: config.json, model.safetensors, README.md (its card), without a patient."""
    with atomic_folder(folder) as part:
        config = {
            "format": FORMAT,
            "choices": dict(choices),
            "kinds": predictor.kinds,
            "members": len(predictor.modules),
            "model": predictor.modules[0].to_dict(),
            "null": {name: table.tolist() for name, table in predictor.null.items()},
            "about": disclosed(predictor.about, int(choices.get("min_patients", 1))),
            "nulls": {
                name: {"days": [None if d != d else d for d in days.tolist()], "tables": tables.tolist()}
                for name, (days, tables) in predictor.nulls.items()
            },
        }
        tensors = {
            f"{i}.{name}": tensor.detach().cpu().contiguous()
            for i, module in enumerate(predictor.modules)
            for name, tensor in module.state_dict().items()
        }
        save_file(tensors, part / "model.safetensors")
        config["weights"] = file_hash(part / "model.safetensors")
        # numpy's numbers come in with the choices, from a grid search
        text = sealed(config, allow_nan=False, default=lambda x: x.tolist())
        Config.model_validate(json.loads(text))  # what could not be read again is our mistake, found here
        (part / "config.json").write_text(text, encoding="utf-8")
        (part / "README.md").write_text(card(config), encoding="utf-8")


def load_predictor(folder: str | Path) -> Predictor:
    """Load a model to ask it: the folder of `save_pretrained`, or the run that holds it."""
    return read_model(folder)[0]


def read_config(folder: str | Path) -> tuple[Path, dict[str, Any]]:
    """The folder that holds the model, and its config.json; refused where an accident or an edit changed it.

    The digest is no signature: who changes the file on purpose can compute it anew.
    """
    path = Path(folder)
    if (path / "model" / "config.json").is_file():
        path = path / "model"
    if path.is_file() or not (path / "config.json").is_file():
        held = (
            "a file" if path.is_file() else "no folder with a config.json" if path.exists() else "not there"
        )
        raise InputError(
            f"{folder}: {held}; a model is a folder of save_pretrained (config.json, model.safetensors), "
            "and nothing else is loaded"
        )
    try:
        raw = (path / "config.json").read_bytes()
        config = json.loads(raw.decode("utf-8"))
        if config["format"] != FORMAT:
            raise InputError(f"{path}: format {config['format']}, this version reads {FORMAT}; fit it again")
        Config.model_validate(config)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path / 'config.json'}: not the config of a gnnpatient model; get it again"
        ) from None
    if not is_sealed(raw):
        raise InputError(
            f"{path / 'config.json'}: not as it was written, its digest does not fit; get the model again"
        )
    return path, config


def read_model(folder: str | Path) -> tuple[Predictor, dict[str, Any]]:
    """The predictor and the choices that it was fitted with."""
    path, config = read_config(folder)
    tensors = read_state(path / "model.safetensors", config["weights"]).tensors
    try:
        modules = tuple(
            _module(config["model"], from_states(str(i), tensors)) for i in range(config["members"])
        )
        null = {name: np.array(table, np.float64) for name, table in config["null"].items()}
        for name in modules[0].outcomes:
            if null[name].shape != modules[0].head(name).config.shape:
                raise ValueError(f"null of {name!r}")
        found = config.get("nulls", {})
        nulls = {n: (np.array(of["days"], float), np.array(of["tables"])) for n, of in found.items()}
        for name, (days, tables) in nulls.items():
            if not len(days) or tables.shape != (len(days), *null[name].shape):
                raise ValueError(f"nulls of {name!r}")
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path}: config.json and model.safetensors do not fit together ({reason})"
        ) from None
    kinds = None if config["kinds"] is None else tuple(config["kinds"])
    return Predictor(modules, kinds, null, config["about"], nulls), config["choices"]


def _module(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> PatientGNN:
    """A member. The numbers that could make it large are first seen to be those of its tensors."""
    if not config["config"]["num_layers"] <= len(tensors):
        raise ValueError("num_layers")
    sizes = {size for tensor in tensors.values() for size in tensor.shape}
    if config["config"]["channels"] not in sizes:
        raise ValueError("channels")
    for kind, axes in config["vocabulary"]["vectors"].items():
        if not (
            {axes["columns"], axes["kept"], axes["drifting"]} <= sizes and axes["lasting"] <= axes["kept"]
        ):
            raise ValueError(f"vectors of {kind!r}")
    with torch.random.fork_rng([]):  # made on the CPU
        module = PatientGNN.from_dict(config)
    module.load_state_dict(tensors)
    if not all(buffer.isfinite().all() for buffer in module.buffers()):
        raise ValueError("numbers not finite")
    return module.eval()


def to_states(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def from_states(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's moments and steps, by position of the parameter."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, entry in state.items() for name, value in entry.items()}


def set_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took out."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        position, name = key.split(".", 1)
        state.setdefault(int(position), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
