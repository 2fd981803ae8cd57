"""A diagnosis within a window, under censoring and with death competing (METHODS 9): shares and figures."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pytest

from gnnpatient import metrics
from gnnpatient.errors import InputError

WINDOW = 365.0
TOML = """
cohort = "made"
[patient]
table = "patients.csv"
key = "pid"
number = ["x"]
exit = "{exit}"
[nodes.dx]
table = "dx.csv"
time = "day"
code = "code"
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = {{ death = {{ time = "end", flag = "died" }} }}
[outcomes.sick]
kind = "diagnosis"
node = "dx"
codes = ["S"]
horizon = "365d"
{more}
"""
FEW = {"outcomes": ["sick"], "members": 1, "epochs": 1, "channels": 8, "num_layers": 1, "batch_size": 256}


def made(folder, n=3000, seed=0, exit="end", more="", goes_on=False):
    """Sickness and death by constant hazards, e^(x/2) and 1 a year; lost evenly over two years.

    Beside the cohort the truth of each patient: the chance to be sick within the window from any day on.
    """
    from gnnpatient import read_cohort

    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    hazard = np.exp(0.5 * x) / WINDOW
    sick, dead, lost = rng.exponential(1 / hazard), rng.exponential(WINDOW, n), rng.uniform(0, 2 * WINDOW, n)
    end = np.minimum(dead, lost)
    pid = np.array([f"p{i:05d}" for i in range(n)])
    patients = {"pid": pid, "x": x, "end": end, "died": (dead <= lost).astype(int), "lost": lost}
    pl.DataFrame(patients).write_csv(folder / "patients.csv")
    seen = sick <= (lost if goes_on else end)
    rows = {
        "pid": [*pid, *pid[seen]],
        "day": [*np.zeros(n), *sick[seen]],
        "code": ["A"] * n + ["S"] * seen.sum(),
    }
    pl.DataFrame(rows).write_csv(folder / "dx.csv")
    (folder / "made.toml").write_text(TOML.format(exit=exit, more=more))
    both = hazard + 1 / WINDOW
    return read_cohort(folder / "made.toml", folder), hazard / both * (1 - np.exp(-both * WINDOW))


@dataclass(eq=False)
class Says:
    """A model that says `p` of each patient."""

    p: np.ndarray

    def forecast(self, X):
        from gnnpatient import DiagnosisForecast

        said = np.stack([1 - self.p[X.patient], self.p[X.patient]], 1)
        return {"sick": DiagnosisForecast("sick", ("no", "yes"), said, X.ids, X.days, np.ones(len(X), bool))}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return made(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def asks(world):
    """Sicker people leave first, so that the truth of a later landmark is lower."""
    return world[0].landmarks(times=[0.5, 200]).followed("sick")


def at(asks, day):
    return asks[asks.days == day]


def test_the_share_of_yes_is_the_truth(tmp_path):
    """Truth .43; unweighted .46, and without the dead .71; the O/E of the true model is 1."""
    from gnnpatient.prognosis.targets import label_target
    from gnnpatient.study.evaluate import evaluate
    from gnnpatient.study.scoreboard import ModelRisks

    cohort, p = made(tmp_path, n=20_000)
    X = cohort.at(0.5).followed("sick")
    truth, target = p[X.patient].mean(), label_target(cohort.outcomes["sick"], X, np.ones(len(X), bool))
    assert target.marginal(X.at)[1] == pytest.approx(truth, abs=0.01)
    assert target.weight[target.known].mean() == pytest.approx(1)
    assert (target.weight[~target.known] == 0).all() and (~target.known).mean() > 0.1
    label, (event, _) = X.outcome("sick")["label"], cohort.outcomes["sick"].course(X.patient, X.at)
    assert np.mean(label[label >= 0]) > truth + 0.02, "unweighted"
    assert np.mean(label[(label >= 0) & (event != 2)]) > truth + 0.2, "and the dead left out"
    found = evaluate(ModelRisks.of([({"true": Says(p)}, X)], "sick"), outcome="sick", horizons=[], n=2)
    assert found.value("true", "oe", landmark=0.5)["value"] == pytest.approx(1, abs=0.03)
    assert found.value("true", "slope", landmark=0.5)["value"] == pytest.approx(1, abs=0.1)


def test_fit_rival_null_and_scores_agree(world, asks):
    from gnnpatient import PrognosisModel
    from gnnpatient.study.baselines import StackedLogistic, marginal_model
    from gnnpatient.study.evaluate import evaluate
    from gnnpatient.study.scoreboard import ModelRisks

    p = world[1]
    train, held = asks[asks.patient % 2 == 0], asks[asks.patient % 2 == 1]
    model, rival = PrognosisModel(**FEW).fit(train), StackedLogistic(outcomes=["sick"]).fit(train)
    truth = p[at(held, 0.5).patient].mean()
    models = {
        "gnn": model,
        "logistic": rival,
        "true": Says(p),
        "null": marginal_model(model.predictor_, "sick"),
    }
    for name, one in models.items():
        said = one.forecast(at(held, 0.5))["sick"].risk().mean()
        assert said == pytest.approx(truth, abs=0.04), name
    found = evaluate(ModelRisks.of([(models, held)], "sick"), outcome="sick", horizons=[], n=10)
    assert {row["horizon"] for row in found.rows} == {WINDOW}
    for name in models:
        assert found.value(name, "oe", landmark=0.5)["value"] == pytest.approx(1, abs=0.1), name
        assert found.value(name, "brier", landmark=0.5)["value"] == pytest.approx(0.24, abs=0.02), name
    assert found.value("true", "auc", landmark=0.5)["value"] > 0.55


def test_the_scores_are_those_of_survival_with_death_competing(world, asks):
    """And of simulated people whom nobody loses, near the same."""
    from gnnpatient.study.evaluate import evaluate
    from gnnpatient.study.scoreboard import ModelRisks

    cohort, p = world
    X = at(asks, 200)
    event, time = cohort.outcomes["sick"].course(X.patient, X.at)
    found = evaluate(ModelRisks.of([({"true": Says(p)}, X)], "sick"), outcome="sick", horizons=[], n=2)
    for name, score in (("auc", metrics.auc), ("brier", metrics.brier), ("oe", metrics.observed_expected)):
        by_hand = score(p[X.patient], time, event, WINDOW, cause=1)
        assert found.value("true", name, landmark=200.0)["value"] == pytest.approx(by_hand, rel=1e-12)


def test_the_score_of_an_estimator_weighs_too(asks):
    """The null scores nothing against itself; it would if the label were counted as it comes."""
    from gnnpatient import PrognosisModel
    from gnnpatient.prognosis.targets import label_target

    X = at(asks, 0.5)
    train, held = X[X.patient % 2 == 0], X[X.patient % 2 == 1]
    model = PrognosisModel(**FEW).fit(train)
    target = label_target(X.cohort.outcomes["sick"], held, np.ones(len(held), bool))
    p, null = model.predict(held), model.predictor_.null["sick"][1]
    error = [(target.weight * (q - (target.label == 1)) ** 2).sum() for q in (p, null)]
    assert model.score(held) == pytest.approx(1 - error[0] / error[1])


def test_bits_come_back_and_weights_are_of_the_fit(world, asks, tmp_path):
    """A fit goes on with the same weights alone: with one more person lost it is another fit."""
    from gnnpatient import PrognosisModel

    cohort, _ = world
    X = at(asks, 0.5)[:300]
    PrognosisModel(**FEW).fit(X, run=tmp_path / "run")
    sick = cohort.outcomes["sick"]
    gone = sick.gone.copy()
    lost = np.flatnonzero(X.outcome("sick")["label"] < 0)[0]
    gone[X.patient[lost]] = X.at[lost] + 86_400
    other = replace(cohort, outcomes={**cohort.outcomes, "sick": replace(sick, gone=gone)})
    with pytest.raises(InputError, match="other choices or asks"):
        PrognosisModel(**FEW).fit(replace(X, cohort=other), run=tmp_path / "run")


def test_who_is_dead_is_asked_nothing(world, tmp_path):
    """Also where the end of observation of the dead is that of the living."""
    from gnnpatient import open_cohort

    cohort, p = made(tmp_path, exit="lost")
    X = cohort.landmarks(times=[0.5, 200]).followed("sick")
    here = world[0].landmarks(times=[0.5, 200]).followed("sick")
    assert np.array_equal(X.patient, here.patient) and np.array_equal(X.at, here.at)
    assert np.array_equal(X.outcome("sick")["label"], here.outcome("sick")["label"])
    again = open_cohort(cohort.save(tmp_path / "packed")).landmarks(times=[0.5, 200]).followed("sick")
    for one, other in zip(
        again.cohort.outcomes["sick"].course(again.patient, again.at),
        cohort.outcomes["sick"].course(X.patient, X.at),
        strict=True,
    ):
        assert np.array_equal(one, other)
    assert p.mean() == pytest.approx(0.43, abs=0.02)


def test_what_ends_a_diagnosis(tmp_path):
    """Named, none, or by what the rows say: an event after which they go on ends nothing, and is flagged."""
    for name in ("named", "none", "on", "on named"):
        (tmp_path / name).mkdir()
    cohort, _ = made(tmp_path / "named", 400, more='gone = "death"')
    plain = cohort.outcomes["sick"]
    assert (plain.gone < np.iinfo(np.int64).max).sum() == cohort.outcomes["death"].event.sum()
    cohort, _ = made(tmp_path / "none", 400, exit="lost", more='gone = "none"')
    assert (cohort.outcomes["sick"].gone == np.iinfo(np.int64).max).all()
    cohort, _ = made(tmp_path / "on", 400, exit="lost", goes_on=True)
    assert (cohort.outcomes["sick"].gone == np.iinfo(np.int64).max).all()
    (flag,) = [flag for flag in cohort.report["decisive"] if "'sick'" in flag]
    assert flag.startswith("outcome 'sick': 'death' does not end it, as rows go on after ")
    cohort, _ = made(tmp_path / "on named", 400, exit="lost", goes_on=True, more='gone = "death"')
    assert (cohort.outcomes["sick"].gone < np.iinfo(np.int64).max).sum() > 100
    with pytest.raises(InputError, match=r"outcomes.sick.gone: 'deth' is not there; did you mean 'death'"):
        made(tmp_path / "named", 10, more='gone = "deth"')


def test_what_is_known_after_the_end_is_not_counted(tmp_path):
    """Of those who were lost, sickness later on; the share stays the truth, and the flag counts them."""
    from gnnpatient.prognosis.targets import label_target

    cohort, p = made(tmp_path)
    dx = pl.read_csv(tmp_path / "dx.csv")
    table = pl.read_csv(tmp_path / "patients.csv")
    free = table.filter(~pl.col("pid").is_in(dx.filter(code="S")["pid"].implode()), died=0)
    late = free.select("pid", day=pl.col("end") + 5, code=pl.lit("S"))
    pl.concat([dx, late]).write_csv(tmp_path / "dx.csv")
    from gnnpatient import read_cohort

    more = read_cohort(tmp_path / "made.toml", tmp_path)
    flag = f"outcome 'sick': {len(late)} diagnosed after the end of observation; not counted"
    assert flag in more.report["flags"]
    X = more.at(0.5).followed("sick")
    same = cohort.at(0.5).followed("sick")
    kept = np.isin(same.patient, X.patient)
    assert kept.mean() > 0.99  # but for those whose label becomes known within its gap
    assert np.array_equal(X.outcome("sick")["label"], same[kept].outcome("sick")["label"])
    share = label_target(more.outcomes["sick"], X, np.ones(len(X), bool)).marginal(X.at)[1]
    assert share == pytest.approx(p[X.patient].mean(), abs=0.01)


def test_a_landmark_whose_window_nobody_is_seen_through_teaches_nothing(world):
    from gnnpatient import PrognosisModel
    from gnnpatient.prognosis.targets import label_target

    cohort, _ = world
    X = cohort.landmarks(times=[0.5, 500]).followed("sick")
    target = label_target(cohort.outcomes["sick"], X, np.ones(len(X), bool))
    assert (target.label[X.days == 500] == -1).all() and (target.label[X.days == 0.5] >= 0).any()
    with pytest.raises(InputError, match="no ask to train on"):
        PrognosisModel(**FEW).fit(at(X, 500))
