"""What turns images or texts into vectors: a user's own encoder, and the record of every encoder."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnnpatient.content import texts
from gnnpatient.errors import InputError

Encode = Callable[[list[Any]], np.ndarray]  # pieces -> (piece, channel)


@dataclass(frozen=True)
class Encoder:
    """What is known before any weight is read: a call that finds all in the cache loads nothing."""

    name: str
    load: Callable[[str, int], Encode]  # device, batch size
    channels: int = 0  # 0: known once there is a vector
    words: int = texts.WORDS  # of a piece of text; the other two as in `texts.pieces`
    overlap: int = texts.OVERLAP
    limit: int = texts.LIMIT
    weights: bool = False  # runs in torch, on a device
    ahead: int = 1  # batches that it is given at once, so that texts of one length share one


def own_encoder(encoder: Callable, kept: bool) -> Encoder:
    """A user's callable, known by its attribute `name`, or by where it is defined.

    A method, or a function made in another one, shares that with all of its kind, whatever they were made
    with, so without a name their vectors are not kept.
    """
    name = getattr(encoder, "name", None)
    if not isinstance(name, str):
        name = f"{encoder.__module__}.{getattr(encoder, '__qualname__', type(encoder).__qualname__)}"
        if kept and ("<" in name or not inspect.isfunction(encoder)):
            raise InputError(
                f"encoder {name}: has no name of its own; give it an attribute `name`, the cache goes by it"
            )
    return Encoder(name, lambda device, size: batched(encoder, size))


def batched(encode: Callable[[list[Any]], Any], size: int) -> Encode:
    """The same, given at most `size` pieces at once."""

    def batched(pieces: list[Any]) -> np.ndarray:
        parts = [np.asarray(encode(pieces[i : i + size])) for i in range(0, len(pieces), size)]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    return batched
