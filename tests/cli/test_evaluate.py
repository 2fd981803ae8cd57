"""Scores of a run, here and elsewhere, and the comparison."""

import csv
import json
import re

import numpy as np
import pytest

FAMILIES = ("gnn", "graph", "linear", "boosted", "gnn-nograph")  # the model, its parts, what the graph adds


@pytest.mark.filterwarnings("ignore")  # of few patients, as the process of a user prints them
def test_evaluate_leaves_out_the_training_patients(ward, split, cli, tmp_path):
    ask = ("evaluate", ward / "run" / "model", ward / "cohort", "--landmarks", "0,2", "--horizons", "6")
    (_, table, err), (_, answer, _) = cli(*ask, "--by", "sex", "--plot", tmp_path), cli(*ask, "--json")
    files = [file.name for file in tmp_path.iterdir()]
    assert f"{len(files)} figures in {tmp_path}" in err and all(name.endswith(".png") for name in files)
    assert err.count(" is not drawn: ") == 12 - len(files)  # 3 kinds, 2 causes, 2 landmarks
    said = (f"{len(split['train'])} training patients left out", "cox fitted: 1 of 1", "forecasts: 7 of 7")
    said += ("intervals: 200 of 200", "intervals sex=female: 200 of 200", "--cv 5")  # in this order
    assert sorted(said, key=err.index) == list(said)
    assert f"a hold-out of {len(split['test'])} patients judges little: --cv 5" in err
    assert "too small to judge" in table and "gnn - cox" in table and "sex=female" in table
    assert "gnn: each group minus the largest of its column" in table and "not estimable: sex=" in table
    found = json.loads(answer)
    assert found["gaps"] == found["groups"] == []  # without --by
    assert found["outcome"] == "death" and found["held_out"] == len(split["test"])
    assert 0 < found["patients"] <= len(split["test"])
    names = {"model", "landmark", "horizon", "metric", "value", "low", "high", "group", "cause"}
    assert all(set(row) >= names for row in found["rows"])
    assert {row["model"] for row in found["rows"]} == {*FAMILIES, "cox", "null", "gnn-cox"}
    assert found["graph"] in table and found["graph"].startswith("the graph ")
    assert "each family alone, mean over landmarks" in table and re.search(r"death +linear +\.?", table)
    assert {row["landmark"] for row in found["rows"]} == {0, 2, None}


@pytest.mark.filterwarnings("ignore")
def test_evaluate_by_a_model_of_censoring_shows_both(ward, start, cli, refused):
    ask = ("evaluate", ward / "run", ward / "cohort", "--landmarks", "0", "--horizons", "4")
    table, err = start(*ask, "--censoring", "cox").communicate(
        timeout=600
    )  # a process, which prints warnings
    found = json.loads(cli(*ask, "--censoring", "cox", "--json")[1])
    assert "--censoring 'me'; must be km or cox" in refused(*ask, "--censoring", "me")
    assert "unknown column 'sec'; did you mean 'sex'" in refused(*ask, "--by", "sec")  # one line, no note
    for one in ("km", "cox"):
        rows = [row for row in found["rows"] if row["censoring"] == one]
        assert {"gnn", "null"} <= {row["model"] for row in rows}
        assert len({row["metric"] for row in rows}) > 4 and {"draws", "interval", "moved"} <= set(rows[0])
    text = " ".join(table.split())
    assert "censoring by last observations (cox)" in text and "Intervals resample groups" in text
    assert [f"warning: {line}" in err for line in found["warnings"]] == [True] * len(found["warnings"])


def test_evaluate_elsewhere_is_external_validation(cli, refused, ward, tmp_path):
    from gnnpatient.cli import run
    from gnnpatient.testing import write_ward

    spec = write_ward(tmp_path, 30, seed=1)
    spec.write_text(spec.read_text().replace('cohort = "tiny"', 'cohort = "elsewhere"'))
    assert run(["pack", str(spec), "--out", str(tmp_path / "cohort")]) == 0
    code, out, err = cli(
        *("evaluate", ward / "run", tmp_path / "cohort", "--landmarks", "1", "--horizons", "5", "--json"),
        *("--update", "intercept"),
    )
    assert code == 0 and "external validation" in err and "ids of training patients" in err
    updated = {"gnn+intercept", "gnn+intercept-gnn"}
    assert {row["model"] for row in json.loads(out)["rows"]} == {*FAMILIES, "null", *updated}
    assert err.count("gnn+intercept, ") == 2 and "--update 'both'; must be" in refused(
        "evaluate", ward / "run", tmp_path / "cohort", "--update", "both"
    )


def test_evaluate_a_diagnosis(sick, good, refused):
    folder, _ = sick
    ask = ("evaluate", folder / "run", folder / "cohort", "--landmarks", "0,2")
    both = good(*ask, "--json")["outcomes"]  # none is named: each in turn
    assert [one["outcome"] for one in both] == ["death", "icu"]
    assert {row["metric"] for row in both[0]["rows"]} >= {"ibs", "c"}
    assert "has no horizon to choose" in refused(*ask, "--outcome", "icu", "--horizons", "5")
    found = good(*ask, "--outcome", "icu", "--json")
    assert found == both[1]
    assert {row["model"] for row in found["rows"]} == {*FAMILIES, "logistic", "null", "gnn-logistic"}
    metrics = {"auc", "auprc", "brier", "oe", "slope", "ici", "scaled_brier"}
    assert {row["metric"] for row in found["rows"]} == metrics
    assert {(row["horizon"], row["cause"]) for row in found["rows"]} == {(None, "yes")}
    split = json.loads((folder / "run" / "split.json").read_text())
    assert found["held_out"] == len(split["test"]) and sum(found["events"].values()) == found["patients"]
    assert not any(who.endswith("9") for who in split["test"]) or found["patients"] < found["held_out"]
    table = good(*ask, "--outcome", "icu")
    assert "icu: yes" in table and "gnn - logistic" in table and "scaled_brier" in table


def test_evaluate_scores_a_task_at_its_moments(stays, good, refused):
    folder, moments = stays
    ask = ("evaluate", folder / "run", folder / "cohort")
    found = good(*ask, "--json")
    split = json.loads((folder / "run" / "split.json").read_text())
    held = {who: dies for who, _, dies in moments if str(who) in split["test"]}
    assert found["held_out"] == found["patients"] == len(held) == 12
    assert {row["landmark"] for row in found["rows"]} == {row["horizon"] for row in found["rows"]} == {None}
    assert {row["model"] for row in found["rows"]} == {*FAMILIES, "logistic", "null", "gnn-logistic"}
    assert "mortality: yes" in good(*ask)
    assert "prediction times of its own; leave out --landmarks" in refused(*ask, "--landmarks", "1")


@pytest.fixture(scope="session")
def dealt(ward, tmp_path_factory):
    """The ward with its ids dealt anew, under the same name; whose id each new one was."""
    from gnnpatient.cli import run

    folder = tmp_path_factory.mktemp("dealt")
    ids = [f"p{i:03d}" for i in range(80)]
    was = dict(zip(ids, np.random.default_rng(3).permutation(ids).tolist(), strict=True))
    now = {old: new for new, old in was.items()}
    for file in ward.glob("*.csv"):
        text = re.sub(r"(?m)^p\d\d\d(?=,)", lambda found: now[found[0]], file.read_text())
        (folder / file.name).write_text(text)
    (folder / "ward.toml").write_text((ward / "ward.toml").read_text())
    assert run(["pack", str(folder / "ward.toml"), "--out", str(folder / "cohort")]) == 0
    return folder, was


def few_rows(folder):
    """Ids of patients whose record is too small to tell them."""
    from gnnpatient import open_cohort
    from gnnpatient.prognosis.people import fingerprints

    cohort = open_cohort(folder / "cohort")
    return set(cohort.ids[~fingerprints(cohort, np.arange(len(cohort)))[1]].tolist())


@pytest.mark.filterwarnings("ignore")
def test_ids_dealt_anew_are_still_the_same_people(ward, dealt, split, good, tmp_path, cli):
    """Whoever was trained on is left out under whatever id, in evaluate, predict and ask."""
    folder, was = dealt
    side = {one: "train" if one in split["train"] else "test" for one in was}
    few = few_rows(folder)
    assert sum(side[new] != side[old] for new, old in was.items() if new not in few) > 10
    trained = {new for new, old in was.items() if side[old] == "train"}
    ask = ("evaluate", ward / "run", folder / "cohort", "--landmarks", "0,2", "--horizons", "6", "--json")
    _, out, err = cli(*ask)
    found = json.loads(out)
    assert re.search(r"\d+ patients have another id than in the fit but the same record: each is", err)
    assert "training patients left out" in err and "exactly the one of the fit" in err
    held = {new for new, old in was.items() if side[old] == "test"} - few
    assert len(held) <= found["held_out"] <= len(held) + len(few)
    good(
        *("predict", ward / "run", folder / "cohort", "--at", "0", "--horizons", "5"),
        *("--out", tmp_path / "r.csv"),
    )
    with open(tmp_path / "r.csv", newline="") as file:
        said = {row["id"]: row["split"] for row in csv.DictReader(file)}
    assert len(said.keys() - few) > 60
    for new, one in said.items():
        assert one == side[was[new]] or (new in few and one != "test"), new
    new = next(new for new in sorted(trained - few) if side[new] == "test" and new in said)
    ask = ("ask", ward / "run", folder / "cohort", "--patient", new, "--at", "0")
    assert good(*ask, "--json")["split"] == "train"
    assert "the model was fitted on this patient" in good(*ask)


@pytest.fixture
def compare_few(monkeypatch, given_ridge):
    """Let `compare` fit few models (tests/study fits all), and a second call find what the first did."""
    from gnnpatient.study import compare as fusion
    from gnnpatient.study import report

    compare, once, made, curve = fusion.compare, fusion.run_compare, [], report.missing_curve
    monkeypatch.setattr(report, "missing_curve", lambda *given: curve(*given, n=10))
    monkeypatch.setattr("gnnpatient.prognosis.run.RANDOM_LANDMARKS", 3)  # of the fits: a tenth of the time

    def call(**few):
        few = {"folds": 2, "inner": 2, "channels": 8, "n": 10, "choices": {"families": ("linear",)}, **few}
        monkeypatch.setattr(fusion, "compare", lambda *given, **how: compare(*given, **{**how, **few}))

    def kept(*given, **how):
        made[:] = made or [once(*given, **how)]
        return made[0]

    monkeypatch.setattr(fusion, "run_compare", kept)
    return call


def test_compare(good, refused, ward, compare_few, monkeypatch):
    compare_few(models=["clockwork", "presence", "statics"])
    words = ["compare", ward / "cohort", "--outcome", "death", "--members", 1, "--epochs", 1]
    words += ["--missing", "lab"]
    found = good(*words, "--json")
    assert {"gnn", "best single", "clockwork", "null"} <= {row["model"] for row in found["rows"]}
    assert {row["kind"] for row in found["missing"]} == {"lab"} and len(found["pattern"]) == 2
    assert {row["share"] for row in found["missing"]} == {0.0, 0.25, 0.5, 0.75, 1.0}
    said = good(*words)
    assert found["sentence"] and found["sentence"] in said and "parameters" in said
    assert said.count("missingness only: ") == 2
    assert re.search(r"lab +100% +100% +0\.\d{3}", said)
    assert "gnn, with a node type removed from the patients" in said
    monkeypatch.undo()
    wrong = ["compare", ward / "cohort", "--outcome", "death", "--missing", "lab,labs"]
    assert "unknown node type 'labs'; did you mean 'lab'?" in refused(*wrong)
    wrong = ["compare", ward / "cohort", "--outcome", "deth"]
    assert "unknown outcome 'deth'; did you mean 'death'?" in refused(*wrong)


@pytest.mark.filterwarnings("ignore:.*learned from so few:UserWarning")
def test_compare_for_a_diagnosis(sick, good, compare_few):
    folder, _ = sick
    compare_few(models=["late"], landmarks=[1.0])
    words = ["compare", folder / "cohort", "--outcome", "icu", "--members", 1, "--epochs", 1]
    found = good(*words, "--json")
    assert {row["metric"] for row in found["rows"]} == {"auc", "brier", "scaled_brier"}
    assert found["cause"] == "yes" and "yes (icu): AUC " in found["sentence"]
    said = good(*words)
    assert found["sentence"] in said and "scaled_brier" in said and "parameters" in said


def test_compare_for_a_task(stays, good, compare_few):
    compare_few(models=[])
    words = ("compare", stays[0] / "cohort", "--outcome", "mortality", "--members", 1, "--epochs", 1)
    found = good(*words, "--json")
    assert set(found["modalities"]) == {"lab", "drug"} and found["patients"] == 60
    assert {row["landmark"] for row in found["rows"]} == {None}


@pytest.fixture
def refits(monkeypatch):
    """What a run's choices are refitted on in each fold, by a model that is quick; two draws of a score."""
    from gnnpatient.study import crossval
    from gnnpatient.study.baselines import StackedCox

    fits = []

    class Quick(StackedCox):
        def __init__(self, **choices):
            self.choices = choices
            super().__init__(outcomes=["death"], horizon=choices["horizon"], landmarks=1)

        def get_params(self, deep=True):
            return self.choices

        def fit(self, X, progress=None):
            fits.append((self.choices, X))
            progress("member 1", 1, 2, member=0)
            return super().fit(X)

    monkeypatch.setattr(crossval, "PrognosisModel", Quick)
    evaluate = crossval.evaluate
    monkeypatch.setattr(crossval, "evaluate", lambda *given, **how: evaluate(*given, **{**how, "n": 2}))
    return fits


@pytest.mark.filterwarnings("ignore")
def test_evaluate_in_folds_refits_the_choices_of_the_run(ward, split, cli, refused, refits, tmp_path):
    from gnnpatient import open_cohort
    from gnnpatient.prognosis.run import Run

    ask = ("evaluate", ward / "run", ward / "cohort", "--landmarks", "0,2", "--horizons", "6")
    code, out, err = cli(*ask, "--cv", 2)
    assert code == 0, err
    assert "gnn - cox" in out and "2 folds: two patients are compared where one" in out
    lines = err.splitlines()
    assert "refitting the choices of" in lines[0] and "folds of all 80 patients" in lines[0]
    steps = [line for line in lines if re.match(r"gnnpatient: fold \d of 2: \S+ \w+; \d of 4 fits in ", line)]
    assert len(steps) == 2 and steps[0].endswith(" left") and "left" not in steps[1]
    cohort, plan = open_cohort(ward / "cohort"), Run.open(ward / "run").plan
    for choices, X in refits:
        assert choices == {name: plan[name] for name in choices if name in plan} | {"device": "auto"}
        assert len(choices) > 15 and set(X.days.tolist()) == {0.0, 2.0, 4.0, 7.0}
    seen = [set(X.ids.tolist()) for _, X in refits]
    assert not seen[0] & seen[1] and len(seen[0] | seen[1]) > len(split["train"])
    group = dict(zip(cohort.ids.tolist(), cohort.groups.tolist(), strict=True))
    assert not {group[who] for who in seen[0]} & {group[who] for who in seen[1]}
    folds = tmp_path / "folds.csv"
    rows = [f"0,{group[who] % 2},{who}" for who in cohort.ids.tolist()]
    folds.write_text("repeat,fold,id\n" + "\n".join(rows) + "\n")
    found = json.loads(cli(*ask, "--folds", folds, "--json")[1])
    assert [fold["fold"] for fold in found["folds"]] == [0, 1] and found["held_out"] == 80
    assert sum(fold["scored"] for fold in found["folds"]) == found["patients"]
    assert {row["model"] for row in found["rows"]} == {"gnn", "cox", "null", "gnn-cox"}
    fits = len(refits)
    assert "two ways to split" in refused(*ask, "--cv", 2, "--folds", folds)
    assert "--cv 1; must be 2 or more" in refused(*ask, "--cv", 1)
    assert "a model alone; give the RUN" in refused("evaluate", _copied(ward, tmp_path), *ask[2:], "--cv", 2)
    assert len(refits) == fits


def _copied(ward, tmp_path):
    """The model of a run, given away."""
    import shutil

    return shutil.copytree(ward / "run" / "model", tmp_path / "given")


@pytest.mark.parametrize(("which", "outcome"), [("sick", "icu"), ("stays", "mortality")])
def test_a_diagnosis_and_a_task_in_folds(which, outcome, request):
    from gnnpatient import InputError, open_cohort
    from gnnpatient.study import cross_validate
    from gnnpatient.study.baselines import StackedLogistic

    cohort = open_cohort(request.getfixturevalue(which)[0] / "cohort")
    mine = {"mine": StackedLogistic(outcomes=[outcome])}
    where = {"folds": 2, "n": 2} | ({"landmarks": [2], "fit_at": [2]} if which == "sick" else {})
    found = cross_validate(cohort, mine, outcome, **where)
    assert {row["model"] for row in found.scores.rows} == {"mine", "logistic", "null", "mine-logistic"}
    at = {"landmark": 2 if which == "sick" else None}
    assert found.value("mine", "auc", **at)["value"] == found.value("logistic", "auc", **at)["value"]
    assert found.value("mine-logistic", "brier", **at)["value"] == 0
    assert abs(found.value("null", "scaled_brier", **at)["value"]) < 1e-12
    assert sum(fold.scored for fold in found.folds) == found.scores.patients
    with pytest.raises(InputError, match="which has no horizon to choose"):
        cross_validate(cohort, mine, outcome, horizons=[5.0])
    if which == "stays":
        with pytest.raises(InputError, match="prediction times of its own"):
            cross_validate(cohort, mine, outcome, landmarks=[1.0])


def test_what_no_outcome_takes_is_refused(ward, sick, stays, refused, tmp_path):
    """An option that would do nothing is not taken in silence."""
    out, none = ("--out", tmp_path / "r.csv"), "no outcome of this model takes it"
    run, cohort, task = ward / "run", ward / "cohort", stays[0]
    assert f"--to: {none} (death)" in refused(
        "predict", run, cohort, "--at", "1", "--horizons", "4", "--to", "1", *out
    )
    assert f"--horizons: {none}" in refused("predict", task / "run", task / "cohort", "--horizons", "4", *out)
    asked = ("ask", run, cohort, "--patient", "p001", "--to", "1d")
    assert "--to: a value is asked for by it, and death is none" in refused(*asked)
    few = ("compare", cohort, "--outcome", "death", "--members", 1, "--epochs", 1)
    assert "configurations 5: no rival here is chosen among some" in refused(*few, "--configurations", 5)


def test_what_no_outcome_of_several_takes_is_refused(ward):
    from types import SimpleNamespace

    from gnnpatient import InputError, open_cohort
    from gnnpatient.study.fitted import FittedModel
    from gnnpatient.study.validation import evaluate_outcomes

    fitted, cohort = FittedModel.open(ward / "run"), open_cohort(ward / "cohort")
    for name, given in {"--to": {"to": 1.0}}.items():
        with pytest.raises(InputError, match=f"{name}: no outcome of this model takes it"):
            evaluate_outcomes(fitted, cohort, **given)
    label = SimpleNamespace(has_curve=False, has_own_moments=True, has_course=False)
    task = SimpleNamespace(outcomes={"death": label})
    choices = {"horizons": [4.0], "landmarks": [1.0], "censoring": "cox"}
    for name, value in choices.items():
        with pytest.raises(InputError, match=f"--{name}: no outcome of this model takes it"):
            evaluate_outcomes(fitted, task, **{name: value})


def test_fit_says_which_choices_do_nothing(stays, cli, tmp_path):
    words = (
        "fit",
        stays[0] / "cohort",
        "--out",
        tmp_path / "run",
        "--outcome",
        "mortality",
        "--family",
        "linear",
    )
    code, _, err = cli(*words, "--members", 1, "--epochs", 3, "--horizon", "5d", "--landmarks", "entry,2d")
    assert code == 0
    for name in ("epochs", "horizon", "landmarks"):
        assert f"{name} does nothing here" in err
    code, _, err = cli(*words[:3], tmp_path / "other", *words[4:], "--members", 1)
    assert code == 0 and "does nothing here" not in err


def test_compare_shows_what_its_verdicts_do_not_judge(capsys):
    """The number of events at the last horizon, each state over time: a line a model, a column a landmark."""
    from types import SimpleNamespace

    from gnnpatient.cli.evaluate import _show_beside

    place = {"low": 0.1, "high": 0.3, "cause": "relapse", "metric": "number_scaled_mse"}
    rows = [
        place | {"model": model, "landmark": day, "horizon": until, "value": value}
        for model, value in (("gnn", 0.2), ("null", 0.0))
        for day in (0.0, 365.25)
        for until in (100.0, 365.25)
    ]
    rows[1]["value"], rows[0]["value"] = 0.25, 0.9  # of entry: at the last horizon, and at an earlier one
    found = SimpleNamespace(outcome="relapses", rows=rows, horizons=(100.0, 365.25))
    _show_beside(found)
    text = capsys.readouterr().out
    assert "relapses: number of events, number_scaled_mse; not judged below" in text
    (line,) = [line.split() for line in text.splitlines() if line.split()[:1] == ["gnn"]]
    assert line == ["gnn", "relapse", "0.250", "[0.100,", "0.300]", "0.200", "[0.100,", "0.300]"]
    for row in rows:
        row |= {"metric": "state_scaled_ibs", "horizon": None, "cause": "ill"}
    _show_beside(found)
    assert "being in each state, state_scaled_ibs" in capsys.readouterr().out
    found.rows = [row | {"metric": "c"} for row in rows]
    _show_beside(found)
    assert capsys.readouterr().out == ""
