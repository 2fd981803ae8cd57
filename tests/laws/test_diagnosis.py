"""Laws of diagnoses: the future, the batch, labels nobody looked for, the interruption, what may be seen."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import polars as pl
import pytest

TOML = """
cohort = "made"
[patient]
table = "patients.csv"
key = "pid"
number = ["age"]
[nodes.lab]
table = "labs.csv"
time = "day"
code = "code"
value = "value"
[nodes.vital]
table = "vitals.csv"
time = "day"
columns = { pulse = "1/min" }
[outcomes.gone]
kind = "survival"
table = "patients.csv"
causes = { gone = { time = "end" } }
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
"""
SAME = """
[outcomes.finding]
kind = "diagnosis"
table = "patients.csv"
column = "finding"
when = "same"
inputs = ["vital"]
"""
QUICK = {"members": 2, "epochs": 2, "channels": 8, "batch_size": 64, "num_layers": 1, "horizon": 10.0}
LEARN = {"members": 1, "epochs": 10, "channels": 8, "batch_size": 128, "num_layers": 1, "lr": 0.02}


def made(folder, toml=TOML, n=240, seed=0):
    """Patients with a lab and a vital a day. crp above its mean means icu; one in five was not looked for."""
    from gnnpatient import read_cohort

    rng = np.random.default_rng(seed)
    pid, x, y = np.array([f"p{i:03d}" for i in range(n)]), rng.normal(size=n), rng.normal(size=n)
    looked = rng.random(n) > 0.2
    grade = np.array(["a", "b", "c"])[np.digitize(x, [-0.4, 0.4])]
    patients = {
        "pid": pid,
        "age": rng.normal(60, 9, n),
        "end": rng.uniform(8, 20, n),
        "icu": np.where(looked, np.where(x > 0, "Y", "N"), "?"),
        "icu_day": rng.uniform(5, 9, n),
        "grade": np.where(rng.random(n) > 0.3, grade, ""),
        "finding": (y > 0).astype(int),
    }
    pl.DataFrame(patients).write_csv(folder / "patients.csv")
    day, who = (part.ravel() for part in np.meshgrid(np.arange(7.0), np.arange(n)))
    noise = rng.normal(0, 0.1, (2, len(day)))
    labs = {"pid": pid[who], "day": day, "code": "crp", "value": x[who] + noise[0]}
    pl.DataFrame(labs).write_csv(folder / "labs.csv")
    vitals = {"pid": pid[who], "day": day, "pulse": y[who] + noise[1]}
    pl.DataFrame(vitals).write_csv(folder / "vitals.csv")
    (folder / "made.toml").write_text(toml)
    return read_cohort(folder / "made.toml", folder)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return made(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def train(cohort):
    return cohort.landmarks(np.arange(160), times=[0, 2, 5]).followed()


@pytest.fixture(scope="module")
def model(train):
    from gnnpatient import PrognosisModel

    return PrognosisModel(**QUICK).fit(train)


def bits(model):
    digest = sha256()
    for family in model.predictor_.families.values():
        for name, tensor in sorted(family.tensors().items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def with_outcomes(cohort, **outcomes):
    return replace(cohort, outcomes={**cohort.outcomes, **outcomes})


def area(risk, case):
    """AUC by all pairs."""
    pairs = risk[case][:, None] - risk[~case]
    return float((pairs > 0).mean() + 0.5 * (pairs == 0).mean())


def test_survival_and_diagnoses_live_in_one_model(cohort, model):
    assert model.predictor_.outcomes == ("gone", "icu", "grade")
    X = cohort.landmarks(np.arange(160, 240), times=[1, 4, 7]).followed()
    said = model.forecast(X)
    assert said["gone"].incidence.shape[:2] == (len(X), 2)
    assert said["icu"].classes == ("no", "yes") and said["grade"].classes == ("low", "middle", "high")
    for name, classes in (("icu", 2), ("grade", 3)):
        asked = said[name].at_risk
        assert said[name].probability.shape == (len(X), classes) and 0 < asked.sum() <= len(X)
        assert np.allclose(said[name].probability[asked].sum(1), 1, atol=1e-12)
        assert (said[name].probability[asked] >= 0).all()
        assert np.allclose(said[name].members.mean(0)[asked], said[name].probability[asked])


def test_an_ask_whose_label_is_known_has_no_answer(cohort, model):
    X = cohort.landmarks(times=[1, 4.5, 7])
    said, truth = model.forecast(X)["icu"], cohort.outcomes["icu"]
    open_ = X.at <= truth.known[X.patient] - 86_400
    assert np.array_equal(said.at_risk, open_) and (~open_).any()
    assert np.isnan(said.probability[~open_]).all() and np.isnan(said.members[:, ~open_]).all()
    never = open_ & (truth.label[X.patient] < 0)
    assert never.any() and np.isfinite(said.probability[never]).all(), "not looked for, so it may be asked"
    assert set(said.table()["id"]) == set(X.ids[open_])


@pytest.mark.parametrize("day", [0.0, 2.0, 4.0])
def test_the_future_cannot_be_seen(cohort, model, day):
    hidden = {kind: e.known > day * 86_400 for kind, e in cohort.events.items()}
    events = {
        kind: replace(e, value=np.where(hidden[kind], np.float32(1e9), e.value))
        for kind, e in cohort.events.items()
    }
    icu = cohort.outcomes["icu"]
    flipped = replace(icu, label=np.where(icu.label >= 0, 1 - icu.label, -1), known=icu.known + 7)
    later = replace(with_outcomes(cohort, icu=flipped), events=events)
    before, after = (model.forecast(c.at(day).followed()) for c in (cohort, later))
    for name in ("icu", "grade"):
        assert np.array_equal(before[name].members, after[name].members, equal_nan=True)


def test_alone_or_together(cohort, model):
    X = cohort.landmarks(times=[0, 3]).followed()
    together = model.forecast(X)
    order = np.random.default_rng(0).permutation(len(X))
    for name in ("icu", "grade"):
        shuffled = model.forecast(X[order])[name].probability
        assert np.nanmax(np.abs(shuffled - together[name].probability[order])) < 1e-5
    for i in range(0, len(X), 37):
        alone = model.forecast(X[i])["icu"].probability[0]
        assert np.allclose(alone, together["icu"].probability[i], atol=1e-5, equal_nan=True)
    assert model.forecast(X[[]])["icu"].probability.shape == (0, 2)


@pytest.mark.usefixtures("unchecked")
def test_labels_that_nobody_looked_for_never_matter(cohort, train, model):
    """When they would have been known, and where they lie beside the others: the same bits."""
    icu = cohort.outcomes["icu"]
    missing = icu.label < 0
    moved = replace(icu, known=np.where(missing, 3 * icu.known + 11, icu.known))
    again = with_outcomes(cohort, icu=moved).landmarks(np.arange(160), times=[0, 2, 5]).followed()
    from gnnpatient import PrognosisModel

    assert missing[:160].sum() > 10 and bits(PrognosisModel(**QUICK).fit(again)) == bits(model)


def test_asks_without_a_label_train_nothing(cohort, train, request):
    """A fit on them too is the fit without them; what y says of the others is all that it says."""
    from gnnpatient import PrognosisModel

    y = train.cohort.outcomes["icu"].label[train.patient].astype(int)
    labelled, choices = y >= 0, {**QUICK, "outcomes": ["icu"]}
    landmarks = train[np.argsort(labelled, kind="stable")]
    y = y[np.argsort(labelled, kind="stable")]
    whole = PrognosisModel(**choices).fit(landmarks, y)
    request.getfixturevalue("unchecked")
    assert (y < 0).any() and bits(PrognosisModel(**choices).fit(landmarks[y >= 0], y[y >= 0])) == bits(whole)
    other = PrognosisModel(**choices).fit(landmarks[y >= 0], 1 - y[y >= 0])
    assert bits(other) != bits(whole)


def test_what_one_value_tells_is_learned_and_permuted_labels_are_not(cohort, request):
    from gnnpatient import PrognosisModel

    held = cohort.landmarks(np.arange(160, 240), times=[3]).followed("icu")
    case = held.outcome("icu")["label"] == 1
    icu = cohort.outcomes["icu"]
    found = []
    for seed in (None, 1, 2, 3):
        order = np.arange(240)
        if seed is not None:
            order[:160] = np.random.default_rng(seed).permutation(160)
        one = with_outcomes(cohort, icu=replace(icu, label=icu.label[order]))
        landmarks = one.landmarks(np.arange(160), times=[1, 3]).followed("icu")
        model = PrognosisModel(outcomes=["icu"], **LEARN).fit(landmarks)
        found.append(area(model.predict(held), case))
        if seed is None:
            assert model.score(held) > 0.4
            assert np.array_equal(model.predict(held), model.predict(held, cause="yes"))
            assert np.allclose(model.predict(held, cause="no"), 1 - model.predict(held))
            request.getfixturevalue("unchecked")
    assert found[0] > 0.9 and abs(np.mean(found[1:]) - 0.5) < 0.25


def test_the_score_is_by_hand(cohort, model):
    X = cohort.landmarks(np.arange(160, 240), times=[1]).followed("icu")
    from gnnpatient import PrognosisModel

    one = PrognosisModel(**QUICK | {"outcomes": ["grade"]}).fit(cohort.at(2).followed("grade")[:90])
    X = cohort.at(3).followed("grade")[90:]
    label, p = X.outcome("grade")["label"], one.forecast(X)["grade"].probability
    share = np.bincount(cohort.at(2).followed("grade")[:90].outcome("grade")["label"]) / 90
    own = sum(((p[i] - np.eye(3)[k]) ** 2).sum() for i, k in enumerate(label))
    null = sum(((share - np.eye(3)[k]) ** 2).sum() for k in label)
    assert one.predictor_.null["grade"] == pytest.approx(share)
    assert one.score(X) == pytest.approx(1 - own / null)


class Stop(Exception):
    """The plug is pulled."""


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.usefixtures("unchecked")
def test_resumed_is_uninterrupted(train, model, tmp_path, epochs):
    from gnnpatient import InputError, PrognosisModel

    told = []

    def progress(*_, **entry):
        told.append(entry) if "epoch" in entry else None
        if len(told) == epochs:
            raise Stop

    with pytest.raises(Stop):
        PrognosisModel(**QUICK).fit(train, run=tmp_path, progress=progress)
    icu = train.cohort.outcomes["icu"]
    other = with_outcomes(train.cohort, icu=replace(icu, label=icu.label[::-1]))
    with pytest.raises(InputError, match="other choices or landmarks"):
        PrognosisModel(**QUICK).fit(replace(train, cohort=other), run=tmp_path)
    assert bits(PrognosisModel(**QUICK).fit(train, run=tmp_path)) == bits(model)


def test_a_saved_model_comes_back_and_holds_no_patient(cohort, model, tmp_path):
    from gnnpatient import PrognosisModel, load_predictor

    model.save_pretrained(tmp_path / "model")
    X = cohort.landmarks(times=[1, 4]).followed()
    before = model.forecast(X)
    loaded = PrognosisModel.from_pretrained(tmp_path / "model")
    for after in (loaded.forecast(X), load_predictor(tmp_path / "model").forecast(X)):
        assert np.array_equal(after["gone"].members, before["gone"].members)
        for name in ("icu", "grade"):
            assert np.array_equal(after[name].members, before[name].members, equal_nan=True)
    held = cohort.landmarks(np.arange(160, 240), times=[1]).followed()
    assert loaded.score(held) == model.score(held)
    for file in (tmp_path / "model").iterdir():
        content = file.read_bytes()
        assert not any(one.encode() in content for one in cohort.ids.tolist()), file.name
    icu, card = cohort.outcomes["icu"], (tmp_path / "model" / "README.md").read_text()
    yes = int((icu.label[:160] == 1).sum())
    assert f"{round(yes, -1)} patients of class yes" in card and "the probability of each of no, yes" in card


def test_what_is_read_from_its_inputs_sees_nothing_else(tmp_path):
    from gnnpatient import InputError, PrognosisModel

    cohort = made(tmp_path, TOML + SAME)
    landmarks = cohort.landmarks(np.arange(160), times=[1, 3]).followed("finding")
    with pytest.raises(
        InputError, match=r"'finding' is read from vital alone \(when = same\), 'gone' is not"
    ) as no:
        PrognosisModel(**QUICK).fit(landmarks)
    assert "\n" not in str(no.value)
    with pytest.raises(InputError, match="node type 'lab': outcome 'finding' is read from vital alone"):
        PrognosisModel(**QUICK, outcomes=["finding"], kinds=["lab"]).fit(landmarks)
    model = PrognosisModel(**LEARN, outcomes=["finding"]).fit(landmarks)
    assert model.predictor_.kinds == ("vital",)
    held = cohort.landmarks(np.arange(160, 240), times=[3]).followed("finding")
    lab, vital = cohort.events["lab"], cohort.events["vital"]
    poisoned = {**cohort.events, "lab": replace(lab, value=lab.value * 7 + 1)}
    said = [
        model.forecast(replace(held, cohort=replace(cohort, events=events)))["finding"].probability
        for events in (
            cohort.events,
            poisoned,
            {**cohort.events, "vital": replace(vital, value=-vital.value)},
        )
    ]
    assert np.array_equal(said[0], said[1]) and not np.allclose(said[0], said[2])
    assert area(said[0][:, 1], held.outcome("finding")["label"] == 1) > 0.9
