"""Does fusion help? All kinds of rows together against the best one alone, by fair means (METHODS 16, 20-22).

Every contestant is fitted on the same asks with the same members and epochs, and is as wide as it takes to
have about as many parameters as the graph. Statics are in all of them. Late fusion alone has more: it is all
singles together.

    graph           all kinds, with every edge of the spec
    only X          one kind; `best single` is in each fold the one that scores best on inner folds of its
                    training part
    without X       all but one kind
    early           no messages: the linear path over the last observations of all kinds, and timing
    late            the mean of the forecasts of all `only X`
    intermediate    a deep set: the mean of each timepoint's nodes, read by attention over timepoints; no edge
                    between nodes, one layer
    transformer     attention among the same nodes, no edge
    clockwork       all rows without what they say: which test, when, how often
    values          what the latest row of each code says; not when, not how often, nor what came before
    values X        the same of one kind of pictures or texts
    presence        whether a patient has rows of a kind by now, and nothing else
    statics         no row at all
    null            the training asks' Aalen-Johansen, or their shares of each class

Survival is judged by C and scaled IBS, a diagnosis by AUC and scaled Brier score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gnnpatient.cohort.cohort import Cohort, open_cohort
from gnnpatient.cohort.landmarks import Landmarks, StratifiedPatientKFold, few_horizons
from gnnpatient.cohort.outcomes import Survival
from gnnpatient.errors import InputError, near
from gnnpatient.prognosis.estimator import PrognosisModel
from gnnpatient.prognosis.forecast import judged
from gnnpatient.prognosis.run import draw_asks, scored_asks, usual_landmarks
from gnnpatient.prognosis.targets import Target, last_estimable
from gnnpatient.progress import Progress
from gnnpatient.study.ablations import Contestant, Late, Seen, contestants, modalities_of
from gnnpatient.study.baselines import Null, Shares, null_of
from gnnpatient.study.comparison import (
    RIVALS,
    SAYS,
    Comparison,
    _Board,
    _contrast,
    _rows,
    _verdict,
    holm,
)
from gnnpatient.study.evaluate import names_of
from gnnpatient.study.fitting import _Fits
from gnnpatient.study.folds import Fold, read_folds
from gnnpatient.study.scoreboard import Model, Scored

POINTS = 20  # times at which a curve is scored for the integrated Brier score


# ---- what a contestant sees


# ---- fitting


# ---- scoring


# ---- the answer


def compare(
    cohort: Cohort,
    outcome: str,
    *,
    cause: str | None = None,
    folds: Sequence[Fold] | int = 5,
    modalities: Mapping[str, Sequence[str]] | None = None,
    models: Sequence[str] | None = None,
    landmarks: Sequence[float | str] | None = None,
    horizons: Sequence[float] | None = None,
    members: int = 3,
    epochs: int = 30,
    channels: int = 32,
    choices: Mapping[str, Any] | None = None,
    inner: int = 3,
    n: int = 200,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> Comparison:
    """Fit every contestant on each fold's training patients and score all on its test patients.

    cause: which one is judged (default: the one named like the outcome, else the first), or which class (the
    last); folds: splits by patient and group, or how many to make; modalities: name -> kinds (default:
    `modalities_of`); models: names of contestants besides the graph and the singles (default: all);
    landmarks, horizons: days (or "entry") at which is asked and up to which is scored (default: entry, and
    where anything becomes known after it 1, 3 and 5 years, or quarters of a shorter follow-up; up to the same
    years, or thirds; a diagnosis has no horizon to choose); choices: of PrognosisModel, the same for all;
    inner: folds of a training part on which its best single modality is chosen, by IBS or Brier score; n:
    draws of patients for the intervals; progress: called after each fit.
    """
    causes = names_of(cohort, outcome)
    curves = isinstance(cohort.outcomes[outcome], Survival)
    if cause is None:
        cause = outcome if outcome in causes else causes[0 if curves else -1]
    if cause not in (known := causes if curves else judged(causes)):
        raise InputError(
            f"unknown {'cause' if curves else 'class'} {cause!r} of {outcome!r}{near(cause, known)}"
        )
    if horizons is not None and not curves:
        raise InputError(f"outcome {outcome!r} is a diagnosis, which has no horizon to choose; leave it out")
    cohort = _seen_for(cohort, outcome)
    parts = {m: tuple(kinds) for m, kinds in (modalities or modalities_of(cohort)).items()}
    often = Counter(kind for kinds in parts.values() for kind in set(kinds))
    if twice := [kind for kind, n in often.items() if n > 1]:
        raise InputError(
            f"kind {twice[0]!r} is in two modalities; without one it would still be in the other"
        )
    if len(parts) < 2:
        raise InputError(
            f"{len(parts)} kind of node with rows ({', '.join(parts) or 'none'}); fusion takes two or more"
        )
    field_ = _chosen(contestants(cohort, parts), models)
    splits = make_folds(cohort, outcome, folds, seed) if isinstance(folds, int) else list(folds)
    _check(cohort, splits)
    plan = {"landmarks": "random", "seed": seed, "outcomes": [outcome]}
    asks = [draw_asks(cohort, fold.train, plan) for fold in splits]
    at = usual_landmarks(cohort, outcome) if landmarks is None else list(landmarks)
    if horizons is None and curves:
        horizons = few_horizons(min(_reach(X, outcome, causes) for X in asks))
    until = tuple(sorted(float(horizon) for horizon in horizons or ()))
    if not at or (curves and not (until and until[0] > 0)):
        raise InputError("no landmark, or no horizon above 0 days; give both or leave them out")
    budget = {"members": members, "epochs": epochs, "channels": channels, "seed": seed, "device": device}
    budget |= {"kind_dropout": _kind_dropout(cohort, parts)} | dict(choices or {})
    singles = [f"only {name}" for name in parts]
    last = until[-1] if curves else None
    fits = _Fits(outcome, last, budget, progress, len(splits) * (len(field_) + len(parts) * inner))
    times = np.zeros(0)
    if last is not None:
        times = np.unique(np.concatenate([np.linspace(0, last, POINTS + 1)[1:], until]))
    scored, chosen = [], []
    for i, (fold, X) in enumerate(zip(splits, asks, strict=True), 1):
        test = scored_asks(cohort, fold.test, outcome, at)
        if not len(test):
            raise InputError(f"fold {fold.fold} of repeat {fold.repeat}: nobody at risk at the landmarks")
        fitted: dict[str, Model] = {
            name: fits(one, X, f"fold {i} of {len(splits)}") for name, one in field_.items()
        }
        said = [fitted[name] for name in singles]
        if models is None or "late" in models:
            fitted["late"] = Late(tuple(said))
            fits.parameters.setdefault("late", sum(fits.parameters[name] for name in singles))
        best = _best(fits, [field_[name] for name in singles], X, at, outcome, cause, inner, seed, times, i)
        chosen.append(list(parts)[best])
        fitted["best single"] = said[best]
        fitted["null"] = _null(fitted["graph"], outcome)
        scored.append((fitted, test))
    board = _Board(Scored.of(scored, outcome, times), outcome, cause, until)
    draws = board.draws(n, seed)
    primary = _contrast(board, draws, "graph", "best single")
    rest = {
        name: f"without {name}"
        if len(parts) > 2
        else next(f"only {other}" for other in parts if other != name)
        for name in parts
    }
    family = [
        _contrast(board, draws, "graph", other, name) for name, other in rest.items() if other in board.names
    ]
    for found, p in zip(family, holm([f["p"] for f in family]), strict=True):
        found["holm"] = p
        found["verdict"] = _verdict(found)
    named = [*(("graph", rival) for rival in RIVALS), *SAYS]
    named += [(name, "statics") for name in board.names if name.startswith("values ")]
    pairs = [(one, other) for one, other in named if {one, other} <= set(board.names)]
    others = [_contrast(board, draws, one, other) for one, other in pairs]
    every = [("graph", "best single"), *(("graph", f["second"]) for f in family), *pairs]
    who = np.unique(board.scored.asks.patient)
    return Comparison(
        outcome=outcome,
        cause=cause,
        modalities=parts,
        chosen=tuple(chosen),
        channels=fits.channels,
        parameters=fits.parameters,
        budget={key: value for key, value in budget.items() if key != "device"},
        horizons=until,
        patients=len(who),
        events=_count(board, cause),
        rows=_rows(board, draws, every),
        primary=primary,
        left_out=tuple(family),
        others=tuple(others),
        scored=board.scored,
        parts=tuple(scored),
    )


def _seen_for(cohort: Cohort, outcome: str) -> Cohort:
    """With the kinds alone that the outcome is asked with."""
    inputs = cohort.inputs([outcome])
    return cohort if inputs is None else cohort.only(inputs)


def _count(board: _Board, cause: str) -> int:
    """How many of the scored patients have the cause at all, or the class at an ask."""
    asks, k = board.scored.asks, board.truth.judged[cause]
    if not board.truth.curves:
        return len(np.unique(asks.patient[board.truth.label == k]))
    return int((asks.cohort.survival(board.outcome).strata[np.unique(asks.patient)] == k).sum())


def _chosen(every: dict[str, Contestant], models: Sequence[str] | None) -> dict[str, Contestant]:
    """The graph and the singles, and of the rest what is asked for."""
    if models is None:
        return every
    always = {name for name in every if name == "graph" or name.startswith("only ")}
    given = {"late", "best single", "null"}  # come with the others
    for name in models:
        if name not in {*every, *given}:
            raise InputError(f"unknown contestant {name!r}{near(name, (*every, *given))}")
    return {name: one for name, one in every.items() if name in always or name in models}


def make_folds(cohort: Cohort, outcome: str, count: int, seed: int = 0) -> list[Fold]:
    """Splits of all patients, whole groups together, with each event or label spread evenly."""
    everybody = Landmarks(cohort, np.arange(len(cohort)), np.where(cohort.enters, cohort.entry, 0))
    split = StratifiedPatientKFold(count, seed=seed, outcome=outcome).split(everybody)
    return [Fold(0, i, train, test, pl.String) for i, (train, test) in enumerate(split)]


def _check(cohort: Cohort, folds: Sequence[Fold]) -> None:
    if not folds:
        raise InputError(
            "no fold to compare on; give a fold file with repeat, fold, id, or a number of folds"
        )
    for fold in folds:
        if not (len(fold.train) and len(fold.test)):
            raise InputError(
                f"fold {fold.fold} of repeat {fold.repeat}: one side is empty; two folds or more would do"
            )
        both = np.intersect1d(cohort.groups[fold.train], cohort.groups[fold.test])
        if len(both):
            raise InputError(
                f"fold {fold.fold} of repeat {fold.repeat}: {len(both)} group(s) on both sides; split by "
                "group"
            )


def _reach(X: Landmarks, outcome: str, causes: tuple[str, ...]) -> float:
    """The last horizon (days) that can be estimated from these asks."""
    if not len(X):
        raise InputError(f"outcome {outcome!r}: nobody at risk to train on; give other folds")
    truth = X.outcome(outcome)
    target = Target(causes, truth["event"].astype(np.int64), truth["time"].astype(float))
    return last_estimable(target, X.patient, X.moments)


def _kind_dropout(cohort: Cohort, modalities: Mapping[str, Sequence[str]]) -> float:
    """As PrognosisModel has it by default: only where pictures or texts stand among the nodes."""
    nodes = cohort.spec.nodes
    return 0.2 if any(nodes[kind].content for kinds in modalities.values() for kind in kinds) else 0.0


def _null(graph: Model, outcome: str) -> Null | Shares:
    assert isinstance(graph, Seen) and isinstance(graph.model, PrognosisModel)
    return null_of(graph.model.predictor_, outcome)


def _best(
    fits: _Fits,
    singles: Sequence[Contestant],
    X: Landmarks,
    at: Sequence[float | str],
    outcome: str,
    cause: str,
    inner: int,
    seed: int,
    times: np.ndarray,
    fold: int,
) -> int:
    """Which single modality has the lowest IBS, or Brier score, over inner folds of the training asks X."""
    parts: list[tuple[Mapping[str, Model], Landmarks]] = []
    for train, held in StratifiedPatientKFold(inner, seed=seed, outcome=outcome).split(X):
        models: dict[str, Model] = {
            one.name: fits(one, X[train], f"fold {fold}, inner fold {len(parts) + 1} of {inner}")
            for one in singles
        }
        parts.append((models, scored_asks(X.cohort, np.unique(X.patient[held]), outcome, at)))
    board = _Board(Scored.of(parts, outcome, times), outcome, cause, tuple(times[-1:].tolist()))
    error = board.value[:, -1, board.columns.index((board.score.error, None))]
    if not np.isfinite(error).all():
        raise InputError(
            f"fold {fold}: too few training patients to choose the best single kind by inner folds; "
            f"give fewer folds, earlier landmarks or shorter horizons"
        )
    return int(np.argmin(error))


# ---- what is missing


def run_compare(
    path: Path,
    outcome: str,
    folds: Path | None = None,
    progress: Progress | None = None,
    missing: Sequence[str] = (),
    **budget: int,
) -> Comparison:
    """`gnnpatient compare`: a packed cohort, on the splits of a file or on five made here.

    missing: kinds that will be asked for in `missing_curve`, so that a wrong name is refused before the fits;
    budget: members, epochs, seed, the same for every contestant; default those of `compare`.
    """
    cohort = open_cohort(path)
    cohort.answered([outcome])
    known = modalities_of(_seen_for(cohort, outcome))
    if unknown := [kind for kind in missing if kind not in known]:
        raise InputError(f"unknown kind {unknown[0]!r}{near(unknown[0], known)}")
    splits = 5 if folds is None else read_folds(folds, cohort)
    return compare(cohort, outcome, folds=splits, progress=progress, **budget)  # type: ignore[arg-type]
