"""The scores. Oracles: scikit-survival, slow sums over pairs, and sums done by hand; the rest are laws."""

from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sksurv.datasets import load_bmt, load_whas500
from sksurv.metrics import brier_score, concordance_index_ipcw, cumulative_dynamic_auc, integrated_brier_score
from sksurv.nonparametric import cumulative_incidence_competing_risks

from gnnpatient import metrics
from gnnpatient.errors import InputError


class Rows(NamedTuple):
    risk: np.ndarray
    time: np.ndarray
    event: np.ndarray
    horizon: float
    fold: np.ndarray
    weight: np.ndarray

    def score(self, name, **more):
        """By name, so that a test can replace what a metric is made of."""
        if name in ("auc", "concordance"):
            more = {"fold": self.fold} | more
        return getattr(metrics, name)(*self[:4], **{"weight": self.weight} | more)


SCORES = ["auc", "concordance", "brier", "observed_expected", "calibration_slope", "ici"]


@st.composite
def tied_rows(draw):
    """Few distinct times, risks and folds, so that everything ties; 22 rows outlive the rest."""
    n = draw(st.integers(4, 30))
    many = partial(arrays, shape=n + 22)
    time = draw(many(np.int64, elements=st.integers(1, 5)))
    time[n:] = 6
    return Rows(
        risk=draw(many(np.int64, elements=st.integers(1, 7))) / 8,
        time=time.astype(float),
        event=draw(many(np.int8, elements=st.integers(0, 2))),
        horizon=draw(st.sampled_from([2.0, 3.5, 5.0])),
        fold=draw(many(np.int64, elements=st.integers(0, 2))),
        weight=np.append(draw(arrays(np.int64, n, elements=st.integers(0, 3))), np.ones(22, dtype=int)),
    )


def simulated(n, seed=0, causes=2):
    """Informative risks of cause 1 by day 100; every time is different."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    failed, lost = rng.exponential(120 * np.exp(-x)), rng.uniform(0, 300, n)
    event = np.where(failed < lost, rng.integers(1, 1 + causes, n), 0)
    risk = 0.05 + 0.6 / (1 + np.exp(-x - rng.normal(size=n)))
    return Rows(risk, np.minimum(failed, lost), event, 100.0, rng.integers(0, 5, n), np.ones(n))


# -- against scikit-survival, where no event ties with a censoring --


@pytest.fixture(scope="module")
def whas500():
    features, outcome = load_whas500()
    time, event = outcome["lenfol"].astype(float), outcome["fstat"].astype(int)
    untied = (event == 1) | ~np.isin(time, time[event == 1])
    risk = 1 / (1 + np.exp(-(features["age"].to_numpy(float) - 70) / 10))
    return risk[untied], time[untied], event[untied], outcome[untied]


@pytest.mark.parametrize("horizon", [100.5, 365.0, 1000.0])
def test_equal_to_scikit_survival_on_whas500(whas500, horizon):
    risk, time, event, outcome = whas500
    rows = (risk, time, event, horizon)
    assert metrics.auc(*rows) == pytest.approx(
        cumulative_dynamic_auc(outcome, outcome, risk, [horizon])[0][0]
    )
    assert metrics.brier(*rows) == pytest.approx(brier_score(outcome, outcome, 1 - risk, [horizon])[1][0])
    past = np.nextafter(horizon, np.inf)  # its tau leaves out what falls on the horizon
    assert metrics.concordance(*rows) == pytest.approx(
        concordance_index_ipcw(outcome, outcome, risk, past)[0]
    )


def test_integrated_brier_is_scikit_survivals_with_the_way_from_zero_added(whas500):
    risk, time, event, outcome = whas500
    times = np.array([50.5, 200.0, 400.0, 900.0])
    curve = risk[:, None] * times / 900
    value, tau = metrics.integrated_brier(curve, times, time, event)
    start = metrics.brier(curve[:, 0], time, event, 50.5) * 50.5 / 2
    theirs = integrated_brier_score(outcome, outcome, 1 - curve, times) * (900 - 50.5)
    assert (value, tau) == pytest.approx(((start + theirs) / 900, 900.0))


def test_aalen_johansen_is_scikit_survivals():
    _, outcome = load_bmt()
    time, event = outcome["ftime"].astype(float), outcome["status"].astype(int)
    at, either = cumulative_incidence_competing_risks(event, time)
    ours = metrics.aalen_johansen(time, event, at, causes=2)
    np.testing.assert_allclose(ours, np.vstack([1 - either[0], either[1:]]), atol=1e-12)
    np.testing.assert_allclose(ours.sum(0), 1, atol=1e-12)


# -- against slow sums over pairs, where everything ties --


def slow_uncensored(rows, u, *, left):
    """G(u-) or G(u), one factor a time; who fails at a time is no longer there to be censored at it."""
    g = 1.0
    for v in sorted(set(rows.time[(rows.time < u) if left else (rows.time <= u)])):
        there = (rows.time > v) | ((rows.time == v) & (rows.event == 0))
        at_risk = rows.weight[there].sum()
        lost = rows.weight[(rows.time == v) & (rows.event == 0)].sum()
        g *= 1 - lost / at_risk if lost else 1.0
    return g


def slow_pairs(rows, weigh):
    """Weighted share of won pairs; `weigh(i, j)` is 0 for what is no pair."""
    won = of = 0.0
    for i in range(len(rows.time)):
        for j in range(len(rows.time)):
            if rows.fold[i] == rows.fold[j] and rows.weight[i] and rows.weight[j]:
                w = rows.weight[i] * rows.weight[j] * weigh(i, j)
                won += w * ((rows.risk[i] > rows.risk[j]) + 0.5 * (rows.risk[i] == rows.risk[j]))
                of += w
    return won / of if of else np.nan


def slow_auc(rows, definition):
    g = [slow_uncensored(rows, t, left=True) for t in rows.time]
    gh = slow_uncensored(rows, rows.horizon, left=False)

    def weigh(i, j):
        if rows.time[i] > rows.horizon or rows.event[i] != 1:
            return 0
        if rows.time[j] > rows.horizon:
            return 1 / g[i] / gh
        return 1 / g[i] / g[j] if rows.event[j] == 2 and definition == 2 else 0

    return slow_pairs(rows, weigh)


def slow_concordance(rows):
    g = [slow_uncensored(rows, t, left=True) for t in rows.time]

    def weigh(i, j):
        if rows.time[i] > rows.horizon or rows.event[i] != 1:
            return 0
        if rows.time[j] > rows.time[i]:
            return 1 / g[i] ** 2
        return 1 / g[i] / g[j] if rows.event[j] == 2 else 0

    return slow_pairs(rows, weigh)


def slow_brier(rows):
    gh, total = slow_uncensored(rows, rows.horizon, left=False), 0.0
    for risk, time, event, weight in zip(*rows[:3], rows.weight, strict=True):
        if weight and time > rows.horizon:
            total += weight * risk**2 / gh
        elif weight and event:
            total += weight * ((event == 1) - risk) ** 2 / slow_uncensored(rows, time, left=True)
    return total / rows.weight.sum()


@settings(max_examples=60, deadline=None)
@given(tied_rows())
def test_equal_to_sums_over_pairs(rows):
    assert rows.score("auc") == pytest.approx(slow_auc(rows, 2), nan_ok=True)
    assert rows.score("auc", definition=1) == pytest.approx(slow_auc(rows, 1), nan_ok=True)
    assert rows.score("concordance") == pytest.approx(slow_concordance(rows), nan_ok=True)
    assert rows.score("brier") == pytest.approx(slow_brier(rows))


@settings(max_examples=40, deadline=None)
@given(tied_rows())
def test_a_weight_is_a_number_of_copies(rows):
    copies = np.repeat(np.arange(len(rows.time)), rows.weight)
    many = Rows(*(part if np.ndim(part) == 0 else part[copies] for part in rows))._replace(
        weight=np.ones(len(copies))
    )
    for name in SCORES:
        assert rows.score(name) == pytest.approx(many.score(name), nan_ok=True, rel=1e-6), name
    times = np.array([1.0, 2.0, rows.horizon + 0.25])
    curve = rows.risk[:, None] * [0.2, 0.5, 1.0]
    assert metrics.integrated_brier(curve, times, *rows[1:3], weight=rows.weight) == pytest.approx(
        metrics.integrated_brier(curve[copies], times, *many[1:3])
    )
    np.testing.assert_allclose(
        metrics.aalen_johansen(*rows[1:3], times, causes=2, weight=rows.weight),
        metrics.aalen_johansen(*many[1:3], times, causes=2),
    )


@settings(max_examples=20, deadline=None)
@given(tied_rows(), st.randoms(use_true_random=False))
def test_row_order_is_nothing(rows, random):
    order = random.sample(range(len(rows.time)), len(rows.time))
    mixed = Rows(*(part if np.ndim(part) == 0 else part[order] for part in rows))
    for name in SCORES:
        assert rows.score(name) == pytest.approx(mixed.score(name), nan_ok=True, rel=1e-6), name


# -- laws of discrimination --


def test_a_forecast_constant_within_each_fold_gets_exactly_half():
    rows = simulated(600)
    share = np.array([rows.event[rows.fold == f].mean() for f in range(5)])
    constant = rows._replace(risk=share[rows.fold])
    for name in ["auc", "concordance"]:
        assert constant.score(name) == 0.5
        assert constant.score(name, fold=None) != 0.5  # pooled, the level of each fold would count


def test_a_tie_with_a_censoring_takes_the_left_limit():
    """Times 1, 1, 2: of 42 rows 20 are censored at 1, where one case falls: G(1-) = 1 but G(1) = 21/41.

    Later cases weigh 41/21. The case at 1 loses against all, the one at 2 wins against all.
    """
    time = np.r_[1.0, np.full(20, 1.0), 2.0, np.full(20, 3.0)]
    event = np.r_[1, np.zeros(20, int), 1, np.zeros(20, int)]
    risk = np.r_[0.1, np.full(20, 0.5), 0.9, np.full(20, 0.5)]
    late = 41 / 21
    assert metrics.auc(risk, time, event, 2.5) == pytest.approx(late / (1 + late))
    # The case at 1 meets 21 later rows at weight 1, the case at 2 meets 20 at late^2.
    assert metrics.concordance(risk, time, event, 2.5) == pytest.approx(20 * late**2 / (21 + 20 * late**2))
    assert metrics.brier(risk, time, event, 2.5) == pytest.approx((0.81 + late * (0.01 + 20 * 0.25)) / 42)


def uncensored():
    """10 cases, 10 with the highest risks gone by the other cause, 30 event-free; none censored early."""
    time = np.r_[np.arange(1.0, 11.0), np.arange(1.5, 11.0), np.full(30, 20.0)]
    event = np.repeat([1, 2, 0], [10, 10, 30])
    return np.repeat([0.5, 0.9, 0.1], [10, 10, 30]), time, event, 15.0


def test_a_competing_event_is_neither_a_case_nor_a_censoring():
    risk, time, event, horizon = rows = uncensored()
    assert metrics.auc(*rows) == 30 / 40  # wins against the event-free, loses against the gone
    assert metrics.auc(*rows, definition=1) == 1
    assert metrics.auc(*rows, cause=2) == 1
    # Cases meet each other (ties), all the gone whether earlier or later (lost) and the event-free (won).
    assert metrics.concordance(*rows) == pytest.approx((0.5 * 45 + 300) / (45 + 100 + 300))
    assert metrics.brier(*rows) == pytest.approx((10 * 0.25 + 10 * 0.81 + 30 * 0.01) / 50)
    assert metrics.observed_expected(*rows) == pytest.approx(10 / (5 + 9 + 3))
    lost = (risk, time, np.where(event == 2, 0, event), horizon)
    for score in [metrics.auc, metrics.concordance, metrics.brier, metrics.observed_expected]:
        assert abs(score(*lost) - score(*rows)) > 0.01


# -- where no number is given --


@pytest.mark.parametrize(
    ("kept", "reason"),
    [(19, "19 rows are followed beyond it; 20 are needed"), (25, "stay uncensored; at least 0.1")],
)
def test_not_estimable_gives_no_number(kept, reason):
    """Either too few beyond the horizon, or 300 of 326 lost before it."""
    lost = 300 if kept == 25 else 1
    time = np.r_[1.0, np.full(lost, 2.0), np.full(kept, 9.0)]
    rows = (np.linspace(0.1, 0.9, len(time)), time, np.r_[1, np.zeros(lost + kept, int)], 5.0)
    assert reason in metrics.not_estimable(*rows[1:])
    for name in SCORES:
        assert np.isnan(getattr(metrics, name)(*rows)), name
    assert np.isnan(metrics.calibration_curve(*rows)).all()
    curve = rows[0][:, None] * [0.5, 1.0]
    value, tau = metrics.integrated_brier(curve, np.array([1.5, 5.0]), *rows[1:3])
    assert tau == 1.5
    assert value == pytest.approx(metrics.brier(curve[:, 0], *rows[1:3], 1.5) / 2)  # a triangle from 0
    assert metrics.integrated_brier(curve, np.array([5.0, 6.0]), *rows[1:3]) == pytest.approx(
        (np.nan, 0), nan_ok=True
    )


def test_rows_not_drawn_are_not_followed():
    rows = uncensored()[1:]
    assert metrics.not_estimable(*rows) is None
    drawn = np.r_[np.ones(20), np.zeros(11), np.ones(19)]
    assert metrics.not_estimable(*rows, weight=drawn).startswith("horizon 15: 19 rows")


def test_nobody_at_all_gives_no_number():
    none = np.array([])
    assert metrics.not_estimable(none, none.astype(int), 1.0) == (
        "horizon 1: 0 rows are followed beyond it; 20 are needed"
    )
    assert np.isnan(metrics.auc(none, none, none.astype(int), 1.0))


def test_no_pair_gives_no_number():
    rows = simulated(100)._replace(fold=np.arange(100))
    assert np.isnan(rows.score("auc"))
    assert np.isnan(rows.score("concordance"))


def test_weights_are_never_capped():
    """At the edge of what is estimable 1/G is near 10 and counts in full."""
    time = np.r_[np.full(178, 1.0), 2.0, np.full(21, 3.0)]
    event = np.r_[np.zeros(178, int), 1, np.zeros(21, int)]
    assert metrics.brier(np.zeros(200), time, event, 2.5) == pytest.approx(200 / 22 / 200)


# -- calibration --


@pytest.mark.parametrize(("shift", "stretch"), [(0.0, 2.0), (1.0, 0.5), (-0.7, 1.0)])
def test_slope_undoes_a_stretch_on_the_logit_scale(shift, stretch):
    rows = simulated(500)
    stretched = 1 / (1 + np.exp(-(shift + stretch * np.log(rows.risk / (1 - rows.risk)))))
    assert rows._replace(risk=stretched).score("calibration_slope") == pytest.approx(
        rows.score("calibration_slope") / stretch
    )


def two_levels():
    """Risk .2 and .6; of the 50 rows at each, 20 and 25 have the event, a fifth of all are gone otherwise."""
    event = np.r_[np.repeat([1, 2, 0], [20, 10, 20]), np.repeat([1, 2, 0], [25, 10, 15])]
    return np.repeat([0.2, 0.6], 50), np.where(event > 0, 1.0, 3.0), event, 2.0


def test_calibration_of_two_levels_by_hand():
    rows = two_levels()
    logit = np.log([0.2 / 0.8, 0.6 / 0.4, 0.4 / 0.6, 1.0])
    assert metrics.calibration_slope(*rows) == pytest.approx((logit[3] - logit[2]) / (logit[1] - logit[0]))
    assert metrics.observed_expected(*rows) == pytest.approx(0.45 / 0.4)
    assert metrics.ici(*rows) == pytest.approx((0.2 + 0.1) / 2, abs=1e-4)
    grid, observed = metrics.calibration_curve(*rows, points=5)
    np.testing.assert_allclose(grid, np.linspace(0.2, 0.6, 5))
    np.testing.assert_allclose(observed[[0, -1]], [0.4, 0.5], atol=1e-4)


def test_ici_is_a_mean_over_everybody():
    """30 rows lost before any event teach the smooth nothing, but were given a risk."""
    risk, time, event, horizon = two_levels()
    lost = np.full(30, 0.6), np.full(30, 0.5), np.zeros(30, int)
    rows = (*(np.r_[a, b] for a, b in zip((risk, time, event), lost, strict=True)), horizon)
    assert metrics.ici(*rows) == pytest.approx((50 * 0.2 + 80 * 0.1) / 130, abs=1e-4)


def test_calibration_under_censoring_finds_the_distance_that_was_planted():
    rng = np.random.default_rng(1)
    truth = rng.beta(1.5, 4, 5000)
    first = rng.random(5000) < truth
    failed, lost = np.where(first, rng.random(5000), 2.0), rng.uniform(0, 2.5, 5000)
    outcome = np.minimum(failed, lost), (failed < lost).astype(int), 1.0
    low = truth**1.5
    assert metrics.ici(truth, *outcome) < 0.02
    assert metrics.ici(low, *outcome) == pytest.approx(np.abs(low - truth).mean(), abs=0.02)
    assert metrics.calibration_slope(truth, *outcome) == pytest.approx(1, abs=0.1)
    assert metrics.observed_expected(truth, *outcome) == pytest.approx(1, abs=0.05)
    grid, observed = metrics.calibration_curve(low, *outcome)
    np.testing.assert_allclose(observed, grid ** (1 / 1.5), atol=0.06)


def test_calibration_has_no_slope_where_none_is_best():
    _, time, event, horizon = two_levels()
    assert np.isnan(metrics.calibration_slope(np.full(100, 0.3), time, event, horizon))
    assert metrics.ici(np.full(100, 0.3), time, event, horizon) == pytest.approx(0.15, abs=1e-4)
    parted = np.where(event == 1, 0.6, 0.4)
    assert np.isnan(metrics.calibration_slope(parted, time, event, horizon))
    assert metrics.ici(parted, time, event, horizon) == pytest.approx(0.4, abs=1e-3)


def test_slope_of_extreme_uninformative_risks_is_finite():
    """Newton's method from a slope of 1 runs away to 1e8 here."""
    rows = simulated(300)
    noise = np.clip(np.random.default_rng(2).beta(1, 2, 300) * 1.6, 0, 1)
    assert abs(rows._replace(risk=noise).score("calibration_slope")) < 0.3


# -- intervals --


def test_bootstrap_draws_patients_with_all_their_rows():
    patient = np.repeat(["c", "a", "b"], [3, 1, 2])
    draws = metrics.bootstrap(lambda weight: weight, patient, n=50)
    assert draws.shape == (50, 6)
    assert (draws[:, :3] == draws[:, [0]]).all()
    assert (draws[:, 4] == draws[:, 5]).all()
    assert (draws[:, [0, 3, 4]].sum(1) == 3).all()
    assert len(np.unique(draws, axis=0)) > 5
    np.testing.assert_array_equal(draws, metrics.bootstrap(lambda weight: weight, patient, n=50))
    order = [5, 0, 3, 1, 4, 2]
    np.testing.assert_array_equal(
        draws[:, order], metrics.bootstrap(lambda weight: weight, patient[order], n=50)
    )


def test_interval_of_repeated_rows_is_that_of_patients():
    """Ten rows a patient are no more patients: the interval must not shrink."""
    rows = simulated(150, seed=3)
    many = Rows(*(part if np.ndim(part) == 0 else np.repeat(part, 10) for part in rows))
    ids = np.arange(150)

    def width(rows, patient):
        low, high = metrics.interval(
            metrics.bootstrap(lambda w: rows._replace(weight=w).score("brier"), patient, n=60)
        )
        return high - low

    assert width(many, np.repeat(ids, 10)) == pytest.approx(width(rows, ids))


def test_interval_leaves_out_what_was_not_estimable():
    draws = np.c_[np.arange(101.0), np.full(101, np.nan), np.r_[np.nan, np.ones(100)]]
    low, high = metrics.interval(draws, level=0.9)
    np.testing.assert_allclose(low, [5, np.nan, 1])
    np.testing.assert_allclose(high, [95, np.nan, 1])
    assert metrics.interval(draws[:, 0], level=0.9) == pytest.approx((5, 95))


# -- what is refused --


def test_bad_input_is_refused():
    rows = simulated(50)
    for bad, message in [
        (rows._replace(risk=np.r_[np.nan, rows.risk[1:]]), "1 not finite"),
        (rows._replace(time=np.r_[np.inf, rows.time[1:]]), "infinity"),
        (rows._replace(event=np.r_[-1, rows.event[1:]]), "negative"),
    ]:
        with pytest.raises(InputError, match=message):
            bad.score("brier")
    with pytest.raises(InputError, match="cause=0"):
        rows.score("brier", cause=0)
    with pytest.raises(InputError, match="count every competing cause"):
        metrics.aalen_johansen(rows.time, rows.event, np.array([1.0]), causes=1)
    with pytest.raises(InputError, match="positive and rise"):
        metrics.integrated_brier(rows.risk[:, None] * [1, 1], np.array([2.0, 1.0]), rows.time, rows.event)


def test_several_horizons_at_once_are_each_by_itself():
    rng = np.random.default_rng(3)
    time, event = rng.exponential(8, 90).round(1), rng.integers(0, 3, 90)
    patient, horizons = rng.integers(0, 60, 90), [9.0, 0.5, 30.0, 3.0, 40.0, 0.0]
    together = metrics.at_horizons(time, event, horizons, cause=2, patient=patient)
    assert [at is None for at in together] == [False, False, True, False, True, False]
    for horizon, at in zip(horizons, together, strict=True):
        reason = metrics.not_estimable(time, event, horizon, patient=patient)
        assert (at is None) == (reason is not None)
        if at is not None:
            left = [time[time <= horizon], event[time <= horizon]]
            assert at.case.sum() == (left[1] == 2).sum() and at.gone.sum() == (left[1] == 1).sum()
            alone = metrics.at_horizon(time, event, horizon, cause=2, patient=patient)
            assert (at.share == alone.share).all()


def test_an_infinite_hazard_takes_all_that_is_left():
    """As of a survival curve that reaches 0: the other cause keeps what came before."""
    hazards = np.array([[[0.1, 0.2, 0.2], [0.3, np.inf, np.inf]]])
    free, one, two = metrics.cumulative_incidence(hazards)[0]
    assert free == pytest.approx([np.exp(-0.4), 0, 0]) and (free + one + two == pytest.approx(np.ones(3)))
    assert one[0] == pytest.approx(0.25 * (1 - np.exp(-0.4))) and one[1] - one[0] < 1e-3
    assert two[2] == two[1] == pytest.approx(1 - one[1])


@settings(max_examples=40, deadline=None)
@given(tied_rows(), st.sampled_from([0.1, 0.25, 0.5, 0.9]))
def test_net_benefit_is_that_of_counting(rows, threshold):
    """Cases and others at or above the threshold, each with its weight; a competing event is no case."""
    gh, total = slow_uncensored(rows, rows.horizon, left=False), 0.0
    for risk, time, event, weight in zip(*rows[:3], rows.weight, strict=True):
        if risk >= threshold and weight and time > rows.horizon:
            total -= weight * threshold / (1 - threshold) / gh
        elif risk >= threshold and weight and event:
            worth = 1 if event == 1 else -threshold / (1 - threshold)
            total += weight * worth / slow_uncensored(rows, time, left=True)
    found = rows.score("net_benefit", thresholds=np.array([threshold]))
    if np.isfinite(rows.score("brier")):
        assert found == pytest.approx(total / rows.weight.sum(), abs=1e-9)
    else:
        assert np.isnan(found)


def test_who_treats_nobody_has_no_benefit_and_a_threshold_lies_between_0_and_1():
    time, event = np.full(50, 9.0), np.zeros(50, int)
    assert metrics.net_benefit(np.zeros(50), time, event, 5.0, np.array([0.1, 0.9])).tolist() == [0, 0]
    with pytest.raises(InputError, match=r"thresholds from 0 to 0.5; must be above 0, below 1"):
        metrics.net_benefit(np.zeros(50), time, event, 5.0, np.array([0.0, 0.5]))


@settings(max_examples=40, deadline=None)
@given(tied_rows())
def test_average_precision_is_that_of_counting(rows):
    """Of each case the share of cases at or above its risk in its fold, by weights; ties count whole."""
    at = metrics.at_horizon(rows.time, rows.event, rows.horizon, weight=rows.weight)
    found = rows.score("average_precision", fold=rows.fold)
    if at is None or not (at.share * at.case).sum():
        assert np.isnan(found)
        return
    total = 0.0
    for i in np.flatnonzero(at.case & (at.share > 0)):
        above = (rows.risk >= rows.risk[i]) & (rows.fold == rows.fold[i])
        total += at.share[i] * at.share[above & at.case].sum() / at.share[above].sum()
    assert found == pytest.approx(total / at.share[at.case].sum())


def test_average_precision_is_scikit_learns_and_of_a_constant_the_share_of_cases():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    case = rng.random(300) < 0.1
    risk = (0.3 * case + rng.random(300)).round(2)
    known = metrics.labelled(case)
    found = metrics.SCORES["auprc"](risk, known, None)
    assert found == pytest.approx(average_precision_score(case, risk))
    assert metrics.SCORES["auprc"](np.full(300, 0.2), known, None) == pytest.approx(case.mean())
