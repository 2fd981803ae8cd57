"""Laws of outcomes: what the tables say came of each patient, and who may be asked, as slow plain answers."""

import csv
import random
from collections import namedtuple
from math import inf, isnan, nan
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnpatient.errors import InputError
from gnnpatient.times import NEVER

DAY = 86_400
PATIENTS = ("a", "b", "c", "d")
ASKED = (-0.25, 0.0, 0.5, 1.0, 2.0, 3.25, 5.0)  # days
SPEC = """
cohort = "drawn"
[patient]
table = "patients.csv"
key = "pid"
entry = "came"
{exit}
[nodes.dx]
table = "dx.csv"
time = "happened"
known = "known"
code = "code"
row = "row"
amends = "amends"
[nodes.lab]
table = "lab.csv"
time = "happened"
known = "known"
code = "code"
value = "value"
row = "row"
amends = "amends"
"""
FILES = {
    "patients": ("pid", "came", "last", "end", "died", "tx"),
    "dx": ("pid", "happened", "known", "code", "row", "amends"),
    "lab": ("pid", "happened", "known", "code", "value", "row", "amends"),
    "visits": ("pid", "day", "type"),
    "labels": ("pid", "label", "seen"),
}
CODES = ("R1", "R2", "H9", "X0", "Z")

patient = st.sampled_from(["a", "a", "b", "c", "d"])
day = st.integers(0, 12).map(lambda n: n / 2)
maybe = st.one_of(st.just(""), day.map(str))
lag = st.sampled_from([0.0, 0.0, 0.5, 2.0])
amended = st.sampled_from([None, None, None, 0, 1, 2, 99])
value = st.sampled_from(["", "0", "-1", "1", "1.1", "1.3", "1.5", "2", "3.3"])
events = st.tuples(patient, st.integers(-2, 12).map(lambda n: n / 2), lag, st.sampled_from(CODES), amended)
labs = st.tuples(patient, day, lag, st.sampled_from(["k", "K [1/l]", "na"]), value, amended)
someone = st.tuples(st.sampled_from(["", "0", "0.5", "2"]), maybe, day.map(str), st.sampled_from("01"), maybe)
tables = st.fixed_dictionaries(
    {
        "patients": st.tuples(*[someone] * 4).map(
            lambda rows: [(p, *row) for p, row in zip(PATIENTS, rows, strict=True)]
        ),
        "dx": st.lists(events, max_size=9).map(lambda drawn: amendments(drawn)),
        "lab": st.lists(labs, min_size=3, max_size=14).map(lambda drawn: amendments(drawn)),
        "visits": st.lists(
            st.tuples(patient, maybe, st.sampled_from(["relapse", "relapse late", "check"])), max_size=5
        ),
        "labels": st.tuples(*[st.tuples(st.sampled_from(["Y", "N", "U", ""]), day.map(str))] * 4).map(
            lambda rows: [(p, *row) for p, row in zip(PATIENTS, rows, strict=True)]
        ),
    }
)
Row = namedtuple("Row", "patient happened known code value replaced")  # seconds


def seconds(text: object) -> int:
    return round(float(text) * DAY)


def amendments(drawn: list[tuple]) -> list[tuple[str, ...]]:
    """Rows with known times and ids; some take the place of another row of the patient, or of none."""
    out = []
    for i, (who, happened, wait, *rest, nth) in enumerate(drawn):
        others = [f"r{j}" for j, row in enumerate(drawn) if row[0] == who and j != i]
        amends = "" if nth is None else others[nth] if nth < len(others) else "lost"
        out.append((who, str(happened), str(happened + wait), *rest, f"r{i}", amends))
    return out


def hiding(rows: dict) -> dict:
    """The same with a row of each code that is hidden: a `hide` that fits nothing is refused."""
    dx = [*rows["dx"], ("a", "0", "0", "H9", "sure", "")]
    return {**rows, "dx": dx, "lab": [*rows["lab"], ("a", "0", "0", "na", "", "sure", "")]}


def read(tables: dict, outcomes: str, exit: str = ""):
    from gnnpatient import read_cohort

    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "spec.toml").write_text(SPEC.format(exit=exit) + outcomes)
        for name, header in FILES.items():
            with open(place / f"{name}.csv", "w", newline="") as handle:
                # a stranger, so that no file is without a row
                stranger = [("nobody", *("0" for _ in header[1:]))]
                csv.writer(handle).writerows(
                    [header, *tables[name], *(stranger if name != "patients" else ())]
                )
        return read_cohort(place / "spec.toml", place)


def facts(rows: list[tuple[str, ...]]) -> list[Row]:
    """Rows of dx or lab, each once, with the moment from which an amendment stands in its place."""
    out: dict[tuple, float] = {}
    for row in rows:
        who, happened, known, code, *value, row_id, _ = row
        if ringed(rows, row):
            continue  # refused
        news = [seconds(other[2]) for other in rows if other[0] == who and other[-1] == row_id]
        gone = max(min(news), seconds(known)) if news else inf
        key = (who, seconds(happened), seconds(known), code, *value)
        out[key] = max(gone, out.get(key, 0))
    number = lambda key: float(key[4]) if len(key) > 4 and key[4] else nan  # noqa: E731
    return [Row(*key[:4], number(key), gone) for key, gone in out.items()]


def ringed(rows: list[tuple[str, ...]], row: tuple[str, ...]) -> bool:
    """Whether a row is refused, as it comes in a ring of amendments and was amended when it became known."""
    news = [seconds(other[2]) for other in rows if other[0] == row[0] and other[-1] == row[-2]]
    known = seconds(row[2])
    return bool(news) and max(min(news), known) <= known and known >= ring(rows, row)


def ring(rows: list[tuple[str, ...]], row: tuple[str, ...]) -> float:
    """When the ring of rows that amend each other was closed, inf = the row is in none."""
    by_id, on = {other[-2]: other for other in rows if other[0] == row[0]}, [row]
    while (after := by_id.get(on[-1][-1])) is not None and after not in on:
        on.append(after)
    return max(seconds(other[2]) for other in on) if after == row else inf


def spells(rows: list[tuple[str, ...]], who: str, starts: str) -> list[tuple[int, float]]:
    """From when to when each row of dx with such a code stood, for this patient; inf = for good."""
    out = []
    for patient, _, known, code, row_id, _ in rows:
        news = [seconds(other[2]) for other in rows if other[0] == who and other[-1] == row_id]
        gone = max(min(news), seconds(known)) if news else inf
        if patient == who and code[0] in starts and seconds(known) < gone:
            out.append((seconds(known), gone))
    return out


def lasting(spans: list[tuple[int, float]]) -> float:
    """Since when one is known that stands for good, or that such a one took the place of; inf = never."""
    good = {known for known, gone in spans if gone == inf}
    while more := {known for known, gone in spans if gone in good} - good:
        good |= more
    return min(good, default=inf)


def stood(spans: list[tuple[int, float]], at: int) -> bool:
    """Whether one stood then that was amended or taken back later."""
    return any(known <= at < gone < inf for known, gone in spans)


def entry(tables, who: str) -> int:
    came = next(row[1] for row in tables["patients"] if row[0] == who)
    return seconds(came or 0)


def all_landmarks(cohort, **more):
    return cohort.landmarks(list(PATIENTS), ASKED, **more)


# ---- survival

COLUMNS = """
[outcomes.event]
kind = "survival"
table = "patients.csv"
causes = { transplant = { time = "tx" }, death = { time = "end", flag = "died" } }
"""
PARTS = """
[outcomes.event]
kind = "survival"
table = "patients.csv"
causes.relapse = [
  { table = "visits.csv", time = "day", where = { type = ["relapse*"] } },
  { node = "dx", codes = ["R*"] },
]
causes.transplant = { time = "tx" }
causes.death = { time = "end", flag = "died" }
"""
EXITS = {  # of the patient: what the spec says
    "none": "",
    "column": 'exit = "last"',
    "duration": 'exit = "84h"',
    "pick first": 'exit = { node = "dx", code = "X*", pick = "first" }',
    "pick last": 'exit = { node = "dx", code = ["X*", "Z"], pick = "last" }',
}


def end_of_observation(tables, who: str, form: str) -> int | None:
    """When the patient's exit is, None = not given."""
    last = next(row[2] for row in tables["patients"] if row[0] == who)
    if form == "column":
        return seconds(last) if last else None
    if form == "duration":
        return 84 * 3600
    if form.startswith("pick"):
        wanted = "X" if form == "pick first" else "XZ"
        rows = [
            r for r in facts(tables["dx"]) if r.patient == who and r.code[0] in wanted and r.replaced == inf
        ]
        pick = min if form == "pick first" else max
        return pick((r.happened for r in rows), default=None)
    return None


def survival(tables, who: str, form: str, parts: bool) -> tuple[int, int]:
    """Event (0 censored, k = k-th cause) and second, of one patient; NEVER: an event at an unknown time."""
    _, _, _, end, died, tx = next(row for row in tables["patients"] if row[0] == who)
    causes: list[list[int]] = [[]] if parts else []
    if parts:
        visits = [row for row in tables["visits"] if row[0] == who and row[2].startswith("relapse")]
        causes[0] += [seconds(row[1]) for row in visits if row[1]]
        rows = [row for row in facts(tables["dx"]) if row.patient == who and row.code[0] == "R"]
        causes[0] += [row.happened for row in rows if row.replaced == inf]
    causes += [[seconds(tx)] if tx else [], [seconds(end)] if died == "1" else []]
    found = [(min(times), k) for k, times in enumerate(causes, 1) if times]  # of a tie the first named
    time, event = min(found, default=(inf, 0))
    out = end_of_observation(tables, who, form)
    last = min(inf if out is None else out, seconds(end) if died == "0" else inf)  # of two ends the earlier
    if event and time <= last:
        return event, time
    undated = parts and any(not row[1] for row in visits)  # left out, as nobody knows when it was
    return 0, NEVER if undated else last


@settings(max_examples=15)
@given(tables, st.sampled_from(list(EXITS)), st.booleans(), st.booleans())
def test_survival(rows, form, parts, own):
    """Columns, lists of parts, rows of an event table, codes; every form of exit, of patient or outcome."""
    exit, outcome = EXITS[form], PARTS if parts else COLUMNS
    if not parts:  # a column gives no time before day 0, nor does an exit there end it
        rows = rows | {"dx": [row for row in rows["dx"] if float(row[1]) >= 0]}
    cohort = read(rows, outcome + exit if own else outcome, "" if own else exit)
    held, X = cohort.outcomes["event"], all_landmarks(cohort)
    assert held.causes == (("relapse",) if parts else ()) + ("transplant", "death")
    truth = [survival(rows, who, form, parts) for who in cohort.ids]
    assert list(zip(held.event.tolist(), held.time.tolist(), strict=True)) == truth
    risk = X.at_risk("event")
    for i, (who, at) in enumerate(zip(X.ids, X.at.tolist(), strict=True)):
        event, time = truth[PATIENTS.index(who)]
        held_for_failed = parts and stood(spells(rows["dx"], who, "R"), at)
        assert risk[i] == (entry(rows, who) <= at < time and not held_for_failed)
        if risk[i]:
            (found,) = X[i].outcome("event")
            assert found["event"] == event and found["time"] == pytest.approx((time - at) / DAY)
            assert found["time"] > 0
    steps = {step["step"]: step["n"] for step in cohort.flow()}
    early = [
        (event, time)
        for who, (event, time) in zip(PATIENTS, truth, strict=True)
        if NEVER != time <= entry(rows, who)
    ]
    assert steps.get("event at or before entry (prevalent)", 0) == sum(event > 0 for event, _ in early)
    assert steps.get("observation ends at or before entry", 0) == sum(event == 0 for event, _ in early)
    known = sum(time != NEVER for _, time in truth)
    assert steps["at risk at entry"] == known - len(early)


# ---- diagnosis


def diagnosis_in_table(gap: str) -> str:
    return f"""
[outcomes.sick]
kind = "diagnosis"
table = "labels.csv"
column = "label"
known = "seen"
classes = {{ N = "no", Y = "yes" }}
gap = "{gap}"
hide = ["H*"]
"""


@settings(max_examples=10)
@given(tables, st.sampled_from(["0d", "12h", "1d"]), st.sampled_from(["none", "column"]))
def test_diagnosis_in_a_table(rows, gap, form):
    rows = hiding(rows)
    cohort = read(rows, diagnosis_in_table(gap), EXITS[form])
    X = all_landmarks(cohort)
    risk, ahead = X.at_risk("sick"), {"0d": 0, "12h": DAY // 2, "1d": DAY}[gap]
    for i, (who, at) in enumerate(zip(X.ids, X.at.tolist(), strict=True)):
        _, word, seen = next(row for row in rows["labels"] if row[0] == who)
        end = end_of_observation(rows, who, form)
        open_ = entry(rows, who) <= at < (inf if end is None else end)
        left = seconds(seen) - at
        early = left > 0 if ahead == 0 else left >= ahead
        assert risk[i] == (open_ and early and word in ("Y", "N"))  # other words: not looked for
        if risk[i]:
            (found,) = X[i].outcome("sick")
            assert found["label"] == ("N", "Y").index(word)
            assert found["time"] == pytest.approx(left / DAY)
    check_hidden(cohort, rows, ("H",))


def diagnosis_by_codes(gap: str, horizon: str) -> str:
    return f"""
[outcomes.sick]
kind = "diagnosis"
node = "dx"
codes = ["R*"]
horizon = "{horizon}"
gap = "{gap}"
hide = ["H*", "na"]
"""


@settings(max_examples=10)
@given(tables, st.sampled_from(["0d", "1d"]), st.sampled_from([1, 2.5]))
def test_diagnosis_by_codes(rows, gap, horizon):
    """Yes: a code is known within the horizon. No: observed up to it without one. Else not looked for."""
    rows = hiding(rows)
    cohort = read(rows, diagnosis_by_codes(gap, f"{horizon}d"), EXITS["column"])
    X, ahead, asked = all_landmarks(cohort), int(gap[0]) * DAY, set()
    risk = X.at_risk("sick")
    for i, (who, at) in enumerate(zip(X.ids, X.at.tolist(), strict=True)):
        spans = spells(rows["dx"], who, "R")
        known = lasting(spans)  # one that was taken back for good was never there
        end = end_of_observation(rows, who, "column")
        end = inf if end is None else end
        early = known > at if ahead == 0 else known - at >= ahead
        assert risk[i] == (entry(rows, who) <= at < end and early and not stood(spans, at))
        if risk[i]:
            (found,) = X[i].outcome("sick")
            until = at + seconds(horizon)
            assert found["label"] == (1 if known <= min(until, end) else 0 if end >= until else -1)
            assert np.isnan(found["time"]) if known == inf else found["time"] == (known - at) / DAY
            asked.add(int(found["label"]))
    assert asked <= {-1, 0, 1}
    check_hidden(cohort, rows, ("R", "H"), lab=("na",))


def check_hidden(cohort, rows, dx: tuple[str, ...], lab: tuple[str, ...] = ()) -> None:
    """Codes that give the label away never become nodes, and are counted; all others do."""
    from gnnpatient import build_graphs

    everything = build_graphs(cohort.at(99))
    for kind, starts in (("dx", dx), ("lab", lab)):
        kept = {row for row in facts(rows[kind]) if not row.code.startswith(starts or ("never",))}
        names = [cohort.codes[kind][code] for code in cohort.events[kind].code]
        assert sorted(names) == sorted(row.code for row in kept)
        assert len(everything[kind]) == sum(row.replaced > 99 * DAY for row in kept)
        refused = cohort.report["tables"][f"{kind}.csv"]["refused"]
        hidden = [
            row
            for row in rows[kind]
            if row[3].startswith(starts or ("never",)) and not ringed(rows[kind], row)
        ]
        assert refused.get("hidden: gives sick away", 0) == len(hidden)


def test_a_label_without_anything_to_hide_hides_nothing():
    rows = {
        "patients": [(p, "", "9", "9", "0", "") for p in PATIENTS],
        "dx": [("a", "1", "1", "R1", "r0", ""), ("a", "1", "1", "Z", "r1", "")],
        "lab": [("a", "1", "1", "k", "1", "r0", "")],
        "visits": [],
        "labels": [(p, "1", "5") for p in PATIENTS],
    }
    plain = '[outcomes.sick]\nkind = "diagnosis"\ntable = "labels.csv"\ncolumn = "label"\nknown = "seen"\n'
    codes = '[outcomes.sick]\nkind = "diagnosis"\nnode = "dx"\ncodes = ["R*"]\nhorizon = "2d"\n'
    cohort = read(rows, plain)
    assert (len(cohort.events["dx"]), len(cohort.events["lab"])) == (2, 1)
    cohort = read(rows, codes, EXITS["column"])
    assert (len(cohort.events["dx"]), len(cohort.events["lab"])) == (1, 1)


def test_hidden_codes_have_no_ancestors_and_hidden_ancestors_are_none():
    """An ancestor would give the label away as its code does; the nodes below a hidden ancestor stay."""
    from gnnpatient import build_graphs

    rows = {
        "patients": [(p, "", "9", "9", "0", "") for p in PATIENTS],
        "dx": [("a", "1", "1", code, f"r{i}", "") for i, code in enumerate(("C341", "I210", "I251"))],
        "lab": [],
        "visits": [],
        "labels": [(p, "1", "5") for p in PATIENTS],
    }
    spec = """
[nodes.group]
of = "dx"
hierarchy = "icd"
[hierarchies.icd]
prefix = "ICD10"
[outcomes.sick]
kind = "diagnosis"
table = "labels.csv"
column = "label"
known = "seen"
hide = ["{hidden}"]
"""
    for hidden, codes, groups, joined in (
        ("I21*", {"C341", "I251"}, {"C34", "I25"}, 2),
        ("I21", {"C341", "I210", "I251"}, {"C34", "I25"}, 2),  # the ancestor alone
        ("*", set(), set(), 0),
    ):
        cohort = read(rows, spec.format(hidden=hidden))
        graphs = build_graphs(cohort.at(2, patient="a"))
        assert {cohort.codes["dx"][code] for code in graphs["dx"].code} == codes
        assert {cohort.codes["group"][code] for code in graphs["group"].code} == groups
        assert graphs.edges["dx", "is_a", "group"].shape[1] == joined
    with pytest.raises(InputError, match="'nothing' fits no code of any node type and hides nothing"):
        read(rows, spec.format(hidden="nothing"))


# ---- progression

GONE = PARTS.replace("outcomes.event", "outcomes.gone")
RULES = {  # what is worse: how the spec says it, and whether a value is, after that one
    "times": ("times = 1.5", lambda v, base: v >= 1.5 * base - 1e-5),
    "fewer": ("times = 0.5", lambda v, base: v <= 0.5 * base + 1e-5),
    "plus": ("plus = 0.2", lambda v, base: v >= base + 0.2 - 1e-5),
    "minus": ("plus = -2", lambda v, base: v <= base - 2 + 1e-5),
    "reaches": ("reaches = 1.3", lambda v, base: v >= 1.3 - 1e-5),
}


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else nan


def baseline(rows: list[Row], who: str, at: int) -> float:
    """Of the rows that stand at the landmark the latest value; the mean where several are of one moment."""
    known = [r for r in rows if r.patient == who and r.known <= at < r.replaced and not isnan(r.value)]
    latest = max((r.happened for r in known), default=0)
    return mean([r.value for r in known if r.happened == latest])


def visits(rows: list[Row], who: str, at: int, end: float) -> list[tuple[int, float]]:
    """Values after the landmark and before the end, with seconds after it, in their amended form."""
    mine = [r for r in rows if r.patient == who and at < r.happened <= end and r.replaced == inf]
    return sorted((r.happened - at, r.value) for r in mine if not isnan(r.value))


def followed(rows) -> list[Row]:
    return [row for row in facts(rows["lab"]) if row.code in ("k", "K [1/l]")]


@settings(max_examples=15)
@given(tables, st.sampled_from(list(RULES)), st.booleans(), st.sampled_from([1, 3]))
def test_time_until_worse(rows, name, gone, horizon):
    said, worse = RULES[name]
    outcome = f"""
[outcomes.value]
kind = "progression"
node = "lab"
codes = ["k", "K [1/l]"]
worse = {{ {said} }}
horizon = "{horizon}d"
{'gone = "gone"' if gone else ""}
"""
    cohort = read(rows, GONE + outcome, EXITS["column"])
    X, labs = all_landmarks(cohort), followed(rows)
    risk = X.at_risk("value")
    assert cohort.outcomes["value"].causes == ("worse", *(("relapse", "transplant", "death") if gone else ()))
    for i, (who, at) in enumerate(zip(X.ids, X.at.tolist(), strict=True)):
        cause, end = survival(rows, who, "column", True) if gone else (0, inf)
        base = baseline(labs, who, at)
        able = not isnan(base) and (base > 0 or name not in ("times", "fewer"))
        able = able and not (name == "reaches" and worse(base, base))
        assert risk[i] == (entry(rows, who) <= at < end and able)
        if not risk[i]:
            continue
        seen = visits(labs, who, at, end)
        shown = min((after for after, v in seen if worse(v, base)), default=inf)
        last = max((after for after, _ in seen if after < shown), default=0)
        if shown < inf:
            event, time = 1, shown
        elif cause:
            event, time = 1 + cause, end - at
        else:
            event, time = 0, end - at if gone else last
        (found,) = X[i].outcome("value")
        assert found["event"] == event
        assert (found["time"] * DAY, found["after"] * DAY) == pytest.approx((time, last))
        assert found["after"] <= found["time"]
        next_visit = min((after for after, _ in seen), default=nan)
        assert found["seen"] * DAY == pytest.approx(next_visit, nan_ok=True)


@settings(max_examples=10)
@given(
    tables,
    st.sampled_from(["value", "change"]),
    st.sampled_from(["gone", "column", "none"]),
    st.sampled_from([0.5, 1.5]),
)
def test_value_and_change(rows, target, ends, window):
    """What ends it is `gone`, or the exit of the patient, or nothing: the last row is no end."""
    gone, form = ends == "gone", "column" if ends == "gone" else ends
    outcome = f"""
[outcomes.value]
kind = "progression"
node = "lab"
codes = ["k*", "K [1/l]"]
target = "{target}"
window = "{window}d"
{'gone = "gone"' if gone else ""}
"""
    cohort = read(rows, (GONE if gone else "") + outcome, EXITS[form])
    known, labs = cohort.outcomes["value"], followed(rows)
    assert known.has_end == (ends != "none")
    for day, to in ((0.0, 1.0), (1.0, 2.25), (2.0, 5.0)):
        X = cohort.at(day, to=to)
        risk = X.at_risk("value")
        seen = known.seen_around(X.patient, X.at, seconds(to - day))
        for i, (who, at) in enumerate(zip(X.ids, X.at.tolist(), strict=True)):
            out = end_of_observation(rows, who, form)
            cause, end = survival(rows, who, "column", True) if gone else (0, inf if out is None else out)
            base, ahead = baseline(labs, who, at), seconds(to - day)
            able = target == "value" or not isnan(base)
            able = able and not (gone and stood(spells(rows["dx"], who, "R"), at))
            assert risk[i] == (entry(rows, who) <= at < end and able)
            if not risk[i]:
                continue
            near = [
                (abs(t - ahead), t, v)
                for t, v in visits(labs, who, at, end)
                if abs(t - ahead) <= window * DAY
            ]
            nearest = min(near, default=(0, nan, nan))[:2]
            value = mean([v for *when, v in near if tuple(when) == nearest])
            (found,) = X[i].outcome("value")
            assert found["value"] == pytest.approx(value - (base if target == "change" else 0), nan_ok=True)
            assert found["time"] * DAY == pytest.approx(nearest[1], nan_ok=True)
            assert (found["to"], found["baseline"]) == pytest.approx((to - day, base), nan_ok=True)
            assert found["gone"] == (cause > 0 and end <= at + ahead)
            whole = end >= at + ahead + seconds(window) or (cause > 0 and end > at + ahead)
            expected = nan if found["gone"] or not whole else float(bool(near))
            assert seen[i] == pytest.approx(expected, nan_ok=True)


ONE = [(p, "", "9", "9", "0", "") for p in PATIENTS]


def lab_rows(*rows: tuple[float, str]) -> dict:
    """A cohort in which a's k is seen at these days with these values."""
    held = [("a", str(day), str(day), "k", value, f"r{i}", "") for i, (day, value) in enumerate(rows)]
    return {"patients": ONE, "dx": [], "lab": held, "visits": [], "labels": []}


@pytest.mark.parametrize(
    ("rule", "before", "after", "event"),
    [
        ("reaches = 1.3", "1.1", "1.3", 1),  # as it is written: no float is 1.3
        ("reaches = 1.3", "1.1", "1.29", 0),
        ("reaches = 1.3", "1.3", "1.4", None),  # worse already
        ("times = 1.5", "1.1", "1.65", 1),
        ("times = 1.5", "1.1", "1.64", 0),
        ("times = 1.5", "0", "0", None),
        ("times = 1.5", "-2", "-2", None),
        ("times = 0.5", "2.6", "1.3", 1),
        ("times = 0.5", "2.6", "1.31", 0),
        ("plus = 0.3", "1.1", "1.4", 1),
        ("plus = 0.3", "-0.3", "0", 1),
        ("plus = 0.3", "1.1", "1.39", 0),
        ("plus = -0.2", "1.1", "0.9", 1),
        ("plus = -0.2", "1.1", "0.91", 0),
    ],
)
def test_worse_as_it_is_written(rule, before, after, event):
    outcome = f"""
[outcomes.value]
kind = "progression"
node = "lab"
codes = ["k"]
worse = {{ {rule} }}
horizon = "9d"
"""
    X = read(lab_rows((0, before), (2, after)), outcome).at(1, patient="a")
    assert X.at_risk("value").tolist() == [event is not None]
    if event is not None:
        assert X.outcome("value").tolist() == [(event, 1, 0 if event else 1, 1)]


@pytest.mark.parametrize(
    ("visits", "value", "time"),
    [
        (((3, "1"), (5, "2")), 1, 2),  # of two equally near the earlier
        (((3.25, "1"), (4.5, "2")), 2, 3.5),
        (((3, "1"), (3, "2")), 1.5, 2),  # of one moment the mean
        (((2.5, "1"), (5.5, "2")), 1, 1.5),  # at the edge of the window
        (((2.25, "1"), (5.75, "2")), nan, nan),
        (((4, ""), (5, "2")), 2, 4),  # a visit without the value is none for it
        (((1, "1"), (0.5, "2")), nan, nan),  # at the landmark is not after it
    ],
)
def test_the_visit_that_counts_for_a_day(visits, value, time):
    outcome = """
[outcomes.value]
kind = "progression"
node = "lab"
codes = ["k"]
window = "36h"
"""
    (found,) = read(lab_rows(*visits), outcome).at(1, patient="a", to=4).outcome("value")
    assert (found["value"], found["time"]) == pytest.approx((value, time), nan_ok=True)
    assert found["to"] == 3 and not found["gone"]


@pytest.mark.parametrize(("form", "seen"), [("none", [1.0, 0.0, 0.0]), ("column", [1.0, 0.0, nan])])
def test_the_last_row_is_no_end(form, seen, tmp_path):
    """Who has no row after day 2 is known not to be seen as long as observation lasts, packed or not."""
    from gnnpatient import open_cohort

    value = '[outcomes.value]\nkind = "progression"\nnode = "lab"\ncodes = ["k"]\nwindow = "12h"\n'
    cohort = read(lab_rows((0, "1"), (2, "1")), value, EXITS[form])  # the exit is day 9
    for one in (cohort, open_cohort(cohort.save(tmp_path / "cohort"))):
        known, a = one.outcomes["value"], np.zeros(3, np.int64)
        after = np.array([2, 5, 9]) * DAY
        assert known.seen_around(a, a, after).tolist() == pytest.approx(seen, nan_ok=True)
        assert one.at([8.5, 9], patient=["a", "a"]).at_risk("value").tolist() == [True, form == "none"]


@pytest.mark.parametrize(("died", "to", "gone"), [("4", 4, True), ("4", 3.99, False), ("", 9, False)])
def test_gone_by_the_day_that_is_asked_for(died, to, gone):
    """Who dies on that day is gone by then; whose observation ends is not said to be."""
    death = (
        '[outcomes.gone]\nkind = "survival"\ntable = "patients.csv"\ncauses = { death = { time = "tx" } }\n'
    )
    value = '[outcomes.value]\nkind = "progression"\nnode = "lab"\ncodes = ["k"]\ngone = "gone"\n'
    rows = lab_rows((0, "1")) | {"patients": [(p, "", "6", "9", "0", died) for p in PATIENTS]}
    X = read(rows, death + value, EXITS["column"]).at(1, patient="a", to=to)
    assert X.outcome("value")["gone"].tolist() == [gone]


# ---- who may be asked


@settings(max_examples=8)
@given(tables, st.sampled_from(ASKED), st.randoms(use_true_random=False))
def test_who_may_be_asked_does_not_depend_on_what_comes_later(rows, day, rng):
    """Later rows decide what came of a landmark, never whether it is a landmark to be scored.

    Death and the end of observation are what being at risk is about; they stay as they are. A label must not
    be known for another gap, so what is poisoned for it lies after that. Who is gone is said by the spec:
    unsaid, a cohort whose rows go on after its deaths has them end no diagnosis, which is flagged.
    """
    spec = COLUMNS + PARTS.replace("outcomes.event", "outcomes.gone") + diagnosis_by_codes("1d", "2d")
    spec += 'gone = "event"\n'
    for name, (said, _) in RULES.items():
        spec += f"""
[outcomes.{name}]
kind = "progression"
node = "lab"
codes = ["k", "K [1/l]"]
worse = {{ {said} }}
horizon = "2d"
gone = "gone"
"""
    poisoned = dict(rows)
    poisoned["lab"] = poison(rows["lab"], day, 4, ["", "1e6", "-1e6"], rng)
    poisoned["dx"] = poison(rows["dx"], day + 1, 3, CODES, rng, earlier=rows["dx"])
    poisoned["visits"] = [
        (who, str(float(when) + rng.choice([0, 5])) if when and float(when) > day else when, what)
        for who, when, what in rows["visits"]
    ]
    one, two = (read(hiding(r), spec, EXITS["column"]).at(day) for r in (rows, poisoned))
    for name in one.cohort.outcomes:
        assert (one.at_risk(name) == two.at_risk(name)).all(), name


def poison(held, day, column, other, rng, earlier=()):
    """Rows that happen after a day, changed or deleted; those that amend one of `earlier` before it stay."""
    known = {row[-2]: float(row[1]) > day for row in earlier}
    out = []
    for row in held:
        if float(row[1]) <= day or (earlier and not known.get(row[-1], True)):
            out.append(row)
        elif rng.random() < 0.6:
            out.append((*row[:column], rng.choice(other), *row[column + 1 :]))
    return out


def test_poison_moves_labels():
    """The law above would hold of a poison that does nothing."""
    rng = random.Random(1)
    rows = [("a", "2", "2", "k", "1", "r0", ""), ("a", "0", "0", "k", "1", "r1", "")] * 4
    out = poison(rows, 1, 4, ["1e6"], rng)
    assert out.count(rows[1]) == 4 and rows[0] not in out and len(out) > 4
