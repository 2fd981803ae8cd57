"""How good is it: comparators, scores, intervals.

Names load on first use (PEP 562), so that a description of a cohort loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnnpatient.study.check import check_cohort
    from gnnpatient.study.crossval import cross_validate, cross_validate_run
    from gnnpatient.study.fitted import FittedModel
    from gnnpatient.study.info import folder_info
    from gnnpatient.study.models import evaluate_models
    from gnnpatient.study.report import compare_report
    from gnnpatient.study.validation import evaluate_run

__all__ = [
    "FittedModel",
    "check_cohort",
    "compare_report",
    "cross_validate",
    "cross_validate_run",
    "evaluate_models",
    "evaluate_run",
    "folder_info",
]

_HOME = {
    "FittedModel": "fitted",
    "check_cohort": "check",
    "compare_report": "report",
    "cross_validate": "crossval",
    "cross_validate_run": "crossval",
    "evaluate_models": "models",
    "evaluate_run": "validation",
    "folder_info": "info",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value
