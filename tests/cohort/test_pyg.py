"""What of PyG works on these graphs: each line of the table in docs/how-to/your-network.md."""

import pytest
import torch
from torch import nn


@pytest.fixture(scope="module")
def graphs(tiny):
    return tiny.landmarks(range(24), times=[0, 3, 8]).followed("death").hetero_data("death")


@pytest.fixture(scope="module")
def whole(graphs):
    from torch_geometric.data import Batch

    return Batch.from_data_list(graphs)


class TwoRounds(nn.Module):
    def __init__(self):
        from torch_geometric.nn import SAGEConv

        super().__init__()
        self.one, self.two = SAGEConv((-1, -1), 8), SAGEConv((-1, -1), 8)

    def forward(self, x, edge_index):
        return self.two(self.one(x, edge_index).relu(), edge_index)


def by_to_hetero(whole, width):
    from torch_geometric.nn import to_hetero

    return to_hetero(TwoRounds(), whole.metadata())


def by_hetero_conv(whole, width):
    from torch_geometric.nn import GATv2Conv, HeteroConv

    size = lambda edge_type: (width[edge_type[0]], width[edge_type[2]])  # noqa: E731
    return HeteroConv({e: GATv2Conv(size(e), 8, add_self_loops=False) for e in whole.edge_types})


def by_hgt_conv(whole, width):
    from torch_geometric.nn import HGTConv

    return HGTConv(width, 8, whole.metadata(), heads=2)


@pytest.mark.parametrize("make", [by_to_hetero, by_hetero_conv, by_hgt_conv])
def test_networks_of_pyg_answer_alone_as_together(graphs, whole, make):
    """Without a warning: no type lacks an edge type that leads to it."""
    from torch_geometric.loader import DataLoader

    torch.manual_seed(0)
    network = make(whole, {kind: x.shape[1] for kind, x in whole.x_dict.items()}).double()
    some = graphs[:: len(graphs) // 8]

    def answers(size):
        with torch.no_grad():
            return torch.cat(
                [
                    network({k: x.double() for k, x in batch.x_dict.items()}, batch.edge_index_dict)[
                        "patient"
                    ]
                    for batch in DataLoader(some, batch_size=size)
                ]
            )

    assert answers(8).std(0).min() > 1e-3  # they differ between patients
    assert torch.allclose(answers(1), answers(8), rtol=1e-9, atol=1e-9)


def test_a_batch_gives_its_graphs_back(graphs, whole):
    back = whole.to_data_list()
    assert len(back) == len(graphs)
    for one, other in zip(graphs, back, strict=True):
        assert all(torch.equal(one[kind].x, other[kind].x) for kind in one.node_types)
        assert all(torch.equal(one[e].edge_index, other[e].edge_index) for e in one.edge_types)


def test_an_in_memory_dataset_batches_alike(graphs, whole, tmp_path, capfd):
    from torch_geometric.data import InMemoryDataset
    from torch_geometric.loader import DataLoader

    class Stored(InMemoryDataset):
        def __init__(self, root):
            super().__init__(root)
            self.load(self.processed_paths[0])

        @property
        def processed_file_names(self):
            return "graphs.pt"

        def process(self):
            self.save(graphs, self.processed_paths[0])

    batch = next(iter(DataLoader(Stored(str(tmp_path)), batch_size=len(graphs))))
    assert all(torch.equal(batch[kind].x, whole[kind].x) for kind in whole.node_types)
    assert all(torch.equal(batch[e].edge_index, whole[e].edge_index) for e in whole.edge_types)
    assert torch.equal(batch.y, whole.y)


def test_to_undirected_has_nothing_to_add_but_takes_the_direction_of_time(whole):
    import torch_geometric.transforms as T

    assert whole.is_undirected()  # each edge has its reverse already
    forward, same = ("timepoint", "next", "timepoint"), T.ToUndirected()(whole.clone())
    earlier, later = whole[forward].edge_index
    assert (whole["timepoint"].x[earlier] > whole["timepoint"].x[later]).all()  # age: from earlier to later
    earlier, later = same[forward].edge_index
    assert not (same["timepoint"].x[earlier] > same["timepoint"].x[later]).all()


@pytest.mark.filterwarnings("ignore:Sparse")
def test_meta_paths_stay_within_a_patient(graphs, whole):
    import torch_geometric.transforms as T
    from torch_geometric.data import Batch

    add = T.AddMetaPaths([[("lab", "at", "timepoint"), ("timepoint", "of", "patient")]])
    path = ("lab", "metapath_0", "patient")
    lab, patient = add(whole.clone())[path].edge_index
    assert len(lab) == whole["lab"].num_nodes and torch.equal(whole["lab"].batch[lab], patient)
    one_by_one = Batch.from_data_list([add(graph.clone()) for graph in graphs])[path].edge_index
    assert sorted(one_by_one.T.tolist()) == sorted(torch.stack([lab, patient]).T.tolist())


class Pooled(nn.Module):
    """Every node has a part in the answer, which PyG's explainers ask for."""

    def __init__(self, whole):
        from torch_geometric.nn import HeteroConv, SAGEConv

        super().__init__()
        width = {kind: x.shape[1] for kind, x in whole.x_dict.items()}
        self.conv = HeteroConv({(s, r, t): SAGEConv((width[s], width[t]), 8) for s, r, t in whole.edge_types})
        self.risk = nn.Linear(8, 1)

    def forward(self, x, edge_index, batch):
        from torch_geometric.nn import global_mean_pool

        x, size = self.conv(x, edge_index), len(x["patient"])
        return self.risk(sum(global_mean_pool(x[kind].tanh(), batch[kind], size) for kind in sorted(x)))


def explained(network, algorithm, data, index=None):
    from torch_geometric.explain import Explainer

    explainer = Explainer(
        network,
        algorithm,
        explanation_type="model",
        node_mask_type="attributes",
        edge_mask_type="object",
        model_config={"mode": "regression", "task_level": "graph", "return_type": "raw"},
    )
    return explainer(data.x_dict, data.edge_index_dict, index=index, batch=data.batch_dict)


@pytest.fixture(scope="module")
def pooled(whole):
    torch.manual_seed(0)
    return Pooled(whole).eval()


@pytest.fixture(scope="module")
def richest(graphs):
    """The landmark with most nodes."""
    return max(range(len(graphs)), key=lambda i: sum(len(graphs[i][kind].x) for kind in graphs[i].node_types))


def owners(explanation, whole):
    """Landmarks with a share in an explanation."""
    masks = explanation.node_mask_dict
    return {i for kind, mask in masks.items() for i in whole[kind].batch[mask.abs().sum(1) > 0].tolist()}


def test_gnn_explainer_explains_one_landmark_of_a_batch_by_its_own_nodes(graphs, whole, pooled, richest):
    from torch_geometric.data import Batch
    from torch_geometric.explain import GNNExplainer

    explanation = explained(pooled, GNNExplainer(epochs=3), whole, index=richest)
    assert owners(explanation, whole) == {richest}
    assert explanation["lab"].node_mask.shape == whole["lab"].x.shape
    bare = next(graph for graph in graphs if not graph["lab"].num_nodes)
    with pytest.raises(RuntimeError, match=r"max\(\)"):  # why a batch: it needs an edge of every type
        explained(pooled, GNNExplainer(epochs=3), Batch.from_data_list([bare]))


def test_captum_explains_one_landmark_by_its_own_nodes(whole, pooled, richest):
    pytest.importorskip("captum")
    from torch_geometric.explain import CaptumExplainer

    explanation = explained(pooled, CaptumExplainer("IntegratedGradients"), whole, index=richest)
    assert owners(explanation, whole) == {richest}


@pytest.mark.slow
def test_loader_with_workers(graphs, whole):
    from torch_geometric.loader import DataLoader

    batches = list(DataLoader(graphs, batch_size=16, num_workers=2))
    assert torch.equal(torch.cat([batch["lab"].x for batch in batches]), whole["lab"].x)
