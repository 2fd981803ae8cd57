"""Landmark first, then a patient still at risk; from the training asks alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sksurv.nonparametric import cumulative_incidence_competing_risks

from gnnpatient import InputError, PrognosisModel
from gnnpatient.cohort.cohort import ENTRY
from gnnpatient.cohort.splits import landmark_weights
from gnnpatient.cohort.survival import Survival
from gnnpatient.model.heads import SurvivalConfig, SurvivalHead
from gnnpatient.prognosis import fit as fitting
from gnnpatient.prognosis.problem import LandmarkSampler
from gnnpatient.prognosis.targets import (
    MIN_REMAINING,
    SurvivalTarget,
    last_estimable,
    time_grid,
)
from gnnpatient.times import DAY


def tensors(model: PrognosisModel) -> list[torch.Tensor]:
    families = model.predictor_.families.values()
    return [tensor for family in families for _, tensor in sorted(family.tensors().items())]


def same_bits(one: PrognosisModel, other: PrognosisModel) -> bool:
    return all(torch.equal(x, y) for x, y in zip(tensors(one), tensors(other), strict=True))


# -- drawing --


def test_a_time_first_then_one_of_its_asks():
    at = np.repeat([0, 30, 10], [60, 10, 30])
    rows = np.flatnonzero(np.arange(100) % 10 < 5)  # 30, 5 and 15 of them
    drawn = LandmarkSampler.of(at, rows)(np.random.default_rng(0), 60_000)
    count = np.bincount(drawn, minlength=100)
    assert not count[np.setdiff1d(np.arange(100), rows)].any()
    expected = 60_000 / 3 / np.bincount(np.searchsorted([0, 10, 30], at[rows]))
    expected = expected[np.searchsorted([0, 10, 30], at[rows])]
    assert (np.abs(count[rows] - expected) < 5 * np.sqrt(expected)).all()
    assert landmark_weights(at[rows]) == pytest.approx(expected / expected.mean())


def test_entry_is_a_fifth_of_all_draws():
    """Whenever each patient's entry was; it is one landmark among others where they are fewer than five."""
    moments = np.concatenate([np.full(10, ENTRY), np.repeat(np.arange(1, 17) * DAY, 50)])
    drawn = LandmarkSampler.of(moments, np.arange(len(moments)))(np.random.default_rng(0), 100_000)
    assert (drawn < 10).mean() == pytest.approx(0.2, abs=0.006)
    weight = landmark_weights(moments)
    assert weight.mean() == pytest.approx(1) and weight[:10].sum() == pytest.approx(0.2 * len(moments))
    few = np.repeat([ENTRY, DAY, 2 * DAY], 7)
    assert landmark_weights(few) == pytest.approx(np.ones(21))


def test_only_patients_still_at_risk_are_drawn(train, quick, monkeypatch):
    asked, real = [], fitting.build_graphs

    def build_graphs(landmarks):
        asked.append(landmarks)
        return real(landmarks)

    monkeypatch.setattr(fitting, "build_graphs", build_graphs)
    PrognosisModel(**quick).fit(train)
    given = set(zip(train.patient.tolist(), train.at.tolist(), strict=True))
    for landmarks in asked:
        assert landmarks.at_risk().all()
        assert set(zip(landmarks.patient.tolist(), landmarks.at.tolist(), strict=True)) <= given


def test_the_rest_of_the_cohort_teaches_nothing(cohort, train, model, quick):
    """The others' values, codes, statics and outcomes are poisoned: the model is the same, bit for bit."""
    others = np.arange(80) >= 60

    def poison(e):
        theirs = others[e.patient]
        return replace(e, value=np.where(theirs, np.float32(1e9), e.value), code=np.where(theirs, 1, e.code))

    death = cohort.outcomes["death"]
    changed = replace(
        cohort,
        number=np.where(others[:, None], np.float32(1e9), cohort.number),
        category=np.where(others[:, None], 0, cohort.category),
        events={kind: poison(e) if kind != "timepoint" else e for kind, e in cohort.events.items()},
        outcomes={
            "death": replace(death, time=np.where(others, DAY, death.time), event=1 - others * death.event)
        },
    )
    changed.outcomes["death"].event[~others] = death.event[~others]
    X = changed.landmarks(np.arange(60), times=[0, 2, 4, 7]).followed()
    assert np.array_equal(X.patient, train.patient)
    again = PrognosisModel(**quick | {"members": 2, "epochs": 2}).fit(X)
    assert same_bits(again, model)
    ours, theirs = (m.predictor_ for m in (model, again))
    assert json.dumps(ours.vocabulary.to_dict()) == json.dumps(theirs.vocabulary.to_dict())
    assert ours.heads == theirs.heads and ours.stacks == theirs.stacks, "the time grid and the weights too"
    assert np.array_equal(model.predictor_.null["death"], again.predictor_.null["death"])


def test_names_come_from_the_training_asks(cohort, quick):
    """A code of the cohort that no training ask held is unknown to the model."""
    names, drug = cohort.codes["drug"], cohort.events["drug"]
    insulin, heparin = names.index("insulin"), names.index("heparin")
    without = replace(drug, code=np.where(drug.code == insulin, heparin, drug.code))
    changed = replace(cohort, events={**cohort.events, "drug": without})
    seen = PrognosisModel(**quick).fit(changed.landmarks(times=[0, 3]).followed()).predictor_
    assert "insulin" not in seen.vocabulary.codes["drug"]
    assert seen.unknown(cohort) == {"drug": ["insulin"]}
    # of asks only what their rows hold
    asks = cohort.at(3)
    first = drug.known[drug.code == insulin].min() / 86_400
    assert seen.unknown(asks) == ({"drug": ["insulin"]} if first <= 3 else {})
    assert seen.unknown(cohort.at(first)) == {"drug": ["insulin"]}
    assert seen.unknown(cohort.at(first - 0.01)) == {} == seen.unknown(asks[:0])


def test_too_few_to_stop_early_is_refused(cohort, quick):
    with pytest.raises(InputError, match="at least two"):
        X = cohort.landmarks([int(np.flatnonzero(cohort.outcomes["death"].event)[0])], times=[0])
        PrognosisModel(**quick).fit(X)


def test_two_patients_are_enough_to_fit(cohort, quick):
    """Also where the member of a fold learns from one who had no event."""
    event = cohort.outcomes["death"].event
    two = [int(np.flatnonzero(event == k)[0]) for k in (0, 2)]
    with pytest.warns(UserWarning, match="1 of 2 patients with an event"):
        model = PrognosisModel(**quick).fit(X := cohort.landmarks(two, times=[0]))
    assert np.isfinite(model.forecast(X)["death"].incidence).all()


# -- what is learned --


def exponential(n: int, rates: tuple[float, ...], seed: int = 0) -> SurvivalTarget:
    """Event times with constant hazards a day, and censoring that is uniform over 0 to 40 days."""
    rng = np.random.default_rng(seed)
    ways = np.stack([rng.exponential(1 / rate, n) for rate in rates] + [rng.uniform(0, 40, n)])
    way = ways.argmin(0)
    event = np.where(way == len(rates), 0, way + 1)
    return SurvivalTarget(tuple("ab"[: len(rates)]), event.astype(np.int64), ways.min(0))


def test_the_null_is_the_incidence_that_is_known():
    """F_k(t) = h_k / h (1 - exp(-h t)); with the other cause as censored it would be 1 - exp(-h_k t)."""
    target = exponential(20_000, (0.02, 0.08))
    times = np.array([2.0, 10.0, 20.0])
    null = target.marginal(np.zeros(20_000), tuple(times))
    gone = 1 - np.exp(-0.1 * times)
    assert null == pytest.approx(np.stack([1 - gone, 0.2 * gone, 0.8 * gone]), abs=0.01)
    assert abs(null[1, 2] - (1 - np.exp(-0.02 * 20))) > 0.1


def test_every_landmark_counts_the_same_in_the_null():
    early, late = exponential(4000, (0.02,), 1), exponential(500, (0.2,), 2)
    target = SurvivalTarget(("a",), np.append(early.event, late.event), np.append(early.time, late.time))
    null = target.marginal(np.repeat([0, DAY], [4000, 500]), (1.0,))
    apart = [t.marginal(np.zeros(len(t.time)), (1.0,))[1, 0] for t in (early, late)]
    assert null[1, 0] == pytest.approx(np.mean(apart), rel=0.02)


def test_an_untrained_model_answers_the_null(cohort, train, quick, monkeypatch):
    """That of what its member learns from; and the null is scikit-survival's where there is one landmark."""
    X = train[train.at == 0]
    problems, pose = [], fitting.pose

    def posed(*given):
        problems.append(pose(*given))
        return problems[-1]

    monkeypatch.setattr("gnnpatient.prognosis.estimator.pose", posed)
    choices = {"epochs": 0, "num_times": 5, "families": ("graph",), "min_patients": 1}
    model = PrognosisModel(**quick | choices).fit(X)
    answer = model.forecast(X)["death"]
    assert np.ptp(answer.incidence, axis=0).max() == 0
    learn = problems[0].train(0)
    own = problems[0].targets["death"][learn].marginal(X.moments[learn], tuple(answer.times))
    assert answer.incidence[0] == pytest.approx(own, abs=1e-3)
    truth = X.outcome("death")
    at, theirs = cumulative_incidence_competing_risks(truth["event"].astype(int), truth["time"])
    column = np.searchsorted(at, answer.times, "right") - 1
    assert model.predictor_.null["death"][1:] == pytest.approx(theirs[1:, column])
    assert model.predictor_.null["death"][0] == pytest.approx(1 - theirs[0, column])


def test_words_of_the_last_release_say_what_to_write(train, quick):
    with pytest.warns(FutureWarning, match=r"write families=\('graph',\)"):
        old = PrognosisModel(**quick, linear=False).fit(train)
    assert list(old.predictor_.families) == ["graph"]
    assert same_bits(old, PrognosisModel(**quick, families=("graph",)).fit(train))
    with pytest.warns(FutureWarning, match="ridge does nothing"):
        PrognosisModel(**quick, families=("graph",), ridge=3.0).fit(train)


def test_competing_events_are_not_censorings(cohort, quick):
    """Half die and half leave on day 5: each has .5. As censorings the others would give each 1."""
    half = Survival(np.full(80, 5 * DAY), (1 + np.arange(80) % 2).astype(np.int8), ("a", "b"))
    X = replace(cohort, outcomes={"gone": half}).landmarks(times=[0]).followed()
    choices = quick | {"epochs": 20, "patience": 20, "lr": 0.05, "families": ("graph",), "num_times": 3}
    answer = PrognosisModel(**choices).fit(X).forecast(X)["gone"]
    assert answer.incidence[:, 1:, -1].mean(0) == pytest.approx([0.5, 0.5], abs=0.12)
    assert answer.incidence[:, 0, -1].max() < 0.1


def test_the_loss_of_an_event_is_its_own_hazard():
    """A competing event pulls the other cause down in its interval; a censoring as far as it was observed."""
    head = SurvivalHead(SurvivalConfig(causes=("a", "b"), times=(1.0, 2.0)), 1)
    logits = torch.zeros(1, 2, 2, requires_grad=True)

    def pull(event: int) -> torch.Tensor:
        log_hazard = torch.cat([torch.zeros(1, 1, 2), logits], 1).log_softmax(1)
        loss = head.loss(log_hazard, torch.tensor([event]), torch.tensor([1.5]))
        return torch.autograd.grad(loss.sum(), logits)[0][0]

    third = 1 / 3
    assert pull(1)[:, 1].tolist() == pytest.approx([third - 1, third])
    assert pull(2)[:, 1].tolist() == pytest.approx([third, third - 1])
    assert pull(0)[:, 1].tolist() == pytest.approx([third / 2, third / 2])


# -- horizon and time grid --


def test_the_last_estimable_horizon():
    target = exponential(2000, (0.01,))
    last = last_estimable(target, np.arange(2000), np.zeros(2000))
    assert 30 < last < 36.5  # a tenth of 40 days is left to the censoring
    assert (target.time > last).sum() >= MIN_REMAINING
    few = SurvivalTarget(("a",), target.event[:10], target.time[:10])
    assert last_estimable(few, np.arange(10), np.zeros(10)) == few.time.max()
    crowd = SurvivalTarget(("a",), np.ones(100, np.int64), np.arange(1.0, 101))
    assert last_estimable(crowd, np.arange(100), np.zeros(100)) == pytest.approx(81)
    twice = SurvivalTarget(("a",), np.ones(100, np.int64), np.arange(1.0, 101))  # each patient asked twice
    assert last_estimable(twice, np.arange(100) // 2, np.zeros(100)) < 64


def test_each_interval_holds_as_many_events():
    target = exponential(5000, (0.05, 0.05))
    times = time_grid(target, np.zeros(5000), 20.0, 8)
    assert len(times) == 8 and times[-1] == 20.0
    inside = target.time[(target.event > 0) & (target.time <= 20)]
    count = np.histogram(inside, [0, *times])[0]
    assert count.max() - count.min() <= 2
    tied = SurvivalTarget(("a",), np.ones(50, np.int64), np.full(50, 3.0))
    assert time_grid(tied, np.zeros(50), 9.0, 8) == (3.0, 9.0)
    assert time_grid(tied, np.zeros(50), 3.0, 8) == (3.0,)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"members": 0}, "members 0; must be >= 1"),
        ({"seed": -1}, "seed -1; must be >= 0"),
        ({"epochs": -1}, "epochs -1; must be >= 0"),
        ({"lr": 0.0}, "lr 0.0; must be > 0"),
        ({"lr": float("nan")}, "lr nan; must be > 0"),
        ({"dropout": 1.0}, "dropout 1.0; must be >= 0 and < 1"),
        ({"conv": "gcn"}, "unknown conv 'gcn', nor a class; known: temporal, sage"),
        ({"conv": torch.nn.Linear(2, 2)}, "give its class, as in conv=Linear"),
        ({"relations": ["sam"]}, "unknown relation 'sam'; did you mean 'same'"),
        ({"families": ["grph"]}, "unknown family 'grph'; did you mean 'graph'"),
        ({"families": "graph"}, r"as in \['graph'\]"),
        ({"families": []}, "families is empty"),
        ({"horizon": -1.0}, "must be > 0, days after the landmark"),
        ({"horizon": 0.001}, "no events within 0.001 days"),
        ({"device": "gpu"}, "auto, cpu or cuda"),
        ({"outcomes": ["deaht"]}, "did you mean 'death'"),
        ({"outcomes": "death"}, r"as in \['death'\]"),
        ({"outcomes": []}, "at least one"),
        ({"kinds": "lab"}, r"as in \['lab'\]"),
        ({"kinds": ["labs"]}, "did you mean 'lab'"),
        ({"num_times": 0}, "num_times 0; must be >= 1"),
        ({"num_layers": 0}, "num_layers 0; must be >= 1"),
        ({"channels": 0}, "channels 0; must be >= 1"),
    ],
)
def test_choices_are_refused_at_the_door(train, quick, choice, message):
    with pytest.raises(InputError, match=message) as refusal:
        PrognosisModel(**quick | choice).fit(train)
    assert "\n" not in str(refusal.value)


def test_numbers_of_a_grid_search_are_taken(train, quick, tmp_path):
    numbers = {name: np.int64(value) if isinstance(value, int) else value for name, value in quick.items()}
    model = PrognosisModel(**numbers, seed=np.int64(3)).fit(train, run=tmp_path)
    again = PrognosisModel(**quick, seed=3).fit(train, run=tmp_path)
    assert same_bits(model, again), "and the run is that of the same choices"


def test_a_run_of_other_choices_is_not_resumed(train, quick, tmp_path):
    PrognosisModel(**quick).fit(train, run=tmp_path)
    for other in ({"seed": 1}, {"channels": 16}, {"horizon": 9.0}, {"dropout": 0.1}):
        with pytest.raises(InputError, match="other choices or landmarks"):
            PrognosisModel(**quick | other).fit(train, run=tmp_path)
    with pytest.raises(InputError, match="other choices or landmarks"):
        PrognosisModel(**quick).fit(train[1:], run=tmp_path)
    assert same_bits(PrognosisModel(**quick).fit(train, run=tmp_path), PrognosisModel(**quick).fit(train))
