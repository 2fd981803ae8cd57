"""Which part of a chest X-ray report tells whether anything was found?

Claim: the findings tell it, the impression less, for it keeps to what is acute; why the image was taken and
what it was compared with tell little. So it is the text that carries. Equal reports are never parted.
Last seen: see results/openi.md (command, machine, time and figures).

    python graphs/openi-reports.prepare.py DATA_DIR --out DIR
    python experiments/openi.py --data DIR --out openi.parquet
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from sklearn.linear_model import LogisticRegression

from gnnpatient import InputError, PatientKFold, PrognosisModel, build_graphs, read_cohort, read_spec
from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.files import atomic_file
from gnnpatient.metrics import SCORES, bootstrap, interval, labelled

PARTS = ("comparison", "indication", "findings", "impression")
SEEN = {part: (part,) for part in PARTS} | {"findings + impression": PARTS[2:], "all": PARTS}
MODELS = ("logistic", "gnn")


def vectors(landmarks: Landmarks, kinds: tuple[str, ...]) -> np.ndarray:
    """The vectors of the parts side by side, zeros where one is not written: (landmark, channel)."""
    graphs, parts = build_graphs(landmarks), []
    for kind in kinds:
        nodes, matrix = graphs[kind], landmarks.cohort.vectors[kind]
        assert nodes.row is not None
        wide = np.zeros((len(landmarks), matrix.shape[1]))
        wide[nodes.owner.numpy()] = matrix[nodes.row.numpy()]
        parts.append(wide)
    return np.hstack(parts)


def normal(landmarks: Landmarks) -> np.ndarray:
    """Whether each report was coded as normal: (landmark,) int8."""
    return (landmarks.outcome("normal")["label"] == 1).astype(np.int8)


def risk(model: str, kinds: tuple[str, ...], train: Landmarks, test: Landmarks, seed: int) -> np.ndarray:
    """The probability of a normal report, from some of its parts."""
    if model == "gnn":
        network = PrognosisModel(outcomes=["normal"], kinds=kinds, members=1, seed=seed).fit(train)
        return network.forecast(test)["normal"].risk("normal")
    ridge = LogisticRegression(max_iter=1000).fit(vectors(train, kinds), normal(train))
    return ridge.predict_proba(vectors(test, kinds))[:, 1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="what openi-reports.prepare.py made")
    parser.add_argument("--cache", type=Path, help="embeddings made earlier, so that each is made once")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument(
        "--draws", type=int, default=200, help="of groups of equal reports, for the intervals"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="parquet: model, parts, fold, id, score")
    args = parser.parse_args()
    console, began = Console(soft_wrap=True, highlight=False), time.perf_counter()
    models = args.models.split(",")
    if unknown := set(models) - set(MODELS):
        parser.error(f"unknown model {sorted(unknown)[0]!r}; there are {', '.join(MODELS)}")
    try:
        cohort = read_cohort(read_spec("openi-reports"), args.data, cache=args.cache)
    except InputError as refusal:
        parser.error(str(refusal))
    landmarks = cohort.at(0.0).followed("normal")
    found = []
    for fold, (train, test) in enumerate(PatientKFold(5, seed=args.seed).split(landmarks)):
        for model in models:
            for parts, kinds in SEEN.items():
                score = risk(model, kinds, landmarks[train], landmarks[test], args.seed)
                about = {"model": model, "parts": parts, "fold": fold, "id": landmarks[test].ids.astype(str)}
                truth = {"y": normal(landmarks[test]), "group": landmarks[test].groups}
                found.append(pl.DataFrame({**about, "score": score, **truth}))
        print(f"{time.perf_counter() - began:5.0f} s  fold {fold}", file=sys.stderr)
    rows = pl.concat(found)
    with atomic_file(args.out) as part:
        rows.drop("y", "group").write_parquet(part)
    console.print("| model | parts | reports | normal | auc | low | high |\n|---|---|---|---|---|---|---|")
    for (model, parts), group in rows.group_by("model", "parts", maintain_order=True):
        score, y, fold = (group[name].to_numpy() for name in ("score", "y", "fold"))

        def figure(weight: np.ndarray, score=score, y=y, fold=fold) -> float:
            return SCORES["auc"](score, labelled(y == 1, weight=weight), fold)

        low, high = interval(bootstrap(figure, group["group"].to_numpy(), n=args.draws))
        value = figure(np.ones(len(group)))
        counts = f"{len(group)} | {int(y.sum())}"
        console.print(f"| {model} | {parts} | {counts} | {value:.3f} | {low:.3f} | {high:.3f} |")


if __name__ == "__main__":
    main()
