"""Patterns of columns: what * stands for is the code, and what means something else never fits."""

import numpy as np
import pytest

from gnnpatient.errors import InputError

TOML = """
cohort = "c"
[patient]
table = "wide.csv"
key = "pid"
number = ["age_rna"]
group = "site_rna"
[nodes.gene]
table = "wide.csv"
time = "day_rna"
columns = COLUMNS
[outcomes.death]
kind = "survival"
table = "wide.csv"
causes = { death = { time = "end_rna", flag = "died_rna" } }
[outcomes.icu]
kind = "diagnosis"
table = "wide.csv"
column = "icu_rna"
[outcomes.relapse]
kind = "survival"
causes = { relapse = { table = "wide.csv", time = "back_rna", where = { why_rna = "relapse" } } }
"""
HEAD = "pid,B_rna,A_rna,A_mut,dose,age_rna,site_rna,day_rna,end_rna,died_rna,icu_rna,back_rna,why_rna"
ROWS = ["a,1,2.5,0,7,50,x,0,9,1,0,4,relapse", "b,,-1,1,8,60,y,1,8,0,1,5,relapse"]
RNA = '{ "*_rna" = "z" }'


@pytest.fixture
def reads(tmp_path):
    from gnnpatient import read_cohort

    def read(columns: str, head: str = HEAD, rows: list[str] = ROWS):
        (tmp_path / "wide.csv").write_text("\n".join([head, *rows]) + "\n")
        (tmp_path / "c.toml").write_text(TOML.replace("COLUMNS", columns))
        return read_cohort(tmp_path / "c.toml", tmp_path)

    return read


def test_what_the_star_stands_for_is_the_code(reads):
    from gnnpatient import build_graphs

    cohort = reads(RNA)
    assert cohort.codes["gene"] == ("other", "A", "B") and cohort.units["gene"] == ("", "z", "z")
    nodes = build_graphs(cohort.at(2, patient=["a", "b"]))["gene"]
    said = zip(nodes.owner.tolist(), nodes.code.tolist(), nodes.value.tolist(), strict=True)
    assert sorted(said) == [(0, 1, 2.5), (0, 2, 1.0), (1, 1, -1.0)]  # an empty cell makes no node


@pytest.mark.parametrize("columns", [RNA, '{ "*" = "" }'])
def test_ids_times_statics_and_answers_never_fit(reads, columns):
    cohort = reads(columns)
    meant = {"pid", "age_rna", "site_rna", "day_rna", "end_rna", "died_rna", "icu_rna", "back_rna", "why_rna"}
    assert meant == set(HEAD.split(",")) - {"B_rna", "A_rna", "A_mut", "dose"}
    assert not {*meant, *(name.removesuffix("_rna") for name in meant)} & set(cohort.codes["gene"])


def test_the_order_of_columns_in_the_file_is_nothing(reads):
    one = reads(RNA)
    order = np.random.default_rng(0).permutation(len(HEAD.split(","))).tolist()
    head, *rows = (",".join(line.split(",")[i] for i in order) for line in (HEAD, *ROWS))
    two = reads(RNA, head, rows)
    assert head != HEAD and one.codes == two.codes
    for name, column in one.events["gene"].columns().items():
        assert column.tobytes() == two.events["gene"].columns()[name].tobytes(), name


def test_a_column_by_name_goes_before_a_pattern_and_the_first_pattern_before_the_next(reads):
    cohort = reads('{ "A_*" = "first", "*_rna" = "second", A_mut = "own", dose = "mg" }')
    assert cohort.codes["gene"] == ("other", "rna", "B", "A_mut", "dose")
    assert cohort.units["gene"] == ("", "first", "second", "own", "mg")


def test_a_star_that_stands_in_the_name_of_a_column_is_that_column(reads):
    head = HEAD.replace("dose", "do*")
    assert reads('{ "do*" = "mg" }', head).codes["gene"] == ("other", "do*")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ('{ "*_cnv" = "" }', r"wide.csv: no column fits '\*_cnv'"),
        ('{ "died*" = "" }', r"'died_rna' fits 'died\*', but means something else"),
        ('{ "*_rna" = "", "*_mut" = "" }', "columns 'A_rna' and 'A_mut' both have the code 'A'"),
        ('{ "*_r*" = "" }', r"no column '\*_r\*'"),
        ('{ died_rna = "" }', "part of outcome 'death'"),
    ],
)
def test_what_would_be_wrong_is_refused(reads, columns, message):
    with pytest.raises(InputError, match=message) as error:
        reads(columns)
    assert "\n" not in str(error.value)
