"""The first forecast: the shifts by the last observations, before any message is passed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gnnpatient.cohort.build import build_graphs
from gnnpatient.cohort.landmarks import Landmarks
from gnnpatient.errors import Refused
from gnnpatient.model.heads import DiagnosisHead, SurvivalHead
from gnnpatient.model.model import PatientGNN
from gnnpatient.prognosis.targets import LabelTarget, Target, weights

RIDGES = (3.0, 6.0, 12.0, 25.0, 50.0, 100.0)  # one of them is chosen, the first unless others are better
FOLDS = 3  # inner folds that choose it
CELLS = 2**24  # of the inputs: bounds the memory
STEPS, TRIAL_STEPS = 100, 40  # of L-BFGS at most, in the end and to choose

Inner = Sequence[tuple[np.ndarray, np.ndarray]]


def first_heads(
    module: PatientGNN,
    landmarks: Landmarks,
    targets: Mapping[str, Target | LabelTarget],
    inner: Inner,
    ridge: float | None,
    seed: int,
) -> tuple[dict[str, Tensor], float]:
    """Fit the shifts by the last observations and the biases beside them; also returns the ridge.

    They are cheap and regularised, so they take all asks at once; what the messages add is learned on top. In
    small batches, and stopped early together with the network, they would stay far from what they can say.
    Without a ridge the first folds of `inner` choose one.
    """
    shifts = {name: tensor for name, tensor in module.heads.named_parameters() if ".shift." in name}
    if not shifts:
        return {}, ridge or 0.0
    size = max(1024, CELLS // sum(module.encode.groups))
    rows = np.random.default_rng(seed).permutation(len(landmarks))[:size]
    where = next(module.parameters()).device
    with torch.no_grad():
        chunks = (build_graphs(landmarks[rows[i : i + 512]]) for i in range(0, len(rows), 512))
        last = torch.cat([module.encode.last_observation(chunk.to(where)) for chunk in chunks])
    heads = [module.head(name) for name in targets]
    for head in heads:
        if head.shift is not None:
            head.shift.start(last)
    biases = {name: tensor for name, tensor in module.heads.named_parameters() if name.endswith("out.bias")}
    asks = _Asks(
        module, heads, tuple(targets.values()), rows, last, landmarks.patient[rows],
        torch.from_numpy(weights(landmarks.at[rows])).to(last), [*shifts.values(), *biases.values()],
    )  # fmt: skip
    if ridge is None:
        ridge = asks.choose([np.isin(rows, train) for train, _ in inner[:FOLDS]])
    asks.descend(np.ones(len(rows), bool), ridge, STEPS)
    scales = {name: tensor for name, tensor in module.heads.named_buffers() if name.endswith("shift.scale")}
    return {name: tensor.detach().clone() for name, tensor in (shifts | biases | scales).items()}, ridge


@dataclass(frozen=True, eq=False)
class _Asks:
    """All that the shifts are fitted on: a row an ask."""

    module: PatientGNN
    heads: Sequence[SurvivalHead | DiagnosisHead]
    targets: Sequence[Target | LabelTarget]
    rows: np.ndarray  # which asks of the targets
    last: Tensor  # (row, feature)
    patient: np.ndarray
    weight: Tensor  # (row,)
    parameters: Sequence[torch.nn.Parameter]

    def choose(self, train: Sequence[np.ndarray]) -> float:
        """The weakest ridge whose loss on rows not trained on is within a standard error of the least.

        By patient, paired (the rule of Breiman et al. 1984, but towards the weaker: what is learned on top
        shrinks once more). `train` is a (row,) bool a fold.
        """
        start = [parameter.detach().clone() for parameter in self.parameters]
        kept = [start] * len(train)  # each ridge goes on from the one before: from weak to strong, as of
        losses: list[np.ndarray] = []  # weights at zero nothing would leave again
        for ridge in RIDGES:
            by_patient = np.zeros(self.patient.max() + 1)
            for fold, mask in enumerate(train):
                self._set(kept[fold])
                self.descend(mask, ridge, TRIAL_STEPS)
                kept[fold] = [parameter.detach().clone() for parameter in self.parameters]
                with torch.no_grad():
                    for known, parts in self._losses(self._terms(~mask)):
                        np.add.at(by_patient, self.patient[known], parts.cpu().numpy())
            losses.append(by_patient)
            if len(losses) > 2 and losses[-1].sum() > losses[-2].sum() > losses[-3].sum():
                break
        self._set(start)
        least = min(losses, key=np.sum)
        for ridge, loss in zip(RIDGES, losses, strict=False):
            worse = loss - least
            if worse.sum() <= np.sqrt((worse**2).sum()):
                return ridge
        raise AssertionError("the least is no worse than itself")

    def descend(self, mask: np.ndarray, ridge: float, steps: int) -> None:
        """Least penalised loss on the rows of `mask`, by L-BFGS (Liu & Nocedal 1989)."""
        share, terms = ridge / max(len(np.unique(self.patient[mask])), 1), self._terms(mask)
        optimizer = torch.optim.LBFGS(
            self.parameters, max_iter=steps, history_size=20, line_search_fn="strong_wolfe",
            tolerance_grad=1e-5, tolerance_change=1e-6,
        )  # fmt: skip

        def again() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            losses = [parts.sum() for _, parts in self._losses(terms)]
            loss = torch.stack(losses).sum() + share * self.module.linear_penalty()
            loss.backward()
            return loss

        optimizer.step(again)
        if not math.isfinite(float(again().detach())):
            raise Refused("the first forecast has no finite loss; take a larger ridge")
        optimizer.zero_grad(set_to_none=True)

    def _terms(self, mask: np.ndarray) -> list[tuple[np.ndarray, Tensor, Tensor, tuple[Tensor, ...]]]:
        """Of each target its known rows of `mask`: which, their inputs, weights of sum one, what came."""
        device, terms = self.last.device, []
        for target in self.targets:
            known = np.flatnonzero(target.known[self.rows] & mask)
            there = torch.from_numpy(known).to(device)
            weight = self.weight[there] / self.weight[there].sum().clamp(min=1.0)
            truth = tuple(torch.from_numpy(column[self.rows[known]]).to(device) for column in target.columns)
            terms.append((known, self.last[there], weight, truth))
        return terms

    def _losses(
        self, terms: Sequence[tuple[np.ndarray, Tensor, Tensor, tuple[Tensor, ...]]]
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Of each outcome the rows, and what each of them adds to the weighted mean loss."""
        for head, (known, last, weight, truth) in zip(self.heads, terms, strict=True):
            yield known, head.loss(head(None, last), *truth) * weight

    @torch.no_grad()
    def _set(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
