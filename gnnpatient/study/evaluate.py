"""How good is it, beside its rivals, with intervals: one row a figure (METHODS 14-17)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gnnpatient import metrics
from gnnpatient.cohort.cohort import Cohort
from gnnpatient.cohort.landmarks import Landmarks
from gnnpatient.cohort.outcomes import Diagnosis, Survival, Task
from gnnpatient.cohort.spec import DAY, near
from gnnpatient.errors import Refused
from gnnpatient.prognosis.forecast import (
    Answer,
    DiagnosisForecast,
    Forecast,
    Predictor,
    answerable,
    judged,
)

ENOUGH_EVENTS = 100  # in the scored patients; below, a comparison cannot be judged (Collins et al. 2016)
DIFFERENCES = ("auc", "c", "brier", "ibs", "scaled_ibs", "scaled_brier")  # compared between models
LABEL = ("auc", "brier", "oe", "slope", "ici")  # of a diagnosis, beside scaled_brier
COSTLY = ("ici",)  # printed without an interval


@runtime_checkable
class Model(Protocol):
    """Whatever answers landmarks with forecasts."""

    def forecast(self, X: Landmarks) -> Mapping[str, Answer]: ...


@dataclass(frozen=True, eq=False)
class Null:
    """The training asks' Aalen-Johansen for everybody."""

    outcome: str
    causes: tuple[str, ...]
    times: np.ndarray
    incidence: np.ndarray  # (1 + cause, time)

    def forecast(self, X: Landmarks) -> dict[str, Forecast]:
        table = np.repeat(self.incidence[None], len(X), 0)
        at_risk = X.at_risk(self.outcome)
        return {self.outcome: Forecast(self.outcome, self.causes, self.times, table, X.ids, X.days, at_risk)}


@dataclass(frozen=True, eq=False)
class Shares:
    """The training asks' share of each class for everybody."""

    outcome: str
    classes: tuple[str, ...]
    share: np.ndarray  # (class,)

    def forecast(self, X: Landmarks) -> dict[str, DiagnosisForecast]:
        table, at_risk = np.repeat(self.share[None], len(X), 0), answerable(X, self.outcome)
        return {self.outcome: DiagnosisForecast(self.outcome, self.classes, table, X.ids, X.days, at_risk)}


def null_of(predictor: Predictor, outcome: str) -> Null | Shares:
    """What a model is to beat: the same for everybody, from its training asks."""
    head, table = predictor.modules[0].head(outcome).config.to_dict(), predictor.null[outcome]
    if head["kind"] == "diagnosis":
        return Shares(outcome, tuple(head["classes"]), table)
    return Null(outcome, tuple(head["causes"]), np.array(head["times"]), table)


def names_of(cohort: Cohort, outcome: str) -> tuple[str, ...]:
    """The causes of a survival outcome, the classes of a diagnosis."""
    truth = cohort.answered([outcome])[outcome]
    return truth.causes if isinstance(truth, Survival) else truth.classes


@dataclass(frozen=True, eq=False)
class Scored:
    """Asks with what each model said of them; in parts, of several folds, each by the models of its fold."""

    asks: Landmarks
    fold: np.ndarray  # (ask,) int64
    risks: Mapping[str, Mapping[str, np.ndarray]]  # model -> cause -> (ask, time); -> class -> (ask, 1)
    times: np.ndarray  # (time,) days: the grid of IBS, horizons included; none of a diagnosis

    @classmethod
    def of(
        cls, parts: Iterable[tuple[Mapping[str, Model], Landmarks]], outcome: str, times: Any = ()
    ) -> Scored:
        """Forecasts of every part's models at its own asks."""
        times = np.asarray(times, np.float64)
        asks, folds, risks = [], [], []
        for i, (models, X) in enumerate(parts):
            asks.append(X)
            folds.append(np.full(len(X), i))
            said = {name: model.forecast(X)[outcome] for name, model in models.items()}
            risks.append({n: _risks(f, times) for n, f in said.items()})
        joined = {
            name: {c: np.concatenate([r[name][c] for r in risks]) for c in causes}
            for name, causes in risks[0].items()
        }
        cohort = asks[0].cohort
        if any(X.cohort is not cohort for X in asks):
            raise Refused("the parts ask different cohorts; score each cohort on its own")
        X = Landmarks(cohort, np.concatenate([a.patient for a in asks]), np.concatenate([a.at for a in asks]))
        return cls(X, np.concatenate(folds), joined, times)


def _risks(said: Answer, times: np.ndarray) -> dict[str, np.ndarray]:
    """Of each cause (ask, time), of each class that is judged (ask, 1)."""
    if isinstance(said, DiagnosisForecast):
        return {name: said.risk(name)[:, None] for name in judged(said.classes)}
    return {cause: said.risks(times, cause) for cause in said.causes}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The answer of `evaluate`."""

    outcome: str
    patients: int  # scored
    held_out: int  # patients of the cohort that were not trained on
    events: Mapping[str, int]  # scored patients with each cause, or of each class
    rows: list[dict[str, Any]]

    @property
    def too_small(self) -> str | None:
        """Why these figures cannot decide between models; None where they might."""
        fewest = min(self.events, key=lambda cause: self.events[cause])
        n = self.events[fewest]
        return None if n >= ENOUGH_EVENTS else f"too small to judge: {n} scored patients with {fewest}"

    def to_dict(self) -> dict[str, Any]:
        """For `--json`; what is not estimable is None."""
        return {
            "outcome": self.outcome,
            "patients": self.patients,
            "held_out": self.held_out,
            "events": dict(self.events),
            "too_small": self.too_small,
            "rows": self.rows,
        }

    def value(self, model: str, metric: str, **where: Any) -> dict[str, Any]:
        """The one row of a model and a metric, at a landmark, horizon, cause or group.

        Landmark None is the mean over landmarks.
        """
        found = [
            row
            for row in self.rows
            if row["model"] == model
            and row["metric"] == metric
            and all(row[k] == v for k, v in where.items())
        ]
        if len(found) != 1:
            raise Refused(
                f"{len(found)} rows of {model} {metric} {where}; name landmark, horizon, cause and group"
            )
        return found[0]


def evaluate(
    scored: Scored,
    *,
    outcome: str,
    horizons: Sequence[float],
    by: Sequence[str] = (),
    against: tuple[str, str] | None = ("gnn", "cox"),
    held_out: int = 0,
    n: int = 200,
    seed: int = 0,
) -> Evaluation:
    """Score every model at each landmark and horizon (days), with patient-bootstrap intervals.

    Discrimination compares people of one fold only. The intervals hold the fitted models fixed. `against`
    adds the paired differences of two models; landmark None is the mean over landmarks. `by` repeats the
    figures in groups: a static category, a static number (cut at its median), or "group".

    Of a diagnosis the rows' cause is a class, against the rest: the last of two, else each; an ask without a
    label is not scored. One that is asked at moments of its own has one figure of them all, landmark None.
    """
    asks = scored.asks
    if not len(asks):
        raise Refused("nobody left to score; give other landmarks or another cohort")
    known, truth = asks.cohort.answered([outcome])[outcome], truth_of(asks, outcome)
    if not (there := truth.label >= 0).any():
        raise Refused(f"nobody left to score; no ask has a label of {outcome!r}")
    for horizon in horizons:
        if not np.isclose(scored.times, horizon, rtol=1e-9, atol=0).any():
            raise Refused(
                f"horizon {horizon:g} days is not among the times at which the forecasts were taken"
            )
    rows: list[dict[str, Any]] = []
    for group, members in {"": np.ones(len(asks), bool), **_groups(asks, by)}.items():
        if (members & there).any():
            part = _Part(scored, truth, np.asarray(horizons, float), members & (truth.code >= 0))
            rows += part.rows(against, n, seed, group or None)
    if isinstance(known, Survival):
        events = known.event[np.unique(asks.patient)]
        counts = {cause: int((events == k).sum()) for k, cause in enumerate(known.causes, 1)}
    else:
        each = enumerate(known.classes)
        counts = {name: len(np.unique(asks.patient[truth.label == k])) for k, name in each}
    return Evaluation(outcome, len(np.unique(asks.patient[there])), held_out, counts, rows)


@dataclass(frozen=True, eq=False)
class Truth:
    """What came of each ask."""

    code: np.ndarray  # (ask,) int64: the event, 0 censored; of a diagnosis the class, -1 = not looked for
    time: np.ndarray | None  # (ask,) days; None: a label, which no censoring hides
    judged: Mapping[str, int]  # name of a cause or class -> its code
    horizon: float | None = None  # days within which a label is looked for
    at_moments: bool = False  # each ask has a time of its own, so that all are one figure

    @property
    def curves(self) -> bool:
        """Whether forecasts are curves, of survival; else probabilities of classes."""
        return self.time is not None and self.horizon is None

    @property
    def label(self) -> np.ndarray:
        """As `code`, but -1 where a label within a horizon is hidden by censoring: (ask,) int64."""
        if self.time is None or self.horizon is None:
            return self.code
        within = self.time <= self.horizon
        return np.where(within, np.array([-1, 1, 0])[self.code], 0)

    def labelled(self, k: int, rows: np.ndarray, weight: np.ndarray) -> metrics.AtHorizon | None:
        """What is known of class k in these rows, counted `weight` times."""
        if self.time is None or self.horizon is None:
            return metrics.labelled(self.code[rows] == k, weight=weight)
        return metrics.at_horizon(self.time[rows], self.code[rows], self.horizon, cause=k, weight=weight)


def truth_of(asks: Landmarks, outcome: str) -> Truth:
    """What came of each ask; refused where one is not at risk."""
    known, truth = asks.cohort.answered([outcome])[outcome], asks.outcome(outcome)
    if isinstance(known, Survival):
        causes = {cause: k for k, cause in enumerate(known.causes, 1)}
        return Truth(truth["event"].astype(np.int64), truth["time"], causes)
    codes = {name: known.classes.index(name) for name in judged(known.classes)}
    horizon = None if known.horizon is None else known.horizon / DAY
    if isinstance(known, Diagnosis) and horizon is not None:
        event, time = known.course(asks)
        return Truth(event.astype(np.int64), time, codes, horizon)
    return Truth(truth["label"].astype(np.int64), None, codes, horizon, isinstance(known, Task))


def _groups(asks: Landmarks, by: Sequence[str]) -> dict[str, np.ndarray]:
    cohort = asks.cohort
    out: dict[str, np.ndarray] = {}
    known = (*cohort.spec.patient.category, *cohort.spec.patient.number, "group")
    for name in by:
        if name in cohort.spec.patient.category:
            level = cohort.category[asks.patient, cohort.spec.patient.category.index(name)]
            out |= {f"{name}={names}": level == i for i, names in enumerate(cohort.levels[name])}
            out |= {f"{name}=missing": level < 0}
        elif name in cohort.spec.patient.number:
            value = cohort.number[asks.patient, cohort.spec.patient.number.index(name)]
            cut = float(np.nanmedian(value))
            out |= {f"{name}<{cut:g}": value < cut, f"{name}>={cut:g}": value >= cut}
            out |= {f"{name}=missing": np.isnan(value)}
        elif name == "group" or (name == cohort.spec.patient.group):
            if cohort.group is None:
                raise Refused("--by group: the spec has no [patient] group")
            out |= {
                f"{name}={g}": cohort.group[asks.patient] == g for g in np.unique(cohort.group[asks.patient])
            }
        else:
            raise Refused(f"--by {name!r}{near(name, known)}")
    return {name: members for name, members in out.items() if members.any()}


Key = tuple[str, str, float | None, float | None, str]  # model, cause, landmark, horizon, metric


@dataclass(frozen=True, eq=False)
class _Part:
    """The figures of one group of asks."""

    scored: Scored
    truth: Truth
    horizons: np.ndarray
    members: np.ndarray  # (ask,) bool

    def rows(
        self, against: tuple[str, str] | None, n: int, seed: int, group: str | None
    ) -> list[dict[str, Any]]:
        rows = np.flatnonzero(self.members)
        value = self.figures(against, np.ones(len(rows), np.int64), costly=True)
        drawn: dict[Key, list[float]] = {key: [] for key in value}

        def once(weight: np.ndarray) -> float:
            for key, figure in self.figures(against, weight, costly=False).items():
                drawn[key].append(figure)
            return 0.0

        metrics.bootstrap(once, self.scored.asks.patient[rows], n=n, seed=seed)
        out = []
        for (model, cause, landmark, horizon, metric), figure in value.items():
            draws = np.array(drawn[model, cause, landmark, horizon, metric])
            shown = np.isfinite(figure)
            low, high = (
                metrics.interval(draws[:, None]) if shown and np.isfinite(draws).any() else ([None], [None])
            )
            out.append(
                {
                    "model": model,
                    "landmark": landmark,
                    "horizon": horizon,
                    "cause": cause,
                    "metric": metric,
                    "value": float(figure) if shown else None,
                    "low": None if low[0] is None else float(low[0]),
                    "high": None if high[0] is None else float(high[0]),
                    "group": group,
                }
            )
        return out

    def figures(self, against: tuple[str, str] | None, weight: np.ndarray, costly: bool) -> dict[Key, float]:
        """Every figure of every model, with rows counted `weight` times."""
        out: dict[Key, float] = {}
        asks, members = self.scored.asks, np.flatnonzero(self.members)
        landmarks = [None] if self.truth.at_moments else np.unique(asks.at).tolist()
        for cause, k in self.truth.judged.items():
            for at in landmarks:
                inside = np.ones(len(members), bool) if at is None else asks.at[members] == at
                rows, count = members[inside], weight[inside]
                drawn = count > 0
                rows, count = rows[drawn], count[drawn]
                day = None if at is None else at / DAY
                if not len(rows):
                    continue
                of = self._landmark if self.truth.curves else self._labels
                out |= of(cause, k, day, rows, count, costly)
        if len(landmarks) > 1:
            out |= _means(out)
        if against and set(against) <= set(self.scored.risks):
            ours, theirs = against
            for (model, cause, landmark, horizon, metric), figure in list(out.items()):
                if model == ours and metric in DIFFERENCES:
                    other = out[theirs, cause, landmark, horizon, metric]
                    out[f"{ours}-{theirs}", cause, landmark, horizon, metric] = figure - other
        return out

    def _labels(
        self, cause: str, k: int, landmark: float | None, rows: np.ndarray, count: np.ndarray, costly: bool
    ) -> dict[Key, float]:
        out: dict[Key, float] = {}
        known, fold = self.truth.labelled(k, rows, count), self.scored.fold[rows]
        null = np.nan
        if "null" in self.scored.risks:
            null = metrics.SCORES["brier"](self.scored.risks["null"][cause][rows, 0], known, fold)
        for model, risks in self.scored.risks.items():
            risk, where = risks[cause][rows, 0], (model, cause, landmark, self.truth.horizon)
            for name in LABEL:
                if costly or name not in COSTLY:
                    out[*where, name] = metrics.SCORES[name](risk, known, fold)
            out[*where, "scaled_brier"] = 1 - out[*where, "brier"] / null if null else np.nan
        return out

    def _landmark(
        self, cause: str, k: int, landmark: float | None, rows: np.ndarray, count: np.ndarray, costly: bool
    ) -> dict[Key, float]:
        out: dict[Key, float] = {}
        assert self.truth.time is not None
        time, event, fold = self.truth.time[rows], self.truth.code[rows], self.scored.fold[rows]
        staying = metrics.censoring(time, event, weight=count)

        def known(horizon: float) -> metrics.AtHorizon | None:
            return metrics.at_horizon(time, event, horizon, cause=k, weight=count, staying=staying)

        each, grid = (
            {h: known(h) for h in self.horizons.tolist()},
            [known(t) for t in self.scored.times.tolist()],
        )
        null_ibs = np.nan
        if "null" in self.scored.risks:
            null_ibs, _ = metrics.integrate(self.scored.risks["null"][cause][rows], grid)
        for model, risks in self.scored.risks.items():
            risk = risks[cause][rows]
            for horizon, at in each.items():
                column = int(np.abs(self.scored.times - horizon).argmin())
                for name, score in metrics.SCORES.items():
                    if costly or name not in COSTLY:
                        out[model, cause, landmark, horizon, name] = score(risk[:, column], at, fold)
            ibs, tau = metrics.integrate(risk, grid)
            out[model, cause, landmark, None, "ibs"] = ibs
            out[model, cause, landmark, None, "tau"] = tau
            out[model, cause, landmark, None, "scaled_ibs"] = 1 - ibs / null_ibs if null_ibs else np.nan
        return out


def _means(figures: Mapping[Key, float]) -> dict[Key, float]:
    """Means over landmarks, of what is estimable at all of them."""
    out: dict[Key, list[float]] = {}
    for (model, cause, landmark, horizon, metric), figure in figures.items():
        if metric not in ("tau", *COSTLY) and landmark is not None:
            out.setdefault((model, cause, None, horizon, metric), []).append(figure)
    return {key: float(np.mean(values)) for key, values in out.items()}
