"""What objects show of themselves, tables and plots of forecasts, and progress."""

import copy
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sksurv.metrics import (
    as_concordance_index_ipcw_scorer,
    concordance_index_censored,
    concordance_index_ipcw,
)

from gnnpatient import PatientKFold, PrognosisModel, build_graphs, read_spec
from gnnpatient.patient.answers import ANSWERS
from gnnpatient.prognosis.conformal import Calibration
from gnnpatient.prognosis.forecast import DiagnosisForecast
from gnnpatient.prognosis.people import People
from gnnpatient.prognosis.plot import CAUSE_COLORS
from gnnpatient.prognosis.run import Run
from gnnpatient.progress import Bars, shown

EVIL = "<script>alert('x')</script>\n\x1b[31m&"


class Tags(HTMLParser):
    """The tags of a fragment, all closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.attributes = [], set(), set()
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def five(model, test):
    """A forecast of five members, which differ."""
    forecast = model.forecast(test)["death"]
    return replace(forecast, members=np.repeat(forecast.members, [2, 3], 0))


HELD_OUT = Calibration(
    method="cv+", patients=200, scores=(0.9, 0.6), above=(0.05, 0.1), total=0.6, cutoff=8.0
)


@pytest.fixture(scope="module")
def icu():
    """A diagnosis at two landmarks, the second of which has no forecast."""
    rows = np.array(["a", "b"]), np.array([1.0, 2.0]), np.array([True, False])
    return DiagnosisForecast("icu", ("no", "yes"), np.array([[0.7, 0.3], [np.nan, np.nan]]), *rows)


# -- repr --


def test_everything_is_shown_in_a_few_lines(cohort, train, test, model, five, icu):
    spec = cohort.spec.model_copy(update={"cohort": EVIL})
    evil = replace(cohort, spec=spec, outcomes={EVIL: cohort.outcomes["death"]})
    objects = {
        "cohort": cohort,
        "another": evil,
        "bare": replace(cohort, outcomes={}),
        "spec": spec,
        "graphs": build_graphs(test[:3]),
        "landmarks": train,
        "none": train[:0],
        "drawn": cohort.landmarks(n=20),
        "patient": cohort.patient("p004"),
        "without rows": evil.patient("p079"),
        "new": PrognosisModel(cause=EVIL),
        "model": model,
        "predictor": model.predictor_,
        "forecasts": model.forecast(test),
        "one": five[0],
        "out": replace(five[0], at_risk=np.zeros(1, bool), causes=(EVIL, "death")),
        "icu": icu[0],
        "icu of two": icu,
    }
    for name, thing in objects.items():
        text, html = repr(thing), thing._repr_html_()
        lines = text.split("\n")
        assert 1 <= len(lines) <= 7 and all(line.isprintable() for line in lines), name
        assert not re.fullmatch(r"<\w+>", text), f"{name}: the repr failed"
        tags = Tags(html)
        assert tags.seen <= {"div", "table", "tr", "td", "th"} and tags.attributes <= {"style"}, name
        assert not re.search(r"url\(|src=|href=|(?<![-\w])color:(?!inherit)|background:(?!none)", html), name


def test_what_a_cohort_and_its_landmarks_say(cohort, train):
    assert repr(cohort).startswith("Cohort tiny: 80 patients\n")
    assert f"{len(cohort.events['lab'])} lab" in repr(cohort)
    events = cohort.outcomes["death"].event
    assert f"{(events == 1).sum()} discharge, {(events == 2).sum()} death" in repr(cohort)
    there = {day: len(rows) for day, rows in train.by_landmark.items()}
    assert f"{len(train)}, of 60 patients" in repr(train)
    assert f"entry ({there[0.0]}), day 2 ({there[2.0]})" in repr(train)
    assert repr(cohort.outcomes["death"]) == "Survival of 80 patients: 45 discharge, 21 death, 14 censored"
    assert repr(cohort.events["drug"]) == "Events: 213 rows of 80 patients"
    tables = {"a": {"refused": {"no time": 2, "no unit": 1}}, "b": {"refused": {}}}
    doubtful = replace(cohort, report={"tables": tables, "flags": ["a clock", "a unit"]})
    assert repr(doubtful).split("\n")[-1].split(maxsplit=1) == [
        "but",
        "3 rows refused and 2 flags, see cohort.report",
    ]
    broken = replace(cohort, events=None)
    assert repr(broken) == "<Cohort>" and broken._repr_html_() == "&lt;Cohort&gt;"


def test_a_model_shows_no_count_of_few_patients(model):
    assert repr(clone(model)) == (
        "PrognosisModel(batch_size=32, channels=8, epochs=2, horizon=10.0, members=2)"
    )
    text = repr(model)
    assert (
        text.startswith(repr(clone(model)) + "\nFitted model: linear, boosted, graph, 2 members each\n")
        and "60 patients" in text
    )
    few = clone(model)
    about = {**model.predictor_.about, "events": {"death": {"discharge": 44, "death": 7}}}
    few.predictor_ = replace(model.predictor_, about=about)
    for text in (repr(few), few._repr_html_()):
        counts = [int(n) for n in re.findall(r"(\d+) patients", text)]
        assert counts == [40, 10, 60] and "death (&lt; 10 patients)" in text.replace("< ", "&lt; ")
    assert "patients" not in repr(few.predictor_)


def test_a_run_and_its_people_name_nobody(cohort, tmp_path):
    run = Run(tmp_path / "run", {"name": "tiny"}, {}, ("p001", "p002"), ("p003",))
    assert repr(run).split("\n")[1:] == ["  cohort    tiny", "  patients  2 to fit on, 1 held out"]
    people = People.of(cohort, np.arange(80) < 20)
    assert repr(people) == "People of a run: 80, 60 of them trained on"


def test_a_forecast_for_one_shows_its_risks(five):
    one, risk = five[0], five.risk("death", 10.0)[0]
    assert f"death {risk * 100:.0f} %\n" in repr(one) and "death" in one._repr_html_()
    assert "%" not in repr(five) and one.ids[0] not in repr(one)
    assert "not calibrated at 0.9: " in repr(one)
    known = replace(one, calibration=HELD_OUT)
    assert f"death {risk * 100:.0f} % (" in repr(known)  # the model spread, and never alone
    assert f"with 0.9        {known.statement()}" in repr(known) and "event-free for " in known.statement()
    assert "not calibrated (too few patients held out in the fit" in repr(replace(one, calibration=None))


def test_model_spread_stands_beside_a_calibrated_statement_or_not_at_all(five, icu):
    classes = replace(icu[:1], members=np.array([[[0.7, 0.3]]] * 5), calibration=HELD_OUT)
    for one in (replace(five[0], calibration=HELD_OUT), classes):
        name = one.names[-1]
        bare = replace(one, calibration=None)
        assert "(" in repr(one).partition(name)[2] and "(" not in repr(bare).partition(f"{name} ")[2][:12]
        assert "model spread" in one.plot(ax=Figure().subplots()).get_xlabel()
        axes = bare.plot(ax=Figure().subplots())
        assert "model spread" not in axes.get_xlabel() and not axes.collections
        shown = ANSWERS[type(one)](one)
        assert "[model spread]" in shown.title and shown.to_dict()["calibrated"]["promise"] == 0.8
        assert any("[" in cell for row in shown.table()[1] for cell in row)
        shown = ANSWERS[type(one)](bare)
        assert "spread" not in shown.title and shown.to_dict()["calibrated"] is None
        assert not any("[" in cell for row in shown.table()[1] for cell in row)
        assert (
            shown.statement.startswith("not calibrated") and shown.to_dict()["statement"] == shown.statement
        )
    assert classes.statement() == "no with probability 0.9 (0.8 promised), on average over landmarks"


# -- tables --


def test_a_row_a_landmark_cause_and_time(five, icu):
    frame = five.to_frame()
    assert frame.columns == ["id", "landmark", "cause", "time", "risk", "low", "high"]
    assert len(frame) == len(five) * 2 * len(five.times)
    last = frame.filter(frame["cause"] == "death", frame["time"] == five.times[-1])
    assert last["risk"].to_numpy() == pytest.approx(five.risk("death"))
    low, high = five.spread(cause="death")
    assert last["low"].to_numpy() == pytest.approx(low) and last["high"].to_numpy() == pytest.approx(high)
    assert last["id"].to_list() == five.ids.tolist() and last["landmark"].to_list() == five.at.tolist()
    assert replace(five, members=None).to_frame()["low"].null_count() == len(frame)
    shares = icu.to_frame()
    assert shares.select("cause", "risk").rows() == [("no", 0.7), ("yes", 0.3), ("no", None), ("yes", None)]
    assert shares["time"].null_count() == 4


def test_a_forecast_is_indexed_like_its_landmarks(five):
    mask = five.at == 1.0
    assert np.array_equal(five[mask].incidence, five.incidence[mask])
    assert np.array_equal(five[-1].members[:, 0], five.members[:, -1]) and len(five[2:4]) == 2
    assert [one.ids[0] for one in five] == five.ids.tolist()


# -- plots --


def test_the_curves_are_the_forecast(five):
    axes = replace(five[0], calibration=HELD_OUT).plot(ax=Figure().subplots(), event_free=True)
    lines = {line.get_label(): line for line in axes.lines}
    days, height = lines.pop("_bound").get_data()
    assert days == replace(five[0], calibration=HELD_OUT).time_bound() and height == 0
    assert set(lines) == {"discharge", "death", "event-free"}
    for cause, color in zip(five.causes, CAUSE_COLORS, strict=False):
        days, risk = lines[cause].get_data()
        expected = five.incidence[0, five.slot(cause)]
        assert np.interp(five.times, days, risk) == pytest.approx(expected, abs=0.01)
        assert to_hex(lines[cause].get_color()) == color
    assert lines["event-free"].get_ydata()[1:] == pytest.approx(five.event_free[0])
    low, high = five.spread(cause="death")
    band = axes.collections[1].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(high[0]) and low[0] == pytest.approx(
        band[band[:, 0] == five.times[-1], 1].min()
    )
    said = "days after the landmark; band: model spread; mark: event-free so long with 0.9"
    assert axes.get_xlabel() == said
    assert not replace(five[0], members=None).plot(ax=Figure().subplots()).collections
    assert not five[0].plot(ax=Figure().subplots()).collections  # nothing is calibrated of so few


def test_letters_of_a_plot_are_large_enough(five, icu):
    from matplotlib import pyplot

    two = replace(five[:2], at=np.array([0.0, 400.0]), ids=np.array(["a", "a"]))
    for axes in (five[0].plot(), two.plot("death", event_free=True), icu.plot(), icu[0].plot()):
        figure = axes.figure
        figure.canvas.draw()
        texts = [text for text in figure.findobj(Text) if text.get_text()]
        assert len(texts) > 8 and min(text.get_fontsize() * figure.dpi / 72 for text in texts) >= 11
        box = figure.bbox
        for text in texts:
            place = text.get_window_extent()
            assert place.x0 >= box.x0 - 1 and place.x1 <= box.x1 + 1, text.get_text()
        pyplot.close(figure)


def test_landmarks_are_told_apart(five, icu):
    two = replace(five[:2], at=np.array([0.0, 400.0]), ids=np.array(["a", "a"]))
    axes = two.plot("death", ax=Figure().subplots())
    assert [line.get_label() for line in axes.lines] == ["day 0", "day 400"]
    assert "death" in axes.get_title(loc="left")
    axes = replace(two, ids=np.array(["a", "b"])).plot("death", ax=Figure().subplots())
    assert [line.get_label() for line in axes.lines] == ["patient a, day 0", "patient b, day 400"]
    gone = replace(five[0], at_risk=np.zeros(1, bool)).plot(ax=Figure().subplots())
    assert not gone.lines and "no longer at risk" in gone.texts[0].get_text()
    bars = icu.plot(ax=Figure().subplots())
    assert [bar.get_width() for bar in bars.patches] == [0.3]
    assert [text.get_text() for text in bars.texts] == ["30 %", "not at risk, or known already"]


# -- progress --


def test_lines_in_a_log():
    clock, stream = iter([0, 1, 4, 12, 13, 20, 21, 30, 50]), io.StringIO()
    with Bars(stream, clock=lambda: next(clock)) as bars:
        for epoch in range(4):  # it stops before its 20 epochs
            bars("member 1", epoch + 1, 20, member=0, epoch=epoch, loss=0.5 - 0.1 * epoch)
        bars("member 2", 1, 2)
        bars("member 2", 2, 2)
        bars("fold 1 of 2: gnn", 1, 3)  # steps that have names of their own: a line each
        bars("fold 1 of 2: cox", 2, 3)
        bars("a sentence", 0, 0)
    assert stream.getvalue().splitlines() == [
        "member 1: 3 of 20, loss 0.300, 12 s, at most 68 s left",
        "member 1: 4 of 20, loss 0.200, 13 s",
        "member 2: 2 of 2, 8 s",
        "fold 1 of 2: gnn: 1 of 3, 9 s, about 18 s left",
        "fold 1 of 2: cox: 2 of 3, 29 s, about 14 s left",
        "a sentence",
    ]


def test_bars_in_a_notebook(monkeypatch):
    import sys

    shown_html = []
    handle = SimpleNamespace(update=lambda content, raw: shown_html.append(content["text/html"]))

    def display(content, raw, display_id):
        shown_html.append(content["text/html"])
        return handle

    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    with shown(True) as bars:
        assert bars.place == "notebook"
        for done in range(1, 5):
            bars(EVIL, done, 8)
        bars("a sentence", 0, 0)
    assert 2 <= len(shown_html) <= 5 and "width:100%" in shown_html[-1]
    assert "<div>a sentence</div>" in shown_html[-1], "no bar beside it"
    assert "<script" not in shown_html[0] and Tags(shown_html[0]).seen == {"div", "span"}


def test_a_fit_tells_how_far_it_is(train, quick, capsys):
    told = []
    model = PrognosisModel(**quick, verbose=True)
    model.fit(train, progress=lambda what, *counts, **figures: told.append((what, *counts)))
    assert told[0] == ("landmarks", len(train), len(train)) and ("member 1", 1, 1) in told
    assert told[-1][0] == "weights of the families" and capsys.readouterr().err == ""
    pieces = list(dict.fromkeys(what for what, *_ in told))
    assert "will not be learned" in pieces[2] and pieces[3:6] == ["linear", "boosted", "member 1"]
    model.fit(train)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"landmarks: {len(train)} of {len(train)}")
    assert sum(
        re.fullmatch(r"member 1: 1 of 1, loss [\d.]+, validation [\d.]+, \d+ s", x) is not None for x in lines
    )


def test_what_a_caller_may_pass_as_progress():
    with shown(print) as one, shown(None) as none, shown(False) as no, shown(True) as bars:
        assert one is print and none is no is None and isinstance(bars, Bars)


# -- a cause for scorers --


def test_scorers_work_with_competing_risks(train, test, model, tmp_path):
    y, held_out = (X.outcome("death", cause="death") for X in (train, test))
    scorer = as_concordance_index_ipcw_scorer(clone(model).set_params(cause="death"), tau=8.0).fit(train, y)
    fitted, risk = scorer.estimator_, model.forecast(test)["death"].risk("death")
    assert np.array_equal(fitted.predict(test), risk), "every cause was learned, as without y"
    assert scorer.score(test, held_out) == concordance_index_ipcw(y, held_out, risk, tau=8.0)[0]
    curves = fitted.predict_survival_function(test, return_array=True)
    assert np.array_equal(curves, 1 - model.forecast(test)["death"].incidence[:, 2])
    assert np.array_equal(fitted.predict(test, cause="discharge"), model.predict(test, cause="discharge"))
    fitted.save_pretrained(tmp_path / "model")
    again = PrognosisModel.from_pretrained(tmp_path / "model")
    assert (again.cause, again.verbose) == ("death", False) and np.allclose(again.predict(test), risk)


def test_a_score_is_of_the_cause_that_is_named(test, model):
    y, each = test.outcome("death", cause="death"), {}
    for cause in (None, "discharge", "death"):
        named = copy.copy(model).set_params(cause=cause)
        each[cause] = named.score(test)
    assert each[None] == pytest.approx((each["discharge"] + each["death"]) / 2)
    assert each["death"] != each["discharge"]
    numbers = y.astype([("event", np.int64), ("time", np.float64)])  # 0 and 1 of a table: not cause 1 of two
    for own in (y, numbers):
        assert copy.copy(model).set_params(cause="death").score(test, own) == each["death"]


def test_cross_val_score_takes_a_scorer_of_predict(train, quick):
    def harrell(estimator, X, y):
        return concordance_index_censored(y["event"], y["time"], estimator.predict(X))[0]

    y, named = train.outcome("death", cause="death"), PrognosisModel(**quick, cause="death")
    (score,) = cross_val_score(named, train, y, cv=[next(PatientKFold(2).split(train))], scoring=harrell)
    assert 0 < score < 1


def test_a_spec_says_what_it_means():
    assert repr(read_spec("pbc")).split("\n") == [
        "GraphSpec pbc",
        "  patients  pbcseq.csv, key id",
        "  nodes     lab (pbcseq.csv), sign (pbcseq.csv), stage (pbcseq.csv)",
        "  death     survival of transplant, death",
    ]
