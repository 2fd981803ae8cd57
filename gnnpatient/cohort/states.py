"""Outcomes of several states: in which one a patient is from when on, until one that ends it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from gnnpatient.cohort.arrays import StoredColumns
from gnnpatient.cohort.recurrent import Places
from gnnpatient.cohort.survival import Survival
from gnnpatient.show import Summary, counted, listed
from gnnpatient.spec.outcomes import SurvivalSpec
from gnnpatient.times import DAY, NEVER


@dataclass(frozen=True, eq=False, repr=False)
class States(Survival):
    """The states of each patient over time, and which of them end it.

    `time`, `event` and `causes` are those of the end: of a state that cannot be left, or of observation. A
    patient is at risk until then. The class attributes are described in `gnnpatient.cohort.outcomes`.

    Attributes
    ----------
    states : tuple of str
        Names of the states: the one to begin in, the others that can be left, then those that end it.
    owner : ndarray
        Position of the patient of each change.
    happened : ndarray
        Second after the patient's origin of each change; sorted by patient and time, each moment once.
    state : ndarray
        The state from then on, by position in `states`; never that before.
    known : ndarray or None
        Second after the patient's origin at which each change is known. None: when it happens.
    kind, has_patient_groups
        What this kind of outcome can do.
    """

    kind: ClassVar[Literal["states"]] = "states"  # type: ignore[assignment]
    has_patient_groups: ClassVar[Literal[False]] = False  # type: ignore[assignment]
    states: tuple[str, ...] = ()
    owner: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (change,) int64
    happened: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (change,) int64 seconds
    state: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (change,) int64
    known: np.ndarray | None = None  # (change,) int64 seconds

    def _summary(self) -> Summary:
        patients = counted(len(self.time), "patient")
        return Summary(f"States of {patients}: {listed(self.states)}; {len(self.owner)} changes")

    @property
    def strata(self) -> np.ndarray:
        """What a split spreads evenly: the end, and whether there was another state, (patient,) int64."""
        some = np.bincount(self.owner, minlength=len(self.time)) > (super().strata > 0)
        return 2 * super().strata + some

    @cached_property
    def _places(self) -> Places:
        return Places(self.owner, self.happened)

    def state_at(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Find the state that each patient is in.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            Position in `states`, (landmark,) int64: of the last change by then; the first state before any.
        """
        last = self._places(patient, at) - 1
        changed = (last >= 0) & (np.append(self.owner, -1)[last] == patient)
        return np.where(changed, np.append(self.state, 0)[last], 0)

    def shown_at(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Find the state that each patient is known to be in, of which a forecast starts.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            Position in `states`, (landmark,) int64: of the last of the changes that are known by then.
        """
        if self.known is None:
            return self.state_at(patient, at)
        order = np.lexsort((self.known, self.owner))
        place = Places(self.owner[order], self.known[order])(patient, at) - 1
        last = np.append(np.maximum.accumulate(order), -1)[place]
        changed = (place >= 0) & (np.append(self.owner, -1)[last] == patient)
        return np.where(changed, np.append(self.state, 0)[last], 0)

    def later(
        self, patient: np.ndarray, at: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Find the changes after each landmark, up to the end of its observation.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        first, last : ndarray
            The changes are ``happened[first:last]``, (landmark,) int64.
        gone : ndarray
            What ended it: 0 = the end of observation, k = the k-th of `causes`, (landmark,) int8.
        end : ndarray
            Seconds after the origin, (landmark,) int64.
        """
        gone, end = self.observed_end(patient, at)
        first = self._places(patient, at)
        return first, np.maximum(self._places(patient, end), first), gone, end

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
            Structured, (landmark,): event (0 = censored, k = the k-th state that ends it) and time (days),
            state (now, by position in `states`) and changes (how many until then).
        """
        first, last, _, _ = self.later(patient, at)
        names = [("event", np.int8), ("time", np.float64), ("state", np.int64), ("changes", np.int64)]
        out = np.empty(len(at), dtype=names)
        event, time = self.observed_end(patient, at)
        out["event"], out["time"] = event, (time - at) / DAY
        out["state"], out["changes"] = self.state_at(patient, at), last - first
        return out

    def columns(self) -> dict[str, np.ndarray]:
        """Give every array by the name of its file.

        Returns
        -------
        dict
            Name -> array; those of `Survival`, and the changes.
        """
        changes = {"owner": self.owner, "happened": self.happened, "state": self.state}
        changes |= {} if self.known is None else {"known": self.known}
        return super().columns() | {f"change.{name}": array for name, array in changes.items()}

    @classmethod
    def from_columns(cls, spec: SurvivalSpec, columns: StoredColumns, patients: int) -> States:
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
        States
        """
        end = Survival.from_columns(spec.ending, columns, patients)
        owner, happened, state = (columns.read(f"change.{name}") for name in ("owner", "happened", "state"))
        known = columns.read_optional("change.known")
        return cls.of(end, spec.state_names, owner, happened, state, known)

    @classmethod
    def of(
        cls,
        end: Survival,
        states: tuple[str, ...],
        owner: np.ndarray,
        happened: np.ndarray,
        state: np.ndarray,
        known: np.ndarray | None = None,
    ) -> States:
        """Put the changes beside what ends them.

        Parameters
        ----------
        end : Survival
            The end of each patient.
        states : tuple of str
            Names of the states.
        owner, happened, state : ndarray
            Patient, second and new state of each change, (change,) int64, sorted, each moment once.
        known : ndarray, optional
            When each is known, (change,) int64. Default: when it happens.

        Returns
        -------
        States
        """
        return cls(**vars(end), states=states, owner=owner, happened=happened, state=state, known=known)

    def flow(self, at_entry: np.ndarray, enters: np.ndarray) -> dict[str, Any]:
        """Count the patients that are left at each step of eligibility, and the changes.

        Parameters
        ----------
        at_entry : ndarray
            Second of each patient's entry, (patient,) int64.
        enters : ndarray
            Whether each patient enters, (patient,) bool.

        Returns
        -------
        dict
            Step -> number of patients; the last ones -> how often each state was entered.
        """
        steps = super().flow(at_entry, enters)
        seen = enters[self.owner] & (self.time[self.owner] != NEVER)
        times = np.bincount(self.state[seen], minlength=len(self.states))
        return steps | {
            f"entries into {name}": int(n) for name, n in zip(self.states, times, strict=True) if n
        }
