"""Images and texts as vectors, each made once: encoders by name, and a cache by content.

Whatever an image or a text is called, its vector is found again by what it holds: the cache is asked for
(content, encoder with weights and preprocessing), and cohorts may share one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gnnpatient.content import texts as reports
from gnnpatient.content.cache import Block, VectorCache, mixed_channels
from gnnpatient.content.encoder import Encode, Encoder, OwnEncoder, user_encoder
from gnnpatient.content.handcrafted import handmade, hashed
from gnnpatient.content.image.base import UnreadableImageError
from gnnpatient.content.measure import UNITS, VERSION, measure, measuring
from gnnpatient.content.pretrained import efficientnet, fetch, minilm, stretched, text_model, vision_model
from gnnpatient.errors import InputError, near
from gnnpatient.files import room_for
from gnnpatient.progress import Progress
from gnnpatient.spec.nodes import NodeSpec


@dataclass(frozen=True, eq=False)
class Embedded:
    """The vectors of some items: one for each different content, in order of first appearance.

    Attributes
    ----------
    matrix : np.ndarray
        A row for each different content; every number is finite.
    row : np.ndarray
        Of each item, its row of the matrix; -1: it has no vector.
    why : tuple of str
        Of each item, why it has no vector; or what its vector leaves out (of a long text only the first and
        last pieces count); else "".
    encoder : str
        Name @ hash of the weights: preprocessing.
    """

    matrix: np.ndarray  # (row, channel) float32
    row: np.ndarray  # (item,) int64
    why: tuple[str, ...]  # (item,)
    encoder: str


def embed_images(
    images: Callable[[int], np.ndarray | None] | Iterable[np.ndarray | None],
    keys: Sequence[str],
    encoder: str | Path | Callable,
    *,
    cache: Path | None = None,
    device: str = "auto",
    batch_size: int = 32,
    progress: Progress | None = None,
    allow_network: bool = False,
    stretch: bool = True,
) -> Embedded:
    """Embed images, each content once.

    Parameters
    ----------
    images : callable or iterable
        `images(i)` gives the image of `keys[i]` and is called only for what the cache does not hold; or an
        iterable in the order of `keys`. An image is float (height, width) in [0, 1], or (slice, height,
        width), of which the mean over the slices is taken; None: there is none.
    keys : sequence of str
        A fingerprint of each content; equal ones are embedded once.
    encoder : str, Path or callable
        "handmade"; "efficientnet-lite0"; a folder with a transformers vision model; its name on the hub, with
        `allow_network`; or a callable from a list of (height, width) to (n, channel), see `UserEncoder`.
    cache : Path, optional
        Folder that keeps the vectors; it is made where there is none. A vector in it serves every device.
    device : str, default "auto"
        auto, cpu, cuda or cuda:N; cuda computes in bfloat16, efficientnet-lite0 in float16.
    batch_size : int, default 32
        Images that an encoder is given at once.
    progress : Progress, optional
        Called with how many are done, and of how many.
    allow_network : bool, default False
        Whether an encoder may be downloaded from the hub.
    stretch : bool, default True
        Whether an encoder with weights stretches each image first; its name says so.

    Returns
    -------
    Embedded
        An item for each key. What is no image, what raises InputError in `images`, and what gets a vector
        that is not finite has no row, but a reason: one bad file costs one item.

    Raises
    ------
    InputError
        When the encoder does not exist or does not work, or a setting is out of range.

    Examples
    --------
    >>> ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    >>> found = embed_images([ramp, None], ["a", "b"], "handmade")
    >>> found.matrix.shape, found.row.tolist(), found.why
    ((1, 487), [0, -1], ('', 'no image'))
    """
    numbered = iter(()) if callable(images) else enumerate(images)
    end = object()

    def read(i: int) -> tuple[list[np.ndarray], str]:
        if callable(images):
            try:
                return _slices(images(i))
            except InputError as error:
                return [], str(error)
        image: Any = next((image for j, image in numbered if j == i), end)
        if image is end:
            raise InputError(f"{len(keys)} keys, but fewer images; give one image for each key")
        return _slices(image)

    image_encoder = make_encoder(
        encoder, images=True, allow_network=allow_network, cached=cache is not None, stretch=stretch
    )
    return _embed(read, list(keys), image_encoder, cache, device, batch_size, progress)


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
    """Embed texts, each content once: the mean over a text's overlapping pieces.

    Parameters
    ----------
    texts : sequence of str or None
        They are cleaned first (`texts.clean`).
    encoder : str, Path or callable
        "hashed"; "minilm"; a folder with a transformers text model; its name on the hub, with
        `allow_network`; or a callable from a list of pieces to (n, channel), see `UserEncoder`.
    cache, device, batch_size, progress, allow_network
        As in `embed_images`.

    Returns
    -------
    Embedded
        An item for each text. None and blank texts have no row: nothing is not a text.

    Raises
    ------
    InputError
        When the encoder does not exist or does not work, or a setting is out of range.

    Examples
    --------
    >>> embed_texts(["No effusion.", None, "No effusion."], "hashed").row.tolist()
    [0, -1, 0]
    """
    cleaned = [reports.clean(text) for text in texts]
    text_encoder = make_encoder(encoder, images=False, allow_network=allow_network, cached=cache is not None)

    def read(i: int) -> tuple[list[str], str]:
        words, limit = text_encoder.words, text_encoder.limit
        found, complete = reports.pieces(cleaned[i] or "", words, text_encoder.overlap, limit)
        cut = f"long text: its first and last {limit // 2} pieces of {words} words count"
        return found, "" if complete and found else cut if found else "no text"

    # surrogates cannot be here: `clean` takes them out
    keys = [None if text is None else hashlib.sha256(text.encode()).hexdigest() for text in cleaned]
    return _embed(read, keys, text_encoder, cache, device, batch_size, progress)


def measure_regions(
    regions: Sequence[tuple[np.ndarray, np.ndarray | None, tuple[float, float] | None]],
    keys: Sequence[str],
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Embedded:
    """Measure regions, each content once.

    Parameters
    ----------
    regions : sequence of tuples
        Pixels, mask and spacing, as `measure` takes them.
    keys : sequence of str
        A fingerprint of each image and mask.
    cache : Path, optional
        Folder that keeps the measurements.
    progress : Progress, optional
        Called with how many are done, and of how many.

    Returns
    -------
    Embedded
        The first half of a row holds the numbers in the order of `measure.UNITS`, 0 where one is not defined;
        the second half 1 where it is. What cannot be measured has no row, but a reason.
    """

    def read(i: int) -> tuple[list[np.ndarray], str]:
        try:
            found = measured(*regions[i])
        except UnreadableImageError as error:
            return [], str(error)
        return [np.array([*(found.get(name, 0.0) for name in UNITS), *(name in found for name in UNITS)])], ""

    name = f"measure@{VERSION}: shades, outline, texture"
    encoder = Encoder(name, lambda device, size: np.stack, channels=2 * len(UNITS))
    with measuring(measure) as measured:
        return _embed(read, list(keys), encoder, cache, "cpu", 32, progress)


def _slices(image: np.ndarray | None) -> tuple[list[np.ndarray], str]:
    """The slices of an image; or none, and the reason."""
    if image is None:
        return [], "no image"
    if image.ndim not in (2, 3) or not image.size or image.dtype.kind != "f":
        return [], f"not an image: {image.dtype} {image.shape}; give floats (h, w) or (slice, h, w)"
    low, high = float(image.min()), float(image.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # nan fails too
        return [], f"not an image: numbers from {low:g} to {high:g}; stretch it to 0..1"
    return list(image.astype(np.float32, copy=False).reshape(-1, *image.shape[-2:])), ""


def _embed(
    read: Callable[[int], tuple[list[Any], str]],
    keys: Sequence[str | None],
    encoder: Encoder,
    cache: Path | None,
    device: str,
    batch_size: int,
    progress: Progress | None,
) -> Embedded:
    """The vectors of all keys: from the cache, and the others made, kept as they come."""
    if batch_size < 1:
        raise InputError(f"batch_size {batch_size}: must be >= 1")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise InputError(f"device {device!r}: choose auto, cpu or cuda")
    first: dict[str, int] = {}
    for i, key in enumerate(keys):
        if key is not None:
            first.setdefault(key, i)
    store = None if cache is None else VectorCache(Path(cache), encoder.name)
    blocks = store.read(set(first)) if store else []
    cached_keys = {key for names, _, _ in blocks for key in names}
    lost: dict[str | None, str] = {None: "no text"}
    if todo := [(key, i) for key, i in first.items() if key not in cached_keys]:
        device = _available_device(device) if encoder.weights else "cpu"
        encode, size = encoder.load(device, batch_size), batch_size * encoder.ahead
        made = _make(todo, read, encoder, encode, size, lost, progress)
        blocks += store.keep(made, device) if store else made
    return _gather(blocks, keys, first, lost, encoder)


def _make(
    todo: list[tuple[str, int]],
    read: Callable[[int], tuple[list[Any], str]],
    encoder: Encoder,
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
            yield names, _mean(encode, parts, encoder), notes
            names, parts, notes, count = [], [], {}, 0
        if progress:
            progress(encoder.name, done, len(todo))


def _mean(encode: Encode, parts: list[list[Any]], encoder: Encoder) -> np.ndarray:
    """Of each item, the mean over its pieces."""
    flat = [piece for pieces in parts for piece in pieces]
    vectors = np.asarray(encode(flat), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(flat) or not vectors.shape[1]:
        raise InputError(
            f"encoder {encoder.name}: gave an array {vectors.shape} for {len(flat)} pieces; give (n, channel)"
        )
    counts = np.array([len(pieces) for pieces in parts])
    return np.add.reduceat(vectors, np.cumsum(counts) - counts) / counts[:, None].astype(np.float32)


def _gather(
    blocks: list[Block],
    keys: Sequence[str | None],
    first: dict[str, int],
    lost: dict[str | None, str],
    encoder: Encoder,
) -> Embedded:
    """All vectors in one matrix, in order of first appearance; those that are not finite are left out."""
    channels = {matrix.shape[1] for _, matrix, _ in blocks} or {encoder.channels}
    if len(channels) > 1:
        raise InputError(mixed_channels(encoder.name, channels))
    present = {key for names, _, _ in blocks for key in names}
    place = {key: row for row, key in enumerate(key for key in first if key in present)}
    width = channels.pop()
    room_for(4 * width * len(place), f"{encoder.name}: {len(place)} vectors of {width} channels")
    matrix = np.empty((len(place), width), np.float32)
    notes = dict(lost)
    while blocks:  # each is let go once it is copied
        names, vectors, why = blocks.pop()
        matrix[[place[key] for key in names]] = vectors
        notes.update(why)
    finite = np.asarray(np.isfinite(matrix).all(axis=1))
    row = np.array([-1 if key is None else place.get(key, -1) for key in keys], np.int64)
    bad = (row >= 0) & ~finite[row] if len(finite) else np.zeros(len(row), bool)
    why_not = tuple(
        "the encoder gave numbers that are not finite" if is_bad else notes.get(key, "")
        for key, is_bad in zip(keys, bad, strict=True)
    )
    if not finite.all():
        row = np.where(bad | (row < 0), -1, np.cumsum(finite)[row] - 1)
        matrix = matrix[finite]
    return Embedded(matrix, row, why_not, encoder.name)


def _available_device(name: str) -> str:
    """cpu or cuda, as this machine has it."""
    import torch

    if name != "cpu" and not torch.cuda.is_available():
        if name != "auto":
            raise InputError(f"device {name!r}: torch sees no CUDA device here; choose auto or cpu")
        return "cpu"
    return "cuda" if name == "auto" else name


# an encoder without a file of its own is one line here
IMAGE_ENCODERS: dict[str, Callable[[], Encoder]] = {"handmade": handmade, "efficientnet-lite0": efficientnet}
TEXT_ENCODERS: dict[str, Callable[[], Encoder]] = {"hashed": hashed, "minilm": minilm}


def find_encoder(name: str, folder: Path, *, images: bool, allow_network: bool) -> str | Path:
    """What the name of an encoder means, before anything is opened.

    Parameters
    ----------
    name : str
        An encoder's name, a folder with a transformers model, or a name on the hub.
    folder : Path
        Where a folder is looked for first, before the working directory.
    images : bool
        Whether it is for images; else it is for texts.
    allow_network : bool
        Whether it may be a name on the hub.

    Returns
    -------
    str or Path
        The name, or the folder that it means.

    Raises
    ------
    InputError
        When there is no such encoder.
    """
    known = IMAGE_ENCODERS if images else TEXT_ENCODERS
    if name in known:
        return name
    for path in (folder / name, Path(name)):
        if path.is_dir():
            return path
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        if allow_network:
            return name
        raise InputError(
            f"encoder {name!r}: no such folder; if it is a name on the hub, allow the network "
            "(--allow-network), or download the folder first"
        )
    own = f"one of your own is given in Python, as in read_cohort(..., encoders={{{name!r}: f}})"
    raise InputError(f"encoder {name!r}: no such name and no such folder{near(name, known)}; {own}")


def own_encoders(encoders: Any, nodes: Mapping[str, NodeSpec]) -> dict[str, OwnEncoder]:
    """Encoders of one's own by the names that a spec has for them.

    Parameters
    ----------
    encoders : mapping of str to UserEncoder
        As `read_cohort` takes them.
    nodes : mapping of str to NodeSpec
        The node types of the spec.

    Returns
    -------
    dict of str to OwnEncoder

    Raises
    ------
    InputError
        When one is no callable, no node type has its name as `embed`, or the name is taken.
    """
    if not isinstance(encoders, Mapping):
        raise InputError(f"encoders: {type(encoders).__name__}; give callables by name, as in {{'mine': f}}")
    named = {node.embed: kind for kind, node in nodes.items() if node.embed is not None}
    for name, encoder in encoders.items():
        if not callable(encoder) or isinstance(encoder, type):
            what = "class" if isinstance(encoder, type) else type(encoder).__name__
            raise InputError(f"encoders: {name!r} is a {what}; give a function or an object that is called")
        if name in IMAGE_ENCODERS or name in TEXT_ENCODERS:
            raise InputError(f"encoders: {name!r} is the name of an encoder of this package; choose another")
        if name not in named:
            has = ", ".join(f'nodes.{kind} has embed = "{one}"' for one, kind in named.items())
            raise InputError(
                f"encoders: no node type has embed = {str(name)!r}; {has or 'none has images or texts'}"
            )
    return {name: OwnEncoder(name, encoder) for name, encoder in encoders.items()}


def make_encoder(
    encoder: str | Path | Callable,
    *,
    images: bool,
    allow_network: bool = False,
    cached: bool = False,
    stretch: bool = True,
) -> Encoder:
    """The encoder that a name, a folder or a user's own callable means; no weight is read yet.

    Parameters
    ----------
    encoder : str, Path or callable
        As in `embed_images` and `embed_texts`.
    images : bool
        Whether it is for images; else it is for texts.
    allow_network : bool, default False
        Whether a name may be looked up on the hub.
    cached : bool, default False
        Whether its vectors are kept, so that a callable needs a name.
    stretch : bool, default True
        Whether an encoder of images with weights stretches each image first; its name says so.

    Returns
    -------
    Encoder
        What `load` gives is ready to encode.

    Raises
    ------
    InputError
        When there is no such encoder, its package is missing, or a model's folder is not safe to load.
    """
    if not isinstance(encoder, str | Path):
        return user_encoder(encoder, cached)
    found = find_encoder(str(encoder), Path(), images=images, allow_network=allow_network)
    by_name, of_folder = (IMAGE_ENCODERS, vision_model) if images else (TEXT_ENCODERS, text_model)
    if found in by_name:
        record = by_name[str(found)]()
    else:
        record = of_folder(found if isinstance(found, Path) else fetch(found))
    return stretched(record) if images and record.weights and stretch else record
