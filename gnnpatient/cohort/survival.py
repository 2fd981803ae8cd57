"""Survival outcomes: the time to the first of several causes, with gaps and late amendments."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np

from gnnpatient.cohort.arrays import StoredColumns
from gnnpatient.spec.graph import SurvivalSpec
from gnnpatient.times import DAY, NEVER


@dataclass(frozen=True, eq=False)
class Spells:
    """Stretches of observation with gaps between them, sorted by patient and begin; each ends by itself."""

    patient: np.ndarray  # (spell,) int64
    begin: np.ndarray  # (spell,) int64 seconds: the first moment at risk
    until: np.ndarray  # (spell,) int64 seconds: asks lie before this
    time: np.ndarray  # (spell,) int64 seconds: event or end of observation
    event: np.ndarray  # (spell,) int8: 0 censored, k = causes[k - 1]

    def of_patients(self, patients: np.ndarray) -> Spells:
        """Those of some patients, (patient,) bool."""
        keep = patients[self.patient]
        return Spells(**{name: column[keep] for name, column in vars(self).items()})

    def has_event(self, patients: int) -> np.ndarray:
        """Who has an event in one of them: (patient,) bool."""
        return np.bincount(self.patient[self.event > 0], minlength=patients) > 0

    def locate(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The last spell that has begun at each ask, (ask,) int64, and whether the ask lies in it."""
        if not len(self.patient):
            return np.zeros(len(at), np.int64), np.zeros(len(at), bool)
        place = np.arange(len(self.patient) + len(at))  # a spell lies before an ask of its own moment
        order = np.lexsort((place, np.r_[self.begin, at], np.r_[self.patient, patient]))
        begun = np.maximum.accumulate(np.where(order < len(self.patient), order, -1))
        spell = np.empty(len(at), np.int64)
        asks = order >= len(self.patient)
        spell[order[asks] - len(self.patient)] = begun[asks].clip(min=0)
        return spell, (self.patient[spell] == patient) & (self.begin[spell] <= at) & (at < self.until[spell])


@dataclass(frozen=True, eq=False)
class Survival:
    """Time to the first of several causes, one entry a patient; of the first spell where there are gaps."""

    kind: ClassVar[Literal["survival"]] = "survival"
    has_model: ClassVar[Literal[True]] = True
    has_curve: ClassVar[Literal[True]] = True
    has_course: ClassVar[Literal[True]] = True
    has_own_moments: ClassVar[Literal[False]] = False
    has_patient_groups: ClassVar[Literal[True]] = True
    name_noun: ClassVar[tuple[str, str]] = ("cause", "causes")
    horizon: ClassVar[None] = None
    time: np.ndarray  # (patient,) int64 seconds: event or end of observation; NEVER = unknown
    event: np.ndarray  # (patient,) int8: 0 censored, k = causes[k - 1]
    causes: tuple[str, ...]
    until: np.ndarray | None = None  # (patient,) int64: asks lie before this; None: before `time`
    spells: Spells | None = None  # where somebody is observed with gaps: every spell of everybody
    retracted: np.ndarray | None = (
        None  # (spell, 3) int64: an event that was taken back later, see `later_retracted`
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The causes."""
        return self.causes

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the numbers of `groups_at`."""
        return ("event_free", *self.causes)

    def groups_at(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Group of each landmark, its event; -1 = not at risk, or unknown: (landmark,) int64."""
        here = (self.time[patient] != NEVER) & self.at_risk(patient, at)
        return np.where(here, self.event[patient].astype(np.int64), -1)

    @property
    def ends(self) -> np.ndarray:
        """Asks lie before this: (patient,) int64 seconds."""
        last = self.time if self.until is None else self.until
        if self.spells is not None:
            last = last.copy()
            np.maximum.at(last, self.spells.patient, self.spells.until)
        return last

    @property
    def strata(self) -> np.ndarray:
        """What a split spreads evenly, the event in whichever spell: (patient,) int64."""
        event = self.event.astype(np.int64)
        if self.spells is not None:
            np.maximum.at(event, self.spells.patient, self.spells.event.astype(np.int64))
        return event

    def observed_end(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Event and second at which each ask's observation ends: (ask,) int8, int64."""
        if self.spells is None:
            return self.event[patient], self.time[patient]
        spell, inside = self.spells.locate(patient, at)
        event, time = self.event[patient].copy(), self.time[patient].copy()
        event[inside], time[inside] = self.spells.event[spell[inside]], self.spells.time[spell[inside]]
        return event, time

    def at_risk(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Not failed, still observed, and not held for failed then: (ask,) bool."""
        return self.under_observation(patient, at) & ~later_retracted(self.retracted, patient, at)

    open = at_risk

    def under_observation(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Whether these patients are at risk at these seconds: (ask,) bool."""
        if self.spells is not None:
            return self.spells.locate(patient, at)[1]
        return (self.time if self.until is None else self.until)[patient] > at

    def truth(self, patient: np.ndarray, at: np.ndarray, to: np.ndarray | None = None) -> np.ndarray:
        """event (0 censored, k = k-th cause) and time (days after the ask)."""
        out = np.empty(len(at), dtype=[("event", np.int8), ("time", np.float64)])
        out["event"], out["time"] = self.course(patient, at)
        return out

    def course(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The fields of `truth`: event, and time in days after the landmark."""
        event, time = self.observed_end(patient, at)
        return event, (time - at) / DAY

    def columns(self) -> dict[str, np.ndarray]:
        """Every array by name; `until` and the spells only where they say more than `time`."""
        columns = {"time": self.time, "event": self.event}
        columns |= {} if self.until is None else {"until": self.until}
        spells = {} if self.spells is None else vars(self.spells)
        columns |= {f"spell.{name}": array for name, array in spells.items()}
        return columns | present(stood=self.retracted)

    @classmethod
    def from_columns(cls, spec: SurvivalSpec, columns: StoredColumns, patients: int) -> Survival:
        """As `columns` gave it, memory-mapped."""
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
        """How many patients are left at each step."""
        entry = np.asarray(at_entry)
        known = (self.time != NEVER) & enters
        free = known & ((self.time if self.until is None else self.until) > entry)
        steps = {"outcome known": known.sum()}
        if early := int((known & ~free & (self.event > 0)).sum()):
            steps["event at or before entry (prevalent)"] = early
        if late := int((known & ~free & (self.event == 0)).sum()):
            steps["observation ends at or before entry"] = late
        if self.spells is not None:
            start = self.under_observation(np.arange(len(known)), entry)
            if n := int((free & ~start).sum()):
                steps["observed only from a day after entry on"] = n
            free &= start
        steps["at risk at entry"] = free.sum()
        steps |= {f"event: {c}": (free & (self.event == k)).sum() for k, c in enumerate(self.causes, 1)}
        steps["censored"] = (free & (self.event == 0)).sum()
        if self.spells is not None:
            again = self.spells.begin > entry[self.spells.patient]
            steps["at risk again after a gap"] = len(np.unique(self.spells.patient[again]))
            for k, c in enumerate(self.causes, 1):
                steps[f"event after a gap: {c}"] = (again & (self.spells.event == k)).sum()
        return steps


def later_retracted(retracted: np.ndarray | None, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Whether what an amendment took back later retracted at each ask: (ask,) bool.

    retracted: (spell, 3) patient, from, until in seconds, sorted, no two overlapping.
    """
    if retracted is None or not len(retracted):
        return np.zeros(len(at), bool)
    owner, begin, end = retracted.T
    low = int(min(begin.min(), at.min(initial=0)))
    span = int(max(begin.max(), at.max(initial=0))) - low + 1
    spell = np.searchsorted(owner * span + begin - low, patient * span + at - low, "right") - 1
    return (spell >= 0) & (owner[spell] == patient) & (at < end[spell])


def present(**columns: np.ndarray | None) -> dict[str, np.ndarray]:
    """Those that are there."""
    return {name: column for name, column in columns.items() if column is not None}
