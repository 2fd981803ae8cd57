"""Names and scales learned from training graphs: what a model knows of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gnnpatient.errors import InputError
from gnnpatient.graphs import Graphs, Nodes, frequent, patients_of
from gnnpatient.model.basis import Axes, Basis, fit_bases

YEAR = 365.25
# relations between event nodes of any type
BETWEEN_ROWS = ("same", "first", "next", "during", "describes", "measures", "is_a")
# standard deviations to which a standardised value is limited
MAX_DEVIATIONS = 4.0


@dataclass(frozen=True)
class Scale:
    """Where the training values of each code lie.

    Attributes
    ----------
    mean : tuple of float
        Mean of each code's values, of their logarithms where `log`.
    std : tuple of float
        Standard deviation, above 0, likewise.
    log : tuple of bool
        Whether a code's values are taken by their logarithm.

    Raises
    ------
    InputError
        When the columns differ in length, or a deviation is not above 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    log: tuple[bool, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.mean), len(self.std), len(self.log)}
        if len(sizes) > 1 or not all(std > 0 for std in self.std):
            raise InputError("a scale without a mean, a deviation above 0 and a flag for each of its columns")

    @staticmethod
    def fit(
        value: Float[Tensor, " row"],
        code: Int[Tensor, " row"],
        size: int,
        *,
        log: bool = True,
        owner: Int[Tensor, " row"] | None = None,
        least: int = 1,
    ) -> Scale:
        """Learn the scales of all codes at once; nan is left out.

        A code goes by its logarithm when its values are all positive and that is the less skewed. A code with
        values of fewer than `least` owners gets the scale of all others together, so that its own values
        cannot be read from it. Without a value the mean is 0; without spread the deviation is the absolute
        mean, or 1.

        Parameters
        ----------
        value : Float[Tensor, " row"]
            The values; nan is missing.
        code : Int[Tensor, " row"]
            The code of each value.
        size : int
            Number of codes.
        log : bool
            Whether logarithms are allowed, default True.
        owner : Int[Tensor, " row"], optional
            Whose value each is; default: every row counts for itself.
        least : int
            Owners that a scale of its own takes, default 1.

        Returns
        -------
        Scale

        Examples
        --------
        >>> Scale.fit(torch.tensor([1.0, 3.0, torch.nan]), torch.tensor([0, 0, 1]), 2)
        Scale(mean=(2.0, 0.0), std=(1.0, 1.0), log=(False, False))
        """
        given = value.isfinite()
        value, code = value[given].double(), code[given]
        if owner is not None and least > 1:
            few = patients_of(code, owner[given], size) < least
            own = vars(Scale.fit(value[~few[code]], code[~few[code]], size, log=log))
            rest = vars(Scale._shared(value, code, few, owner[given], least, log))
            return Scale(
                **{
                    name: tuple(
                        rest[name][0] if rare else one for one, rare in zip(column, few.tolist(), strict=True)
                    )
                    for name, column in own.items()
                }
            )
        positive = torch.ones(size, dtype=torch.bool, device=value.device)
        positive[code[value <= 0]] = False
        plain, logged = _moments(value, code, size), _moments(value.clamp(min=1e-300).log(), code, size)
        take = positive & (logged[2].abs() < plain[2].abs()) & log
        mean, std, _ = (torch.where(take, y, x) for x, y in zip(plain, logged, strict=True))
        return Scale(*(tuple(column.tolist()) for column in (mean, std, take)))

    @staticmethod
    def _shared(
        value: Float[Tensor, " row"],
        code: Int[Tensor, " row"],
        few: Bool[Tensor, " code"],
        owner: Int[Tensor, " row"],
        least: int,
        log: bool,
    ) -> Scale:
        """One scale for all codes with few owners.

        Of the values of all other codes; where there is no other code, of all values together; mean 0 and
        deviation 1 where those have too few owners as well.
        """
        some = ~few[code] if not few.all() else torch.full_like(code, len(owner.unique()) >= least) > 0
        return Scale.fit(value[some], torch.zeros_like(code[some]), 1, log=log)

    def table(self) -> Float[Tensor, "3 code"]:
        """Mean, standard deviation and log flag as one tensor, as `standardise` takes it.

        Returns
        -------
        Float[Tensor, "3 code"]
        """
        return torch.tensor([self.mean, self.std, [float(flag) for flag in self.log]])

    def apply(self, value: Float[Tensor, " row"], code: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
        """Standardise values, each on the scale of its code.

        Parameters
        ----------
        value : Float[Tensor, " row"]
            The values; nan stays nan.
        code : Int[Tensor, " row"]
            The code of each value.

        Returns
        -------
        Float[Tensor, " row"]
            Standard deviations from the mean, limited to four.

        Examples
        --------
        >>> Scale((2.0,), (1.0,), (False,)).apply(torch.tensor([3.0, 99.0]), torch.tensor([0, 0]))
        tensor([1., 4.])
        """
        return standardise(value, self.table().to(value.device)[:, code])


def standardise(value: Float[Tensor, "..."], scale: Float[Tensor, "3 ..."]) -> Float[Tensor, "..."]:
    """Standardise values, each on a scale of its own.

    Parameters
    ----------
    value : Float[Tensor, "..."]
        The values; nan stays nan.
    scale : Float[Tensor, "3 ..."]
        Mean, standard deviation and log flag of each value. Under log, zero and less lie at the lower limit.

    Returns
    -------
    Float[Tensor, "..."]
        Standard deviations from the mean, limited to four.
    """
    mean, std, log = scale
    logged = value.clamp(min=torch.finfo(value.dtype).tiny).log()
    return ((torch.where(log > 0, logged, value) - mean) / std).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)


def _moments(x: Tensor, code: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and skewness of each code, in two passes."""
    count = torch.bincount(code, minlength=size).clamp(min=1)

    def mean_of(y: Tensor) -> Tensor:
        return y.new_zeros(size).index_add_(0, code, y) / count

    mean = mean_of(x)
    away = x - mean[code]
    std = mean_of(away**2).sqrt()
    skew = mean_of(away**3) / std**3  # nan without spread: below nothing
    flat = std <= 1e-6 * mean.abs()
    return mean, torch.where(flat, torch.where(mean == 0, 1.0, mean.abs()), std), skew


def _times(days: Float[Tensor, " row"]) -> Float[Tensor, "row 2"]:
    """A time span as the network sees it before scaling: log1p(days), and years."""
    return torch.stack([days.log1p(), days / YEAR], 1)


@dataclass(frozen=True)
class Vocabulary:
    """What the training graphs held: names in the model's own numbering, and their scales.

    Attributes
    ----------
    codes : mapping of str to tuple of str
        Codes of each event node type; position 0 is "other": rare or unknown.
    above : mapping of str to tuple of str
        Of each node type the codes that stand for rarer ones below them in a hierarchy, nearest first.
    rare : tuple of str
        Node types in which enough patients had a code at position 0, beside codes with a name.
    numbers : tuple of str
        Static numeric columns.
    levels : mapping of str to tuple of str
        Levels of each static category; embedded after "other" and "missing".
    values : mapping of str to Scale
        Of each event node type a scale per code; of "patient" a scale per static number.
    times : mapping of str to Scale
        Of each event node type, "timepoint" and "patient": the scales of log1p(days) and of years.
    vectors : mapping of str to Axes
        Node types with images or texts.
    running : tuple of str
        Node types of which enough patients had a running interval.
    bounded : tuple of str
        Node types of which enough patients had a value that is a bound (<5).
    changes : mapping of str to Scale
        Of each event node type and code how far a standardised value lies from the one before it.
    drifts : mapping of str to Scale
        Likewise from the first one of its series.
    relations : tuple of str
        Relations between event nodes of which enough patients had an edge.
    ancestors : mapping of str to tuple of tuple of str
        Of each code of a node type with a hierarchy the names of its ancestors; they share an embedding.

    Raises
    ------
    InputError
        When scales and names do not fit together.
    """

    codes: Mapping[str, tuple[str, ...]]
    above: Mapping[str, tuple[str, ...]]
    rare: tuple[str, ...]
    numbers: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    values: Mapping[str, Scale]
    times: Mapping[str, Scale]
    vectors: Mapping[str, Axes]
    running: tuple[str, ...]
    bounded: tuple[str, ...] = ()
    changes: Mapping[str, Scale] = field(default_factory=dict)
    drifts: Mapping[str, Scale] = field(default_factory=dict)
    relations: tuple[str, ...] = ()
    ancestors: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        codes = {kind: len(names) for kind, names in self.codes.items()}
        columns, spans = codes | {"patient": len(self.numbers)}, dict.fromkeys(self.kinds, 2)
        tables = [(self.values, columns), (self.times, spans)]
        tables += [(table, codes) for table in (self.changes, self.drifts) if table]
        for table, size in tables:
            if {kind: len(scale.mean) for kind, scale in table.items()} != size:
                raise InputError(f"a vocabulary whose scales are not those of its {', '.join(size)}")
        if not set(self.rare) <= set(self.codes) or not all(
            set(names) <= set(self.codes[kind][1:]) for kind, names in self.above.items()
        ):
            raise InputError("a vocabulary that names codes or kinds which it does not have")

        if not set(self.relations) <= set(BETWEEN_ROWS):
            raise InputError(f"a vocabulary with relations other than {', '.join(BETWEEN_ROWS)}")
        if any(len(above) != codes.get(kind, 0) for kind, above in self.ancestors.items()):
            raise InputError("a vocabulary whose ancestors are not those of its codes")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every node type of the model: events, then "timepoint" and "patient"."""
        return (*self.codes, "timepoint", "patient")

    def to_dict(self) -> dict[str, Any]:
        """The vocabulary as lists, strings and numbers.

        Returns
        -------
        dict
            With a key per field; ``bounded`` only where it is not empty.
        """

        def scales(table: Mapping[str, Scale]) -> dict[str, Any]:
            return {k: {name: [*column] for name, column in vars(s).items()} for k, s in table.items()}

        return {
            "codes": {kind: list(names) for kind, names in self.codes.items()},
            "above": {kind: list(names) for kind, names in self.above.items()},
            "rare": list(self.rare),
            "numbers": list(self.numbers),
            "levels": {name: list(levels) for name, levels in self.levels.items()},
            "values": scales(self.values),
            "times": scales(self.times),
            "vectors": {kind: asdict(axes) for kind, axes in self.vectors.items()},
            "running": list(self.running),
            **({"bounded": list(self.bounded)} if self.bounded else {}),
            "changes": scales(self.changes),
            "drifts": scales(self.drifts),
            "relations": list(self.relations),
            "ancestors": {kind: [list(names) for names in above] for kind, above in self.ancestors.items()},
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Vocabulary:
        """Read what `to_dict` gave.

        Parameters
        ----------
        data : mapping
            The fields; ``bounded`` may be absent.

        Returns
        -------
        Vocabulary
        """

        def scales(table: Mapping[str, Any]) -> dict[str, Scale]:
            return {k: Scale(**{name: tuple(s) for name, s in scale.items()}) for k, scale in table.items()}

        return Vocabulary(
            codes={kind: tuple(names) for kind, names in data["codes"].items()},
            above={kind: tuple(names) for kind, names in data["above"].items()},
            rare=tuple(data["rare"]),
            numbers=tuple(data["numbers"]),
            levels={name: tuple(levels) for name, levels in data["levels"].items()},
            values=scales(data["values"]),
            times=scales(data["times"]),
            vectors={kind: Axes(**sizes) for kind, sizes in data["vectors"].items()},
            running=tuple(data["running"]),
            bounded=tuple(data.get("bounded", ())),
            changes=scales(data["changes"]),
            drifts=scales(data["drifts"]),
            relations=tuple(data["relations"]),
            ancestors={k: tuple(tuple(names) for names in above) for k, above in data["ancestors"].items()},
        )


def fit_vocabulary(graphs: Graphs, bases: Mapping[str, Basis] | None = None, least: int = 1) -> Vocabulary:
    """Learn the names that occur in these graphs and the scales of their values.

    Parameters
    ----------
    graphs : Graphs
        Training graphs only, one landmark per patient.
    bases : mapping of str to Basis, optional
        From `fit_bases` of the same graphs, where it has been computed already.
    least : int
        Patients that a name, a scale or a fact needs to be kept, default 1.

    Returns
    -------
    Vocabulary
    """
    bases = fit_bases(graphs, least) if bases is None else bases
    events = [kind for kind in graphs.nodes if kind != "timepoint"]
    names, statics, whole = frequent(graphs, least), graphs.statics, graphs
    several = [kind for kind in events if len(graphs.codes[kind]) > 1 and least > 1]  # else none is rare
    graphs = names.merge(graphs)
    values, times = {}, {}
    for kind in events:
        nodes = graphs[kind]
        size = len(names.codes[kind])
        values[kind] = Scale.fit(nodes.value, nodes.code, size, owner=nodes.owner, least=least)
    column = torch.arange(len(graphs.numbers), device=statics.number.device).expand_as(statics.number)
    who = torch.arange(len(graphs), device=statics.number.device)
    values["patient"] = Scale.fit(
        statics.number.flatten(),
        column.flatten(),
        len(graphs.numbers),
        owner=who[:, None].expand_as(statics.number).flatten(),
        least=least,
    )
    spans = {kind: (graphs[kind].age, graphs[kind].owner) for kind in (*events, "timepoint")}
    for kind, (days, owner) in (spans | {"patient": (statics.at, who)}).items():
        if len(owner.unique()) < least:  # too few to say when: as all rows together
            days, owner = spans["timepoint"]
        column = torch.arange(2, device=days.device).expand(len(days), 2)
        owner = owner[:, None].expand(len(days), 2).flatten()
        times[kind] = Scale.fit(
            _times(days).flatten(), column.flatten(), 2, log=False, owner=owner, least=least
        )

    def enough(kind: str, rows: Bool[Tensor, " node"]) -> bool:
        return len(graphs[kind].owner[rows].unique()) >= max(least, 1)

    return Vocabulary(
        codes=names.codes,
        above=names.above,
        rare=tuple(kind for kind in several if enough(kind, graphs[kind].code == 0)),
        numbers=graphs.numbers,
        levels=names.levels,
        values=values,
        times=times,
        vectors={kind: basis.sizes for kind, basis in bases.items()},
        running=tuple(kind for kind in events if enough(kind, graphs[kind].open)),
        bounded=tuple(kind for kind in events if enough(kind, _side(graphs[kind]) != 0)),
        changes=_changes(graphs, "same", values, least),
        drifts=_changes(graphs, "first", values, least),
        relations=tuple(name for name in BETWEEN_ROWS if len(_joined(graphs, name)) >= max(least, 1)),
        ancestors=_ancestors(whole, graphs.codes),
    )


def _joined(graphs: Graphs, relation: str) -> Int[Tensor, " owner"]:
    """The landmarks with an edge of a relation between event nodes."""
    found = [
        graphs[target].owner[edge[1]]
        for (_, name, target), edge in graphs.edges.items()
        if name == relation and target != "timepoint"
    ]
    return torch.cat([graphs["timepoint"].owner[:0], *found]).unique()


def _changes(graphs: Graphs, relation: str, values: Mapping[str, Scale], least: int) -> dict[str, Scale]:
    """The scale of each code's changes along a relation, about zero."""
    scales = {}
    for kind in (kind for kind in values if kind != "patient"):
        names = graphs.codes[kind]
        nodes, edge = graphs[kind], graphs.edges.get((kind, relation, kind))
        source, target = nodes.code.new_zeros(2, 0) if edge is None else edge
        z, code, owner = values[kind].apply(nodes.value, nodes.code), nodes.code[target], nodes.owner[target]
        change = (z[target] - z[source]).masked_fill(code == 0, torch.nan)
        scales[kind] = Scale.fit(  # both ways, so that the mean is 0
            torch.cat([change, -change]),
            code.repeat(2),
            len(names),
            log=False,
            owner=owner.repeat(2),
            least=least,
        )
    return scales


def _ancestors(
    graphs: Graphs, codes: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Of each kept code the ancestors among the kept codes, read off the edges of the training graphs."""
    above: dict[str, list[set[str]]] = {}
    for (child, relation, parent), edge in graphs.edges.items():
        if relation != "is_a":
            continue
        size, names = len(graphs.codes[parent]), codes[child]
        pairs = (graphs[child].code[edge[0]] * size + graphs[parent].code[edge[1]]).unique().tolist()
        place, known = {name: i for i, name in enumerate(names) if i}, set(codes[parent][1:])
        found = above.setdefault(child, [{name} & known if i else set() for i, name in enumerate(names)])
        for pair in pairs:
            name, ancestor = graphs.codes[child][pair // size], graphs.codes[parent][pair % size]
            if pair // size and name in place and ancestor in known:
                found[place[name]].add(ancestor)
        own = above.setdefault(parent, [set() for _ in codes[parent]])
        for i, name in enumerate(codes[parent]):
            own[i] |= {name} if i else set()
    return {kind: tuple(tuple(sorted(names)) for names in found) for kind, found in above.items()}


def _side(nodes: Nodes) -> Int[Tensor, " node"]:
    """On which side of each value the truth lies: -1 below, 1 above, 0 where the value is the truth."""
    return torch.zeros_like(nodes.code) if nodes.bound is None else nodes.bound.long()
