"""What a model forecasts: incidence curves, or probabilities of classes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.errors import InputError
from gnnpatient.model.heads import DiagnosisConfig, HeadConfig, SurvivalConfig

if TYPE_CHECKING:
    import polars as pl


SPREAD = (0.05, 0.95)  # quantiles over members between which the model spread lies
MIN_MEMBERS = 5  # members from which a spread is shown


@dataclass(frozen=True, eq=False)
class Forecast:
    """Cumulative incidence after each landmark. Slot 0 is event-free, not alive; the slots sum to one.

    A landmark at which the patient was no longer at risk has no curve: nan.

    Attributes
    ----------
    outcome : str
        Name of the outcome.
    causes : tuple of str
        Names of the causes.
    times : ndarray
        Days after the landmark, rising.
    incidence : ndarray
        Probability of being event-free (slot 0), and of each cause having happened, by each time.
    ids : ndarray
        The patient's id of each landmark.
    at : ndarray
        Days after the patient's origin of each landmark.
    at_risk : ndarray
        Whether there is a curve.
    members : ndarray or None
        The incidence by each network; None where there is one only.
    """

    outcome: str
    causes: tuple[str, ...]
    times: np.ndarray  # (time,) float64
    incidence: np.ndarray  # (landmark, 1 + cause, time)
    ids: np.ndarray  # (landmark,) str
    at: np.ndarray  # (landmark,) float64
    at_risk: np.ndarray  # (landmark,) bool
    members: np.ndarray | None = None  # (member, landmark, 1 + cause, time)

    @classmethod
    def of_members(
        cls, outcome: str, head: HeadConfig, members: np.ndarray, landmarks: Landmarks, at_risk: np.ndarray
    ) -> Forecast:
        """Average over the members.

        Parameters
        ----------
        outcome : str
            Name of the outcome.
        head : SurvivalConfig
            Causes and times.
        members : ndarray
            (member, landmark, 1 + cause, time).
        landmarks : Landmarks
            Whom they are of.
        at_risk : ndarray
            (landmark,) bool.

        Returns
        -------
        Forecast
        """
        curves = cast(SurvivalConfig, head)
        rows = landmarks.ids, landmarks.days, at_risk, members if len(members) > 1 else None
        return cls(outcome, curves.causes, np.array(curves.times), members.mean(0), *rows)

    @staticmethod
    def summary(head: Mapping[str, Any]) -> str:
        """Say in a sentence of the model card what is forecast.

        Parameters
        ----------
        head : mapping
            The head's configuration, see `SurvivalConfig.to_dict`.

        Returns
        -------
        str
        """
        return (
            f"cumulative incidence of {', '.join(head['causes'])} up to {head['times'][-1]:g} "
            "days after the landmark; slot 0 is event-free, not alive."
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def event_free(self) -> np.ndarray:
        """Probability of none of the causes: (landmark, time)."""
        return self.incidence[:, 0]

    def slot(self, cause: str | None) -> int:
        """Position of a cause on the middle axis.

        Parameters
        ----------
        cause : str or None
            Name of the cause; None where there is only one.

        Returns
        -------
        int

        Raises
        ------
        InputError
            When there is no such cause, or several and none is named.
        """
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
        """Probability of a cause within a horizon, linear between times.

        Parameters
        ----------
        cause : str, optional
            Name of the cause; needed where there are several.
        horizon : float, optional
            Days after the landmark; default: the last time.

        Returns
        -------
        ndarray
            (landmark,) float64; nan where there is no curve.

        Raises
        ------
        InputError
            When the horizon is negative or beyond the last time, or the cause is unknown.
        """
        return self._at(self.incidence[:, self.slot(cause)], self._horizons(horizon))[..., 0]

    def risks(self, horizons: Sequence[float] | np.ndarray, cause: str | None = None) -> np.ndarray:
        """Probability of a cause within several horizons, linear between times.

        Parameters
        ----------
        horizons : sequence of float
            Days after the landmark.
        cause : str, optional
            Name of the cause; needed where there are several.

        Returns
        -------
        ndarray
            (landmark, horizon) float64.

        Raises
        ------
        InputError
            When a horizon is negative or beyond the last time, or the cause is unknown.
        """
        return self._at(self.incidence[:, self.slot(cause)], self._horizons(horizons))

    def spread(
        self, horizon: float | None = None, cause: str | None = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Model spread of the risk: its 5 % and 95 % quantiles over members.

        It shows what refitting changes, not what may happen to a patient.

        Parameters
        ----------
        horizon : float, optional
            Days after the landmark; default: the last time.
        cause : str, optional
            Name of the cause; needed where there are several.

        Returns
        -------
        tuple of ndarray or None
            Low and high, each (landmark,); None with fewer than five members.
        """
        if self.members is None or len(self.members) < MIN_MEMBERS:
            return None
        return _spread(self._at(self.members[:, :, self.slot(cause)], self._horizons(horizon))[..., 0])

    def table(self, horizons: Sequence[float] | None = None) -> pl.DataFrame:
        """List the forecasts of the landmarks at risk.

        Parameters
        ----------
        horizons : sequence of float, optional
            Days after the landmark; default: all times.

        Returns
        -------
        polars.DataFrame
            Columns id, at, outcome, cause, horizon, risk, low, high; low and high are null with fewer than
            five members.
        """
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
            if beyond < 0:
                raise InputError(f"horizon {beyond:g} days; must be >= 0, days after the landmark")
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
    """The probability of each class at each landmark; classes sum to one.

    A landmark at which the label was known already, or the patient was no longer observed, has none: nan. One
    whose label was never looked for has a forecast all the same.

    Attributes
    ----------
    outcome : str
        Name of the outcome.
    classes : tuple of str
        Names of the classes.
    probability : ndarray
        Probability of each class.
    ids : ndarray
        The patient's id of each landmark.
    at : ndarray
        Days after the patient's origin of each landmark.
    at_risk : ndarray
        Whether there is a forecast.
    members : ndarray or None
        The probabilities by each network; None where there is one only.
    """

    outcome: str
    classes: tuple[str, ...]
    probability: np.ndarray  # (landmark, class)
    ids: np.ndarray  # (landmark,) str
    at: np.ndarray  # (landmark,) float64
    at_risk: np.ndarray  # (landmark,) bool
    members: np.ndarray | None = None  # (member, landmark, class)

    @classmethod
    def of_members(
        cls, outcome: str, head: HeadConfig, members: np.ndarray, landmarks: Landmarks, at_risk: np.ndarray
    ) -> DiagnosisForecast:
        """Average over the members.

        Parameters
        ----------
        outcome : str
            Name of the outcome.
        head : DiagnosisConfig
            The classes.
        members : ndarray
            (member, landmark, class).
        landmarks : Landmarks
            Whom they are of.
        at_risk : ndarray
            (landmark,) bool.

        Returns
        -------
        DiagnosisForecast
        """
        rows = landmarks.ids, landmarks.days, at_risk, members if len(members) > 1 else None
        return cls(outcome, cast(DiagnosisConfig, head).classes, members.mean(0), *rows)

    @staticmethod
    def summary(head: Mapping[str, Any]) -> str:
        """Say in a sentence of the model card what is forecast.

        Parameters
        ----------
        head : mapping
            The head's configuration, see `DiagnosisConfig.to_dict`.

        Returns
        -------
        str
        """
        return f"the probability of each of {', '.join(head['classes'])} at the landmark; they sum to one."

    def __len__(self) -> int:
        return len(self.ids)

    def slot(self, cause: str | None) -> int:
        """Position of a class.

        Parameters
        ----------
        cause : str or None
            Name of the class; None: the last of two.

        Returns
        -------
        int

        Raises
        ------
        InputError
            When there is no such class, or more than two and none is named.
        """
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
        """Probability of a class.

        Parameters
        ----------
        cause : str, optional
            Name of the class; default: the last of two.

        Returns
        -------
        ndarray
            (landmark,) float64; nan where there is no forecast.
        """
        return self.probability[:, self.slot(cause)]

    def spread(self, cause: str | None = None) -> tuple[np.ndarray, np.ndarray] | None:
        """Model spread of that probability: its 5 % and 95 % quantiles over members.

        Parameters
        ----------
        cause : str, optional
            Name of the class; default: the last of two.

        Returns
        -------
        tuple of ndarray or None
            Low and high, each (landmark,); None with fewer than five members.
        """
        if self.members is None or len(self.members) < MIN_MEMBERS:
            return None
        return _spread(self.members[:, :, self.slot(cause)])

    def table(self) -> pl.DataFrame:
        """List the forecasts of the landmarks at risk.

        Returns
        -------
        polars.DataFrame
            Columns id, at, outcome, cause (the class), horizon (null), risk, low, high.
        """
        return _table(self, ((name, None, self.risk(name), self.spread(name)) for name in self.classes))


Answer = Forecast | DiagnosisForecast


def judged(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Choose the classes that figures are about: the last of two, else each against the rest.

    Parameters
    ----------
    classes : tuple of str
        All classes.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> judged(("no", "yes")), judged(("a", "b", "c"))
    (('yes',), ('a', 'b', 'c'))
    """
    return classes[1:] if len(classes) == 2 else classes


def _spread(risk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(risk, SPREAD, axis=0)
    return low, high


def _table(
    forecast: Answer,
    rows: Iterable[tuple[str, float | None, np.ndarray, tuple[np.ndarray, np.ndarray] | None]],
) -> pl.DataFrame:
    """One row per landmark at risk, cause and horizon."""
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
    """Find the landmarks that get a forecast: those at risk, of a diagnosis those whose label is open.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times.
    outcome : str
        Name of the outcome; where the cohort has none of that name, every landmark gets a forecast.

    Returns
    -------
    ndarray
        (landmark,) bool.
    """
    truth = landmarks.cohort.outcomes.get(outcome)
    # without the outcome the cohort does not show who is no longer at risk
    if truth is None:
        return np.ones(len(landmarks), bool)
    entered: np.ndarray = landmarks.cohort.entry[landmarks.patient] <= landmarks.at
    return entered & truth.open(landmarks.patient, landmarks.at)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        # until the next release: where Predictor was before, also for what was pickled there
        if name != "Predictor":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        warnings.warn("Predictor is now in gnnpatient.prognosis.predictor", DeprecationWarning, stacklevel=2)
        return getattr(import_module("gnnpatient.prognosis.predictor"), name)
