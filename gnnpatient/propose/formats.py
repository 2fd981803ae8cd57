"""Standard formats: MEDS, OMOP and FHIR, whose readers give one set of columns for all."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.propose.inputs import several_units
from gnnpatient.propose.names import DEATH_CODE, DEATH_WORDS, FAMILIES, MAX_LEVELS, MIN_PATIENTS
from gnnpatient.propose.parts import Draft, slug
from gnnpatient.readers.csv_file import CSV
from gnnpatient.readers.standard import StandardTables

OMOP = {"condition_occurrence", "visit_occurrence", "measurement", "drug_exposure"}


def standard(folder: Path) -> str:
    """The standard format of a folder, by the files in it.

    Parameters
    ----------
    folder : Path
        A folder.

    Returns
    -------
    str
        ``"meds"``, ``"omop"``, ``"fhir"``, or ``""`` for none of them.
    """
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    tables = {p.name.lower().partition(".")[0] for p in files if p.name.lower().endswith((*CSV, ".parquet"))}
    if "person" in tables and tables & OMOP:
        return "omop"
    shards = sorted((folder / "data").rglob("*.parquet")) or [p for p in files if p.suffix == ".parquet"]
    with suppress(pl.exceptions.PolarsError, OSError):
        if shards and {"subject_id", "time", "code"} <= set(
            pl.scan_parquet(shards[0], glob=False).collect_schema()
        ):
            return "meds"
    for path in files:
        if re.search(r"\.(json|ndjson)(\.gz)?$", path.name):
            opener: Any = gzip.open if path.suffix == ".gz" else open
            with opener(path, "rt", encoding="utf-8", errors="replace") as handle:
                if '"resourceType"' in handle.read(1 << 16):
                    return "fhir"
    return ""


def of_format(draft: Draft, data_format: str) -> None:
    """Draft a folder in a standard format: node types by the first parts of codes, day 0 and death.

    Parameters
    ----------
    draft : Draft
        The draft that is filled.
    data_format : str
        As `standard` gives it.

    Raises
    ------
    InputError
        When there is no patient, or a file cannot be read.
    """
    source = import_module(f"gnnpatient.readers.{data_format}").read(draft.place)
    assert isinstance(source, StandardTables)
    draft.data_format, draft.left_out = data_format, list(source.flags)
    people, keys = source.people, draft.patient.keys
    if not len(people):
        raise InputError(
            f"{draft.place}: {data_format}, but no patient in it; are the patients in another folder?"
        )
    codes = _codes(source)
    words = {c: people[c].drop_nulls().n_unique() for c, t in people.schema.items() if t == pl.String}
    keys["number"] = ["age"] if people["birth"].count() else []
    # the state of a person at the export of the data is no baseline covariate
    now = ("id", "split", "deceased", "marital")
    keys["category"] = [c for c, n in words.items() if 2 <= n <= MAX_LEVELS and c not in now]
    _span(draft, people, codes["family"])
    _families(draft, source, codes)
    _death(draft, codes)


def _codes(source: StandardTables) -> pl.DataFrame:
    """By table and code: family, patients, timed (those with a time), units, mixed, revealing."""
    parts = []
    for name, table in source.tables.items():
        schema = table.collect_schema()
        rows = table.filter(pl.col("refused").is_null()) if "refused" in schema else table
        unit = pl.col("unit") if "unit" in schema else pl.lit(None, dtype=pl.String).alias("unit")
        counted = (
            rows.filter(pl.col("code").is_not_null())
            .group_by("code")
            .agg(
                pl.col("id").n_unique().alias("patients"),
                pl.col("id").filter(pl.col("time").is_not_null()).n_unique().alias("timed"),
                unit.drop_nulls().sort().value_counts(sort=True).struct.field("unit").alias("units"),
            )
        )
        parts.append(counted.with_columns(pl.lit(name).alias("table")))
    lower = pl.col("units").list.eval(pl.element().str.to_lowercase())
    frame = pl.concat(parts, how="vertical_relaxed").with_columns(
        pl.coalesce(pl.col("code").str.extract(r"^(.+?)//", 1), "code").alias("family"),
        (lower.list.n_unique() > 1).alias("mixed"),
        pl.col("code").str.contains(DEATH_WORDS).alias("revealing"),
    )
    return frame.sort("table", "code").collect(engine="streaming")


def _span(draft: Draft, people: pl.DataFrame, families: Iterable[str]) -> None:
    """Day 0 and the end of observation."""
    keys, notes, there = draft.patient.keys, draft.patient.notes, set(families)
    starts = [f for f in ("HOSPITAL_ADMISSION", "VISIT", "ENCOUNTER") if f in there]
    gaps = {c: people[c].null_count() / len(people) for c in people.columns}
    given = [c for c in ("observation_start", "first") if gaps.get(c, 1) <= 0.1]
    if given[:1] == ["observation_start"] or (given and not starts):
        keys["origin"] = begin = given[0]
    else:
        code = f"{starts[0]}//*" if starts else "*"
        keys["origin"], begin = {"code": code, "pick": "first"}, f"the first {code}"
    notes.append(f"ASK: patient.origin: is {begin} day 0? patients without one are left out")
    by_observation = "observation_end" in people.columns and begin == "observation_start"
    keys["exit"] = "observation_end" if by_observation else {"code": "*", "pick": "last"}
    until = "observation_end" if by_observation else "their last event"
    notes.append(f"ASK: patient.exit: are patients observed until {until}?")


def _families(draft: Draft, source: StandardTables, codes: pl.DataFrame) -> None:
    """Node types by the first part of the codes; codes that reveal a death are left out."""
    own = pl.col("code").str.contains(DEATH_CODE) | pl.col("code").str.starts_with("MEDS_BIRTH")
    codes = codes.filter(~own, pl.col("timed") > 0)
    kinds: dict[str, list[str]] = {}
    for (family,), rows in codes.group_by("family", maintain_order=True):
        kind = next(k for k, (beginnings, _) in FAMILIES.items() if re.match(beginnings, family))
        lost = rows["revealing"] | (rows["mixed"] & (rows["patients"] < MIN_PATIENTS))
        shown = rows.filter(~lost, pl.col("patients") >= MIN_PATIENTS)["code"].to_list()
        if family == "DRG":
            draft.left_out.append(f"{family}: billed after the stay that it groups")
        elif (rows["patients"] < MIN_PATIENTS).all() and len(rows) < MIN_PATIENTS:
            draft.left_out.append(f"{kind}: codes of fewer than {MIN_PATIENTS} patients")
        elif not lost.any():
            kinds.setdefault(kind, []).append(family if rows["code"][0] == family else f"{family}//*")
        else:
            in_two_units = (lost & ~rows["revealing"]).sum()
            deaths = rows["revealing"].sum()
            why = f"{deaths} code(s) that reveal a death, {in_two_units} rare one(s) in two units"
            draft.left_out.append(
                f"{family}: {why}; beside them what fewer than {MIN_PATIENTS} patients have"
            )
            if in_two_units or not _by_category(draft, source, rows["table"][0], family, kind):
                kinds.setdefault(kind, []).extend(shown)
    for kind in FAMILIES:
        if patterns := kinds.get(kind):
            draft.node(kind, {"where": {"code": patterns}, "edges": FAMILIES[kind][1]})
    for code, units in (
        codes.filter("mixed", pl.col("patients") >= MIN_PATIENTS).select("code", "units").iter_rows()
    ):
        if code not in draft.units:
            several_units(draft, code, units)


def _by_category(draft: Draft, source: StandardTables, table: str, family: str, kind: str) -> bool:
    """Take the rows of a family by category, where that separates codes that reveal a death."""
    if "category" not in source.tables[table].collect_schema():
        return False
    rows = source.tables[table].filter(pl.col("category").is_not_null()).group_by("category")
    reveals = pl.col("code").str.contains(DEATH_WORDS).any()
    found = rows.agg(pl.col("id").n_unique().alias("patients"), reveals.alias("reveals"))
    found = found.filter(~pl.col("reveals"), pl.col("patients") >= MIN_PATIENTS)
    if kept := found.collect()["category"].sort().to_list():
        where = {"code": f"{family}//*", "category": kept}
        draft.node(kind, {"table": table, "where": where, "edges": FAMILIES[kind][1]})
    return bool(kept)


def _death(draft: Draft, codes: pl.DataFrame) -> None:
    """Death as an outcome; without one, as a question, the condition that most patients have."""
    dead = codes.filter(pl.col("code").str.contains(DEATH_CODE), pl.col("timed") > 0)
    if len(dead):
        where = {"code": dead["code"].unique().sort().to_list()}
        note = f"{dead['timed'].sum()} patients have a time of death"
        keys = {"kind": "survival", "causes": {"death": {"where": where}}}
        draft.outcome("death", "is everybody's death known here, also after the last stay?", keys, note)
        return
    ill = codes.filter(pl.col("family").str.contains("^(DIAGNOSIS|CONDITION)"), pl.col("timed") >= 20)
    ill = ill.sort(["patients", "code"], descending=[True, False]).head(1)
    kind = next((k for k in draft.nodes if k.startswith("diagnosis")), None)
    for code, patients in ill.select("code", "patients").iter_rows() if kind else []:
        name = slug(re.sub(r"^.*//\d*\s*", "", code), "diagnosis")
        keys = {"kind": "survival", "causes": {name: {"node": kind, "codes": [code]}}}
        note = f"nobody has a time of death; {patients} patients have this condition at some time"
        ask = "the most frequent condition is a placeholder; what is to be predicted?"
        draft.outcome(name, ask, keys, note)
