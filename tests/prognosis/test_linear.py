"""The linear family: what it reads, that a member sees nothing of its fold, and that nothing else is kept."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from gnnpatient import read_cohort
from gnnpatient.cohort.build import build_graphs
from gnnpatient.graphs import merge_codes
from gnnpatient.model.basis import fit_bases
from gnnpatient.model.heads import head_config
from gnnpatient.model.model import ModelConfig
from gnnpatient.model.vocabulary import Vocabulary, fit_vocabulary
from gnnpatient.prognosis import linear
from gnnpatient.prognosis.columns import Column, LinearColumns
from gnnpatient.prognosis.inputs import last_landmarks
from gnnpatient.prognosis.kinds import target_of
from gnnpatient.prognosis.linear import LinearHazard
from gnnpatient.prognosis.minimise import minimise
from gnnpatient.prognosis.problem import FitConfig, Problem
from gnnpatient.testing import tiny_cohort


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


@pytest.fixture(scope="module")
def rich(train):
    """Graphs with intervals, bounds and vectors, of which some codes are rare."""
    graphs, rng = build_graphs(last_landmarks(train)), np.random.default_rng(0)
    sizes = {kind: len(graphs[kind]) for kind in graphs.nodes}
    bound = torch.from_numpy(rng.integers(-1, 2, sizes["lab"]).astype(np.int8))
    running = torch.from_numpy(rng.random(sizes["drug"]) < 0.9)
    vector = torch.from_numpy(rng.standard_normal((sizes["vital"], 6))).float()
    changed = {
        "lab": replace(graphs["lab"], bound=bound),
        "drug": replace(graphs["drug"], open=running),
        "vital": replace(graphs["vital"], vector=vector),
    }
    return replace(graphs, nodes={**graphs.nodes, **changed})


def slowly(column, i, graphs, columns):
    """One column of one landmark, row by row."""
    words = columns.vocabulary
    if column.group == "patient":
        return slow_static(column, i, graphs, words)
    nodes = graphs[column.group]
    mine = [j for j in range(len(nodes)) if nodes.owner[j] == i]
    if column.block in ("content", "drift"):
        basis, axis = columns.bases[column.group], int(column.name)
        z = {j: float((nodes.vector[j] - basis.mean) @ basis.axes[:, axis]) for j in mine}
        z = {j: min(max(one, -4.0), 4.0) for j, one in z.items()}
        if column.block == "content":
            return np.mean([*z.values()]) if z else 0.0
        ages = [float(nodes.age[j]) for j in mine]
        ends = [[z[j] for j in mine if float(nodes.age[j]) == end(ages)] for end in (min, max)] if z else []
        return np.mean(ends[0]) - np.mean(ends[1]) if z else 0.0
    name = column.name.partition(">")[0].partition("/")[0]
    code = words.codes[column.group].index(name)
    mine = [j for j in mine if nodes.code[j] == code]
    given = [j for j in mine if torch.isfinite(nodes.value[j])]
    newest = min((float(nodes.age[j]) for j in given), default=0.0)
    final = [j for j in given if float(nodes.age[j]) == newest]
    scale = words.values[column.group]

    def standard(value):
        return float(scale.apply(torch.tensor([value], dtype=torch.float32), torch.tensor([code])))

    last = standard(np.mean([float(nodes.value[j]) for j in final]) if final else np.nan)
    if column.block == "filter":
        half_life = columns.half_lives(column.group)[int(column.name.rpartition("/")[2])]
        weight = [0.5 ** (float(nodes.age[j]) / half_life) for j in given]
        z = [standard(float(nodes.value[j])) for j in given]
        return np.average(z, weights=weight) - last if given else 0.0
    return {
        "last": np.nan_to_num(last),
        "seen": float(len(mine) > 0),
        "rare": float(len(mine) > 0),
        "count": np.log1p(len(mine)),
        "running": float(any(nodes.open[j] for j in mine)),
        "bound": np.mean([float(nodes.bound[j]) for j in final]) if final else 0.0,
        "hinge": np.nan_to_num(max(last - float(column.name.rpartition(">")[2] or 0), 0.0))
        if column.block == "hinge"
        else None,
    }[column.block]


def slow_static(column, i, graphs, words):
    if column.block in ("last", "seen", "hinge"):
        name, _, knot = column.name.partition(">")
        number = graphs.statics.number[i, graphs.numbers.index(name)]
        z = float(words.values["patient"].apply(number[None], torch.tensor([words.numbers.index(name)])))
        if column.block == "hinge":
            return np.nan_to_num(max(z - float(knot), 0.0)) if np.isfinite(z) else 0.0
        return {"last": np.nan_to_num(z), "seen": float(np.isfinite(z))}[column.block]
    if column.block == "level":
        name, _, level = column.name.partition("=")
        names, j = graphs.levels[name], list(graphs.levels).index(name)
        k = int(graphs.statics.category[i, j])
        return float((names[k] if k >= 0 else "missing") == level)
    points = graphs["timepoint"]
    ages = [float(age) for age, owner in zip(points.age, points.owner, strict=True) if owner == i]
    what, _, unit = column.name.partition(".")
    days = min(ages, default=None) if what == "since" else float(graphs.statics.at[i])
    if days is None:
        return 0.0
    scale, place = words.times["timepoint" if what == "since" else "patient"], ("log", "years").index(unit)
    z = ((np.log1p(days) if unit == "log" else days / 365.25) - scale.mean[place]) / scale.std[place]
    return min(max(z, -4.0), 4.0)


def test_the_columns_are_those_of_a_slow_reading(rich):
    bases = fit_bases(rich, 5)
    columns = LinearColumns(fit_vocabulary(rich, bases, 22), bases)
    x = columns(rich)
    assert x.shape == (len(rich), len(columns.names)) and x.dtype == torch.float32
    assert {column.block for column in columns.names} == {
        *("last", "seen", "rare", "count", "running", "bound", "content", "drift", "level", "time"),
        *linear.PENALTIES,
    }
    merged = merge_codes(rich, columns.vocabulary.codes, columns.vocabulary.above)
    for i in range(0, len(rich), 6):
        for column, found in zip(columns.names, x[i].tolist(), strict=True):
            assert found == pytest.approx(slowly(column, i, merged, columns), abs=2e-4), (i, column)
    assert sum(part.stop - part.start for part in columns.groups) == len(columns.names)


def test_alone_or_together_the_same(fitted, test):
    together = fitted.forecast(build_graphs(test))["death"]
    assert together.shape == (5, len(test), 3, len(fitted.heads["death"].times))
    assert together.dtype == torch.float64
    assert torch.allclose(together.exp().sum(2), torch.ones(()).double())
    for i in range(0, len(test), 7):
        alone = fitted.forecast(build_graphs(test[np.array([i])]))["death"]
        assert torch.allclose(alone[:, 0], together[:, i], atol=1e-9)
    one = fitted.forecast(build_graphs(test), members=[3])["death"]
    assert torch.equal(one[0], together[3])


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
    assert fitted.choices["death"][2] == other.choices["death"][2]


def test_the_slope_by_hand_is_that_of_small_differences(problem, tmp_path):
    """Of every parameter of both losses, in float64."""
    cases = {"death": problem, "grade": posed(genes(tmp_path / "grade", 3), ("grade",))}
    for outcome, posed_ in cases.items():
        rows = np.arange(len(posed_.landmarks))
        x = torch.randn(5, len(rows), generator=torch.Generator().manual_seed(0)).double()
        columns = tuple(Column("lab", "last", str(i)) for i in range(5))
        learning = linear._Learning(posed_, outcome, rows, x, (2, 0, 3), columns, rows % 2)
        fits = learning.fits([(0,), (1,)], rows)
        for name, part in vars(fits.loss).items():
            setattr(fits.loss, name, part.double())
        fits = replace(fits, weight=fits.weight.double(), bias=fits.bias.double())
        flat = fits.start() + torch.randn(fits.start().shape, generator=torch.Generator().manual_seed(1)) / 2
        penalty = fits.penalties([(), ()]).double() / 7
        slope = fits.value(flat, penalty)[1]
        assert slope.abs().amin(0).count_nonzero() >= flat.shape[1] - 10  # a group without columns
        for k, step in enumerate(1e-5 * torch.eye(flat.shape[1]).double()):
            above, below = (fits.value(flat + sign * step, penalty)[0] for sign in (1, -1))
            assert torch.allclose(slope[:, k], (above - below) / 2e-5, rtol=1e-5, atol=1e-7), (outcome, k)


def test_what_a_member_chooses_hangs_on_its_own_losses_alone(problem, monkeypatch):
    """However long the paths of the others are, and wherever they are lowest."""
    rows, size = np.arange(len(problem.landmarks)), len(linear.RIDGES)
    columns = (Column("lab", "last", "0"), Column("lab", "hinge", "0"))
    learning = linear._Learning(problem, "death", rows, torch.zeros(2, len(rows)), (2,), columns, rows % 5)
    monkeypatch.setattr(linear, "LOOSE_PATIENTS", 1)
    path = torch.tensor([5.0, 3.0, 2.0, 2.5, 2.7, *[1.0] * (size - 5)])  # the end is never looked at
    first = torch.stack([path, 1.5 - 0.1 * torch.arange(size)])
    chosen = []
    for seed in range(20):
        others = torch.rand(2, size, 4, generator=torch.Generator().manual_seed(seed))
        table, asked = torch.cat([first[..., None], others], 2).double(), []

        def fit(fits, flat, ridge, loose, *_, asked=asked):
            asked.append(
                (len(loose[0]), [round(one, 1) for one in linear.RIDGES].index(round(float(ridge[0]), 1)))
            )
            return flat

        def held_out(*_, asked=asked, table=table):
            return table[asked[-1]][:, None].expand(-1, 9) / 9  # each patient the same

        monkeypatch.setattr(linear._Fits, "fit", fit)
        monkeypatch.setattr(linear._Learning, "held_out", held_out)
        chosen.append(learning.choose())
    assert {choices[0] for choices in chosen} == {linear.Choice(linear.RIDGES[4], ("hinge",))}
    assert len({choices[1] for choices in chosen}) > 3


def test_the_same_seed_gives_the_same_bits_and_saving_keeps_them(problem, fitted, test):
    again = LinearHazard.fit(problem)
    facts, tensors = json.loads(json.dumps(fitted.facts())), fitted.tensors()
    words = Vocabulary.from_dict(json.loads(json.dumps(problem.vocabulary.to_dict())))
    heads = {name: head_config(head.to_dict()) for name, head in problem.heads.items()}
    loaded = LinearHazard.load(facts, tensors, words, problem.bases, heads)
    expected = fitted.forecast(build_graphs(test))["death"]
    for model in (again, loaded):
        assert torch.equal(model.forecast(build_graphs(test))["death"], expected)
    assert loaded.facts() == fitted.facts()
    with pytest.raises(KeyError):
        LinearHazard.load(facts, {}, words, problem.bases, heads)
    for odd in ({"members": 1e12}, {"members": 0}, {"choices": {"death": facts["choices"]["death"][:1]}}):
        with pytest.raises(ValueError):
            LinearHazard.load(facts | odd, tensors, words, problem.bases, heads)
    with pytest.raises(ValueError, match="weight"):
        LinearHazard.load(
            facts, tensors | {"outcome.0.weight": torch.zeros(5, 2, 1)}, words, problem.bases, heads
        )


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
    fitted = LinearHazard.fit(posed(train, min_patients=30))
    x = fitted.columns(build_graphs(train))
    weight = fitted.scores["death"].weight.abs().amax((0, 1))
    for i, column in enumerate(fitted.columns.names):
        usual = x[:, i].median()
        others = len(np.unique(train.patient[(x[:, i] != usual).numpy()]))
        if column.block not in linear.PENALTIES:
            assert (weight[i] > 0) == (others >= 30 and bool(x[:, i].std() > 1e-6)), column
        assert others >= 30 or weight[i] == 0, column


TOML = """
cohort = "made"
[patient]
table = "p.csv"
key = "id"
[nodes.gene]
table = "p.csv"
time = "day"
columns = { "x*" = "" }
[outcomes.death]
kind = "survival"
table = "p.csv"
causes = { death = { time = "end", flag = "died" } }
[outcomes.grade]
kind = "diagnosis"
table = "p.csv"
column = "grade"
classes = { low = "low", high = "high" }
when = "same"
inputs = ["gene"]
"""


@pytest.mark.parametrize("few", [3, 9, 10])
def test_of_a_cause_of_few_patients_nothing_is_learned(few):
    """Else the mean of the answers would tell how many they were."""
    X = tiny_cohort(patients=200).at(1).followed()
    target = target_of(X, "death")
    dead = np.flatnonzero(target.event == 2)
    event = np.where(np.isin(np.arange(len(X)), dead[few:]), 1, target.event)
    problem = replace(posed(X, members=2, min_patients=10), targets={"death": replace(target, event=event)})
    scores = LinearHazard.fit(problem).scores["death"]
    assert all(bool(part[:, 1].any()) == (few == 10) for part in (scores.weight, scores.product))
    start = [linear._logits(problem.start("death", problem.train(m)), problem.heads["death"]) for m in (0, 1)]
    assert torch.equal(scores.bias[:, 1], torch.stack(start)[:, 1]) == (few < 10)
    assert scores.weight[:, 0].any() and not torch.equal(scores.bias[:, 0], torch.stack(start)[:, 0])


def genes(folder, columns, patients=120, slope=1.5, bend=0.0):
    """A cohort of which the first gene tells the hazard and the grade, and the others nothing.

    With a bend the hazard rises on both sides of its middle.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((patients, columns)).round(3)
    end = rng.exponential(100 * np.exp(-slope * x[:, 0] - bend * np.abs(x[:, 0]))) + 1
    table = {
        "id": np.arange(patients),
        "day": np.zeros(patients),
        "end": np.minimum(end, 300.0).round(2),
        "died": (end < 300).astype(int),
        "grade": np.where(rng.random(patients) < 1 / (1 + np.exp(-4 * x[:, 0])), "high", "low"),
    }
    folder.mkdir()
    pl.DataFrame(table | {f"x{i}": x[:, i] for i in range(columns)}).write_csv(folder / "p.csv")
    (folder / "made.toml").write_text(TOML)
    return read_cohort(folder / "made.toml", folder).at(0.0)


def test_a_crowd_of_columns_takes_a_stronger_ridge(tmp_path):
    few, many = (genes(tmp_path / str(n), n).followed("death") for n in (2, 300))
    choices = [LinearHazard.fit(posed(X, horizon=200.0)).choices["death"] for X in (few, many)]
    assert max(one.ridge for one in choices[0]) < min(one.ridge for one in choices[1])


def test_a_bend_loosens_the_hinges_and_a_straight_line_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(linear, "PENALTIES", {"hinge": 1e4})
    shape = {"straight": {"slope": 1.5}, "bent": {"slope": 0.0, "bend": 3.0}}
    for name, told in shape.items():
        X = genes(tmp_path / name, 4, patients=400, **told).followed("death")
        choices = LinearHazard.fit(posed(X, horizon=200.0)).choices["death"]
        assert [("hinge" in choice.loose) for choice in choices] == [name == "bent"] * 5


def test_where_nothing_is_told_nothing_is_learned(tmp_path):
    """Without a signal the forecasts hardly differ: the ridge reaches far enough."""
    X = genes(tmp_path / "null", 20, slope=0.0).followed("death")
    answer = LinearHazard.fit(posed(X, horizon=200.0)).forecast(build_graphs(X))["death"]
    risk = 1 - answer[:, :, 0].sum(2).exp().mean(0)
    assert float(risk.logit().std()) < 0.1


def test_a_diagnosis(tmp_path):
    X = genes(tmp_path / "grade", 8)
    fitted = LinearHazard.fit(posed(X, ("grade",)))
    answer = fitted.forecast(build_graphs(X))["grade"]
    assert answer.shape == (5, len(X), 2) and torch.allclose(answer.exp().sum(2), torch.ones(()).double())
    weight = fitted.scores["grade"].weight.abs().amax((0, 1))
    assert fitted.columns.names[int(weight.argmax())] == Column("gene", "last", "0")
    names = fitted.heads["grade"].classes
    high = answer.mean(0).argmax(1) == names.index("high")
    assert float((high.numpy() == (target_of(X, "grade").label == names.index("high"))).mean()) > 0.8
