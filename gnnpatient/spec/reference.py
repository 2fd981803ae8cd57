"""The grammar of a spec for readers and for editors: docs/spec.md and spec.schema.json, made from the code.

python -m gnnpatient.spec.reference docs/
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from gnnpatient.files import atomic_file
from gnnpatient.spec.examples import EXAMPLES
from gnnpatient.spec.graph import GraphSpec
from gnnpatient.spec.nodes import (
    NODE_KEYS,
    Ancestors,
    BaseNodeSpec,
    Images,
    LinkSpec,
    LongTable,
    Measurements,
    TableNodeSpec,
    Texts,
    WideTable,
)
from gnnpatient.spec.outcomes import (
    CauseSpec,
    DiagnosisSpec,
    ProgressionSpec,
    StatusSpec,
    SurvivalSpec,
    WorseSpec,
)
from gnnpatient.spec.tables import (
    BirthSpec,
    Conversion,
    HierarchySpec,
    JoinSpec,
    PatientSpec,
    PickSpec,
    Record,
    TableSpec,
    TimepointSpec,
    TimeSpec,
    UnitSpec,
)

PLACES: dict[str, type[Record]] = {
    "top level": GraphSpec,
    '[tables."FILE"]': TableSpec,
    '[tables."FILE"] time = { ... }': TimeSpec,
    '[tables."FILE"] join = { ... }': JoinSpec,
    "[patient]": PatientSpec,
    "[patient] birth = { ... }": BirthSpec,
    "[patient] origin, entry or exit = { ... }": PickSpec,
    "[timepoints]": TimepointSpec,
    "[units] CODE = { ... }": UnitSpec,
    "[units] CODE = { from = { UNIT = ... } }": Conversion,
    "[hierarchies.NAME]": HierarchySpec,
    "[nodes.NAME] read from a table": TableNodeSpec,
    "[nodes.NAME] long table": LongTable,
    "[nodes.NAME] wide table: columns": WideTable,
    "[nodes.NAME] images: file": Images,
    "[nodes.NAME] texts: text": Texts,
    "[nodes.NAME] ancestors: of": Ancestors,
    "[nodes.NAME] measurements: measures": Measurements,
    "edges = [{ ... }]": LinkSpec,
    '[outcomes.NAME] kind = "survival"': SurvivalSpec,
    "causes = { CAUSE = { ... } }": CauseSpec,
    "status = { ... }": StatusSpec,
    '[outcomes.NAME] kind = "diagnosis"': DiagnosisSpec,
    '[outcomes.NAME] kind = "progression"': ProgressionSpec,
    "worse = { ... }": WorseSpec,
}
HEAD = """# The spec of a cohort

Made from the code by `make docs`; `spec.schema.json` beside it is for editors. A spec is one TOML file. The
set of keys is closed: an unknown key is an error that names the nearest known one.

Numbers in a time column are days after the origin, text is ISO 8601; a date without a clock time is known at
the end of that day. Ids are read as strings. Every table holds the patient's id under the name of
`[patient] key`, else `[tables."FILE"] key` says which. A table is a `.csv`, `.tsv` (or `.gz` of these,
under either name), a `.parquet`, a folder of `.parquet`, `FILE.sqlite/TABLE` or `FILE.duckdb/TABLE`.

With `format` the whole folder is MEDS, OMOP or FHIR: `[patient]` then needs no table (persons are the table
`people`), a node no table, time, code or value, and picks its rows by `where`.

The examples below are parts of a spec; the shipped ones (`graphs/*.toml`) are whole.
"""


def schema() -> dict[str, Any]:
    """The JSON schema of a spec.

    Returns
    -------
    dict
        JSON Schema, draft 2020-12.
    """
    found = GraphSpec.model_json_schema(by_alias=True)
    conversion, causes = (
        found["$defs"]["UnitSpec"]["properties"]["from"],
        found["$defs"]["SurvivalSpec"]["properties"]["causes"]["anyOf"][0],
    )
    conversion["additionalProperties"] = {"anyOf": [conversion["additionalProperties"], {"type": "number"}]}
    many = causes["additionalProperties"]
    causes["additionalProperties"] = {"anyOf": [many, many["items"]]}
    join = found["$defs"]["TableSpec"]["properties"]["join"]
    join["anyOf"] = [{"type": join.pop("type"), "items": join["items"]}, join.pop("items")]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def reference() -> str:
    """Every key of every table, as Markdown.

    Returns
    -------
    str
        The text of docs/spec.md.
    """
    parts = [HEAD]
    for place, record in PLACES.items():
        doc = " ".join((record.__doc__ or "").split())
        parts.append(f"## `{place}`\n\n{doc}\n\n| key | default | meaning |\n|---|---|---|")
        for name, field in own_keys(record).items():
            parts.append(
                f"| `{field.alias or name}` | {_default(field)} | {_cell(field.description or '')} |"
            )
        parts.append("")
        parts += [f"```toml\n{example.strip()}\n```\n" for example in EXAMPLES[place]]
    return "\n".join(parts)


def own_keys(record: type[Record]) -> dict[str, FieldInfo]:
    """The keys of a place; of a node type those that the table of `TableNodeSpec` does not have already.

    Parameters
    ----------
    record : type of Record
        One of `PLACES`.

    Returns
    -------
    dict of str to FieldInfo
        By the name of the attribute; the key of the TOML is its alias where there is one.
    """
    keys = record.model_fields
    if record is not TableNodeSpec and issubclass(record, TableNodeSpec):
        keys = {name: field for name, field in keys.items() if name not in TableNodeSpec.model_fields}
    if issubclass(record, BaseNodeSpec):
        keys = {name: keys[name] for name in NODE_KEYS if name in keys}
    return keys


def _default(field: Any) -> str:
    if field.is_required():
        return "needed"
    value = field.default
    if value is None or isinstance(value, Record) or value in ((), {}):
        return ""
    return f"`{_cell(json.dumps(value))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(folder: Path) -> None:
    """Write spec.md and spec.schema.json.

    Parameters
    ----------
    folder : Path
        The folder, as in ``docs``; it must exist.
    """
    for name, text in (
        ("spec.md", reference()),
        ("spec.schema.json", json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"),
    ):
        with atomic_file(folder / name) as part:
            part.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
