"""Preprocessing of images, by name: none, stretch, clahe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches

import numpy as np

from gnnpatient.content.image.base import between, extra
from gnnpatient.errors import InputError


def _stretch(stack: np.ndarray) -> np.ndarray:
    """The 1st to 99th percentile to [0, 1], of all frames of a file together: an empty slice stays dark.

    Where the two percentiles are equal (a small bright thing on black) the whole range is stretched instead.
    """
    low, high = np.percentile(stack, (1, 99))
    if high <= low:
        low, high = float(stack.min()), float(stack.max())
    return between(stack, float(low), float(high))


def _clahe(stack: np.ndarray) -> np.ndarray:
    """N-CLAHE: the whole range to [0, 1], then contrast-limited adaptive equalisation of each frame.

    Zuiderveld 1994, as scikit-image has it: tiles of an eighth of the picture, clip limit 0.01. A constant
    frame stays as it is: there is no contrast to equalise.
    """
    with extra():
        from skimage.exposure import equalize_adapthist
    whole = between(stack, float(stack.min()), float(stack.max()))
    for frame in whole:
        if frame.min() < frame.max():
            frame[:] = equalize_adapthist(frame)
    return whole


STEPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda stack: stack,
    "stretch": _stretch,
    "clahe": _clahe,
}
"""Preprocessing by name, as provenance records it: (frame, height, width) in [0, 1] to the same."""


def check_steps(steps: Sequence[str]) -> None:
    """Refused: a step that is not in STEPS."""
    for step in steps:
        if step not in STEPS:
            close = get_close_matches(step, STEPS, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(STEPS)}"
            raise InputError(f"step {step!r} of the pictures is unknown{hint}")
