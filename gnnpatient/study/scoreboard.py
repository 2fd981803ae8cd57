"""Scores of models at landmarks, for all rows and for each bootstrap draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gnnpatient import metrics
from gnnpatient.cohort.landmarks import Landmarks, together
from gnnpatient.cohort.outcomes import Diagnosis, Survival, Task
from gnnpatient.prognosis.forecast import (
    Answer,
    DiagnosisForecast,
    judged,
)
from gnnpatient.times import DAY

RANKED = ("auc", "auc1", "c", "slope", "ici")  # say nothing of a handful of cases
LEAST_CASES = 5  # patients, among the cases and among the others, for a figure that ranks or fits them


@runtime_checkable
class Model(Protocol):
    """Whatever answers landmarks with forecasts."""

    def forecast(self, X: Landmarks) -> Mapping[str, Answer]: ...


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
        return cls(together(*asks), np.concatenate(folds), joined, times)


def _risks(said: Answer, times: np.ndarray) -> dict[str, np.ndarray]:
    """Of each cause (ask, time), of each class that is judged (ask, 1)."""
    if isinstance(said, DiagnosisForecast):
        return {name: said.risk(name)[:, None] for name in judged(said.classes)}
    return {cause: said.risks(times, cause) for cause in said.causes}


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

    def labelled(
        self,
        k: int,
        rows: np.ndarray,
        weight: np.ndarray,
        patient: np.ndarray | None = None,
        hazard: np.ndarray | None = None,
    ) -> metrics.AtHorizon | None:
        """What is known of class k in these rows, counted `weight` times; whose they are, where some are of
        one patient; hazard: that of being lost, where it differs.
        """
        if self.time is None or self.horizon is None:
            return metrics.labelled(self.code[rows] == k, weight=weight, patient=patient)
        time, event = self.time[rows], self.code[rows]
        staying = staying_of(time, event, weight, hazard)
        return metrics.at_horizon(
            time, event, self.horizon, cause=k, weight=weight, staying=staying, patient=patient
        )


def staying_of(
    time: np.ndarray, event: np.ndarray, weight: np.ndarray, hazard: np.ndarray | None
) -> metrics.Censoring | metrics.CoxCensoring:
    """The chance to be still uncensored: for all alike, or by each row's hazard of being lost."""
    if hazard is None:
        return metrics.censoring(time, event, weight=weight)
    return metrics.cox_censoring(time, event, hazard, weight=weight)


def repeated(patient: np.ndarray) -> np.ndarray | None:
    """The patients of some rows where one has several, so that counts are of patients."""
    return patient if len(np.unique(patient)) < len(patient) else None


def score(name: str, risk: np.ndarray, at: metrics.AtHorizon | None, fold: np.ndarray) -> float:
    """A figure; none of those that rank where fewer than 5 patients are cases, or others."""
    if at is None or (name in RANKED and at.fewest < LEAST_CASES):
        return np.nan
    return metrics.SCORES[name](risk, at, fold)


def truth_of(asks: Landmarks, outcome: str) -> Truth:
    """What came of each ask; refused where one is not at risk."""
    known, truth = asks.cohort.answered([outcome])[outcome], asks.outcome(outcome)
    if isinstance(known, Survival):
        causes = {cause: k for k, cause in enumerate(known.causes, 1)}
        return Truth(truth["event"].astype(np.int64), truth["time"], causes)
    codes = {name: known.classes.index(name) for name in judged(known.classes)}
    horizon = None if known.horizon is None else known.horizon / DAY
    if isinstance(known, Diagnosis) and horizon is not None:
        event, time = known.course(asks.patient, asks.at)
        return Truth(event.astype(np.int64), time, codes, horizon)
    return Truth(truth["label"].astype(np.int64), None, codes, horizon, isinstance(known, Task))
