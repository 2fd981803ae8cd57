"""Laws 1, 2, 3 and 5 for graphs: no future; alone or together; row order is nothing; as a slow oracle.

The drawn cohorts have two times a row, intervals, amendments, objects that rows are tracked by, and ancestors
by a table and by prefixes.
"""

import csv
import itertools
import random
from collections import namedtuple
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
row = "row"
amends = "amends"
track = "object"
edges = ["at", "next", "same"]
[nodes.drug]
table = "drug.csv"
time = "happened"
until = "until"
code = "code"
value = "dose"
[nodes.sign]
table = "sign.csv"
time = "happened"
known = "known"
columns = { x = "", y = "" }
edges = ["at", "next"]
[nodes.panel]
of = "lab"
hierarchy = "panels"
edges = ["at", "next", "same"]
[nodes.class]
of = "drug"
hierarchy = "atc"
[hierarchies.panels]
table = "panels.csv"
[hierarchies.atc]
prefix = "ATC"
"""
CODES = ("x", "y", "z")
DRUGS = ("A01AA", "A01AB", "B02")
PANELS = [("x", "blood"), ("y", "blood"), ("y", "urine"), ("blood", "all"), ("urine", "all")]  # z is in none
ABOVE = {  # all ancestors, by hand
    "panel": {"x": ("all", "blood"), "y": ("all", "blood", "urine"), "z": ()},
    "class": {"A01AA": ("A", "A01", "A01A"), "A01AB": ("A", "A01", "A01A"), "B02": ("B",)},
}
FOREVER = 2**63 - 1
HEADERS = {
    "lab": ("pid", "happened", "known", "code", "value", "row", "amends", "object"),
    "drug": ("pid", "happened", "code", "until", "dose"),
    "sign": ("pid", "happened", "known", "x", "y"),
}
KNOWN = {"lab": 2, "sign": 2, "drug": 1}  # the column that says when a row became known
VALUES = ("", "-1.5", "0", "2", "2.5")
OBJECTS = ("", "", "m0", "m1", "7")
# "anchor" has no landmark; its rows keep every code in the vocabulary whatever is done to the others
ANCHOR = {
    "lab": [("anchor", "0", "0", code, "1", "", "", "") for code in CODES],
    "drug": [("anchor", "0", code, "", "") for code in DRUGS],
    "sign": [("anchor", "0", "0", "1", "1")],
}

patient = st.sampled_from(["a", "a", "a", "b", "c", "d"])
eighth = st.integers(-4, 16).map(lambda n: n / 4)
lag = st.sampled_from([0.0, 0.0, 0.25, 1.0, 2.5])
lab = st.tuples(patient, eighth, lag, st.sampled_from(CODES), st.sampled_from(VALUES))
lasting = st.sampled_from([None, 0.0, 0.25, 1.5])
drug = st.tuples(patient, eighth, st.sampled_from(DRUGS), lasting, st.sampled_from(VALUES))
amended = st.sampled_from([None, 0, 1, 2, 3, 99])  # which of the patient's other rows; 99: one not there
thing = st.sampled_from(OBJECTS)
sign = st.tuples(patient, eighth, lag, st.sampled_from(VALUES), st.sampled_from(VALUES))
tables = st.fixed_dictionaries(
    {
        "lab": st.lists(st.tuples(lab, amended, thing), min_size=4, max_size=14).map(
            lambda drawn: named(drawn)
        ),
        "drug": st.lists(drug, max_size=8).map(
            lambda rows: [(p, str(t), c, "" if n is None else str(t + n), dose) for p, t, c, n, dose in rows]
        ),
        "sign": st.lists(sign, max_size=6).map(lambda rows: [later(row) for row in rows]),
    }
)


def later(row: tuple) -> tuple[str, ...]:
    patient, happened, wait, *rest = row
    return (patient, str(happened), str(happened + wait), *rest)


def named(drawn: list[tuple]) -> list[tuple[str, ...]]:
    """Lab rows with an id each, some of which take the place of another row of the patient."""
    rows = [(*later(row), f"r{i}") for i, (row, *_) in enumerate(drawn)]
    out = []
    for row, (_, nth, thing) in zip(rows, drawn, strict=True):
        others = [other[5] for other in rows if other[0] == row[0] and other is not row]
        out.append((*row, "" if nth is None else others[nth] if nth < len(others) else "lost", thing))
    return out


def read(tables: dict[str, list[tuple[str, ...]]], spec: str = TOML):
    from gnnpatient import read_cohort

    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "spec.toml").write_text(spec)
        (place / "patients.csv").write_text("pid,age\na,50\nb,\nc,61\nd,7\nanchor,1\n")
        panels = "\n".join(f"{child},{parent}" for child, parent in tables.get("panels", PANELS))
        (place / "panels.csv").write_text(f"child,parent\n{panels}\n")
        for kind, header in HEADERS.items():
            with open(place / f"{kind}.csv", "w", newline="") as handle:
                csv.writer(handle).writerows([header, *ANCHOR[kind], *tables[kind]])
        return read_cohort(place / "spec.toml", place)


def moments(cohort) -> list[float]:
    """Every moment at which something becomes known, and the second before."""
    known = np.unique(np.concatenate([e.known for e in cohort.events.values()]))
    return sorted({*(known / DAY), *((known - 1) / DAY)})


def all_landmarks(cohort):
    """The four patients at every moment that matters."""
    return cohort.landmarks(["a", "b", "c", "d"], moments(cohort))


def flat(graphs) -> dict[str, torch.Tensor]:
    out = {"number": graphs.statics.number, "category": graphs.statics.category, "at": graphs.statics.at}
    for kind, nodes in graphs.nodes.items():
        out |= {f"{kind}.{name}": getattr(nodes, name) for name in vars(nodes)}
    for name, edge in graphs.edges.items():
        out[" ".join(name)], out["numbers " + " ".join(name)] = edge, graphs.edge_attributes[name]
    return out


def same(a, b) -> None:
    """Bit for bit, nan included."""
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape, name
        assert a[name].numpy().tobytes() == b[name].numpy().tobytes(), name


def spoil(row: tuple[str, ...], kind: str, how: str, rng: random.Random) -> list[tuple[str, ...]]:
    """A row of the future, deleted or changed: also in what it amends, and in when it ends."""
    if how == "delete":
        return []
    if kind == "lab":
        other = rng.choice(["", "lost", *(f"r{i}" for i in range(14) if f"r{i}" != row[5])])
        return [
            (
                *row[:3],
                CODES[CODES.index(row[3]) - 1],
                "1e9",
                row[5],
                other,
                rng.choice(["", "00", "zz", "m0"]),
            )
        ]
    if kind == "sign":
        return [(*row[:3], "1e9", "-1e9")]
    return [(*row[:2], DRUGS[DRUGS.index(row[2]) - 1], rng.choice(["", "77", "soon"]), "1e9")]


def poison(rows: dict, day: float, how: str, rng: random.Random) -> dict:
    """Everything that lies after the day: rows that become known later, and ends that are still to come."""
    ahead = lambda text: round(float(text) * DAY) > round(day * DAY)  # noqa: E731
    out = {}
    for kind, held in rows.items():
        out[kind] = []
        for row in held:
            if ahead(row[KNOWN[kind]]):
                out[kind] += spoil(row, kind, how, rng)
            elif kind == "drug" and row[3] and ahead(row[3]):
                out[kind].append((*row[:3], "" if how == "delete" else rng.choice(["77", "soon"]), row[4]))
            else:
                out[kind].append(row)
    return out


@settings(max_examples=8)
@given(tables, st.sampled_from(["change", "delete"]), st.randoms(use_true_random=False))
def test_the_future_cannot_be_seen(rows, how, rng):
    from gnnpatient import build_graphs

    cohort = read(rows)
    for day in rng.sample(moments(cohort), min(2, len(moments(cohort)))):
        landmark = dict(day=day, patient=["a", "b", "c", "d"])
        poisoned = read(poison(rows, day, how, rng))
        same(build_graphs(cohort.at(**landmark)), build_graphs(poisoned.at(**landmark)))


def test_poison_reaches_what_it_should():
    """The law above would hold of a poison that does nothing."""
    rows = {
        "lab": [("a", "0", "0", "x", "2", "r0", "", "m0"), ("a", "0", "3", "x", "0", "r1", "r0", "m0")],
        "drug": [("a", "0", "B02", "2", "1")],
        "sign": [("a", "0", "4", "0", "0")],
    }
    for how in ("change", "delete"):
        poisoned = poison(rows, 1, how, random.Random(0))
        assert all(poisoned[kind] != rows[kind] for kind in rows)
        from gnnpatient import build_graphs

        one, two = (flat(build_graphs(read(tables).at(5, patient="a"))) for tables in (rows, poisoned))
        assert not (one["lab.value"].equal(two["lab.value"]) and one["sign.value"].equal(two["sign.value"]))
        assert not one["drug.open"].equal(two["drug.open"])


@settings(max_examples=10)
@given(tables)
def test_what_becomes_known_at_the_ask_is_seen(rows):
    from gnnpatient import build_graphs

    cohort = read(rows)
    for kind in ("lab", "drug", "sign"):
        events = cohort.events[kind]
        at = cohort.at(events.known / DAY, patient=events.patient)
        for nodes, landmark, row in ((build_graphs(at)[kind], i, i) for i in range(min(len(at), 3))):
            seen = nodes.ptr[landmark + 1] - nodes.ptr[landmark]
            mine = (events.patient == events.patient[row]) & (events.known <= events.known[row])
            assert mine[row]
            if events.replaced is not None:
                mine &= events.replaced > events.known[row]
            assert seen == mine.sum()


@settings(max_examples=10)
@given(tables, st.randoms(use_true_random=False))
def test_alone_or_together(rows, rng):
    from gnnpatient import build_graphs

    X = all_landmarks(read(rows))
    X = X[
        np.array(rng.sample(range(len(X)), min(len(X), 34)))
    ]  # more than the landmarks that are bisected one by one
    together, offset = flat(build_graphs(X)), {}
    parts = [build_graphs(X[i]) for i in range(len(X))]
    counts = [{kind: len(nodes) for kind, nodes in part.nodes.items()} | {"patient": 1} for part in parts]
    for kind in counts[0]:
        offset[kind] = np.concatenate([[0], np.cumsum([count[kind] for count in counts])]).tolist()
    for name, whole in together.items():
        if name.startswith("numbers "):  # compared with their edges
            continue
        pieces, numbers = [], []
        for i, part in enumerate(map(flat, parts)):
            piece = part[name]
            if " " in name:
                numbers.append(part["numbers " + name])
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
            joined, whole = (
                torch.tensor(sorted(torch.cat([edge.T, number.nan_to_num(12345)], 1).tolist()))
                for edge, number in ((joined, torch.cat(numbers)), (whole, together["numbers " + name]))
            )
        assert torch.equal(joined.nan_to_num(12345), whole.nan_to_num(12345)), name


@settings(max_examples=4)
@given(tables)
def test_a_batch_of_pyg_is_the_packed_graphs(rows):
    """With intervals, amendments and ancestors; see test_hetero_data.py for the rest."""
    from torch_geometric.data import Batch

    from gnnpatient import build_graphs
    from gnnpatient.graphs import ATTRIBUTES

    X = all_landmarks(read(rows))[::3]
    ours, theirs = build_graphs(X).hetero_data(), Batch.from_data_list(X.hetero_data())
    assert all(torch.equal(ours[kind].x, theirs[kind].x) for kind in ours.node_types)
    assert all(torch.equal(ours[kind].batch, theirs[kind].batch) for kind in ours.node_types)
    for edge_type in ours.edge_types:
        assert theirs[edge_type].edge_index.dtype == torch.int64
        assert ("edge_attr" in ours[edge_type]) == (edge_type[1].removeprefix("rev_") in ATTRIBUTES)
        both = []
        for data in (ours, theirs):
            edge = data[edge_type].edge_index.T
            both.append(sorted(torch.cat([edge, data[edge_type].get("edge_attr", edge[:, :0])], 1).tolist()))
        assert both[0] == both[1], edge_type


@settings(max_examples=8)
@given(tables, st.randoms(use_true_random=False))
def test_row_order_is_nothing(rows, rng):
    shuffled = {kind: rng.sample(held, len(held)) for kind, held in (rows | {"panels": PANELS}).items()}
    one, two = read(rows), read(shuffled)
    for kind, events in one.events.items():
        assert events.columns().keys() == two.events[kind].columns().keys()
        for name, a in events.columns().items():
            b = getattr(two.events[kind], name)
            assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), (kind, name)
    assert one.is_a.keys() == {"panel", "class"}
    assert all((one.is_a[kind] == two.is_a[kind]).all() for kind in one.is_a)
    assert one.codes == two.codes and one.report == two.report


def test_a_patient_without_any_row_has_a_graph():
    from gnnpatient import build_graphs

    graphs = build_graphs(read({"lab": [], "drug": [], "sign": []}).at(3, patient="b"))
    assert len(graphs) == 1 and all(len(nodes) == 0 for nodes in graphs.nodes.values())
    assert set(graphs.edges) == set(read({"lab": [], "drug": [], "sign": []}).spec.edge_types)
    assert all(edge.shape == (2, 0) for edge in graphs.edges.values())
    assert graphs.statics.number.isnan().all() and graphs.last["lab"].value.isnan().all()


# ---- the slow oracle: filter tidy rows, one HeteroData a landmark by plain loops, collate complete ones


Fact = namedtuple("Fact", "patient kind known happened code value thing until replaced")
NO_END = (FOREVER, FOREVER)


def ring(rows: list[tuple[str, ...]], row: tuple[str, ...]) -> float:
    """When the ring of rows that amend each other was closed, inf = the row is in none."""
    by_id, on = {other[5]: other for other in rows if other[0] == row[0]}, [row]
    while (after := by_id.get(on[-1][6])) is not None and after not in on:
        on.append(after)
    return max(round(float(other[2]) * DAY) for other in on) if after == row else float("inf")


def tidy(tables) -> list[Fact]:
    """Every row once; of repeats the last end and the last moment at which it stands."""
    number = lambda text: float(text) if text else float("nan")  # noqa: E731
    seconds = lambda text: round(float(text) * DAY) if text else FOREVER  # noqa: E731
    out: dict[tuple, list[int]] = {}

    def add(*key: object, until: int = FOREVER, replaced: int = FOREVER) -> None:
        held = out.setdefault(key, [until, replaced])
        held[:] = max(held[0], until), max(held[1], replaced)

    for row in tables["lab"]:
        p, happened, known, code, value, row_id, _, thing = row
        news = [seconds(other[2]) for other in tables["lab"] if other[0] == p and other[6] == row_id]
        gone = max(min(news), seconds(known)) if news else FOREVER
        if gone <= seconds(known) and seconds(known) >= ring(tables["lab"], row):
            continue  # refused
        add(p, "lab", seconds(known), seconds(happened), code, value, thing, replaced=gone)
    for p, happened, code, until, dose in tables["drug"]:
        add(p, "drug", seconds(happened), seconds(happened), code, dose, "", until=seconds(until))
    for p, happened, known, *cells in tables["sign"]:
        for code, value in zip("xy", cells, strict=True):
            if value:
                add(p, "sign", seconds(known), seconds(happened), code, value, "")
    return [Fact(*key[:5], number(key[5]), key[6], *ends) for key, ends in out.items()]


def ancestors(visible: list[Fact], kind: str, at: int) -> dict[str, tuple[int, int]]:
    """Since when each ancestor has been there without a break, and when the row happened that brought it."""
    child, there = "lab" if kind == "panel" else "drug", {}
    rows = [row for row in visible if row.kind == child]
    for moment in sorted({m for row in rows for m in (row.known, row.replaced) if m <= at}):
        stand = [row for row in rows if row.known <= moment < row.replaced]
        now = {name for row in stand for name in ABOVE[kind][row.code]}
        there = {name: there[name] for name in there if name in now}
        for name in now - there.keys():
            new = [row.happened for row in stand if row.known == moment and name in ABOVE[kind][row.code]]
            there[name] = (moment, min(new))
    return there


def one_graph(cohort, rows: list[Fact], patient: int, at: int):
    """PyG's HeteroData of one landmark, by loops."""
    from torch_geometric.data import HeteroData

    spec, data = cohort.spec, HeteroData()
    visible = [row for row in rows if row.patient == cohort.ids[patient] and row.known <= at]
    first: dict[int, int] = {}  # of each timepoint's beginning, when its first child became known
    for row in visible:
        begin = row.happened // spec.every * spec.every
        first[begin] = min(row.known, first.get(begin, row.known))
    begins = sorted(first, key=lambda begin: (first[begin], begin))
    nan = float("nan")
    Node = namedtuple("Node", "happened code value timepoint end thing")
    held = {"timepoint": [Node(begin, 0, nan, begins.index(begin), None, "") for begin in begins]}
    names: dict[str, list[str]] = {}
    things: dict[str, list[str]] = {"timepoint": []}  # in the order in which they became known
    for kind, node in spec.nodes.items():
        codes = cohort.codes[kind].index

        def rank(row: Fact, codes=codes) -> tuple:
            return row.known, row.happened, codes(row.code), np.float32(row.value).view("i4"), row.thing

        mine = sorted((row for row in visible if row.kind == kind), key=rank)
        things[kind] = list(dict.fromkeys(row.thing for row in mine if row.thing))
        mine = [row for row in mine if row.replaced > at]
        if node.of is not None:
            mine = [
                Fact("", kind, known, happened, name, nan, "", None, None)
                for name, (known, happened) in ancestors(visible, kind, at).items()
            ]
            mine.sort(key=rank)
        names[kind] = [row.code for row in mine]
        held[kind] = [
            Node(
                row.happened,
                codes(row.code),
                row.value,
                begins.index(row.happened // spec.every * spec.every),
                min(row.until, at + 1) if node.until else None,
                row.thing,
            )
            for row in mine
        ]
    for kind in (*spec.nodes, "timepoint"):
        nodes = held[kind]
        data[kind].code = torch.tensor([n.code for n in nodes], dtype=torch.long)
        data[kind].value = torch.tensor([n.value for n in nodes], dtype=torch.float32)
        data[kind].age = torch.tensor([(at - n.happened) / DAY for n in nodes], dtype=torch.float32)
        data[kind].timepoint = torch.tensor([n.timepoint for n in nodes], dtype=torch.long)
        data[kind].open = torch.tensor([n.end is not None and n.end > at for n in nodes], dtype=torch.bool)
        lasted = [0 if n.end is None else max(min(n.end, at) - n.happened, 0) / DAY for n in nodes]
        data[kind].duration = torch.tensor(lasted, dtype=torch.float32)
        number = [things[kind].index(n.thing) if n.thing else -1 for n in nodes]
        data[kind].track = torch.tensor(number, dtype=torch.int32)
        data[kind].row = torch.full((len(nodes),), -1)  # no kind here has pictures or texts
        data[kind].vector = torch.zeros(len(nodes), 0)
    data["patient"].number = torch.from_numpy(np.array(cohort.number[[patient]]))
    data["patient"].category = torch.from_numpy(np.array(cohort.category[[patient]])).long()
    data["patient"].at = torch.tensor([at / DAY], dtype=torch.float32)

    def joined(now: list[int], later: list[int], complete: bool) -> list[tuple[int, int]]:
        if complete:
            return [(i, j) for i in now for j in later]
        return [(now[rank % len(now)], j) for rank, j in enumerate(later)]

    def moments(series: list[tuple]) -> list[list[list[int]]]:
        """Of each series its rows by moment."""
        groups: dict[tuple, dict[int, list[int]]] = {}
        for j, (*one, moment) in enumerate(series):
            groups.setdefault(tuple(one), {}).setdefault(moment, []).append(j)
        return [[by_moment[moment] for moment in sorted(by_moment)] for by_moment in groups.values()]

    def following(series: list[tuple]) -> list[tuple[int, int]]:
        pairs = []
        for groups in moments(series):
            for now, later in itertools.pairwise(groups):
                pairs += joined(now, later, min(len(now), len(later)) <= 4)
        return pairs

    def from_first(series: list[tuple]) -> list[tuple[int, int]]:
        pairs = []
        for first, *rest in moments(series):
            for later in rest:
                pairs += joined(first, later, len(first) <= 4)
        return pairs

    def during(source: str, target: str) -> list[tuple[int, int]]:
        pairs = []
        for j, row in enumerate(held[target]):
            running: dict[int, tuple] = {}  # by code, the one that ends last; of those the last
            for i, n in enumerate(held[source]):
                if n.happened <= row.happened < n.end and not (source == target and i == j):
                    running[n.code] = max(running.get(n.code, ()), (n.end, n.happened, i))
            pairs += [(i, j) for _, _, i in running.values()]
        return pairs

    def numbers(source: str, relation: str, target: str, i: int, j: int) -> list[torch.Tensor]:
        """The attributes of an edge, each float32."""
        since = data[source].age[i] - data[target].age[j]
        if relation == "next":
            return [since]
        if relation == "during":
            return [since, data[source].value[i]]
        return [data[target].value[j] - data[source].value[i], since] if relation in ("same", "first") else []

    for source, rule, target in spec.edge_types[::2]:
        nodes = held[source]
        pairs = {
            "is_a": lambda source=source, target=target: [
                (i, names[target].index(name))
                for i, code in enumerate(names[source])
                for name in ABOVE[target][code]
            ],
            "at": lambda nodes=nodes: [(i, n.timepoint) for i, n in enumerate(nodes)],
            "of": lambda nodes=nodes: [(i, 0) for i in range(len(nodes))],
            "next": lambda nodes=nodes: following([(0, n.happened) for n in nodes]),
            "same": lambda nodes=nodes: following([(n.code, n.thing, n.happened) for n in nodes]),
            "first": lambda nodes=nodes: from_first([(n.code, n.thing, n.happened) for n in nodes]),
            "during": lambda source=source, target=target: during(source, target),
        }[rule]()
        edge = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
        attributes = [[] if target == "patient" else numbers(source, rule, target, i, j) for i, j in pairs]
        attributes = [[float(x) for x in row] for row in attributes]
        for name, index in (((source, rule, target), edge), ((target, f"rev_{rule}", source), edge.flip(0))):
            data[name].edge_index, data[name].numbers = index, attributes
    return data


def without_nan(rows) -> list[tuple]:
    return [tuple(1e30 if x != x else x for x in row) for row in rows]


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
            pieces = [part[kind][name] for part in parts]
            if name == "timepoint":
                pieces = [piece + n for piece, n in zip(pieces, size["timepoint"], strict=False)]
            out[kind, name] = torch.cat(pieces)
    for edge_type in parts[0].edge_types:
        pairs = []
        for i, part in enumerate(parts):
            s, t = size[edge_type[0]][i], size[edge_type[2]][i]
            ends = part[edge_type].edge_index.T.tolist()
            pairs += [(a + s, b + t, *n) for (a, b), n in zip(ends, part[edge_type].numbers, strict=True)]
        out[edge_type] = sorted(without_nan(pairs))
    return out


def check_against_oracle(X, rows) -> None:
    from gnnpatient import build_graphs

    graphs = build_graphs(X)
    data = graphs.hetero_data()
    assert data.validate()
    slow = collate([one_graph(X.cohort, rows, int(p), int(t)) for p, t in zip(X.patient, X.at, strict=True)])
    for key, expected in slow.items():
        if isinstance(expected, list):
            edges = zip(data[key].edge_index.T.tolist(), graphs.edge_attributes[key].tolist(), strict=True)
            assert sorted(without_nan((*ends, *numbers) for ends, numbers in edges)) == expected, key
        elif key != ("patient", "ptr"):
            kind, name = key
            assert data[kind][name].dtype == expected.dtype, key
            assert torch.equal(data[kind][name].nan_to_num(1e30), expected.nan_to_num(1e30)), key
    assert {k for k in slow if len(k) == 3} == set(data.edge_types) == set(X.cohort.spec.edge_types)
    assert set(data.node_types) == {*X.cohort.spec.nodes, "timepoint", "patient"}


@settings(max_examples=10)
@given(tables, st.randoms(use_true_random=False))
def test_packed_equals_the_slow_oracle(rows, rng):
    X = all_landmarks(read(rows))
    check_against_oracle(X[np.array(rng.sample(range(len(X)), min(len(X), 34)))], tidy(rows))


def test_packed_equals_the_slow_oracle_on_pbc():
    import gnnpatient
    from gnnpatient.datasets.shipped import pbc

    file = Path(gnnpatient.__file__).parent / "data" / "pbc" / "pbcseq.csv"
    with open(file, newline="") as handle:
        table = list(csv.DictReader(handle))
    cohort = pbc()
    rows = [
        Fact(
            row["id"], kind, int(row["day"]) * DAY, int(row["day"]) * DAY, code, float(row[code]), "", *NO_END
        )
        for kind, node in cohort.spec.nodes.items()
        for row in table
        for code in node.columns
        if row[code]
    ]
    chosen = random.Random(0).sample(list(cohort.ids), 25)
    mine = [row for row in rows if row.patient in chosen]
    check_against_oracle(cohort.landmarks(chosen, [0, 365, 1095.5, 6000]), mine)


@settings(max_examples=10)
@given(tables)
def test_last_is_the_mean_of_the_latest_given_values(rows):
    from gnnpatient import build_graphs

    cohort, facts = read(rows), tidy(rows)
    X = all_landmarks(cohort)[::5]
    last = build_graphs(X).last["lab"]
    for i, (who, at) in enumerate(zip(X.ids, X.at, strict=True)):
        for c, code in enumerate(cohort.codes["lab"]):
            mine = [row for row in facts if row.patient == who and row.kind == "lab" and row.code == code]
            mine = [row for row in mine if row.known <= at < row.replaced]
            given = [(row.happened, row.value) for row in mine if row.value == row.value]
            seen = [row.happened for row in mine]
            age = (at - max(seen)) / DAY if seen else torch.inf
            assert last.age[i, c].item() == pytest.approx(age)
            if not given:
                assert last.value[i, c].isnan()
                continue
            latest = max(happened for happened, _ in given)
            values = [value for happened, value in given if happened == latest]
            # one value known at two moments is two rows
            assert last.value[i, c].item() == pytest.approx(sum(values) / len(values), rel=1e-6)


def test_edges_of_simultaneous_rows_grow_with_the_rows():
    """Groups of 1, 4, 5 and 300 rows, as of a table with dates alone: at most four edges a row, by rank
    beyond; a group of up to four is joined completely."""
    from gnnpatient.cohort.build import Groups

    for a, b in itertools.product([1, 4, 5, 7, 300], repeat=2):
        happened = np.repeat([10, 20], [a, b])
        source, target = Groups.of(np.zeros(a + b, np.int64), moment=happened).following()
        found = sorted(zip(source.tolist(), target.tolist(), strict=True))
        if min(a, b) <= 4:
            assert found == [(i, a + j) for i in range(a) for j in range(b)]
        else:
            assert found == sorted((j % a, a + j) for j in range(b))
        assert len(found) <= 4 * max(a, b)


def test_a_kind_may_be_seen_without_its_ancestors():
    """As where a model is given some kinds alone: the rows stay, the edges to what is left out go."""
    from gnnpatient import build_graphs

    rows = {kind: [] for kind in HEADERS} | {"drug": [("a", "1", "A01AA", "", ""), ("b", "2", "B02", "", "")]}
    cohort = read(rows)
    whole, part = (build_graphs(one.at(5)) for one in (cohort, cohort.only(["drug"])))
    assert whole.edges["drug", "is_a", "class"].shape[1] > 0
    assert part.edges["drug", "is_a", "class"].shape[1] == 0 and len(part["drug"]) == len(whole["drug"])


def test_a_batch_is_estimated_before_it_is_allocated(monkeypatch):
    """Where less memory is free than it would take, it is refused with both sizes."""
    from gnnpatient import InputError, build_graphs, files
    from gnnpatient.datasets.shipped import pbc

    X = pbc().landmarks(times=[3000] * 40)
    assert len(build_graphs(X)["lab"]) > 0
    monkeypatch.setattr(files, "free_memory", lambda: 10_000_000)
    with pytest.raises(
        InputError, match=r"graphs of 12480 landmarks with \d+ rows: takes about .* GB .* are free"
    ):
        build_graphs(X)
    build_graphs(X[:100])
