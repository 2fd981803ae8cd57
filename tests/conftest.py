"""Fixtures and settings for every test.

Nothing of gnnpatient is imported here: pytest checks its shapes only in what is imported later.
"""

import gc
import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
torch.set_num_threads(1)


def _folder(variable: str) -> Path:
    place = os.environ.get(variable, "")
    if not place:
        pytest.skip(f"{variable} is not set")
    if not Path(place).is_dir():
        pytest.skip(f"{variable}: no folder {place}")
    return Path(place)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real cohorts, one folder each (GNNPATIENT_DATA)."""
    return _folder("GNNPATIENT_DATA")


@pytest.fixture(scope="session")
def faults_dir() -> Path:
    """The corpus of broken files (GNNPATIENT_FAULTS)."""
    return _folder("GNNPATIENT_FAULTS")


@pytest.fixture(scope="session")
def field_dir() -> Path:
    """Faults that people reported of other systems, one folder each (GNNPATIENT_FIELD)."""
    return _folder("GNNPATIENT_FIELD")


@pytest.fixture
def unchecked():
    """Fit again and again without the checks of shapes, which take longer than the fits.

    The same functions are checked where each of these models is fitted once. Fixtures of a wider scope are
    made before this one, so they are checked; a test that asks for it halfway has its first half checked.
    """
    from jaxtyping import config

    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture
def given_ridge(monkeypatch):
    """Fits with a ridge that is given: to choose it takes longer than all else in a fit of few patients."""
    from gnnpatient.prognosis import linear

    def choose(learning):
        return [linear.Choice(linear.DEFAULT_RIDGE, ())] * len(learning.problem.folds)

    monkeypatch.setattr(linear._Learning, "choose", choose)


@pytest.fixture
def few_draws(monkeypatch):
    """Intervals of 20 draws, where their width is not what is tested."""
    from gnnpatient import metrics

    whole = metrics.bootstrap
    monkeypatch.setattr(
        metrics, "bootstrap", lambda score, unit, n, seed: whole(score, unit, n=20, seed=seed)
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def pytest_collection_finish() -> None:
    """Leave what is imported and collected by now out of every later search for garbage."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say aloud what was not checked, and why."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.getreports("skipped"))
    if reasons:
        terminalreporter.section("not checked")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")
