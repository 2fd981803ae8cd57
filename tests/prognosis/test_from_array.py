"""The answer of any other model as a forecast: the same numbers, or one line that says why not."""

import numpy as np
import pytest
import torch

from gnnpatient import DiagnosisForecast, Forecast, InputError

TIMES = [5.0, 10.0, 20.0]


@pytest.fixture(scope="module")
def X(cohort):
    return cohort.at(4)  # some have left


@pytest.fixture(scope="module")
def curves(X):
    """(landmark, cause, time): of discharge and death."""
    steps = np.random.default_rng(0).dirichlet(np.ones(7), len(X))[:, :6]
    return steps.reshape(-1, 2, 3).cumsum(-1)


def test_every_way_to_give_it_is_the_same_forecast(X, curves):
    forecast = Forecast.from_array(curves, TIMES, ("discharge", "death"), X)
    risk = X.at_risk("death")
    assert forecast.outcome == "death" and 0 < risk.sum() < len(X)
    assert (forecast.at_risk == risk).all() and np.isnan(forecast.incidence[~risk]).all()
    assert np.allclose(forecast.incidence[risk, 1:], curves[risk], atol=1e-12)
    assert np.allclose(forecast.incidence[risk].sum(1), 1) and (forecast.ids == X.ids).all()
    assert (forecast.at == 4).all() and forecast.risk("death", 10.0)[risk] == pytest.approx(
        curves[risk, 1, 1]
    )
    unread = np.where(risk[:, None, None], curves, np.nan)
    with_free = np.concatenate([1 - curves.sum(1, keepdims=True), curves], 1)
    for other in (
        Forecast.from_array(unread, TIMES, ["discharge", "death"], X, outcome="death"),
        Forecast.from_array(curves[:, ::-1], np.array(TIMES), ["death", "discharge"], X),
        Forecast.from_array(torch.tensor(curves).float().requires_grad_(), TIMES, ("discharge", "death"), X),
        Forecast.from_array(with_free, torch.tensor(TIMES), ("discharge", "death"), X),
        Forecast.from_array(np.insert(curves, 0, 0, -1), [0, *TIMES], ("discharge", "death"), X),
    ):
        assert other.causes == forecast.causes and other.times.tolist() == TIMES
        assert np.allclose(other.incidence, forecast.incidence, atol=1e-6, equal_nan=True)


def test_one_cause_of_two(X, curves):
    forecast = Forecast.from_array(curves[:, 1], TIMES, "death", X)
    risk = forecast.at_risk
    assert forecast.causes == ("death",) and np.allclose(forecast.risk()[risk], curves[risk, 1, -1])
    assert np.allclose(forecast.event_free[risk], 1 - curves[risk, 1])


def test_rounding_is_removed(X, curves):
    forecast = Forecast.from_array(
        curves * (1 + 4e-6) / curves.sum(1, keepdims=True).max(), TIMES, ("discharge", "death"), X
    )
    assert np.nanmin(forecast.incidence) >= 0 and np.nanmax(forecast.incidence) <= 1
    noisy = np.tile([0.2, 0.2 - 5e-6, 0.3], (len(X), 1))
    risks = Forecast.from_array(noisy, TIMES, "death", X).risks(TIMES)
    assert (np.diff(risks[X.at_risk("death")]) >= 0).all()


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda c: dict(incidence=c[:-1]), r"shape \(79, 2, 3\); must be \(80, 2, 3\).* or \(80, 3, 3\)"),
        (lambda c: dict(incidence=c[:, 0]), r"shape \(80, 3\); must be \(80, 2, 3\)"),
        (lambda c: dict(times=TIMES[:2]), r"must be \(80, 2, 2\)"),
        (lambda c: dict(times=[5, 5, 9]), r"times must rise from > 0.*\[5.0, 5.0, 9.0\]"),
        (lambda c: dict(times=["5d", 6, 7]), "times is list; give an array or a tensor of numbers"),
        (lambda c: dict(causes=("discharge", "deaht")), "no outcome has causes.*'death' has discharge"),
        (lambda c: dict(causes=("death", "death")), "must be different names"),
        (lambda c: dict(outcome="detah"), "unknown outcome 'detah'; did you mean 'death'"),
        (lambda c: dict(incidence=1 - c), r"'discharge' falls after 5 days in row \d+; give"),
        (lambda c: dict(incidence=c * 9), r"must lie in \[0, 1\], not logits or hazard ratios"),
        (lambda c: dict(incidence=-c), r"must lie in \[0, 1\]"),
        (lambda c: dict(incidence=c * np.nan), r"incidence nan in row \d+; .* for every landmark at risk"),
        (lambda c: dict(incidence=c / c.max(-1, keepdims=True)), "all causes sum to 2 in.*must be at most 1"),
        (lambda c: dict(incidence=np.insert(c, 0, 0.9, 1)), "event-free and all causes sum to .* be 1$"),
        (lambda c: dict(times=[0, 5, 9]), "incidence at time 0 must be 0"),
    ],
)  # fmt: skip
def test_what_is_no_incidence_is_refused(X, curves, wrong, message):
    given = dict(incidence=curves, times=TIMES, causes=("discharge", "death"), landmarks=X) | wrong(curves)
    with pytest.raises(InputError, match=message) as refused:
        Forecast.from_array(**given)
    assert "\n" not in str(refused.value)


DIAGNOSIS = """
cohort = "c"
[patient]
table = "p.csv"
key = "pid"
[nodes.lab]
table = "lab.csv"
time = "day"
code = "code"
value = "value"
[outcomes.kind]
kind = "diagnosis"
table = "p.csv"
column = "class"
known = "day"
classes = { x = "first", y = "second", z = "third" }
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Four patients with a diagnosis of three classes; the label of the first is known on day 2."""
    from gnnpatient import read_cohort

    folder = tmp_path_factory.mktemp("diagnosis")
    (folder / "p.csv").write_text("pid,class,day\na,x,2\nb,y,9\nc,z,9\nd,,\n")
    (folder / "lab.csv").write_text("pid,day,code,value\na,0,k,1\nb,0,k,2\n")
    (folder / "c.toml").write_text(DIAGNOSIS)
    return read_cohort(folder / "c.toml", folder).at(5)


def test_a_diagnosis(asked):
    p = np.array([[0.5, 0.25, 0.25]] * 4)
    names = ("third", "first", "second")
    forecast = DiagnosisForecast.from_array(torch.tensor(p), names, asked)
    assert forecast.outcome == "kind" and forecast.classes == ("first", "second", "third")
    assert forecast.at_risk.tolist() == [False, True, True, True]
    assert np.isnan(forecast.probability[0]).all()
    assert (
        forecast.risk("third")[1:].tolist() == [0.5] * 3 and forecast.risk("first")[1:].tolist() == [0.25] * 3
    )
    for wrong, message in (
        (dict(probability=p[:, :2]), r"shape \(4, 2\); must be \(4, 3\)"),
        (dict(probability=p * 1.01), "all classes sum to 1.01 in row 1; must be 1"),
        (dict(probability=p - 0.3), r"must lie in \[0, 1\], not logits"),
        (
            dict(classes=("first", "second")),
            "no outcome has classes first, second; 'kind' has first, second, th",
        ),
    ):
        with pytest.raises(InputError, match=message):
            DiagnosisForecast.from_array(**(dict(probability=p, classes=names, landmarks=asked) | wrong))
