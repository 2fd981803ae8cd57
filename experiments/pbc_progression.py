"""The next value of bilirubin, albumin and platelets on PBC, if the patient is seen again, beside its rivals.

Claim: asked at each visit for the value at the next one, the default model errs no more than the best of the
last value carried forward, ridge regression on the history, boosted quantiles and a linear mixed model, all
fitted on the same visits and asked for the same time.

The time that is asked for is the visit that the protocol of the trial plans next (half a year, one year, then
each year after entry), never the day on which the patient will come. Beside it stands the same with that day
given to all, which is how these figures were taken before; no forecast can know it. Bilirubin and platelets
are logarithms. A patient is scored by models that were not fitted on him.
Last seen: see results/pbc_progression.md (command, machine, time and figures): better than the rivals on
bilirubin and albumin, not shown on platelets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from gnnpatient import InputError, PrognosisModel, metrics, read_cohort, read_spec
from gnnpatient.cohort.cohort import Cohort, Landmarks, join_landmarks
from gnnpatient.datasets.shipped import DATA
from gnnpatient.spec.outcomes import ProgressionSpec
from gnnpatient.study.folds import Fold, make_folds, read_folds
from gnnpatient.study.value_baselines import VALUE_COMPARATORS

YEAR = 365.25
LEVEL = 0.9  # of the intervals
MODELS = (*VALUE_COMPARATORS, "gnn")


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is forecast, of whom, and for when."""

    outcomes: Mapping[str, tuple[str, str]]  # name: node type, code
    window: str
    horizon: float  # days ahead up to which rivals learn
    planned: Callable[[np.ndarray], np.ndarray]  # day of the next visit from that of a visit
    scored: float = np.inf  # days ahead up to which a next visit is scored
    gone: str = "death"


def after_the_plan(day: np.ndarray) -> np.ndarray:
    """The next visit of the trial's plan: that after the one to which a visit is nearest."""
    plan = np.concatenate([[0.0, 0.5], np.arange(1.0, 40.0)]) * YEAR
    nearest = np.abs(day[:, None] - plan).argmin(1)
    return np.maximum(plan[nearest + 1], day + 30)


PBC = Study(
    outcomes={"bilirubin": ("lab", "bili"), "albumin": ("lab", "albumin"), "platelets": ("lab", "platelet")},
    window="1y",
    horizon=2 * YEAR,
    planned=after_the_plan,
)


def read_pbc(data: Path, study: Study) -> Cohort:
    """PBC with logarithms of bilirubin and platelets."""
    frame = pl.read_csv(data / "pbcseq.csv", infer_schema_length=None, null_values=["NA"])
    frame = frame.with_columns(pl.col("bili", "platelet").cast(pl.Float64).log())
    return with_values("pbc", {"pbcseq.csv": frame}, study)


def with_values(name: str, data: Any, study: Study) -> Cohort:
    """A cohort with the values of the study as outcomes, beside what ends them."""
    spec = read_spec(name)
    outcomes = {study.gone: spec.outcomes[study.gone]} | {
        outcome: ProgressionSpec(
            kind="progression", node=node, codes=(code,), window=study.window, gone=study.gone
        )
        for outcome, (node, code) in study.outcomes.items()
    }
    return read_cohort(spec.model_copy(update={"outcomes": outcomes}), data)


def visits(cohort: Cohort, patients: np.ndarray, outcome: str) -> Landmarks:
    """The patients at each day on which the value became known, as long as they are followed."""
    truth = cohort.outcomes[outcome]
    rows = np.flatnonzero(truth.code[truth.events.code] & np.isfinite(truth.events.value))
    owner, known = truth.events.patient[rows], truth.events.known[rows]
    pair = np.unique(np.stack([owner, known]), axis=1)
    pair = pair[:, np.isin(pair[0], patients)]
    return cohort.at(pair[1] / 86_400, patient=pair[0]).followed(outcome)


def asked(X: Landmarks, outcome: str, study: Study) -> tuple[dict[str, Landmarks], np.ndarray]:
    """The landmarks with a later value, asked for the planned and for the actual time, and that value."""
    owner, after, value = X.cohort.outcomes[outcome].later(X.patient, X.at)
    seen, first = np.unique(owner, return_index=True)  # the first later value of each
    within = after[first] / 86_400 <= study.scored
    seen, first = seen[within], first[within]
    X, day = X[seen], X.days[seen]
    times = {"planned": study.planned(day), "actual": day + after[first] / 86_400}
    return {query: X.cohort.at(day, X.patient, to=to) for query, to in times.items()}, value[first]


def fitted(model: str, X: Landmarks, outcomes: Sequence[str], study: Study, seed: int) -> Any:
    """A model of all outcomes, fitted on the visits of the training patients."""
    if model in VALUE_COMPARATORS:
        comparator = VALUE_COMPARATORS[model]
        return comparator(outcomes=outcomes, horizon=study.horizon, landmarks=None).fit(X)
    return PrognosisModel(outcomes=list(outcomes), seed=seed).fit(X)


def forecasts(
    cohort: Cohort, fold: Fold, study: Study, args: Any, say: Callable[[str], None]
) -> pl.DataFrame:
    """What each model says of the next value of each test patient, one row a visit, model and query."""
    names = args.outcome.split(",")
    train = join_landmarks(*(visits(cohort, fold.train, name) for name in names))
    order = np.unique(np.stack([train.patient, train.at]), axis=1, return_index=True)[1]
    train, found = train[np.sort(order)], []
    for model in args.models.split(","):
        began = time.perf_counter()
        one = fitted(model, train, names, study, args.seed)
        for name in names:
            queries, value = asked(visits(cohort, fold.test, name), name, study)
            for query, X in queries.items():
                said = one.forecast(X)[name]
                low, high = said.interval(LEVEL)
                columns = {
                    "id": fold.ids(X),
                    "landmark": X.days,
                    "to": (X.to - X.at) / 86_400,
                    "value": value,
                    "mean": said.mean(),
                    "median": said.quantile(0.5),
                    "low": low,
                    "high": high,
                    "crps": metrics.crps_of(said.distribution(), said.edges, value),
                }
                about = {"model": model, "outcome": name, "query": query}
                of_fold = {"repeat": fold.repeat, "fold": fold.fold}
                found.append(pl.DataFrame({**about, **of_fold, **columns}))
        took = time.perf_counter() - began
        say(f"repeat {fold.repeat} fold {fold.fold} {model}: {len(train)} visits, {took:.0f} s")
    return pl.concat(found)


def errors(found: pl.DataFrame, models: Sequence[str], weight: np.ndarray | None = None) -> np.ndarray:
    """The root mean squared error of each model, of one outcome and query."""
    each = [found.filter(model=model) for model in models]
    return np.array([metrics.rmse(p["mean"].to_numpy(), p["value"].to_numpy(), weight=weight) for p in each])


def table(found: pl.DataFrame, models: Sequence[str], draws: int = 200) -> list[str]:
    """The figures of each outcome and query, with paired differences from the best rival, as lines."""
    lines, rivals = [], [i for i, model in enumerate(models) if model in VALUE_COMPARATORS]
    for (outcome, query), part in found.group_by("outcome", "query", maintain_order=True):
        part = part.sort("repeat", "fold", "id", "landmark")
        rmse, who = errors(part, models), part.filter(model=models[0])["id"].to_numpy()
        best = min(rivals or range(len(models)), key=lambda i, of=rmse: of[i])
        drawn = metrics.bootstrap(lambda weight, of=part: errors(of, models, weight), who, n=draws)
        low, high = metrics.interval(drawn - drawn[:, [best]])
        lines += [
            "",
            f"## {outcome}, {query} day: {len(who)} values of {len(np.unique(who))} patients",
            "",
            f"| model | RMSE | RMSE - {models[best]} | MAE | CRPS | coverage of .9 | width |",
            "|---|---|---|---|---|---|---|",
        ]
        for i, model in enumerate(models):
            one = {name: column.to_numpy() for name, column in part.filter(model=model).to_dict().items()}
            value, ends = one["value"], (one["low"], one["high"])
            others = (
                metrics.mae(one["median"], value),
                float(one["crps"].mean()),
                metrics.coverage(*ends, value),
                metrics.width(*ends, value),
            )
            beside = "-" if i == best else f"{rmse[i] - rmse[best]:+.4g} [{low[i]:+.4g}, {high[i]:+.4g}]"
            lines.append(f"| {model} | {rmse[i]:.4g} | {beside} | {' | '.join(f'{x:.4g}' for x in others)} |")
    return lines


def run(doc: str, study: Study, default: Path, read: Callable[[Path, Study], Cohort]) -> None:
    """Fit and forecast in each fold, keep the answers, print the tables."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--folds", type=Path, help="default: five made by patient, seed 0")
    parser.add_argument("--outcome", default=",".join(study.outcomes))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    console, models = Console(stderr=True), args.models.split(",")
    for word, known in ((args.outcome, study.outcomes), (args.models, MODELS)):
        if unknown := set(word.split(",")) - set(known):
            parser.error(f"unknown {sorted(unknown)[0]!r}; there are {', '.join(known)}")
    try:
        cohort = read(args.data, study)
        made = args.folds is None
        folds = make_folds(cohort, study.gone, 5) if made else read_folds(args.folds, cohort, args.repeats)
    except InputError as refusal:
        parser.error(str(refusal))
    found = pl.concat([forecasts(cohort, fold, study, args, console.print) for fold in folds])
    found.write_parquet(args.out)
    print("\n".join(table(found, models)).strip())


if __name__ == "__main__":
    run(__doc__, PBC, DATA / "pbc", read_pbc)
