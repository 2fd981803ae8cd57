"""Task files of ACES: what is read, what is refused, and labels against a slow answer in plain Python."""

import json
import re
from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnpatient.errors import InputError

MORTALITY = """
description: death in hospital, a day before it
predicates:
  admission: { code: { regex: "^HOSPITAL_ADMISSION//" } }
  discharge: { code: { regex: "^HOSPITAL_DISCHARGE//" } }
  death: { code: MEDS_DEATH }
  discharge_or_death: { expr: "or(discharge, death)" }
trigger: admission
windows:
  input:
    start: null
    end: trigger + 24h
    start_inclusive: true
    end_inclusive: true
    has:
      _ANY_EVENT: (3, None)
    index_timestamp: end
  gap:
    start: input.end
    end: start + 24h
    start_inclusive: false
    end_inclusive: true
    has:
      admission: (None, 0)
      discharge: (None, 0)
      death: (None, 0)
  target:
    start: gap.end
    end: start -> discharge_or_death
    start_inclusive: false
    end_inclusive: true
    label: death
"""
READMISSION = """
predicates:
  admission: { code: ADMIT }
  discharge: { code: LEAVE }
trigger: admission
windows:
  input:
    start: trigger
    end: start -> discharge
    start_inclusive: false
    end_inclusive: true
    index_timestamp: end
  target:
    start: input.end
    end: start + 30 days
    start_inclusive: false
    end_inclusive: true
    label: admission
"""
DAY = datetime(2020, 1, 1)


@pytest.fixture
def reads(tmp_path):
    def read(text: str):
        from gnnpatient.ingest.aces import read_task

        (tmp_path / "task.yaml").write_text(text)
        return read_task(tmp_path / "task.yaml")

    return read


def frame(*rows):
    """Rows of patient, hours after the start, code and number."""
    full = [
        (who, DAY + timedelta(hours=hour), code, *rest, *[None] * (not rest))
        for who, hour, code, *rest in rows
    ]
    kinds = {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "numeric_value": pl.Float32,
    }
    return pl.DataFrame(full, schema=kinds, orient="row")


def hours(labels):
    return [(who, (at - DAY) / timedelta(hours=1), hit) for who, at, hit in labels.iter_rows()]


def test_death_in_hospital(reads):
    from gnnpatient.ingest.aces import label

    come, leave, dead = "HOSPITAL_ADMISSION//EW", "HOSPITAL_DISCHARGE//HOME", "MEDS_DEATH"
    events = frame(
        *[(1, -9, "LAB"), (1, 0, come), (1, 5, "LAB"), (1, 90, leave), (1, 99, dead)],  # leaves first
        *[
            (2, -9, "LAB"),
            (2, 0, come),
            (2, 24, "LAB"),
            (2, 90, dead),
        ],  # an event at the end of input is in it
        *[(3, -9, "LAB"), (3, 0, come), (3, 5, "LAB"), (3, 48, dead)],  # dies in the gap
        *[(4, 0, come), (4, 5, "LAB"), (4, 25, "LAB"), (4, 90, dead)],  # two moments in the input
        *[(5, -9, "LAB"), (5, 0, come), (5, 5, "LAB"), (5, 60, "LAB")],  # never leaves
        *[(6, -9, "LAB"), (6, 0, come), (6, 5, "LAB"), (6, 90, leave), (6, 90, dead)],  # both at one moment
        *[(6, 200, come), (6, 300, leave)],  # a second stay of the same one
    )
    labels = label(reads(MORTALITY), events.sample(fraction=1, shuffle=True, seed=1))
    assert hours(labels) == [(1, 24, False), (2, 24, True), (6, 24, True), (6, 224, False)]
    assert dict(labels.schema) == {"id": pl.Int64, "at": pl.Datetime("us"), "label": pl.Boolean}


def test_readmission(reads):
    from gnnpatient.ingest.aces import label

    month = 30 * 24
    events = frame(
        *[
            (1, 0, "ADMIT"),
            (1, 50, "LEAVE"),
            (1, 50 + month, "ADMIT"),
        ],  # on the last moment; the second never ends
        *[(2, 0, "ADMIT"), (2, 50, "LEAVE"), (2, 51 + month, "ADMIT"), (2, 52 + month, "LEAVE")],
        *[(3, 0, "ADMIT"), (3, 0, "LEAVE"), (3, 9, "LEAVE"), (3, 10, "ADMIT")],  # the next one is a later one
    )
    found = hours(label(reads(READMISSION), events))
    assert found == [(1, 50, True), (2, 50, False), (2, 52 + month, False), (3, 9, True)]


def test_ids_and_times_keep_their_kind(reads):
    from gnnpatient.ingest.aces import label

    task = reads(READMISSION)
    events = frame((1, 0, "ADMIT"), (1, 50, "LEAVE"), (1, 60, "ADMIT")).with_columns(
        pl.col("subject_id").cast(pl.String),
        pl.col("time").dt.replace_time_zone("Europe/Paris").dt.cast_time_unit("ms"),
    )
    labels = label(task, events)
    assert labels.schema["id"] == pl.String
    assert labels.schema["at"] == pl.Datetime("us", "Europe/Paris")
    assert labels["at"].item() == events["time"][1]
    assert label(task, events.clear()).height == label(task, events.filter(code="LEAVE")).height == 0
    untimed = events.with_columns(time=pl.when(pl.col("code") == "LEAVE").then("time"))
    assert label(task, untimed).height == 0


def test_values_are_compared_and_a_missing_one_is_in_no_range(reads):
    from gnnpatient.ingest.aces import label

    def who(limits):
        text = f"predicates: {{ hit: {{ code: K, {limits} }} }}\ntrigger: _RECORD_START\nwindows:\n"
        sides = "start_inclusive: true, end_inclusive: true"
        text += f"  all: {{ start: trigger, end: null, {sides}, label: hit, index_timestamp: start }}"
        values = [1.0, 2.0, 3.0, None, float("nan")]
        events = frame(*[(i, 0, "K", value) for i, value in enumerate(values)], (9, 0, "L", 2.0))
        return label(reads(text), events).filter("label")["id"].to_list()

    assert who("value_min: 2") == [2]  # as in ACES, the limit itself is out unless it is said to be in
    assert who("value_min: 2, value_min_inclusive: true") == [1, 2]
    assert who("value_max: 2") == [0]
    assert who("value_min: 1, value_max: 3, value_max_inclusive: true") == [1, 2]
    assert who("value_min: null") == [0, 1, 2, 3, 4]


def test_a_point_with_neither_side_in_it_holds_nothing(reads):
    from gnnpatient.ingest.aces import label

    point = """  point:
    start: trigger
    end: start
    start_inclusive: false
    end_inclusive: SIDE
    has:
      admission: (None, 0)
  input:
"""
    events = frame((1, 0, "ADMIT"), (1, 50, "LEAVE"))
    for side in ("false", "true"):  # half open it is empty too, closed it is the moment itself
        text = READMISSION.replace("  input:\n", point.replace("SIDE", side))
        assert hours(label(reads(text), events)) == [(1, 50, False)]
    both = text.replace("end: start\n    start_inclusive: false", "end: start\n    start_inclusive: true")
    assert label(reads(both), events).height == 0


# Against a slow answer

PREDICATES = {
    "a": {"code": "A"},
    "b": {"code": {"any": ["B", "C"]}},
    "v": {"code": {"regex": "^V"}, "value_min": 1, "value_max": 3, "value_max_inclusive": True},
    "ab": {"expr": "or(a, b)"},
    "abv": {"expr": "and(ab, v)"},
}
NAMES = [*PREDICATES, "_ANY_EVENT", "_RECORD_START", "_RECORD_END"]
NAME = st.sampled_from(NAMES)
SPAN = st.integers(1, 6).map(lambda n: f"{12 * n}h")


@st.composite
def windows(draw):
    def window(start, end, **more):
        limits = st.sampled_from(["(None, 0)", "(1, None)", "(1, 2)", [None, 2]])
        has = draw(st.just({}) | st.dictionaries(NAME, limits, max_size=1))
        sides = {side: draw(st.booleans()) for side in ("start_inclusive", "end_inclusive")}
        return {"start": start, "end": end, **sides, "has": has, **more}

    span, name = draw(SPAN), draw(NAME)
    forms = [
        *[(None, f"trigger + {span}"), (None, "trigger"), ("trigger", f"start -> {name}"), ("trigger", None)],
        *[
            ("trigger", f"start + {span}"),
            (f"end - {span}", "trigger"),
            (f"end <- {name}", "trigger + 1d 12h"),
        ],
        *[(f"trigger <- {name}", "start"), (None, f"trigger -> {name}"), ("end", f"trigger - {span}")],
    ]
    drawn = {
        "input": window(
            *draw(st.sampled_from(forms)), index_timestamp=draw(st.sampled_from(["start", "end"]))
        )
    }
    before = "input.end"
    if draw(st.booleans()):
        drawn["gap"] = window(before, f"start + {draw(SPAN)}")
        before = "gap.end"
    end = draw(st.sampled_from([f"start + {draw(SPAN)}", f"start -> {draw(NAME)}", None]))
    drawn["target"] = window(before, end, label=draw(NAME))
    return {
        name: drawn[name] for name in draw(st.permutations(list(drawn)))
    }  # the order in a file is nothing


ROW = st.tuples(
    st.integers(1, 2),
    st.integers(0, 9).map(lambda n: 12 * n),
    st.sampled_from(["A", "B", "C", "V", "V2", "X"]),
    st.sampled_from([None, 1.0, 2.0, 3.0, 4.0]),
)


def slow(trigger, task, rows):
    """Each trigger by itself: sides from what they depend on, then counts row by row."""
    found = []
    for who in sorted({row[0] for row in rows}):
        mine = [row for row in rows if row[0] == who]
        times = sorted({row[1] for row in mine})

        def count(name, time, mine=mine, times=times):
            at = [(code, value) for _, hour, code, value in mine if hour == time]
            return {
                "a": lambda: sum(code == "A" for code, _ in at),
                "b": lambda: sum(code in ("B", "C") for code, _ in at),
                "v": lambda: sum(
                    code[0] == "V" and value is not None and 1 < value <= 3 for code, value in at
                ),
                "ab": lambda: int(count("a", time) + count("b", time) > 0),
                "abv": lambda: int(count("ab", time) * count("v", time) > 0),
                "_ANY_EVENT": lambda: 1,
                "_RECORD_START": lambda: int(time == times[0]),
                "_RECORD_END": lambda: int(time == times[-1]),
            }[name]()

        def side(text, known, itself, times=times, count=count):
            of, *rest = re.split(r"\s+(->|<-|\+|-)\s+", text)
            base = known[of]
            if base is None or not rest:
                return base
            sign, what = rest
            if sign in "+-":
                span = {"1d 12h": 36}.get(what) or int(what[:-1])
                return base + span if sign == "+" else base - span
            later = [t for t in times if count(what, t) and (t > base if sign == "->" else t < base)]
            later += [base] * (itself and base in times and count(what, base) > 0)
            return (min if sign == "->" else max)(later, default=None)

        for time in times:
            if not count(trigger, time):
                continue
            known, at, hit, ok = {"trigger": time}, None, None, True
            for name in sorted(task, key=["input", "gap", "target"].index):
                window = task[name]
                start = window["start"] or "end <- _RECORD_START"
                end = window["end"] or "start -> _RECORD_END"
                itself = window["start_inclusive"]
                if start.startswith("end"):
                    last = side(end, known, False)
                    first = side(start, {"end": last}, itself)
                else:
                    first = side(start, known, False)
                    last = side(end, {"start": first}, itself)
                if first is None or last is None:
                    ok = False
                    break
                known |= {f"{name}.start": first, f"{name}.end": last}
                held = [t for t in times if (first <= t if window["start_inclusive"] else first < t)]
                held = [t for t in held if (t <= last if window["end_inclusive"] else t < last)]
                total = {what: sum(count(what, t) for t in held) for what in NAMES}
                for what, limits in window["has"].items():
                    least, most = {"(None, 0)": (0, 0), "(1, None)": (1, 99), "(1, 2)": (1, 2)}.get(
                        str(limits), (0, 2)
                    )
                    ok = ok and least <= total[what] <= most
                if "label" in window:
                    hit = total[window["label"]] > 0
                if "index_timestamp" in window:
                    at = known[f"{name}.{window['index_timestamp']}"]
            if ok:
                found.append((who, at, hit))
    return sorted(found, key=lambda row: row[:2])


@settings(max_examples=300)
@given(NAME, windows(), st.lists(ROW, min_size=8, max_size=25))
def test_labels_are_those_of_a_slow_answer(tmp_path_factory, trigger, drawn, rows):
    from gnnpatient.ingest.aces import label, read_task

    path = tmp_path_factory.getbasetemp() / "task.yaml"  # JSON is YAML
    path.write_text(json.dumps({"predicates": PREDICATES, "trigger": trigger, "windows": drawn}))
    found = hours(label(read_task(path), frame(*rows)))
    assert sorted(found) == sorted(slow(trigger, drawn, rows))
    assert [row[:2] for row in found] == sorted(row[:2] for row in found)


# Reading


def test_a_task_is_plain_values(reads):
    from gnnpatient.ingest.aces import Bound, Predicate, Window

    task = reads(MORTALITY)
    assert task.trigger == "admission"
    assert task.predicates["admission"] == Predicate(regex="^HOSPITAL_ADMISSION//")
    assert task.predicates["death"] == Predicate(codes=("MEDS_DEATH",))
    assert task.predicates["discharge_or_death"] == Predicate(any_of=("discharge", "death"))
    assert list(task.windows) == ["input", "gap", "target"]
    assert task.windows["input"] == Window(
        start=Bound("end", predicate="_RECORD_START", back=True),
        end=Bound("trigger", shift=86_400.0),
        start_inclusive=True,
        end_inclusive=True,
        has={"_ANY_EVENT": (3, None)},
        index_timestamp="end",
    )
    assert task.windows["target"].end == Bound("start", predicate="discharge_or_death")


@pytest.mark.parametrize(
    ("span", "hours"),
    [
        ("24h", 24),
        ("1 day", 24),
        ("2 days, 3 hours", 51),
        ("1d12h", 36),
        ("90 m", 1.5),
        ("1.5 h", 1.5),
        ("2 weeks", 336),
    ],
)
def test_spans(reads, span, hours):
    task = reads(MORTALITY.replace("trigger + 24h", f"trigger + {span}"))
    assert task.windows["input"].end.shift == hours * 3600


WRONG = [  # what is replaced, by what, what is said
    (
        "trigger: admission",
        "trigger_event: admission",
        r"task: key 'trigger_event' is not read; did you mean 'trigger'",
    ),
    (
        "description: death",
        "patient_demographics: death",
        r"key 'patient_demographics' is not read; known: predicates",
    ),
    (
        "trigger: admission",
        "trigger: admision",
        r"trigger: there is no 'admision'; did you mean 'admission'",
    ),
    ("trigger: admission\n", "", r"trigger: this key is needed"),
    ("code: MEDS_DEATH", "code: MEDS_DEATH, static: true", r"predicates\.death: key 'static' is not read"),
    ("code: MEDS_DEATH", "code: MEDS_DEATH, unit: 3", r"predicates\.death: key 'unit' is not read"),
    ("code: MEDS_DEATH", "code: null", r"predicates\.death\.code: None; give a code in quotes"),
    ("code: MEDS_DEATH", "code: 42", r"predicates\.death\.code: 42; give a code in quotes"),
    ("code: MEDS_DEATH", "code: { any: [] }", r"predicates\.death\.code: .*any"),
    (
        "code: MEDS_DEATH",
        "code: { regex: '(' }",
        r"predicates\.death\.code\.regex: '\(' is not a regular expression",
    ),
    ("code: MEDS_DEATH", "code: D, value_min: high", r"value_min: 'high' is not a number"),
    ("code: MEDS_DEATH", "code: D, value_min: true", r"value_min: True is not a number"),
    ("code: MEDS_DEATH", "code: D, value_max: .inf", r"value_max: inf; leave it out"),
    ("code: MEDS_DEATH", "code: D, value_max_inclusive: 1", r"value_max_inclusive: 1; write true or false"),
    ("or(discharge, death)", "not(death)", r"discharge_or_death\.expr: 'not\(death\)'; write or\(a, b"),
    ("or(discharge, death)", "or(death, and(death, discharge))", r"not nested"),
    ("or(discharge, death)", "or(discharge, deth)", r"there is no 'deth'; did you mean 'death'"),
    (
        "or(discharge, death)",
        "or(discharge_or_death, death)",
        r"predicates\.discharge_or_death: depends on itself",
    ),
    ("  death: {", "  _ANY_EVENT: { code: D }\n  death: {", r"predicates\._ANY_EVENT: this name is taken"),
    ("  death: {", "  7: { code: D }\n  death: {", r"predicates: the name 7 is not text"),
    ("  death: {", "  death: { code: D }\n  death: {", r"line 7: key 'death' appears twice"),
    (
        "start: input.end",
        "start: input.ends",
        r"windows\.gap: there is no 'input\.ends'; did you mean 'input\.end'",
    ),
    ("start: input.end", "start: target.end", r"windows\.(gap|target): depends on itself"),
    ("start: input.end", "start: input.end + 2 moons", r"gap\.start: '2 moons'; must be weeks, days"),
    ("start: input.end", "start: input.end + 1 mo", r"gap\.start: '1 mo'; must be weeks, days"),
    ("trigger + 24h", "trigger + 999999 days", r"input\.end: '999999 days'; must be at most 200 years"),
    ("trigger + 24h", "trigger + 24h + 2h", r"input\.end: '24h \+ 2h'; must be"),
    (
        "trigger + 24h",
        "trigger * 2",
        r"input\.end: 'trigger \* 2'; write trigger, input\.end, start \+ 24h",
    ),
    ("trigger + 24h", "null", r"windows\.input: neither start nor end is given"),
    ("end: start + 24h", "end: input.end + 24h", r"windows\.gap: one side must depend on the trigger"),
    ("end: start + 24h", "end: start - 24h", r"windows\.gap: ends before it starts"),
    ("start -> discharge_or_death", "start <- discharge_or_death", r"windows\.target: ends before it starts"),
    ("start -> discharge_or_death", "start -> leaving", r"windows\.target: there is no 'leaving'"),
    (
        "    end_inclusive: true\n    label",
        "    label",
        r"windows\.target\.end_inclusive: this key is needed",
    ),
    (
        "end_inclusive: true\n    label",
        "end_inclusive: 'no'\n    label",
        r"end_inclusive: 'no'; write true or false",
    ),
    ("(3, None)", "3", r"input\.has\._ANY_EVENT: 3; give \(least, most\)"),
    ("(3, None)", "(3, 2)", r"_ANY_EVENT: '\(3, 2\)'; give \(least, most\)"),
    ("(3, None)", "(-1, 2)", r"_ANY_EVENT: '\(-1, 2\)'; give \(least, most\)"),
    (
        "_ANY_EVENT:",
        "_ANY_EVNT:",
        r"windows\.input: there is no '_ANY_EVNT'; did you mean '_ANY_EVENT'",
    ),
    ("index_timestamp: end", "index_timestamp: middle", r"index_timestamp: 'middle'; give start or end"),
    ("    index_timestamp: end\n", "", r"windows: 0 of them have index_timestamp; give it to one"),
    ("label: death", "label: death\n    index_timestamp: end", r"windows: 2 of them have index_timestamp"),
    ("    label: death\n", "", r"windows: 0 of them have label; give it to one, the target window"),
    ("label: death", "labels: death", r"windows\.target: key 'labels' is not read; did you mean 'label'"),
    ("label: death", "label: deth", r"windows\.target: there is no 'deth'; did you mean 'death'"),
    ("code: MEDS_DEATH", "code: &d MEDS_DEATH", r"line 6: anchors \(&\) and aliases \(\*\) are not read"),
    ("code: MEDS_DEATH", "code: *d", r"line 6: anchors \(&\) and aliases \(\*\) are not read"),
    (
        "code: MEDS_DEATH",
        "code: !!python/name:os.system x",
        r"line 6: tag 'tag:yaml\.org,2002:python/name:os\.system'",
    ),
    ("code: MEDS_DEATH", "code: [", r"not YAML: .*, line \d+"),
    ("code: MEDS_DEATH", f"code: {'[' * 20}{']' * 20}", r"line 6: more than 10 levels deep"),
    ("code: MEDS_DEATH", "code: 2021-99-99", r"not YAML: "),
    (MORTALITY, "", r"task: None; must be a table of names"),
    (MORTALITY, "- 1", r"task: \[1\]; must be a table of names"),
]


@pytest.mark.parametrize(("old", "new", "said"), WRONG)
def test_what_is_not_read_is_refused_in_one_line(reads, old, new, said):
    assert old in MORTALITY
    with pytest.raises(InputError, match=said) as caught:
        reads(MORTALITY.replace(old, new, 1))
    assert "\n" not in str(caught.value)
    assert "task.yaml: " in str(caught.value)


def test_a_bomb_of_aliases_does_not_go_off(reads):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    with pytest.raises(InputError, match=r"line 1: anchors"):
        reads("\n".join(lines))


def test_files_that_are_no_task(tmp_path):
    from gnnpatient.ingest.aces import read_task

    with pytest.raises(InputError, match=r"none\.yaml: No such file"):
        read_task(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_bytes(b"x: \xff")
    with pytest.raises(InputError, match=r"a\.yaml: not UTF-8"):
        read_task(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(InputError, match="larger than 1,000,000 bytes"):
        read_task(tmp_path / "a.yaml")


def test_events_of_another_shape_are_refused(reads):
    from gnnpatient.ingest.aces import label

    task, events = reads(READMISSION), frame((1, 0, "ADMIT"))
    with pytest.raises(InputError, match="events: no column 'subject_id'; did you mean 'subject'"):
        label(task, events.rename({"subject_id": "subject"}))
    with pytest.raises(InputError, match="events: column 'time' is Int64; give Datetime"):
        label(task, events.with_columns(pl.col("time").to_physical()))
    assert label(task, events.drop("numeric_value")).height == 0
    limited = reads(READMISSION.replace("code: LEAVE", "code: LEAVE, value_min: 1"))
    with pytest.raises(InputError, match="events: no column 'numeric_value'"):
        label(limited, events.drop("numeric_value"))


def test_on_real_stays(reads, data_dir):
    """MIMIC-IV demo: each label is what the rows of that stay say."""
    from gnnpatient.ingest.aces import label

    events = pl.scan_parquet(data_dir / "mimic-iv-demo-meds" / "data" / "*" / "*.parquet").collect()
    labels = label(reads(MORTALITY), events)
    assert labels["label"].any() and not labels["label"].all()
    day = timedelta(days=1)
    for who, at, hit in labels.iter_rows():
        mine = events.filter(pl.col("subject_id") == who, pl.col("time").is_not_null())
        leaves = mine.filter(
            pl.col("code").str.starts_with("HOSPITAL_DISCHARGE//") | (pl.col("code") == "MEDS_DEATH")
        )
        assert leaves.filter(pl.col("time").is_between(at, at + day, closed="right")).is_empty()
        last = leaves.filter(pl.col("time") > at + day)["time"].min()
        assert hit == ("MEDS_DEATH" in leaves.filter(pl.col("time") == last)["code"].to_list())
        assert mine.filter(
            pl.col("code").str.starts_with("HOSPITAL_ADMISSION//"), pl.col("time") == at - day
        ).height
