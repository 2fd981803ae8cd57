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
from gnnpatient.content.image.base import UnreadableImageError

HEAD = 352  # bytes that tell the format


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
    with open_file(path) as handle:
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


def open_file(path: Path) -> BufferedReader:
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


def load(path: Path, in_parts: Callable[[bytes], bool]) -> Any:
    """The bytes of a file; a large one as a map, where `in_parts` finds that it is read slice by slice."""
    with open_file(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size <= base.LARGEST_BYTES:
            return handle.read()
        if in_parts(handle.read(HEAD)):
            return np.memmap(path, np.uint8, "r").data
    raise UnreadableImageError(f"larger than {base.LARGEST_BYTES >> 20} MB")


def unpack(data: Any, most: int) -> tuple[bytes, bool]:
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


def unpacked(data: Any, declared: int | None) -> bytes:
    """A whole gzip file; no more than its content declares, where that says so."""
    most = base.LARGEST_BYTES
    if declared is not None:
        if declared > most:
            raise UnreadableImageError(f"unpacks to more than {most >> 20} MB")
        return unpack(data, declared + 1)[0]  # one more, so that the checksum at the end is met
    whole, complete = unpack(data, most + 1)
    if not complete:
        raise UnreadableImageError(f"unpacks to more than {most >> 20} MB")
    return whole
