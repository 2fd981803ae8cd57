"""The table that openi-reports.toml reads, made from the archive of reports as it is published.

    python graphs/openi-reports.prepare.py DATA_DIR --out DIR
    gnnpatient check openi-reports --data DIR

DATA_DIR holds reports.tar.gz, one XML file a study; nothing of it is unpacked to the disk. DIR gets
reports.csv: a row a study, its parts as columns, whether its coded findings are exactly "normal", and a
group. Reports that say the same are one group: those with equal findings, and of those without findings
those with equal impressions. What was done is printed, with counts.
"""

from __future__ import annotations

import argparse
import re
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

import polars as pl
from rich.console import Console
from rich.table import Table

from gnnpatient.errors import InputError
from gnnpatient.files import atomic_folder

PARTS = ("comparison", "indication", "findings", "impression")
NAME = re.compile(r"reports/(\d+)\.xml")
LARGEST = 1 << 20  # bytes of a report; the longest real one has 9 kB
MOST = 100_000  # members of the archive


def members(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """Each member's name, and its bytes where it is a report; read one by one, none written to a file.

    Refused before anything of it is unpacked: a member that is too large, and too many of them.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            for n, member in enumerate(archive):
                if member.size > LARGEST or n >= MOST:
                    raise InputError(
                        f"{path}: member {n + 1} has {member.size} bytes; {MOST} of up to {LARGEST} are read"
                    )
                stream = (
                    archive.extractfile(member) if member.isreg() and NAME.fullmatch(member.name) else None
                )
                yield member.name, None if stream is None else stream.read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise InputError(f"{path}: {error}; bring the archive whole") from None


def parse(raw: bytes) -> ElementTree.Element:
    """An XML text without a document type: entities, which could blow up or name other files, need one."""
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()

    def turn_down(*_: object) -> None:
        raise InputError("a document type")

    parser.StartDoctypeDeclHandler = turn_down
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(raw, True)
    return builder.close()


def study(root: ElementTree.Element) -> dict[str, str | None]:
    """The parts of a report, blanks joined; normal: 1 = that is all that was coded, null = nothing was."""
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for text in root.iter("AbstractText"):
        part = (text.get("Label") or "").lower()
        if part in parts:
            parts[part].append("".join(text.itertext()))
    majors = [(major.text or "").strip() for major in root.iter("major")]
    normal = str(int(majors == ["normal"])) if majors else None
    return {part: " ".join(" ".join(said).split()) or None for part, said in parts.items()} | {
        "normal": normal
    }


def read(path: Path) -> tuple[pl.DataFrame, list[tuple[str, int]]]:
    """A row a report, and what was left out."""
    rows, broken, declared, others = [], 0, 0, 0
    for name, raw in members(path):
        if raw is None:
            others += name.rstrip("/") != "reports"
            continue
        try:
            root = parse(raw)
        except InputError:
            declared += 1
        except expat.ExpatError:
            broken += 1
        else:
            rows.append({"study": NAME.fullmatch(name)[1], **study(root)})  # type: ignore[index]
    frame = pl.DataFrame(rows, schema={name: pl.String for name in ("study", *PARTS, "normal")})
    if twice := len(frame) - frame["study"].n_unique():
        raise InputError(f"{path}: {twice} report(s) of a study that has one already")
    done = [("reports", len(frame)), ("members that are no report: left out", others)]
    done += [
        ("reports that are no XML: left out", broken),
        ("reports with a document type: left out", declared),
    ]
    return frame, done


def prepare(data: Path, out: Path) -> list[tuple[str, int]]:
    """Write the table; what was done, with counts.

    Refused: an archive that is not to be trusted, an `out` that holds anything.
    """
    frame, done = read(data / "reports.tar.gz")
    same = pl.coalesce("findings", "impression")
    first = pl.col("study").first().over(same)
    frame = frame.with_columns(group=pl.when(same.is_null()).then("study").otherwise(first))
    done += [(f"reports without {part}", frame[part].null_count()) for part in PARTS]
    done += [("reports without coded findings", frame["normal"].null_count())]
    done += [("groups of reports that say the same", frame["group"].n_unique())]
    with atomic_folder(out) as part:
        frame.write_csv(part / "reports.csv")
    return done


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        done = prepare(args.data, args.out)
    except InputError as refusal:
        parser.error(str(refusal))
    table = Table("what", "how many", box=None)
    for what, n in done:
        table.add_row(what, str(n))
    Console().print(table)


if __name__ == "__main__":
    main()
