"""One patient at one moment: what is known, and what the model expects from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.cohort.splits import default_horizons
from gnnpatient.errors import InputError
from gnnpatient.prognosis.conformal import LEVEL
from gnnpatient.prognosis.forecast import Answer, DiagnosisForecast, Forecast
from gnnpatient.prognosis.multistate import StatesForecast
from gnnpatient.prognosis.predictor import Predictor
from gnnpatient.prognosis.recurrent import RecurrentForecast
from gnnpatient.prognosis.rows import answerable
from gnnpatient.prognosis.values import QUANTILES, ProgressionForecast
from gnnpatient.study.fitted import FittedModel, unknown_notes
from gnnpatient.times import DAY, days, duration

if TYPE_CHECKING:
    from gnnpatient.prognosis.run import Run

# Low and high of the model spread, (landmark,) each; None with fewer than five members.
Band = tuple[np.ndarray, np.ndarray] | None
MODEL_SPREAD = "model spread"  # what low and high are, in JSON


@dataclass(frozen=True, eq=False)
class CurveAnswer:
    """What is expected of a survival outcome: a curve a cause.

    Attributes
    ----------
    forecast : Forecast
        Of one landmark.
    given : float
        Days after the moment asked at up to which the patient is taken to be event-free, from which the
        forecast then counts; 0: from that moment.
    """

    forecast: Forecast
    given: float = 0.0
    refusal = (
        "the patient is not at risk on this day (the event or the end of observation has come, or entry has "
        "not), so there is no curve"
    )

    @property
    def title(self) -> str:
        """What the numbers are; a spread is beside them where a calibrated statement is, too."""
        start = f"from {duration(self.given)} later on, if event-free until then" if self.given else ""
        return (start or "from this day on") + ("" if self._spread(None, None) is None else " [model spread]")

    @property
    def statement(self) -> str:
        """For how long the patient stays event-free, or that nothing was calibrated."""
        return self.forecast.statement()

    def _spread(self, cause: str | None, horizon: float | None) -> Band:
        """The model spread, where it does not stand alone."""
        f = self.forecast
        return f.spread(horizon, cause or f.causes[0]) if f.is_calibrated else None

    @property
    def at_risk(self) -> bool:
        """Whether there is an answer; else `refusal` says why not."""
        return bool(self.forecast.at_risk[0])

    def to_dict(self) -> dict[str, Any]:
        """For JSON.

        Returns
        -------
        dict
            kind, times (days), event_free, incidence, low and high by cause, and band: what these are, always
            the model spread, calibrated or not; time_lost: the mean days that each cause takes up to each
            time; given_event_free (days) where that was asked;
            calibrated: None, or level, days event-free at least, the cutoff up to which that is bounded, the
            promise of the method, and the number of patients; and the statement in words.
        """
        f = self.forecast
        bands = {c: [f.spread(t, c) for t in f.times.tolist()] for c in f.causes}
        low, high = ({c: [float(b[i][0]) for b in band if b] for c, band in bands.items()} for i in (0, 1))
        spread = all(band is not None for band in bands[f.causes[0]])
        return {
            "kind": "survival",
            "times": f.times.tolist(),
            "event_free": f.event_free[0].tolist(),
            "incidence": {cause: f.risks(f.times, cause)[0].tolist() for cause in f.causes},
            "low": low if spread else None,
            "high": high if spread else None,
            "band": MODEL_SPREAD if spread else None,
            "time_lost": {c: [float(f.time_lost(c, t)[0]) for t in f.times.tolist()] for c in f.causes},
            "calibrated": _time_bound(f),
            "statement": self.statement,
        } | ({"given_event_free": self.given} if self.given else {})

    def table(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """For people: a head and rows, the risk of each cause within a few horizons.

        Returns
        -------
        tuple
            The names of the columns, and the rows as text.
        """
        f = self.forecast
        horizons = default_horizons(float(f.times[-1]))
        rows = [(c, *(percent(f.risk(c, t), self._spread(c, t)) for t in horizons)) for c in f.causes]
        free = [1 - sum(float(f.risk(c, t)[0]) for c in f.causes) for t in horizons]
        rows.append(("event-free", *(f"{_percentage(p)} %" for p in free)))
        return ["within", *map(duration, horizons)], rows


@dataclass(frozen=True, eq=False)
class RecurrentAnswer(CurveAnswer):
    """What is expected of events that recur: the next one, and how many.

    Attributes
    ----------
    forecast : RecurrentForecast
        Of one landmark.
    """

    forecast: RecurrentForecast

    def to_dict(self) -> dict[str, Any]:
        """For JSON.

        Returns
        -------
        dict
            As of a `CurveAnswer`, with expected, expected_low and expected_high (the number at each time).
        """
        f = self.forecast
        bands = [f.expected_spread(t) for t in f.times.tolist()]
        low, high = ([float(band[i][0]) for band in bands if band] or None for i in (0, 1))
        more = {"expected": f.number[0].tolist(), "expected_low": low, "expected_high": high}
        return super().to_dict() | {"kind": "recurrent"} | more

    def table(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """For people: a head and rows, the risk of each cause within a few horizons, and the number.

        Returns
        -------
        tuple
            The names of the columns, and the rows as text.
        """
        f, (head, rows) = self.forecast, super().table()
        rows = [(f"next {f.causes[0]}", *rows[0][1:]), *rows[1:]]
        numbers = [_number(f, horizon) for horizon in default_horizons(float(f.times[-1]))]
        return head, [*rows, (f"number of {f.causes[0]}", *numbers)]


@dataclass(frozen=True, eq=False)
class StatesAnswer(CurveAnswer):
    """What is expected of several states: the probability of each, and the time in those that can be left.

    Attributes
    ----------
    forecast : StatesForecast
        Of one landmark.
    """

    forecast: StatesForecast

    @property
    def title(self) -> str:
        """What the numbers are, and the state at the landmark."""
        return f"{super().title}, now {self.forecast.states[int(self.forecast.now[0])]}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON.

        Returns
        -------
        dict
            As of a `CurveAnswer` of the states that end it, with now, states (the probability of each at each
            time) and transitions (the expected number of each).
        """
        f = self.forecast
        more = {
            "now": f.states[int(f.now[0])],
            "states": {state: f.occupation[0, k].tolist() for k, state in enumerate(f.states)},
            "transitions": {move: f.number[0, q].tolist() for q, move in enumerate(f.moves)},
        }
        return super().to_dict() | {"kind": "states"} | more

    def table(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """For people: a head and rows, the probability of each state after some times, and the days in it.

        Returns
        -------
        tuple
            The names of the columns, and the rows as text.
        """
        f = self.forecast
        horizons = default_horizons(float(f.times[-1]))
        rows = [
            (state, *(percent(f.in_state(state, t), self._in_state(state, t)) for t in horizons))
            for state in f.states
        ]
        passing = [state for state in f.states if state not in f.causes]
        rows += [(f"days {state}", *(f"{f.time_in(state, t)[0]:.0f}" for t in horizons)) for state in passing]
        return ["after", *map(duration, horizons)], rows

    def _in_state(self, state: str, horizon: float) -> Band:
        """The model spread, where it does not stand alone."""
        return self.forecast.in_state_spread(state, horizon) if self.forecast.is_calibrated else None


def _number(forecast: RecurrentForecast, horizon: float) -> str:
    """The expected number of events of the one landmark, with its model spread."""
    band = forecast.expected_spread(horizon) if forecast.is_calibrated else None
    around = f" [{band[0][0]:.2g} to {band[1][0]:.2g}]" if band else ""
    return f"{forecast.expected(horizon)[0]:.2g}{around}"


@dataclass(frozen=True, eq=False)
class ClassAnswer:
    """What is expected of a diagnosis: the probability of each class or label.

    Attributes
    ----------
    forecast : DiagnosisForecast
        Of one landmark.
    """

    forecast: DiagnosisForecast
    refusal = (
        "the label is known by this day, the patient is no longer observed, or this is no prediction time of "
        "the task, so there is no probability"
    )

    @property
    def title(self) -> str:
        """What the numbers are; a spread is beside them where a calibrated statement is, too."""
        return "" if self._spread(self.forecast.classes[0]) is None else "[model spread]"

    @property
    def statement(self) -> str:
        """Among which classes the true one is, or that nothing was calibrated."""
        return self.forecast.statement()

    def _spread(self, name: str) -> Band:
        """The model spread, where it does not stand alone."""
        return self.forecast.spread(name) if self.forecast.is_calibrated else None

    @property
    def at_risk(self) -> bool:
        """Whether there is an answer; else `refusal` says why not."""
        return bool(self.forecast.at_risk[0])

    def to_dict(self) -> dict[str, Any]:
        """For JSON.

        Returns
        -------
        dict
            kind, probability, low and high by class, and band: what these are, always the model spread,
            calibrated or not; of ordered classes and of labels also form, "ordered" or "labels": labels do
            not sum to one, and one that is known already is left out;
            calibrated: None, or level, the set of classes, the promise of the method, and the number of
            patients; and the statement in words.
        """
        f = self.forecast
        open_ = [c for c in f.classes if np.isfinite(f.risk(c)[0])]
        bands = {c: f.spread(c) for c in open_}
        low, high = ({c: float(band[i][0]) for c, band in bands.items() if band} for i in (0, 1))
        return {
            "kind": "diagnosis",
            **({} if f.kind == "diagnosis" else {"form": f.kind}),
            "probability": {c: float(f.risk(c)[0]) for c in open_},
            "low": low or None,
            "high": high or None,
            "band": MODEL_SPREAD if low else None,
            "calibrated": _class_set(f),
            "statement": self.statement,
        }

    def table(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """For people: a head and rows, the probability of each class, labels with the likeliest first.

        Returns
        -------
        tuple
            The names of the columns, and the rows as text.
        """
        f = self.forecast
        names = list(f.classes)
        if f.kind == "labels":
            names = f.ranked()["label"].to_list()
        rows: list[tuple[str, ...]] = [(c, percent(f.risk(c), self._spread(c))) for c in names]
        rows += [(c, "known already") for c in f.classes if c not in names]
        return [f.noun, "probability"], rows


@dataclass(frozen=True, eq=False)
class ValueAnswer:
    """What is expected of a value: its distribution at a few times, if seen and alive then.

    Attributes
    ----------
    forecast : ProgressionForecast
        Of one landmark.
    """

    forecast: ProgressionForecast
    refusal = "the patient is no longer followed on this day, or lacks a value to start from: no forecast"

    @property
    def title(self) -> str:
        """What the numbers are."""
        f, of = self.forecast, "" if self.forecast.target == "value" else "change "
        last = f", last {f.last[0]:.4g}" if np.isfinite(f.last[0]) else ""
        return f"{of}from this day on{f' ({f.unit}{last})' if f.unit or last else ''}".replace("(, ", "(")

    @property
    def at_risk(self) -> bool:
        """Whether there is an answer; else `refusal` says why not."""
        return bool(self.forecast.at_risk[0])

    @property
    def statement(self) -> str:
        """Whether the interval is calibrated."""
        return self.forecast.statement()

    @property
    def times(self) -> list[float]:
        """Days after the landmark: the one that was asked for, else a few."""
        f = self.forecast
        return [float(f.to[0])] if np.isfinite(f.to[0]) else default_horizons(float(f.times[-1]))

    def to_dict(self) -> dict[str, Any]:
        """For JSON.

        Returns
        -------
        dict
            kind, to (days), unit, target, last, quantiles, mean, seen and alive at each time; calibrated:
            None, or level, low and high at each time, the promise of the method, and the number of patients;
            and the statement in words.
        """
        f, times = self.forecast, self.times
        values = [f.quantile(QUANTILES, to)[0] for to in times]
        return {
            "kind": "progression",
            "to": times,
            "unit": f.unit,
            "target": f.target,
            "last": float(f.last[0]) if np.isfinite(f.last[0]) else None,
            "quantiles": {f"{q:g}": [float(row[i]) for row in values] for i, q in enumerate(QUANTILES)},
            "mean": [float(f.mean(to)[0]) for to in times],
            "seen": [float(f.p_seen(to)[0]) for to in times],
            "alive": [float(f.p_alive(to)[0]) for to in times],
            "calibrated": _intervals(f, times),
            "statement": self.statement,
        }

    def table(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """For people: a head and rows, the median and an interval at each time.

        Returns
        -------
        tuple
            The names of the columns, and the rows as text.
        """
        f, rows = self.forecast, list[tuple[str, ...]]()
        for to in self.times:
            (low,), (high,) = f.interval(to=to)
            chances = percent(f.p_seen(to)), percent(f.p_alive(to))
            rows.append((duration(to), f"{f.quantile(0.5, to)[0]:.4g}", f"{low:.4g} to {high:.4g}", *chances))
        return ["after", "median", "90 % lie within", "seen then", "alive then"], rows


def _known(forecast: Forecast | DiagnosisForecast | ProgressionForecast) -> dict[str, Any]:
    """What is said of every calibrated answer."""
    known = forecast.calibration
    assert known is not None
    promise = {"level": LEVEL, "promise": known.promise(LEVEL), "method": known.method}
    return promise | {"patients": known.patients}


def _time_bound(forecast: Forecast) -> dict[str, Any] | None:
    """The calibrated bound of the one landmark."""
    days = float(forecast.time_bound()[0])
    if np.isnan(days) or forecast.calibration is None:
        return None
    return _known(forecast) | {"event_free_at_least": days, "cutoff": forecast.calibration.cutoff}


def _class_set(forecast: DiagnosisForecast) -> dict[str, Any] | None:
    """The calibrated set of the one landmark."""
    if not forecast.is_calibrated:
        return None
    there = forecast.class_set()[0]
    return _known(forecast) | {"set": [c for c, one in zip(forecast.classes, there, strict=True) if one]}


def _intervals(forecast: ProgressionForecast, times: Sequence[float]) -> dict[str, Any] | None:
    """The calibrated intervals of the one landmark."""
    if not forecast.is_calibrated:
        return None
    each = [forecast.interval(to=to) for to in times]
    return _known(forecast) | {
        name: [float(one[i][0]) for one in each] for i, name in ((0, "low"), (1, "high"))
    }


OutcomeAnswer = CurveAnswer | ClassAnswer | ValueAnswer
ANSWERS: Mapping[type, Callable[[Any], OutcomeAnswer]] = {
    Forecast: CurveAnswer,
    RecurrentForecast: RecurrentAnswer,
    StatesForecast: StatesAnswer,
    DiagnosisForecast: ClassAnswer,
    ProgressionForecast: ValueAnswer,
}


@dataclass(frozen=True, eq=False)
class PatientAnswer:
    """What is known of one patient at one moment, and what is expected from there.

    Attributes
    ----------
    landmark : Landmarks
        The one patient at the one moment.
    split : str or None
        "train" or "test" as the run knows the patient, None where it does not.
    known : mapping of str to int
        Rows of each node type that are known by then.
    statics : int
        Static columns that are known by then.
    missing : list of str
        Node types of the cohort or the model without a row.
    unknown : mapping of str to list of str
        Codes that the model has no name for, by node type.
    notes : list of str
        What is unlike the training.
    outcomes : mapping of str to OutcomeAnswer
        The forecast of each outcome.
    """

    landmark: Landmarks
    split: str | None
    known: Mapping[str, int]
    statics: int
    missing: list[str]
    unknown: Mapping[str, list[str]]
    notes: list[str]
    outcomes: Mapping[str, OutcomeAnswer]

    @property
    def patient(self) -> str:
        """The id."""
        return str(self.landmark.ids[0])

    @property
    def at(self) -> float:
        """The moment, in days after the patient's origin."""
        return float(self.landmark.days[0])

    @property
    def at_risk(self) -> bool:
        """Whether any outcome has an answer."""
        return any(one.at_risk for one in self.outcomes.values())

    @property
    def warnings(self) -> list[str]:
        """What to keep in mind: codes without a name in the model, and `notes`."""
        return [*unknown_notes(self.unknown), *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, as `gnnpatient ask --json` prints it.

        Returns
        -------
        dict
            Outcomes that the patient is not at risk of are left out.
        """
        return {
            "patient": self.patient,
            "at": self.at,
            "split": self.split,
            "at_risk": self.at_risk,
            "known": dict(self.known),
            "statics": self.statics,
            "missing": self.missing,
            "unknown": dict(self.unknown),
            "notes": self.notes,
            "outcomes": {name: one.to_dict() for name, one in self.outcomes.items() if one.at_risk},
        }


def answer(
    model: FittedModel | Predictor | Run | str | Path,
    cohort: Cohort,
    patient: str,
    at: float | str | None = None,
    outcome: str | None = None,
    *,
    to: float | str | None = None,
    given: float | str | None = None,
    device: str = "cpu",
) -> PatientAnswer:
    """Ask a fitted model about one patient.

    Parameters
    ----------
    model : FittedModel, Predictor, Run, str or Path
        A run, or the model alone, which does not know its training patients.
    cohort : Cohort
    patient : str
        The id.
    at : float or str, optional
        Days after the origin, "entry" or an ISO date (its end); default the last moment at which anything
        becomes known of the patient while at risk.
    outcome : str, optional
        Default all outcomes of the model.
    to : float or str, optional
        Days after the moment, or a duration as in ``"1y"``, for which a value is asked; default a few.
    given : float or str, optional
        Days after the moment, or a duration: what is expected then of a patient who is event-free until
        then, as known at the moment; of outcomes with curves.
    device : str, default "cpu"
        One patient is answered there before a GPU has woken up.

    Returns
    -------
    PatientAnswer

    Raises
    ------
    InputError
        When the patient, the outcome or the model is not there, the cohort was changed since it was packed,
        `given` is beyond the forecast or no outcome has a curve, or `to` is given and none is a value.

    See Also
    --------
    gnnpatient.patient.predictions.predict : every patient of a cohort.
    """
    position = cohort.positions(patient)
    cohort.verify(position)
    fitted = FittedModel.open(model)
    predictor, names = fitted.predictor, fitted.outcome_names(outcome)
    X = cohort.landmarks(patient, [at]) if at is not None else last_moment(cohort, patient, names)
    if to is not None:
        if not any(fitted.heads[name]["kind"] == "progression" for name in names):
            raise InputError(
                f"--to: a value is asked for by it, and {' and '.join(names)} is none; leave it out"
            )
        X = Landmarks(cohort, X.patient, X.at, X.at + after_landmark(to))
    forecasts = predictor.forecast(X, device=device)
    known = {kind: len(cohort.events[kind].visible_rows(X.patient, X.at)[2]) for kind in cohort.spec.nodes}
    seen = predictor.kinds if predictor.kinds is not None else tuple(predictor.vocabulary.codes)
    return PatientAnswer(
        landmark=X,
        split=fitted.sides(cohort, position.tolist())[0],
        known=known,
        statics=_known_statics(X),
        missing=[kind for kind in dict.fromkeys((*cohort.spec.nodes, *seen)) if not known.get(kind)],
        unknown=predictor.unknown(X),
        notes=fitted.notes(X),
        outcomes=_answers({name: f for name, f in forecasts.items() if name in names}, given),
    )


def _answers(forecasts: Mapping[str, Answer], given: float | str | None) -> dict[str, OutcomeAnswer]:
    """The answer of each outcome; those with curves given that nothing happens until then."""
    if given is None:
        return {name: ANSWERS[type(f)](f) for name, f in forecasts.items()}
    curves = {name: f for name, f in forecasts.items() if isinstance(f, Forecast)}
    if not curves:
        raise InputError(f"given event-free: {' and '.join(forecasts)} has no curve; leave it out")
    start = days(given)
    later = {name: CurveAnswer(f.given_event_free(start), start) for name, f in curves.items()}
    return {name: later[name] if name in later else ANSWERS[type(f)](f) for name, f in forecasts.items()}


def after_landmark(to: float | str) -> int:
    """Read for how long after a landmark a value is asked.

    Parameters
    ----------
    to : float or str
        Days, or a duration as in ``"1y"``.

    Returns
    -------
    int
        Seconds.

    Raises
    ------
    InputError
        When it is not above 0.
    """
    if (after := round(days(to) * DAY)) <= 0:
        raise InputError(f"to {to!r}; must be > 0, days after the landmark")
    return after


def last_moment(cohort: Cohort, patient: str, outcomes: Sequence[str]) -> Landmarks:
    """The last moment at which anything becomes known of a patient, while at risk of one of these outcomes.

    Parameters
    ----------
    cohort : Cohort
    patient : str
        The id.
    outcomes : sequence of str
        Names; those that the cohort does not have count for nothing. An outcome with moments of its own adds
        these.

    Returns
    -------
    Landmarks
        One; the last moment at all where the patient is never at risk.
    """
    position = int(cohort.positions(patient)[0])
    names = [name for name in outcomes if name in cohort.outcomes]
    known = [e.known[e.ptr[position] : e.ptr[position + 1]] for e in cohort.events.values()]
    known += [
        X.at[X.patient == position]
        for X in (cohort.moments(name) for name in names if cohort.outcomes[name].has_own_moments)
    ]
    later = (cohort.number_known, cohort.category_known)
    known += [since[position][since[position] > 0] for since in later if since is not None]
    entry = cohort.at_entry[position : position + 1] if cohort.enters[position] else [0]
    times = np.unique(np.concatenate([*known, entry]))
    X = cohort.at(times / DAY, patient=np.repeat(position, len(times)))
    if names and (risk := np.logical_or.reduce([answerable(X, name) for name in names])).any():
        X = X[risk]
    return X[-1]


def _known_statics(X: Landmarks) -> int:
    """How many static columns are known of the one patient."""
    number, category = X.cohort.statics(X.patient, X.at)
    return int(np.isfinite(number).sum() + (category >= 0).sum())


def percent(risk: np.ndarray, band: Band = None) -> str:
    """A risk in words, with its model spread. Nothing is called impossible, or certain.

    Parameters
    ----------
    risk : np.ndarray
        A probability: (1,) float.
    band : tuple of np.ndarray, optional
        Low and high of its model spread: (1,) each.

    Returns
    -------
    str

    Examples
    --------
    >>> percent(np.array([0.424])), percent(np.array([0.001]), (np.array([0.001]), np.array([0.02])))
    ('42 %', '<1 % [<1 to 2]')
    """
    around = f" [{_percentage(band[0][0])} to {_percentage(band[1][0])}]" if band else ""
    return f"{_percentage(risk[0])} %{around}"


def _percentage(risk: float) -> str:
    """A probability as a whole percentage; of one that rounds to 0 or 100 on which side of it it lies."""
    return "<1" if 0 <= risk < 0.005 else ">99" if risk > 0.995 else f"{risk * 100:.0f}"
