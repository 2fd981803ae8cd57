"""Rivals with one face: each draws configurations, and the one that is best on inner folds is refitted.

All see the same rows at the same landmarks, and have the same number of configurations and the same inner
folds by patient, of training patients alone.

    cox, cox history     stacked Cox models of each cause, on last observations or the whole history
    logistic, ...        the same of a diagnosis
    boosted              gradient boosted hazards (of a diagnosis: classes) on the history of each code
    boosted values       the same on what rows say, without when and how many there are
    clockwork            the same on counts and times of visits and tests, without any value
    forest               random survival forests, cause-specific (of a diagnosis: a random forest)
    gru, transformer     sequence networks over the same rows, without a relation
    joint:CODE           a joint model of one value and survival (the extra "joint"); nothing of it is drawn
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from sklearn.base import BaseEstimator, clone

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.splits import StratifiedPatientKFold
from gnnpatient.errors import InputError, near
from gnnpatient.metrics import integrated_brier
from gnnpatient.prognosis.estimator import PrognosisModel
from gnnpatient.prognosis.forecast import Answer, DiagnosisForecast, Forecast
from gnnpatient.prognosis.inputs import spaced_landmarks
from gnnpatient.prognosis.kinds import target_of
from gnnpatient.prognosis.targets import LabelsTarget, LabelTarget, SurvivalTarget
from gnnpatient.study.baselines import (
    BANDS,
    BoostedClasses,
    BoostedHazards,
    ClassForest,
    StackedCox,
    StackedLogistic,
    SurvivalForest,
    bands,
    fitted_marginal,
    incidence_between,
)
from gnnpatient.study.joint import JointModel
from gnnpatient.study.scoreboard import LEARN_AHEAD
from gnnpatient.study.tabular import ClassModel, CurveModel, TableModel, TableRows, seen_landmarks
from gnnpatient.study.value_baselines import VALUE_COMPARATORS

PUBLISHED_BUDGET = 20  # configurations of each rival in a published table
SCORED_TIMES = 10  # landmark times of an inner fold at which configurations are compared
JOINT = "joint:"  # before the code of a value
MAX_CONTEXT = 10_000  # rows that an in-context model is given
ROUNDING = 1e-3  # by which probabilities of a classifier of one's own may be off


# ---- what is drawn


@dataclass(frozen=True)
class Range:
    """Numbers that are drawn, even on the logarithm.

    Attributes
    ----------
    low, high : float
        Ends, above 0.
    whole : bool
        Whether they are rounded to whole numbers.
    """

    low: float
    high: float
    whole: bool = False

    def draw(self, rng: np.random.Generator) -> float | int:
        """One number.

        Parameters
        ----------
        rng : Generator

        Returns
        -------
        float or int
        """
        found = float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        return round(found) if self.whole else float(f"{found:.3g}")


Space = Mapping[str, Range | Sequence[Any]]
"""Of each parameter its range, or what it may be."""

_RIDGE: Space = {"alpha": Range(0.5, 5000.0)}
_LOGISTIC: Space = {"ridge": Range(0.05, 500.0)}
_TREES: Space = {
    "rate": Range(0.02, 0.2),
    "trees": Range(25, 300, whole=True),
    "leaves": Range(2, 16, whole=True),
    "leaf_patients": Range(5, 60, whole=True),
    "ridge": Range(0.1, 30.0),
    "share": (0.2, 0.5, 1.0),
}
_FOREST: Space = {"leaf_patients": Range(2, 60), "share": (0.05, 0.1, 0.2, 0.4)}
_NETWORK: Space = {
    "channels": (16, 32, 64),
    "num_layers": (1, 2, 3),
    "lr": Range(1e-3, 1e-2),
    "dropout": (0.0, 0.1, 0.2, 0.4),
    "node_dropout": (0.0, 0.1, 0.2),
    "weight_decay": Range(0.03, 3.0),
    "batch_size": (32, 64, 128),
}


def _network(conv: str) -> Callable[..., PrognosisModel]:
    def make(**options: Any) -> PrognosisModel:
        return PrognosisModel(families=("graph",), conv=conv, **options)

    return make


@dataclass(frozen=True, eq=False)
class RivalKind:
    """What is fitted, and what of it is drawn.

    Attributes
    ----------
    make : callable
        Gives an unfitted estimator of parameters.
    space : mapping
        Of each parameter that is drawn.
    fixed : mapping
        Other parameters.
    network : bool
        Whether it is trained in epochs.
    """

    make: Callable[..., Any]
    space: Space
    fixed: Mapping[str, Any]
    network: bool = False


_SEQUENCES = {conv: RivalKind(_network(conv), _NETWORK, {}, True) for conv in ("gru", "transformer")}
_CURVES: Mapping[str, RivalKind] = {
    "cox": RivalKind(StackedCox, _RIDGE, {}),
    "cox history": RivalKind(StackedCox, _RIDGE, {"columns": "history"}),
    "boosted": RivalKind(BoostedHazards, _TREES, {}),
    "boosted values": RivalKind(BoostedHazards, _TREES, {"columns": "values"}),
    "clockwork": RivalKind(BoostedHazards, _TREES, {"columns": "timing"}),
    "forest": RivalKind(SurvivalForest, _FOREST, {}),
    **_SEQUENCES,
}
_CLASSES: Mapping[str, RivalKind] = {
    "logistic": RivalKind(StackedLogistic, _LOGISTIC, {}),
    "logistic history": RivalKind(StackedLogistic, _LOGISTIC, {"columns": "history"}),
    "boosted": RivalKind(BoostedClasses, _TREES, {}),
    "boosted values": RivalKind(BoostedClasses, _TREES, {"columns": "values"}),
    "clockwork": RivalKind(BoostedClasses, _TREES, {"columns": "timing"}),
    "forest": RivalKind(ClassForest, _FOREST, {}),
    **_SEQUENCES,
}
RIVALS: Mapping[str, Mapping[str, RivalKind]] = {
    **dict.fromkeys(("survival", "worsening"), _CURVES),
    **dict.fromkeys(("diagnosis", "ordered", "labels"), _CLASSES),
}
"""The rivals by their names, by the kind of the outcome; those of a value are `VALUE_COMPARATORS`."""


def configurations(space: Space, budget: int, seed: int) -> list[dict[str, Any]]:
    """Draw configurations; the first is that of the defaults.

    Parameters
    ----------
    space : mapping
        Of each parameter its range, or what it may be.
    budget : int
        How many, >= 1.
    seed : int

    Returns
    -------
    list of dict

    Examples
    --------
    >>> configurations({"alpha": Range(1, 100), "share": (0.5, 1.0)}, 3, seed=0)
    [{}, {'alpha': 18.8, 'share': 1.0}, {'alpha': 1.21, 'share': 0.5}]
    """
    if budget < 1:
        raise InputError(f"budget {budget}; must be >= 1, the number of configurations")
    rng, found = np.random.default_rng(seed), [dict[str, Any]()]
    for _ in range(budget - 1):
        found.append(
            {
                name: of.draw(rng) if isinstance(of, Range) else of[int(rng.integers(len(of)))]
                for name, of in space.items()
            }
        )
    return found


# ---- how they are compared


@dataclass(frozen=True)
class Errors:
    """Sums over landmarks and causes: the error of a model, and of the marginal one.

    Attributes
    ----------
    model, null : float
    """

    model: float
    null: float

    @property
    def skill(self) -> float:
        """One minus the error relative to that of the marginal model; nan where nothing is estimable."""
        return 1 - self.model / self.null if self.null > 0 else np.nan

    def __add__(self, other: Errors) -> Errors:
        return Errors(self.model + other.model, self.null + other.null)


def errors_of(answer: Answer, null: Answer, X: Landmarks, outcome: str) -> Errors:
    """Integrated Brier score of each cause, or the Brier score of a diagnosis, at each landmark time.

    Parameters
    ----------
    answer, null : Forecast or DiagnosisForecast
        Of the landmarks, by a model and without inputs, at the same times.
    X : Landmarks
        Held-out patients, at risk.
    outcome : str

    Returns
    -------
    Errors
        Summed over what is estimable.
    """
    target, found = target_of(X, outcome), Errors(0.0, 0.0)
    for rows in X.by_landmark.values():
        rows = rows[target.known[rows]]
        if not len(rows):
            continue
        if isinstance(answer, DiagnosisForecast):
            assert isinstance(target, LabelTarget | LabelsTarget) and isinstance(null, DiagnosisForecast)
            if isinstance(target, LabelsTarget):
                for i, one in enumerate(target.by_label):
                    some = rows[one.known[rows]]
                    truth, share = one.label[some], one.share[some]
                    risks = (each.probability[some, i] for each in (answer, null))
                    found += Errors(*(float(share @ (risk - truth) ** 2) for risk in risks))
                continue
            truth = np.eye(len(answer.classes))[target.label[rows]]
            share = target.share[rows, None]
            both = [float((share * (one.probability[rows] - truth) ** 2).sum()) for one in (answer, null)]
            found += Errors(*both)
            continue
        assert isinstance(answer, Forecast) and isinstance(null, Forecast)
        assert isinstance(target, SurvivalTarget)
        of = target.time[rows], target.event[rows]
        for k in range(1, 1 + len(answer.causes)):
            if not (target.event == k).any():
                continue
            both = [
                integrated_brier(one.incidence[rows, k], one.times, *of, cause=k)[0] for one in (answer, null)
            ]
            if np.isfinite(both).all():
                found += Errors(len(rows) * both[0], len(rows) * both[1])
    return found


@dataclass(frozen=True)
class Trial:
    """One configuration, and how it did.

    Attributes
    ----------
    configuration : mapping
        Parameters; empty: the defaults.
    score : float or None
        Scaled integrated Brier score (of a diagnosis scaled Brier score) over the inner folds, the higher the
        better; None: the only one, not scored.
    """

    configuration: Mapping[str, Any]
    score: float | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON.

        Returns
        -------
        dict
        """
        return {"configuration": dict(self.configuration), "score": self.score}


class TunedRival(BaseEstimator):
    """A rival whose configuration is chosen among several drawn ones on inner folds by patient.

    The inner folds are of the training patients alone; columns, scales and names of an inner fold are those
    of its own training part. The chosen configuration is refitted on all of them.

    Parameters
    ----------
    name : str
        One of `RIVALS` of the outcome's kind.
    outcome : str
        Name of the outcome.
    horizon : float, optional
        Days up to which patients are followed; default: the longest follow-up. Not for a diagnosis.
    budget : int, default 3
        Configurations that are drawn, the defaults among them; a published table has 20.
    inner : int, default 3
        Folds.
    min_patients : int, default 10
        Codes and levels of fewer training patients count as one.
    members : int, default 5
        Networks of a sequence network whose mean is the answer; while it is chosen one.
    epochs : int, default 30
        Of a sequence network, at most.
    seed : int, default 0
        Of draws, folds and fits.
    device : str, default "auto"
        Where sequence networks are fitted.

    Attributes
    ----------
    curve_ : tuple of Trial
        Every configuration with its score, in the order drawn.
    chosen_ : dict
        The best one.
    model_ : estimator
        Refitted on all training patients.
    saw_ : dict
        Landmarks, their times and patients that it was fitted on; configurations and inner folds.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> X = pbc().landmarks(times=[0, 365]).followed("death")
    >>> rival = TunedRival("cox", outcome="death", horizon=1826.0, budget=4).fit(X)
    >>> [trial.score is not None for trial in rival.curve_], rival.chosen_ in [
    ...     trial.configuration for trial in rival.curve_]
    ([True, True, True, True], True)
    """

    def __init__(
        self,
        name: str,
        *,
        outcome: str,
        horizon: float | None = None,
        budget: int = 3,
        inner: int = 3,
        min_patients: int = 10,
        members: int = 5,
        epochs: int = 30,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.name = name
        self.outcome = outcome
        self.horizon = horizon
        self.budget = budget
        self.inner = inner
        self.min_patients = min_patients
        self.members = members
        self.epochs = epochs
        self.seed = seed
        self.device = device

    def fit(self, X: Landmarks, y: None = None) -> TunedRival:
        """Draw, choose and refit.

        Parameters
        ----------
        X : Landmarks
            Training patients at prediction times.
        y : None
            Ignored; outcomes are read from X.

        Returns
        -------
        TunedRival

        Raises
        ------
        InputError
            When there is no such rival of the outcome's kind, or nothing can be learned or compared.
        """
        known = X.cohort.outcomes_with_model([self.outcome])[self.outcome]
        kind = rival_kind(self.name, known.kind, self.outcome)
        X = X.followed(self.outcome)
        drawn = configurations(kind.space, self.budget, self.seed)
        scores = self._scores(kind, X, drawn) if len(drawn) > 1 else [None]
        self.curve_ = tuple(Trial(one, score) for one, score in zip(drawn, scores, strict=True))
        best = max(self.curve_, key=lambda trial: -np.inf if trial.score is None else trial.score)
        self.chosen_ = dict(best.configuration)
        self.model_ = self._fitter(kind, X, self.members)(self.chosen_)
        saw = getattr(self.model_, "saw_", {}).get(self.outcome, {})
        self.saw_ = {**seen_landmarks(X), **saw}
        self.saw_ |= {"configurations": self.budget, "inner": self.inner if self.budget > 1 else 0}
        return self

    def _horizon(self, X: Landmarks) -> float | None:
        if not X.cohort.outcomes[self.outcome].has_curve:
            return None
        return float(self.horizon or X.outcome(self.outcome)["time"].max())

    def _fitter(self, kind: RivalKind, X: Landmarks, members: int) -> Callable[[Mapping[str, Any]], Any]:
        """What fits a configuration to some landmarks, which are read once."""
        options: dict[str, Any] = {
            **kind.fixed,
            "outcomes": [self.outcome],
            "min_patients": self.min_patients,
        }
        if (horizon := self._horizon(X)) is not None:
            options["horizon"] = horizon
        if kind.network:
            options |= {"members": members, "epochs": self.epochs, "seed": self.seed, "device": self.device}
            return lambda chosen: kind.make(**{**options, **chosen}).fit(X)
        base = kind.make(**options)
        if "seed" in base.get_params():
            base.set_params(seed=self.seed)
        assert isinstance(base, TableModel)
        rows = {self.outcome: base.rows(X, self.outcome)}
        return lambda chosen: clone(base).set_params(**chosen).fit_rows(rows)

    def _scores(self, kind: RivalKind, X: Landmarks, drawn: Sequence[Mapping[str, Any]]) -> list[float]:
        """The skill of each configuration over the inner folds."""
        folds = StratifiedPatientKFold(self.inner, seed=self.seed, outcome=self.outcome)
        sums = [Errors(0.0, 0.0)] * len(drawn)
        # every inner part is followed as far as the whole, so that curves have the same times
        whole = clone(self).set_params(horizon=self._horizon(X))
        y = target_of(X, self.outcome).strata
        for train, test in folds.split(X, y, X.groups):
            fit = whole._fitter(kind, X[train], members=1)
            held = X[test]
            if not X.cohort.outcomes[self.outcome].has_own_moments:
                held = spaced_landmarks(held, SCORED_TIMES)
            for i, one in enumerate(drawn):
                answer = fit(one).forecast(held)[self.outcome]
                times = answer.times.tolist() if isinstance(answer, Forecast) else []
                null = fitted_marginal(X[train], self.outcome, times).forecast(held)[self.outcome]
                sums[i] += errors_of(answer, null, held, self.outcome)
        scores = [one.skill for one in sums]
        if not np.isfinite(scores).all():
            raise InputError(
                f"{self.name}: nothing can be estimated on {self.inner} inner folds of "
                f"{len(np.unique(X.patient))} patients; give budget=1, a shorter horizon or fewer inner folds"
            )
        return scores

    def forecast(self, X: Landmarks) -> Mapping[str, Answer]:
        """Forecast landmarks.

        Parameters
        ----------
        X : Landmarks

        Returns
        -------
        mapping of str to Forecast or DiagnosisForecast
            Of the one outcome.
        """
        found: Mapping[str, Answer] = self.model_.forecast(X)
        return found


def rival_kind(name: str, kind: str, outcome: str) -> RivalKind:
    """Find a rival by its name.

    Parameters
    ----------
    name : str
    kind : str
        Of the outcome.
    outcome : str
        Its name, for the message.

    Returns
    -------
    RivalKind

    Raises
    ------
    InputError
        When there is none.
    """
    known = RIVALS.get(kind, {})
    if name not in known:
        there = ", ".join(known) or "none"
        raise InputError(
            f"no rival {name!r} of outcome {outcome!r}, a {kind}{near(name, known)}; there is {there}"
        )
    return known[name]


def tuned_rivals(
    rivals: Sequence[str] | Mapping[str, Any], kind: str, outcome: str, **options: Any
) -> dict[str, Any]:
    """Unfitted rivals by the names that they have in tables.

    Parameters
    ----------
    rivals : sequence of str, or mapping of str to estimator
        Names of `RIVALS`, each called "tuned NAME" in tables (of a value those of `VALUE_COMPARATORS`, which
        choose by themselves); or ``"joint:CODE"``, of survival a joint model of one value (see
        `gnnpatient.study.joint.JointModel`); or ``"NAME=FILE.py:CLASS"``, a classifier of tables of your own
        (see `OwnCurves`); or estimators of your own by a name, with ``fit(X)`` and ``forecast(X)``.
    kind : str
        Of the outcome.
    outcome : str
    **options
        Parameters of TunedRival; and to, the days ahead at which a value is asked for.

    Returns
    -------
    dict of str to estimator

    Raises
    ------
    InputError
        When a name is unknown, or an estimator lacks a method.
    """
    if isinstance(rivals, str):
        raise InputError(f"rivals = {rivals!r}; must be a list of names, as in [{rivals!r}]")
    if isinstance(rivals, Mapping):
        for name, one in rivals.items():
            if not (callable(getattr(one, "fit", None)) and callable(getattr(one, "forecast", None))):
                raise InputError(f"rival {name!r}: give an unfitted estimator with fit(X) and forecast(X)")
        return dict(rivals)
    if options.get("budget", 1) < 1:
        raise InputError(f"configurations {options['budget']}; must be >= 1")
    found: dict[str, Any] = {}
    to = options.pop("to", None)
    if kind == "progression":
        last = None if to is None else LEARN_AHEAD * to
        for name in rivals:
            if name not in VALUE_COMPARATORS:
                there = ", ".join(VALUE_COMPARATORS)
                raise InputError(
                    f"no rival {name!r} of a value{near(name, VALUE_COMPARATORS)}; there is {there}"
                )
            least = options.get("min_patients", 10)
            found[name] = VALUE_COMPARATORS[name](outcomes=[outcome], horizon=last, min_patients=least)
        return found
    for name in rivals:
        if name.startswith(JOINT):
            if kind != "survival":
                raise InputError(f"rival {name!r} of outcome {outcome!r}, a {kind}; it is for survival")
            found[name] = JointModel(
                outcomes=[outcome],
                code=name.removeprefix(JOINT),
                horizon=options.get("horizon"),
                seed=options.get("seed", 0),
            )
            continue
        own, _, place = name.partition("=")
        if place:
            if not own:
                raise InputError(f"rival {name!r} has no name; give NAME=FILE.py:CLASS")
            _own(place, None)  # refused before anything is fitted
            given = {key: options[key] for key in ("min_patients", "seed") if key in options}
            if kind in ("survival", "worsening"):
                found[own] = OwnCurves(place, outcomes=[outcome], horizon=options.get("horizon"), **given)
            else:
                found[own] = OwnClasses(place, outcomes=[outcome], **given)
            continue
        rival_kind(name, kind, outcome)
        found[f"tuned {name}"] = TunedRival(name, outcome=outcome, **options)
    return found


def told_of(model: Any, outcome: str) -> dict[str, Any]:
    """What a fitted rival saw, and of one by name how its configuration was chosen, for JSON.

    Parameters
    ----------
    model : estimator
        Fitted.
    outcome : str
        Of those that it forecasts.

    Returns
    -------
    dict
        saw (landmarks, times, patients), and of a TunedRival chosen and curve.
    """
    saw = getattr(model, "saw_", {})
    if not isinstance(model, TunedRival):
        return {"saw": dict(saw.get(outcome, {}))}
    return {
        "saw": dict(saw),
        "chosen": dict(model.chosen_),
        "curve": [trial.to_dict() for trial in model.curve_],
    }


# ---- models of tables from elsewhere


@runtime_checkable
class TableClassifier(Protocol):
    """A classifier of tables as scikit-learn has it, such as an in-context model.

    Attributes
    ----------
    classes_ : (class,) array
        What it has learned to tell, rising.
    """

    classes_: np.ndarray

    def fit(self, x: np.ndarray, y: np.ndarray) -> Any:
        """Learn, or keep the rows as the context.

        Parameters
        ----------
        x : (row, column) float64 array
            nan is missing.
        y : (row,) int64 array

        Returns
        -------
        object
            Not used.
        """

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Probability of each of `classes_`.

        Parameters
        ----------
        x : (row, column) float64 array

        Returns
        -------
        (row, class) array
            From 0 to 1, a row sums to 1; anything else is refused.
        """


def find_class(path: str) -> type:
    """A class by its place: ``"FOLDER/FILE.py:NAME"`` of your own, or ``"package.module:NAME"``.

    The file's code is run, as that of any module that you import; nothing is downloaded.

    Parameters
    ----------
    path : str

    Returns
    -------
    type

    Raises
    ------
    InputError
        When there is no such file, module or class.

    Examples
    --------
    >>> find_class("sklearn.neighbors:KNeighborsClassifier").__name__
    'KNeighborsClassifier'
    """
    place, _, name = path.rpartition(":")
    if not place or not name:
        raise InputError(f"{path!r}: give FILE.py:CLASS or package.module:CLASS")
    if place.endswith(".py"):
        file = Path(place).expanduser().resolve()
        if not file.is_file():
            raise InputError(f"{place}: no such file; give FILE.py:CLASS")
        spec = importlib.util.spec_from_file_location(f"gnnpatient_own_{file.stem}", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # its classes are found by it, as dataclasses need
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # whatever a file of the user's own does
            why = f"{type(error).__name__}: {error}"
            raise InputError(f"{place}: cannot be run ({why}); mend the file") from None
    else:
        try:
            module = importlib.import_module(place)
        except ImportError as error:
            raise InputError(f"{place}: cannot be imported ({error}); give FILE.py:CLASS") from None
    found = getattr(module, name, None)
    if not isinstance(found, type):
        classes = [key for key, one in vars(module).items() if isinstance(one, type)]
        raise InputError(f"{place} has no class {name!r}{near(name, classes)}")
    return found


def _own(model: Any, options: Mapping[str, Any] | None) -> Any:
    """A new classifier: of a place, of a class, or a copy of an unfitted object."""
    if isinstance(model, str):
        model = find_class(model)
    try:
        made = model(**(options or {})) if isinstance(model, type) else clone(model, safe=False)
    except TypeError as error:
        raise InputError(f"{error}; give a class whose parameters all have defaults, or options") from None
    for method in ("fit", "predict_proba"):
        if not callable(getattr(made, method, None)):
            raise InputError(f"{type(made).__name__} has no {method}; a classifier of tables has both")
    return made


def _taught(made: Any, x: np.ndarray, y: np.ndarray) -> None:
    """Fit a classifier of the user's own, whose errors are told as its own."""
    try:
        made.fit(x, y)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        told = f"{type(made).__name__}.fit of {len(x)} rows and {x.shape[1]} columns, nan where missing"
        raise InputError(f"{told}: {why}") from error


@dataclass(frozen=True, eq=False)
class _OwnClasses:
    model: Any
    classes: int

    def probability(self, x: np.ndarray) -> np.ndarray:
        return _by_class(self.model, x, self.classes)


def _by_class(model: Any, x: np.ndarray, classes: int) -> np.ndarray:
    """Probability of each class by a classifier of the user's own, once it is seen that it gave some."""
    out, name = np.zeros((len(x), classes)), type(model).__name__
    if not len(x):
        return out
    learned = np.asarray(getattr(model, "classes_", ()))
    if not len(learned) or not np.isin(learned, np.arange(classes)).all() or len(set(learned)) < len(learned):
        raise InputError(
            f"{name}.classes_: {learned.tolist()}; must be those of the y that its fit was given"
        )
    told = f"{name}.predict_proba of {len(x)} rows and {x.shape[1]} columns"
    try:
        given = np.asarray(model.predict_proba(x), np.float64)
    except Exception as error:
        raise InputError(f"{told}: {type(error).__name__}: {error}") from error
    if given.shape != (shape := (len(x), len(learned))):
        raise InputError(f"{told} gave {given.shape}; must be {shape}, a column each of its classes_")
    if lost := int((~np.isfinite(given)).any(1).sum()):
        raise InputError(f"{told} gave {lost} rows that are not finite; must be probabilities")
    low, high = float(given.min()), float(given.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise InputError(f"{told} gave {low:.4g} to {high:.4g}; must be probabilities, from 0 to 1")
    total = given.sum(1)
    far = float(total[np.abs(total - 1).argmax()])
    if abs(far - 1) > ROUNDING:
        raise InputError(f"{told} gave a row with the sum {far:.4g}; the classes of a row must sum to 1")
    out[:, learned.astype(int)] = given.clip(0, 1)
    return out


@dataclass(frozen=True, eq=False)
class _OwnHazards:
    """In each band of the follow-up the chance of each cause, among those event-free at its begin."""

    model: Any
    ends: np.ndarray
    causes: int

    def incidence(self, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
        total = np.zeros((len(x), self.causes, len(self.ends)))
        for band in range(len(self.ends)):
            chance = _by_class(self.model, np.column_stack([x, np.full(len(x), band)]), 1 + self.causes)
            leave = chance[:, 1:].sum(1).clip(1e-12, 1 - 1e-6)
            total[:, :, band] = -np.log1p(-leave)[:, None] * chance[:, 1:] / leave[:, None]
        return incidence_between(total.cumsum(2), self.ends, grid)


def _context(rows: TableRows, size: int, seed: int, *, most: int = MAX_CONTEXT) -> np.ndarray:
    """Which of `size` rows are kept."""
    if size <= most:
        return np.arange(size)
    return np.sort(np.random.default_rng(seed).permutation(size)[:most])


class OwnCurves(CurveModel):
    """Survival by any classifier of tables of your own, such as an in-context model.

    The follow-up is cut into bands with as many events each. A row is a landmark in a band that it is in
    sight for: the history of each code, and the band; its class is the cause that came there, or none. So a
    classifier without weights learns hazards of censored data. Who is censored in a band counts as free of
    the event there from half of it on, and is left out before (the life table's rule).

    Parameters
    ----------
    model : str, type or object
        ``"FOLDER/FILE.py:CLASS"``, ``"package.module:CLASS"``, a class, or an unfitted object, with
        ``fit(x, y)``, ``predict_proba(x)`` and ``classes_``. Nothing is downloaded.
    options : mapping, optional
        Parameters of the class.
    outcomes, horizon, landmarks, min_patients
        As of StackedCox.
    context : int, default 10000
        Rows that it is given at most, drawn.
    seed : int, default 0

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> X = pbc().landmarks(times=[0, 365]).followed("death")
    >>> mine = OwnCurves("sklearn.ensemble:ExtraTreesClassifier", {"min_samples_leaf": 20, "random_state": 0},
    ...                  outcomes=["death"], horizon=1826.0).fit(X)
    >>> mine.forecast(X[4:6])["death"].risk("death").round(1)
    array([0. , 0.9])
    """

    _scaled: ClassVar[bool] = False
    columns = "history"

    def __init__(
        self,
        model: Any,
        options: Mapping[str, Any] | None = None,
        *,
        outcomes: Sequence[str] | None = None,
        horizon: float | None = None,
        landmarks: int | None = None,
        context: int = MAX_CONTEXT,
        min_patients: int = 10,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.options = options
        self.outcomes = outcomes
        self.horizon = horizon
        self.landmarks = landmarks
        self.context = context
        self.min_patients = min_patients
        self.seed = seed

    def learn(self, rows: TableRows) -> _OwnHazards:
        """Give the rows of all bands to the classifier.

        Parameters
        ----------
        rows : TableRows

        Returns
        -------
        CurveLearner
        """
        ends = bands(rows, BANDS)
        begun, last = np.append(0.0, ends[:-1]), np.searchsorted(ends, rows.time).clip(max=len(ends) - 1)
        row, band = np.nonzero(rows.time[:, None] > begun)
        had = np.where(last[row] == band, rows.code[row], 0)
        known = (had > 0) | (rows.time[row] >= (begun[band] + ends[band]) / 2)
        row, band, had = row[known], band[known], had[known]
        some = _context(rows, len(row), self.seed, most=self.context)
        made = _own(self.model, self.options)
        _taught(made, np.column_stack([rows.x[row[some]], band[some].astype(np.float64)]), had[some])
        return _OwnHazards(made, ends, len(rows.names))


class OwnClasses(ClassModel):
    """A diagnosis by any classifier of tables of your own, such as an in-context model.

    Landmarks of the label, each with the history of each code. Where labels have weights (a diagnosis within
    a window, by censoring), rows are drawn by these, since a classifier in context takes none.

    Parameters
    ----------
    model, options, context, seed
        As of OwnCurves.
    outcomes, landmarks, min_patients
        As of StackedLogistic.
    """

    _scaled: ClassVar[bool] = False
    columns = "history"

    def __init__(
        self,
        model: Any,
        options: Mapping[str, Any] | None = None,
        *,
        outcomes: Sequence[str] | None = None,
        landmarks: int | None = None,
        context: int = MAX_CONTEXT,
        min_patients: int = 10,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.options = options
        self.outcomes = outcomes
        self.landmarks = landmarks
        self.context = context
        self.min_patients = min_patients
        self.seed = seed

    def learn(self, rows: TableRows) -> _OwnClasses:
        """Give the rows to the classifier.

        Parameters
        ----------
        rows : TableRows

        Returns
        -------
        ClassLearner
        """
        some = _context(rows, len(rows.x), self.seed, most=self.context)
        if np.ptp(rows.weight) > 1e-12:
            rng = np.random.default_rng(self.seed)
            steps = (np.arange(len(some)) + rng.random()) / len(some) * rows.weight.sum()
            some = np.searchsorted(rows.weight.cumsum(), steps).clip(max=len(rows.x) - 1)
        made = _own(self.model, self.options)
        _taught(made, rows.x[some], rows.code[some])
        return _OwnClasses(made, len(rows.names))
