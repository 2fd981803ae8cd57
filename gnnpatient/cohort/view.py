"""Records of a cohort for people and other tools: tables, networkx, GraphML, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.errors import InputError, near
from gnnpatient.show import Shown, Summary, Table, listed
from gnnpatient.times import DAY, FOREVER

if TYPE_CHECKING:
    import networkx as nx
    import polars as pl
    from jaxtyping import Float, Int
    from torch import Tensor
    from torch_geometric.data import HeteroData

    from gnnpatient.graphs import Graphs, Names

FORMATS = ("graphml", "json")
MAX_SHOWN_STATICS, MAX_SHOWN_VALUES, MAX_SHOWN_LINES = 12, 30, 60  # of a patient, in a notebook


@dataclass(frozen=True, eq=False, repr=False)
class Patient(Shown):
    """One patient of a cohort; `Cohort.patient` gives it.

    Attributes
    ----------
    cohort : Cohort
        The cohort.
    position : int
        Position of the patient in it.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> patient = pbc().patient("2")
    >>> patient
    Patient 2 of cohort pbc
      statics  age 56.4, sex f, trt 1
      rows     58 lab, 36 sign, 9 stage
      time     day 0 to 3226
    >>> patient.id, patient.last_known
    ('2', 3226.0)
    """

    cohort: Cohort
    position: int

    @property
    def id(self) -> str:
        """Id of the patient."""
        return str(self.cohort.ids[self.position])

    @property
    def last_known(self) -> float:
        """Days after the origin at which the last row became known; the entry where there is no row."""
        ends = [e.known[e.ptr[self.position + 1] - 1] for e in self.cohort.events.values() if self._rows(e)]
        if self.cohort.enters[self.position] or not ends:
            ends.append(self.cohort.entry[self.position] if self.cohort.enters[self.position] else 0)
        return float(max(ends) / DAY)

    def _summary(self) -> Summary:
        frame, last = self.table(), self.last_known
        counts = [f"{self._rows(e)} {kind}" for kind, e in self.cohort.events.items() if kind != "timepoint"]
        facts = [
            ("statics", listed(static_texts(self.cohort.at(last, patient=self.id)), MAX_SHOWN_STATICS)),
            ("rows", listed(counts)),
            ("time", f"day {frame['day'].to_numpy().min():g} to {last:g}" if len(frame) else "no rows"),
        ]
        title = f"Patient {self.id} of cohort {self.cohort.spec.cohort}"
        return Summary(title, facts, [_timeline(frame)] if len(frame) else [])

    def _rows(self, events: object) -> int:
        ptr = events.ptr  # type: ignore[attr-defined]
        return int(ptr[self.position + 1] - ptr[self.position])

    def table(self) -> pl.DataFrame:
        """Make a table of every row, in the order in which they became known.

        Returns
        -------
        polars.DataFrame
            kind; day and known (days after the origin); code, value, unit; bound ("<" or ">" where the true
            value is below or above); until (day on which an interval ended); replaced (day from which an
            amendment replaces the row). null = missing, not yet, or never.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> pbc().patient("2").table().filter(code="bili")["day"].head(3).to_list()
        [0.0, 182.0, 365.0]
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
        """Make a networkx graph of what was known at a day.

        Parameters
        ----------
        at : float, str or date, optional
            Days after the origin, or an ISO 8601 date. Default: everything that was ever known.

        Returns
        -------
        networkx.MultiDiGraph
            Nodes "KIND:POSITION" with kind, day, known, code, value, unit, as far as they are not missing; an
            interval has until where it has ended, else open. Edges have their relation as key.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> graph = pbc().patient("2").to_networkx(at=400)
        >>> graph.nodes["lab:0"]["code"], round(graph.nodes["lab:0"]["value"], 1)
        ('bili', 1.1)
        """
        import networkx as nx

        from gnnpatient.cohort.build import build_graphs  # loads torch, which tables do without

        landmark = self.cohort.at(self.last_known if at is None else at, patient=self.id)
        graphs = build_graphs(landmark)
        graph = nx.MultiDiGraph(cohort=self.cohort.spec.cohort, at=float(landmark.days[0]))
        spec, attributes = self.cohort.spec.patient, dict[str, Any]()
        numbers = zip(spec.number, graphs.statics.number[0].tolist(), strict=True)
        attributes |= {name: value for name, value in numbers if np.isfinite(value)}
        levels = zip(spec.category, graphs.statics.category[0].tolist(), strict=True)
        attributes |= {name: self.cohort.levels[name][level] for name, level in levels if level >= 0}
        graph.add_node("patient:0")
        graph.nodes["patient:0"].update(attributes, kind="patient", patient=self.id)
        for kind, nodes in graphs.nodes.items():
            events = self.cohort.events[kind]
            _, _, rows = events.visible_rows(landmark.patient, landmark.at)
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
                        ended = events.until[row] <= landmark.at[0]
                        known |= {"until": float(events.until[row]) / DAY} if ended else {"open": True}
                graph.add_node(f"{kind}:{i}", kind=kind, **known)
        for (source, relation, target), edge in graphs.edges.items():
            if not relation.startswith("rev_"):
                pairs = edge.T.tolist()
                graph.add_edges_from((f"{source}:{i}", f"{target}:{j}", relation) for i, j in pairs)
        return graph

    def export(self, form: str, at: Any = None) -> str:
        """Write the graph of `to_networkx` as text.

        Parameters
        ----------
        form : str
            "graphml", or "json" for networkx's node-link data.
        at : float, str or date, optional
            As in `to_networkx`.

        Returns
        -------
        str

        Raises
        ------
        InputError
            When there is no such format.
        """
        import networkx as nx

        if form not in FORMATS:
            raise InputError(f"unknown export format {form!r}{near(form, FORMATS)}")
        graph = self.to_networkx(at)
        if form == "graphml":
            return "\n".join(nx.generate_graphml(graph)) + "\n"
        return json.dumps(nx.node_link_data(graph, edges="edges"), indent=1, ensure_ascii=False) + "\n"


def static_texts(landmark: Landmarks) -> list[str]:
    """Write down the static columns of one patient as they were known at a landmark.

    Parameters
    ----------
    landmark : Landmarks
        One patient at one moment.

    Returns
    -------
    list of str
        A text a column, first numbers, then categories.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> static_texts(pbc().at(0, patient="2"))
    ['age 56.4', 'sex f', 'trt 1']
    """
    cohort = landmark.cohort
    numbers, levels = cohort.statics(landmark.patient, landmark.at)
    values = [f"{x:.3g}" if np.isfinite(x) else "missing" for x in numbers[0].tolist()]
    names = zip(cohort.spec.patient.category, levels[0].tolist(), strict=True)
    values += [cohort.levels[name][level] if level >= 0 else "missing" for name, level in names]
    columns = (*cohort.spec.patient.number, *cohort.spec.patient.category)
    return [f"{name} {value}" for name, value in zip(columns, values, strict=True)]


def _timeline(frame: pl.DataFrame) -> Table:
    """The rows of a patient, a line a moment and node type."""
    import polars as pl

    ordered = frame.sort("day", maintain_order=True).with_columns(line=pl.struct("day", "kind").rle_id())
    more = ordered["line"][-1] + 1 - MAX_SHOWN_LINES
    lines = []
    for (_, day, kind), rows in ordered.filter(pl.col("line") < MAX_SHOWN_LINES).group_by(
        "line", "day", "kind", maintain_order=True
    ):
        values = [_value_text(*row) for row in rows.select("code", "bound", "value", "unit").iter_rows()]
        lines.append((f"{day:.6g}", str(kind), listed(values, MAX_SHOWN_VALUES)))
    note = f"and {more} more lines; .table() has every row" if more > 0 else ""
    return Table(["day", "<node type", "<values"], lines, note)


def _value_text(code: str, bound: str | None, value: float | None, unit: str) -> str:
    """A row in words: its code, and its value with its unit."""
    return code if value is None else f"{code} {bound or ''}{value:.4g} {unit}".rstrip()


def _sides(bound: np.ndarray | None, rows: slice, count: int) -> pl.Series:
    """On which side of the value the true one is, "<" or ">"; null where it is the value."""
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


def landmark_frame(landmarks: Landmarks, *, numeric: bool = False) -> pl.DataFrame:
    """Make a table of what is known at each landmark, see `Landmarks.to_frame`.

    A column whose name is taken, as where a code is called like another one's age, gets a prime.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times.
    numeric : bool, default False
        Whether every column is a number: without id, a column NAME=LEVEL for each level of a category.

    Returns
    -------
    polars.DataFrame
        One row a landmark: id, at (days), static columns, and of each code KIND.CODE the last value, its .age
        in days, and .n, the number of rows.
    """
    import polars as pl

    columns: dict[str, pl.Series] = {}

    def add(name: str, values: pl.Series) -> None:
        while name in columns:
            name += "'"
        columns[name] = values

    from gnnpatient.cohort.build import build_graphs

    graphs = build_graphs(landmarks)
    if not numeric:
        add("id", pl.Series(landmarks.ids.astype(str)))
    add("at", pl.Series(landmarks.days))
    for name, values in static_columns(graphs):
        if numeric and values.dtype == pl.String:
            for level in graphs.levels[name]:
                add(f"{name}={level}", (values == level).cast(pl.Float32))
        else:
            add(name, values)
    for last in last_rows(graphs):
        add(f"{last.kind}.{last.code}", _nulls(last.value))
        add(f"{last.kind}.{last.code}.age", _nulls(last.age))
        add(f"{last.kind}.{last.code}.n", pl.Series(last.count))
    return pl.DataFrame(columns)


def landmark_hetero_data(
    landmarks: Landmarks, outcome: str | None = None, names: Names | None = None, *, ids: bool = False
) -> list[HeteroData]:
    """Make one PyG graph a landmark, see `Landmarks.hetero_data`.

    All graphs are built packed and then cut. Each has memory of its own, so that one that is saved or sent
    holds no other patient.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times.
    outcome : str, optional
        Name of the outcome that y is of.
    names : Names, optional
        Codes and levels that keep their name.
    ids : bool, default False
        Whether each graph has the id of its patient.

    Returns
    -------
    list of torch_geometric.data.HeteroData
    """
    import torch
    from torch_geometric.data import HeteroData

    targets = {} if outcome is None else _targets(landmarks, outcome)
    graphs = known_graphs(landmarks, names)
    one_each = torch.arange(len(landmarks) + 1)
    ptr = {kind: nodes.ptr for kind, nodes in graphs.nodes.items()} | {"patient": one_each}
    owner = {kind: nodes.owner for kind, nodes in graphs.nodes.items()} | {"patient": one_each[:-1]}
    # (node or edge type, None = the graph itself), name, its part in each graph
    parts: list[tuple[Any, str, list[Tensor]]] = []
    for kind, x in graphs.features().items():
        sizes = ptr[kind].diff().tolist()
        parts.append((kind, "x", _own(x.split(sizes))))
        if kind not in ("timepoint", "patient"):
            parts.append((kind, "code", _own(graphs[kind].code.split(sizes))))
    for (source, relation, target), edge in graphs.edges.items():
        edge_type = source, relation, target
        attributes = graphs.edge_attributes[edge_type].nan_to_num(0.0)
        cut, cut_attributes = _cut(edge, attributes, owner[source], ptr[source], ptr[target])
        parts.append((edge_type, "edge_index", _own(cut)))
        if attributes.shape[1]:
            parts.append((edge_type, "edge_attr", _own(cut_attributes)))
    parts += [("patient", name, _own(values.split(1))) for name, values in targets.items() if name != "y"]
    out = []
    for i in range(len(landmarks)):
        data = HeteroData()
        for key, name, part in parts:
            setattr(data[key], name, part[i])
        if targets:
            data.y = targets["y"][i : i + 1].clone()
        if ids:
            data.patient_id = str(landmarks.ids[i])
        out.append(data)
    return out


def known_graphs(landmarks: Landmarks, names: Names | None) -> Graphs:
    """Build the graphs of some landmarks, with the codes and levels that keep their name.

    Parameters
    ----------
    landmarks : Landmarks
        Patients at prediction times.
    names : Names or None
        None: all of the cohort.

    Returns
    -------
    Graphs
    """
    from gnnpatient.cohort.build import build_graphs

    graphs = build_graphs(landmarks)
    return graphs if names is None else names.merge(graphs)


def _own(parts: Iterable[Tensor]) -> list[Tensor]:
    """Copies, none of which keeps the memory of the whole."""
    return [part.clone() for part in parts]


def _cut(
    edge: Int[Tensor, "2 edge"],
    attributes: Float[Tensor, "edge attribute"],
    owner: Int[Tensor, " node"],
    source_ptr: Int[Tensor, " landmark_plus_1"],
    target_ptr: Int[Tensor, " landmark_plus_1"],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The edges of each landmark, in positions of its own nodes, and their attributes."""
    import torch

    landmark = owner[edge[0]]
    order = landmark.argsort(stable=True)
    landmark = landmark[order]
    local = edge[:, order] - torch.stack([source_ptr[landmark], target_ptr[landmark]])
    sizes = torch.bincount(landmark, minlength=len(source_ptr) - 1).tolist()
    return local.split(sizes, dim=1), attributes[order].split(sizes)


def _targets(landmarks: Landmarks, outcome: str) -> dict[str, Tensor]:
    """What was observed after each landmark: its fields, and y of the graph."""
    import torch

    truth = landmarks.outcome(outcome)
    fields = {}
    for name in truth.dtype.names or ():
        whole = truth[name].dtype.kind in "iub"
        fields[name] = torch.from_numpy(truth[name].astype(np.int64 if whole else np.float32))
    if "event" in fields:
        y = torch.stack([fields["event"].float(), fields["time"]], 1)
    else:
        y = fields["label" if "label" in fields else "value"]
    if "label" in fields:
        del fields["time"]
    return {**fields, "y": y}


@dataclass(frozen=True, eq=False)
class LastRow:
    """What is known of one code at each landmark.

    Attributes
    ----------
    kind : str
        Node type.
    code : str
        Name of the code.
    value : ndarray
        Last value, nan = none.
    age : ndarray
        Days since the latest row, with or without a value, nan = no row.
    count : ndarray
        Number of rows.
    """

    kind: str
    code: str
    value: np.ndarray  # (landmark,) float32
    age: np.ndarray  # (landmark,) float32 days
    count: np.ndarray  # (landmark,) int64


def last_rows(graphs: Graphs) -> Iterator[LastRow]:
    """Give the last row of every code of every node type; the code "other" only where it has rows.

    Parameters
    ----------
    graphs : Graphs
        Graphs of some landmarks.

    Yields
    ------
    LastRow
        Of one code.
    """
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
    """Give the static columns of each landmark's patient, first numbers, then categories.

    Parameters
    ----------
    graphs : Graphs
        Graphs of some landmarks.

    Yields
    ------
    name : str
        Name of the column.
    values : polars.Series
        (landmark,), null = missing.
    """
    import polars as pl

    for i, name in enumerate(graphs.numbers):
        yield name, _nulls(graphs.statics.number[:, i].numpy())
    for i, (name, levels) in enumerate(graphs.levels.items()):
        names = np.array([*levels, None], dtype=object)  # -1 is the last: missing
        yield name, pl.Series(names[graphs.statics.category[:, i].numpy()].tolist(), dtype=pl.String)


def _nulls(values: np.ndarray) -> pl.Series:
    """A series with null where a number is nan."""
    import polars as pl

    return pl.Series(values).fill_nan(None)
