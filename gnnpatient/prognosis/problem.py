"""What every family of models learns from, and what a fitted one must offer."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from gnnpatient import __version__
from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.splits import StratifiedPatientKFold, landmark_weights
from gnnpatient.errors import InputError
from gnnpatient.graphs import Graphs
from gnnpatient.model.basis import Basis
from gnnpatient.model.heads import HeadConfig
from gnnpatient.model.model import ModelConfig
from gnnpatient.model.vocabulary import Vocabulary
from gnnpatient.prognosis.marginal import overall_marginal
from gnnpatient.prognosis.targets import Target
from gnnpatient.prognosis.value_target import ProgressionTarget
from gnnpatient.progress import Progress

FOLDS = 5  # inner folds: member m learns without fold m modulo five
STOP_SHARE = 6  # of a member's patients every sixth decides when its training stops


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a model is trained.

    Attributes
    ----------
    members : int
        Members whose mean is the forecast, each fitted without one inner fold, default 5.
    epochs : int
        Epochs of each network at most, default 30; 0: the state before training, which is the marginal model.
    patience : int
        Epochs without a better validation loss after which a network stops, default 5.
    batch_size : int
        Landmarks per batch, default 128.
    lr : float
        Highest learning rate, default 3e-3.
    weight_decay : float
        Decay of the weights (AdamW, times the learning rate a step), default 1.
    kind_dropout : float
        Chance of each node type to be hidden from a batch (modality dropout), default 0.
    min_patients : int
        Fewest patients from whom a name, a count or a scale is learned, default 10.
    seed : int
        Seed of all draws, default 0.

    Raises
    ------
    InputError
        When a count is below 1 (`epochs` below 0), `kind_dropout` not from 0 to below 1, or a rate negative
        or not finite.
    """

    members: int = 5
    epochs: int = 30
    patience: int = 5
    batch_size: int = 128
    lr: float = 3e-3
    weight_decay: float = 1.0
    kind_dropout: float = 0.0
    min_patients: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, fewest in (("members", 1), ("epochs", 0), ("patience", 1), ("batch_size", 1)):
            count = getattr(self, name)
            if not isinstance(count, Integral):
                raise InputError(f"{name} = {count!r}; must be a whole number")
            if count < fewest:
                raise InputError(f"{name} {count}; must be >= {fewest}")
        if self.seed < 0:
            raise InputError(f"seed {self.seed}; must be >= 0")
        if not 0 <= self.kind_dropout < 1:
            raise InputError(f"kind_dropout {self.kind_dropout}; must be >= 0 and < 1")
        for name, least in (("lr", 1e-12), ("weight_decay", 0)):
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise InputError(f"{name} {value}; must be {'>' if least else '>='} 0")


@dataclass(frozen=True, eq=False)
class LandmarkSampler:
    """Draws landmarks: every landmark time as often as the others, and its patients alike.

    In one draw each landmark comes as often as expected, to within one time: a draw of as many as there are
    is a pass over about all of them.

    Attributes
    ----------
    rows : ndarray
        Positions of the landmarks to draw from.
    weight : ndarray
        How often each is drawn, relative to the others.
    """

    rows: np.ndarray  # (landmark,) int64
    weight: np.ndarray  # (landmark,) float64

    @classmethod
    def of(cls, moments: np.ndarray, rows: np.ndarray, weight: np.ndarray | None = None) -> LandmarkSampler:
        """Prepare to draw from some landmarks.

        Parameters
        ----------
        moments : ndarray
            (landmark,) int64, the landmark time of each, see `Landmarks.moments`.
        rows : ndarray
            Positions of the landmarks to draw from.
        weight : ndarray, optional
            (landmark,) float64, what each counts beside; default: all alike.

        Returns
        -------
        LandmarkSampler
        """
        alike = landmark_weights(moments[rows])
        return cls(rows, alike if weight is None else alike * weight[rows])

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        order = rng.permutation(len(self.rows))
        upto = self.weight[order].cumsum()
        # systematic sampling: equal steps along the weights in random order
        steps = (np.arange(size) + rng.random()) / size * upto[-1]
        drawn = order[np.searchsorted(upto[:-1], steps, "right")]
        return self.rows[rng.permutation(drawn)]


def draw_landmarks(
    patient: np.ndarray, each: int, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw landmarks, a first one of every patient before a second one of any.

    Who has few landmarks had an early end: without the weight a hazard would be too high.

    Parameters
    ----------
    patient : ndarray
        (landmark,) int64, whose landmark each is.
    each : int
        Of each patient at most.
    most : int
        In all at most.
    rng : Generator
        Draws them.

    Returns
    -------
    tuple of ndarray
        Positions, rising, and for how many of its patient's landmarks each stands.
    """
    order = np.lexsort((rng.random(len(patient)), patient))
    new = np.append(True, np.diff(patient[order]) != 0)[: len(order)]
    rank = np.arange(len(order)) - np.flatnonzero(new)[new.cumsum() - 1]
    most = min(most, int((rank < each).sum()))
    rows = np.sort(order[np.lexsort((rng.random(len(order)), rank))[:most]])
    every, some = (np.bincount(x, minlength=patient.max() + 1) for x in (patient, patient[rows]))
    return rows, (every / some.clip(min=1))[patient[rows]]


@dataclass(frozen=True, eq=False)
class Problem:
    """The training landmarks, what came of them, and what every family shares.

    Member m of every family learns from `train(m)` and is silent about `held_out(m)`: its forecasts there are
    out of fold. Names and scales are those of all training landmarks; they read no outcome.

    Attributes
    ----------
    landmarks : Landmarks
        All training landmarks, as the model sees them.
    targets : mapping of str to Target
        What came of each landmark, by outcome.
    heads : mapping of str to HeadConfig
        What is predicted, by outcome.
    vocabulary : Vocabulary
        Names and scales of the training graphs.
    bases : mapping of str to Basis
        Principal axes of the vectors of each node type.
    model : ModelConfig
        Size and kind of the network.
    config : FitConfig
        How it is trained.
    device : torch.device
        Where to compute.
    run : Path or None
        Folder of the checkpoints; None: none.
    progress : Progress or None
        Called after each epoch, and after each other step that takes time.
    weight : ndarray or None
        What each landmark counts beside the others, (landmark,) float64; None: all alike.
    """

    landmarks: Landmarks
    targets: Mapping[str, Target]
    heads: Mapping[str, HeadConfig]
    vocabulary: Vocabulary
    bases: Mapping[str, Basis]
    model: ModelConfig
    config: FitConfig
    device: torch.device
    run: Path | None = None
    progress: Progress | None = None
    weight: np.ndarray | None = None

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """What each of some landmarks counts: every landmark time the same, its patients by their weight.

        Parameters
        ----------
        rows : ndarray
            Positions of the landmarks.

        Returns
        -------
        ndarray
            (landmark,) float64.
        """
        alike = landmark_weights(self.landmarks.moments[rows])
        return alike if self.weight is None else alike * self.weight[rows]

    @cached_property
    def folds(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Positions to learn from and positions held out, of up to five folds by patient and group."""
        X, groups = self.landmarks, self.units(np.arange(len(self.landmarks)))
        if (count := len(np.unique(groups))) < 2:
            raise InputError(f"{count} patient to train on; early stopping needs at least two")
        strata = np.max([target.strata for target in self.targets.values()], axis=0)
        kfold = StratifiedPatientKFold(min(FOLDS, count), seed=self.config.seed)
        return tuple(kfold.split(X, strata, groups))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of version, choices, names, landmarks and outcomes: a fit goes on with the same alone."""
        parts = [
            __version__,
            asdict(self.config),
            self.model.to_dict(),
            self.vocabulary.to_dict(),
            {name: head.to_dict() for name, head in self.heads.items()},
            self.landmarks.cohort.manifest_hash,
        ]
        # numpy's numbers come in with the choices, from a grid search
        digest = hashlib.sha256(json.dumps(parts, default=lambda x: x.tolist()).encode())
        digest.update(self.landmarks.patient.tobytes() + self.landmarks.at.tobytes())
        if self.weight is not None:
            digest.update(self.weight.tobytes())
        for target in self.targets.values():
            digest.update(b"".join(column.tobytes() for column in target.columns))
            if target.weight is not None:
                digest.update(target.weight.tobytes())
        return digest.hexdigest()

    def units(self, rows: np.ndarray) -> np.ndarray:
        """What no split takes apart: the groups of some landmarks, of one group alone its patients.

        Parameters
        ----------
        rows : ndarray
            Positions of the landmarks.

        Returns
        -------
        ndarray
            (landmark,) int64.
        """
        X = self.landmarks[rows]
        return X.groups if len(np.unique(X.groups)) > 1 else X.patient

    def train(self, member: int) -> np.ndarray:
        """Positions of the landmarks that a member learns from.

        Parameters
        ----------
        member : int
            Number of the member.

        Returns
        -------
        ndarray
            (landmark,) int64.
        """
        return self.folds[member % len(self.folds)][0]

    def held_out(self, member: int) -> np.ndarray:
        """Positions of the landmarks that a member never sees.

        Parameters
        ----------
        member : int
            Number of the member.

        Returns
        -------
        ndarray
            (landmark,) int64.
        """
        return self.folds[member % len(self.folds)][1]

    def stopping(self, member: int) -> tuple[np.ndarray, np.ndarray]:
        """Part what a member learns from in two, by patient and group.

        Parameters
        ----------
        member : int
            Number of the member.

        Returns
        -------
        tuple of ndarray
            Positions for the steps of its training, and those that decide when it stops.
        """
        rows = self.train(member)
        X, groups = self.landmarks[rows], self.units(rows)
        if (count := len(np.unique(groups))) < 2:
            return rows, rows
        strata = np.max([target.strata[rows] for target in self.targets.values()], axis=0)
        kfold = StratifiedPatientKFold(min(STOP_SHARE, count), seed=self.config.seed + 1 + member)
        learn, stop = next(iter(kfold.split(X, strata, groups)))
        return rows[learn], rows[stop]

    def learned(self, outcome: str, rows: np.ndarray) -> np.ndarray:
        """Which causes, classes, labels or transitions enough patients had to learn more than how many.

        Parameters
        ----------
        outcome : str
            Name of the outcome.
        rows : ndarray
            Positions of the landmarks.

        Returns
        -------
        ndarray
            (cause,), (class,) or (transition,) bool.
        """
        return self.targets[outcome][rows].enough(self.landmarks.patient[rows], self.config.min_patients)

    def start(self, outcome: str, rows: np.ndarray) -> np.ndarray:
        """What a head starts with: the forecast without inputs of some landmarks.

        Parameters
        ----------
        outcome : str
            Name of the outcome.
        rows : ndarray
            Positions of the landmarks.

        Returns
        -------
        ndarray
            Hazards (cause, time) of survival, or (transition, time); shares (class,) of a diagnosis, a line
            through the last values (start, time) of a progression, nothing of fewer than `min_patients`
            patients disclosed.
        """
        X, target = self.landmarks[rows], self.targets[outcome][rows]
        if isinstance(target, ProgressionTarget) and not self.learned(outcome, rows).all():
            return target.nothing
        return target.start(overall_marginal(target, X, self.heads[outcome].times, self.config.min_patients))


@runtime_checkable
class Family(Protocol):
    """A fitted family of models: one member for each inner fold that was left out.

    Attributes
    ----------
    name : str
        Its key in `families.FAMILIES`, as in ``PrognosisModel(families=("linear", "graph"))``.
    """

    name: ClassVar[str]

    @property
    def members(self) -> int:
        """How often it was fitted."""

    @classmethod
    def fit(cls, problem: Problem) -> Family:
        """Fit every member, each on `problem.train(member)` alone.

        Parameters
        ----------
        problem : Problem
            What there is to learn from.

        Returns
        -------
        Family
        """

    def forecast(self, graphs: Graphs, members: Sequence[int] | None = None) -> dict[str, Tensor]:
        """Forecast every outcome.

        Parameters
        ----------
        graphs : Graphs
            In the cohort's own codes, on the CPU.
        members : sequence of int, optional
            Which members; default: all.

        Returns
        -------
        dict of str to Tensor
            (member, landmark, ...) as a head's `forward` gives them: log hazards (1 + cause, time) with slot
            0 event-free, log probabilities (class,) or log odds (label,); on the CPU.
        """

    def to(self, device: torch.device) -> None:
        """Move what computes to a device.

        Parameters
        ----------
        device : torch.device
            Where to compute.
        """

    def facts(self) -> dict[str, Any]:
        """Everything but the tensors and what is in the vocabulary and the heads, as JSON holds it.

        Returns
        -------
        dict
        """

    def tensors(self) -> dict[str, Tensor]:
        """The fitted numbers by name but the bases, on the CPU.

        Returns
        -------
        dict of str to Tensor
        """

    @classmethod
    def load(
        cls,
        facts: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        vocabulary: Vocabulary,
        bases: Mapping[str, Basis],
        heads: Mapping[str, HeadConfig],
        layers: Mapping[str, type] | None = None,
    ) -> Family:
        """Read what `facts` and `tensors` gave.

        Parameters
        ----------
        facts : mapping
            From `facts`.
        tensors : mapping of str to Tensor
            From `tensors`.
        vocabulary : Vocabulary
            Names and scales of the training graphs.
        bases : mapping of str to Basis
            Principal axes of the vectors of each node type, of the sizes in the vocabulary.
        heads : mapping of str to HeadConfig
            What is predicted, by outcome.
        layers : mapping of str to type, optional
            Classes of the user's own by the names that the model was saved with.

        Returns
        -------
        Family

        Raises
        ------
        KeyError, ValueError, TypeError, RuntimeError
            When they do not fit together.
        """
