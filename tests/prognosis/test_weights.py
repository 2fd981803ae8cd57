"""Weights of a fit: by one over the patients of a group, and a small group's planted gap shrinks."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from gnnpatient import InputError, PrognosisModel, open_cohort, read_cohort, read_spec
from gnnpatient.prognosis import run
from gnnpatient.prognosis.run import Run
from gnnpatient.prognosis.weights import group_weights

SPEC = {
    "cohort": "made",
    "patient": {"table": "patients.csv", "key": "pid", "category": ["sort"], "number": ["w"]},
    "nodes": {"lab": {"table": "rows.csv", "time": "day", "code": "code", "value": "value"}},
    "outcomes": {
        "sick": {
            "kind": "diagnosis",
            "table": "patients.csv",
            "column": "sick",
            "classes": {"N": "no", "Y": "yes"},
        }
    },
}


def made(n, rare, seed=0):
    """The log odds rise with a value in most patients and fall with it in the rare ones."""
    rng = np.random.default_rng(seed)
    x, few = rng.normal(size=n), rng.random(n) < rare
    yes = rng.random(n) < 1 / (1 + np.exp(-np.where(few, -2.5, 2.5) * x))
    pid = [f"p{i:04d}" for i in range(n)]
    patients = {"pid": pid, "sort": np.where(few, "rare", "usual"), "sick": np.where(yes, "Y", "N")}
    patients["w"] = np.where(few, 3.0, 1.0)
    tables = {
        "patients.csv": pl.DataFrame(patients),
        "rows.csv": pl.DataFrame({"pid": pid, "day": 0.0, "code": "a", "value": x}),
    }
    return read_cohort(read_spec(SPEC), tables), x, few, yes


@pytest.fixture(scope="module")
def cohort():
    return made(900, 0.06)


def test_a_group_weighs_as_much_as_another(cohort):
    X, few = cohort[0].landmarks(times=[0.5, 1.5]), np.tile(cohort[2], 2)
    weight = group_weights(X, "sort")
    patients = X.patient
    few = cohort[2][patients]
    assert weight.mean() == pytest.approx(1) and weight[few].sum() == pytest.approx(weight[~few].sum())
    assert len(np.unique(weight[few])) == 1
    capped = group_weights(X, "sort", least=100)  # of a group of fewer patients as of one of 100
    ratio = capped[few][0] / capped[~few][0]
    assert cohort[2].sum() < 100 and ratio == pytest.approx((~cohort[2]).sum() / 100)
    given = group_weights(X, "w")
    assert given[few][0] / given[~few][0] == pytest.approx(3)


def test_landmarks_of_one_patient_are_one_patient(cohort):
    """A patient with many landmarks makes its group no larger."""
    X = cohort[0].landmarks(times=[0.5])
    more = X[np.concatenate([np.arange(len(X)), np.repeat(np.flatnonzero(cohort[2]), 3)])]
    few = cohort[2][more.patient]
    weight = group_weights(more, "sort")
    assert weight[few][0] / weight[~few][0] == pytest.approx((~cohort[2]).sum() / cohort[2].sum())


def test_what_is_no_weight_is_refused(cohort):
    X = cohort[0].landmarks(times=[0.5])
    with pytest.raises(InputError, match=r"weights: unknown column 'sorte'; did you mean 'sort'"):
        group_weights(X, "sorte")
    with pytest.raises(InputError, match=r"the spec has no \[patient\] group"):
        group_weights(X, "group")
    other = made(60, 0.2)[0]
    number = other.number.copy() if hasattr(other, "number") else None
    if number is not None:
        number[:3] = np.nan
        with pytest.raises(InputError, match="missing, or not above 0, at 3 of 60 landmarks"):
            group_weights(replace(other, number=number).landmarks(times=[0.5]), "w")


def error_of(model, cohort, sort, x, few, yes):
    """Mean squared error of the risk in the rare and in the usual patients, against the true risk."""
    X = cohort.landmarks(times=[0.5]).followed("sick")
    risk = model.forecast(X)["sick"].risk("yes")
    truth = 1 / (1 + np.exp(-np.where(few, -2.5, 2.5) * x))
    miss = (risk - truth[X.patient]) ** 2
    return miss[few[X.patient]].mean(), miss[~few[X.patient]].mean()


@pytest.mark.parametrize("family", ["linear", pytest.param("graph", marks=pytest.mark.slow)])
def test_a_planted_gap_shrinks(cohort, family, given_ridge):
    """One slope for all patients: that of the many, unless the few count alike."""
    train, (there, x, few, yes) = cohort[0], made(600, 0.3, seed=1)
    X = train.landmarks(times=[0.5]).followed("sick")
    how = {"outcomes": ["sick"], "families": (family,), "members": 1, "device": "cpu", "epochs": 8}
    plain, alike = (PrognosisModel(**how, weights=w).fit(X) for w in (None, "sort"))
    before, after = (error_of(m, there, "sort", x, few, yes) for m in (plain, alike))
    gap = before[0] - before[1], after[0] - after[1]
    assert gap[0] > 0.05 and gap[1] < 0.7 * gap[0]
    assert after[0] < 0.8 * before[0]


def test_weights_that_are_all_alike_change_nothing(cohort, given_ridge):
    """Half of the patients in each group: what is learned is what is learned without weights."""
    both, *_ = made(200, 0.5, seed=3)
    X = both.landmarks(times=[0.5]).followed("sick")
    keep = np.concatenate(
        [np.flatnonzero(X.to_frame()["sort"].to_numpy() == s)[:80] for s in ("rare", "usual")]
    )
    X = X[np.sort(keep)]
    how = {"outcomes": ["sick"], "families": ("linear", "graph"), "members": 1, "epochs": 1, "device": "cpu"}
    a, b = (PrognosisModel(**how, weights=w).fit(X).forecast(X)["sick"].probability for w in (None, "sort"))
    assert np.allclose(a, b, atol=1e-6)


def test_a_run_keeps_its_weights_and_an_old_one_has_none(tmp_path, given_ridge, monkeypatch):
    made(120, 0.3)[0].save(tmp_path / "cohort")
    packed = open_cohort(tmp_path / "cohort")
    how = {"families": ["linear"], "members": 1, "weights": "sort", "landmarks": [0.5]}
    run.fit_run(packed, tmp_path / "run", how, device="cpu")
    assert Run.open(tmp_path / "run").plan["weights"] == "sort"
    assert PrognosisModel.from_pretrained(tmp_path / "run").weights == "sort"
    path, about, split = run.read_run(tmp_path / "run")
    plan = {name: value for name, value in about["plan"].items() if name != "weights"}
    monkeypatch.setattr(run, "read_run", lambda folder: (path, {**about, "plan": plan}, split))
    assert Run.open(tmp_path / "run").plan["weights"] is None
