"""Module paths of the first releases, for one more: each warns and finds its names where they are now."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# An old module, and the modules below gnnpatient that hold its names today, the likeliest first.
MOVED: dict[str, tuple[str, ...]] = {
    "cohort.aces": ("ingest.aces",),
    "cohort.content": ("content.vectors", "content.texts"),
    "cohort.datasets": ("datasets.shipped",),
    "cohort.embed": ("content.embed", "content.encoder", "content.cache", "content.handcrafted"),
    "cohort.ends": ("ingest.ends", "ingest.periods", "ingest.dates"),
    "cohort.events": ("ingest.events", "ingest.rows", "ingest.contents", "ingest.ancestors", "times"),
    "cohort.hierarchy": ("ingest.hierarchy",),
    "cohort.imaging": (
        "content.image.read",
        "content.image.base",
        "content.image.files",
        "content.image.steps",
        "content.image.worker",
        "content.image.dicom",
    ),
    "cohort.labels": ("ingest.labels", "ingest.labels_survival", "ingest.labels_diagnosis", "ingest.record"),
    "cohort.landmarks": ("cohort.cohort", "cohort.splits"),
    "cohort.lost": ("ingest.lost",),
    "cohort.measure": ("content.measure",),
    "cohort.patients": ("ingest.patients", "ingest.moments", "ingest.statics", "ingest.picks", "times"),
    "cohort.propose": ("propose",),
    "cohort.readers": ("readers",),
    "cohort.readers.database": ("readers.database",),
    "cohort.readers.door": ("readers.standard",),
    "cohort.readers.fhir": ("readers.fhir",),
    "cohort.readers.meds": ("readers.meds",),
    "cohort.readers.omop": ("readers.omop",),
    "cohort.readers.tables": ("readers.tables", "readers.csv_file", "readers.dates", "ingest.cells"),
    "cohort.reference": ("spec.reference",),
    "cohort.source": ("ingest.source", "ingest.audit", "ingest.columns", "ingest.quarantine"),
    "cohort.spec": (
        "spec.graph",
        "spec.nodes",
        "spec.outcomes",
        "spec.tables",
        "spec.patterns",
        "spec.explain",
        "times",
        "errors",
    ),
    "cohort.stored": ("cohort.arrays", "cohort.store"),
    "cohort.texts": ("content.texts", "spec.masks"),
    "cohort.units": ("ingest.units",),
    "cohort.ward": ("datasets.ward", "datasets.ward.hazards", "datasets.ward.radiograph"),
    "patient.picture": ("patient.figure",),
    "prognosis.few": ("prognosis.disclosure",),
    "study.fusion": ("study.compare", "study.comparison", "study.ablations", "study.missingness"),
}
RENAMED = {  # classes and functions that are called otherwise
    "Account": "RowAudit",
    "Door": "StandardTables",
    "How": "EmbedOptions",
    "Picture": "Image",
    "Source": "SourceTables",
    "Stored": "StoredArrays",
    "TooLarge": "ImageTooLargeError",
    "Truth": "SimulatedTruth",
    "Unreadable": "UnreadableImageError",
    "View": "TableView",
    "embed_pictures": "embed_images",
    "few_horizons": "default_horizons",
    "few_landmarks": "default_landmarks",
    "read_pictures": "read_images",
    "together": "join_landmarks",
}


class Moved:
    """Finds what is no longer there; asked only after every other finder has failed.

    A MetaPathFinder and a Loader without their classes, since importlib.abc costs a third of a cold start.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != __package__ or name not in MOVED:
            return None
        is_package = any(other.startswith(f"{name}.") for other in MOVED)
        return ModuleSpec(fullname, self, is_package=is_package)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__.removeprefix(f"{__package__}.")
        homes = MOVED[old]
        warnings.warn(
            f"gnnpatient.{old} is now gnnpatient.{homes[0]}; the old path goes with the next release",
            DeprecationWarning,
            stacklevel=2,  # the frames of an import statement do not count
        )

        def find(name: str) -> Any:
            for home in homes:
                found = import_module(f"{__package__}.{home}")
                for candidate in (name, RENAMED.get(name, name)):
                    if hasattr(found, candidate):
                        return getattr(found, candidate)
            raise AttributeError(f"gnnpatient.{old} has no attribute {name!r}, nor has {' or '.join(homes)}")

        module.__getattr__ = find  # type: ignore[method-assign]
