"""FHIR R4: a folder of bundles, single resources and bulk exports as people and tables of events.

A row is made for each thing that can become a node: one for the value of an Observation and one for each of
its components, one for each modality and body site of an ImagingStudy, one for any other resource. Of a
Patient only what `patients.FIELDS` names is kept: no name, address, telecom, identifier or image.

Beside the columns of every format a table has `category` (for an Encounter `class`), `encounter` and
`resource` (ids without their type). The status of a resource at the time of the export is not kept, since it
tells what became of an order or a diagnosis later; it only refuses rows.

A table also has `intent`, `verification` and `focus` (the type of what a statement is about, where that is
not the patient), if any row fills them. What is not a fact about the patient is refused: a proposal, plan or
option; a provisional or differential diagnosis; a focus on somebody else, a fetus or a donor (but not on a
body structure or a device). A spec that names such a column in `where` gets these rows, as in
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

    Times are UTC. A year or a month stands for its last day, so that nothing is known too early. A Condition
    of an inpatient encounter (by its reference, else by its day) is known at the end of that stay, unless
    recordedDate says when it was recorded. A value that is a code becomes part of the row's code, other text
    goes into `text`; both leave the value missing. A value with a comparator has both value and text, as in
    <5.

    Of two copies of a Patient the one with the newest meta.lastUpdated counts; without it they must agree
    where both are filled, and birth and gender must agree in any case. Of two versions of any other resource
    the newest counts likewise; where nothing decides which is newer, all their rows are refused.

    Every table is there, if need be without rows. `Patient` has the deaths, as code DEATH, without a time
    where only `deceasedBoolean` is given; `Resource` has only lines that belong to no other table.

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
