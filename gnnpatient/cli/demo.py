"""The whole way on a shipped cohort, a step after the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from gnnpatient.cli.console import days, say
from gnnpatient.cli.data import refused_rows, tables_of
from gnnpatient.cli.evaluate import show_scores
from gnnpatient.cli.fit import fit_cohort
from gnnpatient.cli.patient import show_answer
from gnnpatient.errors import InputError

if TYPE_CHECKING:
    from gnnpatient.datasets.ward import SimulatedTruth
    from gnnpatient.patient.answers import PatientAnswer
    from gnnpatient.prognosis.run import Run

DEMOS = {"pbc": ("3y", "2y,5y"), "ward": ("5d", "10d,20d")}  # when a patient is asked about, how far ahead
OUTCOME = "death"
WARD_PATIENTS = 600  # of the simulated ward


def demo(
    cohort: Annotated[str, typer.Option(help="pbc, or ward: simulated, with images and reports")] = "pbc",
    out: Annotated[Path, typer.Option("--out", help="folder for what it makes")] = Path("gnnpatient-demo"),
) -> None:
    """The whole way on a shipped cohort: read, pack, fit, score, ask about one patient, draw a figure.

    What is in the folder already is used as it is; an unfinished fit is continued. Remove the folder to
    begin again.
    """
    from gnnpatient.errors import near

    if cohort not in DEMOS:
        raise InputError(f"no shipped cohort {cohort!r}{near(cohort, DEMOS)}")
    steps = _Demo(cohort, out, *DEMOS[cohort])
    steps.check_and_pack()
    run = steps.fit()
    steps.evaluate()
    patient = steps.patient_of_high_risk(run)
    steps.draw(steps.ask(patient))
    steps.next_commands(patient)


@dataclass(frozen=True)
class _Demo:
    """Each step shows the command that does the same."""

    cohort: str
    out: Path
    at: str  # when the patient is asked about
    horizons: str

    @property
    def packed(self) -> Path:
        return self.out / "cohort"

    @property
    def run(self) -> Path:
        return self.out / "run"

    @property
    def simulated(self) -> bool:
        """Whether its tables are simulated and written first, so that the true risks are known."""
        return self.cohort == "ward"

    @property
    def data(self) -> Path | None:
        """Where the tables are; None: those of the shipped cohort."""
        return self.out / "data" if self.simulated else None

    def check_and_pack(self) -> None:
        if self.data is not None and not (self.data / "truth.npz").is_file():
            from gnnpatient.datasets.ward import write_ward

            say(f"0  {self.data}    a simulated ward: tables, radiographs, reports; its true risks beside it")
            write_ward(self.data, n=WARD_PATIENTS, truth=True)
        where = "" if self.data is None else f" --data {self.data}"
        say(f"1  gnnpatient check {self.cohort}{where}    read the tables, check every row")
        read = tables_of(self.cohort, self.data, cache=None if self.data is None else self.out / "cache")
        rows = sum(counts["rows"] for counts in read.report["tables"].values())
        say(f"   {rows} rows, {refused_rows(read)} refused, {len(read)} patients")
        say(f"2  gnnpatient pack {self.cohort}{where} --out {self.packed}    write them as columns")
        if not self.packed.exists():
            read.save(self.packed)
            return
        from gnnpatient.cohort.cohort import open_cohort

        if open_cohort(self.packed).spec.hash != read.spec.hash:
            raise InputError(f"{self.packed}: holds another cohort; give --out a new folder")
        say("   it exists already and is used as it is")

    def fit(self) -> Run:
        chosen = f" --outcome {OUTCOME}" if self.simulated else ""  # pbc has no other
        step = f"gnnpatient fit {self.packed} --out {self.run}{chosen}"
        say(f"3  {step}    fit linear, boosted and graph, a fifth held out")
        choices = {"outcomes": [OUTCOME]} if self.simulated else {}
        return fit_cohort(self.packed, self.run, choices, resume=True)

    def evaluate(self) -> None:
        from gnnpatient.cohort.cohort import open_cohort
        from gnnpatient.study.validation import evaluate_run

        step = f"gnnpatient evaluate {self.run} {self.packed}"
        say(f"4  {step}    score the held-out patients, beside a Cox model and the null model")
        truth = self._truth()
        opened = open_cohort(self.packed, verify=True)
        risk = None if truth is None else truth.risk
        found = evaluate_run(
            self.run, opened, true_risk=risk, note=lambda line: say(f"   {line}"), progress=True
        )
        show_scores(found.scores, ("auc",), estimable_only=True)
        if truth is not None:
            say("oracle: the true risk, from the simulated state behind all rows, missing or not")

    def _truth(self) -> SimulatedTruth | None:
        from gnnpatient.datasets.ward import SimulatedTruth

        return None if self.data is None else SimulatedTruth.load(self.data / "truth.npz")

    def patient_of_high_risk(self, run: Run) -> str:
        """The held-out patient at risk above whose risk a tenth lie."""
        import numpy as np

        from gnnpatient.cohort.cohort import open_cohort
        from gnnpatient.prognosis.checkpoint import load_predictor
        from gnnpatient.prognosis.forecast import Forecast

        opened = open_cohort(self.packed)
        held_out = opened.landmarks(np.array(run.test), [days(self.at)]).followed(OUTCOME)
        cause = opened.survival(OUTCOME).causes[-1]
        forecast = load_predictor(self.run).forecast(held_out)[OUTCOME]
        assert isinstance(forecast, Forecast)
        risk = forecast.risk(cause=cause)
        return str(held_out.ids[risk.argsort()[len(risk) * 9 // 10]])

    def ask(self, patient: str) -> PatientAnswer:
        from gnnpatient.cohort.cohort import open_cohort
        from gnnpatient.patient.answers import answer

        step = f"gnnpatient ask {self.run} {self.packed} --patient {patient} --at {self.at}"
        say(f"5  {step}    a held-out patient of high risk")
        found = answer(self.run, open_cohort(self.packed), patient, days(self.at))
        show_answer(found)
        return found

    def draw(self, answer: PatientAnswer) -> None:
        from gnnpatient.patient.figure import draw
        from gnnpatient.prognosis.forecast import Forecast

        file = self.out / "patient.png"
        draw(answer.landmark, cast(Forecast, answer.outcomes[OUTCOME].forecast), file)
        say(f"6  {file}    the same in one figure")

    def next_commands(self, patient: str) -> None:
        out, run, packed, at = self.out, self.run, self.packed, self.at
        say()
        say("Try next:")
        say(f"   gnnpatient info {run}")
        say(f"   gnnpatient evaluate {run} {packed} --horizons {self.horizons} --by sex")
        risks, graph = out / "risks.csv", out / "patient.graphml"
        say(f"   gnnpatient predict {run} {packed} --at {at} --horizons {self.horizons} --out {risks}")
        say(f"   gnnpatient export {packed} --patient {patient} --at {at} --format graphml --out {graph}")
        again = f"gnnpatient demo --cohort {self.cohort} --out {out}"
        say(f"   {again}    shows this again; rm -r {out} first to begin anew")


COMMANDS = (demo,)
