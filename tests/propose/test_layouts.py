"""What a draft says of tables whose rows belong together, of units in a README, and what it asks for.

That the drafts can be read, and lead to an answer, is tested in tests/cli/test_layouts.py.
"""

import numpy as np
import polars as pl
import pytest

from gnnpatient.errors import InputError
from gnnpatient.propose import propose

SIZE = 60


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def one_row(rng, **more) -> pl.DataFrame:
    """A row a patient with an outcome, and further columns."""
    base = {
        "id": np.arange(1, SIZE + 1),
        "age": rng.integers(30, 90, SIZE),
        "futime": rng.integers(10, 3000, SIZE),
        "death": rng.integers(0, 2, SIZE),
    }
    return pl.DataFrame(base | more)


def chain(rng, flag: str, came) -> pl.DataFrame:
    """Three rows a patient from day to day, and a flag: (patient, row) int."""
    cuts = np.cumsum(rng.integers(5, 90, (SIZE, 3)), 1)
    start = np.concatenate([np.zeros((SIZE, 1), int), cuts[:, :-1]], 1)
    columns = {"id": np.repeat(np.arange(SIZE), 3), "start": start.ravel(), "stop": cuts.ravel()}
    return pl.DataFrame({**columns, flag: np.asarray(came).ravel(), "dose": rng.normal(0, 1, 3 * SIZE)})


def drafted(**tables) -> str:
    return propose({f"{name}.csv": table for name, table in tables.items()})


@pytest.mark.parametrize(
    ("came", "says"),
    [
        (lambda ill: [ill * 0, ill * 0, ill], 'flag = "event" }'),
        (lambda ill: [ill, ill, ill], 'pick = "last"'),
        (lambda ill: [ill, ill * 0, 1 - ill], 'pick = "first"'),
    ],
)
def test_a_flag_at_the_end_repeated_or_recurrent(rng, came, says):
    ill = np.arange(SIZE) % 2
    text = drafted(rows=chain(rng, "event", np.stack(came(ill), 1)))
    assert says in text and 'start = "start", stop = "stop"' in text
    assert ("pick" in text) == ("pick" in says)
    assert 'columns = { dose = "" }' in text and "until" not in text


def test_a_flag_is_told_by_what_it_holds(rng):
    cut = np.stack([np.ones(SIZE, int), np.ones(SIZE, int), np.zeros(SIZE, int)], 1)
    assert "[outcomes.seizure]" in drafted(rows=chain(rng, "seizure", cut))
    later = np.stack([np.zeros(SIZE, int), np.arange(SIZE) % 2, np.arange(SIZE) % 2], 1)  # a treatment
    text = drafted(rows=chain(rng, "treated", later))
    assert "kind = " not in text and "treated" in text


def test_intervals_that_overlap_are_no_start_stop_rows(rng):
    drugs = chain(rng, "status", np.ones((SIZE, 3), int)).with_columns(stop=pl.col("stop") + 300)
    assert "stop = " not in drafted(drugs=drugs)


def test_a_value_and_its_own_flag_are_no_outcome(rng):
    score, flag = rng.normal(100, 9, SIZE).round(1), rng.integers(0, 2, SIZE)
    text = drafted(people=one_row(rng, score=score, score_flag=flag))
    assert "[outcomes.score]" not in text and 'number = ["age", "score"]' in text


def test_censoring_time_tells_pairs_from_values(rng):
    base, rec = one_row(rng), pl.Series(rng.integers(1, 900, SIZE))
    times = {"rec": pl.min_horizontal("futime", rec), "rec.s": (rec < base["futime"]).cast(pl.Int8)}
    times |= {"srv": pl.col("futime"), "srv.s": pl.col("death")}
    text = drafted(people=base.with_columns(**times).drop("futime", "death"))
    assert 'causes = { death = { time = "srv", flag = "srv.s" } }' in text
    assert 'rec = { time = "rec", flag = "rec.s" }, death = ' in text and 'number = ["age"]' in text


@pytest.mark.parametrize(
    ("readme", "unit"),
    [
        ("All times are in months.", "mo"),
        ("people: follow-up of 3 months or more. futime in weeks", "w"),
        (
            "| column | unit | meaning |\n|---|---|---|\n| `futime` | years | follow-up |\n| age | years | |",
            "y",
        ),
        ("people.csv: survival after surgery (months)", "mo"),
        ("people.csv: patients; age in years", ""),
        ("other.csv: futime in years", ""),
        ("Times are in months. In the appendix times are in weeks.", ""),
    ],
)
def test_units_of_time_from_the_readme(rng, tmp_path, readme, unit):
    one_row(rng).write_csv(tmp_path / "people.csv")
    pl.DataFrame({"id": [1, 1], "day": [0, 1], "x": [2, 3]}).write_csv(tmp_path / "other.csv")
    (tmp_path / "README.md").write_text(readme)
    text = propose(tmp_path)
    if unit:
        assert f'[tables."people.csv"]\ntime = {{ unit = "{unit}" }}' in text and "README" in text
    else:
        assert 'people.csv".time: futime is taken as days' in text


def test_units_of_values_from_a_table_in_the_readme(rng, tmp_path):
    one_row(rng, ferr=rng.normal(90, 9, SIZE), crea=rng.normal(1, 0.1, SIZE)).write_csv(
        tmp_path / "people.csv"
    )
    (tmp_path / "README.md").write_text("| variable | units |\n|---|---|\n| crea | mg/dL |\n| ferr | ng/mL |")
    text = propose(tmp_path)
    assert 'columns = { crea = "mg/dL" }' in text and "crea is in mg/dL: from the README" in text


def test_splits_labels_and_times_without_a_flag_are_asked(rng):
    more = {
        "fold": np.arange(SIZE) % 5,
        "set": np.where(np.arange(SIZE) % 3, "train", "test"),
        "response": np.arange(SIZE) % 2,
        "pfs": rng.integers(1, 300, SIZE),
        "days_to_relapse": rng.integers(1, 300, SIZE),
        "months_since_surgery": rng.integers(1, 300, SIZE),
        "protime": rng.normal(12, 1, SIZE),
    }
    text = drafted(people=one_row(rng, **more))
    asked = [line for line in text.splitlines() if line.startswith("# ASK:")]
    for words in ("fold looks like a split", "set looks like a split", "response: a state or a label"):
        assert any(words in line for line in asked), words
    assert any("pfs: the time of an outcome?" in line or "pfs, " in line for line in asked)
    assert 'number = ["age", "months_since_surgery"]' in text and "protime" in text.split("[nodes.")[1]


def test_numbers_of_records_predictions_and_last_days_are_not_taken(rng):
    days = pl.Series([f"2020-01-{1 + i % 28:02}" for i in range(SIZE)])
    table = one_row(
        rng,
        study_no=rng.permutation(SIZE) * 7,
        mrn=rng.permutation(SIZE) * 11,
        seen=np.arange(SIZE) + 5000,  # no name says so, but it counts the rows
        prediction=rng.normal(0, 1, SIZE),
        icu_after=np.arange(SIZE) % 2,
        last_contact=days,
        bmi=rng.normal(25, 3, SIZE),
    )
    text = drafted(people=table)
    assert 'number = ["age"' in text and "origin = " not in text
    for name in ("study_no", "mrn", "seen", "prediction", "icu_after", "last_contact"):
        assert f'"{name}"' not in text and name in text, name


def test_a_date_of_death_goes_before_the_last_day_of_the_data(rng):
    dead = np.arange(SIZE) % 3 == 0
    table = pl.DataFrame(
        {
            "id": np.arange(1, SIZE + 1),
            "age": rng.integers(30, 90, SIZE),
            "enrolled": [f"2020-01-{1 + i % 28:02}" for i in range(SIZE)],
            "died": dead.astype(int),
            "died_on": [f"2021-02-{1 + i % 28:02}" if d else None for i, d in enumerate(dead)],
            "last_seen": ["2022-01-01"] * SIZE,
            "los_days": rng.integers(1, 9, SIZE),
            "n_visits": rng.integers(1, 9, SIZE),
            "final_stage": np.arange(SIZE) % 2,
        }
    )
    text = drafted(people=table)
    assert 'exit = "last_seen"\ncauses = { death = { time = "died_on" } }' in text
    assert 'number = ["age"]' in text and "category" not in text.split("# Left out")[0]
    later = table.with_columns(last_seen=pl.lit("2021-01-01"))  # an exit before the deaths would hide them
    assert 'time = "last_seen", flag = "died"' in drafted(people=later)


def test_a_status_of_1_and_2_is_that_of_r(rng):
    text = drafted(people=one_row(rng).with_columns(status=1 + pl.col("death")).drop("death"))
    assert 'states = { 1 = "censored", 2 = "event" }' in text
    assert "ASK: outcomes.event: is that what the states of status mean?" in text


def test_columns_that_are_called_alike_are_one_pattern(rng):
    genes = {f"G{i}_expr": rng.normal(0, 1, SIZE) for i in range(30)}
    text = drafted(people=one_row(rng, **genes, empty_expr=[None] * SIZE))
    assert "[nodes.expression]" in text and 'columns = { "*_expr" = "" }' in text and "G7_expr" not in text
    leak = one_row(rng, **genes)
    leak = leak.with_columns((pl.col("death") * 2.0).alias("told_expr"))  # a pattern would take it in
    text = drafted(people=leak)
    assert '"*_expr"' not in text and "G7_expr" in text and "told_expr: nearly determines death" in text


def test_stays_of_a_person(rng):
    start = np.datetime64("2150-01-01") + np.arange(SIZE).astype("timedelta64[D]")
    stays = {
        "subject_id": np.arange(SIZE) // 2,
        "hadm_id": np.arange(SIZE) + 500,
        "admittime": start.astype(str),
        "dischtime": (start + 5).astype(str),
        "hospital_expire_flag": np.arange(SIZE) % 2,
        "insurance": ["a", "b", "b"] * (SIZE // 3),
    }
    tables = {
        "admissions": pl.DataFrame(stays),
        "patients": pl.DataFrame({"subject_id": np.arange(SIZE // 2), "sex": ["f", "m"] * (SIZE // 4)}),
        "labs": pl.DataFrame(
            {"hadm_id": stays["hadm_id"], "time": stays["dischtime"], "hdl": np.arange(SIZE)}
        ),
        "calls": pl.DataFrame({"subject_id": np.arange(SIZE // 2), "calls": np.arange(SIZE // 2)}),
    }
    text = drafted(**tables)
    assert 'join = { table = "patients.csv", by = "subject_id", columns = ["sex"] }' in text
    assert 'key = "hadm_id"\norigin = "admittime"' in text and 'group = "subject_id"' in text
    assert '0 = "discharge", 1 = "death"' in text and 'pick = "first" }, no group' in text
    assert "ASK: patient: insurance: known when a stay begins?" in text
    assert "calls.csv: has no hadm_id" in text and 'time = "time"' in text and "untimed" not in text
    alone = drafted(admissions=tables["admissions"], patients=tables["patients"])  # nothing names the stays
    assert 'key = "subject_id"' in alone


def test_codes_are_called_as_a_dictionary_calls_them(rng):
    item = rng.choice([7, 8], 4 * SIZE)
    labs = {"id": np.repeat(np.arange(1, SIZE + 1), 4), "day": np.tile(np.arange(4), SIZE), "itemid": item}
    labs = pl.DataFrame(labs | {"valuenum": rng.normal(5, 1, 4 * SIZE), "value": ["5"] * 4 * SIZE})
    items = pl.DataFrame({"itemid": [7, 8, 9], "label": ["sodium", "lactate", "rare"]})
    text = drafted(people=one_row(rng), labs=labs, d_items=items)
    assert 'join = { table = "d_items.csv", by = "itemid", columns = ["label"] }' in text
    assert 'code = "label"\nvalue = "valuenum"' in text and "d_items.csv: no column" not in text
    text = drafted(people=one_row(rng), labs=labs, d_items=pl.concat([items, items]))  # it names none
    assert "join" not in text and 'code = "itemid"' in text


def test_what_cannot_be_said_is_said_with_the_way_out(rng):
    with pytest.raises(InputError, match=r"If a row is a patient: .*with_row_index"):
        drafted(people=one_row(rng).drop("id"))
    eyes = one_row(rng).with_columns(id=pl.col("id") // 2)
    assert 'give it an id of its own as key, with group = "id"' in drafted(eyes=eyes)


def test_init_says_that_there_is_no_graph(rng, tmp_path, capsys):
    from gnnpatient.cli import run

    one_row(rng).write_csv(tmp_path / "people.csv")
    assert run(["init", str(tmp_path), "--out", str(tmp_path / "my.toml")]) == 0
    assert "this cohort has no graph: one row a patient; the linear model answers" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["StudyNr", "pat_no", "subj", "recipient", "unit_no", "anon", "Proband"])
def test_an_id_of_another_name_is_found_by_content_and_asked(rng, key):
    people = one_row(rng).rename({"id": key})
    assert f"is {key} the patient's id? it differs in every row" in drafted(people=people)
    visits = pl.DataFrame({key: np.repeat(people[key].to_numpy(), 2), "visit": np.tile([1, 2], SIZE)})
    visits = visits.with_columns(day=pl.col("visit") * 30, hdl=rng.integers(20, 90, 2 * SIZE))
    sites = pl.DataFrame({"site": range(5), "label": list("abcde")})
    text = drafted(people=people.with_columns(site=pl.col(key) % 5), visits=visits, sites=sites)
    assert f"is {key} the patient's id? 2 tables have it and it is unique in one" in text
    assert f'table = "people.csv"\nkey = "{key}"' in text and 'columns = { hdl = "" }' in text


def test_rows_in_time_tell_the_id_from_a_number_of_the_row(rng):
    rows = chain(rng, "event", np.arange(3 * SIZE) % 3 == 2).rename({"id": "subj"})
    text = drafted(rows=rows.with_columns(id=pl.int_range(pl.len()) + 1))
    assert 'key = "subj"' in text and "the next best is id: gnnpatient init DATA --key id" in text
    assert "60 patients by subj, several rows each" in text


def test_the_owner_names_the_id(rng):
    tables = {"people.csv": one_row(rng, bed=np.arange(SIZE) + 7)}
    assert 'key = "id"' in propose(tables) and '\nkey = "bed"' in propose(tables, key="Bed")
    with pytest.raises(InputError, match="no table has a column 'beds'; did you mean 'bed'"):
        propose(tables, key="beds")


def test_ids_under_another_name_and_by_a_join(rng):
    people = one_row(rng).with_columns(id=pl.format("P{}", pl.col("id")))
    stays = {"encounter": np.arange(2 * SIZE) + 500, "id": np.repeat(people["id"].to_numpy(), 2)}
    stays = pl.DataFrame(stays | {"day": rng.integers(0, 90, 2 * SIZE), "hdl": rng.normal(50, 5, 2 * SIZE)})
    labs = {"encounter": np.repeat(stays["encounter"].to_numpy(), 2), "crea": rng.normal(1, 0.2, 4 * SIZE)}
    labs = pl.DataFrame(labs | {"day": np.tile([0, 30], 2 * SIZE)})
    calls = pl.DataFrame({"of": people["id"], "day": np.arange(SIZE), "sbp": rng.normal(130, 9, SIZE)})
    text = drafted(people=people, stays=stays, labs=labs, calls=calls)
    assert 'join = { table = "stays.csv", by = "encounter", columns = ["id"] }' in text
    assert 'columns = { crea = "" }' in text and "encounter = " not in text
    assert "is of the patient's id? its values are ids" in text and 'columns = { sbp = "" }' in text
    twice = drafted(people=people, stays=stays[np.arange(4 * SIZE) // 2], labs=labs)
    assert "stays.csv has its encounter, but several times" in twice and "encounter = " not in twice


def test_a_stay_is_the_patient_by_the_moments_of_stays(rng):
    day = np.datetime64("2150-01-01") + np.arange(SIZE).astype("timedelta64[D]")
    out = np.where(np.arange(SIZE) % 3, "DISCHARGE", "DIED")
    moments = {
        "person": np.tile(np.arange(SIZE) // 2 + 1000, 2),
        "encounter": np.tile(np.arange(SIZE) + 5000, 2),
        "when": np.concatenate([day, day + 5]).astype(str),
        "what": np.concatenate([np.full(SIZE, "ADMIT"), out]),
    }
    labs = {
        "encounter": moments["encounter"],
        "collected": moments["when"],
        "test_code": ["NA"] * SIZE + ["LACT"] * SIZE,
    }
    tables = {
        "moments": pl.DataFrame(moments),
        "labs": pl.DataFrame(labs | {"val": rng.normal(5, 1, 2 * SIZE)}),
        "persons": pl.DataFrame(
            {"person": np.arange(SIZE // 2) + 1000, "age": rng.integers(20, 90, SIZE // 2)}
        ),
    }
    text = drafted(**tables)
    assert 'key = "encounter"' in text and 'group = "person"' in text and "ASK: patient.group" not in text
    assert 'origin = { table = "moments.csv", column = "when", pick = "first" }' in text
    assert 'death = { time = "when", where = { what = ["DIED"] } }' in text
    assert 'code = "test_code"' in text and "2 codes" in text and "as missing" not in text
    assert 'key = "person"' in propose({f"{n}.csv": t for n, t in tables.items()}, key="person")
