"""Write docs/cli.md, every command and option, from the command line itself: `cli_page.py FILE`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from typer.models import ArgumentInfo

from gnnpatient.cli.main import MODULES
from gnnpatient.files import atomic_file

HEAD = """# The command line

Made from the code by `make docs`; `gnnpatient COMMAND --help` shows the same. The [tutorial](tutorial.md)
uses most of these commands in order.

- Durations: `36h 30d 6w 6mo 3y`; a bare number is days. A landmark is a duration after day 0, or `entry`.
- `--json` prints what programs read; everything beside the answer goes to standard error.
- Exit code 0 is success, 2 bad input (one line names the file, row or key and the way out), 130 an
  interrupt, 1 an error of the package; `GNNPATIENT_TRACEBACK=1` shows where.
"""


KINDS = {Path: "PATH", str: "TEXT", float: "NUMBER", int: "NUMBER", bool: ""}


def page() -> str:
    """Every command with its arguments and options, as Markdown."""
    commands = [one for name in MODULES for one in import_module(f"gnnpatient.cli.{name}").COMMANDS]
    parts = [HEAD, "| command | what it does |\n|---|---|"]
    parts += [f"| [`{_name(one)}`](#{_name(one)}) | {_first(one)} |" for one in commands]
    parts.append("")
    for command in commands:
        options = list(_options(command))
        words = " ".join(name for name, *_, positional in options if positional)
        parts += [f"## {_name(command)} {{ #{_name(command)} }}\n", *_paragraphs(command)]
        parts.append(f"```text\ngnnpatient {_name(command)} {words} [OPTIONS]\n```\n".replace("  ", " "))
        parts.append("| argument or option | meaning | default |\n|---|---|---|")
        parts += [
            f"| `{_cell(name)}`{kind} | {text} | {default} |" for name, kind, text, default, _ in options
        ]
        parts.append("")
    return "\n".join(parts)


def _options(command: Callable) -> Iterator[tuple[str, str, str, str, bool]]:
    """Of each argument and option: name, type, meaning, default, and whether it is an argument."""
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        kind, info = get_args(hints[name])
        positional = isinstance(info, ArgumentInfo)
        declared = [word for word in info.param_decls or () if word.startswith("-")]
        shown = (info.metavar or name.upper()) if positional else ", ".join(declared) or _option(name)
        text, stated = re.fullmatch(r"(.*?)\s*(?:\[default: (.*)\])?", info.help or "", re.DOTALL).groups()
        default = parameter.default
        if default is inspect.Parameter.empty:
            stated = "needed"
        elif stated is None and default not in (None, False, ""):
            stated = f"`{default}`"
        yield shown, "" if positional else _kind(kind), _cell(text), _cell(stated or ""), positional


def _kind(hint: Any) -> str:
    """The type of an option's value, after its name."""
    inner = [one for one in get_args(hint) if one is not NoneType] or [hint]
    if all(isinstance(one, str) for one in inner):  # a Literal
        return " " + _cell("|".join(inner))
    while get_args(inner[0]):
        inner = list(get_args(inner[0]))
    word = KINDS[inner[0]]
    return word and f" {word}"


def _name(command: Callable) -> str:
    return command.__name__.replace("_", "-")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _paragraphs(command: Callable) -> Iterator[str]:
    for paragraph in inspect.cleandoc(command.__doc__ or "").split("\n\n"):
        yield " ".join(paragraph.split()) + "\n"


def _first(command: Callable) -> str:
    return _cell(next(_paragraphs(command)))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    with atomic_file(Path(sys.argv[1])) as part:
        part.write_text(page(), encoding="utf-8")
