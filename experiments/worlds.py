"""How far towards the truth of simulated cohorts, each with one mechanism that only the history tells.

Claim: the network sees every mechanism, where trees over history features, a linear model and a recurrent
network over the same rows each miss some; the stack of all is near the best of them.
Last seen: see results/worlds.md (command, machine, time and figures).

    python experiments/worlds.py --worlds-code DIR --work W --seeds 1,2,3 --model-seeds 0,1 --jobs 2

DIR holds worlds.py and score_worlds.py, which make and judge the cohorts; it is not part of this repository
(default: GNNPATIENT_WORLDS, else ../shared/worlds). One fit of `PrognosisModel` answers as `default`, and as
`network`, `linear` and `boosted`, each family alone; another one is `gru`, a recurrent network over the same
rows with the same training. Every result is a line of W/worlds.jsonl, so that a stopped run goes on there.

R2: squared correlation of cloglog(risk) with the true log hazard on the other patients. Way: (R2 - R2 of a
Cox model on last observations) / (1 - the same). Spread: how far the members lie apart, on the same scale.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from gnnpatient import Forecast, Landmarks, PrognosisModel, open_cohort, read_cohort, read_spec
from gnnpatient.files import atomic_file, atomic_folder

MECHANISMS = (
    "exposure",
    "variability",
    "together",
    "overlap",
    "order",
    "lesions",
    "families",
    "series",
    "dose",
)
MIXED = {"both": 70, "moving": 75, "fading": 75, "visits": 80}  # percent of the way that is wanted
CONTROLS = ("linear", "visits_null")
ALONE: Mapping[str, tuple[str, ...] | str | None] = {
    "default": None,
    "nograph": "nograph",
    "network": ("graph",),
    "linear": ("linear",),
    "boosted": ("boosted",),
}
"""Answers of one fit of the default: which of its families are asked."""

STACK: Mapping[str, tuple[str, ...] | str | None] = {
    "stack": None,
    "stack without graph": "nograph",
    "stack without linear": ("boosted", "graph"),
    "stack without boosted": ("linear", "graph"),
}
"""Answers of one fit of the default for the ablations: a family is left out of the stack."""

CHOICES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "gru": {"families": ("graph",), "conv": "gru"},
}
"""Fits: parameters of PrognosisModel."""

FIXED = ("oracle", "last")  # comparators without a seed of their own
GAIN = ("lesions", "series", "families")  # objects, vectors, families: where a recurrent network is blind


@dataclass(frozen=True)
class Task:
    """One fit: of a model on a world."""

    code: Path
    work: Path
    world: str
    seed: int  # of the data
    model: str
    model_seed: int
    n: int
    train: int
    tag: str = ""
    choices: Mapping[str, Any] | None = None  # parameters of PrognosisModel; None: those of CHOICES

    @cached_property
    def judge(self) -> ModuleType:
        """What makes and judges the worlds."""
        return worlds_code(self.code)

    @property
    def folder(self) -> Path:
        return self.work / f"{self.world}-{self.seed}-{self.n}"

    @property
    def key(self) -> tuple[Any, ...]:
        return self.tag, self.world, self.seed, self.model, self.model_seed


def worlds_code(folder: Path) -> ModuleType:
    """The module that judges, and makes, the worlds."""
    if not (folder / "score_worlds.py").is_file():
        raise FileNotFoundError(f"{folder}: no score_worlds.py there; name its folder with --worlds-code")
    own = sys.modules.pop("worlds", None)  # theirs has the same name
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("score_worlds")
    finally:
        if own is not None:
            sys.modules["worlds"] = own


def made(task: Task) -> Path:
    """The folder of a world, made and packed where it is not there."""
    if not (task.folder / "rows.parquet").exists():
        with atomic_folder(task.folder) as part:
            task.judge.make(task.world, task.n, task.seed, part)
    packed = task.folder / "cohort"
    if not packed.exists():
        read_cohort(read_spec(task.folder / "world.toml"), task.folder / "tables").save(packed)
    return packed


def run(task: Task) -> list[dict[str, Any]]:
    """Fit, forecast and judge: a line for each answer of the fit."""
    packed = made(task)
    truth, rows = task.judge.frames(task.folder)
    place = truth["id"].str.slice(1).cast(pl.Int64).to_numpy()
    # who has the event at the landmark itself teaches nothing and has no forecast: one in 100 000
    ahead = truth["time"].to_numpy() > 0
    train, test = np.flatnonzero(place < task.train), np.flatnonzero((place >= task.train) & ahead)
    times = task.judge.horizons(task.world)
    about = {"tag": task.tag, "world": task.world, "seed": task.seed, "model_seed": task.model_seed}
    start = time.process_time()
    if task.model in FIXED:
        risk = fixed(task, truth, rows, train, times)
        found = task.judge.judge(task.world, truth, np.asarray(risk, float), train, test)
        return [{**about, "model": task.model, **found, "seconds": round(time.process_time() - start, 1)}]
    asked = open_cohort(packed).at(truth["landmark"].to_numpy(), patient=truth["id"].to_list())
    choices = CHOICES[task.model] if task.choices is None else task.choices
    model = PrognosisModel(
        outcomes=["death"], horizon=times[-1], device="cpu", seed=task.model_seed, **choices
    ).fit(asked[train].followed("death"))
    seconds = round(time.process_time() - start, 1)
    lines = []
    answers = {"default": ALONE, "stack": STACK}.get(task.model, {task.model: None})
    for name, families in answers.items():
        forecast = model.predictor_.forecast(asked, device="cpu", families=families)["death"]
        risk = np.stack([forecast.risk("death", h) for h in times], 1)
        line = {**about, "model": name, **task.judge.judge(task.world, truth, risk, train, test)}
        line["seconds"] = seconds
        line["spread"] = spread(task, forecast, truth["p"].to_numpy(), test, times[-1])
        if name == "default":
            line["weights"] = model.predictor_.weights["death"]
        lines.append(line)
    return lines


def fixed(task: Task, truth: pl.DataFrame, rows: pl.DataFrame, train: np.ndarray, times: Any) -> np.ndarray:
    """The comparators that are not the product's: the true risk, and a Cox model on last observations."""
    if task.model == "last":
        when, event = truth["time"].to_numpy(), truth["event"].to_numpy()
        return task.judge.cox(task.judge.last_features(truth, rows), train, when, event, 50.0, times)
    p = truth["p"].to_numpy()  # at the last horizon; a constant hazard gives the others
    at = [(f"p_{h:g}", h) for h in times]
    return np.stack([truth[c] if c in truth.columns else 1 - (1 - p) ** (h / times[-1]) for c, h in at], 1)


def spread(
    task: Task, forecast: Forecast, p: np.ndarray, test: np.ndarray, horizon: float
) -> dict[str, float] | None:
    """Whether members lie apart where the answer is wrong: rank correlation, ratio of root mean squares."""
    if forecast.members is None:
        return None
    scale = task.judge.cloglog
    each = [replace(forecast, incidence=one, members=None).risk("death", horizon) for one in forecast.members]
    apart = np.std([scale(risk[test]) for risk in each], axis=0, ddof=1)
    error = np.abs(scale(forecast.risk("death", horizon)[test]) - scale(p[test]))
    rank = task.judge.rank_correlation(apart, error)
    return {"rank": rank, "ratio": float(np.sqrt(np.mean(apart**2) / np.mean(error**2)))}


def check_alone(task: Task) -> None:
    """A family of a fit answers as a fit of this family alone does, to the bit."""
    packed = made(task)
    truth, _ = task.judge.frames(task.folder)
    X: Landmarks = open_cohort(packed).at(truth["landmark"].to_numpy(), patient=truth["id"].to_list())[:300]
    small: dict[str, Any] = {"outcomes": ["death"], "members": 2, "epochs": 2, "device": "cpu"}
    whole = PrognosisModel(**small).fit(X).predictor_
    for name in ("linear", "boosted", "graph"):
        alone = PrognosisModel(**small, families=(name,)).fit(X).predictor_
        one = whole.forecast(X, device="cpu", families=(name,))["death"].incidence
        assert np.array_equal(one, alone.forecast(X, device="cpu")["death"].incidence), name


# ---- all of them, in processes of one thread


def work_through(
    tasks: Iterable[Task], log: Path, jobs: int, console: Console, work: Callable[[Any], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The lines of `log`, after every task that has none there; a line is written as soon as it is known."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {tuple(line["task"]) for line in lines}
    left = [task for task in tasks if task.key not in done]
    console.print(f"{len(left)} fits to do, {len(lines)} results there")
    if not left:
        return lines
    for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    failed: dict[tuple[Any, ...], BaseException] = {}  # one of them must not cost those after it
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(work, task): task for task in left}
        for future in as_completed(running):
            if (error := future.exception()) is not None:
                failed[running[future].key] = error
                console.print(f"{running[future].key} failed: {error}", markup=False, highlight=False)
                continue
            found = [{"task": list(running[future].key), **line} for line in future.result()]
            lines += found
            with log.open("a") as handle:
                handle.writelines(json.dumps(line) + "\n" for line in found)
            for line in found:
                shown = {k: v for k, v in line.items() if k not in ("task", "parts", "spread", "tag")}
                console.print(json.dumps(shown), markup=False, highlight=False, soft_wrap=True)
    if failed:
        raise RuntimeError(f"{len(failed)} fits failed: {list(failed)}") from next(iter(failed.values()))
    return lines


# ---- the page


def command(name: str) -> str:
    """The command as it was given, folders of this machine by their last name."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["python", f"experiments/{name}.py", *words])


@dataclass(frozen=True)
class Found:
    """All results, by world, data seed, model and model seed."""

    lines: tuple[Mapping[str, Any], ...]

    @cached_property
    def by_key(self) -> dict[tuple[str, int, str, int], Mapping[str, Any]]:
        return {(one["world"], one["seed"], one["model"], one["model_seed"]): one for one in self.lines}

    @cached_property
    def models(self) -> list[str]:
        there = dict.fromkeys(one["model"] for one in self.lines)
        return [m for m in ("last", *ALONE, "gru") if m in there] + [
            m for m in there if m not in (*FIXED, *ALONE, "gru")
        ]

    def r2(self, world: str, model: str, part: str | None = None) -> dict[tuple[int, int], float]:
        """R2 of each fit, by data seed and model seed."""
        return {
            (seed, again): one["parts"][part] if part else one["R2"]
            for (w, seed, m, again), one in self.by_key.items()
            if (w, m) == (world, model)
        }

    def ways(self, world: str, model: str, part: str | None = None) -> np.ndarray:
        """Percent of the way of each fit."""
        low = {seed: r2 for (seed, _), r2 in self.r2(world, "last", part).items()}
        found = self.r2(world, model, part).items()
        return np.array([100 * (r2 - low[seed]) / (1 - low[seed]) for (seed, _), r2 in found if seed in low])

    def figures(self, world: str, model: str, key: str) -> np.ndarray:
        found = [one.get(key) for (w, _, m, _), one in self.by_key.items() if (w, m) == (world, model)]
        return np.array([x for x in found if x is not None], float)


def mean_of(x: np.ndarray, digits: int = 3) -> str:
    return f"{x.mean():.{digits}f}" if len(x) else ""


def error_of(x: np.ndarray) -> float:
    return float(x.std(ddof=1) / len(x) ** 0.5) if len(x) > 1 else float("nan")


def page(found: Found, args: argparse.Namespace, note: str) -> str:
    """Goals, then every world and model."""
    import torch

    fits = [one for one in found.lines if one["model"] == "default"]
    by_model_seed = {
        model_seed: sorted({one["seed"] for one in fits if one["model_seed"] == model_seed})
        for model_seed in sorted({one["model_seed"] for one in fits})
    }
    seeds = "; ".join(
        f"model seed {model_seed}: data seeds {', '.join(map(str, data))}"
        for model_seed, data in by_model_seed.items()
    ).capitalize()
    lines = [
        "# worlds: how far towards the truth",
        "",
        f"    {command('worlds')}",
        "",
        f"{os.cpu_count()} shared cores, one thread a fit, Python {platform.python_version()}, torch "
        f"{torch.__version__}. {args.train} patients to learn from, {args.n - args.train} scored.",
        f"{seeds}. **Development** figures: the",
        "model was made while these worlds were looked at. Way: from a Cox model on last observations to the",
        "truth, by R2 on the scale of the log hazard; least: the worst fit; se: standard error over fits.",
        *([note] if note else []),
        "",
        *goals(found),
        "",
        *ways_table(found),
        "",
        *others(found),
    ]
    return "\n".join(lines) + "\n"


def goals(found: Found) -> list[str]:
    """What was to be reached, and whether it was."""
    rows: list[tuple[str, str, str, bool]] = []

    def add(what: str, figure: float, wanted: float, text: str) -> None:
        rows.append((what, f"{figure:{text}}", f">= {wanted:{text}}", bool(figure >= wanted)))

    for model, wanted in (("default", 70), ("network", 75)):
        ways = {w: found.ways(w, model) for w in MECHANISMS}
        ways = {w: x for w, x in ways.items() if len(x)}
        if not ways:
            continue
        worst = min(ways, key=lambda w: ways[w].mean())
        add(
            f"{model}: lowest mean way of {len(ways)} mechanisms ({worst}), %",
            ways[worst].mean(),
            wanted,
            ".0f",
        )
        single = min(ways, key=lambda w: ways[w].min())
        add(f"{model}: worst single fit ({single}), %", ways[single].min(), 55, ".0f")
    for world, wanted in MIXED.items():
        if len(x := found.ways(world, "default")):
            add(f"default: way of `{world}`, %", x.mean(), wanted, ".0f")
    for world in CONTROLS:
        if r2 := found.r2(world, "default"):
            add(f"default: R2 of `{world}`", float(np.mean(list(r2.values()))), 0.95, ".3f")
    if len(x := found.figures("null", "default", "scaled_ibs")):
        add(f"default: scaled IBS of `null`, {len(x)} fits", x.mean(), -0.005, ".4f")
        sd = found.figures("null", "default", "sd").mean()
        rows.append(("default: sd of logit risk of `null`", f"{sd:.3f}", "<= 0.100", bool(sd <= 0.1)))
    for world in MECHANISMS:
        mine, gru = found.r2(world, "network"), found.r2(world, "gru")
        if both := sorted(mine.keys() & gru.keys()):
            gain = float(np.mean([mine[k] - gru[k] for k in both]))
            add(f"network - gru: R2 of `{world}`", gain, 0.1 if world in GAIN else -0.02, "+.3f")
    return [
        "| what | figure | wanted | reached |",
        "|---|---:|---:|---|",
        *(
            f"| {what} | {figure} | {wanted} | {'yes' if ok else '**no**'} |"
            for what, figure, wanted, ok in rows
        ),
    ]


def ways_table(found: Found) -> list[str]:
    """R2 with the way, the worst fit and its standard error: a line a world, a column a model."""
    lines = [f"| world | {' | '.join(found.models)} |", "|---" * (1 + len(found.models)) + "|"]
    for world in (*MECHANISMS, *MIXED, *CONTROLS):
        parts = next((one["parts"] for one in found.lines if one["world"] == world and "parts" in one), ())
        for part in (None, *parts):
            cells = [_cell(found, world, model, part) for model in found.models]
            if any(cell for model, cell in zip(found.models, cells, strict=True) if model != "last"):
                lines.append(f"| {world if part is None else f'{world}, {part}'} | {' | '.join(cells)} |")
    return ["R2 (**way**)", "", *lines]


def _cell(found: Found, world: str, model: str, part: str | None) -> str:
    r2 = np.array(list(found.r2(world, model, part).values()))
    if not len(r2):
        return ""
    notes = []
    ways = found.ways(world, model, part)
    if model != "last" and world not in CONTROLS and len(ways) == len(r2):
        notes.append(f"**{ways.mean():.0f} %**")
    if len(r2) > 1 and model != "last":
        notes += [f"least {r2.min():.2f}", f"se {error_of(r2):.2f}"]
    return f"{r2.mean():.2f}" + (f" ({', '.join(notes)})" if notes else "")


def others(found: Found) -> list[str]:
    """`null`, C, weights, the members' spread, and seconds."""
    fitted = {one["world"] for one in found.lines if one["model"] not in FIXED}
    worlds = [w for w in (*MECHANISMS, *MIXED, *CONTROLS, "null") if w in fitted]
    named = ["oracle", *found.models]

    def table(title: str, head: list[str], rows: Iterable[list[str]]) -> list[str]:
        return [title, "", f"| {' | '.join(head)} |", "|---" * len(head) + "|",
                *(f"| {' | '.join(row)} |" for row in rows), ""]  # fmt: skip

    out: list[str] = []
    if "null" in worlds:
        rows = [
            [label, *(mean_of(found.figures("null", m, key)) for m in named)]
            for label, key in (
                ("scaled IBS (0 = the marginal model)", "scaled_ibs"),
                ("sd of logit risk", "sd"),
            )
        ]
        out += table("`null`: nothing to find", ["", *named], rows)
    out += table(
        "C", ["world", *named], [[w, *(mean_of(found.figures(w, m, "C")) for m in named)] for w in worlds]
    )
    rows = []
    for w in worlds:
        mine = [one for one in found.lines if one["world"] == w and one["model"] == "default"]
        if not mine:
            continue
        weights = {f: np.mean([one["weights"].get(f, 0.0) for one in mine]) for f in mine[0]["weights"]}
        near = {
            m: [
                one["spread"]
                for one in found.lines
                if (one["world"], one["model"]) == (w, m) and one["spread"]
            ]
            for m in ("default", "network")
        }
        told = [f"{np.mean([s[k] for s in near[m]]):.2f}" for m in near for k in ("rank", "ratio") if near[m]]
        seconds = [mean_of(found.figures(w, m, "seconds"), 0) for m in ("default", "gru")]
        rows.append([w, ", ".join(f"{f} {x:.2f}" for f, x in weights.items()), *told, *seconds])
    head = [
        "world",
        "weights",
        "default: rank",
        "ratio",
        "network: rank",
        "ratio",
        "CPU s, default",
        "CPU s, gru",
    ]
    title = (
        "Weights of the stack; the members' spread beside the error against the truth (rank correlation over "
        "patients;\nratio of root mean squares); CPU seconds a fit, forecasts not counted"
    )
    return out + (table(title, head, rows) if rows else [])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = os.environ.get("GNNPATIENT_WORLDS", Path(__file__).parents[2] / "shared" / "worlds")
    parser.add_argument("--worlds-code", type=Path, default=Path(beside), metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, help="folder for cohorts and results")
    parser.add_argument("--worlds", help="default: all")
    parser.add_argument("--models", default="last,oracle,default,gru")
    parser.add_argument("--seeds", default="1", help="of the data")
    parser.add_argument("--model-seeds", default="0")
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--n", type=int, default=3600)
    parser.add_argument("--train", type=int, default=1600)
    parser.add_argument("--tag", default="", help="of a version of the product: its results stand apart")
    parser.add_argument("--check", action="store_true", help="only: a family of a fit equals a fit of it")
    parser.add_argument("--table", type=Path, help="all results of the tag as a page")
    parser.add_argument("--note", default="", help="a sentence for the page")
    args = parser.parse_args()
    console = Console(stderr=True)
    try:
        every = worlds_code(args.worlds_code).WORLDS
    except FileNotFoundError as error:
        parser.error(str(error))
    worlds = args.worlds.split(",") if args.worlds else list(every)
    models = [m for m in args.models.split(",") if m]
    if unknown := [
        *(w for w in worlds if w not in every),
        *(m for m in models if m not in (*FIXED, *CHOICES)),
    ]:
        parser.error(f"unknown: {', '.join(unknown)}")
    args.work.mkdir(parents=True, exist_ok=True)
    tasks = [
        Task(args.worlds_code, args.work, world, seed, model, again, args.n, args.train, args.tag)
        for seed in map(int, args.seeds.split(","))
        for again in map(int, args.model_seeds.split(","))
        for model in models
        for world in worlds
        if model not in FIXED or again == int(args.model_seeds.split(",")[0])
    ]
    tasks = [replace(task, model_seed=0) if task.model in FIXED else task for task in tasks]
    if args.check:
        check_alone(tasks[0])
        return
    lines = work_through(tasks, args.work / "worlds.jsonl", args.jobs, console, run)
    if args.table:
        text = page(Found(tuple(one for one in lines if one["tag"] == args.tag)), args, args.note)
        with atomic_file(args.table) as part:
            part.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
