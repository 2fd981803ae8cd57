"""Nothing in a model folder comes from fewer than `min_patients` training patients (METHODS 34)."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from gnnpatient import InputError, PrognosisModel, build_graphs, read_cohort
from gnnpatient.prognosis.disclosure import (
    coarse_incidence,
    counted,
    disclosed,
    pooled,
    round_time,
)
from gnnpatient.prognosis.inputs import kept_names
from gnnpatient.prognosis.targets import LabelTarget, SurvivalTarget, time_grid

SPEC = """
cohort = "planted"
[patient]
table = "patients.csv"
key = "pid"
number = ["age", "dose"]
category = ["sex"]
group = "site"
[hierarchies.icd]
prefix = "ICD10"
[nodes.lab]
table = "labs.csv"
time = "day"
code = "code"
value = "value"
unit = "unit"
[nodes.dx]
table = "dx.csv"
time = "day"
code = "code"
hierarchy = "icd"
[nodes.dxup]
of = "dx"
hierarchy = "icd"
[nodes.drug]
table = "drugs.csv"
time = "day"
until = "until"
code = "code"
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { death = { time = "end", flag = "died" }, left = { time = "end", flag = "gone" } }
"""
N = 120
WORDS = {  # what one patient alone has
    "id": "Zaphod-0042",
    "group": "Ward Slartibartfast",
    "level": "sex-undisclosed-qx",
    "code": "PLANTEDASSAY",
    "unit": "furlong/mL",
    "free text": "saw Dr Trillian about his third arm",
    "diagnosis": "X99.17",
    "drug": "plantedmab",
}
NUMBERS = {"value": 7654.321, "value of a common code": 71.0625, "dose": 4321.125, "drug day": 1.28125}
CHOICES = {"members": 1, "epochs": 1, "channels": 8, "batch_size": 32}


def planted(folder):
    """A hundred and twenty patients; the first has what nobody else has, of the others each has words of its
    own where people write freely, and three each share a diagnosis below I25."""
    rng = np.random.default_rng(0)
    ids = np.array([f"patient-{i:03d}-id" for i in range(N)])
    ids[0] = WORDS["id"]
    end = (rng.exponential(40, N) + 3).round(5)
    died = rng.random(N) < 0.6
    pl.DataFrame(
        {
            "pid": ids,
            "age": rng.normal(60, 9, N).round(2),
            "dose": [str(NUMBERS["dose"]), *[""] * (N - 1)],
            "sex": [WORDS["level"], *rng.choice(["f", "m"], N - 1)],
            "site": [WORDS["group"], *[f"site {i % 7}" for i in range(1, N)]],
            "end": end,
            "died": died.astype(int),
            "gone": (~died & (np.arange(N) % 40 == 1)).astype(int),  # of fewer than ten
        }
    ).write_csv(folder / "patients.csv")
    rows = [(i, 1 + day, "crea", v, "mg/dl") for i in range(N) for day, v in enumerate(rng.normal(9, 1, 2))]
    rows += [(i, 1.5, "bili", v, "mg/dl") for i, v in enumerate(rng.normal(5, 1, 60))]
    rows += [(i, 1.5, "ferritin", "", "ug/l") for i in range(60)]  # common, yet one has a value
    rows += [(5, 1.75, "ferritin", NUMBERS["value of a common code"], "ug/l")]
    rows += [(0, 2, WORDS["code"], NUMBERS["value"], WORDS["unit"])]
    rows += [(i, 1, f"free text of {i}: {WORDS['free text']}", "", "") for i in range(30)]
    who, day, code, value, unit = zip(*rows, strict=True)
    labs = {
        "pid": ids[list(who)],
        "day": [float(d) for d in day],
        "code": code,
        "value": [str(v) for v in value],
        "unit": unit,
    }
    pl.DataFrame(labs).write_csv(folder / "labs.csv")
    dx = [(i, "E11.9") for i in range(40)] + [(i, f"I25.{i % 8}") for i in range(24)]
    dx += [(0, WORDS["diagnosis"])]
    pl.DataFrame({"pid": ids[[i for i, _ in dx]], "day": 1.0, "code": [c for _, c in dx]}).write_csv(
        folder / "dx.csv"
    )
    drug = [(i, 1.0 + i / 100, 300.0, "aspirin") for i in range(30)]
    drug += [(0, NUMBERS["drug day"], 250.0, WORDS["drug"])]
    pl.DataFrame(
        {
            "pid": ids[[r[0] for r in drug]],
            "day": [r[1] for r in drug],
            "until": [r[2] for r in drug],
            "code": [r[3] for r in drug],
        }
    ).write_csv(folder / "drugs.csv")
    (folder / "planted.toml").write_text(SPEC)
    return read_cohort(folder / "planted.toml", folder)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def asks(cohort):
    return cohort.landmarks(times=[2.0, 5.0]).followed()


@pytest.fixture(scope="module")
def models(asks):
    return {least: PrognosisModel(**CHOICES, min_patients=least).fit(asks) for least in (1, 10)}


@pytest.fixture(scope="module")
def drawn_anew(asks, tmp_path_factory):
    """The same with another seed: thousands of weights hold a number by chance, but not in both."""
    folder = tmp_path_factory.mktemp("anew") / "model"
    PrognosisModel(**CHOICES, min_patients=10, seed=1).fit(asks).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(models, tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    for least, model in models.items():
        model.save_pretrained(place / str(least))
    return {least: place / str(least) for least in models}


def found(folder, words, numbers, network=True):
    """Which of the planted things some file of the folder holds: as text, as bytes, or as a number beside
    which it, its logarithm or its float32 cannot be told; in the network's weights only where `network`."""
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path.name for path in files} >= {"config.json", "model.safetensors", "README.md"}
    seen = {
        w for w in words for raw in files.values() if w.encode() in raw or json.dumps(w)[1:-1].encode() in raw
    }
    held = [np.array(list(_numbers(json.loads((folder / "config.json").read_text()))))]
    tensors = load_file(folder / "model.safetensors")
    held += [x.ravel().astype(float) for name, x in tensors.items() if network or name[:6] != "graph."]
    searched = [raw for path, raw in files.items() if network or path.suffix != ".safetensors"]
    every = np.concatenate(held)
    for number in numbers:
        for form in (
            number,
            float(np.float32(number)),
            math.log(number),
            math.log1p(number),
            number / 365.25,
        ):
            raws = [np.float32(form).tobytes(), np.float64(form).tobytes(), repr(form).encode()]
            if np.isclose(every, form, rtol=1e-6, atol=0).any() or any(
                raw in content for raw in raws for content in searched
            ):
                seen.add(number)
    return seen


def _numbers(node):
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from _numbers(one)
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield float(node)


def times_of(asks):
    """Days after the ask at which something came of a patient."""
    return np.unique(asks.outcome("death")["time"])


def test_no_byte_of_the_folder_is_of_one_patient(folders, drawn_anew, cohort, asks):
    words = [*WORDS.values(), *cohort.ids.tolist(), *np.unique(cohort.group).tolist()]
    numbers = [*NUMBERS.values(), *times_of(asks)]
    every = load_file(folders[10] / "model.safetensors")
    assert {name.partition(".")[0] for name in every} == {"linear", "boosted", "graph"}
    assert found(folders[10], words, numbers, network=False) == set()
    assert found(folders[10], [], numbers) & found(drawn_anew, [], numbers) == set()
    config = json.loads((folders[10] / "config.json").read_text())
    assert config["choices"]["min_patients"] == 10
    text = json.dumps(config["model"])
    assert "free text" not in text and "X99" not in text and "I25.1" not in text


def test_the_search_finds_what_is_there(folders, asks):
    """With min_patients = 1 the same search finds nearly all of it: it can fail."""
    hidden = {
        WORDS["id"],
        WORDS["group"],
        WORDS["unit"],
        WORDS["free text"],
    }  # never there, or part of a code
    seen = found(folders[1], WORDS.values(), [*NUMBERS.values(), *times_of(asks)])
    assert seen >= (set(WORDS.values()) - hidden) | {WORDS["free text"], NUMBERS["value"], NUMBERS["dose"]}
    assert NUMBERS["value of a common code"] in seen
    grid = set(json.loads((folders[1] / "config.json").read_text())["model"]["heads"]["death"]["times"])
    assert len(grid & set(times_of(asks))) > 5


def test_names_and_where_rarer_codes_go(models):
    words = models[10].predictor_.vocabulary
    assert words.codes["lab"] == ("other", "bili", "crea", "ferritin")
    assert words.codes["dx"] == ("other", "E11.9", "I25"), (
        "eight codes of three patients go to their ancestor"
    )
    assert words.above["dx"] == ("I25",)
    assert words.codes["drug"] == ("other", "aspirin") and set(words.levels["sex"]) == {"f", "m"}
    assert words.rare == ("lab",), "thirty wrote freely; one of dx and one of drug are too few"
    ferritin = words.codes["lab"].index("ferritin")
    scale = words.values["lab"]
    assert 5 < scale.mean[ferritin] < 9, "one value only: the scale of the kind"
    assert scale.mean[0] == scale.mean[ferritin]


def test_a_rare_code_is_never_dropped(models, cohort):
    """It is a row without a value; a code of another name, that nobody had, is the same."""
    model, asks = models[10], cohort.at(4.0, patient=WORDS["id"])
    lab = cohort.events["lab"]
    mine = cohort.codes["lab"].index(WORDS["code"])

    def risk(change):
        other = replace(cohort, **change)
        return model.forecast(replace_cohort(asks, other))["death"].incidence

    before = risk({})
    names = tuple("never heard of" if name == WORDS["code"] else name for name in cohort.codes["lab"])
    assert np.array_equal(before, risk({"codes": {**cohort.codes, "lab": names}}))
    louder = replace(lab, value=np.where(lab.code == mine, np.float32(1e9), lab.value))
    assert np.array_equal(before, risk({"events": {**cohort.events, "lab": louder}}))
    as_another = replace(lab, code=np.where(lab.code == mine, cohort.codes["lab"].index("crea"), lab.code))
    assert not np.array_equal(before, risk({"events": {**cohort.events, "lab": as_another}}))
    assert WORDS["code"] in model.predictor_.unknown(cohort)["lab"]
    below = cohort.codes["dx"].index("I25.1")
    someone = cohort.ids[cohort.events["dx"].patient[cohort.events["dx"].code == below]][0]
    merged = kept_names(cohort.landmarks(times=[2.0]).followed()).merge(
        build_graphs(cohort.at(4.0, patient=str(someone)))
    )
    assert "I25" in [merged.codes["dx"][c] for c in merged["dx"].code.tolist()]


def replace_cohort(asks, cohort):
    return type(asks)(cohort, asks.patient, asks.at)


def test_what_all_rare_codes_say_together_is_learned(cohort, tmp_path):
    """Everybody who writes freely dies early, each in other words: who does so later is known by it."""
    rng = np.random.default_rng(1)
    writes = rng.random(N) < 0.5
    lab = cohort.events["lab"]
    crea = np.flatnonzero((lab.code == cohort.codes["lab"].index("crea")) & (lab.known <= 86_400))
    own = crea[writes[lab.patient[crea]]]
    code = lab.code.copy()
    code[own] = len(cohort.codes["lab"]) + np.arange(len(own))
    names = (*cohort.codes["lab"], *(f"note {i}" for i in range(len(own))))
    days = np.where(writes, 4.0, 60.0) + rng.random(N) * 10
    death = replace(
        cohort.outcomes["death"], time=(days * 86_400).astype(np.int64), event=np.ones(N, np.int8)
    )
    changed = replace(
        cohort,
        events={**cohort.events, "lab": replace(lab, code=code)},
        codes={**cohort.codes, "lab": names},
        units={**cohort.units, "lab": ("",) * len(names)},
        outcomes={"death": death},
    )
    train = changed.landmarks(np.arange(90), times=[2.0]).followed()
    model = PrognosisModel(**CHOICES, horizon=50.0).fit(train)
    test = changed.landmarks(np.arange(90, N), times=[2.0]).followed()
    assert not set(names[-len(own) :]) & set(model.predictor_.vocabulary.codes["lab"])
    risk = model.forecast(test)["death"].risk("death")
    assert risk[writes[test.patient]].min() > risk[~writes[test.patient]].max() + 0.2


def test_counts_and_their_differences(folders, asks):
    about = json.loads((folders[10] / "config.json").read_text())["about"]
    assert about["patients"] % 10 == 0 and about["asks"] % 10 == 0
    assert about["events"]["death"]["left"] == "< 10" and about["events"]["death"]["death"] % 10 == 0
    card = (folders[10] / "README.md").read_text()
    assert "< 10 patients with left" in card and "multiples of 10" in card
    exact = json.loads((folders[1] / "config.json").read_text())["about"]
    assert exact["asks"] == len(asks)
    assert counted(196, 10) == counted(201, 10) == 200, "five without the event cannot be told"
    assert [counted(n, 10) for n in (0, 1, 9, 10, 14)] == [0, "< 10", "< 10", 10, 10]
    saved = disclosed({"patients": 60, "asks": 61, "events": {"a": {"b": 3}}, "cohort": "x"}, 10)
    assert (
        disclosed(saved, 10)
        == saved
        == {"patients": 60, "asks": 60, "events": {"a": {"b": "< 10"}}, "cohort": "x"}
    )


def test_what_is_loaded_answers_and_is_saved_the_same(folders, models, asks, tmp_path):
    loaded = PrognosisModel.from_pretrained(folders[10])
    one, other = (m.forecast(asks)["death"].incidence for m in (loaded, models[10]))
    assert np.array_equal(one, other)
    loaded.save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (folders[10] / name).read_bytes()


def test_fewer_patients_than_that_teach_nothing_and_it_is_said(cohort, tmp_path):
    few = cohort.landmarks(np.arange(9), times=[2.0]).followed()
    model = PrognosisModel(**CHOICES).fit(few)
    model.save_pretrained(tmp_path / "model")
    assert "no code, level or value of theirs was learned" in (tmp_path / "model" / "README.md").read_text()
    words = model.predictor_.vocabulary
    assert {names for names in words.codes.values()} == {("other",)} and words.levels == {"sex": ()}
    assert np.isfinite(model.forecast(few)["death"].incidence).all()
    with pytest.raises(InputError, match="min_patients 0; must be >= 1"):
        PrognosisModel(**CHOICES, min_patients=0).fit(few)


# -- times and curves --


def drawn(n, seed=0):
    rng = np.random.default_rng(seed)
    event = rng.integers(0, 3, n)
    return SurvivalTarget(("a", "b"), event.astype(np.int64), rng.exponential(20, n) + 0.1)


@pytest.mark.parametrize("n", [15, 40, 200, 3000])
def test_a_grid_time_is_a_fiftieth_and_nobodys(n):
    target, horizon = drawn(n), 50.0
    patient = np.arange(n) // 2  # each asked twice
    times = time_grid(target, np.zeros(n), horizon, 12, patient, 10)
    assert times[-1] == horizon
    assert np.allclose(np.round(np.array(times) / horizon * 50), np.array(times) / horizon * 50)
    seen = (target.event > 0) & (target.time <= horizon)
    interval = np.searchsorted(times, target.time[seen])
    each = [len(np.unique(patient[seen][interval == i])) for i in range(len(times))]
    assert min(each) >= min(10, len(np.unique(patient[seen]))) or len(times) == 1
    assert len(times) > (6 if n >= 3000 else 0)


def test_a_default_horizon_is_nobodys_time(models, asks):
    last = models[10].unique_times_[-1]
    exact = models[1].unique_times_[-1]
    assert 0.97 * exact < last < exact and last not in times_of(asks)
    assert round_time(7.35, np.array([7.35])) == 7.4, "up, where all would be lost"
    assert round_time(np.nextafter(5, 0), np.zeros(1)) == 4.95, "a logarithm that is rounded up"
    for days in np.random.default_rng(0).lognormal(3, 4, 200):
        assert 0.98 * days <= round_time(days, np.zeros(1)) <= days


@pytest.mark.parametrize("seed", range(5))
def test_a_null_curve_moves_by_ten_patients_or_not_at_all(seed):
    rng = np.random.default_rng(seed)
    n = 200
    event = rng.choice([0, 1, 2], n, p=[0.3, 0.6, 0.1]).astype(np.int64)
    target = SurvivalTarget(("a", "b"), event, rng.exponential(20, n) + 0.1)
    times = time_grid(target, np.zeros(n), 50.0, 12, np.arange(n), 10)
    exact = target.marginal(np.zeros(n), times)
    coarse = target.disclosed(exact, np.arange(n), times, 10)
    assert coarse.sum(0) == pytest.approx(1) and (np.diff(coarse[1:]) >= -1e-12).all() and coarse.min() >= 0
    assert np.abs(coarse - exact).max() < 0.06
    within = target.time <= 50.0
    for k in (1, 2):
        interval = np.searchsorted(times, target.time[within & (event == k)])
        ends = [-1, *np.flatnonzero(np.isclose(coarse[k], exact[k]))]
        assert ends[-1] == len(times) - 1
        for start, end in pairwise(ends):
            count = ((interval > start) & (interval <= end)).sum()
            assert count == 0 or count >= 10


def test_a_cause_or_a_rest_of_few_is_told_as_of_half_as_many():
    n = 201
    event = np.ones(n, np.int64)
    event[:5], event[5:8] = 0, 2  # five stay free, three have the other cause
    target = SurvivalTarget(("a", "b"), event, np.where(event == 0, 60.0, 1 + np.arange(n) / 5))
    times = (10.0, 20.0, 30.0, 50.0)
    exact = target.marginal(np.zeros(n), times)
    assert exact[0, -1] == pytest.approx(5 / n) and exact[2, -1] == pytest.approx(3 / n)
    coarse = target.disclosed(exact, np.arange(n), times, 10)
    assert coarse[0, -1] == pytest.approx(5 / 200) and coarse[2, -1] == pytest.approx(5 / 200, rel=0.05)
    again = SurvivalTarget(("a", "b"), event, target.time).disclosed(exact, np.arange(n), times, 1)
    assert again is exact
    nobody = SurvivalTarget(("a", "b"), np.minimum(event, 1), target.time)
    curves = nobody.marginal(np.zeros(n), times)
    assert (nobody.disclosed(curves, np.arange(n), times, 10)[2] == 0).all()


def test_shares_of_few():
    label = np.array([0] * 196 + [1] * 5)
    target = LabelTarget(("no", "yes"), label)
    share = target.disclosed(np.array([196, 5]) / 201, np.arange(201), (), 10)
    assert share.tolist() == pytest.approx([0.975, 0.025])
    more = LabelTarget(("no", "yes"), np.array([0] * 150 + [1] * 51))
    exact = np.array([150, 51]) / 201
    assert more.disclosed(exact, np.arange(201), (), 10) is exact


def test_intervals_are_pooled():
    none = np.zeros(0, np.int64)
    assert pooled(none, none, 3, 10) == [0, 1, 2], "nobody is not few"
    who = np.arange(30)
    assert pooled(np.repeat([0, 1, 2], 10), who, 3, 10) == [0, 1, 2]
    assert pooled(np.repeat([0, 1, 2], [9, 12, 9]), who, 3, 10) == [2]
    assert pooled(np.repeat([0, 1, 2], [15, 10, 5]), who, 3, 10) == [0, 2]
    assert pooled(np.repeat([0, 1, 2], 10), np.arange(30) % 5, 3, 10) == [2], "patients, not rows"


@pytest.mark.parametrize("n", [1, 9])
def test_an_incidence_of_few_without_an_event_is_none(n):
    event, time = np.zeros(n, np.int64), np.full(n, 9.0)
    free = np.stack([np.ones(2), np.zeros(2)])
    assert np.array_equal(coarse_incidence(free, event, time, np.arange(n), (5.0, 8.0), 10), free)
