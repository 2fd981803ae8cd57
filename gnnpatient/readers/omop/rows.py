"""Clinical tables in the columns of every format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from gnnpatient.readers.dates import end_of_day, is_midnight
from gnnpatient.readers.omop.concepts import Names, main_concept
from gnnpatient.readers.omop.files import Table
from gnnpatient.readers.omop.layout import BOUNDS, CODED, LAYOUTS, VALUE, Layout
from gnnpatient.readers.omop.stays import Stays, without_fillers
from gnnpatient.readers.standard import BOUND
from gnnpatient.readers.tables import FRACTIONS, holds_fractions

_STARTED, _ENDED = "has a time", "has an end"


def event_rows(
    name: str, table: Table, names: Names, stays: Stays | None, limit: datetime | None
) -> pl.LazyFrame:
    """One table in the columns of every format, with those of the source beside them.

    Parameters
    ----------
    name : str
        Its name in the CDM.
    table : Table
        Its rows.
    names : Names
        Of concepts.
    stays : Stays or None
        At whose ends conditions are known; None = there are no visits.
    limit : datetime or None
        After which no end can be meant; None = there is no such.

    Returns
    -------
    polars.LazyFrame
        As a table of `StandardTables`.
    """
    columns = _Columns(name, table, names)
    columns.add_times(limit)
    if name == "condition_occurrence" and stays is not None:
        columns.add_known(stays)
    columns.add_value_and_unit()
    columns.add_code()
    columns.add_text()
    return columns.rows()


@dataclass(eq=False)
class _Columns:
    """The columns of one table as expressions, in the order in which they are added."""

    name: str
    table: Table
    names: Names
    # id and times, in a step of their own: the other columns ask for them again and again
    times: dict[str, pl.Expr] = field(default_factory=dict)
    columns: dict[str, pl.Expr] = field(default_factory=dict)
    refused: list[pl.Expr] = field(default_factory=list)  # the first that is not null counts

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.name]

    def refuse(self, where: pl.Expr, reason: str) -> None:
        self.refused.append(pl.when(where).then(pl.lit(reason)))

    def rows(self) -> pl.LazyFrame:
        source = {column: pl.col(column) for column in self.table.types}
        rows = self.table.rows.select(**self.times, **source)
        return rows.select(**self.columns, refused=pl.coalesce(self.refused), **source)

    def add_times(self, limit: datetime | None) -> None:
        start, started = self.table.moment(self.layout.start)
        self.times |= {"id": self.table.ident("person_id"), "time": start, _STARTED: started}
        time = pl.col("time")
        self.columns |= {"id": pl.col("id"), "time": time, "time_bare": is_midnight(time)}
        self.refuse(pl.col("id").is_null(), "no patient id")
        self.refuse(pl.col(_STARTED) & time.is_null(), "time is not a date")
        end = self.layout.end
        if f"{end}_date" in self.table.types or f"{end}_datetime" in self.table.types:
            self.times["until"], self.times[_ENDED] = self.table.moment(end)
            until = without_fillers(pl.col("until"), limit)
            self.columns |= {"until": until, "until_bare": is_midnight(until)}
            self.refuse(pl.col(_ENDED) & pl.col("until").is_null(), "end is not a date")

    def add_known(self, stays: Stays) -> None:
        """The code of an inpatient stay is known at its end."""
        time, (end, endless) = pl.col("time"), stays.end(self.table)
        later = end_of_day(end, is_midnight(end)) > end_of_day(time, is_midnight(time))
        known = pl.when(later).then(end).otherwise(time)
        self.columns |= {"known": known, "known_bare": is_midnight(known)}
        self.refuse(endless, "inpatient visit without an end")

    @property
    def value(self) -> pl.Expr:
        return self.table.number(self.layout.value)

    @property
    def answer(self) -> pl.Expr:
        """The concept that is the value."""
        return self.table.concept(CODED)

    def add_value_and_unit(self) -> None:
        table = self.table
        if self.layout.value in table.types:
            self.columns["value"] = self.value
        unit, word = self.layout.unit
        if unit in table.types or word in table.types:
            concept = table.concept(unit)
            parts = self.names.of(concept), table.word(word), concept.cast(pl.String)
            self.columns["unit"] = pl.coalesce(parts)

    def add_code(self) -> None:
        table, layout = self.table, self.layout
        if self.name == "death":
            code = pl.lit("DEATH")
        else:
            concept = pl.coalesce(self.names.label(main_concept(table, layout)), table.word(layout.source))
            code = pl.lit(f"{layout.prefix}//") + concept
            self.refuse(concept.is_null(), "no concept and no source value")
        if CODED in table.types:
            answered = self.value.is_null() & self.answer.is_not_null()
            label = pl.coalesce(self.names.of(self.answer), self.answer.cast(pl.String))
            code = pl.when(answered).then(code + "//" + label).otherwise(code)
        self.columns["code"] = code

    def add_text(self) -> None:
        table, layout = self.table, self.layout
        if self.name == "death":
            cause = table.concept("cause_concept_id")
            parts = self.names.of(cause), table.word("cause_source_value"), cause.cast(pl.String)
            self.columns["text"] = pl.coalesce(parts)
        texts = [column for column in layout.text if column in table.types]
        if layout.value in table.types and not table.types[layout.value].is_numeric():
            texts.insert(0, layout.value)  # a number that does not read as one is text
        if layout.text and texts:
            text = pl.coalesce([table.word(column) for column in texts])
            self.columns["text"] = pl.when(self.value.is_null() & self.answer.is_null()).then(text)
        # a bound is kept as text with its sign, too, as in <5
        if layout.value in table.types and "operator_concept_id" in table.types:
            sign = table.concept("operator_concept_id").replace_strict(
                list(BOUNDS), list(BOUNDS.values()), default=None, return_dtype=pl.String
            )
            bound = pl.concat_str(sign, self.value.cast(pl.String))  # null where either is
            self.columns["text"] = (
                pl.coalesce(bound, self.columns["text"]) if "text" in self.columns else bound
            )


def notices(events: Mapping[str, Table], tables: Mapping[str, pl.LazyFrame]) -> list[str]:
    """Flags of values in words, of bounds, of codes that lose digits, and of a missing table of visits.

    Parameters
    ----------
    events : mapping of str to Table
        The clinical tables, by name.
    tables : mapping of str to polars.LazyFrame
        The same in the columns of every format.

    Returns
    -------
    list of str
        The flags.
    """
    notices = [
        f"{table.file.name}: column {source!r} holds {kind}: {FRACTIONS}"
        for name, table in events.items()
        if (source := LAYOUTS[name].source) and (kind := table.types.get(source)) and holds_fractions(kind)
    ]
    for name in ("measurement", "observation"):
        if name in tables and "text" in (has := tables[name].collect_schema()):
            words = pl.col("text")
            in_words = words.is_not_null() & ~words.str.contains(BOUND) & pl.col("refused").is_null()
            in_words = in_words & pl.col("value").is_null() if "value" in has else in_words
            if count := tables[name].select(in_words.sum()).collect(engine="streaming").item():
                notices.append(f"{events[name].file.name}: {count} value(s) are text, no number")
    table = events.get("measurement")
    if table is not None and "operator_concept_id" in table.types:
        bound = table.concept("operator_concept_id").is_in(list(BOUNDS)) & table.number(VALUE).is_not_null()
        if count := table.rows.select(bound.sum()).collect().item():
            notices.append(f"{table.file.name}: {count} value(s) reported as < or >: kept as that number")
    if "condition_occurrence" in events and "visit_occurrence" not in events:
        notices.append(
            f"{events['condition_occurrence'].file.name}: no table visit_occurrence, so that codes of "
            "inpatient stays count as known at their start"
        )
    return notices
