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
    StepLines,
    durations,
    moments,
    note,
    print_json,
    say,
    table,
)
from gnnpatient.errors import InputError
from gnnpatient.files import file_name

if TYPE_CHECKING:
    from gnnpatient.study.comparison import Comparison
    from gnnpatient.study.evaluate import Evaluation

# that `evaluate` shows of each horizon or class, or of a value
METRICS = (
    *("rmse", "crps", "coverage", "auc", "auprc", "brier", "oe", "rps", "qwk"),
    *("oe_between", "log_between", "number_oe", "number_scaled_mse", "state_oe"),
)
OVERALL = (  # and of each landmark
    *("scaled_ibs", "scaled_brier", "scaled_crps", "scaled_rps", "state_scaled_ibs"),
)
COMPARED = (  # that `compare` shows
    *("c", "auc", "qwk"),
    *("scaled_ibs", "scaled_brier", "scaled_rps", "scaled_mse", "scaled_crps"),
)
FAMILIES = ("graph", "linear", "boosted")  # parts of a model, with a table of their own
Row = Mapping[str, Any]  # a figure: model, landmark, horizon, metric, value, low, high ...


# ---- evaluate


def evaluate(
    run: RunPath,
    cohort: CohortPath,
    outcome: OutcomeName = None,
    landmarks: Annotated[
        str | None, typer.Option(help="score at [default: as fitted, or entry,1y,3y,5y]")
    ] = None,
    horizons: Annotated[
        str | None, typer.Option(help="score up to [default: 1y,3y,5y as far as the model goes]")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="a value: asked for so long after the landmark, as 1y")
    ] = None,
    by: Annotated[str | None, typer.Option(help="repeat in groups of: sex,age,site")] = None,
    censoring: Annotated[
        str, typer.Option(help="km: alike for all; cox: beside it by last observations, both are shown")
    ] = "km",
    cv: Annotated[
        int | None, typer.Option("--cv", help="refit RUN's choices in so many folds of the whole cohort")
    ] = None,
    folds: Annotated[
        Path | None, typer.Option(help="the same in the folds of a file: repeat, fold, id")
    ] = None,
    update: Annotated[
        str | None,
        typer.Option(
            help="intercept, or slope (both): add the model updated here, by halves of the patients"
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="folder for figures: calibration, AUC by horizon, net benefit"),
    ] = None,
    json: Json = False,
) -> None:
    """Score a model, with intervals, on patients that it was not trained on.

    Of a model of several outcomes each is scored in turn, or the one that is named. Beside it: each of its
    families alone, and what its graph adds; a stacked Cox model (of a diagnosis a
    stacked logistic regression, of a value the last one, a ridge regression, boosted quantiles and a linear
    mixed model, for which --to says when it is asked for), and the null model, which forecasts the same for
    everybody. With --cv or
    --folds the choices of RUN are refitted in each fold, so that every patient is scored once while held out;
    the model of RUN itself is not used.
    """
    from gnnpatient.cohort.cohort import open_cohort
    from gnnpatient.study.fitted import FittedModel
    from gnnpatient.study.validation import evaluate_outcomes, evaluate_run, refuse_censoring

    at, until = moments(landmarks) if landmarks else None, durations(horizons) if horizons else None
    refuse_censoring(censoring)
    if cv is not None or folds is not None:
        if update is not None:
            raise InputError("--update is of a fitted model elsewhere; --cv and --folds fit it here")
        return _evaluate_in_folds(run, cohort, outcome, at, until, to, by, censoring, cv, folds, plot, json)
    fitted, opened = FittedModel.open(run), open_cohort(cohort, verify=True)
    groups = by.split(",") if by else []
    shared: dict[str, Any] = {"landmarks": at, "horizons": until, "to": to, "censoring": censoring}
    shared |= {"update": update, "note": note, "by": groups, "progress": True}
    if outcome is None and len(fitted.outcome_names()) > 1:
        several = evaluate_outcomes(fitted, opened, **shared)
    else:
        several = {"": evaluate_run(fitted, opened, outcome, **shared)}
    for name, found in several.items():
        for line in found.scores.warnings:
            note(f"warning: {line}")
        _draw(found.scores, plot if plot is None or not name else plot / file_name(name))
    if json:
        each = [found.to_dict() for found in several.values()]
        return print_json(each[0] if "" in several else {"outcomes": each})
    for found in several.values():
        show_scores(found.scores)


def _evaluate_in_folds(
    run: Path,
    cohort: Path,
    outcome: str | None,
    landmarks: list[float | str] | None,
    horizons: list[float] | None,
    to: str | None,
    by: str | None,
    censoring: str,
    cv: int | None,
    folds: Path | None,
    plot: Path | None,
    json: bool,
) -> None:
    """Refit the choices of a run in folds, and print the pooled figures."""
    from gnnpatient.cohort.cohort import open_cohort
    from gnnpatient.study.crossval import cross_validate_run, refit_notes

    if cv is not None and folds is not None:
        raise InputError("--cv and --folds are two ways to split; give one of them")
    if cv is not None and cv < 2:
        raise InputError(f"--cv {cv}; must be 2 or more folds")
    opened = open_cohort(cohort, verify=True)
    for line in refit_notes(run, opened):
        note(line)
    with StepLines(per_fold=True) as progress:
        found = cross_validate_run(
            run,
            opened,
            outcome,
            folds=folds if cv is None else cv,  # type: ignore[arg-type]
            landmarks=landmarks,
            horizons=horizons,
            to=to,
            by=by.split(",") if by else [],
            censoring=censoring,
            progress=progress,
        )
    for line in found.scores.warnings:
        note(f"warning: {line}")
    _draw(found.scores, plot)
    if json:
        return print_json(found.to_dict())
    show_scores(found.scores)
    say(f"{len(found.folds)} folds: two patients are compared where one fitted model scored both.")


def _draw(scores: Evaluation, folder: Path | None) -> None:
    """Figures of an evaluation, where a folder is given."""
    if folder is None:
        return
    files, missing = scores.save_plots(folder)
    for line in missing:
        note(line)
    note(f"{len(files)} figures in {folder}")


def show_scores(
    scores: Evaluation, metrics: Sequence[str] = METRICS, *, estimable_only: bool = False
) -> None:
    """Print scores for people: a row a figure, a column a model.

    Parameters
    ----------
    scores : Evaluation
    metrics : sequence of str
        Shown beside the scaled ones.
    estimable_only : bool, default False
        Leave out a figure that no model has.
    """
    metrics = (*metrics, *OVERALL)
    rows = [row for row in scores.rows if row["metric"] in metrics]
    if estimable_only:
        place = ("cause", "group", "censoring", "metric", "landmark", "horizon")
        there = {tuple(row[name] for name in place) for row in rows if row["value"] is not None}
        rows = [row for row in rows if tuple(row[name] for name in place) in there]
    for part in dict.fromkeys((row["cause"], row["group"], row["censoring"]) for row in rows):
        _show_part(scores, metrics, rows, part)
    _show_gaps(scores)
    _show_coverage(scores)
    counts = ", ".join(f"{n} {cause}" for cause, n in scores.events.items())
    say(f"{scores.patients} patients scored ({counts}). - : not estimable.")
    if any(row["metric"] == "rmse" for row in rows):
        say("auc and brier are of whether a value is seen; the others of the value, where one is.")
    if any(row["metric"] == "number_oe" for row in rows):
        say("number_oe and number_scaled_mse are of the expected number of events, the others of the next.")
    _say_intervals(scores, rows)
    _show_families(scores, metrics)
    if scores.graph_sentence:
        say(scores.graph_sentence)
    if scores.too_small:
        say(scores.too_small)


def _show_part(
    scores: Evaluation, metrics: Sequence[str], rows: Sequence[Row], part: tuple[str, str | None, str]
) -> None:
    """One table: the figures of a cause in a group of patients by one weighting."""
    from gnnpatient.study.evaluate import moment_name

    models = [name for name in dict.fromkeys(row["model"] for row in rows) if name not in FAMILIES]
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        if (row["cause"], row["group"], row["censoring"]) == part:
            key = row["metric"], moment_name(row["landmark"], scores.entry), _horizon(row)
            lines.setdefault(key, {})[row["model"]] = _figure(row)
    order = sorted(lines.items(), key=lambda line: metrics.index(line[0][0]))
    cause, group, weights = part
    title = f"{scores.outcome}: {cause}" + (f", {group}" if group else "")
    title += ", censoring by last observations (cox)" if weights == "cox" else ""
    shown = [(*key, *(figures.get(model, "") for model in models)) for key, figures in order]
    table(title, ["<metric", "landmark", "horizon", *(m.replace("-", " - ") for m in models)], shown)


def _show_families(scores: Evaluation, metrics: Sequence[str]) -> None:
    """The answer and each family alone, at the last horizon of each cause, means over landmarks."""
    whole = [row for row in scores.rows if row["group"] is None and row["censoring"] == "km"]
    rows = [row for row in whole if row["model"] in ("gnn", *FAMILIES) and row["metric"] in metrics]
    if not any(row["model"] in FAMILIES for row in rows):
        return
    last = max((row["horizon"] or 0 for row in rows), default=0)
    rows = [row for row in rows if row["horizon"] in (None, last)]
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:  # the mean over landmarks comes last
        found.setdefault((row["cause"], row["model"]), {})[row["metric"]] = _figure(row)
    shown = [m for m in metrics if any(m in figures for figures in found.values())]
    lines = [(*key, *(figures.get(m, "") for m in shown)) for key, figures in found.items()]
    table("each family alone, mean over landmarks, last horizon", ["<cause", "<model", *shown], lines)


def _show_gaps(scores: Evaluation) -> None:
    """What each group has more or less than the largest of its column, by the answer itself."""
    gaps = [gap for gap in scores.gaps if gap["model"] == scores.rows[0]["model"]]
    if not gaps:
        return
    at = None if any(gap["landmark"] is None for gap in gaps) else gaps[0]["landmark"]
    there = [gap for gap in gaps if gap["landmark"] == at]
    last = dict[tuple[str, str], float]()
    for gap in sorted(there, key=lambda gap: (gap["value"] is not None, gap["horizon"] or 0)):
        last[gap["cause"], gap["group"]] = gap["horizon"]  # the last one with a figure, or else the last one
    shown = [gap for gap in there if gap["horizon"] == last[gap["cause"], gap["group"]]]
    metrics = list(dict.fromkeys(gap["metric"] for gap in shown))
    counts = {row["group"]: row for row in scores.groups}
    found: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for gap in shown:
        key = gap["cause"], gap["group"], gap["reference"], _horizon(gap)
        found.setdefault(key, {})[gap["metric"]] = _figure(gap)
    lines = [
        (
            *key,
            str(counts[key[1]]["patients"]),
            str(counts[key[1]]["events"].get(key[0], "")),
            *(figures.get(m, "") for m in metrics),
        )
        for key, figures in found.items()
    ]
    title = f"{gaps[0]['model']}: each group minus the largest of its column"
    title += ", last horizon that can be estimated" if any(last.values()) else ""
    heads = ["<cause", "<group", "<minus", "horizon", "patients", "events", *metrics]
    table(title + (", mean over landmarks" if at is None and any(last.values()) else ""), heads, lines)
    for line in scores.gap_sentences:
        say(line)


def _show_coverage(scores: Evaluation) -> None:
    """How often calibrated answers hold, by landmark."""
    from gnnpatient.study.evaluate import moment_name

    if not scores.calibrated:
        return
    size = {"time bound": "mean bound, days", "set": "mean classes", "interval": "mean width"}
    first, grouped = scores.calibrated[0], any(row["group"] for row in scores.calibrated)
    lines = [
        (
            row["model"],
            *([row["group"] or "everybody"] if grouped else []),
            moment_name(row["landmark"], scores.entry),
            str(row["patients"]),
            _figure(row),
            f"{row['promise']:g}",
            f"{row['size']:.4g}",
        )
        for row in scores.calibrated
    ]
    title = f"{scores.outcome}: how often the {first['level']:g} {first['what']} holds"
    heads = ["<model", *(["<group"] if grouped else []), "landmark", "patients", "coverage", "promised"]
    table(title, [*heads, size[first["what"]]], lines)
    if grouped:
        say("The promise is one on average over everybody: no group has one of its own.")


def _say_intervals(scores: Evaluation, rows: Sequence[Row]) -> None:
    """What the intervals resample, and where they are few or none."""
    most = max((row["draws"] or 0 for row in rows), default=0)
    say(f"Intervals resample {scores.units}, 95 %.")
    if lost := [row["draws"] for row in rows if row["draws"] is not None and row["draws"] < most]:
        say(
            f"In {len(lost)} figures some bootstrap draws gave no number; at least {min(lost)} of {most} did."
        )
    if any(row["interval"] == "groups, t" for row in rows):
        say("Fewer than 30 groups: intervals by t with one degree of freedom less.")
    elif scores.units == "groups" and {r["interval"] for r in rows if r["value"] is not None} == {None}:
        say("Fewer than 5 groups: no intervals.")


def _horizon(row: Row) -> str:
    """A horizon in words; a label has none."""
    from gnnpatient.times import duration

    if row["horizon"] is not None:
        return duration(row["horizon"])
    return "all" if row["metric"] == "scaled_ibs" else ""


def _figure(row: Row) -> str:
    """A figure with its interval; a - is not estimable."""
    if row["value"] is None:
        return "-"
    interval = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{interval}"


# ---- compare


def compare(
    cohort: CohortPath,
    outcome: Annotated[str, typer.Option(help="name of the outcome")],
    to: Annotated[
        str | None, typer.Option(help="a value: asked for so long after the landmark, as 1y")
    ] = None,
    folds: Annotated[
        Path | None, typer.Option(help="file of folds: repeat, fold, id [default: five folds by patient]")
    ] = None,
    members: Annotated[
        int | None, typer.Option(help="how often each family of each model is fitted [default: 3]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="at most, each [default: as fit]")] = None,
    seed: Annotated[int | None, typer.Option(help="of all that is drawn at random [default: 0]")] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="time that it may take, as in 10m or 2h: what does not fit is left out, and said"),
    ] = None,
    missing: Annotated[
        str,
        typer.Option(
            help="node types to remove from more and more patients: image,note; shows how the score falls"
        ),
    ] = "",
    rivals: Annotated[
        str,
        typer.Option(
            help="rivals to fit beside, of the same rows and landmarks: cox,boosted,forest,gru,...; "
            "joint:CODE; or tabular=FILE.py:CLASS, a classifier of your own"
        ),
    ] = "",
    configurations: Annotated[
        int | None,
        typer.Option(help="of each rival, of which inner folds choose one [default: 20]"),
    ] = None,
    json: Json = False,
) -> None:
    """Does fusion help? Each node type alone, each left out, and all together in several ways."""
    from gnnpatient.cohort.cohort import open_cohort

    # An outcome that is not there is refused before torch is loaded.
    open_cohort(cohort).check_outcome(outcome)
    limit = _limit(budget)
    from gnnpatient.study.report import compare_report

    kinds = [kind.strip() for kind in missing.split(",") if kind.strip()]
    choices: dict[str, Any] = {"to": to, "members": members, "epochs": epochs, "seed": seed, "budget": limit}
    choices["configurations"] = configurations
    choices["rivals"] = [one.strip() for one in rivals.split(",") if one.strip()] or None
    chosen = {name: value for name, value in choices.items() if value is not None}
    with StepLines() as progress:
        found = compare_report(cohort, outcome, folds, progress, kinds, **chosen)
    if json:
        return print_json(found.to_dict())
    _show_comparison(outcome, found.comparison, found.missing)
    for row in found.pattern:
        share = "" if row["share"] is None else f", {row['share']:.0%} of the gain of all node types"
        gain = f"{row['metric']} {_figure(row['gain'])}"
        say(f"missingness only: {gain} over baseline covariates only{share}")


def _limit(text: str | None) -> float | None:
    """Seconds of a limit of time; m is minutes here, as in timeout(1)."""
    from gnnpatient.times import seconds

    if text is None:
        return None
    words = text.strip()
    if not words or words[-1].isdigit():
        raise InputError(f"--budget {text!r}; write a number and a unit, as in 90s, 10m or 2h")
    found = seconds(words + "in" if words.endswith("m") else words)
    if found <= 0:
        raise InputError(f"--budget {text!r}; must be > 0")
    return found


def _show_comparison(outcome: str, found: Comparison, curve: Sequence[Row]) -> None:
    """The figures of every model, how they fall where a node type is removed, and the verdict."""
    lines = _means(found.rows, "model")
    metrics = [m for m in COMPARED if any(m in figures for figures in lines.values())]
    shown = [
        (name, *(figures.get(m, "") for m in metrics), found.parameters.get(name, ""))
        for (name,), figures in lines.items()
    ]
    table(f"{outcome}: mean over landmarks", ["<model", *metrics, "parameters"], shown)
    _show_beside(found)
    if curve:
        head = ["<removed", "from patients", "landmarks without", *metrics]
        lost = [
            (kind, f"{share:.0%}", f"{lacking:.0%}", *(figures[m] for m in metrics))
            for (kind, share, lacking), figures in _means(curve, "kind", "share", "lacking").items()
        ]
        table("gnn, with a node type removed from the patients", head, lost)
    for sentence in found.sentences:
        say(sentence)


def _show_beside(found: Comparison) -> None:
    """What the contrasts do not judge: the expected number of events, or being in each state."""
    from gnnpatient.study.evaluate import moment_name

    rows = [row for row in found.rows if row["metric"] in ("number_scaled_mse", "state_scaled_ibs")]
    rows = [row for row in rows if row["horizon"] in (None, found.horizons[-1])]
    if not rows:
        return
    days = [moment_name(day, None) for day in dict.fromkeys(row["landmark"] for row in rows)]
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        line = lines.setdefault((row["model"], row["cause"]), {})
        line[moment_name(row["landmark"], None)] = _figure(row)
    of = "number of events" if rows[0]["metric"] == "number_scaled_mse" else "being in each state"
    shown = [(*key, *(figures.get(day, "") for day in days)) for key, figures in lines.items()]
    table(f"{found.outcome}: {of}, {rows[0]['metric']}; not judged below", ["<model", "<of", *days], shown)


def _means(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], dict[str, str]]:
    """The figures of each `keys`, by metric: means over landmarks and horizons."""
    found: dict[tuple[Any, ...], dict[str, str]] = {}
    for row in rows:
        if row["landmark"] is None and row["horizon"] is None and row["metric"] in COMPARED:
            found.setdefault(tuple(row[key] for key in keys), {})[row["metric"]] = _figure(row)
    return found


COMMANDS = (evaluate, compare)
