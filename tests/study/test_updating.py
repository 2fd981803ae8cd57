"""A model that travels badly in a known way: an update finds the way back, and sees nobody's own outcome."""

import re
from dataclasses import replace

import numpy as np
import pytest

from gnnpatient import InputError
from gnnpatient.study.evaluate import evaluate
from gnnpatient.study.updating import MIN_CASES, Update, fit_update, with_update

HORIZON = 300.0


def shifted(intercept, slope):
    """Risks of 300 days whose complementary log-log is off by this much."""

    def plant(hazard, sex, rng):
        # 1 - exp(-h * 300), so the link of the risk is log(300 h)
        return np.exp((np.log(300 * hazard) - intercept) / slope) / 300

    return plant


@pytest.mark.parametrize(("way", "slope"), [("intercept", 1.0), ("slope", 0.5)])
def test_an_update_finds_what_was_planted(way, slope, planted):
    scored = planted(1500, plant=shifted(0.8, slope))
    scored, notes = with_update(scored, "death", way)
    found = evaluate(scored, outcome="death", horizons=[HORIZON], n=40, against=[(f"gnn+{way}", "gnn")])
    oe, ours = found.value("gnn", "oe"), found.value(f"gnn+{way}", "oe")
    assert not oe["low"] <= 1 <= oe["high"] and ours["low"] <= 1 <= ours["high"]
    for metric in ("oe", "slope", "brier"):  # as of the one who knows
        known = found.value("cox", metric)["value"]
        assert found.value(f"gnn+{way}", metric)["value"] == pytest.approx(known, abs=0.1)
    gain = found.value(f"gnn+{way}-gnn", "brier")
    assert gain["high"] < 0
    assert found.value(f"gnn+{way}-gnn", "auc")["value"] == pytest.approx(0)  # within a half the order stays
    assert len(notes) == 1 and notes[0].startswith(f"gnn+{way}, death: intercept +0.")


def test_nobody_is_updated_by_an_own_outcome(planted):
    """Other outcomes of one half: its own risks stay, those of the other half move."""
    scored = planted(300, plant=shifted(0.8, 1.0))
    first, _ = with_update(scored, "death", "intercept")
    half = first.fold % 2
    cohort = scored.landmarks.cohort
    death = cohort.outcomes["death"]
    event = np.where(half[np.argsort(scored.landmarks.patient)] == 0, 0, death.event)
    other = replace(cohort, outcomes={"death": replace(death, event=event)})
    poisoned = replace(scored, landmarks=replace(scored.landmarks, cohort=other))
    again, notes = with_update(poisoned, "death", "intercept")
    assert np.array_equal(again.fold, first.fold)
    old, new = (one.risks["gnn+intercept"]["death"] for one in (first, again))
    assert np.array_equal(old[half == 0], new[half == 0])
    assert (old[half == 1] != new[half == 1]).all()  # nobody had the event there: not updated
    assert np.array_equal(new[half == 1], Update("survival")(scored.risks["gnn"]["death"])[half == 1])
    assert re.search(r"death: none by one half, intercept \+\d\.\d\d by the other", notes[0])
    assert f"(none: fewer than {MIN_CASES} patients with the event)" in notes[0]


def test_too_few_to_update_by_leave_the_risks(planted):
    scored = planted(30)
    again, notes = with_update(scored, "death", "slope")
    assert notes == [
        f"gnn+slope, death: fewer than {MIN_CASES} patients with the event in a half; not updated"
    ]
    assert np.allclose(again.risks["gnn+slope"]["death"], scored.risks["gnn"]["death"])
    with pytest.raises(InputError, match="must be intercept or slope"):
        with_update(scored, "death", "both")


def test_the_fit_is_a_logistic_regression_for_a_label():
    """The score equations hold: what came and what is forecast have equal sums, plain and times the logit."""
    rng = np.random.default_rng(0)
    risk, weight = rng.uniform(0.05, 0.95, 400), rng.uniform(0.5, 2, 400)
    case = rng.random(400) < risk**2
    update = fit_update("diagnosis", "slope", risk, case, weight)
    left, logit = weight * (case - update(risk)), np.log(risk / (1 - risk))
    assert left.sum() == pytest.approx(0, abs=1e-6) and left @ logit == pytest.approx(0, abs=1e-6)
    against = fit_update("diagnosis", "slope", 1 - risk, case, weight)
    assert against.slope == 1.0  # a slope that falls would turn the ranks round
