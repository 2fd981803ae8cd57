"""The command line: `gnnpatient --help`."""

from gnnpatient.cli.main import main, run

__all__ = ["main", "run"]
