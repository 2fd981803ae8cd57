"""The draft of a folder: its parts are found one after the other, then written as TOML."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gnnpatient.errors import InputError
from gnnpatient.ingest.cells import ids
from gnnpatient.propose import inputs, outcomes, patients
from gnnpatient.propose.dictionaries import add_names
from gnnpatient.propose.formats import of_format, standard
from gnnpatient.propose.layouts import RowsOfOutcome, layout_of
from gnnpatient.propose.names import CLOCK, MAX_ROWS, OUTCOME_PART
from gnnpatient.propose.parts import Block, Draft, bare, plain, quoted
from gnnpatient.propose.sheets import Sheet, from_frame, read, share, table_name
from gnnpatient.propose.sheets import tables as sheets_in
from gnnpatient.propose.stays import stays_of
from gnnpatient.readers.frames import Frames, tables_of


def propose(tables: str | Path | Mapping[str, Any], *, key: str | None = None) -> str:
    """Draft a spec for a cohort's tables.

    Of a table the first 200 000 rows are read. The same tables give the same text.

    Parameters
    ----------
    tables : str, Path or mapping of str to frame
        The folder with the tables, or with the files of MEDS, OMOP or FHIR; or pandas or polars frames by the
        names that the spec is to have for them.
    key : str, optional
        The column with the patient's id, in the tables that have it. Default: it is looked for.

    Returns
    -------
    str
        A TOML that `read_spec` takes as a file, or as ``tomllib.loads(text)``. Reasons stand as comments;
        what only the owner of the data can answer begins with ``# ASK:``.

    Raises
    ------
    InputError
        When there is no such folder, no readable table in it, or no column that could be a patient's id, or
        that is called `key`.
    """
    place = tables_of(tables)
    draft = Draft(place)
    if isinstance(place, Frames):
        _of_names(
            draft, sorted(place.frames), lambda name: from_frame(place, name), "give frames with rows", key
        )
    elif not place.is_dir():
        raise InputError(f"{place}: no such folder; name the one with the tables")
    elif data_format := standard(place):
        if key is not None:
            raise InputError(f"{place}: {data_format.upper()} says what the patient's id is; leave out key")
        of_format(draft, data_format)
    else:
        out = _way_out(place)
        _of_names(draft, sheets_in(place), lambda name: read(place, name, draft.readme), out, key)
    return _text(draft)


def _way_out(folder: Path) -> str:
    """What to do where a folder holds no table."""
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    for path in inner:
        if data_format := standard(path):
            return f"{path.name}/ in it is {data_format.upper()}: name that folder"
    return (
        "put .csv, .tsv or .parquet there; of images, archives and XML make a table first, a row a file "
        "(docs/how-to/images-and-reports.md)"
    )


def _of_names(
    draft: Draft, names: list[str], read_one: Callable[[str], Sheet], way_out: str, key: str | None
) -> None:
    """Draft tables that are in no standard format, by their names."""
    sheets: list[Sheet] = []
    for name in names:
        try:
            sheets.append(read_one(name))
        except InputError as error:
            draft.left_out.append(str(error))
    if not any(len(sheet.raw) for sheet in sheets):
        why = f" ({draft.left_out[0]})" if draft.left_out else ""
        raise InputError(f"{draft.place}: no table that can be read{why}; {way_out}")
    of_sheets(draft, sheets, key)


def of_sheets(draft: Draft, sheets: list[Sheet], key: str | None = None) -> None:
    """Draft tables that are in no standard format.

    Parameters
    ----------
    draft : Draft
        The draft that is filled.
    sheets : list of Sheet
        The tables, of which at least one has a row.
    key : str, optional
        The column with the patient's id. Default: it is looked for.

    Raises
    ------
    InputError
        When no table has a column that could be a patient's id, or that is called `key`.
    """
    sheets = [sheet for sheet in sheets if len(sheet.raw)]
    for sheet in sheets:
        sheet.others = frozenset(table_name(other.name) for other in sheets) - {table_name(sheet.name)}
    stays = stays_of(sheets)
    if stays and key is not None and plain(key) != plain(stays.key):
        stays = None
    draft.of_stays = stays is not None
    every = sheets
    sheets = stays.take(draft, sheets) if stays else patients.with_patient_column(draft, sheets, key)
    kept = {sheet.name for sheet in sheets}
    add_names(sheets, [sheet for sheet in every if sheet.name not in kept])
    found = {sheet.name: outcomes.pairs_of(sheet) for sheet in sheets}
    for sheet in sheets:
        if not found[sheet.name] and not any(found.values()):
            sheet.layout = layout_of(sheet)
        sheet.has_outcome = bool(found[sheet.name] or sheet.layout)
    sheets = patients.same_patients(draft, sheets)
    draft.tables = {sheet.name: sheet.block for sheet in sheets}
    people = patients.patient_table(draft, sheets, stays.sheet if stays else None)
    offsets = any(found.values())  # after a day 0 that no other date is
    origin = patients.origin(draft, people, [] if offsets else sheets)
    if not offsets:
        found[people.name] = outcomes.dated(people, origin)
    known = [pair for sheet in sheets for pair in found[sheet.name]]
    pairs = outcomes.usable_pairs(draft, known, people, origin)
    rows = [sheet.layout for sheet in sheets if isinstance(sheet.layout, RowsOfOutcome)]
    labels = [] if pairs or rows else outcomes.labels_of(sheets)
    for pair in pairs:
        outcomes.survival(draft, pair, pairs)
    for layout in rows:
        layout.write(draft)
    for sheet, column in labels:
        outcomes.diagnosis(draft, sheet, column)
    told = bool(pairs or rows or labels)
    forbidden = {
        sheet.name: outcomes.forbidden(sheet, pairs, labels, known, recognised=told) for sheet in sheets
    }
    if stays:
        forbidden[stays.sheet.name] |= stays.ends()
    for sheet in sheets:
        outcomes.ask_for(draft, sheet, forbidden[sheet.name])
        barred = {c for c, why in forbidden[sheet.name].items() if why != OUTCOME_PART}
        sheet.barred = frozenset(barred | {c for c, kind in sheet.kind.items() if kind in ("text", "mixed")})
    numbers = [
        c for c in people.raw.columns if people.kind[c] == "number" and c not in forbidden[people.name]
    ]
    groups = inputs.alike(people, numbers) if people.one_row_each else []
    inputs.statics(draft, people, forbidden[people.name], origin, groups)
    if stays:
        stays.write(draft)
    gaps = [gap for s in sheets for gap in inputs.nodes(draft, s, people, forbidden[s.name], origin)]
    joined = {sheet.block.keys["join"]["table"] for sheet in sheets if "join" in sheet.block.keys}
    without_key = tuple(f"{name}: {why}" for name in joined - kept for why in ("has no ", "no column"))
    draft.left_out = [line for line in draft.left_out if not line.startswith(without_key)]
    if groups or (not draft.nodes and people.one_row_each):
        inputs.analytes(draft, people, groups)
    outcomes.ends(draft, sheets, pairs)
    if not draft.outcomes:
        outcomes.onset(draft, sheets)
    outcomes.onset_of_codes(draft, sheets, pairs)
    for sheet in sheets:
        sheet.clock_of_all()
    _ask_for_tables(draft, every)
    _say_what_graph(draft, people)
    gap = float(np.median(gaps)) if gaps else 1.0  # days between two moments of a patient
    draft.every = "1h" if gap < 0.2 else "1d" if gap <= 45 else "30d"
    for sheet in sheets:
        if len(sheet.raw) == MAX_ROWS:
            note = f"{sheet.name}: the first {MAX_ROWS} rows were looked at; later ones may differ"
            sheet.block.notes.append(note)


def _ask_for_tables(draft: Draft, sheets: list[Sheet]) -> None:
    """Ask for each table that is left out as a whole, since its values may be the inputs."""
    for sheet in sheets:
        why = next((of for of in draft.left_out if of.startswith(f"{sheet.name}: no column could be")), "")
        way = _shared_with(sheet, sheets) if why else ""
        if way or (why and len(sheet.raw) >= 20):  # a few rows are of no patients
            draft.questions.append(f"tables: {why}; {way or 'it is left out'}")
        if sheet.name in draft.lost:
            draft.questions.append(f"tables: {sheet.name} is left out: {draft.lost[sheet.name]}")


def _shared_with(sheet: Sheet, sheets: list[Sheet]) -> str:
    """How the rows of a table without a patient may find theirs; "" where nothing shows it."""
    for other in (other for other in sheets if other.key):
        for column in (c for c in other.raw.columns if c in sheet.raw.columns and c != other.key):
            named = other.kind[column] == sheet.kind[column] == "text" or (
                other.is_integer(column) and sheet.is_integer(column) and not CLOCK.search(plain(column))
            )
            if named and sheet.n_distinct(column) >= 10:
                these = ids(other.raw[column]).implode()
                if share(ids(sheet.raw[column]).drop_nulls().is_in(these)) >= 0.9:
                    if sheet.raw[column].n_unique() == len(sheet.raw):
                        return (
                            f"it shares {column} with {other.name}, to which join = ... may add its columns"
                        )
                    return (
                        f"it shares {column} with {other.name}: add {other.key} to its rows, or, where that "
                        f'is a stay, make it the patient: key = "{column}", group = "{other.key}"'
                    )
    return ""


def _say_what_graph(draft: Draft, people: Sheet) -> None:
    """Say at the top where there is nothing to follow in time."""
    if any(block.keys.get("time") for block in draft.nodes.values()):
        return
    what = "one row a patient" if people.one_row_each else "nothing is measured in time"
    what = f"{what}, all values are of day 0" if draft.nodes else f"this cohort has no graph: {what}"
    draft.notes.append(f"NOTE: {what}; the linear model answers")


def _text(draft: Draft) -> str:
    name = "" if isinstance(draft.place, Frames) else draft.place.resolve().name
    lines = ["# A draft by gnnpatient init. Read every line; those that begin with ASK are yours to answer."]
    lines += [f"# {line}" for line in draft.notes]
    lines += [
        "# ASK: source: where do the tables come from, under which licence? write it as the line "
        'source = "..." above cohort'
    ]
    lines += [
        f"cohort = {_toml(name or 'cohort')}",
        *([f"format = {_toml(draft.data_format)}"] if draft.data_format else []),
        "",
    ]
    for table, block in draft.tables.items():
        lines += _lines(f"[tables.{bare(table)}]", block)
    lines += ["", *_lines("[patient]", draft.patient)]
    lines += _lines("[timepoints]", Block([], {"every": draft.every}))
    lines += ["[units]"] if draft.units else []
    for code, (why, keys) in draft.units.items():
        lines += [f"# {why}", *([f"{bare(code)} = {_toml(keys)}"] if keys else [])]
    lines += [""] if draft.units else []
    for place, blocks in (("nodes", draft.nodes), ("outcomes", draft.outcomes)):
        for name, block in blocks.items():
            lines += _lines(f"[{place}.{name}]", block)
    if not draft.outcomes:
        lines.append(
            "# ASK: outcomes: none was recognised; what is to be predicted? add [outcomes.NAME], as "
            "docs/how-to/layouts.md shows"
        )
    lines += [f"# ASK: {question}" for question in draft.questions]
    lines += (
        ["", "# Left out", *(f"# {line}" for line in dict.fromkeys(draft.left_out))] if draft.left_out else []
    )
    shown = ("".join(c if c.isprintable() else " " for c in line) for line in lines)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(shown)).strip() + "\n"


def _lines(head: str, block: Block) -> list[str]:
    keys = [f"{bare(k)} = {_toml(v)}" for k, v in block.keys.items() if v not in ("", [], {})]
    return [f"# {line}" for line in block.notes] + ([head, *keys, ""] if keys else [])


def _toml(value: Any) -> str:
    """A string, a number, a list or an inline table as TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{bare(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return quoted(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
