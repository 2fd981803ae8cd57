"""The linear mixed model: as statsmodels has it, and its lines as a slow reckoning gives them."""

import numpy as np
import pytest

from gnnpatient.study.mixed_model import MixedModel


def drawn(n, seed):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(n), rng.integers(1, 8, n))
    time = rng.uniform(0, 6, len(owner))
    line = rng.multivariate_normal([2, 0.3], [[1.0, -0.15], [-0.15, 0.09]], n)
    x = np.stack([np.ones_like(time), time, rng.normal(size=n)[owner]], 1)
    value = (line[owner] * x[:, :2]).sum(1) + 0.5 * x[:, 2] + rng.normal(0, 0.6, len(owner))
    return value, x, time, owner


def test_a_fit_equals_that_of_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    value, x, time, owner = drawn(120, 0)
    found = MixedModel.fit(value, x, time, owner)
    theirs = api.MixedLM(value, x, groups=owner, exog_re=x[:, :2]).fit(reml=True)
    np.testing.assert_allclose(found.beta, theirs.fe_params, atol=1e-4)
    np.testing.assert_allclose(found.covariance, theirs.cov_re, atol=2e-3)
    assert found.noise == pytest.approx(theirs.scale, abs=1e-3)


def test_order_of_rows_and_names_of_patients_change_nothing():
    value, x, time, owner = drawn(60, 2)
    order = np.random.default_rng(0).permutation(len(value))
    one = MixedModel.fit(value, x, time, owner)
    other = MixedModel.fit(value[order], x[order], time[order], 1000 - owner[order])
    np.testing.assert_allclose(one.beta, other.beta, atol=1e-6)


def test_lines_equal_those_of_the_whole_covariance():
    value, x, time, owner = drawn(40, 3)
    model = MixedModel(np.array([2, 0.3, 0.5]), np.array([[1.0, -0.15], [-0.15, 0.09]]), 0.36)
    mean, left = model.predict(value, x, time, owner, 42)
    for i in range(40):
        z, miss = (
            np.stack([np.ones((owner == i).sum()), time[owner == i]], 1),
            (value - x @ model.beta)[owner == i],
        )
        whole = z @ model.covariance @ z.T + model.noise * np.eye(len(z))
        pull = model.covariance @ z.T @ np.linalg.inv(whole)
        np.testing.assert_allclose(mean[i], pull @ miss, atol=1e-6)
        np.testing.assert_allclose(left[i], model.covariance - pull @ z @ model.covariance, atol=1e-6)
    np.testing.assert_allclose(mean[40:], 0)  # nothing is known of them
    np.testing.assert_allclose(left[41], model.covariance, atol=1e-6)


def test_columns_that_say_nothing_or_the_same_change_nothing():
    value, x, time, owner = drawn(60, 4)
    one = MixedModel.fit(value, x, time, owner)
    more = np.concatenate([x, np.zeros((len(x), 1)), x[:, [2]]], 1)
    other = MixedModel.fit(value, more, time, owner)
    np.testing.assert_allclose(more @ other.beta, x @ one.beta, atol=0.01)
