"""Progression outcomes: the next value of a code, its change, or the time until it is worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from gnnpatient.cohort.packed import Events
from gnnpatient.cohort.survival import Survival
from gnnpatient.errors import InputError
from gnnpatient.spec.graph import ProgressionSpec
from gnnpatient.times import DAY, FOREVER, NEVER, seconds


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


def _up_to(value: np.ndarray, limit: np.ndarray | float, base: np.ndarray) -> np.ndarray:
    """Whether a value is at or above a limit, as they are written: 1.3 reaches 1.3, and 1.1 plus 0.2.

    Values are float32, so that decimals differ by less than one in a million.
    """
    return value >= limit - 1e-6 * np.maximum(np.abs(value), np.abs(base))


def _mean(owner: np.ndarray, value: np.ndarray, size: int) -> np.ndarray:
    count = np.bincount(owner, minlength=size)
    total = np.bincount(owner, value.astype(np.float64), minlength=size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
