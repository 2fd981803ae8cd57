"""`clinic`: simulated outpatients with a level that drifts, and the true course of all that follows from it.

Each patient has a level that rises or falls along a line of its own. It is measured with noise at visits, and
it moves everything else: the higher it is, the more often the patient is seen, the sooner the disease steps
up a stage, and the sooner the patient dies.

    level     start + drift * years; measured with an error of 4 at each visit
    marker    says something of the drift, at 7 visits of 10
    stage     1 from the moment of worsening on, without error, but only visits show it
    visit     at entry, then twice a year at a level of 50, 1.35 times as often 10 above it
    death     .06 a year at a level of 50 and an age of 60, twice that 10 above it

Loss to follow-up has nothing to do with any of these. The numbers were set before any model was fitted, and
are frozen.

What is true is of two kinds (`given`): "latent" knows the patient's line and whether the disease has
worsened; nobody can know that. "history" knows what the patient's own rows show by the landmark, the number
and times of the visits included, and how the world works: the best answer that any model can give, and what
a model is compared with.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, SupportsFloat

import numpy as np
import polars as pl
from scipy.special import exprel, ndtr

from gnnpatient.errors import InputError
from gnnpatient.files import atomic_file, atomic_folder
from gnnpatient.times import DAY, YEAR

Numbers = np.ndarray | Sequence[Any] | SupportsFloat
Given = Literal["history", "latent"]

START, START_SD = 50.0, 8.0  # of the level
DRIFT, DRIFT_SD = 1.0, 2.5  # a year
NOISE = 4.0  # of a measured level
MARKER_NOISE, MARKED = 1.0, 0.7  # error of the marker, in standard deviations of the drift; share of visits
MIDDLE, SPREAD = 50.0, 10.0  # the level at which rates are as below, and what "10 above it" is
AGE, AGE_SD = 60.0, 10.0
LOST = 0.04  # a year
FOLLOW_UP = 6.0  # years
WINDOW = 90.0  # days around the time asked for, as in the spec
_SECONDS = YEAR * DAY  # in a year


class Rate(NamedTuple):
    """How often something happens.

    Attributes
    ----------
    base : float
        A year, at the middle level and age.
    level : float
        Log rate ratio of 10 more of the level.
    age : float
        Log rate ratio of 10 more years of age.
    """

    base: float
    level: float
    age: float = 0.0


VISITS, DEATH, WORSENING = Rate(2.0, 0.3), Rate(0.06, 0.7, 0.3), Rate(0.10, 0.5)

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)  # of a standard normal
_STEPS, _STEP_WEIGHTS = np.polynomial.legendre.leggauss(8)
_BATCH = 2048  # landmarks at once, which bounds the memory


@dataclass(frozen=True, eq=False)
class ClinicTruth:
    """What is hidden in a simulated clinic: one entry a patient, and one a visit. Days after the first visit.

    Attributes
    ----------
    ids : ndarray
        (patient,) names; a patient's place among them is its position.
    age : ndarray
        (patient,) years at entry.
    start, drift : ndarray
        (patient,) the level at entry, and its rise a year.
    worse, death : ndarray
        (patient,) day of worsening and of death, had nobody been lost; inf: never. Worsening may come after
        death; it does not happen then.
    owner, second : ndarray
        (visit,) position of the patient, and seconds after entry; sorted by both.
    level, marker : ndarray
        (visit,) as written down; nan: not measured.
    """

    ids: np.ndarray  # (patient,) str
    age: np.ndarray  # (patient,) float64
    start: np.ndarray  # (patient,) float64
    drift: np.ndarray  # (patient,) float64
    worse: np.ndarray  # (patient,) float64
    death: np.ndarray  # (patient,) float64
    owner: np.ndarray  # (visit,) int64
    second: np.ndarray  # (visit,) int64
    level: np.ndarray  # (visit,) float64
    marker: np.ndarray  # (visit,) float64

    def alive(
        self, position: Numbers, at_days: Numbers, to_days: Numbers, given: Given = "history"
    ) -> np.ndarray:
        """True chance to be alive at `to`, of patients alive at `at`.

        Parameters
        ----------
        position : int or array
            Place of the patient among the ids. This and the next two broadcast to (landmark,).
        at_days : float or array
            The landmark, >= 0.
        to_days : float or array
            The time asked for, >= `at_days`.
        given : {"history", "latent"}, default "history"
            What is known: the patient's rows until then, or the line of the level.

        Returns
        -------
        ndarray
            (landmark,) float64.

        Raises
        ------
        InputError
            When a position or time does not exist, or `given` is neither.
        """

        def chance(state: _State, to: np.ndarray) -> np.ndarray:
            return state.mean(state.survival(to))

        return self._each(chance, position, at_days, to_days, given)

    def seen(
        self,
        position: Numbers,
        at_days: Numbers,
        to_days: Numbers,
        window: float = WINDOW,
        given: Given = "history",
    ) -> np.ndarray:
        """True chance of a visit within `window` of `to` and after `at`, of patients alive at `to`.

        A patient who dies in the window after `to` may have been seen in it before. Nobody is lost.

        Parameters
        ----------
        position, at_days, to_days, given
            As in `alive`.
        window : float, default 90
            Days before and after `to`.

        Returns
        -------
        ndarray
            (landmark,) float64.
        """

        def chance(state: _State, to: np.ndarray) -> np.ndarray:
            return state.mean(state.seen(to, window / YEAR), state.survival(to))

        return self._each(chance, position, at_days, to_days, given)

    def value(
        self,
        position: Numbers,
        at_days: Numbers,
        to_days: Numbers,
        window: float = WINDOW,
        given: Given = "history",
    ) -> np.ndarray:
        """True mean of the level at `to`, of those seen within `window` of it and alive then.

        Parameters
        ----------
        position, at_days, to_days, window, given
            As in `seen`.

        Returns
        -------
        ndarray
            (landmark,) float64.
        """

        def mean(state: _State, to: np.ndarray) -> np.ndarray:
            there = state.survival(to) * state.seen(to, window / YEAR)
            return state.mean(state.level(to), there)

        return self._each(mean, position, at_days, to_days, given)

    def distribution(
        self,
        edges: Numbers,
        position: Numbers,
        at_days: Numbers,
        to_days: Numbers,
        window: float = WINDOW,
        given: Given = "history",
    ) -> np.ndarray:
        """True probability that the level measured at `to` lies between edges, if seen and alive then.

        Parameters
        ----------
        edges : (edge,) array
            Rising; the first and the last bin are open.
        position, at_days, to_days, window, given
            As in `seen`.

        Returns
        -------
        ndarray
            (landmark, edge + 1) float64; each row sums to one.
        """
        limits = np.asarray(edges, float)

        def between(state: _State, to: np.ndarray) -> np.ndarray:
            there = state.survival(to) * state.seen(to, window / YEAR)
            below = [state.mean(ndtr((limit - state.level(to)) / NOISE), there) for limit in limits.tolist()]
            outer = [np.zeros(len(to)), *below, np.ones(len(to))]
            return np.diff(np.stack(outer, 1), axis=1)

        return self._each(between, position, at_days, to_days, given)

    def worsening(
        self, position: Numbers, at_days: Numbers, horizon_days: Numbers, given: Given = "history"
    ) -> np.ndarray:
        """True chance to be worse by `at` + `horizon` before death, of patients alive and not seen worse.

        Who became worse since the last visit and has not been seen since counts from `at` on.

        Parameters
        ----------
        position, at_days, given
            As in `alive`.
        horizon_days : float or array
            Days after the landmark, >= 0.

        Returns
        -------
        ndarray
            (landmark,) float64; 1 where a visit has shown it already.
        """

        def chance(state: _State, to: np.ndarray) -> np.ndarray:
            return state.mean(state.worsening(to))

        until = np.asarray(at_days, float) + np.asarray(horizon_days, float)
        return self._each(chance, position, at_days, until, given)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything into one .npz file; the same truth gives the same bytes.

        Parameters
        ----------
        path : path
            The file.
        """
        with atomic_file(path) as part, open(part, "wb") as handle:
            np.savez(handle, **{name: vars(self)[name] for name in self.__dataclass_fields__})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ClinicTruth:
        """Read what `save` wrote.

        Parameters
        ----------
        path : path
            The file.

        Returns
        -------
        ClinicTruth
            The same truth.

        Raises
        ------
        InputError
            When the file is not there, or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**{name: arrays[name] for name in arrays.files})
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise InputError(
                f"{path}: not a truth of clinic ({error}); write_clinic(..., truth=True) makes one"
            ) from None

    @cached_property
    def _sums(self) -> np.ndarray:
        """Running sums over visits, from 0, in the order of the columns below."""
        t, marked = self.second / _SECONDS, np.isfinite(self.marker)
        late = self.second > 0  # the visit at entry is by design
        columns = [
            np.ones_like(t), t, t * t, self.level, t * self.level, marked, np.where(marked, self.marker, 0.0),
            late, late * t,
        ]  # fmt: skip
        return np.concatenate([np.zeros((1, len(columns))), np.cumsum(np.stack(columns, 1), axis=0)])

    def _each(
        self, answer: Any, position: Numbers, at_days: Numbers, to_days: Numbers, given: Given
    ) -> np.ndarray:
        """An answer for every landmark, some at a time."""
        if given not in ("history", "latent"):
            raise InputError(f"given = {given!r}; must be history or latent")
        columns = (np.atleast_1d(np.asarray(c)) for c in (position, at_days, to_days))
        patient, at, to = np.broadcast_arrays(*columns)
        if bad := patient[(patient < 0) | (patient >= len(self.ids))][:1].tolist():
            raise InputError(f"position {bad[0]}; this truth has {len(self.ids)} patients, from 0")
        if bad := at[~(at >= 0)][:1].tolist():
            raise InputError(f"at {bad[0]:g} days; must be >= 0, at or after the first visit")
        if (wrong := ~(to >= at)).any():
            raise InputError(f"to day {to[wrong][0]:g}, at day {at[wrong][0]:g}; must not be before it")
        states = {"history": self._history, "latent": self._latent}[given]
        parts = [
            answer(states(patient[some], at[some] / YEAR), to[some] / YEAR)
            for some in (slice(a, a + _BATCH) for a in range(0, len(patient), _BATCH))
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _latent(self, patient: np.ndarray, at: np.ndarray) -> _State:
        """The one line that is so."""
        worse = np.where(self.worse[patient] <= at * YEAR, 1.0, 0.0)[:, None]
        return _State(
            at,
            self.age[patient],
            self.start[patient, None],
            self.drift[patient, None],
            np.ones((1, 1)),
            worse,
        )

    def _history(self, patient: np.ndarray, at: np.ndarray) -> _State:
        """Lines that may be, with their chances given all rows until `at`.

        Measurements give a normal distribution; what visits, survival and stages add weighs its nodes.
        """
        key = self.owner * np.int64(2**40) + self.second
        lo = np.searchsorted(key, patient * np.int64(2**40), "left")
        hi = np.searchsorted(
            key, patient * np.int64(2**40) + np.rint(at * _SECONDS).astype(np.int64), "right"
        )
        n, t, tt, y, ty, marked, m, late, late_t = (self._sums[hi] - self._sums[lo]).T
        by_marker = 1 / (DRIFT_SD * MARKER_NOISE) ** 2
        precision = np.empty((len(at), 2, 2))
        precision[:, 0, 0] = START_SD**-2 + n / NOISE**2
        precision[:, 1, 1] = DRIFT_SD**-2 + tt / NOISE**2 + marked * by_marker
        precision[:, 0, 1] = precision[:, 1, 0] = t / NOISE**2
        towards = np.stack(
            [
                START * START_SD**-2 + y / NOISE**2,
                DRIFT * DRIFT_SD**-2 + ty / NOISE**2 + by_marker * (m * DRIFT_SD + marked * DRIFT),
            ],
            1,
        )
        covariance = np.linalg.inv(precision)
        middle = (covariance @ towards[:, :, None])[:, :, 0]
        grid = np.stack(np.meshgrid(_NODES, _NODES, indexing="ij")).reshape(2, -1)
        line = middle[:, :, None] + np.linalg.cholesky(covariance) @ grid  # (landmark, 2, node)
        chance = np.outer(_WEIGHTS, _WEIGHTS).ravel() / _WEIGHTS.sum() ** 2
        state = _State(at, self.age[patient], line[:, 0], line[:, 1], chance[None], np.zeros((1, 1)))
        at, zero = at[:, None], np.zeros((len(at), 1))
        slope = VISITS.level / SPREAD
        log = slope * (late[:, None] * (state.start - MIDDLE) + late_t[:, None] * state.drift)
        log -= state.summed(VISITS, zero, at) + state.summed(DEATH, zero, at)
        without, shown = self._stages(lo, hi, patient)
        kept = np.exp(-state.summed(WORSENING, zero, without[:, None]))
        until = np.where(np.isfinite(shown), shown, 0.0)[:, None]
        passed = np.exp(-state.summed(WORSENING, zero, until))
        seen_worse = np.isfinite(shown)[:, None]
        log += np.log(np.where(seen_worse, np.maximum(kept - passed, 1e-300), kept))
        weight = chance * np.exp(log - log.max(1, keepdims=True))
        unseen = -np.expm1(-state.summed(WORSENING, without[:, None], np.maximum(at, without[:, None])))
        return state._replace(
            chance=weight / weight.sum(1, keepdims=True), worse=np.where(seen_worse, 1.0, unseen)
        )

    def _stages(self, lo: np.ndarray, hi: np.ndarray, patient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Years at the last visit in lo to hi without the worse stage, and at the first with it, or inf."""
        bad = self.second / DAY >= self.worse[self.owner]
        good = np.concatenate([[0], np.cumsum(~bad)])
        first = lo + good[hi] - good[lo]  # visits are in order: those without come first
        shown = np.where(first < hi, self.second[np.minimum(first, len(bad) - 1)] / _SECONDS, np.inf)
        without = np.where(first > lo, self.second[np.maximum(first - 1, 0)] / _SECONDS, 0.0)
        return without, shown


class _State(NamedTuple):
    """Lines of the level that may be a patient's, at a landmark. Years."""

    at: np.ndarray  # (landmark,)
    age: np.ndarray  # (landmark,)
    start: np.ndarray  # (landmark, node)
    drift: np.ndarray  # (landmark, node)
    chance: np.ndarray  # (landmark or 1, node)
    worse: np.ndarray  # (landmark or 1, node or 1): chance to be worse already

    def mean(self, figure: np.ndarray, weight: np.ndarray | float = 1.0) -> np.ndarray:
        """Mean over the lines, (landmark,)."""
        chance = self.chance * weight * np.ones_like(self.start)
        return (chance * figure).sum(1) / chance.sum(1)

    def level(self, to: np.ndarray) -> np.ndarray:
        """(landmark, node)."""
        return self.start + self.drift * to[:, None]

    def log_rate(self, rate: Rate, when: np.ndarray) -> np.ndarray:
        """Log of events a year at a time, (landmark, node)."""
        return _log_rate(rate, self.start, self.drift, self.age[:, None], when)

    def summed(self, rate: Rate, since: np.ndarray, until: np.ndarray) -> np.ndarray:
        """Expected number of events from one time to another, (landmark, node)."""
        return _summed(rate, self.start, self.drift, self.age[:, None], since, until)

    def survival(self, to: np.ndarray) -> np.ndarray:
        """Chance to be alive at `to`, (landmark, node)."""
        return np.exp(-self.summed(DEATH, self.at[:, None], to[:, None]))

    def seen(self, to: np.ndarray, window: float) -> np.ndarray:
        """Chance of a visit in the window, of those alive at `to`: (landmark, node)."""
        to = to[:, None]
        missed = np.exp(-self.summed(VISITS, np.maximum(to - window, self.at[:, None]), to))
        # after `to`: no visit until the window ends, or until death comes in it
        not_yet = np.exp(-self.summed(VISITS, to, to + window) - self.summed(DEATH, to, to + window))
        for step, weight in zip(_STEPS, _STEP_WEIGHTS, strict=True):
            now = to + window * (step + 1) / 2
            gone = self.log_rate(DEATH, now) - self.summed(VISITS, to, now) - self.summed(DEATH, to, now)
            not_yet = not_yet + window * weight / 2 * np.exp(gone)
        return 1 - missed * not_yet

    def worsening(self, to: np.ndarray) -> np.ndarray:
        """Chance to be worse by `to` before death, (landmark, node)."""
        at, length = self.at[:, None], (to - self.at)[:, None]
        coming = np.zeros_like(self.start)
        for step, weight in zip(_STEPS, _STEP_WEIGHTS, strict=True):
            now = at + length * (step + 1) / 2
            free = self.summed(WORSENING, at, now) + self.summed(DEATH, at, now)
            coming += length * weight / 2 * np.exp(self.log_rate(WORSENING, now) - free)
        return self.worse + (1 - self.worse) * coming


def _log_rate(rate: Rate, start: Any, drift: Any, age: Any, when: Any) -> Any:
    """Log of events a year; arguments broadcast."""
    above = (start + drift * when - MIDDLE) / SPREAD
    return np.log(rate.base) + rate.level * above + rate.age * (age - AGE) / 10


def _summed(rate: Rate, start: Any, drift: Any, age: Any, since: Any, until: Any) -> Any:
    """The rate, exponential in time, integrated from one time to another."""
    length = until - since
    return (
        np.exp(_log_rate(rate, start, drift, age, since))
        * length
        * exprel(rate.level * drift / SPREAD * length)
    )


def _when(rate: Rate, start: Any, drift: Any, age: Any, due: Any) -> Any:
    """Years at which the integrated rate reaches what is due; inf: never."""
    growth = rate.level * drift / SPREAD
    reached = growth * due / np.exp(_log_rate(rate, start, drift, age, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(reached > -1, np.log1p(reached) / growth, np.inf)


def write_clinic(
    folder: str | os.PathLike[str], n: int = 1000, seed: int = 0, *, truth: bool = False
) -> ClinicTruth:
    """Write the tables of a simulated clinic into a folder; the same seed gives the same bytes.

    Parameters
    ----------
    folder : path
        New or empty.
    n : int, default 1000
        Number of patients, 1 to 100 000.
    seed : int, default 0
        Seed of everything, >= 0.
    truth : bool, default False
        Whether truth.npz is written beside the tables.

    Returns
    -------
    ClinicTruth
        What is hidden in the tables, and what is true.

    Raises
    ------
    InputError
        When n or seed is out of range, or the folder is not empty.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     truth = write_clinic(folder, 20)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['patients.csv', 'visits.csv']
    >>> soon, late = truth.alive(3, at_days=365.0, to_days=[400, 1000])
    >>> bool(0 < late < soon < 1)
    True
    """
    if not 1 <= n <= 100_000:
        raise InputError(f"n = {n} patients; give 1 to 100000, as many as p00000 has digits for")
    if seed < 0:
        raise InputError(f"seed = {seed}; must be >= 0")
    rng = np.random.default_rng(seed)
    age = rng.normal(AGE, AGE_SD, n).clip(20, 95).round(1)
    sex = rng.choice(["female", "male"], n)
    start, drift = rng.normal(START, START_SD, n), rng.normal(DRIFT, DRIFT_SD, n)
    line = start, drift, age
    death, worse = (_when(rate, *line, rng.exponential(size=n)) for rate in (DEATH, WORSENING))
    left = np.minimum(np.minimum(death, rng.exponential(1 / LOST, n)), FOLLOW_UP)
    end = np.maximum(left * _SECONDS // 60 * 60, 60).astype(np.int64)

    later = rng.poisson(_summed(VISITS, *line, 0.0, left))
    owner = np.repeat(np.arange(n), later)
    due = rng.random(len(owner)) * _summed(VISITS, *line, 0.0, left)[owner]
    when = _when(VISITS, start[owner], drift[owner], age[owner], due)
    owner = np.concatenate([np.arange(n), owner])
    second = np.concatenate([np.zeros(n), when * _SECONDS // 60 * 60]).astype(np.int64)
    pair = np.unique(np.stack([owner, second], 1)[second < end[owner]], axis=0)  # a minute has one visit
    owner, second = pair.T
    level = start[owner] + drift[owner] * second / _SECONDS
    level = (level + NOISE * rng.standard_normal(len(owner))).round(2)
    marker = ((drift[owner] - DRIFT) / DRIFT_SD + MARKER_NOISE * rng.standard_normal(len(owner))).round(3)
    marker = np.where(rng.random(len(owner)) < MARKED, marker, np.nan)
    hidden = ClinicTruth(
        ids=np.array([f"p{i:05d}" for i in range(n)]),
        age=age,
        start=start,
        drift=drift,
        worse=worse * YEAR,
        death=death * YEAR,
        owner=owner,
        second=second,
        level=level,
        marker=marker,
    )
    patients = {"pid": hidden.ids, "age": age, "sex": sex, "end_day": (end / DAY).round(6)}
    visits = {
        "pid": hidden.ids[owner],
        "day": (second / DAY).round(6),
        "level": level,
        "marker": pl.Series(marker).fill_nan(None),
        "stage": (second / DAY >= hidden.worse[owner]).astype(np.int8),
    }
    died = (death <= left).astype(np.int8)
    with atomic_folder(folder) as part:
        pl.DataFrame({**patients, "died": died}).write_csv(part / "patients.csv")
        pl.DataFrame(visits).write_csv(part / "visits.csv")
        if truth:
            hidden.save(part / "truth.npz")
    return hidden
