"""What each part of the model is worth: one relation, pool or family taken away at a time.

Claim: every part that is kept pays on simulated cohorts with one mechanism each, or on real cohorts.
Last seen: see results/ablations.md (command, machine, time and figures); what was removed is in LOG.md.

    python experiments/ablations.py --work W --worlds exposure,order --cohorts pbc --jobs 2 --table TABLE

The network alone (`families=("graph",)`) with everything, then without one relation, with one of the four
statistics of its pools (and two of them) always 0, or as another layer, on the same patients: simulated
cohorts are scored by R2 with the true log hazard (worlds.py), real ones by scaled IBS in folds (pooled.py). A
family left out of the stack needs no fit of its own: without the graph the weights are those learned without
it, else those of the others in the same proportions. Resumable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pooled
import torch
import worlds
from rich.console import Console
from torch import Tensor

from gnnpatient.files import atomic_file
from gnnpatient.model import pool as pools
from gnnpatient.model.table import RELATIONS

WHOLE = "network"
STATISTICS = ("mean", "scaled sum", "maximum", "spread")  # in the order of `pool.summary`
BOTH = "mean and scaled sum"  # which one of them alone can stand for


def variants() -> dict[str, dict[str, Any]]:
    """Parameters of PrognosisModel, by what is taken away."""
    alone: dict[str, Any] = {"families": ("graph",)}
    found: dict[str, dict[str, Any]] = {"stack": {}, WHOLE: alone}
    for name in RELATIONS:
        rest = tuple(other for other in RELATIONS if other != name)
        found[f"without {name}"] = {**alone, "relations": rest}
    found["without relations"] = {**alone, "relations": ()}
    found |= {f"without {name}": alone for name in (*STATISTICS, BOTH)}  # see `ablated`
    found |= {
        f"as {conv}": {**alone, "conv": conv} for conv in ("sage", "gatv2", "hgt", "transformer", "gru")
    }
    return found


@contextmanager
def pooled_without(statistics: str) -> Iterator[None]:
    """Let one statistic of every pool, or two, be 0, in fit and forecast."""
    whole, positions = pools.summary, [STATISTICS.index(name) for name in statistics.split(" and ")]

    def rest(x: Tensor, group: Tensor, count: Tensor) -> Tensor:
        parts = list(whole(x, group, count).split(x.shape[1], 1))
        for position in positions:
            parts[position] = 0 * parts[position]
        return torch.cat(parts, 1)

    pools.summary = rest
    try:
        yield
    finally:
        pools.summary = whole


def ablated(run: Callable[[Any], list[dict[str, Any]]], task: Any) -> list[dict[str, Any]]:
    """Run a task; the pools are no parameter of the model, so that a statistic is taken away here."""
    variant = getattr(task, "variant", None) or task.model
    statistic = variant.removeprefix("without ")
    with pooled_without(statistic) if statistic in (*STATISTICS, BOTH) else nullcontext():
        return run(task)


def page(
    by_world: Sequence[Mapping[str, Any]], results: Sequence[pooled.CohortResult], names: Sequence[str]
) -> str:
    """A line a variant, a column a world or cohort: the difference from the whole network."""
    found = worlds.Found(tuple(by_world))
    there = list(dict.fromkeys(one["world"] for one in by_world))
    lines = [
        "# ablations: what each part of the network is worth",
        "",
        f"    {worlds.command('ablations')}",
        "",
        "Simulated cohorts: R2 with the true log hazard; real ones: scaled IBS (of a diagnosis scaled Brier",
        "score). `stack` and `network` (alone) are whole; below each what a variant has more or less, of",
        "real cohorts with 95 % over draws of patients. **Development** figures of few fits.",
        "",
        f"| variant | {' | '.join([*there, *(one.name for one in results)])} | CPU s |",
        "|---" * (2 + len(there) + len(results)) + "|",
    ]
    rows = [row for name in names for row in (worlds.STACK if name == "stack" else (name,))]
    for name in rows:
        cells = [world_cell(found, world, name) for world in there]
        cells += [cohort_cell(one, name) for one in results]
        seconds = [one["seconds"] for one in by_world if one["model"] == name]
        if any(cells):
            lines.append(f"| {name} | {' | '.join(cells)} | {np.mean(seconds):.0f} |" if seconds else
                         f"| {name} | {' | '.join(cells)} | |")  # fmt: skip
    return "\n".join(lines) + "\n"


def world_cell(found: worlds.Found, world: str, name: str) -> str:
    mine, whole = found.r2(world, name), found.r2(world, whole_of(name))
    both = sorted(mine.keys() & whole.keys())
    if not both:
        return ""
    if name == whole_of(name):
        return f"{np.mean([mine[k] for k in both]):.2f}"
    return f"{np.mean([mine[k] - whole[k] for k in both]):+.2f}"


def cohort_cell(one: pooled.CohortResult, name: str) -> str:
    if name not in one.names or whole_of(name) not in one.names:
        return ""
    if name == whole_of(name):
        return f"{one.value[one.names.index(name), 0]:.3f}"
    return pooled.bracket(one.difference(name, whole_of(name)))


def whole_of(name: str) -> str:
    """What a variant is compared with."""
    return "stack" if name in worlds.STACK else WHOLE


def main() -> None:
    parser = pooled.parser_of(__doc__)
    beside = Path(__file__).parents[2] / "shared" / "worlds"
    parser.add_argument("--worlds-code", type=Path, default=beside, metavar="DIR")
    parser.add_argument("--worlds", default="", help="with commas between; default: none")
    parser.add_argument("--seeds", default="1", help="of the simulated data")
    parser.add_argument("--variants", default=",".join(variants()))
    parser.set_defaults(cohorts="")
    args = parser.parse_args()
    known, chosen = variants(), args.variants.split(",")
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"unknown variant {unknown[0]!r}; there are {', '.join(known)}")
    args.work.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    simulated = [
        worlds.Task(args.worlds_code, args.work, world, seed, name, 0, 3600, 1600, args.tag, known[name])
        for name in chosen
        for seed in map(int, args.seeds.split(","))
        for world in args.worlds.split(",")
        if world
    ]
    log = args.work / "ablations.jsonl"
    by_world = (
        worlds.work_through(simulated, log, args.jobs, console, partial(ablated, worlds.run))
        if simulated
        else []
    )
    cohorts = [name for name in args.cohorts.split(",") if name]
    tasks = pooled.tasks_of(args, cohorts, {name: known[name] for name in chosen}) if cohorts else []
    log = args.work / "ablations-cohorts.jsonl"
    lines = worlds.work_through(tasks, log, args.jobs, console, partial(ablated, pooled.run)) if tasks else []
    lines = [one for one in lines if one["tag"] == args.tag]
    results = [
        pooled.scored(name, [t for t in tasks if t.cohort == name], lines, args.draws) for name in cohorts
    ]
    by_world = [one for one in by_world if one["tag"] == args.tag]
    if args.table:
        with atomic_file(args.table) as part:
            part.write_text(page(by_world, results, chosen), encoding="utf-8")


if __name__ == "__main__":
    main()
