"""MEDS: shards of any shape give one table and one row a subject; what is not MEDS is refused."""

import shutil
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpatient.errors import InputError

TYPES = {
    "subject_id": pl.Int64,
    "time": pl.Datetime("us"),
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
}
DAY = datetime(2021, 3, 4)
NOON = datetime(2021, 3, 4, 12)
ROWS = [  # subject 7 is born, measured and dies on a day that is known without the hour; 70 is only measured
    (7, datetime(1950, 1, 1), "MEDS_BIRTH", None, None),
    (7, None, "GENDER//F", None, None),
    (7, None, "BLOOD//group//AB", None, None),
    (7, None, "SMOKER", None, None),
    (7, None, "HEIGHT//cm", 161.0, None),
    (7, datetime(2020, 5, 5), "LAB//CRP", 3.5, None),
    (7, NOON, "LAB//CRP", float("nan"), "haemolysed"),
    (7, DAY, "MEDS_DEATH", None, None),
    (70, None, "GENDER//M", None, None),
    (70, None, "RELIGION", None, "none"),
    (70, datetime(2020, 6, 6, 8), "LAB//CRP", 4.0, None),
]


def frame(rows, **types) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={**TYPES, **types}, orient="row")


def write(folder: Path, *shards: pl.DataFrame) -> Path:
    for i, shard in enumerate(shards):
        place = folder / "data" / f"split{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        shard.write_parquet(place / f"{i}.parquet")
    return folder


def read(folder: Path):
    from gnnpatient.readers import meds

    return meds.read(folder)


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        read(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_people(tmp_path):
    standard = read(write(tmp_path, frame(ROWS)))
    assert standard.people["id"].to_list() == ["7", "70"]
    seven, seventy = standard.people.rows(named=True)
    assert seven == {
        "id": "7",
        "first": datetime(2020, 5, 5),
        "last": datetime(2021, 3, 4, 23, 59, 59),  # the end of the day of death, not noon
        "birth": datetime(1950, 1, 1),
        "birth_bare": True,
        "death": DAY,
        "death_bare": True,
        "GENDER": "F",
        "BLOOD": "group//AB",
        "SMOKER": "yes",
        "RELIGION": None,
        "HEIGHT//cm": 161.0,
    }
    assert seventy["first"] == seventy["last"] == datetime(2020, 6, 6, 8)
    assert seventy["birth"] is None and seventy["death"] is None and seventy["SMOKER"] is None
    assert seventy["GENDER"] == "M" and seventy["RELIGION"] == "none"
    assert (
        standard.people.schema["HEIGHT//cm"] == pl.Float64 and standard.people.schema["GENDER"] == pl.String
    )
    assert standard.flags == ("1 value(s) are text, no number",) and standard.parents is None


def test_the_table_keeps_every_row_in_the_names_of_a_door(tmp_path):
    more = frame(ROWS).with_columns(hadm_id=pl.lit(5, pl.Int64))
    (name, lazy), *rest = read(write(tmp_path, more)).tables.items()
    table = lazy.collect()
    assert name == "data" and not rest
    assert dict(table.schema) == {
        "id": pl.String,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "value": pl.Float64,
        "text": pl.String,
        "hadm_id": pl.Int64,
        "time_bare": pl.Boolean,
    }
    assert table["id"].to_list() == [str(row[0]) for row in ROWS]
    assert table["time"].to_list() == [row[1] for row in ROWS]
    assert table["code"].to_list() == [row[2] for row in ROWS]
    assert table["value"].to_list() == [3.5 if v == 3.5 else v if v == v else None for *_, v, _ in ROWS]
    # of all moments at midnight only a birth or a death is a date without a clock time
    assert table.filter("time_bare")["code"].to_list() == ["MEDS_BIRTH", "MEDS_DEATH"]


def test_a_death_with_a_clock_time_is_not_a_bare_date(tmp_path):
    rows = [(1, NOON, "MEDS_DEATH//hospital", None, None), (1, DAY, "MEDS_DEATH", None, None)]
    (one,) = read(write(tmp_path, frame(rows))).people.rows(named=True)
    assert one["death"] == NOON and one["death_bare"] is False  # the date gives way to the time of that day
    assert one["last"] == datetime(2021, 3, 4, 23, 59, 59)


@given(st.permutations(ROWS), st.lists(st.integers(0, len(ROWS)), max_size=3))
def test_order_and_shards_are_nothing(tmp_path_factory, rows, cuts):
    whole = read(write(tmp_path_factory.mktemp("whole"), frame(ROWS)))
    edges = [0, *sorted(cuts), len(rows)]
    shards = [frame(rows[a:b]) for a, b in pairwise(edges)]
    parts = read(write(tmp_path_factory.mktemp("parts"), *shards))
    columns = sorted(whole.people.columns)
    assert parts.people.select(columns).equals(whole.people.select(columns))
    a, b = (standard.tables["data"].collect() for standard in (whole, parts))
    key = ["id", "time", "code"]
    assert a.sort(key).equals(b.sort(key))


def test_shards_may_lack_optional_columns_and_differ_in_width(tmp_path):
    plain = frame(ROWS[-1:]).drop("numeric_value", "text_value").cast({"subject_id": pl.Int32})
    static = frame(ROWS[8:9], time=pl.Null, numeric_value=pl.Null, text_value=pl.Null)
    wide = frame(ROWS[:8], numeric_value=pl.Float64, code=pl.Categorical, time=pl.Datetime("ns"))
    table = read(write(tmp_path, wide, static, plain)).tables["data"].collect()
    assert sorted(table["id"].to_list()) == ["7"] * 8 + ["70"] * 2
    assert table.schema["value"] == pl.Float64 and table.schema["time"] == pl.Datetime("us")
    assert table.filter(pl.col("id") == "70")["value"].to_list() == [None, None]


def test_without_values_there_is_no_value_column(tmp_path):
    standard = read(write(tmp_path, frame(ROWS).drop("numeric_value", "text_value")))
    assert not {"value", "text"} & set(standard.tables["data"].collect_schema())
    assert standard.people["HEIGHT"].to_list() == ["cm", None]  # nothing says that it is a number


def test_shards_in_the_folder_itself(tmp_path):
    frame(ROWS).write_parquet(tmp_path / "[1].parquet")  # a name that a glob would take for a pattern
    (tmp_path / ".part-x.parquet").write_bytes(b"half written")
    assert len(read(tmp_path).people) == 2


def test_splits_and_parents(tmp_path):
    write(tmp_path, frame(ROWS))
    meta = tmp_path / "metadata"
    meta.mkdir()
    pl.DataFrame({"subject_id": [70, 7, 8], "split": ["tuning", "train", "train"]}).write_parquet(
        meta / "subject_splits.parquet"
    )
    codes = pl.DataFrame({"code": ["A", "B", "C"], "parent_codes": [["X", "Y"], None, ["X"]]})
    codes.write_parquet(meta / "codes.parquet")
    standard = read(tmp_path)
    assert standard.people["split"].to_list() == ["train", "tuning"]
    assert standard.flags == (
        "1 value(s) are text, no number",
        "1 subject(s) of subject_splits.parquet without an event: left out",
    )
    assert standard.parents.rows() == [("A", "X"), ("A", "Y"), ("C", "X")]
    for empty in (pl.Series([None] * 3), pl.Series([[], [], []], dtype=pl.List(pl.String))):
        codes.with_columns(parent_codes=empty).write_parquet(meta / "codes.parquet")
        assert read(tmp_path).parents is None
    codes.with_columns(parent_codes=pl.lit("X")).write_parquet(meta / "codes.parquet")
    assert "column 'parent_codes' is String" in refused(tmp_path)


def test_a_row_without_a_code_is_refused_alone(tmp_path):
    rows = [(1, NOON, None, 1.0, None), (1, NOON, "", 1.0, None), (1, None, None, 1.0, None)]
    rows.append((1, NOON, "A", 1.0, None))
    table = read(write(tmp_path, frame(rows))).tables["data"].collect()
    assert table["refused"].to_list() == ["no code", "no code", "no code", None]


def test_a_birth_without_a_time_is_no_birth(tmp_path):
    rows = [(1, None, "MEDS_BIRTH", None, None), (1, NOON, "A", 1.0, None)]
    standard = read(write(tmp_path, frame(rows)))
    assert standard.people["birth"].to_list() == [None] and "MEDS_BIRTH" not in standard.people.columns
    assert standard.flags == (
        "1 MEDS_BIRTH or MEDS_DEATH without a time: no birth or death is taken from them",
    )


BAD = [  # what is done to the rows, and the message
    (lambda f: f.drop("subject_id"), "0.parquet: no column 'subject_id'"),
    (lambda f: f.drop("time"), "0.parquet: no column 'time'"),
    (lambda f: f.drop("code"), "0.parquet: no column 'code'"),
    (lambda f: f.cast({"numeric_value": pl.String}), "0.parquet: column 'numeric_value' is String"),
    (lambda f: f.cast({"subject_id": pl.Float64}), "0.parquet: column 'subject_id' is Float64"),
    (lambda f: f.cast({"time": pl.String}), "0.parquet: column 'time' is String"),
    (lambda f: f.with_columns(pl.col("time").dt.replace_time_zone("UTC")), "column 'time' is Datetime"),
    (lambda f: f.with_columns(code=1), "0.parquet: column 'code' is Int32"),
    (lambda f: f.with_columns(text_value=1), "0.parquet: column 'text_value' is Int32"),
    (lambda f: f.rename({"text_value": "until"}), "0.parquet: column 'until' has a name that is used here"),
    (lambda f: f.clear(), "1 shard(s) and no row"),
    (
        lambda f: f.with_columns(subject_id=pl.when(pl.col("subject_id") == 7).then(7)),
        "0.parquet: column 'subject_id' holds 3 null(s)",
    ),
]


@pytest.mark.parametrize(("change", "says"), BAD)
def test_what_is_not_meds_is_refused(tmp_path, change, says):
    assert says in refused(write(tmp_path, change(frame(ROWS))))


CLASHES = [  # two rows that cannot both be
    ((None, "GENDER//F"), (None, "GENDER//M"), "untimed code 'GENDER': 1 subject(s) with two values"),
    ((None, "HEIGHT", 1.0), (None, "HEIGHT", 2.0), "untimed code 'HEIGHT': 1 subject(s) with two values"),
    ((None, "A//b"), (None, "A", 2.0), "untimed code 'A' has the name of another column"),
    ((None, "split//b"), (None, "A"), "untimed code 'split' has the name of another column"),
    ((DAY, "MEDS_BIRTH"), (NOON.replace(day=5), "MEDS_BIRTH"), "MEDS_BIRTH: 1 subject(s) with two different"),
    ((DAY, "MEDS_DEATH"), (NOON.replace(day=5), "MEDS_DEATH"), "MEDS_DEATH: 1 subject(s) with two different"),
]


@pytest.mark.parametrize(("one", "two", "says"), CLASHES)
def test_contradictions_are_refused_and_repeats_are_not(tmp_path, one, two, says):
    one, two = ((12345, *row, *[None] * (4 - len(row))) for row in (one, two))
    if "another column" not in says:
        assert len(read(write(tmp_path / "same", frame([one, one]))).people) == 1
    message = refused(write(tmp_path / "other", frame([one, two])))
    assert says in message
    assert "12345" not in message.removeprefix(str(tmp_path))  # counts, not ids


def test_columns_that_change_between_shards_are_refused(tmp_path):
    shards = [frame(ROWS).with_columns(ward=word) for word in (pl.lit("a"), pl.lit(1))]
    assert "1.parquet: column 'ward' is Int32, but String in" in refused(write(tmp_path, *shards))


def test_two_splits_of_one_subject_are_refused(tmp_path):
    write(tmp_path, frame(ROWS))
    (tmp_path / "metadata").mkdir()
    table = pl.DataFrame({"subject_id": [7, 7, 70, 70], "split": ["train", "tuning", "train", "train"]})
    table.write_parquet(tmp_path / "metadata" / "subject_splits.parquet")
    assert "column 'split': 1 subject(s) in two splits" in refused(tmp_path)


def test_no_shard_is_refused(tmp_path):
    (tmp_path / "data.csv").write_text("subject_id,time,code\n")
    assert "no shard; MEDS has data/**/*.parquet here" in refused(tmp_path)


def test_cut_files_are_refused(tmp_path):
    shard = write(tmp_path, frame(ROWS)) / "data" / "split0" / "0.parquet"
    whole = shard.read_bytes()
    for size in (0, 3, 8, len(whole) // 2, len(whole) - 1):
        shard.write_bytes(whole[:size])
        assert "0.parquet: not a whole parquet file" in refused(tmp_path)


FAULTS = {  # P37
    "truncated": "not a whole parquet file",
    "csv_renamed": "not a whole parquet file",
    "no_subject_id": "no column 'subject_id'",
    "null_subject": "column 'subject_id' holds 1 null(s)",
    "value_as_string": "column 'numeric_value' is String",
}


@pytest.mark.parametrize("name", FAULTS)
def test_broken_files(faults_dir, tmp_path, name):
    shutil.copy(faults_dir / "parquet" / f"{name}.parquet", tmp_path / "0.parquet")
    message = refused(tmp_path)
    assert FAULTS[name] in message and "0.parquet" in message


def test_unsorted_files_give_what_the_sorted_file_gives(faults_dir, tmp_path):  # P38
    file = faults_dir / "parquet" / "unsorted_times.parquet"
    table = pl.read_parquet(file)
    assert not table.equals(table.sort("subject_id", "time"))
    as_is = read(write(tmp_path / "a", table))
    in_order = read(write(tmp_path / "b", table.sort("subject_id", "time")))
    assert as_is.people.equals(in_order.people)
    a, b = (standard.tables["data"].collect().sort("id", "time") for standard in (as_is, in_order))
    assert a.equals(b) and len(a) == 4


def test_mimic_demo(data_dir):
    folder = data_dir / "mimic-iv-demo-meds"
    standard = read(folder)
    people, table = standard.people, standard.tables["data"].collect()
    assert (len(people), len(table)) == (100, 916_166)
    assert people["death"].count() == 31 and people["birth_bare"].all()
    assert people["GENDER"].value_counts().sort("GENDER").rows() == [("F", 43), ("M", 57)]
    assert people["split"].value_counts().sort("split").rows() == [
        ("held_out", 15),
        ("train", 70),
        ("tuning", 15),
    ]
    assert people.filter(pl.col("death").is_not_null(), pl.col("last") < pl.col("death")).is_empty()
    assert table["time"].null_count() == 100 and standard.flags == () and standard.parents is None
