"""The made-up ward: its risks are true, no kind of row tells enough alone, the twin has nothing to fuse."""

import sys
import time
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import polars as pl
import pytest

from gnnpatient.errors import InputError

SPEC = """
cohort = "ward"
[patient]
table = "patients.csv"
key = "pid"
number = ["age"]
category = ["sex"]
origin = "admitted"
group = "site"
[units]
glucose = { to = "mg/dL", from = { "mmol/L" = 18.016 }, range = [10, 2000] }
[nodes.lab]
table = "labs.csv"
time = "drawn"
known = "resulted"
code = "analyte"
value = "result"
unit = "unit"
[nodes.sign]
table = "visits.csv"
time = "day"
columns = { ascites = "", edema = "", "alk.phos" = "U/L", pulse = "1/min", saturation = "%" }
[nodes.drug]
table = "drugs.csv"
time = "started"
until = "stopped"
code = "drug"
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { discharge = { time = "discharge_day" }, death = { time = "death_day", flag = "died" } }
[outcomes.icu]
kind = "diagnosis"
table = "patients.csv"
column = "icu"
known = "icu_day"
classes = { Y = "yes", N = "no" }
[outcomes.bilirubin]
kind = "progression"
node = "lab"
codes = ["bilirubin"]
gone = "death"
"""
MANY = 4000
AT, HORIZON = 5.0, 30.0  # days


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Write a ward somewhere new: (folder, truth)."""

    def written(n: int, seed: int = 1, images: bool = False, **how):
        from gnnpatient.datasets.ward import write_ward

        folder = tmp_path_factory.mktemp("ward")
        return folder, write_ward(folder, n, seed, images=images, **how)

    return written


@pytest.fixture(scope="module")
def ward(write):
    return write(MANY)


@pytest.fixture(scope="module")
def twin(write):
    return write(MANY, negative_control=True)


@pytest.fixture(scope="module")
def pictured(write):
    return write(60, images=True, truth=True)


def at_risk(cohort, at=AT):
    """Positions of those still there on a day."""
    folder, _ = cohort
    return np.flatnonzero(pl.read_csv(folder / "patients.csv")["death_day"].to_numpy() > at)


def future(truth, position, at=AT):
    """Days from the ask to death or discharge, and which (0: neither by day 120); nobody is censored."""
    return truth.end[position] - at, truth.event[position].astype(int)


def c_of(cohort, score, horizon=HORIZON):
    from gnnpatient.metrics import concordance

    return concordance(score, *future(cohort[1], at_risk(cohort)), horizon, cause=2)


def c_given(cohort, *kinds):
    return c_of(cohort, cohort[1].risk(at_risk(cohort), AT, HORIZON, given=kinds))


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# -- files --


def test_same_seed_same_bytes(pictured, write):
    again, _ = write(60, images=True, truth=True)
    assert content(again) == content(pictured[0])
    other, _ = write(60, seed=2, images=True, truth=True)
    assert content(other)["labs.csv"] != content(again)["labs.csv"]


def test_without_images_only_the_pictures_are_gone(pictured, write):
    plain, _ = write(60, truth=True)
    full = content(pictured[0])
    assert content(plain) == {name: data for name, data in full.items() if not name.endswith(".png")}
    assert sum(name.endswith(".png") for name in full) > 60


def test_truth_is_saved_without_pickle(pictured, tmp_path):
    from gnnpatient.datasets.ward import SimulatedTruth

    folder, truth = pictured
    found = SimulatedTruth.load(folder / "truth.npz")
    for name, value in vars(truth).items():
        np.testing.assert_array_equal(getattr(found, name), value)
    assert (found.risk(range(60), 3.0, 30.0) == truth.risk(range(60), 3.0, 30.0)).all()
    np.savez(tmp_path / "objects.npz", ids=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="not a truth of ward"):
        SimulatedTruth.load(tmp_path / "objects.npz")


def test_old_names_warn_and_still_work(ward, tmp_path):
    from gnnpatient.datasets import ward as module
    from gnnpatient.datasets.ward import SimulatedTruth, write_ward

    _, truth = ward
    with pytest.warns(DeprecationWarning, match="negative_control="):
        control = write_ward(tmp_path / "w", 20, images=False, truth=True, twin=True)
    assert control.negative_control
    for old, new in (("twin", "negative_control"), ("told", "informative_from")):
        with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
            assert getattr(truth, old) is getattr(truth, new)
    with pytest.warns(DeprecationWarning, match="attainable_risk"):
        assert truth.reachable(3, 5.0, 30.0) == truth.attainable_risk(3, 5.0, 30.0)
    with pytest.warns(DeprecationWarning, match="SimulatedTruth"):
        assert module.Truth is SimulatedTruth
    with np.load(tmp_path / "w" / "truth.npz") as arrays:  # as every release so far reads it
        assert {"twin", "told"} <= set(arrays.files)


def test_bad_input_is_refused(ward, tmp_path, monkeypatch):
    from gnnpatient.datasets.ward import write_ward

    _, truth = ward
    for how, words in (
        ({"n": 0}, "n = 0 patients"),
        ({"missing": 1.5}, r"missing = 1\.5"),
        ({"seed": -1}, "seed = -1"),
    ):
        with pytest.raises(InputError, match=words):
            write_ward(tmp_path / "w", **how)
    for ask, words in (
        ((MANY, 1.0, 1.0), "position 4000; this truth has 4000 patients"),
        ((0, -1.0, 1.0), "at -1 days"),
        ((0, np.nan, 1.0), "at nan days"),
        ((0, 1.0, -1.0), "horizon -1 days"),
        ((0, 100.0, 21.0), "is day 121; the truth reaches to day 120"),
        ((0, 1.0, 1.0, "transplant"), "cause 'transplant'; ward has discharge and death"),
        ((0, 1.0, 1.0, "death", ["labs"]), "node type 'labs'; there are lab, sign"),
    ):
        with pytest.raises(InputError, match=words):
            truth.risk(*ask)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match="images need pillow"):
        write_ward(tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_the_tables_are_read_as_the_truth_has_them(ward):
    """Nothing is refused; outcomes, drugs and lactate are those behind the risks."""
    from gnnpatient import read_cohort
    from gnnpatient.datasets.ward.hazards import INFORMATIVE
    from gnnpatient.times import DAY

    folder, truth = ward
    (folder / "ward.toml").write_text(SPEC)
    cohort = read_cohort(folder / "ward.toml", folder)
    assert list(cohort.ids) == truth.ids.tolist()
    assert not any(table["refused"] for table in cohort.report["tables"].values())
    death = cohort.outcomes["death"]
    assert death.causes == ("discharge", "death")
    came = death.event > 0
    assert (death.event[came] == truth.event[came]).all() and 0.85 < came.mean() < 0.95
    assert np.abs(death.time[came] - np.maximum(truth.end[came] * DAY, 60)).max() <= 1
    assert (death.time <= np.minimum(np.maximum(truth.end * DAY, 60), 60 * DAY) + 1).all()

    lab = cohort.events["lab"]
    owner = np.repeat(np.arange(MANY), np.diff(lab.ptr))
    names, units = cohort.codes["lab"], cohort.units["lab"]
    assert units[names.index("glucose")] == "mg/dL"
    lactate = (lab.code == names.index("lactate")) & ~np.isnan(lab.value)
    assert ((lab.value[lactate] > 2) == truth.high[owner[lactate]]).mean() > 0.999
    first = np.full(MANY, np.inf)
    np.minimum.at(first, owner[lactate], lab.known[lactate] / DAY)
    np.testing.assert_allclose(truth.informative_from[:, INFORMATIVE.index("lab")], first, atol=1e-9)

    drug = cohort.events["drug"]
    owner = np.repeat(np.arange(MANY), np.diff(drug.ptr))
    metformin = drug.code == cohort.codes["drug"].index("metformin")
    for day in (0, 4, 9):
        running = metformin & (drug.known <= day * DAY) & ((drug.until < 0) | (drug.until > day * DAY))
        on = np.bincount(owner[running], minlength=MANY)
        there = (death.time > day * DAY) & (truth.informative_from[:, INFORMATIVE.index("drug")] == 0)
        assert (on[there] == truth.drug[there, day]).all() and 0.4 < on[there].mean() < 0.6


def test_each_kind_is_missing_as_often_as_asked(write):
    """And a little less often where the patient is sicker."""
    from gnnpatient.datasets.ward.hazards import INFORMATIVE, NODE_TYPES

    tables = dict(zip(NODE_TYPES, ("labs", "visits", "drugs", "images", "notes"), strict=True))
    for missing in (0.0, 0.3, 1.0):
        folder, truth = write(MANY, missing=missing)
        for kind, table in tables.items():
            some = pl.read_csv(folder / f"{table}.csv", columns=["pid"])["pid"].unique()
            lacks = ~pl.Series(truth.ids).is_in(some.implode()).to_numpy()
            stayed = truth.end > 1.5  # by then every kind has had its first row
            assert abs(lacks[stayed].mean() - missing) < 0.035
            if missing == 0.3 and kind in INFORMATIVE:
                sick = truth.risk(np.arange(MANY), 0.0, 60.0) > 0.5
                assert lacks[stayed & sick].mean() < lacks[stayed & ~sick].mean()
    assert (truth.informative_from == np.inf).all()


def test_reports_state_and_deny_the_finding(ward):
    folder, truth = ward
    notes = pl.read_csv(folder / "notes.csv")
    there = truth.finding[np.searchsorted(truth.ids, notes["pid"].to_numpy())]
    text = notes["text"].str.to_lowercase()
    named = text.str.contains("effusion|pleural fluid").to_numpy()
    denied = text.str.contains(
        "no pleural|no evidence of pleural|without effusion|absent|resolved"
    ).to_numpy()
    assert abs(named[there].mean() - 0.8) < 0.02 and abs(named[~there].mean() - 0.8) < 0.02
    assert not denied[there].any() and (denied[~there] == named[~there]).all()
    assert (notes["signed"] > notes["written"]).all()
    assert text.str.contains("discharged|died").any()  # words that give nothing away, for a mask to find
    told = truth.informative_from[:, 3]
    assert set(notes["pid"].to_numpy()[named]) == set(truth.ids[np.isfinite(told)])


def test_reports_say_what_the_image_shows(ward):
    """Side and zone are one lesion's; the size band tells next to nothing of growth."""
    folder, truth = ward
    notes = pl.read_csv(folder / "notes.csv")
    for one, other in ((" left ", " right "), ("upper|apical", "lower|basal")):
        # "left zone" and "Left", but never both sides in the sentence about the lesion
        lesion = notes["text"].str.to_lowercase().str.extract(r"\. ([^.]*(?:zone|lung)[^.]*)", 1)
        padded = " " + lesion + " "
        first, second = padded.str.contains(one), padded.str.contains(other)
        assert (first ^ second).all()
        assert notes.with_columns(first).group_by("pid").agg(pl.col("text").n_unique()).height > 100
        sides = (
            pl.DataFrame({"pid": notes["pid"], "side": first}).group_by("pid").agg(pl.col("side").n_unique())
        )
        assert (sides["side"] == 1).all()
    large = lesion.str.contains("large|sizeable|extensive").to_numpy()
    growth = truth.growth[np.searchsorted(truth.ids, notes["pid"].to_numpy())]
    assert 0.2 < large.mean() < 0.5 and abs(np.corrcoef(large, growth)[0, 1]) < 0.35


# -- images --


def test_two_images_show_the_growth(write):
    """Pixels in the lung brighter than halfway to the chest wall: their change tells the growth."""
    from PIL import Image

    from gnnpatient.datasets.ward.hazards import log_area
    from gnnpatient.datasets.ward.radiograph import PIXELS

    folder, truth = write(150, images=True, missing=0.0)
    table = pl.read_csv(folder / "images.csv", try_parse_dates=True).join(
        pl.read_csv(folder / "patients.csv", try_parse_dates=True).select("pid", "admitted"), on="pid"
    )
    day = ((table["taken"] - table["admitted"]).dt.total_seconds() / 86_400).to_numpy()
    pixels = np.stack([np.asarray(Image.open(folder / "images" / path)) for path in table["path"]]).astype(
        float
    )
    assert pixels.shape == (len(table), PIXELS, PIXELS) and pixels.std(axis=(1, 2)).min() > 20
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    lung = ((abs(x) - 0.45) / 0.27) ** 2 + (y / 0.66) ** 2 < 1
    inside = pixels[:, lung]
    half = (np.median(inside, axis=1) + np.median(pixels[:, abs(y) > 0.9], axis=1)) / 2
    measured = np.log((inside > half[:, None]).sum(axis=1))
    owner = np.searchsorted(truth.ids, table["pid"].to_numpy())
    first = np.searchsorted(owner, owner)
    again = first < np.arange(len(owner))
    change = (measured - measured[first])[again]
    true = (log_area(5.0, truth.growth[owner], day) - log_area(5.0, truth.growth[owner], day[first]))[again]
    assert np.corrcoef(change, true)[0, 1] > 0.9
    assert abs(np.corrcoef(measured[first], truth.growth[owner])[0, 1]) < 0.35


def test_sites_expose_differently(write):
    from PIL import Image

    folder, _ = write(150, images=True, missing=0.0)
    table = pl.read_csv(folder / "images.csv").join(pl.read_csv(folder / "patients.csv"), on="pid")
    mean = [np.asarray(Image.open(folder / "images" / path)).mean() for path in table["path"]]
    spread = table.with_columns(mean=pl.Series(mean)).with_columns(
        own=pl.col("mean") - pl.col("mean").mean().over("site"), site_mean=pl.col("mean").mean().over("site")
    )
    assert spread["site_mean"].std() > 1.5 * spread["own"].std()


# -- the truth --


def test_risk_is_a_chance_that_rises_with_the_horizon(ward, twin):
    for _, truth in (ward, twin):
        who = np.arange(0, MANY, 10)[:, None].repeat(14, axis=1).ravel()
        horizon = np.tile(
            [0.0, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.5, 20.0, 30.0, 45.0, 60.0, 90.0, 110.0], 400
        )
        for at in (0.0, 4.75, 10.0):
            rows = [truth.risk(who, at, horizon, cause).reshape(400, 14) for cause in ("discharge", "death")]
            for risk in rows:
                assert risk.dtype == np.float64
                assert (risk[:, 0] == 0).all() and (np.diff(risk, axis=1) >= 0).all()
            total = sum(rows)
            assert (total <= 1 + 1e-12).all() and (total[:, -1] > 0.9).mean() > 0.8


def test_risk_of_one_is_that_of_many(ward):
    _, truth = ward
    who, at, horizon = np.array([5, 77, 3000]), np.array([0.0, 6.5, 12.0]), np.array([60.0, 0.75, 100.0])
    for given in (("lab", "drug", "image", "note"), ("image",)):
        many = truth.risk(who, at, horizon, given=given)
        one = [truth.risk(*ask, given=given)[0] for ask in zip(who, at, horizon, strict=True)]
        np.testing.assert_allclose(many, one, rtol=1e-12)


def test_risk_by_walking_every_path_of_the_drug(ward):
    """Slow and plain: all courses that the drug may take over a few days, each with its chance."""
    from gnnpatient.datasets.ward.hazards import SWITCH, WARD, hazards, log_ratio

    _, truth = ward
    at, horizon = 3.5, 4.25
    for who in (4, 9, 2000):
        total = {"discharge": 0.0, "death": 0.0}
        for later in product((0, 1), repeat=4):  # days 4 to 7
            path = [int(truth.drug[who, 3]), *later]
            chance = np.prod([SWITCH if a != b else 1 - SWITCH for a, b in pairwise(path)])
            free = 1.0
            for day, on in zip(range(3, 8), path, strict=True):
                length = min(day + 1, at + horizon) - max(day, at)
                ratio = log_ratio(
                    WARD, truth.age[who], truth.growth[who], truth.finding[who], truth.high[who], on
                )
                both = np.array(hazards(day, ratio))
                gone = free * (1 - np.exp(-both.sum() * length))
                for cause, part in zip(total, both / both.sum(), strict=True):
                    total[cause] += chance * gone * part
                free -= gone
        for cause, risk in total.items():
            assert truth.risk(who, at, horizon, cause)[0] == pytest.approx(risk, rel=1e-9)


KNOWN = (("lab", "drug", "image", "note"), ("lab", "image"), ("note",), ("drug",), ())


@pytest.mark.parametrize("cohort", ["ward", "twin"])
@pytest.mark.parametrize("given", KNOWN, ids=lambda kinds: "+".join(kinds) or "age")
def test_risks_come_true(cohort, given, request):
    """Observed minus expected, and its slope along the risk, within 3.5 standard errors at every ask.

    Ends are drawn from each patient's whole course, which risks know only up to the ask: two roads.
    """
    cohort = request.getfixturevalue(cohort)
    _, truth = cohort
    for at, horizon in ((0.0, 10.0), (2.5, 7.25), (5.0, 30.0), (20.0, 40.0)):
        who = at_risk(cohort, at)
        for cause, name in ((1, "discharge"), (2, "death")):
            risk = truth.risk(who, at, horizon, name, given=given)
            came = (truth.event[who] == cause) & (truth.end[who] <= at + horizon)
            variance, along = risk * (1 - risk), risk - risk.mean()
            assert abs((came - risk).sum()) < 3.5 * np.sqrt(variance.sum())
            assert abs(((came - risk) * along).sum()) < 3.5 * np.sqrt((variance * along**2).sum())


def test_what_is_written_down_is_what_can_be_known(write):
    """`attainable_risk` is the oracle where every node type is informative, and age alone where none is."""
    (folder, full), (_, none) = write(300, missing=0.0), write(300, missing=1.0)
    who = np.flatnonzero((full.informative_from <= 6).all(axis=1))
    assert len(who) > 200
    for cause in ("discharge", "death"):
        assert (full.attainable_risk(who, 6.0, 30.0, cause) == full.risk(who, 6.0, 30.0, cause)).all()
        all_of_them = np.arange(300)
        np.testing.assert_allclose(
            none.attainable_risk(all_of_them, 6.0, 30.0, cause),
            none.risk(all_of_them, 6.0, 30.0, cause, given=()),
        )
    admitted = pl.read_csv(folder / "patients.csv", try_parse_dates=True).select("pid", "admitted")
    second = (
        pl.read_csv(folder / "images.csv", try_parse_dates=True)
        .join(admitted, on="pid")
        .group_by("pid")
        .agg((pl.col("signed") - pl.col("admitted")).dt.total_seconds().sort().get(1, null_on_oob=True))
    )
    told = dict(zip(full.ids.tolist(), full.informative_from[:, 2].tolist(), strict=True))
    for pid, seconds in second.iter_rows():
        assert told[pid] == (np.inf if seconds is None else seconds / 86_400)


def test_censoring_is_at_random_given_age_and_lactate_only(ward):
    """The transferred have other risks than those who stay: the crude Aalen-Johansen is not the truth."""
    folder, truth = ward
    patients = pl.read_csv(folder / "patients.csv")
    day, died = patients["death_day"].to_numpy(), patients["died"].to_numpy() == 1
    moved = ~died & patients["discharge_day"].is_null().to_numpy() & (day < 60)
    assert 0.05 < moved.mean() < 0.12
    assert truth.high[moved].mean() > 0.55 and truth.age[moved].mean() > truth.age[~moved].mean()
    gap = truth.growth[moved & truth.high].mean() - truth.growth[~moved & truth.high].mean()
    assert abs(gap) < 0.3


def test_the_sicker_are_seen_more_often(ward, twin):
    for (folder, truth), sign in ((ward, 1), (twin, 0)):
        stay = pl.read_csv(folder / "patients.csv")["death_day"].to_numpy()
        seen = pl.read_csv(folder / "visits.csv")["pid"].value_counts()
        count = np.zeros(MANY)
        count[np.searchsorted(truth.ids, seen["pid"].to_numpy())] = seen["count"].to_numpy()
        some = (count > 0) & (stay > 3)
        rate = np.log(count[some] / stay[some])
        risk = truth.risk(np.flatnonzero(some), 0.0, 60.0)
        slope = np.corrcoef(rate, np.log(risk))[0, 1]
        assert slope > 0.05 if sign else abs(slope) < 0.05


# -- what each kind tells --

# C of death at day 5 for 30 days; seed 1, n = 4000; made by `c_given` below with numpy 2.4
GOLDEN = {
    "ward": {
        "all": 0.8429, "image": 0.6607, "lab": 0.6478, "note": 0.6698, "drug": 0.5878, "age": 0.5433,
        "written": 0.7878,
    },
    "twin": {
        "all": 0.7314, "image": 0.5637, "lab": 0.7314, "note": 0.5637, "drug": 0.5637, "age": 0.5637,
        "written": 0.6988,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_the_hazards_are_frozen(name, request):
    cohort = request.getfixturevalue(name)
    found = {"all": c_given(cohort, "lab", "drug", "image", "note"), "age": c_given(cohort)}
    found |= {kind: c_given(cohort, kind) for kind in ("image", "lab", "note", "drug")}
    found["written"] = c_of(cohort, cohort[1].attainable_risk(at_risk(cohort), AT, HORIZON))
    assert found == pytest.approx(GOLDEN[name], abs=5e-4)


def test_all_kinds_together_tell_much_more_than_any_alone(ward):
    alone = {kind: c_given(ward, kind) for kind in ("image", "lab", "note", "drug")}
    assert 0.62 < max(alone.values()) < 0.69
    assert c_given(ward, *alone) > max(alone.values()) + 0.13
    for kind in alone:
        assert c_given(ward, *(set(alone) - {kind})) < c_given(ward, *alone) - 0.02


def test_only_the_product_of_drug_and_lactate_acts(ward):
    _, truth = ward
    low = np.flatnonzero(~truth.high)
    off = replace(truth, drug=np.zeros_like(truth.drug))
    on = replace(truth, drug=np.ones_like(truth.drug))
    assert (on.risk(low, AT, HORIZON) == off.risk(low, AT, HORIZON)).all()
    high = np.flatnonzero(truth.high)
    assert (on.risk(high, AT, HORIZON) > off.risk(high, AT, HORIZON)).all()


def test_one_image_tells_next_to_nothing(ward):
    """The oracle of a size: what the growth leaves of it, beside the growth itself."""
    from gnnpatient.datasets.ward.hazards import log_area

    who, (_, truth) = at_risk(ward), ward
    rng = np.random.default_rng(0)
    size = log_area(np.log(150) + rng.uniform(-1.2, 1.2, MANY), truth.growth, 3.5)[who]
    assert abs(c_of(ward, size) - 0.5) < 0.06 < c_of(ward, truth.growth[who]) - 0.5 - 0.07


def test_the_twin_has_nothing_to_fuse(twin, ward):
    """Permuting all that the other kinds tell, alone or together, changes no risk; in the ward it does."""
    order = np.random.default_rng(0).permutation(MANY)
    for (_, truth), same in ((twin, True), (ward, False)):
        risk = truth.risk(np.arange(MANY), AT, HORIZON)
        for names in (("drug",), ("growth",), ("finding",), ("drug", "growth", "finding")):
            moved = replace(truth, **{name: getattr(truth, name)[order] for name in names})
            assert (moved.risk(np.arange(MANY), AT, HORIZON) == risk).all() == same
    assert c_given(twin, "lab") > 0.7 and c_given(twin, "lab") == c_given(
        twin, "lab", "drug", "image", "note"
    )
    for name in ("age", "growth", "high", "finding", "drug"):
        np.testing.assert_array_equal(getattr(twin[1], name), getattr(ward[1], name))


@pytest.mark.slow
def test_trees_with_the_right_products_come_near_the_oracle(write):
    """Boosted trees on growth, finding, age, drug x high lactate, out of fold: the truth can be reached."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import KFold, cross_val_predict

    from gnnpatient.metrics import concordance

    ways = []
    for seed in (1, 2, 3):
        cohort = write(MANY, seed=seed, missing=0.0)
        truth, who = cohort[1], at_risk(cohort)
        wait, came = future(truth, who)
        drug = truth.drug[who, int(AT)]
        x = np.column_stack(
            [
                truth.growth[who],
                truth.finding[who],
                truth.age[who],
                drug * truth.high[who],
                truth.high[who],
                drug,
            ]
        )
        trees = HistGradientBoostingClassifier(
            learning_rate=0.05, max_iter=120, max_leaf_nodes=6, min_samples_leaf=40, random_state=0
        )
        folds = KFold(5, shuffle=True, random_state=0)
        score = cross_val_predict(
            trees, x, (came == 2) & (wait <= HORIZON), cv=folds, method="predict_proba"
        )[:, 1]
        fold = np.zeros(len(who), int)
        for k, (_, test) in enumerate(folds.split(x)):
            fold[test] = k
        best = max(c_given(cohort, kind) for kind in ("image", "lab", "note", "drug"))
        oracle = c_given(cohort, "lab", "drug", "image", "note")
        ways.append((concordance(score, wait, came, HORIZON, cause=2, fold=fold) - best) / (oracle - best))
    assert min(ways) > 0.9, ways


@pytest.mark.slow
def test_two_thousand_patients_are_written_in_a_minute(write):
    start = time.process_time()
    folder, _ = write(2000, images=True)
    spent = time.process_time() - start
    images = len(list((folder / "images").iterdir()))
    assert images > 4000 and spent < 60 and images / spent > 300
