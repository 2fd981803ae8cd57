"""Faults from the field: inputs of kinds that people reported of other systems, each read as it should be.

One function a case, named as its folder; where the case leaves a choice, its docstring says which was taken
and why. All goes through the command line or public names.
"""

import atexit
import io
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
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


@dataclass
class Done:
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def command(*words: object) -> Done:
    """One command of the command line, in this process: a start alone takes seconds."""
    from gnnpatient.cli import run

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a process of its own prints them
        code = run(list(map(str, words)))
    return Done(code, out.getvalue(), err.getvalue())


def run(*words: object, code: int = 0) -> Done:
    """One command, and its exit code as it should be."""
    done = command(*words)
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
    assert len(told) == 1 and "12 cell(s) hold 'NA', taken as a word: 'analyte' 12" in told[0]
    run("pack", folder / "spec.toml", "--out", tmp / "cohort")
    manifest = json.loads((tmp / "cohort" / "manifest.json").read_text())
    assert manifest["codes"]["lab"] == ["other", "CL", "K", "NA"]


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


@case("03-sentinel-1900")
def _(folder, tmp):
    """Counted and flagged, as by the case's words; the rows stay, as a history may be long ago."""
    report = checked(folder)
    (flag,) = [flag for flag in report["flags"] if "more than 20 years from day 0" in flag]
    assert flag.startswith("lab: 3 row(s) of 3 patient(s)") and "3 of them on one day" in flag
    assert report["kinds"]["lab"] == 12


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


@case("09-age-300")
def _(folder: Path, tmp: Path) -> None:
    found = checked(folder)
    (age,) = (row for row in found["distributions"] if row["kind"] == "patient")
    assert (age["code"], age["patients"], age["max"], age["range"]) == ("age", 6, 302, [0, 125])
    assert (
        "patient.age: impossible: 3 of 6 ages, from 55 to 302, are not within 0 to 125 years"
        in found["flags"]
    )
    assert "patient" in run("check", folder / "spec.toml").stdout.split("Values")[1]


# -- 10-fill-values


@case("10-fill-values")
def _(folder: Path, tmp: Path) -> None:
    (flag,) = (flag for flag in checked(folder)["flags"] if "filler" in flag)
    assert flag.startswith("lab.K: filler? 9.96921e+36 in 41 of 360 values, the others are ")
    assert f"flag: {flag}" in run("check", folder / "spec.toml").stdout


# -- 10c-fill-99999


@case("10c-fill-99999")
def _(folder: Path, tmp: Path) -> None:
    (flag,) = (flag for flag in checked(folder)["flags"] if "filler" in flag)
    assert flag.startswith("lab.K: filler? 999999 in 38 of 360 values, the others are ")


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


@case("40-dicom-padding-signed")
def _(folder: Path, tmp: Path) -> None:
    from gnnpatient.content.image.read import read_images

    one, *others = (read_images(path, ("none",))[0] for path in sorted(folder.glob("*.dcm")))
    assert len(others) == 2 and abs(one.pixels.mean() - 0.303) < 0.001 and one.flags == ()
    assert all((other.pixels == one.pixels).all() and other.flags == () for other in others)


# -- 41-dicom-decimal-comma


@case("41-dicom-decimal-comma")
def _(folder: Path, tmp: Path) -> None:
    """A comma is read as a point; what is no number either way costs the picture, by the attribute's name."""
    from gnnpatient.content.image.base import UnreadableImageError
    from gnnpatient.content.image.read import read_images

    def read(name):
        (picture,) = read_images(folder / f"{name}.dcm", ("none",))
        assert picture.flags == () and picture.spacing == (0.14, 0.14)
        return picture.pixels

    ok = read("ok")
    assert (read("slope_comma") == ok).all() and (read("spacing_comma") == ok).all()
    assert abs(read("window_comma").mean() - 0.96875) < 1e-6  # 15 and 30 among values up to 3000
    with pytest.raises(UnreadableImageError, match=r"^RescaleIntercept is no number$"):
        read("intercept_text")


# -- 45-nifti


@case("45-nifti")
def _(folder: Path, tmp: Path) -> None:
    """Of a file without a form the pixels stay as they are read: its sides are a guess, and flagged so."""
    from gnnpatient.content.image.read import read_images

    found = {path.stem: read_images(path, ("none",)) for path in sorted(folder.glob("*.nii"))}
    assert {stem: one[0].flags for stem, one in found.items()} == {
        "lps_twin": (),
        "no_form": ("orientation unknown",),
        "ok": (),
        "slope": (),
    }
    assert all((a.pixels == b.pixels).all() for a, b in zip(found["ok"], found["lps_twin"], strict=True))


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


@cache
def trained() -> Path:
    """A run on the training cohort of case 51, for all tests of this process."""
    train, place = FIELD / "51-external-units-train", Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    run("pack", train / "spec.toml", "--out", place / "train")
    run("fit", place / "train", "--out", place / "run", "--epochs", "15", "--members", "1")
    return place / "run"


def external(folder: Path, tmp: Path) -> Done:
    """Score a model of the training cohort of case 51 on another one."""
    run("pack", folder / "spec.toml", "--out", tmp / "there")
    words = ("--horizons", "1y,2y", "--landmarks", "0d", "--json")
    return command("evaluate", trained(), tmp / "there", *words)


@case("51-external-units-train")
def external_units_train(folder: Path, tmp: Path) -> None:
    """What the model knows of its inputs lies in it."""
    config = json.loads((trained() / "model" / "config.json").read_text())
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
    again = run("evaluate", trained(), tmp / "there", "--horizons", "2y", "--landmarks", "0d", "--json")
    assert "lab 'creatinine': converted from 'umol/L' to the model's 'mg/dL'" in again.stderr
    assert auc_of(again) > 0.8


def auc_of(done: Done) -> float:
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
    said = run("evaluate", trained(), tmp / "there", "--horizons", "2y", "--landmarks", "0d").stderr
    assert "lab 'creatinine': unit 'none' here, 'mg/dL' in training" in said
    assert "100% of 480 values lie far outside the training range" in said


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


@case("54-float-codes-parquet")
def float_codes(folder: Path, tmp: Path) -> None:
    """Flagged, not refused: whole codes lose their point, decimals keep their digits."""
    found = checked(folder)
    (flag,) = found["flags"]
    assert flag.startswith(
        "labs.parquet: column 'analyte' holds Float64, 3 codes: 250.0 and 250.00, 42 and 042"
    )
    codes = sorted(row["code"] for row in found["distributions"] if row["kind"] == "lab")
    assert codes == ["250", "250.01", "42"]


# -- all


def test_every_case_has_its_assertions(field_dir):
    assert set(CASES) == {folder.name for folder in field_dir.iterdir()}


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_case_of_the_field(name, field_dir, tmp_path):
    """Each works on a copy of its folder: (folder, tmp_path)."""
    folder = tmp_path / name
    shutil.copytree(field_dir / name, folder, copy_function=shutil.copyfile)
    CASES[name](folder, tmp_path)
