"""Calibrated uncertainty: intervals of values, sets of classes, lower bounds on times that keep a promise.

How surprising what came was, of training patients whom a member had not seen, says how wide an answer must
be. No second fit is needed: each member held out a fold of the patients.

References
----------
Barber RF, Candes EJ, Ramdas A, Tibshirani RJ (2021). Ann Stat 49:486-507 (CV+).
Chernozhukov V, Wuthrich K, Zhu Y (2021). PNAS 118:e2107794118 (scores by the forecast distribution).
Sadinle M, Lei J, Wasserman L (2019). JASA 114:223-234 (sets of classes by their probability, LAC).
Angelopoulos AN, Bates S, Fisch A, Lei L, Schuster T (2024). ICLR (conformal risk control).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from gnnpatient.errors import InputError
from gnnpatient.prognosis.disclosure import counted

LEVEL = 0.9  # that is shown where none is asked for
MAX_SCORES = 60, 40  # that are kept of the most surprised patients, and of the others
SURPRISED = 0.3  # share of the patients of whom more scores are kept
DIGITS = 4  # of a score that is kept
SLACK = 1e-12  # of sums of shares


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How surprising what came was, of patients whom the member that forecast it had not seen.

    A score is 0 where what came was just what was expected, and 1 where it was held impossible. One landmark
    a patient, drawn as landmarks are drawn in training.

    Attributes
    ----------
    method : {"cv+", "split"}
        Whether each patient was scored by the member that did not see them ("cv+": an answer of level 1 - a
        is promised to hold 1 - 2 a of what comes), or one member alone has a fold that it did not see
        ("split": 1 - a).
    patients : int or str
        Patients who were scored.
    scores : tuple of float
        Some of the scores, falling; each step is of enough patients to be written down.
    above : tuple of float
        Of each, the share of patients with a higher score, and of one more patient of whom nothing is known.
    total : float
        Share of all scored patients; of a time those with an event.
    cutoff : float or None
        Of a time the days up to which it is bounded.
    until : float or None
        Of a time the last day after the origin whose landmarks are followed so long.
    """

    method: Literal["cv+", "split"]
    patients: int | str
    scores: tuple[float, ...]
    above: tuple[float, ...]
    total: float = 1.0
    cutoff: float | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        rising = all(0 <= a <= b for a, b in zip(self.above, self.above[1:], strict=False))
        falling = all(1 >= a >= b >= 0 for a, b in zip(self.scores, self.scores[1:], strict=False))
        if not self.scores or len(self.scores) != len(self.above) or not rising or not falling:
            raise ValueError("scores of a calibration")

    @classmethod
    def of(
        cls,
        score: np.ndarray,
        mass: np.ndarray,
        reserve: float,
        *,
        method: Literal["cv+", "split"],
        patients: int,
        least: int,
        cutoff: float | None = None,
        until: float | None = None,
    ) -> Calibration | None:
        """Keep what may be written down of some scores.

        Parameters
        ----------
        score : ndarray
            (patient,) from 0 to 1, or inf: in no answer; of a time only of those with an event.
        mass : ndarray
            (patient,) the share of all patients that each stands for.
        reserve : float
            The share of one more patient, of whom nothing is known.
        method : {"cv+", "split"}
            See `Calibration`.
        patients : int
            Patients who were scored, also without an event.
        least : int
            Fewest patients that a figure may be of to be written down.
        cutoff, until : float, optional
            See `Calibration`.

        Returns
        -------
        Calibration or None
            None where fewer than twice `least` patients were scored.

        Examples
        --------
        >>> even = np.arange(200) / 200
        >>> share = np.full(200, 1 / 201)
        >>> found = Calibration.of(even, share, 1 / 201, method="split", patients=200, least=10)
        >>> found.threshold(0.9), found.threshold(0.99) is None
        (0.9, True)
        """
        first = int(SURPRISED * len(score))
        steps = [
            max(least, -(-n // most)) for n, most in zip((first, len(score) - first), MAX_SCORES, strict=True)
        ]
        order = np.argsort(-score, kind="stable")
        never = int(np.isinf(score).sum())
        top = np.arange(max(steps[0] - 1, never), len(score), steps[0])
        top = top[: max(first // steps[0], 1)]
        ranks = np.append(top, np.arange(top[-1] + steps[1], len(score), steps[1])) if len(top) else top
        ranks = ranks[len(score) - ranks >= least]  # what lies below the last is known by subtraction
        few = len(score) >= least and not len(ranks) and not never
        if few:  # one step, as if all were above it
            ranks = np.array([least - 1])
        if patients < max(2 * least, 2) or not len(ranks):
            return None
        # rounded up, which makes an answer wider
        kept = np.minimum(np.ceil(score[order][ranks] * 10**DIGITS - 1e-6) / 10**DIGITS, 1.0)
        upto = np.append(0.0, mass[order].cumsum())
        above = np.ceil((upto[[-1] if few else ranks] + reserve) * 10**DIGITS - 1e-6) / 10**DIGITS
        total = min(round(float(upto[-1]) + reserve, DIGITS), 1.0)
        return cls(
            method=method,
            patients=patients,
            scores=tuple(kept.tolist()),
            above=tuple(above.tolist()),
            total=total,
            cutoff=cutoff,
            until=until,
        )

    def written(self, least: int) -> dict[str, Any]:
        """The fields as JSON holds them, with the count as it is written down.

        Parameters
        ----------
        least : int
            Fewest patients that a count may be of.

        Returns
        -------
        dict
        """
        parts = {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(self).items()}
        return parts | {"patients": counted(self.patients, least)}

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> Calibration:
        """Read what `written` gave.

        Parameters
        ----------
        written : mapping

        Returns
        -------
        Calibration

        Raises
        ------
        TypeError, ValueError
            When it is something else.
        """
        lists = {name: tuple(written[name]) for name in ("scores", "above")}
        return cls(**{**written, **lists})

    @property
    def mass(self) -> np.ndarray:
        """The share of patients at each of the scores, those between two at the higher one: (score,)."""
        return np.diff(np.append(self.above, max(self.total, self.above[-1])))

    def promise(self, level: float) -> float:
        """How often an answer of a level holds what comes, at least, as it is promised.

        Parameters
        ----------
        level : float

        Returns
        -------
        float

        Examples
        --------
        >>> Calibration(method="cv+", patients=200, scores=(0.9,), above=(0.05,)).promise(0.9)
        0.8
        """
        return round(1 - (1 + (self.method == "cv+")) * (1 - level), 10)

    def chance(self, level: float) -> str:
        """Say how often an answer of a level holds what comes, and what is promised where that is less.

        Parameters
        ----------
        level : float

        Returns
        -------
        str

        Examples
        --------
        >>> Calibration(method="cv+", patients=200, scores=(0.9,), above=(0.05,)).chance(0.9)
        'with probability 0.9 (0.8 promised), on average over landmarks'
        """
        promise = max(self.promise(level), 0.0)
        beside = "" if promise == level else f" ({promise:g} promised)"
        return f"with probability {level:g}{beside}, on average over landmarks"

    def reaches(self, level: float) -> bool:
        """Whether there were patients enough for a level.

        Parameters
        ----------
        level : float

        Returns
        -------
        bool
        """
        return self.above[0] <= 1 - level + SLACK

    def threshold(self, level: float) -> float | None:
        """The score that is exceeded by so few.

        Parameters
        ----------
        level : float
            The share of patients that have no higher one.

        Returns
        -------
        float or None
            None where too few were scored for that level.
        """
        inside = np.flatnonzero(np.array(self.above) <= 1 - level + SLACK)
        return float(self.scores[inside[-1]]) if len(inside) else None

    def lower_end(self, ends: np.ndarray, level: float, last: float | None = None) -> np.ndarray:
        """Where an answer of a level begins.

        Parameters
        ----------
        ends : ndarray
            (member, landmark, score), the lowest answer that is no more surprising to a member than a score.
        level : float
        last : float, optional
            Where it begins if fewer than that have a score; default: the highest of `ends`.

        Returns
        -------
        ndarray
            (landmark,).
        """
        members, size = ends.shape[:2]
        flat = np.moveaxis(ends, 0, 1).reshape(size, members * ends.shape[2])
        mass = np.tile(self.mass / members, members)
        order = np.argsort(flat, axis=1, kind="stable")
        upto = self.above[0] + mass[order].cumsum(1)
        first = (upto <= 1 - level + SLACK).sum(1).clip(max=flat.shape[1] - 1)
        found = np.take_along_axis(flat, np.take_along_axis(order, first[:, None], 1), 1)[:, 0]
        return found if last is None else np.where(upto[:, -1] <= 1 - level + SLACK, last, found)

    def within(self, score: np.ndarray, level: float) -> np.ndarray:
        """Whether something is in the answer of a level.

        Parameters
        ----------
        score : ndarray
            (member, ...), how surprising it is to each member.
        level : float

        Returns
        -------
        ndarray
            (...) bool.
        """
        upto = np.append(0.0, self.mass.cumsum()) + self.above[0]
        # patients whose score is at least as high
        count = np.searchsorted(-np.array(self.scores), -score + 1e-9, "right")
        return np.asarray(upto[count].mean(0) > 1 - level + SLACK)


def check_level(level: float) -> float:
    """Refuse a level that is no probability.

    Parameters
    ----------
    level : float

    Returns
    -------
    float
        The same.

    Raises
    ------
    InputError
        When it is not above 0 and below 1.
    """
    if not 0 < level < 1:
        raise InputError(f"level {level}; must be above 0 and below 1, as in 0.9")
    return level


def uncalibrated(calibration: Calibration | None, level: float) -> str | None:
    """Why there is no calibrated answer of a level; None where there is one.

    Parameters
    ----------
    calibration : Calibration or None
        Of a forecast; None: nothing was calibrated.
    level : float

    Returns
    -------
    str or None

    Examples
    --------
    >>> uncalibrated(None, 0.9).startswith("not calibrated")
    True
    """
    if calibration is None:
        why = "too few patients held out in the fit, a part of a model alone, or this kind of outcome"
        return f"not calibrated ({why})"
    if not calibration.reaches(level):
        return f"not calibrated at {level:g}: {calibration.patients} patients held out are too few for it"
    return None
