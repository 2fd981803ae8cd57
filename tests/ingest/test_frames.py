"""Frames in memory: the same cohort as from files, bit for bit; one line for what is no frame."""

import datetime as dt
import json
import pickle
import tomllib
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest

from gnnpatient import PrognosisModel, open_cohort, read_cohort, read_spec
from gnnpatient.errors import InputError
from gnnpatient.propose import propose
from gnnpatient.testing import write_ward

TABLES = ("patients", "labs", "vitals", "drugs")


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """The folder of a small ward, and its spec as a dictionary."""
    folder = tmp_path_factory.mktemp("ward")
    return folder, tomllib.loads(write_ward(folder, 30).read_text())


@pytest.fixture
def frames(ward):
    """The tables of the ward as pandas reads them."""
    return {f"{name}.csv": pd.read_csv(ward[0] / f"{name}.csv") for name in TABLES}


def renamed(spec: dict, ending: str) -> dict:
    """The same spec with another ending of its tables."""
    return json.loads(json.dumps(spec).replace(".csv", ending))


def assert_same(one, other) -> None:
    """Every array, name, flag and count of two cohorts, whatever their tables are called."""
    arrays = [
        {name: (str(column.dtype), column.tobytes()) for name, column in cohort._columns().items()}
        for cohort in (one, other)
    ]
    assert arrays[0].keys() == arrays[1].keys()
    assert [name for name in arrays[0] if arrays[0][name] != arrays[1][name]] == []
    for name in ("codes", "units", "levels"):
        assert getattr(one, name) == getattr(other, name)
    reports = [json.dumps(cohort.report).replace(".parquet", ".csv") for cohort in (one, other)]
    assert reports[0] == reports[1] and one.flow() == other.flow()


@pytest.mark.parametrize("lazy", [False, True])
def test_text_is_read_as_csv(ward, lazy):
    folder, spec = ward
    frames = {f"{name}.csv": pl.read_csv(folder / f"{name}.csv", infer_schema=False) for name in TABLES}
    frames = {name: frame.lazy() if lazy else frame for name, frame in frames.items()}
    assert_same(read_cohort(spec, frames), read_cohort(spec, folder))


# What a column may hold, by what the spec takes it for: six cells, some missing.
DAYS = [1.0, 2.5, None, 4.0, 5.0, 6.25]
CLOCKS = [None if day is None else dt.datetime(2020, 3, 4, 5, 6, 7) + dt.timedelta(day) for day in DAYS]
WHOLE = [3, None, 1, 2, 2, 1]
NUMBER = {
    "int": pl.Series(WHOLE, dtype=pl.Int16),
    "unsigned": pl.Series(WHOLE, dtype=pl.UInt8),
    "float32": pl.Series(DAYS, dtype=pl.Float32),
    "nan": pl.Series([1.5, float("nan"), None, 4, 5, 6]),
    "bool": pl.Series([True, None, False, True, True, False]),
    "decimal": pl.Series([Decimal("1.50"), None, *map(Decimal, ("2.25", "3", "4", "5"))]),
    "pd_Int64": pd.Series(WHOLE, dtype="Int64"),
    "pd_float": pd.Series(WHOLE),
    "pd_boolean": pd.Series([True, None, False, True, True, False], dtype="boolean"),
    "pd_objects": pd.Series([1, 2.5, None, pd.NA, 3, 4], dtype=object),
    "pd_arrow": pd.Series(WHOLE, dtype="int32[pyarrow]"),
}
CATEGORY = {
    "words": pl.Series(["a", None, "", "NA", "b", "a"]),
    "categorical": pl.Series(["a", None, "", "NA", "b", "a"], dtype=pl.Categorical),
    "enum": pl.Series(["b", None, "a", "a", "b", "a"], dtype=pl.Enum(["b", "a"])),
    "code": pl.Series([1.0, None, 2.0, 2.5, 1.0, 2.0]),
    "date": pl.Series([dt.date(2020, 1, 1), None, *[dt.date(2021, 1, 1)] * 4]),
    "pd_category": pd.Series(["a", None, "b", "NA", "b", "a"], dtype="category"),
    "pd_numbers": pd.Series([1, None, 2, 2, 1, 2], dtype="category"),
    "pd_string": pd.Series(["a", None, "b", "", "b", "a"], dtype="string"),
    "pd_object": pd.Series(["a", np.nan, None, pd.NA, "b", "a"], dtype=object),
    "pd_bool": pd.Series([True, None, False, True, True, False], dtype=object),
}
TIME = {
    "days": pl.Series(DAYS),
    "span": pl.Series([None if day is None else dt.timedelta(day) for day in DAYS]),
    "clock_ms": pl.Series(CLOCKS, dtype=pl.Datetime("ms")),
    "clock_ns": pl.Series(CLOCKS, dtype=pl.Datetime("ns")),
    "zone": pl.Series(CLOCKS).dt.replace_time_zone("Europe/Berlin"),
    "day": pl.Series(CLOCKS).dt.date(),
    "iso": pl.Series(CLOCKS).dt.to_string("iso"),
    "pd_clock": pd.Series(CLOCKS, dtype="datetime64[ns]"),
    "pd_zone": pd.Series(CLOCKS, dtype="datetime64[us]").dt.tz_localize("America/New_York"),
    "pd_span": pd.Series(pd.to_timedelta(DAYS, unit="D")),
    "pd_dates": pd.Series([None if day is None else day.date() for day in CLOCKS], dtype=object),
    "pd_stamps": pd.Series([None if day is None else pd.Timestamp(day) for day in CLOCKS], dtype=object),
}


@pytest.mark.parametrize("library", ["polars", "pandas"])
@pytest.mark.parametrize("ids", ["text", "int", "float"])
def test_typed_columns_are_read_as_parquet(tmp_path, library, ids):
    """A frame gives the cohort of the same table written as parquet and read from a folder."""

    number, category, time = (
        {name: cells for name, cells in role.items() if name.startswith("pd_") == (library == "pandas")}
        for role in (NUMBER, CATEGORY, TIME)
    )
    key = {"text": list("012345"), "int": list(range(6)), "float": [float(i) for i in range(6)]}[ids]
    columns = {"pid": key, "born": [dt.datetime(2020, 3, 4)] * 6, "end": [9.0] * 6, "dead": [0, 1] * 3}
    columns |= number | category | time
    measured = {"table": "all.csv", "columns": dict.fromkeys(number, "")}
    spec = {
        "cohort": "six",
        "patient": {"table": "all.csv", "key": "pid", "origin": "born", "known": "0d"}
        | {"number": list(number), "category": list(category)},
        "nodes": {name: {**measured, "time": name} for name in time},
        "outcomes": {
            "death": {
                "kind": "survival",
                "table": "all.csv",
                "causes": {"death": {"time": "end", "flag": "dead"}},
            }
        },
    }
    if library == "polars":
        frame = pl.DataFrame(columns)
        before = frame.clone()
        frame.write_parquet(tmp_path / "all.parquet")
    else:
        frame = pd.DataFrame(columns)
        before = frame.copy(deep=True)
        frame.to_parquet(tmp_path / "all.parquet")
    there = read_cohort(renamed(spec, ".parquet"), tmp_path)
    assert there.ids.tolist() == list("012345") and all(len(there.events[name]) > 10 for name in time)
    assert_same(read_cohort(renamed(spec, ".parquet"), {"all.parquet": frame}), there)
    assert_same(read_cohort(spec, {"all.csv": frame}), there)
    assert frame.equals(before)


def test_an_index_with_a_name_is_a_column_and_row_numbers_are_none(ward, frames):
    folder, spec = ward
    frames["labs.csv"] = frames["labs.csv"].set_index(["pid", "drawn"])
    every = pd.concat([frames["vitals.csv"], frames["vitals.csv"].assign(pid="nobody")])
    frames["vitals.csv"] = every[every["pid"] != "nobody"].iloc[::-1].iloc[::-1]
    assert_same(read_cohort(spec, frames), read_cohort(spec, folder))


def test_memory_is_shared_and_what_nobody_asks_for_is_not_judged(ward, frames):
    from gnnpatient.readers.frames import Frames

    folder, spec = ward
    labs = frames["labs.csv"]
    read = Frames({"labs.csv": labs.assign(result=np.arange(len(labs), dtype=float))}).table("labs.csv")
    assert read["result"].to_list() == list(range(len(labs)))
    whole = pl.DataFrame({"a": [1, 2]})
    assert Frames({"a": whole}).table("a") is whole
    frames["labs.csv"] = labs.assign(
        mixed=["a", *range(1, len(labs))], sparse=pd.arrays.SparseArray([0] * len(labs))
    )
    assert_same(read_cohort(spec, frames), read_cohort(spec, folder))


def test_what_is_no_frame_is_refused_by_its_name(ward, frames):
    labs = frames["labs.csv"]
    for given, message in (
        (
            {"lab.csv": labs, "patients.csv": frames["patients.csv"]},
            "labs.csv: no such frame; did you mean 'lab.csv'",
        ),
        ({**frames, "labs.csv": labs[:0]}, "labs.csv: frame has no rows"),
        ({**frames, "labs.csv": {"pid": [1]}}, "labs.csv: dict is no frame; give a pandas or polars"),
        ({**frames, "labs.csv": labs.to_numpy()}, "labs.csv: ndarray is no frame"),
        ({**frames, "labs.csv": labs["pid"]}, "labs.csv: a Series is one column"),
        (
            {**frames, "labs.csv": "ward/labs.csv"},
            "labs.csv: 'ward/labs.csv' is a path; a mapping holds frames",
        ),
        ({1: labs}, "tables: 1 is no name of a table"),
        (labs, "tables: a frame without a name; give .*{'patients.csv': frame}"),
        ([labs], "tables: list is no frame; give a folder, or a mapping"),
        ({}, "tables: an empty mapping"),
    ):
        with pytest.raises(InputError, match=message) as found:
            read_cohort(ward[1], given)
        assert "\n" not in str(found.value)


def test_columns_that_cannot_be_read_are_refused_by_their_name(ward, frames):
    labs = frames["labs.csv"]
    mixed = ["high", *range(1, len(labs))]
    for given, message in (
        (labs.assign(result=mixed), "column 'result' holds cells of several types.*; write one plain value"),
        (
            labs.assign(result=[[1]] * len(labs)),
            r"column 'result' holds List\(Int64\); write one plain value",
        ),
        (
            labs.assign(drawn=pd.period_range("2020", periods=len(labs))),
            "column 'drawn' holds cells of several",
        ),
        (pl.DataFrame(labs).with_columns(result=pl.struct("pid")), r"column 'result' holds Struct"),
        (labs.rename(columns={"pid": "id"}), "no column 'pid'; did you mean 'id'"),
        (labs.rename(columns={"pid": 3}), "frame has a column called 3, which is not text"),
        (labs.rename(columns={"analyte": "pid"}), "column 'pid' appears twice in the frame"),
        (labs.set_index("pid", drop=False), "frame has an index called 'pid', as a column is, too"),
        (
            labs.set_index(labs["pid"].rename(None)),
            r"frame has an index of \w+ without a name; .*rename_axis.*reset_index",
        ),
    ):
        with pytest.raises(InputError, match=f"^labs.csv: {message}"):
            read_cohort(ward[1], {**frames, "labs.csv": given})


def test_a_format_and_files_need_a_folder(ward, frames):
    _, spec = ward
    with pytest.raises(InputError, match="format = 'omop' is read from a folder, not from frames"):
        read_cohort({"cohort": "x", "format": "omop"}, frames)
    image = {"table": "labs.csv", "time": "drawn", "file": "analyte", "embed": "handmade"}
    with pytest.raises(InputError, match="frames in none; give files=FOLDER"):
        read_cohort({**spec, "nodes": {"image": image}}, frames)
    with pytest.raises(InputError, match=r"none of \d+ rows is used: \d+ image: no such file"):
        read_cohort({**spec, "nodes": {"image": image}}, frames, files=ward[0])


def test_a_spec_is_a_dictionary(ward):
    folder, spec = ward
    assert read_spec(spec) == read_spec(folder / "ward.toml")
    assert read_spec(whole := read_spec(spec)) is whole
    for given, message in (
        ({**spec, "nods": {}}, "spec: top level: unknown key 'nods'; did you mean 'nodes'"),
        ({**spec, "patient": {"table": "patients.csv", "kye": "pid"}}, "spec: patient: unknown key 'kye'"),
        ({**spec, "source": 3}, "spec: source: "),
        (
            {**spec, "timepoints": {"every": 30}},
            "timepoints.every: must be a duration in quotes, as in '30d'",
        ),
        ({**spec, "units": {1: {"to": "g"}}}, "spec: units: key 1 is not text; write '1'"),
        ({**spec, "nodes": {"lab": spec}}, "spec: nodes.lab: unknown key 'cohort'"),
        ((folder / "ward.toml").read_text(), r"spec: a text of several lines; read_spec\(tomllib.loads"),
        (3, "spec: int is no spec; give a path, a shipped name or a dictionary"),
    ):
        with pytest.raises(InputError, match=message):
            read_spec(given)


def test_a_draft_of_frames_is_that_of_the_folder(ward, frames):
    folder, _ = ward
    text = propose(str(folder)).replace(f'cohort = "{folder.name}"', 'cohort = "cohort"')
    assert propose(frames) == propose(dict(reversed(frames.items()))) == text
    assert_same(read_cohort(tomllib.loads(text), frames), read_cohort(tomllib.loads(text), folder))
    nested = {**frames, "labs.csv": frames["labs.csv"].assign(parts=[[1]] * len(frames["labs.csv"]))}
    assert propose(nested).startswith(text.partition("# Left out")[0])
    with pytest.raises(InputError, match=r"the frames: no table that can be read .*frame has no rows"):
        propose({"labs.csv": frames["labs.csv"][:0]})


def test_a_cohort_of_frames_travels_between_processes(ward, frames):
    cohort = read_cohort(ward[1], frames)
    assert_same(pickle.loads(pickle.dumps(cohort)), cohort)


def unanswered(frames: dict) -> dict:
    """The same tables before anything has come of anybody."""
    return {**frames, "patients.csv": frames["patients.csv"].drop(columns=["left", "died", "discharged"])}


def test_without_outcomes_the_inputs_are_the_same(ward, frames, tmp_path):
    """Also what an outcome hides stays hidden, and patterns take no column of an outcome for an input."""
    _, spec = ward
    hides = {
        "kind": "diagnosis",
        "table": "patients.csv",
        "column": "died",
        "known": "left",
        "classes": {"0": "no", "1": "yes"},
        "hide": ["heparin"],
    }
    wide = {"table": "patients.csv", "untimed": "origin", "columns": {"*": ""}}
    frames["patients.csv"]["weight"] = 70.0
    frames["patients.csv"]["site"] = "a"
    spec = {**spec, "nodes": {**spec["nodes"], "once": wide}, "outcomes": {**spec["outcomes"], "dx": hides}}
    spec["patient"] = {**spec["patient"], "exit": "left"}
    known = read_cohort(spec, frames)
    new = read_cohort(spec, unanswered(frames), outcomes=False)
    with_them = read_cohort(spec, frames, outcomes=False)
    hidden = new.codes["drug"].index("heparin")
    assert hidden not in new.events["drug"].code and new.codes == with_them.codes == known.codes
    assert not new.outcomes and new.spec.nodes == known.spec.nodes
    ours, theirs = (
        {
            name: column.tobytes()
            for name, column in cohort._columns().items()
            if not name.startswith("outcome.")
        }
        for cohort in (new, known)
    )
    assert ours == theirs
    assert open_cohort(new.save(tmp_path / "new")).spec == new.spec
    few = {name: frame[frame["pid"] == "p001"] for name, frame in unanswered(frames).items()}
    assert len(read_cohort(spec, few, outcomes=False)) == 1  # no code that fits the pattern of hide
    with pytest.raises(InputError, match="outcomes = 'death'; must be True or False"):
        read_cohort(spec, frames, outcomes="death")
    with pytest.raises(InputError, match=r"patients.csv: no column 'left'"):
        read_cohort(spec, unanswered(frames))


@pytest.mark.slow
def test_a_new_patient_gets_the_forecast_that_she_had_among_others(ward, frames):
    _, spec = ward
    cohort = read_cohort(spec, frames)
    model = PrognosisModel(members=1, epochs=1, horizon=20.0, channels=8)
    model.fit(cohort.landmarks(times=[0.0, 2.0]).followed("death"))
    for patient in cohort.ids[[0, 7, -1]]:  # the last one has no row
        one = {name: frame[frame["pid"] == patient] for name, frame in unanswered(frames).items()}
        for tables in (one, {name: pl.from_pandas(frame) for name, frame in one.items()}):
            new = read_cohort(spec, tables, outcomes=False)
            forecasts = model.forecast(new.at(0.0)), model.forecast(cohort.at(0.0, patient=patient))
            assert np.array_equal(*(forecast["death"].incidence for forecast in forecasts))
