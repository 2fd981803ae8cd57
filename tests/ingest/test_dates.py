"""Dates of any year, days of any time zone, ISO 8601 as databases write it, and tables that are lost."""

import json
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from gnnpatient.errors import InputError

DAY, HOUR = 86_400, 3600
SPEC = """
cohort = "dates"
[patient]
table = "patients.csv"
key = "pid"
origin = "start"
{patient}
[nodes.lab]
table = "labs.csv"
time = "time"
code = "code"
{node}
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = {{ death = {{ time = "end", flag = "died" }} }}
{tables}
"""


@pytest.fixture
def read(tmp_path):
    """A cohort of one patient; labs is the cells of the time column, or a frame with pid, time and code."""

    def reads(
        labs, *, start="2021-03-01", end="99", died=0, tables="", patient="", node="", how=None, **more
    ):
        from gnnpatient import read_cohort

        (tmp_path / "patients.csv").write_text(f'pid,start,end,died\na,"{start}","{end}",{died}\n')
        spec = SPEC.format(tables=tables, patient=patient, node=node)
        if isinstance(labs, pl.DataFrame):
            spec = spec.replace("labs.csv", "labs.parquet")
            labs.write_parquet(tmp_path / "labs.parquet")
        else:
            rows = "".join(f'a,"{cell}",x\n' for cell in labs)
            (tmp_path / "labs.csv").write_text(f"pid,time,code\n{rows}")
        (tmp_path / "spec.toml").write_text(spec)
        return read_cohort(tmp_path / "spec.toml", tmp_path, **more)

    return reads


def zoned(name: str | None, *tables: str) -> str:
    return "".join(f'[tables."{table}"]\ntime = {{ timezone = "{name}" }}\n' for table in tables if name)


# ---- any ISO date is a date


YEARS = ["0001-01-01", "1003-07-09", "1703-02-28", "1844-12-31", "1899-12-31", "2096-01-01", "2150-03-04"]


@pytest.mark.parametrize("start", [*YEARS, "2199-12-31", "2263-01-01", "9998-06-05"])
def test_an_origin_of_any_year(read, start):
    """MIMIC's years are 2100 to 2200; nanoseconds since 1970 end in 2262."""
    day = date.fromisoformat(start)
    later = [(day + timedelta(days=n)).isoformat() for n in (0, 1, 40)]
    cohort = read([f"{later[1]}T10:00", later[2]], start=start, end=later[2], died=1)
    assert cohort.events["lab"].known.tolist() == [DAY + 10 * HOUR, 41 * DAY - 1]
    assert cohort.outcomes["death"].time.tolist() == [41 * DAY - 1]
    assert cohort.at(later[1]).at.tolist() == [2 * DAY - 1]
    assert cohort.at(day + timedelta(days=1)).at.tolist() == [2 * DAY - 1]
    written = day.strftime("%d.%m.") + f"{day.year:04}"
    by_format = read(
        ["1.5"], start=written, tables='[tables."patients.csv"]\ntime = { format = "%d.%m.%Y" }\n'
    )
    assert by_format.events["lab"].known.tolist() == [1.5 * DAY]
    assert by_format.at(later[1]).at.tolist() == [2 * DAY - 1]
    frame = pl.DataFrame({"pid": ["a"], "time": [day + timedelta(days=2)], "code": ["x"]})
    assert read(frame, start=start).events["lab"].known.tolist() == [3 * DAY - 1]


def test_rows_far_from_their_own_patient_are_refused_and_no_others(read):
    cohort = read(["2150-01-02", "2149-12-30", "2024-06-01", "2276-01-01"], start="2150-01-01")
    refused = cohort.report["tables"]["labs.csv"]["refused"]
    assert refused == {"time is not days, ISO 8601 or within 125 years of day 0": 2}
    assert cohort.events["lab"].known.tolist() == [-DAY - 1, 2 * DAY - 1]


def test_patients_of_far_centuries_side_by_side(read, tmp_path):
    """Keys of many patients hold whatever the years are: times are after each patient's own day 0."""
    from gnnpatient import build_graphs, open_cohort, read_cohort

    read(["1"])
    starts = [date(1, 1, 1), date(1700, 1, 1), date(2150, 1, 1), date(9990, 1, 1)] * 30
    rows = [f"p{i},{start},99,0\n" for i, start in enumerate(starts)]
    (tmp_path / "patients.csv").write_text("pid,start,end,died\n" + "".join(rows))
    labs = [f"p{i},{start + timedelta(days=n)},x\n" for i, start in enumerate(starts) for n in (0, 9, 400)]
    (tmp_path / "labs.csv").write_text("pid,time,code\n" + "".join(labs))
    cohort = open_cohort(read_cohort(tmp_path / "spec.toml", tmp_path).save(tmp_path / "packed"))
    assert len(cohort) == 120 and len(cohort.events["lab"]) == 360
    assert np.diff(build_graphs(cohort.at(10))["lab"].ptr).tolist() == [2] * 120
    whole = build_graphs(cohort.at("9999-12-31"))
    assert np.diff(whole["lab"].ptr).tolist() == [3] * 120
    assert np.diff(build_graphs(cohort.at("2150-01-05"))["lab"].ptr).tolist() == [
        {1: 3, 1700: 3, 2150: 1, 9990: 0}[start.year] for start in sorted_by_id(starts)
    ]


def sorted_by_id(starts):
    return [start for _, start in sorted((f"p{i}", start) for i, start in enumerate(starts))]


@pytest.mark.parametrize("year", [1790, 2150])
def test_events_of_a_format_in_any_year(tmp_path, year):
    from gnnpatient import read_cohort

    rows = [
        (1, datetime(year - 50, 1, 1), "MEDS_BIRTH"),
        (1, datetime(year, 3, 1, 8), "ADMISSION"),
        (1, datetime(year, 3, 2, 8), "LAB"),
        (1, datetime(year, 3, 4), "MEDS_DEATH"),
    ]
    cohort = read_cohort(meds(tmp_path, rows), tmp_path)
    assert cohort.events["lab"].known.tolist() == [DAY]
    assert cohort.outcomes["death"].time.tolist() == [3 * DAY + 16 * HOUR - 1]
    assert cohort.number[0, 0] == pytest.approx(50.16, abs=0.01)
    assert cohort.at(f"{year}-03-04").at.tolist() == [3 * DAY + 16 * HOUR - 1]


def meds(folder, rows, tables=""):
    schema = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String}
    (folder / "data").mkdir(exist_ok=True)
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(folder / "data" / "0.parquet")
    (folder / "meds.toml").write_text(f"""
cohort = "meds"
format = "meds"
[patient]
number = ["age"]
origin = {{ code = "ADMISSION", pick = "first" }}
exit = "last"
[nodes.lab]
where = {{ code = "LAB" }}
[outcomes.death]
kind = "survival"
causes = {{ death = {{ where = {{ code = "MEDS_DEATH" }} }} }}
{tables}
""")
    return folder / "meds.toml"


@pytest.mark.parametrize(
    ("start", "cell"), [("", "an empty cell"), ("2021-02-30", "'2021-02-30'"), ("2021-W09-1", "'2021-W09-1'")]
)
def test_a_refused_date_is_shown_beside_what_would_be_read(read, start, cell):
    with pytest.raises(InputError) as error:
        read(["1"], start=start)
    assert (
        f"column 'start', line 2: not a date; every patient needs a day 0; {cell} is not read, 2021-03-04, "
        in (str(error.value))
    )
    with pytest.raises(
        InputError, match=r"column 'end', line 2: not a time; .* of it; 'soon' is not read, 2021-03-04"
    ):
        read(["1"], end="soon")


# ---- a day is a local day


def last(day: date, zone: str | None) -> int:
    """The last second since 1970 that a clock in the zone counts to that day, by looking at every second."""
    if zone is None:
        return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) + DAY - 1
    clock, noon = ZoneInfo(zone), int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())
    low, high = noon - 2 * DAY, noon + 2 * DAY
    seconds = np.arange(low, high)
    there = pl.Series(seconds).cast(pl.Int64) * 1_000_000
    local = there.cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(zone).dt.date()
    found = int(seconds[(local == day).to_numpy()].max())
    assert datetime.fromtimestamp(found, clock).date() == day
    return found


DAYS = [  # zone, day, how many hours it has
    (None, "2021-03-04", 24),
    ("Europe/Berlin", "2021-03-04", 24),
    ("Europe/Berlin", "2021-03-28", 23),
    ("Europe/Berlin", "2021-10-31", 25),
    ("America/New_York", "2020-11-01", 25),
    ("Australia/Lord_Howe", "2021-04-04", 24.5),
    ("America/Sao_Paulo", "2018-11-04", 23),  # begins at 1:00
    ("America/Sao_Paulo", "2018-02-17", 25),  # its last hour comes twice
    ("America/Havana", "2021-11-07", 25),  # its first hour comes twice
    ("Pacific/Apia", "2011-12-29", 24),  # the next day was left out
    ("Asia/Kolkata", "2021-03-04", 24),
]


@pytest.mark.parametrize(("zone", "day", "hours"), DAYS)
def test_the_end_of_a_day_is_before_the_local_midnight(read, tmp_path, zone, day, hours):
    """Of a landmark, a row, a death and the end of observation, however the date is written."""
    from gnnpatient import build_graphs, open_cohort

    d = date.fromisoformat(day)
    end = last(d, zone)
    before = d - timedelta(days=3)
    start = last(before - timedelta(days=1), zone) + 1  # day 0 begins at its local midnight
    assert (end + 1 - last(d - timedelta(days=1), zone) - 1) / HOUR == hours or day == "2011-12-29"
    both = zoned(zone, "patients.csv", "labs.csv")
    for labs in ([day], pl.DataFrame({"pid": ["a"], "time": [d], "code": ["x"]})):
        cohort = read(labs, start=before, end=day, died=1, tables=both)
        cohort = open_cohort(cohort.save(tmp_path / f"packed {len(list(tmp_path.iterdir()))}"))
        assert cohort.origin.tolist() == [start]
        assert cohort.events["lab"].known.tolist() == [end - start]
        assert cohort.outcomes["death"].time.tolist() == [end - start]
        for asked in (day, d, np.datetime64(day), [day]):
            assert cohort.at(asked).at.tolist() == [end - start]
        assert len(build_graphs(cohort.at(day))["lab"]) == 1
        assert not cohort.at(day).at_risk("death").any()
        assert cohort.at((end - start - 1) / DAY).at_risk("death").all()
    form = d.strftime("%d.%m.%Y")
    time = f'time = {{ format = "%d.%m.%Y"{f", timezone = {zone!r}" if zone else ""} }}\n'
    tables = zoned(zone, "patients.csv") + f'[tables."labs.csv"]\n{time}'
    assert read([form], start=before, tables=tables).events["lab"].known.tolist() == [end - start]


def test_a_day_that_a_zone_left_out_is_no_time(read):
    cohort = read(
        ["2011-12-30", "2011-12-31"],
        start="2011-12-29",
        tables=zoned("Pacific/Apia", "labs.csv", "patients.csv"),
    )
    assert cohort.events["lab"].known.tolist() == [2 * DAY - 1]
    assert cohort.report["tables"]["labs.csv"]["used"] == 1


def test_the_zone_of_a_landmark(read):
    """One zone that the tables name is that of the asks; of several, the patient table's; else UTC."""
    start = "2021-03-01T00:00Z"

    def ends(tables: str) -> float:
        return (read(["2021-03-04"], start=start, tables=tables).at("2021-03-04").at[0] + 1) / HOUR

    berlin, tokyo = "Europe/Berlin", "Asia/Tokyo"
    assert ends("") == 96
    assert ends(zoned(berlin, "labs.csv")) == ends(zoned(berlin, "patients.csv")) == 95
    assert ends(zoned(berlin, "labs.csv", "patients.csv")) == 95
    assert ends(zoned(berlin, "patients.csv") + zoned(tokyo, "labs.csv")) == 95
    assert ends(zoned(tokyo, "patients.csv") + zoned(berlin, "labs.csv")) == 87
    assert ends(zoned(tokyo, "labs.csv") + zoned(berlin, "other.csv")) == 96
    cohort = read(["2021-03-04T10:00"], start=start, tables=zoned(berlin, "labs.csv"))
    clock = cohort.events["lab"].known.tolist()
    assert clock == [3 * DAY + 9 * HOUR] == cohort.at("2021-03-04T10:00").at.tolist()
    assert clock == cohort.at("2021-03-04 09:00:00+00").at.tolist()
    assert clock == cohort.at(datetime(2021, 3, 4, 9, tzinfo=UTC)).at.tolist()


def test_patients_after_a_date_are_those_of_the_local_day(read, tmp_path):
    from gnnpatient import read_cohort
    from gnnpatient.prognosis.run import _test_by

    read(["1"], tables=zoned("America/New_York", "patients.csv"))
    (tmp_path / "patients.csv").write_text("pid,start,end,died\na,2021-02-28T23:30,9,0\nb,2021-03-01,9,0\n")
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    assert _test_by(cohort, "after=2021-03-01").tolist() == [False, True]


@pytest.mark.parametrize(("day", "hours"), [("2021-03-28", 23), ("2021-10-31", 25)])
def test_a_local_day_in_every_format(tmp_path, day, hours):
    """MEDS and OMOP hold local clock times, FHIR has them in UTC; a bare date is local in all three."""
    from gnnpatient import read_cohort

    d, zone = date.fromisoformat(day), "Europe/Berlin"
    midnight = last(d - timedelta(days=1), zone) + 1
    end = last(d, zone)
    assert end + 1 - midnight == hours * HOUR
    morning = datetime(d.year, d.month, d.day, 9)
    nine = int(morning.replace(tzinfo=ZoneInfo(zone)).timestamp())
    rows = [
        (1, datetime(d.year, d.month, d.day), "ADMISSION"),
        (1, morning, "LAB"),
        (1, datetime(d.year, d.month, d.day), "MEDS_DEATH"),
    ]
    spec = meds(tmp_path, rows, zoned(zone, "data"))
    spec.write_text(spec.read_text().replace('number = ["age"]\n', ""))
    cohort = read_cohort(spec, tmp_path)
    assert cohort.origin.tolist() == [midnight]
    assert cohort.events["lab"].known.tolist() == [nine - midnight]
    assert cohort.outcomes["death"].time.tolist() == [end - midnight] == cohort.at(day).at.tolist()
    assert cohort.outcomes["death"].event.tolist() == [1]

    omop = tmp_path / "omop"
    omop.mkdir()
    (omop / "person.csv").write_text("person_id,year_of_birth\n1,1950\n")
    (omop / "visit_occurrence.csv").write_text(
        "person_id,visit_occurrence_id,visit_concept_id,visit_start_date,visit_source_value\n"
        f"1,1,9202,{day},v\n"
    )
    (omop / "measurement.csv").write_text(
        "person_id,measurement_date,measurement_datetime,measurement_concept_id,measurement_source_value\n"
        f"1,{day},{day} 09:00:00,0,crp\n1,{day},,0,pct\n"
    )
    (omop / "death.csv").write_text(f"person_id,death_date\n1,{day}\n")
    (omop / "spec.toml").write_text(f"""
cohort = "omop"
format = "omop"
[patient]
origin = {{ code = "VISIT//*", pick = "first" }}
exit = "last"
[nodes.lab]
where = {{ code = "MEASUREMENT//*" }}
[outcomes.death]
kind = "survival"
causes = {{ death = {{ where = {{ code = "DEATH" }} }} }}
{zoned(zone, "visit_occurrence", "measurement", "death")}
""")
    cohort = read_cohort(omop / "spec.toml", omop)
    assert cohort.origin.tolist() == [midnight]
    assert cohort.events["lab"].known.tolist() == [nine - midnight, end - midnight]
    assert cohort.outcomes["death"].time.tolist() == [end - midnight] == cohort.at(day).at.tolist()

    fhir = tmp_path / "fhir"
    fhir.mkdir()
    at = datetime.fromtimestamp(nine, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    subject, code = {"reference": "Patient/1"}, {"coding": [{"system": "http://loinc.org", "code": "1"}]}
    lines = [
        {"resourceType": "Patient", "id": "1", "birthDate": "1950-01-01", "deceasedDateTime": day},
        {"resourceType": "Encounter", "id": "e", "subject": subject, "type": [code]}
        | {"status": "finished", "class": {"code": "AMB"}, "period": {"start": day, "end": day}},
        {"resourceType": "Observation", "id": "o", "subject": subject, "code": code, "status": "final"}
        | {"effectiveDateTime": at, "valueQuantity": {"value": 1}},
        {"resourceType": "Observation", "id": "q", "subject": subject, "code": code, "status": "final"}
        | {"effectiveDateTime": day, "valueQuantity": {"value": 2}},
    ]
    (fhir / "all.ndjson").write_text("\n".join(map(json.dumps, lines)))
    (fhir / "spec.toml").write_text(f"""
cohort = "fhir"
format = "fhir"
[patient]
origin = {{ code = "ENCOUNTER//*", pick = "first" }}
exit = "last"
[nodes.lab]
table = "Observation"
[outcomes.death]
kind = "survival"
causes = {{ death = {{ where = {{ code = "DEATH" }} }} }}
{zoned(zone, "Encounter", "Observation", "Patient")}
""")
    cohort = read_cohort(fhir / "spec.toml", fhir)
    assert cohort.origin.tolist() == [midnight]
    assert cohort.events["lab"].known.tolist() == [nine - midnight, end - midnight]
    assert cohort.outcomes["death"].time.tolist() == [end - midnight] == cohort.at(day).at.tolist()


# ---- ISO 8601 in its forms

FORMS = [  # a cell, its second after 2021-03-01 in UTC, of a day of 2021-03-04 unless it says otherwise
    ("2021-03-04 08:00:00+00", 3 * DAY + 8 * HOUR),
    ("2021-03-04 08:00:00+0000", 3 * DAY + 8 * HOUR),
    ("2021-03-04 08:00:00+00:00", 3 * DAY + 8 * HOUR),
    ("2021-03-04 08:00:00 UTC", 3 * DAY + 8 * HOUR),
    ("2021-03-04 08:00:00.123456 UTC", 3 * DAY + 8 * HOUR),
    ("2021-03-04 08:00:00Z", 3 * DAY + 8 * HOUR),
    ("2021-03-04t08:00:00z", 3 * DAY + 8 * HOUR),
    ("2021-03-04T08:00:00.000Z", 3 * DAY + 8 * HOUR),
    ("2021-03-04 08:00:00.0000000 +01:00", 3 * DAY + 7 * HOUR),
    ("2021-03-04 08:00:00.123+05:30", 3 * DAY + 2 * HOUR + 1800),
    ("2021-03-04 08:00:00-03", 3 * DAY + 11 * HOUR),
    ("2021-03-04 08:00:00 -0800", 3 * DAY + 16 * HOUR),
    ("2021-03-04T08:00:00,9", 3 * DAY + 8 * HOUR),
    ("2021-03-04T08:00", 3 * DAY + 8 * HOUR),
    ("2021-03-04 08:00", 3 * DAY + 8 * HOUR),
    ("2021-03-04T0800", 3 * DAY + 8 * HOUR),
    ("2021-03-04T08:00:00+01:00[Europe/Berlin]", 3 * DAY + 7 * HOUR),
    ("20210304", 4 * DAY - 1),
    ("20210304T080000", 3 * DAY + 8 * HOUR),
    ("20210304T080000Z", 3 * DAY + 8 * HOUR),
    ("20210304T0800+0100", 3 * DAY + 7 * HOUR),
    ("20210304 080000.5", 3 * DAY + 8 * HOUR),
    (" 2021-03-04 ", 4 * DAY - 1),
]


@pytest.mark.parametrize(("cell", "second"), FORMS)
def test_a_time_as_a_database_writes_it(read, cell, second):
    cohort = read([cell, "2021-03-02"], start=cell, end=cell)
    first = second - DAY + 1 if (second + 1) % DAY == 0 else second
    assert cohort.origin.tolist() == [1_614_556_800 + first]
    assert cohort.events["lab"].known.tolist() == sorted([second - first, 2 * DAY - 1 - first])
    assert cohort.outcomes["death"].time.tolist() == [second - first]
    assert cohort.at(cell.strip()).at.tolist() == [second - first]


OTHERS = ["2021-W09-4", "2021-063", "2021-03", "2021-03-04T08", "2021-03-04T24:00", "2021-03-04T08:00+15:00"]


@pytest.mark.parametrize("cell", OTHERS)
def test_a_form_that_could_be_something_else_is_refused(read, cell):
    cohort = read([cell, "2021-03-02"])
    assert cohort.report["tables"]["labs.csv"]["used"] == 1
    with pytest.raises(InputError, match=r"neither days nor an ISO 8601 date|write the whole date"):
        cohort.at(cell)


def test_numbers_of_eight_digits_are_dates_where_no_offset_is_so_long(read):
    days = pl.DataFrame({"pid": ["a"] * 3, "time": [20210304, 20210305, None], "code": ["x"] * 3})
    cohort = read(days)
    assert cohort.events["lab"].known.tolist() == [4 * DAY - 1, 5 * DAY - 1]
    seconds = '[tables."labs.parquet"]\ntime = { unit = "s" }\n'
    assert read(days, tables=seconds).events["lab"].known.tolist() == [20210304, 20210305]
    assert read(["20210304", "20211304", "20210305"]).events["lab"].known.tolist() == [
        4 * DAY - 1,
        5 * DAY - 1,
    ]


def test_a_table_with_formatted_dates_and_an_offset_column(read):
    how = '[tables."patients.csv"]\ntime = { format = "%d.%m.%Y %H:%M", unit = "h" }\n'
    cohort = read(["3"], start="01.03.2021 08:00", end="36", died=1, tables=how)
    assert cohort.outcomes["death"].time.tolist() == [36 * HOUR]
    written = read(["3"], start="01.03.2021 08:00", end="02.03.2021 20:00", died=1, tables=how)
    assert written.outcomes["death"].time.tolist() == [36 * HOUR]
    with pytest.raises(InputError, match=r"day 0; '36' is not read, 04\.03\.2021 08:30 would be"):
        read(["3"], start="36", tables=how)
    digits = '[tables."patients.csv"]\ntime = { format = "%Y%m%d" }\n'
    cohort = read(["3"], start="20210301", end="20210304", tables=digits)
    assert cohort.outcomes["death"].time.tolist() == [4 * DAY - 1]
    assert read(["3"], start="20210301", end="400", tables=digits).outcomes["death"].time.tolist() == [
        400 * DAY
    ]
    mixed = '[tables."labs.csv"]\ntime = { format = "%d.%m.%Y" }\n'
    report = read(["04.03.2021", "3"], tables=mixed).report["tables"]["labs.csv"]
    assert report["used"] == 1  # a number among formatted dates is a slip
    frame = pl.DataFrame({"pid": ["a"], "time": [1.5], "code": ["x"]})
    typed = read(frame, tables='[tables."labs.parquet"]\ntime = { format = "%d.%m.%Y" }\n')
    assert typed.events["lab"].known.tolist() == [1.5 * DAY]


def test_iso_8601_in_omop_and_fhir(tmp_path):
    from gnnpatient import read_cohort

    (tmp_path / "person.csv").write_text("person_id,year_of_birth\n1,1950\n")
    (tmp_path / "death.csv").write_text("person_id,death_date\n1,2022-01-01\n")
    forms = [(cell.strip(), second) for cell, second in FORMS]
    rows = "".join(f'1,"{cell}",0,c{i:02}\n' for i, (cell, _) in enumerate(forms))
    head = "person_id,measurement_datetime,measurement_concept_id,measurement_source_value\n"
    (tmp_path / "measurement.csv").write_text(f"{head}1,2021-03-01T00:00:00,0,START\n{rows}")
    (tmp_path / "spec.toml").write_text("""
cohort = "omop"
format = "omop"
[patient]
origin = { code = "MEASUREMENT//START", pick = "first" }
[nodes.lab]
where = { code = "MEASUREMENT//c*" }
""")
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    table = cohort.patient("1").table().sort("code")
    assert (table["known"] * DAY).round().to_list() == [second for _, second in forms]

    fhir = tmp_path / "fhir"
    fhir.mkdir()
    subject = {"reference": "Patient/1"}

    def seen(i, time):
        code = {"coding": [{"system": "http://loinc.org", "code": f"c{i:02}"}]}
        return {"resourceType": "Observation", "id": f"o{i}", "subject": subject, "code": code} | {
            "effectiveDateTime": time,
            "status": "final",
            "valueQuantity": {"value": 1},
        }

    forms = [(cell, second) for cell, second in forms if " " not in cell]  # FHIR has a T there
    lines = [{"resourceType": "Patient", "id": "1"}, seen(99, "2021-03-01T00:00:00Z")]
    lines += [seen(i, cell) for i, (cell, _) in enumerate(forms)]
    (fhir / "all.ndjson").write_text("\n".join(map(json.dumps, lines)))
    (fhir / "spec.toml").write_text("""
cohort = "fhir"
format = "fhir"
[patient]
origin = { code = "OBSERVATION//c99", pick = "first" }
[nodes.lab]
where = { code = "OBSERVATION//c*" }
""")
    cohort = read_cohort(fhir / "spec.toml", fhir)
    table = cohort.patient("1").table().sort("code")
    assert (table["known"] * DAY).round().to_list() == [*(second for _, second in forms), 0]


# ---- a table or a kind that is lost as a whole


@pytest.fixture
def lost(tmp_path):
    """Read a cohort of six patients p0 to p5 with three labs each: rows of pid, time, value, unit, code."""

    def reads(change=lambda i, row: row, *, node="", more="", patient="", people="pid,start,end,died\n"):
        from gnnpatient import read_cohort

        ids = [f"{i}" for i in range(1, 7)]
        (tmp_path / "patients.csv").write_text(people + "".join(f"{i},2021-03-01,99,0\n" for i in ids))
        rows = [[i, f"2021-03-0{n}", "4.1", "mg", "K"] for i in ids for n in (2, 3, 4)]
        rows = [change(n, list(row)) for n, row in enumerate(rows)]
        (tmp_path / "labs.csv").write_text(
            "pid,time,value,unit,code\n" + "".join(",".join(r) + "\n" for r in rows)
        )
        spec = SPEC.format(tables=more, patient=patient, node=f'value = "value"\nunit = "unit"\n{node}')
        (tmp_path / "spec.toml").write_text(spec)
        return read_cohort(tmp_path / "spec.toml", tmp_path)

    return reads


def put(column, cell, rows=range(18)):
    return lambda n, row: [*row[:column], cell(row[column]), *row[column + 1 :]] if n in rows else row


UNITS = '[units]\nK = { to = "mmol", range = [0, 1] }\n'
LOST = {  # what is done to every row, further lines of the spec, what the refusal shows and advises
    "float ids": (put(0, "{}.0".format), "", "ids look like '1.0', the patients have '1': write them alike"),
    "padded ids": (put(0, "00{}".format), "", "ids look like '001', the patients have '1': write them alike"),
    "references": (put(0, "Patient/{}".format), "", "ids look like 'Patient/1', the patients have '1'"),
    "other ids": (put(0, "x{}".format), "", "ids look like 'x1', the patients have '1': is that the column"),
    "no ids": (put(0, lambda _: ""), "", "18 no patient id; is the patient in column 'pid'?"),
    "months": (put(1, lambda _: "2021-03"), "", "; '2021-03' is not read, 2021-03-04, 2021-03-04 08:30 or"),
    "words": (put(1, lambda _: "01MAR2021:08:00"), "", "; '01MAR2021:08:00' is not read, 2021-03-04"),
    "another format": (
        lambda n, row: row,
        '[tables."labs.csv"]\ntime = { format = "%d.%m.%Y" }\n',
        "or not within 125 years of day 0; '2021-03-02' is not read, 04.03.2021 would be",
    ),
    "another century": (put(1, lambda t: f"1{t[1:]}"), "", "; '1021-03-02' is not read"),
    "no times": (put(1, lambda _: ""), "", '18 no time; untimed = "origin" in the node takes such rows'),
    "no codes": (put(4, lambda _: ""), "", "18 no code"),
    "words for values": (put(2, lambda _: "high"), "", "18 value not a finite number, as 'high'"),
    "a unit nobody knows": (lambda n, row: row, UNITS, "18 unknown unit; 'mg' is not among the units of"),
    "two reasons": (
        lambda n, row: put(0, "x{}".format)(n, row) if n % 3 else put(1, lambda _: "soon")(n, row),
        "",
        "12 patient not in the patient table, 6 time is not days",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "more", "said"), LOST.values(), ids=LOST)
def test_a_kind_of_which_every_row_is_refused_is_an_error(lost, change, more, said):
    with pytest.raises(InputError) as error:
        lost(change, more=more)
    assert str(error.value).startswith("labs.csv (lab): none of 18 rows is used: ")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_over_half_refused_is_a_flag_that_decides(lost):
    half = lost(put(1, lambda _: "soon", range(9)))
    assert half.report["flags"] == half.report["decisive"] == []
    most = lost(put(1, lambda _: "soon", range(10)))
    (flag,) = most.report["flags"]
    assert most.report["decisive"] == [flag]
    assert flag.startswith("labs.csv (lab): 10 of 18 rows refused: 10 time is not days, ISO 8601")
    assert flag.endswith(
        "'soon' is not read, 2021-03-04, 2021-03-04 08:30 or 2021-03-04T08:30:00+01:00 would be"
    )
    (flag,) = lost(put(0, "{}.0".format, range(10))).report["flags"]
    assert flag == (
        "labs.csv (lab): 10 of 18 rows refused: 10 patient not in the patient table; are the ids written as "
        "in the patient table?"  # and no id
    )


def test_a_kind_beside_others_of_its_table(lost):
    """Each kind counts by itself: the table is used, one kind of it is lost."""
    other = '[nodes.old]\ntable = "labs.csv"\ntime = "unit"\ncode = "code"\n'
    with pytest.raises(
        InputError, match=r"^labs\.csv \(old\): none of 18 rows is used: 18 time .*; 'mg' is not"
    ):
        lost(more=other)


def test_where_nothing_is_asked_nothing_is_lost(lost):
    cohort = lost(node='where = { code = "Na" }')
    assert len(cohort.events["lab"]) == 0 and cohort.report["flags"] == []
    wide = '[nodes.wide]\ntable = "labs.csv"\ntime = "time"\ncolumns = { gap = "" }\n'

    def gap(n, row):
        return [*row[:3], "", row[4]]

    cohort = lost(gap, more=wide.replace("gap", "unit"))
    assert len(cohort.events["wide"]) == 0 and len(cohort.events["lab"]) == 18


def test_patients_who_are_not_chosen_are_no_loss(lost, tmp_path):
    """Labs of those whom `where` leaves out are refused, and that is as it should be."""
    from gnnpatient import read_cohort

    lost()
    spec = (
        (tmp_path / "spec.toml")
        .read_text()
        .replace('origin = "start"', 'origin = "start"\nwhere = { pid = "1" }')
    )
    (tmp_path / "spec.toml").write_text(spec)
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    assert cohort.report["tables"]["labs.csv"]["refused"] == {"patient not in the patient table": 15}
    assert cohort.report["flags"] == []
    labs = (tmp_path / "labs.csv").read_text().splitlines()
    (tmp_path / "labs.csv").write_text("\n".join(line for line in labs if not line.startswith("1,")) + "\n")
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    assert len(cohort.events["lab"]) == 0 and cohort.report["flags"] == []


def test_codes_that_give_an_answer_away_are_no_loss(lost):
    more = '[outcomes.low]\nkind = "diagnosis"\nnode = "lab"\ncodes = ["K"]\nhorizon = "30d"\n'
    cohort = lost(more=more, patient='exit = "1y"')
    assert cohort.report["tables"]["labs.csv"]["refused"] == {"hidden: gives low away": 18}
    assert cohort.report["flags"] == []


def test_a_table_of_outcomes_that_is_lost(lost, tmp_path):
    (tmp_path / "deaths.csv").write_text("pid,day\n" + "".join(f"{i}.0,9\n" for i in range(1, 7)))
    more = '[outcomes.dead]\nkind = "survival"\nexit = "1y"\n'
    more += 'causes = { dead = { table = "deaths.csv", time = "day" } }\n'
    with pytest.raises(
        InputError, match=r"^deaths\.csv: none of 6 rows is used: 6 patient not .* look like '1\.0'"
    ):
        lost(more=more)
    (tmp_path / "deaths.csv").write_text("pid,day\n1,9\n" + "".join(f"{i}.0,9\n" for i in range(2, 5)))
    (flag,) = lost(more=more).report["decisive"]
    assert flag.startswith("deaths.csv: 3 of 4 rows refused: 3 patient not in the patient table")
    (tmp_path / "deaths.csv").write_text("pid,day\n1,9\n")
    assert lost(more=more).report["flags"] == []


def test_a_kind_of_a_format_that_its_reader_could_not_read(tmp_path):
    from gnnpatient import read_cohort

    (tmp_path / "person.csv").write_text("person_id,year_of_birth\n1,1950\n")
    (tmp_path / "death.csv").write_text("person_id,death_date\n1,2022-01-01\n")
    head = "person_id,measurement_date,measurement_concept_id,measurement_source_value\n"
    spec = """
cohort = "omop"
format = "omop"
[patient]
origin = {{ code = "DEATH", pick = "first" }}
[nodes.lab]
where = {{ code = "{}" }}
"""
    (tmp_path / "spec.toml").write_text(spec.format("MEASUREMENT//*"))
    (tmp_path / "measurement.csv").write_text(head + "1,01MAR2021,0,crp\n" * 3)
    said = r"^measurement \(lab\): none of 3 rows is used: 3 time is not a date; '01MAR2021' is not read"
    with pytest.raises(InputError, match=said):
        read_cohort(tmp_path / "spec.toml", tmp_path)
    (tmp_path / "spec.toml").write_text(spec.format("MEASUREMENT//absent"))
    (flag,) = read_cohort(tmp_path / "spec.toml", tmp_path).report["decisive"]
    assert flag.startswith("measurement: 3 of 3 rows refused: 3 time is not a date; '01MAR2021' is not read")
    (tmp_path / "measurement.csv").write_text(head + "1,01MAR2021,0,crp\n1,2021-03-01,0,crp\n")
    assert read_cohort(tmp_path / "spec.toml", tmp_path).report["decisive"] == []


# ---- codes as numbers


@pytest.mark.parametrize(
    ("codes", "kept", "flagged"),
    [
        (pl.Series([250.0, 250.01, 42.0, 7.1]), ["250", "250.01", "42", "7.1"], "Float64, 4 codes"),
        (
            pl.Series([250.0, 250.01, None, 7.1], dtype=pl.Float32),
            ["250", "250.01", "7.1"],
            "Float32, 3 codes",
        ),
        (pl.Series(["250.0", "250.01", "250.00", "042"]), ["042", "250.0", "250.00", "250.01"], None),
        (pl.Series([250, 42, 7, 1]), ["1", "250", "42", "7"], None),
    ],
)
def test_a_code_column_of_fractions_is_flagged_and_keeps_its_digits(read, codes, kept, flagged):
    frame = pl.DataFrame({"pid": ["a"] * 4, "time": [1, 2, 3, 4], "code": codes})
    cohort = read(frame)
    assert sorted(cohort.codes["lab"][1:]) == kept
    said = [flag for flag in cohort.report["flags"] if "cannot be told apart" in flag]
    assert [flag.partition(" holds ")[2].partition(":")[0] for flag in said] == [flagged] * (
        flagged is not None
    )
    if flagged:
        assert len(read(frame, node='where = { code = "250" }').events["lab"]) == 1
        assert len(read(frame, node='where = { code = "250.01" }').events["lab"]) == 1


CLOCKS = [f"2021-03-{day:02d} 00:00:00" for day in range(2, 8)]


@pytest.mark.parametrize("form", ["csv", "T", "zone", "parquet", "format"])
@pytest.mark.parametrize("hours", [0, 8])
def test_a_column_of_midnights_alone_is_told(read, form, hours):
    cells = [*CLOCKS[:-1], CLOCKS[-1].replace("00:00:00", f"{hours:02d}:00:00")]
    how = ""
    if form == "parquet":
        stamps = [datetime.fromisoformat(cell) for cell in cells]
        labs = pl.DataFrame({"pid": "a", "time": stamps, "code": "x"})
    elif form == "format":
        labs = [datetime.fromisoformat(cell).strftime("%d/%m/%Y %H:%M") for cell in cells]
        how = '[tables."labs.csv"]\ntime = { format = "%d/%m/%Y %H:%M" }\n'
    else:
        labs = [c.replace(" ", "T") if form == "T" else c + "+00:00" * (form == "zone") for c in cells]
    flags = [flag for flag in read(labs, tables=how).report["flags"] if "midnight" in flag]
    assert len(flags) == (hours == 0)
    if flags:
        assert "column 'time': all 6 clock times are midnight: dates?" in flags[0]


def test_dates_offsets_and_a_few_midnights_are_no_midnights(read):
    for cells in ([c[:10] for c in CLOCKS], CLOCKS[:4], ["1.000000000000"] * 6, ["20210302"] * 6):
        assert not [flag for flag in read(cells).report["flags"] if "midnight" in flag]


def test_of_some_rows_of_a_table_the_whole_column_decides(read):
    node = 'where = { code = "x" }'
    stamps = [datetime.fromisoformat(cell) for cell in CLOCKS]
    for hours, told in ((8, 0), (0, 1)):
        times = [*stamps, datetime(2021, 3, 9, hours)]
        labs = pl.DataFrame({"pid": "a", "time": times, "code": ["x"] * 6 + ["y"]})
        flags = [flag for flag in read(labs, node=node).report["flags"] if "midnight" in flag]
        assert len(flags) == told and all("all 7 clock times" in flag for flag in flags)
