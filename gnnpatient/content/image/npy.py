"""numpy's .npy: plain numbers of two or three axes."""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import numpy as np

from gnnpatient.content.image.base import (
    Decoder,
    Frames,
    UnreadableImageError,
    between,
    check_size,
    full_range,
    luminance,
    middle_slices,
)


class Npy(Decoder):
    """Plain numbers of two axes (a still), three (slices along the first) or with 3 or 4 colours last.

    Colours are uint8 or uint16, whose range is known. Other numbers with a last axis of 3 or 4 may be colours
    or slices: they are refused.
    """

    name = "npy"
    endings = (".npy",)

    def recognises(self, head: bytes) -> bool:
        """Whether a file begins as npy does.

        Parameters
        ----------
        head : bytes
            The first 352 bytes.

        Returns
        -------
        bool
            By the content alone.
        """
        return head.startswith(b"\x93NUMPY")

    def decode(self, data: Any, slices: int, mask: bool) -> Frames:
        """Decode an array.

        Parameters
        ----------
        data, slices, mask
            As in `Decoder.decode`.

        Returns
        -------
        Frames
            One of a still; the slices taken of a volume.

        Raises
        ------
        UnreadableImageError
            With the reason.
        """
        array = _array(data)
        if array.ndim == 3 and array.shape[-1] in (3, 4):
            return _colours(array)
        if array.ndim not in (2, 3):
            raise UnreadableImageError(f"npy of {array.ndim} axes, not 2 or 3")
        taken = middle_slices(len(array), slices) if array.ndim == 3 else [0]
        stack = array[taken] if array.ndim == 3 else array[None]
        if array.dtype.kind == "b" or array.dtype in (np.uint8, np.uint16):
            grey = between(stack, 0, 1 if array.dtype.kind == "b" else np.iinfo(array.dtype).max)
        else:
            grey = full_range(stack, mask)
        return Frames(grey, frames=taken, depth=len(array) if array.ndim == 3 else 1)


def _array(data: Any) -> np.ndarray:
    """The numbers that the bytes hold, unchanged."""
    handle = BytesIO(data)
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(handle)[0]
    if version not in read:
        raise UnreadableImageError("npy of something else than plain numbers")
    shape, columns_first, dtype = read[version](handle, max_header_size=10_000)
    if dtype.hasobject or dtype.kind not in "buif":
        raise UnreadableImageError("npy of something else than plain numbers")
    count = math.prod(shape)
    check_size(count, count * dtype.itemsize)
    if len(data) - handle.tell() < count * dtype.itemsize:
        raise UnreadableImageError("cut short")
    return np.ndarray(shape, dtype, data, handle.tell(), order="F" if columns_first else "C")


def _colours(array: np.ndarray) -> Frames:
    """Red, green, blue and, where there is a fourth, how opaque a pixel is."""
    if array.dtype not in (np.uint8, np.uint16):
        raise UnreadableImageError(
            "npy with a last axis of 3 or 4; save colours as uint8 or uint16, slices first"
        )
    grey = luminance(array[..., :3])
    if array.shape[-1] == 3:
        return Frames(grey[None])
    opaque = array[..., 3].astype(np.float32) / np.iinfo(array.dtype).max
    return Frames((grey * opaque)[None], ("transparent parts made black",) if opaque.min() < 1 else ())
