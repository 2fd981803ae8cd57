"""Models on disk: what comes back is what was saved, and nothing else is loaded."""

import copy
import json
import random
import resource
import shutil
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from torch import nn

from gnnpatient import InputError, PrognosisModel, load_predictor
from gnnpatient.files import file_hash, sealed
from gnnpatient.prognosis.checkpoint import FORMAT
from gnnpatient.prognosis.states import State, read_state, write_state

pytestmark = pytest.mark.usefixtures("given_ridge")


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def write(folder, config):
    """A config with the digest that an attacker would give it: what lies behind the digest is tried, too."""
    text = sealed({key: value for key, value in config.items() if key != "digest"})
    (folder / "config.json").write_text(text, errors="surrogateescape")


def refused(folder, match):
    """Both loaders refuse with one line."""
    for load in (load_predictor, PrognosisModel.from_pretrained):
        with pytest.raises(InputError, match=match) as refusal:
            load(folder)
        assert "\n" not in str(refusal.value) and str(folder) in str(refusal.value)


def test_the_same_bits_come_back(model, saved, test, cohort, tmp_path):
    before = model.forecast(test)["death"]
    loaded = PrognosisModel.from_pretrained(saved)
    assert loaded.get_params() == model.get_params() and loaded.train_ids_ == frozenset()
    for answer in (loaded.forecast(test), load_predictor(saved).forecast(test)):
        assert np.array_equal(answer["death"].incidence, before.incidence)
        assert np.array_equal(answer["death"].members, before.members)
    assert loaded.score(test) == model.score(test)
    loaded.save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()
    shutil.copytree(saved, tmp_path / "run" / "model")
    assert load_predictor(tmp_path / "run").outcomes == ("death",)
    with pytest.raises(InputError, match="not empty"):
        model.save_pretrained(saved)


def test_where_it_was_fitted_is_not_saved(model, tmp_path):
    """Else what a GPU fitted could not be asked where there is none."""
    there = copy.copy(model)
    there.device = "cuda"
    there.save_pretrained(tmp_path / "model")
    assert PrognosisModel.from_pretrained(tmp_path / "model").device == "auto"


def test_a_head_of_another_kind_is_refused(copied):
    config = json.loads((copied / "config.json").read_text())
    for head in (
        {"kind": "diagnosis", "causes": ["a"], "times": [1.0]},
        {"kind": "survival", "classes": ["a", "b"]},
        {"kind": "guess", "classes": ["a", "b"]},
        {"classes": ["a", "b"]},
        {"causes": ["a"], "times": [1.0]},
    ):
        config["model"]["heads"]["death"] = head
        write(copied, config)
        refused(copied, "not the config of a gnnpatient model")
    config["model"]["heads"]["death"] = {"kind": "diagnosis", "classes": ["a", "b"]}
    write(copied, config)
    refused(copied, "do not fit together")


class Neighbours(nn.Module):
    """A layer of the user's own: a row adds what the one before it of the same code says."""

    def __init__(self, channels, relations):
        super().__init__()
        self.linear = nn.Linear(channels, channels)

    def forward(self, x, table):
        edges = table.relations["same"]
        return x + torch.zeros_like(x).index_add_(0, edges.target, self.linear(x[edges.source])).tanh()


def test_a_layer_of_the_users_own_is_named_and_given_back(train, test, quick, tmp_path):
    model = PrognosisModel(**quick, conv=Neighbours, families=("graph",)).fit(train)
    before = model.forecast(test)["death"].incidence
    model.save_pretrained(tmp_path / "model")
    refused(tmp_path / "model", r"layers=\{'Neighbours'")
    own = {"Neighbours": Neighbours}
    loaded = PrognosisModel.from_pretrained(tmp_path / "model", layers=own)
    assert loaded.conv is Neighbours and clone(loaded).conv is Neighbours
    for one in (loaded, load_predictor(tmp_path / "model", layers=own)):
        assert np.array_equal(one.forecast(test)["death"].incidence, before)
    assert "Neighbours" in (tmp_path / "model" / "config.json").read_text()


class Squares(nn.Module):
    """An encoder of the user's own."""

    def __init__(self, features, channels):
        super().__init__()
        self.linear = nn.Linear(features, channels)

    def forward(self, x):
        return self.linear(x.square())


def test_an_encoder_of_the_users_own_is_named_and_given_back(train, test, quick, tmp_path):
    how = {**quick, "encoders": {"lab": Squares, "drug": Squares}, "families": ("graph",)}
    model = clone(PrognosisModel(**how, conv=Neighbours)).fit(train, run=tmp_path / "run")
    before = model.forecast(test)["death"].incidence
    plain = PrognosisModel(**{**how, "encoders": None}, conv=Neighbours).fit(train)
    assert not np.allclose(plain.forecast(test)["death"].incidence, before)
    with pytest.raises(InputError, match="of a fit with other choices"):
        PrognosisModel(**{**how, "encoders": None}, conv=Neighbours).fit(train, run=tmp_path / "run")
    resumed = PrognosisModel(**how, conv=Neighbours).fit(train, run=tmp_path / "run")
    assert np.array_equal(resumed.forecast(test)["death"].incidence, before)
    model.save_pretrained(tmp_path / "model")
    refused(tmp_path / "model", r"from Python: layers=\{'Neighbours': Neighbours, 'Squares': Squares\}")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "The encoder of `drug` is `Squares`" in card
    assert 'layers={"Neighbours": Neighbours, "Squares": Squares})' in card
    own = {"Neighbours": Neighbours, "Squares": Squares}
    loaded = PrognosisModel.from_pretrained(tmp_path / "model", layers=own)
    assert loaded.encoders == {"lab": Squares, "drug": Squares} and loaded.conv is Neighbours
    for one in (loaded, load_predictor(tmp_path / "model", layers=own)):
        assert np.array_equal(one.forecast(test)["death"].incidence, before)
    with pytest.raises(InputError, match="two classes called 'Squares'"):
        other = type("Squares", (Neighbours,), {})
        PrognosisModel(**how, conv=other).fit(train)
    with pytest.raises(InputError, match=r"encoder of 'lab': must be a class"):
        PrognosisModel(**{**how, "encoders": {"lab": Squares(8, 8)}}).fit(train)


def test_loading_leaves_the_random_state_alone(saved):
    before = torch.random.get_rng_state()
    load_predictor(saved)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_choices_of_a_grid_search_can_be_saved(model, tmp_path):
    """A grid search sets numpy's numbers."""
    twin = copy.copy(model).set_params(channels=np.int64(4), verbose=np.bool_(True), kinds=np.array(["lab"]))
    twin.save_pretrained(tmp_path / "model")
    choices = PrognosisModel.from_pretrained(tmp_path / "model").get_params()
    assert (choices["channels"], choices["kinds"]) == (4, ["lab"])


def test_the_card_counts(saved, train):
    card = (saved / "README.md").read_text()
    death = train.cohort.outcomes["death"].event[:60]
    tens = lambda n: 10 * int(n / 10 + 0.5)  # noqa: E731
    assert f"{tens(len(np.unique(train.patient)))} patients, {tens(len(train))} landmarks" in card
    assert f"{tens((death == 2).sum())} patients with death" in card
    assert f"{tens((death == 1).sum())} patients with discharge" in card
    for word in (
        "Research use only",
        "event-free, not alive",
        "10 days",
        "lab: 3 codes",
        "age, sex",
        "2 members each",
        "| boosted | 0.5 |",
        "not shown to add anything",
    ):
        assert word in card


def test_a_fresh_process_loads_little(cohort, model, saved, tmp_path):
    cohort.save(tmp_path / "cohort")
    code = f"""
import sys, numpy as np
from gnnpatient import load_predictor, open_cohort
cohort = open_cohort({str(tmp_path / "cohort")!r})
answer = load_predictor({str(saved)!r}).forecast(cohort.at(3))["death"]
np.save({str(tmp_path / "answer.npy")!r}, answer.incidence)
print(*sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert not set(run.stdout.split()) & {"sklearn", "sksurv", "polars", "torch_geometric", "pandas"}
    here = model.forecast(cohort.at(3))["death"].incidence
    assert np.allclose(np.load(tmp_path / "answer.npy"), here, atol=1e-6, equal_nan=True)


# -- refused --


def test_what_is_not_there(tmp_path, saved):
    refused(tmp_path / "nowhere", "not there; a model is a folder")
    refused(tmp_path, "no folder with a config.json")
    refused(saved / "config.json", "a file; a model is a folder")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite(copied, bad):
    weights = load_file(copied / "model.safetensors")
    name = next(name for name in weights if name.startswith("graph.0.") and name.endswith(".weight"))
    weights[name].view(-1)[0] = bad
    save_file(weights, copied / "model.safetensors")
    refused(copied, "weights not finite")


def test_a_cut_file(copied):
    whole = (copied / "model.safetensors").read_bytes()
    for size in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        (copied / "model.safetensors").write_bytes(whole[:size])
        refused(copied, "download it again")
    (copied / "model.safetensors").unlink()
    refused(copied, "download it again")


def test_a_huge_header_costs_nothing(copied):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for size in (2**63, 2**40, 2**30):
        (copied / "model.safetensors").write_bytes(struct.pack("<Q", size) + b"{" * 1000)
        refused(copied, "not a safetensors file, or cut")
    with (copied / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 2**30))
        file.truncate(2**31)  # sparse
    refused(copied, "not a safetensors file, or cut")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


class Marker:
    """Pickled, it leaves a file where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_that_can_hold_code_is_loaded(copied, tmp_path):
    weights = load_file(copied / "model.safetensors")
    for legacy in (True, False):
        torch.save(
            {"weights": weights, "x": Marker(tmp_path / "marker")},
            tmp_path / "model.pt",
            _use_new_zipfile_serialization=not legacy,
        )
        refused(tmp_path / "model.pt", "nothing else is loaded")
        shutil.copy(tmp_path / "model.pt", copied / "model.safetensors")
        refused(copied, "not a safetensors file")
    assert not (tmp_path / "marker").exists()


def test_the_corpus_of_broken_models(faults_dir, copied, tmp_path):
    corpus = faults_dir / "model"
    marks = {path for path in tmp_path.parent.glob("*") if "marker" in path.name}
    for path in sorted(corpus.iterdir()):
        refused(path, "a model is a folder of save_pretrained|not the config of a gnnpatient model")
        if path.is_file():
            shutil.copy(path, copied / "model.safetensors")
            refused(copied, "download it again|do not fit together")
    assert {path for path in tmp_path.parent.glob("*") if "marker" in path.name} == marks
    assert not list(tmp_path.glob("*marker*"))


def test_configs_that_are_not_ours(copied):
    config = copied / "config.json"
    whole = config.read_text()
    for text in (
        "",
        "{",
        "[]",
        "null",
        "1",
        "{}",
        '"x"',
        json.dumps({"format": FORMAT}),
        "[" * 100_000,
        "\udc80",
    ):
        config.write_text(text, errors="surrogateescape")
        refused(copied, "not the config of a gnnpatient model")
    config.write_text(whole.replace(f'"format": {FORMAT}', '"format": 99'))
    refused(copied, f"format 99, this version reads {FORMAT}")
    write(copied, json.loads(whole.replace('"channels": 8', '"channels": 9')))
    refused(copied, "do not fit together")
    write(copied, json.loads(whole.replace('"channels": 8', '"chanels": 8')))
    refused(copied, "do not fit together")
    for part in ("heads", "stacks", "vocabulary", "families"):
        write(copied, json.loads(whole.replace(f'"{part}": {{', f'"{part}s": {{')))
        refused(copied, "not the config of a gnnpatient model")


def places(node, path=()):
    """Every place of a JSON tree."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def test_a_tampered_config_is_refused_or_still_answers(copied, test):
    """Any place of it replaced: refused in one line, or a model that gives finite answers."""
    config = copied / "config.json"
    whole = json.loads(config.read_text())
    draw = random.Random(0)
    instead = [None, -1, 0, 10**12, 1e308, float("nan"), "x", [], {}, [1], True]
    every = [path for path in places(whole) if path]
    short = [path for path in every if len(path) <= 3]
    for path in [*short, *draw.sample(every, 60)]:
        tampered = copy.deepcopy(whole)
        at = tampered
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = draw.choice(instead)
        write(copied, tampered)
        try:
            predictor = load_predictor(copied)
        except InputError as refusal:
            assert "\n" not in str(refusal) and str(copied) in str(refusal), (path, refusal)
            continue
        if path[0] == "model":
            assert all(np.isfinite(f.incidence).all() for f in predictor.forecast(test).values()), path


def test_choices_that_this_version_does_not_know(copied):
    config = copied / "config.json"
    write(copied, json.loads(config.read_text()) | {"choices": {"epohcs": 3}})
    with pytest.raises(InputError, match="unknown choice 'epohcs'; did you mean 'epochs'"):
        PrognosisModel.from_pretrained(copied)
    assert load_predictor(copied).outcomes == ("death",), "choices are for fitting again, not for asking"


def test_states_come_back_whole(tmp_path):
    state = State({"a": torch.arange(3.0), "b": torch.tensor(7)}, {"history": [{"loss": 0.1}], "n": 3})
    write_state(tmp_path / "state.safetensors", state)
    again = read_state(tmp_path / "state.safetensors")
    assert again.facts == state.facts
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in state.tensors.items())
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors", metadata={"facts": "{"})
    with pytest.raises(InputError, match="facts are not JSON"):
        read_state(tmp_path / "other.safetensors")


# -- hashes --


def swapped(text, one, other):
    return text.replace(f'"{one}"', '"?"').replace(f'"{other}"', f'"{one}"').replace('"?"', f'"{other}"')


def test_a_config_that_was_edited_is_refused(copied):
    """Two names exchanged, another null, another cause first: each still fits the weights."""
    config = copied / "config.json"
    whole = config.read_text()
    held = json.loads(whole)
    one, other = held["model"]["vocabulary"]["codes"]["lab"][1:3]
    null = json.loads(whole)["null"]
    null["death"][1][0] += 0.1
    edits = {
        "codes": swapped(whole, one, other),
        "causes": whole.replace('"discharge"', '"discharged"'),
        "null": json.dumps(held | {"null": null}, indent=1),
        "weights": whole.replace(held["weights"], "0" * 64),
        "digest": whole.replace(held["digest"], "0" * 64),
        "none": json.dumps({key: value for key, value in held.items() if key != "digest"}),
        "one letter": whole.replace('"seed": 0', '"seed": 1'),
    }
    for what, text in edits.items():
        assert text != whole, what
        config.write_text(text)
        refused(copied, r"config\.json: not (as it was written|the config of)")
    config.write_text(whole)
    assert load_predictor(copied).outcomes == ("death",)


def test_weights_of_another_model_and_flipped_bits_are_refused(copied, model):
    """The same shapes, other numbers: only the hash can tell."""
    file = copied / "model.safetensors"
    whole = file.read_bytes()
    assert json.loads((copied / "config.json").read_text())["weights"] == file_hash(file)
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(
        copied,
        r"model\.safetensors: not the weights that its config\.json was written with; download it again",
    )
    tensors = load_file(file)
    save_file(
        {name: tensor / 2 if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}, file
    )
    refused(copied, "not the weights")
    members = {
        name.replace("0.", "?", 1).replace("1.", "0.", 1).replace("?", "1.", 1): t
        for name, t in tensors.items()
    }
    save_file(members, file)  # the two members exchanged
    refused(copied, "not the weights")
    file.write_bytes(whole)
    load_predictor(copied)


def test_a_checkpoint_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    write_state(path, State({"a": torch.arange(3.0), "b": torch.ones(3)}, {"history": [{"loss": 0.125}]}))
    whole = path.read_bytes()
    assert b"0.125" in whole
    for other in (
        whole[:-1] + bytes([whole[-1] ^ 1]),
        whole.replace(b"0.125", b"0.126"),
        whole.replace(b'"a"', b'"?"').replace(b'"b"', b'"a"').replace(b'"?"', b'"b"'),
    ):
        assert other != whole
        path.write_bytes(other)
        with pytest.raises(InputError, match=r"state\.safetensors: its content is not what was written"):
            read_state(path)


@pytest.mark.parametrize("name", ["../../pwn", "/pwn", "a\\b", "..", "", "a\0b", "a\nb"])
def test_a_name_in_a_config_that_leads_out_is_refused(copied, name):
    """With a digest that fits: an attacker can compute it."""
    config = json.loads((copied / "config.json").read_text())
    head, null = config["model"]["heads"]["death"], config["null"]["death"]
    outcome = copy.deepcopy(config) | {"null": {name: null}}
    outcome["model"]["heads"] = {name: head}
    outcome["model"]["stacks"] = {name: outcome["model"]["stacks"]["death"]}
    cause = copy.deepcopy(config)
    cause["model"]["heads"]["death"]["causes"][0] = name
    for tampered in (outcome, cause):
        write(copied, tampered)
        refused(copied, "not the config of a gnnpatient model")


def test_a_model_that_has_seen_bounds_is_saved_and_opened(cohort, train, tmp_path):
    """And what was written was read back once, so that no fit ends in a folder that cannot be opened."""
    from gnnpatient import PrognosisModel, load_predictor
    from gnnpatient.cohort.cohort import Landmarks

    lab = cohort.events["lab"]
    bound = np.where(np.arange(len(lab.value)) % 3 == 0, -1, 0).astype(np.int8)
    bounded = replace(cohort, events={**cohort.events, "lab": replace(lab, bound=bound)})
    X = Landmarks(bounded, train.patient, train.at)
    model = PrognosisModel(members=1, epochs=1, channels=8, horizon=10.0).fit(X)
    assert model.predictor_.vocabulary.bounded == ("lab",)
    model.save_pretrained(tmp_path / "model")
    said = load_predictor(tmp_path / "model").forecast(bounded.at(3))["death"].incidence
    assert np.array_equal(said, model.forecast(bounded.at(3))["death"].incidence, equal_nan=True)


def test_the_card_names_a_layer_that_is_not_in_the_folder(train, tmp_path):
    from torch_geometric.nn import SAGEConv

    choices = {"families": ("graph",), "members": 1, "epochs": 1, "channels": 8, "horizon": 10.0}
    PrognosisModel(conv=SAGEConv, **choices).fit(train).save_pretrained(tmp_path / "own")
    card = (tmp_path / "own" / "README.md").read_text()
    assert "The layer of the graph is `SAGEConv`" in card and 'layers={"SAGEConv": SAGEConv})' in card
    assert "graph, 1 member." in card and "each." not in card
    with pytest.raises(
        InputError, match=r"from Python: layers=\{'SAGEConv': SAGEConv\}, as in load_predictor"
    ):
        load_predictor(tmp_path / "own")
    assert load_predictor(tmp_path / "own", {"SAGEConv": SAGEConv}).members == 1
    PrognosisModel(**choices).fit(train).save_pretrained(tmp_path / "ours")
    assert "The layer of the graph" not in (tmp_path / "ours" / "README.md").read_text()
