"""How good is it, beside its rivals, with intervals: one row a figure (METHODS 14-17)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from scipy.stats import t as student

from gnnpatient import metrics
from gnnpatient.cohort.cohort import Cohort, Landmarks, join_landmarks
from gnnpatient.cohort.outcomes import Diagnosis, Survival, Task
from gnnpatient.errors import InputError, near
from gnnpatient.prognosis.forecast import Answer, DiagnosisForecast, Forecast, answerable, judged
from gnnpatient.prognosis.kinds import target_of
from gnnpatient.prognosis.marginal import nearest
from gnnpatient.prognosis.predictor import Predictor
from gnnpatient.prognosis.targets import MIN_REMAINING
from gnnpatient.study.baselines import censoring_hazard
from gnnpatient.times import DAY

ENOUGH_EVENTS = 100  # in the scored patients; below, a comparison cannot be judged (Collins et al. 2016)
DIFFERENCES = ("auc", "c", "brier", "ibs", "scaled_ibs", "scaled_brier")  # compared between models
LABEL = ("auc", "brier", "oe", "slope", "ici")  # of a diagnosis, beside scaled_brier
COSTLY = ("ici",)  # printed without an interval
RANKED = ("auc", "auc1", "c", "slope", "ici")  # say nothing of a handful of cases
LEAST_CASES = 5  # patients, among the cases and among the others, for a figure that ranks or fits them
FEW_UNITS = 30  # groups below which intervals are by t
LEAST_UNITS = 5  # groups below which there is none
NAMED = 3  # figures that are named in a warning
SHIFT = 0.02  # a figure that the model of censoring moves by more is flagged


@runtime_checkable
class Model(Protocol):
    """Whatever answers landmarks with forecasts."""

    def forecast(self, X: Landmarks) -> Mapping[str, Answer]: ...


Tables = Mapping[int, np.ndarray]  # of a landmark (of `moments`), what the null says there
NearTables = tuple[np.ndarray, np.ndarray]  # days of some landmarks, and what the null says there


@dataclass(frozen=True, eq=False)
class Null:
    """The training asks' Aalen-Johansen for everybody, of the landmark where it has one."""

    outcome: str
    causes: tuple[str, ...]
    times: np.ndarray
    incidence: np.ndarray  # (1 + cause, time)
    tables: Tables = field(default_factory=dict)
    near: NearTables | None = None

    def forecast(self, X: Landmarks) -> dict[str, Forecast]:
        table = _of_landmark(X, self.incidence, self.tables, self.near)
        at_risk = X.at_risk(self.outcome)
        return {self.outcome: Forecast(self.outcome, self.causes, self.times, table, X.ids, X.days, at_risk)}


@dataclass(frozen=True, eq=False)
class Shares:
    """The training asks' share of each class for everybody, of the landmark where it has them."""

    outcome: str
    classes: tuple[str, ...]
    share: np.ndarray  # (class,)
    tables: Tables = field(default_factory=dict)
    near: NearTables | None = None

    def forecast(self, X: Landmarks) -> dict[str, DiagnosisForecast]:
        table, at_risk = _of_landmark(X, self.share, self.tables, self.near), answerable(X, self.outcome)
        return {self.outcome: DiagnosisForecast(self.outcome, self.classes, table, X.ids, X.days, at_risk)}


def _of_landmark(X: Landmarks, other: np.ndarray, tables: Tables, near: NearTables | None) -> np.ndarray:
    """Of each ask the table of its landmark, else of the nearest one, else the other: (ask, ...)."""
    out = np.repeat(other[None], len(X), 0) if near is None else nearest(X, *near)
    for at, table in tables.items():
        out[X.moments == at] = table
    return out


def null_of(predictor: Predictor, outcome: str, train: Landmarks | None = None) -> Null | Shares:
    """What a model is to beat: at each landmark the same for everybody, from those it was trained on.

    train: the training patients at the landmarks that are scored, at risk then. A landmark with fewer than 20
    of them, or all where they are not at hand, has what the model folder holds: the curve of the training
    asks nearest to that landmark.
    """
    head = predictor.modules[0].head(outcome).config.to_dict()
    tables: dict[int, np.ndarray] = {}
    asks = [] if train is None else [train[rows] for rows in train.by_landmark.values()]
    for X in asks:
        target = target_of(X, outcome)
        if len(np.unique(X.patient[target.known])) >= MIN_REMAINING:
            tables[int(X.moments[0])] = target.marginal(X.moments, tuple(head.get("times", ())))
    whole, near = predictor.null[outcome], predictor.nulls.get(outcome)
    if head["kind"] == "diagnosis":
        return Shares(outcome, tuple(head["classes"]), whole, tables, near)
    return Null(outcome, tuple(head["causes"]), np.array(head["times"]), whole, tables, near)


def names_of(cohort: Cohort, outcome: str) -> tuple[str, ...]:
    """The causes of a survival outcome, the classes of a diagnosis."""
    truth = cohort.outcomes_with_model([outcome])[outcome]
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
        return cls(join_landmarks(*asks), np.concatenate(folds), joined, times)


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
    warnings: Sequence[str] = ()  # why figures are missing, and which ones the model of censoring moves
    units: str = "patients"  # what the intervals resample
    entry: float | None = None  # the landmark, in days, that stands for each patient's entry

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
            "warnings": list(self.warnings),
            "units": self.units,
            "entry": self.entry,
            "rows": self.rows,
        }

    def value(self, model: str, metric: str, **where: Any) -> dict[str, Any]:
        """The one row of a model and a metric, at a landmark, horizon, cause or group.

        Landmark None is the mean over landmarks; censoring: "km" unless "cox" is asked for.
        """
        where = {"censoring": "km", **where}
        found = [
            row
            for row in self.rows
            if row["model"] == model
            and row["metric"] == metric
            and all(row[k] == v for k, v in where.items())
        ]
        if len(found) != 1:
            raise InputError(
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
    censoring: str = "km",
    n: int = 200,
    seed: int = 0,
) -> Evaluation:
    """Score every model at each landmark and horizon (days), with bootstrap intervals.

    Discrimination compares people of one fold only. The intervals resample the unit that splits do not part:
    the groups of the cohort where it has them, else patients (a row's `interval` says which, `draws` how many
    of the n gave a number; fewer than half: no interval). Of fewer than 30 groups they are by t with one
    degree of freedom less than groups, of fewer than 5 there is none. They hold the fitted models fixed.
    `against` adds the paired differences of two models; landmark None is the mean over landmarks. `by`
    repeats the figures in groups: a static category, a static number (cut at its median), or "group".

    A figure that ranks people, or fits a line through them, needs 5 patients among the cases and 5 among the
    others. `censoring` "cox" adds each figure with weights by a ridge Cox model of being lost, on last
    observations, fitted on the people scored at each landmark and held fixed in the intervals; C has none
    there, as ICI. What moves by more than .02 is flagged.

    Of a diagnosis the rows' cause is a class, against the rest: the last of two, else each; an ask without a
    label is not scored. One that is asked at moments of its own has one figure of them all, landmark None.
    """
    asks = scored.asks
    if not len(asks):
        raise InputError("nobody left to score; give other landmarks or another cohort")
    known, truth = asks.cohort.outcomes_with_model([outcome])[outcome], truth_of(asks, outcome)
    if not (there := truth.label >= 0).any():
        raise InputError(f"nobody left to score; no ask has a label of {outcome!r}")
    for horizon in horizons:
        if not np.isclose(scored.times, horizon, rtol=1e-9, atol=0).any():
            raise InputError(
                f"horizon {horizon:g} days is not among the times at which the forecasts were taken"
            )
    if censoring not in ("km", "cox"):
        raise InputError(f"censoring {censoring!r}; km or cox would do")
    if censoring == "cox" and truth.time is None:
        raise InputError(f"outcome {outcome!r}: no censoring hides its labels; leave out censoring = cox")
    rows: list[dict[str, Any]] = []
    words: list[str] = []
    for group, members in {"": np.ones(len(asks), bool), **_groups(asks, by)}.items():
        if (members & there).any():
            part = _Part(scored, truth, np.asarray(horizons, float), members & (truth.code >= 0))
            rows += part.rows(against, n, seed, group or None)
            words += [f"{group}: {why}" if group else why for why in part.lacking()]
            if censoring == "cox":
                moved = replace(part, hazard=_hazards(asks, truth, part.members))
                others = moved.rows(against, n, seed, group or None)
                words += _moved(rows[-len(others) :], others, group)
                rows += others
    if isinstance(known, Survival):
        events = known.strata[np.unique(asks.patient)]
        counts = {cause: int((events == k).sum()) for k, cause in enumerate(known.causes, 1)}
    else:
        each = enumerate(known.classes)
        counts = {name: len(np.unique(asks.patient[truth.label == k])) for k, name in each}
    scored_patients = len(np.unique(asks.patient[there]))
    entry, units = None if truth.at_moments else asks.entry_day, units_of(asks)[1]
    return Evaluation(outcome, scored_patients, held_out, counts, rows, tuple(words), units, entry)


def units_of(asks: Landmarks) -> tuple[np.ndarray, str]:
    """What the intervals resample: the number of each ask's unit, and "patients" or "groups"."""
    return asks.groups, "patients" if asks.cohort.group is None else "groups"


def spread(value: float, draws: np.ndarray, units: np.ndarray, kind: str) -> dict[str, Any]:
    """An interval of a figure: low, high, draws (that gave a number), interval (of what, and how)."""
    nothing: dict[str, Any] = {"low": None, "high": None, "draws": None, "interval": None}
    if not np.isfinite(value) or not len(draws):
        return nothing
    done, count = int(np.isfinite(draws).sum()), len(np.unique(units))
    nothing["draws"] = done
    if done * 2 < len(draws) or (kind == "groups" and count < LEAST_UNITS):
        return nothing
    if kind == "groups" and count < FEW_UNITS:  # a bootstrap of few is too narrow by the root of (n - 1) / n
        error = float(np.nanstd(draws, ddof=1)) * np.sqrt(count / (count - 1))
        wide = float(student.ppf(0.975, count - 1)) * error
        return {
            "low": float(value - wide),
            "high": float(value + wide),
            "draws": done,
            "interval": "groups, t",
        }
    low, high = metrics.interval(draws[:, None])
    return {"low": float(low[0]), "high": float(high[0]), "draws": done, "interval": kind}


def chance(value: float, draws: np.ndarray, units: np.ndarray, kind: str) -> float:
    """The two-sided p value of a difference, by a normal of its bootstrap's spread; of few groups by a t."""
    error, count = float(np.nanstd(draws, ddof=1)), len(np.unique(units))
    if not error:
        return float(value == 0)
    if kind == "groups" and count < FEW_UNITS:
        error *= np.sqrt(count / (count - 1))
        return float(2 * student.sf(abs(value) / error, count - 1))
    return math.erfc(abs(value) / error / math.sqrt(2))


def _hazards(asks: Landmarks, truth: Truth, members: np.ndarray) -> np.ndarray:
    """The relative hazard of being lost of each member, by a model of each landmark: (ask,)."""
    assert truth.time is not None
    out = np.ones(len(asks))
    for there in asks.by_landmark.values():
        rows = there[members[there]]
        if not len(rows):
            continue
        last = np.inf if truth.horizon is None else truth.horizon
        lost = (truth.code[rows] == 0) & (truth.time[rows] <= last)  # to be seen to the end is not to be lost
        out[rows] = censoring_hazard(asks[rows], truth.time[rows], lost)
    return out


def _moved(plain: list[dict[str, Any]], others: list[dict[str, Any]], group: str) -> list[str]:
    """Which figures the model of censoring moves, in one line; the rows of the other one say so, too."""
    names = []
    for one, other in zip(plain, others, strict=True):
        values = one["value"], other["value"]
        far = one["metric"] != "tau" and None not in values and abs(values[0] - values[1]) > SHIFT
        one["moved"] = other["moved"] = far
        if far:
            where = "" if one["landmark"] is None else f" at {one['landmark']:g} d"
            until = "" if one["horizon"] is None else f" to {one['horizon']:g} d"
            names.append(
                f"{one['model']} {one['metric']} of {one['cause']}{where}{until} "
                f"{values[0]:.3f}, cox {values[1]:.3f}"
            )
    if not names:
        return []
    more = f"; and {len(names) - NAMED} more" if len(names) > NAMED else ""
    start = f"{group}: " if group else ""
    return [
        f"{start}{len(names)} figures move by more than {SHIFT:g} where censoring may depend on what is "
        f"known: {'; '.join(names[:NAMED])}{more}"
    ]


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
    known, truth = asks.cohort.outcomes_with_model([outcome])[outcome], asks.outcome(outcome)
    if isinstance(known, Survival):
        causes = {cause: k for k, cause in enumerate(known.causes, 1)}
        return Truth(truth["event"].astype(np.int64), truth["time"], causes)
    codes = {name: known.classes.index(name) for name in judged(known.classes)}
    horizon = None if known.horizon is None else known.horizon / DAY
    if isinstance(known, Diagnosis) and horizon is not None:
        event, time = known.course(asks.patient, asks.at)
        return Truth(event.astype(np.int64), time, codes, horizon)
    return Truth(truth["label"].astype(np.int64), None, codes, horizon, isinstance(known, Task))


def _groups(asks: Landmarks, by: Sequence[str]) -> dict[str, np.ndarray]:
    cohort = asks.cohort
    out: dict[str, np.ndarray] = {}
    known = (*cohort.spec.patient.category, *cohort.spec.patient.number, "group")
    number, category = cohort.statics(asks.patient, asks.at)  # as known at the ask
    for name in by:
        if name in cohort.spec.patient.category:
            level = category[:, cohort.spec.patient.category.index(name)]
            out |= {f"{name}={names}": level == i for i, names in enumerate(cohort.levels[name])}
            out |= {f"{name}=missing": level < 0}
        elif name in cohort.spec.patient.number:
            value = number[:, cohort.spec.patient.number.index(name)]
            cut = float(np.nanmedian(value))
            out |= {f"{name}<{cut:g}": value < cut, f"{name}>={cut:g}": value >= cut}
            out |= {f"{name}=missing": np.isnan(value)}
        elif name == "group" or (name == cohort.spec.patient.group):
            if cohort.group is None:
                raise InputError("--by group: the spec has no [patient] group")
            out |= {
                f"{name}={g}": cohort.group[asks.patient] == g for g in np.unique(cohort.group[asks.patient])
            }
        else:
            raise InputError(f"--by {name!r}{near(name, known)}")
    return {name: members for name, members in out.items() if members.any()}


Key = tuple[str, str, float | None, float | None, str]  # model, cause, landmark, horizon, metric


@dataclass(frozen=True, eq=False)
class _Part:
    """The figures of one group of asks."""

    scored: Scored
    truth: Truth
    horizons: np.ndarray
    members: np.ndarray  # (ask,) bool
    hazard: np.ndarray | None = None  # (ask,) relative hazard of being lost; None: all alike

    @property
    def costly(self) -> tuple[str, ...]:
        """What has no interval."""
        return COSTLY if self.hazard is None else (*COSTLY, "c")

    @cached_property
    def landmarks(self) -> dict[float | None, np.ndarray]:
        """Which asks belong to each landmark, by its day: (ask,) bool; None: all moments are one figure."""
        asks = self.scored.asks
        if self.truth.at_moments:
            return {None: np.ones(len(asks), bool)}
        every = np.arange(len(asks))
        return {day: np.isin(every, rows) for day, rows in asks.by_landmark.items()}

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

        units, kind = units_of(self.scored.asks[rows])
        metrics.bootstrap(once, units, n=n, seed=seed)
        out = []
        for (model, cause, landmark, horizon, metric), figure in value.items():
            draws = np.full(n, np.nan)  # a draw without anybody at a landmark has no figure there
            some = drawn[model, cause, landmark, horizon, metric]
            draws[: len(some)] = some
            costly = metric in self.costly
            around = spread(figure, draws[:0] if costly else draws, units, kind)
            out.append(
                {
                    "model": model,
                    "landmark": landmark,
                    "horizon": horizon,
                    "cause": cause,
                    "metric": metric,
                    "value": float(figure) if np.isfinite(figure) else None,
                    "low": around["low"],
                    "high": around["high"],
                    "group": group,
                    "draws": around["draws"],
                    "interval": around["interval"],
                    "censoring": "km" if self.hazard is None else "cox",
                }
            )
        return out

    def lacking(self) -> list[str]:
        """Where too few patients are cases, or others, to rank them: a line a cause."""
        found: dict[str, list[str]] = {}
        for cause, k, day, rows, count in self._landmarks(np.ones(int(self.members.sum()), np.int64)):
            whose = repeated(self.scored.asks.patient[rows])
            if self.truth.curves:
                assert self.truth.time is not None
                time, event = self.truth.time[rows], self.truth.code[rows]
                each: list[tuple[float | None, metrics.AtHorizon | None]] = [
                    (h, metrics.at_horizon(time, event, h, cause=k, weight=count, patient=whose))
                    for h in self.horizons.tolist()
                ]
            else:
                each = [(self.truth.horizon, self.truth.labelled(k, rows, count, whose))]
            for horizon, at in each:
                if at is not None and at.fewest < LEAST_CASES:
                    where = "" if day is None else f"at {day:g} d"
                    until = "" if horizon is None else f" to {horizon:g} d"
                    found.setdefault(cause, []).append(f"{where}{until} ({at.fewest:g})".strip())
        return [
            f"{cause}: no auc, c, slope, ici {', '.join(places)}: fewer than {LEAST_CASES} patients among "
            "the cases or the others"
            for cause, places in found.items()
        ]

    def _landmarks(
        self, weight: np.ndarray
    ) -> Iterator[tuple[str, int, float | None, np.ndarray, np.ndarray]]:
        """Of each cause and landmark its code, the day, the rows that were drawn and how often."""
        members = np.flatnonzero(self.members)
        for cause, k in self.truth.judged.items():
            for day, asked in self.landmarks.items():
                inside = (weight > 0) & asked[members]
                if inside.any():
                    yield cause, k, day, members[inside], weight[inside]

    def figures(self, against: tuple[str, str] | None, weight: np.ndarray, costly: bool) -> dict[Key, float]:
        """Every figure of every model, with rows counted `weight` times."""
        out: dict[Key, float] = {}
        for cause, k, day, rows, count in self._landmarks(weight):
            of = self._landmark if self.truth.curves else self._labels
            out |= of(cause, k, day, rows, count, costly)
        if len(self.landmarks) > 1:
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
        whose, hazard = repeated(self.scored.asks.patient[rows]), self.hazard
        lost = None if hazard is None else hazard[rows]
        known, fold = self.truth.labelled(k, rows, count, whose, lost), self.scored.fold[rows]
        null = np.nan
        if "null" in self.scored.risks:
            null = score("brier", self.scored.risks["null"][cause][rows, 0], known, fold)
        for model, risks in self.scored.risks.items():
            risk, where = risks[cause][rows, 0], (model, cause, landmark, self.truth.horizon)
            for name in LABEL:
                if costly or name not in self.costly:
                    out[*where, name] = score(name, risk, known, fold)
            out[*where, "scaled_brier"] = 1 - out[*where, "brier"] / null if null else np.nan
        return out

    def _landmark(
        self, cause: str, k: int, landmark: float | None, rows: np.ndarray, count: np.ndarray, costly: bool
    ) -> dict[Key, float]:
        out: dict[Key, float] = {}
        assert self.truth.time is not None
        time, event, fold = self.truth.time[rows], self.truth.code[rows], self.scored.fold[rows]
        whose = repeated(self.scored.asks.patient[rows])
        staying = staying_of(time, event, count, None if self.hazard is None else self.hazard[rows])

        def known(horizon: float) -> metrics.AtHorizon | None:
            return metrics.at_horizon(
                time, event, horizon, cause=k, weight=count, staying=staying, patient=whose
            )

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
                for name in metrics.SCORES:
                    if costly or name not in self.costly:
                        out[model, cause, landmark, horizon, name] = score(name, risk[:, column], at, fold)
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
