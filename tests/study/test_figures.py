"""Curves of an evaluation as tables and as pictures: what they show, and that nothing in them overlaps."""

import itertools

import numpy as np
import pytest

from gnnpatient import InputError, metrics
from gnnpatient.study.evaluate import evaluate
from gnnpatient.study.scoreboard import ModelRisks
from gnnpatient.times import YEAR

GRID = np.arange(0.5, 5.01, 0.5) * YEAR


@pytest.fixture(scope="module")
def found(pbc, says, null):
    """One model that knows a little of PBC, one that knows nothing, and the null, at entry and one year."""
    X = pbc.landmarks(times=["entry", YEAR]).followed("death")
    rng = np.random.default_rng(0)
    dead = (pbc.outcomes["death"].event == 2) & (rng.random(312) < 0.7)
    noise = rng.uniform(0.05, 0.4, 312)
    models = {
        "gnn": says(lambda X, k: (0.1 + 0.5 * dead[X.patient][:, None] * (GRID / GRID[-1])) / k),
        "cox": says(lambda X, k: noise[X.patient][:, None] / k),
        "null": null,
    }
    scored = ModelRisks.of([(models, X)], "death", GRID)
    return evaluate(scored, outcome="death", horizons=[YEAR, 3 * YEAR, 5 * YEAR], n=5)


def test_curves_are_those_of_the_metrics(found):
    X, risks = found.board.models.landmarks, found.board.models.risks
    rows = X.days > 0
    y = X[np.flatnonzero(rows)].outcome("death")
    own = y["time"], y["event"].astype(int), 5 * YEAR
    where = {"cause": "death", "landmark": "1y"}
    curve = found.curve("calibration", **where).filter(model="gnn")
    risk, share = metrics.calibration_curve(risks["gnn"]["death"][rows, -1], *own, cause=2)
    assert np.allclose(curve["risk"], risk) and np.allclose(curve["share"], share)
    at = [0.1, 0.2, 0.3]
    from gnnpatient.study import curves

    place, names = found._place("decision", "death", YEAR, None, None)
    assert names == ["gnn", "cox"] and place.horizon == 5 * YEAR
    table = curves.decision(place, names, at)
    for model, risk in (
        ("gnn", risks["gnn"]["death"][rows, -1]),
        ("treat all", np.ones(rows.sum())),
        ("treat none", np.zeros(rows.sum())),
    ):
        part = table.filter(model=model)
        expected = metrics.net_benefit(risk, *own, np.array(at), cause=2)
        assert np.allclose(part["net_benefit"], expected)
        assert part["above"].to_list() == [(risk >= t).sum() for t in at]
    auc = found.curve("auc", **where, horizon="3y").filter(model="cox")
    last = auc.row(-1, named=True)
    row = found.value("cox", "auc", **where, horizon="3y")
    assert last["horizon"] == 3 * YEAR and last["value"] == pytest.approx(row["value"])
    assert last["low"] <= last["value"] <= last["high"]
    assert last["at_risk"] == (y["time"] > 3 * YEAR).sum()


def letters(axes):
    """All text of some axes, ticks out of view left out."""
    yield from (text for text in (*axes.texts, axes._left_title, axes.title) if text.get_text())
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, sorted(axes.get_ylim()))):
        labels = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)
        yield from (
            text for at, text in labels if low <= at <= high and text.get_visible() and text.get_text()
        )
        if axis.label.get_text():
            yield axis.label


@pytest.mark.parametrize("kind", ["calibration", "auc", "decision"])
def test_a_picture_is_legible(found, kind):
    """Letters of 11 px and more, within the figure, and none upon another."""
    from matplotlib import pyplot

    axes = found.plot(kind, cause="death", landmark="entry")
    figure = axes.figure
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    texts = [text for one in figure.axes for text in letters(one)]
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in texts]
    assert min(t.get_fontsize() for t in texts) * figure.dpi / 72 >= 11
    width, height = figure.canvas.get_width_height()
    for text, box in boxes:
        assert min(box.x0, box.y0) >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not a.shrunk(0.9, 0.7).overlaps(b.shrunk(0.9, 0.7)), f"{one!r} lies upon {other!r}"
    names = [text for text, _ in boxes]
    assert {"gnn", "cox"} <= set(names) and any("death, entry" in text for text in names)
    pyplot.close(figure)


def test_a_picture_in_the_axes_of_others(found):
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    assert found.plot("decision", cause="death", ax=axes) is axes and len(figure.axes) == 1
    pyplot.close(figure)


def test_what_cannot_be_drawn_is_said(found, tmp_path):
    with pytest.raises(InputError, match="kind 'roc'; must be one of calibration, auc, decision"):
        found.plot("roc", cause="death")
    with pytest.raises(InputError, match="several causes; name one of transplant, death"):
        found.plot("auc")
    with pytest.raises(InputError, match=r"no landmark 7 here; there are 0, 365.25"):
        found.plot("auc", cause="death", landmark=7)
    with pytest.raises(InputError, match="horizon 4000 days is not among those of the evaluation"):
        found.plot("auc", cause="death", horizon=4000)
    with pytest.raises(InputError, match="unknown model 'coks'; known: gnn, cox, null"):
        found.plot("auc", cause="death", models=["coks"])
    files, notes = found.save_plots(tmp_path / "figures")
    assert {f.name for f in files} >= {"calibration-death-entry.png", "decision-death-1_y.png"}
    assert len(files) + len(notes) == 12 and all(f.stat().st_size > 5000 for f in files)


def test_a_patient_of_two_repeats_counts_once(pbc, says):
    """Four patients with the event are too few, though each is scored in two repeats."""
    X = pbc.landmarks(times=["entry"]).followed("death")
    y = X.outcome("death")
    dead = np.flatnonzero((y["event"] == 2) & (y["time"] < 4 * YEAR))[:4]
    rows = np.concatenate([dead, np.flatnonzero(y["time"] > 6 * YEAR)[:60]])
    models = {"gnn": says(lambda X, k: np.linspace(0.1, 0.3, len(X))[:, None])}
    scored = ModelRisks.of([(models, X[rows]), (models, X[rows])], "death", GRID)
    twice = evaluate(scored, outcome="death", horizons=[5 * YEAR], n=2)
    with pytest.raises(InputError, match="not estimable; fewer than 5 patients"):
        twice.curve("decision", cause="death")
