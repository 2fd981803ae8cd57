"""Columns by a join: many rows to one, guards on both sides of it, every row counted as before."""

import gzip
import re
import sqlite3
from contextlib import closing

import numpy as np
import polars as pl
import pytest

from gnnpatient.errors import InputError

TOML = """
cohort = "c"
[tables."labs.csv"]
join = { table = "items.csv", by = "itemid", columns = ["label"] }
[tables."diagnoses.csv"]
join = { table = "stays.csv", by = "stay", columns = { discharged = "left" } }
[tables."stays.csv"]
join = { table = "people.csv", by = { person = "id" }, columns = ["sex", "dod"] }
[patient]
table = "stays.csv"
key = "stay"
group = "person"
category = ["sex"]
origin = "came"
[nodes.lab]
table = "labs.csv"
time = "at"
code = "label"
value = "value"
[nodes.diagnosis]
table = "diagnoses.csv"
time = "discharged"
code = "icd"
[outcomes.death]
kind = "survival"
table = "stays.csv"
causes = { death = { time = "dod" } }
exit = "400d"
"""
TABLES = {
    "people": "id,sex,dod\n7,F,2150-03-01\n8,M,\n9,F,\n",
    "stays": "stay,person,came,left\n1,7,2150-01-01 08:00,2150-01-05 12:00\n"
    "2,7,2150-02-01 08:00,2150-02-03 09:00\n3,8,2149-01-01 08:00,2149-01-02 09:00\n"
    "4,9,2151-01-01,2151-01-09\n",
    "items": "itemid,label\n50,Sodium\n51,Potassium\n52,Nothing\n52,Nothing\n",
    "labs": "stay,itemid,at,value\n1,50,2150-01-02 08:00,140\n1,51,2150-01-02 08:00,4\n"
    "2,50,2150-02-01 09:00,141\n"
    "3,99,2149-01-01 09:00,1\n3,,2149-01-01 09:00,1\n3,50,2149-01-01 10:00,139\n3,50,2149-01-01 10:00,139\n",
    "diagnoses": "stay,icd\n1,I50\n2,I50\n3,J18\n",
}


@pytest.fixture
def reads(tmp_path):
    from gnnpatient import read_cohort

    def read(toml: str = TOML, **tables: str):
        for name, text in {**TABLES, **tables}.items():
            (tmp_path / f"{name}.csv").write_text(text)
        (tmp_path / "c.toml").write_text(toml)
        return read_cohort(tmp_path / "c.toml", tmp_path)

    return read


def replaced(*pairs: tuple[str, str]) -> str:
    toml = TOML
    for old, new in pairs:
        assert old in toml
        toml = toml.replace(old, new)
    return toml


def test_joined_columns_are_columns_and_every_row_is_counted(reads):
    from gnnpatient import build_graphs

    cohort = reads()
    assert cohort.codes["lab"] == ("other", "Potassium", "Sodium")
    assert cohort.levels["sex"] == ("F", "M") and cohort.category[:, 0].tolist() == [0, 0, 1, 0]
    label = cohort.outcomes["death"]
    assert label.event.tolist() == [1, 1, 0, 0]  # the person's death, counted from each admission
    tables = cohort.report["tables"]
    assert tables["labs.csv"]["used"] == 4 and tables["labs.csv"]["collapsed"] == 1
    assert tables["labs.csv"]["refused"] == {"no code": 2}
    assert tables["items.csv"] == {"rows": 4, "used": 3, "collapsed": 1, "refused": {}}
    assert tables["people.csv"]["used"] == 3
    flags = [flag for flag in cohort.report["flags"] if "no row in" in flag]
    assert flags == [
        "labs.csv: 2 of 7 row(s) have no row in items.csv by 'itemid', 1 of them without a key; "
        "their 'label' is empty"
    ]
    # a diagnosis stamped at discharge is not there before
    before, after = (cohort.at(day, patient="1") for day in (4.1, 4.2))
    assert (
        len(build_graphs(before)["diagnosis"].code) == 0 and len(build_graphs(after)["diagnosis"].code) == 1
    )


def test_a_join_changes_nothing_but_names(reads):
    """The oracle: the tables joined beforehand give the same cohort."""
    joined = reads()
    frames = {name: pl.read_csv(text.encode(), infer_schema=False) for name, text in TABLES.items()}
    labs = frames["labs"].join(frames["items"].unique(), on="itemid", how="left", maintain_order="left")
    stays = frames["stays"].join(frames["people"], left_on="person", right_on="id", how="left")
    diagnoses = frames["diagnoses"].join(frames["stays"], on="stay", how="left")
    diagnoses = diagnoses.rename({"left": "discharged"})
    plain = re.sub(r"\[tables.*\njoin.*\n", "", TOML)
    whole = reads(plain, labs=labs.write_csv(), stays=stays.write_csv(), diagnoses=diagnoses.write_csv())
    for kind in ("lab", "diagnosis"):
        for name in ("known", "happened", "code", "value"):
            one, other = (getattr(c.events[kind], name) for c in (joined, whole))
            np.testing.assert_array_equal(one, other)
    assert (joined.category == whole.category).all()
    assert (joined.outcomes["death"].time == whole.outcomes["death"].time).all()


@pytest.mark.parametrize("form", ["int", "float", "text"])
def test_keys_compare_as_ids_in_typed_tables(tmp_path, form):
    from gnnpatient import read_cohort

    for name, text in TABLES.items():
        (tmp_path / f"{name}.csv").write_text(text)
    kind = {"int": pl.Int32, "float": pl.Float64, "text": pl.String}[form]
    labs = pl.read_csv(TABLES["labs"].encode(), schema_overrides={"itemid": pl.Int64}, try_parse_dates=True)
    labs.with_columns(pl.col("itemid").cast(kind)).write_parquet(tmp_path / "labs.parquet")
    (tmp_path / "c.toml").write_text(TOML.replace("labs.csv", "labs.parquet"))
    cohort = read_cohort(tmp_path / "c.toml", tmp_path)
    assert cohort.codes["lab"] == ("other", "Potassium", "Sodium")
    assert cohort.report["tables"]["labs.parquet"]["used"] == 4


@pytest.mark.parametrize("form", ["gz", "shards", "sqlite", "duckdb"])
def test_tables_of_every_kind_are_joined(reads, tmp_path, form):
    """The rows in one kind of store, the dictionary in another; the answer is that of two CSV."""
    from gnnpatient import read_cohort

    whole = reads()
    labs = pl.read_csv(TABLES["labs"].encode(), try_parse_dates=True)
    items = pl.read_csv(TABLES["items"].encode())
    names = {"labs.csv": "labs.csv", "items.csv": "items.csv"}
    if form == "gz":
        for name in ("labs", "items"):
            with gzip.open(tmp_path / f"{name}.csv.gz", "wt") as file:
                file.write(TABLES[name])
            (tmp_path / f"{name}.csv").unlink()
    elif form == "shards":
        (tmp_path / "labs").mkdir()
        labs[:3].write_parquet(tmp_path / "labs" / "0.parquet")
        labs[3:].write_parquet(tmp_path / "labs" / "1.parquet")
        names["labs.csv"] = "labs"
    elif form == "sqlite":
        with closing(sqlite3.connect(tmp_path / "w.sqlite")) as base:
            base.execute("CREATE TABLE items (itemid REAL, label TEXT)")
            base.executemany("INSERT INTO items VALUES (?, ?)", items.rows())
            base.commit()
        names["items.csv"] = "w.sqlite/items"
    else:
        duckdb = pytest.importorskip("duckdb")
        with closing(duckdb.connect(str(tmp_path / "w.duckdb"))) as base:
            base.execute("CREATE TABLE items (itemid BIGINT, label VARCHAR)")
            base.executemany("INSERT INTO items VALUES (?, ?)", items.rows())
        names["items.csv"] = "w.duckdb/items"
    toml = TOML
    for old, new in names.items():
        toml = toml.replace(old, new)
    (tmp_path / "c.toml").write_text(toml)
    cohort = read_cohort(tmp_path / "c.toml", tmp_path)
    assert cohort.codes["lab"] == whole.codes["lab"]
    for name in ("known", "code", "value"):
        one, other = (getattr(c.events["lab"], name) for c in (cohort, whole))
        np.testing.assert_array_equal(one, other)
    assert cohort.report["tables"][names["items.csv"]]["used"] == 3


def test_frames_in_memory_are_joined_as_files_are(reads, tmp_path):
    pandas = pytest.importorskip("pandas")
    from gnnpatient import read_cohort

    whole = reads()
    frames = {
        f"{name}.csv": pl.read_csv(text.encode(), try_parse_dates=True) for name, text in TABLES.items()
    }
    frames["labs.csv"] = frames["labs.csv"].to_pandas()  # itemid has a gap: 50.0 there, 50 in the dictionary
    assert frames["labs.csv"]["itemid"].dtype == pandas.Series([1.0]).dtype
    cohort = read_cohort(tmp_path / "c.toml", frames)
    assert cohort.codes["lab"] == whole.codes["lab"] and (cohort.category == whole.category).all()
    np.testing.assert_array_equal(cohort.events["lab"].value, whole.events["lab"].value)


def test_joins_after_one_another_and_where_on_what_is_joined(reads):
    toml = replaced(
        ('by = "itemid", columns = ["label"] }', 'by = "itemid", columns = ["label"] }\nkey = "stay"'),
        (
            '{ table = "stays.csv", by = "stay", columns = { discharged = "left" } }',
            '[{ table = "stays.csv", by = "stay", columns = { discharged = "left", who = "person", '
            'gender = "sex" } }, '
            '{ table = "people.csv", by = { who = "id" }, columns = { again = "sex" } }]',
        ),
        ('code = "icd"', 'code = "icd"\nwhere = { again = "F", gender = "F" }'),
        ('code = "label"', 'code = "label"\nwhere = { label = "Sod*" }'),
    )
    cohort = reads(toml)
    assert cohort.codes["lab"] == ("other", "Sodium") and cohort.codes["diagnosis"] == ("other", "I50")
    assert cohort.report["tables"]["people.csv"]["used"] == 3
    assert sum("no row in" in flag for flag in cohort.report["flags"]) == 1


@pytest.mark.parametrize(
    "tables, message",
    [
        (
            {"items": "itemid,label\n50,Sodium\n51,K\n50,Na\n"},
            "itemid = '50' has 2 rows .*lines 2 and 4; 1 key",
        ),
        ({"items": "itemid,name\n50,Sodium\n"}, "items.csv: no column 'label', which join needs"),
        ({"items": "item,label\n50,Sodium\n"}, "items.csv: no column 'itemid', which join needs"),
        ({"items": "itemid,label\n50.0,Sodium\n"}, r"no row finds its own.*as '50'.*look like '50.0'"),
        (
            {"labs": "stay,itemid,label,at,value\n1,50,x,2150-01-02 08:00,140\n"},
            r"'label' is there already.*columns = \{ label_2 = \"label\" \}",
        ),
    ],
)
def test_a_dictionary_that_cannot_be_is_refused(reads, tables, message):
    with pytest.raises(InputError, match=message):
        reads(**tables)


RING = '"people.csv", by = { stay = "id" }, columns = ["sex"]'
X = '[nodes.x]\ntable = "people.csv"\nuntimed = "origin"\ncode = "dod"\n'
JOIN = (
    '[tables."people.csv"]\njoin = { table = "labs.csv", by = { id = "stay" }, columns = ["at"] }\n[patient]'
)


@pytest.mark.parametrize(
    "pairs, message",
    [
        ([('category = ["sex"]', 'category = ["sex"]\nnumber = ["dod"]')], "static column 'dod'"),
        (  # under another name
            [
                ('columns = ["sex", "dod"]', 'columns = { sex = "sex", dod = "dod", gone = "dod" }'),
                ('category = ["sex"]', 'category = ["sex", "gone"]'),
            ],
            r"static column 'gone' is by a join people.csv \('dod'\)",
        ),
        (
            [
                ('columns = ["sex", "dod"]', 'columns = { sex = "sex", dod = "dod", gone = "dod" }'),
                ('group = "person"', 'group = "person"\nwhere = { gone = "*" }'),
            ],
            "where chooses by column 'gone'",
        ),
        (  # the source of what the outcome reads is no input either
            [("[nodes.lab]", X + "[nodes.lab]")],
            r"nodes.x: column 'dod' is by a join people.csv \('dod'\)",
        ),
        (  # nor what the rows of an event say, at another time than theirs
            [
                ("columns = { discharged =", 'columns = { why = "why", discharged ='),
                ('{ time = "dod" }', '{ time = "left", where = { why = "died" } }'),
                ('time = "discharged"\ncode = "icd"', 'untimed = "origin"\ncode = "why"'),
            ],
            r"nodes.diagnosis: column 'why' is by a join stays.csv \('why'\)",
        ),
        (
            [
                ("columns = { discharged =", 'columns = { why = "why", discharged ='),
                ('{ time = "dod" }', '{ time = "left", where = { why = "died" } }'),
                ('code = "icd"', 'code = "why"'),
            ],
            None,
        ),
        (  # nor what is found by it
            [
                (
                    'columns = ["sex", "dod"] }',
                    'columns = ["sex", "dod"] }, '
                    '{ table = "days.csv", by = { dod = "day" }, columns = ["weekday"] }]',
                ),
                ('join = { table = "people.csv"', 'join = [{ table = "people.csv"'),
                ('category = ["sex"]', 'category = ["sex", "weekday"]'),
            ],
            "static column 'weekday' is by a join",
        ),
        ([("[patient]", JOIN), ('columns = ["label"]', 'columns = ["label", "sex"]')], None),
        (
            [
                ("[patient]", JOIN),
                ('"items.csv", by = "itemid", columns = ["label"]', RING),
            ],
            "ring of joins, labs.csv from people.csv from labs.csv",
        ),
        ([('by = "itemid"', 'by = "label"')], "by names 'label', which the table gains here or later"),
        ([('columns = ["label"]', "columns = []")], "columns names no column of items.csv"),
        ([('by = "itemid"', 'bye = "itemid"')], "unknown key 'bye'; did you mean 'by'"),
    ],
)
def test_guards_see_through_joins(pairs, message, tmp_path):
    from gnnpatient import read_spec

    (tmp_path / "c.toml").write_text(replaced(*pairs))
    if message is None:
        read_spec(tmp_path / "c.toml")
        return
    with pytest.raises(InputError, match=message):
        read_spec(tmp_path / "c.toml")


LABEL = {"table": "items.csv", "by": "item", "columns": ["label"]}
EVENT = {"table": "events.csv", "time": "at", "where": {"label": "death"}}
EARLY = {"time": "ordered", "code": "label"}


@pytest.mark.parametrize(
    ("table", "join", "cause", "node", "message"),
    [
        ("events.csv", [LABEL], EVENT | {"where": {"item": "5"}}, EARLY, r"column 'label'.*\('item'\)"),
        ("events.csv", [LABEL], EVENT, EARLY | {"code": "item"}, "column 'item'"),
        (
            "events.csv",
            [LABEL, LABEL | {"columns": {"name": "label"}}],
            EVENT,
            EARLY | {"code": "name"},
            "'name'",
        ),
        ("events.csv", [LABEL], EVENT, EARLY | {"time": "at", "code": "item"}, None),
        # two tables of items with one dictionary: what is in one says nothing of the other
        ("labs.csv", [LABEL], EVENT, EARLY, None),
        (
            "labs.csv",
            [LABEL | {"table": "events.csv", "by": "event"}],
            EVENT,
            EARLY,
            "events.csv \\('item'\\)",
        ),
    ],
)
def test_rows_of_events_are_told_apart_by_what_their_words_are_looked_up_by(
    table, join, cause, node, message
):
    from gnnpatient import read_spec

    spec = {
        "cohort": "c",
        "tables": {"events.csv": {"join": LABEL}} | {table: {"join": join}},
        "patient": {"table": "people.csv", "key": "id", "exit": "1y"},
        "nodes": {"row": node | {"table": table}},
        "outcomes": {"death": {"kind": "survival", "causes": {"death": cause}}},
    }
    if message is None:
        assert read_spec(spec).nodes
        return
    with pytest.raises(InputError, match=message):
        read_spec(spec)


@pytest.mark.parametrize(
    ("patient", "message"),
    [
        ({"category": ["code"]}, r"static column 'code' is by a join people.csv \('code'\)"),
        ({"category": ["ward"], "exit": "closed"}, None),  # the end of a study there
        ({"number": ["age"], "origin": "came", "birth": "died"}, "static column 'died'"),
        ({"number": ["last"], "exit": {"table": "people.csv", "column": "last"}}, "static column 'last'"),
        ({"number": ["until"], "exit": {"table": "wards.csv", "column": "shut"}}, "column 'until'.*'shut'"),
    ],
)
def test_a_static_is_not_what_an_answer_or_an_end_is_looked_up_by(patient, message):
    from gnnpatient import read_spec

    joins = [
        {"table": "states.csv", "by": "code", "columns": ["state"]},
        {"table": "wards.csv", "by": "ward", "columns": {"closed": "closed", "until": "shut"}},
    ]
    states = {"home": "censored", "dead": "death"}
    spec = {
        "cohort": "c",
        "tables": {"people.csv": {"join": joins}},
        "patient": {"table": "people.csv", "key": "id"} | patient,
        "outcomes": {
            "state": {
                "kind": "survival",
                "table": "people.csv",
                "status": {"column": "state", "time": "died", "states": states},
            }
        },
    }
    if message is None:
        assert read_spec(spec).patient.category
        return
    with pytest.raises(InputError, match=message):
        read_spec(spec)


def test_who_is_a_patient_may_ask_for_all_words_of_an_answer(tmp_path):
    from gnnpatient import read_spec

    toml = replaced(
        ('columns = ["sex", "dod"]', 'columns = { sex = "sex", dead = "dead", day = "day", gone = "dead" }'),
        ('{ time = "dod" }', '{ time = "day", flag = "dead" }'),
        ('group = "person"', 'group = "person"\nwhere = { gone = ["0", "1"] }'),
    )
    (tmp_path / "c.toml").write_text(toml)
    assert read_spec(tmp_path / "c.toml").patient.where
    (tmp_path / "c.toml").write_text(toml.replace('["0", "1"]', '["1"]'))
    with pytest.raises(InputError, match="where chooses by column 'gone'"):
        read_spec(tmp_path / "c.toml")


def test_used_columns_see_through_joins_and_hashes_stay(tmp_path):
    from gnnpatient import read_spec

    (tmp_path / "c.toml").write_text(TOML)
    spec = read_spec(tmp_path / "c.toml")
    assert spec.used_columns("people.csv") >= {"id", "sex", "dod"}
    assert spec.used_columns("stays.csv") >= {"left", "person"}
    assert spec.used_columns("labs.csv") >= {"itemid", "label"} and "join" in spec.to_json()
    assert type(spec).from_json(spec.to_json()).hash == spec.hash
    assert "join" not in read_spec("pbc").to_json()


def test_memory_is_asked_for_the_rows_that_fit_alone(tmp_path, monkeypatch):
    from gnnpatient import files, read_spec
    from gnnpatient.ingest.source import SourceTables

    for name, text in TABLES.items():
        (tmp_path / f"{name}.csv").write_text(text)
    frame = pl.DataFrame({"stay": ["1"] * 5000, "itemid": [50 + (i == 7) for i in range(5000)]})
    frame.write_parquet(tmp_path / "labs.parquet")
    (tmp_path / "c.toml").write_text(TOML.replace("labs.csv", "labs.parquet"))
    source = SourceTables(tmp_path, read_spec(tmp_path / "c.toml"))
    monkeypatch.setattr(files, "MAX_UNCHECKED_BYTES", 0)
    monkeypatch.setattr(files, "free_memory", lambda: 1000)
    view = source.view("labs.parquet", ["label"], {"label": ("Potassium",)})
    assert view.row.tolist() == [7] and view.column("label").to_list() == ["Potassium"]
    with pytest.raises(InputError, match=r"2 column\(s\) of 4999 rows: takes about"):
        source.view("labs.parquet", ["label"], {"label": ("Sodium",)})
    with pytest.raises(InputError, match=r"2 column\(s\) of 5000 rows: takes about"):
        source.view("labs.parquet", ["label"])
