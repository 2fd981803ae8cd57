"""What becomes an input: static columns, node types, units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Any

import polars as pl

from gnnpatient.ingest.cells import MISSING, text
from gnnpatient.ingest.units import plain_unit
from gnnpatient.propose import names
from gnnpatient.propose.keys import of_other_rows
from gnnpatient.propose.moments import moments
from gnnpatient.propose.names import ANALYTE, MAX_LEVELS, MIN_PATIENTS, OUTCOME_PART, PATIENT, RANGES
from gnnpatient.propose.parts import Draft, bare, plain, slug
from gnnpatient.propose.sheets import Sheet
from gnnpatient.times import DAY, UNITS


def statics(
    draft: Draft, people: Sheet, forbidden: dict[str, str], origin: str | None, groups: list[Alike]
) -> None:
    """Write static columns: a category where there are two values or few words, else a number.

    Only columns that are constant for each patient are taken.

    Parameters
    ----------
    draft : Draft
        The draft that is filled.
    people : Sheet
        The patient table.
    forbidden : dict of str to str
        Columns that must not be an input, and why.
    origin : str or None
        Column with the date of day 0; None: times are offsets.
    groups : list of Alike
        Columns that are called alike, which become nodes.
    """
    keys, notes = draft.patient.keys, draft.patient.notes
    keys |= {"number": [], "category": [], "first": []}
    why = {c: reason for c, reason in forbidden.items() if reason != OUTCOME_PART}
    taken = {people.key, origin, *forbidden, *(c for group in groups for c in group.columns)}
    for name in (c for c in people.raw.columns if c not in taken):
        word, kind, distinct = plain(name), people.kind[name], people.n_distinct(name)
        nominal = distinct == 2 or (bool(names.NOMINAL.search(word)) and distinct <= MAX_LEVELS)
        if names.SITE.search(word) and name in people.constant_columns and distinct > 2:
            notes.append(f"ASK: patient.group: are splits to keep each {name} together? batches show in it")
        if name not in people.constant_columns:
            if names.PERSON.match(word) and "age" in word and kind == "number":
                keys["number"].append(name)
                keys["first"].append(name)
        elif _is_group(word) and 10 < distinct < 0.98 * len(people.first_values):
            notes.append(f"ASK: patient.group: patients share {name}; are they to stay together in splits?")
            keys.setdefault("group", name)
        elif kind == "number" and names.ENTRY.search(word) and not people.first_values[name].null_count():
            notes.append(f"ASK: patient.entry: does observation start at {name}?")
            keys.setdefault("entry", name)
        elif (
            people.names_rows(name) or people.counts_rows(name) or (kind == "text" and distinct > MAX_LEVELS)
        ):
            why[name] = "ids, or more words than a category has"
        elif distinct < 2:
            why[name] = "constant or empty"
        elif kind in ("text", "number"):
            keys["category" if kind == "text" or nominal else "number"].append(name)
        else:
            why[name] = "numbers and some words" if kind == "mixed" else f"a {kind}, which is no static"
    chosen = [name for name in (*keys["number"], *keys["category"]) if not names.PERSON.match(plain(name))]
    if draft.of_stays and chosen:
        notes.append(
            f"ASK: patient: {', '.join(chosen)}: known when a stay begins? what is written at its end is no "
            "input"
        )
    draft.leave_out(people.name, why)


def _is_group(word: str) -> bool:
    """Whether a column is called like what several patients share: a household, or the person of two eyes."""
    return bool(names.GROUP.search(word)) or word in names.PERSON_KEYS


def nodes(
    draft: Draft, sheet: Sheet, people: Sheet, forbidden: dict[str, str], origin: str | None
) -> list[float]:
    """Write the node types of a table.

    Parameters
    ----------
    draft : Draft
        The draft that is filled.
    sheet : Sheet
        The table.
    people : Sheet
        The patient table.
    forbidden : dict of str to str
        Columns of the table that must not be an input, and why.
    origin : str or None
        Column of the patient table with the date of day 0; None: times are offsets.

    Returns
    -------
    list of float
        The median of the days between two rows of a patient, if there are any.
    """
    if sheet is people and sheet.one_row_each:
        return []
    time, known, until = moments(sheet)
    lost: dict[str, str] = {}
    if sheet.layout is not None and time is None:  # its rows are events
        return []
    if draft.of_stays and time is None:
        lost[""] = "no time, and what is written of a stay may be written at its end"
    if time is None and not sheet.one_row_each:
        lost[""] = "several rows a patient, but no column that could be their time"
        draft.lost[sheet.name] = _way_to_a_time(sheet)
        if ends := _ends_of_rows(sheet):
            lost[""] += (
                f"; {' and '.join(ends)} differ between them: if a row is an eye or a tumour, give it an id "
                f'of its own as key, with group = "{sheet.key}"'
            )
            draft.lost[sheet.name] = lost[""]
    elif time and sheet.kind[time] == "date" and origin is None:
        lost[""] = f"{time} holds dates, but no date in the patient table is everybody's day 0"
    elif (
        sheet.layout is None
        and time
        and not until
        and names.FOLLOWED.search(plain(time))
        and (states := _states_of_rows(sheet))
    ):
        reason = "each row has a state at its time: events, for causes = { NAME = { time, where } }"
        lost = dict.fromkeys((time, *states), reason)
    if lost:
        draft.leave_out(sheet.name, lost)
        return []
    head: dict[str, Any] = {"table": sheet.name, "time": time or ""}
    head |= {"known": known or "", "until": until or "", "untimed": "" if time else "origin"}
    notes = [] if time else [f"ASK: nodes: {sheet.name} has no time; is all of it known on day 0?"]
    notes += [f"a row is seen from {known} on; one that comes before its {time} is refused"] if known else []
    usable, why = _usable(sheet, sheet is people, (time, known, until), forbidden)
    code = (_code(sheet, usable) or _only_code(sheet, usable, time)) if time else None
    added = {name for name, _ in sheet.named.values()} - {code}
    usable, why = [c for c in usable if c not in added], {c: of for c, of in why.items() if c not in added}
    if code is not None:
        taken = _long(draft, head, notes, sheet, code, usable)
        why |= {c: "not needed beside the code" for c in usable if c not in taken}
    else:
        numbers = [c for c in usable if sheet.kind[c] == "number"]
        words = [c for c in usable if time and sheet.kind[c] == "text" and sheet.n_distinct(c) <= MAX_LEVELS][
            :8
        ]
        _wide(draft, head, notes, sheet, numbers)
        for name in words:
            draft.node(slug(name, "word"), {**head, "code": name, "edges": ["at"]}, *notes)
        why |= {c: "words, or numbers and words" for c in usable if c not in (*numbers, *words)}
    draft.leave_out(sheet.name, why)
    if time is None:
        return []
    sheet.clock(time)
    unit = sheet.block.keys.get("time", {}).get("unit", "d") if sheet.kind[time] == "number" else "d"
    rows = (
        pl.DataFrame({PATIENT: sheet.patient_ids, "at": sheet.cells[time]})
        .drop_nulls()
        .unique()
        .sort(PATIENT, "at")
    )
    gap = rows.select(pl.col("at").diff().over(PATIENT)).to_series().median()
    return [] if gap is None else [float(gap) * (UNITS[unit] / DAY)]  # type: ignore[arg-type]


def _way_to_a_time(sheet: Sheet) -> str:
    """What the owner of a table may do in which no column is known to be the time of a row."""
    varying = [c for c in sheet.raw.columns if c not in sheet.constant_columns and c != sheet.key]
    for name in (c for c in sheet.raw.columns if sheet.kind[c] == "text" and names.CLOCK.search(plain(c))):
        dates = text(sheet.raw[name], MISSING).drop_nulls()
        iso = int(dates.str.contains(r"^\d{4}-\d\d-\d\d").sum())
        if iso and dates.str.contains(r"^\d{1,4}[./-]\d{1,2}[./-]\d{1,4}").all():
            other = f"{len(dates) - iso} in another way"
            return f"{name} has {iso} dates written as 2021-03-04 and {other}; write all as 2021-03-04"
    numbers = [c for c in varying if sheet.kind[c] == "number"]
    frame = sheet.cells.select(numbers).with_columns(sheet.patient_ids)
    steps = {c: frame.select(pl.col(c).diff().over(PATIENT)).to_series().drop_nulls() for c in numbers}
    rising = [c for c in numbers if len(steps[c]) and (steps[c] > 0).all()]
    if rising:
        name = min(rising, key=lambda c: float(frame[c].mean() or 0))  # type: ignore[arg-type]  # the start
        values = ", ".join(f'{bare(c)} = ""' for c in numbers if c not in rising and c not in sheet.barred)
        return (
            f"no column is called a time; if {name} is one, add [nodes.measure] table = "
            f'"{sheet.name}", time = "{name}", columns = {{ {values} }}'
        )
    return "several rows a patient, but no column that could be their time; name it time, day or date"


def _ends_of_rows(sheet: Sheet) -> list[str]:
    """Columns with a time of follow-up and what came then that differ between the rows of a patient."""
    varying = [c for c in sheet.raw.columns if c not in sheet.constant_columns and c != sheet.key]
    times = [c for c in varying if sheet.kind[c] == "number" and names.FOLLOWED.search(plain(c))]
    flags = [c for c in varying if names.HAPPENS.search(plain(c)) and sheet.is_binary(c)]
    return [times[0], flags[0]] if times and flags else []


def _states_of_rows(sheet: Sheet) -> list[str]:
    """Numbers that say whether something happened, and that differ between the rows of a patient."""
    named = [
        c for c in sheet.raw.columns if names.HAPPENS.search(plain(c)) and c not in sheet.constant_columns
    ]
    return [c for c in named if sheet.kind[c] == "number" and 2 <= len(sheet.states(c)) <= 8]


def _usable(
    sheet: Sheet, is_patient_table: bool, taken: tuple[str | None, ...], forbidden: dict[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Columns with measurements, and why the others have none; the patient table has statics, too."""
    usable: list[str] = []
    why = (
        {}
        if is_patient_table
        else {name: reason for name, reason in forbidden.items() if reason != OUTCOME_PART}
    )
    shown = sheet.layout.shown if sheet.layout else ()
    no_input = {sheet.key, *taken, *forbidden, *shown}
    for name in (c for c in sheet.raw.columns if c not in no_input):
        if taken[0] and not sheet.one_row_each and name in sheet.constant_columns:
            why[name] = "does not change in a patient; a static has to be in the patient table" * (
                not is_patient_table
            )
        elif names.COUNTER.match(plain(name)) or sheet.names_rows(name):
            why[name] = "counts or names rows"
        elif of_other_rows(sheet, name):
            why[name] = "ids of stays, visits or samples"
        elif names.PERSON.match(plain(name)):
            why[name] = "a matter of the patient table" * (not is_patient_table)
        elif sheet.kind[name] not in ("number", "text", "mixed") or (
            sheet.n_distinct(name) < 2 and not _names_codes(sheet, name)
        ):
            why[name] = "constant, or a time that no key takes"
        else:
            usable.append(name)
    return usable, {name: reason for name, reason in why.items() if reason}


def _names_codes(sheet: Sheet, name: str) -> bool:
    """Whether a column has several codes, of which one, as NA for sodium, reads like a missing value."""
    return any(re.search(named, plain(name)) for named in names.CODES) and sheet.raw[name].n_unique() > 1


def _code(sheet: Sheet, usable: list[str]) -> str | None:
    """The column of a long table that names what was measured."""
    added = {name for name, _ in sheet.named.values()}
    for named, name in product(names.CODES, [c for c in usable if c not in added]):
        numbered = re.search("code|item", plain(name)) and sheet.is_integer(name)
        fits = re.search(named, plain(name)) and (numbered or sheet.kind[name] == "text")
        if fits and sheet.n_distinct(name) <= 0.7 * len(sheet.raw):
            if name in sheet.named:
                name, join = sheet.named[name]
                sheet.block.keys.setdefault("join", join)
            return name
    return None


def _only_code(sheet: Sheet, usable: list[str], time: str) -> str | None:
    """The only column of words beside one of numbers, where it tells rows of one patient and time apart."""
    numbers = [c for c in usable if sheet.kind[c] == "number"]
    words = [c for c in usable if sheet.kind[c] == "text"]
    if len(numbers) != 1 or len(words) != 1 or not names.VALUE.search(plain(numbers[0])):
        return None
    frame = pl.DataFrame({PATIENT: sheet.patient_ids, "at": sheet.cells[time], "code": sheet.words(words[0])})
    apart = frame.n_unique() == len(frame) and frame.select(PATIENT, "at").n_unique() < 0.9 * len(frame)
    return words[0] if apart else None


def _wide(draft: Draft, head: dict[str, Any], notes: list[str], sheet: Sheet, columns: list[str]) -> None:
    """Columns of numbers as node types: laboratory values, vital signs, signs with few values, the rest."""
    kinds: dict[str, dict[str, str]] = {}
    groups = alike(sheet, columns)
    for group in groups:
        draft.node(group.kind, {**head, "columns": group.shown, "edges": ["at"]}, *notes)
    taken = {c for group in groups for c in group.columns}
    for name in (c for c in columns if c not in taken):
        analyte = ANALYTE.get(plain(name), "")
        kind = "vital" if analyte in names.VITAL else "lab" if analyte else "measure"
        kind = "sign" if not analyte and sheet.n_distinct(name) <= 4 else kind
        unit, why = _documented_unit(sheet, name, analyte)
        kinds.setdefault(kind, {})[name] = unit
        _range(draft, name, analyte, unit, why)
    for kind, units in kinds.items():
        edges = ["at"] if kind == "sign" or head["untimed"] else ["at", "same"]
        draft.node(kind, {**head, "columns": units, "edges": edges}, *notes)


@dataclass(frozen=True)
class Alike:
    """Many columns of numbers that are called alike.

    Attributes
    ----------
    kind : str
        A name for their node type.
    columns : tuple of str
        The columns.
    shown : dict of str to str
        What [nodes] says of them: a pattern, where it stands for no column that must not be an input.
    """

    kind: str
    columns: tuple[str, ...]
    shown: dict[str, str]


def alike(sheet: Sheet, columns: list[str]) -> list[Alike]:
    """Groups of many columns: genes, or those whose names begin or end in the same way.

    Parameters
    ----------
    sheet : Sheet
        A table.
    columns : list of str
        Columns with numbers that may become nodes.

    Returns
    -------
    list of Alike
    """
    groups: dict[str, list[str]] = {}
    left = {c for c in columns if plain(c) not in ANALYTE and not names.PERSON.match(plain(c))}
    for name in (c for c in columns if c in left):
        parts = [f"*{end}" for end in re.findall(r"[._-][A-Za-z]+\d?$", name)]
        parts += [f"{begin}*" for begin in re.findall(r"^[A-Za-z]+[._-](?=.)", name)]
        parts += [f"{begin}*" for begin in re.findall(r"^([A-Za-z]+[._-]?)\d+$", name)]
        for part in parts:
            groups.setdefault(part, []).append(name)
    found: list[Alike] = []
    for pattern, members in sorted(groups.items(), key=lambda item: -len(item[1])):
        members = [c for c in members if c in left]
        part = plain(pattern)
        kind = next((kind for kind, named in names.OMICS.items() if re.fullmatch(named, part)), "")
        if len(members) >= (names.MIN_OMICS if kind else names.MIN_GROUP):
            kind = kind or ("value" if part in ("num", "x", "v") else slug(part, "value"))
            barred = any(_stands_for(pattern, c) for c in sheet.barred)
            shown = {c: "" for c in members} if barred else {pattern: ""}
            found.append(Alike(kind, tuple(members), shown))
            left -= set(members)
    genes = tuple(c for c in columns if c in left and names.GENE.match(c))
    if len(genes) >= names.MIN_GROUP:
        found.append(Alike("gene", genes, {c: "" for c in genes}))
    return found


def _stands_for(pattern: str, name: str) -> bool:
    begin, _, end = pattern.partition("*")
    return name.startswith(begin) and name.endswith(end) and len(name) >= len(pattern)


def analytes(draft: Draft, people: Sheet, groups: list[Alike]) -> None:
    """Make laboratory values, vital signs and groups of columns nodes of day 0, where a row is a patient.

    Parameters
    ----------
    draft : Draft
        The draft that is filled; laboratory values and vital signs leave its statics.
    people : Sheet
        The patient table.
    groups : list of Alike
        Columns that are called alike, which are no statics.
    """
    head = {"table": people.name, "untimed": "origin"}
    notes = [f"ASK: nodes: were the values in {people.name} known on day 0?"]
    for group in groups:
        draft.node(group.kind, {**head, "columns": group.shown, "edges": ["at"]}, *notes)
    found = [c for c in draft.patient.keys["number"] if plain(c) in ANALYTE]
    draft.patient.keys["number"] = [c for c in draft.patient.keys["number"] if c not in found]
    _wide(draft, head, notes, people, found)


def _long(
    draft: Draft, head: dict[str, Any], notes: list[str], sheet: Sheet, code: str, usable: list[str]
) -> tuple[str, ...]:
    """Write a table of codes: measurements where it has a value. Gives the columns that were taken."""
    numeric = [c for c in usable if sheet.kind[c] in ("number", "mixed") and c != code]
    values = [c for c in numeric if names.VALUE.search(plain(c))]
    value = min(values, key=lambda c: sheet.kind[c] != "number" or "num" not in plain(c), default="")
    words = [c for c in usable if sheet.kind[c] == "text" and value]
    unit = next((c for c in words if names.UNIT.search(plain(c))), "")
    codes = pl.DataFrame({"who": sheet.patient_ids, "code": text(sheet.raw[code])}).drop_nulls().unique()
    count = codes.group_by("code").len().sort("code")
    if missing := sheet.block.keys.get("missing"):  # in this column NA is sodium
        sheet.block.keys["missing"] = left = [word for word in missing if word not in count["code"]]
        if not left:
            sheet.block.notes = [note for note in sheet.block.notes if "is taken as missing" not in note]
    common = count.filter(pl.col("len") >= MIN_PATIENTS)["code"].to_list()
    of = plain(sheet.name) + plain(code)
    kind = next((kind for kind, named in names.MEANS.items() if re.search(named, of)), code)
    if value and (any(plain(word) in ANALYTE for word in common) or "lab" in plain(code + sheet.name)):
        kind = "lab"
    units = _units_of_codes(sheet, code, unit) if unit else {}
    mixed = {word for word, given in units.items() if len({plain_unit(u) for u in given}) > 1}
    if mixed - set(common):  # their names would have to be written into [units]
        draft.left_out.append(
            f"{sheet.name}: {unit}: a code of fewer than {MIN_PATIENTS} patients comes in two units"
        )
        unit, units = "", {}
    for word in common:
        analyte, given = ANALYTE.get(plain(word), ""), units.get(word, [])
        if len(given) > 1:
            several_units(draft, word, given)
        elif not unit and analyte and value:
            documented, why = _documented_unit(sheet, word, analyte)
            _range(
                draft, word, analyte, documented, f"{why}; no unit is written, so that one is meant", {"": 1}
            )
        elif analyte and given:
            _range(draft, word, analyte, given[0], f"from {unit}; an empty unit means that one", {"": 1})
    notes = [f"{len(count)} codes, {len(common)} of them in {MIN_PATIENTS} patients or more", *notes]
    keys = {**head, "code": code, "value": value, "unit": unit, "edges": ["at", "same"] if value else ["at"]}
    draft.node(slug(kind, "code"), keys, *notes)
    return code, value, unit


def _units_of_codes(sheet: Sheet, code: str, unit: str) -> dict[str, list[str]]:
    """The units of each code, the most frequent first."""
    frame = pl.DataFrame({"code": text(sheet.raw[code]), "unit": text(sheet.raw[unit], MISSING)}).drop_nulls()
    count = frame.group_by("code", "unit").len()
    count = count.sort(["code", "len", "unit"], descending=[False, True, False])
    return dict(count.group_by("code", maintain_order=True).agg("unit").iter_rows())


def several_units(draft: Draft, code: str, units: list[str]) -> None:
    """Write [units] of a code with several units; only spellings of one unit are joined.

    Parameters
    ----------
    draft : Draft
        The draft that is filled.
    code : str
        The code.
    units : list of str
        Its units, the most frequent first: that one is kept.
    """
    to, *others = units
    same = {u: 1 for u in others if plain_unit(u) == plain_unit(to)}
    odd = ", ".join(u for u in others if u not in same)
    ask = f"ASK: units: {code}: rows in {odd} (or none) are refused until `from` says how many {to} that is"
    note = ask if odd else f"{code}: one unit, spelled in two ways"
    draft.units[code] = note, {"to": to, **({"from": same} if same else {})}


def _documented_unit(sheet: Sheet, name: str, analyte: str) -> tuple[str, str]:
    """The unit of a column or code, and where it was found: its name or the README; else "", ""."""
    documented = sheet.documented.get(name, "")
    if re.fullmatch(r"[A-Za-zµ%°^0-9/.*-]{1,15}", documented) and not names.NO_UNIT.match(documented):
        return documented, "from the README"
    if found := names.IN_NAME.search(name.replace("/", "_")):
        spelled = re.sub(r"^(mg|g|mmol|umol)_?(dl|l)$", r"\1/\2", found[1].lower()).replace("kg_m2", "kg/m2")
        return "mmHg" if spelled in ("mmhg", "mm_hg") else spelled, "from its name"
    before = rf"(?<![\w.]){re.escape(name)}(?![\w.])(?P<others>(\s*[,/]\s*[\w.]+){{0,6}})$"
    for line in sheet.lines():
        for found in names.IN_TEXT.finditer(line):
            place = re.search(before, line[: found.start()].rstrip(" ("))
            # behind a list of names a unit is the last one's; it is another's only where it can be
            if place and (not place["others"] or _compared(found[1]) in RANGES.get(analyte, {})):
                return found[1], "from the README"
    return "", ""


def _range(
    draft: Draft, code: str, analyte: str, unit: str, why: str, sources: dict[str, int] | None = None
) -> None:
    """Write [units] of a code with its possible range where the unit is known, else a question."""
    allowed = RANGES.get(analyte, {})
    if limits := allowed.get(_compared(unit)):
        keys = {"to": unit, **({"from": sources} if sources else {}), "range": list(limits)}
        note = f"{code} is in {unit}: {why}. Beyond the range lies what cannot be"
        draft.units.setdefault(code, (note, keys))
    elif allowed and not unit:
        units = " or ".join(sorted(allowed))
        note = f"ASK: units: {code}: in {units}? the unit is not documented, so no value is refused"
        draft.units.setdefault(code, (note, {}))


def _compared(unit: str) -> str:
    return unit.lower().replace(" ", "")
