"""The linear family: a score for each node type from what was last seen of it, and products of two scores.

Its columns are read off the graphs by the names and scales of the vocabulary; its ridge is chosen, for each
member, on folds inside what the member learns from.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gnnpatient.cohort.build import build_graphs
from gnnpatient.errors import InputError
from gnnpatient.graphs import Graphs, moving
from gnnpatient.model.basis import Basis
from gnnpatient.model.heads import DiagnosisConfig, HeadConfig, SurvivalConfig, contrasts, num_logits
from gnnpatient.model.intervals import SeenIntervals
from gnnpatient.model.paths import LARGEST, SMALLEST, PathConfig
from gnnpatient.model.values import ProgressionConfig, last_value
from gnnpatient.model.vocabulary import Vocabulary
from gnnpatient.prognosis.columns import Column, LinearColumns
from gnnpatient.prognosis.minimise import minimise
from gnnpatient.prognosis.problem import Problem
from gnnpatient.prognosis.value_linear import ValueScores, fit_values

# penalties on the squared coefficients, on the scale of a sum over patients
RIDGES = tuple(0.8 * 2**k for k in range(10))
DEFAULT_RIDGE = 12.8  # where there are too few folds to choose one
MAX_ROWS = 100_000  # landmarks that are learned from, at most
# landmarks on which choices are made, at most: in all, and per patient on average
MAX_TRIAL_ROWS, TRIAL_ROWS_EACH = 8192, 8
CELLS = 2**26  # of the columns of all landmarks: bounds the memory
CHUNK = 1024  # landmarks whose graphs are built at once
# at most: in the end, and to choose, of which the first fit has none to go on from
STEPS, FIRST_STEPS, TRIAL_STEPS = 200, 60, 20
TOLERANCE, TRIAL_TOLERANCE = 3e-7, 1e-5  # of the loss, below which a fit has ended
SMALLEST_HAZARD = 1e-5
# how many times as much ridge the coefficients of these blocks get, unless inner folds want them loose
PENALTIES = {"hinge": 16.0, "filter": 16.0}
CLEAR = 2.0  # standard errors by which a loose block must lower the loss
LOOSE_TRIALS = (0, 2, 4)  # places of the ridges at which it is tried
LOOSE_PATIENTS = 200  # fewest patients to learn from with which it is
FACTOR = 0.3  # of a column, where a fit begins
MAX_MEMBERS = 10_000  # of a model that is loaded


@dataclass(frozen=True)
class Choice:
    """How a member is fitted.

    Attributes
    ----------
    ridge : float
        Penalty on its squared coefficients, on the scale of a sum over patients.
    loose : tuple of str
        Blocks of `PENALTIES` that get no more ridge than the others.

    Raises
    ------
    ValueError
        When the ridge is below 0 or not finite, or a block is unknown.
    """

    ridge: float
    loose: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.ridge < math.inf or not set(self.loose) <= set(PENALTIES):
            raise ValueError(f"ridge {self.ridge} and loose blocks {self.loose} of the linear family")

    def also(self, block: str, ridge: float) -> Choice:
        """Choose one more loose block, which wants at least this ridge.

        Parameters
        ----------
        block : str
            The block.
        ridge : float
            Its ridge.

        Returns
        -------
        Choice
        """
        return Choice(max(self.ridge, ridge), (*self.loose, block))


@dataclass(frozen=True, eq=False)
class Scores:
    """The coefficients of some members for one outcome.

    A group holds the columns of one node type. Its score is linear in them up to a learned limit a, ``a
    tanh(s / a)``. Where the effect of one node type depends on another (a drug that harms where a lab is
    high), the product of two scores carries it for one coefficient.

    Attributes
    ----------
    weight : Float[Tensor, "member logit column"]
        Coefficient of each column: of a survival outcome for each cause, of a diagnosis for each class or
        label, of ordered classes for each of `heads.contrasts`.
    limit : Float[Tensor, "member logit group"]
        Logarithm of a.
    middle : Float[Tensor, "member logit group"]
        What is added to a score.
    product : Float[Tensor, "member logit pair"]
        Coefficient of the product of each two scores.
    bias : Float[Tensor, "member _ time"]
        Logit of each cause, class or label where all scores are 0; of a diagnosis with one time.
    """

    weight: Float[Tensor, "member logit column"]
    limit: Float[Tensor, "member logit group"]
    middle: Float[Tensor, "member logit group"]
    product: Float[Tensor, "member logit pair"]
    bias: Float[Tensor, "member _ time"]

    @property
    def members(self) -> int:
        """How many different members there are."""
        return len(self.bias)

    def shift(
        self, x: Float[Tensor, "column landmark"], groups: Sequence[int]
    ) -> Float[Tensor, "member logit landmark"]:
        """Score landmarks.

        Parameters
        ----------
        x : Float[Tensor, "column landmark"]
            Columns of some landmarks, in the order of the groups.
        groups : sequence of int
            Number of columns of each group.

        Returns
        -------
        Float[Tensor, "member logit landmark"]
            What is added to each logit, the same for all times.
        """
        score = self.limited(self.sums(x.split(tuple(groups))))
        return (score * (1 + self.factors() @ score)).sum(2)

    def sums(
        self, parts: Sequence[Float[Tensor, "_ landmark"]]
    ) -> Float[Tensor, "member logit group landmark"]:
        """Sum the columns of each group.

        Parameters
        ----------
        parts : sequence of Float[Tensor, "_ landmark"]
            The columns of each group.

        Returns
        -------
        Float[Tensor, "member logit group landmark"]
            With what is added, not yet limited.
        """
        members, logits, _ = self.weight.shape
        weights = self.weight.flatten(0, 1).split([len(part) for part in parts], 1)
        each = [weight @ part for weight, part in zip(weights, parts, strict=True)]
        return torch.stack(each, 1).unflatten(0, (members, logits)) + self.middle[..., None]

    def limited(
        self, sums: Float[Tensor, "member logit group landmark"]
    ) -> Float[Tensor, "member logit group landmark"]:
        """Limit sums to scores.

        Parameters
        ----------
        sums : Float[Tensor, "member logit group landmark"]
            From `sums`.

        Returns
        -------
        Float[Tensor, "member logit group landmark"]
            Between -a and a.
        """
        limit = self.limit.exp()[..., None]
        return limit * (sums / limit).tanh()

    def factors(self) -> Float[Tensor, "member logit group group"]:
        """The coefficients of the products of two scores, above the diagonal.

        Returns
        -------
        Float[Tensor, "member logit group group"]
        """
        size = self.limit.shape[2]
        first, second = torch.triu_indices(size, size, 1)
        factors = self.product.new_zeros(*self.limit.shape, size)
        factors[:, :, first, second] = self.product
        return factors

    def log_probabilities(
        self, x: Float[Tensor, "column landmark"], groups: Sequence[int], head: HeadConfig
    ) -> Tensor:
        """What a head answers.

        Parameters
        ----------
        x : Float[Tensor, "column landmark"]
            Columns of some landmarks, in the order of the groups.
        groups : sequence of int
            Number of columns of each group.
        head : HeadConfig
            What is predicted.

        Returns
        -------
        Tensor
            (member, landmark, ...): log hazards (1 + cause, time), log probabilities (class,), or log odds
            (label,).
        """
        shift = self.shift(x, groups)
        if isinstance(head, DiagnosisConfig):
            if head.kind == "ordered":
                shift = contrasts(head.shape[0]).to(shift).T @ shift
            logits = (shift + self.bias).transpose(1, 2)
            return logits if head.kind == "labels" else logits.log_softmax(2)
        logits = shift.transpose(1, 2)[..., None] + self.bias[:, None]
        if isinstance(head, PathConfig):
            return logits
        return torch.cat([torch.zeros_like(logits[:, :, :1]), logits], 2).log_softmax(2)


@runtime_checkable
class _Loss(Protocol):
    """What became of some landmarks: what each adds to the loss of each fit, and the slopes of that."""

    def __call__(
        self,
        shift: Float[Tensor, "fit logit landmark"],
        bias: Float[Tensor, "fit _ time"],
        weight: Float[Tensor, "fit landmark"],
    ) -> tuple[
        Float[Tensor, "fit landmark"], Float[Tensor, "fit logit landmark"], Float[Tensor, "fit _ time"]
    ]:
        """The loss of each landmark; of their weighted sum the slopes along the shift and the bias."""


class _SurvivalLoss:
    """Negative log-likelihood of discrete-time competing hazards, see `SurvivalHead.loss`.

    A shift is the same for all intervals, so ``1 + sum_k exp(bias_kt + shift_k)`` is a product of matrices
    instead of a softmax per interval.
    """

    def __init__(self, head: SurvivalConfig, event: np.ndarray, time: np.ndarray):
        end, when = torch.tensor(head.times, dtype=torch.float64), torch.from_numpy(time)
        start = torch.cat([end.new_zeros(1), end[:-1]])
        at_risk = ((when[:, None] - start) / (end - start)).clamp(0, 1)
        row = torch.from_numpy(np.flatnonzero((event > 0) & (time <= head.times[-1])))
        cause, interval = torch.from_numpy(event)[row] - 1, torch.bucketize(when, end)[row]
        at_risk[row, interval] = 1.0  # the interval of an event counts in whole
        self.at_risk = at_risk.T.float().contiguous()  # (time, landmark)
        self.had = torch.zeros(len(head.causes), len(event))  # (cause, landmark)
        self.had[cause, row] = 1.0
        self.ended = torch.zeros(len(event), len(end))  # (landmark, time)
        self.ended[row, interval] = 1.0

    def __call__(self, shift: Tensor, bias: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        top = shift.amax(1, keepdim=True).clamp(min=0)  # no overflow
        baseline, relative = bias.exp(), (shift - top).exp()
        total = (baseline.mT @ relative).add_((-top).exp())  # (fit, time, landmark)
        loss = (total.log().add_(top).mul_(self.at_risk)).sum(1)
        loss -= (self.had * (shift + bias @ self.ended.T)).sum(1)
        each = total.reciprocal_().mul_(self.at_risk).mul_(weight[:, None])
        had = self.had * weight[:, None]
        return (
            loss,
            relative * (baseline @ each) - had,
            baseline * (relative @ each.mT) - had @ self.ended,
        )


class _DiagnosisLoss:
    """Cross-entropy."""

    def __init__(self, head: HeadConfig, label: np.ndarray):
        self.had = torch.eye(head.shape[0])[torch.from_numpy(label).long()].T  # (class, landmark)

    def __call__(self, shift: Tensor, bias: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        share = (shift + bias).log_softmax(1)
        slope = (share.exp() - self.had) * weight[:, None]
        return -(share * self.had).sum(1), slope, slope.sum(2, keepdim=True)


class _OrderedLoss(_DiagnosisLoss):
    """Cross-entropy, of scores that move the classes together, see `heads.contrasts`."""

    def __init__(self, head: HeadConfig, label: np.ndarray):
        super().__init__(head, label)
        self.contrasts = contrasts(head.shape[0])

    def __call__(self, shift: Tensor, bias: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        loss, of_class, of_bias = super().__call__(self.contrasts.T @ shift, bias, weight)
        return loss, self.contrasts @ of_class, of_bias


class _LabelsLoss:
    """Cross-entropy of each label, summed over those that are known."""

    def __init__(self, head: HeadConfig, label: np.ndarray, share: np.ndarray):
        self.yes = torch.from_numpy(label == 1).float().T.contiguous()  # (label, landmark)
        self.share = torch.from_numpy(share).float().T.contiguous()

    def __call__(self, shift: Tensor, bias: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logit = shift + bias
        loss = (nn.functional.softplus(logit) - self.yes * logit) * self.share
        slope = (logit.sigmoid() - self.yes) * self.share * weight[:, None]
        return loss.sum(1), slope, slope.sum(2, keepdim=True)


class _WorseningLoss:
    """Negative log-likelihood where of the first cause only an interval is known, see `SeenIntervals`."""

    def __init__(self, head: SurvivalConfig, event: np.ndarray, time: np.ndarray, after: np.ndarray):
        what, until, since = (torch.from_numpy(column) for column in (event, time, after))
        self.seen = SeenIntervals.of(what, until, since, torch.tensor(head.times, dtype=torch.float64))

    def __call__(self, shift: Tensor, bias: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            shift, bias = shift.detach().requires_grad_(), bias.detach().requires_grad_()
            logits = shift.transpose(1, 2)[..., None] + bias[:, None]  # (fit, landmark, cause, time)
            log_hazard = nn.functional.pad(logits, (0, 0, 1, 0)).log_softmax(2)
            loss = -self.seen.log_likelihood(log_hazard)
            of_shift, of_bias = torch.autograd.grad((loss * weight).sum(), (shift, bias))
        return loss.detach(), of_shift, of_bias


class _PathLoss:
    """Negative log-likelihood of a hazard of each transition, see `paths.poisson`."""

    def __init__(self, head: PathConfig, count: np.ndarray, exposure: np.ndarray):
        # (transition, landmark, time)
        self.count, self.exposure = (
            torch.from_numpy(x).transpose(0, 1).contiguous() for x in (count, exposure)
        )
        self.had = self.count.sum(2)

    def __call__(self, shift: Tensor, bias: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        baseline, relative = bias.exp(), shift.clamp(max=LARGEST).exp()
        expected = (self.exposure @ baseline[..., None])[..., 0] * relative  # (fit, transition, landmark)
        loss = (expected - self.had * shift - (self.count @ bias[..., None])[..., 0]).sum(1)
        weight = weight[:, None]
        each = (weight * relative)[..., None, :] @ self.exposure  # (fit, transition, 1, time)
        had = weight[:, :, None] @ self.count
        return (
            loss,
            (expected * (shift <= LARGEST) - self.had) * weight,
            baseline * each[:, :, 0] - had[:, :, 0],
        )


LOSSES: Mapping[str, Any] = {
    "survival": _SurvivalLoss,
    "worsening": _WorseningLoss,
    "recurrent": _PathLoss,
    "states": _PathLoss,
    "diagnosis": _DiagnosisLoss,
    "ordered": _OrderedLoss,
    "labels": _LabelsLoss,
}


@dataclass(frozen=True, eq=False)
class _Fits:
    """Several fits at once, each of some of the landmarks: their parameters are the rows of one matrix.

    A weight is the product of one factor for the column, shared by all logits, and one for the logit, so that
    a ridge penalty on both acts as a group lasso [1]_: columns without information are left out.

    References
    ----------
    .. [1] Hoff PD. Lasso, fractional norm and structured sparse estimation using a Hadamard product
       parametrization. Computational Statistics & Data Analysis 115:186-198, 2017.
    """

    x: Float[Tensor, "column landmark"]
    groups: tuple[int, ...]
    loss: _Loss
    weight: Float[Tensor, "fit landmark"]  # sums to one
    patients: Float[Tensor, " fit"]
    bias: Float[Tensor, "fit _ time"]  # what it starts with
    learned: Bool[Tensor, " _"]  # the others stay as they start: too few patients had it
    columns: tuple[Column, ...]
    logits: int  # as many scores has a landmark

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters of one fit."""
        columns, groups, logits = len(self.x), len(self.groups), self.logits
        per_group = {name: (logits, groups) for name in ("limit", "middle")}
        pairs = (logits, groups * (groups - 1) // 2)
        factors = {"column": (columns,), "weight": (logits, columns)}
        return factors | per_group | {"product": pairs, "bias": tuple(self.bias.shape[1:])}

    def parts(self, flat: Float[Tensor, "fit parameter"]) -> dict[str, Tensor]:
        """The parameters by name."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        split = zip(self.shapes.items(), flat.split(sizes, 1), strict=True)
        return {name: part.reshape(len(flat), *shape) for (name, shape), part in split}

    def start(self) -> Float[Tensor, "fit parameter"]:
        """Where a fit begins: no column has a weight."""
        parts = {name: torch.zeros(len(self.bias), *shape) for name, shape in self.shapes.items()}
        parts |= {"column": torch.full_like(parts["column"], FACTOR), "bias": self.bias}
        return torch.cat([part.flatten(1) for part in parts.values()], 1)

    def scores(self, flat: Float[Tensor, "fit parameter"]) -> Scores:
        """The coefficients that the parameters stand for."""
        parts = self.parts(flat)
        column = parts.pop("column")
        return Scores(**parts | {"weight": parts["weight"] * column[:, None]})

    @cached_property
    def parts_of_x(self) -> tuple[Float[Tensor, "_ landmark"], ...]:
        """The columns of each group."""
        return self.x.split(self.groups)

    def losses(self, flat: Float[Tensor, "fit parameter"]) -> Float[Tensor, "fit landmark"]:
        """What each landmark adds to the loss of each fit, without the penalty."""
        scores = self.scores(flat)
        return self.loss(scores.shift(self.x, self.groups), scores.bias, self.weight)[0]

    def value(
        self, flat: Float[Tensor, "fit parameter"], penalty: Float[Tensor, "fit parameter"]
    ) -> tuple[Float[Tensor, " fit"], Float[Tensor, "fit parameter"]]:
        """The penalised mean loss of each fit, and its slope by hand: autograd would take twice as long."""
        scores = self.scores(flat)
        sums, factors = scores.sums(self.parts_of_x), scores.factors()
        score = scores.limited(sums)
        loss, of_shift, of_bias = self.loss((score * (1 + factors @ score)).sum(2), scores.bias, self.weight)
        of_shift = of_shift[:, :, None]
        first, second = torch.triu_indices(len(self.groups), len(self.groups), 1)
        of_factors = (score * of_shift) @ score.mT
        of_score = (1 + (factors + factors.mT) @ score).mul_(of_shift)
        of_sums = of_score * (1 - (score / scores.limit.exp()[..., None]).square_())
        of_limit = (of_score * score - of_sums * sums).sum(3)
        by_group = of_sums.flatten(0, 1).unbind(1)
        of_weight = torch.cat([by @ part.T for by, part in zip(by_group, self.parts_of_x, strict=True)], 1)
        of_weight = of_weight.view_as(scores.weight)
        parts = self.parts(flat)
        slopes = {
            "column": (of_weight * parts["weight"]).sum(1),
            "weight": of_weight * parts["column"][:, None],
            "limit": of_limit,
            "middle": of_sums.sum(3),
            "product": of_factors[:, :, first, second],
            "bias": of_bias,
        }
        slope = torch.cat([slopes[name].flatten(1) for name in self.shapes], 1)
        pull = flat * penalty
        return (loss * self.weight).sum(1) + (pull * flat).sum(1), slope + 2 * pull

    def loosen(self, flat: Float[Tensor, "fit parameter"], block: str) -> Float[Tensor, "fit parameter"]:
        """Let the columns of a block begin anew."""
        size = len(self.columns)
        here = torch.tensor([column.block == block for column in self.columns])
        return torch.cat([flat[:, :size].where(~here, FACTOR), flat[:, size:]], 1)

    def penalties(self, loose: Sequence[Collection[str]]) -> Float[Tensor, "fit parameter"]:
        """How many times the ridge each parameter gets, where each fit has some loose blocks."""
        factors = [
            [1.0 if column.block in some else PENALTIES.get(column.block, 1.0) for column in self.columns]
            for some in loose
        ]
        column = torch.tensor(factors)
        parts = {name: torch.ones(len(loose), *shape) for name, shape in self.shapes.items()}
        parts |= {"column": column, "weight": parts["weight"] * column[:, None]}
        parts |= {"bias": torch.zeros_like(parts["bias"])}
        return torch.cat([part.flatten(1) for part in parts.values()], 1)

    def fit(
        self,
        flat: Float[Tensor, "fit parameter"],
        ridge: Float[Tensor, " fit"],
        loose: Sequence[Collection[str]],
        steps: int,
        tolerance: float,
    ) -> Float[Tensor, "fit parameter"]:
        """Minimise the penalised mean loss of each."""
        penalty = self.penalties(loose) * (ridge / self.patients)[:, None]
        moves = [
            self.learned.view(-1, 1).expand(shape)
            if shape[0] == len(self.learned) and len(shape) == 2
            else torch.ones(shape)
            for shape in self.shapes.values()
        ]
        free = torch.cat([part.flatten().to(flat.dtype) for part in moves])

        def value(flat: Tensor) -> tuple[Tensor, Tensor]:
            found, slope = self.value(flat, penalty)
            return found, slope * free

        return minimise(value, flat, steps, tolerance)


@dataclass(frozen=True, eq=False)
class _Learning:
    """The landmarks that one outcome is learned from."""

    problem: Problem
    outcome: str
    rows: np.ndarray  # (landmark,) positions in the problem
    x: Float[Tensor, "column landmark"]
    groups: tuple[int, ...]
    columns: tuple[Column, ...]
    fold: np.ndarray  # (landmark,) which fold each is of

    @cached_property
    def learned(self) -> list[bool]:
        """Which causes or classes enough patients had."""
        learned: list[bool] = self.problem.learned(self.outcome, self.rows).tolist()
        return learned

    def fits(self, left_out: Sequence[tuple[int, ...]], some: np.ndarray) -> _Fits:
        """Fits of some of the landmarks, each without some folds."""
        problem, rows = self.problem, self.rows[some]
        head, target = problem.heads[self.outcome], problem.targets[self.outcome]
        weight = self.weights(some)
        if head.kind == "ordered":  # each score moves all classes
            weight = weight * np.array(self.learned)[target.strata[rows]]
        inside = [~np.isin(self.fold[some], folds) for folds in left_out]
        weights = torch.from_numpy(np.stack([weight * mask for mask in inside])).float()
        starts = [_logits(problem.start(self.outcome, rows[mask]), head) for mask in inside]
        return _Fits(
            self.x[:, torch.from_numpy(some)],
            self.groups,
            LOSSES[head.kind](head, *(column[rows] for column in target.columns)),
            weights / weights.sum(1, keepdim=True).clamp(min=1e-9),
            torch.tensor([float(len(np.unique(problem.landmarks.patient[rows[mask]]))) for mask in inside]),
            torch.stack(starts),
            torch.tensor(self.learned),
            self.columns,
            _num_scores(head),
        )

    def fit(self) -> tuple[Scores, list[Choice]]:
        """Fit the member of each fold without it, as its other folds choose."""
        choices = self.choose()
        fits = self.fits([(fold,) for fold in range(len(choices))], np.arange(len(self.rows)))
        ridges = torch.tensor([choice.ridge for choice in choices])
        flat = fits.fit(fits.start(), ridges, [choice.loose for choice in choices], STEPS, TOLERANCE)
        if not flat.isfinite().all():
            raise InputError(f"outcome {self.outcome!r}: the linear model has no finite coefficients")
        return fits.scores(flat), choices

    def choose(self) -> list[Choice]:
        """Choose how each member is fitted by its other folds in turn.

        The fit without the folds i and j is scored on j for member i, which sees nothing of i, and on i for
        member j. The ridge is that of the lowest loss; a block is loose where that lowers the loss clearly.
        Which ridges a member chooses from hangs on its own losses alone.
        """
        folds = len(self.problem.folds)
        if folds < 3:
            return [Choice(DEFAULT_RIDGE, ())] * folds
        pairs = [(i, j) for i in range(folds) for j in range(i + 1, folds)]
        draw = np.random.default_rng(self.problem.config.seed).permutation(len(self.rows))
        patients = len(np.unique(self.problem.landmarks.patient[self.rows]))
        some = np.sort(draw[: min(MAX_TRIAL_ROWS, TRIAL_ROWS_EACH * patients)])
        fits = self.fits(pairs, some)

        def trial(flat: Tensor, ridge: float, loose: tuple[str, ...] = ()) -> tuple[Tensor, Tensor]:
            ridges = torch.full((len(pairs),), ridge)
            steps = TRIAL_STEPS if fitted else FIRST_STEPS
            flat = fits.fit(flat, ridges, [loose] * len(pairs), steps, TRIAL_TOLERANCE)
            return flat, self.held_out(fits.losses(flat), pairs, some)

        fitted, losses = list[Tensor](), list[Tensor]()
        for ridge in RIDGES:  # a fit goes on from that of the weaker ridge
            flat, loss = trial(fitted[-1] if fitted else fits.start(), ridge)
            fitted.append(flat)
            losses.append(loss)
            paths = torch.stack([loss.sum(1) for loss in losses], 1).tolist()
            if all(_end(path) < len(path) for path in paths):
                break
        best = [int(np.argmin(path[: _end(path)])) for path in paths]
        choices = [Choice(RIDGES[place], ()) for place in best]
        blocks = {column.block for column in self.columns} if patients >= LOOSE_PATIENTS else set()
        own = [[at for at in LOOSE_TRIALS if at < min(_end(path) + 2, len(path))] for path in paths]
        for block in sorted(blocks & set(PENALTIES)):
            tried = {
                at: trial(fits.loosen(fitted[at], block), RIDGES[at], (block,))[1] for at in set().union(*own)
            }
            for member, places in enumerate(own):
                _, place = min((float(tried[at][member].sum()), at) for at in places)
                gain = losses[best[member]][member] - tried[place][member]
                if gain.sum() > CLEAR * gain.square().sum().sqrt():
                    choices[member] = choices[member].also(block, RIDGES[place])
        return choices

    def held_out(
        self,
        loss: Float[Tensor, "fit landmark"],
        pairs: Sequence[tuple[int, int]],
        some: np.ndarray,
    ) -> Float[Tensor, "member patient"]:
        """What each patient adds to the loss of each member on its other folds."""
        patients, patient = np.unique(self.problem.landmarks.patient[self.rows[some]], return_inverse=True)
        weight = self.weights(some)
        loss = loss.double() * torch.from_numpy(weight / max(weight.sum(), 1e-9))
        total = torch.zeros(len(self.problem.folds), len(patients), dtype=torch.float64)
        for each, (i, j) in zip(loss, pairs, strict=True):
            for member, other in ((i, j), (j, i)):
                rows = torch.from_numpy(np.flatnonzero(self.fold[some] == other))
                total[member].index_add_(0, torch.from_numpy(patient)[rows], each[rows])
        return total

    def weights(self, some: np.ndarray) -> np.ndarray:
        """For how many each of some landmarks counts: every landmark time the same."""
        rows = self.rows[some]
        return self.problem.counts(rows) * self.problem.targets[self.outcome].share[rows]


def _end(path: Sequence[float]) -> int:
    """How far a path of losses counts: up to where it rose twice, then over all."""
    rose = np.diff(path) > 0
    twice = np.flatnonzero(rose[1:] & rose[:-1])
    return int(twice[0]) + 1 if len(twice) else len(path)


def _num_scores(head: HeadConfig) -> int:
    """How many scores a landmark has: one a logit, one less of ordered classes."""
    return num_logits(head) - (head.kind == "ordered")


def _logits(start: np.ndarray, head: HeadConfig) -> Float[Tensor, "logit time"]:
    """What a head starts with, as logits."""
    if isinstance(head, PathConfig):
        return torch.from_numpy(start).float().clamp(min=SMALLEST).log()
    if head.kind == "labels":
        return torch.from_numpy(start).float().logit(SMALLEST_HAZARD)[:, None]
    share = torch.from_numpy(start).float().clamp(min=SMALLEST_HAZARD)
    if isinstance(head, DiagnosisConfig):
        return share.log()[:, None]
    return (share / (1 - share.sum(0)).clamp(min=SMALLEST_HAZARD)).log()


class LinearHazard:
    """The linear family, see `problem.Family`.

    Attributes
    ----------
    name : str
        ``"linear"``.
    columns : LinearColumns
        What it reads off the graphs.
    heads : mapping of str to HeadConfig
        What is predicted, by outcome.
    members : int
        Members; those that are left without the same fold are equal.
    scores : mapping of str to Scores or ValueScores
        The coefficients of the different members, by outcome.
    choices : mapping of str to sequence of Choice
        How each of them was fitted, by outcome.
    """

    name: ClassVar[str] = "linear"

    def __init__(
        self,
        columns: LinearColumns,
        heads: Mapping[str, HeadConfig],
        members: int,
        scores: Mapping[str, Scores | ValueScores],
        choices: Mapping[str, Sequence[Choice]],
    ):
        self.columns, self.heads, self.members = columns, heads, members
        self.scores, self.choices = scores, choices

    @classmethod
    def fit(cls, problem: Problem) -> LinearHazard:
        """Fit every member, each on `problem.train(member)` alone.

        Parameters
        ----------
        problem : Problem
            What there is to learn from.

        Returns
        -------
        LinearHazard

        Raises
        ------
        InputError
            When a coefficient is not finite.
        """
        X, columns = problem.landmarks, LinearColumns(problem.vocabulary, problem.bases)
        most = min(MAX_ROWS, max(CHUNK, CELLS // len(columns.names)))
        rows = np.sort(np.random.default_rng(problem.config.seed).permutation(len(X))[:most])
        starts = range(0, len(rows), CHUNK)
        x = torch.cat([columns(build_graphs(X[rows[i : i + CHUNK]])) for i in starts])
        scale = _scales(x, torch.from_numpy(X.patient[rows]), problem.config.min_patients)
        kept = scale.nonzero()[:, 0]
        x = (x[:, kept] * scale[kept]).T.contiguous()
        groups = tuple(int((scale[part] > 0).sum()) for part in columns.groups)
        names = tuple(columns.names[i] for i in kept.tolist())
        fold = np.empty(len(X), np.int64)
        for k, (_, held_out) in enumerate(problem.folds):
            fold[held_out] = k
        report = problem.progress or (lambda *_: None)
        scores, choices = dict[str, Scores | ValueScores](), dict[str, list[Choice]]()
        for done, (outcome, target) in enumerate(problem.targets.items()):
            report("linear", done, len(problem.targets))
            known = np.flatnonzero(target.known[rows])
            some = x[:, torch.from_numpy(known)]
            if isinstance(problem.heads[outcome], ProgressionConfig):
                values, ridges = fit_values(problem, outcome, rows[known], some, fold[rows[known]])
                first = range(min(problem.config.members, values.members))
                scores[outcome] = values.take(first).widened(kept, scale)
                choices[outcome] = [Choice(ridges[member], ()) for member in first]
                continue
            learning = _Learning(problem, outcome, rows[known], some, groups, names, fold[rows[known]])
            fitted, chosen = learning.fit()  # of all folds: a member does not depend on how many there are
            weight = torch.zeros(*fitted.weight.shape[:2], len(scale))
            weight[:, :, kept] = fitted.weight * scale[kept]
            parts = vars(replace(fitted, weight=weight)).items()
            scores[outcome] = Scores(**{name: part[: problem.config.members].clone() for name, part in parts})
            choices[outcome] = chosen[: problem.config.members]
        report("linear", len(problem.targets), len(problem.targets))
        return cls(columns, problem.heads, problem.config.members, scores, choices)

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
            (member, landmark, ...) float64 as a head's `forward` gives them: log hazards (1 + cause, time)
            with slot 0 event-free, or log probabilities (class,).
        """
        x = self.columns(graphs).double().T
        sizes = [part.stop - part.start for part in self.columns.groups]
        which = range(self.members) if members is None else members
        answers = {}
        for outcome, scores in self.scores.items():
            head = self.heads[outcome]
            if isinstance(scores, ValueScores):
                assert isinstance(head, ProgressionConfig)
                last = head.anchored(last_value(graphs, head))
                some = [scores.take([member % scores.members]) for member in which]
                answers[outcome] = torch.cat([one.log_probabilities(x, last, head) for one in some])
                continue
            rows = [member % len(scores.bias) for member in which]
            alone = {
                row: Scores(**{name: part[row : row + 1].double() for name, part in vars(scores).items()})
                for row in set(rows)
            }
            each = {row: one.log_probabilities(x, sizes, head) for row, one in alone.items()}
            answers[outcome] = torch.cat([each[row] for row in rows])
        return answers

    def to(self, device: torch.device) -> None:
        """Stay where it is: its columns are read and scored on the CPU.

        Parameters
        ----------
        device : torch.device
            Where the others compute.
        """

    def facts(self) -> dict[str, Any]:
        """Everything but the tensors and what is in the vocabulary and the heads, as JSON holds it.

        Returns
        -------
        dict
            Keys ``members`` and ``choices``.
        """
        choices = {name: [asdict(choice) for choice in some] for name, some in self.choices.items()}
        return {"members": self.members, "choices": choices}

    def tensors(self) -> dict[str, Tensor]:
        """The fitted numbers by name.

        Returns
        -------
        dict of str to Tensor
            Of each outcome, by its position, the fields of its `Scores`.
        """
        return {
            f"outcome.{i}.{name}": part
            for i, scores in enumerate(self.scores.values())
            for name, part in vars(scores).items()
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
    ) -> LinearHazard:
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
            Not used: classes of the user's own, which other families take.

        Returns
        -------
        LinearHazard

        Raises
        ------
        KeyError, ValueError, TypeError, RuntimeError
            When they do not fit together.
        """
        columns = LinearColumns(vocabulary, bases)
        members, scores, choices = facts["members"], dict[str, Scores | ValueScores](), {}
        if type(members) is not int or not 1 <= members <= MAX_MEMBERS:
            raise ValueError(f"{members!r} members of the linear family")
        for i, (outcome, head) in enumerate(heads.items()):
            form = ValueScores if isinstance(head, ProgressionConfig) else Scores
            one = form(**{f.name: tensors[f"outcome.{i}.{f.name}"] for f in fields(form)})
            scores[outcome] = one
            choices[outcome] = [
                Choice(one["ridge"], tuple(one["loose"])) for one in facts["choices"][outcome]
            ]
            if len(choices[outcome]) != one.members:
                raise ValueError(f"outcome {outcome!r}: other choices than members of the linear family")
            if isinstance(one, ValueScores):
                assert isinstance(head, ProgressionConfig)
                one.check(len(columns.names), head)
            else:
                _check(one, columns, head)
        return cls(columns, heads, members, scores, choices)


def _check(scores: Scores, columns: LinearColumns, head: HeadConfig) -> None:
    """Refuse coefficients of other shapes than these columns and this head need."""
    logits = num_logits(head)
    groups = len(columns.groups)
    wanted = {
        "weight": len(columns.names),
        "limit": groups,
        "middle": groups,
        "product": groups * (groups - 1) // 2,
        "bias": max(1, len(head.times)),
    }
    for name, size in wanted.items():
        part = getattr(scores, name)
        rows = logits if name == "bias" else _num_scores(head)
        if part.shape != (len(scores.bias), rows, size) or not part.isfinite().all():
            raise ValueError(f"coefficients {name!r} of the linear family do not fit its columns")


def _scales(
    x: Float[Tensor, "landmark column"], patient: Int[Tensor, " landmark"], least: int
) -> Float[Tensor, " column"]:
    """By what each column is multiplied to have a standard deviation of one: a ridge then weighs all alike.

    A column that is almost always of one value grows fourfold at most; one that varies in fewer than `least`
    patients gets zero. Scales are rounded to steps of a tenth of their logarithm, since the deviation of a
    flag gives away a count.
    """
    spread = x.std(0, correction=0)
    usable = (moving(x, patient)[0] >= least) & (spread > 1e-6)
    scale = (1 / spread.clamp(min=0.25)).log().mul(10).round().div(10).exp()
    return scale.where(usable, 0.0)
