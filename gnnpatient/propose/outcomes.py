"""What is predicted, and what tells it and must not be an input."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Any

import polars as pl

from gnnpatient.ingest.cells import text
from gnnpatient.propose import names
from gnnpatient.propose.inputs import moments
from gnnpatient.propose.names import LABEL, MIN_LEAK_AUC, MIN_PATIENTS, OUTCOME_PART, WHO, WORDS
from gnnpatient.propose.parts import Draft, plain, slug, unused_name
from gnnpatient.propose.sheets import Sheet, share


@dataclass(frozen=True)
class Pair:
    """A time of the whole follow-up, and the column that says what happened then."""

    sheet: Sheet
    name: str
    time: str
    flag: str | None  # None: a time alone, empty where it did not happen
    states: dict[str, str] | None  # None: 1 = happened
    why: str

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(c for c in (self.time, self.flag) if c)

    @property
    def competing(self) -> bool:
        """Whether it competes with every other outcome: a death with a 0 and 1."""
        return self.name == "death" and self.flag is not None and self.states is None

    def cause(self, table: str) -> dict[str, str]:
        """As a cause of an outcome of some table."""
        own = {"table": self.sheet.name} if self.sheet.name != table else {}
        return {**own, "time": self.time, **({"flag": self.flag} if self.flag else {})}

    def happened(self) -> pl.DataFrame:
        """WHO, event (whether it came) and time (in the unit of the table) of each patient."""
        if self.flag is None:
            event = self.sheet.cells[self.time].is_not_null()
        elif self.states is None:
            event = self.sheet.words(self.flag).str.to_lowercase().is_in(["1", "true"])
        else:
            event = self.sheet.words(self.flag).is_in([s for s, m in self.states.items() if m != "censored"])
        frame = pl.DataFrame(
            {WHO: self.sheet.patient_ids, "event": event, "time": self.sheet.cells[self.time]}
        )
        return frame.group_by(WHO, maintain_order=True).agg(pl.col("event").max(), pl.col("time").max())


def pairs_of(sheet: Sheet) -> list[Pair]:
    """The pairs of a table, joined by name or by content; death first.

    Where three times or more stand side by side, a flag belongs to the time that is short of the latest one
    just where the flag is 1.
    """
    columns = [c for c in sheet.raw.columns if c in sheet.constant_columns]
    times = [c for c in columns if sheet.kind[c] == "number" and names.FOLLOWED.search(plain(c))]
    times = [c for c in times if not names.BEGINS.search(plain(c))]
    flags = [c for c in columns if c not in times and not names.NOMINAL.search(plain(c))]
    flags = [c for c in flags if 2 <= len(sheet.states(c)) <= 8]
    flags = [c for c in flags if sheet.is_binary(c) or names.HAPPENS.search(plain(c))]
    last = sheet.first_values.select(pl.max_horizontal(times)).to_series() if len(times) > 2 else None
    scored = []
    for time, flag in product(times, flags):
        score = _name_similarity(time, flag)
        if last is not None and sheet.is_binary(flag):
            short, event = sheet.first_values[time] < last, sheet.first_values[flag] == 1
            right = share(short.filter(event)) + share((~short).filter(~event))
            score += 0.5 if score and right > 1.8 else 0.6 if right > 1.94 else 0
        if score >= 0.6:
            scored.append((-score, columns.index(time), columns.index(flag), time, flag))
    found: list[Pair] = []
    used: set[str] = set()
    for *_, time, flag in sorted(scored):
        if not used & {time, flag}:
            found.append(_pair(sheet, time, flag))
            used |= {time, flag}
    for time in times if any(pair.competing for pair in found) else []:
        if time not in used and sheet.first_values[time].null_count() > 0.05 * len(sheet.first_values):
            why = f"{time} has no flag; is an empty cell somebody to whom it did not happen?"
            name = slug(names.TOKENS.sub("", plain(time)) or time, "event")
            found.append(Pair(sheet, name, time, None, None, why))
    return sorted(found, key=lambda pair: (pair.name != "death", columns.index(pair.time)))


def _name_similarity(time: str, flag: str) -> float:
    """How well two names go together: time and status, d.time and death, rtime and recur."""
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
    """The pair with a name, and with the meaning of its states: from the README where it has one."""
    documented, word, states = _documented_states(sheet, flag), plain(flag), sheet.states(flag)
    name = "death" if names.DEATH.search(word) else slug(names.FLAG.sub("", word) or flag, "outcome")
    if sheet.is_binary(flag):
        if word.startswith("cens"):
            meaning = {s: "censored" if s.lower() in ("1", "true") else "event" for s in states}
            why = f"by its name {flag} = 1 is censored; is that so?"
            return Pair(sheet, "event", time, flag, meaning, why)
        why = f"does {flag} = 1 mean that it happened at {time}, 0 censored?"
        if documented.get("1", "censored") != "censored":
            name = slug(documented["1"], "outcome")
            why = f"{flag} = 1 is {documented['1']}, as the README says, and 0 censored?"
        return Pair(sheet, name, time, flag, None, why)
    leaving, meaning = "discharge" in plain(time), dict[str, str]()
    for state in states:
        if state in documented:
            meaning[state] = documented[state]
        elif names.ALIVE.match(state):  # leaving alive competes with death in hospital
            meaning[state] = "discharge" if leaving else "censored"
        else:
            meaning[state] = "death" if names.DEATH.search(plain(state)) else slug(state, "event")
    if name == "death" or "death" in meaning.values():
        name = "leaving" if leaving else "death"
    return Pair(sheet, name, time, flag, meaning, f"is that what the states of {flag} mean?")


def _documented_states(sheet: Sheet, flag: str) -> dict[str, str]:
    """What the README says that numbers mean, as in `status 0 censored, 1 transplant, 2 death`."""
    states = sheet.states(flag)
    for line in sheet.lines():
        line = re.sub(r"\([^)]*\)", "", line)
        if found := re.search(rf"(?<![\w.]){re.escape(flag)}(?![\w.])([^.;|]{{0,120}})", line):
            documented = dict(re.findall(r"(?<!\w)(\d)\s*=?\s*([A-Za-z]{4,})", found[1]))
            documented = {"0": "censored"} | documented if "0" in states else documented
            if documented.keys() == states.keys():
                return {
                    s: "censored" if names.ALIVE.match(w) else slug(w, "event") for s, w in documented.items()
                }
    return {}


def usable_pairs(draft: Draft, pairs: list[Pair], people: Sheet, origin: str | None) -> list[Pair]:
    """The pairs that can be read: no gap that `where` cannot leave out, no time before day 0."""
    kept, where = [], {}
    for pair in pairs:
        sheet, flag = pair.sheet, pair.flag
        time, place = sheet.first_values[pair.time], f"{sheet.name}: {' and '.join(pair.columns)}"
        gap = time.is_null() & False if flag is None else sheet.first_values[flag].is_null()
        wrong = (time < 0).fill_null(False) | (time.is_null() & ~gap & (flag is not None))
        words = sheet.states(flag) if flag and pair.states else {}
        if any(n < MIN_PATIENTS and not word.isdigit() for word, n in words.items()):
            draft.left_out.append(
                f"{place}: a state of fewer than {MIN_PATIENTS} patients; join it with another"
            )
        elif wrong.any():
            draft.left_out.append(f"{place}: {wrong.sum()} patient(s) with a time before day 0, or with none")
        elif origin and sheet is people and people.date_format[origin]:
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
    """An outcome of a pair, with death as a competing cause where there is one."""
    frame, table = pair.happened(), pair.sheet.name
    zero = frame.filter(pl.col("event"), pl.col("time") <= 0).height
    note = f"{frame['event'].sum()} of {len(frame)} patients have the event"
    note += f"; {zero} at time 0: they had it before, and are not at risk" if zero else ""
    name, keys = unused_name(draft.outcomes, pair.name), dict[str, Any](kind="survival", table=table)
    if pair.states is not None:
        keys["status"] = {"column": pair.flag, "states": pair.states, "time": pair.time}
    else:
        keys["causes"] = {name: pair.cause(table)}
        if (end := next((p for p in pairs if p.competing), pair)) is not pair and not pair.competing:
            keys["causes"][end.name] = end.cause(table)
    draft.outcome(name, pair.why, keys, note)


def labels_of(sheets: list[Sheet]) -> list[tuple[Sheet, str]]:
    """A column with the class of each patient, for where there is no time to an event."""
    for sheet in sheets:
        for name in (c for c in sheet.raw.columns if c in sheet.constant_columns):
            states = sheet.states(name)
            if not 2 <= len(states) <= 6 or min(states.values()) < MIN_PATIENTS:
                continue
            ill = plain(name) == "group" and any(map(names.DISEASE.search, states))
            if ill or LABEL.search(plain(name)):
                return [(sheet, name)]
    return []


def diagnosis(draft: Draft, sheet: Sheet, column: str) -> None:
    """An outcome of a column with classes."""
    states, name = sheet.states(column), slug(column, "label")
    classes = {} if sheet.is_binary(column) else {state: slug(state, name) for state in states}
    keys = {"kind": "diagnosis", "table": sheet.name, "column": column, "classes": classes}
    ask = f"what does {column} mean, and since when was it known? without `known` never in time"
    note = "patients: " + ", ".join(f"{n} with {state}" for state, n in states.items())
    draft.outcome(name, ask, keys, note)


def onset(draft: Draft, sheets: list[Sheet]) -> None:
    """A label that changes within a patient as the time of its first 1; observed until the last row."""
    by_name = {sheet.name: sheet for sheet in sheets}
    seen: dict[str, int] = {}  # patients with a row, by kind
    for kind, block in draft.nodes.items():
        if block.keys.get("time"):
            sheet = by_name[block.keys["table"]]
            columns = list(block.keys.get("columns", [sheet.key]))
            given = sheet.cells.select(pl.any_horizontal(pl.col(columns).is_not_null())).to_series()
            seen[kind] = sheet.patient_ids.filter(given).n_unique()
    last = max(seen, key=lambda kind: seen[kind], default="")
    for sheet in sheets if last else []:
        time = moments(sheet)[0]
        for name in (
            c for c in sheet.raw.columns if c not in sheet.constant_columns and LABEL.search(plain(c))
        ):
            if time is None or not sheet.is_binary(name):
                continue
            if (lost := sheet.patient_ids.n_unique() - seen[last]) > 0:
                draft.left_out.append(
                    f"{sheet.name}: {name}: {lost} patient(s) have no {last} to be observed by"
                )
                continue
            sheet.clock(time)
            cells = sheet.raw[name].drop_nulls().cast(pl.String).unique().sort()
            cause = {"table": sheet.name, "time": time, "where": {name: [c for c in cells if c[0] in "1tT"]}}
            end = {"node": last, "code": "*", "pick": "last"}
            ask = f"is the first {name} of a patient the event, and the last {last} the end of observation?"
            word = slug(name, "label")
            draft.outcome(word, ask, {"kind": "survival", "causes": {word: cause}, "exit": end})
            return


def onset_of_codes(draft: Draft, sheets: list[Sheet], pairs: list[Pair]) -> None:
    """The three codes of a table of diagnoses that most patients get after day 0, with death beside them."""
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
        if frame["code"].n_unique() > WORDS or sheet.name == end.sheet.name:
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


def forbidden(sheet: Sheet, pairs: list[Pair], labels: list[tuple[Sheet, str]]) -> dict[str, str]:
    """Columns that are an outcome, look into the future or tell the outcome nearly by themselves, and why."""
    why = {c: OUTCOME_PART for pair in pairs if pair.sheet is sheet for c in pair.columns}
    why |= {name: OUTCOME_PART for of, name in labels if of is sheet}
    outcomes = [(pair.name, pair.happened()) for pair in pairs]
    for of, label in labels:
        for state in list(of.states(label))[-1:] if of.is_binary(label) else of.states(label):
            frame = pl.DataFrame({WHO: of.patient_ids, "event": of.words(label) == state})
            outcomes.append((state, frame.unique(WHO, keep="first", maintain_order=True)))
    warnings = [s for s in re.split(r"[.\n](?=\s|$)", sheet.readme) if names.FUTURE_TEXT.search(s)]
    warned = set(re.findall(r"[\w.]+", " ".join(warnings)))
    for name in (c for c in sheet.raw.columns if c not in why and c != sheet.key):
        word, is_constant, numeric = plain(name), name in sheet.constant_columns, sheet.kind[name] == "number"
        few = 2 <= len(sheet.states(name)) <= 8
        happens = names.HAPPENS.search(word) and few and (is_constant or numeric)
        whole_follow_up = names.FOLLOWED.search(word) and not names.BEGINS.search(word)
        if len(name) > 2 and name in warned:
            why[name] = "the README says that it looks ahead"
        elif names.FUTURE.search(word):
            why[name] = "by its name it looks ahead, or repeats an outcome"
        elif is_constant and numeric and not sheet.one_row_each and whole_follow_up:
            why[name] = "a time of the whole follow-up"
        elif happens or (LABEL.search(word) and (few or numeric)):
            why[name] = "by its name a state or a label, not an input"
        elif leak := _leak(sheet, name, outcomes):
            why[name] = leak
    return why


def _leak(sheet: Sheet, name: str, outcomes: list[tuple[str, pl.DataFrame]]) -> str:
    """Whether the first value that a patient has tells an outcome nearly by itself; "": no."""
    kind = sheet.kind[name]
    if kind not in ("number", "text") or (kind == "text" and sheet.n_distinct(name) > WORDS):
        return ""
    for outcome, frame in outcomes:
        joined = sheet.first_values.select(WHO, pl.col(name).alias("value")).join(frame, on=WHO)
        joined = joined.drop_nulls(["value", "event"])
        value, event = joined["value"], joined["event"]
        if min(event.sum(), (~event).sum()) < 10:
            continue
        if kind == "text":  # each word by its share of events
            value = joined.select(pl.col("event").cast(pl.Float64).mean().over("value")).to_series()
        elif "time" in frame.columns:
            rank = float(joined.select(pl.corr("value", "time", method="spearman")).item() or 0)
            if abs(rank) > MIN_LEAK_AUC:
                return f"goes with the time of {outcome} (rank correlation {rank:.2f})"
        if (found := _auc(value, event)) > MIN_LEAK_AUC:
            return f"tells {outcome} nearly by itself (rank AUC {found:.2f})"
    return ""


def _auc(value: pl.Series, event: pl.Series) -> float:
    """Rank AUC in the better direction; ties count half."""
    n, m = int(event.sum()), int((~event).sum())
    auc = (float(value.rank("average").filter(event).sum()) - n * (n + 1) / 2) / (n * m)
    return max(auc, 1 - auc)
