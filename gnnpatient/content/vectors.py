"""What the rows of a node type hold beside their code: vectors of images and texts, and measurements.

Files are opened, texts cleaned; each content is embedded once; what cannot be read costs its own row alone.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gnnpatient.content import texts
from gnnpatient.content.embed import Embedded, embed_images, embed_texts, measure_regions
from gnnpatient.content.encoder import OwnEncoder
from gnnpatient.content.image import files
from gnnpatient.content.image.base import UNREADABLE, Image, UnreadableImageError
from gnnpatient.content.image.dicom import digest
from gnnpatient.content.image.worker import guarded
from gnnpatient.content.measure import UNITS
from gnnpatient.files import room_for
from gnnpatient.progress import Progress
from gnnpatient.spec.nodes import NodeSpec

FILES_AT_ONCE = 256  # images of so many files are in memory at a time
Pair = tuple[str, ...]  # the file of an image, and that of its mask where one is wanted; "" = none named
Region = tuple[np.ndarray, np.ndarray | None, tuple[float, float] | None]  # pixels, mask, spacing


@dataclass(frozen=True, eq=False)
class EmbedOptions:
    """How embeddings are made.

    Attributes
    ----------
    cache : Path or None
        Folder that keeps them; None: they are made again each time.
    device : str
        auto, cpu or cuda.
    embed : bool
        False: files are opened and counted only, and every vector is empty.
    allow_network : bool
        Whether an encoder may be downloaded.
    progress : Progress or None
        Called as files are read and vectors made.
    own : mapping of str to OwnEncoder
        Encoders of a user, by the names that the spec has for them.
    """

    cache: Path | None
    device: str
    embed: bool
    allow_network: bool
    progress: Progress | None
    own: Mapping[str, OwnEncoder] = field(default_factory=dict)

    def encoding(self, name: str) -> dict[str, Any]:
        """Those of the arguments of `embed_images` and `embed_texts` that are options, and the encoder.

        Parameters
        ----------
        name : str
            Name of the encoder, as in the spec.

        Returns
        -------
        dict
            Without a cache where the vectors of a user's encoder must not be kept.
        """
        own = self.own.get(name)
        cache = self.cache if own is None or own.kept else None
        encoder = name if own is None else own
        options = {"device": self.device, "allow_network": self.allow_network}
        return {"encoder": encoder, "cache": cache, **options}

    def step(self, what: str, start: int, total: int) -> Progress | None:
        """Progress of one part of a longer task.

        Parameters
        ----------
        what : str
            Name of the task.
        start : int
            How many items were done before this part.
        total : int
            How many items the task has.

        Returns
        -------
        Progress or None
            None where no progress is wanted.
        """
        progress = self.progress
        if progress is None:
            return None

        def step(_: str, done: int, __: int, /, **figures: Any) -> None:
            progress(what, start + done, total, **figures)

        return step


@dataclass(frozen=True, eq=False)
class Content:
    """What the rows of a node type hold: of a row no vector, one, or several (frames, slices).

    Attributes
    ----------
    matrix : np.ndarray
        A row for each different vector, sorted by what it was made of, so that the order of the table does
        not count.
    item : np.ndarray
        Of each node, its row of the table.
    vector : np.ndarray
        Of each node, its row of the matrix.
    why : list of str
        Of each row of the table, why it gives no node; "": it does.
    flags : list of str
        What a report should show, with numbers.
    encoder : str
        Name, version of the weights and preprocessing; "" where nothing was embedded.
    keys : list of str
        What each row of the matrix was made of.
    death_rows : np.ndarray or None
        Rows of the table whose text mentions a death; None of images.
    """

    matrix: np.ndarray  # (vector, channel) float32
    item: np.ndarray  # (node,) int64
    vector: np.ndarray  # (node,) int32
    why: list[str]  # (row,)
    flags: list[str]
    encoder: str
    keys: list[str]  # (vector,)
    death_rows: np.ndarray | None = None  # (text,) int64


@dataclass(frozen=True, eq=False)
class Measurements:
    """What the images of some nodes measure.

    Attributes
    ----------
    value : np.ndarray
        In the order of `measure.UNITS`; nan: not defined, or not measured.
    why : list of str
        Of each node, why its image was not measured; "": it was.
    encoder : str
        Name and version of the measurements.
    """

    value: np.ndarray  # (node, measurement) float32
    why: list[str]  # (node,)
    encoder: str


# -- images -----------------------------------------------------------------------------------------------


def image_content(
    node_type: str,
    node: NodeSpec,
    names: pl.Series,
    folder: Path,
    options: EmbedOptions,
    patient: np.ndarray | None = None,
    ids: np.ndarray | None = None,
) -> Content:
    """Open and embed the images that a column names; a file that cannot be read costs its own rows alone.

    Parameters
    ----------
    node_type : str
        Name of the node type, for flags.
    node : NodeSpec
        Its root, steps, slices and encoder.
    names : pl.Series
        (row,) file names below the root; null: none named.
    folder : Path
        Where the root lies.
    options : EmbedOptions
        How they are embedded.
    patient : np.ndarray, optional
        (row,) position of each row's patient in `ids`; with it, images under another patient are flagged.
    ids : np.ndarray, optional
        Names of the patients.

    Returns
    -------
    Content
        A node for each frame of a file, or each slice taken of a volume.

    Raises
    ------
    InputError
        When an optional package is missing, or the encoder does not work.
    """
    why, paths = _located(names, folder / node.root)
    read, made, order = _ImageFiles(), _Vectors(), list(paths)
    # images are dropped as soon as they are embedded
    for start in range(0, len(order), FILES_AT_ONCE):
        some = order[start : start + FILES_AT_ONCE]
        keys, pixels = list[str](), list[np.ndarray]()
        step = options.step(f"{node_type}: images", start, len(order))
        for at, images in guarded([paths[n] for n in some], node.steps, slices=node.slices, progress=step):
            for key, image in read.add(some[at], paths[some[at]], images, node):
                keys.append(key)
                pixels.append(image.pixels)
        assert node.embed is not None
        # where no step changes the file's pixels, the encoder does not either
        stretch = not set(node.steps) <= {"none"}
        embed = partial(embed_images, pixels, keys, stretch=stretch, **options.encoding(node.embed))
        made.add(keys, embed if options.embed else None)
    for i, name in enumerate(names):
        if name in read.unreadable:
            why[i] = f"{UNREADABLE}{read.unreadable[name]}"
    flags = read.flags
    conflicts = len(files.conflicts(read.instances))
    flags["pair(s) of files with one SOPInstanceUID and two contents; both kept"] += conflicts
    if patient is not None and ids is not None:
        flags.update(_misplaced(names, patient, ids, read))
    return _content(node_type, names, read.keys, made, why, flags, "image")


def _located(names: pl.Series, root: Path) -> tuple[list[str], dict[str, Path]]:
    """Of each row, why it has no file ("": it has one), and the path of each different name."""
    why, paths = [""] * len(names), dict[str, Path]()
    for i, name in enumerate(names):
        try:
            if name is None:
                raise UnreadableImageError("no file named")
            if name not in paths:
                paths[name] = files.locate(root, name)
        except UnreadableImageError as error:
            why[i] = f"{UNREADABLE}{error}"
    return why, paths


class _ImageFiles:
    """What the files of a column hold, by their names."""

    def __init__(self) -> None:
        self.keys: dict[str, list[str]] = {}  # of each image in the file
        self.unreadable: dict[str, str] = {}  # the reason
        self.flags: Counter[str] = Counter()
        self.instances: list[tuple[str, ...] | None] = []
        self.person: dict[str, str] = {}  # digest of the DICOM PatientID
        # digest of what is shown; not of constant images
        self.pixels: dict[str, str] = {}

    def add(
        self, name: str, path: Path, images: list[Image] | str, node: NodeSpec
    ) -> list[tuple[str, Image]]:
        """Note a file, which is read or has a reason why it is not; gives each image and its key."""
        if isinstance(images, str):
            self.unreadable[name] = images
            return []
        try:
            keys = _keys(path, images, node)
        except UnreadableImageError as error:  # taken away since it was decoded
            self.unreadable[name] = str(error)
            return []
        self.flags.update({f"file(s) flagged: {flag}" for image in images for flag in image.flags})
        self.instances.append(images[0].instance)
        _, stored, self.person[name] = images[0].instance or ("", "", "")
        if not all("constant" in image.flags for image in images):
            self.pixels[name] = stored or _pixels_digest(images)
        self.keys[name] = keys
        return list(zip(keys, images, strict=True))


def _pixels_digest(images: Sequence[Image]) -> str:
    """What all images of a file show, whatever else it holds."""
    sha = hashlib.sha256()
    for image in images:
        sha.update(repr(image.pixels.shape).encode())
        sha.update(np.ascontiguousarray(image.pixels).data.cast("B"))
    return sha.hexdigest()


def _misplaced(names: pl.Series, patient: np.ndarray, ids: np.ndarray, read: _ImageFiles) -> Counter[str]:
    """Flags of images that seem to be another patient's, with their number."""
    rows = pl.DataFrame({"file": names, "patient": patient}).drop_nulls().unique()
    rows = rows.with_columns(
        person=rows["file"].replace_strict(read.person, default="", return_dtype=pl.String),
        pixels=rows["file"].replace_strict(read.pixels, default="", return_dtype=pl.String),
    )
    by_digest = {digest(str(name)): i for i, name in enumerate(ids)} if any(read.person.values()) else {}
    named = rows.filter(pl.col("person") != "")
    theirs = named["person"].replace_strict(by_digest, default=None, return_dtype=pl.Int64)

    def several(key: str, of: str) -> int:
        """How many of a key have more than one of the other."""
        some = rows.filter(pl.col("person" if key == "patient" else key) != "") if key != "file" else rows
        return some.group_by(key).agg(pl.col(of).n_unique()).filter(pl.col(of) > 1).height

    wrong = int((theirs != named["patient"]).sum())
    return Counter(
        {
            "file(s) whose DICOM PatientID is the id of another patient": wrong,
            "DICOM PatientID(s) in files of more than one patient": several("person", "patient"),
            "patient(s) with files of more than one DICOM PatientID": several("patient", "person"),
            "file(s) named for more than one patient": several("file", "patient"),
            "image(s) with the same pixels under more than one patient": several("pixels", "patient"),
        }
    )


def _keys(path: Path, images: Sequence[Image], node: NodeSpec) -> list[str]:
    """What each image of a file holds: the file's bytes, its place in it, and what was done to it.

    The number of slices counts too, since the steps look at all slices that are taken.
    """
    done = f"{'+'.join(node.steps)}/{node.slices}"
    content = files.fingerprint(path)
    return [f"{content}/{image.frame}/{done}" for image in images]


# -- regions ----------------------------------------------------------------------------------------------


def region_measurements(
    node_type: str,
    node: NodeSpec,
    pairs: Sequence[Pair],
    keys: Sequence[str],
    folder: Path,
    options: EmbedOptions,
) -> Measurements:
    """Measure the images of a node type; a bad mask costs the measurements of its image alone.

    Parameters
    ----------
    node_type : str
        Name of the node type that holds the measurements, for progress.
    node : NodeSpec
        The node type of the images: its root, steps and slices.
    pairs : sequence of tuples
        (node,) the image's file and, where regions are wanted, its mask's.
    keys : sequence of str
        (node,) what the image's vector was made of, as in `Content.keys`.
    folder : Path
        Where the root lies.
    options : EmbedOptions
        Cache and progress.

    Returns
    -------
    Measurements
        A row for each node.
    """
    order, encoder = list(dict.fromkeys(pairs)), ""
    rows, why = dict[tuple[Pair, str], np.ndarray](), dict[Pair | tuple[Pair, str], str]()
    for start in range(0, len(order), FILES_AT_ONCE):
        regions = list(_regions(order[start : start + FILES_AT_ONCE], node, folder, why))
        content = [f"{key}/{mask}" for (_, key), mask, _ in regions]
        step = options.step(f"{node_type}: regions", start, len(order))
        arrays = [region for *_, region in regions]
        numbers = measure_regions(arrays, content, cache=options.cache, progress=step)
        encoder = numbers.encoder
        for (one, *_), row, reason in zip(regions, numbers.row.tolist(), numbers.why, strict=True):
            if row < 0:
                why[one] = reason
            else:
                value, defined = np.split(numbers.matrix[row], 2)
                rows[one] = np.where(defined > 0, value, np.float32(np.nan))
    each = list(zip(pairs, keys, strict=True))
    none = np.full(len(UNITS), np.nan, np.float32)
    return Measurements(
        value=np.stack([rows.get(one, none) for one in each]) if each else none[None, :][:0],
        why=[
            "" if one in rows else why.get(one[0]) or why.get(one) or "the image changed while it was read"
            for one in each
        ],
        encoder=encoder,
    )


def _regions(
    pairs: Sequence[Pair], node: NodeSpec, folder: Path, why: dict[Pair | tuple[Pair, str], str]
) -> Iterator[tuple[tuple[Pair, str], str, Region]]:
    """Pair and key of each image, what its mask holds, and the region; pairs of no use go to `why`."""
    paths_of = dict[Pair, list[Path]]()
    for pair in pairs:
        try:
            paths_of[pair] = [files.locate(folder / node.root, name) for name in pair]
        except UnreadableImageError as error:
            why[pair] = f"mask: {error}"
    images = guarded([paths[0] for paths in paths_of.values()], node.steps, slices=node.slices)
    masks = guarded([paths[-1] for paths in paths_of.values()], slices=node.slices, mask=True)
    drawn = masks if all(len(pair) == 2 for pair in paths_of) else itertools.repeat((0, None))
    for (pair, paths), (_, found), (_, mask) in zip(paths_of.items(), images, drawn, strict=False):
        try:
            masked = _with_masks(found, mask)
        except UnreadableImageError as error:
            why[pair] = str(error)
            continue
        outline = files.fingerprint(paths[1]) if len(paths) == 2 else "whole"
        keys = _keys(paths[0], [image for image, _ in masked], node)
        for (image, inside), key in zip(masked, keys, strict=True):
            yield (pair, key), outline, (image.pixels, inside, image.spacing)


def _with_masks(
    images: list[Image] | str, masks: list[Image] | str | None
) -> list[tuple[Image, np.ndarray | None]]:
    """Each image and its mask; UnreadableImageError: a file is not read, or they do not belong together.

    A mask has the slices, rows, columns and spacing of its image and, where both files have a place, lies
    there: no pixel of it is off by more than half the side of one.
    """
    if isinstance(images, str):
        raise UnreadableImageError(f"{UNREADABLE}{images}")
    if masks is None:
        return [(image, None) for image in images]
    if isinstance(masks, str):
        raise UnreadableImageError(f"mask: {masks}")
    if [(image.frame, image.depth) for image in images] != [(mask.frame, mask.depth) for mask in masks]:
        raise UnreadableImageError("the mask has other slices than the image")
    for image, mask in zip(images, masks, strict=True):
        if image.pixels.shape != mask.pixels.shape:
            raise UnreadableImageError("the mask has another size than the image")
        if image.spacing and mask.spacing and not np.allclose(image.spacing, mask.spacing, rtol=0.01):
            raise UnreadableImageError("the mask has another spacing than the image")
        if image.place is not None and mask.place is not None:
            rows, columns = image.pixels.shape
            corners = np.array([(1, down, across) for down in (0, rows - 1) for across in (0, columns - 1)])
            apart = np.linalg.norm(corners @ (image.place - mask.place), axis=1).max()
            if apart > np.linalg.norm(image.place[1:], axis=1).min() / 2:
                raise UnreadableImageError("the mask lies elsewhere than the image")
    return [(image, mask.pixels) for image, mask in zip(images, masks, strict=True)]


# -- texts ------------------------------------------------------------------------------------------------


def text_content(node_type: str, node: NodeSpec, column: pl.Series, options: EmbedOptions) -> Content:
    """Clean, mask and embed the texts of a column; a blank one gives no node.

    Parameters
    ----------
    node_type : str
        Name of the node type, for flags.
    node : NodeSpec
        Its masks and encoder.
    column : pl.Series
        (row,) texts; null: none.
    options : EmbedOptions
        How they are embedded.

    Returns
    -------
    Content
        The flags count the rows in which each term of the mask was found, 0 too, and those de-identified.

    Raises
    ------
    InputError
        When a term of the mask is none, or the encoder does not work.
    """
    masked = {term: f"row(s) with {term!r} masked that may tell an outcome" for term in node.mask}
    identified = ["row(s) de-identified, without guarantee"] * node.deidentify
    why, rows = [""] * len(column), Counter[str](dict.fromkeys([*masked.values(), *identified], 0))
    keys, hidden = dict[str, list[str]](), dict[str, list[str]]()
    death_rows = list[int]()
    for i, raw in enumerate(column):
        cleaned = None if raw is None else texts.clean(raw)
        if cleaned is None:
            why[i] = "blank text"
            continue
        if raw not in keys:
            left, found, pieces = texts.hide(cleaned, node.mask, node.deidentify)
            keys[raw] = [left]
            hidden[raw] = [masked[term] for term in +found] + identified * (pieces > 0)
        rows.update(hidden[raw])
        if texts.mentions_death(keys[raw][0]):
            death_rows.append(i)
    made, distinct = _Vectors(), list(dict.fromkeys(text for (text,) in keys.values()))
    assert node.embed is not None
    progress = options.step(f"{node_type}: texts", 0, len(distinct))
    embed = partial(embed_texts, distinct, progress=progress, **options.encoding(node.embed))
    made.add(distinct, embed if options.embed else None)
    content = _content(node_type, column, keys, made, why, Counter(), "text")
    flags = [f"{node_type}: {n} {what}" for what, n in rows.items()]
    return replace(content, flags=[*flags, *content.flags], death_rows=np.array(death_rows, np.int64))


# -- vectors ----------------------------------------------------------------------------------------------


class _Vectors:
    """Vectors by the key of what they are made of."""

    def __init__(self) -> None:
        self.rows: dict[str, np.ndarray] = {}
        self.why: dict[str, str] = {}  # why there is none, or what it leaves out
        self.encoder = ""

    def add(self, keys: list[str], embed: Callable[[], Embedded] | None) -> None:
        """Keep the vector of each key that `embed` makes; without it, every key gets an empty one."""
        if embed is None:
            self.rows |= dict.fromkeys(keys, np.zeros(0, np.float32))
            return
        found = embed()
        self.encoder = found.encoder
        for key, row, why in zip(keys, found.row.tolist(), found.why, strict=True):
            if row >= 0:
                self.rows[key] = found.matrix[row]
            if why:
                self.why[key] = why


def _content(
    node_type: str,
    column: pl.Series,
    keys_of: dict[str, list[str]],
    made: _Vectors,
    why: list[str],
    flags: Counter[str],
    what: str,
) -> Content:
    """Rows of the table to rows of the matrix, which is sorted by what they hold."""
    keys = sorted(made.rows)
    rank = {key: i for i, key in enumerate(keys)}
    item, vector = [], []
    for i, cell in enumerate(column):
        if why[i] or cell is None:
            continue
        ranks = [rank[key] for key in keys_of[cell] if key in rank]
        if not ranks:
            why[i] = f"{what}: {next((made.why[key] for key in keys_of[cell]), 'no embedding')}"
        partly = {made.why[key] for key in keys_of[cell] if key in rank and key in made.why}
        flags.update(f"row(s) embedded in part: {left_out}" for left_out in partly)
        item += [i] * len(ranks)
        vector += ranks
    room_for(sum(made.rows[key].nbytes for key in keys), f"{node_type}: {len(keys)} vectors of {what}s")
    return Content(
        matrix=np.stack([made.rows[key] for key in keys]) if keys else np.zeros((0, 0), np.float32),
        item=np.array(item, np.int64),
        vector=np.array(vector, np.int32),
        why=why,
        flags=[f"{node_type}: {n} {flag}" for flag, n in sorted(flags.items()) if n],
        encoder=made.encoder,
        keys=keys,
    )
