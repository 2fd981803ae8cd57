"""Table 1: the patients at entry by what came of them."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.errors import InputError
from gnnpatient.study.describe import grouped_outcomes
from gnnpatient.study.duplicates import value_bits
from gnnpatient.study.sample_size import at_risk_at_entry

if TYPE_CHECKING:
    import pandas as pd


MAX_LEVELS = 5  # different values of a code, up to which they are shown as levels


def table1(cohort: Cohort, outcome: str, *, codes: int = 40) -> pd.DataFrame:
    """Table 1 of those at risk at entry, by the package tableone.

    A column for everybody, the event-free and each cause; of a diagnosis, of those who have a label and do
    not know it at entry, a column a class. Rows are the baseline covariates and what was known at entry:
    numbers as median [quartiles]; categories, codes with at most 5 different values and codes without values
    as n (%). Missing counts the patients without it; a cell is empty where a group has no value at all.

    The groups are what came of the patients by the end of follow-up, so no test is made: who was followed
    longer had more time for an event. With a horizon a diagnosis has the label of a landmark at entry.

    Parameters
    ----------
    cohort : Cohort
    outcome : str
        Name of a survival outcome or a diagnosis.
    codes : int, default 40
        Show the codes that most patients have.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    InputError
        When tableone is not installed, the outcome has no groups, or nobody or nothing is there at entry.
    """
    try:
        table_one = importlib.import_module("tableone").TableOne
    except ModuleNotFoundError:
        raise InputError("Table 1 needs the package tableone; pip install 'gnnpatient[report]'") from None
    (name,) = cohort.outcome_names(outcome)
    if name not in (truths := grouped_outcomes(cohort)):
        raise InputError(
            f"outcome {name!r} is neither survival nor a class of each patient; Table 1 needs one of these"
        )
    patients, group, groups = at_risk_at_entry(cohort, truths[name])
    if not len(patients):
        raise InputError(f"outcome {name!r}: nobody is at risk at entry, so there is no Table 1")
    frame, categories = _at_entry(cohort, cohort.entries(patients), codes)
    if not (columns := frame.columns):
        raise InputError(
            f"cohort {cohort.spec.cohort!r}: nothing is known of anybody at entry, so no Table 1"
        )
    title = f"outcome: {name}"
    frame = frame.with_columns(pl.Series(title, np.array(groups)[group]))
    with warnings.catch_warnings():
        # tableone 0.9.6 sets a row in a way that pandas 3 deprecates, and averages groups without values
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        result = table_one(
            frame.to_pandas(),
            columns=columns,
            categorical=categories,
            continuous=[column for column in columns if column not in categories],
            nonnormal=[column for column in columns if column not in categories],
            groupby=title,
            order={title: [group for group in groups if group in set(frame[title])]},
            include_null=False,
            pval=False,
        )
    return result.tableone.replace("nan [nan,nan]", "")


def _at_entry(cohort: Cohort, landmarks: Landmarks, codes: int) -> tuple[pl.DataFrame, list[str]]:
    """What is known at the landmarks, a column for each covariate and code in use; and the categories."""
    seen = landmarks.to_frame()
    statics = cohort.spec.patient
    table = {column: seen[column] for column in (*statics.number, *statics.category)}
    categories = list(statics.category)
    found: list[tuple[int, str, pl.Series, bool]] = []
    for kind, e in cohort.events.items():
        if kind == "timepoint":
            continue
        pairs = np.unique(np.stack([e.code, value_bits(e.value)])[:, ~np.isnan(e.value)], axis=1)
        different = np.bincount(pairs[0], minlength=len(cohort.codes[kind]))  # values of each code
        for c, code in enumerate(cohort.codes[kind]):
            if f"{kind}.{code}.n" not in seen.columns:
                continue
            value, has, unit = seen[f"{kind}.{code}"], seen[f"{kind}.{code}.n"] > 0, cohort.units[kind][c]
            label = f"{kind}.{code}" + (f" ({unit})" if unit else "")
            if not different[c]:
                value = has.replace_strict({True: "yes", False: "no"})
            elif different[c] <= MAX_LEVELS:
                levels = value.drop_nulls().unique().to_list() or [0.0]
                value = value.replace_strict(
                    levels, [f"{v:g}" for v in levels], default=None, return_dtype=pl.String
                )
            found.append((int(has.sum()), label, value, bool(different[c] <= MAX_LEVELS)))
    most = sorted(range(len(found)), key=lambda i: -found[i][0])[:codes]
    for i in sorted(most):
        _, label, column, category = found[i]
        table[label] = column
        categories += [label] * category
    kept = {label: column for label, column in table.items() if column.null_count() < len(column)}
    return pl.DataFrame(kept), [label for label in categories if label in kept]
