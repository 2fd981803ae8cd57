"""One verdict over cohorts: values worked out by hand, and a published meta-analysis."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from gnnpatient import InputError
from gnnpatient.study.pooling import between, cohort_variance, pool

# Thirteen trials of BCG against tuberculosis: positive and negative of the vaccinated, then of the controls
# (Colditz et al. 1994). metafor, rma(yi, vi, test = "knha") on log relative risks, has the figures below.
BCG = np.array(
    [
        [4, 119, 11, 128], [6, 300, 29, 274], [3, 228, 11, 209], [62, 13536, 248, 12619],
        [33, 5036, 47, 5761], [180, 1361, 372, 1079], [8, 2537, 10, 619], [505, 87886, 499, 87892],
        [29, 7470, 45, 7232], [17, 1699, 65, 1600], [186, 50448, 141, 27197], [5, 2493, 3, 2338],
        [27, 16886, 29, 17825],
    ],
    float,
)  # fmt: skip


def bcg() -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d = BCG.T
    return np.log(a / (a + b)) - np.log(c / (c + d)), 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)


def test_equal_variances_have_a_closed_form():
    # y = 1, 2, 6 with v = 2 each: mean 3, sample variance 7, tau2 = 7 - 2, standard error sqrt(7 / 3)
    found = pool([1.0, 2.0, 6.0], [2.0, 2.0, 2.0])
    assert found.mean == pytest.approx(3.0)
    assert found.tau2 == pytest.approx(5.0, rel=1e-5)
    half = 4.302652729911275 * (7 / 3) ** 0.5  # t with two degrees of freedom
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), rel=1e-6)
    assert found.p == pytest.approx(2 * student.sf(3 / (7 / 3) ** 0.5, 2), rel=1e-6)
    wide = 12.706204736432095 * (5 + 7 / 3) ** 0.5  # t with one
    assert found.prediction == pytest.approx((3 - wide, 3 + wide), rel=1e-5)


def test_cohorts_that_agree_have_no_variance_between_them():
    found = pool([1.0, 1.1, 0.9], [1.0, 4.0, 4.0])
    assert found.tau2 == 0
    assert found.mean == pytest.approx((1.0 + 1.1 / 4 + 0.9 / 4) / 1.5)
    q = 0.1**2 / 4 * 2
    assert found.high - found.mean == pytest.approx(4.302652729911275 * (q / (2 * 1.5)) ** 0.5, rel=1e-6)


def test_a_published_meta_analysis_is_met():
    found = pool(*bcg())
    assert found.tau2 == pytest.approx(0.3132, abs=5e-5)
    assert found.mean == pytest.approx(-0.7145, abs=5e-5)
    assert (found.low, found.high) == pytest.approx((-1.1084, -0.3206), abs=5e-5)
    assert found.p == pytest.approx(0.0019, abs=5e-5)


def test_the_likelihood_is_at_its_top():
    y, v = bcg()

    def loss(tau2):
        w = 1 / (v + tau2)
        return (np.log(v + tau2).sum() + np.log(w.sum()) + w @ (y - w @ y / w.sum()) ** 2) / 2

    tau2 = between(y, v)
    assert loss(tau2) <= min(loss(tau2 * 1.001), loss(tau2 * 0.999))


@pytest.mark.parametrize("given", [([1.0], [1.0]), ([1.0, np.nan], [1.0, 1.0]), ([1.0, 2.0], [1.0, 0.0])])
def test_what_cannot_be_pooled_is_refused(given):
    with pytest.raises(InputError):
        pool(*given)


def test_a_cohort_varies_by_its_patients_and_by_its_fits():
    assert cohort_variance([1.0, 3.0], [2.0, 2.0, 5.0]) == pytest.approx(2.0 + 3.0)
    assert cohort_variance([1.0, 3.0]) == cohort_variance([1.0, 3.0], [2.0]) == pytest.approx(2.0)


def test_few_cohorts_decide_nothing():
    assert pool([0.1] * 5, [1.0] * 5).descriptive and not pool([0.1] * 6, [1.0] * 6).descriptive
