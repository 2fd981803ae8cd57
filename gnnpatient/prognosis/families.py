"""The families of models that answer together, by the names that users choose them by."""

from __future__ import annotations

from collections.abc import Mapping

from gnnpatient.prognosis.boosted import BoostedHazard
from gnnpatient.prognosis.linear import LinearHazard
from gnnpatient.prognosis.network import GraphHazard
from gnnpatient.prognosis.problem import Family

FAMILIES: Mapping[str, type[Family]] = {
    "linear": LinearHazard,
    "boosted": BoostedHazard,
    "graph": GraphHazard,
}
