"""Pictures and texts of a kind as rows of one matrix: opened, cleaned, embedded once, or counted."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gnnpatient.content import imaging, texts
from gnnpatient.content.embed import Embedded, embed_images, embed_texts, measure_regions
from gnnpatient.content.measure import UNITS
from gnnpatient.files import room_for
from gnnpatient.progress import Progress
from gnnpatient.spec.nodes import NodeSpec

CHUNK = 256  # files that are open at a time
Pair = tuple[str, ...]  # the file of a picture, and that of its mask where one is wanted; "" = none named
Region = tuple[np.ndarray, np.ndarray | None, tuple[float, float] | None]  # pixels, mask, spacing


@dataclass(frozen=True, eq=False)
class How:
    """How embeddings are made."""

    cache: Path | None  # folder that keeps them
    device: str
    embed: bool  # False: opened and counted only
    allow_network: bool
    progress: Progress | None

    def step(self, what: str, start: int, total: int) -> Progress | None:
        """Progress of one step that begins at item `start` of `total`."""
        progress = self.progress
        if progress is None:
            return None

        def step(_: str, done: int, __: int, /, **figures: Any) -> None:
            progress(what, start + done, total, **figures)

        return step


@dataclass(frozen=True, eq=False)
class Content:
    """What the rows of a kind hold beside their code: none, one, or (frames, slices) several vectors."""

    matrix: (
        np.ndarray
    )  # (vector, channel) float32, in the order of their content, so that row order is nothing
    item: np.ndarray  # (node,) int64: which row of the table
    vector: np.ndarray  # (node,) int32: which row of the matrix
    why: list[str]  # per row of the table: why it gives no node; "" = it does
    flags: list[str]
    encoder: str  # with the versions of weights and preprocessing
    keys: list[str]  # (vector,) what each row of the matrix was made of
    tells: np.ndarray | None = None  # (text,) int64: rows of the table whose text tells a death


@dataclass(frozen=True, eq=False)
class Measured:
    """What the pictures of some nodes measure."""

    value: np.ndarray  # (node, measurement) float32 in the order of UNITS, nan = not defined, or not measured
    why: list[str]  # (node,) why a picture was not measured; "" = it was
    encoder: str


def read_images(
    kind: str,
    node: NodeSpec,
    names: pl.Series,
    folder: Path,
    how: How,
    who: np.ndarray | None = None,
    ids: np.ndarray | None = None,
) -> Content:
    """Open and embed the pictures that a column names; a bad file costs its node alone.

    who: the patient of each row, a position in `ids`, so that a picture under another patient can be flagged.
    """
    why, flags, paths = [""] * len(names), Counter[str](), dict[str, Path]()
    for i, name in enumerate(names):
        try:
            if name is None:
                raise imaging.UnreadableImageError("no file named")
            if name not in paths:
                paths[name] = imaging.locate(folder / node.root, name)
        except imaging.UnreadableImageError as error:
            why[i] = f"picture: {error}"
    bad, frames, made = dict[str, str](), dict[str, list[str]](), _Vectors()
    instances = list[tuple[str, ...] | None]()
    persons, contents = dict[str, str](), dict[str, str]()  # of each file: PatientID, pixels
    order = list(paths)
    for start in range(0, len(order), CHUNK):  # pictures are dropped as soon as they are embedded
        some = order[start : start + CHUNK]
        keys, pictures = list[str](), list[np.ndarray]()
        step = how.step(f"{kind}: pictures", start, len(order))
        for at, found in imaging.guarded(
            [paths[n] for n in some], node.steps, slices=node.slices, progress=step
        ):
            if isinstance(found, str):
                bad[some[at]] = found
                continue
            try:
                made_of = _keys(paths[some[at]], found, node)
            except imaging.UnreadableImageError as error:  # taken away since it was decoded
                bad[some[at]] = str(error)
                continue
            flags.update({f"file(s) flagged: {flag}" for picture in found for flag in picture.flags})
            instances.append(found[0].instance)
            _, stored, persons[some[at]] = found[0].instance or ("", "", "")
            if not all("constant" in picture.flags for picture in found):
                contents[some[at]] = stored or _pixels(found)
            frames[some[at]] = made_of
            keys += made_of
            pictures += [picture.pixels for picture in found]
        made.add(keys, pictures, embed_images, node, how)
    clashes = imaging.conflicts(instances)
    flags["pair(s) of files with one SOPInstanceUID and two contents; both kept"] += len(clashes)
    if who is not None and ids is not None:
        flags.update(_misplaced(names, who, ids, persons, contents))
    for i, name in enumerate(names):
        if name in bad:
            why[i] = f"picture: {bad[name]}"
    return _content(kind, names, frames, made, why, flags, "picture")


def _pixels(found: Sequence[imaging.Picture]) -> str:
    """What all pictures of a file show, whatever else it holds."""
    print_ = hashlib.sha256()
    for picture in found:
        print_.update(repr(picture.pixels.shape).encode())
        print_.update(np.ascontiguousarray(picture.pixels).data.cast("B"))
    return print_.hexdigest()


def _misplaced(
    names: pl.Series, who: np.ndarray, ids: np.ndarray, persons: dict[str, str], contents: dict[str, str]
) -> Counter[str]:
    """Flags of pictures that seem to be another patient's, with their number."""
    rows = pl.DataFrame({"file": names, "who": who}).drop_nulls().unique()
    rows = rows.with_columns(
        person=rows["file"].replace_strict(persons, default="", return_dtype=pl.String),
        pixels=rows["file"].replace_strict(contents, default="", return_dtype=pl.String),
    )
    own = {imaging.digest(str(one)): i for i, one in enumerate(ids)} if any(persons.values()) else {}
    told = rows.filter(pl.col("person") != "")
    theirs = told["person"].replace_strict(own, default=None, return_dtype=pl.Int64)

    def several(key: str, of: str) -> int:
        """How many of a key have more than one of the other."""
        some = rows.filter(pl.col("person" if key == "who" else key) != "") if key != "file" else rows
        return some.group_by(key).agg(pl.col(of).n_unique()).filter(pl.col(of) > 1).height

    return Counter(
        {
            "file(s) whose DICOM PatientID is the id of another patient": int((theirs != told["who"]).sum()),
            "DICOM PatientID(s) in files of more than one patient": several("person", "who"),
            "patient(s) with files of more than one DICOM PatientID": several("who", "person"),
            "file(s) named for more than one patient": several("file", "who"),
            "picture(s) with the same pixels under more than one patient": several("pixels", "who"),
        }
    )


def _keys(path: Path, found: Sequence[imaging.Picture], node: NodeSpec) -> list[str]:
    """What each picture of a file holds: its bytes, its place in it, and what was done to it. The steps look
    at all slices that are taken."""
    done = f"{'+'.join(node.steps)}/{node.slices}"
    print_ = imaging.fingerprint(path)
    return [f"{print_}/{picture.frame}/{done}" for picture in found]


def read_regions(
    kind: str, node: NodeSpec, pairs: Sequence[Pair], keys: Sequence[str], folder: Path, how: How
) -> Measured:
    """Measure pictures of the kind `node`, of which each has its pair of files and its key among the vectors.

    A bad mask costs the measurements of its picture alone.
    """
    order, encoder = list(dict.fromkeys(pairs)), ""
    rows, why = dict[tuple[Pair, str], np.ndarray](), dict[Pair | tuple[Pair, str], str]()
    for start in range(0, len(order), CHUNK):
        found = list(_regions(order[start : start + CHUNK], node, folder, why))
        made = [f"{key}/{mask}" for (_, key), mask, _ in found]
        step = how.step(f"{kind}: regions", start, len(order))
        numbers = measure_regions([region for *_, region in found], made, cache=how.cache, progress=step)
        encoder = numbers.encoder
        for (one, *_), row, reason in zip(found, numbers.row.tolist(), numbers.why, strict=True):
            if row < 0:
                why[one] = reason
            else:
                value, given = np.split(numbers.matrix[row], 2)
                rows[one] = np.where(given > 0, value, np.float32(np.nan))
    each = list(zip(pairs, keys, strict=True))
    none = np.full(len(UNITS), np.nan, np.float32)
    return Measured(
        value=np.stack([rows.get(one, none) for one in each]) if each else none[None, :][:0],
        why=[
            "" if one in rows else why.get(one[0]) or why.get(one) or "the picture changed while it was read"
            for one in each
        ],
        encoder=encoder,
    )


def _regions(
    pairs: Sequence[Pair], node: NodeSpec, folder: Path, why: dict[Pair | tuple[Pair, str], str]
) -> Iterator[tuple[tuple[Pair, str], str, Region]]:
    """Pair and key of each picture, what its mask holds, and the region; pairs of no use go to `why`."""
    files = dict[Pair, list[Path]]()
    for pair in pairs:
        try:
            files[pair] = [imaging.locate(folder / node.root, name) for name in pair]
        except imaging.UnreadableImageError as error:
            why[pair] = f"mask: {error}"
    pictures = imaging.guarded([paths[0] for paths in files.values()], node.steps, slices=node.slices)
    masks = imaging.guarded([paths[-1] for paths in files.values()], slices=node.slices, mask=True)
    drawn = masks if all(len(pair) == 2 for pair in files) else itertools.repeat((0, None))
    for (pair, paths), (_, found), (_, mask) in zip(files.items(), pictures, drawn, strict=False):
        try:
            fits = _fitting(found, mask)
        except imaging.UnreadableImageError as error:
            why[pair] = str(error)
            continue
        outline = imaging.fingerprint(paths[1]) if len(paths) == 2 else "whole"
        for (picture, inside), key in zip(fits, _keys(paths[0], [p for p, _ in fits], node), strict=True):
            yield (pair, key), outline, (picture.pixels, inside, picture.spacing)


def _fitting(
    found: list[imaging.Picture] | str, drawn: list[imaging.Picture] | str | None
) -> list[tuple[imaging.Picture, np.ndarray | None]]:
    """Each picture and its mask. Unreadable: one of the files, or they do not belong together.

    A mask has the slices, rows, columns and spacing of its picture and, where both files tell their place,
    lies there: no pixel of it is off by more than half the side of one.
    """
    if isinstance(found, str):
        raise imaging.UnreadableImageError(f"picture: {found}")
    if drawn is None:
        return [(picture, None) for picture in found]
    if isinstance(drawn, str):
        raise imaging.UnreadableImageError(f"mask: {drawn}")
    if [(picture.frame, picture.depth) for picture in found] != [(mask.frame, mask.depth) for mask in drawn]:
        raise imaging.UnreadableImageError("the mask has other slices than the picture")
    for picture, mask in zip(found, drawn, strict=True):
        if picture.pixels.shape != mask.pixels.shape:
            raise imaging.UnreadableImageError("the mask has another size than the picture")
        if picture.spacing and mask.spacing and not np.allclose(picture.spacing, mask.spacing, rtol=0.01):
            raise imaging.UnreadableImageError("the mask has another spacing than the picture")
        if picture.place is not None and mask.place is not None:
            rows, columns = picture.pixels.shape
            corners = np.array([(1, down, across) for down in (0, rows - 1) for across in (0, columns - 1)])
            apart = np.linalg.norm(corners @ (picture.place - mask.place), axis=1).max()
            if apart > np.linalg.norm(picture.place[1:], axis=1).min() / 2:
                raise imaging.UnreadableImageError("the mask lies elsewhere than the picture")
    return [(picture, mask.pixels) for picture, mask in zip(found, drawn, strict=True)]


def read_texts(kind: str, node: NodeSpec, column: pl.Series, how: How) -> Content:
    """Clean, mask and embed the texts of a column; a blank one gives no node.

    The flags count the rows in which each term of the mask was found, 0 too, and those de-identified.
    """
    masked = {term: f"row(s) with {term!r} masked that may tell an outcome" for term in node.mask}
    told = ["row(s) de-identified, without guarantee"] * node.deidentify
    why, rows = [""] * len(column), Counter[str](dict.fromkeys([*masked.values(), *told], 0))
    frames, hidden = dict[str, list[str]](), dict[str, list[str]]()
    tells = list[int]()
    for i, raw in enumerate(column):
        cleaned = None if raw is None else texts.clean(raw)
        if cleaned is None:
            why[i] = "blank text"
            continue
        if raw not in frames:
            left, found, pieces = texts.hide(cleaned, node.mask, node.deidentify)
            frames[raw] = [left]
            hidden[raw] = [masked[term] for term in +found] + told * (pieces > 0)
        rows.update(hidden[raw])
        if _DEATH.search(frames[raw][0]) and tells_death(frames[raw][0]):
            tells.append(i)
    made, distinct = _Vectors(), list(dict.fromkeys(one for (one,) in frames.values()))
    made.add(distinct, distinct, embed_texts, node, how, how.step(f"{kind}: texts", 0, len(distinct)))
    content = _content(kind, column, frames, made, why, Counter(), "text")
    told_ = [f"{kind}: {n} {what}" for what, n in rows.items()]
    return replace(content, flags=[*told_, *content.flags], tells=np.array(tells, np.int64))


_DEATH = re.compile(
    r"(?i)\b(expired|deceased|died|dead|passed away|demised?|exitus|autopsy|post-?mortem|time of death|"
    r"verstorben|gestorben|décédée?|deceduta?|fallecid[oa]|falleció|overleden)\b"
)
_NOT_THIS_DEATH = re.compile(  # of kin, of tissue, of what was left out; of what else expires
    r"(?i)\b(father|mother|brother|sister|wife|husband|son|daughter|parents?|family|uncle|aunt|cousin|sibling|"
    r"grand\w+|spouse|partner|friend|child|twin|relatives?|donor|vater|mutter|bruder|schwester|padre|madre|"
    r"dead[\s-]+(space|end|tissue|skin|bowel)|(medication|prescription|consent|order|insurance|licen[cs]e|dose|"
    r"drug|air|gas|breath|volume|tidal|co2)s?\b.{0,30}\bexpired|expired[\s-]+(air|gas|breath|volume|tidal|co2|"
    r"medication|prescription|consent|order|drug)|(not|never|no|nearly|almost|if|would have|risk of|fear)\b"
    r"[^.;]{0,25}\b(died|dead|expired|deceased))"
)


def tells_death(text: str) -> bool:
    """Whether a sentence of a text says that somebody died who is not kin and whose death is not denied.

    >>> tells_death("Found unresponsive. Patient expired at 4 am."), tells_death("Her father died of cancer.")
    (True, False)
    """
    parts = re.split(r"(?<=[.;!?])\s|\n", text)
    return any(_DEATH.search(part) and not _NOT_THIS_DEATH.search(part) for part in parts)


class _Vectors:
    """Embeddings by what they are made of."""

    def __init__(self) -> None:
        self.rows: dict[str, np.ndarray] = {}
        self.why: dict[str, str] = {}  # why there is none, or what it leaves out
        self.encoder = ""

    def add(
        self,
        keys: list[str],
        items: list[Any],
        embed: Callable[..., Embedded],
        node: NodeSpec,
        how: How,
        progress: Progress | None = None,
    ) -> None:
        """Embed what is new; without `how.embed` everything gets an empty vector."""
        if not how.embed:
            self.rows |= dict.fromkeys(keys, np.zeros(0, np.float32))
            return
        what = (items, keys) if embed is embed_images else (items,)
        where = {"cache": how.cache, "device": how.device, "allow_network": how.allow_network}
        found = embed(*what, node.embed, progress=progress, **where)
        self.encoder = found.encoder
        for key, row, why in zip(keys, found.row.tolist(), found.why, strict=True):
            if row >= 0:
                self.rows[key] = found.matrix[row]
            if why:
                self.why[key] = why


def _content(
    kind: str,
    column: pl.Series,
    frames: dict[str, list[str]],
    made: _Vectors,
    why: list[str],
    flags: Counter[str],
    what: str,
) -> Content:
    """Rows of the table to rows of the matrix, which is in the order of what they hold."""
    keys = sorted(made.rows)
    rank = {key: i for i, key in enumerate(keys)}
    item, vector = [], []
    for i, cell in enumerate(column):
        if why[i] or cell is None:
            continue
        good = [rank[key] for key in frames[cell] if key in rank]
        if not good:
            why[i] = f"{what}: {next((made.why[key] for key in frames[cell]), 'no embedding')}"
        partly = {made.why[key] for key in frames[cell] if key in rank and key in made.why}
        flags.update(f"row(s) embedded in part: {left_out}" for left_out in partly)
        item += [i] * len(good)
        vector += good
    room_for(sum(made.rows[key].nbytes for key in keys), f"{kind}: {len(keys)} vectors of {what}s")
    return Content(
        matrix=np.stack([made.rows[key] for key in keys]) if keys else np.zeros((0, 0), np.float32),
        item=np.array(item, np.int64),
        vector=np.array(vector, np.int32),
        why=why,
        flags=[f"{kind}: {n} {flag}" for flag, n in sorted(flags.items()) if n],
        encoder=made.encoder,
        keys=keys,
    )
