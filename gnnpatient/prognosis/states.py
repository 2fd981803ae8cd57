"""States of a fit on disk, as safetensors with JSON beside, written whole or not at all; no code in them."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gnnpatient.errors import InputError
from gnnpatient.files import atomic_file, file_hash

HEADER_LIMIT = 16 * 2**20  # bytes; a header larger than this is an attack or an accident


@dataclass(frozen=True)
class State:
    """The state of a member's training.

    Attributes
    ----------
    tensors : mapping of str to Tensor
        Weights, averages and the optimizer's moments.
    facts : mapping
        Numbers and texts that JSON holds exactly.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def write_state(path: Path, state: State) -> None:
    """Write a state as one file, in one step: the older one stays until the new one is whole.

    Parameters
    ----------
    path : Path
        The file.
    state : State
        What to write.
    """
    with atomic_file(path) as part:
        tensors = on_their_own(state.tensors)
        facts = json.dumps(state.facts, default=lambda x: x.tolist())
        save_file(tensors, part, metadata={"facts": facts, "digest": _digest(tensors, facts)})


def on_their_own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU, so that none shares its memory with another, as a file wants them.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        By name.

    Returns
    -------
    dict of str to Tensor
    """
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def read_state(path: Path, sha256: str | None = None) -> State:
    """Read the tensors and facts of a safetensors file.

    Parameters
    ----------
    path : Path
        The file.
    sha256 : str, optional
        Of the file as it should be; default: the digest that `write_state` put into the file is checked.

    Returns
    -------
    State

    Raises
    ------
    InputError
        When the file is cut, changed, not finite, or not safetensors.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(8)
            size = struct.unpack("<Q", raw)[0] if len(raw) == 8 else None
        if size is None or size > min(HEADER_LIMIT, path.stat().st_size):
            raise InputError(f"{path}: not a safetensors file, or cut; download it again")
        with safe_open(path, "pt") as opened:
            about = opened.metadata() or {}
            facts = json.loads(about.get("facts", "{}"))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"{path}: {reason}; download it again") from None
    except json.JSONDecodeError:
        raise InputError(f"{path}: its facts are not JSON; download it again") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InputError(f"{path}: weights not finite ({name}); this model cannot forecast, fit it again")
    if sha256 is None and about.get("digest") != _digest(tensors, about.get("facts", "")):
        raise InputError(
            f"{path}: its content is not what was written; download it again, or begin a new run"
        )
    if sha256 is not None and file_hash(path) != sha256:
        raise InputError(f"{path}: not the weights that its config.json was written with; download it again")
    return State(tensors, facts)


def to_states(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put a prefix before the names of tensors.

    Parameters
    ----------
    prefix : str
        As "now" in "now.encode.missing".
    tensors : mapping of str to Tensor
        By name.

    Returns
    -------
    dict of str to Tensor
    """
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def from_states(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the tensors with a prefix, and remove it.

    Parameters
    ----------
    prefix : str
        As "now" in "now.encode.missing".
    tensors : mapping of str to Tensor
        By name.

    Returns
    -------
    dict of str to Tensor
    """
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def read_checkpoint(path: Path, fingerprint: str) -> State:
    """Read what a stopped fit left, if it is of the same fit.

    Parameters
    ----------
    path : Path
        The file.
    fingerprint : str
        From `Problem.fingerprint`; the facts have it as ``"fit"``.

    Returns
    -------
    State

    Raises
    ------
    InputError
        When it is of another fit.
    """
    state = read_state(path)
    if state.facts.get("fit") != fingerprint:
        raise InputError(
            f"{path}: of a fit with other choices or landmarks, or by another version; resume with the "
            "same, or start a new run"
        )
    return state
