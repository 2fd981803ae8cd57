"""Time: whole seconds inside the package, days in public arguments, durations as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gnnpatient.errors import InputError

if TYPE_CHECKING:
    pass

DAY = 86_400  # seconds
YEAR = 365.25  # days
NEVER = -(2**63)  # stored time of what has no known time
FOREVER = 2**63 - 1  # stored time of what does not end
UNITS = {"s": 1, "min": 60, "h": 3600, "d": DAY, "w": 7 * DAY, "mo": YEAR / 12 * DAY, "y": YEAR * DAY}
"""Seconds in each time unit of the command line and the TOML: 1 y = 365.25 d, 1 mo = y / 12."""


def seconds(text: str) -> int:
    """A duration in whole seconds.

    Parameters
    ----------
    text : str
        A number and one of the `UNITS`, as in ``36h``, ``1d`` or ``6mo``; a number alone is days.

    Returns
    -------
    int

    Raises
    ------
    InputError
        When it is written otherwise.

    Examples
    --------
    >>> seconds("36h"), seconds("1y") / DAY, seconds("2")
    (129600, 365.25, 172800)
    """
    found = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    if not found or (found[2] or "d") not in UNITS:
        raise InputError(f"duration {text!r}; write a number and one of {' '.join(UNITS)}, as in 36h or 3y")
    return round(float(found[1]) * UNITS[found[2] or "d"])


def days(time: float | str) -> float:
    """Days of a number, which is days already, or of a duration as text.

    Parameters
    ----------
    time : float or str
        As in ``365``, ``"36h"`` or ``"5y"``, see `seconds`.

    Returns
    -------
    float

    Raises
    ------
    InputError
        When it is neither.

    Examples
    --------
    >>> days(365), days("5y"), days("36h")
    (365.0, 1826.25, 1.5)
    """
    if isinstance(time, str):
        return seconds(time) / DAY
    try:
        return float(time)
    except (TypeError, ValueError):
        raise InputError(
            f"{type(time).__name__} where a duration is wanted; give days, or text as in '36h' or '5y'"
        ) from None


def duration(days: float) -> str:
    """Days as people say them.

    Parameters
    ----------
    days : float

    Returns
    -------
    str
        Years where it is a whole number of them, days, or below a day hours, minutes or seconds.

    Examples
    --------
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
