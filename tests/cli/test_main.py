"""The command itself: help, bad input in one line, exit codes, what it loads."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_version_and_help(good):
    import gnnpatient

    assert good("--version") == f"gnnpatient {gnnpatient.__version__}\n"
    text = " ".join(good("fit", "--help").split())
    assert "choices as [train] of a .toml" in text and "[default: 0.2]" in text


def test_bad_input_is_one_line_and_two(refused, ward, tmp_path):
    run, cohort = ward / "run", ward / "cohort"
    out = ("--out", tmp_path / "new")
    for words, says in {
        (): "gnnpatient --help",
        ("chekc",): "No such command",
        ("check", "pcb"): "neither a file nor a shipped cohort",
        ("check", "pbc", "--leak"): "No such option",
        ("check", "pbc", "--data", tmp_path): "no such file",
        ("check", "pbc", "--quarantine", ward / "ward.toml"): "ward.toml",
        ("pack", "pbc"): "Missing option '--out'",
        ("pack", "pbc", "--out", cohort): "not empty",
        ("info", tmp_path): "neither a cohort nor a run",
        ("fit", tmp_path, *out): "not a cohort",
        ("fit", cohort, "--out", run): "go on with --resume",
        ("fit", cohort, "--out", run, "--resume", "--seed", "3"): "the run has seed 0, not 3",
        ("fit", cohort, *out, "--landmarks", "3 moons"): "duration '3 moons'",
        ("fit", cohort, *out, "--test", "2"): "must be >= 0 and < 1",
        ("fit", cohort, *out, "--test-by", "after=2020-01-01"): "without a calendar",
        ("fit", cohort, *out, "--test-by", "group=north", "--test", "0.2"): "two ways to split",
        ("fit", cohort, *out, "--outcome", "deth"): "did you mean 'death'",
        ("fit", cohort, *out, "--device", "gpu"): "auto, cpu or cuda",
        ("evaluate", run, cohort, "--landmarks", "3y"): "nobody left to score",
        ("evaluate", run, cohort, "--horizons", "1y"): "this model was fitted up to 10 days",
        ("evaluate", run, cohort, "--by", "sxe"): "did you mean 'sex'",
        (
            "predict",
            run,
            cohort,
            "--at",
            "1",
            "--horizons",
            "5",
            "--out",
            tmp_path / "r.xlsx",
        ): ".csv or .parquet",
        (
            "predict",
            run,
            cohort,
            "--at",
            "1",
            "--horizons",
            "5",
            "--out",
            tmp_path / "no" / "r.csv",
        ): "make it first",
        ("ask", run, cohort, "--patient", "p999"): "unknown patient id",
        ("ask", run, cohort, "--patient", "p001", "--at", "2021-03-04"): "without a calendar",
        ("ask", run, cohort, "--patient", "p001", "--outcome", "deth"): "did you mean 'death'",
        ("export", cohort, "--patient", "p001", "--format", "gexf", "--out", tmp_path / "g"): "graphml, json",
        ("demo", "--cohort", "pcb"): "did you mean 'pbc'",
    }.items():
        assert says in refused(*words), words
    assert not list(tmp_path.iterdir())


def test_a_changed_cohort_or_model_is_refused_by_every_command(ward, refused, tmp_path):
    """One flipped bit; another array; names exchanged in the config: one line each, the file, the way out."""
    import shutil

    for name in ("cohort", "run"):
        shutil.copytree(ward / name, tmp_path / name)
    run, cohort = tmp_path / "run", tmp_path / "cohort"
    uses = [
        ("evaluate", run, cohort),
        ("predict", run, cohort, "--at", "1", "--horizons", "5", "--out", tmp_path / "r.csv"),
        ("ask", run, cohort, "--patient", "p001", "--at", "1"),
    ]
    on_cohort = [
        ("fit", cohort, "--out", tmp_path / "new", "--config", ward / "fit.toml"),
        ("fit", cohort, "--out", run, "--resume"),
        ("export", cohort, "--patient", "p001", "--format", "json", "--out", tmp_path / "g.json"),
    ]
    for file in (cohort / "lab.value.npy", cohort / "outcome.death.time.npy", cohort / "patient.id.npy"):
        whole = file.read_bytes()
        file.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
        for use in uses + on_cohort:
            line = refused(*use)
            assert file.name in line and line.endswith("; pack the cohort again\n"), (use, line)
        file.write_bytes(whole)
    assert not (tmp_path / "new").exists() and not (tmp_path / "r.csv").exists()
    manifest = cohort / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(
        whole.replace('"lactate"', '"?"').replace('"sodium"', '"lactate"').replace('"?"', '"sodium"')
    )
    for use in [*uses, *on_cohort, ("info", cohort)]:
        assert "manifest.json: not as pack wrote it" in refused(*use)
    manifest.write_text(whole)
    config = run / "model" / "config.json"
    whole = config.read_text()
    config.write_text(
        whole.replace('"lactate"', '"?"').replace('"sodium"', '"lactate"').replace('"?"', '"sodium"')
    )
    for use in [*uses, ("info", run)]:
        assert "config.json: not as it was written" in refused(*use)


def test_a_model_is_never_loaded_from_anything_else(refused, ward, tmp_path, faults_dir):
    markers = set(Path("/tmp").glob("gnnpatient_marker_*"))
    config = (ward / "run" / "model" / "config.json").read_bytes()
    ask = (ward / "cohort", "--patient", "p001")
    for file in sorted((faults_dir / "model").iterdir()):
        refused("ask", file, *ask)
        if file.is_file():  # in the place of the weights
            folder = tmp_path / file.name
            folder.mkdir()
            (folder / "config.json").write_bytes(config)
            (folder / "model.safetensors").write_bytes(file.read_bytes())
            refused("ask", folder, *ask)
            assert {entry.name for entry in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert set(Path("/tmp").glob("gnnpatient_marker_*")) == markers


def test_weights_that_are_not_finite_are_refused(refused, ward, tmp_path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(ward / "run" / "model" / "model.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel())
    tensors[name].view(-1)[0] = float("nan")
    (tmp_path / "config.json").write_bytes((ward / "run" / "model" / "config.json").read_bytes())
    save_file(tensors, tmp_path / "model.safetensors")
    assert "not finite" in refused("ask", tmp_path, ward / "cohort", "--patient", "p001")


def test_an_escape_in_an_id_does_not_reach_the_terminal(cli, ward):
    _, _, err = cli("ask", ward / "run", ward / "cohort", "--patient", "\x1b[31mred")
    assert "\x1b" not in err


def test_an_error_of_ours_is_one_line_too(cli, monkeypatch, ward):
    import gnnpatient.cohort.cohort as home

    monkeypatch.setattr(home, "open_cohort", lambda path: 1 / 0)
    code, _, err = cli("evaluate", ward / "run", ward / "cohort")
    assert code == 1 and "GNNPATIENT_TRACEBACK=1" in err and err.count("\n") == 1


def test_an_unknown_outcome_is_refused_before_torch_is_loaded(ward, start):
    """In a process of its own, where torch cannot be loaded at all."""
    for words in (("fit", ward / "cohort", "--out", ward / "none"), ("compare", ward / "cohort")):
        process = start(*words, "--outcome", "deth", before="import sys; sys.modules['torch'] = None")
        _, err = process.communicate(timeout=600)
        assert process.returncode == 2 and "unknown outcome 'deth'; did you mean 'death'" in err, err


@pytest.mark.parametrize(
    "words", [("--help",), ("info", "cohort"), ("info", "run"), ("check", "pbc"), ("check", "pbc", "--leaks")]
)
def test_light_commands_load_no_torch(ward, words, start):
    words = [ward / w if w in ("cohort", "run") else w for w in words]
    tell = "import atexit, sys\natexit.register(lambda: print('loaded', *sys.modules))\n"
    done = start(*words, before=tell)
    out, err = done.communicate(timeout=600)
    assert done.returncode == 0, err
    heavy = {"torch", "sklearn", "sksurv", "torch_geometric"} | ({"polars"} if words[0] != "check" else set())
    assert not heavy & set(out.rsplit("loaded", 1)[1].split())


def test_ask_loads_little_and_calls_nobody(ward, start):
    before = (
        "import atexit, socket, sys\n"
        "def no(*a, **k): raise SystemExit('a call out')\n"
        "socket.socket.connect = socket.socket.connect_ex = socket.create_connection = no\n"
        "atexit.register(lambda: print('loaded', *sys.modules))\n"
    )
    done = start("ask", ward / "run", ward / "cohort", "--patient", "p001", before=before)
    out, err = done.communicate(timeout=600)
    assert done.returncode == 0, err
    heavy = {"sklearn", "sksurv", "polars", "torch_geometric", "pandas", "matplotlib"}
    assert not heavy & set(out.rsplit("loaded", 1)[1].split())


def test_python_m_of_the_package_is_the_command_line():
    done = subprocess.run([sys.executable, "-m", "gnnpatient", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("gnnpatient "), done.stderr


def test_a_line_a_fit_with_the_time_used_and_left(capsys):
    """Plain lines by a clock of its own, alike in a log and on a terminal; of folds one each."""
    from gnnpatient.cli.console import StepLines

    for per_fold in (False, True):
        times = iter((0.0, 30.0, 90.0))
        with StepLines(per_fold, clock=lambda: next(times)) as step:  # noqa: B023
            step("fold 1 of 2: gnn", 1, 4, ends_fold=False)
            step("fold 1 of 2: cox", 2, 4, ends_fold=True)
    assert capsys.readouterr().err.splitlines() == [
        "gnnpatient: fold 1 of 2: gnn: 30 s; 1 of 4 fits in 30 s, about 1.5 min left",
        "gnnpatient: fold 1 of 2: cox: 1 min; 2 of 4 fits in 1.5 min, about 1.5 min left",
        "gnnpatient: fold 1 of 2: 1.5 min; 2 of 4 fits in 1.5 min, about 1.5 min left",
    ]
    clock = iter((0.0, 20.0, 35.0, 50.0, 4000.0))
    with StepLines(clock=lambda: next(clock)) as step:
        for epoch in (1, 2, 3):
            step("fold 1 of 2: gnn", 0, 4, within=f"member 1, epoch {epoch} of 30")
        step("fold 1 of 2: gnn", 1, 4)
    assert capsys.readouterr().err.splitlines() == [
        "gnnpatient: fold 1 of 2: gnn: member 1, epoch 2 of 30",
        "gnnpatient: fold 1 of 2: gnn: 1.1 h; 1 of 4 fits in 1.1 h, about 3.3 h left",
    ]


def test_a_budget_has_a_unit(capsys):
    from gnnpatient import InputError
    from gnnpatient.cli.evaluate import _limit

    assert [_limit(text) for text in (None, "90s", "10m", "10min", "1.5h")] == [None, 90, 600, 600, 5400]
    for wrong in ("10", "", "0s", "ten minutes", "-5m"):
        with pytest.raises(InputError, match=r"budget|duration"):
            _limit(wrong)
