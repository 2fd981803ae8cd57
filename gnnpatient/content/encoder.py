"""What turns images or texts into vectors: a user's own encoder, and the record of every encoder."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gnnpatient.content import texts
from gnnpatient.errors import InputError

MAX_CHANGE = 0.02  # of the largest number of a vector: what half precision makes of another batch
Encode = Callable[[list[Any]], np.ndarray]  # pieces -> (piece, channel)


@runtime_checkable
class UserEncoder(Protocol):
    """An encoder of one's own, as `read_cohort(..., encoders=)`, `embed_images` and `embed_texts` take it.

    It is called with at most 32 pieces at once, has each of them once, and must give a piece the same vector
    whatever others stand beside it. A torch tensor is taken as well.

    An attribute `name` says which version it is: a cohort and a model remember it, and the cache goes by it,
    so give it another name when it gives other vectors. Without one, `read_cohort` keeps no vectors of it;
    `embed_images` and `embed_texts` keep those of a plain function of a module by where it is defined.

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
            Images: (height, width) float32 in [0, 1], grey, of any size, after the `steps` of the spec; of a
            volume each slice alone. Or texts: str, cleaned and masked, of at most 200 words; the vector of a
            longer one is the mean over its pieces, of which two neighbours share 40 words.

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


class OwnEncoder:
    """A user's encoder under the name that a spec has for it; what it gives is checked.

    Parameters
    ----------
    key : str
        Its name in the spec.
    encode : UserEncoder
        The callable.

    Attributes
    ----------
    name : str
        As a cohort and a model remember it: the key, and what the callable itself is called by `name`.
    kept : bool
        Whether its vectors may be kept: it says which version it is.
    """

    def __init__(self, key: str, encode: UserEncoder):
        version = getattr(encode, "name", None)
        self.kept = isinstance(version, str)
        self.name = f"{key}@{version}" if self.kept else key
        self._encode, self._compared = encode, False

    def __call__(self, pieces: list[Any], /) -> np.ndarray:
        """Turn pieces into vectors; the first one is embedded again alone, which must not change it.

        Parameters
        ----------
        pieces : list
            As of `UserEncoder`.

        Returns
        -------
        np.ndarray
            (piece, channel) float32.

        Raises
        ------
        InputError
            When it gives no numbers, none that is finite, not a vector for each piece, or another one the
            second time.
        """
        vectors = self._vectors(pieces)
        if not self._compared:
            alone, self._compared = self._vectors(pieces[:1]), True
            slack = MAX_CHANGE * float(np.abs(vectors[0]).max())  # nan is judged where it costs its own row
            if alone.shape[1] != vectors.shape[1] or (np.abs(alone[0] - vectors[0]) > slack).any():
                raise InputError(
                    f"encoder {self.name}: gives the same piece another vector alone than among others; "
                    "is it in training mode, or random? call .eval() first"
                )
        return vectors

    def _vectors(self, pieces: list[Any]) -> np.ndarray:
        found: Any = self._encode(pieces)
        if hasattr(found, "detach"):  # a tensor, perhaps with a gradient or on a GPU
            found = found.detach().cpu().float().numpy()
        try:
            vectors = np.asarray(found)
        except (TypeError, ValueError):  # ragged
            vectors = np.empty(0, object)
        if vectors.dtype.kind not in "fiu":
            raise InputError(
                f"encoder {self.name}: gave {type(found).__name__} of {vectors.dtype}; give floats, "
                f"({len(pieces)}, channel)"
            )
        if vectors.ndim != 2 or len(vectors) != len(pieces) or not vectors.shape[1]:
            raise InputError(
                f"encoder {self.name}: gave an array {vectors.shape} for {len(pieces)} pieces; give "
                f"({len(pieces)}, channel)"
            )
        with np.errstate(over="ignore"):  # infinite, and judged as such
            vectors = vectors.astype(np.float32)
        if len(vectors) > 1 and not np.isfinite(vectors).all(axis=1).any():  # a single one costs its own row
            raise InputError(
                f"encoder {self.name}: gave numbers that are not finite for each of {len(pieces)} pieces; "
                "give finite ones"
            )
        return vectors


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
