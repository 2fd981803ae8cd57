"""One reader of CSV: `init`, `check` and the formats read the same files, and refuse the same ones."""

import gzip

import polars as pl
import pytest

from gnnpatient.errors import InputError

HEAD = "pid,day,code,value\n"
ROW = "P1,1,CRP,12\n"
BROKEN = {  # how a file is broken: its bytes, and what is said of it
    "too many cells": (
        HEAD + ROW + "P2,1,CRP,1,more\n",
        "line 3 has 5 cells, the header 4; write every cell",
    ),
    "too few cells": (HEAD + ROW + "P2,1\n", "line 3 has 2 cells, the header 4; write every cell"),
    "a quote never closed": (HEAD + ROW + 'P2,1,"CRP,1\n' + ROW, "a quote on line 3 is never closed"),
    "two quotes never closed": (
        HEAD + 'P1,1,"CRP,1\n' + ROW + 'P2,2,"GLU,2\n' + ROW,
        "a quote on line 2 is never closed",
    ),
    "a name twice in the header": ("pid,day,value,value\n" + ROW, "column 'value' appears twice"),
    "a NUL byte": (HEAD + ROW + "P2,1,C\0RP,1\n", "line 3 holds a NUL byte"),
    "a blank first line": ("\n" + HEAD + ROW, "line 1 is blank"),
    "a damaged gzip": (gzip.compress((HEAD + ROW * 99).encode())[:40], "ended before"),
    "gzip by another name": (gzip.compress((HEAD + ROW).encode()), "by its first bytes packed by gzip"),
    "UTF-16": ((HEAD + ROW).encode("utf-16"), "by its first bytes UTF-16"),
    "nothing but a header": (HEAD, "no rows"),
    "nothing": ("", "no rows"),
}


@pytest.fixture
def refusals(tmp_path):
    """What `init` and `check` say of one file, without its name; None = it is read."""

    def refusals_(content: str | bytes, name: str = "labs.csv", **keys) -> tuple[str | None, str | None]:
        from gnnpatient.propose import sheets
        from gnnpatient.readers.tables import read_table
        from gnnpatient.spec.tables import TableSpec

        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        init = check = None
        try:
            keys = sheets.read(tmp_path, name, "").block.keys
        except InputError as error:
            init = str(error).removeprefix(f"{name}: not read: ")
        try:
            read_table(tmp_path, name, TableSpec(**keys))
        except InputError as error:
            check = str(error).removeprefix(f"{path}: ")
        return init, check

    return refusals_


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_init_and_check_refuse_the_same_file_alike(refusals, content, message):
    name = "labs.csv.gz" if "ended" in message else "labs.csv"
    init, check = refusals(content, name)
    assert init == check and check is not None and message in check


def test_init_refuses_what_is_broken_behind_the_rows_that_it_looks_at(refusals, monkeypatch):
    monkeypatch.setattr("gnnpatient.propose.sheets.MAX_ROWS", 5)
    init, check = refusals(HEAD + ROW * 9 + "P2,1\n")
    assert init == check and "line 11 has 2 cells" in (check or "")


WRITTEN = {  # files that are read, once they are described as `init` describes them
    "latin1": (HEAD + "P1,1,Müller,3\n").encode("latin1"),
    "semicolons": (HEAD + ROW).replace(",", ";").encode(),
    "a byte order mark": b"\xef\xbb\xbf" + (HEAD + ROW).encode(),
    "an inch": (HEAD + 'P1,1,5" tube,3\n').encode(),
    "blank lines": (HEAD + "\n" + ROW + "\n\n").encode(),
    "a line in quotes": (HEAD + 'P1,1,"two\nlines",3\n').encode(),
}


@pytest.mark.parametrize("content", WRITTEN.values(), ids=WRITTEN)
def test_check_reads_what_init_describes(refusals, content):
    assert refusals(content) == (None, None)


PERSON = "person_id,year_of_birth\n1,1960\n"
DRUG = "person_id,drug_concept_id,drug_exposure_start_date\n"
BROKEN_OMOP = {
    "too many cells": (
        DRUG + "1,300,2020-01-01,more\n",
        "line 2 has 4 cells, the header 3; write every cell",
    ),
    "a quote never closed": (DRUG + '1,300,"2020-01-01\n1,300,2020-01-01\n', "a quote on line 2 is never"),
    "a name twice": ("person_id,person_id\n1,1\n", "column 'person_id' appears twice in the header"),
    "latin1": ((DRUG + "1,ü,2020-01-01\n").encode("latin1"), "not utf-8; write it as utf-8"),
    "a NUL byte": (DRUG + "1,30\0,2020-01-01\n", "line 2 holds a NUL byte"),
    "a blank first line": ("\n" + DRUG + "1,300,2020-01-01\n", "line 1 is blank"),
    "semicolons": ((DRUG + "1,300,2020-01-01\n").replace(",", ";"), "separate the cells by commas or tabs"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN_OMOP.values(), ids=BROKEN_OMOP)
def test_omop_is_read_by_the_same_rule(tmp_path, content, message):
    from gnnpatient.readers.omop import read

    (tmp_path / "person.csv").write_text(PERSON)
    (tmp_path / "drug_exposure.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=r"drug_exposure\.csv: ") as error:
        read(tmp_path)
    assert message in str(error.value)


def test_omop_takes_a_quote_inside_a_cell_and_an_empty_table(tmp_path):
    from gnnpatient.readers.omop import read

    source = DRUG.replace("\n", ",drug_source_value\n")
    (tmp_path / "person.csv").write_text(PERSON)
    (tmp_path / "drug_exposure.csv").write_text(source + '1,0,2020-01-01,5" tube\n')
    (tmp_path / "death.csv").write_text("person_id,death_date\n")
    tables = read(tmp_path).tables
    assert tables["drug_exposure"].collect()["code"].to_list() == ['DRUG//5" tube']
    assert tables["death"].select(pl.len()).collect().item() == 0


@pytest.mark.parametrize("packed", [False, True])
def test_a_large_file_is_read_in_parts_and_means_the_same(tmp_path, monkeypatch, packed):
    """Each part is smaller than the file, so that columns, filters, limits and long lines cross its edges."""
    from gnnpatient.readers import csv_file
    from gnnpatient.readers.tables import read_table

    rows = [f'{i},"a, {"x" * (i % 50)}",{"" if i % 7 else "NA"}' for i in range(3000)]
    content = ("id,text,empty\n" + "\n".join(rows) + "\n").encode()
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    whole = read_table(tmp_path, path.name)
    monkeypatch.setattr(csv_file, "_MIN_LARGE", 1)
    monkeypatch.setattr(csv_file, "_PART", 4096)
    parts = read_table(tmp_path, path.name)
    assert isinstance(whole, pl.DataFrame) and isinstance(parts, pl.LazyFrame)
    assert parts.collect().equals(whole) and parts.select(pl.len()).collect().item() == 3000
    late = parts.with_row_index("row").filter(pl.col("id").is_in(["7", "2999"])).select("row", "text")
    assert late.collect(engine="streaming")["row"].to_list() == [7, 2999]
    assert parts.head(500).collect().equals(whole.head(500))
    long = "9,{},\n".format("y" * 10_000)
    path.write_bytes(gzip.compress(content + long.encode()) if packed else content + long.encode())
    assert len(read_table(tmp_path, path.name).lazy().collect()["text"][-1]) == 10_000
    path.write_bytes(gzip.compress(content + b"9,y\n") if packed else content + b"9,y\n")
    with pytest.raises(InputError, match="line 3002 has 2 cells, the header 3; write every cell"):
        read_table(tmp_path, path.name)
