"""What the package says when it will not go on: one type, so that callers can tell a refusal from a bug."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input, refused at the door. The message is one line: the thing, what it holds, what would do.

    The command line prints it and exits with 2.
    """


Refused = InputError  # its name until 0.1; the same class, so that either catches it


def near(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown word: the near name, else all that are known."""
    known = tuple(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
