import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gnnpatient.errors import InputError
from gnnpatient.model.heads import (
    HEADS,
    DiagnosisConfig,
    DiagnosisHead,
    Head,
    SurvivalConfig,
    SurvivalHead,
    head_config,
    incidence,
)
from gnnpatient.model.model import PatientGNN

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
    head = SurvivalHead(CONFIG, 4)
    head.start(hazard)
    answer = head.predict(head(torch.randn(7, 4)))
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
    head.scores.requires_grad_(False)
    optimiser = torch.optim.LBFGS([head.bias], max_iter=100, line_search_fn="strong_wolfe")

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
    head = DiagnosisHead(CLASSES, 4)
    share = torch.tensor([0.2, 0.0, 0.8])
    head.start(share)
    answer = head.predict(head(torch.randn(7, 4)))
    assert torch.allclose(answer, share.expand(7, 3), atol=2e-5) and (answer > 0).all()
    assert torch.allclose(answer.sum(1), torch.ones(7))


def test_configs_say_their_kind():
    for config in (CONFIG, CLASSES):
        assert head_config(config.to_dict()) == config
    assert (CONFIG.shape, CLASSES.shape) == ((3, 3), (3,))
    for classes in ((), ("a",), ("a", "a"), ("a", "b", "a")):
        with pytest.raises(InputError, match="two or more different names"):
            DiagnosisConfig(classes=classes)


@dataclass(frozen=True)
class CountConfig:
    """A head of one's own: how many events come, by a Poisson model."""

    kind: str = "count"
    times: ClassVar = ()
    shape: ClassVar = (1,)
    names: ClassVar = ("falls",)

    def to_dict(self):
        return {"kind": "count"}

    def probabilities(self, answer):
        return answer.exp()


class CountHead(nn.Module):
    def __init__(self, config, channels, dropout):
        super().__init__()
        self.config, self.out = config, nn.Linear(channels, 1)
        nn.init.zeros_(self.out.weight)

    def start(self, prior):
        nn.init.constant_(self.out.bias, math.log(prior))

    def forward(self, z):
        return self.out(z)

    def loss(self, output, count):
        return nn.functional.poisson_nll_loss(output[:, 0], count, reduction="none")

    def predict(self, output):
        return output.exp()


def test_a_head_of_ones_own_is_one_class_and_one_line(graphs, monkeypatch):
    monkeypatch.setitem(HEADS, "count", (CountConfig, CountHead))
    module = PatientGNN.for_graphs(graphs, {"falls": CountConfig(), "death": CONFIG}, channels=8).eval()
    head = module.head("falls")
    assert isinstance(head, Head) and isinstance(module.head("death"), Head)
    head.start(2.0)
    output = module(graphs)["falls"]
    assert torch.allclose(head.predict(output), torch.tensor(2.0))
    head.loss(output, torch.ones(len(graphs))).mean().backward()
    assert head.out.weight.grad.abs().sum() > 0
    again = PatientGNN.from_dict(module.to_dict())
    again.load_state_dict(module.state_dict())
    assert torch.equal(again.eval()(graphs)["falls"], output)


def test_an_effect_can_end():
    """One score per cause for all intervals, and a few that fade: a group at risk early, and then not."""
    torch.manual_seed(0)
    times = tuple(30.0 * (1 + i) for i in range(12))
    head = SurvivalHead(SurvivalConfig(causes=("death",), times=times), 1)
    assert len(head.courses) < len(times), "not a logit of its own for every interval"
    z = torch.tensor([[0.0], [1.0]])
    hazard = torch.full((2, 12), 0.05)
    hazard[1, :6] = 0.2
    optimiser = torch.optim.Adam(head.parameters(), 0.02)
    for _ in range(800):
        out = head(z)
        loss = -(hazard * out[:, 1] + (1 - hazard) * out[:, 0]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    answer = head(z)[:, 1].exp()
    assert (answer[1] / answer[0])[:4].min() > 2.5 and (answer[1] / answer[0])[8:].max() < 1.5


def test_an_event_at_the_landmark_counts_in_the_first_interval():
    head = SurvivalHead(CONFIG, 4)
    log_hazard = torch.randn(1, 3, 3, dtype=torch.float64).log_softmax(1)
    loss = head.loss(log_hazard, torch.tensor([2]), torch.tensor([0.0]))
    assert float(loss) == pytest.approx(-float(log_hazard[0, 2, 0]))


HELD = {
    "survival": (
        SurvivalConfig(causes=("often", "rare"), times=(1.0, 2.0, 3.0)),
        torch.tensor([[0.2, 0.1, 0.1], [0.01, 0.02, 0.01]]),
        (torch.tensor([1, 2, 0]), torch.tensor([0.5, 1.5, 3.0])),
    ),
    "diagnosis": (
        DiagnosisConfig(classes=("often", "rare")),
        torch.tensor([0.9, 0.1]),
        (torch.tensor([0, 1, 0]),),
    ),
}


@pytest.mark.parametrize("kind", HELD)
def test_a_held_cause_or_class_stays_at_its_start(kind):
    torch.manual_seed(0)
    config, prior, outcome = HELD[kind]
    head = HEADS[kind][1](config, 4)
    head.start(prior)
    before = head.bias.detach().clone()
    head.hold(torch.tensor([True, False]))
    for _ in range(3):
        head.zero_grad()
        head.loss(head(torch.randn(3, 4)), *outcome).mean().backward()
        with torch.no_grad():
            for parameter in head.parameters():
                parameter -= 0.1 * parameter.grad
    assert torch.equal(head.bias[1], before[1]) and not torch.equal(head.bias[0], before[0])
    often, rare = head.scores.out.weight.chunk(2)
    assert (rare == 0).all() and (often != 0).any()
