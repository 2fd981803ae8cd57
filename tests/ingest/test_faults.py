"""Broken tables and bundles: refused in one line, or counted with a reason; never a silent wrong answer.

The numbers P19 to P42 are those of the list of faults that the package must survive. Each is built here, and
read again from the corpus of broken files where there is one.
"""

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from gnnpatient.errors import InputError

HEAD = "subject_id,time,code,value,unit\n"
ROW = "P0001,2021-03-04T10:00,CRP,12.1,mg/L\n"
UNIT = 'unit = "unit"'
FACTORS = """
[units]
GLU = { to = "mg/dL", from = { "mmol/L" = 18.016 } }
CREA = { to = "mg/dL", from = { "umol/L" = 0.011309 } }
"""
NAN = float("nan")
ODD, VALUE = "time is not days, ISO 8601 or within 125 years of day 0", "value not a finite number"


def lab(cohort):
    return cohort.events["lab"]


def refused(cohort) -> dict[str, int]:
    (account,) = (a for name, a in cohort.report["tables"].items() if name.startswith("labs"))
    assert account["rows"] == account["used"] + account["collapsed"] + sum(account["refused"].values())
    return account["refused"]


def columns_of(cohort) -> dict[str, bytes]:
    """The rows of a cohort, bit for bit."""
    return {name: column.tobytes() for name, column in lab(cohort).columns().items()}


def print_of(graphs) -> str:
    """A hash of everything that a model sees of graphs."""
    found = hashlib.sha256()
    for kind, nodes in graphs.nodes.items():
        for name, column in sorted(vars(nodes).items()):
            if hasattr(column, "numpy"):
                found.update(f"{kind} {name} {tuple(column.shape)}".encode() + column.numpy().tobytes())
    for edge, pairs in graphs.edges.items():
        found.update(str(edge).encode() + pairs.numpy().tobytes())
    return found.hexdigest()


@pytest.fixture
def alone(tmp_path):
    """Read a table that names its own patients: `patient` and `more` go into the TOML."""

    def read(text, *, patient: str = "", more: str = ""):
        from gnnpatient import read_cohort

        (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        (tmp_path / "c.toml").write_text(
            f'cohort = "c"\n[patient]\ntable = "t.csv"\nkey = "subject_id"\n{patient}\n{more}\n'
        )
        return read_cohort(tmp_path / "c.toml", tmp_path)

    return read


LABS = '[nodes.lab]\ntable = "t.csv"\ntime = "time"\ncode = "code"\nvalue = "value"\n'


# ---- a table not to be trusted is refused whole

WHOLE = {
    "p21_decimal_comma": (
        HEAD + 'P0001,2021-03-04,CRP,"12,1",mg/L\n',
        r"line 2: '12,1'; if that is a decimal comma, set decimal",
    ),
    "p21_semicolon": (
        "subject_id;time;code;value\nP0001;2021-03-04;CRP;12,1\n",
        "line 2 has 2 cells, the header 1; set separator = ';'",
    ),
    "p22_latin1": ((HEAD + "P0001,2021-03-04,Müller,1,µg/L\n").encode("latin1"), "not utf-8; set encoding"),
    "p23_cell_too_few": (HEAD + ROW + "P0009,2021-01-01,CRP\n", "line 3 has 3 cells, the header 5"),
    "p23_cell_too_many": (
        HEAD + ROW + "P0009,2021-01-01,CRP,1,mg/L,more\n",
        "line 3 has 6 cells, the header 5",
    ),
    "p23_unclosed_quote": (HEAD + 'P0001,2021-01-01,"CRP,1,mg/L\n' + ROW, "quote on line 2 is never closed"),
    "p23_unclosed_in_the_last_cell": (
        HEAD + ROW + 'P0001,2021-01-01,CRP,1,"mg/L\n' + ROW,
        "quote on line 3 is never closed",
    ),
    # their number is even, the cells are as many as the header has, and two patients would be gone
    "p23_two_unclosed_quotes": (
        HEAD + ROW + 'P0001,1,"CRP,1,mg/L\n' + ROW + 'P0002,1,"GLU,2,mg/L\n' + ROW,
        "quote on line 3 is never closed",
    ),
    "p24_doubled_column": (
        "subject_id,time,code,value,value\n" + ROW,
        "column 'value' appears twice in the header",
    ),
    "p25_header_only": (HEAD, "no rows"),
    "p25_header_without_an_end": (HEAD.strip(), "no rows"),
    "p25_empty": ("", "no rows"),
    "p28_ambiguous": (HEAD + ROW + "P0001,03/04/2021,CRP,1,mg/L\n", "line 3: '03/04/2021' is ambiguous"),
    "no_header": (ROW + ROW, "no column"),
}


@pytest.mark.parametrize(("text", "message"), WHOLE.values(), ids=WHOLE)
def test_a_table_not_to_be_trusted_is_refused(reads, text, message):
    with pytest.raises(InputError, match=message) as error:
        reads(text)
    assert "\n" not in str(error.value) and "labs.csv" in str(error.value)


WHOLE_CORPUS = {
    "p21": ("decimal_comma", "line 2 .* set separator = ';'"),
    "p22": ("latin1", "set encoding"),
    "p23_ragged": ("ragged", "line 6 has 3 cells"),
    "p23_quote": ("unclosed_quote", "quote on line 6 is never closed"),
    "p24": ("dup_header", "'value' appears twice"),
    "p25_header": ("header_only", "no rows"),
    "p25_empty": ("empty", "no rows"),
    "p28": ("dates_mixed", "line 2: '03/04/2021' is ambiguous"),
}


@pytest.mark.parametrize(("name", "message"), WHOLE_CORPUS.values(), ids=WHOLE_CORPUS)
def test_the_corpus_of_tables_is_refused(reads, corpus, name, message):
    with pytest.raises(InputError, match=message) as error:
        reads(corpus(f"csv/{name}.csv"))
    assert "\n" not in str(error.value) and "labs.csv" in str(error.value)


# ---- P19, P20: values


def test_p19_missing_infinite_and_unreadable_values(reads):
    cells = ["1", "nan", "", "inf", "<5", "-4", "1e39"]
    cohort = reads(HEAD + "".join(f"P0001,2021-03-{i:02d},CRP,{c},mg/L\n" for i, c in enumerate(cells, 1)))
    assert refused(cohort) == {VALUE: 2}  # inf, and what no float32 holds; <5 is a bound
    assert lab(cohort).value.dtype == "float32"
    assert [None if v != v else v for v in lab(cohort).value.tolist()] == [1, None, None, 5, -4]
    assert lab(cohort).bound.tolist() == [0, 0, 0, -1, 0]


def test_p19_a_negative_among_positive_is_flagged(reads):
    from gnnpatient.study.describe import distributions

    cells = ["12.1", "20.4", "3.3", "-4"]
    cohort = reads(HEAD + "".join(f"P0001,2021-03-{i:02d},CRP,{c},mg/L\n" for i, c in enumerate(cells, 1)))
    (row,) = [row.to_dict() for row in distributions(cohort)]
    assert row["flags"] == ["negative: 1 of 4 values, the lowest -4; the rest is not"]


def test_p19_corpus(reads, corpus):
    from gnnpatient.study.describe import distributions

    cohort = reads(corpus("csv/nan_inf.csv"))
    assert refused(cohort) == {VALUE: 1} and lab(cohort).value.dtype == "float32"
    assert sorted(v for v in lab(cohort).value.tolist() if v == v) == pytest.approx([-4, 3.3, 7, 12.1, 20.4])
    (row,) = [row.to_dict() for row in distributions(cohort)]
    assert row["missing"] == pytest.approx(2 / 7) and row["flags"][0].startswith("negative: 1 of 5")


def test_p20_two_units_are_never_mixed(reads):
    text = HEAD + "P0001,2021-03-04,GLU,99,mg/dL\nP0001,2021-04-04,GLU,5.495,mmol/L\n"
    with pytest.raises(InputError, match=r"'GLU' comes in 'mg/dL' and 'mmol/L'; convert it"):
        reads(text, more=UNIT)
    cohort = reads(text, more=UNIT + FACTORS)
    assert lab(cohort).value.tolist() == pytest.approx([99, 99], abs=0.01)
    assert cohort.units["lab"] == ("", "mg/dL")


def test_p20_a_unit_that_the_table_of_units_does_not_name_is_counted(reads):
    text = HEAD + "P0001,2021-03-04,GLU,99,mg/dL\nP0001,2021-04-04,GLU,5.5,furlong\n"
    cohort = reads(text, more=UNIT + FACTORS)
    assert refused(cohort) == {"unknown unit": 1} and lab(cohort).value.tolist() == [99]


def test_p20_corpus(reads, corpus):
    with pytest.raises(InputError, match=r"'CREA' comes in .*1 more codes in two units"):
        reads(corpus("csv/units_mixed.csv"), more=UNIT)
    cohort = reads(corpus("csv/units_mixed.csv"), more=UNIT + FACTORS)
    code = [cohort.codes["lab"][c] for c in lab(cohort).code]
    found = {name: [v for c, v in zip(code, lab(cohort).value, strict=True) if c == name] for name in code}
    assert found["GLU"] == pytest.approx([99, 99], abs=0.1)
    assert found["CREA"] == pytest.approx([1, 1], abs=0.01)


# ---- P21 to P25: the text of a CSV


def test_p21_p22_what_the_options_say_is_done(reads):
    text = "subject_id;time;code;value\nP0001;2021-03-04;Müller;12,5\n".encode("latin1")
    how = '[tables."labs.csv"]\nencoding = "latin1"\nseparator = ";"\ndecimal = ","'
    cohort = reads(text, more=how)
    assert cohort.codes["lab"] == ("other", "Müller") and lab(cohort).value.tolist() == [12.5]


DECIMALS = {"12,1": 12.1, "-1,5": -1.5, "+1,5": 1.5, ",5": 0.5, "7": 7, "1.234": None, "1.234,5": None}


@pytest.mark.parametrize(("cell", "value"), DECIMALS.items(), ids=DECIMALS)
def test_p21_of_a_table_with_a_decimal_comma(reads, cell, value):
    """A point in it parts thousands, or is a slip: counted, never 1.234 for 1234."""
    text = f"subject_id;time;code;value\nP0001;2021-03-04;CRP;{cell}\n"
    cohort = reads(text, more='[tables."labs.csv"]\nseparator = ";"\ndecimal = ","')
    assert lab(cohort).value.tolist() == ([] if value is None else pytest.approx([value]))
    assert refused(cohort) == ({VALUE: 1} if value is None else {})


def test_p21_corpus_with_the_options(reads, corpus):
    how = '[tables."labs.csv"]\nseparator = ";"'
    with pytest.raises(InputError, match=r"line 2: '12,1'; if that is a decimal comma, set decimal"):
        reads(corpus("csv/decimal_comma.csv"), more=how)
    cohort = reads(corpus("csv/decimal_comma.csv"), more=f'{how}\ndecimal = ","')
    assert lab(cohort).value.tolist() == pytest.approx([12.1])


def test_p22_bom_and_crlf_are_nothing(reads):
    plain = reads(HEAD + ROW)
    windows = reads(b"\xef\xbb\xbf" + (HEAD + ROW).replace("\n", "\r\n").encode())
    assert columns_of(plain) == columns_of(windows) and not refused(windows)


def test_p22_corpus(reads, corpus):
    plain, windows = reads(corpus("csv/ok_labs.csv")), reads(corpus("csv/bom_crlf.csv"))
    assert columns_of(plain) == columns_of(windows) and plain.report == windows.report
    cohort = reads(corpus("csv/latin1.csv"), more='[tables."labs.csv"]\nencoding = "latin1"')
    assert cohort.codes["lab"] == ("other", "Müller-Test")


def test_p23_a_line_break_in_a_cell_is_no_fault(reads):
    cohort = reads(HEAD + 'P0001,2021-03-04,"C\nRP",1,mg/L\n\nP0001,2021-03-05,5" tube,2,mg/L\n')
    assert cohort.codes["lab"] == ("other", '5" tube', "C\nRP") and not refused(cohort)


def test_p24_exact_repeats_collapse_once_and_are_counted(reads):
    cohort = reads(HEAD + ROW + ROW + ROW)
    assert len(lab(cohort)) == 1 and cohort.report["tables"]["labs.csv"]["collapsed"] == 2


def test_p24_corpus(reads, corpus):
    plain, twice = reads(corpus("csv/ok_labs.csv")), reads(corpus("csv/dup_rows.csv"))
    assert columns_of(plain) == columns_of(twice)
    assert twice.report["tables"]["labs.csv"] == {"rows": 6, "used": 4, "collapsed": 2, "refused": {}}


# ---- P26: formulas

CELLS = ['=HYPERLINK("http://127.0.0.1/","x")', "@SUM(1+1)", "-1+2", "+1", "\t=1", "plain", "a=b"]


def test_p26_the_import_keeps_formulas_and_what_is_written_is_disarmed(reads, tmp_path):
    import csv

    from gnnpatient import read_cohort

    quoted = ['"' + cell.replace('"', '""') + '"' for cell in CELLS]
    text = "".join(f"{who},2021-03-04,{cell},1,x\n" for cell in quoted for who in ("P0001", "=NOBODY"))
    cohort = reads(HEAD.replace("unit", "=unit") + text)
    assert set(cohort.codes["lab"]) == {"other", *CELLS}
    read_cohort(tmp_path / "c.toml", tmp_path, quarantine=tmp_path / "q")
    with open(tmp_path / "q" / "labs.csv", newline="") as file:
        written = list(csv.reader(file))
    assert written[0] == ["line", "reason", "subject_id", "time", "code", "value", "'=unit"]
    assert [row[4] for row in written[1:]] == [
        cell if cell in ("plain", "a=b") else f"'{cell}" for cell in CELLS
    ]
    assert {row[2] for row in written[1:]} == {"'=NOBODY"}
    assert [row[0] for row in written[1:]] == [str(3 + 2 * i) for i in range(len(CELLS))]


def test_p26_corpus(reads, corpus, tmp_path):
    from gnnpatient import read_cohort

    cohort = reads(corpus("csv/formula_cells.csv"))
    assert set(cohort.codes["lab"]) == {"other", CELLS[0], CELLS[1]}
    read_cohort(tmp_path / "c.toml", tmp_path, quarantine=tmp_path / "q")
    (row,) = (tmp_path / "q" / "labs.csv").read_text().splitlines()[1:]
    assert row == "4,patient not in the patient table,'+P0002,2021-03-04,'-1+2,2,mg/L"


def test_p26_two_tables_of_nearly_one_name_and_columns_of_ours(tmp_path):
    """What is refused of one table does not overwrite that of another."""
    from gnnpatient import read_cohort

    (tmp_path / "p.csv").write_text("subject_id\nP1\n")
    nodes = ""
    for i, name in enumerate(("a b.csv", "a_b.csv")):
        (tmp_path / name).write_text(f"subject_id,time,code,line,reason\nP{i + 7},1,CRP,mine,own\n")
        nodes += f'[nodes.n{i}]\ntable = "{name}"\ntime = "time"\ncode = "code"\n'
    (tmp_path / "c.toml").write_text(f'cohort = "c"\n[patient]\ntable = "p.csv"\nkey = "subject_id"\n{nodes}')
    read_cohort(tmp_path / "c.toml", tmp_path, quarantine=tmp_path / "q")
    files = sorted((tmp_path / "q").iterdir())
    assert [file.name for file in files] == ["a_b.csv", "a_b_.csv"]
    for i, file in enumerate(files):
        assert file.read_text() == (
            "line,reason,subject_id,time,code,line (of the table),reason (of the table)\n"
            f"2,patient not in the patient table,P{i + 7},1,CRP,mine,own\n"
        )


# ---- P27: ids


def test_p27_ids_are_verbatim_and_near_equal_ones_are_flagged(reads):
    names = ["0001", "1", "01", "P1", "P1 ", "p1", "\uff301", "P\u200b1"]  # and a wide P, and a hidden blank
    cohort = reads(
        HEAD + "".join(f"{n},2021-03-04,CRP,{i},mg/L\n" for i, n in enumerate(names)),
        patients="subject_id,start\n" + "".join(f"{n},2021-01-01\n" for n in names),
    )
    assert sorted(cohort.ids) == sorted(names)
    assert {str(i): v for i, v in zip(cohort.ids, lab(cohort).value, strict=True)} == dict(
        zip(names, range(len(names)), strict=True)
    )
    assert cohort.report["flags"] == [
        "patients.csv: 4 id(s) differ from another in case or blanks only; kept apart"
    ]


def test_p27_a_row_is_given_to_nobody_with_nearly_its_id(reads):
    cohort = reads(
        HEAD
        + "".join(f"{n},2021-03-04,CRP,1,x\n" for n in ("P0001 ", " P0001", "p0001", "\u04200001", "P0002"))
    )
    assert lab(cohort).patient.tolist() == [1]
    assert refused(cohort) == {"patient not in the patient table": 4}


def test_p27_whole_float_ids_of_parquet_are_integers(reads):
    frame = pl.DataFrame(
        {"subject_id": [1.0, 2.0], "time": [1.0, 2.0], "code": ["a", "a"], "value": [1.0, 2.0]}
    )
    cohort = reads(frame, patients="subject_id\n1\n2\n", patient="")
    assert len(lab(cohort)) == 2


@pytest.mark.parametrize(
    ("name", "ids", "near"),
    [
        ("ids_leading_zero", ["0001", "01", "1"], "3 id(s) equal another but for case, blanks or leading"),
        ("ids_space_case", ["P0001", "P0001 ", "p0001"], "2 id(s) differ from another in case or blanks"),
    ],
)
def test_p27_corpus(alone, corpus, tmp_path, capsys, name, ids, near):
    from gnnpatient.cli import run

    cohort = alone(corpus(f"csv/{name}.csv"), patient='origin = "time"', more=LABS)
    assert cohort.ids.tolist() == ids and len(lab(cohort)) == 3
    assert run(["check", str(tmp_path / "c.toml"), "--json"]) == 0
    assert any(flag.find(near) >= 0 for flag in json.loads(capsys.readouterr().out)["flags"])


# ---- P28: dates


def test_p28_a_format_settles_what_is_ambiguous(reads):
    text = HEAD + "P0001,03/04/2021,CRP,1,x\nP0001,2021-04-03,CRP,2,x\nP0001,25/12/2021,CRP,3,x\n"
    for form, days in {"%d/%m/%Y": [92, 358], "%m/%d/%Y": [62]}.items():
        cohort = reads(text, more=f'[tables."labs.csv"]\ntime = {{ format = "{form}" }}')
        assert (lab(cohort).known // 86_400).tolist() == days
        (why,) = refused(cohort)
        assert why.startswith("time is not written in the format of its table")
        assert refused(cohort)[why] == 3 - len(days)


def test_p28_times_beyond_a_lifetime_are_counted(reads):
    cohort = reads(HEAD + ROW + "P0001,2199-01-01,CRP,1,mg/L\nP0001,1880-01-01,CRP,1,mg/L\n")
    assert refused(cohort) == {ODD: 2} and len(lab(cohort)) == 1


def test_p28_corpus(reads, corpus):
    with pytest.raises(InputError, match=f"none of 2 rows is used: 2 {ODD}"):
        reads(corpus("csv/dates_future.csv"))
    cohort = reads(corpus("csv/dates_mixed.csv"), more='[tables."labs.csv"]\ntime = { format = "%d/%m/%Y" }')
    assert (lab(cohort).known // 86_400).tolist() == [92, 358]  # 3 April and 25 December
    assert list(refused(cohort).values()) == [2]


# ---- P31 to P34: outcomes

DEATH = """
[outcomes.death]
kind = "survival"
table = "patients.csv"
"""
FLAG = DEATH + 'causes = { death = { time = "time", flag = "event" } }'
STATES = (
    DEATH + 'status = { column = "event", time = "time", states = { dead = "death", alive = "censored" } }'
)
OUTCOMES = {
    "p31_negative": (FLAG, "P1,-5,1\n", "line 2: the time lies before the origin"),
    "p31_negative_censored": (FLAG, "P1,1,1\nP2,-1,0\n", "line 3: the time lies before the origin"),
    "p31_missing_time": (FLAG, "P1,,1\n", "line 2: cause 'death' happened, but its time is missing"),
    "p31_missing_time_censored": (FLAG, "P1,,0\n", "line 2: neither an event nor an end of observation"),
    "p31_missing_time_state": (STATES, "P1,,dead\n", "line 2: no state or no time"),
    "p31_no_time": (FLAG, "P1,soon,1\n", "line 2: not a time"),
    "p33_words": (FLAG, "P1,10,dead\n", "line 2: flag 'dead' is not 0 or 1; give the words a meaning"),
    "p33_empty_flag": (FLAG, "P1,10,\n", "line 2: flag 'event' is empty; missing is not censored"),
    "p33_other_case": (STATES, "P1,10,DEAD\n", "line 2: state 'DEAD' is not in states"),
    "p33_empty_state": (STATES, "P1,10,\n", "line 2: no state or no time; missing is not censored"),
    "p34_two_outcomes": (FLAG, "P1,10,1\nP1,99,0\n", "column 'time' differs between lines 2 and 3, in 1 pat"),
    "p34_two_states": (STATES, "P1,10,dead\nP1,10,alive\n", "column 'event' differs between lines 2 and 3"),
}


@pytest.mark.parametrize(("outcome", "rows", "message"), OUTCOMES.values(), ids=OUTCOMES)
def test_outcomes_that_are_refused(reads, outcome, rows, message):
    with pytest.raises(InputError, match=message) as error:
        reads(HEAD + "P1,1,CRP,1,x\n", patients="subject_id,time,event\n" + rows, patient="", more=outcome)
    assert str(error.value).startswith("patients.csv: ") and "\n" not in str(error.value)


def test_p31_p33_time_zero_is_prevalent_and_words_get_a_meaning(reads):
    patients = "subject_id,time,event\nP1,0,dead\nP2,20,alive\nP3,30,dead\n"
    cohort = reads(HEAD + "P1,1,CRP,1,x\n", patients=patients, patient="", more=STATES)
    assert cohort.outcomes["death"].event.tolist() == [1, 0, 1]
    assert cohort.at(0).followed("death").ids.tolist() == ["P2", "P3"]
    assert {step["step"]: step["n"] for step in cohort.flow()}["event: death"] == 1  # of those at risk


SURVIVAL = FLAG.replace("patients.csv", "t.csv")
NAMED = STATES.replace("patients.csv", "t.csv")
OUTCOMES_CORPUS = {
    "p31_zero_negative": ("surv_zero_negative", SURVIVAL, "line 3: the time lies before the origin"),
    "p31_missing_time": (
        "surv_missing_time",
        SURVIVAL,
        "line 2: cause 'death' happened, but its time is missing",
    ),
    "p33_words": ("surv_event_strings", SURVIVAL, "line 2: flag 'dead' is not 0 or 1"),
    "p33_other_case": ("surv_event_strings", NAMED, "line 4: state 'DEAD' is not in states"),
    "p34_conflict": ("surv_dup_patient_conflict", SURVIVAL, "column 'time' differs between lines 2 and 3"),
}


@pytest.mark.parametrize(("name", "outcome", "message"), OUTCOMES_CORPUS.values(), ids=OUTCOMES_CORPUS)
def test_the_corpus_of_outcomes_is_refused(alone, corpus, name, outcome, message):
    with pytest.raises(InputError, match=message):
        alone(corpus(f"csv/{name}.csv"), more=outcome)


def test_p33_corpus_empty_is_not_alive(alone, corpus):
    text = corpus("csv/surv_event_strings.csv").decode()
    with pytest.raises(InputError, match="line 5: no state or no time; missing is not censored"):
        alone(text, more=NAMED.replace('dead = "death"', 'dead = "death", DEAD = "death"'))


def test_p31_corpus_time_zero(alone, corpus):
    text = corpus("csv/surv_zero_negative.csv").decode().replace("P0002,-5,1\n", "")
    cohort = alone(text, more=SURVIVAL)
    assert cohort.at(0).followed("death").ids.tolist() == ["P0003", "P0004"]


CENSORED = "subject_id,time,event\n" + "".join(f"P{i:02d},{i + 1},0\n" for i in range(20))


def no_events(cohort):
    from gnnpatient import PrognosisModel

    with pytest.raises(InputError, match="no events"):
        PrognosisModel(epochs=10**6).fit(cohort.at(0).followed("death"))  # a single epoch would be noticed


def test_p32_no_event_no_epoch(alone):
    no_events(alone(CENSORED, more=SURVIVAL))


def test_p32_corpus(alone, corpus):
    no_events(alone(corpus("csv/surv_all_censored.csv"), more=SURVIVAL))


# ---- P35: one patient on both sides of a split

SPLIT = "subject_id,image,split\nP0001,a.png,train\nP0001,b.png,test\nP0002,c.png,train\nP0003,d.png,test\n"


def both_sides(alone, text, tmp_path):
    from gnnpatient.study.folds import read_folds

    with pytest.raises(InputError, match=r"'split' differs between lines 2 and 3, in 1 patient\(s\)"):
        alone(text, patient='group = "split"')
    cohort = alone(text)
    frame = pl.read_csv(text.encode())
    fold = (pl.col("split") == "test").cast(pl.Int64).alias("fold")
    frame.select(pl.col("subject_id").alias("id"), fold, repeat=0).write_csv(tmp_path / "folds.csv")
    with pytest.raises(InputError, match=r"folds\.csv: 1 patient\(s\) in more than one fold"):
        read_folds(tmp_path / "folds.csv", cohort)


def test_p35_one_patient_in_training_and_test(alone, tmp_path):
    both_sides(alone, SPLIT, tmp_path)


def test_p35_corpus(alone, corpus, tmp_path):
    both_sides(alone, corpus("csv/split_same_patient_two_folds.csv").decode(), tmp_path)


# ---- P36: what is known after the moment of the ask

LATE = """subject_id,index_time,event_time,lab_time,crp
P0001,2021-01-01,2021-06-01,2021-07-01,200
P0001,2021-01-01,2021-06-01,2021-02-01,7
P0002,2021-01-01,2022-01-01,2020-12-01,4
P0003,2021-01-01,2021-08-01,2021-03-01,3
"""
LATE_SPEC = (
    '[nodes.lab]\ntable = "t.csv"\ntime = "lab_time"\ncolumns = { crp = "mg/L" }\n'
    '[outcomes.event]\nkind = "survival"\ntable = "t.csv"\ncauses = { event = { time = "event_time" } }\n'
)


def late_lab_moves_nothing(alone, text, visible):
    """Neither a graph before the event, nor a prediction of a model."""
    from gnnpatient import PrognosisModel, build_graphs

    prints, told, model = set(), set(), None
    for crp in (",200", ",1e9", ",0.001", ","):
        cohort = alone(text.replace(",200", crp), patient='origin = "index_time"', more=LATE_SPEC)
        asks = cohort.at(cohort.outcomes["event"].time / 86_400 - 1, patient=cohort.ids)
        graphs = build_graphs(asks)
        assert graphs["lab"].value.tolist() == visible
        prints.add(print_of(graphs))
        if model is None:
            model = PrognosisModel(members=1, epochs=1, channels=8, horizon=400.0).fit(
                cohort.landmarks(times=[0])
            )
        told.add(model.forecast(asks)["event"].incidence.tobytes())
    assert len(prints) == len(told) == 1


@pytest.mark.filterwarnings("ignore:.*learned from so few:UserWarning")
def test_p36_a_late_lab_moves_no_bit(alone):
    late_lab_moves_nothing(alone, LATE, [7, 4, 3])


@pytest.mark.filterwarnings("ignore:.*learned from so few:UserWarning")
def test_p36_corpus(alone, corpus):
    late_lab_moves_nothing(alone, corpus("csv/labs_after_event.csv").decode(), [4])


# ---- P37, P38: parquet

FRAME = {"subject_id": ["P0001", "P0002"], "time": [1.0, 2.0], "code": ["a", "b"], "value": [1.0, 2.0]}
PARQUET = {
    "null_id": ({"subject_id": ["P0001", None]}, r"column 'subject_id' holds 1 null\(s\)"),
    "nan_id": ({"subject_id": [1.0, float("nan")]}, r"column 'subject_id' holds 1 null\(s\)"),
    "empty_id": ({"subject_id": ["P0001", ""]}, r"column 'subject_id' holds 1 null\(s\)"),
    "list_id": ({"subject_id": [["P0001"], ["P0002"]]}, "column 'subject_id' holds List"),
    "bytes_id": ({"subject_id": [b"\xff", b"P0002"]}, "column 'subject_id' holds bytes"),
    "text_value": ({"value": ["12.1", "<0.5"]}, "column 'value' holds text"),
    "list_value": ({"value": [[1.0], [2.0]]}, "column 'value' holds List"),
    "struct_value": ({"value": [{"a": 1}, {"a": 2}]}, "column 'value' holds Struct"),
    "date_value": ({"value": [date(2021, 3, 4)] * 2}, "column 'value' holds Date"),
    "duration_value": ({"value": [timedelta(1)] * 2}, "column 'value' holds Duration"),
    "clock_time": ({"time": [time(10), time(11)]}, "column 'time' holds Time"),
    "yes_no_time": ({"time": [True, False]}, "column 'time' holds Boolean"),
    "struct_time": ({"time": [{"a": 1}, {"a": 2}]}, "column 'time' holds Struct"),
    "list_code": ({"code": [["a"], ["b"]]}, "column 'code' holds List"),
    "duration_code": ({"code": [timedelta(1)] * 2}, "column 'code' holds Duration"),
    "no_time": ({"time": None}, "no column 'time'"),
    "no_row": ({}, "no rows"),
}


@pytest.mark.parametrize(("change", "message"), PARQUET.values(), ids=PARQUET)
def test_p37_parquet_with_a_wrong_column(reads, change, message):
    frame = pl.DataFrame({name: cells for name, cells in (FRAME | change).items() if cells is not None})
    with pytest.raises(InputError, match=message) as error:
        reads(frame if change else frame.clear())
    assert "\n" not in str(error.value)


TYPES = {
    "unsigned_id": ({"subject_id": [1, 2]}, {"subject_id": pl.UInt64}),
    "float_id": ({"subject_id": [1.0, 2.0]}, {}),
    "decimal_id": ({"subject_id": [Decimal("1.00"), Decimal("2.00")]}, {}),
    "bytes_id": ({"subject_id": [b"1", b"2"]}, {}),
    "words_id": ({"subject_id": ["1", "2"]}, {"subject_id": pl.Categorical}),
    "decimal_value": ({"value": [Decimal("1.00"), Decimal("2.00")]}, {}),
    "unsigned_value": ({}, {"value": pl.UInt8}),
    "half_value": ({}, {"value": pl.Float32}),
    "duration_time": ({"time": [timedelta(days=1), timedelta(days=2)]}, {}),
    "nanosecond_time": ({"time": [datetime(2021, 1, 2), datetime(2021, 1, 3)]}, {"time": pl.Datetime("ns")}),
    "zone_time": ({"time": [datetime(2021, 1, 2), datetime(2021, 1, 3)]}, {"time": pl.Datetime("ms", "UTC")}),
    "a_column_named_as_one_of_ours": (
        {
            "time": [datetime(2021, 1, 2), datetime(2021, 1, 3)],
            "time_bare": ["x", "y"],
            "refused": ["x", "y"],
        },
        {},
    ),
    "a_list_that_nobody_asks_for": ({"more": [[1], [2]]}, {}),
}


@pytest.mark.parametrize(("change", "types"), TYPES.values(), ids=TYPES)
def test_p37_types_that_mean_the_same_are_read_the_same(reads, change, types):
    frame = pl.DataFrame(FRAME | {"subject_id": ["1", "2"]} | change).cast(types)
    cohort = reads(frame, patients="subject_id,start\n1,2021-01-01\n2,2021-01-01\n")
    assert lab(cohort).known.tolist() == [86_400, 2 * 86_400] and lab(cohort).value.tolist() == [1, 2]
    assert cohort.codes["lab"] == ("other", "a", "b") and not refused(cohort)


def test_p37_parquet_that_is_none(reads, tmp_path):
    from gnnpatient import read_cohort

    reads(pl.DataFrame(FRAME))
    file = tmp_path / "labs.parquet"
    whole = file.read_bytes()
    for broken in (whole[: len(whole) // 2], b"a,b\n1,2\n", b""):
        file.write_bytes(broken)
        with pytest.raises(InputError, match=r"labs\.parquet"):
            read_cohort(tmp_path / "c.toml", tmp_path)


MEDS = 'cohort = "c"\nformat = "meds"\n[patient]\norigin = { code = "*", pick = "first" }\n[nodes.lab]\n'
PLAIN = (
    'cohort = "c"\n[patient]\ntable = "patients.csv"\nkey = "subject_id"\norigin = "start"\n'
    '[nodes.lab]\ntable = "x.parquet"\ntime = "time"\ncode = "code"\nvalue = "numeric_value"\n'
    'edges = ["at", "next", "same"]\n'
)


@pytest.fixture
def shard(tmp_path):
    """Read one parquet file in both ways: as a table of the spec, and as a MEDS folder."""

    def read(way: str, content: bytes | pl.DataFrame):
        from gnnpatient import read_cohort

        if isinstance(content, bytes):
            (tmp_path / "x.parquet").write_bytes(content)
        else:
            content.write_parquet(tmp_path / "x.parquet")
        (tmp_path / "patients.csv").write_text("subject_id,start\n1,2021-01-01\n2,2021-01-01\n")
        (tmp_path / "c.toml").write_text(MEDS + 'edges = ["at", "next", "same"]' if way == "meds" else PLAIN)
        return read_cohort(tmp_path / "c.toml", tmp_path)

    return read


P37 = {
    "truncated": "x.parquet",
    "csv_renamed": "x.parquet",
    "no_subject_id": "no column 'subject_id'",
    "null_subject": r"column 'subject_id' holds 1 null\(s\)",
    "value_as_string": "column 'numeric_value'",
}


@pytest.mark.parametrize("way", ["plain", "meds"])
@pytest.mark.parametrize("name", P37)
def test_p37_corpus(shard, corpus, name, way):
    with pytest.raises(InputError, match=P37[name]) as error:
        shard(way, corpus(f"parquet/{name}.parquet"))
    assert "x.parquet" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("way", ["plain", "meds"])
def test_p37_corpus_ok(shard, corpus, way):
    assert lab(shard(way, corpus("parquet/ok_meds.parquet"))).value.tolist() == pytest.approx(
        [12.1, 20.4, 3.3]
    )


def same_graphs(shard, way, frame):
    from gnnpatient import build_graphs

    prints, columns = set(), []
    for given in (frame, frame.reverse(), frame.sort("subject_id", "time"), frame.sort("code", "time")):
        cohort = shard(way, given)
        prints.add(print_of(build_graphs(cohort.landmarks(times=[0, 30, 60, 90]))))
        columns.append(columns_of(cohort))
    assert len(prints) == 1 and all(one == columns[0] for one in columns)
    other = shard(way, frame.with_columns(pl.col("numeric_value") + 1))
    assert print_of(build_graphs(other.landmarks(times=[0, 30, 60, 90]))) not in prints


UNSORTED = pl.DataFrame(
    {
        "subject_id": [2, 1, 2, 1, 1, 1],
        "time": [datetime(2021, *day) for day in ((3, 9), (3, 4), (1, 9), (1, 4), (1, 4), (1, 4))],
        "code": ["A", "A", "A", "A", "B", "A"],
        "numeric_value": [1.0, 2.0, 3.0, 4.0, 5.0, None],
    }
)


@pytest.mark.parametrize("way", ["plain", "meds"])
def test_p38_the_order_of_rows_is_nothing(shard, way):
    same_graphs(shard, way, UNSORTED)


@pytest.mark.parametrize("way", ["plain", "meds"])
def test_p38_corpus(shard, faults_dir, way):
    same_graphs(shard, way, pl.read_parquet(faults_dir / "parquet" / "unsorted_times.parquet"))


# ---- P39 to P42: FHIR, read as a cohort and checked on the command line

PERSON = {"resourceType": "Patient", "id": "p1", "gender": "female", "birthDate": "1960-01-01"}
OTHER = {"resourceType": "Patient", "id": "p2", "gender": "male", "birthDate": "1950-01-01"}
CRP = {
    "resourceType": "Observation",
    "id": "o1",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "1988-5"}]},
    "subject": {"reference": "Patient/p1"},
    "effectiveDateTime": "2021-03-04T10:00:00Z",
    "valueQuantity": {"value": 12.1, "unit": "mg/L", "code": "mg/L"},
}
CONVERT = '[units]\n"OBSERVATION//1988-5" = { to = "mg/L", from = { "mg/dL" = 10.0 } }\n'
FHIR = 'cohort = "c"\nformat = "fhir"\n[patient]\norigin = "birth"\n[nodes.lab]\ntable = "Observation"\n'


def bundle(*resources: dict) -> bytes:
    entries = [{"resource": resource} for resource in resources]
    return json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}).encode()


def without(resource: dict, name: str) -> dict:
    return {key: cell for key, cell in resource.items() if key != name}


def deep(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


WORD = without(CRP, "valueQuantity") | {"valueString": "haemolysed"}
TEXT_UNIT = CRP | {"valueQuantity": {"value": 12.1, "unit": "mg per litre"}}
SECOND_UNIT = CRP | {"id": "o2", "valueQuantity": {"value": 1.2, "unit": "mg/dL", "code": "mg/dL"}}
NOBODY = CRP | {"id": "o3", "subject": {"reference": "Patient/p9"}}
LINES = b"\n".join((json.dumps(PERSON).encode(), b"{oops", json.dumps(CRP).encode()))

STOPPED = {  # what is refused: of built files, and of the corpus
    "p39_unclosed": ("x.json", bundle(PERSON, CRP)[:-40], "", "not JSON at line 1"),
    "p39_deep_nesting": ("x.json", deep(50_000), "", "nested too deep"),
    "p39_deep_list": ("x.json", b"[" * 50_000, "", "nested too deep"),
    "p40_nobody_at_all": ("x.json", bundle(CRP), "", "names no patient"),
    "p41_two_units": ("x.json", bundle(PERSON, TEXT_UNIT, SECOND_UNIT), "", "'mg per litre' and 'mg/dL'"),
    "p42_two_genders": ("x.json", bundle(PERSON, PERSON | {"gender": "male"}, CRP), "", "values of gender"),
    "p39_corpus_unclosed": ("unclosed.json", None, "", "not JSON at line 1"),
    "p39_corpus_deep": ("deep_nesting.json", None, "", "nested too deep"),
    "p41_corpus_units": ("obs_unit_text.json", None, "", "'mg per litre' and 'mg/dL'"),
    "p42_corpus_twice": ("patient_twice.json", None, "", "two values of gender"),
}
COUNTED = {  # what is left out or flagged: values of p1, why rows were refused, a flag
    "p40_no_subject": ("x.json", bundle(PERSON, OTHER, without(CRP, "subject")), [], {"no patient": 1}, ""),
    "p40_unknown": ("x.json", bundle(PERSON, OTHER, CRP, NOBODY), [12.1], {"patient not in the data": 1}, ""),
    "p41_text_value": ("x.json", bundle(PERSON, WORD), [NAN], {}, "1 Observation value(s) are text"),
    "p41_unknown_unit": (
        "x.json",
        bundle(PERSON, TEXT_UNIT, SECOND_UNIT),
        [12.0],
        {"unknown unit": 1},
        "",
    ),
    "p42_bad_line": ("x.ndjson", LINES, [12.1], {"not JSON": 1}, "x.ndjson: 1 line(s) not JSON: 2"),
    "p40_corpus_no_subject": ("obs_no_subject.json", None, [], {"no patient": 1}, ""),
    "p40_corpus_unknown": ("obs_unknown_patient.json", None, [], {"patient not in the data": 1}, ""),
    "p41_corpus_text_value": ("obs_value_string.json", None, [NAN], {}, "1 Observation value(s) are text"),
    "p41_corpus_units": ("obs_unit_text.json", None, [12.0], {"unknown unit": 1}, ""),
    "p42_corpus_bad_line": (
        "ndjson_bad_line.ndjson",
        None,
        [12.1],
        {"not JSON": 1},
        "ndjson_bad_line.ndjson: 1 line(s) not JSON: 2",
    ),
    "ok_corpus": ("ok_bundle.json", None, [12.1], {}, ""),
}


@pytest.fixture
def fhir(tmp_path, request, capsys):
    """Write a folder with one file (None: that of the corpus); its spec, and `check` of it."""

    def lay(name: str, content: bytes | None, more: str = "") -> Path:
        folder = tmp_path / "fhir"
        folder.mkdir()
        if content is None:
            content = (request.getfixturevalue("faults_dir") / "fhir" / name).read_bytes()
        (folder / name).write_bytes(content)
        (tmp_path / "c.toml").write_text(FHIR + more)
        return folder

    def check() -> tuple[int, str, str]:
        from gnnpatient.cli import run

        capsys.readouterr()
        code = run(["check", str(tmp_path / "c.toml"), "--data", str(tmp_path / "fhir"), "--json"])
        said = capsys.readouterr()
        return code, said.out, said.err

    lay.check, lay.spec = check, tmp_path / "c.toml"
    return lay


@pytest.mark.parametrize(("name", "content", "more", "message"), STOPPED.values(), ids=STOPPED)
def test_fhir_that_is_refused(fhir, name, content, more, message):
    from gnnpatient import read_cohort

    folder = fhir(name, content, more)
    with pytest.raises(InputError, match=message) as error:
        read_cohort(fhir.spec, folder)
    code, out, err = fhir.check()
    assert (code, out) == (2, "") and "Traceback" not in err
    assert err == f"gnnpatient: {error.value}\n"


@pytest.mark.parametrize(("name", "content", "values", "why", "flag"), COUNTED.values(), ids=COUNTED)
def test_fhir_that_is_counted(fhir, name, content, values, why, flag):
    from gnnpatient import read_cohort

    folder = fhir(name, content, CONVERT)
    if name == "obs_unknown_patient.json":  # alone it has nobody; p2 must not get the row of p1
        (folder / "other.json").write_bytes(bundle(OTHER))
    cohort = read_cohort(fhir.spec, folder)
    assert {str(cohort.ids[i]) for i in lab(cohort).patient} <= {"p1"}
    assert lab(cohort).value.tolist() == pytest.approx(values, nan_ok=True)
    code, out, err = fhir.check()
    found = json.loads(out)
    account = found["tables"]["Observation"]
    assert (code, err, account["refused"]) == (0, "", why)
    assert account["rows"] == account["used"] + account["collapsed"] + sum(why.values())
    assert not flag or flag in found["flags"]


def test_p42_of_two_dated_copies_the_newest_counts_with_a_flag(fhir):
    from gnnpatient import read_cohort

    old, new = (
        PERSON | {"meta": {"lastUpdated": "2020-01-01T00:00:00Z"}},
        PERSON
        | {
            "meta": {"lastUpdated": "2021-01-01T00:00:00Z"},
            "maritalStatus": {"text": "married"},
        },
    )
    folder = fhir("x.json", bundle(new, old, CRP))
    cohort = read_cohort(fhir.spec, folder)
    assert len(cohort) == 1 and cohort.report["flags"]


# ---- an origin that is none, and a kind without a row


def test_an_origin_that_is_no_date(reads):
    for start in ("45", "", "yesterday", "2021-02-30"):
        with pytest.raises(InputError, match="line 2: not a date; every patient needs a day 0"):
            reads(HEAD + ROW, patients=f"subject_id,start\nP0001,{start}\n")
    with pytest.raises(InputError, match="name the column of day 0 as origin"):
        reads(HEAD + ROW, patient="")


def test_a_kind_of_which_every_row_is_refused(reads):
    from gnnpatient import build_graphs

    cohort = reads(HEAD + "NOBODY,2021-03-04,CRP,1,mg/L\n", more=UNIT)
    assert refused(cohort) == {"patient not in the patient table": 1} and len(lab(cohort)) == 0
    for patients in (None, list(range(5)) * 10):  # few asks, and many
        graphs = build_graphs(cohort.at(90, patients))
        assert len(graphs["lab"]) == len(graphs["timepoint"]) == 0 and graphs.last["lab"].value.shape[1] == 1
    assert cohort.patient("P0001").to_networkx().number_of_nodes() == 1


# ---- what is on no list: cells, files and names of many kinds

NUMBERS = {
    "1e5": 1e5,
    "1E+2": 100,
    "+3": 3,
    " 7 ": 7,
    "1.": 1,
    ".5": 0.5,
    "-0": 0,
    "1,234.5": None,
    "1_000": None,
    "1 000": None,
    "1'000": None,
    "١٢": None,
    "\uff11\uff12": None,  # wide digits
    "½": None,
    "0x1F": None,
    "5%": None,
    "12mg": None,
    "<0.5": 0.5,  # a bound
    "\u22125": None,  # a typographic minus
    "--1": None,
    "1.2.3": None,
    "TRUE": None,
    "Infinity": None,
    "1e400": None,
    "99999999999999999999": 1e20,
}


@pytest.mark.parametrize(("cell", "value"), NUMBERS.items(), ids=NUMBERS)
def test_a_cell_is_a_number_or_counted(reads, cell, value):
    cohort = reads(HEAD + f'P0001,2021-03-04,CRP,"{cell}",x\n')
    assert lab(cohort).value.tolist() == ([] if value is None else pytest.approx([value]))
    assert refused(cohort) == ({VALUE: 1} if value is None else {})


END = 86_399 / 86_400  # of a day
TIMES = {  # a cell of a column of dates: days after 2021-01-01, None = counted
    "2021-03-04": 62 + END,
    " 2021-03-04 ": 62 + END,
    "2021-03-04T10:00": 62 + 10 / 24,
    "2021-03-04 10:00": 62 + 10 / 24,
    "2021-03-04T10:00:00.5": 62 + 10 / 24,
    "2021-03-04T10:00Z": 62 + 10 / 24,
    "2021-03-04T10:00+01:00": 62 + 9 / 24,
    "2021-03-04T10:00-0230": 62 + 12.5 / 24,
    "1899-12-31": -44196 + END,
    "24:00": None,
    "2021-03-04T24:00": None,
    "2021-03-04T25:00": None,
    "2021-03-04T10:60": None,
    "2021-03-04T10": None,
    "2021-03-04T": None,
    "2021-03-04T10:00 PM": None,
    "2021-03-04T10:00+99:00": None,
    "2021-02-30": None,
    "2021-13-01": None,
    "2021-W05-3": None,
    "2021-063": None,
    "2021-03": None,
    "2021": None,  # among dates no number is a time
    "20210304": 62 + END,
    "44259": None,  # a spreadsheet's day
    "1614816000": None,  # seconds since 1970
    "2021/03/04": None,
    "04-Mar-2021": None,
    "\uff12021-03-04": None,  # a wide digit
    "2021\u201303\u201304": None,  # dashes
    "0001-01-01": None,
    "9999-12-31": None,
    "1880-01-01": None,
    "now": None,
    "NaT": None,
    "45%": None,
    "inf": None,
}


@pytest.mark.parametrize(("cell", "day"), TIMES.items(), ids=TIMES)
def test_a_cell_is_a_time_or_counted(reads, cell, day):
    cohort = reads(HEAD + f'P0001,"{cell}",CRP,1,x\nP0002,2021-05-05T10:00,CRP,2,x\n')
    mine = lab(cohort).known[lab(cohort).patient == 0] / 86_400
    assert mine.tolist() == ([] if day is None else pytest.approx([day]))
    assert refused(cohort) == ({ODD: 1} if day is None else {})


def test_clock_times_with_and_without_a_zone(reads):
    """Those without are of the table's zone, UTC where it names none."""
    text = HEAD + "P0001,2021-07-01T10:00,A,1,x\nP0001,2021-07-01T10:00Z,B,1,x\n"
    for more, hours in (
        ("", [10, 10]),
        ('[tables."labs.csv"]\ntime = { timezone = "Europe/Berlin" }', [8, 10]),
    ):
        cohort = reads(text, more=more)
        assert (lab(cohort).known / 3600 - 181 * 24).tolist() == hours


@pytest.mark.parametrize(
    ("cells", "word"),
    [(("2019", "2020", "2021"), "calendar years"), (("44259", "44260"), "days of a spreadsheet")],
)
def test_offsets_that_look_like_something_else_are_flagged(reads, cells, word):
    text = HEAD + "".join(f"P0001,{cell},CRP,1,x\n" for cell in cells)
    (flag,) = reads(text).report["flags"]
    assert flag.startswith("labs.csv: column 'time': ") and word in flag
    assert reads(text, more='[tables."labs.csv"]\ntime = { unit = "d" }').report["flags"] == []  # said so


PACKED = gzip.compress((HEAD + ROW * 1000).encode())
FILES = {  # content of labs.csv or another name: the message of the refusal, or the codes that are read
    "a NUL byte": (HEAD + "P0001,2021-03-04,C\0RP,1,x\n", "line 2 holds a NUL byte"),
    "nothing but NUL bytes": (b"\0" * 1000, "line 1 holds a NUL byte"),
    "only a BOM": (b"\xef\xbb\xbf", "no rows"),
    "a BOM and the header": (b"\xef\xbb\xbf" + HEAD.encode(), "no rows"),
    "UTF-16": ((HEAD + ROW).encode("utf-16"), "UTF-16; set encoding = 'utf-16'"),
    "UTF-16 without a BOM": ((HEAD + ROW).encode("utf-16-le"), "NUL byte; is it cut, or encoding = 'utf-16'"),
    "random bytes": (bytes(range(254, 0, -1)) * 9, "not utf-8; set encoding"),
    "parquet named csv": (b"PAR1" + b"\x15\0" * 99, "by its first bytes parquet; call it .parquet"),
    "gzip named csv": (PACKED, "by its first bytes packed by gzip; call it .csv.gz"),
    "a workbook named csv": (b"PK\x03\x04" + b"\0" * 99, "by its first bytes a zip or a workbook"),
    "a page of the web": ("<html><body>Not found</body></html>", "no rows"),
    "JSON": ('[{"subject_id": "P0001"}]\n', "no rows"),
    "a blank first line": ("\n" + HEAD + ROW, "line 1 is blank"),
    "a comment first": ("# made by hand\n" + HEAD + ROW, "line 2 has 5 cells, the header 1"),
    "blanks around names": (" subject_id , time,code,value,unit\n" + ROW, "no column 'subject_id'; did you"),
    "tabs": (
        (HEAD + ROW).replace(",", "\t"),
        r"one column, .* set separator = '\\t' in \[tables.'labs.csv'\]",
    ),
    "bars": ((HEAD + ROW).replace(",", "|"), r"set separator = '\|'"),
    "a control-Z at the end": (HEAD + ROW + "\x1a", "line 3 has 1 cells"),
    "quotes escaped by backslashes": (HEAD + 'P0001,1,"C\\"RP",1,x\n', "line 2: text after a closing quote"),
    "a quote never closed in a large file": (
        HEAD + 'P0001,1,"CRP,1,x\n' + ROW * 60_000,
        "a quote on line 2 is never closed",
    ),
    "a header of one endless name": (f'subject_id,time,code,value,"{"x" * 200_000}"\n', "line 1, the header"),
    "a column with our own name": (
        "subject_id,time,code,value,gnnpatient row\nP0001,1,CRP,1,2\n",
        "gnnpatient",
    ),
    "mixed ends of lines": (
        HEAD.replace("\n", "\r\n") + ROW + ROW.replace("CRP", "A").replace("\n", "\r") + ROW,
        ["A", "CRP"],
    ),
    "blank lines": (HEAD + "\n" + ROW + "\n\n", ["CRP"]),
    "a comma at every end": (HEAD.replace("\n", ",\n") + ROW.replace("\n", ",\n"), ["CRP"]),
    "names that differ in case": ("subject_id,time,code,value,Value,CODE\nP0001,1,CRP,1,2,x\n", ["CRP"]),
    "names of columns of ours": (
        "subject_id,time,code,value,refused,time_bare,known,id\nP0001,2021-03-04,CRP,1,x,y,z,w\n",
        ["CRP"],
    ),
    "ten thousand columns": (
        HEAD.strip() + "".join(f",c{i}" for i in range(10_000)) + "\n" + ROW.strip() + ",1" * 10_000 + "\n",
        ["CRP"],
    ),
    "a cell of 3 MB": (HEAD + f"P0001,2021-03-04,{'x' * (3 << 20)},1,x\n" + ROW, ["CRP", "x" * (3 << 20)]),
    "a quoted cell of 1 MB and an odd quote": (
        HEAD + f'P0001,1,"{"x" * (1 << 20)}",1,x\nP0001,2,5" tube,1,x\n',
        ['5" tube', "x" * (1 << 20)],
    ),
    "labs.csv.gz": (PACKED, ["CRP"]),
    "cut.csv.gz": (PACKED[: len(PACKED) // 2], r"cut\.csv\.gz: .*ended before"),
    "sum.csv.gz": (PACKED[:-8] + b"\0" * 8, r"sum\.csv\.gz: CRC check failed"),
    "more.csv.gz": (PACKED + b"garbage", r"more\.csv\.gz: Not a gzipped file"),
    "none.csv.gz": (HEAD + ROW, r"none\.csv\.gz: Not a gzipped file"),
    "void.csv.gz": (b"", r"void\.csv\.gz: no rows"),
    "labs.xlsx": (b"PK\x03\x04", r"labs\.xlsx: a table is a \.csv"),
    "Läbör 1 & 2.csv": (HEAD + ROW, ["CRP"]),
    "sub folder/labs.csv": (HEAD + ROW, ["CRP"]),
}


@pytest.mark.parametrize(("name", "content", "expected"), [(n, *c) for n, c in FILES.items()], ids=FILES)
def test_a_file_is_refused_or_read_right(tmp_path, name, content, expected):
    file = name if name.split(".")[-1] in ("csv", "gz", "xlsx") and "NUL" not in name else "labs.csv"
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    read_or_refused(tmp_path, file, expected)


def read_or_refused(folder, table, expected, more=""):
    """One line that names what is wrong, or exactly these codes."""
    from gnnpatient import read_cohort

    (folder / "patients.csv").write_text("subject_id,start\nP0001,2021-01-01\n")
    spec = PLAIN.replace('"x.parquet"', json.dumps(table)).replace("numeric_value", "value")
    (folder / "c.toml").write_text(spec + more)
    if isinstance(expected, list):
        cohort = read_cohort(folder / "c.toml", folder)
        assert cohort.codes["lab"] == ("other", *sorted(expected))
        account = cohort.report["tables"][table]
        assert account["used"] + account["collapsed"] == account["rows"]
        return
    with pytest.raises(InputError, match=expected) as error:
        read_cohort(folder / "c.toml", folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


OPTIONS = {
    "separator a section sign": ('separator = "§"', "separator = '§'; give one of"),
    "separator a NUL": ('separator = "\\u0000"', "give one of"),
    "separator a quote": ("separator = '\"'", "give one of"),
    "encoding unknown": ('encoding = "utf-99"', "not utf-99; set encoding"),
    "encoding no text": ('encoding = "base64"', "not base64; set encoding"),
    "encoding utf-8-sig": ('encoding = "utf-8-sig"', ["CRP"]),
}


@pytest.mark.parametrize(("option", "expected"), OPTIONS.values(), ids=OPTIONS)
def test_options_that_cannot_be(tmp_path, option, expected):
    (tmp_path / "labs.csv").write_text(HEAD + ROW)
    read_or_refused(tmp_path, "labs.csv", expected, more=f'[tables."labs.csv"]\n{option}\n')


def outside(folder: Path) -> Path:
    place = folder.parent / f"{folder.name} outside"
    place.mkdir()
    (place / "labs.csv").write_text(HEAD + ROW)
    return place


PLACES = {  # what lies there, the name of the table, the message
    "nothing": (lambda folder: None, "labs.csv", "no such file"),
    "an empty name": (lambda folder: None, "", "no such file"),
    "a folder": (lambda folder: (folder / "labs.csv").mkdir(), "labs.csv", "no .parquet file below"),
    "the folder above": (outside, "../labs.csv", "leads out of"),
    "an absolute path": (lambda folder: None, "/etc/passwd", "leads out of"),
    "a home": (lambda folder: None, "~/labs.csv", "no such file"),
    "a link that leads out": (
        lambda folder: (folder / "labs.csv").symlink_to(outside(folder) / "labs.csv"),
        "labs.csv",
        "leads out of",
    ),
    "a folder that leads out": (
        lambda folder: (folder / "sub").symlink_to(outside(folder)),
        "sub/labs.csv",
        "leads out of",
    ),
    "a link to nowhere": (
        lambda folder: (folder / "labs.csv").symlink_to(folder / "gone.csv"),
        "labs.csv",
        "no such file",
    ),
    "a link to itself": (
        lambda folder: (folder / "labs.csv").symlink_to(folder / "labs.csv"),
        "labs.csv",
        "cannot be opened",
    ),
    "a pipe": (lambda folder: os.mkfifo(folder / "labs.csv"), "labs.csv", "no such file"),
    "a name too long": (lambda folder: None, "x" * 300 + ".csv", "cannot be opened"),
    "a NUL in the name": (lambda folder: None, "la\0bs.csv", "cannot be opened"),
}


@pytest.mark.parametrize(("lay", "name", "message"), PLACES.values(), ids=PLACES)
def test_a_place_that_holds_no_table(tmp_path, lay, name, message):
    folder = tmp_path / "data"
    folder.mkdir()
    lay(folder)
    read_or_refused(folder, name, message)


def test_a_link_inside_the_folder_is_fine(tmp_path):
    (tmp_path / "real.csv").write_text(HEAD + ROW)
    (tmp_path / "labs.csv").symlink_to(tmp_path / "real.csv")
    read_or_refused(tmp_path, "labs.csv", ["CRP"])


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    """As somebody else where the tests are run by root, who may read everything."""
    (tmp_path / "labs.csv").write_text(HEAD + ROW)
    read_or_refused(tmp_path, "labs.csv", ["CRP"])  # all that has to be imported now is
    (tmp_path / "labs.csv").chmod(0)
    from gnnpatient import read_cohort

    root, above = os.geteuid() == 0, [tmp_path, *tmp_path.parents][:4]
    modes = [(folder, folder.stat().st_mode) for folder in above if root]
    for folder, _ in modes:
        folder.chmod(0o755)
    try:
        if root:
            os.seteuid(65_534)
        with pytest.raises(InputError, match=r"labs\.csv: .*Permission denied") as error:
            read_cohort(tmp_path / "c.toml", tmp_path)
    finally:
        if root:
            os.seteuid(0)
        for folder, mode in modes:
            folder.chmod(mode)
    assert "\n" not in str(error.value)


def test_an_id_with_a_nul_is_not_cut(reads, tmp_path):
    """numpy would: "P1" and "P1\\0" would be one patient."""
    from gnnpatient import read_cohort

    reads(HEAD + ROW)
    frame = pl.DataFrame({"subject_id": ["P1", "P1\0"], "start": [date(2021, 1, 1)] * 2})
    frame.write_parquet(tmp_path / "patients.parquet")
    spec = tmp_path / "c.toml"
    spec.write_text(spec.read_text().replace("patients.csv", "patients.parquet"))
    with pytest.raises(InputError, match="an id holds a NUL"):
        read_cohort(spec, tmp_path)


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path, monkeypatch):
    for module in ("csv_file", "tables"):
        monkeypatch.setattr(f"gnnpatient.readers.{module}.BOMB", 1 << 20)
    (tmp_path / "labs.csv.gz").write_bytes(gzip.compress((HEAD + ROW * 100_000).encode()))
    read_or_refused(tmp_path, "labs.csv.gz", "unpacks to 3 MB or more; unpack it")
    pl.DataFrame({"subject_id": pl.repeat(1, 300_000, dtype=pl.Int8, eager=True)}).write_parquet(
        tmp_path / "labs.parquet"
    )
    read_or_refused(tmp_path, "labs.parquet", "300000 rows in so small a file")


# ---- memory and time

CHILD = """
import json, resource, sys, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from gnnpatient import InputError, read_cohort
for folder in sys.argv[1:]:
    begun = time.process_time()
    try:
        read_cohort(folder + "/c.toml", folder)
        end = "read"
    except InputError as error:
        end = str(error)
    print(json.dumps([folder, end, time.process_time() - begun]))
# ru_maxrss would begin with what the parent had
peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
print(int(peak) << 10)
"""


def bounded(folders):
    """Each folder's cohort read under 4 GB of address space; how it ended, CPU seconds, the peak in bytes."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, *map(str, folders)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    *lines, peak = done.stdout.splitlines()
    found = [json.loads(line) for line in lines]
    assert [folder for folder, _, _ in found] == [str(folder) for folder in folders]
    assert all(seconds < 60 for _, _, seconds in found) and int(peak) < 2 << 30
    return [end for _, end, _ in found]


def lay(folder: Path, name: str, content: bytes) -> Path:
    """A folder with one broken file and a spec that reads it."""
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    (folder / "patients.csv").write_text("subject_id,start\nP0001,2021-01-01\n1,2021-01-01\n")
    if name.endswith("json"):
        spec = FHIR
    elif name.startswith(("surv", "split", "meta", "labs_after")):
        spec = f'cohort = "c"\n[patient]\ntable = "{name}"\nkey = "subject_id"\n'
        spec += SURVIVAL.replace("t.csv", name) if name.startswith("surv") else ""
        spec += 'group = "split"\n' if name.startswith("split") else ""
    else:
        spec = PLAIN.replace("x.parquet", name)
        spec = spec if name.endswith(".parquet") else spec.replace("numeric_value", "value")
    (folder / "c.toml").write_text(spec)
    return folder


@pytest.mark.slow
def test_hungry_files_stay_within_bounds(tmp_path):
    block = gzip.compress(ROW.encode() * 200_000)  # members of one file, of 8 MB each
    files = {
        "labs.csv.gz": (gzip.compress(HEAD.encode()) + block * 60, "unpacks to"),
        "deep.json": (deep(1_000_000), "nested too deep"),
        "lines.csv": ((HEAD + "P0001,1," + "x" * (80 << 20)).encode(), "cells|longer than 64 MB"),
        "wide.csv": (
            (",".join(f"c{i}" for i in range(200_000)) + "\n" + "1," * 199_999 + "1\n").encode(),
            "200000 columns; write it long",
        ),
    }
    folders = [lay(tmp_path / str(i), name, content) for i, (name, (content, _)) in enumerate(files.items())]
    for end, (_, says) in zip(bounded(folders), files.values(), strict=True):
        assert re.search(says, end), end


@pytest.mark.parametrize("kind", ["csv", "parquet", "fhir"])
def test_every_file_of_the_corpus_stays_within_bounds(faults_dir, tmp_path, kind):
    files = sorted((faults_dir / kind).iterdir())
    ends = bounded([lay(tmp_path / file.stem, file.name, file.read_bytes()) for file in files])
    found = {file.stem for file, end in zip(files, ends, strict=True) if end == "read"}
    assert {"csv": "ok_labs", "parquet": "ok_meds", "fhir": "ok_bundle"}[kind] in found
    assert not found & {*P37, "unclosed", "deep_nesting", "patient_twice", "ragged", "empty", "dup_header"}
