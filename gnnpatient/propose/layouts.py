"""Outcomes that several rows of a patient say together: start-stop, multi-state, a row for each event."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import polars as pl

from gnnpatient.propose import names
from gnnpatient.propose.names import MIN_PATIENTS, PATIENT
from gnnpatient.propose.parts import Draft, plain, slug, unused_name
from gnnpatient.propose.sheets import Layout, Sheet, share
from gnnpatient.propose.states import documented_states, meaning, outcome_name, written, yes_words

_EDGE = "\0edge"  # of an interval, beside columns of any name
MAX_EVENTS = 4  # outcomes of one table of events


@dataclass(frozen=True)
class RowsOfOutcome(Layout):
    """A layout, which can be written.

    Attributes
    ----------
    sheet : Sheet
        The table.
    """

    sheet: Sheet

    @abstractmethod
    def happened(self) -> pl.DataFrame:
        """What happened to each patient.

        Returns
        -------
        DataFrame
            PATIENT, event (bool) and time (in the unit of the table).
        """

    @abstractmethod
    def write(self, draft: Draft) -> None:
        """Write the outcomes, and when observation begins and ends.

        Parameters
        ----------
        draft : Draft
            The draft that is filled.
        """

    def _pick(self, column: str, which: str, **where: Any) -> dict[str, Any]:
        chosen = {"where": where["where"]} if where.get("where") else {}
        return {"table": self.sheet.name, "column": column, **chosen, "pick": which}

    def _enter(self, draft: Draft, start: str, first: pl.Series) -> None:
        """Who is not observed from day 0 on enters at the first start."""
        if late := int((first > 0).sum()):
            draft.patient.keys.setdefault("entry", self._pick(start, "first"))
            note = f"{late} patients are observed from a later {start} on"
            draft.patient.notes.append(f"ASK: patient.entry: {note}; is that so?")


# ---- start and stop


@dataclass(frozen=True)
class StartStop(RowsOfOutcome):
    """Rows from `start` to `stop` that follow each other, with what came at the end of each.

    Attributes
    ----------
    start, stop : str
        Columns with the two times.
    flag : str
        Column with what came at the stop.
    states : dict of str to str or None
        What each word of `flag` means; None: 1 = it came, 0 = it did not.
    again : int
        How many patients go on after a row with it.
    repeated : bool
        It is said in every row of a patient, and not only in the last one.
    """

    start: str
    stop: str
    flag: str
    states: dict[str, str] | None
    again: int
    repeated: bool

    @cached_property
    def _intervals(self) -> pl.DataFrame:
        return _intervals(self.sheet, self.start, self.stop).with_columns(
            _came(self.sheet, self.flag, self.states)
        )

    def happened(self) -> pl.DataFrame:
        """What happened to each patient: the first event (of a repeated one the last), or the last stop.

        Returns
        -------
        DataFrame
            PATIENT, event (bool) and time (in the unit of the table).
        """
        came = pl.col("event").fill_null(False)
        last = pl.col("stop").max()
        first = last if self.repeated else pl.col("stop").filter(came).min()
        found = self._intervals.group_by(PATIENT, maintain_order=True)
        return found.agg(came.any().alias("event"), pl.coalesce(first, last).alias("time"))

    def write(self, draft: Draft) -> None:
        """Write the outcome of the flag.

        Parameters
        ----------
        draft : Draft
            The draft that is filled.
        """
        sheet, frame = self.sheet, self.happened()
        sheet.clock(self.start, self.stop)
        name, flag = unused_name(draft.outcomes, outcome_name(self.flag)), self.flag
        keys: dict[str, Any] = {"kind": "survival", "table": sheet.name}
        pick = {"pick": "last"} if self.repeated else {"pick": "first"} if self.again else {}
        span = {"start": self.start, "stop": self.stop, **pick}
        n, people = frame["event"].sum(), len(frame)
        note = f"rows from {self.start} to {self.stop}; {n} of {people} patients have the event"
        if self.states is None:
            keys["causes"] = {name: {**span, "flag": flag}}
            ask = f"does {flag} = 1 mean that it happened at that {self.stop}?"
        else:
            keys["status"] = {"column": flag, **span, "states": self.states}
            ask = f"is that what the states of {flag} mean?"
        if self.again:
            ask += f" {self.again} patients go on after it: only the first counts, is that right?"
        if self.repeated:
            ask += " it is said in every row of a patient: that of the last one counts, is that right?"
        draft.outcome(name, ask, keys, note)


def _intervals(sheet: Sheet, start: str, stop: str) -> pl.DataFrame:
    """PATIENT, start and stop of each row, as numbers."""
    return pl.DataFrame({PATIENT: sheet.patient_ids, "start": sheet.cells[start], "stop": sheet.cells[stop]})


def _came(sheet: Sheet, flag: str, states: dict[str, str] | None) -> pl.Series:
    """Whether something came at the end of each row: bool, null = unknown."""
    words = sheet.words(flag)
    if states is None:
        return words.str.to_lowercase().is_in(["1", "true"]).alias("event")
    return words.is_in([s for s, m in states.items() if m != "censored"]).alias("event")


def spans(sheet: Sheet) -> Iterator[tuple[str, str]]:
    """Pairs of columns that are the start and the end of an interval, by their names and kinds.

    Parameters
    ----------
    sheet : Sheet
        A table.

    Yields
    ------
    start, stop : str
    """
    by_name = {plain(column): column for column in reversed(sheet.raw.columns)}
    for word, start in by_name.items():
        ends = [word.replace(a, b) for a, b in names.SPANS if a in word and word != "from"]
        ends += [f"{word}2"] if word.endswith("time") else []
        for end in ends:
            stop = by_name.get(end, start)
            kinds = {sheet.kind[start], sheet.kind[stop]}
            if stop != start and len(kinds) == 1 and kinds <= {"number", "date", "duration"}:
                yield start, stop
    if not sheet.one_row_each:
        yield from _chained(sheet)


def _chained(sheet: Sheet) -> Iterator[tuple[str, str]]:
    """Pairs of columns in which nearly each row of a patient begins where the one before it has ended."""
    able = [c for c in sheet.raw.columns if c not in sheet.constant_columns and c != sheet.key]
    able = [c for c in able if sheet.kind[c] in ("number", "date") and not sheet.cells[c].null_count()]
    able = [c for c in able if not sheet.names_rows(c) and not sheet.counts_rows(c)][:8]
    for start, stop in permutations(able, 2):
        if sheet.kind[start] != sheet.kind[stop] or not (sheet.cells[start] < sheet.cells[stop]).all():
            continue
        frame = _intervals(sheet, start, stop).unique().sort(PATIENT, "start", "stop")
        meets = frame.select(pl.col("start") == pl.col("stop").shift(1).over(PATIENT)).to_series()
        begins = frame.group_by(PATIENT).agg(pl.col("start").min())["start"]
        alike = sheet.kind[start] == "date" or share(begins == begins.min()) >= 0.5  # unlike numbers of rows
        if alike and meets.count() >= 20 and share(meets) >= 0.95:
            yield start, stop


def _follow_each_other(sheet: Sheet, start: str, stop: str) -> bool:
    """Whether each interval has a length, and none begins before the one before it has ended."""
    frame = _intervals(sheet, start, stop)
    if frame["start"].null_count() + frame["stop"].null_count() > 0.01 * len(frame):
        return False
    if ((frame["stop"] < frame["start"]).sum() or 0) > 0.01 * len(frame):
        return False
    frame = frame.drop_nulls().sort(PATIENT, "start", "stop")
    gap = frame.select(pl.col("start") - pl.col("stop").shift(1).over(PATIENT)).to_series().drop_nulls()
    return bool((gap < -1e-6).sum() <= 0.01 * len(gap))


def _start_stop(sheet: Sheet) -> StartStop | None:
    for start, stop in spans(sheet):
        if not _follow_each_other(sheet, start, stop):
            continue
        taken = {start, stop, sheet.key}
        flags = [c for c in sheet.raw.columns if c not in taken and names.HAPPENS.search(plain(c))]
        flags = [c for c in flags if 2 <= len(sheet.states(c)) <= 8 and not names.NOMINAL.search(plain(c))]
        found = [
            one
            for flag in flags
            if (one := _with_flag(sheet, start, stop, flag)) and one.happened()["event"].any()
        ]
        found = found or [
            _with_flag(sheet, start, stop, flag) for flag in _flags_by_content(sheet, start, stop)
        ]
        if found:
            return min(found, key=lambda one: (one.again, one.states is not None))
    return None


def _flags_by_content(sheet: Sheet, start: str, stop: str) -> list[str]:
    """Columns of 0 and 1 that no name shows to be flags, but in which a 1 ends a row.

    Either a 1 stands in the last row of a patient alone, and single rows have it, too, which no treatment
    that begins later has; or in nearly every row that another follows, as recurrent events cut them.
    """
    frame = _intervals(sheet, start, stop).with_row_index().sort(PATIENT, "start", "stop")
    last = frame[PATIENT] != frame[PATIENT].shift(-1)
    last[-1] = True
    single = last & (frame[PATIENT] != frame[PATIENT].shift(1)).fill_null(True)
    found = []
    for name in (c for c in sheet.raw.columns if c not in (start, stop, sheet.key) and sheet.is_binary(c)):
        one = _came(sheet, name, None)[frame["index"]].fill_null(False)
        at_end = not (one & ~last).any() and (one & single).any() and share(one.filter(single)) >= 0.1
        cuts = (~last).any() and share(one.filter(~last)) >= 0.95 and share(one.filter(last)) <= 0.5
        if name not in sheet.constant_columns and (at_end or cuts):
            found.append(name)
    return found


def _with_flag(sheet: Sheet, start: str, stop: str, flag: str) -> StartStop:
    """The layout with one of its flags: who has the event again, and what may be no input."""
    states = None if sheet.is_binary(flag) else meaning(sheet, flag)
    frame = _intervals(sheet, start, stop).with_columns(_came(sheet, flag, states))
    of_patient = frame.group_by(PATIENT).agg(
        pl.col("event").sum().alias("n"),
        pl.len().alias("rows"),
        pl.col("event").sort_by("start", "stop").last().alias("at_end"),
    )
    ill = of_patient.filter(pl.col("n") > 0)
    several = ill.filter(pl.col("rows") > 1)
    repeated = bool(len(several)) and bool((several["n"] == several["rows"]).all())
    again = 0 if repeated else int(((ill["n"] > 1) | ~ill["at_end"].fill_null(False)).sum())
    answers = {
        stop: "the end of a row, which is known only then",
        flag: "what came at the end of a row",
    } | _lengths(sheet, start, stop)
    return StartStop(start, answers, (), sheet, start, stop, flag, states, again, repeated)


def _lengths(sheet: Sheet, start: str, stop: str) -> dict[str, str]:
    """Columns with the length of each row, which looks ahead."""
    length, found = sheet.cells[stop] - sheet.cells[start], dict[str, str]()
    for name in (c for c in sheet.raw.columns if c not in (start, stop) and sheet.kind[c] == "number"):
        off = (sheet.cells[name] - length).abs().drop_nulls()
        if len(off) and (off <= 1e-6 + 1e-3 * length.abs().mean()).mean() >= 0.99:  # type: ignore[operator]
            found[name] = f"the length of a row, {stop} - {start}: it looks ahead"
    return found


# ---- from one state to another


@dataclass(frozen=True)
class MultiState(RowsOfOutcome):
    """A row for each transition that could come from a state, with its time and whether it came.

    Attributes
    ----------
    start, stop : str
        Columns with the time of entry into the state, and of the transition or of the end of observation.
    state, to, flag : str
        Columns with the state, the one that it could pass into, and whether it did.
    """

    start: str
    stop: str
    state: str
    to: str
    flag: str

    @cached_property
    def _frame(self) -> pl.DataFrame:
        sheet = self.sheet
        frame = _intervals(sheet, self.start, self.stop).with_columns(_came(sheet, self.flag, None))
        return frame.with_columns(sheet.words(self.state).alias("from"), sheet.words(self.to).alias("to"))

    @cached_property
    def absorbing(self) -> list[str]:
        """States that nobody leaves."""
        return sorted(set(self._frame["to"].drop_nulls()) - set(self._frame["from"].drop_nulls()))

    def happened(self) -> pl.DataFrame:
        """What happened to each patient: an absorbing state, or the last stop.

        Returns
        -------
        DataFrame
            PATIENT, event (bool) and time (in the unit of the table).
        """
        came = (pl.col("event") & pl.col("to").is_in(self.absorbing)).fill_null(False)
        found = self._frame.group_by(PATIENT, maintain_order=True)
        return found.agg(came.any().alias("event"), pl.col("stop").max().alias("time"))

    def write(self, draft: Draft) -> None:
        """Write the absorbing states as one outcome, and the first entry into each other one.

        Parameters
        ----------
        draft : Draft
            The draft that is filled.
        """
        sheet, frame = self.sheet, self._frame
        sheet.clock(self.start, self.stop)
        meant = documented_states(sheet, self.to) | documented_states(sheet, self.state)
        came = frame.filter(pl.col("event"))
        count = {
            str(s): n
            for s, n in came.group_by("to").agg(pl.col(PATIENT).n_unique()).iter_rows()
            if s is not None
        }
        ends = [s for s in self.absorbing if count.get(s)]
        between = [s for s in sorted(set(frame["from"].drop_nulls())) if count.get(s)]
        called: dict[str, str] = {}
        for s in (*ends, *between):
            word = "death" if names.DEATH.search(plain(s)) else slug(meant.get(s, s), "state")
            called[s] = unused_name(called.values(), word)

        def cause(state: str) -> dict[str, Any]:
            to = written(sheet, self.to, (state,))
            return {"time": self.stop, "where": {self.to: to, self.flag: yes_words(sheet, self.flag)}}

        last = self._pick(self.stop, "last")
        head = {"kind": "survival", "table": sheet.name}
        shown = ", ".join(f"{called[s]} in {count[s]} patients" for s in ends)
        causes = {called[s]: cause(s) for s in ends}
        if ends:
            name = "death" if "death" in causes else next(iter(causes))
            ask = f"nobody leaves {', '.join(causes)}; are these the ends, with {self.stop} as their time?"
            draft.outcome(name, ask, {**head, "causes": causes, "exit": last}, f"{shown}")
        for s in between[:MAX_EVENTS]:
            name = unused_name(draft.outcomes, called[s])
            own = {called[s]: cause(s), **causes}
            ask = f"is the first passage into {called[s]} to be predicted?"
            note = f"{called[s]} in {count[s]} patients"
            draft.outcome(name, ask, {**head, "causes": own, "exit": last}, note)
        keys = {"table": sheet.name, "time": self.start, "code": self.state, "edges": ["at"]}
        draft.node(
            "state", keys, f"the state that a patient is in, since {self.start}: what comes of it is no input"
        )
        self._enter(draft, self.start, frame.group_by(PATIENT).agg(pl.col("start").min())["start"])


def _multi_state(sheet: Sheet) -> MultiState | None:
    columns = sheet.raw.columns
    state = next((c for c in columns if names.FROM.match(plain(c))), None)
    to = next((c for c in columns if names.TO.match(plain(c))), None)
    span = next((pair for pair in spans(sheet) if not {state, to} & set(pair)), None)
    if span and (state is None or to is None):
        state, to = _states(sheet, span[0])
    binary = [c for c in columns if c not in sheet.constant_columns and sheet.is_binary(c)]
    flags = [c for c in binary if names.FLAG.search(plain(c))] or (binary if len(binary) == 1 else [])
    if state is None or to is None or span is None or not flags or not len(sheet.states(to)) >= 1:
        return None
    start, stop = span
    answers = {
        to: "the state that comes next",
        stop: "the time of a transition",
        flags[0]: "whether a transition came",
    } | _lengths(sheet, start, stop)
    answers |= {c: "names the transition" for c in columns if plain(c) in ("trans", "transition")}
    frame = sheet.cells.with_columns(sheet.patient_ids)
    others = [c for c in columns if c not in answers and c not in (state, start, sheet.key)]
    alike = frame.group_by(PATIENT, start).agg(pl.col(others).n_unique() == 1).select(pl.col(others).all())
    answers |= {c: "differs between the transitions out of one state" for c in others if not alike[c][0]}
    return MultiState(start, answers, (state,), sheet, start, stop, state, to, flags[0])


def _states(sheet: Sheet, start: str) -> tuple[str | None, str | None]:
    """The state and the one that it could pass into, by what they hold: several rows lead out of a state."""
    able = [c for c in sheet.raw.columns if c not in sheet.constant_columns and sheet.kind[c] == "text"]
    able = [c for c in able if c != sheet.key and 2 <= len(sheet.states(c)) <= 12]
    for state, to in permutations(able, 2):
        frame = pl.DataFrame(
            {
                PATIENT: sheet.patient_ids,
                "at": sheet.cells[start],
                "s": sheet.words(state),
                "to": sheet.words(to),
            }
        )
        if frame["s"].null_count() or (frame["s"] == frame["to"]).any():
            continue
        out = frame.group_by(PATIENT, "at").agg(pl.col("s").n_unique(), pl.col("to").n_unique())
        if (out["s"] == 1).all() and (out["to"] > 1).any() and set(frame["s"]) & set(frame["to"]):
            return state, to
    return None, None


# ---- a row for each event


@dataclass(frozen=True)
class EventRows(RowsOfOutcome):
    """A row for each patient and kind of event: its time, and whether it came.

    Attributes
    ----------
    when, flag, event : str
        Columns with the time, whether it came, and the kind of event.
    """

    when: str
    flag: str
    event: str

    @cached_property
    def _frame(self) -> pl.DataFrame:
        sheet = self.sheet
        frame = pl.DataFrame({PATIENT: sheet.patient_ids, "stop": sheet.cells[self.when]})
        return frame.with_columns(_came(sheet, self.flag, None), sheet.words(self.event).alias("kind"))

    @cached_property
    def _called(self) -> dict[str, str]:
        """The kinds of event by their names in the draft; deaths first, then the most frequent."""
        sheet, frame = self.sheet, self._frame
        meant = documented_states(sheet, self.event)
        count = frame.filter(pl.col("event")).group_by("kind").len().drop_nulls()
        count = count.sort(["len", "kind"], descending=[True, False])
        called: dict[str, str] = {}
        for kind, n in count.iter_rows():
            if n >= MIN_PATIENTS:
                word = slug(meant.get(kind, kind), "event")
                word = "death" if names.DEATH.search(plain(word)) else word
                called[kind] = unused_name(called.values(), word)
        return dict(sorted(called.items(), key=lambda item: item[1] != "death"))

    def happened(self) -> pl.DataFrame:
        """Whether a patient died, or had the most frequent event.

        Returns
        -------
        DataFrame
            PATIENT, event (bool) and time (in the unit of the table).
        """
        kind = next(iter(self._called), "")
        of_kind = self._frame.filter(pl.col("kind") == kind).group_by(PATIENT, maintain_order=True)
        return of_kind.agg(pl.col("event").max(), pl.col("stop").max().alias("time"))

    def write(self, draft: Draft) -> None:
        """Write an outcome for each kind of event, against which death competes.

        Parameters
        ----------
        draft : Draft
            The draft that is filled.
        """
        sheet, frame, causes = self.sheet, self._frame, dict[str, Any]()
        sheet.clock(self.when)
        for kind, name in self._called.items():
            where = {self.event: written(sheet, self.event, (kind,)), self.flag: yes_words(sheet, self.flag)}
            causes[kind] = {name: {"time": self.when, "where": where}}
        death = next((kind for kind, name in self._called.items() if name == "death"), None)
        for kind in list(causes)[:MAX_EVENTS]:
            name = unused_name(draft.outcomes, self._called[kind])
            against = causes[death] if death not in (None, kind) else {}
            own = self._pick(self.when, "last", where={self.event: written(sheet, self.event, (kind,))})
            n = frame.filter(pl.col("event"), pl.col("kind") == kind).height
            keys = {"kind": "survival", "table": sheet.name, "causes": causes[kind] | against, "exit": own}
            ask = f"is {self.flag} = 1 in a row of {name} that event at its {self.when}, and 0 censored then?"
            draft.outcome(name, ask, keys, f"{n} of {sheet.patient_ids.n_unique()} patients have the event")
        if rest := [self._called[kind] for kind in list(causes)[MAX_EVENTS:]]:
            draft.left_out.append(
                f"{sheet.name}: {', '.join(rest)}: further events of {self.event}, to be written alike"
            )


def _event_rows(sheet: Sheet) -> EventRows | None:
    varying = [c for c in sheet.raw.columns if c not in sheet.constant_columns and c != sheet.key]
    times = [c for c in varying if sheet.kind[c] == "number" and names.FOLLOWED.search(plain(c))]
    flags = [c for c in varying if names.HAPPENS.search(plain(c)) and sheet.is_binary(c)]
    kinds = [c for c in varying if names.EVENT_TYPE.match(plain(c)) and 2 <= len(sheet.states(c)) <= 12]
    for event in kinds:
        pairs = pl.DataFrame({PATIENT: sheet.patient_ids, "kind": sheet.words(event)})
        count, people = pairs.n_unique(), sheet.patient_ids.n_unique()
        flag = next((c for c in flags if c != event), None)
        every = count == len(pairs) and count >= 0.9 * people * pairs["kind"].n_unique()
        if len(times) == 1 and flag is not None and every:
            answers = {
                times[0]: "the time of an event",
                flag: "whether an event came",
                event: "the kind of event of a row",
            }
            return EventRows(None, answers, (), sheet, times[0], flag, event)
    return None


# ---- all of them


def layout_of(sheet: Sheet) -> RowsOfOutcome | None:
    """The layout of a table whose rows say together what came of a patient.

    Parameters
    ----------
    sheet : Sheet
        A table with a patient column.

    Returns
    -------
    RowsOfOutcome or None
        None where there is none of those.
    """
    if not sheet.one_row_each and (found := _multi_state(sheet)):
        return found
    return _start_stop(sheet) or (None if sheet.one_row_each else _event_rows(sheet))
