"""How fast, as ratios against a plain reference in the same run: one thread, interleaved, smallest CPU time.

With `--device cuda` the training step of both runs there, and of the step alone the wall clock counts.

Claim: packed columns build, cut and batch patient graphs far faster than one HeteroData a patient and PyG's
DataLoader, and the network trains faster than the same one written with HeteroConv.
Last seen: see results/speed.md (command, machine, time and figures).

    python experiments/speed.py [--patients 1000,10000] [--batch 256] [--device cuda] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.table import Table

from gnnpatient import build_graphs, open_cohort, read_cohort, read_spec
from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.model.heads import SurvivalConfig
from gnnpatient.model.layers import GraphSAGE
from gnnpatient.model.model import PatientGNN
from gnnpatient.model.table import NodeTable

KINDS = {"lab": (60, 64), "medication": (10, 200), "diagnosis": (8, 500)}  # rows a patient, codes
SPEC = """
cohort = "workload"
[patient]
table = "patients.csv"
key = "id"
number = ["age"]
[outcomes.death]
kind = "survival"
table = "patients.csv"
causes = { death = { time = "end", flag = "died" } }
"""
NODE = """
[nodes.{kind}]
table = "{kind}.parquet"
time = "day"
code = "code"
value = "value"
edges = ["at"]
"""


def write_workload(folder: Path, patients: int, seed: int = 0) -> None:
    """Tables of `patients` patients with about 78 rows and 10 visits each, shuffled."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"p{i:07d}" for i in range(patients)])
    pl.DataFrame(
        {
            "id": ids,
            "age": rng.uniform(20, 90, patients),
            "end": rng.exponential(900, patients) + 1,
            "died": rng.integers(0, 2, patients),
        }
    ).write_csv(folder / "patients.csv")
    visits = 1 + rng.poisson(9, patients)
    for kind, (rows, codes) in KINDS.items():
        who = np.repeat(np.arange(patients), rng.poisson(rows, patients))
        visit = (rng.random(len(who)) * visits[who]).astype(int)
        pl.DataFrame(
            {
                "id": ids[who],
                "day": visit * 60.0 + rng.random(len(who)),
                "code": rng.integers(0, codes, len(who)),
                "value": rng.normal(size=len(who)).astype(np.float32),
            }
        ).sample(fraction=1.0, shuffle=True, seed=seed).write_parquet(folder / f"{kind}.parquet")
    (folder / "workload.toml").write_text(SPEC + "".join(NODE.format(kind=kind) for kind in KINDS))


def waited() -> float:
    """Wall clock once the GPU has done all it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()


def smallest(
    *tasks: Callable[[], object], rounds: int = 5, clock: Callable[[], float] = time.process_time
) -> list[float]:
    """The smallest time of each task, the tasks taken in turn."""
    best = [np.inf] * len(tasks)
    for _ in range(rounds):
        for i, task in enumerate(tasks):
            start = clock()
            task()
            best[i] = min(best[i], clock() - start)
    return best


def naive_graphs(tables: dict[str, pl.DataFrame], ids: list[str]) -> list:
    """The reference builder: one filtered table and one HeteroData a patient, in a Python loop."""
    from torch_geometric.data import HeteroData

    parts = {kind: table.partition_by("id", as_dict=True) for kind, table in tables.items()}
    graphs = []
    for name in ids:
        data, slots = HeteroData(), {}
        rows = {kind: parts[kind].get((name,), tables[kind][:0]).sort("day") for kind in KINDS}
        for kind in KINDS:
            for slot in np.floor(rows[kind]["day"].to_numpy()).tolist():
                slots.setdefault(slot, len(slots))
        data["patient"].num_nodes = 1
        data["timepoint"].age = torch.tensor(list(slots), dtype=torch.float32)
        data["timepoint"].num_nodes = len(slots)
        for kind, table in rows.items():
            data[kind].num_nodes = len(table)
            data[kind].code = torch.from_numpy(table["code"].to_numpy(writable=True))
            data[kind].value = torch.from_numpy(table["value"].to_numpy(writable=True))
            data[kind].age = torch.from_numpy(table["day"].to_numpy().astype(np.float32))
            parent = [slots[slot] for slot in np.floor(table["day"].to_numpy()).tolist()]
            at = torch.stack([torch.arange(len(table)), torch.tensor(parent, dtype=torch.long)])
            data[kind, "at", "timepoint"].edge_index = at
            data["timepoint", "rev_at", kind].edge_index = at.flip(0)
        order = torch.argsort(data["timepoint"].age, stable=True)
        following = torch.stack([order[:-1], order[1:]])
        data["timepoint", "next", "timepoint"].edge_index = following
        data["timepoint", "rev_next", "timepoint"].edge_index = following.flip(0)
        up = torch.stack([torch.arange(len(slots)), torch.zeros(len(slots), dtype=torch.long)])
        data["timepoint", "of", "patient"].edge_index = up
        data["patient", "rev_of", "timepoint"].edge_index = up.flip(0)
        graphs.append(data)
    return graphs


class Hetero(torch.nn.Module):
    """A layer of GraphSAGE as PyG's HeteroConv of SAGEConv, one for each relation and its reverse."""

    def __init__(self, channels: int, relations: tuple[str, ...]):
        from torch_geometric.nn import HeteroConv, SAGEConv

        super().__init__()
        self.edges = GraphSAGE(channels, relations)
        names = [name for one in self.edges.relations for name in (one, f"rev_{one}")]
        convs = {("node", name, "node"): SAGEConv((channels, channels), channels) for name in names}
        self.conv = HeteroConv(convs, aggr="sum")

    def forward(self, x: torch.Tensor, table: NodeTable) -> torch.Tensor:
        edges = {("node", name, "node"): edge for name, edge in self.edges.both(table).items()}
        return self.edges.norm(self.conv({"node": x}, edges)["node"]).relu()


def measure(folder: Path, patients: int, size: int, device: str) -> dict[str, float]:
    from torch_geometric.loader import DataLoader

    write_workload(folder, patients)
    spec = read_spec(folder / "workload.toml")
    some = [f"p{i:07d}" for i in range(min(patients, 500))]
    cohort = read_cohort(spec, folder)
    figures: dict[str, float] = {}

    (build,) = smallest(lambda: read_cohort(spec, folder), rounds=3)
    mine = pl.col("id").is_in(some)
    tables = {kind: pl.read_parquet(folder / f"{kind}.parquet").filter(mine) for kind in KINDS}
    start = time.process_time()  # the reference is spared the reading
    graphs = naive_graphs(tables, some)
    naive = (time.process_time() - start) / len(some)
    figures["build, us a patient"] = 1e6 * build / patients
    figures["build: HeteroData loop / packed"] = naive / (build / patients)

    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(some), 256)
    whole, cut = cohort.at(10_000, patient=rows), cohort.at(rng.uniform(100, 400, 256), patient=rows)
    loader = DataLoader([graphs[i] for i in rows], batch_size=256)
    ours, hetero, theirs = smallest(
        lambda: build_graphs(whole), lambda: build_graphs(whole).hetero_data(), lambda: next(iter(loader))
    )
    figures["batch of 256, ms"] = 1e3 * ours
    figures["batch of 256: PyG DataLoader / ours as HeteroData"] = theirs / hetero
    plain = cohort.at(10_000, patient=cut.patient)
    per_row = [len(build_graphs(x)["lab"]) for x in (cut, plain)]
    asof, full = smallest(lambda: build_graphs(cut), lambda: build_graphs(plain), rounds=10)
    figures["as-of batch / plain batch, per row"] = (asof / per_row[0]) / (full / per_row[1])

    rows = rng.integers(0, len(some), size)
    figures |= _training(cohort, cohort.at(10_000, patient=rows), [graphs[i] for i in rows], device)
    ask = Landmarks(cohort, np.zeros(64, np.int64), np.linspace(0, 600, 64).astype(np.int64) * 86_400)
    together, one = smallest(
        lambda: build_graphs(ask), lambda: [build_graphs(ask[i : i + 1]) for i in range(64)]
    )
    figures["64 landmarks: one by one / together"] = one / together

    cohort.save(folder / "packed")
    start = time.perf_counter()
    packed = open_cohort(folder / "packed")
    figures["open, ms"] = 1e3 * (time.perf_counter() - start)
    (one,) = smallest(lambda: open_cohort(folder / "packed").verify([len(packed) // 2]))
    (opening,) = smallest(lambda: open_cohort(folder / "packed"))
    figures["hashes of what one ask reads, ms"] = 1e3 * (one - opening)
    start = time.perf_counter()
    packed.verify()
    figures["hashes of all, ms"] = 1e3 * (time.perf_counter() - start)
    return figures


def _training(cohort: Cohort, landmarks: Landmarks, graphs: list, device: str) -> dict[str, float]:
    """A step of both from the packed columns, or the list of graphs, to the gradient."""
    from torch_geometric.loader import DataLoader

    batch, size = build_graphs(landmarks), len(landmarks)
    head = {"death": SurvivalConfig(causes=("death",), times=tuple(np.linspace(100, 1800, 12).tolist()))}
    networks = [
        PatientGNN.for_graphs(batch, head, conv=conv, dropout=0.0).to(device)
        for conv in ("temporal", "sage", Hetero)
    ]
    event = torch.ones(size, dtype=torch.long, device=device)
    days = torch.full((size,), 500.0, device=device)

    def step(model: PatientGNN, table: NodeTable) -> None:
        table = table.to(device)
        model.head("death").loss(model(table)["death"], event, days).mean().backward()

    def from_columns(model: PatientGNN) -> None:
        step(model, model.tabulate(build_graphs(landmarks)))

    def theirs() -> None:
        next(iter(DataLoader(graphs, batch_size=size))).to(device)
        step(networks[2], table)

    table = networks[0].tabulate(batch)
    whole, forward, sage, other = smallest(
        lambda: from_columns(networks[0]),
        lambda: step(networks[0], table),
        lambda: from_columns(networks[1]),
        theirs,
        rounds=5 if device == "cpu" else 20,
        clock=time.process_time if device == "cpu" else waited,
    )
    return {
        f"training step of {size}, ms": 1e3 * whole,
        "training step, patients a second": size / whole,
        "training step of GraphSAGE: DataLoader + HeteroConv / ours": other / sage,
        "share of a step spent on building the batch": 1 - forward / whole,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", default="1000,10000")
    parser.add_argument("--batch", type=int, default=256, help="landmarks of a training step")
    parser.add_argument("--device", default="cpu", help="of the training step: cpu or cuda")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=DeprecationWarning)
    torch.set_num_threads(1)
    sizes = [int(n) for n in args.patients.split(",")]
    results = {}
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            results[n] = measure(Path(folder), n, args.batch, args.device)
    table = Table("figure", *(f"{n} patients" for n in sizes))
    for name in results[sizes[0]]:
        table.add_row(name, *(f"{results[n][name]:.3g}" for n in sizes))
    Console().print(table)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
