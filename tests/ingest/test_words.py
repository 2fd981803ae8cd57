"""Words that look missing, names that look like patterns: what a table or the spec says is what it says."""

import json
import shutil
import sqlite3
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gnnpatient import read_cohort
from gnnpatient.errors import InputError

MISSING = ("NA", "N/A", "NaN", "nan", "null", "NULL", "None")
SPEC = """
cohort = "c"
[patient]
table = "people.csv"
key = "id"
number = ["age"]
category = ["level"]
group = "site"
[nodes.lab]
table = "labs.csv"
time = "day"
code = "code"
value = "value"
unit = "unit"
[outcomes.left]
kind = "survival"
table = "people.csv"
status = { column = "state", states = { WORD = "gone", stays = "censored" }, time = "end" }
[outcomes.ill]
kind = "diagnosis"
table = "people.csv"
column = "label"
classes = { WORD = "no", y = "yes" }
"""


def told(cohort, *words: str) -> list[str]:
    """The flags that hold all these words."""
    return [flag for flag in cohort.report["flags"] if all(word in flag for word in words)]


@pytest.fixture
def read(tmp_path):
    """A cohort of these tables, texts as CSV and frames as parquet."""

    def make(spec: str, **tables):
        for name, rows in tables.items():
            if isinstance(rows, str):
                (tmp_path / f"{name}.csv").write_text(rows, encoding="utf-8")
            else:
                rows.write_parquet(tmp_path / f"{name}.parquet")
        (tmp_path / "c.toml").write_text(spec, encoding="utf-8")
        return read_cohort(tmp_path / "c.toml", tmp_path)

    return make


@pytest.mark.parametrize("word", MISSING)
def test_a_code_a_level_a_group_a_label_and_a_state_may_be_called_like_a_missing_word(read, word):
    people = f"id,age,level,site,state,end,label\na,1,{word},{word},{word},9,{word}\n"
    people += f"b,2,,{word},stays,9,y\nc,3,x,,stays,9,\n"
    labs = f"id,day,code,value,unit\na,0,{word},138,mmol/L\na,1,K,4,mmol/L\nb,1,,4,mmol/L\n"
    cohort = read(SPEC.replace("WORD", f'"{word}"'), people=people, labs=labs)
    assert cohort.codes["lab"] == ("other", *sorted(["K", word])) and len(cohort.events["lab"]) == 2
    assert cohort.report["tables"]["labs.csv"]["refused"] == {"no code": 1}
    assert cohort.levels["level"] == tuple(sorted([word, "x"]))
    assert cohort.category[:, 0].tolist() == [cohort.levels["level"].index(w) for w in (word,)] + [
        -1,
        cohort.levels["level"].index("x"),
    ]
    assert cohort.group.tolist() == [word, word, ""] and cohort.groups[0] == cohort.groups[1]
    assert cohort.outcomes["left"].event.tolist() == [1, 0, 0]
    assert cohort.outcomes["ill"].label.tolist() == [0, 1, -1]
    assert told(cohort, "people.csv", f"3 cell(s) hold {word!r}, taken as a word: 'site' 2, 'level' 1")
    assert told(cohort, "labs.csv", f"1 cell(s) hold {word!r}, taken as a word: 'code' 1")


def test_the_spec_says_which_words_are_missing(read):
    people = (
        "id,age,level,site,state,end,label\na,-9,NA,NA,None,9,None\nb,2,-9,s,stays,9,y\nc,NA,x,s,stays,9,NA\n"
    )
    labs = "id,day,code,value,unit\na,0,NA,1,u\na,1,K,-9,u\na,2,K,4,u\na,NA,K,5,u\n"
    keys = '[tables."people.csv"]\nmissing = ["NA", "-9", "None"]\n[tables."labs.csv"]\nmissing = ["-9"]\n'
    cohort = read(SPEC.replace("WORD", '"None"') + keys, people=people, labs=labs)
    assert np.isnan(cohort.number[:, 0]).tolist() == [True, False, True]
    assert cohort.levels["level"] == ("x",) and cohort.group.tolist() == ["", "s", "s"]
    # what the states and classes name is no missing word
    assert cohort.outcomes["left"].event.tolist() == [1, 0, 0]
    assert cohort.outcomes["ill"].label.tolist() == [0, 1, -1]
    lab = cohort.events["lab"]
    assert cohort.codes["lab"] == ("other", "K", "NA") and np.isnan(lab.value).sum() == 1
    assert not told(cohort, "people.csv") and told(
        cohort, "labs.csv", "1 cell(s) hold 'NA', taken as missing: 'day' 1"
    )


def test_words_taken_for_missing_are_counted_once_each(read):
    spec = """
cohort = "c"
[patient]
table = "people.csv"
key = "id"
number = ["age"]
[nodes.low]
table = "labs.csv"
where = { code = "a*" }
time = "day"
code = "code"
value = "value"
[nodes.every]
table = "labs.csv"
time = "day"
code = "code"
value = "value"
unit = "unit"
[outcomes.death]
kind = "survival"
table = "people.csv"
causes = { death = { time = "end", flag = "died" } }
"""
    labs = "id,day,code,value,unit\nx,1,a1,NA,NA\nx,2,a2,NULL,\nx,3,b,NA,mg\nx,NaN,b,1,mg\n"
    cohort = read(spec, people="id,age,end,died\nx,NA,9,1\n", labs=labs)
    assert told(cohort, "labs.csv: 3 cell(s) hold 'NA', taken as missing: 'value' 2, 'unit' 1")
    assert told(cohort, "labs.csv: 1 cell(s) hold 'NULL', taken as missing: 'value' 1")
    assert told(cohort, "labs.csv: 1 cell(s) hold 'NaN', taken as missing: 'day' 1")
    assert told(cohort, "people.csv: 1 cell(s) hold 'NA', taken as missing: 'age' 1")
    assert cohort.report["tables"]["labs.csv"]["refused"] == {"no time": 1}


def test_nulls_of_parquet_and_sql_stay_missing(read, tmp_path):
    frame = pl.DataFrame(
        {"id": ["x", "x", "x"], "day": [1, 2, 3], "code": ["NA", None, "K"], "value": [1.0, 2, None]}
    )
    spec = (
        SPEC.partition("[nodes")[0]
        + """
[nodes.lab]
table = "PLACE"
time = "day"
code = "code"
value = "value"
"""
    )
    people = "id,age,level,site\nx,1,,\n"
    cohort = read(spec.replace("PLACE", "labs.parquet"), people=people, labs=frame)
    assert cohort.codes["lab"] == ("other", "K", "NA")
    assert cohort.report["tables"]["labs.parquet"]["refused"] == {"no code": 1}
    with sqlite3.connect(tmp_path / "w.db") as base:
        base.execute("CREATE TABLE labs (id TEXT, day INT, code TEXT, value REAL)")
        base.executemany("INSERT INTO labs VALUES (?, ?, ?, ?)", frame.rows())
    again = read(spec.replace("PLACE", "w.db/labs"), people=people)
    assert again.codes["lab"] == ("other", "K", "NA")
    assert again.report["tables"]["w.db/labs"]["refused"] == {"no code": 1}


def test_groups_are_compared_without_blanks_and_near_ones_are_told(read):
    people = "id,age,level,site,state,end,label\na,1,,North,stays,1,y\nb,1,, North ,stays,1,Y\n"
    people += "c,1,,north,stays,1,y \nd,1,,Cafe\u0301,stays,1,no\ne,1,,Caf\u00e9,stays,1,\nf,1,, ,stays,1,\n"
    cohort = read(SPEC.replace("WORD", '"n"'), people=people, labs="id,day,code,value,unit\na,1,K,1,u\n")
    assert cohort.group.tolist() == ["North", "North", "north", "Caf\u00e9", "Caf\u00e9", ""]
    assert len(np.unique(cohort.groups)) == 4
    assert told(cohort, "people.csv: 1 group(s) differ from another in case or blanks only; kept apart")
    assert cohort.outcomes["ill"].label.tolist() == [1, -1, -1, -1, -1, -1]
    assert told(cohort, "outcome 'ill': 3 cell(s) are no word of classes", ": 2 nearest to 'y', 1 nearest to")


def stages(read, cells: str, ordered: str):
    """The same with a stage, whose cells come one a patient."""
    head, rows = (
        "id,age,level,site,state,end,label\n",
        [f"p{i},1,,,s,1,{x}" for i, x in enumerate(cells.split("|"))],
    )
    spec = SPEC.replace('classes = { WORD = "no", y = "yes" }', f"ordered = {ordered}").replace("WORD", "s")
    return read(spec, people=head + "\n".join(rows) + "\n", labs="id,day,code,value,unit\np1,1,K,1,u\n")


def test_a_cell_that_an_order_leaves_out_is_counted_and_the_nearest_is_named(read):
    cohort = stages(read, 'I|II|III|"III "|iii|IV|unclear||NA', '["I", "II", "III", "IV"]')
    assert cohort.outcomes["ill"].label.tolist() == [0, 1, 2, -1, -1, 3, -1, -1, -1]
    (flag,) = told(cohort, "outcome 'ill'")
    assert "3 cell(s) are no word of ordered, so not looked for: 2 nearest to 'III', 1 like none" in flag
    assert flag in cohort.report["decisive"] and "iii" not in flag and "unclear" not in flag
    (flag,) = told(stages(read, "I|II|III|3|3|IV", '["I", "II", "IV"]'), "outcome 'ill'")
    assert "3 cell(s)" in flag and ": 1 nearest to 'II', 2 like none" in flag
    assert not told(stages(read, 'I|II|III|IV||"NA"', '["I", "II", "III", "IV"]'), "no word of")


def test_cells_that_are_like_no_class_are_counted_but_need_not_decide(read):
    people = "id,age,level,site,state,end,label\na,1,,,n,1,y\nb,1,,,n,1,n\nc,1,,,n,1,unclear\n"
    cohort = read(SPEC.replace("WORD", "n"), people=people, labs="id,day,code,value,unit\na,1,K,1,u\n")
    (flag,) = told(cohort, "1 cell(s) are no word of classes", ": 1 like none")
    assert flag not in cohort.report["decisive"]


def test_yes_and_no_that_are_not_given_are_counted(read):
    people = "id,age,level,site,label\na,1,,,1\nb,1,,,0\nc,1,,,NA\nd,1,,,\n"
    spec = SPEC.partition("[outcomes")[0]
    spec += '[outcomes.ill]\nkind = "diagnosis"\ntable = "people.csv"\ncolumn = "label"\n'
    cohort = read(spec, people=people, labs="id,day,code,value,unit\na,1,K,1,u\n")
    assert cohort.outcomes["ill"].label.tolist() == [1, 0, -1, -1]
    assert told(cohort, "people.csv: 1 cell(s) hold 'NA', taken as missing: 'label' 1")


def test_a_state_that_the_spec_does_not_name_is_refused_whatever_it_looks_like(read):
    people = "id,age,level,site,state,end,label\na,1,,,NA,9,y\n"
    with pytest.raises(InputError, match="state 'NA' is not in states"):
        read(SPEC.replace("WORD", '"n"'), people=people, labs="id,day,code,value,unit\na,1,K,1,u\n")


LONG = """
cohort = "c"
[patient]
table = "people.csv"
key = "id"
[nodes.lab]
table = {place}
time = "day"
code = "code"
value = "value"
"""
NAMES = (
    "labs[1]",
    "l*s",
    "lab?",
    "{labs1,labs}",
    "~labs",
    "labs%31",
    "labs 1",
    "la'bs",
    'la"bs',
    "md:labs",
    "labs#1",
)


def plant(folder, name: str, ending: str, frame: pl.DataFrame) -> str:
    """A table in a file of that name; the name of the table."""
    path = folder / f"{name}{ending}"
    if ending in (".csv", ".csv.gz"):
        import gzip

        raw = frame.write_csv().encode()
        path.write_bytes(gzip.compress(raw) if ending == ".csv.gz" else raw)
    elif ending == ".parquet":
        with path.open("wb") as handle:
            frame.write_parquet(handle)
    elif ending == "":
        path.mkdir()
        for half in (0, 1):
            with (path / f"{name}{half}.parquet").open("wb") as handle:
                frame[half::2].write_parquet(handle)
    elif ending == ".db":
        with sqlite3.connect(path) as base:
            base.execute("CREATE TABLE labs (id TEXT, day INT, code TEXT, value REAL)")
            base.executemany("INSERT INTO labs VALUES (?, ?, ?, ?)", frame.rows())
    else:
        duckdb = pytest.importorskip("duckdb")
        with duckdb.connect(str(folder / "made.duckdb")) as base:
            base.register("frame", frame.to_arrow())
            base.execute("CREATE TABLE labs AS SELECT * FROM frame")
        (folder / "made.duckdb").rename(path)
    return f"{path.name}/labs" if ending in (".db", ".duckdb") else path.name


@pytest.mark.parametrize("ending", ["", ".csv", ".csv.gz", ".parquet", ".db", ".duckdb"])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_pattern(tmp_path, monkeypatch, name, ending):
    """Beside the file that is named lie those that its name would fit as a pattern, one of them a link."""
    cohort_folder, outside, home = tmp_path / "cohort", tmp_path / "outside", tmp_path / "home"
    for folder in (cohort_folder, outside, home):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    right = pl.DataFrame({"id": ["x", "x"], "day": [1, 2], "code": ["K", "K"], "value": [4.0, 5.0]})
    wrong = right.with_columns(code=pl.lit("WRONG"))
    named = plant(cohort_folder, name, ending, right)
    plant(cohort_folder, "labs1", ending, wrong)
    plant(outside, "labs", ending, wrong)
    (cohort_folder / f"labs{ending}").symlink_to(outside / f"labs{ending}")
    (cohort_folder / "people.csv").write_text("id\nx\n")
    (cohort_folder / "c.toml").write_text(LONG.format(place=json.dumps(named)))
    monkeypatch.chdir(cohort_folder)
    for folder in (cohort_folder, Path()):
        try:
            cohort = read_cohort(cohort_folder / "c.toml", folder)
        except InputError as error:  # DuckDB keeps what follows a ? for itself
            assert (name, ending) == ("lab?", ".duckdb") and "\n" not in str(error)
            continue
        assert cohort.codes["lab"] == ("other", "K") and cohort.events["lab"].value.tolist() == [4, 5]
    # without the file itself, the name finds nothing
    whole = cohort_folder / f"{name}{ending}"
    shutil.rmtree(whole) if whole.is_dir() else whole.unlink()
    with pytest.raises(InputError, match="no such file"):
        read_cohort(cohort_folder / "c.toml", cohort_folder)
    # and a name that is a link out is refused
    (cohort_folder / f"{name}{ending}").symlink_to(outside / f"labs{ending}")
    with pytest.raises(InputError, match="leads out of"):
        read_cohort(cohort_folder / "c.toml", cohort_folder)


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_picture_is_no_pattern(tmp_path, name):
    from gnnpatient.content.image.base import UnreadableImageError
    from gnnpatient.content.image.files import locate

    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "labs1.png").write_bytes(b"other")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "images" / "labs.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(UnreadableImageError):
        locate(tmp_path / "images", f"{name}.png")
    if name[0] != "~":
        (tmp_path / "images" / f"{name}.png").write_bytes(b"mine")
        assert locate(tmp_path / "images", f"{name}.png").read_bytes() == b"mine"
    with pytest.raises(UnreadableImageError, match="leads out"):
        locate(tmp_path / "images", "labs.png")


@pytest.mark.parametrize("name", NAMES)
def test_a_draft_reads_the_files_that_are_there(tmp_path, monkeypatch, name):
    from gnnpatient.propose.sheets import read as sheet

    monkeypatch.chdir(tmp_path)
    frame = pl.DataFrame({"id": ["x"], "code": ["K"]})
    for ending in ("", ".csv", ".parquet"):
        named = plant(tmp_path, name, ending, frame)
        if ending:
            plant(tmp_path, "labs1", ending, pl.DataFrame({"id": ["y"], "code": ["WRONG"]}))
        for folder in (tmp_path, Path()):
            assert sheet(folder, named, "").raw["code"].to_list() == ["K"]


def labs_in(read, units: list[tuple[str, str, str]], more: str = "", node: str = ""):
    """A cohort of one patient with these values: code, number, unit."""
    rows = "".join(f"x,{i},{code},{value},{unit}\n" for i, (code, value, unit) in enumerate(units))
    head = more + LONG.format(place='"labs.csv"') + f'unit = "unit"\n{node}'
    if more:  # keys of the top come first
        head = LONG.format(place='"labs.csv"') + f'unit = "unit"\n{node}\n{more}'
    return read(head, people="id\nx\n", labs="id,day,code,value,unit\n" + rows)


@pytest.mark.parametrize(
    ("one", "other"), [("mU/L", "MU/L"), ("mg", "Mg"), ("mmol/L", "Mmol/L"), ("pg", "Pg")]
)
def test_case_counts_in_units(read, one, other):
    rows = [("TSH", "1", one), ("TSH", "2", one), ("TSH", "3", other)]
    with pytest.raises(InputError, match=f"'TSH' comes in '{one}' and '{other}'; .*case counts"):
        labs_in(read, rows)
    to = f'[units]\nTSH = {{ to = "{one}" }}\n'
    cohort = labs_in(read, rows, to)
    assert cohort.events["lab"].value.tolist() == [1, 2]
    assert cohort.report["tables"]["labs.csv"]["refused"] == {"unknown unit": 1}
    assert told(cohort, f"1 of 'TSH' in '{other}'", one) and cohort.report["decisive"]
    factor = f'[units]\nTSH = {{ to = "{one}", from = {{ "{other}" = 1e9 }} }}\n'
    assert labs_in(read, rows, factor).events["lab"].value.tolist() == [1, 2, 3e9]


SAME = [
    ("mg/dl", "mg/dL"),
    ("mmol/l", "mmol / L"),
    ("U/l", "U/L"),
    ("\u00b5mol/L", "\u03bcmol/l"),
    ("mcg/mL", "ug/ml"),
    ("mIU/L", "m[IU]/L"),
    ("mEq/L", "meq/l"),
    ("10^9/L", "x10*9/l"),
    ("kg/m\u00b2", "kg/m2"),
    ("mm Hg", "mmHg"),
    ("\u00b0C", "Cel"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spellings_of_one_unit_are_one(read, one, other):
    rows = [("K", "1", one), ("K", "2", one), ("K", "3", other)]
    cohort = labs_in(read, rows)
    assert cohort.events["lab"].value.tolist() == [1, 2, 3] and cohort.units["lab"] == ("", one)
    wanted = labs_in(read, rows, f'[units]\nK = {{ to = "Z", from = {{ "{other}" = 2 }} }}\n')
    assert wanted.events["lab"].value.tolist() == [2, 4, 6] and not wanted.report["flags"]


def test_a_spelling_that_nobody_knows_is_another_unit(read):
    rows = [("glucose", "90", "mg/dL"), ("glucose", "91", "mgdL"), ("glucose", "5", "")]
    cohort = labs_in(read, rows, '[units]\nglucose = { to = "mg/dL" }\n')
    assert cohort.report["tables"]["labs.csv"]["refused"] == {"unknown unit": 2}
    assert told(cohort, "1 of 'glucose' in 'mgdL'; did you mean 'mg/dL'?", "1 of 'glucose' without a unit")
    with pytest.raises(InputError, match="comes in 'mg/dL' and 'mgdL'"):
        labs_in(read, rows[:2])


def test_a_number_without_a_unit_is_not_of_the_others_unit(read):
    rows = [("K", "4.1", "mmol/L"), ("K", "15.6", ""), ("K", "", ""), ("K", "16.0", "NA"), ("pH", "7.4", "")]
    cohort = labs_in(read, rows)
    assert sorted(cohort.events["lab"].value[:3].tolist())[:1] == [np.float32(4.1)]
    assert cohort.report["tables"]["labs.csv"]["refused"] == {"no unit beside rows with one": 2}
    assert told(cohort, "2 of 'K' (others in 'mmol/L'); refused") == cohort.report["decisive"]
    assert not told(cohort, "'pH'")  # a code that never has a unit
    same = labs_in(read, rows, node='blank = "same"')
    assert len(same.events["lab"]) == 5 and told(
        same, "2 of 'K' (others in 'mmol/L'); taken as the same unit"
    )
    converted = labs_in(read, rows, '[units]\nK = { to = "mmol/L", from = { "" = 0.2558 } }\n')
    assert converted.events["lab"].value[1] == pytest.approx(15.6 * 0.2558)
    assert not converted.report["decisive"] and "refused" not in str(converted.report["flags"])


def test_units_that_standard_formats_leave_out_are_counted(tmp_path):
    (tmp_path / "data").mkdir()
    times = [datetime(2020, 1, day) for day in range(1, 6)]
    frame = pl.DataFrame(
        {
            "subject_id": [1] * 5,
            "time": times,
            "code": ["ADMIT", "LAB//K", "LAB//K", "LAB//K", "LAB//Na"],
            "numeric_value": [None, 4.0, 15.6, 16.1, 140.0],
            "units": [None, "mmol/L", None, "", None],
        }
    )
    frame.write_parquet(tmp_path / "data" / "0.parquet")
    spec = 'cohort = "c"\nformat = "meds"\n[patient]\norigin = { code = "ADMIT" }\n[nodes.lab]\n'
    (tmp_path / "c.toml").write_text(spec + 'where = { code = "LAB//*" }\nunit = "units"\n')
    cohort = read_cohort(tmp_path / "c.toml", tmp_path)
    assert cohort.report["tables"]["data"]["refused"].get("no unit beside rows with one") == 2
    assert told(cohort, "2 of 'LAB//K' (others in 'mmol/L')") and len(cohort.events["lab"]) == 2


SICK = """
cohort = "c"
[patient]
table = "people.csv"
key = "id"
exit = "end"
[nodes.dx]
table = "dx.csv"
time = "day"
code = "code"
{node}
[hierarchies.icd]
prefix = "ICD10"
{more}
[outcomes.sick]
kind = "diagnosis"
node = "dx"
codes = ["E11.9"]
horizon = "30d"
hide = {hide}
"""
PEOPLE = "id,end\nx,100\ny,100\n"
CODES = "id,day,code\nx,1,I25.10\nx,2,I21.4\nx,3,E11.9\ny,1,I25.11\ny,1,E11.65\ny,2,Z00\n"
FAMILY = '[nodes.family]\nof = "dx"\nhierarchy = "icd"\n'


def sick(read, hide: list[str], node: str = "", more: str = ""):
    spec = SICK.format(hide=json.dumps(hide), node=node, more=more)
    return read(spec, people=PEOPLE, dx=CODES)


def shown(cohort, kind: str) -> list[tuple[int, str]]:
    """Patient and code of each row of a kind."""
    events = cohort.events[kind]
    return sorted(
        zip(events.patient.tolist(), np.array(cohort.codes[kind])[events.code].tolist(), strict=True)
    )


def test_what_is_hidden_is_hidden_by_the_code_of_the_table(read):
    """`level` rolls codes up, but I25.10 is hidden all the same; the other code below I25 stays."""
    cohort = sick(read, ["I25.10"], 'hierarchy = "icd"\nlevel = 1', FAMILY)
    assert shown(cohort, "dx") == [(0, "I21"), (1, "E11"), (1, "I25"), (1, "Z00")]
    assert cohort.report["tables"]["dx.csv"]["refused"] == {"hidden: gives sick away": 2}
    assert cohort.outcomes["sick"].label.tolist() == [1, 0]  # by the code of the table as well
    plain = sick(read, ["I25.10"], "", FAMILY)
    assert shown(plain, "dx") == [(0, "I21.4"), (1, "E11.65"), (1, "I25.11"), (1, "Z00")]
    assert (0, "I25") not in shown(plain, "family") and (0, "I25.1") not in shown(plain, "family")
    assert {(1, "I25"), (1, "I25.1"), (0, "I21")} <= set(shown(plain, "family"))


def test_a_code_that_is_rolled_up_is_hidden_by_either_name(read):
    """The name that the table has hides its rows, that of the level all below it; one between is none."""
    node = 'hierarchy = "icd"\nlevel = 1'
    assert "I25" not in {code for _, code in shown(sick(read, ["I25.10", "I25.11"], node, FAMILY), "dx")}
    assert "I25" not in {code for _, code in shown(sick(read, ["I25"], node, FAMILY), "dx")}
    with pytest.raises(InputError, match=r"'I25.1' fits no code .* did you mean .*'I25.1\d'"):
        sick(read, ["I25.1"], node)


@pytest.mark.parametrize(
    ("hide", "more", "near"),
    [
        (["I25.9"], "", "did you mean 'I25.10'|did you mean 'I25.11'"),
        (["I25.10", "i21.4"], "", "'i21.4' fits no code"),
        (["I25"], "", "did you mean"),  # above the codes
        (["I25.10", "Nothing*"], FAMILY, "'Nothing\\*' fits no code of any node type and hides nothing"),
    ],
)
def test_a_pattern_that_hides_nothing_is_refused(read, hide, more, near):
    with pytest.raises(InputError, match=rf"outcomes\.sick\.hide: .*({near})"):
        sick(read, hide, "", more)


@pytest.mark.parametrize("outcome", ["people", "events"])
@pytest.mark.parametrize(
    ("form", "column"),
    [
        *(("fhir", name) for name in ("deceased", "death", "last", "death_bare")),
        *(("omop", name) for name in ("death", "observation_end", "last")),
        *(("meds", name) for name in ("death", "last")),
    ],
)
def test_what_came_of_a_person_is_no_static(tmp_path, form, column, outcome):
    from gnnpatient import read_spec

    cause = (
        '{ table = "people", time = "death" }' if outcome == "people" else '{ where = { code = "*DEATH" } }'
    )
    spec = f'cohort = "c"\nformat = "{form}"\n[patient]\nPLACE\norigin = {{ code = "A" }}\n'
    end = f'[outcomes.death]\nkind = "survival"\ncauses = {{ death = {cause} }}\nexit = "1y"\n'
    nodes = f'[nodes.told]\ntable = "people"\nuntimed = "origin"\ncolumns = {{ {column} = "" }}\n'
    for place, node in ((f'category = ["{column}"]', ""), (f'number = ["{column}"]', ""), ("", nodes)):
        (tmp_path / "c.toml").write_text(spec.replace("PLACE", place) + node + end)
        with pytest.raises(InputError, match=f"column '{column}' says what came of a person later"):
            read_spec(tmp_path / "c.toml")
    (tmp_path / "c.toml").write_text(spec.replace("PLACE", 'category = ["gender"]') + end)
    assert read_spec(tmp_path / "c.toml").patient.category == ("gender",)


LABEL = 'kind = "diagnosis"\ntable = "t.csv"\ncolumn = "label"'
DIED = 'kind = "survival"\ntable = "t.csv"\nexit = "1y"\n'
ROWS = DIED + 'causes = { d = { time = "day", where = { what = "died" } } }'
FLAG = DIED + 'causes = { d = { time = "end", flag = "died" } }'


@pytest.mark.parametrize(
    ("static", "node", "outcome"),
    [
        ('category = ["label"]', "", LABEL),
        ('number = ["end"]\nexit = "end"', "", LABEL),
        ('category = ["what"]', "", ROWS),
        ("", 'code = "label"', LABEL),
        ("", 'code = "x"\nvalue = "died"', FLAG),
    ],
)
def test_an_answer_is_no_input_by_another_way(tmp_path, static, node, outcome):
    from gnnpatient import read_spec

    spec = f'cohort = "c"\n[patient]\ntable = "t.csv"\nkey = "id"\n{static}\n'
    spec += f'[nodes.k]\ntable = "t.csv"\ntime = "day"\n{node}\n' * bool(node)
    (tmp_path / "c.toml").write_text(f"{spec}[outcomes.o]\n{outcome}\n")
    with pytest.raises(InputError, match="an input that holds the answer is refused"):
        read_spec(tmp_path / "c.toml")


@pytest.mark.parametrize("ending", ["csv", "parquet", "db"])
def test_a_missing_number_is_missing_however_it_is_written(tmp_path, ending):
    """-9 in the spec is the -9.0 that pandas writes, in every format."""
    cells = ["-9.0", "-9", "-9.00", "5.0", "-90"]
    (tmp_path / "people.csv").write_text("id\nx\n")
    place = "labs.db/labs" if ending == "db" else f"labs.{ending}"
    if ending == "csv":
        lines = "".join(f"x,{i},k,{cell}\n" for i, cell in enumerate(cells))
        (tmp_path / place).write_text(f"id,day,code,value\n{lines}")
    elif ending == "db":
        with sqlite3.connect(tmp_path / "labs.db") as base:
            base.execute("CREATE TABLE labs (id TEXT, day INT, code TEXT, value TEXT)")
            base.executemany("INSERT INTO labs VALUES ('x', ?, 'k', ?)", enumerate(cells))
    else:
        values = [float(cell) for cell in cells]
        pl.DataFrame({"id": "x", "day": range(5), "code": "k", "value": values}).write_parquet(
            tmp_path / place
        )
    node = f'[nodes.lab]\ntable = "{place}"\ntime = "day"\ncode = "code"\nvalue = "value"\n'
    spec = 'cohort = "c"\n[patient]\ntable = "people.csv"\nkey = "id"\n' + node
    (tmp_path / "c.toml").write_text(spec + f'[tables."{place}"]\nmissing = ["-9"]\n')
    value = read_cohort(tmp_path / "c.toml", tmp_path).events["lab"].value
    assert value[~np.isnan(value)].tolist() == [5, -90] and np.isnan(value).sum() == 3


def test_a_missing_number_with_a_decimal_comma(read):
    node = '[nodes.lab]\ntable = "labs.csv"\ntime = "day"\ncode = "code"\nvalue = "value"\n'
    spec = 'cohort = "c"\n[patient]\ntable = "people.csv"\nkey = "id"\n' + node
    spec += '[tables."labs.csv"]\nmissing = ["-9"]\nseparator = ";"\ndecimal = ","\n'
    cohort = read(spec, people="id\nx\n", labs="id;day;code;value\nx;1;k;-9,0\nx;2;k;4,5\n")
    assert np.isnan(cohort.events["lab"].value[0]) and cohort.events["lab"].value[1] == 4.5
