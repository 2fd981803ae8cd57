"""Results that are a bound (<5, >100): one rule in every format, and the node tells."""

import json
import sqlite3
from dataclasses import replace
from datetime import datetime

import numpy as np
import polars as pl
import pytest
import torch

from gnnpatient import build_graphs, open_cohort, read_cohort
from gnnpatient.errors import InputError
from gnnpatient.model.encode import NodeEncoder
from gnnpatient.model.table import FEATURES, tabulate
from gnnpatient.model.vocabulary import Vocabulary, fit_vocabulary
from gnnpatient.prognosis.linear import LinearColumns

RESULTS = ["<5", "7", "> 100", "<=0.5", "≥20", "A+", None]
VALUES, SIDES = [5.0, 7.0, 100.0, 0.5, 20.0], [-1, 0, 1, -1, 1]
SPEC = """
cohort = "c"
[patient]
table = "people.csv"
key = "id"
[nodes.lab]
table = "PLACE"
time = "day"
code = "code"
value = "value"
"""
FORM = 'cohort = "c"\nformat = "FORM"\n[patient]\norigin = { code = "ADMIT*" }\n[nodes.lab]\n'
STAMPS = [datetime(2020, 1, 1 + day) for day in range(8)]


def long_table(folder, ending: str):
    frame = pl.DataFrame(
        {"id": ["x"] * 7, "day": range(1, 8), "code": ["crp"] * 7, "value": RESULTS},
        schema_overrides={"value": pl.String},
    )
    (folder / "people.csv").write_text("id\nx\n")
    if ending == ".csv":
        frame.write_csv(folder / "labs.csv")
    elif ending == "":
        (folder / "labs").mkdir()
        frame.write_parquet(folder / "labs" / "0.parquet")
    elif ending == ".parquet":
        frame.write_parquet(folder / "labs.parquet")
    elif ending == ".db":
        with sqlite3.connect(folder / "labs.db") as base:
            base.execute("CREATE TABLE labs (id TEXT, day INT, code TEXT, value TEXT)")
            base.executemany("INSERT INTO labs VALUES (?, ?, ?, ?)", frame.rows())
    else:
        duckdb = pytest.importorskip("duckdb")
        with duckdb.connect(str(folder / "labs.duckdb")) as base:
            base.register("frame", frame.to_arrow())
            base.execute("CREATE TABLE labs AS SELECT * FROM frame")
    return SPEC.replace("PLACE", f"labs{ending}" + "/labs" * (ending in (".db", ".duckdb")))


def meds(folder, word="A+"):
    (folder / "data").mkdir()
    frame = pl.DataFrame(
        {
            "subject_id": [1] * 8,
            "time": STAMPS,
            "code": ["ADMIT", *["LAB//crp"] * 7],
            "numeric_value": pl.Series([None, None, 7.0, 100.0, None, None, None, None], dtype=pl.Float64),
            "text_value": [None, "<5", None, "> 100", "<=0.5", "≥20", word, None],
        }
    )
    frame.write_parquet(folder / "data" / "0.parquet")
    return FORM.replace("FORM", "meds") + 'where = { code = "LAB//*" }\n'


def omop(folder, word="A+"):
    (folder / "person.csv").write_text("person_id,year_of_birth\n1,1950\n")
    (folder / "visit_occurrence.csv").write_text(
        "person_id,visit_start_date,visit_end_date,visit_concept_id,visit_source_value\n"
        "1,2020-01-01,2020-01-01,0,x\n"
    )
    rows = [("5", "4171756", ""), ("7", "4172703", ""), ("100", "4172704", ""), ("", "", "<=0.5")]
    rows += [("", "", "≥20"), ("", "", f'"{word}"'), ("", "", "")]
    lines = "".join(f"1,2020-01-0{2 + i},crp,{n},{op},{word}\n" for i, (n, op, word) in enumerate(rows))
    head = "person_id,measurement_date,measurement_source_value,value_as_number,operator_concept_id"
    (folder / "measurement.csv").write_text(f"{head},value_as_string\n{lines}")
    return FORM.replace("FORM", "omop").replace("ADMIT*", "VISIT//*") + 'table = "measurement"\n'


def fhir(folder, word="A+"):
    people = [{"resourceType": "Patient", "id": "1"}]
    visit = {
        "resourceType": "Encounter",
        "id": "v",
        "subject": {"reference": "Patient/1"},
        "status": "finished",
    }
    visit |= {"type": [{"text": "ADMIT"}], "period": {"start": "2020-01-01T00:00:00Z"}}
    given = [{"valueQuantity": {"value": 5, "comparator": "<"}}, {"valueQuantity": {"value": 7}}]
    given += [{"valueQuantity": {"value": 100, "comparator": ">"}}, {"valueString": "<=0.5"}]
    given += [{"valueString": "≥20"}, {"valueString": word}, {}]
    rows = [
        {"resourceType": "Observation", "id": f"o{i}", "status": "final", "code": {"text": "crp"}, **value}
        | {"subject": {"reference": "Patient/1"}, "effectiveDateTime": f"2020-01-0{2 + i}T00:00:00Z"}
        for i, value in enumerate(given)
    ]
    (folder / "all.ndjson").write_text("\n".join(map(json.dumps, [*people, visit, *rows])))
    return FORM.replace("FORM", "fhir").replace("ADMIT*", "ENCOUNTER//*") + 'table = "Observation"\n'


PLACES = {
    "csv": (".csv", ""),
    "shards": ("", ""),
    "parquet": (".parquet", 'bounds = "value"\n'),
    "sqlite": (".db", ""),
    "duckdb": (".duckdb", ""),
}
FORMATS = {"meds": meds, "omop": omop, "fhir": fhir}


def made(folder, place: str, more: str = ""):
    if place in FORMATS:
        spec = FORMATS[place](folder)
    else:
        ending, needed = PLACES[place]
        spec = long_table(folder, ending) + (needed if "bounds" not in more else "")
    (folder / "c.toml").write_text(spec + more)
    return read_cohort(folder / "c.toml", folder)


@pytest.mark.parametrize("place", [*PLACES, *FORMATS])
def test_a_bound_is_the_number_and_the_node_tells(tmp_path, place):
    cohort = made(tmp_path, place)
    lab = cohort.events["lab"]
    given = ~np.isnan(lab.value)
    assert lab.value[given].tolist() == VALUES and lab.bound[given].tolist() == SIDES
    assert lab.bound.dtype == np.int8 and not lab.bound[~given].any()
    assert any("4 value(s) are bounds (< or >)" in flag for flag in cohort.report["flags"])
    if place in FORMATS:
        told = [flag.replace("Observation ", "") for flag in cohort.report["flags"]]
        assert (~given).sum() == 2 and any("1 value(s) are text" in flag for flag in told)
    # stored, in graphs, in tables and exports
    again = open_cohort(cohort.save(tmp_path / "packed"))
    assert np.array_equal(again.events["lab"].bound, lab.bound)
    graphs = build_graphs(again.at(300))
    assert graphs["lab"].bound[graphs["lab"].value.isfinite()].tolist() == SIDES
    assert graphs.hetero_data()["lab"].bound.tolist() == lab.bound.tolist()
    table = again.patient(str(cohort.ids[0])).table().filter(pl.col("value").is_not_null())
    assert table["bound"].to_list() == ["<", None, ">", "<", ">"]
    nodes = again.patient(str(cohort.ids[0])).to_networkx().nodes.values()
    assert sorted(node["bound"] for node in nodes if "bound" in node) == ["<", "<", ">", ">"]


@pytest.mark.parametrize("place", [*PLACES, *FORMATS])
def test_a_bound_is_refused_where_the_spec_says_so(tmp_path, place):
    cohort = made(tmp_path, place, 'bounds = "refuse"\n')
    (table,) = (t for t in cohort.report["tables"].values() if "value is a bound (< or >)" in t["refused"])
    assert table["refused"]["value is a bound (< or >)"] == 4
    value = cohort.events["lab"].value
    assert value[~np.isnan(value)].tolist() == [7] and cohort.events["lab"].bound is None


@pytest.mark.parametrize("place", FORMATS)
@pytest.mark.parametrize(
    ("word", "value"),
    [(word, None) for word in ("<LOD", ">1,000", "<1.000,5", "<5 mg", "5")]
    + [("<0,5", 0.5), ("> 10,25", 10.25), ("<0,125", 0.125), ("<=1e3", 1000)],
)
def test_a_word_is_a_bound_or_text_and_never_lost(tmp_path, place, word, value):
    (tmp_path / "c.toml").write_text(FORMATS[place](tmp_path, word))
    cohort = read_cohort(tmp_path / "c.toml", tmp_path)
    found, bounds = cohort.events["lab"].value.tolist(), 4 if value is None else 5
    assert (value in found) == (value is not None) and np.isfinite(found).sum() == bounds + 1
    told = [flag.replace("Observation ", "") for flag in cohort.report["flags"]]
    assert any("1 value(s) are text" in flag for flag in told) == (value is None)
    assert any(f"{bounds} value(s) are bounds (< or >)" in flag for flag in told)


@pytest.mark.parametrize(("factor", "side"), [(2, -1), (-1, 1)])
def test_a_factor_below_zero_turns_the_side(tmp_path, factor, side):
    (tmp_path / "people.csv").write_text("id\nx\n")
    (tmp_path / "labs.csv").write_text("id,day,code,value,u\nx,1,be,<4,b\nx,2,be,<3,a\n")
    unit = (
        f'unit = "u"\n[units]\nbe = {{ to = "a", from = {{ b = {{ factor = {factor}, offset = 10 }} }} }}\n'
    )
    (tmp_path / "c.toml").write_text(SPEC.replace("PLACE", "labs.csv") + unit)
    lab = read_cohort(tmp_path / "c.toml", tmp_path).events["lab"]
    assert lab.value.tolist() == [10 + 4 * factor, 3] and lab.bound.tolist() == [side, -1]


def test_text_in_parquet_is_refused_unless_the_spec_speaks_of_bounds(tmp_path):
    (tmp_path / "c.toml").write_text(long_table(tmp_path, ".parquet"))
    with pytest.raises(InputError, match="holds text; write numbers"):
        read_cohort(tmp_path / "c.toml", tmp_path)


def test_a_sign_without_a_number_is_no_bound(tmp_path):
    rows = ["<", "<x", "<NA", "< 5 mg", "<inf", "5<", "<<5", "<1e3", "<0.5"]
    (tmp_path / "people.csv").write_text("id\nx\n")
    lines = "".join(f"x,{i},k,{cell}\n" for i, cell in enumerate(rows))
    (tmp_path / "labs.csv").write_text(f"id,day,code,value\n{lines}")
    (tmp_path / "c.toml").write_text(SPEC.replace("PLACE", "labs.csv"))
    cohort = read_cohort(tmp_path / "c.toml", tmp_path)
    assert cohort.report["tables"]["labs.csv"]["refused"] == {"value not a finite number": 7}
    assert cohort.events["lab"].value.tolist() == [1000, 0.5] and cohort.events["lab"].bound.tolist() == [
        -1,
        -1,
    ]


def test_a_wide_table_a_decimal_comma_and_a_conversion(tmp_path):
    (tmp_path / "people.csv").write_text("id\nx\n")
    (tmp_path / "wide.csv").write_text("id;day;crp;tsh\nx;1;<0,5;>1,5\nx;2;0,5;\nx;1;0,5;\n")
    (tmp_path / "c.toml").write_text("""
cohort = "c"
[tables."wide.csv"]
separator = ";"
decimal = ","
[patient]
table = "people.csv"
key = "id"
[units]
crp = { to = "mg/L", from = { "mg/dL" = 10 } }
[nodes.lab]
table = "wide.csv"
time = "day"
columns = { crp = "mg/dL", tsh = "mU/L" }
""")
    lab = read_cohort(tmp_path / "c.toml", tmp_path).events["lab"]
    # a bound and a number at one moment are two rows, whatever they share
    assert sorted(zip(lab.value.tolist(), lab.bound.tolist(), strict=True)) == [
        (1.5, 1),
        (5, -1),
        (5, 0),
        (5, 0),
    ]


def test_no_column_where_nothing_is_a_bound(tmp_path):
    (tmp_path / "people.csv").write_text("id\nx\n")
    (tmp_path / "labs.csv").write_text("id,day,code,value\nx,1,k,5\n")
    (tmp_path / "c.toml").write_text(SPEC.replace("PLACE", "labs.csv"))
    cohort = read_cohort(tmp_path / "c.toml", tmp_path)
    graphs = build_graphs(cohort.at(9))
    vocabulary = fit_vocabulary(graphs)
    assert cohort.events["lab"].bound is None and graphs["lab"].bound.tolist() == [0]
    assert "lab.bound" not in cohort._columns() and "bounded" not in vocabulary.to_dict()
    assert tabulate(graphs, vocabulary).x[:, FEATURES.index("bound")].tolist() == [0]


def test_the_encoder_sees_on_which_side_the_truth_lies(tmp_path):
    graphs = build_graphs(made(tmp_path, "csv").at(300))
    vocabulary = fit_vocabulary(graphs)
    assert vocabulary.bounded == ("lab",) and Vocabulary.from_dict(vocabulary.to_dict()) == vocabulary
    exact = replace(graphs, nodes={**graphs.nodes, "lab": replace(graphs["lab"], bound=None)})
    one, other = (tabulate(each, vocabulary) for each in (graphs, exact))
    column = FEATURES.index("bound")
    side = one.x[:, column]
    lab = graphs["lab"]
    assert sorted(side.tolist()) == sorted(lab.bound.tolist()) and set(side.tolist()) == {-1, 0, 1}
    assert (other.x[:, column] == 0).all() and torch.equal(
        torch.cat([one.x[:, :column], one.x[:, column + 1 :]], 1),
        torch.cat([other.x[:, :column], other.x[:, column + 1 :]], 1),
    )
    torch.manual_seed(0)
    encode = NodeEncoder(vocabulary, 4)
    moved = encode.rows(one) - encode.rows(other)
    torch.testing.assert_close(moved, side[:, None] * encode.features.weight[:, column])


def test_the_linear_family_sees_the_side_of_the_last_value(tmp_path):
    cohort = made(tmp_path, "csv")
    graphs = build_graphs(cohort.at(300))
    columns = LinearColumns(fit_vocabulary(graphs), {})
    (place,) = [i for i, column in enumerate(columns.names) if column.block == "bound"]
    exact = replace(graphs, nodes={**graphs.nodes, "lab": replace(graphs["lab"], bound=None)})
    assert columns(graphs)[0, place].item() == 1 and columns(exact)[0, place].item() == 0  # the last is >=20
    assert columns(build_graphs(cohort.at(4.5)))[0, place].item() == -1  # until then <=0.5
    hidden = {kind: nodes for kind, nodes in graphs.nodes.items() if kind != "lab"}
    assert columns(replace(graphs, nodes=hidden)).shape == columns(graphs).shape
