"""Several states: counts against a slow walk, the estimate and a fit against matrix exponentials."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch

from gnnpatient import InputError, PrognosisModel, load_predictor, read_cohort
from gnnpatient.cohort.splits import landmark_weights
from gnnpatient.metrics import seen_states, transition_probabilities
from gnnpatient.model.paths import StatesConfig
from gnnpatient.patient.answers import answer
from gnnpatient.patient.predictions import predict
from gnnpatient.prognosis.multistate import StatesForecast, StatesTarget
from gnnpatient.study import evaluate_models
from gnnpatient.study.ablations import LateFusion
from gnnpatient.study.evaluate import evaluate
from gnnpatient.study.occupation import occupation_scores
from gnnpatient.study.scoreboard import ModelRisks
from gnnpatient.study.subgroups import groups_of

YEAR = 365.25
STATES = ("well", "ill", "dead")
MOVES = ((0, 1), (1, 0), (0, 2), (1, 2))
TIMES = (90.0, 200.0, 400.0, 730.0)
HEAD = StatesConfig(states=STATES, sources=(0, 1, 0, 1), targets=(1, 0, 2, 2), times=TIMES)
SPEC = """
cohort = "courses"
[patient]
table = "patients.csv"
key = "id"
number = ["marker"]
known = "0d"

[nodes.change]
table = "changes.csv"
time = "day"
code = "state"

[outcomes.course]
kind = "survival"
table = "patients.csv"
states = ["well -> ill", "ill -> well", "well -> dead", "ill -> dead"]

[outcomes.course.causes]
well = { table = "changes.csv", time = "day", where = { state = "well" } }
ill = { table = "changes.csv", time = "day", where = { state = "ill" } }
dead = { time = "last", flag = "died" }
"""


def rates(marker):
    """Of each transition a year: the marker makes ill, and kills the ill."""
    one = np.ones_like(marker)
    return np.stack([0.6 * np.exp(0.6 * marker), 0.8 * one, 0.05 * one, 0.3 * np.exp(0.4 * marker)], -1)


def draw(n, seed):
    """Tables: of each patient a path, cut by censoring, and the marker."""
    rng = np.random.default_rng(seed)
    marker, lost = rng.normal(size=n), rng.uniform(1.5, 5.0, n)
    ids, changes, last, died = [f"p{seed}x{i:05}" for i in range(n)], [], [], []
    for i, rate in enumerate(rates(marker)):
        now, time = 0, 0.0
        while now < 2:
            leaving = [q for q, (a, _) in enumerate(MOVES) if a == now]
            time += rng.exponential(1 / rate[leaving].sum())
            if time >= lost[i]:
                break
            now = MOVES[rng.choice(leaving, p=rate[leaving] / rate[leaving].sum())][1]
            if now < 2:
                changes.append((ids[i], time * YEAR, STATES[now]))
        last.append(min(time, lost[i]) * YEAR)
        died.append(int(now == 2))
    people = pl.DataFrame({"id": ids, "marker": marker, "last": last, "died": died})
    return people, pl.DataFrame(changes, schema=["id", "day", "state"], orient="row"), marker


def cohort(tmp_path, n, seed):
    (tmp_path / "spec.toml").write_text(SPEC)
    people, changes, marker = draw(n, seed)
    people.write_csv(tmp_path / "patients.csv")
    changes.write_csv(tmp_path / "changes.csv")
    return read_cohort(tmp_path / "spec.toml", tmp_path), marker


def truth(marker, now, horizon):
    """Probability of each state after some years, by the exponential of the generator."""
    generator = torch.zeros(len(marker), 3, 3, dtype=torch.float64)
    for q, (a, b) in enumerate(MOVES):
        rate = torch.from_numpy(rates(marker)[:, q])
        generator[:, a, b] += rate
        generator[:, a, a] -= rate
    return torch.matrix_exp(generator * horizon)[np.arange(len(marker)), now].numpy()


@pytest.fixture(scope="module")
def courses(tmp_path_factory):
    return cohort(tmp_path_factory.mktemp("courses"), 700, 1)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return cohort(tmp_path_factory.mktemp("others"), 2000, 2)


@pytest.fixture(scope="module")
def landmarks(courses):
    return courses[0].landmarks(times=[182, 365, 548])


@pytest.fixture(scope="module")
def fitted(landmarks):
    model = PrognosisModel(outcomes=["course"], members=1, horizon=730, families=("linear", "boosted"))
    return model.fit(landmarks.followed("course"))


def walk(start, changes, end):
    """Counts and exposure of one landmark: (from, to) and time of each change, interval by interval."""
    count, exposure = np.zeros((4, len(TIMES))), np.zeros((4, len(TIMES)))
    pieces, now, since = [], start, 0.0
    for time, to in [*changes, (end, None)]:
        pieces.append((now, since, time))
        if to is not None:
            for j, (low, high) in enumerate(zip((0.0, *TIMES), TIMES, strict=False)):
                count[MOVES.index((now, to)), j] += low < time <= high
            now, since = to, time
    for state, low, high in pieces:
        for q, (a, _) in enumerate(MOVES):
            for j, (begin, stop) in enumerate(zip((0.0, *TIMES), TIMES, strict=False)):
                if a == state:
                    exposure[q, j] += max(0.0, min(high, stop) - max(low, begin)) / (stop - begin)
    return count, exposure


def test_counts_and_exposure_are_those_of_a_slow_walk(landmarks):
    target = StatesTarget.of(landmarks, "course").posed(HEAD, landmarks, "course")
    owner, time, move = target.changes()
    assert len(owner) > 500 and set(move.tolist()) == {0, 1, 2, 3} and not target.known.all()
    for i in range(len(landmarks)):
        count = exposure = np.zeros((4, len(TIMES)))
        if target.known[i]:
            mine = owner == i
            changes = [(t, MOVES[q][1]) for t, q in zip(time[mine], move[mine], strict=True)]
            count, exposure = walk(int(target.now[i]), changes, target.time[i])
        np.testing.assert_array_equal(target.columns[0][i], count)
        np.testing.assert_allclose(target.columns[1][i], exposure, atol=1e-6)


def test_the_state_is_that_of_the_last_change_known_then(courses, tmp_path):
    whole, _ = courses
    outcome, X = whole.outcomes["course"], whole.at(400)
    changes = {i: [("well", -1.0)] for i in range(len(whole))}
    for who, when, state in zip(outcome.owner, outcome.happened, outcome.state, strict=True):
        changes[who].append((STATES[state], when / 86_400))
    wanted = [[s for s, t in changes[i] if t <= 400][-1] for i in X.patient]
    assert [STATES[k] for k in outcome.state_at(X.patient, X.at)] == wanted
    target = StatesTarget.of(X, "course")
    later = [[s for s, t in changes[i] if t <= 400 + 90][-1] for i in X.patient]
    known = target.known
    assert [STATES[k] for k in target.state_by(90.0)[known]] == [
        s for s, k in zip(later, known, strict=True) if k
    ]


def test_the_estimate_without_inputs_is_right(tmp_path):
    """Landmark Aalen-Johansen of many patients who are all alike, from each state."""
    people, changes, _ = draw(6000, 5)
    whole = pl.DataFrame(
        {"id": people["id"], "marker": np.zeros(6000), "last": people["last"], "died": people["died"]}
    )
    (tmp_path / "spec.toml").write_text(SPEC)
    whole.write_csv(tmp_path / "patients.csv")
    changes.write_csv(tmp_path / "changes.csv")
    X = read_cohort(tmp_path / "spec.toml", tmp_path).at(YEAR).followed("course")
    target = StatesTarget.of(X, "course")
    marker = people["marker"].to_numpy()[X.patient]
    found = target.marginal(X.moments, (YEAR, 2 * YEAR))
    np.testing.assert_allclose(found[:, :3].sum(1), 1, atol=1e-12)
    for start in (0, 1):
        mine = target.now == start
        for column, horizon in enumerate((1.0, 2.0)):
            wanted = truth(marker[mine], np.full(mine.sum(), start), horizon).mean(0)
            np.testing.assert_allclose(found[start, :3, column], wanted, atol=0.025)


def test_the_start_of_a_head_is_near_the_marginal(landmarks):
    target = StatesTarget.of(landmarks, "course")
    marginal = target.marginal(landmarks.moments, TIMES)
    found = HEAD.probabilities(torch.from_numpy(target.start(marginal)).log()[None])[0]
    np.testing.assert_allclose(found[:, :3], marginal[:, :3], atol=0.06)


def test_a_hazard_of_few_patients_is_not_written_down(landmarks):
    X = landmarks.followed("course")
    target = StatesTarget.of(X, "course")
    marginal = target.marginal(X.moments, TIMES)
    assert target.disclosed(marginal, X.patient, TIMES, 1) is marginal
    coarse = target.disclosed(marginal, X.patient, TIMES, 10)
    np.testing.assert_allclose(coarse[:, :3], marginal[:, :3], atol=0.06)
    np.testing.assert_allclose(coarse[:, :3].sum(1), 1, atol=1e-9)
    # of transitions that fewer had the hazard is constant, and that of half as many
    hidden = target.disclosed(marginal, X.patient, TIMES, 450)
    width = np.diff((0.0, *TIMES))
    days = (target.counted(TIMES)[1] * width).sum((0, 2))
    hazard = torch.from_numpy(225 / days[:, None] * width)
    wanted = HEAD.probabilities(hazard.log()[None])[0]
    np.testing.assert_allclose(hidden, wanted, rtol=1e-6)
    assert abs(target.rounded(coarse)[:, :3].sum(1) - 1).max() < 1e-9


@pytest.mark.parametrize("horizon", [1.0, 2.0])
def test_a_fit_is_right_on_average(fitted, others, horizon):
    whole, marker = others
    X = whole.at(YEAR).followed("course")
    forecast = fitted.forecast(X)["course"]
    assert isinstance(forecast, StatesForecast)
    np.testing.assert_allclose(forecast.occupation.sum(1), 1, atol=1e-9)
    wanted, days = truth(marker[X.patient], forecast.now, horizon), min(horizon * YEAR, 730)
    for k, state in enumerate(STATES):
        found = forecast.in_state(state, days)
        for start in (0, 1):
            mine = forecast.now == start
            assert (
                abs(found[mine].mean() - wanted[mine, k].mean()) <= 0.05
            )  # 560 patients: .02 is a standard error
        assert np.corrcoef(found, wanted[:, k])[0, 1] > 0.8
    total = sum(forecast.time_in(state, 500) for state in STATES)
    np.testing.assert_allclose(total, 500)
    np.testing.assert_allclose(forecast.in_state("well", 0), forecast.now == 0)
    dead = forecast.expected("well -> dead", 500) + forecast.expected("ill -> dead", 500)
    np.testing.assert_allclose(dead, forecast.risk("dead", 500), atol=1e-4)  # the marginal is rounded


def test_a_forecast_is_kept_cut_and_shown(fitted, courses, tmp_path):
    X = courses[0].at(365)
    forecast = fitted.forecast(X)["course"]
    fitted.save_pretrained(tmp_path / "model")
    again = load_predictor(tmp_path / "model").forecast(X)["course"]
    np.testing.assert_array_equal(again.occupation, forecast.occupation)
    some = np.flatnonzero(forecast.at_risk)[:5]
    part = forecast[some]
    np.testing.assert_array_equal(
        part.in_state_at("ill", [200, 400])[:, 1], forecast.in_state("ill", 400)[some]
    )
    assert np.isnan(forecast.occupation[~forecast.at_risk]).all()
    table = part.table([200, 400])
    assert table["cause"].unique(maintain_order=True).to_list() == list(STATES) and table.height == 30
    np.testing.assert_allclose(table.filter(cause="ill", horizon=400.0)["risk"], part.in_state("ill", 400))
    assert not isinstance(part.given_event_free("6mo"), StatesForecast)
    assert "ill" in repr(part[0]) and "now" in repr(part[0])
    with pytest.raises(InputError, match="did you mean 'ill'"):
        part.in_state("il")
    with pytest.raises(InputError, match="unknown transition"):
        part.expected("ill -> ill")


def test_ask_and_predict_name_the_states(fitted, courses):
    whole = courses[0]
    found = answer(fitted.predictor_, whole, str(whole.at(182).followed("course").ids[3]), 182)
    told = found.to_dict()["outcomes"]["course"]
    forecast = fitted.forecast(found.landmark)["course"]
    assert told["kind"] == "states" and told["states"]["ill"] == forecast.occupation[0, 1].tolist()
    assert told["now"] == STATES[forecast.now[0]]
    _, rows = found.outcomes["course"].table()
    assert [row[0] for row in rows] == [*STATES, "days well", "days ill"]
    frame = predict(fitted.predictor_, whole, at=[365], horizons=[365.0]).frame
    X = whole.at(365).followed("course")
    np.testing.assert_allclose(
        frame.filter(cause="ill")["risk"], fitted.forecast(X)["course"].in_state("ill", 365)
    )


def test_evaluation_scores_each_state(fitted, others):
    whole = others[0]
    X, train = (
        whole.at(YEAR, patient=ids).followed("course") for ids in (whole.ids[1000:], whole.ids[:1000])
    )
    found = evaluate_models({"mine": fitted}, X, train=train, outcome="course", horizons=[365.0, 600.0], n=20)
    null = {(r["cause"], r["metric"], r["horizon"]): r["value"] for r in found.rows if r["model"] == "null"}
    assert null["ill", "state_scaled_brier", 365.0] == 0 and abs(null["ill", "state_oe", 365.0] - 1) < 0.2
    rows = {(r["cause"], r["metric"], r["horizon"]): r for r in found.rows if r["model"] == "mine"}
    for state in STATES:
        row = rows[state, "state_oe", 365.0]
        assert abs(row["value"] - 1) < 0.25 and row["low"] <= row["value"] <= row["high"]
        forecast = fitted.forecast(X)["course"]
        target = StatesTarget.of(X, "course")
        seen = seen_states(target.state_by(365.0), target.time, target.event, 365.0, patient=X.patient)
        wanted = seen.brier(forecast.in_state(state, 365.0), STATES.index(state))
        assert rows[state, "state_brier", 365.0]["value"] == pytest.approx(wanted)
        assert rows[state, "state_scaled_ibs", None]["value"] > 0
    assert rows["dead", "oe", 365.0]["value"] == pytest.approx(
        rows["dead", "state_oe", 365.0]["value"], rel=1e-6
    )


def test_evaluation_scores_the_states_of_each_group(fitted, others):
    """The figures of a group are those of its patients alone."""
    X = others[0].at(YEAR, patient=others[0].ids[1000:]).followed("course")
    scored = ModelRisks.of([({"mine": fitted.predictor_}, X)], "course", [365.0])
    (parts,) = groups_of(X, ["marker"]).values()
    found = evaluate(scored, outcome="course", horizons=[365.0], by=["marker"], n=10)
    assert len(parts) > 1
    for group, members in parts.items():
        mine = replace(scored, landmarks=X[members], fold=scored.fold[members])
        mine = replace(mine, risks={"mine": {k: risk[members] for k, risk in scored.risks["mine"].items()}})
        rows, _ = occupation_scores(mine, "course", [365.0], n=10)
        of = [row for row in found.rows if row["group"] == group and row["metric"].startswith("state_")]
        assert [pytest.approx(row | {"group": group}) for row in rows] == of and len(of) == 5 * len(STATES)


def test_the_score_is_of_the_states(fitted, others):
    X = others[0].at(YEAR).followed("course")
    assert 0.02 < fitted.score(X) < 0.6


def test_the_mean_of_models_is_a_forecast(fitted, courses):
    X = courses[0].at(365).followed("course")
    one, mean = (model.forecast(X)["course"] for model in (fitted, LateFusion((fitted, fitted))))
    assert type(mean) is type(one) and mean.members is None
    for field in ("incidence", "occupation", "number"):
        np.testing.assert_allclose(getattr(mean, field), getattr(one, field))


def test_y_and_a_cohort_without_the_states_are_refused(landmarks, fitted, tmp_path):
    X = landmarks.followed("course")
    y = np.zeros(len(X), [("event", int), ("time", float)])
    with pytest.raises(InputError, match="leave y out"):
        PrognosisModel(outcomes=["course"]).fit(X, y)
    people, changes, _ = draw(40, 9)
    people.write_csv(tmp_path / "patients.csv")
    changes.write_csv(tmp_path / "changes.csv")
    (tmp_path / "spec.toml").write_text(SPEC[: SPEC.index("[outcomes.course]")])
    with pytest.raises(InputError, match="does not say in which of well, ill, dead"):
        fitted.forecast(read_cohort(tmp_path / "spec.toml", tmp_path).at(100))


@pytest.mark.slow
def test_every_family_is_right_on_average(tmp_path_factory, others):
    whole, marker = others
    train = cohort(tmp_path_factory.mktemp("many"), 8000, 11)[0].landmarks(times=[182, 365, 548])
    model = PrognosisModel(outcomes=["course"], members=1, epochs=8, horizon=730).fit(
        train.followed("course")
    )
    X = whole.at(YEAR).followed("course")
    for family in ("linear", "boosted", "graph", None):
        forecast = model.forecast(X, families=family)["course"]
        wanted = truth(marker[X.patient], forecast.now, 1.0)
        for k, state in enumerate(STATES):
            found = forecast.in_state(state, YEAR)
            assert abs(found.mean() - wanted[:, k].mean()) <= 0.02, (family, state)
            assert np.corrcoef(found, wanted[:, k])[0, 1] > 0.9, (family, state)


def test_days_of_few_patients_in_a_state_are_not_written_down():
    """Three of 60 are ill for a while, and two of them die: how long they are ill is in no figure."""
    n, times = 60, (100.0, 200.0, 300.0)

    def written(days):
        number = np.array([2, 2, 1, *np.zeros(n - 3, int)])
        first = np.append(0, number.cumsum()[:-1])
        happened = np.array([50.0, 50.0 + days, 60.0, 60.0 + days, 70.0])
        gone = np.where(number == 2, 1, 0)
        end = np.where(gone, np.append(happened, 0)[first + number - 1], 300.0 + np.arange(n))
        now, to = np.zeros(n, np.int64), np.array([1, 2, 1, 2, 1])
        parts = np.arange(n), now, now, first, first + number, np.zeros(n), happened, to
        target = StatesTarget(("dead",), gone, end, STATES, MOVES, *parts)
        marginal = target.marginal(now, times)
        return target.disclosed(marginal, np.arange(n), times, 10)

    one, other = written(20.0), written(110.0)
    assert np.allclose(one, other, atol=0.01)
    assert (one[0, 2] > 0).all() and np.allclose(one[:, :3].sum(1), 1)


def test_the_estimate_of_few_patients_in_a_state_is_that_of_all(landmarks):
    """Twelve patients at three landmarks each are 36 landmarks, but not the twenty patients it takes."""
    X = landmarks.followed("course")
    ill = StatesTarget.of(X, "course").now == 1
    often = [p for p in np.unique(X.patient[ill]) if (X.patient[ill] == p).sum() == 3][:12]
    X = X[~ill | np.isin(X.patient, often)]
    target = StatesTarget.of(X, "course")
    assert (target.now == 1).sum() >= 30 and len(np.unique(X.patient[target.now == 1])) < 20
    _, stays = target.stays(landmark_weights(X.moments))
    wanted = transition_probabilities(stays, MOVES, 3, 1, np.array(TIMES))
    np.testing.assert_array_equal(target.marginal(X.moments, TIMES)[1], np.concatenate(wanted))


def few_courses(landmarks):
    """Of 220 patients so few die well that no interval but the whole has ten of them."""
    X = landmarks[landmarks.patient < 220].followed("course")
    head = PrognosisModel(outcomes=["course"], horizon=730)._heads(
        X, {"course": StatesTarget.of(X, "course")}
    )
    return X, head["course"]


def pools(count, exposure, width):
    """From which interval to which counts and exposure of a transition are the same every day."""
    daily = np.concatenate([count / width, exposure])
    cuts = np.flatnonzero(~np.isclose(daily[:, 1:], daily[:, :-1], rtol=1e-4, atol=1e-7).all(0)) + 1
    return list(pairwise([0, *cuts.tolist(), len(width)]))


def test_what_is_learned_of_a_transition_is_of_ten_patients_in_each_interval(landmarks):
    X, head = few_courses(landmarks)
    target, width = StatesTarget.of(X, "course"), np.diff((0.0, *head.times))
    owner, time, move = target.changes()
    exact, exact_exposure = target.counted(head.times)
    count, exposure = target.posed(head, X, "course", 10).columns
    assert len(head.times) >= 5
    for q in range(len(MOVES)):
        assert count[:, q].sum() == pytest.approx(exact[:, q].sum())
        for first, last in pools(count[:, q], exposure[:, q], width):
            low, high = (0.0, *head.times)[first], head.times[last - 1]
            mine = (move == q) & (time > low) & (time <= high)
            assert len(np.unique(X.patient[owner[mine]])) >= 10 or not mine.any(), (q, low, high)
            # the likelihood of a hazard that is constant there is the same
            part = slice(first, last)
            for coarse, fine in ((exposure * width, exact_exposure * width), (count, exact)):
                np.testing.assert_allclose(coarse[:, q, part].sum(1), fine[:, q, part].sum(1), rtol=1e-5)
    for same, fine in zip(target.posed(head, X, "course").columns, (exact, exact_exposure), strict=True):
        np.testing.assert_array_equal(same, fine)


def test_a_fitted_hazard_of_a_rare_transition_is_constant(landmarks, given_ridge):
    X, head = few_courses(landmarks)
    q, width = MOVES.index((0, 2)), np.diff((0.0, *head.times))
    count, exposure = StatesTarget.of(X, "course").posed(head, X, "course", 10).columns
    assert [len(pools(count[:, k], exposure[:, k], width)) > 1 for k in (0, q)] == [True, False]
    model = PrognosisModel(outcomes=["course"], members=1, horizon=730, families=("linear",)).fit(X)
    bias = model.predictor_.families["linear"].scores["course"].bias[0].exp().numpy()
    rate = bias[[0, q]] / width
    common, rare = np.abs(rate / rate.mean(1, keepdims=True) - 1).max(1)
    assert rare <= 0.05 and common >= 0.2  # a fit ends within 3 %; without pools the rare one is off by 150 %


def test_an_update_is_of_the_causes_alone(others):
    """Being in a state is no risk of a cause: the twin has none, and the risks are scaled without it."""
    from gnnpatient.study.scoreboard import STATE, ModelRisks
    from gnnpatient.study.updating import with_update

    X = others[0].at(YEAR, patient=others[0].ids[:300]).followed("course")
    times, rng = np.array([180.0, 365.0]), np.random.default_rng(0)
    risks = {name: np.sort(rng.uniform(0.05, 0.4, (len(X), 2))) for name in ("dead",)}
    more = {STATE.format("well"): np.full((len(X), 2), 0.9)}
    fold = np.zeros(len(X), int)
    plain, _ = with_update(ModelRisks(X, fold, {"gnn": risks}, times), "course", "intercept")
    found, _ = with_update(ModelRisks(X, fold, {"gnn": risks | more}, times), "course", "intercept")
    assert list(found.risks["gnn+intercept"]) == list(risks)
    for name in risks:
        assert np.array_equal(found.risks["gnn+intercept"][name], plain.risks["gnn+intercept"][name])
