"""What a folder of a cohort, a run or a model is: read from its JSON files alone, and naming no patient."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnnpatient.errors import InputError
from gnnpatient.files import is_sealed

OUTCOME_STEPS = ("event", "censored", "label", "with ")  # how the flow's steps begin that count outcomes


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
        Of each outcome, how many patients had each event, were censored, or have each label.
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
class RunInfo:
    """What a run is, or a model by itself.

    Attributes
    ----------
    finished : bool
        Whether the fit is at its end, so that there is a model.
    run : mapping of str to object or None
        Its cohort, the sizes of its split, its epochs and its plan; None of a model by itself.
    model : mapping of str to object or None
        Its members, its outcomes and what it was fitted on; None of a run that is not finished.
    """

    finished: bool
    run: Mapping[str, Any] | None
    model: Mapping[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON, as `gnnpatient info --json` prints it.

        Returns
        -------
        dict
        """
        what = "model" if self.run is None else "run"
        return {"what": what, "finished": self.finished, **(self.run or {}), **(self.model or {})}


def folder_info(folder: str | Path) -> CohortInfo | RunInfo:
    """Say what a folder is. Nothing but JSON is read, so that this takes no time.

    Parameters
    ----------
    folder : str or Path
        A cohort written by `pack`, a run written by `fit`, or a model.

    Returns
    -------
    CohortInfo or RunInfo

    Raises
    ------
    InputError
        When the folder is none of these, or its files are not as they were written.
    """
    folder = Path(folder)
    if (folder / "manifest.json").is_file():
        return _cohort_info(folder)
    run = folder if (folder / "run.json").is_file() or folder.name != "model" else folder.parent
    if not any((run / name).is_file() for name in ("run.json", "config.json", "model/config.json")):
        raise InputError(
            f"{folder}: neither a cohort nor a run; make one with gnnpatient pack or gnnpatient fit"
        )
    return _run_info(run)


def _cohort_info(folder: Path) -> CohortInfo:
    file = folder / "manifest.json"
    manifest = _load(file, ("spec", "spec_hash", "schema", "patients", "rows", "codes", "flow"))
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


def _run_info(folder: Path) -> RunInfo:
    if not (folder / "run.json").is_file():
        return RunInfo(True, None, _model_info(folder))
    about = _load(folder / "run.json", ("cohort", "plan"))
    split = _load(folder / "split.json", ("train", "test"))
    log = folder / "metrics.jsonl"
    run = {
        "cohort": about["cohort"],
        "train": len(split["train"]),
        "test": len(split["test"]),
        "epochs": len(log.read_text(encoding="utf-8").splitlines()) if log.is_file() else 0,
        "plan": about["plan"],
    }
    finished = (folder / "model" / "config.json").is_file()
    return RunInfo(finished, run, _model_info(folder) if finished else None)


def _model_info(folder: Path) -> dict[str, Any]:
    inside = folder / "model" / "config.json"
    file = inside if inside.is_file() else folder / "config.json"
    config = _load(file, ("members", "model", "about"))
    if not is_sealed(file.read_bytes()):
        raise InputError(f"{file}: not as it was written; get the model again")
    outcomes = {
        name: {"classes": head["classes"]}
        if "classes" in head
        else {"causes": head["causes"], "horizon": head["times"][-1]}
        for name, head in config["model"]["heads"].items()
    }
    return {"members": config["members"], "outcomes": outcomes, "fitted_on": config["about"]}


def _load(file: Path, keys: Iterable[str]) -> dict[str, Any]:
    """A JSON object with these keys."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {name: content[name] for name in keys} | content
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        raise InputError(f"{file}: cut, or not what its name says; make it again") from None
