import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnpatient.errors import InputError
from gnnpatient.model.heads import (
    DiagnosisConfig,
    DiagnosisHead,
    Shift,
    SurvivalConfig,
    SurvivalHead,
    head_config,
    incidence,
    make_head,
)

TIMES = (30.0, 100.0, 365.25)
CONFIG = SurvivalConfig(causes=("transplant", "death"), times=TIMES)


def slow_loss(log_hazard, event, time):
    total, start = 0.0, 0.0
    for j, end in enumerate(TIMES):
        if time >= end and not (event and time == end):
            total -= log_hazard[0][j]
        elif event and start < time <= end:
            return total - log_hazard[event][j]
        elif time > start:
            return total - log_hazard[0][j] * (time - start) / (end - start)
        start = end
    return total


ASK = st.tuples(
    st.integers(0, 2),
    st.one_of(st.floats(0.01, 500), st.sampled_from(TIMES)),
    st.lists(st.floats(-5, 5), min_size=9, max_size=9),
)


@given(st.lists(ASK, min_size=1, max_size=5))
@settings(deadline=None)
def test_loss_equals_a_slow_one_and_ignores_a_constant(asks):
    head = SurvivalHead(CONFIG, 4)
    logits = torch.tensor([x for _, _, x in asks], dtype=torch.float64).view(-1, 3, 3)
    event = torch.tensor([e for e, _, _ in asks])
    time = torch.tensor([t for _, t, _ in asks], dtype=torch.float64)
    log_hazard = logits.log_softmax(1)
    loss = head.loss(log_hazard, event, time)
    slow = [slow_loss(h.tolist(), e, t) for h, (e, t, _) in zip(log_hazard, asks, strict=True)]
    assert loss.tolist() == pytest.approx(slow, rel=1e-9, abs=1e-9)
    assert torch.allclose(head.loss((logits + 100).log_softmax(1), event, time), loss)


def test_slots_sum_to_one_and_event_free_never_rises():
    torch.manual_seed(0)
    log_hazard = (5 * torch.randn(50, 4, 30)).log_softmax(1)
    f = incidence(log_hazard)
    assert torch.allclose(f.sum(1), torch.ones(50, 30), atol=1e-5)
    assert f.min() >= 0 and f.max() <= 1 + 1e-6
    assert (f[:, 0].diff() <= 0).all() and (f[:, 1:].diff() >= 0).all()


def test_untrained_answers_what_it_was_started_with():
    hazard = torch.tensor([[0.1, 0.0, 0.3], [0.2, 0.5, 0.1]])
    head = SurvivalHead(CONFIG, 4, groups=(3, 2))
    head.start(hazard)
    answer = head.predict(head(torch.randn(7, 4), torch.randn(7, 5)))
    free = (1 - hazard.sum(0)).cumprod(0)
    expected = torch.cat([free[None], (hazard * torch.cat([torch.ones(1), free[:-1]])).cumsum(1)])
    assert torch.allclose(answer, expected.expand(7, 3, 3), atol=1e-4)


def aalen_johansen(event, time, times):
    """By the textbook: one step an event time."""
    free, out, total = 1.0, [], torch.zeros(2)
    distinct = sorted(set(time[event > 0].tolist()))
    for end in times:
        while distinct and distinct[0] <= end:
            t = distinct.pop(0)
            at_risk = int((time >= t).sum())
            died = torch.tensor([int(((event == k) & (time == t)).sum()) for k in (1, 2)])
            total = total + free * died / at_risk
            free *= 1 - int(died.sum()) / at_risk
        out.append([free, *total.tolist()])
    return torch.tensor(out).T


def test_the_best_loss_recovers_aalen_johansen():
    draw = torch.Generator().manual_seed(0)
    n = 20_000
    cause = 1 + (torch.rand(n, generator=draw) < 0.7).long()
    dies = -200 * torch.rand(n, generator=draw, dtype=torch.float64).log()
    leaves = -400 * torch.rand(n, generator=draw, dtype=torch.float64).log()
    time, event = torch.minimum(dies, leaves), torch.where(dies <= leaves, cause, 0)
    # censored inside an interval: the loss is exact in the limit of narrow ones
    times = tuple(20.0 * (1 + j) for j in range(18))
    head = SurvivalHead(SurvivalConfig(causes=("transplant", "death"), times=times), 1)
    z = torch.zeros(1, 1)
    head.hidden.requires_grad_(False)
    optimiser = torch.optim.LBFGS([head.out.bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = head.loss(head(z).expand(n, -1, -1), event, time).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    answer = head.predict(head(z)).detach()[0]
    rounded = (time * 10).ceil() / 10  # fewer distinct times, for the slow one
    assert torch.allclose(answer, aalen_johansen(event, rounded, times), atol=0.005)
    assert math.isclose(float(answer[0, -1]), math.exp(-times[-1] / 200), abs_tol=0.02)


def test_bad_grids_are_refused():
    for times in ((), (0.0, 1.0), (5.0, 5.0)):
        with pytest.raises(InputError, match="rising"):
            SurvivalConfig(causes=("death",), times=times)
    with pytest.raises(InputError, match="without causes"):
        SurvivalConfig(causes=(), times=TIMES)


# -- the shift by the last observations --


@pytest.mark.parametrize("groups", [(5,), (2, 1), (3, 2, 4)])
def test_a_shift_is_the_scores_of_the_groups_and_their_products(groups):
    """By hand; and its penalty is every coefficient squared."""
    draw = torch.Generator().manual_seed(0)
    shift, x = Shift(groups, 2), torch.randn(6, sum(groups), generator=draw)
    assert not shift(x).any(), "nothing at first"
    with torch.no_grad():
        for parameter in shift.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
        shift.scale.copy_(torch.rand(sum(groups), generator=draw))
    pairs = [(i, j) for i in range(len(groups)) for j in range(i + 1, len(groups))]
    assert shift.product.shape == (2, len(pairs))
    said, squares = shift(x).detach(), sum(w**2 for w in shift.column.tolist())
    for k in range(2):
        limits, middles = shift.limit[k].tolist(), shift.middle[k].tolist()
        coefficients = [*shift.weight[k].tolist(), *shift.product[k].tolist(), *middles, *limits]
        squares += sum(w**2 for w in coefficients)
        for ask in range(6):
            terms = iter((shift.weight[k] * shift.column * shift.scale * x[ask]).tolist())
            linear = [sum(next(terms) for _ in range(size)) for size in groups]
            score = [
                math.exp(a) * math.tanh((s + b) / math.exp(a))
                for s, a, b in zip(linear, limits, middles, strict=True)
            ]
            each = zip(shift.product[k].tolist(), pairs, strict=True)
            both = sum(c * score[i] * score[j] for c, (i, j) in each)
            assert float(said[ask, k]) == pytest.approx(sum(score) + both, abs=1e-5)
    assert shift.penalty().item() == pytest.approx(squares)


def test_columns_weigh_alike_whatever_their_spread_and_one_that_never_varies_not_at_all():
    shift = Shift((4,), 1)
    x = torch.tensor([[0.0, 10.0, 5.0, 0.0]] * 99 + [[0.01, -10.0, 5.0, 1.0]])
    shift.start(x)
    spread = x.std(0, correction=0)
    assert shift.scale[0] == 4 and shift.scale[2] == 0 and shift.scale[3] == 4, "rare: fourfold at most"
    assert shift.scale[1] == pytest.approx(1 / float(spread[1]))


def _fitted(groups, x, truth):
    shift = Shift(groups, 1)
    optimiser = torch.optim.LBFGS(shift.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(shift(x)[:, 0], truth)
        loss.backward()
        return loss

    optimiser.step(closure)
    return (shift(x)[:, 0].sigmoid() - truth).abs().max().item()


def test_a_shift_learns_that_the_effect_of_one_kind_depends_on_another():
    x = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    first, second = 0.6 * x[:, 0] - 0.8 * x[:, 1], 0.5 * x[:, 2]
    truth = (first + second + 1.5 * first * second).sigmoid()  # of 1000 asks the shares, not the labels
    assert _fitted((2, 2), x, truth) < 0.02
    assert _fitted((4,), x, truth) > 0.2, "which scores alone cannot say"


def test_a_score_has_a_limit_so_that_a_yes_is_read_off_a_noisy_column():
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    truth = (2 * torch.tanh(3 * (x[:, 0] - 0.5)) + 0.3 * x[:, 1]).sigmoid()
    assert _fitted((1, 1), x, truth) < 0.06


# -- diagnosis --

CLASSES = DiagnosisConfig(classes=("low", "middle", "high"))


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.floats(-9, 9), min_size=3, max_size=3)), min_size=1))
@settings(deadline=None)
def test_cross_entropy_equals_a_slow_one_and_ignores_a_constant(asks):
    head = DiagnosisHead(CLASSES, 4)
    logits = torch.tensor([x for _, x in asks], dtype=torch.float64)
    label = torch.tensor([k for k, _ in asks])
    slow = [math.log(sum(math.exp(v) for v in x)) - x[k] for k, x in asks]
    assert head.loss(logits.log_softmax(1), label).tolist() == pytest.approx(slow, abs=1e-9)
    moved = head.loss((logits + 100).log_softmax(1), label)
    assert torch.allclose(moved, head.loss(logits.log_softmax(1), label))


def test_an_untrained_diagnosis_is_the_shares_it_was_started_with():
    head = DiagnosisHead(CLASSES, 4, groups=(3, 2))
    share = torch.tensor([0.2, 0.0, 0.8])
    head.start(share)
    answer = head.predict(head(torch.randn(7, 4), torch.randn(7, 5)))
    assert torch.allclose(answer, share.expand(7, 3), atol=2e-5) and (answer > 0).all()
    assert torch.allclose(answer.sum(1), torch.ones(7))


def test_the_linear_path_and_the_readout_both_tell():
    torch.manual_seed(0)
    head, z, last = DiagnosisHead(CLASSES, 4, groups=(3, 2)), torch.randn(3, 4), torch.randn(3, 5)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter))
    before = head(z, last)
    assert not torch.allclose(head(z + 1, last), before) and not torch.allclose(head(z, last + 1), before)


@pytest.mark.parametrize("spread", [0.3, 300.0])
@pytest.mark.parametrize("config", [CONFIG, CLASSES])
def test_the_first_loss_is_the_loss_of_answers_without_a_message(config, spread):
    """And so are its slopes; of shifts, too, whose exponential is no number."""
    draw = torch.Generator().manual_seed(0)
    head = make_head(config, 4, 4, (3, 2), 0.0)
    last, z = torch.randn(60, 5, generator=draw), torch.randn(60, 4, generator=draw)
    kind = torch.arange(60) % 3
    truth = (kind, torch.rand(60, generator=draw) * 500) if config is CONFIG else (kind,)
    first = head.first_loss(last, *truth)
    moved = [head.out.bias, *head.shift.parameters()]
    with torch.no_grad():
        for parameter in moved:
            parameter.add_(torch.randn(parameter.shape, generator=draw))
        head.shift.product.mul_(spread)
    assert (head.shift(last).abs().max() > 100) == (spread > 1)
    losses = [first(), head.loss(head(z, last), *truth)]  # the output layer starts at zero
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)
    slopes = [torch.autograd.grad(loss.mean(), moved) for loss in losses]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        assert one.abs().max() > 0


def test_configs_say_their_kind():
    for config in (CONFIG, CLASSES):
        assert head_config(config.to_dict()) == config
    assert (CONFIG.shape, CLASSES.shape) == ((3, 3), (3,))
    for classes in ((), ("a",), ("a", "a"), ("a", "b", "a")):
        with pytest.raises(InputError, match="two different names or more"):
            DiagnosisConfig(classes=classes)


def test_a_column_that_is_not_told_is_left_out_and_the_others_tell_no_count():
    from gnnpatient.model.heads import Shift

    x = torch.zeros(200, 3)
    x[:120, 0], x[:5, 1], x[:60, 2] = 1.0, 1.0, 1.0
    shift = Shift((3,), 1)
    shift.start(x, torch.tensor([True, False, True]))
    more = Shift((3,), 1)
    x[:121, 0], x[:6, 1], x[:61, 2] = 1.0, 1.0, 1.0
    more.start(x, torch.tensor([True, False, True]))
    assert torch.equal(shift.scale, more.scale) and shift.scale[1] == 0
    assert torch.allclose(shift.scale[[0, 2]], 1 / x.std(0, correction=0)[[0, 2]], rtol=0.06)
