"""Who the patients are: the column with their ids, the tables about them, their day 0."""

from __future__ import annotations

import re

import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.ingest.cells import ids
from gnnpatient.propose.moments import moments
from gnnpatient.propose.names import BEGINS, CLOCK, FUTURE, KEY, KEYS, NUMBERED, PATIENT, SEEN
from gnnpatient.propose.parts import Draft, plain
from gnnpatient.propose.sheets import Sheet, share
from gnnpatient.readers.csv_file import CSV


def with_patient_column(draft: Draft, sheets: list[Sheet]) -> list[Sheet]:
    """The tables with a column that holds the patient's id: the known name that most tables have.

    Parameters
    ----------
    draft : Draft
        The draft that is filled with the tables that are left out.
    sheets : list of Sheet
        All tables; `key` of each is set.

    Returns
    -------
    list of Sheet

    Raises
    ------
    InputError
        When no table has such a column.
    """
    names = {sheet.name: {plain(c): c for c in reversed(sheet.raw.columns)} for sheet in sheets}
    called = [c for c in dict.fromkeys(c for known in names.values() for c in known) if KEY.match(c)]
    known_names = [*KEYS, *called]
    best = max(known_names, key=lambda key: sum(key in known for known in names.values()))
    guess = ""
    if not any(key in known for key in known_names for known in names.values()):
        guess = best = _shared_key(sheets, names) if len(sheets) > 1 else ""
    for sheet in sheets:
        known = [names[sheet.name][key] for key in (best, *known_names) if key in names[sheet.name]]
        sheet.key = next((c for c in known if sheet.raw[c].n_unique() > 1), "")
        if not sheet.key and len(sheets) == 1:
            sheet.key = guess = _only_key(sheet)
    if guess:
        shown = next(sheet.key for sheet in sheets if sheet.key)
        what = "begins each row, and other columns go by it"
        if len(sheets) > 1:
            what = "is in several tables, and in one a row each"
        elif sheets[0].one_row_each:
            what = "differs in every row"
        draft.notes.append(f"ASK: patient.key: {shown} {what}; is it the patient?")
    for sheet in sheets:
        if not sheet.key:
            draft.left_out.append(f"{sheet.name}: no column could be the patient's id")
    if not any(sheet.key for sheet in sheets):
        way = _numbered(sheets[0].name)
        raise InputError(f"{draft.place}: no column could be the patient's id; call one patient_id. {way}")
    return [sheet for sheet in sheets if sheet.key]


def _shared_key(sheets: list[Sheet], names: dict[str, dict[str, str]]) -> str:
    """A name of a column that is the patient by what it holds: unique in one table, known in others."""
    found = []
    for one in sheets:
        for key, column in names[one.name].items():
            if one.kind[column] != "text" and not one.is_integer(column):
                continue
            if one.raw[column].null_count() or one.raw[column].n_unique() < len(one.raw):
                continue
            these = ids(one.raw[column]).implode()
            others = [of.raw[names[of.name][key]] for of in sheets if of is not one and key in names[of.name]]
            n = sum(share(ids(cells).drop_nulls().is_in(these)) >= 0.9 for cells in others)
            found.append((n, len(one.raw), key))
    n, _, key = max(found, default=(0, 0, ""))
    return key if n else ""


def _only_key(sheet: Sheet) -> str:
    """The column of the only table that could be the patient: it differs in every row, or others go by it."""
    columns = sheet.raw.columns
    likely = [c for c in columns if sheet.raw[c].n_unique() == len(sheet.raw)]
    if named := [c for c in likely if sheet.kind[c] == "text" or sheet.names_rows(c)]:
        return named[0]
    first = columns[0]
    if sheet.raw[first].null_count() or CLOCK.search(plain(first)) or len(columns) < 3:
        return ""
    if sheet.kind[first] != "text" and not sheet.is_integer(first):
        return ""
    distinct = sheet.raw[first].n_unique()
    if first in likely:
        return first
    others = [c for c in columns[1:] if sheet.n_distinct(c) > 2]
    by_first = sheet.cells.group_by(sheet.raw[first].alias(PATIENT)).agg(pl.col(others).n_unique() <= 1)
    goes_by_it = any(by_first.select(pl.col(others).all()).row(0)) if others else False
    return first if distinct >= 20 and distinct < 0.8 * len(sheet.raw) and goes_by_it else ""


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
