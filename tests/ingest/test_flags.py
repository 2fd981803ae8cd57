"""Flags of what reads well and is another patient's, another script's, another zone's, or told too early."""

import sqlite3
from contextlib import closing

import numpy as np
import polars as pl
import pytest

from gnnpatient.errors import InputError

TOML = """
cohort = "clinic"
[patient]
table = "patients.csv"
key = "pid"
number = ["age"]
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { death = { time = "end", flag = "died" } }
"""
LAB = '[nodes.lab]\ntable = "labs.csv"\ntime = "day"\ncode = "code"\nvalue = "value"\n'
IMAGE = '[nodes.image]\ntable = "images.csv"\ntime = "day"\nfile = "file"\nembed = "efficientnet-lite0"\n'
NOTE = '[nodes.note]\ntable = "notes.csv"\ntime = "day"\ntext = "text"\n'


@pytest.fixture
def flags(tmp_path):
    """The flags of a cohort of these people and rows; nothing is embedded."""

    def read(toml, rows=(), names=(), ids=("P1", "P2", "P3"), people=None, table="labs.csv"):
        from gnnpatient.ingest.read import read_cohort

        if people is None:
            people = pl.DataFrame({"pid": ids, "age": 60, "end": 100, "died": 1})
        people.write_csv(tmp_path / "patients.csv")
        if names:
            pl.DataFrame(rows, names, orient="row").write_csv(tmp_path / table)
        (tmp_path / "spec.toml").write_text(toml)
        return read_cohort(tmp_path / "spec.toml", tmp_path, embed=False).report["flags"]

    return read


# -- letters --

CYRILLIC_P = "\u0420"


def test_letters_of_two_scripts_in_ids_and_codes(flags):
    names = ["pid", "day", "code", "value"]
    good = [("P1", 1, "CRP", 3.0), ("P2", 1, "\u03b1-fetoprotein", 2.0)]
    assert flags(TOML + LAB, good, names) == []
    assert flags(TOML, ids=("\u0410\u0411-1", "\u0410\u0411-2")) == []  # all of one script
    (flag,) = flags(TOML, ids=("X1", "X\u0410-2"))
    assert flag == "patients.csv: 1 id(s) mix letters of two scripts, as Latin and Cyrillic"
    one, two = flags(TOML, ids=("P1", "P2", f"{CYRILLIC_P}2"))
    assert one == "patients.csv: 1 id(s) are written in another script than the others"
    assert two == "patients.csv: 1 id(s) look like another one and are written with other letters or digits"
    (flag,) = flags(TOML + LAB, [*good, (f"{CYRILLIC_P}2", 2, "CRP", 4.0)], names)
    assert flag.startswith("labs.csv: 1 row(s) of nobody hold an id that looks like a patient's")
    (flag,) = flags(TOML + LAB, [*good, ("P2", 2, f"CR{CYRILLIC_P}", 4.0)], names)
    assert flag == "lab: 1 code(s) look like another one and are written with other letters or digits"


# -- clocks --


def test_clock_times_without_a_zone_among_zoned_ones(flags):
    people = pl.DataFrame({"pid": ["P1"], "age": 60, "end": 100, "died": 1, "born": "2021-01-01"})
    toml = TOML.replace('number = ["age"]', 'number = ["age"]\norigin = "born"') + LAB

    def said(*times):
        rows = [("P1", time, "na", 140.0 + i) for i, time in enumerate(times)]
        return flags(toml, rows, ["pid", "day", "code", "value"], people=people)

    zoned = ["2021-01-02T10:00:00Z", "2021-01-03T10:00+01:00"]
    assert said(*zoned) == said("2021-01-02T10:00", "2021-01-05 11:00:00") == []
    assert said(*zoned, "2021-01-04") == []  # a bare date has no clock
    (flag,) = said(*zoned, "2021-01-04T10:00", "2021-01-05 11:00:00")
    assert flag.startswith("labs.csv: column 'day': 2 of 4 clock times have no zone, the others have")


# -- words that tell --


def test_a_text_that_tells_the_death_before_it(flags):
    names = ["pid", "day", "text"]
    people = pl.DataFrame({"pid": ["P1", "P2", "P3"], "age": 60, "end": [100, 100, 90], "died": [1, 0, 1]})
    toml = TOML + NOTE + 'embed = "minilm"\n'

    def said(rows):
        return flags(toml, rows, names, people=people, table="notes.csv")

    early = [("P1", 40, "Found at 4 am. Patient expired."), ("P1", 60, "Pt deceased."), ("P3", 3, "He died.")]
    late = [("P1", 100, "Patient expired."), ("P3", 95, "Autopsy done."), ("P2", 5, "Patient deceased.")]
    kin = [("P1", 4, "Her father died of cancer."), ("P3", 4, "Nearly died; dead space"), ("P3", 5, "Stable")]
    assert said(late + kin) == []
    (flag,) = said(early + late + kin)
    assert flag.startswith("note: 3 text(s) of 2 patient(s) mention a death")
    assert said([(pid, day, "all is well") for pid, day, _ in early]) == []
    toml += 'mask = ["expired", "deceased", "died", "autopsy"]\n'
    assert not [flag for flag in said(early) if "mention a death" in flag]


# -- whose picture --


def test_a_picture_of_another_patient(flags, tmp_path):
    from tests.content.test_image import RAMP, dicom, png

    def file(name, shift=0, **tags):
        (tmp_path / name).write_bytes(
            dicom(RAMP + shift, SOPInstanceUID=f"1.2.{len(name)}.{shift + 1}", **tags)
        )

    names = ["pid", "day", "file"]
    toml = TOML + IMAGE

    def said(*rows):
        return sorted(flags(toml, [(p, 1, f) for p, f in rows], names, table="images.csv"))

    for i, pid in enumerate(("P1", "P2", "P3")):
        file(f"{pid}.dcm", i, PatientID=pid)
        file(f"anon{pid}.dcm", 10 + i, PatientID="ANONYMOUS")
        file(f"own{pid}.dcm", 20 + i, PatientID=f"77-{i}")
    assert said(*((p, f"{kind}{p}.dcm") for kind in ("", "anon") for p in ("P1", "P2", "P3"))) == []
    assert said(*((p, f"own{p}.dcm") for p in ("P1", "P2", "P3"))) == []
    assert said(("P1", "P1.dcm"), ("P3", "P2.dcm")) == [
        "image: 1 file(s) whose DICOM PatientID is the id of another patient"
    ]
    file("own2P1.dcm", 30, PatientID="77-0")
    assert said(("P1", "ownP1.dcm"), ("P2", "own2P1.dcm")) == [
        "image: 1 DICOM PatientID(s) in files of more than one patient"
    ]
    assert said(("P1", "ownP1.dcm"), ("P1", "ownP2.dcm")) == [
        "image: 1 patient(s) with files of more than one DICOM PatientID"
    ]
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(
            png(RAMP[:9].astype(np.uint8), compress_level=1 + 8 * (name == "b.png"))
        )
    same = "image: 1 image(s) with the same pixels under more than one patient"
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    assert said(("P1", "a.png"), ("P2", "b.png")) == [same]
    assert said(("P1", "a.png"), ("P1", "b.png")) == []
    found = said(("P1", "a.png"), ("P2", "a.png"))
    assert found == ["image: 1 file(s) named for more than one patient", same]


# -- limits --


@pytest.fixture
def quick(monkeypatch):
    from gnnpatient.readers import database

    monkeypatch.setattr(database, "SECONDS", 1.0)


ENDLESS = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT 'a' AS id, x AS value FROM c"
)
TABLE = "CREATE TABLE labs (id TEXT, value REAL)"
ROW = "INSERT INTO labs VALUES ('a', 1.5)"
VIEWS = {"endless": ENDLESS, "plain": "SELECT * FROM labs"}
VIEWS["slow"] = f"SELECT id, (SELECT sum(value) FROM ({ENDLESS})) AS value FROM labs"


def test_a_view_that_never_ends_is_stopped_in_sqlite(tmp_path, quick):
    from gnnpatient.readers.database import scan

    with closing(sqlite3.connect(tmp_path / "a.db")) as base:
        for statement in (TABLE, ROW, *(f"CREATE VIEW {name} AS {of}" for name, of in VIEWS.items())):
            base.execute(statement)
        base.execute("CREATE VIEW long AS SELECT id, hex(zeroblob(900000000)) AS value FROM labs")
        base.commit()
    assert len(scan(tmp_path, "a.db/labs").collect()) == len(scan(tmp_path, "a.db/plain").collect()) == 1
    for name in ("endless", "slow"):
        with pytest.raises(InputError, match="a view that took over 1 s"):
            scan(tmp_path, f"a.db/{name}")
    with pytest.raises(InputError, match="too big"):
        scan(tmp_path, "a.db/long")


def test_a_view_that_never_ends_is_stopped_in_duckdb(tmp_path, quick):
    duckdb = pytest.importorskip("duckdb")
    from gnnpatient.readers.database import scan

    with closing(duckdb.connect(str(tmp_path / "a.duckdb"))) as base:
        many = "SELECT 'a' AS id, range AS value FROM range(100000000000)"
        for name, of in {"labs": "", **VIEWS, "many": many}.items():
            for statement in (TABLE, ROW) if name == "labs" else (f"CREATE VIEW {name} AS {of}",):
                base.execute(statement)
    assert len(scan(tmp_path, "a.duckdb/labs").collect()) == 1
    assert len(scan(tmp_path, "a.duckdb/plain").collect()) == 1
    for name in ("endless", "slow", "many"):
        with pytest.raises((InputError, pl.exceptions.PolarsError), match="a view that took over 1 s"):
            scan(tmp_path, f"a.duckdb/{name}").select("value").collect()


def test_a_mask_of_noise_costs_itself():
    from gnnpatient.content.image.base import UnreadableImageError
    from gnnpatient.content.measure import MAX_UNGUARDED_PIXELS, measure, measuring

    side = int(MAX_UNGUARDED_PIXELS**0.5) + 1
    pixels = np.random.default_rng(0).random((4 * side, 4 * side)).astype(np.float32)
    noise = (np.indices(pixels.shape).sum(0) % 2).astype(np.float32)
    square = np.zeros((side, side), np.float32)
    square[9:99, 9:50] = 1
    with measuring(measure, seconds=30) as measured:
        assert measured(pixels[:side, :side], square, (1.0, 2.0)) == measure(
            pixels[:side, :side], square, (1.0, 2.0)
        )
        with pytest.raises(UnreadableImageError, match=r"^the mask is empty$"):
            measured(pixels[:side, :side], square * 0)
    with (
        measuring(measure, seconds=0.5) as measured,
        pytest.raises(UnreadableImageError, match=r"^to measure it took over 0\.5 s$"),
    ):
        measured(pixels, noise)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("cohort = " + "[" * 100_000 + "]" * 100_000, "far too deep"),
        ("cohort = " + "[" * 200 + "]" * 200, "more than 12 deep"),
        ("x = " + "{a = " * 50_000 + "1" + "}" * 50_000, "far too deep"),
        ("[" + ".".join("a" * 100_000) + "]", "with dots between"),
        (".".join("a" * 100_000) + " = 1", "with dots between"),
        ("[" + ".".join("a" * 100) + "]\nb = 1", "more than 12 deep"),
        ("cohort = 'a'\n" + "#" * (5 << 20), "5 MB; a spec is a page of text"),
    ],
)
def test_a_nested_spec_is_refused(tmp_path, text, what):
    from gnnpatient.spec.graph import read_spec

    (tmp_path / "spec.toml").write_text(text)
    with pytest.raises(InputError, match=what) as caught:
        read_spec(tmp_path / "spec.toml")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


WIDE = '[nodes.gene]\ntable = "genes.csv"\ntime = "day"\ncolumns = { "g*" = "" }\n'


def test_many_columns_at_once_are_what_each_is(flags, tmp_path):
    """Blanks, words, commas, infinities and letters in some of the columns."""
    from gnnpatient.ingest.read import read_cohort

    cells = ["1.5", "", "NA", " 2", "1e3", "inf", "x", "-7", "nan", "0x1"]
    rng = np.random.default_rng(0)
    columns = {f"g{i:04d}": rng.choice(cells[: rng.integers(1, len(cells) + 1)], 3) for i in range(1200)}
    frame = pl.DataFrame({"pid": ["P1", "P2", "P3"], "day": 1, **columns})
    flags(TOML + WIDE, frame.rows(), frame.columns, table="genes.csv")
    cohort = read_cohort(tmp_path / "spec.toml", tmp_path)
    plain = {}
    for name, words in columns.items():
        for pid, word in zip(("P1", "P2", "P3"), words, strict=True):
            if word in ("1.5", " 2", "1e3", "-7"):
                plain[pid, name[1:]] = float(word)
    rows = cohort.events["gene"]
    names = [f"{cohort.codes['gene'][c]}" for c in rows.code]
    got = dict(zip(zip(cohort.ids[rows.patient], names, strict=True), rows.value.tolist(), strict=True))
    assert {(str(pid), name): value for (pid, name), value in got.items()} == plain


def test_what_does_not_fit_the_memory_is_refused_with_both_sizes(flags, monkeypatch):
    from gnnpatient import files

    rows = [(f"P{i}", 1, *range(600)) for i in (1, 2, 3)]
    names = ["pid", "day", *(f"g{i}" for i in range(600))]
    monkeypatch.setattr(files, "MAX_UNCHECKED_BYTES", 0)
    monkeypatch.setattr(files, "free_memory", lambda: 40_000)
    with pytest.raises(
        InputError, match=r"genes\.csv: 600 columns of 3 rows: takes about .* GB .* GB are free"
    ):
        flags(TOML + WIDE, rows, names, table="genes.csv")
    assert files.room_for(39_000, "less") is None


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), RecursionError("deep")],
)
def test_a_full_memory_is_one_line_and_bad_input(error, monkeypatch, capsys):
    import sys

    from gnnpatient.cli import run

    def fails(*args, **more):
        raise error

    monkeypatch.setattr(sys.modules["gnnpatient.cli.data"], "tables_of", fails)
    assert run(["check", "pbc"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
