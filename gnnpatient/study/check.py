"""The check of a cohort before anything is fitted: counts, flags, leaks, sample size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gnnpatient.cohort.cohort import Cohort
from gnnpatient.study import describe
from gnnpatient.study.describe import ColumnSummary
from gnnpatient.study.duplicates import duplicates
from gnnpatient.study.leaks import coverage
from gnnpatient.study.leaks import leaks as find_leaks
from gnnpatient.study.sample_size import sample_size
from gnnpatient.study.table1 import table1 as table1_of


@dataclass(frozen=True, eq=False)
class CohortCheck:
    """What `check_cohort` found.

    Attributes
    ----------
    cohort : str
        Name of the cohort.
    tables : mapping of str to mapping
        Of each table, rows, used, collapsed and refused (by reason).
    kinds : mapping of str to int
        Rows of each node type.
    flow : list of dict
        outcome, step, n: how many patients are left at each step.
    flags : list of str
        What looks wrong.
    leaks : list of dict
        Columns that know an outcome before it happens; empty without `leaks`.
    coverage : list of dict
        Which outcomes and moments were checked for leaks, and why not the others; empty without `leaks`.
    distributions : list of dict
        Of each code and static column its counts, quantiles, unit and flags.
    sample_size : list of dict
        How many patients each outcome calls for.
    followup : list of dict
        Of each survival outcome, days from entry to the event or the end of observation: median and longest.
    table1 : mapping of str to list of list of str, or None
        Table 1 by each outcome, the head first; None where it was not wanted.
    """

    cohort: str
    tables: Mapping[str, Mapping[str, Any]]
    kinds: Mapping[str, int]
    flow: list[dict[str, Any]]
    flags: list[str]
    leaks: list[dict[str, Any]]
    coverage: list[dict[str, Any]]
    distributions: list[dict[str, Any]]
    sample_size: list[dict[str, Any]]
    followup: list[dict[str, Any]]
    table1: Mapping[str, list[list[str]]] | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON, as `gnnpatient check --json` prints it.

        Returns
        -------
        dict
        """
        keys = {"coverage": "looked"}
        content = {keys.get(name, name): value for name, value in vars(self).items()}
        if self.table1 is None:
            del content["table1"]
        return content


def check_cohort(cohort: Cohort, *, leaks: bool = False, table1: bool = False) -> CohortCheck:
    """Look at a cohort: what was used and refused, what looks wrong, whether it is large enough.

    Parameters
    ----------
    cohort : Cohort
        As read; its report has the counts of the tables.
    leaks : bool, default False
        Look for columns that know an outcome before it happens.
    table1 : bool, default False
        Describe the patients by outcome; needs the package tableone.

    Returns
    -------
    CohortCheck

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> check_cohort(pbc()).kinds["lab"] > 1000
    True
    """
    spread = describe.statics(cohort) + describe.distributions(cohort)
    grouped = describe.grouped_outcomes(cohort) if table1 else ()
    by_outcome = {name: _cells(table1_of(cohort, name)) for name in grouped}
    return CohortCheck(
        cohort=cohort.spec.cohort,
        tables=cohort.report["tables"],
        kinds={kind: len(cohort.events[kind]) for kind in cohort.spec.nodes},
        flow=cohort.flow(),
        flags=_flags(cohort, spread),
        leaks=[leak.to_dict() for leak in find_leaks(cohort)] if leaks and cohort.outcomes else [],
        coverage=[one.to_dict() for one in coverage(cohort)] if leaks and cohort.outcomes else [],
        distributions=[row.to_dict() for row in spread],
        sample_size=[row.to_dict() for row in sample_size(cohort)],
        followup=describe.followup(cohort),
        table1=by_outcome if table1 else None,
    )


def _flags(cohort: Cohort, spread: Sequence[ColumnSummary]) -> list[str]:
    """Those of reading, and those of looking at the records."""
    flags = list(cohort.report["flags"])
    same = duplicates(cohort)
    if same.patients:
        flags.append(
            f"{same.patients} patients in {same.groups} groups have the same record; one "
            "person under several ids? give them one group in [patient]"
        )
    if same.near_ids:
        flags.append(f"{same.near_ids} id(s) equal another but for case, blanks or leading zeros")
    flags += [f"{row.kind}.{row.code}: {flag}" for row in spread for flag in row.flags]
    return flags + describe.durations(cohort)


def _cells(frame: Any) -> list[list[str]]:
    """A pandas table as rows of text, its head first."""
    head = ["", "", *(str(c[-1]) if isinstance(c, tuple) else str(c) for c in frame.columns)]
    names = [list(i) if isinstance(i, tuple) else [i, ""] for i in frame.index]
    return [head, *([*map(str, n), *map(str, row)] for n, row in zip(names, frame.to_numpy(), strict=True))]


def fit_notes(cohort: Cohort, *, all_outcomes: bool = True) -> list[str]:
    """List what to know before a model is fitted on a cohort.

    Parameters
    ----------
    cohort : Cohort
    all_outcomes : bool, default True
        Whether the model takes every outcome that it can; those that it cannot are named then.

    Returns
    -------
    list of str
        Outcomes without a model, flags that may decide a result, and that nothing becomes known after entry.
    """
    lines = []
    if all_outcomes:
        without = sorted(set(cohort.outcomes) - set(cohort.outcomes_with_model()))
        lines = [f"outcome {n!r} left out: a {cohort.outcomes[n].kind} has no model" for n in without]
    lines += decisive_flags(cohort)
    if not cohort.has_later_rows:
        lines.append("nothing becomes known after entry, so entry is the only landmark")
    return lines


def unused_notes(cohort: Cohort, choices: Mapping[str, Any]) -> list[str]:
    """Say which choices of a fit do nothing with its outcomes and families.

    Parameters
    ----------
    cohort : Cohort
    choices : mapping
        As for `gnnpatient.prognosis.run.fit_run`.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> unused_notes(pbc(), {"families": ["linear"], "epochs": 5, "horizon": 365.0})
    ['epochs does nothing here: it is of networks, and the graph is not among the families']
    """
    outcomes = cohort.outcomes_with_model(choices.get("outcomes"))
    lines = []
    if "epochs" in choices and "graph" not in choices.get("families", ("graph",)):
        lines.append("epochs does nothing here: it is of networks, and the graph is not among the families")
    ends = [one for one in outcomes.values() if one.has_curve or one.kind == "progression"]
    if choices.get("horizon") is not None and not ends:
        lines.append(f"horizon does nothing here: {' and '.join(outcomes)} has none to choose")
    if choices.get("landmarks", "random") != "random" and all(o.has_own_moments for o in outcomes.values()):
        lines.append(f"landmarks does nothing here: {' and '.join(outcomes)} has prediction times of its own")
    return lines


def decisive_flags(cohort: Cohort, limit: int = 60) -> list[str]:
    """The flags that may decide a result.

    Parameters
    ----------
    cohort : Cohort
    limit : int, default 60
        At most so many.

    Returns
    -------
    list of str
    """
    return [f"flag: {flag}" for flag in cohort.report.get("decisive", ())[:limit]]
