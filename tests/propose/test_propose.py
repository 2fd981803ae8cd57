"""A draft of a spec: it reads as it stands, says why, asks what it cannot know, takes no answer as input."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gnnpatient.errors import InputError

SIZE = 120


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def draft(tmp_path):
    """Write tables, draft, read the draft and the cohort: the text, the spec, the cohort."""

    def of(readme: str = "", **tables: pl.DataFrame):
        folder = tmp_path / "ward"
        folder.mkdir(exist_ok=True)
        for name, table in tables.items():
            table.write_csv(folder / f"{name}.csv")
        if readme:
            (folder / "README.md").write_text(readme)
        return drafted(folder, tmp_path / "draft.toml")

    return of


def drafted(folder: Path, place: Path):
    from gnnpatient import read_cohort, read_spec
    from gnnpatient.propose import propose

    text = propose(folder)
    assert text == propose(folder)
    place.write_text(text, encoding="utf-8")
    spec = read_spec(place)
    return text, spec, read_cohort(spec, folder)


def asks(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.startswith("# ASK:"))


def followed(rng, size: int = SIZE) -> dict[str, list]:
    """Statics and a survival outcome of which nothing else knows."""
    return {
        "pid": [f"P{i:03}" for i in range(size)],
        "age": rng.integers(30, 90, size).tolist(),
        "sex": rng.choice(["f", "m"], size).tolist(),
        "futime": rng.integers(10, 3000, size).tolist(),
        "death": rng.integers(0, 2, size).tolist(),
    }


def visits(people: dict[str, list], rng, times: int = 4) -> dict[str, list]:
    """The same patients at days 0, 90, 180, ..., every static and outcome repeated."""
    size = len(people["pid"])
    rows = {name: np.repeat(cells, times).tolist() for name, cells in people.items()}
    rows["day"] = (np.tile(np.arange(times) * 90, size)).tolist()
    rows["sbp"] = rng.normal(130, 15, size * times).round().tolist()
    rows["crea"] = rng.normal(1, 0.2, size * times).round(2).tolist()
    rows["oedema"] = rng.choice(["none", "some"], size * times).tolist()
    return rows


def test_a_table_with_many_rows_a_patient(draft, rng):
    people = followed(rng)
    text, spec, cohort = draft(visits=pl.DataFrame(visits(people, rng)))
    assert (spec.patient.table, spec.patient.key) == ("visits.csv", "pid")
    assert spec.patient.number == ("age",) and spec.patient.category == ("sex",)
    assert spec.nodes["vital"].time == "day" and spec.nodes["vital"].columns == {"sbp": ""}
    assert spec.nodes["lab"].columns == {"crea": ""} and spec.nodes["lab"].edges == ("at", "same")
    assert spec.nodes["oedema"].code == "oedema"
    assert spec.timepoints.every == "30d"
    cause = spec.outcomes["death"].causes["death"]
    assert [(c.time, c.flag) for c in cause] == [("futime", "death")]
    assert (cohort.outcomes["death"].event == people["death"]).all()
    assert len(cohort) == SIZE and len(cohort.events["lab"]) == 4 * SIZE
    assert "crea: in mg/dl or umol/l?" in asks(text) and "death = 1 mean" in asks(text)
    assert f"{sum(people['death'])} of {SIZE} patients have the event" in text


def test_a_value_that_comes_once_and_late_is_no_static(draft, rng):
    rows = visits(followed(rng), rng)
    rows["ldl"] = [100.0 + i % 7 if i % 4 == 3 else None for i in range(4 * SIZE)]  # at the last visit alone
    _, spec, _ = draft(visits=pl.DataFrame(rows))
    assert "ldl" not in spec.patient.columns and "ldl" in spec.nodes["lab"].columns


def test_age_that_grows_is_taken_once(draft, rng):
    rows = visits(followed(rng), rng)
    rows["age"] = [age + day // 90 for age, day in zip(rows["age"], rows["day"], strict=True)]
    rows["visit"] = [1 + day // 90 for day in rows["day"]]
    text, spec, _ = draft(visits=pl.DataFrame(rows))
    assert spec.patient.first == ("age",)
    assert not any({"age", "visit"} & set(node.columns or ()) for node in spec.nodes.values())
    assert "visit: counts or names rows" in text


def test_a_long_table_another_key_and_diagnoses(draft, rng):
    people = followed(rng)
    names = rng.choice(people["pid"], 900)
    labs = {
        "patient": names.tolist(),
        "days": rng.integers(-200, 900, 900).tolist(),
        "test": rng.choice(["hdl", "sbp", "x1"], 900).tolist(),
        "value": rng.normal(60, 9, 900).round(1).tolist(),
    }
    stroke = {"pid": people["pid"][:60], "days": list(range(-10, 50)), "event": ["stroke"] * 60}
    flu = {"pid": people["pid"][3:90], "days": [-5] * 87, "event": ["flu"] * 87}
    events = pl.concat([pl.DataFrame(stroke), pl.DataFrame(flu)])
    readme = "labs.csv: patient, days, test (hdl mg/dl, sbp mmHg, x1 score), value"
    text, spec, cohort = draft(readme, people=pl.DataFrame(people), labs=pl.DataFrame(labs), events=events)
    assert spec.patient.table == "people.csv" and spec.tables["labs.csv"].key == "patient"
    lab = spec.nodes["lab"]
    assert (lab.code, lab.value, lab.time, lab.edges) == ("test", "value", "days", ("at", "same"))
    assert spec.units["hdl"].to == "mg/dl" and spec.units["sbp"].range is not None and "x1" not in spec.units
    assert spec.nodes["event"].code == "event" and spec.nodes["event"].value is None
    assert set(spec.outcomes) == {"death", "stroke"}, "flu never comes after day 0"
    assert spec.outcomes["stroke"].cause_names == ("stroke", "death")
    assert "49 patients first have it after day 0; 11 had it before" in text
    assert cohort.flow() and (cohort.outcomes["stroke"].event == 1).sum() <= 60


def test_units_of_a_column_are_kept_and_never_mixed_in_silence(draft, rng):
    people = followed(rng)
    rows = {
        "pid": np.repeat(people["pid"], 4).tolist(),
        "time": list(range(4 * SIZE)),
        "labname": ["glucose", "glucose", "sodium", "odd"] * SIZE,
        "labresult": rng.normal(100, 3, 4 * SIZE).round(1).tolist(),
        "units": ["mg/dL", "mg/dl", "mmol/L", "U/L"] * SIZE,
    }
    rows["units"][1], rows["units"][5] = "mmol/L", "mmol/L"
    text, spec, cohort = draft(people=pl.DataFrame(people), labs=pl.DataFrame(rows))
    assert spec.nodes["lab"].unit == "units"
    glucose = spec.units["glucose"]
    assert glucose.to == "mg/dL" and set(glucose.sources) == {"mg/dl"}
    assert spec.units["sodium"].range == (80, 210)
    assert "rows in mmol/L" in asks(text)
    assert cohort.report["tables"]["labs.csv"]["refused"] == {"unknown unit": 2}


def test_known_and_until(draft, rng):
    people = followed(rng)
    start = rng.integers(0, 50_000, 400)
    drugs = {
        "pid": rng.choice(people["pid"], 400).tolist(),
        "drugname": rng.choice(["a", "b", "c"], 400).tolist(),
        "startoffset": start.tolist(),
        "stopoffset": (start + rng.integers(0, 900, 400)).tolist(),
        "reportoffset": (start + rng.integers(0, 60, 400)).tolist(),
    }
    text, spec, cohort = draft(people=pl.DataFrame(people), drugs=pl.DataFrame(drugs))
    drug = spec.nodes["drug"]
    assert (drug.time, drug.known, drug.until) == ("startoffset", "reportoffset", "stopoffset")
    assert spec.tables["drugs.csv"].time.unit == "min"
    assert (cohort.events["drug"].known >= cohort.events["drug"].happened).all()
    assert "startoffset is in min" in text and "futime is taken as days" in asks(text)


@pytest.mark.parametrize(
    ("form", "needs"),
    [("%Y-%m-%d", None), ("%d.%m.%Y", "%d.%m.%Y"), ("%m/%d/%Y", "%m/%d/%Y"), ("%Y-%m-%dT%H:%M:%S", None)],
)
def test_dates_need_a_day_0_and_their_format(draft, rng, form, needs):
    admitted = [datetime(2020, 1, 3) + timedelta(days=int(d)) for d in rng.integers(0, 300, SIZE)]
    people = {k: v for k, v in followed(rng).items() if k not in ("futime", "death")}
    people["admitted"] = [day.strftime(form) for day in admitted]
    who = rng.integers(0, SIZE, 500)
    labs = {
        "pid": [people["pid"][i] for i in who],
        "drawn_date": [
            (admitted[i] + timedelta(days=int(d), hours=5)).strftime(form)
            for i, d in zip(who, rng.integers(0, 60, 500), strict=True)
        ],
        "hdl": rng.normal(50, 9, 500).round().tolist(),
    }
    text, spec, cohort = draft(people=pl.DataFrame(people), labs=pl.DataFrame(labs))
    assert spec.patient.origin == "admitted" and "is admitted day 0?" in asks(text)
    assert spec.tables["labs.csv"].time.format == needs if needs else "labs.csv" not in spec.tables
    assert len(cohort.events["lab"]) and (cohort.events["lab"].happened >= 0).all()


def test_a_date_that_could_be_either_is_asked(draft, rng):
    people = {"pid": [f"P{i}" for i in range(60)], "admitted": ["03/04/2021"] * 60, "age": list(range(60))}
    text, spec, _ = draft(people=pl.DataFrame(people))
    assert spec.tables["people.csv"].time.format == "%d/%m/%Y"
    assert "is it %d/%m/%Y, or does the month come first?" in asks(text)


def test_dates_without_a_day_0_begin_with_the_first(draft, rng):
    rows = {
        "pid": ["a", "a", "b", "b"] * 20,
        "date": ["2021-03-04", "2021-03-05"] * 40,
        "hdl": list(range(80)),
    }
    text, spec, cohort = draft(labs=pl.DataFrame(rows))
    assert (spec.patient.origin.column, spec.patient.origin.pick) == ("date", "first")
    assert "is the first date of a patient in labs.csv day 0?" in asks(text)
    assert cohort.events["lab"].happened.min() == 86_399  # a bare date is known at its end
    people = followed(rng, 2) | {"pid": ["a", "b"]}  # days after a day 0 that no date is
    text, spec, _ = draft(labs=pl.DataFrame(rows), people=pl.DataFrame(people))
    assert not spec.nodes and "date holds dates, but no date" in text


def test_what_determines_the_outcome_is_left_out_and_named(draft, rng):
    people = followed(rng)
    people["score"] = [d + x for d, x in zip(people["death"], rng.uniform(0, 0.5, SIZE), strict=True)]
    people["ward"] = ["hospice" if d else "home" for d in people["death"]]
    people["stay"] = [t * 2 + 1 for t in people["futime"]]
    people["hospdead"] = rng.integers(0, 2, SIZE).tolist()
    people["PREVMI"] = rng.integers(0, 2, SIZE).tolist()
    people["prognosis"] = rng.normal(0, 1, SIZE).tolist()
    people["honest"] = rng.normal(0, 1, SIZE).tolist()
    people["chapter"] = [f"c{i % 3}" if d else None for i, d in enumerate(people["death"])]
    readme = (
        "A cohort.\nQuirks: prognosis is the output of another model: leakage for survival. honest is not."
    )
    text, spec, cohort = draft(readme, people=pl.DataFrame(people))
    assert set(spec.patient.columns) == {"age", "sex", "honest"}
    for name, why in (
        ("score, ward", "nearly determines death (rank AUC 1.00)"),
        ("stay", "nearly determines the time of death"),
        ("chapter", "is given nearly only where death happened"),
        ("hospdead, PREVMI", "by its name"),
        ("prognosis", "the README warns"),
    ):
        assert f"{name}: {why}" in text
    assert "ward" not in spec.patient.columns and len(cohort) == SIZE


def test_no_draft_feeds_the_answer(draft, rng):
    rows = visits(followed(rng), rng)
    rows |= {"status2": rows["death"], "timemi": rows["futime"], "diedinhospital": rows["death"]}
    _, spec, _ = draft(visits=pl.DataFrame(rows))
    inputs = {*spec.patient.columns, *(c for node in spec.nodes.values() for c in node.columns or ())}
    assert not inputs & {"status2", "timemi", "diedinhospital", "futime", "death"}
    assert inputs >= {"age", "sex", "sbp", "crea"}


@pytest.mark.parametrize("words", [False, True])
def test_a_status_with_more_states(draft, rng, words):
    people = followed(rng)
    del people["death"]
    state = rng.integers(0, 3, SIZE)
    people["status"] = [["alive", "transplanted", "dead"][s] if words else int(s) for s in state]
    readme = (
        "" if words else "people.csv: status 0 censored (12 patients), 1 transplant (9), 2 death; age years"
    )
    _text, spec, cohort = draft(readme, people=pl.DataFrame(people))
    (name,) = spec.outcomes
    assert name == "death"
    meaning = spec.outcomes[name].status.states
    assert set(meaning.values()) == {"censored", "death", "transplanted" if words else "transplant"}
    kind = [meaning[str(s)] for s in people["status"]]
    found = cohort.outcomes[name]
    assert [("censored", *found.causes)[e] for e in found.event] == kind


def test_censored_is_not_an_event(draft, rng):
    people = followed(rng)
    people["censored"] = [1 - d for d in people["death"]]
    people["survival_months"] = [round(t / 30, 1) for t in people.pop("futime")]
    event = people.pop("death")
    text, spec, cohort = draft(people=pl.DataFrame(people))
    assert spec.tables["people.csv"].time.unit == "mo"
    assert (cohort.outcomes["event"].event == event).all() and "1 is censored; is that so?" in asks(text)


def test_a_missing_state_is_left_out_and_asked_and_leaving_alive_competes(draft, rng):
    people = followed(rng)
    del people["futime"], people["death"]
    people["discharge_offset"] = rng.integers(1, 90_000, SIZE).tolist()
    people["discharge_status"] = [None if i < 3 else ("Expired" if i % 4 else "Alive") for i in range(SIZE)]
    text, spec, cohort = draft(people=pl.DataFrame(people))
    assert spec.patient.where == {"discharge_status": ("Alive", "Expired")}
    assert len(cohort) == SIZE - 3 and "missing is not censored" in asks(text)
    assert set(spec.outcomes["leaving"].cause_names) == {"death", "discharge"}


def test_times_side_by_side_are_told_apart_by_what_they_hold(draft, rng):
    people = followed(rng)
    end = np.array(people.pop("futime"))
    people["timedth"] = end.tolist()
    for time, flag in (("timeap", "angina"), ("timestrk", "stroke"), ("timehyp", "hyperten")):
        came = rng.integers(0, 2, SIZE)
        people[time] = np.where(came == 1, end // 2, end).tolist()
        people[flag] = came.tolist()
    _text, spec, _cohort = draft(people=pl.DataFrame(people))
    pairs = {name: next((c.time, c.flag) for c in o.causes[name]) for name, o in spec.outcomes.items()}
    assert pairs == {
        "death": ("timedth", "death"),
        "angina": ("timeap", "angina"),
        "stroke": ("timestrk", "stroke"),
        "hyperten": ("timehyp", "hyperten"),
    }
    assert spec.outcomes["angina"].cause_names == ("angina", "death")


def test_a_class_without_a_time_is_a_diagnosis(draft, rng):
    people = followed(rng)
    del people["futime"], people["death"]
    label = pl.DataFrame({"pid": people["pid"], "label": rng.integers(0, 2, SIZE).tolist()})
    text, spec, cohort = draft(people=pl.DataFrame(people), outcome=label)
    assert spec.outcomes["label"].table == "outcome.csv" and not spec.nodes
    assert (cohort.outcomes["label"].label == label["label"].to_numpy()).all()
    assert "since when was it known?" in asks(text)
    label = label.rename({"label": "truth"})
    assert set(draft(people=pl.DataFrame(people), outcome=label)[1].outcomes) == {"truth"}
    label = label.rename({"truth": "survival"}).with_columns(
        survival=pl.when(pl.arange(SIZE) == 0).then(None).otherwise("survival")
    )
    twice = pl.concat([label.with_columns(survival=1 - pl.col("survival")), label])  # a slip
    text, spec, _ = draft(people=pl.DataFrame(people), outcome=twice)
    assert not spec.outcomes and "outcome.csv: survival: a state or a label: to be predicted?" in asks(text)


@pytest.mark.parametrize("words", [8, 40])
def test_a_site_is_asked_of_and_a_number_is_no_outcome(draft, rng, words):
    people = followed(rng)
    del people["futime"], people["death"]
    people["site"] = [f"S{i % words}" if i % 5 else str(i % words) for i in range(SIZE)]
    people["label"] = rng.normal(1, 0.2, SIZE).tolist()
    text, spec, _ = draft(people=pl.DataFrame(people))
    assert "are splits to keep each site together?" in asks(text)
    assert "label: a number to be predicted? An outcome is an event in time or a class" in asks(text)
    assert not spec.outcomes and "label" not in spec.patient.columns


def test_a_label_that_changes_is_an_onset(draft, rng):
    rows = visits(followed(rng), rng)
    del rows["futime"], rows["death"]
    rows["label"] = [int(day >= 180 and i // 4 % 2) for i, day in enumerate(rows["day"])]
    text, spec, cohort = draft(visits=pl.DataFrame(rows))
    assert spec.outcomes["label"].cause_names == ("label",) and "to be predicted?" not in asks(text)
    assert (cohort.outcomes["label"].event == np.arange(SIZE) % 2).all()
    assert not any("label" in (node.columns or ()) for node in spec.nodes.values())


def test_rows_of_each_kind_of_event_are_outcomes(draft, rng):
    people = {k: v for k, v in followed(rng).items() if k not in ("futime", "death")}
    events = {
        "pid": np.repeat(people["pid"], 2).tolist(),
        "etype": [1, 2] * SIZE,
        "time": rng.integers(1, 300, 2 * SIZE).tolist(),
        "status": rng.integers(0, 2, 2 * SIZE).tolist(),
    }
    readme = "events.csv: etype 1 recurrence, 2 death; time in months"
    text, spec, cohort = draft(readme, people=pl.DataFrame(people), events=pl.DataFrame(events))
    assert not spec.nodes and list(spec.outcomes) == ["death", "recurrence"]
    assert spec.outcomes["recurrence"].cause_names == ("recurrence", "death")
    assert spec.tables["events.csv"].time.unit == "mo" and "time is in mo: from the README" in text
    died = sum(s for e, s in zip(events["etype"], events["status"], strict=True) if e == 2)
    assert (cohort.outcomes["death"].event == 1).sum() == died


def test_unrelated_cohorts_are_not_joined(draft, rng):
    def cohort_of(size: int) -> pl.DataFrame:
        return pl.DataFrame({**followed(rng, size), "pid": list(range(1, size + 1))})

    text, spec, cohort = draft(a=cohort_of(90), b=cohort_of(140), c=cohort_of(110))
    assert spec.patient.table == "b.csv" and len(cohort) == 140
    assert "which do you want?" in asks(text)
    assert text.count("other people") == 2


def test_the_same_people_twice_are_told_once(draft, rng):
    people = pl.DataFrame(followed(rng))
    text, spec, _ = draft(full=people.with_columns(x=pl.int_range(pl.len()) * 1.5), short=people)
    assert spec.patient.table == "full.csv"
    assert "short.csv: not taken with full.csv: age agrees: the same people a second time" in text


def test_rare_words_are_not_written(draft, rng):
    people = followed(rng)
    people["cause"] = ["secret disease" if i == 5 else None for i in range(SIZE)]
    people["job"] = ["astronaut" if i == 3 else "clerk" for i in range(SIZE)]
    people["endpoint"] = ["astral" if i == 9 else "alive" if i % 2 else "dead" for i in range(SIZE)]
    people["endpoint_time"] = people["futime"]
    rows = {
        "pid": np.repeat(people["pid"], 2).tolist(),
        "day": [0, 9] * SIZE,
        "test": ["hdl", "sodium"] * SIZE,
        "value": rng.normal(90, 2, 2 * SIZE).tolist(),
        "unit": ["mg/dl", "mmol/l"] * SIZE,
    }
    rows["test"][:3], rows["unit"][:3] = ["unique test"] * 3, ["g", "kg", "g"]
    text, spec, _ = draft(people=pl.DataFrame(people), labs=pl.DataFrame(rows))
    for word in ("secret", "astronaut", "astral", "unique test", "P005"):
        assert word not in text
    assert "job" in spec.patient.category and "a state of fewer than 5 patients" in text
    assert spec.nodes["lab"].unit is None and "fewer than 5 patients comes in two units" in text


def test_names_of_any_kind_are_quoted(draft, rng):
    people = followed(rng)
    people['größe "cm".x'] = rng.normal(170, 9, SIZE).round().tolist()
    people["Älter\tals"] = rng.integers(0, 2, SIZE).tolist()
    rows = visits(followed(rng), rng)
    rows["alk.phos"] = rng.normal(90, 9, 4 * SIZE).round().tolist()
    rows = {k: v for k, v in rows.items() if k in ("pid", "day", "alk.phos", "oedema")}
    _, spec, _ = draft(people=pl.DataFrame(people), rows=pl.DataFrame(rows))
    assert 'größe "cm".x' in spec.patient.number and "Älter\tals" in spec.patient.category
    assert spec.nodes["lab"].columns == {"alk.phos": ""}


def test_how_a_csv_is_written(tmp_path, rng):
    folder = tmp_path / "ward"
    folder.mkdir()
    people = followed(rng)
    size = [f"{x:.1f}".replace(".", ",") for x in rng.normal(170, 9, SIZE)]
    lines = ["pid;age;sex;größe;futime;death\r\n"]
    columns = (people["pid"], people["age"], people["sex"], size, people["futime"], people["death"])
    lines += [";".join(map(str, row)) + "\r\n" for row in zip(*columns, strict=True)]
    (folder / "people.csv").write_bytes("".join(lines).encode("latin1"))
    _, spec, cohort = drafted(folder, tmp_path / "draft.toml")
    how = spec.tables["people.csv"]
    assert (how.encoding, how.separator, how.decimal) == ("latin1", ";", ",")
    assert np.allclose(cohort.number[:, 1], [float(x.replace(",", ".")) for x in size])


def test_shards_packed_text_and_folders(tmp_path, rng):
    folder = tmp_path / "ward"
    (folder / "labs").mkdir(parents=True)
    (folder / "more").mkdir()
    people = pl.DataFrame(followed(rng))
    people.write_csv(folder / "people.csv.gz", compression="gzip")
    rows = pl.DataFrame(visits(followed(rng), rng))
    for i in range(2):
        rows[i::2].select("pid", "day", "crea").write_parquet(folder / "labs" / f"{i}.parquet")
    rows.select("pid", "day", "oedema").write_csv(folder / "more" / "signs.tsv", separator="\t")
    _, spec, cohort = drafted(folder, tmp_path / "draft.toml")
    assert spec.patient.table == "people.csv.gz"
    assert {node.table for node in spec.nodes.values()} == {"labs", "more/signs.tsv"}
    assert len(cohort.events["lab"]) == len(cohort.events["oedema"]) == 4 * SIZE


def test_baseline_values_become_nodes_of_day_0(draft, rng):
    people = followed(rng)
    people["crea"] = rng.normal(1, 0.2, SIZE).round(2).tolist()
    text, spec, cohort = draft("people.csv: crea mg/dl", people=pl.DataFrame(people))
    assert spec.nodes["lab"].untimed == "origin" and spec.nodes["lab"].columns == {"crea": "mg/dl"}
    assert "crea" not in spec.patient.number and len(cohort.events["lab"]) == SIZE
    assert "were the values in people.csv known on day 0?" in asks(text)


def test_meds(tmp_path):
    start = datetime(2020, 1, 1)
    rows = []
    for i in range(30):
        rows += [
            (i, datetime(1950, 1, 1), "MEDS_BIRTH", None),
            (i, None, f"GENDER//{'FM'[i % 2]}", None),
            (i, start + timedelta(days=i), "HOSPITAL_ADMISSION//EMERGENCY", None),
            (i, start + timedelta(days=i + 1), "LAB//CRP", 3.0 + i),
            (i, start + timedelta(days=i + 1), "DIAGNOSIS//ICD10//I21", None),
            (i, start + timedelta(days=i + 2), f"HOSPITAL_DISCHARGE//{'HOME' if i % 3 else 'DIED'}", None),
        ]
        rows += [(i, start + timedelta(days=i + 2, hours=3), "MEDS_DEATH", None)] * (i % 3 == 0)
    schema = {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "numeric_value": pl.Float32,
    }
    (tmp_path / "ward" / "data").mkdir(parents=True)
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(tmp_path / "ward" / "data" / "0.parquet")
    text, spec, cohort = drafted(tmp_path / "ward", tmp_path / "draft.toml")
    assert spec.format == "meds" and spec.patient.category == ("GENDER",)
    assert spec.patient.origin.code == ("HOSPITAL_ADMISSION//*",)
    assert spec.nodes["lab"].where == {"code": ("LAB//*",)} and set(spec.nodes) == {
        "lab",
        "diagnosis",
        "stay",
    }
    codes = {code for kind in spec.nodes for code in cohort.codes[kind]}
    assert not any(word in code for code in codes for word in ("DIED", "DEATH", "BIRTH"))
    assert (cohort.outcomes["death"].event == 1).sum() == 10
    assert "HOSPITAL_DISCHARGE: 1 code(s) that reveal a death" in text


def test_rows_that_were_numbered_keep_their_readme_and_their_person(draft, rng):
    people = followed(rng)
    people["id"] = [i // 2 for i in range(SIZE)]  # two eyes
    people["patient_id"] = people.pop("pid")
    people["futime"] = [day / 100 for day in people["futime"]]
    readme = "| table | what |\n|---|---|\n| eyes | age, futime (months) |\n| other | futime (days) |"
    text, spec, _cohort = draft(readme, eyes_numbered=pl.DataFrame(people))
    assert spec.tables["eyes_numbered.csv"].time.unit == "mo"
    assert (spec.patient.key, spec.patient.group) == ("patient_id", "id")
    assert "patients share id; are they to stay together in splits?" in asks(text)


def test_what_cannot_be_drafted_is_refused(tmp_path):
    from gnnpatient.propose import propose

    with pytest.raises(InputError, match="no such folder"):
        propose(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no table that can be read; put \.csv.* make a table first"):
        propose(tmp_path)
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "a.json").write_text('{"resourceType": "Bundle"}')
    with pytest.raises(InputError, match="bundles/ in it is FHIR: name that folder"):
        propose(tmp_path)
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4\n")
    with pytest.raises(InputError, match=r"the patient's id\. If x or y is it: gnnpatient init DATA --key x"):
        propose(tmp_path)
    (tmp_path / "a.csv").write_text("x,x\n1,2\n3,4\n")
    with pytest.raises(InputError, match="'x' appears twice"):
        propose(tmp_path)


def test_a_folder_without_patients_is_refused(tmp_path):
    from gnnpatient.propose import propose

    row = '{"resourceType": "Observation", "id": "1", "status": "final", "code": {"text": "x"}}'
    (tmp_path / "a.ndjson").write_text(row)
    with pytest.raises(InputError, match="no patient in it"):
        propose(tmp_path)


def test_a_broken_table_does_not_hide_the_others(draft, tmp_path, rng):
    (tmp_path / "ward").mkdir()
    (tmp_path / "ward" / "broken.parquet").write_bytes(b"PAR1 but not really")
    text, spec, _ = draft(people=pl.DataFrame(followed(rng)))
    assert "broken.parquet: not read:" in text and spec.patient.table == "people.csv"


REAL = {  # folder: patients, an outcome that must be there, and patients by what came of them
    "framingham": (3326, "stroke", {"stroke": 325}),
    "nafld": (13147, "death", {"death": 1000}),
    "pbc": (312, "death", {"death": 140, "transplanted": 29}),
    "survival-tables": (2982, "recur", {"recur": 1518}),
    "support2": (9105, "death", {"death": 6201}),
    "oasis": (150, "group", {"demented": 64, "converted": 14}),
    "icu-timeseries/mortality24": (1367, "label", {"yes": 70}),
    "eicu-demo": (171, "leaving", {"discharge": 162, "death": 9}),
    "mimic-iv-demo-meds": (100, "death", {"death": 31}),
    "omop-synthea-1k": (1126, "viral_sinusitis", {}),
    "fhir-synthea-r4/bundles": (102, "death", {"death": 39}),
}
LONG = ("omop-synthea-1k", "fhir-synthea-r4/bundles")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in REAL])
def test_real_folders_can_be_read_as_drafted(name, data_dir, tmp_path):
    text, spec, cohort = drafted(data_dir / name, tmp_path / "draft.toml")
    patients, outcome, known = REAL[name]
    assert len(cohort) == patients and asks(text)
    found = cohort.outcomes[outcome]
    if found.kind == "survival":
        counts = {cause: int((found.event == k).sum()) for k, cause in enumerate(found.causes, 1)}
    else:
        counts = {word: int((found.label == k).sum()) for k, word in enumerate(found.classes)}
    assert counts | known == counts
    for kind in spec.nodes:
        assert len(cohort.events[kind]), kind
    for table, account in cohort.report["tables"].items() if spec.format is None else ():
        assert account["used"] + account["collapsed"] >= 0.6 * account["rows"], table


# ---- other people's names


def test_an_outcome_in_other_words(draft, rng):
    people = followed(rng)
    dead, end = np.array(people.pop("death")), np.array(people.pop("futime"))
    days = [datetime(2015, 1, 1) + timedelta(days=int(d)) for d in (0, *end)]
    people |= {"index_date": [days[0].date()] * SIZE, "end_fu": [day.date() for day in days[1:]]}
    people |= {"exitus": np.where(dead == 1, "Y", "N"), "smoker": rng.choice(["Y", "N"], SIZE)}
    text, spec, cohort = draft(people=pl.DataFrame(people))
    assert spec.outcomes["death"].status.states == {"N": "censored", "Y": "death"}
    assert spec.patient.category == ("sex", "smoker") and cohort.flow()[-2]["n"] == dead.sum()
    assert "is that what the states of exitus mean, on end_fu?" in asks(text)


def test_a_time_to_an_event_and_the_only_flag_belong_together(draft, rng):
    people = followed(rng)
    people["days_to_conversion_or_last"], people["converted"] = people.pop("futime"), people.pop("death")
    _, spec, _ = draft(people=pl.DataFrame(people))
    assert spec.patient.number == ("age",) and spec.patient.category == ("sex",)
    (cause,) = spec.outcomes["converted"].causes["converted"]
    assert (cause.time, cause.flag) == ("days_to_conversion_or_last", "converted")


def test_where_no_outcome_is_recognised_yes_or_no_is_no_input(rng):
    from gnnpatient.propose import propose

    people = followed(rng)
    people["until"], people["severe"] = people.pop("futime"), people.pop("death")
    text = propose({"people.csv": pl.DataFrame(people)})
    assert "people.csv: severe: did it happen?" in asks(text) and 'category = ["sex"]' in text


def test_the_patient_is_found_by_what_columns_hold(rng):
    from gnnpatient.propose import propose

    people = followed(rng)
    people["recipient_no"] = people.pop("pid")
    people = pl.DataFrame(people)
    rows = pl.DataFrame({"recipient_no": np.repeat(people["recipient_no"], 3), "day": [0, 9, 20] * SIZE})
    text = propose({"a.csv": people, "b.csv": rows.with_columns(crp=rng.normal(9, 1, 3 * SIZE))})
    assert "is recipient_no the patient's id? 2 tables have it and it is unique in one" in asks(text)
    assert 'key = "StudyNr"' in propose({"a.csv": people.rename({"recipient_no": "StudyNr"})})
    numbers = people.drop("recipient_no").select(pl.int_range(100, 100 + SIZE).alias("Fall"), pl.all())
    assert "is Fall the patient's id? it differs in every row" in asks(propose({"a.csv": numbers}))


def test_a_table_that_is_left_out_is_asked_with_the_way_in(draft, rng):
    people = pl.DataFrame(followed(rng))
    iso = [f"2015-03-{1 + i % 28:02}" if i % 5 else f"{1 + i % 28:02}.03.2015" for i in range(SIZE)]
    labs = pl.DataFrame(
        {"pid": people["pid"].to_list() * 2, "drawn_date": iso * 2, "crp": rng.normal(9, 1, 2 * SIZE)}
    )
    clinic = {
        "pid": np.repeat(people["pid"], 3),
        "round": [0, 6, 12] * SIZE,
        "until_next": [6, 12, 18] * SIZE,
        "prot": rng.normal(1, 0.1, 3 * SIZE),
    }
    stays = pl.DataFrame(
        {"pid": people["pid"], "ward_stay": np.arange(SIZE) + 900, "day": 0, "bp": 120 + np.arange(SIZE)}
    )
    notes = {"ward_stay": np.repeat(np.arange(SIZE) + 900, 2), "score": rng.normal(1, 0.1, 2 * SIZE)}
    wards = pl.DataFrame({"bp": 120 + np.arange(SIZE), "beds": rng.integers(1, 9, SIZE)})
    text, *_ = draft(
        people=people,
        labs=labs,
        clinic=pl.DataFrame(clinic),
        stays=stays,
        notes=pl.DataFrame(notes),
        wards=wards,
    )
    assert "labs.csv is left out: drawn_date has 192 dates written as 2021-03-04 and 48 in another" in asks(
        text
    )
    assert 'table = "clinic.csv", time = "round", columns = { prot = "" }' in asks(text)
    assert 'join = { table = "stays.csv", by = "ward_stay", columns = ["pid"] }' in text  # of notes
    assert (
        "wards.csv: no column could be the patient's id; it shares bp with stays.csv, to which join"
        in asks(text)
    )


def test_rows_from_state_to_state_and_rows_that_follow_by_what_they_hold(draft, rng):
    first, later = rng.integers(20, 400, SIZE), rng.integers(20, 400, SIZE)
    worse = np.arange(SIZE) % 3
    rows = []
    for i, (a, b) in enumerate(zip(first, later, strict=True)):
        rows += [(i, "stable", "worse", 0, a, int(worse[i] > 0)), (i, "stable", "dead", 0, a, 0)]
        rows += [(i, "worse", "dead", a, a + b, int(worse[i] > 1))] if worse[i] else []
    names = ["pid", "now_in", "goes_to", "since", "till", "moved"]
    _, spec, cohort = draft(states=pl.DataFrame(rows, names, orient="row"))
    flow = {(row["outcome"], row["step"]): row["n"] for row in cohort.flow()}
    assert (
        flow["death", "event: death"] == (worse > 1).sum()
        and flow["worse", "event: worse"] == (worse > 0).sum()
    )
    assert all(node.time == "since" and node.code == "now_in" for node in spec.nodes.values())


def test_numbers_of_rows_are_no_intervals(rng):
    from gnnpatient.propose import propose

    people = pl.DataFrame(followed(rng)).drop("futime", "death")
    rows = pl.DataFrame({"pid": np.repeat(people["pid"], 4), "day": [0, 20, 50, 90] * SIZE})
    more = {"tube": np.arange(4 * SIZE), "line": np.arange(4 * SIZE) + 1}
    more["crp"] = rng.normal(9, 1, 4 * SIZE)
    text = propose(
        {"people.csv": people, "rows.csv": rows.with_columns(**{c: pl.Series(v) for c, v in more.items()})}
    )
    assert "kind = " not in text and 'time = "day"' in text


def test_a_code_and_its_value_are_one_node_type(draft, rng):
    people = pl.DataFrame(followed(rng))
    rows = [(i, day, name) for i in people["pid"] for day in (0, 30) for name in ("first", "second")]
    long = pl.DataFrame(rows, ["pid", "day", "probe"], orient="row")
    _, spec, _ = draft(people=people, long=long.with_columns(reading_value=rng.normal(1, 0.1, len(long))))
    (node,) = spec.nodes.values()
    assert (node.code, node.value) == ("probe", "reading_value")


def test_a_readme_speaks_of_all_before_it_names_a_table(draft, rng):
    people = followed(rng)
    people["futime"] = [days // 30 + 1 for days in people["futime"]]
    readme = "All times in months since surgery. visits.csv: times are in days"
    rows = pl.DataFrame(visits(people, rng)).select("pid", "day", "crea")
    _, spec, _ = draft(readme, people=pl.DataFrame(people), visits=rows)
    assert spec.tables["people.csv"].time.unit == "mo" and "visits.csv" not in spec.tables
