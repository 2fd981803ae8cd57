"""The scikit-learn and scikit-survival face, and what a Forecast says."""

import warnings
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sksurv.functions import StepFunction
from sksurv.util import Surv

from gnnpatient import InputError, PatientKFold, PrognosisModel, StratifiedPatientKFold
from gnnpatient.cohort.survival import Survival
from gnnpatient.metrics import censoring
from gnnpatient.prognosis import fit as fitting
from gnnpatient.prognosis.forecast import Forecast
from gnnpatient.times import DAY

# -- scikit-learn --


def test_clone_and_params(model, train, quick):
    choices = model.get_params()
    assert choices | quick | {"members": 2, "epochs": 2} == choices
    twin = clone(model).set_params(channels=16)
    assert twin.channels == 16 and model.channels == 8
    with pytest.raises(NotFittedError):
        twin.forecast(train)
    with pytest.raises(NotFittedError):
        twin.save_pretrained("nowhere")
    kept = {name for name in vars(model) if name.endswith("_")}
    assert kept == {"predictor_", "train_ids_"} and model.train_ids_ == {f"p{i:03d}" for i in range(60)}


@pytest.mark.usefixtures("given_ridge")
def test_grid_search(train, quick):
    search = GridSearchCV(PrognosisModel(**quick), {"channels": [4, 8]}, cv=PatientKFold(2)).fit(train)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.forecast(train[:2])["death"].incidence.shape[0] == 2


@pytest.mark.usefixtures("given_ridge")
@pytest.mark.parametrize("cv", [PatientKFold(3), StratifiedPatientKFold(3), GroupKFold(3)])
def test_cross_val_score(train, quick, cv):
    groups = train.groups if isinstance(cv, GroupKFold) else None
    scores = cross_val_score(PrognosisModel(**quick), train, cv=cv, groups=groups)
    assert scores.shape == (3,) and np.isfinite(scores).all() and (scores <= 1).all()
    for rows, held in cv.split(train, groups=groups):
        assert not set(train.ids[rows]) & set(train.ids[held])
        assert not set(train.groups[rows]) & set(train.groups[held])


# -- names and horizons --


def test_a_cause_is_named_where_there_are_several(model, test):
    with pytest.raises(ValueError, match="several causes; name one of discharge, death"):
        model.predict(test)
    with pytest.raises(ValueError, match="discharge, death; or 'any' for event-free"):
        model.predict_survival_function(test)
    with pytest.raises(ValueError, match="unknown cause 'dead'"):
        model.predict(test, cause="dead")
    forecast = model.forecast(test)["death"]
    assert np.array_equal(model.predict(test, cause="death"), forecast.incidence[:, 2, -1])


def test_an_outcome_is_named_where_there_are_several(cohort, train, quick):
    two = replace(cohort, outcomes={"death": cohort.outcomes["death"], "again": cohort.outcomes["death"]})
    X = two.landmarks(np.arange(60), times=[0]).followed()
    model = PrognosisModel(**quick).fit(X)
    with pytest.raises(ValueError, match="several outcomes; name one of death, again"):
        model.predict(X, cause="death")
    with pytest.raises(ValueError, match="several outcomes"):
        _ = model.unique_times_
    with pytest.raises(ValueError, match="unknown outcome 'agian'; did you mean 'again'"):
        model.predict(X, outcome="agian")
    assert model.predict(X, outcome="again", cause="death").shape == (len(X),)
    assert PrognosisModel(**quick, outcomes=["again"]).fit(X).predictor_.outcomes == ("again",)
    with pytest.raises(InputError, match="for a model of one outcome"):
        model.fit(X, Surv.from_arrays(np.ones(len(X), bool), np.ones(len(X))))


def test_a_horizon_beyond_the_fitted_one(train, quick):
    with pytest.warns(UserWarning, match="nobody is followed beyond"):
        forecast = PrognosisModel(**quick | {"horizon": 365.0}).fit(train).forecast(train[:3])["death"]
    assert forecast.risk("death", 365.0) == pytest.approx(forecast.incidence[:, 2, -1])
    with pytest.raises(ValueError, match=r"^horizon 400 days; this model was fitted up to 365 days$"):
        forecast.risk("death", 400.0)
    refusals = {
        -1.0: r"^horizon -1 days; must be >= 0, days after the landmark$",
        np.nan: "fitted up to 365 days$",
        np.inf: "fitted up to 365 days$",
    }
    for bad, refusal in refusals.items():
        with pytest.raises(ValueError, match=refusal):
            forecast.risk("death", bad)


def test_risk_is_linear_between_times():
    incidence = np.array([[[0.9, 0.5, 0.4], [0.1, 0.3, 0.3], [0.0, 0.2, 0.3]]])
    forecast = Forecast(
        "o", ("a", "b"), np.array([2.0, 4.0, 8.0]), incidence, np.array(["x"]), np.zeros(1), np.ones(1, bool)
    )
    assert forecast.risks(np.array([0, 1, 2, 3, 4, 6, 8]), "a")[0] == pytest.approx(
        [0, 0.05, 0.1, 0.2, 0.3, 0.3, 0.3]
    )
    assert forecast.risk("b", 3.0).tolist() == pytest.approx([0.1])
    assert forecast.event_free.tolist() == [[0.9, 0.5, 0.4]] and len(forecast) == 1
    assert forecast.spread(cause="a") is None


def test_tables_and_the_spread_of_members(model, test):
    forecast = model.forecast(test)["death"]
    assert forecast.members.shape == (2, *forecast.incidence.shape) and forecast.spread(5.0, "death") is None
    table = forecast.table([2.0, 5.0])
    assert table.columns == ["id", "at", "outcome", "cause", "horizon", "risk", "low", "high"]
    assert len(table) == 4 * len(test) and table["low"].null_count() == len(table)
    mine = table.filter(pl.col("cause") == "death", pl.col("horizon") == 5.0)
    assert mine["risk"].to_list() == forecast.risk("death", 5.0).tolist()
    five = replace(forecast, members=np.repeat(forecast.members, [2, 3], 0))
    low, high = five.spread(5.0, "death")
    each = np.sort([replace(forecast, incidence=m).risk("death", 5.0) for m in forecast.members], 0)
    assert low == pytest.approx(each[0]) and high == pytest.approx(each[1])
    shown = five.table([5.0]).filter(pl.col("cause") == "death")
    assert shown["low"].to_numpy() == pytest.approx(low) and shown["high"].to_numpy() == pytest.approx(high)
    assert len(forecast.table()) == 2 * len(test) * len(forecast.times)


# -- scikit-survival --


def test_survival_functions_of_a_single_cause(single, single_model):
    X = single.landmarks(np.arange(60, 80), times=[1]).followed()
    functions = single_model.predict_survival_function(X)
    array = single_model.predict_survival_function(X, return_array=True)
    times, forecast = single_model.unique_times_, single_model.forecast(X)["gone"]
    assert len(functions) == len(X) and array.shape == (len(X), len(times))
    for row, fn in enumerate(functions):
        assert isinstance(fn, StepFunction) and fn(0) == 1
        assert fn.domain[0] == 0 and fn.x[-1] == times[-1]
        assert fn(times) == pytest.approx(array[row]) and fn(times) == pytest.approx(forecast.event_free[row])
        with pytest.raises(ValueError):
            fn(times[-1] + 1)
    assert single_model.predict(X) == pytest.approx(1 - array[:, -1])


def test_survival_functions_with_several_causes(model, test):
    forecast = model.forecast(test)["death"]
    anything = model.predict_survival_function(test, cause="any", return_array=True)
    death = model.predict_survival_function(test, cause="death", return_array=True)
    assert np.array_equal(anything, forecast.event_free)
    assert np.array_equal(death, 1 - forecast.incidence[:, 2])
    assert model.predict_survival_function(test, cause="death")[0](0) == 1


def test_cumulative_incidence_at_chosen_times(model, test):
    assert np.array_equal(model.predict_cumulative_incidence(test), model.forecast(test)["death"].incidence)
    some = model.predict_cumulative_incidence(test, times=[0.0, 3.5, 10.0])
    assert some.shape == (len(test), 3, 3) and some.sum(1) == pytest.approx(np.ones((len(test), 3)))
    assert (some[:, 0, 0] == 1).all() and (some[:, 1:, 0] == 0).all()
    assert some[:, 2, 1] == pytest.approx(model.forecast(test)["death"].risk("death", 3.5))
    with pytest.raises(ValueError, match="fitted up to 10 days"):
        model.predict_cumulative_incidence(test, times=[11.0])


# -- outcomes given, missing, or not there --


def test_y_may_be_given(single, quick, single_model):
    X = single.landmarks(np.arange(60), times=[0, 3]).followed()
    truth = X.outcome("gone")
    y = Surv.from_arrays(truth["event"] > 0, truth["time"])
    given = PrognosisModel(**quick).fit(X, y)
    for name, family in given.predictor_.families.items():
        same = single_model.predictor_.families[name].tensors()
        assert all(torch.equal(t, same[n]) for n, t in family.tensors().items())
    held = single.landmarks(np.arange(60, 80), times=[0, 1, 2]).followed()
    own = held.outcome("gone")
    y = Surv.from_arrays(own["event"] > 0, own["time"])
    assert given.score(held, y) == single_model.score(held)
    for bad, message in (
        (own["time"], "structured array of event and time"),
        (y[1:], "one entry per landmark"),
        (np.array([*y[:-1], (True, np.nan)], y.dtype), "days after the landmark, > 0"),
        (np.array([*y[:-1], (True, 0.0)], y.dtype), "days after the landmark, > 0"),
        (np.array([*own[:-1], (2, 1.0)], own.dtype), "0 censored, 1 to 1 for gone"),
        (own[["time", "event"]], "its first field must be the event"),
    ):
        with pytest.raises(InputError, match=message):
            PrognosisModel(**quick).fit(held, bad)


def test_nobody_with_an_event_is_refused_before_any_epoch(cohort, quick, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("trained")

    monkeypatch.setattr(fitting, "build_graphs", never)
    death = cohort.outcomes["death"]
    for causes in (("discharge", "death"), ("death",)):
        censored = Survival(death.time, np.zeros_like(death.event), causes)
        X = replace(cohort, outcomes={"loss": censored}).landmarks(times=[0, 2]).followed()
        for horizon in (None, 10.0):
            with pytest.raises(InputError, match=r"outcome 'loss': no events.*nothing to learn"):
                PrognosisModel(**quick | {"horizon": horizon}).fit(X)
    with pytest.raises(InputError, match="no landmark to train on"):
        PrognosisModel(**quick).fit(cohort.at(1000).followed())


def test_asks_not_at_risk(cohort, model, quick):
    asks = cohort.landmarks(times=[0, 6])
    at_risk = asks.at_risk()
    assert (~at_risk).sum() > 0
    with pytest.raises(InputError, match=rf"{(~at_risk).sum()} of 160 landmarks .* not at risk; .*followed"):
        PrognosisModel(**quick).fit(asks)
    forecast = model.forecast(asks)["death"]
    assert np.array_equal(forecast.at_risk, at_risk)
    assert np.isnan(forecast.incidence[~at_risk]).all() and np.isfinite(forecast.incidence[at_risk]).all()
    assert np.isnan(forecast.risk("death", 3.0)[~at_risk]).all()
    assert set(forecast.table([3.0])["id"]) == set(asks.ids[at_risk])
    elsewhere = replace(cohort, outcomes={})
    assert np.isfinite(model.forecast(elsewhere.at(6))["death"].incidence).all(), "no outcome: nobody is out"


# -- score --


def brier(risk, time, event, horizon, cause):
    """By hand: (case - risk)^2 over G(T-) for what came, over G(h) for what lies beyond."""
    g = censoring(time, event)
    total = 0.0
    for r, t, e in zip(risk, time, event, strict=True):
        if t <= horizon and e:
            total += ((e == cause) - r) ** 2 / g.left(t)
        elif t > horizon:
            total += r**2 / g.right(horizon)
    return total / len(risk)


def test_score_is_a_scaled_integrated_brier_score(cohort, model):
    test = cohort.landmarks(np.arange(60, 80), times=[0, 1, 2]).followed()
    truth, forecast = test.outcome("death"), model.forecast(test)["death"]
    time, event = truth["time"], truth["event"].astype(int)
    g, scores = censoring(time, event), []
    last = [h for h in forecast.times if g.right(h) >= 0.1 and (time > h).sum() >= 20]
    assert len(last) > 3
    for cause in (1, 2):
        integrated = []
        for risk in (
            forecast.incidence[:, cause],
            model.predictor_.null_at("death", test)[:, cause],  # a curve for each landmark
        ):
            at = [brier(risk[:, i], time, event, h, cause) for i, h in enumerate(last)]
            integrated.append(np.trapezoid([0, *at], [0, *last]) / last[-1])
        scores.append(1 - integrated[0] / integrated[1])
    assert model.score(test) == pytest.approx(np.mean(scores))


def test_score_warns_of_training_patients(cohort, train, model, test):
    with pytest.warns(UserWarning, match="60 of the scored patients were trained on"):
        model.score(train)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.score(test)
    with pytest.raises(InputError, match="not at risk"):
        model.score(cohort.landmarks(np.arange(60, 80), times=[9]))


def test_score_with_a_cause_that_nobody_has(cohort, quick):
    death = cohort.outcomes["death"]
    one = Survival(death.time, np.where(death.event == 2, 0, death.event), ("discharge", "death"))
    X = replace(cohort, outcomes={"death": one}).landmarks(times=[0, 2]).followed()
    rest = X[X.patient >= 40]
    model = PrognosisModel(**quick).fit(X[X.patient < 40])
    assert (model.predictor_.null["death"][2] == 0).all()
    assert np.isfinite(model.score(rest)) and model.forecast(rest)["death"].risk("death").max() < 0.05


# -- what it may see --


def scrambled(cohort, kinds):
    """Other values and codes in some kinds, and rows taken from some patients."""
    events = dict(cohort.events)
    for kind in kinds:
        e = events[kind]
        events[kind] = replace(e, value=e.value * 7 + 1, code=np.where(e.code == 1, 2, 1))
    return replace(cohort, events=events)


@pytest.mark.usefixtures("given_ridge")
def test_statics_alone(cohort, train, quick):
    model = PrognosisModel(**quick, kinds=()).fit(train)
    asks = cohort.at(3).followed()
    before = model.forecast(asks)["death"].incidence
    bare = replace(cohort, events={kind: e.empty() for kind, e in cohort.events.items()})
    for other in (bare, scrambled(cohort, ["lab", "vital", "drug"])):
        assert np.array_equal(model.forecast(other.at(3).followed())["death"].incidence, before)
        again = PrognosisModel(**quick, kinds=()).fit(
            other.landmarks(np.arange(60), times=[0, 2, 4, 7]).followed()
        )
        assert np.array_equal(again.forecast(asks)["death"].incidence, before)
    older = replace(cohort, number=cohort.number + 20)
    assert not np.array_equal(model.forecast(older.at(3).followed())["death"].incidence, before)
    assert model.predictor_.unknown(cohort) == {}


def test_one_kind_alone(cohort, train, quick):
    model = PrognosisModel(**quick | {"epochs": 2}, kinds=["lab"]).fit(train)
    asks = cohort.at(3).followed()
    before = model.forecast(asks)["death"].incidence
    other = scrambled(cohort, ["vital", "drug"])
    assert np.array_equal(model.forecast(other.at(3).followed())["death"].incidence, before)
    lab = scrambled(cohort, ["lab"])
    assert not np.array_equal(model.forecast(lab.at(3).followed())["death"].incidence, before)
    assert model.predictor_.unknown(cohort) == {} and model.predictor_.kinds == ("lab",)


def test_another_cohort_may_lack_and_abound(cohort, model):
    """An unknown code, a missing modality, one single patient: an answer, and word of what was unknown."""
    asks = cohort.at(2).followed()
    assert model.predictor_.unknown(cohort) == {}
    strange = replace(cohort, codes={**cohort.codes, "drug": ("other", "cefazolin", "warfarin", "insulin")})
    assert model.predictor_.unknown(strange) == {"drug": ["warfarin"]}
    there = model.forecast(strange.at(2).followed())["death"].incidence
    assert np.isfinite(there).all()
    heparin = cohort.codes["drug"].index("heparin")
    assert cohort.codes["drug"][2] == "heparin" == cohort.codes["drug"][heparin]
    free = np.isin(
        asks.patient, np.unique(cohort.events["drug"].patient[cohort.events["drug"].code == heparin])
    )
    assert np.abs(there - model.forecast(asks)["death"].incidence)[~free].max() < 1e-5

    nodes = {("scan" if kind == "drug" else kind): node for kind, node in cohort.spec.nodes.items()}
    renamed = {
        field: {("scan" if kind == "drug" else kind): value for kind, value in getattr(cohort, field).items()}
        for field in ("events", "codes", "units")
    }
    other = replace(cohort, spec=cohort.spec.model_copy(update={"nodes": nodes}), **renamed)
    assert model.predictor_.unknown(other) == {"scan": ["*"]}
    lacking = replace(cohort, events={**cohort.events, "drug": cohort.events["drug"].empty()})
    with pytest.raises(InputError, match="the model knows no node type 'scan'"):
        model.forecast(other.at(2).followed())
    assert np.isfinite(model.forecast(lacking.at(2).followed())["death"].incidence).all()
    alone = cohort.at(1, patient="p004")
    assert model.forecast(alone)["death"].incidence.shape == (1, 3, len(model.unique_times_))


def test_everybody_leaves_on_the_first_day(cohort, quick):
    """A table of one moment: every event on one day, no timepoint before it."""
    early = Survival(np.full(80, DAY), np.ones(80, np.int8), ("gone",))
    X = replace(cohort, outcomes={"gone": early}).at(0)
    model = PrognosisModel(**quick | {"horizon": 1.0}).fit(X)
    assert model.unique_times_.tolist() == [1.0] and model.predict(X).min() > 0.9
