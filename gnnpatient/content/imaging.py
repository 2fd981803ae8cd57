"""One picture file as grey pixels in [0, 1]. A file that cannot be read costs itself, never a cohort.

The content decides the format, not the name: PNG, JPEG, DICOM, NIfTI (.nii, .nii.gz) and .npy. What a header
declares is checked against the bytes that are there before anything is allocated. Of a header only what the
pixels need is taken: no name, no identifier, no date and no message of a decoder leaves this module.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import threading
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from functools import partial
from io import BufferedReader, BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from gnnpatient.errors import InputError
from gnnpatient.progress import Progress

LARGEST_PIXELS = 100_000_000  # of all frames that a file gives
LARGEST_BYTES = 512 << 20  # that a file holds, or unpacks to; a plain .nii may be larger, it is read in parts
HEADER = 16 << 20  # bytes that a packed DICOM file may hold beside its pixels


class UnreadableImageError(ValueError):
    """One file that is left out. Its text is the reason: short, without a path or a word of a header."""


class ImageTooLargeError(UnreadableImageError):
    """Left out because decoding it takes more memory than there is."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One grey picture; 0 is black, 1 is white.

    flags: what a report should tell. "name does not fit the content", "constant", "one pixel", "bad dates",
        "dates disagree", "text burned into the picture", "recognisable features of a person",
        "rescale slope 0", "no usable window", "no usable spacing", "NAME is no number" (of an attribute),
        "transparent parts made black", "16 bit colour read as 8 bit",
        "first of several frames", "first of several volumes", "orientation unknown"
    spacing: millimetres from one row to the next and from one column to the next; None where not given
    frame: which frame of a DICOM file, or which slice of a volume; 0 in a still
    depth: how many frames or slices the file holds
    place: in millimetres to the patient's right, front and head: the centre of the first pixel, the step to
        the next row, the step to the next column; None where the file does not tell
    instance: digests of the SOPInstanceUID of a DICOM file, of its stored pixels and of its PatientID ("" =
        it says nobody); None in other files
    """

    pixels: Float32[np.ndarray, "height width"]
    flags: tuple[str, ...]
    spacing: tuple[float, float] | None
    frame: int
    depth: int
    place: Float64[np.ndarray, "3 3"] | None
    instance: tuple[str, str, str] | None


class _Read(NamedTuple):
    """What a decoder gives, before the steps: (frame, height, width) in [0, 1], all frames scaled alike."""

    stack: np.ndarray
    flags: tuple[str, ...] = ()
    spacing: tuple[float, float] | None = None
    frames: Sequence[int] | None = None  # 0, 1, 2, ... where None
    depth: int | None = None  # as many as there are frames where None
    place: np.ndarray | None = None  # (frame, 3, 3)
    instance: tuple[str, str, str] | None = None


# -- steps ------------------------------------------------------------------------------------------------


def _stretch(stack: np.ndarray) -> np.ndarray:
    """The 1st to 99th percentile to [0, 1], of all frames of a file together: an empty slice stays dark.

    Where the two percentiles are equal (a small bright thing on black) the whole range is stretched instead.
    """
    low, high = np.percentile(stack, (1, 99))
    if high <= low:
        low, high = float(stack.min()), float(stack.max())
    return _between(stack, float(low), float(high))


def _clahe(stack: np.ndarray) -> np.ndarray:
    """N-CLAHE: the whole range to [0, 1], then contrast-limited adaptive equalisation of each frame.

    Zuiderveld 1994, as scikit-image has it: tiles of an eighth of the picture, clip limit 0.01. A constant
    frame stays as it is: there is no contrast to equalise.
    """
    with extra():
        from skimage.exposure import equalize_adapthist
    whole = _between(stack, float(stack.min()), float(stack.max()))
    for frame in whole:
        if frame.min() < frame.max():
            frame[:] = equalize_adapthist(frame)
    return whole


def _between(stack: np.ndarray, low: float | int, high: float | int) -> np.ndarray:
    """low to 0 and high to 1, clipped; zeros where they are equal."""
    if not high > low:
        return np.zeros(stack.shape, np.float32)
    fine = np.result_type(stack.dtype, np.float32).type  # 32 bit whole numbers need more than float32
    out = np.subtract(stack, low, dtype=fine)
    out /= fine(high) - fine(low)
    return np.clip(out, 0, 1, out=out).astype(np.float32, copy=False)


STEPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda stack: stack,
    "stretch": _stretch,
    "clahe": _clahe,
}
"""Preprocessing by name, as provenance records it: (frame, height, width) in [0, 1] to the same."""


# -- doors ------------------------------------------------------------------------------------------------


def read_images(
    path: Path,
    steps: Sequence[str] = ("stretch",),
    *,
    slices: int = 8,
    bare: bool = False,
    mask: bool = False,
) -> list[Picture]:
    """The pictures of one file. Unreadable, with the reason, where there is none to be had.

    A still gives one; a DICOM file of several frames all of them, in order. A volume (NIfTI, or a .npy of
    three axes) gives `slices` slices: the middles of as many equal parts, along the axis of the thickest
    voxels, axial where they are equal (.npy: along the first axis). Of a series the first volume is taken.

    Colours become luminance (ITU-R 601), transparent parts black, an EXIF orientation is applied. 8 and 16
    bit pixels are scaled by the range of their type; signed numbers and fractions (.npy, NIfTI) by the least
    and the greatest of what is taken from the file. DICOM: rescale or modality look-up, then the first window
    or VOI look-up, without one the least and greatest value; MONOCHROME1 turned; padding is black.
    bare: read a DICOM file without the 128 bytes and "DICM" that begin one.
    mask: 1 where what is stored is above 0, else 0, without steps; of the formats that keep an edge as it is
    drawn: PNG, NIfTI and npy.
    """
    checked(steps)
    if slices < 1:
        raise InputError(f"slices = {slices}; take at least 1 of a volume")
    kind = ""
    try:
        data = _load(path)
        packed = data[:2] == b"\x1f\x8b"
        kind = _kind(_unpack(data, 1 << 10)[0] if packed else data, path, bare)
        with _quiet():
            if mask and kind in ("jpeg", "dicom"):
                raise UnreadableImageError(f"a {_WORDS[kind]} is no mask; PNG, NIfTI or npy would do")
            read = _DECODERS[kind](_unpacked(data, kind) if packed else data, slices, mask)
            flags = _named(path, kind, packed) + read.flags
            if mask:
                read, steps = read._replace(stack=(read.stack > 0).astype(np.float32)), ()
            return _pictures(read._replace(flags=flags), steps)
    except (UnreadableImageError, InputError):
        raise
    except MemoryError:
        raise ImageTooLargeError("too large for the memory") from None
    except OSError:
        raise UnreadableImageError(f"broken {_WORDS[kind]}" if kind else "no permission to read it") from None
    except BaseException as error:  # a decoder's own message may repeat what stands in the file
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        # that of RLE, in Rust, panics outside Exception
        raise UnreadableImageError(f"broken {_WORDS.get(kind, 'file')}") from None


def checked(steps: Sequence[str]) -> None:
    """Refused: a step that is not in STEPS."""
    for step in steps:
        if step not in STEPS:
            close = get_close_matches(step, STEPS, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(STEPS)}"
            raise InputError(f"step {step!r} of the pictures is unknown{hint}")


def locate(root: Path, name: str) -> Path:
    """The file of that name inside root, its links followed. Unreadable: it leads out, or is not there.

    A name that is absolute, begins with ~ or holds .. is turned down before the disk is asked.
    """
    parts = re.split(r"[/\\]", name)
    if name.startswith("~") or ".." in parts or os.path.isabs(name) or re.match(r"\\|[A-Za-z]:[/\\]", name):
        raise UnreadableImageError("leads out of the folder")
    try:
        path, inside = (root / name).resolve(), root.resolve()
        there = bool(name.strip()) and path.exists()
    except (OSError, RuntimeError, ValueError):  # too long a name, links that go in a circle, a NUL
        raise UnreadableImageError("no such file") from None
    if not path.is_relative_to(inside):
        raise UnreadableImageError("leads out of the folder")
    if not there:
        raise UnreadableImageError("no such file")
    if not path.is_file():
        raise UnreadableImageError("not a file")
    return path


def fingerprint(path: Path) -> str:
    """sha256 of the bytes, in hexadecimal."""
    with _open(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def conflicts(instances: Sequence[tuple[str, ...] | None]) -> list[tuple[int, int]]:
    """Pairs of files with one SOPInstanceUID and different pixels, by their places; given is each `instance`.

    Each file that differs is paired with the first of its identifier; the same pixels in another header or
    another lossless compression are no conflict. What is not DICOM is passed over.
    """
    first, found = dict[str, tuple[int, str]](), []
    for i, instance in enumerate(instances):
        if instance is None:
            continue
        place, pixels = first.setdefault(instance[0], (i, instance[1]))
        if pixels != instance[1]:
            found.append((place, i))
    return found


def _open(path: Path) -> BufferedReader:
    """A plain file, opened; a pipe or a device would wait for ever."""
    try:
        handle = open(path, "rb", opener=lambda name, how: os.open(name, how | os.O_NONBLOCK))  # noqa: SIM115
    except (FileNotFoundError, NotADirectoryError):
        raise UnreadableImageError("no such file") from None
    except IsADirectoryError:
        raise UnreadableImageError("not a file") from None
    except OSError:
        raise UnreadableImageError("no permission to read it") from None
    if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
        handle.close()
        raise UnreadableImageError("not a file")
    return handle


def _load(path: Path) -> Any:
    """The bytes of a file; a large plain NIfTI as a map, of which only the slices taken are read."""
    with _open(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size <= LARGEST_BYTES:
            return handle.read()
        if _nifti_start(handle.read(352)):
            return np.memmap(path, np.uint8, "r").data
    raise UnreadableImageError(f"larger than {LARGEST_BYTES >> 20} MB")


def _nifti_start(head: bytes) -> bool:
    return head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2")


_WORDS = {"png": "PNG", "jpeg": "JPEG", "dicom": "DICOM", "nifti": "NIfTI", "npy": "npy"}
_ENDINGS = {
    ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".jpe": "jpeg", ".dcm": "dicom", ".dicom": "dicom",
    ".ima": "dicom", ".nii": "nifti", ".npy": "npy",
}  # fmt: skip
_OTHERS = {".gif", ".tif", ".tiff", ".bmp", ".webp", ".jp2", ".mha", ".nrrd", ".csv", ".txt", ".pdf", ".json"}


def _kind(data: Any, path: Path, bare: bool) -> str:
    """The format, by how the content begins."""
    head = bytes(data[:352])
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if _nifti_start(head):
        return "nifti"
    if head[:2] in (b"\2\0", b"\x08\0") and head[3:4] == b"\0":  # the first group of a header or of its meta
        if bare:
            return "dicom"
        raise UnreadableImageError("not a DICOM file: it lacks the preamble; bare=True reads it")
    wanted = _WORDS.get(_ENDINGS.get(_ending(path), ""))
    if not head:
        raise UnreadableImageError(f"not a {wanted} file: it is empty" if wanted else "empty file")
    raise UnreadableImageError(
        f"not a {wanted} file" if wanted else "not a PNG, JPEG, DICOM, NIfTI or npy file"
    )


def _ending(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _named(path: Path, kind: str, packed: bool) -> tuple[str, ...]:
    """A flag where the name promises something else. No ending, or one unknown, promises nothing."""
    ending = _ending(path)
    wrong = ending in _OTHERS or _ENDINGS.get(ending, kind) != kind
    return ("name does not fit the content",) if wrong or packed != path.name.lower().endswith(".gz") else ()


def _unpack(data: Any, most: int) -> tuple[bytes, bool]:
    """At most that many bytes of a gzip file, and whether this is all. Unreadable: it is cut."""
    parts, size, engine, rest = [], 0, zlib.decompressobj(31), bytes(data)
    try:
        while size < most:
            part = engine.decompress(rest, min(most - size, 1 << 20))
            parts.append(part)
            size += len(part)
            if engine.eof:
                rest = engine.unused_data
                if rest[:2] != b"\x1f\x8b":  # another member may follow, anything else is padding
                    return b"".join(parts), True
                engine = zlib.decompressobj(31)
            elif not part:
                raise UnreadableImageError("cut short")
            else:
                rest = engine.unconsumed_tail
    except zlib.error:
        raise UnreadableImageError("broken gzip") from None
    return b"".join(parts), False


def _unpacked(data: Any, kind: str) -> bytes:
    """A whole gzip file; of a NIfTI no more than it declares."""
    most = LARGEST_BYTES
    if kind == "nifti":
        needed = _nifti_header(_unpack(data, 1 << 10)[0])[-1]
        if needed > most:
            raise UnreadableImageError(f"unpacks to more than {most >> 20} MB")
        return _unpack(data, needed + 1)[0]  # one more, so that the checksum at the end is met
    whole, all_ = _unpack(data, most + 1)
    if not all_:
        raise UnreadableImageError(f"unpacks to more than {most >> 20} MB")
    return whole


def _fits(pixels: int, size: int = 0) -> None:
    """Before anything is allocated."""
    if pixels < 1:
        raise UnreadableImageError("no pixels")
    if pixels > LARGEST_PIXELS:
        raise UnreadableImageError(f"declares more than {LARGEST_PIXELS // 1_000_000} million pixels")
    if size > LARGEST_BYTES:
        raise UnreadableImageError(f"declares more than {LARGEST_BYTES >> 20} MB")


@contextmanager
def extra() -> Iterator[None]:
    """Refused, with what to install, where a package for pictures is missing."""
    try:
        yield
    except ImportError as error:
        missing = error.name or "a package"
        raise InputError(f"pictures need {missing}; pip install 'gnnpatient[image]'") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """No warning and no log line: those of decoders repeat what stands in a header."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "nibabel", "nibabel.global", "PIL")]
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.disabled = was


def _pictures(read: _Read, steps: Sequence[str]) -> list[Picture]:
    """The steps, taken over all frames of the file; flags of single frames by what the file itself holds."""
    stack = read.stack
    if not np.isfinite(stack).all():
        raise UnreadableImageError("numbers that are not finite")
    constant = stack.min(axis=(1, 2)) == stack.max(axis=(1, 2))
    for step in steps:
        stack = STEPS[step](stack)
    stack = np.ascontiguousarray(stack, dtype=np.float32)
    single = ("one pixel",) if stack[0].size == 1 else ()
    return [
        Picture(
            pixels=pixels,
            flags=read.flags + (("constant",) if flat else ()) + single,
            spacing=read.spacing,
            frame=int(frame),
            depth=read.depth or len(stack),
            place=None if read.place is None else read.place[i],
            instance=read.instance,
        )
        for i, (pixels, flat, frame) in enumerate(
            zip(stack, constant, read.frames or range(len(stack)), strict=True)
        )
    ]


# -- stills -----------------------------------------------------------------------------------------------

_TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # by the EXIF tag Orientation
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.T,
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].T,
    8: lambda x: np.rot90(x),
}
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_WIDTH = {"1": 1, "L": 1, "P": 1, "LA": 2, "I;16": 2, "I;16B": 2, "RGB": 3}  # bytes a pixel, 4 in others


def _still(data: Any, slices: int, mask: bool) -> _Read:
    """PNG or JPEG, by Pillow."""
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
        _fits(pixels, pixels * _WIDTH.get(picture.mode, 4))
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
            grey = _between(array := np.asarray(picture), 0, 65535)
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
            grey = _grey(array) if array.ndim == 3 else _between(array, 0, 1 if picture.mode == "1" else 255)
    if opaque is not None and opaque.min() < 1:
        grey *= opaque
        flags.append("transparent parts made black")
    return _Read((turn(grey) if turn else grey)[None], tuple(flags))


def _grey(colours: np.ndarray) -> np.ndarray:
    """Luminance (ITU-R 601) in [0, 1] of unsigned red, green and blue."""
    flat, size = colours.reshape(-1, 3), 1 << 20
    grey = np.empty(len(flat), np.float32)
    for i in range(0, len(flat), size):  # in parts: as float32 the colours would take three times as much
        np.matmul(flat[i : i + size].astype(np.float32), _LUMINANCE, out=grey[i : i + size])
    grey /= np.iinfo(colours.dtype).max
    return np.clip(grey, 0, 1, out=grey).reshape(colours.shape[:-1])


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


# -- arrays -----------------------------------------------------------------------------------------------


def _middles(size: int, slices: int) -> list[int]:
    """The middles of `slices` equal parts.

    >>> _middles(24, 4), _middles(3, 8)
    ([3, 9, 15, 21], [0, 1, 2])
    """
    slices = min(size, slices)
    return [(2 * i + 1) * size // (2 * slices) for i in range(slices)]


def _npy(data: Any, slices: int, mask: bool) -> _Read:
    """Plain numbers of two axes (a still), three (slices along the first) or with 3 or 4 colours last.

    Colours are uint8 or uint16, whose range is known. Other numbers with a last axis of 3 or 4 may be colours
    or slices: they are refused.
    """
    handle = BytesIO(data)
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(handle)[0]
    if version not in read:
        raise UnreadableImageError("npy of another kind than plain numbers")
    shape, columns_first, dtype = read[version](handle, max_header_size=10_000)
    if dtype.hasobject or dtype.kind not in "buif":
        raise UnreadableImageError("npy of another kind than plain numbers")
    count = math.prod(shape)
    _fits(count, count * dtype.itemsize)
    if len(data) - handle.tell() < count * dtype.itemsize:
        raise UnreadableImageError("cut short")
    array = np.ndarray(shape, dtype, data, handle.tell(), order="F" if columns_first else "C")
    if array.ndim == 3 and array.shape[-1] in (3, 4):
        if dtype not in (np.uint8, np.uint16):
            raise UnreadableImageError(
                "npy with a last axis of 3 or 4; save colours as uint8 or uint16, slices first"
            )
        grey = _grey(array[..., :3])
        if array.shape[-1] == 3:
            return _Read(grey[None])
        opaque = array[..., 3].astype(np.float32) / np.iinfo(array.dtype).max
        return _Read((grey * opaque)[None], ("transparent parts made black",) if opaque.min() < 1 else ())
    if array.ndim not in (2, 3):
        raise UnreadableImageError(f"npy of {array.ndim} axes, not 2 or 3")
    taken = _middles(len(array), slices) if array.ndim == 3 else [0]
    stack = array[taken] if array.ndim == 3 else array[None]
    if dtype.kind == "b" or dtype in (np.uint8, np.uint16):
        grey = _between(stack, 0, 1 if dtype.kind == "b" else np.iinfo(dtype).max)
    else:
        grey = _own_range(stack, mask)
    return _Read(grey, frames=taken, depth=len(array) if array.ndim == 3 else 1)


def _own_range(stack: np.ndarray, mask: bool) -> np.ndarray:
    """The least number to 0, the greatest to 1; of a mask, whose only number may be 1, all above 0 to 1."""
    low, high = float(stack.min()), float(stack.max())
    if not math.isfinite(high - low):
        raise UnreadableImageError("numbers that are not finite")
    return (stack > 0).astype(np.float32) if mask else _between(stack, low, high)


def _nifti_header(data: Any) -> tuple[Any, tuple[int, ...], np.dtype, int, int]:
    """Header, shape of three axes or more, type, where the numbers begin and where they must end."""
    with extra():
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
    if bytes(data[344:347]) == b"ni1" or bytes(data[4:7]) == b"ni2":
        raise UnreadableImageError("NIfTI whose numbers are in another file; save it as one .nii")
    two = bytes(data[4:7]) == b"n+2"
    if len(data) < (540 if two else 348):
        raise UnreadableImageError("cut short")
    kind: Any = Nifti2Header if two else Nifti1Header
    header = kind(bytes(data[: 540 if two else 348]), check=False)
    shape, dtype = tuple(int(n) for n in header.get_data_shape()), header.get_data_dtype()
    shape += (1,) * (3 - len(shape))
    if dtype.kind not in "uif":
        raise UnreadableImageError("NIfTI of colours or complex numbers")
    start = int(header.get_data_offset())
    if min(shape) < 1 or start < (540 if two else 348):
        raise UnreadableImageError("no pixels")
    return header, shape, dtype, start, start + math.prod(shape) * dtype.itemsize


def _nifti(data: Any, slices: int, mask: bool) -> _Read:
    """Slices of the first volume, seen as radiologists do: the patient's right is left, front or head up."""
    header, shape, dtype, start, end = _nifti_header(data)
    if len(data) < end:
        raise UnreadableImageError("cut short")
    flags = []
    volume: np.ndarray = np.ndarray(shape, dtype, data, start, order="F")
    for _ in shape[3:]:
        volume = volume[..., 0]
    if math.prod(shape[3:]) > 1:
        flags.append("first of several volumes")
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    affine = header.get_best_affine()
    turn = io_orientation(affine)
    if not np.isfinite(turn).all():
        turn = np.array([[0, 1], [1, 1], [2, 1]])
        flags.append("orientation unknown")
    elif int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        flags.append("orientation unknown")  # a guess by convention: right and left may be exchanged
    affine = affine @ inv_ornt_aff(turn, volume.shape)
    volume = apply_orientation(volume, turn)  # a view: axes to the right, to the front, to the head
    sides = np.zeros(3)
    sides[turn[:, 0].astype(int)] = np.abs([*header.get_zooms()[:3], 1, 1][:3])
    thin = np.array(volume.shape) == 1
    thick = np.where(thin, np.inf, sides) if thin.any() else sides
    axis = max(range(3), key=lambda i: (thick[i] >= 0.999 * thick.max(), i))
    taken = _middles(volume.shape[axis], slices)
    down, across = (i for i in (2, 1, 0) if i != axis)
    _fits(len(taken) * volume.shape[down] * volume.shape[across])
    stack = np.moveaxis(volume, (axis, down, across), (0, 1, 2))[taken, ::-1, ::-1]
    slope, shift = header.get_slope_inter()
    if slope is not None and (slope, shift) != (1, 0):
        stack = stack * np.float64(slope) + np.float64(shift or 0)
    unit = {"mm": 1.0, "meter": 1000.0, "micron": 0.001}.get(header.get_xyzt_units()[0], 0.0)
    origin, step = affine[:3, 3], affine[:3, :3].T
    first = origin + (volume.shape[down] - 1) * step[down] + (volume.shape[across] - 1) * step[across]
    place = np.array([[first + i * step[axis], -step[down], -step[across]] for i in taken])
    return _Read(
        _own_range(stack, mask),
        tuple(flags),
        _spacing((sides[down] * unit, sides[across] * unit)),
        taken,
        volume.shape[axis],
        place * (unit or 1),  # of no unit is mostly millimetres: enough to compare, not to measure
    )


def _spacing(given: Any) -> tuple[float, float] | None:
    """Two positive numbers, or None."""
    with suppress(TypeError, ValueError):
        row, column = (float(x) for x in given)
        if 0 < row < math.inf and 0 < column < math.inf:
            return row, column
    return None


# -- DICOM ------------------------------------------------------------------------------------------------

_DEFLATED = "1.2.840.10008.1.2.1.99"
_PLAIN = "1.2.840.10008.1.2.1"


def _dataset(data: bytes) -> Any:
    """A DICOM file, parsed; what is deflated unpacks to little more than it declares."""
    with extra():
        import pydicom
        from pydicom.dataset import FileMetaDataset
        from pydicom.filereader import read_dataset
    header: Any
    if data[128:132] != b"DICM":
        header = pydicom.dcmread(BytesIO(data), force=True)
        if "TransferSyntaxUID" not in header.file_meta:
            plain = "1.2.840.10008.1.2" if header.original_encoding[0] else _PLAIN
            header.file_meta.TransferSyntaxUID = pydicom.uid.UID(plain)
        return header
    handle = BytesIO(data)
    handle.seek(132)
    meta = read_dataset(handle, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") != _DEFLATED:
        header = pydicom.dcmread(BytesIO(data))
        if "Rows" not in header and "Rows" in pydicom.dcmread(BytesIO(data), stop_before_pixels=True):
            raise UnreadableImageError(
                "pixel data missing or cut short"
            )  # of compressed pixels without an end
        return header
    engine = zlib.decompressobj(-15)
    whole = engine.decompress(data[handle.tell() :], HEADER)
    before = read_dataset(BytesIO(whole), False, True, stop_when=lambda tag, vr, length: tag.group >= 0x7FE0)
    _, needed = _declared(before, "PixelData")
    whole += engine.decompress(engine.unconsumed_tail, needed)
    if not engine.eof and engine.decompress(engine.unconsumed_tail, 1):
        raise UnreadableImageError("unpacks to more than it declares")
    if not engine.eof:
        raise UnreadableImageError("cut short")
    header = read_dataset(BytesIO(whole), False, True)
    header.file_meta = FileMetaDataset(meta)
    header.file_meta.TransferSyntaxUID = pydicom.uid.UID(_PLAIN)
    return header


def _declared(header: Any, name: str) -> tuple[tuple[int, int, int, int], int]:
    """Frames, rows, columns, samples, and the bytes that they take. Unreadable: none, or too many."""
    if header.get("Rows") is None or header.get("Columns") is None:
        raise UnreadableImageError("DICOM without a picture")
    frames = _whole(header, "NumberOfFrames")
    if frames is not None:
        header.NumberOfFrames = frames  # the decoder reads it again
    frames = 1 if frames is None else frames or 1
    rows, columns, samples = int(header.Rows), int(header.Columns), int(header.get("SamplesPerPixel") or 1)
    bits = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(name) or int(header.BitsAllocated)
    if min(frames, rows, columns, samples) < 1:
        raise UnreadableImageError("no pixels")
    count = frames * rows * columns * samples
    if header.get("PhotometricInterpretation") == "YBR_FULL_422":
        count = count // 3 * 2
    size = (count * bits + 7) // 8
    _fits(frames * rows * columns, size)
    return (frames, rows, columns, samples), size


_DECIMAL = re.compile(r"\s*[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?\s*")


def _numbers(place: Any, name: str) -> list[float]:
    """The numbers that an attribute holds as text (DS, IS), [] where it is not there or empty.

    A comma is a point: nothing else can be meant, since thousands are never parted (PS3.5 6.2). Unreadable,
    with the name of the attribute and never what it holds: anything else.
    """
    try:
        given = place.get(name)
        parts = [given] if given is None or isinstance(given, str | int | float) else list(given)
        if parts in ([None], [""]):
            return []
        if not all(_DECIMAL.fullmatch(str(part)) for part in parts):
            raise ValueError
        numbers = [float(str(part).replace(",", ".")) for part in parts]
        if not all(map(math.isfinite, numbers)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise UnreadableImageError(f"{name} is no number") from None
    return numbers


def _number(place: Any, name: str) -> float | None:
    """The first of them; None where there is none."""
    return next(iter(_numbers(place, name)), None)


def _whole(place: Any, name: str) -> int | None:
    """The same of a whole number."""
    number = _number(place, name)
    if number is not None and number != int(number):
        raise UnreadableImageError(f"{name} is no whole number")
    return None if number is None else int(number)


def _kept(read: Callable[[], Any], flags: list[str]) -> Any:
    """What can be done without: None, and a flag, where it cannot be read."""
    try:
        return read()
    except UnreadableImageError as error:
        flags += [str(error)] * (str(error) not in flags)
        return None


def _stored(header: Any) -> np.ndarray:
    """(frame, row, column) as stored, with a fourth axis for colours. Unreadable: anything short of whole."""
    from pydicom.encaps import generate_frames
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    names = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    name = next((name for name in names if header.get(name) is not None), "")
    if not name and header.get("Rows") is not None:
        raise UnreadableImageError("pixel data missing or cut short")
    (frames, rows, columns, samples), size = _declared(header, name)
    syntax = UID(header.file_meta.get("TransferSyntaxUID") or "")
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        syntax = UID(syntax if re.fullmatch(r"[0-9.]{1,64}", syntax) else "not given")
        known = "pip install 'gnnpatient[image]' reads JPEG, JPEG 2000 and RLE"
        raise UnreadableImageError(f"transfer syntax {syntax} is unknown; {known}") from None
    if not decoder.is_available:
        raise UnreadableImageError(
            f"transfer syntax {syntax} ({syntax.name}) needs pip install pylibjpeg-libjpeg"
        )
    if not syntax.is_encapsulated:
        if len(header[name].value) < size:
            raise UnreadableImageError("pixel data missing or cut short")
    else:
        if "ExtendedOffsetTable" in header:
            table = (header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths)
            streams = list(generate_frames(header.PixelData, extended_offsets=table))
        else:
            streams = list(generate_frames(header.PixelData, number_of_frames=frames))
        if len(streams) < frames:
            raise UnreadableImageError("pixel data missing or cut short")
        if any(_stream(stream) not in (None, (rows, columns, samples)) for stream in streams):
            raise UnreadableImageError("a compressed frame has another size than the header")
    array = np.asarray(header.pixel_array)
    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        array = apply_color_lut(array, header)
    colours = array.size // (frames * rows * columns)
    return array.reshape(frames, rows, columns, *([colours] if colours > 1 else []))


def _stream(stream: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and samples that a JPEG or JPEG 2000 stream declares itself; None for others."""
    if (at := stream.find(b"\xff\x4f\xff\x51", 0, 1 << 12)) >= 0:
        right, down, left, up = (int.from_bytes(stream[i : i + 4], "big") for i in range(at + 8, at + 24, 4))
        return down - up, right - left, int.from_bytes(stream[at + 40 : at + 42], "big")
    at = 2
    while stream[:2] == b"\xff\xd8" and at + 10 <= len(stream) and stream[at] == 0xFF:
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            rows, columns = (int.from_bytes(stream[i : i + 2], "big") for i in (at + 5, at + 7))
            return rows, columns, stream[at + 9]
        at += 1 if marker == 0xFF else 2 + length
    return None


def _dicom(data: Any, slices: int, mask: bool) -> _Read:
    """Every frame, as it is meant to be shown: rescale, then window, then MONOCHROME1 turned (PS3.3 C.11)."""
    header = _dataset(bytes(data))
    stored = _stored(header)
    flags = ["bad dates"] if _bad_dates(header) else []
    flags += ["dates disagree"] * _dates_disagree(header)
    flags += [flag for name, flag in _TELLING.items() if str(header.get(name) or "").strip().upper() == "YES"]
    told: dict[str, Any] = {
        "spacing": _sides(header, flags),
        "place": _kept(lambda: _lies(header, len(stored)), flags),
        "instance": _instance(header, stored),
    }
    if stored.ndim == 4:
        return _Read(_grey(stored), tuple(flags), **told)
    padding = _kept(lambda: _padding(header, stored), flags)
    stack = np.empty(stored.shape, np.float32)
    for i, frame in enumerate(stored):
        stack[i], slope = _rescaled(header, i, frame)
        if slope == 0 and "rescale slope 0" not in flags:
            flags.append("rescale slope 0")
    real = stack if padding is None else stack[~padding]
    low, high = (float(real.min()), float(real.max())) if real.size else (0.0, 0.0)
    if not math.isfinite(high - low):
        raise UnreadableImageError("numbers that are not finite")
    for i, frame in enumerate(stack):
        try:
            shown = _windowed(header, i, frame)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
            shown = None
            why = ["no usable window", *([str(error)] if isinstance(error, UnreadableImageError) else [])]
            flags += [flag for flag in why if flag not in flags]
        stack[i] = _between(frame, low, high) if shown is None else shown
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        np.subtract(1, stack, out=stack)
    if padding is not None:
        stack[padding] = 0
    return _Read(stack, tuple(flags), **told)


_TELLING = {
    "BurnedInAnnotation": "text burned into the picture",
    "RecognizableVisualFeatures": "recognisable features of a person",
}
"""Attributes that say YES where the pixels themselves may tell who it is."""


def _sides(header: Any, flags: list[str]) -> tuple[float, float] | None:
    """Millimetres between rows and between columns; a flag where they are given and of no use."""
    places = [(place, "PixelSpacing") for place in _places(header, 0, "PixelMeasuresSequence")]
    given = False
    for place, name in [*places, (header, "ImagerPixelSpacing")]:
        numbers = _kept(partial(_numbers, place, name), flags)
        if spacing := _spacing(numbers):
            return spacing
        given |= bool(numbers)
    flags += ["no usable spacing"] * given
    return None


def digest(identifier: str) -> str:
    """What an identifier leaves this module as."""
    return hashlib.sha256(identifier.encode(errors="replace")).hexdigest()


NOBODY = re.compile(
    r"(?i)[\W_x0]*|(anonym|anon|de-?ident|pseudonym|unknown|none|not.?given|n/?a|test|phantom).*"
)
"""What stands for a PatientID that was taken out."""


def _instance(header: Any, stored: np.ndarray) -> tuple[str, str, str] | None:
    """Digests of the SOPInstanceUID, of the pixels as stored, in either order of bytes, and of the PatientID;
    None without the first."""
    uid = str(header.get("SOPInstanceUID") or "")
    person = str(header.get("PatientID") or "").strip()
    pixels = np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("<"))
    content = hashlib.sha256(repr((pixels.shape, pixels.dtype.str)).encode())
    content.update(pixels.view(np.uint8).data)
    who = "" if NOBODY.fullmatch(person) else digest(person)
    return (digest(uid), content.hexdigest(), who) if uid else None


def _lies(header: Any, frames: int) -> np.ndarray | None:
    """(frame, 3, 3) as `Picture.place`; None where not told of each frame (PS3.3 C.7.6.2.1.1)."""

    def numbers(frame: int, group: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
        places = _places(header, frame, group)
        given = next((found for place in places if (found := _numbers(place, name))), None)
        return np.array(given, float).reshape(shape)

    try:
        place = []
        for i in range(frames):
            first = numbers(i, "PlanePositionSequence", "ImagePositionPatient", (3,))
            across, down = numbers(i, "PlaneOrientationSequence", "ImageOrientationPatient", (2, 3))
            sides = numbers(i, "PixelMeasuresSequence", "PixelSpacing", (2,))
            place.append([first, down * sides[0], across * sides[1]])
    except UnreadableImageError:  # given, but no numbers: to be told
        raise
    except (TypeError, ValueError, IndexError, KeyError, AttributeError):
        return None
    return np.array(place) * (-1, -1, 1)  # DICOM counts to the left and to the back


def _places(header: Any, frame: int, group: str) -> Iterator[Any]:
    """Where an attribute may stand: in the header, or in a functional group of all frames or of this one."""
    yield header
    for name, index in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", frame)):
        groups = header.get(name) or []
        if index < len(groups) and (inner := groups[index].get(group)):
            yield inner[0]


def _rescaled(header: Any, frame: int, stored: np.ndarray) -> tuple[np.ndarray, float]:
    """Modality values of a frame, and the slope."""
    if header.get("ModalityLUTSequence"):
        from pydicom.pixels import apply_modality_lut

        _signed_first(header.ModalityLUTSequence[0], bool(header.get("PixelRepresentation")))
        return apply_modality_lut(stored, header), 1.0
    for place in _places(header, frame, "PixelValueTransformationSequence"):
        slope, shift = _number(place, "RescaleSlope"), _number(place, "RescaleIntercept")
        if slope is not None or shift is not None:
            slope = 1.0 if slope is None else slope
            return stored * np.float64(slope) + np.float64(shift or 0), slope
    return stored, 1.0


def _windowed(header: Any, frame: int, values: np.ndarray) -> np.ndarray | None:
    """[0, 1] by the VOI look-up or the first window; None without one. ValueError: it makes no sense."""
    if header.get("VOILUTSequence"):
        from pydicom.pixels import apply_voi

        _signed_first(header.VOILUTSequence[0], bool(values.size) and float(values.min()) < 0)
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
        return apply_voi(np.rint(values).astype(np.int32), header) / np.float32(2**bits - 1)
    for place in _places(header, frame, "FrameVOILUTSequence"):
        center, width = _number(place, "WindowCenter"), _number(place, "WindowWidth")
        if center is None or width is None:
            continue
        how = place.get("VOILUTFunction") or "LINEAR"
        if width < (1 if how == "LINEAR" else 1e-9):
            raise ValueError
        if how == "SIGMOID":
            return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -80, 80)))
        if how == "LINEAR":
            center, width = center - 0.5, width - 1
        if width == 0:
            return (values > center).astype(np.float32)
        return _between(values, center - width / 2, center + width / 2)
    return None


def _padding(header: Any, stored: np.ndarray) -> np.ndarray | None:
    """Where a scanner wrote that there is no picture."""
    kind = {"f4": "Float", "f8": "DoubleFloat"}.get(stored.dtype.str[1:], "")
    ends = []
    for name in (f"{kind}PixelPaddingValue", f"{kind}PixelPaddingRangeLimit"):
        given = header.get(name)
        if given is None or given == "":
            break
        try:
            if isinstance(given, bytes):  # of a VR that the file does not tell
                given = int.from_bytes(given[:2], "little" if header.original_encoding[1] else "big")
            ends.append(float(given) if kind else _as_stored(int(given), header))
        except (TypeError, ValueError, OverflowError):
            raise UnreadableImageError(f"{name} is no number") from None
    if not ends:
        return None
    there = (stored >= min(ends)) & (stored <= max(ends))
    return there if there.any() else None


def _as_stored(value: int, header: Any) -> int:
    """A number of 16 bits as the pixels have it, whatever VR it was written with.

    PixelRepresentation says whether it has a sign (PS3.3 C.7.5.1.1.2); one of fewer bits may lack those above
    its own.
    """
    if not header.get("PixelRepresentation"):
        return value % (1 << 16)
    value = (value + (1 << 15)) % (1 << 16) - (1 << 15)
    bits = int(header.get("BitsStored") or 16)
    return value - (1 << bits) if 1 << (bits - 1) <= value < 1 << bits else value


def _signed_first(item: Any, signed: bool) -> None:
    """The first value that a look-up table maps, mended in place, where it was written without its sign."""
    size, first, bits = (int(x) for x in item.LUTDescriptor)
    if signed and first >= 1 << 15:
        item.LUTDescriptor = [size, first - (1 << 16), bits]


_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "PatientBirthDate")


def _days(header: Any) -> dict[str, date | None]:
    """The dates of a header by their names, None for one that is none. They are looked at for flags only; no
    time of a picture comes from here."""
    given = {name: str(header.get(name) or "").strip() for name in _DATES}
    given["AcquisitionDateTime"] = str(header.get("AcquisitionDateTime") or "").strip()[:8]
    days = dict[str, date | None]()
    for name, text in given.items():
        if text:
            days[name] = None
            with suppress(AttributeError, ValueError):
                year, month, day = re.fullmatch(r"(\d{4})\.?(\d\d)\.?(\d\d)", text).groups()  # type: ignore[union-attr]
                days[name] = date(int(year), int(month), int(day))
    return days


def _bad_dates(header: Any) -> bool:
    """Whether a date is none, an age over 130 years, or a birth comes after the study (else after today)."""
    days = _days(header)
    if None in days.values():
        return True
    known = {name: day for name, day in days.items() if day is not None}
    born, others = known.pop("PatientBirthDate", None), list(known.values())
    age = re.fullmatch(r"(\d{3})([DWMY])", text := str(header.get("PatientAge") or "").strip())
    if (text and not age) or (age and age[2] == "Y" and int(age[1]) > 130):
        return True
    return min([*others, *([born] if born else []), date(9999, 1, 1)]).year < 1850 or (
        born is not None and born > (max(others) if others else date.today())
    )


def _dates_disagree(header: Any) -> bool:
    """Whether study, series, acquisition and content are more than a day apart (a night lies between), or a
    birth comes after the first of them; after all of them it is a bad date."""
    known = {name: day for name, day in _days(header).items() if day is not None}
    born, others = known.pop("PatientBirthDate", None), list(known.values())
    if not others:
        return False
    return (max(others) - min(others)).days > 1 or (born is not None and min(others) < born <= max(others))


_DECODERS: dict[str, Callable[[Any, int, bool], _Read]] = {
    "png": _still,
    "jpeg": _still,
    "dicom": _dicom,
    "nifti": _nifti,
    "npy": _npy,
}


# -- many, guarded ----------------------------------------------------------------------------------------


def guarded(
    paths: Sequence[Path],
    steps: Sequence[str] = ("stretch",),
    *,
    slices: int = 8,
    mask: bool = False,
    seconds: float | int = 20,
    memory: int = 2 << 30,
    progress: Progress | None = None,
) -> Iterator[tuple[int, list[Picture] | str]]:
    """Each file's place and its pictures, or the reason why there are none; in order.

    Decoding runs in a process of its own, which holds no torch and shares nothing with this one. A file that
    takes over `seconds`, over `memory` bytes, or brings its process down costs only itself. While one file is
    looked at the next is decoded, no more; steps are those that stand in this file, by name.
    progress: called with how many files are done, and of how many.
    """
    checked(steps)
    worker = _Worker(
        {"steps": list(steps), "slices": slices, "mask": mask, "seconds": seconds, "memory": memory}
    )
    pool = ThreadPoolExecutor(1)
    ahead: deque[Future[list[Picture] | str]] = deque()
    todo = iter(paths)
    try:
        for i in range(len(paths)):
            ahead.extend(pool.submit(worker.read, path) for path in islice(todo, 2 - len(ahead)))
            found = ahead.popleft().result()
            if progress:
                progress("images", i + 1, len(paths))
            yield i, found
    finally:
        worker.stop()
        pool.shutdown(cancel_futures=True)


class _Worker:
    """A process that decodes one file after the other; started at need, and again after it died."""

    def __init__(self, job: dict[str, Any], module: str = __name__):
        """job: what every file has in common, with `seconds` and `memory`; module: whose _serve() works."""
        self.job, self.module = job, module
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()  # between the thread that reads and the one that stops it
        self.stopped = False

    def start(self) -> subprocess.Popen[bytes]:
        code = f"import sys; sys.path[:] = {sys.path!r}; import {self.module} as i; i._serve()"
        one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **one},
        )

    def read(self, path: Path) -> list[Picture] | str:
        """The pictures of a file, or why there are none."""
        found = self.ask({"path": os.path.abspath(path)})
        return found if isinstance(found, str) else found[0].get("reason") or found[1]

    def ask(self, job: dict[str, Any], *arrays: np.ndarray) -> tuple[dict[str, Any], list[Picture]] | str:
        """What the process answers to a job and to the arrays that go with it; or why it does not."""
        with self.lock:
            if self.stopped:
                return "stopped"
            fresh = self.process is None
            process = self.process = self.process or self.start()
        assert process.stdin and process.stdout
        if fresh and process.stdout.readline() != b"ready\n" and not self.stopped:
            raise InputError(
                f"the process that decodes pictures does not start; is {sys.executable} a Python?"
            )
        try:
            process.stdin.write(json.dumps({**self.job, **job}).encode() + b"\n")
            for array in arrays:
                process.stdin.write(np.ascontiguousarray(array).data.cast("B"))
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            pictures = [_receive(process.stdout, told) for told in answer["pictures"]]
        except (OSError, ValueError, EOFError):
            self.drop()
            late = process.returncode == -signal.SIGALRM
            return f"took over {self.job['seconds']:g} s" if late else "decoder crashed"
        if "refused" in answer:
            raise InputError(answer["refused"])
        if answer.get("full"):
            self.drop()  # what it holds now is unknown
            return f"took over {self.job['memory'] / (1 << 30):.3g} GB"
        return answer, pictures

    def drop(self) -> None:
        with self.lock:
            process, self.process = self.process, None
        if process is not None:
            with suppress(OSError):
                process.communicate()  # shuts its door, on which it ends, if it has not died

    def stop(self) -> None:
        """Nothing is waited for: a decoder at work is killed."""
        with self.lock:
            self.stopped = True
            if self.process is not None:
                self.process.kill()
        self.drop()


def _send(pipe: Any, answer: dict[str, Any], found: Sequence[Picture]) -> None:
    """A line of JSON, then the pixels."""
    answer["pictures"] = [
        {
            **vars(picture),
            "pixels": picture.pixels.shape,
            "place": None if picture.place is None else picture.place.tolist(),
        }
        for picture in found
    ]
    pipe.write(json.dumps(answer).encode() + b"\n")
    for picture in found:
        pipe.write(np.ascontiguousarray(picture.pixels).data.cast("B"))
    pipe.flush()


def _receive(pipe: Any, told: dict[str, Any]) -> Picture:
    pixels = np.empty(told["pixels"], np.float32)
    rest = pixels.data.cast("B")
    while rest:
        if not (size := pipe.readinto(rest)):
            raise EOFError
        rest = rest[size:]
    place, instance = told["place"], told["instance"]
    lists = {  # which JSON knows alone
        "flags": tuple(told["flags"]),
        "spacing": _spacing(told["spacing"]),
        "place": None if place is None else np.array(place, np.float64),
        "instance": None if instance is None else tuple(instance),
    }
    return Picture(**told | lists | {"pixels": pixels})


def _serve(answer: Callable[[dict[str, Any], Any], None] | None = None) -> None:
    """The life of a worker: a line of JSON in, a line of JSON and the pixels out, by default those of a file.

    The clock is the system's own alarm, which ends the process inside any decoder, and also when nobody waits
    for it any more. Memory counts from what the process holds at its start.
    """
    with open(os.dup(1), "wb") as out:
        out.write(b"ready\n")
        out.flush()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)  # a decoder written in C may print
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the dump of a crash would hold a patient's picture
        limited = False
        for line in sys.stdin.buffer:
            job = json.loads(line)
            if not limited:
                _limit(job["memory"])
                limited = True
            (answer or _answer)(job, out)  # and forget: what is held of one file would count for the next


def _answer(job: dict[str, Any], out: Any) -> None:
    """One file, within its time."""
    found: list[Picture] = []
    answer: dict[str, Any] = {}
    signal.setitimer(signal.ITIMER_REAL, job["seconds"])
    try:
        found = read_images(Path(job["path"]), job["steps"], slices=job["slices"], mask=job["mask"])
    except UnreadableImageError as error:
        answer = {"reason": str(error), "full": isinstance(error, ImageTooLargeError)}
    except InputError as error:
        answer = {"refused": str(error)}
    signal.setitimer(signal.ITIMER_REAL, 0)
    _send(out, answer, found)


def _limit(memory: int) -> None:
    base = 0
    with suppress(OSError, ValueError):  # /proc is Linux's
        base = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = base + memory if hard == resource.RLIM_INFINITY else min(base + memory, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
