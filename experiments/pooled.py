"""One verdict over real cohorts: the default model beside a rival chosen on inner data, and without graph.

Claim: pooled over cohorts listed beforehand, the stack forecasts better than the best of a linear model,
boosted trees and Cox as inner folds choose it, and better than itself without the graph.
Last seen: see results/pooled.md (command, machine, time and figures).

    python experiments/pooled.py --data DATA --folds FOLDS --work W --jobs 2 --table results/pooled.md

DATA holds one folder a cohort (PBC comes with the library), FOLDS one parquet file of repeat, fold, id for
most; other folds are made from a seed. One fit of `PrognosisModel` a fold answers for the stack (`gnn`), for
it without the graph (`nograph`), and for each family alone; Cox and the marginal model are fitted beside it.
The rival of a fold is the best of `linear`, `boosted`, `cox` by IBS (of a diagnosis Brier score) over inner
folds of its training part. Every fold is a file in W and a line of W/pooled.jsonl, so that a stopped run goes
on.

A cohort counts once, by one outcome, by scaled IBS (of a diagnosis scaled Brier score). Its variance is that
over draws of patients (or groups) plus that over refits (repeats); cohorts are pooled with random effects.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.stats import norm
from worlds import STACK, command, work_through

from gnnpatient import PrognosisModel, open_cohort, read_cohort, read_spec
from gnnpatient.cohort.cohort import Cohort, Landmarks, join_landmarks
from gnnpatient.cohort.splits import StratifiedPatientKFold
from gnnpatient.datasets.shipped import DATA
from gnnpatient.files import atomic_file
from gnnpatient.prognosis.run import scored_landmarks, training_landmarks
from gnnpatient.study.comparison import holm
from gnnpatient.study.folds import Fold, make_folds, read_folds
from gnnpatient.study.models import comparators_of
from gnnpatient.study.pooling import Pooled, cohort_variance, pool
from gnnpatient.study.scoreboard import Model, ModelRisks, ObservedOutcome, Scoreboard, scored_grid

YEAR = 365.25
HERE = Path(__file__).parent
RIVALS = ("linear", "boosted", "cox")
ALONE: Mapping[str, Any] = {
    "gnn": None,
    "nograph": "nograph",
    "graph": ("graph",),
    "linear": ("linear",),
    "boosted": ("boosted",),
}
"""Answers of one fit: which of its families are asked."""

GRID = 30  # times of the integrated Brier score
BESIDE_TREES = ("aki", "nafld")  # where boosted trees are the rival that was named beforehand
MIN_REFITS = 5  # repeats, for a variance over refits (METHODS 18)


@dataclass(frozen=True, kw_only=True)
class Study:
    """One cohort: what is asked of it, and when."""

    spec: str  # a shipped name, or a file beside `graphs`, or beside this script
    folder: str = ""  # in DATA; "": with the library
    outcome: str = "death"
    cause: str = "death"
    folds: str | None = None  # name of a file of folds; None: made
    count: int = 5  # folds that are made
    seed: int = 0  # of folds that are made
    fit_at: tuple[float | str, ...] | str = ("entry",)  # days, or "random"
    scored_at: tuple[float | str, ...] = ("entry",)  # days
    horizon: float | None = None  # days; None: a diagnosis
    timed: bool = False  # whether rows become known after entry, so that a graph in time has something to see
    pooled: bool = True  # whether it is one of the cohorts of the verdict


QUARTERS = tuple(float(day) for day in np.arange(0, 7.01, 0.25) * YEAR)
STUDIES = {
    "pbc": Study(
        spec="pbc",
        folds="pbc",
        fit_at=QUARTERS,
        scored_at=(YEAR, 3 * YEAR, 5 * YEAR),
        horizon=5 * YEAR,
        timed=True,
    ),
    "nafld": Study(
        spec="nafld",
        folder="nafld",
        folds="nafld_death",
        fit_at=(YEAR,),
        scored_at=(YEAR,),
        horizon=5 * YEAR,
        timed=True,
    ),
    "icu-mortality": Study(
        spec="icu-mortality",
        folder="icu-timeseries/mortality24/eicu_demo",
        outcome="mortality",
        cause="died",
        fit_at=(1.0,),
        scored_at=(1.0,),
        timed=True,
    ),
    "framingham": Study(
        spec="framingham",
        folder="framingham",
        fit_at=(0.0, 6.5 * YEAR, 13 * YEAR),
        scored_at=(0.0, 6.5 * YEAR, 13 * YEAR),
        horizon=10 * YEAR,
        timed=True,
    ),
    "rotterdam": Study(spec="rotterdam", folder="survival-tables", folds="rotterdam", horizon=10 * YEAR),
    "support2": Study(spec="support2", folder="support2", folds="support2", horizon=3 * YEAR),
    "mgus2": Study(spec="mgus2", folder="survival-tables", folds="mgus2", horizon=15 * YEAR),
    "colon": Study(spec="colon", folder="survival-tables", folds="colon", horizon=6 * YEAR),
    "flchain": Study(spec="flchain", folder="survival-tables", folds="flchain", horizon=10 * YEAR),
    "aki": Study(
        spec="icu-timeseries",
        folder="icu-timeseries/aki/eicu_demo",
        outcome="aki",
        cause="aki",
        count=3,
        seed=77,
        fit_at=(0.25, 0.5),
        scored_at=(0.25, 0.5),
        horizon=1.0,
        timed=True,
        pooled=False,  # many of the stays of icu-mortality
    ),
}
"""Listed before anything was scored; `aki` is judged alone, by AUC and IPA."""


@dataclass(frozen=True)
class Task:
    """One fold of a cohort, and the models that are fitted there."""

    data: Path
    folds: Path
    work: Path
    cohort: str
    repeat: int
    fold: int
    variant: str = "default"
    choices: tuple[tuple[str, Any], ...] = ()  # of PrognosisModel
    patients: int | None = None  # at most
    inner: int = 3
    tag: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        return self.tag, self.cohort, self.repeat, self.fold, self.variant

    @property
    def study(self) -> Study:
        return STUDIES[self.cohort]

    @property
    def file(self) -> Path:
        return self.work / ("-".join(str(word) for word in self.key if word != "") + ".npz")

    @cached_property
    def landmarks(self) -> tuple[Landmarks, Landmarks]:
        """Those to fit at, and those to score."""
        study, cohort = self.study, packed(self)
        fold = next(f for f in splits(self) if (f.repeat, f.fold) == (self.repeat, self.fold))
        plan = {"outcomes": [study.outcome], "landmarks": study.fit_at, "seed": study.seed}
        if not isinstance(study.fit_at, str):
            plan["landmarks"] = list(study.fit_at)
        train = training_landmarks(cohort, fold.train, plan)
        return train, scored_landmarks(cohort, fold.test, study.outcome, study.scored_at)

    @property
    def times(self) -> np.ndarray:
        """Days after the landmark at which risks are taken."""
        horizon = self.study.horizon
        return np.zeros(0) if horizon is None else scored_grid(horizon, [horizon], GRID)


def packed(task: Task) -> Cohort:
    """The cohort, read once and kept in the work folder."""
    study, folder = task.study, task.work / f"cohort-{task.cohort}"
    if not folder.exists():
        beside = HERE / f"{study.spec}.toml"
        spec = read_spec(beside if beside.exists() else study.spec)
        tables = task.data / study.folder if study.folder else DATA / "pbc"
        script = HERE.parent / "graphs" / f"{study.spec}.prepare.py"
        if script.exists():  # makes the tables from those that are published
            made = task.work / f"tables-{task.cohort}"
            if not made.exists():
                subprocess.run([sys.executable, str(script), str(tables), "--out", str(made)], check=True)
            tables = made
        read_cohort(spec, tables).save(folder)
    return opened(folder)


opened = lru_cache(open_cohort)  # one for all folds, whose landmarks are joined


def splits(task: Task) -> list[Fold]:
    """All folds of all repeats, of a sample of the patients where they are too many."""
    study, cohort = task.study, packed(task)
    if study.folds is not None:
        found = read_folds(task.folds / f"{study.folds}.parquet", cohort)
    else:
        each = [make_folds(cohort, study.outcome, study.count, study.seed + repeat) for repeat in range(5)]
        found = [replace(fold, repeat=repeat) for repeat, folds in enumerate(each) for fold in folds]
        check_kept(task.cohort, cohort, found[: study.count])
    everybody = np.unique(np.concatenate([fold.test for fold in found]))
    if task.patients is None or len(everybody) <= task.patients:
        return found
    groups = np.unique(cohort.groups[everybody])
    share = task.patients / len(everybody)
    chosen = np.random.default_rng(0).permutation(groups)[: round(share * len(groups))]
    keep = np.isin(cohort.groups, chosen)
    return [replace(f, train=f.train[keep[f.train]], test=f.test[keep[f.test]]) for f in found]


def check_kept(name: str, cohort: Cohort, folds: Sequence[Fold]) -> None:
    """Folds that are kept as a rule and its checksum are still the same."""
    file = HERE / "folds" / f"{name}.json"
    if file.exists():
        kept = json.loads(file.read_text())["sha256"]
        assert kept == checksum(cohort, folds), f"{name}: other folds than {file.name} has"


def checksum(cohort: Cohort, folds: Sequence[Fold]) -> str:
    """Of all pairs of fold and id."""
    pairs = sorted((fold.fold, str(one)) for fold in folds for one in cohort.ids[fold.test])
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


# ---- fits


def run(task: Task) -> list[dict[str, Any]]:
    """Fit the models of a fold and keep their risks: one line."""
    study = task.study
    train, test = task.landmarks
    start = time.process_time()
    model = PrognosisModel(
        outcomes=[study.outcome], horizon=study.horizon, device="cpu", seed=task.repeat, **dict(task.choices)
    ).fit(train)
    seconds = round(time.process_time() - start, 1)
    line: dict[str, Any] = {"tag": task.tag, "cohort": task.cohort, "repeat": task.repeat, "fold": task.fold}
    line |= {"variant": task.variant, "seconds": seconds, "train": len(np.unique(train.patient))}
    beside = comparators_of(train, test, study.outcome, study.horizon, task.times.tolist())
    answers = {"default": ALONE, "stack": STACK}.get(task.variant, {task.variant: None})
    fitted: dict[str, Any] = {name: (model, families) for name, families in answers.items()}
    fitted["null"] = beside["null"], None
    if task.variant == "default":
        fitted["cox"] = next(one for name, one in beside.items() if name != "null"), None
        line |= inner_choice(task, train)
        line["weights"] = model.predictor_.weights[study.outcome]
    models = {name: Asked(*one) for name, one in fitted.items()}
    risks = ModelRisks.of([(models, test)], study.outcome, task.times).risks
    with atomic_file(task.file) as part, part.open("wb") as handle:
        np.savez_compressed(
            handle, **{name: of[study.cause].astype(np.float32) for name, of in risks.items()}
        )
    return [line]


@dataclass(frozen=True)
class Asked:
    """A fitted model, or some families of one."""

    model: Any
    families: Any = None

    def forecast(self, X: Landmarks) -> Any:
        if self.families is None:
            return self.model.forecast(X)
        return self.model.predictor_.forecast(X, device="cpu", families=self.families)


def inner_choice(task: Task, X: Landmarks) -> dict[str, Any]:
    """Which of linear, boosted and Cox is best on inner folds of the training landmarks; one member each."""
    study, parts = task.study, []
    inner = StratifiedPatientKFold(task.inner, seed=task.repeat, outcome=study.outcome)
    for train, test in inner.split(X):
        both = PrognosisModel(
            outcomes=[study.outcome],
            horizon=study.horizon,
            families=("linear", "boosted"),
            members=1,
            device="cpu",
            seed=task.repeat,
        ).fit(X[train])
        where = scored_landmarks(X.cohort, np.unique(X.patient[test]), study.outcome, study.scored_at)
        beside = comparators_of(X[train], where, study.outcome, study.horizon, task.times.tolist())
        models: dict[str, Model] = {name: Asked(both, (name,)) for name in RIVALS if name != "cox"}
        models |= {"null" if name == "null" else "cox": one for name, one in beside.items()}
        parts.append((models, where))
    board = scoreboard(ModelRisks.of(parts, study.outcome, task.times), study)
    error = 1 - figures_of(board, board.all_rows)[:, 0]
    found = {name: float(error[board.names.index(name)]) for name in RIVALS}
    return {"rival": min(found, key=found.__getitem__), "inner": found}


# ---- scores


def scoreboard(risks: ModelRisks, study: Study) -> Scoreboard:
    """The primary score first, then AUC and Brier score at the last horizon."""
    observed = ObservedOutcome.of(risks.landmarks, study.outcome)
    columns: tuple[tuple[str, float | None], ...]
    if study.horizon is None:
        columns = (("scaled_brier", None), ("auc", None), ("brier", None))
    else:
        columns = (("scaled_ibs", None), ("auc", study.horizon), ("brier", study.horizon))
    return Scoreboard(risks, observed, (study.cause,), columns, observed.code >= 0)


def figures_of(board: Scoreboard, scores: np.ndarray) -> np.ndarray:
    """Of scores (cause, model, landmark, column) the scaled score, AUC and IPA: (model, 3).

    Each is a mean over the landmarks at which all rows together let estimate it.
    """
    there = np.isfinite(board.all_rows[0]).all(0)  # (landmark, column)
    ipa = 1 - scores[0, :, :, 2] / scores[0, board.names.index("null"), :, 2]
    each = scores[0, :, :, 0], scores[0, :, :, 1], ipa
    return np.stack([x[:, there[:, c]].mean(1) for c, x in enumerate(each)], -1)


@dataclass(frozen=True)
class CohortResult:
    """All folds of a cohort that are there, scored."""

    name: str
    lines: tuple[Mapping[str, Any], ...]
    names: tuple[str, ...]
    value: np.ndarray  # (model, figure)
    draws: np.ndarray  # (draw, model, figure)
    repeats: np.ndarray  # (repeat, model, figure)
    patients: int
    events: int

    def difference(self, first: str, second: str, figure: int = 0) -> tuple[float, float, float, float]:
        """Value, interval over patients, and variance over patients and refits."""
        i, j = self.names.index(first), self.names.index(second)
        gap = lambda x: x[..., i, figure] - x[..., j, figure]  # noqa: E731
        drawn = gap(self.draws)
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        return float(gap(self.value)), float(low), float(high), cohort_variance(drawn, gap(self.repeats))


def scored(name: str, tasks: Sequence[Task], lines: Sequence[Mapping[str, Any]], n: int) -> CohortResult:
    """Score all finished folds of a cohort; of its repeats those that are whole."""
    mine = [one for one in lines if one["cohort"] == name]
    by_fold: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for one in mine:
        by_fold.setdefault((one["repeat"], one["fold"]), []).append(one)
    tasks_of_fold = {(task.repeat, task.fold): task for task in tasks}
    study, parts, repeats = STUDIES[name], [], []
    for key, done in sorted(by_fold.items()):
        task, there = tasks_of_fold[key], dict[str, np.ndarray]()
        for line in done:
            there |= dict(np.load(replace(task, variant=line["variant"]).file))
            if "rival" in line:
                there["rival"] = there[line["rival"]]
        parts.append((there, task.landmarks[1]))
        repeats.append(key[0])
    common = [m for m in parts[0][0] if all(m in there for there, _ in parts)]
    X = join_landmarks(*(test for _, test in parts))
    fold_of = np.repeat(np.arange(len(parts)), [len(test) for _, test in parts])
    risks = {m: {study.cause: np.concatenate([there[m] for there, _ in parts]).astype(float)} for m in common}
    board = scoreboard(ModelRisks(X, fold_of, risks, tasks[0].times), study)
    each = []
    for repeat in dict.fromkeys(repeats):
        here = np.isin(fold_of, [i for i, r in enumerate(repeats) if r == repeat])
        part = replace(board, members=board.members & here)
        each.append(figures_of(part, part.all_rows))
    observed = board.observed
    cases = observed.group == observed.names.index(study.cause)
    return CohortResult(
        name=name,
        lines=tuple(mine),
        names=tuple(common),
        value=figures_of(board, board.all_rows),
        draws=board.draws(lambda scores, _: figures_of(board, scores), n, 0),
        repeats=np.array(each),
        patients=len(np.unique(X.patient)),
        events=len(np.unique(X.patient[cases])),
    )


# ---- the page


def page(results: Sequence[CohortResult], args: argparse.Namespace) -> str:
    """The verdicts, then every cohort."""
    import torch

    verdict = [one for one in results if STUDIES[one.name].pooled]
    lines = [
        "# pooled: the default model over real cohorts",
        "",
        f"    {command('pooled')}",
        "",
        f"{os.cpu_count()} shared cores, one thread a fit, Python {platform.python_version()}, torch "
        f"{torch.__version__}. **Development** figures: the model was",
        "made while these cohorts were looked at. Differences in scaled IBS (icu-mortality: scaled Brier",
        "score), means over landmarks. Brackets of a cohort: 95 % over draws of patients, the fitted models",
        "held fixed. Versions of the product that were scored on these folds before this table: "
        f"{args.variants_tried}.",
        "",
        "| pooled (REML, Hartung-Knapp) | cohorts | difference | 95 % | prediction | p |",
        "|---|---:|---:|---|---|---:|",
    ]
    for what, first, second, figure, chosen in (
        ("stack - rival chosen on inner data", "gnn", "rival", 0, verdict),
        ("the same, AUC", "gnn", "rival", 1, verdict),
        ("with - without the graph, timed nodes", "gnn", "nograph", 0, timed(verdict, True)),
        ("with - without the graph, one-row cohorts", "gnn", "nograph", 0, timed(verdict, False)),
    ):
        if len(chosen) > 1:
            lines.append(pooled_line(what, pooled(chosen, first, second, figure)))
    few = [one.name for one in results if len(one.repeats) < MIN_REFITS]
    if few:
        lines += [
            "",
            f"Fewer than {MIN_REFITS} repeats, so that the variance over refits is rough or missing: "
            f"{', '.join(few)}. Fewer than six cohorts describe, they decide nothing.",
        ]
    lines += ["", *graph_lines(results), "", *cohort_table(results), "", *family_table(results)]
    return "\n".join(lines) + "\n"


def timed(results: Sequence[CohortResult], whether: bool) -> list[CohortResult]:
    return [one for one in results if STUDIES[one.name].timed is whether]


def pooled(results: Sequence[CohortResult], first: str, second: str, figure: int = 0) -> Pooled:
    each = [one.difference(first, second, figure) for one in results]
    return pool([d[0] for d in each], [max(d[3], 1e-12) for d in each])


def pooled_line(what: str, found: Pooled) -> str:
    ahead = "" if found.prediction is None else f"[{found.prediction[0]:+.4f}, {found.prediction[1]:+.4f}]"
    return (
        f"| {what} | {found.cohorts} | {found.mean:+.4f} | [{found.low:+.4f}, {found.high:+.4f}] | {ahead} | "
        f"{found.p:.2g} |"
    )


def graph_lines(results: Sequence[CohortResult]) -> list[str]:
    """What the graph adds to NAFLD and to intensive care, each alone, Holm over the two; a sentence."""
    found = timed([one for one in results if STUDIES[one.name].pooled], True)
    alone = [one for one in found if one.name in ("nafld", "icu-mortality")]
    out = []
    if alone:
        each = [one.difference("gnn", "nograph") for one in alone]
        p = holm([float(2 * norm.sf(abs(d[0]) / max(d[3], 1e-12) ** 0.5)) for d in each])
        told = [f"{one.name} {d[0]:+.4f}, p {q:.2g}" for one, d, q in zip(alone, each, p, strict=True)]
        out.append(f"With - without the graph alone, Holm over {len(alone)}: {'; '.join(told)}.")
    for one in results:
        if one.name in BESIDE_TREES:
            auc, ipa = (bracket(one.difference("gnn", "boosted", k)) for k in (1, 2))
            left_out = "" if STUDIES[one.name].pooled else ", not pooled"
            out.append(f"{one.name}{left_out}: stack - boosted of the same run, AUC {auc}, IPA {ipa}.")
    if len(found) > 1:
        one = pooled(found, "gnn", "nograph")
        said = "adds" if one.low > 0 else "is not shown to add anything"
        out.append(
            f"Pooled over {one.cohorts} cohorts with timed nodes, the graph {said} here (development)."
        )
    return out


def bracket(d: tuple[float, float, float, float]) -> str:
    return f"{d[0]:+.4f} [{d[1]:+.4f}, {d[2]:+.4f}]"


def cohort_table(results: Sequence[CohortResult]) -> list[str]:
    """Differences of every cohort."""
    lines = [
        "| cohort | patients, with the event | fits | rival of the folds | stack - rival | AUC | IPA | "
        "with - without the graph | AUC | IPA | CPU s a fit |",
        "|---|---|---:|---|---|---|---|---|---|---|---:|",
    ]
    for one in results:
        default = [line for line in one.lines if line["variant"] == "default"]
        names, counts = np.unique([line["rival"] for line in default], return_counts=True)
        cells = [
            one.name,
            f"{one.patients}, {one.events}",
            str(len(default)),
            ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True)),
            *(bracket(one.difference("gnn", "rival", k)) for k in range(3)),
            *(bracket(one.difference("gnn", "nograph", k)) for k in range(3)),
            f"{np.mean([line['seconds'] for line in default]):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def family_table(results: Sequence[CohortResult]) -> list[str]:
    """Each model alone: scaled score, AUC and IPA; mean weights."""
    lines = ["| cohort | model | scaled IBS | AUC | IPA | weight |", "|---|---|---:|---:|---:|---:|"]
    for one in results:
        default = [line["weights"] for line in one.lines if line["variant"] == "default"]
        for i, model in enumerate(one.names):
            if model == "null":
                continue
            weight = f"{np.mean([w[model] for w in default]):.2f}" if model in default[0] else ""
            cells = " | ".join(f"{x:.4f}" for x in one.value[i])
            lines.append(f"| {one.name} | {model} | {cells} | {weight} |")
    return lines


def tasks_of(
    args: argparse.Namespace, cohorts: Sequence[str], variants: Mapping[str, Mapping[str, Any]]
) -> list[Task]:
    """Every fold of every cohort: first those of the first repeat."""
    out = []
    for name in cohorts:
        base = Task(args.data, args.folds, args.work, name, 0, 0, patients=args.patients, inner=args.inner)
        for fold in splits(replace(base, tag=args.tag)):
            for variant, choices in variants.items():
                one = replace(base, repeat=fold.repeat, fold=fold.fold, variant=variant, tag=args.tag)
                out.append(replace(one, choices=tuple(choices.items())))
    at_most = [task for task in out if task.repeat < args.repeats and task.fold in first_folds(args)]
    return sorted(at_most, key=lambda task: task.repeat)


def first_folds(args: argparse.Namespace) -> range:
    return range(1000 if args.some_folds is None else args.some_folds + 1)


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """What this script and the ablations are asked."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("GNNPATIENT_DATA", HERE.parents[1] / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=shared)
    parser.add_argument("--folds", type=Path, default=shared.parent / "protocols" / "folds_public")
    parser.add_argument("--work", type=Path, required=True, help="folder for cohorts and results")
    parser.add_argument("--cohorts", default=",".join(STUDIES))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--some-folds", type=int, help="only the folds with a number up to this")
    parser.add_argument("--patients", type=int, help="of a cohort, at most; others are drawn")
    parser.add_argument("--inner", type=int, default=3, help="folds that choose the rival")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--tag", default="", help="of a version of the product: its results stand apart")
    parser.add_argument("--variants-tried", type=int, default=1, help="how many versions were scored before")
    parser.add_argument("--table", type=Path, help="the results as a page")
    return parser


def main() -> None:
    parser = parser_of(__doc__)
    args = parser.parse_args()
    cohorts = args.cohorts.split(",")
    if unknown := [name for name in cohorts if name not in STUDIES]:
        parser.error(f"unknown cohort {unknown[0]!r}; there are {', '.join(STUDIES)}")
    args.work.mkdir(parents=True, exist_ok=True)
    tasks = tasks_of(args, cohorts, {"default": {}})
    console = Console(stderr=True)
    lines = [
        line for line in work_through(tasks, args.work / "pooled.jsonl", args.jobs, console, run)
        if line["tag"] == args.tag
    ]  # fmt: skip
    if args.table:
        there = [name for name in cohorts if any(line["cohort"] == name for line in lines)]
        results = [scored(n, [t for t in tasks if t.cohort == n], lines, args.draws) for n in there]
        with atomic_file(args.table) as part:
            part.write_text(page(results, args), encoding="utf-8")


if __name__ == "__main__":
    main()
