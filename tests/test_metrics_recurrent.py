"""Numbers of events: slow sums beside the fast ones, and simulated truth under death and censoring."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpatient.metrics import censoring, mean_number, seen_number


def rows(n, seed, grid=True):
    """Ends, whether for good, and events up to them; on whole days, so that all of them tie."""
    rng = np.random.default_rng(seed)
    end, gone = rng.integers(1, 9, n).astype(float), rng.integers(0, 2, n)
    happened = [np.unique(rng.integers(1, int(e) + 1, rng.integers(0, 4))).astype(float) for e in end]
    owner = np.repeat(np.arange(n), [len(h) for h in happened])
    return owner, np.concatenate(happened), end, gone


def slow(owner, happened, end, gone, at, weight):
    """Time by time: the share of events among those followed, times who is not gone before."""
    total, alive = 0.0, 1.0
    for time in np.unique(np.concatenate([happened, end])):
        if time > at:
            break
        followed = weight[end >= time].sum()
        total += alive * weight[owner[happened == time]].sum() / followed
        alive *= 1 - weight[(end == time) & (gone > 0)].sum() / followed
    return total


@given(st.integers(1, 12), st.integers(0, 10_000))
def test_the_mean_is_that_of_a_slow_walk_through_time(n, seed):
    owner, happened, end, gone = rows(n, seed)
    weight = np.random.default_rng(seed).uniform(0.5, 2, n)
    at = np.array([0.5, 1.0, 3.0, 7.5, 20.0])
    found = mean_number(owner, happened, end, gone, at, weight=weight)
    np.testing.assert_allclose(found, [slow(owner, happened, end, gone, a, weight) for a in at])


def world(n, seed):
    """Events at the rate of a frailty; death takes the frail sooner; censoring takes anybody."""
    rng = np.random.default_rng(seed)
    frailty = rng.gamma(2.0, 0.5, n)
    dies, lost = rng.exponential(1 / (0.3 * frailty)), rng.uniform(0.5, 6.0, n)

    def until(end):
        count = rng.poisson(1.5 * frailty * np.minimum(end, 10))
        owner = np.repeat(np.arange(n), count)
        return owner, rng.uniform(0, np.minimum(end, 10)[owner])

    return dies, lost, until, frailty


def test_the_mean_is_right_where_the_dead_were_those_with_many_events():
    dies, lost, until, frailty = world(20_000, 1)
    end = np.minimum(dies, lost)
    owner, happened = until(end)
    found = mean_number(owner, happened, end, (dies <= lost).astype(int), np.array([1.0, 3.0]))
    wanted = [np.mean(1.5 * frailty * -np.expm1(-0.3 * frailty * t) / (0.3 * frailty)) for t in (1.0, 3.0)]
    np.testing.assert_allclose(found, wanted, atol=0.03)
    as_lost = mean_number(owner, happened, end, np.zeros(len(end), int), np.array([3.0]))
    assert as_lost[0] > wanted[1] + 0.3  # death is no censoring


def test_without_censoring_the_number_is_counted():
    dies, _, until, _ = world(300, 2)
    end = np.minimum(dies, 9.0)
    owner, happened = until(end)
    seen = seen_number(owner, happened, end, np.ones(len(end), int), 2.0)
    np.testing.assert_array_equal(seen.number, np.bincount(owner[happened <= 2.0], minlength=len(end)))
    forecast = np.full(len(end), 1.0)
    assert seen.squared_error(forecast) == pytest.approx(np.square(seen.number - 1).mean())
    assert seen.observed_expected(forecast) == pytest.approx(seen.number.mean())


def test_events_before_a_censoring_stand_for_those_after_it():
    owner, happened, end, gone = rows(200, 5)
    staying, seen = censoring(end, gone), seen_number(owner, happened, end, gone, 4.0)
    wanted = [
        sum(1 / staying.left(t) for o, t in zip(owner, happened, strict=True) if o == i and t <= 4.0)
        for i in range(200)
    ]
    np.testing.assert_allclose(seen.number, wanted)


@pytest.mark.parametrize("seed", range(3))
def test_no_forecast_scores_better_than_the_truth(seed):
    dies, lost, until, frailty = world(8_000, seed)
    end = np.minimum(dies, lost)
    owner, happened = until(end)
    seen = seen_number(owner, happened, end, (dies <= lost).astype(int), 2.0)
    truth = 5.0 * -np.expm1(-0.3 * frailty * 2.0)
    error = seen.squared_error(truth)
    for other in (0.8 * truth, 1.2 * truth, truth + 0.3, np.full(len(truth), truth.mean())):
        assert seen.squared_error(other) > error
    assert seen.observed_expected(truth) == pytest.approx(1, abs=0.05)


def test_nothing_is_scored_where_nobody_is_left():
    end, none = np.linspace(1, 5, 60), np.zeros(60, int)
    assert seen_number(np.zeros(0, int), np.zeros(0), end, none, 4.9) is None
