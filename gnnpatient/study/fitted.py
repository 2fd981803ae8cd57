"""A fitted model with its run: who it was fitted on, and what to keep in mind about its forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.errors import InputError, near
from gnnpatient.model.values import ProgressionConfig
from gnnpatient.prognosis.checkpoint import load_predictor
from gnnpatient.prognosis.forecast import Answer
from gnnpatient.prognosis.people import SplitMembership, split_of
from gnnpatient.prognosis.predictor import Predictor
from gnnpatient.prognosis.targets import UNKNOWN
from gnnpatient.times import duration

if TYPE_CHECKING:
    from gnnpatient.prognosis.run import Run

GRAPH, NO_GRAPH = "graph", "nograph"  # the family that is the network; the answer of all others
MAX_CODES_NAMED = 5  # codes of a node type that one sentence names


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A model, and the run it was fitted in where that is at hand.

    Attributes
    ----------
    predictor : Predictor
        The fitted families of models.
    run_folder : Path or None
        Folder of the run, which knows the training patients; None where the model alone was given.
    """

    predictor: Predictor
    run_folder: Path | None = None

    @classmethod
    def open(cls, model: FittedModel | Predictor | Run | str | Path) -> FittedModel:
        """Open a model, with its run where there is one.

        Parameters
        ----------
        model : FittedModel, Predictor, Run, str or Path
            A folder is that of a run, the `model` folder in it, or a model that was copied elsewhere.

        Returns
        -------
        FittedModel

        Raises
        ------
        InputError
            When the folder holds no model, or not as it was written.
        """
        if isinstance(model, FittedModel):
            return model
        if isinstance(model, Predictor):
            return cls(model)
        folder = Path(model) if isinstance(model, str | Path) else model.folder
        inside_run = folder.name == "model" and (folder.parent / "run.json").is_file()
        is_run = (folder / "run.json").is_file() or inside_run
        return cls(load_predictor(folder), folder if is_run else None)

    @cached_property
    def heads(self) -> dict[str, dict[str, Any]]:
        """What each outcome's head answers: its kind, with causes and times (days), or with classes."""
        return {name: head.to_dict() for name, head in self.predictor.heads.items()}

    def outcome_name(self, outcome: str | None = None) -> str:
        """The one outcome that is meant.

        Parameters
        ----------
        outcome : str, optional
            Its name; may be left out where the model has one outcome.

        Returns
        -------
        str

        Raises
        ------
        InputError
            When the model has no such outcome, or several and none is named.
        """
        names = self.predictor.outcomes
        if outcome is None and len(names) > 1:
            raise InputError(f"several outcomes; name one of {', '.join(names)} with --outcome")
        return self.outcome_names(outcome)[0]

    def outcome_names(self, outcome: str | None = None) -> tuple[str, ...]:
        """The outcomes that are meant: all of the model, or the one that is named.

        Parameters
        ----------
        outcome : str, optional

        Returns
        -------
        tuple of str

        Raises
        ------
        InputError
            When the model has no such outcome.
        """
        if outcome is None:
            return self.predictor.outcomes
        if outcome not in self.predictor.outcomes:
            raise InputError(f"the model has no outcome {outcome!r}{near(outcome, self.predictor.outcomes)}")
        return (outcome,)

    def split_of(self, cohort: Cohort, patients: Sequence[int] | None = None) -> SplitMembership | None:
        """Which patients of a cohort the model was trained on.

        Parameters
        ----------
        cohort : Cohort
        patients : sequence of int, optional
            Positions; default all patients.

        Returns
        -------
        SplitMembership or None
            None where no run is at hand, so that nobody knows.
        """
        return None if self.run_folder is None else split_of(self.run_folder, cohort, patients)

    def sides(self, cohort: Cohort, patients: Sequence[int] | None = None) -> list[str | None]:
        """On which side of the split each patient was.

        Parameters
        ----------
        cohort : Cohort
        patients : sequence of int, optional
            Positions; default all patients.

        Returns
        -------
        list of str or None
            "train", "test", or None where that is not known.
        """
        split = self.split_of(cohort, patients)
        if split is None:
            return [None] * (len(cohort) if patients is None else len(patients))
        sides: list[str | None] = split.side.tolist()
        return sides

    def notes(self, X: Landmarks) -> list[str]:
        """What is unlike the training at these landmarks: days, units, scales and levels.

        Parameters
        ----------
        X : Landmarks

        Returns
        -------
        list of str
            Sentences; empty where nothing is unlike.
        """
        lines = []
        if outside := int(self.predictor.outside(X).sum()):
            first, last = map(moment_name, self.predictor.about["landmarks"])
            when = f"at {first} alone" if first == last else f"from {first} to {last}"
            what = "this day lies" if len(X) == 1 else f"{outside} of {len(X)} landmarks lie"
            lines.append(f"{what} outside the fitted days ({when}): the model extrapolates")
        if early := int(X.early_at_entry.sum()):
            lines.append(
                f"{early} of {len(X)} landmarks come before the end of the day of entry, so nothing that was "
                "measured on that day is known; use entry, or a day later"
            )
        lines += [
            f"{name}: the spec of the fit does not say when observation ends (gone, or exit of [patient]), "
            "so who did not come back counts as not seen, also where the data end"
            for name, head in self.predictor.heads.items()
            if isinstance(head, ProgressionConfig) and not head.has_end
        ]
        says = "was looked for in no patient of the fit: its probability says nothing"
        lines += [f"{one} {says}" for one in self._never_looked_for()]
        return lines + self.predictor.differences(X)

    def _never_looked_for(self) -> list[str]:
        """Labels of which the fit knew neither yes nor no."""
        return [
            f"{name}: {label}"
            for name, head in self.predictor.heads.items()
            if head.kind == "labels"
            for label, share in zip(head.names, self.predictor.null[name].tolist(), strict=True)
            if share == UNKNOWN and not self.predictor.about["events"][name].get(label)
        ]


@dataclass(frozen=True, eq=False)
class FamilyModel:
    """Some families of a fitted model, as a model of their own.

    Attributes
    ----------
    predictor : Predictor
        The fitted families of models.
    families : str or tuple of str
        Who answers, as in `Predictor.forecast`.
    """

    predictor: Predictor
    families: str | tuple[str, ...]

    def forecast(self, X: Landmarks) -> Mapping[str, Answer]:
        """Forecast from these families alone.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.

        Returns
        -------
        mapping of str to Forecast or DiagnosisForecast
        """
        return self.predictor.forecast(X, families=self.families)


def family_models(predictor: Predictor, outcome: str) -> dict[str, FamilyModel]:
    """Each family of a model alone, and the model without its graph.

    Parameters
    ----------
    predictor : Predictor
    outcome : str
        Whose weights without the graph are meant.

    Returns
    -------
    dict of str to FamilyModel
        By the name of the family, the graph first, and "nograph"; empty where there is one family alone.
    """
    names = sorted(predictor.families, key=lambda name: name != GRAPH)
    if len(names) < 2:
        return {}
    models = {name: FamilyModel(predictor, (name,)) for name in names}
    if predictor.stacks[outcome].without_graph:
        models[NO_GRAPH] = FamilyModel(predictor, NO_GRAPH)
    return models


def unknown_notes(unknown: Mapping[str, Sequence[str]]) -> list[str]:
    """List the codes that the model has no name for.

    Parameters
    ----------
    unknown : mapping of str to sequence of str
        By node type the codes that were rare or absent in training, or `["*"]` for the whole type, as
        `Predictor.unknown` gives them.

    Returns
    -------
    list of str
        A sentence a node type; it names the first few codes of many.

    Examples
    --------
    >>> unknown_notes({"lab": ["troponin"]})
    ['the model does not know lab troponin: rare or absent in training']
    """
    lines = []
    for kind, codes in unknown.items():
        shown, more = ", ".join(codes[:MAX_CODES_NAMED]), len(codes) - MAX_CODES_NAMED
        rest = f" and {more} more" if more > 0 else ""
        listed = f"{kind} {shown}{rest}: rare or absent in training"
        which = f"node type {kind}" if list(codes) == ["*"] else listed
        lines.append(f"the model does not know {which}")
    return lines


def split_notes(split: SplitMembership) -> list[str]:
    """List who was trained on, and how that is known.

    Parameters
    ----------
    split : SplitMembership
        What the run knows of the patients of the cohort.

    Returns
    -------
    list of str
    """
    trained, held_out, unknown = (split.count(side) for side in ("train", "test", None))
    lines = []
    if trained or split.exact:
        lines.append(f"{trained} training patients left out, {held_out} held out")
    if not split.exact and split.known and unknown:
        lines.append(
            f"warning: {unknown} of the scored patients are not known to the run: whether they were held out "
            "is unknown"
        )
    if split.by_record:
        lines.append(
            f"{split.by_record} patients have another id than in the fit but the same record: each is "
            "treated as the same person"
        )
    if split.by_id:
        lines.append(
            f"{split.by_id} patients are treated as training patients by their id alone, with other "
            "records; if they are other people, give the cohort another name"
        )
    if split.strangers:
        lines.append(
            f"warning: {split.strangers} patient ids here are ids of training patients, too, with other "
            "records: they are scored as other people"
        )
    return lines


def moment_name(moment: float | str) -> str:
    """A landmark in words.

    Parameters
    ----------
    moment : float or str
        Days after the origin; a name such as "entry", or a date, stays.

    Returns
    -------
    str

    Examples
    --------
    >>> moment_name("entry"), moment_name(365.25)
    ('entry', '1 y')
    """
    return moment if isinstance(moment, str) else duration(moment)
