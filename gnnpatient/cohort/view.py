"""The same records for people and for other tools: tables, networkx, GraphML, JSON, one row an ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.errors import InputError, near
from gnnpatient.times import DAY, FOREVER

if TYPE_CHECKING:
    import networkx as nx
    import polars as pl

    from gnnpatient.graphs import Graphs

FORMATS = ("graphml", "json")


@dataclass(frozen=True, eq=False)
class Patient:
    """One patient of a cohort."""

    cohort: Cohort
    position: int

    @property
    def id(self) -> str:
        return str(self.cohort.ids[self.position])

    @property
    def last_known(self) -> float:
        """Days after the origin at which the last row became known; the entry where there is none."""
        ends = [e.known[e.ptr[self.position + 1] - 1] for e in self.cohort.events.values() if self._rows(e)]
        if self.cohort.enters[self.position] or not ends:
            ends.append(self.cohort.entry[self.position] if self.cohort.enters[self.position] else 0)
        return max(ends) / DAY

    def _rows(self, events: object) -> int:
        ptr = events.ptr  # type: ignore[attr-defined]
        return int(ptr[self.position + 1] - ptr[self.position])

    def table(self) -> pl.DataFrame:
        """Every row in the order it became known: kind, day, known (days), code, value, unit.

        until: the day its interval ended, null = not that one knows, or no interval; replaced: from which day
        on an amendment stands in its place, null = it stands.
        """
        import polars as pl

        parts = []
        for kind, e in self.cohort.events.items():
            rows = slice(e.ptr[self.position], e.ptr[self.position + 1])
            if kind == "timepoint":
                continue
            codes, units = np.array(self.cohort.codes[kind]), np.array(self.cohort.units[kind])
            value = pl.Series(e.value[rows])
            parts.append(
                pl.DataFrame(
                    {
                        "kind": np.full(self._rows(e), kind),
                        "day": e.happened[rows] / DAY,
                        "known": e.known[rows] / DAY,
                        "code": codes[e.code[rows]],
                        "value": value.set(value.is_nan(), None),
                        "unit": units[e.code[rows]],
                        "bound": _sides(e.bound, rows, self._rows(e)),
                        "until": _days(e.until, rows, self._rows(e)),
                        "replaced": _days(e.replaced, rows, self._rows(e)),
                    },
                    schema={
                        "kind": pl.String,
                        "day": pl.Float64,
                        "known": pl.Float64,
                        "code": pl.String,
                        "value": pl.Float32,
                        "unit": pl.String,
                        "bound": pl.String,
                        "until": pl.Float64,
                        "replaced": pl.Float64,
                    },
                )
            )
        return (
            pl.concat(parts).sort("known", "day", "kind", "code", maintain_order=True)
            if parts
            else pl.DataFrame()
        )

    def to_networkx(self, at: Any = None) -> nx.MultiDiGraph:
        """The graph as known at a day (default: all that was ever known), edges keyed by their rule.

        Nodes are named "kind:position" with kind, day, known, code, value, unit; what is missing is absent.
        An interval has until where it has ended, else open.
        """
        import networkx as nx

        from gnnpatient.cohort.build import build_graphs  # loads torch, which tables do without

        ask = self.cohort.at(self.last_known if at is None else at, patient=self.id)
        graphs = build_graphs(ask)
        graph = nx.MultiDiGraph(cohort=self.cohort.spec.cohort, at=float(ask.days[0]))
        spec, attributes = self.cohort.spec.patient, dict[str, Any]()
        numbers = zip(spec.number, graphs.statics.number[0].tolist(), strict=True)
        attributes |= {name: value for name, value in numbers if np.isfinite(value)}
        levels = zip(spec.category, graphs.statics.category[0].tolist(), strict=True)
        attributes |= {name: self.cohort.levels[name][level] for name, level in levels if level >= 0}
        graph.add_node("patient:0")
        graph.nodes["patient:0"].update(attributes, kind="patient", patient=self.id)
        for kind, nodes in graphs.nodes.items():
            events = self.cohort.events[kind]
            _, _, rows = events.visible_rows(ask.patient, ask.at)
            for i, row in enumerate(rows.tolist()):
                code = int(nodes.code[i])
                known: dict[str, Any] = {"day": float(events.happened[row]) / DAY}
                known["known"] = float(events.known[row]) / DAY
                if kind != "timepoint":
                    known |= {"code": self.cohort.codes[kind][code]}
                    known |= {"unit": unit} if (unit := self.cohort.units[kind][code]) else {}
                    known |= {"value": value} if np.isfinite(value := float(nodes.value[i])) else {}
                    if nodes.bound is not None and nodes.bound[i]:
                        known |= {"bound": "<" if nodes.bound[i] < 0 else ">"}
                    if events.until is not None:  # an end that is still to come is not known
                        ended = events.until[row] <= ask.at[0]
                        known |= {"until": float(events.until[row]) / DAY} if ended else {"open": True}
                graph.add_node(f"{kind}:{i}", kind=kind, **known)
        for (source, rule, target), edge in graphs.edges.items():
            if not rule.startswith("rev_"):
                pairs = edge.T.tolist()
                graph.add_edges_from((f"{source}:{i}", f"{target}:{j}", rule) for i, j in pairs)
        return graph

    def export(self, form: str, at: Any = None) -> str:
        """The graph as text: GraphML, or networkx's node-link JSON."""
        import networkx as nx

        if form not in FORMATS:
            raise InputError(f"export format {form!r}{near(form, FORMATS)}")
        graph = self.to_networkx(at)
        if form == "graphml":
            return "\n".join(nx.generate_graphml(graph)) + "\n"
        return json.dumps(nx.node_link_data(graph, edges="edges"), indent=1, ensure_ascii=False) + "\n"


def _sides(bound: np.ndarray | None, rows: slice, count: int) -> pl.Series:
    """On which side of the value the truth lies; null where it is the value."""
    import polars as pl

    side = np.zeros(count, np.int8) if bound is None else np.asarray(bound[rows])
    words = ["<", None, ">"]
    return pl.Series([words[i + 1] for i in side.tolist()], dtype=pl.String)


def _days(times: np.ndarray | None, rows: slice, count: int) -> pl.Series:
    """Times in days, null where they never come."""
    import polars as pl

    if times is None:
        return pl.Series([None], dtype=pl.Float64).new_from_index(0, count)
    return pl.Series(np.where(times[rows] == FOREVER, np.nan, times[rows] / DAY)).fill_nan(None)


def landmark_frame(landmarks: Landmarks) -> pl.DataFrame:
    """One row an ask: id, at (days), statics; per kind.code the last value, the last row's .age, .n rows.

    A name that is taken already, as where a code is called like another one's age, gets a prime.
    """
    import polars as pl

    columns: dict[str, pl.Series] = {}

    def add(name: str, values: pl.Series) -> None:
        while name in columns:
            name += "'"
        columns[name] = values

    from gnnpatient.cohort.build import build_graphs

    graphs = build_graphs(landmarks)
    add("id", pl.Series(landmarks.ids.astype(str)))
    add("at", pl.Series(landmarks.days))
    for name, values in static_columns(graphs):
        add(name, values)
    for last in last_rows(graphs):
        add(f"{last.kind}.{last.code}", _nulls(last.value))
        add(f"{last.kind}.{last.code}.age", _nulls(last.age))
        add(f"{last.kind}.{last.code}.n", pl.Series(last.count))
    return pl.DataFrame(columns)


@dataclass(frozen=True, eq=False)
class LastRow:
    """What is known of one code at each ask."""

    kind: str
    code: str
    value: np.ndarray  # (ask,) float32: the last one given; nan = none
    age: np.ndarray  # (ask,) float32 days since the latest row, with or without a value; nan = no row
    count: np.ndarray  # (ask,) int64 rows


def last_rows(graphs: Graphs) -> Iterator[LastRow]:
    """Every code of every kind, `other` only where there is any."""
    size = len(graphs)
    for kind, last in graphs.last.items():
        nodes, codes = graphs[kind], graphs.codes[kind]
        slot = (nodes.owner * len(codes) + nodes.code).numpy()
        count = np.bincount(slot, minlength=size * len(codes)).reshape(size, len(codes))
        value, age = last.value.numpy(), last.age.numpy()
        for c, code in enumerate(codes):
            if c or count[:, 0].any():
                since = np.where(np.isfinite(age[:, c]), age[:, c], np.nan)
                yield LastRow(kind, code, value[:, c], since, count[:, c])


def static_columns(graphs: Graphs) -> Iterator[tuple[str, pl.Series]]:
    """The static columns of each ask's patient, by name: numbers, then categories; null = missing."""
    import polars as pl

    for i, name in enumerate(graphs.numbers):
        yield name, _nulls(graphs.statics.number[:, i].numpy())
    for i, (name, levels) in enumerate(graphs.levels.items()):
        names = np.array([*levels, None], dtype=object)  # -1 is the last: missing
        yield name, pl.Series(names[graphs.statics.category[:, i].numpy()].tolist(), dtype=pl.String)


def _nulls(values: np.ndarray) -> pl.Series:
    import polars as pl

    return pl.Series(values).fill_nan(None)
