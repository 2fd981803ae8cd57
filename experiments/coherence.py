"""Does a model say later, on average, what it said before? Death and transplant on PBC, public folds.

Claim: among patients still at risk a gap after a landmark, the risk that is forecast then regresses on the
earlier forecast of the same days, given event-free until then, with intercept 0 and slope 1 (METHODS 26), and
the paired error of the default model is not above that of the stacked Cox. Everything is out of fold; rows
weigh 1 / G(gap), G by landmark; intervals resample patients and hold the fitted models fixed.
Last seen: see results/coherence.md (command, machine, time and figures).
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console

from gnnpatient import InputError, PrognosisModel, metrics, read_cohort, read_spec
from gnnpatient.cohort.cohort import Cohort
from gnnpatient.datasets.shipped import DATA
from gnnpatient.files import atomic_file
from gnnpatient.study.baselines import StackedCox
from gnnpatient.study.fitted import family_models
from gnnpatient.study.folds import Fold, read_folds
from gnnpatient.study.scoreboard import Model

YEAR = 365.25
MODELS = ("gnn", "cox")


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is asked, in years."""

    outcome: str = "death"
    landmarks: tuple[float, ...] = (1.0, 3.0, 5.0)
    gaps: tuple[float, ...] = (1.0, 2.0)
    horizons: tuple[float, ...] = (1.0, 3.0)  # after the gap
    last: float = 7.0  # training landmarks are drawn from entry up to here
    horizon: float = 5.5  # of the fit


def make(name: str, study: Study, members: int, seed: int) -> PrognosisModel | StackedCox:
    horizon = study.horizon * YEAR
    if name == "cox":
        return StackedCox(outcomes=[study.outcome], horizon=horizon)
    return PrognosisModel(outcomes=[study.outcome], horizon=horizon, members=members, seed=seed)


def pairs(model: Model, cohort: Cohort, fold: Fold, study: Study) -> Iterator[pl.DataFrame]:
    """The later and the earlier forecast of held-out patients at risk at a landmark and a gap after it."""
    for landmark, gap in itertools.product(study.landmarks, study.gaps):
        then = cohort.at((landmark + gap) * YEAR, patient=fold.test).followed(study.outcome)
        both = cohort.at(landmark * YEAR, patient=then.ids).at_risk(study.outcome)
        then = then[both]
        now = cohort.at(landmark * YEAR, patient=then.ids)
        if not len(then):
            continue
        early = model.forecast(now)[study.outcome].given_event_free(gap * YEAR)
        late = model.forecast(then)[study.outcome]
        for cause, horizon in itertools.product(late.causes, study.horizons):
            about = {"repeat": fold.repeat, "fold": fold.fold, "landmark": landmark, "gap": gap}
            frame = pl.DataFrame({**about, "horizon": horizon, "cause": cause, "id": fold.ids(then)})
            yield frame.with_columns(
                earlier=pl.Series(early.risk(cause, horizon * YEAR)),
                later=pl.Series(late.risk(cause, horizon * YEAR)),
            )


def weights(cohort: Cohort, patients: np.ndarray, study: Study) -> pl.DataFrame:
    """1 / G(gap) of each landmark and gap, G of all scored patients at risk at the landmark."""
    rows = []
    for landmark in study.landmarks:
        truth = cohort.at(landmark * YEAR, patient=patients).followed(study.outcome).outcome(study.outcome)
        staying = metrics.censoring(truth["time"], truth["event"])
        rows += [(landmark, gap, 1 / float(staying.right(gap * YEAR))) for gap in study.gaps]
    return pl.DataFrame(rows, schema=["landmark", "gap", "weight"], orient="row")


def figures(rows: pl.DataFrame, models: Sequence[str], draws: int = 1000) -> list[str]:
    """A table in markdown: a line a cause, gap, horizon and model, and the paired difference of errors."""
    lines = [
        "| cause | gap, y | within, y | model | rows | intercept | slope | error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (cause, gap, horizon), part in rows.group_by(["cause", "gap", "horizon"], maintain_order=True):
        found: dict[str, metrics.Coherence] = {}
        for model in models:
            one = part.filter(model=model).sort("repeat", "landmark", "id")
            columns = (one[name].to_numpy() for name in ("earlier", "later", "id"))
            found[model] = metrics.coherence(*columns, weight=one["weight"].to_numpy(), n=draws)
            each = (found[model].intercept, found[model].slope, found[model].error)
            cells = " | ".join("{:.3f} [{:.3f}, {:.3f}]".format(*figure) for figure in each)
            lines.append(f"| {cause} | {gap:g} | {horizon:g} | {model} | {len(one)} | {cells} |")
        if {"gnn", "cox"} <= set(found):
            value = found["gnn"].error[0] - found["cox"].error[0]
            low, high = metrics.interval(found["gnn"].draws[:, 2] - found["cox"].draws[:, 2])
            cells = f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
            lines.append(f"| {cause} | {gap:g} | {horizon:g} | gnn - cox | | | | {cells} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA / "pbc")
    parser.add_argument("--folds", type=Path, required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    study, console = Study(), Console(stderr=True)
    models = args.models.split(",")
    if unknown := set(models) - set(MODELS):
        parser.error(f"unknown model {sorted(unknown)[0]!r}; there are {', '.join(MODELS)}")
    try:
        cohort = read_cohort(read_spec("pbc"), args.data)
        folds = read_folds(args.folds, cohort, repeats=args.repeats)
    except InputError as refusal:
        parser.error(str(refusal))
    times = np.arange(0, study.last + 0.01, 0.25) * YEAR
    found, parts = [], args.out.with_suffix(".parts")
    parts.mkdir(parents=True, exist_ok=True)  # a run that was stopped goes on from here
    for fold, name in itertools.product(folds, models):
        part = parts / f"{fold.repeat}-{fold.fold}-{name}-{args.members}-{args.seed}.parquet"
        if not part.is_file():
            began = time.perf_counter()
            landmarks = cohort.landmarks(fold.train, times).followed(study.outcome)
            model = make(name, study, args.members, args.seed).fit(landmarks)
            answers: Mapping[str, Model] = {name: model}
            if isinstance(model, PrognosisModel):
                answers = answers | family_models(model.predictor_, study.outcome)
            each = [
                rows.select(pl.lit(answer).alias("model"), pl.all())
                for answer, one in answers.items()
                for rows in pairs(one, cohort, fold, study)
            ]
            with atomic_file(part) as file:
                pl.concat(each).write_parquet(file)
            took = time.perf_counter() - began
            console.print(f"repeat {fold.repeat} fold {fold.fold} {name}: {took:.1f} s")
        found.append(pl.read_parquet(part))
    names = list(dict.fromkeys(pl.concat(found)["model"].to_list()))
    scored = np.unique(np.concatenate([fold.test for fold in folds]))
    rows = pl.concat(found).join(weights(cohort, scored, study), on=["landmark", "gap"])
    rows.write_parquet(args.out)
    print("\n".join(figures(rows, names)))


if __name__ == "__main__":
    main()
