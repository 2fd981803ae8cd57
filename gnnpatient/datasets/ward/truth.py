"""What is hidden in a simulated ward, and the true risks that follow from it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, SupportsFloat

import numpy as np

from gnnpatient.datasets.ward.hazards import (
    CAUSES,
    DAYS,
    DRUG,
    FINDING,
    HIGH,
    INFORMATIVE,
    NEGATIVE_CONTROL,
    NODE_TYPES,
    SWITCH,
    WARD,
    Effects,
    hazards,
    log_ratio,
    transfer,
)
from gnnpatient.errors import InputError
from gnnpatient.files import atomic_file

Numbers = np.ndarray | Sequence[Any] | SupportsFloat
_FILE_KEYS = {"negative_control": "twin", "informative_from": "told"}  # attribute to key, where they differ


@dataclass(frozen=True, eq=False)
class SimulatedTruth:
    """What is hidden in a simulated ward: one entry for each patient. Days are counted from admission.

    Attributes
    ----------
    negative_control : bool
        Whether death depends on high lactate and age alone.
    ids : np.ndarray
        Names; a patient's place among them is its position.
    age : np.ndarray
        Years.
    growth : np.ndarray
        Growth of the lesion, in standard deviations above the mean.
    high : np.ndarray
        Whether lactate is high.
    finding : np.ndarray
        Whether there is an effusion.
    drug : np.ndarray
        Whether metformin runs from that day to the next.
    end : np.ndarray
        Day of death or discharge, had nobody been transferred and had observation gone on.
    event : np.ndarray
        1: discharged at `end`; 2: dead; 0: neither by day 120.
    informative_from : np.ndarray
        Day from which rows of a node type show what lies behind it; inf: never. A column for each type in
        `INFORMATIVE`.
    """

    negative_control: bool
    ids: np.ndarray  # (patient,) str
    age: np.ndarray  # (patient,) float64
    growth: np.ndarray  # (patient,) float64
    high: np.ndarray  # (patient,) bool
    finding: np.ndarray  # (patient,) bool
    drug: np.ndarray  # (patient, day) bool
    end: np.ndarray  # (patient,) float64
    event: np.ndarray  # (patient,) int8
    informative_from: np.ndarray  # (patient, node type) float64

    @property
    def effects(self) -> Effects:
        """The log hazard ratios that this ward was drawn with."""
        return NEGATIVE_CONTROL if self.negative_control else WARD

    def risk(
        self,
        position: Numbers,
        at_days: Numbers,
        horizon_days: Numbers,
        cause: str = "death",
        given: Collection[str] = INFORMATIVE,
    ) -> np.ndarray:
        """True risk of a cause in (at, at + horizon], of patients still at risk at `at`.

        What lies behind the node types in `given` is known: when the drug ran so far (drug), whether lactate
        is high (lab), the growth (image), the finding (note); so is age, always. Over the rest, and over
        starts and stops of the drug that are to come, the risk is averaged, weighted by the chance to be
        still at risk. With all node types it is the oracle.

        Parameters
        ----------
        position : int or array
            Place of the patient among the ids. This and the next two broadcast to (landmark,).
        at_days : float or array
            Prediction time, in days after admission, >= 0.
        horizon_days : float or array
            Length of the forecast in days, >= 0; at + horizon <= 120.
        cause : {"death", "discharge"}, default "death"
            Which event.
        given : collection of str, default all that are informative
            Node types whose hidden part is known.

        Returns
        -------
        np.ndarray
            (landmark,) float64, between 0 and 1.

        Raises
        ------
        InputError
            When a position, time, cause or node type does not exist.
        """
        if unknown := set(given) - set(NODE_TYPES):
            raise InputError(f"given: node type {sorted(unknown)[0]!r}; there are {', '.join(NODE_TYPES)}")
        position, at, horizon = self._landmarks(position, at_days, horizon_days)
        known = {name: np.full(len(position), name in given) for name in INFORMATIVE}
        return self._risk(position, at, horizon, _cause(cause), known)

    def attainable_risk(
        self, position: Numbers, at_days: Numbers, horizon_days: Numbers, cause: str = "death"
    ) -> np.ndarray:
        """Risk given what a patient's own rows show by `at`: nearly the best that any model can do.

        Nearly, since what the numbers of visits and the gaps say of the missing rest is not used.

        Parameters
        ----------
        position, at_days, horizon_days : number or array
            As in `risk`.
        cause : {"death", "discharge"}, default "death"
            Which event.

        Returns
        -------
        np.ndarray
            (landmark,) float64, between 0 and 1.

        Raises
        ------
        InputError
            When a position, time or cause does not exist.
        """
        position, at, horizon = self._landmarks(position, at_days, horizon_days)
        known = {name: self.informative_from[position, i] <= at for i, name in enumerate(INFORMATIVE)}
        return self._risk(position, at, horizon, _cause(cause), known)

    def reachable(
        self, position: Numbers, at_days: Numbers, horizon_days: Numbers, cause: str = "death"
    ) -> np.ndarray:
        """The former name of `attainable_risk`. Deprecated.

        Parameters
        ----------
        position, at_days, horizon_days, cause
            As in `attainable_risk`.

        Returns
        -------
        np.ndarray
            (landmark,) float64.
        """
        _renamed("reachable", "attainable_risk")
        return self.attainable_risk(position, at_days, horizon_days, cause)

    @property
    def twin(self) -> bool:
        """The former name of `negative_control`. Deprecated."""
        _renamed("twin", "negative_control")
        return self.negative_control

    @property
    def told(self) -> np.ndarray:
        """The former name of `informative_from`. Deprecated."""
        _renamed("told", "informative_from")
        return self.informative_from

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything into one .npz file; the same truth gives the same bytes.

        Parameters
        ----------
        path : path
            The file.
        """
        columns = {_FILE_KEYS.get(name, name): value for name, value in vars(self).items()}
        with atomic_file(path) as part, open(part, "wb") as handle:
            np.savez(handle, **columns)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SimulatedTruth:
        """Read what `save` wrote.

        Parameters
        ----------
        path : path
            The file.

        Returns
        -------
        SimulatedTruth
            The same truth.

        Raises
        ------
        InputError
            When the file is not there, or holds something else.
        """
        attributes = {key: name for name, key in _FILE_KEYS.items()}
        try:
            with np.load(path, allow_pickle=False) as arrays:
                columns = {attributes.get(key, key): arrays[key] for key in arrays.files}
            return cls(**{**columns, "negative_control": bool(columns["negative_control"])})
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise InputError(
                f"{path}: not a truth of ward ({error}); write_ward(..., truth=True) makes one"
            ) from None

    def _landmarks(self, *columns: Numbers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        position, at, horizon = np.broadcast_arrays(*(np.atleast_1d(np.asarray(c)) for c in columns))
        at, horizon = at.astype(float), horizon.astype(float)
        if bad := position[(position < 0) | (position >= len(self.ids))][:1].tolist():
            raise InputError(f"position {bad[0]}; this truth has {len(self.ids)} patients, from 0")
        if bad := at[~(at >= 0)][:1].tolist():
            raise InputError(f"at {bad[0]:g} days; must be >= 0, at or after admission")
        if bad := horizon[~(horizon >= 0)][:1].tolist():
            raise InputError(f"horizon {bad[0]:g} days; must be >= 0")
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
        """`known`: of each informative node type, (landmark,) whether what lies behind it is known."""
        size = 4096  # landmarks at once, which bounds the memory
        parts = [
            self._incidence(
                position[a], at[a], horizon[a], cause, {name: is_[a] for name, is_ in known.items()}
            )
            for a in (slice(start, start + size) for start in range(0, len(position), size))
        ]
        return np.concatenate([np.zeros(0), *parts])

    def _incidence(
        self,
        position: np.ndarray,
        at: np.ndarray,
        horizon: np.ndarray,
        cause: int,
        known: dict[str, np.ndarray],
    ) -> np.ndarray:
        """Carry the chance of every hidden state forward, a day at a time: exact, as hazards last a day."""
        effects, landmark = self.effects, len(position)
        nodes, weights = np.polynomial.hermite_e.hermegauss(15)  # of a standard normal
        growth, p_growth = _spread(self.growth[position], known["image"], nodes, weights / weights.sum())
        high, p_high = _spread(self.high[position], known["lab"], [0, 1], [1 - HIGH, HIGH])
        finding, p_finding = _spread(self.finding[position], known["note"], [0, 1], [1 - FINDING, FINDING])
        age = self.age[position]
        state = (landmark, len(p_growth), len(p_high), len(p_finding), 2)  # the last axis: drug off, on
        still = partial(np.expand_dims, axis=(1, 2, 3, 4))
        growth, high, finding = (
            growth[:, :, None, None, None], high[:, None, :, None, None], finding[:, None, None, :, None],
        )  # fmt: skip
        ratio = log_ratio(effects, still(age), growth, finding, high, np.array([0.0, 1.0]))
        leave = np.broadcast_to(transfer(still(age), high), state)

        chance = np.einsum("g,h,f->ghf", p_growth, p_high, p_finding)[None, ..., None] * np.ones(state)
        chance, incidence = chance * np.array([1 - DRUG, DRUG]), np.zeros(landmark)
        for day in range(int(np.ceil((at + horizon).max(initial=0.0)))):
            # What the drug did so far is read off; from `at` on it starts and stops by chance.
            seen = still(known["drug"] & (day <= at))
            chance = np.where(seen, chance * _drug_is(self.drug[position, day]), chance)
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


def _renamed(old: str, new: str) -> None:
    warnings.warn(f"SimulatedTruth.{old} is now {new}", DeprecationWarning, stacklevel=3)


def _cause(cause: str) -> int:
    if cause not in CAUSES:
        raise InputError(f"cause {cause!r}; ward has {' and '.join(CAUSES)}")
    return CAUSES.index(cause) + 1


def _drug_is(on: np.ndarray) -> np.ndarray:
    """1 for the state the drug is in: (landmark, 1, 1, 1, 2)."""
    return np.stack([~on, on], axis=-1).astype(float)[:, None, None, None, :]


def _spread(
    value: np.ndarray, known: np.ndarray, nodes: Numbers, weights: Numbers
) -> tuple[np.ndarray, np.ndarray]:
    """The values a hidden number may have, (landmark, node), and their chances: its own where it is known."""
    if known.all():
        return value[:, None].astype(float), np.ones(1)
    return np.where(known[:, None], value[:, None], np.asarray(nodes, float)), np.asarray(weights, float)
