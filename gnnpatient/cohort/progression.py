"""Progression outcomes: the next value of a code, or its change; `worsening` has the time until worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from gnnpatient.cohort.packed import Events
from gnnpatient.cohort.survival import Survival
from gnnpatient.errors import InputError
from gnnpatient.show import Shown, Summary, counted
from gnnpatient.spec.outcomes import ProgressionSpec
from gnnpatient.times import DAY, FOREVER, NEVER, seconds


@dataclass(frozen=True, eq=False, repr=False)
class Progression(Shown):
    """How a value continues after a landmark: its next value, or its change.

    A model is fitted for it. The class attributes are described in
    `gnnpatient.cohort.outcomes`.

    Attributes
    ----------
    spec : ProgressionSpec
        Target, window and horizon.
    code : ndarray
        Which codes of the node type are followed.
    events : Events
        Rows of the node type.
    gone : Survival or None
        Competing outcome that ends it, as death.
    until : ndarray, optional
        Second at which the observation of each patient ends where nothing else says it, FOREVER = never. The
        last row is no end.
    kind, has_model, has_curve, has_course, has_own_moments, has_patient_groups, strata, horizon, name_noun
        What this kind of outcome can do.
    """

    kind: ClassVar[Literal["progression"]] = "progression"
    has_model: ClassVar[bool] = True
    has_curve: ClassVar[Literal[False]] = False
    has_course: ClassVar[Literal[False]] = False
    has_own_moments: ClassVar[Literal[False]] = False
    has_patient_groups: ClassVar[Literal[False]] = False
    strata: ClassVar[None] = None
    horizon: ClassVar[None] = None
    name_noun: ClassVar[tuple[str, str]] = ("cause", "causes")
    spec: ProgressionSpec
    code: np.ndarray  # (code,) bool
    events: Events
    gone: Survival | None
    until: np.ndarray | None = None  # (patient,) int64

    def _summary(self) -> Summary:
        return Summary(f"Progression of {counted(int(self.code.sum()), 'code')}: a later value")

    @property
    def names(self) -> tuple[str, ...]:
        """The causes or classes: none, a value is forecast."""
        return ()

    @property
    def ends(self) -> np.ndarray:
        """Second before which a patient's landmarks lie, (patient,) int64: the last value, or `gone`."""
        last = np.full(len(self.events.ptr) - 1, NEVER)
        rows = self._followed
        np.maximum.at(last, self.events.patient[rows], self.events.happened[rows])
        if self.gone is not None:
            return np.minimum(last, self.gone.ends)
        return last if self.until is None else np.minimum(last, self.until)

    @property
    def has_end(self) -> bool:
        """Whether anything says when observation ends; else who does not come back counts as not seen."""
        return self.gone is not None or self.until is not None

    @property
    def _followed(self) -> np.ndarray:
        """Rows of the codes that are followed, with a value."""
        return np.flatnonzero(self.code[self.events.code] & np.isfinite(self.events.value))

    def baseline(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Give the last value known at each landmark; of several at one moment, their mean.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            (landmark,) float64, nan = none.
        """
        owner, row = self._visible(patient, at)
        latest = np.full(len(at), NEVER)
        np.maximum.at(latest, owner, self.events.happened[row])
        final = self.events.happened[row] == latest[owner]
        return _mean(owner[final], self.events.value[row[final]], len(at))

    def earlier(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give every value that is known at each landmark.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        tuple of ndarray
            Of each value its landmark, the seconds after it (0 or less), and the value.
        """
        owner, row = self._visible(patient, at)
        return owner, self.events.happened[row] - at[owner], self.events.value[row].astype(np.float64)

    def _visible(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the codes that are known at each landmark: (pair,) landmark, (pair,) row."""
        owner, row = self._rows(patient, at)
        seen = self.events.known[row] <= at[owner]
        if self.events.replaced is not None:
            seen &= self.events.replaced[row] > at[owner]
        return owner[seen], row[seen]

    def _rows(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every row of the codes of each landmark's patient: (pair,) landmark, (pair,) row."""
        rows = self._followed
        ptr = np.searchsorted(rows, self.events.ptr)  # rows are sorted, patients lie back to back
        start, count = ptr[patient], ptr[patient + 1] - ptr[patient]
        owner = np.repeat(np.arange(len(at)), count)
        local = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
        return owner, rows[start[owner] + local]

    def at_risk(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Whether each landmark can be scored: observed, and of a change with a value to compare with.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            (landmark,) bool.
        """
        if self.gone is not None:
            free = self.gone.at_risk(patient, at)
        else:
            free = np.ones(len(at), bool) if self.until is None else self.until[patient] > at
        return free if self.spec.target == "value" else free & np.isfinite(self.baseline(patient, at))

    open = at_risk

    def truth(self, patient: np.ndarray, at: np.ndarray, to: np.ndarray | None = None) -> np.ndarray:
        """Give what the visits after each landmark show.

        value (nan = no visit within the window around `to`), to (days), time (days to that visit), baseline,
        gone (whether the patient was gone by `to`).

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.
        to : ndarray, optional
            Second at which a value is wanted, (landmark,) int64.

        Returns
        -------
        ndarray
            Structured, (landmark,), with the fields above; days after `at`.

        Raises
        ------
        InputError
            When `to` is missing.
        """
        if to is None:
            raise InputError(
                f"a {self.spec.target} needs the time it is wanted for; use cohort.at(day, to=DAY)"
            )
        window, size = seconds(self.spec.window), len(at)
        owner, after, value = self._later(patient, at)
        away = np.abs(after - (to - at)[owner])
        inside = away <= window
        owner, after, value, away = owner[inside], after[inside], value[inside], away[inside]
        nearest = np.full(size, FOREVER)
        np.minimum.at(nearest, owner, away)
        chosen = away == nearest[owner]
        time = np.full(size, FOREVER)  # of two visits equally near, the earlier
        np.minimum.at(time, owner[chosen], after[chosen])
        chosen &= after == time[owner]
        base, found = self.baseline(patient, at), _mean(owner[chosen], value[chosen], size)
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

    def _later(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows after each landmark in their amended form: landmark, seconds after it, value.

        Rows after the end of `gone` do not count, like all rows after the end of observation.
        """
        owner, row = self._rows(patient, at)
        later = self.events.happened[row] > at[owner]
        later &= self.events.happened[row] <= self.followed_until(patient, at)[owner]
        if self.events.replaced is not None:
            later &= self.events.replaced[row] == FOREVER
        owner, row = owner[later], row[later]
        return owner, self.events.happened[row] - at[owner], self.events.value[row].astype(np.float64)

    def later(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give every value after each landmark; of several at one moment, their mean.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        tuple of ndarray
            Of each value its landmark, the seconds after it, and the value, in this order.
        """
        owner, after, value = self._later(patient, at)
        order = np.lexsort((value, after, owner))
        owner, after, value = owner[order], after[order], value[order]
        new = np.ones(len(owner), bool)
        new[1:] = (owner[1:] != owner[:-1]) | (after[1:] != after[:-1])
        return owner[new], after[new], _mean(new.cumsum() - 1, value, int(new.sum()))

    def followed_until(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Give the second until which a value would have been seen after each landmark.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            (landmark,) int64: the end of observation of `gone`; without it `until`, or FOREVER.
        """
        if self.gone is not None:
            return self.gone.observed_end(patient, at)[1]
        return np.full(len(at), FOREVER) if self.until is None else np.asarray(self.until[patient])

    def seen_around(self, patient: np.ndarray, at: np.ndarray, after: int | np.ndarray) -> np.ndarray:
        """Find whether a value was seen within the window around a time after each landmark.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.
        after : int or ndarray
            Seconds after the landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            (landmark,) float64: 1 or 0; nan where the patient was gone by then, or not followed to the end of
            the window.
        """
        truth = self.truth(patient, at, at + after)
        seen = np.isfinite(truth["time"]).astype(np.float64)
        whole = self.followed_until(patient, at) >= at + after + seconds(self.spec.window)
        if self.gone is not None:
            event, end = self.gone.observed_end(patient, at)
            whole |= (event > 0) & (end > at + after)
        return np.where(whole & ~truth["gone"], seen, np.nan)

    def columns(self) -> dict[str, np.ndarray]:
        """Give every array by the name of its file: `until`; all else is read from the rows.

        Returns
        -------
        dict
            Empty where there is no `until`.
        """
        return {} if self.until is None else {"until": self.until}

    def flow(self, at_entry: np.ndarray, enters: np.ndarray) -> dict[str, Any]:
        """Count the patients with values to follow.

        Parameters
        ----------
        at_entry : ndarray
            Second of each patient's entry, (patient,) int64.
        enters : ndarray
            Whether each patient enters, (patient,) bool.

        Returns
        -------
        dict
            Step -> number.
        """
        rows = self._followed
        patients, count = np.unique(self.events.patient[rows], return_counts=True)
        patients, count = patients[enters[patients]], count[enters[patients]]
        steps = {"with a value": len(patients), "with two or more": int((count > 1).sum())}
        if self.gone is not None:
            free = self.gone.under_observation(patients, np.asarray(at_entry)[patients])
            steps["of them at risk at entry"] = int((free & (count > 1)).sum())
        return steps


def _mean(owner: np.ndarray, value: np.ndarray, size: int) -> np.ndarray:
    """Mean value of each owner, nan = none: (size,) float64."""
    count = np.bincount(owner, minlength=size)
    total = np.bincount(owner, value.astype(np.float64), minlength=size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
