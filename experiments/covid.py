"""From chest images in articles: is it covid, who comes into intensive care, who dies?

Claim: none that images add to age, sex and view; the figures say what is so. One over all first images is
contaminated: a tube in an image, or one taken in intensive care, tells where the patient is. So that outcome
is also asked on the first day on which the images say neither; the others stand apart.
Last seen: see results/covid.md (command, machine, time and figures).

    python graphs/covid-cxr.prepare.py DATA_DIR --out DIR
    python experiments/covid.py --data DIR --folds covid_death_bysource.parquet --outcome death --out FILE
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gnnpatient import InputError, PrognosisModel, build_graphs, read_cohort, read_spec
from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.cohort.splits import StratifiedPatientKFold
from gnnpatient.files import atomic_file
from gnnpatient.metrics import SCORES, bootstrap, interval, labelled
from gnnpatient.study.folds import Fold, read_folds
from gnnpatient.times import FOREVER

OUTCOMES = {
    "covid_vs_other": ("covid", "covid"),
    "death": ("death", "died"),
    "went_icu": ("icu_contaminated", "yes"),
    "intubated": ("intubated_contaminated", "yes"),
    "severe": ("severe", "yes"),
}
"""Name of the question, as in the fold files: outcome of the spec, the class whose probability is scored."""
SEEN = {"went_icu", "intubated"}  # which an image may show already; the landmarks are told apart here
AXES = 16  # of the images' vectors, for the comparators; the network takes as many
ENOUGH = 20  # patients; a figure of fewer is none
MODELS = ("baseline", "picture", "logistic", "gnn")


def baseline(landmarks: Landmarks) -> pl.DataFrame:
    """Age, sex, and how many images of each view."""
    frame = landmarks.to_frame()
    sex = pl.col("sex").replace_strict({"F": 0.0, "M": 1.0}, default=None)
    views = [name for name in frame.columns if name.startswith("image.") and name.endswith(".n")]
    return frame.select("age", sex, *views).cast(pl.Float64)


def pictures(landmarks: Landmarks) -> pl.DataFrame:
    """The mean vector of the images, null without one."""
    nodes, vectors = build_graphs(landmarks)["image"], landmarks.cohort.vectors["image"]
    assert nodes.row is not None
    owner = nodes.owner.numpy()
    total = np.zeros((len(landmarks), vectors.shape[1]))
    np.add.at(total, owner, vectors[nodes.row.numpy()])
    count = np.bincount(owner, minlength=len(landmarks))[:, None]
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return pl.DataFrame(mean, [f"vector.{i}" for i in range(mean.shape[1])]).fill_nan(None)


def everything(landmarks: Landmarks) -> pl.DataFrame:
    """The baseline, the onset, the last value of each lab, the vector."""
    frame = landmarks.to_frame()
    labs = [f"lab.{code}" for code in landmarks.cohort.codes["lab"] if f"lab.{code}" in frame.columns]
    return pl.concat(
        [baseline(landmarks), frame.select("onset", *labs), pictures(landmarks)], how="horizontal"
    )


FEATURES: Mapping[str, Callable[[Landmarks], pl.DataFrame]] = {
    "baseline": baseline,
    "picture": pictures,
    "logistic": everything,
}


class Regression:
    """Ridge logistic regression: what is missing takes the median and says so, vectors become a few axes."""

    def __init__(self, features: Callable[[Landmarks], pl.DataFrame], outcome: str, label: str):
        self.features, self.outcome, self.label = features, outcome, label

    def fit(self, landmarks: Landmarks) -> Regression:
        X = self.features(landmarks)
        vector = [name for name in X.columns if name.startswith("vector.")]
        given = [n for n in X.columns if n not in vector and X[n].n_unique() > 1 and X[n].count()]
        axes = make_pipeline(SimpleImputer(), PCA(min(AXES, len(X) - 1), random_state=0, whiten=True))
        plain = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
        columns = make_column_transformer((plain, given), (axes, vector))
        self.model_ = make_pipeline(columns, LogisticRegression(C=0.1, max_iter=1000))
        self.model_.fit(X.to_pandas(), truth(landmarks, self.outcome, self.label))
        return self

    def risk(self, landmarks: Landmarks) -> np.ndarray:
        return self.model_.predict_proba(self.features(landmarks).to_pandas())[:, 1]


class Network:
    """The graph network on everything that is known."""

    def __init__(self, outcome: str, label: str, members: int, seed: int):
        self.outcome, self.label = outcome, label
        self.model = PrognosisModel(outcomes=[outcome], members=members, seed=seed)

    def fit(self, landmarks: Landmarks) -> Network:
        self.model.fit(landmarks)
        return self

    def risk(self, landmarks: Landmarks) -> np.ndarray:
        return self.model.forecast(landmarks)[self.outcome].risk(self.label)


def truth(landmarks: Landmarks, outcome: str, label: str) -> np.ndarray:
    """Whether each landmark turned out to be of that class: (landmark,) int."""
    truth = landmarks.cohort.outcomes[outcome]
    return (landmarks.outcome(outcome)["label"] == truth.classes.index(label)).astype(int)


def moments(data: Path, cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """The day on which each patient is asked, and which row of the figures that belongs to.

    clean: the first day of which every image says in_icu = N and intubation_present = N, and no earlier one
    says Y. Others are asked on day 0: seen where one of then or before says Y, unknown where none says so.
    """
    said = pl.read_csv(data / "images.csv", schema_overrides={"patientid": pl.String})
    said = said.drop_nulls("day").with_columns(
        free=(pl.col("in_icu") == "N") & (pl.col("intubation_present") == "N"),
        there=(pl.col("in_icu") == "Y") | (pl.col("intubation_present") == "Y"),
    )
    said = said.group_by("patientid", "day").agg(
        pl.col("free").fill_null(False).all(), pl.col("there").fill_null(False).any()
    )
    said = said.sort("patientid", "day").with_columns(before=pl.col("there").cum_max().over("patientid"))
    clean = said.filter((pl.col("day") >= 0) & pl.col("free") & ~pl.col("before"))
    clean = clean.group_by("patientid").agg(pl.col("day").min())
    there = said.filter((pl.col("day") <= 0) & pl.col("there"))
    there = there.select("patientid", there=pl.lit(True)).unique()
    people = pl.DataFrame({"patientid": cohort.ids.astype(str)})
    people = people.join(clean, on="patientid", how="left", maintain_order="left")
    people = people.join(there, on="patientid", how="left", maintain_order="left")
    row = pl.when(pl.col("day").is_not_null()).then(pl.lit("clean")).when("there").then(pl.lit("seen"))
    row = people.select(row.otherwise(pl.lit("unknown"))).to_series().to_numpy()
    return people["day"].fill_null(0.0).to_numpy(), row


def deal(cohort: Cohort, outcome: str, seed: int) -> list[Fold]:
    """Five folds of the patients whose label is that of their first image, or of all that comes."""
    landmarks = cohort.at(0.0).followed(outcome)
    known = cohort.outcomes[outcome].known[landmarks.patient]
    landmarks = landmarks[(known <= 0) | (known == FOREVER)]
    split = StratifiedPatientKFold(5, seed=seed).split(landmarks, landmarks.outcome(outcome)["label"])
    return [
        Fold(0, i, landmarks.patient[train], landmarks.patient[test], pl.String)
        for i, (train, test) in enumerate(split)
    ]


Score = Callable[[np.ndarray], float]


def auc(rows: pl.DataFrame) -> Score:
    """The AUC by how often each row counts: pairs within a fold, summed over folds, the mean over repeats."""
    parts = []
    for _, part in rows.with_row_index("i").group_by("repeat", maintain_order=True):
        i, score, y, fold = (part[name].to_numpy() for name in ("i", "score", "y", "fold"))
        parts.append((i, score, y == 1, fold))

    def weighed(weight: np.ndarray) -> float:
        values = [
            SCORES["auc"](score, labelled(case, weight=weight[i]), fold) for i, score, case, fold in parts
        ]
        values = [value for value in values if np.isfinite(value)]  # a draw may leave no pair
        return float(np.mean(values)) if values else np.nan

    return weighed


def figures(rows: pl.DataFrame, draws: int) -> pl.DataFrame:
    """asked, model, patients, positive, auc, low, high; beyond (below, above): gain over the baseline."""
    out = []
    keys = ["asked", "repeat", "fold", "id"]
    for (asked, model), part in rows.group_by("asked", "model", maintain_order=True):
        rival = part.select(keys).join(rows.filter(model="baseline"), on=keys, maintain_order="left")
        mine, theirs = auc(part), auc(rival)

        def both(weight: np.ndarray, mine: Score = mine, theirs: Score = theirs) -> list[float]:
            return [mine(weight), mine(weight) - theirs(weight)]

        people, nothing = part.unique("id"), np.full(2, np.nan)
        (low, below), (high, above), (value, beyond) = nothing, nothing, nothing
        if len(people) >= ENOUGH:
            (low, below), (high, above) = interval(bootstrap(both, part["id"].to_numpy(), n=draws))
            value, beyond = both(np.ones(len(part)))
        about = {"asked": asked, "model": model, "patients": len(people), "positive": people["y"].sum()}
        found = {"auc": value, "low": low, "high": high, "beyond": beyond, "below": below, "above": above}
        out.append({**about, **found})
    return pl.DataFrame(out).sort("asked", maintain_order=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="what covid-cxr.prepare.py made")
    parser.add_argument("--cache", type=Path, help="embeddings made earlier, so that each is made once")
    parser.add_argument("--folds", type=Path, help="repeat, fold, id; default: five folds by article")
    parser.add_argument("--outcome", choices=sorted(OUTCOMES), required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--draws", type=int, default=200, help="of patients, for the intervals")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="parquet, all first pictures")
    args = parser.parse_args()
    console, began = Console(soft_wrap=True, highlight=False), time.perf_counter()
    models = args.models.split(",")
    if unknown := set(models) - set(MODELS):
        parser.error(f"unknown model {sorted(unknown)[0]!r}; there are {', '.join(MODELS)}")
    outcome, label = OUTCOMES[args.outcome]
    try:
        cohort = read_cohort(read_spec("covid-cxr"), args.data, cache=args.cache)
        folds = (
            read_folds(args.folds, cohort, args.repeats) if args.folds else deal(cohort, outcome, args.seed)
        )
    except InputError as refusal:
        parser.error(str(refusal))
    parted = sum(len(np.intersect1d(cohort.groups[f.train], cohort.groups[f.test])) for f in folds)
    console.print(f"groups of patients that the folds part, over all folds: {parted}")
    day, row = moments(args.data, cohort)

    def ask(fold: Fold) -> list[tuple[str, Landmarks]]:
        """The test landmarks of a fold, by row of the figures."""
        first = cohort.at(0.0, patient=fold.test)
        if args.outcome not in SEEN:
            return [("first picture", first)]
        parts = [("first picture (contaminated)", first)]
        for one in ("clean", "seen", "unknown"):
            who = fold.test[row[fold.test] == one]
            parts += [(one, cohort.at(day[who], patient=who))] if len(who) else []
        return parts

    found = []
    for fold in folds:
        train = cohort.at(0.0, patient=fold.train)
        for name in models:
            if name == "gnn":
                model: Network | Regression = Network(outcome, label, args.members, args.seed)
            else:
                model = Regression(FEATURES[name], outcome, label)
            model.fit(train)
            for asked, landmarks in ask(fold):
                about = {"asked": asked, "model": name, "repeat": fold.repeat, "fold": fold.fold}
                scores = {"score": model.risk(landmarks), "y": truth(landmarks, outcome, label)}
                found.append(pl.DataFrame({**about, "id": fold.ids(landmarks), **scores}))
        took = time.perf_counter() - began
        print(f"{took:5.0f} s  repeat {fold.repeat} fold {fold.fold}", file=sys.stderr)
    rows = pl.concat(found)
    first = rows.filter(pl.col("asked").str.starts_with("first picture")).drop("asked", "y")
    with atomic_file(args.out) as part:
        first.write_parquet(part)
    shown = figures(rows, args.draws)
    console.print(f"| {' | '.join(shown.columns)} |\n|{'---|' * shown.width}")
    for line in shown.iter_rows():
        cells = ("-" if cell != cell else f"{cell:.3f}" if isinstance(cell, float) else cell for cell in line)
        console.print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
