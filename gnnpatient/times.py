"""Time as the package counts it: whole seconds inside, days in public, durations in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gnnpatient.errors import InputError

if TYPE_CHECKING:
    pass

DAY = 86_400  # seconds
YEAR = 365.25  # days
NEVER = -(2**63)  # the stored time of what is not known to have a time
FOREVER = 2**63 - 1  # the stored time of what does not end
UNITS = {"s": 1, "min": 60, "h": 3600, "d": DAY, "w": 7 * DAY, "mo": YEAR / 12 * DAY, "y": YEAR * DAY}
"""Seconds in each time unit of the command line and the TOML: 1 y = 365.25 d, 1 mo = y / 12."""


def seconds(text: str) -> int:
    """A duration such as `36h`, `1d` or `6mo` in whole seconds; a bare number is days.

    >>> seconds("36h"), seconds("1y") / DAY, seconds("2")
    (129600, 365.25, 172800)
    """
    found = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    if not found or (found[2] or "d") not in UNITS:
        raise InputError(f"duration {text!r}; write a number and one of {' '.join(UNITS)}, as in 36h or 3y")
    return round(float(found[1]) * UNITS[found[2] or "d"])


def duration(days: float) -> str:
    """Days as people say them.

    >>> duration(1826.25), duration(10.0), duration(0.25), duration(1 / 86400)
    ('5 y', '10 d', '6 h', '1 s')
    """
    years = days / YEAR
    if abs(years - round(years)) < 1e-6 and round(years):
        return f"{years:g} y"
    for unit, length in (("h", 1 / 24), ("min", 1 / 1440), ("s", 1 / 86_400)):
        if 0 < abs(days) < 1 and (abs(days) >= length or unit == "s"):
            return f"{days / length:.4g} {unit}"
    return f"{days:.4g} d"
