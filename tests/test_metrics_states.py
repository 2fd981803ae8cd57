"""Several states: the product integral against a slow walk with ties, scores against plain sums."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpatient.metrics import Stays, aalen_johansen, censoring, seen_states, transition_probabilities

MOVES = ((0, 1), (1, 0), (0, 2), (1, 2))


def paths(n, seed):
    """Of each row: weight and stays (state, from, to, transition or -1), on whole days, so that all tie."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(n):
        now, time, stays = int(rng.integers(0, 2)), 0, []
        for _ in range(rng.integers(1, 5)):
            until = time + int(rng.integers(1, 4))
            leaving = [q for q, (a, _) in enumerate(MOVES) if a == now]
            move = int(rng.choice([*leaving, -1]))
            stays.append((now, time, until, move))
            if move < 0 or MOVES[move][1] == 2:
                break
            now, time = MOVES[move][1], until
        else:
            stays[-1] = (*stays[-1][:3], -1)
        found.append((float(rng.uniform(0.5, 2)), stays))
    return found


def table(rows):
    every = [(*stay, weight) for weight, stays in rows for stay in stays]
    state, start, end, to, weight = map(np.array, zip(*every, strict=True))
    return Stays(state, start.astype(float), end.astype(float), to, weight)


def slow(rows, start, at):
    """Day by day: who is there before it, and what share of them goes where."""
    there, number = np.eye(3)[start], np.zeros(4)
    for day in range(1, int(at) + 1):
        moved = np.zeros(4)
        for q, (source, _) in enumerate(MOVES):
            here = [
                (w, to == q and end == day)
                for w, stays in rows
                for s, a, end, to in stays
                if s == source and a < day <= end
            ]
            total = sum(w for w, _ in here)
            moved[q] = there[source] * sum(w for w, went in here if went) / total if total else 0.0
        for q, (source, target) in enumerate(MOVES):
            there[source] -= moved[q]
            there[target] += moved[q]
        number += moved
    return there, number


@given(st.integers(1, 10), st.integers(0, 10_000))
def test_the_estimate_is_that_of_a_slow_walk(n, seed):
    rows = paths(n, seed)
    for start in (0, 1):
        times = np.array([1.0, 2.5, 4.0, 9.0])
        found, number = transition_probabilities(table(rows), MOVES, 3, start, times)
        for column, time in enumerate(times):
            there, times_moved = slow(rows, start, time)
            np.testing.assert_allclose(found[:, column], there, atol=1e-12)
            np.testing.assert_allclose(number[:, column], times_moved, atol=1e-12)


def test_of_one_state_it_is_the_incidence_of_competing_causes():
    rng = np.random.default_rng(1)
    time, event = rng.integers(1, 9, 200).astype(float), rng.integers(0, 3, 200)
    stays = Stays(np.zeros(200, int), np.zeros(200), time, event - 1, np.ones(200))
    at = np.array([2.0, 5.0, 8.0])
    found, number = transition_probabilities(stays, [(0, 1), (0, 2)], 3, 0, at)
    wanted = aalen_johansen(time, event, at, causes=2)
    np.testing.assert_allclose(found, wanted)
    np.testing.assert_allclose(number, wanted[1:])


def test_rows_that_are_known_stand_for_those_that_are_lost():
    rng = np.random.default_rng(2)
    end, gone, state = rng.uniform(0, 9, 400), rng.integers(0, 2, 400), rng.integers(0, 3, 400)
    seen, staying = seen_states(state, end, gone, 4.0), censoring(end, gone)
    for i in range(400):
        wanted = 1 / staying.right(4.0) if end[i] > 4 else 1 / staying.left(end[i]) if gone[i] else 0.0
        assert seen.share[i] == pytest.approx(wanted)
    risk = rng.uniform(size=400)
    each = sum(s * ((k == 1) - p) ** 2 for s, k, p in zip(seen.share, state, risk, strict=True))
    assert seen.brier(risk, 1) == pytest.approx(each / 400)
    assert seen.observed_expected(risk, 1) == pytest.approx(seen.share[state == 1].sum() / risk.sum())
    assert sum(seen.share) == pytest.approx(400, rel=0.03)
    assert seen_states(state, end, gone, 8.99) is None
