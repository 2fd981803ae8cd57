"""Laws of time: what is known, at risk and later, on one day and however the times are written."""

import random
from datetime import date, datetime, timedelta

import numpy as np
import pytest

DAY, HOUR = 86_400, 3600
SPEC = """
cohort = "days"
[patient]
table = "patients.csv"
key = "pid"
{patient}
[nodes.lab]
table = "{table}"
code = "code"
edges = ["at", "next", "same"]
{node}
[outcomes.death]
kind = "survival"
table = "patients.csv"
{death}
[tables."{table}"]
time = {{ {time} }}
"""
FOLLOWED = 'causes = { death = { time = "end", flag = "died" } }'


@pytest.fixture
def read(tmp_path):
    """Read labs, a text or a frame (written as parquet), beside a text of patients."""

    def reads(
        labs, patients=None, *, time="", patient='origin = "start"', node='time = "time"', death=FOLLOWED
    ):
        from gnnpatient import read_cohort

        table = "labs.csv" if isinstance(labs, str) else "labs.parquet"
        if isinstance(labs, str):
            (tmp_path / table).write_text(labs)
        else:
            labs.write_parquet(tmp_path / table)
        (tmp_path / "patients.csv").write_text(patients or "pid,start,end,died\na,2021-03-01,99,0\n")
        spec = SPEC.format(table=table, time=time, patient=patient, node=node, death=death)
        (tmp_path / "spec.toml").write_text(spec)
        return read_cohort(tmp_path / "spec.toml", tmp_path)

    return reads


def seen(cohort, at) -> int:
    from gnnpatient import build_graphs

    return len(build_graphs(cohort.at(at, patient="a"))["lab"])


# ---- one day: 2021-03-04 is day 3 of a patient whose day 0 is 2021-03-01

WRITTEN = [  # how a time is written, and its second after day 0: a bare date is the end of its day
    ("2021-03-04", 4 * DAY - 1),
    ("2021-03-04T10:00", 3 * DAY + 10 * HOUR),
    ("2021-03-04 10:00:30", 3 * DAY + 10 * HOUR + 30),
    ("2021-03-04T10:00Z", 3 * DAY + 10 * HOUR),
    ("2021-03-04T10:00+01:00", 3 * DAY + 9 * HOUR),
    ("2021-03-04T00:30+0100", 2 * DAY + 23 * HOUR + 1800),
    ("2021-03-04T23:00:00.4-05:30", 4 * DAY + 4 * HOUR + 1800),
    ("2021-03-04T00:00", 3 * DAY),
    ("3", 3 * DAY),
    ("3.5", 3 * DAY + 12 * HOUR),
]


@pytest.mark.parametrize(("cell", "second"), WRITTEN)
def test_a_lab_is_seen_from_its_moment_on(read, cell, second):
    cohort = read(f"pid,time,code\na,{cell},crp\n")
    assert [seen(cohort, (second + late) / DAY) for late in (-1, 0, 1)] == [0, 1, 1]
    assert seen(cohort, "2021-03-04") == (second < 4 * DAY)  # a date means its end


@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize(("cell", "second"), WRITTEN)
def test_at_risk_until_the_moment_of_the_event_or_the_censoring(read, cell, second, flag):
    cohort = read("pid,time,code\na,0,crp\n", f"pid,start,end,died\na,2021-03-01,{cell},{flag}\n")
    X = cohort.at([(second + late) / DAY for late in (-1, 0, 1)], patient="a")
    assert X.at_risk("death").tolist() == [True, False, False]
    event, time = X[0].outcome("death")[0]
    assert (event, round(time * DAY)) == (flag, 1)  # strictly after the landmark
    assert cohort.at("2021-03-04", patient="a").at_risk().tolist() == [second >= 4 * DAY]


ENDS = [  # death, end of observation, the event, its second: an event at the end of observation is an event
    ("2021-03-04", "2021-03-04", 1, 4 * DAY - 1),
    ("2021-03-04T10:00", "2021-03-04", 1, 3 * DAY + 10 * HOUR),
    ("2021-03-04T10:00", "2021-03-04T10:00", 1, 3 * DAY + 10 * HOUR),
    ("2021-03-04T10:00", "2021-03-04T11:00+01:00", 1, 3 * DAY + 10 * HOUR),
    ("2021-03-04T10:00:01", "2021-03-04T10:00", 0, 3 * DAY + 10 * HOUR),
    ("2021-03-05", "2021-03-04", 0, 4 * DAY - 1),
    ("3", "2021-03-04T00:00", 1, 3 * DAY),
    ("", "2021-03-04", 0, 4 * DAY - 1),
]


@pytest.mark.parametrize(("died", "left", "event", "second"), ENDS)
def test_event_and_end_of_observation_on_one_day(read, died, left, event, second):
    patients = f"pid,start,died,left\na,2021-03-01,{died},{left}\n"
    death = 'exit = "left"\ncauses = { death = { time = "died" } }'
    held = read("pid,time,code\na,0,crp\n", patients, death=death).outcomes["death"]
    assert (held.event.tolist(), held.time.tolist()) == ([event], [second])


ASKED = [0, 1, 2, 2.5, 3, 4]
ENTRIES = [  # entry, death, at which of these days the patient is at risk
    ("2021-03-03", "2021-03-05", [2, 2.5, 3, 4]),  # a bare entry is the first second of its day
    ("2021-03-03T12:00", "2021-03-05", [2.5, 3, 4]),
    ("2", "4", [2, 2.5, 3]),
    ("", "2021-03-03T00:00", [0, 1]),  # without an entry observation begins at day 0
    ("2021-03-04T00:00", "3", []),  # an event at entry is prevalent
    ("2021-03-04", "3", []),
    ("2021-03-04", "2", []),
]


@pytest.mark.parametrize(("entry", "died", "days"), ENTRIES)
def test_at_risk_from_the_entry_on_and_prevalent_before(read, entry, died, days):
    patients = f"pid,start,came,died\na,2021-03-01,{entry},{died}\n"
    times = {"patient": 'origin = "start"\nentry = "came"', "death": 'causes = { death = { time = "died" } }'}
    cohort = read("pid,time,code\na,0,crp\n", patients, **times)
    risk = cohort.at(ASKED, patient="a").at_risk("death")
    assert [day for day, there in zip(ASKED, risk, strict=True) if there] == days
    steps = {step["step"]: step["n"] for step in cohort.flow()}
    assert steps["at risk at entry"] == bool(days)
    assert steps.get("event at or before entry (prevalent)", 0) == (not days)


def test_an_entry_a_duration_after_day_zero(read):
    patients = "pid,start,end,died\na,2021-03-01,2,1\n"
    cohort = read("pid,time,code\na,0,crp\n", patients, patient='origin = "start"\nentry = "36h"')
    assert cohort.at(ASKED, patient="a").at_risk("death").tolist() == [False] * 6
    X = cohort.at([1.5 - 1 / DAY, 1.5, 2 - 1 / DAY, 2], patient="a")
    assert X.at_risk("death").tolist() == [False, True, True, False]


def test_one_moment_however_it_is_written_is_one_group(read):
    """Simultaneous rows have no order: no next and no same edge among them."""
    moment = ("2021-03-04T10:00", "2021-03-04 11:00:00+01:00", "2021-03-04T10:00Z", str(3 + 10 / 24))
    rows = [f"a,{cell},{code}" for cell, code in zip(moment, ("x", "x2", "y", "z"), strict=True)]
    rows += [f"a,{cell},w" for cell in ("2021-03-04T10:00:01", "3.5")]
    from gnnpatient import build_graphs

    for order in (rows, rows[::-1]):
        cohort = read("pid,time,code\n" + "\n".join(order) + "\n")
        graphs = build_graphs(cohort.at(5, patient="a"))
        assert graphs["lab"].age.unique().tolist() == pytest.approx([1.5, 2 - 10 / 24 - 1 / DAY, 2 - 10 / 24])
        steps = [tuple(edge) for edge in graphs.edges["lab", "next", "lab"].T.tolist()]
        assert sorted(steps) == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 5)]
        assert graphs.edges["lab", "same", "lab"].T.tolist() == [[4, 5]]


def test_a_death_in_meds_at_midnight_is_a_date(tmp_path):
    """Somebody who is measured at noon and dies on that day, the hour unknown, was alive at noon."""
    import polars as pl

    from gnnpatient import build_graphs, read_cohort

    rows = [
        (1, datetime(2021, 3, 1), "ADMISSION", None),
        (1, datetime(2021, 3, 4, 12), "CRP", 3.0),
        (1, datetime(2021, 3, 4), "MEDS_DEATH", None),
        (2, datetime(2021, 3, 1), "ADMISSION", None),
        (2, datetime(2021, 3, 4), "CRP", 3.0),  # only a death or a birth at midnight is a date
        (2, datetime(2021, 3, 4, 9), "MEDS_DEATH", None),
    ]
    schema = {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "numeric_value": pl.Float32,
    }
    (tmp_path / "data").mkdir()
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(tmp_path / "data" / "0.parquet")
    (tmp_path / "spec.toml").write_text("""
cohort = "midnight"
format = "meds"
[patient]
origin = { code = "ADMISSION", pick = "first" }
[nodes.lab]
where = { code = "CRP" }
[outcomes.death]
kind = "survival"
causes = { death = { where = { code = "MEDS_DEATH" } } }
""")
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    assert cohort.outcomes["death"].time.tolist() == [4 * DAY - 1, 3 * DAY + 9 * HOUR]
    noon = cohort.at(3.5)
    assert noon.at_risk("death").tolist() == [True, False]
    assert np.diff(build_graphs(noon)["lab"].ptr).tolist() == [1, 1]
    event, time = noon[0].outcome("death")[0]
    assert (event, round(time * DAY)) == (1, 12 * HOUR - 1)
    assert np.diff(build_graphs(cohort.at(3))["lab"].ptr).tolist() == [0, 1]
    assert not cohort.at("2021-03-04").at_risk("death").any()


# ---- how times are written


@pytest.mark.parametrize(
    ("unit", "cell", "second"),
    [
        ("s", "90", 90),
        ("min", "90", 5400),
        ("min", "-1.5", -90),
        ("h", "36", 36 * HOUR),
        ("d", "1.25", 108_000),
        ("w", "0.5", 302_400),
        ("mo", "2", 5_259_600),  # 365.25 d / 12, twice
        ("y", "1", 31_557_600),
    ],
)
def test_units_of_offsets(read, unit, cell, second):
    cohort = read(f"pid,time,code\na,{cell},crp\n", time=f'unit = "{unit}"')
    events = cohort.events["lab"]
    assert events.known.tolist() == events.happened.tolist() == [second]


def test_a_unit_says_nothing_of_dates_and_of_other_tables(read):
    patients = "pid,start,end,died\na,2021-03-01,5,1\n"
    cohort = read("pid,time,code\na,2021-03-04T10:00,crp\n", patients, time='unit = "h"')
    assert cohort.events["lab"].known.tolist() == [3 * DAY + 10 * HOUR]
    assert cohort.outcomes["death"].time.tolist() == [5 * DAY]


TEN = 3 * DAY + 10 * HOUR
FORMATS = [  # format, cell, second after 2021-03-01
    ("%d.%m.%Y %H:%M", "04.03.2021 10:00", TEN),
    ("%d.%m.%Y %H:%M", " 04.03.2021 10:00 ", TEN),
    ("%d.%m.%Y %R", "04.03.2021 10:00", TEN),
    ("%d.%m.%Y %k:%M", "04.03.2021 10:00", TEN),
    ("%m/%d/%y %I:%M %p", "03/04/21 10:00 PM", TEN + 12 * HOUR),
    ("%FT%T", "2021-03-04T10:00:00", TEN),
    ("%Y%m%d%H%M%S", "20210304100000", TEN),
    ("%s", "1614852000", TEN),
    ("%Y-%m-%dT%H:%M%z", "2021-03-04T10:00+0100", TEN - HOUR),
    ("%Y%m%d", "20210304", 4 * DAY - 1),
    ("%d.%m.%Y", "04.03.2021", 4 * DAY - 1),
    ("%d %b %Y", "04 Mar 2021", 4 * DAY - 1),
    ("%Y/%j", "2021/063", 4 * DAY - 1),
]


@pytest.mark.parametrize(("form", "cell", "second"), FORMATS)
def test_formats(read, form, cell, second):
    cohort = read(f"pid,time,code\na,{cell},crp\na,,crp\n", time=f'format = "{form}"')
    assert cohort.events["lab"].known.tolist() == [second]
    assert cohort.report["tables"]["labs.csv"]["refused"] == {"no time": 1}


def test_a_format_speaks_for_its_table_alone(read):
    """Numbers in a table with a format are dates, never offsets; parquet keeps its own types."""
    import polars as pl

    frame = pl.DataFrame({"pid": ["a"], "time": [20210304], "code": ["crp"]})
    assert read(frame, time='format = "%Y%m%d"').events["lab"].known.tolist() == [4 * DAY - 1]
    frame = pl.DataFrame({"pid": ["a"], "time": [datetime(2021, 3, 4, 10)], "code": ["crp"]})
    assert read(frame, time='format = "%Y%m%d"').events["lab"].known.tolist() == [TEN]


BERLIN = 'timezone = "Europe/Berlin"'
CHANGES = [  # clock time in Berlin, second after 2021-03-01T00:00Z: on 28 March 2:00 to 3:00 is left out
    ("2021-03-28T01:59", 27 * DAY + 59 * 60),
    ("2021-03-28T03:00", 27 * DAY + HOUR),
    ("2021-03-27T12:00", 26 * DAY + 11 * HOUR),
    ("2021-03-28T12:00", 27 * DAY + 10 * HOUR),
    ("2021-10-31T01:59", 243 * DAY + 23 * HOUR + 59 * 60),
    ("2021-10-31T02:30", 244 * DAY + 1800),  # 2:00 to 3:00 comes twice; the earlier counts
    ("2021-10-31T03:00", 244 * DAY + 2 * HOUR),
    ("2021-03-28T02:30+01:00", 27 * DAY + 90 * 60),  # what names its zone is not moved
    ("2021-03-28T02:30Z", 27 * DAY + 150 * 60),
    ("2021-07-01", 122 * DAY - 2 * HOUR + DAY - 1),  # a date begins at midnight there
    ("5.5", 5 * DAY + 12 * HOUR),
]


@pytest.mark.parametrize(("cell", "second"), CHANGES)
def test_a_time_zone_across_the_change_of_the_clock(read, cell, second):
    import polars as pl

    cohort = read(f"pid,time,code\na,{cell},crp\n", time=BERLIN)
    assert cohort.events["lab"].known.tolist() == [second]
    if len(cell) == 16:  # the same clock time in a parquet, and by a format
        stamp = datetime.fromisoformat(cell)
        frame = pl.DataFrame({"pid": ["a"], "time": [stamp], "code": ["crp"]})
        assert read(frame, time=BERLIN).events["lab"].known.tolist() == [second]
        text = f"pid,time,code\na,{stamp:%d.%m.%Y %H:%M},crp\n"
        form = f'format = "%d.%m.%Y %H:%M", {BERLIN}'
        assert read(text, time=form).events["lab"].known.tolist() == [second]


def test_a_clock_time_that_there_never_was_is_refused(read):
    for cell, time in (
        ("2021-03-28T02:30", BERLIN),
        ("28.03.2021 02:30", f'format = "%d.%m.%Y %H:%M", {BERLIN}'),
    ):
        cohort = read(f"pid,time,code\na,{cell},crp\n", time=time)
        assert len(cohort.events["lab"]) == 0
        assert sum(cohort.report["tables"]["labs.csv"]["refused"].values()) == 1


def test_hours_between_clock_times_are_hours_that_passed(read):
    """Two rows around the change of the clock: 10 hours on the clock, 9 of them passed."""
    cohort = read("pid,time,code\na,2021-03-27T20:00,x\na,2021-03-28T06:00,x\n", time=BERLIN)
    assert np.diff(cohort.events["lab"].known).tolist() == [9 * HOUR]


def test_types_of_parquet(read):
    import polars as pl

    ten = datetime(2021, 3, 4, 10)
    columns = [
        (pl.Series([timedelta(days=3, hours=10)]), TEN),
        (pl.Series([timedelta(days=3, hours=10)]).cast(pl.Duration("ms")), TEN),
        (pl.Series([date(2021, 3, 4)]), 4 * DAY - 1),
        (pl.Series([ten]), TEN),
        (pl.Series([datetime(2021, 3, 4)]), 3 * DAY),  # a clock time at midnight is taken at its word
        (pl.Series([ten]).dt.replace_time_zone("Europe/Berlin"), TEN - HOUR),
        (pl.Series([ten]).cast(pl.Datetime("ns")), TEN),
        (pl.Series([3.5]), 3 * DAY + 12 * HOUR),
        (pl.Series([3]), 3 * DAY),
        (pl.Series(["2021-03-04T10:00"]), TEN),
    ]
    for time, second in columns:
        frame = pl.DataFrame({"pid": ["a"], "time": time, "code": ["crp"]})
        assert read(frame).events["lab"].known.tolist() == [second], time.dtype
    # a duration is a duration: a unit of offsets does not stretch it
    frame = pl.DataFrame({"pid": ["a"], "time": columns[0][0], "code": ["crp"]})
    assert read(frame, time='unit = "h"').events["lab"].known.tolist() == [TEN]


def test_rows_without_a_time(read):
    labs = "pid,time,known,code\na,,,x\na,soon,,x\na,2,3,x\na,,4,x\n"
    refused = read(labs)
    assert refused.events["lab"].known.tolist() == [2 * DAY]
    assert refused.report["tables"]["labs.csv"]["refused"]["no time"] == 2
    kept = read(labs, node='time = "time"\nuntimed = "origin"')
    assert kept.events["lab"].known.tolist() == [0, 2 * DAY]  # the two without a time are repeats
    why = kept.report["tables"]["labs.csv"]["refused"]
    assert sum(why.values()) == 1 and next(iter(why)).startswith("time is not days")


def test_rows_without_a_time_are_seen_no_earlier_than_they_were_known(read):
    labs = "pid,time,known,code\na,,,x\na,2,3,x\na,,4,x\n"
    for time, known in (('time = "time"\n', [3 * DAY, 4 * DAY]), ("", [3 * DAY, 4 * DAY])):
        cohort = read(labs, node=f'{time}known = "known"\nuntimed = "origin"')
        assert cohort.events["lab"].known.tolist() == known
        assert [seen(cohort, day) for day in (0, 3, 4)] == [0, 1, 2]
        assert cohort.report["tables"]["labs.csv"]["refused"] == {"no known time": 1}


def test_untimed_rows_are_there_from_day_zero(read):
    cohort = read("pid,code\na,male\n", node='untimed = "origin"')
    assert [seen(cohort, day) for day in (-1 / DAY, 0, 5)] == [0, 1, 1]


# ---- immortal time


@pytest.fixture(scope="module")
def immortal(tmp_path_factory):
    """4000 people who die at one rate, treated or not; treatments begin over the first 500 days.

    Who dies first is never treated, so that the treated have time in which they could not die.
    """
    from gnnpatient import read_cohort

    rng, size, folder = np.random.default_rng(7), 4000, tmp_path_factory.mktemp("immortal")
    death, start, end = rng.exponential(600, size), rng.uniform(0, 500, size), np.full(size, 730.0)
    last, died = np.minimum(death, end).round(3) + 0.001, (death <= end).astype(int)
    treated = start < last
    rows = [f"p{i:04d},{last[i]:.3f},{died[i]}" for i in range(size)]
    (folder / "patients.csv").write_text("pid,last,died\n" + "\n".join(rows) + "\n")
    doses = [f"p{i:04d},0,0" for i in range(size)]
    doses += [f"p{i:04d},{start[i]:.3f},1" for i in range(size) if treated[i]]
    random.Random(0).shuffle(doses)
    (folder / "drugs.csv").write_text("pid,day,dose\n" + "\n".join(doses) + "\n")
    (folder / "spec.toml").write_text("""
cohort = "immortal"
[patient]
table = "patients.csv"
key = "pid"
[nodes.drug]
table = "drugs.csv"
time = "day"
columns = { dose = "" }
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { death = { time = "last", flag = "died" } }
""")
    return read_cohort(folder / "spec.toml", folder), treated, last, died


def holds_one(observed: float, expected: float) -> bool:
    """Whether the 95 % interval of observed / expected holds 1; counts of disjoint windows are Poisson."""
    half = np.exp(1.96 / np.sqrt(observed))
    return observed / expected / half <= 1 <= observed / expected * half


def test_immortal_time_naive(immortal):
    """The fault that the landmarks are there for: ever treated against never, from day 0."""
    _, treated, last, died = immortal
    rate = died.sum() / last.sum()
    for group, wrong in ((treated, lambda ratio: ratio < 0.8), (~treated, lambda ratio: ratio > 2)):
        observed, expected = died[group].sum(), rate * last[group].sum()
        assert wrong(observed / expected) and not holds_one(observed, expected)


WINDOW = 120.0  # days: the landmarks lie that far apart, so that each death counts once
DAYS = (120.0, 240.0, 360.0, 480.0)


def test_immortal_time_by_landmarks(immortal):
    from gnnpatient.metrics import aalen_johansen

    cohort, treated, _, _ = immortal
    known, ever = np.zeros((2, 2)), np.zeros((2, 2))  # untreated and treated: observed, expected
    for day in DAYS:
        X = cohort.at(day).followed("death")
        drug, later = X.to_frame()["drug.dose"].to_numpy() > 0, treated[X.patient]
        assert not drug[~later].any() and not drug[later].all()
        y = X.outcome("death")
        risk = aalen_johansen(y["time"], y["event"], np.array([WINDOW]), causes=1)[1, 0]
        died = (y["time"] <= WINDOW) & (y["event"] == 1)
        for count, group in ((known, drug), (ever, later)):
            count[:, 0] += [died[~group].sum(), died[group].sum()]
            count[:, 1] += risk * np.array([(~group).sum(), group.sum()])
    for observed, expected in known:
        assert observed > 200 and holds_one(observed, expected)
    assert not any(holds_one(*row) for row in ever)  # a treatment that is still to come would show


def test_immortal_time_by_a_model_of_other_patients(immortal):
    """Cox on the last dose known at each landmark finds no effect, and its expected deaths are those seen."""
    from gnnpatient.study.baselines import StackedCox

    cohort, _, _, _ = immortal
    X = cohort.landmarks(times=DAYS).followed("death")
    train, test = X[X.patient % 4 == 0], X[X.patient % 4 == 1]
    cox = StackedCox(horizon=WINDOW, landmarks=len(DAYS)).fit(train)
    risk = cox.forecast(test)["death"].risk(horizon=WINDOW)
    drug = test.to_frame()["drug.dose"].to_numpy() > 0
    y = test.outcome("death")
    died = (y["time"] <= WINDOW) & (y["event"] == 1)
    for mine in (drug, ~drug):
        assert died[mine].sum() > 50 and holds_one(died[mine].sum(), risk[mine].sum())
    assert abs(np.log(risk[drug].mean() / risk[~drug].mean())) < 0.25


@pytest.mark.parametrize(
    "leaves", ["2021-03-04T09:00", "2021-03-04T23:59:59", "2021-03-04", "2021-03-05T01:00"]
)
def test_a_death_on_the_day_of_discharge_is_a_death(tmp_path, leaves):
    """A bare date is known at its last second, but a death on it is not after an exit on that day."""
    from gnnpatient import read_cohort

    (tmp_path / "patients.csv").write_text(f"id,start,left,dead\na,2021-03-01,{leaves},2021-03-04\n")
    (tmp_path / "c.toml").write_text(
        'cohort = "c"\n[patient]\ntable = "patients.csv"\nkey = "id"\norigin = "start"\nexit = "left"\n'
        '[outcomes.death]\nkind = "survival"\ntable = "patients.csv"\n'
        'causes = { death = { time = "dead" } }\n'
    )
    death = read_cohort(tmp_path / "c.toml", tmp_path).outcomes["death"]
    assert death.event.tolist() == [1]
    assert 3 * 86_400 <= death.time[0] < 4 * 86_400  # on that day, and not after the end of observation
    (tmp_path / "patients.csv").write_text("id,start,left,dead\na,2021-03-01,2021-03-03T23:00,2021-03-04\n")
    assert read_cohort(tmp_path / "c.toml", tmp_path).outcomes["death"].event.tolist() == [0]
