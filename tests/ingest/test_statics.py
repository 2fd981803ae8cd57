"""Statics are known from the time of their row on (METHODS 6, 29), whoever looks at them."""

import numpy as np
import pytest

DAY = 86_400
SPEC = """
cohort = "c"
[patient]
table = "visits.csv"
key = "pid"
number = ["size"]
category = ["stage"]
{patient}
[nodes.lab]
table = "visits.csv"
columns = {{ crp = "" }}
{node}
{more}
"""
VISITS = ["a,0,0,,,1", "a,800,800,M1,7,2", "b,0,0,M0,,3", "b,30,31,,5,4", "c,5,5,M0,6,5"]
HEADER = "pid,day,known,stage,size,crp"
TIMED = 'time = "day"'


@pytest.fixture
def read(tmp_path):
    def reads(*lines: str, header: str = HEADER, patient: str = "", node: str = TIMED, more: str = ""):
        from gnnpatient import read_cohort

        (tmp_path / "visits.csv").write_text("\n".join([header, *lines]) + "\n")
        (tmp_path / "c.toml").write_text(SPEC.format(patient=patient, node=node, more=more))
        return read_cohort(tmp_path / "c.toml", tmp_path)

    return reads


def shown(cohort, patient: str, *days: object) -> list[tuple]:
    """Stage and size at each day, as everybody who looks sees them: graph, table, picture, networkx."""
    from gnnpatient import build_graphs

    asks = cohort.at(list(days), patient=patient)
    graphs, table = build_graphs(asks), asks.to_frame()
    out = []
    for i, (number, level) in enumerate(zip(graphs.statics.number, graphs.statics.category, strict=True)):
        stage = cohort.levels["stage"][level[0]] if level[0] >= 0 else None
        size = None if number[0].isnan() else float(number[0])
        assert (table["stage"][i], table["size"][i]) == (stage, size)
        held = cohort.patient(patient).to_networkx(at=asks.days[i]).nodes["patient:0"]
        assert (held.get("stage"), held.get("size")) == (stage, size)
        out.append((stage, size))
    return out


def test_a_static_is_missing_until_its_row_is_known(read, tmp_path):
    from gnnpatient import open_cohort

    cohort = read(*VISITS)
    opened = open_cohort(cohort.save(tmp_path / "packed"), verify=True)
    for held in (cohort, opened):
        assert shown(held, "a", 0, 799.99, 800) == [(None, None), (None, None), ("M1", 7)]
        assert shown(held, "b", 0, 29.99, 30) == [("M0", None), ("M0", None), ("M0", 5)]
        assert shown(held, "c", 0, 4.99, 5) == [(None, None), (None, None), ("M0", 6)]
    assert cohort.report["decisive"] == [
        "visits.csv: statics are known from the time of their row on (day): size of 3, stage of 2 patient(s) "
        'only after day 0; where that is not so, set known = "0d" or a column in [patient]'
    ]
    assert cohort.spec.hash == opened.spec.hash


def test_the_known_time_of_a_row_counts(read):
    cohort = read(*VISITS, node=f'{TIMED}\nknown = "known"')
    assert shown(cohort, "b", 30, 30.99, 31) == [("M0", None), ("M0", None), ("M0", 5)]


@pytest.mark.parametrize(
    ("patient", "b"),
    [
        ('known = "known"', [("M0", None), ("M0", None), ("M0", 5)]),
        ('known = "0d"', [("M0", 5)] * 3),
        ('known = "30d"', [(None, None), ("M0", 5), ("M0", 5)]),
    ],
)
def test_the_spec_may_say_since_when(read, patient, b):
    cohort = read(*VISITS, patient=patient)
    assert shown(cohort, "b", 0, 30, 31) == b
    assert (cohort.report["decisive"] == []) == ('"0d"' in patient)


@pytest.mark.parametrize("order", [1, -1])
def test_of_rows_that_differ_the_first_known_counts_from_then_on(read, order):
    lines = ["a,9,9,M1,4,1", "a,3,3,M0,,1", "a,20,20,M1,3,1", "b,0,0,M0,1,1"]
    cohort = read(*lines[::order], patient='first = ["stage", "size"]')
    assert shown(cohort, "a", 0, 2.99, 3, 8.99, 9, 30) == [
        (None, None),
        (None, None),
        ("M0", None),
        ("M0", None),
        ("M0", 4),
        ("M0", 4),
    ]


def test_dates_a_day_0_row_is_as_of_the_origin_and_others_are_known_at_their_end(read):
    lines = [
        "a,2021-03-01,2021-03-01T10:00,,M0,1,1",
        "a,2021-03-04,2021-03-01T10:00,,,2,1",
        "b,2021-03-02,2021-03-01T10:00,,M1,3,1",
    ]
    cohort = read(
        *lines, header="pid,day,start,known,stage,size,crp", patient='origin = "start"\nfirst = ["size"]'
    )
    assert shown(cohort, "a", 0) == shown(cohort, "a", "2021-03-01") == [("M0", 1)]
    assert shown(cohort, "b", 0, 1) == [(None, None)] * 2
    assert shown(cohort, "b", "2021-03-02T23:59:58", "2021-03-02T23:59:59") == [(None, None), ("M1", 3)]


def test_a_value_in_a_row_without_a_time_is_left_out(read):
    """Nothing says since when; of day 0 it would be only where the spec says so of the rows themselves."""
    lines = ["a,0,0,,,1", "a,,,M1,7,2", "b,0,0,M0,1,3", "b,soon,3,M0,2,3"]
    cohort = read(*lines[:3])
    assert shown(cohort, "a", 0, 999) == [(None, None)] * 2 and np.isnan(cohort.number[0, 0])
    assert cohort.category[0, 0] == -1
    assert (
        "visits.csv: 'stage' of 1 patient(s) is in rows without a time; left out" in cohort.report["decisive"]
    )
    assert shown(read(*lines[:3], node=f'{TIMED}\nuntimed = "origin"'), "a", 0) == [("M1", 7)]
    assert shown(read(*lines, patient='first = ["size"]'), "b", 0, 99) == [("M0", 1)] * 2


def test_one_row_a_patient_with_a_time(read):
    cohort = read("a,0,0,M0,1,1", "b,800,800,M1,2,1")
    assert shown(cohort, "a", 0) == [("M0", 1)]
    assert shown(cohort, "b", 0, 799.99, 800) == [(None, None), (None, None), ("M1", 2)]


def test_a_time_that_few_rows_have_is_of_an_event_and_not_of_the_row(read):
    """A relapse on day 50, in a table of one row a patient, says nothing of when the stage was known."""
    cohort = read(*[f"p{i:02},{50 * (i == 0) or ''},,M0,{i},1" for i in range(20)])
    assert cohort.number_known is None and shown(cohort, "p00", 0) == [("M0", 0)]
    assert sorted(flag.partition(",")[0] for flag in cohort.report["flags"]) == [
        'visits.csv (lab): 19 of 20 rows refused: 19 no time; untimed = "origin" in the node takes such rows '
        "as of day 0",
        "visits.csv: statics count as known on day 0",
    ]
    lines = [f"p{i:02},{d},{50 if i == 0 else ''},M0,{i},1" for i in range(20) for d in (3, 4)]
    relapse = '[nodes.relapse]\ntable = "visits.csv"\ntime = "known"\ncolumns = { size = "" }'
    cohort = read(*lines, more=relapse)
    assert set(cohort.category_known[:, 0].tolist()) == {3 * DAY}


def test_without_times_statics_are_as_of_the_origin(read):
    """As ever; but a value that only a later row of the patient holds is told."""
    node = 'untimed = "origin"'
    cohort = read("a,0,0,M0,1,1", "b,9,9,M1,2,1", node=node)
    assert cohort.number_known is None and cohort.category_known is None
    assert shown(cohort, "b", 0) == [("M1", 2)] and cohort.report["flags"] == []
    assert "known" not in cohort.spec.to_json()
    cohort = read("a,0,0,,1,1", "a,9,9,M1,1,1", "b,0,0,M0,,1", node=node)
    assert shown(cohort, "a", 0) == [("M1", 1)]
    assert cohort.report["decisive"] == [
        "visits.csv: 'stage' of 1 patient(s) is in a later row and counts as known on day 0; "
        "[patient] known names the column that times a row"
    ]


def test_the_past_does_not_see_what_a_later_row_says(read):
    """Poison: every later row changed, or gone, leaves graphs and tables as they were, bit for bit."""
    from gnnpatient import build_graphs

    first = 'first = ["stage", "size"]'
    later = [
        line.rsplit(",", 3)[0] + ",M9,1e9,1e9" if line[2:].split(",")[0] != "0" else line for line in VISITS
    ]
    today = [line for line in VISITS if line[2:].split(",")[0] == "0"]
    whole = read(*VISITS, patient=first)
    want = whole.at(0, patient=["a", "b"])
    for lines in (later, today):
        asks = read(*lines, patient=first).at(0, patient=["a", "b"])
        assert asks.to_frame().equals(want.to_frame())
        one, two = (build_graphs(x).statics.number.numpy().tobytes() for x in (asks, want))
        assert one == two


def test_the_picture_does_not_show_what_is_not_known_yet(read):
    from gnnpatient.patient.figure import _VisibleRows

    cohort = read(*VISITS)
    assert _VisibleRows(cohort.at(10, patient="a")).statics() == "size missing,  stage missing"
    assert _VisibleRows(cohort.at(800, patient="a")).statics() == "size 7,  stage M1"


def test_pickles_and_parts_keep_the_known_times(read):
    import pickle

    cohort = pickle.loads(pickle.dumps(read(*VISITS)))
    assert shown(cohort.only([]), "a", 0, 800) == [(None, None), ("M1", 7)]


# ---- people of a format


def people(tmp_path, category: str, more: str = ""):
    import json

    from gnnpatient import read_cohort

    who = {"resourceType": "Patient", "id": "p", "gender": "male", "birthDate": "1950-01-01"}
    who |= {"deceasedDateTime": "2021-05-05", "maritalStatus": {"text": "widowed"}}
    stay = {
        "resourceType": "Encounter",
        "id": "e",
        "type": [{"text": "x"}],
        "subject": {"reference": "Patient/p"},
    }
    stay |= {"period": {"start": "2021-01-01T00:00:00Z"}}
    (tmp_path / "all.ndjson").write_text(f"{json.dumps(who)}\n{json.dumps(stay)}\n")
    patient = f'origin = {{ code = "ENCOUNTER//*" }}\ncategory = ["{category}"]\n{more}'
    (tmp_path / "c.toml").write_text(f'cohort = "c"\nformat = "fhir"\n[patient]\n{patient}\n')
    return read_cohort(tmp_path / "c.toml", tmp_path)


@pytest.mark.parametrize("name", ["death", "last", "birth"])
def test_a_date_of_a_person_is_no_static(tmp_path, name):
    from gnnpatient.errors import InputError

    why = "says what came of a person later"
    if name == "birth":
        why = f"people: column '{name}' is a date, which may lie after day 0"
    with pytest.raises(InputError, match=why):
        people(tmp_path, name)


def test_what_a_person_was_at_the_export_is_flagged(tmp_path):
    said = people(tmp_path, "marital").report["decisive"]
    assert [line.partition(";")[0] for line in said] == [
        "people: 'marital' is as of the export, not of day 0"
    ]
    assert people(tmp_path, "gender").report["decisive"] == []
    late = people(tmp_path, "marital", 'known = "30d"')
    assert [int(late.statics(np.zeros(1, int), np.array([d * DAY]))[1][0, 0]) for d in (29, 30)] == [-1, 0]


# ---- who is asked about, by nothing later than the ask

ENTRY = """
cohort = "c"
[patient]
table = "patients.csv"
key = "pid"
{entry}
[nodes.dx]
table = "dx.csv"
time = "time"
known = "known"
code = "code"
row = "row"
amends = "amends"
[outcomes.death]
kind = "survival"
table = "patients.csv"
exit = "end"
causes = {{ death = {{ time = "died" }} }}
"""


@pytest.fixture
def enters(tmp_path):
    def reads(*lines: str, entry: str = 'entry = { node = "dx", code = "MI*" }'):
        from gnnpatient import read_cohort

        (tmp_path / "patients.csv").write_text("pid,end,died\na,99,\nb,99,\n")
        (tmp_path / "dx.csv").write_text("\n".join(["pid,time,known,code,row,amends", *lines]) + "\n")
        (tmp_path / "c.toml").write_text(ENTRY.format(entry=entry))
        return read_cohort(tmp_path / "c.toml", tmp_path)

    return reads


def at_risk(cohort, *days: float) -> list[bool]:
    return cohort.at(list(days), patient="a").at_risk("death").tolist()


def test_an_entry_by_the_last_event_is_refused(enters):
    """Which event is the last is known only when there is no later one."""
    from gnnpatient.errors import InputError

    said = r'patient.entry: pick = "last" would let a later event .*; write pick = "first"'
    with pytest.raises(InputError, match=said):
        enters("a,1,1,MI,r1,", entry='entry = { node = "dx", code = "MI*", pick = "last" }')


def test_an_entry_by_an_event_is_when_it_is_known(enters):
    cohort = enters("a,3,10,MI,r1,", "a,5,20,MI,r2,", "b,0,0,x,r3,")
    assert at_risk(cohort, 3, 9.99, 10, 30) == [False, False, True, True]
    assert cohort.entry.tolist() == [10 * DAY, 2**63 - 1]  # b has no such event and never enters


@pytest.mark.parametrize("amended", ["a,3,30,no,r2,r1", "a,40,30,MI,r2,r1", "a,3,30,,r2,r1"])
def test_an_amendment_does_not_change_who_has_entered_before(enters, amended):
    """Asked on day 10, the event stood; what is said on day 30 takes nobody out of that."""
    cohort = enters("a,3,5,MI,r1,", amended, "b,0,0,x,r3,", "a,50,50,MI,r4,")
    assert at_risk(cohort, 4.99, 5, 10, 29, 60) == [False, True, True, True, True]


def test_later_rows_never_change_who_is_asked_about(enters):
    early = ["a,3,5,MI,r1,", "b,0,0,x,r3,"]
    later = ["a,6,7,MI,r4,", "a,8,9,no,r5,r1", "a,1,20,MI,r6,", "b,9,9,MI,r7,"]
    want = at_risk(enters(*early), 0, 4, 5, 6)
    for n in range(1, len(later) + 1):
        assert at_risk(enters(*early, *later[:n]), 0, 4, 5, 6) == want


def test_a_day_0_that_is_the_last_event_is_flagged(tmp_path):
    from datetime import datetime

    import polars as pl

    from gnnpatient import read_cohort

    times = [datetime(2020, 1, d) for d in (1, 5, 9)]
    frame = pl.DataFrame({"subject_id": [1, 1, 1], "time": times, "code": ["ADMIT", "ADMIT", "LAB"]})
    (tmp_path / "data").mkdir()
    frame.write_parquet(tmp_path / "data" / "0.parquet")
    for pick, told in (("first", 0), ("last", 1)):
        spec = f'cohort = "c"\nformat = "meds"\n[patient]\norigin = {{ code = "ADMIT", pick = "{pick}" }}\n'
        (tmp_path / "c.toml").write_text(spec)
        cohort = read_cohort(tmp_path / "c.toml", tmp_path)
        assert (
            len([f for f in cohort.report["decisive"] if f.startswith('origin: pick = "last" chooses day 0')])
            == told
        )
