"""What every command shares: lines, tables, bars, durations, arguments."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnpatient.errors import InputError

if TYPE_CHECKING:
    from gnnpatient.cohort.landmarks import Landmarks
    from gnnpatient.prognosis.forecast import Predictor


DAY, YEAR = 86_400, 365.25
NOTICE = "Research use only. Not a medical device."
CODES_SHOWN = 60  # in `check`
NAMED = 5  # codes that a line names
_DATED = re.compile(r"\d{4}-\d")  # how a date begins
SpecName = Annotated[str, typer.Argument(metavar="SPEC", help="a .toml file, or a shipped name: pbc")]
CohortPath = Annotated[Path, typer.Argument(metavar="COHORT", help="a folder written by pack")]
RunPath = Annotated[
    Path, typer.Argument(metavar="RUN", help="a folder written by fit, or the model/ inside it")
]
Data = Annotated[
    Path | None, typer.Option("--data", help="folder with the tables [default: the folder of SPEC]")
]
Json = Annotated[bool, typer.Option("--json", help="answer in JSON")]
PatientId = Annotated[str, typer.Option("--patient", help="the patient's id")]
At = Annotated[
    str | None, typer.Option("--at", help="as known at: entry, 3y after the origin, or 2021-03-04")
]
OutcomeName = Annotated[
    str | None, typer.Option("--outcome", help="name of the outcome [default: the only one]")
]


def clean(text: object) -> str:
    """Text of the data as one harmless line: no escape reaches the terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(text))


def say(line: object = "") -> None:
    """One line of an answer."""
    print(clean(line))


def note(line: object) -> None:
    """One line beside the answer."""
    print(f"gnnpatient: {clean(line)}", file=sys.stderr)


def answer(content: Any) -> None:
    """JSON on standard output."""
    print(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table for people; `head` entries that begin with < are left-aligned."""
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


def days(text: str) -> float:
    """A duration of the command line in days."""
    from gnnpatient.times import seconds

    return seconds(text) / DAY


def durations(text: str) -> list[float]:
    """Several of them, parted by commas."""
    return [days(part) for part in text.split(",")]


def moments(text: str, *, dates: bool = False) -> list[float | str]:
    """Landmarks of the command line: durations after the origin in days, "entry", and dates if they may be.

    A date is another day of each patient, so that it is no landmark to fit or to score at.
    """
    from gnnpatient.errors import near

    found = list[float | str]()
    for part in map(str.strip, text.split(",")):
        if _DATED.match(part) and not dates:
            raise InputError(f"landmark {part!r}: a date is another day of each patient; give entry,1y,3y")
        if part.isalpha() and part != "entry":
            raise InputError(
                f"landmark {part!r}; write entry, or durations as in 36h or 3y{near(part, ['entry'])}"
            )
        found.append(part if part == "entry" or _DATED.match(part) else days(part))
    return found


def span(value: float | str | None, entry: float | None = None) -> str:
    """Days as people say them; None is the mean over landmarks, `entry` the day that stands for entry."""
    from gnnpatient.times import duration

    if value is None or isinstance(value, str):
        return value or "mean"
    return "entry" if value == entry else duration(value)


def _strangers(unknown: Mapping[str, Sequence[str]]) -> list[str]:
    """What was rare or unknown in training, by kind; the first few names of many."""
    lines = []
    for kind, codes in unknown.items():
        shown, more = ", ".join(codes[:NAMED]), len(codes) - NAMED
        rest = f" and {more} more" if more > 0 else ""
        which = "" if list(codes) == ["*"] else f" {shown}{rest} by name: rare or unknown in training"
        lines.append(f"the model never saw {kind}{which}")
    return lines


def _unlike(predictor: Predictor, X: Landmarks) -> list[str]:
    """What to say of asks outside the days that a model was fitted at, too early on that of entry, or about
    other units, scales and levels than it knows."""
    words = []
    if outside := int(predictor.outside(X).sum()):
        first, last = map(span, predictor.about["landmarks"])
        when = f"at {first} alone" if first == last else f"from {first} to {last}"
        words.append(f"{outside} of {len(X)} asks lie outside the fitted days ({when}): the model guesses")
    if early := int(X.early.sum()):
        words.append(
            f"{early} of {len(X)} asks come before the end of the day of entry, so nothing that was measured "
            "on it is known; ask at entry, or a day later"
        )
    return words + predictor.differences(X)


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file() or (
        folder.name == "model" and (folder.parent / "run.json").is_file()
    )


class Steps:
    """A bar for each long step, on standard error."""

    def __enter__(self) -> Steps:
        self.bars: Any = None
        self.tasks: dict[str, Any] = {}
        return self

    def __call__(self, what: str, done: int, total: int, /, **figures: Any) -> None:
        if self.bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars

            words = (
                TextColumn("{task.description}"),
                BarColumn(20),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self.bars = Bars(*words, console=Console(stderr=True, width=None if sys.stderr.isatty() else 100))
            self.bars.start()
        if what not in self.tasks:
            self.tasks[what] = self.bars.add_task(what, total=total)
        self.bars.update(self.tasks[what], completed=done, total=total)

    def __exit__(self, *failure: object) -> None:
        if self.bars is not None:
            self.bars.stop()


class Progress:
    """A bar for each member, on standard error."""

    def __enter__(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        words = (
            TextColumn("{task.description}"),
            BarColumn(20),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
        )
        self.bars = Bars(*words, console=Console(stderr=True, width=None if sys.stderr.isatty() else 100))
        self.tasks: dict[int, Any] = {}
        return self

    def __call__(self, what: str, done: int, total: int, /, **entry: Any) -> None:
        member = entry["member"]
        self.bars.start()
        for other, task in self.tasks.items():
            if other != member:  # it has ended, by patience or by its epochs
                self.bars.stop_task(task)
                self.bars.update(task, total=self.bars.tasks[task].completed)
        if member not in self.tasks:
            self.tasks[member] = self.bars.add_task(f"member {member + 1}", total=None, said="")
        said = (
            f"epoch {entry['epoch'] + 1:2d}  loss {entry['loss']:.3f}  validation {entry['validation']:.3f}"
        )
        self.bars.update(self.tasks[member], completed=entry["epoch"] + 1, said=said)

    def __exit__(self, *failure: object) -> None:
        for task in self.tasks.values():
            self.bars.update(task, total=self.bars.tasks[task].completed)
        if self.tasks:
            self.bars.stop()
