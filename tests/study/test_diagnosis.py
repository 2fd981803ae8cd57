"""A diagnosis scored: figures known beforehand, its rival, and whether fusion helps to tell it."""

import json
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pytest

from gnnpatient import metrics

TOML = """
cohort = "made"
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
[nodes.vital]
table = "vitals.csv"
time = "day"
columns = { pulse = "1/min" }
[outcomes.icu]
kind = "diagnosis"
table = "patients.csv"
column = "icu"
classes = { N = "no", Y = "yes" }
known = "icu_day"
[outcomes.grade]
kind = "diagnosis"
table = "patients.csv"
column = "grade"
classes = { a = "low", b = "middle", c = "high" }
[outcomes.seen]
kind = "diagnosis"
table = "patients.csv"
column = "icu"
classes = { N = "no", Y = "yes" }
when = "same"
inputs = ["vital"]
"""
METRICS = {"auc", "auprc", "brier", "oe", "slope", "ici"}


def made(folder, lab=1.5, vital=0.0, shuffled=False, n=300, seed=0):
    """One row of each kind on day 0; the log odds of icu are 2 * (lab * its value + vital * its value)."""
    from gnnpatient import read_cohort

    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n))
    yes = rng.random(n) < 1 / (1 + np.exp(-2 * (lab * x + vital * y)))
    yes = rng.permutation(yes) if shuffled else yes
    pid = np.array([f"p{i:03d}" for i in range(n)])
    patients = {
        "pid": pid,
        "age": rng.normal(60, 9, n),
        "sex": rng.choice(["f", "m"], n),
        "icu": np.where(rng.random(n) < 0.1, "?", np.where(yes, "Y", "N")),
        "icu_day": rng.uniform(2, 9, n),
        "grade": np.array(["a", "b", "c"])[np.digitize(x, [-0.4, 0.4])],
    }
    pl.DataFrame(patients).write_csv(folder / "patients.csv")
    labs = {"pid": pid, "day": 0.0, "code": "crp", "value": x + rng.normal(0, 0.2, n)}
    pl.DataFrame(labs).write_csv(folder / "labs.csv")
    pl.DataFrame({"pid": pid, "day": 0.0, "pulse": y + rng.normal(0, 0.2, n)}).write_csv(
        folder / "vitals.csv"
    )
    (folder / "made.toml").write_text(TOML)
    return read_cohort(folder / "made.toml", folder)


@dataclass(eq=False)
class Says:
    """A model whose probability of each class is `probability(X)`: (ask, class)."""

    outcome: str
    probability: object

    def forecast(self, X):
        from gnnpatient import DiagnosisForecast

        classes = X.cohort.outcomes[self.outcome].classes
        said = np.broadcast_to(self.probability(X), (len(X), len(classes)))
        one = DiagnosisForecast(self.outcome, classes, said, X.ids, X.days, np.ones(len(X), bool))
        return {self.outcome: one}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return made(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(1).uniform(0.1, 0.9, 300)


@pytest.fixture(scope="module")
def scored(cohort, noise):
    """Three folds by patient: an oracle, noise, a constant in each fold, the null."""
    from gnnpatient.study.baselines import ClassPrior
    from gnnpatient.study.scoreboard import ModelRisks

    asks = cohort.landmarks(times=[0.5, 3.0]).followed("icu")
    label = cohort.outcomes["icu"].label
    parts = []
    for fold in range(3):
        models = {
            "gnn": Says("icu", lambda X: np.eye(2)[label[X.patient]]),
            "logistic": Says("icu", lambda X: np.stack([1 - noise[X.patient], noise[X.patient]], 1)),
            "fold": Says("icu", lambda X, p=0.2 + 0.3 * fold: np.array([[1 - p, p]])),
            "null": ClassPrior("icu", ("no", "yes"), np.array([0.5, 0.5])),
        }
        parts.append((models, asks[asks.patient % 3 == fold]))
    return ModelRisks.of(parts, "icu")


@pytest.fixture(scope="module")
def result(scored):
    from gnnpatient.study.evaluate import evaluate

    return evaluate(scored, outcome="icu", horizons=[], against=("gnn", "logistic"), n=20)


def test_one_row_a_figure(result, scored):
    keys = [(r["model"], r["landmark"], r["cause"], r["metric"]) for r in result.rows]
    assert len(set(keys)) == len(keys)
    assert {r["model"] for r in result.rows} == {"gnn", "logistic", "fold", "null", "gnn-logistic"}
    assert {r["metric"] for r in result.rows} == {*METRICS, "scaled_brier"}
    assert {(r["horizon"], r["cause"]) for r in result.rows} == {(None, "yes")}
    assert {r["landmark"] for r in result.rows} == {0.5, 3.0, None}
    pairs = {r["metric"] for r in result.rows if r["model"] == "gnn-logistic"}
    assert pairs == {"auc", "auprc", "brier", "scaled_brier"}
    label = scored.landmarks.cohort.outcomes["icu"].label[np.unique(scored.landmarks.patient)]
    assert result.events == {"no": (label == 0).sum(), "yes": (label == 1).sum()}
    assert result.patients == sum(result.events.values())


def test_an_oracle_is_perfect_and_the_null_is_nothing(result):
    for landmark in (0.5, 3.0, None):
        for metric, best in (("auc", 1), ("brier", 0), ("scaled_brier", 1)):
            row = result.value("gnn", metric, landmark=landmark)
            assert row["value"] == row["low"] == row["high"] == best
        assert result.value("null", "auc", landmark=landmark)["value"] == 0.5
        assert result.value("null", "scaled_brier", landmark=landmark)["value"] == 0
    assert result.value("gnn", "oe", landmark=0.5)["value"] == pytest.approx(1)


def test_pairs_are_within_folds(result, scored):
    from gnnpatient.study.evaluate import evaluate

    row = result.value("fold", "auc", landmark=0.5)
    assert row["value"] == row["low"] == row["high"] == 0.5
    pooled = replace(scored, fold=np.zeros_like(scored.fold))
    whole = evaluate(pooled, outcome="icu", horizons=[], n=2)
    assert whole.value("fold", "auc", landmark=0.5)["value"] != 0.5


def test_figures_by_hand(result, scored, noise, cohort):
    rows = scored.landmarks.days == 0.5
    case = cohort.outcomes["icu"].label[scored.landmarks.patient[rows]] == 1
    p, fold = noise[scored.landmarks.patient[rows]], scored.fold[rows]
    won = [
        (a > b) + 0.5 * (a == b)
        for a, f in zip(p[case], fold[case], strict=True)
        for b, g in zip(p[~case], fold[~case], strict=True)
        if f == g
    ]
    found = {m: result.value("logistic", m, landmark=0.5)["value"] for m in METRICS}
    assert found["auc"] == pytest.approx(np.mean(won))
    assert found["brier"] == pytest.approx(np.mean((p - case) ** 2))
    assert found["oe"] == pytest.approx(case.mean() / p.mean())
    both = result.value("logistic", "scaled_brier", landmark=0.5)["value"]
    assert both == pytest.approx(1 - np.mean((p - case) ** 2) / 0.25)
    # a label is an event that nothing censors: the same as survival followed by everybody
    when, event = np.where(case, 1.0, 3.0), case.astype(int)
    assert found["slope"] == pytest.approx(metrics.calibration_slope(p, when, event, 2.0))
    assert found["ici"] == pytest.approx(metrics.ici(p, when, event, 2.0))
    assert found["oe"] == pytest.approx(metrics.observed_expected(p, when, event, 2.0))


def test_each_class_against_the_rest_where_there_are_more(cohort):
    from gnnpatient.study.evaluate import evaluate
    from gnnpatient.study.scoreboard import ModelRisks

    label = cohort.outcomes["grade"].label
    soft = np.array([[0.6, 0.3, 0.1], [0.3, 0.4, 0.3], [0.2, 0.2, 0.6]])
    asks = cohort.at(1.0).followed("grade")
    part = ({"gnn": Says("grade", lambda X: soft[label[X.patient]])}, asks)
    result = evaluate(ModelRisks.of([part], "grade"), outcome="grade", horizons=[], by=["sex"], n=2)
    for k, name in enumerate(("low", "middle", "high")):
        case, p = label[asks.patient] == k, soft[label[asks.patient], k]
        one = result.value("gnn", "brier", cause=name, group=None)["value"]
        assert one == pytest.approx(np.mean((p - case) ** 2))
        assert result.value("gnn", "auc", cause=name, group=None)["value"] > 0.8
    assert {row["group"] for row in result.rows} == {None, "sex=f", "sex=m"}


def test_an_ask_without_a_label_is_not_scored(cohort):
    """With a horizon, who is not observed long enough is at risk and has no label, but tells of censoring.

    His risk is part of what is expected (O/E) and of the mean distance from the smooth (ICI) alone.
    """
    from gnnpatient import InputError
    from gnnpatient.study.evaluate import evaluate
    from gnnpatient.study.scoreboard import ModelRisks

    icu = cohort.outcomes["icu"]
    known = np.where(icu.label == 1, icu.known, np.iinfo(np.int64).max)
    end = np.where(np.arange(300) % 2, 20 * 86_400, 3 * 86_400)
    coming = replace(icu, label=np.maximum(icu.label, 0), known=known, end=end, horizon=7 * 86_400)
    some = replace(cohort, outcomes={"icu": coming})
    asks = some.at(0.5).followed("icu")
    label = asks.outcome("icu")["label"]
    assert (label < 0).sum() > 20 and (label == 0).sum() > 20

    def evaluated(X, seen):
        said = Says("icu", lambda X: np.stack([1 - seen[X.patient], seen[X.patient]], 1))
        return evaluate(ModelRisks.of([({"gnn": said}, X)], "icu"), outcome="icu", horizons=[], n=10)

    seen = np.random.default_rng(0).random(300)
    other = seen.copy()
    other[asks.patient[label < 0]] = 0.99
    whole = evaluated(asks, seen)
    assert {row["horizon"] for row in whole.rows} == {7.0} and whole.patients == (label >= 0).sum()
    mean = {"oe", "ici"}
    rest = [row for row in evaluated(asks, other).rows if row["metric"] not in mean]
    assert rest == [row for row in whole.rows if row["metric"] not in mean]
    event, time = coming.course(asks.patient, asks.at)
    by_hand = metrics.brier(seen[asks.patient], time, event, 7.0)
    assert whole.value("gnn", "brier", landmark=0.5)["value"] == pytest.approx(by_hand)
    alone = evaluated(asks[label >= 0], seen).value("gnn", "brier", landmark=0.5)["value"]
    assert abs(alone - by_hand) > 1e-3, "as if nobody had been lost"
    with pytest.raises(InputError, match="no landmark has a label of 'icu'"):
        evaluated(asks[label < 0], seen)


def test_moments_of_its_own_are_one_figure(cohort):
    from gnnpatient.cohort.outcomes import Task
    from gnnpatient.study.evaluate import evaluate
    from gnnpatient.study.scoreboard import ModelRisks

    rng = np.random.default_rng(0)
    patient, at = np.arange(300), rng.integers(1, 9 * 86_400, 300)
    label = rng.integers(0, 2, 300).astype(np.int16)
    one = replace(cohort, outcomes={"task": Task(patient, at, label, 300)})
    p = rng.random(300)
    said = Says("task", lambda X: np.stack([1 - p[X.patient], p[X.patient]], 1))
    result = evaluate(
        ModelRisks.of([({"gnn": said}, one.moments("task"))], "task"), outcome="task", horizons=[], n=5
    )
    assert {row["landmark"] for row in result.rows} == {None}
    pairs = p[label == 1][:, None] > p[label == 0]
    assert result.value("gnn", "auc")["value"] == pytest.approx(pairs.mean())


# ---- the rival


def test_the_rival_is_a_ridge_logistic_regression(cohort):
    """Its probabilities from its coefficients, features by hand."""
    from gnnpatient.study.baselines import StackedLogistic

    train = cohort.landmarks(np.arange(200), times=[0.5]).followed("icu")
    test = cohort.landmarks(np.arange(200, 300), times=[0.5])
    model = StackedLogistic(outcomes=["icu"]).fit(train)
    said = model.forecast(test)["icu"]
    assert np.allclose(said.probability[said.at_risk].sum(1), 1) and said.classes == ("no", "yes")
    asked = test.followed("icu")
    case = asked.outcome("icu")["label"] == 1
    risk = model.forecast(asked)["icu"].risk()
    assert (risk[case][:, None] > risk[~case]).mean() > 0.85
    for more, less in ((0.01, 1e6),):  # the ridge shrinks it to the share of the training asks
        flat = StackedLogistic(outcomes=["icu"], ridge=less).fit(train).forecast(asked)["icu"].risk()
        sharp = StackedLogistic(outcomes=["icu"], ridge=more).fit(train).forecast(asked)["icu"].risk()
        share = (train.outcome("icu")["label"] == 1).mean()
        assert np.abs(flat - share).max() < 0.01 and sharp.std() > risk.std()


def test_the_rival_learns_from_training_asks_alone(cohort):
    from gnnpatient.study.baselines import StackedLogistic

    train = cohort.landmarks(np.arange(200), times=[0.5, 1.5]).followed("icu")
    test = cohort.landmarks(np.arange(200, 300), times=[0.5]).followed("icu")
    before = StackedLogistic(outcomes=["icu"]).fit(train)
    lab = cohort.events["lab"]
    shifted = replace(lab, value=np.where(lab.patient >= 200, lab.value + 50, lab.value))
    icu = cohort.outcomes["icu"]
    flipped = replace(icu, label=np.where(np.arange(300) >= 200, 1 - np.abs(icu.label), icu.label))
    other = replace(cohort, events={**cohort.events, "lab": shifted}, outcomes={"icu": flipped})
    after = StackedLogistic(outcomes=["icu"]).fit(replace(train, cohort=other))
    assert np.array_equal(before.forecast(test)["icu"].risk(), after.forecast(test)["icu"].risk())


def test_the_rival_of_what_is_read_from_its_inputs_sees_them_alone(cohort):
    from gnnpatient.study.baselines import StackedLogistic

    train, test = cohort.at(0.5)[:200].followed("seen"), cohort.at(0.5)[200:].followed("seen")
    lab = cohort.events["lab"]
    other = replace(cohort, events={**cohort.events, "lab": replace(lab, value=-lab.value)})
    model, again = (StackedLogistic(outcomes=["seen"]).fit(replace(train, cohort=c)) for c in (cohort, other))
    risks = [model.forecast(replace(test, cohort=c))["seen"].risk() for c in (cohort, other)]
    assert np.array_equal(*risks) and np.ptp(risks[0]) > 0
    assert np.array_equal(again.forecast(test)["seen"].risk(), risks[0]), "nor is it fitted on others"


def test_the_rival_of_three_classes_and_of_one_that_is_not_there(cohort):
    from gnnpatient import InputError
    from gnnpatient.study.baselines import StackedLogistic

    asks = cohort.at(1.0).followed("grade")
    label = asks.outcome("grade")["label"]
    said = StackedLogistic(outcomes=["grade"]).fit(asks[:200]).forecast(asks[200:])["grade"]
    assert (said.probability.argmax(1) == label[200:]).mean() > 0.6
    lacking = StackedLogistic(outcomes=["grade"]).fit(asks[label != 1]).forecast(asks)["grade"]
    assert (lacking.risk("middle") == 0).all() and np.allclose(lacking.probability.sum(1), 1)
    with pytest.raises(InputError, match="fewer than two classes"):
        StackedLogistic(outcomes=["grade"]).fit(asks[label == 1])
    with pytest.raises(InputError, match="several classes; name one of low, middle, high"):
        lacking.risk()
    with pytest.raises(InputError, match="unknown class 'hi' of 'grade'"):
        lacking.risk("hi")


# ---- does fusion help?

LINEAR = {"families": ("linear",)}  # what is told by values needs no more


def judged(cohort, outcome="icu", models=(), **how):
    from gnnpatient.prognosis.linear import Choice
    from gnnpatient.study.compare import compare

    plan = {"folds": 2, "inner": 2, "members": 1, "channels": 8, "epochs": 1, "landmarks": [0.1], "n": 40}
    with pytest.MonkeyPatch.context() as patch:  # few landmarks, a given ridge: a twentieth of the time
        patch.setattr("gnnpatient.prognosis.run.RANDOM_LANDMARKS", 3)
        choose = lambda learning: [Choice(1.6, ())] * len(learning.problem.folds)  # noqa: E731
        patch.setattr("gnnpatient.prognosis.linear._Learning.choose", choose)
        return compare(cohort, outcome, models=models, **{**plan, "choices": LINEAR, **how})


@pytest.fixture(scope="module")
def helped(tmp_path_factory):
    """Both kinds tell, and every comparator is asked twice."""
    cohort = made(tmp_path_factory.mktemp("both"), lab=1.3, vital=1.3, n=200)
    return judged(cohort, models=None, landmarks=[0.1, 0.6])


def test_every_comparator_answers_a_diagnosis(helped):
    names = set(helped.risks.risks)
    assert {"gnn", "only lab", "only vital", "gru", "late", "clockwork", "values", "presence"} < names
    assert {"statics", "best single", "null"} < names
    assert helped.cause == "yes" and helped.horizons == ()
    single = [helped.risks.risks[f"only {kind}"]["yes"] for kind in ("lab", "vital")]
    np.testing.assert_allclose(helped.risks.risks["late"]["yes"], np.mean(single, 0), atol=1e-6)
    said = json.loads(json.dumps(helped.to_dict()))
    assert set(said["primary"]) >= {"auc", "scaled_brier", "p", "holm", "verdict"}
    assert all(0 <= found["p"] <= found["holm"] <= 1 for found in said["left_out"])
    assert abs(helped.value("clockwork", "auc")["value"] - 0.5) < 0.15  # a row a kind each, for everybody


def test_figures_and_intervals_are_those_of_evaluate(helped):
    from gnnpatient.study.evaluate import evaluate

    known = evaluate(helped.risks, outcome="icu", horizons=[], against=("gnn", "best single"), n=40, seed=0)
    compared = 0
    for row in helped.rows:
        if "-" in row["model"] and row["model"] != "gnn-best single":
            continue
        other = known.value(row["model"], row["metric"], landmark=row["landmark"], cause="yes")
        for key in ("value", "low", "high"):
            assert row[key] == pytest.approx(other[key], abs=1e-9)
            compared += 1
    assert compared > 300


def test_a_strong_second_kind_is_found(helped):
    assert helped.primary["verdict"] == "helps"
    assert (
        " helps to forecast yes (icu): AUC +0." in helped.sentence and "scaled Brier +0." in helped.sentence
    )
    assert all(one["verdict"] == "helps" for one in helped.left_out)
    assert helped.too_small is None or helped.too_small in helped.sentences


@pytest.mark.usefixtures("unchecked")
def test_of_shuffled_labels_nothing_is_said(tmp_path):
    found = judged(made(tmp_path, lab=1.3, vital=1.3, shuffled=True, n=160))
    assert found.sentence.startswith("no evidence that ")
    assert all(one["verdict"] != "helps" for one in found.left_out)
    assert found.too_small is None or "scored patients with" in found.too_small


@pytest.mark.usefixtures("unchecked")
def test_where_one_kind_tells_all_there_is_no_evidence(tmp_path):
    found = judged(made(tmp_path, lab=2.0, n=200))
    assert set(found.best_unimodal) == {"lab"} and found.primary["verdict"] != "helps"
    assert {one["kind"]: one["verdict"] for one in found.left_out}["lab"] == "helps"


def test_missing_curve_and_pattern_of_a_diagnosis(helped):
    from gnnpatient.study.missingness import missing_curve, pattern_only

    rows = missing_curve(helped, "lab", (0.0, 1.0), n=5)
    value = {(row["share"], row["metric"]): row["value"] for row in rows}
    assert value[0.0, "auc"] == pytest.approx(helped.value("gnn", "auc")["value"], abs=1e-9)
    assert value[1.0, "auc"] < value[0.0, "auc"] - 0.05
    assert [row["metric"] for row in pattern_only(helped)] == ["auc", "scaled_brier"]


READ = """
[nodes.report]
table = "reports.csv"
time = "day"
code = "code"
value = "value"
[outcomes.read]
kind = "diagnosis"
table = "patients.csv"
column = "icu"
classes = { N = "no", Y = "yes" }
when = "same"
inputs = ["lab", "vital"]
"""


@pytest.mark.usefixtures("unchecked")
def test_what_is_read_now_is_compared_on_its_inputs_alone(tmp_path):
    """A report says the label itself, and is no input: no comparator sees it."""
    from gnnpatient import InputError, read_cohort
    from gnnpatient.study.compare import run_compare

    made(tmp_path, lab=1.3, vital=1.3)
    patients = pl.read_csv(tmp_path / "patients.csv")
    said = (patients["icu"] == "Y").cast(int)
    reports = patients.select("pid", day=pl.lit(0.0), code=pl.lit("icu"), value=said)
    reports.write_csv(tmp_path / "reports.csv")
    (tmp_path / "made.toml").write_text(TOML + READ)
    cohort = read_cohort(tmp_path / "made.toml", tmp_path)
    found = judged(cohort, "read", models=["clockwork"], landmarks=None)
    assert found.modalities == {"lab": ("lab",), "vital": ("vital",)}
    assert {"gnn", "only lab", "only vital", "clockwork"} < set(found.risks.risks)
    for fitted, X in found.parts:
        seen = [one.cohort for one in fitted.values() if hasattr(one, "cohort")]
        assert len(seen) == 5 and all(not len(one.events["report"]) for one in seen)
        assert len(np.unique(np.stack([X.patient, X.at]), axis=1).T) == len(X), "every ask once"
    assert found.patients == (cohort.outcomes["read"].label >= 0).sum()
    assert found.primary["verdict"] == "helps" and found.value("gnn", "auc")["value"] < 0.99
    assert abs(found.value("clockwork", "auc")["value"] - 0.5) < 0.15
    with pytest.raises(
        InputError, match="unknown node type 'report'; known: lab, vital"
    ):  # before anything is fitted
        run_compare(cohort.save(tmp_path / "packed"), "read", missing=["lab", "report"])


def test_refusals(cohort):
    from gnnpatient import InputError

    for match, outcome, how in (
        ("unknown class 'no' of 'icu'", "icu", {"cause": "no"}),
        ("unknown class 'hgh' of 'grade'; did you mean 'high'", "grade", {"cause": "hgh"}),
        ("has no horizon to choose", "icu", {"horizons": [3.0]}),
        (r"1 node type\(s\) with rows \(vital\)", "seen", {}),
    ):
        with pytest.raises(InputError, match=match):
            judged(cohort, outcome, **how)


def test_moments_of_its_own_are_compared_as_one_figure(cohort):
    from gnnpatient.cohort.outcomes import Task

    label, at = np.maximum(cohort.outcomes["icu"].label, 0), 3600 * (1 + np.arange(300))
    task = Task(np.arange(300), at, label.astype(np.int16), 300)
    found = judged(replace(cohort, outcomes={"task": task}), "task", landmarks=None)
    assert {row["landmark"] for row in found.rows} == {None} and found.patients == 300
    keys = [(row["model"], row["metric"]) for row in found.rows]
    assert len(set(keys)) == len(keys)
    risk, fold = found.risks.risks["only lab"]["yes"][:, 0], found.risks.fold
    case = task.label[found.risks.landmarks.patient] == 1
    won = [
        (risk[case & (fold == f)][:, None] > risk[~case & (fold == f)]).ravel().astype(float) for f in (0, 1)
    ]
    assert found.value("only lab", "auc")["value"] == pytest.approx(np.mean(np.concatenate(won)), abs=1e-3)
