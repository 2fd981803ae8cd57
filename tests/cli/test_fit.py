"""Fits: what is fitted, the file of choices, stopped and resumed, the same bits."""

import csv
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest


def test_fit_takes_every_outcome(sick, good, refused, tmp_path):
    folder, said = sick
    assert "left out" not in said
    lines = [line for line in said.splitlines() if line.startswith("member ")]  # in a log: plain lines
    scored = [line for line in lines if "all patients" not in line]
    assert [line[:16] for line in scored] == [f"member {m}: 2 of 2" for m in range(1, 6)]
    again = [line for line in lines if "all patients" in line]
    assert again and all(re.match(r"member \d, all patients: (\d) of \1, loss", line) for line in again)
    assert "validation " in lines[0] and said.replace("\n", "").isprintable()
    found = good("info", folder / "run", "--json")
    assert found["outcomes"]["icu"] == {"classes": ["no", "yes"]}
    assert set(found["outcomes"]) == {"death", "icu", "lactate"}
    assert found["fitted_on"]["events"]["icu"].keys() == {"no", "yes"}
    assert "icu" in good("info", folder / "run")
    line = refused("fit", folder / "cohort", "--out", tmp_path / "new", "--outcome", "lactat")
    assert "unknown outcome 'lactat'; did you mean 'lactate'?" in line
    assert not (tmp_path / "new").exists()


def test_a_model_of_a_diagnosis_alone(sick, good, tmp_path):
    folder, _ = sick
    run = tmp_path / "run"
    few = ("--outcome", "icu", "--members", "1", "--epochs", "1")
    good("fit", folder / "cohort", "--out", run, "--config", folder / "fit.toml", *few)
    good("predict", run, folder / "cohort", "--at", "1", "--out", tmp_path / "r.csv")
    with open(tmp_path / "r.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["horizon"] for row in rows} == {row["low"] for row in rows} == {""}
    found = good("ask", run, folder / "cohort", "--patient", rows[0]["id"], "--json")["outcomes"]["icu"]
    assert found["low"] is found["high"] is found["band"] is None
    assert {row["model"] for row in good("evaluate", run, folder / "cohort", "--json")["rows"]} > {"logistic"}


@pytest.mark.gpu
def test_fit_on_a_gpu_and_predict_on_either(good, ward, tmp_path, split, monkeypatch):
    import polars as pl
    import torch

    run = tmp_path / "run"
    good("fit", ward / "cohort", "--out", run, "--config", ward / "fit.toml", "--device", "cuda")
    ask = ("ask", run, ward / "cohort", "--patient", split["test"][0], "--at", "2", "--json")
    predict = ("predict", run, ward / "cohort", "--at", "1,3", "--horizons", "4,8", "--out")
    said = [good(*ask)]
    good(*predict, tmp_path / "gpu.csv")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said.append(good(*ask))
    good(*predict, tmp_path / "cpu.csv")
    assert said[0] == said[1], "one ask is answered on the CPU anyway"
    gpu, cpu = (pl.read_csv(tmp_path / name)["risk"].to_numpy() for name in ("gpu.csv", "cpu.csv"))
    assert len(cpu) > 100 and cpu.max() > 0.1 and not np.array_equal(gpu, cpu)
    assert np.allclose(gpu, cpu, rtol=0, atol=1e-4)


MARK = Path("/tmp/gnnpatient_marker_built_here")

CONFIGS = {  # of a file of that name: the message
    "unknown_key.toml": ("[train]\nepohcs = 5\n", "unknown key 'epohcs'; did you mean 'epochs'"),
    "bad_types.toml": ('[train]\nepochs = "five"\nlr = -1\nseed = 1.5\n', "train."),
    "python_tag.yaml": (f"a: !!python/object/apply:builtins.open ['{MARK}', 'w']\n", "only a .toml"),
    "alias_bomb.yaml": ("a: &a [x, x]\nb: &b [*a, *a]\n", "only a .toml"),
    "config.json": ("{}", "only a .toml"),
    "latin1.toml": ("[train]\n# M\udcfc\n", "latin1.toml"),
    "nul.toml": ("[train]\nlr = 1\0", "nul.toml"),
    "empty.toml": ("", "train"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_p47_a_config_is_refused(refused, ward, tmp_path, name):
    text, says = CONFIGS[name]
    (tmp_path / name).write_text(text, errors="surrogateescape")
    said = refused("fit", ward / "cohort", "--out", tmp_path / "run", "--config", tmp_path / name)
    assert says in said and name in said
    assert not (tmp_path / "run").exists() and not MARK.exists()


@pytest.mark.parametrize("name", ["unknown_key.toml", "bad_types.toml", "python_tag.yaml", "alias_bomb.yaml"])
def test_p47_corpus(refused, ward, tmp_path, faults_dir, name):
    markers = set(Path("/tmp").glob("gnnpatient_marker_*"))
    file = faults_dir / "config" / name
    assert CONFIGS[name][1] in refused("fit", ward / "cohort", "--out", tmp_path / "run", "--config", file)
    assert set(Path("/tmp").glob("gnnpatient_marker_*")) == markers and not (tmp_path / "run").exists()


def test_a_config_has_closed_keys_and_right_types(refused, ward, tmp_path):
    for text, says in {
        "[train]\nlr = -1": "lr -1",
        "[trian]": "unknown key 'trian'",
        "[train": "fit.toml",
        "[train]\ndevice = 'cpu'": "unknown key 'device'",
        "[train]\nencoders = 'x'": "unknown key 'encoders'",
        "[train]\nlinear = false": 'train.linear is of the last release; write families = ["graph"]',
        "[train]\nridge = 3": "train.ridge is of the last release; it is chosen on inner folds",
    }.items():
        (tmp_path / "fit.toml").write_text(text)
        assert says in refused(
            "fit", ward / "cohort", "--out", tmp_path / "run", "--config", tmp_path / "fit.toml"
        )
    assert not (tmp_path / "run").exists()


def test_families_may_be_in_one_word(good, refused, ward, tmp_path):
    config = ("--config", ward / "fit.toml", "--members", "1", "--epochs", "1")
    fit = ("fit", ward / "cohort", "--out", tmp_path / "run", *config)
    good(*fit, "--family", "linear, graph")
    assert good("info", tmp_path / "run", "--json")["families"] == ["linear", "graph"]


def test_no_event_no_epoch(refused, ward, tmp_path):
    import polars as pl

    for file in ward.glob("*.csv"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    patients = pl.read_csv(ward / "patients.csv").with_columns(died=0, discharged=0)
    patients.write_csv(tmp_path / "patients.csv")
    from gnnpatient.cli import run

    assert (
        run(["pack", str(ward / "ward.toml"), "--data", str(tmp_path), "--out", str(tmp_path / "cohort")])
        == 0
    )
    assert "no events" in refused("fit", tmp_path / "cohort", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_control_c_is_130_and_resumable(good, ward, tmp_path, start):
    many = ("--config", ward / "fit.toml", "--epochs", "500", "--members", "1")
    running = start("fit", ward / "cohort", "--out", tmp_path / "run", *many)
    begun = time.monotonic()
    while not (tmp_path / "run" / "metrics.jsonl").exists() and time.monotonic() - begun < 600:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=600)
    assert running.returncode == 130 and "interrupted" in err and "Traceback" not in err
    found = good("info", tmp_path / "run", "--json")
    assert not found["finished"] and found["epochs"] < 500
    from gnnpatient.prognosis.run import Run

    assert Run.open(tmp_path / "run").plan["epochs"] == 500


def test_another_hash_seed_gives_the_same_bits(ward, tmp_path, start):
    """In a process of its own, as the fit of this one."""
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    env = {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
    run, config = tmp_path / "run", ward / "fit.toml"
    done = start("fit", ward / "cohort", "--out", run, "--config", config, env=env.items())
    _, err = done.communicate(timeout=600)
    assert done.returncode == 0, err
    for name in ("metrics.jsonl", "split.json", "run.json", "model/model.safetensors", "model/config.json"):
        assert (run / name).read_bytes() == (ward / "run" / name).read_bytes(), name


def test_a_finished_run_ends_well_when_resumed(good, ward):
    before = (ward / "run" / "model" / "model.safetensors").stat().st_mtime_ns
    assert "was finished already" in good("fit", ward / "cohort", "--out", ward / "run", "--resume")
    assert (ward / "run" / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_the_help_says_the_defaults_of_the_model(good):
    from gnnpatient.prognosis.problem import FitConfig

    said = " ".join(good("fit", "--help").split())
    assert f"of each network, at most [default: {FitConfig.epochs}]" in said
    assert f"how often each family is fitted [default: {FitConfig.members}]" in said
    assert f"of all that is drawn at random [default: {FitConfig.seed}]" in said
