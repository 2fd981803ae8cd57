"""From the tables that people have to an answer: init, a few edits, check, pack, fit, ask; one layout a test.

Every table is made by a seeded draw in which a marker raises the risk. What has to be edited in a draft
stands beside the layout, with the question of the draft that it answers; most drafts are read as they are.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest

CONFIG = """[train]
members = 1
epochs = 8
channels = 8
batch_size = 64
"""
SIZE = 160


@dataclass
class Made:
    """Tables in a folder, and what must come out of them."""

    outcome: str
    counts: dict[str, int]  # patients by what came of them
    high: str  # a patient whose planted risk of the first of `counts` is high at `at`
    low: str
    at: float = 0.0
    edits: dict[str, str] = field(default_factory=dict)  # what of the draft, and by what it is replaced
    said: tuple[str, ...] = ()  # what the draft must say
    unsaid: tuple[str, ...] = ()
    fit: tuple[str, ...] = ()  # further words for fit


@dataclass
class Drawn:
    """Patients with a marker, and the time of an event that it brings nearer."""

    rng: np.random.Generator
    size: int = SIZE

    def __post_init__(self):
        self.marker = self.rng.normal(0, 1, self.size).round(3)
        self.age = self.rng.integers(40, 80, self.size)
        self.event_time = self.rng.exponential(900 * np.exp(-1.2 * self.marker)).round(1) + 1
        self.end = self.rng.integers(400, 2500, self.size).astype(float)
        self.time = np.minimum(self.event_time, self.end)
        self.event = (self.event_time <= self.end).astype(int)
        self.ids = [f"P{i:03}" for i in range(self.size)]

    @property
    def counts(self) -> dict[str, int]:
        return {"event": int(self.event.sum())}

    def extremes(self, at: float = 0.0, score: np.ndarray | None = None) -> dict[str, str]:
        """The patients with the highest and the lowest marker among those still followed."""
        score = np.where(self.time > at + 1, self.marker if score is None else score, np.nan)
        return {"high": self.ids[int(np.nanargmax(score))], "low": self.ids[int(np.nanargmin(score))]}


def rows_of(*columns: tuple[str, list]) -> pl.DataFrame:
    return pl.DataFrame(dict(columns))


def write(folder: Path, **tables: pl.DataFrame) -> None:
    for name, table in tables.items():
        table.write_csv(folder / f"{name}.csv")


def one_row(folder: Path, rng) -> Made:
    """A row a patient; the README says the unit of all times."""
    d = Drawn(rng)
    (folder / "README.txt").write_text("Trial data. All times are in months.\nmarker: risk score")
    months = (d.time / 30.4375).round(4)
    frame = pl.DataFrame({"id": d.ids, "age": d.age, "marker": d.marker, "futime": months, "status": d.event})
    write(folder, trial=frame)
    said = ("futime is in mo: from the README", "this cohort has no graph: one row a patient")
    return Made("event", d.counts, **d.extremes(), said=said)


def visits(folder: Path, rng) -> Made:
    """People with an outcome in a packed table, and visits in days in shards."""
    d = Drawn(rng)
    people = {"pid": d.ids, "age": d.age, "futime": d.time, "death": d.event}
    rows = [(who, day) for who in range(d.size) for day in range(0, int(d.time[who]), 120)]
    who, day = np.array(rows).T
    value = (d.marker[who] + rng.normal(0, 0.2, len(who))).round(2)
    labs = pl.DataFrame(
        {"pid": [d.ids[i] for i in who], "day": day, "crp_ratio": value, "crea": 1 + 0.1 * value}
    )
    (folder / "labs").mkdir()
    for part in range(2):
        labs[part::2].write_parquet(folder / "labs" / f"{part}.parquet")
    with_gz = pl.DataFrame(people)
    with_gz.write_csv(folder / "people.csv.gz", compression="gzip")
    return Made("death", {"death": int(d.event.sum())}, **d.extremes(250.0), at=250.0)


def stretches(d: Drawn, rng, until: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of 0 to 3 months, 3 to 6 and so on up to an end of each patient: whose, start and stop."""
    cuts = [[*np.arange(0, until[i], 90.0), until[i]] for i in range(d.size)]
    return (
        np.repeat(np.arange(d.size), [len(c) - 1 for c in cuts]),
        np.concatenate([c[:-1] for c in cuts]),
        np.concatenate([c[1:] for c in cuts]),
    )


def start_stop(folder: Path, rng) -> Made:
    """Counting process: the covariate changes from row to row, the flag is 1 in the last row."""
    d = Drawn(rng)
    who, start, stop = stretches(d, rng, d.time)
    frame = {
        "id": [d.ids[i] for i in who],
        "tstart": start,
        "tstop": stop,
        "event": ((stop == d.time[who]) & (d.event[who] == 1)).astype(int),
        "dose": (d.marker[who] + rng.normal(0, 0.2, len(who))).round(2),
        "age": d.age[who],
        "time": stop - start,
    }
    write(folder, long=pl.DataFrame(frame))
    said = ('start = "tstart", stop = "tstop", flag = "event"', "time: the length of a row")
    return Made("event", d.counts, **d.extremes(200.0), at=200.0, said=said, unsaid=('until = "tstop"',))


def recurrent(folder: Path, rng) -> Made:
    """Counting process with infections that come again: the first counts, which is asked."""
    d = Drawn(rng)
    rows = []
    for i in range(d.size):
        cuts = np.cumsum(rng.exponential(900 * np.exp(-1.2 * d.marker[i]), 6) + 1).round(1)
        cuts = cuts[cuts < d.end[i]]
        ends = [*cuts, d.end[i]]
        rows += [
            (d.ids[i], a, b, int(b in cuts), d.marker[i]) for a, b in zip([0.0, *ends], ends, strict=False)
        ]
        d.time[i], d.event[i] = ends[0], len(cuts) > 0
    frame = pl.DataFrame(rows, ["id", "start", "stop", "infection", "marker"], orient="row")
    write(folder, infections=frame)
    said = ('pick = "first"', "patients go on after it: only the first counts")
    return Made("infection", {"infection": int(d.event.sum())}, **d.extremes(), said=said)


def pairs(folder: Path, rng) -> Made:
    """Pairs x and x.s: five outcomes side by side, none of which may be an input."""
    d = Drawn(rng)
    other = rng.exponential(600, (2, d.size)).round(1) + 1
    frame = {"id": d.ids, "score": d.marker, "agecl": ["old" if a > 60 else "young" for a in d.age]}
    for name, came in (("rec", other[0]), ("rel", other[1])):
        frame |= {name: np.minimum(came, d.time), f"{name}.s": (came < d.time).astype(int)}
    write(folder, bmt=pl.DataFrame(frame | {"srv": d.time, "srv.s": d.event}))
    counts = {"death": int(d.event.sum())}
    said = ('number = ["score"]', "[outcomes.rec]", "[outcomes.rel]")
    return Made("death", counts, **d.extremes(), said=said)


def multi_state(folder: Path, rng) -> Made:
    """Long multi-state rows: healthy 1, ill 2, dead 3; illness triples the hazard."""
    d, rows, ill, dead = Drawn(rng), [], 0, 0
    for i in range(d.size):
        sick, gone = rng.exponential(700), d.event_time[i]
        first = round(min(sick, gone, d.end[i]), 2)
        rows += [
            (i, 1, to, 0.0, first, int(t == min(sick, gone, d.end[i]))) for to, t in ((2, sick), (3, gone))
        ]
        if first == round(sick, 2):
            ill += 1
            last = first + round(rng.exponential(300 * np.exp(-1.2 * d.marker[i])) + 1, 2)
            rows.append((i, 2, 3, first, min(last, d.end[i] + 1), int(last < d.end[i] + 1)))
        dead += rows[-1][-1]
        d.time[i] = rows[-1][4]
    frame = pl.DataFrame(rows, ["id", "from", "to", "Tstart", "Tstop", "status"], orient="row")
    frame = frame.with_columns(
        marker=pl.Series(d.marker)[frame["id"].to_list()], id=pl.Series(d.ids)[frame["id"].to_list()]
    )
    write(folder, msm=frame)
    said = ('code = "from"', "[outcomes.state_2]", "nobody leaves state_3")
    return Made("state_3", {"state_3": dead}, **d.extremes(30.0), at=30.0, said=said)


def events_apart(folder: Path, rng) -> Made:
    """Two rows a patient, one for each kind of event; the README says which is which."""
    d = Drawn(rng)
    relapse = np.minimum(rng.exponential(500, d.size).round(1) + 1, d.time)
    rows = [(d.ids[i], d.marker[i], 1, relapse[i], int(relapse[i] < d.time[i])) for i in range(d.size)]
    rows += [(d.ids[i], d.marker[i], 2, d.time[i], int(d.event[i])) for i in range(d.size)]
    write(folder, trial=pl.DataFrame(rows, ["id", "marker", "etype", "time", "status"], orient="row"))
    (folder / "README.md").write_text("trial.csv: etype 1 recurrence, 2 death; time in days")
    return Made("death", {"death": int(d.event.sum())}, **d.extremes(), said=("[outcomes.recurrence]",))


def admissions(folder: Path, rng) -> Made:
    """Several admissions a person, their laboratory values by admission; day 0 is the admission."""
    stays, labs, died, score = [], [], 0, {}
    people = [(s, "FM"[s % 2], int(rng.integers(20, 90))) for s in range(1000, 1000 + 2 * SIZE // 3)]
    for person, _, _ in people:
        for _ in range(2):
            key, marker = 20_000 + len(stays), rng.normal()
            day = np.datetime64("2150-01-01T08:00") + np.timedelta64(int(rng.integers(0, 9e5)), "m")
            hours = int(24 * rng.uniform(2, 12))
            dead = int(rng.random() < 1 / (1 + np.exp(1.5 - 2.5 * marker)))
            died, score[key] = died + dead, marker
            stays.append((person, key, day, day + np.timedelta64(hours, "h"), dead))
            for hour in (2, 20):
                at = day + np.timedelta64(hour, "h")
                labs.append((key, at, "lactate", round(4 + marker + rng.normal(0, 0.2), 2)))
                labs.append((key, at, "sodium", round(rng.normal(140, 3), 1)))
    write(
        folder,
        patients=pl.DataFrame(people, ["subject_id", "gender", "anchor_age"], orient="row"),
        admissions=pl.DataFrame(
            [(p, k, str(a), str(b), d) for p, k, a, b, d in stays],
            ["subject_id", "hadm_id", "admittime", "dischtime", "hospital_expire_flag"],
            orient="row",
        ),
        labs=pl.DataFrame(
            [(k, str(t), c, v) for k, t, c, v in labs],
            ["hadm_id", "charttime", "test", "valuenum"],
            orient="row",
        ),
    )
    said = ('group = "subject_id"', 'join = { table = "patients.csv"', "persons instead")
    counts = {"death": died, "discharge": len(stays) - died}
    ends = {"high": str(max(score, key=score.get)), "low": str(min(score, key=score.get))}
    return Made("leaving", counts, **ends, at=1.5, said=said)


def sessions(folder: Path, rng) -> Made:
    """Repeated sessions of a person, each with an id: the person is the patient."""
    d, rows = Drawn(rng), []
    ill = d.marker + rng.normal(0, 0.5, d.size) > 0
    for i in range(d.size):
        for visit, delay in enumerate((0, 400, 800), 1):
            mmse = round(27 - 2 * d.marker[i] + rng.normal(0, 0.5), 1)
            rows.append((d.ids[i], f"{d.ids[i]}_MR{visit}", "DN"[int(not ill[i])], visit, delay, mmse))
    head = ["Subject ID", "MRI ID", "Group", "Visit", "MR Delay", "MMSE"]
    frame = pl.DataFrame(rows, head, orient="row")
    frame = frame.with_columns(pl.col("Group").replace({"D": "Demented", "N": "Nondemented"}))
    write(folder, sessions=frame)
    (folder / "README.md").write_text("MR Delay = days since the first visit")
    # one of two classes is the one that scores are of: which, the draft asks for by its order
    counts = {"demented": int(ill.sum()), "nondemented": int((~ill).sum())}
    d.time[:] = 5000
    return Made("group", counts, **d.extremes(), at=500.0, said=('key = "Subject ID"',))


def wide(folder: Path, rng) -> Made:
    """One row a patient with 300 genes, of which three matter."""
    d = Drawn(rng)
    genes = rng.normal(0, 1, (d.size, 300)).round(3)
    genes[:, :3] = d.marker[:, None] + rng.normal(0, 0.2, (d.size, 3)).round(3)
    frame = {f"G{i}_rna": genes[:, i] for i in range(300)}
    people = {"case_id": d.ids, "age": d.age, "OS_MONTHS": (d.time / 30.4375).round(4)}
    people["OS_STATUS"] = ["1:DECEASED" if e else "0:LIVING" for e in d.event]
    write(folder, omics=pl.DataFrame(people | frame))
    said = ('columns = { "*_rna" = "" }', "one row a patient", "all values are of day 0")
    counts = {"death": int(d.event.sum())}
    return Made("death", counts, **d.extremes(), said=said, unsaid=('"G7_rna"',))


def asked_columns(folder: Path, rng) -> Made:
    """Somebody's split, a label, and the time of an outcome without a flag: asked, and no inputs."""
    d = Drawn(rng)
    frame = {
        "id": d.ids,
        "age": d.age,
        "marker": d.marker,
        "split": ["test" if i % 4 == 0 else "train" for i in range(d.size)],
        "responder": rng.integers(0, 2, d.size),
        "time_to_progression": rng.exponential(300, d.size).round(1),
        "futime": d.time,
        "death": d.event,
    }
    write(folder, trial=pl.DataFrame(frame))
    said = (
        "time_to_progression: the time of an outcome?",
        "responder: a state or a label: to be predicted?",
        'group = "split"',
        'number = ["age", "marker"]',
    )
    # ASK: patient.group: to hold out by it, group = "split"
    edits = {'number = ["age", "marker"]': 'number = ["age", "marker"]\ngroup = "split"'}
    counts = {"death": int(d.event.sum())}
    return Made("death", counts, **d.extremes(), said=said, edits=edits, fit=("--test-by", "group=test"))


def dates(folder: Path, rng) -> Made:
    """Dates alone: a date of death for the dead, and of the last contact for all."""
    d = Drawn(rng)
    first = np.datetime64("2015-01-01") + rng.integers(0, 700, d.size).astype("timedelta64[D]")
    end = first + d.time.astype(int).astype("timedelta64[D]")
    people = {
        "patient_id": d.ids,
        "diagnosis_date": first.astype(str),
        "marker": d.marker,
        "death_date": [str(day) if e else None for day, e in zip(end, d.event, strict=True)],
        "last_contact": end.astype(str),
    }
    write(folder, people=pl.DataFrame(people))
    counts = {"death": int(d.event.sum())}
    return Made("death", counts, **d.extremes(), said=('exit = "last_contact"',))


LAYOUTS = [
    *(one_row, visits, start_stop, recurrent, pairs, multi_state, events_apart, admissions, sessions, wide),
    *(asked_columns, dates),
]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_from_tables_to_an_answer(layout, good, tmp_path):
    from gnnpatient import open_cohort

    tables, spec, cohort, run = (tmp_path / name for name in ("tables", "my.toml", "cohort", "run"))
    tables.mkdir()
    made = layout(tables, np.random.default_rng(11))
    told = good("init", tables, "--out", spec)
    text = spec.read_text()
    assert "to decide: source" in told
    for words in made.said:
        assert words in text, text
    for words in made.unsaid:
        assert words not in text, text
    for old, new in made.edits.items():
        assert text.count(old) == 1, text
        text = text.replace(old, new)
    spec.write_text(text)
    found = good("check", spec, "--data", tables, "--json")
    assert not any(counts["refused"] for counts in found["tables"].values()), found["tables"]
    good("pack", spec, "--data", tables, "--out", cohort)
    label = open_cohort(cohort).outcomes[made.outcome]
    if label.kind == "survival":
        counts = {cause: int((label.event == k).sum()) for k, cause in enumerate(label.causes, 1)}
    else:
        counts = {name: int((label.label == k).sum()) for k, name in enumerate(label.classes)}
    assert counts == made.counts
    (tmp_path / "fit.toml").write_text(CONFIG)
    words = ["--config", tmp_path / "fit.toml", "--outcome", made.outcome, "--seed", "1", *made.fit]
    good("fit", cohort, "--out", run, *words)
    name, risk = next(iter(made.counts)), {}
    for which in ("high", "low"):
        words = ["--patient", getattr(made, which), "--at", f"{made.at}d", "--json"]
        answer = good("ask", run, cohort, *words)
        of = answer["outcomes"][made.outcome]
        if of["kind"] == "survival":
            assert answer["at_risk"]
            curves = np.array([of["event_free"], *of["incidence"].values()])
            assert ((curves >= 0) & (curves <= 1)).all()
            assert np.allclose(curves.sum(0), 1, atol=1e-6)
            risk[which] = of["incidence"][name][-1]
        else:
            risk[which] = of["probability"][name]
        assert 0 <= risk[which] <= 1
    assert risk["high"] > risk["low"] + 0.1, risk
