"""Is a cohort large enough for a new model?"""

from __future__ import annotations

from math import ceil, exp, log, log1p
from typing import TYPE_CHECKING, Any

import numpy as np

from gnnpatient.cohort.cohort import Cohort
from gnnpatient.cohort.outcomes import Diagnosis, Survival
from gnnpatient.study.describe import grouped_outcomes
from gnnpatient.times import DAY

if TYPE_CHECKING:
    pass


SHRINKAGE, OPTIMISM, MARGIN = 0.9, 0.05, 0.05  # the three criteria of Riley et al.
EXPLAINED = 0.15  # of the R2 that could be had at most, where nothing better is known


def sample_size(cohort: Cohort) -> list[dict[str, Any]]:
    """Is the cohort large enough for a new model? One row a survival outcome and cause, or a diagnosis.

    patients at risk at entry, of a diagnosis those whose label is known; events, or those who have it;
    parameters: statics and codes, one each, so at the least; events_per_parameter; follow_up: its mean in
    days; criteria: patients that each of the three asks for (Riley et al. 2019, Stat Med 38:1276-1296), with
    an R2 of .15 of the highest possible, as they advise where no earlier model says better; needed: the
    largest; enough; sentence. Other causes count as censored. None where there is no event, and of follow_up
    where a label is at stake. No row of a diagnosis with more classes, or one asked at moments of its own.

    The criteria are meant for regression without penalty; a model that shrinks or pools needs less, one that
    looks for interactions more.
    """
    parameters = cohort.number.shape[1] + cohort.category.shape[1]
    for kind, e in cohort.events.items():
        parameters += 0 if kind == "timepoint" else len(np.unique(e.code))
    rows = []
    for name, truth in grouped_outcomes(cohort).items():
        who, group, groups = at_risk_at_entry(cohort, truth)
        if isinstance(truth, Diagnosis) and len(groups) > 2:
            continue
        follow_up = None
        if isinstance(truth, Survival) and len(who):
            follow_up = float((truth.time[who] - cohort.entry[who]).mean() / DAY)
        for k, cause in enumerate(groups[1:], start=1):
            events, patients = int((group == k).sum()), len(who)
            row: dict[str, Any] = {
                "outcome": name,
                "cause": cause,
                "patients": patients,
                "events": events,
                "parameters": parameters,
                "events_per_parameter": events / parameters if parameters else None,
                "follow_up": follow_up,
                "criteria": None,
                "needed": None,
                "enough": False,
                "sentence": f"{name}, {cause}: no events, so nothing can be learned of it.",
            }
            if isinstance(truth, Diagnosis) and events == patients > 0:
                row["sentence"] = f"{name}, {cause}: all have it, so nothing can be learned of it."
            elif events:
                needs = riley if isinstance(truth, Survival) else riley_binary
                asked = needs(events / patients, parameters)
                needed = max(asked.values())
                row |= {"criteria": asked, "needed": needed, "enough": patients >= needed}
                row["sentence"] = (
                    f"{name}, {cause}: {patients} patients with {events} events for {parameters} candidate "
                    f"parameters are {'enough' if row['enough'] else 'too few'} for a new model; "
                    f"at least {needed} patients are advised (Riley 2019)."
                )
            rows.append(row)
    return rows


def riley(events: float, parameters: int, r2: float | None = None) -> dict[str, int]:
    """Patients that a new time-to-event model needs by each criterion of Riley et al. 2019.

    events: expected per patient over the mean follow-up (rate times time, so it may exceed 1). r2: Cox-Snell,
    default .15 of its maximum, which follows from the null log-likelihood a patient, events (log events - 1).

    shrinkage  of the effects by 10 % at most
    optimism   apparent and adjusted Nagelkerke's R2 differ by .05 at most
    margin     the overall risk at the mean follow-up is known to +- .05 (95 %, exponential)

    >>> riley(0.065 * 2.07, 25, 0.051)     # recurrent thrombosis, in their section 6
    {'shrinkage': 4286, 'optimism': 866, 'margin': 168}
    """
    margin = ceil(events * (1.96 / log1p(MARGIN * exp(events))) ** 2)
    return _overfit(events * (log(events) - 1), parameters, r2) | {"margin": margin}


def riley_binary(share: float, parameters: int, r2: float | None = None) -> dict[str, int]:
    """The same of a label that is yes or no; share: of those who have it, above 0 and below 1.

    The null log-likelihood a patient is share log share + (1 - share) log (1 - share); `margin`: the overall
    share is known to +- .05.

    >>> riley_binary(0.174, 24, 0.288)
    {'shrinkage': 623, 'optimism': 662, 'margin': 221}
    """
    null = share * log(share) + (1 - share) * log1p(-share)
    return _overfit(null, parameters, r2) | {"margin": ceil((1.96 / MARGIN) ** 2 * share * (1 - share))}


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
    """Who is at risk at entry with a known outcome: positions, the group of each, and the groups' names."""
    entries = cohort.entries()
    group = outcome.groups_at(entries.patient, entries.at)
    return entries.patient[group >= 0], group[group >= 0], outcome.group_names
