"""Tables in: init, check, pack and info."""

import csv
import json
import re

import pytest


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


def test_a_cohort_without_an_outcome_is_shown_with_the_lines_to_add(good, refused, tmp_path):
    spec = 'cohort = "a"\n[patient]\ntable = "a.csv"\nkey = "id"\nnumber = ["age"]\n'
    (tmp_path / "a.toml").write_text(spec)
    (tmp_path / "a.csv").write_text("id,age,days,died\n" + "".join(f"{i},{i},9,{i % 2}\n" for i in range(30)))
    said = good("check", tmp_path / "a.toml", "--leaks")
    assert "a.csv" in said and 'add the lines [outcomes.death], kind = "survival"' in said
    assert "leaks: not looked for" in said and "layouts.md" in said
    good("pack", tmp_path / "a.toml", "--out", tmp_path / "cohort")
    assert "has no outcome; add the lines" in refused("fit", tmp_path / "cohort", "--out", tmp_path / "run")
    lines = '[outcomes.death]\nkind = "survival"\ntable = "a.csv"\n'
    lines += 'causes = { death = { time = "days", flag = "died" } }\n'
    with open(tmp_path / "a.toml", "a") as file:
        file.write(lines)
    assert "event: death" in good("check", tmp_path / "a.toml")


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
    (row,) = found["followup"]
    assert f"followed: death: median {row['median']:.4g} days, longest {row['longest']:.4g}" in said


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
    assert "leaks: icu, yes checked: at entry, at the last moment\n" in said
    assert "leaks: lactate not checked: neither an event nor classes\n" in said


YES = {"no": False, "yes": True}


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


def test_init_refuses_what_is_there_and_what_is_no_toml(refused, ward, tmp_path):
    pytest.importorskip("gnnpatient.propose")
    before = (ward / "ward.toml").read_bytes()
    assert "already exists; give --out a new name" in refused("init", ward, "--out", ward / "ward.toml")
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


def test_a_spec_of_prepared_tables_names_its_script(refused, tmp_path):
    (tmp_path / "flchain.csv").write_text("age,sex,futime,death\n70,F,100,1\n")
    words = ("pack", "flchain", "--out", tmp_path / "cohort", "--data")
    line = refused(*words, tmp_path)
    assert "no column 'row'" in line and "the tables of this spec are made by flchain.prepare.py" in line
    (tmp_path / "none").mkdir()
    assert "made by flchain.prepare.py" in refused(*words, tmp_path / "none")


def test_info_of_cohort_run_and_model(good, ward, tmp_path):
    cohort, run = good("info", ward / "cohort", "--json"), good("info", ward / "run", "--json")
    assert cohort["patients"] == 80 and cohort["codes"]["drug"] == 3
    assert run["finished"] and run["train"] + run["test"] == 80
    log = [json.loads(line) for line in (ward / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sum(entry["validation"] is not None for entry in log) == 10 <= run["epochs"] == len(log)
    assert good("info", ward / "run" / "model", "--json") == run
    card = (ward / "run" / "model" / "README.md").read_text()
    said = run["graph"]["death"]
    assert f"The graph {said}." in card and said in good("info", ward / "run")
    assert f"{run['log_likelihood']['death']['linear']:.4f}" in card
    from gnnpatient.errors import InputError
    from gnnpatient.files import sealed
    from gnnpatient.study import folder_info

    (tmp_path / "old").mkdir()
    old = {"format": 6, "members": 2, "model": {"heads": {}}, "about": {}}  # without families
    (tmp_path / "old" / "config.json").write_text(sealed(old))
    with pytest.raises(InputError, match="format 6, this version reads 7; fit it again"):
        folder_info(tmp_path / "old")
    assert folder_info(ward / "run").to_dict() == run and folder_info(ward / "cohort").to_dict() == cohort
    assert "p001" not in good("info", ward / "run") + good("info", ward / "cohort")
