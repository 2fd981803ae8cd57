"""Update a model where it is used: shift its risks there, or shift and stretch them, and score that honestly.

References
----------
Steyerberg EW, Borsboom GJJM, van Houwelingen HC, Eijkemans MJC, Habbema JDF (2004). Stat Med 23:2567-2586
(updating a prediction model: intercept; intercept and slope).
van Houwelingen HC (2000). Stat Med 19:3401-3415 (calibration of a survival model elsewhere).
Van Hoorde K, Vergouwe Y, Timmerman D, Van Huffel S, Steyerberg EW, Van Calster B (2014). Stat Med
33:2585-2596 (updating a multinomial model).
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
        times; "diagnosis": the logit, of a class or a label.
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


@dataclass(frozen=True, eq=False)
class ClassUpdate:
    """New probabilities of several classes by old ones: intercept + slope * log, scaled to sum to one.

    Attributes
    ----------
    intercept : (class,) float64 array
        All 0, with a slope of 1, leave everything as it is.
    slope : float
        The same for all classes.
    """

    intercept: np.ndarray  # (class,)
    slope: float = 1.0

    def __call__(self, probability: np.ndarray) -> np.ndarray:
        """Update probabilities.

        Parameters
        ----------
        probability : (row, class) array
            Sums to one over the classes.

        Returns
        -------
        (row, class) array
            Sums to one over the classes.

        Examples
        --------
        >>> double = ClassUpdate(np.log([1.0, 1.0, 2.0]))
        >>> double(np.array([[0.5, 0.25, 0.25]]))
        array([[0.4, 0.2, 0.4]])
        """
        score = self.intercept + self.slope * np.log(_inside(probability))
        each = np.exp(score - score.max(1, keepdims=True))
        found: np.ndarray = each / each.sum(1, keepdims=True)
        return found


def fit_class_update(
    way: str, probability: np.ndarray, label: np.ndarray, weight: np.ndarray, learned: np.ndarray
) -> ClassUpdate:
    """The update of several classes that is likeliest, of rows with a weight each.

    Parameters
    ----------
    way : {"intercept", "slope"}
        What is fitted: an intercept for each class with a slope of 1, or these and one slope.
    probability : (row, class) array
        Forecast.
    label : (row,) int64 array
        Position of the class that came.
    weight : (row,) array
        How often each counts.
    learned : (class,) bool array
        Classes that get an intercept; the others, and the first of these, keep theirs at 0.

    Returns
    -------
    ClassUpdate
        A slope that does not rise is none: then with the intercepts alone.
    """
    x, came = np.log(_inside(probability)), np.eye(probability.shape[1])[label]
    moved = np.flatnonzero(learned)[1:]
    # (row, class, term): what each term adds to the score of a class
    terms = np.repeat(np.eye(x.shape[1])[None, :, moved], len(x), 0)
    terms = np.concatenate([terms, x[:, :, None]], 2)
    b = np.append(np.zeros(len(moved)), 1.0)
    free = np.append(np.ones(len(moved), bool), way == "slope")

    def found() -> ClassUpdate:
        intercept = np.zeros(x.shape[1])
        intercept[moved] = b[:-1]
        return ClassUpdate(intercept, float(b[-1]))

    for _ in range(STEPS):
        share = found()(probability)
        slope = np.einsum("rkt,rk,r->t", terms, came - share, weight)[free]
        mean = np.einsum("rkt,rk->rt", terms, share)
        spread = np.einsum("rkt,rku,rk,r->tu", terms, terms, share, weight)
        information = (spread - (mean * weight[:, None]).T @ mean)[np.ix_(free, free)]
        step = np.linalg.lstsq(information, slope)[0]
        b[free] += np.clip(step, -1, 1)
        if not len(step) or np.abs(step).max() < 1e-8:
            break
    if way == "slope" and not b[-1] > 0:
        return fit_class_update("intercept", probability, label, weight, learned)
    return found()


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
    where the updated risks of all causes exceed 1 they are scaled down to it. Of three or more classes one
    update moves all of them, so that they still sum to one; each of several labels has its own.

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
        # a number of events, or the probability of a state, is no risk of a cause
        old = {cause: risk for cause, risk in scored.risks[model].items() if cause in observed.judged}
        if observed.kind in ("diagnosis", "ordered") and len(old) > 1:
            risks[f"{model}+{way}"], note = _updated_classes(scored, observed, model, way, half)
            notes.append(note)
            continue
        new = {cause: np.array(risk, float) for cause, risk in old.items()}
        for cause, risk in old.items():
            found = [_fitted(scored, observed, cause, risk, way, half == side) for side in (0, 1)]
            for side, update in enumerate(found):
                new[cause][half != side] = update(risk[half != side])
            notes.append(_note(model, cause, way, found))
        total = np.sum(list(new.values()), 0) if observed.kind == "survival" else np.ones(1)
        risks[f"{model}+{way}"] = {cause: risk / np.maximum(total, 1) for cause, risk in new.items()}
    return replace(scored, fold=2 * scored.fold + half, risks=risks), notes


def _updated_classes(
    scored: ModelRisks, observed: ObservedOutcome, model: str, way: str, half: np.ndarray
) -> tuple[dict[str, np.ndarray], str]:
    """The risks of several classes, all updated together, and what the update is."""
    old, ordered = scored.risks[model], observed.kind == "ordered"
    each = np.concatenate([np.asarray(risk, float) for risk in old.values()], 1)
    if ordered:  # at least each class but the lowest: their differences are the classes
        one, zero = np.ones((len(each), 1)), np.zeros((len(each), 1))
        each = -np.diff(np.concatenate([one, each, zero], 1), axis=1)
    new, found = each.copy(), list[ClassUpdate | None]()
    for side in (0, 1):
        update = _fitted_classes(scored, observed, each, way, half == side)
        found.append(update)
        if update is not None:
            new[half != side] = update(each[half != side])
    said = [
        "none"
        if update is None
        else ", ".join(f"{name} {x:+.2f}" for name, x in zip(observed.names, update.intercept, strict=True))
        + (f", slope {update.slope:.2f}" if way == "slope" else "")
        for update in found
    ]
    few = f" (none: fewer than two classes of {MIN_CASES} patients)" if None in found else ""
    start = f"{model}+{way}, all classes: intercepts"
    note = f"{start} {said[0]} by one half, {said[1]} by the other{few}, each scored on the other"
    if ordered:
        new = new[:, ::-1].cumsum(1)[:, -2::-1]
    return {cause: new[:, [k]] for k, cause in enumerate(old)}, note


def _fitted_classes(
    scored: ModelRisks, observed: ObservedOutcome, probability: np.ndarray, way: str, part: np.ndarray
) -> ClassUpdate | None:
    """An update of all classes fitted on some landmarks; None where too few patients are of two classes."""
    rows = np.flatnonzero(part & (observed.code >= 0))
    label, patient = observed.code[rows], scored.landmarks.patient[rows]
    classes = range(probability.shape[1])
    learned = np.array([len(np.unique(patient[label == k])) >= MIN_CASES for k in classes])
    if learned.sum() < 2:
        return None
    return fit_class_update(way, probability[rows], label, np.ones(len(rows)), learned)


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
    kind = observed.kind if observed.kind in _LINKS else "diagnosis"
    for rows in scored.landmarks.by_landmark.values():
        rows = rows[part[rows] & (observed.code[rows] >= 0)]
        rows = rows[observed.opened(observed.judged[cause], rows)]
        for column, known in _known(scored, observed, cause, rows):
            used = known.share > 0
            parts.append((risk[rows, column][used], known.case[used], known.share[used]))
            cases |= set(scored.landmarks.patient[rows[known.case]].tolist())
    if len(cases) < MIN_CASES:
        return Update(kind)
    old, case, weight = (np.concatenate(each) for each in zip(*parts, strict=True))
    return fit_update(kind, way, old.astype(float), case, weight)


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
