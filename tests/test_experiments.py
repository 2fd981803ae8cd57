"""What an experiment decides for itself, beyond what the library does."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest


@pytest.fixture(scope="module")
def covid():
    path = Path(__file__).parents[1] / "experiments" / "covid.py"
    spec = importlib.util.spec_from_file_location("covid", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_ask_is_clean_only_where_no_picture_so_far_tells_where_the_patient_is(covid, tmp_path):
    header = "patientid,day,view,filename,in_icu,intubation_present"
    rows = {  # patient: (rows of the table, day of the ask, where its figure stands)
        "clean at once": (["0,PA,a,N,N", "3,PA,b,Y,Y"], 0, "clean"),
        "said later": (["0,PA,a,,", "2,PA,b,N,N"], 2, "clean"),
        "one of two of a day": (["0,PA,a,N,N", "0,L,b,,N", "1,PA,c,N,N"], 1, "clean"),
        "there before": (["0,PA,a,Y,N", "5,PA,b,N,N"], 0, "seen"),
        "a tube": (["0,PA,a,N,Y"], 0, "seen"),
        "a ward of which nothing is said": (["0,PA,a,,N"], 0, "unknown"),
        "there later": (["0,PA,a,,", "1,PA,b,Y,Y", "2,PA,c,N,N"], 0, "unknown"),
        "clean at no known time": ([",PA,a,N,N"], 0, "unknown"),
        "clean before the first picture alone": (["-1,PA,a,N,N", "0,PA,b,,"], 0, "unknown"),
        "there before the first picture": (["-1,PA,a,Y,Y", "0,PA,b,N,N"], 0, "seen"),
        "without a picture": ([], 0, "unknown"),
    }
    lines = [header, *(f"{name},{row}" for name, (given, _, _) in rows.items() for row in given)]
    (tmp_path / "images.csv").write_text("\n".join(lines) + "\n")
    day, where = covid.moments(tmp_path, SimpleNamespace(ids=np.array(list(rows))))
    found = {name: (float(d), str(w)) for name, d, w in zip(rows, day, where, strict=True)}
    assert found == {name: (float(d), w) for name, (_, d, w) in rows.items()}


def test_figures_compare_within_a_fold_and_say_nothing_of_few(covid):
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 20)
    fold = np.repeat([0, 1], 20)
    about = {"repeat": 0, "fold": fold, "id": [str(i) for i in range(40)], "y": y}
    parts = [
        pl.DataFrame({"asked": "first", "model": model, **about, "score": score})
        for model, score in (("baseline", rng.random(40)), ("gnn", y + 10.0 * fold), ("fold", 1.0 * fold))
    ]
    few = parts[1].head(10).with_columns(asked=pl.lit("few"))
    found = covid.figures(pl.concat([*parts, few]), draws=20)
    value = {(asked, model): auc for asked, model, auc in found.select("asked", "model", "auc").iter_rows()}
    assert value["first", "gnn"] == 1.0 and value["first", "fold"] == 0.5
    assert np.isnan(value["few", "gnn"])
    gain = dict(found.filter(asked="first").select("model", "beyond").iter_rows())
    assert gain["baseline"] == 0 and gain["gnn"] == 1 - value["first", "baseline"]


@pytest.fixture(scope="module")
def scripts():
    """The modules of experiments that import each other."""
    import importlib
    import sys

    folder, names = (
        str(Path(__file__).parents[1] / "experiments"),
        ("worlds", "pooled", "coherence", "pbc_worsening", "rivals", "forecasts"),
    )
    sys.path.insert(0, folder)
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(folder)
        for name in names:
            sys.modules.pop(name)


def test_the_way_of_a_world_goes_from_last_values_to_the_truth(scripts):
    def line(model, seed, r2, world="order", **more):
        return {"world": world, "seed": seed, "model": model, "model_seed": 0, "R2": r2, **more}

    lines = [line("last", seed, r2) for seed, r2 in ((1, 0.2), (2, 0.0))]
    lines += [line("default", seed, r2) for seed, r2 in ((1, 0.6), (2, 0.76))]
    lines += [line("network", 1, 0.9), line("gru", 1, 0.95)]
    lines += [line("default", seed, None, "null", scaled_ibs=-0.01, sd=0.05) for seed in range(5)]
    found = scripts.worlds.Found(tuple(lines))
    assert found.ways("order", "default").tolist() == pytest.approx([50.0, 76.0])
    goals = "\n".join(scripts.worlds.goals(found))
    assert "| default: lowest mean way of 1 mechanisms (order), % | 63 | >= 70 | **no** |" in goals
    assert "| default: worst single fit (order), % | 50 | >= 55 | **no** |" in goals
    assert "| network: lowest mean way of 1 mechanisms (order), % | 88 | >= 75 | yes |" in goals
    assert "| default: scaled IBS of `null`, 5 fits | -0.0100 | >= -0.0050 | **no** |" in goals
    assert "| default: sd of logit risk of `null` | 0.050 | <= 0.100 | yes |" in goals
    assert "| network - gru: R2 of `order` | -0.050 | >= -0.020 | **no** |" in goals
    (row,) = [row for row in scripts.worlds.ways_table(found) if row.startswith("| order ")]
    assert "0.68 (**63 %**, least 0.60, se 0.08)" in row and "| 0.90 (**88 %**) |" in row


def test_a_run_that_stopped_goes_on_where_it_was(scripts, tmp_path):
    task = scripts.worlds.Task(tmp_path, tmp_path, "order", 1, "last", 0, 3600, 1600)
    log = tmp_path / "log.jsonl"
    log.write_text('{"task": ["", "order", 1, "last", 0], "R2": 0.5}\n')

    def never(_):
        raise AssertionError("it is there already")

    (line,) = scripts.worlds.work_through([task], log, 1, SimpleNamespace(print=print), never)
    assert line["R2"] == 0.5 and log.read_text().count("\n") == 1


def test_a_cohort_is_scored_from_the_files_of_its_folds(scripts, tmp_path):
    """The stack knows the event, the rival of each fold is noise; the graph is not there."""
    pooled = scripts.pooled
    from gnnpatient.datasets.shipped import pbc

    folds = pl.DataFrame({"repeat": 0, "fold": np.arange(312) % 2, "id": pbc().ids})
    folds.write_parquet(tmp_path / "pbc.parquet")
    args = pooled.parser_of("").parse_args(["--work", str(tmp_path), "--folds", str(tmp_path)])
    tasks = pooled.tasks_of(args, ["pbc"], {"default": {}})
    rng, lines = np.random.default_rng(0), []
    for task in tasks:
        X = task.landmarks[1]
        truth = X.outcome("death")
        came = (truth["event"] == 2)[:, None] & (truth["time"][:, None] <= task.times)
        noise = np.repeat(rng.uniform(0.1, 0.5, (len(X), 1)), len(task.times), 1)
        flat = np.full(came.shape, 0.3)
        risks = {"gnn": 0.1 + 0.8 * came, "nograph": 0.1 + 0.8 * came, "linear": noise, "cox": flat}
        np.savez(task.file, **risks, null=flat)
        rival = "linear" if task.fold else "cox"
        line = {"cohort": "pbc", "repeat": 0, "fold": task.fold, "variant": "default", "rival": rival}
        lines.append({**line, "seconds": 1.0, "weights": {"linear": 1.0}, "tag": ""})
    found = pooled.scored("pbc", tasks, lines, 30)
    assert found.patients == len(np.unique(np.concatenate([t.landmarks[1].patient for t in tasks])))
    gain, low, high, variance = found.difference("gnn", "rival")
    drawn = found.draws[:, found.names.index("gnn"), 0] - found.draws[:, found.names.index("rival"), 0]
    assert 0 < low < gain < high and variance == pytest.approx(np.var(drawn, ddof=1))
    assert found.difference("gnn", "nograph")[:3] == (0.0, 0.0, 0.0)
    page = pooled.page([found], args)
    assert "**Development** figures" in page and "| pbc | " in page and "cox 1, linear 1" in page


def test_coherence_pairs_the_same_days_of_the_same_patients(scripts):
    """Constant hazards, of every third patient three times as high: what is said later was said before."""
    from gnnpatient import Forecast
    from gnnpatient.datasets.shipped import pbc
    from gnnpatient.study.folds import make_folds

    coherence, cohort, grid = scripts.coherence, pbc(), np.linspace(0.01, 6, 600) * 365.25

    class Constant:
        def forecast(self, X):
            rate = np.where(X.patient % 3, 1e-4, 3e-4)[:, None]
            curves = -np.expm1(-2 * rate * grid)[:, None] * [[0.5], [0.5]]
            return {"death": Forecast.from_array(curves, grid, ("transplant", "death"), X)}

    study, (fold, _) = coherence.Study(landmarks=(1.0, 3.0), gaps=(2.0,)), make_folds(cohort, "death", 2)
    rows = pl.concat(coherence.pairs(Constant(), cohort, fold, study))
    at = rows.filter(landmark=3.0, horizon=1.0, cause="death")
    days = cohort.outcomes["death"].time[fold.test] / 86_400
    assert set(at["id"]) == set(cohort.ids[fold.test][days > 5 * 365.25].tolist())
    assert np.allclose(rows["earlier"], rows["later"], atol=1e-5) and rows["earlier"].n_unique() >= 4
    weight = coherence.weights(cohort, fold.test, study)
    assert weight.rows()[0] == (1.0, 2.0, 1.0) and weight["weight"][1] > 1  # nobody leaves before 3 years
    both = [rows.select(pl.lit(name).alias("model"), pl.all()) for name in ("gnn", "cox")]
    table = coherence.figures(pl.concat(both).join(weight, on=["landmark", "gap"]), ["gnn", "cox"], draws=20)
    assert len(table) == 2 + 2 * 2 * 3
    (line,) = [one for one in table if one.startswith("| death | 2 | 3 | gnn |")]
    assert "| 1.000 [1.000, 1.000] | 0.000 [0.000, 0.000] |" in line
    assert "| gnn - cox | | | | +0.0000 [+0.0000, +0.0000] |" in table[-1]


def test_the_second_row_of_a_worsening_is_read_off_the_visits(scripts):
    from gnnpatient.datasets.shipped import DATA

    worsening = scripts.pbc_worsening
    cohort = worsening.cohort_of(DATA / "pbc")
    X = worsening.visits(cohort, np.arange(40), "bilirubin")
    seen, worse = worsening.second_row(X, "bilirubin", (0.3, 1.25))
    table = pl.read_csv(DATA / "pbc" / "pbcseq.csv", null_values=["NA", "."]).sort("id", "day")
    for i, who in enumerate(X.ids):
        mine = table.filter(pl.col("id") == int(who))
        now = int(X.days[i])  # known at the end of that day
        value = mine.filter(day=now)["bili"][0]
        later = mine.filter(pl.col("day").is_between(now + 0.3 * 365.25, now + 1.25 * 365.25))["bili"]
        assert seen[i] == (len(later) > 0) and worse[i] == bool((later >= 1.5 * value - 1e-6).any())
    assert 20 < worse.sum() < seen.sum() < len(X)
    about = {"repeat": 0, "fold": np.arange(seen.sum()) % 2, "id": X.ids[seen], "worse": worse[seen]}
    risks = {"gnn": worse[seen] * 1.0, "cox": np.zeros(seen.sum())}
    rows = pl.concat([pl.DataFrame({"model": name, **about, "risk": risk}) for name, risk in risks.items()])
    perfect, flat = worsening.ranked(rows, ["gnn", "cox"], draws=5)
    assert perfect.endswith("1.000 [1.000, 1.000] |") and flat.endswith("0.500 [0.500, 0.500] |")


def test_half_of_the_labels_are_those_of_half_of_the_units(labels):
    from gnnpatient.datasets.shipped import pbc

    X = pbc().landmarks(times=[0.0, 365.0]).followed("death")
    half, other = labels.half_of(X, (0, 0, 1)), labels.half_of(X, (0, 0, 2))
    whole = set(X.groups.tolist())
    assert len(set(half.groups.tolist())) == (len(whole) + 1) // 2
    assert len(half) == np.isin(X.groups, half.groups).sum()  # with all their landmarks
    assert set(half.groups.tolist()) != set(other.groups.tolist())


def test_the_patients_outside_of_the_trial_are_others_with_the_same_words(transport, data_dir):
    from gnnpatient.datasets.shipped import pbc

    others = transport.pbc_others(data_dir)
    assert len(others) == 106 and not set(others.ids.tolist()) & set(pbc().ids.tolist())
    assert others.outcomes["death"].names == pbc().outcomes["death"].names
    assert set(others.codes["lab"]) <= set(pbc().codes["lab"])
    X = others.landmarks(times=["entry"]).followed("death")
    assert len(X) == 106


@pytest.fixture
def labels(scripts):
    return _beside("labels")


@pytest.fixture
def transport(scripts):
    return _beside("transport")


def _beside(name):
    """A script that imports others, whose folder `scripts` has put on the path."""
    import importlib

    return importlib.import_module(name)


# ---- rivals, and the cohorts of tables


def test_the_share_of_the_gain_is_that_of_the_brier_score(scripts):
    """Over many draws of what came: null - forecast, relative to null - truth."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.1, 0.9, 400)
    found = (truth + rng.normal(0, 0.1, 400)).clip(0, 1)
    came = rng.random((4000, 400)) < truth
    null, mine, best = (((p - came) ** 2).mean() for p in (np.full(400, truth.mean()), found, truth))
    assert scripts.rivals.gain(found, truth) == pytest.approx((null - mine) / (null - best), abs=0.02)
    assert (
        scripts.rivals.gain(truth, truth) == 1
        and abs(scripts.rivals.gain(truth.mean() + 0 * truth, truth)) < 1e-9
    )


def test_a_world_came_out_as_its_truth_says(scripts):
    """Of many patients as many died by a time as their true risks add up to; censored ones are left out."""
    from gnnpatient.metrics import aalen_johansen

    made = scripts.rivals.make("thresholds", 10, 3000, seed=3)
    X = made.cohort.landmarks(made.test, times=[scripts.rivals.LANDMARK]).followed("death")
    assert len(X) == 3000
    y = X.outcome("death")
    share = aalen_johansen(y["time"], y["event"], scripts.rivals.TIMES, causes=2)[2]
    assert share == pytest.approx(made.risk[X.patient].mean(0), abs=0.03)
    sick = X.outcome("sick")["label"] == 1
    assert sick.mean() == pytest.approx(made.chance[X.patient].mean(), abs=0.03)


SMALL = {"train": 600, "test": 500, "seed": 0, "budget": 2, "members": 1, "epochs": 10}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "outcome", "name"),
    [
        ("lines", "size", "mixed"),
        ("linear", "death", "cox"),
        ("linear", "sick", "logistic"),
        ("order", "sick", "gru"),
    ],
)
def test_a_rival_is_no_straw_man(scripts, world, outcome, name):
    (line,) = scripts.rivals.run(scripts.rivals.Task(world, outcome, name, **SMALL))
    assert line["gain"] >= scripts.rivals.WANTED
    page = scripts.rivals.page([line], SimpleNamespace(epochs=10, members=1))
    assert f"| {name} | {outcome} | {world} | 600 |" in page and "| yes |" in page


@pytest.mark.parametrize("name", ["nafld", "icu", "tables", "tcga"])
def test_every_study_of_tables_names_what_is_there(scripts, name):
    for study in _beside(name).STUDIES.values():
        beside = Path(scripts.forecasts.__file__).parent / f"{study.spec}.toml"
        from gnnpatient import read_spec
        from gnnpatient.spec.graph import spec_path

        spec = read_spec(beside if beside.exists() else spec_path(study.spec))
        assert study.outcome in spec.outcomes and (study.horizons == ()) == (
            spec.outcomes[study.outcome].kind == "diagnosis"
        )


def test_a_cohort_of_tables_is_forecast_fold_by_fold(scripts, data_dir, tmp_path, monkeypatch, capsys):
    folds = pl.DataFrame({"repeat": 0, "fold": np.arange(929) % 2, "id": np.arange(1, 930)})
    folds.write_parquet(tmp_path / "folds.parquet")
    out = tmp_path / "colon.parquet"
    words = ["--data", data_dir, "--folds", tmp_path / "folds.parquet", "--models", "cox,cox history"]
    words += ["--configurations", 2, "--draws", 5, "--out", out, "--table", tmp_path / "colon.md"]
    monkeypatch.setattr("sys.argv", ["tables.py", *map(str, words)])
    scripts.forecasts.run("", "tables", _beside("tables").STUDIES)
    found = pl.read_parquet(out)
    assert found["model"].unique(maintain_order=True).to_list() == ["cox", "cox history", "null"]
    assert len(found) == 3 * 929 and found["id"].dtype == pl.Int64
    assert {"repeat", "fold", "landmark", "risk_2", "risk_4", "risk_6"} < set(found.columns)
    page = (tmp_path / "colon.md").read_text()
    assert "| cox-cox history |" in page and "2 configurations, " in page and "**Development**" in page
    monkeypatch.setattr(
        "sys.argv", ["tables.py", "--data", str(data_dir), "--models", "coxx", "--out", str(out)]
    )
    with pytest.raises(SystemExit):
        scripts.forecasts.run("", "tables", _beside("tables").STUDIES)
    assert "unknown model 'coxx'" in capsys.readouterr().err
