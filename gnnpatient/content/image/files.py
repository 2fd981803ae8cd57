"""Image files before they are decoded: found inside their folder, opened, unpacked, fingerprinted."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zlib
from collections.abc import Callable, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from gnnpatient.content.image import base
from gnnpatient.content.image.base import NO_FILE, UnreadableImageError

HEAD = 352  # bytes that are enough to know the format


def locate(root: Path, name: str) -> Path:
    """The file of a name inside a folder, its links followed.

    A name that is absolute, begins with ~ or holds .. is refused before the disk is read.

    Parameters
    ----------
    root : Path
        The folder.
    name : str
        Relative to it.

    Returns
    -------
    Path
        Resolved.

    Raises
    ------
    UnreadableImageError
        When it leads out of the folder, does not exist, or is not a file.
    """
    parts = re.split(r"[/\\]", name)
    if name.startswith("~") or ".." in parts or os.path.isabs(name) or re.match(r"\\|[A-Za-z]:[/\\]", name):
        raise UnreadableImageError("leads out of the folder")
    try:
        path, inside = (root / name).resolve(), root.resolve()
        there = bool(name.strip()) and path.exists()
    except (OSError, RuntimeError, ValueError):  # too long a name, links that go in a circle, a NUL
        raise UnreadableImageError(NO_FILE) from None
    if not path.is_relative_to(inside):
        raise UnreadableImageError("leads out of the folder")
    if not there:
        raise UnreadableImageError(NO_FILE)
    if not path.is_file():
        raise UnreadableImageError("not a file")
    return path


def fingerprint(path: Path) -> str:
    """The sha256 of a file's bytes.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        Hexadecimal.

    Raises
    ------
    UnreadableImageError
        When it cannot be opened.
    """
    with _open(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def conflicts(instances: Sequence[tuple[str, ...] | None]) -> list[tuple[int, int]]:
    """Find DICOM files with one SOPInstanceUID and different pixels.

    Each file that differs is paired with the first of its identifier; the same pixels in another header or
    another lossless compression are no conflict.

    Parameters
    ----------
    instances : sequence
        The `Image.instance` of each file; None, of what is not DICOM, is passed over.

    Returns
    -------
    list of (int, int)
        Places of the two files.
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
        handle = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    except (FileNotFoundError, NotADirectoryError):
        raise UnreadableImageError(NO_FILE) from None
    except IsADirectoryError:
        raise UnreadableImageError("not a file") from None
    except OSError:
        raise UnreadableImageError("no permission to read it") from None
    if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
        handle.close()
        raise UnreadableImageError("not a file")
    return handle


def load(path: Path, in_parts: Callable[[bytes], bool]) -> Any:
    """The bytes of a file.

    Parameters
    ----------
    path : Path
        The file.
    in_parts : callable
        Whether a file that begins so may be larger than `LARGEST_BYTES`, since it is read slice by slice.

    Returns
    -------
    bytes or memoryview
        A view of a memory map where the file is larger.

    Raises
    ------
    UnreadableImageError
        When it cannot be opened, or is too large.
    """
    with _open(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size <= base.LARGEST_BYTES:
            return handle.read()
        if in_parts(handle.read(HEAD)):
            return np.memmap(path, np.uint8, "r").data
    raise UnreadableImageError(f"larger than {base.LARGEST_BYTES >> 20} MB")


def unpack(data: Any, most: int) -> tuple[bytes, bool]:
    """The beginning of what a gzip file holds.

    Parameters
    ----------
    data : bytes or memoryview
        The file.
    most : int
        Bytes to unpack, at most.

    Returns
    -------
    content : bytes
        At most so many.
    complete : bool
        Whether this is all.

    Raises
    ------
    UnreadableImageError
        When it is cut short or broken.
    """
    parts, size, engine, rest = [], 0, zlib.decompressobj(31), bytes(data)
    try:
        while size < most:
            part = engine.decompress(rest, min(most - size, 1 << 20))
            parts.append(part)
            size += len(part)
            if engine.eof:
                rest = engine.unused_data
                # another member may follow, anything else is padding
                if rest[:2] != b"\x1f\x8b":
                    return b"".join(parts), True
                engine = zlib.decompressobj(31)
            elif not part:
                raise UnreadableImageError("cut short")
            else:
                rest = engine.unconsumed_tail
    except zlib.error:
        raise UnreadableImageError("broken gzip") from None
    return b"".join(parts), False


def unpacked(data: Any, declared: int | None) -> bytes:
    """All of what a gzip file holds.

    Parameters
    ----------
    data : bytes or memoryview
        The file.
    declared : int or None
        Bytes that its content declares; it unpacks to no more. None: it does not say.

    Returns
    -------
    bytes
        The content.

    Raises
    ------
    UnreadableImageError
        When it is cut short, broken, or larger than `LARGEST_BYTES`.
    """
    most = base.LARGEST_BYTES
    if declared is not None:
        if declared > most:
            raise UnreadableImageError(f"unpacks to more than {most >> 20} MB")
        # one more, so that the checksum at the end is met
        return unpack(data, declared + 1)[0]
    content, complete = unpack(data, most + 1)
    if not complete:
        raise UnreadableImageError(f"unpacks to more than {most >> 20} MB")
    return content
