"""The training of the graph family: who is learned from, who stops it, what goes on after a stop."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gnnpatient import InputError, build_graphs
from gnnpatient.cohort.splits import landmark_weights
from gnnpatient.model.basis import fit_bases
from gnnpatient.model.model import ModelConfig
from gnnpatient.model.vocabulary import fit_vocabulary
from gnnpatient.prognosis import network
from gnnpatient.prognosis.inputs import last_landmarks
from gnnpatient.prognosis.kinds import KINDS
from gnnpatient.prognosis.network import GraphHazard, MemberTrainer
from gnnpatient.prognosis.problem import FitConfig, LandmarkSampler, Problem
from gnnpatient.prognosis.states import read_state

SMALL = {"members": 2, "epochs": 3, "batch_size": 32, "seed": 2}  # with it both members learn something


def problem_of(X, *, run=None, progress=None, model=None, **config):
    names = list(X.cohort.outcomes_with_model())
    targets = {name: KINDS[X.cohort.outcomes[name].kind].target.of(X, name) for name in names}
    heads = {name: target.head_config(name, X, 10.0, 5, 10) for name, target in targets.items()}
    graphs = build_graphs(last_landmarks(X))
    bases = fit_bases(graphs, 10)
    return Problem(
        X,
        targets,
        heads,
        fit_vocabulary(graphs, bases, 10),
        bases,
        model or ModelConfig(channels=8),
        FitConfig(**SMALL | config),
        torch.device("cpu"),
        run,
        progress,
    )


@pytest.fixture(scope="module")
def problem(train):
    return problem_of(train)


@pytest.fixture(scope="module")
def fitted(problem):
    return GraphHazard.fit(problem)


def same_bits(one, other):
    one, other = one.tensors(), other.tensors()
    assert one.keys() == other.keys()
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def trained(monkeypatch):
    """The trainer of each member that is fitted from here on, and the landmarks of the tables it took."""
    found, real = [], MemberTrainer.train

    def train(self):
        seen, tables = [], self.tables
        self.tables = lambda rows: (seen.append(rows), tables(rows))[1]
        found.append((self, seen))
        return real(self)

    monkeypatch.setattr(MemberTrainer, "train", train)
    return found


# -- drawing --


def test_a_draw_of_all_is_a_pass_over_all():
    """Every landmark time has its share, and each landmark comes as often as expected to within one."""
    moments = np.repeat([0, 10, 30], [60, 10, 30])
    rows = np.flatnonzero(np.arange(100) % 10 < 5)  # 30, 5 and 15 of them
    sampler, rng = LandmarkSampler.of(moments, rows), np.random.default_rng(0)
    expected = landmark_weights(moments[rows])
    total = np.zeros(100)
    for _ in range(400):
        count = np.bincount(sampler(rng, len(rows)), minlength=100)
        assert not count[np.setdiff1d(np.arange(100), rows)].any()
        assert (np.abs(count[rows] - expected) < 1).all()
        total += count
    assert total[rows] / 400 == pytest.approx(expected, abs=0.12)
    assert len(np.unique(sampler(rng, 12))) == 12 or expected.max() > 50 / 12


def test_draws_are_not_in_order():
    sampler = LandmarkSampler.of(np.repeat([0, 10], [90, 10]), np.arange(100))
    drawn = sampler(np.random.default_rng(0), 100)
    late = np.flatnonzero(drawn >= 90)
    assert len(late) == 50 and 30 < np.median(late) < 70 and np.ptp(late) > 80


# -- who is seen --


def test_no_step_sees_who_stops_it_or_is_held_out(problem, monkeypatch):
    """Three parts by patient and group: for the steps, to stop on, and what nothing of the member sees.

    The steps after the stop see the first two.
    """
    found = trained(monkeypatch)
    steps, more, scores, real_epoch, real_score = [], [], [], MemberTrainer._epoch, MemberTrainer._score

    def epoch(self, number, learn, course):
        _, seen = found[-1]
        before = len(seen)
        loss = real_epoch(self, number, learn, course)
        searching = len(learn) < len(problem.train(self.member))
        (steps if searching else more).append((self.member, np.concatenate(seen[before:])))
        return loss

    def score(self, module, rows, *given):
        assert not more or more[-1][0] < self.member, "no score after the stop"
        scores.append((self.member, rows))
        return real_score(self, module, rows, *given)

    monkeypatch.setattr(MemberTrainer, "_epoch", epoch)
    monkeypatch.setattr(MemberTrainer, "_score", score)
    GraphHazard.fit(problem)
    X = problem.landmarks
    assert len(found) == 2 and len(steps) == 6 and len(scores) == 8 and 2 <= len(more) <= 6
    for member in range(2):
        parts = [np.concatenate([rows for m, rows in of if m == member]) for of in (steps, scores)]
        parts.append(problem.held_out(member))
        again = np.concatenate([rows for m, rows in more if m == member])
        for who in (X.patient, X.groups):
            sides = [set(who[part].tolist()) for part in parts]
            assert all(sides)
            assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
            assert set(who[again].tolist()) & sides[1] and not set(who[again].tolist()) & sides[2]
        assert set(parts[0]) | set(parts[1]) | set(again) <= set(problem.train(member))
        assert set(np.concatenate(found[member][1])) <= set(problem.train(member)), "no table of the others"


def test_the_held_out_teach_nothing(problem, fitted, monkeypatch):
    """With other values, codes and outcomes of the held-out patients the member is the same, bit for bit."""
    out = problem.held_out(0)
    X = problem.landmarks
    theirs = np.isin(np.arange(len(X.cohort.ids)), X.patient[out])

    def poison(e):
        mine = theirs[e.patient]
        return replace(e, value=np.where(mine, np.float32(1e9), e.value), code=np.where(mine, 1, e.code))

    events = {k: poison(e) if k != "timepoint" else e for k, e in X.cohort.events.items()}
    cohort = replace(X.cohort, events=events)
    (name,) = problem.targets
    target = problem.targets[name]
    event, time = target.event.copy(), target.time.copy()
    event[out], time[out] = 1, 0.5
    other = replace(
        problem,
        landmarks=replace(X, cohort=cohort),
        targets={name: replace(target, event=event, time=time)},
    )
    monkeypatch.setattr(Problem, "folds", problem.folds)  # the folds are of the true outcomes
    again = GraphHazard.fit(replace(other, config=replace(problem.config, members=1)))
    first = {name: tensor for name, tensor in fitted.tensors().items() if name.startswith("0.")}
    assert all(torch.equal(tensor, first[name]) for name, tensor in again.tensors().items() if name in first)


def test_members_differ_by_fold_and_seed(fitted, train):
    answer = fitted.forecast(build_graphs(train))["death"]
    assert answer.shape == (2, len(train), 3, 5)
    assert (answer[0] - answer[1]).abs().max() > 1e-4
    assert torch.allclose(answer.exp().sum(2), torch.ones(2, len(train), 5), atol=1e-5)
    alone = fitted.forecast(build_graphs(train), members=[1])["death"]
    assert torch.equal(alone[0], answer[1])


# -- what is kept --


def test_before_training_it_is_the_marginal_model(train):
    problem = problem_of(train, epochs=0)
    answer = GraphHazard.fit(problem).forecast(build_graphs(train))["death"].exp()
    for member in range(2):
        hazard = torch.from_numpy(problem.start("death", problem.train(member))).float()
        assert (answer[member, :, 1:] - hazard).abs().max() < 1e-4


def test_the_state_before_training_is_kept_where_no_epoch_is_better(train, monkeypatch):
    """A score that rises after every epoch."""
    scores = iter(range(100))
    monkeypatch.setattr(MemberTrainer, "_score", lambda *_: float(next(scores)))
    problem = problem_of(train, members=1)
    answer = GraphHazard.fit(problem).forecast(build_graphs(train))["death"].exp()
    hazard = torch.from_numpy(problem.start("death", problem.train(0))).float()
    assert (answer[0, :, 1:] - hazard).abs().max() < 1e-4


def test_it_stops_after_epochs_without_gain_and_learns_anew_from_all(train, monkeypatch):
    """Best after epoch 12, then patience ends it: kept is the average of 12 epochs on all patients."""
    steps, scored = iter(range(1000)), []

    def score(self, module, rows, *_):
        scored.append(rows)
        return abs(next(steps) - 12.0)

    monkeypatch.setattr(MemberTrainer, "_score", score)
    monkeypatch.setattr(network, "MIN_STEPS", 1)
    problem = problem_of(train, members=1, epochs=40, patience=4)
    found = trained(monkeypatch)
    (module,) = GraphHazard.fit(problem).modules
    assert len(scored) == 1 + 12 + 4
    trainer, _ = found[0]
    rows = problem.train(0)
    with network.deterministic(problem.device), torch.random.fork_rng([]):
        course = trainer._begin(rows, None)
        for epoch in range(12):
            trainer._epoch(epoch, rows, course)
    kept = dict(module.named_parameters())
    assert all(torch.equal(p, kept[name]) for name, p in course.average.named_parameters())
    assert not all(torch.equal(p, kept[name]) for name, p in course.module.named_parameters())


def test_of_a_rare_cause_nothing_is_learned_but_how_rare_it_is(train, monkeypatch):
    scores = iter([2.0, 1.0])
    monkeypatch.setattr(MemberTrainer, "_score", lambda *_: next(scores))
    problem = problem_of(train, members=1, epochs=1)
    target = problem.targets["death"]
    few = np.unique(train.patient[target.event == 2])[:8]
    event = np.where((target.event == 2) & ~np.isin(train.patient, few), 1, target.event)
    problem = replace(problem, targets={"death": replace(target, event=event)})
    rows = problem.train(0)
    assert problem.learned("death", rows).tolist() == [True, False]
    (module,) = GraphHazard.fit(problem).modules
    head = module.head("death")
    fresh = type(head)(head.config, 1)
    fresh.start(torch.from_numpy(problem.start("death", rows)).float())
    assert torch.equal(head.bias[1], fresh.bias[1]) and not torch.equal(head.bias[0], fresh.bias[0])
    often, rare = head.scores.out.weight.chunk(2)
    assert (rare == 0).all() and (often != 0).any()


class Normed(torch.nn.Module):
    """A layer of the user's own that keeps running means."""

    def __init__(self, channels, relations):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(channels)

    def forward(self, x, table):
        return self.norm(x)


def test_what_is_kept_has_the_running_means_of_training(train, monkeypatch):
    scores = iter([2.0, 1.0])
    monkeypatch.setattr(MemberTrainer, "_score", lambda *_: next(scores))
    own = ModelConfig(channels=8, conv=Normed)
    (module,) = GraphHazard.fit(problem_of(train, members=1, epochs=1, model=own)).modules
    means = [buffer for name, buffer in module.named_buffers() if name.endswith("running_mean")]
    assert means and all(mean.abs().min() > 0 for mean in means)


def test_patience_waits_for_the_first_epochs(train, monkeypatch):
    scores, told = iter(range(100)), []
    monkeypatch.setattr(MemberTrainer, "_score", lambda *_: float(next(scores)))
    monkeypatch.setattr(network, "MIN_STEPS", 1)
    GraphHazard.fit(
        problem_of(train, members=1, epochs=40, patience=2, progress=lambda *_, **entry: told.append(entry))
    )
    assert len(told) == network.MIN_EPOCHS


def test_it_learns_what_a_code_tells(cohort):
    """Who has a lab by day 4 dies early, the others late: nearly all of it is found."""
    from gnnpatient.cohort.survival import Survival
    from gnnpatient.times import DAY

    lab = cohort.events["lab"]
    some = np.bincount(lab.patient[lab.known <= 4 * DAY], minlength=80) > 0
    when = np.where(some, 5, 50) * DAY + np.arange(80)
    own = {"death": Survival(when.astype(np.int64), np.ones(80, np.int8), ("death",))}
    X = replace(cohort, outcomes=own).landmarks(times=[4]).followed()
    some = some[X.patient]
    family = GraphHazard.fit(problem_of(X, members=1, epochs=40))
    hazard = family.forecast(build_graphs(X))["death"][0, :, 1].exp()
    risk = 1 - (1 - hazard).prod(1)
    assert risk[some].min() > risk[~some].max() and risk.max() - risk.min() > 0.5


@pytest.fixture(scope="module")
def two(cohort):
    """Two outcomes; those with an even number are out of the first one from day 1 on."""
    from gnnpatient.times import DAY

    death = cohort.outcomes["death"]
    early = replace(death, time=np.where(np.arange(80) % 2 == 0, DAY, death.time))
    return replace(cohort, outcomes={"early": early, "death": death})


def test_landmarks_at_risk_of_one_outcome_only(two, monkeypatch):
    """What is not at risk of an outcome moves neither its loss nor its gradient."""
    X = two.landmarks(times=[0, 2]).followed("death")
    rows = np.flatnonzero(~X.at_risk("early"))[:20]
    assert len(rows) == 20
    found = trained(monkeypatch)
    problem = problem_of(X, members=1)
    GraphHazard.fit(problem)
    ((trainer, _),) = found
    trainer.module.zero_grad()
    shares = trainer._shares(rows, np.ones(20))
    loss = trainer._loss(trainer.module, trainer.tables(rows), rows, shares)
    loss.backward()
    early, death = (list(trainer.module.head(name).parameters()) for name in ("early", "death"))
    assert all(p.grad is None or not p.grad.any() for p in early)
    assert any(p.grad is not None and p.grad.any() for p in death)
    assert shares["early"].sum() == 0 and shares["death"] == pytest.approx(np.full(20, 1 / 20))
    target = problem.targets["death"]
    answers = trainer.module(trainer.tables(rows))["death"]
    alone = trainer.module.head("death").loss(answers, *(torch.from_numpy(c[rows]) for c in target.columns))
    assert float(loss.detach()) == pytest.approx(float(alone.mean().detach()), rel=1e-5)


def test_every_landmark_time_counts_the_same_in_the_score(problem):
    module = GraphHazard.fit(replace(problem, config=replace(problem.config, members=1, epochs=1))).modules[0]
    trainer = MemberTrainer(0, module, problem, network._Tables(problem), [])
    rows = problem.stopping(0)[1]
    moments, apart = problem.landmarks.moments[rows], []
    for moment in np.unique(moments):
        apart.append(trainer._score(module, rows[moments == moment]))
    assert trainer._score(module, rows) == pytest.approx(np.mean(apart), rel=1e-5)


# -- tables, chunks, dropped rows --


def test_kept_tables_change_nothing(problem, fitted, monkeypatch):
    """Too many rows for memory: each batch is made anew, with the same bits."""
    monkeypatch.setattr(network, "MAX_ROWS", 10)
    assert network._Tables(problem).every is None
    assert same_bits(GraphHazard.fit(problem), fitted)


def test_a_forecast_in_chunks(fitted, train, monkeypatch):
    whole = fitted.forecast(build_graphs(train))["death"]
    monkeypatch.setattr(network, "CHUNK", 7)
    assert (fitted.forecast(build_graphs(train))["death"] - whole).abs().max() < 1e-5
    assert fitted.forecast(build_graphs(train[[]]))["death"].shape == (2, 0, 3, 5)


def test_rows_and_node_types_are_hidden_in_training(train):
    problem = problem_of(train, kind_dropout=0.5, model=ModelConfig(channels=8, node_dropout=0.3))
    tables = network._Tables(problem)
    trainer = MemberTrainer(0, None, problem, tables, [])
    table, kinds = tables(np.arange(len(train))), len(problem.vocabulary.codes)
    torch.manual_seed(0)
    seen = []
    for _ in range(400):
        hidden = trainer._hide(table)
        assert len(hidden) == len(table)
        here = torch.bincount(hidden.kind, minlength=kinds) / torch.bincount(table.kind, minlength=kinds)
        seen.append(here)
    share = torch.stack(seen)
    gone = share == 0
    assert not gone.all(1).any(), "one node type is left"
    assert 0.3 < gone.any(1).double().mean() < 0.45  # half of the batches, and not all visible: 3 / 8
    assert float(share[~gone].mean()) == pytest.approx(0.7, abs=0.02)


# -- steps --


def test_adamw_is_torchs(monkeypatch):
    torch.manual_seed(0)
    one = [torch.nn.Parameter(torch.randn(shape)) for shape in ((3, 4), (5,), (2, 2, 2), (2, 3))]
    other = [torch.nn.Parameter(p.detach().clone()) for p in one]
    groups = [{"params": [other[0], other[2]]}, {"params": [other[1], other[3]], "weight_decay": 0.0}]
    names = ("weight", "norm.weight", "slope", "bias")
    ours = network.AdamW(zip(names, one, strict=True), 0.3)
    theirs = torch.optim.AdamW(groups, weight_decay=0.3)
    stopped = network.AdamW(zip(names, one, strict=True), 0.3)
    for step in range(20):
        for p, q in zip(one, other, strict=True):
            p.grad = torch.randn(p.shape) * 10.0**step / 1e10
            q.grad = p.grad.clone()
        if step == 10:  # goes on in another one
            stopped.load(ours.tensors(), ours.steps)
            ours = stopped
        for group in theirs.param_groups:
            group["lr"] = 0.1 / (1 + step)
        ours.step(0.1 / (1 + step))
        theirs.step()
    for p, q in zip(one, other, strict=True):
        assert torch.allclose(p, q, rtol=1e-5, atol=1e-6)


def test_the_rate_rises_and_falls():
    rates = [network._rate(done) for done in np.linspace(0, 1, 101)]
    assert rates[0] == pytest.approx(0.1) and rates[-1] == pytest.approx(0.01) and max(rates) == rates[5] == 1
    assert (np.diff(rates[:6]) > 0).all() and (np.diff(rates[5:]) < 0).all()


# -- seeds, stops, files --


def test_same_seed_same_bits(problem, fitted):
    torch.manual_seed(12345)
    mine = torch.random.get_rng_state()
    assert same_bits(GraphHazard.fit(problem), fitted)
    assert torch.equal(torch.random.get_rng_state(), mine), "a fit leaves the caller's random state alone"
    assert not same_bits(GraphHazard.fit(replace(problem, config=replace(problem.config, seed=1))), fitted)


@pytest.fixture(scope="module")
def whole(train):
    """What a fit tells that is not stopped: 3 scored epochs a member, then 1 to 3 on all patients."""
    told = []
    GraphHazard.fit(problem_of(train, progress=lambda name, *_, **entry: told.append(entry)))
    return told


@pytest.mark.parametrize("at", [0.1, 0.3, 0.4, 0.6, 0.8, 0.95])
def test_a_stopped_fit_goes_on_to_the_same_bits(train, fitted, whole, tmp_path, at):
    told, epochs = [], math.ceil(at * len(whole))

    def stop(*_, **entry):
        told.append(entry)
        if len(told) == epochs:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GraphHazard.fit(problem_of(train, run=tmp_path, progress=stop))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == epochs
    rest = []
    again = problem_of(train, run=tmp_path, progress=lambda *_, **entry: rest.append(entry))
    assert same_bits(GraphHazard.fit(again), fitted)
    assert told + rest == whole, "nothing is done twice"
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert log == whole
    for member in range(2):
        mine = [entry for entry in log if entry["member"] == member]
        best = 1 + int(np.argmin([entry["validation"] for entry in mine[:3]]))
        assert [entry["epoch"] for entry in mine] == [0, 1, 2, *range(best)]
        assert [entry["validation"] is None for entry in mine] == [False] * 3 + [True] * best


def test_a_finished_member_keeps_its_weights_alone(train, tmp_path):
    sizes = []
    path = tmp_path / "checkpoints" / "member-0.safetensors"

    def look(*_, **entry):
        sizes.append(path.stat().st_size)

    family = GraphHazard.fit(problem_of(train, run=tmp_path, progress=look, members=1))
    assert sizes[-1] < sizes[0] / 3
    names = {name.partition(".")[2] for name in family.tensors()}
    stored = read_state(path).tensors
    assert {name.partition(".")[2] for name in stored} <= names and all(n.startswith("kept.") for n in stored)


def test_a_run_of_other_choices_is_not_resumed(train, tmp_path):
    GraphHazard.fit(problem_of(train, run=tmp_path, members=1))
    for other in ({"seed": 1}, {"lr": 0.1}, {"model": ModelConfig(channels=16)}):
        with pytest.raises(InputError, match="other choices or landmarks"):
            GraphHazard.fit(problem_of(train, run=tmp_path, members=1, **other))
    with pytest.raises(InputError, match="other choices or landmarks"):
        GraphHazard.fit(problem_of(train[1:], run=tmp_path, members=1))


def test_a_diverging_fit_says_so(train):
    with pytest.raises(InputError, match="not finite after epoch 0; take a smaller lr"):
        GraphHazard.fit(problem_of(train, lr=1e30))


def test_a_fit_that_diverges_on_all_patients_says_so(train, monkeypatch):
    """No score comes after those epochs, which would tell."""
    real = MemberTrainer._begin

    def begin(self, rows, stored):
        course = real(self, rows, stored)
        if len(rows) == len(self.problem.train(self.member)):
            course.module.heads[0].bias.data.fill_(math.nan)
        return course

    monkeypatch.setattr(MemberTrainer, "_begin", begin)
    with pytest.raises(InputError, match="not finite after epoch 0; take a smaller lr"):
        GraphHazard.fit(problem_of(train))


def test_what_is_saved_forecasts_the_same(problem, fitted, train):
    facts = json.loads(json.dumps(fitted.facts()))
    again = GraphHazard.load(facts, fitted.tensors(), problem.vocabulary, problem.bases, problem.heads)
    graphs = build_graphs(train)
    assert torch.equal(again.forecast(graphs)["death"], fitted.forecast(graphs)["death"])
    for wrong in ({**facts, "members": 3}, {**facts, "model": {**facts["model"], "channels": 9}}):
        with pytest.raises((KeyError, ValueError, TypeError, RuntimeError)):
            GraphHazard.load(wrong, fitted.tensors(), problem.vocabulary, problem.bases, problem.heads)
