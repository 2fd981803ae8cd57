"""Cohort and landmarks: which patients, when, who is at risk, what came of them."""

import datetime

import numpy as np
import pytest

from gnnpatient.errors import InputError

DAY = 86_400


@pytest.fixture(scope="module")
def dated():
    from pathlib import Path

    from gnnpatient import read_cohort

    case = Path(__file__).parent.parent / "cases" / "dates"
    return read_cohort(case / "spec.toml", case)


def test_at_takes_days_ids_and_positions(tiny):
    assert len(tiny.at(3)) == len(tiny) == 80 and tiny.at(3).shape == (80,)
    assert tiny.at(0.5).at.tolist() == [DAY // 2] * 80
    X = tiny.at([1, 2], patient=["p007", "p003"])
    assert X.ids.tolist() == ["p007", "p003"] and X.days.tolist() == [1, 2] and X.patient.tolist() == [7, 3]
    assert tiny.at(1, patient=[7, 3]).ids.tolist() == ["p007", "p003"]
    assert len(tiny.at([1, 2, 3], patient="p001")) == 3
    assert len(tiny.at(1, patient=[])) == 0


def test_at_refuses_what_it_does_not_understand(tiny, dated):
    for day in (float("nan"), float("inf"), 1e30, None, {"a": 1}):
        with pytest.raises(InputError, match="give days after the origin"):
            tiny.at(day)
    with pytest.raises(InputError, match="offsets without a calendar"):
        tiny.at("2021-03-04")
    with pytest.raises(InputError, match=r"1 unknown patient id\(s\), the first is 'P007'"):
        tiny.at(1, patient=["P007", "p003"])
    with pytest.raises(InputError, match="the patients are a set, which has no order; give a list"):
        tiny.at(1, patient={"p007", "p003"})
    with pytest.raises(InputError, match="patient position -1; the cohort has 80"):
        tiny.at(1, patient=[-1])
    with pytest.raises(InputError, match="patient position 80"):
        tiny.at(1, patient=[80])
    with pytest.raises(InputError, match="2 days for 80 patients"):
        tiny.at([1, 2])
    for day in ("soon", "2021-13-01"):
        with pytest.raises(InputError, match="neither days nor an ISO 8601 date"):
            dated.at(day)
    for day in ("2021-03", "2021", "NaT"):
        with pytest.raises(InputError):
            dated.at(day)


def test_dates_are_the_end_of_their_day(dated):
    # a was admitted on 2021-03-01 at 10:00, b on the bare date
    for day in ("2021-03-02", datetime.date(2021, 3, 2), np.datetime64("2021-03-02")):
        assert dated.at(day).at.tolist() == [DAY + 14 * 3600 - 1, 2 * DAY - 1]
    assert dated.at("2021-03-02T12:00", patient="b").days.tolist() == [1.5]
    assert dated.at(["2021-03-02", "2021-03-01T10:00"]).days[1] == pytest.approx(10 / 24)


def test_landmarks_at_times_and_drawn(tiny):
    X = tiny.landmarks(["p001", "p002"], [0, 5])
    assert X.ids.tolist() == ["p001", "p002"] * 2 and X.days.tolist() == [0, 0, 5, 5]
    drawn = tiny.landmarks(n=4, seed=1)
    times = np.unique(drawn.at)
    assert len(times) == 4 and drawn.at_risk().all()
    for time in times:
        everyone = tiny.at(time / DAY).followed()
        assert drawn.ids[drawn.at == time].tolist() == everyone.ids.tolist()
    assert (tiny.landmarks(n=4, seed=1).at == drawn.at).all()
    assert (np.unique(tiny.landmarks(n=4, seed=2).at) != times).any()
    for wrong in ({}, {"times": [1], "n": 2}):
        with pytest.raises(InputError, match="either times"):
            tiny.landmarks(**wrong)


def test_entry_is_always_among_the_landmarks(tiny):
    """One landmark, whenever it is; it alone where nothing becomes known after it."""
    from dataclasses import replace

    from gnnpatient.cohort.cohort import ENTRY

    late = replace(tiny, entry=np.arange(80) % 3 * DAY // 2)
    drawn = late.landmarks(n=5, seed=1)
    at_entry = drawn.moments == ENTRY
    assert tiny.has_later_rows and len(np.unique(drawn.moments)) == 5
    assert drawn.patient[at_entry].tolist() == late.entries().followed().patient.tolist()
    assert (drawn.at[at_entry] == late.entry[drawn.patient[at_entry]]).all()
    assert sum(map(len, drawn.by_landmark.values())) == len(drawn) and drawn.entry_day in drawn.by_landmark
    first = replace(tiny, events={kind: e.empty() for kind, e in tiny.events.items()})
    assert not first.has_later_rows
    only = first.landmarks(n=64)
    assert (only.moments == ENTRY).all() and len(only) == len(first.entries().followed())
    named = tiny.landmarks(["p001", "p002"], ["entry", 5])
    assert named.days.tolist() == [0, 0, 5, 5]


def test_entry_on_a_bare_date_is_the_end_of_that_day(tmp_path):
    """What was measured on the day of entry is known then, and an event on that day is not foretold; a clock
    time, and a duration of hours, are exact."""
    from gnnpatient import build_graphs, open_cohort, read_cohort

    people = (
        "pid,start,in,end,died\na,2050-03-01,2050-03-04,2050-03-20,1\nb,2050-03-01,2050-03-05,2050-03-05,1\n"
    )
    people += "c,2050-03-01T08:00,2050-03-04T09:00,2050-03-20,0\n"
    (tmp_path / "patients.csv").write_text(people)
    labs = "".join(f"a,2050-03-0{day},x,{value}\n" for day, value in ((1, 1), (4, 2), (5, 3)))
    (tmp_path / "labs.csv").write_text(f"pid,day,code,value\n{labs}")

    def read(entry):
        (tmp_path / "spec.toml").write_text(
            f"""cohort = "c"
[patient]
table = "patients.csv"
key = "pid"
origin = "start"
{entry}
[nodes.lab]
table = "labs.csv"
time = "day"
code = "code"
value = "value"
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = {{ death = {{ time = "end", flag = "died" }} }}
"""
        )
        return read_cohort(tmp_path / "spec.toml", tmp_path)

    whole = read("")
    assert whole.at_entry.tolist() == [DAY - 1, DAY - 1, 0] and whole.entry.tolist() == [0, 0, 0]
    assert build_graphs(whole.entries(["a"]))["lab"].value.tolist() == [1]
    later = read('entry = "in"')
    assert later.at_entry.tolist() == [4 * DAY - 1, 5 * DAY - 1, 3 * DAY + 3600]
    assert build_graphs(later.entries(["a"]))["lab"].value.tolist() == [1, 2]
    assert later.entries().at_risk("death").tolist() == [True, False, True]
    assert read('entry = "3d"').at_entry.tolist() == [4 * DAY - 1, 4 * DAY - 1, 3 * DAY]
    assert read('entry = "72h"').at_entry.tolist() == [3 * DAY] * 3
    again = open_cohort(later.save(tmp_path / "cohort"))
    assert again.at_entry.tolist() == later.at_entry.tolist()
    assert later.landmarks(["a"], [3]).early_at_entry.tolist() == [True]
    assert not later.entries().early_at_entry.any()


def test_followed_and_outcome(tiny):
    truth = tiny.outcomes["death"]
    X = tiny.at(4).followed("death")
    assert set(X.ids) == set(tiny.ids[truth.time > 4 * DAY])
    y = X.outcome("death")
    assert y.dtype.names == ("event", "time") and y["event"].dtype == np.int8
    assert np.allclose(y["time"] + 4, truth.time[X.patient] / DAY) and (y["time"] > 0).all()
    assert (X.outcome() == y).all()
    with pytest.raises(InputError, match=r"not at risk of 'death'; keep the others with \.followed"):
        tiny.at(4).outcome("death")
    with pytest.raises(InputError, match="unknown outcome 'deth'; did you mean 'death'"):
        X.outcome("deth")
    exit = truth.time[0] / DAY
    assert not tiny.at(exit, patient=[0]).at_risk().any()
    assert tiny.at(exit - 1 / DAY, patient=[0]).at_risk().all()


def test_rows_of_landmarks(tiny):
    X = tiny.at(2)
    assert X[3].ids.tolist() == ["p003"] and X[[3, 1]].ids.tolist() == ["p003", "p001"]
    assert len(X[X.patient < 5]) == 5 and len(X[:7]) == 7 and len(X[[]]) == 0
    assert [landmark.ids[0] for landmark in X[:2]] == ["p000", "p001"]


def test_the_key_of_a_sort_has_room():
    """Packed into few integers where 63 bits allow, the order is that of numpy's lexsort."""
    from gnnpatient.cohort.packed import sort

    rng = np.random.default_rng(0)
    for high in (3, 2**20, 2**31, 2**61):
        columns = [rng.integers(-high, high, 500) for _ in range(2)] + [
            rng.integers(0, 3, 500) for _ in range(3)
        ]
        for order in (columns, columns[::-1]):
            assert (sort(*order) == np.lexsort(order[::-1])).all()
    assert len(sort(np.zeros(0, np.int64))) == 0


def test_only_some_kinds(tiny):
    from gnnpatient import build_graphs

    graphs = build_graphs(tiny.only(["lab"]).at(5))
    whole = build_graphs(tiny.at(5))
    assert len(graphs["vital"]) == len(graphs["drug"]) == 0 and graphs.edges.keys() == whole.edges.keys()
    assert graphs["lab"].value.numpy().tobytes() == whole["lab"].value.numpy().tobytes()
    assert 0 < len(graphs["timepoint"]) < len(whole["timepoint"])
    with pytest.raises(InputError, match="unknown node type 'labs'; did you mean 'lab'"):
        tiny.only(["labs"])


def test_the_tiny_ward_is_what_it_says(tiny):
    assert tiny.outcomes["death"].causes == ("discharge", "death")
    assert np.bincount(tiny.outcomes["death"].event, minlength=3).min() >= 5
    lacking = [float((np.diff(tiny.events[kind].ptr) == 0).mean()) for kind in tiny.spec.nodes]
    assert all(0.2 < share < 0.45 for share in lacking)
    assert (np.diff(tiny.events["timepoint"].ptr) == 0).any() and np.isnan(tiny.number).any()
    assert (tiny.category < 0).any() and len(set(tiny.groups)) < len(tiny)
    assert (tiny.events["lab"].known > tiny.events["lab"].happened).any()
    from gnnpatient.testing import tiny_cohort

    assert (tiny_cohort(seed=1).outcomes["death"].time != tiny.outcomes["death"].time).any()


def test_landmarks_take_dates_beside_days_and_entry(dated):
    X = dated.landmarks(times=["entry", "2021-10-31", 5, datetime.date(2021, 11, 1)])
    n = len(dated)
    assert np.array_equal(X.at[:n], dated.at_entry) and (X.days[n : 2 * n] == 5).all()
    assert np.array_equal(X.at[2 * n : 3 * n], dated.at("2021-10-31").at)
    assert np.array_equal(X.at[3 * n :], dated.at("2021-11-01").at)
    assert np.array_equal(dated.landmarks(times=["2021-10-31"]).at, dated.at("2021-10-31").at)
    assert np.array_equal(dated.landmarks(times=["3", 4]).days, [3.0] * n + [4.0] * n)
    assert len(dated.landmarks(times=[])) == 0


def test_landmarks_refuse_other_words(tiny, dated):
    for word, said in (("Entry", "did you mean 'entry'"), ("soon", 'ISO 8601 dates, or "entry"')):
        with pytest.raises(InputError, match=said):
            tiny.landmarks(times=[0, word])
    with pytest.raises(InputError, match="offsets without a calendar"):
        tiny.landmarks(times=["2021-10-31"])
    with pytest.raises(InputError, match="ISO 8601"):
        dated.landmarks(times=[None])
