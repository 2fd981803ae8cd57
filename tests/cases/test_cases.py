"""A case is a folder: tables, spec.toml, asks.txt (patient, day), and expected.txt: the graphs in words.

`python tests/cases/test_cases.py NAME` prints what a case gives now; read it before it becomes expected.txt.
"""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASES = sorted(path.parent.name for path in HERE.glob("*/spec.toml"))


def words(name: str) -> str:
    from gnnpatient import read_cohort

    cohort = read_cohort(HERE / name / "spec.toml", HERE / name)
    lines = []
    for ask in (HERE / name / "asks.txt").read_text().splitlines():
        patient, day = ask.split()
        day = float(day) if day.replace(".", "").isdigit() else day
        X = cohort.at(day, patient=patient)
        graph = cohort.patient(patient).to_networkx(at=day)
        lines.append(f"ask {ask}")
        for node, held in graph.nodes(data=True):
            told = {key: held[key] for key in held if key not in ("kind", "patient")}
            lines.append(f"  {node} " + " ".join(f"{k}={shown(v)}" for k, v in told.items()))
        lines += [f"  {source} -{rule}-> {target}" for source, target, rule in sorted(graph.edges(keys=True))]
        for outcome in cohort.outcomes:
            lines.append(f"  {outcome}: {answer(X, outcome)}")
    for table, account in cohort.report["tables"].items():
        lines.append("{0}: {rows} rows, {used} used, {collapsed} collapsed".format(table, **account))
        lines += [f"  {n} refused: {reason}" for reason, n in account["refused"].items()]
    return "\n".join([*lines, *(f"flag {flag}" for flag in cohort.report["flags"])]) + "\n"


def shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def answer(X, outcome: str) -> str:
    if not X.at_risk(outcome)[0]:
        return "not at risk"
    event, time = X.outcome(outcome)[0]
    return f"{['censored', *X.cohort.outcomes[outcome].causes][event]} after {shown(float(time))} days"


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    assert words(name) == (HERE / name / "expected.txt").read_text()


if __name__ == "__main__":
    print(words(sys.argv[1]), end="")
