"""A model fitted in one place and asked in another, as it is and after an update there, beside Cox.

Claim: from the Rotterdam cohort to the German trial the product's integrated Brier score is no worse than
that of a stacked Cox (upper end of the difference <= +.001), before and after an update of the intercept;
from the PBC trial to the 106 patients who were not in it the same is printed, and nothing is claimed.
Last seen: see results/transport.md, where it has been run (command, machine, date and figures).

    python experiments/transport.py --data DATA --out transport.parquet --table results/transport.md

DATA holds `survival-tables` and `pbc`, one folder each. Both models are fitted at entry on all patients of
the first cohort and scored at entry on all of the second. An update is fitted on one half of these patients
and scored on the other, and the reverse; AUC compares patients of one half only, before an update, too.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from worlds import command

from gnnpatient import InputError, PrognosisModel, read_cohort, read_spec
from gnnpatient.cohort.cohort import Cohort
from gnnpatient.datasets.shipped import pbc
from gnnpatient.spec.graph import spec_path
from gnnpatient.study.evaluate import Evaluation, evaluate
from gnnpatient.study.models import comparators_of
from gnnpatient.study.scoreboard import ModelRisks, scored_grid
from gnnpatient.study.updating import WAYS, with_update

YEAR = 365.25
MODELS = ("gnn", "cox")
METRICS = ("ibs", "auc", "oe", "slope")


@dataclass(frozen=True, kw_only=True)
class Study:
    """From where to where."""

    here: Callable[[Path], Cohort]  # fitted on
    there: Callable[[Path], Cohort]
    outcome: str
    cause: str
    horizon: float  # years


def table(spec: str) -> Callable[[Path], Cohort]:
    """A cohort of one table."""
    return lambda data: read_cohort(read_spec(spec), data / "survival-tables")


def pbc_others(data: Path) -> Cohort:
    """The 106 patients with PBC who were not in the trial, with the spec of the trial: one visit each."""
    frame = pl.read_csv(data / "pbc" / "pbc.csv", infer_schema_length=None, null_values="NA")
    others = frame.filter(pl.col("id") > 312).rename({"time": "futime"}).with_columns(day=0)
    spec = tomllib.loads(spec_path("pbc").read_text())
    return read_cohort(read_spec({**spec, "cohort": "pbc-others"}), {"pbcseq.csv": others})


STUDIES = {
    "rotterdam-gbsg": Study(
        here=table("rotterdam"), there=table("gbsg"), outcome="relapse", cause="relapse", horizon=5.0
    ),
    "pbc-others": Study(
        here=lambda data: pbc(), there=pbc_others, outcome="death", cause="death", horizon=5.0
    ),
}


def transported(study: Study, data: Path, seed: int, choices: dict[str, Any]) -> tuple[ModelRisks, list[str]]:
    """Risks of both models in the other cohort, as they are and updated there."""
    X = study.here(data).landmarks(times=["entry"]).followed(study.outcome)
    test = study.there(data).landmarks(times=["entry"]).followed(study.outcome)
    last = study.horizon * YEAR
    gnn = PrognosisModel(outcomes=[study.outcome], horizon=last, seed=seed, device="cpu", **choices).fit(X)
    beside = comparators_of(X, X, study.outcome, last, [last])
    grid = scored_grid(last, [last])
    scored = ModelRisks.of([({"gnn": gnn, **beside}, test)], study.outcome, grid)
    said = []
    for way in WAYS:
        scored, lines = with_update(scored, study.outcome, way, MODELS, seed=0)
        said += lines
    return scored, said


def scores_of(study: Study, scored: ModelRisks, draws: int) -> Evaluation:
    """The figures of the cause, with the product - Cox as they are and after each update."""
    pairs = [("gnn", "cox"), *((f"gnn+{way}", f"cox+{way}") for way in WAYS)]
    how: dict[str, Any] = {"horizons": [study.horizon * YEAR], "cause": study.cause, "n": draws}
    return evaluate(scored, outcome=study.outcome, against=pairs, **how)


def figure(row: dict[str, Any], signed: bool = False) -> str:
    """A figure with its interval, or a dash."""
    if row["value"] is None:
        return "-"
    sign = "+" if signed else ""
    around = "" if row["low"] is None else f" [{row['low']:{sign}.4f}, {row['high']:{sign}.4f}]"
    return f"{row['value']:{sign}.4f}{around}"


def section(name: str, seed: int, found: Evaluation, notes: list[str]) -> list[str]:
    """One pair of cohorts and one seed."""
    lines = [f"## {name}, seed {seed}", "", f"{found.patients} patients scored; {dict(found.events)}.", ""]
    lines += ["| model | IBS | AUC | O/E | slope |", "|---|---|---|---|---|"]
    names = ["null", *(f"{model}{way}" for way in ("", *(f"+{w}" for w in WAYS)) for model in MODELS)]
    for model in names:
        lines.append(f"| {model} | " + " | ".join(figure(found.value(model, m)) for m in METRICS) + " |")
    lines += ["", "| product - Cox | IBS | AUC |", "|---|---|---|"]
    for way in ("", *(f"+{w}" for w in WAYS)):
        pair = f"gnn{way}-cox{way}"
        each = (figure(found.value(pair, metric), signed=True) for metric in ("ibs", "auc"))
        lines.append(f"| {way.removeprefix('+') or 'as it is'} | " + " | ".join(each) + " |")
    return [*lines, "", *(f"- {line}" for line in notes), ""]


def risks_of(name: str, seed: int, study: Study, scored: ModelRisks) -> pl.DataFrame:
    """Every risk at the horizon, a row a model and patient."""
    parts = []
    for model, risks in scored.risks.items():
        about = {"cohort": name, "model": model, "repeat": seed, "fold": scored.fold, "landmark": 0.0}
        risk = risks[study.cause][:, -1].astype(float)
        frame = pl.DataFrame({**about, "id": scored.landmarks.ids, f"risk_{study.horizon:g}": risk})
        parts.append(frame)
    return pl.concat(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cohorts", default=",".join(STUDIES))
    parser.add_argument("--repeats", type=int, default=1, help="fits, each with the next seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--members", type=int, default=None)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", type=Path, default=None)
    args = parser.parse_args()
    console = Console(stderr=True)
    given = {"members": args.members, "epochs": args.epochs}
    choices = {name: value for name, value in given.items() if value is not None}
    names = args.cohorts.split(",")
    if unknown := set(names) - set(STUDIES):
        parser.error(f"unknown cohort {sorted(unknown)[0]!r}; there are {', '.join(STUDIES)}")
    lines = ["# transport: fitted here, asked there", "", f"    {command('transport')}", ""]
    lines += [
        f"{time.strftime('%Y-%m-%d')}; {os.cpu_count()} shared cores, Python {platform.python_version()}.",
        "",
    ]
    frames = []
    for name in names:
        for seed in range(args.seed, args.seed + args.repeats):
            began = time.perf_counter()
            try:
                scored, notes = transported(STUDIES[name], args.data, seed, choices)
            except InputError as refusal:
                parser.error(str(refusal))
            lines += section(name, seed, scores_of(STUDIES[name], scored, args.draws), notes)
            frames.append(risks_of(name, seed, STUDIES[name], scored))
            console.print(f"{name}, seed {seed}: {time.perf_counter() - began:.0f} s")
    pl.concat(frames, how="diagonal_relaxed").write_parquet(args.out)
    if args.table is not None:
        args.table.write_text("\n".join(lines).rstrip("\n") + "\n")
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
