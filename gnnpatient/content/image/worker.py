"""Many image files, decoded in a process of their own, within limits of time and memory."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from gnnpatient.content.image.base import Image, ImageTooLargeError, UnreadableImageError, spacing_of
from gnnpatient.content.image.read import read_images
from gnnpatient.content.image.steps import check_steps
from gnnpatient.errors import InputError
from gnnpatient.progress import Progress


def guarded(
    paths: Sequence[Path],
    steps: Sequence[str] = ("stretch",),
    *,
    slices: int = 8,
    mask: bool = False,
    seconds: float | int = 20,
    memory: int = 2 << 30,
    progress: Progress | None = None,
) -> Iterator[tuple[int, list[Image] | str]]:
    """Each file's place and its pictures, or the reason why there are none; in order.

    Decoding runs in a process of its own, which holds no torch and shares nothing with this one. A file that
    takes over `seconds`, over `memory` bytes, or brings its process down costs only itself. While one file is
    looked at the next is decoded, no more; steps are those that stand in this file, by name.
    progress: called with how many files are done, and of how many.
    """
    check_steps(steps)
    worker = Worker(
        {"steps": list(steps), "slices": slices, "mask": mask, "seconds": seconds, "memory": memory}
    )
    pool = ThreadPoolExecutor(1)
    ahead: deque[Future[list[Image] | str]] = deque()
    todo = iter(paths)
    try:
        for i in range(len(paths)):
            ahead.extend(pool.submit(worker.read, path) for path in islice(todo, 2 - len(ahead)))
            found = ahead.popleft().result()
            if progress:
                progress("images", i + 1, len(paths))
            yield i, found
    finally:
        worker.stop()
        pool.shutdown(cancel_futures=True)


class Worker:
    """A process that decodes one file after the other; started at need, and again after it died."""

    def __init__(self, job: dict[str, Any], module: str = __name__):
        """job: what every file has in common, with `seconds` and `memory`; module: whose serve() works."""
        self.job, self.module = job, module
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()  # between the thread that reads and the one that stops it
        self.stopped = False

    def start(self) -> subprocess.Popen[bytes]:
        code = f"import sys; sys.path[:] = {sys.path!r}; import {self.module} as i; i.serve()"
        one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **one},
        )

    def read(self, path: Path) -> list[Image] | str:
        """The pictures of a file, or why there are none."""
        found = self.ask({"path": os.path.abspath(path)})
        return found if isinstance(found, str) else found[0].get("reason") or found[1]

    def ask(self, job: dict[str, Any], *arrays: np.ndarray) -> tuple[dict[str, Any], list[Image]] | str:
        """What the process answers to a job and to the arrays that go with it; or why it does not."""
        with self.lock:
            if self.stopped:
                return "stopped"
            fresh = self.process is None
            process = self.process = self.process or self.start()
        assert process.stdin and process.stdout
        if fresh and process.stdout.readline() != b"ready\n" and not self.stopped:
            raise InputError(
                f"the process that decodes pictures does not start; is {sys.executable} a Python?"
            )
        try:
            process.stdin.write(json.dumps({**self.job, **job}).encode() + b"\n")
            for array in arrays:
                process.stdin.write(np.ascontiguousarray(array).data.cast("B"))
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            pictures = [_receive(process.stdout, told) for told in answer["pictures"]]
        except (OSError, ValueError, EOFError):
            self.drop()
            late = process.returncode == -signal.SIGALRM
            return f"took over {self.job['seconds']:g} s" if late else "decoder crashed"
        if "refused" in answer:
            raise InputError(answer["refused"])
        if answer.get("full"):
            self.drop()  # what it holds now is unknown
            return f"took over {self.job['memory'] / (1 << 30):.3g} GB"
        return answer, pictures

    def drop(self) -> None:
        with self.lock:
            process, self.process = self.process, None
        if process is not None:
            with suppress(OSError):
                process.communicate()  # shuts its door, on which it ends, if it has not died

    def stop(self) -> None:
        """Nothing is waited for: a decoder at work is killed."""
        with self.lock:
            self.stopped = True
            if self.process is not None:
                self.process.kill()
        self.drop()


def send(pipe: Any, answer: dict[str, Any], found: Sequence[Image]) -> None:
    """A line of JSON, then the pixels."""
    answer["pictures"] = [
        {
            **vars(picture),
            "pixels": picture.pixels.shape,
            "place": None if picture.place is None else picture.place.tolist(),
        }
        for picture in found
    ]
    pipe.write(json.dumps(answer).encode() + b"\n")
    for picture in found:
        pipe.write(np.ascontiguousarray(picture.pixels).data.cast("B"))
    pipe.flush()


def _receive(pipe: Any, told: dict[str, Any]) -> Image:
    pixels = np.empty(told["pixels"], np.float32)
    rest = pixels.data.cast("B")
    while rest:
        if not (size := pipe.readinto(rest)):
            raise EOFError
        rest = rest[size:]
    place, instance = told["place"], told["instance"]
    lists = {  # which JSON knows alone
        "flags": tuple(told["flags"]),
        "spacing": spacing_of(told["spacing"]),
        "place": None if place is None else np.array(place, np.float64),
        "instance": None if instance is None else tuple(instance),
    }
    return Image(**told | lists | {"pixels": pixels})


def serve(answer: Callable[[dict[str, Any], Any], None] | None = None) -> None:
    """The life of a worker: a line of JSON in, a line of JSON and the pixels out, by default those of a file.

    The clock is the system's own alarm, which ends the process inside any decoder, and also when nobody waits
    for it any more. Memory counts from what the process holds at its start.
    """
    with open(os.dup(1), "wb") as out:
        out.write(b"ready\n")
        out.flush()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)  # a decoder written in C may print
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the dump of a crash would hold a patient's picture
        limited = False
        for line in sys.stdin.buffer:
            job = json.loads(line)
            if not limited:
                _limit(job["memory"])
                limited = True
            (answer or _answer)(job, out)  # and forget: what is held of one file would count for the next


def _answer(job: dict[str, Any], out: Any) -> None:
    """One file, within its time."""
    found: list[Image] = []
    answer: dict[str, Any] = {}
    signal.setitimer(signal.ITIMER_REAL, job["seconds"])
    try:
        found = read_images(Path(job["path"]), job["steps"], slices=job["slices"], mask=job["mask"])
    except UnreadableImageError as error:
        answer = {"reason": str(error), "full": isinstance(error, ImageTooLargeError)}
    except InputError as error:
        answer = {"refused": str(error)}
    signal.setitimer(signal.ITIMER_REAL, 0)
    send(out, answer, found)


def _limit(memory: int) -> None:
    base = 0
    with suppress(OSError, ValueError):  # /proc is Linux's
        base = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = base + memory if hard == resource.RLIM_INFINITY else min(base + memory, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
