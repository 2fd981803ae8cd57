"""An ACES task file as an outcome: asked at moments of its own, on the events of a format."""

from datetime import datetime

import numpy as np
import polars as pl
import pytest

from gnnpatient.errors import InputError

TOML = """
cohort = "c"
format = "meds"
[patient]
origin = { code = "ADMIT", pick = "first" }
[nodes.lab]
where = { code = "LAB//*" }
[outcomes.mortality]
kind = "diagnosis"
task = "mortality.yaml"
[outcomes.death]
kind = "survival"
causes = { death = { where = { code = "MEDS_DEATH" } } }
exit = { code = "*", pick = "last" }
"""
TASK = """
predicates:
  admit: { code: ADMIT }
  leave: { code: LEAVE }
  death: { code: MEDS_DEATH }
  leave_or_death: { expr: "or(leave, death)" }
trigger: admit
windows:
  input:
    start: null
    end: trigger + 24h
    start_inclusive: true
    end_inclusive: true
    index_timestamp: end
  target:
    start: input.end
    end: start -> leave_or_death
    start_inclusive: false
    end_inclusive: true
    label: death
"""
DAY = datetime(2020, 1, 1).toordinal()


def event(who: int, day: int, code: str, hour: int = 8) -> dict:
    at = datetime.fromordinal(DAY + day).replace(hour=hour)
    return {"subject_id": who, "time": at, "code": code, "numeric_value": 1.0}


ROWS = [
    *(event(1, 0, "ADMIT"), event(1, 1, "LAB//a"), event(1, 3, "MEDS_DEATH", 9)),
    *(event(2, 0, "ADMIT"), event(2, 2, "LEAVE"), event(2, 40, "ADMIT"), event(2, 44, "MEDS_DEATH", 9)),
    *(event(3, 5, "ADMIT"), event(3, 9, "LEAVE"), event(3, 30, "LAB//a")),
    *(event(4, 5, "ADMIT"), event(4, 5, "LEAVE", 20)),  # gone within a day: not asked
]


@pytest.fixture
def cohort(tmp_path):
    from gnnpatient import read_cohort

    (tmp_path / "data").mkdir()
    frame = pl.DataFrame(ROWS).with_columns(pl.col("time").cast(pl.Datetime("us")))
    frame.cast({"numeric_value": pl.Float32}).write_parquet(tmp_path / "data" / "0.parquet")
    (tmp_path / "c.toml").write_text(TOML)
    (tmp_path / "mortality.yaml").write_text(TASK)
    return read_cohort(tmp_path / "c.toml", tmp_path)


def test_it_is_asked_at_its_own_moments(cohort, tmp_path):
    from gnnpatient import open_cohort

    again = open_cohort(cohort.save(tmp_path / "packed"))
    for one in (cohort, again):
        asks = one.moments("mortality")
        truth = asks.outcome("mortality")
        found = [(i, d, int(label)) for i, d, label in zip(asks.ids, asks.days, truth["label"], strict=True)]
        assert found == [("1", 1.0, 1), ("2", 1.0, 0), ("2", 41.0, 1), ("3", 1.0, 0)]
        assert np.isnan(truth["time"]).all()
        assert len(one.at(2.5).followed("mortality")) == 0
        with pytest.raises(InputError, match="4 of 4 landmarks are not at risk"):
            one.at(2.5).outcome("mortality")
    steps = {step["step"]: step["n"] for step in cohort.flow() if step["outcome"] == "mortality"}
    assert steps["patients with a moment of the task"] == 3 and steps["moments"] == 4
    assert (steps["label: no"], steps["label: yes"]) == (2, 2)


def test_what_cannot_be_is_refused(cohort, tmp_path):
    from gnnpatient import PrognosisModel, read_cohort

    with pytest.raises(InputError, match="has no prediction times of its own"):
        cohort.moments("death")
    with pytest.raises(
        InputError, match=r"'mortality' is a diagnosis and has no time to an event; .*: death"
    ):
        cohort.survival("mortality")
    with pytest.raises(InputError, match="4 of 4 landmarks are not at risk"):
        PrognosisModel(outcomes=["mortality"]).fit(cohort.at(2.5))
    for old, new, message in (
        ('"mortality.yaml"', '"../mortality.yaml"', "leads out of"),
        ('"mortality.yaml"', '"none.yaml"', r"none\.yaml"),
        ('task = "mortality.yaml"', 'task = "mortality.yaml"\nhorizon = "1y"', "a task file has its own"),
    ):
        (tmp_path / "c.toml").write_text(TOML.replace(old, new))
        with pytest.raises(InputError, match=message):
            read_cohort(tmp_path / "c.toml", tmp_path)


@pytest.mark.filterwarnings("ignore:.*learned from so few:UserWarning")
def test_it_is_trained_and_answered_at_its_own_moments(cohort):
    from gnnpatient import PrognosisModel
    from gnnpatient.prognosis.run import scored_landmarks, training_landmarks

    plan = {"outcomes": ["mortality"], "landmarks": [0.0, 2.5], "seed": 0}
    asks = training_landmarks(cohort, np.array([0, 1]), plan)
    assert list(zip(asks.ids, asks.days, strict=True)) == [("1", 1.0), ("2", 1.0), ("2", 41.0)]
    both = training_landmarks(cohort, np.array([0, 1]), plan | {"outcomes": ["mortality", "death"]})
    assert set(asks.days) < set(both.days) and {0.0, 2.5} < set(both.days)
    assert scored_landmarks(cohort, np.array([1, 2]), "mortality", [7.0]).days.tolist() == [1.0, 41.0, 1.0]
    model = PrognosisModel(outcomes=["mortality"], members=1, epochs=1).fit(asks)
    said = model.forecast(cohort.at([1.0, 2.0, 41.0], patient=["2", "2", "2"]))["mortality"]
    assert said.at_risk.tolist() == [True, False, True] and np.isfinite(said.risk()[said.at_risk]).all()


def test_a_split_spreads_the_patients_labels(cohort):
    from gnnpatient import StratifiedPatientKFold

    assert cohort.outcomes["mortality"].strata.tolist() == [2, 2, 1, 0]
    parts = StratifiedPatientKFold(2, outcome="mortality").split(cohort.at(0.0))
    assert all((cohort.outcomes["mortality"].strata[test] == 2).sum() == 1 for _, test in parts)
