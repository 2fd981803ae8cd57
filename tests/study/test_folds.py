"""Fold files: nobody in training and in test, ids as the file has them."""

import numpy as np
import polars as pl
import pytest

from gnnpatient import InputError
from gnnpatient.study.folds import read_folds


def table(ids, repeats=2, folds=3):
    rows = [(r, (i + r) % folds, id) for r in range(repeats) for i, id in enumerate(ids)]
    return pl.DataFrame(rows, schema=["repeat", "fold", "id"], orient="row")


@pytest.fixture
def write(tmp_path):
    def write(frame, name="folds.parquet"):
        path = tmp_path / name
        frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
        return path

    return write


def test_each_fold_is_fitted_on_the_rest_of_its_repeat(pbc, write):
    folds = read_folds(write(table(list(range(1, 31)))), pbc)
    assert [(f.repeat, f.fold) for f in folds] == [(r, k) for r in range(2) for k in range(3)]
    for fold in folds:
        assert len(fold.train) == 20 and len(fold.test) == 10
        assert not set(fold.train) & set(fold.test)
        assert set(pbc.ids[[*fold.train, *fold.test]]) == {str(i) for i in range(1, 31)}
    assert {str(i) for i in range(1, 31, 3)} == set(pbc.ids[folds[0].test])
    assert len(read_folds(write(table([1, 2, 3])), pbc, repeats=1)) == 3


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(pl.Int64, "f.parquet"), (pl.Int32, "f.parquet"), (pl.String, "f.parquet"), (pl.String, "f.csv")],
)
def test_ids_keep_their_dtype(pbc, write, dtype, name):
    frame = table(list(range(1, 10))).with_columns(pl.col("id").cast(dtype))
    fold = read_folds(write(frame, name), pbc)[0]
    ids = fold.ids(pbc.landmarks(fold.test, times=[0, 365]))
    assert ids.dtype == dtype and len(ids) == 6
    assert set(ids) == set(frame.filter(repeat=0, fold=0)["id"])


def test_a_patient_on_both_sides_is_refused_with_the_count(pbc, write):
    frame = table(list(range(1, 31)))
    more = pl.DataFrame({"repeat": [0, 0, 1], "fold": [1, 2, 1], "id": [1, 2, 1]})
    both = pl.concat([frame, more]).unique(maintain_order=True)
    with pytest.raises(InputError, match=r"2 patient\(s\) in more than one fold of a repeat"):
        read_folds(write(both), pbc)
    assert len(read_folds(write(pl.concat([frame, frame])), pbc)) == 6, "the same row twice is one row"


def test_the_corpus_file_is_refused(pbc, faults_dir):
    with pytest.raises(InputError):
        read_folds(faults_dir / "csv" / "split_same_patient_two_folds.csv", pbc)


@pytest.mark.parametrize("name", ["f.parquet", "f.csv"])
def test_bad_files_are_refused(pbc, write, name):
    frame = table(list(range(1, 10)))
    text = frame.with_columns(pl.col("id").cast(pl.String), pl.col("fold").cast(pl.String))
    row = pl.Series(np.arange(len(frame)) == 4)
    for bad, message in (
        (frame.drop("fold"), "no column 'fold'"),
        (frame.with_columns(id=pl.col("id") + 1000), r"9 unknown patient id\(s\)|18 unknown patient"),
        (text.with_columns(id=pl.when(row).then(None).otherwise("id")), "empty cells"),
        (text.with_columns(id=pl.when(row).then(pl.lit("")).otherwise("id")), "empty cells"),
        (text.with_columns(fold=pl.when(row).then(pl.lit("x")).otherwise("fold")), "not a whole number"),
        (text.with_columns(fold=pl.when(row).then(None).otherwise("fold")), "empty cells"),
    ):
        with pytest.raises(InputError, match=message) as refusal:
            read_folds(write(bad, name), pbc)
        assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match="no such file"):
        read_folds("nowhere.parquet", pbc)
    noted = frame.with_columns(note=pl.when(row).then(pl.lit("x")))
    assert len(read_folds(write(noted, name), pbc)) == 6, "other columns are nobody's business"
