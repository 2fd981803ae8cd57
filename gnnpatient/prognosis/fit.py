"""One training loop for every outcome: draw a landmark, then a patient still at risk (METHODS 11)."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnpatient.cohort.build import build_graphs
from gnnpatient.cohort.cohort import Cohort
from gnnpatient.cohort.landmarks import Landmarks, StratifiedPatientKFold
from gnnpatient.errors import Refused
from gnnpatient.files import atomic_file
from gnnpatient.graphs import Graphs
from gnnpatient.metrics import aalen_johansen, censoring
from gnnpatient.model.encode import fit_bases, fit_vocabulary
from gnnpatient.model.heads import HeadConfig
from gnnpatient.model.model import ModelConfig, PatientGNN
from gnnpatient.prognosis.checkpoint import (
    State,
    from_states,
    optimizer_tensors,
    read_state,
    set_optimizer,
    to_states,
    write_state,
)
from gnnpatient.prognosis.forecast import pick_device

VALIDATION = 1024  # asks at which a member is scored after each epoch
STEPS = 15  # batches an epoch at most
AVERAGE = 0.98  # share that the running average of the weights keeps in a step
REMAIN = 20  # patients who must be observed beyond the horizon, and the share that must not be censored by it
UNCENSORED = 0.1
FIRST_STEPS, FIRST_LR = 300, 0.015  # of the shifts by the last observations, before the network learns
FIRST_CELLS = 2**24  # of their inputs: bounds the memory

Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a model is trained."""

    members: int = 5
    epochs: int = 30
    patience: int = 10  # epochs without a better validation score after which a member stops
    batch_size: int = 128
    lr: float = 4e-3
    weight_decay: float = 0.05
    ridge: float = 5.0  # penalty on the squared coefficients of the linear path, beside a sum over patients
    kind_dropout: float = 0.0  # chance of each kind of node to be hidden from a batch: modality dropout
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("members", "epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise Refused(f"{name} {getattr(self, name)}; 1 or more would do")
        if not 0 <= self.kind_dropout < 1:
            raise Refused(f"kind_dropout {self.kind_dropout}; from 0 to below 1 would do")
        for name, least in (("lr", 1e-12), ("weight_decay", 0), ("ridge", 0)):
            if not least <= getattr(self, name) < math.inf:
                raise Refused(f"{name} {getattr(self, name)}; {'above' if least else 'at least'} 0 would do")


@dataclass(frozen=True, eq=False)
class Target:
    """What came of each ask, for one survival outcome."""

    causes: tuple[str, ...]
    event: np.ndarray  # (ask,) int64: 0 censored, k = causes[k - 1]
    time: np.ndarray  # (ask,) days after the ask; nan where the ask is not at risk of this outcome

    @property
    def known(self) -> np.ndarray:
        """Which asks teach something: (ask,) bool."""
        return np.isfinite(self.time)

    @property
    def strata(self) -> np.ndarray:
        """What inner folds spread evenly: (ask,) int64."""
        return self.event * self.known

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """What the head's loss takes beside the answers, each (ask,)."""
        return self.event, self.time

    @property
    def counted(self) -> dict[str, np.ndarray]:
        """The asks of each cause: (ask,) bool."""
        return {cause: self.known & (self.event == k) for k, cause in enumerate(self.causes, 1)}

    def __getitem__(self, rows: np.ndarray) -> Target:
        return Target(self.causes, self.event[rows], self.time[rows])

    def check(self, name: str) -> None:
        """Refuse what cannot be learned."""
        for cause, happened in self.counted.items():
            if not happened.any() and len(self.causes) == 1:
                raise Refused(
                    f"outcome {name!r}: no events of {cause!r} among {len(self.event)} asks; nothing to learn"
                )
        if not (self.event > 0).any():
            raise Refused(f"outcome {name!r}: no events among {len(self.event)} asks; nothing to learn")

    @staticmethod
    def start(null: np.ndarray) -> np.ndarray:
        """Hazards (cause, time) that a head starts with, from the incidence of all asks."""
        free = np.concatenate([[1.0], null[0, :-1]]).clip(1e-6)
        return np.diff(null[1:], prepend=0.0, axis=1) / free


@dataclass(frozen=True, eq=False)
class LabelTarget:
    """Which class each ask turned out to be of, for one diagnosis."""

    classes: tuple[str, ...]
    label: np.ndarray  # (ask,) int64 into classes; -1 = not looked for, or not at risk

    @property
    def known(self) -> np.ndarray:
        """Which asks teach something: (ask,) bool."""
        return self.label >= 0

    @property
    def strata(self) -> np.ndarray:
        """What inner folds spread evenly: (ask,) int64."""
        return self.label.clip(min=0)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """What the head's loss takes beside the answers, each (ask,)."""
        return (self.label,)

    @property
    def counted(self) -> dict[str, np.ndarray]:
        """The asks of each class: (ask,) bool."""
        return {name: self.label == k for k, name in enumerate(self.classes)}

    def __getitem__(self, rows: np.ndarray) -> LabelTarget:
        return LabelTarget(self.classes, self.label[rows])

    def check(self, name: str) -> None:
        """Refuse what cannot be learned."""
        there = [one for one, asks in self.counted.items() if asks.any()]
        if len(there) < 2:
            raise Refused(
                f"outcome {name!r}: {'all labels are ' + repr(there[0]) if there else 'no label'} among "
                f"{len(self.label)} asks; nothing to learn"
            )

    @staticmethod
    def start(null: np.ndarray) -> np.ndarray:
        """Shares (class,) that a head starts with."""
        return null


@dataclass(frozen=True, eq=False)
class Draw:
    """Asks by landmark: a time first, then one of the asks at that time."""

    order: np.ndarray  # (ask,) positions sorted by time
    start: np.ndarray  # (time + 1,) where each time's asks begin

    @classmethod
    def of(cls, at: np.ndarray, rows: np.ndarray) -> Draw:
        order = rows[np.argsort(at[rows], kind="stable")]
        start = np.flatnonzero(np.append(True, np.diff(at[order]) != 0))
        return cls(order, np.append(start, len(order)))

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        time = rng.integers(len(self.start) - 1, size=size)
        count = self.start[time + 1] - self.start[time]
        return self.order[self.start[time] + (rng.random(size) * count).astype(np.int64)]


def weights(at: np.ndarray) -> np.ndarray:
    """How often `Draw` takes each ask, with a mean of one: every time counts the same."""
    _, time, count = np.unique(at, return_inverse=True, return_counts=True)
    return len(at) / len(count) / count[time]


def last_estimable(target: Target, patient: np.ndarray, at: np.ndarray) -> float:
    """The longest horizon (days) at which a score can still be estimated from these asks (METHODS 15)."""
    known = np.isfinite(target.time)
    time, event = target.time[known], target.event[known]
    longest = np.zeros(patient.max() + 1)
    np.maximum.at(longest, patient[known], time)
    beyond = np.sort(longest[np.unique(patient[known])])[::-1]
    if len(beyond) <= REMAIN:
        return float(time.max())  # too few patients to score at any horizon, not too few to forecast
    g = censoring(time, event, weight=weights(at[known]))
    grid = np.unique(time)
    free = grid[g.right(grid) >= UNCENSORED]
    return float(min(np.nextafter(beyond[REMAIN - 1], 0), free.max(initial=grid[0])))


def time_grid(target: Target, at: np.ndarray, horizon: float, size: int) -> tuple[float, ...]:
    """Ends of at most `size` intervals up to the horizon, with as many events in each as in the next."""
    seen = np.isfinite(target.time) & (target.event > 0) & (target.time <= horizon)
    time, weight = target.time[seen], weights(at)[seen]
    order = np.argsort(time, kind="stable")
    share = weight[order].cumsum() / weight.sum()
    cuts = time[order][np.searchsorted(share, np.arange(1, size) / size).clip(max=len(time) - 1)]
    cuts = np.unique(cuts[(cuts > horizon * 1e-3) & (cuts < horizon * (1 - 1e-3))])
    return (*cuts.tolist(), horizon)


def null_incidence(target: Target, at: np.ndarray, times: tuple[float, ...]) -> np.ndarray:
    """Aalen-Johansen of the asks, every landmark counting the same: (1 + cause, time)."""
    known = np.isfinite(target.time)
    return aalen_johansen(
        target.time[known],
        target.event[known],
        np.array(times),
        causes=len(target.causes),
        weight=weights(at)[known],
    )


def null_shares(target: LabelTarget, at: np.ndarray) -> np.ndarray:
    """Share of each class among the labelled asks, every landmark counting the same: (class,)."""
    known = target.known
    share = np.bincount(target.label[known], weights(at[known]), minlength=len(target.classes))
    return share / share.sum()


def check_targets(targets: Mapping[str, Target | LabelTarget], landmarks: Landmarks) -> None:
    """Refuse at once what could only fail after an epoch."""
    if not len(landmarks):
        raise Refused("no ask to train on; nobody is at risk at these landmarks")
    for name, target in targets.items():
        target.check(name)


def fit_modules(
    landmarks: Landmarks,
    targets: Mapping[str, Target | LabelTarget],
    heads: Mapping[str, HeadConfig],
    null: Mapping[str, np.ndarray],
    model: ModelConfig,
    config: FitConfig,
    device: str = "auto",
    run: Path | None = None,
    tell: Tell | None = None,
) -> tuple[PatientGNN, ...]:
    """Train the members. With `run`, each epoch leaves a checkpoint there; a stopped fit goes on from it.

    Scales and vocabularies see the asks of `landmarks` alone; member m is stopped early on the m-th inner
    fold of its patients. Every epoch draws from its own seed, so a resumed fit ends in the same bits.
    """
    where = pick_device(device)
    ends = np.lexsort((landmarks.at, landmarks.patient))
    latest = ends[
        np.append(np.diff(landmarks.patient[ends]) != 0, True)
    ]  # each patient's last ask holds all rows
    whole = build_graphs(landmarks[latest])
    vocabulary = fit_vocabulary(whole)
    bases = fit_bases(whole, vocabulary)
    groups = len(np.unique(landmarks.groups))
    if groups < 2:
        raise Refused(f"{groups} patient or group to train on; early stopping needs at least two")
    happened = np.max([target.strata for target in targets.values()], axis=0)
    inner = list(StratifiedPatientKFold(min(5, groups), seed=config.seed).split(landmarks, happened))
    finished, begun = [], None
    for member in range(config.members):
        train, held = inner[member % len(inner)]
        with torch.random.fork_rng():
            torch.manual_seed(_seed(config.seed, member))
            module = PatientGNN(model, vocabulary, landmarks.cohort.spec.edge_types, heads)
            module.encode.start(bases)
            for name, table in null.items():
                module.head(name).start(torch.from_numpy(targets[name].start(table)).float())
            if begun is None:
                begun = first_heads(module.to(where), landmarks, targets, config)
            module.heads.load_state_dict(begun, strict=False)
            member_run = _Member(member, module.to(where), landmarks, targets, config, where, run, tell)
            finished.append(member_run.train(train, held))
    return tuple(finished)


def first_heads(
    module: PatientGNN,
    landmarks: Landmarks,
    targets: Mapping[str, Target | LabelTarget],
    config: FitConfig,
) -> dict[str, Tensor]:
    """Fit the shifts by the last observations before any message is passed, and the bias beside them.

    They are cheap and regularised, so they take all asks at once; what the messages add is learned on top. In
    small batches, and stopped early together with the network, they would stay far from what they can say.
    """
    heads, channels = [module.head(name) for name in targets], 3 * module.config.channels
    own = {name: tensor for name, tensor in module.heads.named_parameters() if ".shift." in name}
    if not own:
        return {}
    biases = {name: tensor for name, tensor in module.heads.named_parameters() if name.endswith("out.bias")}
    device, at = next(module.parameters()).device, landmarks.at
    columns = sum(module.encode.groups)
    rows = np.random.default_rng(config.seed).permutation(len(landmarks))[: max(1024, FIRST_CELLS // columns)]
    with torch.no_grad():
        chunks = (build_graphs(landmarks[rows[i : i + 512]]) for i in range(0, len(rows), 512))
        last = torch.cat([module.encode.last_observation(chunk.to(device)) for chunk in chunks])
    for head in heads:
        if head.shift is not None:
            head.shift.start(last)
    z = last.new_zeros(1, channels)  # says nothing yet: the output layer starts at zero
    weight = torch.from_numpy(weights(at[rows])).to(last)
    optimizer = torch.optim.Adam([*own.values(), *biases.values()])
    ridge = config.ridge / len(np.unique(landmarks.patient[rows]))
    for step in range(FIRST_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = FIRST_LR * (0.5 + 0.5 * math.cos(math.pi * step / FIRST_STEPS))
        loss = ridge * module.linear_penalty()
        for head, target in zip(heads, targets.values(), strict=True):
            known = target.known[rows]
            there = torch.from_numpy(np.flatnonzero(known)).to(device)
            truth = (torch.from_numpy(column[rows][known]).to(device) for column in target.columns)
            losses = head.loss(head(z.expand(len(there), -1), last[there]), *truth)
            loss = loss + (losses * weight[there]).sum() / weight[there].sum().clamp(min=1.0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    scales = {name: tensor for name, tensor in module.heads.named_buffers() if name.endswith("shift.scale")}
    return {name: tensor.detach().clone() for name, tensor in (own | biases | scales).items()}


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


@dataclass(eq=False)
class _Member:
    """One member's training."""

    member: int
    module: PatientGNN
    landmarks: Landmarks
    targets: Mapping[str, Target | LabelTarget]
    config: FitConfig
    device: torch.device
    run: Path | None
    tell: Tell | None
    parts: dict[tuple[str, ...], Cohort] = field(default_factory=dict)  # the cohort with some kinds alone

    def train(self, train: np.ndarray, held: np.ndarray) -> PatientGNN:
        """Train on the asks `train`, stop on the asks `held`, and return the module of the best epoch.

        What is scored and kept is a running average of the weights (Polyak & Juditsky 1992): in some hundreds
        of patients it forecasts better than the weights of any single step.
        """
        config, at = self.config, self.landmarks.at
        decay = [p for p in self.module.parameters() if p.ndim > 1]
        plain = [p for p in self.module.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=config.lr,
        )
        draw = Draw.of(at, train)
        steps = min(STEPS, math.ceil(len(train) / config.batch_size))
        scored = Draw.of(at, held)(np.random.default_rng(config.seed), min(VALIDATION, 4 * len(held)))
        validation = build_graphs(self.landmarks[scored]).to(self.device)

        ridge = config.ridge / len(np.unique(self.landmarks.patient[train]))
        average = copy.deepcopy(self.module).eval()
        history: list[dict[str, Any]] = []
        best = copy.deepcopy(average.state_dict())
        if self.run is not None and (path := self._path).is_file():
            history, best = self._resume(read_state(path), average, optimizer)
        while not self._done(history):
            epoch = len(history)
            rng = np.random.default_rng([config.seed, self.member, epoch])
            torch.manual_seed(_seed(config.seed, self.member, epoch))
            self.module.train()
            total = 0.0
            for step in range(steps):
                self._rate(optimizer, (epoch * steps + step) / (config.epochs * steps))
                rows = draw(rng, config.batch_size)
                asks = self._some_hidden(self.landmarks[rows], rng)
                loss = self._loss(self.module, build_graphs(asks).to(self.device), rows)
                loss = loss + ridge * self.module.linear_penalty()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
                optimizer.step()
                total += float(loss.detach())
                _mix(average, self.module, epoch * steps + step + 1)
            with torch.inference_mode():
                score = float(self._loss(average, validation, scored))
            if not math.isfinite(score):
                raise Refused(
                    f"member {self.member}: the loss is not finite after epoch {epoch}; take a smaller lr"
                )
            entry = {"member": self.member, "epoch": epoch, "loss": total / steps, "validation": score}
            if not history or score < min(e["validation"] for e in history):
                best = copy.deepcopy(average.state_dict())
            history.append(entry)
            if self.run is not None:
                self._checkpoint(history, average, best, optimizer)
            if self.tell:
                self.tell(entry)
        self.module.load_state_dict(best)
        return self.module.eval()

    def _some_hidden(self, asks: Landmarks, rng: np.random.Generator) -> Landmarks:
        """In every second batch, each kind of node is hidden with the chance `kind_dropout`, as from patients
        who lack it; at least one is left.
        """
        if not self.config.kind_dropout or rng.random() < 0.5:
            return asks
        kinds = tuple(asks.cohort.spec.nodes)
        seen = rng.random(len(kinds)) >= self.config.kind_dropout
        seen[rng.integers(len(kinds))] = True
        left = tuple(kind for kind, here in zip(kinds, seen, strict=True) if here)
        if left not in self.parts:
            self.parts[left] = asks.cohort.only(left)
        return Landmarks(self.parts[left], asks.patient, asks.at, asks.to)

    def _done(self, history: list[dict[str, Any]]) -> bool:
        if not history:
            return False
        best = int(np.argmin([e["validation"] for e in history]))
        return len(history) >= self.config.epochs or len(history) - 1 - best >= self.config.patience

    def _rate(self, optimizer: torch.optim.Optimizer, done: float) -> None:
        """A rise over the first tenth, then half a cosine to a hundredth: a function of the step alone."""
        fall = 0.505 + 0.495 * math.cos(math.pi * max(0.0, (done - 0.1) / 0.9))
        for group in optimizer.param_groups:
            group["lr"] = self.config.lr * min(1.0, 0.1 + 9 * done) * fall

    def _loss(self, module: PatientGNN, graphs: Graphs, rows: np.ndarray) -> Tensor:
        """Mean over the asks of which the outcome is known, summed over outcomes."""
        answers = module(graphs)
        parts = []
        for name, target in self.targets.items():
            known = target.known[rows]
            losses = module.head(name).loss(
                answers[name][torch.from_numpy(known).to(self.device)],
                *(torch.from_numpy(column[rows][known]).to(self.device) for column in target.columns),
            )
            parts.append(losses.sum() / max(int(known.sum()), 1))
        return torch.stack(parts).sum()

    @cached_property
    def _fingerprint(self) -> str:
        """Of the choices, the module and what it is trained on: a fit may be resumed with the same alone."""
        digest = hashlib.sha256(json.dumps([asdict(self.config), self.module.to_dict()]).encode())
        digest.update(self.landmarks.patient.tobytes() + self.landmarks.at.tobytes())
        for target in self.targets.values():
            digest.update(b"".join(column.tobytes() for column in target.columns))
        return digest.hexdigest()

    @property
    def _path(self) -> Path:
        assert self.run is not None
        return self.run / "checkpoints" / f"member-{self.member}.safetensors"

    def _checkpoint(
        self,
        history: list[dict[str, Any]],
        average: PatientGNN,
        best: dict[str, Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        tensors = to_states("now", self.module.state_dict()) | to_states("best", best)
        tensors |= to_states("average", average.state_dict())
        tensors |= to_states("optimizer", optimizer_tensors(optimizer))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        assert self.run is not None
        with atomic_file(
            self.run / "metrics.jsonl"
        ) as part:  # first: an epoch done twice writes the same line
            part.write_text("".join(json.dumps(entry) + "\n" for entry in self._log(history)))
        write_state(self._path, State(tensors, {"history": history, "fit": self._fingerprint}))

    def _log(self, history: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The epochs of all members so far; the checkpoints hold them, so a resumed log is the same log."""
        for member in range(self.member):
            yield from read_state(self._path.with_name(f"member-{member}.safetensors")).facts["history"]
        yield from history

    def _resume(
        self, state: State, average: PatientGNN, optimizer: torch.optim.Optimizer
    ) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
        if state.facts.get("fit") != self._fingerprint:
            raise Refused(
                f"{self._path}: of a fit with other choices or asks; resume with the same, or start a new run"
            )
        self.module.load_state_dict(from_states("now", state.tensors))
        average.load_state_dict(from_states("average", state.tensors))
        set_optimizer(optimizer, from_states("optimizer", state.tensors))
        return state.facts["history"], from_states("best", state.tensors)


@torch.no_grad()
def _mix(average: PatientGNN, module: PatientGNN, step: int) -> None:
    """Move the average towards the weights; at first a plain mean, so that it soon forgets the first step."""
    share = 1 - min(AVERAGE, (1 + step) / (10 + step))
    for mean, now in zip(average.parameters(), module.parameters(), strict=True):
        mean.lerp_(now, share)
