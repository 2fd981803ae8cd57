"""Laws of forecasts and fits: the future, the batch, the seed, the interruption, what a saved model holds."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch

from gnnpatient import PrognosisModel, load_predictor
from gnnpatient.cohort.cohort import Cohort
from gnnpatient.cohort.packed import Events
from gnnpatient.prognosis import network
from gnnpatient.testing import tiny_cohort
from gnnpatient.times import DAY

QUICK = {"epochs": 2, "channels": 8, "batch_size": 64, "num_layers": 1, "horizon": 10.0}


@pytest.fixture(scope="module")
def cohort():
    return tiny_cohort()


@pytest.fixture(scope="module")
def train(cohort):
    return cohort.landmarks(np.arange(50), times=[0, 4, 7]).followed()


@pytest.fixture(scope="module")
def model(train):
    return PrognosisModel(members=2, **QUICK).fit(train)


def bits(model: PrognosisModel) -> str:
    """Of every tensor of every family, and the weights between them."""
    digest = sha256()
    for family in model.predictor_.families.values():
        for name, tensor in sorted(family.tensors().items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
    digest.update(str(model.predictor_.stacks).encode())
    return digest.hexdigest()


def poisoned(cohort: Cohort, day: float) -> Cohort:
    """Every row known after `day` is another, and every outcome comes a second after the landmark."""

    def later(e: Events) -> Events:
        hidden = e.known > day * DAY
        return replace(
            e,
            value=np.where(hidden, np.float32(1e9), e.value),
            code=np.where(hidden, 0, e.code),
            happened=np.where(hidden, e.known, e.happened),
        )

    outcomes = {
        name: replace(
            o,
            time=np.where(o.time > day * DAY, int(day * DAY) + 1, o.time),
            event=np.where(o.time > day * DAY, 2 - o.event, o.event),
        )
        for name, o in cohort.outcomes.items()
    }
    return replace(cohort, events={k: later(e) for k, e in cohort.events.items()}, outcomes=outcomes)


def shortened(cohort: Cohort, day: float) -> Cohort:
    """Every row known after `day` is gone."""

    def sooner(e: Events) -> Events:
        seen = e.known <= day * DAY
        ptr = np.concatenate([[0], np.bincount(e.patient[seen], minlength=len(e.ptr) - 1).cumsum()])
        return Events(**{name: ptr if name == "ptr" else c[seen] for name, c in e.columns().items()})

    return replace(cohort, events={k: sooner(e) for k, e in cohort.events.items()})


@pytest.mark.parametrize("change", [poisoned, shortened])
@pytest.mark.parametrize("day", [0.0, 2.0, 4.125])
def test_the_future_cannot_be_seen_by_a_forecast(cohort, model, change, day):
    before = model.forecast(cohort.at(day).followed())["death"]
    after = model.forecast(change(cohort, day).at(day).followed())["death"]
    assert np.array_equal(before.incidence, after.incidence)
    assert np.array_equal(before.members, after.members)


@pytest.mark.parametrize("change", [poisoned, shortened])
@pytest.mark.usefixtures("unchecked")
def test_the_future_cannot_be_seen_by_a_fit(cohort, train, model, change):
    """Rows after the last landmark change nothing. The outcomes are what is learned, so they stay."""
    changed = replace(change(cohort, 7.0), outcomes=cohort.outcomes)
    again = PrognosisModel(members=2, **QUICK).fit(
        changed.landmarks(np.arange(50), times=[0, 4, 7]).followed()
    )
    assert bits(again) == bits(model)


def test_alone_or_together(cohort, model):
    landmarks = cohort.landmarks(times=[0, 3, 7]).followed()
    together = model.forecast(landmarks)["death"].incidence
    assert together.dtype == np.float64
    order = np.random.default_rng(0).permutation(len(landmarks))
    assert np.abs(model.forecast(landmarks[order])["death"].incidence - together[order]).max() < 1e-5
    for i in range(0, len(landmarks), 7):
        assert np.abs(model.forecast(landmarks[i])["death"].incidence[0] - together[i]).max() < 1e-5
    lacking = replace(cohort, events={**cohort.events, "drug": cohort.events["drug"].empty()})
    half = cohort.landmarks(np.arange(40), times=[3]).followed()
    rest = lacking.landmarks(np.arange(40, 80), times=[3]).followed()
    mixed = np.concatenate([model.forecast(half)["death"].incidence, model.forecast(rest)["death"].incidence])
    both = replace(cohort, events={**cohort.events, "drug": _only_first(cohort.events["drug"], 40)})
    assert np.abs(model.forecast(both.at(3).followed())["death"].incidence - mixed).max() < 1e-5


def _only_first(e: Events, patients: int) -> Events:
    n = e.ptr[patients]
    return Events(**{k: np.minimum(c, n) if k == "ptr" else c[:n] for k, c in e.columns().items()})


def test_a_batch_is_cut_where_it_gets_long(cohort, model, monkeypatch):
    landmarks = cohort.landmarks(times=[0, 3]).followed()
    whole = model.forecast(landmarks)["death"].incidence
    monkeypatch.setattr("gnnpatient.prognosis.predictor.CHUNK", 7)
    assert np.abs(model.forecast(landmarks)["death"].incidence - whole).max() < 1e-5


def test_a_patient_without_a_single_event_has_an_answer(cohort, model):
    landmarks = cohort.at(0, patient="p079")
    assert all(np.diff(e.ptr)[79] == 0 for e in cohort.events.values())
    assert np.isfinite(model.forecast(landmarks)["death"].incidence).all()
    nobody = replace(cohort, events={k: e.empty() for k, e in cohort.events.items()})
    assert np.isfinite(model.forecast(nobody.at(1).followed())["death"].incidence).all()
    assert model.forecast(landmarks[[]])["death"].incidence.shape == (0, 3, len(model.unique_times_))


def test_slots_sum_to_one_and_event_free_never_rises(cohort, model):
    f = model.forecast(cohort.landmarks(times=[0, 1, 5, 9]).followed())["death"]
    for incidence in (f.incidence, *f.members):
        assert np.abs(incidence.sum(1) - 1).max() < 1e-12
        assert incidence.min() >= 0 and incidence.max() <= 1
        assert (np.diff(incidence[:, 0]) <= 0).all() and (np.diff(incidence[:, 1:]) >= 0).all()
    risk = np.stack([f.risks(np.linspace(0, 10, 41), cause) for cause in f.causes])
    assert (np.diff(risk) >= 0).all() and (risk[..., 0] == 0).all() and (risk.sum(0) <= 1).all()


@pytest.mark.usefixtures("unchecked")
def test_same_seed_same_bits(cohort, train, model):
    torch.manual_seed(12345)
    np.random.seed(1)
    mine = torch.random.get_rng_state()
    again = PrognosisModel(members=2, **QUICK).fit(train)
    assert torch.equal(torch.random.get_rng_state(), mine), "a fit leaves the caller's random state alone"
    assert bits(again) == bits(model)
    assert bits(PrognosisModel(members=2, seed=1, **QUICK).fit(train)) != bits(model)
    one = PrognosisModel(members=1, **QUICK).fit(train)
    asked = train[:20]
    for name in ("linear", "boosted", "graph"):
        both = model.predictor_.forecast(asked, families=name)["death"].members
        alone = one.predictor_.forecast(asked, families=name)["death"].incidence
        assert np.array_equal(alone, both[0]), "a member does not depend on how many there are"


@pytest.mark.slow
def test_the_hash_seed_of_python_does_not_show(model):
    code = f"""
import hashlib, numpy as np, torch
torch.set_num_threads(1)
from gnnpatient import PrognosisModel
from gnnpatient.testing import tiny_cohort
train = tiny_cohort().landmarks(np.arange(50), times=[0, 4, 7]).followed()
digest = hashlib.sha256()
predictor = PrognosisModel(members=2, **{QUICK}).fit(train).predictor_
for family in predictor.families.values():
    for name, tensor in sorted(family.tensors().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
digest.update(str(predictor.stacks).encode())
print(digest.hexdigest())
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert run.stdout.strip() == bits(model), run.stderr


class Stop(Exception):
    """The plug is pulled."""


@pytest.fixture(scope="module")
def whole(train, model, tmp_path_factory):
    """An uninterrupted run, and its log."""
    run = tmp_path_factory.mktemp("whole")
    told = []
    recorded = PrognosisModel(members=2, **QUICK).fit(
        train, run=run, progress=lambda *_, **entry: told.append(entry) if "epoch" in entry else None
    )
    assert bits(recorded) == bits(model), "recording changes nothing"
    scored = [(e["member"], e["epoch"]) for e in told if e["validation"] is not None]
    assert scored == [(m, e) for m in range(2) for e in range(2)] and 4 < len(told) <= 8
    return (run / "metrics.jsonl").read_text()


@pytest.mark.parametrize("epochs", range(1, 6))
@pytest.mark.usefixtures("unchecked")
def test_resumed_is_uninterrupted(train, model, whole, tmp_path, epochs):
    told = []

    def progress(*_, **entry):
        told.append(entry) if "epoch" in entry else None
        if len(told) == epochs:
            raise Stop

    with pytest.raises(Stop):
        PrognosisModel(members=2, **QUICK).fit(train, run=tmp_path, progress=progress)
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(whole.splitlines(True)[:epochs])
    rest = []
    resumed = PrognosisModel(members=2, **QUICK).fit(
        train, run=tmp_path, progress=lambda *_, **entry: rest.append(entry) if "epoch" in entry else None
    )
    assert len(rest) == len(whole.splitlines()) - epochs, "nothing is done twice"
    assert bits(resumed) == bits(model)
    assert (tmp_path / "metrics.jsonl").read_text() == whole


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_stopped_while_a_checkpoint_is_written(train, model, whole, tmp_path, monkeypatch, epochs):
    real, calls = network.write_state, []

    def write_state(path, state):
        calls.append(path)
        if len(calls) > epochs:
            raise Stop
        real(path, state)

    monkeypatch.setattr(network, "write_state", write_state)
    with pytest.raises(Stop):
        PrognosisModel(members=2, **QUICK).fit(train, run=tmp_path)
    monkeypatch.setattr(network, "write_state", real)
    assert bits(PrognosisModel(members=2, **QUICK).fit(train, run=tmp_path)) == bits(model)
    assert (tmp_path / "metrics.jsonl").read_text() == whole


def test_a_saved_model_holds_no_patient_and_no_row(cohort, tmp_path, monkeypatch):
    value = np.float32(1234.5678)
    number = cohort.number.copy()
    number[3, 0] = value
    lab = cohort.events["lab"]
    named = replace(
        cohort,
        ids=np.char.replace(cohort.ids, "p0", "PATIENT-ÄÖ-7q3"),
        group=np.where(cohort.group == "", "", np.char.add("SITE-ÄÖ-", cohort.group)),
        number=number,
        events={**cohort.events, "lab": replace(lab, value=np.where(lab.patient == 5, value, lab.value))},
    )
    model = PrognosisModel(members=1, **QUICK).fit(named.landmarks(np.arange(50), times=[0, 4, 7]).followed())
    model.save_pretrained(tmp_path / "model")
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"config.json", "model.safetensors", "README.md"}
    words = ["PATIENT-", "SITE-", "ÄÖ", "7q3", "north", "p000", "1234.56", str(float(value)), *named.ids]
    secrets = [word.encode(code) for word in words for code in ("utf-8", "utf-16-le")]
    secrets += [word.encode("unicode_escape") for word in words]
    secrets += [value.tobytes(), np.float64(value).tobytes()]
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret in content], path.name

    def refuse(*args, **kwargs):
        raise AssertionError("pickle")

    for module, name in ((pickle, "Unpickler"), (pickle, "load"), (pickle, "loads"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    loaded = load_predictor(tmp_path / "model").forecast(named.at(3))["death"].incidence
    assert np.array_equal(loaded, model.forecast(named.at(3))["death"].incidence, equal_nan=True)
