"""A diagnosis through the estimator and a run: what is given, what is refused, which asks are drawn."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

FOREVER = np.iinfo(np.int64).max
FEW = {"members": 1, "epochs": 1, "channels": 8, "batch_size": 64}


def labelled(label, classes=("no", "yes"), known=None, end=None, **how):
    from gnnpatient.cohort.diagnosis import Diagnosis

    never = np.full(len(label), FOREVER)
    known, end = (never if given is None else given for given in (known, end))
    whole = {"gap": 86_400, "horizon": None, **how}
    return Diagnosis(np.asarray(label, np.int16), known, end, classes, **whole)


@pytest.fixture(scope="module")
def label():
    return np.random.default_rng(0).integers(-1, 2, 80)


@pytest.fixture(scope="module")
def sick(cohort, label):
    """The tiny cohort with a diagnosis alone, of which a third was not looked for."""
    return replace(cohort, outcomes={"icu": labelled(label)})


@pytest.fixture(scope="module")
def asks(sick):
    return sick.landmarks(np.arange(60), times=[0, 3]).followed()


@pytest.fixture(scope="module")
def icu(asks):
    from gnnpatient import PrognosisModel

    return PrognosisModel(**FEW | {"members": 2}).fit(asks)


def test_y_may_be_given(asks, icu):
    from gnnpatient import InputError, PrognosisModel

    y = asks.outcome("icu")["label"]
    given = PrognosisModel(**FEW | {"members": 2}).fit(asks, y)
    same = given.forecast(asks)["icu"].members == icu.forecast(asks)["icu"].members
    assert same.all()
    with pytest.warns(UserWarning, match="trained on"):
        assert given.score(asks, y) == icu.score(asks)
    for bad in (y[1:], y.astype(float), y + 1, y - 2, y[:, None], np.array(["no"] * len(y))):
        with pytest.raises(
            InputError, match="an int array, one entry per landmark: 0 to 1 for no, yes, -1 = never looked"
        ):
            PrognosisModel(**FEW).fit(asks, bad)


@pytest.mark.parametrize("only", [-1, 0, 1])
def test_labels_of_one_class_are_refused(cohort, only):
    from gnnpatient import InputError, PrognosisModel

    one = replace(cohort, outcomes={"icu": labelled(np.full(80, only)), "death": cohort.outcomes["death"]})
    says = "no label among" if only < 0 else f"all labels are '{('no', 'yes')[only]}' among"
    with pytest.raises(InputError, match=f"outcome 'icu': {says} .* nothing to learn"):
        PrognosisModel(**FEW).fit(one.at(1).followed("death"))


def test_one_of_three_classes_may_be_absent(cohort):
    from gnnpatient import PrognosisModel

    two = labelled(np.arange(80) % 2 * 2, ("a", "b", "c"))
    X = replace(cohort, outcomes={"grade": two}).at(1)
    model = PrognosisModel(**FEW).fit(X[:60])
    assert model.predictor_.null["grade"].tolist() == [0.5, 0, 0.5]
    assert (model.forecast(X[60:])["grade"].risk("b") < 0.01).all() and np.isfinite(model.score(X[60:]))


def test_curves_of_a_diagnosis_are_refused(icu, asks):
    from gnnpatient import InputError

    for ask in (
        icu.predict_survival_function,
        icu.predict_cumulative_incidence,
        lambda X: icu.unique_times_,
    ):
        with pytest.raises(InputError, match="outcome 'icu' is a diagnosis: no curve"):
            ask(asks)
    with pytest.raises(InputError, match="unknown class 'maybe' of 'icu'; there are no, yes"):
        icu.predict(asks, cause="maybe")


def test_tables_and_the_spread_of_members(icu, asks):
    said = icu.forecast(asks)["icu"]
    table = said.table()
    assert table.columns == ["id", "at", "outcome", "cause", "horizon", "risk", "low", "high"]
    assert len(table) == 2 * len(asks) == len(said) * 2 and table["horizon"].null_count() == len(table)
    assert table["horizon"].dtype == table["low"].dtype == pl.Float64 and said.spread() is None
    assert table.filter(cause="yes")["risk"].to_list() == said.risk().tolist()
    five = replace(said, members=np.repeat(said.members, [2, 3], 0))
    low, high = five.spread("no")
    assert low == pytest.approx(said.members[:, :, 0].min(0)) and high == pytest.approx(
        said.members[:, :, 0].max(0)
    )
    assert five.table().filter(cause="no")["low"].to_list() == low.tolist()


def test_every_landmark_counts_the_same_in_the_shares(sick, label):
    from gnnpatient.prognosis.targets import LabelTarget

    at = np.repeat([0, 1], [30, 10])
    share = LabelTarget(("no", "yes"), np.r_[label[:30], label[:10]].astype(int)).marginal(at)
    each = [np.mean(part[part >= 0]) for part in (label[:30], label[:10])]
    seen = [(part >= 0).mean() for part in (label[:30], label[:10])]
    assert share.sum() == pytest.approx(1) and min(seen) < 1
    assert min(each) <= share[1] <= max(each)


def test_random_asks_come_from_the_outcomes_that_are_fitted(cohort, sick, label):
    """One diagnosis does not thin out the asks of another, nor survival those of a diagnosis."""
    from gnnpatient.prognosis.run import training_landmarks

    plan = {"outcomes": ["icu"], "landmarks": "random", "seed": 0}
    alone = training_landmarks(sick, np.arange(60), plan)
    assert set(alone.patient) == set(np.flatnonzero(label[:60] >= 0))
    other = replace(sick, outcomes={"icu": sick.outcomes["icu"], "b": labelled(np.full(80, -1))})
    both = training_landmarks(other, np.arange(60), plan)
    assert np.array_equal(both.patient, alone.patient) and np.array_equal(both.at, alone.at)
    last = max(e.known.max() for e in sick.events.values())
    assert 0 <= alone.at.min() < alone.at.max() <= last, "nobody is asked after the last row of all"
    mixed = replace(cohort, outcomes={**cohort.outcomes, **sick.outcomes})
    death = training_landmarks(mixed, np.arange(60), plan | {"outcomes": ["death"]})
    plain = training_landmarks(cohort, np.arange(60), plan | {"outcomes": ["death"]})
    assert np.array_equal(death.at, plain.at) and np.array_equal(death.patient, plain.patient)


def test_every_kind_has_a_model_and_another_name_is_refused(cohort, sick):
    from gnnpatient import InputError, PrognosisModel
    from gnnpatient.cohort.outcomes import progression
    from gnnpatient.spec.outcomes import ProgressionSpec

    spec = ProgressionSpec(
        kind="progression", node="lab", codes=("lactate",), worse={"plus": 1}, horizon="5d"
    )
    rise = progression(spec, cohort.events, cohort.codes, {})
    for others in (sick.outcomes, {**cohort.outcomes, **sick.outcomes}):
        mixed = replace(cohort, outcomes={**others, "rise": rise})
        assert list(mixed.outcomes_with_model()) == [*others, "rise"]
        assert list(mixed.outcomes_with_model(["rise", "icu"])) == ["rise", "icu"]
    with pytest.raises(InputError, match=r"outcomes = \[\]; name at least one"):
        PrognosisModel(**FEW, outcomes=[]).fit(sick.at(0))
    with pytest.raises(InputError, match="unknown outcome 'ico'; did you mean 'icu'"):
        PrognosisModel(**FEW, outcomes=["ico"]).fit(sick.at(0))


def test_who_is_held_out_has_labels_too(sick, label):
    from gnnpatient import StratifiedPatientKFold
    from gnnpatient.prognosis.run import _share

    free = replace(sick, group=None)
    held = _share(free, 0.25, 0, "icu")
    parts = [test for _, test in StratifiedPatientKFold(4, outcome="icu").split(free.at(0))]
    for k in (-1, 0, 1):
        count = (label == k).sum()
        assert abs((label[held] == k).sum() - count / 4) <= 1
        assert all(abs((label[test] == k).sum() - count / 4) <= 1.01 for test in parts)


def test_the_label_of_a_horizon_needs_observation_up_to_it(cohort):
    """Yes within it, no if seen that long, else none; the last are at risk and train nothing.

    Asks to score hold them, too: they tell of the censoring (METHODS 9).
    """
    from gnnpatient import PrognosisModel
    from gnnpatient.prognosis.run import scored_landmarks

    day, who = 86_400, np.arange(80)
    known = np.where(who % 3 == 0, 4 * day, FOREVER)
    end = np.where(who % 3 == 1, 30 * day, 5 * day)
    coming = labelled(who % 3 == 0, known=known, end=end, horizon=7 * day)
    some = replace(cohort, outcomes={"icu": coming})
    X = some.at(1).followed("icu")
    assert X.outcome("icu")["label"].tolist() == [(1, 0, -1)[i % 3] for i in range(80)]
    assert set(scored_landmarks(some, who, "icu", [1.0]).patient % 3) == {0, 1, 2}
    model = PrognosisModel(**FEW).fit(X)
    assert model.predictor_.about["events"]["icu"] == {"no": 27, "yes": 27}
    assert model.predictor_.about["asks"] == 54 and len(model.train_ids_) == 54
    assert np.isfinite(model.predict(X)).all()


def test_a_run_of_a_diagnosis(sick, tmp_path):
    from gnnpatient import load_predictor, open_cohort, read_spec
    from gnnpatient.prognosis.run import fit_run
    from gnnpatient.spec.outcomes import DiagnosisSpec

    assert read_spec("ward").outcomes["icu"].class_names == ("no", "yes")
    spec = DiagnosisSpec(kind="diagnosis", table="patients.csv", column="icu")
    named = sick.spec.model_copy(update={"outcomes": {"icu": spec}})
    packed = open_cohort(replace(sick, spec=named).save(tmp_path / "cohort"))
    run = fit_run(packed, tmp_path / "run", FEW)
    again = fit_run(packed, tmp_path / "again", FEW)
    assert run.finished and all(
        (run.folder / "model" / name).read_bytes() == (again.folder / "model" / name).read_bytes()
        for name in ("config.json", "model.safetensors")
    )
    config = json.loads((run.folder / "model" / "config.json").read_text())
    assert config["model"]["heads"] == {"icu": {"kind": "diagnosis", "classes": ["no", "yes"]}}
    assert sum(config["null"]["icu"]) == pytest.approx(1)
    code = f"""
import sys
from gnnpatient import load_predictor, open_cohort
X = open_cohort({str(tmp_path / "cohort")!r}).at(3)
print(float(load_predictor({str(run.folder)!r}).forecast(X)["icu"].risk()[0]))
print(*sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    risk, loaded = said.stdout.splitlines()
    here = load_predictor(run.folder).forecast(packed.at(3))["icu"].risk()[0]
    assert float(risk) == pytest.approx(here, abs=1e-6)
    assert not set(loaded.split()) & {"sklearn", "sksurv", "polars", "torch_geometric", "pandas"}


def test_a_ranked_list_has_the_likeliest_classes_first():
    from gnnpatient import InputError
    from gnnpatient.prognosis.forecast import DiagnosisForecast

    p = np.array([[0.2, 0.5, 0.3], [np.nan] * 3, [0.4, 0.2, 0.4]])
    ids, at, at_risk = np.array(["b", "c", "a"]), np.zeros(3), np.array([True, False, True])
    members = np.stack([p * 0 + 1 / 3] * 5)
    forecast = DiagnosisForecast("cause", ("x", "y", "z"), p, ids, at, at_risk)
    rows = forecast.ranked(2).select("id", "rank", "class", "probability", "low").rows()
    assert rows == [
        *[("b", 1, "y", 0.5, None), ("b", 2, "z", 0.3, None)],
        *[("a", 1, "x", 0.4, None), ("a", 2, "z", 0.4, None)],  # equal: in the order of the classes
    ]
    assert len(forecast.ranked()) == len(forecast.ranked(9)) == 6
    spread = DiagnosisForecast("cause", ("x", "y", "z"), p, ids, at, at_risk, members).ranked(1)
    assert spread["low"].to_list() == spread["high"].to_list() == pytest.approx([1 / 3, 1 / 3])
    with pytest.raises(InputError, match="k = 0; must be >= 1"):
        forecast.ranked(0)
