"""Patients who are there more than once under different ids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from gnnpatient.cohort.cohort import Cohort
from gnnpatient.study.describe import grouped_outcomes
from gnnpatient.times import NEVER

MIN_ROWS = 3  # of a record that may show two people to be one
MAX_CHANCE_PAIRS = 0.05  # pairs of different people expected to share a record: from there on it says nothing


@dataclass(frozen=True)
class Duplicates:
    """Ids that are nearly equal, and people who are there more than once under different ids.

    Attributes
    ----------
    near_ids : int
        Ids that equal another but for case, blanks or leading zeros.
    groups, patients, pairs : int
        Of patients with the same record: groups of them, patients in a group, pairs within groups.
    ids : dict of str to list of groups of ids
        "near" and "people". The only place with ids; whether to show them is up to the caller.
    """

    near_ids: int
    groups: int
    patients: int
    pairs: int
    ids: dict[str, list[list[str]]]

    def to_dict(self) -> dict[str, Any]:
        """The counts and ids by name.

        Returns
        -------
        dict
            Every attribute by its name.
        """
        return asdict(self)


def duplicates(cohort: Cohort) -> Duplicates:
    """Find ids that are nearly equal, and people who are there more than once under different ids.

    People are one where their whole record (known, code and value of every row, at least 3) is the same, or
    their record, baseline covariates and outcomes all are; and where it is so rare that fewer than .05 pairs
    of different people in a cohort of this size would share it. Two healthy people with two normal findings
    on day 0 are not one.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    Duplicates

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> duplicates(pbc()).patients
    0
    """
    plain = (
        pl.Series(cohort.ids.astype(str))
        .str.replace_all(r"\s", "")
        .str.to_lowercase()
        .str.replace(r"^(\D*)0+(\d)", "$1$2")
    )
    near = _groups(pl.DataFrame({"key": plain}), np.ones(len(cohort), bool))
    record, rows, chance = _records(cohort)
    rest, also = _other_columns(cohort)
    pairs = len(cohort) ** 2 / 2
    same = _groups(record, (rows >= MIN_ROWS) & (pairs * np.exp(chance) < MAX_CHANCE_PAIRS))
    same += _groups(
        pl.concat([record, rest], how="horizontal"), pairs * np.exp(chance + also) < MAX_CHANCE_PAIRS
    )
    people = _merged(same)
    return Duplicates(
        near_ids=sum(map(len, near)),
        groups=len(people),
        patients=sum(map(len, people)),
        pairs=sum(len(group) * (len(group) - 1) // 2 for group in people),
        ids={"near": _ids_of(cohort, near), "people": _ids_of(cohort, people)},
    )


def _groups(keys: pl.DataFrame, eligible: np.ndarray) -> list[list[int]]:
    """Positions of eligible patients with equal keys, two or more."""
    table = keys.with_columns(position=pl.int_range(pl.len())).filter(pl.Series(eligible))
    equal = table.group_by(keys.columns).agg("position").filter(pl.col("position").list.len() > 1)
    return [sorted(group) for group in equal["position"].to_list()]


def _merged(groups: list[list[int]]) -> list[list[int]]:
    """Groups that share somebody are one."""
    home: dict[int, set[int]] = {}
    for group in groups:
        union = set(group).union(*(home.get(one, set()) for one in group))
        home |= dict.fromkeys(union, union)
    return sorted(sorted(group) for group in {id(group): group for group in home.values()}.values())


def _ids_of(cohort: Cohort, groups: Iterable[list[int]]) -> list[list[str]]:
    """Ids of each group, sorted."""
    return sorted(cohort.ids[group].astype(str).tolist() for group in groups)


def _records(cohort: Cohort) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Of each patient: two hashes of the whole record, its rows, log chance that another one has the same.

    The chance is a product of shares: for each moment, of other patients known to have a row at it; for each
    value that a code takes, of other patients with that code who have it too. A code that is there, and a
    value that comes again, count as sure, since codes go together and values stay.
    """
    parts = [
        pl.DataFrame(
            {"patient": e.patient, "known": e.known, "code": e.code, "bits": value_bits(e.value)}
        ).with_columns(kind=pl.lit(i, pl.Int32))
        for i, (kind, e) in enumerate(cohort.events.items())
        if kind != "timepoint"
    ]
    blank = pl.DataFrame({"patient": [], "known": [], "code": [], "bits": [], "kind": []}).cast(pl.Int64)
    table = pl.concat(parts) if parts else blank
    row, code = pl.struct("kind", "known", "code", "bits"), ["kind", "code"]

    def others(*same: str) -> pl.Expr:
        return (pl.col("patient").n_unique().over(same) - 1).clip(1)

    moments = table.unique(["patient", "known"]).select(
        "patient", log=(others("known") / max(len(cohort) - 1, 1)).log()
    )
    values = table.unique(["patient", *code, "bits"]).select(
        "patient", log=(others(*code, "bits") / others(*code)).log()
    )
    chance = pl.concat([moments, values]).group_by("patient").agg(pl.col("log").sum())
    hashes = (
        table.with_columns(one=row.hash(1), two=row.hash(2))
        .group_by("patient")
        .agg(pl.col("one", "two").sum(), rows=pl.len())
    )
    patients = pl.DataFrame({"patient": np.arange(len(cohort))}).cast(table.schema["patient"])
    for part in (hashes, chance):
        patients = patients.join(part, on="patient", how="left", maintain_order="left")
    patients = patients.fill_null(0)
    return patients.select("one", "two"), patients["rows"].to_numpy(), patients["log"].to_numpy()


def value_bits(value: np.ndarray) -> np.ndarray:
    """Floats as integers that are equal where they are, nan included.

    Parameters
    ----------
    value : (row,) float array

    Returns
    -------
    (row,) int32 array
    """
    return np.where(np.isnan(value), np.float32(np.nan), value.astype(np.float32)).view(np.int32)


def _other_columns(cohort: Cohort) -> tuple[pl.DataFrame, np.ndarray]:
    """Baseline covariates, entry and outcomes of each patient, and the log chance that another has them."""
    columns = {f"number {i}": value_bits(cohort.number[:, i]) for i in range(cohort.number.shape[1])}
    present = [~np.isnan(cohort.number[:, i]) for i in range(cohort.number.shape[1])]
    columns |= {f"category {i}": cohort.category[:, i] for i in range(cohort.category.shape[1])}
    present += [cohort.category[:, i] >= 0 for i in range(cohort.category.shape[1])]
    columns["entry"] = cohort.entry
    present.append(np.ones(len(cohort), bool))
    for name, outcome in grouped_outcomes(cohort).items():
        if outcome.has_curve:
            truth = cohort.survival(name)
            columns |= {f"time {name}": truth.time, f"event {name}": truth.event}
            present += [truth.time != NEVER] * 2
    chance = np.zeros(len(cohort))
    for column, there in zip(columns.values(), present, strict=True):
        _, level, count = np.unique(column, return_inverse=True, return_counts=True)
        share = np.maximum(count[level] - 1, 1) / max(len(cohort) - 1, 1)
        chance += np.where(there, np.log(share), 0)
    return pl.DataFrame({name: np.ascontiguousarray(column) for name, column in columns.items()}), chance
