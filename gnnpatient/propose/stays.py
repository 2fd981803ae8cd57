"""Admissions as patients: several stays of a person, each with an id that other tables have, too."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

import polars as pl

from gnnpatient.ingest.cells import ids
from gnnpatient.propose import names
from gnnpatient.propose.keys import word_of
from gnnpatient.propose.parts import Draft, plain
from gnnpatient.propose.sheets import Sheet

_LEFT = r"(?i)disch|home|left|leav|transfer.?out|entlass"  # how the words of a stay call its end alive
_BY = "\0by"  # the person of a row, beside columns of any name


@dataclass(frozen=True)
class Stays:
    """A table with a row for each stay of a person, or with a row for each moment of it.

    Attributes
    ----------
    sheet : Sheet
        The table.
    key, person : str
        Its columns with the ids of the stay and of the person.
    begin : str
        Its column with the date on which a stay begins, or with that of a moment.
    persons : Sheet or None
        A table with one row for each person.
    moment : str
        Of a table of moments its column that says what they are, as ADMIT and DISCHARGE; else "".
    """

    sheet: Sheet
    key: str
    person: str
    begin: str
    persons: Sheet | None
    moment: str = ""

    def write(self, draft: Draft) -> None:
        """Write the group, the join with the persons, and how persons would be the patients instead.

        Parameters
        ----------
        draft : Draft
            The draft, whose statics are written; columns of persons that none of them is are not joined.
        """
        keys, notes = draft.patient.keys, draft.patient.notes
        keys["group"] = self.person
        asked = f"ASK: patient.group: patients share {self.person};"
        notes[:] = [note for note in notes if not note.startswith(asked)]  # told below
        n = self.sheet.raw[self.person].n_unique()
        notes.append(
            f"ASK: patient.key: a patient here is a stay, and those of a person ({n} by {self.person}) are "
            "kept together in splits; or are persons the patients?"
        )
        table = self.persons.name if self.persons else self.sheet.name
        origin = f'{{ table = "{self.sheet.name}", column = "{self.begin}", pick = "first" }}'
        persons = f'table = "{table}", key = "{self.person}", origin = {origin}'
        notes.append(f"persons instead, day 0 = their first stay: {persons}, no group")
        if self.persons is not None:
            used = [c for c in self.persons.raw.columns if c in (*keys["number"], *keys["category"])]
            there = self._person_of(self.persons)
            by = self.person if there == self.person else {self.person: there}
            if used:
                join = {"table": self.persons.name, "by": by, "columns": used}
                draft.tables[self.sheet.name].keys["join"] = join
        if not draft.outcomes:
            self._end_of_stay(draft)

    def _end_of_stay(self, draft: Draft) -> None:
        """Write how stays end by the words of their moments.

        A death alone says not until when the others were observed.
        """
        ends = self._words_of_ends() if self.moment else {}
        if len(ends) < 2 or "death" not in ends:
            return
        causes = {name: {"time": self.begin, "where": {self.moment: words}} for name, words in ends.items()}
        keys = {"kind": "survival", "table": self.sheet.name, "causes": causes}
        shown = "; ".join(f"{name}: {', '.join(words)}" for name, words in ends.items())
        draft.outcome("leaving", f"do stays end so? {shown}", keys)

    def _words_of_ends(self) -> dict[str, list[str]]:
        words = self.sheet.states(self.moment)
        deaths = [word for word in words if re.search(names.DEATH_WORDS, word)]
        left = [word for word in words if word not in deaths and re.search(_LEFT, word)]
        return {name: of for name, of in (("death", deaths), ("discharge", left)) if of}

    def ends(self) -> dict[str, str]:
        """The column that says how stays end, which is no input then.

        Returns
        -------
        dict of str to str
            By column the reason; empty where no moments say so.
        """
        told = self.moment and len(self._words_of_ends()) > 1
        return {self.moment: "how a stay ends; of its other words make a node with where"} if told else {}

    def _person_of(self, sheet: Sheet) -> str:
        return next(c for c in sheet.raw.columns if plain(c) == plain(self.person))

    def take(self, draft: Draft, sheets: list[Sheet]) -> list[Sheet]:
        """The tables that have the id of the stay, each with it as its key.

        Parameters
        ----------
        draft : Draft
            The draft that is filled with the tables that are left out.
        sheets : list of Sheet
            All tables.

        Returns
        -------
        list of Sheet
        """
        kept = []
        for sheet in sheets:
            own = next((c for c in sheet.raw.columns if plain(c) == plain(self.key)), "")
            if own:
                sheet.key = own
                kept.append(sheet)
            elif sheet is not self.persons:
                draft.left_out.append(
                    f"{sheet.name}: has no {self.key}, so nothing says of which stay its rows are"
                )
        if self.persons is not None:
            self._join(draft, self.persons)
        return kept

    def _join(self, draft: Draft, persons: Sheet) -> None:
        """Add the columns of the persons to those of the stays, but for dates and names that are taken."""
        sheet, there = self.sheet, self._person_of(persons)
        wanted = [c for c in persons.raw.columns if c not in sheet.raw.columns and persons.kind[c] != "date"]
        if lost := [c for c in persons.raw.columns if c not in (*wanted, there)]:
            draft.leave_out(
                persons.name, dict.fromkeys(lost, "a date of the person, or a name of the stays, too")
            )
        rows = pl.DataFrame({_BY: ids(sheet.raw[self.person])})
        for frame, more in (("raw", persons.raw), ("cells", persons.cells)):
            right = more.select(wanted).with_columns(ids(persons.raw[there]).alias(_BY))
            joined = rows.join(right.unique(_BY), on=_BY, how="left", maintain_order="left").drop(_BY)
            setattr(sheet, frame, getattr(sheet, frame).hstack(joined))
        sheet.kind |= {c: persons.kind[c] for c in wanted}


def stays_of(sheets: list[Sheet]) -> Stays | None:
    """The table of stays, where persons have several, and other tables name the stay.

    Parameters
    ----------
    sheets : list of Sheet
        All tables.

    Returns
    -------
    Stays or None
        None where there is no such table, or its stays have no date to begin with and to end with.
    """
    found = []
    for sheet in sheets:
        columns = {plain(c): c for c in reversed(sheet.raw.columns)}
        person = _person(sheet)
        for key in (columns[key] for key in names.STAY_KEYS if key in columns):
            dates = [c for c in sheet.raw.columns if sheet.kind[c] == "date"]
            begin = next(
                (c for c in dates if names.ARRIVAL.search(plain(c)) and not sheet.raw[c].null_count()), None
            )
            end = next((c for c in dates if names.UNTIL.search(plain(c)) and c != begin), None)
            others = sum(
                any(plain(c) == plain(key) for c in of.raw.columns) for of in sheets if of is not sheet
            )
            if not person or not begin or not end or not others or sheet.raw[key].n_unique() < len(sheet.raw):
                continue
            if sheet.raw[person].n_unique() < 0.97 * len(sheet.raw):
                found.append((others, -names.STAY_KEYS.index(plain(key)), sheet, key, person, begin))
    moment = ""
    if found:
        *_, sheet, key, person, begin = max(found, key=lambda one: one[:2])
    elif told := next((one for one in map(partial(_moments, sheets), sheets) if one), None):
        sheet, key, person, begin, moment = told
    else:
        return None
    persons = [
        of
        for of in sheets
        if of is not sheet and not _has(of, key)
        for c in of.raw.columns
        if plain(c) == plain(person) and of.raw[c].n_unique() == len(of.raw)
    ]
    persons.sort(key=lambda of: (-sum(bool(names.PERSON.match(plain(c))) for c in of.raw.columns), of.name))
    return Stays(sheet, key, person, begin, persons[0] if persons else None, moment)


def _person(sheet: Sheet) -> str | None:
    """The column with the person's id, by its name."""
    columns = {plain(c): c for c in reversed(sheet.raw.columns)}
    known = (columns[key] for key in names.PERSON_KEYS if key in columns)
    return next(known, None) or next((c for c in sheet.raw.columns if word_of(c) == 3), None)


def _moments(sheets: list[Sheet], sheet: Sheet) -> tuple[Sheet, str, str, str, str] | None:
    """Of a table of moments of stays, which another table names alone: it, stay, person, time and words."""
    person = _person(sheet)
    dates = (c for c in sheet.raw.columns if sheet.kind[c] == "date" and not sheet.raw[c].null_count())
    begin = next(dates, "")
    if person is None or not begin:
        return None
    for key in (c for c in sheet.raw.columns if c != person and names.ID_OF_STAY.match(plain(c))):
        both = pl.DataFrame({"stay": ids(sheet.raw[key]), "who": ids(sheet.raw[person])}).unique()
        gaps = both["stay"].null_count() + both["who"].null_count()
        if gaps or both["stay"].n_unique() < len(both) or len(both) == len(sheet.raw):
            continue
        alone = [of for of in sheets if of is not sheet and _has(of, key) and not _has(of, person)]
        if alone and both["who"].n_unique() < 0.97 * len(both):
            words = (c for c in sheet.raw.columns if sheet.kind[c] == "text" and c not in (key, person))
            few = (c for c in words if 2 <= sheet.n_distinct(c) <= names.MAX_LEVELS)
            return sheet, key, person, begin, next(few, "")
    return None


def _has(sheet: Sheet, key: str) -> bool:
    return any(plain(c) == plain(key) for c in sheet.raw.columns)


def discharged(name: str) -> bool:
    """Whether a column holds the time at which somebody leaves a hospital.

    Parameters
    ----------
    name : str
        A column.

    Returns
    -------
    bool
    """
    return bool(re.search("disch|outtime|leav|releas", plain(name)))
