"""What an object says of itself in a terminal and in a notebook: a title, a few facts, perhaps a table.

The HTML is one small fragment without script, style sheet or external resource. It takes the colours of the
page, so that it reads on light and on dark ones, and every text in it is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

MAX_TEXT = 60  # letters of a name
MAX_LISTED = 8  # names in a list
_TABLE = "border-collapse:collapse;border:0;margin:.4em 0;color:inherit;font-size:inherit"
_RULE = "1px solid rgba(128,128,128,.35)"
_CELL = "padding:.2em 1.2em .2em 0;text-align:{};vertical-align:top;white-space:{};background:none"


@dataclass(frozen=True)
class Table:
    """A table of a summary, shown in notebooks only.

    Attributes
    ----------
    head : sequence of str
        Names of the columns; one that begins with < is left-aligned, the others are numbers.
    rows : sequence of sequence of str
        The cells.
    note : str
        A line below, as how many rows are not shown.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def html(self) -> str:
        """The table as HTML.

        Returns
        -------
        str
        """
        sides = ["left" if name.startswith("<") else "right" for name in self.head]
        names = [name.removeprefix("<") for name in self.head]
        lines = [_row("th", names, sides, _RULE)] if any(names) else []
        lines += [_row("td", row, sides) for row in self.rows]
        note = f'<div style="opacity:.7;margin:.3em 0">{_safe(self.note)}</div>' if self.note else ""
        body = "".join(lines)
        return f'<table style="{_TABLE}">{body}</table>{note}'


@dataclass(frozen=True)
class Summary:
    """What an object says of itself.

    Attributes
    ----------
    title : str
        The first line.
    facts : sequence of (str, str)
        Name and text of the lines below it.
    tables : sequence of Table
        For notebooks; what the text says in `facts` with the same name is left out there.
    instead : sequence of str
        Names of the facts that the tables show.
    """

    title: str
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    instead: Sequence[str] = field(default=())

    def text(self) -> str:
        """The summary as lines of text.

        Returns
        -------
        str

        Examples
        --------
        >>> print(Summary("Cohort ward: 2 patients", [("nodes", "9 lab"), ("time", "5 d")]).text())
        Cohort ward: 2 patients
          nodes  9 lab
          time   5 d
        """
        width = max((len(name) for name, _ in self.facts), default=0)
        lines = [f"  {printable(name):<{width}}  {printable(text)}" for name, text in self.facts]
        return "\n".join([printable(self.title), *lines])

    def html(self) -> str:
        """The summary as a fragment of HTML.

        Returns
        -------
        str

        Examples
        --------
        >>> "<script>" in Summary("<script>").html()
        False
        """
        facts = [fact for fact in self.facts if fact[0] not in self.instead]
        parts = [f'<div style="font-weight:600">{_safe(self.title)}</div>']
        if facts:
            parts.append(Table(["<", "<"], facts).html())
        parts += [table.html() for table in self.tables]
        return f'<div style="font-size:13px;line-height:1.4;overflow-x:auto">{"".join(parts)}</div>'


class Shown:
    """An object with a short `repr`, and the same for notebooks. Neither ever fails."""

    def _summary(self) -> Summary:
        raise NotImplementedError

    def __repr__(self) -> str:
        # of an object that is half made, or whose files are damaged, too: a debugger shows what it can
        try:
            return self._summary().text()
        except Exception:
            return f"<{type(self).__name__}>"

    def _repr_html_(self) -> str:
        try:
            return self._summary().html()
        except Exception:
            return escape(f"<{type(self).__name__}>")


def printable(text: object, most: int = 0) -> str:
    """Make text of the data one harmless line, cut where it is longer than `most` letters.

    Parameters
    ----------
    text : object
    most : int
        0, the default: it is not cut.

    Returns
    -------
    str

    Examples
    --------
    >>> printable("a" + chr(27) + "[31mb"), printable("a long name", 7)
    ('a\\\\x1b[31mb', 'a long…')
    """
    line = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(text))
    return line[: most - 1] + "…" if 0 < most < len(line) else line


def listed(names: Sequence[str], most: int = MAX_LISTED) -> str:
    """Names parted by commas; of many the first ones, and how many more there are.

    Parameters
    ----------
    names : sequence of str
    most : int
        Names that are shown.

    Returns
    -------
    str

    Examples
    --------
    >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], 2), listed([])
    ('a, b, c', 'a, b and 1 more', 'none')
    """
    shown = ", ".join(printable(name, MAX_TEXT) for name in names[:most])
    rest = len(names) - most
    return f"{shown} and {rest} more" if rest > 0 else shown or "none"


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it is not one.

    Parameters
    ----------
    number : int
    noun : str
        In the singular.

    Returns
    -------
    str

    Examples
    --------
    >>> counted(1, "patient"), counted(2, "patient")
    ('1 patient', '2 patients')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _row(tag: str, cells: Sequence[str], sides: Sequence[str], rule: str = "0") -> str:
    shown = [
        f'<{tag} style="{_CELL.format(side, "nowrap" if tag == "th" or side == "right" else "normal")};'
        f'border:0;border-bottom:{rule}">{_safe(cell)}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    ]
    return f'<tr style="background:none">{"".join(shown)}</tr>'


def _safe(text: object) -> str:
    return escape(printable(text))
