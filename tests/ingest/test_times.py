"""Times that cannot be: what is refused in one line, what is counted, and what a spec may not say of time."""

import pytest

from gnnpatient.errors import InputError

SPEC = """
cohort = "c"
[patient]
table = "patients.csv"
key = "pid"
{patient}
[nodes.lab]
table = "labs.csv"
code = "code"
{node}
[tables."labs.csv"]
time = {{ {time} }}
[tables."patients.csv"]
time = {{ {patient_time} }}
"""


@pytest.fixture
def read(tmp_path):
    def reads(
        *cells: str,
        time: str = "",
        patient_time: str = "",
        patient: str = 'origin = "start"',
        node: str = 'time = "time"',
        start: str = "2021-03-01",
    ):
        from gnnpatient import read_cohort

        (tmp_path / "patients.csv").write_text(f"pid,start,came\na,{start},\n")
        rows = "\n".join(f"a,{cell}" for cell in cells)
        header = "pid,time,code" if "known" not in node else "pid,time,known,code"
        (tmp_path / "labs.csv").write_text(f"{header}\n{rows}\n")
        spec = SPEC.format(patient=patient, node=node, time=time, patient_time=patient_time)
        (tmp_path / "c.toml").write_text(spec)
        return read_cohort(tmp_path / "c.toml", tmp_path)

    return reads


def refused(read, *cells: str, **more: str) -> str:
    with pytest.raises(InputError) as error:
        read(*cells, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


def why(cohort) -> dict[str, int]:
    return cohort.report["tables"]["labs.csv"]["refused"]


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (
            'timezone = "Europe/Berln"',
            "tables.labs.csv.time.timezone: timezone = 'Europe/Berln' is not a time zone of this system; "
            "did you mean 'Europe/Berlin'?",
        ),
        ('timezon = "Europe/Berlin"', "unknown key 'timezon'; did you mean 'timezone'?"),
        (
            'unit = "minutes"',
            "tables.labs.csv.time.unit: Input should be 's', 'min', 'h', 'd', 'w', 'mo' or 'y'",
        ),
        ("format = 3", "tables.labs.csv.time.format: Input should be a valid string"),
    ],
)
def test_a_spec_that_says_what_cannot_be(read, time, said):
    assert said in refused(read, "1,x", time=time)


@pytest.mark.parametrize(
    ("form", "cell", "said"),
    [
        ("%Y", "2021", "format '%Y' names no day; write whole dates, as in %Y-%m-%d"),
        ("%m/%Y", "03/2021", "format '%m/%Y' names no day; write whole dates, as in %Y-%m-%d"),
        ("%d.%m.%Y %H", "04.03.2021 10", "format '%d.%m.%Y %H': "),
    ],
)
def test_a_format_that_does_not_say_when(read, form, cell, said):
    assert refused(read, f"{cell},x", time=f'format = "{form}"').startswith(
        f"labs.csv: column 'time': {said}"
    )


def test_a_cell_that_does_not_fit_the_format_is_counted(read):
    cells = (
        "04.03.2021 10:00,x",
        "2021-03-04,y",
        "32.03.2021 10:00,z",
        "3,w",
        ",v",
        "NA,u",
        "04.03.1821 10:00,t",
    )
    cohort = read(*cells, time='format = "%d.%m.%Y %H:%M"')
    odd = "time is not written in the format of its table, or not within 125 years of day 0"
    assert why(cohort) == {odd: 4, "no time": 2}
    assert cohort.report["tables"]["labs.csv"]["used"] == len(cohort.events["lab"]) == 1


def test_known_that_does_not_fit_the_format_is_counted(read):
    cells = ("04.03.2021,05.03.2021,x", "04.03.2021,2021-03-05,y", "04.03.2021,,z", "04.03.2021,03.03.2021,w")
    cohort = read(*cells, node='time = "time"\nknown = "known"', time='format = "%d.%m.%Y"')
    odd = "known is not written in the format of its table, or not within 125 years of day 0"
    assert why(cohort) == {odd: 1, "no known time": 1, "happened after it was known": 1}


def test_without_a_format_a_cell_that_is_no_time_is_counted(read):
    cells = (
        "soon,x",
        "2021-02-30,y",
        "2021-13-01T10:00,z",
        "2021-03-04T24:01,w",
        "99999,v",
        "1e300,u",
        "1,t",
    )
    cohort = read(*cells)
    assert why(cohort) == {"time is not days, ISO 8601 or within 125 years of day 0": 6}
    assert len(cohort.events["lab"]) == 1


@pytest.mark.parametrize("cell", ["04/03/2021", "4.3.2021", "04-03-21 10:00"])
def test_a_date_that_may_be_two_days_is_refused(read, cell):
    said = refused(read, "1,x", f"{cell},y")
    assert said.startswith(
        f"labs.csv: column 'time', line 3: {cell!r} is ambiguous; write dates as 2021-03-04"
    )
    assert "set time = { format = ... } of that table" in said


def test_two_formats_in_one_column_are_told(read):
    said = refused(read, "2021-03-04,x", "2021-03-05,x", "16.03.2021,y")
    assert "line 4: '16.03.2021' is in another format, while 2 are written as 2021-03-04 is" in said
    assert "write these 1 in that way" in said and "format =" not in said


def test_dates_without_a_day_zero(read):
    said = refused(read, "2021-03-04,x", patient="")
    assert said == "labs.csv: column 'time': holds dates; name the column of day 0 as origin in [patient]"
    said = refused(read, "04.03.2021,x", patient="", time='format = "%d.%m.%Y"')
    assert said == "labs.csv: column 'time': holds dates; name the column of day 0 as origin in [patient]"


@pytest.mark.parametrize("start", ["", "5", "soon", "2021-02-30"])
def test_a_day_zero_that_is_no_date(read, start):
    said = refused(read, "1,x", start=start)
    cell = repr(start) if start else "an empty cell"
    assert said == (
        f"patients.csv: column 'start', line 2: not a date; every patient needs a day 0; {cell} is not read, "
        "2021-03-04, 2021-03-04 08:30 or 2021-03-04T08:30:00+01:00 would be"
    )


def test_a_day_zero_by_a_format_and_a_zone(read):
    """Each table says its own: day 0 in Berlin is 23:00 of the day before in UTC."""
    cohort = read("2021-03-01T00:00,x", patient_time='timezone = "Europe/Berlin"')
    assert cohort.events["lab"].known.tolist() == [3600]
    cohort = read("2021-03-01T00:00,x", patient_time='format = "%d/%m/%Y"', start="01/03/2021")
    assert cohort.events["lab"].known.tolist() == [0]
    said = refused(read, "1,x", patient_time='format = "%d/%m/%Y"')
    assert said.endswith("every patient needs a day 0; '2021-03-01' is not read, 04/03/2021 would be")


def test_an_entry_that_is_no_time(read):
    for entry, said in (
        ("start", None),
        ("soon", "patients.csv: no column 'soon'"),
        ("2 fortnights", "patients.csv: no column '2 fortnights'"),
    ):
        patient = f'origin = "start"\nentry = "{entry}"'
        if said is None:
            assert read("1,x", patient=patient).entry.tolist() == [0]
        else:
            assert refused(read, "1,x", patient=patient).startswith(said)


def test_a_node_without_a_time_says_so(read):
    said = refused(read, "1,x", node="")
    assert said.endswith('nodes.lab.time: this key is needed; untimed = "origin" does without (day 0)')


def test_a_zone_without_a_change_of_the_clock_is_its_offset(read):
    one = read("2021-03-04T10:00,x", time='timezone = "Asia/Kolkata"').events["lab"].known
    two = read("2021-03-04T10:00+05:30,x").events["lab"].known
    assert one.tolist() == two.tolist()
