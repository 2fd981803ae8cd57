"""A folder that keeps vectors by their content, shared by processes and by cohorts."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from gnnpatient.errors import InputError
from gnnpatient.files import atomic_file, lock

Block = tuple[list[str], np.ndarray, dict[str, str]]  # keys, (key, channel), what a vector leaves out
MAX_SHARD_ROWS, MAX_SHARD_SECONDS = 4096, 30.0  # written once either is reached: a kill loses no more
MAX_SHARDS = 16  # more than this, and they are joined
MAX_WAIT_SECONDS = 600.0  # for another process that writes


class VectorCache:
    """The vectors of one encoder: shards NAME.npy, float32 (row, channel), each with the keys in NAME.json.

    A shard is never changed. Its .json is written after its .npy, and holds a hash of both: a file without
    .json, or one that does not fit its hash, is not there. Many small shards are joined to one, which
    opens as one memory map. Processes may share a folder.

    Parameters
    ----------
    cache : Path
        Folder of all encoders; made when the first vector is written.
    encoder : str
        Name of the encoder, with its version and preprocessing.

    Attributes
    ----------
    folder : Path
        Folder of this encoder.
    """

    def __init__(self, cache: Path, encoder: str):
        plain = re.sub(r"[^A-Za-z0-9.]+", "-", re.split(r"[@:]", encoder)[0])[-40:].strip("-.")
        self.encoder = encoder
        self.folder = cache / f"{plain}-{hashlib.sha256(encoder.encode()).hexdigest()[:12]}"

    def read(self, wanted: set[str], again: bool = True) -> list[Block]:
        """The vectors that are there; a broken shard is deleted, with a warning.

        Parameters
        ----------
        wanted : set of str
            Keys.
        again : bool, default True
            Whether to read once more when another process joined the shards meanwhile.

        Returns
        -------
        list of Block
            Of each key that was found, its vector and what it leaves out.
        """
        blocks: list[Block] = []
        left = set(wanted)
        gone = False
        for path in self._shards():
            try:
                index = json.loads(path.read_bytes())
                rows = [(row, key) for row, key in enumerate(index["keys"]) if key in left]
                if not rows:
                    continue
                matrix = self._open(path, index)
                take = matrix[[row for row, _ in rows]]
            except FileNotFoundError:
                gone = True
                continue
            except (OSError, ValueError, KeyError, TypeError, EOFError):
                self._drop(path)
                continue
            names = [key for _, key in rows]
            left -= set(names)
            blocks.append((names, take, {k: v for k, v in index["why"].items() if k in set(names)}))
        if gone and again:  # another process joined the shards meanwhile
            return self.read(wanted, again=False)
        return blocks

    def keep(self, made: Iterator[Block], device: str) -> Iterator[Block]:
        """Pass vectors on as they are made, and write them; after an error too, what was finished stays.

        Parameters
        ----------
        made : iterator of Block
            Vectors, as an encoder gives them.
        device : str
            Where they were computed, for the record.

        Yields
        ------
        Block
            Those of `made`, unchanged.

        Raises
        ------
        InputError
            When the vectors have another number of channels than those kept under this name.
        """
        waiting: list[Block] = []
        since = time.monotonic()
        try:
            for block in made:
                waiting.append(block)
                if (
                    sum(len(b[0]) for b in waiting) >= MAX_SHARD_ROWS
                    or time.monotonic() - since >= MAX_SHARD_SECONDS
                ):
                    self._write(waiting, device)
                    waiting, since = [], time.monotonic()
                yield block
        finally:
            if waiting:
                self._write(waiting, device)
        if len(self._shards()) > MAX_SHARDS:
            self._join(device)

    def _shards(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.json") if not path.name.startswith("."))

    @staticmethod
    def _open(path: Path, index: dict[str, Any]) -> np.ndarray:
        data = path.with_suffix(".npy")
        if _digest(data, index["keys"], index["why"]) != index["sha256"]:
            raise ValueError("does not fit its hash")
        matrix = np.load(data, mmap_mode="r", allow_pickle=False)
        if matrix.ndim != 2 or len(matrix) != len(index["keys"]) or matrix.dtype != np.float32:
            raise ValueError("not a shard")
        return matrix

    def _drop(self, path: Path) -> None:
        warnings.warn(f"{path}: damaged; its contents are embedded again", stacklevel=4)
        with suppress(OSError):
            path.unlink()
            path.with_suffix(".npy").unlink()

    def _write(self, blocks: list[Block], device: str) -> None:
        """What is finite; the rest is made again the next time, when the encoder may be fixed."""
        blocks = [_finite(block) for block in blocks]
        keys = [key for names, _, _ in blocks for key in names]
        if not keys:
            return
        why = {key: note for _, _, notes in blocks for key, note in notes.items()}
        channels = {vectors.shape[1] for _, vectors, _ in blocks}
        with self._locked():
            for path in self._shards()[:1]:
                with suppress(OSError, ValueError):  # a broken one is for `read` to find
                    shard = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
                    channels |= set(shard.shape[1:])
            if len(channels) > 1:
                raise InputError(mixed_channels(self.encoder, channels))
            self._add(keys, why, device, (vectors for _, vectors, _ in blocks), channels.pop())

    def _add(
        self, keys: list[str], why: dict[str, str], device: str, parts: Iterator[np.ndarray], channels: int
    ) -> None:
        path = self.folder / f"{secrets.token_hex(8)}.json"
        with atomic_file(path.with_suffix(".npy")) as part:
            data = np.lib.format.open_memmap(part, "w+", np.float32, (len(keys), channels))
            row = 0
            for vectors in parts:
                data[row : row + len(vectors)] = vectors
                row += len(vectors)
            data.flush()
            del data
            digest = _digest(part, keys, why)
        index = {"encoder": self.encoder, "device": device, "sha256": digest, "keys": keys, "why": why}
        with atomic_file(path) as part:
            part.write_text(json.dumps(index))

    def _join(self, device: str) -> None:
        """All shards as one. Another process may have written meanwhile, so this looks under the lock."""
        with self._locked():
            keys: list[str] = []
            why: dict[str, str] = {}
            seen: set[str] = set()
            parts: list[tuple[Path, list[int]]] = []
            channels = set()
            for path in self._shards():
                try:
                    index = json.loads(path.read_bytes())
                    channels.add(self._open(path, index).shape[1])
                except (OSError, ValueError, KeyError, TypeError, EOFError):
                    self._drop(path)
                    continue
                rows = [row for row, key in enumerate(index["keys"]) if key not in seen]
                keys += [index["keys"][row] for row in rows]
                seen.update(index["keys"])
                why |= index["why"]
                parts.append((path, rows))
            if len(parts) < 2 or len(channels) > 1:
                return
            data = (
                np.load(p.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)[rows] for p, rows in parts
            )
            self._add(keys, why, device, data, channels.pop())
            for path, _ in parts:
                path.unlink(missing_ok=True)
                path.with_suffix(".npy").unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Be the only writer; wait for another one, whose turn is short."""
        end = time.monotonic() + MAX_WAIT_SECONDS
        with ExitStack() as locks:
            while True:
                try:
                    locks.enter_context(lock(self.folder))
                    break
                except InputError as error:
                    if not isinstance(error.__context__, BlockingIOError) or time.monotonic() > end:
                        raise
                time.sleep(0.05)
            yield


def _finite(block: Block) -> Block:
    names, vectors, why = block
    good = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    kept = [names[i] for i in good]
    return kept, vectors[good], {name: why[name] for name in kept if name in why}


def mixed_channels(name: str, channels: set[int]) -> str:
    """The message for vectors of several lengths under one name.

    Parameters
    ----------
    name : str
        Name of the encoder.
    channels : set of int
        The lengths.

    Returns
    -------
    str
        One line.
    """
    sizes = " and ".join(map(str, sorted(channels)))
    return f"encoder {name}: gave vectors of {sizes} channels; give it another name, or another cache"


def _digest(path: Path, keys: list[str], why: dict[str, str]) -> str:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps([keys, why]).encode())
    return digest.hexdigest()
