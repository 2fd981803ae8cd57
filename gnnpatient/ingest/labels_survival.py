"""Labels of survival outcomes: time and cause of the first event, or the end of observation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from gnnpatient.cohort.recurrent import Places, Recurrent
from gnnpatient.cohort.states import States
from gnnpatient.cohort.survival import Survival
from gnnpatient.errors import InputError
from gnnpatient.ingest import ends, periods
from gnnpatient.ingest.causes import read_cause
from gnnpatient.ingest.intervals import flag_gaps, read_intervals
from gnnpatient.ingest.moments import is_duration, moment_of, patient_time
from gnnpatient.ingest.outcome_words import DEATH, read_states
from gnnpatient.ingest.patients import patient_table
from gnnpatient.ingest.record import CauseTimes, Codes, Draft, FollowUp, LabelReader, Record, refusal
from gnnpatient.ingest.source import SourceTables
from gnnpatient.spec.outcomes import SurvivalSpec
from gnnpatient.spec.tables import Moment, PickSpec
from gnnpatient.times import DAY, FOREVER, NEVER

_MIN_PER_SLIP = 100  # patients for each whose time lies before day 0; with fewer, day 0 is wrong
_MONTH = 30 * DAY
_MIN_TIED = 10  # so many events, and one in so many, at the moment of another one are no chance
_EVENT = re.compile(r"death|dead|died|deceased|discharge|transplant", re.IGNORECASE)


def draft_survival(record: Record, name: str, outcome: SurvivalSpec) -> Draft:
    """The events of a survival outcome as the tables say them.

    Parameters
    ----------
    record : Record
        All that has been read of the patients.
    name : str
        The outcome.
    outcome : SurvivalSpec
        Its spec.

    Returns
    -------
    Draft

    Raises
    ------
    InputError
        When a state, a flag or a time cannot be read, or is missing.
    """
    count, table = len(record.patients), outcome.table
    present, refuse_if = np.ones(count, bool), refusal(name)
    if table is not None and not outcome.of_events:
        view, owner = record.view(table, [], use=True)
        present = np.bincount(owner[owner >= 0], minlength=count) > 0
        refuse_if = refusal(name, view, owner, present)
    draft = Draft(name, outcome, present, refuse_if, [], np.full(count, FOREVER), np.zeros(count, bool))
    if outcome.stretches is not None:
        draft = _with_intervals(record, draft)
    elif outcome.status is not None:
        draft = _with_status(record, draft)
    for cause, spec in outcome.parts:
        if spec.start is not None:
            continue
        position = 1 + outcome.cause_names.index(cause)
        part = read_cause(record, name, (position, cause), spec, table, refuse_if)
        undated = draft.undated | (part.undated & (part.time == NEVER))
        censored = np.minimum(draft.censored, part.censored)
        draft = replace(draft, parts=[*draft.parts, part], censored=censored, undated=undated)
    return _with_passing(draft) if outcome.passing else draft


def _with_passing(draft: Draft) -> Draft:
    """With every time of the causes that do not end it, apart from those that do."""
    spec, found = draft.spec, [np.zeros((0, 5), np.int64)]
    passing = {1 + spec.cause_names.index(name) for name in spec.passing}
    for part in draft.parts:
        if part.cause in passing:
            dated = np.flatnonzero((part.time != NEVER) & (part.time != FOREVER))
            once = np.stack([dated, part.time[dated], part.begun[dated], part.time[dated]], 1)
            every = once if part.every is None else part.every
            found.append(np.insert(every, 2, part.cause, axis=1))
    ending = spec.ending
    rest = [
        replace(part, cause=1 + ending.cause_names.index(spec.cause_names[part.cause - 1]))
        for part in draft.parts
        if part.cause not in passing
    ]
    return replace(draft, spec=ending, parts=rest, passing=_once(np.concatenate(found)))


def _once(passing: np.ndarray) -> np.ndarray:
    """Events sorted by patient, time and cause, each once: as it was known first."""
    order = np.lexsort(passing.T[[3, 4, 2, 1, 0]])
    passing = passing[order]
    again = np.append(False, (np.diff(passing[:, :3], axis=0) == 0).all(1))[: len(passing)]
    found: np.ndarray = passing[~again]
    return found


def _with_intervals(record: Record, draft: Draft) -> Draft:
    """With the events of start-stop rows; observed are those who have rows that can be used."""
    intervals = read_intervals(record, draft.name, draft.spec)
    present = draft.present & intervals.there
    return replace(
        draft,
        present=present,
        refuse_if=refusal(draft.name, present=present),
        parts=intervals.parts,
        censored=np.minimum(draft.censored, intervals.last),
        intervals=intervals,
    )


def _with_status(record: Record, draft: Draft) -> Draft:
    """With the events of a column of states and one of times."""
    outcome, count = draft.spec, len(record.patients)
    assert outcome.status is not None and outcome.status.time is not None and outcome.table is not None
    time = outcome.status.time
    view, owner = record.view(outcome.table, [outcome.status.column, time], use=True)
    state = read_states(view, draft.name, outcome, owner, count)
    when = patient_time(view, time, owner, record.patients, beyond=True)
    draft.refuse_if((when == NEVER) | (state < 0), "no state or no time; missing is not censored")
    begun = patient_time(view, time, owner, record.patients, end=False, beyond=True)
    never, dated = np.full(count, FOREVER), np.zeros(count, bool)
    parts = [
        CauseTimes(k, np.where(state == k, when, NEVER), begun, never, dated)
        for k in range(1, 1 + len(outcome.cause_names))
    ]
    return replace(draft, parts=parts, censored=np.where(state == 0, when, draft.censored))


def read_survival(record: FollowUp, name: str, outcome: SurvivalSpec, draft: Draft) -> Survival:
    """Time and event of each patient.

    The earliest cause counts, of two at one moment the one that the spec names first. Observation ends with
    the earliest of the patient's own end, the exit of the spec and the period; an event at the end is an
    event. One on a bare date is judged by the day: a death on the day of discharge is one. Who has an event
    without a time, or with one that cannot be, is left out: neither at risk for ever nor alive.

    Parameters
    ----------
    record : FollowUp
        All that has been read of the patients, and when each is observed.
    name : str
        The outcome.
    outcome : SurvivalSpec
        Its spec.
    draft : Draft
        Its events as the tables say them.

    Returns
    -------
    Survival

    Raises
    ------
    InputError
        When somebody has neither an event nor an end of observation, or a time before the origin.
    """
    source = record.source
    draft, wrong = _without_impossible(record, draft)
    event, time, begun = draft.first
    _flag_ties(source, draft, event, time)
    last, cut = _last(record, draft)
    end = np.minimum(last, cut)
    after = draft.present & (event > 0) & (begun > end)
    lost = draft.present & (draft.undated | wrong) & ((event == 0) | after)
    gaps = _gaps(record, draft)
    observed = np.zeros(len(end), bool)
    if gaps is not None:
        observed[gaps.patient] = True
    draft.refuse_if(
        (event == 0) & (end == FOREVER) & ~lost & ~observed,
        "neither an event nor an end of observation; set exit = COLUMN, a duration, { code, pick } or "
        "{ table, column, pick }",
    )
    _flag_lost(source, draft, lost & draft.undated, lost & ~draft.undated)
    _flag_after(source, name, after & ~lost, after & ~lost & (begun > last))
    event = np.where(draft.present & ~after, event, 0).astype(np.int8)
    until, spells = record.at_risk_until(event, time, begun), None
    if gaps is None:
        time, until = np.minimum(time, end), np.minimum(until, end)
    else:
        washout = any(part.from_rows for part in draft.parts)
        spells = periods.spells(gaps, record.entry, time, begun, event, end, until, washout)
        spells = spells.of_patients(draft.present & ~lost)
        missed = (event > 0) & (time > record.entry) & ~spells.has_event(len(event)) & draft.present & ~lost
        _count_step(source, name, "event outside the periods of observation, not counted", missed)
        time, event, until = periods.first_spell(spells, record.entry, time, event, end)
    if not outcome.of_events:
        lost |= _without_early(source, draft, draft.present & (time < 0) & ~lost)
    known = draft.present & ~lost
    time, until = np.where(known, time, NEVER), np.where(known, until, NEVER)
    event = np.where(known, event, 0).astype(np.int8)
    _flag_follow_up(record, draft, time, event)
    sooner = until if (until < time).any() else None
    label = Survival(time, event, draft.spec.cause_names, until=sooner, spells=spells)
    if draft.passing is None and not outcome.states:
        return label
    passing = np.zeros((0, 5), np.int64) if draft.passing is None else draft.passing
    passing = _until_the_end(record, name, outcome, label, passing)
    if len(doubtful := _in_doubt(record, passing)):
        label = replace(label, retracted=doubtful)
    if outcome.recurrent:
        return Recurrent.of(label, outcome.cause_names[0], passing[:, 0], passing[:, 1])
    return _states(name, outcome, label, passing)


def _until_the_end(
    record: FollowUp, name: str, outcome: SurvivalSpec, end: Survival, passing: np.ndarray
) -> np.ndarray:
    """The events of each patient up to the end; those after it are counted, and dropped.

    One on the bare date of the end is at the end, as a single event is.
    """
    owner, happened, _, begun, _ = passing.T
    last = end.time.copy()
    if end.spells is not None:
        np.maximum.at(last, end.spells.patient, end.spells.time)
    known = end.time[owner] != NEVER
    beyond = known & (begun > last[owner])
    if beyond.any():
        step = [f"{' or '.join(outcome.passing)} after the end, not counted", int(beyond.sum())]
        record.source.outcome_steps.setdefault(name, []).append(step)
    passing = passing.copy()
    passing[:, 1] = np.where(known, np.minimum(happened, last[owner]), happened)
    return _once(passing[known & ~beyond])


def _in_doubt(record: FollowUp, passing: np.ndarray) -> np.ndarray:
    """When an event on a bare date may be over, as `FollowUp.at_risk_until` has it: (spell, 3) int64.

    Patient, the second after the first row of that day, and the end of the day.
    """
    some = passing[passing[:, 3] < passing[:, 1]]
    owner, happened, begun = some[:, 0], some[:, 1], some[:, 3]
    first, places = happened.copy(), Places(owner, happened)
    for rows in record.rows.values() if len(some) else ():
        patient = rows.patient.astype(np.int64)
        event = places(patient, rows.known).clip(max=len(some) - 1)  # the first that is not over
        that_day = (owner[event] == patient) & (begun[event] <= rows.known) & (rows.known < happened[event])
        np.minimum.at(first, event[that_day], rows.known[that_day] + 1)
    found = np.stack([owner, first, happened], 1)[first < happened]
    return np.unique(found, axis=0)


def _states(name: str, outcome: SurvivalSpec, end: Survival, passing: np.ndarray) -> States:
    """With the state of each patient from each time on; of two at one moment the later in the spec."""
    names = outcome.state_names
    code = np.array([0, *(names.index(cause) for cause in outcome.cause_names)])
    time, event = event_in_any_spell(end)[::-1]
    ended = np.flatnonzero((event > 0) & (time != NEVER))
    at_end = np.array([0, *(names.index(cause) for cause in end.causes)])[event[ended]]
    owner, happened = np.append(passing[:, 0], ended), np.append(passing[:, 1], time[ended])
    state, known = np.append(code[passing[:, 2]], at_end), np.append(passing[:, 4], time[ended])
    order = np.lexsort((state, happened, owner))
    owner, happened, state, known = owner[order], happened[order], state[order], known[order]
    again = np.append((np.diff(owner) == 0) & (np.diff(happened) == 0), False)[: len(owner)]
    owner, happened, state, known = owner[~again], happened[~again], state[~again], known[~again]
    before = np.where(np.diff(owner, prepend=-1) == 0, np.roll(state, 1), 0)
    stays = before == state
    moves = {(names.index(a), names.index(b)) for a, b in outcome.moves}
    pairs, count = np.unique(np.stack([before, state], 1)[~stays], axis=0, return_counts=True)
    for (a, b), n in zip(pairs.tolist(), count.tolist(), strict=True):
        if (a, b) not in moves:
            raise InputError(
                f"outcome {name!r}: {n} time(s) a patient goes from {names[a]!r} to {names[b]!r}, which is "
                f'not among states; add "{names[a]} -> {names[b]}", or correct the times'
            )
    owner, happened, state, known = owner[~stays], happened[~stays], state[~stays], known[~stays]
    return States.of(end, names, owner, happened, state, known if (known > happened).any() else None)


def _without_early(source: SourceTables, draft: Draft, early: np.ndarray) -> np.ndarray:
    """Who is left out as their time lies before day 0: (patient,) bool. More than a few are no slip."""
    if _MIN_PER_SLIP * early.sum() > draft.present.sum():
        draft.refuse_if(early, "the time lies before the origin")
    _count_step(source, draft.name, "time before day 0, left out", early)
    if early.any():
        source.flag(
            f"outcome {draft.name!r}: {int(early.sum())} of {int(draft.present.sum())} patient(s) have a "
            "time before day 0, as an end of stay before its beginning; left out",
            decides=True,
        )
    return early


def _without_impossible(record: FollowUp, draft: Draft) -> tuple[Draft, np.ndarray]:
    """Without events that cannot be, and who has one of those: (patient,) bool. A filler is no event."""
    parts, wrong = [], np.zeros(len(record.patients), bool)
    for part in draft.parts:
        cannot = record.dates.is_impossible(part.time, old=not part.from_rows)
        cannot &= draft.spec.of_events | (part.time >= 0)  # before day 0 a column is refused, with its line
        if (filler := cannot & record.dates.is_filler(part.time)).any():
            record.source.flag(
                f"outcome {draft.name!r}: {int(filler.sum())} time(s) of "
                f"{draft.spec.cause_names[part.cause - 1]!r} are a "
                "filler decades after all other dates; taken as not happened",
                decides=True,
            )
        wrong |= cannot & ~filler
        parts.append(replace(part, time=np.where(cannot, NEVER, part.time)))
    return replace(draft, parts=parts), wrong


def _last(record: FollowUp, draft: Draft) -> tuple[np.ndarray, np.ndarray]:
    """When each patient is lost, and what the spec cuts off; FOREVER = not given.

    A duration cuts and never prolongs; a column or a pick of the outcome takes the place of that of [patient]
    where it has a time.
    """
    source, dates, exit_, table = record.source, record.dates, draft.spec.exit, draft.spec.table
    lost = ends.close_open_ends(source, dates, draft.censored, f"outcome {draft.name!r}")
    column, cut = (record.exit, None) if not record.exit_cuts else (None, record.exit)
    if exit_ is not None:
        end = moment_of(source, exit_, table, record.patients, record.rows, beyond=True)
        if is_duration(source, exit_, table):
            end = dates.clipped_to_data(end)
            cut = end if cut is None else np.minimum(cut, end)
        else:
            at_last_row, what = ends.is_last_row(source, exit_), f"outcome {draft.name!r}: exit"
            end = ends.close_open_ends(source, dates, end, what, at_last_row=at_last_row)
            column = end if column is None else np.where(end == NEVER, column, end)
    never = np.full(len(lost), FOREVER)
    return (
        lost if column is None else np.minimum(lost, np.where(column == NEVER, FOREVER, column)),
        never if cut is None else cut,
    )


def _gaps(record: FollowUp, draft: Draft) -> periods.Periods | None:
    """When patients are observed, where somebody is not from entry to the end: by start-stop rows, else by
    the periods of a format.

    Rows say when somebody is observed for this outcome, whatever other end the spec gives.
    """
    intervals = draft.intervals
    if intervals is None:
        return None if _has_own_registry(record.source, draft.spec) else record.periods
    late = draft.present & (intervals.entry > record.entry)
    if not intervals.has_gaps and not late.any():
        return None
    flag_gaps(record.source, draft.name, intervals)
    return intervals.periods


def _has_own_registry(source: SourceTables, outcome: SurvivalSpec) -> bool:
    """Whether the outcome has an end of its own that holds outside the periods of observation, too."""
    end = outcome.exit
    return end is not None and not is_duration(source, end, outcome.table) and end != "observation_end"


def lost_to_follow_up(
    record: FollowUp, drafts: Mapping[str, Draft], labels: Mapping[str, Survival]
) -> np.ndarray:
    """When each patient was lost to follow-up, by the patient's own censoring.

    Lost to one outcome, lost to all. Where several outcomes say it the patient was still seen up to the last
    of what they say, an event too. The end that a spec cuts an outcome at says nothing of the others.

    Parameters
    ----------
    record : FollowUp
        All that has been read of the patients.
    drafts : mapping of str to Draft
        The events of each survival outcome.
    labels : mapping of str to Survival
        Their labels.

    Returns
    -------
    numpy.ndarray
        (patient,) int64 seconds, FOREVER = not known.
    """
    lost, seen = np.zeros(len(record.patients), bool), np.full(len(record.patients), NEVER)
    for name, draft in drafts.items():
        end = ends.close_open_ends(record.source, record.dates, draft.censored, f"outcome {name!r}")
        event, time = event_in_any_spell(labels[name])
        happened = (event > 0) & (time != NEVER)
        censored = (end != FOREVER) & (time != NEVER) & ~happened
        lost |= censored
        seen = np.where(happened, np.maximum(seen, time), np.where(censored, np.maximum(seen, end), seen))
    return np.where(lost, seen, FOREVER)


def event_in_any_spell(label: Survival) -> tuple[np.ndarray, np.ndarray]:
    """Event and time of each patient; where there are gaps, of the spell that ended by an event.

    Parameters
    ----------
    label : Survival
        The labels of a survival outcome.

    Returns
    -------
    event, time : numpy.ndarray
        (patient,) which cause, 0 = none; and int64 seconds after the origin.
    """
    if label.spells is None:
        return label.event, label.time
    event, time = np.array(label.event), np.array(label.time)
    ended = label.spells.event > 0
    event[label.spells.patient[ended]] = label.spells.event[ended]
    time[label.spells.patient[ended]] = label.spells.time[ended]
    return event, time


# Flags


def _count_step(source: SourceTables, name: str, what: str, patients: np.ndarray) -> None:
    """Add a step of the outcome's flow, where it concerns anybody: (patient,) bool."""
    if patients.any():
        source.outcome_steps.setdefault(name, []).append([what, int(patients.sum())])


def _flag_lost(source: SourceTables, draft: Draft, undated: np.ndarray, wrong: np.ndarray) -> None:
    what = " or ".join(draft.spec.cause_names)
    _count_step(source, draft.name, f"{what} at an unknown time, left out", undated)
    _count_step(source, draft.name, f"{what} at a time that cannot be, left out", wrong)
    if undated.any():
        source.flag(
            f"outcome {draft.name!r}: {int(undated.sum())} patient(s) with {what}, nobody knows when; left "
            "out, as they are neither alive nor at risk",
            decides=True,
        )
    if wrong.any():
        source.flag(
            f"outcome {draft.name!r}: {int(wrong.sum())} patient(s) with {what} before the birth, after "
            "today or decades from all other dates; left out",
            decides=True,
        )


def _flag_ties(source: SourceTables, draft: Draft, event: np.ndarray, time: np.ndarray) -> None:
    """Flag causes that happen at one moment in many: rows of which each says two things, or a composite."""
    tied = {
        part.cause: draft.present & (event > 0) & (part.cause != event) & (part.time == time)
        for part in draft.parts
    }
    for cause, these in tied.items():
        if these.sum() >= max(_MIN_TIED, (event > 0).sum() / _MIN_TIED):
            names = draft.spec.cause_names
            counted = " or ".join(names[k - 1] for k in np.unique(event[these]))
            source.flag(
                f"outcome {draft.name!r}: {int(these.sum())} patient(s) have {names[cause - 1]!r} at the "
                f"moment of {counted!r}, which counts, as it is named first; is it one event, or do "
                "rows need one more word in where?",
                decides=True,
            )


def _flag_after(source: SourceTables, name: str, after: np.ndarray, lost: np.ndarray) -> None:
    _count_step(source, name, "event after the end of observation, not counted", after)
    if lost.any():
        source.flag(
            f"outcome {name!r}: {int(lost.sum())} event(s) after the patient's end of observation are not "
            "counted; if such events are known of everybody, give the end of their registry as that end",
            decides=True,
        )


def _flag_follow_up(record: FollowUp, draft: Draft, time: np.ndarray, event: np.ndarray) -> None:
    """Flag where the dead are followed longer than the living, so that the risk comes out too high."""
    source, dates, spec = record.source, record.dates, draft.spec
    seen, free = event > 0, (event == 0) & (time != NEVER)
    if not free.any() or not dates.calendar:
        return
    axis = time + dates.origin
    beyond = seen & (axis > axis[free].max() + _MONTH)
    if (n := int(beyond.sum())) > 1:
        source.flag(
            f"outcome {draft.name!r}: {n} event(s) come more than 30 days after the last day on which "
            "anybody without an event is observed; give all the same end, as exit = COLUMN",
            decides=True,
        )
    end = source.spec.patient.exit if spec.exit is None else spec.exit
    if not ends.is_last_row(source, end):
        return
    lag = time - record.last_row()
    usual = max(_MONTH, int(np.quantile(lag[free], 0.95)))
    if n := int((seen & (lag > usual)).sum()):
        source.flag(
            f"outcome {draft.name!r}: {n} event(s) come long after the patient's last row, where those "
            "without an event are no longer observed: the risk is too high; give the registry's end as exit",
            decides=True,
        )


def flag_ends_that_are_events(
    record: FollowUp, drafts: Mapping[str, Draft], labels: Mapping[str, Survival]
) -> None:
    """Flag an outcome whose observation ends with an event of another, or with one by the name of its exit.

    An end that is an event is no censoring.

    Parameters
    ----------
    record : FollowUp
        All that has been read of the patients.
    drafts : mapping of str to Draft
        The events of each survival outcome.
    labels : mapping of str to Survival
        Their labels.
    """
    for name, label in labels.items():
        free = (label.event == 0) & (label.time != NEVER)
        _flag_exit_by_name(record, drafts[name], label, free)
        for other, draft in drafts.items():
            if other != name:
                _flag_exit_by_event(record.source, name, label, free, draft)


def _flag_exit_by_name(record: FollowUp, draft: Draft, label: Survival, free: np.ndarray) -> None:
    source, spec = record.source, draft.spec
    people = patient_table(source)
    exit_, table = (spec.exit, spec.table) if spec.exit else (source.spec.patient.exit, people)
    if exit_ is None or not (word := _EVENT.search(_moment_words(exit_))):
        return
    end = moment_of(source, exit_, table, record.patients, record.rows, beyond=True)
    if n := int((free & (label.time == end)).sum()):
        source.flag(
            f"outcome {draft.name!r}: the observation of {n} of {int(free.sum())} patient(s) without an "
            f"event ends with what exit calls {word[0]!r}; if that is an event it is no censoring: "
            "add it to the causes",
            decides=True,
        )


def _moment_words(what: Moment) -> str:
    """What a moment of the spec is called: a column or codes."""
    return what.words if isinstance(what, PickSpec) else what


def _flag_exit_by_event(
    source: SourceTables, name: str, label: Survival, free: np.ndarray, draft: Draft
) -> None:
    event, time, begun = draft.first
    causes = np.array([False, *(cause not in label.causes for cause in draft.spec.cause_names)])
    has = free & causes[event]
    met = has & (begun <= label.time) & (label.time <= time)
    if not met.any() or 2 * met.sum() < has.sum():  # else it is by chance
        return
    what = next(c for k, c in enumerate(draft.spec.cause_names, 1) if (event[met] == k).any())
    source.flag(
        f"outcome {name!r}: the observation of {int(met.sum())} of {int(free.sum())} patient(s) "
        f"without an event ends with {what!r} of outcome {draft.name!r}; an end that is an event is "
        f"no censoring: add {what!r} to its causes",
        decides=True,
    )


def _codes(spec: SurvivalSpec) -> Codes:
    return [(part.node, part.codes) for _, part in spec.parts if part.node is not None]


def _deaths(name: str, spec: SurvivalSpec, label: Survival) -> tuple[np.ndarray, np.ndarray]:
    fatal = [k for k, cause in enumerate(label.causes, 1) if DEATH.search(cause)]
    fatal = fatal or [k for k in range(1, 1 + len(label.causes)) if DEATH.search(name)]
    return np.isin(label.event, fatal) & (label.time != NEVER), label.time


SURVIVAL = LabelReader(read=read_survival, draft=draft_survival, codes=_codes, deaths=_deaths)
"""How the labels of a survival outcome are read."""
