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


@case("02-postgres-plus00")
def postgres(folder: Path, tmp: Path) -> None:
    """Read, not refused: `+00` is ISO 8601. The offset column `days` beside the dates is read as well."""
    found = checked(folder)
    assert found["kinds"] == {"lab": 18} and found["flags"] == []
    assert not any(table["refused"] for table in found["tables"].values())
    run("pack", folder / "spec.toml", "--out", tmp / "packed")
    from gnnpatient import open_cohort

    cohort = open_cohort(tmp / "packed")
    assert cohort.patient("p0").table()["day"].to_list() == [n + 22.5 / 24 for n in (0, 1, 2)]
    assert (cohort.outcomes["death"].time / 86_400).tolist() == [400, 401, 402, 403, 404, 405]


# -- 02b-bigquery-utc


@case("02b-bigquery-utc")
def bigquery(folder: Path, tmp: Path) -> None:
    """Read, not refused; in a form that is not read (`03/2021`) check and pack stop with the way out."""
    assert checked(folder)["kinds"] == {"lab": 18}
    run("pack", folder / "spec.toml", "--out", tmp / "packed")
    labs = folder / "labs.csv"
    labs.write_text(labs.read_text().replace("06:30:00 UTC", "at dawn"))
    for command in (["check"], ["check", "--leaks"], ["pack", "--out", tmp / "none"]):
        said = run(command[0], folder / "spec.toml", *command[1:], code=2).stderr
        assert said.startswith(
            "gnnpatient: labs.csv (lab): none of 18 rows is used: 18 time is not days, ISO"
        )
        assert (
            "'2021-03-02 at dawn' is not read, 2021-03-04, 2021-03-04 08:30 or 2021-03-04T08:30:00+01:00"
            in said
        )
        assert said.count("\n") == 1
    assert not (tmp / "none").exists()


# -- 03-sentinel-1900


# -- 04-ids-float-from-pandas


@case("04-ids-float-from-pandas")
def float_ids(folder: Path, tmp: Path) -> None:
    """Refused, not matched: ids stand as they are written, and 1.0 beside 1 may be two people elsewhere."""
    for command in (["check"], ["pack", "--out", tmp / "none"]):
        said = run(command[0], folder / "spec.toml", *command[1:], code=2).stderr
        assert (
            "labs.csv (lab): none of 18 rows is used: 18 patient not in the patient table; ids look like "
            in said
        )
        assert "'1.0', the patients have '1'" in said and said.count("\n") == 1


# -- 09-age-300


# -- 10-fill-values


# -- 10c-fill-99999


# -- 20-fhir-deceased-boolean


# -- 21-fhir-intent-proposal


# -- 23-fhir-open-encounter-9999


# -- 25-fhir-death-before-birth-and-after


# -- 32b-csv-exit-2099


# -- 34b-omop-period-gap-death


# -- 35-omop-condition-no-visit


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


@case("54-float-codes-parquet")
def float_codes(folder: Path, tmp: Path) -> None:
    """Flagged, not refused: whole codes lose their point, decimals keep their digits."""
    found = checked(folder)
    (flag,) = found["flags"]
    assert flag.startswith(
        "labs.parquet: column 'analyte' holds Float64, 3 codes: 250.0 and 250.00, 42 and 042"
    )
    assert sorted(row["code"] for row in found["distributions"]) == ["250", "250.01", "42"]


# -- all


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_case_of_the_field(name, field_dir, tmp_path):
    """Each works on a copy of its folder: (folder, tmp_path)."""
    folder = tmp_path / name
    shutil.copytree(field_dir / name, folder, copy_function=shutil.copyfile)
    CASES[name](folder, tmp_path)
