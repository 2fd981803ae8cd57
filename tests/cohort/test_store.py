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

from gnnpatient.errors import InputError
from gnnpatient.files import sealed


@pytest.fixture
def stored(tiny, tmp_path):
    return tiny.save(tmp_path / "cohort")


def write(folder, manifest):
    """A manifest with a digest that fits, as an attacker would give it."""
    text = sealed({key: value for key, value in manifest.items() if key != "digest"})
    (folder / "manifest.json").write_text(text)


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

    for patients in ([0, 1, 2], None):  # few landmarks are bisected one by one, many by one search
        a, b = (build_graphs(cohort.at(3.5, patients)) for cohort in (tiny, open_cohort(stored)))
        for kind in a.nodes:
            for field in fields(a.nodes[kind]):
                one, two = (getattr(graphs.nodes[kind], field.name).numpy() for graphs in (a, b))
                assert one.tobytes() == two.tobytes()
        assert all((a.edges[name] == b.edges[name]).all() for name in a.edges)


def test_a_taken_place_is_refused(tiny, stored):
    with pytest.raises(InputError, match="not empty"):
        tiny.save(stored)


def test_missing_cut_and_flipped_files_are_refused(stored):
    from gnnpatient import open_cohort

    file = stored / "lab.value.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    with pytest.raises(InputError, match=r"lab\.value\.npy: missing, cut or changed"):
        open_cohort(stored)
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert open_cohort(stored)  # sizes only
    with pytest.raises(InputError, match=r"lab\.value\.npy: its content is not what was packed"):
        open_cohort(stored, verify=True)
    file.unlink()
    with pytest.raises(InputError, match="missing"):
        open_cohort(stored)


def test_a_pickle_in_an_array_file_is_refused(stored):
    from gnnpatient import open_cohort

    file, manifest = stored / "patient.id.npy", json.loads((stored / "manifest.json").read_text())
    np.save(file, np.array([{"a": 1}] * 80, dtype=object), allow_pickle=True)
    manifest["files"][file.name]["bytes"] = file.stat().st_size
    write(stored, manifest)
    with pytest.raises(InputError, match=r"patient\.id\.npy: .*pack the cohort again"):
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
    with pytest.raises(InputError, match=message):
        open_cohort(stored)


def test_a_spec_or_a_count_that_was_tampered_with(stored):
    from gnnpatient import open_cohort

    manifest = json.loads((stored / "manifest.json").read_text())
    for change in ({"spec": {"cohort": "x"}}, {"rows": {}}, {"patients": 7}, {"files": {}}):
        for text in (json.dumps(manifest | change), None):
            write(stored, manifest | change)
            if text is not None:
                (stored / "manifest.json").write_text(text)
            with pytest.raises(InputError):
                open_cohort(stored)
    with pytest.raises(InputError, match=r"holds no manifest\.json"):
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
        with pytest.raises(InputError, match="was changed or packed again since"):
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


# -- hashes --


def flipped(folder):
    file = folder / "lab.value.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


def edited(name, change):
    """One array, changed in its place: the same size, type and shape."""

    def corrupt(folder):
        array = np.load(folder / f"{name}.npy")
        np.save(folder / f"{name}.npy", np.ascontiguousarray(change(array.copy())), allow_pickle=False)

    return corrupt


def put(value):
    def change(array):
        array[len(array) // 2] = value
        return array

    return change


def swapped(one, other):
    """Two arrays of one size exchanged."""

    def corrupt(folder):
        a, b = folder / f"{one}.npy", folder / f"{other}.npy"
        whole = a.read_bytes()
        assert len(whole) == b.stat().st_size and whole != b.read_bytes()
        a.write_bytes(b.read_bytes())
        b.write_bytes(whole)

    return corrupt


CORRUPT = {
    "one flipped bit": (flipped, "lab.value.npy: its content"),
    "a code of -1": (edited("lab.code", put(-1)), "lab.code.npy: its content"),
    "a code of 1e9": (edited("drug.code", put(10**9)), "drug.code.npy: its content"),
    "reversed ids": (edited("patient.id", lambda ids: ids[::-1]), "patient.id.npy: its content"),
    "two patients' rows": (edited("vital.value", lambda v: v[::-1]), "vital.value.npy: its content"),
    "a ptr": (edited("lab.ptr", put(5)), "lab.ptr.npy: its content"),
    "an outcome": (edited("outcome.death.event", put(2)), "outcome.death.event.npy: its content"),
    "a static": (edited("patient.number", put(50)), "patient.number.npy: its content"),
    "known and happened": (swapped("lab.known", "lab.happened"), "lab.known.npy: its content"),
    "another type": (edited("lab.code", lambda c: c.view(np.float32)), "lab.code.npy: its head"),
    "columns for rows": (
        lambda folder: np.save(folder / "patient.category.npy", np.load(folder / "patient.category.npy").T),
        "patient.category.npy: its head",
    ),
    "the hashes": (
        lambda folder: (folder / "pieces.sha256").write_bytes(
            b"0" * (folder / "pieces.sha256").stat().st_size
        ),
        "pieces.sha256: not the hashes",
    ),
    "no hashes": (lambda folder: (folder / "pieces.sha256").unlink(), "pieces.sha256: missing"),
}


@pytest.mark.parametrize("what", CORRUPT)
def test_what_is_not_as_it_was_packed_is_refused(stored, what, tmp_path):
    """By a look at everything, by a graph, by a fit, by a copy of it: one line, the file and the way out."""
    from gnnpatient import PrognosisModel, build_graphs, open_cohort

    corrupt, message = CORRUPT[what]
    corrupt(stored)
    uses = (
        lambda: open_cohort(stored, verify=True),
        lambda: build_graphs(open_cohort(stored).at(3)),
        lambda: PrognosisModel(epochs=1, members=1).fit(open_cohort(stored).at(3)),
        lambda: open_cohort(stored).save(tmp_path / "again"),
        lambda: pickle.dumps(open_cohort(stored).only(["lab"])),
    )
    for use in uses:
        with pytest.raises(InputError, match=message.replace(".", r"\.")) as refusal:
            use()
        assert "\n" not in str(refusal.value) and str(refusal.value).endswith("; pack the cohort again")
    assert not (tmp_path / "again").exists()


def test_one_patient_is_compared_alone(tiny, tmp_path, monkeypatch):
    """What lies near a patient's rows is compared, what lies far away is not; and nothing is read twice."""
    from gnnpatient import build_graphs, open_cohort
    from gnnpatient.cohort import arrays as home

    monkeypatch.setattr(home, "PIECE", 64)
    monkeypatch.setattr(home, "BLOCK", 256)
    folder = tiny.save(tmp_path / "cohort")
    first, last = (
        "p000",
        next(str(i) for i, n in zip(tiny.ids[::-1], np.diff(tiny.events["lab"].ptr)[::-1], strict=True) if n),
    )
    flipped(folder)  # in the last row of the labs
    cohort = open_cohort(folder)
    one, same = build_graphs(cohort.at(3, first)), build_graphs(tiny.at(3, first))
    assert one["lab"].value.numpy().tobytes() == same["lab"].value.numpy().tobytes()
    with pytest.raises(InputError, match=r"lab\.value\.npy"):
        build_graphs(cohort.at(30, last))
    with pytest.raises(InputError, match=r"lab\.value\.npy"):
        cohort.patient(last)
    read = os.pread
    monkeypatch.setattr(os, "pread", lambda *_: pytest.fail("read again"))
    build_graphs(cohort.at([1, 2, 3], first))
    monkeypatch.setattr(os, "pread", read)
    with pytest.raises(InputError, match=r"lab\.value\.npy"):
        cohort.verify()


def test_reversed_ids_are_no_unknown_patient(stored):
    from gnnpatient import open_cohort

    edited("patient.id", lambda ids: ids[::-1])(stored)
    with pytest.raises(InputError, match=r"patient\.id\.npy: its content is not what was packed"):
        open_cohort(stored).positions("p003")
    with pytest.raises(InputError, match=r"patient\.id\.npy: its content is not what was packed"):
        open_cohort(stored).verify([3])


def test_every_block_of_every_array_has_a_hash(stored):
    import hashlib

    manifest = json.loads((stored / "manifest.json").read_text())
    arrays = {file.name for file in stored.glob("*.npy")}
    assert set(manifest["files"]) == arrays and len(arrays) > 20
    for entry in manifest["files"].values():
        assert len(entry["blocks"]) == -(-entry["bytes"] // 2**20)
    raw = (stored / "manifest.json").read_bytes()
    before = raw[: raw.rindex(b',\n "digest"')] + b"\n}"
    assert manifest["digest"] == hashlib.sha256(before).hexdigest()


EDITS = {
    "two codes": lambda m: m["codes"]["lab"].reverse(),
    "a unit": lambda m: m["units"]["lab"].__setitem__(1, "furlong"),
    "two levels": lambda m: m["levels"]["sex"].reverse(),
    "a gap in the spec": lambda m: m["spec"].__setitem__("cohort", "other"),
    "a count": lambda m: m["flow"][0].__setitem__("n", 1),
    "hashes": lambda m: m["files"].__setitem__("lab.code.npy", m["files"]["drug.code.npy"]),
    "a flag": lambda m: m["report"].__setitem__("flags", ["nothing to see"]),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edited_manifest_is_refused(stored, what):
    from gnnpatient import open_cohort

    file = stored / "manifest.json"
    manifest = json.loads(file.read_text())
    EDITS[what](manifest)
    file.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    with pytest.raises(InputError, match=r"manifest\.json: not as pack wrote it.*pack the cohort again"):
        open_cohort(stored)


def test_arrays_that_do_not_fit_each_other_are_refused(tiny, tmp_path):
    """Packed so, with hashes that fit: whoever wrote it."""
    from dataclasses import replace

    from gnnpatient import build_graphs, open_cohort

    lab = tiny.events["lab"]
    falling, ptr, code = lab.known.copy(), lab.ptr.copy(), lab.code.copy()
    start = int(np.flatnonzero(np.diff(lab.ptr) > 2)[0])
    row = int(lab.ptr[start])
    falling[row : row + 2] = falling[row] + 100, falling[row]
    ptr[start + 1] = len(lab) + 7
    code[row] = 99
    category = tiny.category.copy()
    category[3, 0] = 5
    wrong = {
        r"lab\.known": {"events": {**tiny.events, "lab": replace(lab, known=falling)}},
        r"lab\.ptr": {"events": {**tiny.events, "lab": replace(lab, ptr=ptr)}},
        r"lab\.code": {"events": {**tiny.events, "lab": replace(lab, code=code)}},
        r"patient\.id": {"ids": tiny.ids[::-1]},
        r"patient\.category": {"category": category},
    }
    for i, (name, change) in enumerate(wrong.items()):
        folder = replace(tiny, **change).save(tmp_path / str(i))
        with pytest.raises(InputError, match=rf"{name}\.npy: .*; pack the cohort again"):
            open_cohort(folder, verify=True)
        if name in (r"lab\.ptr", r"lab\.code"):  # seen about one patient, too
            with pytest.raises(InputError, match=rf"{name}\.npy"):
                build_graphs(open_cohort(folder).at(3, [start]))


@pytest.mark.parametrize("name", ["../out.npy", "/tmp/out.npy", "a/b.npy", "..", "a\0.npy", "aux.value.npy"])
def test_a_manifest_names_no_file_outside(stored, name):
    from gnnpatient import open_cohort

    manifest = json.loads((stored / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["lab.code.npy"]
    write(stored, manifest)
    with pytest.raises(InputError, match="is not the name of a file; nothing outside"):
        open_cohort(stored)


def test_kinds_that_a_disk_cannot_tell_apart_are_not_saved(tiny, tmp_path):
    from dataclasses import replace

    events = {**tiny.events, "LAB": tiny.events["lab"]}
    with pytest.raises(InputError, match="but for case"):
        replace(tiny, events=events).save(tmp_path / "cohort")
    for bad in ("../lab", "a/b", "nul"):
        with pytest.raises(InputError, match="not the name of a file"):
            replace(tiny, events={bad: tiny.events["lab"], **tiny.events}).save(tmp_path / "cohort")
    assert not list(tmp_path.iterdir())


def test_no_pickle_in_the_package():
    import gnnpatient

    for file in Path(gnnpatient.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "joblib", "dill", "cloudpickle"}, file
            if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
                assert node.value.value is (node.arg == "weights_only"), file
