import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnpatient.model.vocabulary import BETWEEN_ROWS, Scale, Vocabulary, fit_vocabulary

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


def test_only_names_of_the_training_graphs_are_kept(graphs):
    lab = graphs["lab"]
    kept = replace(lab, code=torch.where(lab.code == 2, 0, lab.code))
    vocabulary = fit_vocabulary(replace(graphs, nodes={**graphs.nodes, "lab": kept}))
    assert vocabulary.codes["lab"] == ("other", "bili", "inr")


def test_vocabulary_survives_json(graphs):
    vocabulary = fit_vocabulary(graphs)
    assert vocabulary.changes and vocabulary.drifts and vocabulary.relations
    assert Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict(), allow_nan=False))) == vocabulary


@pytest.mark.parametrize("relation, scales", [("same", "changes"), ("first", "drifts")])
def test_a_change_has_the_scale_of_its_code(make_graphs, relation, scales):
    graphs = make_graphs(3, asks=12)
    vocabulary = fit_vocabulary(graphs)
    for kind, names in vocabulary.codes.items():
        nodes = graphs[kind]
        z = vocabulary.values[kind].apply(nodes.value.masked_fill(nodes.code == 0, torch.nan), nodes.code)
        for code in range(1, len(names)):
            pairs = [
                (i, j) for i, j in graphs.edges[kind, relation, kind].T.tolist() if nodes.code[j] == code
            ]
            changes = [x for i, j in pairs if np.isfinite(x := float(z[j] - z[i]))]
            wanted = np.sqrt(np.mean(np.square(changes))) if changes else 1.0
            assert getattr(vocabulary, scales)[kind].std[code] == pytest.approx(wanted, rel=1e-4), (
                kind,
                code,
            )


def test_a_relation_is_kept_where_enough_patients_have_an_edge(graphs):
    def patients(name):
        owners = [
            graphs[target].owner[edge[1]]
            for (_, relation, target), edge in graphs.edges.items()
            if relation == name
        ]
        return len(torch.cat(owners).unique()) if owners else 0

    assert fit_vocabulary(graphs).relations == ("same", "first", "next", "during")
    for least in (1, 3, 4, 5, 6):
        kept = tuple(name for name in BETWEEN_ROWS if patients(name) >= least)
        assert fit_vocabulary(graphs, least=least).relations == kept
