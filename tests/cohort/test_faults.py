"""Broken tables: refused in one line, or counted with a reason; never a silent wrong answer."""

from pathlib import Path

import polars as pl
import pytest

from gnnpatient.errors import Refused

HEAD = "subject_id,time,code,value,unit\n"
ROW = "P0001,2021-03-04T10:00,CRP,12.1,mg/L\n"
UNIT = 'unit = "unit"'


def lab(cohort):
    return cohort.events["lab"]


def refused(cohort) -> dict[str, int]:
    (account,) = (a for name, a in cohort.report["tables"].items() if name.startswith("labs"))
    assert account["rows"] == account["used"] + account["collapsed"] + sum(account["refused"].values())
    return account["refused"]


WHOLE = [  # a table that is refused, and the message
    (HEAD, "no rows"),
    ("", "no rows"),
    ("subject_id,time,code,value,value\n" + ROW, "column 'value' stands twice in the header"),
    (HEAD + ROW + "P0009,2021-01-01,CRP\n", "line 3 has 3 cells, the header 5"),
    (HEAD + ROW + "P0009,2021-01-01,CRP,1,mg/L,more\n", "line 3 has 6 cells, the header 5"),
    (HEAD + 'P0001,2021-01-01,"CRP,1,mg/L\n' + ROW, "a quote on line 2 is never closed"),
    (HEAD + ROW + 'P0001,2021-01-01,CRP,1,"mg/L\n' + ROW, "a quote on line 3 is never closed"),
    ((HEAD + "P0001,2021-03-04,Müller,1,µg/L\n").encode("latin1"), "not utf-8; set encoding"),
    ("subject_id;time;code;value\nP0001;2021-03-04;CRP;12,1\n", "separator = ';'"),
    (HEAD + 'P0001,2021-03-04,CRP,"12,1",mg/L\n', r"line 2: '12,1'; if that is a decimal comma"),
    (HEAD + ROW + "P0001,03/04/2021,CRP,1,mg/L\n", "line 3: '03/04/2021' is ambiguous"),
    (ROW + ROW, "no column"),
]


@pytest.mark.parametrize(("text", "message"), WHOLE)
def test_a_table_not_to_be_trusted_is_refused(reads, text, message):
    with pytest.raises(Refused, match=message) as error:
        reads(text)
    assert "\n" not in str(error.value) and "labs.csv" in str(error.value)


def test_what_the_options_say_is_done(reads):
    text = "subject_id;time;code;value\nP0001;2021-03-04;Müller;12,5\n".encode("latin1")
    how = '[tables."labs.csv"]\nencoding = "latin1"\nseparator = ";"\ndecimal = ","'
    cohort = reads(text, more=how)
    assert cohort.codes["lab"] == ("other", "Müller") and lab(cohort).value.tolist() == [12.5]


def test_bom_and_crlf_are_nothing(reads):
    plain = reads(HEAD + ROW)
    windows = reads(b"\xef\xbb\xbf" + (HEAD + ROW).replace("\n", "\r\n").encode())
    assert lab(plain).known.tolist() == lab(windows).known.tolist() and not refused(windows)


def test_exact_repeats_collapse_once_and_are_counted(reads):
    cohort = reads(HEAD + ROW + ROW + ROW)
    assert len(lab(cohort)) == 1 and cohort.report["tables"]["labs.csv"]["collapsed"] == 2


def test_missing_infinite_and_unreadable_values(reads):
    cells = ["1", "nan", "", "inf", "<5", "-4", "1e39"]
    cohort = reads(HEAD + "".join(f"P0001,2021-03-{i:02d},CRP,{c},mg/L\n" for i, c in enumerate(cells, 1)))
    assert refused(cohort) == {"value not a finite number": 3}
    assert lab(cohort).value[[0, 3]].tolist() == [1, -4] and len(lab(cohort)) == 4


def test_times_beyond_a_lifetime_are_counted(reads):
    cohort = reads(HEAD + ROW + "P0001,2199-01-01,CRP,1,mg/L\nP0001,1880-01-01,CRP,1,mg/L\n")
    assert sum(refused(cohort).values()) == 2 and len(lab(cohort)) == 1


def test_two_units_are_never_mixed(reads):
    text = HEAD + "P0001,2021-03-04,GLU,99,mg/dL\nP0001,2021-04-04,GLU,5.5,mmol/L\n"
    with pytest.raises(Refused, match=r"'GLU' comes in 'mg/dL' and 'mmol/L'; convert it"):
        reads(text, more=UNIT)
    said = '[units] "GLU" = { to = "mg/dL", from = { "mmol/L" = 18.0 } }'.replace("] ", "]\n")
    assert lab(reads(text, more=f"{UNIT}\n{said}")).value.tolist() == [99, 99]


def test_ids_are_verbatim(reads):
    names = ["0001", "1", "01", "P1", "P1 ", "p1"]
    cohort = reads(
        HEAD + "".join(f"{n},2021-03-04,CRP,{i},mg/L\n" for i, n in enumerate(names)),
        patients="subject_id,start\n" + "".join(f"{n},2021-01-01\n" for n in names),
    )
    assert sorted(cohort.ids) == sorted(names)
    assert {str(i): v for i, v in zip(cohort.ids, lab(cohort).value, strict=True)} == dict(
        zip(names, range(6), strict=True)
    )
    assert any("2 id(s) differ from another in case or blanks" in flag for flag in cohort.report["flags"])


def test_whole_float_ids_of_parquet_are_integers(reads):
    frame = pl.DataFrame(
        {"subject_id": [1.0, 2.0], "time": [1.0, 2.0], "code": ["a", "a"], "value": [1.0, 2.0]}
    )
    cohort = reads(frame, patients="subject_id\n1\n2\n", patient="")
    assert len(lab(cohort)) == 2


FRAME = {"subject_id": ["P0001", "P0002"], "time": [1.0, 2.0], "code": ["a", "b"], "value": [1.0, 2.0]}
PARQUET = [
    ({"subject_id": ["P0001", None]}, "column 'subject_id' holds 1 null"),
    ({"value": ["12.1", "<0.5"]}, "column 'value' holds text"),
]


@pytest.mark.parametrize(("change", "message"), PARQUET)
def test_parquet_with_a_wrong_column(reads, change, message):
    with pytest.raises(Refused, match=message):
        reads(pl.DataFrame(FRAME | change))


def test_parquet_that_is_none(reads, tmp_path):
    frame = pl.DataFrame(FRAME)
    reads(frame)
    file = tmp_path / "labs.parquet"
    whole = file.read_bytes()
    from gnnpatient import read_cohort

    for broken in (whole[: len(whole) // 2], b"a,b\n1,2\n", b""):
        file.write_bytes(broken)
        with pytest.raises(Refused, match=r"labs\.parquet"):
            read_cohort(tmp_path / "c.toml", tmp_path)


def test_unsorted_parquet_gives_the_same_columns(reads):
    frame = pl.DataFrame(FRAME | {"time": [5.0, 1.0]}).vstack(pl.DataFrame(FRAME))
    one, two = reads(frame), reads(frame.reverse())
    assert all(
        getattr(lab(one), name).tobytes() == getattr(lab(two), name).tobytes() for name in lab(one).columns()
    )


DEATH = """
[outcomes.death]
kind = "survival"
table = "patients.csv"
"""
FLAG = DEATH + 'causes = { death = { time = "time", flag = "event" } }'
STATES = (
    DEATH + 'status = { column = "event", time = "time", states = { dead = "death", alive = "censored" } }'
)
OUTCOMES = [
    (FLAG, "P1,10,dead\n", "flag 'dead' is not 0 or 1"),
    (FLAG, "P1,10,\n", "flag 'event' is empty; missing is not censored"),
    (FLAG, "P1,,1\n", "line 2: cause 'death' happened, but no time"),
    (FLAG, "P1,,0\n", "neither an event nor an end of observation"),
    (FLAG, "P1,-5,1\n", "line 2: the time lies before the origin"),
    (FLAG, "P1,10,1\nP1,99,0\n", "column 'time' differs between lines 2 and 3"),
    (FLAG, "P1,soon,1\n", "line 2: not a time"),
    (STATES, "P1,10,DEAD\n", "state 'DEAD' is not in states"),
    (STATES, "P1,10,\n", "no state or no time; missing is not censored"),
    (STATES, "P1,,dead\n", "no state or no time"),
]


@pytest.mark.parametrize(("outcome", "rows", "message"), OUTCOMES)
def test_outcomes_that_are_refused(reads, outcome, rows, message):
    with pytest.raises(Refused, match=message):
        reads(HEAD + "P1,1,CRP,1,x\n", patients="subject_id,time,event\n" + rows, patient="", more=outcome)


def test_time_zero_is_prevalent_and_words_get_a_meaning(reads):
    patients = "subject_id,time,event\nP1,0,dead\nP2,20,alive\nP3,30,dead\n"
    cohort = reads(HEAD + "P1,1,CRP,1,x\n", patients=patients, patient="", more=STATES)
    assert cohort.outcomes["death"].event.tolist() == [1, 0, 1]
    assert cohort.at(0).followed("death").ids.tolist() == ["P2", "P3"]


def test_an_origin_that_is_no_date(reads):
    for start in ("45", "", "yesterday"):
        with pytest.raises(Refused, match="line 2: not a date; every patient needs a day 0"):
            reads(HEAD + ROW, patients=f"subject_id,start\nP0001,{start}\n")
    with pytest.raises(Refused, match="name the column of day 0 as origin"):
        reads(HEAD + ROW, patient="")


# ---- the same kinds of fault as files of the corpus


def test_the_corpus_of_tables(reads, corpus):
    for name, message in {
        "ragged": "line 6 has 3 cells",
        "unclosed_quote": "quote on line 6",
        "dup_header": "stands twice",
        "header_only": "no rows",
        "empty": "no rows",
        "latin1": "set encoding",
        "decimal_comma": "separator",
        "dates_mixed": "ambiguous",
    }.items():
        with pytest.raises(Refused, match=message):
            reads(corpus(f"csv/{name}.csv"))
    with pytest.raises(Refused, match="comes in"):
        reads(corpus("csv/units_mixed.csv"), more=UNIT)
    assert refused(reads(corpus("csv/nan_inf.csv"))) == {"value not a finite number": 1}
    assert (
        lab(reads(corpus("csv/dup_rows.csv"))).value.tolist()
        == lab(reads(corpus("csv/ok_labs.csv"))).value.tolist()
    )


@pytest.mark.parametrize(
    "name", ["truncated", "csv_renamed", "no_subject_id", "null_subject", "value_as_string"]
)
def test_the_corpus_of_parquet(faults_dir, tmp_path, name):
    from gnnpatient import read_cohort

    text = (Path(__file__).parent / "conftest.py").read_text()
    assert "SPEC" in text
    (tmp_path / f"{name}.parquet").write_bytes((faults_dir / "parquet" / f"{name}.parquet").read_bytes())
    (tmp_path / "patients.csv").write_text("subject_id,start\n1,2021-01-01\n2,2021-01-01\n")
    (tmp_path / "c.toml").write_text(
        'cohort = "c"\n[patient]\ntable = "patients.csv"\nkey = "subject_id"\norigin = "start"\n'
        f'[nodes.lab]\ntable = "{name}.parquet"\ntime = "time"\ncode = "code"\nvalue = "numeric_value"\n'
    )
    with pytest.raises(Refused, match=f"{name}.parquet"):
        read_cohort(tmp_path / "c.toml", tmp_path)


def test_the_late_lab_of_the_corpus_moves_nothing(corpus, tmp_path):
    from gnnpatient import build_graphs, read_cohort

    (tmp_path / "c.toml").write_text(
        'cohort = "c"\n[patient]\ntable = "t.csv"\nkey = "subject_id"\norigin = "index_time"\n'
        '[nodes.lab]\ntable = "t.csv"\ntime = "lab_time"\ncolumns = { crp = "mg/L" }\n'
        '[outcomes.event]\nkind = "survival"\ntable = "t.csv"\ncauses = { event = { time = "event_time" } }\n'
    )
    text, values = corpus("csv/labs_after_event.csv").decode(), []
    for crp in ("200", "1e9"):
        (tmp_path / "t.csv").write_text(text.replace(",200", f",{crp}"))
        cohort = read_cohort(tmp_path / "c.toml", tmp_path)
        at = cohort.outcomes["event"].time / 86_400
        values.append(build_graphs(cohort.at(at, patient=cohort.ids))["lab"].value.tolist())
    assert values == [[4.0], [4.0]]


def test_a_kind_of_which_every_row_is_refused(reads):
    from gnnpatient import build_graphs

    cohort = reads(HEAD + "NOBODY,2021-03-04,CRP,1,mg/L\n", more=UNIT)
    assert refused(cohort) == {"patient not in the patient table": 1} and len(lab(cohort)) == 0
    for patients in (None, list(range(5)) * 10):  # few asks, and many
        graphs = build_graphs(cohort.at(90, patients))
        assert len(graphs["lab"]) == len(graphs["timepoint"]) == 0 and graphs.last["lab"].value.shape[1] == 1
    assert cohort.patient("P0001").to_networkx().number_of_nodes() == 1
