"""The tables that dicom-nifti-samples.toml reads, made from whatever DICOM and NIfTI files a folder holds.

    python graphs/dicom-nifti-samples.prepare.py DATA_DIR --out DIR
    gnnpatient pack dicom-nifti-samples --data DIR --out COHORT

The header of a DICOM file says whose it is and when it was taken: the later of study and acquisition, at the
end of that day where no clock time is given. DIR gets days after each patient's first image, not dates.
NIfTI says neither, so each such file is a patient of its own. What was done is printed, with counts.
"""

from __future__ import annotations

import argparse
import os
import warnings
from datetime import datetime
from pathlib import Path

import polars as pl
import pydicom
from rich.console import Console
from rich.table import Table

from gnnpatient.errors import InputError
from gnnpatient.files import atomic_folder

DAY = 86_400  # seconds
TAGS = ("PatientID", "PatientSex", "PatientAge", "Modality", "StudyDate", "StudyTime")
TAGS += ("AcquisitionDate", "AcquisitionTime")
NIFTI = (".nii", ".nii.gz")
COLUMNS = ("patient", "file", "modality", "taken", "sex", "age")


def moment(date: str, time: str) -> float | None:
    """Seconds since 1970 of YYYYMMDD and HHMMSS; without a clock time the day's last; None = no date."""
    try:
        start = datetime.strptime(date[:8] + "+0000", "%Y%m%d%z").timestamp()
    except ValueError:
        return None
    try:
        clock = datetime.strptime(time[:6], "%H%M%S")
    except ValueError:
        return start + DAY - 1
    return start + clock.hour * 3600 + clock.minute * 60 + clock.second


def header(path: Path) -> dict[str, object] | None:
    """Whose image it is, what, and when; None where the file is not DICOM or shows no image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that break the standard: such a value is not read
            found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
            said = {tag: str(found.get(tag, "") or "").strip() for tag in TAGS}
    except (pydicom.errors.InvalidDicomError, OSError, ValueError, TypeError, NotImplementedError):
        return None
    if not said["PatientID"] or not said["Modality"]:
        return None
    given = (moment(said[f"{of}Date"], said[f"{of}Time"]) for of in ("Study", "Acquisition"))
    age = said["PatientAge"].removesuffix("Y")
    return {
        "patient": said["PatientID"],
        "modality": said["Modality"],
        "taken": max((at for at in given if at is not None), default=None),
        "sex": said["PatientSex"] or None,
        "age": age if age.isdigit() else None,
    }


def read(folder: Path) -> tuple[pl.DataFrame, list[tuple[str, int]]]:
    """A row an image file, and what was left out."""
    rows, volumes, others = [], 0, 0
    for path in sorted(Path(place, name) for place, _, names in os.walk(folder) for name in names):
        name = path.relative_to(folder).as_posix()
        if path.name.endswith(NIFTI):
            volumes += 1
            rows.append({"patient": name, "file": name, "modality": "volume"})
        elif found := header(path):
            rows.append({"file": name, **found})
        else:
            others += 1
    if not rows:
        raise InputError(f"{folder}: neither a DICOM nor a NIfTI file; name the folder that holds them")
    types = {name: pl.String for name in COLUMNS} | {"taken": pl.Float64}
    frame = pl.DataFrame(rows, schema=types)
    undated = frame["taken"].null_count() - volumes
    done = [("DICOM files", len(frame) - volumes), ("of them undated", undated), ("NIfTI files", volumes)]
    return frame, [*done, ("files that are neither, or show no image", others)]


def prepare(data: Path, out: Path) -> list[tuple[str, int]]:
    """Write the tables and a link to the files; what was done, with counts."""
    frame, done = read(data)
    first = pl.col("taken").min().over("patient")
    day = pl.when(first.is_null()).then(0.0).otherwise((pl.col("taken") - first) / DAY)
    frame = frame.with_columns(day=day)
    ordered = frame.sort("day", nulls_last=True)
    patients = ordered.group_by("patient", maintain_order=True).agg(pl.col("sex", "age").drop_nulls().first())
    done.append(("patients", len(patients)))
    with atomic_folder(out) as part:
        frame.select("patient", "day", "modality", "file").write_csv(part / "images.csv")
        patients.write_csv(part / "patients.csv")
        (part / "files").symlink_to(data.resolve(), target_is_directory=True)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        done = prepare(args.data, args.out)
    except InputError as refusal:
        parser.error(str(refusal))
    table = Table("what", "how many", box=None)
    for what, n in done:
        table.add_row(what, str(n))
    Console().print(table)


if __name__ == "__main__":
    main()
