"""The joint model: its forecast against a plain integral, its fit against a clinic whose truth is known."""

import importlib.util
import sys
from copy import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from gnnpatient import InputError, read_cohort, read_spec
from gnnpatient.datasets.clinic import (
    AGE,
    AGE_SD,
    DEATH,
    DRIFT,
    DRIFT_SD,
    MIDDLE,
    NOISE,
    SPREAD,
    START,
    START_SD,
    write_clinic,
)
from gnnpatient.study import joint
from gnnpatient.study.compare import compare
from gnnpatient.study.joint import JointModel, Lines
from gnnpatient.study.rivals import tuned_rivals
from gnnpatient.times import DAY, YEAR

needs_jmstate = pytest.mark.skipif(
    importlib.util.find_spec("jmstate") is None, reason='needs jmstate: pip install "gnnpatient[joint]"'
)
LINES = Lines(
    np.array([0.2, 0.1]),
    np.array([[0.9, 0.05], [0.05, 0.1]]),
    0.2,
    np.array([0.05, 0.1]),
    np.array([1.3, 0.8]),
    np.array([1.1, -0.5]),
    np.array([[0.4, 0.0], [-0.3, 0.2]]),
)
TRAIN = 1500  # patients of the clinic
AT, AHEAD = [0.0, YEAR, 2 * YEAR], 2 * YEAR


def plain_incidence(lines, t, y, x, now, ahead):
    """Of one patient, by sums over a fine grid of lines and integrals over time."""
    level, slope = (
        mid + sd * np.linspace(-6, 6, 81)
        for mid, sd in zip(lines.mean, np.sqrt(np.diag(lines.covariance)), strict=True)
    )
    total, found = 0.0, np.zeros((len(lines.rate), len(ahead)))
    prior = np.linalg.inv(lines.covariance)
    fine = np.concatenate([[0], ahead])
    for a in level:
        for b in slope:
            off = np.array([a, b]) - lines.mean
            log = -off @ prior @ off / 2 - ((y - a - b * t) ** 2).sum() / (2 * lines.noise)
            if log < -25:
                continue

            def hazard(k, u, a=a, b=b):
                base = lines.shape[k] * lines.rate[k] ** lines.shape[k] * u ** (lines.shape[k] - 1)
                return base * np.exp(lines.link[k] * (a + b * u) + lines.effects[k] @ x)

            past = sum(quad(lambda u, k=k: hazard(k, u), 0.25, now)[0] for k in range(len(lines.rate)))
            weight = np.exp(log - past)
            total += weight
            free, gone = 1.0, np.zeros(len(lines.rate))
            for j, (lo, hi) in enumerate(pairwise(fine)):
                edges = np.linspace(now + lo, now + hi, 21)
                for u in (edges[:-1] + edges[1:]) / 2:
                    each = np.array([hazard(k, u) for k in range(len(gone))]) * (edges[1] - edges[0])
                    gone += free * -np.expm1(-each.sum()) * each / each.sum()
                    free *= np.exp(-each.sum())
                found[:, j] += weight * gone
    return found / total


def test_a_forecast_is_the_integral_over_the_lines_that_are_left():
    t, y = np.array([0.0, 0.4, 0.9]), np.array([0.5, 1.0, 0.8])
    x, ahead = np.array([0.7, -1.0]), np.linspace(0, 3, 31)[1:]
    padded = [np.append(part, np.nan)[None] for part in (t, y)]
    found = LINES.incidence(*padded, x[None], np.array([1.0]), ahead, 0.25)[0]
    want = plain_incidence(LINES, t, y, x, 1.0, ahead[9::10])
    assert found[1:, 9::10] == pytest.approx(want, abs=2e-4)
    assert found.sum(0) == pytest.approx(np.ones(30)) and (np.diff(found[0]) <= 0).all()


def test_lines_given_values_are_those_of_the_normal_law():
    """By conditioning the joint law of line and values, which needs no precision matrix."""
    t, y = np.array([[0.0, 1.0, 2.5, np.nan]]), np.array([[0.1, 0.9, 1.4, np.nan]])
    z = np.stack([np.ones(3), t[0, :3]], 1)
    gain = LINES.covariance @ z.T @ np.linalg.inv(z @ LINES.covariance @ z.T + LINES.noise * np.eye(3))
    mean, covariance = LINES.given(t, y)
    assert mean[0] == pytest.approx(LINES.mean + gain @ (y[0, :3] - z @ LINES.mean))
    assert covariance[0] == pytest.approx(LINES.covariance - gain @ z @ LINES.covariance)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clinic")
    truth = write_clinic(folder, TRAIN + 600, seed=0)
    return read_cohort(read_spec("clinic"), folder), truth


@pytest.fixture(scope="module")
def fitted(clinic):
    X = clinic[0].landmarks(np.arange(TRAIN), times=AT).followed("death")
    return JointModel(outcomes=["death"], code="level", horizon=AHEAD).fit(X)


def law(fitted):
    """The model with the true law of the level: the visits' times and the marker tell the oracle the rest."""
    model, s = copy(fitted), fitted.scale_
    rate = DEATH.base * np.exp(
        DEATH.level * (fitted.centre_ - MIDDLE) / SPREAD + DEATH.age * (fitted.middle_[0] - AGE) / AGE_SD
    )
    model.lines_ = Lines(
        np.array([START - fitted.centre_, DRIFT]) / s,
        np.diag([START_SD, DRIFT_SD]) ** 2 / s**2,
        NOISE**2 / s**2,
        np.array([rate]),
        np.ones(1),
        np.array([DEATH.level * s / SPREAD]),
        np.array([[DEATH.age * fitted.spread_[0] / AGE_SD]]),
    )
    return model


@needs_jmstate
def test_it_gains_what_the_true_law_of_the_level_gains(clinic, fitted):
    cohort, truth = clinic
    X = cohort.landmarks(np.arange(TRAIN, TRAIN + 600), times=AT[1:]).followed("death")
    want = 1 - truth.alive(X.patient, X.days, X.days + AHEAD)

    def gain(model):
        found = model.forecast(X)["death"].risks([AHEAD], "death")[:, 0]
        return 1 - ((found - want) ** 2).mean() / ((want - want.mean()) ** 2).mean()

    assert gain(fitted) > 0.9 * gain(law(fitted)) and 0.85 < gain(law(fitted)) < 0.95
    # the hazard doubles with 10 more of the level
    assert fitted.lines_.link[0] / fitted.scale_ * SPREAD == pytest.approx(np.log(2), abs=0.25)
    assert fitted.saw_["death"]["patients"] == TRAIN


@needs_jmstate
def test_patients_first_seen_at_a_year_say_nothing_of_the_hazard_before(clinic):
    """The clinic's hazard is constant but for the level; counted from entry its shape would be 1.7."""
    X = clinic[0].landmarks(np.arange(TRAIN), times=AT[1:]).followed("death")
    model = JointModel(outcomes=["death"], code="level", horizon=AHEAD).fit(X)
    assert model.since_ == pytest.approx(1.0)
    assert np.log(model.lines_.shape[0]) == pytest.approx(0, abs=0.3)


@needs_jmstate
def test_the_future_moves_no_forecast_and_the_past_does(clinic, fitted):
    cohort, _ = clinic
    ask = np.arange(TRAIN, TRAIN + 50)
    before = fitted.forecast(cohort.at(YEAR, patient=ask))["death"].incidence
    for later, same in ((True, True), (False, False)):
        events = {
            kind: replace(one, value=np.where((one.known > YEAR * DAY) == later, np.float32(1e6), one.value))
            for kind, one in cohort.events.items()
        }
        poisoned = replace(cohort, events=events).at(YEAR, patient=ask)
        after = fitted.forecast(poisoned)["death"].incidence
        assert np.array_equal(before, after, equal_nan=True) == same


@needs_jmstate
def test_a_value_that_was_amended_by_then_is_not_read(clinic, fitted):
    """Before it is amended it counts, and from then on it does not."""
    cohort, _ = clinic
    rows, ask, days = cohort.events["lab"], np.arange(TRAIN, TRAIN + 50), [YEAR / 2, YEAR]
    wrong = rows.known < YEAR / 4 * DAY  # replaced at 9 months

    def asked(value):
        late = np.where(wrong, int(0.75 * YEAR * DAY), np.iinfo(np.int64).max)
        events = {
            **cohort.events,
            "lab": replace(rows, value=np.where(wrong, value, rows.value), replaced=late),
        }
        amended = replace(cohort, events=events)
        return [fitted.forecast(amended.at(day, patient=ask))["death"].incidence for day in days]

    early, late = zip(asked(np.float32(20)), asked(np.float32(90)), strict=True)
    assert not np.array_equal(*early, equal_nan=True) and np.array_equal(*late, equal_nan=True)


@needs_jmstate
def test_alone_or_together(clinic, fitted):
    cohort, _ = clinic
    X = cohort.landmarks(np.arange(TRAIN, TRAIN + 200), times=AT).followed("death")
    together = fitted.forecast(X)["death"].incidence
    alone = fitted.forecast(X[np.array([7])])["death"].incidence
    assert together[[7]] == pytest.approx(alone, abs=1e-12)


@needs_jmstate
def test_the_same_seed_fits_the_same_of_training_patients_alone(clinic):
    cohort, _ = clinic
    train = np.arange(80)
    of = {"outcomes": ["death"], "code": "lab/level", "horizon": AHEAD}
    one = JointModel(**of).fit(cohort.landmarks(train, times=AT).followed("death"))
    events = {
        kind: replace(
            rows,
            value=np.where(np.arange(len(rows.value)) >= rows.ptr[len(train)], np.float32(1e6), rows.value),
        )
        for kind, rows in cohort.events.items()
    }
    others = replace(cohort, events=events)
    two = JointModel(**of).fit(others.landmarks(train, times=AT).followed("death"))
    for name in ("mean", "covariance", "link", "rate"):
        assert np.array_equal(getattr(one.lines_, name), getattr(two.lines_, name)), name


@needs_jmstate
def test_several_causes_beside_the_others_in_a_comparison(pbc):
    X = pbc.landmarks(np.arange(200), times=[0.0, YEAR]).followed("death")
    (name, rival), *_ = tuned_rivals(["joint:bili"], "survival", "death", horizon=5 * YEAR).items()
    assert name == "joint:bili"
    rival.fit(X)
    assert rival.logarithm_ and (rival.lines_.link > 0.5).all()
    answer = rival.forecast(pbc.at(YEAR, patient=np.arange(200, 312)))["death"]
    assert answer.causes == pbc.causes("death")
    assert np.isnan(answer.incidence).any() and np.isfinite(answer.incidence[answer.at_risk]).all()


def test_refusals(pbc, monkeypatch):
    X = pbc.landmarks(np.arange(100), times=[0.0]).followed("death")

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(joint.importlib, "import_module", missing)
    with pytest.raises(InputError, match=r'needs jmstate; pip install "gnnpatient\[joint\]"'):
        JointModel(outcomes=["death"], code="bili").fit(X)
    monkeypatch.setattr(joint, "_jmstate", lambda: joint._fitted)
    with pytest.raises(InputError, match="no value 'billi' for a joint model; did you mean 'bili'"):
        JointModel(outcomes=["death"], code="billi").fit(X)
    with pytest.raises(InputError, match="a diagnosis; it is for survival"):
        tuned_rivals(["joint:bili"], "diagnosis", "stage")


def test_a_comparison_refuses_an_unknown_value_before_it_fits(pbc, monkeypatch):
    def fits(*_, **__):
        raise AssertionError("it fits")

    monkeypatch.setattr(joint, "_jmstate", lambda: joint._fitted)
    monkeypatch.setattr(sys.modules["gnnpatient.study.compare"], "_fit_folds", fits)
    few = {"folds": 2, "members": 1, "epochs": 1}
    with pytest.raises(InputError, match="no value 'billi' for a joint model; did you mean 'bili'"):
        compare(pbc, "death", rivals=["joint:billi"], **few)
    with pytest.raises(AssertionError, match="it fits"):
        compare(pbc, "death", rivals=["joint:bili"], **few)
