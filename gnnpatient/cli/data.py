"""Tables in: draft their spec, check them, pack them, and describe a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnpatient.cli.console import Data, Json, SpecName, note, print_json, say, table
from gnnpatient.errors import ADD_OUTCOME, InputError
from gnnpatient.progress import Bars

if TYPE_CHECKING:
    from gnnpatient.cohort.cohort import Cohort
    from gnnpatient.study.check import CohortCheck

MAX_LINES = 60  # codes and flags that `check` prints


def tables_of(spec: str, data: Path | None, **options: Any) -> Cohort:
    """Read the tables of a spec.

    Parameters
    ----------
    spec : str
        A .toml file, or the name of a shipped cohort, which brings its own tables.
    data : Path or None
        Folder with the tables; default that of the spec.
    **options : object
        As for `read_cohort`.

    Returns
    -------
    Cohort
    """
    from gnnpatient.datasets.shipped import DATA
    from gnnpatient.ingest.read import read_cohort
    from gnnpatient.spec.graph import read_spec, spec_path

    shipped = not Path(spec).is_file() and (DATA / spec).is_dir()
    folder = data or (DATA / spec if shipped else spec_path(spec).parent)
    read, script = read_spec(spec), spec_path(spec).with_suffix(".prepare.py")
    try:
        with Bars() as progress:
            return read_cohort(read, folder, progress=progress, **options)
    except InputError as error:
        if script.is_file() and any(lacks in str(error) for lacks in ("no column", "no such file")):
            raise InputError(f"{error}; the tables of this spec are made by {script.name}") from None
        raise


def refused_rows(cohort: Cohort) -> int:
    """Count the rows that were refused when a cohort was read.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    int
        Of all its tables.
    """
    return sum(sum(counts["refused"].values()) for counts in cohort.report["tables"].values())


# ---- init


def init(
    data: Annotated[Path, typer.Argument(metavar="DATA_DIR", help="folder with the tables")],
    out: Annotated[Path, typer.Option("--out", help="the .toml to write")],
    key: Annotated[
        str | None, typer.Option(help="column with the patient's id; default: it is looked for")
    ] = None,
) -> None:
    """Draft the spec of a folder of tables: what was found, why, and what only you can know."""
    from gnnpatient.files import atomic_file
    from gnnpatient.propose import propose

    if out.suffix != ".toml":
        raise InputError(f"{out}: a spec is a .toml file; give --out such a name")
    if out.exists():
        raise InputError(f"{out}: already exists; give --out a new name")
    draft = propose(data, key=key)
    with atomic_file(out) as part:
        part.write_text(draft, encoding="utf-8")
    say(f"{out}: a draft; read it, then gnnpatient check {out} --data {data}")
    for line in dict.fromkeys(draft.splitlines()):
        if line.startswith("# NOTE:"):
            say(line.removeprefix("# NOTE:").strip())
        if line.startswith("# ASK:"):
            say(f"to decide: {line.removeprefix('# ASK:').strip()}")


# ---- check


def check(
    spec: SpecName,
    data: Data = None,
    leaks: Annotated[
        bool, typer.Option("--leaks", help="look for columns that give an outcome away")
    ] = False,
    table1: Annotated[bool, typer.Option("--table1", help="Table 1 by outcome")] = False,
    quarantine: Annotated[
        Path | None, typer.Option(help="folder for the refused rows themselves, with line and reason")
    ] = None,
    json: Json = False,
) -> None:
    """Read a cohort's tables and report what is used, what is refused and why, and what looks wrong."""
    from gnnpatient.study.check import check_cohort

    cohort = tables_of(spec, data, quarantine=quarantine, embed=False)
    found = check_cohort(cohort, leaks=leaks, table1=table1)
    if json:
        return print_json(found.to_dict())
    _show_counts(found)
    _show_values(found)
    _show_outcomes(found)
    _show_flags(found)
    if leaks:
        _show_leaks(found)
    if quarantine is not None:
        say(f"{quarantine}: the refused rows (they hold patients)")


def _show_counts(found: CohortCheck) -> None:
    rows = []
    for name, counts in found.tables.items():
        refused = ", ".join(f"{n} {reason}" for reason, n in counts["refused"].items()) or "0"
        rows.append((name, counts["rows"], counts["used"], counts["collapsed"], refused))
    table(f"Cohort {found.cohort}", ["<table", "rows", "used", "collapsed", "<refused"], rows)
    table("", ["<node type", "rows"], found.kinds.items())


def _show_values(found: CohortCheck) -> None:
    quantiles = ("1 %", "median", "99 %")
    head = ["<node type", "<code", "rows", "patients", "missing", *quantiles, "<unit", "<possible"]
    table("Values", head, [_value_row(row) for row in found.distributions[:MAX_LINES]])
    if len(found.distributions) > MAX_LINES:
        say(f"and {len(found.distributions) - MAX_LINES} codes more (--json has all)")


def _value_row(row: Mapping[str, Any]) -> tuple[object, ...]:
    possible = "" if row["range"] is None else f"{row['range'][0]:g} to {row['range'][1]:g}"
    quantiles = ("" if row[q] is None else f"{row[q]:.4g}" for q in ("q01", "median", "q99"))
    counts = (row["rows"], row["patients"], f"{row['missing']:.0%}")
    return (row["kind"], row["code"], *counts, *quantiles, row["unit"], possible)


def _show_outcomes(found: CohortCheck) -> None:
    if not found.flow:
        return say(f"no outcome: {ADD_OUTCOME}")
    table("", ["<outcome", "<step", "n"], [tuple(step.values()) for step in found.flow])
    for row in found.followup:
        median, longest = row["median"], row["longest"]
        years = f" ({median / 365.25:.1f} and {longest / 365.25:.1f} years)" if longest > 365.25 else ""
        say(f"followed: {row['outcome']}: median {median:.4g} days, longest {longest:.4g}{years}")
    for row in found.sample_size:
        say(f"sample size: {row['sentence']}")
    for name, (head, *rows) in (found.table1 or {}).items():
        table(f"Table 1: {name}", [f"<{cell}" for cell in head], rows)


def _show_flags(found: CohortCheck) -> None:
    for flag in found.flags[:MAX_LINES]:
        say(f"flag: {flag}")
    if len(found.flags) > MAX_LINES:
        say(f"and {len(found.flags) - MAX_LINES} flags more (--json has all)")


def _show_leaks(found: CohortCheck) -> None:
    for leak in found.leaks:
        say(f"leak: {leak['message']}")
    if not found.flow:
        return say("leaks: not looked for, as there is no outcome")
    if not found.leaks:
        say("leaks: none found")
    for one in found.coverage:
        what = f"{one['outcome']}, {one['cause']}" if one["cause"] else one["outcome"]
        say(f"leaks: {what} {'checked' if one['done'] else 'not checked'}: {one['how']}")


# ---- pack


def pack(
    spec: SpecName,
    out: Annotated[Path, typer.Option("--out", help="new folder of the cohort")],
    data: Data = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="folder that caches the embeddings of images and texts, for all cohorts"),
    ] = None,
    device: Annotated[str, typer.Option(help="where embeddings are computed: auto, cpu or cuda")] = "auto",
    allow_network: Annotated[
        bool, typer.Option("--allow-network", help="download an encoder that is not here")
    ] = False,
) -> None:
    """Read a cohort's tables and write it as a folder that opens in a moment."""
    from gnnpatient.study.check import decisive_flags

    cohort = tables_of(spec, data, cache=cache, device=device, allow_network=allow_network)
    cohort.save(out)
    refused, flags = refused_rows(cohort), len(cohort.report["flags"])
    say(f"{out}: {len(cohort)} patients, {sum(len(cohort.events[k]) for k in cohort.spec.nodes)} nodes")
    if refused or flags:
        note(f"rows refused or not asked for: {refused}, flags: {flags}; gnnpatient check says which")
    for line in decisive_flags(cohort):
        note(line)


# ---- info


def info(
    folder: Annotated[Path, typer.Argument(metavar="COHORT|RUN", help="a folder written by pack or by fit")],
    json: Json = False,
) -> None:
    """Describe a cohort or a run. Names no patient."""
    from gnnpatient.study.info import folder_info

    found = folder_info(folder).to_dict()
    if json:
        return print_json(found)
    for name, value in found.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{k} {_one_line(v)}" for k, v in value.items()) or "-"
        say(f"{name.replace('_', ' ') + ':':<14} {_one_line(value)}")


def _one_line(value: Any) -> str:
    """JSON in short: a - is nothing."""
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name} {_one_line(one)}" for name, one in value.items()) + ")"
    if isinstance(value, list | tuple):
        return ", ".join(map(_one_line, value)) or "-"
    return "-" if value is None or value == "" else str(value)


COMMANDS = (init, check, pack, info)
