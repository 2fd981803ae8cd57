"""Cross-validation: models, a plain comparator and the marginal model, all refitted in each fold."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.errors import InputError, InputTypeError
from gnnpatient.prognosis.estimator import PrognosisModel
from gnnpatient.prognosis.forecast import Answer
from gnnpatient.prognosis.predictor import Predictor
from gnnpatient.prognosis.run import (
    CHOICES,
    PLAN,
    Run,
    scored_landmarks,
    training_landmarks,
    usual_landmarks,
)
from gnnpatient.progress import Progress, shown
from gnnpatient.show import Shown, Summary, counted
from gnnpatient.study.baselines import COMPARATORS, tell_saw
from gnnpatient.study.evaluate import Evaluation, evaluate, scored_parts
from gnnpatient.study.fitted import NO_GRAPH, family_models
from gnnpatient.study.folds import Fold, check_folds, make_folds, read_folds
from gnnpatient.study.models import (
    GivenForecast,
    answer_of,
    check_choices,
    check_held_out,
    comparators_of,
    horizon_days,
    observed_reach,
    reach_of,
    scored_times,
)
from gnnpatient.study.scoreboard import Model, ModelRisks
from gnnpatient.study.validation import refuse_censoring
from gnnpatient.times import days

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class FoldCounts:
    """Who was on which side of a fold.

    Attributes
    ----------
    repeat, fold : int
        As the fold file has them.
    trained, scored : int
        Patients whom the models were fitted on, and patients scored.
    """

    repeat: int
    fold: int
    trained: int
    scored: int


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation(Shown):
    """The answer of `cross_validate`.

    Attributes
    ----------
    scores : Evaluation
        The pooled figures, a row each: patients are compared within a fold only, intervals resample patients
        or groups over all folds.
    folds : tuple of FoldCounts
        Who was fitted on and scored, a fold each.
    risks : ModelRisks
        The scored landmarks with the risks of each model.
    notes : tuple of str
        What to know beside the figures.
    """

    scores: Evaluation
    folds: tuple[FoldCounts, ...]
    risks: ModelRisks
    notes: tuple[str, ...] = ()

    def _summary(self) -> Summary:
        found = self.scores._summary()
        folds = counted(len(self.folds), "fold")
        return replace(found, title=f"{found.title}, each when held out, in {folds}")

    def to_dict(self) -> dict[str, Any]:
        """The figures for JSON, as of an evaluation, and the counts of each fold.

        Returns
        -------
        dict
        """
        return {**self.scores.to_dict(), "folds": [vars(fold) for fold in self.folds]}

    def to_frame(self) -> pl.DataFrame:
        """Make a table of the figures, see `Evaluation.to_frame`.

        Returns
        -------
        polars.DataFrame
        """
        return self.scores.to_frame()

    def value(self, model: str, metric: str, **where: Any) -> dict[str, Any]:
        """The one row of a model and a metric, see `Evaluation.value`.

        Parameters
        ----------
        model : str
            A model, or a difference such as "gnn-cox".
        metric : str
            Name of the score.
        **where
            As far as it is needed to tell rows apart.

        Returns
        -------
        dict
        """
        return self.scores.value(model, metric, **where)


def cross_validate(
    cohort: Cohort,
    models: Mapping[str, Any] | str = "gnn",
    outcome: str | None = None,
    *,
    cause: str | None = None,
    folds: int | Sequence[Fold] | str | Path = 5,
    landmarks: Sequence[float | str] | None = None,
    fit_at: Sequence[float | str] | str = "random",
    horizons: Sequence[float | str] | None = None,
    to: float | str | None = None,
    by: Sequence[str] = (),
    censoring: str = "km",
    n: int = 200,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> CrossValidation:
    """Refit models in each fold on its training patients, and score all patients, each when held out.

    Of "gnn", a `PrognosisModel`, each family is scored alone, too ("graph", "linear", "boosted"), and
    "gnn-nograph" is what its graph adds. Beside the models a stacked Cox model ("cox"; of a diagnosis
    "logistic") and the marginal model ("null") are refitted in each fold at the same landmarks. Patients are
    compared within a fold only, since two folds have two models; the pairs of all folds are summed.

    Parameters
    ----------
    cohort : Cohort
    models : mapping of str to model, or "gnn"
        By a name for the tables: an unfitted estimator with ``fit(X)`` and ``forecast(X)`` (which gives
        ``{outcome: Forecast}``), copied anew for each fold; or "gnn", the default: a `PrognosisModel` of the
        outcome with its default choices.
    outcome : str, optional
        Name of the outcome; default: the only one.
    cause : str, optional
        The one cause or class to score; default: all. A forecast of this cause alone is enough then.
    folds : int, sequence of Fold, str or Path, default 5
        How many to make, by patient and group; or folds; or a file with columns repeat, fold, id.
    landmarks : sequence of float or "entry", optional
        Days after the origin at which patients are scored; default: those of `fit_at`, or entry, and where
        anything becomes known after it 1, 3 and 5 years, or quarters of a shorter follow-up.
    fit_at : sequence of float or "entry", or "random", default "random"
        Where models are fitted: at these days, or at entry and 63 drawn times.
    horizons : sequence of float or str, optional
        Days after the landmark, or durations as in "5y"; default: 1, 3 and 5 years, or thirds of a shorter
        time, as far as all models forecast and the outcome is observed in every fold. None for a diagnosis.
    to : float or str, optional
        Days after the landmark, or a duration as in "1y", at which a value is asked for; needed for a
        progression, and for it alone.
    by : sequence of str, default ()
        Columns by which the figures are repeated in groups.
    censoring : {"km", "cox"}, default "km"
        Weights that are alike for all, or, beside these, by a Cox model of being lost.
    n : int, default 200
        Bootstrap draws for the intervals; these hold the fitted models fixed.
    seed : int, default 0
        Of folds that are made, drawn landmarks and draws.
    progress : Progress or bool, optional
        Called after each fit as ``progress("fold 1 of 5: gnn", done, total)``; True for bars.

    Returns
    -------
    CrossValidation

    Raises
    ------
    InputError
        When a model cannot be refitted or its forecast is not one of the scored landmarks, a group is on both
        sides of a fold, nobody is at risk, or a name or horizon is unknown.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> from gnnpatient.study.baselines import StackedCox
    >>> mine = StackedCox(horizon=1826.0, landmarks=1)
    >>> found = cross_validate(pbc(), {"mine": mine}, "death", folds=2, landmarks=["entry"], n=20)
    >>> found.value("mine-cox", "auc", cause="death", landmark=0, horizon=1095.75)["interval"]
    'patients'
    """
    _check_cohort(cohort)
    horizons = horizon_days(horizons)
    name = cohort.outcome_names(outcome, one=True)[0]
    fitted_at = fit_at if isinstance(fit_at, str) else list(fit_at)
    if isinstance(fitted_at, str) and fitted_at != "random":
        raise InputError(f'fit_at = {fit_at!r}; give "random", or days, as in ["entry", 365]')
    plan = {"outcomes": [name], "landmarks": fitted_at, "seed": seed}
    setting = _Setting(cohort, name, cause, plan, landmarks, horizons, None if to is None else days(to))
    named = {"gnn": models} if isinstance(models, str) else models
    setting.check(named)
    last = None if horizons is None else max(map(float, horizons))
    default = PrognosisModel(outcomes=[name], horizon=last, seed=seed)
    refitted = {key: _estimator(key, model, default) for key, model in named.items()}
    splits = _folds(cohort, name, folds, seed)
    with shown(progress) as report:
        return _cross_validate(setting, refitted, splits, by, censoring, n, seed, report)


def cross_validate_run(
    run: Run | str | Path,
    cohort: Cohort,
    outcome: str | None = None,
    *,
    folds: int | Sequence[Fold] | str | Path = 5,
    landmarks: Sequence[float | str] | None = None,
    horizons: Sequence[float | str] | None = None,
    to: float | str | None = None,
    by: Sequence[str] = (),
    censoring: str = "km",
    n: int = 200,
    device: str = "auto",
    progress: Progress | bool | None = None,
) -> CrossValidation:
    """Refit a run in each fold of a cohort: its outcomes, landmarks, horizon, members and all other choices.

    Parameters
    ----------
    run : Run, str or Path
        Whose choices are refitted; its fitted model is not used. A run of another cohort lends its choices.
    cohort : Cohort
        All of whose patients are scored, each when held out.
    outcome : str, optional
        May be left out where the run has one outcome.
    folds : int, sequence of Fold, str or Path, default 5
        As in `cross_validate`.
    landmarks : sequence of float or str, optional
        Days after the origin, and "entry"; default those of the fit, or entry, 1, 3 and 5 years.
    horizons : sequence of float or str, optional
        Days after the landmark, or durations; default 1, 3 and 5 years as far as the models go. None for a
        diagnosis.
    to : float or str, optional
        As in `cross_validate`.
    by : sequence of str, optional
        Columns by which the figures are repeated in groups.
    censoring : {"km", "cox"}, optional
        As in `cross_validate`.
    n : int, default 200
        Bootstrap draws for the intervals.
    device : str, default "auto"
        Where to compute.
    progress : Progress or bool, optional
        Called after each fit; True for bars.

    Returns
    -------
    CrossValidation

    Raises
    ------
    InputError
        When it is no run, its outcomes or node types are not in the cohort, or as `cross_validate`.
    """
    refuse_censoring(censoring)
    horizons = horizon_days(horizons)
    opened = run if isinstance(run, Run) else _open_run(run)
    names = tuple(cohort.outcomes_with_model(opened.plan["outcomes"]))
    if outcome is None and len(names) > 1:
        raise InputError(f"several outcomes; name one of {', '.join(names)} with --outcome")
    name = cohort.check_outcome(outcome or names[0])
    if name not in names:
        raise InputError(f"the run has no outcome {name!r}; it has {', '.join(names)}")
    setting = _Setting(cohort, name, None, opened.plan, landmarks, horizons, None if to is None else days(to))
    model = PrognosisModel(**{choice: opened.plan[choice] for choice in CHOICES}, device=device)
    setting.check({"gnn": model})
    splits = _folds(cohort, name, folds, int(opened.plan["seed"]))
    with shown(progress) as report:
        found = _cross_validate(setting, {"gnn": model}, splits, by, censoring, n, 0, report)
    return replace(found, notes=tuple(refit_notes(opened, cohort)))


def refit_notes(run: Run | str | Path, cohort: Cohort) -> list[str]:
    """Say whose choices will be refitted, and on whom.

    Parameters
    ----------
    run : Run, str or Path
    cohort : Cohort

    Returns
    -------
    list of str

    Raises
    ------
    InputError
        When it is no run.
    """
    opened = run if isinstance(run, Run) else _open_run(run)
    lines = [f"refitting the choices of {opened.folder} in folds of all {len(cohort)} patients"]
    if cohort.manifest_hash != opened.cohort["manifest_hash"]:
        lines.append(f"the run was fitted on another cohort ({opened.cohort['name']}): it lends its choices")
    return lines


def _open_run(folder: str | Path) -> Run:
    """A run; of a model alone it is said why that is not enough."""
    path = Path(folder)
    if (path / "config.json").is_file() and not (path.parent / "run.json").is_file():
        raise InputError(f"{path}: a model alone; give the RUN of fit, which holds the choices to refit")
    return Run.open(path)


@dataclass(frozen=True, eq=False)
class _Setting:
    """What is forecast, where models are fitted, and where they are scored."""

    cohort: Cohort
    outcome: str
    cause: str | None
    plan: Mapping[str, Any]  # outcomes, landmarks and seed of the fits
    landmarks: Sequence[float | str] | None
    horizons: Sequence[float] | None
    to: float | None

    def check(self, models: Mapping[str, Any]) -> None:
        """Refuse what means nothing, before anything is fitted."""
        check_choices(self.cohort, self.outcome, models, self.cause, self.horizons)
        if self.landmarks is not None and self.cohort.outcomes[self.outcome].has_own_moments:
            raise InputError(f"outcome {self.outcome!r} has prediction times of its own; leave out landmarks")
        if self.landmarks is not None and not len(self.landmarks):
            raise InputError("landmarks = []; name at least one, or leave them out")

    @property
    def at(self) -> list[float | str]:
        """The landmarks that are scored."""
        fitted_at = self.plan["landmarks"]
        if self.landmarks is not None:
            return list(self.landmarks)
        return usual_landmarks(self.cohort, self.outcome) if fitted_at == "random" else list(fitted_at)

    @property
    def has_curve(self) -> bool:
        """Whether the outcome is survival."""
        return bool(self.cohort.outcomes[self.outcome].has_curve)

    @property
    def least(self) -> int:
        """Fewest training patients from whom a name is learned, for the comparator."""
        return int(self.plan.get("min_patients", PLAN["min_patients"]))


def _check_cohort(cohort: object) -> None:
    """Refuse what is no cohort; its landmarks are named beside it."""
    if isinstance(cohort, Cohort):
        return
    way = "theirs is X.cohort" if isinstance(cohort, Landmarks) else "read_cohort and open_cohort give one"
    raise InputTypeError(
        f"cross_validate: {type(cohort).__name__} where a cohort is wanted; {way}, and landmarks=[...] "
        "says when"
    )


def _folds(cohort: Cohort, outcome: str, folds: int | Sequence[Fold] | str | Path, seed: int) -> list[Fold]:
    """The folds that are made, read or given; refused where a group is on both sides."""
    if isinstance(folds, int | np.integer):
        splits = make_folds(cohort, outcome, int(folds), seed)
    elif isinstance(folds, str | Path):
        splits = read_folds(folds, cohort)
    else:
        splits = list(folds) if isinstance(folds, Iterable) else []
        if not (splits and all(isinstance(one, Fold) for one in splits)):
            raise InputTypeError(
                "folds: give a number, a file with columns repeat, fold, id, or folds of "
                "gnnpatient.study.folds, as make_folds and read_folds make them"
            )
    check_folds(cohort, splits)
    return splits


def _estimator(name: str, model: Any, default: PrognosisModel) -> Any:
    """An unfitted model; the word "gnn" is the default one."""
    if isinstance(model, str):
        if model != "gnn":
            raise InputError(f'models: {model!r} is no model; give an estimator, or "gnn"')
        return default
    if isinstance(model, type) or not callable(getattr(model, "forecast", None)):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise InputError(f"model {name!r} is {what}; give an object with fit(X) and forecast(X)")
    if not callable(getattr(model, "fit", None)):
        raise InputError(
            f"model {name!r} has no fit(X), so that it cannot be refitted; score it as it is on patients "
            "that it has not seen, with evaluate_models"
        )
    if not _is_estimator(model) and getattr(model, "train_ids_", None):
        raise InputError(
            f"model {name!r} is fitted already, and its copies may remember that; give a new one"
        )
    return model


def _is_estimator(model: Any) -> bool:
    """Whether scikit-learn can make an unfitted copy."""
    return callable(getattr(model, "get_params", None))


def _copied(name: str, model: Any) -> Any:
    """A copy of an unfitted model: no fold sees what another one learned."""
    try:
        return clone(model) if _is_estimator(model) else copy.deepcopy(model)
    except Exception as error:
        found = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(
            f"model {name!r} cannot be copied anew for each fold ({found}); make in fit(X) what cannot be "
            "copied"
        ) from error


def _refit(name: str, model: Any, X: Landmarks, progress: Progress | None) -> Any:
    """A copy of a model, fitted on X."""
    fresh = _copied(name, model)
    with_epochs = type(model) is PrognosisModel and progress is not None
    fitted = fresh.fit(X, progress=progress) if with_epochs else fresh.fit(X)
    return fitted if callable(getattr(fitted, "forecast", None)) else fresh


def _cross_validate(
    setting: _Setting,
    models: Mapping[str, Any],
    splits: Sequence[Fold],
    by: Sequence[str],
    censoring: str,
    n: int,
    seed: int,
    progress: Progress | None,
) -> CrossValidation:
    """Fit and forecast in each fold, then score all folds together."""
    cohort, outcome = setting.cohort, setting.outcome
    sides = [_sides(setting, fold) for fold in splits]
    held_out = np.unique(np.concatenate([fold.test for fold in splits]))
    scored = scored_landmarks(cohort, held_out, outcome, setting.at, setting.to)
    scored_parts(scored, outcome, by, censoring)  # what is wrong is said before anything is fitted
    comparators = tuple(COMPARATORS[cohort.outcomes[outcome].kind])
    step = _Steps(len(splits), [*models, comparators[0]], progress)
    parts, answers, counts = [], [], []
    reach = _reach(setting, [X for X, _ in sides], models)
    for i, (fold, (X, test)) in enumerate(zip(splits, sides, strict=True)):
        found: dict[str, Answer] = {}
        for key, model in models.items():
            fitted = _refit(key, model, X, step.within(i, key))
            check_held_out(key, fitted, test)
            found[key] = answer_of(key, fitted, test, outcome, setting.cause)
            predictor = getattr(fitted, "predictor_", None)
            if key == "gnn" and isinstance(predictor, Predictor):
                parts_of = family_models(predictor, outcome)
                parts_of = {name: one for name, one in parts_of.items() if name not in models}
                found |= {name: one.forecast(test)[outcome] for name, one in parts_of.items()}
            step(i, key)
        if reach is not None:
            reach = min(reach, reach_of(found))
        if setting.horizons is not None:
            scored_times(found, reach, setting.horizons)  # a model that stops short is refused at once
        beside = comparators_of(X, test, outcome, reach, setting.horizons or (), setting.least)
        found |= {key: answer_of(key, one, test, outcome, None) for key, one in beside.items()}
        step(i, comparators[0])
        answers.append(found)
        parts.append(test)
        counts.append(
            FoldCounts(fold.repeat, fold.fold, len(np.unique(X.patient)), len(np.unique(test.patient)))
        )
    times, grid = scored_times(answers[0], reach, setting.horizons)
    given: list[tuple[dict[str, Model], Landmarks]] = [
        ({key: GivenForecast(outcome, one) for key, one in found.items()}, test)
        for found, test in zip(answers, parts, strict=True)
    ]
    risks = ModelRisks.of(given, outcome, grid)
    scores = evaluate(
        risks,
        outcome=outcome,
        horizons=times,
        by=by,
        cause=setting.cause,
        against=[("gnn", NO_GRAPH), *((key, one) for key in models for one in comparators)],
        held_out=len(np.unique(np.concatenate([fold.test for fold in splits]))),
        censoring=censoring,
        n=n,
        seed=seed,
        progress=progress,
    )
    tell_saw(scores.rows, beside, outcome)  # of the last fold; the others are about alike
    return CrossValidation(scores, tuple(counts), risks)


def _sides(setting: _Setting, fold: Fold) -> tuple[Landmarks, Landmarks]:
    """The training landmarks of a fold, and the scored ones of its test patients."""
    train = training_landmarks(setting.cohort, fold.train, setting.plan)
    test = scored_landmarks(setting.cohort, fold.test, setting.outcome, setting.at, setting.to)
    if not len(test):
        raise InputError(f"fold {fold.fold} of repeat {fold.repeat}: nobody at risk at the landmarks")
    return train, test


def _reach(setting: _Setting, training: Sequence[Landmarks], models: Mapping[str, Any]) -> float | None:
    """Days up to which the outcome is observed in every fold; None: a diagnosis."""
    if not setting.has_curve:
        return None
    reach = min(observed_reach(X, setting.outcome) for X in training)
    last = max(map(float, setting.horizons or (0,)))
    if last > reach and any(
        isinstance(one, PrognosisModel) and one.horizon is None for one in models.values()
    ):
        raise InputError(
            f"horizon {last:g} days; in the training part of a fold the outcome can be estimated up to "
            f"{reach:.0f} days: give shorter horizons, or the model a horizon"
        )
    return reach


@dataclass(eq=False)
class _Steps:
    """Says after each fit how many are done."""

    folds: int
    models: Sequence[str]
    progress: Progress | None
    done: int = 0

    def __call__(self, fold: int, model: str) -> None:
        self.done += 1
        if self.progress is not None:
            total = self.folds * len(self.models)
            ends_fold = self.done % len(self.models) == 0
            self.progress(f"fold {fold + 1} of {self.folds}: {model}", self.done, total, ends_fold=ends_fold)

    def within(self, fold: int, model: str) -> Progress | None:
        """Says of a fit that it goes on."""
        if self.progress is None:
            return None
        tell, name = self.progress, f"fold {fold + 1} of {self.folds}: {model}"

        def within(what: str, done: int, total: int, /, **figures: Any) -> None:
            if total:
                tell(name, self.done, self.folds * len(self.models), within=f"{what}, {done} of {total}")

        return within
