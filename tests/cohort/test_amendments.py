"""Rows that take the place of others, and rows that end: what is seen when, what is flagged and refused."""

import pytest

from gnnpatient.errors import Refused

SPEC = """
cohort = "c"
[patient]
table = "patients.csv"
key = "pid"
origin = "start"
[units]
crp = {{ to = "mg/L", range = [0, 500] }}
[nodes.lab]
table = "labs.csv"
{node}
{more}
"""
IDS = 'row = "row"\namends = "amends"'
LONG = f'time = "time"\nknown = "known"\ncode = "code"\nvalue = "value"\nunit = "unit"\n{IDS}'
WIDE = f'time = "time"\nknown = "known"\ncolumns = {{ crp = "mg/L", k = "" }}\n{IDS}'
STAY = 'time = "time"\ncode = "code"\nuntil = "until"'


@pytest.fixture
def read(tmp_path):
    def reads(
        *lines: str, node: str = LONG, header: str = "time,known,code,value,unit,row,amends", more: str = ""
    ):
        from gnnpatient import read_cohort

        (tmp_path / "patients.csv").write_text("pid,start\na,2021-03-01\nb,2021-03-01\n")
        rows = "\n".join(line if line[0] in "ab" and line[1] == "," else f"a,{line}" for line in lines)
        (tmp_path / "labs.csv").write_text(f"pid,{header}\n{rows}\n")
        (tmp_path / "c.toml").write_text(SPEC.format(node=node, more=more))
        return read_cohort(tmp_path / "c.toml", tmp_path)

    return reads


def values(cohort, day, patient: str = "a") -> list[float]:
    from gnnpatient import build_graphs

    return build_graphs(cohort.at(day, patient=patient))["lab"].value.tolist()


def flags(cohort) -> list[str]:
    return list(cohort.report["flags"])


def refused(read, *lines: str, **more) -> str:
    with pytest.raises(Refused) as error:
        read(*lines, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_amendment_takes_the_place_from_its_own_known_time_on(read):
    cohort = read("1,2,crp,10,mg/L,r1,", "1,4,crp,11,mg/L,r2,r1", "1,6,crp,12,mg/L,r3,r2")
    assert [values(cohort, day) for day in (1, 2, 3.99, 4, 5.99, 6)] == [[], [10], [10], [11], [11], [12]]
    assert not flags(cohort) and cohort.report["tables"]["labs.csv"]["used"] == 3
    frame = cohort.at([3, 5, 7], patient="a").to_frame()
    assert frame["lab.crp"].to_list() == [10, 11, 12] and frame["lab.crp.n"].to_list() == [1, 1, 1]


def test_an_amendment_known_first_hides_the_row_from_the_beginning(read):
    cohort = read("1,5,crp,10,mg/L,r1,", "1,2,crp,11,mg/L,r2,r1")
    assert [values(cohort, day) for day in (1, 2, 5, 9)] == [[], [11], [11], [11]]


def test_of_two_amendments_the_first_known_takes_the_place_and_both_stay(read):
    cohort = read("1,1,crp,10,mg/L,r1,", "1,3,crp,11,mg/L,r2,r1", "1,5,crp,12,mg/L,r3,r1")
    assert [values(cohort, day) for day in (1, 3, 5)] == [[10], [11], [11, 12]]


def test_an_amendment_may_change_everything(read):
    """Another code, another time, no value at all: the old row is gone, whatever the new one says."""
    from gnnpatient import build_graphs

    cohort = read("1,1,crp,10,mg/L,r1,", "2,3,k,,,r2,r1")
    after = build_graphs(cohort.at(4, patient="a"))["lab"]
    assert [cohort.codes["lab"][code] for code in after.code] == ["k"]
    assert after.value.isnan().all() and after.age.tolist() == [2]


def test_an_amendment_that_is_refused_replaces_nothing(read):
    cohort = read(
        "1,1,crp,10,mg/L,r1,", "1,3,crp,900,mg/L,r2,r1", "1,3,crp,9,g,r3,r1", "soon,3,crp,9,mg/L,r4,r1"
    )
    assert values(cohort, 9) == [10]
    assert sum(cohort.report["tables"]["labs.csv"]["refused"].values()) == 3


def test_amending_a_row_that_is_not_there_is_flagged_and_kept(read):
    cohort = read("1,1,crp,10,mg/L,r1,", "1,3,crp,11,mg/L,r2,r9", "b,1,3,crp,12,mg/L,r3,r1")
    assert values(cohort, 9) == [10, 11] and values(cohort, 9, "b") == [12]  # r1 is a's, not b's
    assert flags(cohort) == ["lab: 2 amendment(s) of a row that the patient does not have; kept"]


def test_amending_a_row_that_was_refused_is_flagged_and_kept(read):
    cohort = read("1,1,crp,900,mg/L,r1,", "1,3,crp,90,mg/L,r2,r1")
    assert [values(cohort, day) for day in (1, 3)] == [[], [90]]
    assert flags(cohort) == ["lab: 1 amendment(s) of a row that the patient does not have; kept"]


def test_ids_are_verbatim(read):
    cohort = read("1,1,crp,10,mg/L,1,", "1,3,crp,11,mg/L,2,01", "1,3,crp,12,mg/L,3,1")
    assert values(cohort, 3) == [11, 12]
    assert flags(cohort) == ["lab: 1 amendment(s) of a row that the patient does not have; kept"]


def test_an_exact_repeat_that_nobody_amends_stands(read):
    cohort = read("1,1,crp,10,mg/L,r1,", "1,1,crp,10,mg/L,r2,", "1,3,crp,11,mg/L,r3,r1")
    assert [values(cohort, day) for day in (1, 3)] == [[10], [10, 11]]
    assert cohort.report["tables"]["labs.csv"]["collapsed"] == 1


def test_a_row_of_a_wide_table_is_replaced_as_a_whole(read):
    lines = ("1,1,10,4,r1,", "1,3,,5,r2,r1")
    cohort = read(*lines, node=WIDE, header="time,known,crp,k,row,amends")
    assert [values(cohort, day) for day in (1, 3)] == [[10, 4], [5]]


def test_an_event_that_was_taken_back_is_none(read):
    death = """
[outcomes.mi]
kind = "survival"
exit = "30d"
causes = { mi = { node = "lab", codes = ["MI*"] } }
"""
    lines = ("3,3,MI,,,r1,", "3,5,no,,,r2,r1", "b,3,3,MI,,,r3,", "b,4,6,MI lateral,,,r4,r3")
    held = read(*lines, more=death).outcomes["mi"]
    assert held.event.tolist() == [0, 1] and (held.time / 86_400).tolist() == [30, 4]


def test_rows_that_amend_themselves_are_refused(read):
    said = refused(read, "1,1,crp,10,mg/L,r1,r1", "1,1,crp,11,mg/L,r2,", "1,2,crp,12,mg/L,r3,r3")
    assert said == "lab: 2 row(s) amend themselves; amends names the row that is replaced"


def test_row_and_amends_belong_together(read):
    for lost in ('\nrow = "row"', '\namends = "amends"'):
        said = refused(read, "1,1,crp,10,mg/L,r1,", node=LONG.replace(lost, ""))
        assert said.endswith(
            "nodes.lab: an amendment needs both: row = COLUMN with a row's id, amends = COLUMN naming one"
        )
    said = refused(read, "1,1,crp,10,mg/L,r1,", node=LONG.replace('"amends"', '"ammends"'))
    assert said == "labs.csv: no column 'ammends'; did you mean 'amends'?"


@pytest.mark.parametrize(("node", "header"), [(LONG, None), (STAY, "time,code,until")])
def test_replaced_and_until_are_saved(read, tmp_path, node, header):
    from gnnpatient import build_graphs, open_cohort

    if header is None:
        cohort = read("1,2,crp,10,mg/L,r1,", "1,4,crp,11,mg/L,r2,r1")
    else:
        cohort = read("1,x,3", "2,y,", "2,z,5", node=node, header=header)
    opened = open_cohort(cohort.save(tmp_path / "packed"), verify=True)
    for day in (1, 3, 4, 9):
        one, two = (build_graphs(c.at(day))["lab"] for c in (cohort, opened))
        assert one.value.nan_to_num(-1).equal(two.value.nan_to_num(-1)) and one.open.equal(two.open)
        assert one.ptr.equal(two.ptr) and one.timepoint.equal(two.timepoint)


def test_the_picture_of_a_patient_shows_the_rows_that_stand(read):
    cohort = read("1,1,crp,10,mg/L,r1,", "2,2,k,4,,r2,", "1,3,crp,11,mg/L,r3,r1")
    for day, shown in ((2, {(10, 1), (4, 2)}), (3, {(4, 2), (11, 3)})):
        graph = cohort.patient("a").to_networkx(at=day)
        held = [data for _, data in graph.nodes(data=True) if data["kind"] == "lab"]
        assert {(data["value"], data["known"]) for data in held} == shown


# ---- rows that end


def running(cohort, day) -> list[bool]:
    from gnnpatient import build_graphs

    return build_graphs(cohort.at(day, patient="a"))["lab"].open.tolist()


def test_an_interval_runs_until_the_ask_has_passed_its_end(read):
    cohort = read("1,x,3", "1.5,y,", node=STAY, header="time,code,until")
    assert [running(cohort, day) for day in (0.5, 1, 2, 3 - 1e-5, 3, 99)] == [
        [],
        [True],
        [True, True],
        [True, True],
        [False, True],
        [False, True],
    ]
    assert not flags(cohort)


def test_of_repeats_the_longest_runs(read):
    for lines in (("1,x,3", "1,x,5"), ("1,x,5", "1,x,3")):
        cohort = read(*lines, node=STAY, header="time,code,until")
        assert [running(cohort, day) for day in (2, 4, 5)] == [[True], [True], [False]]
        assert cohort.report["tables"]["labs.csv"]["collapsed"] == 1


def test_an_end_that_cannot_be_is_flagged_and_not_known(read):
    lines = ("3,x,2", "3,y,later", "3,z,3", "3,w,", "3,v,4", "soon,u,1")
    cohort = read(*lines, node=STAY, header="time,code,until")
    assert flags(cohort) == ["lab: 2 end(s) before the beginning or not a time; taken as not known"]
    names = [cohort.codes["lab"][code] for code in cohort.events["lab"].code]
    assert dict(zip(names, running(cohort, 9), strict=True)) == {
        "v": False,
        "w": True,
        "x": True,
        "y": True,
        "z": False,
    }


@pytest.mark.parametrize(
    ("start", "end", "good"),
    [
        ("2021-03-04", "2021-03-04", True),
        ("2021-03-04T10:00", "2021-03-04", True),
        ("2021-03-04", "2021-03-04T10:00", True),  # a date may have begun at any hour of its day
        ("2021-03-04", "2021-03-03T23:59", False),
        ("2021-03-04T10:00", "2021-03-04T09:59", False),
        ("2021-03-04T10:00", "2021-03-04T10:00+01:00", False),
        ("2021-03-04", "2021-03-03", False),
    ],
)
def test_an_end_is_judged_by_the_day_where_either_is_a_date(read, start, end, good):
    cohort = read(f"{start},x,{end}", node=STAY, header="time,code,until")
    assert len(flags(cohort)) == (not good)
    assert running(cohort, "2021-03-05") == [not good]
