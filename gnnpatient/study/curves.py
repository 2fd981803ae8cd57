"""What a figure of an evaluation shows, as tables: calibration, AUC by horizon, net benefit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gnnpatient import metrics
from gnnpatient.errors import InputError, near
from gnnpatient.metrics.calibration import calibration_curve_at
from gnnpatient.metrics.decision import net_benefit_at
from gnnpatient.metrics.horizon import AtHorizon
from gnnpatient.study.intervals import bootstrap_interval
from gnnpatient.study.scoreboard import MIN_CASES, ModelRisks, Scoreboard
from gnnpatient.times import duration

if TYPE_CHECKING:
    import polars as pl

KINDS = ("calibration", "auc", "decision")
HORIZONS = 12  # of an AUC by horizon
THRESHOLDS = 99  # of a decision curve, of its axis from 0 to its end
DRAWS = 100
TREAT_ALL, TREAT_NONE = "treat all", "treat none"


@dataclass(frozen=True, eq=False)
class Place:
    """One cause or class of one landmark, up to one horizon, and what is known of the patients there.

    Attributes
    ----------
    board : Scoreboard
        Of everybody who is scored.
    cause : str
        Or class.
    landmark : float or None
        Days; None: all landmarks of a task with moments of its own.
    horizon : float or None
        Days; None: a label that needs none.
    rows : (row,) int64 array
        Landmarks, as positions in those of the board.
    known : AtHorizon
        What came of them.
    """

    board: Scoreboard
    cause: str
    landmark: float | None
    horizon: float | None
    rows: np.ndarray
    known: AtHorizon

    @classmethod
    def of(
        cls,
        board: Scoreboard,
        cause: str | None = None,
        landmark: float | None = None,
        horizon: float | None = None,
    ) -> Place:
        """Find the place that is meant.

        Parameters
        ----------
        board : Scoreboard
        cause : str, optional
            May be left out where there is one.
        landmark : float, optional
            Days; default: the first one.
        horizon : float, optional
            Days; default: the last one of the evaluation that can be estimated. None for a diagnosis.

        Returns
        -------
        Place

        Raises
        ------
        InputError
            When a name or time is unknown, or nothing can be estimated there.
        """
        causes = [name for name in board.causes if name in board.observed.judged]
        if cause is None and len(causes) > 1:
            raise InputError(f"several causes; name one of {', '.join(causes)}, as in cause=")
        name = causes[0] if cause is None and causes else cause
        if name is None or name not in causes:
            raise InputError(f"unknown cause {name!r}{near(name or '', causes)}")
        days = [day for day, place in board.by_landmark.items() if len(place)]
        day = days[0] if landmark is None else landmark
        if day not in days:
            there = ", ".join("all" if one is None else f"{one:g}" for one in days)
            raise InputError(f"no landmark {landmark!r} here; there are {there} (days)")
        rows = board.rows[board.by_landmark[day]]
        rows = rows[board.observed.opened(board.observed.judged[name], rows)]
        times = cls._horizons(board, horizon)
        found = cls._known(board, name, rows, times)
        estimable = [time for time, at in found.items() if at is not None and at.fewest >= MIN_CASES]
        if not estimable:
            until = "" if times[-1] is None else f" up to {duration(times[-1])}"
            raise InputError(
                f"{name}{until}: not estimable; fewer than {MIN_CASES} patients among the cases or "
                "the others, or too few followed beyond it"
            )
        known = found[estimable[-1]]
        assert known is not None
        return cls(board, name, day, estimable[-1], rows, known)

    @staticmethod
    def _horizons(board: Scoreboard, horizon: float | None) -> list[float | None]:
        """The one that is asked for, or those of the evaluation, rising."""
        if board.observed.kind != "survival":
            if horizon is not None:
                raise InputError("a diagnosis has no horizon to choose; leave it out")
            return [board.observed.horizon]
        if horizon is None:
            return [*sorted({h for _, h in board.columns if h is not None})]
        if not np.isclose(board.models.times, horizon, rtol=1e-9, atol=0).any():
            raise InputError(
                f"horizon {horizon:g} days is not among those of the evaluation, up to "
                f"{board.models.times[-1]:g} days"
            )
        return [horizon]

    @staticmethod
    def _known(
        board: Scoreboard, cause: str, rows: np.ndarray, times: Sequence[float | None]
    ) -> dict[float | None, AtHorizon | None]:
        weight, k = np.ones(len(rows)), board.observed.judged[cause]
        patient = board.models.landmarks.patient[rows]  # of several repeats one has several rows
        if board.observed.kind != "survival":
            return {times[0]: board.observed.labels(k, rows, weight, patient)}
        time, event = board.observed.time, board.observed.code
        assert time is not None
        until = [float(t) for t in times if t is not None]
        found = metrics.at_horizons(time[rows], event[rows], until, cause=k, weight=weight, patient=patient)
        return dict(zip(times, found, strict=True))

    def risk(self, model: str) -> np.ndarray:
        """What a model forecasts here.

        Parameters
        ----------
        model : str

        Returns
        -------
        (row,) float64 array
        """
        risk, times = self.board.models.risks[model][self.cause], self.board.models.times
        column = 0 if self.horizon is None or not len(times) else int(np.abs(times - self.horizon).argmin())
        return risk[self.rows, column].astype(float)

    @property
    def reach(self) -> float:
        """The highest risk that an axis shows: 99 of 100 patients do not pass it, by either model."""
        top = max(float(np.quantile(self.risk(model), 0.99)) for model in shown_models(self.board))
        return float(np.clip(top, 0.05, 0.99))


def shown_models(board: Scoreboard) -> list[str]:
    """The models that a figure draws by default: the first one, and the plain comparator.

    Parameters
    ----------
    board : Scoreboard

    Returns
    -------
    list of str
    """
    first = [name for name in board.names if name in (board.names[0], "cox", "logistic")]
    return list(dict.fromkeys(first))


def calibration(place: Place, models: Sequence[str], points: int = 101) -> pl.DataFrame:
    """The smoothed share with the event at each risk.

    Parameters
    ----------
    place : Place
    models : sequence of str
    points : int, default 101
        Risks of each model, from their 1st to their 99th percentile.

    Returns
    -------
    polars.DataFrame
        model, risk, share.
    """
    import polars as pl

    parts = []
    for model in models:
        risk, share = calibration_curve_at(place.risk(model), place.known, points)
        parts.append(
            pl.DataFrame({"risk": risk, "share": share}).select(pl.lit(model).alias("model"), pl.all())
        )
    return pl.concat(parts)


def auc_by_horizon(place: Place, models: Sequence[str], n: int = DRAWS, seed: int = 0) -> pl.DataFrame:
    """The AUC at horizons up to that of the place, with intervals over patients or groups.

    Parameters
    ----------
    place : Place
        Of a survival outcome.
    models : sequence of str
    n : int, default 100
        Bootstrap draws.
    seed : int, default 0

    Returns
    -------
    polars.DataFrame
        model, horizon (days), value, low, high, at_risk (patients who are still followed then). Horizons
        without a figure are left out.

    Raises
    ------
    InputError
        Of a diagnosis, which has no horizons.
    """
    import polars as pl

    if place.board.observed.kind != "survival" or place.horizon is None:
        raise InputError("an AUC by horizon is one of survival; a diagnosis has one AUC, in the rows")
    times = place.board.models.times
    until = times[times <= place.horizon * (1 + 1e-9)]
    chosen = np.unique(np.linspace(0, len(until) - 1, HORIZONS).round().astype(int))
    known = ModelRisks(
        place.board.models.landmarks,
        place.board.models.fold,
        {m: {c: r[:, chosen] for c, r in place.board.models.risks[m].items()} for m in models},
        until[chosen],
    )
    members = np.zeros(len(place.board.members), bool)
    members[place.rows] = True
    columns = tuple(("auc", float(h)) for h in until[chosen])
    board = replace(place.board, models=known, causes=(place.cause,), columns=columns, members=members)
    at = list(board.by_landmark).index(place.landmark)
    value = board.all_rows[0, :, at]
    draws = board.draws(lambda scores, _: scores[0, :, at], n, seed)
    units, name = board.units
    time = board.observed.time
    assert time is not None
    rows = []
    for m, model in enumerate(models):
        for c, (_, horizon) in enumerate(columns):
            if np.isfinite(value[m, c]):
                around = bootstrap_interval(float(value[m, c]), draws[:, m, c], units, name)
                at_risk = len(np.unique(known.landmarks.patient[place.rows][time[place.rows] > horizon]))
                figures = {"value": float(value[m, c]), "low": around["low"], "high": around["high"]}
                rows.append({"model": model, "horizon": horizon, **figures, "at_risk": at_risk})
    return pl.DataFrame(rows, schema_overrides={"low": pl.Float64, "high": pl.Float64})


def decision(place: Place, models: Sequence[str], thresholds: Sequence[float] | None = None) -> pl.DataFrame:
    """The net benefit of treating everybody whose risk is at or above a threshold.

    Parameters
    ----------
    place : Place
    models : sequence of str
    thresholds : sequence of float, optional
        Risks between 0 and 1; default: 99 of them, up to what 99 of 100 patients do not pass.

    Returns
    -------
    polars.DataFrame
        model, threshold, net_benefit (cases per patient), above (patients at or above the threshold); two
        models are "treat all" and "treat none".
    """
    import polars as pl

    if thresholds is None:
        at = np.linspace(0, place.reach, THRESHOLDS + 1)[1:]
    else:
        at = np.asarray(thresholds, float)
    patient = place.board.models.landmarks.patient[place.rows]
    risks = {model: place.risk(model) for model in models}
    risks |= {TREAT_ALL: np.ones(len(patient)), TREAT_NONE: np.zeros(len(patient))}
    parts = []
    for model, risk in risks.items():
        above = [len(np.unique(patient[risk >= threshold])) for threshold in at]
        figures = {"threshold": at, "net_benefit": net_benefit_at(risk, place.known, at), "above": above}
        parts.append(pl.DataFrame(figures).select(pl.lit(model).alias("model"), pl.all()))
    return pl.concat(parts)
