"""Several states: what came of each landmark, and where a patient is expected to be from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.outcomes import Outcome
from gnnpatient.cohort.splits import default_horizons, landmark_weights
from gnnpatient.cohort.states import States
from gnnpatient.errors import InputError, near
from gnnpatient.metrics import Stays, seen_states, transition_probabilities
from gnnpatient.model.heads import HeadConfig
from gnnpatient.model.paths import SMALLEST, StatesConfig, follow
from gnnpatient.prognosis.disclosure import pooled, round_time
from gnnpatient.prognosis.forecast import Answer, Forecast
from gnnpatient.prognosis.paths import PathTarget
from gnnpatient.prognosis.rows import MIN_MEMBERS, member_spread, positions
from gnnpatient.prognosis.targets import MIN_REMAINING, SurvivalTarget, last_estimable, time_grid
from gnnpatient.show import Summary, listed
from gnnpatient.spec.outcomes import SurvivalSpec
from gnnpatient.times import DAY, duration

if TYPE_CHECKING:
    import polars as pl

OWN_FACTOR = (
    5  # times `least` patients that a state needs for hazards of those who were in it at the landmark
)


@dataclass(frozen=True, eq=False)
class StatesTarget(PathTarget):
    """What came of each landmark, for one outcome of several states.

    `event` and `time` are of the state that ends it, or of the end of observation.

    Attributes
    ----------
    states : tuple of str
        Names of the states.
    moves : tuple of tuple of int
        From and to which state each transition leads.
    patient : ndarray
        Whose landmark each is.
    now : ndarray
        The state at the landmark.
    shown : ndarray
        The state that is known at the landmark: that a forecast starts from.
    first, last : ndarray
        Its changes are ``happened[first:last]``.
    at : ndarray
        Days after the patient's origin.
    happened : ndarray
        Days after the patient's origin of all changes of all patients.
    to : ndarray
        The state from then on.
    count : ndarray or None
        How often each transition happened in each interval of the head's grid, see `posed`.
    exposure : ndarray or None
        The share of each interval in which it could have.
    """

    states: tuple[str, ...]
    moves: tuple[tuple[int, int], ...]
    patient: np.ndarray  # (landmark,) int64
    now: np.ndarray  # (landmark,) int64
    shown: np.ndarray  # (landmark,) int64
    first: np.ndarray  # (landmark,) int64
    last: np.ndarray  # (landmark,) int64
    at: np.ndarray  # (landmark,) float64
    happened: np.ndarray  # (change,) float64
    to: np.ndarray  # (change,) int64
    count: np.ndarray | None = None  # (landmark, transition, time) float32
    exposure: np.ndarray | None = None  # (landmark, transition, time) float32

    @classmethod
    def of(cls, landmarks: Landmarks, name: str) -> StatesTarget:
        """Read an outcome at landmarks.

        Parameters
        ----------
        landmarks : Landmarks
            Patients at prediction times; those not at risk teach nothing.
        name : str
            Name of the outcome.

        Returns
        -------
        StatesTarget
        """
        outcome = cast(States, landmarks.cohort.outcomes_with_model([name])[name])
        spec = cast(SurvivalSpec, landmarks.cohort.spec.outcomes[name])
        base, at_risk = SurvivalTarget.of(landmarks, name), landmarks.at_risk(name)
        first, last, _, _ = outcome.later(landmarks.patient, landmarks.at)
        moves = tuple((outcome.states.index(a), outcome.states.index(b)) for a, b in spec.moves)
        now = outcome.state_at(landmarks.patient, landmarks.at)
        shown = outcome.shown_at(landmarks.patient, landmarks.at)
        parts = landmarks.patient, now, shown, first, np.where(at_risk, last, first), landmarks.at / DAY
        changes = outcome.happened / DAY, np.asarray(outcome.state)
        return cls(base.causes, base.event, base.time, outcome.states, moves, *parts, *changes)

    @classmethod
    def from_y(cls, outcome: Outcome, y: np.ndarray, size: int) -> StatesTarget:
        """Refuse a `y`: the states of a landmark do not fit into an array of one row each.

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
        StatesTarget
            Never.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError("y: states are read from X's own outcome; leave y out")

    @property
    def strata(self) -> np.ndarray:
        """The state that ends it, and whether anything changes: (landmark,) int64."""
        changed: np.ndarray = self.last > self.first
        return 2 * self.event * self.known + changed

    @property
    def parts(self) -> tuple[np.ndarray, ...]:
        """The landmarks that had each transition, each (landmark,) bool."""
        owner, _, move = self.changes()
        found = np.zeros((len(self.moves), len(self.now)), bool)
        found[move, owner] = True
        return tuple(found)

    def __getitem__(self, rows: np.ndarray) -> StatesTarget:
        names = ("event", "time", "patient", "now", "shown", "first", "last", "at", "count", "exposure")
        some: dict[str, Any] = {name: getattr(self, name) for name in names}
        kept: dict[str, Any] = {name: x if x is None else x[rows] for name, x in some.items()}
        return replace(self, **kept)

    def check(self, name: str) -> None:
        """Check that somebody changes state.

        Parameters
        ----------
        name : str
            Name of the outcome, for the message.

        Raises
        ------
        InputError
            When nobody does.
        """
        if not (self.last > self.first).any():
            raise InputError(
                f"outcome {name!r}: no change of state among {len(self.event)} landmarks; nothing to learn"
            )

    def informative(self, patient: np.ndarray) -> int:
        """Count the patients with a change.

        Parameters
        ----------
        patient : ndarray
            (landmark,) int64, whose landmark each is.

        Returns
        -------
        int
        """
        return len(np.unique(patient[self.last > self.first]))

    def has_event(self, times: tuple[float, ...]) -> np.ndarray:
        """Which landmarks have a change by the last time.

        Parameters
        ----------
        times : tuple of float
            Days after the landmark.

        Returns
        -------
        ndarray
            (landmark,) bool.
        """
        when = np.append(self.happened, np.inf)[np.where(self.last > self.first, self.first, -1)]
        found: np.ndarray = when - self.at <= times[-1]
        return found

    def changes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """List the changes after each landmark.

        Returns
        -------
        owner : ndarray
            The landmark of each, (change,) int64, rising.
        time : ndarray
            Days after the landmark, (change,) float64.
        move : ndarray
            Which transition it is, (change,) int64.
        """
        number = self.last - self.first
        owner = np.repeat(np.arange(len(number)), number)
        place = np.arange(len(owner)) - np.repeat(number.cumsum() - number, number) + self.first[owner]
        is_first = place == self.first[owner]
        before = np.where(is_first, self.now[owner], self.to[place - 1])
        index = np.full((len(self.states),) * 2, -1)
        for q, (a, b) in enumerate(self.moves):
            index[a, b] = q
        return owner, self.happened[place] - self.at[owner], index[before, self.to[place]]

    def stays(self, weight: np.ndarray) -> tuple[np.ndarray, Stays]:
        """List from when to when each landmark is in each state, of those that can be left.

        Parameters
        ----------
        weight : ndarray
            (landmark,) float64, how often each counts.

        Returns
        -------
        owner : ndarray
            The landmark of each stay, (stay,) int64.
        stays : Stays
        """
        known = np.flatnonzero(self.known)
        owner, time, move = self.changes()
        targets = np.array([b for _, b in self.moves])
        who = np.concatenate([known, owner])
        start = np.concatenate([np.zeros(len(known)), time])
        state = np.concatenate([self.now[known], targets[move]])
        order = np.lexsort((start, who))
        who, start, state = who[order], start[order], state[order]
        more = np.append(np.diff(who) == 0, False)[: len(who)]
        end = np.where(more, np.append(start[1:], 0.0)[: len(who)], self.time[who])
        to = np.full(len(who), -1)
        to[more] = move  # changes come in the order of their landmarks
        open_ = state < len(self.states) - len(self.causes)
        parts = (x[open_] for x in (state, start, end, to, weight[who]))
        return who[open_], Stays(*parts)

    def head_config(  # type: ignore[override]
        self, name: str, landmarks: Landmarks, horizon: float | None, num_times: int, least: int
    ) -> StatesConfig:
        """Choose the horizon and the time grid.

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
        StatesConfig

        Raises
        ------
        InputError
            When nothing changes within the horizon, or the horizon is not above 0.
        """
        owner, time, _ = self.changes()
        if horizon is None:
            last = last_estimable(self, landmarks.patient, landmarks.moments)
            last = round_time(last, time) if least > 1 else last
        else:
            last = float(horizon)
        if not last > 0:
            raise InputError(f"horizon {last:g} days; must be > 0, days after the landmark")
        if not (time <= last).any():
            raise InputError(
                f"outcome {name!r}: no change of state within {last:g} days of a landmark; nothing to learn"
            )
        every = SurvivalTarget(self.causes, np.ones(len(owner), np.int64), time)
        times = time_grid(every, landmarks.moments[owner], last, num_times, landmarks.patient[owner], least)
        return self.config(times)

    def config(self, times: tuple[float, ...]) -> StatesConfig:
        """Say what is predicted.

        Parameters
        ----------
        times : tuple of float
            Ends of the intervals in days after the landmark.

        Returns
        -------
        StatesConfig
        """
        sources, targets = zip(*self.moves, strict=True)
        return StatesConfig(states=self.states, sources=sources, targets=targets, times=times)

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
        grid, size = np.array(times), len(self.now)
        begin = np.append(0.0, grid[:-1])
        count = np.zeros((size, len(self.moves), len(grid)), np.float32)
        owner, time, move = self.changes()
        inside = time <= grid[-1]
        np.add.at(count, (owner[inside], move[inside], np.searchsorted(grid, time[inside])), 1.0)
        who, stays = self.stays(np.ones(size))
        there = np.zeros((size, len(self.states), len(grid)), np.float32)

        def share(until: np.ndarray) -> np.ndarray:
            found: np.ndarray = ((until[:, None] - begin) / (grid - begin)).clip(0, 1)
            return found

        np.add.at(there, (who, stays.state), share(stays.end) - share(stays.start))
        return count, there[:, [a for a, _ in self.moves]]

    def marginal(self, moments: np.ndarray, times: tuple[float, ...] = ()) -> np.ndarray:
        """The landmark Aalen-Johansen estimate from each state, every landmark time counting the same.

        Of those in a state at the landmark; where these are fewer than 20 patients, the hazards are those of
        all.

        Parameters
        ----------
        moments : ndarray
            (landmark,) int64, the landmark time of each, see `Landmarks.moments`.
        times : tuple of float
            Days after the landmark.

        Returns
        -------
        ndarray
            (start, slot, time) float64, see `StatesConfig.probabilities`.
        """
        owner, stays = self.stays(landmark_weights(moments))
        found = []
        for start in range(len(self.states) - len(self.causes)):
            mine = self.now[owner] == start
            some = stays
            if len(np.unique(self.patient[self.known & (self.now == start)])) >= MIN_REMAINING:
                some = Stays(*(column[mine] for column in vars(stays).values()))
            parts = transition_probabilities(some, self.moves, len(self.states), start, np.array(times))
            found.append(np.concatenate(parts))
        return np.stack(found)

    def disclosed(
        self, table: np.ndarray, patient: np.ndarray, times: tuple[float, ...], least: int
    ) -> np.ndarray:
        """A marginal as it is written down: of hazards that each are of enough patients.

        A hazard is constant over intervals in which together at least `least` patients had the transition; of
        one that fewer had it is that of half of `least` patients; where fewer were in the state that it
        leaves, as if those had been there all the time.

        Parameters
        ----------
        table : ndarray
            (start, slot, time), from `marginal`.
        patient : ndarray
            (landmark,) int64, whose landmark each is.
        times : tuple of float
            Those of `table`.
        least : int
            Fewest patients that a figure may be of to be written down.

        Returns
        -------
        ndarray
            (start, slot, time) float64.
        """
        if least <= 1:
            return table
        count, exposure = self.counted(times)
        everybody, found = np.ones(len(self.now), bool), []
        width = np.diff(np.array(times), prepend=0.0)
        for start in range(len(table)):
            mine = self.known & (self.now == start)
            few = len(np.unique(patient[mine])) < OWN_FACTOR * least
            rows = np.flatnonzero(everybody if few else mine)
            hazard = np.empty((len(self.moves), len(times)))
            for q in range(len(self.moves)):
                happened = np.argwhere(count[rows, q] > 0)
                whose = patient[rows][happened[:, 0]]
                total = count[rows, q].sum(0).astype(np.float64)
                days = exposure[rows, q].sum(0) * width
                ends, begin = pooled(happened[:, 1], whose, len(times), least), 0
                if 0 < len(np.unique(whose)) < least:
                    total[:], ends = least / 2 / len(times), [len(times) - 1]
                    there = exposure[rows, q].any(1)
                    if len(np.unique(patient[rows][there])) < least:
                        days = least / 2 * width
                for end in ends:
                    part = slice(begin, end + 1)
                    hazard[q, part] = total[part].sum() / max(days[part].sum(), 1e-12) * width[part]
                    begin = end + 1
            log_hazard = torch.from_numpy(hazard.clip(SMALLEST)).log()[None]
            parts = follow(log_hazard, self.moves, len(self.states), [start])
            found.append(torch.cat(parts, 2)[0, 0].numpy())
        return np.stack(found)

    def rounded(self, table: np.ndarray) -> np.ndarray:
        """A forecast without inputs to four digits.

        Parameters
        ----------
        table : ndarray
            (start, slot, time), from `disclosed`.

        Returns
        -------
        ndarray
            Like `table`: the states sum to one.
        """
        found, size = table.round(4), len(self.states)
        for start in range(len(found)):
            others = [state for state in range(size) if state != start]
            found[start, start] = (1 - found[start, others].sum(0)).clip(0)
        return found

    def start(self, marginal: np.ndarray) -> np.ndarray:
        """Turn a marginal into hazards: of each transition those from the state that it leaves.

        Parameters
        ----------
        marginal : ndarray
            (start, slot, time), from `marginal`.

        Returns
        -------
        ndarray
            (transition, time) float64, cumulative in each interval.
        """
        size, found = len(self.states), []
        for q, (source, _) in enumerate(self.moves):
            stay = marginal[source, source]
            before = np.append(1.0, stay[:-1])
            mean = (before + stay) / 2  # of the probability of being there
            found.append(np.diff(marginal[source, size + q], prepend=0.0) / mean.clip(1e-3))
        return np.stack(found).clip(SMALLEST, np.log(1 / SMALLEST))

    def state_by(self, time: float) -> np.ndarray:
        """Find the state of each landmark after some days, or at the end of its observation.

        Parameters
        ----------
        time : float
            Days after the landmark.

        Returns
        -------
        ndarray
            (landmark,) int64.
        """
        owner, when, move = self.changes()
        number = np.bincount(owner[when <= time], minlength=len(self.now))
        targets = np.array([b for _, b in self.moves])
        place = (self.last - self.first).cumsum() - (self.last - self.first) + number - 1
        return np.where(number > 0, np.append(targets[move], 0)[place.clip(-1, len(move))], self.now)

    def likelihood(self, prediction: np.ndarray, times: tuple[float, ...]) -> np.ndarray:
        """The probability of the state that was last seen on the grid, or of being gone in an interval.

        Parameters
        ----------
        prediction : ndarray
            (landmark, start, slot, time).
        times : tuple of float
            Days after the landmark.

        Returns
        -------
        ndarray
            (landmark,) float64; 1 where it was not at risk, or not followed to the first time.
        """
        rows, size = np.arange(len(prediction)), len(self.states)
        known = self.known
        own = prediction[rows, np.where(known, self.shown, 0).clip(max=prediction.shape[1] - 1), :size]
        own = np.concatenate([np.zeros_like(own[..., :1]), own], 2)
        time = np.where(known, self.time, 0.0)
        column = np.searchsorted(times, time, "right")  # the last grid time that was reached, from 1 on
        seen = np.zeros((len(rows), 1 + len(times)), np.int64)
        for t, end in enumerate(times, 1):
            seen[:, t] = self.state_by(end)
        there = np.where(column > 0, own[rows, seen[rows, column], column], 1.0)
        gone = known & (self.event > 0) & (time <= times[-1])
        interval = np.searchsorted(times, time).clip(max=len(times) - 1)
        state = size - len(self.causes) + self.event - 1
        ended = own[rows, state, interval + 1] - own[rows, state, interval]
        return np.where(gone, ended, there)

    def skills(self, forecast: Answer, null: np.ndarray, cause: str | None = None) -> list[float]:
        """Score being in each state by the Brier score, integrated over the times of the forecast.

        Parameters
        ----------
        forecast : StatesForecast
            Of the landmarks of this target.
        null : ndarray
            (known landmark, start, slot, time), the forecast without inputs.
        cause : str, optional
            The one state to score; default: all.

        Returns
        -------
        list of float
            Of each state that the marginal model makes an error of.
        """
        found = cast(StatesForecast, forecast)[self.known]
        mine = self[self.known]
        times = found.times.tolist()
        plain = null[np.arange(len(null)), mine.shown]
        size = len(self.states)
        error = np.zeros((2, size))
        for t, end in enumerate(times):
            seen = seen_states(mine.state_by(end), mine.time, mine.event, end)
            if seen is None:
                break
            width = end - (times[t - 1] if t else 0.0)
            for k in range(size):
                error[0, k] += width * seen.brier(found.occupation[:, k, t], k)
                error[1, k] += width * seen.brier(plain[:, k, t], k)
        chosen = range(size) if cause is None else [self.states.index(cause)]
        return [float(1 - error[0, k] / error[1, k]) for k in chosen if error[1, k] > 0]


@dataclass(frozen=True, eq=False, repr=False)
class StatesForecast(Forecast):
    """Where a patient is expected to be after each landmark, from the state at the landmark on.

    The curves of `incidence` are of the states that end it; slot 0 is all others together.

    Attributes
    ----------
    states : tuple of str
        Names of the states: the one that patients begin in, the others that can be left, those that end it.
    moves : tuple of str
        The transitions, as in ``"well -> relapse"``.
    now : ndarray
        The state that is known at the landmark, by position in `states`.
    occupation : ndarray
        Probability of each state at each time; they sum to one.
    number : ndarray
        Expected number of each transition by each time.
    occupation_members : ndarray or None
        The probability by each member; None where there is one only.
    """

    states: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()
    now: np.ndarray = None  # type: ignore[assignment]  # (landmark,) int64
    occupation: np.ndarray = None  # type: ignore[assignment]  # (landmark, state, time)
    number: np.ndarray = None  # type: ignore[assignment]  # (landmark, transition, time)
    occupation_members: np.ndarray | None = None  # (member, landmark, state, time)

    @classmethod
    def of_members(
        cls, outcome: str, head: HeadConfig, members: np.ndarray, landmarks: Landmarks, at_risk: np.ndarray
    ) -> StatesForecast:
        """Average over the members, each from the state that the patient is in.

        Parameters
        ----------
        outcome : str
            Name of the outcome.
        head : StatesConfig
            States and times.
        members : ndarray
            (member, landmark, start, slot, time), see `StatesConfig.probabilities`.
        landmarks : Landmarks
            Whom they are of.
        at_risk : ndarray
            (landmark,) bool.

        Returns
        -------
        StatesForecast

        Raises
        ------
        InputError
            When the cohort does not say in which state a patient is.
        """
        config, known = cast(StatesConfig, head), landmarks.cohort.outcomes.get(outcome)
        if not isinstance(known, States) or known.states != config.states:
            raise InputError(
                f"outcome {outcome!r}: the cohort does not say in which of {listed(config.states)} a patient "
                "is; give it the outcome with the same states"
            )
        now = np.where(at_risk, known.shown_at(landmarks.patient, landmarks.at), 0)
        size, starts = len(config.states), config.num_starts
        own = members[:, np.arange(len(now)), now]  # (member, landmark, slot, time)
        mean, several = own.mean(0), len(own) > 1
        moves = tuple(f"{config.states[a]} -> {config.states[b]}" for a, b in config.transitions)

        def curves(occupation: np.ndarray) -> np.ndarray:
            free = occupation[..., :starts, :].sum(-2, keepdims=True)
            return np.concatenate([free, occupation[..., starts:size, :]], -2)

        return cls(
            outcome,
            config.causes,
            np.array(config.times),
            curves(mean),
            landmarks.ids,
            landmarks.days,
            at_risk,
            curves(own) if several else None,
            states=config.states,
            moves=moves,
            now=now,
            occupation=mean[:, :size],
            number=mean[:, size:],
            occupation_members=own[:, :, :size] if several else None,
        )

    @staticmethod
    def summary(head: Mapping[str, Any]) -> str:
        """Say in a sentence of the model card what is forecast.

        Parameters
        ----------
        head : mapping
            The head's configuration, see `StatesConfig.to_dict`.

        Returns
        -------
        str
        """
        return (
            f"the probability of each of {', '.join(head['states'])}, from the state at the landmark on, up "
            f"to {head['times'][-1]:g} days after it; they sum to one."
        )

    def __getitem__(self, rows: Any) -> StatesForecast:
        """The forecast of some of the landmarks, by position, slice or mask."""
        keep = positions(rows, len(self))
        members = None if self.occupation_members is None else self.occupation_members[:, keep]
        parts = {name: getattr(self, name)[keep] for name in ("now", "occupation", "number")}
        return replace(cast(StatesForecast, super().__getitem__(keep)), **parts, occupation_members=members)

    def _state(self, state: str) -> int:
        if state not in self.states:
            raise InputError(f"unknown state {state!r} of {self.outcome!r}{near(state, self.states)}")
        return self.states.index(state)

    def _here(self, curve: np.ndarray, state: int, horizons: np.ndarray) -> np.ndarray:
        """Probabilities of a state (..., landmark, time) at horizons, from what they are at the landmark."""
        at_start = (self.now == state)[:, None] * 1.0
        return self._at(curve - at_start, horizons) + at_start

    def in_state(self, state: str, horizon: float | str | None = None) -> np.ndarray:
        """Probability of being in a state at a horizon, linear between times.

        Parameters
        ----------
        state : str
            Name of the state.
        horizon : float or str, optional
            Days after the landmark, or a duration as in ``"1y"``; default: the last time.

        Returns
        -------
        ndarray
            (landmark,) float64; over all states they sum to one. nan where there is no forecast.

        Raises
        ------
        InputError
            When the horizon is negative or beyond the last time, or the state is unknown.
        """
        k = self._state(state)
        return self._here(self.occupation[:, k], k, self._horizon(horizon))[..., 0]

    def in_state_at(self, state: str, horizons: Sequence[float | str] | np.ndarray) -> np.ndarray:
        """Probability of being in a state at several horizons, linear between times.

        Parameters
        ----------
        state : str
            Name of the state.
        horizons : sequence of float or str
            Days after the landmark, or durations as in ``"1y"``.

        Returns
        -------
        ndarray
            (landmark, horizon) float64.

        Raises
        ------
        InputError
            When a horizon is negative or beyond the last time, or the state is unknown.
        """
        k = self._state(state)
        return self._here(self.occupation[:, k], k, self._horizons(horizons))

    def in_state_spread(
        self, state: str, horizon: float | str | None = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Model spread of that probability: its 5 % and 95 % quantiles over members.

        Parameters
        ----------
        state : str
            Name of the state.
        horizon : float or str, optional
            Days after the landmark, or a duration as in ``"1y"``; default: the last time.

        Returns
        -------
        tuple of ndarray or None
            Low and high, each (landmark,); None with fewer than five members.
        """
        k = self._state(state)
        if self.occupation_members is None or len(self.occupation_members) < MIN_MEMBERS:
            return None
        return member_spread(self._here(self.occupation_members[:, :, k], k, self._horizon(horizon))[..., 0])

    def time_in(self, state: str, horizon: float | str | None = None) -> np.ndarray:
        """Mean time in a state within a horizon: the area under its probability.

        Parameters
        ----------
        state : str
            Name of the state.
        horizon : float or str, optional
            Days after the landmark, or a duration as in ``"1y"``; default: the last time.

        Returns
        -------
        ndarray
            (landmark,) float64, days; over all states they sum to the horizon.

        Raises
        ------
        InputError
            When the horizon is negative or beyond the last time, or the state is unknown.
        """
        k, end = self._state(state), self._horizon(horizon)[0]
        knots = np.concatenate([[0.0], self.times[self.times < end], [end]])
        area: np.ndarray = np.trapezoid(self._here(self.occupation[:, k], k, knots), knots, axis=-1)
        return area

    def expected(self, move: str, horizon: float | str | None = None) -> np.ndarray:
        """Expected number of a transition within a horizon, linear between times.

        Parameters
        ----------
        move : str
            One of `moves`, as in ``"well -> relapse"``.
        horizon : float or str, optional
            Days after the landmark, or a duration as in ``"1y"``; default: the last time.

        Returns
        -------
        ndarray
            (landmark,) float64; of one that happens once at most its probability.

        Raises
        ------
        InputError
            When the horizon is negative or beyond the last time, or the transition is unknown.
        """
        if move not in self.moves:
            raise InputError(f"unknown transition {move!r} of {self.outcome!r}{near(move, self.moves)}")
        return self._at(self.number[:, self.moves.index(move)], self._horizon(horizon))[..., 0]

    def given_event_free(self, until: float | str) -> Forecast:
        """Forecast again for those whom nothing has ended until a later time, whatever state they are in.

        Parameters
        ----------
        until : float or str
            Days after the landmark, or a duration as in ``"1y"``.

        Returns
        -------
        Forecast
            Of the states that end it alone, see `Forecast.given_event_free`.
        """
        names = ("outcome", "causes", "times", "incidence", "ids", "at", "at_risk", "members")
        return Forecast(**{name: getattr(self, name) for name in names}).given_event_free(until)

    def table(self, horizons: Sequence[float | str] | None = None) -> pl.DataFrame:
        """List the probability of each state, of the landmarks at risk.

        Parameters
        ----------
        horizons : sequence of float or str, optional
            Days after the landmark, or durations as in ``"1y"``; default: all times.

        Returns
        -------
        polars.DataFrame
            As `Forecast.table`, with a row for each state as cause; state is where the patient is at the
            landmark.
        """
        import polars as pl

        ends = self._horizons(self.times if horizons is None else horizons).tolist()
        rows, nothing, parts = self.at_risk, np.full(len(self), np.nan), []
        for state in self.states:
            for end in ends:
                low, high = self.in_state_spread(state, end) or (nothing, nothing)
                figures = {"risk": self.in_state(state, end), "low": low, "high": high}
                columns = {
                    "id": self.ids.astype(str)[rows],
                    "at": np.asarray(self.at, np.float64)[rows],
                    "outcome": self.outcome,
                    "cause": state,
                    "horizon": float(end),
                } | {name: each[rows] for name, each in figures.items()}
                now = {"state": np.array(self.states)[self.now[rows]]}
                parts.append(pl.DataFrame(columns | now, schema_overrides={"cause": pl.String}))
        return pl.concat(parts).with_columns(pl.col("risk", "low", "high").fill_nan(None))

    def _summary(self) -> Summary:
        found = super()._summary()
        facts = [("states", listed(self.states)), *(fact for fact in found.facts if fact[0] != "causes")]
        if len(self) != 1 or not self.at_risk[0]:
            return replace(found, facts=facts)
        facts = [fact for fact in facts if not fact[0].startswith("within")]
        for end in default_horizons(float(self.times[-1])):
            each = [f"{state} {self.in_state(state, end)[0] * 100:.0f} %" for state in self.states]
            facts.append((f"after {duration(end)}", listed(each)))
        return Summary(found.title, [*facts, ("now", self.states[int(self.now[0])])])
