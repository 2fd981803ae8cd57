"""Families that are fitted in no time, to test what is done with families: one table of answers each.

`Chance` answers what a head starts with, `Bins` that of patients with about the same first static number;
`Memory` knows by heart what came of every patient that it was fitted on, and says of others what came of the
nearest one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from gnnpatient.cohort.build import build_graphs

SURE = 0.98  # of what it knows by heart
NOWHERE = 1e9  # a key that nobody is near


def logs(start: torch.Tensor, head: Any) -> torch.Tensor:
    """Log hazards, or log probabilities, of what a head starts with."""
    start = start.double().clamp(1e-5)
    if not head.times:
        return (start / start.sum()).log()
    return torch.cat([1 - start.sum(0, keepdim=True).clamp(max=0.99), start]).log().log_softmax(0)


class Chance:
    name: ClassVar[str] = "linear"
    fewest: ClassVar[int] = 20  # landmarks that a key needs
    fits: ClassVar[list[tuple[str, int, Any]]] = []  # name, member and training rows of every fit

    def __init__(self, keys: torch.Tensor, tables: dict[str, torch.Tensor]) -> None:
        self.keys, self.tables = keys, tables  # (member, key), (member, 1 + key, ...): the first is of others

    @staticmethod
    def key(graphs: Any) -> torch.Tensor:
        return torch.zeros(len(graphs))

    @property
    def members(self) -> int:
        return len(self.keys)

    @classmethod
    def fit(cls, problem: Any) -> Chance:
        config = problem.config
        key = cls.key(build_graphs(problem.landmarks))
        every = key[key.isfinite()].unique()
        keys, tables = [], {name: [] for name in problem.heads}
        for member in range(config.members):
            rows = problem.train(member)
            cls.fits.append((cls.name, member, rows))
            mine = [rows[(key[rows] == k).numpy()] for k in every]
            enough = torch.tensor([len(some) >= cls.fewest for some in mine], dtype=torch.bool)
            keys.append(every.where(enough, NOWHERE))
            for name, head in problem.heads.items():
                other = logs(torch.from_numpy(problem.start(name, rows)), head)
                each = [
                    cls.answer(problem, name, some) if ok else other
                    for some, ok in zip(mine, enough, strict=True)
                ]
                tables[name].append(torch.stack([other, *each]))
            if problem.progress:
                problem.progress(cls.name, member + 1, config.members)
        return cls(torch.stack(keys), {name: torch.stack(some).float() for name, some in tables.items()})

    @staticmethod
    def answer(problem: Any, name: str, rows: Any) -> torch.Tensor:
        return logs(torch.from_numpy(problem.start(name, rows)), problem.heads[name])

    def forecast(self, graphs: Any, members: Any = None) -> dict[str, torch.Tensor]:
        chosen = list(range(self.members) if members is None else members)
        away = (self.key(graphs)[None, :, None] - self.keys[chosen][:, None]).abs()  # (member, landmark, key)
        # the nearest key, or the first answer where there is none
        place = nn.functional.pad(away.nan_to_num(NOWHERE), (1, 0), value=NOWHERE / 2).argmin(-1)
        return {
            name: torch.stack([table[m][p] for m, p in zip(chosen, place, strict=True)])
            for name, table in self.tables.items()
        }

    def to(self, device: torch.device) -> None:
        pass

    def facts(self) -> dict[str, Any]:
        return {"outcomes": list(self.tables)}

    def tensors(self) -> dict[str, torch.Tensor]:
        return {
            "keys": self.keys.contiguous(),
            **{f"of.{name}": table for name, table in self.tables.items()},
        }

    @classmethod
    def load(
        cls,
        facts: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        vocabulary: Any,
        bases: Any,
        heads: Mapping[str, Any],
        layers: Mapping[str, type] | None = None,
    ) -> Chance:
        for name, head in heads.items():
            if tensors[f"of.{name}"].shape[2:] != head.shape:
                raise ValueError("shape")
        return cls(tensors["keys"], {name: tensors[f"of.{name}"] for name in facts["outcomes"]})


class Bins(Chance):
    name = "boosted"

    @staticmethod
    def key(graphs: Any) -> torch.Tensor:
        return (graphs.statics.number[:, 0] / 10).floor()


class Memory(Chance):
    name = "graph"
    fewest = 1

    @staticmethod
    def key(graphs: Any) -> torch.Tensor:
        return graphs.statics.number[:, 0]

    @staticmethod
    def answer(problem: Any, name: str, rows: Any) -> torch.Tensor:
        head, target = problem.heads[name], problem.targets[name][rows[:1]]
        known = torch.full(head.shape, (1 - SURE) / (head.shape[0] - 1)).double()
        slot = 0
        if head.times:
            known[0] = SURE
            event, time = int(target.event[0]), float(target.time[0])
            if event and time <= head.times[-1]:
                slot = int(torch.bucketize(torch.tensor(time), torch.tensor(head.times)))
                known[[0, event], slot] = known[[event, 0], slot]
        else:
            slot = int(target.label[0])
            known[slot] = SURE
        return known.log()


STANDINS = {"linear": Chance, "boosted": Bins, "graph": Memory}
