"""Laws 1, 2, 3 and 5 for graphs: no future; alone or together; row order is nothing; as a slow oracle."""

import csv
import itertools
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

DAY = 86_400
TOML = """
cohort = "drawn"
[patient]
table = "patients.csv"
key = "pid"
number = ["age"]
[timepoints]
every = "1d"
[nodes.lab]
table = "lab.csv"
time = "happened"
known = "known"
code = "code"
value = "value"
edges = ["at", "next", "same"]
[nodes.drug]
table = "drug.csv"
time = "happened"
code = "code"
edges = ["at", "same"]
[nodes.sign]
table = "sign.csv"
time = "happened"
known = "known"
columns = { x = "", y = "" }
edges = ["at", "next"]
"""
CODES = ("x", "y", "z")
HEADERS = {
    "lab": ("pid", "happened", "known", "code", "value"),
    "drug": ("pid", "happened", "code"),
    "sign": ("pid", "happened", "known", "x", "y"),
}
VALUES = ("", "-1.5", "0", "2", "2.5")
# nobody asks about "anchor", whose rows keep every code in the vocabulary whatever is done to the others
ANCHOR = {
    "lab": [("anchor", "0", "0", code, "1") for code in CODES],
    "drug": [("anchor", "0", code) for code in CODES],
    "sign": [("anchor", "0", "0", "1", "1")],
}

patient = st.sampled_from(["a", "b", "c", "d"])
eighth = st.integers(-4, 16).map(lambda n: n / 4)
lag = st.sampled_from([0.0, 0.0, 0.25, 1.0, 2.5])
lab = st.tuples(patient, eighth, lag, st.sampled_from(CODES), st.sampled_from(VALUES))
drug = st.tuples(patient, eighth, st.sampled_from(CODES))
sign = st.tuples(patient, eighth, lag, st.sampled_from(VALUES), st.sampled_from(VALUES))
tables = st.fixed_dictionaries(
    {
        "lab": st.lists(lab, max_size=14).map(lambda rows: [later(row) for row in rows]),
        "drug": st.lists(drug, max_size=6).map(lambda rows: [(p, str(t), c) for p, t, c in rows]),
        "sign": st.lists(sign, max_size=6).map(lambda rows: [later(row) for row in rows]),
    }
)


def later(row: tuple) -> tuple[str, ...]:
    patient, happened, wait, *rest = row
    return (patient, str(happened), str(happened + wait), *rest)


def read(tables: dict[str, list[tuple[str, ...]]], spec: str = TOML):
    from gnnpatient import read_cohort

    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "spec.toml").write_text(spec)
        (place / "patients.csv").write_text("pid,age\na,50\nb,\nc,61\nd,7\nanchor,1\n")
        for kind, header in HEADERS.items():
            with open(place / f"{kind}.csv", "w", newline="") as handle:
                csv.writer(handle).writerows([header, *ANCHOR[kind], *tables[kind]])
        return read_cohort(place / "spec.toml", place)


def moments(cohort) -> list[float]:
    """Every moment at which something becomes known, and the second before."""
    known = np.unique(np.concatenate([e.known for e in cohort.events.values()]))
    return sorted({*(known / DAY), *((known - 1) / DAY)})


def asks(cohort):
    """The four patients at every moment that matters."""
    return cohort.landmarks(["a", "b", "c", "d"], moments(cohort))


def flat(graphs) -> dict[str, torch.Tensor]:
    out = {"number": graphs.statics.number, "category": graphs.statics.category, "at": graphs.statics.at}
    for kind, nodes in graphs.nodes.items():
        out |= {f"{kind}.{name}": getattr(nodes, name) for name in vars(nodes)}
    return out | {" ".join(name): edge for name, edge in graphs.edges.items()}


def same(a, b) -> None:
    """Bit for bit, nan included."""
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape, name
        assert a[name].numpy().tobytes() == b[name].numpy().tobytes(), name


def spoil(row: tuple[str, ...], kind: str, how: str) -> list[tuple[str, ...]]:
    if how == "delete":
        return []
    if kind == "lab":
        return [(*row[:3], CODES[CODES.index(row[3]) - 1], "1e9")]
    if kind == "sign":
        return [(*row[:3], "1e9", "-1e9")]
    return [(*row[:2], CODES[CODES.index(row[2]) - 1])]


@settings(max_examples=10)
@given(tables, st.sampled_from(["change", "delete"]), st.randoms(use_true_random=False))
def test_the_future_cannot_be_seen(rows, how, rng):
    from gnnpatient import build_graphs

    cohort = read(rows)
    for day in rng.sample(moments(cohort), min(2, len(moments(cohort)))):
        known = {"lab": 2, "sign": 2, "drug": 1}
        poisoned = {
            kind: [
                new
                for row in rows[kind]
                for new in (
                    spoil(row, kind, how)
                    if round(float(row[known[kind]]) * DAY) > round(day * DAY)
                    else [row]
                )
            ]
            for kind in rows
        }
        ask = dict(day=day, patient=["a", "b", "c", "d"])
        same(build_graphs(cohort.at(**ask)), build_graphs(read(poisoned).at(**ask)))


@settings(max_examples=10)
@given(tables)
def test_what_becomes_known_at_the_ask_is_seen(rows):
    from gnnpatient import build_graphs

    cohort = read(rows)
    for kind in ("lab", "drug", "sign"):
        events = cohort.events[kind]
        at = cohort.at(events.known / DAY, patient=events.patient)
        for nodes, ask, row in ((build_graphs(at)[kind], i, i) for i in range(min(len(at), 3))):
            seen = nodes.ptr[ask + 1] - nodes.ptr[ask]
            same_patient = (events.patient == events.patient[row]) & (events.known <= events.known[row])
            assert seen == same_patient.sum() > 0


@settings(max_examples=10)
@given(tables, st.randoms(use_true_random=False))
def test_alone_or_together(rows, rng):
    from gnnpatient import build_graphs

    X = asks(read(rows))
    X = X[
        np.array(rng.sample(range(len(X)), min(len(X), 34)))
    ]  # more than the asks that are bisected one by one
    together, offset = flat(build_graphs(X)), {}
    parts = [build_graphs(X[i]) for i in range(len(X))]
    counts = [{kind: len(nodes) for kind, nodes in part.nodes.items()} | {"patient": 1} for part in parts]
    for kind in counts[0]:
        offset[kind] = np.concatenate([[0], np.cumsum([count[kind] for count in counts])]).tolist()
    for name, whole in together.items():
        pieces = []
        for i, part in enumerate(map(flat, parts)):
            piece = part[name]
            if " " in name:
                source, _, target = name.split(" ")
                piece = piece + torch.tensor([[offset[source][i]], [offset[target][i]]])
            elif name.endswith(".owner"):
                piece = piece + i
            elif name.endswith(".timepoint"):
                piece = piece + offset["timepoint"][i]
            elif name.endswith(".ptr"):
                piece = piece[1:] + offset[name.partition(".")[0]][i]
            pieces.append(piece)
        joined = torch.cat(pieces, dim=1 if " " in name else 0)
        whole = whole[1:] if name.endswith(".ptr") else whole
        assert joined.shape == whole.shape, name
        if " " in name:  # the order of edges may follow the whole batch
            joined, whole = (torch.tensor(sorted(edge.T.tolist())) for edge in (joined, whole))
        assert torch.equal(joined.nan_to_num(12345), whole.nan_to_num(12345)), name


@settings(max_examples=8)
@given(tables, st.randoms(use_true_random=False))
def test_row_order_is_nothing(rows, rng):
    shuffled = {kind: rng.sample(held, len(held)) for kind, held in rows.items()}
    one, two = read(rows), read(shuffled)
    for kind, events in one.events.items():
        for name in ("ptr", "known", "happened", "code", "value", "timepoint"):
            a, b = getattr(events, name), getattr(two.events[kind], name)
            assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), (kind, name)
    assert one.codes == two.codes and one.report == two.report


def test_a_patient_without_any_row_has_a_graph():
    from gnnpatient import build_graphs

    graphs = build_graphs(read({"lab": [], "drug": [], "sign": []}).at(3, patient="b"))
    assert len(graphs) == 1 and all(len(nodes) == 0 for nodes in graphs.nodes.values())
    assert set(graphs.edges) == set(read({"lab": [], "drug": [], "sign": []}).spec.edge_types)
    assert all(edge.shape == (2, 0) for edge in graphs.edges.values())
    assert graphs.statics.number.isnan().all() and graphs.last["lab"].value.isnan().all()


# ---- the slow oracle: filter tidy rows, one HeteroData an ask by plain loops, collate complete ones


def tidy(tables) -> list[tuple[str, str, int, int, str, float]]:
    """(patient, kind, known, happened, code, value) of every row, each once."""
    number = lambda text: float(text) if text else float("nan")  # noqa: E731
    seconds = lambda text: round(float(text) * DAY)  # noqa: E731
    out = {}
    for p, happened, known, code, value in tables["lab"]:
        out[p, "lab", seconds(known), seconds(happened), code, value] = number(value)
    for p, happened, code in tables["drug"]:
        out[p, "drug", seconds(happened), seconds(happened), code, ""] = float("nan")
    for p, happened, known, *cells in tables["sign"]:
        for code, value in zip("xy", cells, strict=True):
            if value:
                out[p, "sign", seconds(known), seconds(happened), code, value] = number(value)
    return [(*key[:5], value) for key, value in out.items()]


def one_graph(cohort, rows, patient: int, at: int):
    """PyG's HeteroData of one ask, by loops."""
    from torch_geometric.data import HeteroData

    spec, data = cohort.spec, HeteroData()
    visible = [row for row in rows if row[0] == cohort.ids[patient] and row[2] <= at]
    first: dict[int, int] = {}  # of each timepoint's beginning, when its first child became known
    for _, _, known, happened, _, _ in visible:
        begin = happened // spec.every * spec.every
        first[begin] = min(known, first.get(begin, known))
    begins = sorted(first, key=lambda begin: (first[begin], begin))
    held = {"timepoint": [(begin, 0, float("nan"), begins.index(begin)) for begin in begins]}
    for kind in spec.nodes:
        mine = [
            (known, happened, cohort.codes[kind].index(code), int(np.float32(value).view(np.int32)), value)
            for _, k, known, happened, code, value in visible
            if k == kind
        ]
        held[kind] = [
            (happened, code, value, begins.index(happened // spec.every * spec.every))
            for _, happened, code, _, value in sorted(mine, key=lambda row: row[:4])
        ]
    for kind in (*spec.nodes, "timepoint"):
        happened, code, value, timepoint = zip(*held[kind], strict=True) if held[kind] else ((), (), (), ())
        data[kind].code = torch.tensor(code, dtype=torch.long)
        data[kind].value = torch.tensor(value, dtype=torch.float32)
        data[kind].age = torch.tensor([(at - t) / DAY for t in happened], dtype=torch.float32)
        data[kind].timepoint = torch.tensor(timepoint, dtype=torch.long)
    data["patient"].number = torch.from_numpy(np.array(cohort.number[[patient]]))
    data["patient"].category = torch.from_numpy(np.array(cohort.category[[patient]])).long()
    data["patient"].at = torch.tensor([at / DAY], dtype=torch.float32)

    def following(series: list[tuple]) -> list[tuple[int, int]]:
        pairs = []
        for i, (code, happened) in enumerate(series):
            after = [t for c, t in series if c == code and t > happened]
            pairs += [(i, j) for j, (c, t) in enumerate(series) if after and c == code and t == min(after)]
        return pairs

    for source, rule, target in spec.edge_types[::2]:
        nodes = held[source]
        pairs = {
            "at": lambda nodes=nodes: [(i, node[3]) for i, node in enumerate(nodes)],
            "of": lambda nodes=nodes: [(i, 0) for i in range(len(nodes))],
            "next": lambda nodes=nodes: following([(0, node[0]) for node in nodes]),
            "same": lambda nodes=nodes: following([(node[1], node[0]) for node in nodes]),
        }[rule]()
        edge = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
        data[source, rule, target].edge_index = edge
        data[target, f"rev_{rule}", source].edge_index = edge.flip(0)
    return data


def collate(parts) -> dict[str, torch.Tensor]:
    """Complete graphs side by side; edges sorted."""
    out, size = {}, {}
    for kind in parts[0].node_types:
        counts = [1 if kind == "patient" else len(part[kind].code) for part in parts]
        size[kind] = [0, *itertools.accumulate(counts)]
        out[kind, "ptr"] = torch.tensor(size[kind])
        out[kind, "batch"] = torch.tensor(
            [i for i, n in enumerate(counts) for _ in range(n)], dtype=torch.long
        )
    for kind in parts[0].node_types:
        for name in parts[0][kind]:
            shift = size["timepoint"] if name == "timepoint" else [0] * len(parts)
            out[kind, name] = torch.cat([part[kind][name] + n for part, n in zip(parts, shift, strict=False)])
    for edge_type in parts[0].edge_types:
        pairs = []
        for i, part in enumerate(parts):
            s, t = size[edge_type[0]][i], size[edge_type[2]][i]
            pairs += [(a + s, b + t) for a, b in part[edge_type].edge_index.T.tolist()]
        out[edge_type] = sorted(pairs)
    return out


def check_against_oracle(X, rows) -> None:
    from gnnpatient import build_graphs

    data = build_graphs(X).hetero_data()
    assert data.validate()
    slow = collate([one_graph(X.cohort, rows, int(p), int(t)) for p, t in zip(X.patient, X.at, strict=True)])
    for key, expected in slow.items():
        if isinstance(expected, list):
            assert sorted(map(tuple, data[key].edge_index.T.tolist())) == expected, key
        elif key != ("patient", "ptr"):
            kind, name = key
            assert data[kind][name].dtype == expected.dtype, key
            assert torch.equal(data[kind][name].nan_to_num(1e30), expected.nan_to_num(1e30)), key
    assert {k for k in slow if len(k) == 3} == set(data.edge_types) == set(X.cohort.spec.edge_types)
    assert set(data.node_types) == {*X.cohort.spec.nodes, "timepoint", "patient"}


@settings(max_examples=10)
@given(tables, st.randoms(use_true_random=False))
def test_packed_equals_the_slow_oracle(rows, rng):
    X = asks(read(rows))
    check_against_oracle(X[np.array(rng.sample(range(len(X)), min(len(X), 34)))], tidy(rows))


def test_packed_equals_the_slow_oracle_on_pbc():
    import gnnpatient
    from gnnpatient.cohort.datasets import pbc

    file = Path(gnnpatient.__file__).parent / "data" / "pbc" / "pbcseq.csv"
    with open(file, newline="") as handle:
        table = list(csv.DictReader(handle))
    cohort = pbc()
    rows = [
        (row["id"], kind, int(row["day"]) * DAY, int(row["day"]) * DAY, code, float(row[code]))
        for kind, node in cohort.spec.nodes.items()
        for row in table
        for code in node.columns
        if row[code]
    ]
    chosen = random.Random(0).sample(list(cohort.ids), 25)
    mine = [row for row in rows if row[0] in chosen]
    check_against_oracle(cohort.landmarks(chosen, [0, 365, 1095.5, 6000]), mine)


@settings(max_examples=10)
@given(tables)
def test_last_is_the_mean_of_the_latest_given_values(rows):
    from gnnpatient import build_graphs

    cohort, facts = read(rows), tidy(rows)
    X = asks(cohort)[::5]
    last = build_graphs(X).last["lab"]
    for i, (who, at) in enumerate(zip(X.ids, X.at, strict=True)):
        for c, code in enumerate(cohort.codes["lab"]):
            given = [
                (row[3], row[5])
                for row in facts
                if row[0] == who and row[1] == "lab" and row[2] <= at and row[4] == code and row[5] == row[5]
            ]
            seen = [r[3] for r in facts if r[0] == who and r[1] == "lab" and r[2] <= at and r[4] == code]
            age = (at - max(seen)) / DAY if seen else torch.inf
            assert last.age[i, c].item() == pytest.approx(age)
            if not given:
                assert last.value[i, c].isnan()
                continue
            latest = max(happened for happened, _ in given)
            values = [value for happened, value in given if happened == latest]
            # one value known at two moments is two rows
            assert last.value[i, c].item() == pytest.approx(sum(values) / len(values), rel=1e-6)
