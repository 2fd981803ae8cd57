"""The risks of every patient, the forecast for one, the graph of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gnnpatient.cli.console import (
    At,
    CohortPath,
    Json,
    OutcomeName,
    PatientId,
    RunPath,
    durations,
    moments,
    note,
    one_moment,
    print_json,
    say,
    table,
)

if TYPE_CHECKING:
    from gnnpatient.patient.answers import PatientAnswer

NOTICE = "Research use only. Not a medical device."


def predict(
    run: RunPath,
    cohort: CohortPath,
    out: Annotated[Path, typer.Option("--out", help="file to write, .csv or .parquet")],
    at: Annotated[
        str | None,
        typer.Option(help="landmarks: entry,1y,3y or 2021-03-04; a task has prediction times of its own"),
    ] = None,
    horizons: Annotated[
        str | None, typer.Option(help="risk within: 1y,3y,5y; a diagnosis needs none")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="value at: 1y,3y after the landmark; a progression needs it")
    ] = None,
    meds: Annotated[
        Path | None, typer.Option(help="new folder for the risks as MEDS labels, a file a cause and horizon")
    ] = None,
) -> None:
    """Write the risk of every patient of a cohort who is at risk at a landmark.

    Columns: id landmark outcome cause horizon risk low high split; landmark and horizon in days; of a
    diagnosis the cause is the class and the horizon empty; low and high are the model spread, empty with
    fewer than 5 members; of a progression to (days after the landmark), code, quantile and value instead.
    Calibrated, of level 0.9, and empty where the model is not: event_free_at_least (days) of
    survival, class_set (classes joined by |) of a diagnosis, interval_low and interval_high of a value, and
    promised, how often that is promised to hold.
    split is train or test as the RUN knows the patient, empty where it does not. In a .csv, text that begins
    with = + - @ gets an apostrophe before it, so that no spreadsheet runs it.
    """
    from gnnpatient.cohort.cohort import open_cohort
    from gnnpatient.patient import predictions
    from gnnpatient.study.fitted import FittedModel

    predictions.refuse_suffix(out)
    landmarks = moments(at, dates=True) if at else None
    until, wanted = (durations(text) if text else [] for text in (horizons, to))
    model, opened = FittedModel.open(run), open_cohort(cohort, verify=True)
    found = predictions.predict(model, opened, at=landmarks, horizons=until, to=wanted)
    found.write(out, meds)
    for line in found.notes:
        note(line)
    say(f"{out}: {len(found.frame)} rows")


def ask(
    run: RunPath,
    cohort: CohortPath,
    patient: PatientId,
    at: At = None,
    outcome: OutcomeName = None,
    to: Annotated[str | None, typer.Option(help="a value at: 1y after that day; default a few")] = None,
    given: Annotated[
        str | None, typer.Option("--event-free", help="if event-free for so long: 1y; the curves from there")
    ] = None,
    json: Json = False,
) -> None:
    """Ask about one patient: what is known on a day, and what the model expects from there."""
    from gnnpatient.cohort.cohort import open_cohort

    opened = open_cohort(cohort)
    # An unknown id is refused before torch is loaded.
    opened.positions(patient)
    from gnnpatient.patient.answers import answer

    moment = None if at is None else one_moment(at)
    found = answer(run, opened, patient, moment, outcome, to=to, given=given)
    if json:
        return print_json(found.to_dict())
    show_answer(found)


def show_answer(found: PatientAnswer) -> None:
    """Print the answer about one patient for people.

    Parameters
    ----------
    found : PatientAnswer
    """
    from gnnpatient.times import YEAR

    years = f" ({found.at / YEAR:.1f} years)" if abs(found.at) > YEAR else ""
    say(f"Patient {found.patient} as of day {round(found.at, 3):g}{years}")
    known = [*found.known.items(), ("statics", found.statics)]
    say("known:    " + (", ".join(f"{n} {what}" for what, n in known if n) or "nothing"))
    if found.split == "train":
        say("trained on: the model was fitted on this patient, so its forecast may be overconfident")
    if found.missing:
        say("missing:  " + ", ".join(found.missing))
    for line in found.warnings:
        say(line)
    for name, one in found.outcomes.items():
        if not one.at_risk:
            say(f"{name}: {one.refusal}")
            continue
        (first, *others), rows = one.table()
        table(f"{name} {one.title}".strip(), [f"<{first}", *others], rows)
        say(f"{name}: {one.statement}")
    say(NOTICE)


def export(
    cohort: CohortPath,
    patient: PatientId,
    out: Annotated[Path, typer.Option("--out", help="file to write")],
    form: Annotated[str, typer.Option("--format", help="graphml or json")],
    at: At = None,
) -> None:
    """Write one patient's graph as known at a moment (default: all that was ever known)."""
    from gnnpatient.cohort.cohort import open_cohort
    from gnnpatient.files import atomic_file

    opened = open_cohort(cohort)
    record = opened.patient(patient)
    day = None if at is None else float(opened.landmarks(patient, [one_moment(at)]).days[0])
    text = record.export(form, day)
    with atomic_file(out) as part:
        part.write_text(text, encoding="utf-8")
    say(f"{out}: written")


COMMANDS = (predict, ask, export)
