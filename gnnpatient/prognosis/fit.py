"""One training loop for every outcome: draw a landmark time, then a patient still at risk."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnpatient.cohort.build import build_graphs
from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.cohort.splits import StratifiedPatientKFold, landmark_shares
from gnnpatient.errors import InputError
from gnnpatient.files import atomic_file
from gnnpatient.graphs import Graphs
from gnnpatient.model.basis import fit_bases
from gnnpatient.model.heads import HeadConfig
from gnnpatient.model.model import ModelConfig, PatientGNN
from gnnpatient.model.vocabulary import fit_vocabulary
from gnnpatient.prognosis.device import deterministic, resolve_device
from gnnpatient.prognosis.first import first_heads
from gnnpatient.prognosis.inputs import last_landmarks
from gnnpatient.prognosis.states import (
    State,
    from_states,
    optimizer_tensors,
    read_state,
    set_optimizer,
    to_states,
    write_state,
)
from gnnpatient.prognosis.targets import Target
from gnnpatient.progress import Progress

MAX_VALIDATION_LANDMARKS = 1024  # landmarks at which a member is scored after each epoch
MAX_STEPS = 15  # batches per epoch
MAX_AVERAGE_DECAY = 0.98  # share that the running average of the weights keeps in a step


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a model is trained.

    Attributes
    ----------
    members : int
        Networks whose mean is the forecast, default 5.
    epochs : int
        Epochs of each member at most, default 30; 0: the state before training, which is the linear path.
    patience : int
        Epochs without a better validation loss after which a member stops, default 10.
    batch_size : int
        Landmarks per batch, default 128.
    lr : float
        Highest learning rate, default 4e-3.
    weight_decay : float
        Decay of the weights (AdamW), default 0.05.
    ridge : float or None
        Penalty on the squared coefficients of the linear path, on the scale of a sum over patients; None
        (default): chosen on inner folds.
    kind_dropout : float
        Chance of each node type to be hidden from a batch (modality dropout), default 0.
    min_patients : int
        Fewest patients from whom a name, a count or a scale is learned, default 10.
    seed : int
        Seed of all draws, default 0.

    Raises
    ------
    InputError
        When a count is below 1 (`epochs` below 0), `kind_dropout` not from 0 to below 1, or a rate or
        penalty negative or not finite.
    """

    members: int = 5
    epochs: int = 30
    patience: int = 10
    batch_size: int = 128
    lr: float = 4e-3
    weight_decay: float = 0.05
    ridge: float | None = None
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
        for name, least in (("lr", 1e-12), ("weight_decay", 0), ("ridge", 0)):
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise InputError(f"{name} {value}; must be {'>' if least else '>='} 0")


@dataclass(frozen=True, eq=False)
class LandmarkSampler:
    """Draws landmarks: a landmark time first, then one of its patients.

    Attributes
    ----------
    order : ndarray
        Positions of the landmarks, sorted by landmark time.
    start : ndarray
        Where the landmarks of each landmark time begin in `order`.
    upto : ndarray
        Share of the draws that goes to each landmark time and those before it.
    """

    order: np.ndarray  # (landmark,) int64
    start: np.ndarray  # (landmark time + 1,) int64
    upto: np.ndarray  # (landmark time,) float64

    @classmethod
    def of(cls, moments: np.ndarray, rows: np.ndarray) -> LandmarkSampler:
        """Prepare to draw from some landmarks.

        Parameters
        ----------
        moments : ndarray
            (landmark,) int64, the landmark time of each, see `Landmarks.moments`.
        rows : ndarray
            Positions of the landmarks to draw from.

        Returns
        -------
        LandmarkSampler
        """
        order = rows[np.argsort(moments[rows], kind="stable")]
        start = np.flatnonzero(np.append(True, np.diff(moments[order]) != 0))
        upto = landmark_shares(moments[order[start]]).cumsum()
        return cls(order, np.append(start, len(order)), upto)

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        which = np.searchsorted(self.upto[:-1], rng.random(size), "right")
        count = self.start[which + 1] - self.start[which]
        return self.order[self.start[which] + (rng.random(size) * count).astype(np.int64)]


def fit_modules(
    landmarks: Landmarks,
    targets: Mapping[str, Target],
    heads: Mapping[str, HeadConfig],
    null: Mapping[str, np.ndarray],
    model: ModelConfig,
    config: FitConfig,
    device: str = "auto",
    run: Path | None = None,
    progress: Progress | None = None,
) -> tuple[PatientGNN, ...]:
    """Train the members.

    Scales and vocabularies are learned from these landmarks alone; member m is stopped early on the m-th
    inner fold of its patients. Every epoch draws from its own seed, so a resumed fit, on a CPU or a GPU, ends
    in the same bits.

    Parameters
    ----------
    landmarks : Landmarks
        The training landmarks.
    targets : mapping of str to Target
        What came of each landmark, by outcome.
    heads : mapping of str to HeadConfig
        What is predicted, by outcome.
    null : mapping of str to ndarray
        The forecast without inputs, by outcome: what the heads start with.
    model : ModelConfig
        Size and kind of the network.
    config : FitConfig
        How it is trained.
    device : str
        Where to compute, see `resolve_device`; default ``"auto"``.
    run : Path, optional
        Folder in which each epoch leaves a checkpoint; a fit that stopped there goes on.
    progress : Progress, optional
        Called after each epoch.

    Returns
    -------
    tuple of PatientGNN

    Raises
    ------
    InputError
        When there are fewer than two patients or groups, a loss is not finite, or the checkpoints are of
        another fit.
    """
    where, least = resolve_device(device), config.min_patients
    graphs = build_graphs(last_landmarks(landmarks))
    bases = fit_bases(graphs, least)
    vocabulary = fit_vocabulary(graphs, bases, least)
    inner = _inner_folds(landmarks, targets, config.seed)
    finished, first, ridge = [], None, 0.0
    for member in range(config.members):
        with deterministic(where), torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(_seed(config.seed, member))
            module = PatientGNN(model, vocabulary, landmarks.cohort.spec.edge_types, heads)
            module.encode.start(bases)
            for name, table in null.items():
                module.head(name).start(torch.from_numpy(targets[name].start(table)).float())
            module.to(where)
            if first is None:
                first, ridge = first_heads(
                    module, landmarks, targets, inner, config.ridge, config.seed, least
                )
            module.heads.load_state_dict(first, strict=False)
            trainer = MemberTrainer(member, module, landmarks, targets, config, ridge, where, run, progress)
            finished.append(trainer.train(*inner[member % len(inner)]))
    return tuple(finished)


def _inner_folds(
    landmarks: Landmarks, targets: Mapping[str, Target], seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and validation landmarks of up to five folds by group; where one alone is left, by patient."""
    groups = landmarks.groups if len(np.unique(landmarks.groups)) > 1 else landmarks.patient
    if (count := len(np.unique(groups))) < 2:
        raise InputError(f"{count} patient to train on; early stopping needs at least two")
    strata = np.max([target.strata for target in targets.values()], axis=0)
    return list(StratifiedPatientKFold(min(5, count), seed=seed).split(landmarks, strata, groups))


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


@dataclass(eq=False)
class _TrainingState:
    """The state of a member's training after some epochs."""

    optimizer: torch.optim.Optimizer
    average: PatientGNN
    best: dict[str, Tensor]
    history: list[dict[str, Any]] = field(default_factory=list)

    def add(self, entry: dict[str, Any]) -> None:
        """Record an epoch, and keep the average of the best one."""
        if not self.history or entry["validation"] < min(e["validation"] for e in self.history):
            self.best = copy.deepcopy(self.average.state_dict())
        self.history.append(entry)


@dataclass(eq=False)
class MemberTrainer:
    """The training of one member.

    Attributes
    ----------
    member : int
        Its number, from 0.
    module : PatientGNN
        The network, changed in place.
    landmarks : Landmarks
        All training landmarks.
    targets : mapping of str to Target
        What came of each landmark, by outcome.
    config : FitConfig
        How it is trained.
    ridge : float
        Penalty on the linear path, on the scale of a sum over patients.
    device : torch.device
        Where to compute.
    run : Path or None
        Folder of the checkpoints; None: no checkpoints.
    progress : Progress or None
        Called after each epoch.
    parts : dict
        The cohort with some node types alone, by their names.
    """

    member: int
    module: PatientGNN
    landmarks: Landmarks
    targets: Mapping[str, Target]
    config: FitConfig
    ridge: float
    device: torch.device
    run: Path | None
    progress: Progress | None
    parts: dict[tuple[str, ...], Cohort] = field(default_factory=dict)

    def train(self, train: np.ndarray, held_out: np.ndarray) -> PatientGNN:
        """Train on some landmarks and stop early on others.

        What is scored and kept is a running average of the weights [1]_: with some hundreds of patients it
        forecasts better than the weights of any single step.

        Parameters
        ----------
        train : ndarray
            Positions of the landmarks to train on.
        held_out : ndarray
            Positions of the landmarks to stop on.

        Returns
        -------
        PatientGNN
            The average after the best epoch.

        Raises
        ------
        InputError
            When the loss is not finite, or the checkpoint is of another fit.

        References
        ----------
        .. [1] Polyak BT, Juditsky AB. Acceleration of stochastic approximation by averaging. SIAM Journal on
           Control and Optimization 30:838-855, 1992.
        """
        sampler = LandmarkSampler.of(self.landmarks.moments, train)
        steps = min(MAX_STEPS, math.ceil(len(train) / self.config.batch_size))
        scored, validation = self._validation(held_out)
        ridge = self.ridge / len(np.unique(self.landmarks.patient[train]))
        state = self._start()
        while not self._finished(state.history):
            epoch = len(state.history)
            loss = self._epoch(epoch, steps, sampler, ridge, state)
            with torch.inference_mode():
                score = float(self._loss(state.average, validation, scored))
            if not math.isfinite(score):
                raise InputError(
                    f"member {self.member}: the loss is not finite after epoch {epoch}; take a smaller lr"
                )
            entry = {"member": self.member, "epoch": epoch, "loss": loss, "validation": score}
            state.add(entry)
            if self.run is not None:
                self._checkpoint(state)
            if self.progress:
                self.progress(f"member {self.member + 1}", epoch + 1, self.config.epochs, **entry)
        self.module.load_state_dict(state.best)
        return self.module.eval()

    def _validation(self, held_out: np.ndarray) -> tuple[np.ndarray, Graphs]:
        """The landmarks at which the member is scored after each epoch, and their graphs."""
        sampler = LandmarkSampler.of(self.landmarks.moments, held_out)
        size = min(MAX_VALIDATION_LANDMARKS, 4 * len(held_out))
        rows = sampler(np.random.default_rng(self.config.seed), size)
        return rows, build_graphs(self.landmarks[rows]).to(self.device)

    def _start(self) -> _TrainingState:
        """The state before the first epoch, or after those of an existing checkpoint."""
        decay = [p for p in self.module.parameters() if p.ndim > 1]
        plain = [p for p in self.module.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": decay, "weight_decay": self.config.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=self.config.lr,
        )
        average = copy.deepcopy(self.module).eval()
        state = _TrainingState(optimizer, average, copy.deepcopy(average.state_dict()))
        if self.run is not None and (path := self._path).is_file():
            self._resume(read_state(path), state)
        return state

    def _epoch(
        self, epoch: int, steps: int, sampler: LandmarkSampler, ridge: float, state: _TrainingState
    ) -> float:
        """Train one epoch of `steps` batches; returns the mean loss."""
        config, optimizer = self.config, state.optimizer
        rng = np.random.default_rng([config.seed, self.member, epoch])
        torch.manual_seed(_seed(config.seed, self.member, epoch))
        self.module.train()
        losses = []
        for step in range(steps):
            self._set_rate(optimizer, (epoch * steps + step) / (config.epochs * steps))
            rows = sampler(rng, config.batch_size)
            seen = self._hide_node_types(self.landmarks[rows], rng)
            loss = self._loss(self.module, build_graphs(seen).to(self.device), rows)
            loss = loss + ridge * self.module.linear_penalty()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
            optimizer.step()
            # read once per epoch, so that no step waits for a GPU
            losses.append(loss.detach())
            _update_average(state.average, self.module, epoch * steps + step + 1)
        return float(torch.stack(losses).double().mean())

    def _hide_node_types(self, batch: Landmarks, rng: np.random.Generator) -> Landmarks:
        """In every second batch, hide each node type with the chance `kind_dropout`; at least one is left.

        So the model learns to forecast patients who lack any of them.
        """
        if not self.config.kind_dropout or rng.random() < 0.5:
            return batch
        kinds = tuple(batch.cohort.spec.nodes)
        visible = rng.random(len(kinds)) >= self.config.kind_dropout
        visible[rng.integers(len(kinds))] = True
        left = tuple(kind for kind, here in zip(kinds, visible, strict=True) if here)
        if left not in self.parts:
            self.parts[left] = batch.cohort.only(left)
        return Landmarks(self.parts[left], batch.patient, batch.at, batch.to)

    def _finished(self, history: list[dict[str, Any]]) -> bool:
        if not history:
            return self.config.epochs == 0
        best = int(np.argmin([e["validation"] for e in history]))
        return len(history) >= self.config.epochs or len(history) - 1 - best >= self.config.patience

    def _set_rate(self, optimizer: torch.optim.Optimizer, done: float) -> None:
        """Rise over the first tenth, then fall by half a cosine to a hundredth."""
        fall = 0.505 + 0.495 * math.cos(math.pi * max(0.0, (done - 0.1) / 0.9))
        for group in optimizer.param_groups:
            group["lr"] = self.config.lr * min(1.0, 0.1 + 9 * done) * fall

    def _loss(self, module: PatientGNN, graphs: Graphs, rows: np.ndarray) -> Tensor:
        """Mean over the landmarks whose outcome is known, summed over outcomes."""
        answers = module(graphs)
        parts = []
        for name, target in self.targets.items():
            known = target.known[rows]
            losses = module.head(name).loss(
                answers[name][torch.from_numpy(known).to(self.device)],
                *(torch.from_numpy(column[rows][known]).to(self.device) for column in target.columns),
            )
            if target.weight is not None:
                losses = losses * torch.from_numpy(target.weight[rows][known]).to(losses)
            parts.append(losses.sum() / max(int(known.sum()), 1))
        return torch.stack(parts).sum()

    @cached_property
    def _fingerprint(self) -> str:
        """Hash of the choices, the module and its data: a fit may be resumed with the same alone."""
        digest = hashlib.sha256(json.dumps([asdict(self.config), self.module.to_dict()]).encode())
        digest.update(self.landmarks.patient.tobytes() + self.landmarks.at.tobytes())
        for target in self.targets.values():
            digest.update(b"".join(column.tobytes() for column in target.columns))
            if target.weight is not None:
                digest.update(target.weight.tobytes())
        return digest.hexdigest()

    @property
    def _path(self) -> Path:
        assert self.run is not None
        return self.run / "checkpoints" / f"member-{self.member}.safetensors"

    def _checkpoint(self, state: _TrainingState) -> None:
        assert self.run is not None
        tensors = to_states("now", self.module.state_dict()) | to_states("best", state.best)
        tensors |= to_states("average", state.average.state_dict())
        tensors |= to_states("optimizer", optimizer_tensors(state.optimizer))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # the log comes first: an epoch done twice writes the same line
        with atomic_file(self.run / "metrics.jsonl") as part:
            part.write_text("".join(json.dumps(entry) + "\n" for entry in self._log(state.history)))
        write_state(self._path, State(tensors, {"history": state.history, "fit": self._fingerprint}))

    def _log(self, history: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The epochs of all members so far; the checkpoints hold them, so a resumed log is the same log."""
        for member in range(self.member):
            yield from read_state(self._path.with_name(f"member-{member}.safetensors")).facts["history"]
        yield from history

    def _resume(self, stored: State, state: _TrainingState) -> None:
        if stored.facts.get("fit") != self._fingerprint:
            raise InputError(
                f"{self._path}: of a fit with other choices or landmarks; resume with the same, or "
                "start a new run"
            )
        self.module.load_state_dict(from_states("now", stored.tensors))
        state.average.load_state_dict(from_states("average", stored.tensors))
        set_optimizer(state.optimizer, from_states("optimizer", stored.tensors))
        state.history, state.best = stored.facts["history"], from_states("best", stored.tensors)


@torch.no_grad()
def _update_average(average: PatientGNN, module: PatientGNN, step: int) -> None:
    """Move the average towards the weights; at first a plain mean, so that it soon forgets the first step."""
    share = 1 - min(MAX_AVERAGE_DECAY, (1 + step) / (10 + step))
    for mean, now in zip(average.parameters(), module.parameters(), strict=True):
        mean.lerp_(now, share)
