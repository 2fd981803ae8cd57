"""Outcomes of several states: each layout of R's mstate and msm, beside a slow plain answer."""

import random

import pytest

from gnnpatient import InputError, open_cohort, read_cohort
from gnnpatient.study.info import folder_info

HEAD = 'cohort = "c"\n[patient]\ntable = "wide.csv"\nkey = "id"\n'
OUT = (
    '[outcomes.course]\nkind = "survival"\ntable = "%s"\n'
    'states = ["well -> ill", "ill -> well", "well -> dead", "ill -> dead"]\n[outcomes.course.causes]\n'
)
EXIT = '[outcomes.course]\nexit = { table = "%s", column = "%s", pick = "last" }\n'
STATES = ("well", "ill", "dead")
DEAD = 'dead = { time = "last", flag = "died" }\n'
LAYOUTS = {
    # a row a change, as msm has it: the state from a time on
    "state and time": OUT % "wide.csv"
    + 'well = { table = "long.csv", time = "day", where = { state = "well" } }\n'
    + 'ill = { table = "long.csv", time = "day", where = { state = "ill" } }\n'
    + DEAD,
    # a row a transition that a patient is at risk of, as mstate has it
    "from and to": OUT.replace(
        'table = "%s"', 'table = "%s"\nexit = { table = "moves.csv", column = "stop", pick = "last" }'
    )
    % "wide.csv"
    + 'well = { table = "moves.csv", time = "stop", where = { to = "1", status = "1" } }\n'
    + 'ill = { table = "moves.csv", time = "stop", where = { to = "2", status = "1" } }\n'
    + 'dead = { table = "moves.csv", time = "stop", where = { to = "3", status = "1" } }\n',
    # start-stop rows, each with the state that is reached at its stop
    "start and stop": '[outcomes.course]\nkind = "survival"\ntable = "rows.csv"\n'
    'states = ["well -> ill", "ill -> well", "well -> dead", "ill -> dead"]\n'
    '[outcomes.course.status]\ncolumn = "state"\nstart = "start"\nstop = "stop"\n'
    'states = { 0 = "censored", 1 = "well", 2 = "ill", 3 = "dead" }\n',
}


def people(seed, n=30):
    """Of each: days and states of the changes (death may be the last), and the last day."""
    rng, found = random.Random(seed), []
    for _ in range(n):
        now, day, changes = 0, 0, []
        for _ in range(rng.randint(0, 4)):
            day += rng.randint(1, 12)
            now = 2 if rng.random() < 0.25 else 1 - now
            changes.append((day, now))
            if now == 2:
                break
        found.append((changes, day if now == 2 else day + rng.randint(1, 15)))
    return found


def write(folder, some):
    wide, long = ["id,last,died"], ["id,day,state"]
    moves, rows = ["id,from,to,start,stop,status"], ["id,start,stop,state"]
    for i, (changes, last) in enumerate(some):
        name, now, since = f"p{i:02}", 0, 0
        wide.append(f"{name},{last},{int(bool(changes) and changes[-1][1] == 2)}")
        for day, to in changes:
            if to < 2:
                long.append(f"{name},{day},{STATES[to]}")
            for other in {0, 1, 2} - {now}:
                moves.append(f"{name},{now + 1},{other + 1},{since},{day},{int(other == to)}")
            rows.append(f"{name},{since},{day},{to + 1}")
            now, since = to, day
        if now < 2:
            for other in {0, 1, 2} - {now}:
                moves.append(f"{name},{now + 1},{other + 1},{since},{last},0")
            rows.append(f"{name},{since},{last},0")
    for name, text in {"wide": wide, "long": long, "moves": moves, "rows": rows}.items():
        (folder / f"{name}.csv").write_text("\n".join(text) + "\n")


def plain(some, day):
    """Of each at risk on a day: the end and when, the state now, how many changes until then."""
    found = []
    for changes, last in some:
        if last <= day:
            continue
        now = ([0] + [to for when, to in changes if when <= day])[-1]
        died = bool(changes) and changes[-1][1] == 2
        found.append((int(died), last - day, now, sum(when > day for when, _ in changes)))
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("day", [0, 6, 15])
def test_every_change_is_kept(tmp_path, layout, day):
    some = people(day)
    write(tmp_path, some)
    (tmp_path / "c.toml").write_text(HEAD + LAYOUTS[layout])
    cohort = read_cohort(tmp_path / "c.toml", tmp_path)
    X = cohort.at(day).followed("course")
    assert [tuple(row) for row in X.outcome("course").tolist()] == plain(some, day)
    assert cohort.outcomes["course"].states == STATES and cohort.outcomes["course"].names == ("dead",)
    cohort.save(tmp_path / "packed")
    again = open_cohort(tmp_path / "packed")
    again.verify()
    assert (again.at(day).followed("course").outcome("course") == X.outcome("course")).all()
    told, entered = folder_info(tmp_path / "packed").outcomes["course"], [to for c, _ in some for _, to in c]
    assert [told[f"entries into {name}"] for name in STATES] == [entered.count(k) for k in range(3)]


def test_a_path_that_states_do_not_allow_is_refused(tmp_path):
    write(tmp_path, [([(3, 1), (5, 0)], 9), ([], 4)])
    spec = HEAD + LAYOUTS["state and time"].replace('"ill -> well", ', "")
    spec = spec.replace('well = { table = "long.csv", time = "day", where = { state = "well" } }\n', "")
    (tmp_path / "c.toml").write_text(spec)
    assert read_cohort(tmp_path / "c.toml", tmp_path).at(0).outcome("course")["changes"].tolist() == [1, 0]
    (tmp_path / "c.toml").write_text(spec.replace('"well -> ill", ', '"well -> x", "x -> ill", '))
    with pytest.raises(InputError, match="nothing says when 'x' is entered"):
        read_cohort(tmp_path / "c.toml", tmp_path)
    other = HEAD + LAYOUTS["state and time"].replace('"ill -> well", ', '"dead -> well", ')
    (tmp_path / "c.toml").write_text(other)
    with pytest.raises(InputError, match="every state can be left"):
        read_cohort(tmp_path / "c.toml", tmp_path)
    lacking = HEAD + LAYOUTS["state and time"].replace('"well -> dead", ', "")
    write(tmp_path, [([(3, 2)], 3), ([(2, 1)], 4)])
    (tmp_path / "c.toml").write_text(lacking)
    with pytest.raises(InputError, match=r"1 time.* goes from 'well' to 'dead', which is not among states"):
        read_cohort(tmp_path / "c.toml", tmp_path)


@pytest.mark.parametrize(
    ("states", "match"),
    [
        ('["well ill"]', "write .FROM -> TO"),
        ('["well -> well"]', "no transition"),
        ('["well -> ill", "well -> ill"]', "named twice"),
        ('["well -> ill"]', "no transition leads to the cause 'dead'"),
    ],
)
def test_states_that_say_nothing_are_refused(tmp_path, states, match):
    write(tmp_path, people(0))
    old = '["well -> ill", "ill -> well", "well -> dead", "ill -> dead"]'
    (tmp_path / "c.toml").write_text(HEAD + LAYOUTS["state and time"].replace(old, states))
    with pytest.raises(InputError, match=match):
        read_cohort(tmp_path / "c.toml", tmp_path)


def test_two_changes_at_one_moment_are_the_later_state_and_none_to_itself_counts(tmp_path):
    write(tmp_path, [([(3, 1), (8, 2)], 8)])
    with (tmp_path / "long.csv").open("a") as file:
        file.write("p00,3,well\np00,5,ill\np00,8,well\n")
    (tmp_path / "c.toml").write_text(HEAD + LAYOUTS["state and time"])
    outcome = read_cohort(tmp_path / "c.toml", tmp_path).outcomes["course"]
    assert outcome.state.tolist() == [1, 2]


def test_a_change_that_is_known_later_is_no_state_to_start_from(tmp_path):
    """A code of a stay may be signed after it: until then the patient counts as in the state before."""
    write(tmp_path, [([], 30), ([], 30)])
    (tmp_path / "long.csv").write_text("id,day,signed,state\np00,3,3,ill\np01,3,9,ill\np01,5,6,well\n")
    node = '[nodes.state]\ntable = "long.csv"\ntime = "day"\nknown = "signed"\ncode = "state"\n'
    layout = LAYOUTS["state and time"]
    for state in ("well", "ill"):
        old = f'{state} = {{ table = "long.csv", time = "day", where = {{ state = "{state}" }} }}'
        layout = layout.replace(old, f'{state} = {{ node = "state", codes = ["{state}"] }}')
    (tmp_path / "c.toml").write_text(HEAD + node + layout)
    cohort = read_cohort(tmp_path / "c.toml", tmp_path)
    cohort.save(tmp_path / "packed")
    for one in (cohort, open_cohort(tmp_path / "packed")):
        course = one.outcomes["course"]
        for day, shown, true in (
            (2, [0, 0], [0, 0]),
            (4, [1, 0], [1, 1]),
            (7, [1, 0], [1, 0]),
            (9, [1, 0], [1, 0]),
        ):
            X = one.at(day)
            assert course.shown_at(X.patient, X.at).tolist() == shown, day
            assert course.state_at(X.patient, X.at).tolist() == true, day
