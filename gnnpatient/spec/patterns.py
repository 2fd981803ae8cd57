"""Patterns of codes, in which * stands for any text."""

from __future__ import annotations

import re
from collections.abc import Iterable


def glob(pattern: str) -> str:
    """A pattern as a regular expression for the whole text.

    Parameters
    ----------
    pattern : str
        `*` stands for any text, also for none; every other sign for itself.

    Returns
    -------
    str

    Examples
    --------
    >>> glob("LAB//*")
    '(?s)^LAB//.*$'
    """
    return "(?s)^" + ".*".join(map(re.escape, pattern.split("*"))) + "$"


def fitting(codes: Iterable[str], patterns: Iterable[str]) -> list[bool]:
    """Whether each code fits at least one of the patterns.

    Parameters
    ----------
    codes : iterable of str
        Codes, each compared as a whole and by case.
    patterns : iterable of str
        As for `glob`. Without a pattern no code fits.

    Returns
    -------
    list of bool
        One for each code.

    Examples
    --------
    >>> fitting(["LAB//a", "K [1/l]"], ["LAB//*"])
    [True, False]
    """
    tests = [re.compile(glob(pattern)) for pattern in patterns]
    return [any(test.fullmatch(code) for test in tests) for code in codes]
