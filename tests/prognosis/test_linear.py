"""The linear family: what it reads, that a member sees nothing of its fold, and that nothing else is kept."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from gnnpatient.cohort.build import build_graphs
from gnnpatient.graphs import merge_codes
from gnnpatient.model.basis import fit_bases
from gnnpatient.model.heads import head_config
from gnnpatient.model.model import ModelConfig
from gnnpatient.model.vocabulary import Vocabulary, fit_vocabulary
from gnnpatient.prognosis import linear
from gnnpatient.prognosis.inputs import last_landmarks
from gnnpatient.prognosis.kinds import target_of
from gnnpatient.prognosis.linear import LinearColumns, LinearHazard, minimise
from gnnpatient.prognosis.problem import FitConfig, Problem


def posed(landmarks, outcomes=("death",), horizon=10.0, **config):
    """A problem as `PrognosisModel.fit` poses it."""
    config = FitConfig(**{"min_patients": 5} | config)
    targets = {name: target_of(landmarks, name) for name in outcomes}
    least = config.min_patients
    graphs = build_graphs(last_landmarks(landmarks))
    bases = fit_bases(graphs, least)
    heads = {name: t.head_config(name, landmarks, horizon, 6, least) for name, t in targets.items()}
    vocabulary = fit_vocabulary(graphs, bases, least)
    where = torch.device("cpu")
    return Problem(landmarks, targets, heads, vocabulary, bases, ModelConfig(), config, where)


@pytest.fixture(scope="module")
def problem(train):
    return posed(train)


@pytest.fixture(scope="module")
def fitted(problem):
    return LinearHazard.fit(problem)


def test_the_columns_are_those_of_a_slow_reading(problem, train):
    columns, rows = LinearColumns(problem.vocabulary, problem.bases), train[np.arange(0, len(train), 3)]
    graphs, words = build_graphs(rows), problem.vocabulary
    x, merged = columns(graphs), merge_codes(graphs, words.codes, words.above)
    assert x.shape == (len(rows), len(columns.names)) and x.dtype == torch.float32
    for i, row in enumerate(x.tolist()):
        for column, found in zip(columns.names, row, strict=True):
            if column.group in words.codes:
                nodes = merged[column.group]
                code = words.codes[column.group].index(column.name)
                mine = [j for j in range(len(nodes)) if nodes.owner[j] == i and nodes.code[j] == code]
                given = [j for j in mine if torch.isfinite(nodes.value[j])]
                if column.block == "last":
                    newest = min((float(nodes.age[j]) for j in given), default=0.0)
                    last = [float(nodes.value[j]) for j in given if float(nodes.age[j]) == newest]
                    scale = words.values[column.group]
                    mean = torch.tensor([np.mean(last) if last else np.nan], dtype=torch.float32)
                    expected = np.nan_to_num(float(scale.apply(mean, torch.tensor([code]))))
                else:
                    expected = {"seen": float(len(mine) > 0), "count": np.log1p(len(mine))}[column.block]
            elif column.block in ("last", "seen"):
                number = graphs.statics.number[i, graphs.numbers.index(column.name)]
                z = float(words.values["patient"].apply(number[None], torch.tensor([0])))
                expected = {"last": np.nan_to_num(z), "seen": float(np.isfinite(z))}[column.block]
            elif column.block == "level":
                name, _, level = column.name.partition("=")
                names, j = graphs.levels[name], list(graphs.levels).index(name)
                k = int(graphs.statics.category[i, j])
                expected = float((names[k] if k >= 0 else "missing") == level)
            else:
                points = graphs["timepoint"]
                ages = [float(a) for a, owner in zip(points.age, points.owner, strict=True) if owner == i]
                what, _, unit = column.name.partition(".")
                days = min(ages, default=None) if what == "since" else float(graphs.statics.at[i])
                scale = words.times["timepoint" if what == "since" else "patient"]
                place = ("log", "years").index(unit)
                seen = np.nan if days is None else (np.log1p(days) if unit == "log" else days / 365.25)
                z = (seen - scale.mean[place]) / scale.std[place]
                expected = float(np.nan_to_num(np.clip(z, -4, 4)))
            assert found == pytest.approx(expected, abs=2e-5), (i, column)


def test_alone_or_together_the_same(fitted, test):
    together = fitted.forecast(build_graphs(test))["death"]
    assert together.shape == (5, len(test), 3, len(fitted.heads["death"].times))
    assert together.dtype == torch.float64
    assert torch.allclose(together.exp().sum(2), torch.ones(()).double())
    for i in range(0, len(test), 7):
        alone = fitted.forecast(build_graphs(test[np.array([i])]))["death"]
        assert torch.allclose(alone[:, 0], together[:, i], atol=1e-9)
    one = fitted.forecast(build_graphs(test), members=[3])["death"]
    assert torch.allclose(one[0], together[3], atol=1e-12)


def test_a_member_learns_nothing_of_the_fold_that_it_never_sees(problem, fitted):
    """With other times in fold 2 the member that is left without it stays what it was, bit for bit."""
    target = problem.targets["death"]
    time = target.time.copy()
    time[problem.held_out(2)] = 0.01
    poisoned = replace(problem, targets={"death": replace(target, time=time)})
    for pair in zip(problem.folds, poisoned.folds, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(*pair, strict=True))
    other = LinearHazard.fit(poisoned)
    for name, part in vars(fitted.scores["death"]).items():
        poison = getattr(other.scores["death"], name)
        assert torch.equal(part[2], poison[2]), name
        if name in ("weight", "bias"):
            assert not torch.equal(part[1], poison[1])
    assert fitted.ridges["death"][2] == other.ridges["death"][2]


def test_the_same_seed_gives_the_same_bits_and_saving_keeps_them(problem, fitted, test):
    again = LinearHazard.fit(problem)
    facts, tensors = json.loads(json.dumps(fitted.facts())), fitted.tensors()
    words = Vocabulary.from_dict(json.loads(json.dumps(problem.vocabulary.to_dict())))
    heads = {name: head_config(head.to_dict()) for name, head in problem.heads.items()}
    loaded = LinearHazard.load(facts, tensors, words, heads)
    expected = fitted.forecast(build_graphs(test))["death"]
    for model in (again, loaded):
        assert torch.equal(model.forecast(build_graphs(test))["death"], expected)
    assert loaded.facts() == fitted.facts()
    with pytest.raises(KeyError):
        LinearHazard.load(facts, {}, words, heads)
    with pytest.raises(ValueError, match="weight"):
        LinearHazard.load(facts, tensors | {"outcome.0.weight": torch.zeros(5, 2, 1)}, words, heads)


def test_each_fit_ends_where_its_own_would():
    """Rows of one matrix, of which one is steep and one is flat, each come to their own lowest point."""
    rng = np.random.default_rng(0)
    half = torch.from_numpy(rng.standard_normal((3, 6, 6)))
    curve = half @ half.mT + torch.tensor([1e-2, 1.0, 100.0])[:, None, None] * torch.eye(6)
    middle = torch.from_numpy(rng.standard_normal((3, 6)))

    def function(x, rows=slice(None)):
        turn = torch.einsum("bij,bj->bi", curve[rows], x - middle[rows])
        return ((x - middle[rows]) * turn).sum(1) / 2 + 1, turn

    together = minimise(function, torch.zeros(3, 6).double(), 200, 1e-12)
    assert torch.allclose(together, middle, atol=1e-3)
    for i in range(3):
        rows = slice(i, i + 1)
        alone = minimise(lambda x, rows=rows: function(x, rows), torch.zeros(1, 6).double(), 200, 1e-12)
        assert torch.equal(alone[0], together[i])


def test_the_slope_is_gone_where_a_fit_ends(problem, monkeypatch):
    seen, real = [], linear.minimise

    def watched(function, x, steps, tolerance):
        end = real(function, x, steps, tolerance)
        seen.append((steps, function(end)[1].abs().max()))
        return end

    monkeypatch.setattr(linear, "minimise", watched)
    LinearHazard.fit(problem)
    assert seen[-1][0] == linear.STEPS and float(seen[-1][1]) < 2e-3


def test_a_column_of_few_patients_has_no_weight(train):
    fitted = LinearHazard.fit(posed(train, min_patients=40))
    x = fitted.columns(build_graphs(train))
    weight = fitted.scores["death"].weight.abs().amax((0, 1))
    for i, column in enumerate(fitted.columns.names):
        usual = x[:, i].median()
        others = len(np.unique(train.patient[(x[:, i] != usual).numpy()]))
        assert (weight[i] > 0) == (others >= 40 and bool(x[:, i].std() > 1e-6)), column
