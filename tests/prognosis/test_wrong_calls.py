"""Wrong calls from Python: each is refused in one line that says what to do."""

import re

import numpy as np
import pytest
import torch
from sksurv.util import Surv

from gnnpatient import (
    Forecast,
    InputError,
    PatientKFold,
    PrognosisModel,
    build_graphs,
    read_cohort,
    read_spec,
)
from gnnpatient.datasets.shipped import pbc
from gnnpatient.prognosis.forecast import Forecasts

pytestmark = pytest.mark.usefixtures("given_ridge")


class Given:
    """What the calls below are made with."""

    def __init__(self, cohort, train, test, model):
        self.cohort, self.train, self.test, self.model = cohort, train, test, model
        self.frame = test.to_frame()
        self.forecast = model.forecast(test)
        self.spec, self.new = read_spec("pbc"), PrognosisModel()
        came = train.outcome("death")
        self.anything = Surv.from_arrays(came["event"] > 0, came["time"])


@pytest.fixture(scope="module")
def given(cohort, train, test, model):
    return Given(cohort, train, test, model)


CALLS = {
    # landmarks
    "fit(DataFrame)": (
        lambda g: g.new.fit(g.frame),
        'fit: X is a DataFrame; make a cohort of your tables first, read_cohort(spec, {"t.csv": frame}), '
        "then cohort.at(365)",
    ),
    "fit(cohort)": (
        lambda g: g.new.fit(g.cohort),
        "fit: X is a Cohort; say when, as in cohort.at(365) or cohort.landmarks(times=[0, 365]).followed()",
    ),
    "fit(cohort, y)": (lambda g: g.new.fit(g.cohort, g.anything), "fit: X is a Cohort; say when"),
    "fit(positions)": (
        lambda g: g.new.fit(np.arange(5)),
        "fit: X is a ndarray; positions index landmarks, as in X[train]",
    ),
    "fit(graphs of PyG)": (
        lambda g: g.new.fit(g.test[:2].hetero_data()),
        "fit: X is a list; a network of PyG's own takes graphs; here give the landmarks that they",
    ),
    "forecast(cohort)": (lambda g: g.model.forecast(g.cohort), "forecast: X is a Cohort; say when"),
    "predict(list)": (
        lambda g: g.model.predict([0.5, 0.1]),
        "forecast: X is a list; landmarks are wanted, as cohort.at(365) makes them",
    ),
    "score(DataFrame)": (lambda g: g.model.score(g.frame), "score: X is a DataFrame; make a cohort"),
    "split(cohort)": (lambda g: next(PatientKFold().split(g.cohort)), "split: X is a Cohort; say when"),
    "build_graphs(cohort)": (lambda g: build_graphs(g.cohort), "build_graphs: X is a Cohort; say when"),
    "cohort[name]": (
        lambda g: g.cohort["death"],
        "a cohort has no item 'death'; its landmarks are cohort.at(365), its outcomes "
        "cohort.outcomes['death'], a patient cohort.patient(ID)",
    ),
    "landmarks[id]": (
        lambda g: g.test["p060"],
        "landmarks have no item 'p060'; they are indexed by position or mask, as in X[:3], X[[0, 1]] or",
    ),
    "landmarks[None]": (lambda g: g.test[None], "landmarks have no item None"),
    "landmarks[row, column]": (lambda g: g.test[0, 1], "landmarks have no item (0, 1)"),
    "a number for an id": (
        lambda g: pbc().at(365, patient=2),
        "patient 2: ids are text; write '2', of a column column.astype(str). Positions are an array",
    ),
    "numbers for ids": (
        lambda g: pbc().landmarks([0, 2, 3], times=[0]),
        "patient 2: ids are text; write '2'",
    ),
    # times
    "at(word)": (lambda g: g.cohort.at("soon"), "time 'soon': the cohort's times are offsets"),
    "at(year)": (lambda g: g.cohort.at("2021"), "time '2021': the cohort's times are offsets"),
    "at(entry)": (
        lambda g: g.cohort.at("entry"),
        "time 'entry': the landmarks at each patient's entry are cohort.entries()",
    ),
    "at(unit)": (
        lambda g: g.cohort.at("3 years"),
        "duration '3 years'; write a number and one of s min h d w mo y, as in 36h or 3y",
    ),
    "at(days and dates)": (
        lambda g: g.cohort.at(["3d", "2021-03-04"]),
        "time ['3d', '2021-03-04']: durations and dates; give one or the other",
    ),
    "at(two days)": (
        lambda g: g.cohort.at([1, 2]),
        "2 days for 80 patients; give one day, or one for each; cohort.landmarks(times=[...]) asks about "
        "every patient at each of several",
    ),
    "at(None)": (
        lambda g: g.cohort.at(object),
        "time <class 'object'>: give days after the origin, text as in '3y', or ISO 8601 dates",
    ),
    "landmarks(days)": (
        lambda g: g.cohort.landmarks([0, 365]),
        "landmarks: give either times=[...] or n=NUMBER; what stands first are the patients",
    ),
    "landmarks(near entry)": (
        lambda g: g.cohort.landmarks(times="entri"),
        "time 'entri': give days after the origin, durations as in '3y', ISO 8601 dates, or \"entry\"; did "
        "you mean 'entry'?",
    ),
    "unknown patient": (
        lambda g: g.cohort.at(3, patient="p0O4"),
        "1 unknown patient id(s), the first is 'p0O4'; write ids as in the patient table",
    ),
    "horizon of a model": (
        lambda g: PrognosisModel(horizon="5 years").fit(g.train),
        "duration '5 years'; write a number and one of s min h d w mo y, as in 36h or 3y",
    ),
    "horizon of a risk": (
        lambda g: g.forecast["death"].risk("death", horizon="5y"),
        "horizon 1826.25 days; this model was fitted up to 10 days",
    ),
    "horizon of another type": (
        lambda g: g.forecast["death"].risk("death", horizon=[None]),
        "NoneType where a duration is wanted; give days, or text as in '36h' or '5y'",
    ),
    "horizons of a risk": (
        lambda g: g.forecast["death"].risk("death", horizon=[3, 7]),
        "horizon: 2 of them; risk and spread take one, risks([...]) several",
    ),
    "a horizon for a cause": (
        lambda g: g.forecast["death"].risk("1w"),
        "unknown cause '1w' of 'death'; there are discharge, death; a horizon is risk(horizon='1w')",
    ),
    "times that are words": (
        lambda g: Forecast.from_array(np.zeros((len(g.test), 2)), ["1d", "2d"], "death", g.test),
        "times is list; give an array or a tensor of numbers, days after the landmark",
    ),
    "members that are no number": (
        lambda g: PrognosisModel(members=2.0).fit(g.train),
        "members = 2.0; must be a whole number",
    ),
    # names
    "outcome": (lambda g: g.forecast["deth"], "unknown outcome 'deth'; did you mean 'death'?"),
    "outcome by position": (lambda g: g.forecast[0], "forecasts are by outcome, as in forecast['death']"),
    "cause as a key": (
        lambda g: g.forecast["death"]["death"],
        "a forecast is indexed by landmark, as in forecast[0]; a cause is .risk(cause='death')",
    ),
    "no cause": (
        lambda g: g.model.predict(g.test),
        "outcome 'death' has several causes; name one of discharge, death",
    ),
    "cause": (
        lambda g: g.forecast["death"].risk("deth"),
        "unknown cause 'deth' of 'death'; there are discharge, death",
    ),
    "cause of a model": (
        lambda g: PrognosisModel(cause="deth").fit(g.train),
        "cause 'deth' is of no outcome here; did you mean 'death'?",
    ),
    "cause of landmarks": (
        lambda g: g.train.outcome("death", cause="deth"),
        "unknown cause 'deth' of 'death'; did you mean 'death'?",
    ),
    "node type": (
        lambda g: build_graphs(g.test)["labs"],
        "unknown node type 'labs'; did you mean 'lab'?",
    ),
    "another cohort": (
        lambda g: g.model.forecast(pbc().at(365)),
        "the model knows no node type 'sign' (it has lab, vital, drug); name it as in training, "
        "or take it out of the spec",
    ),
    # what belongs together
    "y of yes and no": (
        lambda g: g.new.fit(g.train, g.anything),
        "y: its event is yes or no, and outcome 'death' has several causes; name the one that is meant, as "
        "in PrognosisModel(cause='death'), or leave y out",
    ),
    "y of another cause": (
        lambda g: PrognosisModel(cause="death").fit(g.train, g.anything),
        "y: not event and time of 'death' as X.outcome('death', cause='death') gives them; for others give "
        "every cause as a number, 0 = censored, or leave y out",
    ),
    "spec and folder swapped": (
        lambda g: read_cohort(".", "pbc"),
        "spec '.' is a folder; the .toml file comes first, as in read_cohort(spec, folder)",
    ),
    "folder and spec swapped": (
        lambda g: read_cohort("pbc", g.spec),
        "read_cohort: a GraphSpec where the tables are wanted; the spec comes first, as in "
        "read_cohort(spec, folder)",
    ),
    # choices
    "relations of one name": (
        lambda g: PrognosisModel(relations="same").fit(g.train),
        "relations = 'same'; must be a list of names, as in ['same']",
    ),
    "no families": (
        lambda g: PrognosisModel(families=None).fit(g.train),
        "families = None; must be a list of names, as in ['linear', 'boosted', 'graph']",
    ),
    "encoders without node types": (
        lambda g: PrognosisModel(encoders=["lab"]).fit(g.train),
        "encoders = ['lab']; must be classes by node type, as in {'lab': X}",
    ),
    "an encoder of a node type that is not there": (
        lambda g: PrognosisModel(encoders={"lba": torch.nn.Linear}, families=("linear",)).fit(g.train),
        "encoders: unknown node type 'lba'; did you mean 'lab'?",
    ),
    "a family twice": (
        lambda g: PrognosisModel(families=("linear", "graph", "linear")).fit(g.train),
        "families: 'linear' is named twice",
    ),
    # plots
    "plot of many": (
        lambda g: g.forecast["death"].plot("death"),
        "landmarks, more than 6; take some, as in forecast[:6].plot(), or all of them as a table with "
        ".to_frame()",
    ),
    "plot of several causes": (
        lambda g: g.forecast["death"][:2].plot(),
        "plot: 2 landmarks of 2 causes; name one of discharge, death, as in cause='death', or take one "
        "landmark, as in forecast[0].plot()",
    ),
    "plot of nobody": (
        lambda g: g.forecast["death"][:0].plot(),
        "plot: no landmark; forecast one, as in model.forecast(cohort.at(365, patient=ID))",
    ),
    "plot on something": (
        lambda g: g.forecast["death"][0].plot(ax="left"),
        "plot: ax is a str; give the Axes of matplotlib, or leave it out",
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_call_is_refused_in_one_line(given, call):
    wrong, line = CALLS[call]
    with pytest.raises(InputError, match=re.escape(line)) as refusal:
        wrong(given)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 250


def test_the_usual_types_of_python_catch_them(given):
    with pytest.raises(KeyError):
        given.forecast["deth"]
    with pytest.raises(TypeError):
        given.model.forecast(given.cohort)
    assert "deth" not in given.forecast and given.forecast.get("deth") is None
    assert type(given.forecast) is Forecasts and not hasattr(given.forecast, "risk")
    with pytest.raises(AttributeError, match=re.escape("; each outcome has one, as forecast['death'].risk")):
        given.forecast.risk()


def test_a_duration_is_as_good_as_days(given):
    cohort, forecast = given.cohort, given.forecast["death"]
    assert np.array_equal(cohort.at("36h").at, cohort.at(1.5).at)
    assert np.array_equal(cohort.at("2").at, cohort.at(2).at)
    assert cohort.at(["1d", "2w"], patient=[0, 1]).days.tolist() == [1.0, 14.0]
    for times in (3, "3d", ["3d"], np.array([3.0])):
        assert np.array_equal(cohort.landmarks(times=times).at, cohort.at(3).at)
    assert np.array_equal(cohort.landmarks(times="entry").at, cohort.entries().at)
    assert np.array_equal(forecast.risk("death", "1w"), forecast.risk("death", 7))
    assert np.array_equal(forecast.risks(["1d", "1w"], "death"), forecast.risks([1, 7], "death"))
    assert forecast.table(["1w"]).equals(forecast.table([7.0]))
    assert forecast.table("1w").equals(forecast.table(7))
    found = [given.model.predict_cumulative_incidence(given.test, times=t) for t in ("1w", [7])]
    assert np.array_equal(*found)


def test_numbers_are_positions_where_they_can_be_nothing_else(given):
    cohort = pbc()
    assert cohort.at(365, patient=np.array([2])).ids == cohort.ids[2] != "2"
    assert cohort.at(365, patient=0).ids == cohort.ids[0]  # nobody is called 0
    assert given.cohort.at(3, patient=[7]).ids == given.cohort.ids[7]


def test_a_horizon_without_data_is_told(given):
    quick = {"members": 1, "epochs": 0, "outcomes": ["death"]}
    with pytest.warns(UserWarning, match="the horizon is 1826.25 days, and nobody is followed beyond"):
        PrognosisModel(horizon="5y", **quick).fit(given.train)
    came = given.train.outcome("death")
    soon = float(np.sort(came["time"][came["event"] > 0])[0])
    with pytest.warns(UserWarning, match=r"1 patient with an event within .* days, the horizon"):
        PrognosisModel(horizon=soon, **quick).fit(given.train)
