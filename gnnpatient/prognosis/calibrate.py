"""How surprising what came was to members that had not seen the patient: what intervals are calibrated on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnnpatient.cohort.splits import landmark_weights
from gnnpatient.metrics import censoring
from gnnpatient.model.values import hats
from gnnpatient.prognosis.conformal import Calibration
from gnnpatient.prognosis.problem import Problem
from gnnpatient.prognosis.targets import LabelTarget, OrderedTarget, SurvivalTarget, pooled_landmark
from gnnpatient.prognosis.value_target import ProgressionTarget

MIN_FOLLOWED = 0.2  # share that must not be censored by the last time that is bounded
FOLLOWED_LANDMARKS = 0.75  # share of the landmarks at which so many are
NO_ROWS = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class CalibrationRows:
    """One landmark a patient, drawn as landmarks are drawn, and of a value one of its later values.

    Attributes
    ----------
    place : ndarray
        Position of each among the landmarks that were asked, rising.
    thing : ndarray
        Which of several things that were seen of the landmark.
    weight : ndarray
        How much the patient counts: those with more landmarks are drawn more often.
    """

    place: np.ndarray  # (patient,) int64
    thing: np.ndarray  # (patient,) int64
    weight: np.ndarray  # (patient,) float64


def calibration_rows(problem: Problem, name: str, asked: np.ndarray) -> CalibrationRows:
    """Draw one landmark of each patient whose outcome is known.

    Parameters
    ----------
    problem : Problem
        What was learned from.
    name : str
        Name of the outcome.
    asked : ndarray
        (landmark,) int64, positions of the landmarks at which members are asked that had not seen them.

    Returns
    -------
    CalibrationRows
        None of a kind of outcome that is not calibrated.
    """
    target = problem.targets[name]
    if type(target) not in (SurvivalTarget, LabelTarget, OrderedTarget, ProgressionTarget):
        return CalibrationRows(NO_ROWS, NO_ROWS, np.zeros(0))
    drawn = landmark_weights(problem.landmarks.moments) * target.known
    if isinstance(target, SurvivalTarget):
        drawn = drawn * _Followed.of(problem, name).there
    each = target.importance(problem.heads[name].times)[asked]
    things = int(np.prod(each.shape[1:]))
    each = each.reshape(len(asked), things) * drawn[asked, None]
    mass = each.ravel()
    some = np.flatnonzero(mass > 0)
    patient = np.repeat(problem.landmarks.patient[asked], things)[some]
    # of each patient one, by its weight: the largest of random numbers to the power of one over it
    key = -np.random.default_rng([problem.config.seed, 1]).exponential(size=len(some)) / mass[some]
    order = np.lexsort((key, patient))
    last = np.append(np.diff(patient[order]) != 0, True)[: len(order)]
    chosen = np.sort(some[order[last]])
    total = np.bincount(patient, mass[some], minlength=1)
    who = np.repeat(problem.landmarks.patient[asked], things)[chosen]
    return CalibrationRows(chosen // things, chosen % things, total[who] if len(who) else np.zeros(0))


def calibrate(
    problem: Problem, name: str, rows: CalibrationRows, asked: np.ndarray, prediction: np.ndarray
) -> Calibration | None:
    """Score what came of some patients by forecasts that had not seen them.

    Parameters
    ----------
    problem : Problem
        What was learned from.
    name : str
        Name of the outcome.
    rows : CalibrationRows
        Which landmarks, and which of several things.
    asked : ndarray
        (landmark,) int64, as in `calibration_rows`.
    prediction : ndarray
        (patient, ...) the forecast of each of `rows`.

    Returns
    -------
    Calibration or None
        None where too few can be scored.
    """
    if not len(rows.place):
        return None
    target, times, places = problem.targets[name], problem.heads[name].times, asked[rows.place]
    mine, factor = target[places], np.ones(len(places))
    cutoff: float | None = None
    until: float | None = None
    if isinstance(target, ProgressionTarget):
        assert isinstance(mine, ProgressionTarget)
        score = _of_values(mine, rows.thing, prediction)
    elif isinstance(target, LabelTarget):
        assert isinstance(mine, LabelTarget)
        score = 1 - prediction[np.arange(len(places)), mine.label]
    else:
        assert isinstance(target, SurvivalTarget) and isinstance(mine, SurvivalTarget)
        seen = _Followed.of(problem, name)
        until, cutoff = seen.until, seen.cutoff
        if not cutoff:
            return None
        had = (mine.event > 0) & (mine.time <= cutoff)
        factor = np.where(had, 1 / np.where(had, seen.staying[places], 1.0), 0.0)
        free = np.concatenate([np.ones((len(places), 1)), prediction[:, 0]], 1)
        grid = np.append(0.0, times)
        score = np.array([np.interp(t, grid, one) for t, one in zip(mine.time, free, strict=True)])
    score = np.where(np.isinf(score), score, score.clip(0, 1))
    total = rows.weight.sum() + rows.weight.max()
    mass, reserve = rows.weight * factor / total, rows.weight.max() / total
    if cutoff is not None:  # one more patient with an event may stand for so many
        reserve *= float((1 / seen.at_cutoff[places]).max())
    some = factor > 0
    members = min(problem.config.members, len(problem.folds))
    return Calibration.of(
        score[some],
        mass[some],
        reserve,
        method="cv+" if members > 1 else "split",
        patients=len(places),
        least=problem.config.min_patients,
        cutoff=cutoff,
        until=until,
    )


def _of_values(target: ProgressionTarget, pair: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """How far each value lies from the median of its forecast, by the share of values that lie nearer.

    One beyond all bins has inf: no interval goes there.
    """
    assert target.head is not None
    each, edges = np.arange(len(pair)), np.array(target.head.edges)
    value, when = target.value[each, pair], target.when[each, pair]
    p = np.einsum("lbt,lt->lb", prediction[:, 1:], hats(target.head.times, when))
    upto = np.concatenate([np.zeros((len(p), 1)), p.cumsum(1)], 1)
    upto /= upto[:, -1:]
    left = np.searchsorted(edges[1:-1], value, "right")
    inside = ((value - edges[left]) / (edges[left + 1] - edges[left])).clip(0, 1)
    below = upto[each, left] + inside * (upto[each, left + 1] - upto[each, left])
    beyond = (value < edges[0]) | (value > edges[-1])
    return np.where(beyond, np.inf, np.abs(2 * below - 1))


@dataclass(frozen=True, eq=False)
class _Followed:
    """How long a time can be bounded.

    The last time is the longest of the grid by which a fifth are uncensored at three of four landmarks; later
    landmarks, at which fewer are, are left out. G is of each landmark time, among all training landmarks.
    """

    staying: np.ndarray  # (landmark,) share uncensored just before each landmark's own time
    at_cutoff: np.ndarray  # (landmark,) and by the last time
    there: np.ndarray  # (landmark,) bool, landmarks that are followed so long
    until: float | None  # the last day of these, where others are later
    cutoff: float  # the last time, 0 = none

    @classmethod
    def of(cls, problem: Problem, name: str) -> _Followed:
        target, X = problem.targets[name], problem.landmarks
        assert isinstance(target, SurvivalTarget)
        times = np.array(problem.heads[name].times)
        known = np.flatnonzero(target.known)
        weight = landmark_weights(X.moments)[known]
        group = pooled_landmark(X.moments[known])
        staying, by_time = np.ones(len(X)), np.zeros((len(X), len(times)))
        for one in np.unique(group):
            some = known[group == one]
            g = censoring(target.time[some], target.event[some])
            staying[some] = g.left(target.time[some])
            by_time[some] = g.left(times)
        share = ((by_time[known] >= MIN_FOLLOWED) * weight[:, None]).sum(0) / weight.sum()
        reached = np.flatnonzero(share >= FOLLOWED_LANDMARKS)
        k = int(reached[-1]) if len(reached) else 0
        days, lacking = X.days, np.zeros(len(X), bool)
        lacking[known] = by_time[known, k] < MIN_FOLLOWED
        until = None
        if lacking.any():
            earlier = days[known][days[known] < days[lacking].min()]
            until = float(f"{earlier.max(initial=-1.0):.3g}")
        there = target.known & ~lacking & (days <= (np.inf if until is None else until))
        cutoff = float(times[k]) if len(reached) and there.any() else 0.0
        return cls(staying, by_time[:, k], there, until, cutoff)
