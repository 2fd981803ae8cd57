"""Evaluation of values: the truth stands beside the rivals, each figure is what a slow reckoning gives."""

from dataclasses import replace

import numpy as np
import pytest

from gnnpatient import PrognosisModel, ProgressionForecast, metrics, read_cohort
from gnnpatient.cli.evaluate import show_scores
from gnnpatient.cohort.cohort import join_landmarks
from gnnpatient.datasets.clinic import write_clinic
from gnnpatient.errors import InputError
from gnnpatient.study import cross_validate, evaluate_models
from gnnpatient.study.baselines import COMPARATORS
from gnnpatient.study.scoreboard import ObservedOutcome, seen_values
from gnnpatient.study.validation import evaluate_outcomes, evaluate_run
from gnnpatient.study.value_baselines import LastValue, LinearMixed, RidgeHistory

AT, TO = 730.0, 1095.0
EDGES = np.linspace(-20, 140, 161)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clinic") / "data"
    truth = write_clinic(folder, 400, seed=6)
    return read_cohort("clinic", folder), truth


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Without the trees, which take long."""
    monkeypatch.setitem(COMPARATORS, "progression", {"last": LastValue, "ridge": RidgeHistory})


@pytest.fixture(scope="module")
def sides(clinic):
    train = clinic[0].landmarks(np.arange(200), [0, 365, 730]).followed("level")
    return train, clinic[0].at(AT, patient=np.arange(200, 400), to=TO).followed("level")


class Truth:
    """A model that knows how the clinic works, and the rows."""

    def __init__(self, truth):
        self.truth = truth

    def forecast(self, X):
        asked = X.patient, X.days, X.days + (X.to - X.at) / 86_400
        bins = self.truth.distribution(EDGES[1:-1], *asked)
        ahead = np.unique(asked[2] - asked[1])
        seen = self.truth.seen(*asked)[:, None]
        return {"level": ProgressionForecast.from_array(bins, EDGES, ahead, X, "level", seen=seen)}


@pytest.fixture(scope="module")
def found(clinic, sides):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COMPARATORS, "progression", {"last": LastValue, "ridge": RidgeHistory})
        return evaluate_models({"truth": Truth(clinic[1])}, sides[1], train=sides[0], outcome="level", n=30)


def test_every_figure_stands_beside_the_rivals(found):
    assert {row["model"] for row in found.rows} == {
        "truth",
        "last",
        "ridge",
        "null",
        "truth-last",
        "truth-ridge",
    }
    of_truth = {row["metric"] for row in found.rows if row["model"] == "truth"}
    assert of_truth == {
        "rmse",
        "mae",
        "crps",
        "coverage",
        "width",
        "auc",
        "brier",
        "scaled_crps",
        "scaled_mse",
    }
    assert all(row["horizon"] == TO - AT and row["cause"] == "level" for row in found.rows)
    better = found.value("truth-last", "rmse")
    assert better["value"] < 0 and better["high"] < 0
    assert found.value("null", "scaled_crps")["value"] == 0
    assert found.value("truth", "scaled_mse")["value"] > found.value("last", "scaled_mse")["value"] > 0
    assert 0.83 < found.value("truth", "coverage")["value"] < 0.97


def test_figures_are_those_of_the_metrics(clinic, sides, found):
    X = sides[1]
    value = seen_values(X, "level")
    said = Truth(clinic[1]).forecast(X)["level"]
    expected = {
        "rmse": metrics.rmse(said.mean(), value),
        "mae": metrics.mae(said.quantile(0.5), value),
        "crps": metrics.crps(said.distribution(), said.edges, value),
        "coverage": metrics.coverage(*said.interval(0.9), value),
        "width": metrics.width(*said.interval(0.9), value),
    }
    for name, figure in expected.items():
        row = found.value("truth", name)
        assert row["value"] == pytest.approx(figure) and row["low"] < figure < row["high"], name
    end, died = clinic[0].outcomes["death"].observed_end(X.patient, X.at)[::-1]
    gone = (died > 0) & (end <= TO * 86_400)
    whole = ~gone & ((end >= (TO + 90) * 86_400) | (died > 0))
    seen, p = np.isfinite(value[whole]).astype(float), said.p_seen()[whole]
    assert found.value("truth", "brier")["value"] == pytest.approx(np.mean((p - seen) ** 2))
    pairs = p[seen == 1][:, None] - p[seen == 0]
    assert found.value("truth", "auc")["value"] == pytest.approx((np.sign(pairs) + 1).mean() / 2)


def test_who_was_not_seen_is_told_by_cause(sides, found):
    (line,) = [line for line in found.warnings if line.startswith("level of ")]
    X, words = sides[1], ("seen", "gone by then", "there without a visit", "no longer followed")
    numbers = [int(part.rpartition("(")[2].rstrip(")")) for part in line.split(": ")[1].split(", ")]
    assert all(word in line for word in words) and sum(numbers) == len(X)
    assert numbers[0] == np.isfinite(seen_values(X, "level")).sum() and min(numbers) > 0
    assert found.events == {"seen value": numbers[0]}


def test_the_dead_are_not_scored(clinic, sides):
    """A visit within the window before a death by the time asked for gives no value then."""
    X = clinic[0].at(AT, to=TO).followed("level")
    truth = X.outcome("level")
    before = np.isfinite(truth["value"]) & truth["gone"]
    assert before.any()
    observed = ObservedOutcome.of(X, "level")
    assert np.isnan(observed.value[before]).all() and (observed.code[before] == -1).all()


def test_who_is_lost_before_the_time_asked_for_is_not_scored(clinic):
    """Nobody knows whether they were alive then, though a visit may lie within the window before."""
    X = join_landmarks(*(clinic[0].at(at, to=at + 90).followed("level") for at in range(0, 1800, 90)))
    truth, (event, end) = X.outcome("level"), clinic[0].outcomes["death"].observed_end(X.patient, X.at)
    lost = np.isfinite(truth["value"]) & (event == 0) & (end < X.to)
    assert lost.sum() >= 3 and np.isnan(seen_values(X, "level")[lost]).all()
    there = np.isfinite(truth["value"]) & (end >= X.to) & ~truth["gone"]
    assert (seen_values(X, "level")[there] == truth["value"][there]).all()
    assert (ObservedOutcome.of(X, "level").code[lost] == -1).all()


def test_landmarks_keep_the_time_asked_for(clinic, sides):
    cohort, X = clinic[0], sides[1]
    joined = join_landmarks(X[:3], X[3:5])
    assert (joined.to == X.to[:5]).all()
    with pytest.raises(InputError, match="some parts ask for a value at a time"):
        join_landmarks(X[:3], cohort.at(AT, patient=[1]))


def test_in_folds_each_is_scored_when_held_out(clinic):
    found = cross_validate(
        clinic[0],
        {"mixed line": LinearMixed(outcomes=["level"])},
        "level",
        folds=2,
        landmarks=[365.25, 730.5],
        fit_at=[0.0, 365.25, 730.5],
        to="1y",
        n=10,
    )
    assert {row["landmark"] for row in found.scores.rows} == {365.25, 730.5, None}
    mean = found.value("mixed line", "rmse", landmark=None)["value"]
    each = [found.value("mixed line", "rmse", landmark=day)["value"] for day in (365.25, 730.5)]
    assert mean == pytest.approx(np.mean(each))
    assert found.value("mixed line-last", "rmse", landmark=None)["value"] < 0


def test_what_is_wrong_is_said(clinic, sides):
    cohort, (train, test) = clinic[0], sides
    model = {"mine": LastValue(outcomes=["level"])}
    for how, words in (
        (
            {},
            r'outcome \'level\' is a value: when\? give the days after the landmark, above 0, as in to="1y"',
        ),
        ({"to": -3.0}, r"to = -3 days\? give the days"),
        ({"to": "1y", "horizons": [365.0]}, "is a value, asked for by to, which has no horizon"),
        ({"to": "1y", "cause": "high"}, "unknown cause 'high' of 'level'"),
    ):
        with pytest.raises(InputError, match=words):
            cross_validate(cohort, model, "level", folds=2, landmarks=[365.25], n=2, **how)
    with pytest.raises(InputError, match="'death' is no value at a time; leave out to"):
        cross_validate(cohort, {"mine": COMPARATORS["survival"]["cox"]()}, "death", folds=2, to="1y", n=2)
    with pytest.raises(InputError, match="needs the time it is wanted for"):
        evaluate_models(
            {"mine": LastValue(outcomes=["level"]).fit(train)},
            cohort.at(AT).followed("level"),
            outcome="level",
        )
    with pytest.raises(InputError, match="must be a ProgressionForecast"):
        cox = COMPARATORS["survival"]["cox"](outcomes=["death"]).fit(train)
        evaluate_models({"mine": {"level": cox.forecast(test)["death"]}}, test, outcome="level")
    with pytest.raises(InputError, match="model 'ridge': the name of what stands beside"):
        evaluate_models({"ridge": model["mine"]}, test, outcome="level")


def test_draws_of_few_patients_count_them_as_often_as_they_are_drawn(clinic, sides):
    """Of 24 patients a draw has about 15: still 24 values."""
    seen = np.flatnonzero(np.isfinite(seen_values(sides[1], "level")))[:24]
    few = evaluate_models({"truth": Truth(clinic[1])}, sides[1][seen], outcome="level", n=20)
    row = few.value("truth", "rmse")
    assert row["draws"] == 20 and row["low"] < row["value"] < row["high"]


class Off(Truth):
    """The same, but what it says of men is too high by so much."""

    def __init__(self, truth, cohort, high):
        super().__init__(truth)
        self.men = cohort.category[:, 0] == cohort.levels["sex"].index("male")
        self.high = high

    def forecast(self, X):
        (found,) = super().forecast(X).values()
        moved = np.roll(found.probability, self.high, axis=1)
        men = self.men[X.patient][:, None, None]
        return {"level": replace(found, probability=np.where(men, moved, found.probability))}


def test_a_planted_gap_of_a_value_is_found_and_none_where_there_is_none(clinic, sides, capsys):
    off = {"off": Off(clinic[1], clinic[0], 8)}
    of = evaluate_models(off, sides[1], outcome="level", by=["sex"], n=60)
    counts = {row["group"]: row for row in of.groups}
    assert set(counts) == {"sex=female", "sex=male"}
    gaps = {gap["metric"]: gap for gap in of.gaps}
    assert set(gaps) == {"rmse", "coverage"}
    sign = 1 if gaps["rmse"]["group"] == "sex=male" else -1
    for metric, worse in (("rmse", sign), ("coverage", -sign)):
        gap, value = gaps[metric], {g: of.value("off", metric, group=g)["value"] for g in counts}
        assert gap["value"] == pytest.approx(value[gap["group"]] - value[gap["reference"]])
        assert worse * gap["value"] > 0 and gap["low"] * gap["high"] > 0 and gap["holm"] < 0.05
    assert any("off: a gap in rmse is shown" in line for line in of.gap_sentences)
    of = evaluate_models({"truth": Truth(clinic[1])}, sides[1], outcome="level", by=["sex"], n=60)
    (line,) = of.gap_sentences
    assert line.startswith("truth: no gap between groups is shown, of 2 looked at (rmse and coverage, Holm)")
    show_scores(of)
    said = capsys.readouterr().out
    assert "auc and brier are of whether a value is seen" in said and "rmse" in said.split("each group")[1]


def test_a_group_with_few_values_has_no_gap(clinic, sides):
    X = sides[1]
    men = clinic[0].category[X.patient, 0] == clinic[0].levels["sex"].index("male")
    few = X[~men | (np.arange(len(X)) < 30)]
    of = evaluate_models({"truth": Truth(clinic[1])}, few, outcome="level", by=["sex"], n=5)
    assert {gap["value"] for gap in of.gaps} == {None}
    assert "fewer than 20 patients with a value on one side" in of.gap_sentences[0]


def test_every_outcome_of_a_model_is_scored_in_turn(clinic):
    """Each with what its kind takes; a value that nobody says a time for is left out, and that is said."""
    cohort = clinic[0]
    X = cohort.landmarks(np.arange(200), times=[0, 365]).followed("level")
    choices = {"families": ("linear",), "members": 1, "horizon": 730.0}
    predictor = PrognosisModel(outcomes=["level", "death"], **choices).fit(X).predictor_
    told = []
    how = {"landmarks": [365.0], "horizons": [365.0], "by": ["sex"]}
    found = evaluate_outcomes(predictor, cohort, to="1y", note=told.append, **how)
    assert list(found) == ["level", "death"] and len(told) == len(set(told))
    assert found["level"].scores.value("gnn", "coverage", group=None)["horizon"] == 365.25
    assert found["death"].scores.value("gnn", "auc", cause="death", group=None)["horizon"] == 365.0
    alone = evaluate_run(predictor, cohort, "level", to="1y", landmarks=[365.0], by=["sex"])
    assert found["level"].to_dict() == alone.to_dict()
    told.clear()
    assert list(evaluate_outcomes(predictor, cohort, note=told.append, **how)) == ["death"]
    assert "outcome 'level' left out; it needs --to, as in 1y" in told
    with pytest.raises(InputError, match="--by: unknown column 'sx'"):
        evaluate_outcomes(predictor, cohort, landmarks=[365.0], by=["sx"])
