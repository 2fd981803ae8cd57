"""Encoders without weights: features of an image on a grid, and hashed words of a text."""

from __future__ import annotations

import zlib
from functools import lru_cache
from itertools import pairwise

import numpy as np

from gnnpatient.content.encoder import Encoder, batched

SIDE, GRID, TURNS = 96, 4, 8
BLURS = (1.5, 3.0, 6.0, 12.0, 24.0)  # pixels of 96


def handmade() -> Encoder:
    """Intensity, blobs and edges of an image on a 4 x 4 grid; nothing is learned.

    Returns
    -------
    Encoder
        Of 487 channels.
    """
    name = "handmade@1: 96 px, intensity, blobs and edges on a 4 x 4 grid"
    return Encoder(name, lambda device, size: batched(_image_features, size), channels=487)


def _image_features(images: list[np.ndarray]) -> np.ndarray:
    """Intensity, blobs and edges on a 4 x 4 grid: (image, 487).

    Blobs are differences of Gaussians (Lowe 2004, close to the Laplacian), bright and dark apart, at four
    sizes: how much of each, in a cell and in all, where its middle is and how far it spreads. Edges are
    histograms of eight gradient directions (Dalal & Triggs 2005), not normalised: contrast is kept.
    """
    x = np.stack([resize(image, SIDE) for image in images])
    cells = _cells(x)
    found = [cells.mean(2), cells.std(2)]
    flat = x.reshape(len(x), -1)
    levels = np.clip((flat * 16).astype(np.int64), 0, 15) + np.arange(len(x))[:, None] * 16
    found.append(np.bincount(levels.ravel(), minlength=16 * len(x)).reshape(-1, 16) / flat.shape[1])
    found.append(np.quantile(flat, (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99), axis=1).T)
    blurred = [weight @ x @ weight.T for weight in _blurs()]
    for fine, coarse in pairwise(blurred):
        found += _blob_features(np.maximum(fine - coarse, 0))
        found += _blob_features(np.maximum(coarse - fine, 0))
    down, across = np.gradient(x, axis=(1, 2))
    turn = np.floor((np.arctan2(down, across) % np.pi) / np.pi * TURNS).astype(np.int64) % TURNS
    steep = np.hypot(down, across)
    found += [_cells(np.where(turn == way, steep, 0)).mean(2) for way in range(TURNS)]
    return np.concatenate(found, 1).astype(np.float32)


def _blob_features(blob: np.ndarray) -> list[np.ndarray]:
    """Of (image, 96, 96): mean and maximum of each cell; strength, middle, spread and area in all."""
    at = np.linspace(-1, 1, SIDE, dtype=np.float32)
    cells = _cells(blob)
    top = blob.max((1, 2))
    # so that the middle is that of the blob, not of the noise around it
    strong = blob**2
    total = strong.sum((1, 2)) + 1e-6
    # no matrix product with `at`: its bits depend on the batch
    lines, columns = strong.sum(2), strong.sum(1)
    down, across = (lines * at).sum(1) / total, (columns * at).sum(1) / total
    far = ((lines + columns) * at**2).sum(1) / total - down**2 - across**2
    area = (blob > top[:, None, None] / 2).mean((1, 2))
    overall = np.stack([total, down, across, np.sqrt(np.maximum(far, 0)), area, np.sqrt(area)], 1)
    return [cells.mean(2), cells.max(2), overall]


@lru_cache(maxsize=1)
def _blurs() -> list[np.ndarray]:
    """(96, 96) each: Gaussian blur of a column, rows summing to one at the border too."""
    away = np.subtract.outer(np.arange(SIDE), np.arange(SIDE))
    raw = [np.exp(-(away**2) / (2 * sigma**2)) for sigma in BLURS]
    return [(weight / weight.sum(1, keepdims=True)).astype(np.float32) for weight in raw]


def _cells(x: np.ndarray) -> np.ndarray:
    """(image, 96, 96) to (image, 16, pixel): the cells of a 4 x 4 grid."""
    step = SIDE // GRID
    cut = x.reshape(-1, GRID, step, GRID, step).transpose(0, 1, 3, 2, 4)
    return cut.reshape(len(x), GRID * GRID, step * step)


@lru_cache(maxsize=32)
def _shrink(size: int, target: int) -> np.ndarray:
    """(target, size): bilinear resampling that averages what it leaves out, rows summing to one."""
    scale = max(size / target, 1.0)
    centre = (np.arange(target) + 0.5) * size / target
    away = np.abs(np.arange(size) + 0.5 - centre[:, None]) / scale
    weight = np.maximum(0.0, 1.0 - away)
    return (weight / weight.sum(1, keepdims=True)).astype(np.float32)


def resize(image: np.ndarray, side: int) -> np.ndarray:
    """Resize an image to a square, whatever its shape: bilinear, averaging what is left out.

    Parameters
    ----------
    image : np.ndarray
        (height, width) float32.
    side : int
        Pixels of a side.

    Returns
    -------
    np.ndarray
        (side, side) float32.
    """
    return _shrink(image.shape[0], side) @ image @ _shrink(image.shape[1], side).T


TEXT_CHANNELS = 1024
_TOKEN = r"\p{L}+(?:['\u2019]\p{L}+)*|\p{N}+(?:[.,]\p{N}+)*|[.;:!?]|\n\s*\n"
_END = r"^(?:[.;:!?]|\s+|but|however|although|though|except)$"
_NOT = r"^(?:no|not|without|nor|neither|never|denies|denied|cannot|\p{L}+n['\u2019]t)$"


def hashed() -> Encoder:
    """Hashed words and pairs of words of a text, with negations; nothing is learned.

    Returns
    -------
    Encoder
        Of 1024 channels.
    """
    name = "hashed@1: words, pairs and negations, 1024 channels, first and last 5120 words"
    return Encoder(
        name, lambda device, size: _text_features, TEXT_CHANNELS, words=5120, overlap=0, limit=2, ahead=8
    )


def _text_features(pieces: list[str]) -> np.ndarray:
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
    where = both["piece"].to_numpy().astype(np.int64) * TEXT_CHANNELS + code % TEXT_CHANNELS
    matrix = np.bincount(where, weight, len(pieces) * TEXT_CHANNELS).reshape(-1, TEXT_CHANNELS)
    length = np.sqrt((matrix**2).sum(1, keepdims=True))
    return (matrix / np.where(length > 0, length, 1)).astype(np.float32)
