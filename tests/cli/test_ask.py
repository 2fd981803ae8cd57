"""One patient: the answer, its figure, the graph."""

import json

import numpy as np
import pytest


def someone(ward, day):
    """A patient at risk on a day who has rows before and after it."""
    from gnnpatient import open_cohort

    cohort = open_cohort(ward / "cohort")
    lab, when = cohort.events["lab"], int(day * 86_400)
    for i in range(len(cohort)):
        known = lab.known[lab.ptr[i] : lab.ptr[i + 1]]
        later = known < cohort.outcomes["death"].time[i]
        if (
            (known <= when).any()
            and ((known > when) & later).any()
            and cohort.outcomes["death"].time[i] > when
        ):
            return cohort, str(cohort.ids[i])
    raise AssertionError


def test_ask(good, ward):
    cohort, patient = someone(ward, 3)
    found = good("ask", ward / "run", ward / "cohort", "--patient", patient, "--at", "3", "--json")
    keys = ["patient", "at", "split", "at_risk", "known", "statics", "missing", "unknown", "notes"]
    keys += ["outcomes"]
    assert list(found) == keys and all("far outside the training range" in line for line in found["notes"])
    assert found["patient"] == patient and found["at"] == 3 and found["at_risk"]
    assert set(found["known"]) == {"lab", "vital", "drug"}
    assert found["missing"] == [kind for kind, n in found["known"].items() if not n]
    death = found["outcomes"]["death"]
    keys = {"kind", "times", "event_free", "incidence", "low", "high", "time_lost", "calibrated", "statement"}
    assert set(death) == keys | {"band"} and death["kind"] == "survival"
    assert death["band"] == "model spread" and death["calibrated"] is None  # too few for that
    total = np.array(death["event_free"]) + sum(map(np.array, death["incidence"].values()))
    np.testing.assert_allclose(total, 1, atol=1e-6)
    for cause in ("discharge", "death"):
        assert (np.array(death["low"][cause]) <= np.array(death["high"][cause]) + 1e-12).all()
    from gnnpatient import load_predictor
    from gnnpatient.patient import answer

    assert answer(ward / "run", cohort, patient, 3.0).to_dict() == found
    assert answer(load_predictor(ward / "run"), cohort, patient, 3.0).split is None  # nobody knows
    said = good("ask", ward / "run", ward / "cohort", "--patient", patient, "--at", "3")
    assert "as of day 3" in said and "event-free" in said and "Research use only" in said
    assert f"{found['statics']} statics" in said and 0 < found["statics"] <= 2
    # of the days up to each time the causes take their parts, and what is left is the mean event-free time
    free = np.append(1.0, death["event_free"])
    left = np.concatenate([[0], np.cumsum(np.diff(death["times"], prepend=0) * (free[1:] + free[:-1]) / 2)])[
        1:
    ]
    lost = sum(np.array(days) for days in death["time_lost"].values())
    np.testing.assert_allclose(lost + left, death["times"], rtol=1e-6)


def test_ask_given_event_free(refused, good, ward):
    _, patient = someone(ward, 3)
    now = good("ask", ward / "run", ward / "cohort", "--patient", patient, "--at", "3", "--json")
    words = ("ask", ward / "run", ward / "cohort", "--patient", patient, "--at", "3", "--event-free")
    later = good(*words, "2", "--json")["outcomes"]["death"]
    first = now["outcomes"]["death"]
    assert later["given_event_free"] == 2 and later["times"] == [t - 2 for t in first["times"] if t > 2]

    def at(curve, day):
        return np.interp(day, [0, *first["times"]], [0, *curve])

    until = sum(at(curve, 2) for curve in first["incidence"].values())
    for cause, curve in first["incidence"].items():
        wanted = (curve[-1] - at(curve, 2)) / (1 - until)
        assert later["incidence"][cause][-1] == pytest.approx(wanted, rel=0.02)  # the mean of members
    # the title is broken where the table is narrow
    assert "from 2 d later on, if event-free until then" in " ".join(good(*words, "2").split())
    assert "must be before the last time" in refused(*words, f"{first['times'][-1]:g}")


def test_what_is_said_of_small_and_large_risks():
    from gnnpatient.patient.answers import percent

    one = np.array([0.001])
    assert percent(one, (one, np.array([0.02]))) == "<1 % [<1 to 2]"
    assert percent(np.array([0.9991]), None) == ">99 %" and percent(np.array([0.424]), None) == "42 %"


def test_asks_outside_the_fitted_days_are_told(cli, ward, tmp_path):
    """Fitted at days 0 to 7: day 3 is inside, 20 is not; in ask, predict and evaluate."""
    _, patient = someone(ward, 3)
    for day, told in (("3", False), ("20", True)):
        where = ("--at", day)
        code, out, err = cli("ask", ward / "run", ward / "cohort", "--patient", patient, *where)
        assert code == 0 and ("outside the fitted days (from 0 d to 7 d)" in out) == told
        file = tmp_path / f"{day}.csv"
        code, _, err = cli("predict", ward / "run", ward / "cohort", *where, "--horizons", "5", "--out", file)
        assert code == 0 and ("landmarks lie outside the fitted days" in err) == told
    code, _, err = cli("evaluate", ward / "run", ward / "cohort", "--landmarks", "9", "--horizons", "5")
    assert code == 0 and "outside the fitted days" in err


def test_ask_does_not_see_the_future(good, ward, tmp_path):
    from dataclasses import replace

    cohort, patient = someone(ward, 3)
    asks = ("--patient", patient, "--at", "3", "--json")
    before = good("ask", ward / "run", ward / "cohort", *asks)
    lab = cohort.events["lab"]
    poisoned = replace(lab, value=np.where(lab.known > 3 * 86_400, np.float32(1e9), lab.value))
    replace(cohort, events={**cohort.events, "lab": poisoned}).save(tmp_path / "later")
    assert good("ask", ward / "run", tmp_path / "later", *asks) == before
    last = good("ask", ward / "run", ward / "cohort", "--patient", patient, "--json")  # the last known moment
    assert last["at"] > 3 and last["at_risk"] and last["known"]["lab"] > before["known"]["lab"]
    assert last["at"] * 86_400 < cohort.outcomes["death"].time[cohort.positions(patient)[0]]


def test_ask_on_a_day_when_not_at_risk_draws_no_curve(good, ward):
    found = good("ask", ward / "run", ward / "cohort", "--patient", "p001", "--at", "1y", "--json")
    assert not found["at_risk"] and found["outcomes"] == {}
    assert "no curve" in good("ask", ward / "run", ward / "cohort", "--patient", "p001", "--at", "1y")


def test_an_unknown_code_a_missing_kind_and_one_patient(good, ward, tmp_path):
    (tmp_path / "patients.csv").write_text("pid,age,sex,site,left,died,discharged\nnew,70,female,,20,0,0\n")
    (tmp_path / "labs.csv").write_text("pid,drawn,resulted,analyte,result,unit\nnew,1,1,troponin,3,ng/L\n")
    (tmp_path / "vitals.csv").write_text("pid,day,pulse,temperature\nnew,1,80,37\n")
    spec = (ward / "ward.toml").read_text()
    begin, end = spec.index("[nodes.drug]"), spec.index("[outcomes.death]")
    (tmp_path / "ward.toml").write_text(spec[:begin] + spec[end:])
    good("pack", tmp_path / "ward.toml", "--out", tmp_path / "cohort")
    found = good("ask", ward / "run", tmp_path / "cohort", "--patient", "new", "--json")
    assert found["unknown"] == {"lab": ["troponin"]} and found["missing"] == ["drug"]
    assert "does not know lab troponin" in good("ask", ward / "run", tmp_path / "cohort", "--patient", "new")
    good(
        "predict",
        ward / "run",
        tmp_path / "cohort",
        "--at",
        "2",
        "--horizons",
        "5",
        "--out",
        tmp_path / "r.csv",
    )
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 3


def test_ask_a_task(stays, good):
    folder, _ = stays
    words = ("ask", folder / "run", folder / "cohort", "--patient", "1")
    found = good(*words, "--json")  # the last of its moments
    assert found["at"] == 31 and found["at_risk"] and found["known"] == {"lab": 5, "drug": 2}
    assert sum(found["outcomes"]["mortality"]["probability"].values()) == pytest.approx(1)
    other = good(*words, "--at", "2", "--json")
    assert not other["at_risk"] and other["outcomes"] == {}
    assert "no prediction time of the task" in good(*words, "--at", "2")


@pytest.mark.parametrize("form", ["json", "graphml"])
def test_export(good, ward, tmp_path, form):
    import networkx as nx

    _, patient = someone(ward, 3)
    file = tmp_path / "graph"
    good("export", ward / "cohort", "--patient", patient, "--at", "3", "--format", form, "--out", file)
    text = file.read_text()
    graph = (
        nx.parse_graphml(text) if form == "graphml" else nx.node_link_graph(json.loads(text), edges="edges")
    )
    assert all(data.get("known", 0) <= 3 for _, data in graph.nodes(data=True))


def test_picture_of_an_ask(ward, tmp_path):
    from gnnpatient import InputError, load_predictor
    from gnnpatient.patient.figure import draw

    cohort, patient = someone(ward, 3)
    predictor = load_predictor(ward / "run")
    for day in (3, 400):  # at risk, and long gone
        X = cohort.at(day, patient=patient)
        file = draw(X, predictor.forecast(X)["death"], tmp_path / f"{day}.png")
        assert file.read_bytes()[:4] == b"\x89PNG"
    X = cohort.at(0, patient=str(cohort.ids[-1]))  # without a single row
    draw(X, predictor.forecast(X)["death"], tmp_path / "none.svg")
    with pytest.raises(InputError, match="one patient at one landmark"):
        draw(cohort.at([1, 2], patient=patient), predictor.forecast(X)["death"], tmp_path / "two.png")
