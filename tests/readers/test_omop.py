"""The OMOP door: whatever the files are called and however they are written, the same people and events."""

import gzip
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from gnnpatient.errors import InputError

# Every table as text, as a CSV holds it. Person 1 has a stay with a diagnosis, a visit, drugs and laboratory
# values and dies; person 2 is only measured.
TABLES = {
    "person": """
person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth,birth_datetime,race_concept_id,\
race_source_value,ethnicity_concept_id,gender_source_value
1,8507,1950,3,4,,0,white,38003564,M
2,8532,1960,,,1960-02-03 04:05:00,0,,0,F
""",
    "observation_period": """
person_id,observation_period_start_date,observation_period_end_date
1,2010-01-01,2012-06-30
1,2012-07-01,2021-03-04
""",
    "visit_occurrence": """
visit_occurrence_id,person_id,visit_concept_id,visit_start_date,visit_start_datetime,visit_end_date,\
visit_end_datetime,visit_source_value
10,1,9201,2020-01-01,2020-01-01 08:00:00,2020-01-05,2020-01-05 10:30:00,in
11,1,9202,2020-02-01,,2020-02-01,,out
12,1,9201,2020-03-01,,,,in
13,1,9201,2020-04-01,,2020-04-03,,in
""",
    "condition_occurrence": """
person_id,condition_concept_id,condition_start_date,condition_start_datetime,condition_end_date,\
visit_occurrence_id,condition_source_value
1,200,2020-01-01,2020-01-01 09:00:00,,10,I50
1,200,2020-02-01,,2020-02-20,11,I50
1,0,2020-03-01,,,12,I51
1,201,2020-04-01,,,13,I52
1,201,2020-05-01,,,99,I52
1,,2020-05-01,,,, I53\x20
1,0,2020-05-01,,,,
,201,2020-05-01,,,,
1,201,May 2020,,,,
1,201,2020-05-01,,never,,
1,201,2020-01-07,,,10,late
""",
    "drug_exposure": """
person_id,drug_concept_id,drug_exposure_start_date,drug_exposure_end_date,quantity,dose_unit_source_value
1,300,2020-01-01,2020-01-03,2.5,mL
1,301,2020-01-01,,,
""",
    "measurement": """
person_id,measurement_concept_id,measurement_date,measurement_datetime,operator_concept_id,value_as_number,\
value_as_concept_id,unit_concept_id,unit_source_value,value_source_value,measurement_source_value
1,400,2020-01-01,2020-01-01 00:00:00,,12.5,0,8840,mg/dl,12.5,CRP
1,400,2020-01-01,2020-01-01 12:00:00.5,4171756,5,0,0,mg/l,<5,CRP
2,400,2020-01-01,2020-01-01 13:00:00,4172703,6,0,8999,,6,CRP
2,401,20200102,,,,4181412,,,pos,HIV
2,402,2020-01-02,2020-01-02T07:30,,,,,,turbid,LOOK
2,402,,,,nan,4999,,,clear,LOOK
""",
    "observation": """
person_id,observation_concept_id,observation_date,value_as_string,value_as_number
1,500,2020-01-01,two packs,
""",
    "procedure_occurrence": """
person_id,procedure_concept_id,procedure_date,procedure_source_value
1,600,2020-01-02,47.11
""",
    "device_exposure": """
person_id,device_concept_id,device_exposure_start_date,device_exposure_end_date
1,700,2020-01-02,2020-01-04
""",
    "note": """
person_id,note_date,note_class_concept_id,note_type_concept_id,note_title,note_text
1,2020-01-03,800,801,Letter,"Dear ""colleague"",
well."
1,2020-01-03,0,801,Letter,x
1,2020-01-03,0,0,Letter,\x20
""",
    "death": """
person_id,death_date,death_datetime,cause_concept_id,cause_source_value
1,2021-03-04,,200,I50
""",
    "concept": """
concept_id,concept_name
0,No matching concept
200,Heart failure
400,CRP
4181412,Positive
8507,MALE
8840,milligram per deciliter
900,Disease of the heart
800,Discharge summary
38003564,Not Hispanic or Latino
""",
    "concept_ancestor": """
ancestor_concept_id,descendant_concept_id,min_levels_of_separation
200,200,0
900,200,1
901,900,1
901,200,2
902,401,1
903,12345,1
""",
}
TABLES = {name: text.removeprefix("\n") for name, text in TABLES.items()}
OURS = {
    "time",
    "time_bare",
    "known",
    "known_bare",
    "until",
    "until_bare",
    "code",
    "value",
    "unit",
    "text",
    "refused",
}


def write(folder: Path, **changes) -> Path:
    """All tables as CSV; a change is another text, or None for no file."""
    for name, text in {**TABLES, **changes}.items():
        if text is not None:
            (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def read(folder: Path):
    from gnnpatient.readers import omop

    return omop.read(folder)


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        read(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def shown(folder: Path, name: str, *columns: str) -> list[tuple]:
    return read(folder).tables[name].select(columns).collect().rows()


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path)


def test_people(folder):
    one, two = read(folder).people.rows(named=True)
    assert one == {
        "id": "1",
        "birth": datetime(1950, 3, 4),
        "birth_bare": True,
        "gender": "MALE",
        "race": "white",
        "ethnicity": "Not Hispanic or Latino",
        "death": datetime(2021, 3, 4),
        "death_bare": True,
        "observation_start": datetime(2010, 1, 1),
        "observation_start_bare": True,
        "observation_end": datetime(2021, 3, 4),
        "observation_end_bare": True,
        "last": datetime(2021, 3, 4, 23, 59, 59),
    }
    assert (two["birth"], two["birth_bare"]) == (datetime(1960, 2, 3, 4, 5), False)
    assert two["gender"] == "F"  # 8532 has no row in the concept table, the source has a word for it
    assert two["race"] is None and two["ethnicity"] is None  # concept 0 is no answer
    assert two["death"] is None and two["observation_end"] is None
    assert two["last"] == datetime(2020, 1, 2, 23, 59, 59)  # the bare date, not 07:30 of that day


@pytest.mark.parametrize(
    ("written", "birth"),
    [
        ("1970,,", datetime(1970, 7, 1)),
        ("1970,,9", datetime(1970, 7, 1)),
        ("1970,2,", datetime(1970, 2, 15)),
        ("1970,2,28", datetime(1970, 2, 28)),
        ("1970,2,30", None),
        (",2,3", None),
    ],
)
def test_births_with_parts_missing(tmp_path, written, birth):
    person = f"person_id,year_of_birth,month_of_birth,day_of_birth\n5,{written}\n"
    door = read(write(tmp_path, person=person))
    (row,) = door.people.rows(named=True)
    assert row["birth"] == birth and row["birth_bare"] is (birth is not None)
    said = "person.csv: 1 birth(s) that are no date: taken as missing"
    assert (said in door.flags) is (written == "1970,2,30")


def test_codes(folder):
    def codes(name):
        return [code for (code,) in shown(folder, name, "code")]

    assert codes("visit_occurrence") == ["VISIT//9201", "VISIT//9202", "VISIT//9201", "VISIT//9201"]
    heart = "CONDITION//200 Heart failure"
    assert codes("condition_occurrence")[:7] == [
        *(heart, heart, "CONDITION//I51", "CONDITION//201", "CONDITION//201", "CONDITION//I53", None)
    ]
    assert codes("drug_exposure") == ["DRUG//300", "DRUG//301"]
    assert codes("procedure_occurrence") == ["PROCEDURE//600"] and codes("device_exposure") == ["DEVICE//700"]
    assert codes("note") == ["NOTE//800 Discharge summary", "NOTE//801", "NOTE//Letter"]
    assert codes("death") == ["DEATH"] and codes("observation") == ["OBSERVATION//500"]


def test_measurements(folder):
    crp = "MEASUREMENT//400 CRP"
    assert shown(folder, "measurement", "id", "code", "value", "unit", "text") == [
        ("1", crp, 12.5, "milligram per deciliter", None),
        ("1", crp, 5.0, "mg/l", "<5.0"),  # reported as below 5
        ("2", crp, 6.0, "8999", None),
        ("2", "MEASUREMENT//401//Positive", None, None, None),
        ("2", "MEASUREMENT//402", None, None, "turbid"),
        ("2", "MEASUREMENT//402//4999", None, None, None),
    ]
    assert shown(folder, "measurement", "time", "time_bare") == [
        (datetime(2020, 1, 1), True),
        (datetime(2020, 1, 1, 12, 0, 0, 500_000), False),
        (datetime(2020, 1, 1, 13), False),
        (datetime(2020, 1, 2), True),
        (datetime(2020, 1, 2, 7, 30), False),
        (None, False),  # untimed: the caller decides
    ]
    assert read(folder).flags == (
        "measurement.csv: 1 value(s) are text, no number",
        "observation.csv: 1 value(s) are text, no number",
        "measurement.csv: 1 value(s) reported as < or >: kept as that number",
    )


def test_a_number_that_is_none_is_text(tmp_path):
    head = "person_id,measurement_concept_id,measurement_date,value_as_number\n"
    write(tmp_path, measurement=head + "1,400,2020-01-01,<5\n1,400,2020-01-01,5\n")
    assert shown(tmp_path, "measurement", "value", "text") == [(None, "<5"), (5.0, None)]


def test_the_other_values_and_texts(folder):
    assert shown(folder, "drug_exposure", "value", "unit") == [(2.5, "mL"), (None, None)]
    assert shown(folder, "observation", "value", "text") == [(None, "two packs")]
    assert shown(folder, "note", "text") == [('Dear "colleague",\nwell.',), ("x",), (None,)]
    assert shown(folder, "death", "text", "time_bare") == [("Heart failure", True)]


def test_intervals(folder):
    assert shown(folder, "drug_exposure", "until", "until_bare") == [
        (datetime(2020, 1, 3), True),
        (None, False),
    ]
    assert shown(folder, "device_exposure", "until", "until_bare") == [(datetime(2020, 1, 4), True)]
    first, second, *_ = shown(folder, "visit_occurrence", "until", "until_bare")
    assert first == (datetime(2020, 1, 5, 10, 30), False) and second == (datetime(2020, 2, 1), True)


def test_a_code_of_a_stay_is_known_when_the_stay_ends(folder):
    rows = shown(folder, "condition_occurrence", "time", "known", "known_bare", "refused")
    assert rows[0] == (datetime(2020, 1, 1, 9), datetime(2020, 1, 5, 10, 30), False, None)
    assert rows[1] == (datetime(2020, 2, 1), datetime(2020, 2, 1), True, None)  # not a stay
    assert rows[2][3] == "inpatient visit without an end"
    assert rows[3] == (datetime(2020, 4, 1), datetime(2020, 4, 3), True, None)
    assert rows[4] == (datetime(2020, 5, 1), datetime(2020, 5, 1), True, None)  # a visit nobody knows
    assert rows[10] == (datetime(2020, 1, 7), datetime(2020, 1, 7), True, None)  # never before its own time
    others = set(read(folder).tables) - {"condition_occurrence"}
    assert not any("known" in read(folder).tables[name].collect_schema() for name in others)


def test_without_visits_it_says_that_codes_are_known_early(tmp_path):
    door = read(write(tmp_path, visit_occurrence=None))
    assert any(flag.startswith("condition_occurrence.csv: no table visit_occurrence") for flag in door.flags)
    assert "known" not in door.tables["condition_occurrence"].collect_schema()


def test_rows_that_cannot_be_used_say_why(folder):
    why = [reason for (reason,) in shown(folder, "condition_occurrence", "refused")]
    assert why[6:10] == [
        "no concept and no source value",
        "no patient id",
        "time is not a date",
        "end is not a date",
    ]
    assert [i for i, reason in enumerate(why) if reason is None] == [0, 1, 3, 4, 5, 10]


def test_parents_climb_from_the_codes_that_occur(folder):
    assert read(folder).parents.rows() == [
        ("CONDITION//200 Heart failure", "CONDITION//900 Disease of the heart"),
        ("CONDITION//900 Disease of the heart", "CONDITION//901"),
        ("MEASUREMENT//401", "MEASUREMENT//902"),
        ("MEASUREMENT//401//Positive", "MEASUREMENT//401"),
        ("MEASUREMENT//402//4999", "MEASUREMENT//402"),
    ]


def test_no_ancestors_no_parents(tmp_path):
    assert read(write(tmp_path, concept_ancestor=None)).parents is None
    circle = "ancestor_concept_id,descendant_concept_id,min_levels_of_separation\n1,200,1\n200,1,1\n"
    pairs = read(write(tmp_path, concept_ancestor=circle)).parents.rows()
    heart = "CONDITION//200 Heart failure"
    assert {(heart, "CONDITION//1"), ("CONDITION//1", heart)} <= set(pairs)  # and it ends


def as_parquet(folder: Path, name: str, text: str) -> None:
    table = pl.read_csv(text.encode(), infer_schema_length=None, null_values=[""], try_parse_dates=False)
    if "visit_occurrence_id" in table.columns:  # as pandas writes whole numbers with gaps
        table = table.cast({"visit_occurrence_id": pl.Float64, "person_id": pl.Float64})
    if name == "observation_period":
        table = table.with_columns(pl.col("^.*_date$").str.to_date())
    if name == "visit_occurrence":
        stamp = pl.col("visit_start_datetime").str.to_datetime("%Y-%m-%d %H:%M:%S")
        table = table.with_columns(stamp.dt.replace_time_zone("UTC"))
    table.write_parquet(folder / f"{name}.parquet")


def as_tsv(folder: Path, name: str, text: str) -> None:
    table = pl.read_csv(text.encode(), infer_schema=False, null_values=[""])
    table.write_csv(folder / f"{name}.csv", separator="\t")


def as_gzip(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))


def as_shouted(folder: Path, name: str, text: str) -> None:
    head, rows = text.split("\n", 1)
    (folder / f"{name.upper()}.CSV").write_bytes(b"\xef\xbb\xbf" + f"{head.upper()}\r\n{rows}".encode())


@pytest.mark.parametrize("form", [as_parquet, as_tsv, as_gzip, as_shouted])
def test_however_it_is_written_it_says_the_same(folder, tmp_path_factory, form):
    other = tmp_path_factory.mktemp("other")
    for name, text in TABLES.items():
        form(other, name, text)
    one, two = read(folder), read(other)
    assert two.people.equals(one.people) and two.parents.equals(one.parents)
    assert list(two.tables) == list(one.tables)
    for name in one.tables:
        a, b = (door.tables[name].collect() for door in (one, two))
        assert a.columns == b.columns
        ours = ["id", *(column for column in a.columns if column in OURS)]
        assert b.select(ours).equals(a.select(ours)), name


def test_the_order_of_rows_is_nothing(folder, tmp_path_factory):
    turned = {}
    for name, text in TABLES.items():
        if name != "note":  # its cells hold line breaks
            head, *rows = text.splitlines()
            turned[name] = "\n".join([head, *rows[::-1]]) + "\n"
    one, two = read(folder), read(write(tmp_path_factory.mktemp("turned"), **turned))
    assert two.people.equals(one.people) and two.parents.equals(one.parents)
    for name in set(one.tables) - {"note"}:
        assert two.tables[name].collect().reverse().equals(one.tables[name].collect())


def test_columns_without_content_and_categories(folder):
    """As parquet has them: a column of nothing has no type, a column of few words is a category."""
    table = pl.read_csv(TABLES["measurement"].encode(), infer_schema=False, null_values=[""])
    table = table.with_columns(operator_concept_id=None).cast({pl.String: pl.Categorical})
    was = read(folder).tables["measurement"].collect()
    (folder / "measurement.csv").unlink()
    table.write_parquet(folder / "measurement.parquet")
    door = read(folder)
    ours = ["id", *sorted(OURS & set(was.columns))]
    words = ("measurement.parquet", "observation.csv")
    assert door.flags == tuple(f"{file}: 1 value(s) are text, no number" for file in words)
    bound = pl.col("text").replace("<5.0", None)  # the operator, of which nothing is left
    assert door.tables["measurement"].collect().select(ours).equals(was.select(ours).with_columns(bound))


def test_a_column_alone_is_what_it_is_among_all(folder):
    for rows in read(folder).tables.values():
        table = rows.collect()
        for name in table.columns:
            assert rows.select(name).collect()[name].equals(table[name])


def test_conditions_without_a_visit_column(tmp_path):
    condition = "person_id,condition_concept_id,condition_start_date\n1,200,2020-01-01\n1,200,2020-02-20\n"
    write(tmp_path, condition_occurrence=condition)
    known = [(datetime(2020, 1, 5, 10, 30), None), (datetime(2020, 2, 20), None)]
    assert shown(tmp_path, "condition_occurrence", "known", "refused") == known


VISITS = """visit_occurrence_id,person_id,visit_concept_id,visit_start_date,visit_end_date
1,1,9201,2020-01-01,2020-01-05
2,1,32037,2020-01-02,2020-01-03
3,1,9202,2020-01-01,2020-01-31
4,2,9201,2020-01-01,2020-01-31
5,1,9201,2020-03-01,
6,1,9201,2020-04-01,2020-04-02
7,1,9201,2020-04-02,2020-04-09
8,1,0,2020-06-01,2020-06-09
"""
DISCHARGED = [  # visit, day of the condition, when it is known, why it is refused
    ("1", "2020-01-02", datetime(2020, 1, 5), None),
    ("2", "2020-01-02", datetime(2020, 1, 3), None),  # its own visit, where there is one
    ("3", "2020-01-02", datetime(2020, 1, 2), None),  # seen as an outpatient
    ("", "2020-01-02", datetime(2020, 1, 5), None),  # of two stays the one that ends last
    ("99", "2020-01-02", datetime(2020, 1, 5), None),  # leads nowhere
    ("99.0", "2020-01-05", datetime(2020, 1, 5), None),
    ("4", "2020-01-02", datetime(2020, 1, 5), None),  # a visit of somebody else is none of this person
    ("", "2020-01-01", datetime(2020, 1, 5), None),
    ("", "2020-01-06", datetime(2020, 1, 6), None),  # in no stay
    ("", "2019-12-31", datetime(2019, 12, 31), None),
    ("", "2020-03-15", datetime(2020, 3, 15), "inpatient visit without an end"),
    ("5", "2020-03-15", datetime(2020, 3, 15), "inpatient visit without an end"),
    ("", "2020-04-02", datetime(2020, 4, 9), None),  # moved on that day
    ("", "2020-05-15", datetime(2020, 5, 15), None),  # not in the stay without an end: others came since
    ("8", "2020-06-02", datetime(2020, 6, 2), None),
]


@pytest.mark.parametrize(("visit", "day", "known", "why"), DISCHARGED)
def test_a_code_without_a_visit_is_known_at_the_end_of_the_stay_that_it_lies_in(
    tmp_path, visit, day, known, why
):
    header = "person_id,condition_concept_id,condition_start_date,visit_occurrence_id"
    write(tmp_path, visit_occurrence=VISITS, condition_occurrence=f"{header}\n1,200,{day},{visit}\n")
    assert shown(tmp_path, "condition_occurrence", "known", "refused") == [(known, why)]
    told = visit not in ("1", "2", "3", "5", "8")
    lies = "in no inpatient stay; known at their time"
    if known.date().isoformat() != day or why or day == "2020-01-05":
        lies = "in an inpatient stay by their day; known at its end"
    said = f"condition_occurrence.csv: 1 code(s) without a visit of that person lie {lies}"
    assert read(tmp_path).decides == ((said,) if told else ())


def test_a_code_in_a_stay_is_known_at_its_end_whatever_the_clock_says(tmp_path):
    """Judged by the day: a code of the afternoon of the day of discharge is known when it was given."""
    header = "person_id,condition_concept_id,condition_start_date,condition_start_datetime"
    condition = f"{header}\n1,200,2020-01-01,2020-01-01 07:00:00\n1,200,2020-01-05,2020-01-05 15:00:00\n"
    write(tmp_path, condition_occurrence=condition)
    end = datetime(2020, 1, 5, 10, 30)
    assert shown(tmp_path, "condition_occurrence", "known") == [(end,), (datetime(2020, 1, 5, 15),)]


def test_source_columns_stay_by_their_name(folder):
    (names,) = {tuple(read(folder).tables["drug_exposure"].collect_schema())}
    assert set(names) >= {"drug_concept_id", "quantity", "dose_unit_source_value", "id", "code", "refused"}


def test_missing_and_empty_tables(tmp_path):
    head = {name: text.splitlines()[0] + "\n" for name, text in TABLES.items()}
    person = TABLES["person"]
    write(tmp_path, **{**dict.fromkeys(TABLES), "person": person})
    alone = read(tmp_path)
    assert len(alone.people) == 2 and not alone.tables and alone.flags == () and alone.parents is None
    assert not {"death", "last", "observation_end"} & set(alone.people.columns)
    empty = read(write(tmp_path, **{**head, "person": person}))
    assert all(rows.collect().is_empty() for rows in empty.tables.values()) and len(empty.tables) == 9
    assert empty.people["death"].to_list() == empty.people["last"].to_list() == [None, None]
    assert empty.people.schema["death_bare"] == pl.Boolean and empty.parents is None
    nothing = read(write(tmp_path, **{**head, "person": person, "death": ""}))
    assert "death" not in nothing.tables
    assert nothing.flags == ("death.csv: nothing in it, not even a header; taken as no table",)


def test_a_vocabulary_by_tabs_keeps_its_quotes(tmp_path):
    concept = 'concept_id\tconcept_name\n400\tthe "C\n8507\tmale\n'
    assert shown(write(tmp_path, concept=concept), "measurement", "code")[0] == ('MEASUREMENT//400 the "C',)


PERSON = TABLES["person"]
DRUG = "person_id,drug_concept_id,drug_exposure_start_date\n"
BAD = [  # tables that differ, and the message
    ({"person": None}, "no table person"),
    ({"person": PERSON.splitlines()[0] + "\n"}, "person.csv: no rows"),
    ({"person": "id\n1\n"}, "person.csv: no column 'person_id'"),
    ({"person": PERSON.replace("\n2,", "\n,")}, "column 'person_id' holds 1 null(s)"),
    ({"person": PERSON.replace("\n2,", "\n1,")}, "1 person(s) with two rows that differ"),
    ({"death": TABLES["death"] + "1,2021-03-05,,,\n"}, "table death: 1 person(s) with two different times"),
    ({"drug_exposure": "drug_concept_id,drug_exposure_start_date\n"}, "no column 'person_id'"),
    ({"drug_exposure": "person_id,drug_concept_id\n"}, "no column 'drug_exposure_start_date'"),
    ({"drug_exposure": "person_id,drug_exposure_start_date\n"}, "no column 'drug_concept_id'"),
    ({"drug_exposure": DRUG.replace("\n", ",until\n")}, "column 'until' has a name that is used here"),
    ({"drug_exposure": DRUG.replace("\n", ",Person_ID\n")}, "column 'person_id' appears twice"),
    ({"drug_exposure": DRUG + "1,300\n"}, "drug_exposure.csv: line 2 has 2 cells, the header 3"),
    ({"drug_exposure": DRUG + '1,"300,2020-01-01\n'}, "drug_exposure.csv: "),
    ({"drug_exposure": DRUG + '1,300,"2020-01-01\n1,300,2020-01-01\n'}, "a quote on line 2 is never closed"),
    # two that are never closed are an even number
    ({"drug_exposure": DRUG + '1,"300,2020-01-01\n1,"300,2020-01-02\n'}, "drug_exposure.csv: "),
    ({"drug_exposure": DRUG + "1,30\0,2020-01-01\n"}, "drug_exposure.csv: line 2 holds a NUL byte"),
    ({"concept": "concept_id\n1\n"}, "concept.csv: no column 'concept_name'"),
    ({"observation_period": "person_id\n1\n"}, "no observation_period_start_date"),
]


@pytest.mark.parametrize(("changes", "says"), BAD)
def test_what_is_not_omop_is_refused(tmp_path, changes, says):
    assert says in refused(write(tmp_path, **changes))


def test_repeated_rows_of_a_person_are_no_contradiction(tmp_path):
    again = PERSON + PERSON.splitlines()[1] + "\n"
    assert len(read(write(tmp_path, person=again, death=TABLES["death"] * 1)).people) == 2


def test_broken_files_are_refused(folder):
    (folder / "note.csv").write_bytes(TABLES["note"].replace("Letter", "Bücher").encode("latin1"))
    assert "note.csv: not utf-8" in refused(folder)
    (folder / "note.csv").unlink()
    (folder / "note.csv.gz").write_bytes(gzip.compress(TABLES["note"].encode() * 50)[:60])
    assert "note.csv.gz: " in refused(folder)
    (folder / "note.csv.gz").unlink()
    (folder / "note.parquet").write_bytes(TABLES["note"].encode())
    assert "note.parquet: not a whole parquet file" in refused(folder)
    (folder / "note.csv").write_text(TABLES["note"])
    assert "both note.csv and note.parquet; keep one of them" in refused(folder)


def test_synthea(data_dir):
    door = read(data_dir / "omop-synthea-1k")
    tables = {name: rows.collect() for name, rows in door.tables.items()}
    assert {name: len(table) for name, table in tables.items()} == {
        "visit_occurrence": 32_153,
        "condition_occurrence": 7_900,
        "drug_exposure": 29_518,
        "measurement": 199_514,
        "observation": 8_518,
        "procedure_occurrence": 17_333,
    }
    assert all(table["refused"].null_count() == len(table) for table in tables.values())
    assert all(table["time"].null_count() == 0 and table["time_bare"].all() for table in tables.values())
    assert tables["measurement"]["value"].null_count() == 0
    visits = pl.read_parquet(data_dir / "omop-synthea-1k" / "visit_occurrence.parquet")
    stays = visits.filter(pl.col("visit_concept_id") == 9201)["visit_occurrence_id"]
    condition = tables["condition_occurrence"]
    late = condition.filter(pl.col("known") > pl.col("time"))
    assert len(late) == 253 and late["visit_occurrence_id"].cast(pl.Int64).is_in(stays.implode()).all()
    assert len(door.people) == 1130 and door.people["birth"].null_count() == 0
    assert set(door.people["gender"]) == {"MALE", "FEMALE"} and "death" not in door.people.columns


def test_tiny(data_dir):
    door = read(data_dir / "omop-tiny")
    counts = {name: len(rows.collect()) for name, rows in door.tables.items()}
    assert counts == {
        "visit_occurrence": 68,
        "condition_occurrence": 105,
        "drug_exposure": 105,
        "measurement": 100,
        "procedure_occurrence": 105,
        "death": 0,
    }
    assert len(door.people) == 12 and door.people["death"].null_count() == 12
    assert "-4873075614181207858" in door.people["id"].to_list()  # 19 digits, none lost
    unnamed = door.tables["visit_occurrence"].filter(pl.col("refused").is_not_null()).collect()
    assert set(unnamed["refused"]) == {"no concept and no source value"} and len(unnamed) == 5


def test_a_year_of_two_digits_is_no_birth(tmp_path):
    births = "person_id,year_of_birth,month_of_birth\n1,60,7\n2,1960,\n"
    found = read(write(tmp_path, person=births, death=None))
    assert found.people["birth"].to_list() == [None, datetime(1960, 7, 1)]
    assert "person.csv: 1 birth(s) that are no date: taken as missing" in found.flags
