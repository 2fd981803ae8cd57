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
    """Read many files, in order, within limits.

    Decoding runs in a process of its own, which holds no torch and shares nothing with this one. A file that
    takes too much time or memory, or brings its process down, costs only itself. While one file is looked at
    the next is decoded, no more.

    Parameters
    ----------
    paths : sequence of Path
        The files.
    steps, slices, mask
        As in `read_images`.
    seconds : float, default 20
        Time for one file.
    memory : int, default 2 GiB
        Bytes for one file.
    progress : Progress, optional
        Called with how many files are done, and of how many.

    Yields
    ------
    place : int
        Which of the paths.
    images : list of Image or str
        Its images, or the reason why there are none.

    Raises
    ------
    InputError
        When a step is unknown, an optional package is missing, or the process does not start.
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
    """A process that does one job after the other; started when needed, and again after it died.

    Parameters
    ----------
    job : dict
        What all jobs have in common, with `seconds` and `memory`.
    module : str, default this one
        Name of the module whose `serve` runs in the process.
    """

    def __init__(self, job: dict[str, Any], module: str = __name__):
        self.job, self.module = job, module
        self.process: subprocess.Popen[bytes] | None = None
        # between the thread that reads and the one that stops it
        self.lock = threading.Lock()
        self.stopped = False

    def _start(self) -> subprocess.Popen[bytes]:
        code = f"import sys; sys.path[:] = {sys.path!r}; import {self.module} as i; i.serve()"
        one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **one},
        )

    def read(self, path: Path) -> list[Image] | str:
        """Read a file.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        list of Image or str
            Its images, or the reason why there are none.
        """
        found = self.ask({"path": os.path.abspath(path)})
        return found if isinstance(found, str) else found[0].get("reason") or found[1]

    def ask(self, job: dict[str, Any], *arrays: np.ndarray) -> tuple[dict[str, Any], list[Image]] | str:
        """Send a job to the process, and wait for its answer.

        Parameters
        ----------
        job : dict
            What this job adds to that of all; it becomes JSON.
        *arrays : np.ndarray
            Sent after it, as bytes.

        Returns
        -------
        (dict, list of Image) or str
            The answer; or the reason why there is none.

        Raises
        ------
        InputError
            When the process does not start, or answers with an error of the caller.
        """
        with self.lock:
            if self.stopped:
                return "stopped"
            fresh = self.process is None
            process = self.process = self.process or self._start()
        assert process.stdin and process.stdout
        if fresh and process.stdout.readline() != b"ready\n" and not self.stopped:
            raise InputError(f"the process that decodes images does not start; is {sys.executable} a Python?")
        try:
            process.stdin.write(json.dumps({**self.job, **job}).encode() + b"\n")
            for array in arrays:
                process.stdin.write(np.ascontiguousarray(array).data.cast("B"))
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            images = [_receive(process.stdout, header) for header in answer["images"]]
        except (OSError, ValueError, EOFError):
            self._drop()
            late = process.returncode == -signal.SIGALRM
            return f"took over {self.job['seconds']:g} s" if late else "decoder crashed"
        if "error" in answer:
            raise InputError(answer["error"])
        if answer.get("full"):
            self._drop()  # what it holds now is unknown
            return f"took over {self.job['memory'] / (1 << 30):.3g} GB"
        return answer, images

    def _drop(self) -> None:
        with self.lock:
            process, self.process = self.process, None
        if process is not None:
            with suppress(OSError):
                # closes its input, on which it ends, if it has not died
                process.communicate()

    def stop(self) -> None:
        """End the process, without waiting: a decoder at work is killed."""
        with self.lock:
            self.stopped = True
            if self.process is not None:
                self.process.kill()
        self._drop()


def send(pipe: Any, answer: dict[str, Any], images: Sequence[Image]) -> None:
    """Send an answer out of the process: a line of JSON, then the pixels.

    Parameters
    ----------
    pipe : file
        Where it goes.
    answer : dict
        What becomes JSON.
    images : sequence of Image
        What goes with it.
    """
    answer["images"] = [
        {
            **vars(image),
            "pixels": image.pixels.shape,
            "place": None if image.place is None else image.place.tolist(),
        }
        for image in images
    ]
    pipe.write(json.dumps(answer).encode() + b"\n")
    for image in images:
        pipe.write(np.ascontiguousarray(image.pixels).data.cast("B"))
    pipe.flush()


def _receive(pipe: Any, header: dict[str, Any]) -> Image:
    pixels = np.empty(header["pixels"], np.float32)
    rest = pixels.data.cast("B")
    while rest:
        if not (size := pipe.readinto(rest)):
            raise EOFError
        rest = rest[size:]
    place, instance = header["place"], header["instance"]
    lists = {  # which JSON knows alone
        "flags": tuple(header["flags"]),
        "spacing": spacing_of(header["spacing"]),
        "place": None if place is None else np.array(place, np.float64),
        "instance": None if instance is None else tuple(instance),
    }
    return Image(**header | lists | {"pixels": pixels})


def serve(answer: Callable[[dict[str, Any], Any], None] | None = None) -> None:
    """Do the jobs that `Worker` sends, until it sends no more: its process runs this.

    A line of JSON comes in, a line of JSON and the pixels go out. The clock is the system's own alarm, which
    ends the process inside any decoder, and also when nobody waits for it any more. Memory counts from what
    the process holds at its start.

    Parameters
    ----------
    answer : callable, optional
        Does one job, and sends the answer into the pipe that it is given; by default it reads a file.
    """
    with open(os.dup(1), "wb") as out:
        out.write(b"ready\n")
        out.flush()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)  # a decoder written in C may print
        os.dup2(null, 2)
        # the dump of a crash would hold a patient's image
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limited = False
        for line in sys.stdin.buffer:
            job = json.loads(line)
            if not limited:
                _limit(job["memory"])
                limited = True
            # nothing of it is kept here: what is held of one file would count for the next
            (answer or _answer)(job, out)


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
        answer = {"error": str(error)}
    signal.setitimer(signal.ITIMER_REAL, 0)
    send(out, answer, found)


def _limit(memory: int) -> None:
    """No more than so many bytes beside what the process holds now."""
    base = 0
    with suppress(OSError, ValueError):  # /proc is Linux's
        base = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = base + memory if hard == resource.RLIM_INFINITY else min(base + memory, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
