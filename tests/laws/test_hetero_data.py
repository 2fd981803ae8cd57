"""Law 2 through PyG's own loader: no node is lost or wired to another patient, alone or in any batch."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

# (patient, quarter of a day): also patients without a row, days before and after all rows, and repeats
some_landmarks = st.lists(st.tuples(st.integers(0, 29), st.integers(-4, 120)), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def cohort():
    from gnnpatient.testing import tiny_cohort

    return tiny_cohort(30)


@pytest.fixture(scope="module")
def network(cohort):
    """A fixed random network of PyG's layers: two rounds of messages, then each type is pooled."""
    from torch_geometric.nn import HeteroConv, SAGEConv, global_add_pool

    torch.manual_seed(0)
    width = {kind: len(names) for kind, names in cohort.at(0).feature_names().items()}
    layers = [
        HeteroConv({(s, r, t): SAGEConv((size[s], size[t]), 8) for s, r, t in cohort.spec.edge_types})
        for size in (width, dict.fromkeys(width, 8))
    ]

    def answer(batch):
        x = {kind: x.double() / 10 for kind, x in batch.x_dict.items()}
        for layer in layers:
            x = {kind: x.tanh() for kind, x in layer.double()(x, batch.edge_index_dict).items()}
        size = batch.num_graphs
        return sum(global_add_pool(x[kind], batch[kind].batch, size) for kind in sorted(x)).detach()

    return answer


def ask(cohort, drawn):
    patient, quarter = np.array(drawn, dtype=np.int64).T
    return cohort.at(quarter / 4, patient=cohort.ids[patient])


@settings(max_examples=6)
@given(some_landmarks, st.integers(2, 4))
def test_alone_or_in_any_batch_of_the_loader(cohort, network, drawn, size):
    from torch_geometric.loader import DataLoader

    graphs = ask(cohort, drawn).hetero_data()
    alone = torch.cat([network(batch) for batch in DataLoader(graphs, batch_size=1)])
    together = torch.cat([network(batch) for batch in DataLoader(graphs, batch_size=size)])
    backward = torch.cat([network(batch) for batch in DataLoader(graphs[::-1], batch_size=len(graphs))])
    assert torch.allclose(alone, together, rtol=1e-9, atol=1e-12)
    assert torch.allclose(alone, backward.flip(0), rtol=1e-9, atol=1e-12)


def test_the_law_sees_what_pyg_loses_where_a_type_is_missing(cohort, network):
    """As one builds HeteroData by hand: without the types that a patient lacks."""
    from torch_geometric.data import Batch, HeteroData

    def only_present(data):
        out = HeteroData()
        for kind in data.node_types:
            if len(data[kind].x):
                out[kind].x = data[kind].x
        for edge_type in data.edge_types:
            if {edge_type[0], edge_type[2]} <= set(out.node_types):
                out[edge_type].edge_index = data[edge_type].edge_index
        return out

    whole = cohort.at(3).hetero_data()
    whole.sort(key=lambda data: -sum(len(data[kind].x) > 0 for kind in data.node_types))
    gaps, right = (Batch.from_data_list(each) for each in (list(map(only_present, whole)), whole))
    assert gaps.node_types == right.node_types  # the first graph has every type, so that none is lost
    assert all(torch.equal(gaps[kind].x, right[kind].x) for kind in right.node_types)  # nor is a row
    wrong = [(gaps[kind].batch != right[kind].batch).float().mean() for kind in ("lab", "vital", "drug")]
    assert max(wrong) > 0.1  # but they are with other patients
    alone = torch.cat([network(Batch.from_data_list([data])) for data in whole])
    assert torch.allclose(alone, network(right), rtol=1e-9, atol=1e-12)
    assert not torch.allclose(alone, network(gaps), rtol=1e-3)


def test_a_batch_is_the_packed_graphs(cohort):
    from torch_geometric.data import Batch

    from gnnpatient import build_graphs

    X = cohort.landmarks(times=[-1, 0, 2.5, 9])
    ours, theirs = build_graphs(X).hetero_data(), Batch.from_data_list(X.hetero_data())
    assert theirs.validate() and theirs.node_types == ours.node_types and theirs.edge_types == ours.edge_types
    for kind in ours.node_types:
        for name in ("x", "batch") if kind in ("timepoint", "patient") else ("x", "code", "batch", "ptr"):
            assert torch.equal(ours[kind][name], theirs[kind][name]), (kind, name)
    for edge_type in ours.edge_types:
        both = [sorted(data[edge_type].edge_index.T.tolist()) for data in (ours, theirs)]
        assert both[0] == both[1], edge_type
        assert theirs[edge_type].edge_index.dtype == torch.int64
        assert ("edge_attr" in ours[edge_type]) == ("edge_attr" in theirs[edge_type])
        if "edge_attr" in ours[edge_type]:
            both = [
                sorted(torch.cat([data[edge_type].edge_index.T, data[edge_type].edge_attr], 1).tolist())
                for data in (ours, theirs)
            ]
            assert both[0] == both[1] and ours[edge_type].edge_attr.isfinite().all(), edge_type


def test_every_type_is_there_also_without_rows(cohort):
    nobody, other = cohort.at([-5, 12], patient=[cohort.ids[-1], cohort.ids[0]]).hetero_data()
    assert nobody.node_types == other.node_types == ["patient", *cohort.spec.nodes, "timepoint"]
    assert nobody.edge_types == other.edge_types == list(cohort.spec.edge_types)
    for kind in nobody.node_types:
        assert (len(nobody[kind].x) == 0) == (kind != "patient")
        for name in nobody[kind].keys():  # noqa: SIM118 - a store is no mapping
            assert nobody[kind][name].shape[1:] == other[kind][name].shape[1:]
            assert nobody[kind][name].dtype == other[kind][name].dtype
    assert all(nobody[edge_type].edge_index.shape == (2, 0) for edge_type in nobody.edge_types)
    assert "patient_id" not in nobody and "y" not in nobody
    assert nobody.is_undirected() and nobody.validate()
    assert cohort.at(1, patient=[]).hetero_data() == []


def test_a_graph_that_is_saved_holds_no_other_patient(cohort):
    graphs = cohort.at(5).followed("death").hetero_data("death")
    one, file = graphs[0], io.BytesIO()
    assert all(
        t.untyped_storage().nbytes() == t.numel() * t.element_size()
        for store in one.stores
        for t in store.values()
    )
    torch.save(one, file)
    alone = io.BytesIO()
    torch.save(cohort.at(5).followed("death")[:1].hetero_data("death")[0], alone)
    assert len(file.getvalue()) == len(alone.getvalue())


def test_the_target_is_the_outcome_and_stacks(cohort):
    from torch_geometric.loader import DataLoader

    X = cohort.landmarks(times=[0, 3]).followed("death")
    truth, batches = X.outcome("death"), list(DataLoader(X.hetero_data("death", ids=True), batch_size=7))
    y = torch.cat([batch.y for batch in batches])
    assert y.shape == (len(X), 2) and len(batches[0].y) == 7
    assert (y[:, 0].numpy() == truth["event"]).all()
    assert np.allclose(y[:, 1].numpy(), truth["time"])
    for name, dtype in (("event", torch.int64), ("time", torch.float32)):
        field = torch.cat([batch["patient"][name] for batch in batches])
        assert field.dtype == dtype and np.allclose(field.numpy(), truth[name])
    assert [name for batch in batches for name in batch.patient_id] == X.ids.tolist()


DIAGNOSIS = """
cohort = "c"
[patient]
table = "p.csv"
key = "pid"
number = ["weight"]
category = ["sex"]
[units]
crp = { to = "mg/L" }
[nodes.lab]
table = "lab.csv"
time = "day"
code = "code"
value = "value"
[nodes.drug]
table = "drug.csv"
time = "day"
until = "stop"
code = "drug"
[nodes.note]
table = "note.csv"
time = "day"
text = "text"
embed = "hashed"
[outcomes.kind]
kind = "diagnosis"
table = "p.csv"
column = "class"
known = "seen"
classes = { x = "first", y = "second", z = "third" }
"""


@pytest.fixture
def clinic(tmp_path):
    """Three patients with a diagnosis after day 5; the fourth has his already."""
    from gnnpatient import read_cohort

    tables = {
        "p": "pid,class,seen,weight,sex\na,x,9,70,f\nb,y,9,,m\nc,z,9,80,\nd,x,2,60,f\n",
        "lab": "pid,day,code,value\na,1,crp,<5\na,2,hb,\nb,0,hb,12\n",
        "drug": "pid,day,stop,drug\na,3,9,x\na,1,2,x\n",
        "note": "pid,day,text\na,4,a small effusion\n",
    }
    for name, text in tables.items():
        (tmp_path / f"{name}.csv").write_text(text)
    (tmp_path / "c.toml").write_text(DIAGNOSIS)
    return read_cohort(tmp_path / "c.toml", tmp_path)


def test_features_are_what_is_known(clinic):
    a, b, c = clinic.at(5, patient=["a", "b", "c"]).hetero_data()
    names = clinic.at(5).feature_names()
    assert names["lab"] == ("value", "given", "below", "above", "age", "open", "duration")
    assert names["patient"] == ("day", "weight", "weight.given", "sex=f", "sex=m")
    assert a["lab"].x.tolist() == [[5, 1, 1, 0, 4, 0, 0], [0, 0, 0, 0, 3, 0, 0]]
    assert [clinic.codes["lab"][i] for i in a["lab"].code] == ["crp", "hb"]
    assert a["drug"].x[:, 4:].tolist() == [[4, 0, 1], [2, 1, 2]]  # age, whether it runs, for how long
    assert a["timepoint"].x.tolist() == [[4], [3], [2], [1]]
    assert [graph["patient"].x.tolist() for graph in (a, b, c)] == [
        [[5, 70, 1, 1, 0]], [[5, 0, 0, 0, 1]], [[5, 80, 1, 0, 0]]
    ]  # fmt: skip
    vector = clinic.vectors["note"][clinic.events["note"].vector[0]]
    assert names["note"][:8][-1] == "vector.0" and len(names["note"]) == 7 + len(vector)
    assert np.array_equal(a["note"].x[0, 7:].numpy(), vector) and b["note"].x.shape == (0, len(names["note"]))


def test_the_class_of_a_diagnosis_is_y(clinic):
    graphs = clinic.at(5, patient=["a", "b", "c"]).hetero_data("kind")
    assert torch.cat([graph.y for graph in graphs]).tolist() == [0, 1, 2]
    assert [int(graph["patient"].label) for graph in graphs] == [0, 1, 2]
    assert "time" not in graphs[0]["patient"]
    with pytest.raises(ValueError, match="1 of 4 landmarks are not at risk of 'kind'"):
        clinic.at(5).hetero_data("kind")


def test_codes_and_levels_may_be_those_of_other_patients(clinic):
    """A network learns the codes of its training patients; what they lack is other everywhere."""
    from gnnpatient import build_graphs
    from gnnpatient.graphs import frequent

    names = frequent(build_graphs(clinic.at(5, patient="b")), 1)  # who has hb, and is m
    a, b = clinic.at(5, patient=["a", "b"]).hetero_data(names=names)
    assert names.codes["lab"] == ("other", "hb") and a["lab"].code.tolist() == [0, 1]
    assert a["lab"].x[0, :2].tolist() == [0, 0]  # a value of another code says nothing
    columns = clinic.at(5).feature_names(names)["patient"]
    assert columns[-2:] == ("sex=rare or unknown", "sex=m")
    assert a["patient"].x[0, -2:].tolist() == [1, 0] and b["patient"].x[0, -2:].tolist() == [0, 1]
