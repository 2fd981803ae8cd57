"""What is asked of a model, and what came of each patient: survival, diagnosis, progression."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np

from gnnpatient.cohort.arrays import StoredArrays, StoredColumns
from gnnpatient.cohort.packed import Events
from gnnpatient.errors import InputError
from gnnpatient.spec.outcomes import DiagnosisSpec, OutcomeSpec, ProgressionSpec, SurvivalSpec
from gnnpatient.spec.patterns import fitting
from gnnpatient.times import DAY, FOREVER, NEVER, seconds

# Every kind of outcome below answers the same questions, so that nobody has to ask for its class:
#   has_model           a model is fitted for it
#   has_curve           a model gives the incidence of its causes over time; else a probability of each class
#   has_course          patients may be lost before it is known: `course` gives event and time
#   has_own_moments     it has landmarks of its own: `patient` and `at`; else it is asked at any time
#   has_patient_groups  it has one entry a patient: `groups_at` and `group_names`
#   strata              what a split spreads evenly over its parts, (patient,); None: nothing
#   names, name_noun    its causes or classes, and the word for one and for several of them
#   horizon             seconds within which it must come, of a diagnosis; else None
# Of landmarks (patient, at), two int64 arrays: `at_risk` (to be scored), `open` (to be asked), `truth`.


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
        None  # (spell, 3) int64: an event that was taken back later, see `_later_retracted`
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
        return self.under_observation(patient, at) & ~_later_retracted(self.retracted, patient, at)

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
        return columns | _present(stood=self.retracted)

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
        None  # (spell, 3) int64: a label that was taken back later, see `_later_retracted`
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
        return (at < self.ends[patient]) & (self.same | ~_later_retracted(self.retracted, patient, at))

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
        return whole | _present(gone=self.gone, stood=self.retracted)

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


@dataclass(frozen=True, eq=False)
class Progression:
    """How a value goes on after the ask: its next value, its change, or the time until it is worse."""

    kind: ClassVar[Literal["progression"]] = "progression"
    has_model: ClassVar[Literal[False]] = False
    has_curve: ClassVar[Literal[False]] = False
    has_course: ClassVar[Literal[False]] = False
    has_own_moments: ClassVar[Literal[False]] = False
    has_patient_groups: ClassVar[Literal[False]] = False
    strata: ClassVar[None] = None
    horizon: ClassVar[None] = None
    name_noun: ClassVar[tuple[str, str]] = ("cause", "causes")
    spec: ProgressionSpec
    code: np.ndarray  # (code,) bool: which codes of the kind are followed
    events: Events  # of the kind
    gone: Survival | None  # what ends it

    @property
    def causes(self) -> tuple[str, ...]:
        """Event 1 is worse, the others end it; of target = "worse"."""
        return ("worse", *(self.gone.causes if self.gone else ()))

    @property
    def names(self) -> tuple[str, ...]:
        """The causes."""
        return self.causes

    @property
    def ends(self) -> np.ndarray:
        """The end of what ends it, and the last value: afterwards there is nothing to see."""
        last = np.full(len(self.events.ptr) - 1, NEVER)
        rows = self._followed
        np.maximum.at(last, self.events.patient[rows], self.events.happened[rows])
        return last if self.gone is None else np.minimum(last, self.gone.ends)

    @property
    def _followed(self) -> np.ndarray:
        return np.flatnonzero(self.code[self.events.code] & np.isfinite(self.events.value))

    def baseline(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The last value known at each ask, of one moment the mean; nan = none: (ask,) float64."""
        owner, row = self._rows(patient, at)
        seen = self.events.known[row] <= at[owner]
        if self.events.replaced is not None:
            seen &= self.events.replaced[row] > at[owner]
        owner, row = owner[seen], row[seen]
        latest = np.full(len(at), NEVER)
        np.maximum.at(latest, owner, self.events.happened[row])
        final = self.events.happened[row] == latest[owner]
        return _mean(owner[final], self.events.value[row[final]], len(at))

    def _rows(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every row of the codes of each ask's patient: (pair,) ask, (pair,) row."""
        rows = self._followed
        ptr = np.searchsorted(rows, self.events.ptr)  # rows are sorted, patients lie back to back
        start, count = ptr[patient], ptr[patient + 1] - ptr[patient]
        owner = np.repeat(np.arange(len(at)), count)
        local = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
        return owner, rows[start[owner] + local]

    def at_risk(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Not gone, and with a value to compare with where one is needed, which is not worse already."""
        free = np.ones(len(at), bool) if self.gone is None else self.gone.at_risk(patient, at)
        if self.spec.target == "value":
            return free
        base, rule = self.baseline(patient, at), self.spec.worse
        free = free & np.isfinite(base)
        if rule is not None and rule.times is not None:
            free &= base > 0  # of nothing, or less, there is no multiple that is worse
        if rule is not None and rule.reaches is not None:
            free &= ~_up_to(base, rule.reaches, base)
        return free

    open = at_risk

    def truth(self, patient: np.ndarray, at: np.ndarray, to: np.ndarray | None = None) -> np.ndarray:
        """What came of each ask, among visits after it.

        worse: event (0 not by `time`, 1 worse, 1 + k gone by the k-th cause), time (days: of the visit that
        shows it, of the end, or the last that is known), after (days: the last visit that does not show it).
        value, change: value (nan = not seen within the window around `to`), to (days), time (days of that
        visit), baseline, gone (whether the patient was gone by `to`).
        """
        return self._worse(patient, at) if self.spec.worse is not None else self._value(patient, at, to)

    def _later(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows after each ask, the amended form of each: ask, time in seconds after it, value.

        Those after the end of what ends it do not count, as anything after the end of observation.
        """
        owner, row = self._rows(patient, at)
        later = self.events.happened[row] > at[owner]
        if self.gone is not None:
            later &= self.events.happened[row] <= self.gone.observed_end(patient, at)[1][owner]
        if self.events.replaced is not None:
            later &= self.events.replaced[row] == FOREVER
        owner, row = owner[later], row[later]
        return owner, self.events.happened[row] - at[owner], self.events.value[row].astype(np.float64)

    def _worse(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        assert self.spec.worse is not None and self.spec.horizon is not None
        rule, horizon, size = self.spec.worse, seconds(self.spec.horizon), len(at)
        base = self.baseline(patient, at)
        owner, after, value = self._later(patient, at)
        limit = base[owner]
        if rule.times is not None:
            to, up = limit * rule.times, rule.times > 1
        elif rule.plus is not None:
            to, up = limit + rule.plus, rule.plus > 0
        else:
            assert rule.reaches is not None
            to, up = np.full(len(limit), rule.reaches), True
        bad = _up_to(value, to, limit) if up else _up_to(-value, -to, limit)
        first = np.full(size, FOREVER)
        np.minimum.at(first, owner[bad], after[bad])
        seen = np.zeros(size, np.int64)  # the ask itself: the value known then is not worse
        np.maximum.at(seen, owner[after < first[owner]], after[after < first[owner]])
        event, time = np.zeros(size, np.int8), seen.copy()
        if self.gone is not None:
            event, end = self.gone.observed_end(patient, at)
            event = np.where(event > 0, 1 + event, 0)
            time = np.where(event > 0, end - at, seen)
        event, time = np.where(first < FOREVER, 1, event), np.where(first < FOREVER, first, time)
        beyond = time > horizon
        out = np.empty(size, dtype=[("event", np.int8), ("time", np.float64), ("after", np.float64)])
        out["event"] = np.where(beyond, 0, event)
        out["time"] = np.minimum(time, horizon) / DAY
        out["after"] = np.minimum(seen, horizon) / DAY
        return out

    def _value(self, patient: np.ndarray, at: np.ndarray, to: np.ndarray | None) -> np.ndarray:
        if to is None:
            raise InputError(f"a {self.spec.target} at which time? ask with cohort.at(day, to=DAY)")
        window, size = seconds(self.spec.window), len(at)
        owner, after, value = self._later(patient, at)
        away = np.abs(after - (to - at)[owner])
        inside = away <= window
        owner, after, value, away = owner[inside], after[inside], value[inside], away[inside]
        nearest = np.full(size, FOREVER)
        np.minimum.at(nearest, owner, away)
        of = away == nearest[owner]
        time = np.full(size, FOREVER)  # of two visits equally near, the earlier
        np.minimum.at(time, owner[of], after[of])
        of &= after == time[owner]
        base, found = self.baseline(patient, at), _mean(owner[of], value[of], size)
        names = [(n, np.float64) for n in ("value", "to", "time", "baseline")] + [("gone", np.bool_)]
        out = np.empty(size, dtype=names)
        out["value"] = found - base if self.spec.target == "change" else found
        out["to"], out["baseline"] = (to - at) / DAY, base
        out["time"] = np.where(time == FOREVER, np.nan, time / DAY)
        out["gone"] = False
        if self.gone is not None:
            event, end = self.gone.observed_end(patient, at)
            out["gone"] = (event > 0) & (end <= to)
        return out

    def columns(self) -> dict[str, np.ndarray]:
        return {}  # it is read from the rows of its kind

    def flow(self, at_entry: np.ndarray, enters: np.ndarray) -> dict[str, Any]:
        """How many patients are left at each step."""
        rows = self._followed
        patients, count = np.unique(self.events.patient[rows], return_counts=True)
        patients, count = patients[enters[patients]], count[enters[patients]]
        steps = {"with a value": len(patients), "with two or more": int((count > 1).sum())}
        if self.gone is not None:
            free = self.gone.under_observation(patients, np.asarray(at_entry)[patients])
            steps["of them at risk at entry"] = int((free & (count > 1)).sum())
        return steps


Outcome = Survival | Diagnosis | Task | Progression


def _later_retracted(retracted: np.ndarray | None, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
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


def _present(**columns: np.ndarray | None) -> dict[str, np.ndarray]:
    """Those that are there."""
    return {name: column for name, column in columns.items() if column is not None}


def _up_to(value: np.ndarray, limit: np.ndarray | float, base: np.ndarray) -> np.ndarray:
    """Whether a value is at or above a limit, as they are written: 1.3 reaches 1.3, and 1.1 plus 0.2.

    Values are float32, so that decimals differ by less than one in a million.
    """
    return value >= limit - 1e-6 * np.maximum(np.abs(value), np.abs(base))


def _mean(owner: np.ndarray, value: np.ndarray, size: int) -> np.ndarray:
    count = np.bincount(owner, minlength=size)
    total = np.bincount(owner, value.astype(np.float64), minlength=size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def progression(
    spec: ProgressionSpec,
    events: Mapping[str, Events],
    codes: Mapping[str, tuple[str, ...]],
    outcomes: Mapping[str, Outcome],
) -> Progression:
    """A progression outcome on the rows that are packed."""
    of = fitting(codes[spec.node], spec.codes)
    gone = outcomes[spec.gone] if spec.gone is not None else None
    assert gone is None or gone.has_curve
    return Progression(spec, np.array(of), events[spec.node], gone)


# What reads an outcome from its own columns, by its kind; a progression has none, it is read from the rows.
_FROM_COLUMNS: dict[str, Callable[[Any, StoredColumns, int], Outcome]] = {
    Survival.kind: Survival.from_columns,
    Diagnosis.kind: Diagnosis.from_columns,
}


def stored_labels(
    specs: Mapping[str, OutcomeSpec], arrays: StoredArrays, patients: int
) -> dict[str, Outcome]:
    """The outcomes that a cohort's folder holds; those without columns of their own are left out."""
    return {
        name: _FROM_COLUMNS[spec.kind](spec, arrays.columns(f"outcome.{name}"), patients)
        for name, spec in specs.items()
        if spec.kind in _FROM_COLUMNS
    }


def all_outcomes(
    specs: Mapping[str, OutcomeSpec],
    labels: Mapping[str, Outcome],
    events: Mapping[str, Events],
    codes: Mapping[str, tuple[str, ...]],
) -> dict[str, Outcome]:
    """All outcomes in the order of the spec; progression is read from the rows of its kind."""
    return {
        name: progression(spec, events, codes, labels) if spec.kind == "progression" else labels[name]
        for name, spec in specs.items()
    }
