"""Who enters and who is lost: the entry event, loss to follow-up, deaths that no calendar can hold, no codes.

Each cohort is made here, so that the right answer is known.
"""

import json
from datetime import datetime

import numpy as np
import polars as pl
import pytest

from gnnpatient.errors import InputError

DAY, FOREVER = 86_400, 2**63 - 1
PATIENT = '[patient]\ntable = "people.csv"\nkey = "id"\n'
LAB = '[nodes.lab]\ntable = "lab.csv"\ntime = "t"\ncode = "c"\n'
DEATH = '[outcomes.death]\nkind = "survival"\ntable = "people.csv"\n'
FLAG = 'causes = { death = { time = "dt", flag = "d" } }\n'


@pytest.fixture
def read(tmp_path):
    from gnnpatient import read_cohort

    def reads(spec, **tables):
        (tmp_path / "spec.toml").write_text(f'cohort = "c"\n{spec}')
        for name, text in tables.items():
            (tmp_path / f"{name}.csv").write_text(text)
        return read_cohort(tmp_path / "spec.toml", tmp_path)

    return reads


@pytest.fixture
def meds(tmp_path):
    """A cohort of MEDS rows: subject, ISO time, code."""
    from gnnpatient import read_cohort

    def reads(rows, patient, death="causes = { death = { where = { code = 'MEDS_DEATH' } } }"):
        spec = (
            f"cohort = 'c'\nformat = 'meds'\n[patient]\n{patient}\n[nodes.lab]\nwhere = {{ code = 'L*' }}\n"
        )
        (tmp_path / "spec.toml").write_text(f"{spec}[outcomes.death]\nkind = 'survival'\n{death}\n")
        cells = [(i, datetime.fromisoformat(at), code) for i, at, code in rows]
        schema = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String}
        frame = pl.DataFrame(cells, schema=schema, orient="row")
        frame = frame.with_columns(numeric_value=pl.lit(None, pl.Float32)).sort("subject_id", "time")
        (tmp_path / "data").mkdir()
        frame.write_parquet(tmp_path / "data" / "0.parquet")
        return read_cohort(tmp_path / "spec.toml", tmp_path)

    return reads


@pytest.fixture
def fhir(tmp_path):
    """A cohort of FHIR patients, each with one observation on 2021-03-04."""
    from gnnpatient import read_cohort

    def reads(people, exit="60d"):
        lines = [{"resourceType": "Patient", "birthDate": "1960-01-01", **person} for person in people]
        lines += [
            {
                "resourceType": "Observation",
                "id": f"o{i}",
                "status": "final",
                "subject": {"reference": f"Patient/{person['id']}"},
                "code": {"coding": [{"system": "http://loinc.org", "code": "1"}]},
                "effectiveDateTime": f"2021-03-{4 + 20 * late:02}T12:00:00Z",
            }
            for i, person in enumerate(people)
            for late in range(2)
        ]
        for i, line in enumerate(lines[len(people) :]):
            line["id"] = f"o{i}"
        (tmp_path / "all.ndjson").write_text("\n".join(map(json.dumps, lines)))
        (tmp_path / "spec.toml").write_text(
            'cohort = "c"\nformat = "fhir"\n[patient]\n'
            'origin = { code = "*", pick = "first" }\n' + f'exit = "{exit}"\n'
            '[nodes.lab]\ntable = "Observation"\n'
            '[outcomes.death]\nkind = "survival"\ncauses = { death = { where = { code = "DEATH" } } }\n'
        )
        return read_cohort(tmp_path / "spec.toml", tmp_path)

    return reads


def steps(cohort, outcome="death"):
    return {step["step"]: step["n"] for step in cohort.flow() if step["outcome"] == outcome}


def flagged(cohort, *words):
    (found,) = [flag for flag in cohort.report["flags"] if all(word in flag for word in words)]
    assert found in cohort.report["decisive"]
    return found


# -- the entry event --

PEOPLE = "id,dt,d\n" + "".join(f"{i},{100 + i},{i % 2}\n" for i in range(1, 5))
LABS = "id,t,c\n" + "".join(f"{i},0,K\n{i},5,K\n" for i in range(1, 5))
ICU = PATIENT + 'entry = { node = "lab", code = "ICU" }\n' + LAB + DEATH + FLAG


def test_who_never_has_the_entry_event_never_enters(read, tmp_path):
    """A row that comes later takes nobody out of an earlier ask."""
    from gnnpatient import open_cohort

    asked = []
    for later in ("", "2,60,ICU\n"):
        cohort = read(ICU, people=PEOPLE, lab=LABS + "1,3,ICU\n" + later)
        asked.append(cohort.at(10).at_risk().tolist())
    assert asked == [[True, False, False, False]] * 2
    assert cohort.entry.tolist() == [3 * DAY, 60 * DAY, FOREVER, FOREVER]
    assert not cohort.at(99).at_risk()[2:].any() and cohort.has_later_rows
    assert cohort.entries().patient.tolist() == [0, 1]
    drawn = cohort.landmarks(n=5)
    assert set(drawn.patient) == {0, 1} and drawn.days.max() < 105
    assert len(cohort.landmarks(["3", "4"], n=5)) == 0
    found = steps(cohort)
    assert (found["with the entry event"], found["outcome known"], found["at risk at entry"]) == (2, 2, 2)
    assert not any("prevalent" in step or "ends at or before" in step for step in found)
    assert cohort.patient("3").last_known == 5
    cohort.save(tmp_path / "packed")
    assert open_cohort(tmp_path / "packed").flow() == cohort.flow()


def test_a_cohort_in_which_nobody_has_the_entry_event_is_refused(read):
    with pytest.raises(InputError, match=r"entry: no patient has an event that fits ICU$"):
        read(ICU, people=PEOPLE, lab=LABS)


def test_an_empty_cell_of_an_entry_column_is_day_0(read):
    people = "id,dt,d,in\n1,100,1,\n2,100,0,7\n"
    cohort = read(PATIENT + 'entry = "in"\n' + LAB + DEATH + FLAG, people=people, lab=LABS)
    assert cohort.entry.tolist() == [0, 7 * DAY]


def test_a_misdated_row_is_not_the_entry_event(meds):
    """The next real one is; whoever has none never enters."""
    rows = [(i, f"2020-01-{d:02}T08:00", "L//a") for i in range(1, 5) for d in (1, 9)]
    rows += [(i, f"2020-01-{i + 2:02}T08:00", "ICU") for i in (1, 2)] + [
        (2, "1950-01-01T08:00", "ICU"),
        (3, "1950-01-01T08:00", "ICU"),
    ]
    patient = (
        "origin = { code = 'L*', pick = 'first' }\nentry = { code = 'ICU', pick = 'first' }\nexit = '30d'"
    )
    cohort = meds([*rows, (4, "2020-01-20T08:00", "MEDS_DEATH")], patient)
    assert cohort.entry.tolist() == [2 * DAY, 3 * DAY, FOREVER, FOREVER]
    flagged(cohort, "entry: 2 lie decades")


def test_the_flow_asks_at_the_end_of_a_bare_day_of_entry(read):
    """Dead on the day of entry: not at risk when asked at its end, in the flow as at the landmark."""
    people = "id,start,dt,d\n1,2020-01-01,2020-01-01,1\n2,2020-01-01,2020-02-01,0\n"
    spec = PATIENT + 'origin = "start"\nentry = "start"\n' + LAB + DEATH + FLAG
    cohort = read(spec, people=people, lab="id,t,c\n1,2020-01-01,K\n")
    assert cohort.entries().at_risk().sum() == 1 == steps(cohort)["at risk at entry"]
    assert steps(cohort)["event at or before entry (prevalent)"] == 1


# -- lost to one is lost to all --

RELAPSE = (
    '[outcomes.rel]\nkind = "survival"\ntable = "people.csv"\n'
    'causes = { relapse = { time = "rt", flag = "r" } }\n'
)
DX = '[outcomes.dx]\nkind = "diagnosis"\nnode = "lab"\ncodes = ["DX"]\nhorizon = "90d"\n'


@pytest.mark.parametrize("more", ["", 'gone = "death"\n', 'gone = "none"\n'])
@pytest.mark.parametrize("death", [FLAG, 'exit = "700d"\n' + FLAG])
@pytest.mark.parametrize("relapse", ["", RELAPSE])
def test_loss_to_follow_up_reaches_a_diagnosis(read, more, death, relapse):
    """Six of ten are lost on day 10; one of those left has it by day 90. A cut is no loss."""
    people = "id,rt,r,dt,d\n" + "".join(f"{i},8,0,{10 if i < 6 else 800},0\n" for i in range(10))
    labs = "id,t,c\n" + "".join(f"{i},0,K\n{i},5,K\n" for i in range(10)) + "7,50,DX\n"
    spec = PATIENT + 'exit = "730d"\n' + LAB + DX + more + DEATH + death + relapse
    cohort = read(spec, people=people, lab=labs)
    assert (cohort.outcomes["dx"].end // DAY).tolist() == [10] * 6 + [730] * 4
    X = cohort.at(6)
    event, time = cohort.outcomes["dx"].course(X.patient, X.at)
    assert event.tolist() == [0] * 7 + [1, 0, 0]
    assert time[:6].tolist() == [4] * 6 and (time[[6, 8, 9]] > 90).all()


def test_an_event_after_the_loss_to_another_outcome_is_seen(read):
    """Without relapse until day 60, dead on day 100: dead, and not lost on day 60."""
    people = "id,rt,r,dt,d\n1,60,0,100,1\n2,60,0,80,0\n3,50,1,70,0\n"
    labs = "id,t,c\n" + "".join(f"{i},0,K\n" for i in (1, 2, 3)) + "3,65,DX\n"
    cohort = read(PATIENT + 'exit = "730d"\n' + LAB + DX + DEATH + FLAG + RELAPSE, people=people, lab=labs)
    dx = cohort.outcomes["dx"]
    assert (dx.end // DAY).tolist() == [100, 80, 70] and dx.gone[0] == 100 * DAY
    X = cohort.at(20)
    assert dx.course(X.patient, X.at)[0].tolist()[:2] == [2, 0]


# -- deaths that no calendar can hold --


def test_a_death_in_9999_or_long_ago_stops_nobody_else(meds):
    """9999 has not happened; one more than 125 years away has, nobody knows when."""
    rows = [(i, f"2020-01-{d:02}T08:00", "L//a") for i in range(1, 6) for d in (1, 9)]
    rows += [
        (1, "2020-01-20T08:00", "MEDS_DEATH"),
        (2, "9999-12-31T00:00", "MEDS_DEATH"),
        (3, "1800-01-01T00:00", "MEDS_DEATH"),
    ]
    cohort = meds(rows, "origin = { code = 'L*', pick = 'first' }\nexit = '30d'")
    death = cohort.outcomes["death"]
    assert death.event.tolist() == [1, 0, 0, 0, 0]
    assert (death.time == -(2**63)).tolist() == [False, False, True, False, False]
    flagged(cohort, "1 time(s) of 'death'", "taken as not happened")
    flagged(cohort, "1 patient(s) with death, nobody knows when")


def test_a_far_death_of_a_table_of_events_stops_nobody_else(read):
    spec = PATIENT + 'origin = "start"\nexit = "60d"\n' + LAB + '[outcomes.death]\nkind = "survival"\n'
    spec += 'causes = { death = { table = "ev.csv", time = "w", where = { c = "DEAD" } } }\n'
    people = "id,start\n" + "".join(f"{i},2020-01-01\n" for i in range(1, 5))
    labs = "id,t,c\n" + "".join(f"{i},2020-01-05,K\n" for i in range(1, 5))
    ev = "id,w,c\n1,2020-02-01,DEAD\n2,9999-12-31,DEAD\n3,1850-02-01,DEAD\n"
    death = read(spec, people=people, lab=labs, ev=ev).outcomes["death"]
    assert death.event.tolist() == [1, 0, 0, 0]
    assert (death.time == -(2**63)).tolist() == [False, False, True, False]
    with pytest.raises(InputError, match="not a time"):
        read(spec, people=people, lab=labs, ev=ev + "4,soon,DEAD\n")


# -- deaths of FHIR --


def test_a_patient_dead_without_a_date_is_left_out_however_it_is_written(fhir):
    absent = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason"}
    dead = [
        {"deceasedBoolean": True},
        {"deceasedBoolean": "true"},
        {"deceasedBoolean": 1},
        {"_deceasedDateTime": {"extension": [absent | {"valueCode": "unknown"}]}},
    ]
    alive = [
        {"deceasedBoolean": False},
        {"deceasedBoolean": "false"},
        {},
        {"_deceasedDateTime": {"extension": [absent | {"valueCode": "not-applicable"}]}},
    ]
    cohort = fhir([{"id": f"p{i}", **more} for i, more in enumerate(dead + alive)])
    assert (cohort.outcomes["death"].time == -(2**63)).tolist() == [True] * 4 + [False] * 4
    flagged(cohort, "4 patient(s) with death, nobody knows when")


def test_the_last_of_a_fhir_patient_includes_the_death(fhir):
    cohort = fhir([{"id": "p1", "deceasedDateTime": "2021-05-01T12:00:00Z"}, {"id": "p2"}], exit="last")
    death = cohort.outcomes["death"]
    assert death.event.tolist() == [1, 0] and (death.time // DAY).tolist() == [58, 20]


def test_a_fhir_death_in_9999_has_not_happened(fhir):
    people = [{"id": "p1", "deceasedDateTime": "9999-12-31"}, {"id": "p2"}, {"id": "p3"}]
    cohort = fhir([*people, {"id": "p4", "deceasedDateTime": "2021-05-01T12:00:00Z"}], exit="last")
    death = cohort.outcomes["death"]
    assert death.event.tolist() == [0, 0, 0, 1] and (death.time // DAY).tolist() == [20, 20, 20, 58]


# -- codes that nobody has --


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        ('kind = "survival"\ncauses = { mi = { node = "lab", codes = ["I99"] } }', "did you mean 'I91'?"),
        (
            'kind = "survival"\ncauses = { mi = { table = "lab.csv", time = "t", where = { c = "I99" } } }',
            "did you mean 'I91'?",
        ),
        ('kind = "diagnosis"\nnode = "lab"\ncodes = ["X99*"]\nhorizon = "9d"', "there are 'I91', 'K'"),
    ],
)
def test_codes_of_an_outcome_that_nobody_has_are_flagged(read, outcome, says):
    people, labs = "id\n1\n2\n", "id,t,c\n1,1,K\n2,1,I91\n"
    spec = PATIENT + 'exit = "60d"\n' + LAB + "[outcomes.x]\n"
    assert says in flagged(read(spec + outcome, people=people, lab=labs), "fits nothing", "so nobody has it")
    right = outcome.replace("I99", "I91").replace("X99", "K")
    assert not [f for f in read(spec + right, people=people, lab=labs).report["flags"] if "fits nothing" in f]


# -- events by codes on a bare date --


def test_nobody_is_at_risk_of_a_coded_event_after_a_row_of_its_day(read):
    """An event on a bare date can have been at any moment of it, by codes as by a column."""
    people = "id,start\n1,2020-01-01\n2,2020-01-01\n"
    labs = "id,t,c\n" + "".join(f"{i},2020-01-02,K\n" for i in (1, 2))
    labs += "1,2020-02-01T08:00,K\n1,2020-02-01,MI\n2,2020-02-01T08:00,K\n2,2020-02-01T20:00,MI\n"
    cause = "causes = { mi = { %s } }\n"
    found = []
    for how in ('node = "lab", codes = ["MI"]', 'table = "lab.csv", time = "t", where = { c = "MI" }'):
        spec = PATIENT + 'origin = "start"\nexit = "60d"\n' + LAB + '[outcomes.mi]\nkind = "survival"\n'
        cohort = read(spec + cause % how, people=people, lab=labs)
        asks = [cohort.at(t).at_risk("mi").tolist() for t in (31 + 8 / 24, 31 + 9 / 24)]
        assert asks == [[True, True], [False, True]], how
        found.append(cohort.outcomes["mi"].time.tolist())
    assert found[0] == found[1] and np.isin(cohort.outcomes["mi"].event, 1).all()


def test_nobody_is_asked_of_a_coded_diagnosis_after_a_row_of_its_day(read):
    """Without a gap it could have been known that day already; what came of the asks before stays."""
    people = "id,start\n1,2020-01-01\n2,2020-01-01\n3,2020-01-01\n"
    labs = "id,t,c\n" + "".join(f"{i},2020-01-02,K\n" for i in (1, 2, 3))
    labs += "1,2020-02-01T08:00,K\n1,2020-02-01,DX\n2,2020-02-01T08:00,K\n2,2020-02-01T20:00,DX\n"
    spec = PATIENT + 'origin = "start"\nexit = "60d"\n' + LAB + DX + 'gap = "0d"\n'
    cohort = read(spec, people=people, lab=labs)
    asks = [cohort.at(t).at_risk("dx").tolist() for t in (31, 31 + 8 / 24, 31 + 9 / 24)]
    assert asks == [[True] * 3, [True] * 3, [False, True, True]]
    X = cohort.at(31)
    event, time = cohort.outcomes["dx"].course(X.patient, X.at)
    assert event.tolist() == [1, 1, 0] and time[:2].round(1).tolist() == [1.0, 0.8]
