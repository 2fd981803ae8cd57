"""Risks of every patient: the table, the files, the MEDS labels."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest


def meds_labels(folder):
    """Every table of MEDS labels below a folder: {name: {(subject, seconds): value}}."""
    import polars as pl

    found = {}
    for path in folder.rglob("*.parquet"):
        table = pl.read_parquet(path)
        assert dict(table.schema) == {
            "subject_id": pl.Int64,
            "prediction_time": pl.Datetime("us"),
            "float_value": pl.Float32,
        }
        assert table.equals(table.sort("subject_id", "prediction_time"))
        rows = {(who, at.timestamp()): value for who, at, value in table.iter_rows()}
        assert len(rows) == len(table)
        found[str(path.relative_to(folder))] = rows
    return found


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_predict_writes_the_numbers_of_python(cli, ward, tmp_path, suffix):
    import polars as pl

    from gnnpatient import PrognosisModel, open_cohort

    file = tmp_path / f"risks.{suffix}"
    command = ("predict", ward / "run", ward / "cohort", "--at", "1,72h", "--horizons", "4,8d")
    code, _, err = cli(*command, "--out", file)
    table = pl.read_csv(file) if suffix == "csv" else pl.read_parquet(file)
    assert code == 0
    base = ["id", "landmark", "outcome", "cause", "horizon", "risk", "low", "high"]
    assert table.columns == [*base, "event_free_at_least", "promised", "split"]
    cohort = open_cohort(ward / "cohort")
    X = cohort.landmarks(times=[1, 3])
    from gnnpatient.patient import predict

    frame = predict(ward / "run", cohort, at=[1.0, 3.0], horizons=[4.0, 8.0]).frame
    assert suffix == "csv" or frame.equals(table)
    risk = X.at_risk("death")
    assert f"{(~risk).sum()} of {len(X)} landmarks left out" in err
    assert len(table) == 2 * 2 * risk.sum()
    forecast = PrognosisModel.from_pretrained(ward / "run").forecast(X[risk])["death"]
    mine = table.filter(cause="death", horizon=8.0)
    assert (
        mine["id"].to_list() == X[risk].ids.tolist() and mine["landmark"].to_list() == X[risk].days.tolist()
    )
    low, high = forecast.spread(8.0, "death")
    for column, value in {"risk": forecast.risk("death", 8.0), "low": low, "high": high}.items():
        np.testing.assert_allclose(mine[column], value, atol=1e-6)


def test_predict_disarms_formulas(good, ward, tmp_path):
    from gnnpatient import open_cohort

    cohort = open_cohort(ward / "cohort")
    ids = np.array(["+1", "=1+1", "@x", *cohort.ids[3:]])
    replace(cohort, ids=ids).save(tmp_path / "cohort")
    good(
        "predict",
        ward / "run",
        tmp_path / "cohort",
        "--at",
        "0",
        "--horizons",
        "5",
        "--out",
        tmp_path / "r.csv",
    )
    with open(tmp_path / "r.csv", newline="") as file:
        written = {row["id"] for row in csv.DictReader(file)}
    assert {"'+1", "'=1+1", "'@x"} <= written and not any(one[0] in "=+-@" for one in written)


def test_predict_names_only_codes_that_its_asks_see(cli, ward, tmp_path):
    """A code without a row, or of rows after all asks, is nothing that the model met here."""
    from gnnpatient import open_cohort

    cohort = open_cohort(ward / "cohort")
    drug = cohort.events["drug"]
    codes = {**cohort.codes, "drug": (*cohort.codes["drug"], "unseen", "late")}
    late = drug.known > 5 * 86_400
    code = np.where(late, len(codes["drug"]) - 1, drug.code).astype(drug.code.dtype)
    assert late.any()
    changed = replace(cohort, codes=codes, events={**cohort.events, "drug": replace(drug, code=code)})
    units = {**cohort.units, "drug": (*cohort.units["drug"], "", "")}
    replace(changed, units=units).save(tmp_path / "cohort")
    for day, told in (("1", False), ("7", True)):
        ask = ("--at", day, "--horizons", "4", "--out", tmp_path / f"{day}.csv")
        done, _, err = cli("predict", ward / "run", tmp_path / "cohort", *ask)
        assert done == 0 and ("does not know drug late" in err) == told and "unseen" not in err


def test_predict_and_ask_a_diagnosis(sick, good, refused, tmp_path):
    import polars as pl

    from gnnpatient import load_predictor, open_cohort

    folder, _ = sick
    words = ("predict", folder / "run", folder / "cohort", "--at", "1", "--out", tmp_path / "r.parquet")
    assert "give --horizons" in refused(*words)
    good(*words, "--horizons", "5")
    rows = pl.read_parquet(tmp_path / "r.parquet")
    base = ["id", "landmark", "outcome", "cause", "horizon", "risk", "low", "high"]
    assert rows.columns == [*base, "event_free_at_least", "promised", "class_set", "split"]
    icu = rows.filter(outcome="icu")
    assert icu["horizon"].is_null().all() and set(icu["cause"]) == {"no", "yes"}
    said = load_predictor(folder / "run").forecast(open_cohort(folder / "cohort").at(1.0))["icu"]
    yes = icu.filter(cause="yes")
    assert yes["id"].to_list() == said.ids[said.at_risk].tolist()
    np.testing.assert_allclose(yes["risk"], said.risk()[said.at_risk], atol=1e-6)
    np.testing.assert_allclose(yes["low"], said.spread()[0][said.at_risk], atol=1e-6)
    who = yes["id"][0]
    ask = ("ask", folder / "run", folder / "cohort", "--patient", who, "--at", "1")
    found = good(*ask, "--json")["outcomes"]
    assert found["death"]["kind"] == "survival" and found["icu"]["kind"] == "diagnosis"
    assert sum(found["icu"]["probability"].values()) == pytest.approx(1)
    assert found["icu"]["probability"]["yes"] == pytest.approx(yes["risk"][0], abs=1e-6)
    for name, p in found["icu"]["probability"].items():
        assert found["icu"]["low"][name] <= p <= found["icu"]["high"][name]
    assert found["icu"]["band"] == "model spread"
    assert good(*ask, "--outcome", "icu", "--json")["outcomes"].keys() == {"icu"}
    text = good(*ask, "--outcome", "icu")
    assert f"{found['icu']['probability']['yes'] * 100:.0f} %" in text and "spread" not in text
    # too few are held out, so that no spread is shown: it would stand alone
    assert f"icu: {found['icu']['statement']}" in text and found["icu"]["calibrated"] is None
    assert found["icu"]["statement"].startswith("not calibrated")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_predict_gives_calibrated_answers_beside_the_risks(sick, tmp_path, suffix):
    """Those of Python, in each row of a landmark; none where the model has none."""
    import polars as pl

    from gnnpatient import load_predictor, open_cohort
    from gnnpatient.patient import predict
    from gnnpatient.prognosis.conformal import Calibration

    folder, _ = sick
    cohort, predictor = open_cohort(folder / "cohort"), load_predictor(folder / "run")
    scores = {"scores": (0.9, 0.75, 0.3), "above": (0.05, 0.1, 0.5), "patients": 200}
    known = {
        "death": Calibration(method="cv+", total=0.9, cutoff=4.0, until=2.0, **scores),
        "icu": Calibration(method="split", **scores),
        "lactate": Calibration(method="cv+", **scores),
    }
    ask = {"at": [1.0, 3.0], "horizons": [4.0, 8.0], "to": [0.5, 1.0]}
    for calibrations in (known, {}):
        predictor = replace(predictor, calibrations=calibrations)
        found = predict(predictor, cohort, **ask)
        found.write(tmp_path / f"asked.{suffix}")
        file = tmp_path / f"asked.{suffix}"
        rows = pl.read_csv(file, infer_schema_length=None) if suffix == "csv" else pl.read_parquet(file)
        said = predictor.forecast(cohort.landmarks(times=[1.0, 3.0]))
        if not calibrations:
            new = ["event_free_at_least", "class_set", "interval_low", "interval_high", "promised"]
            assert rows.select(new).null_count().row(0) == (len(rows),) * 5
            assert sum("calibrated columns are empty" in line for line in found.notes) == 3
            continue
        assert not any("calibrated" in line for line in found.notes)
        death, of = said["death"], rows.filter(outcome="death")
        bound = dict(zip(zip(death.ids, death.at, strict=True), death.time_bound(0.9), strict=True))
        late = of.filter(pl.col("landmark") > 2)
        assert late["event_free_at_least"].is_null().all() and late["promised"].is_null().all()
        early = of.filter(pl.col("landmark") < 2)
        wanted = [bound[key] for key in early.select("id", "landmark").iter_rows()]
        assert len(early) == 4 * death.at_risk[death.at < 2].sum() and set(early["promised"]) == {0.8}
        np.testing.assert_allclose(early["event_free_at_least"], wanted, rtol=1e-6)
        icu, of = said["icu"], rows.filter(outcome="icu", cause="yes")
        sets = ["|".join(np.array(icu.classes)[one]) for one in icu.class_set(0.9)[icu.at_risk]]
        assert of["class_set"].to_list() == sets and {"no|yes"} < set(sets) and set(of["promised"]) == {0.9}
        lactate = said["lactate"]
        for to in ask["to"]:
            low, high = (end[lactate.at_risk] for end in lactate.interval(0.9, to))
            for quantile in (0.05, 0.95):
                of = rows.filter(outcome="lactate", to=to, quantile=quantile)
                np.testing.assert_allclose(of["interval_low"], low, rtol=1e-6)
                np.testing.assert_allclose(of["interval_high"], high, rtol=1e-6)
                assert (of["interval_low"] < of["interval_high"]).all() and set(of["promised"]) == {0.8}
    assert rows["event_free_at_least"].dtype == (pl.String if suffix == "csv" else pl.Float64)


def test_predict_and_ask_a_value(sick, good, refused, tmp_path):
    import polars as pl

    from gnnpatient import load_predictor, open_cohort

    folder, _ = sick
    words = ("predict", folder / "run", folder / "cohort", "--at", "1", "--out", tmp_path / "r.parquet")
    assert "to 0 days; must be > 0" in refused(*words, "--to", "0")
    assert "to = 900 days; must be after the landmark, and this model answers up to" in refused(
        *words, "--to", "900"
    )
    good(*words, "--to", "12h,1d")
    rows = pl.read_parquet(tmp_path / "r.parquet")
    assert "death" not in rows["outcome"]  # a curve needs --horizons
    rows = rows.filter(outcome="lactate").select("id", "landmark", "to", "code", "quantile", "value", "split")
    assert rows.null_count().drop("split").sum_horizontal()[0] == 0 and set(rows["to"]) == {0.5, 1.0}
    said = load_predictor(folder / "run").forecast(open_cohort(folder / "cohort").at(1.0))["lactate"]
    half = rows.filter(to=0.5, quantile=0.5)
    assert half["id"].to_list() == said.ids[said.at_risk].tolist() and set(half["code"]) == {"lactate"}
    np.testing.assert_allclose(half["value"], said.quantile(0.5, to=0.5)[said.at_risk], atol=1e-6)
    ask = ("ask", folder / "run", folder / "cohort", "--patient", half["id"][0], "--at", "1")
    found = good(*ask, "--to", "12h", "--json")["outcomes"]["lactate"]
    assert found["kind"] == "progression" and found["to"] == [0.5] and found["unit"] == said.unit
    assert found["quantiles"]["0.5"][0] == pytest.approx(half["value"][0], abs=1e-6)
    assert list(found["quantiles"]) == ["0.05", "0.25", "0.5", "0.75", "0.95"]
    assert found["alive"] == [1.0] and 0 <= found["seen"][0] <= 1
    text = good(*ask, "--outcome", "lactate")
    assert "90 % lie within" in text and "alive then" in text
    assert "to '0d'; must be > 0" in refused(*ask, "--to", "0d")


def test_predict_answers_a_task_at_its_moments(stays, good, refused, tmp_path):
    import polars as pl

    from gnnpatient import load_predictor, open_cohort

    folder, moments = stays
    ask = ("predict", folder / "run", folder / "cohort", "--out", tmp_path / "r.parquet")
    assert "prediction times of its own; leave out --at" in refused(*ask, "--at", "1")
    good(*ask, "--meds", tmp_path / "meds")
    labels, rows = meds_labels(tmp_path / "meds"), pl.read_parquet(tmp_path / "r.parquet")
    assert set(labels) == {"mortality/no/label.parquet", "mortality/yes/label.parquet"}
    for name in ("no", "yes"):
        assert set(labels[f"mortality/{name}/label.parquet"]) == {
            (who, at.timestamp()) for who, at, _ in moments
        }
    yes = rows.filter(cause="yes")
    said = load_predictor(folder / "run").forecast(open_cohort(folder / "cohort").moments("mortality"))
    np.testing.assert_allclose(yes["risk"], said["mortality"].risk(), atol=1e-6)
    assert set(yes["landmark"]) == {1.0, 31.0} and len(rows) == 2 * len(moments)


def test_a_task_beside_survival(stays, good, refused, tmp_path):
    """Each is asked where it can be: the task at its moments, survival on the days that are named."""
    folder, moments = stays
    few = ("--config", folder / "fit.toml", "--members", "1", "--epochs", "1", "--landmarks", "0,2")
    good("fit", folder / "cohort", "--out", tmp_path / "run", *few)
    both = "needs landmarks, and horizons after them; give --at, as in entry,1y,3y, and --horizons 1y,3y,5y"
    assert both in refused("predict", tmp_path / "run", folder / "cohort", "--out", tmp_path / "r.csv")
    words = ("predict", tmp_path / "run", folder / "cohort", "--horizons", "3", "--out", tmp_path / "r.csv")
    assert "outcome 'death' needs landmarks; give --at" in refused(*words)
    both = refused("predict", tmp_path / "run", folder / "cohort", "--out", tmp_path / "r.csv")
    assert (
        "needs landmarks, and horizons after them; give --at, as in entry" in both and "--horizons 1y" in both
    )
    good(*words, "--at", "2")
    with open(tmp_path / "r.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    task = [row for row in rows if row["outcome"] == "mortality"]
    assert len(task) == 2 * len(moments) and {float(row["landmark"]) for row in task} == {1, 31}
    death = [row for row in rows if row["outcome"] == "death"]
    assert len(death) == 60 and {float(row["landmark"]) for row in death} == {2}


def test_moments_of_the_command_line(good, refused, ward, dated, tmp_path):
    import polars as pl

    from gnnpatient import open_cohort

    folder, _ = dated
    good("pack", folder / "ward.toml", "--out", folder / "cohort")
    cohort = open_cohort(folder / "cohort")
    patient = str(cohort.ids[0])
    found = good("ask", ward / "run", folder / "cohort", "--patient", patient, "--at", "entry", "--json")
    assert found["at"] == float(cohort.entries(patient).days[0])
    day = str(np.datetime64("1970-01-01") + np.timedelta64(int(cohort.origin[0]) // 86_400 + 2, "D"))
    ask = ("predict", ward / "run", folder / "cohort", "--horizons", "4", "--out", tmp_path / "r.parquet")
    good(*ask, "--at", day)
    rows = pl.read_parquet(tmp_path / "r.parquet").filter(id=patient)
    assert set(rows["landmark"]) <= {float(cohort.at(day, patient=patient).days[0])}
    assert "did you mean 'entry'" in refused(*ask, "--at", "Entry")
    said = refused("evaluate", ward / "run", ward / "cohort", "--landmarks", "2021-03-04")
    assert "a date is another day after the origin" in said


def test_who_was_trained_on_is_said_and_unknown_without_the_run(ward, split, good, cli, tmp_path):
    import shutil

    shutil.copytree(ward / "run" / "model", tmp_path / "given" / "model")
    words = ("--at", "0", "--horizons", "5", "--out", tmp_path / "r.csv")
    for run, known in ((ward / "run", True), (ward / "run" / "model", True), (tmp_path / "given", False)):
        good("predict", run, ward / "cohort", *words)
        with open(tmp_path / "r.csv", newline="") as file:
            said = {row["id"]: row["split"] for row in csv.DictReader(file)}
        assert len(said) > 60
        for one, side in said.items():
            assert side == (("train" if one in split["train"] else "test") if known else "")
        for side in ("train", "test"):
            ask = ("ask", run, ward / "cohort", "--patient", split[side][0], "--json")
            assert good(*ask)["split"] == (side if known else None)


def test_predict_writes_meds_labels(good, ward, dated, tmp_path):
    import polars as pl

    folder, start = dated
    good("pack", folder / "ward.toml", "--out", folder / "cohort")
    ask = ("predict", ward / "run", folder / "cohort", "--at", "1,36h", "--horizons", "4,7.5")
    good(*ask, "--out", tmp_path / "r.parquet", "--meds", tmp_path / "meds")
    labels, causes = meds_labels(tmp_path / "meds"), ("discharge", "death")
    assert set(labels) == {f"death/{cause}/{days}d.parquet" for cause in causes for days in ("4", "7.5")}
    risks = pl.read_parquet(tmp_path / "r.parquet")
    for cause in causes:
        for days in (4, 7.5):
            found = labels[f"death/{cause}/{days:g}d.parquet"]
            rows = risks.filter(cause=cause, horizon=days)
            expected = {
                (int(row["id"]), start[row["id"]].timestamp() + row["landmark"] * 86_400): row["risk"]
                for row in rows.iter_rows(named=True)
            }
            assert len(found) > 80 and found == pytest.approx(expected, abs=1e-6)


def test_predict_refuses_meds_labels_without_dates_or_whole_numbers(refused, good, ward, dated, tmp_path):
    folder, _ = dated
    ask = ("--at", "1", "--horizons", "4", "--out", tmp_path / "r.csv", "--meds", tmp_path / "meds")
    assert "MEDS labels need dates" in refused("predict", ward / "run", ward / "cohort", *ask)
    for one in ("patients.csv", "labs.csv"):
        file = folder / one
        file.write_text(file.read_text().replace("\n1000,", "\n01000,"))
    good("pack", folder / "ward.toml", "--out", folder / "cohort")
    said = refused("predict", ward / "run", folder / "cohort", *ask)
    assert "MEDS needs integers as ids; 1 here are not" in said
    assert not (tmp_path / "meds").exists() and not (tmp_path / "r.csv").exists()


def test_predict_writes_meds_labels_of_a_diagnosis(sick, good, refused, tmp_path, with_dates):
    """A file a class; who has a label by then, or is gone, is in none."""
    import polars as pl

    from gnnpatient.cohort.cohort import open_cohort
    from gnnpatient.patient.predictions import write_meds_labels

    source, folder = sick[0], tmp_path / "dated"
    start = with_dates(source, folder)
    good("pack", folder / "ward.toml", "--out", folder / "cohort")
    ask = ("predict", source / "run", folder / "cohort", "--at", "1", "--horizons", "5")
    good(*ask, "--out", tmp_path / "r.parquet", "--meds", tmp_path / "meds")
    labels, rows = meds_labels(tmp_path / "meds"), pl.read_parquet(tmp_path / "r.parquet")
    curves = {f"death/{cause}/5d.parquet" for cause in ("discharge", "death")}
    assert set(labels) == curves | {"icu/no/label.parquet", "icu/yes/label.parquet"}
    for name in ("no", "yes"):
        wanted = rows.filter(outcome="icu", cause=name)
        key = [(int(who), start[who].timestamp() + 86_400) for who in wanted["id"]]
        expected = dict(zip(key, wanted["risk"], strict=True))
        assert len(key) > 40 and labels[f"icu/{name}/label.parquet"] == pytest.approx(expected, abs=1e-6)
    from gnnpatient import InputError

    # a value has no risk, so no label
    good(*ask, "--to", "1d", "--out", tmp_path / "v.parquet", "--meds", tmp_path / "more")
    values = pl.read_parquet(tmp_path / "v.parquet").filter(outcome="lactate")
    assert len(values) > 40 and set(meds_labels(tmp_path / "more")) == set(labels)
    with pytest.raises(InputError, match="MEDS labels are of risks, and a value has none; leave out --meds"):
        write_meds_labels(values, open_cohort(folder / "cohort"), tmp_path / "none")

    two = rows.filter(outcome="icu").with_columns(pl.col("cause").replace({"no": "a/b", "yes": "a b"}))
    with pytest.raises(InputError, match="make the same file name"):
        write_meds_labels(two, open_cohort(folder / "cohort"), tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_no_name_leads_out_of_the_folder_of_meds(sick, good, refused, tmp_path, with_dates):
    """A head named ../../pwn is refused where it is read, and would stay inside where its path is made."""
    import shutil

    import polars as pl

    from gnnpatient.cohort.cohort import open_cohort
    from gnnpatient.files import sealed
    from gnnpatient.patient.predictions import write_meds_labels

    source, folder = sick[0], tmp_path / "dated"
    with_dates(source, folder)
    good("pack", folder / "ward.toml", "--out", folder / "cohort")
    shutil.copytree(source / "run" / "model", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    del config["digest"]
    for part in (config["model"]["heads"], config["null"]):
        part["../../pwn"] = part.pop("icu")
    (tmp_path / "model" / "config.json").write_text(sealed(config))
    inner = tmp_path / "in" / "meds"
    words = ("--at", "1", "--horizons", "5", "--out", tmp_path / "r.csv", "--meds", inner)
    assert "not the config" in refused("predict", tmp_path / "model", folder / "cohort", *words)
    cohort = open_cohort(folder / "cohort")
    names = ["../../pwn", "/pwn", "..", ".", "a/b", "nul", "con.txt", "x" * 500, "a\0b", "death"]
    rows = pl.DataFrame({"outcome": names, "cause": names[::-1]}).with_columns(
        id=pl.lit(str(cohort.ids[0])), landmark=1.0, horizon=5.0, risk=0.5
    )
    before = {path for path in tmp_path.rglob("*")}
    write_meds_labels(rows, cohort, inner)
    new = {path for path in tmp_path.rglob("*")} - before
    files = [path for path in new if path.is_file()]
    assert len(files) == len(names) and all(path.parent.parent.parent == inner for path in files)
    assert all(path == inner.parent or path.is_relative_to(inner) for path in new)
    from gnnpatient import InputError

    case = rows.with_columns(outcome=pl.lit("death"), cause=pl.lit("Death")).head(1)
    case = pl.concat([case, case.with_columns(cause=pl.lit("death"))])
    with pytest.raises(InputError, match="make the same file name"):
        write_meds_labels(case, cohort, tmp_path / "case")
