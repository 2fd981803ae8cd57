"""Rows that take the place of others, and rows that end: what is seen when, what is flagged and refused."""

import pytest

from gnnpatient.errors import InputError

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
LATE = f'time = "time"\ncode = "code"\nvalue = "value"\n{IDS}'
STAY = 'time = "time"\ncode = "code"\nuntil = "until"'


@pytest.fixture
def read(tmp_path):
    def reads(
        *lines: str,
        node: str = LONG,
        header: str = "time,known,code,value,unit,row,amends",
        more: str = "",
        exit: str = "",
    ):
        from gnnpatient import read_cohort

        (tmp_path / "patients.csv").write_text("pid,start\na,2021-03-01\nb,2021-03-01\n")
        rows = "\n".join(line if line[0] in "ab" and line[1] == "," else f"a,{line}" for line in lines)
        (tmp_path / "labs.csv").write_text(f"pid,{header}\n{rows}\n")
        spec = SPEC.format(node=node, more=more)
        (tmp_path / "c.toml").write_text(
            spec.replace("[units]", f'exit = "{exit}"\n[units]') if exit else spec
        )
        return read_cohort(tmp_path / "c.toml", tmp_path)

    return reads


def values(cohort, day, patient: str = "a") -> list[float]:
    from gnnpatient import build_graphs

    return build_graphs(cohort.at(day, patient=patient))["lab"].value.tolist()


def flags(cohort) -> list[str]:
    return list(cohort.report["flags"])


def refused(read, *lines: str, **more) -> str:
    with pytest.raises(InputError) as error:
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


REFUSED = {  # amendments of r1 (10 mg/L, known on day 1) that are no node: the line, more of the spec
    "out of range": ("1,3,crp,900,mg/L,r2,r1", ""),
    "unknown unit": ("1,3,crp,9,g,r2,r1", ""),
    "not a number": ("1,3,crp,gone,mg/L,r2,r1", ""),
    "no time": (",3,crp,9,mg/L,r2,r1", ""),
    "not a time": ("soon,3,crp,9,mg/L,r2,r1", ""),
    "happened after it was known": ("4,3,crp,9,mg/L,r2,r1", ""),
    "no code": ("1,3,,9,mg/L,r2,r1", ""),
    "no id of its own": ("1,3,crp,900,mg/L,,r1", ""),
    "left out by where": ("1,3,crp,9,withdrawn,r2,r1", '\nwhere = { unit = "mg/L" }'),
}


@pytest.mark.parametrize("why", REFUSED)
def test_an_amendment_that_cannot_be_read_takes_the_wrong_value_away(read, why):
    """The corrected row is known to be wrong from then on, whatever became of the row that says so."""
    line, more = REFUSED[why]
    cohort = read("1,1,crp,10,mg/L,r1,", line, "1,1,k,4,mg/L,r7,", node=LONG + more)
    assert [values(cohort, day) for day in (1, 2.99, 3, 9)] == [[10, 4], [10, 4], [4], [4]]
    assert sum(cohort.report["tables"]["labs.csv"]["refused"].values()) == 1
    said = "lab: 1 row(s) are amended by a row that is not used; hidden from then on"
    assert flags(cohort)[-1] == said  # after that of a unit


@pytest.mark.parametrize("known", ["", "soon"])
def test_a_row_that_is_amended_at_an_unknown_time_is_refused(read, known):
    """Nothing says from when on it is known to be wrong; kept, it would be seen when that is known."""
    cohort = read("1,1,crp,10,mg/L,r1,", f"1,{known},crp,9,mg/L,r2,r1", "1,1,k,4,,r7,")
    assert [values(cohort, day) for day in (1, 9)] == [[4], [4]]
    held = cohort.report["tables"]["labs.csv"]
    assert held["used"] == 1 and held["refused"]["amended by a row without a known time"] == 1
    lines = ("1,crp,10,r1,", f"{known},crp,9,r2,r1", "1,k,4,r7,")
    cohort = read(*lines, node=LATE, header="time,code,value,row,amends")  # the time is the known time
    assert values(cohort, 9) == [4]


def test_a_wide_row_whose_cells_are_all_refused_takes_the_row_away(read):
    cohort = read("1,1,10,4,r1,", "1,3,900,x,r2,r1", node=WIDE, header="time,known,crp,k,row,amends")
    assert [values(cohort, day) for day in (1, 3)] == [[10, 4], []]


@pytest.mark.parametrize("size", [2, 3, 5])
def test_rows_that_amend_each_other_are_refused(read, size):
    """In a ring of any length none stands: nothing says which is right."""
    ring = [f"1,2,crp,{i + 1},mg/L,r{i},r{(i + 1) % size}" for i in range(size)]
    cohort = read(*ring, "1,1,k,4,,s1,", "1,3,k,5,,s2,s1", "b,1,1,crp,7,mg/L,r0,", "b,1,2,crp,8,mg/L,r1,r0")
    assert [values(cohort, day) for day in (1, 2, 9)] == [[4], [4], [5]] and values(cohort, 2, "b") == [8]
    assert cohort.report["tables"]["labs.csv"]["refused"] == {"amends a row that amends it": size}
    assert flags(cohort)[0] == f"lab: {size} row(s) amend each other; none counts once all are known"


def test_what_stood_before_the_ring_was_closed_is_seen_until_then(read):
    """Only the second row makes it a ring: before it is known the first is a row like any other."""
    cohort = read("1,1,crp,10,mg/L,r1,r2", "1,3,crp,11,mg/L,r2,r1")
    assert [values(cohort, day) for day in (1, 2.99, 3, 9)] == [[10], [10], [], []]
    assert cohort.report["tables"]["labs.csv"]["refused"] == {"amends a row that amends it": 1}
    assert flags(cohort) == ["lab: 2 row(s) amend each other; none counts once all are known"]


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


DIAGNOSIS = """
[outcomes.mi]
kind = "diagnosis"
node = "lab"
codes = ["MI*"]
horizon = "10d"
gap = "0d"
[outcomes.mace]
kind = "survival"
exit = "90d"
causes = { mi = { node = "lab", codes = ["MI*"] } }
"""


def at_risk(cohort, outcome: str, *days: float, patient: str = "a") -> list[bool]:
    return [bool(cohort.at(day, patient=patient).at_risk(outcome)[0]) for day in days]


@pytest.mark.parametrize("last", ["no", "MI,x"])
def test_a_diagnosis_taken_back_later_closes_the_landmarks_at_which_it_stood(read, tmp_path, last):
    """Known on day 5 and amended on day 9, by a row that can be read or by one that cannot: nobody could know
    of the amendment before. Before day 5 the label is what stands in the end."""
    from gnnpatient import open_cohort

    code, value = (*last.split(","), "")[:2]
    lines = ("4,5,MI,,,r1,", f"4,9,{code},{value},,r2,r1", "b,1,1,k,4,,r3,")
    cohort = read(*lines, more=DIAGNOSIS, exit="90d")
    opened = open_cohort(cohort.save(tmp_path / "packed"), verify=True)
    for held in (cohort, opened):
        assert at_risk(held, "mi", 0, 4.99, 5, 7, 8.99, 9, 40) == [
            True,
            True,
            False,
            False,
            False,
            True,
            True,
        ]
        assert at_risk(held, "mace", 0, 4.99, 5, 8.99, 9, 40) == [True, True, False, False, True, True]
        assert all(at_risk(held, "mi", 5, 7, patient="b"))
        assert held.at([0, 4.99, 9], patient="a").outcome("mi")["label"].tolist() == [0, 0, 0]
        assert held.at([0, 9], patient="a").outcome("mace")["event"].tolist() == [0, 0]
    assert (
        "outcome 'mi': 1 patient(s) have a row of it that was amended or taken back later; not at risk "
        in str(flags(cohort))
    )


def test_a_diagnosis_that_comes_after_a_wrong_one_is_known_when_it_comes(read):
    lines = ("4,5,MI,,,r1,", "4,9,no,,,r2,r1", "30,30,MI,,,r3,")
    cohort = read(*lines, more=DIAGNOSIS, exit="90d")
    assert (
        at_risk(cohort, "mi", 2, 5, 8, 9, 20, 29.99, 30, 50)
        == [True] + [False] * 2 + [True] * 3 + [False] * 2
    )
    found = cohort.at([2, 9, 25], patient="a").outcome("mi")
    assert found["label"].tolist() == [0, 0, 1] and found["time"].tolist() == [28, 21, 5]


def test_a_diagnosis_that_is_amended_in_a_detail_is_known_from_its_first_form_on(read):
    lines = ("4,5,MI,,,r1,", "4,9,MI lateral,,,r2,r1", "4,12,MI anterior,,,r3,r2")
    cohort = read(*lines, more=DIAGNOSIS, exit="90d")
    assert at_risk(cohort, "mi", 2, 4.99, 5, 9, 12, 50) == [True, True] + [False] * 4
    found = cohort.at([0, 2], patient="a").outcome("mi")
    assert found["label"].tolist() == [1, 1] and found["time"].tolist() == [5, 3]


def test_an_event_whose_date_is_moved_later_was_thought_to_have_happened(read):
    """The infarction of day 4 turns out, on day 9, to be of day 8: asked on day 6 the patient had had one."""
    cohort = read("4,5,MI,,,r1,", "8,9,MI,,,r2,r1", more=DIAGNOSIS, exit="90d")
    assert at_risk(cohort, "mace", 4, 4.99, 5, 7, 8, 20) == [True, True] + [False] * 4


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
    assert len([flag for flag in flags(cohort) if "end(s)" in flag]) == (not good)
    assert running(cohort, "2021-03-05") == [not good]
