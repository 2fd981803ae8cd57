"""What a region of an image measures: shades, outline, texture. Numbers by name, the same each time."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gnnpatient.content.image import worker
from gnnpatient.content.image.base import UnreadableImageError, extra

GREYS = 32  # steps of equal width over [0, 1], for entropy and texture
DISTANCES = (1, 3)  # pixels between the two of a pair, for texture
VERSION = 1  # of the numbers: with another one they are measured again, and a model of another is refused
UNITS = {  # of every measurement, by its name
    **dict.fromkeys(("mean", "sd", "p10", "p25", "p50", "p75", "p90", "skew"), ""),
    "entropy": "bit",
    **{"area": "mm2", "perimeter": "mm", "diameter": "mm"},
    **{"area_px": "px2", "perimeter_px": "px", "diameter_px": "px"},
    **dict.fromkeys(("eccentricity", "solidity", "compactness", "parts"), ""),
    **{
        f"{name}_{distance}": ""
        for distance in DISTANCES
        for name in ("contrast", "homogeneity", "energy", "correlation")
    },
}


def measure(
    pixels: np.ndarray, mask: np.ndarray | None = None, spacing: tuple[float, float] | None = None
) -> dict[str, float]:
    """Measure a region of an image: shades, outline and texture.

    What is not defined is left out, so every number is finite: no skew without spread, no texture without a
    pair. The parts of a mask are one region here; to measure them apart, give a mask for each.

    Shades: mean, sd (of the region, not of a sample), p10, p25, p50, p75, p90, skew (third central moment
    over sd cubed), entropy (bits, over 32 equal steps of [0, 1]).
    Outline, in millimetres where the spacing is known: area; perimeter (length of the marching-squares
    contour, holes included); diameter of the circle of the same area, 2 sqrt(area / pi). Without spacing they
    are in pixels and have other names, so that the two never mix: area_px, perimeter_px, diameter_px.
    Then eccentricity of the ellipse with the same second moments (0 is a circle); solidity (share of its
    convex hull that it fills); compactness (4 pi area / perimeter squared, 1 for a circle); parts (that do
    not touch). Of a whole image these are those of its frame.
    Texture [1]_, of 32 steps, pairs 1 and 3 pixels apart inside the region, mean of the directions 0, 45, 90
    and 135 degrees: contrast_1, homogeneity_1, energy_1, correlation_1, contrast_3, and so on.

    Parameters
    ----------
    pixels : np.ndarray
        (height, width) float, in [0, 1].
    mask : np.ndarray, optional
        (height, width), above 0 in the region; without it the whole image is measured.
    spacing : (float, float), optional
        Millimetres between rows and between columns.

    Returns
    -------
    dict of str to float
        By the names of `UNITS`.

    Raises
    ------
    UnreadableImageError
        When there are not two axes, the mask has another size or is empty, or a pixel is not finite.

    References
    ----------
    .. [1] Haralick, Shanmugam, Dinstein (1973). Textural features for image classification. IEEE Trans. Syst.
       Man Cybern. 3, 610-621.
    """
    if pixels.ndim != 2 or not pixels.size:
        raise UnreadableImageError("not one grey image")
    if mask is not None and mask.shape != pixels.shape:
        raise UnreadableImageError("the mask has another size than the image")
    inside = np.ones(pixels.shape, bool) if mask is None else mask > 0
    if not inside.any():
        raise UnreadableImageError("the mask is empty")
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # a small region costs little, however large the image
    pixels, inside = pixels[box], inside[box]
    values = pixels[inside].astype(np.float64)
    if not np.isfinite(values).all():
        raise UnreadableImageError("numbers that are not finite")
    found = {**_shades(values), **_outline(inside, spacing), **_texture(pixels, inside)}
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


# -- guarded ----------------------------------------------------------------------------------------------

MAX_UNGUARDED_PIXELS = 1 << 18  # the outline of so many takes at most 3 s, however it is drawn


@contextmanager
def measuring(
    small: Callable[..., dict[str, float]], seconds: float | int = 20, memory: int = 2 << 30
) -> Iterator[Callable[..., dict[str, float]]]:
    """A function that measures as `measure` does, within limits of time and memory.

    A region that takes too much, as a mask of noise does, costs itself. An image of more than
    `MAX_UNGUARDED_PIXELS` pixels is measured in a process of its own, a smaller one here.

    Parameters
    ----------
    small : callable
        What measures here: `measure`.
    seconds : float, default 20
        Time for one region.
    memory : int, default 2 GiB
        Bytes for one region.

    Yields
    ------
    callable
        With the arguments of `measure`; raises UnreadableImageError too when a limit is reached.
    """
    process = worker.Worker({"seconds": seconds, "memory": memory}, __name__)

    def guarded(
        pixels: np.ndarray, mask: np.ndarray | None = None, spacing: tuple[float, float] | None = None
    ) -> dict[str, float]:
        if (
            pixels.size <= MAX_UNGUARDED_PIXELS
            or pixels.ndim != 2
            or (mask is not None and mask.shape != pixels.shape)
        ):
            return small(pixels, mask, spacing)
        job = {"shape": pixels.shape, "mask": mask is not None, "spacing": spacing}
        arrays: list[np.ndarray] = [
            pixels.astype(np.float32),
            *([] if mask is None else [(mask > 0).astype(np.uint8)]),
        ]
        found = process.ask(job, *arrays)
        if isinstance(found, str):
            raise UnreadableImageError(
                f"to measure it {found}" if found.startswith("took") else "measuring it crashed"
            )
        if "reason" in found[0]:
            raise UnreadableImageError(found[0]["reason"])
        return found[0]["numbers"]

    try:
        yield guarded
    finally:
        process.stop()


def serve() -> None:
    """Measure what `measuring` sends, until it sends no more: the process that it starts runs this."""
    with extra():  # before any clock runs
        import skimage.feature
        import skimage.measure  # noqa: F401
    worker.serve(_answer)


def _answer(job: dict[str, Any], out: Any) -> None:
    """One region, within its time."""
    count = math.prod(job["shape"])
    pixels = np.frombuffer(sys.stdin.buffer.read(4 * count), np.float32).reshape(job["shape"])
    mask = None
    if job["mask"]:
        mask = np.frombuffer(sys.stdin.buffer.read(count), np.uint8).reshape(job["shape"])
    answer: dict[str, Any] = {}
    signal.setitimer(signal.ITIMER_REAL, job["seconds"])
    try:
        answer["numbers"] = measure(pixels, mask, tuple(job["spacing"]) if job["spacing"] else None)
    except MemoryError:
        answer = {"full": True}
    except UnreadableImageError as error:
        answer = {"reason": str(error)}
    signal.setitimer(signal.ITIMER_REAL, 0)
    worker.send(out, answer, [])


# -- what is measured -------------------------------------------------------------------------------------


def _steps(values: np.ndarray) -> np.ndarray:
    """The step of each value, 0 to 31."""
    return np.clip(values * GREYS, 0, GREYS - 1).astype(np.uint8)


def _shades(values: np.ndarray) -> dict[str, float]:
    mean, sd = values.mean(), values.std()
    share = np.bincount(_steps(values), minlength=GREYS) / len(values)
    share = share[share > 0]
    return {
        "mean": mean,
        "sd": sd,
        **{f"p{q}": np.percentile(values, q) for q in (10, 25, 50, 75, 90)},
        # below 1e-6 the spread is rounding of float32
        "skew": ((values - mean) ** 3).mean() / sd**3 if sd > 1e-6 else math.nan,
        "entropy": abs((share * np.log2(share)).sum()),
    }


def _outline(inside: np.ndarray, spacing: tuple[float, float] | None) -> dict[str, float]:
    with extra():
        from skimage.measure import find_contours, label, regionprops
    step = np.array(spacing or (1.0, 1.0))
    box = np.pad(inside, 1)  # a ring of nothing around it
    outlines = find_contours(box.astype(np.float32), 0.5, fully_connected="high")
    perimeter = sum(np.hypot(*(np.diff(line, axis=0) * step).T).sum() for line in outlines)
    (region,) = regionprops(box.astype(np.uint8), spacing=tuple(step))
    area = inside.sum() * step.prod()
    unit = "_px" if spacing is None else ""
    return {
        f"area{unit}": area,
        f"perimeter{unit}": perimeter,
        f"diameter{unit}": 2 * math.sqrt(area / math.pi),
        "eccentricity": region.eccentricity if inside.sum() > 1 else math.nan,
        # the hull of a single row or column has no area to compare with
        "solidity": region.solidity if min(inside.any(1).sum(), inside.any(0).sum()) > 1 else math.nan,
        "compactness": 4 * math.pi * area / perimeter**2,
        "parts": label(box, connectivity=2).max(),
    }


def _texture(pixels: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    with extra():
        from skimage.feature import graycomatrix, graycoprops
    grey = np.where(inside, _steps(np.where(inside, pixels, 0)) + 1, 0).astype(np.uint8)  # 0 is outside
    angles = [i * math.pi / 4 for i in range(4)]
    found = {}
    for distance in DISTANCES:
        pairs = graycomatrix(grey, [distance], angles, levels=GREYS + 1, symmetric=True)[1:, 1:]
        pairs = pairs[..., pairs.sum(axis=(0, 1, 2)) > 0]  # directions in which the region has a pair
        if not pairs.size:
            continue
        for name in ("contrast", "homogeneity", "energy"):
            found[f"{name}_{distance}"] = graycoprops(pairs, name).mean()
        varied = [i for i in range(pairs.shape[-1]) if (pairs[..., i].sum(axis=(1, 2)) > 0).sum() > 1]
        if varied:  # of one grey, correlation is not defined
            found[f"correlation_{distance}"] = graycoprops(pairs[..., varied], "correlation").mean()
    return found
