"""Intensive care: death in the unit, asked after a day; and the same in hospitals that no model has seen.

Claim: none; the figures of the product and of rivals that are chosen among as many configurations each. In
`eicu-hospital` no hospital is on both sides of a fold: external validation by hospital.
Last seen: see results/icu.md (command, commit, machine, date and figures).

    python experiments/icu.py --data DATA --cohort mortality --out icu.parquet
    python experiments/icu.py --data DATA --cohort eicu-hospital --out hospital.parquet
"""

from __future__ import annotations

from forecasts import Study, run

STUDIES = {
    "mortality": Study(
        spec="icu-mortality",
        folder="icu-timeseries/mortality24/eicu_demo",
        outcome="mortality",
        cause="died",
        fit_at=(1.0,),
        scored_at=(1.0,),
    ),
    "eicu-hospital": Study(
        spec="eicu-demo",
        folder="eicu-demo",
        outcome="leaving",
        cause="death",
        fit_at=(1.0,),
        scored_at=(1.0,),
        horizons=(3.0, 7.0),
        patient={"group": "hospitalid"},
    ),
}

if __name__ == "__main__":
    run(__doc__, "icu", STUDIES)
