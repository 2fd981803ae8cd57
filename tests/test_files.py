"""Whole or not at all: kills, full disks, read-only folders, odd names, two writers."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnnpatient.errors import InputError
from gnnpatient.files import atomic_file, atomic_folder, file_name, inside, is_name, is_sealed, lock, sealed

ODD = "Größe und 患者 's folder"


def started(code: str, *arguments: object) -> subprocess.Popen:
    """Another process that runs the code and is waited for until it prints a line."""
    source = "import sys, time\nfrom pathlib import Path\nfrom gnnpatient.files import *\n" + textwrap.dedent(
        code
    )
    process = subprocess.Popen(
        [sys.executable, "-c", source, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def killed(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("name", ["plain.txt", ODD, "ends.in.npy", "x" * 250])
def test_a_file_appears_whole_and_nothing_else_does(tmp_path, name):
    with atomic_file(tmp_path / name) as part:
        part.write_text("whole")
        assert not (tmp_path / name).exists()
        assert part.suffix == Path(name).suffix  # np.save would add its own to any other
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "whole")]


def test_an_older_file_survives_an_exception_and_is_replaced_by_a_success(tmp_path):
    path = tmp_path / "kept"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["kept"] and path.read_text() == "old"
    with atomic_file(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"


def test_a_file_has_the_permissions_that_any_new_file_has(tmp_path):
    (tmp_path / "usual").touch()
    with atomic_file(tmp_path / "ours") as part:
        part.touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.binary(max_size=20), st.booleans()), max_size=6))
def test_the_file_holds_the_last_write_that_ended_well(tmp_path, writes):
    path = tmp_path / "file"
    path.unlink(missing_ok=True)
    kept = None
    for content, fails in writes:
        try:
            with atomic_file(path) as part:
                part.write_bytes(content)
                if fails:
                    raise RuntimeError
            kept = content
        except RuntimeError:
            pass
    assert (path.read_bytes() if path.exists() else None) == kept


def test_a_kill_midway_leaves_no_target(tmp_path):
    process = started(
        """
        with atomic_file(sys.argv[1] + "/file") as part, atomic_folder(sys.argv[1] + "/folder") as inside:
            part.write_text("half")
            (inside / "first").write_text("half")
            print("ready", flush=True)
            time.sleep(60)
        """,
        tmp_path,
    )
    killed(process)
    assert not (tmp_path / "file").exists() and not (tmp_path / "folder").exists()
    assert {p.name[:6] for p in tmp_path.iterdir()} == {".part-"}
    deeper = tmp_path / "checkpoints"  # of a fit
    deeper.mkdir()
    (deeper / ".part-1.safetensors").touch()
    with lock(tmp_path):
        assert sorted(p.name for p in tmp_path.rglob("*")) == [".lock", "checkpoints"]


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError("2000000 requested and 524256 written"),  # as numpy says it
    RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors
]


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
@pytest.mark.parametrize("error", FULL, ids=["python", "numpy", "safetensors"])
def test_a_full_disk_is_refused_in_one_line(tmp_path, write, error):
    message = r"^cannot write .*target: no space left on the disk; free some, or write elsewhere$"
    with pytest.raises(InputError, match=message), write(tmp_path / "target"):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_only_when_flushed(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "target").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="no space left"), atomic_file(tmp_path / "target") as part:
        part.write_text("new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("target", "old")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_disk_that_really_is_full(tmp_path):
    with pytest.raises(InputError, match="no space left"), atomic_file(tmp_path / "target.npy") as part:
        part.symlink_to("/dev/full")
        np.save(part, np.zeros(100_000))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [atomic_file, atomic_folder, lock])
@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_disk_is_refused(tmp_path, monkeypatch, write, number):
    def refuse(path, *_, **__):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match=r"cannot write .*target"), write(tmp_path / "target") as part:
        refuse(part / "inside")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only folder")
@pytest.mark.parametrize("write", [atomic_file, atomic_folder, lock])
def test_a_read_only_folder_is_refused(tmp_path, write):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="no permission"), write(tmp_path / "target") as part:
        part.write_text("never")


def test_what_is_wrong_with_the_path_is_said(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    def write(path):
        with atomic_file(tmp_path / path) as part:
            part.write_text("never")

    for path, message in {
        "no such/file": "does not exist",
        "file/inside": "is a file",
        "folder": "is a folder",
        "x" * 256: "name is too long",
    }.items():
        with pytest.raises(InputError, match=message):
            write(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_an_error_of_reading_something_else_passes_through(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "target"):
        (tmp_path / "input").read_text()
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "target"):
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_appears_whole_also_over_an_empty_one(tmp_path, there):
    path = tmp_path / "parent" / ODD
    if there:
        path.mkdir(parents=True)
    with atomic_folder(path) as part:
        (part / "deep").mkdir()
        (part / "deep" / "file").write_text("whole")
        assert not (path / "deep").exists()
    assert (path / "deep" / "file").read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == [ODD]


def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("old")
    (tmp_path / "file").write_text("old")
    for name, message in {"full": "not empty", "file": "already"}.items():
        with pytest.raises(InputError, match=message), atomic_folder(tmp_path / name):
            raise AssertionError("refused before the work, not after it")
    assert (tmp_path / "full" / "kept").read_text() == (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_the_folder_one_stands_in_is_refused(tmp_path, monkeypatch, write):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="cannot write "), write(".") as part:
        (part / "x" if part.is_dir() else part).touch()
    assert [p.name for p in tmp_path.rglob("*")] == ["here"]


def test_a_folder_that_fills_meanwhile_is_kept(tmp_path):
    with pytest.raises(InputError, match="not empty"), atomic_folder(tmp_path / "target") as part:
        (part / "ours").touch()
        (tmp_path / "target").mkdir()
        (tmp_path / "target" / "theirs").touch()
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["target", "target/theirs"]


def test_a_second_writer_is_refused_with_the_name_of_the_first(tmp_path):
    with lock(tmp_path / ODD) as folder:
        message = rf"another process is writing here \(process {os.getpid()} on"
        with pytest.raises(InputError, match=message), lock(folder):
            raise AssertionError
        (folder / "still writable").touch()
    with lock(tmp_path / ODD):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    process = started(
        """
        with lock(sys.argv[1]):
            print("ready", flush=True)
            time.sleep(60)
        """,
        tmp_path,
    )
    with pytest.raises(InputError, match=f"process {process.pid}"), lock(tmp_path):
        pass
    killed(process)
    with lock(tmp_path):
        pass


# -- names --


@given(st.text(max_size=300))
def test_any_text_makes_a_name_of_one_step(text):
    name = file_name(text)
    assert name and len(name.encode()) <= 100 and is_name(name) and name == Path(name).name
    assert name.strip(". ") and not name.endswith((".", " ")) and not set(name) & set('/\\\0:*?"<>|')
    assert inside(Path("folder"), name).parent == Path("folder")
    assert file_name(name) == name or name.startswith("_")


@pytest.mark.parametrize(
    "name", ["..", ".", "", " ", "../x", "/x", "a/b", "a\\b", "a\0", "a\nb", "NUL", "com1.npy", "a\x85b"]
)
def test_a_name_that_is_no_step_is_refused(name):
    with pytest.raises(InputError, match="is not the name of a file; nothing outside that folder is touched"):
        inside(Path("folder"), "fine", name)
    assert inside(Path("folder"), file_name(name)).parent == Path("folder")


def test_long_names_stay_different_and_plain_ones_as_they_are():
    assert file_name("liver transplant") == "liver_transplant" and file_name("Größe.csv") == "Größe.csv"
    assert file_name("ä" * 500 + "1") != file_name("ä" * 500 + "2")
    assert file_name("aux") == "_aux" and file_name("..") == "__" and file_name("auxiliary") == "auxiliary"


def test_a_private_file_is_its_owners_alone(tmp_path):
    for _ in range(2):
        with atomic_file(tmp_path / "ours", private=True) as part:
            part.write_text("secret")
        assert (tmp_path / "ours").stat().st_mode & 0o777 == 0o600


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.floats(allow_nan=False)), st.data())
def test_any_change_of_sealed_json_shows(content, data):
    import json

    content = {"first": 1} | content
    content.pop("digest", None)
    raw = sealed(content).encode("utf-8", "surrogatepass")
    assert is_sealed(raw)
    held = json.loads(raw)
    assert held.pop("digest") and held == content
    at = data.draw(st.integers(0, len(raw) - 2))  # the last byte is the end of the line
    other = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
    assert not is_sealed(other)
    assert not is_sealed(raw[:at]) and not is_sealed(b"{}") and not is_sealed(b"")
