"""The boosted family: its columns, its bins, its trees, and that nothing of a patient is in any of them."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from gnnpatient.cohort.build import build_graphs
from gnnpatient.graphs import Nodes, merge_codes
from gnnpatient.ingest.read import read_cohort
from gnnpatient.model.basis import fit_bases
from gnnpatient.model.model import ModelConfig
from gnnpatient.model.vocabulary import fit_vocabulary
from gnnpatient.prognosis import aggregates, boosted
from gnnpatient.prognosis.aggregates import MISSING, STATISTICS, VALUES, Aggregates, _edges, _series
from gnnpatient.prognosis.boosted import BoostedHazard, _least_rows, _person_periods, _sample
from gnnpatient.prognosis.inputs import last_landmarks
from gnnpatient.prognosis.kinds import target_of
from gnnpatient.prognosis.problem import FitConfig, Problem, draw_landmarks
from gnnpatient.prognosis.targets import LabelTarget
from gnnpatient.prognosis.trees import Trees

N, LEAST = 240, 10
SPEC = """
cohort = "drifting"
[patient]
table = "patients.csv"
key = "pid"
number = ["age"]
category = ["sex"]
[nodes.lab]
table = "labs.csv"
time = "day"
code = "code"
value = "value"
[nodes.drug]
table = "drugs.csv"
time = "start"
until = "stop"
code = "code"
value = "dose"
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { death = { time = "end", flag = "died" }, left = { time = "end", flag = "left" } }
"""


def drifting(folder):
    """Who has a rising value dies early; values have as many digits as a number holds."""
    rng = np.random.default_rng(0)
    slope = rng.normal(size=N)
    day = np.sort(rng.uniform(0, 9, (N, 6)).round(3), 1)
    value = 5 + rng.normal(size=(N, 1)) + 0.3 * slope[:, None] * day + 0.05 * rng.normal(size=(N, 6))
    end = 10 + rng.exponential(30 * np.exp(-1.2 * slope))
    who = np.repeat(np.arange(N), 6)
    patients = {"pid": np.arange(N), "age": rng.normal(60, 9, N), "sex": rng.choice(["f", "m"], N)}
    patients |= {"end": np.minimum(end, 60.0), "died": (end < 60) & (rng.random(N) < 0.8)}
    patients["left"] = (end < 60) & ~patients["died"]
    pl.DataFrame(patients).with_columns(pl.col("died", "left").cast(pl.Int8)).write_csv(
        folder / "patients.csv"
    )
    noise = {"pid": who, "day": day.ravel(), "code": "noise", "value": rng.normal(size=6 * N)}
    drift = {"pid": who, "day": day.ravel(), "code": "drift", "value": value.ravel()}
    pl.concat([pl.DataFrame(drift), pl.DataFrame(noise)]).write_csv(folder / "labs.csv")
    start = rng.uniform(0, 8, N).round(3)
    drugs = {"pid": np.arange(N), "start": start, "stop": (start + rng.exponential(4, N)).round(3)}
    drugs |= {"code": rng.choice(["a", "b"], N), "dose": rng.integers(1, 4, N)}
    pl.DataFrame(drugs).write_csv(folder / "drugs.csv")
    (folder / "drifting.toml").write_text(SPEC)
    return read_cohort(folder / "drifting.toml", folder)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return drifting(tmp_path_factory.mktemp("drifting"))


@pytest.fixture(scope="module")
def asks(cohort):
    return cohort.landmarks(times=[4.0, 7.0, 10.0, 15.0]).followed()


def posed(landmarks, **config):
    config = FitConfig(**{"members": 2, "min_patients": LEAST} | config)
    least, targets = config.min_patients, {"death": target_of(landmarks, "death")}
    graphs = build_graphs(last_landmarks(landmarks))
    bases = fit_bases(graphs, least)
    heads = {"death": targets["death"].head_config("death", landmarks, 40.0, 6, least)}
    vocabulary = fit_vocabulary(graphs, bases, least)
    where = torch.device("cpu")
    return Problem(landmarks, targets, heads, vocabulary, bases, ModelConfig(), config, where)


@pytest.fixture(scope="module")
def problem(asks):
    return posed(asks)


@pytest.fixture(scope="module")
def fitted(problem):
    return BoostedHazard.fit(problem)


def bits(family):
    return {name: tensor.numpy().tobytes() for name, tensor in family.tensors().items()}


# -- columns --


def slow_statistics(age, value, open_, duration):
    """What STATISTICS are of the rows of one code, one by one."""
    found = dict.fromkeys(STATISTICS, np.nan)
    moments = sorted(set(age))
    found |= {"since": min(age), "first": max(age), "count": len(age), "running": sum(open_)}
    found["gap"] = (max(age) - min(age)) / (len(moments) - 1) if len(moments) > 1 else np.nan
    found["duration"] = sum(duration)
    found["share"] = min(sum(duration) / max(age), 1.0) if max(age) > 0 else 0.0
    found["dose"] = sum(v * d for v, d in zip(value, duration, strict=True) if np.isfinite(v))
    given = [(a, v) for a, v in zip(age, value, strict=True) if np.isfinite(v)]
    if not given:
        return found
    values = [v for _, v in given]
    newest, oldest = min(a for a, _ in given), max(a for a, _ in given)
    last = np.mean([v for a, v in given if a == newest])
    found |= {"last": last, "mean": np.mean(values), "min": min(values), "max": max(values)}
    if len(values) > 1:
        found["sd"] = np.std(values, ddof=1)
    if oldest > newest:
        found["change"] = last - np.mean([v for a, v in given if a == oldest])
        found["slope"] = np.polyfit([-a for a, _ in given], values, 1)[0]
    return found


@st.composite
def rows_of_a_landmark(draw):
    day = st.integers(0, 6).map(float)
    number = st.one_of(st.just(float("nan")), st.integers(-5, 5).map(float))
    row = st.tuples(st.integers(0, 3), st.integers(0, 2), day, number, st.booleans(), day)
    return sorted(draw(st.lists(row, min_size=1, max_size=14)), key=lambda r: (r[0], -r[2]))


@given(rows_of_a_landmark())
def test_the_statistics_are_those_of_a_slow_reading(rows):
    owner, code, age, value, open_, duration = (list(column) for column in zip(*rows, strict=True))
    size, none = len(rows), torch.zeros(len(rows), dtype=torch.long)
    ptr = torch.tensor([0, *np.bincount(owner, minlength=4).cumsum().tolist()])
    floats = [torch.tensor(x, dtype=torch.float32) for x in (value, age, duration)]
    nodes = Nodes(ptr, torch.tensor(code), floats[0], floats[1], torch.tensor(owner), none,
                  torch.tensor(open_), none - 1, torch.zeros(size, 0), duration=floats[2])  # fmt: skip
    part = _series(nodes)
    slots = list(zip(part.owner.tolist(), part.item.tolist(), strict=True))
    assert slots == sorted(set(zip(owner, code, strict=True)))
    for slot, found in zip(slots, part.values, strict=True):
        mine = [i for i in range(size) if (owner[i], code[i]) == slot]
        hidden = [value[i] if code[i] else float("nan") for i in mine]
        of = slow_statistics([age[i] for i in mine], hidden, [open_[i] for i in mine],
                             [duration[i] for i in mine])  # fmt: skip
        np.testing.assert_allclose(found, [of[name] for name in STATISTICS], atol=1e-9)


def test_the_columns_are_where_their_names_say(problem, asks):
    rows = asks[::7]
    graphs, words = build_graphs(rows), problem.vocabulary
    table = Aggregates.fit(graphs, rows.patient, words, problem.bases, LEAST)
    x, merged = table.values(graphs), merge_codes(graphs, words.codes, words.above)
    assert {"lab drift slope", "drug a duration", "patient age last", "patient sex = f last"} <= set(
        table.names
    )
    for name, column in zip(table.names, x.T, strict=True):
        block, *item, statistic = name.split(" ", 2) if block_of(name) else name.rsplit(" ", 1)
        if block in words.codes:
            nodes, code = merged[block], words.codes[block].index(item[0])
            part = _series(nodes)
            mine = part.item == code
            want = np.full(len(rows), 0.0 if statistic in STATISTICS[10:] else np.nan)
            want[part.owner[mine]] = part.values[mine, STATISTICS.index(statistic)]
        elif name == "patient age last":
            want = graphs.statics.number[:, 0].numpy()
        elif name.startswith("patient sex = "):
            want = (graphs.statics.category[:, 0] == graphs.levels["sex"].index(name.split()[3])).float()
        else:
            continue
        np.testing.assert_array_equal(column, np.asarray(want, np.float32), err_msg=name)


def block_of(name):
    return name.split(" ", 1)[0] in ("lab", "drug")


# -- bins --


def test_each_bin_is_of_enough_patients_and_no_edge_is_a_value(problem, asks):
    family, sample = _sample(problem, np.random.default_rng(0))
    for name, bins in zip(family.names, sample.bins.T, strict=True):
        found = np.unique(bins[bins != MISSING])
        assert len(found) > 1, name
        for one in found:
            assert len(np.unique(sample.patient[bins == one])) >= LEAST, name
    values = family.values(build_graphs(asks))
    of = np.array([name.startswith(("lab", "patient age")) and name.split()[-1] in VALUES
                   for name in family.names])  # fmt: skip
    edges, exact = family.edges[of], np.unique(values[:, of])
    edges = edges[np.isfinite(edges)]
    assert len(edges) > 50 and not np.isin(edges, exact).any(), "no patient's exact value is kept"
    assert np.mean([len(f"{edge:.7g}".strip("-0.")) for edge in edges.tolist()]) < 4, "rounded"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), min_size=1, max_size=80), st.integers(1, 4))
def test_edges_part_the_patients(rows, least):
    patient, x = (np.array(column) for column in zip(*rows, strict=True))
    edges = _edges(x.astype(np.float32), patient, least)
    kept = edges[np.isfinite(edges)]
    assert (np.diff(kept) > 0).all() and np.isinf(edges[len(kept) :]).all()
    bins = np.searchsorted(kept, x, "left")
    if len(kept):
        assert min(len(np.unique(patient[bins == one])) for one in range(len(kept) + 1)) >= least


# -- trees --


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_the_evaluator_equals_scikit_learn(classes):
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    rng = np.random.default_rng(classes)
    bins = rng.integers(0, 30, (600, 7)).astype(np.uint8)
    bins[rng.random(bins.shape) < 0.3] = MISSING
    x = np.where(bins == MISSING, np.nan, bins)
    y = np.nan_to_num(x[:, 0], nan=20.0) - np.nan_to_num(x[:, 1]) + 5 * rng.normal(size=600)
    options = {"max_leaf_nodes": 8, "max_iter": 20, "max_bins": 32, "early_stopping": False}
    if classes:
        label = np.searchsorted(np.quantile(y, np.arange(1, classes) / classes), y)
        model = HistGradientBoostingClassifier(**options).fit(x, label)
        expected = model.decision_function(x).reshape(len(x), -1)
    else:
        model = HistGradientBoostingRegressor(loss="poisson", **options).fit(x, y.clip(0))
        expected = np.log(model.predict(x))[:, None]
    trees = Trees.of(model)
    assert len(trees) == 20 * max(1, classes if classes > 2 else 1)
    np.testing.assert_allclose(trees(bins), expected, atol=1e-7)
    assert np.ptp(expected) > 1
    loaded = Trees.load(trees.tensors(), expected.shape[1], bins.shape[1])
    assert np.array_equal(loaded(bins), trees(bins))
    both = Trees.cat([trees, Trees.constant(np.array([3.0])), trees])(bins)
    assert np.array_equal(both, np.hstack([trees(bins), np.full((600, 1), 3.0), trees(bins)]))
    assert np.array_equal(trees(bins[5:6]), trees(bins)[5:6]), "alone or together"


def test_trees_of_other_tables_are_refused(fitted):
    trees = fitted.trees["death"][0]
    good = trees.tensors()
    for name, wrong in {
        "feature": good["feature"] + 1000,
        "output": good["output"] - 1,
        "value": good["value"][:, :3],
        "threshold": good["threshold"].long(),
    }.items():
        with pytest.raises(ValueError, match="trees"):
            Trees.load(good | {name: wrong}, 2, len(fitted.aggregates) + 1)
    with pytest.raises(ValueError, match="hazards"):
        load(fitted, {"0.hazards": -fitted.tensors()["0.hazards"]})
    with pytest.raises(ValueError, match="columns"):
        load(fitted, {"aggregates.columns": fitted.tensors()["aggregates.columns"] + 100})


def test_a_leaf_is_of_enough_patients(problem, fitted):
    """Each leaf that a training row reaches is reached by rows of ten patients at least."""
    rng = np.random.default_rng([problem.config.seed, 0])
    _, sample = _sample(problem, rng)
    target, times = problem.targets["death"], problem.heads["death"].times
    for member, trees in enumerate(fitted.trees["death"]):
        mine = sample.drawn(rng).take(problem.train(member), target.known)
        rng.integers(2**31)  # the seed of the member's trees
        of = fitted.hazards["death"][member], fitted.bands["death"]
        rows = _person_periods(target, mine, times, *of)
        assert len(trees) > 10
        for leaf in trees.leaves(rows.bins):
            counts = [len(np.unique(rows.patient[leaf == one])) for one in np.unique(leaf)]
            assert len(counts) > 1 and min(counts) >= LEAST


def test_who_has_most_rows_does_not_fill_a_leaf():
    patient = np.concatenate([np.repeat(np.arange(9), 200), np.arange(9, 400)])
    assert _least_rows(patient, LEAST) > 9 * 200, "the nine with most rows are not ten patients"
    assert _least_rows(np.arange(600), 1) == boosted.LEAF_PATIENTS


def test_few_landmarks_of_many_stand_for_all():
    """Those of patients with an early end are few: each draw is weighted so that they count as they did."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(300), rng.integers(1, 30, 300))
    rows, weight = draw_landmarks(patient, 8, 10**6, rng)
    assert np.bincount(patient[rows]).max() == 8 and len(np.unique(rows)) == len(rows)
    np.testing.assert_allclose(np.bincount(patient[rows], weight), np.bincount(patient))
    fewer, _ = draw_landmarks(patient, 8, 500, rng)
    assert len(fewer) == 500 and set(np.bincount(patient[fewer])) <= {1, 2}


# -- hazards --


def test_without_trees_the_answer_is_the_marginal_model(problem, monkeypatch):
    monkeypatch.setattr(boosted, "_grow", lambda *_: None)
    family = BoostedHazard.fit(problem)
    log_hazard = family.forecast(build_graphs(problem.landmarks[:3]))["death"].exp().numpy()
    for member in range(family.members):
        start = problem.start("death", problem.train(member))
        for one in log_hazard[member]:
            np.testing.assert_allclose(one[1:], start.clip(boosted.MIN_HAZARD), rtol=1e-4)


def test_events_are_as_expected_where_hazards_are(problem):
    """Events that come in the distribution of the expected hazards, at the ends of coarse intervals."""
    rng, n = np.random.default_rng(0), 40_000
    times, bands = (1.0, 2.0, 3.0), np.array([0, 1, 2])
    hazard = np.array([[0.3, 0.2, 0.4], [0.1, 0.2, 0.05]])
    expected = hazard / hazard.sum(0) * -np.log1p(-hazard.sum(0))
    event, time = np.zeros(n, np.int64), np.full(n, 3.0)
    for j in (2, 1, 0):
        u = rng.random(n)
        here = u < hazard[:, j].sum()
        event = np.where(here, np.where(u < hazard[0, j], 1, 2), event)
        time = np.where(here, times[j], time)
    target = replace(problem.targets["death"], event=event, time=time)
    rows = np.arange(n)
    sample = boosted._Sample(rows, rows, np.ones(n), np.zeros((n, 1), np.uint8))
    table = _person_periods(target, sample, times, expected, bands)
    for band in bands:
        mine = table.bins[:, -1] == band
        events, due = (table.target * table.weight)[mine].sum(0), table.weight[mine].sum(0)
        np.testing.assert_allclose(events / due, 1.0, atol=0.05)


def test_a_drift_is_learned_and_slots_sum_to_one(cohort, fitted, asks):
    found = fitted.forecast(build_graphs(asks))["death"]
    assert found.shape == (2, len(asks), 3, 6) and found.dtype == torch.float32
    assert (found.exp().sum(2) - 1).abs().max() < 1e-5
    slope = np.random.default_rng(0).normal(size=N)[asks.ids.astype(int)]
    risk = found[:, :, 1].exp().sum(-1).mean(0).numpy()
    assert np.corrcoef(np.log(risk), slope)[0, 1] > 0.6


def test_a_member_knows_nothing_of_its_fold(problem, fitted):
    """Everybody held out dies at once: the member's bits stay, those of another member do not."""
    target, held_out = problem.targets["death"], problem.held_out(0)
    event, time = target.event.copy(), target.time.copy()
    event[held_out], time[held_out] = 1, 0.01
    other = replace(problem, targets={"death": replace(target, event=event, time=time)})
    vars(other)["folds"] = problem.folds  # which spread the events
    before, after = bits(fitted), bits(BoostedHazard.fit(other))
    mine = [name for name in before if name.startswith(("0.0.", "aggregates"))]
    assert mine and all(before[name] == after[name] for name in mine)
    size = len(before["0.hazards"]) // fitted.members
    assert before["0.hazards"][:size] == after["0.hazards"][:size]
    assert before["0.hazards"] != after["0.hazards"]
    assert any(before[name] != after[name] for name in before if name.startswith("0.1."))


def test_the_same_bits_on_any_number_of_threads(problem, fitted):
    with threadpool_limits(3):
        again = BoostedHazard.fit(problem)
    assert bits(again) == bits(fitted)
    assert bits(BoostedHazard.fit(replace(problem, config=replace(problem.config, seed=1)))) != bits(fitted)


def test_alone_or_together_and_one_member(fitted, asks):
    together = fitted.forecast(build_graphs(asks))["death"]
    for i in (0, 3, len(asks) - 1):
        assert torch.equal(fitted.forecast(build_graphs(asks[i : i + 1]))["death"][:, 0], together[:, i])
    assert torch.equal(fitted.forecast(build_graphs(asks), [1])["death"][0], together[1])


def test_a_patient_of_whom_nothing_is_known_has_an_answer(fitted, cohort):
    graphs = build_graphs(cohort.at(0.0))
    assert fitted.forecast(graphs)["death"].isfinite().all()


# -- classes --


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_are_told_apart(classes):
    rng, n = np.random.default_rng(0), 600
    bins = rng.integers(0, 30, (n, 4)).astype(np.uint8)
    label = np.where(rng.random(n) < 0.9, bins[:, 0] * (classes - 1) // 16, 0).clip(0, classes - 1)
    target = LabelTarget(("a", "b", "c", "nobody")[: classes + 1], label.astype(np.int64))
    rows = np.arange(n)
    learn, stop = (
        boosted._Sample(part, part, np.ones(len(part)), bins[part]) for part in (rows[:450], rows[450:])
    )
    share = np.append(np.bincount(label, minlength=classes) / n, 0.0)
    trees = boosted._grow_classes(target, learn, stop, share, LEAST, 0)
    chance = torch.from_numpy(trees(bins)).softmax(1).numpy()
    assert chance.shape == (n, classes + 1) and (chance[:, -1] < 0.01).all(), "a class that nobody had"
    assert (chance.argmax(1) == label).mean() > 0.85
    few = boosted._grow_classes(target, learn.take(rows[:1], target.known), stop, share, LEAST, 0)
    np.testing.assert_allclose(few(bins[:1])[0, :-1], np.log(share[:-1]))


def test_of_a_class_or_cause_of_few_patients_nothing_is_grown(problem):
    rng, rows = np.random.default_rng(0), np.arange(400)
    bins = rng.integers(0, 30, (400, 3)).astype(np.uint8)
    label = np.where(bins[:, 0] > 15, 1, 0)
    label[:9] = 2
    parts = [boosted._Sample(part, part, np.ones(len(part)), bins[part]) for part in (rows[:300], rows[300:])]
    share = np.array([0.5, 0.47, 0.03])
    chance = torch.from_numpy(
        boosted._grow_classes(LabelTarget(("a", "b", "c"), label), *parts, share, LEAST, 0)(bins)
    ).softmax(1)
    assert chance[:, 0].std() > 0.2 and abs(chance[:, 2].mean() - 0.03) < 0.01
    time = rng.exponential(np.where(bins[:, 0] > 15, 1.0, 9.0)).clip(0.01, 4)
    event = np.where(time < 4, np.where(rows < 9, 2, 1), 0)
    target = replace(problem.targets["death"], event=event, time=time)
    expected, bands = np.full((2, 4), 0.1), np.array([0, 1, 2, 2])
    tables = [_person_periods(target, part, (1.0, 2.0, 3.0, 4.0), expected, bands) for part in parts]
    trees = boosted._grow_hazards(*tables, LEAST, 0)
    assert set(trees.output) == {0} and trees.start[1] == 0
    assert set(boosted._grow_hazards(*tables[:1] * 2, 1, 0).output) == {0, 1}


# -- on disk --


def load(family, changed=None):
    tensors = family.tensors() | (changed or {})
    known = family.aggregates.vocabulary, family.aggregates.bases, family.heads
    return BoostedHazard.load(family.facts(), tensors, *known)


def test_what_is_loaded_answers_the_same(fitted, asks):
    graphs, again = build_graphs(asks), load(fitted)
    assert again.members == fitted.members and bits(again) == bits(fitted)
    assert torch.equal(again.forecast(graphs)["death"], fitted.forecast(graphs)["death"])


FORECAST = """
import sys
from gnnpatient import load_predictor, open_cohort
asks = open_cohort({cohort!r}).at(10.0)
load_predictor({model!r}).forecast(asks)
print(*(name for name in sys.modules if name.partition(".")[0] == "sklearn"))
"""


def test_a_saved_model_answers_without_scikit_learn(cohort, asks, tmp_path):
    from gnnpatient import PrognosisModel

    model = PrognosisModel(families=("boosted",), members=1, horizon=40.0).fit(asks)
    model.save_pretrained(tmp_path / "model")
    cohort.save(tmp_path / "cohort")
    code = FORECAST.format(cohort=str(tmp_path / "cohort"), model=str(tmp_path / "model"))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""


def test_wide_tables_are_cut_to_what_most_have(problem, asks, monkeypatch):
    monkeypatch.setattr(aggregates, "MAX_COLUMNS", 5)
    graphs = build_graphs(asks)
    table = Aggregates.fit(graphs, asks.patient, problem.vocabulary, problem.bases, LEAST)
    assert len(table) == 5
    assert np.isfinite(table.values(graphs)).mean() > 0.9


def test_a_value_as_large_as_a_number_may_be_is_not_missing(problem, fitted):
    """A change from the lowest to the highest is more than a float32 holds."""
    graphs, most = build_graphs(problem.landmarks[:50]), torch.finfo(torch.float32).max
    nodes = {
        kind: replace(one, value=torch.where(torch.arange(len(one)) % 3 > 0, most, -most))
        for kind, one in graphs.nodes.items()
    }
    table = fitted.aggregates.values(replace(graphs, nodes=nodes))
    changes = [i for i, name in enumerate(fitted.aggregates.names) if name.endswith("change")]
    assert changes and (table[:, changes] == most).any() and not np.isinf(table).any()
