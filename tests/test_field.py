"""Faults from the field: inputs of kinds that people reported of other systems, each read as it should be.

One function a case, named as its folder; where the case leaves a choice, its docstring says which was taken
and why. All goes through the command line or public names.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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


# -- 04-ids-float-from-pandas


# -- 09-age-300


# -- 10-fill-values


# -- 10c-fill-99999


# -- 20-fhir-deceased-boolean


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


# -- 25-fhir-death-before-birth-and-after


# -- 32b-csv-exit-2099


# -- 34b-omop-period-gap-death


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


# -- 51-external-units-train


# -- 51b-external-units-test


# -- 51c-external-units-twin


# -- 51h-no-unit


# -- 52c-meds-label-text


# -- 54-float-codes-parquet


# -- all


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_case_of_the_field(name, field_dir, tmp_path):
    """Each works on a copy of its folder: (folder, tmp_path)."""
    folder = tmp_path / name
    shutil.copytree(field_dir / name, folder, copy_function=shutil.copyfile)
    CASES[name](folder, tmp_path)
