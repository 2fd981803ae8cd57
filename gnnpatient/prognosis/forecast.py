"""What a model answers, and the networks that answer it. No scikit-learn, no polars, no torch-geometric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.errors import InputError
from gnnpatient.model.heads import DiagnosisConfig, HeadConfig, SurvivalConfig

if TYPE_CHECKING:
    import polars as pl


SPREAD = (0.05, 0.95)  # quantiles over members that bound the model spread
MIN_MEMBERS = 5  # members from which a spread is shown


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

    @classmethod
    def of_members(
        cls, outcome: str, head: HeadConfig, members: np.ndarray, landmarks: Landmarks, at_risk: np.ndarray
    ) -> Forecast:
        """The mean over members: (member, landmark, 1 + cause, time)."""
        curves = cast(SurvivalConfig, head)
        rows = landmarks.ids, landmarks.days, at_risk, members if len(members) > 1 else None
        return cls(outcome, curves.causes, np.array(curves.times), members.mean(0), *rows)

    @staticmethod
    def summary(head: Mapping[str, Any]) -> str:
        """What is forecast, in a sentence of the model card."""
        return (
            f"cumulative incidence of {', '.join(head['causes'])} up to {head['times'][-1]:g} "
            "days after the ask; slot 0 is event-free, not alive."
        )

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
        if self.members is None or len(self.members) < MIN_MEMBERS:
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

    @classmethod
    def of_members(
        cls, outcome: str, head: HeadConfig, members: np.ndarray, landmarks: Landmarks, at_risk: np.ndarray
    ) -> DiagnosisForecast:
        """The mean over members: (member, landmark, class)."""
        rows = landmarks.ids, landmarks.days, at_risk, members if len(members) > 1 else None
        return cls(outcome, cast(DiagnosisConfig, head).classes, members.mean(0), *rows)

    @staticmethod
    def summary(head: Mapping[str, Any]) -> str:
        """What is forecast, in a sentence of the model card."""
        return f"the probability of each of {', '.join(head['classes'])} at the ask; they sum to one."

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
        if self.members is None or len(self.members) < MIN_MEMBERS:
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


def answerable(landmarks: Landmarks, outcome: str) -> np.ndarray:
    """Which asks get a forecast: those at risk, of a diagnosis those whose label is open: (ask,) bool."""
    truth = landmarks.cohort.outcomes.get(outcome)
    if truth is None:  # the cohort does not say who is out
        return np.ones(len(landmarks), bool)
    entered: np.ndarray = landmarks.cohort.entry[landmarks.patient] <= landmarks.at
    return entered & truth.open(landmarks.patient, landmarks.at)
