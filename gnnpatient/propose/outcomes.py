"""What is predicted, and which columns would give it away as inputs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Any

import polars as pl

from gnnpatient.ingest.cells import text
from gnnpatient.propose import names
from gnnpatient.propose.layouts import RowsOfOutcome
from gnnpatient.propose.moments import moments
from gnnpatient.propose.names import (
    LABEL,
    MAX_CHANCE,
    MAX_LEVELS,
    MIN_GIVEN,
    MIN_LEAK_AUC,
    MIN_PATIENTS,
    OUTCOME_PART,
    PATIENT,
)
from gnnpatient.propose.parts import Draft, plain, slug, unused_name
from gnnpatient.propose.sheets import Sheet, share
from gnnpatient.propose.states import documented_states, meaning, outcome_name
from gnnpatient.propose.stays import discharged


@dataclass(frozen=True)
class Pair:
    """A time of the whole follow-up, and the column that says what happened then.

    Attributes
    ----------
    sheet : Sheet
        The table of both columns.
    name : str
        Name of the outcome or cause.
    time : str
        Column with the time.
    flag : str or None
        Column that says what happened; None: a time alone, empty where it did not happen.
    states : dict of str to str or None
        What each word of `flag` means; None: 1 = happened, 0 = censored.
    why : str
        The question to the owner of the data.
    origin : str or None
        Column with the date of day 0, where `time` is a date, too, and both are in one table.
    dates : bool
        `time` is a date.
    exit : str or None
        Column with the end of observation, where `time` does not say it of everybody.
    """

    sheet: Sheet
    name: str
    time: str
    flag: str | None
    states: dict[str, str] | None
    why: str
    origin: str | None = None
    exit: str | None = None
    dates: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the pair."""
        return tuple(c for c in (self.time, self.flag, self.exit) if c)

    @property
    def competing(self) -> bool:
        """Whether it competes with every other outcome: a death with a 0 and 1."""
        return self.name == "death" and self.flag is not None and self.states is None

    def cause(self, table: str) -> dict[str, str]:
        """The pair as a cause of an outcome.

        Parameters
        ----------
        table : str
            The table of the outcome, which the cause need not repeat.

        Returns
        -------
        dict of str to str
            Keys of the TOML.
        """
        own = {"table": self.sheet.name} if self.sheet.name != table else {}
        return {**own, "time": self.time, **({"flag": self.flag} if self.flag else {})}

    def happened(self) -> pl.DataFrame:
        """What happened to each patient.

        Returns
        -------
        DataFrame
            PATIENT, event (bool: it happened) and time (in the unit of the table), a row for each patient.
        """
        if self.flag is None:
            event = self.sheet.cells[self.time].is_not_null()
        elif self.states is None:
            event = self.sheet.words(self.flag).str.to_lowercase().is_in(["1", "true"])
        else:
            event = self.sheet.words(self.flag).is_in([s for s, m in self.states.items() if m != "censored"])
        time = self.sheet.cells[self.time] - (self.sheet.cells[self.origin] if self.origin else 0)
        frame = pl.DataFrame({PATIENT: self.sheet.patient_ids, "event": event, "time": time})
        return frame.group_by(PATIENT, maintain_order=True).agg(pl.col("event").max(), pl.col("time").max())


def pairs_of(sheet: Sheet) -> list[Pair]:
    """Pairs of a time and a flag in a table, matched by name or by content; death first.

    Where there are three times or more, a flag belongs to the time that is short of the latest one just where
    the flag is 1. A pair may also be a column and a flag that is named after it, as rec and rec.s; then most
    of those without the event must have a time that another pair has, too: the end of their observation.

    Parameters
    ----------
    sheet : Sheet
        A table with a patient column.

    Returns
    -------
    list of Pair
    """
    columns = [c for c in sheet.raw.columns if c in sheet.constant_columns]
    times = [c for c in columns if sheet.kind[c] == "number" and _is_end(c)]
    flags = [c for c in columns if c not in times and not names.NOMINAL.search(plain(c))]
    flags = [c for c in flags if 2 <= len(sheet.states(c)) <= 8]
    namesakes = _namesakes(sheet, columns, times)
    found = [_pair(sheet, time, flag) for time, flag in namesakes.items()]
    used = {column for pair in found for column in pair.columns}
    times = [c for c in times if c not in used]
    flags = [c for c in flags if sheet.is_binary(c) or names.HAPPENS.search(plain(c))]
    flags = [c for c in flags if c not in used]
    told = [c for c in flags if names.HAPPENS.search(plain(c)) and sheet.is_yes_or_no(c)]
    last = sheet.first_values.select(pl.max_horizontal(times)).to_series() if len(times) > 2 else None
    scored = []
    for time, flag in product(times, flags):
        score = _name_similarity(time, flag)
        if last is not None and sheet.is_binary(flag):
            short, event = sheet.first_values[time] < last, sheet.happened(flag)
            right = share(short.filter(event)) + share((~short).filter(~event))
            score += 0.5 if score and right > 1.8 else 0.6 if right > 1.94 else 0
        if score >= 0.6:
            scored.append((-score, columns.index(time), columns.index(flag), time, flag))
    for *_, time, flag in sorted(scored):
        if not used & {time, flag}:
            found.append(_pair(sheet, time, flag))
            used |= {time, flag}
    if not found and len(times) == 1 and len(told) == 1:
        found.append(_pair(sheet, times[0], told[0]))
    for time in times if any(pair.competing for pair in found) else []:
        if time not in used and sheet.first_values[time].null_count() > 0.05 * len(sheet.first_values):
            why = f"{time} has no flag; is an empty cell somebody to whom it did not happen?"
            name = slug(names.TOKENS.sub("", plain(time)) or time, "event")
            found.append(Pair(sheet, name, time, None, None, why))
    return sorted(found, key=lambda pair: (pair.name != "death", columns.index(pair.time)))


def dated(sheet: Sheet, origin: str | None) -> list[Pair]:
    """A death by its date, or by a flag beside the date on which observation ends.

    Parameters
    ----------
    sheet : Sheet
        The patient table.
    origin : str or None
        Its column with the date of day 0.

    Returns
    -------
    list of Pair
        At most one.
    """
    dates = [
        c for c in sheet.raw.columns if sheet.kind[c] == "date" and c in sheet.constant_columns | {origin}
    ]
    dates += [c for c in sheet.raw.columns if sheet.kind[c] == "date" and names.DEATH.search(plain(c))]
    dates = [c for c in dict.fromkeys(dates) if c != origin]
    if origin is None or not dates:
        return []
    start = origin if origin in sheet.raw.columns and origin in sheet.constant_columns else None
    deaths = [c for c in dates if names.DEATH.search(plain(c))]
    ends = [c for c in dates if names.SEEN.search(plain(c)) and c not in deaths]
    ends.sort(key=lambda c: sheet.first_values[c].null_count())
    flags = [c for c in sheet.raw.columns if c in sheet.constant_columns and names.DEATH.search(plain(c))]
    flag = next((c for c in flags if sheet.is_yes_or_no(c)), None)
    end = ends[0] if ends else None
    if end and flag and deaths and not discharged(end) and _tells_deaths(sheet, deaths[0], flag, end):
        why = f"did who has {flag} = 1 die on {deaths[0]}, and are the others alive on {end}?"
        return [Pair(sheet, "death", deaths[0], None, None, why, start, end, dates=True)]
    if end and flag and not sheet.first_values[end].null_count():
        if discharged(end):
            meant = {s: "death" if s.lower() in names.YES else "discharge" for s in sheet.states(flag)}
            why = f"does {flag} = 1 mean death at {end}, and 0 a discharge alive?"
            return [Pair(sheet, "leaving", end, flag, meant, why, start, dates=True)]
        if not sheet.is_binary(flag):
            why, meant = f"is that what the states of {flag} mean, on {end}?", meaning(sheet, flag)
            return [Pair(sheet, "death", end, flag, meant, why, start, dates=True)]
        why = f"does {flag} = 1 mean death on {end}, and 0 alive then?"
        return [Pair(sheet, "death", end, flag, None, why, start, dates=True)]
    if not deaths:
        return []
    why = f"is nobody dead who has no {deaths[0]}, until {end or 'the last row of a patient'}?"
    return [Pair(sheet, "death", deaths[0], None, None, why, start, end, dates=True)]


def _tells_deaths(sheet: Sheet, date: str, flag: str, end: str) -> bool:
    """Whether a date is given to those who died by a flag, and only to them, not after the last day."""
    happened, days = sheet.happened(flag), sheet.first_values
    given = days[date].is_not_null()
    late = share((days[date] > days[end]).filter(happened & given))
    return (
        share(given.filter(happened)) >= MIN_GIVEN and not (given & ~happened).any() and late <= 1 - MIN_GIVEN
    )


def _is_end(name: str) -> bool:
    """Whether a column is called as the time of an outcome, or of the end of the follow-up, is."""
    word = plain(name)
    if word in names.ANALYTE or (names.PAST.search(word) and not names.UNTIL_EVENT.match(word)):
        return False
    named = names.FOLLOWED.search(word) and not names.BEGINS.search(word)
    return bool(named or names.ENDPOINT.match(word) or names.UNTIL_EVENT.match(word))


def _namesakes(sheet: Sheet, columns: list[str], times: list[str]) -> dict[str, str]:
    """By a column of numbers the flag that is named after it: rec and rec.s, os and os_status."""
    by_name = {plain(c): c for c in columns if sheet.kind[c] == "number"}
    found: dict[str, str] = {}
    for flag in (c for c in columns if c not in times):
        time = next((by_name[plain(stem)] for stem in _stems(flag) if plain(stem) in by_name), None)
        if time is None or sheet.is_binary(time) or not sheet.is_binary(flag):
            continue
        if plain(time) not in names.ANALYTE and (sheet.cells[time] < 0).sum() == 0:
            found.setdefault(time, flag)
    ends = list(dict.fromkeys((*times, *found)))
    frame = sheet.first_values
    kept = {}
    for time, flag in found.items():
        free = frame.filter(~sheet.happened(flag))
        others = [end for end in ends if end != time]
        same = (
            free.select(pl.any_horizontal(pl.col(other) == pl.col(time) for other in others))
            if others
            else None
        )
        if names.ENDPOINT.match(plain(time)) or (same is not None and share(same.to_series()) >= 0.5):
            kept[time] = flag
    return kept


def _stems(flag: str) -> list[str]:
    """What a flag may be the flag of: rec.s of rec, status_os of os."""
    word = r"s|d|e|ev|evt|ind|stat|status|event|flag|indicator|cens(or(ed|ing)?)?|delta|death"
    behind = re.fullmatch(rf"(?i)(.+?)[._ -]({word})", flag)
    before = re.fullmatch(rf"(?i)({word})[._ -](.+)", flag)
    return [stem for stem in (behind and behind[1], before and before[before.lastindex or 0]) if stem]


def _name_similarity(time: str, flag: str) -> float:
    """How well two names match, 0 to 1: time and status, d.time and death, rtime and recur."""
    word = plain(flag)
    a, b = names.TOKENS.sub("", plain(time)), names.FLAG.sub("", word)
    letters = iter(b)
    if a == b:
        return 1.0
    if names.DEATH.search(word) and a in ("", "d", "os", "surv", "dth", "death"):
        return 0.9
    if len(a) > 1 and (a in b or (len(b) > 1 and b in a)):
        return 0.8
    happens = bool(names.HAPPENS.search(word))
    if (len(a) > 1 and all(c in letters for c in a)) or (len(a) == 1 and b.startswith(a) and happens):
        return 0.7
    return 0.6 if (not b or not a) and happens else 0.0


def _pair(sheet: Sheet, time: str, flag: str) -> Pair:
    """The pair with a name, and with the meaning of its states, from the README where it is there."""
    word, states = plain(flag), sheet.states(flag)
    name = outcome_name(flag)
    if name == "event":  # status, beside a time that says more
        name = outcome_name(names.TOKENS.sub("", plain(time)))
    if sheet.is_binary(flag):
        if re.search("cens", word):
            meant = {s: "censored" if s.lower() in ("1", "true") else name for s in states}
            why = f"by its name {flag} = 1 is censored; is that so?"
            if (documented := documented_states(sheet, flag)) and "censored" in documented.values():
                meant, why = documented, f"is that what {flag} means? the README says so"
                name = next((word for word in meant.values() if word != "censored"), name)
            return Pair(sheet, name, time, flag, meant, why)
        why = f"does {flag} = 1 mean that it happened at {time}, 0 censored?"
        documented = documented_states(sheet, flag)
        if documented.get("1", "censored") != "censored":
            name = slug(documented["1"], "outcome")
            why = f"{flag} = 1 is {documented['1']}, as the README says, and 0 censored?"
        elif called := _documented_name(sheet, time, flag):
            name, why = called, f"{why} it is called so in the README"
        return Pair(sheet, name, time, flag, None, why)
    leaving = "discharge" in plain(time)
    meant = meaning(sheet, flag, leaving=leaving)
    if name == "death" or "death" in meant.values():
        name = "leaving" if leaving else "death"
    return Pair(sheet, name, time, flag, meant, f"is that what the states of {flag} mean?")


def _documented_name(sheet: Sheet, time: str, flag: str) -> str:
    """What a pair is called by the README, as in ptime/pstat progression; "" where it is not there."""
    for line in sheet.lines():
        both = rf"(?<![\w.]){re.escape(time)}\s*[/,&]\s*{re.escape(flag)}[\s:=]+([a-z]{{4,}})(?![\w.])"
        if (found := re.search(both, line)) and found[1] not in ("time", "with", "days", "months", "years"):
            return "death" if names.DEATH.search(found[1]) else slug(found[1], "outcome")
    return ""


def usable_pairs(draft: Draft, pairs: list[Pair], people: Sheet, origin: str | None) -> list[Pair]:
    """The pairs that a spec can read; the others are listed as left out.

    A pair is left out for missing states that `where` cannot exclude, and for times before day 0.

    Parameters
    ----------
    draft : Draft
        The draft that is filled, with `where` of [patient], too.
    pairs : list of Pair
        All pairs of all tables.
    people : Sheet
        The patient table.
    origin : str or None
        Column with the date of day 0; None: times are offsets.

    Returns
    -------
    list of Pair
    """
    kept, where = [], {}
    for pair in pairs:
        sheet, flag = pair.sheet, pair.flag
        time, place = sheet.first_values[pair.time], f"{sheet.name}: {' and '.join(pair.columns)}"
        time = time - (sheet.first_values[pair.origin] if pair.origin else 0)
        # on a bare date of day 0 the time may be earlier than that of the admission
        early = time < (-1e9 if pair.dates and not pair.origin else -1 if pair.dates else 0)
        gap = time.is_null() & False if flag is None else sheet.first_values[flag].is_null()
        wrong = early.fill_null(False) | (time.is_null() & ~gap & (flag is not None))
        words = sheet.states(flag) if flag and pair.states else {}
        if any(n < MIN_PATIENTS and not word.isdigit() for word, n in words.items()):
            draft.left_out.append(
                f"{place}: a state of fewer than {MIN_PATIENTS} patients; join it with another"
            )
        elif wrong.any():
            draft.left_out.append(f"{place}: {wrong.sum()} patient(s) with a time before day 0, or with none")
        elif origin and not pair.dates and sheet is people and people.date_format.get(origin):
            draft.left_out.append(f"{place}: offsets, in a table whose times are written as dates")
        elif gap.sum() > (0.2 * len(gap) if sheet is people else 0):
            draft.left_out.append(f"{place}: {gap.sum()} patient(s) without a state; missing is not censored")
        else:
            kept.append(pair)
            sheet.clock(pair.time, *(other.time for other in pairs if other.sheet is sheet))
            if flag and gap.any():
                given = sheet.raw[flag].filter(sheet.words(flag).is_not_null())
                where[flag] = sorted(given.cast(pl.String).unique())
                ask = f"{gap.sum()} without {flag} are left out: missing is not censored. Is that right?"
                draft.patient.notes.append(f"ASK: patient.where: {ask}")
    draft.patient.keys["where"] = where
    return kept


def survival(draft: Draft, pair: Pair, pairs: list[Pair]) -> None:
    """Write the survival outcome of a pair, with death as a competing cause where there is one.

    Parameters
    ----------
    draft : Draft
        The draft that is filled.
    pair : Pair
        The pair.
    pairs : list of Pair
        All pairs that can be read, to find the death among.
    """
    frame, table = pair.happened(), pair.sheet.name
    zero = frame.filter(pl.col("event"), pl.col("time") <= 0).height
    note = f"{frame['event'].sum()} of {len(frame)} patients have the event"
    note += f"; {zero} at time 0: they had it before, and are not at risk" if zero else ""
    name, keys = unused_name(draft.outcomes, pair.name), dict[str, Any](kind="survival", table=table)
    if pair.exit:
        keys["exit"] = pair.exit
    if pair.states is not None:
        keys["status"] = {"column": pair.flag, "states": pair.states, "time": pair.time}
    else:
        keys["causes"] = {name: pair.cause(table)}
        if (end := next((p for p in pairs if p.competing), pair)) is not pair and not pair.competing:
            keys["causes"][end.name] = end.cause(table)
    draft.outcome(name, pair.why, keys, note)


def labels_of(sheets: list[Sheet]) -> list[tuple[Sheet, str]]:
    """A column with the class of each patient, for tables without times to an event.

    Parameters
    ----------
    sheets : list of Sheet
        All tables.

    Returns
    -------
    list of (Sheet, str)
        At most one table with its column.
    """
    for sheet in sheets:
        for name in (c for c in sheet.raw.columns if c in sheet.constant_columns):
            states = sheet.states(name)
            if not 2 <= len(states) <= 6 or min(states.values()) < MIN_PATIENTS:
                continue
            ill = plain(name) == "group" and any(map(names.DISEASE.search, states))
            if ill or LABEL.search(plain(name)) or names.ANSWER.match(plain(name)):
                return [(sheet, name)]
    return []


def diagnosis(draft: Draft, sheet: Sheet, column: str) -> None:
    """Write the diagnosis of a column with classes.

    Parameters
    ----------
    draft : Draft
        The draft that is filled.
    sheet : Sheet
        The table.
    column : str
        Its column with the class.
    """
    states, name = sheet.states(column), slug(column, "label")
    classes = {} if sheet.is_binary(column) else {state: slug(state, name) for state in states}
    keys = {"kind": "diagnosis", "table": sheet.name, "column": column, "classes": classes}
    ask = (
        f'what does {column} mean, and since when was it known? known = "COLUMN" in [outcomes.{name}] names '
        "the column with that time; without it the label counts as never known within the data, and every "
        "landmark is scored"
    )
    note = "patients: " + ", ".join(f"{n} with {state}" for state, n in states.items())
    draft.outcome(name, ask, keys, note)


def ends(draft: Draft, sheets: list[Sheet], pairs: list[Pair]) -> None:
    """Write the end of observation where only the dates of deaths are known: the last row of most patients.

    Parameters
    ----------
    draft : Draft
        The draft that is filled; without rows in time such an outcome is taken out of it.
    sheets : list of Sheet
        All tables.
    pairs : list of Pair
        All pairs that can be read.
    """
    open_ended = [pair for pair in pairs if pair.flag is None and pair.dates and not pair.exit]
    last = _best_seen(draft, sheets) if open_ended else ""
    for pair in open_ended:
        if last:
            draft.outcomes[pair.name].keys["exit"] = {"node": last, "code": "*", "pick": "last"}
            continue
        del draft.outcomes[pair.name]
        draft.questions.append(
            f"outcomes: {pair.sheet.name}: {pair.time} says who died when; until when was everybody else "
            f'seen? with that column causes = {{ death = {{ time = "{pair.time}" }} }}, exit = COLUMN'
        )


def _best_seen(draft: Draft, sheets: list[Sheet]) -> str:
    """The node type in time that most patients have; "" where there is none."""
    by_name = {sheet.name: sheet for sheet in sheets}
    seen: dict[str, int] = {}  # patients with a row, by node type
    for kind, block in draft.nodes.items():
        if block.keys.get("time"):
            sheet = by_name[block.keys["table"]]
            columns = list(block.keys.get("columns", [sheet.key]))
            given = sheet.cells.select(pl.any_horizontal(pl.col(columns).is_not_null())).to_series()
            seen[kind] = sheet.patient_ids.filter(given).n_unique()
    return max(seen, key=lambda kind: seen[kind], default="")


def onset(draft: Draft, sheets: list[Sheet]) -> None:
    """Write the first 1 of a label that changes within a patient as a survival outcome.

    The end of observation is the last row of the same table.

    Parameters
    ----------
    draft : Draft
        The draft that is filled.
    sheets : list of Sheet
        All tables.
    """
    for sheet in sheets:
        time = moments(sheet)[0]
        for name in (
            c for c in sheet.raw.columns if c not in sheet.constant_columns and LABEL.search(plain(c))
        ):
            if time is None or not sheet.is_binary(name):
                continue
            sheet.clock(time)
            cells = sheet.raw[name].drop_nulls().cast(pl.String).unique().sort()
            cause = {"table": sheet.name, "time": time, "where": {name: [c for c in cells if c[0] in "1tT"]}}
            end = {"table": sheet.name, "column": time, "pick": "last"}
            ask = f"is the first {name} of a patient the event, and the last {time} the end of observation?"
            draft.left_out = [line for line in draft.left_out if not _is_of_rows(line, sheet, name)]
            asked = f"outcomes: {sheet.name}: {name}: "
            draft.questions = [line for line in draft.questions if not line.startswith(asked)]
            word = slug(name, "label")
            draft.outcome(word, ask, {"kind": "survival", "causes": {word: cause}, "exit": end})
            return


def _is_of_rows(line: str, sheet: Sheet, name: str) -> bool:
    """Whether a line says that a column, which is an outcome now, was left out."""
    return line.startswith(f"{sheet.name}: ") and bool(re.search(rf"(?<![\w.]){re.escape(name)}: ", line))


def onset_of_codes(draft: Draft, sheets: list[Sheet], pairs: list[Pair]) -> None:
    """Write the three codes of a table of diagnoses that most patients first get after day 0.

    Each becomes a survival outcome with death as a competing cause; without a death none is written.

    Parameters
    ----------
    draft : Draft
        The draft that is filled.
    sheets : list of Sheet
        All tables.
    pairs : list of Pair
        All pairs that can be read, to find the death among.
    """
    end = next((pair for pair in pairs if pair.competing), None)
    for kind, block in list(draft.nodes.items()):
        sheet = next(sheet for sheet in sheets if sheet.name == block.keys["table"])
        code, time = block.keys.get("code"), block.keys.get("time")
        if end is None or not code or not time or block.keys.get("value") or sheet.kind[time] == "date":
            continue
        if not any(re.search(named, plain(code)) for named in names.CODES):  # signs, not diagnoses
            continue
        frame = pl.DataFrame(
            {"who": sheet.patient_ids, "code": text(sheet.raw[code]), "at": sheet.cells[time]}
        )
        frame = frame.drop_nulls()
        if frame["code"].n_unique() > MAX_LEVELS or sheet.name == end.sheet.name:
            continue
        first = frame.group_by("who", "code").agg(pl.col("at").min())
        new = first.group_by("code").agg((pl.col("at") > 0).sum().alias("new"), pl.len().alias("ever"))
        new = new.filter(pl.col("new") >= 20).sort(["new", "code"], descending=[True, False]).head(3)
        for word, count, ever in new.iter_rows():
            name, table = unused_name(draft.outcomes, slug(word, "diagnosis")), end.sheet.name
            causes = {name: {"node": kind, "codes": [word]}, "death": end.cause(table)}
            note = f"{count} patients first have it after day 0; {ever - count} had it before: not at risk"
            ask = "is this to be predicted? until it comes its code may be in the inputs of others"
            draft.outcome(name, ask, {"kind": "survival", "table": table, "causes": causes}, note)


def forbidden(
    sheet: Sheet,
    pairs: list[Pair],
    labels: list[tuple[Sheet, str]],
    known: list[Pair] | None = None,
    *,
    recognised: bool = True,
) -> dict[str, str]:
    """Columns that must not be inputs: outcomes, what lies in the future, what nearly equals an outcome.

    Parameters
    ----------
    sheet : Sheet
        A table.
    pairs : list of Pair
        All pairs that can be read.
    labels : list of (Sheet, str)
        All labels.
    known : list of Pair, optional
        All pairs, those that cannot be read, too.
    recognised : bool, default True
        An outcome was recognised; else any column of yes and no may be one.

    Returns
    -------
    dict of str to str
        By column, the reason.
    """
    why = {c: OUTCOME_PART for pair in known or pairs if pair.sheet is sheet for c in pair.columns}
    why |= {name: OUTCOME_PART for of, name in labels if of is sheet}
    why |= sheet.layout.answers if sheet.layout else {}
    outcomes = [(pair.name, pair.happened()) for pair in pairs]
    if isinstance(sheet.layout, RowsOfOutcome):
        outcomes.append(("the outcome", sheet.layout.happened()))
    for of, label in labels:
        for state in list(of.states(label))[-1:] if of.is_binary(label) else of.states(label):
            frame = pl.DataFrame({PATIENT: of.patient_ids, "event": of.words(label) == state})
            outcomes.append((state, frame.unique(PATIENT, keep="first", maintain_order=True)))
    warnings = [s for s in re.split(r"[.\n](?=\s|$)", sheet.readme) if names.FUTURE_TEXT.search(s)]
    warned = set(re.findall(r"[\w.]+", " ".join(warnings)))
    aligned = [
        (of, sheet.first_values.select(PATIENT).join(frame, on=PATIENT, how="left")) for of, frame in outcomes
    ]
    times = moments(sheet)
    for name in (c for c in sheet.raw.columns if c not in why and c != sheet.key):
        word, is_constant, numeric = plain(name), name in sheet.constant_columns, sheet.kind[name] == "number"
        happens = bool(names.HAPPENS.search(word))
        labelled = bool(LABEL.search(word) or names.ANSWER.match(word))
        few = (happens or labelled) and 2 <= len(sheet.states(name)) <= 8
        happens = happens and few and (is_constant or numeric)
        if len(name) > 2 and name in warned:
            why[name] = "the README warns that it looks ahead"
        elif is_split(sheet, name):
            why[name] = SPLIT
        elif few and names.ANSWER.match(word):
            why[name] = STATE
        elif names.FUTURE.search(word):
            why[name] = "by its name it looks ahead, or repeats an outcome"
        elif is_constant and numeric and name not in times and _is_end(name) and not sheet.is_binary(name):
            why[name] = END_WITHOUT_FLAG
        elif happens or (labelled and (few or numeric) and not _is_code(sheet, name)):
            why[name] = STATE if few else NUMBER
        elif not recognised and is_constant and not names.NOMINAL.search(word) and sheet.is_yes_or_no(name):
            why[name] = YES_OR_NO
        elif leak := _leak(sheet, name, aligned):
            why[name] = leak
    return why


def _is_code(sheet: Sheet, name: str) -> bool:
    """Whether a column of words says what the number beside it is of."""
    values = [c for c in sheet.raw.columns if names.VALUE.search(plain(c)) and sheet.kind[c] != "text"]
    return sheet.kind[name] == "text" and name not in sheet.constant_columns and bool(values)


STATE = "by its name a state or a label, not an input"
NUMBER = "by its name an outcome, which is a number"
END_WITHOUT_FLAG = "by its name the time of an outcome, which no flag belongs to"
YES_OR_NO = "yes or no, which may be the outcome, as none was recognised"
SPLIT = "by its name somebody's split into training and test"


def is_split(sheet: Sheet, name: str) -> bool:
    """Whether a column says who is for training and who for test.

    Parameters
    ----------
    sheet : Sheet
        A table.
    name : str
        A column.

    Returns
    -------
    bool
    """
    word = plain(name)
    if name not in sheet.constant_columns or not (
        names.SPLIT.match(word) or names.SPLIT_BY_WORDS.match(word)
    ):
        return False
    states = sheet.states(name)
    by_words = len(states) > 0 and all(names.SPLIT_WORDS.match(state) for state in states)
    return by_words or bool(names.SPLIT.match(word) and states)


def ask_for(draft: Draft, sheet: Sheet, why: dict[str, str]) -> None:
    """Ask for columns that look like an outcome or a split, and are neither taken nor dropped in silence.

    Parameters
    ----------
    draft : Draft
        The draft that is filled.
    sheet : Sheet
        The table.
    why : dict of str to str
        Its columns that are no input, as `forbidden` gives them.
    """

    def named(reason: str) -> str:
        return ", ".join(name for name, of in why.items() if of == reason)

    if ends := named(END_WITHOUT_FLAG):
        draft.questions.append(
            f"outcomes: {sheet.name}: {ends}: the time of an outcome? then name the flag that says to whom "
            "it happened (an empty time: to nobody); else add it to [patient] number"
        )
    if numbers := named(NUMBER):
        draft.questions.append(
            f"outcomes: {sheet.name}: {numbers}: a number to be predicted? An outcome is an event in time or "
            "a class: make a column that says which side of a limit it is on, or of the time until an event"
        )
    if states := named(STATE):
        draft.questions.append(
            f"outcomes: {sheet.name}: {states}: a state or a label: to be predicted? what is known by day 0 "
            "may be added to [patient] category"
        )
    if flags := named(YES_OR_NO):
        draft.questions.append(
            f"outcomes: {sheet.name}: {flags}: did it happen? with the column of its time causes = "
            "{ NAME = { time = TIME, flag = FLAG } }; what is known by day 0 may be added to [patient]"
        )
    for name in (c for c, of in why.items() if of == SPLIT):
        word = next(iter(sorted(sheet.states(name), reverse=True)), "test")
        draft.questions.append(
            f"patient.group: {sheet.name}: {name} looks like a split of patients: no input; to hold out "
            f'by it, group = "{name}" and fit --test-by group=VALUE, as in group={word}'
        )


def _leak(sheet: Sheet, name: str, outcomes: list[tuple[str, pl.DataFrame]]) -> str:
    """Why the first value of a patient, or that there is one, nearly gives an outcome; "" if it does not."""
    kind = sheet.kind[name]
    for outcome, frame in outcomes if sheet.first_values[name].null_count() else []:
        event = frame["event"].fill_null(False)
        given = event.filter(sheet.first_values[name].is_not_null())
        by_chance = share(event) ** len(given)  # that all of as many have the event
        if share(given) >= MIN_GIVEN and by_chance < MAX_CHANCE:
            return f"is given nearly only where {outcome} happened"
    if kind not in ("number", "text") or (kind == "text" and sheet.n_distinct(name) > MAX_LEVELS):
        return ""
    for outcome, frame in outcomes:
        joined = frame.with_columns(sheet.first_values[name].alias("value")).drop_nulls(["value", "event"])
        value, event = joined["value"], joined["event"]
        if min(event.sum(), (~event).sum()) < 10:
            continue
        if kind == "text":  # each word by its share of events
            value = joined.select(pl.col("event").cast(pl.Float64).mean().over("value")).to_series()
        elif "time" in frame.columns:
            rank = float(joined.select(pl.corr("value", "time", method="spearman")).item() or 0)
            if abs(rank) > MIN_LEAK_AUC:
                return f"nearly determines the time of {outcome} (rank correlation {rank:.2f})"
        if (found := _auc(value, event)) > MIN_LEAK_AUC:
            return f"nearly determines {outcome} (rank AUC {found:.2f})"
    return ""


def _auc(value: pl.Series, event: pl.Series) -> float:
    """Rank AUC in the better direction; ties count half."""
    n, m = int(event.sum()), int((~event).sum())
    auc = (float(value.rank("average").filter(event).sum()) - n * (n + 1) / 2) / (n * m)
    return max(auc, 1 - auc)
