"""Scores of values. Oracles: integrals done slowly, closed forms of the normal; the rest are laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from gnnpatient import metrics
from gnnpatient.errors import InputError

EDGES = np.array([-2.0, -1.5, 0.0, 0.25, 3.0])


def drawn(seed, n=40):
    """Values, some of them not seen, and forecasts of all kinds."""
    rng = np.random.default_rng(seed)
    value = np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n))
    low = rng.normal(size=n) - 1
    forecast = {
        "rmse": (rng.normal(size=n),),
        "mae": (rng.normal(size=n),),
        "crps": (rng.dirichlet(np.ones(4), n), EDGES),
        "coverage": (low, low + rng.exponential(size=n)),
        "width": (low, low + rng.exponential(size=n)),
    }
    return value, forecast


def of_rows(name, forecast, rows):
    return tuple(part if part is EDGES else part[rows] for part in forecast[name])


SCORES = ["rmse", "mae", "crps", "coverage", "width"]


@pytest.mark.parametrize("name", SCORES)
def test_a_weight_is_how_often_a_row_counts(name):
    value, forecast = drawn(1)
    weight = np.random.default_rng(2).integers(0, 4, len(value))
    again = np.repeat(np.arange(len(value)), weight)
    score = getattr(metrics, name)
    weighed = score(*forecast[name], value, weight=weight)
    assert weighed == pytest.approx(score(*of_rows(name, forecast, again), value[again]))
    assert weighed != pytest.approx(score(*forecast[name], value), rel=1e-3)


@pytest.mark.parametrize("name", SCORES)
def test_rows_that_were_not_seen_count_in_no_way(name):
    value, forecast = drawn(3)
    seen, score = np.isfinite(value), getattr(metrics, name)
    all_rows = score(*forecast[name], value)
    assert all_rows == pytest.approx(score(*of_rows(name, forecast, seen), value[seen]))
    for part in forecast[name]:
        if part is not EDGES:
            part[~seen] = np.nan  # nor is a forecast of them read
    assert score(*forecast[name], value) == all_rows
    assert np.isnan(score(*forecast[name], np.full(len(value), np.nan)))
    forecast[name][0][np.flatnonzero(seen)[:2]] = np.nan
    with pytest.raises(InputError, match=rf"no forecast \(nan\) of 2 of {seen.sum()} values that were seen"):
        score(*forecast[name], value)


def test_what_does_not_fit_is_refused():
    one = np.ones(3)
    for call, words in (
        (lambda: metrics.rmse(one, np.ones(2)), "2 values with 3 forecasts"),
        (lambda: metrics.mae(one, one, weight=np.ones(2)), "3 values with 3, 2 forecasts or weights"),
        (lambda: metrics.pinball(one, one, 1.2), r"quantile = 1\.2; must be from 0 to 1"),
        (lambda: metrics.crps(np.ones((3, 2)), np.array([0.0, 1.0, 1.0]), one), "rising edge"),
        (lambda: metrics.crps(np.ones((3, 2)), np.array([0.0, 1.0]), one), "one rising edge more"),
        (lambda: metrics.crps_of_quantiles(np.ones((3, 2)), np.array([0.5, 0.5]), one), "must rise"),
    ):
        with pytest.raises(InputError, match=words):
            call()


@settings(max_examples=50, deadline=None)
@given(
    share=arrays(np.float64, 4, elements=st.floats(0, 1)).filter(lambda x: x.sum() > 0.1),
    value=st.floats(-4, 5),
)
def test_crps_of_bins_equals_the_integral(share, value):
    share = share / share.sum()
    x = np.linspace(-5, 6, 110_001)
    middle = (x[1:] + x[:-1]) / 2
    upto = np.interp(middle, EDGES, np.concatenate([[0], np.cumsum(share)]))
    slow = (np.square(upto - (middle >= value)) * np.diff(x)).sum()
    assert metrics.crps(share[None], EDGES, np.array([value])) == pytest.approx(slow, abs=2e-4)


@pytest.mark.parametrize("value", [-3.0, 0.2, 1.7])
def test_crps_of_a_normal_in_bins_and_in_quantiles_nears_the_closed_form(value):
    closed = value * (2 * norm.cdf(value) - 1) + 2 * norm.pdf(value) - np.pi**-0.5  # Gneiting & Raftery 2007
    edges = np.linspace(-6, 6, 401)
    bins = np.diff(norm.cdf(edges))
    level = (np.arange(999) + 0.5) / 999
    asked = np.array([value])
    assert metrics.crps(bins[None] / bins.sum(), edges, asked) == pytest.approx(closed, abs=1e-4)
    quantiles = norm.ppf(level)[None]
    assert metrics.crps_of_quantiles(quantiles, level, asked) == pytest.approx(closed, abs=1e-3)


def test_the_truth_scores_best():
    """Of forecasts that miss by a shift or a spread none beats the right one."""
    value = np.random.default_rng(0).normal(size=4000)
    edges = np.linspace(-9, 9, 181)

    def crps(mean, sd):
        bins = np.diff(norm.cdf(edges, mean, sd))
        return metrics.crps(np.tile(bins / bins.sum(), (len(value), 1)), edges, value)

    best = crps(0, 1)
    assert all(best < crps(*other) for other in [(0.3, 1), (-0.3, 1), (0, 0.7), (0, 1.4)])
    at = {q: metrics.pinball(np.full(4000, norm.ppf(q)), value, q) for q in (0.1, 0.5, 0.9)}
    for q, least in at.items():
        assert all(least < metrics.pinball(np.full(4000, norm.ppf(q) + d), value, q) for d in (-0.3, 0.3))
    assert at[0.5] == pytest.approx(metrics.mae(np.zeros(4000), value) / 2)
    low, high = np.full(4000, norm.ppf(0.05)), np.full(4000, norm.ppf(0.95))
    assert metrics.coverage(low, high, value) == pytest.approx(0.9, abs=0.02)
    assert metrics.width(low, high, value) == pytest.approx(2 * norm.ppf(0.95))
