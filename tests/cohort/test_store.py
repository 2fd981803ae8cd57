"""A cohort on disk: whole or not at all, memory-mapped, checked, never pickled."""

import ast
import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from gnnpatient.errors import Refused


@pytest.fixture
def stored(tiny, tmp_path):
    return tiny.save(tmp_path / "cohort")


def columns(cohort) -> dict[str, bytes]:
    return {name: column.dtype.str.encode() + column.tobytes() for name, column in cohort._columns().items()}


def test_save_and_open_give_the_same(tiny, stored):
    from gnnpatient import open_cohort

    cohort = open_cohort(stored, verify=True)
    assert columns(cohort) == columns(tiny)
    assert (
        isinstance(cohort.events["lab"].value, np.memmap) and not cohort.events["lab"].value.flags.writeable
    )
    for name in ("codes", "units", "levels", "report"):
        assert getattr(cohort, name) == getattr(tiny, name)
    assert list(cohort.events) == list(tiny.events) and cohort.spec == tiny.spec
    assert cohort.flow() == tiny.flow()


def test_graphs_from_disk_are_the_same(tiny, stored):
    from gnnpatient import build_graphs, open_cohort

    for patients in ([0, 1, 2], None):  # few asks are bisected one by one, many by one search
        a, b = (build_graphs(cohort.at(3.5, patients)) for cohort in (tiny, open_cohort(stored)))
        for kind in a.nodes:
            for field in fields(a.nodes[kind]):
                one, two = (getattr(graphs.nodes[kind], field.name).numpy() for graphs in (a, b))
                assert one.tobytes() == two.tobytes()
        assert all((a.edges[name] == b.edges[name]).all() for name in a.edges)


def test_a_taken_place_is_refused(tiny, stored):
    with pytest.raises(Refused, match="not empty"):
        tiny.save(stored)


def test_missing_cut_and_flipped_files_are_refused(stored):
    from gnnpatient import open_cohort

    file = stored / "lab.value.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    with pytest.raises(Refused, match=r"lab\.value\.npy: missing, cut or changed"):
        open_cohort(stored)
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    open_cohort(stored)  # sizes only
    with pytest.raises(Refused, match="not what was packed"):
        open_cohort(stored, verify=True)
    file.unlink()
    with pytest.raises(Refused, match="missing"):
        open_cohort(stored)


def test_a_pickle_in_an_array_file_is_refused(stored):
    from gnnpatient import open_cohort

    file, manifest = stored / "patient.id.npy", json.loads((stored / "manifest.json").read_text())
    np.save(file, np.array([{"a": 1}] * 80, dtype=object), allow_pickle=True)
    manifest["files"][file.name]["bytes"] = file.stat().st_size
    (stored / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Refused, match=r"patient\.id\.npy: .*pack the cohort again"):
        open_cohort(stored)


MANIFESTS = [
    ("", "not a manifest"),
    ("[]", "not a manifest"),
    ('{"schema": 3}', "not a manifest"),
    ('{"schema": 99}', "packed with schema 99, this version reads"),
]


@pytest.mark.parametrize(("text", "message"), MANIFESTS)
def test_a_manifest_that_is_none(stored, text, message):
    from gnnpatient import open_cohort

    (stored / "manifest.json").write_text(text)
    with pytest.raises(Refused, match=message):
        open_cohort(stored)


def test_a_spec_or_a_count_that_was_tampered_with(stored):
    from gnnpatient import open_cohort

    manifest = json.loads((stored / "manifest.json").read_text())
    for change in ({"spec": {"cohort": "x"}}, {"rows": {}}, {"patients": 7}, {"files": {}}):
        (stored / "manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(Refused):
            open_cohort(stored)
    with pytest.raises(Refused, match=r"holds no manifest\.json"):
        open_cohort(stored.parent)


def test_between_processes_it_travels_as_path_and_hash(tiny, stored):
    from gnnpatient import open_cohort

    cohort = open_cohort(stored)
    text = pickle.dumps(cohort.at(3))
    assert len(text) < 3000
    assert pickle.loads(text).ids.tolist() == tiny.ids.tolist()
    manifest = json.loads((stored / "manifest.json").read_text())
    (stored / "manifest.json").write_text(json.dumps(manifest | {"report": {}}))
    for again in (text, pickle.dumps(cohort)):
        with pytest.raises(Refused, match="has changed since it was named"):
            pickle.loads(again)
    assert columns(pickle.loads(pickle.dumps(tiny))) == columns(tiny)  # in memory it travels whole


def test_a_kill_midway_leaves_nothing(tmp_path):
    code = (
        "import os, signal, numpy as np\n"
        "from gnnpatient.testing import tiny_cohort\n"
        "cohort, save, count = tiny_cohort(), np.save, []\n"
        "def dying(*args, **kwargs):\n"
        "    save(*args, **kwargs)\n"
        "    count.append(1)\n"
        "    if len(count) == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "np.save = dying\n"
        f"cohort.save({str(tmp_path / 'cohort')!r})\n"
    )
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert run.returncode == -signal.SIGKILL
    assert not (tmp_path / "cohort").exists()


def test_no_pickle_in_the_package():
    import gnnpatient

    for file in Path(gnnpatient.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "joblib", "dill", "cloudpickle"}, file
            if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
                assert node.value.value is (node.arg == "weights_only"), file
