"""Pictures and texts as channels: axes that the patients' own series turn, the level and the change."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from gnnpatient.graphs import Graphs, Nodes, Statics
from gnnpatient.model.encode import (
    MAX_DEVIATIONS,
    MIN_PAIRS_PER_AXIS,
    TANH_SLOPE,
    Axes,
    Basis,
    Encode,
    fit_bases,
    fit_vocabulary,
)

KIND = "image.ct"
MAX_AXES = Axes(columns=5, kept=4, lasting=3, drifting=2)


def series(patient, day, vector) -> Nodes:
    """Reports on some days, an ask a patient after the last of all."""
    order = torch.argsort(patient, stable=True)
    patient, day, vector = patient[order], day[order], vector[order]
    none = torch.zeros_like(patient)
    return Nodes(
        ptr=torch.cat([none[:1], torch.bincount(patient).cumsum(0)]),
        code=none,
        value=torch.full_like(day, torch.nan),
        age=day.max() - day,
        owner=patient,
        timepoint=none,
        open=none > 0,
        row=torch.arange(len(patient)),
        vector=vector.float(),
    )


def graphs_of(nodes: Nodes) -> Graphs:
    """These nodes and no others."""
    asks = len(nodes.ptr) - 1
    whole = {field: getattr(nodes, field)[:0] for field in ("code", "value", "age", "owner", "timepoint")}
    points = Nodes(
        ptr=nodes.ptr * 0, open=nodes.open[:0], row=nodes.row[:0], vector=nodes.vector[:0, :0], **whole
    )
    statics = Statics(torch.zeros(asks, 0), torch.zeros(asks, 0).long(), torch.zeros(asks))
    return Graphs({KIND: nodes, "timepoint": points}, {}, statics, {KIND: ("other",)}, (), {})


def learned(nodes: Nodes) -> tuple[Axes, Basis]:
    """As a fit learns them from training graphs."""
    graphs = graphs_of(nodes)
    bases = fit_bases(graphs)
    return fit_vocabulary(graphs, bases).vectors[KIND], bases[KIND]


def related(x, y) -> float:
    return abs(float(torch.corrcoef(torch.stack([x, y]))[0, 1]))


def principal(nodes: Nodes) -> torch.Tensor:
    """White principal components of the standardised columns, by numpy: (node, feature)."""
    x = nodes.vector.double().numpy()
    x = (x - x.mean(0)) / x.std(0)
    value, direction = np.linalg.eigh(x.T @ x / len(x))
    return torch.from_numpy(x @ direction[:, ::-1] / np.sqrt(value[::-1])).float()


def steps(nodes: Nodes) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of successive reports of a patient."""
    order = sorted(range(len(nodes)), key=lambda i: (int(nodes.owner[i]), -float(nodes.age[i])))
    pairs = [(i, j) for i, j in pairwise(order) if nodes.owner[i] == nodes.owner[j]]
    earlier, later = torch.tensor(pairs).T
    return earlier, later


@pytest.fixture
def drawn():
    """Eight reports of each of fifty patients: who, when, six columns of noise, most of it on one axis."""
    draw = torch.Generator().manual_seed(0)
    patient = torch.arange(50).repeat_interleave(8)
    day = 1000 * torch.rand(400, generator=draw)
    loud = 3 * torch.randn(400, 1, generator=draw).expand(-1, 6)
    return patient, day, loud + torch.randn(400, 6, generator=draw), draw


QUIET = torch.tensor([1.0, -1, 1, -1, 1, -1])  # across the loud axis


def test_what_lasts_in_a_patient_comes_first_though_it_is_quiet(drawn):
    patient, day, noise, draw = drawn
    own = torch.randn(50, generator=draw)[patient]
    nodes = series(patient, day, noise + 2 * own[:, None] * QUIET)
    axes, basis = learned(nodes)
    z = (nodes.vector - basis.mean) @ basis.axes
    assert axes == Axes(6, 6, 4, axes.drifting)
    loudest = principal(nodes)[:, 0]
    assert related(loudest, own) < 0.1, "the loudest is noise"
    assert related(z[:, 0], own) > 0.95
    assert torch.allclose(torch.cov(z.T), torch.eye(6), atol=0.01)


def drifting_away(drawn, slowness: float) -> tuple[Nodes, torch.Tensor, torch.Tensor]:
    """Reports with what each patient keeps, and a course of each, fast or slow, that the loud noise hides."""
    patient, day, noise, draw = drawn
    own, speed = torch.randn(2, 50, generator=draw)[:, patient]
    course = speed * day / slowness
    vector = noise + 3 * own[:, None] * torch.tensor([1.0, 1, 0, 0, -1, -1]) + course[:, None] * QUIET
    return series(patient, day, vector), own, course


def test_a_course_that_goes_on_comes_first_among_changes(drawn):
    nodes, own, course = drifting_away(drawn, 100)
    axes, basis = learned(nodes)
    earlier, later = steps(nodes)
    change = (nodes.vector[later] - nodes.vector[earlier]) @ basis.drift
    assert axes.drifting == basis.drift.shape[1] == 1, "noise goes back, and is left out"
    assert related(change[:, 0], course[later] - course[earlier]) > 0.85
    torch.testing.assert_close(change.square().mean(0), torch.ones(1), rtol=1e-3, atol=0)
    z = (nodes.vector - basis.mean) @ basis.axes
    assert related(z[:, 0], own) > 0.95, "while the axis that lasts is another one"


def test_where_nothing_drifts_there_is_no_axis_of_change(drawn):
    patient, day, noise, _ = drawn
    axes, basis = learned(series(patient, day, noise))
    assert axes == Axes(6, 6, 4, 0) and basis.drift.shape == (6, 0)


def test_two_reports_each_have_axes_of_change_too(drawn):
    """Nobody has a third that could tell a drift from noise: the axes of most change."""
    _, day, noise, _ = drawn
    pairs = torch.arange(200).repeat_interleave(2)
    quiet = noise * torch.tensor([1.0, 1, 1, 0, 0, 0]) + torch.randn(400, 6) * torch.tensor(
        [0.0, 0, 0, 1, 1, 1]
    )
    nodes = series(pairs, day, quiet)
    axes, basis = learned(nodes)
    earlier, later = steps(nodes)
    change = nodes.vector[later] - nodes.vector[earlier]
    change = (change / change.std(0, correction=0)).double()
    _, direction = torch.linalg.eigh(change.T @ change / len(change))
    assert axes.drifting == 6
    first = (change @ direction.flip(1))[:, 0]
    assert (
        related((nodes.vector[later] - nodes.vector[earlier]).double() @ basis.drift[:, 0].double(), first)
        > 0.999
    )


@pytest.mark.parametrize("short", [False, True])
def test_with_few_successive_reports_axes_are_the_principal_ones_and_nothing_drifts(drawn, short):
    _, day, vector, _ = drawn
    enough = MIN_PAIRS_PER_AXIS * 6
    several = enough + 1 - short  # reports of the first patient; the others have one each
    nodes = series((torch.arange(400) - several + 1).clamp(min=0), day, vector)
    axes, basis = learned(nodes)
    assert (axes == Axes(6, 6, 6, 0)) == short
    z = (nodes.vector - basis.mean) @ basis.axes
    same = (principal(nodes) * z).mean(0).abs()  # 1: the same axis, up to its sign
    assert (same.min() > 1 - 1e-4) == short


def test_reports_of_one_moment_do_not_follow_each_other(drawn):
    patient, day, vector, _ = drawn
    assert learned(series(patient, day, vector))[0].lasting == 4
    assert learned(series(patient, torch.floor(patient / 2), vector))[0] == Axes(6, 6, 6, 0)


def test_the_order_of_patients_and_rows_is_nothing(drawn):
    patient, day, _, draw = drawn
    vector = drifting_away(drawn, 100)[0].vector
    axes, basis = learned(series(patient, day, vector))
    order, name = torch.randperm(400, generator=draw), torch.randperm(50, generator=draw)
    other, again = learned(series(name[patient[order]], day[order], vector[order]))
    assert other == axes
    for part in ("mean", "axes", "drift"):
        torch.testing.assert_close(getattr(again, part), getattr(basis, part), rtol=1e-3, atol=1e-4)


def test_of_many_vectors_those_of_every_third_patient_are_learned_from(drawn, monkeypatch):
    nodes, *_ = drifting_away(drawn, 100)
    third = nodes.owner % 3 == 0
    alone = series(nodes.owner[third] // 3, -nodes.age[third], nodes.vector[third])
    wanted = Basis.fit(alone)
    monkeypatch.setattr("gnnpatient.model.encode.MAX_BASIS_VECTORS", len(nodes) // 3 + 1)
    found = Basis.fit(nodes)
    assert wanted.sizes == found.sizes and not torch.equal(found.mean, nodes.vector.mean(0))
    for part in ("mean", "axes", "drift"):
        torch.testing.assert_close(getattr(found, part), getattr(wanted, part))


ALIKE = {
    "columns twice": lambda patient, vector: vector[:, [0, 1, 2, 0, 1, 2]],
    "one column": lambda patient, vector: vector[:, :1].expand(-1, 6),
    "three texts": lambda patient, vector: vector[torch.arange(len(vector)) % 3],
    "each patient's own text": lambda patient, vector: vector[patient],
    "one text": lambda patient, vector: vector[:1].expand(len(vector), -1),
}

FLAT = {"columns twice": 3, "one column": 5, "three texts": 4, "each patient's own text": 0, "one text": 6}


@pytest.mark.parametrize("which", ALIKE)
def test_vectors_that_are_alike_have_fewer_axes(drawn, which):
    patient, day, vector, _ = drawn
    nodes = series(patient, day, ALIKE[which](patient, vector))
    _, basis = learned(nodes)
    assert all(part.isfinite().all() for part in (basis.mean, basis.axes, basis.drift))
    z = (nodes.vector - basis.mean) @ basis.axes
    flat = z.std(0) < 1e-3  # what no training vector says, another one shall not say aloud
    assert flat.sum() == FLAT[which] and (basis.axes[:, flat].abs() < 1e-6).all()
    assert basis.drift.shape[1] == 0 or basis.drift.abs().max() < 100


# ---- what the linear path sees of them


def laid(graphs: Graphs) -> tuple[Encode, Basis]:
    """An encoder with axes of any kind."""
    draw = torch.Generator().manual_seed(0)
    mean, axes, drift = (torch.randn(*size, generator=draw) for size in ((5,), (5, 4), (5, 2)))
    basis = Basis(mean, axes, MAX_AXES.lasting, drift)
    vocabulary = fit_vocabulary(graphs)
    encode = Encode(replace(vocabulary, vectors={KIND: MAX_AXES}), 8)
    encode.start({KIND: basis})
    return encode, basis


def level_and_change(encode: Encode, graphs: Graphs) -> tuple[torch.Tensor, torch.Tensor]:
    """The last columns of the kind."""
    place = list(encode.vocabulary.codes).index(KIND)
    mine = encode.last_observation(graphs).split(encode.groups, 1)[place]
    return mine[:, -MAX_AXES.lasting - MAX_AXES.drifting :].split([MAX_AXES.lasting, MAX_AXES.drifting], 1)


def slowly(graphs: Graphs, basis: Basis) -> tuple[torch.Tensor, torch.Tensor, set[int]]:
    """Ask by ask and picture by picture; and of how many pictures each end of a change was made."""
    nodes, levels, changes, ends = graphs[KIND], [], [], set()
    for ask in range(len(graphs)):
        mine = [i for i in range(len(nodes)) if int(nodes.owner[i]) == ask]
        z = {
            i: ((nodes.vector[i] - basis.mean) @ basis.axes).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
            for i in mine
        }
        at = {i: nodes.vector[i] @ basis.drift for i in mine}

        def mean(of, z, size):
            return torch.stack([z[i] for i in of]).mean(0) if of else torch.zeros(size)

        age = {i: float(nodes.age[i]) for i in mine}
        oldest = [i for i in mine if age[i] == max(age.values())]
        newest = [i for i in mine if age[i] == min(age.values())]
        levels.append((TANH_SLOPE * mean(mine, z, 4)[: MAX_AXES.lasting]).tanh())
        changes.append((mean(newest, at, 2) - mean(oldest, at, 2)).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS))
        ends |= {len(oldest), len(newest)}
    return torch.stack(levels), torch.stack(changes), ends


@pytest.mark.parametrize("seed", range(5))
def test_level_and_change_equal_slow_ones(make_graphs, seed):
    graphs = make_graphs(seed, pictures=5)
    encode, basis = laid(graphs)
    level, change = level_and_change(encode, graphs)
    slow_level, slow_change, ends = slowly(graphs, basis)
    torch.testing.assert_close(level, slow_level)
    torch.testing.assert_close(change, slow_change)
    assert max(ends) > 1, "some of one moment"
    assert change.abs().max() > 0.1


def test_of_one_picture_the_change_is_nothing_and_of_none_the_level_too(make_graphs):
    graphs = make_graphs(0, pictures=5)
    encode, _ = laid(graphs)
    first = torch.cat([graphs[KIND].owner[:1] * 0 - 1, graphs[KIND].owner[:-1]]) != graphs[KIND].owner
    kept = {f: getattr(graphs[KIND], f)[first] for f in vars(graphs[KIND]) if f != "ptr"}
    ptr = torch.cat([torch.zeros(1).long(), torch.bincount(kept["owner"], minlength=6).cumsum(0)])
    one = replace(graphs, nodes={**graphs.nodes, KIND: Nodes(ptr=ptr, **kept)})
    level, change = level_and_change(encode, one)
    has = ptr.diff() > 0
    assert not change.any() and level[has].any(1).all() and not level[~has].any() and 0 < has.sum() < 6
    nobody = replace(graphs, nodes={kind: n for kind, n in graphs.nodes.items() if kind != KIND})
    assert not torch.cat(level_and_change(encode, nobody), 1).any()
    other = replace(one[KIND], vector=torch.ones(len(one[KIND]), 7))
    foreign = replace(one, nodes={**one.nodes, KIND: other})
    assert not torch.cat(level_and_change(encode, foreign), 1).any(), "of another encoder"


def test_alone_or_together(make_graphs, one):
    for seed in range(3):
        graphs = make_graphs(seed, asks=8, nobody=(2,), pictures=5)
        encode, _ = laid(graphs)
        together = encode.last_observation(graphs)
        assert encode.vocabulary.running and together.shape[1] == sum(encode.groups)
        for ask in range(len(graphs)):
            alone = encode.last_observation(one(graphs, ask))[0]
            torch.testing.assert_close(alone, together[ask], rtol=1e-5, atol=1e-5)
