"""One image file as grey pixels in [0, 1]. A file that cannot be read costs itself, never a cohort.

The content decides the format, not the name. What a header declares is checked against the bytes that are
there before anything is allocated. Of a header only what the pixels need is taken: no name, no identifier, no
date and no message of a decoder leaves this folder.

A new format is one file with a `Decoder`, and one line in `DECODERS`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gnnpatient.content.image.base import Decoder, Frames, Image, ImageTooLargeError, UnreadableImageError
from gnnpatient.content.image.dicom import Dicom, lacks_preamble
from gnnpatient.content.image.files import HEAD, load, unpack, unpacked
from gnnpatient.content.image.nifti import Nifti
from gnnpatient.content.image.npy import Npy
from gnnpatient.content.image.raster import Jpeg, Png
from gnnpatient.content.image.steps import STEPS, check_steps
from gnnpatient.errors import InputError

DECODERS: dict[str, Decoder] = {
    "png": Png(),
    "jpeg": Jpeg(),
    "dicom": Dicom(),
    "npy": Npy(),
    "nifti": Nifti(),
}
"""Formats by name, in the order in which a file's content is tried on them."""

_OTHER_ENDINGS = {
    ".gif",
    ".tif",
    ".tiff",
    ".bmp",
    ".webp",
    ".jp2",
    ".mha",
    ".nrrd",
    ".csv",
    ".txt",
    ".pdf",
    ".json",
}


def read_images(
    path: Path,
    steps: Sequence[str] = ("stretch",),
    *,
    slices: int = 8,
    bare: bool = False,
    mask: bool = False,
) -> list[Image]:
    """Read the images of one file, here and now; `worker.guarded` does it in a process with limits.

    A still gives one; a DICOM file of several frames all of them, in order. A volume (NIfTI, or a .npy of
    three axes) gives some slices: the middles of as many equal parts, along the axis of the thickest voxels,
    axial where they are equal (.npy: along the first axis). Of a series the first volume is taken.

    Colours become luminance (ITU-R 601), transparent parts black, an EXIF orientation is applied. 8 and 16
    bit pixels are scaled by the range of their type; signed numbers and fractions (.npy, NIfTI) by the least
    and the greatest of what is taken from the file. DICOM: rescale or modality look-up, then the first window
    or VOI look-up, without one the least and greatest value; MONOCHROME1 turned; padding is black.

    Parameters
    ----------
    path : Path
        The file.
    steps : sequence of str, default ("stretch",)
        Preprocessing, by its names in `steps.STEPS`; of all frames together.
    slices : int, default 8
        Slices to take of a volume, >= 1.
    bare : bool, default False
        Whether a DICOM file may lack the 128 bytes and "DICM" that should begin it.
    mask : bool, default False
        Whether it is a mask: 1 where the file holds a number above 0, else 0, without steps. Only formats
        that keep edges as they are drawn can be one: PNG, npy and NIfTI.

    Returns
    -------
    list of Image
        At least one.

    Raises
    ------
    UnreadableImageError
        When there is no image to be had, with the reason.
    InputError
        When a step is unknown, slices < 1, or an optional package is missing.
    """
    check_steps(steps)
    if slices < 1:
        raise InputError(f"slices = {slices}; must be >= 1")
    decoder: Decoder | None = None
    try:
        data = load(path, _in_parts)
        packed = data[:2] == b"\x1f\x8b"
        head = unpack(data, 1 << 10)[0] if packed else bytes(data[:HEAD])
        decoder = _decoder(head[:HEAD], path, bare)
        with _quiet():
            if mask and not decoder.keeps_edges:
                kept = [each.name for each in DECODERS.values() if each.keeps_edges]
                raise UnreadableImageError(f"a {decoder.name} is no mask; save it as {_either(kept)}")
            data = unpacked(data, decoder.declared_bytes(head)) if packed else data
            frames = decoder.decode(data, slices, mask)
            flags = _name_flags(path, decoder, packed) + frames.flags
            if mask:
                frames, steps = frames._replace(stack=(frames.stack > 0).astype(np.float32)), ()
            return _images(frames._replace(flags=flags), steps)
    except (UnreadableImageError, InputError):
        raise
    except MemoryError:
        raise ImageTooLargeError("too large for the memory") from None
    except OSError:
        raise UnreadableImageError(
            f"broken {decoder.name}" if decoder else "no permission to read it"
        ) from None
    except BaseException as error:  # a decoder's own message may repeat what the file holds
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        # that of RLE, in Rust, panics outside Exception
        raise UnreadableImageError(f"broken {decoder.name if decoder else 'file'}") from None


def _in_parts(head: bytes) -> bool:
    """Whether a file that begins so is read slice by slice, so that it may be large."""
    return any(decoder.read_in_parts and decoder.recognises(head) for decoder in DECODERS.values())


def _decoder(head: bytes, path: Path, bare: bool) -> Decoder:
    """The decoder of a file, by how its content begins."""
    for decoder in DECODERS.values():
        if decoder.recognises(head):
            return decoder
    if lacks_preamble(head):
        if bare:
            return DECODERS["dicom"]
        raise UnreadableImageError("not a DICOM file: it lacks the preamble; bare=True reads it")
    promised = next((each.name for each in DECODERS.values() if _ending(path) in each.endings), None)
    if not head:
        raise UnreadableImageError(f"not a {promised} file: it is empty" if promised else "empty file")
    raise UnreadableImageError(f"not a {promised or _either([each.name for each in DECODERS.values()])} file")


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _ending(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _name_flags(path: Path, decoder: Decoder, packed: bool) -> tuple[str, ...]:
    """A flag where the name promises something else. No ending, or one unknown, promises nothing."""
    ending = _ending(path)
    other = {ending for each in DECODERS.values() for ending in each.endings if each is not decoder}
    wrong = ending in _OTHER_ENDINGS | other
    return ("name does not fit the content",) if wrong or packed != path.name.lower().endswith(".gz") else ()


@contextmanager
def _quiet() -> Iterator[None]:
    """No warning and no log line: those of decoders repeat what a header holds."""
    loggers = [logging.getLogger(name) for decoder in DECODERS.values() for name in decoder.loggers]
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


def _images(read: Frames, steps: Sequence[str]) -> list[Image]:
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
        Image(
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
