"""What each model of a comparison sees of a cohort, and how it puts node types together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.cohort.packed import Events, with_timepoints
from gnnpatient.prognosis.forecast import Answer, Forecast
from gnnpatient.study.scoreboard import Model
from gnnpatient.times import FOREVER


def _with_rows(cohort: Cohort, events: Mapping[str, Events], **parts: Any) -> Cohort:
    rows = with_timepoints({kind: events[kind] for kind in cohort.spec.nodes}, cohort.spec.every, len(cohort))
    return replace(cohort, events=rows, path=None, manifest_hash=None, **parts)


def _rows_by_kind(cohort: Cohort) -> dict[str, Events]:
    return {kind: cohort.events[kind] for kind in cohort.spec.nodes}


def _with_relations(cohort: Cohort, rules: tuple[str, ...]) -> Cohort:
    """The same nodes, joined by these rules alone; () leaves them without an edge."""
    nodes = {
        kind: node.model_copy(update={"edges": rules, "of": None, "measures": None})
        for kind, node in cohort.spec.nodes.items()
    }
    return replace(
        cohort, spec=cohort.spec.model_copy(update={"nodes": nodes}), path=None, manifest_hash=None
    )


def timing_only(cohort: Cohort) -> Cohort:
    """Which test was made when, how often and in which order, without what it said. Statics stay."""
    silent = {
        kind: replace(e, value=np.full(len(e), np.nan, np.float32), vector=None)
        for kind, e in _rows_by_kind(cohort).items()
    }
    return _with_rows(cohort, silent, vectors={})


def last_values_only(cohort: Cohort) -> Cohort:
    """What the latest row of each code says, as known at an ask: not when it was, nor how many there are.

    That a patient has such a row at all still shows, and so do rows that became known in one moment.
    """
    first = min((int(e.happened.min()) for e in _rows_by_kind(cohort).values() if len(e)), default=0)
    rows = {}
    for kind, e in _rows_by_kind(cohort).items():
        order = np.lexsort((e.known, e.code, e.patient))
        patient, code, known = e.patient[order], e.code[order], e.known[order]
        new = np.ones(len(order), bool)  # a moment at which a code became known
        new[1:] = (np.diff(patient) != 0) | (np.diff(code) != 0) | (np.diff(known) != 0)
        start = np.flatnonzero(new)
        until = np.full(len(start), FOREVER)
        on = (patient[start[1:]] == patient[start[:-1]]) & (code[start[1:]] == code[start[:-1]])
        until[:-1][on] = known[start[1:]][on]
        replaced = np.empty(len(order), np.int64)
        replaced[order] = until[new.cumsum() - 1]
        if e.replaced is not None:
            replaced = np.minimum(replaced, e.replaced)
        rows[kind] = replace(e, happened=np.full(len(e), first), until=None, replaced=replaced)
    return _with_rows(cohort, rows)


def missingness_only(cohort: Cohort) -> Cohort:
    """Whether a patient has any row of a kind by the time of an ask: one node a kind, which says no more."""
    first = min((int(e.happened.min()) for e in _rows_by_kind(cohort).values() if len(e)), default=0)
    rows = {}
    for kind, e in _rows_by_kind(cohort).items():
        here = np.diff(e.ptr) > 0
        row, count = e.ptr[:-1][here], int(here.sum())
        rows[kind] = Events(
            ptr=np.concatenate([[0], here.cumsum()]).astype(np.int64),
            known=e.known[row],
            happened=np.full(count, first),
            code=np.ones(count, np.int32),
            value=np.full(count, np.nan, np.float32),
            timepoint=np.zeros(count, np.int32),
        )
    names = dict(cohort.codes) | dict.fromkeys(rows, ("other", "seen"))
    units = dict(cohort.units) | dict.fromkeys(rows, ("", ""))
    return _with_rows(_with_relations(cohort, ("at",)), rows, codes=names, units=units, vectors={}, is_a={})


def without_rows(cohort: Cohort, kinds: Iterable[str], patient: np.ndarray) -> Cohort:
    """The same cohort without the rows of these kinds in some patients, a flag each."""
    rows, kinds = _rows_by_kind(cohort), set(kinds)
    for kind in kinds:
        e = rows[kind]
        keep = ~patient[e.patient]
        columns = {name: column[keep] for name, column in e.columns().items() if name != "ptr"}
        ptr = np.concatenate([[0], np.where(patient, 0, np.diff(e.ptr)).cumsum()]).astype(np.int64)
        rows[kind] = Events(ptr=ptr, **columns)
    return _with_rows(cohort, rows)


def modalities_of(cohort: Cohort) -> dict[str, tuple[str, ...]]:
    """What may be left out together: each kind with rows, and with it the kinds made from its rows.

    Those are the ancestors of its codes (`of`) and the measurements of its pictures (`measures`).
    """
    nodes = cohort.spec.nodes
    home: dict[str, str] = {}
    for kind, node in nodes.items():
        measured = [node.measures, *(link.measures for link in node.links)]
        home[kind] = node.of or next((of for of in measured if of is not None), kind)
    parts: dict[str, tuple[str, ...]] = {}
    for kind in nodes:
        top = kind
        while home[top] != top:
            top = home[top]
        if len(cohort.events[kind]):
            parts[top] = (*parts.get(top, ()), kind)
    return parts


@dataclass(frozen=True, eq=False)
class Comparator:
    """A way to put kinds together: what it sees, and how it differs from the graph."""

    name: str
    cohort: Cohort
    choices: Mapping[str, Any] = field(default_factory=dict)

    def landmarks(self, X: Landmarks) -> Landmarks:
        """The same asks of what it sees."""
        return Landmarks(self.cohort, X.patient, X.at, X.to)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of which it sees a row."""
        return tuple(kind for kind in self.cohort.spec.nodes if len(self.cohort.events[kind]))


def comparators(cohort: Cohort, modalities: Mapping[str, Sequence[str]]) -> dict[str, Comparator]:
    """All that are fitted, by name, the graph first. Of two modalities `without A` is `only B`."""

    def only(*names: str) -> Cohort:
        return cohort.only(kind for name in names for kind in modalities[name])

    whole = only(*modalities)
    rest = {name: [other for other in modalities if other != name] for name in modalities}
    nodes = cohort.spec.nodes
    written = [name for name, kinds in modalities.items() if any(nodes[kind].content for kind in kinds)]
    every = [
        Comparator("graph", whole),
        *(Comparator(f"only {name}", only(name)) for name in modalities),
        *(Comparator(f"without {name}", only(*rest[name])) for name in modalities if len(modalities) > 2),
        Comparator("early", _with_relations(whole, ()), {"linear": True}),
        Comparator("intermediate", _with_relations(whole, ("at",)), {"num_layers": 1}),
        Comparator("transformer", whole, {"conv": "transformer"}),
        Comparator("clockwork", timing_only(whole)),
        Comparator("values", last_values_only(whole)),
        *(Comparator(f"values {name}", last_values_only(only(name))) for name in written),
        Comparator("presence", missingness_only(whole)),
        Comparator("statics", only()),
    ]
    return {one.name: one for one in every}


@dataclass(frozen=True, eq=False)
class RestrictedModel:
    """A fitted model that is asked about what it may see of a cohort."""

    model: Model
    cohort: Cohort

    def forecast(self, X: Landmarks) -> Mapping[str, Answer]:
        return self.model.forecast(Landmarks(self.cohort, X.patient, X.at, X.to))


@dataclass(frozen=True, eq=False)
class LateFusion:
    """The mean of several models' forecasts."""

    models: tuple[Model, ...]

    def forecast(self, X: Landmarks) -> dict[str, Answer]:
        first, *rest = (model.forecast(X) for model in self.models)
        out: dict[str, Answer] = {}
        for name, one in first.items():
            slots = "incidence" if isinstance(one, Forecast) else "probability"
            every = [getattr(said[name], slots) for said in (first, *rest)]
            out[name] = replace(one, **{slots: np.mean(every, axis=0), "members": None})
        return out
