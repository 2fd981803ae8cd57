"""Reports of a simulated ward: what the image shows, and a finding that no image shows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from gnnpatient.datasets.ward.patients import WardPatients

BANDS = (110.0, 260.0)  # pixels: small, moderate, large
SIZES = (("small", "subtle", "discrete"), ("moderate", "medium-sized"), ("large", "sizeable", "extensive"))
WHAT = ("opacity", "nodular density", "rounded consolidation", "mass")
UPPER, LOWER = ("upper", "apical"), ("lower", "basal")
LESION = (
    "There is a {size} {what} in the {side} {zone} zone.",
    "{side} {zone} zone: {size} {what}.",
    "A {size} {what} projects over the {zone} {side} lung.",
    "Known {what} of the {side} {zone} zone, {size}.",
)
MENTIONED = 0.8  # of reports say whether there is an effusion; the others are silent whether there is or not
EFFUSION = (
    "Pleural effusion is present.",
    "Blunted costophrenic angle, in keeping with an effusion.",
    "Pleural fluid on the same side.",
    "There is an effusion, not seen on the frontal film but on ultrasound.",
)
NO_EFFUSION = (
    "No pleural effusion.",
    "There is no evidence of pleural fluid.",
    "Costophrenic angles are sharp, without effusion.",
    "Effusion was looked for by ultrasound and is absent.",
    "The effusion of an earlier stay has resolved.",
)
OTHERS = (
    (("Apical pneumothorax.", "Small pneumothorax."), ("No pneumothorax.", "Pneumothorax is not seen.")),
    (("The heart is enlarged.", "Cardiomegaly."), ("Heart size is normal.", "No cardiomegaly.")),
    (("Old rib fracture.", "Healed fracture of a rib."), ("No fracture.", "Bones without fracture.")),
)
OPENING = (
    "Chest radiograph.",
    "Frontal view, supine.",
    "Portable film at the bedside.",
    "Compared with the outside film.",
)
IRRELEVANT = (
    "Lines and tubes are in place.",
    "Discussed with the ward by telephone.",
    "Patient rotated to the right.",
    "To be discharged when the family has been reached.",
    "Film repeated because of motion.",
    "The patient's brother died of lung disease.",
)


class Lesions(NamedTuple):
    """The lesion that each study shows.

    Attributes
    ----------
    owner : np.ndarray
        (study,) int64, position of the patient.
    area : np.ndarray
        (study,) pixels.
    left_side, lower : np.ndarray
        (study,) bool: in the patient's left lung; in its lower zone.
    """

    owner: np.ndarray
    area: np.ndarray
    left_side: np.ndarray
    lower: np.ndarray


def write_reports(ward: WardPatients, lesions: Lesions) -> tuple[pl.Series, np.ndarray]:
    """Write the report of every study.

    Parameters
    ----------
    ward : WardPatients
        The patients.
    lesions : Lesions
        What the studies show.

    Returns
    -------
    text : pl.Series
        (study,) the reports.
    mentions : np.ndarray
        (study,) bool: whether the report says anything of an effusion.
    """
    rng, size, owner = ward.stream("texts"), len(lesions.owner), lesions.owner

    def pick(pool: tuple[str, ...]) -> np.ndarray:
        return np.array(pool)[rng.integers(len(pool), size=size)]

    band = np.digitize(lesions.area, BANDS)
    lesion = pick(LESION)
    for slot, words in (
        ("{size}", np.choose(band, [pick(pool) for pool in SIZES])),
        ("{what}", pick(WHAT)),
        ("{side}", np.where(lesions.left_side, "left", "right")),
        ("{zone}", np.where(lesions.lower, pick(LOWER), pick(UPPER))),
    ):
        lesion = np.strings.replace(lesion, slot, words)
    mentions = rng.random(size) < MENTIONED
    effusion = np.where(ward.finding[owner], pick(EFFUSION), pick(NO_EFFUSION))
    parts = [pick(OPENING), lesion, np.where(mentions, effusion, "")]
    for present, absent in OTHERS:
        there = (rng.random(ward.n) < 0.1)[owner]
        mentioned = rng.random(size) < 0.6
        parts.append(np.where(mentioned, np.where(there, pick(present), pick(absent)), ""))
    parts.append(np.where(rng.random(size) < 0.5, pick(IRRELEVANT), ""))
    frame = pl.DataFrame({str(i): pl.Series(part).replace("", None) for i, part in enumerate(parts)})
    return frame.select(pl.concat_str(pl.all(), separator=" ", ignore_nulls=True)).to_series(), mentions
