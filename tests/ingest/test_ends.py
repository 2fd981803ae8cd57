"""When observation ends: the earliest of its ends, gaps, open ends, deaths without a date, impossible dates.

Each cohort is made here, so that the right answer is known.
"""

import json
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

DAY = 86_400
NEVER = -(2**63)
HEAD = 'cohort = "c"\n[patient]\ntable = "patients.csv"\nkey = "pid"\n'
LAB = '[nodes.lab]\ntable = "labs.csv"\ntime = "day"\ncode = "code"\n'
DEATH = '[outcomes.death]\nkind = "survival"\n'


@pytest.fixture
def read(tmp_path):
    """A cohort of a spec and tables, each its text."""
    from gnnpatient import read_cohort

    def reads(spec, **tables):
        (tmp_path / "spec.toml").write_text(spec)
        for name, text in tables.items():
            (tmp_path / f"{name}.csv").write_text(text)
        return read_cohort(tmp_path / "spec.toml", tmp_path)

    return reads


def table(header, *columns):
    rows = (",".join(map(str, row)) for row in zip(*columns, strict=True))
    return "\n".join([header, *rows]) + "\n"


def days(outcome):
    """The day on which each patient's observation ends, None = left out."""
    return [None if t == NEVER else t // DAY for t in outcome.time.tolist()]


def steps(cohort):
    return {step["step"]: step["n"] for step in cohort.flow()}


def flagged(cohort, *words):
    """The one flag with these words; it decides where it says that somebody is counted otherwise."""
    (found,) = [flag for flag in cohort.report["flags"] if all(word in flag for word in words)]
    return found


# ---- the earliest of the ends

RIGHT, WRONG = 0.518, 0.243  # two-year risk at one death in 1000 days; where the lost are alive to day 730
FORMS = {  # spec of the patient, spec of the outcome
    "a cut beside the patient's own end": (
        'exit = "730d"',
        'causes = { death = { time = "last", flag = "died" } }',
    ),
    "a cut of the outcome": ("", 'causes = { death = { time = "last", flag = "died" } }\nexit = "730d"'),
    "a column after the own end": ('exit = "study"', 'causes = { death = { time = "last", flag = "died" } }'),
    "a column of the outcome": ("", 'causes = { death = { time = "last", flag = "died" } }\nexit = "study"'),
    "a status": (
        'exit = "730d"',
        'status = { column = "died", states = { 0 = "censored", 1 = "death" }, time = "last" }',
    ),
    "the own end as exit, the cut in the outcome": (
        'exit = "lost"',
        'causes = { death = { time = "dead" } }\nexit = "730d"',
    ),
    "the cut as exit, the own end in the outcome": (
        'exit = "730d"',
        'causes = { death = { time = "dead" } }\nexit = "lost"',
    ),
    "the last row as exit beside the own end": (
        'exit = { node = "lab", code = "end", pick = "last" }',
        'causes = { death = { time = "last", flag = "died" } }',
    ),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_censoring_is_the_earliest_of_the_ends(read, form):
    """3000 people who die at one rate and are lost at another: the risk is that of the rate."""
    from gnnpatient.metrics import aalen_johansen

    rng, size = np.random.default_rng(11), 3000
    death, lost = rng.exponential(1000, size).round(2) + 0.01, rng.uniform(1, 1000, size).round(2)
    died = (death <= lost).astype(int)
    ids, last = [f"p{i:04d}" for i in range(size)], np.minimum(death, lost)
    dead = ["" if d > c else d for d, c in zip(death, lost, strict=True)]
    people = table("pid,last,died,lost,dead,study", ids, last, died, lost, dead, [1731.0] * size)
    patient, outcome = FORMS[form]
    spec = HEAD + patient + "\n" + LAB + DEATH + f'table = "patients.csv"\n{outcome}\n'
    cohort = read(spec, patients=people, labs=table("pid,day,code", ids, [800] * size, ["end"] * size))
    y = cohort.at(0).outcome("death")
    risk = aalen_johansen(y["time"], y["event"], np.array([729.0]), causes=1)[1, 0]
    assert abs(risk - RIGHT) < 0.02 and abs(risk - WRONG) > 0.2
    assert (y["time"] <= last + 1e-6).all()
    if "730d" in patient + outcome:
        assert y["time"].max() == 730
        beyond = (death <= lost) & (death > 730)
        assert steps(cohort)["event after the end of observation, not counted"] == beyond.sum()
        assert not cohort.report["flags"]  # what lies beyond a cut is no fault


def test_a_column_of_the_outcome_stands_in_the_place_of_the_patients(read):
    """The interface: an outcome may override exit, as where deaths are known of a registry."""
    people = "pid,visit,registry,dead\na,100,900,\nb,100,,\nc,100,900,400\n"
    spec = 'exit = "visit"\n' + DEATH + 'table = "patients.csv"\ncauses = { death = { time = "dead" } }\n'
    cohort = read(HEAD + spec + 'exit = "registry"\n', patients=people)
    assert days(cohort.outcomes["death"]) == [900, 100, 400]
    cohort = read(HEAD + spec, patients=people)
    assert days(cohort.outcomes["death"]) == [100, 100, 100]
    assert cohort.outcomes["death"].event.tolist() == [0, 0, 0]
    assert steps(cohort)["event after the end of observation, not counted"] == 1
    assert flagged(cohort, "1 event(s) after the patient's end") in cohort.report["decisive"]


def test_an_end_that_is_an_event_is_that_event(read):
    """Exit = death: it counts, of interest or competing; an outcome that does not name it is flagged."""
    people = "pid,out,relapse,dead,tx\na,50,,50,\nb,90,20,90,\nc,70,,,70\nd,99,,,\n"
    death = 'table = "patients.csv"\ncauses = { relapse = { time = "relapse" }, death = { time = "dead" }, '
    both = death + 'transplant = { time = "tx" } }\n'
    cohort = read(HEAD + 'exit = "out"\n' + DEATH + both, patients=people)
    assert cohort.outcomes["death"].event.tolist() == [2, 1, 3, 0]
    alone = '[outcomes.relapse]\nkind = "survival"\ntable = "patients.csv"\n'
    alone += 'causes = { relapse = { time = "relapse" } }\n'
    cohort = read(HEAD + 'exit = "out"\n' + DEATH + both + alone, patients=people)
    flag = flagged(cohort, "outcome 'relapse'", "ends with 'death' of outcome 'death'", "2 of 3")
    assert flag in cohort.report["decisive"]


@pytest.mark.parametrize("exit_", ['"death"', '{ code = "DEATH", pick = "first" }'])
def test_a_death_that_ends_observation_of_a_format_is_flagged(tmp_path, exit_):
    """The outcome asks for a high value alone, and who dies is censored at it: that is no censoring."""
    from gnnpatient import read_cohort

    spec = omop(
        tmp_path,
        "1,2020-06-01,0\n2,2020-07-01,0\n3,2020-07-01,0\n",
        condition_occurrence="condition_occurrence_id,person_id,condition_concept_id,condition_start_date\n"
        "1,1,312327,2020-02-02\n",
    )
    spec += f'exit = {exit_}\n[nodes.condition]\ntable = "condition_occurrence"\n[outcomes.mi]\n'
    spec += 'kind = "survival"\ncauses = { mi = { node = "condition", codes = ["*312327*"] }%s }\n'
    (tmp_path / "spec.toml").write_text(spec % "")
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    assert cohort.outcomes["mi"].event.tolist() == [1, 0, 0]
    assert flagged(cohort, "observation of 2 of 2", "ends with what exit calls") in cohort.report["decisive"]
    (tmp_path / "spec.toml").write_text(spec % ', death = { where = { code = "DEATH" } }')
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    assert cohort.outcomes["mi"].event.tolist() == [1, 2, 2]
    assert not [flag for flag in cohort.report["flags"] if "ends with" in flag]


def test_a_discharge_that_ends_observation_is_flagged(read):
    """In-hospital death with the discharge as a censoring: the risk would be that of those who stay."""
    people = "pid,discharge_day,dead\na,5,\nb,7,\nc,9,9\n"
    spec = HEAD + 'exit = "discharge_day"\n' + DEATH + 'table = "patients.csv"\ncauses = { %s }\n'
    cohort = read(spec % 'death = { time = "dead" }', patients=people)
    assert cohort.outcomes["death"].event.tolist() == [0, 0, 1]
    assert flagged(cohort, "2 of 2", "ends with what exit calls 'discharge'") in cohort.report["decisive"]
    both = 'death = { time = "dead" }, discharge = { time = "discharge_day" }'
    cohort = read(spec % both, patients=people)
    assert cohort.outcomes["death"].event.tolist() == [2, 2, 1] and not cohort.report["flags"]


@pytest.mark.parametrize(
    ("starts", "cut"),
    [
        (["2018-01-01", "2020-12-01"], [730, 30]),  # the second has been there for a month when the data end
        (["2018-01-01", "2018-12-31"], [730, 730]),
    ],
)
def test_a_cut_ends_with_the_data(read, starts, cut):
    people = table("pid,start,dead", ["a", "b"], starts, ["", ""])
    spec = HEAD + 'origin = "start"\nexit = "730d"\n' + LAB + DEATH
    spec += 'table = "patients.csv"\ncauses = { death = { time = "dead" } }\n'
    labs = "pid,day,code\na,2018-02-01,k\na,2020-12-31T23:59:59,k\n"
    cohort = read(spec, patients=people, labs=labs)
    assert days(cohort.outcomes["death"]) == cut


def test_the_dead_followed_longer_than_the_living_are_flagged(read):
    """The living end with their last visit, or in 2019; deaths are known of a registry, years after it."""
    ids = [f"p{i}" for i in range(20)]
    dead = ["2021-06-01" if i < 5 else "" for i in range(20)]
    people = table("pid,start,dead", ids, ["2018-01-01"] * 20, dead)
    labs = table("pid,day,code", ids, ["2019-01-01"] * 20, ["k"] * 20)
    spec = HEAD + 'origin = "start"\n%s\n' + LAB + DEATH + 'table = "patients.csv"\n'
    spec += 'causes = { death = { time = "dead" } }\n'
    last = 'exit = { node = "lab", code = "k", pick = "last" }'
    cohort = read(spec % last, patients=people, labs=labs)
    assert cohort.outcomes["death"].event.sum() == 0
    assert flagged(cohort, "5 event(s) after the patient's end") in cohort.report["decisive"]
    people = table("pid,start,dead,seen", ids, ["2018-01-01"] * 20, dead, [d or "2019-01-01" for d in dead])
    cohort = read(spec % 'exit = "seen"', patients=people, labs=labs)
    assert cohort.outcomes["death"].event.sum() == 5
    assert (
        flagged(cohort, "5 event(s) come more than 30 days after the last day") in cohort.report["decisive"]
    )
    everybody = spec % 'exit = "1500d"'
    assert not read(everybody, patients=people, labs=labs).report["flags"]


# ---- a death on a bare date


@pytest.mark.parametrize(
    ("row", "there"),
    [
        ("2021-03-04T10:00", {"00:00": True, "09:59": True, "10:01": False, "23:54": False}),
        ("2021-03-04", {"00:00": True, "10:01": True, "23:54": True}),  # known when the day is over
        ("2021-03-03T23:00", {"00:00": True, "10:01": True, "23:54": True}),
    ],
)
def test_nobody_is_at_risk_after_a_row_of_the_day_of_death(read, tmp_path, row, there):
    from gnnpatient import open_cohort

    spec = HEAD + 'origin = "start"\nexit = "60d"\n' + LAB + DEATH + 'table = "patients.csv"\n'
    spec += 'causes = { death = { time = "dead" } }\n'
    people = "pid,start,dead\na,2021-03-01,2021-03-04\nb,2021-03-01,2021-03-04T23:58\nc,2021-03-01,\n"
    labs = "pid,day,code\n" + "".join(f"{p},{row},autopsy\n" for p in "abc")
    cohort = read(spec, patients=people, labs=labs)
    for held in (cohort, open_cohort(cohort.save(tmp_path / "packed"))):
        assert held.outcomes["death"].time.tolist()[:2] == [4 * DAY - 1, 3 * DAY + 23 * 3600 + 58 * 60]
        for at, risk in there.items():
            # the second died at a known minute, and the third lives
            assert held.at(f"2021-03-04T{at}").at_risk("death").tolist() == [risk, True, True], at
        assert held.at("2021-03-04").at_risk("death").tolist() == [False, False, True]
    y = cohort.at("2021-03-04T00:00", patient="a").outcome("death")
    assert y["event"].tolist() == [1] and 0 < y["time"][0] < 1


@pytest.mark.parametrize(("gap", "there"), [("0d", [True, True, False]), ("1d", [False, False, False])])
def test_nobody_is_asked_after_a_row_of_the_day_of_diagnosis(read, gap, there):
    people = "pid,start,label,seen\na,2021-03-01,1,2021-03-04\nb,2021-03-01,0,2021-03-30\n"
    spec = HEAD + 'origin = "start"\nexit = "60d"\n' + LAB + '[outcomes.sick]\nkind = "diagnosis"\n'
    spec += f'table = "patients.csv"\ncolumn = "label"\nknown = "seen"\ngap = "{gap}"\n'
    cohort = read(spec, patients=people, labs="pid,day,code\na,2021-03-04T10:00,biopsy\n")
    asked = [cohort.at(f"2021-03-04T{at}").at_risk("sick").tolist() for at in ("00:00", "09:59", "23:54")]
    assert asked == [[risk, True] for risk in there]


# ---- dead without a date


def fhir(folder, patients):
    lines = []
    for i, more in enumerate(patients):
        who = {"reference": f"Patient/p{i}"}
        lines.append({"resourceType": "Patient", "id": f"p{i}", "birthDate": "1951-02-03", **more})
        for n, day in enumerate(("2020-01-02", "2020-03-01")):
            lines.append(
                {
                    "resourceType": "Observation",
                    "id": f"o{i}{n}",
                    "status": "final",
                    "code": {"coding": [{"system": "http://loinc.org", "code": "2823-3"}]},
                    "subject": who,
                    "effectiveDateTime": f"{day}T09:00:00Z",
                    "valueQuantity": {"value": 4.0, "code": "mmol/L"},
                }
            )
    (folder / "all.ndjson").write_text("\n".join(map(json.dumps, lines)))
    return 'cohort = "c"\nformat = "fhir"\n[patient]\norigin = { code = "OBSERVATION//*", pick = "first" }\n'


def omop(folder, deaths, **more):
    files = {
        "person": "person_id,gender_concept_id,year_of_birth\n1,8507,1951\n2,8507,1952\n3,8507,1953\n",
        "measurement": "measurement_id,person_id,measurement_concept_id,measurement_date,value_as_number\n"
        + "".join(f"{p}{n},{p},3023103,2020-0{n}-02,4\n" for p in (1, 2, 3) for n in (1, 3)),
        "death": "person_id,death_date,cause_concept_id\n" + deaths,
        **more,
    }
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    return 'cohort = "c"\nformat = "omop"\n[patient]\norigin = { code = "MEASUREMENT//*", pick = "first" }\n'


def meds(folder, rows):
    frame = pl.DataFrame(
        [(p, t, c, None) for p, t, c in rows],
        schema={
            "subject_id": pl.Int64,
            "time": pl.Datetime("us"),
            "code": pl.String,
            "numeric_value": pl.Float32,
        },
        orient="row",
    )
    (folder / "data").mkdir(exist_ok=True)
    frame.write_parquet(folder / "data" / "0.parquet")
    return 'cohort = "c"\nformat = "meds"\n[patient]\norigin = { code = "LAB", pick = "first" }\n'


DIED = DEATH + 'causes = { death = { where = { code = "%s" } } }\n'
PERSON = DEATH + 'causes = { death = { table = "people", time = "death" } }\n'
SEEN = [(p, datetime(2020, m, 2), "LAB") for p in (1, 2, 3) for m in (1, 3)]
UNDATED = {
    "fhir": lambda f: (
        fhir(f, [{"deceasedBoolean": True}, {"deceasedDateTime": "2020-02-01"}, {}])
        + 'exit = "last"\n'
        + DIED % "DEATH"
    ),
    "fhir, a date that is none": lambda f: (
        fhir(
            f, [{"deceasedDateTime": "soon"}, {"deceasedDateTime": "2020-02-01"}, {"deceasedBoolean": False}]
        )
        + 'exit = "last"\n'
        + DIED % "DEATH"
    ),
    "fhir, the column of the people": lambda f: (
        fhir(f, [{"deceasedBoolean": True}, {"deceasedDateTime": "2020-02-01"}, {}])
        + 'exit = "last"\n'
        + PERSON
    ),
    "omop": lambda f: omop(f, "1,,0\n2,2020-02-01,0\n") + 'exit = "last"\n' + DIED % "DEATH",
    "omop, a date that is none": lambda f: (
        omop(f, "1,2020-13-45,0\n2,2020-02-01,0\n") + 'exit = "last"\n' + DIED % "DEATH"
    ),
    "omop, the column of the people": lambda f: (
        omop(f, "1,,0\n2,2020-02-01,0\n") + 'exit = "last"\n' + PERSON
    ),
    "meds": lambda f: (
        meds(f, [*SEEN, (1, None, "MEDS_DEATH"), (2, datetime(2020, 2, 1), "MEDS_DEATH")])
        + 'exit = "last"\n'
        + DIED % "MEDS_DEATH"
    ),
}


@pytest.mark.parametrize("form", list(UNDATED))
def test_dead_without_a_date_is_never_alive(tmp_path, form):
    from gnnpatient import read_cohort

    (tmp_path / "spec.toml").write_text(UNDATED[form](tmp_path))
    unknown_and_none(read_cohort(tmp_path / "spec.toml", tmp_path))


def unknown_and_none(cohort):
    """The first is dead, nobody knows since when; the second died; the third is censored."""
    death = cohort.outcomes["death"]
    assert days(death)[0] is None and death.event.tolist() == [0, 1, 0]
    assert cohort.at(0).at_risk("death").tolist() == [False, True, True]
    assert steps(cohort)["death at an unknown time, left out"] == 1
    assert steps(cohort)["censored"] == 1 and steps(cohort)["outcome known"] == 2
    assert flagged(cohort, "1 patient(s) with death, nobody knows when") in cohort.report["decisive"]


ROWS = "pid,day,what\na,,death\nb,2020-02-01,death\nb,2020-01-15,visit\nc,,visit\nc,2020-01-20,visit\n"


@pytest.mark.parametrize(
    "cause",
    [
        '{ table = "deaths.csv", time = "day" }',
        '{ table = "events.csv", time = "day", where = { what = "death" } }',
        '{ node = "event", codes = ["death"] }',
    ],
)
def test_dead_without_a_date_in_tables(read, cause):
    spec = HEAD + 'origin = "start"\nexit = "90d"\n'
    spec += '[nodes.event]\ntable = "events.csv"\ntime = "day"\ncode = "what"\n'
    spec += DEATH + f"causes = {{ death = {cause} }}\n"
    people = "pid,start\na,2020-01-01\nb,2020-01-01\nc,2020-01-01\n"
    cohort = read(spec, patients=people, events=ROWS, deaths="pid,day\na,\nb,2020-02-01\n")
    unknown_and_none(cohort)


def test_an_empty_cell_in_a_table_of_everybody_is_no_death(read):
    people, spec = (
        "pid,start\na,2020-01-01\nb,2020-01-01\n",
        HEAD + 'origin = "start"\nexit = "90d"\n' + DEATH,
    )
    for cause in ('{ table = "follow.csv", time = "dead" }', '{ table = "patients.csv", time = "dead" }'):
        text = people.replace("start", "start,dead").replace("01-01\n", "01-01,\n")
        text = text.replace("b,2020-01-01,", "b,2020-01-01,2020-02-01")
        cohort = read(
            spec + f"causes = {{ death = {cause} }}\n", patients=text, follow="pid,dead\na,\nb,2020-02-01\n"
        )
        assert days(cohort.outcomes["death"]) == [90, 31] and not cohort.report["flags"]


# ---- open ends


def shift(text, years):
    """The dates of a text, years later or earlier."""
    import re

    return re.sub(r"\b(\d{4})-", lambda m: f"{int(m[1]) + years:04d}-", text)


OPEN = "pid,start,out,dead\n" + "".join(
    f"p{i},2020-01-0{i + 1},{'%s' if i % 3 == 2 else f'2021-06-{20 + i}'},{'2020-09-01' if i == 3 else ''}\n"
    for i in range(9)
)


@pytest.mark.parametrize("filler", ["2099-12-31", "9999-12-31", "2099-12-31T23:59:59", "2100-01-01"])
@pytest.mark.parametrize("years", [0, 60])
def test_an_open_end_is_not_known(read, filler, years):
    """Observed to the last day of the data, counted and flagged; also in a table that lies in the future."""
    if years and filler.startswith("9999"):
        shifted = shift(OPEN, years) % ((filler,) * 3)
    else:
        shifted = shift(OPEN % ((filler,) * 3), years)
    spec = HEAD + 'origin = "start"\nexit = "out"\n' + DEATH + 'table = "patients.csv"\n'
    cohort = read(spec + 'causes = { death = { time = "dead" } }\n', patients=shifted)
    death = cohort.outcomes["death"]
    assert max(days(death)) <= 545 and death.event.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0]
    end = date(2021 + years, 6, 27)
    assert [days(death)[i] for i in (2, 5, 8)] == [
        (end - date(2020 + years, 1, i + 1)).days for i in (2, 5, 8)
    ]
    assert flagged(cohort, "exit: 3 of 9 end(s)") in cohort.report["decisive"]


def test_an_open_censoring_is_not_known(read):
    flags = [int(i == 3) for i in range(9)]
    rows = (OPEN % (("2099-12-31",) * 3)).splitlines()
    last = [row.split(",")[3] or row.split(",")[2] for row in rows[1:]]
    people = table("pid,start,last,died", [f"p{i}" for i in range(9)], ["2020-01-01"] * 9, last, flags)
    for outcome in (
        'causes = { death = { time = "last", flag = "died" } }\n',
        'status = { column = "died", states = { 0 = "censored", 1 = "death" }, time = "last" }\n',
    ):
        spec = HEAD + 'origin = "start"\n' + DEATH + 'table = "patients.csv"\n' + outcome
        cohort = read(spec, patients=people)
        assert max(days(cohort.outcomes["death"])) <= 545
        assert flagged(cohort, "outcome 'death': 3 of 8 end(s)") in cohort.report["decisive"]


@pytest.mark.parametrize("filler", ["2099-12-31", "9999-12-31"])
def test_a_filler_for_no_death_is_no_death(read, filler):
    """The living have it, so without them all would be dead."""
    dead = [filler if i % 3 else f"2020-0{i + 1}-01" for i in range(9)]
    ids, starts = [f"p{i}" for i in range(9)], ["2020-01-01"] * 9
    people = table("pid,start,out,dead", ids, starts, ["2021-06-30"] * 9, dead)
    spec = HEAD + 'origin = "start"\nexit = "out"\n' + DEATH + 'table = "patients.csv"\n'
    cohort = read(spec + 'causes = { death = { time = "dead" } }\n', patients=people)
    assert cohort.outcomes["death"].event.tolist() == [int(i % 3 == 0) for i in range(9)]
    assert steps(cohort)["censored"] == 6
    assert flagged(cohort, "6 time(s) of 'death' are a filler") in cohort.report["decisive"]


def test_a_long_follow_up_is_no_filler(read):
    """Everybody followed for 25 to 35 years; and day 0 may be the birth."""
    rng = np.random.default_rng(3)
    for first, low, high in ((1985, 25, 35), (1930, 60, 85)):
        starts = [date(first + i % 10, 1 + i % 12, 1) for i in range(60)]
        ends = [s + timedelta(days=int(365.25 * rng.uniform(low, high))) for s in starts]
        ends = [min(e, date(2021, 12, 31)) for e in ends]
        dead = [e if i % 4 == 0 else "" for i, e in enumerate(ends)]
        people = table("pid,start,out,dead", [f"p{i:02d}" for i in range(60)], starts, ends, dead)
        spec = HEAD + 'origin = "start"\nexit = "out"\n' + DEATH + 'table = "patients.csv"\n'
        cohort = read(spec + 'causes = { death = { time = "dead" } }\n', patients=people)
        assert days(cohort.outcomes["death"]) == [(e - s).days for s, e in zip(starts, ends, strict=True)]
        assert cohort.outcomes["death"].event.sum() == 15
        assert not [flag for flag in cohort.report["flags"] if "decades" in flag]


def test_open_intervals_labels_and_entries_are_not_known(read):
    people = "pid,start,came,label,seen\n" + "".join(
        f"p{i},2020-01-01,{'1900-01-01' if i == 1 else '2020-01-02'},"
        f"{'N' if i < 4 else 'Y'},{'2099-12-31' if i in (0, 7) else '2020-05-01'}\n"
        for i in range(8)
    )
    drugs = "pid,day,stop,code\n" + "".join(
        f"p{i},2020-02-01,{'2099-12-31' if i == 2 else '2020-03-01'},aspirin\n" for i in range(8)
    )
    spec = HEAD + 'origin = "start"\nentry = "came"\nexit = "300d"\n'
    spec += '[nodes.drug]\ntable = "drugs.csv"\ntime = "day"\nuntil = "stop"\ncode = "code"\n'
    spec += '[outcomes.sick]\nkind = "diagnosis"\ntable = "patients.csv"\ncolumn = "label"\nknown = "seen"\n'
    cohort = read(spec + 'classes = { N = "no", Y = "yes" }\n', patients=people, drugs=drugs)
    assert sorted(cohort.events["drug"].until // DAY)[-2:] == [60, np.iinfo(np.int64).max // DAY]
    assert flagged(cohort, "drug: 1 end(s) lie decades after")
    assert cohort.entry.tolist() == [0 if i == 1 else DAY for i in range(8)]
    assert flagged(cohort, "entry: 1 lie decades")
    sick = cohort.outcomes["sick"]
    assert sick.label.tolist() == [0, 0, 0, 0, 1, 1, 1, -1] and sick.known[0] == np.iinfo(np.int64).max
    assert flagged(cohort, "outcome 'sick'", "in 2 patient(s)") in cohort.report["decisive"]


def test_open_ends_in_omop(tmp_path):
    """An open stay keeps its diagnosis unknown, as one without an end; a period ends with the data."""
    from gnnpatient import read_cohort

    spec = omop(
        tmp_path,
        "3,2020-03-20,0\n",
        observation_period="observation_period_id,person_id,observation_period_start_date,"
        "observation_period_end_date\n1,1,2020-01-01,2099-12-31\n2,2,2020-01-01,2020-03-31\n"
        "3,3,2020-01-01,2020-03-31\n",
        visit_occurrence="visit_occurrence_id,person_id,visit_concept_id,visit_start_date,visit_end_date\n"
        "1,1,9201,2020-01-02,2099-12-31\n2,2,9201,2020-01-02,2020-01-09\n",
        condition_occurrence="condition_occurrence_id,person_id,condition_concept_id,condition_start_date,"
        "visit_occurrence_id\n1,1,312327,2020-01-02,1\n2,2,312327,2020-01-02,2\n",
        drug_exposure="drug_exposure_id,person_id,drug_concept_id,drug_exposure_start_date,"
        "drug_exposure_end_date\n1,1,1310149,2020-01-02,2099-12-31\n2,2,1310149,2020-01-02,2020-01-09\n",
    )
    spec += 'exit = "observation_end"\n[nodes.condition]\ntable = "condition_occurrence"\n[nodes.drug]\n'
    spec += 'table = "drug_exposure"\n' + DIED % "DEATH"
    (tmp_path / "spec.toml").write_text(spec)
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    assert days(cohort.outcomes["death"]) == [89, 89, 78]
    refused = cohort.report["tables"]["condition_occurrence"]["refused"]
    assert refused == {"inpatient visit without an end": 1}
    until = cohort.events["drug"].until
    assert (until == np.iinfo(np.int64).max).tolist() == [True, False]
    for name in ("visit_occurrence", "drug_exposure", "observation_period"):
        assert flagged(cohort, f"{name}.csv: 1 end(s) lie decades after") in cohort.report["decisive"]


# ---- dates that cannot be


@pytest.mark.parametrize("filler", ["1900-01-01", "1970-01-01"])
@pytest.mark.parametrize("years", [0, 60])
def test_rows_far_from_their_patients_others_are_flagged(read, filler, years):
    people = "pid,start,last,died\n" + "".join(f"p{i},2021-03-01,{400 + i},{i % 2}\n" for i in range(6))
    labs = "pid,day,code\n" + "".join(f"p{i},2021-03-0{2 + i % 2},k\n" for i in range(6))
    labs += (
        "".join(f"p{i},{filler},k\n" for i in range(3)) + "p4,2005-01-01,k\n"
    )  # a history of years is none
    spec = HEAD + 'origin = "start"\n' + LAB + DEATH + 'table = "patients.csv"\n'
    spec += 'causes = { death = { time = "last", flag = "died" } }\n'
    cohort = read(spec, patients=shift(people, years), labs=shift(labs, years))
    assert flagged(cohort, "lab: 3 row(s) of 3 patient(s) lie more than 20 years", "3 of them on one day")
    labs = labs.replace(filler, "2005-01-01")
    assert not read(spec, patients=shift(people, years), labs=shift(labs, years)).report["flags"]


def test_a_day_zero_far_from_all_rows_is_flagged(read, tmp_path):
    from gnnpatient import read_cohort

    ids, starts = [f"p{i}" for i in range(6)], ["1900-01-01"] * 2 + ["2021-03-01"] * 4
    spec = HEAD + 'origin = "start"\nexit = "365d"\n' + LAB + DEATH + 'table = "patients.csv"\n'
    labs = table("pid,day,code", ids * 2, ["2021-03-02"] * 6 + ["2021-03-05"] * 6, ["k"] * 12)
    people = table("pid,start,dead", ids, starts, [""] * 6)
    cohort = read(spec + 'causes = { death = { time = "dead" } }\n', patients=people, labs=labs)
    assert flagged(cohort, "origin: day 0 of 2 patient(s) lies decades") in cohort.report["decisive"]
    spec = fhir(tmp_path, [{"birthDate": "2020-02-02"}, {}]) + 'exit = "last"\n' + DIED % "DEATH"
    (tmp_path / "spec.toml").write_text(spec + '[nodes.lab]\ntable = "Observation"\n')
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    assert flagged(cohort, "origin: day 0 of 1 patient(s) lies before the birth")
    assert flagged(cohort, "lab: 1 row(s) of 1 patient(s) lie before the birth")


@pytest.mark.parametrize(
    ("died", "left_out"),
    [
        ("1940-01-01", True),  # before the birth
        ("1950-12-31", True),
        ("2035-06-01", True),  # after today
        ("2020-02-10", False),
    ],
)
def test_a_death_that_cannot_be_is_no_event(tmp_path, died, left_out):
    from gnnpatient import read_cohort

    spec = fhir(tmp_path, [{"deceasedDateTime": died}, {"deceasedDateTime": "2020-02-01"}, {}, {}])
    (tmp_path / "spec.toml").write_text(spec + 'exit = "last"\n' + DIED % "DEATH")
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    death = cohort.outcomes["death"]
    assert death.event.tolist() == [int(not left_out), 1, 0, 0]
    assert (death.time[0] == NEVER) == left_out
    assert steps(cohort).get("death at a time that cannot be, left out", 0) == left_out
    if left_out:
        assert flagged(cohort, "1 patient(s) with death before the birth, after") in cohort.report["decisive"]


def test_a_table_that_lies_in_the_future_is_no_fault(read):
    """Dates moved as MIMIC's are: each patient somewhere in 2040 to 2090."""
    rng = np.random.default_rng(5)
    starts = [date(2040 + int(y), 3, 1) for y in rng.integers(0, 50, 30)]
    dead = [s + timedelta(days=40) if i % 3 == 0 else "" for i, s in enumerate(starts)]
    out = [s + timedelta(days=100) for s in starts]
    people = table("pid,start,out,dead", [f"p{i:02d}" for i in range(30)], starts, out, dead)
    labs = table("pid,day,code", [f"p{i:02d}" for i in range(30)], starts, ["k"] * 30)
    spec = HEAD + 'origin = "start"\nexit = "out"\n' + LAB + DEATH + 'table = "patients.csv"\n'
    cohort = read(spec + 'causes = { death = { time = "dead" } }\n', patients=people, labs=labs)
    assert cohort.outcomes["death"].event.sum() == 10 and set(days(cohort.outcomes["death"])) == {40, 100}
    assert not [flag for flag in cohort.report["flags"] if "decades" in flag or "today" in flag]


# ---- gaps

PERIODS = "observation_period_id,person_id,observation_period_start_date,observation_period_end_date\n"


def periods(*rows):
    return PERIODS + "".join(f"{i},{who},{start},{end}\n" for i, (who, start, end) in enumerate(rows))


def test_nobody_is_at_risk_in_a_gap(tmp_path):
    """A death in the gap is not counted, one in the later period ends that; periods that touch are one."""
    from gnnpatient import open_cohort, read_cohort

    spec = omop(
        tmp_path,
        "1,2023-07-01,0\n2,2025-02-01,0\n",
        observation_period=periods(
            *((p, "2020-01-01", "2020-06-30") for p in (1, 2)),
            *((p, "2024-12-01", "2025-03-01") for p in (1, 2)),
            (3, "2020-01-01", "2020-06-30"),
            (3, "2020-07-01", "2021-06-30"),
        ),
    )
    (tmp_path / "spec.toml").write_text(
        spec + 'exit = "observation_end"\n[nodes.lab]\ntable = "measurement"\n' + DIED % "DEATH"
    )
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    for held in (cohort, open_cohort(cohort.save(tmp_path / "packed"))):
        death = held.outcomes["death"]
        assert days(death) == [180, 180, 545] and death.event.tolist() == [0, 0, 0]
        asked = ("2020-06-30T12:00", "2020-07-01", "2022-01-01", "2024-11-30", "2024-12-01", "2025-02-02")
        risk = [held.at(day).at_risk("death").tolist() for day in asked]
        assert risk == [
            [True, True, True],
            [False, False, True],
            [False, False, False],
            [False, False, False],
            [False, True, False],
            [False, False, False],
        ]
        y = held.at("2025-01-01", patient="2").outcome("death")
        assert y["event"].tolist() == [1] and y["time"].round() == [31]
        assert held.at("2020-02-01").outcome("death")["event"].tolist() == [0, 0, 0]
    assert steps(cohort)["event outside the periods of observation, not counted"] == 1
    assert steps(cohort)["event after a gap: death"] == 1
    assert flagged(cohort, "2 of 3 person(s) have a gap") in cohort.report["decisive"]


def test_a_diagnosis_is_not_looked_for_beyond_a_gap(tmp_path):
    """No needs observation up to the horizon, and a gap ends it."""
    from gnnpatient import read_cohort

    first, later = ("2020-01-01", "2020-06-30"), ("2022-01-01", "2022-12-31")
    spec = omop(
        tmp_path,
        "",
        observation_period=periods((1, *first), (1, *later), (2, first[0], later[1]), (3, *first)),
        condition_occurrence="condition_occurrence_id,person_id,condition_concept_id,condition_start_date\n"
        "3,3,312327,2020-03-01\n",
    )
    spec += 'exit = "observation_end"\n[nodes.condition]\ntable = "condition_occurrence"\n[outcomes.mi]\n'
    spec += 'kind = "diagnosis"\nnode = "condition"\ncodes = ["*312327*"]\nhorizon = "200d"\n'
    (tmp_path / "spec.toml").write_text(spec)
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    assert cohort.at("2020-02-01").outcome("mi")["label"].tolist() == [-1, 0, 1]
    assert cohort.at("2022-02-01").at_risk("mi").tolist() == [False, True, False]


def test_a_period_is_an_end_of_its_own(tmp_path):
    """Without an exit; and beside the last row as exit. A registry that is named holds outside of periods."""
    from gnnpatient import read_cohort

    for exit_, own, expected in (
        ("", "", [89, 366]),
        ('exit = "last"\n', "", [60, 60]),
        ('exit = "observation_end"\n', 'exit = "registry"\n', [700, 700]),
    ):
        spec = omop(
            tmp_path,
            "3,2020-01-20,0\n",
            person="person_id,gender_concept_id,year_of_birth,registry\n1,8507,1951,2021-12-02\n"
            "2,8507,1952,2021-12-02\n3,8507,1953,2021-12-02\n",
            observation_period=periods(
                (1, "2020-01-01", "2020-03-31"),
                (2, "2020-01-01", "2021-01-02"),
                (3, "2020-01-01", "2021-01-02"),
            ),
            registry="person_id,registry\n1,2021-12-02\n2,2021-12-02\n3,2021-12-02\n",
        )
        died = '[outcomes.death]\nkind = "survival"\ntable = "registry.csv"\n' if own else DEATH
        died += 'causes = { death = { table = "death", where = { code = "DEATH" } } }\n' + own
        spec = '[tables."registry.csv"]\nkey = "person_id"\n' * bool(own) + died if own else died
        (tmp_path / "spec.toml").write_text(
            'cohort = "c"\nformat = "omop"\n[patient]\norigin = { code = "MEASUREMENT//*", pick = "first" }\n'
            + exit_
            + spec
        )
        death = read_cohort(tmp_path / "spec.toml", tmp_path).outcomes["death"]
        assert days(death)[:2] == expected and death.event.tolist() == [0, 0, 1]


def test_observed_over_expected_is_one_with_gaps(tmp_path):
    """2000 people die at one rate; deaths are known inside two periods each, not of the gap between them.

    Counting the years of the gap as time at risk makes the risk too low by half.
    """
    from gnnpatient import read_cohort
    from gnnpatient.metrics import aalen_johansen

    rng, size, rate = np.random.default_rng(2), 2000, 1 / 900
    start = date(2015, 1, 1)
    death = rng.exponential(1 / rate, size)
    spans = [((0, 300), (300 + g, 600 + g)) for g in rng.integers(200, 800, size)]
    seen = [next(((a, b) for a, b in s if a < d <= b), None) for d, s in zip(death, spans, strict=True)]
    day = lambda n: start + timedelta(days=int(n))  # noqa: E731
    alive = [[(a, b) for a, b in s if d > a] for d, s in zip(death, spans, strict=True)]
    rows = [(i, day(a), day(b) - timedelta(days=1)) for i, s in enumerate(alive) for a, b in s]
    dead = "".join(f"{i},{day(death[i])},0\n" for i in range(size) if seen[i])
    spec = omop(
        tmp_path,
        dead,
        person="person_id,gender_concept_id,year_of_birth\n"
        + "".join(f"{i},8507,1950\n" for i in range(size)),
        measurement="measurement_id,person_id,measurement_concept_id,measurement_date,value_as_number\n"
        + "".join(f"{i},{i},3023103,2015-01-01,4\n" for i in range(size)),
        observation_period=periods(*rows),
    )
    (tmp_path / "spec.toml").write_text(spec + 'exit = "observation_end"\n' + DIED % "DEATH")
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    for at in (0, 100, 700, 1000):  # the first two in the first period, the others in the second
        asks = cohort.at(at).followed("death")
        y, window = asks.outcome("death"), 150.0
        assert len(asks) > 150
        risk = aalen_johansen(y["time"], y["event"], np.array([window]), causes=1)[1, 0]
        count = (y["event"] == 1)[y["time"] <= window].sum()
        expected = risk_of_window = 1 - np.exp(-rate * window)
        assert abs(risk / expected - 1) < 2.5 / np.sqrt(count), (at, risk, risk_of_window)


def test_a_diagnosis_just_after_a_gap_was_there_before(tmp_path):
    """Who has it in the first 30 days of a later period is not asked; for whom it comes later, is."""
    from gnnpatient import read_cohort

    first, later = ("2020-01-01", "2020-06-30"), ("2022-01-01", "2022-12-31")
    spec = omop(
        tmp_path,
        "",
        observation_period=periods(*((p, *span) for p in (1, 2, 3) for span in (first, later))),
        condition_occurrence="condition_occurrence_id,person_id,condition_concept_id,condition_start_date\n"
        "1,1,312327,2022-01-10\n2,2,312327,2022-06-01\n",
    )
    spec += 'exit = "observation_end"\n[nodes.condition]\ntable = "condition_occurrence"\n[outcomes.mi]\n'
    spec += 'kind = "survival"\ncauses = { mi = { node = "condition", codes = ["*312327*"] } }\n'
    (tmp_path / "spec.toml").write_text(spec)
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    assert cohort.at("2022-01-05").at_risk("mi").tolist() == [False, False, False]
    assert cohort.at("2022-02-15").at_risk("mi").tolist() == [False, True, True]
    assert cohort.at("2022-02-15").followed("mi").outcome("mi")["event"].tolist() == [1, 0]
    assert cohort.outcomes["mi"].ends.tolist()[0] < 200 * DAY


# ---- day 0

ZERO = HEAD + 'origin = "zero"\n' + LAB + DEATH + 'table = "patients.csv"\n'
ZERO += 'causes = { death = { time = "end", flag = "died" } }\n'


def zeros(read, origins, first="2020-02-01", end="2021-03-01"):
    """The flags of day 0 of patients with three rows and an end each, by their day 0."""
    who, died = range(len(origins)), [int(i > 5) for i in range(len(origins))]
    firsts = first if isinstance(first, list) else [first] * len(origins)
    ends = end if isinstance(end, list) else [end] * len(origins)
    patients = table("pid,zero,end,died", who, origins, ends, died)
    rows = [(i, date.fromisoformat(firsts[i]) + timedelta(20 * k), "K") for i in who for k in range(3)]
    cohort = read(ZERO, patients=patients, labs=table("pid,day,code", *zip(*rows, strict=True)))
    return [flag for flag in cohort.report["flags"] if flag.startswith("origin: ")]


@pytest.mark.parametrize(
    "far",
    [
        ["1970-01-01"],
        ["1900-01-01"],
        ["1965-05-05"],
        ["1970-01-01", "1980-02-02"],
        ["1970-01-01"] * 2,
        ["1900-01-01"] * 5,
    ],
)
def test_a_day_0_decades_from_all_own_dates_is_flagged(read, far):
    near = [f"2020-01-0{i + 1}" for i in range(8 - len(far))]
    (flag,) = zeros(read, [*far, *near])
    assert f"day 0 of {len(far)} patient(s) lies decades from all their rows" in flag


def test_a_day_0_that_is_the_birth_or_a_long_life_is_not_flagged(read):
    births = [f"19{year}-05-05" for year in (20, 34, 34, 51, 62, 77, 85, 99)]
    assert zeros(read, births) == [] and zeros(read, ["1990-05-05"] * 2 + births[2:]) == []
    children = [f"{year}-05-05" for year in (2019, 2015, 2010, 2005, 2001, 1999, 1990, 1975)]
    assert zeros(read, children) == []
    # followed for thirty years, one of them first seen late
    origins = ["1990-01-01"] * 8
    first = ["1990-02-01"] * 7 + ["2020-02-01"]
    assert zeros(read, origins, first, "2021-03-01") == []


def test_a_common_birthday_in_a_format_is_not_flagged(tmp_path):
    from gnnpatient import read_cohort

    (tmp_path / "data").mkdir()
    rows = []
    for i in range(1, 7):
        birth = datetime(1970, 1, 1) if i < 4 else datetime(2017 + i % 3, 5, 5)
        rows += [(i, birth, "MEDS_BIRTH"), (i, datetime(2020, 1, i), "K"), (i, datetime(2021, 1, i), "K")]
    frame = pl.DataFrame(rows, schema=["subject_id", "time", "code"], orient="row")
    frame.with_columns(numeric_value=pl.lit(None, pl.Float64)).write_parquet(tmp_path / "data" / "0.parquet")
    spec = 'cohort = "c"\nformat = "meds"\n[patient]\norigin = "birth"\n[nodes.lab]\nwhere = { code = "K" }\n'
    (tmp_path / "c.toml").write_text(spec)
    flags = read_cohort(tmp_path / "c.toml", tmp_path).report["flags"]
    assert not [flag for flag in flags if flag.startswith("origin: ")]


@pytest.mark.parametrize("patients, early, kept", [(150, 1, True), (150, 2, False), (60, 1, False)])
def test_a_few_stays_that_end_before_they_begin_are_left_out(tmp_path, patients, early, kept):
    """As in every large hospital's tables; where they are more than 1 in 100, day 0 is not what it seems."""
    from gnnpatient import read_cohort
    from gnnpatient.errors import InputError

    toml = (
        'cohort = "c"\n[patient]\ntable = "p.csv"\nkey = "id"\n[outcomes.leaving]\nkind = "survival"\n'
        'table = "p.csv"\nstatus = { column = "s", time = "t", states = { 0 = "discharge", 1 = "death" } }\n'
    )
    rows = [f"{i},{-1 if i < early else 3 + i % 5},{i % 2}" for i in range(patients)]
    (tmp_path / "p.csv").write_text("id,t,s\n" + "\n".join(rows) + "\n")
    (tmp_path / "c.toml").write_text(toml)
    if not kept:
        with pytest.raises(InputError, match="line 2: the time lies before the origin"):
            read_cohort(tmp_path / "c.toml", tmp_path)
        return
    cohort = read_cohort(tmp_path / "c.toml", tmp_path)
    assert len(cohort) == patients and int((cohort.outcomes["leaving"].event > 0).sum()) == patients - early
    said = f"outcome 'leaving': {early} of {patients} patient(s) have a time before day 0"
    assert any(flag.startswith(said) for flag in cohort.report["decisive"])
