"""Region measurements against slow plain answers, and against shapes whose numbers are known."""

import math

import numpy as np
import pytest


@pytest.fixture(scope="module")
def measure():
    from gnnpatient.content.measure import measure

    return measure


NOISE = np.random.default_rng(0).random((24, 31)).astype(np.float32)
ROWS, COLUMNS = np.mgrid[:101, :101]
DISC = (ROWS - 50) ** 2 + (COLUMNS - 50) ** 2 <= 40**2
BLOB = (ROWS - 12)[:24, :31] ** 2 / 80 + (COLUMNS - 15)[:24, :31] ** 2 / 150 <= 1


@pytest.mark.parametrize("mask", [None, BLOB])
def test_shades(measure, mask):
    values = [float(v) for v in (NOISE.ravel() if mask is None else NOISE[mask])]
    n, mean = len(values), sum(values) / len(values)
    sd = math.sqrt(sum((v - mean) ** 2 for v in values) / n)
    counts = [sum(min(int(v * 32), 31) == k for v in values) for k in range(32)]
    got = measure(NOISE, mask)
    assert got["mean"] == pytest.approx(mean) and got["sd"] == pytest.approx(sd)
    assert got["skew"] == pytest.approx(sum((v - mean) ** 3 for v in values) / n / sd**3, abs=1e-9)
    assert got["entropy"] == pytest.approx(-sum(c / n * math.log2(c / n) for c in counts if c))
    assert got["p50"] == pytest.approx(sorted(values)[n // 2], abs=0.01)
    assert got["p10"] < got["p25"] < got["p50"] < got["p75"] < got["p90"]


@pytest.mark.parametrize("mask", [None, BLOB])
@pytest.mark.parametrize("distance", [1, 3])
def test_texture(measure, mask, distance):
    inside = np.ones(NOISE.shape, bool) if mask is None else mask
    grey = np.minimum((NOISE * 32).astype(int), 31)
    found = {"contrast": [], "homogeneity": [], "energy": [], "correlation": []}
    for angle in (
        0,
        45,
        90,
        135,
    ):  # steps of rounded length, as the co-occurrence of a digital picture has them
        dr, dc = (round(distance * f(math.radians(angle))) for f in (math.sin, math.cos))
        pairs = np.zeros((32, 32))
        for r in range(grey.shape[0]):
            for c in range(grey.shape[1]):
                there = 0 <= r + dr < grey.shape[0] and 0 <= c + dc < grey.shape[1]
                if there and inside[r, c] and inside[r + dr, c + dc]:
                    pairs[grey[r, c], grey[r + dr, c + dc]] += 1
                    pairs[grey[r + dr, c + dc], grey[r, c]] += 1
        pairs /= pairs.sum()
        i, j = np.mgrid[:32, :32]
        mean = (i * pairs).sum()
        found["contrast"].append((pairs * (i - j) ** 2).sum())
        found["homogeneity"].append((pairs / (1 + (i - j) ** 2)).sum())
        found["energy"].append(math.sqrt((pairs**2).sum()))
        found["correlation"].append((pairs * (i - mean) * (j - mean)).sum() / (pairs * (i - mean) ** 2).sum())
    got = measure(NOISE, mask)
    for name, values in found.items():
        assert got[f"{name}_{distance}"] == pytest.approx(np.mean(values), abs=1e-9), name


def test_what_lies_outside_the_mask_changes_nothing(measure):
    other = np.where(BLOB, NOISE, 0.77).astype(np.float32)
    assert measure(NOISE, BLOB) == measure(other, BLOB)
    assert measure(NOISE, BLOB) == measure(NOISE, BLOB.astype(np.float32) * 0.3)
    other[:] = np.where(BLOB, NOISE, np.nan)
    assert measure(NOISE, BLOB) == measure(other, BLOB)


def test_a_disc(measure):
    got = measure(np.zeros(DISC.shape, np.float32), DISC)
    assert got["area_px"] == DISC.sum() == pytest.approx(math.pi * 40**2, rel=0.01)
    assert got["diameter_px"] == pytest.approx(80, rel=0.01)
    assert got["perimeter_px"] == pytest.approx(2 * math.pi * 40, rel=0.07)
    assert got["eccentricity"] < 0.02 and got["solidity"] > 0.97 and got["parts"] == 1
    assert 0.85 < got["compactness"] < 1.05


def test_millimetres(measure):
    empty = np.zeros(DISC.shape, np.float32)
    pixel, equal, oblong = (
        measure(empty, DISC),
        measure(empty, DISC, (0.5, 0.5)),
        measure(empty, DISC, (2.0, 1.0)),
    )
    assert equal["area"] == pytest.approx(pixel["area_px"] / 4)
    assert equal["perimeter"] == pytest.approx(pixel["perimeter_px"] / 2)
    assert equal["diameter"] == pytest.approx(pixel["diameter_px"] / 2)
    assert not {"area", "perimeter", "diameter"} & set(pixel) and "area_px" not in equal
    for name in ("eccentricity", "solidity", "compactness", "parts", "mean", "contrast_1"):
        assert equal[name] == pytest.approx(pixel[name], abs=1e-9)
    assert oblong["area"] == pytest.approx(2 * pixel["area_px"])
    assert oblong["eccentricity"] == pytest.approx(math.sqrt(3) / 2, abs=0.01)  # axes 2 to 1
    # Ramanujan's perimeter of an ellipse of half axes 80 and 40
    assert oblong["perimeter"] == pytest.approx(math.pi * (360 - math.sqrt(280 * 200)), rel=0.08)


def test_holes_and_parts(measure):
    empty = np.zeros((20, 20), np.float32)
    full = np.zeros((20, 20), bool)
    full[2:12, 2:12] = True
    ring = full.copy()
    ring[5:8, 5:8] = False
    two = full.copy()
    two[15:18, 15:18] = True
    assert measure(empty, ring)["perimeter_px"] > measure(empty, full)["perimeter_px"] + 8
    assert measure(empty, full)["solidity"] == 1 and measure(empty, ring)["solidity"] == pytest.approx(0.91)
    assert measure(empty, two)["parts"] == 2 and measure(empty, two)["area_px"] == 109


def test_the_whole_picture_is_a_region_like_any_other(measure):
    assert measure(NOISE) == measure(NOISE, np.ones(NOISE.shape, bool))
    assert measure(NOISE)["area_px"] == NOISE.size


def test_what_is_not_defined_is_left_out(measure):
    flat = measure(np.full((5, 6), 0.3, np.float32))
    assert (
        "skew" not in flat
        and "correlation_1" not in flat
        and flat["contrast_1"] == 0
        and flat["entropy"] == 0
    )
    one = measure(np.zeros((1, 1), np.float32))
    assert not {"eccentricity", "solidity", "contrast_1", "energy_3"} & set(one) and one["area_px"] == 1
    line = measure(NOISE, np.eye(*NOISE.shape) > 0)
    assert line["eccentricity"] == pytest.approx(1, abs=0.01)
    from gnnpatient.content.measure import UNITS

    for got in (flat, one, line, measure(NOISE[:1]), measure(NOISE[:, :2])):
        assert set(got) <= set(UNITS)
        assert all(math.isfinite(value) and type(value) is float for value in got.values())


@pytest.mark.parametrize(
    ("pixels", "mask", "said"),
    [
        (NOISE, np.zeros(NOISE.shape, bool), "the mask is empty"),
        (NOISE, np.ones((3, 3), bool), "the mask has another size than the image"),
        (np.where(NOISE > 0.9, np.inf, NOISE), None, "numbers that are not finite"),
        (NOISE[None], None, "not one grey image"),
    ],
)
def test_faults(measure, pixels, mask, said):
    from gnnpatient.content.image.base import UnreadableImageError

    with pytest.raises(UnreadableImageError, match=said):
        measure(pixels, mask)


def test_a_lesion_that_grows_in_a_radiograph_is_measured(measure):
    small = measure(np.zeros(DISC.shape, np.float32), (ROWS - 50) ** 2 + (COLUMNS - 50) ** 2 <= 100)
    large = measure(np.zeros(DISC.shape, np.float32), DISC)
    assert large["diameter_px"] / small["diameter_px"] == pytest.approx(4, rel=0.02)
