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
_WIDTH = {"1": 1, "L": 1, "P": 1, "LA": 2, "I;16": 2, "I;16B": 2, "RGB": 3}  # bytes a pixel, 4 in others


class Png(Decoder):
    """PNG, of any depth and colour."""

    name = "PNG"
    endings = (".png",)

    def recognises(self, head: bytes) -> bool:
        return head.startswith(b"\x89PNG\r\n\x1a\n")

    def decode(self, data: Any, slices: int, mask: bool) -> Frames:
        return _still(data)


class Jpeg(Decoder):
    """JPEG."""

    name = "JPEG"
    endings = (".jpg", ".jpeg", ".jpe")
    keeps_edges = False

    def recognises(self, head: bytes) -> bool:
        return head.startswith(b"\xff\xd8\xff")

    def decode(self, data: Any, slices: int, mask: bool) -> Frames:
        return _still(data)


def _still(data: Any) -> Frames:
    """A still as Pillow decodes it, turned and grey."""
    with extra():
        from PIL import Image
    flags = []
    try:
        picture: Any = Image.open(BytesIO(data), formats=("PNG", "JPEG"))
    except Image.DecompressionBombError:
        raise UnreadableImageError(
            f"declares more than {LARGEST_PIXELS // 1_000_000} million pixels"
        ) from None
    with picture:
        pixels = picture.width * picture.height
        check_size(pixels, pixels * _WIDTH.get(picture.mode, 4))
        if data[:4] == b"\x89PNG" and _png_whole(data) and picture.mode in ("RGB", "RGBA", "LA"):
            flags.append("16 bit colour read as 8 bit")
        if getattr(picture, "n_frames", 1) > 1 and picture.format == "PNG":
            flags.append("first of several frames")
        try:
            picture.load()
        except OSError:
            raise UnreadableImageError("cut short or broken") from None
        clear = picture.info.get("transparency")
        turn = None
        with suppress(Exception):  # an orientation that cannot be read is none
            turn = _TURNED.get(picture.getexif().get(0x0112, 1))
        if picture.mode.startswith("I"):
            grey = between(array := np.asarray(picture), 0, 65535)
            opaque = None if clear is None else (array != clear)
        else:
            if "A" in picture.mode or clear is not None:
                picture = picture.convert("RGBA")
                opaque = np.asarray(picture.getchannel("A"), np.float32) / 255
                picture = picture.convert("RGB")
            else:
                opaque = None
            if picture.mode not in ("1", "L", "RGB"):
                picture = picture.convert("RGB")
            array = np.asarray(picture)
            grey = (
                luminance(array) if array.ndim == 3 else between(array, 0, 1 if picture.mode == "1" else 255)
            )
    if opaque is not None and opaque.min() < 1:
        grey *= opaque
        flags.append("transparent parts made black")
    return Frames((turn(grey) if turn else grey)[None], tuple(flags))


def _png_whole(data: bytes) -> bool:
    """Whether a sample has 16 bits. Unreadable: fewer pixels than declared, which Pillow would make black."""
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    depth, colour, interlaced = data[24], data[25], data[28]
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = [(0, 0, 1, 1)]
    if interlaced:  # the seven passes of Adam7: first column and row, step of both
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
