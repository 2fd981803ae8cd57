"""The model as an estimator of scikit-learn and scikit-survival."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from sksurv.functions import StepFunction

from gnnpatient.cohort.cohort import ENTRY, Landmarks, check_landmarks
from gnnpatient.errors import InputError, near
from gnnpatient.model.heads import HeadConfig
from gnnpatient.model.model import ModelConfig
from gnnpatient.prognosis.checkpoint import read_model, save_predictor
from gnnpatient.prognosis.families import FAMILIES
from gnnpatient.prognosis.fit import fit_families, fit_stacks, foreseen, pose
from gnnpatient.prognosis.forecast import Forecast, Forecasts
from gnnpatient.prognosis.inputs import learned, restrict
from gnnpatient.prognosis.kinds import KINDS, target_of
from gnnpatient.prognosis.marginal import landmark_marginals, overall_marginal
from gnnpatient.prognosis.predictor import Predictor
from gnnpatient.prognosis.problem import FitConfig
from gnnpatient.prognosis.targets import Target, check_targets
from gnnpatient.prognosis.value_target import ProgressionTarget
from gnnpatient.prognosis.values import ProgressionForecast
from gnnpatient.prognosis.weights import group_weights
from gnnpatient.progress import Progress, shown
from gnnpatient.show import Summary
from gnnpatient.times import days

NOT_SAVED = ("verbose", "linear", "ridge")  # no part of what is computed, or of the last release
Config = TypeVar("Config", ModelConfig, FitConfig)


class PrognosisModel(BaseEstimator):
    """Forecasts each patient's outcomes from what is known at a landmark.

    Three families of models answer together: a linear model of the last observations, boosted trees over the
    history, and a graph network over the whole record in time. Each member of each family is fitted without
    one inner fold of the patients; what it says of them decides how much of the answer each family gives,
    and whether the graph is shown to add anything. With fewer than 100 such patients with the event nothing
    of the kind is learned: linear and boosted answer in equal parts.

    `X` is always `Landmarks`. The constructor takes choices, never data; a saved model holds no patient.

    Parameters
    ----------
    outcomes : sequence of str, optional
        Names of the outcomes; default: all of survival and diagnosis.
    kinds : sequence of str, optional
        Node types that it may see, () for statics alone; default: all, or the inputs of a diagnosis with
        ``when = "same"``.
    horizon : float or str, optional
        Days up to which survival is forecast, or a duration as in ``"5y"``; default: the last horizon that
        can be estimated.
    num_times : int
        Intervals of the time grid, at most.
    families : sequence of str
        Which of ``"linear"``, ``"boosted"`` and ``"graph"`` are fitted; one alone answers alone.
    members : int
        How often each family is fitted; the forecast is the mean over members. Each member holds out a fifth
        of the patients, and the weights of the families are learned from those that are held out: with fewer
        than five members some never are, and a small cohort may have too few with the event.
    channels : int
        Channels of a node.
    num_layers : int
        Rounds of messages.
    dropout : float
        Share of the channels that is dropped in training.
    node_dropout : float
        Share of the event nodes whose content is hidden in training.
    conv : str or type
        ``"temporal"``, ``"sage"``, ``"gatv2"``, ``"hgt"``, ``"transformer"`` or ``"gru"``; or a class, see
        `gnnpatient.model.layers`.
    encoders : mapping of str to type, optional
        Encoders of your own by node type, see `gnnpatient.model.encode.NodeEncoder`; default: none.
    relations : sequence of str, optional
        Names of the relations that carry messages; default: all.
    epochs : int
        Epochs of each network, at most; 0: no training, which leaves a network that answers as the marginal
        model. Linear and boosted have none.
    patience : int
        Epochs without a better validation loss after which a network stops.
    batch_size : int
        Landmarks per batch.
    lr : float
        Highest learning rate.
    weight_decay : float
        Decay of the weights (AdamW).
    kind_dropout : float, optional
        Chance of a node type to be hidden from a training batch, so that any may be missing later; default:
        0.2 where there are images or texts, else 0.
    min_patients : int
        Fewest training patients from whom a name, a count or a scale is learned. Rarer codes go to their
        ancestor, or to one code for all that are rare or unknown. With 1 nothing is hidden, and the model is
        no safer than the data.
    weights : str, optional
        Column of groups that count alike in the fit, however many patients they have: a category of the
        baseline covariates or ``"group"``, by one over the number of training patients of each; or a number
        of the covariates that is the weight itself. Default: every patient counts the same. What is learned
        is no longer the risk in a population like that of training. Bounds, intervals and sets are calibrated
        on patients as they are, each counting the same: what is promised holds among them on average, not in
        each group.
    seed : int
        Seed of all draws.
    device : str
        ``"auto"`` (a GPU where there is one), ``"cpu"`` or ``"cuda"``. A GPU pays for large batches or many
        channels; the same seed gives the same bits on it, other ones than on a CPU.
    cause : str, optional
        The cause, or class, that `predict` and `predict_survival_function` are about where none is named, and
        the cause that `score` is of, so that scorers of scikit-learn and scikit-survival need not name it.
        What is learned is the same.
    verbose : bool
        Whether `fit` shows how far it is: bars in a terminal or a notebook, lines in a log.
    linear, ridge : optional
        Of the last release, do nothing: ``linear=False`` is ``families=("graph",)`` now, and the ridge is
        chosen on inner folds.

    Attributes
    ----------
    predictor_ : Predictor
        The fitted families and their weights.
    train_ids_ : frozenset of str
        Ids of the training patients; in memory only, never saved.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> cohort = pbc()
    >>> X = cohort.landmarks(times=[0, 365]).followed()
    >>> model = PrognosisModel(horizon=5 * 365.25, members=1, epochs=1).fit(X)
    >>> model.forecast(cohort.at(365, patient="2"))["death"].risk(cause="death", horizon=2 * 365.25).shape
    (1,)
    """

    def __init__(
        self,
        *,
        outcomes: Sequence[str] | None = None,
        kinds: Sequence[str] | None = None,
        horizon: float | str | None = None,
        num_times: int = 12,
        families: Sequence[str] = tuple(FAMILIES),
        members: int = FitConfig.members,
        channels: int = ModelConfig.channels,
        num_layers: int = ModelConfig.num_layers,
        dropout: float = ModelConfig.dropout,
        node_dropout: float = ModelConfig.node_dropout,
        conv: str | type = ModelConfig.conv,
        encoders: Mapping[str, type] | None = None,
        relations: Sequence[str] | None = None,
        epochs: int = FitConfig.epochs,
        patience: int = FitConfig.patience,
        batch_size: int = FitConfig.batch_size,
        lr: float = FitConfig.lr,
        weight_decay: float = FitConfig.weight_decay,
        kind_dropout: float | None = None,
        min_patients: int = FitConfig.min_patients,
        weights: str | None = None,
        seed: int = FitConfig.seed,
        device: str = "auto",
        cause: str | None = None,
        verbose: bool = False,
        linear: bool | None = None,
        ridge: float | None = None,
    ) -> None:
        self.outcomes = outcomes
        self.kinds = kinds
        self.horizon = horizon
        self.num_times = num_times
        self.families = families
        self.members = members
        self.channels = channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.node_dropout = node_dropout
        self.conv = conv
        self.encoders = encoders
        self.relations = relations
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.kind_dropout = kind_dropout
        self.min_patients = min_patients
        self.weights = weights
        self.seed = seed
        self.device = device
        self.cause = cause
        self.verbose = verbose
        self.linear = linear
        self.ridge = ridge

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """The choices that are not the defaults, as scikit-learn writes them, and what was fitted."""
        choices: str = super().__repr__(N_CHAR_MAX)
        return f"{choices}\n{self._fitted().text()}" if hasattr(self, "predictor_") else choices

    def _html_repr(self) -> str:
        choices = super().__repr__(700)
        if not hasattr(self, "predictor_"):
            return Summary(choices, [("not fitted yet", "call .fit(X) with landmarks")]).html()
        fitted = self._fitted()
        return Summary(choices, [("", fitted.title), *fitted.facts]).html()

    def _fitted(self) -> Summary:
        """What was fitted; no count of it is of fewer than `min_patients` patients."""
        return self.predictor_.summary(self.min_patients)

    def fit(
        self,
        X: Landmarks,
        y: np.ndarray | None = None,
        *,
        run: str | Path | None = None,
        progress: Progress | bool | None = None,
    ) -> PrognosisModel:
        """Train on the landmarks of X, and on nothing else of its cohort.

        Landmarks without a known outcome teach nothing, not even a scale.

        Parameters
        ----------
        X : Landmarks
            The training landmarks.
        y : ndarray, optional
            For one outcome: of survival a structured array of event (0 = censored, k = the k-th cause) and
            time (days after the landmark); of a diagnosis class positions, int, -1 = never looked for. With
            several causes event may be whether the model's `cause` came, as scikit-survival wants it: then
            it must be X's own, and every cause is learned. Default: X's own outcomes.
        run : str or Path, optional
            Folder for checkpoints; a fit that stopped there goes on.
        progress : Progress or bool, optional
            Called after each epoch; True for bars. Default: bars if `verbose`.

        Returns
        -------
        PrognosisModel
            Itself.

        Raises
        ------
        InputError
            When a choice is out of range, a name is unknown, patients are not at risk, or there is nothing to
            learn.
        """
        check_landmarks(X, "fit").cohort.verify()
        names = self._names(X)
        self._check_cause(X, names)
        X, targets = _known(X, _with_gone(X, self._chosen(X, self._targets(X, y, names))))
        check_targets(targets, X)
        kinds = self._kinds(X, tuple(targets))
        families = self._families()
        self._check_sizes()
        seen = restrict(X, kinds)
        heads = self._heads(X, targets)
        targets = {
            name: target.posed(heads[name], seen, name, self.min_patients) for name, target in targets.items()
        }
        if isinstance(self.relations, str):
            raise InputError(
                f"relations = {self.relations!r}; must be a list of names, as in [{self.relations!r}]"
            )
        relations = ModelConfig.relations if self.relations is None else tuple(self.relations)
        model = self._config(ModelConfig, relations=relations)
        for kind in model.encoders or ():  # before the other families are fitted
            if kind not in X.cohort.spec.nodes:
                raise InputError(f"encoders: unknown node type {kind!r}{near(kind, X.cohort.spec.nodes)}")
        config = self._config(FitConfig, kind_dropout=self._kind_dropout(seen))
        folder = None if run is None else Path(run)
        weight = None if self.weights is None else group_weights(seen, self.weights, self.min_patients)
        with shown(self.verbose if progress is None else progress) as report:
            problem = pose(seen, targets, heads, model, config, self.device, folder, report, weight)
            if report:
                for line in foreseen(problem, families):
                    report(line, 0, 0)
            fitted = fit_families(problem, families)
            stacks, calibrations = fit_stacks(problem, fitted)
        null, nulls = {}, {}
        for name, target in targets.items():
            times = heads[name].times
            null[name] = overall_marginal(target, X, times, self.min_patients)
            if (table := landmark_marginals(target, X, times, self.min_patients)) is not None:
                nulls[name] = table
        about = _about(seen, targets, self.min_patients)
        known = problem.vocabulary, problem.bases
        self.predictor_ = Predictor(fitted, stacks, heads, *known, kinds, null, about, nulls, calibrations)
        self.train_ids_ = frozenset(X.ids.tolist())
        return self

    def _chosen(self, X: Landmarks, targets: dict[str, Target]) -> dict[str, Target]:
        """Those of them that can be learned, where nobody named them; says which are left out."""
        found = dict(targets)
        for name, target in targets.items() if self.outcomes is None else ():
            few = target.informative(X.patient)
            if isinstance(target, ProgressionTarget) and few < max(self.min_patients, 2) and len(found) > 1:
                warnings.warn(
                    f"outcome {name!r} left out: {few} patients have a later value, and "
                    f"{max(self.min_patients, 2)} are needed (min_patients)",
                    stacklevel=3,
                )
                del found[name]
        return found

    def _heads(self, X: Landmarks, targets: Mapping[str, Target]) -> dict[str, HeadConfig]:
        """What is learned of each outcome; a value no longer than it is known who is gone by then."""
        horizon, heads = None if self.horizon is None else days(self.horizon), dict[str, HeadConfig]()
        for name in sorted(targets, key=lambda name: isinstance(targets[name], ProgressionTarget)):
            target, end = targets[name], horizon
            if isinstance(target, ProgressionTarget) and target.gone is not None:
                end = heads[target.gone].times[-1]
            heads[name] = target.head_config(name, X, end, self.num_times, self.min_patients)
        return {name: heads[name] for name in targets}

    def _check_cause(self, X: Landmarks, names: tuple[str, ...]) -> None:
        if self.cause is None:
            return
        known = {cause for name in names for cause in X.cohort.outcomes[name].names}
        if self.cause not in known:
            raise InputError(f"cause {self.cause!r} is of no outcome here{near(self.cause, sorted(known))}")

    def _check_sizes(self) -> None:
        for name in ("num_times", "min_patients"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}; must be >= 1")

    def _families(self) -> tuple[str, ...]:
        """Names of the families; what the last release called otherwise is said in the new words."""
        if self.ridge is not None:
            warnings.warn("ridge does nothing: it is chosen on inner folds; leave it out", FutureWarning, 3)
        families = self.families
        if self.linear is not None:
            instead = "families=('graph',)" if not self.linear else "leave it out"
            warnings.warn(f"linear={self.linear} is of the last release; write {instead}", FutureWarning, 3)
            families = families if self.linear else ("graph",)
        if isinstance(families, str):
            raise InputError(f"families = {families!r}; must be a list of names, as in [{families!r}]")
        if not isinstance(families, Iterable):
            raise InputError(f"families = {families!r}; must be a list of names, as in {list(FAMILIES)}")
        for name in families:
            if name not in FAMILIES:
                raise InputError(f"unknown family {name!r}{near(name, FAMILIES)}")
        if not len(families):
            raise InputError("families is empty; name at least one")
        if twice := sorted({name for name in families if list(families).count(name) > 1}):
            raise InputError(f"families: {twice[0]!r} is named twice")
        return tuple(families)

    def _config(self, cls: type[Config], **others: Any) -> Config:
        """A configuration of these choices, but for `others`."""
        return cls(**{field.name: getattr(self, field.name) for field in fields(cls)} | others)

    def _kind_dropout(self, X: Landmarks) -> float:
        """The choice; by default 0.2 only where there are images or texts among several node types."""
        if self.kind_dropout is not None:
            return self.kind_dropout
        nodes = X.cohort.spec.nodes.values()
        return 0.2 if any(node.content for node in nodes) and len(nodes) > 1 else 0.0

    def _names(self, X: Landmarks) -> tuple[str, ...]:
        if isinstance(self.outcomes, str):
            raise InputError(
                f"outcomes = {self.outcomes!r}; must be a list of names, as in [{self.outcomes!r}]"
            )
        return tuple(X.cohort.outcomes_with_model(self.outcomes))

    def _kinds(self, X: Landmarks, names: tuple[str, ...]) -> tuple[str, ...] | None:
        if isinstance(self.kinds, str):
            raise InputError(f"kinds = {self.kinds!r}; must be a list of names, as in [{self.kinds!r}]")
        nodes = X.cohort.spec.nodes
        for kind in self.kinds or ():
            if kind not in nodes:
                raise InputError(f"unknown node type {kind!r}{near(kind, nodes)}")
        inputs = X.cohort.inputs(names)
        if hidden := sorted(set(self.kinds or ()) - set(inputs)) if inputs is not None else None:
            raise InputError(
                f"node type {hidden[0]!r}: outcome {names[0]!r} is read from {', '.join(inputs or ())} alone "
                "(when = same)"
            )
        return inputs if self.kinds is None else tuple(self.kinds)

    def _targets(self, X: Landmarks, y: np.ndarray | None, names: tuple[str, ...]) -> dict[str, Target]:
        X.cohort.outcomes_with_model(names)
        if y is not None:
            if len(names) != 1:
                raise InputError(f"y is for a model of one outcome; this one has {', '.join(names)}")
            y, outcome = np.asarray(y), X.cohort.outcomes[names[0]]
            if outcome.has_curve and len(outcome.names) > 1 and _is_of_one_cause(y):
                if y.dtype[0].kind == "b":
                    self._check_own(X, y, names[0], outcome.names)
                    return {names[0]: target_of(X, names[0])}
                if self.cause and X.at_risk(names[0]).all() and self._is_own(X, y, names[0]):
                    return {names[0]: target_of(X, names[0])}
            return {names[0]: KINDS[outcome.kind].target.from_y(outcome, y, len(X))}
        risk = {name: X.at_risk(name) for name in names}
        if none := int((~np.logical_or.reduce(list(risk.values()))).sum()):
            raise InputError(
                f"{none} of {len(X)} landmarks are not at risk; keep the others with .followed()"
            )
        return {name: target_of(X, name) for name in names}

    def _check_own(self, X: Landmarks, y: np.ndarray, name: str, causes: tuple[str, ...]) -> None:
        """Refuse a `y` of one cause that is not X's own: what became of the other causes is not in it."""
        if self.cause is None:
            raise InputError(
                f"y: its event is yes or no, and outcome {name!r} has several causes; name the one that is "
                f"meant, as in PrognosisModel(cause={causes[-1]!r}), or leave y out"
            )
        if not self._is_own(X, y, name):
            raise InputError(
                f"y: not event and time of {self.cause!r} as X.outcome({name!r}, cause={self.cause!r}) gives "
                "them; for others give every cause as a number, 0 = censored, or leave y out"
            )

    def _is_own(self, X: Landmarks, y: np.ndarray, name: str) -> bool:
        """Whether `y` is event (yes or no) and time of the model's cause as X itself has them."""
        own, (event, time) = X.outcome(name, cause=self.cause), (y[field] for field in y.dtype.names or ())
        return len(y) == len(own) and bool(((event == own["event"]) & np.isclose(time, own["time"])).all())

    def forecast(self, X: Landmarks, families: str | Collection[str] | None = None) -> Forecasts:
        """Forecast each outcome: incidence curves, or probabilities of classes.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times. Where a patient is no longer at risk, or the label is known already,
            the forecast is nan.
        families : str or collection of str, optional
            Who answers: names of families, as ``"linear"`` or ``["linear", "graph"]``, or ``"nograph"`` for
            all but the graph with the weights that were learned without it; default: all.

        Returns
        -------
        Forecasts
            A dict of str to Forecast, DiagnosisForecast or ProgressionForecast.
        """
        check_is_fitted(self)
        return self.predictor_.forecast(X, device=self.device, families=families)

    def predict(self, X: Landmarks, *, outcome: str | None = None, cause: str | None = None) -> np.ndarray:
        """Predict the risk at the last horizon, the probability of a class, or the mean of a value.

        A value is that at the time which each landmark asks for, as in ``cohort.at(365, to=730)``.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.
        outcome : str, optional
            Name of the outcome; needed where there are several.
        cause : str, optional
            Name of the cause, needed where there are several; of a diagnosis the class, default the last of
            two. Before these defaults comes the model's own `cause`.

        Returns
        -------
        ndarray
            (landmark,) float64.

        Raises
        ------
        InputError
            When a name is unknown or missing.
        """
        name = self._outcome(outcome)
        answer = self.forecast(X)[name]
        if isinstance(answer, ProgressionForecast):
            return answer.mean()
        return answer.risk(cause=self._cause(cause, answer.names))

    def predict_survival_function(
        self,
        X: Landmarks,
        *,
        outcome: str | None = None,
        cause: str | None = None,
        return_array: bool = False,
    ) -> np.ndarray:
        """Predict one minus the risk as scikit-survival's step functions.

        With several causes a survival function is not defined by itself: name a cause for one minus its
        cumulative incidence, or ``"any"`` for being event-free, which is not being alive.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.
        outcome : str, optional
            Name of the outcome; needed where there are several.
        cause : str, optional
            Name of a cause, or ``"any"``; default: the model's `cause`, else the only one.
        return_array : bool
            Whether to return an array (landmark, time) instead, default False.

        Returns
        -------
        ndarray
            (landmark,) of `sksurv.functions.StepFunction`, or (landmark, time) float64.

        Raises
        ------
        InputError
            When a name is unknown or missing, or the outcome is a diagnosis.
        """
        forecast = self._curves(X, outcome)
        cause = self._cause(cause, forecast.names)
        if cause == "any":
            curve = forecast.event_free
        else:
            try:
                curve = 1 - forecast.incidence[:, forecast.slot(cause)]
            except InputError as refusal:
                raise InputError(f"{refusal}; or 'any' for event-free") from None
        return curve if return_array else _steps(forecast.times, curve)

    def predict_cumulative_incidence(
        self, X: Landmarks, *, outcome: str | None = None, times: Sequence[float | str] | None = None
    ) -> np.ndarray:
        """Predict being event-free and each cause by several times.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.
        outcome : str, optional
            Name of the outcome; needed where there are several.
        times : sequence of float or str, optional
            Days after the landmark, or durations as in ``"5y"``; default: `unique_times_`.

        Returns
        -------
        ndarray
            (landmark, 1 + cause, time) float64.

        Raises
        ------
        InputError
            When a time lies beyond the horizon, a name is unknown or missing, or the outcome is a diagnosis.
        """
        forecast = self._curves(X, outcome)
        if times is None:
            return forecast.incidence
        risks = np.stack([forecast.risks(times, cause) for cause in forecast.causes], 1)
        return np.concatenate([1 - risks.sum(1, keepdims=True), risks], 1)

    def score(self, X: Landmarks, y: np.ndarray | None = None) -> float:
        """Score the forecasts: one minus their error over that of the marginal model ("null").

        The mean over causes and outcomes; with a `cause`, that one alone of an outcome that has it. The
        marginal model, without inputs, scores 0. Of a cause: the integrated Brier score, beside that of the
        training landmarks' Aalen-Johansen estimate. Of a diagnosis: the Brier score over all classes, beside
        that of the training landmarks' shares. Warns when some of the patients were trained on.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.
        y : ndarray, optional
            As in `fit`; default: X's own outcomes.

        Returns
        -------
        float
            nan where nothing can be scored.
        """
        check_is_fitted(self)
        check_landmarks(X, "score")
        overlap = len(self.train_ids_ & set(X.ids.tolist()))
        if overlap:
            warnings.warn(
                f"{overlap} of the scored patients were trained on: the score is too good", stacklevel=2
            )
        scores: list[float] = []
        targets = self._targets(X, y, self.predictor_.outcomes)
        for name, forecast in self.forecast(X).items():
            null = self.predictor_.null_at(name, X[targets[name].known])
            scores += targets[name].skills(forecast, null, self._cause(None, forecast.names))
        return float(np.mean(scores)) if scores else np.nan

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors and a card to a new folder.

        No patient is in them, nor the device: what was fitted on a GPU can be loaded anywhere.

        Parameters
        ----------
        folder : str or Path
            A new or empty folder.

        Raises
        ------
        InputError
            When the folder is not empty or cannot be written.
        """
        check_is_fitted(self)
        choices = {name: value for name, value in self.get_params().items() if name not in NOT_SAVED}
        if isinstance(self.conv, type):
            choices["conv"] = self.conv.__name__
        if self.encoders is not None:
            choices["encoders"] = {kind: encoder.__name__ for kind, encoder in self.encoders.items()}
        choices |= {"families": list(self.predictor_.families), "device": "auto"}
        save_predictor(self.predictor_, folder, choices)

    @classmethod
    def from_pretrained(cls, folder: str | Path, layers: Mapping[str, type] | None = None) -> PrognosisModel:
        """Load what `save_pretrained` wrote.

        Parameters
        ----------
        folder : str or Path
            The folder of a model, or the run that holds it.
        layers : mapping of str to type, optional
            Classes of your own, layers and encoders, by the names that the model was fitted with, as in
            ``{"MyConv": MyConv}``: a model folder holds no code.

        Returns
        -------
        PrognosisModel

        Raises
        ------
        InputError
            When it is no model, of another version, or a file was changed.
        """
        predictor, choices = read_model(folder, layers)
        if unknown := set(choices) - set(cls().get_params()):
            name = sorted(unknown)[0]
            raise InputError(f"{folder}: unknown choice {name!r}{near(name, cls().get_params())}")
        model = cls(**choices)
        model.families = tuple(predictor.families)
        if layers and model.conv in layers:
            model.conv = layers[str(model.conv)]
        if layers and model.encoders:
            model.encoders = {kind: layers[str(name)] for kind, name in model.encoders.items()}
        model.predictor_ = predictor
        model.train_ids_ = frozenset()
        return model

    @property
    def unique_times_(self) -> np.ndarray:
        """Days after the landmark at which the curves have their points, for a model of one outcome."""
        return np.array(self._times(self._outcome(None)))

    def _times(self, name: str) -> tuple[float, ...]:
        head = self.predictor_.heads[name]
        if not head.times:
            raise InputError(
                f"outcome {name!r} is a {head.kind}: no curve; .predict or .forecast give probabilities"
            )
        return head.times

    def _outcome(self, outcome: str | None) -> str:
        check_is_fitted(self)
        names = self.predictor_.outcomes
        if outcome is None and self.outcomes and len(tuple(self.outcomes)) == 1:
            return next(iter(self.outcomes))  # beside the outcome that ends it
        if outcome is None and len(names) > 1:
            raise InputError(f"several outcomes; name one of {', '.join(names)}, as in outcome={names[0]!r}")
        if outcome is not None and outcome not in names:
            raise InputError(f"unknown outcome {outcome!r}{near(outcome, names)}")
        return outcome or names[0]

    def _cause(self, cause: str | None, names: tuple[str, ...]) -> str | None:
        """The cause that is meant where none is named."""
        return self.cause if cause is None and self.cause in names else cause

    def _curves(self, X: Landmarks, outcome: str | None) -> Forecast:
        name = self._outcome(outcome)
        self._times(name)
        return cast(Forecast, self.forecast(X)[name])


def _is_of_one_cause(y: np.ndarray) -> bool:
    """Whether the event of a structured array is yes or no, or 0 or 1, as a table of numbers has it."""
    if y.dtype.names is None or len(y.dtype.names) != 2:
        return False
    event = y[y.dtype.names[0]]
    return event.dtype.kind == "b" or bool(event.dtype.kind in "iu" and np.isin(event, (0, 1)).all())


def _with_gone(X: Landmarks, targets: dict[str, Target]) -> dict[str, Target]:
    """The targets, and after them the outcomes whose events end a progression among them."""
    ends = [target.gone for target in targets.values() if isinstance(target, ProgressionTarget)]
    return targets | {name: target_of(X, name) for name in ends if name is not None and name not in targets}


def _known(X: Landmarks, targets: dict[str, Target]) -> tuple[Landmarks, dict[str, Target]]:
    """The landmarks at which some outcome is known."""
    known = np.logical_or.reduce([target.known for target in targets.values()])
    if known.all():
        return X, targets
    return X[known], {name: target[known] for name, target in targets.items()}


def _steps(times: np.ndarray, curves: np.ndarray) -> np.ndarray:
    start = np.append(0.0, times)
    out = np.empty(len(curves), dtype=object)
    out[:] = [StepFunction(start, np.append(1.0, curve)) for curve in curves]
    return out


def _about(X: Landmarks, targets: dict[str, Target], least: int) -> dict[str, Any]:
    """Counts for the card, and what is known of the inputs."""
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
            name: {what: len(np.unique(X.patient[rows])) for what, rows in target.counts.items()}
            for name, target in targets.items()
        },
    }


def _span(X: Landmarks, least: int) -> list[float]:
    """The first and the last day of training landmarks, over times with at least `least` patients.

    Where the days of a landmark time are each patient's own, as at entry, as many patients lie beyond either
    end, which is rounded: no patient's own day is written down.
    """
    ends: list[float] = []
    for rows in X.by_landmark.values() if len(X) else ():
        days = np.sort(X.days[rows])
        if len(np.unique(X.patient[rows])) >= least:
            ends += [days[0]] if days[0] == days[-1] else _beyond(days, least - 1)
    # landmark times of their own, each of few patients
    if not ends:
        ends = _beyond(np.sort(X.days), least - 1)
    return [float(min(ends)), float(max(ends))]


def _beyond(days: np.ndarray, count: int) -> list[float]:
    """Two days between which all but `count` of the sorted days on either side lie, to two digits."""
    rank = min(count, (len(days) - 1) // 2)
    return [float(f"{day:.2g}") for day in (days[rank], days[-1 - rank])]
