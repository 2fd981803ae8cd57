"""Progress of long work: one type of callback for reading, embedding, fitting and comparing."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called after each step of long work."""

    def __call__(self, what: str, done: int, total: int, /, **figures: Any) -> None:
        """Report how far a piece of work is.

        Parameters
        ----------
        what : str
            The piece of work, as ``"image"`` or ``"member 1"``.
        done, total : int
            Steps done, and how many there are at most: a fit may stop before.
        **figures
            Of an epoch: ``member``, ``epoch`` (both from 0), ``loss`` and ``validation``. Of a fit in folds:
            ``ends_fold``, whether it is the last one of its fold.
        """
