from pathlib import Path

import pytest

SPEC = """
cohort = "c"
[patient]
table = "patients.csv"
key = "subject_id"
{patient}
[nodes.lab]
table = "{table}"
time = "time"
code = "code"
value = "value"
edges = ["at", "same"]
{more}
"""


@pytest.fixture(scope="session")
def tiny():
    from gnnpatient.testing import tiny_cohort

    return tiny_cohort()


@pytest.fixture
def reads(tmp_path):
    """Read a cohort whose labs are a text (or a frame, written as parquet); patients P0001 to P0005."""

    def read(labs, *, patients: str | None = None, patient: str = 'origin = "start"', more: str = ""):
        from gnnpatient import read_cohort

        table = "labs.csv" if isinstance(labs, str | bytes) else "labs.parquet"
        if isinstance(labs, str):
            (tmp_path / table).write_text(labs, encoding="utf-8", newline="")
        elif isinstance(labs, bytes):
            (tmp_path / table).write_bytes(labs)
        else:
            labs.write_parquet(tmp_path / table)
        names = "".join(f"P000{i},2021-01-01\n" for i in range(1, 6))
        (tmp_path / "patients.csv").write_text(patients or f"subject_id,start\n{names}")
        (tmp_path / "c.toml").write_text(SPEC.format(table=table, patient=patient, more=more))
        return read_cohort(tmp_path / "c.toml", tmp_path)

    return read


@pytest.fixture
def corpus(faults_dir: Path):
    return lambda name: (faults_dir / name).read_bytes()
