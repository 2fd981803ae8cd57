"""The command line: one command a job, `--json` for programs, one line and exit code 2 for bad input.

Heavy packages are imported inside the commands, so that --help, info and check start at once.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnpatient.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from gnnpatient.cohort.cohort import Cohort, Landmarks
    from gnnpatient.datasets.ward import SimulatedTruth
    from gnnpatient.prognosis.forecast import Answer, DiagnosisForecast, Forecast
    from gnnpatient.prognosis.people import SplitMembership
    from gnnpatient.prognosis.predictor import Predictor
    from gnnpatient.prognosis.run import Run
    from gnnpatient.study.evaluate import Evaluation

DAY, YEAR = 86_400, 365.25
NOTICE = "Research use only. Not a medical device."
CODES_SHOWN = 60  # in `check`
NO_MEMORY = ("can't allocate memory", "out of memory", "std::bad_alloc")  # as torch, CUDA and others say it
NAMED = 5  # codes that a line names
DEMOS = {"pbc": ("3y", "2y,5y"), "ward": ("5d", "10d,20d")}  # when a patient is asked about, how far ahead
DEMO_OUTCOME = "death"
WARD = 600  # patients of the ward that `demo` makes
FIGURES = ("c", "auc", "scaled_ibs", "scaled_brier")  # of `compare`
SHOWN = ("auc", "brier", "oe")  # of each horizon or class; scaled_ibs, scaled_brier of each landmark

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
def top(
    version: Annotated[
        bool | None,
        typer.Option("--version", help="say which version this is", is_eager=True, callback=_version),
    ] = None,
) -> None:
    """Patient graphs in time: build cohort graphs, train prognosis models, ask about one patient."""


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


# ---- what it prints


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


_DATED = re.compile(r"\d{4}-\d")  # how a date begins


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
    from gnnpatient.patient.figure import duration

    if value is None or isinstance(value, str):
        return value or "mean"
    return "entry" if value == entry else duration(value)


# ---- tables in


def tables_of(spec: str, data: Path | None, **how: Any) -> Cohort:
    """Read the tables of a spec; a shipped one brings its own. how: as for `read_cohort`."""
    from gnnpatient.datasets.shipped import DATA
    from gnnpatient.ingest.read import read_cohort
    from gnnpatient.spec.graph import read_spec, spec_path

    shipped = not Path(spec).is_file() and (DATA / spec).is_dir()
    folder = data or (DATA / spec if shipped else spec_path(spec).parent)
    with Steps() as progress:
        return read_cohort(read_spec(spec), folder, progress=progress, **how)


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


@app.command()
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


@app.command()
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
    from gnnpatient.study.duplicates import duplicates
    from gnnpatient.study.leaks import coverage
    from gnnpatient.study.leaks import leaks as canary
    from gnnpatient.study.sample_size import sample_size
    from gnnpatient.study.table1 import table1 as table1_of

    cohort = tables_of(spec, data, quarantine=quarantine, embed=False)
    alike = duplicates(cohort)
    flags = list(cohort.report["flags"])
    if alike.patients:
        flags.append(
            f"{alike.patients} patients in {alike.groups} groups have the same record; one person "
            "under several ids? give them one group in [patient]"
        )
    if alike.near_ids:
        flags.append(f"{alike.near_ids} id(s) equal another but for case, blanks or leading zeros")
    spread = [row.to_dict() for row in describe.statics(cohort) + describe.distributions(cohort)]
    flags += [f"{row['kind']}.{row['code']}: {flag}" for row in spread for flag in row["flags"]]
    flags += describe.durations(cohort)
    found: dict[str, Any] = {
        "cohort": cohort.spec.cohort,
        "tables": cohort.report["tables"],
        "kinds": {kind: len(cohort.events[kind]) for kind in cohort.spec.nodes},
        "flow": cohort.flow(),
        "flags": flags,
        "leaks": [leak.to_dict() for leak in canary(cohort)] if leaks else [],
        "looked": [look.to_dict() for look in coverage(cohort)] if leaks else [],
        "distributions": spread,
        "sample_size": [row.to_dict() for row in sample_size(cohort)],
    }
    if table1:
        found["table1"] = {
            name: _cells(table1_of(cohort, name)) for name in describe.grouped_outcomes(cohort)
        }
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


@app.command()
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


@app.command()
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


# ---- fit


@app.command()
def fit(
    cohort: CohortPath,
    out: Annotated[Path, typer.Option("--out", help="folder of the run")],
    outcome: Annotated[
        list[str] | None,
        typer.Option(help="name of an outcome; may be repeated [default: all of survival and diagnosis]"),
    ] = None,
    landmarks: Annotated[
        str | None,
        typer.Option(
            help="random, or entry,1y,3y [default: random: entry and many times after it; entry alone where "
            "nothing becomes known after it]"
        ),
    ] = None,
    test: Annotated[
        float | None, typer.Option(help="share of the patients to hold out [default: 0.2]")
    ] = None,
    test_by: Annotated[str | None, typer.Option(help="hold out group=VALUE, or after=DATE by day 0")] = None,
    horizon: Annotated[
        str | None, typer.Option(help="how far it forecasts [default: as far as can be scored]")
    ] = None,
    members: Annotated[int | None, typer.Option(help="networks whose mean answers [default: 5]")] = None,
    epochs: Annotated[int | None, typer.Option(help="at most, each [default: 30]")] = None,
    seed: Annotated[int | None, typer.Option(help="[default: 0]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    config: Annotated[
        Path | None, typer.Option(help="choices as [train] of a .toml; options here win")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with the fit that stopped in --out")
    ] = False,
) -> None:
    """Train a model on a part of the cohort, in a folder of its own. It can be stopped and resumed."""
    options = {
        "outcomes": outcome or None,
        "landmarks": landmarks,
        "test": test,
        "test_by": test_by,
        "horizon": horizon,
        "members": members,
        "epochs": epochs,
        "seed": seed,
    }
    given = {name: value for name, value in options.items() if value is not None}
    _fit(cohort, out, (read_config(config) if config else {}) | given, device=device, resume=resume)


def _fit(
    cohort: Path, out: Path, given: dict[str, Any], *, device: str = "auto", resume: bool = False
) -> Run:
    from gnnpatient.cohort.cohort import open_cohort

    opened = open_cohort(cohort)
    if isinstance(given.get("horizon"), str):
        given["horizon"] = days(given["horizon"])
    if given.get("landmarks", "random") != "random":
        given["landmarks"] = moments(given["landmarks"])
    opened.outcomes_with_model(given.get("outcomes"))  # what is not there is refused before torch is loaded
    from gnnpatient.prognosis.run import Run, fit_run

    was = resume and (out / "model" / "config.json").is_file()
    if given.get("outcomes") is None and not (out / "run.json").is_file():
        for name in sorted(set(opened.outcomes) - set(opened.outcomes_with_model())):
            note(f"outcome {name!r} left out: a {opened.outcomes[name].kind} has no model")
    _decisive(opened)
    if not opened.has_later_rows:
        note("nothing becomes known after entry, so every patient is asked then, once")
    with Progress() as progress:
        run = fit_run(opened, out, given, device=device, resume=resume, progress=progress)
    done = "was finished already" if was else "finished"
    say(f"{out}: {done}; fitted on {len(run.train)} patients, {len(run.test)} held out")
    assert isinstance(run, Run)
    return run


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


def read_config(path: Path) -> dict[str, Any]:
    """The choices of `[train]`: PrognosisModel's, and landmarks, test, test_by as on the command line."""
    import tomllib
    from typing import get_type_hints

    from pydantic import ValidationError, create_model

    from gnnpatient.prognosis.estimator import PrognosisModel
    from gnnpatient.prognosis.run import CHOICES
    from gnnpatient.spec.explain import explain
    from gnnpatient.spec.tables import Names, Record

    if path.suffix != ".toml":
        raise InputError(f"{path}: only a .toml file is read")
    hints = get_type_hints(PrognosisModel.__init__)
    fields: dict[str, Any] = {name: (hints[name], default) for name, default in CHOICES.items()}
    fields |= {name: (Names | None, None) for name in ("outcomes", "kinds")}
    fields |= {"horizon": (float | str | None, None), "landmarks": (str, "random")}
    fields |= {"test": (float, 0.2), "test_by": (str | None, None)}
    train = create_model("Train", __base__=Record, **fields)
    whole = create_model("Config", __base__=Record, train=(train, ...))
    try:
        content = whole.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error, whole)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: {error}") from None
    found = content.train.model_dump(exclude_unset=True)  # type: ignore[attr-defined]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


# ---- evaluate


@app.command()
def evaluate(
    run: RunPath,
    cohort: CohortPath,
    outcome: OutcomeName = None,
    landmarks: Annotated[
        str | None, typer.Option(help="ask at [default: as fitted, or entry,1y,3y,5y]")
    ] = None,
    horizons: Annotated[
        str | None, typer.Option(help="up to [default: 1y,3y,5y as far as the model goes]")
    ] = None,
    by: Annotated[str | None, typer.Option(help="repeat in groups of: sex,age,site")] = None,
    censoring: Annotated[
        str, typer.Option(help="km: alike for all; cox: beside it by last observations, both are shown")
    ] = "km",
    json: Json = False,
) -> None:
    """Score a model, with intervals, beside a plain rival and the null, on patients it has not seen.

    The rival is a stacked Cox model, of a diagnosis a stacked logistic one.
    """
    at = moments(landmarks) if landmarks else None
    until = durations(horizons) if horizons else None
    groups = by.split(",") if by else []
    found, words = _evaluate(run, cohort, outcome, at, until, groups, censoring=censoring)
    for line in words:
        note(line)
    for line in found.warnings:
        note(f"warning: {line}")
    answer(found.to_dict()) if json else _show(found)


def _evaluate(
    folder: Path,
    path: Path,
    outcome: str | None,
    at: Sequence[float | str] | None,
    horizons: Sequence[float] | None,
    by: Sequence[str],
    truth: SimulatedTruth | None = None,
    censoring: str = "km",
) -> tuple[Evaluation, list[str]]:
    """The figures, and what has to be said beside them."""
    if censoring not in ("km", "cox"):
        raise InputError(f"--censoring {censoring!r}; km or cox would do")
    import numpy as np

    from gnnpatient.cohort.cohort import open_cohort
    from gnnpatient.cohort.outcomes import Survival, Task
    from gnnpatient.cohort.splits import default_horizons
    from gnnpatient.model.heads import SurvivalConfig
    from gnnpatient.prognosis.checkpoint import load_predictor
    from gnnpatient.prognosis.run import Run, scored_landmarks, usual_landmarks
    from gnnpatient.study import evaluate as study
    from gnnpatient.study.baselines import StackedCox, StackedLogistic, marginal_model
    from gnnpatient.study.scoreboard import Model, ModelRisks

    predictor, cohort = load_predictor(folder), open_cohort(path, verify=True)
    run = Run.open(folder) if _is_run(folder) else None
    name = _outcome(predictor, cohort, outcome)
    head = predictor.modules[0].head(name).config
    curves = isinstance(head, SurvivalConfig)
    if curves != isinstance(cohort.outcomes[name], Survival):
        raise InputError(
            f"outcome {name!r}: a {cohort.outcomes[name].kind} here, of another kind in the model"
        )
    reach = float(head.times[-1]) if isinstance(head, SurvivalConfig) else None
    if horizons is not None and reach is None:
        raise InputError(f"outcome {name!r} is a diagnosis, which has no horizon to choose; leave it out")
    if at is not None and isinstance(cohort.outcomes[name], Task):
        raise InputError(f"outcome {name!r} is asked at its own moments; leave out --landmarks")
    rival = "cox" if curves else "logistic"
    words, left, fitted_too = [], np.arange(len(cohort)), False
    told = run.split_of(cohort) if run else None
    if told and run:
        left, fitted_too = np.flatnonzero(told.side != "train"), told.exact
    if told and (told.exact or told.known):
        words += _people(told)
        if not fitted_too:
            words.append(
                f"the cohort is not the very one of the fit, so there is no {rival} fitted on the same asks"
            )
    else:
        known = run.cohort["name"] if run else predictor.about.get("cohort")
        words.append(f"external validation: fitted on {known}, scored on {cohort.spec.cohort}; no {rival}")
        if told:
            words += _people(told)
        if run is None:
            words.append(
                "the model alone does not know its training patients; give the RUN to leave them out"
            )
    if not len(left):
        raise InputError(f"{path}: nobody left to score; all {len(cohort)} patients were trained on")
    if at is None:
        fitted = run.plan["landmarks"] if run else "random"
        at = usual_landmarks(cohort, name) if fitted == "random" else list(fitted)
    X = scored_landmarks(cohort, left, name, at)
    if not len(X):
        raise InputError(
            f"nobody left to score: none of {len(left)} patients is at risk at {', '.join(map(span, at))}"
        )
    words += [*_strangers(predictor.unknown(X)), *_unlike(predictor, X)]
    times, grid = [], np.zeros(0)
    if reach is not None:
        times = sorted(default_horizons(reach) if horizons is None else horizons)
        if times[-1] > reach * (1 + 1e-9) or times[0] <= 0:
            bad = times[-1] if times[-1] > reach else times[0]
            raise InputError(f"horizon {bad:g} days; this model was fitted up to {reach:g} days")
        grid = np.unique(np.concatenate([np.linspace(0, times[-1], 61)[1:], times]))
    models: dict[str, Model] = {"gnn": predictor}
    if fitted_too and run is not None:
        least = int(run.plan["min_patients"])  # the same mapping of rare codes as the model's
        own = (
            StackedLogistic(outcomes=[name], min_patients=least)
            if reach is None
            else StackedCox(outcomes=[name], horizon=reach, min_patients=least)
        )
        models[rival] = own.fit(run.landmarks(cohort))
    here, there = (
        cohort.outcomes_with_model([name])[name].names,
        head.causes if isinstance(head, SurvivalConfig) else head.classes,
    )
    if here != there:
        word = "causes" if curves else "classes"
        raise InputError(f"outcome {name!r}: {word} {', '.join(here)}; the model has {', '.join(there)}")
    fitted_on = np.flatnonzero(told.side == "train") if told else np.zeros(0, np.int64)
    train = None  # whom the null is of: the training patients at the landmarks that are scored
    if len(fitted_on) and not isinstance(cohort.outcomes[name], Task):
        train = scored_landmarks(cohort, fitted_on, name, at)
    models["null"] = marginal_model(predictor, name, train)
    if truth is not None:
        from gnnpatient.study.oracle import Oracle

        models["oracle"] = Oracle(name, here, grid, truth.risk)
    part: tuple[Mapping[str, Model], Landmarks] = (models, X)
    scored = ModelRisks.of([part], name, grid)
    held_out = (told.count("test") if told.exact or told.known else len(left)) if told else 0
    return study.evaluate(
        scored,
        outcome=name,
        horizons=times,
        by=by,
        against=("gnn", rival),
        held_out=held_out,
        censoring=censoring,
    ), words


def _unlike(predictor: Predictor, X: Landmarks) -> list[str]:
    """What to say of asks outside the days that a model was fitted at, too early on that of entry, or about
    other units, scales and levels than it knows."""
    words = []
    if outside := int(predictor.outside(X).sum()):
        first, last = map(span, predictor.about["landmarks"])
        when = f"at {first} alone" if first == last else f"from {first} to {last}"
        words.append(f"{outside} of {len(X)} asks lie outside the fitted days ({when}): the model guesses")
    if early := int(X.early_at_entry.sum()):
        words.append(
            f"{early} of {len(X)} asks come before the end of the day of entry, so nothing that was measured "
            "on it is known; ask at entry, or a day later"
        )
    return words + predictor.differences(X)


def _people(told: SplitMembership) -> list[str]:
    """Who of the scored was trained on, and how that is known."""
    trained, held, unknown = (told.count(side) for side in ("train", "test", None))
    words = []
    if trained or told.exact:
        words.append(f"{trained} training patients left out, {held} held out")
    if not told.exact and told.known and unknown:
        words.append(
            f"warning: {unknown} of those that are scored are not known to the run: nobody can say that they "
            "were held out"
        )
    if told.by_record:
        words.append(
            f"{told.by_record} patients have another id than at the fit and the same record: each may be the "
            "same person, and is taken for it"
        )
    if told.by_id:
        words.append(
            f"{told.by_id} patients are taken for training patients by their id alone, with other "
            "records; where they are other people, give the cohort another name"
        )
    if told.strangers:
        words.append(
            f"warning: {told.strangers} patient ids here are ids of training patients, too, with other "
            "records: scored as other people"
        )
    return words


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file() or (
        folder.name == "model" and (folder.parent / "run.json").is_file()
    )


def _outcome(predictor: Predictor, cohort: Cohort, outcome: str | None) -> str:
    """The outcome meant: one that the model answers and the cohort knows."""
    from gnnpatient.errors import near

    if outcome is None and len(predictor.outcomes) > 1:
        raise InputError(f"several outcomes; name one of {', '.join(predictor.outcomes)} with --outcome")
    name = predictor.outcomes[0] if outcome is None else outcome
    if name not in predictor.outcomes:
        raise InputError(f"the model has no outcome {name!r}{near(name, predictor.outcomes)}")
    return cohort.outcome_names(name)[0]


def _show(found: Evaluation, metrics: Sequence[str] = SHOWN, estimable: bool = False) -> None:
    """The figures for people: a row a figure, a column a model; all, or those that some model has."""
    metrics = (*metrics, "scaled_ibs", "scaled_brier")
    rows = [r for r in found.rows if r["metric"] in metrics]
    if estimable:
        place = ("cause", "group", "censoring", "metric", "landmark", "horizon")
        there = {tuple(r[name] for name in place) for r in rows if r["value"] is not None}
        rows = [r for r in rows if tuple(r[name] for name in place) in there]
    models = list(dict.fromkeys(r["model"] for r in rows))
    for cause, group, weights in dict.fromkeys((r["cause"], r["group"], r["censoring"]) for r in rows):
        lines: dict[tuple[Any, ...], dict[str, str]] = {}
        for r in rows:
            if (r["cause"], r["group"], r["censoring"]) == (cause, group, weights):
                key = r["metric"], span(r["landmark"], found.entry), _until(r)
                lines.setdefault(key, {})[r["model"]] = _figure(r)
        order = sorted(lines.items(), key=lambda line: metrics.index(line[0][0]))
        title = f"{found.outcome}: {cause}" + (f", {group}" if group else "")
        title += ", censoring by last observations (cox)" if weights == "cox" else ""
        shown = [(*key, *(cell.get(m, "") for m in models)) for key, cell in order]
        table(title, ["<metric", "landmark", "horizon", *(m.replace("-", " - ") for m in models)], shown)
    counts = ", ".join(f"{n} {cause}" for cause, n in found.events.items())
    most = max((r["draws"] or 0 for r in rows), default=0)
    say(f"{found.patients} patients scored ({counts}). - : not estimable.")
    say(f"Intervals resample {found.units}, 95 %.")
    if lost := [r["draws"] for r in rows if r["draws"] is not None and r["draws"] < most]:
        say(f"In {len(lost)} figures some draws gave no number; at the least {min(lost)} of {most} did.")
    if any(r["interval"] == "groups, t" for r in rows):
        say("Fewer than 30 groups: intervals by t with one degree of freedom less.")
    elif found.units == "groups" and {r["interval"] for r in rows if r["value"] is not None} == {None}:
        say("Fewer than 5 groups: no intervals.")
    if found.too_small:
        say(found.too_small)


def _until(row: Mapping[str, Any]) -> str:
    """A horizon in words; a label has none."""
    if row["horizon"] is not None:
        return span(row["horizon"])
    return "all" if row["metric"] == "scaled_ibs" else ""


def _figure(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "-"
    around = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{around}"


# ---- compare


@app.command()
def compare(
    cohort: CohortPath,
    outcome: Annotated[str, typer.Option(help="name of the outcome")],
    folds: Annotated[
        Path | None, typer.Option(help="file of folds: repeat, fold, id [default: five folds by patient]")
    ] = None,
    members: Annotated[int | None, typer.Option(help="networks of each contestant [default: 3]")] = None,
    epochs: Annotated[int | None, typer.Option(help="at most, each [default: 30]")] = None,
    seed: Annotated[int | None, typer.Option(help="[default: 0]")] = None,
    missing: Annotated[
        str, typer.Option(help="kinds to take from more and more patients: image,note; how the score falls")
    ] = "",
    json: Json = False,
) -> None:
    """Does fusion help? Each kind of node alone, each left out, all together in several ways."""
    from gnnpatient.cohort.cohort import open_cohort

    open_cohort(cohort).named(outcome)  # what is not there is refused before torch is loaded
    from gnnpatient.study.compare import run_compare
    from gnnpatient.study.missingness import missing_curve, pattern_only

    kinds = [kind.strip() for kind in missing.split(",") if kind.strip()]
    with Steps() as progress:
        given = {"members": members, "epochs": epochs, "seed": seed}
        budget = {name: value for name, value in given.items() if value is not None}
        found = run_compare(cohort, outcome, folds, progress, kinds, **budget)
    curve = [row for kind in kinds for row in missing_curve(found, kind)]
    pattern = pattern_only(found)
    if json:
        return answer({**found.to_dict(), "missing": curve, "pattern": pattern})
    lines = _means(found.rows, "model")
    metrics = [m for m in FIGURES if any(m in cells for cells in lines.values())]
    shown = [
        (name, *(cells.get(m, "") for m in metrics), found.parameters.get(name, ""))
        for (name,), cells in lines.items()
    ]
    table(f"{outcome}: mean over landmarks", ["<model", *metrics, "parameters"], shown)
    if curve:
        head = ["<taken", "from patients", "asks without", *metrics]
        lost = [
            (kind, f"{share:.0%}", f"{lacking:.0%}", *(cells[m] for m in metrics))
            for (kind, share, lacking), cells in _means(curve, "kind", "share", "lacking").items()
        ]
        table("graph, asked with a kind taken away", head, lost)
    for sentence in found.sentences:
        say(sentence)
    for row in pattern:
        share = "" if row["share"] is None else f", {row['share']:.0%} of what the graph gains"
        say(
            f"the pattern of missing kinds by itself: {row['metric']} {_figure(row['gain'])} over the "
            f"statics{share}"
        )


def _means(rows: Iterable[Mapping[str, Any]], *keys: str) -> dict[tuple[Any, ...], dict[str, str]]:
    """The figures of each `keys`, by metric: means over landmarks and horizons."""
    found: dict[tuple[Any, ...], dict[str, str]] = {}
    for row in rows:
        if row["landmark"] is None and row["horizon"] is None and row["metric"] in FIGURES:
            found.setdefault(tuple(row[key] for key in keys), {})[row["metric"]] = _figure(row)
    return found


# ---- predict, ask


@app.command()
def predict(
    run: RunPath,
    cohort: CohortPath,
    out: Annotated[Path, typer.Option("--out", help="file to write, .csv or .parquet")],
    at: Annotated[
        str | None,
        typer.Option(help="ask everyone at: entry,1y,3y or 2021-03-04; a task is asked at its own moments"),
    ] = None,
    horizons: Annotated[
        str | None, typer.Option(help="risk within: 1y,3y,5y; a diagnosis needs none")
    ] = None,
    meds: Annotated[
        Path | None, typer.Option(help="new folder for the risks as MEDS labels, a file a cause and horizon")
    ] = None,
) -> None:
    """Write the risk of every patient of a cohort who is at risk at a landmark.

    Columns: id landmark outcome cause horizon risk low high split; landmark and horizon in days; of a
    diagnosis the cause is the class and the horizon empty; low and high are the model spread, empty with
    fewer than 5 members; split is train or test as the RUN knows the patient, empty where it does not. In a
    .csv, text that begins with = + - @ gets an apostrophe before it, so that no spreadsheet runs it.
    """
    import numpy as np
    import polars as pl

    from gnnpatient.cohort.cohort import join_landmarks, open_cohort
    from gnnpatient.cohort.outcomes import Task
    from gnnpatient.files import atomic_file
    from gnnpatient.ingest.source import disarmed
    from gnnpatient.prognosis.checkpoint import load_predictor
    from gnnpatient.prognosis.forecast import Forecast

    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"{out}: a table is written as .csv or .parquet")
    wanted, until = moments(at, dates=True) if at else None, durations(horizons) if horizons else []
    predictor, opened = load_predictor(run), open_cohort(cohort, verify=True)
    tasks = [name for name in predictor.outcomes if isinstance(opened.outcomes.get(name), Task)]
    forecasts: dict[str, Answer] = {}
    asked: list[Landmarks] = []
    for name in tasks:
        asked.append(opened.moments(name))
        forecasts[name] = predictor.forecast(asked[-1])[name]
    if others := [name for name in predictor.outcomes if name not in tasks]:
        if wanted is None:
            raise InputError(f"risk of {others[0]} as of when? give --at, as in 1y,3y")
        X = opened.landmarks(times=wanted)
        said = predictor.forecast(X)
        forecasts |= {name: said[name] for name in others}
        asked.append(X[np.logical_or.reduce([said[name].at_risk for name in others])])
    elif wanted is not None:
        raise InputError(f"outcome {tasks[0]!r} is asked at its own moments; leave out --at")
    for line in dict.fromkeys(line for X in asked for line in _unlike(predictor, X)):
        note(line)
    curves = [name for name, f in forecasts.items() if isinstance(f, Forecast)]
    if until and min(until) <= 0:
        raise InputError(f"horizon {min(until):g} days; it lies after the landmark")
    if curves and not until:
        raise InputError(f"risk of {curves[0]} within what time? give --horizons, as in 1y,3y,5y")
    tables = [f.table(until) if isinstance(f, Forecast) else f.table() for f in forecasts.values()]
    rows = pl.concat(tables).rename({"at": "landmark"})
    split = pl.Series(_split(run, opened), dtype=pl.String)
    rows = rows.with_columns(split=split[opened.positions(rows["id"].to_numpy())])
    with atomic_file(out) as part:
        if out.suffix == ".parquet":
            rows.write_parquet(part)
        else:
            disarmed(rows).write_csv(part)
        if meds is not None:  # where that is refused, neither is written
            _meds(rows, opened, meds)
    for name, forecast in forecasts.items():
        if gone := int((~forecast.at_risk).sum()):
            why = f"is not at risk of {name!r}" if name in curves else f"has a label of {name!r}, or is gone,"
            note(f"{gone} of {len(forecast)} asks left out: the patient {why} then")
    for line in _strangers(predictor.unknown(join_landmarks(*asked))):
        note(line)
    say(f"{out}: {len(rows)} rows")


def _split(run: Path, cohort: Cohort, patients: Sequence[int] | None = None) -> list[str | None]:
    """Of each patient of a cohort, or of some of them: train, test, None where it is not known."""
    from gnnpatient.prognosis.people import split_of

    if not _is_run(run):
        return [None] * (len(cohort) if patients is None else len(patients))
    found: list[str | None] = split_of(run, cohort, patients).side.tolist()
    return found


def _meds(rows: pl.DataFrame, cohort: Cohort, folder: Path) -> None:
    """Risks as MEDS 0.4 labels: OUTCOME/CAUSE/DAYSd.parquet with subject_id, prediction_time, float_value.

    Of a diagnosis: OUTCOME/CLASS/label.parquet.
    """
    import numpy as np
    import polars as pl

    from gnnpatient.files import atomic_folder, file_name, inside

    if cohort.origin is None:
        raise InputError(
            f"{folder}: MEDS labels need dates, and the cohort's times are offsets; --out has the risks"
        )
    ids = pl.Series(cohort.ids.astype(str))
    whole = (ids.cast(pl.Int64, strict=False).cast(pl.String) == ids).fill_null(False)  # 01 is not 1
    if not whole.all():
        raise InputError(f"{folder}: MEDS wants whole numbers as ids, {int((~whole).sum())} here are not")
    start = np.asarray(cohort.origin)[cohort.positions(rows["id"].to_numpy())]
    moment = pl.Series(start * 1_000_000) + (rows["landmark"] * DAY * 1_000_000).round().cast(pl.Int64)
    labels = rows.select(
        "outcome",
        "cause",
        "horizon",
        pl.col("id").cast(pl.Int64).alias("subject_id"),
        moment.cast(pl.Datetime("us")).alias("prediction_time"),
        pl.col("risk").cast(pl.Float32).alias("float_value"),
    )
    taken = set[str]()  # some disks do not tell case
    with atomic_folder(folder) as part:
        for (outcome, cause, horizon), table in labels.group_by("outcome", "cause", "horizon"):
            name = "label.parquet" if horizon is None else f"{horizon:g}d.parquet"
            file = inside(part, file_name(str(outcome)), file_name(str(cause)), name)
            file.parent.mkdir(parents=True, exist_ok=True)
            table = table.select("subject_id", "prediction_time", "float_value")
            if (key := str(file).casefold()) in taken:
                raise InputError(
                    f"{folder}: {cause!r} of {outcome!r} and another one make the same file name"
                )
            taken.add(key)
            table.sort("subject_id", "prediction_time").write_parquet(file)


def _strangers(unknown: Mapping[str, Sequence[str]]) -> list[str]:
    """What was rare or unknown in training, by kind; the first few names of many."""
    lines = []
    for kind, codes in unknown.items():
        shown, more = ", ".join(codes[:NAMED]), len(codes) - NAMED
        rest = f" and {more} more" if more > 0 else ""
        which = "" if list(codes) == ["*"] else f" {shown}{rest} by name: rare or unknown in training"
        lines.append(f"the model never saw {kind}{which}")
    return lines


def _moment(cohort: Cohort, patient: str, at: str | None, outcomes: Sequence[str]) -> Landmarks:
    """The ask of one patient: at a given moment, or the last known one while at risk."""
    import numpy as np

    from gnnpatient.cohort.outcomes import Task
    from gnnpatient.prognosis.forecast import answerable

    if at is not None:
        (wanted, *more) = moments(at, dates=True)
        if more:
            raise InputError(f"--at {at!r}: one patient is asked at one moment; give one of them")
        return cohort.landmarks(patient, [wanted])
    here = int(cohort.positions(patient)[0])
    known = [e.known[e.ptr[here] : e.ptr[here + 1]] for e in cohort.events.values()]
    tasks = (cohort.outcomes[name] for name in outcomes if name in cohort.outcomes)
    known += [task.at[task.patient == here] for task in tasks if isinstance(task, Task)]
    late = (cohort.number_known, cohort.category_known)
    known += [since[here][since[here] > 0] for since in late if since is not None]
    times = np.unique(
        np.concatenate([*known, cohort.at_entry[here : here + 1] if cohort.enters[here] else [0]])
    )
    asks = cohort.at(times / DAY, patient=np.repeat(here, len(times)))
    names = [name for name in outcomes if name in cohort.outcomes]
    if names and (risk := np.logical_or.reduce([answerable(asks, n) for n in names])).any():
        asks = asks[risk]
    return asks[-1]


@app.command()
def ask(
    run: RunPath,
    cohort: CohortPath,
    patient: PatientId,
    at: At = None,
    outcome: OutcomeName = None,
    json: Json = False,
) -> None:
    """Ask about one patient: what is known on a day, and what the model expects from there."""
    _, forecasts, found = _ask(run, cohort, patient, at, outcome)
    if json:
        return answer(found)
    _tell(found, forecasts)


def _ask(
    run: Path, path: Path, patient: str, at: str | None, outcome: str | None
) -> tuple[Landmarks, dict[str, Answer], dict[str, Any]]:
    from gnnpatient.cohort.cohort import open_cohort
    from gnnpatient.errors import near

    cohort = open_cohort(path)
    here = cohort.positions(patient)  # an unknown id is refused before torch is loaded
    from gnnpatient.prognosis.checkpoint import load_predictor

    cohort.verify(here)
    predictor = load_predictor(run)
    if outcome is not None and outcome not in predictor.outcomes:
        raise InputError(f"the model has no outcome {outcome!r}{near(outcome, predictor.outcomes)}")
    names = predictor.outcomes if outcome is None else (outcome,)
    X = _moment(cohort, patient, at, names)
    said = predictor.forecast(X, device="cpu")  # one ask: done before a GPU has woken up
    forecasts = {name: f for name, f in said.items() if name in names}
    known = {kind: len(cohort.events[kind].visible_rows(X.patient, X.at)[2]) for kind in cohort.spec.nodes}
    kinds = predictor.kinds if predictor.kinds is not None else tuple(predictor.modules[0].vocabulary.codes)
    found = {
        "patient": str(X.ids[0]),
        "at": float(X.days[0]),
        "split": _split(run, cohort, here.tolist())[0],
        "at_risk": any(bool(f.at_risk[0]) for f in forecasts.values()),
        "known": known,
        "statics": _statics(X),
        "missing": [kind for kind in dict.fromkeys((*cohort.spec.nodes, *kinds)) if not known.get(kind)],
        "unknown": predictor.unknown(X),
        "notes": _unlike(predictor, X),
        "outcomes": {name: _plain(f) for name, f in forecasts.items() if f.at_risk[0]},
    }
    return X, forecasts, found


def _statics(X: Landmarks) -> int:
    """How many static columns are known of the one patient that is asked about."""
    import numpy as np

    number, category = X.cohort.statics(X.patient, X.at)
    return int(np.isfinite(number).sum() + (category >= 0).sum())


def _plain(forecast: Answer) -> dict[str, Any]:
    """One ask's forecast as lists and numbers."""
    from gnnpatient.prognosis.forecast import DiagnosisForecast

    return _classes(forecast) if isinstance(forecast, DiagnosisForecast) else _curve(forecast)


def _classes(forecast: DiagnosisForecast) -> dict[str, Any]:
    said = {c: float(forecast.risk(c)[0]) for c in forecast.classes}
    found: dict[str, Any] = {"kind": "diagnosis", "probability": said}
    for i, end in enumerate(("low", "high")):
        bands = {c: forecast.spread(c) for c in forecast.classes}
        found[end] = {c: float(band[i][0]) for c, band in bands.items() if band} or None
    return found


def _curve(forecast: Forecast) -> dict[str, Any]:
    causes = {cause: forecast.risks(forecast.times, cause)[0].tolist() for cause in forecast.causes}
    bands = {c: [forecast.spread(t, c) for t in forecast.times.tolist()] for c in forecast.causes}
    spread = all(band is not None for band in bands[forecast.causes[0]])
    ends = [{c: [float(b[i][0]) for b in band if b] for c, band in bands.items()} for i in (0, 1)]
    return {
        "kind": "survival",
        "times": forecast.times.tolist(),
        "event_free": forecast.event_free[0].tolist(),
        "incidence": causes,
        "low": ends[0] if spread else None,
        "high": ends[1] if spread else None,
    }


def _tell(found: Mapping[str, Any], forecasts: Mapping[str, Answer]) -> None:
    """The answer for people."""
    from gnnpatient.cohort.splits import default_horizons
    from gnnpatient.prognosis.forecast import DiagnosisForecast

    years = f" ({found['at'] / YEAR:.1f} years)" if abs(found["at"]) > YEAR else ""
    say(f"Patient {found['patient']} as of day {found['at']:g}{years}")
    known = [*found["known"].items(), ("statics", found["statics"])]
    say("known:    " + (", ".join(f"{n} {what}" for what, n in known if n) or "nothing"))
    if found["split"] == "train":
        say("trained on: the model was fitted on this patient, so its answer may be surer than it should be")
    if found["missing"]:
        say("missing:  " + ", ".join(found["missing"]))
    for line in (*_strangers(found["unknown"]), *found["notes"]):
        say(line)
    for name, forecast in forecasts.items():
        if isinstance(forecast, DiagnosisForecast):
            if not forecast.at_risk[0]:
                why = "known by this day, or nobody is observed any more, or no moment of the task"
                say(f"{name}: {why}, so there is no probability")
                continue
            each = [(c, _percent(forecast.risk(c), forecast.spread(c))) for c in forecast.classes]
            table(f"{name} [model spread]", ["<class", "probability"], each)
            continue
        if not forecast.at_risk[0]:
            say(f"{name}: the patient is not at risk on this day, so there is no curve")
            continue
        times = default_horizons(float(forecast.times[-1]))
        rows = []
        for cause in forecast.causes:
            rows.append(
                (cause, *(_percent(forecast.risk(cause, t), forecast.spread(t, cause)) for t in times))
            )
        free = [1 - sum(float(forecast.risk(c, t)[0]) for c in forecast.causes) for t in times]
        rows.append(("event-free", *(f"{_whole(f)} %" for f in free)))
        table(f"{name} from this day on [model spread]", ["<within", *map(span, times)], rows)
    say(NOTICE)


def _percent(risk: np.ndarray, band: tuple[np.ndarray, np.ndarray] | None) -> str:
    """The one ask's risk, and its spread. Nothing is told as impossible, or as certain."""
    around = f" [{_whole(band[0][0])} to {_whole(band[1][0])}]" if band else ""
    return f"{_whole(risk[0])} %{around}"


def _whole(risk: float) -> str:
    """A probability as a whole percentage; of one that rounds to 0 or 100 on which side of it it lies."""
    return "<1" if 0 <= risk < 0.005 else ">99" if risk > 0.995 else f"{risk * 100:.0f}"


@app.command()
def export(
    cohort: CohortPath,
    patient: PatientId,
    out: Annotated[Path, typer.Option("--out", help="file to write")],
    form: Annotated[str, typer.Option("--format", help="graphml or json")],
    at: At = None,
) -> None:
    """Write one patient's graph as known at a moment (default: all that was ever known)."""
    from gnnpatient.cohort.cohort import open_cohort
    from gnnpatient.files import atomic_file

    opened = open_cohort(cohort)
    opened.verify(opened.positions(patient))
    when = None if at is None else float(_moment(opened, patient, at, ()).days[0])
    text = opened.patient(patient).export(form, when)
    with atomic_file(out) as part:
        part.write_text(text, encoding="utf-8")
    say(f"{out}: written")


# ---- demo


@app.command()
def demo(
    cohort: Annotated[str, typer.Option(help="pbc, or ward: made up, with pictures and reports")] = "pbc",
    out: Annotated[Path, typer.Option("--out", help="folder for what it makes")] = Path("gnnpatient-demo"),
) -> None:
    """The whole way on a shipped cohort: read, pack, fit, score, ask one patient, draw a picture.

    What is in the folder already is used as it is; an unfinished fit goes on. Remove it to begin again.
    """
    import numpy as np

    from gnnpatient.cohort.cohort import open_cohort
    from gnnpatient.errors import near
    from gnnpatient.prognosis.checkpoint import load_predictor
    from gnnpatient.prognosis.forecast import Forecast

    if cohort not in DEMOS:
        raise InputError(f"no shipped cohort {cohort!r}{near(cohort, DEMOS)}")
    at, horizons = DEMOS[cohort]
    packed, run, picture = out / "cohort", out / "run", out / "patient.png"
    data, truth = (None, None) if cohort != "ward" else _ward(out / "data")
    where = "" if data is None else f" --data {data}"
    say(f"1  gnnpatient check {cohort}{where}    read the tables, check every row")
    read = tables_of(cohort, data, cache=None if data is None else out / "cache")
    rows = sum(t["rows"] for t in read.report["tables"].values())
    refused = sum(sum(t["refused"].values()) for t in read.report["tables"].values())
    say(f"   {rows} rows, {refused} refused, {len(read)} patients")
    say(f"2  gnnpatient pack {cohort}{where} --out {packed}    write them as columns")
    if packed.exists():
        if open_cohort(packed).spec.hash != read.spec.hash:
            raise InputError(f"{packed}: another cohort; give --out a new folder")
        say("   it is there already and used as it is")
    else:
        read.save(packed)
    chosen = "" if data is None else f" --outcome {DEMO_OUTCOME}"  # pbc has no other
    step = f"gnnpatient fit {packed} --out {run}{chosen}"
    say(f"3  {step}    train 5 networks, a fifth of the patients held out")
    fitted = _fit(packed, run, {} if data is None else {"outcomes": [DEMO_OUTCOME]}, resume=True)
    say(f"4  gnnpatient evaluate {run} {packed}    score the held-out patients, beside Cox and the null")
    found, words = _evaluate(run, packed, None, None, None, [], truth)
    for line in words:
        say(f"   {line}")
    _show(found, ("auc",), estimable=True)
    if truth is not None:
        say("oracle: the true risk, from what lies behind all kinds of rows, missing or not")
    opened, predictor = open_cohort(packed), load_predictor(run)
    name = DEMO_OUTCOME
    held = opened.landmarks(np.array(fitted.test), [days(at)]).followed(name)
    cause = opened.survival(name).causes[-1]
    risk = predictor.forecast(held)[name].risk(cause=cause)
    patient = str(held.ids[risk.argsort()[len(risk) * 9 // 10]])
    say(f"5  gnnpatient ask {run} {packed} --patient {patient} --at {at}    a held-out patient of high risk")
    X, forecasts, said = _ask(run, packed, patient, at, None)
    _tell(said, forecasts)
    from gnnpatient.patient.figure import draw

    forecast = forecasts[name]
    assert isinstance(forecast, Forecast)
    draw(X, forecast, picture)
    say(f"6  {picture}    the same on one picture")
    say()
    say("Try next:")
    say(f"   gnnpatient info {run}")
    say(f"   gnnpatient evaluate {run} {packed} --horizons {horizons} --by sex")
    say(f"   gnnpatient predict {run} {packed} --at {at} --horizons {horizons} --out {out / 'risks.csv'}")
    graph = out / "patient.graphml"
    say(f"   gnnpatient export {packed} --patient {patient} --at {at} --format graphml --out {graph}")
    again = f"gnnpatient demo --cohort {cohort} --out {out}"
    say(f"   {again}    shows this again; rm -r {out} first to begin anew")


def _ward(folder: Path) -> tuple[Path, SimulatedTruth]:
    """The tables and pictures of a made-up ward, and its truth; written once."""
    from gnnpatient.datasets.ward import SimulatedTruth, write_ward

    if not (folder / "truth.npz").is_file():
        say(f"0  {folder}    a made-up ward: tables, radiographs, reports; the true risks beside them")
        write_ward(folder, n=WARD, truth=True)
    return folder, SimulatedTruth.load(folder / "truth.npz")


# ---- main


def main() -> None:
    """The `gnnpatient` command."""
    os.environ.setdefault(
        "OMP_NUM_THREADS", "1"
    )  # batches are small: a second thread waits more than it works
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an id that this terminal cannot spell
    warnings.showwarning = lambda message, *_, **__: note(f"warning: {message}")
    sys.exit(run())


def run(args: Sequence[str] | None = None) -> int:
    """Run one command (default: that of the process); its exit code.

    0 well, 2 bad input, 130 interrupted, 1 an error of ours; one line on standard error says which.
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
        if isinstance(error, InputError):
            note(error)
            return 2
        if hasattr(error, "format_message"):  # of the command line itself
            message = " ".join(error.format_message().split())
            note(f"{message or 'no command'} (gnnpatient --help shows the way)")
            return 2
        if isinstance(error, MemoryError) or any(word in str(error) for word in NO_MEMORY):
            note("the memory is full; take fewer patients, rows or columns at a time, or a larger machine")
            return 2
        if isinstance(error, RecursionError):
            note("what is read lies inside one another far too deep; write it flat")
            return 2
        if isinstance(error, OSError) and error.filename:
            note(f"{error.filename}: {error.strerror}")
            return 2
        first = (str(error).splitlines() or [""])[0]
        note(f"unforeseen {type(error).__name__}: {first} (GNNPATIENT_TRACEBACK=1 shows where)")
        return 1
