"""What a GPU fits a CPU answers, and the other way round; the same seed gives the same bits there too."""

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.gpu
CLOSE = 1e-4  # of a probability: float32 summed in another order
CHOICES = {"members": 2, "epochs": 3, "channels": 8, "batch_size": 64, "horizon": 20.0}


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """Labs, signs, drugs, pictures and reports; death beside discharge, and a diagnosis."""
    from gnnpatient import read_cohort, read_spec
    from gnnpatient.datasets.ward import write_ward

    folder = tmp_path_factory.mktemp("ward") / "tables"
    write_ward(folder, 120, seed=3)
    cohort = read_cohort(read_spec("ward"), folder, device="cuda")
    assert set(cohort.vectors) == {"image", "note"} and list(cohort.outcomes_with_model()) == ["death", "icu"]
    return cohort


@pytest.fixture(scope="module")
def asks(ward):
    """Of eighty patients to fit on, of forty to answer."""
    every = ward.landmarks(times=[1, 3, 5]).followed()
    return every[every.patient < 80], every[every.patient >= 80]


def fitted(asks, device, **choices):
    from gnnpatient import PrognosisModel

    return PrognosisModel(**CHOICES | choices, device=device).fit(asks[0])


def answers(model, asks, device):
    """Incidence or probability of each outcome, one after the other."""
    said = model.predictor_.forecast(asks, device=device)
    assert list(said) == ["death", "icu"]
    return np.concatenate([said["death"].incidence.ravel(), said["icu"].probability.ravel()])


def weights(model):
    families = model.predictor_.families.values()
    return [tensor for family in families for _, tensor in sorted(family.tensors().items())]


def same_bits(one, other):
    return all(torch.equal(x, y) for x, y in zip(weights(one), weights(other), strict=True))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_saved_model_answers_alike_on_either(asks, device, tmp_path):
    from gnnpatient import PrognosisModel

    model = fitted(asks, device)
    model.save_pretrained(tmp_path / "model")
    again = PrognosisModel.from_pretrained(tmp_path / "model")
    assert again.device == "auto" and same_bits(model, again)
    cpu, cuda = (answers(again, asks[1], where) for where in ("cpu", "cuda"))
    assert np.isfinite(cpu).any() and np.nanstd(cpu) > 0.01
    assert np.allclose(cpu, cuda, rtol=0, atol=CLOSE, equal_nan=True)
    assert np.array_equal(cuda, answers(again, asks[1], "cuda"), equal_nan=True), "asked again: the same bits"


def test_a_gpu_learns_what_a_cpu_learns(asks):
    """Without what is drawn on the device the two part by rounding alone, which Adam makes larger."""
    one, other = (answers(fitted(asks, d, dropout=0.0), asks[1], "cpu") for d in ("cpu", "cuda"))
    assert np.allclose(one, other, rtol=0, atol=0.02, equal_nan=True)
    assert np.nanstd(one) > 0.05, "beside what the asks differ by"


@pytest.mark.parametrize("conv", ["temporal", "sage", "gatv2", "hgt", "transformer", "gru"])
def test_same_seed_same_bits(asks, conv):
    before = torch.cuda.get_rng_state(), torch.get_rng_state()
    one, other, third = (fitted(asks, "cuda", conv=conv, seed=seed) for seed in (0, 0, 1))
    assert same_bits(one, other) and not same_bits(one, third)
    assert not torch.are_deterministic_algorithms_enabled()
    assert all(map(torch.equal, before, (torch.cuda.get_rng_state(), torch.get_rng_state())))


@pytest.mark.parametrize("goes_on", ["cuda", "cpu"])
def test_a_stopped_fit_goes_on(cohort, tmp_path, goes_on):
    """On the GPU to the bits of one that was never stopped; on the CPU it ends near them."""
    from gnnpatient import PrognosisModel, open_cohort
    from gnnpatient.prognosis.run import fit_run

    packed = open_cohort(cohort.save(tmp_path / "cohort"))
    plan = CHOICES | {"batch_size": 32, "landmarks": [0.0, 2.0, 4.0]}

    def stop(*_, **entry):
        if (entry.get("member"), entry.get("epoch")) == (1, 1):
            raise KeyboardInterrupt

    whole = fit_run(packed, tmp_path / "whole", plan, device="cuda")
    with pytest.raises(KeyboardInterrupt):
        fit_run(packed, tmp_path / "stopped", plan, device="cuda", progress=stop)
    run = fit_run(packed, tmp_path / "stopped", plan, device=goes_on, resume=True)
    one, other = (PrognosisModel.from_pretrained(r.folder) for r in (whole, run))
    assert goes_on == "cpu" or same_bits(one, other)
    asks = packed.at(2.0).followed()
    near = [model.predictor_.forecast(asks, device="cpu")["death"].incidence for model in (one, other)]
    assert np.allclose(*near, rtol=0, atol=0.05)
