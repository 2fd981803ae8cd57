"""Models of any make in evaluation and cross-validation: whom they see, whom they are compared on."""

import threading
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from gnnpatient import InputError, PatientKFold, metrics
from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.prognosis.forecast import Forecast
from gnnpatient.study import cross_validate, evaluate_models
from gnnpatient.study.folds import Fold, make_folds
from gnnpatient.times import YEAR

HORIZON = 3 * YEAR
TIMES = np.arange(0.5, 5.01, 0.5) * YEAR


class Spy:
    """An estimator that records whom it was fitted on; its risks are `risk(X, fit)`, constant in time."""

    fits: list = []  # noqa: RUF012  (shared by copies on purpose)

    def __init__(self, risk):
        self.risk = risk

    def fit(self, X):
        self.fit_ = len(self.fits)
        self.fits.append(X)
        return self

    def forecast(self, X):
        risk = np.broadcast_to(self.risk(X, self.fit_)[:, None], (len(X), len(TIMES)))
        incidence = np.stack([1 - 1.5 * risk, risk / 2, risk], 1)
        causes = ("transplant", "death")
        return {"death": Forecast("death", causes, TIMES, incidence, X.ids, X.days, np.ones(len(X), bool))}


def noise(X, fit):
    return np.random.default_rng(fit).uniform(0.05, 0.6, 312)[X.patient]


@pytest.fixture(scope="module")
def found(pbc):
    """Noise, and a forecast that is constant within each fold, over two folds at two landmarks."""
    Spy.fits = []
    models = {"noise": Spy(noise), "fold": Spy(lambda X, fit: np.full(len(X), 0.05 + 0.08 * fit))}
    steps = []
    how = {"folds": 2, "landmarks": ["entry", YEAR], "fit_at": ["entry", YEAR], "horizons": [HORIZON], "n": 4}
    found = cross_validate(pbc, models, "death", progress=lambda *a, **k: steps.append((a, k)), **how)
    return found, list(Spy.fits), steps


def plain_auc(X, risk, fold):
    """Concordance of pairs within folds: cases by death, others event-free or transplanted; slow."""
    y = X.outcome("death")
    time, event = y["time"], y["event"].astype(int)
    g = metrics.censoring(time, event)
    case = (event == 2) & (time <= HORIZON)
    other = (time > HORIZON) | ((event == 1) & (time <= HORIZON))
    weight = np.where(time > HORIZON, 1 / g.right(np.full(len(X), HORIZON)), 1 / g.left(time))
    right = total = 0.0
    for i in np.flatnonzero(case):
        for j in np.flatnonzero(other & (fold == fold[i])):
            w = weight[i] * weight[j]
            right += w * ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j]))
            total += w
    return right / total


def test_pooled_figures_compare_within_folds(found):
    found, _, _ = found
    for landmark in (0.0, YEAR):
        rows = np.flatnonzero(found.risks.landmarks.days == landmark)
        X, risk = found.risks.landmarks[rows], found.risks.risks["noise"]["death"][rows]
        own = plain_auc(X, risk[:, np.isclose(found.risks.times, HORIZON)][:, 0], found.risks.fold[rows])
        where = {"landmark": landmark, "horizon": HORIZON, "cause": "death"}
        assert found.value("noise", "auc", **where)["value"] == pytest.approx(own, rel=1e-9)
        for metric in ("auc", "auc1", "c"):
            row = found.value("fold", metric, **where)
            assert row["value"] == row["low"] == row["high"] == 0.5
        difference = found.value("noise-cox", "auc", **where)
        assert difference["value"] == pytest.approx(own - found.value("cox", "auc", **where)["value"])
        assert found.value("cox", "auc", **where)["value"] > 0.8
    assert found.value("null", "scaled_ibs", landmark=0, cause="death")["value"] == 0


def test_a_cross_validation_is_shown_with_its_figures(found):
    result, _, _ = found
    title, events, models, figures, *_ = repr(result).split("\n")
    assert title == "Evaluation of death: 312 scored patients, each when held out, in 2 folds"
    assert events.split(maxsplit=1)[1] == "29 transplant, 140 death"
    assert models.split(maxsplit=1)[1].startswith("noise, fold, cox, null")
    assert f"{len(result.scores.rows)}, as .value(" in figures
    auc = result.value("noise", "auc", cause="death", landmark=None, horizon=HORIZON)
    assert f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]" in result._repr_html_()
    assert "means over landmarks" in result._repr_html_()


def test_models_are_refitted_on_training_patients_only(found, pbc):
    found, fits, steps = found
    folds = make_folds(pbc, "death", 2, 0)
    assert len(fits) == 4
    for i, X in enumerate(fits):
        fold = folds[i // 2]
        assert not set(X.patient) & set(fold.test) and set(X.patient) <= set(fold.train)
        assert set(X.days) == {0.0, YEAR} and X.at_risk("death").all()
    for i, fold in enumerate(folds):
        assert set(found.risks.landmarks.patient[found.risks.fold == i]) == set(fold.test)
        assert found.folds[i].scored == len(fold.test) and found.folds[i].trained == len(fold.train)
    assert found.scores.patients == found.scores.held_out == len(pbc)
    assert [step[0] for step in steps][:3] == [
        ("fold 1 of 2: noise", 1, 6),
        ("fold 1 of 2: fold", 2, 6),
        ("fold 1 of 2: cox", 3, 6),
    ]
    fits, draws = steps[:6], steps[6:]
    assert [step[1]["ends_fold"] for step in fits] == [False, False, True] * 2
    assert [step[0] for step in draws] == [("intervals", i, 4) for i in range(1, 5)]
    assert found.to_dict()["folds"][1]["fold"] == 1


@pytest.fixture(scope="module")
def halves(pbc):
    X = pbc.landmarks(times=[0, YEAR]).followed("death")
    train, test = next(PatientKFold(2).split(X))
    return X[train], X[test]


def test_a_forecast_scores_like_its_model(halves):
    train, test = halves
    model = Spy(noise).fit(train)
    answer = model.forecast(test)
    models = {"model": model, "table": answer, "bare": answer["death"]}
    death = replace(answer["death"], causes=("death",), incidence=answer["death"].incidence[:, [0, 2]])
    how = {"train": train, "outcome": "death", "horizons": [HORIZON], "n": 3}
    found = evaluate_models(models, test, **how)
    alone = evaluate_models({"one": death}, test, cause="death", **how)
    rows = [row for row in found.rows if row["model"].startswith("model")]
    assert len(rows) > 30
    for row in rows:
        for other in ("table", "bare"):
            name = row["model"].replace("model", other)
            assert {**row, "model": name} in found.rows
        if row["cause"] == "death":
            assert {**row, "model": row["model"].replace("model", "one")} in alone.rows
    assert {row["cause"] for row in alone.rows} == {"death"}
    bare = evaluate_models({"mine": death}, test, cause="death", horizons=[HORIZON], n=3)
    assert {row["model"] for row in bare.rows} == {"mine"} and "no train" in bare.warnings[0]
    assert bare.value("mine", "scaled_ibs", landmark=0)["value"] is None
    same = alone.value("one", "auc", landmark=0, horizon=HORIZON)
    assert bare.value("mine", "auc", landmark=0, horizon=HORIZON)["value"] == same["value"]


def test_refusals_of_evaluate_models(halves):
    train, test = halves
    model = Spy(noise).fit(train)
    good = model.forecast(test)["death"]
    death = replace(good, causes=("death",), incidence=good.incidence[:, [0, 2]])
    order = np.arange(len(test))
    order[[3, 4]] = [4, 3]

    def refused(match, models, X=test, train=train, **how):
        with pytest.raises(InputError, match=match) as error:
            evaluate_models(models, X, train=train, outcome="death", **{"n": 2, **how})
        assert "\n" not in str(error.value)

    refused("give a dictionary", [good])
    refused("'cox': the name of what stands beside", {"cox": good})
    refused("'a-cox': the name of a difference", {"a": good, "a-cox": good})
    refused("of type int; give an object with forecast", {"mine": 3})
    refused("the class Spy", {"mine": Spy})
    refused("no forecast of outcome 'death'; did you mean", {"mine": {"deaths": good}})
    refused("of type ndarray; must be a Forecast", {"mine": {"death": good.incidence}})
    refused(f"a forecast of {len(train)} landmarks, {len(test)}", {"mine": model.forecast(train)})
    refused("2 of .* another patient or day .* first in row 3", {"mine": replace(good, ids=good.ids[order])})
    refused("another patient or day", {"mine": replace(good, at=good.at + 1)})
    refused("no forecast of cause 'transplant' .* cause=\"death\"", {"mine": death})
    refused("unknown cause 'deth'", {"mine": replace(death, causes=("deth",))})
    refused("unknown cause 'deaths'", {"mine": good}, cause="deaths")
    refused("horizon 3652.5 days; model 'mine' forecasts up to", {"mine": good}, horizons=[10 * YEAR])
    refused("must be > 0", {"mine": good}, horizons=[-1.0])
    refused("horizons = 365; give a list", {"mine": good}, horizons=365)
    refused("horizons = '1y'; give a list", {"mine": good}, horizons="1y")
    refused("duration '1 year'", {"mine": good}, horizons=["1 year"])
    refused("must be probabilities, from 0", {"mine": replace(good, incidence=100 * good.incidence)})
    nan = good.incidence.copy()
    nan[:7] = np.nan
    refused(rf"no forecast \(nan\) at 7 of {len(test)}", {"mine": replace(good, incidence=nan)})
    refused("patients are in train and in test", {"mine": good}, train=test[:50])
    model.train_ids_ = frozenset(test.ids[:5].tolist())
    refused("'mine' was fitted on 5 of the patients in test", {"mine": model})
    model.train_ids_ = test.ids[:5]  # as an array
    refused("'mine' was fitted on 5 of the patients in test", {"mine": model})
    model.train_ids_ = train.ids
    pairs = replace(test.cohort, group=(np.arange(len(test.cohort)) // 2).astype(str))
    there = Landmarks(pairs, test.patient, test.at)
    refused("'mine' was fitted on other patients of .* of the groups in test", {"mine": model}, there, None)
    refused("keep the others with .followed", {"mine": model}, X=test.cohort.at(3000.0))


def test_refusals_of_cross_validate(pbc):
    spy = Spy(noise)

    def refused(match, models=None, outcome="death", **how):
        Spy.fits = []
        with pytest.raises(InputError, match=match) as error:
            cross_validate(pbc, models or {"mine": spy}, outcome, **{"n": 2, "folds": 2, **how})
        assert "\n" not in str(error.value) and not Spy.fits

    class Fitted:
        def forecast(self, X):
            raise AssertionError

    refused("has no fit", {"mine": Fitted()})
    refused("the class Spy", {"mine": Spy})
    refused("'cnn' is no model", {"mine": "cnn"})
    refused("unknown outcome 'deth'; did you mean 'death'", outcome="deth")
    refused('give "random", or days', fit_at="entry")
    refused("nobody at risk at the landmarks", landmarks=[20_000.0])
    refused("name at least one", landmarks=[])
    refused("unknown column 'sx'", by=["sx"])
    refused("censoring 'weibull'; must be km or cox", censoring="weibull")
    refused("n_splits = 1 for", folds=1)
    with pytest.raises(TypeError, match=r"Landmarks where a cohort is wanted; theirs is X.cohort"):
        cross_validate(pbc.at(0), {"mine": spy}, "death")
    everybody = np.arange(len(pbc))
    refused("one side is empty", folds=[Fold(0, 0, everybody, everybody[:0], pl.String)])
    refused("folds: give a number, a file", folds=PatientKFold(2))
    refused("folds: give a number, a file", folds=list(PatientKFold(2).split(pbc.at(0))))
    locked = Spy(noise)
    locked.lock = threading.Lock()
    refused("'mine' cannot be copied anew for each fold .*pickle", {"mine": locked}, landmarks=["entry"])
    from gnnpatient import PrognosisModel

    refused("in the training part of a fold", {"gnn": PrognosisModel()}, horizons=[12 * YEAR])


def test_sides_of_two_readings_of_a_cohort_with_the_same_ids_are_warned_of(halves):
    train, test = halves
    again = Landmarks(replace(test.cohort), test.patient, test.at)
    answer = Spy(noise).fit(train).forecast(test)["death"]
    how = {"outcome": "death", "horizons": [HORIZON], "n": 2}
    with pytest.warns(UserWarning, match=f"{len(np.unique(test.ids))} ids of test are ids of train"):
        found = evaluate_models({"mine": answer}, again, train=test, **how)
    assert "cohort pbc was made twice" in found.warnings[0]


def test_a_model_of_another_cohort_with_the_same_ids_is_warned_of(halves):
    from types import SimpleNamespace

    train, test = halves
    model = Spy(noise).fit(train)
    model.train_ids_ = frozenset(test.ids[:5].tolist())
    model.predictor_ = SimpleNamespace(about={"cohort": "elsewhere"})
    with pytest.warns(UserWarning, match="5 ids of test are ids of its training patients, in cohort els"):
        found = evaluate_models({"mine": model}, test, cause="death", horizons=[HORIZON], n=2)
    assert "in cohort elsewhere" in found.warnings[0]
