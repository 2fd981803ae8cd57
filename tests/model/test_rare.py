"""Names, scales and axes of few patients are not learned; what they name goes to an ancestor or one token."""

from dataclasses import replace

import pytest
import torch

from gnnpatient.graphs import RARE, Graphs, Nodes, Statics, frequent, merge_codes
from gnnpatient.model.basis import Basis, fit_bases
from gnnpatient.model.encode import CodeEmbedding
from gnnpatient.model.table import code_names, tabulate
from gnnpatient.model.vocabulary import Scale, fit_vocabulary

DX = ("other", "a.1", "a.2", "b.1", "b.2", "c")
UP = ("other", "a", "all", "b")
PARENTS = {"a.1": ("a", "all"), "a.2": ("a", "all"), "b.1": ("b", "all"), "b.2": ("b", "all")}


def nodes_of(owner, code, value=None, asks=0, width=0) -> Nodes:
    owner, code = torch.tensor(owner, dtype=torch.long), torch.tensor(code, dtype=torch.long)
    n = len(owner)
    return Nodes(
        ptr=torch.cat([torch.zeros(1).long(), torch.bincount(owner, minlength=asks).cumsum(0)]),
        code=code,
        value=torch.full((n,), torch.nan) if value is None else torch.tensor(value, dtype=torch.float32),
        age=torch.ones(n),
        owner=owner,
        timepoint=owner,
        open=torch.zeros(n, dtype=torch.bool),
        row=torch.full((n,), -1),
        vector=torch.zeros(n, width),
    )


def graphs_of(held: dict[str, list[int]], sex=None, values=None) -> Graphs:
    """An ask a patient; `held`: who has each diagnosis. Each has one node of each ancestor of these."""
    asks = 1 + max(max(who) for who in held.values())
    rows = sorted((who, DX.index(code)) for code, all_of in held.items() for who in all_of)
    owner, code = [who for who, _ in rows], [c for _, c in rows]
    over = sorted({(who, UP.index(up)) for who, c in rows for up in PARENTS.get(DX[c], ())})
    pairs = [
        (i, over.index((who, UP.index(up))))
        for i, (who, c) in enumerate(rows)
        for up in PARENTS.get(DX[c], ())
    ]
    edge = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
    nodes = {
        "dx": nodes_of(owner, code, [float(10 * c) for c in code] if values is None else values, asks),
        "up": nodes_of([who for who, _ in over], [c for _, c in over], asks=asks),
        "timepoint": nodes_of(list(range(asks)), [0] * asks, asks=asks),
    }
    at = torch.arange(asks)
    edges = {
        ("dx", "at", "timepoint"): torch.stack([torch.arange(len(owner)), torch.tensor(owner)]),
        ("dx", "is_a", "up"): edge,
        ("up", "rev_is_a", "dx"): edge.flip(0),
        ("timepoint", "of", "patient"): torch.stack([at, at]),
    }
    category = torch.tensor([0] * asks if sex is None else sex)[:, None]
    statics = Statics(torch.zeros(asks, 0), category, torch.ones(asks))
    codes = {"dx": DX, "up": UP, "timepoint": ("other",)}
    return Graphs(nodes, edges, statics, codes, (), {"sex": ("f", "m", "x")})


def names(graphs: Graphs, kind: str = "dx") -> list[str]:
    return [graphs.codes[kind][c] for c in graphs[kind].code.tolist()]


TRAIN = {
    "a.1": [0, 1, 2],  # with a.2 five of them are below a
    "a.2": [3, 4],
    "b.1": [5, 6, 7, 8, 9],  # has its own name
    "b.2": [10, 11],  # two below b that b.1 does not name
    "c": [12, 13],  # above it is nothing
}


def test_a_rare_code_goes_to_the_nearest_ancestor_of_enough_else_to_one_token():
    graphs = graphs_of(TRAIN)
    kept = frequent(graphs, 5)
    assert kept.codes["dx"] == ("other", "b.1", "a") and kept.above["dx"] == ("a",)
    merged = kept.merge(graphs)
    assert sorted(set(names(merged))) == ["a", "b.1", "other"]
    assert [name for name in names(merged)] == ["a"] * 5 + ["b.1"] * 5 + ["other"] * 4, "no row is dropped"
    assert torch.equal(merged["dx"].value.isfinite(), torch.tensor([name == "b.1" for name in names(merged)]))
    again = kept.merge(graphs_of({"a.2": [0], "b.2": [1], "c": [2], "b.1": [3]}))
    assert names(again) == ["a", "other", "other", "b.1"], "in use as in fit"


def test_what_no_nearer_ancestor_takes_goes_further_up():
    few = {"a.1": [0, 1, 2], "b.1": [3, 4, 5]}
    assert frequent(graphs_of(few), 5).codes["dx"] == ("other", "all")
    assert names(frequent(graphs_of(few), 5).merge(graphs_of({"b.2": [0]}))) == ["all"]
    both = {"a.1": [0, 1, 2, 3], "a.2": [4, 5], "b.1": [6, 7, 8], "b.2": [9, 10, 11]}
    kept = frequent(graphs_of(both), 5)
    assert kept.above["dx"] == ("a", "b"), "nobody is left for their parent"
    assert frequent(graphs_of({"a.1": [0, 1], "b.1": [2]}), 5).codes["dx"] == ("other",)


def test_with_one_patient_every_name_stays():
    graphs = graphs_of(TRAIN)
    kept = frequent(graphs, 1)
    assert kept.codes == {"dx": DX, "up": UP} and kept.above == {}
    merged = merge_codes(graphs, kept.codes, kept.above)
    assert torch.equal(merged["dx"].code, graphs["dx"].code)
    assert torch.equal(merged["dx"].value, graphs["dx"].value)


def test_patients_are_counted_not_rows():
    graphs = graphs_of({"c": [0, 1, 2, 3]})
    twice = graphs_of({"c": [0, 0, 1, 1]})
    assert frequent(graphs, 3).codes["dx"] == ("other", "c")
    assert frequent(twice, 3).codes["dx"] == ("other",)


def test_a_rare_level_is_one_level_for_all():
    kept = frequent(graphs_of({"c": [7]}, sex=[0, 0, 0, 1, 1, 1, 2, -1]), 3)
    assert kept.levels == {"sex": ("f", "m")}
    merged = kept.merge(graphs_of({"c": [3]}, sex=[2, 1, -1, 0]))
    assert merged.levels == {"sex": (RARE, "f", "m")}
    assert merged.statics.category[:, 0].tolist() == [0, 2, -1, 1]


def test_a_code_called_other_is_itself():
    graphs = graphs_of(TRAIN)
    called = replace(graphs, codes={**graphs.codes, "dx": ("other", "a.1", "a.2", "other", "b.2", "c")})
    kept = frequent(called, 5)
    assert kept.codes["dx"] == ("other", "other", "a")
    assert kept.merge(called)["dx"].code.tolist() == [2] * 5 + [1] * 5 + [0] * 4


def test_the_network_sees_the_rare_token_without_a_value():
    graphs = graphs_of(TRAIN)
    assert fit_vocabulary(graphs, least=2).rare == ()
    vocabulary = fit_vocabulary(graphs, least=4)
    assert vocabulary.codes["dx"] == ("other", "b.1", "a") and vocabulary.rare == ("dx",)
    token = tabulate(graphs_of({"c": [0]}), vocabulary)
    assert token.code.tolist() == [0] and not token.x[:, :2].any()
    other = tabulate(graphs_of({"c": [0]}, values=[1e9]), vocabulary)
    assert torch.equal(other.x, token.x), "its value says nothing"
    assert tabulate(graphs_of({"b.1": [0]}), vocabulary).x[0, 1] == 1


def test_codes_below_an_ancestor_share_its_vector():
    vocabulary = fit_vocabulary(graphs_of(TRAIN), least=2)
    assert vocabulary.codes["dx"] == DX
    assert vocabulary.ancestors["dx"] == ((), ("a", "all"), ("a", "all"), ("all", "b"), ("all", "b"), ())
    assert vocabulary.ancestors["up"] == ((), ("a",), ("all",), ("b",))
    torch.manual_seed(0)
    embedding = CodeEmbedding(vocabulary, 64)
    vector = dict(zip(code_names(vocabulary), embedding(), strict=True))

    def alike(one, other):
        return float(torch.cosine_similarity(vector[one], vector[other], 0).detach())

    assert alike(("dx", "a.1"), ("dx", "a.2")) > 0.95 > 0.8 > alike(("dx", "a.1"), ("dx", "b.1")) > 0.2
    assert abs(alike(("dx", "a.1"), ("dx", "c"))) < 0.4 and alike(("dx", "a.1"), ("up", "a")) > 0.5
    sum((vector["dx", name] * 1.0).sum() for name in ("a.1", "a.2")).backward()
    assert embedding.own.grad.abs().max() < embedding.shared.grad.abs().max() / 10, (
        "and what one learns all learn"
    )


def test_a_scale_is_of_enough_patients_else_of_the_kind_without_them():
    owner = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7])
    code = torch.tensor([0, 0, 0, 0, 1, 2, 2, 2])
    value = torch.tensor([1.0, 2, 3, 4, 555, 10, 20, 30])
    scale = Scale.fit(value, code, 4, owner=owner, least=3, log=False)
    own = Scale.fit(value, code, 4, log=False)
    pool = Scale.fit(value[code != 1], torch.zeros(7).long(), 1, log=False)
    assert scale.mean == (own.mean[0], pool.mean[0], own.mean[2], pool.mean[0])
    assert scale.std == (own.std[0], pool.std[0], own.std[2], pool.std[0])
    moved = Scale.fit(value.where(code != 1, 7e5), code, 4, owner=owner, least=3, log=False)
    assert moved == scale, "nothing tells of the one"
    lonely = Scale.fit(value[:2], code[:2], 1, owner=owner[:2], least=3)
    assert (lonely.mean, lonely.std) == ((0.0,), (1.0,))
    together = Scale.fit(value, torch.arange(8), 8, owner=owner, least=3, log=False)
    assert together.mean == (float(value.mean()),) * 8
    crowd = Scale.fit(value[:4], code[:4], 1, owner=torch.zeros(4).long(), least=3)
    assert crowd.mean == (0.0,), "patients, not rows"


def vectors(owner, vector) -> Graphs:
    graphs = graphs_of({"c": owner})
    dx = replace(graphs["dx"], vector=vector, owner=torch.tensor(owner), age=torch.rand(len(owner)))
    return replace(graphs, nodes={**graphs.nodes, "dx": dx})


def test_axes_are_of_enough_patients_and_none_is_of_one():
    torch.manual_seed(0)
    cloud = torch.randn(40, 6)
    graphs = vectors(list(range(40)), cloud)
    assert set(fit_bases(graphs, 10)) == {"dx"} == set(fit_bases(graphs))
    few = vectors([i % 9 for i in range(40)], cloud)
    assert fit_bases(few, 10) == {} and set(fit_bases(few)) == {"dx"}
    far = cloud.clone()
    far[3] = torch.tensor([900.0, -900, 900, -900, 900, -900])  # one patient makes the first axis
    plain, safe = (Basis.fit(vectors(list(range(40)), far)["dx"], least) for least in (1, 10))
    direction = (far[3] - far.mean(0)) / (far[3] - far.mean(0)).norm()

    def along(basis: Basis) -> float:
        axes = basis.axes / basis.axes.norm(dim=0).clamp(min=1e-9)
        return float((direction @ axes).abs().max())

    assert along(plain) > 0.9 and along(safe) < 0.9
    word = torch.cat([cloud, torch.zeros(40, 2)], 1)
    word[:, 6], word[5, 7] = (torch.arange(40) < 12).float(), 3.5  # a word of twelve patients, and of one
    basis = Basis.fit(vectors(list(range(40)), word)["dx"], 10)
    assert basis.mean[7] == 0 and not basis.axes[7].any() and basis.mean[6] == pytest.approx(0.3)
    assert Basis.fit(vectors(list(range(40)), word)["dx"]).mean[7] == pytest.approx(3.5 / 40)
    z = (far - safe.mean) @ safe.axes
    share = z.square() / z.square().sum(0).clamp(min=1e-9)
    assert share.max() < 0.5
