"""Survival outcomes: the time to the first of several causes, with gaps and late amendments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np

from gnnpatient.cohort.arrays import StoredColumns
from gnnpatient.show import Shown, Summary, counted, listed
from gnnpatient.spec.outcomes import SurvivalSpec
from gnnpatient.times import DAY, NEVER


@dataclass(frozen=True, eq=False, repr=False)
class Spells(Shown):
    """Periods of observation with gaps between them, sorted by patient and begin.

    Each ends by itself, with an event or censored.

    Attributes
    ----------
    patient : ndarray
        Position of the patient in the cohort.
    begin : ndarray
        First second at risk, after the patient's origin.
    until : ndarray
        Landmarks lie before this second.
    time : ndarray
        Second of the event, or of the end of observation.
    event : ndarray
        0 = censored, k = the k-th cause.
    """

    patient: np.ndarray  # (spell,) int64
    begin: np.ndarray  # (spell,) int64 seconds
    until: np.ndarray  # (spell,) int64 seconds
    time: np.ndarray  # (spell,) int64 seconds
    event: np.ndarray  # (spell,) int8

    def _summary(self) -> Summary:
        patients = counted(len(np.unique(self.patient)), "patient")
        return Summary(f"Spells: {len(self.patient)}, of {patients}")

    def of_patients(self, patients: np.ndarray) -> Spells:
        """Keep the spells of some patients.

        Parameters
        ----------
        patients : ndarray
            Whether each patient is kept, (patient,) bool.

        Returns
        -------
        Spells
        """
        keep = patients[self.patient]
        return Spells(**{name: column[keep] for name, column in vars(self).items()})

    def has_event(self, patients: int) -> np.ndarray:
        """Whether each patient has an event in one of their spells.

        Parameters
        ----------
        patients : int
            Number of patients of the cohort.

        Returns
        -------
        ndarray
            (patient,) bool.
        """
        return np.bincount(self.patient[self.event > 0], minlength=patients) > 0

    def locate(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the spell in which each landmark lies.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        spell : ndarray
            The last spell that has begun by then, (landmark,) int64.
        inside : ndarray
            Whether the landmark lies in that spell, (landmark,) bool.
        """
        if not len(self.patient):
            return np.zeros(len(at), np.int64), np.zeros(len(at), bool)
        # Spells and landmarks are sorted together; of the same moment, the spell comes first.
        place = np.arange(len(self.patient) + len(at))
        order = np.lexsort((place, np.r_[self.begin, at], np.r_[self.patient, patient]))
        begun = np.maximum.accumulate(np.where(order < len(self.patient), order, -1))
        spell = np.empty(len(at), np.int64)
        landmarks = order >= len(self.patient)
        spell[order[landmarks] - len(self.patient)] = begun[landmarks].clip(min=0)
        return spell, (self.patient[spell] == patient) & (self.begin[spell] <= at) & (at < self.until[spell])


@dataclass(frozen=True, eq=False, repr=False)
class Survival(Shown):
    """Time to the first of several causes, one entry a patient.

    Where a patient is observed with gaps, the entry is that of the first spell. The class attributes are
    described in `gnnpatient.cohort.outcomes`.

    Attributes
    ----------
    time : ndarray
        Second of the event, or of the end of observation; NEVER = unknown.
    event : ndarray
        0 = censored, k = the k-th cause.
    causes : tuple of str
        Names of the causes.
    until : ndarray, optional
        Landmarks lie before this second. None: before `time`.
    spells : Spells, optional
        Every spell of every patient, where some are observed with gaps.
    retracted : ndarray, optional
        Events that an amendment took back later, see `later_retracted`.
    kind, has_model, has_curve, has_course, has_own_moments, has_patient_groups, name_noun, horizon
        What this kind of outcome can do.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> death = pbc().outcomes["death"]
    >>> death.causes, death.has_curve
    (('transplant', 'death'), True)
    >>> death.truth(np.array([0]), np.array([0]))["time"]       # days of the first patient after the origin
    array([400.])
    """

    kind: ClassVar[Literal["survival"]] = "survival"
    has_model: ClassVar[Literal[True]] = True
    has_curve: ClassVar[Literal[True]] = True
    has_course: ClassVar[Literal[True]] = True
    has_own_moments: ClassVar[Literal[False]] = False
    has_patient_groups: ClassVar[Literal[True]] = True
    name_noun: ClassVar[tuple[str, str]] = ("cause", "causes")
    horizon: ClassVar[None] = None
    time: np.ndarray  # (patient,) int64 seconds
    event: np.ndarray  # (patient,) int8
    causes: tuple[str, ...]
    until: np.ndarray | None = None  # (patient,) int64 seconds
    spells: Spells | None = None
    retracted: np.ndarray | None = None  # (spell, 3) int64

    def _summary(self) -> Summary:
        sizes = listed(group_sizes(self.strata, self.causes, "censored"))
        return Summary(f"Survival of {counted(len(self.time), 'patient')}: {sizes}")

    @property
    def names(self) -> tuple[str, ...]:
        """The causes."""
        return self.causes

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the numbers that `groups_at` gives."""
        return ("event_free", *self.causes)

    def groups_at(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Divide landmarks into groups by the event that ends their observation.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            Position in `group_names`, -1 = not at risk, or unknown, (landmark,) int64.
        """
        included = (self.time[patient] != NEVER) & self.at_risk(patient, at)
        return np.where(included, self.event[patient].astype(np.int64), -1)

    @property
    def ends(self) -> np.ndarray:
        """Second before which a patient's landmarks lie, (patient,) int64."""
        last = self.time if self.until is None else self.until
        if self.spells is not None:
            last = last.copy()
            np.maximum.at(last, self.spells.patient, self.spells.until)
        return last

    @property
    def strata(self) -> np.ndarray:
        """What a split spreads evenly: the event, in whichever spell, (patient,) int64."""
        event = self.event.astype(np.int64)
        if self.spells is not None:
            np.maximum.at(event, self.spells.patient, self.spells.event.astype(np.int64))
        return event

    def observed_end(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the event and the second at which the observation of each landmark ends.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        event : ndarray
            0 = censored, k = the k-th cause, (landmark,) int8.
        time : ndarray
            Seconds after the origin, (landmark,) int64.
        """
        if self.spells is None:
            return self.event[patient], self.time[patient]
        spell, inside = self.spells.locate(patient, at)
        event, time = self.event[patient].copy(), self.time[patient].copy()
        event[inside], time[inside] = self.spells.event[spell[inside]], self.spells.time[spell[inside]]
        return event, time

    def at_risk(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Whether each landmark is at risk: no event yet, and still observed.

        A patient whose event was recorded, and taken back only later, is not at risk in between.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            (landmark,) bool.
        """
        return self.under_observation(patient, at) & ~later_retracted(self.retracted, patient, at)

    open = at_risk

    def under_observation(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Whether each landmark lies before the event and the end of observation.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            (landmark,) bool.
        """
        if self.spells is not None:
            return self.spells.locate(patient, at)[1]
        return (self.time if self.until is None else self.until)[patient] > at

    def truth(self, patient: np.ndarray, at: np.ndarray, to: np.ndarray | None = None) -> np.ndarray:
        """Give what was observed after each landmark.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.
        to : ndarray, optional
            Not used; other kinds of outcome need it.

        Returns
        -------
        ndarray
            Structured, (landmark,): event (0 = censored, k = the k-th cause), time (days after `at`).
        """
        out = np.empty(len(at), dtype=[("event", np.int8), ("time", np.float64)])
        out["event"], out["time"] = self.course(patient, at)
        return out

    def course(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the fields of `truth` as two arrays.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        event : ndarray
            0 = censored, k = the k-th cause, (landmark,) int8.
        time : ndarray
            Days after the landmark, (landmark,) float64.
        """
        event, time = self.observed_end(patient, at)
        return event, (time - at) / DAY

    def columns(self) -> dict[str, np.ndarray]:
        """Give every array by the name of its file.

        Returns
        -------
        dict
            Name -> array; without `until`, spells and retracted events where there are none.
        """
        columns = {"time": self.time, "event": self.event}
        columns |= {} if self.until is None else {"until": self.until}
        spells = {} if self.spells is None else vars(self.spells)
        columns |= {f"spell.{name}": array for name, array in spells.items()}
        return columns | present(stood=self.retracted)

    @classmethod
    def from_columns(cls, spec: SurvivalSpec, columns: StoredColumns, patients: int) -> Survival:
        """Read what `columns` gave, memory-mapped.

        Parameters
        ----------
        spec : SurvivalSpec
            The outcome in the spec of the cohort.
        columns : StoredColumns
            The arrays of the outcome.
        patients : int
            Number of patients of the cohort.

        Returns
        -------
        Survival
        """
        spells = None
        if "spell.patient" in columns:
            spells = Spells(*(columns.read(f"spell.{f.name}") for f in fields(Spells)))
        return cls(
            time=columns.read("time", patients),
            event=columns.read("event", patients),
            causes=spec.cause_names,
            until=columns.read_optional("until", patients),
            spells=spells,
            retracted=columns.read_optional("stood"),
        )

    def flow(self, at_entry: np.ndarray, enters: np.ndarray) -> dict[str, Any]:
        """Count the patients that are left at each step of eligibility.

        Parameters
        ----------
        at_entry : ndarray
            Second of each patient's entry, (patient,) int64.
        enters : ndarray
            Whether each patient enters, (patient,) bool.

        Returns
        -------
        dict
            Step -> number of patients.
        """
        entry = np.asarray(at_entry)
        known = (self.time != NEVER) & enters
        free = known & ((self.time if self.until is None else self.until) > entry)
        steps = {"outcome known": known.sum()}
        if prevalent := int((known & ~free & (self.event > 0)).sum()):
            steps["event at or before entry (prevalent)"] = prevalent
        if ended := int((known & ~free & (self.event == 0)).sum()):
            steps["observation ends at or before entry"] = ended
        if self.spells is not None:
            start = self.under_observation(np.arange(len(known)), entry)
            if later := int((free & ~start).sum()):
                steps["observed only from a day after entry on"] = later
            free &= start
        steps["at risk at entry"] = free.sum()
        steps |= {f"event: {c}": (free & (self.event == k)).sum() for k, c in enumerate(self.causes, 1)}
        steps["censored"] = (free & (self.event == 0)).sum()
        return steps if self.spells is None else steps | self._gap_flow(self.spells, entry)

    def _gap_flow(self, spells: Spells, entry: np.ndarray) -> dict[str, Any]:
        """The steps of the spells that begin after a gap."""
        again = spells.begin > entry[spells.patient]
        steps: dict[str, Any] = {"at risk again after a gap": len(np.unique(spells.patient[again]))}
        for k, cause in enumerate(self.causes, 1):
            steps[f"event after a gap: {cause}"] = (again & (spells.event == k)).sum()
        return steps


def group_sizes(group: np.ndarray, names: Sequence[str], rest: str) -> list[str]:
    """Say how many patients are in each group.

    Parameters
    ----------
    group : ndarray
        0 for the rest, k for the k-th name, (patient,) int.
    names : sequence of str
        Names of the groups.
    rest : str
        What the others are called.

    Returns
    -------
    list of str

    Examples
    --------
    >>> group_sizes(np.array([0, 1, 1, 2]), ("transplant", "death"), "censored")
    ['2 transplant', '1 death', '1 censored']
    """
    count = np.bincount(group, minlength=len(names) + 1).tolist()
    return [f"{n} {name}" for n, name in zip(count[1:], names, strict=True)] + [f"{count[0]} {rest}"]


def later_retracted(retracted: np.ndarray | None, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Whether at each landmark a record was valid that an amendment took back later.

    Parameters
    ----------
    retracted : ndarray or None
        Patient, first and last second of each such period, sorted, no two overlapping, (period, 3) int64;
        the last second is excluded.
    patient, at : ndarray
        Position and second after the origin of each landmark, (landmark,) int64.

    Returns
    -------
    ndarray
        (landmark,) bool.

    Examples
    --------
    >>> periods = np.array([[0, 10, 20]])
    >>> later_retracted(periods, np.array([0, 0, 1]), np.array([15, 20, 15]))
    array([ True, False, False])
    """
    if retracted is None or not len(retracted):
        return np.zeros(len(at), bool)
    owner, begin, end = retracted.T
    low = int(min(begin.min(), at.min(initial=0)))
    span = int(max(begin.max(), at.max(initial=0))) - low + 1
    period = np.searchsorted(owner * span + begin - low, patient * span + at - low, "right") - 1
    return (period >= 0) & (owner[period] == patient) & (at < end[period])


def present(**columns: np.ndarray | None) -> dict[str, np.ndarray]:
    """Keep the columns that are not None.

    Parameters
    ----------
    **columns : ndarray or None
        Column of each name.

    Returns
    -------
    dict
        Name -> array.
    """
    return {name: column for name, column in columns.items() if column is not None}
