"""The leak canary (METHODS 7): does a single column tell what comes of a patient, better than it can?

**An event**: survival, or a diagnosis by codes that may still come. Each case of a cause is asked about one
second before its event, and again far from it. Its controls are patients of the same fold who are at risk at
that very moment after their own origin, so that nobody is told apart by the length of follow-up. A column's
AUC is the share of (case, control) pairs that it puts in the right order, each case weighing the same; which
way round is learned on the cases of the other folds, so a useless column gets about .5, not above.

Near and far: the 30 days before the event, and one year before it, if at least 10 cases were followed for
more than a year. In shorter cohorts near is a tenth of the longest follow-up of a case (at most 30 days), far
the middle of each case's own follow-up.

Controls are drawn twice. `risk` has whoever does not have the event within the near span; `never` only those
in whom it is not seen at all. A column that says who dies *some day* is told by the second alone, since the
first also holds later cases.

**A class.** Cases have it, controls have another; of two classes only the last is asked about, and those who
were not looked for take no part. All are asked at their own entry. Where the label has no known time, or is
about what can be seen now, they are also asked at their own last moment, and a task at its moments alone.
Presence is yes or no there: how many rows there are by then says how long the record is.

Where the label has a known time, near and far are counted from the last ask before it, and controls are drawn
twice here too: asked near and far from their own label, and at the same moment as the case, as for an event.
The lower AUC of the two counts. The first alone would name whatever grows with time, the second whatever
comes shortly before any answer, as a biopsy does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.cohort.outcomes import Diagnosis, Survival, Task
from gnnpatient.cohort.packed import Events
from gnnpatient.cohort.splits import PatientKFold
from gnnpatient.errors import InputError
from gnnpatient.spec.outcomes import SurvivalSpec
from gnnpatient.spec.patterns import fitting
from gnnpatient.times import DAY, FOREVER, NEVER, YEAR

NEAR = 30.0  # days before the event
CERTAIN = 0.95  # an AUC above it is too good
JUMP = 0.2  # by which the AUC of a value near the event exceeds that far from it
ENOUGH = 10  # cases, and different controls; with fewer there is no verdict
FOLDS = 5
CASES, CONTROLS = 300, 30  # drawn at most, of a cause and for each case: enough for an AUC to +- .03
AT_ONCE = 64  # codes
FEW_LEVELS = 20  # of a static number, up to which it may be a name in disguise (1 = transplant, 2 = dead)
SCORES = ("that it was ever recorded", "how often", "how often of late", "how recently")
"""What presence means: yes or no, rows so far, rows in the near span, age of the last one."""


@dataclass(frozen=True)
class Leak:
    """One column that knows too much. No patient in it."""

    outcome: str
    cause: str  # or class
    kind: str  # of node; "patient" for a static, "timepoint" for visits as such
    code: str  # or the name of the static column
    what: Literal["presence", "value", "jump", "static"]
    near: float  # AUC just before the event, or when asked; out of fold
    far: (
        float | None
    )  # AUC far from it; None = fewer than 10 cases to judge by, one moment only, or a static of day 0
    message: str


@dataclass(frozen=True)
class Look:
    """What the canary has looked at, or why it could not."""

    outcome: str
    cause: str  # or class; "" = the outcome has neither
    done: bool
    how: str  # when it looked; or why it could not


class _Asked(NamedTuple):
    """When cases and their controls are asked."""

    case: np.ndarray  # (case,) int64 seconds
    control: np.ndarray  # (case, control) int64 seconds
    mask: np.ndarray  # (case, control) bool: both have entered, and the control is at risk

    def of(self, keep: np.ndarray) -> _Asked:
        """Some of the cases."""
        return _Asked(self.case[keep], self.control[keep], self.mask[keep])


@dataclass(frozen=True, eq=False)
class _Matched:
    """Cases and their controls, asked twice, or once. What is not masked in stands for nobody."""

    case: np.ndarray  # (case,) int64, position in the cohort
    control: np.ndarray  # (case, control) int64
    fold: np.ndarray  # (case,) int64; the controls are of the same one
    near: _Asked
    far: _Asked | None = None
    span: int | None = None  # seconds that count as near; None: asked once, with nothing to be near to
    when: str = "just before it"  # where an AUC of `near` belongs, in words

    def __len__(self) -> int:
        return len(self.case)

    @property
    def enough(self) -> bool:
        there = self.case, self.control[self.near.mask]
        return all(len(np.unique(patient)) >= ENOUGH for patient in there)

    def some(self) -> _Matched:
        """Without the cases that nobody can be compared with."""
        keep = np.flatnonzero(self.near.mask.any(1))
        kept = replace(self, case=self.case[keep], control=self.control[keep], fold=self.fold[keep])
        return replace(kept, near=self.near.of(keep), far=self.far and self.far.of(keep))

    def split(self, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A column over all asks, the cases and then the controls row by row, in its two parts."""
        return column[: len(self)], column[len(self) :].reshape(*self.control.shape, *column.shape[1:])


View = tuple[_Matched, ...]
"""One comparison, or several of the same cases: then the lowest AUC counts."""

Found = tuple[str, str, Literal["presence", "value", "jump", "static"], float, float | None, str]
"""kind, code, what, near, far, message."""


@dataclass(frozen=True, eq=False)
class _Question:
    """What a column must not tell."""

    look: Look
    cohort: Cohort  # with the kinds that may be seen
    tells: str  # what a leak does, in words
    views: tuple[View, ...] = ()
    event: tuple[Survival, int] | None = None  # of a survival outcome: its truth, and which cause


def leaks(cohort: Cohort, outcome: str | None = None, *, seed: int = 0) -> list[Leak]:
    """The columns that know an outcome before it happens, the worst of each cause or class first.

    presence  a code's presence (ever, how often, how often of late, how recently) has an AUC > .95 near the
              event, or all its rows are known at the end of follow-up or later
    jump      the AUC of a code's last value is > .95 near the event, and .2 above that far from it
    value     the AUC of a code's last value is > .95 near the event and far from it; of a class also at
              entry, at the last moment or at those of a task
    static    the AUC of a static, or of whether it is given by then, is > .95; or all that is known of it is
              known at the end of follow-up or later

    `outcome` default: every survival and every diagnosis; a progression has neither event nor class. Codes in
    `hide` are not there to be named, and with `inputs` no other kind is judged. A cause or class with fewer
    than 10 cases, or a column that fewer than 10 cases have, gets no verdict: silence is no proof, and
    `looked` says of what.

    >>> from gnnpatient.datasets.shipped import pbc
    >>> leaks(pbc())
    []
    """
    found: list[Leak] = []
    for q in _questions(cohort, outcome, seed):
        worst: dict[tuple[str, ...], Found] = {}
        for one in (*_statics(q), *_codes(q), *_afterwards(q)):
            worst[one[:3]] = max(worst.get(one[:3], one), one, key=lambda f: f[3])
        found += [Leak(q.look.outcome, q.look.cause, *f) for f in sorted(worst.values(), key=lambda f: -f[3])]
    return found


def looked(cohort: Cohort, outcome: str | None = None, *, seed: int = 0) -> list[Look]:
    """Of which causes and classes `leaks` has a verdict, and why not of the others.

    >>> from gnnpatient.datasets.shipped import pbc
    >>> [(look.cause, look.done) for look in looked(pbc())]
    [('transplant', True), ('death', True)]
    """
    return [q.look for q in _questions(cohort, outcome, seed)]


def _questions(cohort: Cohort, outcome: str | None, seed: int) -> Iterator[_Question]:
    cohort.outcome_names(outcome)  # refused where there is none
    truths: Mapping[str, object] = cohort.outcomes
    fold = _folds(cohort, seed)
    for name in truths if outcome is None else (outcome,):
        truth = truths[name]
        if isinstance(truth, Survival):
            for k, cause in enumerate(truth.causes, start=1):
                near = [(drawn,) for drawn in _matched(cohort, truth, k, fold, seed)]
                question = _question(name, cause, f"tells who will have {cause}", cohort, near)
                yield replace(question, event=(truth, k))
        elif isinstance(truth, Diagnosis | Task):
            kinds = cohort.inputs([name])
            yield from _classes(cohort if kinds is None else cohort.only(kinds), name, truth, fold, seed)
        elif outcome is not None:
            raise InputError(f"outcome {name!r} has neither an event nor classes; the leak canary needs them")
        else:
            yield _Question(Look(name, "", False, "neither an event nor classes"), cohort, "")


def _question(
    name: str, cause: str, tells: str, cohort: Cohort, near: Sequence[View], once: Sequence[View] = ()
) -> _Question:
    """With the views that have enough cases and controls."""
    near, once = ([view for view in some if all(m.enough for m in view)] for some in (near, once))
    how = [*["near and far"] * bool(near), *(matched.when for (matched,) in once)]
    why = f"fewer than {ENOUGH} cases, or others to compare them with"
    return _Question(Look(name, cause, bool(how), ", ".join(how) or why), cohort, tells, (*near, *once))


def _classes(
    cohort: Cohort, name: str, truth: Diagnosis | Task, fold: np.ndarray, seed: int
) -> Iterator[_Question]:
    """One question a class, of two about the last; or one about the event, where codes may still come."""
    if isinstance(truth, Diagnosis) and truth.horizon is not None and not truth.same:
        seen = (truth.known < FOREVER) & (truth.known - truth.gap <= truth.end)
        event = Survival(truth.ends, seen.astype(np.int8), truth.classes[1:])
        views = [(drawn,) for drawn in _matched(cohort, event, 1, fold, seed)]
        yield _question(name, truth.classes[1], f"tells who will have {name}", cohort, views)
        return
    timed: Survival | None = None
    if isinstance(truth, Task):
        patient, label, asked = truth.patient, truth.label, {"at its moments": truth.at}
    else:
        patient, ends = np.arange(len(cohort)), cohort.open_until(name)
        label = np.where(cohort.entry < ends, truth.label, -1)
        asked = {"at entry": cohort.entry}
        if truth.same or (truth.known == FOREVER).all():
            asked["at the last moment"] = ends - 1
        else:
            timed = Survival(np.where(label >= 0, ends, NEVER), (label + 1).astype(np.int8), truth.classes)
    for k in range(1 if len(truth.classes) == 2 else 0, len(truth.classes)):
        case, others = np.flatnonzero(label == k), np.flatnonzero((label >= 0) & (label != k))
        near: list[View] = []
        if timed is not None and len(case) >= ENOUGH:
            moments = _moments(timed.time, cohort.entry, case)
            own = _apart(cohort, patient, case, others, fold, seed, *moments, "just before it is known")
            _, same = _matched(cohort, timed, k + 1, fold, seed)  # the controls that never have it
            near = [(own, same)]
        once = [
            (_apart(cohort, patient, case, others, fold, seed, at, when=when),) for when, at in asked.items()
        ]
        cause = truth.classes[k]
        yield _question(name, cause, f"tells who has {name} = {cause}", cohort, near, once)


def _folds(cohort: Cohort, seed: int) -> np.ndarray:
    """The fold of each patient: (patient,) int64. One group alone cannot be held out, so it is parted."""
    asks = Landmarks(cohort, np.arange(len(cohort)), np.zeros(len(cohort), np.int64))
    groups = asks.groups if len(np.unique(asks.groups)) > 1 else asks.patient
    fold = np.zeros(len(cohort), np.int64)
    parts = min(FOLDS, len(np.unique(groups)))
    if parts > 1:
        for k, (_, test) in enumerate(PatientKFold(parts, seed).split(asks, groups=groups)):
            fold[test] = k
    return fold


def _moments(end: np.ndarray, entry: np.ndarray, case: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Near and far from the end of each patient, (patient,) int64 seconds, and the seconds that are near."""
    length = end - entry
    long = bool((length[case] > YEAR * DAY).sum() >= ENOUGH)
    longest = length[case].max()
    span = int(min(NEAR * DAY, longest if long else longest / 10))
    return end - 1, end - (int(YEAR * DAY) + 1 if long else length - length // 2), span


def _matched(cohort: Cohort, truth: Survival, k: int, fold: np.ndarray, seed: int) -> Iterator[_Matched]:
    """The cases of cause k with controls of both sorts, at the same moment."""
    rng, entry = np.random.default_rng(seed), cohort.entry
    known = (truth.time != NEVER) & (truth.time > entry)
    case = np.flatnonzero(known & (truth.event == k))
    if len(case) < ENOUGH:
        return
    late, early, span = _moments(truth.time, entry, case)
    case = np.sort(rng.permutation(case)[:CASES])
    near, far = late[case], early[case]
    for never in (False, True):

        def fits(rows: np.ndarray, pool: np.ndarray, never: bool = never) -> np.ndarray:
            has, at = truth.event[pool] == k, near[rows, None]
            fit = (entry[pool] <= at) & (truth.time[pool] > at)
            return fit & (~has if never else ~(has & (truth.time[pool] <= at + 1 + span)))

        control, mask = _drawn(case, np.flatnonzero(known), fold, fits, rng)
        before = mask & (entry[case] <= far)[:, None] & (entry[control] <= far[:, None])
        near_, far_ = (np.broadcast_to(at[:, None], mask.shape) for at in (near, far))
        asked = _Asked(near, near_, mask), _Asked(far, far_, before)
        yield _Matched(case, control, fold[case], *asked, span).some()


def _apart(
    cohort: Cohort,
    patient: np.ndarray,
    case: np.ndarray,
    others: np.ndarray,
    fold: np.ndarray,
    seed: int,
    near: np.ndarray,
    far: np.ndarray | None = None,
    span: int | None = None,
    when: str = "",
) -> _Matched:
    """The cases with controls of the other classes, each asked at a moment of its own.

    patient, near, far: whose each ask is and when, (ask,); case, others: positions among them.
    """
    rng = np.random.default_rng(seed)
    case = np.sort(rng.permutation(case)[:CASES])

    def fits(rows: np.ndarray, pool: np.ndarray) -> np.ndarray:
        return patient[pool] != patient[case[rows], None]

    control, mask = _drawn(case, others, fold[patient], fits, rng)
    drawn = _Matched(
        patient[case],
        patient[control],
        fold[patient[case]],
        _Asked(near[case], near[control], mask),
        span=span,
        when=when,
    )
    if far is not None:
        entered = cohort.entry[patient] <= far
        before = mask & entered[case, None] & entered[control]
        drawn = replace(drawn, far=_Asked(far[case], far[control], before))
    return drawn.some()


def _drawn(
    case: np.ndarray,
    others: np.ndarray,
    fold: np.ndarray,
    fits: Callable[[np.ndarray, np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Controls of each case among others of its fold, and which of them are there: (case, control) each.

    fits(rows, pool): which of the pool can be controls of these rows of `case`, (row, pool) bool.
    """
    control = np.zeros((len(case), CONTROLS), np.int64)
    mask = np.zeros((len(case), CONTROLS), bool)
    for f in np.unique(fold[case]):
        rows, pool = np.flatnonzero(fold[case] == f), others[fold[others] == f]
        if len(pool):
            fit = fits(rows, pool)
            lot = rng.random(fit.shape) + ~fit  # who fits comes first
            order = np.argpartition(lot, min(CONTROLS, len(pool)) - 1, axis=1)[:, :CONTROLS]
            control[rows, : order.shape[1]] = pool[order]
            mask[rows, : order.shape[1]] = np.take_along_axis(fit, order, 1)
    return control, mask


def _won(case: np.ndarray, control: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Share of each case's controls that are lower than it, half of the equal: (case, column); nan = none.

    case is (case, column), control (case, control, column); nan takes no part.
    """
    case = case[:, None]
    pair = mask[..., None] & ~np.isnan(case) & ~np.isnan(control)
    won = ((case > control) + 0.5 * (case == control)) * pair
    number = pair.sum(1)
    return np.divide(won.sum(1), number, out=np.full(number.shape, np.nan), where=number > 0)


def _auc(won: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Out-of-fold AUC of each column; nan where fewer than ENOUGH cases could be compared."""
    good = ~np.isnan(won)
    margin = np.where(good, won - 0.5, 0.0)
    total, facing = margin.sum(0), np.zeros_like(margin)
    for f in np.unique(fold):
        facing[fold == f] = np.sign(np.round(total - margin[fold == f].sum(0), 9))
    number = good.sum(0)
    return np.where(number >= ENOUGH, 0.5 + (facing * margin).sum(0) / np.maximum(number, 1), np.nan)


def _fair(matched: _Matched, asked: _Asked, case: np.ndarray, control: np.ndarray) -> np.ndarray:
    """AUC of each column; nan where fewer than ENOUGH cases, or different controls, have it."""
    auc = _auc(_won(case, control, asked.mask), matched.fold)
    row, nth, column = np.nonzero(asked.mask[..., None] & ~np.isnan(control))
    has = np.zeros((int(matched.control.max(initial=0)) + 1, len(auc)), bool)
    has[matched.control[row, nth], column] = True
    return np.where(has.sum(0) >= ENOUGH, auc, np.nan)


def _codes(q: _Question) -> Iterator[Found]:
    """Codes whose presence or value is too good."""
    for kind, events in q.cohort.events.items():
        size = len(q.cohort.codes[kind])
        pairs = np.unique(events.patient * size + events.code)
        common = np.flatnonzero(np.bincount(pairs % size, minlength=size) >= ENOUGH)  # in that many patients
        for view in q.views:
            near = np.minimum.reduce([_aucs(events, common, m, m.near) for m in view])
            far = np.minimum.reduce([_aucs(events, common, m, m.far) for m in view])
            for c, code in enumerate(common):
                yield from _judge(kind, q.cohort.codes[kind][code], near[:, c], far[:, c], view[0], q.tells)


def _judge(
    kind: str, code: str, near: np.ndarray, far: np.ndarray, matched: _Matched, tells: str
) -> Iterator[Found]:
    """What the figures of one code amount to: those of SCORES, then that of the value."""
    label = "any row at all" if kind == "timepoint" else f"{kind} {code!r}"
    best = int(np.nan_to_num(near[:-1]).argmax())
    if near[best] > CERTAIN:
        before = None if np.isnan(far[best]) else float(far[best])
        message = (
            f"{label}: {SCORES[best]} {tells} (AUC {near[best]:.2f} {matched.when}); "
            "is its known time right, or does it follow from the outcome?"
        )
        yield kind, code, "presence", float(near[best]), before, message
    value, before = float(near[-1]), float(far[-1])
    if value <= CERTAIN or np.isnan(value):
        return
    if matched.span is None:
        message = f"{label}: its value {tells} (AUC {value:.2f} {matched.when}); does it hold the outcome?"
        yield kind, code, "value", value, None, message
    elif value - before > JUMP:
        message = (
            f"{label}: its value {tells}, but late (AUC {value:.2f} in the last {matched.span / DAY:.3g} "
            f"days, {before:.2f} long before); was it written afterwards and dated back?"
        )
        yield kind, code, "jump", value, before, message
    elif before > CERTAIN:
        message = (
            f"{label}: its value {tells}, early and late (AUC {before:.2f}, {value:.2f}); "
            "does it hold the outcome?"
        )
        yield kind, code, "value", value, before, message


def _aucs(events: Events, codes: np.ndarray, matched: _Matched, asked: _Asked | None) -> np.ndarray:
    """AUC of each of SCORES, then of the last value: (5, code); nan where there is none."""
    out = np.full((len(SCORES) + 1, len(codes)), np.nan)
    if asked is None:
        return out
    patient = np.concatenate([matched.case, matched.control.ravel()])
    looks = _Looks(events, patient, np.concatenate([asked.case, asked.control.ravel()]), matched.span or 0)
    for i in range(0, len(codes), AT_ONCE):
        part = slice(i, i + AT_ONCE)
        columns = (matched.split(column) for column in looks(codes[part]))
        out[:, part] = [_fair(matched, asked, *both) for both in columns]
    if matched.span is None:
        out[1 : len(SCORES)] = np.nan
    return out


class _Looks:
    """What is visible of codes at each ask."""

    def __init__(self, events: Events, patient: np.ndarray, at: np.ndarray, span: int) -> None:
        asked, self.local = np.unique(patient, return_inverse=True)
        member = np.zeros(len(events.ptr) - 1, bool)
        member[asked] = True
        rows = np.flatnonzero(member[events.patient])
        self.patient = np.searchsorted(asked, events.patient[rows])
        self.code, self.known, self.value = events.code[rows], events.known[rows], events.value[rows]
        self.at, self.span = at, span

    def __call__(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        """Columns (ask, code): each of SCORES, higher meaning more or later, then the last value."""
        column = np.full(int(max(codes.max(), self.code.max(initial=0))) + 1, -1)
        column[codes] = np.arange(len(codes))
        rows = np.flatnonzero(column[self.code] >= 0)
        series = self.patient[rows] * len(codes) + column[self.code[rows]]  # of a patient's code
        order = np.argsort(series, kind="stable")  # rows of a patient lie by known already
        rows, series = rows[order], series[order]
        known, value = self.known[rows], self.value[rows]
        low = int(known.min(initial=0))
        width = int(known.max(initial=0)) - low + 2
        key = series * width + (known - low)
        base = (self.local[:, None] * len(codes) + np.arange(len(codes))) * width

        def upto(key: np.ndarray, moment: np.ndarray) -> np.ndarray:
            return np.searchsorted(key, base + np.clip(moment - low, -1, width - 2)[:, None], "right")

        start, end = np.searchsorted(key, base, "left"), upto(key, self.at)
        count = (end - start).astype(np.float64)
        yield np.minimum(count, 1)
        yield count
        yield (end - upto(key, self.at - self.span - 1)).astype(np.float64)
        last = np.append(known, 0)[end - 1]
        yield np.where(count > 0, last - self.at[:, None].astype(np.float64), -np.inf)
        given = ~np.isnan(value)
        key, value = key[given], np.append(value[given], np.float32(np.nan))
        start, end = np.searchsorted(key, base, "left"), upto(key, self.at)
        yield np.where(end > start, value[end - 1], np.nan).astype(np.float64)


class _Static(NamedTuple):
    """One static of all patients, of which an ask sees what is known by then."""

    name: str
    number: np.ndarray  # (patient,) nan = missing, or a name
    level: np.ndarray | None  # (patient,) int64, 0 = missing; None: too many to be names
    known: np.ndarray | None  # (patient,) int64 seconds: since when it is known; None: as of the origin

    def at(self, asked: _Asked, matched: _Matched) -> tuple[_Static, _Static]:
        """What the cases and the controls, row by row, show when they are asked."""
        case, control = (self._of(*x) for x in ((matched.case, asked.case), (matched.control, asked.control)))
        return case, control

    def _of(self, patient: np.ndarray, at: np.ndarray) -> _Static:
        number, level = self.number[patient], None if self.level is None else self.level[patient]
        if self.known is not None:
            seen = self.known[patient] <= at
            number, level = (
                np.where(seen, number, np.nan),
                None if level is None else np.where(seen, level, 0),
            )
        return _Static(self.name, number, level, None)


def _columns(cohort: Cohort) -> list[_Static]:
    """Every static; numbers of few values are names, too. What all have by day 0 is as of the origin."""
    columns = []

    def since(known: np.ndarray | None, i: int) -> np.ndarray | None:
        return None if known is None or (known[:, i] <= 0).all() else known[:, i]

    for i, name in enumerate(cohort.spec.patient.number):
        number = cohort.number[:, i]
        values, place = np.unique(number, return_inverse=True)  # the nan count as one value, the last
        level = np.where(np.isnan(number), 0, place + 1) if len(values) <= FEW_LEVELS else None
        columns.append(_Static(name, number, level, since(cohort.number_known, i)))
    for i, name in enumerate(cohort.spec.patient.category):
        level = np.asarray(cohort.category[:, i], np.int64) + 1
        columns.append(_Static(name, np.full(len(cohort), np.nan), level, since(cohort.category_known, i)))
    return columns


def _statics(q: _Question) -> Iterator[Found]:
    """Statics that are too good: by size, as names, or by whether they are given when asked."""
    columns = _columns(q.cohort)
    for view in q.views:
        for static in columns:
            auc = np.minimum.reduce([_static(static, matched, matched.near) for matched in view])
            if (best := float(np.nan_to_num(auc).max())) > CERTAIN:
                far, when, why = None, "", "was not known at the origin"
                if static.known is not None:
                    why = "follows from the outcome"
                    early = [
                        _static(static, m, m.far)[int(np.nan_to_num(auc).argmax())] for m in view if m.far
                    ]
                    if len(early) == len(view) and not np.isnan(early).any():
                        far = float(min(early))
                        when = f" {view[0].when}, {far:.2f} long before"
                message = (
                    f"static {static.name!r}: {q.tells} (AUC {best:.2f}{when}); leave it out of "
                    f"[patient] if it {why}"
                )
                yield "patient", static.name, "static", best, far, message


def _static(static: _Static, matched: _Matched, asked: _Asked) -> np.ndarray:
    """AUC of a static's size, of whether it is given, and of its level: (3,); nan where there is none."""
    case, control = static.at(asked, matched)
    scores = [np.stack([of.number, ~np.isnan(of.number)], -1).astype(np.float64) for of in (case, control)]
    auc = _fair(matched, asked, *scores)
    if case.level is None or control.level is None:
        return np.append(auc, np.nan)
    return np.append(auc, _by_level(case.level, control.level, matched, asked))


def _by_level(case: np.ndarray, control: np.ndarray, matched: _Matched, asked: _Asked) -> float:
    """AUC of the share of cases among those with the same level, learned on the other folds."""
    mask, fold = asked.mask, matched.fold
    weight = mask / np.maximum(mask.sum(1, keepdims=True), 1)  # controls of a case weigh as much as it does
    size, won = int(max(case.max(initial=0), control.max(initial=0))) + 1, np.full(len(matched), np.nan)
    for f in np.unique(fold):
        here, rest = fold == f, fold != f
        cases = np.bincount(case[rest], minlength=size)
        controls = np.bincount(control[rest].ravel(), weight[rest].ravel(), minlength=size)
        share = np.round((cases + 0.5) / (cases + controls + 1), 9)  # a level not seen there gets .5
        won[here] = _won(share[case[here], None], share[control[here], None], mask[here])[:, 0]
    good = ~np.isnan(won)
    return float(won[good].mean()) if good.sum() >= ENOUGH else np.nan


def _defines(cohort: Cohort, outcome: str, kind: str) -> list[bool]:
    """Which codes of a kind the outcome itself is made of: of course they are not there before it."""
    spec = cohort.spec.outcomes[outcome]
    parts = spec.parts if isinstance(spec, SurvivalSpec) else ()
    own = [pattern for _, part in parts if part.node == kind for pattern in part.codes]
    return fitting(cohort.codes[kind], own)


def _afterwards(q: _Question) -> Iterator[Found]:
    """Codes, and statics, of which all is known at the end of the patient's follow-up or later.

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
        own = np.array(_defines(cohort, q.look.outcome, kind)) if kind in cohort.spec.nodes else False
        for code in np.flatnonzero((early == 0) & (cases >= ENOUGH) & ~np.asarray(own)):
            name, near = cohort.codes[kind][code], 0.5 + 0.5 * cases[code] / case.sum()
            message = (
                f"{kind} {name!r}: known only at {truth.causes[k - 1]} or afterwards, in {cases[code]} "
                "patients, so no ask sees it; leave it out, unless its known time is too late"
            )
            yield kind, name, "presence", float(near), None, message
    for static in _columns(cohort):
        given = ~np.isnan(static.number) if static.level is None else static.level > 0
        if static.known is None or (given & ((truth.time == NEVER) | (static.known < truth.time))).any():
            continue
        if (number := int((given & case).sum())) >= ENOUGH:
            message = (
                f"static {static.name!r}: known only at {truth.causes[k - 1]} or afterwards, in {number} "
                "patients, so no ask sees it; leave it out, unless its known time is too late"
            )
            yield "patient", static.name, "static", float(0.5 + 0.5 * number / case.sum()), None, message
