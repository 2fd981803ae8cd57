"""Calibrated intervals, sets and bounds: each against a slow plain answer, and held to what it promises."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from gnnpatient import InputError, PrognosisModel, load_predictor, read_cohort
from gnnpatient.cli.evaluate import show_scores
from gnnpatient.datasets.clinic import write_clinic
from gnnpatient.metrics import censoring, coverage
from gnnpatient.prognosis.conformal import Calibration
from gnnpatient.prognosis.forecast import DiagnosisForecast, Forecast
from gnnpatient.prognosis.values import ProgressionForecast
from gnnpatient.study.coverage import coverage_rows
from gnnpatient.study.evaluate import evaluate
from gnnpatient.study.scoreboard import ModelRisks, ObservedOutcome, seen_values
from gnnpatient.study.subgroups import groups_of

ALPHA = 0.1


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def held_out(rng):
    """Scores of 300 patients, some of whom count for more."""
    score, weight = rng.beta(2, 2, 300), rng.uniform(0.5, 2, 300)
    total = weight.sum() + weight.max()
    share = {"method": "cv+", "patients": 300, "least": 10}
    return Calibration.of(score, weight / total, weight.max() / total, **share), score, weight / total


def whose(size):
    return np.arange(size).astype(str), np.zeros(size), np.ones(size, bool)


def test_steps_are_of_ten_patients_and_never_say_too_little(held_out):
    found, score, mass = held_out
    reserve = mass.max()
    assert len(found.scores) == 29 and found.total == 1.0
    for i, (kept, above) in enumerate(zip(found.scores, found.above, strict=True)):
        tenth = np.sort(score)[::-1][10 * i + 9]  # ten more lie at or above each
        assert tenth <= kept < tenth + 2e-4
        exact = mass[score > tenth].sum() + reserve
        assert exact <= above + 1e-12 and above < exact + 2e-4
    for level in (0.5, 0.8, 0.9, 0.96):
        order = np.argsort(-score)
        inside = (
            np.append(0, mass[order].cumsum())[:-1] + reserve <= 1 - level
        )  # the plain conformal quantile
        assert found.threshold(level) >= score[order][inside].min() - 1e-9
    assert found.threshold(0.99) is None and not found.reaches(0.99) and found.reaches(0.9)
    assert found.promise(0.9) == 0.8 and replace(found, method="split").promise(0.9) == 0.9
    assert Calibration.read(json.loads(json.dumps(found.written(1)))) == found
    assert Calibration.of(score[:19], mass[:19], 0.1, method="split", patients=19, least=10) is None


@pytest.mark.parametrize("events", [20, 23, 29, 41, 97, 300])
def test_no_step_is_of_fewer_than_ten_patients_not_the_last_either(rng, events):
    """What lies below the last step is known by subtraction, and of a time that is a share of events."""
    mass = rng.uniform(1, 3, events) / 1000
    found = Calibration.of(
        rng.uniform(0, 1, events), mass, 0.003, method="cv+", patients=400, least=10, cutoff=100.0
    )
    smallest = np.sort(mass)[:10].sum() - 2e-4  # of ten patients, but for the rounding
    assert (np.diff([*found.above, found.total]) > smallest).all()


@pytest.mark.parametrize(("beyond", "reached"), [(0, 0.95), (4, 0.95), (25, 0.9), (31, 0.89), (60, 0.79)])
def test_what_no_answer_can_hold_counts_as_missed(rng, beyond, reached):
    """Values beyond the bins are in no interval: an answer of a level allows for them."""
    score = np.append(rng.uniform(0, 1, 300 - beyond), np.full(beyond, np.inf))
    share = np.full(300, 1 / 301)
    found = Calibration.of(score, share, 1 / 301, method="cv+", patients=300, least=10)
    assert found.reaches(reached) and np.isfinite(found.scores).all()
    if beyond:
        assert not found.reaches(1 - beyond / 301)
    for level in (0.5, 0.7, reached):
        assert np.mean(score <= found.threshold(level)) >= level


def surprise_allowed(known, score):
    """Whether a score of each member is no more surprising than those of enough patients: a plain walk."""
    reached = known.above[0]
    for member in score:
        for kept, mass in zip(known.scores, known.mass, strict=True):
            reached += mass / len(score) * (kept >= member - 1e-9)
    return reached > ALPHA + 1e-12


def test_an_interval_is_what_surprises_no_more_than_enough_patients(held_out, rng):
    known, edges = held_out[0], np.linspace(0, 10, 11)
    members = rng.dirichlet(np.full(10, 2.0), (5, 4)).transpose(0, 1, 2)[..., None]
    whole = np.concatenate([np.full((5, 4, 1, 1), 0.5), members], 2)
    last, to, alive = np.full(4, np.nan), np.full(4, 30.0), np.ones((4, 1))
    forecast = ProgressionForecast(
        "x", ("c",), "", "value", np.array([30.0]), edges, members.mean(0), np.ones((4, 1)), alive, last, to,
        *whose(4), whole, calibration=known,
    )  # fmt: skip
    low, high = forecast.interval(1 - ALPHA)
    plain = replace(forecast, calibration=None).interval(1 - ALPHA)
    assert (low < high).all() and not np.allclose(low, plain[0])
    for row in range(4):
        upto = np.concatenate([np.zeros((5, 1)), members[:, row, :, 0].cumsum(1)], 1)

        def allowed(y, upto=upto):
            return surprise_allowed(known, [abs(2 * np.interp(y, edges, one) - 1) for one in upto])

        grid = np.linspace(0, 10, 2001)
        inside = grid[[allowed(y) for y in grid]]
        assert (low[row], high[row]) == pytest.approx((inside.min(), inside.max()), abs=0.011)
    alone = replace(forecast, members=None)
    q = known.threshold(1 - ALPHA)
    expected = replace(alone, calibration=None).quantile([(1 - q) / 2, (1 + q) / 2]).T
    np.testing.assert_allclose(alone.interval(1 - ALPHA), expected)
    with pytest.raises(InputError, match=r"level 1; must be above 0"):
        forecast.interval(1)


def test_a_set_has_each_class_that_surprises_no_more_than_enough_patients(held_out, rng):
    members = rng.dirichlet([2.0, 1.0, 0.5, 0.2], (5, 40))
    known = held_out[0]
    forecast = DiagnosisForecast(
        "x", ("a", "b", "c", "d"), members.mean(0), *whose(40), members, calibration=known
    )
    found, sizes = forecast.class_set(1 - ALPHA), set()
    for row, slot in np.ndindex(40, 4):
        best = slot == members.mean(0)[row].argmax()
        assert found[row, slot] == (best or surprise_allowed(known, 1 - members[:, row, slot]))
        sizes.add(int(found[row].sum()))
    assert len(sizes) > 1 and min(sizes) >= 1
    assert replace(forecast, calibration=None).class_set(0.9).all()
    wider = forecast.class_set(0.95)
    assert (wider >= found).all() and wider.sum() > found.sum()


@pytest.mark.parametrize("total", [1.0, 0.3, 0.08])
def test_a_bound_is_the_first_time_that_surprises_no_more_than_enough(held_out, rng, total):
    """Of a time only events have a score; with hardly any the bound is all that can be said."""
    known = held_out[0]
    above = tuple(total * a for a in known.above)
    known = replace(known, above=above, total=total, cutoff=80.0)
    times = np.array([10.0, 30.0, 60.0, 100.0])
    hazard = rng.uniform(0, 0.3, (5, 6, 4))
    free = (1 - hazard).cumprod(-1)
    members = np.stack([free, 1 - free], 2)
    forecast = Forecast("x", ("x",), times, members.mean(0), *whose(6), members, calibration=known)
    found = forecast.time_bound(1 - ALPHA)
    grid = np.arange(0, 80.01, 0.05)
    for row in range(6):
        early = [np.interp(grid, np.append(0, times), np.append(1, one)) for one in free[:, row]]
        allowed = [surprise_allowed(known, one) for one in np.array(early).T]
        first = grid[allowed].min() if any(allowed) else 80.0
        assert found[row] == pytest.approx(first, abs=0.06)
    assert (found == 80.0).all() == (total < ALPHA)
    shown = forecast.statement().removeprefix("event-free for ").partition(" d or longer")[0]
    assert 0.99 * found[0] < float(shown) <= found[0], "rounded down"
    late = replace(forecast, at=np.full(6, 400.0), calibration=replace(known, until=365.0))
    assert np.isnan(late.time_bound()).all() and "too few landmarks so late" in late.statement()
    assert forecast.given_event_free(20).calibration is None


def test_a_bound_holds_whoever_is_lost(rng):
    """A model that is wrong, and censoring that takes half: with the weights it holds, else it does not."""
    held, naive = [], []
    for _ in range(60):
        x, n = rng.uniform(0.5, 2, 400), 300
        t, c = rng.exponential(100 / x), rng.exponential(70.0, 400)
        time, event = np.minimum(t, c), (t <= c).astype(int)
        cutoff = 60.0
        said = lambda when: np.exp(-when / 60)  # noqa: E731  # the same for all, and too steep
        g = censoring(time[:n], event[:n])
        had = (event[:n] > 0) & (time[:n] <= cutoff)
        weight = 1 / g.left(time[:n][had])
        free = np.stack([said(np.array([10.0, 20, 30, 40, 50, 60]))] * 100)[:, None]
        for mass, out in ((weight, held), (np.ones(had.sum()), naive)):
            top = mass.max() if len(mass) else 1.0
            made = Calibration.of(
                said(time[:n][had]), mass / (n + 1), top / (n + 1), method="split", patients=n, least=10,
                cutoff=cutoff,
            )  # fmt: skip
            curves = np.concatenate([free, 1 - free], 1)
            forecast = Forecast("x", ("x",), np.arange(10.0, 61, 10), curves, *whose(100), calibration=made)
            bound = forecast.time_bound(0.7)
            out.append(np.mean(np.minimum(t[n:], cutoff) >= bound))
    assert 0.69 < np.mean(held) < 0.76 and np.mean(naive) < 0.66


# ---- fitted


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clinic") / "data"
    truth = write_clinic(folder, 700, seed=3)
    return read_cohort("clinic", folder), truth


@pytest.fixture(scope="module")
def fitted(clinic):
    X = clinic[0].landmarks(np.arange(300), times=["entry", 365, 730]).followed("level")
    return PrognosisModel(outcomes=["level", "death"], families=("linear",), members=5).fit(X)


def test_a_fit_calibrates_on_folds_and_a_saved_model_says_the_same(clinic, fitted, tmp_path):
    X = clinic[0].at(365, patient=np.arange(300, 420), to=730).followed("level")
    found = fitted.forecast(X)
    assert set(fitted.predictor_.calibrations) == {"level", "death"}
    for one in fitted.predictor_.calibrations.values():
        assert one.method == "cv+" and 200 < one.patients <= 300
    fitted.save_pretrained(tmp_path / "model")
    again = load_predictor(tmp_path / "model").forecast(X)
    np.testing.assert_array_equal(found["level"].interval(), again["level"].interval())
    np.testing.assert_array_equal(found["death"].time_bound(), again["death"].time_bound())
    assert "probability 0.9" in again["death"][0].statement() and again["level"].is_calibrated
    kept = json.loads((tmp_path / "model" / "config.json").read_text())["calibrations"]["level"]
    steps = np.diff([*kept["above"], kept["total"]])
    assert (steps > 9 / 300 / 3).all() and kept["patients"] % 10 == 0  # those who count a third, too
    assert all(score == round(score, 4) for score in kept["scores"])
    part = fitted.forecast(X, families="linear")["level"]  # a part of the model was not held against anybody
    assert part.calibration is None and part.statement().startswith("not calibrated")


def test_older_models_are_read_and_are_not_calibrated(fitted, tmp_path):
    from gnnpatient.files import sealed

    fitted.save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text())
    del config["calibrations"], config["digest"]
    file.write_text(sealed(config))
    assert load_predictor(tmp_path / "model").calibrations == {}


def test_coverage_is_what_a_slow_count_gives(clinic, fitted):
    cohort, truth = clinic
    X = cohort.landmarks(np.arange(300, 700), times=[0, 365]).followed("death")
    scored = ModelRisks.of([({"gnn": fitted.predictor_}, X)], "death", [365.0])
    rows = coverage_rows(scored, ObservedOutcome.of(X, "death"), n=30)
    assert [row["landmark"] for row in rows] == [0.0, 365.0, None]
    bound, said = fitted.forecast(X)["death"].time_bound(), X.outcome("death")
    for row in rows[:2]:
        mine = X.days == row["landmark"]
        time, event = said["time"][mine], said["event"][mine].astype(int)
        missed = (event > 0) & (time < bound[mine])
        g = censoring(time, event)
        plain = 1 - sum(1 / g.left(t) for t in time[missed]) / mine.sum()
        assert row["value"] == pytest.approx(plain) and row["low"] < plain < row["high"]
        assert row["size"] == pytest.approx(bound[mine].mean()) and row["promise"] == 0.8
        true = np.mean(truth.death[X.patient[mine]] - row["landmark"] >= bound[mine])
        assert row["value"] == pytest.approx(true, abs=0.03) and 0.84 < true < 0.96
    assert rows[2]["value"] == pytest.approx((rows[0]["value"] + rows[1]["value"]) / 2)
    Y = cohort.at(365, patient=np.arange(300, 700), to=730).followed("level")
    scored = ModelRisks.of([({"gnn": fitted.predictor_, "part": Part(fitted)}, Y)], "level")
    (row,) = coverage_rows(scored, ObservedOutcome.of(Y, "level"), n=30)
    value, interval = seen_values(Y, "level"), fitted.forecast(Y)["level"].interval()
    assert row["value"] == pytest.approx(coverage(*interval, value)) and row["what"] == "interval"
    assert row["patients"] == np.isfinite(value).sum() and 0.85 < row["value"] < 0.95


def test_coverage_of_a_group_is_that_of_its_patients_alone(clinic, fitted, capsys):
    """Each with its own weights for who was lost; the interval of the group whose answers fail says so."""
    cohort = clinic[0]
    X = cohort.landmarks(np.arange(300, 700), times=[0, 365]).followed("death")
    name = cohort.spec.patient.category[0]
    for Y, outcome, times in (
        (X, "death", [365.0]),
        (cohort.at(365, patient=np.arange(300, 700), to=730).followed("level"), "level", []),
    ):
        scored = ModelRisks.of([({"gnn": fitted.predictor_}, Y)], outcome, times)
        found = evaluate(scored, outcome=outcome, horizons=times, by=[name], n=30).calibrated
        (parts,) = groups_of(Y, [name]).values()
        assert [*dict.fromkeys(row["group"] for row in found)] == [None, *parts] and len(parts) > 1
        whole = coverage_rows(scored, ObservedOutcome.of(Y, outcome), n=30)
        assert [row for row in found if row["group"] is None] == whole
        for group, members in parts.items():
            alone = ModelRisks.of([({"gnn": fitted.predictor_}, Y[members])], outcome, times)
            said = coverage_rows(alone, ObservedOutcome.of(Y[members], outcome), n=30)
            mine = [row for row in found if row["group"] == group]
            for one, other in zip(mine, said, strict=True):
                assert one == pytest.approx(other | {"group": group}) and one["patients"] >= 20
            assert mine[-1]["low"] < mine[-1]["value"] <= mine[-1]["high"]
        patients = [row["patients"] for row in found if row["group"] and row["landmark"] == Y.days[0]]
        assert sum(patients) == whole[0]["patients"]
    group, members = next(iter(parts.items()))
    ends = scored.calibrated["gnn"].copy()
    ends[members] -= 1e6
    missed = evaluate(
        replace(scored, calibrated={"gnn": ends}), outcome="level", horizons=[], by=[name], n=30
    )
    values = {row["group"]: row["value"] for row in missed.calibrated}
    assert values[group] == 0 and min(v for g, v in values.items() if g not in (group, None)) > 0.8
    (line,) = missed.coverage_sentences  # of everybody alone
    assert line.startswith("gnn: the 0.9 interval holds in ") and f"{values[None]:.3f}" in line
    show_scores(missed)
    printed = capsys.readouterr().out
    assert re.search(rf"gnn +{group} +365 d +\d+ +0\.000 \[", printed) and "no group has one" in printed


def test_where_every_answer_held_the_interval_is_that_of_so_many_patients(clinic, fitted):
    """All draws of patients who were all covered are 1, which is no certainty: of n, .025 ** (1 / n)."""
    Y = clinic[0].at(365, patient=np.arange(300, 400), to=730).followed("level")
    scored = ModelRisks.of([({"gnn": fitted.predictor_}, Y)], "level")
    observed = ObservedOutcome.of(Y, "level")
    for ends, value in (((-1e9, 1e9), 1.0), ((-1e9, -1e8), 0.0)):
        wide = replace(scored, calibrated={"gnn": np.tile(np.array(ends), (len(Y), 1))})
        (row,) = coverage_rows(wide, observed, n=30)
        away = 1 - 0.025 ** (1 / row["patients"])
        assert row["value"] == value and row["patients"] > 30
        assert (row["low"], row["high"]) == pytest.approx((1 - away, 1) if value else (0, away))


class Part:
    """A part of a model, of which nothing is calibrated: it has no row."""

    def __init__(self, model):
        self.model = model

    def forecast(self, X):
        return self.model.forecast(X, families="linear")


@pytest.mark.slow
def test_nine_of_ten_values_lie_in_the_interval(tmp_path):
    """4 000 held-out patients of the simulated clinic, at four landmarks."""
    write_clinic(tmp_path / "data", 6000, seed=11)
    cohort = read_cohort("clinic", tmp_path / "data")
    X = cohort.landmarks(np.arange(2000), n=8, seed=0).followed("level")
    model = PrognosisModel(outcomes=["level"], families=("linear",)).fit(X)
    inside, seen = 0, 0
    for at, to in ((0, 365), (365, 730), (730, 1095), (1095, 1825)):
        Y = cohort.at(at, patient=np.arange(2000, 6000), to=to).followed("level")
        value, (low, high) = seen_values(Y, "level"), model.forecast(Y)["level"].interval(0.9)
        inside += ((value >= low) & (value <= high)).sum()
        seen += np.isfinite(value).sum()
    assert seen > 6000 and 0.885 < inside / seen < 0.915
