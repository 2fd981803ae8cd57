"""What a folder of a cohort, a run or a model is: read from its JSON files alone, and naming no patient."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnnpatient.errors import InputError
from gnnpatient.files import is_sealed
from gnnpatient.prognosis.summary import ModelSummary, RunSummary, summarise_model, summarise_run

MANIFEST_KEYS = ("spec", "spec_hash", "schema", "patients", "rows", "codes", "flow")
# how the flow's steps begin that count outcomes
OUTCOME_STEPS = ("event", "censored", "label", "with ", "entries into ")


@dataclass(frozen=True, eq=False)
class CohortInfo:
    """What a packed cohort is.

    Attributes
    ----------
    cohort : str
        Its name.
    schema : int
        Version of the layout of the folder.
    spec_hash : str
        Hash of the spec it was packed with.
    patients : int
    rows : mapping of str to int
        By node type.
    codes : mapping of str to int
        How many different codes each node type has.
    outcomes : mapping of str to mapping of str to int
        Of each outcome, how many patients had each event, were censored, or have each label; of what recurs
        how many events there are, and of several states how often each was entered.
    """

    cohort: str
    schema: int
    spec_hash: str
    patients: int
    rows: Mapping[str, int]
    codes: Mapping[str, int]
    outcomes: Mapping[str, Mapping[str, int]]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, as `gnnpatient info --json` prints it.

        Returns
        -------
        dict
        """
        return {"what": "cohort", **vars(self)}


@dataclass(frozen=True, eq=False)
class ModelInfo:
    """What a model by itself is, without its run.

    Attributes
    ----------
    summary : ModelSummary
        Its members, its outcomes and what it was fitted on.
    """

    summary: ModelSummary

    def to_dict(self) -> dict[str, Any]:
        """For JSON, as `gnnpatient info --json` prints it.

        Returns
        -------
        dict
        """
        return {"what": "model", "finished": True, **self.summary.to_dict()}


def folder_info(folder: str | Path) -> CohortInfo | RunSummary | ModelInfo:
    """Describe a folder. Nothing but JSON is read, so that this takes no time.

    Parameters
    ----------
    folder : str or Path
        A cohort written by `pack`, a run written by `fit`, or a model.

    Returns
    -------
    CohortInfo, RunSummary or ModelInfo
        Each with `to_dict()`.

    Raises
    ------
    InputError
        When the folder is none of these, or its files are not as they were written.
    """
    folder = Path(folder)
    if (folder / "manifest.json").is_file():
        return _cohort_info(folder)
    if not folder.exists():
        raise InputError(f"{folder}: no such folder; name one written by gnnpatient pack or gnnpatient fit")
    run = folder if (folder / "run.json").is_file() or folder.name != "model" else folder.parent
    if not any((run / name).is_file() for name in ("run.json", "config.json", "model/config.json")):
        raise InputError(
            f"{folder}: neither a cohort nor a run; make one with gnnpatient pack or gnnpatient fit"
        )
    if (run / "run.json").is_file():
        return summarise_run(run)
    inside = run / "model"
    return ModelInfo(summarise_model(inside if (inside / "config.json").is_file() else run))


def _cohort_info(folder: Path) -> CohortInfo:
    file = folder / "manifest.json"
    manifest = _manifest(file)
    if not is_sealed(file.read_bytes()):
        raise InputError(f"{file}: not as pack wrote it, its digest does not fit; pack it again")
    steps: dict[str, dict[str, int]] = {}
    for step in manifest["flow"]:
        steps.setdefault(step["outcome"], {})[step["step"]] = step["n"]
    return CohortInfo(
        cohort=manifest["spec"]["cohort"],
        schema=manifest["schema"],
        spec_hash=manifest["spec_hash"],
        patients=manifest["patients"],
        rows=manifest["rows"],
        codes={kind: len(names) - 1 for kind, names in manifest["codes"].items() if kind != "timepoint"},
        outcomes={
            name: {k.partition(": ")[2] or k: n for k, n in counts.items() if k.startswith(OUTCOME_STEPS)}
            for name, counts in steps.items()
        },
    )


def _manifest(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {name: content[name] for name in MANIFEST_KEYS}
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        raise InputError(f"{file}: truncated, or no manifest of a cohort; pack it again") from None
