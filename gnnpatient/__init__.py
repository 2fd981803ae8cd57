"""Patient graphs in time: build cohort graphs, train prognosis models, query one patient's trajectory.

Names load on first use (PEP 562), since torch alone costs two seconds: `import gnnpatient` loads nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gnnpatient._moved import Moved

if TYPE_CHECKING:
    from gnnpatient.cohort.build import build_graphs
    from gnnpatient.cohort.cohort import Cohort, Landmarks, open_cohort
    from gnnpatient.cohort.splits import PatientKFold, StratifiedPatientKFold
    from gnnpatient.errors import InputError, Refused
    from gnnpatient.graphs import Graphs
    from gnnpatient.ingest.read import read_cohort
    from gnnpatient.prognosis.checkpoint import load_predictor
    from gnnpatient.prognosis.estimator import PrognosisModel
    from gnnpatient.prognosis.forecast import DiagnosisForecast, Forecast
    from gnnpatient.prognosis.multistate import StatesForecast
    from gnnpatient.prognosis.predictor import Predictor
    from gnnpatient.prognosis.recurrent import RecurrentForecast
    from gnnpatient.prognosis.values import ProgressionForecast
    from gnnpatient.spec.graph import GraphSpec, read_spec

__version__ = "0.1.0"

__all__ = [
    "Cohort",
    "DiagnosisForecast",
    "Forecast",
    "GraphSpec",
    "Graphs",
    "InputError",
    "Landmarks",
    "PatientKFold",
    "Predictor",
    "PrognosisModel",
    "ProgressionForecast",
    "RecurrentForecast",
    "Refused",
    "StatesForecast",
    "StratifiedPatientKFold",
    "__version__",
    "build_graphs",
    "load_predictor",
    "open_cohort",
    "read_cohort",
    "read_spec",
]

_HOME = {
    "Cohort": "cohort.cohort",
    "DiagnosisForecast": "prognosis.forecast",
    "Forecast": "prognosis.forecast",
    "GraphSpec": "spec.graph",
    "Graphs": "graphs",
    "InputError": "errors",
    "Landmarks": "cohort.cohort",
    "PatientKFold": "cohort.splits",
    "Predictor": "prognosis.predictor",
    "PrognosisModel": "prognosis.estimator",
    "ProgressionForecast": "prognosis.values",
    "RecurrentForecast": "prognosis.recurrent",
    "StatesForecast": "prognosis.multistate",
    "Refused": "errors",
    "StratifiedPatientKFold": "cohort.splits",
    "build_graphs": "cohort.build",
    "load_predictor": "prognosis.checkpoint",
    "open_cohort": "cohort.cohort",
    "read_cohort": "ingest.read",
    "read_spec": "spec.graph",
}

sys.meta_path.append(Moved())  # module paths of the first releases


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
