"""Does fusion help? All kinds of rows together against the best one alone, by fair means (METHODS 16, 20-22).

Every contestant is fitted on the same asks with the same members and epochs, and is as wide as it takes to
have about as many parameters as the graph. Statics are in all of them. Late fusion alone has more: it is all
singles together.

    graph           all kinds, with every edge of the spec
    only X          one kind; `best single` is in each fold the one that scores best on inner folds of its
                    training part
    without X       all but one kind
    early           no messages: the linear path over the last observations of all kinds, and timing
    late            the mean of the forecasts of all `only X`
    intermediate    a deep set: the mean of each timepoint's nodes, read by attention over timepoints; no edge
                    between nodes, one layer
    transformer     attention among the same nodes, no edge
    clockwork       all rows without what they say: which test, when, how often
    values          what the latest row of each code says; not when, not how often, nor what came before
    values X        the same of one kind of pictures or texts
    presence        whether a patient has rows of a kind by now, and nothing else
    statics         no row at all
    null            the training asks' Aalen-Johansen, or their shares of each class

Survival is judged by C and scaled IBS, a diagnosis by AUC and scaled Brier score.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gnnpatient import metrics
from gnnpatient.cohort.cohort import Cohort, Landmarks, open_cohort
from gnnpatient.cohort.outcomes import Survival
from gnnpatient.cohort.packed import Events, with_timepoints
from gnnpatient.cohort.splits import StratifiedPatientKFold, default_horizons
from gnnpatient.errors import InputError, near
from gnnpatient.prognosis.estimator import PrognosisModel
from gnnpatient.prognosis.forecast import Answer, Forecast, judged
from gnnpatient.prognosis.run import scored_landmarks, training_landmarks, usual_landmarks
from gnnpatient.prognosis.targets import SurvivalTarget, last_estimable
from gnnpatient.progress import Progress
from gnnpatient.study.evaluate import (
    ENOUGH_EVENTS,
    Model,
    Null,
    Scored,
    Shares,
    Truth,
    chance,
    names_of,
    null_of,
    repeated,
    score,
    spread,
    truth_of,
    units_of,
)
from gnnpatient.study.folds import Fold, read_folds
from gnnpatient.times import FOREVER

POINTS = 20  # times at which a curve is scored for the integrated Brier score
LEVEL = 0.05
WORDS = {"c": "C", "auc": "AUC", "scaled_ibs": "scaled IBS", "scaled_brier": "scaled Brier"}
WIDEST = 4  # times the width of the graph that a contestant may take to have as many parameters
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


# ---- what a contestant sees


def _with(cohort: Cohort, events: Mapping[str, Events], **parts: Any) -> Cohort:
    rows = with_timepoints({kind: events[kind] for kind in cohort.spec.nodes}, cohort.spec.every, len(cohort))
    return replace(cohort, events=rows, path=None, manifest_hash=None, **parts)


def _kinds(cohort: Cohort) -> dict[str, Events]:
    return {kind: cohort.events[kind] for kind in cohort.spec.nodes}


def _joined(cohort: Cohort, rules: tuple[str, ...]) -> Cohort:
    """The same nodes, joined by these rules alone; () leaves them without an edge."""
    nodes = {kind: node.detached(rules) for kind, node in cohort.spec.nodes.items()}
    return replace(
        cohort, spec=cohort.spec.model_copy(update={"nodes": nodes}), path=None, manifest_hash=None
    )


def clockwork(cohort: Cohort) -> Cohort:
    """Which test was made when, how often and in which order, without what it said. Statics stay."""
    silent = {
        kind: replace(e, value=np.full(len(e), np.nan, np.float32), vector=None)
        for kind, e in _kinds(cohort).items()
    }
    return _with(cohort, silent, vectors={})


def contents(cohort: Cohort) -> Cohort:
    """What the latest row of each code says, as known at an ask: not when it was, nor how many there are.

    That a patient has such a row at all still shows, and so do rows that became known in one moment.
    """
    first = min((int(e.happened.min()) for e in _kinds(cohort).values() if len(e)), default=0)
    rows = {}
    for kind, e in _kinds(cohort).items():
        order = np.lexsort((e.known, e.code, e.patient))
        patient, code, known = e.patient[order], e.code[order], e.known[order]
        new = np.ones(len(order), bool)  # a moment at which a code became known
        new[1:] = (np.diff(patient) != 0) | (np.diff(code) != 0) | (np.diff(known) != 0)
        start = np.flatnonzero(new)
        until = np.full(len(start), FOREVER)
        on = (patient[start[1:]] == patient[start[:-1]]) & (code[start[1:]] == code[start[:-1]])
        until[:-1][on] = known[start[1:]][on]
        replaced = np.empty(len(order), np.int64)
        replaced[order] = until[new.cumsum() - 1]
        if e.replaced is not None:
            replaced = np.minimum(replaced, e.replaced)
        rows[kind] = replace(e, happened=np.full(len(e), first), until=None, replaced=replaced)
    return _with(cohort, rows)


def presence(cohort: Cohort) -> Cohort:
    """Whether a patient has any row of a kind by the time of an ask: one node a kind, which says no more."""
    first = min((int(e.happened.min()) for e in _kinds(cohort).values() if len(e)), default=0)
    rows = {}
    for kind, e in _kinds(cohort).items():
        here = np.diff(e.ptr) > 0
        row, count = e.ptr[:-1][here], int(here.sum())
        rows[kind] = Events(
            ptr=np.concatenate([[0], here.cumsum()]).astype(np.int64),
            known=e.known[row],
            happened=np.full(count, first),
            code=np.ones(count, np.int32),
            value=np.full(count, np.nan, np.float32),
            timepoint=np.zeros(count, np.int32),
        )
    names = dict(cohort.codes) | dict.fromkeys(rows, ("other", "seen"))
    units = dict(cohort.units) | dict.fromkeys(rows, ("", ""))
    return _with(_joined(cohort, ("at",)), rows, codes=names, units=units, vectors={}, is_a={})


def taken(cohort: Cohort, kinds: Iterable[str], patient: np.ndarray) -> Cohort:
    """The same cohort without the rows of these kinds in some patients, a flag each."""
    rows, kinds = _kinds(cohort), set(kinds)
    for kind in kinds:
        e = rows[kind]
        keep = ~patient[e.patient]
        columns = {name: column[keep] for name, column in e.columns().items() if name != "ptr"}
        ptr = np.concatenate([[0], np.where(patient, 0, np.diff(e.ptr)).cumsum()]).astype(np.int64)
        rows[kind] = Events(ptr=ptr, **columns)
    return _with(cohort, rows)


def modalities_of(cohort: Cohort) -> dict[str, tuple[str, ...]]:
    """What may be left out together: each kind with rows, and with it the kinds made from its rows.

    Those are the ancestors of its codes (`of`) and the measurements of its pictures (`measures`).
    """
    nodes = cohort.spec.nodes
    home: dict[str, str] = {}
    for kind, node in nodes.items():
        measured = [node.measures, *(link.measures for link in node.links)]
        home[kind] = node.of or next((of for of in measured if of is not None), kind)
    parts: dict[str, tuple[str, ...]] = {}
    for kind in nodes:
        top = kind
        while home[top] != top:
            top = home[top]
        if len(cohort.events[kind]):
            parts[top] = (*parts.get(top, ()), kind)
    return parts


@dataclass(frozen=True, eq=False)
class Contestant:
    """A way to put kinds together: what it sees, and how it differs from the graph."""

    name: str
    sees: Cohort
    choices: Mapping[str, Any] = field(default_factory=dict)

    def asks(self, X: Landmarks) -> Landmarks:
        """The same asks of what it sees."""
        return Landmarks(self.sees, X.patient, X.at, X.to)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of which it sees a row."""
        return tuple(kind for kind in self.sees.spec.nodes if len(self.sees.events[kind]))


def contestants(cohort: Cohort, modalities: Mapping[str, Sequence[str]]) -> dict[str, Contestant]:
    """All that are fitted, by name, the graph first. Of two modalities `without A` is `only B`."""

    def only(*names: str) -> Cohort:
        return cohort.only(kind for name in names for kind in modalities[name])

    whole = only(*modalities)
    rest = {name: [other for other in modalities if other != name] for name in modalities}
    nodes = cohort.spec.nodes
    written = [name for name, kinds in modalities.items() if any(nodes[kind].content for kind in kinds)]
    every = [
        Contestant("graph", whole),
        *(Contestant(f"only {name}", only(name)) for name in modalities),
        *(Contestant(f"without {name}", only(*rest[name])) for name in modalities if len(modalities) > 2),
        Contestant("early", _joined(whole, ()), {"linear": True}),
        Contestant("intermediate", _joined(whole, ("at",)), {"num_layers": 1}),
        Contestant("transformer", whole, {"conv": "transformer"}),
        Contestant("clockwork", clockwork(whole)),
        Contestant("values", contents(whole)),
        *(Contestant(f"values {name}", contents(only(name))) for name in written),
        Contestant("presence", presence(whole)),
        Contestant("statics", only()),
    ]
    return {one.name: one for one in every}


# ---- fitting


@dataclass(frozen=True, eq=False)
class Seen:
    """A fitted model that is asked about what it may see of a cohort."""

    model: Model
    cohort: Cohort

    def forecast(self, X: Landmarks) -> Mapping[str, Answer]:
        return self.model.forecast(Landmarks(self.cohort, X.patient, X.at, X.to))


@dataclass(frozen=True, eq=False)
class Late:
    """The mean of several models' forecasts."""

    models: tuple[Model, ...]

    def forecast(self, X: Landmarks) -> dict[str, Answer]:
        first, *rest = (model.forecast(X) for model in self.models)
        out: dict[str, Answer] = {}
        for name, one in first.items():
            slots = "incidence" if isinstance(one, Forecast) else "probability"
            every = [getattr(said[name], slots) for said in (first, *rest)]
            out[name] = replace(one, **{slots: np.mean(every, axis=0), "members": None})
        return out


@dataclass(eq=False)
class _Fits:
    """Fits every contestant with the same budget."""

    outcome: str
    horizon: float | None  # None: a diagnosis
    budget: Mapping[str, Any]  # choices of PrognosisModel, the same for all
    progress: Progress | None
    of: int
    done: int = 0
    channels: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)

    def model(self, one: Contestant, **choices: Any) -> PrognosisModel:
        budget = {**self.budget, **one.choices, **choices}
        if len(one.kinds) < 2:
            budget["kind_dropout"] = 0.0  # to hide the one kind there is would be to hide everything
        return PrognosisModel(outcomes=[self.outcome], horizon=self.horizon, **budget)

    def __call__(self, one: Contestant, X: Landmarks, what: str) -> Seen:
        if one.name not in self.channels:
            self._size(one, X)
        model = self.model(one, channels=self.channels[one.name]).fit(one.asks(X))
        self.done += 1
        if self.progress is not None:
            self.progress(f"{what}: {one.name}", self.done, self.of)
        return Seen(model, one.sees)

    def _size(self, one: Contestant, X: Landmarks) -> None:
        """The width at which it has about as many parameters as the graph, which comes first.

        An epoch tells which codes it sees and which weights it has; the linear path, which costs the most,
        is left out of it and counted.
        """
        width = int(self.budget["channels"])
        model = self.model(one, members=1, epochs=1)
        linear = model.linear
        module = model.set_params(linear=False).fit(one.asks(X)).predictor_.modules[0]

        def count(channels: int) -> int:
            return _parameters(module, one.kinds, channels=channels, linear=linear)

        if self.parameters:
            step = 1 if module.config.conv == "sage" else 4  # attention heads, a quarter of the channels each
            widths, wanted = range(step, WIDEST * width + 1, step), self.parameters["graph"]
            above = min(bisect.bisect_left(widths, wanted, key=count), len(widths) - 1)
            width = min(widths[max(above - 1, 0) : above + 1], key=lambda c: abs(count(c) - wanted))
        self.channels[one.name], self.parameters[one.name] = width, count(width)


def _parameters(module: Any, kinds: Sequence[str], **config: Any) -> int:
    """Parameters of the same model with another `config`, those of kinds without a row not counted."""
    data = module.to_dict()
    words = data["vocabulary"]
    for part in ("codes", "values", "times", "vectors"):
        keep = (*kinds, "patient", "timepoint")
        words[part] = {kind: entry for kind, entry in words[part].items() if kind in keep}
    data["config"] |= config
    data["edge_types"] = data["edge_types"] if kinds else []  # without a row there is no timepoint either
    return sum(p.numel() for p in type(module).from_dict(data).parameters())


# ---- scoring


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
        ibs = _integrated(risk, [known(t) for t in self.scored.times.tolist()])
        null = ibs[self.names.index("null")] if "null" in self.names else np.nan
        out[:, -2], out[:, -1] = ibs, 1 - ibs / null if null else np.nan
        return out


def _mean(x: np.ndarray, shown: np.ndarray, axis: int) -> np.ndarray:
    """Mean over what is shown; nan where nothing is."""
    seen = np.broadcast_to(shown, x.shape)
    total, count = np.where(seen, x, 0.0).sum(axis), seen.sum(axis)
    return np.where(count, total / np.maximum(count, 1), np.nan)


def _integrated(risk: np.ndarray, known: Sequence[metrics.AtHorizon | None]) -> np.ndarray:
    """`metrics.integrate` of all models at once: (model,)."""
    grid, score = [0.0], [np.zeros(len(risk))]
    for i, at in enumerate(known):
        if at is None:
            break
        grid.append(at.horizon)
        score.append(np.square(at.case - risk[:, :, i]) @ at.share / at.weight.sum())
    if len(grid) == 1:
        return np.full(len(risk), np.nan)
    return np.asarray(np.trapezoid(np.stack(score, 1), grid, axis=1)) / grid[-1]


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


# ---- the answer


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


def compare(
    cohort: Cohort,
    outcome: str,
    *,
    cause: str | None = None,
    folds: Sequence[Fold] | int = 5,
    modalities: Mapping[str, Sequence[str]] | None = None,
    models: Sequence[str] | None = None,
    landmarks: Sequence[float | str] | None = None,
    horizons: Sequence[float] | None = None,
    members: int = 3,
    epochs: int = 30,
    channels: int = 32,
    choices: Mapping[str, Any] | None = None,
    inner: int = 3,
    n: int = 200,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> Comparison:
    """Fit every contestant on each fold's training patients and score all on its test patients.

    cause: which one is judged (default: the one named like the outcome, else the first), or which class (the
    last); folds: splits by patient and group, or how many to make; modalities: name -> kinds (default:
    `modalities_of`); models: names of contestants besides the graph and the singles (default: all);
    landmarks, horizons: days (or "entry") at which is asked and up to which is scored (default: entry, and
    where anything becomes known after it 1, 3 and 5 years, or quarters of a shorter follow-up; up to the same
    years, or thirds; a diagnosis has no horizon to choose); choices: of PrognosisModel, the same for all;
    inner: folds of a training part on which its best single modality is chosen, by IBS or Brier score; n:
    draws of patients for the intervals; progress: called after each fit.
    """
    causes = names_of(cohort, outcome)
    curves = isinstance(cohort.outcomes[outcome], Survival)
    if cause is None:
        cause = outcome if outcome in causes else causes[0 if curves else -1]
    if cause not in (known := causes if curves else judged(causes)):
        raise InputError(
            f"unknown {'cause' if curves else 'class'} {cause!r} of {outcome!r}{near(cause, known)}"
        )
    if horizons is not None and not curves:
        raise InputError(f"outcome {outcome!r} is a diagnosis, which has no horizon to choose; leave it out")
    cohort = _seen_for(cohort, outcome)
    parts = {m: tuple(kinds) for m, kinds in (modalities or modalities_of(cohort)).items()}
    often = Counter(kind for kinds in parts.values() for kind in set(kinds))
    if twice := [kind for kind, n in often.items() if n > 1]:
        raise InputError(
            f"kind {twice[0]!r} is in two modalities; without one it would still be in the other"
        )
    if len(parts) < 2:
        raise InputError(
            f"{len(parts)} kind of node with rows ({', '.join(parts) or 'none'}); fusion takes two or more"
        )
    field_ = _chosen(contestants(cohort, parts), models)
    splits = make_folds(cohort, outcome, folds, seed) if isinstance(folds, int) else list(folds)
    _check(cohort, splits)
    plan = {"landmarks": "random", "seed": seed, "outcomes": [outcome]}
    asks = [training_landmarks(cohort, fold.train, plan) for fold in splits]
    at = usual_landmarks(cohort, outcome) if landmarks is None else list(landmarks)
    if horizons is None and curves:
        horizons = default_horizons(min(_reach(X, outcome, causes) for X in asks))
    until = tuple(sorted(float(horizon) for horizon in horizons or ()))
    if not at or (curves and not (until and until[0] > 0)):
        raise InputError("no landmark, or no horizon above 0 days; give both or leave them out")
    budget = {"members": members, "epochs": epochs, "channels": channels, "seed": seed, "device": device}
    budget |= {"kind_dropout": _kind_dropout(cohort, parts)} | dict(choices or {})
    singles = [f"only {name}" for name in parts]
    last = until[-1] if curves else None
    fits = _Fits(outcome, last, budget, progress, len(splits) * (len(field_) + len(parts) * inner))
    times = np.zeros(0)
    if last is not None:
        times = np.unique(np.concatenate([np.linspace(0, last, POINTS + 1)[1:], until]))
    scored, chosen = [], []
    for i, (fold, X) in enumerate(zip(splits, asks, strict=True), 1):
        test = scored_landmarks(cohort, fold.test, outcome, at)
        if not len(test):
            raise InputError(f"fold {fold.fold} of repeat {fold.repeat}: nobody at risk at the landmarks")
        fitted: dict[str, Model] = {
            name: fits(one, X, f"fold {i} of {len(splits)}") for name, one in field_.items()
        }
        said = [fitted[name] for name in singles]
        if models is None or "late" in models:
            fitted["late"] = Late(tuple(said))
            fits.parameters.setdefault("late", sum(fits.parameters[name] for name in singles))
        best = _best(fits, [field_[name] for name in singles], X, at, outcome, cause, inner, seed, times, i)
        chosen.append(list(parts)[best])
        fitted["best single"] = said[best]
        fitted["null"] = _null(fitted["graph"], outcome)
        scored.append((fitted, test))
    board = _Board(Scored.of(scored, outcome, times), outcome, cause, until)
    draws = board.draws(n, seed)
    primary = _contrast(board, draws, "graph", "best single")
    rest = {
        name: f"without {name}"
        if len(parts) > 2
        else next(f"only {other}" for other in parts if other != name)
        for name in parts
    }
    family = [
        _contrast(board, draws, "graph", other, name) for name, other in rest.items() if other in board.names
    ]
    for found, p in zip(family, holm([f["p"] for f in family]), strict=True):
        found["holm"] = p
        found["verdict"] = _verdict(found)
    named = [*(("graph", rival) for rival in RIVALS), *SAYS]
    named += [(name, "statics") for name in board.names if name.startswith("values ")]
    pairs = [(one, other) for one, other in named if {one, other} <= set(board.names)]
    others = [_contrast(board, draws, one, other) for one, other in pairs]
    every = [("graph", "best single"), *(("graph", f["second"]) for f in family), *pairs]
    who = np.unique(board.scored.asks.patient)
    return Comparison(
        outcome=outcome,
        cause=cause,
        modalities=parts,
        chosen=tuple(chosen),
        channels=fits.channels,
        parameters=fits.parameters,
        budget={key: value for key, value in budget.items() if key != "device"},
        horizons=until,
        patients=len(who),
        events=_count(board, cause),
        rows=_rows(board, draws, every),
        primary=primary,
        left_out=tuple(family),
        others=tuple(others),
        scored=board.scored,
        parts=tuple(scored),
    )


def _seen_for(cohort: Cohort, outcome: str) -> Cohort:
    """With the kinds alone that the outcome is asked with."""
    inputs = cohort.inputs([outcome])
    return cohort if inputs is None else cohort.only(inputs)


def _count(board: _Board, cause: str) -> int:
    """How many of the scored patients have the cause at all, or the class at an ask."""
    asks, k = board.scored.asks, board.truth.judged[cause]
    if not board.truth.curves:
        return len(np.unique(asks.patient[board.truth.label == k]))
    return int((asks.cohort.survival(board.outcome).strata[np.unique(asks.patient)] == k).sum())


def _chosen(every: dict[str, Contestant], models: Sequence[str] | None) -> dict[str, Contestant]:
    """The graph and the singles, and of the rest what is asked for."""
    if models is None:
        return every
    always = {name for name in every if name == "graph" or name.startswith("only ")}
    given = {"late", "best single", "null"}  # come with the others
    for name in models:
        if name not in {*every, *given}:
            raise InputError(f"unknown contestant {name!r}{near(name, (*every, *given))}")
    return {name: one for name, one in every.items() if name in always or name in models}


def make_folds(cohort: Cohort, outcome: str, count: int, seed: int = 0) -> list[Fold]:
    """Splits of all patients, whole groups together, with each event or label spread evenly."""
    everybody = Landmarks(cohort, np.arange(len(cohort)), np.where(cohort.enters, cohort.entry, 0))
    split = StratifiedPatientKFold(count, seed=seed, outcome=outcome).split(everybody)
    return [Fold(0, i, train, test, pl.String) for i, (train, test) in enumerate(split)]


def _check(cohort: Cohort, folds: Sequence[Fold]) -> None:
    if not folds:
        raise InputError(
            "no fold to compare on; give a fold file with repeat, fold, id, or a number of folds"
        )
    for fold in folds:
        if not (len(fold.train) and len(fold.test)):
            raise InputError(
                f"fold {fold.fold} of repeat {fold.repeat}: one side is empty; two folds or more would do"
            )
        both = np.intersect1d(cohort.groups[fold.train], cohort.groups[fold.test])
        if len(both):
            raise InputError(
                f"fold {fold.fold} of repeat {fold.repeat}: {len(both)} group(s) on both sides; split by "
                "group"
            )


def _reach(X: Landmarks, outcome: str, causes: tuple[str, ...]) -> float:
    """The last horizon (days) that can be estimated from these asks."""
    if not len(X):
        raise InputError(f"outcome {outcome!r}: nobody at risk to train on; give other folds")
    truth = X.outcome(outcome)
    target = SurvivalTarget(causes, truth["event"].astype(np.int64), truth["time"].astype(float))
    return last_estimable(target, X.patient, X.moments)


def _kind_dropout(cohort: Cohort, modalities: Mapping[str, Sequence[str]]) -> float:
    """As PrognosisModel has it by default: only where pictures or texts stand among the nodes."""
    nodes = cohort.spec.nodes
    return 0.2 if any(nodes[kind].content for kinds in modalities.values() for kind in kinds) else 0.0


def _null(graph: Model, outcome: str) -> Null | Shares:
    assert isinstance(graph, Seen) and isinstance(graph.model, PrognosisModel)
    return null_of(graph.model.predictor_, outcome)


def _best(
    fits: _Fits,
    singles: Sequence[Contestant],
    X: Landmarks,
    at: Sequence[float | str],
    outcome: str,
    cause: str,
    inner: int,
    seed: int,
    times: np.ndarray,
    fold: int,
) -> int:
    """Which single modality has the lowest IBS, or Brier score, over inner folds of the training asks X."""
    parts: list[tuple[Mapping[str, Model], Landmarks]] = []
    for train, held in StratifiedPatientKFold(inner, seed=seed, outcome=outcome).split(X):
        models: dict[str, Model] = {
            one.name: fits(one, X[train], f"fold {fold}, inner fold {len(parts) + 1} of {inner}")
            for one in singles
        }
        parts.append((models, scored_landmarks(X.cohort, np.unique(X.patient[held]), outcome, at)))
    board = _Board(Scored.of(parts, outcome, times), outcome, cause, tuple(times[-1:].tolist()))
    error = board.value[:, -1, board.columns.index((board.score.error, None))]
    if not np.isfinite(error).all():
        raise InputError(
            f"fold {fold}: too few training patients to choose the best single kind by inner folds; "
            f"give fewer folds, earlier landmarks or shorter horizons"
        )
    return int(np.argmin(error))


# ---- what is missing


def missing_curve(
    compared: Comparison,
    modality: str,
    shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    *,
    model: str = "graph",
    n: int = 200,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The score of a fitted contestant when a modality is taken from a share of the scored patients.

    Who loses it is drawn once; those of a smaller share are among those of a larger one. Rows as in
    `Comparison.rows`, of means over landmarks, with `share` and `lacking`: the share of asks that have no row
    of the modality then, those who never had one included.
    """
    if modality not in compared.modalities:
        raise InputError(f"unknown kind {modality!r}{near(modality, compared.modalities)}")
    if model not in compared.parts[0][0] or not isinstance(compared.parts[0][0][model], Seen):
        known = [name for name, one in compared.parts[0][0].items() if isinstance(one, Seen)]
        raise InputError(f"no fitted contestant {model!r}{near(model, known)}")
    if bad := [share for share in shares if not 0 <= share <= 1]:
        raise InputError(f"share {bad[0]:g}; from 0 to 1 would do")
    kinds, asks = compared.modalities[modality], compared.scored.asks
    rank = np.random.default_rng(seed).permutation(len(asks.cohort))
    gone = {share: rank < round(share * len(rank)) for share in shares}
    parts: list[tuple[Mapping[str, Model], Landmarks]] = []
    for fitted, X in compared.parts:
        seen = fitted[model]
        assert isinstance(seen, Seen)
        said: dict[str, Model] = {
            f"{share:g}": Seen(seen.model, taken(seen.cohort, kinds, who)) for share, who in gone.items()
        }
        parts.append(({**said, "null": fitted["null"]}, X))
    scored = Scored.of(parts, compared.outcome, compared.scored.times)
    board = _Board(scored, compared.outcome, compared.cause, compared.horizons)
    draws, rows = board.draws(n, seed), []
    for share, who in gone.items():
        left = taken(asks.cohort, kinds, who)
        nodes = sum(np.diff(left.events[kind].visible_rows(asks.patient, asks.at)[0]) for kind in kinds)
        m = board.names.index(f"{share:g}")
        for c, (metric, horizon) in enumerate(board.columns):
            figure = _figure(board, board.value[m, -1, c], draws[:, m, -1, c])
            row = _row(model, None, horizon, board.cause, metric, figure)
            rows.append({**row, "kind": modality, "share": share, "lacking": float(np.mean(nodes == 0))})
    return rows


def pattern_only(compared: Comparison) -> list[dict[str, Any]]:
    """How much of the graph's skill the pattern of missingness has by itself: a row a deciding figure.

    presence, statics, graph: their means over landmarks; gain: presence over statics, with its interval;
    share: that gain over the graph's own gain, None where the graph has none for sure. Nothing where presence
    or the statics were not compared.
    """
    if not {"presence-statics", "graph-statics"} <= {row["model"] for row in compared.rows}:
        return []
    rows = []
    for metric in compared.score.deciding:
        known = {name: compared.value(name, metric)["value"] for name in ("presence", "statics", "graph")}
        gain = {key: compared.value("presence-statics", metric)[key] for key in ("value", "low", "high")}
        whole = compared.value("graph-statics", metric)
        sure = whole["low"] is not None and whole["low"] > 0 and gain["value"] is not None
        share = gain["value"] / whole["value"] if sure else None
        rows.append({"metric": metric, **known, "gain": gain, "share": share})
    return rows


def run_compare(
    path: Path,
    outcome: str,
    folds: Path | None = None,
    progress: Progress | None = None,
    missing: Sequence[str] = (),
    **budget: int,
) -> Comparison:
    """`gnnpatient compare`: a packed cohort, on the splits of a file or on five made here.

    missing: kinds that will be asked for in `missing_curve`, so that a wrong name is refused before the fits;
    budget: members, epochs, seed, the same for every contestant; default those of `compare`.
    """
    cohort = open_cohort(path)
    cohort.outcomes_with_model([outcome])
    known = modalities_of(_seen_for(cohort, outcome))
    if unknown := [kind for kind in missing if kind not in known]:
        raise InputError(f"unknown kind {unknown[0]!r}{near(unknown[0], known)}")
    splits = 5 if folds is None else read_folds(folds, cohort)
    return compare(cohort, outcome, folds=splits, progress=progress, **budget)  # type: ignore[arg-type]
