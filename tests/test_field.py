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


@case("01-sodium-na")
def sodium(folder: Path, tmp: Path) -> None:
    """NA is a code where the column is `code`, as any word is; a flag says so, and how to have it missing."""
    found = checked(folder)
    labs = found["tables"]["labs.csv"]
    assert (labs["rows"], labs["used"], labs["refused"]) == (24, 24, {})
    told = [flag for flag in found["flags"] if "'NA'" in flag]
    assert len(told) == 1 and "12 cell(s) say 'NA', taken as a word: 'analyte' 12" in told[0]
    run("pack", folder / "spec.toml", "--out", tmp / "cohort")
    manifest = json.loads((tmp / "cohort" / "manifest.json").read_text())
    assert manifest["codes"]["lab"] == ["other", "CL", "K", "NA"]


# -- 02-postgres-plus00


# -- 02b-bigquery-utc


# -- 03-sentinel-1900


# -- 04-ids-float-from-pandas


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


@case("36b-csv-unit-blank")
def blank_unit(folder: Path, tmp: Path) -> None:
    """Refused and counted by code, since the values beside the empty cells tell another unit; a key says what
    an empty unit means: `blank = "same"` of the kind, or `from = { "" = FACTOR }` of the code."""
    found = checked(folder)
    labs = found["tables"]["labs.csv"]
    assert labs["used"] == 120 and labs["refused"] == {"no unit beside rows with one": 120}
    assert any("120 of 'K' (others in 'mmol/L'); refused" in flag for flag in found["flags"])
    packed = run("pack", folder / "spec.toml", "--out", tmp / "cohort")
    assert "120 of 'K'" in " ".join((packed.stdout + packed.stderr).split())
    for name in ("labs.csv", "patients.csv"):
        shutil.copy(folder / name, tmp)
    spec = (folder / "spec.toml").read_text()
    units = '\n[units]\nK = { to = "mmol/L", from = { "" = 0.2558 } }\n'
    (tmp / "spec.toml").write_text(spec + units)
    assert checked(tmp)["tables"]["labs.csv"]["used"] == 240


# -- 40-dicom-padding-signed


# -- 41-dicom-decimal-comma


# -- 45-nifti


# -- 50-dense-same-moment


# -- 51-external-units-train


# -- 51b-external-units-test


# -- 51c-external-units-twin


# -- 51h-no-unit


# -- 52c-meds-label-text


@case("52c-meds-label-text")
def text_value(folder: Path, tmp: Path) -> None:
    """Words are counted as FHIR's are; <5 is the number with a mark, by the one rule of all formats."""
    found = checked(folder)
    assert "8 value(s) are text, no number" in found["flags"]
    assert any("8 value(s) are bounds (< or >)" in flag for flag in found["flags"])
    run("pack", folder / "spec.toml", "--out", tmp / "cohort")
    names = {path.name for path in (tmp / "cohort").iterdir()}
    assert "lab.bound.npy" in names


# -- 54-float-codes-parquet


# -- all


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_case_of_the_field(name, field_dir, tmp_path):
    """Each works on a copy of its folder: (folder, tmp_path)."""
    folder = tmp_path / name
    shutil.copytree(field_dir / name, folder, copy_function=shutil.copyfile)
    CASES[name](folder, tmp_path)
