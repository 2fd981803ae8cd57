"""What came of each patient, read from the tables: times and causes, or labels and when they were known."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from gnnpatient.cohort.outcomes import Diagnosis, Outcome, Survival, Task
from gnnpatient.errors import InputError, near
from gnnpatient.ingest import ends
from gnnpatient.ingest.cells import ids, text
from gnnpatient.ingest.events import Rows
from gnnpatient.ingest.patients import (
    BEYOND,
    Patients,
    ahead,
    earliest,
    first_line,
    is_duration,
    moment_of,
    patient_table,
    patient_time,
)
from gnnpatient.ingest.source import PEOPLE, SourceTables, TableView, one_each, take
from gnnpatient.readers.tables import fits
from gnnpatient.spec.outcomes import NOBODY, CauseSpec, DiagnosisSpec, SurvivalSpec
from gnnpatient.spec.patterns import fitting
from gnnpatient.spec.tables import Moment, PickSpec, Where
from gnnpatient.times import DAY, FOREVER, NEVER, seconds

GO_ON = 0.05  # share of those with an event who may have rows after it, of an event that ends all
MONTH = 30 * DAY


@dataclass(frozen=True, eq=False)
class Record:
    """All that has been read of the patients."""

    source: SourceTables
    patients: Patients
    rows: Mapping[str, Rows]  # of each kind, before anything is hidden
    entry: np.ndarray  # (patient,) int64 seconds
    exit: np.ndarray | None  # (patient,) int64 seconds, NEVER = not given
    cut: bool = False  # exit is a duration, which cuts and never prolongs
    ordinary: ends.Ordinary | None = None  # what the bulk of the dates says; known once all events are read
    periods: ends.Periods | None = None  # of observation, with gaps between them

    @property
    def last_row(self) -> np.ndarray:
        """When the last row of each patient happened, day 0 where there is none: (patient,) int64 seconds."""
        last = np.zeros(len(self.patients), np.int64)
        for rows in self.rows.values():
            np.maximum.at(last, rows.patient, rows.happened)
        return last

    def view(self, table: str, columns: list[str], *, claim: bool = False) -> tuple[TableView, np.ndarray]:
        """Some columns of a table and the patient of each row; its rows are used where it holds no nodes."""
        view = self.source.view(table, columns)
        who = view.who(self.patients.ids)
        if claim and not self.source.holds_nodes(table):
            view.account.claim(view.row, who)
        return view, who


@dataclass(frozen=True, eq=False)
class Draft:
    """The events of a survival outcome as the tables say them, before it is known when observation ends."""

    name: str
    spec: SurvivalSpec
    present: np.ndarray  # (patient,) bool: in the table of the outcome, where it has one
    refuse_if: Callable[[np.ndarray, str], None]
    parts: list[tuple[int, np.ndarray, np.ndarray, bool]]  # cause, its time, the first second of it, of rows
    own: np.ndarray  # (patient,) int64: lost to follow-up then, FOREVER = not said
    undated: np.ndarray  # (patient,) bool: it happened, nobody knows when

    @property
    def first(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Event (0 = none), its time and its first second; of two at one moment the first that is named."""
        count = len(self.present)
        event, time, begun = np.zeros(count, np.int8), np.full(count, FOREVER), np.full(count, FOREVER)
        for k, when, begins, _ in self.parts:
            first = (when != NEVER) & (when < time)
            event, time = np.where(first, k, event).astype(np.int8), np.where(first, when, time)
            begun = np.where(first, begins, begun)
        return event, time, begun


def draft_survival(record: Record, name: str, outcome: SurvivalSpec) -> Draft:
    """What the tables say of a survival outcome."""
    patients, count = record.patients, len(record.patients)
    table, present, refuse_if = outcome.table, np.ones(count, bool), _refusal(name)
    if table is not None and not outcome.of_events:
        view, who = record.view(table, [], claim=True)
        present = np.bincount(who[who >= 0], minlength=count) > 0
        refuse_if = _refusal(name, view, who, present)

    parts: list[tuple[int, np.ndarray, np.ndarray, bool]] = []
    own, undated = np.full(count, FOREVER), np.zeros(count, bool)
    if outcome.status is not None:
        assert table is not None
        view, who = record.view(table, [outcome.status.column, outcome.status.time])
        state = _states(view, name, outcome, who, count)
        when = patient_time(view, outcome.status.time, who, patients, beyond=True)
        refuse_if((when == NEVER) | (state < 0), "no state or no time; missing is not censored")
        begun = patient_time(view, outcome.status.time, who, patients, end=False, beyond=True)
        for k in range(1, 1 + len(outcome.cause_names)):
            parts.append((k, np.where(state == k, when, NEVER), begun, False))
        own = np.where(state == 0, when, own)
    for cause, spec in outcome.parts:
        when, begins, censored, unknown = _cause(record, name, cause, spec, table, refuse_if)
        own, undated = np.minimum(own, censored), undated | (unknown & (when == NEVER))
        k = 1 + outcome.cause_names.index(cause)
        parts.append((k, when, begins, spec.node is not None))
    return Draft(name, outcome, present, refuse_if, parts, own, undated)


def read_survival(record: Record, draft: Draft) -> Survival:
    """Time (seconds, NEVER = unknown) and event (0 censored, k = k-th cause) of each patient (METHODS 28).

    The earliest cause counts, of two at one moment the one that the spec names first. Observation ends with
    the earliest of the patient's own end, the exit of the spec and the period; an event at the end is an
    event. One on a bare date is judged by the day: a death on the day of discharge is one. Who has an event
    without a time, or with one that cannot be, is left out: neither at risk for ever nor alive.
    """
    source, of, name, outcome = record.source, record.ordinary, draft.name, draft.spec
    assert of is not None
    parts, wrong = [], np.zeros(len(record.patients), bool)
    for k, when, begins, rows in draft.parts:
        cannot = of.impossible(when, old=not rows)
        cannot &= outcome.of_events | (when >= 0)  # before day 0 a column is refused, with its line
        if (never := cannot & of.filler(when)).any():
            source.doubt(
                f"outcome {name!r}: {int(never.sum())} time(s) of {outcome.cause_names[k - 1]!r} are a "
                "filler decades after all other dates; taken as not happened",
                decides=True,
            )
        wrong |= cannot & ~never
        parts.append((k, np.where(cannot, NEVER, when), begins, rows))
    event, time, begun = replace(draft, parts=parts).first
    last, cut = _last(record, draft)
    end = np.minimum(last, cut)
    after = draft.present & (event > 0) & (begun > end)
    lost = draft.present & (draft.undated | wrong) & ((event == 0) | after)
    observed, periods = np.zeros(len(end), bool), record.periods
    if periods is not None and not _registry(source, outcome):
        observed[periods.patient] = True
    draft.refuse_if(
        (event == 0) & (end == FOREVER) & ~lost & ~observed,
        "neither an event nor an end of observation; set exit = COLUMN, a duration or { code, pick }",
    )
    _tell_lost(source, draft, lost & draft.undated, lost & ~draft.undated)
    _tell_after(source, name, after & ~lost, after & ~lost & (begun > last))
    event = np.where(draft.present & ~after, event, 0).astype(np.int8)
    until, spells = _askable(record, event, time, begun), None
    if periods is None or _registry(source, outcome):
        time, until = np.minimum(time, end), np.minimum(until, end)
    else:
        washout = any(rows for *_, rows in parts)
        spells = ends.spells(periods, record.entry, time, begun, event, end, until, washout)
        spells = spells.of_patients(draft.present & ~lost)
        missed = (event > 0) & (time > record.entry) & ~spells.has_event(len(event)) & draft.present & ~lost
        _step(source, name, "event outside the periods of observation, not counted", missed)
        time, event, until = ends.first_spell(spells, record.entry, time, event, end)
    if not outcome.of_events:
        draft.refuse_if((time < 0) & ~lost, "the time lies before the origin")
    known = draft.present & ~lost
    time, until = np.where(known, time, NEVER), np.where(known, until, NEVER)
    event = np.where(known, event, 0).astype(np.int8)
    _tell_followed(record, draft, time, event)
    sooner = until if (until < time).any() else None
    return Survival(time, event, outcome.cause_names, until=sooner, spells=spells)


def _last(record: Record, draft: Draft) -> tuple[np.ndarray, np.ndarray]:
    """When each patient is lost, and what the spec cuts off; FOREVER = not said.

    A duration cuts and never prolongs; a column or a pick of the outcome stands in the place of that of
    [patient], where it says something.
    """
    source, of, exit_, table = record.source, record.ordinary, draft.spec.exit, draft.spec.table
    assert of is not None
    own = ends.closed(source, of, draft.own, f"outcome {draft.name!r}")
    column, cut = (record.exit, None) if not record.cut else (None, record.exit)
    if exit_ is not None:
        given = moment_of(source, exit_, table, record.patients, record.rows, beyond=True)
        if is_duration(source, exit_, table):
            given = of.reach(given)
            cut = given if cut is None else np.minimum(cut, given)
        else:
            own_row = ends.is_last_row(source, exit_)
            given = ends.closed(source, of, given, f"outcome {draft.name!r}: exit", own=own_row)
            column = given if column is None else np.where(given == NEVER, column, given)
    never = np.full(len(own), FOREVER)
    return (
        own if column is None else np.minimum(own, np.where(column == NEVER, FOREVER, column)),
        never if cut is None else cut,
    )


def _registry(source: SourceTables, outcome: SurvivalSpec) -> bool:
    """Whether the outcome has an end of its own that holds outside the periods of observation, too."""
    own = outcome.exit
    return own is not None and not is_duration(source, own, outcome.table) and own != "observation_end"


def _askable(record: Record, event: np.ndarray, time: np.ndarray, begun: np.ndarray) -> np.ndarray:
    """Until when each patient can be asked: (patient,) int64 seconds.

    An event on a bare date can have been at any moment of it, so nobody is at risk after a row of that day:
    an autopsy of the morning would tell of the death (METHODS 30). At the moment of the row itself they are.
    """
    until, bare = time.copy(), (event > 0) & (begun < time)
    if bare.any():
        for rows in record.rows.values():
            who = rows.patient
            that_day = bare[who] & (rows.known >= begun[who]) & (rows.known < time[who])
            np.minimum.at(until, who[that_day], rows.known[that_day] + 1)
    return until


def _step(source: SourceTables, name: str, what: str, who: np.ndarray) -> None:
    """A step of the outcome's flow, where it concerns anybody."""
    if who.any():
        source.outcome_steps.setdefault(name, []).append([what, int(who.sum())])


def _tell_lost(source: SourceTables, draft: Draft, undated: np.ndarray, wrong: np.ndarray) -> None:
    what = " or ".join(draft.spec.cause_names)
    _step(source, draft.name, f"{what} at an unknown time, left out", undated)
    _step(source, draft.name, f"{what} at a time that cannot be, left out", wrong)
    if undated.any():
        source.doubt(
            f"outcome {draft.name!r}: {int(undated.sum())} patient(s) with {what}, nobody knows when; left "
            "out, as they are neither alive nor at risk",
            decides=True,
        )
    if wrong.any():
        source.doubt(
            f"outcome {draft.name!r}: {int(wrong.sum())} patient(s) with {what} before the birth, after "
            "today or decades from all other dates; left out",
            decides=True,
        )


def _tell_after(source: SourceTables, name: str, after: np.ndarray, lost: np.ndarray) -> None:
    _step(source, name, "event after the end of observation, not counted", after)
    if lost.any():
        source.doubt(
            f"outcome {name!r}: {int(lost.sum())} event(s) after the patient's end of observation are not "
            "counted; if such events are known of everybody, give the end of their registry as that end",
            decides=True,
        )


def _tell_followed(record: Record, draft: Draft, time: np.ndarray, event: np.ndarray) -> None:
    """Flag where the dead are followed longer than the living, so that the risk comes out too high."""
    source, of, spec = record.source, record.ordinary, draft.spec
    assert of is not None
    seen, free = event > 0, (event == 0) & (time != NEVER)
    if not free.any() or not of.calendar:
        return
    axis = time + of.origin
    beyond = seen & (axis > axis[free].max() + MONTH)
    if (n := int(beyond.sum())) > 1:
        source.doubt(
            f"outcome {draft.name!r}: {n} event(s) come more than 30 days after the last day on which "
            "anybody without an event is observed; give all the same end, as exit = COLUMN",
            decides=True,
        )
    end = source.spec.patient.exit if spec.exit is None else spec.exit
    if not ends.is_last_row(source, end):
        return
    lag = time - record.last_row
    usual = max(MONTH, int(np.quantile(lag[free], 0.95)))
    if n := int((seen & (lag > usual)).sum()):
        source.doubt(
            f"outcome {draft.name!r}: {n} event(s) come long after the patient's last row, where those "
            "without an event are no longer observed: the risk is too high; give the registry's end as exit",
            decides=True,
        )


def tell_ends_that_are_events(
    record: Record, drafts: Mapping[str, Draft], labels: Mapping[str, Survival]
) -> None:
    """Flag an outcome whose observation ends with an event of another, or with one by the name of its exit.

    An end that is an event is no censoring (METHODS 28).
    """
    source, people = record.source, patient_table(record.source)
    for name, held in labels.items():
        free = (held.event == 0) & (held.time != NEVER)
        spec = drafts[name].spec
        exit_, table = (spec.exit, spec.table) if spec.exit else (source.spec.patient.exit, people)
        if exit_ is not None and (word := _EVENT.search(_words(exit_))):
            end = moment_of(source, exit_, table, record.patients, record.rows, beyond=True)
            if n := int((free & (held.time == end)).sum()):
                source.doubt(
                    f"outcome {name!r}: the observation of {n} of {int(free.sum())} patient(s) without an "
                    f"event ends with what exit calls {word[0]!r}; if that is an event it is no censoring: "
                    "add it to the causes",
                    decides=True,
                )
        for other, draft in drafts.items():
            event, time, begun = draft.first
            causes = np.array([False, *(c not in held.causes for c in draft.spec.cause_names)])
            has = free & causes[event]
            met = has & (begun <= held.time) & (held.time <= time)
            if other != name and met.any() and 2 * met.sum() >= has.sum():  # else it is by chance
                what = next(c for k, c in enumerate(draft.spec.cause_names, 1) if (event[met] == k).any())
                source.doubt(
                    f"outcome {name!r}: the observation of {int(met.sum())} of {int(free.sum())} patient(s) "
                    f"without an event ends with {what!r} of outcome {other!r}; an end that is an event is "
                    f"no censoring: add {what!r} to its causes",
                    decides=True,
                )


def _refusal(
    name: str, view: TableView | None = None, who: np.ndarray | None = None, present: np.ndarray | None = None
) -> Callable[[np.ndarray, str], None]:
    """Refuse the outcome where something is wrong with a patient, (patient,) bool; by line if it has one."""

    def refuse_if(wrong: np.ndarray, what: str) -> None:
        wrong = wrong if present is None else wrong & present
        if not wrong.any():
            return
        if view is None or who is None:
            raise InputError(f"outcome {name!r}: {int(wrong.sum())} patient(s): {what}")
        raise InputError(f"{view.table}: outcome {name!r}, line {first_line(view, who, wrong)}: {what}")

    return refuse_if


def _cause(
    record: Record,
    name: str,
    cause: str,
    spec: CauseSpec,
    table: str | None,
    refuse_if: Callable[[np.ndarray, str], None],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """When a cause happened in each patient (NEVER = not), the first second at which that can have been, when
    observation for it ended (FOREVER = not said), and in whom it happened without a time.
    """
    source, patients, count = record.source, record.patients, len(record.patients)
    never, none = np.full(count, FOREVER), np.zeros(count, bool)
    if spec.node is not None:
        rows = record.rows[spec.node]
        these = rows.fitting(spec.codes)
        when = begins = earliest(rows, these, count)
        if rows.begun is not None:
            begins = earliest(replace(rows, happened=rows.begun), these, count)
        if not these.any():
            codes = (*rows.codes[1:], *rows.narrow_codes)
            _tell_strange(source, f"outcome {name!r}, cause {cause!r}", spec.codes, codes, f"of {spec.node}")
        return when, begins, never, _undated_nodes(record, spec)
    if spec.where:
        at, begun, undated = np.full(count, FOREVER), np.full(count, FOREVER), none
        for file in source.event_tables(spec.table or table):
            source.open(file)
            if source.is_events(file) and (missing := set(spec.where) - set(source.schemas[file])):
                if spec.table:
                    raise InputError(
                        f"{file}: no column {min(missing)!r}{near(min(missing), source.schemas[file])}"
                    )
                continue
            time = spec.time or "time"
            view = source.view(file, [time], spec.where)
            who = view.who(patients.ids)
            found = view.moment(time, patients.day_zero(who))
            late = ahead(view, time, found.bad, who, patients)  # judged with all dates, as of a column
            lost = found.far & ~late & pl.Series(who >= 0)  # it happened, nobody knows when
            if (bad := found.bad & ~late & ~found.far).any():
                row = bad.arg_true()[0]
                place = f"{file}: outcome {name!r}, cause {cause!r}, line {view.line(row)}"
                raise InputError(f"{place}: not a time{view.shown(time, row)}")
            begin, end = (each.set(late, BEYOND) for each in (found.at, found.end))
            ok = begin.is_not_null().to_numpy() & ~lost.to_numpy() & (who >= 0)
            np.minimum.at(at, who[ok], end.fill_null(0).to_numpy()[ok])
            np.minimum.at(begun, who[ok], begin.fill_null(0).to_numpy()[ok])
            undated = undated | _undated(record, file, time, spec.where)
            undated[who[lost.to_numpy()]] = True
            if not source.holds_nodes(file):
                view.account.used[view.row[ok]] = True
        if (at == FOREVER).all() and not undated.any():
            _tell_strange_cells(source, f"outcome {name!r}, cause {cause!r}", spec, table)
        return np.where(at == FOREVER, NEVER, at), begun, never, undated
    own = spec.table or table
    assert own is not None and spec.time is not None
    view, who = record.view(own, [c for c in (spec.time, spec.flag) if c], claim=True)
    when = patient_time(view, spec.time, who, patients, beyond=True)
    begun = patient_time(view, spec.time, who, patients, end=False, beyond=True)
    happened = when != NEVER
    if spec.flag is None:
        return when, begun, never, _undated_deaths(record, own, spec.time, table, who)
    flag = _flags(view, name, cause, spec.flag, who, count)
    refuse_if(flag < 0, f"flag {spec.flag!r} is empty; missing is not censored")
    refuse_if((flag == 1) & ~happened, f"cause {cause!r} happened, but no time")
    censored = np.where(happened & (flag == 0), when, FOREVER)
    return np.where(happened & (flag == 1), when, NEVER), begun, censored, none


def _tell_strange(
    source: SourceTables,
    place: str,
    patterns: Collection[str],
    known: Collection[str],
    of: str,
    *,
    show: bool = True,
) -> None:
    """Flag patterns none of which fits anything that there is: then nobody can have it.

    show: where none is near, some of what is there.
    """
    if any(fitting(known, patterns)):
        return
    sought = [pattern.replace("*", "") for pattern in tuple(patterns)[:20]]
    some = sorted(set(known))[:100_000]
    alike = dict.fromkeys(c for word in sought for c in difflib.get_close_matches(word, some, n=2))
    hint = f"; did you mean {' or '.join(map(repr, list(alike)[:3]))}?" if alike else ""
    if not alike and show:
        hint = f"; there are {', '.join(map(repr, some[:5])) or 'none'}"
    named = ", ".join(map(repr, tuple(patterns)[:3])) + ", ..." * (len(patterns) > 3)
    source.doubt(f"{place}: {named} fits nothing {of}, so nobody has it{hint}", decides=True)


def _tell_strange_cells(source: SourceTables, place: str, spec: CauseSpec, table: str | None) -> None:
    """Flag patterns of `where` that fit no cell of their column in any table that has it."""
    files = source.event_tables(spec.table or table)
    for file in files:
        source.open(file)
    for column, patterns in spec.where.items():
        having = [f for f in files if column in source.schemas[f]]
        cells = [pl.col(column).cast(pl.String).alias("cell").unique()]
        if any(
            source.tables[f]
            .lazy()
            .select(fits({column: patterns}, [column] * source.schemas[f][column].is_float()).any())
            .collect(engine="streaming")
            .item()
            for f in having
        ):
            continue
        known = {c for f in having for c in source.tables[f].lazy().select(cells).collect()["cell"]} - {None}
        _tell_strange(source, place, patterns, known, f"in column {column!r}", show=False)


_UNTIMED = ("time is not a date", "not a time")  # why the reader of a format refused a row that has no time


_EVENT = re.compile(r"death|dead|died|deceased|discharge|transplant", re.IGNORECASE)


def _words(what: Moment) -> str:
    """What a moment of the spec is called: a column or codes."""
    return " ".join(what.code) if isinstance(what, PickSpec) else what


def _undated(record: Record, table: str, time: str, where: Where) -> np.ndarray:
    """Who has a row that fits, but none of it says when: (patient,) bool."""
    source = record.source
    schema, lazy = source.schemas[table], source.tables[table].lazy().filter(fits(where))
    if source.is_events(table) and "refused" in schema:
        lazy = lazy.filter(pl.col("refused").is_null() | pl.col("refused").is_in(_UNTIMED))
    rows = lazy.select(source.key(table), time).collect(engine="streaming")
    blank = rows[time].is_null() if rows[time].dtype.is_temporal() else text(rows[time]).is_null()
    who = ids(rows.filter(blank)[source.key(table)]).drop_nulls()
    return np.isin(record.patients.ids, who.to_numpy().astype(str))


def _undated_nodes(record: Record, spec: CauseSpec) -> np.ndarray:
    """Who has a row of these codes that is no node, as it has no time: (patient,) bool."""
    source, node = record.source, record.source.spec.nodes[spec.node or ""]
    found = np.zeros(len(record.patients), bool)
    if node.made or node.columns is not None or node.untimed == "origin":
        return found
    for table in source.event_tables(node.table):
        own = set(source.schemas[table]) if source.is_events(table) else set()
        code, time = (
            name or (what if what in own else None)
            for name, what in ((node.code, "code"), (node.time, "time"))
        )
        if code is not None and time is not None:
            found |= _undated(record, table, time, {**node.where, code: spec.codes})
    return found


def _undated_deaths(
    record: Record, table: str, time: str, outcome: str | None, who: np.ndarray
) -> np.ndarray:
    """Who has a row in a table of events without a time, or is dead by the format: (patient,) bool.

    A table in which everybody has a row is none of events: there an empty cell says that nothing happened.
    """
    source, count = record.source, len(record.patients)
    if table == PEOPLE:
        if source.door is None or time != "death":
            return np.zeros(count, bool)
        dead = np.zeros(count, bool)
        for file in source.door.tables:
            source.open(file)
            dead |= _undated(record, file, "time", {"code": DEATHS})
        return dead
    there = np.bincount(who[who >= 0], minlength=count) > 0
    if table in (outcome, record.source.spec.patient.table) or there.all():
        return np.zeros(count, bool)
    return _undated(record, table, time, {})


DEATHS = ("DEATH", "MEDS_DEATH", "MEDS_DEATH//*")  # codes of a death in the formats


def _states(view: TableView, name: str, outcome: SurvivalSpec, who: np.ndarray, count: int) -> np.ndarray:
    """What the status column means for each patient: 0 censored, k the k-th cause, -1 not given."""
    assert outcome.status is not None
    status = outcome.status
    numbers = ("censored", *outcome.cause_names)
    meaning = {state: numbers.index(word) for state, word in status.states.items()}
    cells = _named(view.text(status.column, meaning), meaning)
    if (strange := cells.is_not_null() & ~cells.is_in(list(meaning))).any():
        row = strange.arg_true()[0]
        raise InputError(
            f"{view.table}: outcome {name!r}, line {view.line(row)}: state {cells[row]!r} is not in states"
            f"{near(cells[row], meaning)}"
        )
    rows = one_each(view, status.column, cells, who, count)
    code = cells.replace_strict(list(meaning), list(meaning.values()), default=None, return_dtype=pl.Int64)
    return take(code.fill_null(-1).to_numpy(), rows, -1)


def _named(cells: pl.Series, words: Collection[str]) -> pl.Series:
    """Cells as the spec names them; a whole number that it does not name goes without its .0."""
    named = cells.is_in(list(words)).fill_null(False)
    return cells.zip_with(named, cells.str.replace(r"^(-?\d+)\.0+$", "$1"))


_YES_NO = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0}


def _flags(view: TableView, name: str, cause: str, flag: str, who: np.ndarray, count: int) -> np.ndarray:
    """1 = happened, 0 = censored, -1 = not given."""
    cells = view.plain(flag).str.to_lowercase()
    if (strange := cells.is_not_null() & ~cells.is_in(list(_YES_NO))).any():
        row = strange.arg_true()[0]
        raise InputError(
            f"{view.table}: outcome {name!r}, cause {cause!r}, line {view.line(row)}: flag {cells[row]!r} is "
            "not 0 or 1; give the words a meaning with status = { states = {...} }"
        )
    value = cells.replace_strict(list(_YES_NO), list(_YES_NO.values()), default=None, return_dtype=pl.Int64)
    return take(value.fill_null(-1).to_numpy(), one_each(view, flag, value, who, count), -1)


def read_task(record: Record, outcome: DiagnosisSpec) -> Task:
    """The moments at which an ACES task is asked, and their labels."""
    from gnnpatient.ingest import aces

    source, patients = record.source, record.patients
    assert outcome.task is not None and patients.origin is not None
    path = (source.folder / outcome.task).resolve()
    if not path.is_relative_to(source.folder.resolve()):
        raise InputError(f"{outcome.task}: leads out of {source.folder}; keep the task beside the data")
    parts = []
    for table in source.event_tables(None):
        source.open(table)
        has = source.schemas[table]
        number = pl.col("value").cast(pl.Float64) if "value" in has else pl.lit(None, dtype=pl.Float64)
        lazy = source.tables[table].lazy()
        lazy = lazy.filter(pl.col("refused").is_null()) if "refused" in has else lazy
        parts.append(
            lazy.filter(pl.col("time").is_not_null()).select(
                pl.col("id").alias("subject_id"),
                source.moments(table).alias("time"),
                "code",
                number.alias("numeric_value"),
            )
        )
    events = pl.concat(parts).collect(engine="streaming")
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
    if record.periods is not None:  # before the first gap; of a later period nobody is asked
        end = np.minimum(end, record.periods.first_end(record.entry))
    stood = None
    if outcome.node is not None:
        rows = record.rows[outcome.node]
        of = rows.fitting(outcome.codes)
        if record.exit is None and outcome.horizon is not None:
            raise InputError(
                f"outcome {name!r}: no needs observation up to the horizon; set exit in [patient]"
            )
        if not of.any():
            codes = (*rows.codes[1:], *rows.narrow_codes)
            _tell_strange(record.source, f"outcome {name!r}", outcome.codes, codes, f"of {outcome.node}")
        lasting, known = _lasting(rows, of), np.full(count, FOREVER)
        np.minimum.at(known, rows.patient[lasting], rows.known[lasting])
        label = (known < FOREVER).astype(np.int16)
        horizon = seconds(outcome.horizon) if outcome.horizon else None
        if gap < DAY and outcome.when == "future" and rows.begun is not None:
            begun, first = known.copy(), np.where(rows.known == rows.happened, rows.begun, rows.known)
            np.minimum.at(begun, rows.patient[lasting], first[lasting])
            asked = _askable(record, label, known, begun)
            doubtful = np.flatnonzero(asked < known)  # of that day, on which it can have been known already
            if len(doubtful):
                stood = np.stack([doubtful, asked[doubtful], known[doubtful]], 1)
    else:
        assert outcome.table is not None and outcome.column is not None
        view, who = record.view(outcome.table, [c for c in (outcome.column, outcome.known) if c], claim=True)
        label, horizon = _classes(view, name, outcome, who, count), None
        known = np.full(count, FOREVER)
        if outcome.known is not None:
            known = patient_time(view, outcome.known, who, record.patients, beyond=True)
            lost = (known == NEVER) & (label >= 0)
            _refusal(name, view, who)(lost, f"a label, but {outcome.known!r} does not say when it was known")
            known = np.where(known == NEVER, FOREVER, known)
            label, known = _known(record, name, outcome, label, known)
            if gap < DAY and outcome.when == "future":  # a longer gap has closed the whole day
                begun = patient_time(view, outcome.known, who, record.patients, end=False, beyond=True)
                begun = np.where(known == FOREVER, FOREVER, begun)
                asked = _askable(record, (label >= 0).astype(np.int8), known, begun)
                end = np.where(asked < known, np.minimum(end, asked), end)
    return Diagnosis(
        label, known, end, outcome.class_names, gap, horizon, outcome.when == "same", retracted=stood
    )


def end_by_events(
    record: Record, outcomes: Mapping[str, Outcome], drafts: Mapping[str, Draft]
) -> dict[str, Outcome]:
    """The outcomes, with diagnoses that may still come told who died or went for good, and who was lost.

    Who died without the diagnosis was followed to the end, which is no censoring (METHODS 9, 28). Where the
    spec names no outcome for it, an event of any survival outcome ends the diagnosis, if rows hardly ever go
    on after events of its cause, or if it stands at the patient's own end.
    """
    specs, lost = record.source.spec.outcomes, _lost(record, outcomes, drafts)
    return {
        name: _ended(record, name, specs[name], found, outcomes, lost)
        if isinstance(found, Diagnosis) and found.horizon is not None
        else found
        for name, found in outcomes.items()
    }


def _lost(record: Record, outcomes: Mapping[str, Outcome], drafts: Mapping[str, Draft]) -> np.ndarray:
    """When each patient was lost to follow-up, as the patient's own censoring says, FOREVER = not that one
    knows: (patient,) int64.

    Lost to one, lost to all. Where several outcomes say it the patient was still seen up to the last of what
    they say, an event too. The end that a spec cuts an outcome at says nothing of the others.
    """
    assert record.ordinary is not None
    lost, seen = np.zeros(len(record.patients), bool), np.full(len(record.patients), NEVER)
    for name, draft in drafts.items():
        truth = outcomes[name]
        assert isinstance(truth, Survival)
        own = ends.closed(record.source, record.ordinary, draft.own, f"outcome {name!r}")
        event, time = _in_any_spell(truth)
        happened = (event > 0) & (time != NEVER)
        censored = (own != FOREVER) & (time != NEVER) & ~happened
        lost |= censored
        seen = np.where(happened, np.maximum(seen, time), np.where(censored, np.maximum(seen, own), seen))
    return np.where(lost, seen, FOREVER)


def _in_any_spell(truth: Survival) -> tuple[np.ndarray, np.ndarray]:
    """Event and time of each patient; where there are gaps, of the spell that ended by an event."""
    if truth.spells is None:
        return truth.event, truth.time
    event, time = np.array(truth.event), np.array(truth.time)
    ended = truth.spells.event > 0
    event[truth.spells.patient[ended]] = truth.spells.event[ended]
    time[truth.spells.patient[ended]] = truth.spells.time[ended]
    return event, time


def _ended(
    record: Record,
    name: str,
    spec: object,
    found: Diagnosis,
    outcomes: Mapping[str, Outcome],
    lost: np.ndarray,
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
    gone = np.full(len(last), FOREVER)
    for other, truth in known.items():
        stop = np.zeros(len(last), bool)
        event, time = _in_any_spell(truth)
        for k, cause in enumerate(truth.causes, 1):
            if _is_itself(record, spec, specs[other], cause):
                continue
            mine = (event == k) & (time != NEVER)
            on = int((mine & (last > time + DAY)).sum())
            final = chosen or on <= GO_ON * mine.sum()
            if not final:
                say(
                    f"outcome {name!r}: {cause!r} does not end it, as rows go on after {on} of "
                    f'{int(mine.sum())} (gone = "{other}" would say that it does)',
                    decides=True,
                )
            stop |= mine & (final | (time >= found.end))
        gone = np.where(stop, np.minimum(gone, time), gone)
    end = np.minimum(found.end, lost)
    if late := int(((found.known < FOREVER) & (found.known > end)).sum()):
        say(f"outcome {name!r}: {late} diagnosed after the end of observation; not counted")
    return replace(found, gone=gone, end=end)


def _is_itself(record: Record, spec: DiagnosisSpec, other: object, cause: str) -> bool:
    """Whether a cause of a survival outcome is read from codes of the diagnosis: it does not end it."""
    parts = [part for name, part in other.parts if name == cause] if isinstance(other, SurvivalSpec) else []
    if spec.node is None:
        return False
    of = record.rows[spec.node]
    own = of.fitting(spec.codes)
    return any(part.node == spec.node and bool((own & of.fitting(part.codes)).any()) for part in parts)


def _known(
    record: Record, name: str, outcome: DiagnosisSpec, label: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and when they were known; a filler such as 2099-12-31 is no such time.

    Of the first class, as in "no", it means that nothing was ever known; another label is left out with it.
    """
    assert record.ordinary is not None
    late = record.ordinary.open(known) & (label >= 0)
    if not late.any():
        return label, known
    record.source.doubt(
        f"outcome {name!r}: {outcome.known!r} lies decades after all other dates in {int(late.sum())} "
        f"patient(s), so it is no time; of {outcome.class_names[0]!r} taken as never, of others left out",
        decides=True,
    )
    return np.where(late & (label > 0), -1, label), np.where(late, FOREVER, known)


def _lasting(rows: Rows, of: np.ndarray) -> np.ndarray:
    """Those of some rows, (row,) bool, that stand for good, or in whose place such a row came: (row,) bool.

    A diagnosis that is amended in some detail is known from its first form on; one that is taken back was
    never there, though it was held for true for a while.
    """
    lasting = of & rows.standing
    if rows.replaced is None:
        return lasting
    frame = pl.DataFrame({"patient": rows.patient, "known": rows.known, "gone": rows.replaced})
    frame = frame.with_row_index("row").filter(
        pl.Series(of & ~rows.standing) & (pl.col("known") < pl.col("gone"))
    )
    new = np.flatnonzero(lasting)
    while len(new) and len(frame):  # a step back in the chains of amendments each time
        heads = pl.DataFrame({"patient": rows.patient[new], "gone": rows.known[new]})
        found = frame.join(heads, on=["patient", "gone"], how="semi")["row"]
        new = found.to_numpy()
        lasting[new] = True
        frame = frame.filter(~pl.col("row").is_in(found.implode()))
    return lasting


def as_known(record: Record, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """The outcomes that come from codes, with the spells in which one stood that was taken back later.

    Whoever is asked then is not at risk, as anybody would have said then: eligibility by the later amendment
    would be eligibility by the future (METHODS 5).
    """
    out, specs = dict(outcomes), record.source.spec.outcomes
    for name, outcome in outcomes.items():
        spec = specs[name]
        codes: list[tuple[str, tuple[str, ...]]] = []
        if isinstance(spec, SurvivalSpec):
            codes = [(part.node, part.codes) for _, part in spec.parts if part.node is not None]
        elif isinstance(spec, DiagnosisSpec) and spec.node is not None:
            codes = [(spec.node, spec.codes)]
        stood = [_stood(record.rows[kind], record.rows[kind].fitting(of)) for kind, of in codes]
        if (spells := np.concatenate([np.zeros((0, 3), np.int64), *stood])).size:
            assert isinstance(outcome, Survival | Diagnosis)
            more = [spells] if outcome.retracted is None else [outcome.retracted, spells]
            out[name] = replace(outcome, retracted=_merged(np.concatenate(more)))
            record.source.doubt(
                f"outcome {name!r}: {len(np.unique(spells[:, 0]))} patient(s) have a row of it that was "
                "amended or taken back later; not at risk while it stood"
            )
    return out


def _stood(rows: Rows, of: np.ndarray) -> np.ndarray:
    """Patient, known and replaced of those of some rows that did not stand for good: (row, 3) int64."""
    if rows.replaced is None:
        return np.zeros((0, 3), np.int64)
    of = of & ~rows.standing & (rows.known < rows.replaced)
    return np.stack([rows.patient[of], rows.known[of], rows.replaced[of]], 1).astype(np.int64)


def _merged(spells: np.ndarray) -> np.ndarray:
    """Spells (spell, 3) of patient, from, until, sorted; those of a patient that overlap are one."""
    frame = pl.DataFrame(spells, schema=["patient", "since", "until"]).sort("patient", "since")
    before = pl.col("until").cum_max().shift(1).over("patient")
    frame = frame.with_columns((pl.col("since") > before).fill_null(True).cum_sum().alias("spell"))
    each = frame.group_by("patient", "spell").agg(pl.col("since").min(), pl.col("until").max())
    return each.sort("patient", "since").select("patient", "since", "until").to_numpy()


def _classes(view: TableView, name: str, outcome: DiagnosisSpec, who: np.ndarray, count: int) -> np.ndarray:
    """The class of each patient, -1 = not looked for."""
    assert outcome.column is not None
    if outcome.classes:
        meaning = {cell: outcome.class_names.index(word) for cell, word in outcome.classes.items()}
        cells = _named(view.text(outcome.column, meaning), meaning)
        other = cells.set(cells.is_in(list(meaning)).fill_null(False), None)
        alike = other.str.strip_chars().str.to_lowercase().is_in([w.strip().lower() for w in meaning])
        if n := int(alike.sum()):
            view.source.doubt(
                f"{view.table}: outcome {name!r}: {n} cell(s) differ in case or blanks only from a word of "
                "classes; not looked for, as the spec does not name them",
                decides=True,
            )
    else:
        meaning, cells = _YES_NO, view.plain(outcome.column).str.to_lowercase()
        if (strange := cells.is_not_null() & ~cells.is_in(list(meaning))).any():
            row = strange.arg_true()[0]
            raise InputError(
                f"{view.table}: outcome {name!r}, line {view.line(row)}: {cells[row]!r} is not 0 or 1; give "
                "the words a meaning with classes = { ... }; cells that it does not name are not looked for"
            )
    label = cells.replace_strict(list(meaning), list(meaning.values()), default=None, return_dtype=pl.Int16)
    return take(label.fill_null(-1).to_numpy(), one_each(view, outcome.column, label, who, count), -1)
