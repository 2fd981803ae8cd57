"""What every command shares: arguments, durations in, lines and tables out."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gnnpatient.errors import InputError

SpecName = Annotated[str, typer.Argument(metavar="SPEC", help="a .toml file, or a shipped name: pbc")]
CohortPath = Annotated[Path, typer.Argument(metavar="COHORT", help="a folder written by pack")]
RunPath = Annotated[
    Path, typer.Argument(metavar="RUN", help="a folder written by fit, or the model/ inside it")
]
Data = Annotated[
    Path | None, typer.Option("--data", help="folder with the tables [default: the folder of SPEC]")
]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
PatientId = Annotated[str, typer.Option("--patient", help="the patient's id")]
At = Annotated[
    str | None,
    typer.Option(
        "--at", help="as known at: entry, 3y after the origin, or 2021-03-04 [default: all that is known]"
    ),
]
OutcomeName = Annotated[
    str | None, typer.Option("--outcome", help="name of the outcome [default: the only one]")
]

MAX_SILENCE = 30.0  # seconds without a line, where a fit says how far it is
_DATE_START = re.compile(r"\d{4}-\d")


# ---- durations and landmarks in


def days(text: str) -> float:
    """Read a duration of the command line.

    Parameters
    ----------
    text : str
        As in 36h or 3y; a bare number is days.

    Returns
    -------
    float
        Days.

    Raises
    ------
    InputError
        When it is no duration.

    Examples
    --------
    >>> days("36h"), days("2")
    (1.5, 2.0)
    """
    from gnnpatient.times import DAY, seconds

    return seconds(text) / DAY


def durations(text: str) -> list[float]:
    """Read several durations, see `days`.

    Parameters
    ----------
    text : str
        Parted by commas.

    Returns
    -------
    list of float
        Days.

    Raises
    ------
    InputError
        When one is no duration.
    """
    return [days(part) for part in text.split(",")]


def moments(text: str, *, dates: bool = False) -> list[float | str]:
    """Read the landmarks of the command line.

    Parameters
    ----------
    text : str
        Durations after the origin, "entry", and dates, parted by commas.
    dates : bool, default False
        Whether dates may be among them. A date is another day of each patient, so that it is no landmark to
        fit or to score at.

    Returns
    -------
    list of float or str
        Days, "entry" and dates.

    Raises
    ------
    InputError
        When one is none of these.

    Examples
    --------
    >>> moments("entry,1y,36h")
    ['entry', 365.25, 1.5]
    """
    from gnnpatient.errors import near

    found = list[float | str]()
    for part in map(str.strip, text.split(",")):
        if _DATE_START.match(part) and not dates:
            raise InputError(
                f"landmark {part!r}: a date is another day after the origin for each patient; "
                "give entry,1y,3y"
            )
        if part.isalpha() and part != "entry":
            raise InputError(
                f"landmark {part!r}; write entry, or durations as in 36h or 3y{near(part, ['entry'])}"
            )
        found.append(part if part == "entry" or _DATE_START.match(part) else days(part))
    return found


def one_moment(text: str) -> float | str:
    """Read the one moment at which one patient is asked about.

    Parameters
    ----------
    text : str
        A duration after the origin, "entry" or a date.

    Returns
    -------
    float or str
        Days, "entry" or the date.

    Raises
    ------
    InputError
        When there are several, or it is none of these.
    """
    first, *more = moments(text, dates=True)
    if more:
        raise InputError(f"--at {text!r}: a forecast for one patient has one landmark; give one of them")
    return first


# ---- lines, tables and JSON out


def clean(text: object) -> str:
    """Make text of the data one harmless line: no escape reaches the terminal.

    Parameters
    ----------
    text : object

    Returns
    -------
    str

    Examples
    --------
    >>> clean("a" + chr(27) + "[31mb")
    'a\\\\x1b[31mb'
    """
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(text))


def say(line: object = "") -> None:
    """Print one line of the answer on standard output.

    Parameters
    ----------
    line : object
    """
    print(clean(line))


def note(line: object) -> None:
    """Print one line beside the answer on standard error.

    Parameters
    ----------
    line : object
    """
    print(f"gnnpatient: {clean(line)}", file=sys.stderr)


def print_json(content: Any) -> None:
    """Print JSON on standard output.

    Parameters
    ----------
    content : dict
        As a `to_dict()` gives it.
    """
    print(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table for people.

    Parameters
    ----------
    title : str
    head : sequence of str
        Names of the columns; one that begins with < is left-aligned.
    rows : iterable of sequence
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Table(title=Text(clean(title)), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in head:
        out.add_column(Text(name.removeprefix("<")), justify="left" if name.startswith("<") else "right")
    for row in rows:
        out.add_row(*(Text(clean(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(out)


class StepLines:
    """A line on standard error before the first fit and after each: a `gnnpatient.progress.Progress`.

    Plain lines without control characters, alike on a terminal and in a log: what was fitted and its seconds,
    how many fits are done, the time used, and how long the rest takes at this pace. A fit that is longer than
    half a minute says how far it is.

    Parameters
    ----------
    per_fold : bool, default False
        Only after the last fit of a fold.
    clock : callable
        Gives seconds; default `time.monotonic`.
    """

    def __init__(self, per_fold: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_fold = per_fold
        self.clock = clock

    def __enter__(self) -> StepLines:
        self.start = self.last = self.said = self.clock()
        return self

    def __call__(self, what: str, done: int, total: int, /, **figures: Any) -> None:
        from gnnpatient.times import DAY, duration

        now, within = self.clock(), figures.get("within")
        if not total:
            return note(what)
        if within is not None:
            if now - self.said >= MAX_SILENCE:
                self.said = now
                note(f"{what}: {within}")
            return
        if self.per_fold and not figures.get("ends_fold"):
            return
        took, used = now - self.last, now - self.start
        self.last = self.said = now
        spans = [duration(_rounded(span) / DAY) for span in (took, used, used / done * (total - done))]
        left = f", about {spans[2]} left" if done < total else ""
        name = what.partition(": ")[0] if self.per_fold else what
        note(f"{name}: {spans[0]}; {done} of {total} fits in {spans[1]}{left}")

    def __exit__(self, *failure: object) -> None:
        return


def _rounded(seconds: float) -> float:
    """Seconds to two digits or so, as a tenth of a minute or of an hour."""
    step = next((step for below, step in ((60, 1), (600, 6), (3600, 60)) if seconds < below), 360)
    return step * round(seconds / step)
