"""The scikit-learn and scikit-survival face: choices in, fitted things with a trailing underscore."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from sksurv.functions import StepFunction

from gnnpatient.cohort.cohort import ENTRY, Landmarks
from gnnpatient.cohort.outcomes import Diagnosis, Outcome, Survival, Task
from gnnpatient.errors import InputError, near
from gnnpatient.metrics import integrated_brier
from gnnpatient.model.heads import DiagnosisConfig, HeadConfig, SurvivalConfig
from gnnpatient.model.model import ModelConfig
from gnnpatient.prognosis.checkpoint import read_model, save_predictor
from gnnpatient.prognosis.few import coarse_incidence, coarse_shares, round_time
from gnnpatient.prognosis.fit import FitConfig, fit_modules
from gnnpatient.prognosis.forecast import Answer, DiagnosisForecast, Forecast, Predictor, restrict
from gnnpatient.prognosis.inputs import learned
from gnnpatient.prognosis.targets import (
    LabelTarget,
    Target,
    check_targets,
    landmark_nulls,
    last_estimable,
    null_incidence,
    null_shares,
    target_of,
    time_grid,
)
from gnnpatient.progress import Progress


class PrognosisModel(BaseEstimator):
    """A graph network that forecasts each patient's outcomes from what is known at an ask.

    X is always `Landmarks`. The constructor takes choices, never data; what is saved holds no patient.

    outcomes: names (default: all of survival and diagnosis); kinds: node kinds it may see (default: all, or
    the inputs of a diagnosis with `when = "same"`; () = statics alone); horizon: days up to which survival is
    forecast (default: the last that can be estimated); num_times: intervals of that time grid; members:
    networks whose mean is the answer, each stopped early on its own inner fold; conv: "sage", "gatv2", "hgt"
    or "transformer"; linear: a linear path from the last observations beside the messages; ridge: the
    penalty on its squared coefficients, beside a sum over patients (default: chosen on inner folds);
    kind_dropout: chance of a kind of node to be hidden from a training batch, so that any may be missing
    later (default: .2 where there are pictures or texts, else 0); min_patients: training patients of whom
    whatever is named, counted or scaled is learned, rarer codes going to their ancestor or to one for all
    that are rare or unknown (1: nothing is hidden, and the model is no safer than the data); device: "auto"
    is a GPU where there is one, which pays for large batches or many channels; there too the same seed gives
    the same bits, other ones than on a CPU.

    >>> from gnnpatient.datasets.shipped import pbc
    >>> cohort = pbc()
    >>> asks = cohort.landmarks(times=[0, 365]).followed()
    >>> model = PrognosisModel(horizon=5 * 365.25, members=1, epochs=1).fit(asks)
    >>> model.forecast(cohort.at(365, patient="2"))["death"].risk(cause="death", horizon=2 * 365.25).shape
    (1,)
    """

    def __init__(
        self,
        *,
        outcomes: Sequence[str] | None = None,
        kinds: Sequence[str] | None = None,
        horizon: float | None = None,
        num_times: int = 12,
        members: int = 5,
        channels: int = 32,
        num_layers: int = 2,
        dropout: float = 0.3,
        node_dropout: float = 0.0,
        conv: str = "sage",
        linear: bool = True,
        epochs: int = 30,
        patience: int = 10,
        batch_size: int = 128,
        lr: float = 4e-3,
        weight_decay: float = 0.05,
        ridge: float | None = None,
        kind_dropout: float | None = None,
        min_patients: int = 10,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.outcomes = outcomes
        self.kinds = kinds
        self.horizon = horizon
        self.num_times = num_times
        self.members = members
        self.channels = channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.node_dropout = node_dropout
        self.conv = conv
        self.linear = linear
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.ridge = ridge
        self.kind_dropout = kind_dropout
        self.min_patients = min_patients
        self.seed = seed
        self.device = device

    def fit(
        self,
        X: Landmarks,
        y: np.ndarray | None = None,
        *,
        run: str | Path | None = None,
        progress: Progress | None = None,
    ) -> PrognosisModel:
        """Train on the asks of X, and on nothing else of its cohort.

        y: None reads X's own outcomes; else, for one outcome, a structured array (ask,) of event and time
        (days after the ask), or of a diagnosis the class positions (ask,) int, -1 = not looked for. Asks of
        which nothing is known teach nothing, not even a scale. run: a folder for checkpoints; a fit that
        stopped there goes on. progress: called each epoch.
        """
        X.cohort.verify()
        names = self._names(X)
        targets = self._targets(X, y, names)
        known = np.logical_or.reduce([target.known for target in targets.values()])
        if not known.all():
            X, targets = X[known], {name: target[known] for name, target in targets.items()}
        check_targets(targets, X)
        kinds = self._kinds(X, names)
        seen = restrict(X, kinds)
        if self.num_times < 1:
            raise InputError(f"num_times {self.num_times}; 1 or more would do")
        least = self.min_patients
        if least < 1:
            raise InputError(f"min_patients {least}; 1 or more would do")
        heads: dict[str, HeadConfig] = {}
        null: dict[str, np.ndarray] = {}
        for name, target in targets.items():
            if isinstance(target, LabelTarget):
                heads[name] = DiagnosisConfig(classes=target.classes)
                null[name] = coarse_shares(null_shares(target, X.moments), target, X.patient, least)
                continue
            horizon = (
                last_estimable(target, X.patient, X.moments) if self.horizon is None else float(self.horizon)
            )
            if self.horizon is None and least > 1:
                horizon = round_time(horizon, target.time[target.event > 0])
            if not horizon > 0:
                raise InputError(f"horizon {horizon:g} days; it lies after the ask")
            if not ((target.event > 0) & (target.time <= horizon)).any():
                raise InputError(
                    f"outcome {name!r}: no events within {horizon:g} days of an ask; nothing to learn"
                )
            times = time_grid(target, X.moments, horizon, self.num_times, X.patient, least)
            heads[name] = SurvivalConfig(causes=target.causes, times=times)
            curves = null_incidence(target, X.moments, times)
            null[name] = coarse_incidence(curves, target, X.patient, times, least)
        modules = fit_modules(
            seen,
            targets,
            heads,
            null,
            ModelConfig(
                channels=self.channels,
                num_layers=self.num_layers,
                dropout=self.dropout,
                node_dropout=self.node_dropout,
                conv=self.conv,
                linear=self.linear,
            ),
            FitConfig(
                members=self.members,
                epochs=self.epochs,
                patience=self.patience,
                batch_size=self.batch_size,
                lr=self.lr,
                weight_decay=self.weight_decay,
                ridge=self.ridge,
                kind_dropout=self._kind_dropout(seen),
                min_patients=least,
                seed=self.seed,
            ),
            device=self.device,
            run=None if run is None else Path(run),
            progress=progress,
        )
        each = {
            n: landmark_nulls(t, X, tuple(heads[n].to_dict().get("times", ())), least)
            for n, t in targets.items()
        }
        nulls = {name: tables for name, tables in each.items() if tables is not None}
        self.predictor_ = Predictor(modules, kinds, null, _about(seen, targets, least), nulls)
        self.train_ids_ = frozenset(X.ids.tolist())  # in memory only: save_pretrained does not write it
        return self

    def _kind_dropout(self, X: Landmarks) -> float:
        """As chosen; by default only where pictures or texts stand among the nodes."""
        if self.kind_dropout is not None:
            return self.kind_dropout
        nodes = X.cohort.spec.nodes.values()
        return 0.2 if any(node.content for node in nodes) and len(nodes) > 1 else 0.0

    def _names(self, X: Landmarks) -> tuple[str, ...]:
        if isinstance(self.outcomes, str):
            raise InputError(
                f"outcomes = {self.outcomes!r}; a list of names would do, as in [{self.outcomes!r}]"
            )
        return tuple(X.cohort.outcomes_with_model(self.outcomes))

    def _kinds(self, X: Landmarks, names: tuple[str, ...]) -> tuple[str, ...] | None:
        if isinstance(self.kinds, str):
            raise InputError(f"kinds = {self.kinds!r}; a list of names would do, as in [{self.kinds!r}]")
        nodes = X.cohort.spec.nodes
        for kind in self.kinds or ():
            if kind not in nodes:
                raise InputError(f"unknown kind {kind!r}{near(kind, nodes)}")
        inputs = X.cohort.inputs(names)
        if hidden := sorted(set(self.kinds or ()) - set(inputs)) if inputs is not None else None:
            raise InputError(
                f"kind {hidden[0]!r}: outcome {names[0]!r} is read from {', '.join(inputs or ())} alone "
                "(when = same)"
            )
        return inputs if self.kinds is None else tuple(self.kinds)

    @staticmethod
    def _targets(
        X: Landmarks, y: np.ndarray | None, names: tuple[str, ...]
    ) -> dict[str, Target | LabelTarget]:
        X.cohort.outcomes_with_model(names)
        if y is not None:
            if len(names) != 1:
                raise InputError(f"y is for a model of one outcome; this one has {', '.join(names)}")
            return {names[0]: _given(X.cohort.outcomes[names[0]], y, len(X))}
        risk = {name: X.at_risk(name) for name in names}
        if none := int((~np.logical_or.reduce(list(risk.values()))).sum()):
            raise InputError(
                f"{none} of {len(X)} asks come when the patient is not at risk; keep the rest: .followed()"
            )
        return {name: target_of(X, name) for name in names}

    def forecast(self, X: Landmarks) -> dict[str, Answer]:
        """The forecast of each outcome: incidence curves, or probabilities of classes.

        Asks at which a patient is no longer at risk, or the label is known already, have none (nan).
        """
        check_is_fitted(self)
        return self.predictor_.forecast(X, device=self.device)

    def predict(self, X: Landmarks, *, outcome: str | None = None, cause: str | None = None) -> np.ndarray:
        """Risk at the last horizon, or probability of a class (default: the last of two): (ask,).

        Name the outcome where there are several, and the cause or class.
        """
        name = self._outcome(outcome)
        return self.forecast(X)[name].risk(cause=cause)

    def predict_survival_function(
        self,
        X: Landmarks,
        *,
        outcome: str | None = None,
        cause: str | None = None,
        return_array: bool = False,
    ) -> np.ndarray:
        """One minus the risk as scikit-survival's step functions (or an array (ask, time)).

        With several causes a survival function is not defined without more words: name a cause for one minus
        its cumulative incidence, or cause="any" for being event-free, which is not being alive.
        """
        forecast = self._curves(X, outcome)
        if cause == "any":
            curve = forecast.event_free
        else:
            try:
                curve = 1 - forecast.incidence[:, forecast.slot(cause)]
            except InputError as refusal:
                raise InputError(f"{refusal}; or 'any' for event-free") from None
        return curve if return_array else _steps(forecast.times, curve)

    def predict_cumulative_incidence(
        self, X: Landmarks, *, outcome: str | None = None, times: Sequence[float] | None = None
    ) -> np.ndarray:
        """Event-free and each cause at `times` (default: `unique_times_`): (ask, 1 + cause, time)."""
        forecast = self._curves(X, outcome)
        if times is None:
            return forecast.incidence
        risks = np.stack([forecast.risks(list(times), cause) for cause in forecast.causes], 1)
        return np.concatenate([1 - risks.sum(1, keepdims=True), risks], 1)

    def score(self, X: Landmarks, y: np.ndarray | None = None) -> float:
        """One minus the share of the null's error that is left: mean over causes and outcomes; null: 0.

        Of a cause: IBS, beside that of the training asks' Aalen-Johansen. Of a diagnosis: the Brier score
        over all classes (Brier 1950), beside that of the training asks' shares.
        """
        check_is_fitted(self)
        overlap = len(self.train_ids_ & set(X.ids.tolist()))
        if overlap:
            warnings.warn(
                f"{overlap} of the scored patients were trained on: the score flatters", stacklevel=2
            )
        scores = []
        targets = self._targets(X, y, self.predictor_.outcomes)
        for name, forecast in self.forecast(X).items():
            target, known = targets[name], targets[name].known
            null = self.predictor_.null_at(name, X[known])
            if isinstance(target, LabelTarget):
                assert isinstance(forecast, DiagnosisForecast)
                truth = np.eye(len(target.classes))[target.label[known]]
                share = target.share[known, None]
                error, other = (
                    (share * np.square(p - truth)).sum() for p in (forecast.probability[known], null)
                )
                if other:
                    scores.append(1 - float(error / other))
                continue
            assert isinstance(forecast, Forecast)
            time, event = target.time[known], target.event[known]
            for k in range(1, 1 + len(forecast.causes)):
                own, _ = integrated_brier(forecast.incidence[known, k], forecast.times, time, event, cause=k)
                base, _ = integrated_brier(null[:, k], forecast.times, time, event, cause=k)
                if base != 0:  # else nobody had this cause here or in training: nothing to explain
                    scores.append(1 - own / base)
        return float(np.mean(scores)) if scores else np.nan

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors and a card to a new folder. No patient is in them.

        Nor is the device: what a GPU fitted is asked wherever it is loaded.
        """
        check_is_fitted(self)
        save_predictor(self.predictor_, folder, self.get_params() | {"device": "auto"})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> PrognosisModel:
        """Load what `save_pretrained` wrote, or the run of the command line that holds it."""
        predictor, choices = read_model(folder)
        if unknown := set(choices) - set(cls().get_params()):
            name = sorted(unknown)[0]
            raise InputError(f"{folder}: unknown choice {name!r}{near(name, cls().get_params())}")
        model = cls(**choices)
        model.predictor_ = predictor
        model.train_ids_ = frozenset()
        return model

    @property
    def unique_times_(self) -> np.ndarray:
        """Days after the ask at which the curves are given, for a model of one outcome."""
        return np.array(self._survival(self._outcome(None)).times)

    def _survival(self, name: str) -> SurvivalConfig:
        head = self.predictor_.modules[0].head(name).config
        if not isinstance(head, SurvivalConfig):
            raise InputError(
                f"outcome {name!r} is a diagnosis: probabilities, no curve; .predict or .forecast gives them"
            )
        return head

    def _outcome(self, outcome: str | None) -> str:
        check_is_fitted(self)
        names = self.predictor_.outcomes
        if outcome is None and len(names) > 1:
            raise InputError(f"several outcomes; name one of {', '.join(names)}")
        if outcome is not None and outcome not in names:
            raise InputError(f"unknown outcome {outcome!r}{near(outcome, names)}")
        return outcome or names[0]

    def _curves(self, X: Landmarks, outcome: str | None) -> Forecast:
        name = self._outcome(outcome)
        self._survival(name)
        forecast = self.forecast(X)[name]
        assert isinstance(forecast, Forecast)
        return forecast


def _given(outcome: Outcome, y: np.ndarray, size: int) -> Target | LabelTarget:
    """What y says of one outcome."""
    if isinstance(outcome, Diagnosis | Task):
        last = len(outcome.classes) - 1
        if y.shape != (size,) or y.dtype.kind not in "iu" or not ((y >= -1) & (y <= last)).all():
            raise InputError(
                f"y: an int array, one entry an ask: 0 to {last} for {', '.join(outcome.classes)}, -1 = not "
                "looked for"
            )
        return LabelTarget(outcome.classes, y.astype(np.int64))
    assert isinstance(outcome, Survival)
    if y.dtype.names is None or len(y.dtype.names) != 2 or len(y) != size:
        raise InputError(
            "y: a structured array of event and time, one entry an ask, for a model of one outcome"
        )
    event, time = (y[field] for field in y.dtype.names)
    causes = outcome.causes
    if event.dtype.kind not in "biu" or not ((event >= 0) & (event <= len(causes))).all():
        raise InputError(
            f"y: its first field is the event: 0 censored, 1 to {len(causes)} for {', '.join(causes)}"
        )
    if not (np.isfinite(time) & (time > 0)).all():
        raise InputError("y: its second field is the time, days after the ask, above 0")
    return Target(causes, event.astype(np.int64), time.astype(float))


def _steps(times: np.ndarray, curves: np.ndarray) -> np.ndarray:
    start = np.append(0.0, times)
    out = np.empty(len(curves), dtype=object)
    out[:] = [StepFunction(start, np.append(1.0, curve)) for curve in curves]
    return out


def _about(X: Landmarks, targets: dict[str, Target | LabelTarget], least: int) -> dict[str, Any]:
    """Counts for the card, and what is known of the inputs."""
    who = lambda rows: len(np.unique(X.patient[rows]))  # noqa: E731
    return {
        "cohort": X.cohort.spec.cohort,
        "spec_hash": X.cohort.spec.hash,
        "patients": len(np.unique(X.patient)),
        "asks": len(X),
        "landmarks": _span(X, least),
        "at_entry": bool((X.moments == ENTRY).any()),
        "inputs": learned(X, least),
        "encoders": dict(X.cohort.report.get("encoders", {})),
        "events": {
            name: {what: who(asks) for what, asks in target.counted.items()}
            for name, target in targets.items()
        },
    }


def _span(X: Landmarks, least: int) -> list[float]:
    """The first and the last day at which patients are asked, of landmarks with at least so many patients.

    Where the days of a landmark are each patient's own, as at entry, as many patients lie beyond either end,
    which is rounded: nobody's own day is told.
    """
    ends: list[float] = []
    for rows in X.by_landmark.values() if len(X) else ():
        days = np.sort(X.days[rows])
        if len(np.unique(X.patient[rows])) >= least:
            ends += [days[0]] if days[0] == days[-1] else _beyond(days, least - 1)
    if not ends:  # moments of their own, each of few
        ends = _beyond(np.sort(X.days), least - 1)
    return [float(min(ends)), float(max(ends))]


def _beyond(days: np.ndarray, some: int) -> list[float]:
    """The days, sorted, between which all but so many on either side lie, to two digits."""
    own = min(some, (len(days) - 1) // 2)
    return [float(f"{day:.2g}") for day in (days[own], days[-1 - own])]
