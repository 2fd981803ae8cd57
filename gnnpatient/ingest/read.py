"""Tables to a cohort: read, checked, packed; every row used, collapsed or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gnnpatient.cohort.cohort import Cohort
from gnnpatient.cohort.outcomes import all_outcomes, ended_by_observation
from gnnpatient.cohort.packed import Events, with_timepoints
from gnnpatient.content.encoder import OwnEncoder, UserEncoder
from gnnpatient.errors import InputError, InputTypeError, NoColumnError
from gnnpatient.ingest.ancestors import ancestor_nodes
from gnnpatient.ingest.contents import measurements
from gnnpatient.ingest.dates import UsualDates, usual_dates
from gnnpatient.ingest.ends import close_open_ends, is_last_row, open_intervals, read_entry
from gnnpatient.ingest.events import read_rows
from gnnpatient.ingest.hidden import flag_early_death_texts, hide_codes, revealing_codes
from gnnpatient.ingest.intervals import first_starts
from gnnpatient.ingest.labels import draft_labels, read_labels
from gnnpatient.ingest.lost import check_lost_nodes, check_lost_tables
from gnnpatient.ingest.moments import is_duration, moment_of
from gnnpatient.ingest.pack import pack
from gnnpatient.ingest.patients import Patients, patient_table, read_patients
from gnnpatient.ingest.periods import read_periods
from gnnpatient.ingest.quarantine import write_quarantine
from gnnpatient.ingest.record import Draft, FollowUp, Record
from gnnpatient.ingest.rows import Rows
from gnnpatient.ingest.source import SourceTables
from gnnpatient.progress import Progress, shown
from gnnpatient.readers.frames import tables_of
from gnnpatient.spec.graph import GraphSpec, read_spec
from gnnpatient.spec.nodes import NodeSpec
from gnnpatient.spec.patterns import fitting


def read_cohort(
    spec: GraphSpec | str | Path | Mapping[str, Any],
    tables: str | Path | Mapping[str, Any],
    *,
    files: str | Path | None = None,
    encoders: Mapping[str, UserEncoder] | None = None,
    outcomes: bool = True,
    quarantine: str | Path | None = None,
    cache: str | Path | None = None,
    device: str = "auto",
    allow_network: bool = False,
    embed: bool = True,
    progress: Progress | bool | None = None,
) -> Cohort:
    """Read a cohort's tables, check every row, and pack what is used.

    Refused rows are counted with their reason in `cohort.report`; a table not to be trusted is refused as a
    whole.

    Parameters
    ----------
    spec : GraphSpec, str, pathlib.Path or dict
        What the tables mean; or what `read_spec` takes.
    tables : str, pathlib.Path or mapping of str to frame
        The folder of the tables; or pandas or polars frames by the names that the spec has for its files.
        Typed columns of a frame are read as those of parquet, text as that of a CSV. A message about its line
        n is about ``frame.iloc[n - 2]``. `encoding` and `separator` say nothing of a frame.
    files : str or pathlib.Path, optional
        Where the files lie that tables name (images below their `root`, a task); default: the folder of the
        tables. Frames have none.
    encoders : mapping of str to callable, optional
        Encoders of your own by the names that `embed` has for them, as in ``{"mine": f}`` for
        ``[nodes.image] embed = "mine"``; see `gnnpatient.content.encoder.UserEncoder`.
    outcomes : bool, default True
        False: patients of whom it is not known yet what comes, to be asked about. Nothing of outcomes is read
        and no end of observation, so their tables and columns need not be there; frames may be without rows.
        The cohort has no outcomes: a model forecasts for everybody, also where an event has come already.
    quarantine : str or pathlib.Path, optional
        A folder for the refused rows themselves, with line and reason. They hold data of patients.
    cache : str or pathlib.Path, optional
        A folder that keeps embeddings of images and texts, so that each is made once, for all cohorts.
    device : str, default "auto"
        Where embeddings are made: "cpu", "cuda" or "auto".
    allow_network : bool, default False
        Whether an encoder may be downloaded from the hub.
    embed : bool, default True
        False: images and texts are opened and counted only, so that a check loads no encoder.
    progress : callable or bool, optional
        Called with what is done, how far, and of how many; True for bars.

    Returns
    -------
    Cohort

    Raises
    ------
    InputError
        When a table, a column or an outcome cannot be read as the spec says; the message names it, shows it
        and says what to do.
    """
    if isinstance(tables, GraphSpec):
        raise InputTypeError(
            "read_cohort: a GraphSpec where the tables are wanted; the spec comes first, as in "
            "read_cohort(spec, folder)"
        )
    spec = spec if isinstance(spec, GraphSpec) else read_spec(spec)
    if not isinstance(outcomes, bool):
        raise InputError(
            f"outcomes = {outcomes!r}; must be True or False. Which of them are forecast, "
            "PrognosisModel(outcomes=[...]) says"
        )
    with shown(progress) as report:
        source = SourceTables(
            tables_of(tables, spec.patient.table, may_be_empty=not outcomes),
            spec,
            files=Path(files) if files is not None else None,
            own_encoders=_own_encoders(encoders, spec),
            cache=Path(cache) if cache else None,
            device=device,
            allow_network=allow_network,
            embed=embed,
            progress=report,
        )
        return _read(source, None if quarantine is None else Path(quarantine), outcomes)


def _read(source: SourceTables, quarantine: Path | None, outcomes: bool) -> Cohort:
    spec = source.spec
    patients = read_patients(source)
    record = Record(source, patients, _read_nodes(source, patients))
    try:
        drafts = draft_labels(record) if outcomes else {}
    except NoColumnError as refusal:
        raise InputError(f"{refusal}; of new patients, read_cohort(..., outcomes=False) reads none") from None
    follow_up, first_day = _follow(record, drafts, ends=outcomes)
    labels = read_labels(follow_up, drafts) if outcomes else {}
    flag_early_death_texts(source, labels)
    nodes = _pack_nodes(source, hide_codes(source, follow_up.rows, check=outcomes), len(patients))
    source.mark_dictionaries()
    check_lost_tables(source)
    source.flags += source.missing_word_flags()
    if quarantine is not None:
        write_quarantine(source, quarantine)
    spec = spec if outcomes else spec.model_copy(update={"outcomes": {}})
    end = follow_up.observed_until
    until = {} if end is None else dict.fromkeys(ended_by_observation(spec.outcomes), end)
    return Cohort(
        spec=spec,
        ids=patients.ids,
        number=patients.number,
        category=patients.category,
        levels=patients.levels,
        entry=follow_up.entry,
        events=nodes.events,
        codes=nodes.codes,
        units=nodes.units,
        outcomes=all_outcomes(spec.outcomes, labels, nodes.events, nodes.codes, until),
        origin=patients.origin,
        group=patients.group,
        entered=None if (first_day == follow_up.entry).all() else first_day,
        vectors=nodes.vectors,
        is_a=nodes.is_a,
        number_known=patients.number_known,
        category_known=patients.category_known,
        report=_report(source),
    )


def _own_encoders(encoders: Mapping[str, UserEncoder] | None, spec: GraphSpec) -> Mapping[str, OwnEncoder]:
    if encoders is None:
        return {}
    from gnnpatient.content.embed import own_encoders

    return own_encoders(encoders, spec.nodes)


def _read_nodes(source: SourceTables, patients: Patients) -> dict[str, Rows]:
    """The rows of each node type but ancestors, which are made from those that are not hidden."""
    nodes, rows = source.spec.nodes, dict[str, Rows]()
    for kind, node in nodes.items():
        if not node.made:
            rows[kind] = read_rows(source, kind, node, patients)
            check_lost_nodes(source, kind, rows[kind].source)
    for kind, node in nodes.items():
        if node.measures is not None:
            rows[kind] = measurements(source, kind, node, rows[node.measures])
    return rows


def _follow(record: Record, drafts: Mapping[str, Draft], *, ends: bool) -> tuple[FollowUp, np.ndarray]:
    """When each patient is observed; and the end of the day of entry, (patient,) int64 seconds.

    ends: whether the end of observation is known, and read.
    """
    source, patients, spec = record.source, record.patients, record.source.spec.patient
    times = [part.time for draft in drafts.values() for part in draft.parts]
    dates = usual_dates(source, patients, record.rows, times)
    rows = open_intervals(source, record.rows, dates)
    entry, first_day = np.zeros(len(patients), np.int64), patients.first_day
    if spec.entry is not None:  # on a bare date a patient is there from the first second on
        entry, first_day = read_entry(source, dates, patients, rows)
    elif any(draft.intervals is not None for draft in drafts.values()):
        entry, first_day = first_starts(source, drafts, first_day)
    end = _read_exit(source, patients, rows, dates) if ends else None
    cuts = spec.exit is not None and is_duration(source, spec.exit, patient_table(source))
    periods = read_periods(source, patients)
    return FollowUp(source, patients, rows, dates, entry, end, cuts, periods), first_day


def _read_exit(
    source: SourceTables, patients: Patients, rows: Mapping[str, Rows], dates: UsualDates
) -> np.ndarray | None:
    """When observation ends by [patient] exit: (patient,) int64 seconds, NEVER = not given."""
    what, table = source.spec.patient.exit, patient_table(source)
    if what is None:
        return None
    end = moment_of(source, what, table, patients, rows, beyond=True)
    if is_duration(source, what, table):
        return dates.clipped_to_data(end)
    return close_open_ends(source, dates, end, "exit", at_last_row=is_last_row(source, what))


@dataclass(frozen=True, eq=False)
class _Nodes:
    """All node types, packed."""

    events: dict[str, Events]
    codes: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"timepoint": ("other",)})
    units: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"timepoint": ("",)})
    is_a: dict[str, np.ndarray] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)


def _pack_nodes(source: SourceTables, rows: Mapping[str, Rows], patients: int) -> _Nodes:
    """Pack each node type, with ancestors and timepoints; mark what is used and what is a repeat."""
    events: dict[str, Events] = {}
    nodes = _Nodes(events, vectors={kind: e.matrix for kind, e in rows.items() if e.matrix is not None})
    for kind, node in source.spec.nodes.items():
        if node.of is not None:
            packed, nodes.is_a[kind] = _shown_ancestors(source, kind, node, rows[node.of])
            events[kind], *_ = pack(packed, patients)
        else:
            packed = rows[kind]
            events[kind], used, collapsed = pack(packed, patients)
            source.mark_used(used)
            source.mark_collapsed(collapsed)
        nodes.codes[kind], nodes.units[kind] = packed.codes, packed.units
    return replace(nodes, events=with_timepoints(events, source.spec.every, patients))


def _shown_ancestors(source: SourceTables, kind: str, node: NodeSpec, rows: Rows) -> tuple[Rows, np.ndarray]:
    """Ancestors that give no diagnosis away, and (2, pair) int32: which code is which ancestor's."""
    ancestors, pairs = ancestor_nodes(source, node, rows)
    shown = ~np.array(fitting(ancestors.codes, revealing_codes(source.spec, kind)), bool)
    return ancestors.only(shown[ancestors.code]), pairs[:, shown[pairs[1]]]


def _report(source: SourceTables) -> dict[str, Any]:
    """What became of the rows, and what was found, for `check`."""
    return {
        "tables": {name: audit.summary() for name, audit in source.audits.items()},
        "flags": source.flags,
        "decisive": source.decisive,
        "steps": source.steps,
        "outcome_steps": source.outcome_steps,
        "encoders": source.encoders,
    }
