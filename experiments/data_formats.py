"""How many events a second each data format takes, from folder to packed cohort on disk, and how much memory.

Claim: every format packs at a rate that does not fall with the number of events; the MIMIC-IV demo in MEDS
(916 000 events) packs in a few seconds and well under 1.5 GB.
Last seen: see results/data_formats.md (command, machine, time and figures).

    python experiments/data_formats.py [--data DIR] [--patients 1000,10000] [--out FILE.json]

The same laboratory rows are written in each format, then `gnnpatient pack` runs in a process of its own;
the figure is its whole time, start included, and its peak memory. With --data real folders, too.
"""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

EVENTS = 100  # a patient
CODES = 64
PATIENT = """
cohort = "data_formats"
[patient]
table = "patients.csv"
key = "id"
origin = "start"
"""
LONG = """
[nodes.lab]
table = "{table}"
time = "time"
code = "code"
value = "value"
"""
FORMAT = """
cohort = "data_formats"
format = "{form}"
[patient]
origin = {{ code = "{start}", pick = "first" }}
[nodes.lab]
where = {{ code = "{code}" }}
"""
REAL = {  # shipped spec: its folder
    "mimic-iv-demo-meds": "mimic-iv-demo-meds",
    "omop-synthea-1k": "omop-synthea-1k",
    "fhir-synthea-r4": "fhir-synthea-r4/bundles",
    "nafld": "nafld",
    "eicu-demo": "eicu-demo",
    "icu-timeseries": "icu-timeseries/aki/eicu_demo",
}


def events(patients: int) -> pl.DataFrame:
    """id, start, time (Datetime), code, value; shuffled."""
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(patients), EVENTS)
    start = 1_200_000_000 + rng.integers(0, 3 * 10**8, patients)
    at = start[who] + rng.integers(0, 5 * 365 * 86_400, len(who))
    frame = pl.DataFrame(
        {
            "id": who + 1,
            "start": pl.Series(start[who] * 1_000_000).cast(pl.Datetime("us")),
            "time": pl.Series(at * 1_000_000).cast(pl.Datetime("us")),
            "code": (pl.Series(rng.integers(0, CODES, len(who))) + 1000).cast(pl.String),
            "value": rng.normal(100, 15, len(who)).round(2),
        }
    )
    return frame.sample(fraction=1.0, shuffle=True, seed=0)


def tables(frame: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """patients.csv; the rows for the labs."""
    frame.select("id", "start").unique("id").sort("id").write_csv(
        folder / "patients.csv", datetime_format="%Y-%m-%dT%H:%M:%S"
    )
    return frame.drop("start")


def csv(frame: pl.DataFrame, folder: Path) -> str:
    tables(frame, folder).write_csv(folder / "labs.csv", datetime_format="%Y-%m-%dT%H:%M:%S")
    return PATIENT + LONG.format(table="labs.csv")


def parquet(frame: pl.DataFrame, folder: Path) -> str:
    tables(frame, folder).write_parquet(folder / "labs.parquet")
    return PATIENT + LONG.format(table="labs.parquet")


def shards(frame: pl.DataFrame, folder: Path) -> str:
    (folder / "labs").mkdir()
    for i, part in enumerate(tables(frame, folder).iter_slices(len(frame) // 8 + 1)):
        part.write_parquet(folder / "labs" / f"{i}.parquet")
    return PATIENT + LONG.format(table="labs")


def sqlite(frame: pl.DataFrame, folder: Path) -> str:
    rows = tables(frame, folder).with_columns(pl.col("time").dt.to_string("%Y-%m-%dT%H:%M:%S"))
    with sqlite3.connect(folder / "ward.sqlite") as base:
        base.execute("create table labs (id integer, time text, code text, value real)")
        base.executemany("insert into labs values (?, ?, ?, ?)", rows.iter_rows())
    return PATIENT + LONG.format(table="ward.sqlite/labs")


def duckdb(frame: pl.DataFrame, folder: Path) -> str:
    import duckdb as duck

    rows = tables(frame, folder).to_arrow()
    with duck.connect(str(folder / "ward.duckdb")) as base:
        base.register("rows", rows)
        base.execute("create table labs as select * from rows")
    return PATIENT + LONG.format(table="ward.duckdb/labs")


def meds(frame: pl.DataFrame, folder: Path) -> str:
    (folder / "data").mkdir()
    starts = frame.select("id", "start").unique("id").select("id", time="start", code=pl.lit("START"))
    labs = frame.select(
        "id", "time", code="LAB//" + pl.col("code"), numeric_value=pl.col("value").cast(pl.Float32)
    )
    whole = pl.concat([starts, labs], how="diagonal").rename({"id": "subject_id"}).sort("subject_id", "time")
    whole.write_parquet(folder / "data" / "0.parquet")
    return FORMAT.format(form="meds", start="START", code="LAB//*")


def omop(frame: pl.DataFrame, folder: Path) -> str:
    people = frame.select("id", "start").unique("id").sort("id")
    people.select(person_id="id", year_of_birth=pl.lit(1950), gender_concept_id=pl.lit(8507)).write_parquet(
        folder / "person.parquet"
    )
    people.select(
        visit_occurrence_id="id",
        person_id="id",
        visit_concept_id=pl.lit(9202),
        visit_start_datetime="start",
        visit_start_date=pl.col("start").dt.date(),
        visit_end_datetime="start",
        visit_end_date=pl.col("start").dt.date(),
    ).write_parquet(folder / "visit_occurrence.parquet")
    frame.with_row_index("measurement_id").select(
        "measurement_id",
        person_id="id",
        measurement_concept_id=pl.col("code").cast(pl.Int64),
        measurement_datetime="time",
        measurement_date=pl.col("time").dt.date(),
        value_as_number="value",
    ).write_parquet(folder / "measurement.parquet")
    return FORMAT.format(form="omop", start="VISIT//*", code="MEASUREMENT//*")


def fhir(frame: pl.DataFrame, folder: Path) -> str:
    frame = frame.with_columns(pl.col("start", "time").dt.to_string("%Y-%m-%dT%H:%M:%SZ"))
    with (folder / "all.ndjson").open("w") as out:
        for id, start in frame.select("id", "start").unique("id").sort("id").iter_rows():
            who = {"reference": f"Patient/{id}"}
            person = {"resourceType": "Patient", "id": str(id), "gender": "female"}
            visit = {"resourceType": "Encounter", "id": f"e{id}", "status": "finished", "subject": who}
            visit |= {"type": [{"text": "start"}], "period": {"start": start}}
            out.write(json.dumps(person) + "\n" + json.dumps(visit) + "\n")
        for i, (id, at, code, value) in enumerate(frame.drop("start").iter_rows()):
            coding = {"coding": [{"system": "http://loinc.org", "code": code, "display": f"lab {code}"}]}
            out.write(
                json.dumps(
                    {
                        "resourceType": "Observation",
                        "id": f"o{i}",
                        "status": "final",
                        "subject": {"reference": f"Patient/{id}"},
                        "effectiveDateTime": at,
                        "code": coding,
                        "valueQuantity": {"value": value, "code": "mg/dL"},
                    }
                )
                + "\n"
            )
    return FORMAT.format(form="fhir", start="ENCOUNTER//*", code="OBSERVATION//*")


DOORS: Mapping[str, Callable[[pl.DataFrame, Path], str]] = {
    "csv": csv,
    "parquet": parquet,
    "shards": shards,
    "sqlite": sqlite,
    "duckdb": duckdb,
    "meds": meds,
    "omop": omop,
    "fhir": fhir,
}


PROCESS = """
import sys
from gnnpatient.cli import run
code = run(sys.argv[1:])
with open("/proc/self/status") as status:  # since the start of this program, unlike what its parent is told
    print([line.split()[1] for line in status if line.startswith("VmHWM")][0])
sys.exit(code)
"""


def pack(spec: str, data: Path, out: Path) -> dict[str, float]:
    """`gnnpatient pack` in a process of its own: rows, seconds (wall and CPU), peak memory in MB."""
    words = [sys.executable, "-c", PROCESS, "pack", spec, "--data", str(data), "--out", str(out)]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    said = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    tables = json.loads((out / "manifest.json").read_text())["report"]["tables"]
    rows = sum(table["rows"] for table in tables.values())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = int(said.split()[-1]) / 1024
    return {"rows": rows, "seconds": wall, "cpu": cpu, "rows_a_second": rows / wall, "peak_mb": peak}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", type=Path, help="folder with the real cohorts")
    words.add_argument("--patients", default="1000,10000")
    words.add_argument("--out", type=Path)
    options = words.parse_args()
    found: dict[str, dict[str, float]] = {}
    for patients in map(int, options.patients.split(",")):
        frame = events(patients)
        for name, write in DOORS.items():
            if name == "duckdb" and find_spec("duckdb") is None:
                print("duckdb: not measured, the package is not installed", file=sys.stderr)
                continue
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place) / "data"
                folder.mkdir()
                (folder.parent / "data_formats.toml").write_text(write(frame, folder))
                spec, out = folder.parent / "data_formats.toml", folder.parent / "cohort"
                found[f"{name}, {patients} patients"] = pack(str(spec), folder, out)
    for name, place in REAL.items() if options.data else ():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = pack(name, options.data / place, Path(folder) / "cohort")
    table = Table("data format", "rows", "s", "CPU s", "rows / s", "peak MB")
    for data_format, row in found.items():
        cells = (
            f"{row[name]:,.{digits}f}"
            for name, digits in (("seconds", 2), ("cpu", 2), ("rows_a_second", 0), ("peak_mb", 0))
        )
        table.add_row(data_format, f"{row['rows']:,.0f}", *cells)
    Console(width=110).print(table)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
