"""StackedCox: the rival is scikit-survival's own Cox model, on what was known."""

from dataclasses import replace

import numpy as np
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from gnnpatient import InputError
from gnnpatient.cohort.survival import Survival
from gnnpatient.study.baselines import StackedCox
from gnnpatient.study.tabular import features
from gnnpatient.times import DAY, YEAR

AT = [0.0, 1 * YEAR, 3 * YEAR]


@pytest.fixture(scope="module")
def train(pbc):
    return pbc.landmarks(np.arange(200), times=AT).followed()


@pytest.fixture(scope="module")
def cox(train):
    return StackedCox(horizon=5 * YEAR).fit(train)


def test_one_cause_is_scikit_survivals_own(pbc):
    """Its own fit on the same columns, and its survival function at our times."""
    death = pbc.outcomes["death"]
    alone = replace(pbc, outcomes={"gone": Survival(death.time, np.minimum(death.event, 1), ("gone",))})
    train = alone.landmarks(np.arange(200), times=AT).followed()
    test = alone.landmarks(np.arange(200, 312), times=[YEAR]).followed()
    ours = StackedCox(horizon=5 * YEAR).fit(train)
    forecast = ours.forecast(test)["gone"]
    columns, truth = ours.columns_["gone"], train.outcome("gone")
    inside = truth["time"] <= 5 * YEAR
    y = Surv.from_arrays((truth["event"] > 0) & inside, truth["time"].clip(max=5 * YEAR))
    model = CoxPHSurvivalAnalysis(alpha=50.0).fit(columns(train), y)
    functions = model.predict_survival_function(columns(test))
    theirs = np.stack([fn(np.minimum(forecast.times, fn.x[-1])) for fn in functions])
    theirs[:, forecast.times < functions[0].x[0]] = 1  # before the first event its step functions go back
    assert forecast.event_free == pytest.approx(theirs, abs=1e-7)
    assert forecast.incidence[:, 1] == pytest.approx(1 - theirs, abs=1e-7)
    assert model.score(columns(train), y) > 0.75, "it learned"


def test_slots_sum_to_one(pbc, cox):
    forecast = cox.forecast(pbc.landmarks(np.arange(200, 312), times=[0, 800]).followed())["death"]
    assert np.abs(forecast.incidence.sum(1) - 1).max() < 1e-12
    assert forecast.incidence.min() >= 0 and (np.diff(forecast.incidence[:, 0]) <= 1e-15).all()
    assert (np.diff(forecast.incidence[:, 1:]) >= -1e-15).all()
    assert forecast.times[-1] == 5 * YEAR and forecast.causes == ("transplant", "death")


def test_the_future_cannot_be_seen(pbc, train, cox):
    day = 700.0

    def poison(e):
        late = e.known > day * DAY
        return replace(e, value=np.where(late, np.float32(1e9), e.value), code=np.where(late, 0, e.code))

    poisoned = replace(pbc, events={kind: poison(e) for kind, e in pbc.events.items()})
    before = cox.forecast(pbc.at(day).followed())["death"].incidence
    assert np.array_equal(cox.forecast(poisoned.at(day).followed())["death"].incidence, before)
    late = replace(
        pbc,
        events={k: replace(e, value=e.value + 9 * (e.known > 3 * YEAR * DAY)) for k, e in pbc.events.items()},
    )
    again = StackedCox(horizon=5 * YEAR).fit(late.landmarks(np.arange(200), times=AT).followed())
    assert np.array_equal(again.forecast(pbc.at(day).followed())["death"].incidence, before)


def test_asks_not_at_risk_have_no_curve(pbc, cox):
    forecast = cox.forecast(pbc.at(6 * YEAR))["death"]
    assert np.array_equal(np.isnan(forecast.incidence).all((1, 2)), ~forecast.at_risk)
    assert 0 < forecast.at_risk.sum() < 312


def test_a_cause_that_nobody_had_has_no_risk(pbc):
    death = pbc.outcomes["death"]
    none = Survival(death.time, np.where(death.event == 1, 0, death.event), death.causes)
    X = replace(pbc, outcomes={"death": none}).landmarks(times=AT).followed()
    forecast = StackedCox(horizon=5 * YEAR).fit(X).forecast(X)["death"]
    assert (forecast.incidence[:, 1] == 0).all()
    assert np.abs(forecast.incidence.sum(1) - 1).max() < 1e-12
    nothing = Survival(death.time, np.zeros_like(death.event), death.causes)
    X = replace(pbc, outcomes={"death": nothing}).landmarks(times=AT).followed()
    with pytest.raises(InputError, match="no events within"):
        StackedCox().fit(X)


def test_columns_that_are_constant_empty_or_strange(pbc, train):
    """A constant and an empty static, a code without a value, a level that training never showed."""
    number = np.column_stack([np.full(312, 50, np.float32)])
    sex = np.where(np.arange(312) < 200, np.minimum(pbc.category[:, 0], 0), 1)
    none = np.full(312, -1)
    lab = pbc.events["lab"]
    dull = replace(
        lab,
        value=np.where(lab.code == 1, np.float32(7), np.where(lab.code == 2, np.float32(np.nan), lab.value)),
    )
    strange = replace(
        pbc,
        number=number,
        category=np.column_stack([sex, none]).astype(np.int32),
        events={**pbc.events, "lab": dull},
    )
    X = strange.landmarks(np.arange(200), times=AT).followed()
    rest = strange.landmarks(np.arange(200, 312), times=AT).followed()
    forecast = StackedCox(horizon=5 * YEAR).fit(X).forecast(rest)["death"]
    assert np.isfinite(forecast.incidence).all()


def test_a_cohort_may_lack_a_kind(pbc, cox):
    lacking = replace(pbc, events={**pbc.events, "sign": pbc.events["sign"].empty()})
    assert np.isfinite(cox.forecast(lacking.at(YEAR).followed())["death"].incidence).all()


def test_times_are_stacked_evenly(pbc):
    X = pbc.landmarks(np.arange(200), times=np.arange(0, 2000, 50)).followed()
    seen = StackedCox(landmarks=4, horizon=5 * YEAR).fit(X)
    some = X[np.isin(X.days, [0, 650, 1300, 1950])]
    again = StackedCox(horizon=5 * YEAR).fit(some)
    asks = pbc.at(500).followed()
    assert np.array_equal(*(m.forecast(asks)["death"].incidence for m in (seen, again)))


def test_a_code_is_no_column_by_its_name(pbc, train, cox):
    """Codes called like a column that the table makes of others, or like a static, lose nothing."""
    lab = dict.fromkeys(pbc.codes["lab"])
    names = ["other", "age", "x.age", "x", "x.n", "id", "at", "sex", "bili\tage"]
    odd = (*names[: len(lab)], *list(lab)[len(names) :])
    renamed = replace(pbc, codes={**pbc.codes, "lab": odd})
    again = StackedCox(horizon=5 * YEAR).fit(renamed.landmarks(np.arange(200), times=AT).followed())
    day = np.arange(200, 312)
    before = cox.forecast(pbc.landmarks(day, times=[700]).followed())["death"].incidence
    after = again.forecast(renamed.landmarks(day, times=[700]).followed())["death"].incidence
    assert after == pytest.approx(before, abs=1e-9)
    frame = renamed.at(700).to_frame()
    assert len(frame.columns) == len(pbc.at(700).to_frame().columns), "no column hides another"


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """600 patients; those with the diagnosis x die eight times as fast, drug y says nothing."""
    from gnnpatient import read_cohort

    folder, rng = tmp_path_factory.mktemp("coded"), np.random.default_rng(0)
    ill = rng.random(600) < 0.4
    death, end = rng.exponential(np.where(ill, 100, 800)), rng.uniform(100, 600, 600)
    rows = [f"{i},{np.minimum(death, end)[i]:.2f},{int(death[i] <= end[i])}" for i in range(600)]
    (folder / "patients.csv").write_text("pid,time,died\n" + "\n".join(rows))
    codes = [f"{i},-5,x" for i in np.flatnonzero(ill)] + [f"{i},-9,y" for i in range(0, 600, 3)]
    (folder / "codes.csv").write_text("pid,day,code\n" + "\n".join(codes))
    (folder / "spec.toml").write_text(
        """cohort = "coded"
[patient]
table = "patients.csv"
key = "pid"
[nodes.dx]
table = "codes.csv"
time = "day"
code = "code"
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { death = { time = "time", flag = "died" } }
[outcomes.x]
kind = "diagnosis"
table = "patients.csv"
column = "died"
"""
    )
    return read_cohort(folder / "spec.toml", folder)


def test_comparators_see_codes_without_a_value(coded):
    """Cox and logistic regression know whether, how often and how long ago a diagnosis was made."""
    from gnnpatient.metrics import auc
    from gnnpatient.study.baselines import StackedLogistic

    asks = coded.entries().followed()
    train, test = asks[np.arange(0, len(asks), 2)], asks[np.arange(1, len(asks), 2)]
    risk = StackedCox(horizon=200.0).fit(train).forecast(test)["death"].risks([90.0], "death")[:, 0]
    truth = test.outcome("death")
    ill = np.array(["seen\tdx\tx" in features(test).columns])
    assert ill.all() and auc(risk, truth["time"], truth["event"].astype(int), 90.0) > 0.68
    logistic = StackedLogistic(outcomes=["x"]).fit(train).forecast(test)["x"].risk("yes")
    seen = features(test)["seen\tdx\tx"].to_numpy() > 0
    assert logistic[seen].min() > logistic[~seen].max()


def test_rare_codes_are_one_as_in_the_model(coded):
    """With more patients asked for than a code has, what is left is whether there is any."""
    asks = coded.entries().followed()
    fitted = StackedCox(horizon=200.0, min_patients=300).fit(asks)
    of = [name for name in fitted.columns_["death"].columns if "dx" in name]
    assert of == ["seen\tdx\tother", "count\tdx\tother", "age\tdx\tother"]
    assert np.isfinite(fitted.forecast(asks)["death"].incidence).all()
