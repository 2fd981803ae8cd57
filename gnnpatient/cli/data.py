"""Tables in: draft a spec, check the tables, pack them, say what a folder is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnpatient.cli.console import (
    CODES_SHOWN,
    Data,
    Json,
    SpecName,
    Steps,
    answer,
    note,
    say,
    table,
)
from gnnpatient.errors import InputError

if TYPE_CHECKING:
    from gnnpatient.cohort.cohort import Cohort


def tables_of(spec: str, data: Path | None, **how: Any) -> Cohort:
    """Read the tables of a spec; a shipped one brings its own. how: as for `read_cohort`."""
    from gnnpatient.datasets.shipped import DATA
    from gnnpatient.ingest.read import read_cohort
    from gnnpatient.spec.graph import read_spec, spec_path

    shipped = not Path(spec).is_file() and (DATA / spec).is_dir()
    folder = data or (DATA / spec if shipped else spec_path(spec).parent)
    with Steps() as progress:
        return read_cohort(read_spec(spec), folder, progress=progress, **how)


def init(
    data: Annotated[Path, typer.Argument(metavar="DATA_DIR", help="folder with the tables")],
    out: Annotated[Path, typer.Option("--out", help="the .toml to write")],
) -> None:
    """Look at a folder of tables and draft its spec: what it found, why, and what only you can know."""
    from gnnpatient.files import atomic_file
    from gnnpatient.propose import propose

    if out.suffix != ".toml":
        raise InputError(f"{out}: a spec is a .toml file; give --out such a name")
    if out.exists():
        raise InputError(f"{out}: is there already; give --out a new name")
    draft = propose(data)
    with atomic_file(out) as part:
        part.write_text(draft, encoding="utf-8")
    asks = [line.removeprefix("# ASK:").strip() for line in draft.splitlines() if line.startswith("# ASK:")]
    say(f"{out}: a draft; read it, then gnnpatient check {out} --data {data}")
    for question in asks:
        say(f"to decide: {question}")


def check(
    spec: SpecName,
    data: Data = None,
    leaks: Annotated[bool, typer.Option("--leaks", help="look for columns that know too much")] = False,
    table1: Annotated[bool, typer.Option("--table1", help="Table 1 by outcome")] = False,
    quarantine: Annotated[
        Path | None, typer.Option(help="folder for the refused rows themselves, with line and reason")
    ] = None,
    json: Json = False,
) -> None:
    """Read a cohort's tables and say what is used, what is refused and why, and what looks wrong."""
    from gnnpatient.study import describe
    from gnnpatient.study.leaks import leaks as canary
    from gnnpatient.study.leaks import looked

    cohort = tables_of(spec, data, quarantine=quarantine, embed=False)
    alike = describe.duplicates(cohort)
    flags = list(cohort.report["flags"])
    if alike["patients"]:
        flags.append(
            f"{alike['patients']} patients in {alike['groups']} groups have the same record; one person "
            "under several ids? give them one group in [patient]"
        )
    if alike["near_ids"]:
        flags.append(f"{alike['near_ids']} id(s) equal another but for case, blanks or leading zeros")
    spread = describe.statics(cohort) + describe.distributions(cohort)
    flags += [f"{row['kind']}.{row['code']}: {flag}" for row in spread for flag in row["flags"]]
    flags += describe.durations(cohort)
    found: dict[str, Any] = {
        "cohort": cohort.spec.cohort,
        "tables": cohort.report["tables"],
        "kinds": {kind: len(cohort.events[kind]) for kind in cohort.spec.nodes},
        "flow": cohort.flow(),
        "flags": flags,
        "leaks": [vars(leak) for leak in canary(cohort)] if leaks else [],
        "looked": [vars(look) for look in looked(cohort)] if leaks else [],
        "distributions": spread,
        "sample_size": describe.sample_size(cohort),
    }
    if table1:
        found["table1"] = {name: _cells(describe.table1(cohort, name)) for name in describe.grouped(cohort)}
    if json:
        return answer(found)
    rows = []
    for name, counts in found["tables"].items():
        refused = ", ".join(f"{n} {reason}" for reason, n in counts["refused"].items()) or "0"
        rows.append((name, counts["rows"], counts["used"], counts["collapsed"], refused))
    table(f"Cohort {cohort.spec.cohort}", ["<table", "rows", "used", "collapsed", "<refused"], rows)
    table("", ["<kind of node", "rows"], found["kinds"].items())
    head = ["<kind", "<code", "rows", "patients", "missing", "1 %", "median", "99 %", "<unit", "<possible"]
    table("Values", head, [_spread(row) for row in spread[:CODES_SHOWN]])
    if len(spread) > CODES_SHOWN:
        say(f"and {len(spread) - CODES_SHOWN} codes more (--json has all)")
    table("", ["<outcome", "<step", "n"], [tuple(step.values()) for step in found["flow"]])
    for row in found["sample_size"]:
        say(f"sample size: {row['sentence']}")
    for name, cells in found.get("table1", {}).items():
        table(f"Table 1: {name}", [f"<{cell}" for cell in cells[0]], cells[1:])
    for flag in flags[:CODES_SHOWN]:
        say(f"flag: {flag}")
    if len(flags) > CODES_SHOWN:
        say(f"and {len(flags) - CODES_SHOWN} flags more (--json has all)")
    for leak in found["leaks"]:
        say(f"leak: {leak['message']}")
    if leaks and not found["leaks"]:
        say("leaks: none found")
    for look in found["looked"]:
        what = f"{look['outcome']}, {look['cause']}" if look["cause"] else look["outcome"]
        say(f"leaks: {'' if look['done'] else 'not '}looked at {what}: {look['how']}")
    if quarantine is not None:
        say(f"{quarantine}: the refused rows (they hold patients)")


def _cells(frame: Any) -> list[list[str]]:
    """A pandas table as rows of text, its head first."""
    head = ["", "", *(str(c[-1]) if isinstance(c, tuple) else str(c) for c in frame.columns)]
    names = [list(i) if isinstance(i, tuple) else [i, ""] for i in frame.index]
    return [head, *([*map(str, n), *map(str, row)] for n, row in zip(names, frame.to_numpy(), strict=True))]


def _spread(row: Mapping[str, Any]) -> tuple[object, ...]:
    def figure(value: float | None) -> str:
        return "" if value is None else f"{value:.4g}"

    possible = "" if row["range"] is None else f"{row['range'][0]:g} to {row['range'][1]:g}"
    values = (figure(row[q]) for q in ("q01", "median", "q99"))
    share = f"{row['missing']:.0%}"
    return (row["kind"], row["code"], row["rows"], row["patients"], share, *values, row["unit"], possible)


def pack(
    spec: SpecName,
    out: Annotated[Path, typer.Option("--out", help="new folder of the cohort")],
    data: Data = None,
    cache: Annotated[
        Path | None, typer.Option(help="folder that keeps embeddings of pictures and texts, for all cohorts")
    ] = None,
    device: Annotated[str, typer.Option(help="where they are made: auto, cpu or cuda")] = "auto",
    allow_network: Annotated[
        bool, typer.Option("--allow-network", help="fetch an encoder from the hub")
    ] = False,
) -> None:
    """Read a cohort's tables and write it as a folder that opens in a moment."""
    cohort = tables_of(spec, data, cache=cache, device=device, allow_network=allow_network)
    cohort.save(out)
    refused = sum(sum(t["refused"].values()) for t in cohort.report["tables"].values())
    say(f"{out}: {len(cohort)} patients, {sum(len(cohort.events[k]) for k in cohort.spec.nodes)} nodes")
    if refused or cohort.report["flags"]:
        note(f"{refused} rows refused, {len(cohort.report['flags'])} flags; {out}/manifest.json says which")
    _decisive(cohort)


def _decisive(cohort: Cohort) -> None:
    """Tell the flags that may decide a result."""
    for flag in cohort.report.get("decisive", ())[:CODES_SHOWN]:
        note(f"flag: {flag}")


def info(
    folder: Annotated[Path, typer.Argument(metavar="COHORT|RUN", help="a folder written by pack or by fit")],
    json: Json = False,
) -> None:
    """Say what a cohort or a run is. Names no patient."""
    if (folder / "manifest.json").is_file():
        found = _about_cohort(folder)
    else:
        run = folder if (folder / "run.json").is_file() or folder.name != "model" else folder.parent
        if not any((run / name).is_file() for name in ("run.json", "config.json", "model/config.json")):
            raise InputError(
                f"{folder}: neither a cohort nor a run; make one with gnnpatient pack or gnnpatient fit"
            )
        found = _about_run(run)
    if json:
        return answer(found)
    for name, value in found.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{k} {_short(v)}" for k, v in value.items()) or "-"
        say(f"{name.replace('_', ' ') + ':':<14} {_short(value)}")


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name} {_short(one)}" for name, one in value.items()) + ")"
    if isinstance(value, list):
        return ", ".join(map(_short, value)) or "-"
    return "-" if value is None else str(value)


def _load(file: Path, need: Iterable[str]) -> dict[str, Any]:
    """A JSON object with these keys."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {name: content[name] for name in need} | content
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        raise InputError(f"{file}: cut, or not what its name says; make it again") from None


def _about_cohort(folder: Path) -> dict[str, Any]:
    from gnnpatient.files import is_sealed

    manifest = _load(
        folder / "manifest.json", ("spec", "spec_hash", "schema", "patients", "rows", "codes", "flow")
    )
    if not is_sealed((folder / "manifest.json").read_bytes()):
        raise InputError(
            f"{folder / 'manifest.json'}: not as pack wrote it, its digest does not fit; pack it again"
        )
    events: dict[str, dict[str, int]] = {}
    came = ("event", "censored", "label", "with ")  # steps that say what came of patients
    for step in manifest["flow"]:
        events.setdefault(step["outcome"], {})[step["step"]] = step["n"]
    return {
        "what": "cohort",
        "cohort": manifest["spec"]["cohort"],
        "schema": manifest["schema"],
        "spec_hash": manifest["spec_hash"],
        "patients": manifest["patients"],
        "rows": manifest["rows"],
        "codes": {kind: len(names) - 1 for kind, names in manifest["codes"].items() if kind != "timepoint"},
        "outcomes": {
            name: {k.partition(": ")[2] or k: n for k, n in steps.items() if k.startswith(came)}
            for name, steps in events.items()
        },
    }


def _about_run(run: Path) -> dict[str, Any]:
    from gnnpatient.files import is_sealed

    found: dict[str, Any] = {"what": "model", "finished": True}
    if (run / "run.json").is_file():
        about = _load(run / "run.json", ("cohort", "plan"))
        split = _load(run / "split.json", ("train", "test"))
        log = run / "metrics.jsonl"
        epochs = len(log.read_text(encoding="utf-8").splitlines()) if log.is_file() else 0
        found = {
            "what": "run",
            "finished": (run / "model" / "config.json").is_file(),
            "cohort": about["cohort"],
            "train": len(split["train"]),
            "test": len(split["test"]),
            "epochs": epochs,
            "plan": about["plan"],
        }
    if found["finished"]:
        place = run / "model" if (run / "model" / "config.json").is_file() else run
        config = _load(place / "config.json", ("members", "model", "about"))
        if not is_sealed((place / "config.json").read_bytes()):
            raise InputError(f"{place / 'config.json'}: not as it was written; get the model again")
        heads = config["model"]["heads"]
        found |= {
            "members": config["members"],
            "outcomes": {
                name: {"classes": h["classes"]}
                if "classes" in h
                else {"causes": h["causes"], "horizon": h["times"][-1]}
                for name, h in heads.items()
            },
            "fitted_on": config["about"],
        }
    return found


COMMANDS = (init, check, pack, info)
