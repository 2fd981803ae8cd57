"""Cohorts of one row a patient, asked at entry: colon and breast cancer, gammopathy, hospital wards.

Claim: none; without rows in time the graph has nothing to add, and a Cox model is a strong rival.
Last seen: see results/tables.md (command, commit, machine, date and figures).

    python experiments/tables.py --data DATA --cohort colon --folds colon.parquet --out colon.parquet
"""

from __future__ import annotations

from forecasts import Study, run

from gnnpatient.times import YEAR


def at_entry(spec: str, folder: str, *years: float) -> Study:
    """Death, asked at entry."""
    horizons = tuple(year * YEAR for year in years)
    return Study(spec=spec, folder=folder, outcome="death", cause="death", horizons=horizons)


STUDIES = {
    "colon": at_entry("colon", "survival-tables", 2, 4, 6),
    "rotterdam": at_entry("rotterdam", "survival-tables", 2, 5, 10),
    "mgus2": at_entry("mgus2", "survival-tables", 5, 10, 15),
    "support2": at_entry("support2", "support2", 0.5, 1, 3),
}

if __name__ == "__main__":
    run(__doc__, "tables", STUDIES)
