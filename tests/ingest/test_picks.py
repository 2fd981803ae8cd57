"""Day 0, entry and exit picked from rows; rows and cells of events that are nodes, beside plain answers."""

import random
from datetime import date, timedelta

import numpy as np
import pytest

from gnnpatient.errors import InputError

DAY = 86_400
NEVER = -(2**63)
FOREVER = 2**63 - 1
HEAD = 'cohort = "c"\n[patient]\ntable = "people.csv"\nkey = "id"\n'
LAB = '[nodes.lab]\ntable = "rows.csv"\ntime = "day"\ncode = "what"\nvalue = "x"\nwhere = { what = "lab*" }\n'
DEATH = '[outcomes.death]\nkind = "survival"\ntable = "rows.csv"\n'
DEATH += 'causes = { death = { time = "day", where = { what = "death" } } }\n'
COLUMNS = "id,day,what,x\n"
START = date(2020, 1, 1)


@pytest.fixture
def read(tmp_path):
    """A cohort of a spec and rows, each (id, day, what, x); everybody is in the table of people."""
    from gnnpatient import read_cohort

    def reads(spec, rows, people=None):
        people = people or sorted({row[0] for row in rows})
        (tmp_path / "people.csv").write_text("id\n" + "\n".join(people) + "\n")
        (tmp_path / "rows.csv").write_text(COLUMNS + "".join(",".join(map(str, r)) + "\n" for r in rows))
        (tmp_path / "spec.toml").write_text(spec)
        return read_cohort(tmp_path / "spec.toml", tmp_path)

    return reads


def steps(cohort):
    return {step["step"]: step["n"] for step in cohort.flow()}


def made_rows(seed, dated=True):
    """Labs, admissions and perhaps a death, which comes last; some have no admission."""
    rng, rows = random.Random(seed), []
    for i in range(20):
        days = sorted(rng.sample(range(300), rng.randint(2, 8)))
        for k, day in enumerate(days):
            last = k == len(days) - 1
            what = rng.choice(["lab a", "lab b", "in: ward", "in: icu", "visit", *["death"] * last])
            when = START + timedelta(day) if dated else day
            rows.append((f"p{i:02}", when, what, rng.randint(0, 9)))
    rng.shuffle(rows)
    return rows


def picked(rows, fits, pick):
    """The first or last day of those rows of each patient, None = there is none."""
    found = {}
    for name in sorted({row[0] for row in rows}):
        days = [row[1] for row in rows if row[0] == name and fits(row[2])]
        found[name] = (min if pick == "first" else max)(days) if days else None
    return found


@pytest.mark.parametrize("pick", ["first", "last"])
@pytest.mark.parametrize("form", ["table", "node"])
def test_day_zero_is_that_of_a_plain_answer(read, form, pick):
    rows = made_rows(3)
    origin = {
        "table": 'origin = { table = "rows.csv", column = "day", where = { what = "in: *" }, pick = "%s" }\n',
        "node": 'origin = { node = "stay", code = "in: *", pick = "%s" }\n',
    }[form] % pick
    stay = (
        '[nodes.stay]\ntable = "rows.csv"\ntime = "day"\ncode = "what"\nwhere = { what = ["in*", "visit"] }\n'
    )
    cohort = read(HEAD + origin + 'exit = "1y"\n' + LAB + stay + DEATH, rows)
    wanted = picked(rows, lambda what: what.startswith("in: "), pick)
    assert dict(zip(cohort.ids.tolist(), cohort.origin.tolist(), strict=True)) == {
        name: (day - date(1970, 1, 1)).days * DAY for name, day in wanted.items() if day is not None
    }
    assert steps(cohort)["with an event that gives day 0"] == sum(day is not None for day in wanted.values())
    assert cohort.report["tables"]["people.csv"]["refused"] == {"no day 0": list(wanted.values()).count(None)}
    assert any("chooses day 0 by what comes after it" in f for f in cohort.report["decisive"]) == (
        pick == "last"
    )
    # rows before day 0 are history
    labs = cohort.events["lab"]
    at = {(r[0], (r[1] - wanted[r[0]]).days + 1) for r in rows if "lab" in r[2] and wanted[r[0]] is not None}
    assert {(cohort.ids[p], -(-t // DAY)) for p, t in zip(labs.patient, labs.happened, strict=True)} == at


@pytest.mark.parametrize("dated", [True, False])
def test_entry_and_exit_are_those_of_a_plain_answer(read, dated):
    rows = made_rows(5, dated)
    origin = 'origin = { table = "rows.csv", column = "day" }\n' if dated else ""
    pick = '%s = { table = "rows.csv", column = "day", where = { what = "%s" }, pick = "%s" }\n'
    spec = HEAD + origin + pick % ("entry", "in: *", "first") + pick % ("exit", "*", "last") + LAB + DEATH
    cohort = read(spec, rows)
    first = picked(rows, lambda what: True, "first")
    enters, ends = picked(rows, lambda w: w.startswith("in: "), "first"), picked(rows, lambda w: True, "last")
    dies = picked(rows, lambda what: what == "death", "first")
    death = cohort.outcomes["death"]
    for i, name in enumerate(cohort.ids.tolist()):
        entry, end, event = (
            (d[name] - first[name]).days if dated and d[name] else d[name] for d in (enters, ends, dies)
        )
        assert cohort.entry[i] == (FOREVER if enters[name] is None else entry * DAY)
        assert death.event[i] == (dies[name] is not None)
        last = end if dies[name] is None else event
        assert death.time[i] == last * DAY + (DAY - 1) * dated
    assert steps(cohort)["with the entry event"] == sum(day is not None for day in enters.values())


def test_an_outcome_may_end_with_rows_of_its_own(read):
    rows = [("a", 1, "lab a", 3), ("a", 9, "visit", 3), ("b", 5, "visit", ""), ("b", 7, "death", "")]
    exit_ = 'exit = { table = "rows.csv", column = "day", where = { what = "visit" }, pick = "last" }\n'
    death = read(HEAD + LAB + DEATH + exit_, rows).outcomes["death"]
    assert death.event.tolist() == [0, 0] and (death.time // DAY).tolist() == [9, 5]


def test_later_rows_do_not_move_a_first_day_or_a_graph(read):
    from gnnpatient import build_graphs

    spec = HEAD + 'origin = { table = "rows.csv", column = "day", where = { what = "in: *" } }\nexit = "1y"\n'
    rows = made_rows(11)
    cohort = read(spec + LAB + DEATH, rows)
    seen = build_graphs(cohort.at(20))["lab"]
    zero = {name: picked(rows, lambda w: w.startswith("in: "), "first")[name] for name in cohort.ids.tolist()}
    poisoned = [r for r in rows if r[0] not in zero or (r[1] - zero[r[0]]).days < 20]
    poisoned += [
        (n, z + timedelta(25 + k), w, 1e9)
        for n, z in zero.items()
        for k, w in enumerate(["lab a", "in: icu"])
    ]
    again = read(spec + LAB + DEATH, poisoned)
    assert again.origin.tolist() == cohort.origin.tolist()
    graphs = build_graphs(again.at(20))["lab"]
    for name in ("value", "age", "code", "owner"):
        assert np.array_equal(getattr(graphs, name), getattr(seen, name), equal_nan=True), name


ROWS = [("a", "2020-01-01", "in: ward", 1), ("a", "2020-02-01", "lab a", 2), ("a", "2020-03-01", "death", "")]
PICK = '{ table = "rows.csv", column = "day" %s}'
WRONG = [
    ('origin = { table = "rows.csv" }', "table = FILE and column = COLUMN belong together"),
    ('origin = { table = "rows.csv", column = "day", code = "x" }', "either code .* or table and column"),
    ('origin = { code = "x", node = "lab", where = { what = "x" } }', "where belongs to table and column"),
    ('origin = { pick = "last" }', "a pick needs code = PATTERN, or table = FILE and column = COLUMN"),
    ('origin = { tabel = "rows.csv" }', "patient.origin: unknown key 'tabel'; did you mean 'table'"),
    ('origin = { code = "in*" }', "code needs node = NAME.*or pick from a table"),
    (
        'origin = { node = "wide", code = "x" }',
        "nodes.wide has no table with a column time",
    ),
    ("entry = " + PICK % ', pick = "last"', "would let a later event remove a patient"),
    (
        "origin = " + PICK % ', where = { what = "death" }',
        "origin: picks the events of outcome 'death' themselves",
    ),
    (
        "entry = " + PICK % ', where = { what = ["death"] }',
        "entry: picks the events of outcome 'death' themselves",
    ),
    (
        "origin = " + PICK % ', where = { what = "out" }',
        "no patient has an event that fits column day of rows.csv",
    ),
    (
        'origin = { table = "rows.csv", column = "x" }',
        "column 'x', line 2: not a date; day 0 needs one; '1' is",
    ),
    (f'origin = {PICK % ""}\nexit = {{ table = "rows.csv", column = "wat" }}', "'wat'; did you mean 'what'"),
]


@pytest.mark.parametrize(("line", "message"), WRONG)
def test_wrong_picks_are_refused_in_one_line(read, line, message):
    wide = '[nodes.wide]\ntable = "rows.csv"\ntime = "day"\ncolumns = { x = "" }\n'
    with pytest.raises(InputError, match=message) as refused:
        read(HEAD + line + "\n" + LAB + wide + DEATH, ROWS)
    assert "\n" not in str(refused.value)


def test_day_zero_is_not_the_event_of_an_outcome_by_its_node(read):
    event = '[nodes.event]\ntable = "rows.csv"\ntime = "day"\ncode = "what"\n'
    death = '[outcomes.death]\nkind = "survival"\ncauses = { death = { node = "event", codes = ["dea*"] } }\n'
    with pytest.raises(InputError, match="origin: picks the events of outcome 'death' themselves"):
        read(HEAD + 'origin = { node = "event", code = "death" }\nexit = "1y"\n' + event + death, ROWS)
    with pytest.raises(InputError, match="origin: picks the events of outcome 'death' themselves"):
        read(HEAD + 'origin = { node = "event", code = "death" }\nexit = "1y"\n' + event + DEATH, ROWS)


# ---- rows of transitions: from, to, start, stop, happened

MOVES = "id,from,to,begun,ended,moved,age\n"
STATES = (
    'cohort = "c"\n[patient]\ntable = "moves.csv"\nkey = "id"\nnumber = ["age"]\nknown = "0d"\n'
    'exit = { table = "moves.csv", column = "ended", pick = "last" }\n'
    '[nodes.state]\ntable = "moves.csv"\ntime = "%s"\ncode = "to"\n%s'
    '[outcomes.death]\nkind = "survival"\ntable = "moves.csv"\n'
    'causes = { death = { time = "ended", where = { to = "3", moved = "1" } } }\n'
)
ENTERED = STATES % ("ended", 'where = { moved = "1" }\n')


def moves(seed, after=None):
    """From healthy (1) over relapse (2) or at once to death (3); after = a day from which all is poisoned."""
    rng, rows = random.Random(seed), []
    for i in range(30):
        name, age = f"p{i:02}", rng.randint(20, 90)
        relapse, death, end, later = (rng.randint(1, 90) for _ in range(4))
        dies = rng.randint(0, 1)
        if after is not None:
            relapse, death, end = (day if day <= after else after + 1 for day in (relapse, death, end))
            later = later if relapse + later <= after else max(after + 1 - relapse, 1)
        first = min(relapse, death, end)
        rows.append((name, 1, 2, 0, first, int(relapse == first), age))
        rows.append((name, 1, 3, 0, first, int(death == first < relapse), age))
        if relapse == first:
            rows.append((name, 2, 3, first, first + later, dies, age))
    return rows


@pytest.fixture
def transitions(tmp_path):
    from gnnpatient import read_cohort

    def reads(spec, rows):
        (tmp_path / "moves.csv").write_text(MOVES + "".join(",".join(map(str, r)) + "\n" for r in rows))
        (tmp_path / "spec.toml").write_text(spec)
        return read_cohort(tmp_path / "spec.toml", tmp_path)

    return reads


def test_transitions_end_and_show_what_a_plain_answer_does(transitions):
    rows = moves(1)
    cohort = transitions(ENTERED, rows)
    death, state = cohort.outcomes["death"], cohort.events["state"]
    for i, name in enumerate(cohort.ids.tolist()):
        own = [row for row in rows if row[0] == name]
        died = [row[4] for row in own if row[2] == 3 and row[5]]
        assert (death.event[i], death.time[i] // DAY) == (
            len(died),
            died[0] if died else max(r[4] for r in own),
        )
        shown = state.happened[state.patient == i] // DAY
        assert sorted(shown.tolist()) == sorted(row[4] for row in own if row[5])
    assert 0 < death.event.sum() < len(cohort)


@pytest.mark.parametrize(("where", "tied"), [("", 30), (', moved = "1"', 0)])
def test_two_causes_at_one_moment_in_many_are_flagged(transitions, where, tied):
    cause = '{ time = "ended", where = { to = "%s"' + where + " } }"
    spec = ENTERED.partition("causes = ")[0] + f"causes = {{ relapse = {cause % 2}, death = {cause % 3} }}\n"
    flags = transitions(spec, moves(1)).report["decisive"]
    said = [flag for flag in flags if "'death' at the moment of 'relapse', which counts" in flag]
    assert [int(flag.split()[2]) for flag in said] == [tied] * bool(tied)


def test_states_to_come_cannot_be_seen(transitions):
    from gnnpatient import build_graphs

    X = transitions(ENTERED, moves(2)).at(30)
    Z = transitions(ENTERED, moves(2, after=30)).at(30)
    assert X.cohort.outcomes["death"].time.tolist() != Z.cohort.outcomes["death"].time.tolist()
    assert X.at_risk("death").tolist() == Z.at_risk("death").tolist()
    one, other = build_graphs(X)["state"], build_graphs(Z)["state"]
    names = [[X.cohort.codes["state"][c] for c in one.code], [Z.cohort.codes["state"][c] for c in other.code]]
    assert names[0] == names[1] and len(names[0]) > 5
    for name in ("age", "owner"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize(
    ("time", "more", "column"),
    [
        ("begun", 'where = { moved = "1" }\n', "moved"),
        ("begun", 'value = "ended"\n', "ended"),
        ("begun", 'value = "moved"\n', "moved"),
        ("begun", "", "to"),
    ],
)
def test_a_row_before_its_event_does_not_show_it(transitions, time, more, column):
    message = f"nodes.state: column '{column}' is part of outcome 'death', whose rows are known at 'ended'"
    with pytest.raises(InputError, match=message):
        transitions(STATES % (time, more), moves(1))


# ---- one row a patient: each event its time and its flag

PAIRS = "id,rec,rec.s,recov,recov.s,last,dead\na,9,0,3,1,9,1\nb,4,1,8,0,8,0\nc,5,1,2,1,7,1\n"
PAIRED = (
    'cohort = "c"\n[patient]\ntable = "wide.csv"\nkey = "id"\n'
    '[nodes.recovery]\ntable = "wide.csv"\ntime = "%s"\ncolumns = { "recov.s" = "" }\n%s'
    '[outcomes.relapse]\nkind = "survival"\ntable = "wide.csv"\n'
    'causes = { relapse = { time = "rec", flag = "rec.s" }, death = { time = "last", flag = "dead" } }\n'
)
RECOVERY = '[outcomes.recovery]\nkind = "survival"\ntable = "wide.csv"\n'
RECOVERY += 'causes = { recovery = { time = "recov", flag = "recov.s" } }\n'
HAPPENED = ("recov", 'where = { "recov.s" = "1" }\n')


@pytest.mark.parametrize("more", ["", RECOVERY])
def test_an_event_of_a_wide_row_is_seen_from_its_own_time_on(tmp_path, more):
    from gnnpatient import build_graphs, read_cohort

    (tmp_path / "wide.csv").write_text(PAIRS)
    (tmp_path / "spec.toml").write_text(PAIRED % HAPPENED + more)
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    seen = [np.diff(build_graphs(cohort.at(day))["recovery"].ptr).tolist() for day in (1, 2, 3, 8)]
    assert seen == [[0, 0, 0], [0, 0, 1], [1, 0, 1], [1, 0, 1]]
    relapse = cohort.outcomes["relapse"]
    assert relapse.event.tolist() == [2, 1, 1] and (relapse.time // DAY).tolist() == [9, 4, 5]


@pytest.mark.parametrize(
    ("time", "where"),
    [("last", HAPPENED[1]), ("recov", ""), ("recov", 'where = { "recov.s" = ["0", "1"] }\n')],
)
def test_the_flag_of_an_outcome_is_no_other_input(tmp_path, time, where):
    from gnnpatient import read_cohort

    (tmp_path / "wide.csv").write_text(PAIRS)
    (tmp_path / "spec.toml").write_text(PAIRED % (time, where) + RECOVERY)
    message = "'recov.s' is part of outcome 'recovery'.*from its own time on: time = \"recov\", where = "
    with pytest.raises(InputError, match=message):
        read_cohort(tmp_path / "spec.toml", tmp_path)


def test_a_flag_of_two_times_is_no_input(tmp_path):
    """It may say of the later one what is not known at the earlier."""
    from gnnpatient import read_spec

    both = RECOVERY.replace(" } }", ' }, death = { time = "last", flag = "recov.s" } }')
    (tmp_path / "spec.toml").write_text(PAIRED % HAPPENED + both)
    with pytest.raises(InputError, match=r"'recov\.s' is part of outcome 'recovery'"):
        read_spec(tmp_path / "spec.toml")
