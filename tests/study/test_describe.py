"""Distributions, duplicates, size and Table 1 of a cohort."""

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

SPEC = """
cohort = "clinic"
[patient]
table = "patients.csv"
key = "pid"
number = ["age"]
category = ["sex"]
[nodes.lab]
table = "labs.csv"
time = "day"
code = "code"
value = "value"
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { death = { time = "end", flag = "died" } }
"""


@pytest.fixture(scope="module")
def tiny():
    from gnnpatient.testing import tiny_cohort

    return tiny_cohort()


@pytest.fixture
def clinic(tmp_path):
    """A cohort of patients (rows of statics and outcome) and labs (rows of pid, day, code, value)."""

    def make(labs, patients=None):
        from gnnpatient.ingest.read import read_cohort

        if patients is None:
            pid = sorted({row[0] for row in labs})
            patients = [(p, 50 + i / 7, "fm"[i % 2], 100 + i, i % 2) for i, p in enumerate(pid)]
        named = ["pid", "age", "sex", "end", "died"]
        pl.DataFrame(patients, named, orient="row").write_csv(tmp_path / "patients.csv")
        named = ["pid", "day", "code", "value"]
        pl.DataFrame(labs, named, orient="row", infer_schema_length=None).write_csv(tmp_path / "labs.csv")
        (tmp_path / "clinic.toml").write_text(SPEC)
        return read_cohort(tmp_path / "clinic.toml", tmp_path)

    return make


def row_of(cohort, code):
    from gnnpatient.study.describe import distributions

    (row,) = (row for row in [row.to_dict() for row in distributions(cohort)] if row["code"] == code)
    return row


# -- values --


def test_figures_equal_those_of_a_plain_count(tiny):
    from gnnpatient.study.describe import distributions

    seen = set()
    for row in [row.to_dict() for row in distributions(tiny)]:
        e, code = tiny.events[row["kind"]], tiny.codes[row["kind"]].index(row["code"])
        here = e.code == code
        value = e.value[here].astype(float)
        given = value[~np.isnan(value)]
        assert row["rows"] == here.sum() and row["patients"] == len(set(e.patient[here]))
        assert row["missing"] == pytest.approx(np.isnan(value).mean())
        assert row["unit"] == tiny.units[row["kind"]][code]
        figures = [row[name] for name in ("min", "q01", "median", "q99", "max")]
        if len(given):
            np.testing.assert_allclose(figures, np.quantile(given, [0, 0.01, 0.5, 0.99, 1]), rtol=1e-6)
        else:
            assert figures == [None] * 5 and row["flags"] == []
        seen.add((row["kind"], row["code"]))
    assert len(seen) == 8 and ("drug", "heparin") in seen
    assert row_of(tiny, "glucose")["range"] == [1, 2000] and row_of(tiny, "sodium")["range"] is None


def test_nothing_looks_wrong_in_pbc(pbc):
    from gnnpatient.study.describe import distributions, durations, statics

    rows = [row.to_dict() for row in distributions(pbc)]
    assert len(rows) == 12 and not any(row["flags"] for row in rows)
    of = [row.to_dict() for row in statics(pbc)]
    assert [row["code"] for row in of] == ["age", "sex", "trt"] and not any(row["flags"] for row in of)
    assert durations(pbc) == []
    json.dumps(rows + of)


def test_negative_values_among_positive_ones(clinic):
    rng = np.random.default_rng(0)
    labs = [(f"p{i:02d}", 1, "crp", v) for i, v in enumerate([-4.0, *rng.lognormal(2, 1, 39)])]
    labs += [(f"p{i:02d}", 1, "base excess", v) for i, v in enumerate(rng.normal(0, 2, 40))]
    cohort = clinic(labs)
    assert row_of(cohort, "crp")["flags"] == ["negative: 1 of 40 values, the lowest -4; the rest is not"]
    assert row_of(cohort, "base excess")["flags"] == []


def test_a_negative_crp_in_the_corpus(faults_dir, tmp_path):
    from gnnpatient.ingest.read import read_cohort

    shutil.copy(faults_dir / "csv" / "nan_inf.csv", tmp_path / "labs.csv")
    patients = pl.DataFrame({"subject_id": ["P0001", "P0002", "P0003"], "born": ["2021-01-01"] * 3})
    patients.write_csv(tmp_path / "patients.csv")
    (tmp_path / "crp.toml").write_text(
        'cohort = "crp"\n[patient]\ntable = "patients.csv"\nkey = "subject_id"\norigin = "born"\n'
        '[nodes.lab]\ntable = "labs.csv"\ntime = "time"\ncode = "code"\nvalue = "value"\nunit = "unit"\n'
    )
    row = row_of(read_cohort(tmp_path / "crp.toml", tmp_path), "CRP")
    assert row["min"] == -4 and row["max"] == pytest.approx(20.4) and 0 < row["missing"] < 0.5
    assert [flag.split(":")[0] for flag in row["flags"]] == ["negative"]


def test_a_code_that_never_varies_or_hardly(clinic):
    rng = np.random.default_rng(0)
    values = np.where(np.arange(60) < 40, 0.1, rng.lognormal(0, 0.3, 60))
    labs = [(f"p{i:02d}", 1, "troponin", v) for i, v in enumerate(values)]
    labs += [(f"p{i:02d}", 1, "beds", 12) for i in range(60)] + [("p01", 2, "seen once", 3)]
    labs += [(f"p{i:02d}", 1, "ascites", int(i < 5)) for i in range(60)]
    cohort = clinic(labs)
    assert row_of(cohort, "troponin")["flags"] == ["one value: 0.1 in 67% of the rows"]
    assert row_of(cohort, "beds")["flags"] == ["constant: 12 in all 60 rows"]
    assert row_of(cohort, "seen once")["flags"] == [] and row_of(cohort, "ascites")["flags"] == []


def test_a_slip_of_the_decimal_point(clinic):
    values = [13682.0, *np.random.default_rng(0).normal(130, 15, 499)]
    cohort = clinic([(f"p{i:03d}", 1, "sbp", v) for i, v in enumerate(values)])
    assert row_of(cohort, "sbp")["flags"] == [
        "extreme: 1 values over 10 times the 99th percentile, the highest 13682"
    ]


def test_standardised_values_are_on_one_scale(clinic):
    values = np.random.default_rng(657).normal(0, 1, 220)  # one of the few samples with such a gap above 0
    assert row_of(clinic([(f"p{i:03d}", 1, "z", v) for i, v in enumerate(values)]), "z")["flags"] == []


@pytest.mark.parametrize("factor", [10, 18, 38.67, 88.4, 100, 1000])
@pytest.mark.parametrize("share", [0.04, 0.5, 0.9])
def test_two_units_under_one_name(clinic, factor, share):
    rng = np.random.default_rng(0)
    other = rng.random(600) < share
    values = rng.lognormal(1.5, 0.3, 600) * np.where(other, factor, 1)
    (flag,) = row_of(clinic([(f"p{i:03d}", 1, "mixed", v) for i, v in enumerate(values)]), "mixed")["flags"]
    assert flag == f"two scales: {other.sum()} of 600 values are about {factor:g} times the others"


def test_fahrenheit_among_celsius(clinic):
    rng = np.random.default_rng(0)
    celsius, other = rng.normal(37, 0.6, 500), rng.random(500) < 0.2
    values = np.where(other, celsius * 1.8 + 32, celsius)
    row = row_of(clinic([(f"p{i:03d}", 1, "t", v) for i, v in enumerate(values)]), "t")
    want = f"two scales: {other.sum()} of 500 values are Fahrenheit if the others are Celsius"
    assert row["flags"] == [want]


@pytest.mark.parametrize("seed", range(200))
def test_one_scale_is_one_however_skewed(seed):
    from gnnpatient.study.describe import _two_scales

    rng = np.random.default_rng(seed)
    n, sd = rng.integers(50, 2000), rng.uniform(0.1, 2)
    for values in (rng.lognormal(1, sd, n), rng.gamma(rng.uniform(0.3, 5), 1, n), rng.normal(9, sd, n)):
        assert _two_scales(np.sort(values.round(1))) is None


def test_two_sorts_of_patient_seldom_pass_for_two_units():
    """One in three is some twelve times as high, as another unit would be, but varies more."""
    from gnnpatient.study.describe import _two_scales

    flagged = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n = rng.integers(50, 2000)
        high = np.where(rng.random(n) < 0.3, 12 * rng.lognormal(0, 0.8, n), 1)
        flagged += _two_scales(np.sort(rng.lognormal(0, 0.2, n) * high)) is not None
    assert flagged <= 4


FILLER = "filler? {:g} in {} of {} values, the others are {:g} to {:g}; leave a missing value empty"


@pytest.mark.parametrize("value", [999999, 9.96921e36, 99.99, -999, -1, 1e20, 75000])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.6])
def test_a_filler_is_flagged_whatever_its_share(value, share):
    from gnnpatient.study.describe import _flags

    values = np.random.default_rng(0).normal(4, 0.6, 400).round(2).clip(2.5, 5.5)
    values[: int(share * 400)] = value
    low, high = np.delete(np.unique(values), np.searchsorted(np.unique(values), value))[[0, -1]]
    flags = _flags(np.sort(values))
    assert FILLER.format(value, int(share * 400), 400, low, high) in flags
    assert len(flags) == 1 + (share > 0.5)  # and one value in most rows


def test_two_fillers_a_zero_and_one_in_a_binary_sign():
    from gnnpatient.study.describe import _flags

    rng = np.random.default_rng(1)
    rate = rng.normal(80, 5, 300).round()
    rate[:9], rate[9:20] = 999, 998
    assert [flag[:11] for flag in _flags(np.sort(rate))] == ["filler? 998", "filler? 999"]
    rate[:20] = 0
    assert [flag.split(",")[0] for flag in _flags(np.sort(rate))] == ["filler? 0 in 20 of 300 values"]
    sign = np.repeat([0.0, 1, 99], [50, 40, 3])
    assert [flag.split(",")[0] for flag in _flags(sign)] == ["filler? 99 in 3 of 93 values"]


@pytest.mark.parametrize("seed", range(100))
def test_what_is_skewed_or_capped_holds_no_filler(seed):
    """Tails, floors, ceilings, scores and counts: repeated ends of what is really there."""
    from gnnpatient.study.describe import _flags

    rng = np.random.default_rng(seed)
    n = rng.integers(30, 2000)
    tail = rng.lognormal(1, rng.uniform(0.1, 1.2), n).round(1)
    low, high = np.quantile(tail, (0.1, 0.9))
    for values in (tail, tail.clip(low, high), rng.poisson(3, n), rng.integers(0, 5, n), rng.normal(0, 3, n)):
        said = _flags(np.sort(values.astype(float)))
        assert not [flag for flag in said if flag.startswith(("filler", "two scales"))], said


def test_one_slip_in_few_rows():
    from gnnpatient.study.describe import _flags

    values = np.r_[np.arange(3, 5.5, 0.1), 999999]
    assert _flags(values) == ["extreme: 1 values up to 999999, the others end at 5.4"]


def test_two_scales_of_few_patients_and_an_unknown_factor():
    from gnnpatient.study.describe import _flags

    rng = np.random.default_rng(0)
    few = rng.normal(1, 0.1, 12)
    (flag,) = _flags(np.sort(few * np.where(np.arange(12) % 2, 88.4, 1)))
    assert flag.startswith("two scales: 6 of 12 values are about ") and flag.endswith("none lies between")
    many = rng.normal(9, 0.8, 200)
    (flag,) = _flags(np.sort(many * np.where(np.arange(200) % 4, 1, 6.45)))
    assert flag.startswith("two scales: 50 of 200 values are about 6.")


def test_statics_are_described_and_checked(clinic):
    from gnnpatient.study.describe import statics

    labs = [(f"p{i:02d}", 1, "na", 140 + i % 7) for i in range(30)]
    people = [(f"p{i:02d}", 50 + i / 7, "fm"[i % 2] if i > 4 else "999", 100 + i, i % 2) for i in range(30)]
    cohort = clinic(labs, people)
    age, sex = [row.to_dict() for row in statics(cohort)]
    assert age["kind"] == sex["kind"] == "patient"
    assert (age["code"], age["rows"], age["patients"], age["missing"]) == ("age", 30, 30, 0)
    assert age["range"] == [0, 125] and age["median"] == pytest.approx(50 + 14.5 / 7) and age["flags"] == []
    assert sex["median"] is None and sex["range"] is None
    assert sex["flags"] == ["filler? the level '999' in 5 of 30 patients; leave a missing value empty"]
    for odd, ends in ((300, "52 to 300"), (-3, "-3 to 54.1429")):
        people[:3] = [(f"p{i:02d}", odd, "f", 100, 0) for i in range(3)]
        row, _ = [row.to_dict() for row in statics(clinic(labs, people))]
        want = f"impossible: 3 of 30 ages, from {ends}, are not within 0 to 125 years"
        assert want in [flag.replace("50.4286 to 300", "52 to 300") for flag in row["flags"]]


@pytest.mark.parametrize("died", [0, 1])
def test_years_beside_days(clinic, died):
    """2 beside 730, whether it is a date of an event or an end of observation."""
    from gnnpatient.study.describe import durations

    rng = np.random.default_rng(0)
    labs = [(f"p{i:03d}", 0, "na", 140) for i in range(200)]
    own = rng.integers(10, 720, 200)

    def said(ends):
        return durations(clinic(labs, [(f"p{i:03d}", 50, "f", e, died) for i, e in enumerate(ends)]))

    what = "with an event" if died else "without an event"
    assert said(own) == said(np.where(np.arange(200) < 90, 730, own)) == []
    (flag,) = said(np.r_[[730] * 100, [2] * 40, own[:60]])
    assert flag == f"outcome death: times {what}: 40 of 200 are 2 and 100 are 2 years of days: two scales?"
    (flag,) = said(np.where(np.arange(200) < 90, (own + 300) / 365.25, own + 300))
    assert flag.startswith(
        f"outcome death: times {what}: two scales: 110 of 200 times are about 365.25 times"
    )


# -- people --


def labs_of(pid, seed, rows=4):
    rng = np.random.default_rng(seed)
    return [(pid, float(d), "glucose", float(v)) for d, v in rng.uniform(1, 90, (rows, 2)).round(2)]


def test_nobody_is_there_twice(pbc, tiny):
    from gnnpatient.study.duplicates import duplicates

    nobody = {"near_ids": 0, "groups": 0, "patients": 0, "pairs": 0, "ids": {"near": [], "people": []}}
    assert duplicates(pbc).to_dict() == nobody and duplicates(tiny).to_dict() == nobody


def test_people_under_two_ids(clinic):
    from gnnpatient.study.duplicates import duplicates

    labs = [row for i in range(30) for row in labs_of(f"p{i:02d}", i)]
    labs += labs_of("copy of p03", 3) + labs_of("again p03", 3)[::-1] + labs_of("copy of p07", 7)
    labs += [
        (pid, day, code, value + 0.01 * (i == 0)) for i, (pid, day, code, value) in enumerate(labs_of("z", 9))
    ]
    found = duplicates(clinic(labs)).to_dict()
    people = [["again p03", "copy of p03", "p03"], ["copy of p07", "p07"]]
    assert found["ids"] == {"near": [], "people": people}
    assert (found["groups"], found["patients"], found["pairs"]) == (2, 5, 4)
    assert "p03" not in json.dumps({k: v for k, v in found.items() if k != "ids"})


def test_short_records_need_equal_statics_and_outcomes_too(clinic):
    from gnnpatient.study.duplicates import duplicates

    labs = [row for i in range(40) for row in labs_of(f"p{i:02d}", i)]
    labs += [(pid, 7.25, "glucose", 81.5) for pid in ("twin a", "twin b", "other")]
    patients = [(f"p{i:02d}", 50 + i / 7, "f", 100 + i, 0) for i in range(40)]
    patients += [
        ("twin a", 41.3, "m", 77.5, 1),
        ("twin b", 41.3, "m", 77.5, 1),
        ("other", 60.1, "m", 70.5, 1),
    ]
    assert duplicates(clinic(labs, patients)).to_dict()["ids"]["people"] == [["twin a", "twin b"]]


def test_what_many_share_makes_nobody_a_duplicate(clinic):
    """Three normal findings on day 0, the same age in years, followed to the end of the study."""
    from gnnpatient.study.duplicates import duplicates

    codes, people = ("ascites", "edema", "spiders"), [f"p{i:03d}" for i in range(300)]
    labs = [
        (pid, 0, code, int((i >> c) % 8 == 0)) for i, pid in enumerate(people) for c, code in enumerate(codes)
    ]
    patients = [(pid, 50 + i % 20, "fm"[i % 2], 365, 0) for i, pid in enumerate(people)]
    assert duplicates(clinic(labs, patients)).to_dict()["groups"] == 0


def test_ids_that_are_nearly_equal(clinic):
    from gnnpatient.study.duplicates import duplicates

    ids = ["7", "007", "P12", "p12", "p 12", "p012", "p120", "70", "x1.05", "x1.5"]
    found = duplicates(clinic([row for i, pid in enumerate(ids) for row in labs_of(pid, i)])).to_dict()
    assert found["near_ids"] == 6
    assert found["ids"] == {"near": [["007", "7"], ["P12", "p 12", "p012", "p12"]], "people": []}


def test_a_cohort_without_rows_or_outcomes(tiny):
    from gnnpatient.study.describe import distributions, durations, statics
    from gnnpatient.study.duplicates import duplicates
    from gnnpatient.study.sample_size import sample_size

    bare = replace(tiny.only([]), outcomes={})
    (age, *_) = [row.to_dict() for row in statics(replace(bare, number=bare.number * np.float32(np.nan)))]
    assert (age["missing"], age["median"], age["flags"]) == (1, None, []) and durations(bare) == []
    assert [row.to_dict() for row in distributions(bare)] == [] and [
        row.to_dict() for row in sample_size(bare)
    ] == []
    assert duplicates(bare).to_dict()["groups"] == 0


# -- size --


@pytest.mark.parametrize(
    "r2, parameters, rate, want",
    [  # pmsampsize 1.1 for R, type = "s", meanfup = 2.07: the first two criteria, as its own tests have them
        (0.051, 25, 0.065, (4286, 866)),
        (0.065, 25, 0.065, (3335, 859)),
        (0.051, 50, 0.065, (8572, 1731)),
        (0.051, 25, 0.1, (4286, 731)),
    ],
)
def test_riley_equals_pmsampsize(r2, parameters, rate, want):
    from gnnpatient.study.sample_size import riley

    events = np.ceil(rate * 2.07 * 10_000) / 10_000  # it counts them in 10 000 patients, rounded up
    got = riley(events, parameters, r2)
    assert (got["shrinkage"], got["optimism"]) == want


@pytest.mark.parametrize("events", [0.02, 0.13, 0.5, 1.4])
def test_the_margin_is_the_smallest_number_with_narrow_limits(events):
    from gnnpatient.study.sample_size import riley

    def widest(n):
        limits = events + 1.96 * np.sqrt(events / n) * np.array([-1, 1])
        return np.abs(np.exp(-events) - np.exp(-limits)).max()

    n = riley(events, 10)["margin"]
    assert widest(n) <= 0.05 + 1e-12 < widest(n - 1)


def test_size_of_pbc(pbc):
    from gnnpatient.study.sample_size import riley, sample_size

    transplant, death = [row.to_dict() for row in sample_size(pbc)]
    assert (transplant["cause"], transplant["events"], death["cause"], death["events"]) == (
        "transplant",
        29,
        "death",
        140,
    )
    assert death["patients"] == 312 and death["parameters"] == 3 + 7 + 4 + 1
    assert death["events_per_parameter"] == pytest.approx(140 / 15)
    assert death["follow_up"] == pytest.approx(pbc.outcomes["death"].time.mean() / 86400)
    assert death["criteria"] == riley(140 / 312, 15) and death["needed"] == max(death["criteria"].values())
    assert not death["enough"] and "312 patients with 140 events" in death["sentence"]
    assert "too few" in death["sentence"] and "\n" not in death["sentence"]


def test_enough_where_there_are_many_and_nothing_without_events(clinic):
    from gnnpatient.study.sample_size import sample_size

    patients = [(f"p{i}", 50 + i % 30, "fm"[i % 2], 100 + i % 50, int(i % 3 == 0)) for i in range(2000)]
    cohort = clinic([("p0", 1, "glucose", 90.0)], patients)
    (row,) = [row.to_dict() for row in sample_size(cohort)]
    assert row["enough"] and row["needed"] < 2000 and "are enough for a new model" in row["sentence"]
    truth = cohort.outcomes["death"]
    (row,) = [
        row.to_dict()
        for row in sample_size(replace(cohort, outcomes={"death": replace(truth, event=truth.event * 0)}))
    ]
    assert row["needed"] is None and not row["enough"] and "no events" in row["sentence"]


DIAGNOSIS = """
[outcomes.flu]
kind = "diagnosis"
table = "patients.csv"
column = "died"
classes = { 0 = "no", 1 = "yes" }
known = "end"
[outcomes.site]
kind = "diagnosis"
table = "patients.csv"
column = "sex"
classes = { f = "skin", m = "lung", x = "bone" }
"""


@pytest.fixture
def labelled(clinic, tmp_path):
    """Of 40 with a label, 15 have it; of 2 of them it is known at entry, and 5 were not looked for."""
    from gnnpatient.ingest.read import read_cohort

    patients = [(f"p{i:02d}", 50 + i, "fmx"[i % 3], 0.5 if i < 2 else 100, int(i < 15)) for i in range(45)]
    clinic([(f"p{i:02d}", 0, "glucose", 90.0 + i) for i in range(45)], patients)
    text = (tmp_path / "patients.csv").read_text()
    lines = [line[:-1] + "?" if i > 40 else line for i, line in enumerate(text.splitlines())]
    (tmp_path / "patients.csv").write_text("\n".join(lines) + "\n")
    spec = SPEC.replace('category = ["sex"]\n', "")
    (tmp_path / "clinic.toml").write_text(spec[: spec.index("[outcomes.death]")] + DIAGNOSIS)
    return read_cohort(tmp_path / "clinic.toml", tmp_path)


@pytest.mark.parametrize(
    "share, parameters, r2, want",
    [  # pmsampsize 1.1 for R and Python, type = "b", as its own tests have it
        (0.174, 24, 0.288, {"shrinkage": 623, "optimism": 662, "margin": 221}),
    ],
)
def test_riley_of_a_label_equals_pmsampsize(share, parameters, r2, want):
    from gnnpatient.study.sample_size import riley_binary

    assert riley_binary(share, parameters, r2) == want
    assert riley_binary(1 - share, parameters, r2) == want


def test_size_of_a_diagnosis(labelled):
    from gnnpatient.study.sample_size import riley_binary, sample_size

    (row,) = [row.to_dict() for row in sample_size(labelled)]  # none of the three sites
    assert (row["outcome"], row["cause"], row["patients"], row["events"]) == ("flu", "yes", 38, 13)
    assert row["parameters"] == 2 and row["follow_up"] is None
    assert row["criteria"] == riley_binary(13 / 38, 2) and row["needed"] == max(row["criteria"].values())
    assert not row["enough"] and "flu, yes: 38 patients with 13 events" in row["sentence"]
    truth = labelled.outcomes["flu"]
    for label, why in ((0, "no events"), (1, "all have it")):
        same = replace(truth, label=np.where(truth.label < 0, -1, label))
        (row,) = [row.to_dict() for row in sample_size(replace(labelled, outcomes={"flu": same}))]
        assert row["needed"] is None and not row["enough"] and why in row["sentence"]


# -- Table 1 --


def test_table_1_of_a_diagnosis(labelled):
    pytest.importorskip("tableone", reason="tableone is not installed")
    from gnnpatient.study.table1 import table1

    table = table1(labelled, "flu")
    assert [group for _, group in table.columns] == ["Missing", "Overall", "no", "yes"]
    assert table.loc["n"].iloc[0].tolist()[1:] == [38, 25, 13]
    (ages,) = table.loc["age, median [Q1,Q3]"].to_numpy().tolist()
    assert ages[-1] == "58.0 [55.0,61.0]"
    three = table1(labelled, "site")
    assert three.loc["n"].iloc[0].tolist()[1:] == [45, 15, 15, 15]
    assert [group for _, group in three.columns][2:] == ["skin", "lung", "bone"]


def test_with_a_horizon_the_label_is_that_of_an_ask_at_entry(labelled):
    """Seen within it, not seen, or not observed long enough."""
    from gnnpatient.study.sample_size import sample_size

    day, truth = 86_400, labelled.outcomes["flu"]
    known, end = np.full(45, np.iinfo(np.int64).max), np.full(45, 50 * day)
    known[:10], known[10:14], end[14:20] = 20 * day, 40 * day, 29 * day
    coming = replace(
        truth, known=known, end=end, label=(known < known.max()).astype(np.int16), horizon=30 * day
    )
    (row,) = [row.to_dict() for row in sample_size(replace(labelled, outcomes={"flu": coming}))]
    assert (row["patients"], row["events"]) == (39, 10)


def test_table_1_of_pbc(pbc):
    pytest.importorskip("tableone", reason="tableone is not installed")
    from gnnpatient.study.table1 import table1

    table = table1(pbc, "death")
    assert [group for _, group in table.columns] == [
        "Missing",
        "Overall",
        "event_free",
        "transplant",
        "death",
    ]
    counts = table.loc["n"].iloc[0].tolist()[1:]
    assert counts == [312, 143, 29, 140]
    (ages,) = table.loc["age, median [Q1,Q3]"].to_numpy().tolist()
    died = pbc.outcomes["death"].event == 2
    middle = np.quantile(pbc.number[died, 0], [0.5, 0.25, 0.75])
    assert ages[-1] == "{:.1f} [{:.1f},{:.1f}]".format(*middle)
    signs = table.loc[("sign.ascites, n (%)", "1")]
    first = pbc.at(0).to_frame()["sign.ascites"].to_numpy()
    assert signs.iloc[1] == f"{int(first.sum())} ({first.mean():.1%})".replace("%", "")
    assert table.loc["lab.chol (mg/dl), median [Q1,Q3]"].iloc[0, 0] == 28
    assert ("sign.edema, n (%)", "0.5") in table.index


def test_table_1_keeps_the_commonest_codes_and_says_nothing_of_none(tiny):
    pytest.importorskip("tableone", reason="tableone is not installed")
    from gnnpatient.study.table1 import table1

    rows = set(table1(tiny, "death").index.get_level_values(0))
    assert {"drug.heparin, n (%)", "lab.lactate (mmol/L), median [Q1,Q3]"} <= rows
    few = table1(tiny, "death", codes=1)
    assert len({row for row in few.index.get_level_values(0) if "." in row}) == 1
    assert "nan" not in table1(tiny, "death").to_string()


def test_no_table_1_of_what_has_none(tiny, monkeypatch):
    from gnnpatient.errors import InputError
    from gnnpatient.study.table1 import table1

    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "tableone", None)
        with pytest.raises(InputError, match=r"pip install 'gnnpatient\[report\]'"):
            table1(tiny, "death")
    pytest.importorskip("tableone", reason="tableone is not installed")
    with pytest.raises(InputError, match="unknown outcome 'deth'; did you mean 'death'"):
        table1(tiny, "deth")
    from gnnpatient.cohort.outcomes import Task

    none = Task(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int16), len(tiny))
    with pytest.raises(InputError, match="outcome 'task' is neither survival nor a class of each patient"):
        table1(replace(tiny, outcomes={"task": none}), "task")
    truth = tiny.outcomes["death"]
    gone = replace(tiny, outcomes={"death": replace(truth, time=truth.time * 0)})
    with pytest.raises(InputError, match="nobody is at risk at entry"):
        table1(gone, "death")
