"""Progress of long work: one callback for reading, embedding, fitting and comparing, and bars for it."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Protocol, TextIO, runtime_checkable

from gnnpatient.show import printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichBars

LINE_EVERY = 10.0  # seconds between two lines of one piece of work in a log
DRAW_EVERY = 0.2  # seconds between two pictures in a notebook


@runtime_checkable
class Progress(Protocol):
    """Called after each step of long work."""

    def __call__(self, what: str, done: int, total: int, /, **figures: Any) -> None:
        """Report how far a piece of work is.

        Parameters
        ----------
        what : str
            The piece of work, as ``"image"`` or ``"member 1"``.
        done, total : int
            Steps done, and how many there are at most: a fit may stop before. 0 and 0: `what` is a sentence.
        **figures
            Of an epoch: ``member``, ``epoch`` (both from 0), ``loss`` and ``validation``, None where it
            learns anew from all of its patients. Of a fit in folds: ``ends_fold``, whether it is the last one
            of its fold; while it goes on, and of draws, ``within``, how far it is in words.
        """


@contextmanager
def shown(progress: Progress | bool | None) -> Iterator[Progress | None]:
    """Turn what a caller passes as ``progress=`` into a callback, for the time of the work.

    Parameters
    ----------
    progress : Progress, bool or None
        True: `Bars` on standard error, or in the notebook. A callback is given back as it is.

    Yields
    ------
    Progress or None
        None where no progress is wanted.

    Examples
    --------
    >>> with shown(None) as progress:
    ...     print(progress)
    None
    """
    if not isinstance(progress, bool | None):
        yield progress
    elif progress:
        with Bars() as bars:
            yield bars
    else:
        yield None


@dataclass
class Piece:
    """How far one piece of work is.

    Attributes
    ----------
    what : str
        Its name.
    begun : float
        Second at which it was first heard of.
    done, total : int
        Steps done, and how many there are at most; 0 and 0: `what` is a sentence.
    figures : str
        What was reported beside, in words.
    heard : float
        Second of the last report.
    printed : float
        Second of the last line in a log.
    ended : bool
        Whether it was completed, or another one begun after it.
    """

    what: str
    begun: float
    done: int = 0
    total: int = 0
    figures: str = ""
    heard: float = 0.0
    printed: float = 0.0
    ended: bool = False

    def line(self) -> str:
        """The state in one line, with the time that is left at this pace.

        Returns
        -------
        str

        Examples
        --------
        >>> Piece("member 1", 0.0, done=5, total=20, figures="loss 0.412", heard=3.0).line()
        'member 1: 5 of 20, loss 0.412, 3 s, at most 9 s left'
        """
        if not self.total:
            return printable(self.what)
        parts = [f"{self.done} of {self.total}", self.figures, _time(self.heard - self.begun)]
        if not self.ended and 0 < self.done < self.total:
            left = (self.heard - self.begun) / self.done * (self.total - self.done)
            parts.append(f"{'at most' if self.figures else 'about'} {_time(left)} left")
        return f"{printable(self.what)}: {', '.join(part for part in parts if part)}"


@dataclass
class Bars:
    """A bar for each piece of work in a terminal or a notebook, a line now and then in a log.

    A `Progress` and a context manager. Nothing is shown, or loaded, before the first report.

    Attributes
    ----------
    stream : file
        Where to; default: standard error.
    place : str
        ``"terminal"``, ``"notebook"`` or ``"log"``; default: what `stream` is.
    clock : callable
        Gives seconds.
    """

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    place: str = ""
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.place = self.place or _place(self.stream)
        self._pieces: list[Piece] = []
        self._bars: RichBars | None = None
        self._tasks: dict[int, Any] = {}  # by the piece's position
        self._heard = 0.0
        self._display: Any = None
        self._drawn = -DRAW_EVERY

    def __enter__(self) -> Bars:
        self._heard = self.clock()
        return self

    def __call__(self, what: str, done: int, total: int, /, **figures: Any) -> None:
        if not total:
            return self._say(what)
        now, piece = self.clock(), self._current
        goes_on = piece is not None and (done, total) == (piece.done + 1, piece.total) and not piece.ended
        if piece is None or (what != piece.what and not goes_on):
            if piece is not None:
                self._end(piece)
            piece = Piece(what, self._heard, printed=self._heard)
            self._pieces.append(piece)
        elif (
            what != piece.what
        ):  # the next step of many, each with a name of its own: one bar, and a line each
            if piece.printed == piece.begun:
                self._print(piece)
            piece.what, piece.printed = what, -math.inf
        piece.done, piece.total, piece.heard, piece.figures = done, total, now, _figures(figures)
        self._heard = now
        if done >= total:
            self._end(piece)
        self._show(piece)

    @property
    def _current(self) -> Piece | None:
        return self._pieces[-1] if self._pieces else None

    def __exit__(self, *failure: object) -> None:
        if self._current is not None:
            self._end(self._current)
        if self._bars is not None:
            self._bars.stop()
        if self._pieces and self.place == "notebook":
            self._draw()

    def _end(self, piece: Piece) -> None:
        if piece.ended:
            return
        piece.ended = True
        if piece.printed != piece.heard:
            self._print(piece)
        if (task := self._tasks.get(len(self._pieces) - 1)) is not None and self._bars is not None:
            self._bars.update(task, completed=piece.done, total=piece.done)  # it may have stopped before

    def _say(self, sentence: str) -> None:
        if self._current is not None:
            self._end(self._current)
        if self.place == "notebook":
            self._pieces.append(Piece(sentence, self._heard, ended=True))
            self._draw()
        elif self._bars is not None:
            self._bars.console.print(printable(sentence), markup=False, highlight=False)
        else:
            print(printable(sentence), file=self.stream, flush=True)

    def _show(self, piece: Piece) -> None:
        if self.place == "terminal":
            self._bar(piece)
        elif self.place == "notebook":
            if piece.heard - self._drawn >= DRAW_EVERY:
                self._draw()
        elif not piece.ended and piece.heard - piece.printed >= LINE_EVERY:
            self._print(piece)

    def _print(self, piece: Piece) -> None:
        piece.printed = piece.heard
        if self.place == "log":
            print(piece.line(), file=self.stream, flush=True)

    def _bar(self, piece: Piece) -> None:
        """The bar of a piece of work in a terminal."""
        if self._bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as RichBars

            columns = TextColumn("{task.description}", markup=False), BarColumn(20), MofNCompleteColumn()
            figures = TextColumn("{task.fields[figures]}", markup=False)
            self._bars = RichBars(*columns, TimeElapsedColumn(), figures, console=Console(file=self.stream))
            self._bars.start()
        name, number = printable(piece.what), len(self._pieces) - 1
        if number not in self._tasks:
            self._tasks[number] = self._bars.add_task(name, figures="")
        self._bars.update(
            self._tasks[number],
            description=name,
            completed=piece.done,
            total=piece.done if piece.ended else piece.total,
            figures=piece.figures,
        )

    def _draw(self) -> None:
        """All bars in a notebook: one output, drawn anew."""
        from IPython.display import display  # type: ignore[import-not-found]

        self._drawn = self.clock()
        lines = [piece.line() for piece in self._pieces]
        content = {"text/plain": "\n".join(lines), "text/html": bars_html(self._pieces)}
        if self._display is None:
            self._display = display(content, raw=True, display_id=True)
        else:
            self._display.update(content, raw=True)


def bars_html(pieces: Iterable[Piece]) -> str:
    """Bars as HTML, without script and in the colours of the page.

    Parameters
    ----------
    pieces : iterable of Piece
        The pieces of work.

    Returns
    -------
    str

    Examples
    --------
    >>> "50%" in bars_html([Piece("lab", 0.0, done=1, total=2)])
    True
    """
    bar = "display:inline-block;width:12em;height:.6em;margin-right:1em;background:rgba(128,128,128,.25)"
    rows = []
    for piece in pieces:
        share = 1.0 if piece.ended else piece.done / max(piece.total, 1)
        inner = f'<span style="display:block;width:{share:.0%};height:100%;background:#2f6fbb"></span>'
        drawn = f'<span style="{bar}">{inner}</span>' if piece.total else ""
        rows.append(f"<div>{drawn}{escape(piece.line())}</div>")
    return f'<div style="font-size:13px;line-height:1.5">{"".join(rows)}</div>'


def _place(stream: TextIO) -> str:
    """What a stream leads to: a notebook has a kernel, which sys.modules shows without a search for it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and type(shell).__name__ in ("ZMQInteractiveShell", "Shell"):  # Shell: Colab's
        return "notebook"
    return "terminal" if stream.isatty() else "log"


def _figures(figures: Mapping[str, Any]) -> str:
    """Losses and the like in words; counts are in the bar already."""
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items() if isinstance(value, float))


def _time(seconds: float) -> str:
    """A span of time, to the second or the minute."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
