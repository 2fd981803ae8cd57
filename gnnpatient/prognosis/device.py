"""Where the networks are computed: the device, and the same bits on it each time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gnnpatient.errors import InputError


def resolve_device(device: str) -> torch.device:
    """Find the device to compute on.

    Parameters
    ----------
    device : str
        ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"`` or another name that torch knows.

    Returns
    -------
    torch.device

    Raises
    ------
    InputError
        When torch does not know the name, or finds no GPU for it.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise InputError(f"device {device!r}; must be auto, cpu or cuda") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r}: torch finds no CUDA here; take auto or cpu")
    return chosen


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Give the same bits each time, on a GPU too, where sums would otherwise be in any order.

    Parameters
    ----------
    device : torch.device
        Where the block computes; anything but CUDA needs nothing.

    Yields
    ------
    None
    """
    if device.type != "cuda":
        yield
        return
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it torch refuses a matrix product
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
