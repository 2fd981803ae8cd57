"""What each comparator may see, what the figures are, what may be said of cohorts whose truth is known."""

import json
import subprocess
import sys
from dataclasses import replace
from html import escape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from gnnpatient.errors import InputError
from gnnpatient.study.comparison import Comparison

TOML = """
cohort = "made"
[patient]
table = "patients.csv"
key = "pid"
number = ["age"]
[nodes.lab]
table = "labs.csv"
time = "day"
code = "code"
value = "value"
[nodes.vital]
table = "vitals.csv"
time = "day"
columns = { pulse = "1/min" }
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { death = { time = "end", flag = "died" } }
"""
MOST = ("without lab", "without vital", "without drug", "gru", "presence", "statics", "late")
QUICK = {"folds": 2, "inner": 2, "members": 1, "channels": 8}
FEW = {"num_times": 4, "batch_size": 1024, "families": ("linear", "graph")}
LINEAR = {"num_times": 4, "families": ("linear",)}  # what is told by values needs no more


def made(folder, lab=0.0, vital=0.0, unseen=0.0, shuffled=False, n=300, seed=0):
    """Patients with one row of each kind on day 0, whose log hazard is lab * its value + vital * its value.

    unseen: the log hazard ratio of lacking the vital, as half of the patients do then.
    """
    from gnnpatient import read_cohort

    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n))
    lacks = rng.random(n) < (0.5 if unseen else 0.0)
    death, end = rng.exponential(8 * np.exp(-lab * x - vital * y - unseen * lacks)), rng.uniform(6, 30, n)
    label = np.stack([np.minimum(death, end) + 0.01, death <= end], 1)
    label = rng.permutation(label) if shuffled else label
    pid = np.array([f"p{i:03d}" for i in range(n)])
    patients = {"pid": pid, "age": rng.normal(60, 9, n), "end": label[:, 0], "died": label[:, 1].astype(int)}
    pl.DataFrame(patients).write_csv(folder / "patients.csv")
    seen = x + rng.normal(0, 0.2, n)
    pl.DataFrame({"pid": pid, "day": 0.0, "code": "crp", "value": seen}).write_csv(folder / "labs.csv")
    vitals = {"pid": pid[~lacks], "day": 0.0, "pulse": (y + rng.normal(0, 0.2, n))[~lacks]}
    pl.DataFrame(vitals).write_csv(folder / "vitals.csv")
    (folder / "made.toml").write_text(TOML)
    return read_cohort(folder / "made.toml", folder)


def quickly(compare, *what, **how):
    """A comparison whose fits are at few landmarks, by a ridge that is given: in a twentieth of the time."""
    from gnnpatient.prognosis.linear import Choice

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gnnpatient.prognosis.run.RANDOM_LANDMARKS", 3)
        choose = lambda learning: [Choice(1.6, ())] * len(learning.problem.folds)  # noqa: E731
        patch.setattr("gnnpatient.prognosis.linear._Learning.choose", choose)
        return compare(*what, **how)


def judged(cohort, models=(), **how):
    """All kinds against the singles, asked on day 0.1."""
    from gnnpatient.study.compare import compare

    plan = {**QUICK, "epochs": 1, "landmarks": [0.1], "horizons": [4.0, 8.0], "n": 40, "choices": LINEAR}
    return quickly(compare, cohort, "death", models=models, **{**plan, **how})


@pytest.fixture(scope="module")
def tiny():
    from gnnpatient.testing import tiny_cohort

    return tiny_cohort(240)


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def whole(tiny, told):
    """Most comparators on the tiny ward: three kinds, two causes, groups; two landmarks."""
    from gnnpatient.study.compare import compare

    how = {**QUICK, "epochs": 1, "landmarks": [2.0, 4.0], "horizons": [3.0, 6.0], "n": 25, "choices": FEW}
    return quickly(compare, tiny, "death", models=MOST, progress=lambda *step, **_: told.append(step), **how)


def asked(cohort, days=(1.0, 4.0, 9.0)):
    return cohort.landmarks(times=days)


# ---- what is seen


def test_clockwork_is_everything_but_what_the_rows_say(tiny):
    from gnnpatient import build_graphs
    from gnnpatient.study.ablations import timing_only

    silent = build_graphs(asked(timing_only(tiny)))
    full = build_graphs(asked(tiny))
    for kind in full.nodes:
        for part in ("ptr", "code", "age", "timepoint", "open"):
            assert (getattr(silent[kind], part) == getattr(full[kind], part)).all()
        assert silent[kind].value.isnan().all()
    assert all((silent.edges[edge] == full.edges[edge]).all() for edge in full.edges)
    lab = tiny.events["lab"]
    other = replace(tiny, events={**tiny.events, "lab": replace(lab, value=lab.value * 2 + 1)})
    assert (
        timing_only(other).events["lab"].value.view(int) == timing_only(tiny).events["lab"].value.view(int)
    ).all()
    assert np.isfinite(lab.value).any()  # and the cohort itself is as it was


def test_values_are_the_latest_rows_without_time_and_number(tiny):
    """Beside a slow answer: of each code the rows of its latest moment, as known at the ask."""
    from gnnpatient import build_graphs
    from gnnpatient.study.ablations import last_values_only

    X = asked(tiny)
    view = last_values_only(tiny)
    graphs, seen = build_graphs(asked(view)), 0
    for kind in tiny.spec.nodes:
        e, got = tiny.events[kind], graphs[kind]
        for i, (patient, at) in enumerate(zip(X.patient, X.at, strict=True)):
            rows = [r for r in range(e.ptr[patient], e.ptr[patient + 1]) if e.known[r] <= at]
            last = {code: max(e.known[r] for r in rows if e.code[r] == code) for code in e.code[rows]}
            expected = sorted(
                (int(e.code[r]), float(e.value[r])) for r in rows if e.known[r] == last[e.code[r]]
            )
            mine = slice(int(got.ptr[i]), int(got.ptr[i + 1]))
            found = sorted(zip(got.code[mine].tolist(), got.value[mine].tolist(), strict=True))
            assert str(found) == str(expected)  # nan is nan
            seen += len(rows) - len(expected)
            assert len(set(got.age[mine].tolist())) <= 1
        for rule in ("next", "same"):
            assert graphs.edges.get((kind, rule, kind), np.zeros((2, 0))).shape[1] == 0
    assert seen > 100
    ages = [graphs[kind].age[graphs[kind].owner < len(tiny)].unique() for kind in graphs.nodes]
    assert len(set(np.concatenate(ages).tolist())) == 1  # of all asks on one day
    assert (np.diff(graphs["timepoint"].ptr) <= 1).all()


def test_amended_rows_stay_replaced(tiny):
    from gnnpatient.study.ablations import last_values_only
    from gnnpatient.times import FOREVER

    lab = tiny.events["lab"]
    gone = replace(lab, replaced=np.where(np.arange(len(lab)) % 2, FOREVER, lab.known))
    view = last_values_only(replace(tiny, events={**tiny.events, "lab": gone})).events["lab"]
    assert (view.replaced <= gone.replaced).all()
    plain = last_values_only(tiny).events["lab"].replaced
    assert (view.replaced == np.minimum(plain, gone.replaced)).all() and (plain > lab.known).all()


def test_presence_is_one_node_a_kind(tiny):
    from gnnpatient import build_graphs
    from gnnpatient.study.ablations import missingness_only

    graphs, X = build_graphs(asked(missingness_only(tiny))), asked(tiny)
    for kind in tiny.spec.nodes:
        count = np.diff(tiny.events[kind].visible_rows(X.patient, X.at)[0])
        assert (np.diff(graphs[kind].ptr) == (count > 0)).all() and (count > 1).any() and (count == 0).any()
        assert (graphs[kind].code == 1).all() and graphs.codes[kind] == ("other", "seen")
        assert graphs[kind].value.isnan().all()
        today = graphs[kind].age[graphs[kind].owner < len(tiny)]
        assert len(today.unique()) == 1


def test_what_is_taken_is_gone_in_those_patients_alone(tiny):
    from gnnpatient import build_graphs
    from gnnpatient.study.ablations import without_rows

    who = np.arange(len(tiny)) % 3 == 0
    some, none = (
        without_rows(tiny, ["lab"], who),
        without_rows(tiny, ["lab", "drug"], np.ones(len(tiny), bool)),
    )
    lost, full = build_graphs(asked(some)), build_graphs(asked(tiny))
    kept = ~who[asked(tiny).patient[full["lab"].owner]]
    assert 0 < kept.sum() < len(kept) and (lost["lab"].owner == full["lab"].owner[kept]).all()
    assert (lost["lab"].age == full["lab"].age[kept]).all()
    for kind in ("vital", "drug"):
        assert (lost[kind].age == full[kind].age).all()
    only = tiny.only(["vital"])
    for kind, e in none.events.items():
        for name, column in e.columns().items():
            assert column.tobytes() == only.events[kind].columns()[name].tobytes(), (kind, name)


def test_contents_of_texts(tmp_path):
    """Vectors go with the clockwork's rows, and stay with the latest one."""
    from gnnpatient import build_graphs, read_cohort
    from gnnpatient.study.ablations import (
        comparators,
        last_values_only,
        missingness_only,
        modalities_of,
        timing_only,
    )

    made(tmp_path, n=30)
    notes = [(f"p{i:03d}", day, f"grade {i % 4} then {day}") for i in range(30) for day in (0.0, 0.5)]
    pl.DataFrame(notes, schema=["pid", "day", "text"], orient="row").write_csv(tmp_path / "notes.csv")
    note = '[nodes.note]\ntable = "notes.csv"\ntime = "day"\ntext = "text"\nembed = "hashed"\n'
    toml = TOML.replace("[outcomes", note + "[outcomes")
    (tmp_path / "made.toml").write_text(toml)
    cohort = read_cohort(tmp_path / "made.toml", tmp_path)
    late = build_graphs(last_values_only(cohort).at(1.0))["note"]
    assert len(late) == 30 and (late.vector == build_graphs(cohort.at(1.0))["note"].vector[1::2]).all()
    assert late.vector.any() and not build_graphs(timing_only(cohort).at(1.0))["note"].vector.numel()
    assert not build_graphs(missingness_only(cohort).at(1.0))["note"].vector.numel()
    every = comparators(cohort, modalities_of(cohort))
    assert [name for name in every if name.startswith("values")] == ["values", "values note"]
    assert every["values note"].kinds == ("note",) and every["gnn"].kinds == ("lab", "vital", "note")
    assert every["without lab"].kinds == ("vital", "note") and every["statics"].kinds == ()


def test_kinds_made_from_another_one_go_with_it(tmp_path):
    from gnnpatient import read_cohort
    from gnnpatient.study.ablations import comparators, modalities_of

    made(tmp_path, n=30)
    more = '[hierarchies.chem]\ntable = "chem.csv"\n[nodes.group]\nof = "lab"\nhierarchy = "chem"\n[outcomes'
    toml = TOML.replace("[outcomes", more)
    (tmp_path / "made.toml").write_text(toml)
    pl.DataFrame({"child": ["crp"], "parent": ["protein"]}).write_csv(tmp_path / "chem.csv")
    cohort = read_cohort(tmp_path / "made.toml", tmp_path)
    assert modalities_of(cohort) == {"lab": ("lab", "group"), "vital": ("vital",)}
    every = comparators(cohort, modalities_of(cohort))
    assert every["only vital"].kinds == ("vital",) and "without lab" not in every
    for one in every.values():  # each can be asked
        from gnnpatient import build_graphs

        graphs = build_graphs(one.landmarks(cohort.at(0.5)))
        assert {kind for kind in cohort.spec.nodes if len(graphs[kind])} == set(one.kinds)


def test_a_recurrent_network_sees_the_same_rows_and_no_relation(tiny):
    from gnnpatient.study.ablations import comparators, modalities_of

    every = comparators(tiny, modalities_of(tiny))
    assert every["gru"].cohort is every["gnn"].cohort and not every["gnn"].choices
    assert every["gru"].choices == {"families": ("graph",), "conv": "gru"}


# ---- the figures


def test_figures_and_intervals_are_those_of_evaluate(whole):
    from gnnpatient.study.evaluate import evaluate

    known = evaluate(
        whole.risks, outcome="death", horizons=whole.horizons, against=("gnn", "best single"), n=25, seed=0
    )
    compared = 0
    for row in whole.rows:
        mean = row["metric"] in ("c", "auc") and row["horizon"] is None
        others = row["model"] not in (*whole.parameters, "null", "graph", "linear", "gnn-best single")
        if others or mean:
            continue
        where = {key: row[key] for key in ("landmark", "horizon", "cause")}
        other = known.value(row["model"], row["metric"], **where)
        for key in ("value", "low", "high"):
            assert (row[key] is None) == (other[key] is None)
            if row[key] is not None:
                assert row[key] == pytest.approx(other[key], abs=1e-9)
                compared += 1
    assert compared > 500 and whole.cause == "death"


def test_a_comparison_is_shown_with_its_answer(whole):
    assert repr(whole).startswith(
        f"Comparison for death: {whole.patients} scored patients, {whole.events} with"
    )
    assert whole.sentence in repr(whole) and whole.too_small in repr(whole)
    assert all(escape(sentence) in whole._repr_html_() for sentence in whole.sentences)


def test_means_over_horizons_are_means(whole):
    for model in ("gnn", "graph", "gnn-best single"):
        for metric in ("c", "auc"):
            each = [whole.value(model, metric, horizon=h)["value"] for h in whole.horizons]
            assert whole.value(model, metric)["value"] == pytest.approx(np.mean(each))


def test_what_is_not_estimable_is_left_out_of_the_means(whole):
    from gnnpatient.study.comparison import ComparedScores, _mean

    x = np.array([[1.0, np.nan], [3.0, 5.0]])
    assert _mean(x, np.array([True, False]), -1).tolist() == [1, 3]
    assert np.isnan(_mean(x, np.array([True, True]), -1)).tolist() == [True, False]
    board = ComparedScores.of(whole.risks, "death", "death", (1.0, 2.0))
    raw = np.arange(24.0).reshape(2, 2, 6)  # model, landmark, c c auc auc ibs scaled
    shown = np.ones((2, 6), bool)
    shown[1, [1, 3]] = False  # the second horizon at the second landmark
    board.__dict__["_estimable"] = shown
    table = board._with_means(np.where(shown, raw, np.nan)[None], shown)
    assert table.shape == (2, 3, len(board.columns))
    assert table[0, :, 0].tolist() == [0, 6, 3] and table[0, :, 1].tolist()[2] == 1
    assert table[0, :, 2].tolist() == [0.5, 6, 3.25] and table[1, 2, 7] == np.mean([17, 23])


def test_holm_is_the_step_down_rule():
    from gnnpatient.study.comparison import holm

    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.random(5) ** 3
        adjusted = np.array(holm(p.tolist()))
        for level in (0.01, 0.05, 0.3):
            rejected, left = set(), list(np.argsort(p))
            while left and p[left[0]] * len(left) < level:
                rejected.add(int(left.pop(0)))
            assert set(np.flatnonzero(adjusted < level).tolist()) == rejected
    assert holm([]) == []


@pytest.mark.parametrize(
    ("c", "ibs", "p", "verdict"),
    [
        ((0.1, 0.2), (0.1, 0.2), 0.01, "helps"),
        ((0.1, 0.2), (0.1, 0.2), 0.2, "no evidence"),  # Holm says so
        ((-0.1, 0.2), (0.1, 0.2), 0.01, "no evidence"),  # an interval contains 0
        ((0.1, 0.2), (0.0, 0.2), 0.01, "no evidence"),
        ((-0.2, -0.1), (0.1, 0.2), 0.01, "no evidence"),
        ((-0.2, -0.1), (-0.2, -0.1), 0.01, "hurts"),
        ((None, None), (0.1, 0.2), 0.01, "not estimable"),
    ],
)
def test_verdicts(c, ibs, p, verdict):
    from gnnpatient.study.comparison import _verdict

    found = {"c": dict(zip(("low", "high"), c, strict=True)), "holm": p}
    assert _verdict({**found, "scaled_ibs": dict(zip(("low", "high"), ibs, strict=True))}) == verdict


# ---- the comparison


def test_every_comparator_is_there_with_the_same_budget(whole, tiny, told):
    from gnnpatient.study.ablations import comparators, modalities_of

    every = [
        name for name in comparators(tiny, modalities_of(tiny)) if name in {*MOST, "gnn"} or "only" in name
    ]
    names = [*every, "late", "best single", "graph", "linear", "nograph", "null"]
    assert list(whole.risks.risks) == names and len(whole.parts) == 2
    assert set(whole.parameters) == {*every, "late"}
    for name in every:
        models = [fitted[name].model for fitted, _ in whole.parts]
        assert {(m.members, m.epochs, m.seed, m.horizon) for m in models} == {(1, 1, 0, 6.0)}
        assert {m.channels for m in models} == {whole.channels[name]}
    singles = [name for name in every if name.startswith("only ")]
    assert whole.parameters["late"] == sum(whole.parameters[name] for name in singles)
    gru = whole.parts[0][0]["gru"].model
    assert (gru.conv, gru.families) == ("gru", ("graph",))
    fits = [step for step in told if step[0] != "intervals"]
    assert [done for _, done, _ in fits] == list(range(1 + 2 * (len(every) + 3 * 2)))  # one before the first
    assert fits[-1][1] == fits[-1][2] and told[-1] == ("intervals", 25, 25)


def test_families_answer_alone_without_another_fit(whole):
    for fitted, X in whole.parts:
        predictor = fitted["gnn"].model.predictor_
        for name in ("graph", "linear"):
            own = predictor.forecast(X, families=(name,))["death"].incidence
            assert (fitted[name].forecast(X)["death"].incidence == own).all()
    risks = whole.risks.risks
    low, high = (f(risks["graph"]["death"], risks["linear"]["death"]) for f in (np.minimum, np.maximum))
    assert (risks["gnn"]["death"] > low - 0.2).all() and (risks["gnn"]["death"] < high + 0.2).all()


def test_how_far_each_family_moves_the_answer_is_said(whole):
    assert set(whole.movement) == {"linear", "graph"}
    each = [fitted["gnn"].model.predictor_.weights["death"] for fitted, _ in whole.parts]
    for name, moved in whole.movement.items():
        assert moved["weight"] == pytest.approx(np.mean([one[name] for one in each]))
        risk, fold = whole.risks.risks[name]["death"][:, -1], whole.risks.fold
        logit = np.log(risk / (1 - risk))
        assert moved["sd"] == pytest.approx(np.mean([logit[fold == i].std() for i in (0, 1)]), rel=1e-3)
    (line,) = [line for line in whole.sentences if line.startswith("standard deviation of the logit")]
    assert f"linear {whole.movement['linear']['sd']:.2f} (weight" in line


def test_no_width_is_nearer_to_the_parameters_of_the_first(whole):
    from gnnpatient.model.model import PatientGNN

    assert whole.channels["gnn"] == 8
    wanted = whole.parameters["gnn"]
    for name in ("gnn", "only lab", "without drug", "gru", "statics"):
        fitted, width = whole.parts[0][0][name].model.predictor_, whole.channels[name]
        (module,) = fitted.families["graph"].modules

        def count(channels, module=module, fitted=fitted):
            config = replace(module.config, channels=channels)
            return sum(p.numel() for p in PatientGNN(config, fitted.vocabulary, fitted.heads).parameters())

        assert sum(p.numel() for p in module.parameters()) == whole.parameters[name] == count(width)
        for other in (width - 4, width + 4) if name != "gnn" else ():
            if other >= 4:
                assert abs(count(other) - wanted) >= abs(whole.parameters[name] - wanted)


def test_nobody_is_trained_and_scored(whole, tiny):
    for fitted, X in whole.parts:
        for name in ("gnn", "only lab", "gru", "statics"):
            assert not fitted[name].model.train_ids_ & set(X.ids.tolist())
        trained = np.isin(tiny.ids, list(fitted["gnn"].model.train_ids_))
        assert not set(tiny.groups[trained]) & set(tiny.groups[X.patient])
    assert whole.patients == len(np.unique(whole.risks.landmarks.patient))


def test_late_is_the_mean_and_the_best_unimodal_is_one_of_them(whole):
    risks, fold = whole.risks.risks, whole.risks.fold
    singles = [risks[f"only {name}"]["death"] for name in whole.modalities]
    np.testing.assert_allclose(risks["late"]["death"], np.mean(singles, 0), atol=1e-6)
    for i, name in enumerate(whole.best_unimodal):
        mine = fold == i
        assert (risks["best single"]["death"][mine] == risks[f"only {name}"]["death"][mine]).all()


def test_a_comparison_as_json_says_all(whole):
    said = json.loads(json.dumps(whole.to_dict()))
    assert said["sentence"] == whole.sentence == said["sentences"][0]
    assert {row["model"] for row in said["rows"]} >= {
        "gnn",
        "late",
        "gnn-best single",
        "gnn-late",
        "gnn-nograph",
    }
    assert [found["kind"] for found in said["left_out"]] == ["lab", "vital", "drug"]
    assert said["too_small"].startswith("too small to judge: ") and said["sentences"][-1] == said["too_small"]
    assert said["movement"]["graph"]["weight"] == whole.movement["graph"]["weight"]
    assert all(0 <= found["p"] <= found["holm"] <= 1 for found in said["left_out"])
    spoken = {(f["first"], f["second"]) for f in said["others"]}
    assert spoken == {
        *(("gnn", other) for other in ("nograph", "linear", "late", "statics")),
        ("graph", "gru"),
        ("presence", "statics"),
    }
    assert "\n" not in "".join(whole.sentences)


def test_no_share_of_a_skill_that_is_not_there(whole):
    from gnnpatient.study.missingness import pattern_only

    for row, metric in zip(pattern_only(whole), ("c", "scaled_ibs"), strict=True):
        gain = whole.value("gnn-statics", metric)
        assert row["gain"]["value"] == pytest.approx(row["presence"] - row["statics"])
        if gain["low"] > 0:
            assert row["share"] == pytest.approx(row["gain"]["value"] / gain["value"])
        else:
            assert row["share"] is None


def test_words_for_the_best_kind(whole):
    one = replace(whole, best_unimodal=("lab", "lab"))
    assert one.best_in_words == "lab" and "adding vital and drug to lab" in one.sentence
    assert not whole.weakened and "cut" not in whole.to_dict() and "budget cut" not in one.sentence
    less = replace(one, cut=("cut for 10 min: 1 instead of 3 networks a model",))
    assert less.sentence == f"{one.sentence} (weakened by what a budget cut)"
    assert less.cut[0] in less.sentences and less.to_dict()["cut"] == list(less.cut)
    assert not replace(one, cut=("left out for 10 min: gru",)).weakened
    two = replace(whole, best_unimodal=("vital", "lab", "lab"))
    assert two.best_in_words == "the best unimodal model (lab in 2 of 3 folds, vital in 1 of 3 folds)"
    assert "adding the other node types to the best unimodal model" in two.sentence


def test_missing_curve_runs_from_all_rows_to_none(whole, tiny):
    from gnnpatient.study.missingness import missing_curve

    rows = missing_curve(whole, "lab", (0.0, 0.5, 1.0), n=10)
    assert len(rows) == 3 * 8 and {row["model"] for row in rows} == {"gnn"}
    for row in rows:
        if row["share"] == 0:
            known = whole.value("gnn", row["metric"], horizon=row["horizon"])["value"]
            assert row["value"] == pytest.approx(known, abs=1e-9)
    lacking = {row["share"]: row["lacking"] for row in rows}
    X = whole.risks.landmarks
    count = np.diff(tiny.events["lab"].visible_rows(X.patient, X.at)[0])
    assert lacking[0.0] == np.mean(count == 0) < lacking[0.5] < lacking[1.0] == 1
    none = [
        fitted["gnn"].model.forecast(tiny.only(["vital", "drug"]).landmarks(X.patient, [4.0]))
        for fitted, X in whole.parts[:1]
    ]
    assert np.isfinite(none[0]["death"].incidence[none[0]["death"].at_risk]).all()
    again = missing_curve(whole, "lab", (0.0, 0.5, 1.0), n=10)
    assert again == rows and missing_curve(whole, "lab", (0.5,), n=2, seed=1)[0]["value"] != rows[8]["value"]


def test_refusals(whole, tiny, tmp_path):
    from gnnpatient import InputError
    from gnnpatient.study.compare import compare
    from gnnpatient.study.folds import Fold
    from gnnpatient.study.missingness import missing_curve

    def refused(match, cohort=tiny, outcome="death", **how):
        with pytest.raises(InputError, match=match) as error:
            compare(cohort, outcome, **{**QUICK, "epochs": 1, **how})
        assert "\n" not in str(error.value)

    refused("'deth'; did you mean 'death'", outcome="deth")
    refused("unknown cause 'deaths'", cause="deaths")
    refused(r"1 node type\(s\) with rows", cohort=tiny.only(["lab"]))
    refused("'presense'; did you mean 'presence'", models=["presense"])
    refused("no landmark, or no horizon above 0", horizons=[0.0])
    refused("no landmark, or no horizon above 0", landmarks=[])
    refused("no fold to compare on", folds=[])
    everybody, group = np.arange(len(tiny)), tiny.groups
    large = np.flatnonzero(group == np.bincount(group).argmax())
    parted = Fold(0, 0, np.setdiff1d(everybody, large[:1]), large[:1], pl.String)
    refused("1 group", folds=[parted])
    refused("one side is empty", folds=[Fold(0, 0, everybody, everybody[:0], pl.String)])
    with pytest.raises(InputError, match="'labs'; did you mean 'lab'"):
        missing_curve(whole, "labs")
    with pytest.raises(InputError, match=r"share 1\.5; must be from 0 to 1"):
        missing_curve(whole, "lab", [1.5])
    with pytest.raises(InputError, match="no fitted model 'late'"):
        missing_curve(whole, "lab", model="late")
    with pytest.raises(InputError, match="no model 'lat'; did you mean 'late'"):
        whole.value("lat", "c")
    with pytest.raises(InputError, match="no brier of graph"):
        whole.value("graph", "brier")


def test_a_kind_in_two_modalities_is_refused(tiny):
    from gnnpatient import InputError
    from gnnpatient.study.compare import compare

    kinds = list(tiny.spec.nodes)
    with pytest.raises(InputError, match=f"node type '{kinds[0]}' is in two modalities"):
        compare(tiny, "death", modalities={"a": kinds[:1], "b": kinds})


def test_run_compare_takes_a_packed_cohort_and_a_fold_file(whole, tiny, tmp_path, monkeypatch):
    from gnnpatient import InputError
    from gnnpatient.study import compare as fusion

    tiny.save(tmp_path / "packed")
    where = {"id": tiny.ids, "repeat": 0, "fold": tiny.groups % 3}
    pl.DataFrame(where).write_csv(tmp_path / "folds.csv")
    asked = []

    def compare(cohort, outcome, **how):
        asked.append((cohort, outcome, how))
        return whole

    monkeypatch.setattr(fusion, "compare", compare)
    tell = lambda what, done, of: None  # noqa: E731
    assert fusion.run_compare(tmp_path / "packed", "death", tmp_path / "folds.csv", tell) is whole
    fusion.run_compare(tmp_path / "packed", "death")
    (one, name, how), (_, _, plain) = asked
    assert (one.ids == tiny.ids).all() and name == "death" and how["progress"] is tell
    assert [len(fold.test) for fold in how["folds"]] == np.bincount(tiny.groups % 3).tolist()
    assert plain == {"folds": 5, "progress": None}
    with pytest.raises(InputError, match="'deaths'; did you mean 'death'"):
        fusion.run_compare(tmp_path / "packed", "deaths")


# ---- what may be said where the truth is known


@pytest.mark.usefixtures("unchecked")
def test_a_strong_second_kind_is_found(tmp_path):
    found = judged(made(tmp_path, lab=1.3, vital=1.3, n=200))
    assert found.primary["verdict"] == "helps" and " helps to forecast death: C +0." in found.sentence
    assert not found.sentence.startswith("no evidence")
    for one in found.left_out:
        assert one["verdict"] == "helps" and one["holm"] < 0.05
    assert found.primary["c"]["value"] > 0.05 and found.primary["scaled_ibs"]["low"] > 0


@pytest.mark.usefixtures("unchecked")
def test_where_one_kind_tells_all_there_is_no_evidence(tmp_path):
    found = judged(made(tmp_path, lab=1.5, n=160))
    assert found.best_unimodal == ("lab", "lab")
    assert found.sentence.startswith("no evidence that adding vital to lab helps to forecast death: C ") or (
        found.primary["verdict"] == "hurts"
        and found.sentence.startswith("no evidence that adding vital to lab")
    )
    lab, vital = found.left_out
    assert (lab["kind"], lab["verdict"]) == ("lab", "helps") and vital["verdict"] != "helps"
    assert found.value("gnn", "c")["value"] > 0.7


@pytest.mark.usefixtures("unchecked")
def test_of_shuffled_labels_nothing_is_said(tmp_path):
    found = judged(made(tmp_path, lab=1.3, vital=1.3, shuffled=True, n=160))
    assert found.sentence.startswith("no evidence that ")
    assert all(one["verdict"] != "helps" for one in (*found.left_out, *found.others))


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_nothing_to_fuse_is_said_so_in_twenty_seeds(tmp_path):
    """One kind tells all: a judge who sees that says at most once that fusion helps."""
    found = [judged(made(tmp_path, lab=1.3, n=120, seed=seed), seed=seed) for seed in range(20)]
    assert [one.primary["verdict"] for one in found].count("helps") <= 1
    assert [one.left_out[0]["verdict"] for one in found].count("helps") >= 18
    assert {one.left_out[0]["kind"] for one in found} == {"lab"}


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_what_lies_in_the_pattern_of_missing_kinds_is_told_apart(tmp_path):
    """Half of the patients lack the vital and die sooner; the values say nothing."""
    from gnnpatient.study.missingness import pattern_only

    models = ["presence", "clockwork", "values", "statics"]
    found = judged(made(tmp_path, unseen=1.5), models)
    for row in pattern_only(found):
        assert row["gain"]["low"] > 0 and row["presence"] > row["statics"] and row["share"] > 0.6
    verdicts = {(one["first"], one["second"]): one["verdict"] for one in found.others}
    assert verdicts["presence", "statics"] == verdicts["clockwork", "statics"] == "helps"
    assert verdicts["gnn", "clockwork"] != "helps"


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_same_seed_same_figures(tmp_path):
    cohort = made(tmp_path, lab=1.0, n=160)
    how = {"models": ["late", "gru"], "choices": FEW, "n": 5}
    one, two = (judged(cohort, **how).to_dict() for _ in range(2))
    assert one == two and one != judged(cohort, seed=1, **how).to_dict()


@pytest.mark.slow
def test_the_experiment_writes_forecasts_and_figures(tmp_path):
    import gnnpatient

    script = Path(gnnpatient.__file__).parent.parent / "experiments" / "fusion.py"
    cohort = made(tmp_path, lab=1.0, n=160)
    numbered = {"repeat": 0, "fold": np.arange(160) % 2, "id": cohort.ids}
    pl.DataFrame(numbered).write_parquet(tmp_path / "folds.parquet")
    how = "--members 1 --epochs 1 --draws 5 --models late --landmarks 0.1 --horizons 4,8 --missing vital"
    for data in (tmp_path / "made.toml", cohort.save(tmp_path / "packed")):
        out = tmp_path / "out.parquet"
        call = [
            "--data",
            str(data),
            "--folds",
            str(tmp_path / "folds.parquet"),
            "--out",
            str(out),
            *how.split(),
        ]
        done = subprocess.run([sys.executable, "-P", str(script), *call], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        table, said = pl.read_parquet(out), json.loads(out.with_suffix(".json").read_text())
        assert table.columns[:5] == ["model", "repeat", "fold", "landmark", "id"]
        assert {"risk_4", "risk_8"} <= set(table.columns) and table["id"].dtype == pl.String
        families = {"graph", "linear", "boosted", "nograph"}
        models = {"gnn", "only lab", "only vital", "late", "best single", "null", *families}
        assert models == set(table["model"])
        assert table.group_by("model").len()["len"].to_list() == [said["patients"]] * len(models)
        assert said["sentence"] in done.stderr and {row["kind"] for row in said["missing"]} == {"vital"}
    call[-1] = "vitl"
    done = subprocess.run([sys.executable, "-P", str(script), *call], capture_output=True, text=True)
    assert done.returncode == 2 and "did you mean 'vital'" in done.stderr


def test_a_value_is_compared_at_the_time_it_is_asked_for():
    """Of levels the last one says most; the stage, and the time of visits, next to nothing."""
    from gnnpatient.datasets.shipped import clinic
    from gnnpatient.study.compare import compare

    cohort = clinic(160)
    plan = {**QUICK, "epochs": 1, "landmarks": [365.0], "n": 30, "choices": {"families": ("linear",)}}
    found = quickly(compare, cohort, "level", to="1y", models=["late", "clockwork", "statics"], **plan)
    assert found.scores.deciding == ("scaled_mse", "scaled_crps") and found.movement == {}
    assert set(found.best_unimodal) == {"lab"} and found.cause == "level" and found.horizons == ()
    contrasts = {(one["first"], one["second"]): one for one in found.others}
    assert contrasts["gnn", "clockwork"]["scaled_mse"]["low"] > 0.2
    own, other = (found.value(f"only {kind}", "rmse")["value"] for kind in ("lab", "stage"))
    assert own < 0.8 * other < other < 1.05 * found.value("null", "rmse")["value"]
    assert found.value("late", "rmse")["value"] < other
    # the mean of the unimodal models is not calibrated, though each of them may be
    assert all(one["late"].forecast(X)["level"].calibration is None for one, X in found.parts)
    assert 0 < found.events <= found.patients and "with level" in found.too_small
    for to, message in ((None, "is a value: when"), (-1.0, "to = -1 days")):
        with pytest.raises(InputError, match=message):
            quickly(compare, cohort, "level", to=to, **plan)
    with pytest.raises(InputError, match="is no value at a time; leave out to"):
        quickly(compare, cohort, "death", to="1y", **plan)


def test_an_answer_that_is_the_same_has_no_figures():
    design = SimpleNamespace(cause="death", outcome="death", scores=SimpleNamespace(deciding=("c",)))
    same = {"verdict": "open", "kind": None, "c": {"value": 0.0, "low": 0.0, "high": 0.0}}
    said = Comparison._sentence(design, same, "the graph network")
    assert said.endswith(
        "the graph network helps to forecast death: with and without it every answer is the same"
    )
    other = Comparison._sentence(design, {**same, "c": {"value": 0.0, "low": -0.1, "high": 0.1}}, "it")
    assert other.endswith("C +0.000 (-0.100 to +0.100)")


def test_rivals_stand_beside_with_what_they_saw_and_how_they_were_chosen(tmp_path):
    """Values decide: the boosted rival of values is as good as that of both, that of times knows nothing."""
    cohort = made(tmp_path, lab=1.5, n=400)
    names = ["cox", "boosted", "boosted values", "clockwork"]
    (tmp_path / "own.py").write_text(
        "from sklearn.ensemble import ExtraTreesClassifier\n"
        "class Own(ExtraTreesClassifier):\n"
        "    def __init__(self, n_estimators=50, min_samples_leaf=10, random_state=0):\n"
        "        super().__init__(n_estimators=n_estimators, min_samples_leaf=min_samples_leaf,\n"
        "                         random_state=random_state)\n"
    )
    own = f"own={tmp_path / 'own.py'}:Own"
    steps = []
    found = judged(
        cohort,
        ("clockwork", "values"),
        rivals=[*names, own],
        configurations=2,
        progress=lambda what, done, total, /, **k: steps.append((what, done, total)),
    )
    assert set(found.rivals) == {*(f"tuned {name}" for name in names), "own"}
    for name, folds in found.rivals.items():
        assert len(folds) == 2 and all(fold["saw"]["landmarks"] > 100 for fold in folds)
        if name != "own":
            assert all(len(fold["curve"]) == 2 and fold["saw"]["configurations"] == 2 for fold in folds)
            best = [max(fold["curve"], key=lambda trial: trial["score"]) for fold in folds]
            assert [one["configuration"] for one in best] == [fold["chosen"] for fold in folds]
    gain = {name: found.value(name, "scaled_ibs")["value"] for name in (*found.rivals, "gnn", "values")}
    assert min(gain[f"tuned {name}"] for name in names[:3]) > 0.15 and gain["own"] > 0.1
    assert abs(gain["tuned clockwork"]) < 0.05
    rows = {(row["sees"], row["model"]): row["value"] for row in found.sees if row["metric"] == "scaled_ibs"}
    assert rows["timing only", "tuned clockwork"] == gain["tuned clockwork"]
    assert rows["both", "gnn"] == gain["gnn"] and rows["values only", "values"] == gain["values"]
    text = "\n".join(found.sentences)
    assert "values only" in text and "timing only" in text and "beside tuned cox (fitted on " in text
    assert "beside own (fitted on " in text, "whoever chose it, what it saw is told"
    assert "best of 2 configurations" in text and found.value("gnn-tuned cox", "c")["value"] is not None
    assert json.loads(json.dumps(found.to_dict()))["rivals"]["tuned cox"][0]["saw"]["columns"] > 2
    done = [step for step in steps if step[0].endswith(": own")]
    assert len(done) == 2 and done[-1][1:] == (done[-1][2],) * 2, "the last of all fits"


def test_rivals_that_cannot_be_are_refused_before_a_fit(tmp_path):
    from gnnpatient import InputError

    cohort = made(tmp_path, n=60)
    with pytest.raises(InputError, match="no rival 'logistic' of outcome 'death', a survival"):
        judged(cohort, rivals=["logistic"])
    with pytest.raises(InputError, match="no such file"):
        judged(cohort, rivals=["mine=nowhere.py:Model"])
    with pytest.raises(InputError, match="a budget plans no rivals"):
        judged(cohort, rivals=["cox"], budget=1e6)
    with pytest.raises(InputError, match="rival 'gnn': the name of a model here"):
        judged(cohort, rivals={"gnn": SimpleNamespace(fit=print, forecast=print)})
    with pytest.raises(InputError, match="configurations 0; must be >= 1"):
        judged(cohort, rivals=["cox"], configurations=0)
    for rivals in ((), ["mine=sklearn.naive_bayes:GaussianNB"]):
        with pytest.raises(InputError, match="configurations 3: no rival here is chosen among some"):
            judged(cohort, rivals=rivals, configurations=3)
