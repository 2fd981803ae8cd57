"""Atomic files and folders, one writer a folder, safe names, and JSON with a digest that shows changes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import resource
import secrets
import shutil
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from gnnpatient.errors import InputError

# Names of what is being written begin with this; readers ignore them.
_PART = ".part-"

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
def atomic_file(path: str | os.PathLike[str], *, private: bool = False) -> Iterator[Path]:
    """Write a file that appears in one step when the block ends without an exception.

    After an exception, a kill or a power cut, `path` is what it was before.

    Parameters
    ----------
    path : str or path
        The file; its folder must exist.
    private : bool, default False
        Let only the owner read it.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    InputError
        When the disk refuses: no space, no permission, and the like.

    Examples
    --------
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
            if private:
                part.touch(0o600)
            yield part
            _flush(part)
            part.replace(path)
            _flush(path.parent)
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder that appears in one step when the block ends without an exception.

    Parameters
    ----------
    path : str or path
        The folder; its parents are made. It must not exist, or be empty.

    Yields
    ------
    Path
        The folder to fill.

    Raises
    ------
    InputError
        When there is something at `path`, or the disk refuses.
    """
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
    """Be the only writer in a folder, which is made if need be.

    The system drops the lock of a process that dies, so no lock is left behind; what a killed writer left
    half-written, in folders of it too, is removed. The empty file `.lock` stays: removing it would let two
    processes in.

    Parameters
    ----------
    folder : str or path
        The folder to lock.

    Yields
    ------
    Path
        The same folder.

    Raises
    ------
    InputError
        At once, when another process writes there.
    """
    folder = Path(folder)
    with _refusing(folder, folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = open(folder / ".lock", "a+")  # noqa: SIM115  closed below, which also unlocks
    with handle:
        with _refusing(folder, folder):
            _take(handle, folder)
            for left in list(folder.rglob(f"{_PART}*")):
                shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        try:
            yield folder
        finally:
            handle.truncate(0)


MAX_UNCHECKED_BYTES = 64 << 20  # below, free memory is not asked for


def free_memory() -> int | None:
    """Bytes of memory that this process may still take.

    Returns
    -------
    int or None
        The least of what the machine, the container and the process limit leave; None where the system does
        not tell.
    """
    found = []
    with suppress(OSError, ValueError):  # /proc is Linux's
        available = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        found += [int(available[1]) << 10] if available else []
    with suppress(OSError, ValueError):
        used, limit = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("current", "max"))
        found.append(limit - used)  # "max" in words is no limit
    with suppress(OSError, ValueError):
        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            found.append(soft - mapped)
    return max(0, min(found)) if found else None


def room_for(size: int, what: str) -> None:
    """Check that there is enough free memory before it is allocated.

    Parameters
    ----------
    size : int
        Bytes that will be allocated.
    what : str
        What for, as the message begins.

    Raises
    ------
    InputError
        When less memory is free, with both sizes.
    """
    if size > MAX_UNCHECKED_BYTES and (free := free_memory()) is not None and size > free:
        raise InputError(
            f"{what}: takes about {size / 1e9:.1f} GB of memory, of which {free / 1e9:.1f} GB are free; take "
            "fewer rows or columns, or a larger machine"
        )


def _take(handle: TextIO, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        holder = handle.read() or "its process is not recorded yet"
        raise InputError(
            f"{folder}: another process is writing here ({holder}); wait for it, or write elsewhere"
        ) from None
    except OSError as error:  # a file system without locks
        warnings.warn(f"{folder} cannot be locked ({error.strerror}): start one writer only", stacklevel=5)
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}")
    handle.flush()


# ---- names


NAME_LIMIT = 100  # bytes of a name that is made of a text; with what is added to it, any disk takes it
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # no file has such a name on Windows
_NO_NAME = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029]")


def is_device(name: str) -> bool:
    """Whether Windows keeps a name for a device, whatever its suffix.

    Parameters
    ----------
    name : str
        A file's name.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_device("aux.value.npy"), is_device("auxiliary")
    (True, False)
    """
    return _DEVICE.fullmatch(name) is not None


def is_name(text: str) -> bool:
    """Whether a text from a file may be used as a name: one line, without parts of a path.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    bool

    Examples
    --------
    >>> [is_name(text) for text in ("liver transplant", "../../out", "..", "a\\x00b", "")]
    [True, False, False, False, False]
    """
    return not (_NO_NAME.search(text) or text.strip() in ("", ".", ".."))


def file_name(text: str) -> str:
    """A file name made of any text, valid on every system. Two texts may give the same name.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        At most `NAME_LIMIT` bytes; what is longer ends in a digest.

    Examples
    --------
    >>> file_name("liver transplant"), file_name("../../out"), file_name("con.csv")
    ('liver_transplant', '___.._out', '_con.csv')
    """
    name = re.sub(r"^\.+|\.+$", lambda dots: "_" * len(dots[0]), re.sub(r"[^\w.-]", "_", text)) or "_"
    name = f"_{name}" if is_device(name) else name
    if len(raw := name.encode("utf-8", "replace")) > NAME_LIMIT:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        name = f"{raw[: NAME_LIMIT - 13].decode('utf-8', 'ignore')}-{digest}"
    return name


def inside(folder: Path, *names: str) -> Path:
    """A path below a folder.

    Parameters
    ----------
    folder : Path
        Where the path begins.
    *names : str
        Its further parts, one name each.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        When a name is no single file name, so that the path could lead elsewhere.
    """
    for name in names:
        if not is_name(name) or is_device(name):
            raise InputError(
                f"{folder}: {name!r} is not the name of a file; nothing outside that folder is touched"
            )
    return folder.joinpath(*names)


# ---- JSON with a digest


_DIGEST = re.compile(rb',\n "digest": "([0-9a-f]{64})"\n}\s*$')


def sealed(content: Mapping[str, Any], **options: Any) -> str:
    """A JSON object as text, with a digest of itself as the last key.

    The digest (sha256) shows accidents and edits, not attacks: an attacker can compute it anew.

    Parameters
    ----------
    content : mapping
        The object.
    **options
        As for `json.dumps`.

    Returns
    -------
    str
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, **options)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f'{text[:-2]},\n "digest": "{digest}"\n}}\n'


def is_sealed(raw: bytes) -> bool:
    """Whether a text is unchanged since `sealed` wrote it.

    Parameters
    ----------
    raw : bytes
        The content of a file.

    Returns
    -------
    bool
    """
    found = _DIGEST.search(raw)
    return (
        found is not None and hashlib.sha256(raw[: found.start()] + b"\n}").hexdigest().encode() == found[1]
    )


def file_hash(path: Path) -> str:
    """The digest (sha256) of a file's bytes.

    Parameters
    ----------
    path : Path
        A file.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _refusing(path: Path, part: Path) -> Iterator[None]:
    """A failure to write `part` becomes one line about `path`; any other error passes through."""
    try:
        yield
    except Exception as error:
        number = _errno(error, (path, part))
        if number not in _WAY_OUT:
            raise
        raise InputError(f"cannot write {path}: {_WAY_OUT[number]}") from error


def _errno(error: Exception, paths: tuple[Path, ...]) -> int | None:
    if isinstance(error, OSError) and error.errno:
        about = Path(os.fsdecode(error.filename)) if error.filename else paths[0]
        is_ours = any(about.is_relative_to(path) or path.is_relative_to(about) for path in paths)
        return error.errno if is_ours else None
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
