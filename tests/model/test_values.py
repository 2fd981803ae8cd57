"""The head of a progression."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from gnnpatient import InputError
from gnnpatient.model.values import ProgressionConfig, ProgressionHead, hats, log_bins

CONFIG = ProgressionConfig(
    node="lab",
    codes=("k",),
    unit="g",
    target="value",
    gone=None,
    times=(10.0, 30.0, 60.0),
    edges=tuple(np.exp(np.linspace(-2, 2, 41)).tolist()),
    log=True,
    anchor=(0.0, 1.0),
)


@pytest.fixture
def head():
    torch.manual_seed(0)
    head = ProgressionHead(CONFIG, channels=4)
    prior = torch.tensor(
        [[0.1, 0.2, 0.3], [0.5, 0.4, 0.3], [0.0, 0.1, 0.2], [-0.5, -0.4, -0.3], [1.0, 0.0, -1]]
    )
    head.start(prior)
    return head


def test_before_training_it_answers_a_line_through_the_last_values(head):
    last = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    answer = head(torch.randn(2, 4), last)
    p = head.predict(answer)
    assert p.shape == (2, 41, 3) and torch.allclose(p[:, 1:].sum(1), torch.ones(2, 3), atol=1e-5)
    assert torch.allclose(p[0, 0], torch.tensor([1.0, 0.0, -1.0]).sigmoid())
    middle = torch.tensor([[0.6, 0.6, 0.6], [0.1, 0.3, 0.5]])
    wanted = log_bins(middle, head.bias[3].expand(2, 3), head.wide, head.edges)
    assert torch.allclose(answer[:, 1:], wanted, atol=1e-6)


def test_bins_are_those_of_a_normal_distribution():
    edges = torch.linspace(-2.5, 2.5, 21, dtype=torch.float64)
    found = log_bins(
        torch.tensor([[0.3]]).double(), torch.tensor([[-0.7]]).double(), torch.tensor(-50.0).double(), edges
    ).exp()[0, :, 0]
    upto = norm.cdf(edges[1:-1].numpy(), 0.3, np.exp(-0.7))
    assert found.numpy() == pytest.approx(np.diff([0, *upto, 1]), abs=2e-7)
    far = log_bins(torch.tensor([[40.0]]), torch.tensor([[-3.0]]), torch.tensor(-50.0), edges.float())
    assert far.isfinite().all()


def test_the_loss_is_the_likelihood_of_what_was_seen(head):
    answer = head(torch.randn(2, 4), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    bins = torch.tensor([[20, 25], [-1, -1]])
    when = torch.tensor([[20.0, 90.0], [0.0, 0.0]], dtype=torch.float64)
    seen = torch.tensor([[1.0, 0.0, torch.nan], [torch.nan, torch.nan, torch.nan]], dtype=torch.float64)
    p = head.predict(answer)[0]
    by_hand = -((p[21, 0] + p[21, 1]) / 2).log() - p[26, 2].log()
    by_hand = (by_hand - p[0, 0].log() - (1 - p[0, 1]).log()) / 3
    found = head.loss(answer, bins, when, seen)
    assert found[0].item() == pytest.approx(by_hand.item(), rel=1e-5) and found[1] == 0
    found.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


def test_at_each_time_a_landmark_counts_once_however_long_it_is_followed(head):
    answer = head(torch.randn(1, 4), torch.tensor([[1.0, 0.0]])).expand(3, -1, -1)
    bins = torch.tensor([[20, -1, -1, -1], [20, 20, 20, -1], [20, 20, 25, 25]])
    when = torch.tensor([[10.0, 0, 0, 0], [10.0, 10, 10, 0], [10.0, 10, 60, 60]], dtype=torch.float64)
    seen = torch.tensor([[1.0, torch.nan, torch.nan]] * 3)
    soon, often, long = head.loss(answer, bins, when, seen)
    p = head.predict(answer)[0]
    assert often.item() == pytest.approx(soon.item(), rel=1e-5)
    assert (long - soon).item() == pytest.approx(-p[26, 2].log().item() / 3, rel=1e-4)
    assert soon.item() == pytest.approx((-p[21, 0].log() - p[0, 0].log()).item() / 3, rel=1e-5)


def test_what_too_few_had_is_held(head):
    head.hold(torch.tensor([False]))
    answer = head(torch.randn(2, 4), torch.zeros(2, 2))
    args = torch.tensor([[20], [3]]), torch.full((2, 1), 15.0), torch.ones(2, 3)
    head.loss(answer, *args).sum().backward()
    for parameter in (head.bias, head.wide, head.scores.out.weight):
        assert (parameter.grad == 0).all()


def test_hats_and_the_loss_agree_on_time(head):
    when = torch.tensor([[1.0, 10.0, 24.0, 60.0, 99.0]], dtype=torch.float64)
    assert head._hats(when).numpy() == pytest.approx(hats(CONFIG.times, when.numpy()), abs=1e-6)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(codes=()), "without codes"),
        (dict(times=(3.0, 2.0)), "must be days above 0, rising"),
        (dict(edges=(1.0, 1.0, 2.0)), "must be the ends of two bins or more, rising"),
        (dict(edges=(-1.0, 1.0, 2.0)), "must be above 0 where values are by logarithm"),
        (dict(anchor=(0.0, 0.0)), "its width must be above 0"),
    ],
)
def test_what_is_no_configuration_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        ProgressionConfig(**{**vars(CONFIG), **wrong})
