"""Update a model where it is used: shift its risks there, or shift and stretch them, and score that honestly.

References
----------
Steyerberg EW, Borsboom GJJM, van Houwelingen HC, Eijkemans MJC, Habbema JDF (2004). Stat Med 23:2567-2586
(updating a prediction model: intercept; intercept and slope).
van Houwelingen HC (2000). Stat Med 19:3401-3415 (calibration of a survival model elsewhere).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gnnpatient import metrics
from gnnpatient.errors import InputError, near
from gnnpatient.study.scoreboard import ModelRisks, ObservedOutcome

WAYS = ("intercept", "slope")
MIN_CASES = 10  # patients with the event in the part that an update is fitted on; with fewer there is none
TIMES = 12  # of a curve, at which an update is fitted
STEPS = 50  # of Fisher scoring, at most
_EDGE = 1e-6  # risks are held this far from 0 and 1


@dataclass(frozen=True)
class Update:
    """New risks by old ones, on the scale of the kind: intercept + slope * link(risk).

    Attributes
    ----------
    kind : str
        "survival": the complementary log-log, on which the intercept is a log hazard ratio and holds at all
        times; "diagnosis": the logit.
    intercept, slope : float
        0 and 1 leave everything as it is.
    """

    kind: str
    intercept: float = 0.0
    slope: float = 1.0

    def __call__(self, risk: np.ndarray) -> np.ndarray:
        """Update risks.

        Parameters
        ----------
        risk : array
            Any shape.

        Returns
        -------
        array

        Examples
        --------
        >>> Update("diagnosis", np.log(2))(np.array([0.5, 0.2])).round(3)
        array([0.667, 0.333])
        """
        link, inverse, _ = _LINKS[self.kind]
        return inverse(self.intercept + self.slope * link(risk))


def fit_update(kind: str, way: str, risk: np.ndarray, case: np.ndarray, weight: np.ndarray) -> Update:
    """The update that is likeliest, of rows with a weight each.

    Parameters
    ----------
    kind : str
        "survival" or "diagnosis".
    way : {"intercept", "slope"}
        What is fitted: the intercept with a slope of 1, or both.
    risk : (row,) array
        Forecast.
    case : (row,) bool array
        What came.
    weight : (row,) array
        IPCW times how often each counts.

    Returns
    -------
    Update
        A slope that does not rise is none: then with the intercept alone.
    """
    link, inverse, derivative = _LINKS[kind]
    x = link(risk)
    terms = np.ones((len(x), 1)) if way == "intercept" else np.stack([np.ones_like(x), x], 1)
    offset = x if way == "intercept" else np.zeros_like(x)
    b = np.zeros(1) if way == "intercept" else np.array([0.0, 1.0])
    for _ in range(STEPS):
        eta = np.clip(offset + terms @ b, -14, 3 if kind == "survival" else 14)
        mean, steep = inverse(eta), derivative(eta)
        spread = np.maximum(mean * (1 - mean), 1e-12)
        information = (terms * (weight * steep**2 / spread)[:, None]).T @ terms
        step = np.linalg.lstsq(information, terms.T @ (weight * steep * (case - mean) / spread))[0]
        b = b + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    if way == "slope" and not b[1] > 0:
        return fit_update(kind, "intercept", risk, case, weight)
    return Update(kind, float(b[0]), float(b[1]) if way == "slope" else 1.0)


def with_update(
    scored: ModelRisks, outcome: str, way: str, models: Sequence[str] = ("gnn",), seed: int = 0
) -> tuple[ModelRisks, list[str]]:
    """Add models whose risks are updated on one half of the patients, for the other half, and the reverse.

    So nobody's risk is updated by what came of that patient or, where splits keep groups together, of the
    group. Of a survival outcome each cause has an update of its own for all landmarks and times together;
    where the updated risks of all causes exceed 1 they are scaled down to it.

    Parameters
    ----------
    scored : ModelRisks
        The landmarks of the other cohort with the risks of each model.
    outcome : str
        Name of the outcome.
    way : {"intercept", "slope"}
        Update the intercept, or the intercept and the slope.
    models : sequence of str
        Which models; each gets a twin, as "gnn+intercept".
    seed : int, default 0
        Of the halves.

    Returns
    -------
    scored : ModelRisks
        All models and the twins. Discrimination compares patients of one half only, for the old models too.
    notes : list of str
        What each update is.

    Raises
    ------
    InputError
        When the way or a model is unknown, or there is one unit alone.
    """
    if way not in WAYS:
        raise InputError(f"update {way!r}{near(way, WAYS)}; must be intercept or slope")
    half = _halves(scored, seed)
    observed = ObservedOutcome.of(scored.landmarks, outcome)
    risks = dict(scored.risks)
    notes = []
    for model in models:
        old = scored.risks[model]
        new = {cause: np.array(risk, float) for cause, risk in old.items()}
        for cause, risk in old.items():
            found = [_fitted(scored, observed, cause, risk, way, half == side) for side in (0, 1)]
            for side, update in enumerate(found):
                new[cause][half != side] = update(risk[half != side])
            notes.append(_note(model, cause, way, found))
        total = np.sum(list(new.values()), 0) if observed.kind == "survival" else np.ones(1)
        risks[f"{model}+{way}"] = {cause: risk / np.maximum(total, 1) for cause, risk in new.items()}
    return replace(scored, fold=2 * scored.fold + half, risks=risks), notes


def _halves(scored: ModelRisks, seed: int) -> np.ndarray:
    """Half of each landmark, whole units together: (landmark,) int64, 0 or 1."""
    units, place = np.unique(scored.landmarks.groups, return_inverse=True)
    if len(units) < 2:
        raise InputError("an update is fitted on one half of the patients or groups: there is one alone")
    side = np.arange(len(units)) % 2
    return np.random.default_rng(seed).permutation(side)[place]


def _fitted(
    scored: ModelRisks, observed: ObservedOutcome, cause: str, risk: np.ndarray, way: str, part: np.ndarray
) -> Update:
    """An update fitted on some landmarks; one that changes nothing where too few had the event."""
    parts, cases = [], set[int]()
    for rows in scored.landmarks.by_landmark.values():
        rows = rows[part[rows] & (observed.code[rows] >= 0)]
        for column, known in _known(scored, observed, cause, rows):
            used = known.share > 0
            parts.append((risk[rows, column][used], known.case[used], known.share[used]))
            cases |= set(scored.landmarks.patient[rows[known.case]].tolist())
    if len(cases) < MIN_CASES:
        return Update(observed.kind)
    old, case, weight = (np.concatenate(each) for each in zip(*parts, strict=True))
    return fit_update(observed.kind, way, old.astype(float), case, weight)


def _known(
    scored: ModelRisks, observed: ObservedOutcome, cause: str, rows: np.ndarray
) -> list[tuple[int, metrics.AtHorizon]]:
    """What is known of some rows of a landmark, by the column of their risks."""
    if not len(rows):
        return []
    k, weight = observed.judged[cause], np.ones(len(rows))
    if observed.kind != "survival":
        known = observed.labels(k, rows, weight)
        return [] if known is None else [(0, known)]
    assert observed.time is not None
    columns = np.unique(np.linspace(0, len(scored.times) - 1, TIMES + 1).round().astype(int)[1:])
    time, event = observed.time[rows], observed.code[rows]
    each = metrics.at_horizons(time, event, scored.times[columns].tolist(), cause=k, weight=weight)
    return [(column, at) for column, at in zip(columns.tolist(), each, strict=True) if at is not None]


def _note(model: str, cause: str, way: str, found: Sequence[Update]) -> str:
    """An update in words: that of each half."""
    few, none = f"fewer than {MIN_CASES} patients with the event", Update(found[0].kind)
    if all(update == none for update in found):
        return f"{model}+{way}, {cause}: {few} in a half; not updated"
    slopes = [f", slope {update.slope:.2f}" if way == "slope" else "" for update in found]
    one, other = (
        "none" if update == none else f"intercept {update.intercept:+.2f}{slope}"
        for update, slope in zip(found, slopes, strict=True)
    )
    why = f" (none: {few})" if none in found else ""
    return f"{model}+{way}, {cause}: {one} by one half, {other} by the other{why}, each scored on the other"


Link = Callable[[np.ndarray], np.ndarray]


def _inside(risk: np.ndarray) -> np.ndarray:
    return np.clip(np.asarray(risk, float), _EDGE, 1 - _EDGE)


def _expit(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


_LINKS: dict[str, tuple[Link, Link, Link]] = {
    "survival": (
        lambda risk: np.log(-np.log1p(-_inside(risk))),
        lambda x: -np.expm1(-np.exp(x)),
        lambda x: np.exp(x - np.exp(x)),
    ),
    "diagnosis": (
        lambda risk: np.log(_inside(risk)) - np.log1p(-_inside(risk)),
        _expit,
        lambda x: _expit(x) * _expit(-x),
    ),
}
"""By the kind of an outcome: link, its inverse, and the derivative of that."""
