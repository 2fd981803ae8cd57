"""Periods of observation with gaps between them, and what they make of an outcome."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from gnnpatient.cohort.survival import Spells
from gnnpatient.ingest.patients import Patients
from gnnpatient.ingest.source import SourceTables
from gnnpatient.readers.dates import end_of_day, is_midnight
from gnnpatient.times import DAY, FOREVER, NEVER

WASHOUT = 30 * DAY
"""A diagnosis so soon after a gap may date from the gap: nobody is at risk again until this has passed."""


@dataclass(frozen=True, eq=False)
class Periods:
    """Stretches in which somebody is observed, joined where they touch; sorted by patient and begin.

    Attributes
    ----------
    patient : numpy.ndarray
        Whose period it is.
    begin, end : numpy.ndarray
        When it begins and ends, in seconds after the origin.
    """

    patient: np.ndarray  # (period,) int64
    begin: np.ndarray  # (period,) int64 seconds
    end: np.ndarray  # (period,) int64 seconds

    def first_end(self, entry: np.ndarray) -> np.ndarray:
        """The end of the first period that ends after each patient's entry.

        Parameters
        ----------
        entry : numpy.ndarray
            (patient,) int64 seconds after the origin.

        Returns
        -------
        numpy.ndarray
            (patient,) int64 seconds, FOREVER = the patient has no period.
        """
        end, last = np.full(len(entry), FOREVER), np.full(len(entry), NEVER)
        later = self.end > entry[self.patient]
        np.minimum.at(end, self.patient[later], self.end[later])
        np.maximum.at(last, self.patient, self.end)
        return np.where((end == FOREVER) & (last != NEVER), last, end)


def read_periods(source: SourceTables, patients: Patients) -> Periods | None:
    """The periods of observation that a standard format names.

    Parameters
    ----------
    source : SourceTables
        The tables of the cohort.
    patients : Patients
        Whose periods are read.

    Returns
    -------
    Periods or None
        None = the format names none.
    """
    table = None if source.standard is None else source.standard.periods
    if table is None or patients.origin is None:
        return None
    index = pl.DataFrame(
        {"id": patients.ids, "patient": np.arange(len(patients)), "origin": patients.origin},
        schema_overrides={"id": pl.String},
    )
    end = pl.col("end")
    stretches = (
        table.drop_nulls()
        .join(index, on="id")
        .select(
            "patient",
            (pl.col("start").dt.epoch("s") - pl.col("origin")).alias("begin"),
            (end_of_day(end, is_midnight(end)).dt.epoch("s") - pl.col("origin")).alias("end"),
        )
        .filter(pl.col("begin") <= pl.col("end"))
        .sort("patient", "begin", "end")
        # a new stretch begins where all before have ended a day ago or longer
        .with_columns(pl.col("end").cum_max().shift(1).over("patient").alias("before"))
        .with_columns((pl.col("begin") > pl.col("before") + DAY).fill_null(True).cum_sum().alias("stretch"))
        .group_by("stretch")
        .agg(pl.col("patient").first(), pl.col("begin").min(), pl.col("end").max())
        .sort("stretch")
    )
    if not len(stretches):
        return None
    periods = Periods(*(stretches[name].to_numpy().astype(np.int64) for name in ("patient", "begin", "end")))
    people, count = np.unique(periods.patient, return_counts=True)
    if n := int((count > 1).sum()):
        source.flag(
            f"observation_period: {n} of {len(people)} person(s) have a gap between two periods; nobody is "
            "at risk in a gap, and what happens there is not counted",
            decides=True,
        )
    if lost := len(patients) - len(people):
        source.flag(f"observation_period: {lost} person(s) have no period; their periods are not known")
    return periods


def spells(
    periods: Periods,
    entry: np.ndarray,
    time: np.ndarray,
    begun: np.ndarray,
    event: np.ndarray,
    last: np.ndarray,
    until: np.ndarray,
    washout: bool,
) -> Spells:
    """Each period as a spell of an outcome, with an end of its own.

    Nobody is at risk again who had an event before.

    Parameters
    ----------
    periods : Periods
        The periods of observation.
    entry : numpy.ndarray
        (patient,) int64 seconds: when each patient enters.
    time, begun, event, until : numpy.ndarray
        (patient,) of the first event: when it happened, the first second at which that can have been, which
        cause it was (0 = none), and until when the patient is at risk.
    last : numpy.ndarray
        (patient,) int64 seconds: the other ends of observation.
    washout : bool
        It is a diagnosis, of which nobody is at risk in the first days after a gap.

    Returns
    -------
    Spells
    """
    # who has no period counts as observed throughout: one period
    alone = np.setdiff1d(np.arange(len(entry)), periods.patient)
    owner = np.concatenate([periods.patient, alone])
    begin = np.concatenate([periods.begin, np.full(len(alone), NEVER)])
    end = np.concatenate([periods.end, np.full(len(alone), FOREVER)])
    order = np.lexsort((begin, owner))
    owner, begin = owner[order], begin[order]
    end = np.minimum(end[order], last[owner])
    again = np.zeros(len(owner), bool)
    again[1:] = (np.diff(owner) == 0) & (end[:-1] > entry[owner[:-1]])
    begin = np.where(again & washout, begin + WASHOUT, begin)
    had = event[owner] > 0
    inside = had & (begun[owner] <= end) & (time[owner] > begin)
    stop = np.where(inside, np.minimum(time[owner], end), end)
    keep = (stop > np.maximum(begin, entry[owner])) & ~(had & (time[owner] <= begin))
    return Spells(
        patient=owner[keep],
        begin=begin[keep],
        until=np.where(inside, np.minimum(until[owner], stop), stop)[keep],
        time=stop[keep],
        event=np.where(inside, event[owner], 0)[keep].astype(np.int8),
    )


def first_spell(
    spells: Spells, entry: np.ndarray, time: np.ndarray, event: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each patient's first spell; who has none is not observed after entry.

    Parameters
    ----------
    spells : Spells
        Of all patients.
    entry : numpy.ndarray
        (patient,) int64 seconds: when each patient enters.
    time, event : numpy.ndarray
        (patient,) of the first event.
    last : numpy.ndarray
        (patient,) int64 seconds: the other ends of observation.

    Returns
    -------
    time, event, until : numpy.ndarray
        (patient,) of the spell.
    """
    had = (event > 0) & (time <= entry)  # prevalent
    stop = np.where(had, time, np.minimum(last, entry))
    event, until = np.where(had, event, 0).astype(np.int8), stop.copy()
    owner, row = np.unique(spells.patient, return_index=True)
    stop[owner], event[owner], until[owner] = spells.time[row], spells.event[row], spells.until[row]
    return stop, event, until
