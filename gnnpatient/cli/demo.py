"""The whole way on a shipped cohort."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gnnpatient.cli.console import (
    days,
    say,
)
from gnnpatient.cli.data import tables_of
from gnnpatient.cli.evaluate import _evaluate, _show
from gnnpatient.cli.fit import _fit
from gnnpatient.cli.patient import _ask, _tell
from gnnpatient.errors import InputError

if TYPE_CHECKING:
    from gnnpatient.datasets.ward import Truth


DEMOS = {"pbc": ("3y", "2y,5y"), "ward": ("5d", "10d,20d")}  # when a patient is asked about, how far ahead
DEMO_OUTCOME = "death"
WARD = 600  # patients of the ward that `demo` makes


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


def _ward(folder: Path) -> tuple[Path, Truth]:
    """The tables and pictures of a made-up ward, and its truth; written once."""
    from gnnpatient.datasets.ward import Truth, write_ward

    if not (folder / "truth.npz").is_file():
        say(f"0  {folder}    a made-up ward: tables, radiographs, reports; the true risks beside them")
        write_ward(folder, n=WARD, truth=True)
    return folder, Truth.load(folder / "truth.npz")


COMMANDS = (demo,)
