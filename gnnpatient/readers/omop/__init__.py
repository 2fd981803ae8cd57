"""OMOP CDM 5.4: a folder with a parquet or CSV file a table, codes named by their concepts."""

from __future__ import annotations

from pathlib import Path

from gnnpatient.readers.omop.concepts import concept_names, parent_codes, parent_links
from gnnpatient.readers.omop.files import Tables, open_tables, polars_errors
from gnnpatient.readers.omop.people import deaths, last_moments, observation_periods, observed_span, persons
from gnnpatient.readers.omop.rows import event_rows, notices
from gnnpatient.readers.omop.stays import begin_times, filler_flags, inpatient_stays
from gnnpatient.readers.standard import StandardTables, latest_ordinary


def read(folder: Path) -> StandardTables:
    """The clinical tables of a folder, by the CDM's own names; those without a file are not there.

    A file is <table>.parquet, .csv or .csv.gz, in upper or lower case; CSV is separated by commas or tabs
    and kept in memory as text. Column names are lower case; every column of the source stays beside ours.

    code: "PREFIX//<concept_id> <concept_name>", without the name where no concept table gives it; with
        concept 0 or none "PREFIX//<source value>"; without either the row is `refused`. A death is "DEATH".
        A note is named by its class, else its type, else its title. A row with no number but a value
        concept has "//<name or id of that concept>" at the end of its code.
    time: the datetime, else the date; exactly 00:00:00 is a bare date. `until`: likewise, of visits,
        conditions, drugs and devices.
    known: of conditions only. A code of an inpatient stay (`layout.STAYS`) is known at the end of that
    visit,
        never before its own time; any other is known at its time. A code without a visit of that person
        (none is named, or one that is not there) belongs to the inpatient stay of the person that its day
        lies in, of several the one that ends last; a stay without an end reaches to the next one. Flags
        count those, and those that lie in none: they are known at their time. All other tables are known at
        their time.
    value: value_as_number, or the quantity of a drug. A number that was reported as < or > is kept as it
    is,
        and counted in the flags. unit: the name of the unit's concept, else its source value, else its id.
    text: of a note; of a value that is neither number nor concept; of a death its cause.
    refused: "no patient id", "time is not a date", "end is not a date", "no concept and no source value",
        "inpatient visit without an end" (of a condition: nothing says when its code was known).

    People, by person_id: `birth` (birth_datetime, else year, month and day as a bare date, a missing month
    being 1 July and a missing day the 15th); `gender`, `race`, `ethnicity`: the name of the concept, else
    the source value, else the id; `death`, if there is a death table; `observation_start`,
    `observation_end` over all observation periods; `last`, when the last event of any table that is not
    refused has passed (a bare date counts at the end of its day). Events of persons who are not in the
    person table stay in the tables.

    Parents, if there is a concept_ancestor: steps of one level, from the codes that occur upwards, in the
    prefix of the child; a code with a value concept lies below the same code without.

    Parameters
    ----------
    folder : Path
        The folder with a file a table.

    Returns
    -------
    StandardTables
        People, the clinical tables, parents of codes and periods of observation.

    Raises
    ------
    InputError
        If there is no person table, or there are two files for one table; if a file cannot be read; if a
        column is missing or has a reserved name; if a person has no id, two rows that differ, or two
        deaths.
    """
    tables = open_tables(folder)
    with polars_errors(folder):
        return _standard_tables(folder, tables)


def _standard_tables(folder: Path, tables: Tables) -> StandardTables:
    """People and events of the tables of a folder."""
    events = tables.events
    links = parent_links(events, tables.ancestors)
    names = concept_names([tables.person, *events.values()], tables.concepts, links)
    limit = latest_ordinary(begin_times(events))
    decides = filler_flags(events, tables.periods, limit)
    stays, stay_flags = inpatient_stays(events, limit)
    rows = {name: event_rows(name, table, names, stays, limit) for name, table in events.items()}
    people, birth_flags = persons(tables.person, names)
    periods = observation_periods(tables.periods, events, limit)
    for part in (deaths(rows, folder), observed_span(periods), last_moments(rows)):
        if part is not None:
            people = people.join(part, on="id", how="left")
    flags = (*tables.flags, *birth_flags, *notices(events, rows))
    parents = None if links is None else parent_codes(links, events, rows, names)
    return StandardTables(
        people.sort("id"), rows, flags, parents, periods=periods, decides=(*decides, *stay_flags)
    )
