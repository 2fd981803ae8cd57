"""Risks of all patients, the answer for one, the graph of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnpatient.cli.console import (
    DAY,
    NOTICE,
    YEAR,
    At,
    CohortPath,
    Json,
    OutcomeName,
    PatientId,
    RunPath,
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
    import numpy as np
    import polars as pl

    from gnnpatient.cohort.cohort import Cohort
    from gnnpatient.cohort.landmarks import Landmarks
    from gnnpatient.prognosis.forecast import Answer, DiagnosisForecast, Forecast


def predict(
    run: RunPath,
    cohort: CohortPath,
    out: Annotated[Path, typer.Option("--out", help="file to write, .csv or .parquet")],
    at: Annotated[
        str | None,
        typer.Option(help="ask everyone at: entry,1y,3y or 2021-03-04; a task is asked at its own moments"),
    ] = None,
    horizons: Annotated[
        str | None, typer.Option(help="risk within: 1y,3y,5y; a diagnosis needs none")
    ] = None,
    meds: Annotated[
        Path | None, typer.Option(help="new folder for the risks as MEDS labels, a file a cause and horizon")
    ] = None,
) -> None:
    """Write the risk of every patient of a cohort who is at risk at a landmark.

    Columns: id landmark outcome cause horizon risk low high split; landmark and horizon in days; of a
    diagnosis the cause is the class and the horizon empty; low and high are the model spread, empty with
    fewer than 5 members; split is train or test as the RUN knows the patient, empty where it does not. In a
    .csv, text that begins with = + - @ gets an apostrophe before it, so that no spreadsheet runs it.
    """
    import numpy as np
    import polars as pl

    from gnnpatient.cohort.cohort import open_cohort
    from gnnpatient.cohort.landmarks import together
    from gnnpatient.cohort.outcomes import Task
    from gnnpatient.files import atomic_file
    from gnnpatient.ingest.source import disarmed
    from gnnpatient.prognosis.checkpoint import load_predictor
    from gnnpatient.prognosis.forecast import Forecast

    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"{out}: a table is written as .csv or .parquet")
    wanted, until = moments(at, dates=True) if at else None, durations(horizons) if horizons else []
    predictor, opened = load_predictor(run), open_cohort(cohort, verify=True)
    tasks = [name for name in predictor.outcomes if isinstance(opened.outcomes.get(name), Task)]
    forecasts: dict[str, Answer] = {}
    asked: list[Landmarks] = []
    for name in tasks:
        asked.append(opened.moments(name))
        forecasts[name] = predictor.forecast(asked[-1])[name]
    if others := [name for name in predictor.outcomes if name not in tasks]:
        if wanted is None:
            raise InputError(f"risk of {others[0]} as of when? give --at, as in 1y,3y")
        X = opened.landmarks(times=wanted)
        said = predictor.forecast(X)
        forecasts |= {name: said[name] for name in others}
        asked.append(X[np.logical_or.reduce([said[name].at_risk for name in others])])
    elif wanted is not None:
        raise InputError(f"outcome {tasks[0]!r} is asked at its own moments; leave out --at")
    for line in dict.fromkeys(line for X in asked for line in _unlike(predictor, X)):
        note(line)
    curves = [name for name, f in forecasts.items() if isinstance(f, Forecast)]
    if until and min(until) <= 0:
        raise InputError(f"horizon {min(until):g} days; it lies after the landmark")
    if curves and not until:
        raise InputError(f"risk of {curves[0]} within what time? give --horizons, as in 1y,3y,5y")
    tables = [f.table(until) if isinstance(f, Forecast) else f.table() for f in forecasts.values()]
    rows = pl.concat(tables).rename({"at": "landmark"})
    split = pl.Series(_split(run, opened), dtype=pl.String)
    rows = rows.with_columns(split=split[opened.positions(rows["id"].to_numpy())])
    with atomic_file(out) as part:
        if out.suffix == ".parquet":
            rows.write_parquet(part)
        else:
            disarmed(rows).write_csv(part)
        if meds is not None:  # where that is refused, neither is written
            _meds(rows, opened, meds)
    for name, forecast in forecasts.items():
        if gone := int((~forecast.at_risk).sum()):
            why = f"is not at risk of {name!r}" if name in curves else f"has a label of {name!r}, or is gone,"
            note(f"{gone} of {len(forecast)} asks left out: the patient {why} then")
    for line in _strangers(predictor.unknown(together(*asked))):
        note(line)
    say(f"{out}: {len(rows)} rows")


def _split(run: Path, cohort: Cohort, patients: Sequence[int] | None = None) -> list[str | None]:
    """Of each patient of a cohort, or of some of them: train, test, None where it is not known."""
    from gnnpatient.prognosis.people import tell

    if not _is_run(run):
        return [None] * (len(cohort) if patients is None else len(patients))
    found: list[str | None] = tell(run, cohort, patients).side.tolist()
    return found


def _meds(rows: pl.DataFrame, cohort: Cohort, folder: Path) -> None:
    """Risks as MEDS 0.4 labels: OUTCOME/CAUSE/DAYSd.parquet with subject_id, prediction_time, float_value.

    Of a diagnosis: OUTCOME/CLASS/label.parquet.
    """
    import numpy as np
    import polars as pl

    from gnnpatient.files import atomic_folder, file_name, inside

    if cohort.origin is None:
        raise InputError(
            f"{folder}: MEDS labels need dates, and the cohort's times are offsets; --out has the risks"
        )
    ids = pl.Series(cohort.ids.astype(str))
    whole = (ids.cast(pl.Int64, strict=False).cast(pl.String) == ids).fill_null(False)  # 01 is not 1
    if not whole.all():
        raise InputError(f"{folder}: MEDS wants whole numbers as ids, {int((~whole).sum())} here are not")
    start = np.asarray(cohort.origin)[cohort.positions(rows["id"].to_numpy())]
    moment = pl.Series(start * 1_000_000) + (rows["landmark"] * DAY * 1_000_000).round().cast(pl.Int64)
    labels = rows.select(
        "outcome",
        "cause",
        "horizon",
        pl.col("id").cast(pl.Int64).alias("subject_id"),
        moment.cast(pl.Datetime("us")).alias("prediction_time"),
        pl.col("risk").cast(pl.Float32).alias("float_value"),
    )
    taken = set[str]()  # some disks do not tell case
    with atomic_folder(folder) as part:
        for (outcome, cause, horizon), table in labels.group_by("outcome", "cause", "horizon"):
            name = "label.parquet" if horizon is None else f"{horizon:g}d.parquet"
            file = inside(part, file_name(str(outcome)), file_name(str(cause)), name)
            file.parent.mkdir(parents=True, exist_ok=True)
            table = table.select("subject_id", "prediction_time", "float_value")
            if (key := str(file).casefold()) in taken:
                raise InputError(
                    f"{folder}: {cause!r} of {outcome!r} and another one make the same file name"
                )
            taken.add(key)
            table.sort("subject_id", "prediction_time").write_parquet(file)


def _moment(cohort: Cohort, patient: str, at: str | None, outcomes: Sequence[str]) -> Landmarks:
    """The ask of one patient: at a given moment, or the last known one while at risk."""
    import numpy as np

    from gnnpatient.cohort.outcomes import Task
    from gnnpatient.prognosis.forecast import answerable

    if at is not None:
        (wanted, *more) = moments(at, dates=True)
        if more:
            raise InputError(f"--at {at!r}: one patient is asked at one moment; give one of them")
        return cohort.landmarks(patient, [wanted])
    here = int(cohort.positions(patient)[0])
    known = [e.known[e.ptr[here] : e.ptr[here + 1]] for e in cohort.events.values()]
    tasks = (cohort.outcomes[name] for name in outcomes if name in cohort.outcomes)
    known += [task.at[task.patient == here] for task in tasks if isinstance(task, Task)]
    late = (cohort.number_known, cohort.category_known)
    known += [since[here][since[here] > 0] for since in late if since is not None]
    times = np.unique(
        np.concatenate([*known, cohort.at_entry[here : here + 1] if cohort.enters[here] else [0]])
    )
    asks = cohort.at(times / DAY, patient=np.repeat(here, len(times)))
    names = [name for name in outcomes if name in cohort.outcomes]
    if names and (risk := np.logical_or.reduce([answerable(asks, n) for n in names])).any():
        asks = asks[risk]
    return asks[-1]


def ask(
    run: RunPath,
    cohort: CohortPath,
    patient: PatientId,
    at: At = None,
    outcome: OutcomeName = None,
    json: Json = False,
) -> None:
    """Ask about one patient: what is known on a day, and what the model expects from there."""
    _, forecasts, found = _ask(run, cohort, patient, at, outcome)
    if json:
        return answer(found)
    _tell(found, forecasts)


def _ask(
    run: Path, path: Path, patient: str, at: str | None, outcome: str | None
) -> tuple[Landmarks, dict[str, Answer], dict[str, Any]]:
    from gnnpatient.cohort.cohort import open_cohort
    from gnnpatient.errors import near

    cohort = open_cohort(path)
    here = cohort.positions(patient)  # an unknown id is refused before torch is loaded
    from gnnpatient.prognosis.checkpoint import load_predictor

    cohort.verify(here)
    predictor = load_predictor(run)
    if outcome is not None and outcome not in predictor.outcomes:
        raise InputError(f"the model has no outcome {outcome!r}{near(outcome, predictor.outcomes)}")
    names = predictor.outcomes if outcome is None else (outcome,)
    X = _moment(cohort, patient, at, names)
    said = predictor.forecast(X, device="cpu")  # one ask: done before a GPU has woken up
    forecasts = {name: f for name, f in said.items() if name in names}
    known = {kind: len(cohort.events[kind].held(X.patient, X.at)[2]) for kind in cohort.spec.nodes}
    kinds = predictor.kinds if predictor.kinds is not None else tuple(predictor.modules[0].vocabulary.codes)
    found = {
        "patient": str(X.ids[0]),
        "at": float(X.days[0]),
        "split": _split(run, cohort, here.tolist())[0],
        "at_risk": any(bool(f.at_risk[0]) for f in forecasts.values()),
        "known": known,
        "statics": _statics(X),
        "missing": [kind for kind in dict.fromkeys((*cohort.spec.nodes, *kinds)) if not known.get(kind)],
        "unknown": predictor.unknown(X),
        "notes": _unlike(predictor, X),
        "outcomes": {name: _plain(f) for name, f in forecasts.items() if f.at_risk[0]},
    }
    return X, forecasts, found


def _statics(X: Landmarks) -> int:
    """How many static columns are known of the one patient that is asked about."""
    import numpy as np

    number, category = X.cohort.statics(X.patient, X.at)
    return int(np.isfinite(number).sum() + (category >= 0).sum())


def _plain(forecast: Answer) -> dict[str, Any]:
    """One ask's forecast as lists and numbers."""
    from gnnpatient.prognosis.forecast import DiagnosisForecast

    return _classes(forecast) if isinstance(forecast, DiagnosisForecast) else _curve(forecast)


def _classes(forecast: DiagnosisForecast) -> dict[str, Any]:
    said = {c: float(forecast.risk(c)[0]) for c in forecast.classes}
    found: dict[str, Any] = {"kind": "diagnosis", "probability": said}
    for i, end in enumerate(("low", "high")):
        bands = {c: forecast.spread(c) for c in forecast.classes}
        found[end] = {c: float(band[i][0]) for c, band in bands.items() if band} or None
    return found


def _curve(forecast: Forecast) -> dict[str, Any]:
    causes = {cause: forecast.risks(forecast.times, cause)[0].tolist() for cause in forecast.causes}
    bands = {c: [forecast.spread(t, c) for t in forecast.times.tolist()] for c in forecast.causes}
    spread = all(band is not None for band in bands[forecast.causes[0]])
    ends = [{c: [float(b[i][0]) for b in band if b] for c, band in bands.items()} for i in (0, 1)]
    return {
        "kind": "survival",
        "times": forecast.times.tolist(),
        "event_free": forecast.event_free[0].tolist(),
        "incidence": causes,
        "low": ends[0] if spread else None,
        "high": ends[1] if spread else None,
    }


def _tell(found: Mapping[str, Any], forecasts: Mapping[str, Answer]) -> None:
    """The answer for people."""
    from gnnpatient.cohort.landmarks import few_horizons
    from gnnpatient.prognosis.forecast import DiagnosisForecast

    years = f" ({found['at'] / YEAR:.1f} years)" if abs(found["at"]) > YEAR else ""
    say(f"Patient {found['patient']} as of day {found['at']:g}{years}")
    known = [*found["known"].items(), ("statics", found["statics"])]
    say("known:    " + (", ".join(f"{n} {what}" for what, n in known if n) or "nothing"))
    if found["split"] == "train":
        say("trained on: the model was fitted on this patient, so its answer may be surer than it should be")
    if found["missing"]:
        say("missing:  " + ", ".join(found["missing"]))
    for line in (*_strangers(found["unknown"]), *found["notes"]):
        say(line)
    for name, forecast in forecasts.items():
        if isinstance(forecast, DiagnosisForecast):
            if not forecast.at_risk[0]:
                why = "known by this day, or nobody is observed any more, or no moment of the task"
                say(f"{name}: {why}, so there is no probability")
                continue
            each = [(c, _percent(forecast.risk(c), forecast.spread(c))) for c in forecast.classes]
            table(f"{name} [model spread]", ["<class", "probability"], each)
            continue
        if not forecast.at_risk[0]:
            say(f"{name}: the patient is not at risk on this day, so there is no curve")
            continue
        times = few_horizons(float(forecast.times[-1]))
        rows = []
        for cause in forecast.causes:
            rows.append(
                (cause, *(_percent(forecast.risk(cause, t), forecast.spread(t, cause)) for t in times))
            )
        free = [1 - sum(float(forecast.risk(c, t)[0]) for c in forecast.causes) for t in times]
        rows.append(("event-free", *(f"{_whole(f)} %" for f in free)))
        table(f"{name} from this day on [model spread]", ["<within", *map(span, times)], rows)
    say(NOTICE)


def _percent(risk: np.ndarray, band: tuple[np.ndarray, np.ndarray] | None) -> str:
    """The one ask's risk, and its spread. Nothing is told as impossible, or as certain."""
    around = f" [{_whole(band[0][0])} to {_whole(band[1][0])}]" if band else ""
    return f"{_whole(risk[0])} %{around}"


def _whole(risk: float) -> str:
    """A probability as a whole percentage; of one that rounds to 0 or 100 on which side of it it lies."""
    return "<1" if 0 <= risk < 0.005 else ">99" if risk > 0.995 else f"{risk * 100:.0f}"


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
    opened.verify(opened.positions(patient))
    when = None if at is None else float(_moment(opened, patient, at, ()).days[0])
    text = opened.patient(patient).export(form, when)
    with atomic_file(out) as part:
        part.write_text(text, encoding="utf-8")
    say(f"{out}: written")


COMMANDS = (predict, ask, export)
