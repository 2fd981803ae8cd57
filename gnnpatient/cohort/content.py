"""Pictures and texts of a kind as rows of one matrix: opened, cleaned, embedded once, or counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from gnnpatient.cohort import imaging, texts
from gnnpatient.cohort.embed import Embedded, embed_pictures, embed_texts
from gnnpatient.cohort.spec import NodeSpec

Tell = Callable[[str, int, int], None]  # what, done, of how many


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


def read_pictures(
    kind: str,
    node: NodeSpec,
    names: pl.Series,
    folder: Path,
    cache: Path | None,
    device: str,
    tell: Tell | None,
) -> Content:
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
    order = list(paths)
    bad, keys, frames = dict[str, str](), list[str](), dict[str, list[int]]()
    pictures: list[np.ndarray] = []
    step = None if tell is None else lambda done, total: tell(f"{kind}: opening", done, total)
    opened = imaging.guarded([paths[n] for n in order], node.steps, slices=node.slices, tell=step)
    for at, found in opened:
        if isinstance(found, str):
            bad[order[at]] = found
            continue
        print_ = imaging.fingerprint(paths[order[at]])
        for picture in found:
            flags.update(picture.flags)
            frames.setdefault(order[at], []).append(len(keys))
            keys.append(f"{print_}/{picture.frame}")
            pictures.append(picture.pixels)
    said = None if tell is None else lambda done, total: tell(f"{kind}: embedding", done, total)
    made = embed_pictures(pictures, keys, node.embed or "", cache=cache, device=device, tell=said)
    for name, reason in bad.items():
        for i in np.flatnonzero((names == name).fill_null(False).to_numpy()):
            why[i] = f"picture: {reason}"
    return _content(kind, names, frames, keys, made, why, flags, "picture")


def read_texts(
    kind: str, node: NodeSpec, column: pl.Series, cache: Path | None, device: str, tell: Tell | None
) -> Content:
    """Clean, mask and embed the texts of a column; a blank one gives no node."""
    why, flags = [""] * len(column), Counter[str]()
    frames, keys, distinct = dict[str, list[int]](), list[str](), list[str]()
    for i, raw in enumerate(column):
        cleaned = None if raw is None else texts.clean(raw)
        if cleaned is None:
            why[i] = "blank text"
            continue
        if raw in frames:
            continue
        if node.deidentify:
            cleaned, n = texts.deidentify(cleaned)
            flags["pieces de-identified (no guarantee)"] += n
        if node.mask:
            cleaned, n = texts.mask(cleaned, node.mask)
            flags["words masked that may tell an outcome"] += n
        frames[raw] = [len(distinct)]
        keys.append(cleaned)
        distinct.append(cleaned)
    said = None if tell is None else lambda done, total: tell(f"{kind}: embedding", done, total)
    made = embed_texts(distinct, node.embed or "", cache=cache, device=device, tell=said)
    return _content(kind, column, frames, keys, made, why, flags, "text")


def _content(
    kind: str,
    column: pl.Series,
    frames: dict[str, list[int]],
    keys: list[str],
    made: Embedded,
    why: list[str],
    flags: Counter[str],
    what: str,
) -> Content:
    """Rows of the table to rows of the matrix, which is put in the order of the keys."""
    order = np.argsort(np.array(keys, dtype=object), kind="stable") if keys else np.zeros(0, np.int64)
    used = np.array([k for k in order if made.row[k] >= 0], np.int64)
    distinct, first = np.unique(made.row[used], return_index=True)
    rank = np.full(len(made.matrix), -1)
    by_key = distinct[np.argsort(first, kind="stable")]  # rows of the matrix by the first of their keys
    rank[by_key] = np.arange(len(by_key))
    item, vector = [], []
    for i, cell in enumerate(column):
        if why[i] or cell is None:
            continue
        rows = [made.row[k] for k in frames.get(cell, [])]
        good = [int(rank[r]) for r in rows if r >= 0]
        if not good:
            reasons = [made.why[k] for k in frames.get(cell, []) if made.why[k]]
            why[i] = f"{what}: {reasons[0] if reasons else 'no embedding'}"
        item += [i] * len(good)
        vector += good
    said = [f"{kind}: {n} {flag}" for flag, n in sorted(flags.items()) if n]
    return Content(
        matrix=made.matrix[by_key].astype(np.float32),
        item=np.array(item, np.int64),
        vector=np.array(vector, np.int32),
        why=why,
        flags=said,
        encoder=made.encoder,
    )
