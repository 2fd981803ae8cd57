"""A run: one fit with its split, its log and its checkpoints, in a folder that survives a kill at any moment.

`model/` holds no patient and may be given away; the files beside it are private.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from gnnpatient.cohort.cohort import Cohort, Landmarks, open_cohort
from gnnpatient.cohort.outcomes import Progression
from gnnpatient.cohort.splits import deal_share, default_landmarks
from gnnpatient.errors import InputError, near
from gnnpatient.files import atomic_file, file_hash, lock, sealed
from gnnpatient.prognosis.checkpoint import read_config
from gnnpatient.prognosis.estimator import NOT_SAVED, PrognosisModel
from gnnpatient.prognosis.people import FORMAT, PEOPLE_FILE, People, SplitMembership, read_run, split_of
from gnnpatient.progress import Progress
from gnnpatient.show import Shown, Summary
from gnnpatient.times import DAY

MIN_AT_RISK = 20  # patients at risk that a usual landmark time needs
RANDOM_LANDMARKS = 64  # times that `landmarks = "random"` draws
CHOICES: Mapping[str, Any] = {
    name: list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
    for name, parameter in inspect.signature(PrognosisModel).parameters.items()
    # no part of what is computed, or classes, which no file holds
    if name not in ("device", "cause", "encoders", *NOT_SAVED)
}
PLAN: Mapping[str, Any] = {**CHOICES, "landmarks": "random", "test": 0.2, "test_by": None}
"""What decides a run besides its cohort, with the defaults. `landmarks`: "random", or days and "entry"."""

ADDED: Mapping[str, Any] = {"weights": None}  # choices that runs of earlier versions lack


@dataclass(frozen=True, eq=False, repr=False)
class Run(Shown):
    """A run on disk.

    Attributes
    ----------
    folder : Path
        Its folder.
    cohort : mapping
        ``name``, ``path``, ``manifest_hash`` and ``spec_hash`` of the cohort it is fitted on.
    plan : mapping
        The choices that decide it: the keys of `PLAN`.
    train : tuple of str
        Ids of the training patients.
    test : tuple of str
        Ids of the held-out patients.
    """

    folder: Path
    cohort: Mapping[str, Any]
    plan: Mapping[str, Any]
    train: tuple[str, ...]
    test: tuple[str, ...]

    def _summary(self) -> Summary:
        facts = [
            ("cohort", str(self.cohort["name"])),
            ("patients", f"{len(self.train)} to fit on, {len(self.test)} held out"),
        ]
        return Summary(f"Run {self.folder}: {'finished' if self.finished else 'not finished'}", facts)

    def to_dict(self) -> dict[str, Any]:
        """The run for JSON; patients as counts, so that nobody is named.

        Returns
        -------
        dict
        """
        return {
            "folder": str(self.folder),
            "finished": self.finished,
            "cohort": dict(self.cohort),
            "plan": dict(self.plan),
            "train": len(self.train),
            "test": len(self.test),
        }

    @property
    def finished(self) -> bool:
        """Whether its model is saved."""
        return (self.folder / "model" / "config.json").is_file()

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open a run.

        Parameters
        ----------
        folder : str or Path
            RUN, or RUN/model inside it.

        Returns
        -------
        Run

        Raises
        ------
        InputError
            When it is no run, of another version, or a file was changed.
        """
        path, about, split = read_run(folder)
        try:
            plan = {**ADDED, **about["plan"]}
            run = cls(path, about["cohort"], plan, tuple(split["train"]), tuple(split["test"]))
            if set(run.plan) != set(PLAN):
                raise InputError(f"{path}: a run of another version; fit it again")
        except (KeyError, TypeError):
            raise InputError(f"{path}: run.json or split.json cannot be read; fit it again") from None
        return run

    def split_of(self, cohort: Cohort) -> SplitMembership:
        """Find which patients of a cohort were trained on or held out, as far as that is known.

        Parameters
        ----------
        cohort : Cohort
            Any cohort.

        Returns
        -------
        SplitMembership
        """
        return split_of(self.folder, cohort)

    def training_cohort(self) -> Cohort:
        """Open the very cohort that the run is fitted on.

        Returns
        -------
        Cohort

        Raises
        ------
        InputError
            When it is no longer there, or was packed again.
        """
        return open_cohort(self.cohort["path"], self.cohort["manifest_hash"])

    def landmarks(self, cohort: Cohort) -> Landmarks:
        """The training landmarks.

        Parameters
        ----------
        cohort : Cohort
            The run's cohort.

        Returns
        -------
        Landmarks
        """
        return training_landmarks(cohort, cohort.positions(np.array(self.train, str)), self.plan)


def fit_run(
    cohort: Cohort,
    folder: str | Path,
    choices: Mapping[str, Any],
    *,
    device: str = "auto",
    resume: bool = False,
    progress: Progress | bool | None = None,
) -> Run:
    """Fit a model in a folder of its own, or resume a fit that stopped there, to the same bits.

    Parameters
    ----------
    cohort : Cohort
        A cohort on disk.
    folder : str or Path
        The run's folder; new or empty unless `resume`.
    choices : mapping
        Values for keys of `PLAN`; the others are those of the run (when resumed) or the defaults.
    device : str
        Where to compute, see `resolve_device`; default ``"auto"``.
    resume : bool
        Whether to go on with a fit that stopped, default False.
    progress : Progress or bool, optional
        Called after each epoch; True for bars.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        When the cohort is not on disk, a choice is unknown or another than before, the folder is not empty,
        or the fit refuses its input.
    """
    folder = Path(folder)
    if cohort.path is None:
        raise InputError("a run needs a cohort on disk; cohort.save(path), then open_cohort(path)")
    if unknown := sorted(set(choices) - set(PLAN)):
        raise InputError(f"unknown choice {unknown[0]!r}{near(unknown[0], PLAN)}")
    occupied = folder.is_dir() and any(entry.name != ".lock" for entry in folder.iterdir())
    if occupied and not resume:
        what = "a run" if (folder / "run.json").is_file() else "something"
        raise InputError(f"{folder}: holds {what} already; go on with --resume, or give --out a new folder")
    cohort.verify()
    with lock(folder):
        fresh = not (folder / "run.json").is_file()
        try:
            run = _start(cohort, folder, choices) if fresh else _resumed(cohort, folder, choices)
            if run.finished:
                return run
            model = PrognosisModel(**{name: run.plan[name] for name in CHOICES}, device=device)
            model.fit(run.landmarks(cohort), run=folder, progress=progress)
            model.save_pretrained(folder / "model")
            if (folder / PEOPLE_FILE).is_file():
                digest = read_config(folder)[1]["digest"]
                People.read(folder / PEOPLE_FILE).with_model(digest).write(folder / PEOPLE_FILE)
        except InputError:
            if fresh and not occupied and not (folder / "checkpoints").exists():
                shutil.rmtree(folder)  # refused before the first epoch: leave nothing
            raise
        return run


def _start(cohort: Cohort, folder: Path, choices: Mapping[str, Any]) -> Run:
    """Choose the split and write it; run.json comes last and makes the folder a run."""
    plan = {**PLAN, **choices}
    names = _outcomes(cohort, plan)
    if plan["test_by"] is not None and "test" in choices:
        raise InputError("test and test_by are two ways to split; give one of them")
    if plan["test_by"] is not None:
        test = _test_by(cohort, plan["test_by"])
    else:
        test = _share(cohort, plan["test"], plan["seed"], names[0])
    about = {
        "name": cohort.spec.cohort,
        "path": str(cohort.path),
        "manifest_hash": cohort.manifest_hash,
        "spec_hash": cohort.spec.hash,
    }
    run = Run(folder, about, plan, tuple(cohort.ids[~test].tolist()), tuple(cohort.ids[test].tolist()))
    People.of(cohort, test).write(folder / PEOPLE_FILE)
    split = folder / "split.json"
    _write(split, json.dumps({"train": run.train, "test": run.test}, indent=1, ensure_ascii=False) + "\n")
    content = {"format": FORMAT, "cohort": about, "plan": plan, "split": file_hash(split)}
    _write(folder / "run.json", sealed(content), private=False)
    return run


def _resumed(cohort: Cohort, folder: Path, choices: Mapping[str, Any]) -> Run:
    run = Run.open(folder)
    if cohort.manifest_hash != run.cohort["manifest_hash"]:
        raise InputError(f"{folder}: a run on another cohort ({run.cohort['path']}); resume with that one")
    for name, value in choices.items():
        if (value := _plain(value)) != run.plan[name]:
            before, now = json.dumps(run.plan[name]), json.dumps(value)
            raise InputError(
                f"{folder}: the run has {name} {before}, not {now}; resume with the same choices"
            )
    return run


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _write(path: Path, text: str, *, private: bool = True) -> None:
    with atomic_file(path, private=private) as part:
        part.write_text(text, encoding="utf-8")


def _outcomes(cohort: Cohort, plan: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(cohort.outcomes_with_model(plan["outcomes"]))


def training_landmarks(cohort: Cohort, patients: np.ndarray, plan: Mapping[str, Any]) -> Landmarks:
    """The landmarks that a plan trains on: at risk of one of its outcomes.

    An outcome with landmarks of its own (a task) adds those.

    Parameters
    ----------
    cohort : Cohort
        The cohort.
    patients : ndarray
        Positions of the training patients.
    plan : mapping
        With the keys ``outcomes``, ``landmarks`` and ``seed`` of `PLAN`.

    Returns
    -------
    Landmarks
    """
    if not len(patients):
        return cohort.at(0.0)[:0]
    names = _outcomes(cohort, plan)
    on_days = [name for name in names if not cohort.outcomes[name].has_own_moments]
    parts = [cohort.moments(name) for name in names if name not in on_days]
    if not on_days:
        landmarks = cohort.at(0.0)[:0]
    elif plan["landmarks"] == "random":
        survival = {name for name, outcome in cohort.outcomes.items() if outcome.kind == "survival"}
        # of all survival outcomes: as long as every one of them lasts; of some, those alone count
        whose = None if set(on_days) == survival else on_days
        landmarks = cohort.landmarks(patients, n=RANDOM_LANDMARKS, seed=plan["seed"], outcomes=whose)
    else:
        landmarks = cohort.landmarks(patients, plan["landmarks"])
    if parts:
        pairs = [np.stack([X.patient, X.at], 1)[np.isin(X.patient, patients)] for X in (landmarks, *parts)]
        patient, at = np.unique(np.concatenate(pairs), axis=0).T
        landmarks = Landmarks(cohort, patient, at)
    return landmarks[np.logical_or.reduce([landmarks.at_risk(name) for name in names])]


def usual_landmarks(cohort: Cohort, outcome: str) -> list[float | str]:
    """Choose usual landmark times: entry, and where anything becomes known after it a few later days.

    Parameters
    ----------
    cohort : Cohort
        The cohort.
    outcome : str
        Name of the outcome; on each day at least 20 patients are at risk of it.

    Returns
    -------
    list of float or str
        "entry" and days after the origin.
    """
    if not cohort.has_later_rows:
        return ["entry"]
    ends = cohort.open_until(outcome)
    days = default_landmarks(ends[ends > cohort.entry])
    return ["entry", *(day for day in days if cohort.at(day).at_risk(outcome).sum() >= MIN_AT_RISK)]


def scored_landmarks(
    cohort: Cohort,
    patients: np.ndarray,
    outcome: str,
    days: Sequence[float | str],
    to: float | None = None,
) -> Landmarks:
    """The landmarks at which patients are scored: at risk, with a known label.

    Days that round to the same second count once. An outcome with landmarks of its own (a task) is scored at
    those, whatever the days.

    Parameters
    ----------
    cohort : Cohort
        The cohort.
    patients : ndarray
        Positions of the patients.
    outcome : str
        Name of the outcome.
    days : sequence of float or str
        Days after the origin; "entry" is each patient's own.
    to : float, optional
        Days after the landmark at which a value is asked for; needed for a progression, and for it alone.

    Returns
    -------
    Landmarks

    Raises
    ------
    InputError
        When `to` is missing, not above 0, or given for another outcome.
    """
    truth = cohort.outcomes[outcome]
    is_value = isinstance(truth, Progression) and not truth.has_curve
    if is_value and (to is None or not to > 0):
        when = "when" if to is None else f"to = {to:g} days"
        raise InputError(
            f"outcome {outcome!r} is a value: {when}? give the days after the landmark, above 0, as in "
            'to="1y" (--to 1y)'
        )
    if to is not None and not is_value:
        raise InputError(f"outcome {outcome!r} is no value at a time; leave out to")
    if truth.has_own_moments:
        landmarks = cohort.moments(outcome)
        landmarks = landmarks[np.isin(landmarks.patient, patients)].followed(outcome)
    else:
        named = [day for day in days if isinstance(day, str)]
        numbers = np.asarray([day for day in days if not isinstance(day, str)], np.float64)
        moments = np.unique(np.round(numbers * DAY)) / DAY
        landmarks = cohort.landmarks(patients, [*named, *moments.tolist()]).followed(outcome)
        once = np.unique(np.stack([landmarks.patient, landmarks.at]), axis=1, return_index=True)[1]
        landmarks = landmarks[np.sort(once)]
    if to is not None:
        return replace(landmarks, to=landmarks.at + round(to * DAY))
    if truth.has_course:
        return landmarks  # those lost before the horizon inform the censoring weights
    labelled = landmarks.outcome(outcome)["label"] >= 0
    return landmarks[labelled if labelled.ndim == 1 else labelled.any(1)]  # of several labels any


def _share(cohort: Cohort, share: float, seed: int, outcome: str) -> np.ndarray:
    """Draw a share of the patients, whole groups, with each event or label spread evenly: (patient,) bool."""
    if not 0 <= share < 1:
        raise InputError(f"test = {share:g} must be >= 0 and < 1, a share of the patients")
    group, member = np.unique(cohort.groups, return_inverse=True)
    chosen = deal_share(member, cohort.outcomes_with_model([outcome])[outcome].strata, share, seed)
    if share and (chosen.all() or not chosen.any()):
        raise InputError(
            f"test {share:g} of {len(group)} patients or groups leaves one side empty; give another share"
        )
    return chosen


def _test_by(cohort: Cohort, text: str) -> np.ndarray:
    """Choose test patients by ``group=VALUE``, or by ``after=DATE`` of day 0: (patient,) bool."""
    key, _, value = text.partition("=")
    if key == "after":
        if cohort.origin is None:
            raise InputError(
                f"test by {text}: the cohort's times are offsets without a calendar; split by share or group"
            )
        try:
            day = date.fromisoformat(value) if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else None
        except ValueError:
            day = None
        if day is None:
            raise InputError(f"test by {text}: write a date, as in after=2015-01-01")
        test = np.asarray(cohort.origin) >= cohort.calendar(value)[0]
    elif key in ("group", cohort.spec.patient.group):
        if cohort.group is None:
            raise InputError(f"test by {text}: the spec has no [patient] group")
        test = np.asarray(cohort.group) == value
        if not test.any():
            raise InputError(
                f"test by {text}: no patient there{near(value, np.unique(cohort.group).tolist()[:20])}"
            )
    else:
        raise InputError(f"test by {text!r}; must be group=VALUE or after=DATE")
    if not 0 < test.sum() < len(test):
        raise InputError(
            f"test by {text}: {int(test.sum())} of {len(test)} patients to test on; both sides need some"
        )
    return test
