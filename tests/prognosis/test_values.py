"""The forecast of a value: quantiles, means and chances at any time, and what no forecast is."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from gnnpatient import InputError, ProgressionForecast, read_cohort

SPEC = """
cohort = "c"
[patient]
table = "p.csv"
key = "pid"
[nodes.lab]
table = "lab.csv"
time = "day"
code = "code"
value = "value"
unit = "unit"
[outcomes.death]
kind = "survival"
table = "p.csv"
causes = { death = { time = "day", flag = "died" } }
[outcomes.k]
kind = "progression"
node = "lab"
codes = ["k"]
gone = "death"
[outcomes.k_change]
kind = "progression"
node = "lab"
codes = ["k"]
target = "change"
[outcomes.k_worse]
kind = "progression"
node = "lab"
codes = ["k"]
worse = { plus = 1 }
horizon = "10d"
"""
EDGES = [0.0, 1.0, 2.0, 4.0]
TIMES = [10.0, 20.0]
SHARES = [[0.2, 0.0], [0.5, 0.5], [0.3, 0.5]]  # (bin, time)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Three patients; the first dies on day 3, the last has no value."""
    folder = tmp_path_factory.mktemp("values")
    (folder / "p.csv").write_text("pid,day,died\na,3,1\nb,99,0\nc,99,0\n")
    (folder / "lab.csv").write_text("pid,day,code,value,unit\na,0,k,1,mmol/L\nb,0,k,3,mmol/L\nc,0,z,3,g\n")
    (folder / "c.toml").write_text(SPEC)
    return read_cohort(folder / "c.toml", folder)


@pytest.fixture(scope="module")
def X(cohort):
    return cohort.at(5, to=20)


@pytest.fixture(scope="module")
def p():
    return np.tile(SHARES, (3, 1, 1))


@pytest.fixture(scope="module")
def forecast(X, p):
    seen, alive = np.tile([0.8, 0.4], (3, 1)), np.tile([0.9, 0.7], (3, 1))
    return ProgressionForecast.from_array(p, EDGES, TIMES, X, "k", seen=seen, alive=alive)


def test_quantiles_lie_evenly_inside_a_bin(forecast):
    assert forecast.unit == "mmol/L" and forecast.target == "value" and len(forecast) == 3
    at_10 = forecast.quantile([0, 0.1, 0.2, 0.45, 0.7, 0.85, 1], to=10)
    assert at_10[1] == pytest.approx([0, 0.5, 1, 1.5, 2, 3, 4])
    assert forecast.quantile(0, to=20)[1] == 1  # nothing lies in the first bin then
    assert np.isnan(at_10[0]).all()  # dead by day 5
    assert forecast.quantile(0.25, to="20d")[1:] == pytest.approx([1.5, 1.5])
    low, high = forecast.interval(0.5, to=10)
    assert (low[1], high[1]) == pytest.approx((1.1, 2 + 0.05 / 0.3 * 2))


def test_between_times_lies_a_mixture(forecast, p):
    half = p.mean(2)
    assert forecast.quantile(0.1, to=15)[1] == pytest.approx(1.0)  # a tenth below 1
    assert forecast.mean(to=15)[1] == pytest.approx(half[1] @ [0.5, 1.5, 3])
    assert forecast.mean(to=1)[1] == pytest.approx(p[1, :, 0] @ [0.5, 1.5, 3])  # before the first: as there
    assert forecast.p_seen(to=15)[1] == pytest.approx(0.6) and forecast.p_seen(to=1)[1] == pytest.approx(0.8)
    assert forecast.p_alive(to=5)[1] == pytest.approx(0.95) and forecast.p_alive()[1] == pytest.approx(0.8)


def test_each_landmark_has_its_own_time(forecast):
    rows = forecast[1:]
    own = rows.mean(to=[10, 20])
    assert own == pytest.approx([rows.mean(to=10)[0], rows.mean(to=20)[1]])
    assert (rows.mean() == rows.mean(to=15)).all() and rows.ids.tolist() == ["b", "c"]


def test_quantiles_never_cross(X):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(6, 0.3), (3, 2)).transpose(0, 2, 1)
    p[:, :2] = 0  # empty bins
    p /= p.sum(1, keepdims=True)
    forecast = ProgressionForecast.from_array(p, np.cumsum(rng.random(7)), TIMES, X, "k")
    for to in (3, 10, 13, 20):
        q = forecast.quantile(np.linspace(0, 1, 101), to)[1:]
        assert (
            (np.diff(q) >= 0).all()
            and (q >= forecast.edges[2]).all()
            and (q[:, -1] <= forecast.edges[-1]).all()
        )


def test_fine_bins_are_the_distribution_that_was_given(X):
    edges = np.linspace(-8, 8, 65)
    p = np.diff(norm.cdf(edges, 1.2, 0.9)).reshape(1, -1, 1)
    forecast = ProgressionForecast.from_array(np.repeat(p / p.sum(), 3, 0), edges, [20], X, "k")
    q = np.array([0.05, 0.3, 0.5, 0.95])
    assert forecast.quantile(q)[1] == pytest.approx(norm.ppf(q, 1.2, 0.9), abs=0.02)
    assert forecast.mean()[1] == pytest.approx(1.2, abs=1e-3)
    assert forecast.mean(of=np.square)[1] == pytest.approx(1.2**2 + 0.9**2, abs=0.02)


def test_the_change_is_from_the_last_value(forecast, X, p):
    assert forecast.last[1] == 3 and np.isnan(forecast.last[2])
    assert forecast.change(to=10)[1] == pytest.approx(forecast.mean(to=10)[1] - 3)
    assert forecast.change([0.1, 0.9])[1] == pytest.approx(forecast.quantile([0.1, 0.9])[1] - 3)
    assert np.isnan(forecast.change()[2])
    change = ProgressionForecast.from_array(p, EDGES, TIMES, X, "k_change")
    assert change.target == "change" and change.at_risk.tolist() == [True, True, False]  # c has no last value
    assert (change.change(0.5)[:2] == change.quantile(0.5)[:2]).all()
    assert change.p_alive()[:2].tolist() == [1, 1]  # nothing ends it


def test_tables(forecast):
    rows = forecast.table().rows(named=True)
    assert [row["id"] for row in rows] == ["b", "c"] and rows[0]["to"] == 15 and rows[0]["last"] == 3
    assert rows[0]["low"] < rows[0]["median"] < rows[0]["high"] and rows[1]["last"] is None
    assert rows[0]["unit"] == "mmol/L" and rows[0]["p_seen"] == pytest.approx(0.6)
    frame = forecast.to_frame()
    assert frame.columns == ["id", "landmark", "time", "quantile", "value"] and len(frame) == 3 * 2 * 5
    assert frame.filter(id="a")["value"].null_count() == 10
    assert frame.filter(id="b", time=10.0, quantile=0.5)["value"][0] == pytest.approx(1.6)


def test_it_says_what_it_is(forecast, X):
    text = repr(forecast[1])
    assert "Forecast of k: 1 landmark, up to 20 d after it" in text and "mmol/L" in text
    assert "in 15 d" in text and "seen 60 %, alive 80 %" in text and "last value  3" in text
    assert "no longer followed at this landmark" in repr(forecast[0])
    assert "1 landmarks, no longer followed" in repr(forecast) and "<table" in forecast[1]._repr_html_()


def test_it_is_drawn(forecast, X, p):
    axes = forecast[1].plot()
    assert axes.get_ylabel() == "mmol/L" and "if seen and alive then" in axes.get_xlabel()
    assert len(axes.collections) == 2 and "Value of k, as known on day 5" in axes.get_title(loc="left")
    assert len(forecast.plot().collections) == 2  # one band for each of two
    assert "no longer followed" in forecast[0].plot().texts[0].get_text()
    many = ProgressionForecast.from_array(np.repeat(p, 3, 0), EDGES, TIMES, X[[0, 1, 2] * 3], "k")
    with pytest.raises(InputError, match="9 landmarks, more than 6"):
        many.plot()


def test_a_time_must_be_asked_for(cohort, forecast, p):
    nobody = ProgressionForecast.from_array(p, EDGES, TIMES, cohort.at(5), "k")
    assert np.isnan(nobody.to).all() and nobody.mean(to=20)[1] == forecast.mean(to=20)[1]
    with pytest.raises(
        InputError, match=r"'k' at what time\? give to='10d', or ask with cohort.at\(day, to=DAY"
    ):
        nobody.mean()
    for to, message in (
        (
            21,
            "to = 21 days; must be after the landmark, and this model answers up to 20 d after the landmark",
        ),
        (0, "to = 0 days"),
        ("-3d", "to = -3 days"),
        ([1, 2], "to: 2 times for 3 landmarks; give one, or one for each"),
        (np.nan, "to = nan days"),
    ):
        with pytest.raises(InputError, match=message):
            forecast.quantile(0.5, to)
    for wrong, message in ((lambda: forecast.quantile(1.1), "quantile 1.1; must be from 0 to 1"),
                           (lambda: forecast.interval(90), "level 90; must be above 0 and below 1"),
                           (lambda: forecast["b"], "a forecast is indexed by landmark")):  # fmt: skip
        with pytest.raises((InputError, TypeError), match=message):
            wrong()


def test_what_another_model_gives(X, p, forecast):
    unread = p.copy()
    unread[0] = np.nan
    for given in (torch.tensor(p, requires_grad=True), unread, p * (1 + 4e-6)):
        other = ProgressionForecast.from_array(given, torch.tensor(EDGES), TIMES, X, outcome="k")
        assert np.allclose(other.probability, forecast.probability, atol=1e-5, equal_nan=True)
    one = ProgressionForecast.from_array(p[..., 0], EDGES, 10, X, "k", seen=[0.1, 0.2, 0.3])
    assert one.times.tolist() == [10] and one.p_seen(10)[1:].tolist() == [0.2, 0.3]


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(outcome=None), "several outcomes are progressions: name one of k, k_change"),
        (dict(outcome="death"), "'death' is no progression of a value; there is k, k_change"),
        (dict(outcome="k_worse"), "'k_worse' is no progression of a value"),
        (dict(outcome="kk"), "unknown outcome 'kk'"),
        (dict(edges=[0, 1, 1, 2]), r"edges must rise.*found \[0.0, 1.0, 1.0, 2.0\]"),
        (dict(edges=[0, 1, 2, np.inf]), "edges must rise, the finite ends"),
        (dict(edges=[0, 1, 2]), r"probability has shape \(3, 3, 2\); must be \(3, 2, 2\)"),
        (dict(times=[0, 1]), "times must be > 0"),
        (dict(probability=np.full((3, 3, 2), 0.4)), "all bins sum to 1.2 in row 1; must be 1"),
        (dict(probability=np.full((3, 3, 2), np.nan)), "probability nan in row 1; .* for every landmark"),
        (dict(seen=np.ones(3)), r"seen has shape \(3,\); must be \(3, 2\)"),
        (dict(alive=np.full((3, 2), 2.0)), r"alive 2 in row 1; must lie in \[0, 1\]"),
    ],
)  # fmt: skip
def test_what_is_no_distribution_is_refused(X, p, wrong, message):
    given = dict(probability=p, edges=EDGES, times=TIMES, landmarks=X, outcome="k") | wrong
    with pytest.raises(InputError, match=message) as refused:
        ProgressionForecast.from_array(**given)
    assert "\n" not in str(refused.value)
