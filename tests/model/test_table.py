"""The table of all nodes: what stands in it, row by row; and its parts."""

import math
from dataclasses import fields, replace

import pytest
import torch

from gnnpatient.errors import InputError
from gnnpatient.graphs import Graphs
from gnnpatient.model.basis import fit_bases
from gnnpatient.model.table import BETWEEN_ROWS, FEATURES, NodeTable, code_names, tabulate
from gnnpatient.model.vocabulary import MAX_DEVIATIONS, Vocabulary, fit_vocabulary


def columns(table: NodeTable) -> dict[str, torch.Tensor]:
    return {f.name: getattr(table, f.name) for f in fields(table) if f.name != "names"}


def same(a: NodeTable, b: NodeTable) -> None:
    assert a.names == b.names
    for name, column in columns(a).items():
        assert torch.equal(column, getattr(b, name)), name


def made(graphs: Graphs) -> tuple[NodeTable, Vocabulary]:
    bases = fit_bases(graphs)
    vocabulary = fit_vocabulary(graphs, bases)
    return tabulate(graphs, vocabulary, bases), vocabulary


def standard(value: float, mean: float, std: float) -> float:
    return max(-MAX_DEVIATIONS, min(MAX_DEVIATIONS, (value - mean) / std))


@pytest.mark.parametrize("seed", range(3))
def test_a_row_holds_what_its_node_holds(make_graphs, seed):
    graphs = make_graphs(seed, asks=7, nobody=(0, 4))
    table, vocabulary = made(graphs)
    names, clock = code_names(vocabulary), vocabulary.times["timepoint"]
    found = []
    for i in range(table.rows):
        kind, code = names[table.code[i]]
        found.append((int(table.owner[i]), kind, code, *(round(x, 3) for x in table.x[i].tolist())))
    wanted = []
    for kind, nodes in ((kind, graphs[kind]) for kind in vocabulary.codes):
        for i in range(len(nodes)):
            code = int(nodes.code[i])
            scale, value = vocabulary.values[kind], float(nodes.value[i])
            given = math.isfinite(value) and code > 0
            if given and scale.log[code]:
                value = math.log(value)
            z = standard(value, scale.mean[code], scale.std[code]) if given else 0.0
            age, lasts = float(nodes.age[i]), float(nodes.duration[i])
            times = [
                standard(math.log1p(age), clock.mean[0], clock.std[0]),
                standard(age / 365.25, clock.mean[1], clock.std[1]),
            ]
            if lasts:
                times += [
                    standard(math.log1p(lasts), clock.mean[0], clock.std[0]),
                    standard(lasts / 365.25, 0.0, clock.std[1]),
                ]
            row = [z, float(given), float(nodes.bound[i]), float(nodes.open[i]), *times]
            row += [0.0] * (len(FEATURES) - len(row))
            name = vocabulary.codes[kind][code]
            wanted.append((int(nodes.owner[i]), kind, name, *(round(x, 3) for x in row)))
    assert len(found) == len(wanted)
    for a, b in zip(sorted(found), sorted(wanted), strict=True):
        assert a[:3] == b[:3] and a[3:] == pytest.approx(b[3:], abs=2e-3)
    assert not table.x.isnan().any()


def test_rows_are_in_order_of_time_and_patient(graphs):
    table, _ = made(graphs)
    assert (table.owner.diff() >= 0).all()
    inner = table.owner.diff() == 0
    age = table.x[:, FEATURES.index("log_age")].diff()
    assert (age[inner] <= 0).all() and (age < 0).any()
    points = table.timepoint_owner.diff() == 0
    assert (table.timepoint_x.diff(dim=0)[points] <= 0).all()


def test_edges_have_the_change_in_the_codes_own_scale_and_the_gap(make_graphs):
    graphs = make_graphs(1, asks=9)
    table, vocabulary = made(graphs)
    clock, count = vocabulary.times["timepoint"], dict.fromkeys(BETWEEN_ROWS, 0)
    wanted = []
    for (one, name, other), edge in graphs.edges.items():
        if name not in vocabulary.relations or other == "timepoint":
            continue
        a, b = graphs[one], graphs[other]
        za, zb = (
            vocabulary.values[kind].apply(n.value.masked_fill(n.code == 0, torch.nan), n.code)
            for kind, n in ((one, a), (other, b))
        )
        for i, j in edge.T.tolist():
            count[name] += 1
            gap, code = float(a.age[i] - b.age[j]), int(b.code[j])
            change = torch.tensor(torch.nan)
            if name == "during":
                change = za[i]
            elif name in ("same", "first"):
                scale = vocabulary.changes if name == "same" else vocabulary.drifts
                change = ((zb[j] - za[i]) / scale[one].std[code]).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
            given = bool(change.isfinite())
            wanted.append(
                (
                    name,
                    int(b.owner[j]),
                    round(float(change) if given else 0.0, 3),
                    float(given),
                    round(standard(math.log1p(gap), clock.mean[0], clock.std[0]), 3),
                    round(standard(gap / 365.25, 0.0, clock.std[1]), 3),
                )
            )
    assert min(count[name] for name in vocabulary.relations) > 3
    found = [
        (table.names[r], int(table.owner[j]), *(round(x, 3) for x in attribute[1:]))
        for r, j, attribute in zip(table.relation, table.target, table.attribute.tolist(), strict=True)
    ]
    for a, b in zip(sorted(found), sorted(wanted), strict=True):
        assert a[:2] == b[:2] and a[2:] == pytest.approx(b[2:], abs=2e-3)
    assert (table.attribute[:, 0] == 1).all() and (table.target.diff() >= 0).all()


def test_the_share_is_one_over_the_edges_and_before_the_visit_of_the_predecessor(make_graphs):
    table, _ = made(make_graphs(2, asks=9, pictures=5))
    before = torch.full((table.rows,), -1)
    for e in range(len(table.source)):
        alike = (table.target == table.target[e]) & (table.relation == table.relation[e])
        assert float(table.share[e]) == pytest.approx(1 / int(alike.sum()))
        if table.names[table.relation[e]] == "same":
            before[table.target[e]] = table.timepoint[table.source[e]]
    assert torch.equal(table.before, before) and (before >= 0).any()
    assert (table.share < 1).any(), "several rows of one moment"


@pytest.mark.parametrize("pictures", [0, 5])
def test_a_landmark_taken_out_is_the_landmark_alone(make_graphs, one, pictures):
    graphs = make_graphs(4, asks=8, nobody=(0, 3, 7), pictures=pictures)
    bases = fit_bases(graphs)
    vocabulary = fit_vocabulary(graphs, bases)
    table = tabulate(graphs, vocabulary, bases)
    alone = [tabulate(one(graphs, i), vocabulary, bases) for i in range(8)]
    assert (table.vector.shape[1] > 0) == bool(pictures)
    for i in range(8):
        same(table.take(torch.tensor([i])), alone[i])
    order = [5, 2, 2, 0, 7, 1]
    same(table.take(torch.tensor(order)), NodeTable.cat([alone[i] for i in order]))
    same(NodeTable.cat(alone), table)
    same(table.take(torch.arange(8)), table)
    assert len(table.take(torch.tensor([], dtype=torch.long))) == 0


def test_rows_left_out_take_their_edges_along(make_graphs):
    graphs = make_graphs(4, asks=8)
    table, _ = made(graphs)
    same(table.keep(torch.ones(table.rows, dtype=torch.bool)), table)
    kept = torch.rand(table.rows, generator=torch.Generator().manual_seed(0)) < 0.6
    less = table.keep(kept)
    old = kept.nonzero()[:, 0]
    assert torch.equal(less.x, table.x[kept]) and torch.equal(less.owner, table.owner[kept])
    stay = kept[table.source] & kept[table.target]
    assert torch.equal(old[less.source], table.source[stay]) and torch.equal(
        old[less.target], table.target[stay]
    )
    assert torch.equal(less.relation, table.relation[stay])
    for e in range(len(less.source)):
        alike = (less.target == less.target[e]) & (less.relation == less.relation[e])
        assert float(less.share[e]) == pytest.approx(1 / int(alike.sum()))
    assert torch.equal(less.series_code[less.series], less.code) and len(less.series.unique()) == len(
        less.series_code
    )
    assert torch.equal(less.series_owner[less.series], less.owner)
    for i in range(8):
        same(less.take(torch.tensor([i])), table.take(torch.tensor([i])).keep(kept[table.owner == i]))
    none = table.keep(torch.zeros(table.rows, dtype=torch.bool))
    assert none.rows == len(none.source) == len(none.series_code) == 0 and len(none) == 8


def test_relations_can_be_left_out(graphs):
    table, _ = made(graphs)
    less = table.restrict(("next", "same"))
    assert less.names == ("same", "next") and set(less.relation.tolist()) == {0, 1}
    for name in less.names:
        for part in ("source", "target", "attribute"):
            assert torch.equal(getattr(less.relations[name], part), getattr(table.relations[name], part))
    assert (table.restrict(("next",)).before < 0).all() and table.restrict(BETWEEN_ROWS) is table


def test_relations_join_rows_timepoints_and_patients(graphs):
    table, _ = made(graphs)
    relations, rows, points = table.relations, table.rows, len(table.timepoint_x)
    at, of, later = relations["at"], relations["of"], relations["next_timepoint"]
    assert at.source.tolist() == list(range(rows)) and torch.equal(at.target - rows, table.timepoint)
    assert torch.equal(of.target - rows - points, table.timepoint_owner)
    assert torch.equal(later.target - later.source, torch.ones_like(later.source))
    edge = graphs.edges["timepoint", "of", "patient"]
    assert len(of.source) == edge.shape[1] and table.nodes == rows + points + len(graphs)


def test_names_rule_not_their_numbers(graphs):
    """The same cohort with its codes, levels and numbers in another order, and one code more."""
    table, vocabulary = made(graphs)
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
    same(tabulate(other, vocabulary), table)


def test_an_unseen_code_is_other_and_an_unseen_level_too(graphs):
    _, vocabulary = made(graphs)
    renamed = replace(graphs, codes={**graphs.codes, "drug": ("other", "b")}, levels={"sex": ("x", "y")})
    nodes = replace(graphs["drug"], code=torch.zeros_like(graphs["drug"].code))
    others = replace(graphs, nodes={**graphs.nodes, "drug": nodes})
    assert torch.equal(tabulate(renamed, vocabulary).code, tabulate(others, vocabulary).code)
    category = graphs.statics.category[:, 0]
    assert tabulate(renamed, vocabulary).level[:, 0].tolist() == [1 if c < 0 else 0 for c in category]
    assert tabulate(graphs, vocabulary).level[:, 0].tolist() == [1 if c < 0 else c + 2 for c in category]


def test_kinds_may_lack_or_abound(graphs):
    _, vocabulary = made(graphs)
    fewer = replace(
        graphs,
        nodes={kind: n for kind, n in graphs.nodes.items() if kind != "lab"},
        edges={edge: i for edge, i in graphs.edges.items() if "lab" not in edge},
        numbers=(),
        statics=replace(graphs.statics, number=graphs.statics.number[:, :0]),
    )
    table = tabulate(fewer, vocabulary)
    assert (table.kind != 0).all() and not table.static[:, 2:].any()
    less = tabulate(graphs, fit_vocabulary(fewer))
    assert less.rows == table.rows and less.static.shape == (len(graphs), 2)


def test_a_vector_needs_its_basis_and_one_of_another_encoder_is_nothing(make_graphs):
    graphs = make_graphs(0, asks=12, pictures=5)
    bases = fit_bases(graphs)
    vocabulary = fit_vocabulary(graphs, bases)
    with pytest.raises(InputError, match=r"image\.ct"):
        tabulate(graphs, vocabulary)
    table = tabulate(graphs, vocabulary, bases)
    has = table.kind == 1
    assert table.vector[has].any(1).all() and not table.vector[~has].any()
    assert table.vector.abs().max() <= MAX_DEVIATIONS
    other = replace(graphs["image.ct"], vector=torch.ones(len(graphs["image.ct"]), 7))
    foreign = replace(graphs, nodes={**graphs.nodes, "image.ct": other})
    assert not tabulate(foreign, vocabulary, bases).vector.any()


def test_a_series_is_of_a_code_or_of_an_object(graphs):
    table, _ = made(graphs)
    assert torch.equal(table.series_code[table.series], table.code)
    pairs = set(zip(table.owner.tolist(), table.code.tolist(), strict=True))
    assert len(pairs) == len(table.series_code)
    lab = graphs["lab"]
    track = torch.arange(len(lab), dtype=torch.int32) % 2
    tracked = replace(graphs, nodes={**graphs.nodes, "lab": replace(lab, track=track)})
    table, _ = made(tracked)
    triples = {
        (int(n.owner[i]), kind, int(n.code[i]), int(n.track[i]))
        for kind, n in tracked.nodes.items()
        if kind != "timepoint"
        for i in range(len(n))
    }
    assert len(triples) == len(table.series_code)


def test_the_size_and_the_latest_row_of_each_series(make_graphs):
    table, _ = made(make_graphs(2, asks=9))
    kept = torch.rand(table.rows, generator=torch.Generator().manual_seed(0)) < 0.6
    for one in (table, table.keep(kept), table.take(torch.tensor([8, 3, 3]))):
        for series in range(len(one.series_code)):
            rows = (one.series == series).nonzero()[:, 0]
            assert int(one.series_size[series]) == len(rows) and int(one.latest[series]) == int(rows[-1])
