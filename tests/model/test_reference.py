"""The default network, written again: landmark by landmark, row by row, edge by edge, in double precision."""

import pytest
import torch
from torch import Tensor

from gnnpatient.model.heads import SurvivalConfig
from gnnpatient.model.model import PatientGNN
from gnnpatient.model.table import ATTRIBUTES, NodeTable, code_names

DEATH = {"death": SurvivalConfig(causes=("transplant", "death"), times=(100.0, 365.25, 730.5))}
CHANGE = ATTRIBUTES.index("change")


def mean(found: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(found).mean(0) if found else torch.zeros_like(like)


def summarised(found: list[Tensor], width: int) -> Tensor:
    if not found:
        zero = torch.zeros(width, dtype=torch.float64)
        return torch.cat([zero, zero, zero, zero + 0.01])
    x = torch.stack(found)
    spread = ((x - x.mean(0)).square().mean(0) + 1e-4).sqrt()
    return torch.cat([x.mean(0), x.sum(0) / (3 * len(x) ** 0.5), x.amax(0), spread])


class Reference:
    """`PatientGNN` with the default layer, as one would explain it."""

    def __init__(self, network: PatientGNN):
        self.network, self.names = network, network.relations.names
        vocabulary, encode = network.vocabulary, network.encode
        names = list(dict.fromkeys(a for kind in vocabulary.ancestors.values() for one in kind for a in one))
        self.codes = []
        for i, (kind, name) in enumerate(code_names(vocabulary)):
            place = vocabulary.codes[kind].index(name)
            above = vocabulary.ancestors.get(kind, ((),) * (place + 1))[place]
            vector = encode.code.own[i] * (0.1 if above else 1.0)
            for ancestor in above:
                vector = vector + encode.code.shared[names.index(ancestor)]
            self.codes.append(vector)

    def __call__(self, table: NodeTable) -> Tensor:
        every = []
        for landmark in range(len(table)):
            z = torch.cat([self.pooled(table, landmark), self.patient(table, landmark)])
            head = self.network.heads[0]
            scores = head.scores
            score = (scores.out.weight @ torch.cat([scores.hidden(z).relu(), 0.3 * z])).view(2, -1)
            logits = torch.zeros(3, 3, dtype=torch.float64)
            for cause in range(2):
                for time in range(3):
                    logits[1 + cause, time] = head.bias[cause, time] + score[cause] @ head.courses[:, time]
            every.append(logits.log_softmax(0))
        return torch.stack(every)

    def patient(self, table: NodeTable, landmark: int) -> Tensor:
        encode = self.network.encode
        x = encode.static.weight @ table.static[landmark] + encode.static.bias
        for column, embedding in enumerate(encode.level):
            x = x + embedding[table.level[landmark, column]]
        return x

    def edges(self, table: NodeTable, row: int, name: str) -> list[int]:
        place = self.names.index(name)
        into = (table.target == row) & (table.relation == place)
        return into.nonzero()[:, 0].tolist()

    def encoded(self, table: NodeTable, row: int) -> Tensor:
        """What a row is, and the attributes of the edges into it."""
        encode, relations = self.network.encode, self.network.relations
        code = int(table.code[row])
        x = self.codes[code] + table.x[row, 0] * encode.slope[code] + encode.features.weight @ table.x[row]
        for kind, vector in zip(encode.with_vectors, encode.vector, strict=True):
            if int(table.kind[row]) == kind:
                x = x + vector.weight @ table.vector[row]
        c, k = len(x), len(ATTRIBUTES)
        for i, name in enumerate(self.names):
            found = []
            for e in self.edges(table, row, name):
                attribute = table.attribute[e] @ relations.linear[i * k : (i + 1) * k]
                if name in ("same", "first"):
                    j = relations.by_code.index(name)
                    slope = relations.slope[code, j * c : (j + 1) * c]
                    attribute = attribute + table.attribute[e, CHANGE] * slope
                found.append(attribute)
            x = x + mean(found, x)
        return x

    def pooled(self, table: NodeTable, landmark: int) -> Tensor:
        rows = range(int(table.ptr[landmark]), int(table.ptr[landmark + 1]))
        linear = {row: self.encoded(table, row) for row in rows}
        layer, c = self.network.layers[0], self.network.config.channels
        heard = {}
        for row in rows:
            x = linear[row]
            for i, name in enumerate(layer.relations):
                source = layer.source.weight[i * c : (i + 1) * c]
                told = [source @ linear[int(table.source[e])] for e in self.edges(table, row, name)]
                x = x + mean(told, x)
            heard[row] = x.relu()
        visit: dict[int, Tensor] = {}
        for row in rows:
            at = int(table.timepoint[row])
            visit[at] = visit.get(at, 0.0) + heard[row]
        nothing, state = torch.zeros(c, dtype=torch.float64), {}
        for row in rows:
            own, before = visit[int(table.timepoint[row])], visit.get(int(table.before[row]), nothing)
            read = (layer.visit.weight @ torch.cat([heard[row], own, before]) + layer.visit.bias).relu()
            state[row] = torch.cat([linear[row], linear[row] + heard[row] + read])
        along = self.along(state, list(rows))
        project = self.network.project.weight
        state = {row: project @ torch.cat([state[row], along[row]]) for row in rows}
        return self.series(table, landmark, state, 2 * c)

    def along(self, state: dict[int, Tensor], rows: list[int]) -> dict[int, Tensor]:
        gates, s = self.network.along.gates, self.network.config.channels
        found: dict[int, list[Tensor]] = {row: [] for row in rows}
        for order, place in ((rows, 0), (rows[::-1], 2 * s)):
            memory = torch.zeros(s, dtype=torch.float64)
            for row in order:
                keep, add = (gates.weight @ state[row] + gates.bias)[place : place + 2 * s].chunk(2)
                memory = keep.sigmoid() * memory + (1 - keep.sigmoid()) * add
                found[row].append(memory)
        return {row: torch.cat(both) for row, both in found.items()}

    def series(self, table: NodeTable, landmark: int, state: dict[int, Tensor], width: int) -> Tensor:
        pool, series = self.network.pool, dict[int, list[int]]()
        for row in state:
            series.setdefault(int(table.series[row]), []).append(row)
        latest, found = [], []
        for rows in series.values():
            latest.append(state[rows[-1]])
            said = torch.cat([latest[-1], summarised([state[row] for row in rows], width)])
            s = (pool.series.weight @ said + pool.code[table.code[rows[0]]]).relu()
            found.append((pool.hidden.weight @ s + pool.hidden.bias).relu())
        none, rows = torch.zeros(width, dtype=torch.float64), summarised(list(state.values()), width)
        return torch.cat([mean(latest, none), rows, summarised(found, width)])


def network_for(graphs, **choices) -> PatientGNN:
    torch.manual_seed(0)
    network = PatientGNN.for_graphs(graphs, DEATH, channels=6, dropout=0.0, **choices)
    with torch.no_grad():  # as if trained: nothing at its neutral start
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize("choices", [{}, {"relations": ("next", "at")}])
def test_the_default_network_equals_a_slow_one_forward_and_gradient(make_graphs, choices):
    graphs = make_graphs(4, asks=5, nobody=(1,), pictures=5)
    network = network_for(graphs, **choices)
    table = network.tabulate(graphs).restrict(network.config.relations)
    assert network.relations.names == table.names
    assert network.encode.with_vectors and bool(choices) == ((table.before < 0).all())
    network.double()
    table = NodeTable(
        **{
            name: column.double() if isinstance(column, Tensor) and column.is_floating_point() else column
            for name, column in vars(table).items()
            if name in NodeTable.__dataclass_fields__
        }
    )
    weight = torch.randn(5, 3, 3, dtype=torch.float64)
    found = network(table)["death"]
    wanted = Reference(network)(table)
    torch.testing.assert_close(found, wanted)
    gradients = [
        torch.autograd.grad((out * weight).sum(), list(network.parameters()), allow_unused=True)
        for out in (found, wanted)
    ]
    for (name, _), fast, slow in zip(network.named_parameters(), *gradients, strict=True):
        if fast is not None or slow is not None:
            torch.testing.assert_close(fast, slow, msg=name)
    names = [name for name, _ in network.named_parameters()]
    unused = {name for name, fast in zip(names, gradients[0], strict=True) if fast is None or not fast.any()}
    assert all(name.startswith("encode.timepoint") or name.endswith(("shared", "slope")) for name in unused)
