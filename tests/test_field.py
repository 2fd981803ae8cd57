"""Faults from the field: inputs of kinds that people reported of other systems, each read as it should be.

One function a case, named as its folder; where the case leaves a choice, its docstring says which was taken
and why. All goes through the command line or public names.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FIELD = Path(os.environ.get("GNNPATIENT_FIELD", "."))
CASES: dict[str, Callable[[Path, Path], None]] = {}


def case(name: str) -> Callable[[Callable[[Path, Path], None]], Callable[[Path, Path], None]]:
    """Enter a case by the name of its folder."""

    def enter(check: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
        CASES[name] = check
        return check

    return enter


def run(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """One command of the command line, and its exit code as it should be."""
    done = subprocess.run(
        [sys.executable, "-m", "gnnpatient.cli", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def checked(folder: Path) -> dict:
    """The answer of `check --json`."""
    return json.loads(run("check", folder / "spec.toml", "--json").stdout)


# -- 01-sodium-na


# -- 02-postgres-plus00


# -- 02b-bigquery-utc


# -- 03-sentinel-1900


@case("03-sentinel-1900")
def _(folder, tmp):
    """Counted and flagged, as by the case's words; the rows stay, as a history may be long ago."""
    report = checked(folder)
    (flag,) = [flag for flag in report["flags"] if "more than 20 years from day 0" in flag]
    assert flag.startswith("lab: 3 row(s) of 3 patient(s)") and "3 of them on one day" in flag
    assert report["kinds"]["lab"] == 12


# -- 04-ids-float-from-pandas


# -- 09-age-300


# -- 10-fill-values


# -- 10c-fill-99999


# -- 20-fhir-deceased-boolean


@case("20-fhir-deceased-boolean")
def _(folder, tmp):
    """Left out of the outcome with a count and a flag that `pack` tells, too; the fourth died in time."""
    report = checked(folder)
    flow = {step["step"]: step["n"] for step in report["flow"]}
    assert flow["death at an unknown time, left out"] == 3 and flow["outcome known"] == 5
    assert (flow["event: death"], flow["censored"]) == (1, 4)
    assert [flag for flag in report["flags"] if "3 patient(s) with death, nobody knows when" in flag]
    done = run("pack", folder / "spec.toml", "--out", tmp / "cohort")
    assert "nobody knows when" in " ".join((done.stdout + done.stderr).split())


# -- 21-fhir-intent-proposal


@case("21-fhir-intent-proposal")
def proposals_are_no_orders(folder: Path, tmp: Path) -> None:
    """Both of what the case offers: a proposal, plan or option is refused as a draft is, by its reason, since
    nobody was given anything; where the spec names `intent` in `where`, it chooses itself."""
    found = checked(folder)
    refused = found["tables"]["MedicationRequest"]["refused"]
    assert found["kinds"]["drug"] == 3 and sum(refused.values()) == 3
    assert refused == {
        "a proposal, not an order": 1,
        "a plan, not an order": 1,
        "an option, not an order": 1,
    }
    place = tmp / "chosen"
    shutil.copytree(folder, place)
    spec = (place / "spec.toml").read_text()
    chosen = 'table = "MedicationRequest"\nwhere = { intent = ["order", "plan"] }'
    (place / "spec.toml").write_text(spec.replace('table = "MedicationRequest"', chosen))
    assert checked(place)["kinds"]["drug"] == 4


# -- 23-fhir-open-encounter-9999


@case("23-fhir-open-encounter-9999")
def _(folder, tmp):
    """The open stays have no end, so `last` is the last thing that happened: 59 days for all."""
    from gnnpatient import read_cohort

    assert [flag for flag in checked(folder)["flags"] if flag.startswith("Encounter: 3 end(s) lie decades")]
    death = read_cohort(folder / "spec.toml", folder).outcomes["death"]
    assert (death.time // 86_400).tolist() == [59] * 6 and not death.event.any()


# -- 25-fhir-death-before-birth-and-after


@case("25-fhir-death-before-birth-and-after")
def _(folder, tmp):
    """Neither is an event, nor are they alive: both are left out, with their count."""
    report = checked(folder)
    flow = {step["step"]: step["n"] for step in report["flow"]}
    assert flow["death at a time that cannot be, left out"] == 2 and flow["event: death"] == 0
    assert flow["outcome known"] == flow["censored"] == 4
    assert [
        flag for flag in report["flags"] if "2 patient(s) with death before the birth, after today" in flag
    ]


# -- 32b-csv-exit-2099


@case("32b-csv-exit-2099")
def _(folder, tmp):
    """The end is not known: observed until the data end, the last day of anything else, and flagged.

    Not left out: those without a known end are all alive, so that without them the risk would be too high.
    """
    from gnnpatient import read_cohort

    report = checked(folder)
    assert [flag for flag in report["flags"] if flag.startswith("exit: 4 of 12 end(s) lie decades after")]
    death = read_cohort(folder / "spec.toml", folder).outcomes["death"]
    assert sorted(set((death.time // 86_400).tolist())) == [244, 546] and death.event.sum() == 1


# -- 34b-omop-period-gap-death


@case("34b-omop-period-gap-death")
def _(folder, tmp):
    """At risk inside the periods, each with its own end: the death in the gap is not counted, that of
    February 2025 ends the second period. Who has a gap is counted in a flag.
    """
    from gnnpatient import read_cohort

    report = checked(folder)
    assert [flag for flag in report["flags"] if "5 of 8 person(s) have a gap" in flag]
    flow = {step["step"]: step["n"] for step in report["flow"]}
    assert flow["event outside the periods of observation, not counted"] == 1
    assert (flow["event: death"], flow["censored"], flow["event after a gap: death"]) == (0, 8, 1)
    cohort = read_cohort(folder / "spec.toml", folder)
    assert (cohort.outcomes["death"].time // 86_400).tolist() == [181] * 8
    assert not cohort.at("2022-01-01").at_risk("death").any()
    later = cohort.at("2025-01-01").followed("death")
    assert later.ids.tolist() == ["1", "3", "4", "5"]
    assert later.outcome("death")["event"].tolist() == [0, 1, 0, 0]


# -- 35-omop-condition-no-visit


@case("35-omop-condition-no-visit")
def a_discharge_code_is_known_at_discharge(folder: Path, tmp: Path) -> None:
    """Linked by its day to the stay that it lies in, as the report asks, and the count is told all the same:
    where the link is wrong, the code would be late, never early."""
    from gnnpatient import read_cohort

    flag = "lie in an inpatient stay by their day; known at its end"
    told = [line for line in checked(folder)["flags"] if flag in line]
    rows = len((folder / "condition_occurrence.csv").read_text().splitlines()) - 1
    assert [line.split()[1] for line in told] == [str(rows)]
    cohort = read_cohort(folder / "spec.toml", folder)
    for patient in cohort.ids:
        table = cohort.patient(patient).table()
        known = table.filter(table["kind"] == "condition")["known"].to_list()
        assert known and all(4 < day < 5 for day in known)  # the end of 2020-01-05, day 0 being 2020-01-01
    assert (
        len(cohort.at(1).to_frame().filter(cohort.at(1).to_frame()["condition.CONDITION//312327.n"] > 0)) == 0
    )


# -- 36b-csv-unit-blank


# -- 40-dicom-padding-signed


# -- 41-dicom-decimal-comma


# -- 45-nifti


# -- 50-dense-same-moment


@case("50-dense-same-moment")
def dense_same_moment(folder: Path, tmp: Path) -> None:
    """Edges between simultaneous groups are bounded: cost is linear in rows, so that it trains in seconds."""
    from gnnpatient import build_graphs, open_cohort

    run("pack", folder / "spec.toml", "--out", tmp / "cohort")
    cohort = open_cohort(tmp / "cohort")
    graphs = build_graphs(cohort.at(1000))
    rows = len(graphs["lab"])
    assert rows > 12_000
    assert all(pairs.shape[1] <= 4 * rows for pairs in graphs.edges.values())
    run("fit", tmp / "cohort", "--out", tmp / "run", "--epochs", "1", "--members", "1", "--test", "0.25")


# -- 51-external-units-train


def external(folder: Path, tmp: Path) -> subprocess.CompletedProcess[str]:
    """Score a model of the training cohort of case 51 on another one."""
    train = FIELD / "51-external-units-train"
    run("pack", train / "spec.toml", "--out", tmp / "train")
    run("fit", tmp / "train", "--out", tmp / "run", "--epochs", "15", "--members", "1")
    run("pack", folder / "spec.toml", "--out", tmp / "there")
    words = ("evaluate", tmp / "run", tmp / "there", "--horizons", "1y,2y", "--landmarks", "0d", "--json")
    return subprocess.run(
        [sys.executable, "-m", "gnnpatient.cli", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
    )


@case("51-external-units-train")
def external_units_train(folder: Path, tmp: Path) -> None:
    """What the model knows of its inputs lies in it."""
    run("pack", folder / "spec.toml", "--out", tmp / "train")
    run("fit", tmp / "train", "--out", tmp / "run", "--epochs", "1", "--members", "1")
    config = json.loads((tmp / "run" / "model" / "config.json").read_text())
    assert config["about"]["inputs"]["codes"]["lab"]["creatinine"]["unit"] == "mg/dL"


# -- 51b-external-units-test


@case("51b-external-units-test")
def external_units_test(folder: Path, tmp: Path) -> None:
    """Neither spec says how the units convert, so it is refused, by code and both units."""
    done = external(folder, tmp)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "'creatinine' is in 'umol/L' here, the model knows it in 'mg/dL'" in done.stderr
    spec = folder / "spec.toml"
    spec.write_text(
        spec.read_text() + '[units]\ncreatinine = { to = "umol/L", from = { "mg/dL" = 88.42 } }\n'
    )
    shutil.rmtree(tmp / "there")
    run("pack", spec, "--out", tmp / "there")
    again = run("evaluate", tmp / "run", tmp / "there", "--horizons", "2y", "--landmarks", "0d", "--json")
    assert "lab 'creatinine': converted from 'umol/L' to the model's 'mg/dL'" in again.stderr
    assert auc_of(again) > 0.8


def auc_of(done: subprocess.CompletedProcess[str]) -> float:
    rows = json.loads(done.stdout)["rows"]
    (row,) = (r for r in rows if (r["model"], r["metric"], r["horizon"]) == ("gnn", "auc", 730.5))
    return row["value"]


# -- 51c-external-units-twin


@case("51c-external-units-twin")
def external_units_twin(folder: Path, tmp: Path) -> None:
    """The same units: nothing is said of them, and the model discriminates."""
    done = external(folder, tmp)
    assert done.returncode == 0 and "creatinine" not in done.stderr
    assert auc_of(done) > 0.8


# -- 51h-no-unit


@case("51h-no-unit")
def no_unit(folder: Path, tmp: Path) -> None:
    """The model never heard of the static sex, so it is refused, and what else differs is said; without sex
    it is answered, and said that the unit is missing and the values lie elsewhere."""
    done = external(folder, tmp)
    assert done.returncode == 2 and "the model knows no static 'sex' (it has age)" in done.stderr
    assert "lab 'creatinine': unit 'none' here, 'mg/dL' in training" in done.stderr
    spec = folder / "spec.toml"
    spec.write_text(spec.read_text().replace('category = ["sex"]', ""))
    shutil.rmtree(tmp / "there")
    run("pack", spec, "--out", tmp / "there")
    said = run("evaluate", tmp / "run", tmp / "there", "--horizons", "2y", "--landmarks", "0d").stderr
    assert "lab 'creatinine': unit 'none' here, 'mg/dL' in training" in said
    assert "of 320 values lie far outside the training range" in said


# -- 52c-meds-label-text


# -- 54-float-codes-parquet


# -- all


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_case_of_the_field(name, field_dir, tmp_path):
    """Each works on a copy of its folder: (folder, tmp_path)."""
    folder = tmp_path / name
    shutil.copytree(field_dir / name, folder, copy_function=shutil.copyfile)
    CASES[name](folder, tmp_path)
