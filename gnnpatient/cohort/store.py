"""A cohort's folder: its manifest.json, and the arrays that are the fields of the cohort."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gnnpatient.cohort.arrays import StoredArrays, write_arrays
from gnnpatient.cohort.outcomes import all_outcomes, ended_by_observation, stored_labels
from gnnpatient.cohort.packed import Events
from gnnpatient.errors import InputError
from gnnpatient.files import atomic_folder, inside, is_sealed, sealed
from gnnpatient.spec.graph import GraphSpec

_SCHEMA = 3  # of the folder on disk
_MANIFEST_KEYS = {"spec", "patients", "rows", "files", "codes", "units", "levels", "report"}


def write_folder(
    path: str | Path, spec: GraphSpec, columns: Mapping[str, np.ndarray], about: Mapping[str, Any]
) -> Path:
    """Write a cohort's folder in one step: one array file a column, and manifest.json.

    Parameters
    ----------
    path : str or Path
        Folder to make.
    spec : GraphSpec
        What the tables mean.
    columns : Mapping
        Name -> array.
    about : Mapping
        What the manifest has besides the spec and the hashes of the files.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        When there is something at that path, or a name cannot be that of a file.
    """
    with atomic_folder(path) as part:
        manifest = {
            "schema": _SCHEMA,
            "spec": json.loads(spec.to_json()),
            "spec_hash": spec.hash,
            **about,
            "files": write_arrays(part, columns),
        }
        (part / "manifest.json").write_text(sealed(manifest), encoding="utf-8")
    return Path(path)


def stored_fields(path: str | Path, manifest_hash: str | None = None) -> dict[str, Any]:
    """Read the fields of a cohort from its folder.

    Parameters
    ----------
    path : str or Path
        Folder of the cohort.
    manifest_hash : str, optional
        sha256 that the manifest must have.

    Returns
    -------
    dict
        Name of each field of `Cohort` -> value; arrays are memory-mapped.

    Raises
    ------
    InputError
        When the folder is no cohort, was changed, or has another hash.
    """
    path = Path(path).resolve()
    manifest, digest = _read_manifest(path, manifest_hash)
    try:
        spec = GraphSpec.model_validate(manifest["spec"])
        rows = {kind: int(manifest["rows"][kind]) for kind in (*spec.nodes, "timepoint")}
        patients = int(manifest["patients"])
        arrays = StoredArrays(path, manifest)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path / 'manifest.json'}: not a manifest of a cohort; pack it again") from None
    events = {kind: Events.from_columns(arrays.columns(kind), patients, rows[kind]) for kind in rows}
    codes, levels, units = (_tuples(manifest[key]) for key in ("codes", "levels", "units"))
    labels = stored_labels(spec.outcomes, arrays, patients)
    ends = {
        name: arrays.columns(f"outcome.{name}").read_optional("until", patients)
        for name in ended_by_observation(spec.outcomes)
    }
    until = {name: end for name, end in ends.items() if end is not None}
    nodes = spec.nodes.items()
    return {
        "spec": spec,
        **_patient_fields(arrays, patients),
        "levels": levels,
        "events": events,
        "codes": codes,
        "units": units,
        "outcomes": all_outcomes(spec.outcomes, labels, events, codes, until),
        "vectors": {kind: arrays.array(f"{kind}.vectors") for kind, node in nodes if node.content},
        "is_a": {kind: arrays.array(f"{kind}.is_a", 2) for kind, node in nodes if node.of is not None},
        "report": manifest["report"],
        "path": path,
        "manifest_hash": digest,
        "stored": arrays,
    }


# Fields of a cohort with one row a patient -> their arrays, and those that not every cohort has.
_PATIENT_COLUMNS = {"ids": "id", "number": "number", "category": "category", "entry": "entry"}
_OPTIONAL_COLUMNS = ("origin", "group", "entered", "number_known", "category_known")


def patient_columns(fields: Any) -> dict[str, np.ndarray]:
    """Give the arrays of a cohort with one row a patient.

    Parameters
    ----------
    fields : Cohort
        The cohort, or any object with its fields.

    Returns
    -------
    dict
        Name of the file without .npy -> array.
    """
    every = _PATIENT_COLUMNS | {name: name for name in _OPTIONAL_COLUMNS}
    columns = {f"patient.{column}": getattr(fields, name) for name, column in every.items()}
    return {name: column for name, column in columns.items() if column is not None}


def _patient_fields(arrays: StoredArrays, patients: int) -> dict[str, np.ndarray | None]:
    """The fields of a cohort with one row a patient."""
    columns = arrays.columns("patient")
    fields = {name: columns.read(column, patients) for name, column in _PATIENT_COLUMNS.items()}
    return fields | {name: columns.read_optional(name, patients) for name in _OPTIONAL_COLUMNS}


def _tuples(names: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Lists of JSON as tuples."""
    return {key: tuple(values) for key, values in names.items()}


def _read_manifest(path: Path, expected: str | None = None) -> tuple[dict[str, Any], str]:
    """The manifest of a saved cohort, and its sha256, which must be the `expected` one.

    The digest inside protects against accidents. It is no signature: an attacker can compute it anew.
    """
    file = path / "manifest.json"
    if not file.is_file():
        raise InputError(f"{path}: not a cohort (it holds no manifest.json); make one with gnnpatient pack")
    raw = file.read_bytes()
    try:
        manifest = json.loads(raw)
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or "schema" not in manifest:
        raise InputError(f"{file}: not a manifest of a cohort; pack it again")
    if manifest["schema"] != _SCHEMA:
        raise InputError(
            f"{path}: packed with schema {manifest['schema']}, this version reads {_SCHEMA}; pack it again"
        )
    if not manifest.keys() >= _MANIFEST_KEYS:
        raise InputError(f"{file}: not a manifest of a cohort; pack it again")
    digest = hashlib.sha256(raw).hexdigest()
    if expected not in (None, digest):
        raise InputError(
            f"{path}: the cohort was changed or packed again since (another manifest hash); open it again"
        )
    if not is_sealed(raw):
        raise InputError(f"{file}: not as pack wrote it, its digest does not fit; pack the cohort again")
    try:
        for name in manifest["files"]:
            inside(path, name)
    except TypeError:
        raise InputError(f"{file}: not a manifest of a cohort; pack it again") from None
    return manifest, digest
