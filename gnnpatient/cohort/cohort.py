"""The cohort: position, what was known when, what came of it. Frozen, memory-mapped, shared, never copied."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gnnpatient.cohort.arrays import StoredArrays
from gnnpatient.cohort.outcomes import (
    Diagnosis,
    Outcome,
    Survival,
    Task,
)
from gnnpatient.cohort.packed import Events, with_timepoints
from gnnpatient.cohort.store import patient_columns, stored_fields, write_folder
from gnnpatient.errors import InputError, near
from gnnpatient.spec.graph import GraphSpec
from gnnpatient.times import DAY, FOREVER, NEVER

if TYPE_CHECKING:
    import polars as pl

    from gnnpatient.cohort.view import Patient


def _parted(times: Iterable[Any]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Moments to ask at: the days, the dates, and whether entry is one of them."""
    days, dates, entry = list[float](), list[str](), False
    for one in times:
        if isinstance(one, str) and one == "entry":
            entry = True
        elif isinstance(one, date | np.datetime64) or (
            isinstance(one, str) and re.match(r"\s*\d{4}-?\d\d-?\d\d", one)
        ):
            dates.append(one.isoformat() if isinstance(one, date) else str(one))
        else:
            try:
                days.append(float(one))
            except (TypeError, ValueError):
                would = 'days after the origin, ISO 8601 dates, or "entry"'
                hint = near(one, ["entry"]) if isinstance(one, str) else ""
                raise InputError(f"ask at {one!r}; give {would}{hint if 'mean' in hint else ''}") from None
    return np.asarray(days, np.float64), np.asarray(dates, np.str_), entry


@dataclass(frozen=True, eq=False)
class Cohort:
    """All patients of a study, packed into columns. Times are int64 seconds after each patient's origin."""

    spec: GraphSpec
    ids: np.ndarray  # (patient,) str, sorted
    number: np.ndarray  # (patient, column) float32, nan = missing
    category: np.ndarray  # (patient, column) int32 into levels, -1 = missing
    levels: Mapping[str, tuple[str, ...]]
    entry: np.ndarray  # (patient,) int64: observation starts; FOREVER = without the entry event, so never
    events: Mapping[str, Events]  # node kinds in the order of the spec, then "timepoint"
    codes: Mapping[str, tuple[str, ...]]  # of each kind; position 0 is "other"
    units: Mapping[str, tuple[str, ...]]  # beside codes
    outcomes: Mapping[str, Outcome]
    origin: np.ndarray | None = None  # (patient,) int64 seconds since 1970 of day 0; None = offsets only
    group: np.ndarray | None = None  # (patient,) str, "" = own group
    entered: np.ndarray | None = (
        None  # (patient,) int64: the end of the day of entry where that is a bare date
    )
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)  # kind -> (vector, channel) float32
    is_a: Mapping[str, np.ndarray] = field(
        default_factory=dict
    )  # kind of ancestors -> (2, pair) int32 code, ancestor
    report: Mapping[str, Any] = field(default_factory=dict)  # accounts of the tables, flags; no patient in it
    number_known: np.ndarray | None = None  # (patient, column) int64 seconds: since when each static is
    category_known: np.ndarray | None = None  # known; None: all of them as of the origin
    path: Path | None = None  # where it was opened from
    manifest_hash: str | None = None  # of what was opened there
    stored: StoredArrays | None = None  # the arrays of that folder and their hashes

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        rows = ", ".join(f"{len(e)} {kind}" for kind, e in self.events.items())
        return f"Cohort({self.spec.cohort}: {len(self)} patients, {rows})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes a cohort on disk travels as its path and the hash of its manifest."""
        if self.path is not None:
            return open_cohort, (self.path, self.manifest_hash)
        self.verify()
        return Cohort, tuple(getattr(self, f.name) for f in fields(self) if f.name != "stored")

    def verify(self, patients: Any = None) -> None:
        """Refuse what on disk is not as it was packed: in what is read about some patients (positions), by
        default in everything. What was compared once is not compared again; graphs are built of nothing else.
        """
        if self.stored is not None:
            here = self.path is not None and len(self) == self.stored.manifest["patients"]
            self.stored.verify(patients if here else None)  # else a position may be another patient's there

    @cached_property
    def groups(self) -> np.ndarray:
        """What splits must not part, as numbers: (patient,) int64."""
        if self.group is None:
            return np.arange(len(self))
        own = np.array([f"patient {i}" for i in range(len(self))])
        return np.unique(
            np.where(self.group == "", own, np.char.add("group ", self.group)), return_inverse=True
        )[1]

    def positions(self, patient: Any = None) -> np.ndarray:
        """Positions of patients given by id (strings) or position (integers); default all: (n,) int64."""
        if patient is None:
            return np.arange(len(self))
        wanted = np.atleast_1d(np.asarray(patient))
        if wanted.dtype.kind in "iu":
            if len(wanted) and not (wanted.min() >= 0 and wanted.max() < len(self)):
                worst = wanted.min() if wanted.min() < 0 else wanted.max()
                raise InputError(f"patient position {worst}; the cohort has {len(self)} (an id is a string)")
            return wanted.astype(np.int64)
        wanted = wanted.astype(str)
        found = np.searchsorted(self.ids, wanted).clip(max=len(self) - 1)
        if (unknown := self.ids[found] != wanted).any():
            if self.stored is not None:
                self.stored.compare("patient.id")  # else an id that is there may not be found
            raise InputError(
                f"{int(unknown.sum())} unknown patient id(s), the first is {str(wanted[unknown][0])!r}"
            )
        return found

    def named(self, name: str) -> tuple[str]:
        """That outcome, of whatever kind, or a refusal that says what there is."""
        if name not in self.outcomes:
            raise InputError(f"unknown outcome {name!r}{near(name, self.outcomes)}")
        return (name,)

    def outcome_names(self, name: str | None = None, *, one: bool = False) -> tuple[str, ...]:
        """The outcomes that asks are about unless they are named: the survival ones, or the one of that name.

        A cohort without any survival outcome gives the others.
        """
        if name is not None:
            return self.named(name)
        if not self.outcomes:
            raise InputError(f"cohort {self.spec.cohort!r} has no outcome; add [outcomes.NAME] to its spec")
        names = tuple(n for n, o in self.outcomes.items() if o.has_curve) or tuple(self.outcomes)
        if one and len(names) > 1:
            raise InputError(f"several outcomes; name one of {', '.join(names)}")
        return names

    def survival(self, name: str) -> Survival:
        """An outcome that is time to an event; refused where it is of another kind."""
        outcome = self.outcomes[self.named(name)[0]]
        if not outcome.has_curve:
            others = ", ".join(n for n, o in self.outcomes.items() if o.has_curve) or "none"
            raise InputError(
                f"outcome {name!r} is a {outcome.kind} and has no time to an event; survival outcomes here: "
                f"{others}"
            )
        return outcome

    def outcomes_with_model(
        self, names: Iterable[str] | None = None
    ) -> dict[str, Survival | Diagnosis | Task]:
        """The outcomes of these names that a model answers; default: all of survival and diagnosis.

        Refused: a progression that is named, or nothing to answer.
        """
        if names is not None and not (names := tuple(names)):
            raise InputError("outcomes = []; name at least one, or leave it out for all")
        with_model = {n: o for n, o in self.outcomes.items() if o.has_model}
        if names is None:
            names = tuple(with_model) or self.outcome_names()
        chosen = [self.named(name)[0] for name in names]
        if strange := [name for name in chosen if name not in with_model]:
            raise InputError(
                f"outcome {strange[0]!r} is a progression: it has labels and eligibility, but no model; "
                f"outcomes with one here: {', '.join(with_model) or 'none'}"
            )
        return {name: with_model[name] for name in chosen}

    def inputs(self, names: Iterable[str]) -> tuple[str, ...] | None:
        """Kinds of node that these outcomes may be read from (`when = "same"`); None: all.

        Refused where they differ: what one may see would give the other away.
        """
        specs = {name: self.spec.outcomes.get(name) for name in names}
        kinds = {n: frozenset(getattr(spec, "inputs", ())) or None for n, spec in specs.items()}
        if len(set(kinds.values())) > 1:
            same = next(n for n, k in kinds.items() if k)
            other = next(n for n, k in kinds.items() if k != kinds[same])
            raise InputError(
                f"outcome {same!r} is read from {', '.join(sorted(kinds[same] or ()))} alone (when = same), "
                f"{other!r} is not; fit each by itself, as in outcomes = [{same!r}]"
            )
        held = next(iter(kinds.values()), None)
        return None if held is None else tuple(kind for kind in self.spec.nodes if kind in held)

    def at(self, day: Any, patient: Any = None, to: Any = None) -> Landmarks:
        """Ask about patients at `day`: days after the origin or ISO dates (their end); one, or one each.

        A date is a day of the time zone that the tables name (of several, the patient table's), else of UTC.
        to: the day that a value is wanted for, after `day`; one, or one each.

        >>> from gnnpatient.datasets.shipped import pbc
        >>> pbc().at([365, 730], patient="2").days
        array([365., 730.])
        """
        position = self.positions(patient)
        at, until = self._seconds(day, position), None if to is None else self._seconds(to, position)
        try:
            position, at, *rest = np.broadcast_arrays(position, at, *([] if until is None else [until]))
        except ValueError:
            raise InputError(
                f"{np.size(day)} days for {len(position)} patients; give one day, or one for each"
            ) from None
        ahead = np.atleast_1d(rest[0]) if rest else None
        if ahead is not None and (ahead <= at).any():
            raise InputError(f"asked at day {day!r} for day {to!r}; a value is wanted for a later day")
        return Landmarks(self, np.atleast_1d(position), np.atleast_1d(at), ahead)

    def _seconds(self, day: Any, position: np.ndarray) -> np.ndarray:
        """Days or dates as int64 seconds after the origin."""
        days = np.asarray(day)
        dated = days.dtype == object and all(isinstance(d, str | date) for d in days.flat)
        if dated or days.dtype.kind in "UM":
            at = self._calendar(days, position)
        else:
            try:
                at = days.astype(np.float64) * DAY
            except (TypeError, ValueError):
                raise InputError(f"ask at {day!r}; give days after the origin, or ISO 8601 dates") from None
        if not np.isfinite(at).all() or (np.abs(at) > 2**52).any():
            raise InputError(f"ask at day {day!r}; give days after the origin")
        return np.asarray(np.round(at), np.int64)

    def _calendar(self, dates: np.ndarray, position: np.ndarray) -> np.ndarray:
        """ISO 8601 dates in seconds after the origin; one without a clock time is the end of that day."""
        if self.origin is None:
            shown = str(dates.flat[0]) if dates.size else ""
            raise InputError(
                f"ask at {shown!r}: the cohort's times are offsets without a calendar; give days"
            )
        return self.calendar(dates)[1] - self.origin[position]

    def calendar(self, dates: Any) -> tuple[np.ndarray, np.ndarray]:
        """The first and the last second of ISO 8601 dates, since 1970 in UTC; a clock time is both."""
        import polars as pl

        from gnnpatient.readers.dates import day_span

        given = np.asarray(dates)
        words = [d.isoformat() if isinstance(d, date) else str(d).strip() for d in given.flat]
        begun, ended = day_span(pl.Series(words, dtype=pl.String), self.spec.zone)
        if (lost := begun.is_null()).any():
            shown = words[lost.arg_true()[0]]
            if re.fullmatch(r"\d{4}(-\d\d)?", shown):
                raise InputError(f"ask at {shown!r}: write the whole date, as in 2021-03-04")
            raise InputError(f"ask at {shown!r}: neither days nor an ISO 8601 date")
        first, last = begun.dt.epoch("s"), ended.dt.epoch("s")
        return first.to_numpy().reshape(given.shape), last.to_numpy().reshape(given.shape)

    @property
    def at_entry(self) -> np.ndarray:
        """When each patient is asked at entry: (patient,) int64 seconds. What was measured at entry is known
        then, so of a bare date it is the end of that day (METHODS 3, 27)."""
        return self.entry if self.entered is None else self.entered

    @property
    def enters(self) -> np.ndarray:
        """Who enters at all; whoever never has the entry event is at risk of nothing: (patient,) bool."""
        return np.asarray(self.entry) != FOREVER

    @cached_property
    def has_later_rows(self) -> bool:
        """Whether anything becomes known after entry; without, entry is the one moment to ask at."""
        for e in self.events.values():
            some = np.diff(e.ptr) > 0
            if (e.known[e.ptr[1:][some] - 1] > self.at_entry[some]).any():
                return True
        late = [known for known in (self.number_known, self.category_known) if known is not None]
        return any((known > self.at_entry[:, None]).any() for known in late)

    def entries(self, patients: Any = None) -> Landmarks:
        """Every patient position enters, at entry, as known then (see `at_entry`).

        >>> from gnnpatient.datasets.shipped import pbc
        >>> np.unique(pbc().entries().days)
        array([0.])
        """
        position = self.positions(patients)
        position = position[self.enters[position]]
        return Landmarks(self, position, np.asarray(self.at_entry)[position])

    def landmarks(
        self,
        patients: Any = None,
        times: Iterable[Any] | None = None,
        *,
        n: int | None = None,
        seed: int = 0,
        outcomes: Sequence[str] | None = None,
    ) -> Landmarks:
        """Every patient at each of `times` (days, dates, "entry"); or at `n` landmarks, only those at risk.

        The first of the n is each patient's entry, the one landmark where a cohort has no later rows; the
        others are times common to all, drawn one from each part of the time from the earliest entry to the
        day by which half of the patients are no longer observed. At risk: of every outcome of
        `outcome_names`, or of any of `outcomes`.
        """
        position = self.positions(patients)
        if (times is None) == (n is None):
            raise InputError("landmarks needs either times=[...] or n=")
        if n is None:
            assert times is not None
            days, dates, entry = _parted(times)
            parts = [self.entries(position)] if entry else []
            for some in (days, dates):
                if len(some) or (some is days and not (entry or len(dates))):
                    parts.append(
                        self.at(np.repeat(some, len(position)), patient=np.tile(position, len(some)))
                    )
            return join_landmarks(*parts) if len(parts) > 1 else parts[0]
        if not len(position := position[self.enters[position]]):
            return self.entries(position)
        ends = self.observed_until if outcomes is None else reduce(np.maximum, map(self.open_until, outcomes))
        start, end = float(self.entry[position].min()), float(np.median(ends[position]))
        rng = np.random.default_rng(seed)
        if (drawn := n - 1 if self.has_later_rows else 0) > 0:
            days = (start + (np.arange(drawn) + rng.random(drawn)) / drawn * max(end - start, 0)) / DAY
            asks = self.landmarks(position, ["entry", *days.tolist()])
        else:
            asks = self.entries(position)
        if outcomes is None:
            return asks.followed()
        return asks[np.logical_or.reduce([asks.at_risk(name) for name in outcomes])]

    @cached_property
    def observed_until(self) -> np.ndarray:
        """Until when each patient is at risk of every outcome: (patient,) int64 seconds."""
        return self.open_until(*self.outcome_names())

    def open_until(self, *names: str) -> np.ndarray:
        """Until when each patient can be asked about these outcomes: (patient,) int64 seconds.

        Where no outcome says so: until the last row is known.
        """
        ends = reduce(np.minimum, (self.outcomes[name].ends for name in names))
        if not (ends == FOREVER).any():
            return ends
        last = np.where(self.enters, self.entry, 0)
        for e in self.events.values():
            some = np.diff(e.ptr) > 0
            last[some] = np.maximum(last[some], e.known[e.ptr[1:][some] - 1])
        return np.where(ends == FOREVER, last + 1, ends)

    def moments(self, outcome: str) -> Landmarks:
        """The asks of an outcome that is asked at moments of its own (an ACES task)."""
        task = self.outcomes[self.named(outcome)[0]]
        if not task.has_own_moments:
            raise InputError(
                f"outcome {outcome!r} has no moments of its own; ask at days, with cohort.at(day)"
            )
        return Landmarks(self, np.asarray(task.patient), np.asarray(task.at))

    def patient(self, patient: str) -> Patient:
        """One patient's record: .table(), .to_networkx(at=)."""
        from gnnpatient.cohort.view import Patient

        here = self.positions(patient)[:1]
        self.verify(here)
        return Patient(self, int(here[0]))

    def only(self, kinds: Iterable[str]) -> Cohort:
        """The same patients with the rows of some kinds alone; the other kinds stay, empty."""
        kinds = set(kinds)
        if unknown := kinds - set(self.spec.nodes):
            raise InputError(
                f"unknown kind {sorted(unknown)[0]!r}{near(sorted(unknown)[0], self.spec.nodes)}"
            )
        self.verify()  # timepoints are made anew, of every row
        events = {k: self.events[k] if k in kinds else self.events[k].empty() for k in self.spec.nodes}
        return replace(
            self, events=with_timepoints(events, self.spec.every, len(self)), path=None, manifest_hash=None
        )

    def statics(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and categories of patients as known at moments, seconds: (ask, column) each.

        A static that becomes known later is missing (nan, -1), as it was then. Inputs come from here.
        """
        number, category = self.number[patient], self.category[patient]
        if self.number_known is not None:
            number = np.where(self.number_known[patient] <= at[:, None], number, np.float32(np.nan))
        if self.category_known is not None:
            category = np.where(self.category_known[patient] <= at[:, None], category, np.int32(-1))
        return number, category

    def flow(self) -> list[dict[str, Any]]:
        """Who stays in at each step of eligibility, for each outcome."""
        return [
            {"outcome": name, "step": step, "n": int(n)}
            for name, outcome in self.outcomes.items()
            for step, n in (
                *self.report.get("steps", ()),
                *self.report.get("outcome_steps", {}).get(name, ()),
                *outcome.flow(self.at_entry, self.enters).items(),
            )
        ]

    def _columns(self) -> dict[str, np.ndarray]:
        """Every array by the name of its file."""
        columns = patient_columns(self)
        for kind, e in self.events.items():
            columns |= {f"{kind}.{name}": column for name, column in e.columns().items()}
        columns |= {f"{kind}.is_a": pairs for kind, pairs in self.is_a.items()}
        columns |= {f"{kind}.vectors": matrix for kind, matrix in self.vectors.items()}
        for name, o in self.outcomes.items():
            columns |= {f"outcome.{name}.{column}": values for column, values in o.columns().items()}
        return columns

    def save(self, path: str | Path) -> Path:
        """Write the cohort as a folder, in one step: manifest.json and one array file a column."""
        self.verify()
        about = {
            "patients": len(self),
            "rows": {kind: len(e) for kind, e in self.events.items()},
            "codes": self.codes,
            "units": self.units,
            "levels": self.levels,
            "flow": self.flow(),
            "report": self.report,
        }
        return write_folder(path, self.spec, self._columns(), about)


def open_cohort(path: str | Path, manifest_hash: str | None = None, *, verify: bool = False) -> Cohort:
    """Open a cohort that was saved. Columns are memory-mapped: nothing is read before it is asked for.

    `verify` compares every array with its hashes at once; without it, what is read about a patient is
    compared before a graph is built of it. `manifest_hash` refuses a folder that has changed since it was
    named.
    """
    cohort = Cohort(**stored_fields(path, manifest_hash))
    if verify:
        cohort.verify()
    return cohort


ENTRY = NEVER  # the landmark that is each patient's own entry


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Asks. What lies after `at` does not exist for an ask."""

    cohort: Cohort
    patient: np.ndarray  # (ask,) int64, position in the cohort
    at: np.ndarray  # (ask,) int64 seconds after the patient's origin
    to: np.ndarray | None = None  # (ask,) int64 seconds: the moment that a value is wanted for, after `at`

    def __len__(self) -> int:
        return len(self.patient)

    @property
    def shape(self) -> tuple[int]:
        return (len(self.patient),)

    @property
    def ids(self) -> np.ndarray:
        """The patient's id of each ask: (ask,) str."""
        return self.cohort.ids[self.patient]

    @property
    def days(self) -> np.ndarray:
        """`at` in days after the origin: (ask,) float64."""
        return self.at / DAY

    @property
    def moments(self) -> np.ndarray:
        """Which landmark each ask belongs to: its time, or ENTRY at its patient's entry, whenever that was:
        (ask,) int64."""
        return np.where(self.at == self.cohort.at_entry[self.patient], ENTRY, self.at)

    @property
    def by_landmark(self) -> dict[float, np.ndarray]:
        """Positions of the asks of each landmark, by its day; the day of entry is the median of theirs."""
        at, which = np.unique(self.moments, return_inverse=True)
        days = at / DAY
        if len(at) and at[0] == ENTRY:
            days[0] = np.median(self.days[which == 0])
            if days[0] in days[1:]:  # of other patients, position entered at another time
                days[0] = np.nextafter(days[0], np.inf)
        return {day: np.flatnonzero(which == i) for i, day in enumerate(days.tolist())}

    @property
    def entry_day(self) -> float | None:
        """The day by which `by_landmark` calls entry; None where it is no landmark."""
        return next(iter(self.by_landmark)) if (self.moments == ENTRY).any() else None

    @property
    def early_at_entry(self) -> np.ndarray:
        """Which asks come on the day of entry, before what was measured on it is known: (ask,) bool."""
        day = self.cohort.entry[self.patient] <= self.at
        return day & (self.at < self.cohort.at_entry[self.patient])

    def __getitem__(self, rows: Any) -> Landmarks:
        rows = rows[0] if isinstance(rows, tuple) else rows
        to = None if self.to is None else np.atleast_1d(self.to[rows])
        return Landmarks(self.cohort, np.atleast_1d(self.patient[rows]), np.atleast_1d(self.at[rows]), to)

    def at_risk(self, outcome: str | None = None) -> np.ndarray:
        """Entered, not failed, still observed: entry <= at < time, (ask,) bool.

        Of a diagnosis: its label not yet known; of a progression: not gone, and with a value to compare with.
        Without a name: for every survival outcome, or every outcome where there is none.
        """
        names = self.cohort.outcome_names() if outcome is None else self.cohort.named(outcome)
        entered = self.cohort.entry[self.patient] <= self.at
        outcomes = (self.cohort.outcomes[name] for name in names)
        return reduce(np.logical_and, (o.at_risk(self.patient, self.at) for o in outcomes), entered)

    def followed(self, outcome: str | None = None) -> Landmarks:
        """The asks of patients position are still at risk then."""
        return self[self.at_risk(outcome)]

    def outcome(self, name: str | None = None) -> np.ndarray:
        """What came of each ask, structured (ask,).

        Survival: event (0 censored, k = k-th cause), time (days). Diagnosis: label (-1 not looked for), time
        until it is known. Progression: see `gnnpatient.cohort.outcomes.Progression.truth`.
        """
        (name,) = self.cohort.outcome_names(one=True) if name is None else self.cohort.named(name)
        if not (risk := self.at_risk(name)).all():
            raise InputError(
                f"{int((~risk).sum())} of {len(self)} asks come when the patient is not at risk of {name!r}; "
                f"keep the others with .followed({name!r})"
            )
        return self.cohort.outcomes[name].truth(self.patient, self.at, self.to)

    @property
    def groups(self) -> np.ndarray:
        """What splits must not part: the patient's group, or the patient: (ask,) int64."""
        return self.cohort.groups[self.patient]

    def to_frame(self) -> pl.DataFrame:
        """One row an ask: statics, and of each code the last value, its age in days and a count."""
        from gnnpatient.cohort.view import landmark_frame

        return landmark_frame(self)


def join_landmarks(*parts: Landmarks) -> Landmarks:
    """Asks of one cohort, one part after the other; none wants a value for a later moment."""
    cohort = parts[0].cohort
    if any(part.cohort is not cohort for part in parts):
        raise InputError("the parts ask different cohorts; score each cohort on its own")
    return Landmarks(
        cohort, np.concatenate([part.patient for part in parts]), np.concatenate([part.at for part in parts])
    )
