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


def check_answer(outcome):
    """What `ask --json` says of an outcome is a distribution."""
    if outcome["kind"] == "progression":
        heights = list(outcome["quantiles"].values())
        assert len(heights) > 2 and np.isfinite(heights).all() and (np.diff(heights, axis=0) > 0).all()
        return
    if outcome["kind"] == "diagnosis":
        assert outcome.get("form") == "labels" or np.isclose(sum(outcome["probability"].values()), 1)
        return
    total = np.array(outcome["event_free"]) + sum(map(np.array, outcome["incidence"].values()))
    assert np.allclose(total, 1, atol=1e-6)


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
    patient = json.loads((fitted / "split.json").read_text())["test"][0]
    answer = json.loads(call("ask", fitted, packed, "--patient", patient, "--json"))
    outcomes = answer["outcomes"]
    assert answer["at_risk"] and sum(answer["known"].values())
    for outcome in outcomes.values():
        check_answer(outcome)
    to = ["--to", "6y"] if "progression" in {one["kind"] for one in outcomes.values()} else []
    call("predict", fitted, packed, "--at", day, "--horizons", "1d", *to, "--out", table)
    asked = pl.read_parquet(table)
    assert set(asked["outcome"]) == set(outcomes) and set(asked["split"]) == {"train", "test"}
    found = json.loads(call("evaluate", fitted, packed, "--json", *to))
    scored = {one["outcome"]: one for one in found.get("outcomes", [found])}
    assert set(scored) == set(outcomes)
    for outcome, one in scored.items():
        assert {"gnn", "null"} <= {row["model"] for row in one["rows"]}, outcome
    if name.startswith("tcga"):  # thousands of genes take six minutes; experiments/fusion.py compares them
        return
    # That it answers on every cohort is asked here, not what it finds: two folds of few patients, and the two
    # node types with the fewest rows, for it fits each type alone and without each.
    first, folds = next(iter(outcomes)), tmp_path / "folds.csv"
    few_folds(packed, first).write_csv(folds)
    words = ["--outcome", first, "--json", *few, "--folds", folds]
    assert json.loads(call("compare", of_two_types(packed, tmp_path / "two"), *words))["rows"]


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
