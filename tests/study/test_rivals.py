"""Rivals: the same rows, the same budget, chosen on training patients alone; each against a plain answer."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from gnnpatient import InputError, PrognosisModel, read_cohort, read_spec
from gnnpatient.metrics import aalen_johansen
from gnnpatient.study import rivals
from gnnpatient.study.baselines import BoostedHazards, ClassForest, StackedCox, SurvivalForest
from gnnpatient.study.cox import RidgeCox
from gnnpatient.study.rivals import (
    OwnClasses,
    OwnCurves,
    Range,
    TunedRival,
    _OwnClasses,
    _OwnHazards,
    configurations,
    find_class,
    tuned_rivals,
)
from gnnpatient.study.tabular import Columns
from gnnpatient.testing import tiny_cohort
from gnnpatient.times import YEAR

AT = [0.0, 1 * YEAR, 3 * YEAR]
HORIZON = 5 * YEAR


@pytest.fixture(scope="module")
def train(pbc):
    return pbc.landmarks(np.arange(200), times=AT).followed("death")


@pytest.fixture(scope="module")
def tiny():
    return tiny_cohort(160)


@pytest.fixture(scope="module")
def others(pbc):
    return pbc.landmarks(np.arange(200, 312), times=AT).followed("death")


@pytest.mark.parametrize("alpha", [1e-6, 1.0, 50.0])
def test_cox_is_scikit_survivals(alpha):
    """Ties among events and with censoring, a hazard that depends on two of five columns."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 5))
    time = np.ceil(20 * rng.exponential(np.exp(-x[:, 0] + 0.5 * x[:, 1])))
    event = rng.random(400) < 0.6
    theirs = CoxPHSurvivalAnalysis(alpha=alpha).fit(x, Surv.from_arrays(event, time))
    ours = RidgeCox.fit(x, event, time, alpha)
    assert ours.beta == pytest.approx(theirs.coef_, abs=1e-7)
    want = theirs.predict_cumulative_hazard_function(x[:9], return_array=True)
    assert ours.cumulative(x[:9], theirs.unique_times_) == pytest.approx(want, rel=1e-6, abs=1e-9)


def test_cox_bears_what_parts_all_events():
    """Without a ridge the likelihood rises for ever: it stops, and its numbers are finite."""
    x = np.repeat([[1.0], [-1.0]], 20, 0)
    found = RidgeCox.fit(x, x[:, 0] > 0, np.tile(np.arange(1.0, 21), 2), 0.0)
    assert np.isfinite(found.beta).all() and found.beta[0] > 3
    assert np.isfinite(found.cumulative(x, np.array([5.0, 20.0]))).all()


def test_configurations_are_drawn_once_and_for_all():
    space = {"a": Range(1, 1000), "n": Range(2, 9, whole=True), "b": ("x", "y")}
    drawn = configurations(space, 200, 7)
    assert drawn == configurations(space, 200, 7) != configurations(space, 200, 8)
    assert drawn[0] == {} and drawn[:5] == configurations(space, 5, 7)
    a = np.array([one["a"] for one in drawn[1:]])
    assert a.min() >= 1 and a.max() <= 1000 and abs(np.log(a).mean() - np.log(1000) / 2) < 0.5
    assert {one["n"] for one in drawn[1:]} == set(range(2, 10)) and {one["b"] for one in drawn[1:]} == {
        "x",
        "y",
    }
    with pytest.raises(InputError, match="budget 0; must be >= 1"):
        configurations(space, 0, 0)


def test_it_is_chosen_on_inner_folds_of_training_patients(train, monkeypatch):
    """What a configuration is scored on is of others than it was fitted on, and all are in training."""
    fitted, asked = [], []

    kind = StackedCox
    own_rows, own_forecast = kind.rows, kind.forecast
    monkeypatch.setattr(
        kind, "rows", lambda self, X, n: fitted.append(set(X.patient)) or own_rows(self, X, n)
    )

    def forecast(self, X):
        asked.append((set(X.patient), fitted[-1]))
        return own_forecast(self, X)

    monkeypatch.setattr(kind, "forecast", forecast)
    found = TunedRival("cox", outcome="death", horizon=HORIZON, budget=3).fit(train)
    assert len(fitted) == 4 and fitted[-1] == set(train.patient)
    assert len(asked) == 9 and all(not test & learned for test, learned in asked)
    assert all(test | learned <= set(train.patient) for test, learned in asked)
    assert set.union(*(test for test, _ in asked)) == set(train.patient)
    scores = [trial.score for trial in found.curve_]
    assert len(scores) == 3 and found.chosen_ == found.curve_[int(np.argmax(scores))].configuration
    assert found.saw_["landmarks"] == len(train) and found.saw_["configurations"] == 3
    json.dumps([trial.to_dict() for trial in found.curve_])


def test_the_best_configuration_is_refitted_on_everybody(train, others):
    found = TunedRival("cox", outcome="death", horizon=HORIZON, budget=5).fit(train)
    again = StackedCox(outcomes=["death"], horizon=HORIZON, **found.chosen_).fit(train)
    a, b = (m.forecast(others)["death"].incidence for m in (found, again))
    assert np.array_equal(a, b) and len({trial.score for trial in found.curve_}) == 5


def test_a_budget_of_one_is_the_default_and_scores_nothing(train, others):
    found = TunedRival("cox", outcome="death", horizon=HORIZON, budget=1).fit(train)
    assert found.chosen_ == {} and [trial.score for trial in found.curve_] == [None]
    plain = StackedCox(outcomes=["death"], horizon=HORIZON).fit(train)
    a, b = (m.forecast(others)["death"].incidence for m in (found, plain))
    assert np.array_equal(a, b)


def test_a_worse_penalty_scores_worse(train, monkeypatch):
    """The curve tells a model that knows nothing from one that does."""
    space = {"alpha": (1e7,)}
    kind = replace(rivals.RIVALS["survival"]["cox"], space=space)
    monkeypatch.setattr(rivals, "RIVALS", {"survival": {"cox": kind}})
    found = TunedRival("cox", outcome="death", horizon=HORIZON, budget=2).fit(train)
    known, nothing = (trial.score for trial in found.curve_)
    assert known > 0.15 and abs(nothing) < 0.02 and found.chosen_ == {}


@pytest.mark.parametrize("name", ["forest", "boosted"])
def test_trees_that_cannot_split_give_the_share_of_all(train, name):
    """One leaf: what is left is the cumulative incidence of all rows, by Aalen and Johansen."""
    of = {
        "forest": SurvivalForest(leaf_patients=10_000, trees=40),
        "boosted": BoostedHazards(leaf_patients=10_000),
    }
    model = of[name].set_params(outcomes=["death"], horizon=HORIZON).fit(train)
    forecast = model.forecast(train)["death"]
    truth = train.outcome("death")
    want = aalen_johansen(truth["time"], truth["event"], forecast.times, causes=2)
    assert np.ptp(forecast.incidence, axis=0).max() < 1e-9
    assert forecast.incidence[0] == pytest.approx(want, abs=0.03)


@pytest.mark.parametrize("name", ["cox", "cox history", "boosted", "forest"])
def test_every_rival_of_tables_learns_and_sees_no_future(pbc, train, others, name):
    rival = TunedRival(name, outcome="death", horizon=HORIZON, budget=1).fit(train)
    forecast = rival.forecast(others)["death"]
    assert np.abs(forecast.incidence.sum(1) - 1).max() < 1e-9 and forecast.times[-1] == HORIZON
    assert (np.diff(forecast.incidence[:, 1:]) >= -1e-12).all()
    risk, died = forecast.risk("death"), others.outcome("death")["event"] == 2
    assert risk[died].mean() > 1.6 * risk[~died].mean()
    lab = pbc.events["lab"]
    late = lab.known > 3 * YEAR * 86400
    poisoned = replace(pbc, events={**pbc.events, "lab": replace(lab, value=np.where(late, 1e9, lab.value))})
    again = rival.forecast(replace(others, cohort=poisoned))["death"]
    assert np.array_equal(again.incidence, forecast.incidence)


def test_the_history_has_the_last_values_and_more(train):
    last, history = (Columns.fit(train, "death", what, 10, scaled=True) for what in ("last", "history"))
    a, b = last(train), history(train)
    assert np.array_equal(a, b[:, : a.shape[1]]) and b.shape[1] > 3 * a.shape[1]
    assert np.isfinite(b).all() and np.abs(b[:, a.shape[1] :]).max() <= 4
    with pytest.raises(InputError, match=r"columns = 'first'; must be last, history, values or timing"):
        StackedCox(columns="first").fit(train)


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_a_sequence_network_is_chosen_as_the_others(tiny, name):
    X = tiny.landmarks(times=[2.0, 5.0]).followed("death")
    rival = TunedRival(name, outcome="death", horizon=6.0, budget=2, inner=2, members=1, epochs=1).fit(X)
    assert isinstance(rival.model_, PrognosisModel) and rival.model_.conv == name
    assert rival.model_.families == ("graph",) and len(rival.curve_) == 2
    assert all(np.isfinite(trial.score) for trial in rival.curve_)
    assert rival.saw_["landmarks"] == len(X) and rival.saw_["times"] == 2
    assert np.isfinite(rival.forecast(X)["death"].incidence).all()


def test_unknown_rivals_are_refused(train):
    with pytest.raises(InputError, match=r"no rival 'coks' of outcome 'death', a survival; .*cox"):
        TunedRival("coks", outcome="death").fit(train)
    with pytest.raises(InputError, match=r"rivals = 'cox'; must be a list"):
        rivals.tuned_rivals("cox", "survival", "death")
    with pytest.raises(InputError, match="give an unfitted estimator"):
        rivals.tuned_rivals({"mine": 3}, "survival", "death")


# ---- a diagnosis

SICK = """
cohort = "made"
[patient]
table = "patients.csv"
key = "pid"
[nodes.lab]
table = "labs.csv"
time = "day"
code = "code"
value = "value"
[outcomes.icu]
kind = "diagnosis"
table = "patients.csv"
column = "icu"
classes = { N = "no", Y = "yes" }
"""


@pytest.fixture(scope="module")
def sick(tmp_path_factory):
    """The log odds are three times the first of two values on day 0: landmarks of 400 patients."""
    folder, rng = tmp_path_factory.mktemp("sick"), np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    yes = rng.random(400) < 1 / (1 + np.exp(-3 * x[:, 0]))
    pid = [f"p{i:03d}" for i in range(400)]
    pl.DataFrame({"pid": pid, "icu": np.where(yes, "Y", "N")}).write_csv(folder / "patients.csv")
    labs = {"pid": np.repeat(pid, 2), "day": 0.0, "code": np.tile(["a", "b"], 400), "value": x.ravel()}
    pl.DataFrame(labs).write_csv(folder / "labs.csv")
    (folder / "made.toml").write_text(SICK)
    return read_cohort(read_spec(folder / "made.toml"), folder).landmarks(times=[0.5]).followed("icu")


@pytest.mark.parametrize("name", ["logistic", "logistic history", "boosted", "forest"])
def test_every_rival_of_tables_tells_a_diagnosis(sick, name):
    train, test = sick[:250], sick[250:]
    rival = TunedRival(name, outcome="icu", budget=2).fit(train)
    found = rival.forecast(test)["icu"]
    assert found.classes == ("no", "yes") and np.allclose(found.probability.sum(1), 1)
    case = test.outcome("icu")["label"] == 1
    risk = found.risk("yes")
    assert (risk[case][:, None] > risk[~case]).mean() > 0.85
    assert all(0.2 < trial.score < 1 for trial in rival.curve_)
    assert (rival.saw_["landmarks"], rival.saw_["patients"]) == (250, 250)


# ---- classifiers of one's own

OWN = '''
"""A classifier that knows the share of each class at each value of the last column."""
import numpy as np


class Shares:
    def __init__(self, smooth=0.0):
        self.smooth = smooth

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        self.table = {
            band: np.array([(y[x[:, -1] == band] == k).mean() for k in self.classes_])
            for band in np.unique(x[:, -1])
        }
        return self

    def predict_proba(self, x):
        return np.stack([self.table[band] for band in x[:, -1]])


class Half:
    def fit(self, x, y):
        return self
'''


@pytest.fixture
def own(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    return f"{tmp_path / 'mine.py'}:Shares"


def test_a_classifier_of_ones_own_forecasts_survival(train, own):
    """Shares by band, put together, are the life table: close to Aalen and Johansen at the ends of bands."""
    mine = OwnCurves(own, {"smooth": 0.1}, outcomes=["death"], horizon=HORIZON).fit(train)
    forecast = mine.forecast(train)["death"]
    truth = train.outcome("death")
    want = aalen_johansen(truth["time"], truth["event"], forecast.times, causes=2)
    assert forecast.incidence[0] == pytest.approx(want, abs=0.02)
    assert np.ptp(forecast.incidence, axis=0).max() < 1e-9
    assert mine.saw_["death"]["landmarks"] == len(train)


def test_a_classifier_of_ones_own_forecasts_a_diagnosis(sick):
    mine = OwnClasses(ClassForestLike, outcomes=["icu"]).fit(sick[:200])
    theirs = ClassForest(outcomes=["icu"]).fit(sick[:200])
    a, b = (m.forecast(sick[200:])["icu"].risk("yes") for m in (mine, theirs))
    assert np.corrcoef(a, b)[0, 1] > 0.8


class ClassForestLike:
    """Of one's own, by class; it takes no missing values."""

    def fit(self, x, y):
        from sklearn.ensemble import ExtraTreesClassifier

        self.forest = ExtraTreesClassifier(100, min_samples_leaf=3, random_state=0).fit(np.nan_to_num(x), y)
        self.classes_ = self.forest.classes_
        return self

    def predict_proba(self, x):
        return self.forest.predict_proba(np.nan_to_num(x))


def test_a_place_that_holds_no_classifier_is_refused(own, train, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        find_class(str(tmp_path / "other.py:Shares"))
    with pytest.raises(InputError, match=r"has no class 'Share'; did you mean 'Shares'"):
        find_class(own[:-1])
    with pytest.raises(InputError, match="cannot be imported"):
        find_class("no_such_package.here:Model")
    with pytest.raises(InputError, match=r"FILE\.py:CLASS"):
        find_class("Shares")
    (tmp_path / "broken.py").write_text("class Shares(:\n")
    with pytest.raises(InputError, match=r"broken\.py: cannot be run \(SyntaxError: .*mend the file"):
        find_class(str(tmp_path / "broken.py:Shares"))
    (tmp_path / "lacking.py").write_text("import no_such_package\n")
    with pytest.raises(
        InputError, match=r"lacking\.py: cannot be run \(ModuleNotFoundError: .*no_such_package"
    ):
        find_class(str(tmp_path / "lacking.py:Shares"))
    with pytest.raises(
        InputError, match=r"rough.*; give a class whose parameters all have defaults, or options"
    ):
        OwnCurves(own, {"rough": 1}, outcomes=["death"], horizon=HORIZON).fit(train)
    with pytest.raises(InputError, match="Half has no predict_proba"):
        OwnCurves(own.replace("Shares", "Half"), outcomes=["death"], horizon=HORIZON).fit(train)


def test_what_a_classifier_of_ones_own_cannot_take_is_told_as_its_own(train, tmp_path):
    file = tmp_path / "full.py"
    file.write_text(
        "from sklearn.linear_model import LogisticRegression\n"
        "class Full(LogisticRegression): pass\n"
        "class Needs:\n"
        "    def __init__(self, size): pass\n"
        "    def fit(self, x, y): pass\n"
        "    def predict_proba(self, x): pass\n"
    )
    with pytest.raises(
        InputError, match=r"Full\.fit of \d+ rows and \d+ columns, nan where missing: ValueError"
    ):
        OwnCurves(f"{file}:Full", outcomes=["death"], horizon=HORIZON).fit(train)
    with pytest.raises(InputError, match=r"size.*; give a class whose parameters all have defaults"):
        tuned_rivals([f"mine={file}:Needs"], "survival", "death")
    with pytest.raises(InputError, match=r"has no name; give NAME=FILE\.py:CLASS"):
        tuned_rivals([f"={file}:Full"], "survival", "death")


class Gives:
    """Of one's own: knows two classes, and says of each row what it was told to say."""

    def __init__(self, gives, classes=(0, 1)):
        self.gives, self.classes_ = gives, np.array(classes)

    def predict_proba(self, x):
        return self.gives(len(x))


WRONG = {
    r"gave \(4, 3\); must be \(4, 2\)": lambda n: np.full((n, 3), 1 / 3),
    r"gave \(3, 2\); must be \(4, 2\)": lambda n: np.full((n - 1, 2), 0.5),
    r"gave \(4,\); must be \(4, 2\)": lambda n: np.full(n, 0.5),
    "gave 1 rows that are not finite": lambda n: np.array([[np.nan, 0.5]] + [[0.5, 0.5]] * (n - 1)),
    "gave -0.5 to 1.5; must be probabilities": lambda n: np.tile([-0.5, 1.5], (n, 1)),
    "gave a row with the sum 1.8; the classes of a row": lambda n: np.array(
        [[0.5, 0.5]] * (n - 1) + [[0.9, 0.9]]
    ),
    "KeyError: 'rows'": lambda n: {}["rows"],
}


@pytest.mark.parametrize("match", WRONG)
@pytest.mark.parametrize("survival", [True, False])
def test_what_is_no_probability_is_refused(match, survival):
    made, x = Gives(WRONG[match]), np.zeros((4, 2))
    with pytest.raises(
        InputError, match=rf"Gives\.predict_proba of 4 rows and {3 if survival else 2} columns"
    ):
        answer_of(made, x, survival)
    with pytest.raises(InputError, match=match):
        answer_of(made, x, survival)


def answer_of(made, x, survival):
    """Of two causes up to day 20, or of three classes."""
    if survival:
        return _OwnHazards(made, np.array([10.0, 20.0]), 2).incidence(x, np.array([0.0, 20.0]))
    return _OwnClasses(made, 3).probability(x)


@pytest.mark.parametrize("classes", [(0, 7), ("no", "yes"), (1, 1), ()])
def test_classes_that_were_not_taught_are_refused(classes):
    made = Gives(lambda n: np.full((n, 2), 0.5), classes)
    with pytest.raises(InputError, match=r"Gives\.classes_: .*; must be those of the y"):
        answer_of(made, np.zeros((4, 2)), survival=False)


def test_rounding_is_no_fault():
    made = Gives(lambda n: np.tile(np.array([-1e-7, 1 + 1e-7]), (n, 1)), (0, 2))
    assert answer_of(made, np.zeros((4, 2)), survival=False).tolist() == [[0.0, 0.0, 1.0]] * 4


def test_values_and_timing_part_the_history(pbc, train):
    """Nothing of a value is in the clockwork, and nothing of when or how often in the values."""
    each = {
        what: Columns.fit(train, "death", what, 10, scaled=False) for what in ("values", "timing", "history")
    }
    names = {what: set(columns.history.aggregates.names) for what, columns in each.items()}
    assert names["values"] | names["timing"] < names["history"]
    both = names["values"] & names["timing"]
    assert both == {name for name in names["history"] if name.startswith("patient ")} and len(both) > 2
    table = {what: columns(train) for what, columns in each.items()}
    lab = pbc.events["lab"]
    louder = replace(pbc, events={**pbc.events, "lab": replace(lab, value=lab.value * 3 + 1)})
    assert np.array_equal(each["timing"](replace(train, cohort=louder)), table["timing"], equal_nan=True)
    assert not np.array_equal(each["values"](replace(train, cohort=louder)), table["values"], equal_nan=True)
    later = replace(lab, happened=lab.happened // 2)  # other days, in the same order
    moved = replace(pbc, events={**pbc.events, "lab": later})
    assert np.array_equal(each["values"](replace(train, cohort=moved)), table["values"], equal_nan=True)
    assert not np.array_equal(each["timing"](replace(train, cohort=moved)), table["timing"], equal_nan=True)


def test_every_figure_of_a_rival_tells_what_it_saw(pbc):
    """The same 64 landmarks as the model, none left out; a model's own figures tell nothing of it."""
    from gnnpatient.prognosis.run import training_landmarks
    from gnnpatient.study.models import evaluate_models

    train = training_landmarks(
        pbc, np.arange(0, 312, 2), {"outcomes": ["death"], "landmarks": "random", "seed": 0}
    )
    test = pbc.landmarks(np.arange(1, 312, 2), times=[YEAR]).followed("death")
    mine = StackedCox(outcomes=["death"], horizon=HORIZON, landmarks=2).fit(train)
    answer = mine.forecast(test)
    found = evaluate_models({"mine": answer}, test, train=train, outcome="death", horizons=[HORIZON], n=5)
    told = {row["model"]: row["saw"] for row in found.rows}
    saw = f"{len(train)} landmarks at 64 times of 156 patients, 19 columns"
    assert told == {"mine": None, "null": None, "cox": saw, "mine-cox": saw}
    assert found.to_frame()["saw"].n_unique() == 2
