"""Comparators of values: each reaches what it can know, none sees the future, all answer alike."""

import tomllib
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from gnnpatient import metrics, read_cohort, read_spec
from gnnpatient.cohort.cohort import join_landmarks
from gnnpatient.cohort.splits import landmark_weights
from gnnpatient.datasets.clinic import write_clinic
from gnnpatient.errors import InputError
from gnnpatient.prognosis.kinds import target_of
from gnnpatient.prognosis.marginal import landmark_marginals
from gnnpatient.spec.graph import spec_path
from gnnpatient.study import value_baselines
from gnnpatient.study.value_baselines import (
    VALUE_COMPARATORS,
    BoostedQuantiles,
    LastValue,
    LaterValues,
    LinearMixed,
    RidgeHistory,
)

MANY, AT, TO = 500, 730.0, 1095.0


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clinic") / "data"
    truth = write_clinic(folder, MANY, seed=5)
    return read_cohort("clinic", folder), truth


@pytest.fixture(scope="module")
def train(clinic):
    return clinic[0].landmarks(np.arange(300), n=8, seed=0).followed("level")


@pytest.fixture(scope="module")
def test_part(clinic):
    return clinic[0].at(AT, patient=np.arange(300, MANY), to=TO).followed("level")


@pytest.fixture(scope="module")
def fitted(train):
    few = {"outcomes": ["level"], "horizon": 730.0, "landmarks": 6}
    return {name: kind(**few).fit(train) for name, kind in VALUE_COMPARATORS.items()}


@pytest.mark.parametrize("most", [10**6, 900])
def test_rivals_learn_from_the_same_values_with_the_same_weights(train, monkeypatch, most):
    """As the product: each landmark, eight of its values at most, a landmark once at each time."""
    monkeypatch.setattr(value_baselines, "MAX_LANDMARKS", most)
    later = LaterValues.of(train, "level", 730.0, least=10)
    target = target_of(train, "level")
    head = target.head_config("level", train, 730.0, 30, 10)
    posed = target.posed(replace(head, times=later.times), train, "level")
    weight = landmark_weights(train.moments)[:, None] * posed.pair_weights(later.times)
    row, pair = np.nonzero(posed.bins >= 0)
    if most > len(train):
        assert (later.owner == row).all() and (later.ahead == posed.when[row, pair]).all()
        np.testing.assert_allclose(later.weight / later.weight.sum(), weight[row, pair] / weight.sum())
    else:  # who is drawn stands for all
        assert len(later.landmarks) == most and len(np.unique(later.patient)) > 280
        mean, whole = (
            np.average(later.ahead, weights=later.weight),
            (weight * posed.when).sum() / weight.sum(),
        )
        assert mean == pytest.approx(whole, rel=0.03)
    chosen = LastValue(outcomes=["level"]).fit(train).learned_["level"].later
    assert chosen.landmarks is not None and len(chosen.landmarks) == min(most, len(train))


def test_each_reaches_what_it_can_know(clinic, fitted, test_part):
    """Of the way from the training mean to the best that rows can tell, by the squared error of the truth."""
    truth = clinic[1]
    best = truth.value(test_part.patient, AT, TO)
    off = {
        name: metrics.rmse(model.forecast(test_part)["level"].mean(), best) for name, model in fitted.items()
    }
    way = {name: 1 - (miss / best.std()) ** 2 for name, miss in off.items()}
    assert way["ridge"] >= 0.9 and way["quantiles"] >= 0.9
    assert 0.75 < way["mixed"] < way["ridge"]  # it is not told of the marker
    assert 0.5 < way["last"] < way["mixed"]


def test_a_mixed_model_reaches_the_oracle_where_lines_are_all_there_is(clinic, train, test_part):
    """Without the marker, and with lines that nobody dies of: its own world."""
    from gnnpatient.study.mixed_model import MixedModel

    rng = np.random.default_rng(0)
    owner, time = np.repeat(np.arange(1000), 6), np.tile(np.arange(6.0), 1000)
    line = rng.normal([50, 1], [8, 2.5], (1000, 2))
    value = line[owner, 0] + line[owner, 1] * time + rng.normal(0, 4, len(owner))
    x = np.stack([np.ones_like(time), time], 1)
    early = (owner < 700) | (time < 5)
    model = MixedModel.fit(value[early], x[early], time[early], owner[early])
    asked = (owner >= 700) & (time < 5)
    mean, _ = model.predict(value[asked], x[asked], time[asked], owner[asked] - 700, 300)
    at_five = np.array([1.0, 5.0])
    found = at_five @ model.beta + mean @ at_five
    oracle = MixedModel(np.array([50.0, 1.0]), np.diag([64.0, 6.25]), 16.0)
    known, _ = oracle.predict(value[asked], x[asked], time[asked], owner[asked] - 700, 300)
    best, true = at_five @ oracle.beta + known @ at_five, line[700:] @ at_five
    gain = true.var() - np.mean((best - true) ** 2)
    assert true.var() - np.mean((found - true) ** 2) > 0.95 * gain


def test_intervals_hold_and_the_chance_to_be_seen_is_right_on_average(clinic, fitted, test_part):
    truth, seen = clinic[1], test_part.outcome("level")["value"]
    for name, model in fitted.items():
        found = model.forecast(test_part)["level"]
        assert metrics.coverage(*found.interval(0.9), seen) == pytest.approx(0.9, abs=0.08), name
        assert found.p_seen().mean() == pytest.approx(
            truth.seen(test_part.patient, AT, TO).mean(), abs=0.1
        ), name
    better = fitted["ridge"].forecast(test_part)["level"].p_seen()
    assert np.corrcoef(better, truth.seen(test_part.patient, AT, TO))[0, 1] > 0.5


def test_the_last_value_is_carried_forward(clinic, fitted, test_part):
    last = clinic[0].outcomes["level"].baseline(test_part.patient, test_part.at)
    found = fitted["last"].forecast(test_part)["level"]
    np.testing.assert_allclose(found.mean(), last, atol=0.02)
    low, high = found.interval(0.9)
    longer = fitted["last"].forecast(clinic[0].at(AT, test_part.patient, to=AT + 700))["level"].interval(0.9)
    assert ((longer[1] - longer[0]) > (high - low)).all()


@pytest.mark.parametrize("name", VALUE_COMPARATORS)
def test_later_rows_change_no_answer(clinic, fitted, test_part, name):
    cohort = clinic[0]
    lab = cohort.events["lab"]
    later = replace(lab, value=np.where(lab.known > AT * 86_400, np.float32(1e9), lab.value))
    poisoned = replace(cohort, events={**cohort.events, "lab": later})
    X = poisoned.at(AT, patient=test_part.patient, to=TO)
    one, other = fitted[name].forecast(test_part)["level"], fitted[name].forecast(X)["level"]
    np.testing.assert_array_equal(one.probability, other.probability)
    np.testing.assert_array_equal(one.seen, other.seen)


def test_without_a_time_and_with_many_times(clinic, fitted, test_part):
    X = clinic[0].at(AT, patient=test_part.patient[:20])
    found = fitted["ridge"].forecast(X)["level"]
    assert len(found.times) == 12 and found.times[-1] == pytest.approx(730, abs=5)
    days = AT + 100 + 20 * np.arange(20)
    each = fitted["ridge"].forecast(clinic[0].at(AT, X.patient, to=days))["level"]
    assert len(each.times) == 12
    alone = [
        fitted["ridge"].forecast(clinic[0].at(AT, [p], to=d))["level"].mean()[0]
        for p, d in zip(X.patient[3:6], days[3:6], strict=True)
    ]
    np.testing.assert_allclose(each.mean()[3:6], alone, atol=0.1)


def test_who_is_gone_has_no_answer(clinic, fitted):
    X = clinic[0].at(AT, patient=np.arange(300, MANY), to=TO)
    at_risk = X.at_risk("level")
    found = fitted["last"].forecast(X)["level"]
    assert not at_risk.all() and (np.isnan(found.mean()) == ~at_risk).all()


def test_a_patient_without_any_value_is_answered(clinic, train):
    cohort = clinic[0]
    lab = cohort.events["lab"]
    level = cohort.codes["lab"].index("level")
    blank = (lab.code == level) & (lab.known <= AT * 86_400) & (lab.patient >= 300)
    empty = replace(lab, value=np.where(blank, np.float32(np.nan), lab.value))
    X = replace(cohort, events={**cohort.events, "lab": empty}).at(AT, patient=np.arange(300, 320), to=TO)
    for kind in (LastValue, RidgeHistory, LinearMixed):
        found = kind(outcomes=["level"], landmarks=3).fit(train).forecast(X)["level"]
        assert np.isfinite(found.mean()[found.at_risk]).all(), kind


def test_a_change_is_the_value_less_the_last_one(clinic, train, test_part):
    cohort = clinic[0]
    level = cohort.outcomes["level"]
    change = replace(level, spec=level.spec.model_copy(update={"target": "change"}))
    other = replace(cohort, outcomes={**cohort.outcomes, "level": change})
    X, Y = replace(train, cohort=other), replace(test_part, cohort=other)
    last = level.baseline(test_part.patient, test_part.at)
    few = {"outcomes": ["level"], "landmarks": 4}
    for kind in (LastValue, LinearMixed):
        value = kind(**few).fit(train).forecast(test_part)["level"].mean()
        np.testing.assert_allclose(kind(**few).fit(X).forecast(Y)["level"].mean(), value - last, atol=0.6)


def test_what_cannot_be_learned_is_refused(clinic, train):
    with pytest.raises(InputError, match="'death' is no progression of a value; there is level"):
        LastValue(outcomes=["death"]).fit(train)
    late = clinic[0].at(2190, patient=np.arange(300)).followed("level")
    with pytest.raises(InputError, match=r"no later value of .* landmarks; nothing to learn"):
        BoostedQuantiles(outcomes=["level"]).fit(late)


def test_who_is_never_seen_again_counts_where_that_is_learned():
    """Everybody is followed, half of the patients come back after a year; the others count, too."""
    n = 200
    back = np.repeat([False, True], n // 2)
    who = [f"p{i:03d}" for i in range(n)]
    spec = tomllib.loads(spec_path("clinic").read_text())
    spec["outcomes"] = {"death": spec["outcomes"]["death"], "level": spec["outcomes"]["level"]}
    spec["nodes"] = {"lab": spec["nodes"]["lab"] | {"columns": {"level": ""}}}
    about = {"pid": who, "age": [60.0] * n, "sex": ["female"] * n, "end_day": 1000.0, "died": 0}
    visits = {"pid": [*who, *np.array(who)[back]], "day": np.repeat([0.0, 365.0], [n, n // 2]), "level": 50.0}
    noise = np.random.default_rng(0).normal(size=n + n // 2)
    tables = {
        "patients.csv": pl.DataFrame(about),
        "visits.csv": pl.DataFrame(visits).with_columns(pl.col("level") + noise),
    }
    X = read_cohort(read_spec(spec), tables).landmarks(times=[0.0]).followed("level")
    for kind in (LastValue, LinearMixed):
        found = kind(outcomes=["level"], landmarks=None).fit(X)
        late = found.forecast(X.cohort.at(0, to=365))["level"].p_seen()
        assert late.mean() == pytest.approx(0.5, abs=0.1), kind


@pytest.fixture(scope="module")
def seen_no_more(clinic):
    """Everybody at entry, and on the day of his last value, when he is followed on but not seen again."""
    cohort = clinic[0]
    level = cohort.outcomes["level"]
    rows = np.flatnonzero(np.isfinite(level.events.value))
    last = np.zeros(len(cohort), np.int64)
    np.maximum.at(last, level.events.patient[rows], level.events.known[rows])
    late = cohort.at(last[last > 0] / 86_400, patient=np.flatnonzero(last > 0)).followed("level")
    return join_landmarks(cohort.at(0).followed("level"), late)


def test_landmarks_after_which_nobody_was_seen_have_no_table_of_values(seen_no_more):
    X = seen_no_more
    target = target_of(X, "level")
    posed = target.posed(target.head_config("level", X, 730.0, 30, 10), X, "level")
    found = landmark_marginals(posed, X, posed.head.times)
    assert found is None or np.isfinite(found[1]).all()


def test_trees_grow_where_a_column_has_no_value_among_the_rows_that_teach(seen_no_more):
    """A slope needs two values: who has them here is not seen again."""
    entry = seen_no_more.cohort.at(0, to=365)
    fitted = BoostedQuantiles(outcomes=["level"], landmarks=None).fit(seen_no_more)
    assert np.isfinite(fitted.forecast(entry)["level"].mean()).all()
