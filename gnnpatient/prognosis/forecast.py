"""What a model answers, and the networks that answer it. No scikit-learn, no polars, no torch-geometric."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gnnpatient.cohort.build import build_graphs
from gnnpatient.cohort.landmarks import ENTRY, Landmarks
from gnnpatient.cohort.outcomes import Diagnosis, Task
from gnnpatient.errors import InputError
from gnnpatient.graphs import Names, frequent
from gnnpatient.model.heads import DiagnosisConfig
from gnnpatient.model.model import PatientGNN
from gnnpatient.prognosis.inputs import differences, in_known_units, last_asks, refuse_strangers

if TYPE_CHECKING:
    import polars as pl

    from gnnpatient.cohort.cohort import Cohort

SPREAD = (0.05, 0.95)  # quantiles over members that bound the model spread
ENOUGH = 5  # members from which a spread is shown
CHUNK = 1024  # asks answered at a time


@dataclass(frozen=True, eq=False)
class Forecast:
    """Cumulative incidence after each ask. Slot 0 is event-free, not alive; the slots sum to one.

    An ask at which the patient was no longer at risk has no curve: nan, and `at_risk` is False there.
    """

    outcome: str
    causes: tuple[str, ...]
    times: np.ndarray  # (time,) days after the ask, rising
    incidence: np.ndarray  # (ask, 1 + cause, time)
    ids: np.ndarray  # (ask,) str
    at: np.ndarray  # (ask,) days after the origin
    at_risk: np.ndarray  # (ask,) bool
    members: np.ndarray | None = None  # (member, ask, 1 + cause, time)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def event_free(self) -> np.ndarray:
        """Probability of none of the causes: (ask, time)."""
        return self.incidence[:, 0]

    def slot(self, cause: str | None) -> int:
        """Position of a cause on the middle axis; needed by name where there are several."""
        if cause is None:
            if len(self.causes) > 1:
                raise InputError(
                    f"outcome {self.outcome!r} has several causes; name one of {', '.join(self.causes)}"
                )
            return 1
        if cause not in self.causes:
            raise InputError(
                f"unknown cause {cause!r} of {self.outcome!r}; there are {', '.join(self.causes)}"
            )
        return self.causes.index(cause) + 1

    def risk(self, cause: str | None = None, horizon: float | None = None) -> np.ndarray:
        """Probability of `cause` within `horizon` days (default: the last time), linear between times."""
        return self._at(self.incidence[:, self.slot(cause)], self._horizons(horizon))[..., 0]

    def risks(self, horizons: Sequence[float] | np.ndarray, cause: str | None = None) -> np.ndarray:
        """The same at several horizons: (ask, horizon)."""
        return self._at(self.incidence[:, self.slot(cause)], self._horizons(horizons))

    def spread(
        self, horizon: float | None = None, cause: str | None = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Model spread of the risk, 5 % and 95 % over members: what refitting changes, not what may happen.

        None with fewer than five members.
        """
        if self.members is None or len(self.members) < ENOUGH:
            return None
        return _spread(self._at(self.members[:, :, self.slot(cause)], self._horizons(horizon))[..., 0])

    def table(self, horizons: Sequence[float] | None = None) -> pl.DataFrame:
        """id, at, outcome, cause, horizon (days), risk, low, high; default horizons: the times."""
        horizons = self.times.tolist() if horizons is None else list(horizons)
        return _table(
            self,
            (
                (cause, float(horizon), self.risk(cause, horizon), self.spread(horizon, cause))
                for cause in self.causes
                for horizon in horizons
            ),
        )

    def _horizons(self, horizon: Any) -> np.ndarray:
        wanted = np.atleast_1d(self.times[-1] if horizon is None else np.asarray(horizon, np.float64))
        if not ((wanted >= 0) & (wanted <= self.times[-1] * (1 + 1e-9))).all():
            beyond = wanted[~((wanted >= 0) & (wanted <= self.times[-1]))][0]
            raise InputError(f"horizon {beyond:g} days; this model was fitted up to {self.times[-1]:g} days")
        return wanted

    def _at(self, curve: np.ndarray, horizon: np.ndarray) -> np.ndarray:
        """Curves (..., time) at horizons, linear between times and from 0 at time 0: (..., horizon)."""
        grid = np.append(0.0, self.times)
        right = np.searchsorted(grid, horizon).clip(1, len(self.times))
        share = np.clip((horizon - grid[right - 1]) / (grid[right] - grid[right - 1]), 0, 1)
        full = np.concatenate([np.zeros_like(curve[..., :1]), curve], -1)
        return full[..., right - 1] * (1 - share) + full[..., right] * share


@dataclass(frozen=True, eq=False)
class DiagnosisForecast:
    """The probability of each class at each ask; classes sum to one.

    An ask at which the label was known already, or nobody was observed any more, has none: nan, and `at_risk`
    is False there. One that was never looked for has an answer all the same.
    """

    outcome: str
    classes: tuple[str, ...]
    probability: np.ndarray  # (ask, class)
    ids: np.ndarray  # (ask,) str
    at: np.ndarray  # (ask,) days after the origin
    at_risk: np.ndarray  # (ask,) bool
    members: np.ndarray | None = None  # (member, ask, class)

    def __len__(self) -> int:
        return len(self.ids)

    def slot(self, cause: str | None) -> int:
        """Position of a class; the last one of two if not named."""
        if cause is None:
            if len(self.classes) > 2:
                raise InputError(
                    f"outcome {self.outcome!r} has several classes; name one of {', '.join(self.classes)}"
                )
            return 1
        if cause not in self.classes:
            raise InputError(
                f"unknown class {cause!r} of {self.outcome!r}; there are {', '.join(self.classes)}"
            )
        return self.classes.index(cause)

    def risk(self, cause: str | None = None) -> np.ndarray:
        """Probability of a class (default: the last of two): (ask,)."""
        return self.probability[:, self.slot(cause)]

    def spread(self, cause: str | None = None) -> tuple[np.ndarray, np.ndarray] | None:
        """Model spread of that probability, as `Forecast.spread`; None with fewer than five members."""
        if self.members is None or len(self.members) < ENOUGH:
            return None
        return _spread(self.members[:, :, self.slot(cause)])

    def table(self) -> pl.DataFrame:
        """id, at, outcome, cause (the class), horizon (null), risk, low, high."""
        return _table(self, ((name, None, self.risk(name), self.spread(name)) for name in self.classes))


Answer = Forecast | DiagnosisForecast


def judged(classes: tuple[str, ...]) -> tuple[str, ...]:
    """The classes of a diagnosis that figures are about: the last of two, else each against the rest."""
    return classes[1:] if len(classes) == 2 else classes


def _spread(risk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(risk, SPREAD, axis=0)
    return low, high


def _table(
    forecast: Answer,
    rows: Iterable[tuple[str, float | None, np.ndarray, tuple[np.ndarray, np.ndarray] | None]],
) -> pl.DataFrame:
    """One row an ask at risk, for each cause and horizon."""
    import polars as pl

    parts = []
    for cause, horizon, risk, spread in rows:
        low, high = spread or (None, None)
        parts.append(
            pl.DataFrame(
                {
                    "id": forecast.ids.astype(str),
                    "at": forecast.at,
                    "outcome": forecast.outcome,
                    "cause": cause,
                    "horizon": horizon,
                    "risk": risk,
                    "low": pl.Series(low, dtype=pl.Float64) if low is not None else None,
                    "high": pl.Series(high, dtype=pl.Float64) if high is not None else None,
                },
                schema_overrides={"horizon": pl.Float64, "low": pl.Float64, "high": pl.Float64},
            ).filter(forecast.at_risk)
        )
    return pl.concat(parts)


@dataclass(frozen=True, eq=False)
class Predictor:
    """Fitted networks and what it takes to ask them. Holds no patient."""

    modules: tuple[PatientGNN, ...]
    kinds: tuple[str, ...] | None  # node kinds it sees; None = all of the cohort's
    null: Mapping[str, np.ndarray]  # the training asks' Aalen-Johansen (1 + cause, time), or shares (class,)
    about: Mapping[str, Any] = field(
        default_factory=dict
    )  # of the training data, for the card: counts and names

    nulls: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(
        default_factory=dict
    )  # the same at some landmarks: (landmark,) days, nan = entry, and (landmark, ...) tables

    @property
    def outcomes(self) -> tuple[str, ...]:
        return self.modules[0].outcomes

    def null_at(self, outcome: str, landmarks: Landmarks) -> np.ndarray:
        """What is said without any input at these asks: (ask, ...)."""
        if outcome in self.nulls:
            return nearest(landmarks, *self.nulls[outcome])
        return np.repeat(self.null[outcome][None], len(landmarks), 0)

    def forecast(self, landmarks: Landmarks, device: str = "auto") -> dict[str, Answer]:
        """The forecast of each outcome, the mean over members."""
        where = resolve_device(device)
        seen = self.see(landmarks)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.outcomes}
        for module in self.modules:
            module.to(where).eval()
        with deterministic(where), torch.inference_mode():
            for begin in range(0, max(len(seen), 1), CHUNK):
                graphs = build_graphs(seen[begin : begin + CHUNK]).to(where)
                answers = [module(graphs) for module in self.modules]
                for name in self.outcomes:
                    head = self.modules[0].head(name)
                    # normed once more in float64, so that the slots sum to one to its precision
                    said = [head.answer(a[name].double().log_softmax(1)) for a in answers]
                    parts[name].append(torch.stack(said).cpu().numpy())
        return {
            name: self._forecast(name, np.concatenate(parts[name], 1), landmarks) for name in self.outcomes
        }

    def _forecast(self, name: str, members: np.ndarray, landmarks: Landmarks) -> Answer:
        head = self.modules[0].head(name).config
        at_risk = answerable(landmarks, name)
        members[:, ~at_risk] = np.nan
        who = landmarks.ids, landmarks.days, at_risk, members if len(members) > 1 else None
        if isinstance(head, DiagnosisConfig):
            return DiagnosisForecast(name, head.classes, members.mean(0), *who)
        return Forecast(name, head.causes, np.array(head.times), members.mean(0), *who)

    def see(self, landmarks: Landmarks) -> Landmarks:
        """The asks with the node kinds alone that this model sees, each code in the unit that it knows.

        Refused: a kind, a static column or a unit of which the model knows nothing; pictures or texts
        embedded by another encoder than those it was fitted on, or after other steps.
        """
        seen = restrict(landmarks, self.kinds)
        theirs = seen.cohort.report.get("encoders", {})
        for kind, own in self.about.get("encoders", {}).items():
            if (other := theirs.get(kind, own)) != own and len(seen.cohort.events[kind]):
                raise InputError(
                    f"{kind}: embedded by {other!r}, the model by {own!r}; pack it with the same choices"
                )
        if (known := self.about.get("inputs")) is None:
            return seen
        vocabulary = self.modules[0].vocabulary
        refuse_strangers(known, vocabulary.codes, vocabulary.numbers, vocabulary.levels, seen)
        cohort = in_known_units(known, seen.cohort)
        return Landmarks(cohort, seen.patient, seen.at, seen.to)

    def differences(self, landmarks: Landmarks) -> list[str]:
        """How these asks differ from those of training: units, ranges, levels, as sentences with shares."""
        seen = restrict(landmarks, self.kinds)
        vocabulary = self.modules[0].vocabulary
        return differences(self.about.get("inputs", {}), vocabulary.levels, seen, vocabulary.bounded)

    def outside(self, landmarks: Landmarks) -> np.ndarray:
        """Which asks lie before or after the days at which patients were asked in training: (ask,) bool."""
        if (span := self.about.get("landmarks")) is None:
            return np.zeros(len(landmarks), bool)
        slack = 0.05 * max(abs(span[0]), abs(span[1])) + 0.01  # the span is rounded
        outside = (landmarks.days < span[0] - slack) | (landmarks.days > span[1] + slack)
        return outside & ~(self.about.get("at_entry", False) & (landmarks.moments == ENTRY))

    def unknown(self, asked: Cohort | Landmarks) -> dict[str, list[str]]:
        """What this cohort has, or the rows that these asks see, and the model has no name for: by kind the
        codes that were rare or unknown in training, or `["*"]` for a whole kind.
        """
        codes = self.modules[0].vocabulary.codes
        found = {}
        cohort = asked.cohort if isinstance(asked, Landmarks) else asked
        for kind in cohort.spec.nodes:
            if self.kinds is not None and kind not in self.kinds:
                continue  # left out by choice
            here = cohort.codes[kind]
            strange = sorted(set(here) - set(codes[kind])) if kind in codes else ["*"]
            if strange and isinstance(asked, Landmarks):
                events = cohort.events[kind]
                seen = {here[c] for c in np.unique(events.code[events.held(asked.patient, asked.at)[2]])}
                strange = [c for c in strange if c in seen or (c == "*" and seen and kind not in codes)]
            if strange:
                found[kind] = strange
        return found


def nearest(landmarks: Landmarks, days: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Of each ask the table of its landmark: at entry that of entry (day nan), else of the nearest day."""
    away = np.abs(landmarks.days[:, None] - days)
    at_entry = (landmarks.moments == ENTRY)[:, None]
    return tables[np.where(np.isnan(days), np.where(at_entry, -1.0, np.inf), away).argmin(1)]


def answerable(landmarks: Landmarks, outcome: str) -> np.ndarray:
    """Which asks get a forecast: those at risk, of a diagnosis those whose label is open: (ask,) bool."""
    truth = landmarks.cohort.outcomes.get(outcome)
    if truth is None:  # the cohort does not say who is out
        return np.ones(len(landmarks), bool)
    if isinstance(truth, Diagnosis | Task):
        return (landmarks.cohort.entry[landmarks.patient] <= landmarks.at) & truth.open(
            landmarks.patient, landmarks.at
        )
    return landmarks.at_risk(outcome)


def restrict(landmarks: Landmarks, kinds: Sequence[str] | None) -> Landmarks:
    """The same asks of the same patients, of whom only some node kinds are seen."""
    if kinds is None:
        return landmarks
    cohort = landmarks.cohort.only(kind for kind in kinds if kind in landmarks.cohort.spec.nodes)
    return Landmarks(cohort, landmarks.patient, landmarks.at, landmarks.to)


def kept_names(landmarks: Landmarks, min_patients: int = 10) -> Names:
    """Which codes and levels of these training asks keep their name (METHODS 34), for whatever is fitted on
    them: `kept_names(X).merge(build_graphs(other))` are the graphs of any asks by those names.
    """
    return frequent(build_graphs(last_asks(landmarks)), min_patients)


def resolve_device(device: str) -> torch.device:
    """`auto` is a GPU where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise InputError(f"device {device!r}; auto, cpu or cuda would do") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r}: torch finds no CUDA here; auto or cpu would do")
    return chosen


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """The same bits each time on a GPU too: there, sums of many rows into one come in any order unless torch
    is told otherwise.
    """
    if device.type != "cuda":
        yield
        return
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it torch refuses a matrix product
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
