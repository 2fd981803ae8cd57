"""Score a fitted run on its own cohort without the training patients, or on another: external validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.cohort.splits import default_horizons
from gnnpatient.errors import InputError
from gnnpatient.prognosis.people import SplitMembership
from gnnpatient.prognosis.predictor import Predictor
from gnnpatient.prognosis.run import Run, scored_landmarks, usual_landmarks
from gnnpatient.progress import Progress, shown
from gnnpatient.show import Shown, Summary, listed
from gnnpatient.study.baselines import COMPARATORS, marginal_model, tell_saw
from gnnpatient.study.evaluate import Evaluation, evaluate, scored_parts
from gnnpatient.study.fitted import (
    NO_GRAPH,
    FittedModel,
    family_models,
    moment_name,
    split_notes,
    unknown_notes,
)
from gnnpatient.study.oracle import Oracle, Risk
from gnnpatient.study.scoreboard import LEARN_AHEAD, Model, ModelRisks, scored_grid
from gnnpatient.study.updating import WAYS, with_update
from gnnpatient.times import days

if TYPE_CHECKING:
    from gnnpatient.cohort.outcomes import Outcome


@dataclass(frozen=True, eq=False, repr=False)
class Validation(Shown):
    """The scores of a run on a cohort, and what to know beside them.

    Attributes
    ----------
    scores : Evaluation
        The figures, a row each.
    notes : tuple of str
        Sentences: who was scored and how that is known, and what is unlike the training.
    """

    scores: Evaluation
    notes: tuple[str, ...]

    def _summary(self) -> Summary:
        return self.scores._summary()

    def to_dict(self) -> dict[str, Any]:
        """The figures for JSON, as `gnnpatient evaluate --json` prints them.

        Returns
        -------
        dict
        """
        return self.scores.to_dict()


def evaluate_run(
    run: FittedModel | Predictor | Run | str | Path,
    cohort: Cohort,
    outcome: str | None = None,
    *,
    landmarks: Sequence[float | str] | None = None,
    horizons: Sequence[float] | None = None,
    to: float | str | None = None,
    by: Sequence[str] = (),
    censoring: str = "km",
    update: str | None = None,
    true_risk: Risk | None = None,
    note: Callable[[str], None] | None = None,
    progress: Progress | bool | None = None,
) -> Validation:
    """Score a fitted model, with intervals, on the patients of a cohort that it was not trained on.

    The model, "gnn", is scored as it answers, and each of its families alone ("graph", "linear", "boosted");
    "gnn-nograph" is what the graph adds: the paired difference to the answer without it. Beside it stands a
    plain comparator fitted on the same landmarks ("cox": a stacked Cox model; of a diagnosis "logistic": a
    stacked logistic regression), and "null": the same answer for everybody. On another cohort than that of
    the fit (external validation) there is no comparator.

    Parameters
    ----------
    run : FittedModel, Predictor, Run, str or Path
        A run, or the model alone: then nobody knows its training patients, and all are scored.
    cohort : Cohort
        The cohort of the run, or another one with the same outcome. Training patients are recognised by id
        and record, and left out.
    outcome : str, optional
        May be left out where the model has one outcome; `evaluate_outcomes` scores several in turn.
    landmarks : sequence of float or str, optional
        Days after the origin, and "entry"; default those of the fit, or entry, 1, 3 and 5 years.
    horizons : sequence of float, optional
        Days after the landmark; default 1, 3 and 5 years as far as the model goes. None for a diagnosis.
    to : float or str, optional
        Days after the landmark, or a duration as in "1y", at which a value is asked for; needed for a
        progression, and for it alone.
    by : sequence of str, optional
        Columns by which the figures are repeated in groups.
    censoring : {"km", "cox"}, optional
        Weights that are alike for all, or, beside these, by a Cox model of being lost.
    update : {"intercept", "slope"}, optional
        Score beside it the model updated for this cohort, "gnn+intercept" or "gnn+slope": fitted on one half
        of the patients and scored on the other, and the reverse (see `gnnpatient.study.updating`).
    true_risk : callable, optional
        The known risk of a simulated cohort, scored as "oracle" (see `gnnpatient.study.oracle.Oracle`).
    note : callable, optional
        Called with each of the notes as soon as it is known: most are before anything is scored.
    progress : Progress or bool, optional
        Called after each fit, forecast and draw; True for bars.

    Returns
    -------
    Validation

    Raises
    ------
    InputError
        When nobody is left to score, or the outcome, a landmark or a horizon is not one of the model.

    See Also
    --------
    gnnpatient.study.evaluate.evaluate : the figures, for any models.
    """
    refuse_censoring(censoring)
    if update is not None and update not in WAYS:
        raise InputError(f"--update {update!r}; must be intercept or slope")
    if update is not None and to is not None:
        raise InputError("--update is of risks; a value, asked for by --to, has none")
    ahead = None if to is None else days(to)
    setting = _Setting.of(FittedModel.open(run), cohort, outcome, landmarks, horizons, ahead)
    X = setting.scored_landmarks
    times, grid = setting.times(horizons)
    setting.refuse_other_inputs()
    scored_parts(X, setting.outcome, by, censoring)  # what is wrong is said before anything else
    notes = [*setting.people_notes, *unknown_notes(setting.fitted.predictor.unknown(X))]
    notes += setting.fitted.notes(X)
    tell = note or (lambda line: None)
    for line in notes:
        tell(line)
    with shown(progress) as report:
        models = setting.models(grid, true_risk, report)
        scored = ModelRisks.of([(models, X)], setting.outcome, grid, report)
        pairs = [("gnn", NO_GRAPH), *(("gnn", one) for one in COMPARATORS[setting.head["kind"]])]
        if update is not None:
            scored, lines = with_update(scored, setting.outcome, update)
            pairs.append((f"gnn+{update}", "gnn"))
            notes += lines
            for line in lines:
                tell(line)
        scores = evaluate(
            scored,
            outcome=setting.outcome,
            horizons=times,
            by=by,
            against=pairs,
            held_out=setting.held_out,
            censoring=censoring,
            progress=report,
        )
    tell_saw(scores.rows, models, setting.outcome)
    last = setting.small_notes(scores)
    for line in last:
        tell(line)
    return Validation(scores, (*notes, *last))


def evaluate_outcomes(
    run: FittedModel | Predictor | Run | str | Path,
    cohort: Cohort,
    *,
    horizons: Sequence[float] | None = None,
    landmarks: Sequence[float | str] | None = None,
    to: float | str | None = None,
    censoring: str = "km",
    update: str | None = None,
    note: Callable[[str], None] | None = None,
    **choices: Any,
) -> dict[str, Validation]:
    """Score every outcome of a fitted model in turn, each with the choices that its kind has.

    Parameters
    ----------
    run : FittedModel, Predictor, Run, str or Path
        As in `evaluate_run`.
    cohort : Cohort
        As in `evaluate_run`.
    horizons, landmarks, to, censoring, update
        As in `evaluate_run`; given to the outcomes that have horizons, take any landmark, are values, may be
        lost before they come, or are risks. A value is left out without `to`, and so is an outcome that
        nobody here can be scored by.
    note : callable, optional
        Called with each note once, and with what is left out.
    **choices
        by, progress: as in `evaluate_run`.

    Returns
    -------
    dict of str to Validation
        By outcome, in the order of the model.

    Raises
    ------
    InputError
        When no outcome is left, as `evaluate_run` for the last of them, or none takes what is given.
    """
    fitted, found, told = FittedModel.open(run), dict[str, Validation](), set[str]()
    refuse_censoring(censoring)
    _refuse_unused(fitted, cohort, horizons, landmarks, to, censoring, update)
    tell = note or (lambda line: None)
    refusal = InputError("--to is needed: the time after the landmark for which a value is asked, as in 1y")

    def once(line: str) -> None:
        if line not in told:
            told.add(line)
            tell(line)

    for name in fitted.outcome_names():
        known = cohort.outcomes.get(name)
        is_value = fitted.heads[name]["kind"] == "progression"
        if is_value and to is None:
            once(f"outcome {name!r} left out; it needs --to, as in 1y")
            continue
        try:
            found[name] = evaluate_run(
                fitted,
                cohort,
                name,
                landmarks=None if known is not None and known.has_own_moments else landmarks,
                horizons=horizons if known is not None and known.has_curve else None,
                to=to if is_value else None,
                censoring=censoring if known is not None and known.has_course else "km",
                update=None if is_value else update,
                note=once,
                **choices,
            )
        except InputError as error:
            refusal = error
            once(f"outcome {name!r} left out: {error}")
    if not found:
        raise refusal
    return found


def _refuse_unused(
    fitted: FittedModel,
    cohort: Cohort,
    horizons: Sequence[float] | None,
    landmarks: Sequence[float | str] | None,
    to: float | str | None,
    censoring: str,
    update: str | None,
) -> None:
    """Refuse what is given to no outcome of the model."""
    names = fitted.outcome_names()
    there = [cohort.outcomes[name] for name in names if name in cohort.outcomes]
    values = [fitted.heads[name]["kind"] == "progression" for name in names]
    takes = {
        "--horizons": (horizons is not None, [one.has_curve for one in there]),
        "--landmarks": (landmarks is not None, [not one.has_own_moments for one in there]),
        "--to": (to is not None, values),
        "--censoring": (censoring != "km", [one.has_course for one in there]),
        "--update": (update is not None, [not value for value in values]),
    }
    for option, (given, taken) in takes.items():
        if given and taken and not any(taken):
            raise InputError(
                f"{option}: no outcome of this model takes it ({', '.join(names)}); leave it out"
            )


def refuse_censoring(censoring: str) -> None:
    """Refuse an unknown name of the censoring weights.

    Parameters
    ----------
    censoring : str
        As in `evaluate_run`.

    Raises
    ------
    InputError
        When it is neither "km" nor "cox".
    """
    if censoring not in ("km", "cox"):
        raise InputError(f"--censoring {censoring!r}; must be km or cox")


@dataclass(frozen=True, eq=False)
class _Setting:
    """Who is scored, when, and beside which models."""

    fitted: FittedModel
    run: Run | None
    cohort: Cohort
    outcome: str
    split: SplitMembership | None  # who of the cohort was trained on; None: nobody knows
    landmarks: Sequence[float | str]
    to: float | None

    @classmethod
    def of(
        cls,
        fitted: FittedModel,
        cohort: Cohort,
        outcome: str | None,
        landmarks: Sequence[float | str] | None,
        horizons: Sequence[float] | None,
        to: float | None,
    ) -> _Setting:
        run = None if fitted.run_folder is None else Run.open(fitted.run_folder)
        name = cohort.outcome_names(fitted.outcome_name(outcome))[0]
        _refuse_choices(fitted.heads[name], name, cohort.outcomes[name], landmarks, horizons)
        split = fitted.split_of(cohort)
        if split is not None and not (split.side != "train").any():
            where = cohort.path or cohort.spec.cohort
            raise InputError(f"{where}: nobody left to score; all {len(cohort)} patients were trained on")
        if landmarks is None:
            fitted_at = run.plan["landmarks"] if run else "random"
            landmarks = usual_landmarks(cohort, name) if fitted_at == "random" else list(fitted_at)
        return cls(fitted, run, cohort, name, split, landmarks, to)

    @property
    def head(self) -> dict[str, Any]:
        return self.fitted.heads[self.outcome]

    @property
    def truth(self) -> Outcome:
        return self.cohort.outcomes[self.outcome]

    @property
    def comparator(self) -> str:
        """Names of the comparators in tables and JSON, in words."""
        return listed(list(COMPARATORS[self.head["kind"]]))

    @property
    def known(self) -> bool:
        """Whether the run knows anybody here; else this is external validation."""
        return self.split is not None and (self.split.exact or self.split.known)

    @cached_property
    def positions(self) -> np.ndarray:
        """Of the patients who were not trained on: (patient,) int64."""
        if self.split is None:
            return np.arange(len(self.cohort))
        return np.flatnonzero(self.split.side != "train")

    @property
    def held_out(self) -> int:
        if self.split is None:
            return 0
        return self.split.count("test") if self.known else len(self.positions)

    @cached_property
    def scored_landmarks(self) -> Landmarks:
        X = scored_landmarks(self.cohort, self.positions, self.outcome, self.landmarks, self.to)
        if not len(X):
            raise InputError(
                f"nobody left to score: none of {len(self.positions)} patients is at risk at "
                f"{', '.join(map(moment_name, self.landmarks))}; give other landmarks"
            )
        return X

    @property
    def people_notes(self) -> list[str]:
        """Who is scored, and how that is known."""
        people = [] if self.split is None else split_notes(self.split)
        if self.known:
            if self.split is not None and self.split.exact:
                return people
            return [
                *people,
                f"the cohort is not exactly the one of the fit, so there is no {self.comparator} fitted "
                "on the same landmarks",
            ]
        fitted_on = self.run.cohort["name"] if self.run else self.fitted.predictor.about.get("cohort")
        lines = [
            f"external validation: fitted on {fitted_on}, scored on {self.cohort.spec.cohort}; "
            f"no {self.comparator}",
            *people,
        ]
        if self.run is None:
            lines.append(
                "the model alone does not know its training patients; give the RUN to leave them out"
            )
        return lines

    def small_notes(self, scores: Evaluation) -> list[str]:
        """What to do where the held-out part of a cohort is too small to judge by."""
        if self.split is None or not self.split.exact or scores.too_small is None:
            return []
        return [
            f"a hold-out of {scores.held_out} patients judges little: --cv 5 refits the same choices in five "
            f"folds, so that each of all {len(self.cohort)} patients is scored once while held out"
        ]

    def times(self, horizons: Sequence[float] | None) -> tuple[list[float], np.ndarray]:
        """The horizons, and the times at which forecasts are taken (days); none of a diagnosis."""
        if self.head["kind"] == "progression" or "times" not in self.head:
            return [], np.zeros(0)
        reach = float(self.head["times"][-1])
        times = sorted(default_horizons(reach) if horizons is None else horizons)
        if times[-1] > reach * (1 + 1e-9) or times[0] <= 0:
            if times[0] <= 0:
                raise InputError(f"horizon {times[0]:g} days; must be > 0, days after the landmark")
            raise InputError(f"horizon {times[-1]:g} days; this model was fitted up to {reach:g} days")
        return times, scored_grid(times[-1], times)

    def models(self, grid: np.ndarray, true_risk: Risk | None, progress: Progress | None) -> dict[str, Model]:
        """The model and those beside it, by name."""
        predictor = self.fitted.predictor
        models: dict[str, Model] = {"gnn": predictor, **family_models(predictor, self.outcome)}
        if self.split is not None and self.split.exact and self.run is not None:
            models |= self._fitted_comparators(self.run)
            if progress:
                progress(f"{self.comparator} fitted", 1, 1)
        models["null"] = marginal_model(predictor, self.outcome, self._training_landmarks())
        if true_risk is not None:
            models["oracle"] = Oracle(self.outcome, self.truth.names, grid, true_risk)
        return models

    def _fitted_comparators(self, run: Run) -> dict[str, Model]:
        """Fitted on the landmarks of the run, with the model's mapping of rare codes and its reach."""
        reach = {"horizon": float(self.head["times"][-1])} if "times" in self.head else {}
        if self.to is not None:
            reach = {"horizon": LEARN_AHEAD * self.to}
        least, X = int(run.plan["min_patients"]), run.landmarks(self.cohort)
        return {
            name: estimator(outcomes=[self.outcome], min_patients=least, **reach).fit(X)
            for name, estimator in COMPARATORS[self.head["kind"]].items()
        }

    def refuse_other_inputs(self) -> None:
        """Refuse causes or classes that are not the model's, and inputs that it cannot read."""
        here = self.truth.names
        there = self.head.get("causes", self.head.get("classes", here))  # a value has neither
        if here != tuple(there):
            raise InputError(
                f"outcome {self.outcome!r}: {self.truth.name_noun[1]} {', '.join(here)}; "
                f"the model has {', '.join(there)}"
            )
        self.fitted.predictor.see(self.scored_landmarks)

    def _training_landmarks(self) -> Landmarks | None:
        """Whom the null is of: the training patients at the landmarks that are scored; None: as fitted."""
        if self.split is None or self.truth.has_own_moments or self.to is not None:
            return None
        trained = np.flatnonzero(self.split.side == "train")
        return scored_landmarks(self.cohort, trained, self.outcome, self.landmarks) if len(trained) else None


def _refuse_choices(
    head: Mapping[str, Any],
    name: str,
    truth: Outcome,
    landmarks: Sequence[float | str] | None,
    horizons: Sequence[float] | None,
) -> None:
    """Refuse an outcome of another kind than the model's, and choices that its kind does not have."""
    if head["kind"] != truth.kind:
        raise InputError(f"outcome {name!r}: a {truth.kind} here, of another kind in the model")
    if horizons is not None and (head["kind"] == "progression" or "times" not in head):
        kind = "a value, asked for by --to" if head["kind"] == "progression" else "a diagnosis"
        raise InputError(f"outcome {name!r} is {kind}, which has no horizon to choose; leave out --horizons")
    if landmarks is not None and truth.has_own_moments:
        raise InputError(f"outcome {name!r} has prediction times of its own; leave out --landmarks")
