"""Events that recur: every one of a patient's is kept, from each layout, beside a slow plain answer."""

import random

import numpy as np
import pytest

from gnnpatient import InputError, open_cohort, read_cohort
from gnnpatient.study.info import folder_info

HEAD = 'cohort = "c"\n[patient]\ntable = "people.csv"\nkey = "id"\n'
OUT = '[outcomes.falls]\nkind = "survival"\ntable = "people.csv"\nrecurrent = true\n'
DEATH = 'death = { time = "last", flag = "died" }'
NODE = '[nodes.fall]\ntable = "events.csv"\ntime = "day"\ncode = "what"\n'
LAYOUTS = {
    "rows of a table": OUT
    + '[outcomes.falls.causes]\nfall = { table = "events.csv", time = "day", where = { what = "fall" } }\n'
    + f"{DEATH}\n",
    "codes of a node": NODE
    + OUT
    + f'[outcomes.falls.causes]\nfall = {{ node = "fall", codes = ["fall"] }}\n{DEATH}\n',
    "start and stop": OUT.replace("people.csv", "rows.csv")
    + '[outcomes.falls.status]\ncolumn = "state"\nstart = "start"\nstop = "stop"\n'
    + 'states = { 0 = "censored", 1 = "fall", 2 = "death" }\n',
    "columns": OUT
    + f'[outcomes.falls.causes]\nfall = [{{ time = "f1" }}, {{ time = "f2" }}, {{ time = "f3" }}]\n{DEATH}\n',
}


def people(seed, n=30):
    """Of each: days of falls (the last one may be the last day), the last day, whether dead then."""
    rng, found = random.Random(seed), []
    for _ in range(n):
        last = rng.randint(5, 40)
        falls = sorted(rng.sample(range(1, last + 1), min(last, rng.randint(0, 3))))
        found.append((falls, last, int(rng.random() < 0.5 and last not in falls)))
    return found


def write(folder, some):
    lines = ["id,last,died,f1,f2,f3"]
    events, rows = ["id,day,what"], ["id,start,stop,state"]
    for i, (falls, last, died) in enumerate(some):
        cells = [str(day) for day in falls] + [""] * (3 - len(falls))
        lines.append(f"p{i:02},{last},{died}," + ",".join(cells))
        events += [f"p{i:02},{day},fall" for day in falls] + [f"p{i:02},{last},visit"]
        start = 0
        for day in falls:
            rows.append(f"p{i:02},{start},{day},1")
            start = day
        if start < last:
            rows.append(f"p{i:02},{start},{last},{2 * died}")
    random.Random(1).shuffle(events_rows := events[1:])
    for name, text in {"people": lines, "events": [events[0], *events_rows], "rows": rows}.items():
        (folder / f"{name}.csv").write_text("\n".join(text) + "\n")


def plain(some, day):
    """Of each at risk on a day: what comes first, when, how many falls, how and when it ends."""
    found = []
    for falls, last, died in some:
        if last <= day:
            continue
        later = [fall for fall in falls if fall > day]
        first = (1, later[0] - day) if later else (2 * died, last - day)
        found.append((*first, len(later), died, last - day))
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("day", [0, 7, 20])
def test_every_event_is_kept(tmp_path, layout, day):
    some = people(day)
    write(tmp_path, some)
    (tmp_path / "c.toml").write_text(HEAD + LAYOUTS[layout])
    cohort = read_cohort(tmp_path / "c.toml", tmp_path)
    X = cohort.at(day).followed("falls")
    assert [tuple(row) for row in X.outcome("falls").tolist()] == plain(some, day)
    cohort.save(tmp_path / "packed")
    again = open_cohort(tmp_path / "packed")
    again.verify()
    assert (again.at(day).followed("falls").outcome("falls") == X.outcome("falls")).all()
    assert again.outcomes["falls"].names == ("fall", "death")


def test_two_rows_at_one_moment_are_one_event_and_one_after_the_end_none(tmp_path):
    write(tmp_path, [([3, 5], 10, 1), ([], 4, 0)])
    with (tmp_path / "events.csv").open("a") as file:
        file.write("p00,3,fall\np00,12,fall\np01,4,fall\n")
    (tmp_path / "c.toml").write_text(HEAD + LAYOUTS["rows of a table"])
    cohort = read_cohort(tmp_path / "c.toml", tmp_path)
    assert cohort.at(0).followed("falls").outcome("falls")["number"].tolist() == [2, 1]
    steps = {step["step"]: step["n"] for step in cohort.flow()}
    assert steps["fall after the end, not counted"] == 1
    assert steps["events of fall"] == 3 and steps["with fall after entry"] == 2
    cohort.save(tmp_path / "packed")
    told = folder_info(tmp_path / "packed").outcomes["falls"]
    assert told["events of fall"] == 3 and told["with fall after entry"] == 2 and told["death"] == 1


def test_a_later_event_changes_no_earlier_answer(tmp_path):
    """At risk, seen and the events so far are the same whatever comes later."""
    some = people(4)
    write(tmp_path, some)
    (tmp_path / "c.toml").write_text(HEAD + LAYOUTS["codes of a node"])
    before = read_cohort(tmp_path / "c.toml", tmp_path).at(9)
    write(tmp_path, [([f for f in falls if f <= 9], last, died) for falls, last, died in some])
    after = read_cohort(tmp_path / "c.toml", tmp_path).at(9)
    assert (before.at_risk("falls") == after.at_risk("falls")).all()
    columns = [c for c in before.to_frame().columns if c.startswith("fall")]
    assert columns and before.to_frame().select(columns).equals(after.to_frame().select(columns))


@pytest.mark.parametrize(
    ("causes", "match"),
    [
        ('fall = { time = "last" }', "needs many rows of 'fall'"),
        (
            'fall = { table = "rows.csv", start = "start", stop = "stop", flag = "state", pick = "first" }',
            "pick",
        ),
    ],
)
def test_what_cannot_recur_is_refused(tmp_path, causes, match):
    write(tmp_path, people(0))
    (tmp_path / "c.toml").write_text(HEAD + OUT + f"[outcomes.falls.causes]\n{causes}\n")
    with pytest.raises(InputError, match=match):
        read_cohort(tmp_path / "c.toml", tmp_path)


def test_an_earlier_event_may_be_an_input_a_censored_row_may_not(tmp_path):
    write(tmp_path, people(2))
    rows = OUT.replace("people.csv", "rows.csv") + (
        '[outcomes.falls.causes]\nfall = { start = "start", stop = "stop", flag = "state" }\n'
    )
    text = (tmp_path / "rows.csv").read_text().replace(",2\n", ",0\n")
    (tmp_path / "rows.csv").write_text(text)
    node = (
        '[nodes.fall]\ntable = "rows.csv"\ntime = "stop"\nwhere = { state = %s }\ncolumns = { state = "" }\n'
    )
    (tmp_path / "c.toml").write_text(HEAD + node % '"1"' + rows)
    events = read_cohort(tmp_path / "c.toml", tmp_path).events["fall"]
    assert len(events.known) == sum(len(falls) for falls, _, _ in people(2)) and (events.value == 1).all()
    (tmp_path / "c.toml").write_text(HEAD + node % '["0", "1"]' + rows)
    with pytest.raises(InputError, match="holds the answer"):
        read_cohort(tmp_path / "c.toml", tmp_path)


def test_recurrent_does_not_end_another_outcome(tmp_path):
    write(tmp_path, people(0))
    spec = NODE + LAYOUTS["rows of a table"]
    spec += '[outcomes.visit]\nkind = "diagnosis"\nnode = "fall"\ncodes = ["visit"]\nhorizon = "9d"\n'
    spec += 'gone = "falls"\n'
    (tmp_path / "c.toml").write_text(HEAD + spec)
    with pytest.raises(InputError, match="falls"):
        read_cohort(tmp_path / "c.toml", tmp_path)


def test_an_event_on_the_bare_date_of_the_end_counts(tmp_path):
    """As a single event does: of a bare date and an end on that day at a clock time the event wins."""
    (tmp_path / "people.csv").write_text(
        "id,born,last,died\n"
        + "".join(f"p0{i},2150-01-01,2150-01-09 14:00,{int(i == 0)}\n" for i in range(3))
    )
    (tmp_path / "events.csv").write_text(
        "id,day,what\np00,2150-01-09,fall\np01,2150-01-09,fall\np01,2150-01-09 14:00,fall\n"
        "p01,2150-01-05,fall\np02,2150-01-09 14:01,fall\np02,2150-01-10,fall\n"
    )
    head = HEAD.replace("[patient]\n", '[patient]\norigin = "born"\n')
    (tmp_path / "c.toml").write_text(head + LAYOUTS["rows of a table"])
    cohort = read_cohort(tmp_path / "c.toml", tmp_path)
    found = cohort.at(2).followed("falls").outcome("falls")
    assert found["number"].tolist() == [1, 2, 0]
    assert (found["time"] <= found["end"]).all()


def test_nobody_is_at_risk_after_a_row_of_the_bare_date_of_an_event(tmp_path):
    """A lab of the morning may follow the fall of that day; before it, and the day after, all is clear."""
    (tmp_path / "people.csv").write_text(
        "id,born,last,died\np00,2150-01-01,2150-01-20,0\np01,2150-01-01,2150-01-20,0\n"
    )
    (tmp_path / "events.csv").write_text("id,day,what\np00,2150-01-09,fall\np01,2150-01-09 12:00,fall\n")
    labs = [
        f"{who},2150-01-{day} {hour}:00,x"
        for who in ("p00", "p01")
        for day in ("08", "09", "10")
        for hour in (9, 11)
    ]
    (tmp_path / "labs.csv").write_text("\n".join(["id,time,code", *labs]) + "\n")
    head = HEAD.replace("[patient]\n", '[patient]\norigin = "born"\n')
    node = '[nodes.lab]\ntable = "labs.csv"\ntime = "time"\ncode = "code"\n'
    (tmp_path / "c.toml").write_text(head + node + LAYOUTS["rows of a table"])
    cohort = read_cohort(tmp_path / "c.toml", tmp_path)
    falls = cohort.outcomes["falls"]
    for day, hour, minute, free in (
        (8, 11, 0, True),
        (9, 8, 0, True),
        (9, 9, 0, True),
        (9, 9, 1, False),
        (9, 23, 0, False),
        (10, 9, 0, True),
    ):
        at = np.array([((day - 1) * 24 + hour) * 3600 + minute * 60] * 2)
        assert falls.at_risk(np.arange(2), at).tolist() == [free, True], (day, hour)
    cohort.save(tmp_path / "packed")
    assert (open_cohort(tmp_path / "packed").outcomes["falls"].retracted == falls.retracted).all()
