"""Figures that are known beforehand: of perfect, worthless and foldwise constant forecasts."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from gnnpatient import InputError, metrics
from gnnpatient.metrics import pairs
from gnnpatient.study.baselines import MarginalModel
from gnnpatient.study.evaluate import MIN_EVENTS, Evaluation, evaluate
from gnnpatient.study.scoreboard import ModelRisks
from gnnpatient.study.subgroups import groups_of
from gnnpatient.times import DAY, YEAR

HORIZONS = [1 * YEAR, 3 * YEAR]
PUBLIC = {
    "auc": metrics.auc,
    "auc1": partial(metrics.auc, definition=1),
    "c": metrics.concordance,
    "brier": metrics.brier,
    "oe": metrics.observed_expected,
    "slope": metrics.calibration_slope,
    "ici": metrics.ici,
}


def truth(X, k, times):
    """1 once the k-th cause has come: what an oracle would say."""
    known = X.cohort.outcomes["death"]
    after = (known.time[X.patient] - X.at)[:, None] / DAY
    return ((known.event[X.patient] == k)[:, None] & (after <= times)).astype(float)


@pytest.fixture(scope="module")
def asks(pbc):
    return pbc.landmarks(times=[YEAR, 3 * YEAR]).followed()


@pytest.fixture(scope="module")
def scored(asks, says, null, times):
    """Three folds by patient: an oracle, noise, a constant in each fold, and the null."""
    noise = np.random.default_rng(0).uniform(0.05, 0.4, 312)
    parts = []
    for fold in range(3):
        X = asks[asks.patient % 3 == fold]
        models = {
            "gnn": says(lambda X, k: truth(X, k, times)),
            "cox": says(lambda X, k: noise[X.patient][:, None] / k),
            "fold": says(lambda X, k, fold=fold: np.array([[0.1 + 0.3 * fold]]) / 2),
            "null": null,
        }
        parts.append((models, X))
    return ModelRisks.of(parts, "death", times)


@pytest.fixture(scope="module")
def result(scored):
    return evaluate(scored, outcome="death", horizons=HORIZONS, n=20)


def test_one_row_a_figure(result):
    assert len(
        {(r["model"], r["landmark"], r["horizon"], r["cause"], r["metric"]) for r in result.rows}
    ) == len(result.rows)
    assert {r["metric"] for r in result.rows} == {*PUBLIC, "ibs", "scaled_ibs", "tau"}
    assert {r["model"] for r in result.rows} == {"gnn", "cox", "fold", "null", "gnn-cox"}
    assert {r["landmark"] for r in result.rows} == {YEAR, 3 * YEAR, None}
    assert {r["horizon"] for r in result.rows} == {*HORIZONS, None}
    assert {r["group"] for r in result.rows} == {None}
    for row in result.rows:
        if row["low"] is not None:
            assert row["low"] <= row["high"]
    assert result.to_dict()["rows"] is result.rows and result.held_out == 0
    assert result.to_frame().rows(named=True) == result.rows
    one = {"landmark": YEAR, "horizon": 3 * YEAR, "cause": "death"}
    assert result.value("cox", "auc", **one | {"landmark": "1y", "horizon": "3y"}) is result.value(
        "cox", "auc", **one
    )


def test_models_stand_together_in_a_notebook(result):
    lines = [line[:3] for line in result._summary().tables[0].rows]
    first = [model for cause, horizon, model in lines if (cause, horizon) == lines[0][:2]]
    assert first == ["gnn", "cox", "fold", "null", "gnn-cox"] and first == [line[2] for line in lines[:5]]


def test_an_oracle_is_perfect(result):
    for cause in ("transplant", "death"):
        for landmark in (YEAR, 3 * YEAR, None):
            for metric, best in (("auc", 1), ("auc1", 1), ("c", None), ("brier", 0)):
                row = result.value("gnn", metric, landmark=landmark, horizon=3 * YEAR, cause=cause)
                if best is not None:
                    assert row["value"] == pytest.approx(best) and row["low"] == row["high"] == pytest.approx(
                        best
                    )
                elif row["value"] is not None:
                    assert row["value"] > 0.9
            assert result.value("gnn", "ibs", landmark=landmark, cause=cause)["value"] == 0
            assert result.value("gnn", "scaled_ibs", landmark=landmark, cause=cause)["value"] == 1


def test_the_null_has_a_scaled_score_of_nothing(result):
    for cause in ("transplant", "death"):
        row = result.value("null", "scaled_ibs", landmark=YEAR, cause=cause)
        assert row["value"] == 0 and row["low"] == 0 and row["high"] == 0
        assert result.value("null", "auc", landmark=YEAR, horizon=3 * YEAR, cause=cause)["value"] == 0.5


def test_pairs_are_within_folds(result, scored):
    """A forecast that is constant within each fold discriminates nobody, though the folds differ."""
    for metric in ("auc", "auc1", "c"):
        row = result.value("fold", metric, landmark=YEAR, horizon=3 * YEAR, cause="death")
        assert row["value"] == row["low"] == row["high"] == 0.5
    pooled = replace(scored, fold=np.zeros_like(scored.fold))
    row = evaluate(pooled, outcome="death", horizons=HORIZONS, n=2).value(
        "fold", "auc", landmark=YEAR, horizon=3 * YEAR, cause="death"
    )
    assert row["value"] != 0.5


def test_values_are_those_of_metrics(result, scored):
    rows = np.flatnonzero(scored.landmarks.days == YEAR)
    X = scored.landmarks[rows]
    y = X.outcome("death")
    event, when, column = y["event"].astype(int), y["time"], 5  # three years
    risk = scored.risks["cox"]["death"][rows]
    for name, metric in PUBLIC.items():
        how = {"fold": scored.fold[rows]} if name in ("auc", "auc1", "c") else {}
        own = metric(risk[:, column], when, event, 3 * YEAR, cause=2, **how)
        row = result.value("cox", name, landmark=YEAR, horizon=3 * YEAR, cause="death")
        assert row["value"] == pytest.approx(own, rel=1e-9)
    own, tau = metrics.integrated_brier(risk, scored.times, when, event, cause=2)
    assert result.value("cox", "ibs", landmark=YEAR, cause="death")["value"] == pytest.approx(own)
    assert result.value("cox", "tau", landmark=YEAR, cause="death")["value"] == tau
    each = [
        result.value("cox", "auc", landmark=at, horizon=YEAR, cause="death")["value"]
        for at in (YEAR, 3 * YEAR)
    ]
    mean = result.value("cox", "auc", landmark=None, horizon=YEAR, cause="death")["value"]
    assert mean == pytest.approx(np.mean(each))


def test_intervals_are_those_of_a_bootstrap_of_patients(result, scored):
    rows = np.flatnonzero(scored.landmarks.days == YEAR)
    y = scored.landmarks.outcome("death")
    event, when = y["event"].astype(int), y["time"]
    risk, fold = scored.risks["cox"]["death"][:, 5], scored.fold

    def auc(weight):
        used = rows[weight[rows] > 0]
        own = {"cause": 2, "fold": fold[used], "weight": weight[used]}
        return metrics.auc(risk[used], when[used], event[used], 3 * YEAR, **own)

    draws = metrics.bootstrap(auc, scored.landmarks.patient, n=20, seed=0)
    low, high = metrics.interval(draws)
    row = result.value("cox", "auc", landmark=YEAR, horizon=3 * YEAR, cause="death")
    assert (row["low"], row["high"]) == pytest.approx((low, high))


def test_the_bootstrap_keeps_patients_together_and_its_seed(scored, result, monkeypatch):
    drawn = []
    real = metrics.bootstrap

    def bootstrap(statistic, patient, **how):
        def noted(weight):
            drawn.append((patient, weight))
            return statistic(weight)

        return real(noted, patient, **how)

    monkeypatch.setattr(metrics, "bootstrap", bootstrap)
    again = evaluate(scored, outcome="death", horizons=HORIZONS, n=20)
    assert again.rows == result.rows
    assert len(drawn) == 20
    for patient, weight in drawn:
        for one in np.unique(patient):
            assert len(set(weight[patient == one].tolist())) == 1
    other = evaluate(scored, outcome="death", horizons=HORIZONS, n=20, seed=1)
    assert [r["value"] for r in other.rows] == [r["value"] for r in result.rows]
    assert [r["low"] for r in other.rows] != [r["low"] for r in result.rows]


def test_a_paired_difference_is_the_difference(result):
    pairs = [row for row in result.rows if row["model"] == "gnn-cox"]
    assert {row["metric"] for row in pairs} == {"auc", "c", "brier", "ibs", "scaled_ibs"}
    for row in pairs:
        where = {key: row[key] for key in ("landmark", "horizon", "cause")}
        ours, theirs = (result.value(m, row["metric"], **where)["value"] for m in ("gnn", "cox"))
        if ours is None or theirs is None:
            assert row["value"] is None
        else:
            assert row["value"] == pytest.approx(ours - theirs)


def test_groups_are_a_partition(pbc, scored):
    number = pbc.number.copy()
    number[:40, 0] = np.nan
    category = pbc.category.copy()
    category[40:80, 0] = -1
    some = replace(
        pbc, number=number, category=category, group=np.where(np.arange(312) < 150, "here", "there")
    )
    asks = replace(scored.landmarks, cohort=some)
    for by, names in (
        ("age", 3),
        ("sex", 3),
        ("trt", len(pbc.levels["trt"])),
        ("group", 2),
    ):
        result = evaluate(replace(scored, landmarks=asks), outcome="death", horizons=[YEAR], by=[by], n=2)
        groups = {row["group"] for row in result.rows} - {None}
        assert len(groups) == names and all(group.startswith(by) for group in groups)
    parts = groups_of(asks, ["age"])["age"]
    assert np.sum(list(parts.values()), 0).tolist() == [1] * len(asks)
    with pytest.raises(InputError, match="'sexe'; did you mean 'sex'"):
        evaluate(scored, outcome="death", horizons=[YEAR], by=["sexe"])
    with pytest.raises(InputError, match=r"no \[patient\] group"):
        evaluate(scored, outcome="death", horizons=[YEAR], by=["group"])


def test_a_group_without_anybody_has_no_rows(scored):
    women = scored.landmarks.cohort.category[scored.landmarks.patient, 0] == 0
    part = ModelRisks(
        scored.landmarks[women],
        scored.fold[women],
        {m: {c: r[women] for c, r in risks.items()} for m, risks in scored.risks.items()},
        scored.times,
    )
    result = evaluate(part, outcome="death", horizons=[YEAR], by=["sex"], n=2)
    assert len({row["group"] for row in result.rows}) == 2


def test_what_is_not_estimable_has_no_number(pbc, says, times, null):
    few = pbc.landmarks(np.arange(60), times=[YEAR]).followed()
    scored = ModelRisks.of(
        [({"null": null, "gnn": says(lambda X, k: np.full((1, 1), 0.1))}, few)], "death", times
    )
    result = evaluate(scored, outcome="death", horizons=[5 * YEAR], n=5)
    late = [row for row in result.rows if row["horizon"] == 5 * YEAR]
    assert late
    reason = metrics.not_estimable(
        few.outcome("death")["time"], few.outcome("death")["event"].astype(int), 5 * YEAR
    )
    assert reason is None or all(row["value"] is row["low"] is row["high"] is None for row in late)
    tiny = ModelRisks.of([({"null": null}, few[:15])], "death", times)
    for row in evaluate(tiny, outcome="death", horizons=[YEAR], n=5).rows:
        assert row["metric"] == "tau" or row["value"] is row["low"] is row["high"] is None


def test_too_small_to_judge(result, scored, pbc):
    who = np.unique(scored.landmarks.patient)
    count = {
        c: int((pbc.outcomes["death"].event[who] == k).sum()) for k, c in ((1, "transplant"), (2, "death"))
    }
    assert result.events == count and result.patients == len(who)
    assert result.too_small == f"too small to judge: {count['transplant']} scored patients with transplant"
    enough = replace(result, events={"death": MIN_EVENTS})
    assert enough.too_small is None and enough.to_dict()["too_small"] is None


def test_refusals(pbc, scored, null, times, result):
    with pytest.raises(InputError, match="nobody left to score"):
        evaluate(
            ModelRisks.of([({"null": null}, pbc.at(20000).followed())], "death", times),
            outcome="death",
            horizons=[YEAR],
        )
    with pytest.raises(InputError, match="horizon 100 days is not among the times"):
        evaluate(scored, outcome="death", horizons=[100.0])
    with pytest.raises(InputError, match="different cohorts"):
        ModelRisks.of([({"null": null}, c.at(YEAR).followed()) for c in (pbc, replace(pbc))], "death", times)
    with pytest.raises(InputError, match="rows of gnn auc"):
        result.value("gnn", "auc")
    with pytest.raises(InputError, match="no figure has metric 'AUC' here; there are auc, auc1, c, "):
        result.value("gnn", "AUC")
    with pytest.raises(InputError, match=r"no figure has landmark 7 here; there are 365.25, 1095.75, None"):
        result.value("gnn", "auc", landmark=7)
    with pytest.raises(InputError, match="unknown 'horizons'; did you mean 'horizon'"):
        result.value("gnn", "auc", horizons=YEAR)
    with pytest.raises(InputError, match="not at risk"):
        evaluate(
            replace(scored, landmarks=replace(scored.landmarks, at=scored.landmarks.at * 9)),
            outcome="death",
            horizons=[YEAR],
        )


def test_a_cause_that_the_null_does_not_expect(pbc, scored, times):
    """Its forecast of nothing leaves nothing to scale by."""
    death = pbc.outcomes["death"]
    event = np.where(death.event == 1, 0, death.event)
    some = replace(pbc, outcomes={"death": replace(death, event=event)})
    table = np.stack([np.linspace(0.95, 0.6, 10), np.zeros(10), np.linspace(0.05, 0.4, 10)])
    X = some.landmarks(times=[YEAR]).followed()
    rare = ModelRisks.of([({"null": MarginalModel("death", death.causes, times, table)}, X)], "death", times)
    result = evaluate(rare, outcome="death", horizons=[YEAR], n=2)
    assert result.value("null", "scaled_ibs", cause="transplant")["value"] is None
    assert result.value("null", "ibs", cause="transplant")["value"] == 0
    assert result.value("null", "scaled_ibs", cause="death")["value"] == 0


def test_tables_of_pairs_and_sorting_agree(scored, monkeypatch):
    y = scored.landmarks.outcome("death")
    event, when, risk = y["event"].astype(int), y["time"], scored.risks["cox"]["death"][:, 5].round(2)
    how = {"cause": 2, "fold": scored.fold, "weight": np.arange(len(risk)) % 3}
    table = metrics.concordance(risk, when, event, 3 * YEAR, **how)
    monkeypatch.setattr(pairs, "MAX_TABLED_PAIRS", -1)
    assert metrics.concordance(risk, when, event, 3 * YEAR, **how) == pytest.approx(table, rel=1e-12)
    monkeypatch.setattr(pairs, "MAX_TABLED_PAIRS", 10**9)
    assert metrics.concordance(risk, when, event, 3 * YEAR, **how) == pytest.approx(table, rel=1e-12)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ((0.0, 0.0, 0.0), "the graph has no part in the answer"),
        (
            (0.0, -0.1, 0.1),
            "the graph is not shown to add anything here: scaled IBS with - without it, death",
        ),
        ((0.2, 0.1, 0.3), "the graph adds to death"),
    ],
)
def test_what_is_said_of_the_graph(figures, said):
    about = {"model": "gnn-nograph", "metric": "scaled_ibs", "group": None, "censoring": "km"}
    row = {**about, "cause": "death", **dict(zip(("value", "low", "high"), figures, strict=True))}
    assert Evaluation.graph_sentence.fget(SimpleNamespace(rows=[row], graph_p={})).startswith(said)


def test_of_several_causes_the_graph_must_pass_by_holm():
    about = {"model": "gnn-nograph", "metric": "scaled_ibs", "group": None, "censoring": "km"}
    each = {
        "death": (0.2, 0.01, 0.4, 0.04),
        "relapse": (0.2, 0.01, 0.4, 0.03),
        "cure": (None, None, None, None),
    }
    rows = [
        {**about, "cause": cause, **dict(zip(("value", "low", "high"), figures[:3], strict=True))}
        for cause, figures in each.items()
    ]
    given = SimpleNamespace(rows=rows, graph_p={cause: p for cause, (*_, p) in each.items() if p})
    said = Evaluation.graph_sentence.fget(given)
    assert said.startswith("the graph is not shown to add anything here: ")
    assert "death +0.2000 (+0.0100 to +0.4000), Holm p 0.09; " in said and said.endswith("cure not estimable")
    given.graph_p["relapse"] = 0.001
    assert Evaluation.graph_sentence.fget(given).startswith("the graph adds to relapse:")


def test_what_the_graph_adds_has_a_p_value_for_each_cause(scored):
    risks = {"gnn": scored.risks["gnn"], "nograph": scored.risks["cox"], "null": scored.risks["null"]}
    how = {"outcome": "death", "horizons": [YEAR], "n": 20, "against": [("gnn", "nograph")]}
    found = evaluate(replace(scored, risks=risks), **how)
    assert found.graph_p.keys() == {"transplant", "death"} and all(
        0 <= p < 0.01 for p in found.graph_p.values()
    )
    assert found.graph_sentence.startswith("the graph adds to transplant, death: ")
    assert len({frozenset(row) for row in found.rows}) == 1
