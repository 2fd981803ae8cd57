"""What every image format shares: an image, the protocol of a decoder, the limits, and scaling to [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from gnnpatient.errors import InputError

LARGEST_PIXELS = 100_000_000  # of all frames that a file gives
LARGEST_BYTES = 512 << 20  # that a file holds, or unpacks to; a plain .nii may be larger, it is read in parts

UNREADABLE = "image: "  # how the reason of a row begins whose image cannot be read
NO_FILE = "no such file"


class UnreadableImageError(ValueError):
    """One file that is left out. Its text is the reason: short, without a path or a word of a header."""


class ImageTooLargeError(UnreadableImageError):
    """Left out because decoding it takes more memory than there is."""


# shapes are comments here: every process that decodes loads this, and jaxtyping loads as long as numpy does
@dataclass(frozen=True, eq=False)
class Image:
    """One grey image.

    Attributes
    ----------
    pixels : np.ndarray
        0 is black, 1 is white.
    flags : tuple of str
        What a report should show: "name does not fit the content", "constant", "one pixel", "bad dates",
        "dates disagree", "text burned into the image", "recognisable features of a person", "rescale slope
        0", "no usable window", "no usable spacing", "NAME is no number" (of an attribute), "transparent parts
        made black", "16 bit colour read as 8 bit", "first of several frames", "first of several volumes",
        "orientation unknown".
    spacing : (float, float) or None
        Millimetres from one row to the next and from one column to the next; None where not given.
    frame : int
        Which frame of a DICOM file, or which slice of a volume; 0 in a still.
    depth : int
        How many frames or slices the file holds.
    place : np.ndarray or None
        In millimetres to the patient's right, front and head: the centre of the first pixel, the step to the
        next row, the step to the next column; None where the file does not say.
    instance : (str, str, str) or None
        Digests of the SOPInstanceUID of a DICOM file, of its stored pixels and of its PatientID ("": it has
        none); None in other files.
    """

    pixels: np.ndarray  # (height, width) float32
    flags: tuple[str, ...]
    spacing: tuple[float, float] | None
    frame: int
    depth: int
    place: np.ndarray | None  # (3, 3) float64
    instance: tuple[str, str, str] | None


class Frames(NamedTuple):
    """What a decoder gives, before the steps.

    Attributes
    ----------
    stack : np.ndarray
        Pixels in [0, 1], all frames scaled alike.
    flags, spacing, instance
        As in `Image`.
    frames : sequence of int, optional
        Which frames or slices these are; None: all, in order.
    depth : int, optional
        How many the file holds; None: as many as these.
    place : np.ndarray, optional
        As in `Image`, of each frame.
    """

    stack: np.ndarray  # (frame, height, width) float32
    flags: tuple[str, ...] = ()
    spacing: tuple[float, float] | None = None
    frames: Sequence[int] | None = None
    depth: int | None = None
    place: np.ndarray | None = None  # (frame, 3, 3)
    instance: tuple[str, str, str] | None = None


@runtime_checkable
class Decoder(Protocol):
    """One file format: how its content begins, and how it becomes grey frames.

    A new format is a class of this kind in a file of its own and one line in `read.DECODERS`. The packages
    that it needs are imported in `decode`, under `extra()`, so that nothing is loaded before it is needed.

    Attributes
    ----------
    name : str
        As reasons and messages call the format.
    endings : tuple of str
        Of file names that promise this format, in lower case, with their dots.
    keeps_edges : bool, default True
        False: a mask stored in it has lost its outline, and is refused.
    read_in_parts : bool, default False
        Whether a plain file may be larger than `LARGEST_BYTES`; then it comes as a memory map.
    loggers : tuple of str, default none
        Loggers of its package, which are silenced: what they write repeats what a header holds.
    """

    name: str
    endings: tuple[str, ...]
    keeps_edges: bool = True
    read_in_parts: bool = False
    loggers: tuple[str, ...] = ()

    def recognises(self, head: bytes) -> bool:
        """Whether a file is of this format.

        Parameters
        ----------
        head : bytes
            The first 352 bytes of its content, or all where it is shorter.

        Returns
        -------
        bool
            By the content alone, whatever the name says.
        """
        ...

    def declared_bytes(self, head: bytes) -> int | None:
        """How many bytes a whole file has, so that a packed one unpacks to no more.

        Parameters
        ----------
        head : bytes
            The first kilobyte of its content.

        Returns
        -------
        int or None
            None where the beginning does not say.
        """
        return None

    def decode(self, data: Any, slices: int, mask: bool) -> Frames:
        """Decode a file.

        Parameters
        ----------
        data : bytes or memoryview
            Its content.
        slices : int
            Slices to take of a volume, at most.
        mask : bool
            Whether the file is a mask: then what is above 0 must stay above 0.

        Returns
        -------
        Frames
            At least one.

        Raises
        ------
        UnreadableImageError
            With a reason of a few words that repeats nothing of the file.
        """
        ...


def check_size(pixels: int, size: int = 0) -> None:
    """Check what a header declares, before anything is allocated.

    Parameters
    ----------
    pixels : int
        Of all frames.
    size : int, default 0
        Bytes that they take.

    Raises
    ------
    UnreadableImageError
        When there are none, or too many.
    """
    if pixels < 1:
        raise UnreadableImageError("no pixels")
    if pixels > LARGEST_PIXELS:
        raise UnreadableImageError(f"declares more than {LARGEST_PIXELS // 1_000_000} million pixels")
    if size > LARGEST_BYTES:
        raise UnreadableImageError(f"declares more than {LARGEST_BYTES >> 20} MB")


@contextmanager
def extra() -> Iterator[None]:
    """Turn the ImportError of a package for images into one line with what to install.

    Yields
    ------
    None
        Import the package in the block.

    Raises
    ------
    InputError
        When it is not installed.
    """
    try:
        yield
    except ImportError as error:
        missing = error.name or "a package"
        raise InputError(f"images need {missing}; pip install 'gnnpatient[image]'") from None


def between(
    stack: np.ndarray, low: float | int, high: float | int, width: np.float32 | None = None
) -> np.ndarray:
    """Scale low to 0 and high to 1, and clip what lies beyond.

    Parameters
    ----------
    stack : np.ndarray
        Numbers of any type and shape.
    low, high : float or int
        The range; where high is not above low, all becomes 0.
    width : np.float32, optional
        high - low, rounded once; without it, the difference of the two rounded numbers.

    Returns
    -------
    np.ndarray
        float32 of the same shape, in [0, 1].

    Examples
    --------
    >>> between(np.array([0, 5, 20]), 0, 10)
    array([0. , 0.5, 1. ], dtype=float32)
    """
    if not high > low:
        return np.zeros(stack.shape, np.float32)
    fine = np.result_type(stack.dtype, np.float32).type  # 32 bit whole numbers need more than float32
    out = np.subtract(stack, low, dtype=fine)
    out /= fine(high) - fine(low) if width is None else width
    return np.clip(out, 0, 1, out=out).astype(np.float32, copy=False)


_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


def luminance(colours: np.ndarray) -> np.ndarray:
    """Luminance of colours.

    Parameters
    ----------
    colours : np.ndarray
        (..., 3) unsigned red, green and blue.

    Returns
    -------
    np.ndarray
        (...) float32 in [0, 1].

    References
    ----------
    .. [1] Recommendation ITU-R BT.601.
    """
    flat, size = colours.reshape(-1, 3), 1 << 20
    grey = np.empty(len(flat), np.float32)
    # in parts: as float32 the colours would take three times as much
    for i in range(0, len(flat), size):
        np.matmul(flat[i : i + size].astype(np.float32), _LUMINANCE, out=grey[i : i + size])
    grey /= np.iinfo(colours.dtype).max
    return np.clip(grey, 0, 1, out=grey).reshape(colours.shape[:-1])


def middle_slices(size: int, slices: int) -> list[int]:
    """Which slices to take of a volume: the middles of as many equal parts.

    Parameters
    ----------
    size : int
        Slices that there are.
    slices : int
        Slices to take, at most.

    Returns
    -------
    list of int
        Their numbers.

    Examples
    --------
    >>> middle_slices(24, 4), middle_slices(3, 8)
    ([3, 9, 15, 21], [0, 1, 2])
    """
    slices = min(size, slices)
    return [(2 * i + 1) * size // (2 * slices) for i in range(slices)]


def full_range(stack: np.ndarray, mask: bool) -> np.ndarray:
    """Scale the least number to 0 and the greatest to 1; of a mask all above 0 becomes 1.

    Parameters
    ----------
    stack : np.ndarray
        Numbers of any type and shape.
    mask : bool
        Whether it is a mask, whose only number may be 1.

    Returns
    -------
    np.ndarray
        float32 of the same shape, in [0, 1].

    Raises
    ------
    UnreadableImageError
        When a number is not finite.
    """
    low, high = float(stack.min()), float(stack.max())
    if not math.isfinite(high - low):
        raise UnreadableImageError("numbers that are not finite")
    return (stack > 0).astype(np.float32) if mask else between(stack, low, high)


def spacing_of(numbers: Any) -> tuple[float, float] | None:
    """Spacing of the pixels, where it is of use.

    Parameters
    ----------
    numbers : object
        Whatever a header holds.

    Returns
    -------
    (float, float) or None
        Two positive finite numbers; None: something else.
    """
    with suppress(TypeError, ValueError):
        row, column = (float(x) for x in numbers)
        if 0 < row < math.inf and 0 < column < math.inf:
            return row, column
    return None
