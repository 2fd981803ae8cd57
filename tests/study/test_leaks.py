"""Planted leaks are named, clean cohorts are silent. Leaks are planted in the tables, not in the arrays."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest


@dataclass
class LandmarkTables:
    """A folder of tables with its spec, and what its patients come to."""

    folder: Path
    spec: Path
    statics: str  # file with the statics
    key: str
    ids: np.ndarray
    end: np.ndarray  # (patient,) days
    died: np.ndarray  # (patient,) bool
    rng: np.random.Generator

    def add(self, kind, who, day, code, value=None, known=None):
        """A long table of its own: rows of patients (positions) at days."""
        table = pl.DataFrame({self.key: self.ids[who], "day": day, "code": code})
        lines = [f"[nodes.{kind}]", f'table = "{kind}.csv"', 'time = "day"', 'code = "code"']
        if value is not None:
            table, lines = table.with_columns(value=pl.Series(value)), [*lines, 'value = "value"']
        if known is not None:
            table, lines = table.with_columns(known=pl.Series(known)), [*lines, 'known = "known"']
        table.write_csv(self.folder / f"{kind}.csv")
        self.spec.write_text(self.spec.read_text() + "\n".join(["", *lines, ""]))

    def static(self, name, values, sort):
        """One more column of the patients, a number or a category."""
        path = self.folder / self.statics
        more = pl.DataFrame({self.key: self.ids, name: values})
        pl.read_csv(path, infer_schema=False).join(more, on=self.key, how="left").write_csv(path)
        text = self.spec.read_text()
        assert f"{sort} = [" in text
        self.spec.write_text(text.replace(f"{sort} = [", f'{sort} = ["{name}", ', 1))

    def leaks(self, **how):
        from gnnpatient.ingest.read import read_cohort
        from gnnpatient.study.leaks import leaks

        return leaks(read_cohort(self.spec, self.folder), **how)

    def coverage(self):
        from gnnpatient.ingest.read import read_cohort
        from gnnpatient.study.leaks import coverage

        return {
            (x.outcome, x.cause): (x.judged, x.reason) for x in coverage(read_cohort(self.spec, self.folder))
        }


def pbc_tables(folder):
    from gnnpatient.datasets.shipped import DATA
    from gnnpatient.spec.graph import spec_path

    table = pl.read_csv(DATA / "pbc" / "pbcseq.csv", infer_schema=False)
    table.write_csv(folder / "pbcseq.csv")
    (folder / "pbc.toml").write_text(spec_path("pbc").read_text())
    who = table.unique("id", keep="first", maintain_order=True)
    end, died = who["futime"].cast(pl.Float64).to_numpy(), (who["status"] == "2").to_numpy()
    ids = who["id"].to_numpy().astype(str)
    rng = np.random.default_rng(3)
    return LandmarkTables(folder, folder / "pbc.toml", "pbcseq.csv", "id", ids, end, died, rng)


def tiny_tables(folder):
    from gnnpatient.testing import write_ward

    spec = write_ward(folder, patients=160, seed=3)
    who = pl.read_csv(folder / "patients.csv")
    ids = who["pid"].to_numpy().astype(str)
    left, died = who["left"].to_numpy(), who["died"].to_numpy() == 1
    return LandmarkTables(folder, spec, "patients.csv", "pid", ids, left, died, np.random.default_rng(3))


@pytest.fixture(params=["pbc", "tiny"])
def tables(request, tmp_path):
    return {"pbc": pbc_tables, "tiny": tiny_tables}[request.param](tmp_path)


def regularly(t, visits):
    """Owner and day of rows that everybody has at the same pace; whoever is followed longest has `visits`."""
    step = t.end.max() / visits
    count = np.floor(t.end / step).astype(int) + 1
    owner = np.repeat(np.arange(len(count)), count)
    nth = np.arange(len(owner)) - np.repeat(count.cumsum() - count, count)
    return owner, (nth * step).round(3)


def shortly(t, who):
    """A moment before the end of each patient's follow-up, within a thousandth of the longest one."""
    return (t.end[who] - t.end.max() / 1000 * t.rng.uniform(0.1, 1, len(who))).clip(0).round(4)


def palliative(t, who):
    """A code of those who will die, stamped some time before; everybody has other codes of the kind."""
    owner, day = regularly(t, 20)
    early = (t.end[who] - t.end.max() / 10 * t.rng.random(len(who))).clip(0).round(3)
    code = np.repeat(["visit", "palliative"], [len(owner), len(who)])
    t.add("care", np.r_[owner, who], np.r_[day, early], code)


def dated_back(t, who):
    """A lab that everybody has all the time, and that is raised just before the end."""
    owner, day = regularly(t, 200)
    value = t.rng.lognormal(size=len(owner))
    late = np.isin(owner, who) & (np.append(np.diff(owner), 1) != 0)
    t.add("crp", owner, day, "crp", np.where(late, value * 200, value).round(3))


def last_status(t, who):
    """A word for how things stood at the last contact."""
    word = np.where(np.isin(np.arange(len(t.end)), who), "B", t.rng.choice(["A", "C"], len(t.end)))
    t.static("contact", word, "category")


def last_state(t, who):
    """The same as a number, with the dead between the others."""
    number = np.where(np.isin(np.arange(len(t.end)), who), 1, t.rng.choice([0, 2], len(t.end)))
    t.static("state", number, "number")


def autopsy(t, who):
    """A number that is only given in those who die."""
    given = np.isin(np.arange(len(t.end)), who)
    t.static("grade", np.where(given, t.rng.normal(5, 1, len(given)).round(3).astype(str), ""), "number")


def diagnosis(t, who):
    """What the discharge letter says, dated at the admission."""
    everybody = np.arange(len(t.end))
    code = np.repeat(["cirrhosis", "hepatic failure"], [len(everybody), len(who)])
    t.add("diagnosis", np.r_[everybody, who], 0, code, known=np.zeros(len(everybody) + len(who)))


def extra_visit(t, who):
    """Everybody is seen from time to time, and some once more, shortly before the end."""
    owner, day = regularly(t, 15)
    t.add("visit", np.r_[owner, who], np.r_[day, shortly(t, who)], "seen")


def late_column(t, who):
    """A column that is filled in shortly before the end."""
    t.add("form", who, shortly(t, who), "lactate", t.rng.normal(size=len(who)).round(3))


PLANTS = {
    palliative: ("care", "palliative", "presence"),
    dated_back: ("crp", "crp", "jump"),
    last_status: ("patient", "contact", "static"),
    last_state: ("patient", "state", "static"),
    autopsy: ("patient", "grade", "static"),
    diagnosis: ("diagnosis", "hepatic failure", "presence"),
    extra_visit: ("visit", "seen", "presence"),
    late_column: ("form", "lactate", "presence"),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_leak_is_named(tables, plant):
    plant(tables, np.flatnonzero(tables.died))
    found = {(x.kind, x.code, x.what): x for x in tables.leaks() if x.cause == "death"}
    assert PLANTS[plant] in found
    assert all(x.code == PLANTS[plant][1] or x.kind == "timepoint" for x in found.values()), list(found)
    leak = found[PLANTS[plant]]
    assert leak.outcome == "death" and 0.95 < leak.near <= 1
    assert "\n" not in leak.message and repr(leak.code) in leak.message and "death" in leak.message
    if leak.what == "jump":
        assert leak.far is not None and leak.far < leak.near - 0.2


@pytest.mark.parametrize("plant", PLANTS)
def test_the_same_rows_in_people_drawn_by_lot_are_no_leak(tables, plant):
    plant(tables, np.sort(tables.rng.permutation(len(tables.died))[: tables.died.sum()]))
    assert tables.leaks() == []


@pytest.mark.parametrize("part", [1, 5])
def test_the_length_of_follow_up_as_a_static(tables, part):
    noisy = tables.end / part * tables.rng.uniform(0.99, 1.01, len(tables.end))
    tables.static("observed", noisy.round(3), "number")
    found = tables.leaks()
    assert {(x.cause, x.code, x.what, x.far) for x in found} >= {("death", "observed", "static", None)}
    assert {x.code for x in found} == {"observed"}


def test_rows_spread_over_each_follow_up_give_its_length_away(tables):
    """Times made as a share of the follow-up, which a simulation or an export may do."""
    spread = (t := tables).rng.random((20, len(t.end))) * t.end
    t.add("visit", np.tile(np.arange(len(t.end)), 20), spread.ravel().round(4), "seen")
    assert ("visit", "seen", "presence") in {(x.kind, x.code, x.what) for x in t.leaks()}


def test_a_value_that_holds_the_outcome_all_along(tables):
    everybody = np.arange(len(tables.end))
    tables.add("scale", everybody, 0, "bed", tables.died + tables.rng.uniform(0, 0.5, len(tables.end)))
    (leak,) = (x for x in tables.leaks() if x.cause == "death")
    assert (leak.kind, leak.code, leak.what) == ("scale", "bed", "value")
    assert leak.far is not None and leak.far > 0.95


def test_rows_that_come_only_after_the_event(tables):
    who = np.flatnonzero(tables.died)
    day = tables.end[who]
    tables.add("paper", who, day.round(2), "certificate {}", known=(day + 3).round(2))
    (leak,) = tables.leaks()
    assert (leak.kind, leak.code, leak.what, leak.far) == ("paper", "certificate {}", "presence", None)
    assert leak.near == 1 and f"in {len(who)} patients" in leak.message


def test_too_few_cases_no_verdict(tmp_path):
    t = pbc_tables(tmp_path)
    spared = t.ids[np.flatnonzero(t.died)[9:]]
    table = pl.read_csv(t.folder / t.statics, infer_schema=False)
    state = pl.when(pl.col("id").is_in(spared.tolist())).then(pl.lit("0")).otherwise("status")
    table.with_columns(status=state).write_csv(t.folder / t.statics)
    t.died &= ~np.isin(t.ids, spared)
    last_status(t, np.flatnonzero(t.died))
    assert t.died.sum() == 9
    assert [x for x in t.leaks() if x.cause == "death"] == []


def test_pbc_is_clean_and_quickly_so(pbc):
    from gnnpatient.study.leaks import leaks

    start = time.process_time()
    assert leaks(pbc) == []
    assert time.process_time() - start < 10
    for seed in range(1, 6):
        assert leaks(pbc, "death", seed=seed) == []


@pytest.mark.parametrize("seed", range(20))
def test_tiny_cohorts_are_clean(seed):
    from gnnpatient.study.leaks import leaks
    from gnnpatient.testing import tiny_cohort

    assert leaks(tiny_cohort(seed=seed), seed=seed) == []


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_named_when_the_outcomes_are_dealt_out_anew(tables, seed):
    from gnnpatient.ingest.read import read_cohort
    from gnnpatient.study.leaks import leaks

    for plant in (palliative, dated_back, last_status, diagnosis, late_column):
        plant(tables, np.flatnonzero(tables.died))
    cohort = read_cohort(tables.spec, tables.folder)
    assert leaks(cohort)
    truth, lot = cohort.outcomes["death"], np.random.default_rng(seed).permutation(len(cohort))
    dealt = replace(truth, time=truth.time[lot], event=truth.event[lot])
    assert leaks(replace(cohort, outcomes={"death": dealt})) == []


def test_a_useless_column_gives_a_half(pbc):
    """Which way round is learned elsewhere; on the same cases it would look better than it is."""
    from gnnpatient.study.column_scores import oriented_auc, win_shares
    from gnnpatient.study.matching import matched_at_event, patient_folds

    matched = next(matched_at_event(pbc, pbc.outcomes["death"], 1, patient_folds(pbc, 0), 0))
    noise = np.random.default_rng(0).normal(size=(len(pbc), 400))
    won = win_shares(noise[matched.case], noise[matched.control], matched.near.mask)
    assert abs(oriented_auc(won, matched.fold).mean() - 0.5) < 0.02
    assert np.maximum(won.mean(0), 1 - won.mean(0)).mean() > 0.53


def test_the_shares_equal_those_of_a_loop():
    from gnnpatient.study.column_scores import win_shares

    rng = np.random.default_rng(0)
    case, control = rng.integers(0, 4, (7, 3)).astype(float), rng.integers(0, 4, (7, 5, 3)).astype(float)
    case[rng.random(case.shape) < 0.2], control[rng.random(control.shape) < 0.2] = np.nan, np.nan
    mask = rng.random((7, 5)) < 0.7
    got = win_shares(case, control, mask)
    for i in range(7):
        for c in range(3):
            against = [x for x, m in zip(control[i, :, c], mask[i], strict=True) if m and x == x]
            wins = [1.0 if case[i, c] > x else 0.5 if case[i, c] == x else 0.0 for x in against]
            want = np.mean(wins) if wins and case[i, c] == case[i, c] else np.nan
            np.testing.assert_allclose(got[i, c], want)


def test_what_is_seen_at_an_ask_equals_a_loop(pbc):
    from gnnpatient.study.column_scores import VisibleRows
    from gnnpatient.times import DAY

    rng, lab = np.random.default_rng(0), pbc.events["lab"]
    patient, at = rng.integers(0, len(pbc), 40), rng.integers(-10, 3000, 40) * DAY
    codes = np.array([1, 4, 7])
    got = np.stack(list(VisibleRows(lab, patient, at, 90 * DAY)(codes)), -1)
    for i, (p, t) in enumerate(zip(patient, at, strict=True)):
        for c, code in enumerate(codes):
            rows = np.arange(lab.ptr[p], lab.ptr[p + 1])
            rows = rows[(lab.code[rows] == code) & (lab.known[rows] <= t)]
            late = (lab.known[rows] >= t - 90 * DAY).sum()
            age = lab.known[rows].max() - t if len(rows) else -np.inf
            value = lab.value[rows[-1]] if len(rows) else np.nan
            np.testing.assert_array_equal(got[i, c], [len(rows) > 0, len(rows), late, age, value])


def test_controls_are_at_risk_when_their_case_is(pbc):
    from gnnpatient.study.matching import matched_at_event, patient_folds

    fold, truth = patient_folds(pbc, 0), pbc.outcomes["death"]
    risk, never = matched_at_event(pbc, truth, 2, fold, 0)
    for matched in (risk, never):
        at, _, mask = matched.near
        assert (truth.event[matched.case] == 2).all() and (at == truth.time[matched.case] - 1).all()
        control, at = matched.control[mask], np.broadcast_to(at[:, None], mask.shape)[mask]
        assert (truth.time[control] > at).all() and (pbc.entry[control] <= at).all()
        assert (fold[control] == np.broadcast_to(matched.fold[:, None], mask.shape)[mask]).all()
        soon = (truth.event[control] == 2) & (truth.time[control] <= at + 1 + matched.span)
        assert not soon.any()
        assert (matched.near.mask | ~matched.far.mask).all() and matched.far.mask.sum() < mask.sum()
    assert (truth.event[risk.control[risk.near.mask]] == 2).any()
    assert (truth.event[never.control[never.near.mask]] != 2).all()


def test_what_cannot_be_looked_at_is_said(tmp_path):
    from gnnpatient.errors import InputError
    from gnnpatient.ingest.read import read_cohort
    from gnnpatient.study.leaks import coverage, leaks

    t = sick_tables(tmp_path, also=LACTATE)
    cohort = read_cohort(t.spec, t.folder)
    assert leaks(cohort) == []
    near = "near and far"
    assert t.coverage() == {
        ("death", "discharge"): (True, near),
        ("death", "death"): (True, near),
        ("icu", "yes"): (True, f"{near}, at entry"),
        ("lactate", ""): (False, "neither an event nor classes"),
    }
    with pytest.raises(InputError, match="outcome 'lactate' has neither an event nor classes"):
        leaks(cohort, "lactate")
    with pytest.raises(InputError, match="unknown outcome 'deth'; did you mean 'death'"):
        leaks(cohort, "deth")
    few = cohort.outcomes["icu"]
    label = np.where((few.label == 1) & ((few.label == 1).cumsum() > 9), -1, few.label)
    (look,) = coverage(replace(cohort, outcomes={"icu": replace(few, label=label)}))
    assert not look.judged and look.reason == "fewer than 10 cases, or others to compare them with"


def test_one_group_alone_is_parted(tmp_path):
    from gnnpatient.ingest.read import read_cohort
    from gnnpatient.study.leaks import leaks

    t = tiny_tables(tmp_path)
    diagnosis(t, np.flatnonzero(t.died))
    cohort = read_cohort(t.spec, t.folder)
    one = replace(cohort, group=np.full(len(cohort), "north"))
    assert {x.code for x in leaks(one) if x.cause == "death"} == {"hepatic failure"}


# -- a diagnosis --

ICU = """
[outcomes.icu]
kind = "diagnosis"
table = "sick.csv"
column = "icu"
classes = { N = "no", Y = "yes" }
"""
SEEN = """
[nodes.seen]
table = "seen.csv"
time = "day"
code = "code"
[outcomes.icu]
kind = "diagnosis"
node = "seen"
codes = ["Y"]
hide = ["N"]
horizon = "10d"
"""
GRADE = """
[outcomes.grade]
kind = "diagnosis"
table = "grades.csv"
column = "grade"
classes = { a = "low", b = "middle", c = "high" }
"""
LACTATE = """
[outcomes.lactate]
kind = "progression"
node = "lab"
codes = ["lactate"]
"""


def sick_tables(folder, form="timed", also=""):
    """The tiny ward with a label by lot, or not looked for; `died` says who has it, `end` is the last ask."""
    t = tiny_tables(folder)
    n = len(t.ids)
    t.end = (t.end * t.rng.uniform(0.3, 0.9, n)).round(3)
    looked_for = t.rng.random(n) < 0.95
    t.died = (t.rng.random(n) < 0.4) & looked_for
    word, day = np.where(looked_for, np.where(t.died, "Y", "N"), "?"), (t.end + 1).round(3)
    pl.DataFrame({"pid": t.ids, "icu": word, "icu_day": day}).write_csv(folder / "sick.csv")
    text = t.spec.read_text()
    if form == "coming":
        pl.DataFrame({"pid": t.ids, "day": day, "code": word}).write_csv(folder / "seen.csv")
        patients = pl.read_csv(folder / "patients.csv", infer_schema=False)
        stop = np.where(t.died, day + 1, t.end).round(3)
        patients.with_columns(stop=pl.Series(stop)).write_csv(folder / "patients.csv")
        text = text.replace('group = "site"', 'group = "site"\nexit = "stop"')
    t.spec.write_text(text + FORMS[form] + also)
    return t


FORMS = {
    "timed": ICU + 'known = "icu_day"\n',
    "untimed": ICU,
    "same": ICU + 'when = "same"\ninputs = ["lab", "vital", "drug"]\n',
    "coming": SEEN,
}
WITHOUT_A_TIME = {**PLANTS, dated_back: ("crp", "crp", "value")}
del WITHOUT_A_TIME[extra_visit]  # one more of what everybody has is told by its time alone


def visible(t, plant):
    """Let an outcome that is about now be read from what is planted."""
    t.spec.write_text(t.spec.read_text().replace("inputs = [", f'inputs = ["{PLANTS[plant][0]}", '))


@pytest.mark.parametrize("form, plant", [(form, plant) for form in FORMS for plant in PLANTS])
def test_a_leak_of_a_diagnosis_is_named(tmp_path, form, plant):
    t = sick_tables(tmp_path, form)
    plant(t, np.flatnonzero(t.died))
    if form == "same" and PLANTS[plant][0] != "patient":
        visible(t, plant)
    found = {(x.kind, x.code, x.what): x for x in t.leaks(outcome="icu")}
    timed = form in ("timed", "coming")
    if (wanted := (PLANTS if timed else WITHOUT_A_TIME).get(plant)) is None:
        assert found == {}
        return
    assert wanted in found, list(found)
    assert all(x.code == wanted[1] or x.kind == "timepoint" for x in found.values()), list(found)
    leak = found[wanted]
    assert (leak.outcome, leak.cause) == ("icu", "yes") and 0.95 < leak.near <= 1
    assert "\n" not in leak.message and repr(leak.code) in leak.message and "icu" in leak.message
    assert leak.far is None or timed
    if leak.what == "jump":
        assert leak.far < leak.near - 0.2


@pytest.mark.parametrize("form, plant", [(form, plant) for form in FORMS for plant in PLANTS])
def test_the_same_rows_by_lot_tell_no_diagnosis(tmp_path, form, plant):
    t = sick_tables(tmp_path, form)
    plant(t, np.sort(t.rng.permutation(len(t.died))[: t.died.sum()]))
    if form == "same" and PLANTS[plant][0] != "patient":
        visible(t, plant)
    assert t.leaks(outcome="icu") == []


@pytest.mark.parametrize("form", FORMS)
def test_no_diagnosis_is_told_when_its_labels_are_dealt_out_anew(tmp_path, form):
    from gnnpatient.ingest.read import read_cohort
    from gnnpatient.study.leaks import leaks

    t = sick_tables(tmp_path, form)
    for plant in (palliative, dated_back, last_status, diagnosis, late_column):
        plant(t, np.flatnonzero(t.died))
        if form == "same" and PLANTS[plant][0] != "patient":
            visible(t, plant)
    cohort = read_cohort(t.spec, t.folder)
    truth = cohort.outcomes["icu"]
    assert len({x.code for x in leaks(cohort, "icu")}) >= 5
    for seed in range(5):
        lot = np.random.default_rng(seed).permutation(len(cohort))
        dealt = replace(truth, label=truth.label[lot], known=truth.known[lot], end=truth.end[lot])
        assert leaks(replace(cohort, outcomes={"icu": dealt})) == []


def test_what_comes_before_any_answer_is_no_leak(tmp_path):
    """A biopsy, shortly before its result, whatever that is."""
    t = sick_tables(tmp_path)
    everybody = np.arange(len(t.end))
    t.add("biopsy", everybody, shortly(t, everybody), "biopsy")
    assert t.leaks(outcome="icu") == []


@pytest.mark.parametrize("form", ["timed", "untimed"])
def test_how_long_an_answer_takes_is_no_leak(tmp_path, form):
    """Those who have it are told in half the time, so that they have fewer visits by then."""
    t = sick_tables(tmp_path, form)
    t.end = np.where(t.died, 6, 12) + t.rng.uniform(-1, 1, len(t.end)).round(3)
    sick = pl.read_csv(t.folder / "sick.csv", infer_schema=False)
    sick.with_columns(icu_day=pl.Series(t.end + 1)).write_csv(t.folder / "sick.csv")
    owner, day = regularly(t, 40)
    t.add("visit", owner, day, "seen")
    assert t.leaks(outcome="icu") == []


@pytest.mark.parametrize("others, named", [(9, set()), (10, {"rare"})])
def test_too_few_others_with_a_value_no_verdict(tmp_path, others, named):
    t = sick_tables(tmp_path, "untimed")
    sick, well = (np.flatnonzero(t.died == has) for has in (True, False))
    looked_for = pl.read_csv(tmp_path / "sick.csv")["icu"].to_numpy() == "N"
    who = np.r_[sick, well[looked_for[well]][:others]]
    t.add(
        "test",
        np.r_[who, well, sick],
        0,
        np.repeat(["rare", "common"], [len(who), len(t.end)]),
        np.r_[t.died[who].astype(float), np.zeros(len(t.end))],
    )
    assert {x.code for x in t.leaks(outcome="icu") if x.what == "value"} == named


def test_who_was_not_looked_for_takes_no_part(tmp_path):
    from gnnpatient.ingest.read import read_cohort
    from gnnpatient.study.leaks import leaks

    t = sick_tables(tmp_path, "untimed")
    unknown = ~t.died & (np.arange(len(t.end)) % 2 == 0)
    last_status(t, np.flatnonzero(t.died | unknown))
    cohort = read_cohort(t.spec, t.folder)
    truth = cohort.outcomes["icu"]
    hidden = replace(truth, label=np.where(unknown, -1, truth.label))
    assert {x.code for x in leaks(replace(cohort, outcomes={"icu": hidden}))} == {"contact"}
    assert leaks(cohort, "icu") == []


def test_a_class_of_three_has_its_own_leak(tmp_path):
    t = sick_tables(tmp_path)
    grade = t.rng.integers(0, 3, len(t.end))
    pl.DataFrame({"pid": t.ids, "grade": np.array(list("abc"))[grade]}).write_csv(tmp_path / "grades.csv")
    t.spec.write_text(t.spec.read_text() + GRADE)
    last_status(t, np.flatnonzero(grade == 1))
    assert {(x.cause, x.code) for x in t.leaks(outcome="grade")} == {("middle", "contact")}
    once = (True, "at entry, at the last moment")
    assert {k: v for k, v in t.coverage().items() if k[0] == "grade"} == {
        ("grade", cause): once for cause in ("low", "middle", "high")
    }


def test_a_hidden_code_and_a_kind_that_is_not_read_are_no_leaks(tmp_path):
    t = sick_tables(tmp_path, "same")
    diagnosis(t, np.flatnonzero(t.died))
    assert t.leaks(outcome="icu") == []  # of a kind that is not among the inputs
    visible(t, diagnosis)
    assert {x.code for x in t.leaks(outcome="icu")} == {"hepatic failure"}
    t.spec.write_text(t.spec.read_text().replace('when = "same"', 'when = "same"\nhide = ["hepatic*"]'))
    assert t.leaks(outcome="icu") == []


def test_a_task_is_asked_at_its_moments(tmp_path):
    from gnnpatient.cohort.outcomes import Task
    from gnnpatient.ingest.read import read_cohort
    from gnnpatient.study.leaks import coverage, leaks
    from gnnpatient.times import DAY

    t = sick_tables(tmp_path)
    who = np.flatnonzero(t.died)
    t.add("note", who, 2, "written")
    cohort = read_cohort(t.spec, t.folder)

    def asked(day):
        at = np.full(len(cohort), int(day * DAY))
        return replace(
            cohort, outcomes={"task": Task(np.arange(len(at)), at, t.died.astype(np.int16), len(at))}
        )

    assert leaks(asked(1)) == []
    assert {(x.outcome, x.cause, x.kind, x.what) for x in leaks(asked(3))} == {
        ("task", "yes", "note", "presence")
    }
    assert [look.reason for look in coverage(asked(3))] == ["at its moments"]


# ---- statics that become known late

LATE = """
cohort = "late"
[patient]
table = "visits.csv"
key = "pid"
category = ["stage"]
{known}
[nodes.lab]
table = "visits.csv"
time = "day"
columns = {{ crp = "" }}
[outcomes.death]
kind = "survival"
table = "ends.csv"
causes = {{ death = {{ time = "end", flag = "died" }} }}
"""


@pytest.fixture
def late(tmp_path):
    """160 patients of two years, half of whom die; given(died, end, rng): on which day their stage is."""

    def reads(given, known: str = ""):
        from gnnpatient import read_cohort

        rng = np.random.default_rng(3)
        visits, ends = ["pid,day,stage,crp"], ["pid,end,died"]
        for i in range(160):
            died, end = i % 2, int(rng.integers(500, 730))
            ends.append(f"p{i:03},{end},{died}")
            visits += [f"p{i:03},{day},,{rng.normal():.3f}" for day in (0, 200, 400)]
            if (day := given(died, end, rng)) is not None:
                visits.append(f"p{i:03},{day},{'IV' if died else rng.choice(['I', 'II'])},1")
        (tmp_path / "visits.csv").write_text("\n".join(visits) + "\n")
        (tmp_path / "ends.csv").write_text("\n".join(ends) + "\n")
        (tmp_path / "spec.toml").write_text(LATE.format(known=known))
        return read_cohort(tmp_path / "spec.toml", tmp_path)

    return reads


def named_statics(cohort) -> list:
    from gnnpatient.study.leaks import leaks

    return [leak for leak in leaks(cohort) if leak.kind == "patient"]


def test_a_static_that_is_given_shortly_before_the_event_is_named(late):
    """Near the death it is there in the dying alone, long before in nobody."""
    (leak,) = named_statics(late(lambda died, end, rng: end - 2 if died else None))
    assert (leak.code, leak.what) == ("stage", "static") and leak.near > 0.99 and leak.far == 0.5
    assert leak.message == (
        "static 'stage': tells who will have death (AUC 1.00 just before it, 0.50 long before); leave it out "
        "of [patient] if it follows from the outcome"
    )


def test_a_static_that_is_known_only_at_the_event_is_named(late):
    (leak,) = named_statics(late(lambda died, end, rng: end if died else None))
    assert (leak.code, leak.what, leak.near) == ("stage", "static", 1.0)
    assert leak.message.startswith("static 'stage': known only at death or afterwards, in 80 patients")


def test_a_static_is_judged_as_it_was_known(late):
    """Late for everybody, at random: only who takes it as of day 0 is told who will die."""
    given = lambda died, end, rng: int(rng.integers(0, 3000))  # noqa: E731
    assert named_statics(late(given)) == []
    (leak,) = named_statics(late(given, 'known = "0d"'))
    assert (
        leak.near > 0.99 and leak.far is None and leak.message.endswith("if it was not known at the origin")
    )


PATHS = """
cohort = "relapses"
[patient]
table = "people.csv"
key = "id"
[nodes.lab]
table = "labs.csv"
time = "day"
code = "code"
[outcomes.relapses]
kind = "survival"
table = "people.csv"
recurrent = true
[outcomes.relapses.causes]
relapse = { table = "events.csv", time = "day", where = { what = "relapse" } }
death = { time = "last", flag = "died" }
[outcomes.course]
kind = "survival"
table = "people.csv"
states = ["well -> ill", "ill -> well", "well -> dead", "ill -> dead"]
[outcomes.course.causes]
well = { table = "events.csv", time = "day", where = { what = "remission" } }
ill = { table = "events.csv", time = "day", where = { what = "relapse" } }
dead = { time = "last", flag = "died" }
"""


@pytest.mark.parametrize("planted", ["relapse", "nothing"])
def test_a_leak_of_what_recurs_and_of_a_state_is_named(tmp_path, planted):
    """A call of the ward an hour before a relapse tells of it; one at any time does not."""
    from gnnpatient.ingest.read import read_cohort
    from gnnpatient.study.leaks import coverage, leaks

    rng, n = np.random.default_rng(0), 80
    last, died = rng.integers(300, 900, n), rng.integers(0, 2, n)
    has = rng.random(n) < 0.5
    day = np.where(has, rng.integers(50, 250, n), -1)
    people = pl.DataFrame({"id": np.arange(n), "last": last, "died": died})
    who = np.flatnonzero(has)
    what = ["relapse"] * len(who) + ["remission"] * len(who)
    pl.DataFrame({"id": [*who, *who], "day": [*day[who], *(day[who] + 20)], "what": what}).write_csv(
        tmp_path / "events.csv"
    )
    call = day[who] - 1 / 24 if planted == "relapse" else rng.uniform(0, 300, len(who))
    visits = np.repeat(np.arange(n), 6)
    labs = {"id": [*visits, *who], "day": [*rng.uniform(0, 300, 6 * n), *call]}
    pl.DataFrame(labs | {"code": ["visit"] * 6 * n + ["call"] * len(who)}).write_csv(tmp_path / "labs.csv")
    people.write_csv(tmp_path / "people.csv")
    (tmp_path / "c.toml").write_text(PATHS)
    cohort = read_cohort(tmp_path / "c.toml", tmp_path)
    named = {(one.outcome, one.cause, one.code) for one in leaks(cohort)}
    wanted = {("relapses", "relapse", "call"), ("course", "ill", "call")}
    assert (wanted <= named) if planted == "relapse" else not named
    judged = {(one.outcome, one.cause) for one in coverage(cohort) if one.judged}
    assert {("relapses", "relapse"), ("relapses", "death"), ("course", "ill"), ("course", "dead")} <= judged
