"""Every shipped spec on its real cohort, where it is at hand: rows accounted for, asks answered."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

FOLDERS = {
    "framingham": "framingham",
    "nafld": "nafld",
    "icu-timeseries": "icu-timeseries/aki/eicu_demo",
    "rotterdam": "survival-tables",
    "gbsg": "survival-tables",
    "rotterdam-states": "survival-tables",
    "cgd": "survival-tables",
    "colon": "survival-tables",
    "mgus2": "survival-tables",
    "support2": "support2",
    "support2-function": "support2",
    "eicu-demo": "eicu-demo",
    "mimic-iv-demo-meds": "mimic-iv-demo-meds",
    "omop-synthea-1k": "omop-synthea-1k",
    "fhir-synthea-r4": "fhir-synthea-r4/bundles",
    "tcga": "tcga-survival-omics/luad",
    "tcga-ucec": "tcga-survival-omics/ucec",
}
# patients, and patients with each event, counted from the tables by hand or by the README of the data
KNOWN = {
    "framingham": (3326, {"death": {"death": 1165}}),
    "nafld": (13147, {"death": {"death": 1000}}),
    "support2": (9105, {}),
    "support2-function": (9105, {}),
    "rotterdam": (2982, {"death": {"death": 1272}}),
    "rotterdam-states": (2982, {"course": {"death": 1229}}),
    "cgd": (128, {}),
    "gbsg": (686, {"relapse": {"relapse": 299}}),
    "colon": (929, {"death": {"death": 452}}),
    "mgus2": (1384, {"death": {"death": 963}, "progression": {"progression": 115, "death": 860}}),
    "eicu-demo": (174, {"leaving": {"death": 5, "discharge": 169}}),
    "mimic-iv-demo-meds": (100, {"death": {"death": 31}}),
    "fhir-synthea-r4": (102, {"death": {"death": 39}}),
    "tcga": (453, {"death": {"death": 158}}),
    "tcga-ucec": (480, {"death": {"death": 75}}),
}
MADE = {"mimic-iii", "mimic-iv", "labs-visits"}
"""Those without data to pass on: tests/cli/test_mimic.py makes tables for them."""
TWICE = {"eicu": "eicu-demo"}
"""Further specs of a folder above, tried by the slow test alone."""
ROOT = Path(__file__).parents[2]
PREPARED = {path.name.removesuffix(".prepare.py") for path in (ROOT / "graphs").glob("*.prepare.py")}
"""Those whose tables a script makes first; tests/cohort/test_prepare.py tries them."""


def test_every_shipped_spec_is_tried_here():
    shipped = {path.stem for path in (ROOT / "graphs").glob("*.toml")}
    assert shipped == {*FOLDERS, *TWICE, *MADE, *PREPARED, "pbc", "ward", "clinic"}


def test_no_code_of_the_library_names_a_cohort():
    words = [name for name in (*FOLDERS, *MADE, *PREPARED) if name != "support2"] + [
        "support2.csv",
        "RANDID",
        "uniquepid",
        "futime",
    ]
    for path in (ROOT / "gnnpatient").rglob("*.py"):
        text = path.read_text()
        assert not [word for word in words if word in text and f"{word}:" not in text], path


@pytest.mark.parametrize("name", FOLDERS)
def test_every_row_is_used_collapsed_or_refused(name, data_dir):
    from gnnpatient import build_graphs, read_cohort

    cohort = read_cohort(name, data_dir / FOLDERS[name])
    for table, counts in cohort.report["tables"].items():
        refused = sum(counts["refused"].values())
        assert counts["rows"] == counts["used"] + counts["collapsed"] + refused, table
    assert all(len(cohort.events[kind]) for kind in cohort.spec.nodes)
    patients, outcomes = KNOWN.get(name, (len(cohort), {}))
    assert len(cohort) == patients
    for outcome, events in outcomes.items():
        truth = cohort.outcomes[outcome]
        found = {cause: int((truth.event == k).sum()) for k, cause in enumerate(truth.causes, 1)}
        assert {cause: found[cause] for cause in events} == events
    asks = cohort.landmarks(n=3)[:200]
    assert len(asks) and asks.at_risk().all()
    graphs = build_graphs(asks)
    ages = [nodes.age for nodes in graphs.nodes.values()]
    assert all((age >= 0).all() for age in ages)
    json.dumps(cohort.flow())


MONTH = 365.25 / 12
LABELS = {"colon": 1.0, "mgus2": MONTH, "rotterdam": 1.0}
"""Cohorts with a file that says, apart from the tables, who died when; and the days of its unit of time."""


@pytest.mark.parametrize("name", LABELS)
def test_deaths_are_those_of_the_frozen_labels(name, data_dir):
    from gnnpatient import read_cohort

    if not (file := data_dir.parent / "protocols" / f"labels_{name}.parquet").is_file():
        pytest.skip(f"{file.name}: no such file beside the data")
    labels = pl.read_parquet(file)
    cohort = read_cohort(name, data_dir / FOLDERS[name])
    X = cohort.at(0, patient=labels["id"].cast(pl.String).to_list())
    truth = X.outcome("death")
    assert len(X) > 900 and X.at_risk("death").all()
    assert (truth["event"] == labels["event"].to_numpy()).all()
    assert np.allclose(truth["time"] / LABELS[name], labels["time"].to_numpy(), rtol=0, atol=1e-4)


def test_events_that_recur_and_states_are_counted_as_by_hand(data_dir):
    from gnnpatient import read_cohort

    rows = pl.read_csv(data_dir / "survival-tables" / "cgd.csv").filter(status=1)
    infections = read_cohort("cgd", data_dir / "survival-tables").outcomes["infections"]
    assert len(infections.happened) == rows.height == 76
    assert len(np.unique(infections.owner)) == rows["id"].n_unique() == 44
    people = pl.read_csv(data_dir / "survival-tables" / "rotterdam.csv", infer_schema_length=None)
    dead = pl.col("death") == 1
    first = people.filter((pl.col("recur") == 1) & ~(dead & (pl.col("dtime") == pl.col("rtime"))))
    course = read_cohort("rotterdam-states", data_dir / "survival-tables").outcomes["course"]
    assert course.states == ("free", "recurrence", "death")
    counts = np.bincount(course.state).tolist()
    unseen = people.filter(dead & (pl.col("recur") == 0) & (pl.col("dtime") > pl.col("rtime"))).height
    assert counts == [0, first.height, people.filter(dead).height - unseen]


def test_families_of_genes(tmp_path):
    from gnnpatient import read_cohort

    data = tmp_path / "data"
    data.mkdir()
    slides = "case_id,slide_id,age,site,survival_months,censorship,is_female,oncotree_code,train\n"
    (data / "slides.csv").write_text(
        slides + "a,a-1,60,S,12.5,0,1,X,1\na,a-2,60,S,12.5,0,1,X,1\nb,b-1,,T,3,1,0,X,0\n"
    )
    omics = {"case_id": ["a", "b"], "P_rnaseq": [0.5, -1.0], "Q_rnaseq": [1.0, 2.0], "P_cnv": [-2.0, 0.0]}
    pl.DataFrame({**omics, "Q_mut": [1.0, 0.0], "R_mut": [0.0, 1.0]}).write_parquet(data / "omics.parquet")
    (tmp_path / "families.csv").write_text("One,Two,Three\nP,Q,R\nZ,,\n")
    script = ROOT / "graphs" / "tcga.prepare.py"
    words = [script, data, tmp_path / "families.csv"]

    def run(*more):
        return subprocess.run([sys.executable, *words, *more], capture_output=True, text=True)

    assert run("One", "Two", "--out", tmp_path / "kept").returncode == 0
    cohort = read_cohort("tcga", tmp_path / "kept")
    codes = {kind: cohort.codes[kind][1:] for kind in cohort.spec.nodes}
    assert codes == {"expression": ("P", "Q"), "copies": ("P",), "mutation": ("Q",)}
    truth = cohort.outcomes["death"]
    assert truth.event.tolist() == [1, 0]
    assert np.allclose(truth.time / (86_400 * 365.25 / 12), [12.5, 3.0], atol=1e-6)
    wrong = run("Four", "--out", tmp_path / "none")
    assert wrong.returncode == 2 and "no family 'Four'; there are One, Two, Three" in wrong.stderr


def few_folds(folder, outcome, most=120):
    """Two folds, by group, of at most so many patients who are followed, half of them with the event."""
    from gnnpatient import open_cohort

    X = open_cohort(folder).entries().followed(outcome)
    truth = X.outcome(outcome)
    if "label" in (truth.dtype.names or ()):
        X, truth = X[truth["label"] >= 0], truth[truth["label"] >= 0]
        event = truth["label"] > np.median(truth["label"]) - 1
    else:
        event = truth["event"].astype(bool)
    rows = np.concatenate([np.flatnonzero(part)[: most // 2] for part in (event, ~event)])
    fold = np.unique(X.groups[rows], return_inverse=True)[1] % 2
    return pl.DataFrame({"repeat": 0, "fold": fold, "id": X.ids[rows]})


def of_two_types(folder, to):
    """The packed cohort with the rows of two node types alone, those with the fewest."""
    from gnnpatient import open_cohort

    cohort = open_cohort(folder)
    sizes = {kind: len(cohort.events[kind]) for kind in cohort.spec.nodes if len(cohort.events[kind])}
    return cohort.only(sorted(sizes, key=lambda kind: sizes[kind])[:2]).save(to)


def scored_landmarks(folder, outcome, held_out, day):
    """The landmarks at risk of who was held out, at the day of the fit or the outcome's own moments."""
    from gnnpatient import open_cohort
    from gnnpatient.times import days

    cohort = open_cohort(folder)
    if cohort.outcomes[outcome].has_own_moments:
        X = cohort.moments(outcome)
    else:
        until = days(day) + days("6y")
        X = cohort.at(day, to=until if cohort.outcomes[outcome].kind == "progression" else None)
    return X[np.isin(X.ids.astype(str), held_out)].followed(outcome)


def check_chances(*chances):
    """Probabilities lie within 0 and 1."""
    assert all(np.isfinite(p).all() and (p >= 0).all() and (p <= 1).all() for p in map(np.asarray, chances))


def check_rising(curves, least=0.0):
    """Curves by time are finite, begin at or above some least, and never fall."""
    assert np.isfinite(curves).all() and (np.diff(curves, axis=-1, prepend=least) >= -1e-9).all()


def check_answer(outcome):
    """What `ask --json` says of an outcome is a distribution."""
    if outcome["kind"] == "progression":
        heights = list(outcome["quantiles"].values())
        assert len(heights) > 2 and np.isfinite(heights).all() and (np.diff(heights, axis=0) > 0).all()
        check_chances(outcome["seen"], outcome["alive"])
        check_rising(-np.array(outcome["alive"]), least=-1.0)
        assert np.isfinite(outcome["mean"]).all()
        return
    if outcome["kind"] == "diagnosis":
        chances = list(outcome["probability"].values())
        check_chances(chances)
        assert outcome.get("form") == "labels" or np.isclose(sum(chances), 1)
        return
    free, incidence = np.array(outcome["event_free"]), np.array(list(outcome["incidence"].values()))
    check_chances(free, incidence)
    check_rising(incidence)
    assert np.allclose(free + incidence.sum(0), 1, atol=1e-6)
    if outcome["kind"] == "recurrent":  # at least as many as there are patients with one
        check_rising(outcome["expected"])
        assert (np.array(outcome["expected"]) >= incidence[0] - 1e-6).all()
    if outcome["kind"] == "states":
        states = np.array(list(outcome["states"].values()))
        check_chances(states.round(9))
        assert np.allclose(states.sum(0), 1, atol=1e-6)


def check_table(table, outcomes):
    """What `predict` writes of everybody are distributions, too; `outcomes` as `ask --json` has them."""
    one = ["outcome", "id", "landmark"]
    order = table.with_row_index("place")
    assert len(table) and table["split"].is_in(["train", "test"]).all()
    if "value" in table.columns:
        values = order.filter(pl.col("value").is_not_null()).sort(*one, "to", "quantile")
        rises = values.select(pl.col("value").diff().over(*one, "to"))["value"].drop_nulls()
        assert values["value"].is_finite().all() and (rises > 0).all()
    if "risk" not in table.columns:
        return
    risks = order.filter(pl.col("risk").is_not_null())
    assert risks["risk"].is_finite().all()
    check_chances(risks["risk"])
    left = [name for name, of in outcomes.items() if of["kind"] == "states"]  # a state can be left again
    rising = risks.filter(~pl.col("outcome").is_in(left)).sort(*one, "cause", "horizon")
    falls = rising.select(pl.col("risk").diff().over(*one, "cause"))["risk"]
    assert (falls.drop_nulls() > -1e-9).all()
    for (outcome,), rows in risks.group_by("outcome"):
        kind = outcomes[outcome]
        total = rows.group_by(*one, "horizon").agg(pl.col("risk").sum())["risk"]
        if kind["kind"] in ("survival", "recurrent"):  # event-free has the rest
            assert (total <= 1 + 1e-6).all()
        elif kind.get("form") != "labels":
            assert np.allclose(total, 1, atol=1e-6)


def expected_counts(X, outcome):
    """Patients who are scored, and how many have each event: counted from the landmarks at risk."""
    known, truth = X.cohort.outcomes[outcome], X.outcome(outcome)

    def people(rows):
        return len(np.unique(X.ids[rows]))

    names = truth.dtype.names
    if "event" in names:
        found = {cause: people(truth["event"] == k) for k, cause in enumerate(known.names, 1)}
        return people(np.ones(len(X), bool)), found
    if "value" in names:
        there = np.isfinite(truth["value"]) & ~truth["gone"]
        there &= known.followed_until(X.patient, X.at) >= X.to
        return people(there), {"seen value": people(there)}
    label = truth["label"]
    if label.ndim > 1:
        found = {name: people(label[:, k] == 1) for k, name in enumerate(known.names)}
        return people((label >= 0).any(1)), found
    return people(label >= 0), {name: people(label == k) for k, name in enumerate(known.names)}


WITHIN = {
    "auc auc1 c auprc brier ibs coverage state_brier state_ibs auc_seen": (0, 1),
    "oe ici rmse mae crps width rps number_oe number_mse state_oe oe_between tau": (0, np.inf),
    "scaled_brier scaled_ibs scaled_crps scaled_mse scaled_rps qwk": (-np.inf, 1),
}
"""Between what the figures of a model lie; differences lie anywhere."""
WITHIN = {metric: ends for metrics, ends in WITHIN.items() for metric in metrics.split()}


def is_estimable(X, outcome, horizon):
    """Whether enough patients are followed so far at each landmark, by their times alone."""
    from gnnpatient import metrics

    truth = X.outcome(outcome)
    if truth.dtype.names[:2] != ("event", "time"):
        return True
    times = [truth[rows] for rows in X.by_landmark.values()]
    return all(metrics.at_horizon(t["time"], t["event"], horizon) is not None for t in times)


def check_scores(one, X):
    """What `evaluate --json` says of an outcome, at the landmarks X of those who were held out."""
    patients, events = expected_counts(X, one["outcome"])
    assert (one["patients"], one["events"]) == (patients, events)
    assert one["held_out"] >= patients and len(one["rows"])
    horizons = {row["horizon"] for row in one["rows"]} - {None}
    estimable = {h: is_estimable(X, one["outcome"], h) for h in horizons}
    estimable[None] = all(estimable.values())  # of figures over all horizons
    for row in one["rows"]:
        value, low, high = row["value"], row["low"], row["high"]
        if value is None:
            few = [line for line in one["warnings"] if line.startswith(f"{row['cause']}: no ")]
            constant = "null" in row["model"] and row["metric"] == "slope"
            assert few or constant or not estimable[row["horizon"]], row
            continue
        least, most = WITHIN.get(row["metric"], (-np.inf, np.inf)) if "-" not in row["model"] else (-1e9, 1e9)
        assert np.isfinite(value) and least <= value <= most, row
        assert (low is None) == (high is None) and (low is None or low <= high), row
    for row in one["calibrated"]:
        assert row["value"] is None or 0 <= row["low"] <= row["value"] <= row["high"] <= 1, row
        assert row["patients"] <= patients


CURVES = {
    "kind": "survival",
    "event_free": [0.9, 0.8],
    "incidence": {"death": [0.1, 0.15], "relapse": [0.0, 0.05]},
}
RECURRENT = {
    "kind": "recurrent",
    "event_free": [0.9, 0.8],
    "incidence": {"infection": [0.1, 0.2]},
    "expected": [0.1, 0.3],
}
STATES = {
    "kind": "states",
    "event_free": [0.9, 0.8],
    "incidence": {"death": [0.1, 0.2]},
    "states": {"well": [0.8, 0.5], "ill": [0.1, 0.3], "death": [0.1, 0.2]},
}
VALUE = {
    "kind": "progression",
    "quantiles": {"0.05": [1.0], "0.5": [2.0], "0.95": [3.0]},
    "mean": [2.1],
    "seen": [0.8],
    "alive": [0.9],
}
CLASSES = {"kind": "diagnosis", "probability": {"no": 0.4, "yes": 0.6}}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (CURVES, {"event_free": [0.9, 0.7]}),
        (CURVES, {"incidence": {"death": [0.15, 0.1], "relapse": [-0.05, 0.1]}}),
        (CURVES, {"incidence": {"death": [0.1, np.nan], "relapse": [0.0, 0.05]}}),
        (RECURRENT, {"expected": [0.3, 0.2]}),
        (RECURRENT, {"expected": [0.1, 0.15]}),
        (STATES, {"states": {"well": [0.8, 0.5], "ill": [0.1, 0.2], "death": [0.1, 0.2]}}),
        (VALUE, {"quantiles": {"0.05": [1.0], "0.5": [3.0], "0.95": [3.0]}}),
        (VALUE, {"seen": [1.1]}),
        (VALUE, {"alive": [np.nan]}),
        (CLASSES, {"probability": {"no": 0.4, "yes": 0.5}}),
        (CLASSES, {"probability": {"no": -0.1, "yes": 1.1}}),
    ],
)
def test_a_wrong_answer_is_seen(right, wrong):
    check_answer(right)
    with pytest.raises(AssertionError):
        check_answer(right | wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"risk": [0.3, 0.2]}, {"risk": [0.3, np.nan]}, {"value": [2.0, 1.0]}, {"outcome": ["sick", "sick"]}],
)
def test_a_wrong_table_is_seen(wrong):
    each = {"outcome": ["death"] * 2, "id": ["a"] * 2, "landmark": [3.0] * 2, "cause": ["death"] * 2}
    right = {"horizon": [1.0, 2.0], "to": [9.0] * 2, "quantile": [0.1, 0.9], "split": ["test"] * 2}
    kinds = {"death": CURVES, "sick": CLASSES}
    right = each | right | {"risk": [0.2, 0.3], "value": [1.0, 2.0]}
    check_table(pl.DataFrame(right), kinds)
    with pytest.raises(AssertionError):
        check_table(pl.DataFrame(right | wrong), kinds)


def test_wrong_figures_are_seen():
    from gnnpatient.datasets.shipped import pbc

    X = pbc().at("3d").followed("death")
    patients, events = expected_counts(X, "death")
    assert patients == 312 and events == {"death": 140, "transplant": 29}
    about = {"outcome": "death", "patients": patients, "held_out": patients, "events": events, "warnings": []}
    place = {"model": "gnn", "cause": "death", "horizon": 1826.25, "low": 0.7, "high": 0.9}
    held = {"value": 0.9, "low": 0.88, "high": 0.93, "patients": 300}
    right = {"rows": [{**place, "metric": "auc", "value": 0.8}], "calibrated": [held]}
    check_scores(about | right, X)
    many = {"death": 141, "transplant": 29}
    for wrong in (
        {"patients": 311},
        {"events": many},
        {"rows": [{**place, "metric": "auc", "value": 1.1}]},
        {"rows": [{**place, "metric": "scaled_ibs", "value": np.inf}]},
        {"rows": [{**place, "metric": "auc", "value": None}]},
        {"rows": [{**place, "metric": "auc", "value": 0.8, "low": 0.95}]},
        {"calibrated": [held | {"value": 0.95}]},
    ):
        with pytest.raises(AssertionError):
            check_scores(about | right | wrong, X)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:outcome .* patients with an event")
@pytest.mark.usefixtures("given_ridge", "few_draws")
@pytest.mark.parametrize("name", [*FOLDERS, *TWICE])
def test_from_the_folder_to_every_answer(name, data_dir, tmp_path, capsys):
    """Of all outcomes of every cohort: fit, ask, predict and evaluate, and compare of the first one."""
    from gnnpatient.cli import run

    def call(command, *words):
        capsys.readouterr()
        assert run([command, *map(str, words)]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    folder = {**FOLDERS, **TWICE}[name]
    packed, fitted, table = tmp_path / "cohort", tmp_path / "run", tmp_path / "asked.parquet"
    call("pack", name, "--data", data_dir / folder, "--out", packed)
    few, day = ["--members", 1, "--epochs", 1], "1d" if folder == "eicu-demo" else "3d"
    call("fit", packed, "--out", fitted, "--landmarks", day, *few)
    held_out = json.loads((fitted / "split.json").read_text())["test"]
    patient = held_out[0]
    answer = json.loads(call("ask", fitted, packed, "--patient", patient, "--json"))
    outcomes = answer["outcomes"]
    assert answer["at_risk"] and sum(answer["known"].values())
    for outcome in outcomes.values():
        check_answer(outcome)
    kinds = {one["kind"] for one in outcomes.values()}
    to = ["--to", "6y"] if "progression" in kinds else []
    horizons = ["--horizons", "12h,1d"] if kinds - {"diagnosis", "progression"} else []
    call("predict", fitted, packed, "--at", day, *horizons, *to, "--out", table)
    asked = pl.read_parquet(table)
    assert set(asked["outcome"]) == set(outcomes) and set(asked["split"]) == {"train", "test"}
    check_table(asked, outcomes)
    found = json.loads(call("evaluate", fitted, packed, "--json", *to))
    scored = {one["outcome"]: one for one in found.get("outcomes", [found])}
    assert set(scored) == set(outcomes)
    for outcome, one in scored.items():
        check_scores(one, scored_landmarks(packed, outcome, held_out, day))
        assert {"gnn", "null"} <= {row["model"] for row in one["rows"]}, outcome
    if name.startswith("tcga"):  # thousands of genes take six minutes; experiments/fusion.py compares them
        return
    # That it answers on every cohort is asked here, not what it finds: two folds of few patients, and the two
    # node types with the fewest rows, for it fits each type alone and without each.
    first, folds = next(iter(outcomes)), tmp_path / "folds.csv"
    few_folds(packed, first).write_csv(folds)
    words = ["--outcome", first, "--json", *few, "--folds", folds]
    rows = json.loads(call("compare", of_two_types(packed, tmp_path / "two"), *words))["rows"]
    beside = {"recurrent": "number_scaled_mse", "states": "state_scaled_ibs"}.get(outcomes[first]["kind"])
    names = {row["model"] for row in rows if row["metric"] == beside}
    assert len(rows) and (beside is None or {"gnn", "best single", "late", "null"} <= names)


@pytest.mark.slow
def test_the_threads_of_polars_change_nothing(data_dir, tmp_path):
    """`make test` gives it one, a user one for each core: the same bytes of three readers."""
    folders = {
        name: str(data_dir / FOLDERS[name])
        for name in ("omop-synthea-1k", "fhir-synthea-r4", "mimic-iv-demo-meds")
    }
    code = f"""
import sys
from gnnpatient import read_cohort
for name, folder in {folders}.items():
    read_cohort(name, folder).save(f"{{sys.argv[1]}}/{{name}}")
"""
    for threads in ("1", "4"):
        (tmp_path / threads).mkdir()
        env = {**os.environ, "POLARS_MAX_THREADS": threads}
        subprocess.run([sys.executable, "-c", code, tmp_path / threads], env=env, check=True)
    for name in folders:
        one, four = ((tmp_path / threads / name / "pieces.sha256").read_bytes() for threads in ("1", "4"))
        assert one and one == four, name
