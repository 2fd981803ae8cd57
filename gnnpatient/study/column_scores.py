"""How well one column tells cases from their controls: AUCs out of fold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gnnpatient.cohort.cohort import Cohort
from gnnpatient.cohort.packed import Events
from gnnpatient.study.matching import MIN_CASES, MatchedCases, QueryTimes

CODES_AT_ONCE = 64  # codes
MAX_LEVELS = 20  # of a static number, up to which it may be a name in disguise (1 = transplant, 2 = dead)
PRESENCE_SCORES = ("that it was ever recorded", "how often", "how often of late", "how recently")
"""What presence means: yes or no, rows so far, rows in the near span, age of the last one."""


def win_shares(case: np.ndarray, control: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Share of each case's controls that are lower than it, half of the equal.

    Parameters
    ----------
    case : (case, column) array
        nan takes no part.
    control : (case, control, column) array
    mask : (case, control) bool array
        Which controls are there.

    Returns
    -------
    (case, column) float64 array
        nan where a case has nobody to be compared with.
    """
    case, there = case[:, None], mask[:, None].astype(np.float64)
    won = there @ ((case > control) + 0.5 * (case == control))  # nan is neither; sums of halves are exact
    number = there @ (~np.isnan(control)).astype(np.float64) * ~np.isnan(case)
    return np.divide(won, number, out=np.full(number.shape, np.nan), where=number > 0)[:, 0]


def oriented_auc(won: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """AUC of each column out of fold; which way round it points is learned on the other folds.

    Parameters
    ----------
    won : (case, column) array
        As `win_shares` returns it.
    fold : (case,) int64 array

    Returns
    -------
    (column,) float64 array
        nan where fewer than 10 cases could be compared.
    """
    good = ~np.isnan(won)
    margin = np.where(good, won - 0.5, 0.0)
    total, facing = margin.sum(0), np.zeros_like(margin)
    for f in np.unique(fold):
        facing[fold == f] = np.sign(np.round(total - margin[fold == f].sum(0), 9))
    number = good.sum(0)
    return np.where(number >= MIN_CASES, 0.5 + (facing * margin).sum(0) / np.maximum(number, 1), np.nan)


def _fair_auc(matched: MatchedCases, query: QueryTimes, case: np.ndarray, control: np.ndarray) -> np.ndarray:
    """AUC of each column; nan where fewer than 10 cases, or different controls, have it."""
    auc = oriented_auc(win_shares(case, control, query.mask), matched.fold)
    given = ~np.isnan(control[query.mask])
    who = matched.control[query.mask]
    if given.all():
        return auc if len(np.unique(who)) >= MIN_CASES else np.full_like(auc, np.nan)
    row, column = np.nonzero(given)
    has = np.zeros((int(who.max(initial=0)) + 1, len(auc)), bool)
    has[who[row], column] = True
    return np.where(has.sum(0) >= MIN_CASES, auc, np.nan)


def code_aucs(
    events: Events, codes: np.ndarray, matched: MatchedCases, query: QueryTimes | None
) -> np.ndarray:
    """AUC of the presence and of the last value of each code.

    Parameters
    ----------
    events : Events
        Rows of one node type.
    codes : (code,) int64 array
        Which codes.
    matched : MatchedCases
    query : QueryTimes or None
        Its near or far moments.

    Returns
    -------
    (5, code) float64 array
        Each of PRESENCE_SCORES, then the last value; nan where there is none.
    """
    out = np.full((len(PRESENCE_SCORES) + 1, len(codes)), np.nan)
    if query is None:
        return out
    patient = np.concatenate([matched.case, matched.control.ravel()])
    at = np.concatenate([query.case, query.control.ravel()])
    visible = VisibleRows(events, patient, at, matched.span or 0)
    for i in range(0, len(codes), CODES_AT_ONCE):
        part = slice(i, i + CODES_AT_ONCE)
        columns = (matched.split(column) for column in visible(codes[part]))
        out[:, part] = [_fair_auc(matched, query, *both) for both in columns]
    if matched.span is None:
        out[1 : len(PRESENCE_SCORES)] = np.nan
    return out


class VisibleRows:
    """What is visible of codes at each landmark.

    Parameters
    ----------
    events : Events
        Rows of one node type.
    patient, at : (landmark,) int64 array
        Positions in the cohort, and seconds after the origin.
    span : int
        Seconds that count as of late.
    """

    def __init__(self, events: Events, patient: np.ndarray, at: np.ndarray, span: int) -> None:
        patients, self.local = np.unique(patient, return_inverse=True)
        member = np.zeros(len(events.ptr) - 1, bool)
        member[patients] = True
        rows = np.flatnonzero(member[events.patient])
        self.patient = np.searchsorted(patients, events.patient[rows])
        self.code, self.known, self.value = events.code[rows], events.known[rows], events.value[rows]
        self.at, self.span = at, span

    def __call__(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        """Columns (landmark, code): each of PRESENCE_SCORES, higher = more or later; then the last value."""
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
        has_value = ~np.isnan(value)
        key, value = key[has_value], np.append(value[has_value], np.float32(np.nan))
        start, end = np.searchsorted(key, base, "left"), upto(key, self.at)
        yield np.where(end > start, value[end - 1], np.nan).astype(np.float64)


class StaticColumn(NamedTuple):
    """One baseline covariate of all patients, of which a landmark sees what is known by then.

    Attributes
    ----------
    name : str
    number : (patient,) array
        nan = missing, or a name.
    level : (patient,) int64 array or None
        0 = missing; None: too many to be names.
    known : (patient,) int64 array or None
        Seconds since when it is known; None: as of the origin.
    """

    name: str
    number: np.ndarray  # (patient,) nan = missing, or a name
    level: np.ndarray | None  # (patient,) int64, 0 = missing; None: too many to be names
    known: np.ndarray | None  # (patient,) int64 seconds: since when it is known; None: as of the origin

    def at(self, query: QueryTimes, matched: MatchedCases) -> tuple[StaticColumn, StaticColumn]:
        """What the cases and the controls, row by row, show.

        Parameters
        ----------
        query : QueryTimes
        matched : MatchedCases

        Returns
        -------
        case, control : StaticColumn
        """
        case, control = (self._of(*x) for x in ((matched.case, query.case), (matched.control, query.control)))
        return case, control

    def _of(self, patient: np.ndarray, at: np.ndarray) -> StaticColumn:
        number, level = self.number[patient], None if self.level is None else self.level[patient]
        if self.known is not None:
            seen = self.known[patient] <= at
            number, level = (
                np.where(seen, number, np.nan),
                None if level is None else np.where(seen, level, 0),
            )
        return StaticColumn(self.name, number, level, None)


def static_columns(cohort: Cohort) -> list[StaticColumn]:
    """Every baseline covariate; numbers of few values are names, too.

    What all have by day 0 is as of the origin.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    list of StaticColumn
    """
    columns = []

    def since(known: np.ndarray | None, i: int) -> np.ndarray | None:
        return None if known is None or (known[:, i] <= 0).all() else known[:, i]

    for i, name in enumerate(cohort.spec.patient.number):
        number = cohort.number[:, i]
        values, place = np.unique(number, return_inverse=True)  # the nan count as one value, the last
        level = np.where(np.isnan(number), 0, place + 1) if len(values) <= MAX_LEVELS else None
        columns.append(StaticColumn(name, number, level, since(cohort.number_known, i)))
    for i, name in enumerate(cohort.spec.patient.category):
        level = np.asarray(cohort.category[:, i], np.int64) + 1
        columns.append(
            StaticColumn(name, np.full(len(cohort), np.nan), level, since(cohort.category_known, i))
        )
    return columns


def static_aucs(static: StaticColumn, matched: MatchedCases, query: QueryTimes) -> np.ndarray:
    """AUC of a covariate's size, of whether it is given, and of its level.

    Parameters
    ----------
    static : StaticColumn
    matched : MatchedCases
    query : QueryTimes
        Its near or far moments.

    Returns
    -------
    (3,) float64 array
        nan where there is none.
    """
    case, control = static.at(query, matched)
    scores = [np.stack([of.number, ~np.isnan(of.number)], -1).astype(np.float64) for of in (case, control)]
    auc = _fair_auc(matched, query, *scores)
    if case.level is None or control.level is None:
        return np.append(auc, np.nan)
    return np.append(auc, _by_level(case.level, control.level, matched, query))


def _by_level(case: np.ndarray, control: np.ndarray, matched: MatchedCases, query: QueryTimes) -> float:
    """AUC of the share of cases among those with the same level, learned on the other folds."""
    mask, fold = query.mask, matched.fold
    weight = mask / np.maximum(mask.sum(1, keepdims=True), 1)  # controls of a case weigh as much as it does
    size, won = int(max(case.max(initial=0), control.max(initial=0))) + 1, np.full(len(matched), np.nan)
    for f in np.unique(fold):
        here, rest = fold == f, fold != f
        cases = np.bincount(case[rest], minlength=size)
        controls = np.bincount(control[rest].ravel(), weight[rest].ravel(), minlength=size)
        share = np.round((cases + 0.5) / (cases + controls + 1), 9)  # a level not seen there gets .5
        won[here] = win_shares(share[case[here], None], share[control[here], None], mask[here])[:, 0]
    good = ~np.isnan(won)
    return float(won[good].mean()) if good.sum() >= MIN_CASES else np.nan
