"""Errors about input: one type, so that callers can tell bad input from a bug."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input.

    The message is one line: the file, row or key, what was found there, and what to do. The command line
    prints it and exits with 2.
    """


class InputTypeError(InputError, TypeError):
    """Bad input: an object of another type than is wanted, as a table where landmarks are."""


class UnknownNameError(InputError, KeyError):
    """Bad input: a name that is not among those of a mapping, as the name of an outcome."""

    __str__ = Exception.__str__  # KeyError would put the message in quotes


class NoColumnError(InputError):
    """A table lacks a column that the spec names."""


Refused = InputError  # the name until 0.1; the same class, so that either name catches it


ADD_OUTCOME = (
    'add the lines [outcomes.death], kind = "survival", table = "FILE" and causes = { death = { time = '
    '"COLUMN", flag = "COLUMN" } } to the spec; docs/how-to/layouts.md has those of other tables'
)
"""What to do where a spec has no outcome."""


def near(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown word, to be put behind an error message.

    Parameters
    ----------
    word : str
        The word that was found.
    known : iterable of str
        The words that are possible.

    Returns
    -------
    str
        The most similar known word, else all known words.

    Examples
    --------
    >>> near("suorce", ["source", "cohort"])
    "; did you mean 'source'?"
    """
    known = tuple(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
