"""The first fit: the shifts by the last observations, before any message is passed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gnnpatient.cohort.build import build_graphs
from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.cohort.splits import landmark_weights
from gnnpatient.errors import InputError
from gnnpatient.graphs import moving
from gnnpatient.model.model import PatientGNN
from gnnpatient.prognosis.targets import Target

RIDGES = (3.0, 12.0, 50.0, 200.0)  # the first is taken unless a stronger one is clearly better
FOLDS = 3  # inner folds on which that is decided
CELLS = 2**24  # of the inputs: bounds the memory
STEPS, TRIAL_STEPS = 200, 40  # at most, in the end and to choose


def first_heads(
    module: PatientGNN,
    landmarks: Landmarks,
    targets: Mapping[str, Target],
    inner: Sequence[tuple[np.ndarray, np.ndarray]],
    ridge: float | None,
    seed: int,
    least: int = 1,
) -> tuple[dict[str, Tensor], float]:
    """Fit the shifts by the last observations, and the biases beside them.

    They are cheap and regularised, so they take all landmarks at once; what the messages add is learned on
    top. In small batches, and stopped early together with the network, they would stay far from their
    optimum.

    Parameters
    ----------
    module : PatientGNN
        A fresh network; its heads are changed in place.
    landmarks : Landmarks
        The training landmarks.
    targets : mapping of str to Target
        What came of each landmark, by outcome.
    inner : sequence of tuple of ndarray
        Training and validation positions of the inner folds; the first three choose the ridge.
    ridge : float or None
        Penalty on the squared coefficients, on the scale of a sum over patients; None: chosen on the inner
        folds.
    seed : int
        Seed of the landmarks that are taken where there are too many for memory.
    least : int
        A column that varies in fewer patients is left out, default 1.

    Returns
    -------
    tuple of (dict of str to Tensor, float)
        The fitted tensors of the heads, and the ridge.

    Raises
    ------
    InputError
        When the loss is not finite.
    """
    shifts = {name: tensor for name, tensor in module.heads.named_parameters() if ".shift." in name}
    if not shifts:
        return {}, 0.0
    biases = {name: tensor for name, tensor in module.heads.named_parameters() if name.endswith("out.bias")}
    size = max(1024, CELLS // sum(module.encode.groups))
    rows = np.random.default_rng(seed).permutation(len(landmarks))[:size]
    where = next(module.parameters()).device
    with torch.no_grad():
        chunks = (build_graphs(landmarks[rows[i : i + 512]]) for i in range(0, len(rows), 512))
        last = torch.cat([module.encode.last_observation(chunk.to(where)) for chunk in chunks])
    usable = (
        moving(last, torch.from_numpy(landmarks.patient[rows]).to(where))[0] >= least if least > 1 else None
    )
    for name in targets:
        if (shift := module.head(name).shift) is not None:
            shift.start(last, usable)
    weight = landmark_weights(landmarks.moments[rows])
    training = _TrainingRows(
        module, targets, rows, last, weight, landmarks, [*shifts.values(), *biases.values()]
    )
    if ridge is None:
        ridge = training.choose([np.isin(rows, train) for train, _ in inner[:FOLDS]])
    training.descend(np.ones(len(rows), bool), ridge, STEPS)
    scales = {name: tensor for name, tensor in module.heads.named_buffers() if name.endswith("shift.scale")}
    return {name: tensor.detach().clone() for name, tensor in (shifts | biases | scales).items()}, ridge


@dataclass(frozen=True, eq=False)
class _TrainingRows:
    """The data that the shifts are fitted on, a row per landmark."""

    module: PatientGNN
    targets: Mapping[str, Target]
    rows: np.ndarray  # (row,) int64, positions in the targets
    last: Tensor  # (row, feature)
    weight: np.ndarray  # (row,) float64, every landmark time counts the same
    landmarks: Landmarks
    parameters: Sequence[torch.nn.Parameter]

    def choose(self, train: Sequence[np.ndarray]) -> float:
        """Choose the ridge after which no stronger one is better by more than two standard errors.

        On rows that were not trained on, paired by patient. `train` is a (row,) bool per fold.
        """
        start = [parameter.detach().clone() for parameter in self.parameters]
        # a fit goes on from that of the weaker ridge: weights at zero stay there
        fitted = [start] * len(train)

        def held_out_loss(ridge: float) -> np.ndarray:
            loss = np.zeros(self.landmarks.patient.max() + 1)
            for fold, mask in enumerate(train):
                self._set(fitted[fold])
                self.descend(mask, ridge, TRIAL_STEPS)
                fitted[fold] = [parameter.detach().clone() for parameter in self.parameters]
                for known, losses in self._losses(~mask):
                    with torch.no_grad():
                        np.add.at(loss, self.landmarks.patient[self.rows[known]], losses().cpu().numpy())
            return loss

        ridge, loss = RIDGES[0], held_out_loss(RIDGES[0])
        for stronger in RIDGES[1:]:
            other = held_out_loss(stronger)
            gain = loss - other
            if gain.sum() <= 2 * np.sqrt((gain**2).sum()):
                break
            ridge, loss = stronger, other
        self._set(start)
        return ridge

    def descend(self, mask: np.ndarray, ridge: float, steps: int) -> None:
        """Minimise the penalised loss on the rows of `mask`, by L-BFGS (Liu & Nocedal 1989)."""
        share = ridge / max(1, len(np.unique(self.landmarks.patient[self.rows[mask]])))
        losses = [loss for _, loss in self._losses(mask)]
        optimizer = torch.optim.LBFGS(
            self.parameters,
            max_iter=steps,
            history_size=20,
            tolerance_grad=1e-5,
            tolerance_change=1e-7,
            line_search_fn="strong_wolfe",
        )

        def again() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            loss = torch.stack([loss().sum() for loss in losses]).sum() + share * self.module.linear_penalty()
            loss.backward()
            return loss

        optimizer.step(again)
        if not math.isfinite(float(again().detach())):
            raise InputError("the first forecast has no finite loss; take a larger ridge")
        optimizer.zero_grad(set_to_none=True)

    def _losses(self, mask: np.ndarray) -> list[tuple[np.ndarray, Callable[[], Tensor]]]:
        """Of each outcome its known rows of `mask`, and what each adds to the weighted mean loss."""
        return [self._loss(name, mask) for name in self.targets]

    def _loss(self, name: str, mask: np.ndarray) -> tuple[np.ndarray, Callable[[], Tensor]]:
        head, target, device = self.module.head(name), self.targets[name], self.last.device
        known = np.flatnonzero(target.known[self.rows] & mask)
        x = self.last[torch.from_numpy(known).to(device)]
        weight = self.weight[known] * target.share[self.rows[known]]
        share = torch.from_numpy(weight / max(weight.sum(), 1.0)).to(x)
        truth = tuple(torch.from_numpy(column[self.rows[known]]).to(device) for column in target.columns)
        loss = head.first_loss(x, *truth)
        return known, lambda: loss() * share

    @torch.no_grad()
    def _set(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
