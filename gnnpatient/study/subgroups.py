"""For whom does a model hold: figures of groups of patients, each beside the largest group of its column.

References
----------
Holm S (1979). A simple sequentially rejective multiple test procedure. Scand J Stat 6:65-70.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from gnnpatient import metrics
from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.errors import InputError, near
from gnnpatient.progress import Progress
from gnnpatient.show import listed
from gnnpatient.study.intervals import bootstrap_interval, holm, p_value
from gnnpatient.study.scoreboard import MIN_SEEN, ModelRisks, Scoreboard

GAPPED = ("auc", "oe", "brier")  # of which the gap to the largest group is given
VALUE_GAPPED = ("rmse", "coverage")  # the same of a value, where AUC and Brier score are of being seen
CLAIMED = ("auc", "oe", *VALUE_GAPPED)  # by which a gap is said to be there: a Brier score rises with events
MIN_PATIENTS = 10  # of a group with the event, and without it, for a gap
LEVEL = 0.05  # of p values, after Holm's rule

Groups = Mapping[str, Mapping[str, np.ndarray]]
"""Column -> name of the group -> which landmarks are in it, (landmark,) bool."""


def groups_of(landmarks: Landmarks, by: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Which landmarks are in each group of each column.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times.
    by : sequence of str
        Baseline covariates, as known at the landmark (a number is cut at its median), or "group" or the name
        of the column that splits keep together.

    Returns
    -------
    dict of str to dict of str to ndarray
        Groups that nobody is in are left out.

    Raises
    ------
    InputError
        When a column is unknown.
    """
    found = {name: _groups_by(landmarks, name) for name in by}
    return {
        name: {group: members for group, members in parts.items() if members.any()}
        for name, parts in found.items()
    }


def _groups_by(landmarks: Landmarks, name: str) -> dict[str, np.ndarray]:
    cohort = landmarks.cohort
    patient = cohort.spec.patient
    number, category = cohort.statics(landmarks.patient, landmarks.at)
    if name in patient.category:
        level = category[:, patient.category.index(name)]
        out = {f"{name}={names}": level == i for i, names in enumerate(cohort.levels[name])}
        return out | {f"{name}=missing": level < 0}
    if name in patient.number:
        value = number[:, patient.number.index(name)]
        cut = float(np.nanmedian(value))
        return {
            f"{name}<{cut:g}": value < cut,
            f"{name}>={cut:g}": value >= cut,
            f"{name}=missing": np.isnan(value),
        }
    if is_unit(landmarks, name):
        if cohort.group is None:
            raise InputError("--by group: the spec has no [patient] group")
        unit = cohort.group[landmarks.patient]
        return {f"{name}={g}": unit == g for g in np.unique(unit)}
    known = (*patient.category, *patient.number, "group")
    raise InputError(f"--by: unknown column {name!r}{near(name, known)}")


def is_unit(landmarks: Landmarks, name: str) -> bool:
    """Whether a column is the one that splits keep together, so that each of its groups is one unit.

    Parameters
    ----------
    landmarks : Landmarks
    name : str
        Of the column.

    Returns
    -------
    bool
    """
    return name == "group" or name == landmarks.cohort.spec.patient.group


def compare_groups(
    board: Scoreboard,
    groups: Groups,
    models: Sequence[str],
    *,
    n: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The counts of each group, and its figures minus those of the largest group of its column.

    A gap needs 10 patients with the event and 10 without it on both sides. Both sides are drawn together, so
    an interval knows of units that have patients in both. Where the groups are what splits keep together
    (sites), patients are drawn in each: the gap is of these sites, not of sites like them. Of a value the
    gaps are in RMSE and coverage, and need 20 patients with a value on both sides.

    Parameters
    ----------
    board : Scoreboard
        Of everybody who is scored.
    groups : mapping
        From `groups_of`.
    models : sequence of str
        Whose gaps are given; the p values of a model are adjusted together (Holm): those of AUC and O/E, of a
        value of RMSE and coverage, of all columns, groups and causes, each at the mean over landmarks and its
        last horizon that can be estimated; of a group without a mean at each landmark.
    n : int, default 200
        Bootstrap draws.
    seed : int, default 0
        Of the draws.
    progress : Progress, optional
        Called after each draw.

    Returns
    -------
    groups : list of dict
        A row a group: by, group, patients, events (by cause), reference (whether it is the largest).
    gaps : list of dict
        A row a gap: model, by, group, reference, cause, landmark (None: the mean over landmarks), horizon,
        metric, value, low, high, draws, interval, p, holm (None outside of the family).
    """
    counts: list[dict[str, Any]] = []
    gaps: list[dict[str, Any]] = []
    some = _only(board, models)
    for by, parts in groups.items():
        column = _Column(some, by, {name: some.members & members for name, members in parts.items()})
        counts += column.counts
        gaps += column.gaps(n, seed, progress)
    for model in models:
        family = _family([gap for gap in gaps if gap["model"] == model])
        for gap, p in zip(family, holm([gap["p"] for gap in family]), strict=True):
            gap["holm"] = p
    return counts, gaps


def gap_sentences(gaps: Sequence[Mapping[str, Any]], model: str) -> list[str]:
    """What may be said of the gaps of a model: those of which the interval and Holm's p agree.

    Parameters
    ----------
    gaps : sequence of mapping
        From `compare_groups`.
    model : str

    Returns
    -------
    list of str
        A line a gap that is shown, or one line that none is; empty without gaps.
    """
    mine = [gap for gap in gaps if gap["model"] == model]
    judged = [gap for gap in mine if gap["holm"] is not None]
    shown = [gap for gap in judged if gap["holm"] < LEVEL and (gap["low"] > 0 or gap["high"] < 0)]
    lines = [
        f"{model}: a gap in {gap['metric']} is shown between {gap['group']} and {gap['reference']}: "
        f"{gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f}), {gap['cause']}, "
        f"Holm p {gap['holm']:.2g}"
        for gap in shown
    ]
    if judged and not shown:
        metrics = " and ".join(name for name in CLAIMED if any(gap["metric"] == name for gap in judged))
        lines.append(
            f"{model}: no gap between groups is shown, of {len(judged)} looked at ({metrics}, Holm); where "
            "groups are small that is no proof that there is none"
        )
    known = {gap["group"] for gap in mine if gap["value"] is not None}
    if few := [group for group in dict.fromkeys(gap["group"] for gap in mine) if group not in known]:
        of_value = any(gap["metric"] in VALUE_GAPPED for gap in mine)
        who = f"{MIN_PATIENTS} patients with or without the event"
        who = f"{MIN_SEEN} patients with a value" if of_value else who
        lines.append(
            f"not estimable: {listed(few)} beside the largest group (fewer than {who} on one side, or too "
            "few followed)"
        )
    return lines


def _only(board: Scoreboard, models: Sequence[str]) -> Scoreboard:
    """The same landmarks with these models, the gapped scores, and no times but the horizons."""
    gapped = VALUE_GAPPED if board.observed.kind == "progression" else GAPPED
    columns = tuple(column for column in board.columns if column[0] in gapped)
    times = np.array(sorted({h for _, h in columns if h is not None and len(board.models.times)}))
    place = [int(np.abs(board.models.times - t).argmin()) for t in times] if len(times) else slice(None)
    risks = {
        model: {cause: risk[:, place] for cause, risk in board.models.risks[model].items()}
        for model in models
    }
    known = ModelRisks(board.models.landmarks, board.models.fold, risks, times)
    return replace(board, models=known, columns=columns)


def _family(gaps: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The gaps by which something is claimed: see `compare_groups`."""
    judged = [gap for gap in gaps if gap["p"] is not None and gap["metric"] in CLAIMED]
    mean = {_of(gap) for gap in judged if gap["landmark"] is None}
    judged = [gap for gap in judged if gap["landmark"] is None or _of(gap) not in mean]
    last: dict[tuple[str, ...], float] = {}
    for gap in judged:
        last[_of(gap)] = max(last.get(_of(gap), 0.0), gap["horizon"] or 0.0)
    return [gap for gap in judged if (gap["horizon"] or 0.0) == last[_of(gap)]]


def _of(gap: Mapping[str, Any]) -> tuple[str, ...]:
    """What a gap is of, at any landmark and horizon."""
    return gap["cause"], gap["by"], gap["group"], gap["metric"]


@dataclass(frozen=True, eq=False)
class _Column:
    """The groups of one column."""

    board: Scoreboard
    by: str
    members: Mapping[str, np.ndarray]

    @cached_property
    def parts(self) -> dict[str, Scoreboard]:
        return {name: replace(self.board, members=rows) for name, rows in self.members.items() if rows.any()}

    @cached_property
    def counts(self) -> list[dict[str, Any]]:
        observed, patient = self.board.observed, self.board.models.landmarks.patient
        rows: list[dict[str, Any]] = []
        for group, part in self.parts.items():
            known = part.rows[observed.has_label[part.rows]]
            each = observed.with_each(known)
            events = {name: len(np.unique(patient[known[had]])) for name, had in each.items()}
            about = {"by": self.by, "group": group, "patients": len(np.unique(patient[known]))}
            rows.append({**about, "events": events, "reference": False})
        if rows:
            max(rows, key=lambda row: row["patients"])["reference"] = True
        return rows

    @property
    def units(self) -> tuple[np.ndarray, str]:
        """What is drawn; of sites their patients."""
        if is_unit(self.board.models.landmarks, self.by):
            return self.board.models.landmarks.patient[self.board.rows], "patients"
        return self.board.units

    def gaps(self, n: int, seed: int, progress: Progress | None) -> list[dict[str, Any]]:
        """Each group minus the largest: all causes, models, landmarks and columns."""
        reference = next(row["group"] for row in self.counts if row["reference"])
        others = [group for group in self.parts if group != reference]
        if not others or not self.board.columns:
            return []
        board, counter = self.board, itertools.count(1)
        place = {name: np.searchsorted(board.rows, part.rows) for name, part in self.parts.items()}
        enough = {name: self._enough(part) for name, part in self.parts.items()}

        def gaps(weight: np.ndarray) -> np.ndarray:
            each = {
                name: np.where(enough[name], self._with_mean(part.scores(weight[place[name]])), np.nan)
                for name, part in self.parts.items()
            }
            return np.stack([each[name] - each[reference] for name in others])

        def draw(weight: np.ndarray) -> np.ndarray:
            found = gaps(weight)
            if progress:
                done = next(counter)
                progress(f"gaps by {self.by}", done, n, within=f"{done} of {n}")
            return found

        units, name = self.units
        value = gaps(np.ones(len(board.rows), np.int64))
        draws = metrics.bootstrap(draw, units, n=n, seed=seed)
        days = [*board.by_landmark, None]
        last = len(days) if len(days) > 2 else len(days) - 1  # a mean of one landmark is that landmark's
        rows = []
        for g, k, m, a, c in itertools.product(
            *map(range, (len(others), len(board.causes), len(board.names), last, len(board.columns)))
        ):
            figure, drawn = float(value[g, k, m, a, c]), draws[:, g, k, m, a, c]
            around = bootstrap_interval(figure, drawn, units, name)
            metric, horizon = board.columns[c]
            rows.append(
                {
                    "model": board.names[m],
                    "by": self.by,
                    "group": others[g],
                    "reference": reference,
                    "cause": board.causes[k],
                    "landmark": days[a],
                    "horizon": horizon,
                    "metric": metric,
                    "value": figure if np.isfinite(figure) else None,
                    **around,
                    "p": None if around["low"] is None else p_value(figure, drawn, units, name),
                    "holm": None,
                }
            )
        return rows

    def _with_mean(self, scores: np.ndarray) -> np.ndarray:
        """Scores, and behind those of all landmarks their mean: (cause, model, landmark + 1, column)."""
        mean = scores[:, :, self.board.occupied].mean(2, keepdims=True)
        return np.concatenate([scores, mean], 2)

    def _enough(self, part: Scoreboard) -> np.ndarray:
        """Where a group has patients enough: (cause, 1, landmark + 1, column)."""
        if part.observed.kind == "progression":  # its scores count who has a value themselves
            return np.ones((1, 1, len(part.by_landmark) + 1, len(part.columns)), bool)
        fewest = part.fewest()
        found = np.zeros((len(part.causes), len(part.by_landmark), len(part.columns)), bool)
        for (k, cause), (a, day), (c, (_, horizon)) in itertools.product(
            enumerate(part.causes), enumerate(part.by_landmark), enumerate(part.columns)
        ):
            found[k, a, c] = fewest.get((cause, day, horizon), 0) >= MIN_PATIENTS
        every = found[:, self.board.occupied].all(1, keepdims=True)
        return np.concatenate([found, every], 1)[:, None]
