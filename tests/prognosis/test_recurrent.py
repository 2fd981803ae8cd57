"""Events that recur: counts against a slow walk, losses against each other, a fit against the truth."""

import itertools
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from gnnpatient import InputError, PrognosisModel, load_predictor, read_cohort
from gnnpatient.metrics import mean_number
from gnnpatient.model.paths import PathHead, RecurrentConfig
from gnnpatient.patient.answers import answer
from gnnpatient.patient.predictions import predict
from gnnpatient.prognosis.boosted import _person_periods, _Sample
from gnnpatient.prognosis.linear import _PathLoss
from gnnpatient.prognosis.recurrent import RecurrentForecast, RecurrentTarget
from gnnpatient.study import evaluate_models
from gnnpatient.study.ablations import LateFusion
from gnnpatient.study.evaluate import evaluate
from gnnpatient.study.event_counts import event_counts
from gnnpatient.study.scoreboard import NUMBER, ModelRisks
from gnnpatient.study.subgroups import groups_of

# Relapses come at the rate of a marker times a frailty that nobody sees, so that those of a patient hang
# together and earlier ones tell of later ones. Death depends on the marker alone, censoring on nothing.
YEAR = 365.25
SHAPE, RELAPSE, DEATH = 2.0, 0.9, 0.2  # of the frailty (its mean is 1), and rates a year at a marker of 0
SPEC = """
cohort = "relapses"
[patient]
table = "patients.csv"
key = "id"
number = ["marker"]
known = "0d"

[nodes.relapse]
table = "events.csv"
time = "day"
code = "event"

[outcomes.relapses]
kind = "survival"
table = "patients.csv"
recurrent = true

[outcomes.relapses.causes]
relapse = { table = "events.csv", time = "day", where = { event = "relapse" } }
death = { time = "last", flag = "died" }
"""


def rates(marker):
    """Relapses and deaths a year, at a frailty of one."""
    return RELAPSE * np.exp(0.5 * marker), DEATH * np.exp(0.4 * marker)


def draw(n, seed):
    """Tables, the marker and the frailty."""
    rng = np.random.default_rng(seed)
    marker, frailty = rng.normal(size=n), rng.gamma(SHAPE, 1 / SHAPE, n)
    relapse, death = rates(marker)
    dies, lost = rng.exponential(1 / death), rng.uniform(1.5, 5.0, n)
    last = np.minimum(dies, lost)
    count = rng.poisson(relapse * frailty * last)
    owner = np.repeat(np.arange(n), count)
    day = rng.uniform(0, last[owner]) * YEAR
    ids = np.array([f"p{i:05}" for i in range(n)])
    people = pl.DataFrame(
        {"id": ids, "marker": marker, "last": last * YEAR, "died": (dies <= lost).astype(int)}
    )
    events = pl.DataFrame({"id": ids[owner], "day": day, "event": ["relapse"] * len(owner)})
    return {"patients.csv": people, "events.csv": events}, marker, frailty


def cohort(tmp_path, n, seed):
    (tmp_path / "spec.toml").write_text(SPEC)
    tables, marker, _ = draw(n, seed)
    for name, table in tables.items():
        table.write_csv(tmp_path / name)
    return read_cohort(tmp_path / "spec.toml", tmp_path), marker


def truth(marker, seen, at, horizon):
    """Expected number and chance of the next relapse, of those alive after `at` years with `seen` of them.

    Given those the frailty is of a gamma distribution again.
    """
    relapse, death = rates(marker)
    shape, rate = SHAPE + seen, SHAPE + relapse * at
    number = relapse * shape / rate * -np.expm1(-death * horizon) / death
    t = (np.arange(400) + 0.5)[:, None] * horizon / 400
    density = relapse * shape / rate * (1 + relapse * t / rate) ** (-shape - 1) * np.exp(-death * t)
    return number, density.sum(0) * horizon / 400


TIMES = (90.0, 200.0, 400.0, 730.0)
HEAD = RecurrentConfig(causes=("relapse", "death"), times=TIMES)


@pytest.fixture(scope="module")
def relapses(tmp_path_factory):
    return cohort(tmp_path_factory.mktemp("relapses"), 700, 1)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return cohort(tmp_path_factory.mktemp("others"), 3000, 2)


@pytest.fixture(scope="module")
def landmarks(relapses):
    return relapses[0].landmarks(times=[182, 365, 548])


@pytest.fixture(scope="module")
def fitted(landmarks):
    model = PrognosisModel(outcomes=["relapses"], members=1, horizon=730, families=("linear", "boosted"))
    return model.fit(landmarks.followed("relapses"))


def so_far(X):
    """How many relapses each has had."""
    return X.to_frame()["relapse.relapse.n"].fill_null(0).to_numpy()


def walk(events, end, gone):
    """Counts and exposure of one landmark, interval by interval."""
    count, exposure = np.zeros((4, len(TIMES))), np.zeros((4, len(TIMES)))
    first = min([*events, end])
    for j, (low, high) in enumerate(zip((0.0, *TIMES), TIMES, strict=False)):
        inside = [e for e in events if low < e <= high]
        count[0, j] = sum(e == first for e in inside)
        count[2, j] = sum(e != first for e in inside)
        if gone and low < end <= high:
            count[3 if events else 1, j] = 1
        before = max(0.0, min(first, high) - low) / (high - low)
        exposure[:2, j] = before
        exposure[2:, j] = max(0.0, min(end, high) - low) / (high - low) - before
    return count, exposure


def test_counts_and_exposure_are_those_of_a_slow_walk(landmarks):
    target = RecurrentTarget.of(landmarks, "relapses").posed(HEAD, landmarks, "relapses")
    owner, time = target.events()
    assert len(owner) > 500 and not target.known.all()
    for i in range(len(landmarks)):
        if target.known[i]:
            count, exposure = walk(time[owner == i].tolist(), target.end[i], target.gone[i])
        else:
            count = exposure = np.zeros((4, len(TIMES)))
        np.testing.assert_array_equal(target.columns[0][i], count)
        np.testing.assert_allclose(target.columns[1][i], exposure, atol=1e-6)
    rows = np.flatnonzero(target.known)[::7]
    for part, column in zip(target[rows].columns, target.columns, strict=True):
        np.testing.assert_array_equal(part, column[rows])


def test_the_linear_loss_is_that_of_the_head_with_its_slopes(landmarks):
    target = RecurrentTarget.of(landmarks, "relapses").posed(HEAD, landmarks, "relapses")
    count, exposure = (torch.from_numpy(x) for x in target.columns)
    shift = torch.randn(2, 4, len(landmarks), requires_grad=True)
    bias = torch.randn(2, 4, len(TIMES), requires_grad=True)
    weight = torch.rand(2, len(landmarks))
    found = _PathLoss(HEAD, *target.columns)(shift.detach(), bias.detach(), weight)
    head = PathHead(HEAD, 3)
    each = [head.loss(s.T[..., None] + b, count, exposure) for s, b in zip(shift, bias, strict=True)]
    torch.testing.assert_close(found[0], torch.stack(each).detach(), rtol=1e-4, atol=1e-4)
    slopes = torch.autograd.grad((torch.stack(each) * weight).sum(), (shift, bias))
    for one, other in zip(found[1:], slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_boosted_rows_hold_every_event_and_all_exposure(landmarks):
    target = RecurrentTarget.of(landmarks, "relapses").posed(HEAD, landmarks, "relapses")
    every, bands = np.flatnonzero(target.known), np.array([0, 0, 1, 2])
    sample = _Sample(every, every, np.ones(len(every)), np.zeros((len(every), 1), np.uint8))
    expected = np.random.default_rng(0).uniform(0.1, 1, (4, len(TIMES)))
    rows = _person_periods(target, sample, TIMES, expected, bands)
    count, exposure = (column[every].sum(0) for column in target.columns)
    for band in range(3):
        mine = rows.bins[:, -1] == band
        events = (rows.target * rows.weight)[mine].sum(0)
        np.testing.assert_allclose(events, count[:, bands == band].sum(1), rtol=1e-5)
        wanted = (exposure * expected)[:, bands == band].sum(1)
        np.testing.assert_allclose(rows.weight[mine].sum(0), wanted, rtol=1e-4)


def test_the_start_of_a_head_is_the_marginal(landmarks):
    target = RecurrentTarget.of(landmarks, "relapses")
    marginal = target.marginal(landmarks.moments, TIMES)
    start = torch.from_numpy(target.start(marginal)).log()[None]
    np.testing.assert_allclose(HEAD.probabilities(start)[0], marginal, atol=0.015)
    known = target[target.known]
    same = np.ones(len(known.event), np.int64)
    plain = mean_number(*known.events(), known.end, known.gone, np.array(TIMES))
    np.testing.assert_allclose(known.marginal(same, TIMES)[3], plain)


def test_a_curve_of_few_patients_is_not_written_down(landmarks):
    X = landmarks[np.isin(landmarks.patient, range(40))].followed("relapses")
    target = RecurrentTarget.of(X, "relapses")
    marginal = target.marginal(X.moments, TIMES)
    free, coarse = (target.disclosed(marginal, X.patient, TIMES, least) for least in (1, 10))
    np.testing.assert_allclose(free[3], marginal[3], rtol=1e-12)
    owner, time = target.events()
    again = np.append(False, np.diff(owner) == 0)
    owner, time = owner[again], time[again]
    off = abs((coarse[3] - coarse[1]) - (marginal[3] - marginal[1]))  # of the further events
    kept = [0, *(1 + i for i in range(len(TIMES)) if off[i] < 1e-12)]
    edges = np.append(0.0, TIMES)[kept]
    assert len(edges) > 1
    for low, high in itertools.pairwise(edges):
        between = (time > low) & (time <= high)
        assert len(np.unique(X.patient[owner[between]])) >= 10
    few = RecurrentTarget.of(X[:6], "relapses")
    hidden = few.disclosed(few.marginal(X[:6].moments, TIMES), X.patient[:6], TIMES, 10)
    for line in (hidden[1], hidden[3] - hidden[1]):
        assert len(set(np.diff(line / TIMES).round(9))) == 1  # straight


@pytest.mark.parametrize("horizon", [365.25, 730])
def test_a_fit_is_right_on_average_and_knows_who_has_many(fitted, others, horizon):
    """The number is never below the chance of the next one; both are right on average."""
    whole, marker = others
    X = whole.at(YEAR).followed("relapses")
    forecast = fitted.forecast(X)["relapses"]
    assert isinstance(forecast, RecurrentForecast)
    number, chance = truth(marker[X.patient], so_far(X), 1.0, horizon / YEAR)
    found, risk = forecast.expected(horizon), forecast.risk("relapse", horizon)
    assert (found >= risk - 1e-9).all()
    # the mean of the 560 patients learned from is itself off: their numbers scatter by about this much
    scatter = np.sqrt((number.mean() + number.mean() ** 2) / 560)
    assert abs(found.mean() - number.mean()) <= 2.5 * scatter
    assert abs(risk.mean() - chance.mean()) <= 2.5 * 0.5 / np.sqrt(560)
    assert np.corrcoef(found, number)[0, 1] > 0.88 and np.corrcoef(risk, chance)[0, 1] > 0.88


def test_a_forecast_is_kept_cut_and_shown(fitted, relapses, tmp_path):
    X = relapses[0].at(365)
    forecast = fitted.forecast(X)["relapses"]
    fitted.save_pretrained(tmp_path / "model")
    again = load_predictor(tmp_path / "model").forecast(X)["relapses"]
    np.testing.assert_array_equal(again.number, forecast.number)
    some = np.flatnonzero(forecast.at_risk)[:5]
    part = forecast[some]
    np.testing.assert_array_equal(part.expected(200), forecast.expected(200)[some])
    np.testing.assert_array_equal(part.expected_at([200, 400])[:, 1], forecast.expected(400)[some])
    assert np.isnan(forecast.number[~forecast.at_risk]).all() and part.expected(0).max() == 0
    table = part.table([200, 400]).filter(cause="relapse")
    np.testing.assert_allclose(table.filter(horizon=400)["expected"], part.expected(400))
    assert part.table([200]).filter(cause="death")["expected"].is_null().all()
    later = part.given_event_free("6mo")
    assert not isinstance(later, RecurrentForecast) and later.at[0] == pytest.approx(365 + 365.25 / 2)
    assert "expected relapse" in repr(part[0])
    assert "relapse" in (tmp_path / "model" / "README.md").read_text()


def test_ask_and_predict_say_how_many(fitted, relapses):
    whole = relapses[0]
    found = answer(fitted.predictor_, whole, str(whole.at(182).followed("relapses").ids[3]), 182)
    told = found.to_dict()["outcomes"]["relapses"]
    forecast = fitted.forecast(found.landmark)["relapses"]
    assert told["kind"] == "recurrent" and told["expected"] == forecast.number[0].tolist()
    _, rows = found.outcomes["relapses"].table()
    assert [row[0] for row in rows] == ["next relapse", "death", "event-free", "number of relapse"]
    frame = predict(fitted.predictor_, whole, at=[365], horizons=[365.0]).frame
    one = frame.filter(pl.col("cause") == "relapse")
    np.testing.assert_allclose(
        one["expected"], fitted.forecast(whole.at(365).followed("relapses"))["relapses"].expected(365)
    )


def test_evaluation_counts_events(fitted, others):
    whole = others[0]  # ids from 1000 on no fit has seen
    halves = whole.ids[2000:], whole.ids[1000:2000]
    X, train = (whole.at(YEAR, patient=ids).followed("relapses") for ids in halves)
    found = evaluate_models({"mine": fitted}, X, train=train, outcome="relapses", horizons=[365.0], n=20)

    def value(metric, model="mine"):
        (row,) = [r for r in found.rows if (r["metric"], r["model"], r["landmark"]) == (metric, model, YEAR)]
        return row

    ratio = value("number_oe")
    assert ratio["cause"] == "relapse" and ratio["low"] < 1.05 and ratio["high"] > 0.95
    assert abs(ratio["value"] - 1) < 0.15
    assert any(note.startswith("relapse at 365.25 d, mean number observed") for note in found.warnings)
    assert value("number_mse")["value"] > 0 and value("number_scaled_mse")["value"] > 0.05
    assert (
        value("number_scaled_mse", "null")["value"] == 0
        and abs(value("number_oe", "null")["value"] - 1) < 0.2
    )


def test_evaluation_counts_the_events_of_each_group(fitted, others):
    """The number of a group is that of its patients alone; a half of whom too few are expected is found."""
    whole = others[0]
    X = whole.at(YEAR, patient=whole.ids[2000:]).followed("relapses")
    scored = ModelRisks.of([({"mine": fitted.predictor_}, X)], "relapses", [365.0])
    (parts,) = groups_of(X, ["marker"]).values()
    halved = scored.risks["mine"][NUMBER] / np.where(next(iter(parts.values())), 2, 1)[:, None]
    scored = replace(scored, risks={"mine": scored.risks["mine"] | {NUMBER: halved}})
    found = evaluate(scored, outcome="relapses", horizons=[365.0], by=["marker"], n=20)
    ratio = {r["group"]: r for r in found.rows if r["metric"] == "number_oe"}
    assert list(ratio) == [None, *parts] and len(parts) > 1
    for group, members in parts.items():
        mine = replace(scored, landmarks=X[members], fold=scored.fold[members])
        mine = replace(mine, risks={"mine": {k: risk[members] for k, risk in scored.risks["mine"].items()}})
        rows, _ = event_counts(mine, "relapses", [365.0], n=20)
        alone = [row | {"group": group} for row in rows]
        of = [row for row in found.rows if row["group"] == group and row["metric"].startswith("number_")]
        assert [pytest.approx(row) for row in alone] == of
        assert any(note.startswith(f"{group}: relapse at ") for note in found.warnings)
    few = np.arange(len(X)) < 5
    rows, notes = event_counts(scored, "relapses", [365.0], n=2, group=("few", few, False))
    assert {row["value"] for row in rows} == {None} and "number observed: not estimable within" in notes[0]
    first, other = (ratio[group]["value"] for group in list(parts)[:2])
    assert first > 1.5 > other


def test_the_mean_of_models_is_a_forecast(fitted, relapses):
    X = relapses[0].at(365).followed("relapses")
    one, mean = (model.forecast(X)["relapses"] for model in (fitted, LateFusion((fitted, fitted))))
    assert type(mean) is type(one) and mean.members is None
    for field in ("incidence", "number", "gone"):
        np.testing.assert_allclose(getattr(mean, field), getattr(one, field))


def test_y_is_refused(landmarks):
    X = landmarks.followed("relapses")
    y = np.zeros(len(X), [("event", int), ("time", float)])
    with pytest.raises(InputError, match="leave y out"):
        PrognosisModel(outcomes=["relapses"]).fit(X, y)


@pytest.mark.slow
def test_every_family_is_right_on_average(tmp_path_factory, others):
    whole, marker = others
    train = cohort(tmp_path_factory.mktemp("many"), 10_000, 11)[0].landmarks(times=[182, 365, 548])
    model = PrognosisModel(outcomes=["relapses"], members=1, epochs=8, horizon=730).fit(
        train.followed("relapses")
    )
    X = whole.at(YEAR).followed("relapses")
    number, chance = truth(marker[X.patient], so_far(X), 1.0, 1.0)
    for family in ("linear", "boosted", "graph", None):
        forecast = model.forecast(X, families=family)["relapses"]
        found, risk = forecast.expected(YEAR), forecast.risk("relapse", YEAR)
        assert abs(found.mean() - number.mean()) <= 0.02 and abs(risk.mean() - chance.mean()) <= 0.02, family
        assert np.corrcoef(found, number)[0, 1] > 0.93, family


def test_what_few_patients_had_is_not_told_by_subtraction():
    """Of 40 with an event 3 have more, and of those 2 die: neither how often nor when is written down."""
    n, times = 60, (100.0, 200.0, 300.0)
    patient = np.arange(n)

    def written(further, died):
        number = np.where(patient < 40, 1, 0)
        number[:3] += further
        first = np.append(0, number.cumsum()[:-1])
        happened = np.concatenate([20.0 + 5 * i + 37.0 * np.arange(k) for i, k in enumerate(number)])
        gone, end = np.zeros(n, np.int64), np.full(n, 350.0)
        gone[45:57], end[45:57] = 1, 150.0
        gone[:died], end[:died] = 1, 290.0
        event = np.where(number > 0, 1, 2 * gone)
        time = np.where(number > 0, np.append(happened, 0)[first], end)
        parts = gone, end, first, first + number, np.zeros(n), happened
        target = RecurrentTarget(("fall", "death"), event, time, *parts)
        return target.disclosed(target.marginal(np.zeros(n, np.int64), times), patient, times, 10)

    one, other = written(1, 1), written(4, 2)
    assert np.allclose(one, other)
    assert (one[3] > one[1]).all() and (one[4] >= one[2]).all()


def test_an_update_is_of_the_causes_alone(others):
    """A number of events is no risk of a cause: the twin has none, and the risks are scaled without it."""
    from gnnpatient.study.scoreboard import NUMBER, ModelRisks
    from gnnpatient.study.updating import with_update

    X = others[0].at(YEAR, patient=others[0].ids[:300]).followed("relapses")
    times, rng = np.array([180.0, 365.0]), np.random.default_rng(0)
    risks = {name: np.sort(rng.uniform(0.05, 0.4, (len(X), 2))) for name in ("relapse", "death")}
    more = {NUMBER: np.full((len(X), 2), 0.9)}
    fold = np.zeros(len(X), int)
    plain, _ = with_update(ModelRisks(X, fold, {"gnn": risks}, times), "relapses", "intercept")
    found, _ = with_update(ModelRisks(X, fold, {"gnn": risks | more}, times), "relapses", "intercept")
    assert list(found.risks["gnn+intercept"]) == list(risks)
    for name in risks:
        assert np.array_equal(found.risks["gnn+intercept"][name], plain.risks["gnn+intercept"][name])
