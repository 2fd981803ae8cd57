"""What a model forecasts of a value: its distribution at a moment, if seen and alive then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.outcomes import Progression
from gnnpatient.errors import InputError
from gnnpatient.model.heads import HeadConfig
from gnnpatient.model.values import ProgressionConfig
from gnnpatient.prognosis.conformal import Calibration, check_level, uncalibrated
from gnnpatient.prognosis.rows import (
    answerable,
    check_rows,
    check_sums,
    kept,
    numbers,
    positions,
    rising_times,
)
from gnnpatient.show import Shown, Summary, Table, counted
from gnnpatient.times import DAY, days, duration

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

LEVEL = 0.9  # of the interval that is shown
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # that tables and figures list
MAX_SHOWN_TIMES = 3  # in a repr
_NODES = (-(3**-0.5), 3**-0.5)  # Gauss-Legendre, in [-1, 1]


@dataclass(frozen=True, eq=False, repr=False)
class ProgressionForecast(Shown):
    """The distribution of a value at a few times after each landmark, given that it is seen then and alive.

    The distribution is over bins of the value, even inside a bin; between two times it is a mixture of
    theirs, before the first time that of the first. A landmark at which the patient was no longer followed
    has none: nan.

    Attributes
    ----------
    outcome : str
        Name of the outcome.
    codes : tuple of str
        Codes whose value it is.
    unit : str
        Unit of the value, ``""`` for none.
    target : {"value", "change"}
        Whether the distribution is of the value, or of its change since the last known value.
    times : ndarray
        Days after the landmark, rising.
    edges : ndarray
        Ends of the bins, rising.
    probability : ndarray
        Probability of each bin at each time, given that a value is seen then and the patient is alive.
    seen : ndarray
        Probability that a value is seen around each time, given that the patient is alive.
    alive : ndarray
        Probability of not being gone by each time: event-free of the outcome that ends this one; 1 where
        there is none.
    last : ndarray
        Last known value at each landmark; nan where there is none.
    to : ndarray
        Days after the landmark for which a value was asked, see `Cohort.at`; nan where none was.
    ids : ndarray
        The patient's id of each landmark.
    at : ndarray
        Days after the patient's origin of each landmark.
    at_risk : ndarray
        Whether there is a forecast.
    members : ndarray or None
        By each member, probability of being seen (slot 0) and of each bin; None where there is one only.
    calibration : Calibration or None
        How surprising what came was to members that had not seen the patient; None where nothing is
        calibrated.
    """

    outcome: str
    codes: tuple[str, ...]
    unit: str
    target: Literal["value", "change"]
    times: np.ndarray  # (time,) float64
    edges: np.ndarray  # (bin + 1,) float64
    probability: np.ndarray  # (landmark, bin, time)
    seen: np.ndarray  # (landmark, time)
    alive: np.ndarray  # (landmark, time)
    last: np.ndarray  # (landmark,) float64
    to: np.ndarray  # (landmark,) float64
    ids: np.ndarray  # (landmark,) str
    at: np.ndarray  # (landmark,) float64
    at_risk: np.ndarray  # (landmark,) bool
    members: np.ndarray | None = None  # (member, landmark, 1 + bin, time)
    calibration: Calibration | None = field(default=None, kw_only=True)

    @classmethod
    def of_members(
        cls, outcome: str, head: HeadConfig, members: np.ndarray, landmarks: Landmarks, at_risk: np.ndarray
    ) -> ProgressionForecast:
        """Average over the members.

        Parameters
        ----------
        outcome : str
            Name of the outcome.
        head : ProgressionConfig
            Times and bins.
        members : ndarray
            (member, landmark, 1 + bin, time).
        landmarks : Landmarks
            Whom they are of.
        at_risk : ndarray
            (landmark,) bool.

        Returns
        -------
        ProgressionForecast
            Of patients who are never gone, see `with_alive`.
        """
        config, mean, last = cast(ProgressionConfig, head), members.mean(0), np.full(len(landmarks), np.nan)
        if outcome in landmarks.cohort.outcomes:
            truth = cast(Progression, landmarks.cohort.outcomes[outcome])
            last = truth.baseline(landmarks.patient, landmarks.at)
        return cls(
            outcome,
            config.codes,
            config.unit,
            config.target,
            np.array(config.times),
            np.array(config.edges),
            mean[:, 1:],
            mean[:, 0],
            np.where(at_risk[:, None], 1.0, np.nan) * np.ones(len(config.times)),
            last,
            asked_for(landmarks),
            landmarks.ids,
            landmarks.days,
            at_risk,
            members if len(members) > 1 else None,
        )

    def with_alive(self, event_free: np.ndarray, times: np.ndarray) -> ProgressionForecast:
        """Take from another forecast who is gone by when.

        Parameters
        ----------
        event_free : ndarray
            (landmark, time), the probability of not being gone.
        times : ndarray
            Its times, days after the landmark.

        Returns
        -------
        ProgressionForecast
        """
        grid = np.append(0.0, times)
        whole = np.concatenate([np.ones((len(self), 1)), event_free], 1)
        alive = np.stack([np.interp(self.times, grid, row) for row in whole]).reshape(len(self), -1)
        return replace(self, alive=np.where(self.at_risk[:, None], alive, np.nan))

    def in_unit(self, factor: float, offset: float, unit: str) -> ProgressionForecast:
        """The same in another unit.

        Parameters
        ----------
        factor, offset : float
            How values of that unit become those of this forecast: factor * value + offset; factor above 0.
        unit : str
            The other unit.

        Returns
        -------
        ProgressionForecast
            With the last values as they are: they are the cohort's.
        """
        start = offset if self.target == "value" else 0.0
        return replace(self, edges=(self.edges - start) / factor, unit=unit)

    @classmethod
    def from_array(
        cls,
        probability: Any,
        edges: Any,
        times: Any,
        landmarks: Landmarks,
        outcome: str | None = None,
        *,
        seen: Any = None,
        alive: Any = None,
    ) -> ProgressionForecast:
        """Make a forecast of the answer of any other model.

        Parameters
        ----------
        probability : ndarray or Tensor
            (landmark, bin, time), or (landmark, bin) of a single time: of each bin, given that a value is
            seen. Landmarks not followed are not read, and nan in the forecast.
        edges : array_like of float
            Ends of the bins, rising, one more than bins; of a change those of the change.
        times : array_like of float
            Days after the landmark, rising, > 0.
        landmarks : Landmarks
            Whom the rows are of.
        outcome : str, optional
            Name of the outcome. Default: the only progression.
        seen : ndarray or Tensor, optional
            (landmark, time), probability that a value is seen then; default: 1.
        alive : ndarray or Tensor, optional
            (landmark, time), probability of not being gone by then; default: 1.

        Returns
        -------
        ProgressionForecast

        Raises
        ------
        InputError
            When a length does not fit, the outcome is no progression, the edges do not rise, or the numbers
            of a row are no probabilities, or those of the bins do not sum to one. Rounding of 1e-5 is
            accepted and removed.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import clinic
        >>> X = clinic(20).at(0, to=3).followed("level")
        >>> share = np.tile([0.25, 0.5, 0.25], (len(X), 1))    # a model that gives everyone the same
        >>> forecast = ProgressionForecast.from_array(share, [0, 1, 2, 4], times=[3], landmarks=X)
        >>> forecast.outcome, forecast.quantile([0.25, 0.5])[0].tolist(), forecast.mean()[:1].tolist()
        ('level', [1.0, 1.5], [1.625])
        """
        name = _progression(landmarks, outcome)
        truth = cast(Progression, landmarks.cohort.outcomes[name])
        grid, ends, p = rising_times(times), numbers(edges, "edges"), numbers(probability, "probability")
        if not grid[0]:
            raise InputError("times must be > 0, days after the landmark; found 0")
        if ends.ndim != 1 or len(ends) < 3 or not np.isfinite(ends).all() or (np.diff(ends) <= 0).any():
            raise InputError(
                f"edges must rise, the finite ends of two bins or more; found {ends.tolist()[:4]}"
            )
        p = p[..., None] if p.ndim == 2 and len(grid) == 1 else p
        shape = len(landmarks), len(ends) - 1, len(grid)
        if p.shape != shape:
            raise InputError(f"probability has shape {p.shape}; must be {shape}, landmarks, bins and times")
        at_risk = answerable(landmarks, name)
        rows = np.flatnonzero(at_risk)
        check_rows(p[rows], "probability", rows)
        check_sums(p[rows].sum(1), "all bins", rows, least=1.0)
        p = p.clip(0, 1)
        p = p / p.sum(1, keepdims=True).clip(0.5)  # rows that are not read may be anything
        p[~at_risk] = np.nan
        return cls(
            name,
            tuple(landmarks.cohort.codes[truth.spec.node][code] for code in np.flatnonzero(truth.code)),
            unit_of(landmarks, name),
            "change" if truth.spec.target == "change" else "value",
            grid,
            ends,
            p,
            _chance(seen, "seen", at_risk, len(grid)),
            _chance(alive, "alive", at_risk, len(grid)),
            truth.baseline(landmarks.patient, landmarks.at),
            asked_for(landmarks),
            landmarks.ids,
            landmarks.days,
            at_risk,
        )

    @staticmethod
    def summary(head: Mapping[str, Any]) -> str:
        """Say in a sentence of the model card what is forecast.

        Parameters
        ----------
        head : mapping
            The head's configuration, see `ProgressionConfig.to_dict`.

        Returns
        -------
        str
        """
        of = "the value" if head["target"] == "value" else "the change since the last value"
        unit = f" in {head['unit']}" if head["unit"] else ""
        return (
            f"the distribution of {of} of {', '.join(head['codes'])}{unit} up to {head['times'][-1]:g} days "
            "after the landmark, if seen and alive then, and how probable it is that a value is seen."
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Any) -> ProgressionForecast:
        """The forecast of some of the landmarks, by position, slice or mask."""
        keep = positions(rows, len(self))
        each = {name: getattr(self, name)[keep] for name in ("probability", "seen", "alive", "last", "to")}
        return replace(self, **each, **kept(self, keep))

    @property
    def names(self) -> tuple[str, ...]:
        """The outcome: a progression has no causes or classes."""
        return (self.outcome,)

    def distribution(self, to: Any = None) -> np.ndarray:
        """Give the probability of each bin at a time, if seen and alive then.

        Parameters
        ----------
        to : float, str or array_like, optional
            Days after the landmark, or a duration as in ``"1y"``, for all landmarks or one for each; default:
            what each landmark was asked for, see `Cohort.at`.

        Returns
        -------
        ndarray
            (landmark, bin) float64, sums to one; nan where there is no forecast.

        Raises
        ------
        InputError
            See `quantile`.
        """
        return self._between(self.probability, self._asked(to))

    def quantile(self, q: float | Sequence[float] | np.ndarray, to: Any = None) -> np.ndarray:
        """Give quantiles of the value at a time, if seen and alive then.

        Parameters
        ----------
        q : float or sequence of float
            From 0 to 1.
        to : float, str or array_like, optional
            Days after the landmark, or a duration as in ``"1y"``, for all landmarks or one for each; default:
            what each landmark was asked for, see `Cohort.at`.

        Returns
        -------
        ndarray
            (landmark,) float64, or (landmark, quantile) of several; nan where there is no forecast.

        Raises
        ------
        InputError
            When a quantile is outside [0, 1], no time was asked for, or it is not after the landmark or
            beyond the last time.
        """
        wanted = numbers(q, "q")
        if wanted.ndim > 1 or not ((wanted >= 0) & (wanted <= 1)).all():
            raise InputError(f"quantile {q}; must be from 0 to 1")
        found = _quantiles(self.distribution(to), self.edges, np.atleast_1d(wanted))
        return found[:, 0] if wanted.ndim == 0 else found

    def mean(self, to: Any = None, of: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        """Give the mean of the value at a time, if seen and alive then.

        Parameters
        ----------
        to : float, str or array_like, optional
            Days after the landmark, or a duration as in ``"1y"``, for all landmarks or one for each; default:
            what each landmark was asked for, see `Cohort.at`.
        of : callable, optional
            A function of an array of values, as ``numpy.log``: the mean of that; default: of the value.

        Returns
        -------
        ndarray
            (landmark,) float64; nan where there is no forecast.

        Raises
        ------
        InputError
            When no time was asked for, or it is not after the landmark or beyond the last time.
        """
        middle, half = (self.edges[1:] + self.edges[:-1]) / 2, np.diff(self.edges) / 2
        points = [middle + node * half for node in _NODES]
        means = np.mean([x if of is None else np.asarray(of(x)) for x in points], axis=0)
        return self.distribution(to) @ means

    def interval(self, level: float = LEVEL, to: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Give the interval in which the value lies with a probability, if it is seen then.

        Where `calibration` reaches the level it is a conformal interval: as wide as it takes to hold that
        share of the values of patients who were held out [1]_, on the scale of the forecast's own
        quantiles [2]_. It is right on average over landmarks, not for each patient or day. Else it is the
        interval between the forecast's quantiles, right as far as the model is.

        Parameters
        ----------
        level : float
            Probability, default 0.9.
        to : float, str or array_like, optional
            See `quantile`.

        Returns
        -------
        tuple of ndarray
            Low and high, each (landmark,).

        Raises
        ------
        InputError
            When the level is not between 0 and 1, and see `quantile`.

        References
        ----------
        .. [1] Barber RF, Candes EJ, Ramdas A, Tibshirani RJ. Predictive inference with the jackknife+. Annals
           of Statistics 49:486-507, 2021.
        .. [2] Chernozhukov V, Wuthrich K, Zhu Y. Distributional conformal prediction. PNAS 118:e2107794118,
           2021.
        """
        check_level(level)
        if self.calibration is None or not self.calibration.reaches(level):
            found = self.quantile([(1 - level) / 2, (1 + level) / 2], to)
            return found[:, 0], found[:, 1]
        scores, wanted = np.array(self.calibration.scores), self._asked(to)
        many = self.probability[None] if self.members is None else self.members[:, :, 1:]
        each = [self._between(one, wanted) for one in many]
        low, high = (
            np.stack([_quantiles(p, self.edges, (1 + sign * scores) / 2) for p in each]) for sign in (-1, 1)
        )
        ends = self.calibration.lower_end(low, level), -self.calibration.lower_end(-high, level)
        return tuple(np.where(self.at_risk, end, np.nan) for end in ends)  # type: ignore[return-value]

    @property
    def is_calibrated(self) -> bool:
        """Whether `interval` of level 0.9 is held against patients who were held out."""
        return uncalibrated(self.calibration, LEVEL) is None

    def statement(self, level: float = LEVEL) -> str:
        """Say what the interval of a level is, or that it is the model's own.

        Parameters
        ----------
        level : float
            Probability, default 0.9.

        Returns
        -------
        str
        """
        if why := uncalibrated(self.calibration, check_level(level)):
            return f"{why}: the interval is right as far as the model is"
        assert self.calibration is not None
        return f"the interval holds a value that is seen {self.calibration.chance(level)}"

    def p_seen(self, to: Any = None) -> np.ndarray:
        """Probability that a value is seen around a time, given that the patient is alive then.

        Parameters
        ----------
        to : float, str or array_like, optional
            See `quantile`.

        Returns
        -------
        ndarray
            (landmark,) float64; nan where there is no forecast.

        Raises
        ------
        InputError
            See `quantile`.
        """
        return self._between(self.seen, self._asked(to))

    def p_alive(self, to: Any = None) -> np.ndarray:
        """Probability of not being gone by a time; 1 where the outcome names nothing that ends it.

        Parameters
        ----------
        to : float, str or array_like, optional
            See `quantile`.

        Returns
        -------
        ndarray
            (landmark,) float64; nan where there is no forecast.

        Raises
        ------
        InputError
            See `quantile`.
        """
        wanted = self._asked(to)
        share = np.minimum(wanted / self.times[0], 1)  # from 1 at the landmark itself
        return 1 - share * (1 - self._between(self.alive, wanted))

    def change(self, q: float | Sequence[float] | np.ndarray | None = None, to: Any = None) -> np.ndarray:
        """Give the mean or quantiles of the change since the last known value.

        Parameters
        ----------
        q : float or sequence of float, optional
            From 0 to 1; default: the mean.
        to : float, str or array_like, optional
            See `quantile`.

        Returns
        -------
        ndarray
            (landmark,) float64, or (landmark, quantile) of several; nan where there is no forecast, or no
            last value.

        Raises
        ------
        InputError
            See `quantile`.
        """
        found = self.mean(to) if q is None else self.quantile(q, to)
        if self.target == "change":
            return found
        return found - (self.last if found.ndim == 1 else self.last[:, None])

    def table(self, to: Any = None) -> pl.DataFrame:
        """List the forecasts of the landmarks that have one.

        Parameters
        ----------
        to : float, str or array_like, optional
            See `quantile`.

        Returns
        -------
        polars.DataFrame
            Columns id, at, outcome, to (days after the landmark), unit, last (the last known value), mean,
            low, median, high (the interval that holds the value with probability 0.9), p_seen, p_alive.

        Raises
        ------
        InputError
            See `quantile`.
        """
        import polars as pl

        low, high = self.interval(to=to)
        columns = {
            "id": self.ids.astype(str),
            "at": np.asarray(self.at, np.float64),
            "outcome": np.full(len(self), self.outcome),
            "to": self._asked(to),
            "unit": np.full(len(self), self.unit),
            "last": np.asarray(self.last, np.float64),
            "mean": self.mean(to),
            "low": low,
            "median": self.quantile(0.5, to),
            "high": high,
            "p_seen": self.p_seen(to),
            "p_alive": self.p_alive(to),
        }
        return pl.DataFrame(columns).filter(self.at_risk).with_columns(pl.col("last").fill_nan(None))

    def to_frame(self) -> pl.DataFrame:
        """Make a table of the quantiles at every time, for other libraries and for plots of your own.

        Returns
        -------
        polars.DataFrame
            One row a landmark, time and quantile (0.05, 0.25, 0.5, 0.75, 0.95): id, landmark (days after the
            origin), time (days after the landmark), quantile, value, null where there is no forecast.
        """
        import polars as pl

        values = np.stack([self.quantile(QUANTILES, time) for time in self.times], 1)
        landmark, time, quantile = (index.reshape(-1) for index in np.indices(values.shape))
        columns = {
            "id": self.ids.astype(str)[landmark],
            "landmark": np.asarray(self.at, np.float64)[landmark],
            "time": self.times[time],
            "quantile": np.array(QUANTILES)[quantile],
            "value": values.reshape(-1),
        }
        return pl.DataFrame(columns).with_columns(pl.col("value").fill_nan(None))

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the median after the landmark, and where the value lies with probability 0.9 and 0.5.

        Up to six landmarks; of several the wide band is left out. The bands are what may happen, if the
        patient is seen and alive then.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; default: the axes of a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        InputError
            When there are more than six landmarks.
        """
        from gnnpatient.prognosis.plot import plot_values

        return plot_values(self, ax)

    def _summary(self) -> Summary:
        until = duration(float(self.times[-1]))
        of = "" if self.target == "value" else "change of "
        title = f"Forecast of {of}{self.outcome}: {counted(len(self), 'landmark')}, up to {until} after it"
        facts = [("unit", self.unit)] if self.unit else []
        if self.members is not None:
            facts.append(("members", str(len(self.members))))
        if len(self) > 1 and not self.at_risk.all():
            facts.append(("none", f"{int((~self.at_risk).sum())} landmarks, no longer followed"))
        if len(self) != 1:
            return Summary(title, facts)
        if not self.at_risk[0]:
            return Summary(title, [*facts, ("none", "no longer followed at this landmark")])
        if np.isfinite(self.last[0]):
            facts.append(("last value", f"{self.last[0]:.4g}"))
        if np.isfinite(self.to[0]) and self.to[0] <= self.times[-1]:
            shown = [float(self.to[0])]
        else:
            every = np.linspace(0, len(self.times) - 1, MAX_SHOWN_TIMES).round()
            shown = self.times[np.unique(every.astype(int))].tolist()
        rows = []
        for to in shown:
            low, high = self.interval(to=to)
            value = f"{self.quantile(0.5, to)[0]:.4g} ({low[0]:.4g} to {high[0]:.4g})"
            chances = f"{self.p_seen(to)[0] * 100:.0f} %", f"{self.p_alive(to)[0] * 100:.0f} %"
            rows.append((f"in {duration(to)}", value, *chances))
        lines = [(when, f"{value}; seen {seen}, alive {alive}") for when, value, seen, alive in rows]
        table = Table(["<", f"median ({LEVEL * 100:g} %)", "seen", "alive"], rows)
        said = ("interval" if self.is_calibrated else "but", self.statement())
        return Summary(title, [*facts, *lines, said], [table], [when for when, _ in lines])

    def _asked(self, to: Any) -> np.ndarray:
        """Days after each landmark, (landmark,) float64."""
        upto = f"this model answers up to {duration(float(self.times[-1]))} after the landmark"
        if to is None:
            wanted = np.asarray(self.to, np.float64)
            if np.isnan(wanted[self.at_risk]).any():
                one = duration(float(self.times[0])).replace(" ", "")
                raise InputError(
                    f"{self.outcome!r} at what time? give to={one!r}, or ask with cohort.at(day, to=DAY); "
                    f"{upto}"
                )
        else:
            each = np.atleast_1d(to).tolist()
            given = np.array([float(one) if isinstance(one, int) else days(one) for one in each])
            if given.size not in (1, len(self)) or np.ndim(to) > 1:
                raise InputError(
                    f"to: {given.size} times for {len(self)} landmarks; give one, or one for each"
                )
            wanted = np.broadcast_to(given, (len(self),)).copy()
        checked = wanted[self.at_risk]
        wrong = checked[~((checked > 0) & (checked <= self.times[-1] * (1 + 1e-9)))]
        if len(wrong):
            raise InputError(f"to = {wrong[0]:g} days; must be after the landmark, and {upto}")
        return wanted

    def _between(self, course: np.ndarray, to: np.ndarray) -> np.ndarray:
        """A course (landmark, ..., time) at a time of each landmark, linear between: (landmark, ...)."""
        right = np.searchsorted(self.times, np.nan_to_num(to)).clip(0, len(self.times) - 1)
        left = np.maximum(right - 1, 0)
        width = np.where(right > left, self.times[right] - self.times[left], 1.0)
        share = np.where(right > left, (to - self.times[left]) / width, 1.0).clip(0, 1)
        each, tail = np.arange(len(course)), (1,) * (course.ndim - 2)
        share = share.reshape(-1, *tail)
        return np.asarray(course[each, ..., left] * (1 - share) + course[each, ..., right] * share)


def asked_for(landmarks: Landmarks) -> np.ndarray:
    """Give the days after each landmark for which a value was asked.

    Parameters
    ----------
    landmarks : Landmarks
        From ``cohort.at(day, to=DAY)``.

    Returns
    -------
    ndarray
        (landmark,) float64; nan where none was.
    """
    if landmarks.to is None:
        return np.full(len(landmarks), np.nan)
    return (landmarks.to - landmarks.at) / DAY


def unit_of(landmarks: Landmarks, outcome: str) -> str:
    """Give the unit of a progression outcome, where all its codes have the same.

    Parameters
    ----------
    landmarks : Landmarks
        Of a cohort with that outcome.
    outcome : str
        Its name.

    Returns
    -------
    str
        ``""`` for none.
    """
    truth = cast(Progression, landmarks.cohort.outcomes[outcome])
    kind = truth.spec.node
    units = {landmarks.cohort.units[kind][code] for code in np.flatnonzero(truth.code)}
    return units.pop() if len(units) == 1 else ""


def _progression(landmarks: Landmarks, outcome: str | None) -> str:
    """The outcome that is asked for, or the only progression with a value."""
    cohort = landmarks.cohort
    found = [
        name
        for name, truth in cohort.outcomes.items()
        if isinstance(truth, Progression) and truth.spec.target != "worse"
    ]
    if outcome is not None:
        if cohort.check_outcome(outcome) not in found:
            raise InputError(
                f"outcome {outcome!r} is no progression of a value; there is {', '.join(found) or 'none'}"
            )
        return outcome
    if len(found) == 1:
        return found[0]
    raise InputError(
        f"several outcomes are progressions: name one of {', '.join(found)}"
        if found
        else "the cohort has no progression of a value"
    )


def _chance(given: Any, what: str, at_risk: np.ndarray, times: int) -> np.ndarray:
    """Probabilities that another model gives, 1 where it gives none: (landmark, time)."""
    chance = np.ones((len(at_risk), times)) if given is None else numbers(given, what)
    chance = chance[:, None] if chance.ndim == 1 and times == 1 else chance
    if chance.shape != (len(at_risk), times):
        raise InputError(
            f"{what} has shape {chance.shape}; must be {(len(at_risk), times)}, landmarks and times"
        )
    check_rows(chance[at_risk], what, np.flatnonzero(at_risk))
    return np.where(at_risk[:, None], chance.clip(0, 1), np.nan)


def _quantiles(p: np.ndarray, edges: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Quantiles of distributions over bins (landmark, bin), even inside a bin: (landmark, quantile)."""
    upto = p.cumsum(1)
    upto = upto / upto[:, -1:]  # the last is 1 exactly
    # the first bin that reaches the quantile; at 0 the first that has any
    bins = np.stack([(upto < max(one, 1e-12)).sum(1) for one in q], 1).clip(0, p.shape[1] - 1)
    inside = np.take_along_axis(upto, bins, 1)
    share = np.take_along_axis(p, bins, 1)
    left = (q - (inside - share)) / np.where(share > 0, share, 1)
    return edges[bins] + left.clip(0, 1) * (edges[bins + 1] - edges[bins])
