"""Comparing all pairs of cases and controls in O(n log n)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped

from gnnpatient.errors import InputError

MAX_PAIRS = 2**28
MAX_TABLED_PAIRS = 2**14  # up to which a table of all pairs is faster than sorting


def dense_ranks(x: Shaped[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
    """Ranks from 0; equal values share one."""
    return np.unique(x, return_inverse=True)[1]


def fold_index(fold: Shaped[np.ndarray, " some"] | None, rows: int) -> Int[np.ndarray, " {rows}"]:
    if fold is None:
        return np.zeros(rows, dtype=int)
    if len(fold) != rows:
        raise InputError(f"fold has {len(fold)} entries for {rows} rows; give one a row")
    return dense_ranks(fold)


def mass_below(
    case: tuple[np.ndarray, np.ndarray],
    control: tuple[np.ndarray, np.ndarray],
    mass: Float[np.ndarray, " control"],
) -> tuple[Float[np.ndarray, " case"], Float[np.ndarray, " case"]]:
    """For each case, the mass of its block's controls with a lower rank plus half of the equal; and of all.

    Both come as (block, rank). Sums are differences of one running sum, in such a way that a block of equal
    ranks gives exactly half of its all.
    """
    ranks = 1 + max(case[1].max(initial=0), control[1].max(initial=0))
    key = control[0] * ranks + control[1]
    order = np.argsort(key)
    key, running = key[order], np.concatenate([[0.0], np.cumsum(mass[order])])
    first = case[0] * ranks
    bounds = (first, first + case[1], first + case[1] + 1, first + ranks)
    start, low, high, end = (running[np.searchsorted(key, bound)] for bound in bounds)
    return (low - start) + 0.5 * (high - low), end - start


def mass_below_earlier(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
    control: tuple[np.ndarray, np.ndarray, np.ndarray],
    mass: Float[np.ndarray, " control"],
) -> tuple[Float[np.ndarray, " case"], Float[np.ndarray, " case"]]:
    """As `_beaten`, among the controls of strictly earlier `when`. Both come as (when, block, rank).

    All are lined up by `when`. "Earlier" splits into runs as in a merge sort: at each width, whoever stands
    in a right-hand run meets all of the run to its left, once. So log2(n) rounds of `_beaten` count every
    pair.
    """
    if len(case[0]) * len(control[0]) <= MAX_TABLED_PAIRS:
        earlier = (control[0] < case[0][:, None]) & (control[1] == case[1][:, None])
        won = 0.5 * (control[2] < case[2][:, None]) + 0.5 * (control[2] <= case[2][:, None])
        return (earlier * won) @ mass, earlier @ mass
    cases, size = len(case[0]), len(case[0]) + len(control[0])
    place = np.empty(size, dtype=int)
    order = np.argsort(np.concatenate([case[0], control[0]]), kind="stable")  # cases first at ties
    place[order] = np.arange(size)
    of_case, of_control = place[:cases], place[cases:]
    blocks = 1 + max(case[1].max(initial=0), control[1].max(initial=0))
    won, of = np.zeros(cases), np.zeros(cases)
    for level in range(max(size - 1, 0).bit_length()):
        right, left = of_case >> level & 1 == 1, of_control >> level & 1 == 0
        case_block = (of_case[right] >> level + 1) * blocks + case[1][right]
        control_block = (of_control[left] >> level + 1) * blocks + control[1][left]
        more, all_of = mass_below((case_block, case[2][right]), (control_block, control[2][left]), mass[left])
        won[right] += more
        of[right] += all_of
    return won, of
