"""How good is it, beside its rivals, with intervals: one row a figure (METHODS 14-17)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gnnpatient import metrics
from gnnpatient.cohort.landmarks import Landmarks
from gnnpatient.cohort.spec import near
from gnnpatient.errors import Refused
from gnnpatient.prognosis.forecast import Forecast

ENOUGH_EVENTS = 100  # in the scored patients; below, a comparison cannot be judged (Collins et al. 2016)
DIFFERENCES = ("auc", "c", "brier", "ibs", "scaled_ibs")  # compared between models
COSTLY = ("ici",)  # printed without an interval


@runtime_checkable
class Model(Protocol):
    """Whatever answers landmarks with forecasts."""

    def forecast(self, X: Landmarks) -> dict[str, Forecast]: ...


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
class Scored:
    """Asks with what each model said of them; in parts, of several folds, each by the models of its fold."""

    asks: Landmarks
    fold: np.ndarray  # (ask,) int64
    risks: Mapping[str, Mapping[str, np.ndarray]]  # model -> cause -> (ask, time)
    times: np.ndarray  # (time,) days: the grid of IBS, horizons included

    @classmethod
    def of(cls, parts: Iterable[tuple[Mapping[str, Model], Landmarks]], outcome: str, times: Any) -> Scored:
        """Forecasts of every part's models at its own asks."""
        times = np.asarray(times, np.float64)
        asks, folds, risks = [], [], []
        for i, (models, X) in enumerate(parts):
            asks.append(X)
            folds.append(np.full(len(X), i))
            said = {name: model.forecast(X)[outcome] for name, model in models.items()}
            risks.append({n: {c: f.risks(times, c) for c in f.causes} for n, f in said.items()})
        joined = {
            name: {c: np.concatenate([r[name][c] for r in risks]) for c in causes}
            for name, causes in risks[0].items()
        }
        cohort = asks[0].cohort
        if any(X.cohort is not cohort for X in asks):
            raise Refused("the parts ask different cohorts; score each cohort on its own")
        X = Landmarks(cohort, np.concatenate([a.patient for a in asks]), np.concatenate([a.at for a in asks]))
        return cls(X, np.concatenate(folds), joined, times)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The answer of `evaluate`."""

    outcome: str
    patients: int  # scored
    held_out: int  # patients of the cohort that were not trained on
    events: Mapping[str, int]  # scored patients with each cause
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
    """
    asks = scored.asks
    if not len(asks):
        raise Refused("nobody left to score; give other landmarks or another cohort")
    truth = asks.outcome(outcome)
    causes = asks.cohort.survival(outcome).causes
    for horizon in horizons:
        if not np.isclose(scored.times, horizon, rtol=1e-9, atol=0).any():
            raise Refused(
                f"horizon {horizon:g} days is not among the times at which the forecasts were taken"
            )
    rows: list[dict[str, Any]] = []
    for group, members in {"": np.ones(len(asks), bool), **_groups(asks, by)}.items():
        part = _Part(
            scored, truth["event"].astype(np.int64), truth["time"], np.asarray(horizons, float), members
        )
        rows += part.rows(causes, against, n, seed, group or None)
    who, first = np.unique(asks.patient, return_index=True)
    events = asks.cohort.survival(outcome).event[who]
    counts = {cause: int((events == k).sum()) for k, cause in enumerate(causes, 1)}
    return Evaluation(outcome, len(first), held_out, counts, rows)


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
    event: np.ndarray
    time: np.ndarray
    horizons: np.ndarray
    members: np.ndarray  # (ask,) bool

    def rows(
        self,
        causes: Sequence[str],
        against: tuple[str, str] | None,
        n: int,
        seed: int,
        group: str | None,
    ) -> list[dict[str, Any]]:
        rows = np.flatnonzero(self.members)
        value = self.figures(causes, against, np.ones(len(rows), np.int64), costly=True)
        drawn: dict[Key, list[float]] = {key: [] for key in value}

        def once(weight: np.ndarray) -> float:
            for key, figure in self.figures(causes, against, weight, costly=False).items():
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

    def figures(
        self, causes: Sequence[str], against: tuple[str, str] | None, weight: np.ndarray, costly: bool
    ) -> dict[Key, float]:
        """Every figure of every model, with rows counted `weight` times."""
        out: dict[Key, float] = {}
        asks, members = self.scored.asks, np.flatnonzero(self.members)
        landmarks = np.unique(asks.at)
        for k, cause in enumerate(causes, 1):
            for at in landmarks:
                inside = asks.at[members] == at
                rows, count = members[inside], weight[inside]
                drawn = count > 0
                rows, count = rows[drawn], count[drawn]
                if len(rows):
                    out |= self._landmark(cause, k, float(at) / 86_400, rows, count, costly)
        if len(landmarks) > 1:
            out |= _means(out)
        if against and set(against) <= set(self.scored.risks):
            ours, theirs = against
            for (model, cause, landmark, horizon, metric), figure in list(out.items()):
                if model == ours and metric in DIFFERENCES:
                    other = out[theirs, cause, landmark, horizon, metric]
                    out[f"{ours}-{theirs}", cause, landmark, horizon, metric] = figure - other
        return out

    def _landmark(
        self, cause: str, k: int, landmark: float, rows: np.ndarray, count: np.ndarray, costly: bool
    ) -> dict[Key, float]:
        out: dict[Key, float] = {}
        time, event, fold = self.time[rows], self.event[rows], self.scored.fold[rows]
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
