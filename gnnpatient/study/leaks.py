"""The leak canary (METHODS 7): does a single column tell who will have the event, better than it can?

Each case of a cause is asked about one second before its event, and again far from it. Its controls are
patients of the same fold who are at risk at that very moment after their own origin, so that nobody is told
apart by the length of follow-up. A column's AUC is the share of (case, control) pairs that it puts in the
right order, each case weighing the same; which way round is learned on the cases of the other folds, so a
useless column gets about .5, not above.

Near and far: the 30 days before the event, and one year before it, if at least 10 cases were followed for
more than a year. In shorter cohorts near is a tenth of the longest follow-up of a case (at most 30 days), far
the middle of each case's own follow-up.

Controls are drawn twice. `risk` has whoever does not have the event within the near span; `never` only those
in whom it is not seen at all. A column that says who dies *some day* is told by the second alone, since the
first also holds later cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gnnpatient.cohort.cohort import Cohort
from gnnpatient.cohort.landmarks import Landmarks, PatientKFold
from gnnpatient.cohort.outcomes import Survival
from gnnpatient.cohort.packed import Events
from gnnpatient.cohort.spec import DAY, NEVER, YEAR, SurvivalSpec, fitting
from gnnpatient.errors import Refused

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
    cause: str
    kind: str  # of node; "patient" for a static, "timepoint" for visits as such
    code: str  # or the name of the static column
    what: Literal["presence", "value", "jump", "static"]
    near: float  # AUC just before the event, out of fold
    far: float | None  # AUC far from it; None = fewer than 10 cases to judge by, or a static
    message: str


@dataclass(frozen=True, eq=False)
class _Matched:
    """Cases and their controls, asked twice. What is not masked in stands for nobody."""

    case: np.ndarray  # (case,) int64, position in the cohort
    control: np.ndarray  # (case, control) int64
    fold: np.ndarray  # (case,) int64; the controls are of the same one
    near: tuple[np.ndarray, np.ndarray]  # when each case and its controls are asked, (case,) int64 seconds;
    far: tuple[np.ndarray, np.ndarray]  # and who of them has entered and is at risk, (case, control) bool
    span: int  # seconds that count as near

    def __len__(self) -> int:
        return len(self.case)

    @property
    def enough(self) -> bool:
        return len(self) >= ENOUGH and len(np.unique(self.control[self.near[1]])) >= ENOUGH

    def some(self) -> _Matched:
        """Without the cases that nobody can be compared with."""
        keep = self.near[1].any(1)
        near, far = ((at[keep], mask[keep]) for at, mask in (self.near, self.far))
        return _Matched(self.case[keep], self.control[keep], self.fold[keep], near, far, self.span)

    def split(self, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A column over all asks, the cases and then the controls row by row, in its two parts."""
        return column[: len(self)], column[len(self) :].reshape(*self.control.shape, *column.shape[1:])


Found = tuple[str, str, Literal["presence", "value", "jump", "static"], float, float | None, str]
"""kind, code, what, near, far, message."""


def leaks(cohort: Cohort, outcome: str | None = None, *, seed: int = 0) -> list[Leak]:
    """The columns that know an outcome before it happens, the worst of each cause first.

    presence  a code's presence (ever, how often, how often of late, how recently) has an AUC > .95 near the
              event, or all its rows are known at the end of follow-up or later
    jump      the AUC of a code's last value is > .95 near the event, and .2 above that far from it
    value     the AUC of a code's last value is > .95 near the event and far from it
    static    the AUC of a static, or of whether it is given, is > .95

    `outcome` default: every survival outcome; other kinds of outcome have no moment to be near to. A cause
    with fewer than 10 cases, or a column that fewer than 10 cases have, gets no verdict: silence is no proof.

    >>> from gnnpatient.cohort.datasets import pbc
    >>> leaks(pbc())
    []
    """
    truths: Mapping[str, object] = cohort.outcomes
    found: list[Leak] = []
    fold = _folds(cohort, seed)
    for name in cohort.outcome_names(outcome):
        truth = truths[name]
        if not isinstance(truth, Survival):
            if outcome is not None:
                raise Refused(f"outcome {name!r} has no time of event; the leak canary needs a survival one")
            continue
        for k, cause in enumerate(truth.causes, start=1):
            sets = [drawn for drawn in _matched(cohort, truth, k, fold, seed) if drawn.enough]
            worst: dict[tuple[str, ...], Found] = {}
            for one in (
                *_statics(cohort, sets, cause),
                *_codes(cohort, sets, cause),
                *_afterwards(cohort, name, truth, k),
            ):
                worst[one[:3]] = max(worst.get(one[:3], one), one, key=lambda f: f[3])
            found += [Leak(name, cause, *one) for one in sorted(worst.values(), key=lambda f: -f[3])]
    return found


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


def _matched(cohort: Cohort, truth: Survival, k: int, fold: np.ndarray, seed: int) -> Iterator[_Matched]:
    """The cases of cause k with controls of both sorts."""
    rng, entry = np.random.default_rng(seed), cohort.entry
    known = (truth.time != NEVER) & (truth.time > entry)
    case = np.flatnonzero(known & (truth.event == k))
    if len(case) < ENOUGH:
        return
    length = truth.time[case] - entry[case]
    long = bool((length > YEAR * DAY).sum() >= ENOUGH)
    span = int(min(NEAR * DAY, length.max() if long else length.max() / 10))
    chosen = np.sort(rng.permutation(len(case))[:CASES])
    case, length = case[chosen], length[chosen]
    near = truth.time[case] - 1
    far = truth.time[case] - (int(YEAR * DAY) + 1 if long else length - length // 2)
    for never in (False, True):
        control = np.zeros((len(case), CONTROLS), np.int64)
        mask = np.zeros((len(case), CONTROLS), bool)
        for f in np.unique(fold[case]):
            rows, pool = np.flatnonzero(fold[case] == f), np.flatnonzero(known & (fold == f))
            has = truth.event[pool] == k
            fit = (entry[pool] <= near[rows, None]) & (truth.time[pool] > near[rows, None])
            fit &= ~has if never else ~(has & (truth.time[pool] <= near[rows, None] + 1 + span))
            lot = rng.random(fit.shape) + ~fit  # who fits comes first
            order = np.argpartition(lot, min(CONTROLS, len(pool)) - 1, axis=1)[:, :CONTROLS]
            control[rows, : order.shape[1]] = pool[order]
            mask[rows, : order.shape[1]] = np.take_along_axis(fit, order, 1)
        before = mask & (entry[case] <= far)[:, None] & (entry[control] <= far[:, None])
        yield _Matched(case, control, fold[case], (near, mask), (far, before), span).some()


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


def _codes(cohort: Cohort, sets: list[_Matched], cause: str) -> Iterator[Found]:
    """Codes whose presence or value is too good."""
    for kind, events in cohort.events.items():
        size = len(cohort.codes[kind])
        pairs = np.unique(events.patient * size + events.code)
        common = np.flatnonzero(np.bincount(pairs % size, minlength=size) >= ENOUGH)  # in that many patients
        for matched in sets:
            near, far = (_aucs(events, common, matched, *when) for when in (matched.near, matched.far))
            for c, code in enumerate(common):
                yield from _judge(kind, cohort.codes[kind][code], near[:, c], far[:, c], matched.span, cause)


def _judge(kind: str, code: str, near: np.ndarray, far: np.ndarray, span: int, cause: str) -> Iterator[Found]:
    """What the figures of one code amount to: those of SCORES, then that of the value."""
    label = "any row at all" if kind == "timepoint" else f"{kind} {code!r}"
    best = int(np.nan_to_num(near[:-1]).argmax())
    if near[best] > CERTAIN:
        before = None if np.isnan(far[best]) else float(far[best])
        message = (
            f"{label}: {SCORES[best]} tells who will have {cause} (AUC {near[best]:.2f} just before it); "
            "is its known time right, or does it follow from the event?"
        )
        yield kind, code, "presence", float(near[best]), before, message
    value, before = float(near[-1]), float(far[-1])
    if value > CERTAIN and value - before > JUMP:
        message = (
            f"{label}: its value jumps before {cause} (AUC {value:.2f} in the last {span / DAY:.3g} days, "
            f"{before:.2f} long before); was it written afterwards and dated back?"
        )
        yield kind, code, "jump", value, before, message
    elif value > CERTAIN and before > CERTAIN:
        message = (
            f"{label}: its value tells who will have {cause}, early and late (AUC {before:.2f}, {value:.2f}"
            "); does it hold the outcome?"
        )
        yield kind, code, "value", value, before, message


def _aucs(
    events: Events, codes: np.ndarray, matched: _Matched, at: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """AUC of each of SCORES, then of the last value: (5, code)."""
    patient = np.concatenate([matched.case, matched.control.ravel()])
    looks = _Looks(events, patient, np.concatenate([at, np.repeat(at, mask.shape[1])]), matched.span)
    parts = [codes[i : i + AT_ONCE] for i in range(0, len(codes), AT_ONCE)]
    aucs = [
        np.stack([_auc(_won(*matched.split(c), mask), matched.fold) for c in looks(part)]) for part in parts
    ]
    return np.concatenate([np.empty((len(SCORES) + 1, 0)), *aucs], axis=1)


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


def _statics(cohort: Cohort, sets: list[_Matched], cause: str) -> Iterator[Found]:
    """Statics that are too good: by size, as names, or by whether they are given."""
    columns: list[tuple[str, np.ndarray, np.ndarray | None]] = []  # name, number (nan = missing), level
    for i, name in enumerate(cohort.spec.patient.number):
        values, level = np.unique(cohort.number[:, i], return_inverse=True)  # the nan count as one value
        levels: np.ndarray | None = level if len(values) <= FEW_LEVELS else None
        columns.append((name, cohort.number[:, i], levels))
    for i, name in enumerate(cohort.spec.patient.category):
        columns.append((name, np.full(len(cohort), np.nan), cohort.category[:, i] + 1))
    for matched in sets:
        mask = matched.near[1]
        for name, number, levels in columns:
            scores = np.stack([number, ~np.isnan(number)], -1).astype(np.float64)
            auc = _auc(_won(scores[matched.case], scores[matched.control], mask), matched.fold)
            if levels is not None:
                auc = np.append(auc, _by_level(levels, matched))
            if (best := float(np.nan_to_num(auc).max())) > CERTAIN:
                message = (
                    f"static {name!r}: tells who will have {cause} (AUC {best:.2f}); leave it out of "
                    "[patient] if it was not known at the origin"
                )
                yield "patient", name, "static", best, None, message


def _by_level(level: np.ndarray, matched: _Matched) -> float:
    """AUC of the share of cases among those with the same level, learned on the other folds."""
    mask, fold = matched.near[1], matched.fold
    weight = mask / mask.sum(1, keepdims=True)  # the controls of a case weigh as much as it does
    case, control = level[matched.case], level[matched.control]
    size, won = int(level.max()) + 1, np.zeros(len(matched))
    for f in np.unique(fold):
        here, rest = fold == f, fold != f
        cases = np.bincount(case[rest], minlength=size)
        controls = np.bincount(control[rest].ravel(), weight[rest].ravel(), minlength=size)
        share = np.round((cases + 0.5) / (cases + controls + 1), 9)  # a level not seen there gets .5
        won[here] = _won(share[case[here], None], share[control[here], None], mask[here])[:, 0]
    return float(won.mean())


def _defines(cohort: Cohort, outcome: str, kind: str) -> list[bool]:
    """Which codes of a kind the outcome itself is made of: of course they are not there before it."""
    spec = cohort.spec.outcomes[outcome]
    parts = spec.parts if isinstance(spec, SurvivalSpec) else ()
    own = [pattern for _, part in parts if part.node == kind for pattern in part.codes]
    return fitting(cohort.codes[kind], own)


def _afterwards(cohort: Cohort, outcome: str, truth: Survival, k: int) -> Iterator[Found]:
    """Codes whose every row is known at the end of its patient's follow-up or later.

    Not those that the outcome is made of. `near` is the AUC of their presence at that moment: no control has
    them before its own end.
    """
    case = (truth.time != NEVER) & (truth.event == k) & (truth.time > cohort.entry)
    for kind, events in cohort.events.items():
        size, end = len(cohort.codes[kind]), truth.time[events.patient]
        early = np.bincount(events.code[(end == NEVER) | (events.known < end)], minlength=size)
        of_case = case[events.patient]
        pairs = np.unique(events.patient[of_case] * size + events.code[of_case])
        cases = np.bincount(pairs % size, minlength=size)
        own = np.array(_defines(cohort, outcome, kind)) if kind in cohort.spec.nodes else False
        for code in np.flatnonzero((early == 0) & (cases >= ENOUGH) & ~np.asarray(own)):
            name, near = cohort.codes[kind][code], 0.5 + 0.5 * cases[code] / case.sum()
            message = (
                f"{kind} {name!r}: known only at {truth.causes[k - 1]} or afterwards, in {cases[code]} "
                "patients, so no ask sees it; leave it out, unless its known time is too late"
            )
            yield kind, name, "presence", float(near), None, message
