"""Whole or not at all: files and folders that appear in one step, and one writer a folder."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from gnnpatient.errors import Refused

_PART = ".part-"  # beginning of the name of what is being written; readers never look at these

_WAY_OUT = {
    errno.ENOSPC: "no space left on the disk; free some, or write elsewhere",
    errno.EDQUOT: "the disk quota is used up; free some, or write elsewhere",
    errno.EROFS: "the disk is read-only; write elsewhere",
    errno.EACCES: "no permission to write there; write elsewhere",
    errno.EPERM: "no permission to write there; write elsewhere",
    errno.ENOENT: "its folder does not exist; make it first",
    errno.ENOTDIR: "a part of the path is a file; write elsewhere",
    errno.EISDIR: "it is a folder; give a file's name",
    errno.EBUSY: "that folder is in use; give a new name",
    errno.EEXIST: "something is there already; write elsewhere",
    errno.ENOTEMPTY: "the folder is not empty; write elsewhere",
    errno.ENAMETOOLONG: "the name is too long for this disk; use a shorter one",
}


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write to the path that is given; when the block ends well, the file takes its place in one step.

    After an exception, a kill or a power cut, `path` is what it was before. The folder must exist.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with atomic_file(f"{folder}/answer.txt") as part:
    ...         _ = part.write_text("42")
    ...     Path(folder, "answer.txt").read_text()
    '42'
    """
    path = Path(path)
    part = path.absolute().with_name(f"{_PART}{secrets.token_hex(4)}{path.suffix}")
    try:
        with _refusing(path, part):
            yield part
            _flush(part)
            part.replace(path)
            _flush(path.parent)
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """The same for a folder, to be filled. Makes its parents; a target that holds anything is refused."""
    path = Path(path)
    part = path.absolute().with_name(f"{_PART}{secrets.token_hex(4)}")
    try:
        with _refusing(path, part):
            if path.is_dir() and any(path.iterdir()):
                raise OSError(errno.ENOTEMPTY, "", str(part))
            if not path.is_dir() and (path.exists() or path.is_symlink()):
                raise OSError(errno.EEXIST, "", str(part))
            path.parent.mkdir(parents=True, exist_ok=True)
            part.mkdir()
            yield part
            for inside in part.rglob("*"):
                _flush(inside)
            _flush(part)
            part.rename(path)  # onto an empty folder this replaces it
            _flush(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def lock(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Be the only writer in a folder, which is made if need be; a second one is refused at once.

    The system drops the lock of a process that dies, so there are no stale ones; what a killed writer left
    half-written is swept away. The empty file `.lock` stays: removing it would let two processes in.
    """
    folder = Path(folder)
    with _refusing(folder, folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = open(folder / ".lock", "a+")  # noqa: SIM115  closed below, which also unlocks
    with handle:
        with _refusing(folder, folder):
            _take(handle, folder)
            for left in folder.glob(f"{_PART}*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield folder
        finally:
            handle.truncate(0)


def _take(handle: TextIO, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        holder = handle.read() or "it has not said its name yet"
        raise Refused(
            f"{folder}: another process is writing here ({holder}); wait for it, or write elsewhere"
        ) from None
    except OSError as error:  # a file system without locks
        warnings.warn(f"{folder} cannot be locked ({error.strerror}): start one writer only", stacklevel=5)
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}")
    handle.flush()


@contextmanager
def _refusing(path: Path, part: Path) -> Iterator[None]:
    """A failure to write `part` becomes one line about `path`; any other error passes through."""
    try:
        yield
    except Exception as error:
        number = _errno(error, (path, part))
        if number not in _WAY_OUT:
            raise
        raise Refused(f"cannot write {path}: {_WAY_OUT[number]}") from error


def _errno(error: Exception, ours: tuple[Path, ...]) -> int | None:
    if isinstance(error, OSError) and error.errno:
        about = Path(os.fsdecode(error.filename)) if error.filename else ours[0]
        near = any(about.is_relative_to(own) or own.is_relative_to(about) for own in ours)
        return error.errno if near else None
    # safetensors and polars give the number in words only; numpy's short write gives none
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        return int(found[1])
    return errno.ENOSPC if re.search(r"\d+ requested and \d+ written", str(error)) else None


def _flush(path: Path) -> None:
    """Make what was written reach the disk: else a name can survive a power cut and its bytes not."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
