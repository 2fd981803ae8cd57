"""Which dates of a cohort are usual, and which cannot be: decades from all others, before birth, after today.

All arrays are (patient,) int64 seconds after each patient's origin; NEVER or FOREVER = there is none.
"""

from __future__ import annotations

import time as clock
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from gnnpatient.ingest.moments import BEYOND
from gnnpatient.ingest.patients import Patients, patient_table
from gnnpatient.ingest.rows import Rows
from gnnpatient.ingest.source import PEOPLE, SourceTables
from gnnpatient.times import DAY, FOREVER, NEVER, YEAR

DECADES = round(20 * YEAR * DAY)
"""Seconds; a date farther than this from all others is taken for a slip. Of offsets the gap is twice it."""

# the days written for a birth of which the year alone is known
_PLACEHOLDERS = ("01-01", "07-01", "12-31")


def is_given(times: np.ndarray) -> np.ndarray:
    """Which times there are.

    Parameters
    ----------
    times : numpy.ndarray
        (patient,) int64 seconds after the origin.

    Returns
    -------
    numpy.ndarray
        (patient,) bool.
    """
    return (times != NEVER) & (times != FOREVER)


@dataclass(frozen=True, eq=False)
class UsualDates:
    """Where the bulk of a cohort's dates ends, and where each patient's own dates do.

    Attributes
    ----------
    origin : numpy.ndarray
        What leads from seconds after the origin to the axis that all patients share: seconds since 1970, or 0
        without a calendar.
    calendar : bool
        Whether times are dates, not only days after an origin.
    first, last : numpy.ndarray
        The patient's own first and last date that is not far from the others.
    end : int
        The last day of the data, in seconds on the shared axis.
    shifted : bool
        Most dates lie after today, as where a table was moved to 2100 and later.
    born : numpy.ndarray
        The earliest that the birth can have been, NEVER = not known.
    """

    origin: np.ndarray  # (patient,) int64 seconds
    calendar: bool
    first: np.ndarray  # (patient,) int64 seconds
    last: np.ndarray  # (patient,) int64 seconds
    end: int
    shifted: bool
    born: np.ndarray  # (patient,) int64 seconds

    @property
    def gap(self) -> int:
        """From how many seconds on a time is far from others."""
        return DECADES if self.calendar else 2 * DECADES

    def is_far(self, times: np.ndarray) -> np.ndarray:
        """Which times lie decades after every other date of the patient and of the cohort.

        Times of this sort count as others; those beyond must be few, or all on one day, or a lifetime away.

        Parameters
        ----------
        times : numpy.ndarray
            (patient,) int64 seconds after the origin.

        Returns
        -------
        numpy.ndarray
            (patient,) bool.
        """
        present = is_given(times)
        at = np.where(present, times, 0)
        axis = at + self.origin
        late = present & (at > self.last + self.gap) & (axis > self.end + self.gap)
        if not late.any():
            return late
        top = int(axis[present & ~late].max(initial=self.end))
        beyond = np.sort(axis[late])
        alone = np.flatnonzero(np.diff(beyond, prepend=top) > self.gap)
        late &= axis >= (beyond[alone[0]] if len(alone) else FOREVER)
        few, one = 2 * late.sum() <= present.sum(), late.sum() > 1 and np.ptp(axis[late]) < 2 * DAY
        lifetime = axis[late].min(initial=FOREVER) > self.end + 3 * DECADES
        return late & (few or one or lifetime)

    def is_open(self, ends: np.ndarray) -> np.ndarray:
        """Which ends are fillers for "still open"; those after today, too, where few are.

        Parameters
        ----------
        ends : numpy.ndarray
            (patient,) int64 seconds after the origin.

        Returns
        -------
        numpy.ndarray
            (patient,) bool.
        """
        late = self.is_far(ends)
        if self.calendar and not self.shifted:
            present = is_given(ends)
            ahead = present & ~late & (np.where(present, ends, 0) + self.origin > _today())
            late |= ahead & (2 * ahead.sum() <= present.sum())
        return late

    def is_astray(self, times: np.ndarray) -> np.ndarray:
        """Which times lie decades before or after all other dates. Day 0 does not.

        Parameters
        ----------
        times : numpy.ndarray
            (patient,) int64 seconds after the origin.

        Returns
        -------
        numpy.ndarray
            (patient,) bool.
        """
        return self.is_open(np.where(times == 0, NEVER, times)) | (
            is_given(times) & (times < self.first - self.gap)
        )

    def is_impossible(self, times: np.ndarray, *, old: bool = True) -> np.ndarray:
        """Which events cannot be: decades ahead, before the birth, after today.

        Parameters
        ----------
        times : numpy.ndarray
            (patient,) int64 seconds after the origin.
        old : bool, default True
            Nor can those that lie decades before all other dates of the patient.

        Returns
        -------
        numpy.ndarray
            (patient,) bool.
        """
        present = is_given(times)
        at = np.where(present, times, 0)
        wrong = self.is_far(times)
        wrong |= (self.born != NEVER) & (at < self.born)
        if self.calendar:
            wrong |= old & (at < self.first - DECADES)
            wrong |= (not self.shifted) & (at + self.origin > _today())
        return present & wrong

    def is_filler(self, times: np.ndarray) -> np.ndarray:
        """Which times decades ahead mean "has not happened": in 9999, or on a day that several have.

        Parameters
        ----------
        times : numpy.ndarray
            (patient,) int64 seconds after the origin.

        Returns
        -------
        numpy.ndarray
            (patient,) bool.
        """
        late = self.is_far(times)
        _, place, people = np.unique(
            (times[late] + self.origin[late]) // DAY, return_inverse=True, return_counts=True
        )
        late[late] = (people[place] > 1) | (times[late] >= BEYOND)
        return late

    def clipped_to_data(self, ends: np.ndarray) -> np.ndarray:
        """Ends of a window after the origin, none after the data's last day.

        Only where the data fill the window of anybody: without that they do not say how far they reach.

        Parameters
        ----------
        ends : numpy.ndarray
            (patient,) int64 seconds after the origin.

        Returns
        -------
        numpy.ndarray
            (patient,) int64 seconds after the origin.
        """
        beyond = ends + self.origin > self.end
        if not self.calendar or not beyond.any() or not (self.last >= ends)[~beyond].any():
            return ends
        return np.where(beyond, np.maximum(self.end - self.origin, 0), ends)


def _today() -> int:
    """Seconds since 1970; a day later, as clocks differ."""
    return int(clock.time()) + DAY


def _far_rows(
    rows: Mapping[str, Rows], origin: np.ndarray, born: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Which rows of each kind, and whose day 0, are of no time of the patient's, as 1900-01-01 is.

    They lie more than 20 years from day 0 and from the bulk of the patient's rows, and several patients have
    the same day, or it is one or two days and no birth says that they can be. A history of years is none.
    """
    far_rows = {kind: np.zeros(len(events.patient), bool) for kind, events in rows.items()}
    has_far_row = np.zeros(len(origin), bool)
    for events in rows.values():
        has_far_row[events.patient[np.abs(events.happened) > DECADES]] = True
    lost = np.zeros(len(origin), bool)
    if not has_far_row.any():
        return far_rows, lost
    positions = {kind: np.flatnonzero(has_far_row[events.patient]) for kind, events in rows.items()}
    owner, when = np.flatnonzero(has_far_row), np.zeros(has_far_row.sum(), np.int64)
    patient = np.concatenate([owner, *(rows[kind].patient[at] for kind, at in positions.items())])
    when = np.concatenate([when, *(rows[kind].happened[at] for kind, at in positions.items())])
    frame = pl.DataFrame({"patient": patient, "when": when, "day": (when + origin[patient]) // DAY})
    frame = frame.with_row_index("row").with_columns(
        zero=pl.col("row") < len(owner), known=born[patient] != NEVER
    )
    frame = frame.sort("patient", "when").with_columns(
        part=((pl.col("when").diff() > DECADES) | (pl.col("patient").diff() != 0)).fill_null(True).cum_sum()
    )
    parts = frame.group_by("patient", "part").agg(
        pl.col("day").n_unique().alias("days"), pl.col("zero").any()
    )
    home = parts.sort("patient", "days", "zero").group_by("patient", maintain_order=True).last()["part"]
    parts = parts.filter(~pl.col("part").is_in(home.implode()))
    away = frame.join(parts.select("part", "days", pl.col("zero").alias("start")), on="part")
    same = away.group_by("day").agg(pl.col("patient").n_unique().alias("people"), pl.len().alias("rows"))
    filler = same.filter((pl.col("people") > 1) & (5 * pl.col("rows") >= len(away)))["day"]
    few = (pl.col("days") <= 2) & ~pl.col("known") & ~pl.col("start")
    found = np.zeros(len(frame), bool)
    found[away.filter(pl.col("day").is_in(filler.implode()) | few)["row"].to_numpy()] = True
    start = len(owner)
    lost[owner[found[:start]]] = True
    for kind, at in positions.items():
        far_rows[kind][at] = found[start : start + len(at)]
        start += len(at)
    many = 2 * sum(of.sum() for of in far_rows.values()) > sum(map(len, far_rows.values()))
    # what most rows are is not far from the others
    return {kind: of & ~many for kind, of in far_rows.items()}, lost


def _far_origins(low: np.ndarray, high: np.ndarray, same: np.ndarray, born: np.ndarray) -> np.ndarray:
    """Whose day 0 is no time of theirs: (patient,) bool.

    It lies decades further from all their dates, first to last (low, high), than anybody's dates lie from a
    day 0 that is nearer; or several have the `same` far one. Few are so, and a birth that is day 0 never is.
    """
    present = np.flatnonzero(low <= high)
    near = np.maximum(low[present], -high[present])  # below 0 where it lies amid them
    reach = np.maximum(np.abs(low[present]), np.abs(high[present]))
    order = np.argsort(near, kind="stable")
    nearer = np.maximum.accumulate(reach[order])[:-1]
    parted = 1 + np.flatnonzero(near[order][1:] > nearer + DECADES)
    parted = parted[2 * (len(present) - parted) <= len(present)]
    far = same & bool(2 * (near > DECADES).sum() <= len(present) or 2 * same.sum() > len(present))
    if len(parted):
        far[present[order[parted[0] :]]] = True
    return far & ~((born <= 0) & (born > -367 * DAY))


def usual_dates(
    source: SourceTables, patients: Patients, rows: Mapping[str, Rows], times: Iterable[np.ndarray]
) -> UsualDates:
    """The bulk of the dates. Rows that are far from it are flagged.

    Parameters
    ----------
    source : SourceTables
        For flags.
    patients : Patients
        With their origins.
    rows : mapping of str to Rows
        The rows of each node type.
    times : iterable of numpy.ndarray
        Other times, as of events of outcomes: (patient,) int64 seconds each.

    Returns
    -------
    UsualDates
    """
    count, calendar = len(patients), patients.origin is not None
    origin = np.zeros(count, np.int64) if patients.origin is None else patients.origin
    first, last = np.zeros(count, np.int64), np.zeros(count, np.int64)
    born = _born(source, patients)
    lone, lost = _far_rows(rows if calendar else {}, origin, born)
    low, high = np.full(count, FOREVER), np.full(count, NEVER)  # of the patient's own dates
    ahead = total = 0
    for kind, events in rows.items():
        near = ~lone.setdefault(kind, np.zeros(len(events.patient), bool))
        np.minimum.at(first, events.patient[near], events.happened[near])
        np.maximum.at(last, events.patient[near], events.happened[near])
        np.minimum.at(low, events.patient[near], events.happened[near])
        np.maximum.at(high, events.patient[near], events.happened[near])
        if calendar:
            ahead += int((events.happened + origin[events.patient] > _today()).sum())
            total += len(events.happened)
    ahead, total = ahead + int((origin > _today()).sum()), total + count
    dates = UsualDates(origin, calendar, first, last, 0, 2 * ahead > total, born)
    dates = replace(dates, end=int((last + origin).max(initial=0)))
    for more in times:
        more = np.where(dates.is_impossible(more, old=False), NEVER, more)
        present = is_given(more)
        np.maximum.at(last, np.flatnonzero(present), more[present])
        low, high = (
            np.where(present, np.minimum(low, more), low),
            np.where(present, np.maximum(high, more), high),
        )
    lost = _far_origins(low, high, lost, born) if calendar else lost
    for these, what in (
        (lost, "lies decades from all their rows, a filler?"),
        (born > 0, "lies before the birth"),
    ):
        if these.any():
            source.flag(f"origin: day 0 of {int(these.sum())} patient(s) {what}", decides=True)
    dates = replace(dates, end=int((last + origin).max(initial=0)))
    _flag_far_rows(source, rows, dates, lone)
    return dates


def _born(source: SourceTables, patients: Patients) -> np.ndarray:
    """The earliest that each birth can have been; a year before it where the date looks like a year alone."""
    born = np.full(len(patients), NEVER)
    if source.standard is None or patient_table(source) != PEOPLE or patients.origin is None:
        return born
    if "birth" not in source.schemas[PEOPLE]:
        return born
    view = source.view(PEOPLE, ["birth"])
    owner, day = view.patient_index(patients.ids), view.column("birth").dt.to_string("%m-%d").fill_null("")
    at = view.column("birth").dt.epoch("s").fill_null(NEVER).to_numpy()
    vague = (day.is_in(_PLACEHOLDERS) | day.str.ends_with("-15")).to_numpy()
    known = (owner >= 0) & (at != NEVER)
    born[owner[known]] = (at - np.where(vague, 366 * DAY, DAY))[known] - patients.origin[owner[known]]
    return born


def _flag_far_rows(
    source: SourceTables, rows: Mapping[str, Rows], dates: UsualDates, lone: Mapping[str, np.ndarray]
) -> None:
    """Flag rows that cannot be, or hardly: before the birth, decades away, after today, never known."""
    for kind, events in rows.items():
        axis, unborn = events.happened + dates.origin[events.patient], dates.born[events.patient]
        early = (unborn != NEVER) & (events.happened < unborn)
        _flag_rows(source, kind, events, early, "lie before the birth")
        away = lone[kind] & ~early
        _, day = np.unique(axis[away] // DAY, return_counts=True)
        same = int(day.max(initial=0))
        more = f"; {same} of them on one day, a filler?" if same > 1 else ""
        what = "lie more than 20 years from day 0 and from the other rows of the patient"
        _flag_rows(source, kind, events, away, what, more)
        ahead = ~away & (axis > _today())
        if dates.calendar and not dates.shifted and 2 * ahead.sum() <= len(ahead):
            _flag_rows(source, kind, events, ahead, "lie after today")
        late = (events.known + dates.origin[events.patient] > dates.end + dates.gap) & ~lone[kind]
        late &= events.known > dates.last[events.patient] + dates.gap
        _flag_rows(source, kind, events, late, "become known decades after all other dates: never seen")


def _flag_rows(
    source: SourceTables, kind: str, rows: Rows, these: np.ndarray, what: str, more: str = ""
) -> None:
    if these.any():
        patients = len(np.unique(rows.patient[these]))
        source.flag(f"{kind}: {int(these.sum())} row(s) of {patients} patient(s) {what}{more}")
