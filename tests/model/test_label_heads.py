"""Heads of several labels and of ordered classes: by hand, by their start, and what is held."""

import pytest
import torch

from gnnpatient.model.heads import HEADS, DiagnosisConfig, LabelsHead, OrderedHead, contrasts, head_config

LABELS = DiagnosisConfig(kind="labels", classes=("edema", "effusion", "nodule"))
STAGES = DiagnosisConfig(kind="ordered", classes=("I", "II", "III", "IV"))


def step(head, z, *outcome):
    head.zero_grad()
    head.loss(head(z), *outcome).mean().backward()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter -= 0.1 * parameter.grad


def test_labels_begin_with_their_shares_and_lose_by_hand():
    torch.manual_seed(0)
    head, share = LabelsHead(LABELS, 4), torch.tensor([0.5, 0.2, 0.05])
    head.start(share)
    out = head(torch.randn(6, 4))
    assert torch.allclose(head.predict(out), share.expand(6, 3), atol=1e-6)
    assert torch.allclose(LABELS.probabilities(out), head.predict(out))
    label = torch.tensor([[1, 0, -1]]).expand(6, 3)
    weight = torch.tensor([[1.0, 2.0, 0.0]]).expand(6, 3)
    by_hand = -(torch.tensor(0.5).log() + 2 * torch.tensor(0.8).log())
    assert torch.allclose(head.loss(out, label, weight), by_hand.expand(6), atol=1e-5)


def test_a_label_that_is_not_known_teaches_nothing():
    torch.manual_seed(0)
    head = LabelsHead(LABELS, 4)
    head.start(torch.tensor([0.5, 0.2, 0.05]))
    before = head.bias.detach().clone()
    label, weight = torch.tensor([[1, 0, -1]] * 5), torch.tensor([[1.0, 1.0, 0.0]] * 5)
    for _ in range(3):
        step(head, torch.randn(5, 4), label, weight)
    assert (head.bias[:2] != before[:2]).all() and head.bias[2] == before[2]
    assert (head.scores.out.weight[2] == 0).all()


def test_a_label_of_few_is_held():
    torch.manual_seed(0)
    head = LabelsHead(LABELS, 4)
    head.start(torch.tensor([0.5, 0.2, 0.05]))
    head.hold(torch.tensor([True, True, False]))
    for _ in range(3):
        step(head, torch.randn(5, 4), torch.randint(0, 2, (5, 3)), torch.ones(5, 3))
    assert torch.allclose(head.predict(head(torch.randn(9, 4)))[:, 2], torch.tensor(0.05), atol=1e-6)


def test_contrasts_span_every_difference_of_classes_and_the_first_one_rises():
    for classes in range(2, 8):
        table = contrasts(classes).double()
        assert table.shape == (classes - 1, classes)
        assert torch.allclose(table.sum(1), torch.zeros(classes - 1).double(), atol=1e-5)
        assert torch.linalg.matrix_rank(table) == classes - 1
        assert (table[0].diff() > 0).all()
        spread = table.square().mean(1).sqrt()
        assert torch.allclose(spread[:1], torch.ones(1).double(), atol=1e-4) and (spread[1:] < 0.31).all()


def test_ordered_classes_begin_with_their_shares_and_one_score_moves_all_of_them():
    torch.manual_seed(0)
    head, share = OrderedHead(STAGES, 4), torch.tensor([0.1, 0.2, 0.3, 0.4])
    head.start(share)
    z = torch.randn(5, 4)
    assert torch.allclose(head.predict(head(z)), share.expand(5, 4), atol=1e-6)
    assert torch.allclose(
        head.loss(head(z), torch.tensor([3] * 5)), -torch.tensor(0.4).log().expand(5), atol=1e-5
    )
    with torch.no_grad():
        head.scores.out.weight[0] = 0.1
    low, high = (head.predict(head(torch.full((1, 4), x)))[0] for x in (-1.0, 3.0))
    ratio = (high / low).log().diff()
    assert (ratio > 0).all(), "each class gains on the one below it"
    at_least = [p.flip(0).cumsum(0).flip(0) for p in (low, high)]
    assert (at_least[1][1:] > at_least[0][1:]).all() and float(high.detach().sum()) == pytest.approx(1)


def test_landmarks_of_a_class_of_few_teach_nothing():
    torch.manual_seed(0)
    losses = []
    for label in ([0, 1, 2, 3], [0, 1, 2, -1]):
        head = OrderedHead(STAGES, 4)
        head.start(torch.tensor([0.3, 0.3, 0.3, 0.1]))
        head.hold(torch.tensor([True, True, True, False]))
        target = torch.tensor(label)
        losses.append(head.loss(head(torch.ones(4, 4)), target.where(target >= 0, 3)))
        assert losses[-1][3] == 0 and (losses[-1][:3] > 0).all()
    before = head.bias[3].detach().clone()
    step(head, torch.randn(4, 4), torch.tensor([0, 1, 2, 3]))
    assert head.bias[3] == before and head.bias[0] != before


@pytest.mark.parametrize("config", [LABELS, STAGES])
def test_the_configuration_goes_through_json(config):
    again = head_config(config.to_dict())
    assert again == config and isinstance(HEADS[config.kind][1](again, 4), torch.nn.Module)
    assert config.shape == (len(config.classes),) and config.times == ()
