"""Models of any make, scored beside a plain comparator and the marginal model on the same landmarks.

A model is anything with `forecast(X)`; forecasts that were made elsewhere may be given in its place.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gnnpatient.cohort.cohort import ENTRY, Landmarks
from gnnpatient.cohort.outcomes import Outcome
from gnnpatient.cohort.splits import default_horizons
from gnnpatient.errors import InputError, near
from gnnpatient.prognosis.forecast import Answer, Forecast, judged
from gnnpatient.prognosis.kinds import KINDS, target_of
from gnnpatient.prognosis.rows import answerable_labels
from gnnpatient.prognosis.run import RANDOM_LANDMARKS, scored_landmarks
from gnnpatient.prognosis.targets import SurvivalTarget, last_estimable
from gnnpatient.prognosis.values import ProgressionForecast, asked_for
from gnnpatient.study.baselines import COMPARATORS, fitted_marginal, tell_saw
from gnnpatient.study.evaluate import Evaluation, evaluate
from gnnpatient.study.scoreboard import LEARN_AHEAD, TOGETHER, Model, ModelRisks, scored_grid
from gnnpatient.times import DAY, days

ALWAYS_BESIDE = ("null", "nograph")  # names of what stands beside every model, with its comparators
TOLERANCE = 1e-6  # by which a probability may miss 0 or 1


@dataclass(frozen=True, eq=False)
class GivenForecast:
    """A forecast that is there already, as the model of the landmarks that it is of.

    Attributes
    ----------
    outcome : str
        Name of the outcome.
    answer : Forecast or DiagnosisForecast
        One row a landmark.
    """

    outcome: str
    answer: Answer

    def forecast(self, X: Landmarks) -> dict[str, Answer]:
        """The forecast, for the landmarks that it is of.

        Parameters
        ----------
        X : Landmarks
            The same landmarks in the same order.

        Returns
        -------
        dict of str to Forecast or DiagnosisForecast
            Of the one outcome.

        Raises
        ------
        InputError
            When the landmarks are others.
        """
        _check_rows("this model", self.answer, X)
        return {self.outcome: self.answer}


def evaluate_models(
    models: Mapping[str, Any],
    test: Landmarks,
    *,
    train: Landmarks | None = None,
    outcome: str | None = None,
    cause: str | None = None,
    horizons: Sequence[float | str] | None = None,
    by: Sequence[str] = (),
    censoring: str = "km",
    n: int = 200,
    seed: int = 0,
) -> Evaluation:
    """Score models of any make on held-out landmarks, beside a plain comparator and the marginal model.

    With `train` a stacked Cox model ("cox"; of a diagnosis "logistic"; of a value "last", "ridge",
    "quantiles" and "mixed") and the marginal model ("null") are fitted on it, and each model's paired
    difference from a comparator is among the rows, as "mine-cox".

    Parameters
    ----------
    models : mapping of str to model
        By a name for the tables: anything with ``forecast(X)`` that gives ``{outcome: Forecast}``, or such a
        dictionary, or a `Forecast` of the landmarks of `test` in their order (`Forecast.from_array`).
    test : Landmarks
        Whom to score: patients whom no model was fitted on, at risk then. Of a value with the time that it is
        asked for, as of ``cohort.at("1y", to="2y")``.
    train : Landmarks, optional
        What the comparators are fitted on. Without it there are none, and no scaled scores.
    outcome : str, optional
        Name of the outcome; default: the only one.
    cause : str, optional
        The one cause or class to score; default: all. A forecast of this cause alone is enough then.
    horizons : sequence of float or str, optional
        Days after the landmark, or durations as in "5y"; default: 1, 3 and 5 years, or thirds of a shorter
        time, as far as all models forecast and the outcome is observed. None for a diagnosis.
    by : sequence of str, default ()
        Columns by which the figures are repeated in groups.
    censoring : {"km", "cox"}, default "km"
        Weights that are alike for all, or, beside these, by a Cox model of being lost.
    n : int, default 200
        Bootstrap draws for the intervals.
    seed : int, default 0
        Of the draws.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        When a forecast is of other landmarks or causes, or not a probability; when a patient or group is in
        `train` and in `test`, or a model was fitted on patients of `test`; when a name or horizon is unknown.

    See Also
    --------
    gnnpatient.study.cross_validate : refits the models in each fold.

    Examples
    --------
    >>> from gnnpatient import PatientKFold
    >>> from gnnpatient.datasets.shipped import pbc
    >>> X = pbc().landmarks(times=[0, 365]).followed("death")
    >>> train, test = next(PatientKFold(2).split(X))
    >>> mine = COMPARATORS["survival"]["cox"](landmarks=2).fit(X[train])           # any fitted model
    >>> found = evaluate_models({"mine": mine}, X[test], train=X[train], horizons=[1826.0], n=20)
    >>> sorted({row["model"] for row in found.rows})
    ['cox', 'mine', 'mine-cox', 'null']
    """
    horizons = horizon_days(horizons)
    name = test.cohort.outcome_names(outcome, one=True)[0]
    check_choices(test.cohort, name, models, cause, horizons)
    if not len(test):
        raise InputError("nobody to score: test has no landmark")
    test.outcome(name)  # refuses landmarks that are not at risk
    notes = [] if train is None else _check_sides(train, test)
    notes += [line for key, model in models.items() if (line := check_held_out(key, model, test))]
    answers = {key: answer_of(key, model, test, name, cause) for key, model in models.items()}
    known = test.cohort.outcomes_with_model([name])[name]
    reach = None
    if known.has_curve:
        reach = min(reach_of(answers), observed_reach(test if train is None else train, name))
    times, grid = scored_times(answers, reach, horizons)
    fitted: dict[str, Model] = {key: GivenForecast(name, answer) for key, answer in answers.items()}
    if train is None:
        notes.append("no train, so no Cox or logistic model and no null beside, and no scaled scores")
    else:
        fitted |= comparators_of(train, test, name, reach, times)
    found = evaluate(
        ModelRisks.of([(fitted, test)], name, grid),
        outcome=name,
        horizons=times,
        by=by,
        cause=cause,
        against=[(key, name) for key in models for name in COMPARATORS[known.kind]],
        held_out=len(np.unique(test.patient)),
        censoring=censoring,
        n=n,
        seed=seed,
    )
    tell_saw(found.rows, fitted, name)
    return replace(found, warnings=(*notes, *found.warnings))


# ---- what evaluation and cross-validation share


def check_choices(
    cohort: Any,
    outcome: str,
    models: Mapping[str, Any],
    cause: str | None,
    horizons: Sequence[float] | None,
) -> None:
    """Refuse names and horizons that mean nothing, before anything is fitted.

    Parameters
    ----------
    cohort : Cohort
    outcome : str
    models : mapping
        By name.
    cause : str or None
    horizons : sequence of float or None

    Raises
    ------
    InputError
        When a name is taken or unknown, or a horizon is none.
    """
    if not isinstance(models, Mapping) or not models:
        raise InputError('models: give a dictionary of name and model, as in {"mine": model}')
    known = cohort.outcomes_with_model([outcome])[outcome]
    reserved = (*COMPARATORS[known.kind], *ALWAYS_BESIDE)
    for key in models:
        if key in reserved:
            raise InputError(f"model {key!r}: the name of what stands beside; call yours otherwise")
    if both := [key for key in models if any(key == f"{one}-{two}" for one in models for two in reserved)]:
        raise InputError(f"model {both[0]!r}: the name of a difference; call yours otherwise")
    names = _judged(known, outcome)
    if cause is not None and cause not in names:
        raise InputError(f"unknown {known.name_noun[0]} {cause!r} of {outcome!r}{near(cause, names)}")
    if horizons is None:
        return
    if not known.has_curve:
        kind = "a value, asked for by to" if known.kind == "progression" else "a diagnosis"
        raise InputError(f"outcome {outcome!r} is {kind}, which has no horizon to choose; leave it out")
    if not len(horizons) or not all(h > 0 for h in horizons):
        raise InputError(f"horizons = {list(horizons)}; must be > 0, days after the landmark")


def _judged(known: Outcome, outcome: str) -> tuple[str, ...]:
    """Causes, classes that figures are about, or of a value the outcome itself."""
    if known.has_curve:
        return known.names
    if known.kind == "progression":
        return (outcome,)
    together = TOGETHER.get(known.kind)
    return (*judged(known.names, known.kind), *((together,) if together else ()))


def horizon_days(horizons: Sequence[float | str] | None) -> list[float] | None:
    """Horizons in days.

    Parameters
    ----------
    horizons : sequence of float or str, or None
        Days, or durations.

    Returns
    -------
    list of float or None

    Raises
    ------
    InputError
        When it is no list, or what is in it is no time.

    Examples
    --------
    >>> horizon_days([365, "5y"])
    [365.0, 1826.25]
    """
    if horizons is None:
        return None
    if isinstance(horizons, str) or np.ndim(horizons) != 1:
        raise InputError(f"horizons = {horizons!r}; give a list of days, as in [365.25, 1826.25] or ['5y']")
    return [days(horizon) for horizon in horizons]


def check_held_out(name: str, model: Any, test: Landmarks) -> str | None:
    """Refuse a model that was fitted on patients whom it is to be scored on, as far as it knows them.

    Parameters
    ----------
    name : str
        Of the model.
    model : object
        With ``train_ids_``, the ids of its training patients, where it remembers them.
    test : Landmarks
        Whom to score.

    Returns
    -------
    str or None
        A warning where the ids are those of a model of another cohort, which may be other people.

    Raises
    ------
    InputError
        When it was fitted on patients of this cohort that are in `test`, or on others of their groups.
    """
    known = getattr(model, "train_ids_", None)
    trained = set() if known is None else {str(one) for one in known}
    overlap = len(trained & set(test.ids.astype(str).tolist()))
    elsewhere = (there := _cohort_of(model)) is not None and there != test.cohort.spec.cohort
    if not overlap and not elsewhere and trained and test.cohort.group is not None:
        fitted = np.isin(test.cohort.ids.astype(str), list(trained))
        if both := len(np.intersect1d(test.cohort.groups[fitted], test.groups)):
            raise InputError(
                f"model {name!r} was fitted on other patients of {both} of the groups in test; split by "
                "group, as PatientKFold does"
            )
    if not overlap:
        return None
    if elsewhere:
        line = f"model {name!r}: {overlap} ids of test are ids of its training patients, in cohort {there}"
        warnings.warn(f"{line}: if they are the same people, the score is too good", stacklevel=3)
        return line
    raise InputError(
        f"model {name!r} was fitted on {overlap} of the patients in test; score it on patients that it has "
        "not seen, or refit it in folds by cross_validate"
    )


def _cohort_of(model: Any) -> str | None:
    """Name of the cohort that a model was fitted on, where it says so."""
    about = getattr(getattr(model, "predictor_", None), "about", None) or {}
    found = about.get("cohort")
    return None if found is None else str(found)


def _check_sides(train: Landmarks, test: Landmarks) -> list[str]:
    """Refuse patients or groups on both sides; a warning where the same ids may be other people."""
    here, there = test.cohort, train.cohort
    both = len(np.intersect1d(train.ids.astype(str), test.ids.astype(str)))
    if here is not there and (here.manifest_hash is None or here.manifest_hash != there.manifest_hash):
        if not both or here.spec.cohort != there.spec.cohort:
            return []
        line = f"{both} ids of test are ids of train, of which cohort {here.spec.cohort} was made twice"
        warnings.warn(f"{line}: if they are the same people, what stands beside saw them", stacklevel=3)
        return [line]
    if both:
        raise InputError(f"{both} patients are in train and in test; split by patient, as PatientKFold does")
    if both := len(np.intersect1d(train.groups, test.groups)):
        raise InputError(f"{both} groups are in train and in test; split by group, as PatientKFold does")
    return []


def answer_of(name: str, model: Any, X: Landmarks, outcome: str, cause: str | None) -> Answer:
    """What a model says of some landmarks, held against what was asked.

    Parameters
    ----------
    name : str
        Of the model.
    model : object
        As in `evaluate_models`.
    X : Landmarks
        The landmarks that are scored.
    outcome : str
    cause : str or None
        The one cause or class that is scored; None: all.

    Returns
    -------
    Forecast or DiagnosisForecast

    Raises
    ------
    InputError
        When there is none, or it is of other landmarks or causes, or not a probability.
    """
    found = model
    if not isinstance(model, Mapping | Answer):
        if isinstance(model, type) or not callable(getattr(model, "forecast", None)):
            raise InputError(
                f"model {name!r} is {_what(model)}; give an object with forecast(X) that gives "
                "{outcome: Forecast}, or a Forecast of the scored landmarks (Forecast.from_array)"
            )
        found = model.forecast(X)
    if isinstance(found, Mapping):
        if outcome not in found:
            hint = near(outcome, map(str, found))
            raise InputError(f"model {name!r} has no forecast of outcome {outcome!r}{hint}")
        found = found[outcome]
    known = X.cohort.outcomes_with_model([outcome])[outcome]
    wanted = Forecast if known.has_curve else KINDS[known.kind].forecast
    if not isinstance(found, wanted):
        raise InputError(
            f"model {name!r}: its forecast of {outcome!r} is {_what(found)}; must be a {wanted.__name__}, as "
            f"of {wanted.__name__}.from_array"
        )
    _check_rows(f"model {name!r}", found, X)
    if found.outcome != outcome and found.outcome in X.cohort.outcomes:
        raise InputError(f"model {name!r}: a forecast of {found.outcome!r}, to be scored as {outcome!r}")
    names = (outcome,) if isinstance(found, ProgressionForecast) else known.names
    if known.kind in TOGETHER:  # their figures need all classes, or labels
        cause = None
    _check_names(name, found, outcome, names, cause)
    _check_values(name, found, names if cause is None else (cause,), X)
    return found


def _what(thing: Any) -> str:
    """A wrong argument in words."""
    return f"the class {thing.__name__}" if isinstance(thing, type) else f"of type {type(thing).__name__}"


def _check_rows(name: str, found: Answer, X: Landmarks) -> None:
    """Refuse a forecast of other landmarks than X."""
    if len(found) != len(X):
        raise InputError(f"{name}: a forecast of {len(found)} landmarks, {len(X)} are scored; forecast those")
    other = (np.asarray(found.ids).astype(str) != X.ids.astype(str)) | ~np.isclose(
        found.at, X.days, rtol=0, atol=1 / DAY
    )
    if other.any():
        raise InputError(
            f"{name}: {int(other.sum())} of {len(X)} forecasts are of another patient or day than the scored "
            f"landmark, first in row {int(other.argmax())}; forecast the landmarks in their order"
        )


def _check_names(name: str, found: Answer, outcome: str, names: Sequence[str], cause: str | None) -> None:
    """Refuse a forecast of other causes or classes."""
    there = found.names
    noun = "cause" if isinstance(found, Forecast) else "class"
    if unknown := [one for one in there if one not in names]:
        raise InputError(
            f"model {name!r}: unknown {noun} {unknown[0]!r} of {outcome!r}{near(unknown[0], names)}"
        )
    wanted = names if cause is None else (cause,)
    if missing := [one for one in wanted if one not in there]:
        hint = f', or score one alone, as in cause="{there[0]}"' if cause is None and there else ""
        raise InputError(f"model {name!r}: no forecast of {noun} {missing[0]!r} of {outcome!r}; add it{hint}")


def _check_values(name: str, found: Answer, wanted: Sequence[str], X: Landmarks) -> None:
    """Refuse what is no probability."""
    if isinstance(found, Forecast):
        values = np.stack([found.incidence[:, found.slot(one)] for one in wanted])
    elif isinstance(found, ProgressionForecast):
        values = found.probability[None]
    else:
        values = np.stack([found.probability[:, found.slot(one)] for one in wanted])
        if found.kind == "labels":  # one that is known already has none
            closed = ~answerable_labels(X, found.outcome, len(found.classes))
            values = np.where(closed[:, [found.slot(one) for one in wanted]].T, 0.0, values)
    absent = ~np.isfinite(values).reshape(len(wanted), len(found), -1).all((0, 2))
    if absent.any():
        raise InputError(
            f"model {name!r}: no forecast (nan) at {int(absent.sum())} of {len(found)} landmarks"
        )
    if values.size and not (values.min() >= -TOLERANCE and values.max() <= 1 + TOLERANCE):
        raise InputError(
            f"model {name!r}: risks from {values.min():.3g} to {values.max():.3g}; must be probabilities, "
            "from 0 to 1"
        )


def reach_of(answers: Mapping[str, Answer]) -> float:
    """Days up to which all of some forecasts reach.

    Parameters
    ----------
    answers : mapping of str to Forecast

    Returns
    -------
    float
        Infinite for diagnoses.
    """
    return min((float(f.times[-1]) for f in answers.values() if isinstance(f, Forecast)), default=np.inf)


def observed_reach(X: Landmarks, outcome: str) -> float:
    """The last horizon that can be estimated from some landmarks.

    Parameters
    ----------
    X : Landmarks
    outcome : str
        Name of a survival outcome.

    Returns
    -------
    float
        Days.

    Raises
    ------
    InputError
        When nobody is at risk.
    """
    X = X.followed(outcome)
    if not len(X):
        raise InputError(f"outcome {outcome!r}: nobody at risk to train on; give other patients or folds")
    target = target_of(X, outcome)
    assert isinstance(target, SurvivalTarget)
    return last_estimable(target, X.patient, X.moments)


def scored_times(
    answers: Mapping[str, Answer], reach: float | None, horizons: Sequence[float] | None
) -> tuple[list[float], np.ndarray]:
    """The horizons, and the times at which forecasts are taken.

    Parameters
    ----------
    answers : mapping of str to Forecast or DiagnosisForecast
        By the name of the model.
    reach : float or None
        Days up to which default horizons go; None: a diagnosis.
    horizons : sequence of float or None
        Days; None: the usual ones.

    Returns
    -------
    horizons : list of float
    times : (time,) float64 array
        Both empty for a diagnosis.

    Raises
    ------
    InputError
        When a model does not forecast up to the last horizon.
    """
    if reach is None:
        return [], np.zeros(0)
    times = sorted(map(float, default_horizons(reach) if horizons is None else horizons))
    for name, answer in answers.items():
        last = float(answer.times[-1]) if isinstance(answer, Forecast) else np.inf
        if times[-1] > last * (1 + 1e-9):
            raise InputError(f"horizon {times[-1]:g} days; model {name!r} forecasts up to {last:g} days")
    return times, scored_grid(times[-1], times)


def comparators_of(
    train: Landmarks,
    test: Landmarks,
    outcome: str,
    reach: float | None,
    horizons: Sequence[float] = (),
    min_patients: int = 10,
) -> dict[str, Model]:
    """The plain comparator and the marginal model, fitted on training landmarks.

    Parameters
    ----------
    train : Landmarks
        Training landmarks.
    test : Landmarks
        What is scored: the marginal model has a curve for each of these landmarks.
    outcome : str
    reach : float or None
        Days up to which curves go; None: a diagnosis.
    horizons : sequence of float, default ()
        Days that lie within them, too.
    min_patients : int, default 10
        Codes and levels of fewer training patients count as one.

    Returns
    -------
    dict of str to Model
        "cox", "logistic", or those of a value, and "null".
    """
    kind = train.cohort.outcomes_with_model([outcome])[outcome].kind
    last = None if reach is None else max([reach, *horizons])
    grid = [] if last is None else scored_grid(last, horizons).tolist()
    scored = None
    if kind == "progression":
        last = LEARN_AHEAD * float(np.nanmax(asked_for(test)))
        grid = [last]
    else:
        scored = _at_landmarks_of(test, train, outcome)
    horizon = {} if last is None else {"horizon": last}
    fitted = {
        name: estimator(outcomes=[outcome], min_patients=min_patients, **horizon).fit(train)
        for name, estimator in COMPARATORS[kind].items()
    }
    return {**fitted, "null": fitted_marginal(train.followed(outcome), outcome, grid, scored)}


def _at_landmarks_of(test: Landmarks, train: Landmarks, outcome: str) -> Landmarks | None:
    """The training patients at the landmarks that are scored; None: these have no times in common."""
    moments = np.unique(test.moments)
    if test.cohort.outcomes[outcome].has_own_moments or len(moments) > RANDOM_LANDMARKS:
        return None
    at: list[float | str] = ["entry" if m == ENTRY else m / DAY for m in moments.tolist()]
    return scored_landmarks(train.cohort, np.unique(train.patient), outcome, at)
