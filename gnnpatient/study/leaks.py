"""The target-leakage check: does one column know the outcome better than it can?

**An event**: survival, or a diagnosis by codes that may still come. Each case of a cause is judged one second
before its event, and again far from it. Its controls are patients of the same fold who are at risk at that
very moment after their own origin, so that the length of follow-up tells nobody apart. A column's AUC is the
share of (case, control) pairs that it puts in the right order, each case weighing the same; which way round
is learned on the cases of the other folds, so a useless column gets about .5, not above.

Near and far: the 30 days before the event, and one year before it, if at least 10 cases were followed for
more than a year. In shorter cohorts near is a tenth of the longest follow-up of a case (at most 30 days), far
the middle of each case's own follow-up.

Controls are drawn twice. `risk` has whoever does not have the event within the near span; `never` only those
in whom it is not seen at all. Only the second finds a column that says who dies *some day*, since the first
also holds later cases.

**A class.** Cases have it, controls have another; of two classes only the last is judged, and those who were
not looked for take no part. All are judged at their own entry. Where the label has no known time, or is about
what can be seen now, they are also judged at their own last moment, and a task at its moments alone. Presence
is yes or no there: how many rows there are by then says how long the record is.

Where the label has a known time, near and far are counted from the last moment before it, and controls are
drawn twice here too: near and far from their own label, and at the same moment as the case, as for an event.
The lower AUC of the two counts. The first alone would name whatever grows with time, the second whatever
comes shortly before any answer, as a biopsy does.

References
----------
Kaufman S, Rosset S, Perlich C (2012). Leakage in data mining. ACM Trans Knowl Discov Data 6:15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal, cast

import numpy as np

from gnnpatient.cohort.cohort import Cohort
from gnnpatient.cohort.diagnosis import Diagnosis, Labels, OrderedDiagnosis
from gnnpatient.cohort.outcomes import Task
from gnnpatient.cohort.recurrent import Recurrent
from gnnpatient.cohort.states import States
from gnnpatient.cohort.survival import Survival
from gnnpatient.errors import InputError
from gnnpatient.spec.patterns import fitting
from gnnpatient.study.column_scores import PRESENCE_SCORES, code_aucs, static_aucs, static_columns
from gnnpatient.study.matching import (
    MIN_CASES,
    ControlSets,
    MatchedCases,
    matched_at_event,
    matched_at_own_time,
    near_and_far,
    patient_folds,
)
from gnnpatient.times import DAY, FOREVER, NEVER

MAX_PLAUSIBLE_AUC = 0.95  # an AUC above it is too good
MIN_JUMP = 0.2  # by which the AUC of a value near the event exceeds that far from it


@dataclass(frozen=True)
class Leak:
    """One column that knows too much. It holds no patient.

    Attributes
    ----------
    outcome, cause : str
        The outcome that the column gives away, and which cause or class of it.
    kind : str
        Node type; "patient" for a baseline covariate, "timepoint" for visits as such.
    code : str
        Code, or name of the baseline covariate.
    what : str
        "presence", "value", "jump" or "static"; see `leaks`.
    near : float
        AUC out of fold just before the event, or at the moment that is judged.
    far : float or None
        AUC far from the event; None with fewer than 10 cases there, of one moment, or of a covariate of
        day 0.
    message : str
        What was found and what to do about it, in one line.
    """

    outcome: str
    cause: str
    kind: str
    code: str
    what: Literal["presence", "value", "jump", "static"]
    near: float
    far: float | None
    message: str

    def to_dict(self) -> dict[str, Any]:
        """One entry of `leaks` in `check --json`.

        Returns
        -------
        dict
            Every attribute by its name.
        """
        return asdict(self)


@dataclass(frozen=True)
class Coverage:
    """What the target-leakage check has judged, or why it could not.

    Attributes
    ----------
    outcome, cause : str
        The outcome, and which cause or class of it; "" where it has neither.
    judged : bool
        Whether there is a verdict.
    reason : str
        At which moments columns were judged; or why they were not.
    """

    outcome: str
    cause: str
    judged: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """One entry of `looked` in `check --json`.

        Returns
        -------
        dict
            outcome, cause, done, how.
        """
        return {"outcome": self.outcome, "cause": self.cause, "done": self.judged, "how": self.reason}


Found = tuple[str, str, Literal["presence", "value", "jump", "static"], float, float | None, str]
"""kind, code, what, near, far, message."""


@dataclass(frozen=True, eq=False)
class _Question:
    """What a column must not give away."""

    coverage: Coverage
    cohort: Cohort  # with the node types that may be seen
    claim: str  # of a message about a leak, as "tells who will have death"
    views: tuple[ControlSets, ...] = ()
    event: tuple[Survival, int] | None = None  # of a survival outcome: its truth, and which cause


def leaks(cohort: Cohort, outcome: str | None = None, *, seed: int = 0) -> list[Leak]:
    """The columns that know an outcome before it happens, the worst of each cause or class first.

    presence  a code's presence (ever, how often, how often of late, how recently) has an AUC > .95 near the
              event, or all its rows are known at the end of follow-up or later
    jump      the AUC of a code's last value is > .95 near the event, and .2 above that far from it
    value     the AUC of a code's last value is > .95 near the event and far from it; of a class also at
              entry, at the last moment or at those of a task
    static    the AUC of a baseline covariate, or of whether it is given by then, is > .95; or all that is
              known of it is known at the end of follow-up or later

    Codes in `hide` are not there to be named, and with `inputs` no other node type is judged. A cause or
    class with fewer than 10 cases, or a column that fewer than 10 cases have, gets no verdict: an empty list
    is no proof, and `coverage` says what was judged.

    Parameters
    ----------
    cohort : Cohort
    outcome : str, optional
        Default: every survival outcome and every diagnosis.
    seed : int, default 0
        Of folds and controls.

    Returns
    -------
    list of Leak

    Raises
    ------
    InputError
        When the outcome is unknown, or a progression, which has neither an event nor classes.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> leaks(pbc())
    []
    """
    found: list[Leak] = []
    for q in _questions(cohort, outcome, seed):
        worst: dict[tuple[str, ...], Found] = {}
        for one in (*_statics(q), *_codes(q), *_known_only_afterwards(q)):
            worst[one[:3]] = max(worst.get(one[:3], one), one, key=lambda f: f[3])
        found += [
            Leak(q.coverage.outcome, q.coverage.cause, *f)
            for f in sorted(worst.values(), key=lambda f: -f[3])
        ]
    return found


def coverage(cohort: Cohort, outcome: str | None = None, *, seed: int = 0) -> list[Coverage]:
    """Of which causes and classes `leaks` has a verdict, and why not of the others.

    Parameters
    ----------
    cohort : Cohort
    outcome : str, optional
        Default: every outcome.
    seed : int, default 0
        As of `leaks`.

    Returns
    -------
    list of Coverage

    Raises
    ------
    InputError
        As `leaks`.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> [(one.cause, one.judged) for one in coverage(pbc())]
    [('transplant', True), ('death', True)]
    """
    return [q.coverage for q in _questions(cohort, outcome, seed)]


def _questions(cohort: Cohort, outcome: str | None, seed: int) -> Iterator[_Question]:
    """What is judged of one outcome, or of all of them."""
    cohort.outcome_names(outcome)  # refused where there is none
    fold = patient_folds(cohort, seed)
    for name in cohort.outcomes if outcome is None else (outcome,):
        questions = QUESTIONS.get(type(cohort.outcomes[name]))
        if questions is not None:
            yield from questions(cohort, name, fold, seed)
        elif outcome is not None:
            raise InputError(
                f"outcome {name!r} has neither an event nor classes; the target-leakage check needs them"
            )
        else:
            yield _Question(Coverage(name, "", False, "neither an event nor classes"), cohort, "")


def _of_survival(cohort: Cohort, name: str, fold: np.ndarray, seed: int) -> Iterator[_Question]:
    """One question a cause."""
    truth = cast(Survival, cohort.outcomes[name])
    for k, cause in enumerate(truth.causes, start=1):
        near = [(drawn,) for drawn in matched_at_event(cohort, truth, k, fold, seed)]
        question = _question(name, cause, f"tells who will have {cause}", cohort, near)
        yield replace(question, event=(truth, k))


def _of_path(cohort: Cohort, name: str, fold: np.ndarray, seed: int) -> Iterator[_Question]:
    """One question about the next event that recurs, or the next time of each state that can be left.

    And one a cause that ends it.
    """
    truth = cast(Recurrent | States, cohort.outcomes[name])
    entry, kind = cohort.entry, np.zeros(len(truth.owner), np.int64)
    passing: tuple[str, ...] = truth.names[:1]
    if isinstance(truth, States):
        passing, kind = truth.states[: -len(truth.causes)], np.asarray(truth.state)
    for k, what in enumerate(passing):
        some = np.flatnonzero((kind == k) & (truth.happened > entry[truth.owner]))[::-1]
        time, event = np.array(truth.ends), np.zeros(len(entry), np.int8)
        some = some[truth.happened[some] <= time[truth.owner[some]]]
        time[truth.owner[some]], event[truth.owner[some]] = truth.happened[some], 1  # the first stays
        near = [(drawn,) for drawn in matched_at_event(cohort, Survival(time, event, (what,)), 1, fold, seed)]
        if event.any():
            yield _question(name, what, f"tells who will have {what}", cohort, near)
    yield from _of_survival(cohort, name, fold, seed)


def _of_diagnosis(cohort: Cohort, name: str, fold: np.ndarray, seed: int) -> Iterator[_Question]:
    """One question about the event where codes may still come, else one a class."""
    truth = cast(Diagnosis, cohort.outcomes[name])
    seen = _with_inputs(cohort, name)
    if truth.has_course and not truth.same:
        came = (truth.known < FOREVER) & (truth.known - truth.gap <= truth.end)
        event = Survival(truth.ends, came.astype(np.int8), truth.classes[1:])
        views = [(drawn,) for drawn in matched_at_event(seen, event, 1, fold, seed)]
        yield _question(name, truth.classes[1], f"tells who will have {name}", seen, views)
        return
    ends = seen.open_until(name)
    label = np.where(seen.entry < ends, truth.label, -1)
    once, timed = {"at entry": seen.entry}, None
    if truth.same or (truth.known == FOREVER).all():
        once["at the last moment"] = ends - 1
    else:
        timed = Survival(np.where(label >= 0, ends, NEVER), (label + 1).astype(np.int8), truth.classes)
    yield from _of_classes(seen, name, np.arange(len(seen)), label, once, fold, seed, timed)


def _of_task(cohort: Cohort, name: str, fold: np.ndarray, seed: int) -> Iterator[_Question]:
    """One question a class, at the moments of the task."""
    truth = cast(Task, cohort.outcomes[name])
    once = {"at its moments": truth.at}
    yield from _of_classes(_with_inputs(cohort, name), name, truth.patient, truth.label, once, fold, seed)


def _of_labels(cohort: Cohort, name: str, fold: np.ndarray, seed: int) -> Iterator[_Question]:
    """One question a label, as of a diagnosis of it alone."""
    for label, part in cast(Labels, cohort.outcomes[name]).each.items():
        alone = replace(cohort, outcomes={**cohort.outcomes, name: part})
        for question in _of_diagnosis(alone, name, fold, seed):
            coverage = replace(question.coverage, cause=label)
            yield replace(question, coverage=coverage, claim=f"tells who has {name}: {label}")


QUESTIONS: Mapping[type, Callable[[Cohort, str, np.ndarray, int], Iterator[_Question]]] = {
    Survival: _of_survival,
    Recurrent: _of_path,
    States: _of_path,
    Diagnosis: _of_diagnosis,
    OrderedDiagnosis: _of_diagnosis,
    Labels: _of_labels,
    Task: _of_task,
}
"""What is judged of an outcome, by its class; of others nothing."""


def _with_inputs(cohort: Cohort, name: str) -> Cohort:
    """With the node types alone that the outcome may be read from."""
    kinds = cohort.inputs([name])
    return cohort if kinds is None else cohort.only(kinds)


def _of_classes(
    cohort: Cohort,
    name: str,
    patient: np.ndarray,
    label: np.ndarray,
    once: Mapping[str, np.ndarray],
    fold: np.ndarray,
    seed: int,
    timed: Survival | None = None,
) -> Iterator[_Question]:
    """One question a class, of two about the last.

    patient, label: whose each landmark is, and its class; once: moments that are judged by themselves; timed:
    when the label becomes known, where that is known.
    """
    classes = cohort.outcomes_with_model([name])[name].names
    for k in range(1 if len(classes) == 2 else 0, len(classes)):
        case, others = np.flatnonzero(label == k), np.flatnonzero((label >= 0) & (label != k))
        drawn = partial(matched_at_own_time, cohort, patient, case, others, fold, seed)
        near: list[ControlSets] = []
        if timed is not None and len(case) >= MIN_CASES:
            moments = near_and_far(timed.time, cohort.entry, case)
            _, same = matched_at_event(cohort, timed, k + 1, fold, seed)  # the controls that never have it
            near = [(drawn(*moments, "just before it is known"), same)]
        alone = [(drawn(at, when=when),) for when, at in once.items()]
        yield _question(name, classes[k], f"tells who has {name} = {classes[k]}", cohort, near, alone)


def _question(
    name: str,
    cause: str,
    claim: str,
    cohort: Cohort,
    near: Sequence[ControlSets],
    once: Sequence[ControlSets] = (),
) -> _Question:
    """With the control sets that have enough cases and controls."""
    near, once = ([view for view in some if all(m.has_enough for m in view)] for some in (near, once))
    moments = [*["near and far"] * bool(near), *(matched.when for (matched,) in once)]
    why = f"fewer than {MIN_CASES} cases, or others to compare them with"
    found = Coverage(name, cause, bool(moments), ", ".join(moments) or why)
    return _Question(found, cohort, claim, (*near, *once))


def _codes(q: _Question) -> Iterator[Found]:
    """Codes whose presence or value is too good."""
    for kind, events in q.cohort.events.items():
        size = len(q.cohort.codes[kind])
        pairs = np.unique(events.patient * size + events.code)
        common = np.flatnonzero(
            np.bincount(pairs % size, minlength=size) >= MIN_CASES
        )  # in that many patients
        for view in q.views:
            near = np.minimum.reduce([code_aucs(events, common, m, m.near) for m in view])
            far = np.minimum.reduce([code_aucs(events, common, m, m.far) for m in view])
            for c, code in enumerate(common):
                yield from _verdicts(
                    kind, q.cohort.codes[kind][code], near[:, c], far[:, c], view[0], q.claim
                )


def _verdicts(
    kind: str, code: str, near: np.ndarray, far: np.ndarray, matched: MatchedCases, claim: str
) -> Iterator[Found]:
    """What the figures of one code amount to: those of PRESENCE_SCORES, then that of the value."""
    label = "any row at all" if kind == "timepoint" else f"{kind} {code!r}"
    best = int(np.nan_to_num(near[:-1]).argmax())
    if near[best] > MAX_PLAUSIBLE_AUC:
        before = None if np.isnan(far[best]) else float(far[best])
        message = (
            f"{label}: {PRESENCE_SCORES[best]} {claim} (AUC {near[best]:.2f} {matched.when}); "
            "is its known time right, or does it follow from the outcome?"
        )
        yield kind, code, "presence", float(near[best]), before, message
    value, before = float(near[-1]), float(far[-1])
    if value <= MAX_PLAUSIBLE_AUC or np.isnan(value):
        return
    if matched.span is None:
        message = f"{label}: its value {claim} (AUC {value:.2f} {matched.when}); does it hold the outcome?"
        yield kind, code, "value", value, None, message
    elif value - before > MIN_JUMP:
        message = (
            f"{label}: its value {claim}, but late (AUC {value:.2f} in the last {matched.span / DAY:.3g} "
            f"days, {before:.2f} long before); was it written afterwards and dated back?"
        )
        yield kind, code, "jump", value, before, message
    elif before > MAX_PLAUSIBLE_AUC:
        message = (
            f"{label}: its value {claim}, early and late (AUC {before:.2f}, {value:.2f}); "
            "does it hold the outcome?"
        )
        yield kind, code, "value", value, before, message


def _statics(q: _Question) -> Iterator[Found]:
    """Baseline covariates that are too good: by size, as names, or by whether they are given."""
    columns = static_columns(q.cohort)
    for view in q.views:
        for static in columns:
            auc = np.minimum.reduce([static_aucs(static, matched, matched.near) for matched in view])
            if (best := float(np.nan_to_num(auc).max())) > MAX_PLAUSIBLE_AUC:
                far, when, why = None, "", "was not known at the origin"
                if static.known is not None:
                    why = "follows from the outcome"
                    early = [
                        static_aucs(static, m, m.far)[int(np.nan_to_num(auc).argmax())] for m in view if m.far
                    ]
                    if len(early) == len(view) and not np.isnan(early).any():
                        far = float(min(early))
                        when = f" {view[0].when}, {far:.2f} long before"
                message = (
                    f"static {static.name!r}: {q.claim} (AUC {best:.2f}{when}); leave it out of "
                    f"[patient] if it {why}"
                )
                yield "patient", static.name, "static", best, far, message


def _codes_of_outcome(cohort: Cohort, outcome: str, kind: str) -> list[bool]:
    """Which codes of a node type the outcome itself is made of: of course they are not there before it."""
    spec = cohort.spec.outcomes[outcome]
    parts = spec.parts if spec.kind == "survival" else ()
    patterns = [pattern for _, part in parts if part.node == kind for pattern in part.codes]
    return fitting(cohort.codes[kind], patterns)


def _known_only_afterwards(q: _Question) -> Iterator[Found]:
    """Codes and baseline covariates of which all is known at the end of the patient's follow-up or later.

    Not those that the outcome is made of; and not after a diagnosis, which is followed by its treatment.
    `near` is the AUC of their presence at that moment: no control has them before its own end.
    """
    if q.event is None:
        return
    cohort, (truth, k) = q.cohort, q.event
    case = (truth.time != NEVER) & (truth.event == k) & (truth.time > cohort.entry)
    for kind, events in cohort.events.items():
        size, end = len(cohort.codes[kind]), truth.ends[events.patient]
        early = np.bincount(events.code[(end == NEVER) | (events.known < end)], minlength=size)
        of_case = case[events.patient]
        pairs = np.unique(events.patient[of_case] * size + events.code[of_case])
        cases = np.bincount(pairs % size, minlength=size)
        defining = (
            np.array(_codes_of_outcome(cohort, q.coverage.outcome, kind))
            if kind in cohort.spec.nodes
            else False
        )
        for code in np.flatnonzero((early == 0) & (cases >= MIN_CASES) & ~np.asarray(defining)):
            name, near = cohort.codes[kind][code], 0.5 + 0.5 * cases[code] / case.sum()
            message = (
                f"{kind} {name!r}: known only at {truth.causes[k - 1]} or afterwards, in {cases[code]} "
                "patients, so no landmark sees it; leave it out, unless its known time is too late"
            )
            yield kind, name, "presence", float(near), None, message
    for static in static_columns(cohort):
        present = ~np.isnan(static.number) if static.level is None else static.level > 0
        if static.known is None or (present & ((truth.time == NEVER) | (static.known < truth.time))).any():
            continue
        if (number := int((present & case).sum())) >= MIN_CASES:
            message = (
                f"static {static.name!r}: known only at {truth.causes[k - 1]} or afterwards, in {number} "
                "patients, so no landmark sees it; leave it out, unless its known time is too late"
            )
            yield "patient", static.name, "static", float(0.5 + 0.5 * number / case.sum()), None, message
