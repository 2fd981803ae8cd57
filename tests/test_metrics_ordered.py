"""Scores of ordered classes: slow sums beside them, scikit-learn, and what holds for any forecast."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import cohen_kappa_score

from gnnpatient import InputError
from gnnpatient.metrics import brier, ranked_probability, weighted_kappa


@st.composite
def rows(draw):
    n, classes = draw(st.integers(1, 12)), draw(st.integers(2, 5))
    share = draw(arrays(np.int64, (n, classes), elements=st.integers(0, 4))) + 1
    label = draw(arrays(np.int64, n, elements=st.integers(-1, classes - 1)))
    weight = draw(arrays(np.int64, n, elements=st.integers(0, 3)))
    return share / share.sum(1, keepdims=True), label, weight


@given(rows())
@settings(max_examples=60)
def test_it_is_a_sum_over_rows_and_classes(given):
    p, label, weight = given
    total = 0.0
    for row, k, w in zip(p, label, weight, strict=True):
        for c in range(1, len(row)):
            total += 0 if k < 0 else w * (row[c:].sum() - (k >= c)) ** 2 / (len(row) - 1)
    mass = weight[label >= 0].sum()
    found = ranked_probability(p, label, weight=weight)
    assert found == pytest.approx(total / mass) if mass else np.isnan(found)


@given(rows())
@settings(max_examples=30)
def test_a_weight_is_a_repeat(given):
    p, label, weight = given
    many = np.repeat(np.arange(len(p)), weight)
    for score in (
        lambda w, at: ranked_probability(p[at], label[at], weight=w),
        lambda w, at: weighted_kappa(p[at].argmax(1), label[at], p.shape[1], weight=w),
    ):
        one, other = score(weight, np.arange(len(p))), score(None, many)
        assert one == pytest.approx(other, nan_ok=True)


def test_of_two_classes_it_is_the_brier_score():
    rng = np.random.default_rng(0)
    p, label = rng.random(50), rng.integers(0, 2, 50)
    known = brier(p, np.where(label, 1.0, 9.0), label, 5.0)
    assert ranked_probability(np.stack([1 - p, p], 1), label) == pytest.approx(known)


def test_the_true_probabilities_score_best_and_near_is_better_than_far():
    """A proper score: on average nobody does better than the truth; one class off is better than two."""
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.dirichlet(np.ones(4), 20), 4, 0)
    label = np.tile(np.arange(4), 20)
    weight = np.take_along_axis(truth, label[:, None], 1)[:, 0]  # every outcome as often as it comes
    best = ranked_probability(truth, label, weight=weight)
    for seed in range(20):
        other = np.random.default_rng(seed).dirichlet(np.ones(4), len(truth))
        assert ranked_probability(other, label, weight=weight) > best
    sure = np.eye(4)
    scores = [ranked_probability(sure[[k]], np.array([3])) for k in range(4)]
    assert scores == pytest.approx([1, 2 / 3, 1 / 3, 0])
    with pytest.raises(InputError, match="1 class; a ranked probability score needs two or more"):
        ranked_probability(np.ones((3, 1)), np.zeros(3, int))


def test_kappa_is_that_of_scikit_learn_and_chance_is_nought():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 300)
    said = np.where(rng.random(300) < 0.6, label, rng.integers(0, 4, 300))
    weight = rng.uniform(0.5, 2, 300)
    known = cohen_kappa_score(label, said, weights="quadratic", sample_weight=weight)
    assert weighted_kappa(said, label, 4, weight=weight) == pytest.approx(known)
    assert weighted_kappa(np.full(300, 2), label, 4) == pytest.approx(0)
    assert abs(weighted_kappa(rng.permutation(label), label, 4)) < 0.15
    assert weighted_kappa(label, label, 4) == 1.0 and np.isnan(
        weighted_kappa(np.ones(3, int), np.ones(3, int), 4)
    )
    some = np.where(rng.random(300) < 0.3, -1, label)
    known = cohen_kappa_score(label[some >= 0], said[some >= 0], weights="quadratic")
    assert weighted_kappa(said, some, 4) == pytest.approx(known)
