"""Databases and folders of shards give the rows that were put in, with their types, and open nothing else."""

import sqlite3
import sys
from contextlib import closing

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from gnnpatient.errors import InputError


@pytest.fixture
def scan(tmp_path):
    from gnnpatient.readers.database import scan

    return lambda name: scan(tmp_path, name)


def sqlite(path, *statements, rows=()):
    with closing(sqlite3.connect(path)) as base:
        for statement in statements:
            base.execute(statement)
        for row in rows:
            base.execute(f"INSERT INTO labs VALUES ({', '.join('?' * len(row))})", row)
        base.commit()
    return path


LABS = "CREATE TABLE labs (id TEXT, day INTEGER, value REAL, note)"
ROWS = [("01", 3, 1.5, "a"), ("1", None, 2, 7), (" 1", 4, None, 2.5), ("", 5, -1.0, None)]


def test_sqlite_keeps_types(tmp_path, scan):
    sqlite(tmp_path / "ward.sqlite", LABS, rows=ROWS)
    assert_frame_equal(
        scan("ward.sqlite/labs").collect(),
        pl.DataFrame(
            {
                "id": ["01", "1", " 1", ""],
                "day": [3, None, 4, 5],
                "value": [1.5, 2.0, None, -1.0],
                "note": ["a", "7", "2.5", None],  # text beside numbers: all of it is text
            }
        ),
    )


def test_a_column_without_a_cell_has_its_declared_type_and_bytes_stay_bytes(tmp_path, scan):
    made = "CREATE TABLE labs (i BIGINT, r DOUBLE PRECISION, t VARCHAR(9), n, b)"
    sqlite(tmp_path / "a.db", made, rows=[(None, None, None, None, b"\x00\xff")])
    frame = scan("a.db/labs").collect()
    assert dict(frame.schema) == {
        "i": pl.Int64,
        "r": pl.Float64,
        "t": pl.String,
        "n": pl.String,
        "b": pl.Binary,
    }
    assert frame["b"].item() == b"\x00\xff"
    sqlite(tmp_path / "a.db", "INSERT INTO labs VALUES (1, 1, 'a', 1, 'word')")
    with pytest.raises(InputError, match=r"a\.db/labs: column 'b' mixes bytes with text"):
        scan("a.db/labs")


CELL = (
    st.none()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=7))
def test_sqlite_gives_what_was_put_in(tmp_path_factory, rows):
    """Against Python's own view of the cells: one kind a column, and the widest of those seen."""
    from gnnpatient.readers.database import scan

    folder = tmp_path_factory.mktemp("drawn")
    sqlite(folder / "a.db", "CREATE TABLE labs (p, q)", rows=rows)
    frame = scan(folder, "a.db/labs").collect()
    for name, column in zip("pq", zip(*rows, strict=True), strict=True):
        kinds = {type(cell) for cell in column} - {type(None)}
        if str in kinds or not kinds:
            assert frame.schema[name] == pl.String
            for cell, given_ in zip(frame[name], column, strict=True):
                assert (
                    given_ == cell if isinstance(given_, str | None) else float(cell) == pytest.approx(given_)
                )
        else:
            assert frame.schema[name] == (pl.Float64 if float in kinds else pl.Int64)
            assert frame[name].to_list() == list(column)


def test_only_what_is_asked_for_is_read_across_batches(tmp_path, scan, monkeypatch):
    from gnnpatient.readers import database

    monkeypatch.setattr(database, "BATCH", 3)
    rows = [(f"p{i}", i, i / 2, None) for i in range(10)]
    sqlite(tmp_path / "ward.db", LABS, rows=rows)
    labs = scan("ward.db/labs")
    assert labs.collect()["day"].to_list() == list(range(10))
    assert labs.filter(pl.col("day") > 6).select("id").collect()["id"].to_list() == ["p7", "p8", "p9"]
    assert labs.head(4).collect().height == 4
    assert labs.select(pl.len()).collect().item() == 10


def test_names_are_only_names(tmp_path, scan):
    odd = 'la"bs"; DROP TABLE x; --/1'
    made = 'CREATE TABLE "la""bs""; DROP TABLE x; --/1" ("a""b" INTEGER)'
    sqlite(
        tmp_path / "ward.db",
        "CREATE TABLE x (a)",
        made,
        'INSERT INTO "la""bs""; DROP TABLE x; --/1" VALUES (3)',
    )
    assert scan(f"ward.db/{odd}").collect().to_dict(as_series=False) == {'a"b': [3]}
    with pytest.raises(InputError, match="x: no rows"):
        scan("ward.db/x")  # it is still there
    with pytest.raises(InputError, match="no table 'xx'; did you mean 'x'"):
        scan("ward.db/xx")
    with pytest.raises(InputError, match=r"name a table of it, as in ward\.db/"):
        scan("ward.db")
    with pytest.raises(InputError, match="no table 'sqlite_master'"):
        scan("ward.db/sqlite_master")


def test_a_sqlite_file_is_not_changed_and_a_view_is_read(tmp_path, scan):
    from gnnpatient.readers import database

    path = sqlite(
        tmp_path / "ward.db", LABS, "CREATE VIEW old AS SELECT id, day + 1 AS day FROM labs", rows=ROWS
    )
    before = path.read_bytes()
    assert scan("ward.db/old").collect()["day"].to_list() == [4, None, 5, 6]
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["ward.db"]
    with database._open_sqlite(path) as base, pytest.raises(sqlite3.OperationalError, match="readonly"):
        base.execute("DELETE FROM labs")


def test_a_broken_or_locked_sqlite_file_is_refused(tmp_path, scan, monkeypatch):
    from gnnpatient.readers import database

    monkeypatch.setattr(database, "WAIT", 0.05)
    path = sqlite(tmp_path / "ward.db", LABS, rows=ROWS * 400)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match=r"ward\.db/labs: database is locked"):
            scan("ward.db/labs")
    labs = scan("ward.db/labs")
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(InputError, match=r"ward\.db/labs: database disk image is malformed"):
        labs.collect()
    with pytest.raises(InputError, match="malformed"):
        scan("ward.db/labs")
    path.write_bytes(b"id,day\n1,2\n")
    with pytest.raises(InputError, match="not a SQLite database"):
        scan("ward.db/labs")
    path.write_bytes(b"")
    with pytest.raises(InputError, match="not a SQLite database"):
        scan("ward.db/labs")
    with pytest.raises(InputError, match=r"wad\.db: no such file; did you mean 'ward\.db'"):
        scan("wad.db/labs")


def test_text_that_is_not_utf8_is_refused(tmp_path, scan):
    sqlite(tmp_path / "a.db", LABS, "INSERT INTO labs (id) VALUES (CAST(x'ff41' AS TEXT))")
    with pytest.raises(InputError, match=r"a\.db/labs: Could not decode"):
        scan("a.db/labs").collect()


def test_a_table_that_changes_between_scan_and_read_is_refused(tmp_path, scan):
    sqlite(tmp_path / "a.db", LABS, rows=[("p", 1, 1.0, 5)])
    labs = scan("a.db/labs")
    sqlite(tmp_path / "a.db", "UPDATE labs SET note = 'five'")
    with pytest.raises(InputError, match="changed while it was read"):
        labs.collect()


def test_what_is_not_ours_is_left_to_others(tmp_path, scan):
    (tmp_path / "labs.csv").write_text("id\n1\n")
    (tmp_path / "labs.parquet").write_bytes(b"")
    for name in ("labs.csv", "labs.parquet", "labs", "../labs.csv", ""):
        assert scan(name) is None


@pytest.mark.parametrize("name", ["../out.db/labs", "{out}/labs", "../outside", "link.db/labs", "labs"])
def test_nothing_outside_the_folder_is_opened(tmp_path, name):
    from gnnpatient.readers.database import scan

    out = sqlite(tmp_path / "out.db", LABS, rows=ROWS)
    (tmp_path / "outside").mkdir()
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "outside" / "0.parquet")
    (inside := tmp_path / "inside").mkdir()
    (inside / "link.db").symlink_to(out)
    (inside / "labs").mkdir()
    (inside / "labs" / "0.parquet").symlink_to(tmp_path / "outside" / "0.parquet")
    with pytest.raises(InputError, match="leads out of"):
        scan(inside, name.format(out=out))


def test_shards_are_one_table(tmp_path, scan):
    for place, low in (("labs/a/1", 0), ("labs/a/2", 2), ("labs/b/year=2020/0", 4)):
        path = tmp_path / f"{place}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = pl.DataFrame({"day": [low, low + 1], "code": ["x", None]})
        frame.select("code", "day").write_parquet(path) if low == 2 else frame.write_parquet(path)
    (tmp_path / "labs" / "._0.parquet").write_bytes(b"not a table")
    want = pl.DataFrame({"day": range(6), "code": ["x", None] * 3})
    assert_frame_equal(scan("labs").collect(), want)
    assert_frame_equal(scan("labs/").collect(), want)
    assert_frame_equal(scan("labs/a").collect(), want.head(4))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"day": [1.0], "code": ["x"]}, r"2\.parquet: column 'day' is Float64, in 1\.parquet Int64"),
        ({"day": [1]}, r"2\.parquet: column 'code' is not there, in 1\.parquet String"),
        (
            {"day": [1], "code": ["x"], "unit": ["g"]},
            r"2\.parquet: column 'unit' is String, in 1\.parquet not there",
        ),
    ],
)
def test_a_shard_of_another_shape_is_refused(tmp_path, scan, other, said):
    (tmp_path / "labs").mkdir()
    pl.DataFrame({"day": [1], "code": ["x"]}).write_parquet(tmp_path / "labs" / "1.parquet")
    pl.DataFrame(other).write_parquet(tmp_path / "labs" / "2.parquet")
    with pytest.raises(InputError, match=said):
        scan("labs")


def test_a_folder_without_a_readable_shard_is_refused(tmp_path, scan):
    (tmp_path / "labs").mkdir()
    with pytest.raises(InputError, match=r"no \.parquet file below"):
        scan("labs")
    (tmp_path / "labs" / "0.parquet").write_bytes(b"hello world")
    with pytest.raises(InputError, match=r"0\.parquet: .*parquet"):
        scan("labs")
    pl.DataFrame({"a": []}).write_parquet(tmp_path / "labs" / "0.parquet")
    with pytest.raises(InputError, match="labs: no rows"):
        scan("labs")


@pytest.fixture
def duck(tmp_path):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")

    def make(name, *statements):
        with closing(duckdb.connect(str(tmp_path / name))) as base:
            for statement in statements:
                base.execute(statement)
        return tmp_path / name

    return make


def test_duckdb_keeps_types(duck, scan):
    made = """CREATE TABLE labs AS SELECT i::INTEGER AS day, i / 2 AS value, 'x' || i AS code,
              (CASE WHEN i = 0 THEN 'g' ELSE 'l' END)::unit AS unit, TIMESTAMP '2021-03-04 05:06:07' AS at,
              NULLIF(i, 1) AS gap, INTERVAL 2 DAY AS span FROM range(3) t(i)"""
    duck("ward.db", "CREATE TYPE unit AS ENUM ('g', 'l')", made)
    frame = scan("ward.db/labs").collect()
    assert frame["day"].to_list() == [0, 1, 2]
    assert frame["value"].to_list() == [0.0, 0.5, 1.0]
    assert frame["unit"].to_list() == ["g", "l", "l"]
    assert frame["gap"].to_list() == [0, None, 2]
    assert frame["span"].to_list() == ["2 days"] * 3
    assert frame.schema["at"] == pl.Datetime("us")
    assert {frame.schema[name] for name in ("code", "unit", "span")} == {pl.String}


def test_duckdb_reads_what_is_asked_for(duck, scan):
    duck(
        "ward.duckdb",
        "CREATE SCHEMA clinic",
        "CREATE TABLE clinic.labs AS SELECT i, i % 7 AS j FROM range(99_999) t(i)",
    )
    labs = scan("ward.duckdb/clinic.labs")
    rest = labs.filter(pl.col("j") == 3).select("i").collect()["i"]
    assert rest.sort().to_list() == list(range(3, 99_999, 7))
    assert labs.select(pl.len()).collect().item() == 99_999
    assert labs.head(5).collect().height == 5


def test_duckdb_names_are_only_names(duck, scan):
    duck("a.duckdb", 'CREATE TABLE "la""bs" AS SELECT 1 AS "x""y"', "CREATE TABLE none (a INTEGER)")
    assert scan('a.duckdb/la"bs').collect().to_dict(as_series=False) == {'x"y': [1]}
    with pytest.raises(InputError, match="no table 'nine'; did you mean 'none'"):
        scan("a.duckdb/nine")
    with pytest.raises(InputError, match="none: no rows"):
        scan("a.duckdb/none")


def test_a_duckdb_view_reads_no_other_file(duck, scan, tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    duck("a.duckdb", f"CREATE VIEW v AS SELECT * FROM read_csv('{tmp_path}/secret.csv')")
    with pytest.raises(InputError, match=r"a\.duckdb/v: Permission Error"):
        scan("a.duckdb/v")


def test_a_broken_duckdb_file_is_refused(duck, scan):
    path = duck("a.duckdb", "CREATE TABLE labs AS SELECT i FROM range(9) t(i)")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"a\.duckdb/labs: "):
        scan("a.duckdb/labs")
    path.write_bytes(b"hello world, this is text")
    with pytest.raises(InputError, match="not a DuckDB database"):
        scan("a.duckdb/labs")


def test_a_duckdb_file_that_another_holds_is_refused(duck, scan):
    path = duck("a.duckdb", "CREATE TABLE labs AS SELECT 1 AS i")
    import duckdb

    with closing(duckdb.connect(str(path))), pytest.raises(InputError, match=r"a\.duckdb/labs: .*onnection"):
        scan("a.duckdb/labs")


def test_without_duckdb_its_extra_is_named(tmp_path, scan, monkeypatch):
    (tmp_path / "a.duckdb").write_bytes(b"12345678DUCK" + bytes(20))
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(InputError, match=r"pip install 'gnnpatient\[database\]'"):
        scan("a.duckdb/labs")
