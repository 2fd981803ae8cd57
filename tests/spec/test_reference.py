"""docs/spec.md and the JSON schema are what the code says, and say it of every key."""

import json
import tomllib
import typing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "graphs").glob("*.toml"))


def test_the_files_are_up_to_date():
    from gnnpatient.spec.reference import reference, schema

    assert (ROOT / "docs/spec.md").read_text() == reference(), "make docs writes it anew"
    assert json.loads((ROOT / "docs/spec.schema.json").read_text()) == schema(), "make docs writes it anew"


def test_every_key_of_every_record_is_described():
    from gnnpatient.spec import graph, nodes, outcomes, tables
    from gnnpatient.spec.reference import PLACES

    names = [r for file in (tables, nodes, outcomes, graph) for r in vars(file).values()]
    records = {r for r in names if isinstance(r, type) and issubclass(r, tables.Record)}
    bases = {tables.Record, nodes.BaseNodeSpec, nodes.CodedNodeSpec, outcomes.BaseOutcomeSpec}
    assert records - bases == set(PLACES.values())
    for record in PLACES.values():
        for name, field in record.model_fields.items():
            assert field.description or typing.get_origin(field.annotation) is dict, (record.__name__, name)


def test_every_key_of_every_table_is_in_an_example_that_is_a_spec():
    from gnnpatient.spec.examples import EXAMPLES, complete
    from gnnpatient.spec.graph import GraphSpec
    from gnnpatient.spec.reference import PLACES, own_keys

    def keys(raw):
        if isinstance(raw, dict):
            yield from raw
        for inner in raw.values() if isinstance(raw, dict) else raw if isinstance(raw, list) else ():
            yield from keys(inner)

    assert list(EXAMPLES) == list(PLACES)
    for place, record in PLACES.items():
        shown = set[str]()
        for example in EXAMPLES[place]:
            spec = complete(example)
            assert GraphSpec.model_validate(spec).cohort, place
            shown |= set(keys(tomllib.loads(example)))
        wanted = {field.alias or name for name, field in own_keys(record).items()}
        assert wanted <= shown, f"spec/examples.py, {place}: no example has {sorted(wanted - shown)}"


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_shipped_spec_is_valid_and_fits_the_schema(path):
    from gnnpatient import read_spec
    from gnnpatient.spec.reference import schema

    assert read_spec(path).cohort == path.stem
    validator = pytest.importorskip("jsonschema").Draft202012Validator(schema())
    raw = tomllib.loads(path.read_text())
    validator.validate(raw)
    assert not validator.is_valid(raw | {"suorce": "x"}) and not validator.is_valid(raw | {"patient": 3})


def test_every_key_of_a_node_is_in_the_order_of_all():
    from gnnpatient.spec import nodes

    records = (nodes.LongTable, *nodes.NODE_TYPES.values())
    keys = {key for record in records for key in record.model_fields}
    assert keys == set(nodes.NODE_KEYS) and len(nodes.NODE_KEYS) == len(keys)
    for key, record in nodes.NODE_TYPES.items():
        assert [other for other in records if key in other.model_fields] == [record]
    for record in records:  # what a record lacks can be asked all the same
        for key in nodes.NODE_KEYS:
            assert key in record.model_fields or hasattr(record, key), (record, key)
