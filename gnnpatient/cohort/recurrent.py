"""Events that recur: every one of them, until a cause ends them or observation ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from gnnpatient.cohort.arrays import StoredColumns
from gnnpatient.cohort.survival import Survival
from gnnpatient.show import Summary, counted, listed
from gnnpatient.spec.outcomes import SurvivalSpec
from gnnpatient.times import DAY, NEVER


class Places:
    """Finds moments of patients among their events.

    Parameters
    ----------
    owner, happened : ndarray
        Patient and second of each event, (event,) int64, sorted by both.
    """

    def __init__(self, owner: np.ndarray, happened: np.ndarray):
        # a patient and a second make one number
        self.low = int(min(happened.min(initial=0), 0))
        self.span = int(happened.max(initial=0)) - self.low + 2
        self.key = owner * self.span + (happened - self.low)

    def __call__(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Count the events of all patients before, or at, these moments of theirs.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            (landmark,) int64.
        """
        where = patient * self.span + (at - self.low).clip(-1, self.span - 2)
        found: np.ndarray = np.searchsorted(self.key, where, "right")
        return found


@dataclass(frozen=True, eq=False, repr=False)
class Recurrent(Survival):
    """Events that recur, with every one of a patient's, and what ends them.

    `time`, `event` and `causes` are those of the end: of the causes that end it, or of observation. A patient
    is at risk until then, whatever happened before. The class attributes are described in
    `gnnpatient.cohort.outcomes`.

    Attributes
    ----------
    recurs : str
        Name of the event that recurs.
    owner : ndarray
        Position of the patient of each event.
    happened : ndarray
        Second after the patient's origin of each event; sorted by patient and time, each moment once.
    kind, has_patient_groups
        What this kind of outcome can do.
    """

    kind: ClassVar[Literal["recurrent"]] = "recurrent"  # type: ignore[assignment]
    has_patient_groups: ClassVar[Literal[False]] = False  # type: ignore[assignment]
    recurs: str = ""
    owner: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (event,) int64
    happened: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (event,) int64 seconds

    def _summary(self) -> Summary:
        ends = f", ended by {listed(self.causes)}" if self.causes else ""
        patients = counted(len(np.unique(self.owner)), "patient")
        return Summary(f"Recurrent {self.recurs}: {len(self.owner)} in {patients}{ends}")

    @property
    def names(self) -> tuple[str, ...]:
        """The causes: the event that recurs, then what ends it."""
        return (self.recurs, *self.causes)

    @property
    def strata(self) -> np.ndarray:
        """What a split spreads evenly: the end, and whether there was an event before, (patient,) int64."""
        some = np.bincount(self.owner, minlength=len(self.time)) > 0
        return 2 * super().strata + some

    @cached_property
    def _places(self) -> Places:
        return Places(self.owner, self.happened)

    def later(
        self, patient: np.ndarray, at: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Find the events after each landmark, up to the end of its observation.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        first, last : ndarray
            The events are ``happened[first:last]``, (landmark,) int64.
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
            Structured, (landmark,): event (what comes first: 0 = nothing, 1 = the event that recurs, 1 + k =
            the k-th cause that ends it) and time (days), then of the whole observation number (of events),
            gone (0 = nobody knows, k = the k-th cause) and end (days).
        """
        first, last, gone, end = self.later(patient, at)
        names = [("event", np.int8), ("time", np.float64), ("number", np.int64)]
        out = np.empty(len(at), dtype=[*names, ("gone", np.int8), ("end", np.float64)])
        out["number"], out["gone"], out["end"] = last - first, gone, (end - at) / DAY
        some = last > first
        when = np.append(self.happened, 0)[np.where(some, first, -1)]
        out["event"] = np.where(some, 1, np.where(gone > 0, 1 + gone, 0))
        out["time"] = np.where(some, (when - at) / DAY, out["end"])
        return out

    def course(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give event and time of `truth` as two arrays.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        event : ndarray
            0 = nothing, 1 = the event that recurs, 1 + k = the k-th cause that ends it, (landmark,) int8.
        time : ndarray
            Days after the landmark, (landmark,) float64.
        """
        truth = self.truth(patient, at)
        return truth["event"], truth["time"]

    def columns(self) -> dict[str, np.ndarray]:
        """Give every array by the name of its file.

        Returns
        -------
        dict
            Name -> array; those of `Survival`, and the events.
        """
        return super().columns() | {"recurrence.owner": self.owner, "recurrence.happened": self.happened}

    @classmethod
    def from_columns(cls, spec: SurvivalSpec, columns: StoredColumns, patients: int) -> Recurrent:
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
        Recurrent
        """
        end = Survival.from_columns(spec.ending, columns, patients)
        events = columns.read("recurrence.owner"), columns.read("recurrence.happened")
        return cls.of(end, spec.cause_names[0], *events)

    @classmethod
    def of(cls, end: Survival, recurs: str, owner: np.ndarray, happened: np.ndarray) -> Recurrent:
        """Put the events beside what ends them.

        Parameters
        ----------
        end : Survival
            The end of each patient.
        recurs : str
            Name of the event.
        owner, happened : ndarray
            Patient and second of each event, (event,) int64, sorted, each moment once.

        Returns
        -------
        Recurrent
        """
        return cls(**vars(end), recurs=recurs, owner=owner, happened=happened)

    def flow(self, at_entry: np.ndarray, enters: np.ndarray) -> dict[str, Any]:
        """Count the patients that are left at each step of eligibility, and the events.

        Parameters
        ----------
        at_entry : ndarray
            Second of each patient's entry, (patient,) int64.
        enters : ndarray
            Whether each patient enters, (patient,) bool.

        Returns
        -------
        dict
            Step -> number of patients; the last ones -> number of events.
        """
        steps = super().flow(at_entry, enters)
        patient = np.flatnonzero((self.time != NEVER) & enters)
        entry = np.asarray(at_entry)[patient]
        free = self.under_observation(patient, entry)
        number = self.truth(patient[free], entry[free])["number"]
        steps[f"with {self.recurs} after entry"] = int((number > 0).sum())
        steps[f"events of {self.recurs}"] = int(number.sum())
        return steps
