"""Preprocessing of images, by name: none, stretch, clahe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches

import numpy as np

from gnnpatient.content.image.base import between, extra
from gnnpatient.errors import InputError


def stretch(stack: np.ndarray, *, for_encoder: bool = False) -> np.ndarray:
    """Scale the 1st percentile to 0 and the 99th to 1, and clip what lies beyond.

    As a step it takes all frames of a file together, so that an empty slice stays dark; where the two
    percentiles are equal (a small bright thing on black) it scales the full range instead.

    Parameters
    ----------
    stack : np.ndarray
        (..., height, width) numbers.
    for_encoder : bool, default False
        As pretrained encoders have it, of one image: percentiles of every nth row and column, about 512 each,
        and black where they are equal.

    Returns
    -------
    np.ndarray
        float32 of the same shape, in [0, 1].

    Examples
    --------
    >>> stretch(np.array([[0.0, 50.0, 100.0]]))
    array([[0. , 0.5, 1. ]], dtype=float32)
    """
    if for_encoder:
        rows, columns = (max(size // 512, 1) for size in stack.shape)
        low, high = np.percentile(stack[::rows, ::columns], (1, 99))
        if high <= low:
            return np.zeros_like(stack)
        return between(stack, float(low), float(high), width=np.float32(high - low))
    low, high = np.percentile(stack, (1, 99))
    if high <= low:
        low, high = stack.min(), stack.max()
    return between(stack, float(low), float(high))


def _clahe(stack: np.ndarray) -> np.ndarray:
    """N-CLAHE: the full range to [0, 1], then contrast-limited adaptive equalisation of each frame.

    Zuiderveld 1994, as scikit-image has it: tiles of an eighth of the image, clip limit 0.01. A constant
    frame stays as it is: there is no contrast to equalise.
    """
    with extra():
        from skimage.exposure import equalize_adapthist
    scaled = between(stack, float(stack.min()), float(stack.max()))
    for frame in scaled:
        if frame.min() < frame.max():
            frame[:] = equalize_adapthist(frame)
    return scaled


STEPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda stack: stack,
    "stretch": stretch,
    "clahe": _clahe,
}
"""Preprocessing by name, as provenance records it: (frame, height, width) in [0, 1] to the same."""


def check_steps(steps: Sequence[str]) -> None:
    """Check the names of steps.

    Parameters
    ----------
    steps : sequence of str
        Names.

    Raises
    ------
    InputError
        When one is not in `STEPS`.
    """
    for step in steps:
        if step not in STEPS:
            close = get_close_matches(step, STEPS, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(STEPS)}"
            raise InputError(f"step {step!r} of the images is unknown{hint}")
