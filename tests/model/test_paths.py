"""Transitions between states: the product integral against matrix exponentials, the loss against a sum."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnpatient import InputError
from gnnpatient.model.heads import HEADS, head_config, num_logits
from gnnpatient.model.paths import PathHead, RecurrentConfig, follow, poisson

TIMES = (1.0, 2.0, 4.0, 7.0)
HEAD = RecurrentConfig(causes=("relapse", "death"), times=TIMES)


def hazards(n=40, transitions=5, seed=0, size=1.0):
    draws = np.random.default_rng(seed).normal(-1, size, (n, transitions, len(TIMES)))
    return torch.from_numpy(draws)


def slow(log_hazard, transitions, states, starts):
    """By the exponential of one matrix with a counter beside the states for each transition."""
    hazard, size = log_hazard.exp(), states + len(transitions)
    generator = hazard.new_zeros(len(hazard), hazard.shape[2], size, size)
    for q, (source, target) in enumerate(transitions):
        generator[:, :, source, states + q] += hazard[:, q]
        if source != target:
            generator[:, :, source, target] += hazard[:, q]
            generator[:, :, source, source] -= hazard[:, q]
    now, found = torch.eye(size, dtype=hazard.dtype)[list(starts)].expand(len(hazard), -1, -1), []
    for t in range(hazard.shape[2]):
        now = now @ torch.matrix_exp(generator[:, t])
        found.append(now)
    every = torch.stack(found, -1)
    return every[:, :, :states], every[:, :, states:]


@pytest.mark.parametrize("size", [0.1, 0.5, 1.0])
def test_the_product_integral_is_that_of_matrix_exponentials(size):
    transitions, log_hazard = [(0, 1), (1, 0), (0, 2), (1, 2), (1, 1)], hazards(size=size)
    for found, wanted in zip(
        follow(log_hazard, transitions, 3, [0, 1, 2]),
        slow(log_hazard, transitions, 3, [0, 1, 2]),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@given(st.integers(0, 10_000), st.floats(0.1, 6.0))
def test_states_sum_to_one_and_numbers_never_fall(seed, size):
    transitions = [(0, 1), (1, 0), (0, 2), (1, 2), (1, 1)]
    occupation, number = follow(hazards(8, seed=seed, size=size), transitions, 3, [0, 1])
    torch.testing.assert_close(occupation.sum(2), torch.ones(8, 2, len(TIMES), dtype=torch.float64))
    assert occupation.min() >= 0 and number.min() >= 0 and number.diff(dim=-1).min() >= -1e-12
    assert occupation[:, :, 2].diff(dim=-1).min() >= -1e-12  # nobody leaves the last state


def test_alone_or_together_makes_no_difference():
    log_hazard = hazards(30, len(HEAD.transitions), size=2.0)
    together = HEAD.probabilities(log_hazard)
    alone = torch.cat([HEAD.probabilities(row[None]) for row in log_hazard])
    torch.testing.assert_close(alone, together, rtol=1e-10, atol=1e-13)


@given(st.integers(0, 10_000))
def test_a_number_is_never_below_the_probability_of_the_next_event(seed):
    found = HEAD.probabilities(hazards(20, len(HEAD.transitions), seed, 1.5))
    free, relapse, death, number, gone = found.unbind(1)
    torch.testing.assert_close(free + relapse + death, torch.ones_like(free))
    assert (number >= relapse - 1e-12).all() and (gone >= death - 1e-12).all() and gone.max() <= 1 + 1e-9


def test_poisson_events_without_memory_have_the_number_of_their_rate():
    """Where all come as the first did, the number is rate / death (1 - exp(-death t))."""
    relapse, death = 0.7, 0.2
    width = torch.tensor(np.diff((0.0, *TIMES)))
    rates = torch.tensor([relapse, death, relapse, death], dtype=torch.float64)
    number = HEAD.probabilities((rates[:, None] * width).log()[None])[0, 3]
    wanted = relapse / death * -torch.expm1(-death * torch.tensor(TIMES, dtype=torch.float64))
    torch.testing.assert_close(number, wanted, rtol=1e-10, atol=0)


def test_the_loss_is_the_likelihood_of_constant_hazards():
    rng, log_hazard = np.random.default_rng(3), hazards(20, 4)
    count, exposure = rng.integers(0, 3, log_hazard.shape), rng.uniform(0, 1, log_hazard.shape)
    found = poisson(log_hazard, torch.from_numpy(count).double(), torch.from_numpy(exposure))
    wanted = [
        sum(e * np.exp(h) - c * h for h, c, e in zip(h.numpy().ravel(), c.ravel(), e.ravel(), strict=True))
        for h, c, e in zip(log_hazard, count, exposure, strict=True)
    ]
    np.testing.assert_allclose(found, wanted)


def test_a_head_begins_with_the_given_hazards_and_keeps_those_it_may_not_learn():
    head, prior = PathHead(HEAD, 6), torch.rand(4, len(TIMES)) + 0.1
    head.start(prior)
    z = torch.randn(5, 6)
    torch.testing.assert_close(head(z), prior.log().expand(5, -1, -1))
    head.hold(torch.tensor([True, True, False, True]))
    ones = torch.ones(5, 4, len(TIMES))
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        head.loss(head(z), ones, ones).sum().backward()
        optimizer.step()
    learned = head(z).detach() - prior.log()
    assert learned[:, 2].abs().max() == 0 and learned[:, 0].abs().max() > 0


def test_a_config_is_read_back_and_refuses_what_cannot_be():
    assert head_config(HEAD.to_dict()) == HEAD and HEADS["recurrent"] == (RecurrentConfig, PathHead)
    assert num_logits(HEAD) == 4 and HEAD.shape == (5, 4)
    with pytest.raises(InputError, match="without causes"):
        RecurrentConfig(causes=(), times=TIMES)
    with pytest.raises(InputError, match="rising"):
        RecurrentConfig(causes=("a",), times=(2.0, 1.0))
