"""Worse between two visits: likelihoods against slow sums, slopes by autograd, the estimate on a truth."""

import numpy as np
import pytest
import torch

from gnnpatient.metrics import aalen_johansen
from gnnpatient.model.heads import SurvivalConfig, SurvivalHead, WorseningHead
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
    after = np.where(event == 1, time * rng.choice([0.0, 0.2, 0.6, 0.99], n), 0.0)
    after[(event == 1) & (time == 4.0)] = 2.0  # on a grid time
    return event, time, after


def hazards(n=200, seed=1):
    logits = np.random.default_rng(seed).normal(-1.5, 1, (n, 2, len(TIMES)))
    return torch.from_numpy(np.pad(logits, ((0, 0), (1, 0), (0, 0)))).log_softmax(1)


def slow(log_hazard, event, time, after):
    """The probability of what was seen, one landmark at a time: None of an end that is known."""
    if event != 1:
        return None
    h, free, came, start = np.exp(log_hazard), 1.0, 0.0, 0.0
    for s, end in enumerate(TIMES):
        overlap = max(0.0, min(time, end) - max(after, start)) / (end - start)
        came += free * h[1, s] * overlap
        free, start = free * h[0, s], end
    within = min(1.0, max(0.0, (TIMES[-1] - after) / (time - after)))
    return (came if within else 1.0) ** within * free ** (1 - within)


def test_the_loss_is_the_probability_of_the_time_in_which_it_may_lie():
    event, time, after = rows()
    log_hazard = hazards()
    each = [torch.from_numpy(column) for column in (event, time, after)]
    loss = WorseningHead(HEAD, 4).loss(log_hazard, *each)
    exact = SurvivalHead(HEAD, 4).loss(log_hazard, *each[:2])
    for i in range(len(event)):
        wanted = slow(log_hazard[i].numpy(), event[i], time[i], after[i])
        assert float(loss[i]) == pytest.approx(float(exact[i]) if wanted is None else -np.log(wanted))


def test_the_slope_of_the_loss_is_finite_everywhere():
    event, time, after = rows()
    log_hazard = hazards().requires_grad_()
    each = [torch.from_numpy(column) for column in (event, time, after)]
    WorseningHead(HEAD, 4).loss(log_hazard, *each).sum().backward()
    assert log_hazard.grad.isfinite().all() and (log_hazard.grad != 0).any()


def test_the_stack_scores_by_the_same_probability():
    event, time, after = rows()
    log_hazard = hazards()
    prediction = WorseningHead(HEAD, 4).predict(log_hazard).numpy()
    found = WorseningTarget(HEAD.causes, event, time, after).likelihood(prediction, TIMES)
    plain = SurvivalTarget(HEAD.causes, event, time).likelihood(prediction, TIMES)
    for i in range(len(event)):
        wanted = slow(log_hazard[i].numpy(), event[i], time[i], after[i])
        assert found[i] == pytest.approx(plain[i] if wanted is None else wanted)


def test_in_one_whole_interval_it_is_plain_survival():
    event, time, _ = rows()
    keep = time <= TIMES[-1]
    event, time = event[keep], np.array(TIMES)[np.searchsorted(TIMES, time[keep])]
    after = np.append(0.0, TIMES)[np.searchsorted(TIMES, time)]
    target, plain = WorseningTarget(HEAD.causes, event, time, after), SurvivalTarget(HEAD.causes, event, time)
    prediction = WorseningHead(HEAD, 4).predict(hazards()).numpy()[keep]
    assert np.allclose(target.likelihood(prediction, TIMES), plain.likelihood(prediction, TIMES))
    assert np.allclose(target.placed(prediction[0], TIMES), plain.placed(prediction[0], TIMES))
    loss, other = _WorseningLoss(HEAD, event, time, after), _SurvivalLoss(HEAD, event, time)
    shift, bias, weight = torch.randn(2, 2, len(event)), torch.randn(2, 2, 4), torch.rand(2, len(event))
    for one, two in zip(loss(shift, bias, weight), other(shift, bias, weight), strict=True):
        assert torch.allclose(one, two, atol=1e-4)


def test_the_linear_loss_is_that_of_the_head_and_its_slopes_are_those_of_autograd():
    event, time, after = rows(60)
    generator = torch.Generator().manual_seed(0)
    shift = torch.randn(3, 2, 60, generator=generator).double().requires_grad_()
    bias = torch.randn(3, 2, 4, generator=generator).double().requires_grad_()
    weight = torch.rand(3, 60, generator=generator).double()
    fits = _WorseningLoss(HEAD, event, time, after)
    for name in ("at_risk", "had", "ended", "share", "within"):
        setattr(fits, name, getattr(fits, name).double())
    logits = shift[:, :, :, None] + bias[:, :, None]
    log_hazard = torch.nn.functional.pad(logits.transpose(1, 2), (0, 0, 1, 0)).log_softmax(2)
    each = [torch.from_numpy(column) for column in (event, time, after)]
    wanted = torch.stack([WorseningHead(HEAD, 4).loss(one, *each) for one in log_hazard])
    slopes = torch.autograd.grad((wanted * weight).sum(), (shift, bias))
    with torch.no_grad():
        loss, *found = fits(shift, bias, weight)
    assert torch.allclose(loss, wanted, rtol=1e-5)
    for one, other in zip(found, slopes, strict=True):
        assert torch.allclose(one, other, rtol=1e-4)


def test_events_are_placed_where_a_forecast_expects_them():
    target = WorseningTarget(HEAD.causes, np.array([1, 1, 2, 0]), np.array([3.0, 9.0, 3.0, 5.0]), np.zeros(4))
    incidence = np.array([[0.8, 0.6, 0.3, 0.2], [0.1, 0.3, 0.5, 0.6], [0.1, 0.1, 0.2, 0.2]])
    placed = target.placed(incidence, TIMES)
    assert placed[0] == pytest.approx([0.25, 0.5, 0.25, 0]) and placed[2].tolist() == [0, 0, 1, 0]
    within = 7 / 9  # of the time in which it was, before the last
    assert placed[1] == pytest.approx(np.array([1, 2, 2, 1]) / 6 * within) and not placed[3].any()


@pytest.fixture(scope="module")
def visited():
    """True times of worse and death, and what visits with random gaps show of them."""
    rng, n = np.random.default_rng(0), 20_000
    worse, death, end = rng.exponential(8, n), rng.exponential(12, n), rng.uniform(3, 12, n)
    visits = rng.uniform(0.3, 1.7, (n, 40)).cumsum(1)
    visits[visits > np.minimum(death, end)[:, None]] = np.inf
    shown = np.where(visits >= worse[:, None], visits, np.inf).min(1)
    before = np.where(visits < worse[:, None], visits, 0).max(1, initial=0)
    event = np.select([shown < np.inf, death < end], [1, 2], 0)
    time = np.where(shown < np.inf, shown, np.minimum(death, end))
    return event, time, before, worse


def test_the_marginal_finds_when_it_came_not_when_it_was_seen(visited):
    event, time, after, worse = visited
    times = tuple(np.arange(0.5, 6.1, 0.5).tolist())
    found = interval_incidence(event, time, after, times, causes=2)
    seen = aalen_johansen(time, event, np.array(times), causes=2)
    shown = (event == 1) & (worse < np.inf)
    # the worsenings that a visit shows, at their own times
    own = aalen_johansen(np.where(shown, worse, time), event, np.array(times), causes=2)
    assert np.abs(found[1] - own[1]).max() < 0.01 < np.abs(seen[1] - own[1]).max()
    assert np.allclose(found.sum(0), 1) and (np.diff(found[1:], axis=1) >= -1e-12).all()


def test_the_marginal_is_aalen_johansen_where_intervals_are_known(visited):
    event, time, _, _ = visited
    times = (1.0, 2.5, 6.0)
    place = np.searchsorted(times, time)
    known = (event == 1) & (place < 3)
    time = np.where(known, np.array([*times, 0])[place], time)
    after = np.array([0.0, *times])[place]
    found = interval_incidence(event, time, after, times, causes=2)
    assert np.allclose(found, aalen_johansen(time, event, np.array(times), causes=2), atol=1e-6)
    weight = np.random.default_rng(1).integers(0, 3, len(event))
    copies = np.repeat(np.arange(len(event)), weight)
    once = interval_incidence(event, time, time * 0.5, times, causes=2, weight=weight.astype(float))
    many = interval_incidence(event[copies], time[copies], time[copies] * 0.5, times, causes=2)
    assert np.allclose(once, many)
