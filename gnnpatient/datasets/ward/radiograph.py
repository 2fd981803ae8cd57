"""Radiograph-like images of a simulated ward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gnnpatient.datasets.ward.hazards import SITES
from gnnpatient.datasets.ward.patients import WardPatients
from gnnpatient.datasets.ward.tables import Studies
from gnnpatient.errors import InputError

PIXELS = 96
IMAGES_AT_ONCE = 256


def write_radiographs(ward: WardPatients, studies: Studies, folder: Path) -> None:
    """Write one PNG for each row of images.csv: a frontal chest of 96 x 96 pixels, 8 bits.

    Parameters
    ----------
    ward : WardPatients
        The patients, each with a body, at a site with its own exposure.
    studies : Studies
        What is drawn.
    folder : Path
        Where the files go; it exists.

    Raises
    ------
    InputError
        When pillow is not installed.
    """
    image, rng, n = pillow(), ward.stream("pictures"), ward.n
    site_gain, site_gamma = rng.uniform(0.85, 1.1, SITES), rng.uniform(0.8, 1.25, SITES)
    body = rng.normal(size=(n, 6)).clip(-2, 2)
    lesions, drawn = studies.lesions, np.flatnonzero(studies.has_image)
    for start in range(0, len(drawn), IMAGES_AT_ONCE):
        some = drawn[start : start + IMAGES_AT_ONCE]
        owner = lesions.owner[some]
        side = np.where(lesions.left_side[some], 1, -1)  # the patient's left is on the right of the image
        zone = np.where(lesions.lower[some], 1, -1)
        gain = site_gain[ward.site[owner]] * rng.normal(1, 0.02, len(some))
        gamma = site_gamma[ward.site[owner]]
        radius = np.sqrt(lesions.area[some] / np.pi)
        pixels = radiograph(rng, body[owner], radius, side, zone, gain, gamma)
        for path, one in zip(studies.path[some].tolist(), pixels, strict=True):
            image.fromarray(one).save(folder / path, compress_level=1)


def pillow() -> Any:
    """The module that writes PNG files.

    Returns
    -------
    module
        PIL.Image.

    Raises
    ------
    InputError
        When pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InputError("images need pillow; pip install 'gnnpatient[image]', or images=False") from None
    return Image


def radiograph(
    rng: np.random.Generator,
    body: np.ndarray,
    radius: np.ndarray,
    side: np.ndarray,
    zone: np.ndarray,
    gain: np.ndarray,
    gamma: np.ndarray,
) -> np.ndarray:
    """Draw chests: lungs, heart and ribs of a body, and a lesion.

    Parameters
    ----------
    rng : np.random.Generator
        Where position and noise come from.
    body : np.ndarray
        (image, 6) standard normal numbers: the shape of lungs, heart and ribs.
    radius : np.ndarray
        (image,) of the lesion, in pixels.
    side : np.ndarray
        (image,) -1 left of the image, 1 right.
    zone : np.ndarray
        (image,) -1 upper, 1 lower.
    gain, gamma : np.ndarray
        (image,) factor and power of the exposure.

    Returns
    -------
    np.ndarray
        (image, 96, 96) uint8.
    """
    half = PIXELS / 2

    def across(a: np.ndarray) -> np.ndarray:
        return a.astype(np.float32)[:, None, None]

    shift = rng.normal(0, 1.2 / half, (2, len(radius)))  # no two images show a patient at the same place
    line = ((np.arange(PIXELS) + 0.5) / half - 1).astype(np.float32)
    y, x = line[:, None] - across(shift[0]), line[None, :] - across(shift[1])
    wide, tall, apart, heart, spacing, phase = body.T
    lung = np.zeros((len(radius), PIXELS, PIXELS), np.float32)
    for s in (-1, 1):
        inside = 1 - ((x - s * across(0.43 + 0.02 * apart)) / across(0.35 + 0.015 * wide)) ** 2
        lung += np.clip((inside - (y / across(0.76 + 0.03 * tall)) ** 2) * 4, 0, 1)
    core = across(0.2 + 0.03 * heart)
    image = 0.78 - 0.5 * lung - 0.12 * np.abs(x) * (1 - lung)
    middle = ((x - 0.1) / core) ** 2 + ((y - 0.35) / (core * 1.3)) ** 2
    image += 0.18 * np.clip((1 - middle) * 2, 0, 1) * lung
    ribs = np.cos(across(18 + 0.8 * spacing) * (y + 0.35 * x * x) + across(phase))
    image += 0.07 * np.clip(ribs * 2 - 0.6, 0, 1) * lung
    dy, dx = (y - across(0.3 * zone)) * half, (x - across(0.43 * side)) * half
    lesion = np.clip(across(radius) - np.sqrt(dx * dx + dy * dy) + 0.5, 0, 1)  # its edge is one pixel wide
    image += 0.42 * lesion * np.clip(1.05 - image, 0, 1)
    image += 0.03 * rng.standard_normal(image.shape, dtype=np.float32)
    return np.rint(255 * np.clip(across(gain) * np.clip(image, 0, 1) ** across(gamma), 0, 1)).astype(np.uint8)
