"""Recurrences and pools: the fast ones equal the slow ones, forward and backward."""

import pytest
import torch

from gnnpatient.model.pool import summary
from gnnpatient.model.recurrence import recurrence


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 31, 64, 100])
def test_a_scan_equals_one_step_after_the_other(rows):
    draw = torch.Generator().manual_seed(rows)
    decay = torch.rand(rows, 2, generator=draw, dtype=torch.float64)
    decay[torch.rand(rows, generator=draw) < 0.2] = 0.0
    entry, weight = torch.randn(2, rows, 2, generator=draw, dtype=torch.float64)
    found = [x.clone().requires_grad_() for x in (decay, entry)]
    slow = [x.clone().requires_grad_() for x in (decay, entry)]
    state, states = torch.zeros(2, dtype=torch.float64), []
    for t in range(rows):
        state = slow[0][t] * state + slow[1][t]
        states.append(state)
    wanted = torch.stack(states) if states else slow[1] * slow[0]
    got = recurrence(*found)
    torch.testing.assert_close(got, wanted)
    (got * weight).sum().backward()
    (wanted * weight).sum().backward()
    for a, b in zip(found, slow, strict=True):
        torch.testing.assert_close(a.grad, torch.zeros_like(a) if b.grad is None else b.grad)


def test_a_summary_equals_a_slow_one():
    draw = torch.Generator().manual_seed(0)
    group, count = torch.tensor([0, 3, 0, 1, 3, 3, 0]), torch.tensor([3, 1, 0, 3])
    x = torch.randn(7, 3, generator=draw, dtype=torch.float64)
    x[4] = x[1]  # a tie: each gets half
    weight = torch.randn(4, 12, generator=draw, dtype=torch.float64)
    fast, slow = x.clone().requires_grad_(), x.clone().requires_grad_()
    wanted = []
    for g in range(4):
        mine = slow[group == g]
        if not len(mine):
            wanted.append(torch.tensor([0.0] * 9 + [0.01] * 3, dtype=torch.float64))
            continue
        spread = (mine.var(0, correction=0) + 1e-4).sqrt()
        wanted.append(torch.cat([mine.mean(0), mine.sum(0) / (3 * len(mine) ** 0.5), mine.amax(0), spread]))
    got = summary(fast, group, count)
    torch.testing.assert_close(got, torch.stack(wanted))
    (got * weight).sum().backward()
    (torch.stack(wanted) * weight).sum().backward()
    torch.testing.assert_close(fast.grad, slow.grad)
