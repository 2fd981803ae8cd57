"""Events that recur: what came of each landmark, and what is forecast of the next event and of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.outcomes import Outcome
from gnnpatient.cohort.recurrent import Recurrent
from gnnpatient.cohort.splits import default_horizons, landmark_weights
from gnnpatient.errors import InputError
from gnnpatient.metrics import aalen_johansen, mean_number
from gnnpatient.model.heads import HeadConfig
from gnnpatient.model.paths import SMALLEST, RecurrentConfig
from gnnpatient.prognosis.disclosure import coarse_incidence, coarse_number, round_time
from gnnpatient.prognosis.forecast import Forecast
from gnnpatient.prognosis.paths import PathTarget
from gnnpatient.prognosis.rows import MIN_MEMBERS, member_spread, positions
from gnnpatient.prognosis.targets import SurvivalTarget, last_estimable, time_grid
from gnnpatient.show import Summary
from gnnpatient.times import DAY, duration

if TYPE_CHECKING:
    import polars as pl

LEAST_STAY = 1e-6  # share of patients in a state, below which its hazards are not told from the marginal


@dataclass(frozen=True, eq=False)
class RecurrentTarget(PathTarget):
    """What came of each landmark, for one outcome of events that recur.

    `event` and `time` are of what came first: the next event, or what ended it.

    Attributes
    ----------
    gone : ndarray
        What ended it: 0 = the end of observation, k = ``causes[k]``.
    end : ndarray
        Days after the landmark of that; nan where it is not at risk.
    first, last : ndarray
        Its events are ``happened[first:last]``.
    at : ndarray
        Days after the patient's origin.
    happened : ndarray
        Days after the patient's origin of all events of all patients.
    count : ndarray or None
        How often each transition happened in each interval of the head's grid, see `posed`.
    exposure : ndarray or None
        The share of each interval in which it could have.
    """

    gone: np.ndarray  # (landmark,) int64
    end: np.ndarray  # (landmark,) float64
    first: np.ndarray  # (landmark,) int64
    last: np.ndarray  # (landmark,) int64
    at: np.ndarray  # (landmark,) float64
    happened: np.ndarray  # (event,) float64
    count: np.ndarray | None = None  # (landmark, transition, time) float32
    exposure: np.ndarray | None = None  # (landmark, transition, time) float32

    @classmethod
    def of(cls, landmarks: Landmarks, name: str) -> RecurrentTarget:
        """Read an outcome at landmarks.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times; those not at risk teach nothing.
        name : str
            Name of the outcome.

        Returns
        -------
        RecurrentTarget
        """
        outcome = cast(Recurrent, landmarks.cohort.outcomes_with_model([name])[name])
        base, at_risk = SurvivalTarget.of(landmarks, name), landmarks.at_risk(name)
        first, last, gone, end = outcome.later(landmarks.patient, landmarks.at)
        days = np.where(at_risk, (end - landmarks.at) / DAY, np.nan)
        last = np.where(at_risk, last, first)
        parts = np.where(at_risk, gone, 0).astype(np.int64), days, first, last, landmarks.at / DAY
        return cls(base.causes, base.event, base.time, *parts, outcome.happened / DAY)

    @classmethod
    def from_y(cls, outcome: Outcome, y: np.ndarray, size: int) -> RecurrentTarget:
        """Refuse a `y`: the events of a landmark do not fit into an array of one row each.

        Parameters
        ----------
        outcome : Outcome
            The outcome that `y` is about.
        y : ndarray
            Anything.
        size : int
            Number of landmarks.

        Returns
        -------
        RecurrentTarget
            Never.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError("y: events that recur are read from X's own outcome; leave y out")

    @property
    def parts(self) -> tuple[np.ndarray, ...]:
        """The landmarks that had each transition, each (landmark,) bool."""
        later = self.last - self.first > 0
        gone = [self.known & (self.gone == k) for k in range(1, len(self.causes))]
        more = self.known & (self.last - self.first > 1)
        return (self.known & later, *(g & ~later for g in gone), more, *(g & later for g in gone))

    def __getitem__(self, rows: np.ndarray) -> RecurrentTarget:
        names = ("event", "time", "gone", "end", "first", "last", "at", "count", "exposure")
        some: dict[str, Any] = {name: getattr(self, name) for name in names}
        kept: dict[str, Any] = {name: x if x is None else x[rows] for name, x in some.items()}
        return replace(self, **kept)

    def events(self) -> tuple[np.ndarray, np.ndarray]:
        """List the events after each landmark.

        Returns
        -------
        owner : ndarray
            The landmark of each event, (event,) int64, rising.
        time : ndarray
            Days after the landmark, (event,) float64.
        """
        number = self.last - self.first
        owner = np.repeat(np.arange(len(number)), number)
        place = np.arange(len(owner)) - np.repeat(number.cumsum() - number, number) + self.first[owner]
        return owner, self.happened[place] - self.at[owner]

    def head_config(  # type: ignore[override]
        self, name: str, landmarks: Landmarks, horizon: float | None, num_times: int, least: int
    ) -> RecurrentConfig:
        """Choose the horizon, up to which the number of events can be estimated, and the time grid.

        Parameters
        ----------
        name : str
            Name of the outcome, for messages.
        landmarks : Landmarks
            The training landmarks.
        horizon : float or None
            Days up to which to forecast; None: the last one that can be estimated.
        num_times : int
            Intervals of the time grid, at most.
        least : int
            Fewest patients that a figure may be of to be written down.

        Returns
        -------
        RecurrentConfig

        Raises
        ------
        InputError
            When no event lies within the horizon, or the horizon is not above 0.
        """
        owner, time = self.events()
        if horizon is None:
            ends = SurvivalTarget(self.causes, self.gone, self.end)
            last = last_estimable(ends, landmarks.patient, landmarks.moments)
            last = round_time(last, time) if least > 1 else last
        else:
            last = float(horizon)
        if not last > 0:
            raise InputError(f"horizon {last:g} days; must be > 0, days after the landmark")
        if not (time <= last).any():
            raise InputError(
                f"outcome {name!r}: no {self.causes[0]} within {last:g} days of a landmark; nothing to learn"
            )
        if horizon is not None:
            self._warn_of(name, last, landmarks.patient)
        every = SurvivalTarget(self.causes, np.ones(len(owner), np.int64), time)
        patient, moments = landmarks.patient[owner], landmarks.moments[owner]
        times = time_grid(every, moments, last, num_times, patient, least)
        return RecurrentConfig(causes=self.causes, times=times)

    def check(self, name: str) -> None:
        """Check that the event that recurs came at all.

        Parameters
        ----------
        name : str
            Name of the outcome, for the message.

        Raises
        ------
        InputError
            When it did not.
        """
        if not (self.last > self.first).any():
            raise InputError(
                f"outcome {name!r}: no {self.causes[0]} among {len(self.event)} landmarks; nothing to learn"
            )

    def counted(self, times: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Count each transition in each interval, and say for how much of it a patient was at risk of it.

        Parameters
        ----------
        times : tuple of float
            Ends of the intervals in days after the landmark; each is (start, end].

        Returns
        -------
        count, exposure : ndarray
            (landmark, transition, time) float32; nothing of those not at risk.
        """
        grid, known, size = np.array(times), self.known, len(self.causes)
        start = np.append(0.0, grid[:-1])
        count = np.zeros((len(known), 2 * size, len(grid)), np.float32)
        owner, time = self.events()
        number = self.last - self.first
        again = np.arange(len(owner)) > (number.cumsum() - number)[owner]
        inside = time <= grid[-1]
        place = owner[inside], again[inside] * size, np.searchsorted(grid, time[inside])
        np.add.at(count, place, 1.0)
        ended = np.flatnonzero(known & (self.gone > 0) & (self.end <= grid[-1]))
        column = self.gone[ended] + (number[ended] > 0) * size
        np.add.at(count, (ended, column, np.searchsorted(grid, self.end[ended])), 1.0)

        def share(until: np.ndarray) -> np.ndarray:
            until = np.where(known, until, 0.0)
            found: np.ndarray = ((until[:, None] - start) / (grid - start)).clip(0, 1)
            return found

        free, seen = share(self.time), share(self.end)
        exposure = np.stack([free, seen - free], 1).astype(np.float32)
        return count, np.repeat(exposure, size, axis=1)

    def marginal(self, moments: np.ndarray, times: tuple[float, ...] = ()) -> np.ndarray:
        """Estimate everything without inputs, every landmark time counting the same.

        What comes first and what ends it by Aalen and Johansen, the number of events by `mean_number`.

        Parameters
        ----------
        moments : ndarray
            (landmark,) int64, the landmark time of each, see `Landmarks.moments`.
        times : tuple of float
            Days after the landmark.

        Returns
        -------
        ndarray
            (slot, time) float64, see `RecurrentConfig.probabilities`.
        """
        known, grid = self.known, np.array(times)
        incidence = super().marginal(moments, times)
        mine = self[known]
        weight = landmark_weights(moments)[known]
        number = mean_number(*mine.events(), mine.end, mine.gone, grid, weight=weight)
        causes = len(self.causes) - 1
        gone = aalen_johansen(mine.end, mine.gone, grid, causes=max(causes, 1), weight=weight)[1 : 1 + causes]
        return np.concatenate([incidence, np.maximum(number, incidence[1])[None], gone])

    def disclosed(
        self, table: np.ndarray, patient: np.ndarray, times: tuple[float, ...], least: int
    ) -> np.ndarray:
        """A marginal as it is written down, see `coarse_incidence` and `coarse_number`.

        What comes after a first event is made coarse by itself: it is the difference to what comes first.

        Parameters
        ----------
        table : ndarray
            (slot, time), from `marginal`.
        patient : ndarray
            (landmark,) int64, whose landmark each is.
        times : tuple of float
            Those of `table`.
        least : int
            Fewest patients that a figure may be of to be written down.

        Returns
        -------
        ndarray
            (slot, time) float64.
        """
        size = len(self.causes)
        found = table.copy()
        found[: 1 + size] = coarse_incidence(table[: 1 + size], self.event, self.time, patient, times, least)
        owner, time = self.events()
        again = np.append(False, np.diff(owner) == 0)[: len(owner)]
        everybody = len(np.unique(patient[self.known]))
        more = table[1 + size] - table[1]
        more = coarse_number(more, time[again], patient[owner[again]], everybody, times, least)
        found[1 + size] = found[1] + more
        if size > 1:
            later = table[2 + size :] - table[2 : 1 + size]
            later = np.concatenate([1 - later.sum(0, keepdims=True), later])
            gone = np.where(self.last > self.first, self.gone, 0)
            later = coarse_incidence(later, gone, self.end, patient, times, least)[1:]
            found[2 + size :] = found[2 : 1 + size] + np.minimum(later, found[1])
        return found

    def rounded(self, table: np.ndarray) -> np.ndarray:
        """A forecast without inputs to four digits.

        Parameters
        ----------
        table : ndarray
            From `disclosed`.

        Returns
        -------
        ndarray
            Like `table`: the slots of what comes first sum to one.
        """
        size = 1 + len(self.causes)
        return np.concatenate([super().rounded(table[:size]), table[size:].round(4)])

    def start(self, marginal: np.ndarray) -> np.ndarray:
        """Turn a marginal into the hazards that have it.

        Parameters
        ----------
        marginal : ndarray
            (slot, time), from `marginal`.

        Returns
        -------
        ndarray
            (transition, time) float64, cumulative in each interval.
        """
        size = len(self.causes)
        free, first = marginal[0].clip(0, 1), np.diff(marginal[1 : 1 + size], prepend=0.0, axis=1)
        before = np.append(1.0, free[:-1])
        left = first.sum(0)
        total = -np.log1p(-(left / before.clip(LEAST_STAY)).clip(0, 1 - SMALLEST))
        hazard = first * np.divide(total, left, out=np.zeros_like(left), where=left > 0)
        gone = marginal[2 + size :]
        again = (1 - free - gone.sum(0)).clip(0, 1)  # there, with an event since
        stay = (np.append(0.0, again[:-1]) + again) / 2
        more = np.diff(marginal[1 + size] - marginal[1], prepend=0.0)
        later = np.diff(gone - marginal[2 : 1 + size], prepend=0.0, axis=1)
        rest = np.concatenate([more[None], later]).clip(0) / stay.clip(LEAST_STAY)
        return np.concatenate([hazard, rest.clip(max=np.log(1 / SMALLEST))]).clip(SMALLEST)

    def likelihood(self, prediction: np.ndarray, times: tuple[float, ...]) -> np.ndarray:
        """The probability of what came first, as of other causes: it says nothing of further events.

        Parameters
        ----------
        prediction : ndarray
            (landmark, slot, time).
        times : tuple of float
            Days after the landmark.

        Returns
        -------
        ndarray
            (landmark,) float64; 1 where it was not at risk, or not followed to the first time.
        """
        return super().likelihood(prediction[:, : 1 + len(self.causes)], times)


@dataclass(frozen=True, eq=False, repr=False)
class RecurrentForecast(Forecast):
    """What is forecast of events that recur: the next one, and how many there will be.

    The curves are of what comes first, the next event or what ends it; slot 0 is neither.

    Attributes
    ----------
    number : ndarray
        Expected number of events by each time; those who are gone have no more.
    gone : ndarray
        Probability of being gone by each other cause, with or without an event before.
    number_members : ndarray or None
        The number by each member; None where there is one only.
    """

    number: np.ndarray = None  # type: ignore[assignment]  # (landmark, time)
    gone: np.ndarray = None  # type: ignore[assignment]  # (landmark, cause - 1, time)
    number_members: np.ndarray | None = None  # (member, landmark, time)

    @classmethod
    def of_members(
        cls, outcome: str, head: HeadConfig, members: np.ndarray, landmarks: Landmarks, at_risk: np.ndarray
    ) -> RecurrentForecast:
        """Average over the members.

        Parameters
        ----------
        outcome : str
            Name of the outcome.
        head : RecurrentConfig
            Causes and times.
        members : ndarray
            (member, landmark, slot, time), see `RecurrentConfig.probabilities`.
        landmarks : Landmarks
            Whom they are of.
        at_risk : ndarray
            (landmark,) bool.

        Returns
        -------
        RecurrentForecast
        """
        causes, mean = cast(RecurrentConfig, head).causes, members.mean(0)
        size, several = 1 + len(causes), len(members) > 1
        return cls(
            outcome,
            causes,
            np.array(head.times),
            mean[:, :size],
            landmarks.ids,
            landmarks.days,
            at_risk,
            members[:, :, :size] if several else None,
            number=mean[:, size],
            gone=mean[:, size + 1 :],
            number_members=members[:, :, size] if several else None,
        )

    @staticmethod
    def summary(head: Mapping[str, Any]) -> str:
        """Say in a sentence of the model card what is forecast.

        Parameters
        ----------
        head : mapping
            The head's configuration, see `RecurrentConfig.to_dict`.

        Returns
        -------
        str
        """
        first, *others = head["causes"]
        ends = f", ended by {', '.join(others)}" if others else ""
        return (
            f"the next {first}{ends}, and the expected number of them, up to {head['times'][-1]:g} days "
            "after the landmark; slot 0 is neither, not alive."
        )

    def __getitem__(self, rows: Any) -> RecurrentForecast:
        """The forecast of some of the landmarks, by position, slice or mask."""
        keep = positions(rows, len(self))
        members = None if self.number_members is None else self.number_members[:, keep]
        parts = {"number": self.number[keep], "gone": self.gone[keep], "number_members": members}
        return replace(cast(RecurrentForecast, super().__getitem__(keep)), **parts)

    def expected(self, horizon: float | str | None = None) -> np.ndarray:
        """Expected number of events within a horizon, linear between times.

        Parameters
        ----------
        horizon : float or str, optional
            Days after the landmark, or a duration as in ``"1y"``; default: the last time.

        Returns
        -------
        ndarray
            (landmark,) float64, never below the probability of the next event; nan where there is no curve.

        Raises
        ------
        InputError
            When the horizon is negative or beyond the last time.
        """
        return self._at(self.number, self._horizon(horizon))[..., 0]

    def expected_at(self, horizons: Sequence[float | str] | np.ndarray) -> np.ndarray:
        """Expected number of events within several horizons, linear between times.

        Parameters
        ----------
        horizons : sequence of float or str
            Days after the landmark, or durations as in ``"1y"``.

        Returns
        -------
        ndarray
            (landmark, horizon) float64.

        Raises
        ------
        InputError
            When a horizon is negative or beyond the last time.
        """
        return self._at(self.number, self._horizons(horizons))

    def expected_spread(self, horizon: float | str | None = None) -> tuple[np.ndarray, np.ndarray] | None:
        """Model spread of the expected number: its 5 % and 95 % quantiles over members.

        Parameters
        ----------
        horizon : float or str, optional
            Days after the landmark, or a duration as in ``"1y"``; default: the last time.

        Returns
        -------
        tuple of ndarray or None
            Low and high, each (landmark,); None with fewer than five members. What refitting changes, not how
            many events a patient may have.
        """
        if self.number_members is None or len(self.number_members) < MIN_MEMBERS:
            return None
        return member_spread(self._at(self.number_members, self._horizon(horizon))[..., 0])

    def given_event_free(self, until: float | str) -> Forecast:
        """Forecast again for those who have no event, and are not gone, until a later time.

        Parameters
        ----------
        until : float or str
            Days after the landmark, or a duration as in ``"1y"``.

        Returns
        -------
        Forecast
            Of the next event alone, see `Forecast.given_event_free`; the number of events after an event-free
            time is another question, which a later landmark answers.
        """
        names = ("outcome", "causes", "times", "incidence", "ids", "at", "at_risk", "members")
        return Forecast(**{name: getattr(self, name) for name in names}).given_event_free(until)

    def table(self, horizons: Sequence[float | str] | None = None) -> pl.DataFrame:
        """List the forecasts of the landmarks at risk.

        Parameters
        ----------
        horizons : sequence of float or str, optional
            Days after the landmark, or durations as in ``"1y"``; default: all times.

        Returns
        -------
        polars.DataFrame
            As `Forecast.table`, and of the event that recurs also expected, expected_low and expected_high:
            the expected number and its model spread, null of the other causes.
        """
        import polars as pl

        ends = self._horizons(self.times if horizons is None else horizons).tolist()
        rows, others = self.at_risk, len(self.causes) - 1
        parts: dict[str, list[np.ndarray]] = {"expected": [], "expected_low": [], "expected_high": []}
        for end in ends:
            low, high = self.expected_spread(end) or (np.full(len(self), np.nan),) * 2
            for name, each in zip(parts, (self.expected(end), low, high), strict=True):
                parts[name].append(each[rows])
        rest = np.full(others * len(ends) * int(rows.sum()), np.nan)
        columns = {name: np.concatenate([*each, rest]) for name, each in parts.items()}
        return (
            super()
            .table(horizons)
            .with_columns(pl.Series(name, each).fill_nan(None) for name, each in columns.items())
        )

    def _summary(self) -> Summary:
        found = super()._summary()
        if len(self) != 1 or not self.at_risk[0]:
            return found
        horizons = default_horizons(float(self.times[-1]))
        each = [f"{self.expected(end)[0]:.2f} within {duration(end)}" for end in horizons]
        facts = [*found.facts, (f"expected {self.causes[0]}", ", ".join(each))]
        return replace(found, facts=facts)
