"""The patients of a simulated ward: who they are, what becomes of them, who lacks which node type."""

from __future__ import annotations

import numpy as np

from gnnpatient.datasets.ward.hazards import (
    DAYS,
    DRUG,
    FINDING,
    FOLLOW_UP,
    GAP_FALLS,
    HIGH,
    NEGATIVE_CONTROL,
    NODE_TYPES,
    SITES,
    SWITCH,
    VISITS_RISE,
    WARD,
    hazards,
    log_ratio,
    transfer,
)
from gnnpatient.times import DAY


class WardPatients:
    """Draws n patients. Each part has its own stream of random numbers, so that no part moves another.

    Parameters
    ----------
    n : int
        Number of patients.
    seed : int
        Seed of all streams, >= 0.
    missing : float
        Share of the patients who lack a node type, 0 to 1.
    negative_control : bool
        Whether death depends on high lactate and age alone.

    Attributes
    ----------
    n, seed, negative_control
        As given.
    ids, age, site, admitted : np.ndarray
        (patient,) names, years, number of the hospital, and the clock time of day 0.
    growth, high, finding, drug, lactate : np.ndarray
        (patient,) the hidden state, as in `SimulatedTruth`; the patient's lactate in mmol/L.
    end, event : np.ndarray
        (patient,) as in `SimulatedTruth`.
    left, seen_event : np.ndarray
        (patient,) second at which observation ends, and the event seen then (0: none).
    sickness : np.ndarray
        (patient,) standard deviations of the log hazard of death, as the ward sees it.
    has : dict of str to np.ndarray
        Of each node type, (patient,) bool: whether the patient has rows of it.
    informative_from : dict of str to np.ndarray
        Of each node type, (patient,) days; the tables fill it in (inf: never).
    """

    def __init__(self, n: int, seed: int, missing: float, negative_control: bool):
        self.n, self.seed, self.negative_control = n, seed, negative_control
        rng = self.stream("patient")
        self.ids = np.array([f"p{i:05d}" for i in range(n)])
        self.age = np.clip(rng.normal(65, 12, n), 20, 98).round(1)
        self.site = rng.integers(SITES, size=n)
        minute = rng.integers(3 * 365 * DAY // 60, size=n)
        self.admitted = np.datetime64("2019-01-01") + minute * np.timedelta64(60, "s")
        self.growth = rng.standard_normal(n)
        self.high, self.finding = rng.random(n) < HIGH, rng.random(n) < FINDING
        flips = rng.random((n, DAYS)) < np.where(np.arange(DAYS) == 0, DRUG, SWITCH)
        self.drug = np.logical_xor.accumulate(flips, axis=1)
        self.lactate = np.exp(np.where(self.high, np.log(3.6), np.log(1.1)) + 0.15 * rng.standard_normal(n))
        self._draw_ends()
        self._draw_gaps(missing)

    def stream(self, part: str) -> np.random.Generator:
        """The random numbers of one part of the simulation.

        Parameters
        ----------
        part : str
            Name of the part; another name gives another stream.

        Returns
        -------
        np.random.Generator
            A new generator at the beginning of that stream.
        """
        return np.random.default_rng([self.seed, *part.encode()])

    def _draw_ends(self) -> None:
        """Death or discharge, whichever comes first, and what ends its observation."""
        rng, n = self.stream("follow"), self.n
        effects = NEGATIVE_CONTROL if self.negative_control else WARD
        age, growth, finding, high = (
            values[:, None] for values in (self.age, self.growth, self.finding, self.high)
        )
        ratio = log_ratio(effects, age, growth, finding, high, self.drug)
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
        left = np.minimum(np.minimum(self.end, transferred), FOLLOW_UP)
        self.seen_event = np.where(left == self.end, self.event, 0)
        self.left = np.maximum(np.rint(left * DAY), 60).astype(np.int64)

    def _draw_gaps(self, missing: float) -> None:
        """How sick they look, in standard deviations of the log hazard, and who lacks which node type."""
        rng, n = self.stream("gaps"), self.n
        effects = WARD._replace(base=1.0)
        spread = np.sqrt(
            effects.growth**2
            + effects.finding**2 * FINDING * (1 - FINDING)
            + effects.drug_if_high**2 * HIGH * DRUG * (1 - HIGH * DRUG)
        )
        middle = effects.finding * FINDING + effects.drug_if_high * HIGH * DRUG
        ratio = log_ratio(effects, self.age, self.growth, self.finding, self.high, self.drug[:, 0])
        sickness = np.clip((ratio - middle) / spread, -2, 2)
        self.sickness = sickness[rng.permutation(n)] if self.negative_control else sickness
        sicker = self.sickness > np.median(self.sickness)
        tilt = np.where(sicker, -GAP_FALLS, GAP_FALLS) * (1 - missing)
        self.has = {node_type: rng.random(n) >= missing * (1 + tilt) for node_type in NODE_TYPES}
        self.informative_from = {node_type: np.full(n, np.inf) for node_type in NODE_TYPES}

    def moments(
        self, rng: np.random.Generator, per_day: float, *first: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """When something is done to the patients: at given days and at random, until they leave.

        Parameters
        ----------
        rng : np.random.Generator
            Where the random moments come from.
        per_day : float
            Mean number of random moments a day, of a patient of mean sickness.
        *first : np.ndarray
            (patient,) days at which it is done to everyone.

        Returns
        -------
        owner, second : np.ndarray
            (moment,) int64, sorted by patient and time: the patient's position, and the whole minute, in
            seconds after admission.
        """
        mean = per_day * np.exp(VISITS_RISE * self.sickness) * self.left / DAY
        owner = np.repeat(np.arange(self.n), rng.poisson(mean))
        when = rng.random(len(owner)) * self.left[owner]
        owner = np.concatenate([owner, *[np.arange(self.n)] * len(first)])
        second = np.concatenate([when, *(day * DAY for day in first)]).astype(np.int64) // 60 * 60
        order = np.lexsort((second, owner))
        owner, second = owner[order], second[order]
        stays = second < self.left[owner]
        return owner[stays], second[stays]

    def clock(self, owner: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Clock times of moments.

        Parameters
        ----------
        owner : np.ndarray
            (moment,) position of the patient.
        second : np.ndarray
            (moment,) seconds after admission.

        Returns
        -------
        np.ndarray
            (moment,) datetime64[ms].
        """
        return (self.admitted[owner] + second * np.timedelta64(1, "s")).astype("datetime64[ms]")
