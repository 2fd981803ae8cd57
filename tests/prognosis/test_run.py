"""A run survives kill -9 at any moment, a full disk, a second writer; resumed is uninterrupted to the bit."""

import errno
import json
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest

PLAN = {
    "members": 2,
    "epochs": 3,
    "channels": 8,
    "batch_size": 32,
    "horizon": 10.0,
    "landmarks": [0.0, 2.0, 4.0],
}
fork = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(scope="session")
def packed(cohort, tmp_path_factory):
    from gnnpatient import open_cohort

    return open_cohort(cohort.save(tmp_path_factory.mktemp("packed") / "cohort"))


def fit(packed, folder, resume=False, **given):
    from gnnpatient.prognosis.run import fit_run

    return fit_run(packed, folder, PLAN | given, resume=resume)


def weights(run):
    return (run.folder / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="session")
def whole(packed, tmp_path_factory):
    return fit(packed, tmp_path_factory.mktemp("runs") / "whole")


def killed(packed, folder, after):
    """Fit in a child that is killed `after` some seconds."""
    child = os.fork()
    if not child:
        try:
            fit(packed, folder, resume=True)
        finally:
            os._exit(0)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def opens(folder):
    """What a kill left: no run yet, or one that opens, with whole checkpoints and a whole log."""
    from gnnpatient.prognosis.checkpoint import read_state
    from gnnpatient.prognosis.run import Run

    if (folder / "run.json").exists():
        assert Run.open(folder).train
    for file in folder.glob("checkpoints/member-*.safetensors"):
        assert read_state(file).facts["history"]
    if (folder / "metrics.jsonl").exists():
        assert all(json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())


def survives(packed, folder, whole, kills):
    rng = np.random.default_rng(kills)
    for _ in range(kills):
        killed(packed, folder, rng.uniform(0, 0.6))
        opens(folder)
    run = fit(packed, folder, resume=True)
    assert weights(run) == weights(whole)
    assert (folder / "metrics.jsonl").read_text() == (whole.folder / "metrics.jsonl").read_text()
    assert not list(folder.rglob(".part-*"))


@fork
def test_killed_twice_then_resumed_is_uninterrupted(packed, tmp_path, whole):
    survives(packed, tmp_path / "run", whole, 2)


@fork
@pytest.mark.slow
def test_killed_twenty_times_then_resumed_is_uninterrupted(packed, tmp_path, whole):
    survives(packed, tmp_path / "run", whole, 20)


def test_same_seed_same_bits(packed, tmp_path, whole):
    run = fit(packed, tmp_path / "again")
    assert weights(run) == weights(whole)
    for name in ("metrics.jsonl", "run.json", "split.json"):
        assert (run.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_what_may_be_given_away_holds_no_patient(whole, packed):
    for file in [
        *(whole.folder / "model").iterdir(),
        whole.folder / "metrics.jsonl",
        whole.folder / "run.json",
    ]:
        content = file.read_bytes()
        assert not any(f'"{one}"'.encode() in content for one in packed.ids)


def test_the_split_parts_patients_and_keeps_groups(whole, packed):
    train, test = set(whole.train), set(whole.test)
    assert not train & test and train | test == set(packed.ids)
    assert set(whole.asks(packed).ids) <= train
    where = {one: site for one, site in zip(packed.ids, packed.group, strict=True) if site}
    assert not {where[i] for i in train if i in where} & {where[i] for i in test if i in where}


@pytest.mark.parametrize("share", [0.1, 0.2, 0.35, 0.5])
def test_a_share_spreads_the_events(cohort, share):
    from gnnpatient.prognosis.run import _share

    free = replace(cohort, group=None)
    test = _share(free, share, 3, "death")
    assert abs(test.sum() - 80 * share) <= 1
    for k in range(3):
        event = free.outcomes["death"].event == k
        assert abs((test & event).sum() - event.sum() * share) <= 1.01


def test_split_by_group_and_by_date(cohort):
    from gnnpatient import Refused
    from gnnpatient.prognosis.run import _test_by

    assert (_test_by(cohort, "group=north") == (cohort.group == "north")).all()
    assert (_test_by(cohort, "site=north") == (cohort.group == "north")).all()
    origin = np.arange(80) * 86_400
    dated = replace(cohort, origin=origin)
    assert _test_by(dated, "after=1970-03-01").sum() == 80 - 59  # on that day or after
    for text, says in {
        "group=nort": "did you mean 'north'",
        "after=1970-3-1": "write a date",
        "after=2199-01-01": "0 of 80",
        "sex=female": "group=VALUE or after=DATE",
    }.items():
        with pytest.raises(Refused, match=says):
            _test_by(dated, text)
    with pytest.raises(Refused, match="without a calendar"):
        _test_by(cohort, "after=1970-03-01")


def test_a_patient_on_both_sides_is_refused_with_their_number(whole, tmp_path):
    from gnnpatient import Refused
    from gnnpatient.prognosis.run import Run

    (tmp_path / "run.json").write_bytes((whole.folder / "run.json").read_bytes())
    both = {"train": [*whole.train, *whole.test[:2]], "test": whole.test}
    (tmp_path / "split.json").write_text(json.dumps(both))
    with pytest.raises(Refused, match=r"2 patient\(s\) in training and in test"):
        Run.open(tmp_path)


def test_a_second_fit_and_other_choices_are_refused(whole, packed, cohort, tmp_path):
    from gnnpatient import Refused, open_cohort

    with pytest.raises(Refused, match="holds a run already; go on with --resume"):
        fit(packed, whole.folder)
    with pytest.raises(Refused, match="the run has epochs 3, not 4"):
        fit(packed, whole.folder, resume=True, epochs=4)
    with pytest.raises(Refused, match=r"the run has test 0\.2, not 0\.3"):
        fit(packed, whole.folder, resume=True, test=0.3)
    number = cohort.number + 1
    other = open_cohort(replace(cohort, number=number).save(tmp_path / "other"))
    with pytest.raises(Refused, match="a run on another cohort"):
        fit(other, whole.folder, resume=True)
    before = weights(whole)
    assert fit(packed, whole.folder, resume=True).finished and weights(whole) == before


def test_two_writers_at_once_are_refused(packed, tmp_path):
    from gnnpatient import Refused
    from gnnpatient.files import lock

    with lock(tmp_path / "run"), pytest.raises(Refused, match="another process is writing here"):
        fit(packed, tmp_path / "run")


def test_a_fit_that_is_refused_leaves_nothing(packed, tmp_path):
    from gnnpatient import Refused

    for wrong in (
        {"landmarks": [29.9]},
        {"epochs": 0},
        {"outcomes": ["deth"]},
        {"horizon": 1e-6},
        {"test": 1.5},
    ):
        with pytest.raises(Refused):
            fit(packed, tmp_path / "run", **wrong)
        assert not (tmp_path / "run").exists()


def test_a_full_disk_keeps_the_older_checkpoint(packed, tmp_path, whole, monkeypatch):
    from gnnpatient import Refused
    from gnnpatient.prognosis import checkpoint

    count, save = iter(range(100)), checkpoint.save_file

    def full(tensors, path, metadata=None):
        if next(count) == 3:
            path.write_bytes(b"")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save(tensors, path, metadata=metadata)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(Refused, match="no space left on the disk"):
        fit(packed, tmp_path / "run")
    opens(tmp_path / "run")
    assert not list((tmp_path / "run").rglob(".part-*"))
    monkeypatch.undo()
    assert weights(fit(packed, tmp_path / "run", resume=True)) == weights(whole)


def test_interrupted_between_epochs_it_goes_on(packed, tmp_path, whole):
    from gnnpatient.prognosis.run import fit_run

    def tell(entry):
        if entry["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_run(packed, tmp_path / "run", PLAN, tell=tell)
    opens(tmp_path / "run")
    assert weights(fit_run(packed, tmp_path / "run", {}, resume=True)) == weights(
        whole
    )  # choices are remembered


def test_one_row_a_patient_is_fitted_and_scored_at_entry(tmp_path):
    """Of 1 200 people whose hazard falls with time, fitted without a word of landmarks, observed over
    expected at entry is 1, beside a Cox model that was fitted then, too. Random later days gave 1.7."""
    from gnnpatient import open_cohort, read_cohort
    from gnnpatient.cohort.landmarks import ENTRY
    from gnnpatient.prognosis.checkpoint import load_predictor
    from gnnpatient.prognosis.run import fit_run, usual_landmarks

    rng = np.random.default_rng(3)
    x = rng.normal(size=1200)
    death = 100 * (rng.exponential(size=1200) * np.exp(-x)) ** 2  # Weibull, shape 1/2
    end = rng.uniform(100, 400, 1200)
    columns = zip(x, np.minimum(death, end), death <= end, strict=True)
    lines = [f"{i},{a:.3f},{t:.4f},{int(d)}" for i, (a, t, d) in enumerate(columns)]
    (tmp_path / "patients.csv").write_text("pid,x,time,died\n" + "\n".join(lines))
    (tmp_path / "spec.toml").write_text(
        """cohort = "one"
[patient]
table = "patients.csv"
key = "pid"
number = ["x"]
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { death = { time = "time", flag = "died" } }
"""
    )
    cohort = open_cohort(read_cohort(tmp_path / "spec.toml", tmp_path).save(tmp_path / "cohort"))
    run = fit_run(cohort, tmp_path / "run", {"members": 1, "epochs": 3})
    assert usual_landmarks(cohort, "death") == ["entry"] and (run.asks(cohort).moments == ENTRY).all()
    asks = cohort.entries(np.array(run.test)).followed("death")
    risk = load_predictor(run.folder).forecast(asks)["death"].risk(horizon=30.0)
    truth = 1 - np.exp(-((30 / 100) ** 0.5) * np.exp(x[asks.ids.astype(int)]))
    assert truth.mean() / risk.mean() == pytest.approx(1, abs=0.12)
    assert np.corrcoef(risk, truth)[0, 1] > 0.95
