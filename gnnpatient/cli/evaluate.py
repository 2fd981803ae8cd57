"""How good is a model, and does fusion help?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnpatient.cli.console import (
    CohortPath,
    Json,
    OutcomeName,
    RunPath,
    Steps,
    _is_run,
    _strangers,
    _unlike,
    answer,
    durations,
    moments,
    note,
    say,
    span,
    table,
)
from gnnpatient.errors import InputError

if TYPE_CHECKING:
    from gnnpatient.cohort.cohort import Cohort
    from gnnpatient.cohort.landmarks import Landmarks
    from gnnpatient.datasets.ward import Truth
    from gnnpatient.prognosis.forecast import Predictor
    from gnnpatient.prognosis.people import Told
    from gnnpatient.study.evaluate import Evaluation


FIGURES = ("c", "auc", "scaled_ibs", "scaled_brier")  # of `compare`
SHOWN = ("auc", "brier", "oe")  # of each horizon or class; scaled_ibs, scaled_brier of each landmark


def evaluate(
    run: RunPath,
    cohort: CohortPath,
    outcome: OutcomeName = None,
    landmarks: Annotated[
        str | None, typer.Option(help="ask at [default: as fitted, or entry,1y,3y,5y]")
    ] = None,
    horizons: Annotated[
        str | None, typer.Option(help="up to [default: 1y,3y,5y as far as the model goes]")
    ] = None,
    by: Annotated[str | None, typer.Option(help="repeat in groups of: sex,age,site")] = None,
    censoring: Annotated[
        str, typer.Option(help="km: alike for all; cox: beside it by last observations, both are shown")
    ] = "km",
    json: Json = False,
) -> None:
    """Score a model, with intervals, beside a plain rival and the null, on patients it has not seen.

    The rival is a stacked Cox model, of a diagnosis a stacked logistic one.
    """
    at = moments(landmarks) if landmarks else None
    until = durations(horizons) if horizons else None
    groups = by.split(",") if by else []
    found, words = _evaluate(run, cohort, outcome, at, until, groups, censoring=censoring)
    for line in words:
        note(line)
    for line in found.warnings:
        note(f"warning: {line}")
    answer(found.to_dict()) if json else _show(found)


def _evaluate(
    folder: Path,
    path: Path,
    outcome: str | None,
    at: Sequence[float | str] | None,
    horizons: Sequence[float] | None,
    by: Sequence[str],
    truth: Truth | None = None,
    censoring: str = "km",
) -> tuple[Evaluation, list[str]]:
    """The figures, and what has to be said beside them."""
    if censoring not in ("km", "cox"):
        raise InputError(f"--censoring {censoring!r}; km or cox would do")
    import numpy as np

    from gnnpatient.cohort.cohort import open_cohort
    from gnnpatient.cohort.landmarks import few_horizons
    from gnnpatient.cohort.outcomes import Survival, Task
    from gnnpatient.model.heads import SurvivalConfig
    from gnnpatient.prognosis.checkpoint import load_predictor
    from gnnpatient.prognosis.run import Run, scored_asks, usual_landmarks
    from gnnpatient.study import evaluate as study
    from gnnpatient.study.baselines import StackedCox, StackedLogistic

    predictor, cohort = load_predictor(folder), open_cohort(path, verify=True)
    run = Run.open(folder) if _is_run(folder) else None
    name = _outcome(predictor, cohort, outcome)
    head = predictor.modules[0].head(name).config
    curves = isinstance(head, SurvivalConfig)
    if curves != isinstance(cohort.outcomes[name], Survival):
        raise InputError(
            f"outcome {name!r}: a {cohort.outcomes[name].kind} here, of another kind in the model"
        )
    reach = float(head.times[-1]) if isinstance(head, SurvivalConfig) else None
    if horizons is not None and reach is None:
        raise InputError(f"outcome {name!r} is a diagnosis, which has no horizon to choose; leave it out")
    if at is not None and isinstance(cohort.outcomes[name], Task):
        raise InputError(f"outcome {name!r} is asked at its own moments; leave out --landmarks")
    rival = "cox" if curves else "logistic"
    words, left, fitted_too = [], np.arange(len(cohort)), False
    told = run.tell(cohort) if run else None
    if told and run:
        left, fitted_too = np.flatnonzero(told.side != "train"), told.exact
    if told and (told.exact or told.known):
        words += _people(told)
        if not fitted_too:
            words.append(
                f"the cohort is not the very one of the fit, so there is no {rival} fitted on the same asks"
            )
    else:
        known = run.cohort["name"] if run else predictor.about.get("cohort")
        words.append(f"external validation: fitted on {known}, scored on {cohort.spec.cohort}; no {rival}")
        if told:
            words += _people(told)
        if run is None:
            words.append(
                "the model alone does not know its training patients; give the RUN to leave them out"
            )
    if not len(left):
        raise InputError(f"{path}: nobody left to score; all {len(cohort)} patients were trained on")
    if at is None:
        fitted = run.plan["landmarks"] if run else "random"
        at = usual_landmarks(cohort, name) if fitted == "random" else list(fitted)
    X = scored_asks(cohort, left, name, at)
    if not len(X):
        raise InputError(
            f"nobody left to score: none of {len(left)} patients is at risk at {', '.join(map(span, at))}"
        )
    words += [*_strangers(predictor.unknown(X)), *_unlike(predictor, X)]
    times, grid = [], np.zeros(0)
    if reach is not None:
        times = sorted(few_horizons(reach) if horizons is None else horizons)
        if times[-1] > reach * (1 + 1e-9) or times[0] <= 0:
            bad = times[-1] if times[-1] > reach else times[0]
            raise InputError(f"horizon {bad:g} days; this model was fitted up to {reach:g} days")
        grid = np.unique(np.concatenate([np.linspace(0, times[-1], 61)[1:], times]))
    models: dict[str, study.Model] = {"gnn": predictor}
    if fitted_too and run is not None:
        least = int(run.plan["min_patients"])  # the same mapping of rare codes as the model's
        own = (
            StackedLogistic(outcomes=[name], min_patients=least)
            if reach is None
            else StackedCox(outcomes=[name], horizon=reach, min_patients=least)
        )
        models[rival] = own.fit(run.asks(cohort))
    here, there = (
        study.names_of(cohort, name),
        head.causes if isinstance(head, SurvivalConfig) else head.classes,
    )
    if here != there:
        word = "causes" if curves else "classes"
        raise InputError(f"outcome {name!r}: {word} {', '.join(here)}; the model has {', '.join(there)}")
    fitted_on = np.flatnonzero(told.side == "train") if told else np.zeros(0, np.int64)
    train = None  # whom the null is of: the training patients at the landmarks that are scored
    if len(fitted_on) and not isinstance(cohort.outcomes[name], Task):
        train = scored_asks(cohort, fitted_on, name, at)
    models["null"] = study.null_of(predictor, name, train)
    if truth is not None:
        from gnnpatient.study.oracle import Oracle

        models["oracle"] = Oracle(name, here, grid, truth.risk)
    part: tuple[Mapping[str, study.Model], Landmarks] = (models, X)
    scored = study.Scored.of([part], name, grid)
    held_out = (told.count("test") if told.exact or told.known else len(left)) if told else 0
    return study.evaluate(
        scored,
        outcome=name,
        horizons=times,
        by=by,
        against=("gnn", rival),
        held_out=held_out,
        censoring=censoring,
    ), words


def _people(told: Told) -> list[str]:
    """Who of the scored was trained on, and how that is known."""
    trained, held, unknown = (told.count(side) for side in ("train", "test", None))
    words = []
    if trained or told.exact:
        words.append(f"{trained} training patients left out, {held} held out")
    if not told.exact and told.known and unknown:
        words.append(
            f"warning: {unknown} of those that are scored are not known to the run: nobody can say that they "
            "were held out"
        )
    if told.by_record:
        words.append(
            f"{told.by_record} patients have another id than at the fit and the same record: each may be the "
            "same person, and is taken for it"
        )
    if told.by_id:
        words.append(
            f"{told.by_id} patients are taken for training patients by their id alone, with other "
            "records; where they are other people, give the cohort another name"
        )
    if told.strangers:
        words.append(
            f"warning: {told.strangers} patient ids here are ids of training patients, too, with other "
            "records: scored as other people"
        )
    return words


def _outcome(predictor: Predictor, cohort: Cohort, outcome: str | None) -> str:
    """The outcome meant: one that the model answers and the cohort knows."""
    from gnnpatient.errors import near

    if outcome is None and len(predictor.outcomes) > 1:
        raise InputError(f"several outcomes; name one of {', '.join(predictor.outcomes)} with --outcome")
    name = predictor.outcomes[0] if outcome is None else outcome
    if name not in predictor.outcomes:
        raise InputError(f"the model has no outcome {name!r}{near(name, predictor.outcomes)}")
    return cohort.outcome_names(name)[0]


def _show(found: Evaluation, metrics: Sequence[str] = SHOWN, estimable: bool = False) -> None:
    """The figures for people: a row a figure, a column a model; all, or those that some model has."""
    metrics = (*metrics, "scaled_ibs", "scaled_brier")
    rows = [r for r in found.rows if r["metric"] in metrics]
    if estimable:
        place = ("cause", "group", "censoring", "metric", "landmark", "horizon")
        there = {tuple(r[name] for name in place) for r in rows if r["value"] is not None}
        rows = [r for r in rows if tuple(r[name] for name in place) in there]
    models = list(dict.fromkeys(r["model"] for r in rows))
    for cause, group, weights in dict.fromkeys((r["cause"], r["group"], r["censoring"]) for r in rows):
        lines: dict[tuple[Any, ...], dict[str, str]] = {}
        for r in rows:
            if (r["cause"], r["group"], r["censoring"]) == (cause, group, weights):
                key = r["metric"], span(r["landmark"], found.entry), _until(r)
                lines.setdefault(key, {})[r["model"]] = _figure(r)
        order = sorted(lines.items(), key=lambda line: metrics.index(line[0][0]))
        title = f"{found.outcome}: {cause}" + (f", {group}" if group else "")
        title += ", censoring by last observations (cox)" if weights == "cox" else ""
        shown = [(*key, *(cell.get(m, "") for m in models)) for key, cell in order]
        table(title, ["<metric", "landmark", "horizon", *(m.replace("-", " - ") for m in models)], shown)
    counts = ", ".join(f"{n} {cause}" for cause, n in found.events.items())
    most = max((r["draws"] or 0 for r in rows), default=0)
    say(f"{found.patients} patients scored ({counts}). - : not estimable.")
    say(f"Intervals resample {found.units}, 95 %.")
    if lost := [r["draws"] for r in rows if r["draws"] is not None and r["draws"] < most]:
        say(f"In {len(lost)} figures some draws gave no number; at the least {min(lost)} of {most} did.")
    if any(r["interval"] == "groups, t" for r in rows):
        say("Fewer than 30 groups: intervals by t with one degree of freedom less.")
    elif found.units == "groups" and {r["interval"] for r in rows if r["value"] is not None} == {None}:
        say("Fewer than 5 groups: no intervals.")
    if found.too_small:
        say(found.too_small)


def _until(row: Mapping[str, Any]) -> str:
    """A horizon in words; a label has none."""
    if row["horizon"] is not None:
        return span(row["horizon"])
    return "all" if row["metric"] == "scaled_ibs" else ""


def _figure(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "-"
    around = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{around}"


def compare(
    cohort: CohortPath,
    outcome: Annotated[str, typer.Option(help="name of the outcome")],
    folds: Annotated[
        Path | None, typer.Option(help="file of folds: repeat, fold, id [default: five folds by patient]")
    ] = None,
    members: Annotated[int | None, typer.Option(help="networks of each contestant [default: 3]")] = None,
    epochs: Annotated[int | None, typer.Option(help="at most, each [default: 30]")] = None,
    seed: Annotated[int | None, typer.Option(help="[default: 0]")] = None,
    missing: Annotated[
        str, typer.Option(help="kinds to take from more and more patients: image,note; how the score falls")
    ] = "",
    json: Json = False,
) -> None:
    """Does fusion help? Each kind of node alone, each left out, all together in several ways."""
    from gnnpatient.cohort.cohort import open_cohort

    open_cohort(cohort).named(outcome)  # what is not there is refused before torch is loaded
    from gnnpatient.study.fusion import missing_curve, pattern_only, run_compare

    kinds = [kind.strip() for kind in missing.split(",") if kind.strip()]
    with Steps() as progress:
        given = {"members": members, "epochs": epochs, "seed": seed}
        budget = {name: value for name, value in given.items() if value is not None}
        found = run_compare(cohort, outcome, folds, progress, kinds, **budget)
    curve = [row for kind in kinds for row in missing_curve(found, kind)]
    pattern = pattern_only(found)
    if json:
        return answer({**found.to_dict(), "missing": curve, "pattern": pattern})
    lines = _means(found.rows, "model")
    metrics = [m for m in FIGURES if any(m in cells for cells in lines.values())]
    shown = [
        (name, *(cells.get(m, "") for m in metrics), found.parameters.get(name, ""))
        for (name,), cells in lines.items()
    ]
    table(f"{outcome}: mean over landmarks", ["<model", *metrics, "parameters"], shown)
    if curve:
        head = ["<taken", "from patients", "asks without", *metrics]
        lost = [
            (kind, f"{share:.0%}", f"{lacking:.0%}", *(cells[m] for m in metrics))
            for (kind, share, lacking), cells in _means(curve, "kind", "share", "lacking").items()
        ]
        table("graph, asked with a kind taken away", head, lost)
    for sentence in found.sentences:
        say(sentence)
    for row in pattern:
        share = "" if row["share"] is None else f", {row['share']:.0%} of what the graph gains"
        say(
            f"the pattern of missing kinds by itself: {row['metric']} {_figure(row['gain'])} over the "
            f"statics{share}"
        )


def _means(rows: Iterable[Mapping[str, Any]], *keys: str) -> dict[tuple[Any, ...], dict[str, str]]:
    """The figures of each `keys`, by metric: means over landmarks and horizons."""
    found: dict[tuple[Any, ...], dict[str, str]] = {}
    for row in rows:
        if row["landmark"] is None and row["horizon"] is None and row["metric"] in FIGURES:
            found.setdefault(tuple(row[key] for key in keys), {})[row["metric"]] = _figure(row)
    return found


COMMANDS = (evaluate, compare)
