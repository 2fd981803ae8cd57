"""The made-up ward goes the road of any cohort, and its true risk stands beside a model as another model."""

import numpy as np
import pytest

pytest.importorskip("PIL")


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """A cohort read from the tables and pictures of a ward, and its truth."""
    from gnnpatient import read_cohort, read_spec
    from gnnpatient.datasets.ward import write_ward

    folder = tmp_path_factory.mktemp("ward") / "data"
    truth = write_ward(folder, n=150, seed=3)
    return read_cohort(read_spec("ward"), folder), truth


def test_every_kind_is_there_and_no_row_is_lost(ward):
    cohort, truth = ward
    assert (cohort.ids == truth.ids).all()
    assert all(len(cohort.events[kind]) for kind in cohort.spec.nodes)
    for table, counts in cohort.report["tables"].items():
        assert counts["rows"] == counts["used"] + counts["collapsed"], table
    assert set(cohort.vectors) == {"image", "note"} and set(cohort.report["encoders"]) == {"image", "note"}
    open_ = np.asarray(cohort.events["drug"].until) > cohort.events["drug"].happened
    assert open_.all()


def test_the_oracle_is_the_truth(ward):
    from gnnpatient.study.oracle import Oracle

    cohort, truth = ward
    X = cohort.at(5.0)
    oracle = Oracle("death", cohort.outcomes["death"].causes, np.array([5.0, 10.0, 20.0]), truth.risk)
    forecast = oracle.forecast(X)["death"]
    here = X.at_risk("death")
    assert np.isnan(forecast.incidence[~here]).all() and here.sum() > 50
    assert np.allclose(forecast.incidence[here].sum(1), 1)
    assert (np.diff(forecast.incidence[here][:, 1:], axis=2) >= 0).all()
    assert np.allclose(forecast.risk("death", 10.0)[here], truth.risk(X.patient[here], 5.0, 10.0, "death"))


def test_nobody_does_better_than_the_oracle(ward):
    from gnnpatient.study.baselines import MarginalModel
    from gnnpatient.study.evaluate import evaluate
    from gnnpatient.study.oracle import Oracle
    from gnnpatient.study.scoreboard import ModelRisks

    cohort, truth = ward
    X, causes, grid = (
        cohort.at(4.0).followed("death"),
        cohort.outcomes["death"].causes,
        np.linspace(1, 15, 15),
    )
    models = {
        "oracle": Oracle("death", causes, grid, truth.risk),
        "null": MarginalModel("death", causes, grid, np.tile([[0.5], [0.3], [0.2]], (1, len(grid)))),
    }
    scored = ModelRisks.of([(models, X)], "death", grid)
    found = evaluate(scored, outcome="death", horizons=[10.0], against=None, n=10)
    rows = [r for r in found.rows if r["metric"] == "auc" and r["cause"] == "death" and r["landmark"]]
    auc = {row["model"]: row["value"] for row in rows}
    assert auc["oracle"] > 0.7 > auc["null"] == 0.5
    assert not any("sees nothing" in line for line in found.warnings)
    blind = ModelRisks.of([({**models, "cox": models["null"]}, X)], "death", grid)  # as a Cox model would be
    (line,) = [
        w for w in evaluate(blind, outcome="death", horizons=[10.0], n=2, against=None).warnings if "cox" in w
    ]
    assert line.startswith("cox counts the rows of image, note and sees nothing of what is in them")


def test_the_ward_of_datasets_is_the_same_road():
    from gnnpatient.datasets.shipped import ward

    cohort = ward(30, seed=1, missing=0.0)
    assert len(cohort) == 30 and len(cohort.vectors["image"]) >= 30
