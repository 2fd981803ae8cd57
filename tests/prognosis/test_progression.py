"""Models of a value: what they learn from, what they answer, and what they never see."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from gnnpatient import InputError, PrognosisModel, load_predictor, read_cohort
from gnnpatient.cohort.build import build_graphs
from gnnpatient.model.heads import head_config
from gnnpatient.model.model import ModelConfig
from gnnpatient.model.values import hats, last_value
from gnnpatient.patient.answers import answer
from gnnpatient.prognosis.families import FAMILIES
from gnnpatient.prognosis.fit import pose
from gnnpatient.prognosis.inputs import restrict
from gnnpatient.prognosis.kinds import target_of
from gnnpatient.prognosis.problem import FitConfig
from gnnpatient.prognosis.value_linear import fit_spread
from gnnpatient.testing import write_ward
from gnnpatient.times import DAY

OUTCOMES = """
[outcomes.pulse]
kind = "progression"
node = "vital"
codes = ["pulse"]
window = "1d"
gone = "death"
[outcomes.lactate]
kind = "progression"
node = "lab"
codes = ["lactate"]
target = "change"
window = "1d"
[outcomes.worse]
kind = "progression"
node = "vital"
codes = ["pulse"]
worse = { plus = 5 }
horizon = "5d"
"""
QUICK = {"members": 2, "epochs": 1, "channels": 8, "batch_size": 32, "horizon": 10.0}


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """The tiny ward, with the pulse and the change of lactate as outcomes."""
    folder = tmp_path_factory.mktemp("ward")
    spec = write_ward(folder)
    spec.write_text(spec.read_text() + OUTCOMES)
    return read_cohort(spec, folder)


@pytest.fixture(scope="module")
def train(ward):
    return ward.landmarks(np.arange(60), times=[0, 2, 4]).followed("death")


@pytest.fixture(scope="module")
def asked(ward):
    return ward.at(2, patient=ward.ids[60:].tolist(), to=4)


@pytest.fixture(scope="module")
def model(train):
    return PrognosisModel(outcomes=["pulse", "lactate"], **QUICK).fit(train)


@pytest.fixture(scope="module")
def target(train):
    target = target_of(train, "pulse")
    head = target.head_config("pulse", train, 10.0, 30, 10)
    return target.posed(head, train, "pulse")


def same(a, b):
    assert (a.ids == b.ids).all()
    for name in ("probability", "seen", "alive", "last"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def changed(cohort, kind, rows, value):
    """The cohort with other values in some rows of a node type."""
    events = cohort.events[kind]
    values = np.where(rows, np.float32(value), events.value)
    found = {**cohort.events, kind: replace(events, value=values)}
    outcomes = {
        name: replace(o, events=found[o.spec.node]) if o.kind == "progression" else o
        for name, o in cohort.outcomes.items()
    }
    return replace(cohort, events=found, outcomes=outcomes)


def test_a_model_answers_with_distributions(model, asked):
    assert model.predictor_.outcomes == ("pulse", "lactate", "death")  # death ends the pulse
    forecasts = model.forecast(asked)
    pulse, lactate, death = (forecasts[name] for name in ("pulse", "lactate", "death"))
    assert pulse.unit == "1/min" and pulse.target == "value" and lactate.target == "change"
    assert pulse.members.shape[:2] == (2, len(asked)) and (pulse.at_risk == asked.at_risk("death")).all()
    for forecast in (pulse, lactate):
        rows = forecast.at_risk
        p = forecast.probability[rows]
        assert p.sum(1) == pytest.approx(1, abs=1e-9) and (p >= 0).all()
        assert ((forecast.seen[rows] >= 0) & (forecast.seen[rows] <= 1)).all()
        assert (np.diff(forecast.quantile(np.linspace(0.01, 0.99, 50), to=1), axis=1)[rows] >= 0).all()
        assert np.isnan(forecast.probability[~rows]).all()
    free = np.array([np.interp(pulse.times, [0, *death.times], [1, *row]) for row in death.event_free])
    np.testing.assert_allclose(pulse.alive, free)
    assert (lactate.alive[lactate.at_risk] == 1).all()  # nothing ends it
    assert (lactate.at_risk == np.isfinite(lactate.last)).all()
    assert (model.predict(asked, outcome="pulse") == pulse.mean())[pulse.at_risk].all()
    assert 40 < np.nanmedian(pulse.quantile(0.5)) < 120


def test_it_is_said_where_nothing_ends_observation(model, ward):
    """Of lactate the spec does not say it, of the pulse `gone` does."""
    heads = model.predictor_.heads
    assert heads["pulse"].has_end and not heads["lactate"].has_end
    notes = answer(model.predictor_, ward, str(ward.ids[60]), 2).notes
    (line,) = [line for line in notes if "when observation ends" in line]
    assert line.startswith("lactate: the spec of the fit does not say when observation ends")


def test_families_answer_alone_and_together(model, asked):
    each = [model.forecast(asked, families=name)["pulse"] for name in ("linear", "boosted", "graph")]
    row = int(np.flatnonzero(each[0].at_risk)[0])
    assert len({one.mean()[row] for one in each}) == 3
    mixed = model.forecast(asked, families=["linear", "boosted"])["pulse"].probability
    np.testing.assert_allclose(mixed, (each[0].probability + each[1].probability) / 2, atol=1e-12)


def test_alone_together_or_in_another_order(model, asked):
    every = model.forecast(asked)["pulse"]
    backwards = model.forecast(asked[::-1])["pulse"][::-1]
    np.testing.assert_allclose(backwards.probability, every.probability, atol=1e-6)
    row = int(np.flatnonzero(every.at_risk)[-1])
    alone = model.forecast(asked[[row]])["pulse"]
    np.testing.assert_allclose(alone.probability[0], every.probability[row], atol=1e-6)


@pytest.mark.parametrize("family", ["linear", "boosted", "graph"])
def test_the_future_cannot_be_seen(model, asked, family):
    poisoned = asked.cohort
    for kind in ("vital", "lab"):
        poisoned = changed(poisoned, kind, poisoned.events[kind].known > 2 * DAY, 1e9)
    later = replace(asked, cohort=poisoned)
    for name in ("pulse", "lactate"):
        same(*(model.forecast(X, families=family)[name] for X in (asked, later)))


def test_a_saved_model_gives_the_same_bits_and_holds_no_patient(model, asked, ward, tmp_path):
    model.save_pretrained(tmp_path / "model")
    loaded = load_predictor(tmp_path / "model")
    for name in ("pulse", "lactate"):
        same(model.forecast(asked)[name], loaded.forecast(asked)[name])
    text = (tmp_path / "model" / "config.json").read_text()
    assert not any(f'"{one}"' in text for one in ward.ids)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "the distribution of the value of pulse in 1/min up to" in card and "with a later value" in card
    assert "change since the last value of lactate" in card


def test_a_cohort_in_another_unit_is_answered_in_that(model, asked):
    about = deepcopy(model.predictor_.about)
    about["inputs"]["codes"]["vital"]["pulse"]["from"] = {"1/h": (1 / 60, 0.0)}
    predictor, cohort = replace(model.predictor_, about=about), asked.cohort
    is_pulse = np.array(cohort.codes["vital"]) == "pulse"
    rows = is_pulse[cohort.events["vital"].code]
    hourly = changed(cohort, "vital", rows, cohort.events["vital"].value * 60)
    units = tuple(np.where(is_pulse, "1/h", cohort.units["vital"]).tolist())
    X = replace(asked, cohort=replace(hourly, units={**cohort.units, "vital": units}))
    ours, theirs = (predictor.forecast(some)["pulse"] for some in (asked, X))
    assert (ours.unit, theirs.unit) == ("1/min", "1/h")
    np.testing.assert_allclose(theirs.last, ours.last * 60, rtol=1e-6)
    np.testing.assert_allclose(theirs.mean(), ours.mean() * 60, rtol=1e-4)
    np.testing.assert_allclose(theirs.change(0.9), ours.change(0.9) * 60, rtol=1e-3, atol=0.1)
    null = predictor.null_at("pulse", asked[target_of(asked, "pulse").known])
    ours, theirs = (target_of(some, "pulse").skills(f, null) for some, f in ((asked, ours), (X, theirs)))
    assert theirs == pytest.approx(ours, abs=0.01)


def test_the_same_fit_again_and_after_a_stop(train, asked, model, tmp_path):
    again = PrognosisModel(outcomes=["pulse", "lactate"], **QUICK)
    same(again.fit(train, run=tmp_path).forecast(asked)["pulse"], model.forecast(asked)["pulse"])
    (tmp_path / "checkpoints" / "graph.safetensors").unlink()
    same(again.fit(train, run=tmp_path).forecast(asked)["pulse"], model.forecast(asked)["pulse"])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("poison", [1.0, 170.0])
def test_a_member_sees_nothing_of_its_held_out_patients(train, target, poison, family):
    def problem(target):
        config = FitConfig(members=2, epochs=1)
        heads = {"pulse": target.head}
        return pose(train, {"pulse": target}, heads, ModelConfig(channels=8), config, "cpu")

    first = problem(target)
    held_out = first.held_out(0)
    value, bins, seen = target.value.copy(), target.bins.copy(), target.seen.copy()
    value[held_out] = np.where(np.isfinite(value[held_out]), poison, np.nan)
    bins[held_out] = np.where(bins[held_out] >= 0, 0, -1)
    seen[held_out] = 1 - seen[held_out]
    second = problem(replace(target, value=value, bins=bins, seen=seen))
    ours, theirs = (_by_member(FAMILIES[family].fit(one).tensors(), family) for one in (first, second))
    for name, tensor in ours[0].items():
        assert torch.equal(tensor, theirs[0][name]), name
    assert ours[0].keys() == theirs[0].keys() and len(ours[0])
    assert any(
        name not in theirs[1] or not torch.equal(tensor, theirs[1][name]) for name, tensor in ours[1].items()
    )


def _by_member(tensors, family):
    """The tensors of two members, by name."""
    if family == "linear":
        return [{name: tensor[m] for name, tensor in tensors.items()} for m in (0, 1)]
    place = {"boosted": 1, "graph": 0}[family]
    parts = {name: name.split(".") for name in tensors}
    return [{name: tensors[name] for name, words in parts.items() if words[place] == str(m)} for m in (0, 1)]


def test_pairs_are_the_later_values_of_the_rows(train, target, ward):
    events, outcome = ward.events["vital"], ward.outcomes["pulse"]
    pulse = ward.codes["vital"].index("pulse")
    for row in range(0, len(train), 7):
        p, at = int(train.patient[row]), int(train.at[row])
        mine = (events.patient == p) & (events.code == pulse) & np.isfinite(events.value)
        mine &= (events.happened > at) & (events.happened <= outcome.gone.time[p])
        mine &= events.happened <= at + target.head.times[-1] * DAY
        days = np.unique((events.happened[mine] - at) / DAY)
        got = target.when[row][np.isfinite(target.value[row])]
        assert len(got) == min(len(days), 8) and set(got) <= set(days.tolist()) and (np.diff(got) > 0).all()
        if len(days):
            assert got[0] == days[0] and got[-1] == days[-1]


def test_the_last_value_is_the_one_that_the_model_will_see(ward):
    """A value of a code that is left out as rare, or of a node type that is hidden, is none in training."""
    spec = ward.outcomes["pulse"].spec
    vital, every = ward.events["vital"], ward.codes["vital"]
    other = next(c for c in range(1, len(every)) if every[c] != "pulse")
    few = np.where((vital.code == other) & (vital.patient >= 5), 0, vital.code).astype(vital.code.dtype)
    events = {**ward.events, "vital": replace(vital, code=few)}
    both = replace(
        ward.outcomes["pulse"],
        code=np.isin(every, ["pulse", every[other]]),
        events=events["vital"],
        spec=spec.model_copy(update={"codes": ("pulse", every[other])}),
    )
    cohort = replace(ward, events=events, outcomes={**ward.outcomes, "pulse": both})
    X = cohort.landmarks(np.arange(60), times=[0, 2, 4]).followed("death")
    target = target_of(X, "pulse")
    head = target.head_config("pulse", X, 10.0, 30, 10)
    assert head.codes == ("pulse",)
    for shown in (X, restrict(X, ("lab",))):
        posed = target.posed(head, shown, "pulse")
        np.testing.assert_array_equal(posed.last, last_value(build_graphs(shown), head))
    assert np.isnan(posed.last).all() and np.isfinite(target.last).any()
    assert posed.bins.max() > 0  # what is learned stays


def test_every_table_is_a_distribution_that_the_likelihood_reads(train, target):
    head = target.head
    table = target.marginal(train.moments, head.times)
    for found in (table, target.disclosed(table, train.patient, head.times, 10), target.rounded(table)):
        assert found.shape == head.shape and found[1:].sum(0) == pytest.approx(1) and (found >= 0).all()
        assert (found[0] <= 1).all()
    prediction = np.repeat(table[None], len(train), 0)
    likelihood = target.likelihood(prediction, head.times)
    rows, pair = np.nonzero(target.bins >= 0)
    assert (likelihood[target.bins < 0] == 1).all() and len(rows) > 2 * target.has_value.sum()
    for i in (0, len(rows) // 2, len(rows) - 1):
        row, k = rows[i], pair[i]
        share = hats(head.times, target.when[row, k][None])[0]
        assert likelihood[row, k] == pytest.approx(table[1 + target.bins[row, k]] @ share)
    counts = target.importance(head.times)
    assert ((counts > 0) == (target.bins >= 0)).all() and (counts.sum(1) <= len(head.times)).all()


def test_it_is_scored_beside_the_marginal(model, asked):
    X = asked.followed("death")
    target, forecast = target_of(X, "pulse"), model.forecast(X)["pulse"]
    null = model.predictor_.null_at("pulse", X[target.known])
    (skill,) = target.skills(forecast, null)
    assert -0.5 < skill < 1
    # a forecast that knows the bin makes no error
    later = target.posed(model.predictor_.heads["pulse"], X, "pulse")
    known = np.zeros_like(forecast.probability)
    for row, pair in zip(*np.nonzero(later.bins >= 0), strict=True):
        for k in np.flatnonzero(hats(tuple(forecast.times.tolist()), later.when[row, pair][None])[0]):
            known[row, later.bins[row, pair], k] += 1
    known /= known.sum(1, keepdims=True).clip(min=1)
    (best,) = target.skills(replace(forecast, probability=known), null)
    assert 0.5 < best <= 1 and best > skill
    marginal = model.predictor_.null_at("pulse", X)[:, 1:]
    assert target.skills(replace(forecast, probability=marginal), null) == [0.0]


def test_bins_and_times_are_of_ten_patients(train, target):
    head = target.head
    assert head.times[-1] <= 10 and len(head.times) >= 2 and head_config(head.to_dict()) == head
    inside = target.bins[(target.bins > 0) & (target.bins < len(head.edges) - 2)]
    assert len(inside) > 0.9 * (target.bins >= 0).sum()
    starts = np.append(0, head.times[:-1])
    for start, end in zip(starts, head.times, strict=True):
        there = ((target.when > start) & (target.when <= end) & np.isfinite(target.value)).any(1)
        assert len(np.unique(train.patient[there])) >= 10


def test_who_is_gone_soon_counts_no_more_than_who_is_followed(target):
    """30 patients with one value (bin 0), then gone, and 30 with one at each time (bin 1): half and half."""
    times, size = target.head.times, len(target.head.times)
    bins, when = np.full((60, 8), -1), np.zeros((60, 8))
    bins[:30, 0], when[:30, 0] = 0, times[0]
    bins[30:, :size], when[30:, :size] = 1, times
    seen = np.ones((60, size))
    seen[:30, 1:] = np.nan
    some = replace(target[np.arange(60)], bins=bins, when=when, seen=seen)
    table = some.marginal(np.zeros(60, np.int64), times)
    assert table[1, 0] == pytest.approx(table[2, 0], rel=0.25)  # some is taken from the other times
    assert table[2, 1:].min() > 0.9


def test_a_value_far_from_all_others_moves_no_bin(target, train):
    found = []
    for far in (0.0, 1e6, 1e8):
        value = np.random.default_rng(0).permutation(np.linspace(-3, 3, target.value.size))
        value = value.reshape(target.value.shape)
        value[train.patient == train.patient[0]] = far
        when = np.full(value.shape, 2.0)
        last = np.linspace(1004, 1006, len(value))
        made = replace(target, value=value, when=when, last=last)
        found.append(made.head_config("pulse", train, 10.0, 30, 10))
    for one in found:
        assert one.edges[0] > -5 and one.edges[-1] < 5
        z = one.anchored(last)[:, 0]
        assert abs(np.median(z)) < 0.2 and np.abs(z).max() < 4  # also far from zero
    assert found[1].edges == found[2].edges


@pytest.mark.parametrize("middle", [1.0, 5.0, 120.0])
def test_no_bin_reaches_down_to_zero_where_no_value_is_near_it(target, train, middle):
    """Of values that are all positive: bins as wide as each other; only those near zero end there."""
    rng = np.random.default_rng(1)
    value = (middle + 0.4 * rng.normal(size=target.value.shape)).clip(0)
    made = replace(target, value=value, when=np.full(value.shape, 2.0), last=np.full(len(value), middle))
    width = np.diff(made.head_config("pulse", train, 10.0, 30, 10).edges)
    assert width.max() < 2 * np.median(width)
    first = made.head_config("pulse", train, 10.0, 30, 10).edges[0]
    assert first == 0 if middle == 1 else first > middle - 4


def test_too_few_patients_are_refused_by_name(ward):
    few = ward.landmarks(np.arange(8), times=[0, 2]).followed("death")
    with pytest.raises(InputError, match=r"outcome 'pulse': [0-8] patients have a value .*; 10 are needed"):
        PrognosisModel(outcomes=["pulse"], **QUICK).fit(few)
    with pytest.raises(InputError, match="a progression is learned from the later rows of X"):
        PrognosisModel(outcomes=["pulse"]).fit(few, np.zeros(len(few)))


@pytest.mark.parametrize("value", [5.0, 0.0, -3.0])
def test_values_that_never_change_or_are_not_above_0(ward, value):
    flat = changed(ward, "vital", np.ones(len(ward.events["vital"].value), bool), value)
    X = flat.landmarks(np.arange(50), times=[0, 2]).followed("death")
    fitted = PrognosisModel(outcomes=["pulse"], families=("linear", "graph"), **QUICK).fit(X)
    forecast = fitted.forecast(flat.at(2, patient=flat.ids[60:].tolist()))["pulse"]
    middle = forecast.quantile(0.5, to=2)[forecast.at_risk]
    assert np.isfinite(middle).all() and middle == pytest.approx(np.full(len(middle), value), abs=0.5)


def test_a_landmark_without_a_last_value_has_a_forecast(model, ward):
    X = ward.at(0, patient=ward.ids.tolist())
    forecast = model.forecast(X)["pulse"]
    none = forecast.at_risk & np.isnan(forecast.last)
    assert (
        none.any()
        and np.isfinite(forecast.mean(to=3)[none]).all()
        and np.isnan(forecast.change(to=3)[none]).all()
    )


def test_the_spread_is_that_of_the_residuals():
    rng = np.random.default_rng(0)
    x = np.stack([np.ones(4000), rng.integers(0, 2, 4000)], 1).astype(float)
    sd = np.where(x[:, 1] > 0, 2.0, 0.5)
    coefficients, wide = fit_spread(rng.normal(0, sd), x, np.ones(4000))
    assert np.exp(x[:2] @ coefficients) == pytest.approx(sd[:2], rel=0.08) and wide < -2
    _, wide = fit_spread(rng.standard_t(3, 4000), x[:, :1], np.ones(4000))
    assert wide > -3.5  # some are far away


DATED = {
    "cohort": "dated",
    "patient": {"table": "people.csv", "key": "id", "number": ["age"], "origin": "came", "exit": "left"},
    "nodes": {"lab": {"table": "labs.csv", "time": "taken", "code": "what", "value": "x"}},
    "outcomes": {
        "urea": {"kind": "progression", "node": "lab", "codes": ["urea"], "window": "20d"},
    },
}


def dated(first, rows=5, patients=80, start=0):
    """Patients who come from that day on, with values every month, the first of them on a day after that."""
    rng, every = np.random.default_rng(0), np.datetime64(first)
    came = every + rng.integers(0, 300, patients).astype("timedelta64[D]")
    ids = np.array([f"p{i:02d}" for i in range(patients)])
    people = pl.DataFrame(
        {
            "id": ids,
            "age": rng.normal(60, 9, patients).round(1),
            "came": came.astype(str),
            "left": (came + rng.integers(100, 300, patients).astype("timedelta64[D]")).astype(str),
        }
    )
    owner, month = np.repeat(np.arange(patients), rows), np.tile(np.arange(rows), patients)
    value = (5 + rng.normal(size=patients)[owner] + 0.1 * month + rng.normal(0, 0.3, len(owner))).round(2)
    taken = (came[owner] + (start + 30 * month).astype("timedelta64[D]")).astype(str)
    labs = pl.DataFrame({"id": ids[owner], "taken": taken, "what": "urea", "x": value})
    return read_cohort(DATED, {"people.csv": people, "labs.csv": labs})


def test_years_to_come_are_as_good_as_any():
    """MIMIC's dates lie in 2110 to 2200."""
    found = []
    for first in ("2021-01-01", "2150-01-01"):
        X = dated(first).landmarks(np.arange(60), times=[0, 60]).followed("urea")
        fitted = PrognosisModel(families=("linear",), members=2).fit(X)
        found.append(fitted.forecast(dated(first).at(60, patient=np.arange(60, 80), to=90))["urea"])
        assert found[-1].seen[found[-1].at_risk].max() > 0.9  # those who left are no longer followed
    same(*found)
    assert found[0].at_risk.any() and (found[0].quantile(0.5) > 1)[found[0].at_risk].all()


def test_one_row_a_patient():
    """At entry: nothing is to come. After it: nobody has a last value, and all are answered."""
    cohort = dated("2021-01-01", rows=1)
    with pytest.raises(InputError, match="outcome 'urea': no later value of urea after 80 landmarks"):
        PrognosisModel(families=("linear",)).fit(cohort.entries().followed("urea"))
    assert len(np.unique(cohort.landmarks(n=4).moments)) == 1  # entry is the only landmark that makes sense
    early = dated("2021-01-01", rows=1, start=10).entries().followed("urea")
    fitted = PrognosisModel(**QUICK | {"horizon": 30.0}).fit(early)
    forecast = fitted.forecast(early)["urea"]
    assert np.isnan(forecast.last).all() and np.isfinite(forecast.mean(to=10)).all()
    assert abs(forecast.mean(to=10).mean() - 5) < 0.5
