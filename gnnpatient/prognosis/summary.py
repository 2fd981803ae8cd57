"""What a run or a saved model is, read from its JSON files alone: no network is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gnnpatient.errors import InputError
from gnnpatient.files import is_sealed

FORMAT = 7  # of a saved model


def graph_words(gain: Sequence[float] | None) -> str:
    """Say whether a graph is shown to add anything.

    Parameters
    ----------
    gain : sequence of float or None
        Mean log-likelihood with - without the graph, and its interval; None where that was not learned.

    Returns
    -------
    str
        Without a subject.

    Examples
    --------
    >>> graph_words(None)
    'is not shown to add anything here'
    """
    if gain is None:
        return "is not shown to add anything here"
    mean, low, high = gain
    said = "adds to the answer" if low > 0 else "is not shown to add anything here"
    return f"{said}: log-likelihood a patient {mean:+.4f} [{low:.4f}, {high:.4f}] with - without it"


@dataclass(frozen=True)
class ModelSummary:
    """What a saved model forecasts, and what it was fitted on.

    Attributes
    ----------
    members : int
        How often each family was fitted.
    families : tuple of str
        Names of the families.
    weights : mapping
        Of each outcome, how much of the answer each family gives.
    log_likelihood : mapping
        Of each outcome the mean log-likelihood a patient, out of fold, of each family, of the ``"marginal"``
        model, of the ``"stack"`` and of it ``"without_graph"``.
    graph : mapping
        Of each outcome whether the graph is shown to add anything, in words; empty where that is not asked.
    outcomes : mapping
        Of each outcome its ``classes``, its ``causes``, or the ``codes`` of a value and its ``unit``; of the
        last two the last ``horizon`` in days.
    fitted_on : mapping
        Counts and names of the training data, as they were written down.
    """

    members: int
    families: tuple[str, ...]
    weights: Mapping[str, Mapping[str, float]]
    log_likelihood: Mapping[str, Mapping[str, float]]
    graph: Mapping[str, str]
    outcomes: Mapping[str, Mapping[str, Any]]
    fitted_on: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The summary for JSON.

        Returns
        -------
        dict
        """
        return asdict(self) | {"families": list(self.families)}


@dataclass(frozen=True)
class RunSummary:
    """What a run is, and how far its fit has come.

    Attributes
    ----------
    finished : bool
        Whether its model is saved.
    cohort : mapping
        ``name``, ``path``, ``manifest_hash`` and ``spec_hash`` of the cohort it is fitted on.
    train : int
        Number of training patients.
    test : int
        Number of held-out patients.
    epochs : int
        Epochs of all members so far.
    plan : mapping
        The choices that decide the run, see `run.PLAN`.
    model : ModelSummary or None
        None where it is not finished.
    """

    finished: bool
    cohort: Mapping[str, Any]
    train: int
    test: int
    epochs: int
    plan: Mapping[str, Any]
    model: ModelSummary | None

    def to_dict(self) -> dict[str, Any]:
        """The summary for JSON, the model's keys beside the run's.

        Returns
        -------
        dict
        """
        found = {"what": "run", **{name: value for name, value in vars(self).items() if name != "model"}}
        return found | (self.model.to_dict() if self.model else {})


def summarise_run(folder: str | Path) -> RunSummary:
    """Read a run: its run.json, split.json, log and, where it is finished, its model.

    Parameters
    ----------
    folder : str or Path
        The run's folder.

    Returns
    -------
    RunSummary

    Raises
    ------
    InputError
        When a file is cut or was changed.
    """
    path = Path(folder)
    about = _load(path / "run.json", ("cohort", "plan"))
    split = _load(path / "split.json", ("train", "test"))
    log = path / "metrics.jsonl"
    finished = (path / "model" / "config.json").is_file()
    return RunSummary(
        finished=finished,
        cohort=about["cohort"],
        train=len(split["train"]),
        test=len(split["test"]),
        epochs=len(log.read_text(encoding="utf-8").splitlines()) if log.is_file() else 0,
        plan=about["plan"],
        model=summarise_model(path / "model") if finished else None,
    )


def summarise_model(folder: str | Path) -> ModelSummary:
    """Read the config.json of a saved model.

    Parameters
    ----------
    folder : str or Path
        The folder of `PrognosisModel.save_pretrained`.

    Returns
    -------
    ModelSummary

    Raises
    ------
    InputError
        When the file is cut or was changed, or is of another version.
    """
    file = Path(folder) / "config.json"
    config = _load(file, ("format", "members", "model", "about"))
    if not is_sealed(file.read_bytes()):
        raise InputError(f"{file}: not as it was written; download the model again")
    if config["format"] != FORMAT:
        raise InputError(f"{folder}: format {config['format']}, this version reads {FORMAT}; fit it again")
    outcomes = {name: _answer_of(head) for name, head in config["model"]["heads"].items()}
    stacks = config["model"]["stacks"]
    return ModelSummary(
        members=config["members"],
        families=tuple(config["model"]["families"]),
        weights={name: stack["weights"] for name, stack in stacks.items()},
        log_likelihood={name: stack["log_likelihood"] for name, stack in stacks.items()},
        graph={
            name: graph_words(stack["graph_gain"]) if stack["without_graph"] else ""
            for name, stack in stacks.items()
        },
        outcomes=outcomes,
        fitted_on=config["about"],
    )


def _answer_of(head: Mapping[str, Any]) -> dict[str, Any]:
    """What is forecast of an outcome, and up to which day."""
    found = {name: head[name] for name in ("causes", "classes", "codes", "unit") if name in head}
    return found | ({"horizon": head["times"][-1]} if "times" in head else {})


def _load(file: Path, keys: Iterable[str]) -> dict[str, Any]:
    """A JSON object with these keys."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {name: content[name] for name in keys} | content
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        raise InputError(f"{file}: truncated, or not as fit wrote it; fit it again") from None
