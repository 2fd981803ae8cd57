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
