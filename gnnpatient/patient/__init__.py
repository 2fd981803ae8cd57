"""One patient: the forecast, the trajectory, the reasons, the page.

Names load on first use (PEP 562), since torch alone costs two seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnnpatient.patient.answers import answer
    from gnnpatient.patient.figure import draw
    from gnnpatient.patient.predictions import predict

__all__ = ["answer", "draw", "predict"]

_HOME = {"answer": "answers", "draw": "figure", "predict": "predictions"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value
