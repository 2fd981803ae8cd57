"""The command line as a user types it, and what it works on: packed cohorts and runs."""

import csv
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

CONFIG = """[train]
members = 5
epochs = 2
channels = 8
batch_size = 32
horizon = "10d"
landmarks = "0,2,4,7"
"""


def _start(*words, env=(), before=""):
    """The command in a process of its own."""
    code = f"{before}\nfrom gnnpatient.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **dict(env)})


@pytest.fixture(scope="session")
def start():
    return _start


def _by_itself(*words, before=""):
    """What a command that must work says, in a process of its own: not slowed by checks of shapes."""
    process = _start(*words, before=before)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="session")
def by_itself():
    return _by_itself


@pytest.fixture
def cli(capsys):
    """Run a command: exit code, standard output, standard error."""

    def call(*words):
        from gnnpatient.cli import run

        capsys.readouterr()
        code = run([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def good(cli):
    """Run a command that must work; what it said, parsed where it is JSON."""

    def call(*words):
        code, out, err = cli(*words)
        assert code == 0, err
        return json.loads(out) if "--json" in words else out

    return call


@pytest.fixture
def refused(cli):
    """Run a command that must be refused; its one line."""

    def call(*words):
        code, out, err = cli(*words)
        assert code == 2, (out, err)
        assert err.startswith("gnnpatient: ") and err.count("\n") == 1 and "Traceback" not in err
        return err

    return call


@pytest.fixture(scope="session")
def ward(tmp_path_factory):
    """Tables, a packed cohort, a configuration and a run, in a folder with a space and an umlaut."""
    from gnnpatient.cli import run
    from gnnpatient.testing import write_ward

    folder = tmp_path_factory.mktemp("a wärd")
    write_ward(folder)
    (folder / "fit.toml").write_text(CONFIG)
    config = ("--config", str(folder / "fit.toml"))
    assert run(["pack", str(folder / "ward.toml"), "--out", str(folder / "cohort")]) == 0
    assert run(["fit", str(folder / "cohort"), "--out", str(folder / "run"), *config]) == 0
    return folder


@pytest.fixture(scope="session")
def split(ward):
    return json.loads((ward / "run" / "split.json").read_text())


def _with_dates(source, folder):
    """The same tables and spec with whole numbers as ids and a calendar; day 0 of each id."""
    from datetime import datetime, timedelta

    folder.mkdir()
    for file in source.glob("*.csv"):
        (folder / file.name).write_text(re.sub(r"(?m)^p(\d\d\d),", r"1\1,", file.read_text()))
    head, *rows = (folder / "patients.csv").read_text().splitlines()
    start = {row[:4]: datetime(2021, 1, 1) + timedelta(days=i, hours=i % 24) for i, row in enumerate(rows)}
    rows = [f"{row},{start[row[:4]]:%Y-%m-%dT%H:%M}" for row in rows]
    (folder / "patients.csv").write_text("\n".join((f"{head},start", *rows)) + "\n")
    spec = (source / "ward.toml").read_text().replace('key = "pid"', 'key = "pid"\norigin = "start"')
    (folder / "ward.toml").write_text(spec)
    return start


@pytest.fixture(scope="session")
def with_dates():
    return _with_dates


@pytest.fixture
def dated(ward, tmp_path):
    """The ward with a calendar: the folder, and day 0 of each id."""
    return tmp_path / "dated", _with_dates(ward, tmp_path / "dated")


ICU = """
[outcomes.icu]
kind = "diagnosis"
table = "patients.csv"
column = "icu"
classes = { N = "no", Y = "yes" }

[outcomes.lactate]
kind = "progression"
node = "lab"
codes = ["lactate"]
"""


@pytest.fixture(scope="session")
def sick(tmp_path_factory):
    """The ward with a diagnosis (who dies goes to intensive care first; one in ten is not looked for) and a
    progression, packed and fitted; what the fit said."""
    import contextlib
    import io

    from gnnpatient.cli import run
    from gnnpatient.testing import write_ward

    folder = tmp_path_factory.mktemp("sick")
    write_ward(folder)
    with open(folder / "patients.csv", newline="") as file:
        patients = list(csv.DictReader(file))
    for i, row in enumerate(patients):
        row["icu"] = "" if i % 10 == 9 else "NY"[int(row["died"])]
    with open(folder / "patients.csv", "w", newline="") as file:
        table = csv.DictWriter(file, patients[0])
        table.writeheader()
        table.writerows(patients)
    (folder / "ward.toml").write_text((folder / "ward.toml").read_text() + ICU)
    (folder / "fit.toml").write_text(CONFIG)
    assert run(["pack", str(folder / "ward.toml"), "--out", str(folder / "cohort")]) == 0
    words = [
        "fit",
        str(folder / "cohort"),
        "--out",
        str(folder / "run"),
        "--config",
        str(folder / "fit.toml"),
    ]
    with contextlib.redirect_stderr(io.StringIO()) as err:
        assert run(words) == 0
    return folder, err.getvalue()


TASK = """
predicates:
  admit: { code: ADMIT }
  leave: { code: LEAVE }
  death: { code: MEDS_DEATH }
  leave_or_death: { expr: "or(leave, death)" }
trigger: admit
windows:
  input:
    start: null
    end: trigger + 24h
    start_inclusive: true
    end_inclusive: true
    index_timestamp: end
  target:
    start: input.end
    end: start -> leave_or_death
    start_inclusive: false
    end_inclusive: true
    label: death
"""

STAYS = """
cohort = "stays"
format = "meds"
[patient]
origin = { code = "ADMIT", pick = "first" }
[nodes.lab]
where = { code = "LAB//*" }
[nodes.drug]
where = { code = "DRUG//*" }
[outcomes.mortality]
kind = "diagnosis"
task = "mortality.yaml"
[outcomes.death]
kind = "survival"
causes = { death = { where = { code = "MEDS_DEATH" } } }
exit = { code = "*", pick = "last" }
"""


@pytest.fixture(scope="session")
def stays(tmp_path_factory):
    """Sixty patients with a stay or two, packed and fitted on the task alone; when each is asked."""
    from datetime import datetime, timedelta

    import polars as pl

    from gnnpatient.cli import run

    folder, rng, rows, moments = tmp_path_factory.mktemp("stays"), np.random.default_rng(0), [], []
    for who in range(1, 61):
        at = datetime(2020, 1, 1, 8) + timedelta(days=who)
        for stay in range(1 + who % 2):
            dies = stay == who % 2 and who % 3 == 0
            rows.append((who, at, "ADMIT", None))
            for hours, code in ((3, "LAB//crp"), (20, "LAB//crp"), (30, "LAB//crp"), (5, "DRUG//a")):
                rows.append((who, at + timedelta(hours=hours), code, 2.0 * dies + rng.normal()))
            moments.append((who, at + timedelta(hours=24), dies))
            rows.append((who, at + timedelta(days=4), "MEDS_DEATH" if dies else "LEAVE", None))
            at += timedelta(days=30)
    (folder / "data").mkdir()
    schema = {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "numeric_value": pl.Float32,
    }
    pl.DataFrame(rows, schema, orient="row").write_parquet(folder / "data" / "0.parquet")
    (folder / "mortality.yaml").write_text(TASK)
    (folder / "stays.toml").write_text(STAYS)
    (folder / "fit.toml").write_text(CONFIG)
    words = [str(folder / name) for name in ("stays.toml", "cohort", "run", "fit.toml")]
    assert run(["pack", words[0], "--out", words[1]]) == 0
    assert run(["fit", words[1], "--out", words[2], "--config", words[3], "--outcome", "mortality"]) == 0
    return folder, moments
