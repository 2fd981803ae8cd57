"""`ward`: a made-up cohort with a known truth, so that what a model finds can be held against what is there.

Tables as a hospital keeps them, radiograph-like images with a lesion, reports, and every patient's true risk.
Daily hazards of death are log-linear in four things, each told by another kind of row:

    growth      of the lesion, in standard deviations: two images show it, one says next to nothing
    drug        metformin, only while it runs and only where lactate is high: neither alone says much
    finding     a pleural effusion: in no image; reports state it, or deny it, or are silent at random
    age         a little

Discharge alive competes, its hazards fall as those of death rise. The sicker are seen, drawn and imaged more
often, and lack a kind of row a little less often. Transfer to another house ends observation: it depends on
lactate and age, which are measured, so that censoring is at random given them and not without them.

The twin keeps every marginal of what is written about a patient but has nothing to fuse: there death depends
on age and on one kind alone, high lactate, and the rates of visits and the gaps are another patient's.
Effects of two kinds, even without a product, would make all kinds together better than the best one.

The numbers below were set before any model was fitted, and are frozen. With them, asking on day 5 for death
within 30 days, 24 in 100 die and 63 are discharged in that time (twin: 30 and 55), and C of the true risk
given what some kinds tell is, as mean over ten cohorts of 2 000 patients (seeds 100 to 109, sd .01):

            all   image   lab    note   drug   lab and drug   age alone   all but: image   lab    note   drug
    ward    .831  .667    .648   .641   .590   .683           .536                 .754    .755   .766   .796
    twin    .738  .561    .738   .561   .561   .738           .561                 .738    .561   .738   .738

Where `missing` is .3 no model can reach the first column: what is written down gives .771 (twin .710). With
nothing missing, boosted trees given growth and product reach .825 of .833, given their parts .810; the
best kind alone has .673 (n = 4 000, seeds 1 to 3). Counts of visits have .56, the size in the last image .55.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, SupportsFloat

import numpy as np
import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.files import atomic_file, atomic_folder

CAUSES = ("discharge", "death")
KINDS = ("lab", "sign", "drug", "image", "note")
TELLING = ("lab", "drug", "image", "note")  # signs and notes of other findings are noise

DAY = 86_400  # seconds
DAYS = 120  # the truth reaches this far
FOLLOWED = 60.0  # days until observation ends

Numbers = np.ndarray | Sequence[Any] | SupportsFloat


class Effects(NamedTuple):
    """Daily hazard of death where all else is zero, and log hazard ratios."""

    base: float
    growth: float  # per standard deviation
    finding: float
    drug_if_high: float
    high: float
    age: float  # per 10 years above 65


WARD = Effects(base=0.0025, growth=1.1, finding=2.0, drug_if_high=2.8, high=0.0, age=0.2)
TWIN = Effects(base=0.0070, growth=0.0, finding=0.0, drug_if_high=0.0, high=1.8, age=0.2)
CALM = 4.0  # days until hazards of death and discharge have risen to their plateau
DISCHARGE, DISCHARGE_FALLS = 0.045, 0.25  # a day where death has .01; power by which that lowers it
TRANSFER, TRANSFER_HIGH, TRANSFER_AGE = 0.004, 0.6, 0.2  # a day; log hazard ratios
HIGH, FINDING, DRUG = 0.5, 0.3, 0.5  # shares of patients; DRUG of the days, too
SWITCH = 0.02  # chance that the drug is started, or stopped, at the end of a day
SEEN_MORE = 0.12  # log rate ratio of visits, draws and images per standard deviation of log hazard
GAP_FALLS = 0.3  # the sicker half lacks a kind up to this share less often than asked, the other half more

GROWTH, GROWTH_MEAN, GROWTH_LASTS, GROWTH_PIVOT = 0.22, 0.1, 3.0, 1.27  # see `log_area`
PIXELS = 96
BATCH = 256  # images drawn at once
SITES = 20


@dataclass(frozen=True, eq=False)
class Truth:
    """What is hidden in a cohort: one entry a patient, in the order of the ids. Days are after admission."""

    twin: bool
    ids: np.ndarray  # (patient,) str
    age: np.ndarray  # years
    growth: np.ndarray  # of the lesion, standard deviations above the mean
    high: np.ndarray  # bool: lactate is high
    finding: np.ndarray  # bool: there is an effusion
    drug: np.ndarray  # (patient, day) bool: metformin runs from that day to the next
    end: np.ndarray  # day of death or discharge had nobody been transferred or followed no longer
    event: np.ndarray  # int8: 1 discharge, 2 death then; 0: neither by day 120
    told: np.ndarray  # (patient, TELLING) day from which rows of that kind tell their part; inf = never

    @property
    def effects(self) -> Effects:
        return TWIN if self.twin else WARD

    def risk(
        self,
        position: Numbers,
        at_days: Numbers,
        horizon_days: Numbers,
        cause: str = "death",
        given: Collection[str] = TELLING,
    ) -> np.ndarray:
        """True chance of `cause` in (at, at + horizon] for those at risk at `at`: (ask,) float64.

        Position is the patient's place among the ids. What lies behind the kinds in `given` is known: when
        the drug ran so far (drug), whether lactate is high (lab), the growth (image), the finding (note); so
        is age, always. Over the rest, and over starts and stops of the drug that are to come, the chance is
        averaged, weighted by the chance to be still at risk. With all kinds it is the oracle.
        """
        if unknown := set(given) - set(KINDS):
            raise InputError(f"given: kind {sorted(unknown)[0]!r}; there are {', '.join(KINDS)}")
        position, at, horizon = self._asks(position, at_days, horizon_days)
        known = {kind: np.full(len(position), kind in given) for kind in TELLING}
        return self._risk(position, at, horizon, _cause(cause), known)

    def reachable(
        self, position: Numbers, at_days: Numbers, horizon_days: Numbers, cause: str = "death"
    ) -> np.ndarray:
        """The same with what this patient's own rows tell by `at`: the best that any model can do.

        Nearly: what numbers of visits and gaps tell about the missing rest is not used.
        """
        position, at, horizon = self._asks(position, at_days, horizon_days)
        known = {kind: self.told[position, k] <= at for k, kind in enumerate(TELLING)}
        return self._risk(position, at, horizon, _cause(cause), known)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything into one .npz; the same truth gives the same bytes."""
        with atomic_file(path) as part, open(part, "wb") as handle:
            np.savez(handle, **vars(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Truth:
        """Read what `save` wrote."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                columns = dict(arrays)
            return cls(**{**columns, "twin": bool(columns["twin"])})
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise InputError(
                f"{path}: not a truth of ward ({error}); write_ward(..., truth=True) makes one"
            ) from None

    def _asks(self, *columns: Numbers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        position, at, horizon = np.broadcast_arrays(*(np.atleast_1d(np.asarray(c)) for c in columns))
        at, horizon = at.astype(float), horizon.astype(float)
        if bad := position[(position < 0) | (position >= len(self.ids))][:1].tolist():
            raise InputError(f"position {bad[0]}; this truth has {len(self.ids)} patients, from 0")
        if bad := at[~(at >= 0)][:1].tolist():
            raise InputError(f"at {bad[0]:g} days; ask at or after admission, day 0")
        if bad := horizon[~(horizon >= 0)][:1].tolist():
            raise InputError(f"horizon {bad[0]:g} days; give 0 or more")
        if bad := (at + horizon)[~(at + horizon <= DAYS)][:1].tolist():
            raise InputError(f"at + horizon is day {bad[0]:g}; the truth reaches to day {DAYS}")
        return position, at, horizon

    def _risk(
        self,
        position: np.ndarray,
        at: np.ndarray,
        horizon: np.ndarray,
        cause: int,
        known: dict[str, np.ndarray],
    ) -> np.ndarray:
        size = 4096  # asks at once, which bounds the memory
        parts = [
            self._some(position[a], at[a], horizon[a], cause, {kind: told[a] for kind, told in known.items()})
            for a in (slice(start, start + size) for start in range(0, len(position), size))
        ]
        return np.concatenate([np.zeros(0), *parts])

    def _some(
        self,
        position: np.ndarray,
        at: np.ndarray,
        horizon: np.ndarray,
        cause: int,
        known: dict[str, np.ndarray],
    ) -> np.ndarray:
        """Carry the chance of every hidden state forward, a day at a time: exact, as hazards last a day."""
        effects, ask = self.effects, len(position)
        nodes, weights = np.polynomial.hermite_e.hermegauss(15)  # of a standard normal
        growth, p_growth = _spread(self.growth[position], known["image"], nodes, weights / weights.sum())
        high, p_high = _spread(self.high[position], known["lab"], [0, 1], [1 - HIGH, HIGH])
        finding, p_finding = _spread(self.finding[position], known["note"], [0, 1], [1 - FINDING, FINDING])
        age = self.age[position]
        state = (ask, len(p_growth), len(p_high), len(p_finding), 2)  # the last axis: drug off, on
        still = partial(np.expand_dims, axis=(1, 2, 3, 4))
        growth, high, finding = (
            growth[:, :, None, None, None], high[:, None, :, None, None], finding[:, None, None, :, None],
        )  # fmt: skip
        ratio = log_ratio(effects, still(age), growth, finding, high, np.array([0.0, 1.0]))
        leave = np.broadcast_to(transfer(still(age), high), state)

        chance = np.einsum("g,h,f->ghf", p_growth, p_high, p_finding)[None, ..., None] * np.ones(state)
        chance, incidence = chance * np.array([1 - DRUG, DRUG]), np.zeros(ask)
        for day in range(int(np.ceil((at + horizon).max(initial=0.0)))):
            # What the drug did so far is read off; from `at` on it starts and stops by chance.
            seen = still(known["drug"] & (day <= at))
            chance = np.where(seen, chance * _is(self.drug[position, day]), chance)
            to_come = at < day + 1
            hazard = np.stack(hazards(day, ratio))
            before, until = np.clip(at - day, 0, 1), np.clip(at + horizon - day, 0, 1)
            chance = chance * np.exp(-(hazard.sum(0) + leave) * still(before))
            # Those still there at `at` are the whole; until then only proportions count.
            chance = chance / np.where(still(day <= at), chance.sum(axis=(1, 2, 3, 4), keepdims=True), 1.0)
            gone = -np.expm1(-hazard.sum(0) * still(np.where(to_come, until - before, 0.0)))
            incidence += (chance * gone * hazard[cause - 1] / hazard.sum(0)).sum(axis=(1, 2, 3, 4))
            chance = chance * (1 - gone)
            chance = (1 - SWITCH) * chance + SWITCH * chance[..., ::-1]
        return np.clip(incidence, 0.0, 1.0)


def _cause(cause: str) -> int:
    if cause not in CAUSES:
        raise InputError(f"cause {cause!r}; ward has {' and '.join(CAUSES)}")
    return CAUSES.index(cause) + 1


def _is(on: np.ndarray) -> np.ndarray:
    """1 for the state the drug is in: (ask, 1, 1, 1, 2)."""
    return np.stack([~on, on], axis=-1).astype(float)[:, None, None, None, :]


def _spread(
    value: np.ndarray, known: np.ndarray, nodes: Numbers, weights: Numbers
) -> tuple[np.ndarray, np.ndarray]:
    """The values a hidden number may have, (ask, node), and their chances: its own where it is known."""
    if known.all():
        return value[:, None].astype(float), np.ones(1)
    return np.where(known[:, None], value[:, None], np.asarray(nodes, float)), np.asarray(weights, float)


# -- the hazards --


def log_ratio(effects: Effects, age: Any, growth: Any, finding: Any, high: Any, drug: Any) -> Any:
    """Log hazard ratio of death; arrays of one shape, or of shapes that broadcast."""
    return (
        effects.growth * growth
        + effects.finding * finding
        + effects.drug_if_high * drug * high
        + effects.high * high
        + effects.age * (age - 65) / 10
        + np.log(effects.base)
    )


def hazards(day: Any, ratio: Any) -> tuple[Any, Any]:
    """Daily hazards of discharge and of death from `day` to the next, by the log hazard of death."""
    rise = 1 - np.exp(-(np.asarray(day) + 1) / CALM)
    middle = np.log(0.01)  # the log hazard of death at which DISCHARGE holds
    return rise * DISCHARGE * np.exp(-DISCHARGE_FALLS * (ratio - middle)), rise * np.exp(ratio)


def transfer(age: Any, high: Any) -> Any:
    """Daily hazard of being transferred, which ends observation."""
    return TRANSFER * np.exp(TRANSFER_HIGH * high + TRANSFER_AGE * (age - 65) / 10)


def log_area(size: Any, growth: Any, day: Any) -> Any:
    """Log of the lesion's pixels: growth shows soon, slows down, and turns on the pivot.

    Two images tell it. Across patients the size at the pivot (about day 1.7, between the first two images)
    has nothing to do with growth, so one image tells little.
    """
    passed = GROWTH_LASTS * (1 - np.exp(-np.asarray(day) / GROWTH_LASTS))
    return np.clip(
        size + GROWTH_MEAN * passed + GROWTH * growth * (passed - GROWTH_PIVOT), np.log(20), np.log(900)
    )


# -- the cohort --


def write_ward(
    folder: str | os.PathLike[str],
    n: int = 400,
    seed: int = 0,
    missing: float = 0.3,
    twin: bool = False,
    *,
    images: bool = True,
    truth: bool = False,
) -> Truth:
    """Write the tables and images of n patients into a new or empty folder; the same seed, the same bytes.

    Each kind of row is missing for the share `missing` of the patients. `images=False` draws no picture (and
    then needs no pillow); images.csv and all else stay what they are. `truth` writes truth.npz beside them.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     truth = write_ward(folder, 20, images=False)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['drugs.csv', 'images.csv', 'labs.csv', 'notes.csv', 'patients.csv', 'visits.csv']
    >>> low, high = truth.risk(3, at_days=5.0, horizon_days=[10, 30])
    >>> bool(0 < low < high < 1)
    True
    """
    if not 1 <= n <= 100_000:
        raise InputError(f"n = {n} patients; give 1 to 100000, as many as p00000 has digits for")
    if not 0 <= missing <= 1:
        raise InputError(f"missing = {missing:g}; give the share of patients who lack a kind, 0 to 1")
    if seed < 0:
        raise InputError(f"seed = {seed}; give 0 or more")
    if images:
        _pillow()
    ward = _Ward(n, seed, missing, twin)
    with atomic_folder(folder) as part:
        for name, frame in ward.tables.items():
            frame.write_csv(part / name, datetime_format="%Y-%m-%dT%H:%M:%S")
        if images:
            (part / "images").mkdir()
            ward.draw(part / "images")
        if truth:
            ward.truth.save(part / "truth.npz")
    return ward.truth


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise InputError("images need pillow; pip install 'gnnpatient[image]', or images=False") from None
    return Image


class _Ward:
    """Draws a cohort. Each part has its own stream of random numbers, so that no part moves another."""

    def __init__(self, n: int, seed: int, missing: float, twin: bool):
        def stream(part: str) -> np.random.Generator:
            return np.random.default_rng([seed, *part.encode()])

        self.stream, self.n = stream, n
        rng = stream("patient")
        self.age = np.clip(rng.normal(65, 12, n), 20, 98).round(1)
        self.site = rng.integers(SITES, size=n)
        self.admitted = np.datetime64("2019-01-01") + rng.integers(
            3 * 365 * DAY // 60, size=n
        ) * np.timedelta64(60, "s")
        self.growth = rng.standard_normal(n)
        self.high, self.finding = rng.random(n) < HIGH, rng.random(n) < FINDING
        flips = rng.random((n, DAYS)) < np.where(np.arange(DAYS) == 0, DRUG, SWITCH)
        self.drug = np.logical_xor.accumulate(flips, axis=1)
        self.lactate = np.exp(np.where(self.high, np.log(3.6), np.log(1.1)) + 0.15 * rng.standard_normal(n))
        self._follow(twin)
        self._gaps(missing, twin)
        self.tables = {
            "patients.csv": self._patients(),
            "labs.csv": self._labs(),
            "visits.csv": self._visits(),
            "drugs.csv": self._drugs(),
            **self._studies(),
        }
        told = np.stack([self.told[kind] for kind in TELLING], axis=1)
        self.truth = Truth(
            twin,
            self.ids,
            self.age,
            self.growth,
            self.high,
            self.finding,
            self.drug,
            self.end,
            self.event,
            told,
        )

    # -- what happens to the patients --

    def _follow(self, twin: bool) -> None:
        """Death or discharge, whichever comes first, and what ends its observation."""
        rng, n = self.stream("follow"), self.n
        ratio = log_ratio(
            TWIN if twin else WARD, self.age[:, None], self.growth[:, None], self.finding[:, None],
            self.high[:, None], self.drug,
        )  # fmt: skip
        by_cause = np.stack(hazards(np.arange(DAYS), ratio))
        daily = by_cause.sum(0)
        summed = np.cumsum(daily, axis=1)
        due = rng.exponential(size=n)
        day = (summed <= due[:, None]).sum(axis=1)  # the day in which the summed hazard reaches what is due
        now = np.arange(n), np.minimum(day, DAYS - 1)
        into = (due - (summed - daily)[now]) / daily[now]
        self.end = np.where(day < DAYS, day + into, float(DAYS))
        self.event = np.where(rng.random(n) * daily[now] < by_cause[1][now], 2, 1).astype(np.int8)
        self.event[day == DAYS] = 0
        transferred = rng.exponential(1 / transfer(self.age, self.high))
        left = np.minimum(np.minimum(self.end, transferred), FOLLOWED)
        self.came = np.where(left == self.end, self.event, 0)
        self.left = np.maximum(np.rint(left * DAY), 60).astype(np.int64)  # seconds

    def _gaps(self, missing: float, twin: bool) -> None:
        """How sick they look, in standard deviations of the log hazard, and who lacks which kind of row."""
        rng, n = self.stream("gaps"), self.n
        effects = WARD._replace(base=1.0)
        spread = np.sqrt(
            effects.growth**2
            + effects.finding**2 * FINDING * (1 - FINDING)
            + effects.drug_if_high**2 * HIGH * DRUG * (1 - HIGH * DRUG)
        )
        middle = effects.finding * FINDING + effects.drug_if_high * HIGH * DRUG
        ratio = log_ratio(effects, self.age, self.growth, self.finding, self.high, self.drug[:, 0])
        sick = np.clip((ratio - middle) / spread, -2, 2)
        self.sick = sick[rng.permutation(n)] if twin else sick
        tilt = np.where(self.sick > np.median(self.sick), -GAP_FALLS, GAP_FALLS) * (1 - missing)
        self.has = {kind: rng.random(n) >= missing * (1 + tilt) for kind in KINDS}
        self.told = {kind: np.full(n, np.inf) for kind in KINDS}

    def _moments(
        self, rng: np.random.Generator, per_day: float, *first: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Owner and second of what is done at the days `first`, and at random, before the patient leaves."""
        mean = per_day * np.exp(SEEN_MORE * self.sick) * self.left / DAY
        owner = np.repeat(np.arange(self.n), rng.poisson(mean))
        when = rng.random(len(owner)) * self.left[owner]
        owner = np.concatenate([owner, *[np.arange(self.n)] * len(first)])
        second = np.concatenate([when, *(day * DAY for day in first)]).astype(np.int64) // 60 * 60
        order = np.lexsort((second, owner))
        owner, second = owner[order], second[order]
        stays = second < self.left[owner]
        return owner[stays], second[stays]

    def _clock(self, owner: np.ndarray, second: np.ndarray) -> np.ndarray:
        return (self.admitted[owner] + second * np.timedelta64(1, "s")).astype("datetime64[ms]")

    # -- the tables --

    def _patients(self) -> pl.DataFrame:
        rng, n = self.stream("patients"), self.n
        self.ids = np.array([f"p{i:05d}" for i in range(n)])
        sex = rng.choice(["female", "male", ""], n, p=[0.48, 0.49, 0.03])
        day = (self.left / DAY).round(6)
        icu = np.where(rng.random(n) < 1 / (1 + np.exp(1.5 - 0.6 * self.sick)), "Y", "N")
        icu_day = np.where(icu == "Y", (day * rng.uniform(0.05, 0.9, n)).round(6), day)
        looked = rng.random(n) < 0.9
        return pl.DataFrame(
            {
                "pid": self.ids,
                "age": self.age,
                "sex": sex,
                "site": np.array([f"s{i:02d}" for i in range(SITES)])[self.site],
                "admitted": self._clock(np.arange(n), np.zeros(n, np.int64)),
                "discharge_day": pl.Series(np.where(self.came == 1, day, np.nan)).fill_nan(None),
                "death_day": day,
                "died": (self.came == 2).astype(np.int8),
                "icu": np.where(looked, icu, ""),
                "icu_day": pl.Series(np.where(looked, icu_day, np.nan)).fill_nan(None),
            }
        )

    def _labs(self) -> pl.DataFrame:
        rng, n = self.stream("labs"), self.n
        level = rng.standard_normal((4, n))  # of a patient: glucose, sodium, creatinine, bilirubin
        slope = rng.normal(0, 0.04, n)  # of log bilirubin, a day
        molar_site = np.arange(SITES) % 3 == 0  # these write glucose in mmol/L
        panel, second = self._moments(rng, 0.5, rng.uniform(0.02, 0.3, n))
        late = rng.integers(20, 240, len(panel)) * 60  # until it is resulted
        code = np.tile(np.arange(5), len(panel))
        owner, drawn, result_at = (np.repeat(a, 5) for a in (panel, second, second + late))
        noise, day = rng.standard_normal(len(owner)), drawn / DAY
        value = np.choose(
            code,
            [
                self.lactate[owner] * np.exp(0.08 * noise),
                np.exp(np.log(125) + 0.2 * level[0, owner] + 0.15 * noise),
                139 + 3 * level[1, owner] + 2 * noise,
                np.exp(0.35 * level[2, owner] + 0.1 * noise + 0.008 * (self.age[owner] - 65)),
                np.exp(0.5 * level[3, owner] + slope[owner] * day + 0.1 * noise),
            ],
        )
        other = rng.random(len(owner)) < 0.1  # sent elsewhere, where glucose is in the other unit
        molar = (code == 1) & (molar_site[self.site[owner]] ^ other)
        value = np.where(molar, value / 18.016, value).round(2)
        empty, done = rng.random(len(owner)) < 0.01, rng.random(len(owner)) < 0.85
        done &= self.has["lab"][owner]
        tells = done & ~empty & (code == 0)
        np.minimum.at(self.told["lab"], owner[tells], result_at[tells] / DAY)
        frame = pl.DataFrame(
            {
                "pid": self.ids[owner],
                "drawn": self._clock(owner, drawn),
                "resulted": self._clock(owner, result_at),
                "analyte": np.array(["lactate", "glucose", "sodium", "creatinine", "bilirubin"])[code],
                "result": pl.Series(np.where(empty, np.nan, value)).fill_nan(None),
                "unit": np.where(
                    molar, "mmol/L", np.array(["mmol/L", "mg/dL", "mEq/L", "mg/dL", "mg/dL"])[code]
                ),
            }
        )
        return frame.filter(done)

    def _visits(self) -> pl.DataFrame:
        """Wide, and noise but for age: what is seen at the bedside tells nothing of the rest."""
        rng, n = self.stream("visits"), self.n
        ascites, phosphatase = rng.random(n) < 0.1, rng.lognormal(4.5, 0.4, n)
        edema = rng.random(n) < 1 / (1 + np.exp(2 - 0.05 * (self.age - 65)))
        owner, second = self._moments(rng, 0.8, rng.uniform(0.01, 0.2, n))
        size = len(owner)
        cells = {
            "ascites": ascites[owner].astype(float),
            "edema": np.where(edema[owner], rng.choice([0.5, 1.0], size), 0.0),
            "alk.phos": (phosphatase[owner] * rng.lognormal(0, 0.1, size)).round(),
            "pulse": rng.normal(82, 12, size).round(),
            "saturation": np.minimum(rng.normal(95, 2, size), 100).round(),
        }
        given = rng.random((len(cells), size)) < 0.8
        columns = {
            name: pl.Series(np.where(there, cell, np.nan)).fill_nan(None)
            for there, (name, cell) in zip(given, cells.items(), strict=True)
        }
        frame = pl.DataFrame({"pid": self.ids[owner], "day": (second / DAY).round(6), **columns})
        return frame.filter(self.has["sign"][owner] & given.any(axis=0))

    def _drugs(self) -> pl.DataFrame:
        """Metformin as the truth has it; heparin for everyone, so that no row at all means: nobody wrote."""
        rng, n = self.stream("drugs"), self.n
        on = np.pad(self.drug, ((0, 0), (1, 1))).astype(np.int8)
        owner, start = np.nonzero(np.diff(on, axis=1) == 1)
        _, stop = np.nonzero(np.diff(on, axis=1) == -1)
        drug = [np.repeat("metformin", len(owner)), np.repeat("heparin", n)]
        first, last = (
            [start * DAY, rng.integers(120, size=n) * 60],
            [stop * DAY, rng.integers(2, 40, n) * DAY],
        )
        who = [owner, np.arange(n)]
        for name in ("cefazolin", "furosemide", "pantoprazole"):
            given, begun = rng.random(n) < 0.4, rng.integers(8 * DAY // 60, size=n) * 60
            days = rng.integers(1, 12, n) * DAY
            who.append(np.flatnonzero(given))
            drug.append(np.repeat(name, given.sum()))
            first.append(begun[given])
            last.append((begun + days)[given])
        owner, started, stopped = (np.concatenate(parts) for parts in (who, first, last))
        order = np.lexsort((started, owner))
        owner, started, stopped = owner[order], started[order], stopped[order]
        self.told["drug"][self.has["drug"]] = 0.0
        running = pl.Series(stopped < self.left[owner])
        frame = pl.DataFrame(
            {
                "pid": self.ids[owner],
                "drug": np.concatenate(drug)[order],
                "started": self._clock(owner, started),
                "stopped": pl.Series(self._clock(owner, stopped)).zip_with(
                    running, pl.Series([None], dtype=pl.Datetime("ms")).new_from_index(0, len(owner))
                ),
            }
        )
        return frame.filter(self.has["drug"][owner] & (started < self.left[owner]))

    def _studies(self) -> dict[str, pl.DataFrame]:
        """Images and reports share their studies; either may be missing."""
        rng, n = self.stream("studies"), self.n
        first = rng.uniform(0.2, 1.0, n)
        owner, taken = self._moments(rng, 0.12, first, first + rng.uniform(2.0, 3.7, n))
        size = len(owner)
        self.of = owner
        self.lesion = rng.uniform(-1.2, 1.2, n) + np.log(150)  # log pixels at the pivot
        self.left_side, self.lower = rng.random(n) < 0.5, rng.random(n) < 0.5
        self.area = np.exp(log_area(self.lesion[owner], self.growth[owner], taken / DAY))
        accession = np.array([f"a{i:07d}" for i in 1_000_000 + rng.permutation(size)])
        number = np.arange(size) - np.searchsorted(owner, owner) + 1
        self.path = np.strings.add(
            np.strings.add(self.ids[owner], "-"), np.strings.add(number.astype(str), ".png")
        )
        seen = taken + rng.integers(10, 240, size) * 60  # and signed by who took it
        written = taken + rng.integers(20, 180, size) * 60
        signed = written + rng.integers(10, 480, size) * 60
        self.drawn = self.has["image"][owner]
        again = (number == 2) & self.drawn
        self.told["image"][owner[again]] = (
            seen[np.lexsort((seen, owner))][again] / DAY
        )  # the second to be seen
        image = pl.DataFrame(
            {
                "pid": self.ids[owner],
                "taken": self._clock(owner, taken),
                "signed": self._clock(owner, seen),
                "path": self.path,
                "accession": accession,
                "view": np.where(rng.random(size) < 0.6, "PA", "AP"),
            }
        ).filter(self.drawn)
        kept = self.has["note"][owner]
        text, mentions = self._texts()
        tells = kept & mentions
        np.minimum.at(self.told["note"], owner[tells], signed[tells] / DAY)
        note = pl.DataFrame(
            {
                "pid": self.ids[owner],
                "written": self._clock(owner, written),
                "signed": self._clock(owner, signed),
                "text": text,
                "accession": accession,
            }
        ).filter(kept)
        return {"images.csv": image, "notes.csv": note}

    def _texts(self) -> tuple[pl.Series, np.ndarray]:
        """Every study's report, and whether it says anything of an effusion."""
        rng, size, owner = self.stream("texts"), len(self.of), self.of

        def pick(pool: tuple[str, ...]) -> np.ndarray:
            return np.array(pool)[rng.integers(len(pool), size=size)]

        band = np.digitize(self.area, BANDS)
        lesion = pick(LESION)
        for slot, words in (
            ("{size}", np.choose(band, [pick(pool) for pool in SIZES])),
            ("{what}", pick(WHAT)),
            ("{side}", np.where(self.left_side[owner], "left", "right")),
            ("{zone}", np.where(self.lower[owner], pick(LOWER), pick(UPPER))),
        ):
            lesion = np.strings.replace(lesion, slot, words)
        mentions = rng.random(size) < MENTIONED
        effusion = np.where(self.finding[owner], pick(EFFUSION), pick(NO_EFFUSION))
        parts = [pick(OPENING), lesion, np.where(mentions, effusion, "")]
        for present, absent in OTHERS:
            there = (rng.random(self.n) < 0.1)[owner]
            said = rng.random(size) < 0.6
            parts.append(np.where(said, np.where(there, pick(present), pick(absent)), ""))
        parts.append(np.where(rng.random(size) < 0.5, pick(IRRELEVANT), ""))
        frame = pl.DataFrame({str(i): pl.Series(part).replace("", None) for i, part in enumerate(parts)})
        return frame.select(pl.concat_str(pl.all(), separator=" ", ignore_nulls=True)).to_series(), mentions

    # -- the images --

    def draw(self, folder: Path) -> None:
        """One PNG for each row of images.csv: a frontal chest of 96 x 96 pixels, 8 bits."""
        image, rng, n = _pillow(), self.stream("pictures"), self.n
        site_gain, site_gamma = rng.uniform(0.85, 1.1, SITES), rng.uniform(0.8, 1.25, SITES)
        body = rng.normal(size=(n, 6)).clip(-2, 2)
        for start in range(0, len(drawn := np.flatnonzero(self.drawn)), BATCH):
            some = drawn[start : start + BATCH]
            of = self.of[some]
            side = np.where(self.left_side[of], 1, -1)  # the patient's left is on the right of the picture
            zone = np.where(self.lower[of], 1, -1)
            exposed = site_gain[self.site[of]] * rng.normal(1, 0.02, len(some)), site_gamma[self.site[of]]
            pixels = radiograph(rng, body[of], np.sqrt(self.area[some] / np.pi), side, zone, *exposed)
            for path, one in zip(self.path[some].tolist(), pixels, strict=True):
                image.fromarray(one).save(folder / path, compress_level=1)


# -- words and pictures --

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


def radiograph(
    rng: np.random.Generator,
    body: np.ndarray,
    radius: np.ndarray,
    side: np.ndarray,
    zone: np.ndarray,
    gain: np.ndarray,
    gamma: np.ndarray,
) -> np.ndarray:
    """Draw chests, (image, 96, 96) uint8: lungs, heart, ribs of that body, and a lesion of `radius` pixels.

    `side`: -1 left of the picture, 1 right. `zone`: -1 upper, 1 lower. `body`: 6 standard normal numbers.
    """
    half = PIXELS / 2

    def across(a: np.ndarray) -> np.ndarray:
        return a.astype(np.float32)[:, None, None]

    shift = rng.normal(0, 1.2 / half, (2, len(radius)))  # nobody stands twice at the same place
    line = ((np.arange(PIXELS) + 0.5) / half - 1).astype(np.float32)
    y, x = line[:, None] - across(shift[0]), line[None, :] - across(shift[1])
    wide, tall, apart, heart, spacing, phase = body.T
    lung = np.zeros((len(radius), PIXELS, PIXELS), np.float32)
    for s in (-1, 1):
        inside = 1 - ((x - s * across(0.43 + 0.02 * apart)) / across(0.35 + 0.015 * wide)) ** 2
        lung += np.clip((inside - (y / across(0.76 + 0.03 * tall)) ** 2) * 4, 0, 1)
    core = across(0.2 + 0.03 * heart)
    picture = 0.78 - 0.5 * lung - 0.12 * np.abs(x) * (1 - lung)
    middle = ((x - 0.1) / core) ** 2 + ((y - 0.35) / (core * 1.3)) ** 2
    picture += 0.18 * np.clip((1 - middle) * 2, 0, 1) * lung
    ribs = np.cos(across(18 + 0.8 * spacing) * (y + 0.35 * x * x) + across(phase))
    picture += 0.07 * np.clip(ribs * 2 - 0.6, 0, 1) * lung
    dy, dx = (y - across(0.3 * zone)) * half, (x - across(0.43 * side)) * half
    lesion = np.clip(across(radius) - np.sqrt(dx * dx + dy * dy) + 0.5, 0, 1)  # its edge is one pixel wide
    picture += 0.42 * lesion * np.clip(1.05 - picture, 0, 1)
    picture += 0.03 * rng.standard_normal(picture.shape, dtype=np.float32)
    return np.rint(255 * np.clip(across(gain) * np.clip(picture, 0, 1) ** across(gamma), 0, 1)).astype(
        np.uint8
    )
