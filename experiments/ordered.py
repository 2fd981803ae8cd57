"""Which form of regression suits ordered classes: five, on the same columns, with the same choice of a ridge.

Claim: scores that move all classes together, beside quieter ones that bend ("contrasts"), keep most of what
one score wins where its form is true, and lose nothing where none of these forms is. So the head and the
linear family of ordered classes have that form.
Last seen: see results/ordered.md (command, machine, time and figures).

    python experiments/ordered.py --data DATA --out results/ordered.md

DATA holds support2/; PBC comes with the library. Forms: "classes" a score a class (multinomial),
"neighbours" one score of the log odds of neighbours (adjacent category), "contrasts", "at least" one score of
the cumulative log odds (proportional odds), "one more" one score of going on to the next class (continuation
ratio). Simulated: ten columns, five classes, 4 000 new patients, where "at least", "one more", or none of the
one-score forms is true.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import torch
from rich.console import Console
from torch import Tensor
from torch.nn.functional import logsigmoid

from gnnpatient.datasets.shipped import DATA
from gnnpatient.files import atomic_file
from gnnpatient.metrics import ranked_probability
from gnnpatient.model.heads import contrasts

FORMS = ("classes", "neighbours", "contrasts", "at least", "one more")
RIDGES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
INNER = 4
Part = tuple[
    np.ndarray, np.ndarray, np.ndarray, np.ndarray
]  # columns and classes to learn from, and to score


def log_probability(form: str, weight: Tensor, bias: Tensor, x: Tensor, classes: int) -> Tensor:
    """(row, class) of one form."""
    score = x @ weight
    if form == "classes":
        return (score + bias).log_softmax(1)
    if form == "neighbours":
        return (score * torch.arange(classes, dtype=x.dtype) + bias).log_softmax(1)
    if form == "contrasts":
        return (score @ contrasts(classes).to(x) + bias).log_softmax(1)
    one, zero = torch.ones_like(score[:, :1]), torch.zeros_like(score[:, :1])
    if form == "at least":  # thresholds fall
        threshold = torch.cat([bias[:1], bias[:1] - bias[1:].exp().cumsum(0)])
        at_least = torch.cat([one, (score + threshold).sigmoid(), zero], 1)
        return (at_least[:, :-1] - at_least[:, 1:]).clamp(min=1e-12).log()
    further = score + bias
    came = torch.cat([zero, logsigmoid(further).cumsum(1)], 1)
    return came + torch.cat([logsigmoid(-further), zero], 1)


def start(form: str, share: Tensor) -> tuple[int, Tensor]:
    """How many scores, and the bias of a forecast that is the same for everybody."""
    if form in ("classes", "neighbours", "contrasts"):
        return {"classes": len(share), "neighbours": 1, "contrasts": len(share) - 1}[form], share.log()
    above = (1 - share.cumsum(0))[:-1].clamp(1e-3, 1 - 1e-3)
    if form == "at least":
        threshold = above.logit()
        return 1, torch.cat([threshold[:1], (threshold[:-1] - threshold[1:]).clamp(min=1e-2).log()])
    return 1, (above / (above + share[:-1])).clamp(1e-3, 1 - 1e-3).logit()


def fit(form: str, x: Tensor, label: Tensor, classes: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Weights and bias of the lowest penalised loss."""
    share = torch.bincount(label, minlength=classes).double().clamp(min=0.5) / len(label)
    scores, bias = start(form, share)
    weight = torch.zeros(x.shape[1], scores, dtype=torch.float64, requires_grad=True)
    bias = bias.clone().requires_grad_()
    search = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        said = log_probability(form, weight, bias, x, classes)
        found = -said.gather(1, label[:, None]).sum() + ridge / 2 * weight.square().sum()
        found.backward()
        return found

    search.step(loss)
    return weight.detach(), bias.detach()


def chosen(form: str, x: Tensor, label: Tensor, classes: int, seed: int) -> float:
    """The ridge of the lowest loss on inner folds, stronger ones as long as that falls."""
    fold, losses = np.random.default_rng(seed).permutation(len(x)) % INNER, list[float]()
    for ridge in RIDGES:
        total = 0.0
        for k in range(INNER):
            learn, other = torch.from_numpy(fold != k), torch.from_numpy(fold == k)
            fitted = fit(form, x[learn], label[learn], classes, ridge)
            total -= float(
                log_probability(form, *fitted, x[other], classes).gather(1, label[other][:, None]).sum()
            )
        losses.append(total)
        if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
            break
    return RIDGES[int(np.argmin(losses))]


def simulated(truth: str, size: int, repeats: int) -> Iterator[Part]:
    """Ten columns and five classes."""
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        x, effect = rng.normal(size=(size + 4000, 10)), np.r_[1, 0.7, 0.5, -0.5, 0.3, np.zeros(5)]
        score = (x @ effect)[:, None]
        if truth == "at least":
            at_least = 1 / (1 + np.exp(-score - np.array([2, 0.7, -0.7, -2])))
            p = -np.diff(np.c_[np.ones(len(x)), at_least, np.zeros(len(x))], axis=1)
        elif truth == "one more":
            further = 1 / (1 + np.exp(-score + np.array([1.5, 0.5, 0, -0.5])))
            p = np.c_[np.ones(len(x)), further.cumprod(1)] * np.c_[1 - further, np.ones(len(x))]
        else:
            each = np.exp(x @ np.cumsum(np.random.default_rng(5).normal(size=(10, 5)) * 0.5, 1))
            p = each / each.sum(1, keepdims=True)
        label = (p.cumsum(1) < rng.random((len(x), 1))).sum(1).clip(max=4)
        yield x[:size], label[:size], x[size:], label[size:]


def in_folds(x: np.ndarray, label: np.ndarray, repeats: int, learn: int) -> Iterator[Part]:
    """Five folds again and again; of each at most `learn` patients to learn from."""
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        fold = rng.permutation(len(x)) % 5
        for k in range(5):
            train = rng.permutation(np.flatnonzero(fold != k))[:learn]
            yield x[train], label[train], x[fold == k], label[fold == k]


def filled(table: pl.DataFrame) -> np.ndarray:
    """Medians for what is missing, and flags of columns that often are."""
    x = table.cast(pl.Float64, strict=False).to_numpy()
    missing = np.isnan(x)
    return np.c_[np.where(missing, np.nanmedian(x, 0), x), missing[:, missing.mean(0) > 0.02]]


def pbc(repeats: int) -> Iterator[Part]:
    """Histologic stage at entry, by what was measured then."""
    rows = pl.read_csv(DATA / "pbc" / "pbcseq.csv").sort("id", "day")
    first = rows.group_by("id", maintain_order=True).first().filter(pl.col("stage").is_not_null())
    logs = [pl.col(name).log() for name in ("bili", "chol", "alk.phos", "ast")]
    plain = ("age", "albumin", "platelet", "protime", "ascites", "hepato", "spiders", "edema")
    table = first.select(*logs, *plain, (pl.col("sex") == "f").alias("female"))
    return in_folds(filled(table), first["stage"].to_numpy().astype(np.int64) - 1, repeats, 10_000)


def support2(folder: Path, repeats: int) -> Iterator[Part]:
    """Function at two months, by the physiology of day 3; 400 patients to learn from."""
    steps = ["no(M2 and SIP pres)", "adl>=4 (>=5 if sur)", "SIP>=30", "Coma or Intub", "<2 mo. follow-up"]
    rows = pl.read_csv(folder / "support2.csv", infer_schema_length=None).filter(pl.col("sfdm2").is_in(steps))
    names = [
        "age",
        "num.co",
        "scoma",
        "meanbp",
        "wblc",
        "hrt",
        "resp",
        "temp",
        "pafi",
        "alb",
        "bili",
        "crea",
        "sod",
        "ph",
        "glucose",
        "bun",
        "urine",
    ]
    label = (
        rows["sfdm2"].replace_strict({name: k for k, name in enumerate(steps)}).to_numpy().astype(np.int64)
    )
    return in_folds(filled(rows.select(names)), label, repeats, 400)


def compare(name: str, parts: Iterator[Part]) -> list[str]:
    """A line a form."""
    found: dict[str, list[float]] = {form: [] for form in FORMS}
    size = 0
    for seed, (x, label, new, came) in enumerate(parts):
        size, classes = len(x), int(max(label.max(), came.max())) + 1
        middle, spread = x.mean(0), x.std(0) + 1e-9
        learn, other = (torch.from_numpy(((part - middle) / spread).clip(-5, 5)) for part in (x, new))
        target = torch.from_numpy(label)
        for form in FORMS:
            ridge = chosen(form, learn, target, classes, seed)
            fitted = fit(form, learn, target, classes, ridge)
            p = log_probability(form, *fitted, other, classes).exp().numpy()
            found[form].append(ranked_probability(p, came))
    lines, base = [], np.array(found["classes"])
    for form in FORMS:
        away = np.array(found[form]) - base
        error = away.std() / np.sqrt(len(away))
        lines.append(
            f"| {name} | {size} | {form} | {np.mean(found[form]):.4f} | {away.mean():+.4f} ({error:.4f}) |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=4, help="of five folds; simulated cohorts: 5 of each")
    parser.add_argument("--out", type=Path, required=True, help="a page")
    args = parser.parse_args()
    torch.set_num_threads(1)
    begun, lines = time.monotonic(), list[str]()
    studies = {"pbc, stage": pbc(args.repeats), "support2, function": support2(args.data / "support2", 1)}
    for truth in ("at least", "one more", "none"):
        for size in (200, 1000):
            studies[f"simulated ({size}), true: {truth}"] = simulated(truth, size, 5)
    for name, parts in studies.items():
        lines += compare(name, parts)
        Console(stderr=True).print(lines[-len(FORMS) :])
        head = [
            "# ordered: forms of regression for ordered classes",
            "",
            f"    {shlex.join(['python', 'experiments/ordered.py', *sys.argv[1:]])}",
            "",
            f"{os.cpu_count()} cores, one thread, Python {platform.python_version()}, torch "
            f"{torch.__version__}; {(time.monotonic() - begun) / 60:.0f} minutes.",
            "Ranked probability score of held-out patients, 0 is best; beside it the difference to a score a",
            "class, with its standard error over parts (those of folds are not independent). Development",
            "figures.",
            "",
            "| cohort | learned from | form | RPS | - classes |",
            "|---|---:|---|---:|---|",
        ]
        with atomic_file(args.out) as part:
            part.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
