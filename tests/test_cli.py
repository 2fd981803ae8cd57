"""The command line as a user types it: answers, exit codes, one line for bad input."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

CONFIG = """[train]
members = 5
epochs = 2
channels = 8
batch_size = 32
horizon = "10d"
landmarks = "0,2,4,7"
"""


def start(*words, env=(), before=""):
    """The command in a process of its own."""
    code = f"{before}\nfrom gnnpatient.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **dict(env)})


def by_itself(*words, before=""):
    """What a command that must work says, in a process of its own: not slowed by checks of shapes."""
    process = start(*words, before=before)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


@pytest.fixture
def cli(capsys):
    """Run a command: exit code, standard output, standard error."""

    def call(*words):
        from gnnpatient.cli import run

        capsys.readouterr()
        code = run([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def good(cli):
    """Run a command that must work; what it said, parsed where it is JSON."""

    def call(*words):
        code, out, err = cli(*words)
        assert code == 0, err
        return json.loads(out) if "--json" in words else out

    return call


@pytest.fixture
def refused(cli):
    """Run a command that must be refused; its one line."""

    def call(*words):
        code, out, err = cli(*words)
        assert code == 2, (out, err)
        assert err.startswith("gnnpatient: ") and err.count("\n") == 1 and "Traceback" not in err
        return err

    return call


@pytest.fixture(scope="session")
def ward(tmp_path_factory):
    """Tables, a packed cohort, a configuration and a run, in a folder with a space and an umlaut."""
    from gnnpatient.cli import run
    from gnnpatient.testing import write_ward

    folder = tmp_path_factory.mktemp("a wärd")
    write_ward(folder)
    (folder / "fit.toml").write_text(CONFIG)
    config = ("--config", str(folder / "fit.toml"))
    assert run(["pack", str(folder / "ward.toml"), "--out", str(folder / "cohort")]) == 0
    assert run(["fit", str(folder / "cohort"), "--out", str(folder / "run"), *config]) == 0
    return folder


@pytest.fixture(scope="session")
def split(ward):
    return json.loads((ward / "run" / "split.json").read_text())


# ---- answers


def test_check_of_thousands_of_columns_stays_readable(good, tmp_path):
    spec = """
cohort = "wide"
[patient]
table = "wide.csv"
key = "pid"
[nodes.gene]
table = "wide.csv"
untimed = "origin"
columns = { "g*" = "" }
"""
    (tmp_path / "wide.toml").write_text(spec)
    lines = [["pid", *(f"g{i}" for i in range(70))], *([f"p{n}", *("5" * 70)] for n in range(20))]
    (tmp_path / "wide.csv").write_text("\n".join(map(",".join, lines)) + "\n")
    assert len(good("check", tmp_path / "wide.toml", "--json")["flags"]) >= 70  # each column is constant
    said = good("check", tmp_path / "wide.toml")
    assert said.count("flag: ") == 60 and re.search(r"and \d+ flags more", said)


def test_check(good, ward):
    found = good("check", ward / "ward.toml", "--json")
    assert list(found)[:6] == ["cohort", "tables", "kinds", "flow", "flags", "leaks"]
    assert found["cohort"] == "tiny" and found["leaks"] == []
    (flag,) = found["flags"]  # 2 + noise is rarely below 0
    assert flag.startswith("lab.lactate: negative: 2 of 218 values")
    assert set(found["tables"]) == {"patients.csv", "labs.csv", "vitals.csv", "drugs.csv"}
    for name, counts in found["tables"].items():
        assert list(counts) == ["rows", "used", "collapsed", "refused"]
        assert counts["rows"] == len((ward / name).read_text().splitlines()) - 1
        assert counts["rows"] == counts["used"] + counts["collapsed"] + sum(counts["refused"].values())
    assert set(found["kinds"]) == {"lab", "vital", "drug"}
    for kind in ("lab", "drug"):  # a long table: a row is a node
        assert found["kinds"][kind] == found["tables"][f"{kind}s.csv"]["used"]
    assert found["kinds"]["vital"] > found["tables"]["vitals.csv"]["used"]  # a wide one: two a row, at most
    said = good("check", ward / "ward.toml")
    assert "Cohort tiny" in said and "sample size: death, death: " in said


def test_check_shows_who_stays_in_at_each_step(good, ward):
    with open(ward / "patients.csv", newline="") as file:
        patients = list(csv.DictReader(file))
    died, left = (sum(row[column] == "1" for row in patients) for column in ("died", "discharged"))
    found = good("check", ward / "ward.toml", "--json")["flow"]
    assert all(list(step) == ["outcome", "step", "n"] for step in found)
    assert {step["outcome"] for step in found} == {"death"}
    steps = {step["step"]: step["n"] for step in found}
    assert next(iter(steps.items())) == ("in the patient table", len(patients))
    assert steps["event: death"] == died and steps["event: discharge"] == left
    assert sum(n for step, n in steps.items() if step.startswith(("event", "censored"))) == len(patients)


@pytest.fixture
def broken(ward, tmp_path):
    """The ward with a row of each sort that is refused, and its spec."""
    folder = tmp_path / "broken"
    folder.mkdir()
    for file in (*ward.glob("*.csv"), ward / "ward.toml"):
        (folder / file.name).write_bytes(file.read_bytes())
    with open(folder / "labs.csv", "a") as file:
        file.write('p001,1,1,"=1+1",oops,mg/dL\n')  # no number
        file.write("@nobody,1,1,sodium,140,mEq/L\n")
        file.write("p001,9,2,sodium,-140,mEq/L\n")  # known before it happened
        file.write("p001,9,9,glucose,140,furlong\n")
        file.write("p001,9,9,glucose,9999,mg/dL\n")
    return folder


def test_check_counts_what_it_refuses_and_keeps_the_rows_where_it_is_told(good, broken, tmp_path):
    lines = len((broken / "labs.csv").read_text().splitlines())
    why = [
        "value not a finite number",
        "patient not in the patient table",
        "happened after it was known",
        "unknown unit",
        "out of range",
    ]
    before = {file.name for file in broken.iterdir()}
    found = good("check", broken / "ward.toml", "--json")["tables"]["labs.csv"]
    assert found["refused"] == dict.fromkeys(why, 1)
    assert found["rows"] == lines - 1 == found["used"] + found["collapsed"] + len(why)
    assert {file.name for file in broken.iterdir()} == before and not (tmp_path / "kept").exists()

    again = good("check", broken / "ward.toml", "--json", "--quarantine", tmp_path / "kept")
    assert again["tables"]["labs.csv"] == found
    written = {file.name for file in (tmp_path / "kept").iterdir()}
    assert written == {name for name, counts in again["tables"].items() if counts["refused"]}
    assert "drugs.csv" not in written
    with open(tmp_path / "kept" / "labs.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["reason"] for row in rows] == why
    assert [int(row["line"]) for row in rows] == list(range(lines - 4, lines + 1))
    assert rows[0]["analyte"] == "'=1+1" and rows[1]["pid"] == "'@nobody" and rows[2]["result"] == "'-140"
    assert rows[3]["unit"] == "furlong"
    said = good("check", broken / "ward.toml", "--quarantine", tmp_path / "kept")
    assert "1 unknown unit" in said and "they hold patients" in said
    assert "nobody" not in said  # not what the rows hold of a patient
    assert "furlong" in said  # a unit is no patient's


def test_check_finds_a_planted_leak(good, tmp_path):
    """Two: a drug that only the dying get, hours before; a number that is set at discharge."""
    from gnnpatient.testing import write_ward

    spec = write_ward(tmp_path, 200)
    clean = good("check", spec, "--json", "--leaks")
    assert clean["leaks"] == [] and "leaks: none found" in good("check", spec, "--leaks")
    with open(tmp_path / "patients.csv", newline="") as file:
        patients = list(csv.DictReader(file))
    with open(tmp_path / "drugs.csv", "a") as file:
        for row in patients:
            if row["died"] == "1":
                file.write(f"{row['pid']},{float(row['left']) - 0.005:.3f},comfort\n")
    found = good("check", spec, "--json", "--leaks")["leaks"]
    (worst, *_) = [leak for leak in found if leak["code"] == "comfort"]
    assert (worst["outcome"], worst["cause"], worst["kind"], worst["what"]) == (
        "death",
        "death",
        "drug",
        "presence",
    )
    assert worst["near"] > 0.95 and worst["message"].startswith("drug 'comfort': ")
    assert f"leak: {worst['message']}" in good("check", spec, "--leaks")
    assert good("check", spec, "--json")["leaks"] == []  # not looked for


def test_check_makes_table_1(good, ward):
    pytest.importorskip("tableone")
    found = good("check", ward / "ward.toml", "--json", "--table1")["table1"]
    head, *rows = found["death"]
    assert {"event_free", "discharge", "death"} < set(head)
    assert len({len(row) for row in (head, *rows)}) == 1
    first = dict(zip(head, rows[0], strict=True))
    with open(ward / "patients.csv", newline="") as file:
        died = sum(row["died"] == "1" for row in csv.DictReader(file))
    assert rows[0][0] == "n" and first["death"] == str(died)
    assert {"age, median [Q1,Q3]", "sex, n (%)"} <= {row[0] for row in rows}
    assert "Table 1: death" in good("check", ward / "ward.toml", "--table1")


def test_check_makes_table_1_of_a_diagnosis(good, sick):
    pytest.importorskip("tableone")
    found = good("check", sick[0] / "ward.toml", "--json", "--table1")["table1"]
    assert found.keys() == {"death", "icu"} and found["icu"][0][-2:] == ["no", "yes"]


def with_dates(source, folder):
    """The same tables and spec with whole numbers as ids and a calendar; day 0 of each id."""
    from datetime import datetime, timedelta

    folder.mkdir()
    for file in source.glob("*.csv"):
        (folder / file.name).write_text(re.sub(r"(?m)^p(\d\d\d),", r"1\1,", file.read_text()))
    head, *rows = (folder / "patients.csv").read_text().splitlines()
    start = {row[:4]: datetime(2021, 1, 1) + timedelta(days=i, hours=i % 24) for i, row in enumerate(rows)}
    rows = [f"{row},{start[row[:4]]:%Y-%m-%dT%H:%M}" for row in rows]
    (folder / "patients.csv").write_text("\n".join((f"{head},start", *rows)) + "\n")
    spec = (source / "ward.toml").read_text().replace('key = "pid"', 'key = "pid"\norigin = "start"')
    (folder / "ward.toml").write_text(spec)
    return start


def meds_labels(folder):
    """Every table of MEDS labels below a folder: {name: {(subject, seconds): value}}."""
    import polars as pl

    found = {}
    for path in folder.rglob("*.parquet"):
        table = pl.read_parquet(path)
        assert dict(table.schema) == {
            "subject_id": pl.Int64,
            "prediction_time": pl.Datetime("us"),
            "float_value": pl.Float32,
        }
        assert table.equals(table.sort("subject_id", "prediction_time"))
        rows = {(who, at.timestamp()): value for who, at, value in table.iter_rows()}
        assert len(rows) == len(table)
        found[str(path.relative_to(folder))] = rows
    return found


@pytest.fixture
def dated(ward, tmp_path):
    """The ward with a calendar: the folder, and day 0 of each id."""
    return tmp_path / "dated", with_dates(ward, tmp_path / "dated")


def test_predict_writes_meds_labels(good, ward, dated, tmp_path):
    import polars as pl

    folder, start = dated
    good("pack", folder / "ward.toml", "--out", folder / "cohort")
    ask = ("predict", ward / "run", folder / "cohort", "--at", "1,36h", "--horizons", "4,7.5")
    good(*ask, "--out", tmp_path / "r.parquet", "--meds", tmp_path / "meds")
    labels, causes = meds_labels(tmp_path / "meds"), ("discharge", "death")
    assert set(labels) == {f"death/{cause}/{days}d.parquet" for cause in causes for days in ("4", "7.5")}
    risks = pl.read_parquet(tmp_path / "r.parquet")
    for cause in causes:
        for days in (4, 7.5):
            found = labels[f"death/{cause}/{days:g}d.parquet"]
            rows = risks.filter(cause=cause, horizon=days)
            expected = {
                (int(row["id"]), start[row["id"]].timestamp() + row["landmark"] * 86_400): row["risk"]
                for row in rows.iter_rows(named=True)
            }
            assert len(found) > 80 and found == pytest.approx(expected, abs=1e-6)


def test_predict_refuses_meds_labels_without_dates_or_whole_numbers(refused, good, ward, dated, tmp_path):
    folder, _ = dated
    ask = ("--at", "1", "--horizons", "4", "--out", tmp_path / "r.csv", "--meds", tmp_path / "meds")
    assert "MEDS labels need dates" in refused("predict", ward / "run", ward / "cohort", *ask)
    for one in ("patients.csv", "labs.csv"):
        file = folder / one
        file.write_text(file.read_text().replace("\n1000,", "\n01000,"))
    good("pack", folder / "ward.toml", "--out", folder / "cohort")
    said = refused("predict", ward / "run", folder / "cohort", *ask)
    assert "MEDS wants whole numbers as ids, 1 here are not" in said
    assert not (tmp_path / "meds").exists() and not (tmp_path / "r.csv").exists()


def test_init_refuses_what_is_there_and_what_is_no_toml(refused, ward, tmp_path):
    pytest.importorskip("gnnpatient.propose")
    before = (ward / "ward.toml").read_bytes()
    assert "is there already; give --out a new name" in refused("init", ward, "--out", ward / "ward.toml")
    assert (ward / "ward.toml").read_bytes() == before
    assert "a spec is a .toml file" in refused("init", ward, "--out", tmp_path / "spec.yaml")
    assert "Missing option '--out'" in refused("init", ward)
    refused("init", tmp_path / "nothing", "--out", tmp_path / "spec.toml")
    refused("init", tmp_path, "--out", tmp_path / "spec.toml")
    refused("init", ward, "--out", tmp_path / "no" / "spec.toml")
    assert not list(tmp_path.iterdir())


def test_an_init_that_works_is_checked_next(good, ward, tmp_path):
    pytest.importorskip("gnnpatient.propose")
    said = good("init", ward, "--out", tmp_path / "spec.toml")
    assert "a draft; read it, then gnnpatient check" in said and (tmp_path / "spec.toml").is_file()


def test_info_of_cohort_run_and_model(good, ward):
    cohort, run = good("info", ward / "cohort", "--json"), good("info", ward / "run", "--json")
    assert cohort["patients"] == 80 and cohort["codes"]["drug"] == 3
    assert run["finished"] and run["train"] + run["test"] == 80 and run["epochs"] == 10
    assert good("info", ward / "run" / "model", "--json") == run
    assert "p001" not in good("info", ward / "run") + good("info", ward / "cohort")


def test_evaluate_leaves_out_the_training_patients(ward, split):
    ask = ("evaluate", ward / "run" / "model", ward / "cohort", "--landmarks", "0,2", "--horizons", "6")
    said = (
        start(*ask, "--by", "sex"),
        start(*ask, "--json"),
    )  # in processes of their own: not slowed by checks
    (table, err), (answer, _) = (process.communicate(timeout=120) for process in said)
    assert f"{len(split['train'])} training patients left out" in err
    assert "too small to judge" in table and "gnn - cox" in table and "sex=female" in table
    found = json.loads(answer)
    assert found["outcome"] == "death" and found["held_out"] == len(split["test"])
    assert 0 < found["patients"] <= len(split["test"])
    names = {"model", "landmark", "horizon", "metric", "value", "low", "high", "group", "cause"}
    assert all(set(row) >= names for row in found["rows"])
    assert {row["model"] for row in found["rows"]} == {"gnn", "cox", "null", "gnn-cox"}
    assert {row["landmark"] for row in found["rows"]} == {0, 2, None}


def test_evaluate_by_a_model_of_censoring_shows_both(ward):
    ask = ("evaluate", ward / "run", ward / "cohort", "--landmarks", "0", "--horizons", "4")
    said = [start(*ask, "--censoring", how, *more) for how, *more in (("cox", "--json"), ("cox",), ("me",))]
    (answer, _), (table, err), (_, refused) = (process.communicate(timeout=300) for process in said)
    found = json.loads(answer)
    for one in ("km", "cox"):
        rows = [row for row in found["rows"] if row["censoring"] == one]
        assert {"gnn", "null"} <= {row["model"] for row in rows}
        assert len({row["metric"] for row in rows}) > 4 and {"draws", "interval", "moved"} <= set(rows[0])
    text = " ".join(table.split())
    assert "censoring by last observations (cox)" in text and "Intervals resample groups" in text
    assert [f"warning: {line}" in err for line in found["warnings"]] == [True] * len(found["warnings"])
    assert said[2].returncode == 2 and "--censoring 'me'; km or cox would do" in refused


def test_evaluate_elsewhere_is_external_validation(cli, ward, tmp_path):
    from gnnpatient.cli import run
    from gnnpatient.testing import write_ward

    spec = write_ward(tmp_path, 30, seed=1)
    spec.write_text(spec.read_text().replace('cohort = "tiny"', 'cohort = "elsewhere"'))
    assert run(["pack", str(spec), "--out", str(tmp_path / "cohort")]) == 0
    code, out, err = cli(
        "evaluate", ward / "run", tmp_path / "cohort", "--landmarks", "1", "--horizons", "5", "--json"
    )
    assert code == 0 and "external validation" in err and "ids of training patients" in err
    assert {row["model"] for row in json.loads(out)["rows"]} == {"gnn", "null"}


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


def test_ids_dealt_anew_are_still_the_same_people(ward, dealt, split, good, tmp_path):
    """Whoever was trained on is left out under whatever id, in evaluate, predict and ask."""
    folder, was = dealt
    side = {one: "train" if one in split["train"] else "test" for one in was}
    few = few_rows(folder)
    assert sum(side[new] != side[old] for new, old in was.items() if new not in few) > 10
    trained = {new for new, old in was.items() if side[old] == "train"}
    ask = ("evaluate", ward / "run", folder / "cohort", "--landmarks", "0,2", "--horizons", "6", "--json")
    out, err = start(*ask).communicate(timeout=300)
    found = json.loads(out)
    assert re.search(r"\d+ patients have another id than at the fit and the same record: each may be", err)
    assert "training patients left out" in err and "the very one of the fit" in err
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


def test_who_was_trained_on_is_said_and_unknown_without_the_run(ward, split, good, cli, tmp_path):
    import shutil

    shutil.copytree(ward / "run" / "model", tmp_path / "given" / "model")
    words = ("--at", "0", "--horizons", "5", "--out", tmp_path / "r.csv")
    for run, known in ((ward / "run", True), (ward / "run" / "model", True), (tmp_path / "given", False)):
        good("predict", run, ward / "cohort", *words)
        with open(tmp_path / "r.csv", newline="") as file:
            said = {row["id"]: row["split"] for row in csv.DictReader(file)}
        assert len(said) > 60
        for one, side in said.items():
            assert side == (("train" if one in split["train"] else "test") if known else "")
        for side in ("train", "test"):
            ask = ("ask", run, ward / "cohort", "--patient", split[side][0], "--json")
            assert good(*ask)["split"] == (side if known else None)


def test_a_changed_cohort_or_model_is_refused_by_every_command(ward, refused, tmp_path):
    """One flipped bit; another array; names exchanged in the config: one line each, the file, the way out."""
    import shutil

    for name in ("cohort", "run"):
        shutil.copytree(ward / name, tmp_path / name)
    run, cohort = tmp_path / "run", tmp_path / "cohort"
    uses = [
        ("evaluate", run, cohort),
        ("predict", run, cohort, "--at", "1", "--horizons", "5", "--out", tmp_path / "r.csv"),
        ("ask", run, cohort, "--patient", "p001", "--at", "1"),
    ]
    on_cohort = [
        ("fit", cohort, "--out", tmp_path / "new", "--config", ward / "fit.toml"),
        ("fit", cohort, "--out", run, "--resume"),
        ("export", cohort, "--patient", "p001", "--format", "json", "--out", tmp_path / "g.json"),
    ]
    for file in (cohort / "lab.value.npy", cohort / "outcome.death.time.npy", cohort / "patient.id.npy"):
        whole = file.read_bytes()
        file.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
        for use in uses + on_cohort:
            line = refused(*use)
            assert file.name in line and line.endswith("; pack the cohort again\n"), (use, line)
        file.write_bytes(whole)
    assert not (tmp_path / "new").exists() and not (tmp_path / "r.csv").exists()
    manifest = cohort / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(
        whole.replace('"lactate"', '"?"').replace('"sodium"', '"lactate"').replace('"?"', '"sodium"')
    )
    for use in [*uses, *on_cohort, ("info", cohort)]:
        assert "manifest.json: not as pack wrote it" in refused(*use)
    manifest.write_text(whole)
    config = run / "model" / "config.json"
    whole = config.read_text()
    config.write_text(
        whole.replace('"lactate"', '"?"').replace('"sodium"', '"lactate"').replace('"?"', '"sodium"')
    )
    for use in [*uses, ("info", run)]:
        assert "config.json: not as it was written" in refused(*use)


def test_no_name_leads_out_of_the_folder_of_meds(sick, good, refused, tmp_path):
    """A head named ../../pwn is refused where it is read, and would stay inside where its path is made."""
    import shutil

    import polars as pl

    from gnnpatient.cli.main import _meds
    from gnnpatient.cohort.cohort import open_cohort
    from gnnpatient.files import sealed

    source, folder = sick[0], tmp_path / "dated"
    with_dates(source, folder)
    good("pack", folder / "ward.toml", "--out", folder / "cohort")
    shutil.copytree(source / "run" / "model", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    del config["digest"]
    for part in (config["model"]["heads"], config["null"]):
        part["../../pwn"] = part.pop("icu")
    (tmp_path / "model" / "config.json").write_text(sealed(config))
    inner = tmp_path / "in" / "meds"
    words = ("--at", "1", "--horizons", "5", "--out", tmp_path / "r.csv", "--meds", inner)
    assert "not the config" in refused("predict", tmp_path / "model", folder / "cohort", *words)
    cohort = open_cohort(folder / "cohort")
    names = ["../../pwn", "/pwn", "..", ".", "a/b", "nul", "con.txt", "x" * 500, "a\0b", "death"]
    rows = pl.DataFrame({"outcome": names, "cause": names[::-1]}).with_columns(
        id=pl.lit(str(cohort.ids[0])), landmark=1.0, horizon=5.0, risk=0.5
    )
    before = {path for path in tmp_path.rglob("*")}
    _meds(rows, cohort, inner)
    new = {path for path in tmp_path.rglob("*")} - before
    files = [path for path in new if path.is_file()]
    assert len(files) == len(names) and all(path.parent.parent.parent == inner for path in files)
    assert all(path == inner.parent or path.is_relative_to(inner) for path in new)
    from gnnpatient import InputError

    case = rows.with_columns(outcome=pl.lit("death"), cause=pl.lit("Death")).head(1)
    case = pl.concat([case, case.with_columns(cause=pl.lit("death"))])
    with pytest.raises(InputError, match="make the same file name"):
        _meds(case, cohort, tmp_path / "case")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_predict_writes_the_numbers_of_python(cli, ward, tmp_path, suffix):
    import polars as pl

    from gnnpatient import PrognosisModel, open_cohort

    file = tmp_path / f"risks.{suffix}"
    command = ("predict", ward / "run", ward / "cohort", "--at", "1,72h", "--horizons", "4,8d")
    code, _, err = cli(*command, "--out", file)
    table = pl.read_csv(file) if suffix == "csv" else pl.read_parquet(file)
    assert code == 0
    assert table.columns == ["id", "landmark", "outcome", "cause", "horizon", "risk", "low", "high", "split"]
    cohort = open_cohort(ward / "cohort")
    X = cohort.landmarks(times=[1, 3])
    risk = X.at_risk("death")
    assert f"{(~risk).sum()} of {len(X)} asks left out" in err
    assert len(table) == 2 * 2 * risk.sum()
    forecast = PrognosisModel.from_pretrained(ward / "run").forecast(X[risk])["death"]
    mine = table.filter(cause="death", horizon=8.0)
    assert (
        mine["id"].to_list() == X[risk].ids.tolist() and mine["landmark"].to_list() == X[risk].days.tolist()
    )
    low, high = forecast.spread(8.0, "death")
    for column, value in {"risk": forecast.risk("death", 8.0), "low": low, "high": high}.items():
        np.testing.assert_allclose(mine[column], value, atol=1e-6)


def test_predict_disarms_formulas(good, ward, tmp_path):
    from gnnpatient import open_cohort

    cohort = open_cohort(ward / "cohort")
    ids = np.array(["+1", "=1+1", "@x", *cohort.ids[3:]])
    from dataclasses import replace

    replace(cohort, ids=ids).save(tmp_path / "cohort")
    good(
        "predict",
        ward / "run",
        tmp_path / "cohort",
        "--at",
        "0",
        "--horizons",
        "5",
        "--out",
        tmp_path / "r.csv",
    )
    with open(tmp_path / "r.csv", newline="") as file:
        written = {row["id"] for row in csv.DictReader(file)}
    assert {"'+1", "'=1+1", "'@x"} <= written and not any(one[0] in "=+-@" for one in written)


def someone(ward, day):
    """A patient at risk on a day who has rows before and after it."""
    from gnnpatient import open_cohort

    cohort = open_cohort(ward / "cohort")
    lab, when = cohort.events["lab"], int(day * 86_400)
    for i in range(len(cohort)):
        known = lab.known[lab.ptr[i] : lab.ptr[i + 1]]
        later = known < cohort.outcomes["death"].time[i]
        if (
            (known <= when).any()
            and ((known > when) & later).any()
            and cohort.outcomes["death"].time[i] > when
        ):
            return cohort, str(cohort.ids[i])
    raise AssertionError


def test_ask(good, ward):
    _, patient = someone(ward, 3)
    found = good("ask", ward / "run", ward / "cohort", "--patient", patient, "--at", "3", "--json")
    keys = ["patient", "at", "split", "at_risk", "known", "statics", "missing", "unknown", "notes"]
    keys += ["outcomes"]
    assert list(found) == keys and all("far outside the training range" in line for line in found["notes"])
    assert found["patient"] == patient and found["at"] == 3 and found["at_risk"]
    assert set(found["known"]) == {"lab", "vital", "drug"}
    assert found["missing"] == [kind for kind, n in found["known"].items() if not n]
    death = found["outcomes"]["death"]
    assert (
        set(death) == {"kind", "times", "event_free", "incidence", "low", "high"}
        and death["kind"] == "survival"
    )
    total = np.array(death["event_free"]) + sum(map(np.array, death["incidence"].values()))
    np.testing.assert_allclose(total, 1, atol=1e-6)
    for cause in ("discharge", "death"):
        assert (np.array(death["low"][cause]) <= np.array(death["high"][cause]) + 1e-12).all()
    said = good("ask", ward / "run", ward / "cohort", "--patient", patient, "--at", "3")
    assert "as of day 3" in said and "event-free" in said and "Research use only" in said
    assert f"{found['statics']} statics" in said and 0 < found["statics"] <= 2


def test_what_is_said_of_small_and_large_risks():
    from gnnpatient.cli.main import _percent

    one = np.array([0.001])
    assert _percent(one, (one, np.array([0.02]))) == "<1 % [<1 to 2]"
    assert _percent(np.array([0.9991]), None) == ">99 %" and _percent(np.array([0.424]), None) == "42 %"


def test_version_and_help(good):
    import gnnpatient

    assert good("--version") == f"gnnpatient {gnnpatient.__version__}\n"
    text = " ".join(good("fit", "--help").split())
    assert "choices as [train] of a .toml" in text and "[default: 0.2]" in text


def test_an_unknown_outcome_is_refused_before_torch_is_loaded(ward):
    """In a process of its own, where torch cannot be loaded at all."""
    for words in (("fit", ward / "cohort", "--out", ward / "none"), ("compare", ward / "cohort")):
        process = start(*words, "--outcome", "deth", before="import sys; sys.modules['torch'] = None")
        _, err = process.communicate(timeout=120)
        assert process.returncode == 2 and "unknown outcome 'deth'; did you mean 'death'" in err, err


def test_asks_outside_the_fitted_days_are_told(cli, ward, tmp_path):
    """Fitted at days 0 to 7: day 3 is inside, 20 is not; in ask, predict and evaluate."""
    _, patient = someone(ward, 3)
    for day, told in (("3", False), ("20", True)):
        where = ("--at", day)
        code, out, err = cli("ask", ward / "run", ward / "cohort", "--patient", patient, *where)
        assert code == 0 and ("outside the fitted days (from 0 d to 7 d)" in out) == told
        file = tmp_path / f"{day}.csv"
        code, _, err = cli("predict", ward / "run", ward / "cohort", *where, "--horizons", "5", "--out", file)
        assert code == 0 and ("asks lie outside the fitted days" in err) == told
    code, _, err = cli("evaluate", ward / "run", ward / "cohort", "--landmarks", "9", "--horizons", "5")
    assert code == 0 and "outside the fitted days" in err


@pytest.mark.gpu
def test_fit_on_a_gpu_and_predict_on_either(good, ward, tmp_path, split, monkeypatch):
    import polars as pl
    import torch

    run = tmp_path / "run"
    good("fit", ward / "cohort", "--out", run, "--config", ward / "fit.toml", "--device", "cuda")
    ask = ("ask", run, ward / "cohort", "--patient", split["test"][0], "--at", "2", "--json")
    predict = ("predict", run, ward / "cohort", "--at", "1,3", "--horizons", "4,8", "--out")
    said = [good(*ask)]
    good(*predict, tmp_path / "gpu.csv")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said.append(good(*ask))
    good(*predict, tmp_path / "cpu.csv")
    assert said[0] == said[1], "one ask is answered on the CPU anyway"
    gpu, cpu = (pl.read_csv(tmp_path / name)["risk"].to_numpy() for name in ("gpu.csv", "cpu.csv"))
    assert len(cpu) > 100 and cpu.max() > 0.1 and not np.array_equal(gpu, cpu)
    assert np.allclose(gpu, cpu, rtol=0, atol=1e-4)


def test_ask_does_not_see_the_future(good, ward, tmp_path):
    from dataclasses import replace

    cohort, patient = someone(ward, 3)
    asks = ("--patient", patient, "--at", "3", "--json")
    before = good("ask", ward / "run", ward / "cohort", *asks)
    lab = cohort.events["lab"]
    poisoned = replace(lab, value=np.where(lab.known > 3 * 86_400, np.float32(1e9), lab.value))
    replace(cohort, events={**cohort.events, "lab": poisoned}).save(tmp_path / "later")
    assert good("ask", ward / "run", tmp_path / "later", *asks) == before
    last = good("ask", ward / "run", ward / "cohort", "--patient", patient, "--json")  # the last known moment
    assert last["at"] > 3 and last["at_risk"] and last["known"]["lab"] > before["known"]["lab"]
    assert last["at"] * 86_400 < cohort.outcomes["death"].time[cohort.positions(patient)[0]]


def test_ask_on_a_day_when_not_at_risk_draws_no_curve(good, ward):
    found = good("ask", ward / "run", ward / "cohort", "--patient", "p001", "--at", "1y", "--json")
    assert not found["at_risk"] and found["outcomes"] == {}
    assert "no curve" in good("ask", ward / "run", ward / "cohort", "--patient", "p001", "--at", "1y")


def test_an_unknown_code_a_missing_kind_and_one_patient(good, ward, tmp_path):
    (tmp_path / "patients.csv").write_text("pid,age,sex,site,left,died,discharged\nnew,70,female,,20,0,0\n")
    (tmp_path / "labs.csv").write_text("pid,drawn,resulted,analyte,result,unit\nnew,1,1,troponin,3,ng/L\n")
    (tmp_path / "vitals.csv").write_text("pid,day,pulse,temperature\nnew,1,80,37\n")
    spec = (ward / "ward.toml").read_text()
    begin, end = spec.index("[nodes.drug]"), spec.index("[outcomes.death]")
    (tmp_path / "ward.toml").write_text(spec[:begin] + spec[end:])
    good("pack", tmp_path / "ward.toml", "--out", tmp_path / "cohort")
    found = good("ask", ward / "run", tmp_path / "cohort", "--patient", "new", "--json")
    assert found["unknown"] == {"lab": ["troponin"]} and found["missing"] == ["drug"]
    assert "never saw lab troponin" in good("ask", ward / "run", tmp_path / "cohort", "--patient", "new")
    good(
        "predict",
        ward / "run",
        tmp_path / "cohort",
        "--at",
        "2",
        "--horizons",
        "5",
        "--out",
        tmp_path / "r.csv",
    )
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("form", ["json", "graphml"])
def test_export(good, ward, tmp_path, form):
    import networkx as nx

    _, patient = someone(ward, 3)
    file = tmp_path / "graph"
    good("export", ward / "cohort", "--patient", patient, "--at", "3", "--format", form, "--out", file)
    text = file.read_text()
    graph = (
        nx.parse_graphml(text) if form == "graphml" else nx.node_link_graph(json.loads(text), edges="edges")
    )
    assert all(data.get("known", 0) <= 3 for _, data in graph.nodes(data=True))


def test_picture_of_an_ask(ward, tmp_path):
    from gnnpatient import InputError, load_predictor
    from gnnpatient.patient.figure import draw

    cohort, patient = someone(ward, 3)
    predictor = load_predictor(ward / "run")
    for day in (3, 400):  # at risk, and long gone
        X = cohort.at(day, patient=patient)
        file = draw(X, predictor.forecast(X)["death"], tmp_path / f"{day}.png")
        assert file.read_bytes()[:4] == b"\x89PNG"
    X = cohort.at(0, patient=str(cohort.ids[-1]))  # without a single row
    draw(X, predictor.forecast(X)["death"], tmp_path / "none.svg")
    with pytest.raises(InputError, match="one patient on one day"):
        draw(cohort.at([1, 2], patient=patient), predictor.forecast(X)["death"], tmp_path / "two.png")


# ---- a diagnosis beside survival


ICU = """
[outcomes.icu]
kind = "diagnosis"
table = "patients.csv"
column = "icu"
classes = { N = "no", Y = "yes" }

[outcomes.lactate]
kind = "progression"
node = "lab"
codes = ["lactate"]
"""


@pytest.fixture(scope="session")
def sick(tmp_path_factory):
    """The ward with a diagnosis (who dies goes to intensive care first; one in ten is not looked for) and a
    progression, packed and fitted; what the fit said."""
    import contextlib
    import io

    from gnnpatient.cli import run
    from gnnpatient.testing import write_ward

    folder = tmp_path_factory.mktemp("sick")
    write_ward(folder)
    with open(folder / "patients.csv", newline="") as file:
        patients = list(csv.DictReader(file))
    for i, row in enumerate(patients):
        row["icu"] = "" if i % 10 == 9 else "NY"[int(row["died"])]
    with open(folder / "patients.csv", "w", newline="") as file:
        table = csv.DictWriter(file, patients[0])
        table.writeheader()
        table.writerows(patients)
    (folder / "ward.toml").write_text((folder / "ward.toml").read_text() + ICU)
    (folder / "fit.toml").write_text(CONFIG)
    assert run(["pack", str(folder / "ward.toml"), "--out", str(folder / "cohort")]) == 0
    words = [
        "fit",
        str(folder / "cohort"),
        "--out",
        str(folder / "run"),
        "--config",
        str(folder / "fit.toml"),
    ]
    with contextlib.redirect_stderr(io.StringIO()) as err:
        assert run(words) == 0
    return folder, err.getvalue()


def test_fit_takes_survival_and_diagnosis_and_says_what_it_leaves(sick, good, refused, tmp_path):
    folder, said = sick
    assert "outcome 'lactate' left out: a progression has no model" in said
    found = good("info", folder / "run", "--json")
    assert found["outcomes"]["icu"] == {"classes": ["no", "yes"]} and set(found["outcomes"]) == {
        "death",
        "icu",
    }
    assert found["fitted_on"]["events"]["icu"].keys() == {"no", "yes"}
    assert "icu" in good("info", folder / "run")
    line = refused("fit", folder / "cohort", "--out", tmp_path / "new", "--outcome", "lactate")
    assert "'lactate' is a progression" in line and "death, icu" in line
    assert not (tmp_path / "new").exists()


def test_a_diagnosis_is_looked_at_before_it_is_fitted(sick, good):
    folder, _ = sick
    with open(folder / "patients.csv", newline="") as file:
        label = [row["icu"] for row in csv.DictReader(file)]
    counts = {"no": label.count("N"), "yes": label.count("Y")}
    found = good("info", folder / "cohort", "--json")["outcomes"]
    assert found["icu"] == counts and found["death"]["death"] >= counts["yes"]
    assert found["lactate"].keys() == {"with a value", "with two or more"}
    assert f"icu (no {counts['no']}, yes {counts['yes']})" in good("info", folder / "cohort")
    found = good("check", folder / "ward.toml", "--json", "--leaks")
    assert found["leaks"] == []
    assert [(look["outcome"], look["cause"], look["done"]) for look in found["looked"]] == [
        ("death", "discharge", True),
        ("death", "death", True),
        ("icu", "yes", True),
        ("lactate", "", False),
    ]
    said = good("check", folder / "ward.toml", "--leaks")
    assert "leaks: none found\n" in said and "sample size: icu, yes: " in said
    assert "leaks: looked at icu, yes: at entry, at the last moment\n" in said
    assert "leaks: not looked at lactate: neither an event nor classes\n" in said


def test_evaluate_a_diagnosis(sick, good, refused):
    folder, _ = sick
    ask = ("evaluate", folder / "run", folder / "cohort", "--landmarks", "0,2")
    assert "name one of death, icu" in refused(*ask)
    assert "has no horizon to choose" in refused(*ask, "--outcome", "icu", "--horizons", "5")
    found = good(*ask, "--outcome", "icu", "--json")
    assert {row["model"] for row in found["rows"]} == {"gnn", "logistic", "null", "gnn-logistic"}
    assert {row["metric"] for row in found["rows"]} == {"auc", "brier", "oe", "slope", "ici", "scaled_brier"}
    assert {(row["horizon"], row["cause"]) for row in found["rows"]} == {(None, "yes")}
    split = json.loads((folder / "run" / "split.json").read_text())
    assert found["held_out"] == len(split["test"]) and sum(found["events"].values()) == found["patients"]
    assert not any(who.endswith("9") for who in split["test"]) or found["patients"] < found["held_out"]
    table = good(*ask, "--outcome", "icu")
    assert "icu: yes" in table and "gnn - logistic" in table and "scaled_brier" in table


def test_predict_and_ask_a_diagnosis(sick, good, refused, tmp_path):
    import polars as pl

    from gnnpatient import load_predictor, open_cohort

    folder, _ = sick
    words = ("predict", folder / "run", folder / "cohort", "--at", "1", "--out", tmp_path / "r.parquet")
    assert "give --horizons" in refused(*words)
    good(*words, "--horizons", "5")
    rows = pl.read_parquet(tmp_path / "r.parquet")
    assert rows.columns == ["id", "landmark", "outcome", "cause", "horizon", "risk", "low", "high", "split"]
    icu = rows.filter(outcome="icu")
    assert icu["horizon"].is_null().all() and set(icu["cause"]) == {"no", "yes"}
    said = load_predictor(folder / "run").forecast(open_cohort(folder / "cohort").at(1.0))["icu"]
    yes = icu.filter(cause="yes")
    assert yes["id"].to_list() == said.ids[said.at_risk].tolist()
    np.testing.assert_allclose(yes["risk"], said.risk()[said.at_risk], atol=1e-6)
    np.testing.assert_allclose(yes["low"], said.spread()[0][said.at_risk], atol=1e-6)
    who = yes["id"][0]
    ask = ("ask", folder / "run", folder / "cohort", "--patient", who, "--at", "1")
    found = good(*ask, "--json")["outcomes"]
    assert found["death"]["kind"] == "survival" and found["icu"]["kind"] == "diagnosis"
    assert sum(found["icu"]["probability"].values()) == pytest.approx(1)
    assert found["icu"]["probability"]["yes"] == pytest.approx(yes["risk"][0], abs=1e-6)
    for name, p in found["icu"]["probability"].items():
        assert found["icu"]["low"][name] <= p <= found["icu"]["high"][name]
    assert good(*ask, "--outcome", "icu", "--json")["outcomes"].keys() == {"icu"}
    text = good(*ask, "--outcome", "icu")
    assert "icu [model spread]" in text and f"{found['icu']['probability']['yes'] * 100:.0f} %" in text


def test_predict_writes_meds_labels_of_a_diagnosis(sick, good, refused, tmp_path):
    """A file a class; who has a label by then, or is gone, is in none."""
    import polars as pl

    from gnnpatient.cli.main import _meds
    from gnnpatient.cohort.cohort import open_cohort

    source, folder = sick[0], tmp_path / "dated"
    start = with_dates(source, folder)
    good("pack", folder / "ward.toml", "--out", folder / "cohort")
    ask = ("predict", source / "run", folder / "cohort", "--at", "1", "--horizons", "5")
    good(*ask, "--out", tmp_path / "r.parquet", "--meds", tmp_path / "meds")
    labels, rows = meds_labels(tmp_path / "meds"), pl.read_parquet(tmp_path / "r.parquet")
    curves = {f"death/{cause}/5d.parquet" for cause in ("discharge", "death")}
    assert set(labels) == curves | {"icu/no/label.parquet", "icu/yes/label.parquet"}
    for name in ("no", "yes"):
        wanted = rows.filter(outcome="icu", cause=name)
        key = [(int(who), start[who].timestamp() + 86_400) for who in wanted["id"]]
        expected = dict(zip(key, wanted["risk"], strict=True))
        assert len(key) > 40 and labels[f"icu/{name}/label.parquet"] == pytest.approx(expected, abs=1e-6)
    from gnnpatient import InputError

    two = rows.filter(outcome="icu").with_columns(pl.col("cause").replace({"no": "a/b", "yes": "a b"}))
    with pytest.raises(InputError, match="make the same file name"):
        _meds(two, open_cohort(folder / "cohort"), tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_a_model_of_a_diagnosis_alone(sick, good, tmp_path):
    folder, _ = sick
    run = tmp_path / "run"
    few = ("--outcome", "icu", "--members", "1", "--epochs", "1")
    good("fit", folder / "cohort", "--out", run, "--config", folder / "fit.toml", *few)
    good("predict", run, folder / "cohort", "--at", "1", "--out", tmp_path / "r.csv")
    with open(tmp_path / "r.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["horizon"] for row in rows} == {row["low"] for row in rows} == {""}
    found = good("ask", run, folder / "cohort", "--patient", rows[0]["id"], "--json")["outcomes"]["icu"]
    assert found["low"] is found["high"] is None
    assert {row["model"] for row in good("evaluate", run, folder / "cohort", "--json")["rows"]} > {"logistic"}


# ---- a task, asked at moments of its own


TASK = """
predicates:
  admit: { code: ADMIT }
  leave: { code: LEAVE }
  death: { code: MEDS_DEATH }
  leave_or_death: { expr: "or(leave, death)" }
trigger: admit
windows:
  input:
    start: null
    end: trigger + 24h
    start_inclusive: true
    end_inclusive: true
    index_timestamp: end
  target:
    start: input.end
    end: start -> leave_or_death
    start_inclusive: false
    end_inclusive: true
    label: death
"""
YES = {"no": False, "yes": True}
STAYS = """
cohort = "stays"
format = "meds"
[patient]
origin = { code = "ADMIT", pick = "first" }
[nodes.lab]
where = { code = "LAB//*" }
[nodes.drug]
where = { code = "DRUG//*" }
[outcomes.mortality]
kind = "diagnosis"
task = "mortality.yaml"
[outcomes.death]
kind = "survival"
causes = { death = { where = { code = "MEDS_DEATH" } } }
exit = { code = "*", pick = "last" }
"""


@pytest.fixture(scope="session")
def stays(tmp_path_factory):
    """Sixty patients with a stay or two, packed and fitted on the task alone; when each is asked."""
    from datetime import datetime, timedelta

    import polars as pl

    from gnnpatient.cli import run

    folder, rng, rows, moments = tmp_path_factory.mktemp("stays"), np.random.default_rng(0), [], []
    for who in range(1, 61):
        at = datetime(2020, 1, 1, 8) + timedelta(days=who)
        for stay in range(1 + who % 2):
            dies = stay == who % 2 and who % 3 == 0
            rows.append((who, at, "ADMIT", None))
            for hours, code in ((3, "LAB//crp"), (20, "LAB//crp"), (30, "LAB//crp"), (5, "DRUG//a")):
                rows.append((who, at + timedelta(hours=hours), code, 2.0 * dies + rng.normal()))
            moments.append((who, at + timedelta(hours=24), dies))
            rows.append((who, at + timedelta(days=4), "MEDS_DEATH" if dies else "LEAVE", None))
            at += timedelta(days=30)
    (folder / "data").mkdir()
    schema = {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "numeric_value": pl.Float32,
    }
    pl.DataFrame(rows, schema, orient="row").write_parquet(folder / "data" / "0.parquet")
    (folder / "mortality.yaml").write_text(TASK)
    (folder / "stays.toml").write_text(STAYS)
    (folder / "fit.toml").write_text(CONFIG)
    words = [str(folder / name) for name in ("stays.toml", "cohort", "run", "fit.toml")]
    assert run(["pack", words[0], "--out", words[1]]) == 0
    assert run(["fit", words[1], "--out", words[2], "--config", words[3], "--outcome", "mortality"]) == 0
    return folder, moments


def test_check_and_info_count_the_moments_of_a_task(stays, good):
    folder, moments = stays
    flow = good("check", folder / "stays.toml", "--json")["flow"]
    steps = {step["step"]: step["n"] for step in flow if step["outcome"] == "mortality"}
    assert steps["moments"] == len(moments) == 90 and steps["patients with a moment of the task"] == 60
    assert steps["label: yes"] == sum(dies for *_, dies in moments) == 20
    found = good("info", folder / "run", "--json")
    assert found["outcomes"]["mortality"] == {"classes": ["no", "yes"]}
    split = json.loads((folder / "run" / "split.json").read_text())
    train = [(who, dies) for who, _, dies in moments if str(who) in split["train"]]
    patients = {name: len({who for who, dies in train if dies == is_yes}) for name, is_yes in YES.items()}
    rounded = {name: round(n, -1) for name, n in patients.items()}  # no count of fewer than ten
    assert found["fitted_on"]["events"]["mortality"] == rounded
    assert found["fitted_on"]["asks"] == round(len(train), -1)


def test_evaluate_scores_a_task_at_its_moments(stays, good, refused):
    folder, moments = stays
    ask = ("evaluate", folder / "run", folder / "cohort")
    found = good(*ask, "--json")
    split = json.loads((folder / "run" / "split.json").read_text())
    held = {who: dies for who, _, dies in moments if str(who) in split["test"]}
    assert found["held_out"] == found["patients"] == len(held) == 12
    assert {row["landmark"] for row in found["rows"]} == {row["horizon"] for row in found["rows"]} == {None}
    assert {row["model"] for row in found["rows"]} == {"gnn", "logistic", "null", "gnn-logistic"}
    assert "mortality: yes" in good(*ask)
    assert "asked at its own moments; leave out --landmarks" in refused(*ask, "--landmarks", "1")


def test_predict_answers_a_task_at_its_moments(stays, good, refused, tmp_path):
    import polars as pl

    from gnnpatient import load_predictor, open_cohort

    folder, moments = stays
    ask = ("predict", folder / "run", folder / "cohort", "--out", tmp_path / "r.parquet")
    assert "asked at its own moments; leave out --at" in refused(*ask, "--at", "1")
    good(*ask, "--meds", tmp_path / "meds")
    labels, rows = meds_labels(tmp_path / "meds"), pl.read_parquet(tmp_path / "r.parquet")
    assert set(labels) == {"mortality/no/label.parquet", "mortality/yes/label.parquet"}
    for name in ("no", "yes"):
        assert set(labels[f"mortality/{name}/label.parquet"]) == {
            (who, at.timestamp()) for who, at, _ in moments
        }
    yes = rows.filter(cause="yes")
    said = load_predictor(folder / "run").forecast(open_cohort(folder / "cohort").moments("mortality"))
    np.testing.assert_allclose(yes["risk"], said["mortality"].risk(), atol=1e-6)
    assert set(yes["landmark"]) == {1.0, 31.0} and len(rows) == 2 * len(moments)


def test_ask_a_task(stays, good):
    folder, _ = stays
    words = ("ask", folder / "run", folder / "cohort", "--patient", "1")
    found = good(*words, "--json")  # the last of its moments
    assert found["at"] == 31 and found["at_risk"] and found["known"] == {"lab": 5, "drug": 2}
    assert sum(found["outcomes"]["mortality"]["probability"].values()) == pytest.approx(1)
    other = good(*words, "--at", "2", "--json")
    assert not other["at_risk"] and other["outcomes"] == {}
    assert "no moment of the task" in good(*words, "--at", "2")


def test_a_task_beside_survival(stays, good, refused, tmp_path):
    """Each is asked where it can be: the task at its moments, survival on the days that are named."""
    folder, moments = stays
    few = ("--config", folder / "fit.toml", "--members", "1", "--epochs", "1", "--landmarks", "0,2")
    good("fit", folder / "cohort", "--out", tmp_path / "run", *few)
    words = ("predict", tmp_path / "run", folder / "cohort", "--horizons", "3", "--out", tmp_path / "r.csv")
    assert "risk of death as of when? give --at" in refused(*words)
    good(*words, "--at", "2")
    with open(tmp_path / "r.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    task = [row for row in rows if row["outcome"] == "mortality"]
    assert len(task) == 2 * len(moments) and {float(row["landmark"]) for row in task} == {1, 31}
    death = [row for row in rows if row["outcome"] == "death"]
    assert len(death) == 60 and {float(row["landmark"]) for row in death} == {2}


def test_compare_for_a_task(stays, good, compare_few):
    compare_few(models=["early"])
    words = ("compare", stays[0] / "cohort", "--outcome", "mortality", "--members", 1, "--epochs", 1)
    found = good(*words, "--json")
    assert set(found["modalities"]) == {"lab", "drug"} and found["patients"] == 60
    assert {row["landmark"] for row in found["rows"]} == {None}


# ---- bad input


def test_bad_input_is_one_line_and_two(refused, ward, tmp_path):
    run, cohort = ward / "run", ward / "cohort"
    out = ("--out", tmp_path / "new")
    for words, says in {
        (): "gnnpatient --help",
        ("chekc",): "No such command",
        ("check", "pcb"): "neither a file nor a shipped cohort",
        ("check", "pbc", "--leak"): "No such option",
        ("check", "pbc", "--data", tmp_path): "no such file",
        ("check", "pbc", "--quarantine", ward / "ward.toml"): "ward.toml",
        ("pack", "pbc"): "Missing option '--out'",
        ("pack", "pbc", "--out", cohort): "not empty",
        ("info", tmp_path): "neither a cohort nor a run",
        ("fit", tmp_path, *out): "not a cohort",
        ("fit", cohort, "--out", run): "go on with --resume",
        ("fit", cohort, "--out", run, "--resume", "--seed", "3"): "the run has seed 0, not 3",
        ("fit", cohort, *out, "--landmarks", "3 moons"): "duration '3 moons'",
        ("fit", cohort, *out, "--test", "2"): "a share from 0 to below 1",
        ("fit", cohort, *out, "--test-by", "after=2020-01-01"): "without a calendar",
        ("fit", cohort, *out, "--test-by", "group=north", "--test", "0.2"): "two ways to split",
        ("fit", cohort, *out, "--outcome", "deth"): "did you mean 'death'",
        ("fit", cohort, *out, "--device", "gpu"): "auto, cpu or cuda",
        ("evaluate", run, cohort, "--landmarks", "3y"): "nobody left to score",
        ("evaluate", run, cohort, "--horizons", "1y"): "this model was fitted up to 10 days",
        ("evaluate", run, cohort, "--by", "sxe"): "did you mean 'sex'",
        (
            "predict",
            run,
            cohort,
            "--at",
            "1",
            "--horizons",
            "5",
            "--out",
            tmp_path / "r.xlsx",
        ): ".csv or .parquet",
        (
            "predict",
            run,
            cohort,
            "--at",
            "1",
            "--horizons",
            "5",
            "--out",
            tmp_path / "no" / "r.csv",
        ): "make it first",
        ("ask", run, cohort, "--patient", "p999"): "unknown patient id",
        ("ask", run, cohort, "--patient", "p001", "--at", "2021-03-04"): "without a calendar",
        ("ask", run, cohort, "--patient", "p001", "--outcome", "deth"): "did you mean 'death'",
        ("export", cohort, "--patient", "p001", "--format", "gexf", "--out", tmp_path / "g"): "graphml, json",
        ("demo", "--cohort", "pcb"): "did you mean 'pbc'",
    }.items():
        assert says in refused(*words), words
    assert not list(tmp_path.iterdir())


MARK = Path("/tmp/gnnpatient_marker_built_here")
CONFIGS = {  # of a file of that name: the message
    "unknown_key.toml": ("[train]\nepohcs = 5\n", "unknown key 'epohcs'; did you mean 'epochs'"),
    "bad_types.toml": ('[train]\nepochs = "five"\nlr = -1\nseed = 1.5\n', "train."),
    "python_tag.yaml": (f"a: !!python/object/apply:builtins.open ['{MARK}', 'w']\n", "only a .toml"),
    "alias_bomb.yaml": ("a: &a [x, x]\nb: &b [*a, *a]\n", "only a .toml"),
    "config.json": ("{}", "only a .toml"),
    "latin1.toml": ("[train]\n# M\udcfc\n", "latin1.toml"),
    "nul.toml": ("[train]\nlr = 1\0", "nul.toml"),
    "empty.toml": ("", "train"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_p47_a_config_is_refused(refused, ward, tmp_path, name):
    text, says = CONFIGS[name]
    (tmp_path / name).write_text(text, errors="surrogateescape")
    said = refused("fit", ward / "cohort", "--out", tmp_path / "run", "--config", tmp_path / name)
    assert says in said and name in said
    assert not (tmp_path / "run").exists() and not MARK.exists()


@pytest.mark.parametrize("name", ["unknown_key.toml", "bad_types.toml", "python_tag.yaml", "alias_bomb.yaml"])
def test_p47_corpus(refused, ward, tmp_path, faults_dir, name):
    markers = set(Path("/tmp").glob("gnnpatient_marker_*"))
    file = faults_dir / "config" / name
    assert CONFIGS[name][1] in refused("fit", ward / "cohort", "--out", tmp_path / "run", "--config", file)
    assert set(Path("/tmp").glob("gnnpatient_marker_*")) == markers and not (tmp_path / "run").exists()


def test_a_config_has_closed_keys_and_right_types(refused, ward, tmp_path):
    for text, says in {
        "[train]\nlr = -1": "lr -1",
        "[trian]": "unknown key 'trian'",
        "[train": "fit.toml",
        "[train]\ndevice = 'cpu'": "unknown key 'device'",
    }.items():
        (tmp_path / "fit.toml").write_text(text)
        assert says in refused(
            "fit", ward / "cohort", "--out", tmp_path / "run", "--config", tmp_path / "fit.toml"
        )
    assert not (tmp_path / "run").exists()


def test_no_event_no_epoch(refused, ward, tmp_path):
    import polars as pl

    for file in ward.glob("*.csv"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    patients = pl.read_csv(ward / "patients.csv").with_columns(died=0, discharged=0)
    patients.write_csv(tmp_path / "patients.csv")
    from gnnpatient.cli import run

    assert (
        run(["pack", str(ward / "ward.toml"), "--data", str(tmp_path), "--out", str(tmp_path / "cohort")])
        == 0
    )
    assert "no events" in refused("fit", tmp_path / "cohort", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_is_never_loaded_from_anything_else(refused, ward, tmp_path, faults_dir):
    markers = set(Path("/tmp").glob("gnnpatient_marker_*"))
    config = (ward / "run" / "model" / "config.json").read_bytes()
    ask = (ward / "cohort", "--patient", "p001")
    for file in sorted((faults_dir / "model").iterdir()):
        refused("ask", file, *ask)
        if file.is_file():  # in the place of the weights
            folder = tmp_path / file.name
            folder.mkdir()
            (folder / "config.json").write_bytes(config)
            (folder / "model.safetensors").write_bytes(file.read_bytes())
            refused("ask", folder, *ask)
            assert {entry.name for entry in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert set(Path("/tmp").glob("gnnpatient_marker_*")) == markers


def test_weights_that_are_not_finite_are_refused(refused, ward, tmp_path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(ward / "run" / "model" / "model.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel())
    tensors[name].view(-1)[0] = float("nan")
    (tmp_path / "config.json").write_bytes((ward / "run" / "model" / "config.json").read_bytes())
    save_file(tensors, tmp_path / "model.safetensors")
    assert "not finite" in refused("ask", tmp_path, ward / "cohort", "--patient", "p001")


def test_an_escape_in_an_id_does_not_reach_the_terminal(cli, ward):
    _, _, err = cli("ask", ward / "run", ward / "cohort", "--patient", "\x1b[31mred")
    assert "\x1b" not in err


def test_an_error_of_ours_is_one_line_too(cli, monkeypatch, ward):
    import gnnpatient.cohort.cohort as home

    monkeypatch.setattr(home, "open_cohort", lambda path: 1 / 0)
    code, _, err = cli("evaluate", ward / "run", ward / "cohort")
    assert code == 1 and "GNNPATIENT_TRACEBACK=1" in err and err.count("\n") == 1


# ---- the process


@pytest.mark.parametrize(
    "words", [("--help",), ("info", "cohort"), ("info", "run"), ("check", "pbc"), ("check", "pbc", "--leaks")]
)
def test_light_commands_load_no_torch(ward, words):
    words = [ward / w if w in ("cohort", "run") else w for w in words]
    tell = "import atexit, sys\natexit.register(lambda: print('loaded', *sys.modules))\n"
    done = start(*words, before=tell)
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    heavy = {"torch", "sklearn", "sksurv", "torch_geometric"} | ({"polars"} if words[0] != "check" else set())
    assert not heavy & set(out.rsplit("loaded", 1)[1].split())


def test_ask_loads_little_and_calls_nobody(ward):
    before = (
        "import atexit, socket, sys\n"
        "def no(*a, **k): raise SystemExit('a call out')\n"
        "socket.socket.connect = socket.socket.connect_ex = socket.create_connection = no\n"
        "atexit.register(lambda: print('loaded', *sys.modules))\n"
    )
    done = start("ask", ward / "run", ward / "cohort", "--patient", "p001", before=before)
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    heavy = {"sklearn", "sksurv", "polars", "torch_geometric", "pandas", "matplotlib"}
    assert not heavy & set(out.rsplit("loaded", 1)[1].split())


def test_control_c_is_130_and_resumable(good, ward, tmp_path):
    many = ("--config", ward / "fit.toml", "--epochs", "500", "--members", "1")
    running = start("fit", ward / "cohort", "--out", tmp_path / "run", *many)
    begun = time.monotonic()
    while not (tmp_path / "run" / "metrics.jsonl").exists() and time.monotonic() - begun < 60:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130 and "interrupted" in err and "Traceback" not in err
    assert time.monotonic() - begun < 5
    assert not good("info", tmp_path / "run", "--json")["finished"]
    from gnnpatient.prognosis.run import Run

    assert Run.open(tmp_path / "run").plan["epochs"] == 500


def test_another_hash_seed_gives_the_same_bits(ward, tmp_path):
    config = ("--config", ward / "fit.toml")
    for seed in ("1", "2"):
        done = start(
            "fit", ward / "cohort", "--out", tmp_path / seed, *config, env={"PYTHONHASHSEED": seed}.items()
        )
        _, err = done.communicate(timeout=120)
        assert done.returncode == 0, err
    for name in ("metrics.jsonl", "split.json", "run.json", "model/model.safetensors", "model/config.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


def test_a_finished_run_ends_well_when_resumed(good, ward):
    before = (ward / "run" / "model" / "model.safetensors").stat().st_mtime_ns
    assert "was finished already" in good("fit", ward / "cohort", "--out", ward / "run", "--resume")
    assert (ward / "run" / "model" / "model.safetensors").stat().st_mtime_ns == before


@pytest.fixture
def compare_few(monkeypatch):
    """Let `compare` fit few contestants (tests/study fits all), and a second call find what the first did."""
    from gnnpatient.study import compare as fusion

    compare, once, made = fusion.compare, fusion.run_compare, []

    def call(**few):
        few = {"folds": 2, "inner": 2, "channels": 8, "n": 10, "choices": {"ridge": 3.0}, **few}
        monkeypatch.setattr(fusion, "compare", lambda *given, **how: compare(*given, **{**how, **few}))

    def kept(*given, **how):
        made[:] = made or [once(*given, **how)]
        return made[0]

    monkeypatch.setattr(fusion, "run_compare", kept)
    return call


@pytest.mark.slow
def test_demo_twice(tmp_path):
    first = by_itself("demo", "--out", tmp_path / "demo")
    assert "too small to judge" in first and (tmp_path / "demo" / "patient.png").is_file()
    second = by_itself("demo", "--out", tmp_path / "demo")
    assert "was finished already" in second
    assert first[first.index("death: transplant") :] == second[second.index("death: transplant") :]


def test_compare(good, refused, ward, compare_few, monkeypatch):
    compare_few(models=["clockwork", "presence", "statics"])
    words = ["compare", ward / "cohort", "--outcome", "death", "--members", 1, "--epochs", 1]
    words += ["--missing", "lab"]
    found = good(*words, "--json")
    assert {"graph", "best single", "clockwork", "null"} <= {row["model"] for row in found["rows"]}
    assert {row["kind"] for row in found["missing"]} == {"lab"} and len(found["pattern"]) == 2
    assert {row["share"] for row in found["missing"]} == {0.0, 0.25, 0.5, 0.75, 1.0}
    said = good(*words)
    assert found["sentence"] and found["sentence"] in said and "parameters" in said
    assert said.count("the pattern of missing kinds by itself: ") == 2
    assert re.search(r"lab +100% +100% +0\.\d{3}", said) and "graph, asked with a kind taken away" in said
    monkeypatch.undo()
    wrong = ["compare", ward / "cohort", "--outcome", "death", "--missing", "lab,labs"]
    assert "unknown kind 'labs'; did you mean 'lab'?" in refused(*wrong)
    wrong = ["compare", ward / "cohort", "--outcome", "deth"]
    assert "unknown outcome 'deth'; did you mean 'death'?" in refused(*wrong)


@pytest.mark.filterwarnings("ignore:.*learned of so few:UserWarning")
def test_compare_for_a_diagnosis(sick, good, compare_few):
    folder, _ = sick
    compare_few(models=["early", "late"], landmarks=[1.0])
    words = ["compare", folder / "cohort", "--outcome", "icu", "--members", 1, "--epochs", 1]
    found = good(*words, "--json")
    assert {row["metric"] for row in found["rows"]} == {"auc", "brier", "scaled_brier"}
    assert found["cause"] == "yes" and "yes (icu): AUC " in found["sentence"]
    said = good(*words)
    assert found["sentence"] in said and "scaled_brier" in said and "parameters" in said


@pytest.mark.slow
def test_the_ward_as_a_demo(tmp_path):
    pytest.importorskip("PIL")
    small = (
        'from gnnpatient.cli import main as cli_; import sys; sys.modules["gnnpatient.cli.main"].WARD = 120'
    )
    text = by_itself("demo", "--cohort", "ward", "--out", tmp_path / "demo", before=small)
    assert "oracle: the true risk" in text and (tmp_path / "demo" / "patient.png").stat().st_size > 10_000
    assert "120 patients" in text


def test_predict_names_only_codes_that_its_asks_see(cli, ward, tmp_path):
    """A code without a row, or of rows after all asks, is nothing that the model met here."""
    from dataclasses import replace

    from gnnpatient import open_cohort

    cohort = open_cohort(ward / "cohort")
    drug = cohort.events["drug"]
    codes = {**cohort.codes, "drug": (*cohort.codes["drug"], "unseen", "late")}
    late = drug.known > 5 * 86_400
    code = np.where(late, len(codes["drug"]) - 1, drug.code).astype(drug.code.dtype)
    assert late.any()
    changed = replace(cohort, codes=codes, events={**cohort.events, "drug": replace(drug, code=code)})
    units = {**cohort.units, "drug": (*cohort.units["drug"], "", "")}
    replace(changed, units=units).save(tmp_path / "cohort")
    for day, told in (("1", False), ("7", True)):
        ask = ("--at", day, "--horizons", "4", "--out", tmp_path / f"{day}.csv")
        done, _, err = cli("predict", ward / "run", tmp_path / "cohort", *ask)
        assert done == 0 and ("never saw drug late" in err) == told and "unseen" not in err


def test_moments_of_the_command_line(good, refused, ward, dated, tmp_path):
    import polars as pl

    from gnnpatient import open_cohort

    folder, _ = dated
    good("pack", folder / "ward.toml", "--out", folder / "cohort")
    cohort = open_cohort(folder / "cohort")
    patient = str(cohort.ids[0])
    found = good("ask", ward / "run", folder / "cohort", "--patient", patient, "--at", "entry", "--json")
    assert found["at"] == float(cohort.entries(patient).days[0])
    day = str(np.datetime64("1970-01-01") + np.timedelta64(int(cohort.origin[0]) // 86_400 + 2, "D"))
    ask = ("predict", ward / "run", folder / "cohort", "--horizons", "4", "--out", tmp_path / "r.parquet")
    good(*ask, "--at", day)
    rows = pl.read_parquet(tmp_path / "r.parquet").filter(id=patient)
    assert set(rows["landmark"]) <= {float(cohort.at(day, patient=patient).days[0])}
    assert "did you mean 'entry'" in refused(*ask, "--at", "Entry")
    said = refused("evaluate", ward / "run", ward / "cohort", "--landmarks", "2021-03-04")
    assert "a date is another day of each patient" in said
