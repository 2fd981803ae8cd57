"""FHIR R4: a folder of bundles, single resources and bulk exports as people and tables of events.

One row for each thing that can become a node: an Observation gives one for its own value and one for each
component, an ImagingStudy one for each modality and body site, any other resource one. Of a Patient the words
in `patients.FIELDS` leave this file and nothing else: no name, address, telecom, identifier or image.

Beside the columns of every format a table has `category` (of an Encounter its `class`), `encounter` and
`resource` (ids without their type). The status that a resource had when it was exported is no column: it says
what became of an order or a diagnosis later. It only refuses.

A table also has, if any row says it, `intent`, `verification` and `focus` (the type of what a statement is
about where that is not the patient). What is no fact about the patient is refused: a proposal, plan, option;
a provisional or differential diagnosis; a focus on somebody else, a fetus or a donor (not one on a body
structure or a device). But it is used where `where` names that column, as in
verification = ["confirmed", "provisional"].
"""

from __future__ import annotations

from pathlib import Path

from gnnpatient.errors import InputError
from gnnpatient.readers.fhir.documents import json_suffix
from gnnpatient.readers.fhir.reader import Resources
from gnnpatient.readers.fhir.tables import standard_tables
from gnnpatient.readers.standard import StandardTables


def read(folder: Path) -> StandardTables:
    """All *.json (a Bundle or one resource), *.ndjson and *.jsonl (a resource a line) or .gz of these.

    Times are UTC. A year or a month stands for its last day, so that nothing is known too early. A
    Condition of an inpatient encounter (by its reference, else by its day) is known at the end of that
    stay, unless recordedDate says when it was recorded. A value that is a code goes into the row's code,
    other text into `text`; both leave the value missing. With a comparator there are both value and text,
    as in <5. Two copies of a Patient: refused where birth or gender differ. Else the newest by
    meta.lastUpdated counts; without it they must agree in what both say. Of two versions of any other
    resource the newest counts likewise; where nothing tells which is newer, all their rows are refused.
    Every table is there, if need be without rows; `Patient` has the deaths, as code DEATH, without a time
    where only `deceasedBoolean` says so; `Resource` only lines that no other table can have.

    Parameters
    ----------
    folder : Path
        The folder; folders inside it are read, too, hidden ones are not.

    Returns
    -------
    StandardTables
        People, and a table a type of resource.

    Raises
    ------
    InputError
        If there is nothing to read; if a file is cut, damaged, no JSON, no FHIR, nested too deep or over 2
        GB; if copies of a Patient contradict each other.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    files = sorted(
        path
        for path in folder.rglob("*")
        if json_suffix(path)
        and path.is_file()
        and not any(p[0] == "." for p in path.relative_to(folder).parts)
    )
    if not files:
        raise InputError(f"{folder}: no FHIR in it; it takes *.json or *.ndjson files, also as .gz")
    resources = Resources()
    for path in files:
        resources.read_file(path, path.relative_to(folder).as_posix())
    return standard_tables(resources)
