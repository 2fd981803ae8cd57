"""Keep the genes of named families: a patient of TCGA becomes a graph of hundreds of nodes, not of thousands.

The families are those published with MCAT (Chen et al., ICCV 2021), a column each in signatures.csv; no
outcome is looked at. Without this script tcga.toml reads the folder of a cancer as it is, with every gene.

    python graphs/tcga.prepare.py luad signatures.csv "Tumor Suppressor Genes" Oncogenes --out luad-families
    gnnpatient pack tcga --data luad-families --out tcga-luad-families
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with slides.csv and omics.parquet")
    parser.add_argument("signatures", type=Path, help="CSV: a column a family, its genes below")
    parser.add_argument("families", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    families = pl.read_csv(args.signatures, infer_schema=False)
    if unknown := set(args.families) - set(families.columns):
        parser.error(f"no family {sorted(unknown)[0]!r}; there are {', '.join(families.columns)}")
    genes = {gene for family in args.families for gene in families[family].drop_nulls()}
    omics = pl.read_parquet(args.data / "omics.parquet")
    kept = [name for name in omics.columns[1:] if name.rpartition("_")[0] in genes]
    args.out.mkdir(parents=True)
    omics.select(omics.columns[0], *kept).write_parquet(args.out / "omics.parquet")
    (args.out / "slides.csv").write_bytes((args.data / "slides.csv").read_bytes())
    print(f"{args.out}: {len(kept)} of {len(omics.columns) - 1} columns kept")


if __name__ == "__main__":
    main()
