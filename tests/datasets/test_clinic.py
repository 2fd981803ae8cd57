"""The made-up clinic: its truth is what the tables show on average, and what a slow reckoning gives."""

import numpy as np
import polars as pl
import pytest
from scipy.integrate import quad

from gnnpatient.datasets import clinic
from gnnpatient.datasets.clinic import DEATH, NOISE, VISITS, WORSENING, ClinicTruth, write_clinic
from gnnpatient.errors import InputError
from gnnpatient.times import DAY, YEAR

MANY = 4000
MOMENTS = [(0.0, 365.0), (700.0, 1065.0)]  # landmark, and the day asked for


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clinic") / "data"
    return folder, write_clinic(folder, MANY, seed=3, truth=True)


@pytest.fixture(scope="module")
def patients(written):
    return pl.read_csv(written[0] / "patients.csv")


def followed(patients, at):
    return np.flatnonzero(patients["end_day"].to_numpy() > at)


def seen_at(truth, to, at, window=90.0):
    day = truth.second / DAY
    inside = (np.abs(day - to) <= window) & (day > at)
    return np.bincount(truth.owner[inside], minlength=len(truth.ids)) > 0


def close(expected, found, weight=None, *, z=4.0):
    """Whether means agree in fifths by what is expected, as far as chance allows."""
    fifth = np.argsort(np.argsort(expected, kind="stable")) * 5 // len(expected)
    weight = np.ones(len(expected)) if weight is None else weight
    for k in range(5):
        w, miss = weight[fifth == k], (found - expected)[fifth == k]
        error = np.sqrt((w**2 * (miss - miss.mean()) ** 2).sum()) / w.sum()
        assert abs((w * miss).sum() / w.sum()) < z * error, (k, error)


# -- files --


def test_same_seed_same_bytes(written, tmp_path):
    folder, truth = written
    write_clinic(tmp_path / "again", MANY, seed=3, truth=True)
    write_clinic(tmp_path / "other", MANY, seed=4)
    for name in ("patients.csv", "visits.csv", "truth.npz"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert (folder / "visits.csv").read_bytes() != (tmp_path / "other" / "visits.csv").read_bytes()
    found = ClinicTruth.load(folder / "truth.npz")
    for name, value in vars(truth).items():
        if not name.startswith("_"):
            np.testing.assert_array_equal(getattr(found, name), value)


def test_bad_input_is_refused(written, tmp_path):
    truth = written[1]
    for how, words in (({"n": 0}, "n = 0 patients"), ({"seed": -1}, "seed = -1")):
        with pytest.raises(InputError, match=words):
            write_clinic(tmp_path / "x", **how)
    np.savez(tmp_path / "other.npz", ids=np.array(["a"]))
    with pytest.raises(InputError, match="not a truth of clinic"):
        ClinicTruth.load(tmp_path / "other.npz")
    for asked, words in (
        ((MANY, 1.0, 2.0), "position 4000; this truth has 4000 patients"),
        ((0, -1.0, 2.0), "at -1 days"),
        ((0, np.nan, 2.0), "at nan days"),
        ((0, 3.0, 2.0), "to day 2, at day 3"),
        ((0, 3.0, np.nan), "to day nan"),
    ):
        with pytest.raises(InputError, match=words):
            truth.alive(*asked)
    with pytest.raises(InputError, match="given = 'all'"):
        truth.alive(0, 1.0, 2.0, given="all")


def test_the_tables_are_read_as_the_truth_has_them(written):
    from gnnpatient import read_cohort

    folder, truth = written
    cohort = read_cohort("clinic", folder)
    assert list(cohort.ids) == truth.ids.tolist()
    assert not any(sum(t["refused"].values()) for t in cohort.report["tables"].values())
    lab = cohort.events["lab"]
    level = lab.code == cohort.codes["lab"].index("level")
    np.testing.assert_array_equal(lab.happened[level], truth.second)
    np.testing.assert_allclose(lab.value[level], truth.level, rtol=1e-6)
    X = cohort.at(700.0, to=1065.0).followed("level")
    assert (np.isfinite(X.outcome("level")["value"]) <= seen_at(truth, 1065.0, 700.0)[X.patient]).all()
    X = cohort.at(700.0).followed("worse")
    shown = X.outcome("worse")
    assert (
        truth.worse[X.patient][shown["event"] == 1] / DAY <= (700.0 + shown["time"])[shown["event"] == 1]
    ).all()
    assert (truth.worsening(X.patient, 700.0, 365.0) < 1).all()


# -- the truth --


@pytest.mark.parametrize("given", ["history", "latent"])
@pytest.mark.parametrize(("at", "to"), MOMENTS)
def test_true_figures_are_the_means_of_what_comes(written, patients, at, to, given):
    _, truth = written
    position = followed(patients, at)
    end, died = patients["end_day"].to_numpy()[position], patients["died"].to_numpy()[position] == 1
    death, worse = truth.death[position], truth.worse[position]
    close(truth.alive(position, at, to, given), death > to)

    whole = (death > to) & ((end >= to + 90) | (died & (end > to)))  # the window was not cut by being lost
    weight = np.exp(clinic.LOST * (np.minimum(end, to + 90) - at) / YEAR)[whole]
    seen = seen_at(truth, to, at)[position][whole]
    close(truth.seen(position[whole], at, to, given=given), seen, weight)
    there = position[whole][seen]
    if given == "history":
        line = truth.start[there] + truth.drift[there] * to / YEAR
        close(truth.value(there, at, to), line)

    shown = np.zeros(MANY, bool)
    shown[truth.owner[(truth.second / DAY >= truth.worse[truth.owner]) & (truth.second / DAY <= at)]] = True
    free = ~shown[position] if given == "history" else worse > at
    close(truth.worsening(position[free], at, 730.0, given), (worse <= np.minimum(at + 730, death))[free])


@pytest.mark.parametrize("i", [0, 7, 31])
def test_latent_figures_equal_slow_integrals(written, i):
    _, truth = written
    at, to, until = 1.0, 2.5, 2.5 + 90 / YEAR

    def rate(of, t):
        above = (truth.start[i] + truth.drift[i] * t - 50) / 10
        return of.base * np.exp(of.level * above + of.age * (truth.age[i] - 60) / 10)

    def summed(since, until, *of):
        return quad(lambda t: sum(rate(one, t) for one in of), since, until)[0]

    def first(one, other, since, until):  # comes before the other
        return quad(lambda t: rate(one, t) * np.exp(-summed(since, t, one, other)), since, until)[0]

    asked = i, at * YEAR, to * YEAR
    assert truth.alive(*asked, given="latent") == pytest.approx(np.exp(-summed(at, to, DEATH)), abs=1e-9)
    assert truth.value(*asked, given="latent") == pytest.approx(truth.start[i] + truth.drift[i] * to)
    none_before = np.exp(-summed(to - 90 / YEAR, to, VISITS))
    seen_after = first(VISITS, DEATH, to, until)
    expected = 1 - none_before * (1 - seen_after)
    assert truth.seen(*asked, given="latent") == pytest.approx(expected, abs=1e-9)
    comes = 1.0 if truth.worse[i] <= at * YEAR else first(WORSENING, DEATH, at, to)
    assert truth.worsening(i, at * YEAR, (to - at) * YEAR, "latent") == pytest.approx(comes, abs=1e-8)


def test_figures_given_the_history_equal_those_of_a_dense_grid(written, patients):
    """Every line of the level on a grid, weighed by all that the rows show until the landmark."""
    _, truth = written
    at, to = 700.0, 1065.0
    free = followed(patients, at)
    early = truth.second / DAY <= at
    worse = truth.second / DAY >= truth.worse[truth.owner]
    shown = np.unique(truth.owner[early & worse])
    for i in [*np.setdiff1d(free, shown)[:2].tolist(), *np.intersect1d(free, shown)[:2].tolist()]:
        rows = (truth.owner == i) & early
        t, y, m = truth.second[rows] / DAY / YEAR, truth.level[rows], truth.marker[rows]
        a, b = np.meshgrid(np.linspace(10, 90, 500), np.linspace(-11, 13, 500), indexing="ij")

        def rate(of, when, a=a, b=b, age=truth.age[i]):
            return of.base * np.exp(of.level * (a + b * when - 50) / 10 + of.age * (age - 60) / 10)

        def summed(of, since, until, b=b, rate=rate):
            g = of.level * b / 10
            return (rate(of, until) - rate(of, since)) / g

        year = at / YEAR
        log = -(((a - 50) / 8) ** 2 + ((b - 1) / 2.5) ** 2) / 2
        for when, value, mark in zip(t.tolist(), y.tolist(), m.tolist(), strict=True):
            log -= ((value - a - b * when) / NOISE) ** 2 / 2
            log += np.log(rate(VISITS, when)) if when > 0 else 0
            log -= (mark - (b - 1) / 2.5) ** 2 / 2 if np.isfinite(mark) else 0
        log -= summed(VISITS, 0, year) + summed(DEATH, 0, year)
        bad = worse[rows]
        last = t[~bad].max()
        kept = np.exp(-summed(WORSENING, 0, last))
        log += np.log(kept - np.exp(-summed(WORSENING, 0, t[bad].min())) if bad.any() else kept)
        chance = np.exp(log - log.max())
        survives = np.exp(-summed(DEATH, year, to / YEAR))
        steps = (to + (np.arange(60) + 0.5) * 1.5) / YEAR  # of the 90 days after it
        seen_after = sum(
            rate(VISITS, u) * np.exp(-summed(VISITS, to / YEAR, u) - summed(DEATH, to / YEAR, u)) * 1.5 / YEAR
            for u in steps.tolist()
        )
        seen = 1 - np.exp(-summed(VISITS, (to - 90) / YEAR, to / YEAR)) * (1 - seen_after)
        assert truth.alive(i, at, to) == pytest.approx((chance * survives).sum() / chance.sum(), abs=1e-4)
        there = chance * survives * seen
        assert truth.value(i, at, to) == pytest.approx(
            (there * (a + b * to / YEAR)).sum() / there.sum(), abs=1e-3
        )
        assert truth.seen(i, at, to) == pytest.approx(there.sum() / (chance * survives).sum(), abs=1e-4)
        assert (truth.worsening(i, at, 365.0) == 1) == bad.any()


def test_the_measured_level_is_spread_as_the_truth_says(written, patients):
    """Of measurements near the day asked for, each decile of the true distribution has a tenth."""
    _, truth = written
    at, to = 700.0, 1065.0
    position = followed(patients, at)
    near = (np.abs(truth.second / DAY - to) <= 20) & np.isin(truth.owner, position)
    owner, level = truth.owner[near], truth.level[near]
    edges = np.linspace(0, 110, 441)
    chance = truth.distribution(edges, owner, at, to, window=20.0)
    np.testing.assert_allclose(chance.sum(1), 1)
    below = np.concatenate([np.zeros((len(owner), 1)), chance.cumsum(1)], 1)
    place = np.searchsorted(edges, level, "right")
    rank = (below[np.arange(len(owner)), place] + below[np.arange(len(owner)), place + 1]) / 2
    share = np.histogram(rank, np.linspace(0, 1, 11))[0] / len(rank)
    assert len(rank) > 600
    assert np.abs(share - 0.1).max() < 4 * np.sqrt(0.09 / len(rank))


def test_the_history_says_less_than_the_line_and_more_than_nothing(written, patients):
    _, truth = written
    position = followed(patients, 700.0)
    line = truth.value(position, 700.0, 1065.0, given="latent")
    error = np.sqrt(np.mean((truth.value(position, 700.0, 1065.0) - line) ** 2))
    first = np.searchsorted(truth.owner, position)
    assert 0.2 * line.std() < error < 0.5 * line.std()
    assert error < 0.6 * np.sqrt(np.mean((truth.level[first] - line) ** 2))


def test_the_higher_the_level_the_more_visits_and_deaths(written, patients):
    _, truth = written
    high = truth.start + truth.drift * 2 > 52
    years = patients["end_day"].to_numpy() / YEAR
    count = np.bincount(truth.owner, minlength=MANY) - 1
    died = patients["died"].to_numpy()
    visits, deaths = (
        (x[high].sum() / years[high].sum(), x[~high].sum() / years[~high].sum()) for x in (count, died)
    )
    assert visits[0] > 1.3 * visits[1] and deaths[0] > 2 * deaths[1]
