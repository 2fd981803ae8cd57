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
    from gnnpatient.prognosis.run import Run
    from gnnpatient.prognosis.states import read_state

    if (folder / "run.json").exists():
        assert Run.open(folder).train
    for file in folder.glob("checkpoints/*.safetensors"):
        assert read_state(file).facts["fit"]
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
    assert set(whole.landmarks(packed).ids) <= train
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
    from gnnpatient import InputError
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
        with pytest.raises(InputError, match=says):
            _test_by(dated, text)
    with pytest.raises(InputError, match="without a calendar"):
        _test_by(cohort, "after=1970-03-01")


def test_a_patient_on_both_sides_is_refused_with_their_number(whole, tmp_path):
    from gnnpatient import InputError
    from gnnpatient.prognosis.run import Run

    (tmp_path / "run.json").write_bytes((whole.folder / "run.json").read_bytes())
    both = {"train": [*whole.train, *whole.test[:2]], "test": whole.test}
    (tmp_path / "split.json").write_text(json.dumps(both))
    with pytest.raises(InputError, match=r"2 patient\(s\) in training and in test"):
        Run.open(tmp_path)


def test_a_second_fit_and_other_choices_are_refused(whole, packed, cohort, tmp_path):
    from gnnpatient import InputError, open_cohort

    with pytest.raises(InputError, match="holds a run already; go on with --resume"):
        fit(packed, whole.folder)
    with pytest.raises(InputError, match="the run has epochs 3, not 4"):
        fit(packed, whole.folder, resume=True, epochs=4)
    with pytest.raises(InputError, match=r"the run has test 0\.2, not 0\.3"):
        fit(packed, whole.folder, resume=True, test=0.3)
    number = cohort.number + 1
    other = open_cohort(replace(cohort, number=number).save(tmp_path / "other"))
    with pytest.raises(InputError, match="a run on another cohort"):
        fit(other, whole.folder, resume=True)
    before = weights(whole)
    assert fit(packed, whole.folder, resume=True).finished and weights(whole) == before


def test_two_writers_at_once_are_refused(packed, tmp_path):
    from gnnpatient import InputError
    from gnnpatient.files import lock

    with lock(tmp_path / "run"), pytest.raises(InputError, match="another process is writing here"):
        fit(packed, tmp_path / "run")


def test_a_fit_that_is_refused_leaves_nothing(packed, tmp_path):
    from gnnpatient import InputError

    for wrong in (
        {"landmarks": [29.9]},
        {"epochs": -1},
        {"outcomes": ["deth"]},
        {"horizon": 1e-6},
        {"test": 1.5},
    ):
        with pytest.raises(InputError):
            fit(packed, tmp_path / "run", **wrong)
        assert not (tmp_path / "run").exists()


def test_a_full_disk_keeps_the_older_checkpoint(packed, tmp_path, whole, monkeypatch):
    from gnnpatient import InputError
    from gnnpatient.prognosis import states

    count, save = iter(range(100)), states.save_file

    def full(tensors, path, metadata=None):
        if next(count) == 3:
            path.write_bytes(b"")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save(tensors, path, metadata=metadata)

    monkeypatch.setattr(states, "save_file", full)
    with pytest.raises(InputError, match="no space left on the disk"):
        fit(packed, tmp_path / "run")
    opens(tmp_path / "run")
    assert not list((tmp_path / "run").rglob(".part-*"))
    monkeypatch.undo()
    assert weights(fit(packed, tmp_path / "run", resume=True)) == weights(whole)


def test_interrupted_between_epochs_it_goes_on(packed, tmp_path, whole):
    from gnnpatient.prognosis.run import fit_run

    def progress(*_, **entry):
        if entry.get("epoch") == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_run(packed, tmp_path / "run", PLAN, progress=progress)
    opens(tmp_path / "run")
    assert weights(fit_run(packed, tmp_path / "run", {}, resume=True)) == weights(
        whole
    )  # choices are remembered


def test_one_row_a_patient_is_fitted_and_scored_at_entry(tmp_path):
    """Of 1 200 people whose hazard falls with time, fitted without a word of landmarks, observed over
    expected at entry is 1, beside a Cox model that was fitted then, too. Random later days gave 1.7."""
    from gnnpatient import open_cohort, read_cohort
    from gnnpatient.cohort.cohort import ENTRY
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
    assert usual_landmarks(cohort, "death") == ["entry"] and (run.landmarks(cohort).moments == ENTRY).all()
    asks = cohort.entries(np.array(run.test)).followed("death")
    risk = load_predictor(run.folder).forecast(asks)["death"].risk(horizon=30.0)
    truth = 1 - np.exp(-((30 / 100) ** 0.5) * np.exp(x[asks.ids.astype(int)]))
    assert truth.mean() / risk.mean() == pytest.approx(1, abs=0.12)
    assert np.corrcoef(risk, truth)[0, 1] > 0.95


# -- who it was fitted on, and what was changed since --


@pytest.fixture
def copied(whole, tmp_path):
    import shutil

    return shutil.copytree(whole.folder, tmp_path / "run")


def test_what_is_private_is_its_owners_alone(whole):
    for name in ("split.json", "people.json"):
        assert (whole.folder / name).stat().st_mode & 0o777 == 0o600, name
    assert {file.name for file in (whole.folder / "model").iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }


def test_hashes_of_people_are_under_a_key_of_the_run(whole, packed, tmp_path):
    from gnnpatient.prognosis.people import People

    people, other = People.read(whole.folder / "people.json"), fit(packed, tmp_path / "run")
    again = People.read(other.folder / "people.json")
    assert sum(people.train) == len(whole.train) and len(people.ids) == len(packed)
    assert people.key != again.key and not set(people.ids) & set(again.ids)
    assert not set(people.records) & set(again.records)
    raw = b"".join(file.read_bytes() for file in (whole.folder / "model").iterdir())
    assert not any(one.encode() in raw for one in (*people.ids, *people.records, people.key.hex()))


def test_the_very_cohort_is_told_by_ids_and_another_by_people(whole, packed, cohort, tmp_path):
    from gnnpatient import open_cohort

    right = ["train" if one in whole.train else "test" for one in packed.ids.tolist()]
    told = whole.split_of(packed)
    assert told.exact and told.side.tolist() == right
    again = open_cohort(replace(cohort, report={"flags": []}).save(tmp_path / "again"))
    told = whole.split_of(again)
    assert not told.exact and told.side.tolist() == right and not told.by_id
    elsewhere = replace(cohort, spec=cohort.spec.model_copy(update={"cohort": "elsewhere"}))
    assert whole.split_of(elsewhere).side.tolist() == right  # another name, the same people


def test_without_the_file_of_people_nobody_is_held_out(whole, copied, cohort, packed):
    from gnnpatient.prognosis.run import Run

    (copied / "people.json").unlink()
    run = Run.open(copied)
    assert run.split_of(packed).exact  # the split itself is there
    told = run.split_of(replace(cohort, report={}))
    assert told.side.tolist() == ["train" if one in whole.train else None for one in cohort.ids.tolist()]
    elsewhere = replace(cohort, spec=cohort.spec.model_copy(update={"cohort": "elsewhere"}))
    assert run.split_of(elsewhere).side.tolist() == [None] * len(cohort)
    assert run.split_of(elsewhere).strangers == len(whole.train)


def test_a_run_and_its_model_are_summarised_without_names(whole, packed):
    from gnnpatient.prognosis.summary import summarise_model, summarise_run

    found = summarise_run(whole.folder).to_dict()
    run = whole.to_dict()
    assert all(found[name] == run[name] for name in ("finished", "cohort", "plan", "train", "test"))
    assert found["what"] == "run" and found["epochs"] > 0
    assert list(found["outcomes"]["death"]) == ["causes", "horizon"]
    assert summarise_model(whole.folder / "model").to_dict().items() <= found.items()
    split = whole.split_of(packed).to_dict()
    assert (split["train"], split["test"], split["exact"]) == (len(whole.train), len(whole.test), True)
    text = json.dumps([found, run, split])
    assert not any(f'"{one}"' in text for one in (*whole.train, *whole.test))


def test_an_edited_run_is_refused(whole, copied, packed):
    from gnnpatient import InputError
    from gnnpatient.prognosis.run import Run

    held = json.loads((copied / "split.json").read_text())
    moved = {"train": held["train"][1:], "test": [*held["test"], held["train"][0]]}
    edits = {
        "split.json": json.dumps(moved, indent=1, ensure_ascii=False) + "\n",
        "run.json": (copied / "run.json").read_text().replace('"epochs": 3', '"epochs": 4'),
    }
    for name, text in edits.items():
        before = (copied / name).read_text()
        assert text != before
        (copied / name).write_text(text)
        for use in (lambda: Run.open(copied), lambda: fit(packed, copied, resume=True)):
            with pytest.raises(
                InputError, match=r"run\.json and split\.json are not as fit wrote them; fit it again"
            ):
                use()
        (copied / name).write_text(before)
    assert Run.open(copied).train == whole.train


def test_the_model_of_another_run_is_refused(copied, cohort, packed, tmp_path):
    """It would be scored on patients that it was trained on."""
    import shutil

    from gnnpatient import InputError
    from gnnpatient.prognosis.run import Run

    other = fit(packed, tmp_path / "other", seed=1)
    shutil.rmtree(copied / "model")
    shutil.copytree(other.folder / "model", copied / "model")
    for asked in (packed, replace(cohort, report={})):
        with pytest.raises(InputError, match="not the model that was fitted in this run"):
            Run.open(copied).split_of(asked)


def test_a_cohort_that_was_changed_is_not_fitted_or_resumed(packed, copied, tmp_path):
    import shutil

    from gnnpatient import InputError, open_cohort

    folder = shutil.copytree(packed.path, tmp_path / "cohort")
    file = folder / "lab.value.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for place, resume in ((tmp_path / "new", False), (copied, True)):
        with pytest.raises(InputError, match=r"lab\.value\.npy: its content is not what was packed"):
            fit(open_cohort(folder), place, resume=resume)
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_that_was_changed_is_not_resumed(packed, tmp_path):
    from gnnpatient import InputError

    def progress(*_, **entry):
        if entry.get("epoch") == 1:
            raise KeyboardInterrupt

    from gnnpatient.prognosis.run import fit_run

    with pytest.raises(KeyboardInterrupt):
        fit_run(packed, tmp_path / "run", PLAN, progress=progress)
    files = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [file.stem for file in files] == ["boosted", "linear", "member-0"]
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(
            InputError, match=rf"{file.stem}\.safetensors: its content is not what was written"
        ):
            fit(packed, tmp_path / "run", resume=True)
        file.write_bytes(whole)


def test_an_outcome_that_is_not_fitted_ends_no_landmark(cohort):
    from gnnpatient.prognosis.run import training_landmarks, usual_landmarks

    late = cohort.outcomes["death"]
    early = replace(late, time=np.minimum(late.time, late.time // 10 + 1))
    both = replace(cohort, outcomes={"death": late, "soon": early})
    plan = {"outcomes": ["death"], "landmarks": "random", "seed": 0}
    alone = training_landmarks(cohort, np.arange(len(cohort)), plan)
    beside = training_landmarks(both, np.arange(len(cohort)), plan)
    assert (alone.at == beside.at).all() and (alone.patient == beside.patient).all()
    assert beside.at.max() > early.time.max()
    assert usual_landmarks(both, "death") == usual_landmarks(cohort, "death")
