"""What turns images or texts into vectors: a user's own encoder, and the record of every encoder."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gnnpatient.content import texts
from gnnpatient.errors import InputError

Encode = Callable[[list[Any]], np.ndarray]  # pieces -> (piece, channel)


class UserEncoder(Protocol):
    """An encoder of one's own, as `read_cohort(..., encoders=)`, `embed_images` and `embed_texts` take it.

    A plain function of a module does. An object, a method or a function made in another one needs an
    attribute `name`, by which the cache keeps its vectors: give it another name when it gives other vectors.

    Examples
    --------
    >>> def brightness(images):
    ...     return np.array([[image.mean(), image.std()] for image in images])
    """

    def __call__(self, pieces: list[Any], /) -> np.ndarray:
        """Turn pieces into vectors.

        Parameters
        ----------
        pieces : list
            Images, (height, width) float32 in [0, 1], or texts.

        Returns
        -------
        np.ndarray
            (piece, channel), the same number of channels each time.
        """
        ...


@dataclass(frozen=True)
class Encoder:
    """What is known of an encoder before any weight is read: where all is in the cache, nothing is loaded.

    Attributes
    ----------
    name : str
        Name @ hash of the weights: preprocessing. Vectors are kept by it.
    load : callable
        (device, batch size) to a function from pieces to (piece, channel).
    channels : int, default 0
        Numbers in a vector; 0: known once there is one.
    words, overlap, limit : int
        How a text is cut into pieces, as in `texts.pieces`.
    weights : bool, default False
        Whether it runs in torch, on a device.
    ahead : int, default 1
        Batches that it is given at once, so that texts of one length share one.
    """

    name: str
    load: Callable[[str, int], Encode]
    channels: int = 0
    words: int = texts.WORDS
    overlap: int = texts.OVERLAP
    limit: int = texts.LIMIT
    weights: bool = False
    ahead: int = 1


def user_encoder(encoder: Callable, cached: bool) -> Encoder:
    """The record of a user's callable, named by its attribute `name`, or by where it is defined.

    A method, or a function made in another one, shares that place with all of its kind, whatever they were
    made with; without a name its vectors cannot be kept.

    Parameters
    ----------
    encoder : callable
        As `UserEncoder`.
    cached : bool
        Whether its vectors are to be kept.

    Returns
    -------
    Encoder
        It is given at most a batch at once.

    Raises
    ------
    InputError
        When the vectors are to be kept and it has no name of its own.
    """
    name = getattr(encoder, "name", None)
    if not isinstance(name, str):
        name = f"{encoder.__module__}.{getattr(encoder, '__qualname__', type(encoder).__qualname__)}"
        if cached and ("<" in name or not inspect.isfunction(encoder)):
            raise InputError(
                f"encoder {name}: has no name of its own; give it an attribute `name`, the cache goes by it"
            )
    return Encoder(name, lambda device, size: batched(encoder, size))


def batched(encode: Callable[[list[Any]], Any], size: int) -> Encode:
    """The same function, called with a limited number of pieces at once.

    Parameters
    ----------
    encode : callable
        Pieces to (piece, channel).
    size : int
        Pieces at once, at most.

    Returns
    -------
    callable
        Any number of pieces to (piece, channel).
    """

    def encode_batches(pieces: list[Any]) -> np.ndarray:
        parts = [np.asarray(encode(pieces[i : i + size])) for i in range(0, len(pieces), size)]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    return encode_batches
