"""Coherence on a simulated marker, where the truth is known: a Markov chain of four states and two causes."""

import numpy as np
import pytest
from scipy.linalg import expm

from gnnpatient import Forecast, InputError, metrics

STATES, DAYS = 4, np.arange(0.25, 6.01, 0.25)
U, H = 1.5, 2.0


def generator() -> np.ndarray:
    """Rates a day: the marker moves to its neighbours, or death (4), or leaving (5) ends it."""
    q = np.zeros((STATES + 2, STATES + 2))
    for i in range(STATES):
        for j in (i - 1, i + 1):
            if 0 <= j < STATES:
                q[i, j] = 0.35
        q[i, STATES], q[i, STATES + 1] = 0.02 * 3.0**i, 0.1
    return q - np.diag(q.sum(1))


@pytest.fixture(scope="module")
def people():
    """States of patients at two landmarks, and U after each: (row,), -1 = no longer at risk; and whose."""
    rng, q = np.random.default_rng(0), generator()

    def move(state: np.ndarray, days: float) -> np.ndarray:
        upto = expm(q * days).cumsum(1)
        return (rng.random(len(state))[:, None] > upto[state]).sum(1)

    first = rng.choice(STATES, 30_000, p=[0.4, 0.3, 0.2, 0.1])
    second = move(first, 3.0)
    now = np.concatenate([first, second])
    return now, move(now, U), np.tile(np.arange(30_000), 2)


def forecast(state: np.ndarray, known: float = 1.0) -> Forecast:
    """The true incidence given the state, or pulled towards that of the mean state."""
    true = np.stack([expm(generator() * t)[:STATES] for t in DAYS], -1)  # (state, to, time)
    slots = np.concatenate([true[:, :STATES].sum(1, keepdims=True), true[:, STATES:]], 1)
    slots = known * slots + (1 - known) * slots.mean(0)
    n = len(state)
    return Forecast("end", ("death", "left"), DAYS, slots[state], np.arange(n), np.zeros(n), np.ones(n, bool))


def paired(people, of=forecast, conditional=True):
    """Risks of those still at risk after U: later, earlier, patient, and weights of informative loss."""
    now, then, patient = people
    rows = (now < STATES) & (then < STATES)
    early = of(now[rows])
    early = early.given_event_free(U) if conditional else early
    weight = np.where(np.arange(len(now)) < len(now) / 2, 1.0, 2.5)[rows]
    return of(then[rows]).risk("death", H), early.risk("death", H), patient[rows], weight


def holds(estimate, value):
    return estimate[1] <= value <= estimate[2]


def test_a_perfect_model_gives_0_and_1(people):
    later, earlier, patient, weight = paired(people)
    found = metrics.coherence(earlier, later, patient, weight=weight)
    assert holds(found.intercept, 0) and holds(found.slope, 1)
    assert found.slope[2] - found.slope[1] < 0.05 and found.error[0] > 0.02


def test_the_wrong_way_round_it_does_not(people):
    later, earlier, patient, weight = paired(people)
    found = metrics.coherence(later, earlier, patient, weight=weight)
    assert found.slope[2] < 0.8 and found.intercept[1] > 0.01


def test_without_the_condition_it_does_not(people):
    later, earlier, patient, weight = paired(people, conditional=False)
    found = metrics.coherence(earlier, later, patient, weight=weight)
    assert not holds(found.intercept, 0) and not holds(found.slope, 1)


def test_a_model_that_takes_back_later_what_it_said_is_found(people):
    now, then, patient = people
    rows = (now < STATES) & (then < STATES)
    earlier = forecast(now[rows]).given_event_free(U).risk("death", H)
    later = forecast(then[rows], known=0.6).risk("death", H)
    assert metrics.coherence(earlier, later, patient[rows]).slope[2] < 0.8


def test_a_weight_is_a_number_of_copies():
    rng = np.random.default_rng(0)
    x, y, weight = rng.random(40), rng.random(40), rng.integers(0, 4, 40)
    copies = np.repeat(np.arange(40), weight)
    once = metrics.coherence(x, y, np.arange(40), weight=weight, n=1)
    many = metrics.coherence(x[copies], y[copies], copies, n=1)
    for name in ("intercept", "slope", "error"):
        assert getattr(once, name)[0] == pytest.approx(getattr(many, name)[0])


def test_units_are_drawn_as_a_whole():
    rng = np.random.default_rng(0)
    x, y = rng.random(50), rng.random(50)
    once, twice = (
        metrics.coherence(np.tile(x, k), np.tile(y, k), np.tile(np.arange(50), k), n=20) for k in (1, 2)
    )
    assert np.allclose(once.draws, twice.draws)
    assert metrics.coherence(x, y, np.arange(50), n=20).draws.tolist() == once.draws.tolist()


def test_nothing_to_regress_on_and_bad_input():
    flat = metrics.coherence(np.full(5, 0.3), np.arange(5) / 10, np.arange(5), n=3)
    assert np.isnan([flat.intercept[0], flat.slope[0]]).all() and flat.error[0] == pytest.approx(0.14)
    assert np.isnan(metrics.coherence(np.array([]), np.array([]), np.array([]), n=2).error[0])
    with pytest.raises(InputError, match="give one a row"):
        metrics.coherence(np.ones(3), np.ones(2), np.arange(3))
    with pytest.raises(InputError, match="leave such rows out"):
        metrics.coherence(np.array([0.1, np.nan]), np.ones(2), np.arange(2))
