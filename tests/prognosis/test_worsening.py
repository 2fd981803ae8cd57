"""Worse between two visits: likelihoods against slow sums and survival, the estimate against a truth."""

import numpy as np
import pytest
import torch

from gnnpatient import Forecast, InputError, PrognosisModel, load_predictor
from gnnpatient.metrics import aalen_johansen
from gnnpatient.model.heads import SurvivalConfig, SurvivalHead, WorseningHead
from gnnpatient.prognosis.boosted import _person_periods, _Sample
from gnnpatient.prognosis.linear import _SurvivalLoss, _WorseningLoss
from gnnpatient.prognosis.targets import SurvivalTarget
from gnnpatient.prognosis.worsening import WorseningTarget, interval_incidence

TIMES = (1.0, 2.0, 4.0, 7.0)
HEAD = SurvivalConfig(kind="worsening", causes=("worse", "death"), times=TIMES)


def rows(n=200, seed=0):
    """Visits that show worse, deaths and ends, on grid times, between them and beyond."""
    rng = np.random.default_rng(seed)
    event = rng.integers(0, 3, n)
    time = rng.choice([0.5, 1.0, 1.7, 2.0, 3.9, 4.0, 6.0, 7.0, 8.5], n)
    after = time * rng.choice([0.0, 0.2, 0.6, 0.99], n)
    after[(event == 1) & (time == 4.0)] = 2.0  # on a grid time
    after[(event != 1) & (time == 6.0)] = 6.0  # the last visit is the end
    return event, time, after


def hazards(n=200, seed=1):
    logits = np.random.default_rng(seed).normal(-1.5, 1, (n, 2, len(TIMES)))
    return torch.from_numpy(np.pad(logits, ((0, 0), (1, 0), (0, 0)))).log_softmax(1)


def slow(log_hazard, event, time, after):
    """The probability of what was seen, one landmark at a time, interval by interval."""
    h, starts = np.exp(log_hazard), (0.0, *TIMES)

    def share(until, s):
        return min(1.0, max(0.0, (until - starts[s]) / (TIMES[s] - starts[s])))

    def stays(s):  # not dead, worse or not
        return h[0, s] + h[1, s]

    value, came = 1.0, 0.0
    if event != 1:
        for s, end in enumerate(TIMES):
            if event and starts[s] < time <= end:
                return value * h[event, s]
            value *= h[0, s] ** share(after, s) * stays(s) ** (share(time, s) - share(after, s))
        return value
    for s in range(len(TIMES)):
        later = np.prod([stays(r) ** share(time, r) for r in range(s + 1, len(TIMES))])
        came += value * h[1, s] * (share(time, s) - share(after, s)) * later
        value *= h[0, s]
    within = min(1.0, max(0.0, (TIMES[-1] - after) / (time - after)))
    return (came if within else 1.0) ** within * value ** (1 - within)


def test_the_loss_is_the_probability_of_what_visits_show():
    event, time, after = rows()
    log_hazard = hazards()
    each = [torch.from_numpy(column) for column in (event, time, after)]
    loss = WorseningHead(HEAD, 4).loss(log_hazard, *each)
    prediction = WorseningHead(HEAD, 4).predict(log_hazard).numpy()
    likelihood = WorseningTarget(HEAD.causes, event, time, after).likelihood(prediction, TIMES)
    for i in range(len(event)):
        wanted = slow(log_hazard[i].numpy(), event[i], time[i], after[i])
        assert float(loss[i]) == pytest.approx(-np.log(wanted))
        assert likelihood[i] == pytest.approx(wanted, rel=1e-6)  # what the stack weighs families by


def test_the_slope_of_the_loss_is_finite_everywhere():
    event, time, after = rows()
    log_hazard = hazards().requires_grad_()
    each = [torch.from_numpy(column) for column in (event, time, after)]
    WorseningHead(HEAD, 4).loss(log_hazard, *each).sum().backward()
    assert log_hazard.grad.isfinite().all() and (log_hazard.grad != 0).any()


def test_what_is_not_at_risk_has_a_likelihood_of_one():
    target = WorseningTarget(HEAD.causes, np.array([1]), np.array([np.nan]), np.array([np.nan]))
    assert not target.known.any() and target.likelihood(np.full((1, 3, 4), 1 / 3), TIMES).tolist() == [1.0]


def test_where_each_visit_ends_an_interval_it_is_plain_survival():
    event, time, _ = rows()
    keep = time <= TIMES[-1]
    event, time = event[keep], np.array(TIMES)[np.searchsorted(TIMES, time[keep])]
    after = np.where(event == 1, np.append(0.0, TIMES)[np.searchsorted(TIMES, time)], time)
    target, plain = WorseningTarget(HEAD.causes, event, time, after), SurvivalTarget(HEAD.causes, event, time)
    log_hazard = hazards(len(event))
    prediction = WorseningHead(HEAD, 4).predict(log_hazard).numpy()
    assert np.allclose(target.likelihood(prediction, TIMES), plain.likelihood(prediction, TIMES))
    each = [torch.from_numpy(column) for column in (event, time, after)]
    exact = SurvivalHead(HEAD, 4).loss(log_hazard, *each[:2])
    assert torch.allclose(WorseningHead(HEAD, 4).loss(log_hazard, *each), exact)
    loss, other = _WorseningLoss(HEAD, event, time, after), _SurvivalLoss(HEAD, event, time)
    shift, bias, weight = torch.randn(2, 2, len(event)), torch.randn(2, 2, 4), torch.rand(2, len(event))
    for one, two in zip(loss(shift, bias, weight), other(shift, bias, weight), strict=True):
        assert torch.allclose(one, two, atol=1e-4)


def test_a_boosted_event_is_shared_over_the_time_in_which_it_may_lie():
    """Where hazards are as expected, events are as expected, of each cause in each band."""
    rng, n = np.random.default_rng(0), 40_000
    rate = np.array([0.2, 0.1])
    worse, death = rng.exponential(1 / rate, (n, 2)).T
    shown, time, before = visits_of(rng, worse, np.minimum(death, 9.0))
    event = np.select([shown < np.inf, death < 9], [1, 2], 0)
    target = WorseningTarget(HEAD.causes, event, time, before)
    expected = rate[:, None] * np.diff(TIMES, prepend=0.0)
    sample = _Sample(np.arange(n), np.arange(n), np.ones(n), np.zeros((n, 1), np.uint8))
    bands = np.array([0, 0, 1, 1])
    found = _person_periods(target, sample, TIMES, expected, bands)
    for band in (0, 1):
        here = found.bins[:, 1] == band
        for cause in (0, 1):
            events = found.target[here, cause] @ found.weight[here, cause]
            assert events / found.weight[here, cause].sum() == pytest.approx(1, abs=0.04), (band, cause)


def visits_of(rng, worse, end):
    """The first visit that shows worse (inf: none), the end that is known, and the last visit without it."""
    visits = rng.uniform(0.3, 1.7, (len(worse), 40)).cumsum(1)
    visits[visits > end[:, None]] = np.inf
    shown = np.where(visits >= worse[:, None], visits, np.inf).min(1)
    before = np.where(visits < worse[:, None], np.where(visits < np.inf, visits, 0), 0).max(1)
    return shown, np.where(shown < np.inf, shown, end), before


@pytest.fixture(scope="module")
def visited():
    rng, n = np.random.default_rng(0), 20_000
    worse, death, end = rng.exponential(8, n), rng.exponential(12, n), rng.uniform(3, 12, n)
    shown, time, before = visits_of(rng, worse, np.minimum(death, end))
    return np.select([shown < np.inf, death < end], [1, 2], 0), time, before


def test_the_marginal_finds_what_came_not_what_was_seen(visited):
    event, time, after = visited
    times = np.arange(0.5, 6.1, 0.5)
    found = interval_incidence(event, time, after, tuple(times.tolist()), causes=2)
    seen = aalen_johansen(time, event, times, causes=2)
    rate = np.array([1 / 8, 1 / 12])
    true = rate[:, None] / rate.sum() * -np.expm1(-rate.sum() * times)
    assert np.abs(found[1:] - true).max() < 0.012 and np.abs(seen[1] - true[0]).max() > 0.04
    assert np.allclose(found.sum(0), 1) and (np.diff(found[1:], axis=1) >= -1e-12).all()


def test_the_marginal_of_weights_is_that_of_copies(visited):
    event, time, after = (column[:2000] for column in visited)
    weight = np.random.default_rng(1).integers(0, 3, len(event))
    copies = np.repeat(np.arange(len(event)), weight)
    once = interval_incidence(event, time, after, TIMES, causes=2, weight=weight.astype(float))
    many = interval_incidence(event[copies], time[copies], after[copies], TIMES, causes=2)
    assert np.allclose(once, many)


def test_worse_alone_can_be_the_only_cause():
    event, time, after = (
        np.array([1, 1, 0, 0]),
        np.array([1.0, 2.0, 2.0, 2.0]),
        np.array([0.0, 1.0, 2.0, 2.0]),
    )
    found = interval_incidence(event, time, after, (1.0, 2.0), causes=1)
    assert found.shape == (2, 2) and 0.2 < found[1, 0] < 0.3 and 0.45 < found[1, 1] < 0.55
    head = SurvivalConfig(kind="worsening", causes=("worse",), times=(1.0, 2.0))
    log_hazard = torch.zeros(4, 2, 2).log_softmax(1)
    each = (torch.from_numpy(column) for column in (event, time, after))
    assert WorseningHead(head, 4).loss(log_hazard, *each).exp().tolist() == pytest.approx([2, 4, 4, 4])


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    from gnnpatient import read_cohort
    from gnnpatient.datasets.clinic import write_clinic

    folder = tmp_path_factory.mktemp("clinic") / "data"
    write_clinic(folder, 300, seed=1)
    return read_cohort("clinic", folder)


@pytest.fixture(scope="module")
def fitted(clinic):
    X = clinic.landmarks(np.arange(200), times=[0, 365, 730]).followed("worse")
    return PrognosisModel(outcomes=["worse"], members=2, epochs=2, channels=8, num_layers=1).fit(X)


def test_a_fitted_model_forecasts_worse_and_gone(clinic, fitted, tmp_path):
    X = clinic.at(365).followed("worse")[:20]
    forecast = fitted.forecast(X)["worse"]
    assert type(forecast) is Forecast and forecast.causes == ("worse", "death")
    assert forecast.times[-1] == 3 * 365.25  # the horizon of the outcome
    assert np.allclose(forecast.incidence.sum(1), 1, atol=1e-6)
    assert np.ptp(forecast.risk("worse", "1y")) > 0.01
    fitted.save_pretrained(tmp_path / "model")
    again = load_predictor(tmp_path / "model").forecast(X)["worse"]
    assert np.array_equal(again.incidence, forecast.incidence)
    assert all(family in fitted.predictor_.families for family in ("linear", "boosted", "graph"))
    for family in fitted.predictor_.families:
        assert np.isfinite(fitted.forecast(X, families=family)["worse"].incidence).all()


def test_who_is_worse_or_gone_has_no_curve(clinic, fitted):
    X = clinic.at(730)
    forecast, open_ = fitted.forecast(X)["worse"], X.at_risk("worse")
    assert 0 < open_.sum() < len(X) and np.array_equal(forecast.at_risk, open_)


def test_y_is_event_time_and_after(clinic):
    X = clinic.landmarks(np.arange(120), times=[0, 365]).followed("worse")
    truth = X.outcome("worse")
    y = truth[["event", "time", "after"]]
    quick = {"outcomes": ["worse"], "families": ("boosted",), "members": 1}
    own, given = PrognosisModel(**quick).fit(X), PrognosisModel(**quick).fit(X, y)
    ahead = [model.forecast(X[:9])["worse"].incidence for model in (own, given)]
    assert np.array_equal(*ahead)
    with pytest.raises(InputError, match="event, time and after"):
        PrognosisModel(**quick).fit(X, truth[["event", "time"]])
    later = y.copy()
    later["after"] = later["time"]
    with pytest.raises(InputError, match="third field must be the days after which"):
        PrognosisModel(**quick).fit(X, later)


def test_a_horizon_is_the_outcomes_own_or_shorter(clinic):
    X = clinic.landmarks(np.arange(150), times=[0, 365]).followed("worse")
    target = WorseningTarget.of(X, "worse")
    for asked, found in ((None, 3 * 365.25), (365.0, 365.0), (4000.0, 3 * 365.25)):
        assert target.head_config("worse", X, asked, 6, 1).times[-1] == found
