"""Old paths go on for one release: each warns once, names its new home, and gives the same objects."""

import importlib
import sys

import numpy as np
import pytest

import gnnpatient
from gnnpatient._moved import MOVED, RENAMED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_module_warns_and_finds_its_names(old, monkeypatch):
    monkeypatch.delitem(sys.modules, f"gnnpatient.{old}", raising=False)
    new = importlib.import_module(f"gnnpatient.{MOVED[old][0]}")
    with pytest.warns(DeprecationWarning, match=rf"gnnpatient\.{old} is now gnnpatient\.{MOVED[old][0]}"):
        module = importlib.import_module(f"gnnpatient.{old}")
    public = [name for name in vars(new) if not name.startswith("_")]
    assert all(getattr(module, name) is getattr(new, name) for name in public)
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = module.no_such_name


@pytest.mark.filterwarnings("ignore:.*is now gnnpatient:DeprecationWarning")
def test_renamed_names_are_found_by_their_old_ones():
    from gnnpatient.cohort.imaging import Picture, Unreadable
    from gnnpatient.cohort.landmarks import PatientKFold, together
    from gnnpatient.cohort.source import Source
    from gnnpatient.cohort.spec import DAY, GraphSpec, NodeSpec, near
    from gnnpatient.cohort.ward import write_ward
    from gnnpatient.study.fusion import compare

    from gnnpatient.content.image.base import Image, UnreadableImageError
    from gnnpatient.ingest.source import SourceTables

    assert (Picture, Unreadable, Source) == (Image, UnreadableImageError, SourceTables)
    assert PatientKFold is gnnpatient.PatientKFold and GraphSpec is gnnpatient.GraphSpec
    assert DAY == 86_400 and all(map(callable, (together, near, write_ward, compare))) and NodeSpec
    assert gnnpatient.Refused is gnnpatient.InputError
    homes = [importlib.import_module(f"gnnpatient.{home}") for homes in MOVED.values() for home in homes]
    assert all(any(hasattr(home, new) for home in homes) for new in RENAMED.values())


def test_the_warning_points_at_the_line_that_imports(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "gnnpatient.cohort.units", raising=False)
    script = str(tmp_path / "script.py")
    with pytest.warns(DeprecationWarning) as caught:
        exec(compile("import gnnpatient.cohort.units", script, "exec"), {})
    assert [warning.filename for warning in caught] == [script]


@pytest.mark.parametrize("old, name", [("cohort.cohort", "read_cohort"), ("prognosis.forecast", "Predictor")])
def test_a_name_that_left_a_file_is_found_there(old, name):
    """Pickles of the first releases name Predictor so, in every fitted PrognosisModel."""
    module = importlib.import_module(f"gnnpatient.{old}")
    with pytest.warns(DeprecationWarning, match=rf"{name} is now in gnnpatient\."):
        assert getattr(module, name) is getattr(gnnpatient, name)
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = module.no_such_name


def test_renamed_attributes_are_found_by_their_old_names():
    from gnnpatient.testing import tiny_cohort

    cohort = tiny_cohort()
    X = cohort.entries()
    for of, old, new in (
        (cohort, "answered", "outcomes_with_model"),
        (cohort, "observed", "observed_until"),
        (cohort, "timed", "has_later_rows"),
        (cohort, "until", "open_until"),
        (X, "early", "early_at_entry"),
    ):
        with pytest.warns(DeprecationWarning, match=f"^{old} is now {new}$"):
            found, wanted = getattr(of, old), getattr(of, new)
        assert found == wanted if callable(found) else np.array_equal(found, wanted)
