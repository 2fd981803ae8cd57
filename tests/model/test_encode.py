import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnpatient.model.encode import Encode, Scale, Vocabulary, fit_vocabulary

VALUE = st.one_of(st.floats(-100, 1000, width=32), st.floats(0.125, 1000, width=32), st.just(float("nan")))


def slow_scale(values: list[float]) -> tuple[float, float, bool]:
    x = np.array([v for v in values if np.isfinite(v)])

    def skew(y):
        spread = y.std()
        return abs(((y - y.mean()) ** 3).mean() / spread**3) if spread > 1e-6 * abs(y.mean()) else np.inf

    log = bool(len(x)) and (x > 0).all() and skew(np.log(x)) < skew(x)
    y = np.log(x) if log else x
    mean = y.mean() if len(y) else 0.0
    spread = y.std() if len(y) else 0.0
    return mean, spread if spread > 1e-6 * abs(mean) else abs(mean) or 1.0, log


@given(st.lists(st.tuples(VALUE, st.integers(0, 3)), max_size=40))
def test_scale_equals_a_slow_one(rows):
    value = torch.tensor([v for v, _ in rows], dtype=torch.float32)
    code = torch.tensor([c for _, c in rows], dtype=torch.long)
    scale = Scale.fit(value, code, 4)
    for c in range(4):
        mean, std, log = slow_scale([v for v, k in rows if k == c])
        assert scale.log[c] == log
        assert (scale.mean[c], scale.std[c]) == pytest.approx((mean, std), rel=1e-6, abs=1e-9)


def test_values_are_clipped_and_nan_stays():
    scale = Scale.fit(torch.tensor([1.0, 10.0, 100.0, 1000.0]), torch.zeros(4, dtype=torch.long), 1)
    assert scale.log == (True,)
    z = scale.apply(torch.tensor([0.0, -3.0, 1e30, torch.nan, 10**1.5]), torch.zeros(5, dtype=torch.long))
    assert z[:3].tolist() == [-4, -4, 4]
    assert z[3].isnan() and z[4].abs() < 1e-5


DRAW = np.random.default_rng(0)
HIGH = DRAW.random(400) < 0.5


@pytest.mark.parametrize(
    "values, heaps",
    [
        (np.exp(np.where(HIGH, 1.3, 0.1) + 0.2 * DRAW.standard_normal(400)), True),  # in logarithms
        (np.where(HIGH, -3.0, 5.0) + DRAW.standard_normal(400), True),
        (HIGH.astype(float), True),
        (np.where(HIGH, -3.0, 5.0)[:99], False),  # too few to tell
        (np.where(DRAW.random(400) < 0.1, 9.0, 0.0) + DRAW.standard_normal(400), False),  # one, and a few
        (np.where(HIGH, -1.5, 1.5) + DRAW.standard_normal(400), False),  # they run into each other
        (DRAW.random(400), False),
        (DRAW.standard_normal(400), False),
        (np.full(400, 7.0), False),
    ],
)
def test_two_heaps_of_values_are_told_from_one(values, heaps):
    value = torch.tensor([*values, 1.0, 2.0], dtype=torch.float32)
    code = torch.tensor([1] * len(values) + [0, 2])
    assert Scale.fit(value, code, 3).heaps == (False, heaps, False)


def test_the_linear_path_sees_the_heap_and_the_messages_the_value(graphs):
    plain = fit_vocabulary(graphs)
    heaps = {
        kind: replace(plain.values[kind], heaps=(True,) * len(plain.values[kind].mean))
        for kind in plain.values
    }
    torch.manual_seed(0)
    one = Encode(plain, 8)
    other = Encode(replace(plain, values=heaps), 8)
    other.load_state_dict(one.state_dict())
    for kind, x in one(graphs).items():
        assert torch.equal(x, other(graphs)[kind])
    before, after = one.last_observation(graphs), other.last_observation(graphs)
    moved = (before != after).any(0)
    assert torch.allclose(after[:, moved], (4 * before[:, moved]).tanh()) and 2 <= moved.sum() < len(moved)
    names = sum(len(names) - 1 for names in plain.codes.values()) + len(plain.numbers)
    assert moved.sum() <= names  # neither flags nor times


def test_only_names_of_the_training_graphs_are_kept(graphs):
    lab = graphs["lab"]
    kept = replace(lab, code=torch.where(lab.code == 2, 0, lab.code))
    vocabulary = fit_vocabulary(replace(graphs, nodes={**graphs.nodes, "lab": kept}))
    assert vocabulary.codes["lab"] == ("other", "bili", "inr")


def test_vocabulary_survives_json(graphs):
    vocabulary = fit_vocabulary(graphs)
    assert Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict(), allow_nan=False))) == vocabulary


def test_names_rule_not_their_numbers(graphs):
    """The same cohort with its codes, levels and numbers in another order, and one code more."""
    encode = Encode(fit_vocabulary(graphs), 8)
    lab, statics = graphs["lab"], graphs.statics
    place = torch.tensor([0, 4, 1, 2])  # other bili albumin inr -> other albumin inr new bili
    other = replace(
        graphs,
        nodes={**graphs.nodes, "lab": replace(lab, code=place[lab.code])},
        codes={**graphs.codes, "lab": ("other", "albumin", "inr", "new", "bili")},
        statics=replace(
            statics,
            number=statics.number.flip(1),
            category=torch.where(statics.category < 0, -1, 1 - statics.category),
        ),
        numbers=("weight", "age"),
        levels={"sex": ("m", "f")},
    )
    for kind, x in encode(graphs).items():
        assert torch.equal(x, encode(other)[kind]), kind
    assert torch.equal(encode.last_observation(graphs), encode.last_observation(other))


def test_an_unseen_code_is_other_and_an_unseen_level_too(graphs):
    encode = Encode(fit_vocabulary(graphs), 8)
    renamed = replace(graphs, codes={**graphs.codes, "drug": ("other", "b")}, levels={"sex": ("x", "y")})
    nodes = replace(graphs["drug"], code=torch.zeros_like(graphs["drug"].code))
    others = replace(graphs, nodes={**graphs.nodes, "drug": nodes})
    assert torch.equal(encode(renamed)["drug"], encode(others)["drug"])
    assert encode.levels(renamed)[0].tolist() == [1 if c < 0 else 0 for c in graphs.statics.category[:, 0]]
    assert encode.levels(graphs)[0].tolist() == [1 if c < 0 else c + 2 for c in graphs.statics.category[:, 0]]


def test_kinds_may_lack_or_abound(graphs):
    encode = Encode(fit_vocabulary(graphs), 8)
    fewer = replace(
        graphs,
        nodes={kind: n for kind, n in graphs.nodes.items() if kind != "lab"},
        numbers=(),
        statics=replace(graphs.statics, number=graphs.statics.number[:, :0]),
    )
    assert encode(fewer)["lab"].shape == (0, 8)
    assert encode.last_observation(fewer).shape == (len(graphs), sum(encode.groups))
    small = Encode(fit_vocabulary(fewer), 8)
    assert list(small(graphs)) == ["image.ct", "drug", "timepoint", "patient"]
    assert small.last_observation(graphs).shape == (len(graphs), sum(small.groups))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_running_equals_a_slow_answer(make_graphs, seed):
    """Of codes that the model knows, in its own order; of another cohort's graphs too."""
    graphs = make_graphs(seed)
    encode = Encode(fit_vocabulary(graphs), 8)
    assert encode.vocabulary.running == tuple(k for k in graphs.codes if graphs[k].open.any()) != ()
    renamed = replace(graphs, codes={**graphs.codes, "lab": ("other", "inr", "new", "bili")})
    for one in (graphs, renamed):
        parts = encode.last_observation(one).split(encode.groups, 1)
        for kind, part in zip(encode.vocabulary.codes, parts, strict=False):
            known, nodes = encode.vocabulary.codes[kind][1:], one[kind]
            expected = torch.zeros(len(one), len(known))
            for owner, code, running in zip(nodes.owner, nodes.code, nodes.open, strict=True):
                if running and (name := one.codes[kind][code]) in known:
                    expected[owner, known.index(name)] = 1
            assert torch.equal(part[:, 2 * len(known) :], expected), kind


def test_of_kinds_without_intervals_nothing_is_said_to_run(graphs):
    lab = replace(graphs["lab"], open=torch.zeros(len(graphs["lab"]), dtype=torch.bool))
    shut = replace(graphs, nodes={**graphs.nodes, "lab": lab})
    encode, other = Encode(fit_vocabulary(shut), 8), Encode(fit_vocabulary(graphs), 8)
    assert "lab" in other.vocabulary.running and "lab" not in encode.vocabulary.running
    assert other.groups[0] == encode.groups[0] + 3 and other.groups[1:] == encode.groups[1:]
    assert torch.equal(encode.last_observation(graphs), encode.last_observation(shut))


def test_missing_is_not_zero(graphs):
    encode = Encode(fit_vocabulary(graphs), 8)
    torch.nn.init.ones_(encode.missing)
    lab = graphs["lab"]

    def with_value(value):
        return encode(replace(graphs, nodes={**graphs.nodes, "lab": replace(lab, value=value)}))["lab"]

    mean = fit_vocabulary(graphs).values["lab"]
    middle = torch.tensor(mean.mean)[lab.code]
    middle = torch.where(torch.tensor(mean.log)[lab.code], middle.exp(), middle)
    absent = with_value(torch.full_like(lab.value, torch.nan))
    assert torch.allclose(absent - with_value(middle), torch.ones(len(lab), 8), atol=1e-5)
    assert absent.isfinite().all()
