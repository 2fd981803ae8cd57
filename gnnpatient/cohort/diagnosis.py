"""Diagnosis outcomes: the class of a patient, or of each moment of a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from gnnpatient.cohort.arrays import StoredColumns
from gnnpatient.cohort.survival import group_sizes, later_retracted, present
from gnnpatient.show import Shown, Summary, counted, listed
from gnnpatient.spec.outcomes import DiagnosisSpec
from gnnpatient.times import DAY, FOREVER, NEVER, seconds


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis(Shown):
    """The class of each patient; "yes", "no" and "not looked for" are three different things.

    The class attributes are described in `gnnpatient.cohort.outcomes`.

    Attributes
    ----------
    label : ndarray
        Position in `classes`, -1 = not looked for; with a horizon, 1 = ever recorded.
    known : ndarray
        Second at which the label became known, FOREVER = never.
    end : ndarray
        Second at which observation ends, FOREVER = not given.
    classes : tuple of str
        Names of the classes.
    gap : int
        Seconds by which a landmark must come before `known`.
    horizon : int or None
        Seconds after a landmark within which the codes must come. None: the label belongs to the patient,
        whatever the landmark.
    same : bool
        Whether the label is about what is visible at the landmark, so that it may be known already.
    gone : ndarray, optional
        Second of death or another final loss, FOREVER = none known; with a horizon only.
    retracted : ndarray, optional
        Labels that an amendment took back later, see `gnnpatient.cohort.survival.later_retracted`.
    kind, has_model, has_curve, has_own_moments, has_patient_groups, name_noun
        What this kind of outcome can do.

    Examples
    --------
    >>> at = np.zeros(3, np.int64)
    >>> icu = Diagnosis(np.array([1, 0, -1]), at + 2 * DAY, at + 9 * DAY, ("no", "yes"), DAY, horizon=None)
    >>> icu.at_risk(np.arange(3), at)                # the third was not looked for
    array([ True,  True, False])
    """

    kind: ClassVar[Literal["diagnosis", "ordered"]] = "diagnosis"
    has_model: ClassVar[Literal[True]] = True
    has_curve: ClassVar[Literal[False]] = False
    has_own_moments: ClassVar[Literal[False]] = False
    has_patient_groups: ClassVar[Literal[True]] = True
    name_noun: ClassVar[tuple[str, str]] = ("class", "classes")
    label: np.ndarray  # (patient,) int16
    known: np.ndarray  # (patient,) int64 seconds
    end: np.ndarray  # (patient,) int64 seconds
    classes: tuple[str, ...]
    gap: int
    horizon: int | None
    same: bool = False
    gone: np.ndarray | None = None  # (patient,) int64 seconds
    retracted: np.ndarray | None = None  # (period, 3) int64

    @property
    def has_course(self) -> bool:
        """Whether patients may be lost before the label is known: where there is a horizon."""
        return self.horizon is not None

    def _summary(self) -> Summary:
        sizes = listed(group_sizes(self.strata, self.classes, "not looked for"))
        return Summary(f"Diagnosis of {counted(len(self.label), 'patient')}: {sizes}")

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""
        return self.classes

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the numbers that `groups_at` gives."""
        return self.classes

    def groups_at(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Divide landmarks into groups by their label.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            Position in `group_names`, -1 = not open, or unknown, (landmark,) int64.
        """
        label = self.truth(patient, at)["label"].astype(np.int64)
        return np.where(self.open(patient, at), label, -1)

    @property
    def ends(self) -> np.ndarray:
        """Second before which a patient's landmarks lie, (patient,) int64."""
        last = self.end if self.gone is None else np.minimum(self.end, self.gone)
        if self.same:
            return last
        first = np.where(self.known == FOREVER, FOREVER, self.known - self.gap + (self.gap > 0))
        return np.minimum(first, last)

    @property
    def strata(self) -> np.ndarray:
        """What a split spreads evenly: the label, (patient,) int64."""
        return self.label.astype(np.int64) + 1

    def open(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Whether a forecast makes sense: still observed, and the label unknown for another `gap`.

        The label may never be looked for. While a label was recorded that was taken back only later, it
        counted as known.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            (landmark,) bool.
        """
        return (at < self.ends[patient]) & (self.same | ~later_retracted(self.retracted, patient, at))

    def at_risk(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Whether each landmark can be scored: open, and, without a horizon, with a label.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            (landmark,) bool.
        """
        free = self.open(patient, at)
        return free & (self.label[patient] >= 0) if self.horizon is None else free

    def truth(self, patient: np.ndarray, at: np.ndarray, to: np.ndarray | None = None) -> np.ndarray:
        """Give what was observed after each landmark.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.
        to : ndarray, optional
            Not used; other kinds of outcome need it.

        Returns
        -------
        ndarray
            Structured, (landmark,): label (-1 = not looked for, or not observed long enough), time (days
            until it is known, nan = never).
        """
        out = np.empty(len(at), dtype=[("label", np.int16), ("time", np.float64)])
        known = self.known[patient]
        out["time"] = np.where(known == FOREVER, np.nan, (known - at.astype(np.float64)) / DAY)
        out["label"] = self.label[patient]
        if self.horizon is not None:
            event, time = self.course(patient, at)
            within = time <= self.horizon / DAY
            out["label"] = np.where(within, np.array([-1, 1, 0])[event], 0)
        return out

    def course(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the course of each landmark up to the horizon, with patients lost on the way.

        What became known after the end of observation does not count. A patient observed up to the horizon
        without the diagnosis is free of it, so the time lies beyond the horizon.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        event : ndarray
            0 = lost, or free at the horizon; 1 = diagnosed; 2 = dead or gone without it, (landmark,) int64.
        time : ndarray
            Days after the landmark of that event, or of the end of observation, (landmark,) float64.
        """
        assert self.horizon is not None
        known, end = self.known[patient], self.end[patient]
        gone = np.full(len(at), FOREVER) if self.gone is None else self.gone[patient]
        gone = np.where(gone <= end, gone, FOREVER)
        event = np.where((known <= end) & (known <= gone) & (known < FOREVER), 1, 2 * (gone < FOREVER))
        moment, until = np.choose(event, [end, known, gone]), at + self.horizon
        beyond = (moment > until) | ((event == 0) & (moment == until))
        time = np.where(beyond, self.horizon + 1, np.minimum(moment, until) - at)
        return np.where(beyond, 0, event), time / DAY

    def columns(self) -> dict[str, np.ndarray]:
        """Give every array by the name of its file.

        Returns
        -------
        dict
            Name -> array; without `gone` and retracted labels where there are none.
        """
        required = {"label": self.label, "known": self.known, "end": self.end}
        return required | present(gone=self.gone, stood=self.retracted)

    @classmethod
    def from_columns(
        cls, spec: DiagnosisSpec, columns: StoredColumns, patients: int
    ) -> Diagnosis | Task | Labels:
        """Read what `columns` gave, memory-mapped.

        Parameters
        ----------
        spec : DiagnosisSpec
            The outcome in the spec of the cohort.
        columns : StoredColumns
            The arrays of the outcome.
        patients : int
            Number of patients of the cohort.

        Returns
        -------
        Diagnosis, Task or Labels
            A task where the spec names a task file; `Labels` where it names labels.
        """
        if spec.task is not None:
            return Task(columns.read("patient"), columns.read("at"), columns.read("label"), patients)
        if spec.labels:
            return Labels.from_columns(spec, columns, patients)
        return diagnosis_of(
            spec,
            columns.read("label", patients),
            columns.read("known", patients),
            columns.read("end", patients),
            gone=columns.read_optional("gone", patients),
            retracted=columns.read_optional("stood"),
        )

    def flow(self, at_entry: np.ndarray, enters: np.ndarray) -> dict[str, Any]:
        """Count the patients that are left at each step of eligibility.

        Parameters
        ----------
        at_entry : ndarray
            Second of each patient's entry, (patient,) int64.
        enters : ndarray
            Whether each patient enters, (patient,) bool.

        Returns
        -------
        dict
            Step -> number.
        """
        labelled = (self.label >= 0) & enters
        steps = {"looked for": labelled.sum()}
        free = labelled & (at_entry < self.ends)
        steps["not known at entry"] = free.sum()
        names = ("not seen", "ever seen") if self.horizon is not None else self.classes
        return steps | {f"label: {c}": (free & (self.label == k)).sum() for k, c in enumerate(names)}


@dataclass(frozen=True, eq=False, repr=False)
class OrderedDiagnosis(Diagnosis):
    """A diagnosis whose classes have an order: they rise, as stages or the steps of a scale.

    Attributes are those of `Diagnosis`.

    Attributes
    ----------
    kind
        What this kind of outcome can do, see `gnnpatient.cohort.outcomes`.
    """

    kind: ClassVar[Literal["ordered"]] = "ordered"


def diagnosis_of(
    spec: DiagnosisSpec,
    label: np.ndarray,
    known: np.ndarray,
    end: np.ndarray,
    *,
    gone: np.ndarray | None = None,
    retracted: np.ndarray | None = None,
) -> Diagnosis:
    """Make the diagnosis of a spec, ordered where its classes are.

    Parameters
    ----------
    spec : DiagnosisSpec
        Of one label.
    label, known, end, gone, retracted : ndarray
        As in `Diagnosis`.

    Returns
    -------
    Diagnosis
    """
    kind = OrderedDiagnosis if spec.ordered else Diagnosis
    horizon = seconds(spec.horizon) if spec.horizon and spec.node else None
    rest = spec.class_names, seconds(spec.gap), horizon, spec.when == "same", gone, retracted
    return kind(label, known, end, *rest)


@dataclass(frozen=True, eq=False, repr=False)
class Labels(Shown):
    """Several labels of a patient, each yes, no or not looked for by itself.

    A landmark is open while one of the labels is. The class attributes are described in
    `gnnpatient.cohort.outcomes`.

    Attributes
    ----------
    parts : tuple of Diagnosis
        The diagnosis of yes or no of each label.
    labels : tuple of str
        Names of the labels.
    kind, has_model, has_curve, has_own_moments, has_patient_groups, name_noun
        What this kind of outcome can do.

    Examples
    --------
    >>> at = np.zeros(2, np.int64)
    >>> one, other = (
    ...     Diagnosis(np.array(x), at + 2 * DAY, at + 9 * DAY, ("no", "yes"), DAY, horizon=None)
    ...     for x in ([1, 0], [-1, 1])
    ... )
    >>> Labels((one, other), ("edema", "effusion")).truth(np.arange(2), at)["label"]
    array([[ 1, -1],
           [ 0,  1]], dtype=int16)
    """

    kind: ClassVar[Literal["labels"]] = "labels"
    has_model: ClassVar[Literal[True]] = True
    has_curve: ClassVar[Literal[False]] = False
    has_own_moments: ClassVar[Literal[False]] = False
    has_patient_groups: ClassVar[Literal[False]] = False
    name_noun: ClassVar[tuple[str, str]] = ("label", "labels")
    parts: tuple[Diagnosis, ...]
    labels: tuple[str, ...]

    def _summary(self) -> Summary:
        return Summary(f"Labels of {counted(len(self.parts[0].label), 'patient')}: {listed(self.sizes)}")

    @property
    def sizes(self) -> list[str]:
        """How many patients have each label, in words."""
        return [f"{int((part.label == 1).sum())} {name}" for name, part in self.each.items()]

    @property
    def each(self) -> dict[str, Diagnosis]:
        """The diagnosis of each label by its name."""
        return dict(zip(self.labels, self.parts, strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    @property
    def horizon(self) -> int | None:
        """Seconds after a landmark within which the codes must come; None: they belong to the patient."""
        return self.parts[0].horizon

    @property
    def has_course(self) -> bool:
        """Whether patients may be lost before it is known: where there is a horizon."""
        return self.parts[0].has_course

    @property
    def same(self) -> bool:
        """Whether the labels are about what is visible at the landmark."""
        return self.parts[0].same

    @property
    def ends(self) -> np.ndarray:
        """Second before which a patient's landmarks lie, (patient,) int64."""
        last: np.ndarray = np.max([part.ends for part in self.parts], axis=0)
        return last

    @property
    def strata(self) -> np.ndarray:
        """What a split spreads evenly: the rarest label that a patient has, (patient,) int64."""
        return rarest(np.stack([part.label for part in self.parts], 1))

    def opened(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Whether a forecast of each label makes sense, see `Diagnosis.open`.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            (landmark, label) bool.
        """
        return np.stack([part.open(patient, at) for part in self.parts], 1)

    def open(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Whether a forecast of any label makes sense.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            (landmark,) bool.
        """
        return np.any([part.open(patient, at) for part in self.parts], axis=0)

    def at_risk(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Whether any label of each landmark can be scored.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            (landmark,) bool.
        """
        return np.any([part.at_risk(patient, at) for part in self.parts], axis=0)

    def truth(self, patient: np.ndarray, at: np.ndarray, to: np.ndarray | None = None) -> np.ndarray:
        """Give what was observed after each landmark.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.
        to : ndarray, optional
            Not used; other kinds of outcome need it.

        Returns
        -------
        ndarray
            Structured, (landmark,): label (label,) 1 = yes, 0 = no, -1 = not looked for, not observed long
            enough, or known already; time (label,) days until it is known, nan = never.
        """
        size = (len(self.parts),)
        out = np.empty(len(at), dtype=[("label", np.int16, size), ("time", np.float64, size)])
        for k, part in enumerate(self.parts):
            truth = part.truth(patient, at)
            out["label"][:, k] = np.where(part.at_risk(patient, at), truth["label"], -1)
            out["time"][:, k] = truth["time"]
        return out

    def course(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the course of each label up to the horizon, see `Diagnosis.course`.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        event : ndarray
            (landmark, label) int64.
        time : ndarray
            (landmark, label) float64.
        """
        event, time = zip(*(part.course(patient, at) for part in self.parts), strict=True)
        return np.stack(event, 1), np.stack(time, 1)

    def columns(self) -> dict[str, np.ndarray]:
        """Give every array by the name of its file.

        Returns
        -------
        dict
            Name -> array: those of each part, with its number before them.
        """
        parts = enumerate(self.parts)
        return {f"{k}.{name}": array for k, part in parts for name, array in part.columns().items()}

    @classmethod
    def from_columns(cls, spec: DiagnosisSpec, columns: StoredColumns, patients: int) -> Labels:
        """Read what `columns` gave, memory-mapped.

        Parameters
        ----------
        spec : DiagnosisSpec
            The outcome in the spec of the cohort.
        columns : StoredColumns
            The arrays of the outcome.
        patients : int
            Number of patients of the cohort.

        Returns
        -------
        Labels
        """
        parts = [
            diagnosis_of(
                one,
                columns.read(f"{k}.label", patients),
                columns.read(f"{k}.known", patients),
                columns.read(f"{k}.end", patients),
                gone=columns.read_optional(f"{k}.gone", patients),
                retracted=columns.read_optional(f"{k}.stood"),
            )
            for k, one in enumerate(spec.each_label.values())
        ]
        return cls(tuple(parts), tuple(spec.labels))

    def flow(self, at_entry: np.ndarray, enters: np.ndarray) -> dict[str, Any]:
        """Count the patients that are left at each step of eligibility.

        Parameters
        ----------
        at_entry : ndarray
            Second of each patient's entry, (patient,) int64.
        enters : ndarray
            Whether each patient enters, (patient,) bool.

        Returns
        -------
        dict
            Step -> number.
        """
        label, ends = (np.stack([getattr(p, of) for p in self.parts], 1) for of in ("label", "ends"))
        labelled = (label >= 0) & enters[:, None]
        free = labelled & (at_entry[:, None] < ends)
        steps: dict[str, Any] = {"looked for": labelled.any(1).sum(), "not known at entry": free.any(1).sum()}
        for k, name in enumerate(self.labels):
            steps[f"label: {name}"] = (free[:, k] & (label[:, k] == 1)).sum()
        return steps


def rarest(label: np.ndarray) -> np.ndarray:
    """The rarest of the labels of each row, as splits spread it.

    Parameters
    ----------
    label : ndarray
        (row, label) int, 1 = yes.

    Returns
    -------
    ndarray
        (row,) int64: 1 + its position among the labels by number, the commonest first; 0 = no label.

    Examples
    --------
    >>> rarest(np.array([[1, 0], [1, 1], [0, -1]]))
    array([1, 2, 0])
    """
    yes = label == 1
    order = np.argsort(-yes.sum(0), kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(1, 1 + len(order))
    found: np.ndarray = (yes * place).max(1, initial=0)
    return found


@dataclass(frozen=True, eq=False, repr=False)
class Task(Shown):
    """A diagnosis with landmarks of its own, as an ACES task gives them: several a patient, a label each.

    The class attributes are described in `gnnpatient.cohort.outcomes`.

    Attributes
    ----------
    patient : ndarray
        Position of the patient in the cohort; sorted by patient and `at`.
    at : ndarray
        Second of the landmark after the patient's origin.
    label : ndarray
        Position in `classes`.
    patients : int
        Number of patients of the cohort.
    classes : tuple of str
        Names of the classes.
    kind, has_model, has_curve, has_course, has_own_moments, has_patient_groups, name_noun, horizon
        What this kind of outcome can do.
    """

    kind: ClassVar[Literal["diagnosis"]] = "diagnosis"
    has_model: ClassVar[Literal[True]] = True
    has_curve: ClassVar[Literal[False]] = False
    has_course: ClassVar[Literal[False]] = False
    has_own_moments: ClassVar[Literal[True]] = True
    has_patient_groups: ClassVar[Literal[False]] = False
    name_noun: ClassVar[tuple[str, str]] = ("class", "classes")
    patient: np.ndarray  # (moment,) int64
    at: np.ndarray  # (moment,) int64 seconds
    label: np.ndarray  # (moment,) int16
    patients: int
    classes: tuple[str, ...] = ("no", "yes")
    horizon: ClassVar[None] = None

    def _summary(self) -> Summary:
        size = f"{counted(len(self.label), 'landmark')} of {counted(len(np.unique(self.patient)), 'patient')}"
        return Summary(f"Task of {size}: {listed(self.classes)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""
        return self.classes

    @property
    def ends(self) -> np.ndarray:
        """Second before which a patient's landmarks lie, (patient,) int64."""
        last = np.full(self.patients, NEVER)
        np.maximum.at(last, self.patient, self.at + 1)
        return last

    @property
    def strata(self) -> np.ndarray:
        """What a split spreads evenly: the highest label of a patient, (patient,) int64."""
        highest = np.zeros(self.patients, np.int64)
        np.maximum.at(highest, self.patient, self.label.astype(np.int64) + 1)
        return highest

    def _found(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The moment of each landmark, and whether there is one."""
        if not len(self.at):
            return np.zeros(len(at), np.int64), np.zeros(len(at), bool)
        low = int(min(self.at.min(), at.min(initial=0)))
        span = int(max(self.at.max(), at.max(initial=0))) - low + 1
        key, wanted = self.patient * span + self.at - low, patient * span + at - low
        row = np.searchsorted(key, wanted).clip(max=len(key) - 1)
        return row, key[row] == wanted

    def open(self, patient: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Whether each landmark is a moment of the task.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        ndarray
            (landmark,) bool.
        """
        return self._found(patient, at)[1]

    at_risk = open

    def truth(self, patient: np.ndarray, at: np.ndarray, to: np.ndarray | None = None) -> np.ndarray:
        """Give the label of each landmark.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.
        to : ndarray, optional
            Not used; other kinds of outcome need it.

        Returns
        -------
        ndarray
            Structured, (landmark,): label (-1 = no moment of the task), time (always nan: a task does not
            give the time at which a label becomes known).
        """
        out = np.empty(len(at), dtype=[("label", np.int16), ("time", np.float64)])
        row, found = self._found(patient, at)
        out["time"], out["label"] = np.nan, -1
        out["label"][found] = self.label[row[found]]
        return out

    def columns(self) -> dict[str, np.ndarray]:
        """Give every array by the name of its file.

        Returns
        -------
        dict
            Name -> array.
        """
        return {"patient": self.patient, "at": self.at, "label": self.label}

    def flow(self, at_entry: np.ndarray, enters: np.ndarray) -> dict[str, Any]:
        """Count the moments, and the patients that have one.

        Parameters
        ----------
        at_entry : ndarray
            Second of each patient's entry, (patient,) int64.
        enters : ndarray
            Whether each patient enters, (patient,) bool.

        Returns
        -------
        dict
            Step -> number.
        """
        steps = {"patients with a moment of the task": len(np.unique(self.patient)), "moments": len(self.at)}
        return steps | {f"label: {c}": (self.label == k).sum() for k, c in enumerate(self.classes)}
