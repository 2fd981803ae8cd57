"""The first forecast: its ridge is the weakest that clearly suits, and its fit is where the slope ends."""

import numpy as np
import polars as pl
import pytest
import torch

TOML = """
cohort = "made"
[patient]
table = "p.csv"
key = "id"
[nodes.gene]
table = "p.csv"
time = "day"
columns = { "x*" = "" }
[outcomes.death]
kind = "survival"
table = "p.csv"
causes = { death = { time = "end", flag = "died" } }
"""


def made(folder, columns: int, n: int = 120, slope: float = 1.5):
    """A cohort of which the first gene tells the hazard, and the others nothing."""
    from gnnpatient import read_cohort

    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, columns)).round(3)
    end = (rng.exponential(100 * np.exp(-slope * x[:, 0])) + 1).round(2)
    table = {
        "id": np.arange(n),
        "day": np.zeros(n),
        "end": np.minimum(end, 300.0),
        "died": (end < 300).astype(int),
    }
    frame = pl.DataFrame(table | {f"x{i}": x[:, i] for i in range(columns)})
    frame.write_csv(folder / "p.csv")
    (folder / "made.toml").write_text(TOML)
    return read_cohort(folder / "made.toml", folder)


@pytest.fixture
def ridges(monkeypatch):
    """The ridge that each fit went on with, and the module as the first forecast left it."""
    from gnnpatient.prognosis import fit

    real, seen = fit.first_heads, []

    def first_heads(module, *rest):
        begun, ridge = real(module, *rest)
        seen.append((ridge, begun))
        return begun, ridge

    monkeypatch.setattr(fit, "first_heads", first_heads)
    return seen


def fitted(asks, ridge=None):
    from gnnpatient import PrognosisModel

    model = PrognosisModel(
        horizon=200.0, members=1, epochs=1, num_times=4, channels=8, ridge=ridge, min_patients=1
    )
    return model.fit(asks)


def test_a_few_columns_keep_the_first_ridge_and_a_crowd_takes_a_stronger(tmp_path, ridges):
    from gnnpatient.prognosis.first import RIDGES

    few, many = tmp_path / "few", tmp_path / "many"
    few.mkdir()
    many.mkdir()
    fitted(made(few, 3).at(0.0).followed())
    crowd = made(many, 400).at(0.0).followed()
    model = fitted(crowd)
    assert ridges[0][0] == RIDGES[0] < ridges[1][0]
    train, test = np.arange(80), np.arange(80, 120)
    chosen, weak = fitted(crowd[train]), fitted(crowd[train], RIDGES[0])
    assert chosen.score(crowd[test]) > weak.score(crowd[test]) + 0.05, "1 - IBS / IBS of the null"
    assert ridges[3][0] == RIDGES[0], "as told"
    assert set(model.get_params()) >= {"ridge"} and model.ridge is None


def test_the_same_choice_twice_and_nothing_of_it_is_left(tmp_path, ridges):
    """A chosen ridge leads to the bits that it leads to when it is given."""
    asks = made(tmp_path, 40).at(0.0).followed()
    fitted(asks)
    fitted(asks)
    fitted(asks, ridges[0][0])
    for other in ridges[1:]:
        assert other[0] == ridges[0][0]
        for name, tensor in ridges[0][1].items():
            assert torch.equal(tensor, other[1][name]), name


def test_the_fit_ends_where_the_slope_does(tmp_path, monkeypatch):
    """The penalised loss of all asks has no slope left in any coefficient of the shifts, or in the biases."""
    from gnnpatient.prognosis import first

    found, real = [], first._TrainingRows.descend

    def descend(self, mask, ridge, steps):
        real(self, mask, ridge, steps)
        share = ridge / len(np.unique(self.landmarks.patient[self.rows[mask]]))
        loss = sum(one().sum() for _, one in self._losses(mask)) + share * self.module.linear_penalty()
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, self.parameters)]).abs().max())

    monkeypatch.setattr(first._TrainingRows, "descend", descend)
    fitted(made(tmp_path, 5).at(0.0).followed(), ridge=3.0)
    assert len(found) == 1 and float(found[0]) < 1e-3


def test_a_ridge_below_nothing_is_refused(tmp_path):
    from gnnpatient.errors import InputError

    with pytest.raises(InputError, match="ridge -1"):
        fitted(made(tmp_path, 3).at(0.0).followed(), ridge=-1.0)
