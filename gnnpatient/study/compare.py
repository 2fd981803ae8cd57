"""Does fusion help? All node types together against the best one alone.

Every model is fitted on the same landmarks with the same members and epochs, and its network is as wide as it
takes to have about as many parameters as that of all node types. Baseline covariates are in all of them.
Late fusion alone has more parameters: those of all unimodal models together. The names are those of tables
and JSON.

    gnn             all node types, with every relation: the stack of all families, as PrognosisModel has it
    graph           its network alone; linear, boosted: its other families alone; nograph: the stack without
                    the network
    gru             a recurrent network over the same rows, without a relation, with the same training
    only X          unimodal: one node type; `best single`, the best unimodal model, is in each fold
                    the one that scores best on inner folds of its training part
    without X       leave-one-out: all node types but one
    late            late fusion: the mean of the forecasts of all unimodal models
    clockwork       timing only: all rows without their values
    values          last values only: the latest row of each code, without its time and number of rows
    values X        the same of one node type of images or texts
    presence        missingness only: whether a patient has rows of a node type by now
    statics         baseline covariates only: no row at all
    null            the marginal model: Aalen-Johansen of the training landmarks, or the share of
                    each class
    tuned X         a rival of `gnnpatient.study.rivals`, if asked for: of the same rows and landmarks, its
                    configuration chosen among 20 on inner folds of each training part

Survival is judged by C and scaled IBS, a diagnosis by AUC and scaled Brier score, a value by scaled squared
error and scaled CRPS.

References
----------
Holm S (1979). Scand J Stat 6:65-70.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from gnnpatient.cohort.cohort import Cohort, Landmarks, open_cohort
from gnnpatient.cohort.splits import StratifiedPatientKFold, default_horizons
from gnnpatient.errors import InputError, near
from gnnpatient.model.model import ModelConfig
from gnnpatient.prognosis.estimator import PrognosisModel
from gnnpatient.prognosis.families import FAMILIES
from gnnpatient.prognosis.forecast import judged
from gnnpatient.prognosis.predictor import Predictor
from gnnpatient.prognosis.problem import FitConfig
from gnnpatient.prognosis.run import scored_landmarks, training_landmarks, usual_landmarks
from gnnpatient.progress import Progress, shown
from gnnpatient.study.ablations import Comparator, LateFusion, RestrictedModel, comparators, modalities_of
from gnnpatient.study.baselines import marginal_model
from gnnpatient.study.budget import (
    MAX_OVERRUN,
    SCORING,
    ComparisonSize,
    FitCost,
    cut_sentences,
    fitting_size,
)
from gnnpatient.study.comparison import CONTRASTS, ComparedScores, Comparison
from gnnpatient.study.evaluate import BESIDE
from gnnpatient.study.fitted import family_models
from gnnpatient.study.fitting import ComparatorFitter
from gnnpatient.study.folds import Fold, check_folds, make_folds, read_folds
from gnnpatient.study.joint import JointModel
from gnnpatient.study.models import observed_reach
from gnnpatient.study.rivals import PUBLISHED_BUDGET, TunedRival, told_of, tuned_rivals
from gnnpatient.study.scoreboard import TOGETHER, Model, ModelRisks, ObservedOutcome, scored_grid
from gnnpatient.times import days

TIMED_EPOCHS = 5  # of the longer of two fits that a budget is planned by
ALL = "gnn"  # the model of all node types
GRID = 20  # times at which a curve is scored for the integrated Brier score
RESERVED = ("late", "best single", "null", "graph", "linear", "boosted", "nograph")  # come with the others

Parts = list[tuple[Mapping[str, Model], Landmarks]]
"""Of each fold the fitted models and the landmarks that they are scored at."""


def compare(
    cohort: Cohort,
    outcome: str,
    *,
    cause: str | None = None,
    folds: Sequence[Fold] | int = 5,
    modalities: Mapping[str, Sequence[str]] | None = None,
    models: Sequence[str] | None = None,
    rivals: Sequence[str] | Mapping[str, Any] = (),
    configurations: int | None = None,
    landmarks: Sequence[float | str] | None = None,
    horizons: Sequence[float] | None = None,
    to: float | str | None = None,
    members: int = 3,
    epochs: int = FitConfig.epochs,
    channels: int = ModelConfig.channels,
    choices: Mapping[str, Any] | None = None,
    inner: int = 3,
    n: int = 200,
    seed: int = 0,
    device: str = "auto",
    budget: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    progress: Progress | bool | None = None,
) -> Comparison:
    """Fit every model on the training patients of each fold and score all of them on its test patients.

    Parameters
    ----------
    cohort : Cohort
        With rows of at least two node types.
    outcome : str
        Name of a survival outcome or a diagnosis.
    cause : str, optional
        Which cause, class or label is judged; default: the one named like the outcome, else the first cause
        or the last class; of ordered classes or several labels all together.
    folds : sequence of Fold or int, default 5
        Splits by patient and group, or how many to make.
    modalities : mapping of str to sequence of str, optional
        Name -> node types that are left out together; default: `modalities_of`.
    models : sequence of str, optional
        Models to fit besides that of all node types and the unimodal ones; default: all.
    rivals : sequence of str, or mapping of str to estimator, default ()
        Rivals to fit beside them, by names of `gnnpatient.study.rivals.RIVALS` ("tuned NAME" in tables) or
        ``"joint:CODE"``, see `gnnpatient.study.rivals.tuned_rivals`; or by names of your own, unfitted
        estimators with ``fit(X)`` and ``forecast(X)``, such as `gnnpatient.study.rivals.OwnCurves`.
    configurations : int, optional
        Of each rival by name, drawn, the defaults among them; the best on inner folds is refitted. Default
        20. Not without such a rival.
    landmarks : sequence of float or "entry", optional
        Days at which models are scored; default: entry, and where anything becomes known after it 1, 3 and 5
        years, or quarters of a shorter follow-up.
    horizons : sequence of float, optional
        Days up to which survival is scored; default: 1, 3 and 5 years, or thirds of a shorter follow-up. Not
        for a diagnosis.
    to : float or str, optional
        Days after the landmark, or a duration as in "1y", at which a value is asked for; needed for a
        progression, and for it alone.
    members : int, default 3
        Networks of each model.
    epochs : int
        At most, each; default that of PrognosisModel.
    channels : int
        Width of the network of all node types; default that of PrognosisModel.
    choices : mapping, optional
        Further parameters of PrognosisModel, the same for all models.
    inner : int, default 3
        Folds of a training part on which its best unimodal model is chosen, by IBS or Brier score.
    n : int, default 200
        Bootstrap draws for the intervals.
    seed : int, default 0
        Of splits, fits and draws.
    device : str, default "auto"
        Where networks are fitted: auto, cpu or cuda.
    budget : float, optional
        Seconds that it may take. After a timed fit, what does not fit is left out: models beside the main
        question first, then members, epochs and folds. `Comparison.cut` says what; it depends on the speed
        of the machine.
    clock : callable, default time.monotonic
        Gives seconds, for the budget.
    progress : Progress or bool, optional
        Called before the first fit, after each and after each draw; True for bars.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        When a name is unknown, fewer than two node types have rows, a node type is in two modalities, a group
        is on both sides of a fold, a side is empty, nobody is at risk at the landmarks, the budget is too
        small for any comparison, or configurations are of no rival.
    """
    start = clock()
    if budget is not None and not budget > 0:
        raise InputError(f"budget = {budget}; must be > 0 seconds")
    if budget is not None and rivals:
        raise InputError("a budget plans no rivals; leave out one of the two, or give fewer configurations")
    cause = _judged_cause(cohort, outcome, cause, horizons)
    cohort = _with_inputs_of(cohort, outcome)
    parts = _modalities(cohort, modalities)
    fitted = _selected_comparators(comparators(cohort, parts), models)
    splits, training, at, until = _split(cohort, outcome, folds, seed, landmarks, horizons)
    shared: dict[str, Any] = {"members": members, "epochs": epochs, "channels": channels, "seed": seed}
    shared |= {"device": device, "kind_dropout": _kind_dropout(cohort, parts)} | dict(choices or {})
    late = models is None or "late" in models
    ahead = None if to is None else days(to)
    scored_landmarks(cohort, np.zeros(0, np.int64), outcome, at, ahead)  # refuses a time that does not fit
    tries = PUBLISHED_BUDGET if configurations is None else configurations
    options = {"horizon": until[-1] if until else None, "budget": tries, "inner": inner, "to": ahead}
    options |= {name: shared[name] for name in ("members", "epochs", "seed", "device")}
    options["min_patients"] = shared.get("min_patients", FitConfig.min_patients)
    beside = tuned_rivals(rivals, cohort.outcomes[outcome].kind, outcome, **options)
    for one in beside.values():
        if isinstance(one, JointModel):
            one.check(cohort)
    if configurations is not None and not any(isinstance(one, TunedRival) for one in beside.values()):
        raise InputError(
            f"configurations {configurations}: no rival here is chosen among some; name one that is "
            "(--rivals), or leave it out"
        )
    if taken := [name for name in beside if name in {*fitted, *RESERVED}]:
        raise InputError(f"rival {taken[0]!r}: the name of a model here; call yours otherwise")
    about = cohort, outcome, cause, parts, fitted, late, at, until, ahead, inner, seed, beside
    design = _Design(*about)
    cut: tuple[str, ...] = ()
    deadline = None
    with shown(progress) as report:
        if budget is not None:
            if report:
                report("a fit is timed, to plan by the budget", 0, 0)
            cost = _timed(design, shared, training[0], clock)
            full = ComparisonSize(tuple(fitted), shared["members"], shared["epochs"], inner, len(splits))
            size = fitting_size(full, cost, budget - (clock() - start), fewer_folds=isinstance(folds, int))
            cut = cut_sentences(full, size, budget)
            kept = {name: fitted[name] for name in size.comparators}
            design = replace(design, comparators=kept, inner=size.inner)
            shared |= {"members": size.members, "epochs": size.epochs}
            if size.folds < len(splits):
                # fewer folds have fewer training patients each, of whom horizons are estimable less far
                splits, training, at, until = _split(cohort, outcome, size.folds, seed, landmarks, horizons)
                design = replace(design, landmarks=at, horizons=until)
            deadline = _Deadline(clock, start + MAX_OVERRUN * (1 - SCORING) * budget)
        total = len(splits) * (len(design.comparators) + len(parts) * design.inner + len(beside))
        if report:
            report(f"{len(design.comparators)} models in {len(splits)} folds, {total} fits", 0, 0)
        fits = ComparatorFitter(outcome, design.last, shared, report, total)
        scored, best = _fit_folds(design, fits, splits, training, deadline)
        if len(scored) < len(splits):
            done = f"stopped after {len(scored)} of {len(splits)} folds, when the budget ran out"
            cut = (*cut, f"{done}: the patients of the others are not scored")
        found = _comparison(design, fits, scored, best, n, report)
    return replace(found, cut=cut) if cut else found


def _timed(design: _Design, shared: Mapping[str, Any], X: Landmarks, clock: Callable[[], float]) -> FitCost:
    """What a fit of the model of all node types on the landmarks X takes, by its epochs."""
    fits = ComparatorFitter(design.outcome, design.last, shared, None, 0)
    first = design.comparators[ALL]
    seen = first.landmarks(X)

    def fit(epochs: int) -> None:
        fits.model(first, members=1, epochs=epochs).fit(seen)

    return FitCost.timed(fit, clock, TIMED_EPOCHS)


@dataclass(eq=False)
class _Deadline:
    """Whether another fold would end too late, as long as those so far took."""

    clock: Callable[[], float]
    limit: float

    def __post_init__(self) -> None:
        self.begun = self.clock()

    def passed(self, folds: int) -> bool:
        now = self.clock()
        return now + (now - self.begun) / folds > self.limit


@dataclass(frozen=True, eq=False)
class _Design:
    """What is fitted, and where it is scored."""

    cohort: Cohort
    outcome: str
    cause: str
    modalities: Mapping[str, tuple[str, ...]]
    comparators: Mapping[str, Comparator]
    late: bool  # whether the mean of the unimodal models is one of the models
    landmarks: list[float | str]  # at which all are scored
    horizons: tuple[float, ...]  # days; none of a diagnosis
    to: float | None  # days after a landmark at which a value is asked for
    inner: int  # folds that choose the best unimodal model
    seed: int
    rivals: Mapping[str, Any] = field(default_factory=dict)  # unfitted

    @property
    def last(self) -> float | None:
        """The last horizon; None: a diagnosis."""
        return self.horizons[-1] if self.horizons else None

    @property
    def unimodal(self) -> list[str]:
        """Names of the unimodal models."""
        return [f"only {name}" for name in self.modalities]

    @property
    def times(self) -> np.ndarray:
        """Days at which curves are scored."""
        if self.last is None:
            return np.zeros(0)
        return scored_grid(self.last, self.horizons, GRID)

    @property
    def left_out(self) -> dict[str, str]:
        """Of each modality the model without it; of two, that of the other one alone."""
        if len(self.modalities) > 2:
            return {name: f"without {name}" for name in self.modalities}
        one, other = self.modalities
        return {one: f"only {other}", other: f"only {one}"}


# ---- what is compared


def _judged_cause(cohort: Cohort, outcome: str, cause: str | None, horizons: Sequence[float] | None) -> str:
    """The cause or class that is judged, by default that named like the outcome, else the first or last."""
    known = cohort.outcomes_with_model([outcome])[outcome]
    names = known.names if known.has_curve else judged(known.names, known.kind)
    names = (outcome,) if known.kind == "progression" else names
    if together := TOGETHER.get(known.kind):
        names = (together,) if known.kind == "ordered" else (*names, together)
        cause = together if cause is None else cause
    if cause is None:
        cause = outcome if outcome in names else known.names[0 if known.has_curve else -1]
    if cause not in names:
        raise InputError(f"unknown {known.name_noun[0]} {cause!r} of {outcome!r}{near(cause, names)}")
    if horizons is not None and not known.has_curve:
        kind = "a value, asked for by to" if known.kind == "progression" else "a diagnosis"
        raise InputError(f"outcome {outcome!r} is {kind}, which has no horizon to choose; leave it out")
    return cause


def _with_inputs_of(cohort: Cohort, outcome: str) -> Cohort:
    """The cohort with the node types alone that the outcome may be read from."""
    inputs = cohort.inputs([outcome])
    return cohort if inputs is None else cohort.only(inputs)


def _modalities(cohort: Cohort, modalities: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    """Name -> node types; refused where a node type is in two, or there are fewer than two."""
    parts = {m: tuple(kinds) for m, kinds in (modalities or modalities_of(cohort)).items()}
    often = Counter(kind for kinds in parts.values() for kind in set(kinds))
    if twice := [kind for kind, n in often.items() if n > 1]:
        raise InputError(f"node type {twice[0]!r} is in two modalities; name it in one of them only")
    if len(parts) < 2:
        raise InputError(
            f"{len(parts)} node type(s) with rows ({', '.join(parts) or 'none'}); fusion takes two or more"
        )
    return parts


def _split(
    cohort: Cohort,
    outcome: str,
    folds: Sequence[Fold] | int,
    seed: int,
    landmarks: Sequence[float | str] | None,
    horizons: Sequence[float] | None,
) -> tuple[list[Fold], list[Landmarks], list[float | str], tuple[float, ...]]:
    """Folds, their training landmarks, and where all are scored: landmarks and horizons (days)."""
    splits = make_folds(cohort, outcome, folds, seed) if isinstance(folds, int) else list(folds)
    check_folds(cohort, splits)
    plan = {"landmarks": "random", "seed": seed, "outcomes": [outcome]}
    training = [training_landmarks(cohort, fold.train, plan) for fold in splits]
    return splits, training, *_scored_times(cohort, outcome, landmarks, horizons, training)


def _scored_times(
    cohort: Cohort,
    outcome: str,
    landmarks: Sequence[float | str] | None,
    horizons: Sequence[float] | None,
    training: Sequence[Landmarks],
) -> tuple[list[float | str], tuple[float, ...]]:
    """Landmarks and horizons (days), by default the usual ones."""
    known = cohort.outcomes_with_model([outcome])[outcome]
    at = usual_landmarks(cohort, outcome) if landmarks is None else list(landmarks)
    if horizons is None and known.has_curve:
        horizons = default_horizons(min(observed_reach(X, outcome) for X in training))
    until = tuple(sorted(float(horizon) for horizon in horizons or ()))
    if not at or (known.has_curve and not (until and until[0] > 0)):
        raise InputError("no landmark, or no horizon above 0 days; give both or leave them out")
    return at, until


def _selected_comparators(
    every: dict[str, Comparator], models: Sequence[str] | None
) -> dict[str, Comparator]:
    """The model of all node types and the unimodal ones, and of the rest those that are named."""
    if models is None:
        return every
    always = {name for name in every if name == ALL or name.startswith("only ")}
    for name in models:
        if name not in {*every, *RESERVED}:
            raise InputError(f"unknown model {name!r}{near(name, (*every, *RESERVED))}")
    return {name: one for name, one in every.items() if name in always or name in models}


def _kind_dropout(cohort: Cohort, modalities: Mapping[str, Sequence[str]]) -> float:
    """As PrognosisModel has it by default: only where images or texts are among the nodes."""
    nodes = cohort.spec.nodes
    return 0.2 if any(nodes[kind].content for kinds in modalities.values() for kind in kinds) else 0.0


# ---- fits and scores


def _fit_folds(
    design: _Design,
    fits: ComparatorFitter,
    splits: Sequence[Fold],
    training: Sequence[Landmarks],
    deadline: _Deadline | None = None,
) -> tuple[Parts, list[str]]:
    """Of each fold the fitted models and the landmarks of its test patients, and its best modality."""
    scored: Parts = []
    best = []
    for i, (fold, X) in enumerate(zip(splits, training, strict=True), 1):
        test = scored_landmarks(design.cohort, fold.test, design.outcome, design.landmarks, design.to)
        if not len(test):
            raise InputError(f"fold {fold.fold} of repeat {fold.repeat}: nobody at risk at the landmarks")
        step = f"fold {i} of {len(splits)}"
        fitted: dict[str, Model] = {name: fits.fit(one, X, step) for name, one in design.comparators.items()}
        if design.late:
            fitted["late"] = LateFusion(tuple(fitted[name] for name in design.unimodal))
            fits.parameters.setdefault("late", sum(fits.parameters[name] for name in design.unimodal))
        best.append(_best_modality(design, fits, X, i))
        fitted["best single"] = fitted[f"only {best[-1]}"]
        fitted |= _families(fitted[ALL], design)
        fitted["null"] = marginal_model(_predictor(fitted[ALL]), design.outcome)
        for name, rival in design.rivals.items():
            fitted[name] = clone(rival, safe=False).fit(X)
            fits.counted(f"{step}: {name}")
        scored.append((fitted, test))
        if deadline is not None and i < len(splits) and deadline.passed(i):
            break
    return scored, best


def _best_modality(design: _Design, fits: ComparatorFitter, X: Landmarks, fold: int) -> str:
    """The modality with the lowest IBS, or Brier score, over inner folds of the training landmarks X."""
    parts: Parts = []
    inner = StratifiedPatientKFold(design.inner, seed=design.seed, outcome=design.outcome)
    alike = np.zeros(len(X)) if X.cohort.outcomes[design.outcome].strata is None else None
    for i, (train, test) in enumerate(inner.split(X, alike), 1):
        step = f"fold {fold}, inner fold {i} of {design.inner}"
        models: dict[str, Model] = {
            name: fits.fit(design.comparators[name], X[train], step) for name in design.unimodal
        }
        patients = np.unique(X.patient[test])
        left_out = scored_landmarks(X.cohort, patients, design.outcome, design.landmarks, design.to)
        parts.append((models, left_out))
    risks = ModelRisks.of(parts, design.outcome, design.times)
    error = ComparedScores.of(risks, design.outcome, design.cause, design.horizons[-1:]).selecting()
    if not np.isfinite(error).all():
        raise InputError(
            f"fold {fold}: too few training patients to choose the best unimodal model by inner folds; "
            "give fewer folds, earlier landmarks or shorter horizons"
        )
    return list(design.modalities)[int(np.argmin(error))]


def _predictor(model: Model) -> Predictor:
    """The fitted families of a model of the comparison."""
    assert isinstance(model, RestrictedModel) and isinstance(model.model, PrognosisModel)
    return model.model.predictor_


def _families(model: Model, design: _Design) -> dict[str, Model]:
    """The families of the model of all node types, each alone; nothing is fitted for them."""
    cohort = design.comparators[ALL].cohort
    each = family_models(_predictor(model), design.outcome)
    return {name: RestrictedModel(one, cohort) for name, one in each.items()}


def _movement(design: _Design, risks: ModelRisks, scored: Parts) -> dict[str, dict[str, float]]:
    """How far each family moves a risk: means over folds; nothing of a value."""
    if design.to is not None:
        return {}
    weights = [_predictor(fitted[ALL]).weights[design.outcome] for fitted, _ in scored]
    found = {}
    for name in FAMILIES:
        if name in risks.risks:
            of = risks.risks[name]
            # of all classes or labels together the mean over them
            every = [of[design.cause]] if design.cause in of else [*of.values()]
            risk = np.stack([one[:, -1] for one in every]).clip(1e-6, 1 - 1e-6)
            logit = np.log(risk) - np.log1p(-risk)
            each = [float(logit[:, risks.fold == i].std(1).mean()) for i in range(len(scored))]
            weight = float(np.mean([fold.get(name, 0.0) for fold in weights]))
            found[name] = {"sd": float(np.mean(each)), "weight": weight}
    return found


def _comparison(
    design: _Design,
    fits: ComparatorFitter,
    scored: Parts,
    best: Sequence[str],
    n: int,
    progress: Progress | None,
) -> Comparison:
    """Figures, the primary contrast, the leave-one-out family, and the other contrasts."""
    risks = ModelRisks.of(scored, design.outcome, design.times)
    found = ComparedScores.of(risks, design.outcome, design.cause, design.horizons, n, design.seed, progress)
    left_out = found.family(
        (ALL, other, name) for name, other in design.left_out.items() if other in found.names
    )
    pairs = [*_contrasted(found.names), *((ALL, name) for name in design.rivals)]
    rows = found.rows([(ALL, "best single"), *((ALL, one["second"]) for one in left_out), *pairs])
    if beside := BESIDE.get(design.cohort.outcomes[design.outcome].kind):
        rows += beside(risks, design.outcome, design.horizons, n=n, seed=design.seed)[0]
    return Comparison(
        outcome=design.outcome,
        cause=design.cause,
        modalities=design.modalities,
        best_unimodal=tuple(best),
        channels=fits.channels,
        parameters=fits.parameters,
        budget={key: value for key, value in fits.budget.items() if key != "device"},
        horizons=design.horizons,
        patients=len(np.unique(risks.landmarks.patient)),
        events=_cases(found.board.observed, risks.landmarks, design.cause),
        rows=rows,
        primary=found.contrast(ALL, "best single"),
        left_out=tuple(left_out),
        others=tuple(found.contrast(*pair) for pair in pairs),
        risks=risks,
        parts=tuple(scored),
        movement=_movement(design, risks, scored),
        rivals={
            name: tuple(told_of(fitted[name], design.outcome) for fitted, _ in scored)
            for name in design.rivals
        },
    )


def _cases(observed: ObservedOutcome, landmarks: Landmarks, cause: str) -> int:
    """Patients with the cause, or of the class; of a value those with one.

    Of all labels together those with any, of all ordered classes those outside the commonest one.
    """
    found = observed.counts(landmarks)
    if cause == observed.together:
        each = observed.with_each(np.ones(len(landmarks), bool))
        leave = max(found, key=lambda name: found[name]) if observed.kind == "ordered" else None
        some = np.any([had for name, had in each.items() if name != leave], axis=0)
        return len(np.unique(landmarks.patient[some]))
    return next(iter(found.values())) if observed.kind == "progression" else found[cause]


def _contrasted(names: Sequence[str]) -> list[tuple[str, str]]:
    """Which models are compared in pairs, besides the primary contrast and the leave-one-out models."""
    pairs = [*CONTRASTS, *((name, "statics") for name in names if name.startswith("values "))]
    return [pair for pair in pairs if set(pair) <= set(names)]


def run_compare(
    path: Path,
    outcome: str,
    folds: Path | None = None,
    progress: Progress | bool | None = None,
    missing: Sequence[str] = (),
    **choices: Any,
) -> Comparison:
    """Compare models of a packed cohort, as `gnnpatient compare` does.

    Parameters
    ----------
    path : Path
        Folder of the cohort.
    outcome : str
        Name of a survival outcome or a diagnosis.
    folds : Path, optional
        Fold file; default: five folds by patient.
    progress : Progress or bool, optional
        Called after each fit; True for bars.
    missing : sequence of str, default ()
        Node types that `missing_curve` will take away, so that a wrong name is refused before the
        fits.
    **choices
        to, members, epochs, seed, budget, rivals, configurations of `compare`.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        As `compare`, and when a node type of `missing` is unknown.
    """
    cohort = open_cohort(path)
    cohort.outcomes_with_model([outcome])
    known = modalities_of(_with_inputs_of(cohort, outcome))
    if unknown := [kind for kind in missing if kind not in known]:
        raise InputError(f"unknown node type {unknown[0]!r}{near(unknown[0], known)}")
    splits = 5 if folds is None else read_folds(folds, cohort)
    return compare(cohort, outcome, folds=splits, progress=progress, **choices)
