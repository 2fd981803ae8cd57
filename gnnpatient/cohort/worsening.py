"""Progression outcomes with `worse`: the time until a visit shows a worse value, or the patient is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from gnnpatient.cohort.progression import Progression
from gnnpatient.show import Summary, counted, listed
from gnnpatient.times import DAY, FOREVER


@dataclass(frozen=True, eq=False, repr=False)
class Worsening(Progression):
    """Time until a value is worse than at the landmark, with the events of `gone` competing.

    Worse is what a visit shows: it happened after the last visit without it, and by the visit that shows it.
    Who is gone before a visit showed it is gone. Who is neither is followed to the end of the observation of
    `gone`, also without further visits; without `gone`, to the last visit. The class attributes are described
    in `gnnpatient.cohort.outcomes`.

    Attributes
    ----------
    kind, has_model, has_curve, has_course
        What this kind of outcome can do.
    """

    kind: ClassVar[Literal["worsening"]] = "worsening"  # type: ignore[assignment]
    has_model: ClassVar[Literal[True]] = True
    has_curve: ClassVar[Literal[True]] = True  # type: ignore[assignment]
    has_course: ClassVar[Literal[True]] = True  # type: ignore[assignment]

    def _summary(self) -> Summary:
        rest = f", or gone by {listed(self.causes[1:])}" if self.gone else ""
        return Summary(f"Worsening of {counted(int(self.code.sum()), 'code')}: worse{rest}")

    @property
    def causes(self) -> tuple[str, ...]:
        """Names of the events: the first is worse, the others end it."""
        return ("worse", *(self.gone.causes if self.gone else ()))

    @property
    def names(self) -> tuple[str, ...]:
        """The causes."""
        return self.causes

    @property
    def ends(self) -> np.ndarray:
        """Second before which a patient's landmarks lie, (patient,) int64: of `gone`, else the last value."""
        return super().ends if self.gone is None else self.gone.ends

    @property
    def strata(self) -> np.ndarray:  # type: ignore[override]
        """What a split spreads evenly: the event after the first value, 0 = none, (patient,) int64."""
        size = len(self.events.ptr) - 1
        first, rows = np.full(size, FOREVER), self._followed
        np.minimum.at(first, self.events.patient[rows], self.events.known[rows])
        patient = np.flatnonzero(first < FOREVER)
        patient = patient[self.at_risk(patient, first[patient])]
        event = np.zeros(size, np.int64)
        event[patient] = self.course(patient, first[patient])[0]
        return event

    def at_risk(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Whether each landmark can be scored: not gone, with a value that is not worse already.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            (landmark,) bool.
        """
        base, rule = self.baseline(patient, at), self.spec.worse
        assert rule is not None
        free = np.isfinite(base)
        if self.gone is not None:
            free &= self.gone.at_risk(patient, at)
        if rule.times is not None:
            free &= base > 0  # a multiple of zero or less is not worse
        if rule.reaches is not None:
            free &= ~_up_to(base, rule.reaches, base)
        return free

    open = at_risk

    def truth(self, patient: np.ndarray, at: np.ndarray, to: np.ndarray | None = None) -> np.ndarray:
        """Give what the visits after each landmark show.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.
        to : ndarray, optional
            Not used; other kinds of outcome need it.

        Returns
        -------
        ndarray
            Structured, (landmark,): event (0 = neither by `time`, 1 = worse, 1 + k = gone by the k-th cause),
            time (days to the visit that shows it, to being gone, or to the end of observation), after (days
            to the last visit without it), seen (days to the first visit; nan = none).
        """
        first, last, seen = self._visits(patient, at)
        event, time = np.zeros(len(at), np.int8), last
        if self.gone is not None:
            gone, end = self.gone.observed_end(patient, at)
            event, time = np.where(gone > 0, 1 + gone, 0), end - at
        names = [("event", np.int8), *((name, np.float64) for name in ("time", "after", "seen"))]
        out = np.empty(len(at), dtype=names)
        out["event"] = np.where(first < FOREVER, 1, event)
        out["time"] = np.where(first < FOREVER, first, time) / DAY
        out["after"] = last / DAY
        out["seen"] = np.where(seen < FOREVER, seen / DAY, np.nan)
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
            0 = neither, 1 = worse, 1 + k = gone by the k-th cause, (landmark,) int8.
        time : ndarray
            Days after the landmark, (landmark,) float64.
        """
        truth = self.truth(patient, at)
        return truth["event"], truth["time"]

    def is_worse(self, value: np.ndarray, base: np.ndarray | float) -> np.ndarray:
        """Whether values are worse than others.

        Parameters
        ----------
        value : ndarray
            (value,) float64.
        base : float or ndarray
            The value known at the landmark, of all or of each.

        Returns
        -------
        ndarray
            (value,) bool.
        """
        rule = self.spec.worse
        assert rule is not None
        limit = np.asarray(base, np.float64)
        if rule.times is not None:
            to, up = limit * rule.times, rule.times > 1
        elif rule.plus is not None:
            to, up = limit + rule.plus, rule.plus > 0
        else:
            assert rule.reaches is not None
            to, up = np.full_like(limit, rule.reaches), True
        return _up_to(value, to, limit) if up else _up_to(-value, -to, limit)

    def _visits(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Seconds to the first visit that is worse, to the last before it that is not, and to the first.

        FOREVER where there is none; 0 = the landmark itself, the value known then is not worse.
        """
        owner, after, value = self._later(patient, at)
        worse = self.is_worse(value, self.baseline(patient, at)[owner])
        first = np.full(len(at), FOREVER)
        np.minimum.at(first, owner[worse], after[worse])
        last, seen = np.zeros(len(at), np.int64), np.full(len(at), FOREVER)
        before = after < first[owner]
        np.maximum.at(last, owner[before], after[before])
        np.minimum.at(seen, owner, after)
        return first, last, seen


def _up_to(value: np.ndarray, limit: np.ndarray | float, base: np.ndarray) -> np.ndarray:
    """Whether a value is at or above a limit in decimals: 1.3 reaches 1.3, and 1.1 plus 0.2.

    Values are float32, so decimals may differ by one in a million.
    """
    return value >= limit - 1e-6 * np.maximum(np.abs(value), np.abs(base))
