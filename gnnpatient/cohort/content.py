"""Pictures and texts of a kind as rows of one matrix: opened, cleaned, embedded once, or counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gnnpatient.cohort import imaging, texts
from gnnpatient.cohort.embed import Embedded, embed_pictures, embed_texts
from gnnpatient.cohort.spec import NodeSpec

CHUNK = 256  # files that are open at a time
Tell = Callable[[str, int, int], None]  # what, done, of how many


@dataclass(frozen=True, eq=False)
class How:
    """How embeddings are made."""

    cache: Path | None  # folder that keeps them
    device: str
    embed: bool  # False: opened and counted only
    tell: Tell | None

    def step(self, what: str, start: int, total: int) -> Callable[[int, int], None] | None:
        """Progress of one step that begins at item `start` of `total`."""
        tell = self.tell
        return None if tell is None else lambda done, _: tell(what, start + done, total)


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


def read_pictures(kind: str, node: NodeSpec, names: pl.Series, folder: Path, how: How) -> Content:
    """Open and embed the pictures that a column names; a bad file costs its node alone."""
    why, flags, paths = [""] * len(names), Counter[str](), dict[str, Path]()
    for i, name in enumerate(names):
        try:
            if name is None:
                raise imaging.Unreadable("no file named")
            if name not in paths:
                paths[name] = imaging.locate(folder / node.root, name)
        except imaging.Unreadable as error:
            why[i] = f"picture: {error}"
    bad, seen, made = dict[str, str](), list[tuple[str, str]](), _Vectors()
    order = list(paths)
    for start in range(0, len(order), CHUNK):  # pictures are dropped as soon as they are embedded
        some = order[start : start + CHUNK]
        keys, pictures = list[str](), list[np.ndarray]()
        step = how.step(f"{kind}: pictures", start, len(order))
        for at, found in imaging.guarded([paths[n] for n in some], node.steps, slices=node.slices, tell=step):
            if isinstance(found, str):
                bad[some[at]] = found
                continue
            print_ = imaging.fingerprint(paths[some[at]])
            for picture in found:
                flags.update(picture.flags)
                keys.append(f"{print_}/{picture.frame}")
                seen.append((some[at], keys[-1]))
                pictures.append(picture.pixels)
        made.add(keys, pictures, embed_pictures, node, how)
    frames: dict[str, list[str]] = {}
    for name, key in seen:
        frames.setdefault(name, []).append(key)
    clashes = imaging.conflicts(list(paths.values()))
    flags["pair(s) of files with one SOPInstanceUID and two contents; both kept"] += len(clashes)
    for name, reason in bad.items():
        for row in np.flatnonzero((names == name).fill_null(False).to_numpy()).tolist():
            why[row] = f"picture: {reason}"
    return _content(kind, names, frames, made, why, flags, "picture")


def read_texts(kind: str, node: NodeSpec, column: pl.Series, how: How) -> Content:
    """Clean, mask and embed the texts of a column; a blank one gives no node."""
    why, flags = [""] * len(column), Counter[str]()
    frames: dict[str, list[str]] = {}
    for i, raw in enumerate(column):
        cleaned = None if raw is None else texts.clean(raw)
        if cleaned is None:
            why[i] = "blank text"
            continue
        if raw in frames:
            continue
        if node.deidentify:
            cleaned, n = texts.deidentify(cleaned)
            flags["piece(s) de-identified, without guarantee"] += n
        if node.mask:
            cleaned, n = texts.mask(cleaned, node.mask)
            flags["word(s) masked that may tell an outcome"] += n
        frames[raw] = [cleaned]
    made, distinct = _Vectors(), list(dict.fromkeys(one for (one,) in frames.values()))
    made.add(distinct, distinct, embed_texts, node, how, how.step(f"{kind}: texts", 0, len(distinct)))
    return _content(kind, column, frames, made, why, flags, "text")


class _Vectors:
    """Embeddings by what they are made of."""

    def __init__(self) -> None:
        self.rows: dict[str, np.ndarray] = {}
        self.why: dict[str, str] = {}
        self.encoder = ""

    def add(
        self,
        keys: list[str],
        items: list[Any],
        embed: Callable[..., Embedded],
        node: NodeSpec,
        how: How,
        tell: Callable[[int, int], None] | None = None,
    ) -> None:
        """Embed what is new; without `how.embed` everything gets an empty vector."""
        if not how.embed:
            self.rows |= dict.fromkeys(keys, np.zeros(0, np.float32))
            return
        what = (items, keys) if embed is embed_pictures else (items,)
        found = embed(*what, node.embed, cache=how.cache, device=how.device, tell=tell)
        self.encoder = found.encoder
        for key, row, why in zip(keys, found.row.tolist(), found.why, strict=True):
            if row >= 0:
                self.rows[key] = found.matrix[row]
            else:
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
        item += [i] * len(good)
        vector += good
    return Content(
        matrix=np.stack([made.rows[key] for key in keys]) if keys else np.zeros((0, 0), np.float32),
        item=np.array(item, np.int64),
        vector=np.array(vector, np.int32),
        why=why,
        flags=[f"{kind}: {n} {flag}" for flag, n in sorted(flags.items()) if n],
        encoder=made.encoder,
    )
