"""What each model of a comparison sees of a cohort, and how it puts node types together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gnnpatient.cohort.cohort import Cohort, Landmarks
from gnnpatient.cohort.packed import Events, with_timepoints
from gnnpatient.prognosis.forecast import Answer, DiagnosisForecast, Forecast
from gnnpatient.prognosis.multistate import StatesForecast
from gnnpatient.prognosis.recurrent import RecurrentForecast
from gnnpatient.prognosis.values import ProgressionForecast
from gnnpatient.study.scoreboard import Model
from gnnpatient.times import FOREVER


def _with_rows(cohort: Cohort, events: Mapping[str, Events], **parts: Any) -> Cohort:
    """The cohort with other rows; its timepoints are made anew."""
    rows = with_timepoints({kind: events[kind] for kind in cohort.spec.nodes}, cohort.spec.every, len(cohort))
    return replace(cohort, events=rows, path=None, manifest_hash=None, **parts)


def _rows_by_kind(cohort: Cohort) -> dict[str, Events]:
    """The rows of every node type of the spec."""
    return {kind: cohort.events[kind] for kind in cohort.spec.nodes}


def _detached(cohort: Cohort) -> Cohort:
    """The same nodes, none of which is made of another node type's rows or joined to them."""
    nodes = {kind: node.detached() for kind, node in cohort.spec.nodes.items()}
    return replace(
        cohort, spec=cohort.spec.model_copy(update={"nodes": nodes}), path=None, manifest_hash=None
    )


def timing_only(cohort: Cohort) -> Cohort:
    """Timing only: which code was recorded when, how often and in which order, without its value or content.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    Cohort
        With missing values and no embeddings; baseline covariates stay.
    """
    silent = {
        kind: replace(e, value=np.full(len(e), np.nan, np.float32), vector=None)
        for kind, e in _rows_by_kind(cohort).items()
    }
    return _with_rows(cohort, silent, vectors={})


def last_values_only(cohort: Cohort) -> Cohort:
    """Last values only: the latest row of each code as known at a landmark, without its time.

    Nor does it show how many rows there are. That a patient has such a row still shows, and so do rows that
    became known at the same moment.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    Cohort
        Each row is replaced by the next one of its code, and all happened at one time.
    """
    first = min((int(e.happened.min()) for e in _rows_by_kind(cohort).values() if len(e)), default=0)
    rows = {}
    for kind, e in _rows_by_kind(cohort).items():
        order = np.lexsort((e.known, e.code, e.patient))
        patient, code, known = e.patient[order], e.code[order], e.known[order]
        # a moment at which a code became known
        new = np.ones(len(order), bool)
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
    """Missingness only: whether a patient has any row of a node type by the landmark, one node each.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    Cohort
        With at most one row a patient and node type, of code "seen" and without a value.
    """
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
    return _with_rows(_detached(cohort), rows, codes=names, units=units, vectors={}, is_a={})


def without_rows(cohort: Cohort, kinds: Iterable[str], patient: np.ndarray) -> Cohort:
    """The cohort without the rows of some node types in some patients.

    Parameters
    ----------
    cohort : Cohort
    kinds : iterable of str
        Node types to take away.
    patient : (patient,) bool array
        From whom.

    Returns
    -------
    Cohort
    """
    rows, kinds = _rows_by_kind(cohort), set(kinds)
    for kind in kinds:
        e = rows[kind]
        keep = ~patient[e.patient]
        columns = {name: column[keep] for name, column in e.columns().items() if name != "ptr"}
        ptr = np.concatenate([[0], np.where(patient, 0, np.diff(e.ptr)).cumsum()]).astype(np.int64)
        rows[kind] = Events(ptr=ptr, **columns)
    return _with_rows(cohort, rows)


def modalities_of(cohort: Cohort) -> dict[str, tuple[str, ...]]:
    """What may be left out together: each node type with rows, and the node types made from its rows.

    Those are the ancestors of its codes (`of`) and the measurements of its images (`measures`).

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    dict of str to tuple of str
        Node type -> itself and those made from it.

    Examples
    --------
    >>> from gnnpatient.testing import tiny_cohort
    >>> modalities_of(tiny_cohort(20))
    {'lab': ('lab',), 'vital': ('vital',), 'drug': ('drug',)}
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
    """A way to put node types together.

    Attributes
    ----------
    name : str
        In tables and JSON.
    cohort : Cohort
        What the model sees.
    choices : mapping
        Parameters of PrognosisModel in which it differs from the first.
    """

    name: str
    cohort: Cohort
    choices: Mapping[str, Any] = field(default_factory=dict)

    def landmarks(self, X: Landmarks) -> Landmarks:
        """The same landmarks in the cohort that the model sees.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.

        Returns
        -------
        Landmarks
        """
        return Landmarks(self.cohort, X.patient, X.at, X.to)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Node types of which the model sees a row."""
        return tuple(kind for kind in self.cohort.spec.nodes if len(self.cohort.events[kind]))


def comparators(cohort: Cohort, modalities: Mapping[str, Sequence[str]]) -> dict[str, Comparator]:
    """All models that are fitted, by name, that of all node types first.

    Of two modalities there is no leave-one-out model, since `without A` is `only B`.

    Parameters
    ----------
    cohort : Cohort
    modalities : mapping of str to sequence of str
        Name -> node types, as `modalities_of` returns it.

    Returns
    -------
    dict of str to Comparator
    """

    def only(*names: str) -> Cohort:
        return cohort.only(kind for name in names for kind in modalities[name])

    all_types = only(*modalities)
    rest = {name: [other for other in modalities if other != name] for name in modalities}
    nodes = cohort.spec.nodes
    written = [name for name, kinds in modalities.items() if any(nodes[kind].content for kind in kinds)]
    every = [
        Comparator("gnn", all_types),
        *(Comparator(f"only {name}", only(name)) for name in modalities),
        *(Comparator(f"without {name}", only(*rest[name])) for name in modalities if len(modalities) > 2),
        Comparator("gru", all_types, {"families": ("graph",), "conv": "gru"}),
        Comparator("clockwork", timing_only(all_types)),
        Comparator("values", last_values_only(all_types)),
        *(Comparator(f"values {name}", last_values_only(only(name))) for name in written),
        Comparator("presence", missingness_only(all_types)),
        Comparator("statics", only()),
    ]
    return {one.name: one for one in every}


@dataclass(frozen=True, eq=False)
class RestrictedModel:
    """A fitted model that forecasts from what it may see of a cohort.

    Attributes
    ----------
    model : Model
        The fitted model.
    cohort : Cohort
        What it may see.
    """

    model: Model
    cohort: Cohort

    def forecast(self, X: Landmarks) -> Mapping[str, Answer]:
        """Forecast landmarks of the whole cohort from the restricted one.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.

        Returns
        -------
        mapping of str to Forecast or DiagnosisForecast
        """
        return self.model.forecast(Landmarks(self.cohort, X.patient, X.at, X.to))


AVERAGED: Mapping[type, tuple[str, ...]] = {
    Forecast: ("incidence",),
    RecurrentForecast: ("incidence", "number", "gone"),
    StatesForecast: ("incidence", "occupation", "number"),
    DiagnosisForecast: ("probability",),
    ProgressionForecast: ("probability", "seen"),
}
"""What late fusion averages, by the class of a forecast."""
MEMBERS = ("members", "number_members", "occupation_members")
"""What a forecast has of each member, which a mean of models has not."""


@dataclass(frozen=True, eq=False)
class LateFusion:
    """Late fusion: the mean of the forecasts of several models.

    Attributes
    ----------
    models : tuple of Model
        The unimodal models.
    """

    models: tuple[Model, ...]

    def forecast(self, X: Landmarks) -> dict[str, Answer]:
        """Average the forecasts.

        Parameters
        ----------
        X : Landmarks
            Patients at prediction times.

        Returns
        -------
        dict of str to Forecast or DiagnosisForecast
            Without members, hence without a model spread.
        """
        first, *rest = (model.forecast(X) for model in self.models)
        out: dict[str, Answer] = {}
        for name, one in first.items():
            means: dict[str, Any] = {
                field: np.mean([getattr(forecast[name], field) for forecast in (first, *rest)], axis=0)
                for field in AVERAGED[type(one)]
            }
            # the mean of several models is held against nobody
            alone: dict[str, Any] = {f: None for f in (*MEMBERS, "calibration") if hasattr(one, f)}
            out[name] = replace(one, **means, **alone)
        return out
