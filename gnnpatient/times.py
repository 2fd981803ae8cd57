"""Time as the package counts it: whole seconds inside, days in public, durations in words."""

from __future__ import annotations

import re

from gnnpatient.errors import InputError

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
