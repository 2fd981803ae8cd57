"""Makes pbc.json: what others say of PBC. Run: python tests/golden/make_pbc.py > tests/golden/pbc.json

Nothing of gnnpatient is used: the table is read with the csv module, the incidence is scikit-survival's.
"""

import csv
import json
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np
from sksurv.nonparametric import cumulative_incidence_competing_risks

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "gnnpatient" / "data" / "pbc" / "pbcseq.csv"
KINDS = {
    "lab": ["bili", "chol", "albumin", "alk.phos", "ast", "platelet", "protime"],
    "sign": ["ascites", "hepato", "spiders", "edema"],
    "stage": ["stage"],
}
YEARS = [1, 3, 5, 10]


def main() -> None:
    with TABLE.open(newline="") as file:
        visits = list(csv.DictReader(file))
    patients = {visit["id"]: visit for visit in visits}
    time = np.array([float(p["futime"]) for p in patients.values()])
    event = np.array([int(p["status"]) for p in patients.values()])  # 1 transplant, 2 death
    at, incidence = cumulative_incidence_competing_risks(event, time)
    column = np.searchsorted(at, np.array(YEARS) * 365.25, "right") - 1

    golden = {
        "package": f"scikit-survival {version('scikit-survival')}",
        "function": "sksurv.nonparametric.cumulative_incidence_competing_risks",
        "data": f"gnnpatient/data/pbc/pbcseq.csv, sha256 {sha256(TABLE.read_bytes()).hexdigest()}",
        "command": "python tests/golden/make_pbc.py > tests/golden/pbc.json",
        "counts": {
            "patients": len(patients),
            "visits": len(visits),
            "transplant": int((event == 1).sum()),
            "death": int((event == 2).sum()),
            "rows": {
                kind: sum(visit[c] != "" for visit in visits for c in names) for kind, names in KINDS.items()
            },
        },
        "years": YEARS,
        "transplant": incidence[1, column].tolist(),
        "death": incidence[2, column].tolist(),
    }
    print(json.dumps(golden, indent=1))


if __name__ == "__main__":
    main()
