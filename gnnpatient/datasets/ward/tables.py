"""The tables of a simulated ward, as a hospital would export them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from gnnpatient.datasets.ward.hazards import SITES, log_area
from gnnpatient.datasets.ward.patients import WardPatients
from gnnpatient.datasets.ward.reports import Lesions, write_reports
from gnnpatient.times import DAY

ANALYTES = ("lactate", "glucose", "sodium", "creatinine", "bilirubin")
ANALYTE_UNITS = ("mmol/L", "mg/dL", "mEq/L", "mg/dL", "mg/dL")


def patients_table(ward: WardPatients) -> pl.DataFrame:
    """patients.csv: statics, how the stay ended, and a diagnosis that 9 in 10 have been examined for.

    Parameters
    ----------
    ward : WardPatients
        The patients.

    Returns
    -------
    pl.DataFrame
        A row for each patient.
    """
    rng, n = ward.stream("patients"), ward.n
    sex = rng.choice(["female", "male", ""], n, p=[0.48, 0.49, 0.03])
    day = (ward.left / DAY).round(6)
    icu = np.where(rng.random(n) < 1 / (1 + np.exp(1.5 - 0.6 * ward.sickness)), "Y", "N")
    icu_day = np.where(icu == "Y", (day * rng.uniform(0.05, 0.9, n)).round(6), day)
    examined = rng.random(n) < 0.9
    return pl.DataFrame(
        {
            "pid": ward.ids,
            "age": ward.age,
            "sex": sex,
            "site": np.array([f"s{i:02d}" for i in range(SITES)])[ward.site],
            "admitted": ward.clock(np.arange(n), np.zeros(n, np.int64)),
            "discharge_day": _or_empty(ward.seen_event == 1, day),
            "death_day": day,
            "died": (ward.seen_event == 2).astype(np.int8),
            "icu": np.where(examined, icu, ""),
            "icu_day": _or_empty(examined, icu_day),
        }
    )


def labs_table(ward: WardPatients) -> pl.DataFrame:
    """labs.csv: panels of five analytes, resulted after they were drawn, glucose in two units.

    Parameters
    ----------
    ward : WardPatients
        The patients; from when on their lactate is known is noted in `informative_from`.

    Returns
    -------
    pl.DataFrame
        A row for each result.
    """
    rng, n = ward.stream("labs"), ward.n
    level = rng.standard_normal((4, n))  # of a patient: glucose, sodium, creatinine, bilirubin
    slope = rng.normal(0, 0.04, n)  # of log bilirubin, a day
    molar_site = np.arange(SITES) % 3 == 0  # these write glucose in mmol/L
    panel, second = ward.moments(rng, 0.5, rng.uniform(0.02, 0.3, n))
    late = rng.integers(20, 240, len(panel)) * 60  # until it is resulted
    code = np.tile(np.arange(5), len(panel))
    owner, drawn, resulted = (np.repeat(a, 5) for a in (panel, second, second + late))
    value = _results(ward, owner, code, drawn / DAY, level, slope, rng.standard_normal(len(owner)))
    elsewhere = rng.random(len(owner)) < 0.1  # where glucose is in the other unit
    molar = (code == 1) & (molar_site[ward.site[owner]] ^ elsewhere)
    value = np.where(molar, value / 18.016, value).round(2)
    empty, done = rng.random(len(owner)) < 0.01, rng.random(len(owner)) < 0.85
    done &= ward.has["lab"][owner]
    lactate = done & ~empty & (code == 0)
    np.minimum.at(ward.informative_from["lab"], owner[lactate], resulted[lactate] / DAY)
    frame = pl.DataFrame(
        {
            "pid": ward.ids[owner],
            "drawn": ward.clock(owner, drawn),
            "resulted": ward.clock(owner, resulted),
            "analyte": np.array(ANALYTES)[code],
            "result": _or_empty(~empty, value),
            "unit": np.where(molar, "mmol/L", np.array(ANALYTE_UNITS)[code]),
        }
    )
    return frame.filter(done)


def _results(
    ward: WardPatients,
    owner: np.ndarray,
    code: np.ndarray,
    day: np.ndarray,
    level: np.ndarray,
    slope: np.ndarray,
    noise: np.ndarray,
) -> np.ndarray:
    """The value of each result, in the units of ANALYTE_UNITS."""
    return np.choose(
        code,
        [
            ward.lactate[owner] * np.exp(0.08 * noise),
            np.exp(np.log(125) + 0.2 * level[0, owner] + 0.15 * noise),
            139 + 3 * level[1, owner] + 2 * noise,
            np.exp(0.35 * level[2, owner] + 0.1 * noise + 0.008 * (ward.age[owner] - 65)),
            np.exp(0.5 * level[3, owner] + slope[owner] * day + 0.1 * noise),
        ],
    )


def visits_table(ward: WardPatients) -> pl.DataFrame:
    """visits.csv: wide, and noise but for age: what is seen at the bedside says nothing about the rest.

    Parameters
    ----------
    ward : WardPatients
        The patients.

    Returns
    -------
    pl.DataFrame
        A row for each visit.
    """
    rng, n = ward.stream("visits"), ward.n
    ascites, phosphatase = rng.random(n) < 0.1, rng.lognormal(4.5, 0.4, n)
    edema = rng.random(n) < 1 / (1 + np.exp(2 - 0.05 * (ward.age - 65)))
    owner, second = ward.moments(rng, 0.8, rng.uniform(0.01, 0.2, n))
    size = len(owner)
    cells = {
        "ascites": ascites[owner].astype(float),
        "edema": np.where(edema[owner], rng.choice([0.5, 1.0], size), 0.0),
        "alk.phos": (phosphatase[owner] * rng.lognormal(0, 0.1, size)).round(),
        "pulse": rng.normal(82, 12, size).round(),
        "saturation": np.minimum(rng.normal(95, 2, size), 100).round(),
    }
    filled = rng.random((len(cells), size)) < 0.8
    columns = {
        name: _or_empty(there, cell) for there, (name, cell) in zip(filled, cells.items(), strict=True)
    }
    frame = pl.DataFrame({"pid": ward.ids[owner], "day": (second / DAY).round(6), **columns})
    return frame.filter(ward.has["sign"][owner] & filled.any(axis=0))


def drugs_table(ward: WardPatients) -> pl.DataFrame:
    """drugs.csv: metformin as the truth has it; heparin for everyone, so that a patient without any row is
    one whose drugs were not recorded.

    Parameters
    ----------
    ward : WardPatients
        The patients; whose drugs are recorded is noted in `informative_from`.

    Returns
    -------
    pl.DataFrame
        A row for each interval; an empty end where it runs beyond the stay.
    """
    rng, n = ward.stream("drugs"), ward.n
    on = np.pad(ward.drug, ((0, 0), (1, 1))).astype(np.int8)
    metformin, start = np.nonzero(np.diff(on, axis=1) == 1)
    _, stop = np.nonzero(np.diff(on, axis=1) == -1)
    owners = [metformin, np.arange(n)]
    drugs = [np.repeat("metformin", len(metformin)), np.repeat("heparin", n)]
    starts = [start * DAY, rng.integers(120, size=n) * 60]
    stops = [stop * DAY, rng.integers(2, 40, n) * DAY]
    for name in ("cefazolin", "furosemide", "pantoprazole"):
        treated, begun = rng.random(n) < 0.4, rng.integers(8 * DAY // 60, size=n) * 60
        lasts = rng.integers(1, 12, n) * DAY
        owners.append(np.flatnonzero(treated))
        drugs.append(np.repeat(name, treated.sum()))
        starts.append(begun[treated])
        stops.append((begun + lasts)[treated])
    owner, started, stopped = (np.concatenate(parts) for parts in (owners, starts, stops))
    order = np.lexsort((started, owner))
    owner, started, stopped = owner[order], started[order], stopped[order]
    ward.informative_from["drug"][ward.has["drug"]] = 0.0
    ended = pl.Series(stopped < ward.left[owner])
    nothing = pl.Series([None], dtype=pl.Datetime("ms")).new_from_index(0, len(owner))
    frame = pl.DataFrame(
        {
            "pid": ward.ids[owner],
            "drug": np.concatenate(drugs)[order],
            "started": ward.clock(owner, started),
            "stopped": pl.Series(ward.clock(owner, stopped)).zip_with(ended, nothing),
        }
    )
    return frame.filter(ward.has["drug"][owner] & (started < ward.left[owner]))


@dataclass(frozen=True, eq=False)
class Studies:
    """Imaging studies: an image and a report each, of which either may be missing.

    Attributes
    ----------
    images, notes : pl.DataFrame
        images.csv and notes.csv.
    lesions : Lesions
        What every study shows, those without an image too.
    path : np.ndarray
        (study,) str, name of the image's file.
    has_image : np.ndarray
        (study,) bool.
    """

    images: pl.DataFrame
    notes: pl.DataFrame
    lesions: Lesions
    path: np.ndarray
    has_image: np.ndarray


def draw_studies(ward: WardPatients) -> Studies:
    """Draw the studies of all patients, and write their reports.

    Parameters
    ----------
    ward : WardPatients
        The patients; from when on their growth and finding are known is noted in `informative_from`.

    Returns
    -------
    Studies
        In order of patient and time.
    """
    rng, n = ward.stream("studies"), ward.n
    first = rng.uniform(0.2, 1.0, n)
    owner, taken = ward.moments(rng, 0.12, first, first + rng.uniform(2.0, 3.7, n))
    size = len(owner)
    log_pixels = rng.uniform(-1.2, 1.2, n) + np.log(150)  # of the lesion, at the pivot
    left_side, lower = rng.random(n) < 0.5, rng.random(n) < 0.5
    area = np.exp(log_area(log_pixels[owner], ward.growth[owner], taken / DAY))
    lesions = Lesions(owner, area, left_side[owner], lower[owner])
    accession = np.array([f"a{i:07d}" for i in 1_000_000 + rng.permutation(size)])
    number = np.arange(size) - np.searchsorted(owner, owner) + 1
    add = np.strings.add
    path = add(add(ward.ids[owner], "-"), add(number.astype(str), ".png"))
    seen = taken + rng.integers(10, 240, size) * 60  # and signed by who took it
    written = taken + rng.integers(20, 180, size) * 60
    signed = written + rng.integers(10, 480, size) * 60

    has_image = ward.has["image"][owner]
    second = (number == 2) & has_image
    in_order = seen[np.lexsort((seen, owner))]
    ward.informative_from["image"][owner[second]] = in_order[second] / DAY  # the second to be seen
    view = np.where(rng.random(size) < 0.6, "PA", "AP")
    image = {
        "pid": ward.ids[owner],
        "taken": ward.clock(owner, taken),
        "signed": ward.clock(owner, seen),
        "path": path,
        "accession": accession,
        "view": view,
    }
    has_note = ward.has["note"][owner]
    text, mentions = write_reports(ward, lesions)
    informative = has_note & mentions
    np.minimum.at(ward.informative_from["note"], owner[informative], signed[informative] / DAY)
    note = {
        "pid": ward.ids[owner],
        "written": ward.clock(owner, written),
        "signed": ward.clock(owner, signed),
        "text": text,
        "accession": accession,
    }
    images, notes = pl.DataFrame(image).filter(has_image), pl.DataFrame(note).filter(has_note)
    return Studies(images, notes, lesions, path, has_image)


def _or_empty(there: np.ndarray, cells: np.ndarray) -> pl.Series:
    """The cells that are there; the others become empty ones of the CSV."""
    return pl.Series(np.where(there, cells, np.nan)).fill_nan(None)
