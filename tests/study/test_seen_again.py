"""The second row of a worsening: among those seen again, beside what became of the others."""

import numpy as np
import pytest

from gnnpatient import Forecast, read_cohort
from gnnpatient.datasets.clinic import write_clinic
from gnnpatient.metrics import aalen_johansen
from gnnpatient.prognosis.worsening import WorseningTarget
from gnnpatient.study import evaluate_models
from gnnpatient.study.scoreboard import ModelRisks
from gnnpatient.study.seen_again import between_visits, seen_again

TIMES = [365.0, 730.0]


@pytest.fixture(scope="module")
def X(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clinic") / "data"
    write_clinic(folder, 400, seed=2)
    return read_cohort("clinic", folder).at(365).followed("worse")


def scored(X, risk, fold=None):
    risks = {"worse": np.repeat(risk[:, None], 2, 1), "death": np.zeros((len(X), 2))}
    return ModelRisks(X, np.zeros(len(X), int) if fold is None else fold, {"mine": risks}, np.array(TIMES))


def test_only_those_seen_again_are_ranked(X):
    truth = X.outcome("worse")
    seen = truth["seen"] <= 365
    worse = (truth["event"] == 1) & (truth["time"] <= 365)
    assert 5 < worse.sum() < seen.sum() < len(X) and not (worse & ~seen).any()
    perfect = np.where(worse, 0.9, 0.1)
    misled = np.where(seen, perfect, 1 - perfect)  # wrong where nobody looked
    for risk in (perfect, misled):
        rows, _ = seen_again(scored(X, risk), "worse", [365.0], n=5)
        assert [row["value"] for row in rows] == [1.0] and rows[0]["metric"] == "auc_seen"
    rng = np.random.default_rng(0).random(len(X))
    (row,), _ = seen_again(scored(X, rng), "worse", [365.0], n=50)
    assert row["low"] < 0.5 < row["high"]
    pairs = rng[worse][:, None] - rng[seen & ~worse]
    assert row["value"] == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def test_a_forecast_constant_within_each_fold_gets_exactly_half(X):
    fold = np.arange(len(X)) % 3
    (row,), _ = seen_again(scored(X, fold / 3, fold), "worse", [365.0], n=2)
    assert row["value"] == 0.5


def test_the_others_are_counted_by_what_became_of_them(X):
    truth = X.outcome("worse")
    unseen = ~(truth["seen"] <= 365)
    dead = unseen & (truth["event"] == 2) & (truth["time"] <= 365)
    _, (_, note) = seen_again(scored(X, np.zeros(len(X))), "worse", [365.0], n=2)
    assert f"the {int((~unseen).sum())} of {len(X)} landmarks seen again" in note
    assert f"death {dead.sum() / len(X):.0%}" in note
    assert f"not seen {(unseen & ~dead).sum() / len(X):.0%}" in note


def test_too_few_are_not_ranked(X):
    few = X[np.flatnonzero(X.outcome("worse")["event"] == 0)[:30]]
    (row,), _ = seen_again(scored(few, np.zeros(30)), "worse", [365.0], n=2)
    assert row["value"] is None and row["low"] is None


def test_evaluate_has_both_rows(X):
    curves = np.tile([[0.1, 0.2], [0.05, 0.1]], (len(X), 1, 1))
    forecast = Forecast.from_array(curves, TIMES, ("worse", "death"), X, outcome="worse")
    found = evaluate_models({"mine": forecast}, X, outcome="worse", horizons=TIMES, n=2)
    assert found.value("mine", "auc", cause="worse", horizon=365.0)["value"] == 0.5
    assert found.value("mine", "auc_seen", horizon=730.0)["value"] == 0.5
    assert any(note.startswith("auc_seen at 365 d is of") for note in found.warnings)
    assert any("count it at the visit that shows it" in note for note in found.warnings)
    assert found.events["worse"] == (X.outcome("worse")["event"] == 1).sum()


def curves_of(X, incidence):
    return {name: np.tile(row, (len(X), 1)) for name, row in zip(("worse", "death"), incidence, strict=True)}


def test_what_lies_between_two_visits_is_held_against_the_interval(X):
    """The incidence by self-consistency has O/E 1 and a better score than that by the visit that shows it."""
    grid = np.linspace(60.0, 1095.0, 18)
    target = WorseningTarget.of(X, "worse")
    between = target.marginal(X.moments, tuple(grid))[1:]
    shown = aalen_johansen(target.time, target.event, grid, causes=2)[1:]
    risks = {"between": curves_of(X, between), "shown": curves_of(X, shown)}
    horizon = float(grid[5])
    assert shown[0, 5] < 0.9 * between[0, 5]
    scored = ModelRisks(X, np.zeros(len(X), int), risks, grid)
    rows = between_visits(scored, "worse", [horizon], [("between", "shown")], n=40)
    found = {(row["model"], row["metric"]): row for row in rows}
    assert found["between", "oe_between"]["value"] == pytest.approx(1)
    assert found["shown", "oe_between"]["value"] == pytest.approx(between[0, 5] / shown[0, 5])
    assert found["between", "oe_between"]["low"] < 1 < found["between", "oe_between"]["high"]
    gain = found["between-shown", "log_between"]
    assert gain["low"] > 0 and gain["value"] == pytest.approx(
        found["between", "log_between"]["value"] - found["shown", "log_between"]["value"]
    )
    # alone as in the mean over landmarks, and patients count as often as a draw has them
    twice = ModelRisks(X, np.zeros(len(X), int), {"between": curves_of(X, between / 2)}, grid)
    (half,) = [r for r in between_visits(twice, "worse", [horizon], n=2) if r["metric"] == "oe_between"]
    assert half["value"] == pytest.approx(2)


def test_the_true_incidence_is_not_called_wrong(tmp_path):
    """The truth of the simulated clinic, given all that the rows show."""
    truth = write_clinic(tmp_path / "data", 1200, seed=5)
    X = read_cohort("clinic", tmp_path / "data").at(365).followed("worse")
    grid = np.linspace(91.0, 730.0, 8)
    true = np.stack([truth.worsening(X.patient, X.days, day) for day in grid], 1)
    risks = {"true": {"worse": true, "death": np.zeros_like(true)}}
    scored = ModelRisks(X, np.zeros(len(X), int), risks, grid)
    (row,) = [r for r in between_visits(scored, "worse", [730.0], n=60) if r["metric"] == "oe_between"]
    assert row["low"] < 1 < row["high"] and abs(row["value"] - 1) < 0.15
