"""The whole way on a shipped cohort."""

import pytest


@pytest.mark.slow
def test_demo_twice(tmp_path, by_itself):
    first = by_itself("demo", "--out", tmp_path / "demo")
    assert "too small to judge" in first and (tmp_path / "demo" / "patient.png").is_file()
    second = by_itself("demo", "--out", tmp_path / "demo")
    assert "was finished already" in second
    assert first[first.index("death: transplant") :] == second[second.index("death: transplant") :]


@pytest.mark.slow
def test_the_ward_as_a_demo(tmp_path, by_itself):
    pytest.importorskip("PIL")
    small = "from gnnpatient.cli import demo; demo.WARD_PATIENTS = 120"
    text = by_itself("demo", "--cohort", "ward", "--out", tmp_path / "demo", before=small)
    assert "oracle: the true risk" in text and (tmp_path / "demo" / "patient.png").stat().st_size > 10_000
    assert "120 patients" in text
