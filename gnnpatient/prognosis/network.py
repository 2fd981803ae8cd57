"""The family "graph": networks over each patient's graph in time, trained until that no longer helps."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gnnpatient.cohort.build import build_graphs
from gnnpatient.errors import InputError
from gnnpatient.files import atomic_file
from gnnpatient.graphs import Graphs
from gnnpatient.model.basis import Basis
from gnnpatient.model.heads import HeadConfig
from gnnpatient.model.model import BASIS, ModelConfig, PatientGNN
from gnnpatient.model.table import NodeTable, tabulate
from gnnpatient.model.vocabulary import Vocabulary
from gnnpatient.prognosis.device import deterministic
from gnnpatient.prognosis.problem import LandmarkSampler, Problem
from gnnpatient.prognosis.states import State, from_states, read_checkpoint, to_states, write_state

CHUNK = 512  # landmarks that are forecast at once
MAX_ROWS = 2**20  # rows of the training landmarks kept in memory, some 300 MB; of more, none are
MAX_DRAWS = 8192  # landmarks in an epoch, and in the score after it
MAX_PER_PATIENT = 4  # of those in the mean: the landmarks of one patient are nearly alike
MIN_STEPS = 8  # batches in an epoch; of a small cohort they are smaller
MIN_BATCH = 16  # landmarks in a batch; of a very small cohort an epoch is more than one pass
MIN_EPOCHS = 10  # before patience counts
WARM_UP = 0.05  # share of the steps in which the learning rate rises
MAX_AVERAGE_DECAY = 0.98  # share that the running average of the weights keeps in a step


@dataclass(eq=False)
class GraphHazard:
    """The fitted networks, a member for each inner fold that was left out.

    Attributes
    ----------
    modules : tuple of PatientGNN
        The members.
    name : str
        Always ``"graph"``.
    """

    modules: tuple[PatientGNN, ...]
    name: ClassVar[str] = "graph"

    @property
    def members(self) -> int:
        """How many members there are."""
        return len(self.modules)

    @classmethod
    def fit(cls, problem: Problem) -> GraphHazard:
        """Train every member, each on `problem.train(member)` alone.

        Every epoch draws from its own seed, so that a resumed fit ends in the same bits.

        Parameters
        ----------
        problem : Problem
            What there is to learn from.

        Returns
        -------
        GraphHazard

        Raises
        ------
        InputError
            When a loss is not finite, or the checkpoints are of another fit.
        """
        tables, log = _Tables(problem), list[dict[str, Any]]()
        modules = []
        for member in range(problem.config.members):
            with deterministic(problem.device), torch.random.fork_rng(range(torch.cuda.device_count())):
                torch.manual_seed(_seed(problem.config.seed, member))
                module = PatientGNN(problem.model, problem.vocabulary, problem.heads, problem.bases)
                modules.append(MemberTrainer(member, module, problem, tables, log).train())
        return cls(tuple(modules))

    @torch.inference_mode()
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
            (member, landmark, ...) as a head's `forward` gives them, on the CPU.
        """
        chosen = [self.modules[m].eval() for m in (range(len(self.modules)) if members is None else members)]
        device = next(self.modules[0].parameters()).device
        table = self.modules[0].tabulate(graphs)
        parts: dict[str, list[Tensor]] = {name: [] for name in self.modules[0].outcomes}
        with deterministic(device):
            for positions in torch.arange(len(table)).split(CHUNK):
                chunk = table.take(positions).to(device)
                answers = [module(chunk) for module in chosen]
                for name, found in parts.items():
                    found.append(torch.stack([answer[name] for answer in answers]).cpu())
        return {name: torch.cat(found, 1) for name, found in parts.items()}

    def to(self, device: torch.device) -> None:
        """Move the networks to a device.

        Parameters
        ----------
        device : torch.device
            Where to compute.
        """
        for module in self.modules:
            module.to(device)

    def facts(self) -> dict[str, Any]:
        """Everything but the tensors and what is in the vocabulary and the heads, as JSON holds it.

        Returns
        -------
        dict
            Keys ``model`` (the choices of `ModelConfig`) and ``members``.
        """
        return {"model": self.modules[0].config.to_dict(), "members": len(self.modules)}

    def tensors(self) -> dict[str, Tensor]:
        """The weights by name but the bases, on the CPU.

        Returns
        -------
        dict of str to Tensor
            With the number of the member before each name, as in ``"0.encode.slope"``.
        """
        return {
            f"{i}.{name}": tensor.detach().cpu().contiguous()
            for i, module in enumerate(self.modules)
            for name, tensor in module.state_dict().items()
            if not name.startswith(BASIS)
        }

    @classmethod
    def load(
        cls,
        facts: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        vocabulary: Vocabulary,
        bases: Mapping[str, Basis],
        heads: Mapping[str, HeadConfig],
        layers: Mapping[str, type] | None = None,
    ) -> GraphHazard:
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
            Principal axes of the vectors of each node type.
        heads : mapping of str to HeadConfig
            What is predicted, by outcome.
        layers : mapping of str to type, optional
            Classes of the user's own by the names that the model was saved with.

        Returns
        -------
        GraphHazard

        Raises
        ------
        KeyError, ValueError, TypeError, RuntimeError
            When they do not fit together.
        """
        config = ModelConfig.from_dict(facts["model"], layers)
        if not 1 <= facts["members"] <= len(tensors):
            raise ValueError("members")
        return cls(
            tuple(
                _module(config, vocabulary, bases, heads, from_states(str(member), tensors))
                for member in range(facts["members"])
            )
        )


def _module(
    config: ModelConfig,
    vocabulary: Vocabulary,
    bases: Mapping[str, Basis],
    heads: Mapping[str, HeadConfig],
    tensors: Mapping[str, Tensor],
) -> PatientGNN:
    """A member. Sizes that could make it large are first compared with those of its tensors."""
    if not config.num_layers <= len(tensors):
        raise ValueError("num_layers")
    sizes = {size for tensor in tensors.values() for size in tensor.shape}
    if config.channels not in sizes:
        raise ValueError("channels")
    with torch.random.fork_rng([]):  # made on the CPU
        module = PatientGNN(config, vocabulary, heads, bases)
    own = {name: tensor for name, tensor in module.state_dict().items() if name.startswith(BASIS)}
    module.load_state_dict({**tensors, **own})
    if not all(buffer.isfinite().all() for buffer in module.buffers()):
        raise ValueError("numbers not finite")
    return module.eval()


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


class _Tables:
    """Node tables of the training landmarks: made once for all members while they fit into memory."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.every: NodeTable | None = None
        parts, rows = [], 0
        size = len(problem.landmarks)
        for first in range(0, size, CHUNK):
            parts.append(self._make(np.arange(first, min(first + CHUNK, size))))
            rows += parts[-1].rows
            if rows > MAX_ROWS:
                return
        self.every = NodeTable.cat(parts)

    def _make(self, positions: np.ndarray) -> NodeTable:
        graphs = build_graphs(self.problem.landmarks[positions])
        return tabulate(graphs, self.problem.vocabulary, self.problem.bases)

    def __call__(self, positions: np.ndarray) -> NodeTable:
        """The table of some landmarks, on the CPU."""
        if self.every is not None:
            return self.every.take(torch.from_numpy(positions))
        return self._make(positions)


class AdamW:
    """Adam with decoupled weight decay [1]_, of matrices and larger tensors that are no bias.

    Equal to torch's own, which takes as long to import as torch.

    Parameters
    ----------
    parameters : iterable of (str, Parameter)
        What is trained, by name.
    weight_decay : float
        Decay of a step, in units of the learning rate.

    References
    ----------
    .. [1] Loshchilov I, Hutter F. Decoupled weight decay regularization. ICLR 2019.
    """

    FIRST, SECOND, LEAST = 0.9, 0.999, 1e-8

    def __init__(self, parameters: Iterable[tuple[str, torch.nn.Parameter]], weight_decay: float):
        named = list(parameters)
        self.parameters: list[Tensor] = [p for _, p in named]
        self.decayed: list[Tensor] = [p for name, p in named if p.ndim > 1 and not name.endswith("bias")]
        self.weight_decay, self.steps = weight_decay, 0
        self.mean = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.square = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move the parameters against their gradients.

        Parameters
        ----------
        lr : float
            Learning rate.
        """
        self.steps += 1
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        torch._foreach_mul_(self.decayed, 1 - lr * self.weight_decay)
        torch._foreach_lerp_(self.mean, grads, 1 - self.FIRST)
        torch._foreach_mul_(self.square, self.SECOND)
        torch._foreach_addcmul_(self.square, grads, grads, 1 - self.SECOND)
        scale = torch._foreach_sqrt(self.square)
        torch._foreach_div_(scale, math.sqrt(1 - self.SECOND**self.steps))
        torch._foreach_add_(scale, self.LEAST)
        torch._foreach_addcdiv_(self.parameters, self.mean, scale, -lr / (1 - self.FIRST**self.steps))

    def tensors(self) -> dict[str, Tensor]:
        """The moments, by the position of the parameter.

        Returns
        -------
        dict of str to Tensor
        """
        moments = {"mean": self.mean, "square": self.square}
        return {f"{name}.{i}": tensor for name, of in moments.items() for i, tensor in enumerate(of)}

    def load(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Put back what `tensors` gave.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            The moments.
        steps : int
            Steps that were taken.
        """
        self.steps = steps
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])


@dataclass(eq=False)
class _Course:
    """A network in training: its weights, their running average, the moments of the optimiser."""

    module: PatientGNN
    average: PatientGNN
    optimizer: AdamW

    def tensors(self) -> dict[str, Tensor]:
        """All that the next step reads, by name."""
        return {
            **to_states("now", self.module.state_dict()),
            **to_states("average", self.average.state_dict()),
            **to_states("optimizer", self.optimizer.tensors()),
        }

    def load(self, state: State) -> None:
        """Put back what `tensors` gave."""
        self.module.load_state_dict(from_states("now", state.tensors))
        self.average.load_state_dict(from_states("average", state.tensors))
        self.optimizer.load(from_states("optimizer", state.tensors), state.facts["steps"])


@dataclass(eq=False)
class _History:
    """The epochs of a member so far: first those that are scored, then those on all of its patients."""

    start: float = math.nan  # validation loss before training
    epochs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def losses(self) -> list[float]:
        """Validation loss before training and after each scored epoch."""
        return [self.start, *(e["validation"] for e in self.epochs if e["validation"] is not None)]

    @property
    def best(self) -> int:
        """After how many epochs the loss was lowest; 0: before training."""
        return int(np.argmin(self.losses))

    @property
    def again(self) -> int:
        """How many epochs on all patients are done."""
        return 1 + len(self.epochs) - len(self.losses)


@dataclass(eq=False)
class MemberTrainer:
    """The training of one member.

    Attributes
    ----------
    member : int
        Its number, from 0.
    module : PatientGNN
        A fresh network, of which each course of training begins with a copy.
    problem : Problem
        What there is to learn from.
    tables : callable
        Gives the node table of some training landmarks.
    log : list of dict
        The epochs of the members before it; its own are added.
    """

    member: int
    module: PatientGNN
    problem: Problem
    tables: Callable[[np.ndarray], NodeTable]
    log: list[dict[str, Any]]

    def train(self) -> PatientGNN:
        """Train on a part of the member's patients until the others gain nothing; then anew, on all of them.

        What is scored and kept is a running average of the weights [1]_: with some hundreds of patients it
        forecasts better than the weights of any single step. The second time takes as many epochs as were
        best the first time; where no epoch was better than the state before training, which is the marginal
        model, that one is kept.

        Returns
        -------
        PatientGNN
            The average after the last epoch.

        Raises
        ------
        InputError
            When the loss is not finite, or the checkpoint is of another fit.

        References
        ----------
        .. [1] Polyak BT, Juditsky AB. Acceleration of stochastic approximation by averaging. SIAM Journal on
           Control and Optimization 30:838-855, 1992.
        """
        problem = self.problem
        learn, stop = problem.stopping(self.member)
        scored = np.random.default_rng(problem.config.seed).permutation(stop)[: self._most(stop)]
        stored, history = self._stored(), _History()
        if stored is not None:
            history = _History(stored.facts["start"], stored.facts["epochs"])
        if not self._searched(history):
            course = self._begin(learn, stored)
            if stored is None:
                history.start = self._score(course.average, scored)
            while not self._searched(history):
                epoch = len(history.epochs)
                loss = self._epoch(epoch, learn, course)
                score = self._score(course.average, scored, epoch)
                self._after(epoch, loss, score, course, history)
        course = self._begin(problem.train(self.member), stored if history.again else None)
        for epoch in range(history.again, history.best):
            self._after(epoch, self._epoch(epoch, problem.train(self.member), course), None, course, history)
        self.log += history.epochs
        return course.average.eval()

    def _begin(self, rows: np.ndarray, stored: State | None) -> _Course:
        """A network as it was made, with the marginal forecast of some landmarks; or as it was stored."""
        module = copy.deepcopy(self.module)
        for name in self.problem.heads:
            head = module.head(name)
            head.start(torch.from_numpy(self.problem.start(name, rows)).float())
            # a bias that follows a few patients tells how many they are
            if hasattr(head, "hold"):
                head.hold(torch.from_numpy(self.problem.learned(name, rows)))
        module.to(self.problem.device)
        optimizer = AdamW(module.named_parameters(), self.problem.config.weight_decay)
        course = _Course(module, copy.deepcopy(module).eval(), optimizer)
        if stored is not None and "steps" in stored.facts:
            course.load(stored)
        elif stored is not None:
            course.average.load_state_dict(from_states("kept", stored.tensors))
        return course

    def _after(
        self, epoch: int, loss: float, score: float | None, course: _Course, history: _History
    ) -> None:
        """Write down an epoch, and tell of it."""
        entry = {"member": self.member, "epoch": epoch, "loss": loss, "validation": score}
        history.epochs.append(entry)
        self._checkpoint(course, history)
        if self.problem.progress:
            name, most = f"member {self.member + 1}", self.problem.config.epochs
            if score is None:
                name, most = f"{name}, all patients", history.best
            self.problem.progress(name, epoch + 1, most, **entry)

    def _epoch(self, epoch: int, learn: np.ndarray, course: _Course) -> float:
        """Train one epoch; returns the mean loss."""
        config = self.problem.config
        sampler = LandmarkSampler.of(self.problem.landmarks.moments, learn, self.problem.weight)
        rng = np.random.default_rng([config.seed, self.member, epoch])
        torch.manual_seed(_seed(config.seed, self.member, epoch))
        size = max(MIN_STEPS * MIN_BATCH, min(len(sampler.rows), self._most(sampler.rows)))
        batches = np.array_split(sampler(rng, size), max(MIN_STEPS, math.ceil(size / config.batch_size)))
        course.module.train()
        losses = []
        for step, rows in enumerate(batches, epoch * len(batches)):
            table = self._hide(self.tables(rows)).to(self.problem.device)
            loss = self._loss(course.module, table, rows, self._shares(rows, np.ones(len(rows))))
            course.module.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(course.module.parameters(), 1.0)
            course.optimizer.step(config.lr * _rate(step / (config.epochs * len(batches))))
            # read once per epoch, so that no step waits for a GPU
            losses.append(loss.detach())
            _update_average(course.average, course.module, step + 1)
        for kept, now in zip(course.average.buffers(), course.module.buffers(), strict=True):
            kept.copy_(now)  # as the running means of a BatchNorm in a layer of the user's own
        if not all(part.isfinite().all() for part in course.average.parameters()):
            raise InputError(
                f"member {self.member}: the weights are not finite after epoch {epoch}; take a smaller lr"
            )
        return float(torch.stack(losses).double().mean())

    def _most(self, rows: np.ndarray) -> int:
        """How many of these landmarks an epoch takes at most."""
        patients = len(np.unique(self.problem.landmarks.patient[rows]))
        return min(MAX_PER_PATIENT * patients, MAX_DRAWS)

    def _hide(self, table: NodeTable) -> NodeTable:
        """Hide a share of the rows; and in every second batch each node type by chance, at least one is left.

        So the model learns to forecast patients who lack any of them.
        """
        kinds, keep = len(self.problem.vocabulary.codes), torch.ones(table.rows, dtype=torch.bool)
        if share := self.problem.model.node_dropout:
            keep &= torch.rand(table.rows) >= share
        if kinds and (share := self.problem.config.kind_dropout) and float(torch.rand(())) < 0.5:
            visible = torch.rand(kinds) >= share
            visible[torch.randint(kinds, ())] = True
            keep &= visible[table.kind]
        return table if keep.all() else table.keep(keep)

    def _searched(self, history: _History) -> bool:
        """Whether it is known how many epochs are best: all are done, or none of the last ones was better."""
        done, config = len(history.losses) - 1, self.problem.config
        patient = done >= MIN_EPOCHS and done - history.best >= config.patience
        return not math.isnan(history.start) and (done >= config.epochs or patient)

    @torch.inference_mode()
    def _score(self, module: PatientGNN, rows: np.ndarray, epoch: int | None = None) -> float:
        """The loss at landmarks that no step has seen, every landmark time counting the same."""
        shares = self._shares(rows, self.problem.counts(rows))
        total = 0.0
        for part in np.split(np.arange(len(rows)), range(CHUNK, len(rows), CHUNK)):
            table = self.tables(rows[part]).to(self.problem.device)
            total += float(self._loss(module, table, rows[part], {n: x[part] for n, x in shares.items()}))
        if not math.isfinite(total):
            when = "before training" if epoch is None else f"after epoch {epoch}; take a smaller lr"
            raise InputError(f"member {self.member}: the loss is not finite {when}")
        return total

    def _shares(self, rows: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        """The share of each landmark in the mean loss of each outcome; 0 where the outcome is not known."""
        shares = {}
        for name, target in self.problem.targets.items():
            known = target.known[rows]
            total = weight[known].sum()
            shares[name] = np.where(known, weight * target.share[rows] / max(total, 1e-12), 0.0)
        return shares

    def _loss(
        self, module: PatientGNN, table: NodeTable, rows: np.ndarray, shares: Mapping[str, np.ndarray]
    ) -> Tensor:
        """The mean over the landmarks whose outcome is known, summed over outcomes."""
        device = self.problem.device
        answers, parts = module(table), []
        for name, target in self.problem.targets.items():
            known = np.flatnonzero(target.known[rows])
            losses = module.head(name).loss(
                answers[name][torch.from_numpy(known).to(device)],
                *(torch.from_numpy(column[rows[known]]).to(device) for column in target.columns),
            )
            parts.append(losses @ torch.from_numpy(shares[name][known]).to(losses))
        return torch.stack(parts).sum()

    @property
    def _path(self) -> Path:
        assert self.problem.run is not None
        return self.problem.run / "checkpoints" / f"member-{self.member}.safetensors"

    def _checkpoint(self, course: _Course, history: _History) -> None:
        """Leave behind what it takes to go on; of a finished member the kept weights alone."""
        if (run := self.problem.run) is None:
            return
        facts = {"fit": self.problem.fingerprint, "start": history.start, "epochs": history.epochs}
        if self._searched(history) and history.again == history.best:
            # before training it is what it starts with
            tensors = to_states("kept", course.average.state_dict()) if history.again else {}
        else:
            tensors, facts["steps"] = course.tensors(), course.optimizer.steps
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # the log comes first: an epoch done twice writes the same line
        with atomic_file(run / "metrics.jsonl") as part:
            part.write_text("".join(json.dumps(entry) + "\n" for entry in [*self.log, *history.epochs]))
        write_state(self._path, State(tensors, facts))

    def _stored(self) -> State | None:
        """The checkpoint of a fit that was stopped."""
        if self.problem.run is None or not self._path.is_file():
            return None
        return read_checkpoint(self._path, self.problem.fingerprint)


def _rate(done: float) -> float:
    """The share of the learning rate: up over WARM_UP, then down by half a cosine to a hundredth."""
    fall = 0.505 + 0.495 * math.cos(math.pi * max(0.0, (done - WARM_UP) / (1 - WARM_UP)))
    return min(1.0, 0.1 + 0.9 * done / WARM_UP) * fall


@torch.no_grad()
def _update_average(average: PatientGNN, module: PatientGNN, step: int) -> None:
    """Move the average towards the weights; at first a plain mean, so that it soon forgets the first step."""
    share = 1 - min(MAX_AVERAGE_DECAY, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), share)
