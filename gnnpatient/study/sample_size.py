"""Is a cohort large enough for a new model?

References
----------
Riley RD et al. (2019). Stat Med 38:1276-1296.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import ceil, exp, log, log1p
from typing import Any

import numpy as np

from gnnpatient.cohort.cohort import Cohort
from gnnpatient.cohort.diagnosis import Diagnosis
from gnnpatient.cohort.survival import Survival
from gnnpatient.study.describe import grouped_outcomes
from gnnpatient.times import DAY

SHRINKAGE, OPTIMISM, MARGIN = 0.9, 0.05, 0.05  # the three criteria of Riley et al.
EXPLAINED = 0.15  # of the R2 that could be had at most, where nothing better is known


@dataclass(frozen=True)
class SampleSize:
    """Whether a cohort is large enough for a new model of one cause or class.

    Attributes
    ----------
    outcome, cause : str
        What is to be forecast.
    patients : int
        Those at risk at entry; of a diagnosis those whose label is known.
    events : int
        Those who have it.
    parameters : int
        Candidate parameters: one a baseline covariate and a code, so at the least.
    events_per_parameter : float or None
        None without a parameter.
    follow_up : float or None
        Mean in days; None of a diagnosis.
    criteria : dict of str to int, or None
        Patients that each criterion asks for; None without an event.
    needed : int or None
        The largest of them.
    enough : bool
        Whether there are as many.
    sentence : str
        The answer in words.
    """

    outcome: str
    cause: str
    patients: int
    events: int
    parameters: int
    events_per_parameter: float | None
    follow_up: float | None
    criteria: dict[str, int] | None
    needed: int | None
    enough: bool
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """One entry of `sample_size` in `check --json`.

        Returns
        -------
        dict
            Every attribute by its name.
        """
        return asdict(self)


def sample_size(cohort: Cohort) -> list[SampleSize]:
    """Compare the patients with those that a new model needs, of each survival cause and each diagnosis.

    There is no row of a diagnosis with more than two classes, or with moments of its own. Other causes count
    as censored. The criteria are meant for regression without penalty, with an R2 of .15 of the highest
    possible, as advised where no earlier model says better; a model that shrinks or pools needs fewer
    patients, one that looks for interactions more.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    list of SampleSize

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> [(one.cause, one.events) for one in sample_size(pbc())]
    [('transplant', 29), ('death', 140)]
    """
    parameters = cohort.number.shape[1] + cohort.category.shape[1]
    for kind, e in cohort.events.items():
        parameters += 0 if kind == "timepoint" else len(np.unique(e.code))
    found = []
    for name, outcome in grouped_outcomes(cohort).items():
        patients, group, groups = at_risk_at_entry(cohort, outcome)
        if not outcome.has_curve and len(groups) > 2:
            continue
        follow_up = None
        if outcome.has_curve and len(patients):
            end = cohort.survival(name).time[patients]
            follow_up = float((end - cohort.entry[patients]).mean() / DAY)
        for k, cause in enumerate(groups[1:], start=1):
            counts = len(patients), int((group == k).sum()), parameters
            found.append(_of_cause(name, outcome.kind, cause, *counts, follow_up))
    return found


def _of_cause(
    name: str,
    kind: str,
    cause: str,
    patients: int,
    events: int,
    parameters: int,
    follow_up: float | None,
) -> SampleSize:
    """One row of `sample_size`."""
    criteria, needed, enough = None, None, False
    sentence = f"{name}, {cause}: no events, so nothing can be learned of it."
    if kind == "diagnosis" and events == patients > 0:
        sentence = f"{name}, {cause}: all have it, so nothing can be learned of it."
    elif events:
        criteria = CRITERIA[kind](events / patients, parameters)
        needed = max(criteria.values())
        enough = patients >= needed
        sentence = (
            f"{name}, {cause}: {patients} patients with {events} events for {parameters} candidate "
            f"parameters are {'enough' if enough else 'too few'} for a new model; "
            f"at least {needed} patients are advised (Riley 2019)."
        )
    per_parameter = events / parameters if parameters else None
    size = patients, events, parameters, per_parameter, follow_up
    return SampleSize(name, cause, *size, criteria, needed, enough, sentence)


def riley(events: float, parameters: int, r2: float | None = None) -> dict[str, int]:
    """Patients that a new time-to-event model needs, by each criterion of Riley et al. (2019).

    shrinkage  of the effects by 10 % at most
    optimism   apparent and adjusted Nagelkerke's R2 differ by .05 at most
    margin     the overall risk at the mean follow-up is known to +- .05 (95 %, exponential)

    Parameters
    ----------
    events : float
        Expected per patient over the mean follow-up (rate times time, so it may exceed 1).
    parameters : int
        Candidate parameters.
    r2 : float, optional
        Cox-Snell R2 that is expected; default .15 of its maximum, which follows from the null log- likelihood
        a patient, events (log events - 1).

    Returns
    -------
    dict of str to int

    References
    ----------
    Riley RD et al. (2019). Stat Med 38:1276-1296.

    Examples
    --------
    >>> riley(0.065 * 2.07, 25, 0.051)     # recurrent thrombosis, in their section 6
    {'shrinkage': 4286, 'optimism': 866, 'margin': 168}
    """
    margin = ceil(events * (1.96 / log1p(MARGIN * exp(events))) ** 2)
    return _overfit(events * (log(events) - 1), parameters, r2) | {"margin": margin}


def riley_binary(share: float, parameters: int, r2: float | None = None) -> dict[str, int]:
    """Patients that a new model of a yes-or-no label needs, by each criterion of Riley et al. (2019).

    The null log-likelihood a patient is share log share + (1 - share) log (1 - share); `margin`: the overall
    share is known to +- .05.

    Parameters
    ----------
    share : float
        Of those who have it, above 0 and below 1.
    parameters : int
        Candidate parameters.
    r2 : float, optional
        Cox-Snell R2 that is expected; default .15 of its maximum.

    Returns
    -------
    dict of str to int

    References
    ----------
    Riley RD et al. (2019). Stat Med 38:1276-1296.

    Examples
    --------
    >>> riley_binary(0.174, 24, 0.288)
    {'shrinkage': 623, 'optimism': 662, 'margin': 221}
    """
    null = share * log(share) + (1 - share) * log1p(-share)
    return _overfit(null, parameters, r2) | {"margin": ceil((1.96 / MARGIN) ** 2 * share * (1 - share))}


CRITERIA = {"survival": riley, "diagnosis": riley_binary}
"""By the kind of an outcome."""


def _overfit(null: float, parameters: int, r2: float | None) -> dict[str, int]:
    """The first two criteria, from the null log-likelihood a patient."""
    highest = 1 - exp(2 * null)
    r2 = EXPLAINED * highest if r2 is None else r2

    def patients(shrinkage: float) -> int:
        return ceil(parameters / ((shrinkage - 1) * log1p(-r2 / shrinkage)))

    return {"shrinkage": patients(SHRINKAGE), "optimism": patients(r2 / (r2 + OPTIMISM * highest))}


def at_risk_at_entry(
    cohort: Cohort, outcome: Survival | Diagnosis
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Patients at risk at entry with a known outcome, and their groups.

    Parameters
    ----------
    cohort : Cohort
    outcome : Survival or Diagnosis

    Returns
    -------
    patients : (patient,) int64 array
        Positions in the cohort.
    group : (patient,) int64 array
        The event, or the class.
    names : tuple of str
        Of the groups.
    """
    entries = cohort.entries()
    group = outcome.groups_at(entries.patient, entries.at)
    return entries.patient[group >= 0], group[group >= 0], outcome.group_names
