"""What came of each patient, read from the tables: times and causes, or labels and when they were known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from gnnpatient.cohort.events import FOREVER, Rows
from gnnpatient.cohort.outcomes import Diagnosis, Outcome, Survival, Task
from gnnpatient.cohort.patients import Patients, earliest, first_line, moment_of, patient_time
from gnnpatient.cohort.readers.tables import text
from gnnpatient.cohort.source import Source, View, one_each, take
from gnnpatient.cohort.spec import (
    DAY,
    NEVER,
    NOBODY,
    CauseSpec,
    DiagnosisSpec,
    Moment,
    SurvivalSpec,
    near,
    seconds,
)
from gnnpatient.errors import Refused

GO_ON = 0.05  # share of those with an event who may have rows after it, of an event that ends all


@dataclass(frozen=True, eq=False)
class Record:
    """All that has been read of the patients."""

    source: Source
    patients: Patients
    rows: Mapping[str, Rows]  # of each kind, before anything is hidden
    entry: np.ndarray  # (patient,) int64 seconds
    exit: np.ndarray | None  # (patient,) int64 seconds, NEVER = not given

    def view(self, table: str, columns: list[str], *, claim: bool = False) -> tuple[View, np.ndarray]:
        """Some columns of a table and the patient of each row; its rows are used where it holds no nodes."""
        view = self.source.view(table, columns)
        who = view.who(self.patients.ids)
        if claim and not self.source.holds_nodes(table):
            view.account.claim(view.row, who)
        return view, who


def read_survival(record: Record, name: str, outcome: SurvivalSpec) -> Survival:
    """Time (seconds, NEVER = unknown) and event (0 censored, k = k-th cause) of each patient.

    The earliest cause counts, of two at one moment the one that the spec names first; an event at the end
    of observation is an event. One on a bare date is judged by the day: a death on the day of discharge
    is one.
    """
    patients, count = record.patients, len(record.patients)
    table, present, refuse_if = outcome.table, np.ones(count, bool), _refusal(name)
    if table is not None and not outcome.of_events:
        view, who = record.view(table, [], claim=True)
        present = np.bincount(who[who >= 0], minlength=count) > 0
        refuse_if = _refusal(name, view, who, present)

    event, time = np.zeros(count, np.int8), np.full(count, FOREVER)
    begun = np.full(count, FOREVER)  # the first second at which the event can have been
    last = np.full(count, FOREVER)  # end of observation
    if outcome.status is not None:
        assert table is not None
        view, who = record.view(table, [outcome.status.column, outcome.status.time])
        state = _states(view, name, outcome, who, count)
        when = patient_time(view, outcome.status.time, who, patients)
        refuse_if((when == NEVER) | (state < 0), "no state or no time; missing is not censored")
        event = state.astype(np.int8)
        begun = np.where(state > 0, patient_time(view, outcome.status.time, who, patients, end=0), FOREVER)
        time, last = np.where(state > 0, when, time), np.where(state == 0, when, last)
    for cause, spec in outcome.parts:
        when, begins, censored = _cause(record, name, cause, spec, table, refuse_if)
        last = np.minimum(last, censored)
        first, k = (when != NEVER) & (when < time), 1 + outcome.cause_names.index(cause)
        event, time = np.where(first, k, event).astype(np.int8), np.where(first, when, time)
        begun = np.where(first, begins, begun)
    end = _exit(record, outcome.exit, outcome.table)
    if end is not None:
        last = np.where(end != NEVER, end, last)
    refuse_if(
        (event == 0) & (last == FOREVER),
        "neither an event nor an end of observation; set exit = COLUMN, a duration or { code, pick }",
    )
    event = np.where(present & (begun <= last), event, 0).astype(np.int8)
    time = np.minimum(time, last)
    if not outcome.of_events:
        refuse_if(time < 0, "the time lies before the origin")
    return Survival(np.where(present, time, NEVER), event, outcome.cause_names)


def _refusal(
    name: str, view: View | None = None, who: np.ndarray | None = None, present: np.ndarray | None = None
) -> Callable[[np.ndarray, str], None]:
    """Refuse the outcome where something is wrong with a patient, (patient,) bool; by line if it has one."""

    def refuse_if(wrong: np.ndarray, what: str) -> None:
        wrong = wrong if present is None else wrong & present
        if not wrong.any():
            return
        if view is None or who is None:
            raise Refused(f"outcome {name!r}: {int(wrong.sum())} patient(s): {what}")
        raise Refused(f"{view.table}: outcome {name!r}, line {first_line(view, who, wrong)}: {what}")

    return refuse_if


def _cause(
    record: Record,
    name: str,
    cause: str,
    spec: CauseSpec,
    table: str | None,
    refuse_if: Callable[[np.ndarray, str], None],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """When a cause happened in each patient (NEVER = not), the first second at which that can have been, and
    when observation for it ended (FOREVER = not said).
    """
    source, patients, count = record.source, record.patients, len(record.patients)
    never = np.full(count, FOREVER)
    if spec.node is not None:
        rows = record.rows[spec.node]
        when = earliest(rows, rows.fitting(spec.codes), count)
        return when, when, never
    if spec.where:
        at, begun = np.full(count, FOREVER), np.full(count, FOREVER)
        for file in source.event_tables(spec.table or table):
            source.open(file)
            if source.is_events(file) and (missing := set(spec.where) - set(source.schemas[file])):
                if spec.table:
                    raise Refused(
                        f"{file}: no column {min(missing)!r}{near(min(missing), source.schemas[file])}"
                    )
                continue
            time = spec.time or "time"
            view = source.view(file, [time], spec.where)
            who = view.who(patients.ids)
            seconds_, bare, bad = view.moment(time, patients.day_zero(who))
            if bad.any():
                line = view.line(bad.arg_true()[0])
                raise Refused(f"{file}: outcome {name!r}, cause {cause!r}, line {line}: not a time")
            ok = seconds_.is_not_null().to_numpy() & (who >= 0)
            when = seconds_.fill_null(0).to_numpy() + bare.to_numpy() * (DAY - 1)
            np.minimum.at(at, who[ok], when[ok])
            np.minimum.at(begun, who[ok], seconds_.fill_null(0).to_numpy()[ok])
            if not source.holds_nodes(file):
                view.account.used[view.row[ok]] = True
        return np.where(at == FOREVER, NEVER, at), begun, never
    own = spec.table or table
    assert own is not None and spec.time is not None
    view, who = record.view(own, [c for c in (spec.time, spec.flag) if c], claim=True)
    when = patient_time(view, spec.time, who, patients)
    begun = patient_time(view, spec.time, who, patients, end=0)
    happened = when != NEVER
    if spec.flag is None:
        return when, begun, never
    flag = _flags(view, name, cause, spec.flag, who, count)
    refuse_if(flag < 0, f"flag {spec.flag!r} is empty; missing is not censored")
    refuse_if((flag == 1) & ~happened, f"cause {cause!r} happened, but no time")
    censored = np.where(happened & (flag == 0), when, FOREVER)
    return np.where(happened & (flag == 1), when, NEVER), begun, censored


def _exit(record: Record, what: Moment | None, table: str | None) -> np.ndarray | None:
    """End of observation of each patient, NEVER = not given; None = nobody's is."""
    if what is None:
        return record.exit
    return moment_of(record.source, what, table, record.patients, record.rows)


def _states(view: View, name: str, outcome: SurvivalSpec, who: np.ndarray, count: int) -> np.ndarray:
    """What the status column means for each patient: 0 censored, k the k-th cause, -1 not given."""
    assert outcome.status is not None
    status = outcome.status
    numbers = ("censored", *outcome.cause_names)
    meaning = {state: numbers.index(word) for state, word in status.states.items()}
    cells = text(view.column(status.column)).str.replace(r"^(-?\d+)\.0+$", "$1")
    if (strange := cells.is_not_null() & ~cells.is_in(list(meaning))).any():
        row = strange.arg_true()[0]
        raise Refused(
            f"{view.table}: outcome {name!r}, line {view.line(row)}: state {cells[row]!r} is not in states"
            f"{near(cells[row], meaning)}"
        )
    rows = one_each(view, status.column, cells, who, count)
    code = cells.replace_strict(list(meaning), list(meaning.values()), default=None, return_dtype=pl.Int64)
    return take(code.fill_null(-1).to_numpy(), rows, -1)


_YES_NO = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0}


def _flags(view: View, name: str, cause: str, flag: str, who: np.ndarray, count: int) -> np.ndarray:
    """1 = happened, 0 = censored, -1 = not given."""
    cells = text(view.column(flag)).str.to_lowercase()
    if (strange := cells.is_not_null() & ~cells.is_in(list(_YES_NO))).any():
        row = strange.arg_true()[0]
        raise Refused(
            f"{view.table}: outcome {name!r}, cause {cause!r}, line {view.line(row)}: flag {cells[row]!r} is "
            "not 0 or 1; give the words a meaning with status = { states = {...} }"
        )
    value = cells.replace_strict(list(_YES_NO), list(_YES_NO.values()), default=None, return_dtype=pl.Int64)
    return take(value.fill_null(-1).to_numpy(), one_each(view, flag, value, who, count), -1)


def read_task(record: Record, outcome: DiagnosisSpec) -> Task:
    """The moments at which an ACES task is asked, and their labels."""
    from gnnpatient.cohort import aces

    source, patients = record.source, record.patients
    assert outcome.task is not None and patients.origin is not None
    path = (source.folder / outcome.task).resolve()
    if not path.is_relative_to(source.folder.resolve()):
        raise Refused(f"{outcome.task}: leads out of {source.folder}; keep the task beside the data")
    parts = []
    for table in source.event_tables(None):
        source.open(table)
        has = source.schemas[table]
        number = pl.col("value").cast(pl.Float64) if "value" in has else pl.lit(None, dtype=pl.Float64)
        lazy = source.tables[table].lazy()
        lazy = lazy.filter(pl.col("refused").is_null()) if "refused" in has else lazy
        parts.append(
            lazy.select(pl.col("id").alias("subject_id"), "time", "code", number.alias("numeric_value"))
        )
    events = pl.concat(parts).filter(pl.col("time").is_not_null()).collect(engine="streaming")
    found = aces.label(aces.read_task(path), events)
    index = {"id": patients.ids, "patient": np.arange(len(patients)), "origin": patients.origin}
    rows = found.join(pl.DataFrame(index, schema_overrides={"id": pl.String}), on="id")
    rows = rows.with_columns(pl.col("at").dt.epoch("s") - pl.col("origin")).sort("patient", "at", "label")
    rows = rows.unique(["patient", "at"], keep="last", maintain_order=True)
    return Task(
        rows["patient"].to_numpy(),
        rows["at"].to_numpy(),
        rows["label"].cast(pl.Int16).to_numpy(),
        len(patients),
    )


def read_diagnosis(record: Record, name: str, outcome: DiagnosisSpec) -> Diagnosis | Task:
    """The label of each patient, and when it became known."""
    if outcome.task is not None:
        return read_task(record, outcome)
    count, gap = len(record.patients), seconds(outcome.gap)
    end = record.exit if record.exit is not None else np.full(count, NEVER)
    end = np.where(end == NEVER, FOREVER, end)
    if outcome.node is not None:
        rows = record.rows[outcome.node]
        of = rows.fitting(outcome.codes)
        if record.exit is None and outcome.horizon is not None:
            raise Refused(f"outcome {name!r}: no needs observation up to the horizon; set exit in [patient]")
        known = np.full(count, FOREVER)
        np.minimum.at(known, rows.patient[of], rows.known[of])
        known[np.bincount(rows.patient[of & rows.standing], minlength=count) == 0] = FOREVER  # all taken back
        label = (known < FOREVER).astype(np.int16)
        horizon = seconds(outcome.horizon) if outcome.horizon else None
    else:
        assert outcome.table is not None and outcome.column is not None
        view, who = record.view(outcome.table, [c for c in (outcome.column, outcome.known) if c], claim=True)
        label, horizon = _classes(view, name, outcome, who, count), None
        known = np.full(count, FOREVER)
        if outcome.known is not None:
            known = patient_time(view, outcome.known, who, record.patients)
            lost = (known == NEVER) & (label >= 0)
            _refusal(name, view, who)(lost, f"a label, but {outcome.known!r} does not say when it was known")
            known = np.where(known == NEVER, FOREVER, known)
    return Diagnosis(label, known, end, outcome.class_names, gap, horizon, outcome.when == "same")


def end_by_events(record: Record, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """The outcomes, with diagnoses that may still come told who died or went for good, and who was lost.

    Who died without the diagnosis was followed to the end, which is no censoring (METHODS 9, 28). Where the
    spec names no outcome for it, an event of any survival outcome ends the diagnosis, if rows hardly ever go
    on after events of its cause, or if it stands at the patient's own end.
    """
    specs = record.source.spec.outcomes
    return {
        name: _ended(record, name, specs[name], found, outcomes)
        if isinstance(found, Diagnosis) and found.horizon is not None
        else found
        for name, found in outcomes.items()
    }


def _ended(
    record: Record, name: str, spec: object, found: Diagnosis, outcomes: Mapping[str, Outcome]
) -> Diagnosis:
    assert isinstance(spec, DiagnosisSpec)
    say, specs = record.source.doubt, record.source.spec.outcomes
    chosen = spec.gone in outcomes
    if chosen or spec.gone == NOBODY:
        outcomes = {n: o for n, o in outcomes.items() if n == spec.gone}
    known = {n: o for n, o in outcomes.items() if isinstance(o, Survival)}
    if not known and spec.gone is None:
        say(
            f"outcome {name!r}: no survival outcome says who died, so that every end of observation is taken "
            'for censoring (gone = "OUTCOME")'
        )
    last = np.full(len(record.patients), NEVER)
    for rows in record.rows.values():
        np.maximum.at(last, rows.patient, rows.happened)
    gone, end = np.full(len(last), FOREVER), found.end
    for other, truth in known.items():
        ends = np.zeros(len(last), bool)
        for k, cause in enumerate(truth.causes, 1):
            mine = (truth.event == k) & (truth.time != NEVER)
            on = int((mine & (last > truth.time + DAY)).sum())
            final = chosen or on <= GO_ON * mine.sum()
            if not final:
                say(
                    f"outcome {name!r}: {cause!r} does not end it, as rows go on after {on} of "
                    f'{int(mine.sum())} (gone = "{other}" would say that it does)',
                    decides=True,
                )
            ends |= mine & (final | (truth.time >= found.end))
        gone = np.where(ends, np.minimum(gone, truth.time), gone)
        if (
            len(known) == 1 and getattr(specs[other], "exit", None) is None
        ):  # lost to all, not to a cut of its own
            lost = (truth.event == 0) & (truth.time != NEVER)
            end = np.where(lost, np.minimum(end, truth.time), end)
    if late := int(((found.known < FOREVER) & (found.known > end)).sum()):
        say(f"outcome {name!r}: {late} diagnosed after the end of observation; not counted")
    return replace(found, gone=gone, end=end)


def _classes(view: View, name: str, outcome: DiagnosisSpec, who: np.ndarray, count: int) -> np.ndarray:
    """The class of each patient, -1 = not looked for."""
    assert outcome.column is not None
    cells = text(view.column(outcome.column)).str.replace(r"^(-?\d+)\.0+$", "$1")
    if outcome.classes:
        meaning = {cell: outcome.class_names.index(word) for cell, word in outcome.classes.items()}
    else:
        meaning, cells = _YES_NO, cells.str.to_lowercase()
        if (strange := cells.is_not_null() & ~cells.is_in(list(meaning))).any():
            row = strange.arg_true()[0]
            raise Refused(
                f"{view.table}: outcome {name!r}, line {view.line(row)}: {cells[row]!r} is not 0 or 1; give "
                "the words a meaning with classes = { ... }; cells that it does not name are not looked for"
            )
    label = cells.replace_strict(list(meaning), list(meaning.values()), default=None, return_dtype=pl.Int16)
    return take(label.fill_null(-1).to_numpy(), one_each(view, outcome.column, label, who, count), -1)
