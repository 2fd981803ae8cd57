"""The whole way on a shipped cohort."""

import pytest


@pytest.mark.slow
def test_the_ward_as_a_demo(tmp_path, by_itself):
    pytest.importorskip("PIL")
    small = "from gnnpatient.cli import demo; demo.WARD_PATIENTS = 120"
    text = by_itself("demo", "--cohort", "ward", "--out", tmp_path / "demo", before=small)
    assert "oracle: the true risk" in text and (tmp_path / "demo" / "patient.png").stat().st_size > 10_000
    assert "120 patients" in text
