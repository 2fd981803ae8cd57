"""Patterns of codes, in which * stands for any text."""

from __future__ import annotations

import re
from collections.abc import Iterable


def glob(pattern: str) -> str:
    """A pattern in which * stands for any text, as a regular expression for the whole text.

    >>> glob("LAB//*")
    '(?s)^LAB//.*$'
    """
    return "(?s)^" + ".*".join(map(re.escape, pattern.split("*"))) + "$"


def fitting(codes: Iterable[str], patterns: Iterable[str]) -> list[bool]:
    """Whether each code fits one of the patterns, in which * stands for any text; without a pattern none.

    >>> fitting(["LAB//a", "K [1/l]"], ["LAB//*"])
    [True, False]
    """
    tests = [re.compile(glob(pattern)) for pattern in patterns]
    return [any(test.fullmatch(code) for test in tests) for code in codes]
