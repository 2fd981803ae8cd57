"""The tables that covid-cxr.toml reads, made from the collection as it is published.

    python graphs/covid-cxr.prepare.py DATA_DIR --out DIR [--notes]
    gnnpatient check covid-cxr --data DIR --leaks
    gnnpatient pack  covid-cxr --data DIR --out COHORT

DATA_DIR holds metadata.csv, covid-severity-scores.csv and images/; it is read, never changed. DIR gets
patients.csv, images.csv, labs.csv, severity.csv and a link to the images. What was done is printed, with
counts. Done here is what a spec cannot say; ranges, conversions and the words of outcomes are the TOML's.

Notes tell the outcome, so they stay out. With --notes DIR also gets notes.csv and spec.toml, which is
covid-cxr.toml with one more kind of node: a second spec here would have to follow the first one by hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import networkx as nx
import polars as pl
from rich.console import Console
from rich.table import Table

from gnnpatient.content.image.base import UnreadableImageError
from gnnpatient.content.image.files import fingerprint, locate
from gnnpatient.errors import InputError, near
from gnnpatient.files import atomic_folder
from gnnpatient.readers.tables import read_table
from gnnpatient.spec.graph import spec_path

NOT_SAID = ("?", "Not visible", "Would have been stated")
NUMBERS = ("temperature", "pO2_saturation", "leukocyte_count", "neutrophil_count", "lymphocyte_count")
UNIT = {code: "10^3/uL" for code in NUMBERS if code.endswith("count")}
UNIT |= {"temperature": "C", "SpO2": "%", "pO2": "mmHg"}
OF_PATIENT = ("age", "sex", "survival", "went_icu", "intubated")
OF_IMAGE = ("in_icu", "intubation_present")
UNSEEN = ("went_icu", "intubated")  # of which an image may show that they are so
NEEDED = ("patientid", "offset", "finding", "view", "modality", "folder", "filename", "doi", "url")
SCORES = ("filename", "geographic_mean", "opacity_mean")
NO_FINDING = ("No Finding", "todo")
FAHRENHEIT = 50.0  # nobody is that hot in degrees Celsius
SATURATION = (70.0, 100.0)  # %; below and above it is a partial pressure in mmHg
SEVERE = 4.0  # extent, 0..8, adds up how many quarters of each lung are opaque: above 4 is more than half
NOTE = """
[nodes.note]                          # tells the outcome: to see how much, not to forecast with
table = "notes.csv"
time = "day"
text = "text"
embed = "hashed"
"""


class Prepared:
    """The tables, and what was done with how many rows."""

    def __init__(self, folder: Path, notes: bool = False):
        self.done: list[tuple[str, int]] = []
        needed = (*NEEDED, *NUMBERS, *OF_PATIENT, *OF_IMAGE, *(["clinical_notes"] if notes else []))
        rows = self._words(self._read(folder, "metadata.csv", needed))
        rows = rows.with_columns(print=_prints(folder / "images", rows["filename"]))
        self._count("rows whose image is not there", rows["print"].null_count())
        rows = self._grouped(self._people(rows))
        rows = self._dated(rows)
        self.tables = {
            "patients": self._patients(rows),
            "images": self._images(rows),
            "labs": self._labs(rows),
            "severity": self._severity(rows, self._read(folder, "covid-severity-scores.csv", SCORES)),
        }
        if notes:
            self.tables["notes"] = rows.select("patientid", "day", text="clinical_notes").drop_nulls("text")

    def _read(self, folder: Path, name: str, columns: tuple[str, ...]) -> pl.DataFrame:
        frame = read_table(folder, name).lazy().collect()
        for column in columns:
            if column not in frame.columns:
                raise InputError(f"{folder / name}: no column {column!r}{near(column, frame.columns)}")
        self._count(f"rows of {name}", len(frame))
        return frame

    def _count(self, what: str, n: int) -> None:
        self.done.append((what, n))

    def _words(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Cells trimmed; a word for "not known" becomes empty, as does what is no number among numbers."""
        rows = rows.with_columns(pl.col(pl.String).str.strip_chars().replace("", None))
        if (lost := rows["patientid"].null_count()) > 0:
            raise InputError(f"metadata.csv: {lost} row(s) without patientid; whose are they?")
        for column in (*OF_PATIENT, *OF_IMAGE, "view"):
            self._count(f"{column}: not said in words, now empty", rows[column].is_in(NOT_SAID).sum())
        rows = rows.with_columns(pl.col(*OF_PATIENT, *OF_IMAGE, "view").replace(NOT_SAID, None))
        for column in ("offset", *NUMBERS):
            number = rows[column].cast(pl.Float64, strict=False)
            number = number.set(~number.is_finite().fill_null(True), None)
            self._count(f"{column}: not a number, now empty", number.null_count() - rows[column].null_count())
            rows = rows.with_columns(number)
        return rows

    def _people(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Two ids with the very same images are one person, who keeps the first of them."""
        images = rows.group_by("patientid", maintain_order=True).agg(
            pl.col("print").drop_nulls().unique().sort()
        )
        images = images.filter(pl.col("print").list.len() > 0)
        same = images.with_columns(first=pl.col("patientid").first().over("print"))
        same = same.filter(pl.col("patientid") != pl.col("first"))
        self._count("patient ids merged into another with the same images", len(same))
        self._count("rows of these", int(rows["patientid"].is_in(same["patientid"].to_list()).sum()))
        return rows.with_columns(pl.col("patientid").replace(same["patientid"], same["first"]))

    def _grouped(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Patients who share an article or an image, directly or through others, are one group."""
        rows = rows.with_columns(url=pl.col("url").str.replace(r"\?lang=\w+$", "").str.strip_chars_end("/"))
        graph = nx.Graph()
        graph.add_nodes_from(("patientid", patient) for patient in rows["patientid"])
        for key in ("doi", "url", "print"):
            pairs = rows.select("patientid", key).drop_nulls()
            graph.add_edges_from((("patientid", patient), (key, word)) for patient, word in pairs.iter_rows())
        group = {}
        for part in nx.connected_components(graph):
            words = sorted(word for kind, word in part if kind == "patientid")
            group |= dict.fromkeys(words, words[0])
        self._count("patients", rows["patientid"].n_unique())
        self._count("groups of patients who share an article or an image", len(set(group.values())))
        return rows.with_columns(article=pl.col("patientid").replace_strict(group))

    def _dated(self, rows: pl.DataFrame) -> pl.DataFrame:
        """day: after the patient's first image; onset: the offset that it had.

        A patient without any offset is asked about one image, the first: that one is day 0.
        """
        rows = rows.with_row_index("row")
        shown = pl.when(pl.col("print").is_not_null()).then("offset").min().over("patientid")
        first = pl.coalesce(shown, pl.col("offset").min().over("patientid"))
        best = pl.col("row").sort_by(pl.col("print").is_null(), "row").first().over("patientid")
        rows = rows.with_columns(onset=first, nobody=first.is_null())
        alone = pl.col("nobody") & (pl.col("row") == best)
        rows = rows.with_columns(day=pl.when(alone).then(0.0).otherwise(pl.col("offset") - pl.col("onset")))
        self._count("patients without any offset: their first image is day 0", rows.filter(alone).height)
        late = rows["day"].is_null()
        self._count("rows of these that could lie before or after it: undated", (late & rows["nobody"]).sum())
        self._count("rows undated beside dated ones", (late & ~rows["nobody"]).sum())
        return rows

    def _patients(self, rows: pl.DataFrame) -> pl.DataFrame:
        """One row a patient. What differs between rows of one is empty; the finding is that of day 0."""
        once = pl.col("article", "onset").first()
        frame = rows.group_by("patientid", maintain_order=True).agg(once, *OF_PATIENT)
        for column in OF_PATIENT:
            said = frame[column].list.drop_nulls().list.unique()
            differs = said.list.len() > 1
            self._count(f"patients whose {column} differs between rows, now empty", differs.sum())
            frame = frame.with_columns(said.list.first().set(differs, None).alias(column))
        first = rows.filter((pl.col("day") == 0) & ~pl.col("finding").is_in(NO_FINDING))
        covid = first.group_by("patientid").agg(
            covid=pl.col("finding").str.contains("COVID-19", literal=True).any()
        )
        covid = covid.with_columns(covid=pl.when("covid").then(pl.lit("Y")).otherwise(pl.lit("N")))
        frame = frame.join(covid, on="patientid", how="left", maintain_order="left")
        self._count("patients without a finding on day 0", frame["covid"].null_count())
        return self._unseen(frame, rows)

    def _unseen(self, frame: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
        """went_icu and intubated once more, where the images of day 0 say that neither is so yet; told: the
        first day on which an image says that one is, else the day after the last image.
        """
        said = [pl.col(column) for column in OF_IMAGE]
        images = rows.filter(pl.col("day").is_not_null() & ~_volumes(rows)).with_columns(
            free=pl.all_horizontal(one.eq_missing("N") for one in said),
            there=pl.any_horizontal(one.eq_missing("Y") for one in said),
        )
        first = pl.col("day") == 0
        images = images.group_by("patientid").agg(
            free=pl.col("free").filter(first).all() & first.any(),
            told=pl.coalesce(pl.col("day").filter("there").min(), pl.col("day").max() + 1),
        )
        frame = frame.join(images, on="patientid", how="left", maintain_order="left")
        frame = frame.with_columns(
            pl.when("free").then(pl.col(column)).alias(f"{column}_unseen") for column in UNSEEN
        )
        for column in UNSEEN:
            lost = frame[column].count() - frame[f"{column}_unseen"].count()
            self._count(f"patients whose {column} the first images may show", lost)
        return frame.drop("free")

    def _images(self, rows: pl.DataFrame) -> pl.DataFrame:
        """A row an image; where its view is not given, the modality stands for it."""
        volume = _volumes(rows)
        self._count("rows that name a CT volume, which is no image", volume.sum())
        rows = rows.filter(~volume)
        self._count("images without a view", rows["view"].null_count())
        view = pl.coalesce("view", "modality")
        return rows.select("patientid", "day", view, "filename", *OF_IMAGE)

    def _labs(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Long: code, value, unit. Where one value of an article is no saturation, all are pressures."""
        long = rows.unpivot(NUMBERS, index=["patientid", "day", "article"], variable_name="code")
        long = long.drop_nulls("value")
        hot = (pl.col("code") == "temperature") & (pl.col("value") > FAHRENHEIT)
        oxygen = pl.col("code") == "pO2_saturation"
        beyond = oxygen & ~pl.col("value").is_between(*SATURATION)
        pressure = oxygen & beyond.any().over("article")
        long = long.with_columns(hot=hot, oxygen=oxygen, beyond=beyond, pressure=pressure)
        self._count("temperatures in degrees Fahrenheit", long["hot"].sum())
        self._count("saturations that are none: partial pressures", long["beyond"].sum())
        self._count(
            "others of the same articles: partial pressures, too", (long["pressure"] & ~long["beyond"]).sum()
        )
        code = pl.when("pressure").then(pl.lit("pO2")).when("oxygen").then(pl.lit("SpO2")).otherwise("code")
        unit = pl.when("hot").then(pl.lit("F")).otherwise(pl.col("code").replace_strict(UNIT))
        long = long.with_columns(code=code).with_columns(unit=unit)
        return long.select("patientid", "day", "code", "value", "unit")

    def _severity(self, rows: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
        """The first scored image of each patient."""
        numbers = pl.col("geographic_mean", "opacity_mean").cast(pl.Float64, strict=False)
        scores = scores.with_columns(numbers).drop_nulls().select(*SCORES)
        there = rows.drop_nulls(["print", "day"]).join(scores, on="filename").sort("day", "row")
        scored = there.unique("patientid", keep="first", maintain_order=True)
        self._count(
            "scored images that are not there, undated or not a patient's first", len(scores) - len(scored)
        )
        severe = pl.when(pl.col("geographic_mean") > SEVERE).then(pl.lit("Y")).otherwise(pl.lit("N"))
        return scored.select("patientid", "day", *SCORES, severe=severe)


def _volumes(rows: pl.DataFrame) -> pl.Series:
    return rows["folder"].eq_missing("volumes")


def _prints(folder: Path, names: pl.Series) -> pl.Series:
    """The sha256 of each named image, null where it is not there."""
    found: dict[str, str | None] = {}
    for name in names.drop_nulls().unique():
        try:
            found[name] = fingerprint(locate(folder, name))
        except UnreadableImageError:
            found[name] = None
    return names.replace_strict(found, default=None, return_dtype=pl.String)


def prepare(data: Path, out: Path, notes: bool = False) -> list[tuple[str, int]]:
    """Write the tables; what was done, with counts.

    Refused: a table or a column that is not there, an `out` that holds anything.
    """
    made = Prepared(data, notes)
    with atomic_folder(out) as part:
        for name, table in made.tables.items():
            table.write_csv(part / f"{name}.csv")
        (part / "images").symlink_to((data / "images").resolve(), target_is_directory=True)
        if notes:
            spec = spec_path("covid-cxr").read_text(encoding="utf-8")
            (part / "spec.toml").write_text(spec + NOTE, encoding="utf-8")
    return made.done


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--notes", action="store_true", help="with the notes, which tell the outcome")
    args = parser.parse_args()
    try:
        done = prepare(args.data, args.out, args.notes)
    except InputError as refusal:
        parser.error(str(refusal))
    table = Table("what", "how many", box=None)
    for what, n in done:
        table.add_row(what, str(n))
    Console().print(table)


if __name__ == "__main__":
    main()
