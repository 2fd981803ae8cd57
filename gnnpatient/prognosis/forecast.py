"""What a model forecasts: incidence curves, or probabilities of classes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.splits import default_horizons
from gnnpatient.errors import InputError, UnknownNameError, near
from gnnpatient.model.heads import DiagnosisConfig, HeadConfig, SurvivalConfig
from gnnpatient.prognosis.conformal import LEVEL, Calibration, check_level, uncalibrated
from gnnpatient.prognosis.rows import (
    MIN_MEMBERS,
    ROUNDING,
    answerable,
    answerable_labels,
    check_rows,
    check_sums,
    kept,
    member_spread,
    numbers,
    positions,
    rising_times,
)
from gnnpatient.prognosis.values import ProgressionForecast
from gnnpatient.show import Shown, Summary, Table, counted, listed
from gnnpatient.times import days, duration

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

MAX_SHOWN_CAUSES = 6  # in a line of a repr
AT_LEAST = "at least "  # before the name of an ordered class: it, or a higher one


@dataclass(frozen=True, eq=False, repr=False)
class Forecast(Shown):
    """Cumulative incidence after each landmark. Slot 0 is event-free, not alive; the slots sum to one.

    A landmark at which the patient was no longer at risk has no curve: nan.

    Attributes
    ----------
    outcome : str
        Name of the outcome.
    causes : tuple of str
        Names of the causes.
    times : ndarray
        Days after the landmark, rising.
    incidence : ndarray
        Probability of being event-free (slot 0), and of each cause having happened, by each time.
    ids : ndarray
        The patient's id of each landmark.
    at : ndarray
        Days after the patient's origin of each landmark.
    at_risk : ndarray
        Whether there is a curve.
    members : ndarray or None
        The incidence by each network; None where there is one only.
    calibration : Calibration or None
        How surprising what came was to members that had not seen the patient; None where nothing is
        calibrated.
    """

    outcome: str
    causes: tuple[str, ...]
    times: np.ndarray  # (time,) float64
    incidence: np.ndarray  # (landmark, 1 + cause, time)
    ids: np.ndarray  # (landmark,) str
    at: np.ndarray  # (landmark,) float64
    at_risk: np.ndarray  # (landmark,) bool
    members: np.ndarray | None = None  # (member, landmark, 1 + cause, time)
    calibration: Calibration | None = field(default=None, kw_only=True)

    @classmethod
    def of_members(
        cls, outcome: str, head: HeadConfig, members: np.ndarray, landmarks: Landmarks, at_risk: np.ndarray
    ) -> Forecast:
        """Average over the members.

        Parameters
        ----------
        outcome : str
            Name of the outcome.
        head : SurvivalConfig
            Causes and times.
        members : ndarray
            (member, landmark, 1 + cause, time).
        landmarks : Landmarks
            Whom they are of.
        at_risk : ndarray
            (landmark,) bool.

        Returns
        -------
        Forecast
        """
        curves = cast(SurvivalConfig, head)
        rows = landmarks.ids, landmarks.days, at_risk, members if len(members) > 1 else None
        return cls(outcome, curves.causes, np.array(curves.times), members.mean(0), *rows)

    @classmethod
    def from_array(
        cls,
        incidence: Any,
        times: Any,
        causes: str | Sequence[str],
        landmarks: Landmarks,
        outcome: str | None = None,
    ) -> Forecast:
        """Make a forecast of the answer of any other model.

        Parameters
        ----------
        incidence : ndarray or Tensor
            Cumulative incidence: (landmark, cause, time), or (landmark, 1 + cause, time) with the event-free
            probability first, or (landmark, time) of one cause. Landmarks not at risk are not read, and nan
            in the forecast.
        times : array of float
            Days after the landmark, rising, > 0.
        causes : str or sequence of str
            Names of the causes. Where it is not every cause of the outcome, slot 0 is free of these only.
        landmarks : Landmarks
            Whom the rows are of.
        outcome : str, optional
            Name of the outcome. Default: the only one with these causes.

        Returns
        -------
        Forecast
            With the causes in the order of the outcome.

        Raises
        ------
        InputError
            When a length does not fit, a cause or outcome is unknown, or a curve is not one: nan, below 0,
            above 1, falling, or more than 1 over all causes. Rounding of 1e-5 is accepted and removed.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> X = pbc().at(365).followed("death")
        >>> risk = np.tile([0.05, 0.1], (len(X), 1))           # a model that gives everyone the same
        >>> forecast = Forecast.from_array(risk, times=[365, 730], causes="death", landmarks=X)
        >>> forecast.outcome, forecast.risk("death", horizon=500)[:2].round(3)
        ('death', array([0.068, 0.068]))
        """
        names = (causes,) if isinstance(causes, str) else tuple(causes)
        outcome = _outcome_of(landmarks, outcome, names, curves=True)
        known = landmarks.cohort.outcomes[outcome].names
        grid, curves = rising_times(times), numbers(incidence, "incidence")
        curves = curves[:, None] if curves.ndim == 2 and len(names) == 1 else curves
        n, k = len(landmarks), len(names)
        if curves.shape not in ((n, k, len(grid)), (n, k + 1, len(grid))):
            raise InputError(
                f"incidence has shape {curves.shape}; must be ({n}, {k}, {len(grid)}), landmarks, causes and "
                f"times, or ({n}, {k + 1}, {len(grid)}) with event-free first"
            )
        at_risk = answerable(landmarks, outcome)
        rows = np.flatnonzero(at_risk)
        check_rows(curves[rows], "incidence", rows)
        if curves.shape[1] == k + 1:
            check_sums(curves[rows].sum(1), "event-free and all causes", rows, least=1.0)
            curves = curves[:, 1:]
        falls = np.argwhere(np.diff(curves[rows], axis=-1) < -ROUNDING)
        if len(falls):
            row, cause, time = falls[0]
            raise InputError(
                f"incidence of {names[cause]!r} falls after {grid[time]:g} days in row {rows[row]}; "
                "give cumulative incidence, not survival or hazards"
            )
        check_sums(curves[rows].sum(1), "all causes", rows)
        if not grid[0]:
            if (curves[rows][..., 0] > ROUNDING).any():
                raise InputError("incidence at time 0 must be 0; give times > 0, days after the landmark")
            grid, curves = grid[1:], curves[..., 1:]
        if not len(grid):
            raise InputError("times must be > 0, days after the landmark; found only 0")
        curves = np.maximum.accumulate(curves[:, np.argsort([known.index(c) for c in names])].clip(0, 1), -1)
        curves = curves / np.maximum(curves.sum(1, keepdims=True), 1)
        slots = np.concatenate([1 - curves.sum(1, keepdims=True), curves], 1)
        slots[~at_risk] = np.nan
        ordered = tuple(sorted(names, key=known.index))
        return cls(outcome, ordered, grid, slots, landmarks.ids, landmarks.days, at_risk)

    @staticmethod
    def summary(head: Mapping[str, Any]) -> str:
        """Say in a sentence of the model card what is forecast.

        Parameters
        ----------
        head : mapping
            The head's configuration, see `SurvivalConfig.to_dict`.

        Returns
        -------
        str
        """
        return (
            f"cumulative incidence of {', '.join(head['causes'])} up to {head['times'][-1]:g} "
            "days after the landmark; slot 0 is event-free, not alive."
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Any) -> Forecast:
        """The forecast of some of the landmarks, by position, slice or mask."""
        keep = positions(rows, len(self))
        return replace(self, incidence=self.incidence[keep], **kept(self, keep))

    @property
    def names(self) -> tuple[str, ...]:
        """The causes."""
        return self.causes

    @property
    def event_free(self) -> np.ndarray:
        """Probability of none of the causes: (landmark, time)."""
        return self.incidence[:, 0]

    def slot(self, cause: str | None) -> int:
        """Position of a cause on the middle axis.

        Parameters
        ----------
        cause : str or None
            Name of the cause; None where there is only one.

        Returns
        -------
        int

        Raises
        ------
        InputError
            When there is no such cause, or several and none is named.
        """
        if cause is None:
            if len(self.causes) > 1:
                raise InputError(
                    f"outcome {self.outcome!r} has several causes; name one of {', '.join(self.causes)}"
                )
            return 1
        if cause not in self.causes:
            when = not isinstance(cause, str) or cause[:1].isdigit()
            raise InputError(
                f"unknown cause {cause!r} of {self.outcome!r}; there are {', '.join(self.causes)}"
                f"{f'; a horizon is risk(horizon={cause!r})' if when and np.ndim(cause) == 0 else ''}"
            )
        return self.causes.index(cause) + 1

    def risk(self, cause: str | None = None, horizon: float | str | None = None) -> np.ndarray:
        """Probability of a cause within a horizon, linear between times.

        Parameters
        ----------
        cause : str, optional
            Name of the cause; needed where there are several.
        horizon : float or str, optional
            Days after the landmark, or a duration as in ``"5y"``; default: the last time.

        Returns
        -------
        ndarray
            (landmark,) float64; nan where there is no curve.

        Raises
        ------
        InputError
            When the horizon is negative or beyond the last time, or the cause is unknown.
        """
        return self._at(self.incidence[:, self.slot(cause)], self._horizon(horizon))[..., 0]

    def risks(self, horizons: Sequence[float | str] | np.ndarray, cause: str | None = None) -> np.ndarray:
        """Probability of a cause within several horizons, linear between times.

        Parameters
        ----------
        horizons : sequence of float or str
            Days after the landmark, or durations as in ``"5y"``.
        cause : str, optional
            Name of the cause; needed where there are several.

        Returns
        -------
        ndarray
            (landmark, horizon) float64.

        Raises
        ------
        InputError
            When a horizon is negative or beyond the last time, or the cause is unknown.
        """
        return self._at(self.incidence[:, self.slot(cause)], self._horizons(horizons))

    def spread(
        self, horizon: float | str | None = None, cause: str | None = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Model spread of the risk: its 5 % and 95 % quantiles over members.

        It shows what refitting changes, not what may happen to a patient.

        Parameters
        ----------
        horizon : float or str, optional
            Days after the landmark, or a duration as in ``"5y"``; default: the last time.
        cause : str, optional
            Name of the cause; needed where there are several.

        Returns
        -------
        tuple of ndarray or None
            Low and high, each (landmark,); None with fewer than five members.
        """
        if (found := self.spreads(self._horizon(horizon), cause)) is None:
            return None
        return found[0][:, 0], found[1][:, 0]

    def spreads(
        self, horizons: Sequence[float | str] | np.ndarray, cause: str | None = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Model spread of `risks`, see `spread`.

        Parameters
        ----------
        horizons : sequence of float or str
            Days after the landmark, or durations as in ``"5y"``.
        cause : str, optional
            Name of the cause; needed where there are several.

        Returns
        -------
        tuple of ndarray or None
            Low and high, each (landmark, horizon); None with fewer than five members.
        """
        if self.members is None or len(self.members) < MIN_MEMBERS:
            return None
        return member_spread(self._at(self.members[:, :, self.slot(cause)], self._horizons(horizons)))

    def given_event_free(self, until: float | str) -> Forecast:
        """Forecast on for a patient who is still event-free a while after the landmark.

        With S event-free and F the incidence, the incidence within t after that is
        ``(F(until + t) - F(until)) / S(until)``, of each cause. Nothing else is learned in between: rows that
        come after the landmark take a landmark of their own.

        Parameters
        ----------
        until : float or str
            Days after the landmark, or a duration as in ``"1y"``.

        Returns
        -------
        Forecast
            With `at` moved on by `until` and `times` counted from there, up to the same day as before. No
            curve where nobody stays event-free so long. Of several members the answer is that of their mean,
            in which those count for more that held it likely to get so far.

        Raises
        ------
        InputError
            When it is negative, or not before the last time.

        Examples
        --------
        >>> curves = np.array([[[0.8, 0.6], [0.2, 0.4]]])
        >>> who = np.array(["a"]), np.array([0.0]), np.array([True])
        >>> forecast = Forecast("death", ("death",), np.array([365.0, 730.0]), curves, *who)
        >>> later = forecast.given_event_free(until=365)
        >>> later.at, later.times, later.risk().round(6)
        (array([365.]), array([365.]), array([0.25]))
        """
        start = self._horizon(until)
        if start[0] >= self.times[-1] * (1 - 1e-9):
            raise InputError(
                f"until {start[0]:g} days; must be before the last time, {self.times[-1]:g} days after the "
                "landmark"
            )
        keep = self.times > start[0] * (1 + 1e-9)
        curves = self._after(self.incidence, start, keep)
        return replace(
            self,
            times=self.times[keep] - start[0],
            incidence=curves,
            at=self.at + start[0],
            at_risk=self.at_risk & np.isfinite(curves[:, 0, 0]),
            members=None if self.members is None else self._after(self.members, start, keep),
            calibration=None,
        )

    def _after(self, curves: np.ndarray, start: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """Curves (..., 1 + cause, time) of those who are event-free at `start`, at the times of `keep`."""
        before = self._at(curves[..., 1:, :], start)
        free = 1 - before.sum(-2, keepdims=True)
        free = np.where(free > ROUNDING, free, np.nan)
        causes = ((curves[..., 1:, keep] - before) / free).clip(0, 1)
        return np.concatenate([1 - causes.sum(-2, keepdims=True), causes], -2)

    @property
    def is_calibrated(self) -> bool:
        """Whether enough patients were held out to say how wide an answer of level 0.9 must be."""
        return uncalibrated(self.calibration, LEVEL) is None

    def statement(self, level: float = LEVEL, row: int = 0) -> str:
        """Say for how long one landmark stays event-free with a probability, or why that is not known.

        Parameters
        ----------
        level : float
            Probability, default 0.9.
        row : int
            Position of the landmark, default 0.

        Returns
        -------
        str
        """
        if why := uncalibrated(self.calibration, check_level(level)):
            return why
        known = cast(Calibration, self.calibration)
        bound, cutoff = self.time_bound(level)[row], known.cutoff
        if cutoff is None or np.isnan(bound):
            return f"not calibrated at {level:g}: too few landmarks so late are followed long enough"
        if bound < cutoff:
            return f"event-free for {duration(_floored(float(bound)))} or longer {known.chance(level)}"
        longest = f"({duration(cutoff)} is the longest that can be said)"
        return f"event-free for {duration(cutoff)} or longer {known.chance(level)} {longest}"

    def time_bound(self, level: float = LEVEL) -> np.ndarray:
        """Give the time up to which a patient stays event-free with a probability, at least.

        The conformal lower bound on the smaller of the event-free time and `calibration.cutoff` [1]_: found
        on patients who were held out, of whom those with an event stand for those who were lost before
        (inverse probability of censoring weights). It is right on average over landmarks, not for each
        patient or day, and needs censoring that has nothing to do with the event.

        Parameters
        ----------
        level : float
            Probability, default 0.9.

        Returns
        -------
        ndarray
            (landmark,) float64, days after the landmark; nan where there is no curve, at a later landmark
            than those that are followed so long, and everywhere where nothing was calibrated.

        Raises
        ------
        InputError
            When the level is not between 0 and 1.

        References
        ----------
        .. [1] Angelopoulos AN, Bates S, Fisch A, Lei L, Schuster T. Conformal risk control. International
           Conference on Learning Representations, 2024.

        Examples
        --------
        >>> curves = np.array([[[0.8, 0.6], [0.2, 0.4]]])
        >>> who = np.array(["a"]), np.array([0.0]), np.array([True])
        >>> held_out = Calibration(
        ...     method="split", patients=200, scores=(0.9, 0.7), above=(0.05, 0.1), total=0.4, cutoff=700.0
        ... )
        >>> grid = np.array([365.0, 730.0])
        >>> Forecast("death", ("death",), grid, curves, *who, calibration=held_out).time_bound(0.9)
        array([547.5])
        """
        check_level(level)
        known, found = self.calibration, np.full(len(self), np.nan)
        if known is None or known.cutoff is None or not known.reaches(level):
            return found
        days = np.asarray(self.at)
        here = self.at_risk & (days <= np.inf if known.until is None else days <= known.until)
        many = self.incidence[None] if self.members is None else self.members
        risk = 1 - np.array(known.scores)
        ends = np.stack([_first_times(1 - one[here, 0], self.times, risk, known.cutoff) for one in many])
        found[here] = known.lower_end(ends, level, known.cutoff)
        return found

    def time_lost(self, cause: str | None = None, horizon: float | str | None = None) -> np.ndarray:
        """Mean time that a cause takes within a horizon: the area under its incidence [1]_.

        Of the days up to the horizon, those after the event, on average. Over all causes they and the mean
        event-free time sum to the horizon. Exact for the curve that is linear between times.

        Parameters
        ----------
        cause : str, optional
            Name of the cause; needed where there are several.
        horizon : float or str, optional
            Days after the landmark, or a duration as in ``"5y"``; default: the last time.

        Returns
        -------
        ndarray
            (landmark,) float64, days; nan where there is no curve.

        Raises
        ------
        InputError
            When the horizon is negative or beyond the last time, or the cause is unknown.

        References
        ----------
        .. [1] Andersen PK. Decomposition of number of life years lost according to causes of death.
           Statistics in Medicine 32:5278-5285, 2013.

        Examples
        --------
        >>> curves = np.array([[[0.8, 0.6], [0.2, 0.4]]])
        >>> who = np.array(["a"]), np.array([0.0]), np.array([True])
        >>> Forecast("death", ("death",), np.array([100.0, 200.0]), curves, *who).time_lost()
        array([40.])
        """
        return self._area(self.incidence[:, self.slot(cause)], self._horizon(horizon)[0])

    def time_lost_table(self, horizons: Sequence[float | str] | None = None) -> pl.DataFrame:
        """List the time lost to each cause of the landmarks at risk, with its model spread.

        Parameters
        ----------
        horizons : sequence of float or str, optional
            Days after the landmark, or durations as in ``"5y"``; default: the last time.

        Returns
        -------
        polars.DataFrame
            Columns id, at, outcome, cause, horizon, time_lost (days), low, high; low and high are the 5 % and
            95 % quantiles over members, null with fewer than five.
        """
        ends = self._horizons(horizons).tolist()
        many = self.members if self.members is not None and len(self.members) >= MIN_MEMBERS else None

        def spread(cause: str, end: float) -> tuple[np.ndarray, np.ndarray] | None:
            return None if many is None else member_spread(self._area(many[:, :, self.slot(cause)], end))

        lines = [(c, end, self.time_lost(c, end), spread(c, end)) for c in self.causes for end in ends]
        return _table(self, lines).rename({"risk": "time_lost"})

    def _area(self, curve: np.ndarray, horizon: float) -> np.ndarray:
        """The integral of curves (..., time) from 0 to a horizon: (...)."""
        knots = np.append(self.times[self.times < horizon], horizon)
        heights = self._at(curve, np.append(0.0, knots))
        area: np.ndarray = np.trapezoid(heights, np.append(0.0, knots), axis=-1)
        return area

    def table(self, horizons: Sequence[float | str] | None = None) -> pl.DataFrame:
        """List the forecasts of the landmarks at risk.

        Parameters
        ----------
        horizons : sequence of float or str, optional
            Days after the landmark, or durations as in ``"5y"``; default: all times.

        Returns
        -------
        polars.DataFrame
            Columns id, at, outcome, cause, horizon, risk, low, high; low and high are null with fewer than
            five members.
        """
        at = self._horizons(self.times if horizons is None else horizons).tolist()
        return _table(
            self,
            (
                (cause, horizon, self.risk(cause, horizon), self.spread(horizon, cause))
                for cause in self.causes
                for horizon in at
            ),
        )

    def to_frame(self) -> pl.DataFrame:
        """Make a table of the curves, for other libraries and for plots of your own.

        Returns
        -------
        polars.DataFrame
            One row a landmark, cause and time: id, landmark (days after the origin), cause, time (days after
            the landmark), risk, low, high. risk is null where there is no curve; low and high are the model
            spread, null with fewer than five members. ``.to_pandas()`` makes one of pandas.

        Examples
        --------
        >>> curves = np.array([[[0.9, 0.7], [0.1, 0.3]]])
        >>> who = np.array(["a"]), np.array([0.0]), np.array([True])
        >>> forecast = Forecast("death", ("death",), np.array([365.0, 730.0]), curves, *who)
        >>> forecast.to_frame().select("cause", "time", "risk").rows()
        [('death', 365.0, 0.1), ('death', 730.0, 0.3)]
        """
        return _frame(self, self.incidence[:, 1:], None if self.members is None else self.members[:, :, 1:])

    def plot(self, cause: str | None = None, *, ax: Axes | None = None, event_free: bool = False) -> Axes:
        """Draw the cumulative incidence after the landmark.

        One landmark: a curve for each cause. Up to six: a curve for each landmark, of one cause. The band is
        the model spread, 5 % to 95 % of the members, drawn with five members or more: what refitting
        changes, not what may happen.

        Parameters
        ----------
        cause : str, optional
            Name of the cause that is drawn; default: all. Needed for several landmarks where there are
            several causes.
        ax : matplotlib.axes.Axes, optional
            Where to draw; default: the axes of a new figure.
        event_free : bool
            Whether the probability of none of the causes is drawn too, default False.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        InputError
            When there are more than six landmarks, or no cause is named where one is needed.
        """
        from gnnpatient.prognosis.plot import plot_curves

        return plot_curves(self, cause, ax, event_free)

    def _summary(self) -> Summary:
        until = duration(float(self.times[-1]))
        title = f"Forecast of {self.outcome}: {counted(len(self), 'landmark')}, up to {until} after it"
        facts = [("causes", listed(self.causes))]
        if self.members is not None:
            facts.append(("members", str(len(self.members))))
        if len(self) > 1 and not self.at_risk.all():
            facts.append(("no curve", f"{int((~self.at_risk).sum())} landmarks, no longer at risk"))
        if len(self) != 1:
            return Summary(title, facts)
        if not self.at_risk[0]:
            return Summary(title, [*facts, ("no curve", "no longer at risk at this landmark")])
        horizons = default_horizons(float(self.times[-1]))
        risks = [[_percent(self, cause, horizon) for horizon in horizons] for cause in self.causes]
        within = [f"within {duration(horizon)}" for horizon in horizons]
        said = ("with 0.9" if self.is_calibrated else "but", self.statement())
        lines = [
            (name, listed([f"{c} {r[i]}" for c, r in zip(self.causes, risks, strict=True)], MAX_SHOWN_CAUSES))
            for i, name in enumerate(within)
        ]
        table = Table(["<cause", *within], [(c, *risk) for c, risk in zip(self.causes, risks, strict=True)])
        return Summary(title, [*facts, *lines, said], [table], within)

    def _horizon(self, horizon: Any) -> np.ndarray:
        wanted = self._horizons(horizon)
        if wanted.size != 1:
            raise InputError(
                f"horizon: {wanted.size} of them; risk and spread take one, risks([...]) several"
            )
        return wanted

    def _horizons(self, horizon: Any) -> np.ndarray:
        wanted = np.atleast_1d(self.times[-1] if horizon is None else horizon)
        if wanted.dtype.kind not in "fiu":  # durations as text
            wanted = np.array([days(one) for one in wanted.tolist()])
        if not ((wanted >= 0) & (wanted <= self.times[-1] * (1 + 1e-9))).all():
            beyond = wanted[~((wanted >= 0) & (wanted <= self.times[-1]))][0]
            if beyond < 0:
                raise InputError(f"horizon {beyond:g} days; must be >= 0, days after the landmark")
            raise InputError(f"horizon {beyond:g} days; this model was fitted up to {self.times[-1]:g} days")
        return wanted

    def _at(self, curve: np.ndarray, horizon: np.ndarray) -> np.ndarray:
        """Curves (..., time) at horizons, linear between times and from 0 at time 0: (..., horizon)."""
        grid = np.append(0.0, self.times)
        right = np.searchsorted(grid, horizon).clip(1, len(self.times))
        share = np.clip((horizon - grid[right - 1]) / (grid[right] - grid[right - 1]), 0, 1)
        full = np.concatenate([np.zeros_like(curve[..., :1]), curve], -1)
        return full[..., right - 1] * (1 - share) + full[..., right] * share


@dataclass(frozen=True, eq=False, repr=False)
class DiagnosisForecast(Shown):
    """The probability of each class at each landmark; classes sum to one, labels do not.

    A landmark at which the label was known already, or the patient was no longer observed, has none: nan. One
    whose label was never looked for has a forecast all the same. Of several labels each is nan by itself.

    Attributes
    ----------
    outcome : str
        Name of the outcome.
    classes : tuple of str
        Names of the classes or labels.
    probability : ndarray
        Probability of each class.
    ids : ndarray
        The patient's id of each landmark.
    at : ndarray
        Days after the patient's origin of each landmark.
    at_risk : ndarray
        Whether there is a forecast.
    members : ndarray or None
        The probabilities by each network; None where there is one only.
    kind : str
        ``"diagnosis"``, ``"ordered"`` where the classes rise, or ``"labels"`` where they are labels, see
        `DiagnosisConfig`.
    calibration : Calibration or None
        How surprising what came was to members that had not seen the patient; None where nothing is
        calibrated.
    """

    outcome: str
    classes: tuple[str, ...]
    probability: np.ndarray  # (landmark, class)
    ids: np.ndarray  # (landmark,) str
    at: np.ndarray  # (landmark,) float64
    at_risk: np.ndarray  # (landmark,) bool
    members: np.ndarray | None = None  # (member, landmark, class)
    kind: str = "diagnosis"
    calibration: Calibration | None = field(default=None, kw_only=True)

    @classmethod
    def of_members(
        cls, outcome: str, head: HeadConfig, members: np.ndarray, landmarks: Landmarks, at_risk: np.ndarray
    ) -> DiagnosisForecast:
        """Average over the members.

        Parameters
        ----------
        outcome : str
            Name of the outcome.
        head : DiagnosisConfig
            The classes.
        members : ndarray
            (member, landmark, class).
        landmarks : Landmarks
            Whom they are of.
        at_risk : ndarray
            (landmark,) bool.

        Returns
        -------
        DiagnosisForecast
        """
        config = cast(DiagnosisConfig, head)
        if config.kind == "labels":
            members = np.where(answerable_labels(landmarks, outcome, len(config.classes)), members, np.nan)
        rows = landmarks.ids, landmarks.days, at_risk, members if len(members) > 1 else None
        return cls(outcome, config.classes, members.mean(0), *rows, kind=config.kind)

    @classmethod
    def from_array(
        cls,
        probability: Any,
        classes: Sequence[str],
        landmarks: Landmarks,
        outcome: str | None = None,
    ) -> DiagnosisForecast:
        """Make a forecast of the answer of any other model.

        Parameters
        ----------
        probability : ndarray or Tensor
            (landmark, class), or (landmark,) of the last of two classes. Landmarks whose label is known
            already are not read, and nan in the forecast.
        classes : sequence of str
            Names of all classes or labels of the outcome, in the order of the columns.
        landmarks : Landmarks
            Whom the rows are of.
        outcome : str, optional
            Name of the outcome. Default: the only one with these classes.

        Returns
        -------
        DiagnosisForecast
            With the classes in the order of the outcome.

        Raises
        ------
        InputError
            When a length does not fit, a class or outcome is unknown, or the numbers of a row are no
            probabilities, or do not sum to one, but for labels. Rounding of 1e-5 is accepted and removed.
        """
        names = tuple(classes)
        outcome = _outcome_of(landmarks, outcome, names, curves=False)
        known, kind = landmarks.cohort.outcomes[outcome].names, landmarks.cohort.outcomes[outcome].kind
        p = numbers(probability, "probability")
        p = np.stack([1 - p, p], 1) if p.ndim == 1 and len(names) == 2 and kind != "labels" else p
        shape = len(landmarks), len(names)
        if p.shape != shape:
            raise InputError(f"probability has shape {p.shape}; must be {shape}, landmarks and classes")
        at_risk = answerable(landmarks, outcome)
        rows, p = np.flatnonzero(at_risk), p[:, [names.index(name) for name in known]]
        if kind == "labels":
            opened = answerable_labels(landmarks, outcome, len(known))
            check_rows(np.where(opened, p, 0.0)[rows], "probability", rows)
            p = np.where(opened, p.clip(0, 1), np.nan)
        else:
            check_rows(p[rows], "probability", rows)
            check_sums(p[rows].sum(1, keepdims=True), "all classes", rows, least=1.0)
            p = p.clip(0, 1)
            p = p / p.sum(1, keepdims=True).clip(0.5)  # rows that are not read may be anything
        p[~at_risk] = np.nan
        return cls(outcome, known, p, landmarks.ids, landmarks.days, at_risk, kind=kind)

    @staticmethod
    def summary(head: Mapping[str, Any]) -> str:
        """Say in a sentence of the model card what is forecast.

        Parameters
        ----------
        head : mapping
            The head's configuration, see `DiagnosisConfig.to_dict`.

        Returns
        -------
        str
        """
        sums = {
            "labels": "each yes or no by itself.",
            "ordered": "they sum to one, and the classes rise in this order.",
        }.get(head["kind"], "they sum to one.")
        return f"the probability of each of {', '.join(head['classes'])} at the landmark; {sums}"

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Any) -> DiagnosisForecast:
        """The forecast of some of the landmarks, by position, slice or mask."""
        keep = positions(rows, len(self))
        return replace(self, probability=self.probability[keep], **kept(self, keep))

    @property
    def names(self) -> tuple[str, ...]:
        """The classes or labels."""
        return self.classes

    @property
    def noun(self) -> str:
        """What a name is of: "class" or "label"."""
        return "label" if self.kind == "labels" else "class"

    def slot(self, cause: str | None) -> int:
        """Position of a class.

        Parameters
        ----------
        cause : str or None
            Name of the class or label; None: the last of two classes.

        Returns
        -------
        int

        Raises
        ------
        InputError
            When there is no such class, or more than two, or labels, and none is named.
        """
        noun = self.noun
        if cause is None:
            if len(self.classes) > 2 or noun == "label":
                several = "labels" if noun == "label" else "classes"
                raise InputError(
                    f"outcome {self.outcome!r} has several {several}; name one of {', '.join(self.classes)}"
                )
            return 1
        if cause not in self.classes:
            raise InputError(
                f"unknown {noun} {cause!r} of {self.outcome!r}; there are {', '.join(self.classes)}"
            )
        return self.classes.index(cause)

    def risk(self, cause: str | None = None) -> np.ndarray:
        """Probability of a class or label.

        Parameters
        ----------
        cause : str, optional
            Name of the class or label; default: the last of two classes. Where classes are ordered, ``"at
            least CLASS"`` is that class or a higher one.

        Returns
        -------
        ndarray
            (landmark,) float64; nan where there is no forecast.
        """
        return self._of(self.probability, cause)

    def _of(self, probability: np.ndarray, cause: str | None) -> np.ndarray:
        """Probabilities (..., class) of one class, or of one and all higher ones."""
        if self.kind == "ordered" and cause is not None and cause not in self.classes:
            if not cause.startswith(AT_LEAST):
                self.slot(cause)  # says which there are
            return probability[..., self.slot(cause.removeprefix(AT_LEAST)) :].sum(-1)
        return probability[..., self.slot(cause)]

    @property
    def is_calibrated(self) -> bool:
        """Whether enough patients were held out to say how wide an answer of level 0.9 must be."""
        return uncalibrated(self.calibration, LEVEL) is None

    def statement(self, level: float = LEVEL, row: int = 0) -> str:
        """Say among which classes the true one of a landmark is with a probability, or why it is not known.

        Parameters
        ----------
        level : float
            Probability, default 0.9.
        row : int
            Position of the landmark, default 0.

        Returns
        -------
        str
        """
        if why := uncalibrated(self.calibration, check_level(level)):
            return why
        names = [name for name, there in zip(self.classes, self.class_set(level)[row], strict=True) if there]
        one = f"one of {listed(names)}" if len(names) > 1 else names[0]
        return f"{one} {cast(Calibration, self.calibration).chance(level)}"

    def class_set(self, level: float = LEVEL) -> np.ndarray:
        """Give the classes among which the true one is with a probability, at least.

        The conformal set of the least ambiguous kind [1]_: each class that is no less probable than the true
        ones of patients who were held out, and always the most probable one. It is right on average over
        landmarks, not for each patient or class: of a rare class it may miss most.

        Parameters
        ----------
        level : float
            Probability, default 0.9.

        Returns
        -------
        ndarray
            (landmark, class) bool; all classes where there is no forecast, or nothing was calibrated.

        Raises
        ------
        InputError
            When the level is not between 0 and 1.

        References
        ----------
        .. [1] Sadinle M, Lei J, Wasserman L. Least ambiguous set-valued classifiers with bounded error
           levels. Journal of the American Statistical Association 114:223-234, 2019.

        Examples
        --------
        >>> classes, p = ("viral", "fungal", "other"), np.array([[0.3, 0.05, 0.65], [0.1, 0.0, 0.9]])
        >>> who = np.array(["a", "b"]), np.zeros(2), np.ones(2, bool)
        >>> held_out = Calibration(
        ...     method="split", patients=200, scores=(0.9, 0.75, 0.3), above=(0.05, 0.1, 0.5)
        ... )
        >>> forecast = DiagnosisForecast("cause", classes, p, *who, calibration=held_out)
        >>> forecast.class_set(0.9)
        array([[ True, False,  True],
               [False, False,  True]])
        """
        check_level(level)
        known = self.calibration
        if known is None or not known.reaches(level):
            return np.ones(self.probability.shape, bool)
        many = self.probability[None] if self.members is None else self.members
        found = known.within(1 - np.nan_to_num(many), level)
        found[np.arange(len(self)), np.nan_to_num(self.probability).argmax(1)] = True
        found[~self.at_risk] = True
        return found

    def ranked(self, k: int | None = None) -> pl.DataFrame:
        """List the most probable classes or labels of each landmark with a forecast, the likeliest first.

        Parameters
        ----------
        k : int, optional
            How many; default: all.

        Returns
        -------
        polars.DataFrame
            Columns id, at, rank (from 1), class (or label), probability, low, high; low and high are the
            model spread, null with fewer than five members. Those of equal probability keep their order; a
            label that is known already is left out.

        Raises
        ------
        InputError
            When `k` is below 1.

        Examples
        --------
        >>> who = np.array(["a"]), np.array([0.0]), np.array([True])
        >>> classes, p = ("viral", "fungal", "other"), np.array([[0.3, 0.1, 0.6]])
        >>> forecast = DiagnosisForecast("cause", classes, p, *who)
        >>> forecast.ranked(2).select("rank", "class", "probability").rows()
        [(1, 'other', 0.6), (2, 'viral', 0.3)]
        """
        import polars as pl

        if k is not None and k < 1:
            raise InputError(f"ranked: k = {k}; must be >= 1")
        rows = np.flatnonzero(self.at_risk)
        order = np.argsort(-self.probability[rows], axis=1, kind="stable")[:, :k]
        row, slot = np.repeat(rows, order.shape[1]), order.ravel()
        spreads = [self.spread(name) for name in self.classes]
        sides = [
            None if spreads[0] is None else np.stack([s[i] for s in spreads if s is not None], 1)[row, slot]
            for i in (0, 1)
        ]
        return pl.DataFrame(
            {
                "id": self.ids.astype(str)[row],
                "at": self.at[row],
                "rank": np.tile(np.arange(1, order.shape[1] + 1), len(rows)),
                self.noun: np.array(self.classes)[slot],
                "probability": self.probability[row, slot],
                "low": sides[0],
                "high": sides[1],
            },
            schema_overrides={"low": pl.Float64, "high": pl.Float64},
        ).filter(np.isfinite(self.probability[row, slot]))

    def spread(self, cause: str | None = None) -> tuple[np.ndarray, np.ndarray] | None:
        """Model spread of that probability: its 5 % and 95 % quantiles over members.

        Parameters
        ----------
        cause : str, optional
            As in `risk`.

        Returns
        -------
        tuple of ndarray or None
            Low and high, each (landmark,); None with fewer than five members.
        """
        if self.members is None or len(self.members) < MIN_MEMBERS:
            return None
        return member_spread(self._of(self.members, cause))

    def table(self) -> pl.DataFrame:
        """List the forecasts of the landmarks at risk.

        Returns
        -------
        polars.DataFrame
            Columns id, at, outcome, cause (the class or label), horizon (null), risk, low, high; without
            labels that are known already.
        """
        rows = _table(self, ((name, None, self.risk(name), self.spread(name)) for name in self.classes))
        return rows.filter(rows["risk"].is_finite())

    def to_frame(self) -> pl.DataFrame:
        """Make a table of the probabilities, for other libraries and for plots of your own.

        Returns
        -------
        polars.DataFrame
            One row a landmark and class: id, landmark (days after the origin), cause (the class), time
            (null), risk, low, high, as in `Forecast.to_frame`.
        """
        members = None if self.members is None else self.members[..., None]
        return _frame(self, self.probability[..., None], members)

    def plot(self, cause: str | None = None, *, ax: Axes | None = None) -> Axes:
        """Draw the probability of each class or label as bars.

        Up to six landmarks. A whisker is the model spread, 5 % to 95 % of the members, drawn with five
        members or more.

        Parameters
        ----------
        cause : str, optional
            Name of the class that is drawn; default: all.
        ax : matplotlib.axes.Axes, optional
            Where to draw; default: the axes of a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        InputError
            When there are more than six landmarks, or no such class.
        """
        from gnnpatient.prognosis.plot import plot_bars

        return plot_bars(self, cause, ax)

    def _summary(self) -> Summary:
        title = f"Forecast of {self.outcome}: {counted(len(self), 'landmark')}"
        facts = [("labels" if self.noun == "label" else "classes", listed(self.classes))]
        if self.members is not None:
            facts.append(("members", str(len(self.members))))
        if len(self) > 1 and not self.at_risk.all():
            facts.append(
                ("none", f"{int((~self.at_risk).sum())} landmarks, no longer at risk, or known already")
            )
        if len(self) != 1:
            return Summary(title, facts)
        if not self.at_risk[0]:
            return Summary(title, [*facts, ("none", "no longer at risk at this landmark, or known already")])
        shares = [(name, _percent(self, name)) for name in self.classes]
        line = listed([f"{name} {share}" for name, share in shares], MAX_SHOWN_CAUSES)
        return Summary(
            title,
            [
                *facts,
                ("probability", line),
                ("with 0.9" if self.is_calibrated else "but", self.statement()),
            ],
            [Table([f"<{self.noun}", "probability"], shares)],
            ["probability"],
        )


def _floored(days: float) -> float:
    """Days to four digits, rounded down: a lower bound that is shown is none that was not found."""
    if not days > 0:
        return days
    step = 10.0 ** (np.floor(np.log10(days)) - 3)
    return float(np.floor(days / step) * step)


def _first_times(risk: np.ndarray, times: np.ndarray, wanted: np.ndarray, last: float) -> np.ndarray:
    """When a risk (landmark, time) first reaches each of some, linear from 0 at 0: (landmark, wanted)."""
    grid = np.append(0.0, times)
    curve = np.maximum.accumulate(np.concatenate([np.zeros((len(risk), 1)), risk], 1), 1)
    right = (curve[:, :, None] < wanted).sum(1)  # the first time with so much
    inside = right.clip(1, len(times))
    rows = np.arange(len(risk))[:, None]
    low, high = curve[rows, inside - 1], curve[rows, inside]
    share = ((wanted - low) / np.where(high > low, high - low, 1.0)).clip(0, 1)
    when = np.where(right == 0, 0.0, grid[inside - 1] + share * (grid[inside] - grid[inside - 1]))
    return np.where(right > len(times), last, np.minimum(when, last))


Answer = Forecast | DiagnosisForecast | ProgressionForecast


class Forecasts(dict[str, Answer]):
    """What a model forecasts, by the name of the outcome: a dict that knows a name that is nearly right.

    Examples
    --------
    >>> Forecasts({"death": ..., "relapse": ...})["deth"]
    Traceback (most recent call last):
    gnnpatient.errors.UnknownNameError: unknown outcome 'deth'; did you mean 'death'?
    """

    def __missing__(self, name: object) -> NoReturn:
        if isinstance(name, str):
            raise UnknownNameError(f"unknown outcome {name!r}{near(name, self)}")
        raise UnknownNameError(f"forecasts are by outcome, as in forecast[{next(iter(self), 'NAME')!r}]")

    def __getattr__(self, name: str) -> NoReturn:
        hint = ""
        if not name.startswith("_") and any(hasattr(type(answer), name) for answer in self.values()):
            hint = f"; each outcome has one, as forecast[{next(iter(self))!r}].{name}"
        raise AttributeError(f"forecasts by outcome have no attribute {name!r}{hint}")

    def __repr__(self) -> str:
        return "\n".join(repr(answer) for answer in self.values()) or "no forecast"

    def _repr_html_(self) -> str:
        return "".join(answer._repr_html_() for answer in self.values()) or "no forecast"


def judged(classes: tuple[str, ...], kind: str = "diagnosis") -> tuple[str, ...]:
    """Choose what figures are about: the last of two classes, else each against the rest; each label.

    Parameters
    ----------
    classes : tuple of str
        All classes or labels.
    kind : str
        As of `DiagnosisForecast`. Of ordered classes figures are about each but the lowest, and all above it.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> judged(("no", "yes")), judged(("a", "b", "c")), judged(("edema", "effusion"), "labels")
    (('yes',), ('a', 'b', 'c'), ('edema', 'effusion'))
    >>> judged(("I", "II", "III"), "ordered")
    ('at least II', 'at least III')
    """
    if kind == "ordered":
        return tuple(AT_LEAST + name for name in classes[1:])
    if kind == "labels":
        return classes
    return classes[1:] if len(classes) == 2 else classes


def _percent(forecast: Forecast | DiagnosisForecast, name: str, horizon: float | None = None) -> str:
    """The risk of the only landmark in percent; with the model spread beside a calibrated statement alone."""
    if isinstance(forecast, Forecast):
        risk, spread = forecast.risk(name, horizon), forecast.spread(horizon, name)
    else:
        risk, spread = forecast.risk(name), forecast.spread(name)
    if np.isnan(risk[0]):
        return "known already"
    around = (
        ""
        if spread is None or not forecast.is_calibrated
        else f" ({spread[0][0] * 100:.0f}-{spread[1][0] * 100:.0f})"
    )
    return f"{risk[0] * 100:.0f} %{around}"


def _frame(forecast: Answer, risk: np.ndarray, members: np.ndarray | None) -> pl.DataFrame:
    """One row per landmark, cause and time of a risk (landmark, cause, time)."""
    import polars as pl

    landmark, cause, time = (index.reshape(-1) for index in np.indices(risk.shape))
    enough = members is not None and len(members) >= MIN_MEMBERS
    low, high = member_spread(members) if enough else (np.full(risk.shape, np.nan),) * 2  # type: ignore[arg-type]
    times = forecast.times if isinstance(forecast, Forecast) else np.array([np.nan])
    columns = {
        "id": forecast.ids.astype(str)[landmark],
        "landmark": np.asarray(forecast.at, np.float64)[landmark],
        "cause": np.array(forecast.names)[cause],
        "time": np.asarray(times, np.float64)[time],
        "risk": risk.reshape(-1),
        "low": low.reshape(-1),
        "high": high.reshape(-1),
    }
    return pl.DataFrame(columns).with_columns(pl.col("time", "risk", "low", "high").fill_nan(None))


def _table(
    forecast: Answer,
    rows: Iterable[tuple[str, float | None, np.ndarray, tuple[np.ndarray, np.ndarray] | None]],
) -> pl.DataFrame:
    """One row per landmark at risk, cause and horizon."""
    import polars as pl

    parts = []
    for cause, horizon, risk, spread in rows:
        low, high = spread or (None, None)
        parts.append(
            pl.DataFrame(
                {
                    "id": forecast.ids.astype(str),
                    "at": forecast.at,
                    "outcome": forecast.outcome,
                    "cause": cause,
                    "horizon": horizon,
                    "risk": risk,
                    "low": pl.Series(low, dtype=pl.Float64) if low is not None else None,
                    "high": pl.Series(high, dtype=pl.Float64) if high is not None else None,
                },
                schema_overrides={"horizon": pl.Float64, "low": pl.Float64, "high": pl.Float64},
            ).filter(forecast.at_risk)
        )
    return pl.concat(parts)


def _outcome_of(landmarks: Landmarks, outcome: str | None, names: tuple[str, ...], *, curves: bool) -> str:
    """The outcome whose causes or classes these are."""
    cohort, noun = landmarks.cohort, "causes" if curves else "classes"
    if not names or len(set(names)) < len(names):
        raise InputError(f"{noun} {', '.join(names)!r}; must be different names")
    found = {
        name: o
        for name, o in cohort.outcomes.items()
        if o.has_model and o.has_curve == curves and (outcome is None or name == outcome)
    }
    if outcome is not None and cohort.check_outcome(outcome) not in found:
        raise InputError(f"outcome {outcome!r} has no {noun}; it is {cohort.outcomes[outcome].kind!r}")
    fits = [
        name
        for name, o in found.items()
        if set(names) <= set(o.names) and (curves or len(names) == len(o.names))
    ]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise InputError(f"several outcomes have {noun} {', '.join(names)}; name one: outcome={fits[0]!r}")
    there = "; ".join(f"{name!r} has {', '.join(o.names)}" for name, o in found.items())
    raise InputError(f"no outcome has {noun} {', '.join(names)}; {there or 'the cohort has none that fits'}")


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        # until the next release: where Predictor was before, also for what was pickled there
        if name != "Predictor":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        warnings.warn("Predictor is now in gnnpatient.prognosis.predictor", DeprecationWarning, stacklevel=2)
        return getattr(import_module("gnnpatient.prognosis.predictor"), name)
