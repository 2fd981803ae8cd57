"""Diagnosis outcomes: the class of a patient, or of each moment of a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from gnnpatient.cohort.arrays import StoredColumns
from gnnpatient.cohort.survival import later_retracted, present
from gnnpatient.spec.graph import DiagnosisSpec
from gnnpatient.times import DAY, FOREVER, NEVER, seconds


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Which class a patient belongs to. Yes, no and *not looked for* are three things."""

    kind: ClassVar[Literal["diagnosis"]] = "diagnosis"
    has_model: ClassVar[Literal[True]] = True
    has_curve: ClassVar[Literal[False]] = False
    has_own_moments: ClassVar[Literal[False]] = False
    has_patient_groups: ClassVar[Literal[True]] = True
    name_noun: ClassVar[tuple[str, str]] = ("class", "classes")
    label: np.ndarray  # (patient,) int16 into classes, -1 = not looked for; with a horizon 1 = ever seen
    known: np.ndarray  # (patient,) int64 seconds: when the label became known; FOREVER = never
    end: np.ndarray  # (patient,) int64 seconds: end of observation, FOREVER = not said
    classes: tuple[str, ...]
    gap: int  # seconds that an ask must lie before `known`
    horizon: int | None  # seconds within which the codes must come; None: the label is that of the patient
    same: bool = False  # about what can be seen now: the label may be known already
    gone: np.ndarray | None = None  # (patient,) int64 seconds: dead or gone for good, FOREVER = not that one
    # knows; of a diagnosis with a horizon
    retracted: np.ndarray | None = (
        None  # (spell, 3) int64: a label that was taken back later, see `later_retracted`
    )

    @property
    def has_course(self) -> bool:
        """Whether a patient may be lost before the label is known: with a horizon."""
        return self.horizon is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""
        return self.classes

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the numbers of `groups_at`."""
        return self.classes

    def groups_at(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Group of each landmark, its label; -1 = not open, or unknown: (landmark,) int64."""
        label = self.truth(patient, at)["label"].astype(np.int64)
        return np.where(self.open(patient, at), label, -1)

    @property
    def ends(self) -> np.ndarray:
        last = self.end if self.gone is None else np.minimum(self.end, self.gone)
        if self.same:
            return last
        first = np.where(self.known == FOREVER, FOREVER, self.known - self.gap + (self.gap > 0))
        return np.minimum(first, last)

    @property
    def strata(self) -> np.ndarray:
        """What a split spreads evenly: (patient,) int64."""
        return self.label.astype(np.int64) + 1

    def open(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Still observed, the label not known for another `gap`: (ask,) bool. It may never be looked for.

        Not open either while a label retracted that was taken back later: at that time it was known.
        """
        return (at < self.ends[patient]) & (self.same | ~later_retracted(self.retracted, patient, at))

    def at_risk(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Open, and (without a horizon) the label given at all."""
        free = self.open(patient, at)
        return free & (self.label[patient] >= 0) if self.horizon is None else free

    def truth(self, patient: np.ndarray, at: np.ndarray, to: np.ndarray | None = None) -> np.ndarray:
        """label (-1 = not looked for, or not observed long enough), time until it is known (days, or nan)."""
        out = np.empty(len(at), dtype=[("label", np.int16), ("time", np.float64)])
        known = self.known[patient]
        out["time"] = np.where(known == FOREVER, np.nan, (known - at.astype(np.float64)) / DAY)
        out["label"] = self.label[patient]
        if self.horizon is not None:
            event, time = self.course(patient, at)
            within = time <= self.horizon / DAY
            out["label"] = np.where(within, np.array([-1, 1, 0])[event], 0)
        return out

    def course(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How each ask went on, up to the horizon: event (0 lost or free, 1 diagnosed, 2 dead or gone without
        it), time (days after the ask of that, or of the end of observation).

        What is known after the end of observation is not counted. Who is observed up to the horizon is free
        at it, so that his time lies beyond it.
        """
        assert self.horizon is not None
        known, end = self.known[patient], self.end[patient]
        gone = np.full(len(at), FOREVER) if self.gone is None else self.gone[patient]
        gone = np.where(gone <= end, gone, FOREVER)
        event = np.where((known <= end) & (known <= gone) & (known < FOREVER), 1, 2 * (gone < FOREVER))
        moment, until = np.choose(event, [end, known, gone]), at + self.horizon
        beyond = (moment > until) | ((event == 0) & (moment == until))
        time = np.where(beyond, self.horizon + 1, np.minimum(moment, until) - at)
        return np.where(beyond, 0, event), time / DAY

    def columns(self) -> dict[str, np.ndarray]:
        whole = {"label": self.label, "known": self.known, "end": self.end}
        return whole | present(gone=self.gone, stood=self.retracted)

    @classmethod
    def from_columns(cls, spec: DiagnosisSpec, columns: StoredColumns, patients: int) -> Diagnosis | Task:
        """As `columns` gave it, memory-mapped; of a task, that."""
        if spec.task is not None:
            return Task(columns.read("patient"), columns.read("at"), columns.read("label"), patients)
        return cls(
            label=columns.read("label", patients),
            known=columns.read("known", patients),
            end=columns.read("end", patients),
            classes=spec.class_names,
            gap=seconds(spec.gap),
            horizon=seconds(spec.horizon) if spec.horizon and spec.node else None,
            same=spec.when == "same",
            gone=columns.read_optional("gone", patients),
            retracted=columns.read_optional("stood"),
        )

    def flow(self, at_entry: np.ndarray, enters: np.ndarray) -> dict[str, Any]:
        """How many patients are left at each step."""
        given = (self.label >= 0) & enters
        steps = {"looked for": given.sum()}
        free = given & (at_entry < self.ends)
        steps["not known at entry"] = free.sum()
        names = ("not seen", "ever seen") if self.horizon is not None else self.classes
        return steps | {f"label: {c}": (free & (self.label == k)).sum() for k, c in enumerate(names)}


@dataclass(frozen=True, eq=False)
class Task:
    """A diagnosis that is asked at moments of its own (an ACES task): a label a moment, several a patient."""

    kind: ClassVar[Literal["diagnosis"]] = "diagnosis"
    has_model: ClassVar[Literal[True]] = True
    has_curve: ClassVar[Literal[False]] = False
    has_course: ClassVar[Literal[False]] = False
    has_own_moments: ClassVar[Literal[True]] = True
    has_patient_groups: ClassVar[Literal[False]] = False
    name_noun: ClassVar[tuple[str, str]] = ("class", "classes")
    patient: np.ndarray  # (moment,) int64, sorted by patient and at
    at: np.ndarray  # (moment,) int64 seconds: when it is asked
    label: np.ndarray  # (moment,) int16 into classes
    patients: int
    classes: tuple[str, ...] = ("no", "yes")
    horizon: ClassVar[None] = None

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""
        return self.classes

    @property
    def ends(self) -> np.ndarray:
        last = np.full(self.patients, NEVER)
        np.maximum.at(last, self.patient, self.at + 1)
        return last

    @property
    def strata(self) -> np.ndarray:
        """What a split spreads evenly, the highest label of a patient: (patient,) int64."""
        highest = np.zeros(self.patients, np.int64)
        np.maximum.at(highest, self.patient, self.label.astype(np.int64) + 1)
        return highest

    def _found(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which moment each ask is, and whether it is one."""
        if not len(self.at):
            return np.zeros(len(at), np.int64), np.zeros(len(at), bool)
        low = int(min(self.at.min(), at.min(initial=0)))
        span = int(max(self.at.max(), at.max(initial=0))) - low + 1
        key, wanted = self.patient * span + self.at - low, patient * span + at - low
        row = np.searchsorted(key, wanted).clip(max=len(key) - 1)
        return row, key[row] == wanted

    def open(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Whether an ask is one of the task's moments: (ask,) bool."""
        return self._found(patient, at)[1]

    at_risk = open

    def truth(self, patient: np.ndarray, at: np.ndarray, to: np.ndarray | None = None) -> np.ndarray:
        """label, and time nan: a task does not say when it becomes known."""
        out = np.empty(len(at), dtype=[("label", np.int16), ("time", np.float64)])
        row, found = self._found(patient, at)
        out["time"], out["label"] = np.nan, -1
        out["label"][found] = self.label[row[found]]
        return out

    def columns(self) -> dict[str, np.ndarray]:
        return {"patient": self.patient, "at": self.at, "label": self.label}

    def flow(self, at_entry: np.ndarray, enters: np.ndarray) -> dict[str, Any]:
        """How many moments there are, and of how many patients."""
        steps = {"patients with a moment of the task": len(np.unique(self.patient)), "moments": len(self.at)}
        return steps | {f"label: {c}": (self.label == k).sum() for k, c in enumerate(self.classes)}
