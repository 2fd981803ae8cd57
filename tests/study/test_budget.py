"""What a budget of time cuts from a comparison, by a clock that the fits themselves move."""

from dataclasses import dataclass, replace

import pytest

from gnnpatient import InputError
from gnnpatient.study import compare as fusion
from gnnpatient.study.budget import ComparisonSize, FitCost, cut_sentences, fitting_size, smaller
from gnnpatient.study.models import observed_reach

FULL = ComparisonSize(("gnn", "only a", "only b", "without a", "without b", "gru", "values"), 3, 30, 3, 5)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@dataclass
class Found:
    cut: tuple = ()


@pytest.fixture
def planned(monkeypatch):
    """What `compare` would fit of PBC, where a member takes 2 s and half a second an epoch."""
    from gnnpatient.datasets.shipped import pbc
    from gnnpatient.study import fitting

    cohort = pbc()

    def plan(seconds, fold_seconds=0.0, **how):
        clock, seen = Clock(), {}

        class Stub:
            def __init__(self, **choices):
                self.choices = choices

            def fit(self, X):
                clock.now += (2 + 0.5 * self.choices["epochs"]) * self.choices["members"]
                return self

        def fit_folds(design, fits, splits, training, deadline):
            seen.update(design=design, fits=fits, splits=splits, training=training)
            done = 0
            for done in range(1, len(splits) + 1):  # as _fit_folds, whose fits are real
                clock.now += fold_seconds
                if deadline is not None and done < len(splits) and deadline.passed(done):
                    break
            return [None] * done, []

        monkeypatch.setattr(fitting, "PrognosisModel", Stub)
        monkeypatch.setattr(fusion, "_fit_folds", fit_folds)
        monkeypatch.setattr(fusion, "_comparison", lambda *given: Found())
        found = fusion.compare(cohort, "death", budget=seconds, clock=clock, **how)
        return found.cut, seen

    return plan


def test_sizes_only_fall_and_keep_the_main_question():
    sizes = list(smaller(FULL, fewer_folds=True))
    cost = FitCost(2.0, 0.5)
    prices = [cost.of(size) for size in sizes]
    assert sizes[0] == FULL and prices == sorted(prices, reverse=True) and len(set(prices)) == len(prices)
    assert all({"gnn", "only a", "only b"} <= set(size.comparators) for size in sizes)
    assert sizes[-1] == ComparisonSize(("gnn", "only a", "only b"), 1, 10, 2, 2)
    assert all(size.folds == 5 for size in smaller(FULL, fewer_folds=False))


def test_the_largest_size_that_fits_is_taken():
    cost = FitCost(2.0, 0.5)
    for size in smaller(FULL, fewer_folds=True):
        assert fitting_size(FULL, cost, cost.of(size), fewer_folds=True) == size
        less = cost.of(size) * 0.999
        if size != ComparisonSize(("gnn", "only a", "only b"), 1, 10, 2, 2):
            assert cost.of(fitting_size(FULL, cost, less, fewer_folds=True)) <= less
    with pytest.raises(InputError, match="the smallest comparison takes about") as error:
        fitting_size(FULL, cost, less, fewer_folds=True)
    assert "\n" not in str(error.value)


def test_a_cost_is_of_two_fits():
    clock = Clock()

    def fit(epochs):
        clock.now += 3 + 0.25 * epochs

    assert FitCost.timed(fit, clock, 5) == FitCost(3.0, 0.25)
    # 5 folds of 7 models and 2 models on 2/3 of 3 inner folds, of 3 members each
    fits = 5 * (7 + 4) * 3 * (3 + 0.25 * 30) + 7 * 3.25
    assert FitCost(3.0, 0.25).of(FULL) == pytest.approx(fits / 0.85)


def test_what_was_cut_is_said():
    (one,) = cut_sentences(FULL, FULL, 600.0)
    assert one == "nothing was cut for the budget of 10 min"
    less = replace(FULL, comparators=FULL.comparators[:3], members=1, folds=2)
    said = cut_sentences(FULL, less, 600.0)
    assert said[0] == "left out for the budget of 10 min: without a, without b, gru, values"
    assert "2 instead of 5 folds, 1 instead of 3 networks a model: the verdict is weaker" in said[1]
    assert "speed of this machine" in said[2]


def test_compare_cuts_to_a_budget(planned):
    nothing, full = planned(1e6)
    assert nothing == ("nothing was cut for the budget of 11.57 d",)
    assert len(full["splits"]) == 5 and "gru" in full["design"].comparators
    cut, less = planned(900.0)
    assert planned(900.0)[0] == cut and "left out" in cut[0] and "weaker" in cut[1]
    size = (len(less["splits"]), less["fits"].budget["members"], less["fits"].budget["epochs"])
    assert size < (5, 3, 30) and f"{less['design'].inner} instead of 3 inner folds" in cut[1]
    assert len(less["training"]) == len(less["splits"])
    kept = set(less["design"].comparators)
    assert kept >= {"gnn", "only lab", "only sign", "only stage"} and "gru" not in kept
    assert less["fits"].total == len(less["splits"]) * (len(kept) + 3 * less["design"].inner)
    whole, same = planned(None)
    assert whole == () and same["fits"].budget == full["fits"].budget
    assert list(same["design"].comparators) == list(full["design"].comparators)
    with pytest.raises(InputError, match="the smallest comparison takes about"):
        planned(30.0)
    with pytest.raises(InputError, match="must be > 0 seconds"):
        planned(0.0)


def test_fewer_folds_have_horizons_of_their_own(planned, monkeypatch):
    monkeypatch.setattr(fusion, "default_horizons", lambda reach: [reach])
    (_, full), (_, less) = planned(1e6), planned(150.0)
    assert len(less["splits"]) == 2
    for seen in (full, less):
        (horizon,) = seen["design"].horizons
        assert horizon == min(observed_reach(X, "death") for X in seen["training"])
    assert less["design"].horizons != full["design"].horizons


def test_no_fold_is_begun_that_would_end_too_late(planned):
    cut, _ = planned(3000.0, fold_seconds=1000.0)
    assert cut[-1].startswith("stopped after 3 of 5 folds, when the budget ran out")
    assert not any("ran out" in line for line in planned(3000.0, fold_seconds=200.0)[0])
