"""Honest figures (METHODS 14 to 17, 32): what is resampled, what is counted, the null, and who was lost."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pytest

from gnnpatient import InputError, PrognosisModel, metrics
from gnnpatient.prognosis.kinds import target_of
from gnnpatient.prognosis.marginal import landmark_marginals
from gnnpatient.prognosis.targets import SurvivalTarget
from gnnpatient.study.baselines import MarginalModel, marginal_model
from gnnpatient.study.evaluate import evaluate
from gnnpatient.study.intervals import bootstrap_interval
from gnnpatient.study.scoreboard import ModelRisks

DAY = 86_400
TOML = """
cohort = "made"
[patient]
table = "patients.csv"
key = "pid"
number = ["x"]
group = "site"
[nodes.lab]
table = "labs.csv"
time = "day"
code = "code"
value = "value"
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { death = { time = "end", flag = "died" } }
"""
TIMES = np.array([50.0, 100.0, 150.0, 200.0])


def cohort_of(folder, x, end, died, site=None, pid=None):
    from gnnpatient import read_cohort

    n = len(x)
    pid = np.array([f"p{i:05d}" for i in range(n)]) if pid is None else pid
    table = {"pid": pid, "x": x, "end": end, "died": died.astype(int)}
    table["site"] = np.full(n, "") if site is None else site
    pl.DataFrame(table).write_csv(folder / "patients.csv")
    labs = {"pid": pid, "day": np.zeros(n), "code": np.full(n, "crp"), "value": x}
    pl.DataFrame(labs).write_csv(folder / "labs.csv")
    toml = TOML if site is not None else TOML.replace('group = "site"\n', "")
    (folder / "made.toml").write_text(toml)
    return read_cohort(folder / "made.toml", folder)


def people(n, seed=0, censor=300.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    dies, lost = rng.exponential(200 * np.exp(-x)), rng.uniform(20, censor, n)
    return x, np.minimum(dies, lost).round(3) + 0.001, dies <= lost


@dataclass(eq=False)
class Says:
    """A model of one cause whose risk by each time is `risk`: (patient, time)."""

    risk: np.ndarray

    def forecast(self, X):
        from gnnpatient.prognosis.forecast import Forecast

        curve = self.risk[X.patient]
        table, here = np.stack([1 - curve, curve], 1), np.ones(len(X), bool)
        return {"death": Forecast("death", ("death",), TIMES, table, X.ids, X.days, here)}


def risks(x):
    """1 - exp(-t e^x / 200), as people die."""
    return 1 - np.exp(-TIMES * np.exp(x)[:, None] / 200)


def figures(cohort, X=None, n=40, **how):
    x = np.asarray(cohort.number[:, 0], float)
    X = cohort.at(0.0).followed() if X is None else X
    flat = np.repeat(np.linspace(0.1, 0.4, 4)[None], len(cohort), 0)
    models = {"gnn": Says(risks(x)), "null": Says(flat)}
    return evaluate(
        ModelRisks.of([(models, X)], "death", TIMES), outcome="death", horizons=[100.0], n=n, **how
    )


# -- what is resampled


def test_five_copies_in_one_group_are_one_unit(tmp_path):
    """Everybody five times: the interval is that of everybody once; by patients it would be half of it."""
    x, end, died = people(150)
    names = np.array([f"p{i:03d}" for i in range(150)])
    for name in ("once", "five"):
        (tmp_path / name).mkdir()
    once = figures(cohort_of(tmp_path / "once", x, end, died, pid=names))
    five = [np.repeat(part, 5) for part in (x, end, died)]
    copies = np.array([f"{pid}{c}" for pid in names for c in "abcde"])
    cohort = cohort_of(tmp_path / "five", *five, site=np.repeat(names, 5), pid=copies)
    found, apart = figures(cohort), figures(replace(cohort, group=None))
    assert (once.units, found.units) == ("patients", "groups")
    for metric in ("auc", "brier", "oe", "c"):
        one, same, narrow = (
            e.value("gnn", metric, landmark=0.0, horizon=100.0) for e in (once, found, apart)
        )
        assert same["value"] == pytest.approx(one["value"], rel=1e-9)
        assert (same["low"], same["high"]) == pytest.approx((one["low"], one["high"]), rel=1e-9)
        assert narrow["high"] - narrow["low"] < 0.7 * (same["high"] - same["low"])
        assert (one["interval"], same["interval"], same["draws"]) == ("patients", "groups", 40)


def test_few_groups_by_t_and_very_few_not_at_all(tmp_path):
    from scipy.stats import t

    x, end, died = people(400)
    for count, kind in ((40, "groups"), (12, "groups, t"), (4, None)):
        site = np.array([f"s{i % count:02d}" for i in range(400)])
        row = figures(cohort_of(tmp_path, x, end, died, site=site)).value("gnn", "brier", horizon=100.0)
        assert row["interval"] == kind and (row["low"] is None) == (kind is None) and row["draws"] == 40
    draws, units = np.random.default_rng(0).normal(size=200), np.arange(12)
    found = bootstrap_interval(3.0, draws, units, "groups")
    half = t.ppf(0.975, 11) * draws.std(ddof=1) * np.sqrt(12 / 11)
    assert (found["low"], found["high"]) == pytest.approx((3 - half, 3 + half))
    assert bootstrap_interval(3.0, draws, units, "patients")["interval"] == "patients", (
        "patients are not groups"
    )


def test_draws_without_a_number_are_counted():
    draws = np.r_[np.arange(60.0), np.full(40, np.nan)]
    found = bootstrap_interval(30.0, draws, np.arange(50), "patients")
    assert found["draws"] == 60 and (found["low"], found["high"]) == pytest.approx(
        tuple(np.quantile(draws[:60], [0.025, 0.975]))
    )
    few = np.r_[np.arange(40.0), np.full(60, np.nan)]
    assert bootstrap_interval(30.0, few, np.arange(50), "patients") == {
        "low": None,
        "high": None,
        "draws": 40,
        "interval": None,
    }
    assert np.isnan(metrics.interval(few[:, None])[0][0])


# -- what is counted


def test_one_case_gives_no_ranking_and_says_so(tmp_path):
    """Of one case no AUC, C, slope or ICI; of six some, with the draws that had too few counted."""
    x, _, _ = people(200)
    for cases in (1, 6):
        died = np.arange(200) < cases
        found = figures(cohort_of(tmp_path, x, np.where(died, 30.0, 150.0), died), n=100)
        for metric in ("auc", "auc1", "c", "slope", "ici"):
            row = found.value("gnn", metric, landmark=0.0, horizon=100.0)
            assert (row["value"] is None) == (cases == 1), metric
            if metric != "ici":
                assert row["draws"] is None if cases == 1 else 0 < row["draws"] < 100
        assert found.value("gnn", "brier", landmark=0.0, horizon=100.0)["value"] is not None
        said = "death: no auc, c, slope, ici at 0 d to 100 d (1): fewer than 5 patients among the "
        said += "cases or the others"
        assert list(found.warnings) == ([said] if cases == 1 else [])
        assert found.to_dict()["warnings"] == list(found.warnings)


def test_minimum_counts_are_of_patients():
    """Thirty rows of three patients are three patients."""
    time, event = np.full(30, 9.0), np.zeros(30, int)
    patient = np.arange(30) % 3
    assert metrics.not_estimable(time, event, 5.0) is None
    said = metrics.not_estimable(time, event, 5.0, patient=patient)
    assert said == "horizon 5: 3 patients are followed beyond it; 20 are needed"
    assert metrics.not_estimable(time, event, 5.0, patient=np.arange(30)) is None
    assert metrics.at_horizon(time, event, 5.0, patient=patient) is None
    case = np.arange(30) < 15
    assert metrics.labelled(case, patient=patient).fewest == 3 and metrics.labelled(case).fewest == 15


def test_asks_of_one_day_that_repeat_are_no_more_patients(tmp_path):
    x, end, died = people(40)
    cohort = cohort_of(tmp_path, x, end, died)
    X = cohort.at(0.0).followed()[:15]
    many = X[np.tile(np.arange(15), 10)]
    for row in figures(cohort, many, n=5).rows:
        assert row["value"] is None or row["metric"] == "tau"


def test_a_fit_on_a_few_events_warns(tmp_path):
    x, end, _ = people(120)
    few = {"members": 1, "epochs": 1, "channels": 8, "num_layers": 1, "horizon": 100.0}
    for events in (1, 4):
        died = np.arange(120) < events
        X = cohort_of(tmp_path, x, np.where(died, 30.0, end + 100), died).at(0.0).followed()
        with pytest.warns(UserWarning, match=f"outcome 'death': {events} of 120 patients with an event; "):
            PrognosisModel(**few).fit(X)
    died[:] = False
    with pytest.raises(InputError, match="no events of 'death'"):
        PrognosisModel(**few).fit(cohort_of(tmp_path, x, end, died).at(0.0).followed())


# -- the null


@pytest.fixture(scope="module")
def falling(tmp_path_factory):
    """Half die soon, the others late: the later one asks, the lower the risk."""
    rng = np.random.default_rng(0)
    n = 600
    frail = rng.random(n) < 0.5
    end = np.where(frail, rng.exponential(40, n), rng.exponential(900, n)).round(3) + 0.001
    lost = rng.uniform(200, 500, n)
    x = rng.normal(size=n)
    return cohort_of(tmp_path_factory.mktemp("falling"), x, np.minimum(end, lost), end <= lost)


@pytest.fixture(scope="module")
def fitted(falling):
    few = {"members": 1, "epochs": 1, "channels": 8, "num_layers": 1, "horizon": 100.0, "num_times": 4}
    return PrognosisModel(**few).fit(falling.landmarks(np.arange(400), times=[0, 100, 150]).followed())


def test_the_null_has_a_curve_for_each_landmark(falling, fitted):
    """Known at 0 and 150 days: those of the training asks; at 120, not fitted at, those at risk then."""
    train = falling.landmarks(np.arange(400), times=[0, 120, 150]).followed()
    null = marginal_model(fitted.predictor_, "death", train)
    times = np.array(fitted.predictor_.heads["death"].times)
    test = falling.landmarks(np.arange(400, 600), times=[0, 120, 150]).followed()
    said = null.forecast(test)["death"].incidence
    for day in (0, 120, 150):
        asks = train[train.days == day]
        truth = asks.outcome("death")
        table = metrics.aalen_johansen(truth["time"], truth["event"].astype(int), times, causes=1)
        np.testing.assert_allclose(
            said[test.days == day], np.broadcast_to(table, (int((test.days == day).sum()), *table.shape))
        )
    late, early = (said[test.days == day][0, 1, -1] for day in (150, 0))
    assert late < 0.6 * early
    pooled = fitted.predictor_.null["death"][1, -1]
    assert late + 0.05 < pooled < early - 0.05, "one table for all is right nowhere"


def test_a_model_alone_has_the_curve_of_the_nearest_landmark(falling, fitted, tmp_path):
    """It travels with the folder, so that the score of a loaded model is the same."""
    fitted.save_pretrained(tmp_path / "model")
    loaded = PrognosisModel.from_pretrained(tmp_path / "model")
    test = falling.landmarks(np.arange(400, 600), times=[0, 140]).followed()
    null = marginal_model(loaded.predictor_, "death")
    said = null.forecast(test)["death"].incidence
    days, tables = loaded.predictor_.nulls["death"]
    assert np.isnan(days[0]) and days[1:].tolist() == [100, 150] and np.allclose(tables.sum(1), 1)
    assert (said[test.days == 140] == tables[2]).all() and (said[test.days == 0] == tables[0]).all()
    assert loaded.score(test) == fitted.score(test)
    flat = replace(fitted.predictor_, nulls={})
    assert fitted.score(test) != pytest.approx(score_of(flat, test), abs=1e-3)


def score_of(predictor, X):
    model = PrognosisModel()
    model.predictor_, model.train_ids_ = predictor, frozenset()
    return model.score(X)


def test_no_landmark_of_the_null_is_of_few_patients(falling):
    """Sixty landmarks: entry and at most eight tables, none of few; of visits of their own none."""
    X = falling.landmarks(np.arange(400), times=np.linspace(0, 300, 60)).followed()
    days, tables = landmark_marginals(target_of(X, "death"), X, (50.0, 100.0))
    assert 2 <= len(days) <= 9 and np.isnan(days[0]) and (np.diff(days[1:]) > 0).all()
    assert tables.shape == (len(days), 2, 2)
    own = X[:30]
    own = replace(own, at=own.at % 1000 + np.arange(30))
    assert landmark_marginals(target_of(own, "death"), own, (50.0,)) is None


def test_no_marginal_is_rounded_to_more_than_all(pbc):
    """Two thirds and two sixths, each rounded up, are 1.0001: event-free would be below 0."""
    X = pbc.landmarks(times=[0, 1])
    event = np.where(X.patient < 208, 1, np.where(X.patient < 260, 2, 3))
    target = SurvivalTarget(("a", "b", "c"), event, np.full(len(X), 5.0))
    days, tables = landmark_marginals(target, X, (10.0, 20.0))
    assert len(days) == 2 and (tables >= 0).all() and tables.sum(1) == pytest.approx(1, abs=1e-12)
    assert tables[0, :, 1].tolist() == pytest.approx([0.0002, 0.6666, 0.1666, 0.1666])


def test_entry_has_its_curve_whenever_it_is(falling, tmp_path):
    """Entry on days 0 to 400, deaths soon after it: the saved curve of entry is that of all entries, not that
    of the day which they have in the mean."""
    truth, start = falling.outcomes["death"], np.arange(len(falling)) % 5 * 100 * DAY
    moved = replace(falling, entry=start, outcomes={"death": replace(truth, time=truth.time + start)})
    X = moved.landmarks(np.arange(400), ["entry", 300, 500]).followed()
    model = PrognosisModel(members=1, epochs=1, channels=8, horizon=100.0).fit(X)
    model.save_pretrained(tmp_path / "model")
    loaded = PrognosisModel.from_pretrained(tmp_path / "model").predictor_
    asks = moved.entries(np.arange(400)).followed()
    came = asks.outcome("death")
    own = metrics.aalen_johansen(came["time"], came["event"].astype(int), np.array([100.0]), causes=1)[1, 0]
    for null in (marginal_model(loaded, "death"), marginal_model(model.predictor_, "death", train=asks)):
        risk = null.forecast(asks)["death"].risk(horizon=100.0)
        assert risk == pytest.approx(np.full(len(asks), own), abs=0.02)
    assert loaded.null_at("death", asks)[:, 1, -1] == pytest.approx(np.full(len(asks), own), abs=0.02)


def test_groups_are_of_what_is_known_at_the_ask(falling):
    """A static known from day 100 on is missing before."""
    from gnnpatient.study.subgroups import groups_of

    name = falling.spec.patient.number[0]
    late = replace(falling, number_known=np.full(falling.number.shape, 100 * DAY))
    X = late.landmarks(np.arange(50), [0, 100])
    early = X.days < 100
    groups = groups_of(X, [name])[name]
    assert (groups[f"{name}=missing"] == early).all() and len(groups) == 3


# -- who was lost


def leaving(n, seed=0):
    """The sick leave early, the more so the sicker: x tells both death and being lost."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    dies, lost = rng.exponential(200 * np.exp(-x)), rng.exponential(150 * np.exp(-0.6 * x))
    lost = np.minimum(lost, 400)
    return x, np.minimum(dies, lost).round(4) + 1e-4, dies <= lost, dies


def test_censoring_that_depends_on_risk_is_seen(tmp_path):
    """By Kaplan-Meier weights figures are off by more than .02; by a Cox model they are near the truth."""
    x, end, died, dies = leaving(8000)
    cohort = cohort_of(tmp_path, x, end, died)
    X = cohort.at(0.0).followed()
    assert np.array_equal(np.asarray(cohort.number[:, 0], float), x.astype(cohort.number.dtype))
    found = figures(cohort, X, n=5, censoring="cox")
    risk, case = risks(x)[:, 1], dies <= 100
    full = np.full(len(x), 1.0)
    truth = {
        "auc": metrics.auc(risk, np.where(case, full, 3 * full), case.astype(int), 2.0),
        "oe": case.mean() / risk.mean(),
        "brier": np.square(case - risk).mean(),
    }
    off = {}
    for metric, right in truth.items():
        km, cox = (
            found.value("gnn", metric, landmark=0.0, horizon=100.0, censoring=how)["value"]
            for how in ("km", "cox")
        )
        off[metric] = abs(km - right)
        assert abs(cox - right) < 0.01, (metric, km, cox, right)
    assert off["oe"] > 0.05 and off["auc"] > 0.02, off
    rows = {
        (r["censoring"], r["metric"]): r for r in found.rows if r["model"] == "gnn" and r["landmark"] == 0.0
    }
    assert rows["km", "oe"]["moved"] and rows["cox", "oe"]["moved"] and rows["cox", "oe"]["low"] is not None
    assert rows["cox", "c"]["value"] is not None and rows["cox", "c"]["interval"] is None
    (said,) = found.warnings
    assert "figures move by more than 0.02 where censoring may depend on what is known: gnn " in said


def test_where_censoring_depends_on_nothing_both_agree(tmp_path):
    x, end, died = people(1500)
    found = figures(cohort_of(tmp_path, x, end, died), n=5, censoring="cox")
    assert {row["censoring"] for row in found.rows} == {"km", "cox"} and found.warnings == ()
    assert not any(row["moved"] for row in found.rows)
    plain = figures(cohort_of(tmp_path, x, end, died), n=5)
    assert {row["censoring"] for row in plain.rows} == {"km"} and "moved" not in plain.rows[0]
    with pytest.raises(InputError, match="censoring 'c'; must be km or cox"):
        figures(cohort_of(tmp_path, x, end, died), censoring="c")


def test_equal_hazards_of_being_lost_are_kaplan_meier():
    """Every score, C pair by pair included."""
    x, end, died = people(300)
    time, event, risk = end.round(0), died.astype(int), risks(x)[:, 1]
    km = metrics.censoring(time, event)
    cox = metrics.cox_censoring(time, event, np.ones(300))
    at = [metrics.at_horizon(time, event, 100.0, staying=staying) for staying in (km, cox)]
    for name, score in metrics.SCORES.items():
        one, other = (score(risk, known, np.arange(300) % 3) for known in at)
        assert one == pytest.approx(other, rel=1e-9), name
    small = metrics.cox_censoring(time, event, np.where(np.arange(300) < 5, 50.0, 1.0))
    capped = metrics.at_horizon(time, event, 100.0, staying=small)
    assert 0 < capped.capped <= 5 and capped.inverse.max() == pytest.approx(20)


def test_a_null_of_one_table_is_what_it_was(tmp_path):
    x, end, died = people(60)
    X = cohort_of(tmp_path, x, end, died).landmarks(times=[0, 10]).followed()
    table = np.stack([1 - TIMES / 500, TIMES / 500])
    said = MarginalModel("death", ("death",), TIMES, table).forecast(X)["death"].incidence
    assert (said == table).all() and len(said) == len(X)
