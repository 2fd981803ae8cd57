"""Labels of an ACES task: the moments at which it predicts, several a patient."""

from __future__ import annotations

import numpy as np
import polars as pl

from gnnpatient.cohort.outcomes import Task
from gnnpatient.errors import InputError
from gnnpatient.ingest import aces
from gnnpatient.ingest.record import Record
from gnnpatient.ingest.source import SourceTables
from gnnpatient.spec.outcomes import DiagnosisSpec


def read_task_labels(record: Record, outcome: DiagnosisSpec) -> Task:
    """The prediction times of an ACES task, and their labels.

    Parameters
    ----------
    record : Record
        All that has been read of the patients.
    outcome : DiagnosisSpec
        Its spec, with `task`.

    Returns
    -------
    Task

    Raises
    ------
    InputError
        When the file lies outside the folder of the data, or is no task.
    """
    source, patients = record.source, record.patients
    assert outcome.task is not None and patients.origin is not None
    path = (source.folder / outcome.task).resolve()
    if not path.is_relative_to(source.folder.resolve()):
        raise InputError(f"{outcome.task}: leads out of {source.folder}; keep the task beside the data")
    events = _events(source)
    found = aces.label(aces.read_task(path), events)
    index = {"id": patients.ids, "patient": np.arange(len(patients)), "origin": patients.origin}
    rows = found.join(pl.DataFrame(index, schema_overrides={"id": pl.String}), on="id")
    rows = rows.with_columns(pl.col("at").dt.epoch("s") - pl.col("origin")).sort("patient", "at", "label")
    rows = rows.unique(["patient", "at"], keep="last", maintain_order=True)
    return Task(
        rows["patient"].to_numpy(),
        rows["at"].to_numpy(),
        rows["label"].cast(pl.Int16).to_numpy(),
        len(patients),
    )


def _events(source: SourceTables) -> pl.DataFrame:
    """All events of a standard format, in the columns that ACES has."""
    parts = []
    for table in source.event_tables(None):
        source.open(table)
        schema = source.schemas[table]
        number = pl.col("value").cast(pl.Float64) if "value" in schema else pl.lit(None, dtype=pl.Float64)
        lazy = source.tables[table].lazy()
        lazy = lazy.filter(pl.col("refused").is_null()) if "refused" in schema else lazy
        parts.append(
            lazy.filter(pl.col("time").is_not_null()).select(
                pl.col("id").alias("subject_id"),
                source.moments(table).alias("time"),
                "code",
                number.alias("numeric_value"),
            )
        )
    return pl.concat(parts).collect(engine="streaming")
