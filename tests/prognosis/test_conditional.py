"""Forecasts of those still event-free, and time lost: against closed forms of competing exponentials."""

import numpy as np
import pytest

from gnnpatient import Forecast, InputError

RATES = np.array([[0.1, 0.3], [0.02, 0.05]])  # a day, of each landmark and cause
TIMES = np.linspace(0.05, 12.0, 240)


def exponential(rates: np.ndarray, times: np.ndarray, members: int = 1) -> Forecast:
    """Two causes with constant hazards; each further member has them halved."""
    each = np.stack([rates / 2**m for m in range(members)])
    total = each.sum(-1)[..., None]
    left = -np.expm1(-total * times)
    curves = left[:, :, None] * (each / total)[..., None]
    slots = np.concatenate([1 - left[:, :, None], curves], 2)
    who = np.array(["a", "b"]), np.array([3.0, 4.0]), np.ones(2, bool)
    return Forecast("end", ("x", "y"), times, slots.mean(0), *who, slots if members > 1 else None)


def test_constant_hazards_have_no_memory():
    forecast = exponential(RATES, TIMES)
    for until in (0.0, 0.5, 2.0, 7.0):
        later = forecast.given_event_free(until)
        assert (later.at == forecast.at + until).all() and later.times[-1] == pytest.approx(12 - until)
        assert np.allclose(later.incidence, exponential(RATES, later.times).incidence, atol=1e-12)


def test_between_grid_times_it_is_the_piecewise_linear_curve_itself():
    forecast = exponential(RATES, np.array([1.0, 4.0, 9.0]))
    later = forecast.given_event_free(2.2)
    assert later.times == pytest.approx([1.8, 6.8])
    for t in (0.0, 0.3, 1.8, 5.0, 6.8):
        free = 1 - forecast.risk("x", 2.2) - forecast.risk("y", 2.2)
        for cause in "xy":
            expected = (forecast.risk(cause, min(2.2 + t, 9.0)) - forecast.risk(cause, 2.2)) / free
            assert np.allclose(later.risk(cause, t), expected, atol=1e-12)
    assert np.allclose(later.incidence.sum(1), 1)


def test_in_steps_or_at_once():
    forecast = exponential(RATES, np.array([1.0, 4.0, 9.0]), members=2)
    steps, once = forecast.given_event_free(1.5).given_event_free("1d"), forecast.given_event_free(2.5)
    assert np.allclose(steps.incidence, once.incidence) and np.allclose(steps.times, once.times)
    assert np.allclose(steps.members, once.members)


def test_the_mean_of_members_is_conditioned_not_the_conditioned_averaged():
    forecast = exponential(RATES, TIMES, members=5)
    later = forecast.given_event_free(6.0)
    # who is event-free so long is more likely to have the lower hazards
    assert (later.risk("y", 2.0) < later.members[:, :, 2].mean(0)[:, 39]).all()
    halved = exponential(RATES / 2, later.times)
    assert np.allclose(later.members[1], halved.incidence, atol=1e-12)


def test_nobody_left_and_no_curve():
    slots = np.array([[[0.0, 0.0], [1.0, 1.0]], [[0.5, 0.4], [0.5, 0.6]], [[np.nan] * 2] * 2])
    who = np.array(["a", "b", "c"]), np.zeros(3), np.array([True, True, False])
    later = Forecast("end", ("x",), np.array([1.0, 2.0]), slots, *who).given_event_free(1)
    assert later.at_risk.tolist() == [False, True, False]
    assert later.risk()[1] == pytest.approx(0.2) and np.isnan(later.risk()[[0, 2]]).all()
    assert later.table().height == 1


@pytest.mark.parametrize(
    ("until", "message"),
    [(-1, "horizon -1 days; must be >= 0"), (12.0, "until 12 days; must be before the last time, 12 days")],
)
def test_refusals(until, message):
    with pytest.raises(InputError, match=message):
        exponential(RATES, TIMES).given_event_free(until)


def test_time_lost_is_the_area_under_the_incidence():
    forecast, total = exponential(RATES, np.linspace(0.01, 12.0, 1200)), RATES.sum(1)
    for horizon in (0.0, 3.0, 7.005, 12.0):
        lost = [forecast.time_lost(cause, horizon) for cause in "xy"]
        area = horizon - -np.expm1(-total * horizon) / total  # of 1 - exp(-total t)
        assert np.allclose(lost[0], RATES[:, 0] / total * area, atol=1e-4)
        assert np.allclose(lost[1], RATES[:, 1] / total * area, atol=1e-4)


def test_time_lost_is_exact_for_the_line_between_times():
    slots = np.array([[[0.8, 0.2], [0.2, 0.8]]])
    forecast = Forecast(
        "end", ("x",), np.array([10.0, 20.0]), slots, *(np.array([v]) for v in ("a", 0.0, True))
    )
    assert forecast.time_lost(horizon=10) == pytest.approx([1.0])
    assert forecast.time_lost(horizon=15) == pytest.approx([1.0 + 5 * (0.2 + 0.5) / 2])
    assert forecast.time_lost() == pytest.approx([6.0])


def test_time_lost_in_a_table():
    table = exponential(RATES, TIMES, members=5).time_lost_table([3, "1w"])
    assert table.height == 2 * 2 * 2 and table["horizon"].unique().sort().to_list() == [3.0, 7.0]
    assert (table["low"] < table["time_lost"]).all() and (table["time_lost"] < table["high"]).all()
    alone = exponential(RATES, TIMES).time_lost_table()
    assert alone["low"].null_count() == alone.height == 4
