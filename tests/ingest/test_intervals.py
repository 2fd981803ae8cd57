"""Start-stop rows: when somebody is at risk and what ends it, beside a slow plain answer."""

import random

import numpy as np
import pytest

from gnnpatient.errors import InputError

DAY = 86_400
NEVER = -(2**63)
HEAD = 'cohort = "c"\n[patient]\ntable = "rows.csv"\nkey = "id"\n'
NODE = '[nodes.sign]\ntable = "rows.csv"\ntime = "start"\ncolumns = { x = "" }\n'
OUT = '[outcomes.end]\nkind = "survival"\ntable = "rows.csv"\n'
FLAG = OUT + 'causes = { death = { start = "start", stop = "stop", flag = "state"%s } }\n'
STATE = OUT + (
    'status = { column = "state", start = "start", stop = "stop"%s, '
    'states = { 0 = "censored", 1 = "death", 2 = "transplant" } }\n'
)
COLUMNS = "id,start,stop,state,x\n"


@pytest.fixture
def read(tmp_path):
    """A cohort of a spec and its rows, each (id, start, stop, state, x), or their text."""
    from gnnpatient import read_cohort

    def reads(spec, rows):
        text = rows if isinstance(rows, str) else "".join(",".join(map(str, row)) + "\n" for row in rows)
        (tmp_path / "rows.csv").write_text(COLUMNS + text)
        (tmp_path / "spec.toml").write_text(spec)
        return read_cohort(tmp_path / "spec.toml", tmp_path)

    return reads


def steps(cohort):
    return {step["step"]: step["n"] for step in cohort.flow()}


# ---- a slow plain answer


def made_rows(seed, states, early):
    """Patients with one to five rows, late starts and gaps; early: events before the last row, too."""
    rng, rows = random.Random(seed), []
    for i in range(25):
        at, many = rng.choice([0, 0, 0, 4]), rng.randint(1, 5)
        for k in range(many):
            stop = at + rng.randint(1, 9)
            happens = k == many - 1 or early
            rows.append((f"p{i:02}", at, stop, rng.choice(states) if happens else 0, rng.randint(0, 9)))
            at = stop + rng.choice([0, 0, 0, 3])
    rng.shuffle(rows)
    return rows


def plain(rows, pick, day):
    """Of each patient: at risk on a day; and then the event (0 = censored) and the day that end it."""
    found = []
    for name in sorted({row[0] for row in rows}):
        own = sorted(row[1:4] for row in rows if row[0] == name)
        event, when = own[-1][2], own[-1][1]
        if pick == "first":
            event, when = next(((state, stop) for _, stop, state in own if state), (0, when))
        stretches = [[own[0][0], own[0][1]]]
        for start, stop, _ in own[1:]:
            if start == stretches[-1][1]:
                stretches[-1][1] = stop
            else:
                stretches.append([start, stop])
        here = [stop for start, stop in stretches if start <= day < stop]
        risk = bool(here) and not (event and when <= day)
        ends = (event, when) if risk and event and when <= here[0] else (0, here[0] if here else None)
        found.append((risk, ends if risk else None))
    return found


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("form", "states", "pick", "early"),
    [
        (FLAG, [0, 1], None, False),
        (FLAG, [0, 1], "first", True),
        (FLAG, [0, 1], "last", True),
        (STATE, [0, 1, 2], None, False),
        (STATE, [0, 1, 2], "first", True),
    ],
)
def test_at_risk_and_the_end_are_those_of_a_plain_answer(read, seed, form, states, pick, early):
    rows = made_rows(seed, states, early)
    cohort = read(HEAD + NODE + form % (f', pick = "{pick}"' if pick else ""), rows)
    for day in range(0, 45, 3):
        X = cohort.at(day)
        risk = X.at_risk("end").tolist()
        wanted = plain(rows, pick, day)
        assert risk == [there for there, _ in wanted], day
        for i in np.flatnonzero(risk):
            event, time = X[[i]].outcome("end")[0]
            assert (event, round(time + day)) == wanted[i][1]


def test_the_first_start_is_the_entry(read):
    rows = [("a", 0, 5, 0, 1), ("a", 5, 9, 1, 2), ("b", 3, 8, 1, 1), ("c", -4, 6, 0, 1)]
    cohort = read(HEAD + NODE + FLAG % "", rows)
    assert cohort.entry.tolist() == [0, 3 * DAY, 0] and cohort.outcomes["end"].spells is None
    assert steps(cohort)["start after day 0, at risk from their first row"] == 1
    assert steps(cohort)["at risk at entry"] == 3
    (flag,) = cohort.report["decisive"]
    assert "1 of 3 patient(s) start after day 0" in flag
    given = read(HEAD.replace('key = "id"', 'key = "id"\nentry = "4d"') + NODE + FLAG % "", rows)
    assert given.entry.tolist() == [4 * DAY] * 3 and not given.report["decisive"]
    # an entry before the first row does not put anybody at risk before it
    early = read(HEAD.replace('key = "id"', 'key = "id"\nentry = "1d"') + NODE + FLAG % "", rows)
    assert early.at(2).at_risk("end").tolist() == [True, False, True]


def test_a_gap_is_not_observed(read):
    rows = [("a", 0, 5, 0, 1), ("a", 7, 9, 1, 2), ("b", 0, 9, 0, 1)]
    cohort = read(HEAD + NODE + FLAG % "", rows)
    assert [cohort.at(day).at_risk("end").tolist()[0] for day in (4, 5, 6, 7, 8, 9)] == [1, 0, 0, 1, 1, 0]
    assert steps(cohort)["at risk again after a gap"] == 1
    assert "1 of 2 patient(s) have a gap between two rows" in cohort.report["decisive"][0]


def test_dates_follow_one_another(read):
    """The next row may start on the day on which the one before stops, or on the next day."""
    spec = HEAD.replace('key = "id"', 'key = "id"\norigin = "x"') + FLAG % ""
    day = "2020-01-0{}".format
    rows = [("a", day(1), day(3), 0, day(1)), ("a", day(3), day(5), 1, day(1))]
    rows += [("b", day(1), day(3), 0, day(1)), ("b", day(4), day(5), 0, day(1))]
    rows += [("c", day(1), day(3), 0, day(1)), ("c", day(5), day(6), 1, day(1))]
    cohort = read(spec, rows)
    death = cohort.outcomes["end"]
    assert death.spells.patient.tolist() == [0, 1, 2, 2]
    assert death.spells.event.tolist() == [1, 0, 0, 1]
    assert (death.spells.time // DAY).tolist() == [4, 4, 2, 5]
    assert (death.spells.time % DAY == DAY - 1).all()  # a bare date ends with its last second


def test_who_comes_and_dies_on_one_day_is_observed(read):
    head = HEAD + 'origin = { table = "rows.csv", column = "start", pick = "first" }\n'
    rows = [(1, "2020-01-01", "2020-01-01", 1, 0), (2, "2020-01-01", "2020-01-01", 0, 0)]
    rows += [(2, "2020-01-02", "2020-01-02", 0, 0), (2, "2020-01-03", "2020-01-03", 1, 0)]
    cohort = read(head + FLAG % "", rows)
    label = cohort.outcomes["end"]
    assert label.event.tolist() == [1, 1] and label.spells is None
    np.testing.assert_allclose(label.time / DAY, [1, 3], atol=1e-3)  # the end of that day
    assert "rows with stop at or before start, left out" not in steps(cohort)


@pytest.mark.parametrize("dated", [True, False])
def test_the_earliest_row_is_so_by_its_time_wherever_it_stands(read, dated):
    origin = 'origin = { table = "rows.csv", column = "start", pick = "first" }\n' if dated else ""
    head = HEAD + 'number = ["x"]\nfirst = ["x"]\n' + origin
    days = {day: f"2020-01-{1 + day:02}" if dated else day for day in (0, 5, 9)}
    rows = [(1, days[5], days[9], 1, 7), (1, days[0], days[5], 0, 3), (2, days[0], days[9], 0, 4)]
    for these in (rows, rows[::-1]):
        assert read(head + FLAG % "", these).number[:, 0].tolist() == [3, 4]


def test_exact_repeats_are_one_row_and_their_order_is_nothing(read):
    rows = [("a", 0, 5, 0, 1), ("a", 5, 9, 1, 2), ("a", 0, 5, 0, 1), ("b", 0, 9, 0, 1)]
    for given in (rows, rows[::-1]):
        death = read(HEAD + NODE + FLAG % "", given).outcomes["end"]
        assert death.time.tolist() == [9 * DAY] * 2 and death.event.tolist() == [1, 0]


def test_rows_that_cannot_be_leave_their_patient_out(read):
    rows = [("a", 0, 5, 0, 1), ("a", 4, 9, 1, 2), ("b", 3, 3, 1, 1)]
    rows += [(name, 0, 6, 1, 1) for name in "cdef"]
    cohort = read(HEAD + NODE + FLAG % "", rows)
    assert (cohort.outcomes["end"].time == NEVER).tolist() == [True, True, False, False, False, False]
    assert steps(cohort)["rows that overlap, left out"] == 1
    assert steps(cohort)["rows with stop at or before start, left out"] == 1
    assert steps(cohort)["outcome known"] == 4 and steps(cohort)["event: death"] == 4
    assert len(cohort.report["decisive"]) == 2
    with pytest.raises(InputError, match=r"have rows that overlap, as in line 3 .* pick = \"last\" }$"):
        read(HEAD + NODE + FLAG % "", rows[:3])


def test_causes_with_their_own_flags(read):
    """Infections recur, and somebody dies: the first infection, and the death of the last row."""
    spec = (
        HEAD
        + OUT
        + (
            'causes = { infection = { start = "start", stop = "stop", flag = "state", pick = "first" }, '
            'death = { start = "start", stop = "stop", flag = "x" } }\n'
        )
    )
    rows = [("a", 0, 5, 1, 0), ("a", 5, 7, 1, 0), ("b", 0, 5, 0, 0), ("b", 5, 8, 0, 1), ("c", 0, 3, 1, 1)]
    end = read(spec, rows).outcomes["end"]
    assert end.event.tolist() == [1, 2, 1] and (end.time // DAY).tolist() == [5, 8, 3]


def test_another_table_may_say_more(tmp_path, read):
    """Who has no row is not observed; an event after the last row is not counted."""
    (tmp_path / "people.csv").write_text("id,moved\na,\nb,4\nc,3\nd,1\n")
    spec = (
        HEAD.replace("rows.csv", "people.csv")
        + NODE
        + (
            '[outcomes.end]\nkind = "survival"\ncauses = { death = { table = "rows.csv", start = "start", '
            'stop = "stop", flag = "state" }, moved = { table = "people.csv", time = "moved" } }\n'
        )
    )
    end = (cohort := read(spec, [("a", 0, 5, 1, 1), ("b", 0, 5, 1, 1), ("c", 0, 2, 0, 1)])).outcomes["end"]
    assert end.event.tolist() == [1, 2, 0, 0]
    assert [None if t == NEVER else t // DAY for t in end.time.tolist()] == [5, 4, 2, None]
    assert steps(cohort)["event after the end of observation, not counted"] == 1


# ---- the future cannot be seen


def test_neither_a_later_row_nor_the_end_of_this_one_can_be_seen(read):
    from gnnpatient import build_graphs

    rows = made_rows(7, [0, 1], False)
    spec = HEAD + NODE + FLAG % ', pick = "last"'
    X = read(spec, rows).at(6)
    seen, risk = build_graphs(X)["sign"], X.at_risk("end")
    later = [row for row in rows if row[1] <= 6]
    later += [(name, start, stop, 1, 99) for name, start, stop, _, _ in rows if start > 6]
    longer = [
        (*row[:2], max(row[2], 6) + 0.5, 1 - row[3], row[4]) if row[2] > 6 >= row[1] else row for row in rows
    ]
    longer = [row for row in longer if row[1] <= 6]
    for poisoned in (later, longer):
        X = read(spec, poisoned).at(6)
        graphs = build_graphs(X)["sign"]
        for name in ("value", "age", "code", "owner"):
            assert np.array_equal(getattr(graphs, name), getattr(seen, name), equal_nan=True), name
        assert X.at_risk("end").tolist() == risk.tolist()


# ---- refusals

RECUR = [("a", 0, 5, 1, 1), ("a", 5, 9, 0, 2), ("b", 0, 9, 1, 1)]
REPEATED = [("a", 0, 5, 1, 1), ("a", 5, 9, 1, 2), ("b", 0, 4, 0, 1), ("b", 4, 9, 0, 1)]
WRONG_ROWS = [
    (RECUR, FLAG % "", r"line 2: 1 patient\(s\) go on after a row with 'state'; .* pick = \"first\" counts"),
    (REPEATED, FLAG % "", r"'state' is the same in every row .* pick = \"last\" .* pick = \"first\"$"),
    ([("a", 0, "", 1, 1)], FLAG % "", r"line 2: 'stop' is empty; a row needs both start and stop$"),
    ([("a", 0, 5, "", 1)], FLAG % "", r"line 2: 'state' is empty; missing is not censored$"),
    ([("a", 0, "x", 1, 1)], FLAG % "", r"column 'stop', line 2: not a time; 'x' is not read"),
    ([("a", 0, 5, 3, 1)], FLAG % "", "flag '3' is not 0 or 1"),
    ([("a", 0, 5, 3, 1)], STATE % "", "state '3' is not in states"),
    (RECUR, OUT + 'causes = { d = { time = "stop", flag = "state" } }\n', "name start and stop in the cause"),
    (
        [("a", 0, 5, 1, 1), ("a", 5, 5, 0, 1)],
        OUT + 'causes = { d = { time = "x", flag = "state" } }\n',
        "name start = COLUMN and stop = COLUMN beside the flag",
    ),
    (
        RECUR,
        'category = ["x"]\n' + FLAG % "",
        r"first = \[\"x\"\] takes the earliest row; what changes is a node",
    ),
    (
        [("a", 0, 5, 0, "2020-01-01"), ("a", 5, 9, 0, "2020-01-02")],
        'origin = "x"\n' + FLAG % "",
        r"origin = { table = \"rows.csv\", column = \"x\", pick = \"first\" } takes the first$",
    ),
]


@pytest.mark.parametrize(("rows", "outcome", "message"), WRONG_ROWS)
def test_wrong_rows_are_refused_in_one_line(read, rows, outcome, message):
    with pytest.raises(InputError, match=message) as refused:
        read(HEAD + outcome, rows)
    assert "\n" not in str(refused.value)


def test_what_is_said_of_repeated_flags_is_counted(read):
    last = read(HEAD + FLAG % ', pick = "last"', REPEATED)
    assert last.outcomes["end"].time.tolist() == [9 * DAY] * 2 and not last.report["decisive"]
    (flag,) = read(HEAD + FLAG % ', pick = "last"', RECUR).report["decisive"]
    assert "1 patient(s) have events by 'state' before their last row" in flag
    (flag,) = read(HEAD + FLAG % ', pick = "first"', REPEATED).report["decisive"]
    assert "puts the event at the end of the first row" in flag
    (flag,) = read(HEAD + FLAG % ', pick = "first"', RECUR).report["flags"]
    assert "1 patient(s) go on after their first one" in flag


WRONG_SPECS = [
    ('{ start = "a", flag = "f" }', "start = COLUMN and stop = COLUMN belong together"),
    ('{ start = "a", stop = "b" }', "start and stop need flag = COLUMN"),
    ('{ start = "a", stop = "a", flag = "f" }', "both 'a'; name two columns"),
    ('{ start = "a", stop = "b", flag = "f", time = "t" }', "either start, stop and flag, or time"),
    ('{ time = "t", flag = "f", pick = "first" }', "pick belongs to start and stop"),
    ('{ start = "a", stop = "b", flag = "f", pick = "any" }', "first.*last"),
]


@pytest.mark.parametrize(("cause", "message"), WRONG_SPECS)
def test_wrong_keys_are_refused_in_one_line(read, cause, message):
    with pytest.raises(InputError, match=message) as refused:
        read(HEAD + OUT + f"causes = {{ d = {cause} }}\n", [("a", 0, 5, 1, 1)])
    assert "\n" not in str(refused.value) and "causes.d" in str(refused.value)


LEAKS = [
    (HEAD + 'number = ["stop"]\n', "", "static column 'stop' is part of outcome"),
    (HEAD + 'number = ["state"]\n', "", "static column 'state' is part of outcome"),
    (HEAD, NODE.replace("x =", "state ="), "column 'state' is part of outcome"),
    (HEAD, NODE.replace("x =", "stop ="), "column 'stop' is part of outcome"),
    (HEAD, NODE + 'where = { state = "1" }\n', "column 'state' is part of outcome"),
    (HEAD + 'where = { state = "1" }\n', NODE, "where chooses by column 'state'"),
    (HEAD + 'where = { stop = "5" }\n', NODE, "where chooses by column 'stop'"),
    (HEAD + 'entry = { table = "rows.csv", column = "stop" }\n', NODE, "entry: picks by column 'stop'"),
    (
        HEAD + 'exit = { table = "rows.csv", column = "stop", where = { state = "0" }, pick = "last" }\n',
        NODE,
        "patient.exit: picks by column 'state'",
    ),
]


@pytest.mark.parametrize("form", [FLAG, STATE])
@pytest.mark.parametrize(("head", "node", "message"), LEAKS)
def test_an_input_that_holds_the_answer_is_refused(read, head, node, message, form):
    with pytest.raises(InputError, match=message):
        read(head + node + form % "", [("a", 0, 5, 1, 1)])


def test_a_status_takes_either_form(read):
    both = STATE % ', time = "stop"'
    for outcome in (both, STATE.replace('start = "start", stop = "stop"%s, ', "")):
        with pytest.raises(InputError, match="status needs either time = COLUMN, or start and stop"):
            read(HEAD + outcome, [("a", 0, 5, 1, 1)])


def test_causes_of_one_outcome_share_their_rows(read):
    causes = (
        'causes = { a = { start = "start", stop = "stop", flag = "x" }, b = { start = "x", stop = "stop", '
    )
    with pytest.raises(InputError, match="share the table and both columns"):
        read(HEAD + OUT + causes + 'flag = "state" } }\n', [("a", 0, 5, 1, 1)])
