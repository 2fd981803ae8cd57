"""What a model knows of its inputs travels with it and is held against what it is asked."""

from dataclasses import replace

import numpy as np
import pytest

from gnnpatient import InputError, PrognosisModel
from gnnpatient.prognosis.checkpoint import load_predictor
from gnnpatient.prognosis.inputs import in_known_units
from gnnpatient.spec.tables import Conversion, UnitSpec


@pytest.fixture(scope="module")
def model(cohort, train, tmp_path_factory):
    fitted = PrognosisModel(members=1, epochs=1, channels=8, horizon=10.0).fit(train)
    fitted.save_pretrained(folder := tmp_path_factory.mktemp("model") / "model")
    return load_predictor(folder)


def in_units(cohort, unit, factor, units=None):
    """The cohort with its lactate in another unit, and a spec that says how it converts."""
    lab, c = cohort.events["lab"], cohort.codes["lab"].index("lactate")
    value = np.where(lab.code == c, lab.value * np.float32(factor), lab.value)
    names = list(cohort.units["lab"])
    names[c] = unit
    spec = cohort.spec if units is None else cohort.spec.model_copy(update={"units": units})
    lab = replace(lab, value=value)
    return replace(
        cohort, spec=spec, events={**cohort.events, "lab": lab}, units={**cohort.units, "lab": tuple(names)}
    )


def test_the_same_cohort_differs_in_nothing(cohort, model):
    assert model.differences(cohort.at(3).followed()) == []


def test_another_unit_is_converted_or_refused(cohort, model):
    """By the factor of this cohort's spec or of the model's; refused with the code and both units."""
    before = model.forecast(cohort.at(3).followed())["death"].incidence
    with pytest.raises(InputError, match="lab 'lactate' is in 'mg/dL' here, the model knows it in 'mmol/L'"):
        model.forecast(in_units(cohort, "mg/dL", 9.008).at(3).followed())
    way = UnitSpec(**{"to": "mg/dL", "from": {"mmol/L": Conversion(factor=9.008)}})
    other = in_units(cohort, "mg/dL", 9.008, {**cohort.spec.units, "lactate": way})
    assert model.forecast(other.at(3).followed())["death"].incidence == pytest.approx(before, abs=1e-5)
    assert model.differences(other.at(3).followed()) == [
        "lab 'lactate': converted from 'mg/dL' to the model's 'mmol/L'"
    ]
    glucose = cohort.codes["lab"].index("glucose")  # its own spec says from = { mmol/L = 18 }
    lab, names = cohort.events["lab"], list(cohort.units["lab"])
    names[glucose] = "mmol/L"
    lab = replace(lab, value=np.where(lab.code == glucose, lab.value / np.float32(18), lab.value))
    molar = replace(
        cohort,
        spec=cohort.spec.model_copy(update={"units": {}}),
        events={**cohort.events, "lab": lab},
        units={**cohort.units, "lab": tuple(names)},
    )
    assert model.forecast(molar.at(3).followed())["death"].incidence == pytest.approx(before, abs=1e-5)


def test_no_unit_another_scale_and_unknown_levels_are_said(cohort, model):
    bare = in_units(cohort, "", 9.008)
    said = model.differences(bare.at(3).followed())
    assert "lab 'lactate': unit 'none' here, 'mmol/L' in training" in said
    assert any("lab 'lactate': " in one and "far outside the training range" in one for one in said)
    days = replace(cohort, number=cohort.number * np.float32(365.25))
    (one,) = model.differences(days.at(3).followed())
    assert one.startswith("static 'age': 100% of ") and "far outside" in one
    levels = replace(cohort, levels={"sex": ("f", "male")})
    (one,) = model.differences(levels.at(3).followed())
    assert one.startswith("static 'sex': ") and "rare or unknown in training" in one


def test_a_column_that_the_model_never_heard_of_is_refused(cohort, model):
    patient = cohort.spec.patient.model_copy(update={"number": ("weight",)})
    other = replace(cohort, spec=cohort.spec.model_copy(update={"patient": patient}))
    with pytest.raises(InputError, match=r"knows no static 'weight' \(it has age, sex\)"):
        model.forecast(other.at(3).followed())


def test_a_range_has_ten_patients_beyond_either_end():
    """One with very many low values does not make it, nor one with a single high one."""
    from gnnpatient.prognosis.inputs import _range

    patient = np.concatenate([np.arange(100), np.zeros(500, int)])
    value = np.concatenate([np.arange(100.0), np.full(500, -1e6)])
    value[99] = 1e6
    assert _range(value, patient, 10) == [9, 90]
    assert _range(np.arange(12.0), np.arange(12), 10) == [2, 9]


def test_a_range_is_no_patients_own_value(cohort, train, model):
    """Two digits, of codes and statics that ten patients have."""
    inputs = model.about["inputs"]
    for of in inputs["codes"]["lab"].values():
        assert all(float(f"{end:.2g}") == end for end in of["range"])
    few = PrognosisModel(members=1, epochs=1, channels=8, horizon=10.0).fit(
        train[np.isin(train.patient, range(12))]
    )
    codes = few.predictor_.about["inputs"]["codes"]
    lab, asks = cohort.events["lab"], cohort.at(30)[:12]
    for c, name in enumerate(cohort.codes["lab"]):
        rows = (lab.code == c) & np.isin(lab.patient, asks.patient)
        if len(np.unique(lab.patient[rows])) < 10:
            assert name not in codes["lab"]


def test_a_day_and_a_unit_of_few_patients_stand_in_no_model(cohort):
    """Entry days are each patient's own: ten lie beyond either end of what is told, which is rounded. Where a
    blank may be any unit, that of the others may be one patient's word."""
    entry = (np.arange(80) * 37 % 80 * 0.031 * 86_400).astype(np.int64)
    late = replace(cohort, entry=entry)
    X = late.entries().followed()
    low, high = (
        PrognosisModel(members=1, epochs=1, channels=8, horizon=9.0).fit(X).predictor_.about["landmarks"]
    )
    assert (X.days <= low + 0.05).sum() >= 10 and (X.days >= high - 0.05).sum() >= 10
    assert not set(X.days.tolist()) & {low, high}
    nodes = {
        k: n.model_copy(update={"blank": "same"}) if k == "lab" else n for k, n in cohort.spec.nodes.items()
    }
    spec = cohort.spec.model_copy(update={"nodes": nodes})
    same = replace(cohort, spec=spec).landmarks(times=[0, 4]).followed()
    model = PrognosisModel(members=1, epochs=1, channels=8, horizon=9.0).fit(same)
    units = {name: of["unit"] for name, of in model.predictor_.about["inputs"]["codes"]["lab"].items()}
    assert units == {"lactate": "", "glucose": "mg/dL", "sodium": ""}  # glucose is in [units]


@pytest.mark.parametrize(("share", "told"), [(0.0, False), (0.02, False), (0.5, True)])
def test_a_model_without_bounds_says_that_a_cohort_is_full_of_them(cohort, model, share, told):
    lab = cohort.events["lab"]
    bound = (np.arange(len(lab.value)) < share * len(lab.value)).astype(np.int8)
    full = replace(cohort, events={**cohort.events, "lab": replace(lab, bound=bound[::-1].copy())})
    asks = full.at(3).followed()
    said = [line for line in model.differences(asks) if "are bounds (< or >)" in line]
    assert len(said) == told and all(line.startswith("lab: ") for line in said)


def test_a_factor_below_zero_turns_the_side_in_the_models_unit(cohort, model):
    lab = cohort.events["lab"]
    sided = replace(cohort, events={**cohort.events, "lab": replace(lab, bound=np.ones(len(lab), np.int8))})
    known = {
        "codes": {"lab": {"lactate": {"unit": "mmol/L", "from": {"x": [-1.0, 0.0]}, "range": [0.0, 9.0]}}}
    }
    there = in_known_units(known, in_units(sided, "x", -1.0)).events["lab"]
    mine = lab.code == cohort.codes["lab"].index("lactate")
    assert mine.any() and (there.bound[mine] == -1).all() and (there.bound[~mine] == 1).all()
