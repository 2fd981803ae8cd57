"""The same records for people and other tools."""

import json

import networkx as nx
import numpy as np
import polars as pl
import pytest

from gnnpatient.errors import InputError

DAY = 86_400


@pytest.fixture(scope="module")
def who(tiny):
    """A patient who has rows of every kind, with a missing value."""
    rows = np.min([np.diff(e.ptr) for e in tiny.events.values()], axis=0)
    return str(tiny.ids[rows.argmax()])


def test_table_has_every_row(tiny, who):
    table = tiny.patient(who).table()
    position = tiny.positions(who)[0]
    for kind in tiny.spec.nodes:
        e, mine = tiny.events[kind], table.filter(pl.col("kind") == kind)
        rows = slice(e.ptr[position], e.ptr[position + 1])
        assert mine["known"].to_list() == (e.known[rows] / DAY).tolist()
        assert mine["value"].is_null().sum() == np.isnan(e.value[rows]).sum()
    assert table["known"].is_sorted() and set(table["unit"]) <= {"", "mg/dL", "mmol/L", "mEq/L", "1/min", "C"}
    nobody = tiny.patient("p079")
    assert len(nobody.table()) == 0 and nobody.table().columns == table.columns and nobody.last_known == 0
    with pytest.raises(InputError, match="unknown patient"):
        tiny.patient("p999")


def test_networkx_is_the_graph_as_of(tiny, who):
    from gnnpatient import build_graphs

    patient = tiny.patient(who)
    for at in (0, 2.5, None):
        graph = patient.to_networkx(at=at)
        day = patient.last_known if at is None else at
        graphs = build_graphs(tiny.at(day, patient=who))
        assert len(graph) == 1 + sum(map(len, graphs.nodes.values()))
        assert graph.number_of_edges() == sum(edge.shape[1] for edge in graphs.edges.values()) / 2
        for kind, nodes in graphs.nodes.items():
            for i, value in enumerate(nodes.value.tolist()):
                held = graph.nodes[f"{kind}:{i}"]
                assert held["kind"] == kind and held["known"] <= day and held["day"] <= held["known"]
                assert ("value" in held) == np.isfinite(value) and None not in held.values()
                assert kind == "timepoint" or held["code"] == tiny.codes[kind][nodes.code[i]]
        for (source, rule, target), edge in graphs.edges.items():
            if not rule.startswith("rev_"):
                assert all(graph.has_edge(f"{source}:{i}", f"{target}:{j}", rule) for i, j in edge.T.tolist())


def test_exports_parse_back(tiny, who):
    patient = tiny.patient(who)
    graph = patient.to_networkx(at=3)
    back = {
        "graphml": nx.parse_graphml(patient.export("graphml", at=3), force_multigraph=True),
        "json": nx.node_link_graph(json.loads(patient.export("json", at=3)), edges="edges"),
    }
    for again in back.values():
        assert dict(again.nodes(data=True)) == dict(graph.nodes(data=True))
        assert sorted(again.edges(keys=True)) == sorted(graph.edges(keys=True))
    with pytest.raises(InputError, match="export format 'grahpml'; did you mean 'graphml'"):
        patient.export("grahpml")


def test_frame_is_the_last_value_its_age_and_a_count(tiny):
    X = tiny.landmarks(times=[1, 6.5])
    frame = X.to_frame()
    assert frame["id"].to_list() == X.ids.tolist() and frame["at"].to_list() == X.days.tolist()
    rows = {str(id): tiny.patient(id).table() for id in tiny.ids}
    for row in frame.iter_rows(named=True):
        seen = rows[row["id"]].filter(pl.col("known") <= row["at"])
        for kind in tiny.spec.nodes:
            for code in tiny.codes[kind][1:]:
                mine = seen.filter((pl.col("kind") == kind) & (pl.col("code") == code))
                assert row[f"{kind}.{code}.n"] == len(mine)
                age = row["at"] - mine["day"].max() if len(mine) else None
                assert row[f"{kind}.{code}.age"] == (None if age is None else pytest.approx(age, abs=1e-5))
                given = mine.drop_nulls("value")
                if not len(given):
                    assert row[f"{kind}.{code}"] is None
                    continue
                latest = given.filter(pl.col("day") == given["day"].max())
                assert row[f"{kind}.{code}"] == pytest.approx(latest["value"].mean(), rel=1e-5)
    assert frame["age"].null_count() == 2 * np.isnan(tiny.number).sum()
    assert frame["sex"].null_count() == 2 * (tiny.category < 0).sum()
    assert len(tiny.at(1, patient=[]).to_frame()) == 0
    for part in (X[:5], X[X.ids == "p079"], X[:0]):  # a few, who has no row, nobody
        assert part.to_frame().schema == frame.schema


def test_edges_are_cut_by_landmark_in_whatever_order_they_come(tiny):
    import torch

    from gnnpatient import build_graphs
    from gnnpatient.cohort.view import _cut

    graphs = build_graphs(tiny.at([4.0, 9.0], patient=["p001", "p002"]))
    edge, lab = graphs.edges["lab", "same", "lab"], graphs["lab"]
    attributes = graphs.edge_attributes["lab", "same", "lab"].nan_to_num(0.0)
    assert len(lab.owner[edge[0]].unique()) == 2
    every = torch.arange(edge.shape[1])
    cuts = [_cut(edge[:, o], attributes[o], lab.owner, lab.ptr, lab.ptr) for o in (every, every.flip(0))]
    for one, other in zip(*(zip(*cut, strict=True) for cut in cuts), strict=True):
        one, other = (sorted(torch.cat([ends.T, numbers], 1).tolist()) for ends, numbers in (one, other))
        assert one[0][0] == 0 and one == other
