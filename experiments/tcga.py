"""Death after the diagnosis of a cancer from expression, copy numbers and mutations of its tumour.

Claim: none; with some hundreds of patients and thousands of genes a null model is not easily beaten.
Last seen: not yet run.

    python graphs/tcga.prepare.py DATA/tcga-survival-omics/luad DATA/tcga-survival-omics/signatures.csv \\
        "Tumor Suppressor Genes" Oncogenes --out W/luad
    python experiments/tcga.py --data W --cohort luad --out luad.parquet

DATA holds one folder a cancer, as published or as the script above makes it.
"""

from __future__ import annotations

from forecasts import Study, run

from gnnpatient.times import YEAR

STUDIES = {
    cancer: Study(
        spec=spec, folder=cancer, outcome="death", cause="death", horizons=(YEAR, 3 * YEAR, 5 * YEAR)
    )
    for cancer, spec in {"luad": "tcga", "kirc": "tcga", "gbmlgg": "tcga", "ucec": "tcga-ucec"}.items()
}

if __name__ == "__main__":
    run(__doc__, "tcga", STUDIES)
