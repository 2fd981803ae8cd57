"""The command line: one command a job, `--json` for programs, one line and exit code 2 for bad input.

Heavy packages are imported inside the commands, so that --help, info and check start at once.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from gnnpatient.cli.console import note, say
from gnnpatient.errors import InputError

# The files of commands, in the order of --help. Each lists its own in COMMANDS; a new one is named here.
MODULES = ("data", "fit", "evaluate", "patient", "demo")
# How torch, CUDA and others report that the memory is full
NO_MEMORY = ("can't allocate memory", "out of memory", "std::bad_alloc")


app = typer.Typer(
    help="Patient graphs in time: build cohort graphs, train prognosis models, ask about one patient.",
    epilog="Durations: 36h 30d 6w 6mo 3y; a bare number is days.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would take [default: 5] and [train] for markup
)


def _version(wanted: bool | None) -> None:
    if wanted:
        from gnnpatient import __version__

        say(f"gnnpatient {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool | None,
        typer.Option("--version", help="print the version", is_eager=True, callback=_version),
    ] = None,
) -> None:
    """Patient graphs in time: build cohort graphs, train prognosis models, ask about one patient."""


for _module in MODULES:
    for _command in import_module(f"gnnpatient.cli.{_module}").COMMANDS:
        app.command()(_command)


def main() -> None:
    """Run the `gnnpatient` command of this process, and exit with its code."""
    # batches are small: a second thread waits more than it works
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an id that this terminal cannot spell
    warnings.showwarning = lambda message, *_, **__: note(f"warning: {message}")
    sys.exit(run())


def run(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    args : sequence of str, optional
        The words after `gnnpatient`; default those of this process.

    Returns
    -------
    int
        The exit code: 0 for success, 2 for bad input, 130 for an interrupt, 1 for an error of the package or
        a closed pipe. Of 1 and 2, one line on standard error says why.
    """
    try:
        code = app(args, standalone_mode=False, prog_name="gnnpatient")
        if code == 130:  # typer makes this of Ctrl-C
            raise KeyboardInterrupt
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        note("interrupted")
        return 130
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("GNNPATIENT_TRACEBACK"):
            traceback.print_exc()
        message = _bad_input(error)
        if message is not None:
            note(message)
            return 2
        first = (str(error).splitlines() or [""])[0]
        note(f"unexpected {type(error).__name__}: {first} (GNNPATIENT_TRACEBACK=1 shows where)")
        return 1


def _bad_input(error: Exception) -> str | None:
    """The line for an error that lies in the input; None: an error of the package itself."""
    if isinstance(error, InputError):
        return str(error)
    if hasattr(error, "format_message"):  # of the command line itself
        message = " ".join(error.format_message().split())
        return f"{message or 'no command'} (see gnnpatient --help)"
    if isinstance(error, MemoryError) or any(word in str(error) for word in NO_MEMORY):
        return "out of memory; use fewer patients, rows or columns at a time, or a larger machine"
    if isinstance(error, RecursionError):
        return "what is read is nested too deeply; flatten it"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return None
