"""Tables to a cohort: read, checked, packed; every row used, collapsed or refused."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from gnnpatient.cohort.cohort import Cohort
from gnnpatient.cohort.outcomes import Diagnosis, Outcome, Survival, all_outcomes
from gnnpatient.cohort.packed import pack, with_timepoints
from gnnpatient.errors import InputError
from gnnpatient.ingest.ends import (
    closed,
    is_last_row,
    open_intervals,
    ordinary,
    read_entry,
    read_periods,
)
from gnnpatient.ingest.events import Rows, family, hierarchy, measurements, read_rows
from gnnpatient.ingest.labels import (
    Record,
    as_known,
    draft_survival,
    end_by_events,
    read_diagnosis,
    read_survival,
    tell_ends_that_are_events,
)
from gnnpatient.ingest.lost import lost_kind, lost_tables
from gnnpatient.ingest.patients import (
    is_duration,
    moment_of,
    patient_table,
    read_patients,
)
from gnnpatient.ingest.source import SourceTables
from gnnpatient.progress import Progress
from gnnpatient.spec.graph import GraphSpec, read_spec
from gnnpatient.spec.outcomes import DiagnosisSpec, ProgressionSpec, SurvivalSpec
from gnnpatient.spec.patterns import fitting
from gnnpatient.times import NEVER


def read_cohort(
    spec: GraphSpec | str | Path,
    folder: str | Path,
    *,
    quarantine: str | Path | None = None,
    cache: str | Path | None = None,
    device: str = "auto",
    allow_network: bool = False,
    embed: bool = True,
    progress: Progress | None = None,
) -> Cohort:
    """Read a cohort's tables, check every row, and pack what is used.

    Refused rows are counted with their reason in `cohort.report`; a table not to be trusted is refused whole.
    quarantine: a folder for the refused rows themselves, with line and reason (patients are in it).
    cache: a folder that keeps embeddings of pictures and texts, so that each is made once, for all cohorts.
    device: where they are made; allow_network: an encoder may be fetched from the hub; embed: False opens and
    counts them only, so that a check loads no encoder; progress: called with what is done, how far, and
    of how many.
    """
    spec = spec if isinstance(spec, GraphSpec) else read_spec(spec)
    source = SourceTables(
        Path(folder),
        spec,
        cache=Path(cache) if cache else None,
        device=device,
        allow_network=allow_network,
        embed=embed,
        progress=progress,
    )
    patients, table = read_patients(source), patient_table(source)
    count, who = len(patients), spec.patient
    rows = {}
    for kind, node in spec.nodes.items():
        if not node.made:
            rows[kind] = read_rows(source, kind, node, patients)
            lost_kind(source, kind, rows[kind].source)
    for kind, node in spec.nodes.items():
        if node.measures is not None:
            rows[kind] = measurements(source, kind, node, rows[node.measures])
    entry, first_day, end = np.zeros(count, np.int64), patients.first_day, None
    record = Record(source, patients, rows, entry, end)
    drafts = {
        name: draft_survival(record, name, outcome)
        for name, outcome in spec.outcomes.items()
        if isinstance(outcome, SurvivalSpec)
    }
    dates = ordinary(source, patients, rows, [time for d in drafts.values() for _, time, *_ in d.parts])
    rows = open_intervals(source, rows, dates)
    if who.entry is not None:  # on a bare date a patient is there from the first second on
        entry, first_day = read_entry(source, dates, patients, rows)
    if who.exit is not None:
        end = moment_of(source, who.exit, table, patients, rows, beyond=True)
        cut = is_duration(source, who.exit, table)
        end = (
            dates.reach(end) if cut else closed(source, dates, end, "exit", own=is_last_row(source, who.exit))
        )
        record = replace(record, exit=end, cut=cut)
    record = replace(record, rows=rows, entry=entry, ordinary=dates, periods=read_periods(source, patients))
    labels: dict[str, Outcome] = {}
    for name, outcome in spec.outcomes.items():
        if name in drafts:
            labels[name] = read_survival(record, drafts[name])
        elif isinstance(outcome, DiagnosisSpec):
            labels[name] = read_diagnosis(record, name, outcome)
    labels = end_by_events(record, as_known(record, labels), drafts)
    tell_ends_that_are_events(record, drafts, {n: o for n, o in labels.items() if isinstance(o, Survival)})
    for kind, (patient, known) in source.deaths.items():
        _tells_early(source, kind, patient, known, labels)
    rows = _hidden(source, rows)
    is_a, events = {}, {}
    vectors = {kind: of.matrix for kind, of in rows.items() if of.matrix is not None}
    codes: dict[str, tuple[str, ...]] = {"timepoint": ("other",)}
    units: dict[str, tuple[str, ...]] = {"timepoint": ("",)}
    for kind, node in spec.nodes.items():
        if node.of is not None:
            of, pairs = family(source, node, rows[node.of])
            shown = ~np.array(fitting(of.codes, _given_away(spec, kind)), bool)
            is_a[kind] = pairs[:, shown[pairs[1]]]
            of = of.only(shown[of.code])
            events[kind], *_ = pack(of, count)
        else:
            of = rows[kind]
            events[kind], used, collapsed = pack(of, count)
            source.mark(used, "used")
            source.mark(collapsed, "collapsed")
        codes[kind], units[kind] = of.codes, of.units
    whole = with_timepoints(events, spec.every, count)
    lost_tables(source)
    source.flags += source.told_words()
    if quarantine is not None:
        source.quarantine(Path(quarantine))
    return Cohort(
        spec=spec,
        ids=patients.ids,
        number=patients.number,
        category=patients.category,
        levels=patients.levels,
        entry=entry,
        events=whole,
        codes=codes,
        units=units,
        outcomes=all_outcomes(spec.outcomes, labels, whole, codes),
        origin=patients.origin,
        group=patients.group,
        entered=None if (first_day == entry).all() else first_day,
        vectors=vectors,
        is_a=is_a,
        number_known=patients.number_known,
        category_known=patients.category_known,
        report={
            "tables": {name: account.summary() for name, account in source.accounts.items()},
            "flags": source.flags,
            "decisive": source.decisive,
            "steps": source.steps,
            "outcome_steps": source.outcome_steps,
            "encoders": source.encoders,
        },
    )


_FATAL = re.compile(r"(?i)death|dead|died|mort|decea|expire|exitus|surviv|tod|décès|muerte")


def _tells_early(
    source: SourceTables, kind: str, patient: np.ndarray, known: np.ndarray, labels: Mapping[str, Outcome]
) -> None:
    """Flag texts that tell a death and are known before the death that an outcome has (METHODS 6)."""
    for name, truth in labels.items():
        if isinstance(truth, Survival):
            fatal = [k for k, cause in enumerate(truth.causes, 1) if _FATAL.search(cause)]
            fatal = fatal or [k for k in range(1, 1 + len(truth.causes)) if _FATAL.search(name)]
            dies = np.isin(truth.event, fatal) & (truth.time != NEVER)
            when = truth.time
        elif isinstance(truth, Diagnosis) and _FATAL.search(name) and "yes" in truth.classes:
            dies, when = truth.label == truth.classes.index("yes"), truth.known
        else:
            continue
        early = dies[patient] & (known < when[patient])
        if early.any():
            source.doubt(
                f"{kind}: {early.sum()} text(s) of {len(np.unique(patient[early]))} patient(s) tell of a "
                f"death, as died, expired, deceased, and are known before it (outcome {name}); when were "
                "they signed? mask such words",
                decides=True,
            )


def _given_away(spec: GraphSpec, kind: str) -> tuple[str, ...]:
    """Patterns of the codes of a kind that give some diagnosis away."""
    of = [outcome for outcome in spec.outcomes.values() if isinstance(outcome, DiagnosisSpec)]
    return tuple(p for o in of for p in (*o.hide, *(o.codes if o.node == kind else ())))


def _hidden(source: SourceTables, every: Mapping[str, Rows]) -> dict[str, Rows]:
    """Without the codes that give a diagnosis away (METHODS 9), as they are in the tables: what `level` makes
    of them and what lies above them does not show them either.

    Refused: a pattern that fits no code, and so hides nothing.
    """
    specs = {n: o for n, o in source.spec.outcomes.items() if isinstance(o, DiagnosisSpec)}
    if any(outcome.hide for outcome in specs.values()):
        codes = {code for of in every.values() for code in (*of.codes[1:], *of.narrow_codes)}
        for node in source.spec.nodes.values():
            if node.of is not None and node.hierarchy is not None:
                below = every[node.of].codes
                codes |= set(hierarchy(source, node.hierarchy, below).ancestors(below)[1])
        for name, pattern in ((name, p) for name, outcome in specs.items() for p in outcome.hide):
            if not any(fitting(codes, [pattern])):
                alike = difflib.get_close_matches(pattern.replace("*", ""), sorted(codes)[:100_000], n=3)
                hint = f"did you mean {' or '.join(map(repr, alike))}?" if alike else "codes there: "
                hint += ", ".join(sorted(codes)[:5]) * (not alike)
                raise InputError(
                    f"outcomes.{name}.hide: {pattern!r} fits no code of any kind and hides nothing; {hint}"
                )
    return {kind: _shown(source, kind, of, specs) for kind, of in every.items()}


def _shown(source: SourceTables, kind: str, rows: Rows, specs: Mapping[str, DiagnosisSpec]) -> Rows:
    """The rows of a kind that give no diagnosis away."""
    for name, outcome in specs.items():
        give_away = rows.fitting((*outcome.hide, *(outcome.codes if outcome.node == kind else ())))
        source.refuse(rows.source[give_away], f"hidden: gives {name} away")
        for other, follows in source.spec.outcomes.items():
            if isinstance(follows, ProgressionSpec) and follows.node == kind:
                lost = rows.only(give_away).fitting(follows.codes)
                if lost.any():
                    raise InputError(
                        f"outcome {other!r} follows codes that outcome {name!r} hides; take one out"
                    )
        rows = rows.only(~give_away)
    return rows
