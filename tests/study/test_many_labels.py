"""Several labels, and classes with an order: read, learned, asked, scored; beside their truth, and laws."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from gnnpatient import InputError, PrognosisModel, load_predictor, read_cohort
from gnnpatient.cohort.cohort import open_cohort
from gnnpatient.cohort.diagnosis import Labels, OrderedDiagnosis
from gnnpatient.prognosis.forecast import AT_LEAST, DiagnosisForecast, judged
from gnnpatient.prognosis.kinds import target_of
from gnnpatient.prognosis.linear import LinearHazard
from gnnpatient.study.evaluate import evaluate
from gnnpatient.study.fitted import FittedModel
from gnnpatient.study.scoreboard import ModelRisks
from gnnpatient.study.updating import MIN_CASES, with_update

LABELS = ("edema", "effusion", "nodule")
STAGES = ("I", "II", "III", "IV")
FEW = {"members": 1, "epochs": 1, "channels": 8, "num_layers": 1, "batch_size": 128}
TOML = """
cohort = "made"
[patient]
table = "patients.csv"
key = "id"
number = ["age"]
exit = "end"
[nodes.lab]
table = "labs.csv"
time = "day"
code = "code"
value = "value"
[nodes.code]
table = "codes.csv"
time = "day"
code = "icd"
[outcomes.findings]
kind = "diagnosis"
table = "patients.csv"
labels = ["edema", "effusion", "nodule"]
[outcomes.stage]
kind = "diagnosis"
table = "patients.csv"
column = "stage"
ordered = ["I", "II", "III", "IV"]
[outcomes.later]
kind = "diagnosis"
node = "code"
labels = { infarction = ["I21*", "I22*"], failure = "I50*" }
horizon = "60d"
gone = "none"
hide = ["Z95*"]
"""


def expit(x):
    return 1 / (1 + np.exp(-x))


def tables(folder, n, seed=0):
    """Two laboratory values that decide; a fifth of the findings was not looked for; codes over 100 days."""
    rng = np.random.default_rng(seed)
    ids, age, (a, b) = (
        [f"p{i:05d}" for i in range(n)],
        rng.normal(60, 10, n).round(1),
        rng.normal(size=(2, n)),
    )
    truth = {
        "edema": expit(-1 + 1.2 * a),
        "effusion": expit(-0.7 + b - 0.5 * a),
        "nodule": expit(-1 + 0.1 * (age - 60)),
    }
    came = {name: rng.random(n) < p for name, p in truth.items()}
    cells = {
        name: np.where(rng.random(n) < 0.2, "", yes.astype(int).astype(str)) for name, yes in came.items()
    }
    at_least = expit((1.2 * a + 0.04 * (age - 60))[:, None] + np.array([1.5, 0, -1.5]))
    stage = (at_least > rng.random((n, 1))).sum(1)
    truth["stage"] = -np.diff(np.c_[np.ones(n), at_least, np.zeros(n)], axis=1)
    end = rng.uniform(40, 140, n).round(2)
    patients = {"id": ids, "age": age, "end": end, "stage": np.array(STAGES)[stage], **cells}
    pl.DataFrame(patients).write_csv(folder / "patients.csv")
    labs = {"id": ids * 2, "day": 0, "code": ["a"] * n + ["b"] * n, "value": np.r_[a, b].round(4)}
    pl.DataFrame(labs).write_csv(folder / "labs.csv")
    when = {
        "I21.4": rng.exponential(90 * np.exp(-a)),
        "I50": rng.exponential(120, n),
        "Z95": rng.uniform(0, 30, n),
    }
    rows = [
        {"id": ids[i], "day": round(float(day[i]), 3), "icd": icd}
        for icd, day in when.items()
        for i in range(n)
        if day[i] < end[i]
    ]
    rows += [{"id": one, "day": 0.0, "icd": "R00"} for one in ids[::2]]
    pl.DataFrame(rows).write_csv(folder / "codes.csv")
    (folder / "made.toml").write_text(TOML)
    return truth


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    tables(folder, 260)
    return folder


@pytest.fixture(scope="module")
def cohort(folder):
    return read_cohort(folder / "made.toml", folder)


@pytest.fixture(scope="module")
def model(cohort):
    from gnnpatient.prognosis import linear

    with pytest.MonkeyPatch.context() as patch:
        given = [linear.Choice(linear.DEFAULT_RIDGE, ())]
        patch.setattr(linear._Learning, "choose", lambda it: given * len(it.problem.folds))
        return PrognosisModel(**FEW).fit(cohort.at(1, patient=cohort.ids[:200]).followed())


# ---- reading


def test_each_label_is_what_it_is_alone(folder, cohort, tmp_path):
    """Read as one of several, and as a diagnosis of its own: the same, with the same weights."""
    own = TOML.replace('labels = ["edema", "effusion", "nodule"]', 'column = "effusion"')
    own = own.replace(
        'labels = { infarction = ["I21*", "I22*"], failure = "I50*" }', 'codes = ["I21*", "I22*"]'
    )
    (tmp_path / "own.toml").write_text(own)
    alone = read_cohort(tmp_path / "own.toml", folder)
    findings, later = cohort.outcomes["findings"], cohort.outcomes["later"]
    assert isinstance(findings, Labels) and isinstance(cohort.outcomes["stage"], OrderedDiagnosis)
    for part, name in ((findings.each["effusion"], "findings"), (later.each["infarction"], "later")):
        one = alone.outcomes[name]
        for array in ("label", "known", "end"):
            assert np.array_equal(getattr(part, array), getattr(one, array))
    assert 0.15 < (findings.each["edema"].label < 0).mean() < 0.25
    X, Y = cohort.at(5).followed("later"), alone.at(5).followed("later")
    target, one = target_of(X, "later"), target_of(Y, "later")
    open_ = X.cohort.outcomes["later"].each["infarction"].open(X.patient, X.at)
    assert np.array_equal(X.ids[open_], Y.ids) and (~open_).any()
    assert np.array_equal(target.by_label[0].label[open_], one.label) and (target.label[~open_, 0] < 0).all()
    assert np.allclose(target.by_label[0].weight[open_], one.weight) and (one.weight == 0).any()
    assert target.columns[1][target.label < 0].max() == 0


def test_a_packed_cohort_has_the_same_labels(cohort, tmp_path):
    cohort.save(tmp_path / "packed")
    again = open_cohort(tmp_path / "packed")
    for name in ("findings", "later"):
        for part, other in zip(cohort.outcomes[name].parts, again.outcomes[name].parts, strict=True):
            for key, array in part.columns().items():
                assert np.array_equal(array, other.columns()[key])
    assert isinstance(again.outcomes["stage"], OrderedDiagnosis)
    assert repr(again.outcomes["findings"]) == repr(cohort.outcomes["findings"])


def test_codes_that_give_a_label_away_are_no_nodes(cohort):
    there = {cohort.codes["code"][c] for c in np.unique(cohort.events["code"].code)}
    assert there == {"R00"} and (cohort.outcomes["later"].parts[1].label == 1).sum() > 50


FINDINGS = 'labels = ["edema", "effusion", "nodule"]'
ORDER = 'ordered = ["I", "II", "III", "IV"]'
BOTH = 'classes = { I = "low", II = "high" }'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (FINDINGS, 'labels = ["edema"]', "labels name 1 label; of one write"),
        (FINDINGS, f'{FINDINGS}\ncolumn = "edema"', "labels stand instead"),
        (FINDINGS, f'{FINDINGS}\nclasses = {{ 1 = "a", 0 = "b" }}', 'say which cells mean "no" and'),
        (FINDINGS, 'labels = { x = ["edema", "effusion"], y = "nodule" }', "'x' must be one column"),
        ('failure = "I50*"', "failure = []", "'failure' has no codes"),
        (ORDER, 'ordered = ["I", "II"]', "must be three or more different classes"),
        (ORDER, f'{BOTH}\nordered = ["low", "II", "high"]', "'II' is in one alone"),
        (ORDER, 'ordered = ["I", "II", "III", "III"]', "different classes"),
    ],
)
def test_what_cannot_be_meant_is_refused(folder, tmp_path, old, new, said):
    assert old in TOML
    (tmp_path / "wrong.toml").write_text(TOML.replace(old, new))
    with pytest.raises(InputError, match=said) as no:
        read_cohort(tmp_path / "wrong.toml", folder)
    assert "\n" not in str(no.value)


# ---- answers


def test_labels_do_not_sum_and_classes_do(cohort, model):
    X = cohort.at(1, patient=cohort.ids[200:])
    said = model.forecast(X)
    for name in ("findings", "stage", "later"):
        f = said[name]
        open_ = np.isfinite(f.probability)
        assert f.at_risk.any() and ((f.probability >= 0) & (f.probability <= 1))[open_].all()
        assert np.array_equal(open_.any(1), f.at_risk)
    assert said["findings"].kind == "labels" and not np.allclose(said["findings"].probability.sum(1), 1)
    stage = said["stage"]
    assert np.allclose(stage.probability.sum(1), 1, atol=1e-12)
    at_least = np.stack([stage.risk(name) for name in judged(STAGES, "ordered")], 1)
    assert (
        np.allclose(at_least, stage.probability[:, ::-1].cumsum(1)[:, -2::-1])
        and (np.diff(at_least) <= 0).all()
    )
    for bad in (AT_LEAST + "V", "V"):
        with pytest.raises(InputError, match="unknown class 'V' of 'stage'; there are I, II"):
            stage.risk(bad)
    with pytest.raises(InputError, match="has several labels; name one of edema"):
        said["findings"].risk()


def test_a_label_that_is_known_already_has_no_answer_and_the_others_have(cohort, model):
    X = cohort.at(40)
    later, truth = model.forecast(X)["later"], cohort.outcomes["later"]
    open_ = truth.opened(X.patient, X.at)
    assert np.array_equal(np.isfinite(later.probability), open_)
    mixed = open_.any(1) & ~open_.all(1)
    assert mixed.sum() > 5 and later.at_risk[mixed].all()
    row = int(np.flatnonzero(mixed)[0])
    one, name = later[row], truth.labels[int(open_[row].argmax())]
    assert one.ranked()["label"].to_list() == [name] == one.table()["cause"].to_list()
    assert "known already" in repr(one) and one.plot().texts[0].get_text() != ""
    assert len(later.table()) == open_.sum()


def test_ranked_lists_and_tables(cohort, model):
    f = model.forecast(cohort.at(1, patient=cohort.ids[200:]))["findings"]
    ranked = f.ranked(2)
    assert ranked.columns[:5] == ["id", "at", "rank", "label", "probability"] and len(ranked) == 2 * len(f)
    best = ranked.filter(rank=1)
    assert np.array_equal(best["probability"].to_numpy(), f.probability.max(1))
    assert best["label"].to_list() == [f.classes[k] for k in f.probability.argmax(1)]
    again = DiagnosisForecast.from_array(
        f.probability[:, ::-1], f.classes[::-1], cohort.at(1, patient=cohort.ids[200:])
    )
    assert np.array_equal(again.probability, f.probability) and again.kind == "labels"
    with pytest.raises(InputError, match="must lie in"):
        DiagnosisForecast.from_array(f.probability + 1, f.classes, cohort.at(1, patient=cohort.ids[200:]))


def test_a_saved_model_gives_the_same_bits(cohort, model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    X = cohort.at(1)
    before, after = model.forecast(X), load_predictor(tmp_path / "model").forecast(X)
    for name in before:
        assert np.array_equal(before[name].probability, after[name].probability, equal_nan=True)
        assert before[name].kind == after[name].kind
    card = (tmp_path / "model" / "README.md").read_text()
    assert "edema, effusion, nodule at the landmark; each yes or no by itself" in card
    assert "the classes rise in this order" in card and "patients with edema" in card


def test_one_patient_and_all_of_them(cohort, model, tmp_path):
    from gnnpatient.patient.answers import answer
    from gnnpatient.patient.predictions import predict

    model.save_pretrained(tmp_path / "model")
    told = answer(tmp_path / "model", cohort, cohort.ids[3], at=1.0).to_dict()
    outcomes = json.loads(json.dumps(told))["outcomes"]
    assert outcomes["findings"]["form"] == "labels" and set(outcomes["findings"]["probability"]) == set(
        LABELS
    )
    assert outcomes["stage"]["form"] == "ordered" and sum(
        outcomes["stage"]["probability"].values()
    ) == pytest.approx(1)
    frame = predict(tmp_path / "model", cohort, at=[1.0]).frame
    assert set(frame.filter(outcome="stage")["cause"]) == set(STAGES) and frame["risk"].is_finite().all()
    assert len(frame.filter(outcome="findings")) == 3 * len(cohort)


# ---- laws


@pytest.mark.usefixtures("given_ridge")
def test_no_label_and_no_later_row_moves_an_answer(cohort, model):
    """Other labels, other times at which they are known, and later values: the same bits."""
    findings, stage = cohort.outcomes["findings"], cohort.outcomes["stage"]
    parts = [replace(p, label=np.where(p.label >= 0, 1 - p.label, -1)) for p in findings.parts]
    other = {
        "findings": replace(findings, parts=tuple(parts)),
        "stage": replace(stage, label=3 - stage.label),
    }
    lab = cohort.events["lab"]
    later = replace(lab, value=np.where(lab.known > 86_400, np.float32(1e9), lab.value))
    poisoned = replace(cohort, outcomes={**cohort.outcomes, **other}, events={**cohort.events, "lab": later})
    before, after = model.forecast(cohort.at(1)), model.forecast(poisoned.at(1))
    for name in ("findings", "stage"):
        assert np.array_equal(before[name].probability, after[name].probability)


@pytest.mark.usefixtures("given_ridge", "unchecked")
def test_labels_that_nobody_looked_for_teach_nothing(cohort):
    """What stands where a label was not looked for: the same fit; where it was, another one."""
    X = cohort.at(1, patient=cohort.ids[:200]).followed("findings")
    y = X.outcome("findings")["label"]
    assert (y < 0).any(0).all()

    def fit(y):
        model = PrognosisModel(outcomes=["findings"], **FEW).fit(X, y)
        return model.forecast(X)["findings"].probability

    assert np.array_equal(
        fit(y), PrognosisModel(outcomes=["findings"], **FEW).fit(X).forecast(X)["findings"].probability
    )
    flipped = np.where(y < 0, y, 1 - y)
    assert not np.array_equal(fit(y), fit(flipped))
    for bad in (y[:, :2], y.astype(float), y + 5):
        with pytest.raises(InputError, match="a column for each of edema, effusion, nodule"):
            PrognosisModel(outcomes=["findings"], **FEW).fit(X, bad)


@pytest.mark.usefixtures("given_ridge", "unchecked")
@pytest.mark.parametrize(("given", "said"), [(-1, True), (0, False), (None, False)])
def test_a_label_that_nobody_was_looked_at_for_says_so(cohort, given, said, tmp_path):
    """One half of a label that is not known of anybody is no forecast; none of a label is one."""
    X = cohort.at(1, patient=cohort.ids[:200]).followed("findings")
    y = X.outcome("findings")["label"].copy()
    if given is not None:
        y[:, 1] = given
    PrognosisModel(outcomes=["findings"], **FEW).fit(X, y).save_pretrained(tmp_path / "model")
    notes = FittedModel.open(tmp_path / "model").notes(cohort.at(1, patient=cohort.ids[:1]))
    words = "findings: effusion was looked for in no patient of the fit: its probability says nothing"
    assert (words in notes) == said and not any("edema" in note or "nodule" in note for note in notes)


@pytest.mark.usefixtures("given_ridge", "unchecked")
@pytest.mark.parametrize("outcome", ["findings", "stage"])
def test_what_few_patients_have_is_not_learned(cohort, outcome):
    """A label of 9 patients, or a class: who they are changes nothing of what is learned."""
    X = cohort.at(1, patient=cohort.ids[:200]).followed("findings")
    rng, label = np.random.default_rng(1), X.outcome(outcome)["label"].astype(int)
    rare = 2 if outcome == "findings" else 3
    said = []
    for _ in range(2):
        y, few = label.copy(), rng.permutation(len(X))[:9]
        if outcome == "findings":
            y[:, rare] = 0
            y[few, rare] = 1
        else:
            y[y == rare] = 2
            y[few] = rare
        model = PrognosisModel(outcomes=[outcome], **FEW).fit(X, y)
        for family in ("linear", "boosted", "graph"):
            said.append((y, family, model.forecast(X, families=family)[outcome].probability[:, rare]))
    for y, family, p in said:
        if outcome == "findings":
            assert np.ptp(p) < 1e-6, family
        assert p.mean() < 0.08, family  # 5 of 200, as half of ten would have, and not 9
        assert y.shape[0] == len(p)


def scored(cohort, risks, fold, outcome):
    """Risks by model, as they are scored."""
    return ModelRisks(cohort.at(1).followed(outcome), fold, risks, np.zeros(0))


def test_a_forecast_constant_within_folds_scores_a_half(cohort):
    X = cohort.at(1).followed("findings")
    fold = np.arange(len(X)) % 5
    of_fold = np.random.default_rng(0).uniform(0.1, 0.9, (5, 3))[fold]
    risks = {"null": dict.fromkeys(LABELS, np.full((len(X), 1), 0.3))}
    risks["same"] = {name: of_fold[:, [k]] for k, name in enumerate(LABELS)}
    found = evaluate(scored(cohort, risks, fold, "findings"), outcome="findings", horizons=[], n=5)
    for cause in (*LABELS, "all labels"):
        assert found.value("same", "auc", cause=cause)["value"] == 0.5
    stages = judged(STAGES, "ordered")
    X = cohort.at(1).followed("stage")
    risks = {
        one: {name: np.full((len(X), 1), p) for name, p in zip(stages, (0.8, 0.5, 0.2), strict=True)}
        for one in ("null", "same")
    }
    found = evaluate(scored(cohort, risks, np.zeros(len(X), int), "stage"), outcome="stage", horizons=[], n=5)
    assert found.value("same", "qwk", cause="all classes")["value"] == 0.0
    assert found.value("same", "scaled_rps", cause="all classes")["value"] == 0.0
    assert all(found.value("same", "auc", cause=name)["value"] == 0.5 for name in stages)


def test_scores_are_those_of_each_label_alone_and_their_mean(cohort):
    X = cohort.at(1).followed("findings")
    rng, fold = np.random.default_rng(0), np.arange(len(X)) % 3
    risks = {m: {name: rng.uniform(0.05, 0.95, (len(X), 1)) for name in LABELS} for m in ("null", "one")}
    found = evaluate(scored(cohort, risks, fold, "findings"), outcome="findings", horizons=[], n=3)
    label = X.outcome("findings")["label"]
    briers, aucs = [], []
    for k, name in enumerate(LABELS):
        known = label[:, k] >= 0
        p, y = risks["one"][name][known, 0], label[known, k]
        briers.append(((p - y) ** 2).mean())
        pairs = (fold[known][:, None] == fold[known]) & (y[:, None] > y)
        aucs.append((p[:, None] > p)[pairs].mean())
        assert found.value("one", "brier", cause=name)["value"] == pytest.approx(briers[-1])
        assert found.value("one", "auc", cause=name)["value"] == pytest.approx(aucs[-1])
        assert found.value("one", "oe", cause=name)["value"] == pytest.approx(y.sum() / p.sum())
    assert found.value("one", "brier", cause="all labels")["value"] == pytest.approx(np.mean(briers))
    assert found.value("one", "auc", cause="all labels")["value"] == pytest.approx(np.mean(aucs))
    assert found.events["edema"] == (label[:, 0] == 1).sum()
    assert not [
        row for row in found.rows if row["cause"] == "all labels" and row["metric"] in ("oe", "slope", "ici")
    ]


def test_weights_of_a_horizon_are_those_of_each_label(cohort):
    """Those lost before the horizon are represented by the others, of each label by itself."""
    from gnnpatient import metrics

    X = cohort.at(5).followed("later")
    truth = cohort.outcomes["later"]
    risks = {
        m: {name: np.random.default_rng(1).uniform(0.1, 0.9, (len(X), 1)) for name in truth.labels}
        for m in ("null", "one")
    }
    scores = ModelRisks(X, np.zeros(len(X), int), risks, np.zeros(0))
    found = evaluate(scores, outcome="later", horizons=[], n=3)
    for name, part in truth.each.items():
        open_ = part.open(X.patient, X.at)
        event, time = part.course(X.patient[open_], X.at[open_])
        by_hand = metrics.brier(risks["one"][name][open_, 0], time, event, 60.0)
        assert found.value("one", "brier", cause=name)["value"] == pytest.approx(by_hand)
        assert (event == 0).any() and (time[event == 0] < 60).any()


# ---- beside the truth


@pytest.mark.slow
def test_the_truth_is_found(tmp_path):
    """AUC and calibration of 1 500 new patients beside their true probabilities."""
    truth = tables(tmp_path, 2700, seed=3)
    cohort = read_cohort(tmp_path / "made.toml", tmp_path)
    train, test = (
        cohort.at(1, patient=ids).followed("findings") for ids in (cohort.ids[:1200], cohort.ids[1200:])
    )
    model = PrognosisModel(outcomes=["findings", "stage"], members=2, epochs=5).fit(train)
    said = model.forecast(test)
    rows = test.patient
    for k, name in enumerate(LABELS):
        p, q = said["findings"].probability[:, k], truth[name][rows]
        assert abs((p - q).mean()) < 0.03 and np.sqrt(np.square(p - q).mean()) < 0.08, name
        assert np.corrcoef(p, q)[0, 1] > 0.93, name
        label = test.outcome("findings")["label"][:, k]
        case, other = label == 1, label == 0
        areas = [np.mean(risk[case][:, None] > risk[other]) for risk in (p, q)]
        assert areas[0] > areas[1] - 0.02 > 0.65, name
    p, q = said["stage"].probability, truth["stage"][rows]
    assert np.abs((p - q).mean(0)).max() < 0.03 and np.sqrt(np.square(p - q).mean()) < 0.08
    for k in range(1, 4):
        assert np.corrcoef(p[:, k:].sum(1), q[:, k:].sum(1))[0, 1] > 0.95


# ---- updates


def drifted(cohort, outcome, names, rng):
    """Risks that are wrong by a shift of each class, and those that are right."""
    X = cohort.at(1).followed(outcome)
    right = rng.dirichlet(np.ones(len(names)) * 2, len(X))
    wrong = right * np.array([3.0, 1.0, 0.5, 0.5][: len(names)])
    return X, right, wrong / wrong.sum(1, keepdims=True)


@pytest.mark.parametrize("way", ["intercept", "slope"])
def test_updated_classes_sum_to_one_and_find_what_was_planted(cohort, way):
    rng = np.random.default_rng(0)
    big = cohort.at(1).followed("stage")
    right = rng.dirichlet(np.ones(4) * 2, len(big.cohort))
    label = (right.cumsum(1) < rng.random((len(right), 1))).sum(1).astype(np.int16)
    stage = replace(cohort.outcomes["stage"], label=label)
    X = replace(big, cohort=replace(cohort, outcomes={"stage": stage}))
    wrong = right * np.array([3.0, 1.0, 0.5, 0.5])
    wrong = wrong / wrong.sum(1, keepdims=True)
    names = judged(STAGES, "ordered")
    risks = {"gnn": {name: wrong[X.patient, k:].sum(1)[:, None] for k, name in enumerate(names, 1)}}
    updated, notes = with_update(ModelRisks(X, np.zeros(len(X), int), risks, np.zeros(0)), "stage", way)
    new = np.concatenate([*updated.risks[f"gnn+{way}"].values()], 1)
    assert (
        new.shape == (len(X), 3) and (np.diff(new) <= 1e-12).all() and (new >= 0).all() and (new <= 1).all()
    )
    each = -np.diff(np.c_[np.ones(len(new)), new, np.zeros(len(new))], axis=1)
    away = [np.abs(p.mean(0) - np.bincount(label, minlength=4) / len(label)).max() for p in (wrong, each)]
    assert away[0] > 0.12 and away[1] < 0.06
    assert len(notes) == 1 and notes[0].startswith(f"gnn+{way}, all classes: intercepts I +0.00, II +")


def test_unordered_classes_are_updated_together_and_labels_alone(cohort):
    rng = np.random.default_rng(2)
    X = cohort.at(1).followed("findings")
    risks = {"gnn": {name: rng.uniform(0.2, 0.8, (len(X), 1)) for name in LABELS}}
    both, notes = with_update(
        ModelRisks(X, np.zeros(len(X), int), risks, np.zeros(0)), "findings", "intercept"
    )
    assert len(notes) == 3 and all(
        f"gnn+intercept, {name}: intercept" in note for name, note in zip(LABELS, notes, strict=True)
    )
    one = {
        "gnn": {
            "edema": risks["gnn"]["edema"],
            **{name: rng.uniform(0.2, 0.8, (len(X), 1)) for name in LABELS[1:]},
        }
    }
    again, _ = with_update(ModelRisks(X, np.zeros(len(X), int), one, np.zeros(0)), "findings", "intercept")
    for risk, same in ((again, True), (both, True)):
        assert (
            np.array_equal(risk.risks["gnn+intercept"]["edema"], both.risks["gnn+intercept"]["edema"]) == same
        )
    from gnnpatient.cohort.diagnosis import Diagnosis

    stage = cohort.outcomes["stage"]
    plain = Diagnosis(stage.label, stage.known, stage.end, STAGES, stage.gap, None)
    X = replace(cohort, outcomes={"stage": plain}).at(1).followed("stage")
    p = rng.dirichlet(np.ones(4), len(X))
    risks = {"gnn": {name: p[:, [k]] for k, name in enumerate(STAGES)}}
    updated, notes = with_update(ModelRisks(X, np.zeros(len(X), int), risks, np.zeros(0)), "stage", "slope")
    new = np.concatenate([*updated.risks["gnn+slope"].values()], 1)
    assert np.allclose(new.sum(1), 1) and not np.allclose(new, p) and "slope" in notes[0]
    few = replace(X, cohort=X.cohort)[: 2 * MIN_CASES]
    none = {"gnn": {name: p[: len(few), [k]] for k, name in enumerate(STAGES)}}
    kept, notes = with_update(ModelRisks(few, np.zeros(len(few), int), none, np.zeros(0)), "stage", "slope")
    assert "none" in notes[0] and np.allclose(
        np.concatenate([*kept.risks["gnn+slope"].values()], 1).sum(1), 1
    )


def test_the_columns_of_the_linear_family_are_checked(model):
    family = model.predictor_.families["linear"]
    assert isinstance(family, LinearHazard)
    assert family.scores["stage"].weight.shape[1] == 3 and family.scores["stage"].bias.shape[1:] == (4, 1)
    assert family.scores["findings"].weight.shape[1] == 3 == family.scores["findings"].bias.shape[1]


@pytest.mark.slow
@pytest.mark.usefixtures("given_ridge", "unchecked")
@pytest.mark.parametrize("outcome", ["findings", "stage"])
def test_folds_and_fusion(cohort, outcome):
    """In folds, beside the comparators, and by node types: every figure is there, and finite."""
    from gnnpatient.study import cross_validate
    from gnnpatient.study.compare import compare

    model = PrognosisModel(outcomes=[outcome], families=("linear", "boosted"), members=1)
    found = cross_validate(cohort, {"mine": model}, outcome, landmarks=["entry"], folds=3, n=10).scores
    together, metric = (
        ("all labels", "scaled_brier") if outcome == "findings" else ("all classes", "scaled_rps")
    )
    assert found.patients > 0.97 * len(cohort)
    for name in ("mine", "logistic"):
        row = found.value(name, metric, cause=together)
        assert 0.05 < row["value"] < 0.9 and row["low"] < row["value"] < row["high"]
    assert found.value("null", metric, cause=together)["value"] == 0
    fused = compare(cohort, outcome, folds=2, inner=2, members=1, epochs=1, channels=8, n=5, models=["late"])
    names = {row["model"] for row in fused.rows}
    assert 100 < fused.events < fused.patients and fused.too_small is None
    word = "quadratic-weighted kappa" if outcome == "stage" else "AUC"
    assert word in fused.sentence and fused.primary[fused.scores.deciding[0]]["low"] is not None
    assert fused.cause == together and {"only lab", "only code", "late"} <= names


@pytest.mark.parametrize("kind", ["labels", "ordered"])
def test_losses_and_slopes_by_hand_are_those_of_the_head(kind):
    """The linear family and the graph's head lose the same, and slopes by hand are those of autograd."""
    import torch

    from gnnpatient.model.heads import HEADS, DiagnosisConfig, contrasts
    from gnnpatient.prognosis.linear import LOSSES

    rng, size = np.random.default_rng(0), 4
    config = DiagnosisConfig(kind=kind, classes=STAGES)
    if kind == "labels":
        label = rng.integers(-1, 2, (7, size))
        columns = (label, np.where(label >= 0, rng.uniform(0.5, 2, label.shape), 0.0))
    else:
        columns = (rng.integers(0, size, 7),)
    loss = LOSSES[kind](config, *columns)
    shift = torch.randn(2, size - (kind == "ordered"), 7, requires_grad=True)
    bias, weight = torch.randn(2, size, 1, requires_grad=True), torch.rand(2, 7)
    with torch.no_grad():
        each, of_shift, of_bias = loss(shift, bias, weight)
    moved = contrasts(size).T @ shift if kind == "ordered" else shift
    logits = (moved + bias).transpose(1, 2)
    output = logits if kind == "labels" else logits.log_softmax(2)
    head = HEADS[kind][1](config, 4)
    slow = torch.stack([head.loss(one, *map(torch.from_numpy, columns)) for one in output])
    assert torch.allclose(each, slow, atol=1e-5)
    found = torch.autograd.grad((slow * weight).sum(), (shift, bias))
    assert torch.allclose(found[0], of_shift, atol=1e-5) and torch.allclose(found[1], of_bias, atol=1e-5)


def test_a_column_that_gives_a_label_away_is_named(folder, tmp_path):
    """The value of a code that is the label itself: named for that label, and for no other."""
    from gnnpatient.study.leaks import coverage, leaks

    patients = pl.read_csv(folder / "patients.csv", infer_schema=False)
    labs = pl.read_csv(folder / "labs.csv", infer_schema=False)
    seen = patients.filter(pl.col("effusion") != "")
    extra = seen.select("id", day=pl.lit("0"), code=pl.lit("drain"), value=pl.col("effusion"))
    for name in ("patients.csv", "codes.csv", "made.toml"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    pl.concat([labs, extra]).write_csv(tmp_path / "labs.csv")
    cohort = read_cohort(tmp_path / "made.toml", tmp_path)
    found = leaks(cohort, "findings")
    assert [(one.cause, one.code) for one in found] == [("effusion", "drain")]
    assert "tells who has findings: effusion" in found[0].message
    asked = [(one.cause, one.judged) for one in coverage(cohort)]
    assert asked[:3] == [(name, True) for name in LABELS] and ("II", True) in asked
    assert not leaks(read_cohort(folder / "made.toml", folder), "findings")


def test_groups_and_curves_of_a_label(cohort):
    X = cohort.at(1).followed("findings")
    rng = np.random.default_rng(0)
    risks = {m: {name: rng.uniform(0.05, 0.95, (len(X), 1)) for name in LABELS} for m in ("gnn", "null")}
    scores = scored(cohort, risks, np.zeros(len(X), int), "findings")
    found = evaluate(scores, outcome="findings", horizons=[], by=["age"], n=5)
    assert {row["events"]["edema"] for row in found.groups} and len(found.groups) == 2
    total = sum(row["events"]["edema"] for row in found.groups)
    assert total == found.events["edema"] and {gap["cause"] for gap in found.gaps} >= set(LABELS)
    curve = found.curve("calibration", cause="edema")
    assert set(curve["model"]) == {"gnn"} and curve["share"].is_between(0, 1).all()
    with pytest.raises(InputError, match="unknown cause 'all labels'"):
        found.curve("calibration", cause="all labels")
    with pytest.raises(InputError, match="of several labels there is none; leave out censoring"):
        evaluate(scores, outcome="findings", horizons=[], censoring="cox")


@pytest.mark.usefixtures("given_ridge", "unchecked")
def test_the_score_is_by_hand(cohort):
    """One minus the error over that of the shares: of labels by Brier score, of ordered classes by RPS."""
    from gnnpatient.metrics import ranked_probability

    train, test = (
        cohort.at(1, patient=ids).followed("findings") for ids in (cohort.ids[:160], cohort.ids[160:])
    )
    for outcome in ("findings", "stage"):
        model = PrognosisModel(outcomes=[outcome], families=("linear",), members=1).fit(train)
        p, label = model.forecast(test)[outcome].probability, test.outcome(outcome)["label"].astype(int)
        share = model.predictor_.null[outcome]
        learned = train.outcome(outcome)["label"]
        if outcome == "findings":
            assert share == pytest.approx([(column == 1).sum() / (column >= 0).sum() for column in learned.T])
            error, null = (np.square(q - label)[label >= 0].sum() for q in (p, share[None]))
        else:
            assert share == pytest.approx(np.bincount(learned) / len(learned))
            error, null = (ranked_probability(q, label) for q in (p, np.tile(share, (len(p), 1))))
        assert model.score(test) == pytest.approx(1 - error / null)


def test_graphs_of_pyg_carry_every_label(cohort):
    from torch_geometric.data import Batch

    X = cohort.at(1).followed("findings")[:5]
    graphs = X.hetero_data("findings")
    assert graphs[0].y.shape == (1, 3)
    assert Batch.from_data_list(graphs).y.tolist() == X.outcome("findings")["label"].tolist()
