"""Figures that a model writes down, so that none is of fewer patients than `least`.

Nor is a difference of two: counts are rounded, and a curve has points where enough patients lie between. What
remains is what many patients have in common; it is no proof that nothing can be guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

HORIZON_STEPS = 50  # of a horizon: times are written down in these


def disclosed(about: Mapping[str, Any], least: int) -> dict[str, Any]:
    """The counts of a model's training data, as they are written down; names are kept.

    Parameters
    ----------
    about : mapping
        With the counts ``patients``, ``asks`` and, by outcome, ``events``.
    least : int
        Fewest patients that a figure may be of to be written down.

    Returns
    -------
    dict
    """
    events = about.get("events", {})
    return {
        **{
            name: counted(count, least) if name in ("patients", "asks") else count
            for name, count in about.items()
        },
        "events": {
            name: {k: counted(count, least) for k, count in counts.items()} for name, counts in events.items()
        },
    }


def counted(count: int | str, least: int) -> int | str:
    """A count as it is written down.

    Parameters
    ----------
    count : int or str
        A str is one of a model that was loaded, and kept.
    least : int
        Fewest patients that a figure may be of to be written down.

    Returns
    -------
    int or str
        0, "< least", or rounded to a multiple of it.

    Examples
    --------
    >>> [counted(n, 10) for n in (0, 9, 10, 196, 201)], counted(9, 1)
    ([0, '< 10', 10, 200, 200], 9)
    """
    if isinstance(count, str):
        return count  # of a model that was loaded
    if 0 < count < least:
        return f"< {least}"
    return least * math.floor(count / least + 0.5)


def round_time(days: float, events: np.ndarray) -> float:
    """A horizon that is no patient's time.

    Rounded down by at most a 50th, to a multiple of 1, 2 or 5 times a power of ten; up where no event would
    be left.

    Parameters
    ----------
    days : float
        The horizon.
    events : ndarray
        (event,) days of the events.

    Returns
    -------
    float

    Examples
    --------
    >>> some = np.array([0.5])
    >>> round_time(4191.5, some), round_time(36.31, some), round_time(0.977, some), round_time(0.507, some)
    (4150.0, 36.0, 0.97, 0.5)
    """
    most = days / HORIZON_STEPS
    step = Fraction(10) ** math.floor(math.log10(most))
    if step > most:  # the logarithm of a number just below a power of ten is rounded to that power
        step /= 10
    step *= next(one for one in (5, 2, 1) if one * step <= most)
    down = math.floor(Fraction(days) / step) * step
    return float(down if (events <= float(down)).any() else down + step)


def pooled(interval: np.ndarray, patient: np.ndarray, size: int, least: int) -> list[int]:
    """Pool successive intervals until each has events of enough patients, or of nobody.

    Parameters
    ----------
    interval : ndarray
        (event,) int64, the interval of each event.
    patient : ndarray
        (event,) int64, whose event it is.
    size : int
        Number of intervals.
    least : int
        Fewest patients that a figure may be of to be written down.

    Returns
    -------
    list of int
        The intervals to end at; the last one always.

    Examples
    --------
    >>> pooled(np.array([0, 0, 1, 3]), np.array([7, 8, 9, 5]), 4, 2)
    [0, 3]
    """
    ends: list[int] = []
    since: set[int] = set()
    for i in range(size):
        since |= set(patient[interval == i].tolist())
        if not since or len(since) >= least:
            ends.append(i)
            since = set()
    while since and ends:  # too few in the end: with those before
        ends.pop()
        start = ends[-1] if ends else -1
        since = set(patient[(interval > start) & (interval < size)].tolist())
        if len(since) >= least:
            break
    return ends if ends and ends[-1] == size - 1 else [*ends, size - 1]


def coarse_incidence(
    curves: np.ndarray,
    event: np.ndarray,
    time: np.ndarray,
    patient: np.ndarray,
    times: tuple[float, ...],
    least: int,
) -> np.ndarray:
    """An incidence without what it discloses of few patients.

    The curve of a cause has a point where at least `least` patients had it since the point before, and is
    straight between. A cause, or staying event-free, of fewer patients ends at what half of `least` would
    have.

    Parameters
    ----------
    curves : ndarray
        (1 + cause, time), the incidence.
    event : ndarray
        (landmark,) int64, 0 censored, k the k-th cause.
    time : ndarray
        (landmark,) days after it; nan: not at risk.
    patient : ndarray
        (landmark,) int64, whose landmark each is.
    times : tuple of float
        Days of the incidence.
    least : int
        Fewest patients that a figure may be of to be written down.

    Returns
    -------
    ndarray
        Like `curves`.
    """
    if least <= 1:
        return curves
    everybody = len(np.unique(patient[np.isfinite(time)]))
    seen = np.isfinite(time) & (time <= times[-1]) & (event > 0)
    interval = np.searchsorted(times, time[seen])
    event, event_patient = event[seen], patient[seen]
    little = _little(everybody, least)
    grid, table = np.append(0.0, times), curves.copy()
    for k in range(1, len(curves)):
        mine = event == k
        count = len(np.unique(event_patient[mine]))
        if 0 < count < least:
            table[k] = little * grid[1:] / grid[-1]
        elif count:
            ends = np.array(pooled(interval[mine], event_patient[mine], len(times), least))
            table[k] = np.interp(grid[1:], [0.0, *grid[1 + ends]], [0.0, *curves[k, ends]])
    free = everybody - len(np.unique(event_patient))
    most = 1 - little if 0 < free < least else 1.0
    total = table[1:, -1].sum()
    if total > most or (most < 1 and total):
        table[1:] *= most / total
    table[0] = 1 - table[1:].sum(0)
    return table


def coarse_number(
    curve: np.ndarray,
    time: np.ndarray,
    patient: np.ndarray,
    everybody: int,
    times: tuple[float, ...],
    least: int,
) -> np.ndarray:
    """A mean number of events without what it discloses of few patients.

    The curve has a point where at least `least` patients had an event since the point before, and is straight
    between. Of fewer patients it ends at what half of `least` with one event each would have.

    Parameters
    ----------
    curve : ndarray
        (time,), the mean number.
    time : ndarray
        (event,) days after the landmark of each event.
    patient : ndarray
        (event,) int64, whose it is.
    everybody : int
        How many patients there are.
    times : tuple of float
        Days of the curve.
    least : int
        Fewest patients that a figure may be of to be written down.

    Returns
    -------
    ndarray
        Like `curve`.
    """
    if least <= 1:
        return curve
    grid, seen = np.append(0.0, times), time <= times[-1]
    count = len(np.unique(patient[seen]))
    if 0 < count < least:
        return _little(everybody, least) * grid[1:] / grid[-1]
    if not count:
        return curve
    ends = np.array(pooled(np.searchsorted(times, time[seen]), patient[seen], len(times), least))
    return np.interp(grid[1:], [0.0, *grid[1 + ends]], [0.0, *curve[ends]])


def coarse_counts(
    count: np.ndarray, exposure: np.ndarray, patient: np.ndarray, times: tuple[float, ...], least: int
) -> tuple[np.ndarray, np.ndarray]:
    """Counts and exposure of transitions without what a hazard would disclose of few patients.

    Intervals are pooled for each transition until at least `least` patients had it in them together, or
    nobody. Within such a pool counts and exposure are spread evenly over the days: the likelihood of a hazard
    that is constant there stays the same, and nothing finer is left to learn.

    Parameters
    ----------
    count : ndarray
        (landmark, transition, time), how often each happened in each interval.
    exposure : ndarray
        (landmark, transition, time), the share of each interval in which it could have.
    patient : ndarray
        (landmark,) int64, whose landmark each is.
    times : tuple of float
        Ends of the intervals, days.
    least : int
        Fewest patients that a figure may be of to be written down.

    Returns
    -------
    tuple of ndarray
        Like `count` and `exposure`.

    Examples
    --------
    >>> happened, there = np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), np.array([[[0.5, 0.0]], [[1.0, 0.8]]])
    >>> [x[:, 0].round(2).tolist() for x in coarse_counts(happened, there, np.arange(2), (1.0, 5.0), 2)]
    [[[0.2, 0.8], [0.2, 0.8]], [[0.1, 0.1], [0.84, 0.84]]]
    """
    if least <= 1:
        return count, exposure
    count, exposure, width = count.copy(), exposure.copy(), np.diff(np.array(times), prepend=0.0)
    for q in range(count.shape[1]):
        row, interval = np.nonzero(count[:, q])
        begin = 0
        for end in pooled(interval, patient[row], len(times), least):
            part, begin = slice(begin, end + 1), end + 1
            if part.stop - part.start > 1:
                share = width[part] / width[part].sum()
                count[:, q, part] = count[:, q, part].sum(1, keepdims=True) * share
                exposure[:, q, part] = (exposure[:, q, part] @ share)[:, None]
    return count, exposure


def coarse_shares(share: np.ndarray, label: np.ndarray, patient: np.ndarray, least: int) -> np.ndarray:
    """Shares of classes without what they disclose of few patients.

    A class of fewer than `least` patients gets what half as many would have.

    Parameters
    ----------
    share : ndarray
        (class,), the shares.
    label : ndarray
        (landmark,) int64, position of the class; -1: none.
    patient : ndarray
        (landmark,) int64, whose landmark each is.
    least : int
        Fewest patients that a figure may be of to be written down.

    Returns
    -------
    ndarray
        Like `share`.
    """
    count = np.array([len(np.unique(patient[label == k])) for k in range(len(share))])
    few = (count > 0) & (count < least)
    if least <= 1 or not few.any():
        return share
    little = np.where(few, _little(len(np.unique(patient[label >= 0])), least), 0.0)
    rest = np.where(few, 0.0, share)
    if not rest.any():
        return little / little.sum()
    return little + rest / rest.sum() * (1 - little.sum())


def _little(everybody: int, least: int) -> float:
    """The share of half of `least` among all patients, of whom only a rounded count is written down."""
    return least / 2 / max(least * math.floor(everybody / least + 0.5), least)
