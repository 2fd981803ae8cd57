"""PNG and JPEG, by Pillow."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np

from gnnpatient.content.image.base import (
    LARGEST_PIXELS,
    Decoder,
    Frames,
    UnreadableImageError,
    between,
    check_size,
    extra,
    luminance,
)

_TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # by the EXIF tag Orientation
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.T,
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].T,
    8: lambda x: np.rot90(x),
}
_BYTES_PER_PIXEL = {"1": 1, "L": 1, "P": 1, "LA": 2, "I;16": 2, "I;16B": 2, "RGB": 3}  # 4 in others


class Png(Decoder):
    """PNG, of any depth and colour."""

    name = "PNG"
    endings = (".png",)
    loggers = ("PIL",)

    def recognises(self, head: bytes) -> bool:
        """Whether a file begins as PNG does.

        Parameters
        ----------
        head : bytes
            The first 352 bytes.

        Returns
        -------
        bool
            By the content alone.
        """
        return head.startswith(b"\x89PNG\r\n\x1a\n")

    def decode(self, data: Any, slices: int, mask: bool) -> Frames:
        """Decode a still.

        Parameters
        ----------
        data, slices, mask
            As in `Decoder.decode`.

        Returns
        -------
        Frames
            One.

        Raises
        ------
        UnreadableImageError
            With the reason.
        """
        return _still(data)


class Jpeg(Decoder):
    """JPEG."""

    name = "JPEG"
    endings = (".jpg", ".jpeg", ".jpe")
    keeps_edges = False
    loggers = ("PIL",)

    def recognises(self, head: bytes) -> bool:
        """Whether a file begins as JPEG does.

        Parameters
        ----------
        head : bytes
            The first 352 bytes.

        Returns
        -------
        bool
            By the content alone.
        """
        return head.startswith(b"\xff\xd8\xff")

    def decode(self, data: Any, slices: int, mask: bool) -> Frames:
        """Decode a still.

        Parameters
        ----------
        data, slices, mask
            As in `Decoder.decode`.

        Returns
        -------
        Frames
            One.

        Raises
        ------
        UnreadableImageError
            With the reason.
        """
        return _still(data)


def _still(data: Any) -> Frames:
    """A still as Pillow decodes it, grey, turned as its EXIF orientation says."""
    with extra():
        from PIL import Image
    flags = []
    try:
        image: Any = Image.open(BytesIO(data), formats=("PNG", "JPEG"))
    except Image.DecompressionBombError:
        raise UnreadableImageError(
            f"declares more than {LARGEST_PIXELS // 1_000_000} million pixels"
        ) from None
    with image:
        pixels = image.width * image.height
        check_size(pixels, pixels * _BYTES_PER_PIXEL.get(image.mode, 4))
        if data[:4] == b"\x89PNG" and _png_of_16_bits(data) and image.mode in ("RGB", "RGBA", "LA"):
            flags.append("16 bit colour read as 8 bit")
        if getattr(image, "n_frames", 1) > 1 and image.format == "PNG":
            flags.append("first of several frames")
        try:
            image.load()
        except OSError:
            raise UnreadableImageError("cut short or broken") from None
        turn = None
        with suppress(Exception):  # an orientation that cannot be read is none
            turn = _TURNED.get(image.getexif().get(0x0112, 1))
        grey, opaque = _grey(image)
    if opaque is not None and opaque.min() < 1:
        grey *= opaque
        flags.append("transparent parts made black")
    return Frames((turn(grey) if turn else grey)[None], tuple(flags))


def _grey(image: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Luminance in [0, 1], and how opaque each pixel is; None: all are."""
    clear = image.info.get("transparency")
    if image.mode.startswith("I"):
        array = np.asarray(image)
        return between(array, 0, 65535), None if clear is None else (array != clear)
    opaque = None
    if "A" in image.mode or clear is not None:
        image = image.convert("RGBA")
        opaque = np.asarray(image.getchannel("A"), np.float32) / 255
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    array = np.asarray(image)
    if array.ndim == 3:
        return luminance(array), opaque
    return between(array, 0, 1 if image.mode == "1" else 255), opaque


def _png_of_16_bits(data: bytes) -> bool:
    """Whether a sample has 16 bits.

    UnreadableImageError: it holds fewer pixels than it declares; Pillow would make the others black.
    """
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    depth, colour, interlaced = data[24], data[25], data[28]
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = [(0, 0, 1, 1)]
    # the seven passes of Adam7: first column and row, step of both
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)]
        passes += [(0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    missing = sum(high * (1 + (wide * bits + 7) // 8) for wide, high in sizes if wide > 0 and high > 0)
    engine, at = zlib.decompressobj(), 8
    while missing > 0:
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if len(name) < 4 or name == b"IEND":
            raise UnreadableImageError("cut short")
        rest = data[at + 8 : at + 8 + size] if name == b"IDAT" else b""
        while rest and missing > 0 and not engine.eof:
            missing -= len(engine.decompress(rest, 1 << 20))
            rest = engine.unconsumed_tail
        at += size + 12
    return depth == 16
