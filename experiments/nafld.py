"""Death of patients with fatty liver and of controls matched to them, a year after entry, up to five years.

Claim: none; the figures of the product and of rivals that are chosen among as many configurations each.
Last seen: not yet run.

    python experiments/nafld.py --data DATA --folds nafld_death.parquet --out nafld.parquet
"""

from __future__ import annotations

from forecasts import Study, run

from gnnpatient.times import YEAR

STUDIES = {
    "nafld": Study(
        spec="nafld",
        folder="nafld",
        outcome="death",
        cause="death",
        fit_at=(YEAR,),
        scored_at=(YEAR,),
        horizons=(YEAR, 3 * YEAR, 5 * YEAR),
    )
}

if __name__ == "__main__":
    run(__doc__, "nafld", STUDIES)
