"""What the loss of rows costs a fitted model, and how much the pattern of missingness forecasts by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.errors import InputError, near
from gnnpatient.study.ablations import RestrictedModel, without_rows
from gnnpatient.study.comparison import (
    ComparedScores,
    Comparison,
)
from gnnpatient.study.scoreboard import Model, ModelRisks


def missing_curve(
    compared: Comparison,
    modality: str,
    shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    *,
    model: str = "gnn",
    n: int = 200,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The score of a fitted model when a modality is taken from a share of the scored patients.

    Who loses it is drawn once; those of a smaller share are among those of a larger one.

    Parameters
    ----------
    compared : Comparison
        With the fitted models.
    modality : str
        What is taken away.
    shares : sequence of float, optional
        Shares of the patients, from 0 to 1.
    model : str, default "gnn"
        Name of a fitted model.
    n : int, default 200
        Bootstrap draws for the intervals.
    seed : int, default 0
        Of who loses it, and of the draws.

    Returns
    -------
    list of dict
        Rows as in `Comparison.rows`, of means over landmarks, with kind, share and lacking: the share of
        landmarks that have no row of the modality then, those who never had one included.

    Raises
    ------
    InputError
        When the modality or the model is unknown, or a share is not within 0 and 1.
    """
    if modality not in compared.modalities:
        raise InputError(f"unknown node type {modality!r}{near(modality, compared.modalities)}")
    if model not in compared.parts[0][0] or not isinstance(compared.parts[0][0][model], RestrictedModel):
        known = [name for name, one in compared.parts[0][0].items() if isinstance(one, RestrictedModel)]
        raise InputError(f"no fitted model {model!r}{near(model, known)}")
    if bad := [share for share in shares if not 0 <= share <= 1]:
        raise InputError(f"share {bad[0]:g}; must be from 0 to 1")
    kinds, landmarks = compared.modalities[modality], compared.risks.landmarks
    rank = np.random.default_rng(seed).permutation(len(landmarks.cohort))
    taken_from = {share: rank < round(share * len(rank)) for share in shares}
    parts: list[tuple[Mapping[str, Model], Landmarks]] = []
    for fitted, X in compared.parts:
        seen = fitted[model]
        assert isinstance(seen, RestrictedModel)
        reduced: dict[str, Model] = {
            f"{share:g}": RestrictedModel(seen.model, without_rows(seen.cohort, kinds, patients))
            for share, patients in taken_from.items()
        }
        parts.append(({**reduced, "null": fitted["null"]}, X))
    scored = ModelRisks.of(parts, compared.outcome, compared.risks.times)
    found = ComparedScores.of(scored, compared.outcome, compared.cause, compared.horizons, n, seed)
    rows = []
    for share, patients in taken_from.items():
        left = without_rows(landmarks.cohort, kinds, patients)
        nodes = sum(
            np.diff(left.events[kind].visible_rows(landmarks.patient, landmarks.at)[0]) for kind in kinds
        )
        m = found.names.index(f"{share:g}")
        for c in range(len(found.columns)):
            row = found.row(model, None, c, found.figure(found.value[m, -1, c], found.draws[:, m, -1, c]))
            rows.append({**row, "kind": modality, "share": share, "lacking": float(np.mean(nodes == 0))})
    return rows


def pattern_only(compared: Comparison) -> list[dict[str, Any]]:
    """How much of the gain of all node types the pattern of missingness has by itself.

    Parameters
    ----------
    compared : Comparison
        With the models "presence" and "statics", else the list is empty.

    Returns
    -------
    list of dict
        A row a deciding score: presence, statics, gnn (means over landmarks); gain of presence over
        statics, with its interval; share of the model's own gain, None where it surely has none.
    """
    if not {"presence-statics", "gnn-statics"} <= {row["model"] for row in compared.rows}:
        return []
    rows = []
    for metric in compared.scores.deciding:
        known = {name: compared.value(name, metric)["value"] for name in ("presence", "statics", "gnn")}
        gain = {key: compared.value("presence-statics", metric)[key] for key in ("value", "low", "high")}
        own_gain = compared.value("gnn-statics", metric)
        has_gain = own_gain["low"] is not None and own_gain["low"] > 0 and gain["value"] is not None
        share = gain["value"] / own_gain["value"] if has_gain else None
        rows.append({"metric": metric, **known, "gain": gain, "share": share})
    return rows
