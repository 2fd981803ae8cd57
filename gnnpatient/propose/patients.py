"""Who the patients are: the column with their ids, the tables about them, their day 0."""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from gnnpatient.errors import InputError, near
from gnnpatient.ingest.cells import ids
from gnnpatient.propose import keys
from gnnpatient.propose.moments import moments
from gnnpatient.propose.names import BEGINS, COUNTED, FUTURE, KEYS, MAX_LEVELS, NUMBERED, PATIENT, SEEN
from gnnpatient.propose.parts import Draft, plain
from gnnpatient.propose.sheets import Sheet, share
from gnnpatient.readers.csv_file import CSV


def with_patient_column(draft: Draft, sheets: list[Sheet], key: str | None = None) -> list[Sheet]:
    """The tables with a column that holds the patient's id; `key` of each is set.

    The known name that most tables have; where none is, or a person's id of another name is in more tables,
    what `keys.candidates` finds, and that is asked. Other tables have it under another name, or by a join
    with a table that has one row for each of their stays.

    Parameters
    ----------
    draft : Draft
        The draft that is filled with the question, the joins, and the tables that are left out.
    sheets : list of Sheet
        All tables.
    key : str, optional
        The column, where its owner has named it.

    Returns
    -------
    list of Sheet

    Raises
    ------
    InputError
        When no table has such a column, or none is called so.
    """
    if key is None:
        _choose(draft, sheets)
        if not any(sheet.key for sheet in sheets):
            raise InputError(f"{draft.place}: {_no_key(sheets)} {_numbered(sheets[0].name)}")
    else:
        for sheet in sheets:
            sheet.key = next((c for c in sheet.raw.columns if plain(c) == plain(key)), "")
        if not any(sheet.key for sheet in sheets):
            known = list(dict.fromkeys(c for sheet in sheets for c in sheet.raw.columns))
            raise InputError(f"{draft.place}: no table has a column {key!r}{near(key, known)}")
    keyed = [sheet for sheet in sheets if sheet.key]
    largest = max((sheet.patient_ids.drop_nulls().unique() for sheet in keyed), key=len)
    for sheet in (sheet for sheet in sheets if not sheet.key):
        if own := keys.contained(sheet, largest):
            sheet.key = own
            ask = f"is {own} the patient's id? its values are ids in other tables"
            draft.notes.append(f"ASK: patient.key: {sheet.name}: {ask}")
        elif not _by_join(sheet, keyed):
            way = _way_to_join(sheet, keyed)
            draft.left_out.append(f"{sheet.name}: no column could be the patient's id{way}")
    return [sheet for sheet in sheets if sheet.key]


def _choose(draft: Draft, sheets: list[Sheet]) -> None:
    """Set the `key` of the tables that have the patient's id under the name that was found."""
    names = {sheet.name: {plain(c): c for c in reversed(sheet.raw.columns)} for sheet in sheets}
    best = max(KEYS, key=lambda key: sum(key in known for known in names.values()))
    for sheet in sheets:
        known = [names[sheet.name][key] for key in (best, *KEYS) if key in names[sheet.name]]
        sheet.key = next((c for c in known if sheet.raw[c].n_unique() > 1), "")
    keyed = [sheet for sheet in sheets if sheet.key]
    likely = keys.candidates(sheets)
    if keyed:
        persons = [one for one in likely if one.word == 3 and plain(one.name) not in KEYS]
        likely = [one for one in persons if len(one.columns) > len(keyed) or _only_numbers_rows(keyed, one)]
    if not likely:
        return
    chosen, others = likely[0], [one.name for one in likely[1:]] + [sheet.key for sheet in keyed]
    others = [name for name in dict.fromkeys(others) if plain(name) != plain(chosen.name)]
    ask = f"ASK: patient.key: is {chosen.name} the patient's id? {chosen.why}"
    if others:
        ask += f"; the next best is {others[0]}: gnnpatient init DATA --key {others[0]}"
    draft.notes.append(ask)
    for sheet in sheets:
        sheet.key = chosen.columns.get(sheet.name, "")


def _only_numbers_rows(keyed: list[Sheet], other: keys.Candidate) -> bool:
    """Whether a known name only numbers the rows of tables in which a person's id has rows in time."""
    return all(
        plain(sheet.key) in COUNTED
        and sheet.raw[sheet.key].n_unique() == len(sheet.raw)
        and sheet.name in other.columns
        and keys.in_time(sheet, other.columns[sheet.name])
        for sheet in keyed
    )


def _no_key(sheets: list[Sheet]) -> str:
    """That there is no id, and which columns might be it."""
    able: dict[str, tuple[int, float]] = {}
    for sheet in sheets:
        for c in sheet.raw.columns:
            word, part = keys.word_of(c), keys.possible(sheet, c) / len(sheet.raw)
            if part > (0 if word >= 2 else 0.5):
                able.setdefault(c, (word, part))
    best = sorted(able, key=lambda c: able[c], reverse=True)[:2]
    which, name = (f"If {' or '.join(best)} is it", best[0]) if best else ("If one is it", "NAME")
    return (
        f"no column could be the patient's id. {which}: gnnpatient init DATA --key {name}, propose(tables, "
        f'key="{name}"), or key = "{name}" below [patient] in a spec by hand.'
    )


def _links(sheet: Sheet, keyed: list[Sheet]) -> Iterator[tuple[Sheet, str, str]]:
    """Tables with the patient in which a column of ids of a table without one stands, too."""
    for other in keyed:
        known = {plain(c): c for c in other.raw.columns if c != other.key}
        for column in sheet.raw.columns:
            there = known.get(plain(column))
            if there and other.key not in sheet.raw.columns and keys.of_other_rows(other, there):
                mine = ids(sheet.raw[column]).drop_nulls()
                if mine.n_unique() > MAX_LEVELS and share(mine.is_in(ids(other.raw[there]).implode())) >= 0.5:
                    yield other, column, there


def _by_join(sheet: Sheet, keyed: list[Sheet]) -> bool:
    """Give a table the patient of its stays, by a join with a table that has each stay once."""
    for other, column, there in _links(sheet, keyed):
        stay = ids(other.raw[there])
        if stay.null_count() or stay.n_unique() < len(stay):
            continue
        right = pl.DataFrame({PATIENT: stay, other.key: other.raw[other.key]})
        left = pl.DataFrame({PATIENT: ids(sheet.raw[column])})
        who = left.join(right, on=PATIENT, how="left", maintain_order="left")[other.key]
        sheet.raw, sheet.cells = sheet.raw.with_columns(who), sheet.cells.with_columns(who.cast(pl.String))
        sheet.kind[other.key], sheet.key = "text", other.key
        by = column if column == there else {column: there}
        sheet.block.keys["join"] = {"table": other.name, "by": by, "columns": [other.key]}
        note = f"has no {other.key}; that of its {column} comes from {other.name}"
        sheet.block.notes.append(f"{sheet.name}: {note}")
        return True
    return False


def _way_to_join(sheet: Sheet, keyed: list[Sheet]) -> str:
    """How a table without the patient may get it, where another has its stays several times."""
    for other, column, _ in _links(sheet, keyed):
        join = f'join = {{ table = "FILE", by = "{column}", columns = ["{other.key}"] }}'
        way = f"a FILE with each {column} once gives it by {join}"
        return f"; {other.name} has its {column}, but several times: {way}"
    return ""


def _numbered(name: str) -> str:
    """How the rows of a table get numbers as ids."""
    end = next((end for end in (*CSV, ".parquet") if name.endswith(end)), "")
    if not end:
        return 'If a row is a patient: frame.with_row_index("patient_id") numbers them (pandas: reset_index)'
    read = "read_parquet" if end == ".parquet" else "read_csv"
    new = f"{name.removesuffix(end)}{NUMBERED}.csv"
    return f'If a row is a patient: polars.{read}("{name}").with_row_index("patient_id").write_csv("{new}")'


def same_patients(draft: Draft, sheets: list[Sheet]) -> list[Sheet]:
    """The tables about the same patients as the largest table that describes persons.

    Parameters
    ----------
    draft : Draft
        The draft that is filled with the tables that are left out.
    sheets : list of Sheet
        The tables with a patient column.

    Returns
    -------
    list of Sheet
    """
    anchor = max(sheets, key=lambda sheet: (sheet.standalone, sum(sheet.raw.count().row(0))))
    others = [sheet for sheet in sheets if sheet is not anchor]
    why = {sheet.name: _reason_for_other_patients(anchor, sheet) for sheet in others}
    if any(why[sheet.name] for sheet in others if sheet.standalone):
        draft.notes.append(
            "ASK: patient.table: several cohorts are here: they do not share patients, or describe the same "
            f"ones twice. {anchor.name} has the most cells and was taken; which do you want?"
        )
        for sheet in others:  # ids that only count mean nothing then
            if _ids_only_count(sheet) and not sheet.patient_ids.is_in(anchor.patient_ids.implode()).all():
                why[sheet.name] = why[sheet.name] or "its ids only count, and not all are known"
    draft.left_out += [f"{name}: not taken with {anchor.name}: {of}" for name, of in why.items() if of]
    return [sheet for sheet in sheets if not why.get(sheet.name)]


def _ids_only_count(sheet: Sheet) -> bool:
    return bool(sheet.patient_ids.drop_nulls().str.contains(r"^\d{1,6}$").all())


def _reason_for_other_patients(anchor: Sheet, sheet: Sheet) -> str:
    """Why the ids of a table are not those of the anchor; "" where they may be."""
    here, there = set(sheet.patient_ids.drop_nulls()), set(anchor.patient_ids.drop_nulls())
    if len(here & there) < 0.5 * min(len(here), len(there)):
        return f"{len(here & there)} of its {len(here)} ids are there"
    theirs = {plain(c): c for c in anchor.person_columns}
    joined = sheet.first_values.join(anchor.first_values, on=PATIENT, suffix="\0")
    for name in sheet.person_columns:
        if (other := theirs.get(plain(name))) is None or sheet.kind[name] != anchor.kind[other]:
            continue
        one, two = joined[name], joined[f"{other}\0" if other in sheet.first_values.columns else other]
        if sheet.kind[name] == "text":  # f and female
            same = one.str.to_lowercase().str.slice(0, 1) == two.str.to_lowercase().str.slice(0, 1)
        else:
            same = (one - two).abs() <= 0.01 * two.abs()
        if same.drop_nulls().len() and share(same) < 0.9:
            return f"{name} agrees for {share(same):.0%} of the ids in both: other people"
        if anchor.has_outcome and sheet.has_outcome:
            return f"{name} agrees: the same people a second time, with an outcome of its own"
        return ""
    if (
        anchor.standalone
        and sheet.standalone
        and here != there
        and _ids_only_count(anchor)
        and _ids_only_count(sheet)
    ):
        return "its ids only count, and nothing shows that these are the same people"
    return ""


def patient_table(draft: Draft, sheets: list[Sheet], stays: Sheet | None = None) -> Sheet:
    """The table with nearly all ids, if possible with one row for each patient.

    Parameters
    ----------
    draft : Draft
        The draft that is filled.
    sheets : list of Sheet
        The tables about the same patients.
    stays : Sheet, optional
        The table of stays, which are the patients.

    Returns
    -------
    Sheet
    """
    most = max(sheet.patient_ids.n_unique() for sheet in sheets)

    def rank(sheet: Sheet) -> tuple[bool, bool, bool, bool, int]:
        return (
            sheet.patient_ids.n_unique() >= 0.95 * most,
            sheet.has_outcome and bool(sheet.person_columns) and sheet.layout is None,
            sheet.one_row_each,
            bool(sheet.person_columns),
            len(sheet.raw.columns),
        )

    people = stays or max(sheets, key=rank)
    known, notes = people.patient_ids.drop_nulls().unique(), draft.patient.notes
    rows = "a row" if people.one_row_each else "several rows"
    notes.append(f"{people.name}: {len(known)} patients by {people.key}, {rows} each")
    draft.patient.keys = {"table": people.name, "key": people.key}
    for sheet in sheets:
        if sheet is not people:
            part = share(sheet.patient_ids.drop_nulls().unique().is_in(known.implode()))
            notes.append(f"{sheet.name}: {part:.0%} of its {sheet.key} are patients there")
        if sheet.key != people.key:
            sheet.block.keys["key"] = sheet.key
    return people


def origin(draft: Draft, people: Sheet, sheets: list[Sheet]) -> str | None:
    """The column with the date of day 0, which no patient lacks; else the first date of rows in time.

    Parameters
    ----------
    draft : Draft
        The draft that is filled.
    people : Sheet
        The patient table.
    sheets : list of Sheet
        The tables in which rows may have dates.

    Returns
    -------
    str or None
        None where there is no such date: times are offsets.
    """
    dates = [c for c in people.raw.columns if people.kind[c] == "date" and c in people.constant_columns]
    dates = [
        c for c in dates if not people.first_values[c].null_count() and not re.search("birth|dob", plain(c))
    ]
    # a day that ends something is not the one from which on it is followed
    dates = [
        c for c in dates if BEGINS.search(plain(c)) or not (SEEN.search(plain(c)) or FUTURE.search(plain(c)))
    ]
    if not dates:
        return _first_row(draft, people, sheets)
    best = min(dates, key=lambda c: (not BEGINS.search(plain(c)), people.first_values[c].median(), c))
    draft.patient.notes.append(
        f"ASK: patient.origin: is {best} day 0? dates without a gap: {', '.join(dates)}"
    )
    people.clock(best)
    draft.patient.keys["origin"] = best
    return best


def _first_row(draft: Draft, people: Sheet, sheets: list[Sheet]) -> str | None:
    """Day 0 as the first date of a patient in a table of rows in time, that which most patients are in."""
    found = []
    for sheet in sheets:
        time = moments(sheet)[0]
        if time and sheet.kind[time] == "date":
            given = sheet.patient_ids.filter(sheet.cells[time].is_not_null())
            known = given.drop_nulls().unique().is_in(people.patient_ids.implode()).sum()
            found.append((known, sheet is people, sheet, time))
    if not found:
        return None
    known, _, sheet, time = max(found, key=lambda one: one[:2])
    sheet.clock(time)
    draft.patient.keys["origin"] = {"table": sheet.name, "column": time, "pick": "first"}
    note = f"is the first {time} of a patient in {sheet.name} day 0?"
    if lost := people.patient_ids.n_unique() - known:
        note += f" {lost} patients have none and are left out"
    draft.patient.notes.append(f"ASK: patient.origin: {note}")
    return time
