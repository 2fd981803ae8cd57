"""Systolic pressure, glucose and body mass at the next exam of the Framingham study, beside their rivals.

Claim: asked at each exam for the value at the next one, the default model errs no more than the best of the
last value carried forward, ridge regression on the history, boosted quantiles and a linear mixed model, all
fitted on the same exams and asked for the same time: six years after the exam, as planned. Values are in
their own units. Beside it stands the same with the day of the next exam given to all.

The folds are those of `gnnpatient.study.folds.make_folds` (five, seed 0) where no file is given.
Last seen: see results/framingham.md (command, machine, date and figures); of the model the linear family
alone was run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pbc_progression import YEAR, Study, run, with_values

from gnnpatient.cohort.cohort import Cohort

BETWEEN = 6 * YEAR  # two exams


def six_years_on(day: np.ndarray) -> np.ndarray:
    """The next exam of the study's plan."""
    return day + BETWEEN


FRAMINGHAM = Study(
    outcomes={"sysbp": ("exam", "SYSBP"), "glucose": ("lab", "GLUCOSE"), "bmi": ("exam", "BMI")},
    window="2y",
    horizon=3 * BETWEEN,
    planned=six_years_on,
    scored=2 * BETWEEN,  # one exam left out, at most
)


def read_framingham(data: Path, study: Study) -> Cohort:
    """The cohort with the three values as outcomes."""
    return with_values("framingham", data, study)


if __name__ == "__main__":
    run(__doc__, FRAMINGHAM, Path("framingham"), read_framingham)
