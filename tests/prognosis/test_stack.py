"""Who answers: weights from forecasts of patients that nobody had seen, and what is said of the graph."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from gnnpatient import InputError, PrognosisModel
from gnnpatient.cohort.diagnosis import Diagnosis
from gnnpatient.cohort.survival import Survival
from gnnpatient.prognosis import fit as fitting
from gnnpatient.prognosis.stack import Stack, fit_stack, mixture_step, mixture_weights, too_few
from gnnpatient.prognosis.targets import LabelTarget, SurvivalTarget
from gnnpatient.times import DAY

QUICK = {"members": 5, "horizon": 10.0, "num_times": 4}


@pytest.fixture(scope="module")
def noise():
    """400 patients of whom nothing says who has an event: every first static number is another one."""
    from gnnpatient.testing import tiny_cohort

    rng = np.random.default_rng(0)
    cohort = tiny_cohort(patients=400)
    time = np.maximum(rng.exponential(8, 400), 0.1) * DAY
    event = rng.integers(0, 3, 400).astype(np.int8)
    outcome = Survival(time.astype(np.int64), event, ("discharge", "death"))
    number = cohort.number.copy()
    number[:, 0] = rng.permutation(np.linspace(20, 90, 400))
    return replace(cohort, number=number.astype(np.float32), outcomes={"death": outcome})


@pytest.fixture(scope="module")
def signal(noise):
    """The same, with times that depend on the first static number."""
    death = noise.outcomes["death"]
    slow = noise.number[:, 0].argsort().argsort() / 400
    time = (death.time * np.where(slow > 0.5, 6, 0.5)).astype(np.int64) + DAY // 10
    return replace(noise, outcomes={"death": replace(death, time=time)})


def likelihoods(rng, size, components):
    return rng.uniform(0.01, 1, (size, components)), rng.uniform(0.1, 1, size)


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 40))
def test_no_step_lowers_the_likelihood(seed, components, size):
    likelihood, share = likelihoods(np.random.default_rng(seed), size, components)
    weights, before = np.full(components, 1 / components), -np.inf
    for _ in range(30):
        reached = share @ np.log(likelihood @ weights)
        assert reached >= before - 1e-9
        before, weights = reached, mixture_step(weights, likelihood, share)
        assert weights.min() >= 0 and weights.sum() == pytest.approx(1)


@given(st.integers(0, 10_000))
def test_the_weights_are_those_of_a_general_optimiser(seed):
    likelihood, share = likelihoods(np.random.default_rng(seed), 60, 3)

    def loss(logits):
        weights = np.exp(logits - logits.max())
        return -share @ np.log(likelihood @ (weights / weights.sum())) / share.sum()

    best = minimize(loss, np.zeros(3)).fun
    weights = mixture_weights(likelihood, share)
    assert weights.sum() == pytest.approx(1, abs=1e-12) and weights.min() >= 0
    assert -share @ np.log(likelihood @ weights) / share.sum() <= best + 1e-5


def test_the_likelihood_is_that_of_cause_and_interval():
    """Pooled probabilities sum to one over everything that may be seen of an uncensored patient."""
    rng = np.random.default_rng(1)
    hazard = rng.dirichlet(np.ones(3), (2, 4))
    free = hazard[..., 0].cumprod(1)
    before = np.concatenate([np.ones((2, 1)), free[:, :-1]], 1)
    incidence = np.stack([free, *((hazard[..., k] * before).cumsum(1) for k in (1, 2))], 1)
    times = (1.0, 2.0, 4.0, 8.0)
    seen = [(k, t) for k in (1, 2) for t in times] + [(0, 8.0)]
    event, time = (np.array(x) for x in zip(*seen, strict=True))
    target = SurvivalTarget(("a", "b"), event, time)
    for one in incidence:
        found = target.likelihood(np.repeat(one[None], len(seen), 0), times)
        assert found.sum() == pytest.approx(1)
        assert found[-1] == pytest.approx(one[0, -1])
        inside = SurvivalTarget(("a", "b"), event, time - 0.4)  # within the same intervals
        again = inside.likelihood(np.repeat(one[None], len(seen), 0), times)
        assert again[:-1] == pytest.approx(found[:-1])
    # censored: event-free at the last time that was passed; nothing known counts for nothing; later is later
    cases = SurvivalTarget(("a", "b"), np.array([0, 0, 0, 0, 1]), np.array([0.5, 1.0, 3.9, np.nan, 9.0]))
    found = cases.likelihood(np.repeat(incidence[:1], 5, 0), times)
    assert found == pytest.approx([1, incidence[0, 0, 0], incidence[0, 0, 1], 1, incidence[0, 0, -1]])
    labels = LabelTarget(("x", "y", "z"), np.array([2, -1]))
    assert labels.likelihood(np.array([[0.1, 0.2, 0.7]] * 2)) == pytest.approx([0.7, 1])


def test_a_patient_counts_once_however_often_it_is_seen():
    rng = np.random.default_rng(0)
    size = 300
    found = {name: rng.uniform(0.1, 0.9, size) for name in ("linear", "boosted", "marginal")}
    patient, once, event = np.arange(size), np.ones(size), np.ones(size, bool)
    one = fit_stack(found, patient, once, event)
    often = np.concatenate([np.arange(size), np.repeat(np.arange(20), 9)])
    many = fit_stack({k: x[often] for k, x in found.items()}, patient[often], once[often], event[often])
    assert many == one and one.learned and one.patients == size


# -- from fit to forecast --


def test_without_a_signal_the_marginal_model_answers(standins, noise):
    """And what is known by heart counts for nothing: weights come from patients that a member never saw."""
    X = noise.landmarks(times=[0, 1]).followed()
    stack = PrognosisModel(**QUICK).fit(X).predictor_.stacks["death"]
    assert stack.learned and stack.patients > 150
    assert sum(stack.weights.values()) == pytest.approx(1)
    # chance is the marginal model, too: the two share the answer
    assert stack.weights["marginal"] + stack.weights["linear"] > 0.85
    assert stack.weights["graph"] < 0.1
    assert stack.log_likelihood["graph"] < stack.log_likelihood["marginal"] - 0.5
    assert not stack.graph_helps and "not shown to add anything" in stack.sentences()[-1]


def test_weights_from_forecasts_of_seen_patients_would_be_wrong(standins, noise, monkeypatch):
    """The same fit with each member asked about its own training patients: memory takes the weight."""
    X = noise.landmarks(times=[0, 1]).followed()
    monkeypatch.setattr(fitting.Problem, "held_out", lambda self, member: self.train(member))
    stack = PrognosisModel(**QUICK).fit(X).predictor_.stacks["death"]
    assert stack.weights["graph"] > 0.5


def test_a_family_that_knows_something_answers(standins, signal):
    X = signal.landmarks(times=[0, 1]).followed()
    model = PrognosisModel(**QUICK).fit(X)
    stack = model.predictor_.stacks["death"]
    assert stack.weights["boosted"] > 0.7 and stack.weights["graph"] < 0.1
    assert stack.log_likelihood["stack"] > stack.log_likelihood["marginal"] + 0.05
    assert stack.graph_gain is not None and stack.graph_gain[1] <= 0.01
    assert list(stack.without_graph) == ["linear", "boosted", "marginal"]
    assert sum(stack.without_graph.values()) == pytest.approx(1)


def test_the_answer_is_the_weighted_mean_of_probabilities(standins, signal):
    X = signal.landmarks(times=[0, 1]).followed()
    model = PrognosisModel(**QUICK).fit(X)
    predictor = model.predictor_
    assert predictor.weights == {"death": predictor.stacks["death"].weights}
    asked = X[:40]
    alone = {
        name: predictor.forecast(asked, families=[name])["death"]
        for name in ("linear", "boosted", "graph", "marginal")
    }
    for families, weights in ((None, "weights"), ("nograph", "without_graph")):
        weights = getattr(predictor.stacks["death"], weights)
        forecast = model.forecast(asked, families=families)["death"]
        mixed = sum(weight * alone[name].members for name, weight in weights.items())
        assert forecast.members == pytest.approx(mixed, abs=1e-12)
        assert forecast.incidence == pytest.approx(mixed.mean(0), abs=1e-12)
        assert forecast.incidence.sum(1) == pytest.approx(1, abs=1e-9)
    two = predictor.forecast(asked, families=("boosted", "marginal"))["death"].incidence
    w = predictor.stacks["death"].weights
    a, b = w["boosted"], w["marginal"]
    mixed = (a * alone["boosted"].incidence + b * alone["marginal"].incidence) / (a + b)
    assert two == pytest.approx(mixed)
    for bad, message in (("grph", "unknown family 'grph'; did you mean 'graph'"), ((), "name at least one")):
        with pytest.raises(InputError, match=message):
            predictor.forecast(asked, families=bad)


def test_too_few_patients_with_the_event_to_learn(standins, noise):
    X = noise.landmarks(np.arange(80), times=[0, 1]).followed()
    stack = PrognosisModel(**QUICK).fit(X).predictor_.stacks["death"]
    assert not stack.learned and stack.patients < 100
    assert stack.weights == {"linear": 0.5, "boosted": 0.5, "graph": 0.0, "marginal": 0.0}
    assert "not learned: that takes 100 patients" in stack.sentences()[0]
    assert stack.sentences()[1] == "The graph is not shown to add anything here."
    said = []
    fewer = PrognosisModel(**QUICK | {"members": 2}, families=("graph", "linear"))
    fewer = fewer.fit(X, progress=lambda *step, **_: said.append(step)).predictor_.stacks["death"]
    assert fewer.weights == {"linear": 1.0, "graph": 0.0, "marginal": 0.0}
    # before the first family is fitted
    begun = next(i for i, (what, _, _) in enumerate(said) if what == "linear")
    line = next(what for what, _, total in said[:begun] if not total)
    assert line == (
        "death: the weights of the families will not be learned: that takes 100 patients with the event, "
        f"and {fewer.patients} are held out (five members hold out all): linear answers; the graph is fitted "
        "to be shown alone"
    )
    assert "that takes 100 patients with a later value, and 99 are held out" in too_few(
        {"linear": 1.0, "graph": 0.0}, 99, 5, "with a later value"
    )
    assert "(five members hold out all)" in fewer.sentences(2)[0]
    assert "five members" not in fewer.sentences()[0]
    rounded = Stack(**replace(fewer, patients=96).written(10))
    assert "that takes 100 patients with the event, and fewer are held out: linear" in rounded.sentences()[0]


def test_a_rare_cause_is_said_beside_the_weights_of_all():
    found, patient, share, event, _ = _of_sites(0)
    causes = {"discharge": patient >= 20, "death": patient < 20}
    stack = fit_stack(found, patient, share, event, causes=causes)
    assert stack.learned and stack.causes == {"discharge": 580, "death": 20}
    assert stack.sentences()[0] == (
        "One set of weights, learned from 580 patients with discharge, 20 patients with death: little is "
        "known of death."
    )
    assert (
        Stack(**stack.written(30))
        .sentences()[0]
        .endswith("570 patients with discharge, < 30 patients with death: little is known of death.")
    )
    causes = {"discharge": patient >= 200, "death": patient < 200}
    assert len(fit_stack(found, patient, share, event, causes=causes).sentences()) == 1


def test_a_family_alone_is_alone(standins, signal):
    X = signal.landmarks(times=[0, 1]).followed()
    model = PrognosisModel(**QUICK, families=("graph",)).fit(X)
    stack = model.predictor_.stacks["death"]
    assert stack.weights == {"graph": 1.0} and stack.without_graph == {} and stack.sentences() == []
    assert set(stack.log_likelihood) == {"graph", "marginal"}
    with pytest.raises(InputError, match="no other family, or no graph"):
        model.predictor_.forecast(X[:3], families="nograph")
    both = PrognosisModel(**QUICK, families=("boosted", "linear")).fit(X).predictor_
    assert list(both.families) == ["linear", "boosted"] and both.stacks["death"].without_graph == {}


def test_only_folds_that_were_held_out_count(standins, noise, monkeypatch):
    asked, real = [], fitting.build_graphs

    def build_graphs(landmarks):
        asked.append(landmarks)
        return real(landmarks)

    monkeypatch.setattr(fitting, "build_graphs", build_graphs)
    monkeypatch.setattr(fitting, "MAX_OUT_OF_FOLD", 300)
    X = noise.landmarks(times=[0, 1, 2]).followed()
    for members, folds in ((1, 1), (7, 5)):
        asked.clear()
        standins["linear"].fits.clear()
        PrognosisModel(**QUICK | {"members": members}, families=("linear",)).fit(X)
        _, *chunks = asked  # the first is of names and scales
        assert len(chunks) == folds
        for (_, member, rows), held in zip(standins["linear"].fits, chunks, strict=False):
            assert not set(X.patient[rows]) & set(held.patient), member
            assert len(held) <= 300 / folds
            # every patient of the fold before a second landmark of one
            fold = set(X.patient) - set(X.patient[rows])
            assert len(set(held.patient)) == min(len(fold), len(held))


def test_a_diagnosis_is_stacked_by_its_classes(standins, noise):
    old = noise.number[:, 0] > 55
    label = np.where(np.random.default_rng(3).random(400) < 0.85, old, ~old).astype(np.int64)
    later = np.full(400, 50 * DAY)
    outcome = Diagnosis(label, later, later, ("young", "old"), DAY, horizon=None)
    X = replace(noise, outcomes={"icu": outcome}).landmarks(times=[0, 1])
    model = PrognosisModel(members=5).fit(X)
    stack = model.predictor_.stacks["icu"]
    assert stack.learned and stack.weights["boosted"] > 0.7 and stack.log_likelihood["boosted"] > -0.6
    assert model.forecast(X[:9])["icu"].probability.sum(1) == pytest.approx(1)


# -- resumed, saved --


def test_a_finished_family_is_read_back(standins, signal, tmp_path, monkeypatch):
    X = signal.landmarks(times=[0, 1]).followed()
    whole = PrognosisModel(**QUICK).fit(X).forecast(X[:30])["death"].members

    def stop(problem):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(standins["graph"], "fit", stop)
        with pytest.raises(KeyboardInterrupt):
            PrognosisModel(**QUICK).fit(X, run=tmp_path)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["boosted.safetensors", "linear.safetensors"]
    standins["linear"].fits.clear()
    resumed = PrognosisModel(**QUICK).fit(X, run=tmp_path)
    assert {name for name, _, _ in standins["linear"].fits} == {"graph"}, "nothing finished is fitted again"
    assert np.array_equal(resumed.forecast(X[:30])["death"].members, whole)
    with pytest.raises(InputError, match="of a fit with other choices or landmarks"):
        PrognosisModel(**QUICK | {"seed": 1}).fit(X, run=tmp_path)
    monkeypatch.setattr("gnnpatient.prognosis.problem.__version__", "0.0.9")  # families of two versions
    with pytest.raises(InputError, match="or by another version"):
        PrognosisModel(**QUICK).fit(X, run=tmp_path)


def test_the_card_says_who_answers(standins, signal, tmp_path):
    X = signal.landmarks(times=[0, 1]).followed()
    model = PrognosisModel(**QUICK).fit(X)
    model.save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    stack = model.predictor_.stacks["death"]
    assert f"| boosted | {stack.weights['boosted']} | {stack.log_likelihood['boosted']:.4f} |" in card
    assert "| together, without the graph |" in card and stack.sentences()[-1] in card
    again = PrognosisModel.from_pretrained(tmp_path / "model")
    rounded = {"patients": 10 * round(stack.patients / 10)}
    rounded["causes"] = {cause: 10 * round(count / 10) for cause, count in stack.causes.items()}
    assert again.predictor_.stacks["death"] == replace(stack, **rounded)
    before = model.forecast(X[:30])["death"].members
    assert np.array_equal(again.forecast(X[:30])["death"].members, before)


@pytest.mark.parametrize("weights", [{"linear": 0.5}, {"linear": -0.5, "graph": 1.5}, {"linear": np.nan}, {}])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError):
        Stack(weights=weights, without_graph={}, learned=True, patients=100, log_likelihood={})


def test_progress_names_every_family(standins, signal):
    said = []
    PrognosisModel(**QUICK).fit(
        signal.landmarks(times=[0]).followed(), progress=lambda what, done, total, **_: said.append(what)
    )
    pieces = list(dict.fromkeys(said))
    assert pieces == [
        "landmarks",
        "names and scales",
        "linear",
        "boosted",
        "graph",
        "weights of the families",
    ]


def test_torch_is_left_as_it_was(standins, signal):
    state = torch.random.get_rng_state()
    PrognosisModel(**QUICK).fit(signal.landmarks(times=[0]).followed())
    assert torch.equal(state, torch.random.get_rng_state())


def _of_sites(seed, patients=600, sites=12):
    """A graph that helps at some sites as much as it harms at the others."""
    rng = np.random.default_rng(seed)
    site = np.arange(patients) % sites
    linear = rng.uniform(0.3, 0.6, patients)
    effect = rng.normal(0, 0.3, sites)[site] + rng.normal(0, 0.1, patients)
    found = {
        "linear": linear,
        "graph": (linear * np.exp(effect)).clip(0.01, 0.99),
        "marginal": linear * 0 + 0.3,
    }
    return found, np.arange(patients), np.ones(patients), np.ones(patients, bool), site


def test_what_the_graph_adds_is_judged_by_groups():
    """With an interval over patients a third of these draws would say that the graph adds something."""
    alone = helps = 0
    for seed in range(100):
        *given, site = _of_sites(seed)
        alone += fit_stack(*given, seed=seed).graph_helps
        helps += fit_stack(*given, unit=site, seed=seed).graph_helps
    assert helps <= 8 and alone >= 25  # 2.5 are expected, 9 and more have a chance of .001
    *given, site = _of_sites(0)
    assert fit_stack(*given, unit=site % 4).graph_gain is None, "of four groups there is no interval"
    assert fit_stack(*given, unit=given[1]) == fit_stack(*given), "a group of one is its patient"


@pytest.mark.parametrize(
    ("events", "written"), [(9, False), (10, True), (590, True), (591, False), (0, True)]
)
def test_no_likelihood_is_of_few_patients_with_the_event(events, written):
    found, patient, share, _, _ = _of_sites(0)
    stack = fit_stack(found, patient, share, patient < events, least=10)
    assert bool(stack.log_likelihood) == written
