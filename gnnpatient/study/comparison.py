"""The answer of a comparison: contrasts, their verdicts, sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gnnpatient import metrics
from gnnpatient.cohort.landmarks import Landmarks
from gnnpatient.errors import InputError, near
from gnnpatient.study.evaluate import ENOUGH_EVENTS
from gnnpatient.study.intervals import chance, spread, units_of
from gnnpatient.study.scoreboard import Model, Scored, Truth, repeated, score, truth_of

LEVEL = 0.05
WORDS = {"c": "C", "auc": "AUC", "scaled_ibs": "scaled IBS", "scaled_brier": "scaled Brier"}
RIVALS = {  # of the graph, on the same rows
    "early": "reading the last observations of all kinds at once",
    "late": "averaging the forecasts from single kinds",
    "intermediate": "pooling the nodes of each timepoint",
    "transformer": "attention among all nodes",
    "values": "reading the latest row of each code",
}
SAYS = {  # what a contrast of two contestants is about
    ("graph", "clockwork"): "what the rows say, beside which, when and how many they are,",
    ("graph", "statics"): "any row, beside the statics,",
    ("clockwork", "statics"): "which rows there are, when and how many, beside the statics,",
    ("presence", "statics"): "the pattern of missing kinds, beside the statics,",
    ("values", "statics"): "what the latest row of each code says, beside the statics,",
}


@dataclass(frozen=True)
class Score:
    """Which figures judge an outcome of a kind."""

    curved: tuple[str, ...]  # with one figure a horizon
    whole: tuple[str, ...]  # with one figure in all
    deciding: tuple[str, str]  # fusion helps where both are better
    error: str  # chooses the best single kind: the lower the better


SURVIVAL = Score(("c", "auc"), ("ibs", "scaled_ibs"), ("c", "scaled_ibs"), "ibs")
LABEL = Score((), ("auc", "brier", "scaled_brier"), ("auc", "scaled_brier"), "brier")


@dataclass(frozen=True, eq=False)
class _Board:
    """C and AUC at each horizon, IBS and scaled IBS of every model, at each landmark and on average.

    Of a diagnosis: AUC, Brier and scaled Brier score of a class against the rest.
    """

    scored: Scored
    outcome: str
    cause: str
    horizons: tuple[float, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self.scored.risks)

    @cached_property
    def columns(self) -> tuple[tuple[str, float | None], ...]:
        """Metric and horizon; a horizon of None is the mean over horizons."""
        each = [(metric, horizon) for metric in self.score.curved for horizon in (*self.horizons, None)]
        return (*each, *((metric, None) for metric in self.score.whole))

    @cached_property
    def truth(self) -> Truth:
        return truth_of(self.scored.asks, self.outcome)

    @property
    def score(self) -> Score:
        return SURVIVAL if self.truth.curves else LABEL

    @cached_property
    def landmarks(self) -> tuple[float | None, ...]:
        """Days; the last, None, is the mean over landmarks, or all moments of an outcome that has its own."""
        if self.truth.at_moments:
            return (None,)
        return (*self.scored.asks.by_landmark, None)

    @cached_property
    def value(self) -> np.ndarray:
        """(model, landmark, column)."""
        raw = self._raw(np.ones(len(self.scored.asks), np.int64))
        return self._means(raw, np.isfinite(raw).all(0))

    def draws(self, n: int, seed: int) -> np.ndarray:
        """The same of n draws of patients: (draw, model, landmark, column). Fitted models are held fixed."""
        shown = np.isfinite(self._raw(np.ones(len(self.scored.asks), np.int64))).all(0)
        units, _ = units_of(self.scored.asks)
        return metrics.bootstrap(lambda weight: self._means(self._raw(weight), shown), units, n=n, seed=seed)

    def _means(self, raw: np.ndarray, shown: np.ndarray) -> np.ndarray:
        """With means over horizons, then over landmarks, of what all rows together let estimate."""
        cuts = len(self.horizons) * np.arange(1, 1 + len(self.score.curved))
        *parts, last = np.split(raw, cuts, axis=-1)
        *seen, there = np.split(shown, cuts, axis=-1)
        wide = [np.concatenate([x, _mean(x, s, -1)[..., None]], -1) for x, s in zip(parts, seen, strict=True)]
        table = np.concatenate([*wide, last], -1)
        some = [np.concatenate([s, s.any(-1, keepdims=True)], -1) for s in seen]
        every = np.concatenate([*some, there], -1)
        return np.concatenate([table, _mean(table, every, 1)[:, None]], 1)[:, -len(self.landmarks) :]

    @cached_property
    def _risk(self) -> np.ndarray:
        return np.stack([risks[self.cause] for risks in self.scored.risks.values()])  # (model, ask, time)

    @cached_property
    def _asked(self) -> list[np.ndarray]:
        """The asks of each landmark that have an answer."""
        known = self.truth.code >= 0
        if self.truth.at_moments:
            return [np.flatnonzero(known)]
        return [rows[known[rows]] for rows in self.scored.asks.by_landmark.values()]

    def _raw(self, weight: np.ndarray) -> np.ndarray:
        of = self._landmark if self.truth.curves else self._labels
        width = len(self.score.curved) * len(self.horizons) + len(self.score.whole)
        parts = []
        for rows in self._asked:
            drawn = rows[weight[rows] > 0]
            nothing = np.full((len(self.names), width), np.nan)
            parts.append(of(drawn, weight[drawn]) if len(drawn) else nothing)
        return np.stack(parts, 1)

    def _labels(self, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """(model, 3)"""
        whose = repeated(self.scored.asks.patient[rows])
        known = self.truth.labelled(self.truth.judged[self.cause], rows, weight, whose)
        risk, fold = self._risk[:, rows, 0], self.scored.fold[rows]
        auc, brier = ([score(name, one, known, fold) for one in risk] for name in ("auc", "brier"))
        null = brier[self.names.index("null")] if "null" in self.names else np.nan
        return np.stack([auc, brier, 1 - np.array(brier) / (null or np.nan)], 1)

    def _landmark(self, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """(model, 2 horizons + 2)"""
        assert self.truth.time is not None
        out = np.full((len(self.names), 2 * len(self.horizons) + 2), np.nan)
        time, event, fold = self.truth.time[rows], self.truth.code[rows], self.scored.fold[rows]
        k, staying = self.truth.judged[self.cause], metrics.censoring(time, event, weight=weight)
        risk = self._risk[:, rows]

        whose = repeated(self.scored.asks.patient[rows])

        def known(horizon: float) -> metrics.AtHorizon | None:
            return metrics.at_horizon(
                time, event, horizon, cause=k, weight=weight, staying=staying, patient=whose
            )

        for i, horizon in enumerate(self.horizons):
            at, column = known(horizon), int(np.abs(self.scored.times - horizon).argmin())
            for j, metric in enumerate(("c", "auc")):
                out[:, j * len(self.horizons) + i] = [score(metric, one[:, column], at, fold) for one in risk]
        grid = [known(t) for t in self.scored.times.tolist()]
        ibs = np.array([metrics.integrate(one, grid)[0] for one in risk])
        null = ibs[self.names.index("null")] if "null" in self.names else np.nan
        out[:, -2], out[:, -1] = ibs, 1 - ibs / null if null else np.nan
        return out


def _mean(x: np.ndarray, shown: np.ndarray, axis: int) -> np.ndarray:
    """Mean over what is shown; nan where nothing is."""
    seen = np.broadcast_to(shown, x.shape)
    total, count = np.where(seen, x, 0.0).sum(axis), seen.sum(axis)
    return np.where(count, total / np.maximum(count, 1), np.nan)


def _row(
    model: str, landmark: float | None, horizon: float | None, cause: str, metric: str, figure: Mapping
) -> dict[str, Any]:
    where = {"model": model, "landmark": landmark, "horizon": horizon, "cause": cause, "metric": metric}
    return {**where, **figure, "group": None}


def _figure(board: _Board, value: float, draws: np.ndarray) -> dict[str, Any]:
    """A figure and its interval; None where not estimable."""
    around = spread(float(value), draws, *units_of(board.scored.asks))
    return {"value": float(value) if np.isfinite(value) else None, **around}


def _rows(board: _Board, draws: np.ndarray, pairs: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """One row a figure, as `Evaluation.rows`; differences of means over landmarks only."""
    rows = []
    for m, name in enumerate(board.names):
        for a, landmark in enumerate(board.landmarks):
            for c, (metric, horizon) in enumerate(board.columns):
                figure = _figure(board, board.value[m, a, c], draws[:, m, a, c])
                rows.append(_row(name, landmark, horizon, board.cause, metric, figure))
    for one, other in pairs:
        value, drawn = _difference(board, draws, one, other)
        for c, (metric, horizon) in enumerate(board.columns):
            figure = _figure(board, value[c], drawn[:, c])
            rows.append(_row(f"{one}-{other}", None, horizon, board.cause, metric, figure))
    return rows


def _difference(board: _Board, draws: np.ndarray, one: str, other: str) -> tuple[np.ndarray, np.ndarray]:
    """Of the means over landmarks: (column,) and (draw, column)."""
    i, j = board.names.index(one), board.names.index(other)
    return board.value[i, -1] - board.value[j, -1], draws[:, i, -1] - draws[:, j, -1]


def _contrast(
    board: _Board, draws: np.ndarray, one: str, other: str, kind: str | None = None
) -> dict[str, Any]:
    """A paired difference in the deciding figures, a p value for both of them together, and a verdict.

    p is the larger of the two-sided ones of a normal of the bootstrap's spread (of few groups: a t); 1 where
    the two figures do not point the same way. "helps" and "hurts" need both intervals on one side of 0.
    """
    value, drawn = _difference(board, draws, one, other)
    found: dict[str, Any] = {"first": one, "second": other, "kind": kind}
    p, signs = 0.0, set()
    for metric in board.score.deciding:
        c = board.columns.index((metric, None))
        found[metric] = _figure(board, value[c], drawn[:, c])
        if found[metric]["low"] is None:
            p = 1.0
            continue
        p = max(p, chance(float(value[c]), drawn[:, c], *units_of(board.scored.asks)))
        signs.add(value[c] > 0)
    found["p"] = found["holm"] = p if len(signs) == 1 else 1.0
    found["verdict"] = _verdict(found)
    return found


def _verdict(found: Mapping[str, Any]) -> str:
    figures = [found[metric] for metric in WORDS if metric in found]
    if any(figure["low"] is None for figure in figures):
        return "not estimable"
    if found["holm"] < LEVEL and all(figure["low"] > 0 for figure in figures):
        return "helps"
    if found["holm"] < LEVEL and all(figure["high"] < 0 for figure in figures):
        return "hurts"
    return "no evidence"


def holm(p: Sequence[float]) -> list[float]:
    """P values adjusted for being the smallest of several (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p, float)[order] * np.arange(len(p), 0, -1)
    out = np.empty(len(p))
    out[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return out.tolist()


@dataclass(frozen=True, eq=False)
class Comparison:
    """The answer of `compare`. `primary`, `left_out` and `others` are contrasts: see `to_dict`."""

    outcome: str
    cause: str
    modalities: Mapping[str, tuple[str, ...]]
    chosen: tuple[str, ...]  # the best single modality of each fold
    channels: Mapping[str, int]
    parameters: Mapping[str, int]
    budget: Mapping[str, Any]
    horizons: tuple[float, ...]  # days
    patients: int  # scored
    events: int  # scored patients with the cause, or of the class
    rows: list[dict[str, Any]]
    primary: Mapping[str, Any]
    left_out: tuple[Mapping[str, Any], ...]
    others: tuple[Mapping[str, Any], ...]
    scored: Scored
    parts: tuple[tuple[Mapping[str, Model], Landmarks], ...]  # of each fold the fitted models, and its asks

    @property
    def too_small(self) -> str | None:
        """Why these figures cannot decide; None where they might."""
        fewest, what = self.events, f"with {self.cause}"
        if self.score is LABEL and self.patients - self.events < fewest:
            fewest, what = self.patients - self.events, f"without {self.cause}"
        few = fewest < ENOUGH_EVENTS
        return f"too small to judge: {fewest} scored patients {what}" if few else None

    @property
    def score(self) -> Score:
        """What it is judged by."""
        return SURVIVAL if len(self.horizons) else LABEL

    @property
    def best(self) -> str:
        """The best single modality, in words."""
        names, counts = np.unique(self.chosen, return_counts=True)
        if len(names) == 1:
            return str(names[0])
        order = np.argsort(-counts, kind="stable")
        each = ", ".join(f"{names[i]} in {counts[i]} of {len(self.chosen)} folds" for i in order)
        return f"the best single kind ({each})"

    @property
    def sentence(self) -> str:
        """Whether all kinds together do better than the best one, and by how much."""
        rest = [name for name in self.modalities if name != self.best]
        more = _listed(rest) if len(rest) < len(self.modalities) else "the other kinds"
        return self._said(self.primary, f"adding {more} to {self.best}")

    @property
    def sentences(self) -> list[str]:
        """The sentence, one for each kind left out, and what else has to be known to read them."""
        said = [self.sentence]
        for found in self.left_out:
            rest = [name for name in self.modalities if name != found["kind"]]
            said.append(self._said(found, f"adding {found['kind']} to {_listed(rest)}"))
        for found in self.others:
            one, other = found["first"], found["second"]
            if (one, other) in SAYS:
                said.append(self._said(found, SAYS[one, other]))
            elif one == "graph":
                said.append(
                    self._said(found, f"passing messages along the edges, instead of {RIVALS[other]},")
                )
            elif one.startswith("values "):
                what = f"what the latest row of {one.removeprefix('values ')} says, beside the statics,"
                said.append(self._said(found, what))
        return said if self.too_small is None else [*said, self.too_small]

    def _said(self, found: Mapping[str, Any], what: str) -> str:
        aim = self.cause if self.cause == self.outcome else f"{self.cause} ({self.outcome})"
        figures = ", ".join(f"{WORDS[metric]} {_signed(found[metric])}" for metric in self.score.deciding)
        if found["kind"] is not None:
            figures += f", Holm p {found['holm']:.2g}"
        if found["verdict"] == "helps":
            return f"{what} helps to forecast {aim}: {figures}"
        if found["verdict"] == "hurts":
            return f"no evidence that {what} helps to forecast {aim}, it harms: {figures}"
        return f"no evidence that {what} helps to forecast {aim}: {figures}"

    def value(
        self, model: str, metric: str, landmark: float | None = None, horizon: float | None = None
    ) -> dict[str, Any]:
        """The row of a model, or of a difference such as "graph-early"; None is the mean over all."""
        key = (model, metric, landmark, horizon)
        for row in self.rows:
            if (row["model"], row["metric"], row["landmark"], row["horizon"]) == key:
                return row
        known = dict.fromkeys(row["model"] for row in self.rows)
        if model not in known:
            raise InputError(f"no contestant {model!r}{near(model, known)}")
        raise InputError(f"no {metric} of {model} at landmark {landmark}, horizon {horizon}")

    def to_dict(self) -> dict[str, Any]:
        """For `--json`; what is not estimable is None.

        A contrast: first, second, kind (left out), c and scaled_ibs, or auc and scaled_brier of a diagnosis
        (value, low, high of the difference of the means over landmarks and horizons), p, holm, verdict
        (helps, hurts, no evidence, not estimable).
        """
        return {
            "outcome": self.outcome,
            "cause": self.cause,
            "sentence": self.sentence,
            "sentences": self.sentences,
            "too_small": self.too_small,
            "patients": self.patients,
            "events": self.events,
            "modalities": {name: list(kinds) for name, kinds in self.modalities.items()},
            "best_single": list(self.chosen),
            "budget": dict(self.budget),
            "channels": dict(self.channels),
            "parameters": dict(self.parameters),
            "primary": dict(self.primary),
            "left_out": [dict(found) for found in self.left_out],
            "others": [dict(found) for found in self.others],
            "intervals": "resample patients; the fitted models are held fixed",
            "rows": self.rows,
        }


def _signed(figure: Mapping[str, float | None]) -> str:
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None or low is None or high is None:
        return "not estimable"
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
