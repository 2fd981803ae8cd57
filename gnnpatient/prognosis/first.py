"""The first forecast: the shifts by the last observations, before any message is passed."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gnnpatient.cohort.build import build_graphs
from gnnpatient.cohort.landmarks import Landmarks
from gnnpatient.errors import Refused
from gnnpatient.model.model import PatientGNN
from gnnpatient.prognosis.targets import LabelTarget, Target, weights

CELLS = 2**24  # of the inputs: bounds the memory
STEPS = 200  # at most


def first_heads(
    module: PatientGNN,
    landmarks: Landmarks,
    targets: Mapping[str, Target | LabelTarget],
    ridge: float,
    seed: int,
) -> dict[str, Tensor]:
    """Fit the shifts by the last observations, and the biases beside them, by L-BFGS (Liu & Nocedal 1989).

    They are cheap and regularised, so they take all asks at once; what the messages add is learned on top. In
    small batches, and stopped early together with the network, they would stay far from what they can say.
    """
    shifts = {name: tensor for name, tensor in module.heads.named_parameters() if ".shift." in name}
    if not shifts:
        return {}
    biases = {name: tensor for name, tensor in module.heads.named_parameters() if name.endswith("out.bias")}
    size = max(1024, CELLS // sum(module.encode.groups))
    rows = np.random.default_rng(seed).permutation(len(landmarks))[:size]
    where = next(module.parameters()).device
    with torch.no_grad():
        chunks = (build_graphs(landmarks[rows[i : i + 512]]) for i in range(0, len(rows), 512))
        last = torch.cat([module.encode.last_observation(chunk.to(where)) for chunk in chunks])
    weight, parts = torch.from_numpy(weights(landmarks.at[rows])).to(last), []
    for name, target in targets.items():
        head, known = module.head(name), np.flatnonzero(target.known[rows])
        if head.shift is not None:
            head.shift.start(last)
        there = torch.from_numpy(known).to(where)
        truth = tuple(torch.from_numpy(column[rows[known]]).to(where) for column in target.columns)
        parts.append((head, last[there], truth, weight[there] / weight[there].sum().clamp(min=1.0)))
    share = ridge / len(np.unique(landmarks.patient[rows]))
    optimizer = torch.optim.LBFGS(
        [*shifts.values(), *biases.values()],
        max_iter=STEPS,
        history_size=20,
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def again() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        losses = [(head.loss(head(None, x), *truth) * w).sum() for head, x, truth, w in parts]
        loss = torch.stack(losses).sum() + share * module.linear_penalty()
        loss.backward()
        return loss

    optimizer.step(again)
    if not math.isfinite(float(again().detach())):
        raise Refused("the first forecast has no finite loss; take a larger ridge")
    optimizer.zero_grad(set_to_none=True)
    scales = {name: tensor for name, tensor in module.heads.named_buffers() if name.endswith("shift.scale")}
    return {name: tensor.detach().clone() for name, tensor in (shifts | biases | scales).items()}
