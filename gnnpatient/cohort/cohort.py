"""A cohort and its landmarks: the patients, what was known when, and what was observed later.

A landmark is a patient at a prediction time: what lies after that time does not exist for it. A cohort is
frozen; on disk it is memory-mapped and shared between processes, never copied.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, replace
from datetime import date
from functools import cached_property, reduce
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from gnnpatient.cohort.arrays import StoredArrays
from gnnpatient.cohort.diagnosis import Labels
from gnnpatient.cohort.outcomes import Outcome
from gnnpatient.cohort.packed import Events, with_timepoints
from gnnpatient.cohort.store import patient_columns, stored_fields, write_folder
from gnnpatient.cohort.survival import Survival, group_sizes
from gnnpatient.errors import ADD_OUTCOME, InputError, InputTypeError, near
from gnnpatient.show import MAX_LISTED, Shown, Summary, Table, counted, listed, printable
from gnnpatient.spec.graph import GraphSpec
from gnnpatient.times import DAY, FOREVER, NEVER, seconds

if TYPE_CHECKING:
    import polars as pl
    from torch_geometric.data import HeteroData

    from gnnpatient.cohort.view import Patient
    from gnnpatient.graphs import Names

ENTRY = NEVER  # in `Landmarks.moments`: the patient's own entry
_DURATION = re.compile(r"\s*-?\d+(\.\d+)?\s*[a-z]*\s*")
_YEAR_OR_DATE = re.compile(r"\s*(\d{4}|\d{8})\s*")  # not a number of days
_MAX_OUTCOMES = 3  # with a line of their own in a repr
_MAX_SECONDS = 2**52  # of a prediction time; beyond it, days in float64 are not exact


@dataclass(frozen=True, eq=False, repr=False)
class Cohort(Shown):
    """All patients of a study, packed into columns.

    Times are int64 seconds after each patient's origin. `read_cohort` makes a cohort of tables, `open_cohort`
    opens a saved one.

    Attributes
    ----------
    spec : GraphSpec
        What the tables mean.
    ids : ndarray
        Patient ids, sorted.
    number : ndarray
        Numeric static columns, nan = missing.
    category : ndarray
        Categorical static columns, as positions in `levels`, -1 = missing.
    levels : Mapping
        Column -> names of its levels.
    entry : ndarray
        Second at which observation starts, FOREVER = the patient never enters.
    events : Mapping
        Node type -> its rows, in the order of the spec, then "timepoint".
    codes : Mapping
        Node type -> names of its codes; position 0 is "other".
    units : Mapping
        Node type -> unit of each of its codes, "" = none.
    outcomes : Mapping
        Name -> outcome.
    origin : ndarray, optional
        Second since 1970 of each patient's day 0. None: the tables have offsets, without a calendar.
    group : ndarray, optional
        Group that a split must keep together, as a hospital; "" = the patient alone.
    entered : ndarray, optional
        Second from which a patient's entry is known: the end of that day where the entry is a date.
    vectors : Mapping
        Node type -> embeddings of its images or texts, (vector, channel) float32.
    is_a : Mapping
        Node type of ancestors -> pairs of a code and its ancestor, (2, pair) int32.
    report : Mapping
        Counts and flags of the tables that were read; no patient is in it.
    number_known, category_known : ndarray, optional
        Second from which each static value is known. None: from the origin on.
    path : Path, optional
        Folder from which the cohort was opened.
    manifest_hash : str, optional
        sha256 of the manifest that was opened.
    stored : StoredArrays, optional
        Arrays of that folder, with their hashes.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> pbc()
    Cohort pbc: 312 patients
      nodes  12661 lab, 7601 sign, 1945 stage, 1945 timepoint
      death  29 transplant, 140 death, 143 censored
      time   day 0 to 5225, median end day 2300
    """

    spec: GraphSpec
    ids: np.ndarray  # (patient,) str
    number: np.ndarray  # (patient, column) float32
    category: np.ndarray  # (patient, column) int32
    levels: Mapping[str, tuple[str, ...]]
    entry: np.ndarray  # (patient,) int64 seconds
    events: Mapping[str, Events]
    codes: Mapping[str, tuple[str, ...]]
    units: Mapping[str, tuple[str, ...]]
    outcomes: Mapping[str, Outcome]
    origin: np.ndarray | None = None  # (patient,) int64 seconds
    group: np.ndarray | None = None  # (patient,) str
    entered: np.ndarray | None = None  # (patient,) int64 seconds
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)
    is_a: Mapping[str, np.ndarray] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    number_known: np.ndarray | None = None  # (patient, column) int64 seconds
    category_known: np.ndarray | None = None  # (patient, column) int64 seconds
    path: Path | None = None
    manifest_hash: str | None = None
    stored: StoredArrays | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def _summary(self) -> Summary:
        rows = [f"{len(e)} {kind}" for kind, e in self.events.items()]
        facts = [("nodes", listed(rows))]
        if len(self.outcomes) > _MAX_OUTCOMES:
            facts.append(("outcomes", listed(tuple(self.outcomes))))
        else:
            facts += [(name, listed(_group_sizes(outcome))) for name, outcome in self.outcomes.items()]
        facts.append(("time", _span(self)))
        tables = self.report.get("tables", {}).values()
        refused = sum(sum(table.get("refused", {}).values()) for table in tables)
        notes = [f"{refused} rows refused"] if refused else []
        notes += [counted(len(flags), "flag")] if (flags := self.report.get("flags", ())) else []
        if notes:
            facts.append(("but", f"{' and '.join(notes)}, see cohort.report"))
        table = Table(
            ["<node type", "rows", "patients with rows", "codes"],
            [
                (
                    kind,
                    str(len(e)),
                    str(np.count_nonzero(np.diff(e.ptr))),
                    str(len(self.codes[kind]) - 1) if kind != "timepoint" else "",
                )
                for kind, e in self.events.items()
            ],
        )
        title = f"Cohort {self.spec.cohort}: {counted(len(self), 'patient')}"
        return Summary(title, facts, [table], ["nodes"])

    def __getitem__(self, key: object) -> NoReturn:
        # Python's own line would not say where landmarks and outcomes are; scikit-learn indexes its X, too
        name = key if isinstance(key, str) and key in self.outcomes else next(iter(self.outcomes), "NAME")
        raise InputTypeError(
            f"a cohort has no item {_short(key)}; its landmarks are cohort.at(365), its outcomes "
            f"cohort.outcomes[{name!r}], a patient cohort.patient(ID)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes a cohort on disk travels as its path and the hash of its manifest."""
        if self.path is not None:
            return open_cohort, (self.path, self.manifest_hash)
        self.verify()
        return Cohort, tuple(getattr(self, f.name) for f in fields(self) if f.name != "stored")

    def verify(self, patients: Any = None) -> None:
        """Compare what is on disk with the hashes of what was packed.

        What was compared once is not compared again. `build_graphs` calls this for the patients it reads.

        Parameters
        ----------
        patients : array_like of int, optional
            Positions of the patients whose rows are compared. Default: everything.

        Raises
        ------
        InputError
            When an array is not as it was packed.
        """
        if self.stored is not None:
            # In another selection of patients a position may be that of another patient on disk.
            same = self.path is not None and len(self) == self.stored.manifest["patients"]
            self.stored.verify(patients if same else None)

    # -- patients --

    @cached_property
    def groups(self) -> np.ndarray:
        """Group of each patient that a split keeps together, as a number, (patient,) int64."""
        if self.group is None:
            return np.arange(len(self))
        alone = np.array([f"patient {i}" for i in range(len(self))])
        names = np.where(self.group == "", alone, np.char.add("group ", self.group))
        return np.unique(names, return_inverse=True)[1]

    def positions(self, patient: Any = None) -> np.ndarray:
        """Find patients by id or position.

        Parameters
        ----------
        patient : str, int or array_like of either, optional
            Ids (strings) or positions (integers). Numbers that are ids as well are refused, but for an array
            of positions. Default: all patients.

        Returns
        -------
        ndarray
            Positions in the cohort, (n,) int64.

        Raises
        ------
        InputError
            When there is no such id or position.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> pbc().positions(["2", "10"])
        array([111,   1])
        """
        if patient is None:
            return np.arange(len(self))
        if isinstance(patient, Set):
            raise InputError("the patients are a set, which has no order; give a list, as sorted(ids)")
        wanted = np.atleast_1d(np.asarray(patient))
        if wanted.dtype.kind in "iu":
            if not isinstance(patient, np.ndarray):
                self._refuse_numbers(wanted)
            if len(wanted) and not (wanted.min() >= 0 and wanted.max() < len(self)):
                worst = wanted.min() if wanted.min() < 0 else wanted.max()
                raise InputError(f"patient position {worst}; the cohort has {len(self)} (an id is a string)")
            return wanted.astype(np.int64)
        wanted = wanted.astype(str)
        found = np.searchsorted(self.ids, wanted).clip(max=len(self) - 1)
        if (unknown := self.ids[found] != wanted).any():
            if self.stored is not None:
                # Where the ids on disk are not sorted any more, an id that is there may not be found.
                self.stored.compare("patient.id")
            raise InputError(
                f"{int(unknown.sum())} unknown patient id(s), the first is {str(wanted[unknown][0])!r}; "
                "write ids as in the patient table"
            )
        return found

    def _refuse_numbers(self, wanted: np.ndarray) -> None:
        """Refuse whole numbers that are ids of some patients and positions of others."""
        words = wanted.astype(str)
        found = np.searchsorted(self.ids, words).clip(max=len(self) - 1)
        if len(other := np.flatnonzero((self.ids[found] == words) & (found != wanted))):
            shown = str(words[other[0]])
            raise InputError(
                f"patient {shown}: ids are text; write {shown!r}, of a column column.astype(str). Positions "
                f"are an array, as in np.array([{shown}])"
            )

    def patient(self, patient: str) -> Patient:
        """Give one patient's record.

        Parameters
        ----------
        patient : str
            Id.

        Returns
        -------
        Patient
            With the methods `table`, `to_networkx` and `export`.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> pbc().patient("2").table().columns[:6]
        ['kind', 'day', 'known', 'code', 'value', 'unit']
        """
        from gnnpatient.cohort.view import Patient

        position = self.positions(patient)[:1]
        self.verify(position)
        return Patient(self, int(position[0]))

    def only(self, kinds: Iterable[str]) -> Cohort:
        """Keep the rows of some node types; the other types stay, without rows.

        Parameters
        ----------
        kinds : iterable of str
            Node types.

        Returns
        -------
        Cohort
            The same patients, with timepoints of the rows that are left.

        Raises
        ------
        InputError
            When the spec has no such node type.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> {kind: len(rows) for kind, rows in pbc().only(["stage"]).events.items()}
        {'lab': 0, 'sign': 0, 'stage': 1945, 'timepoint': 1945}
        """
        kinds = set(kinds)
        if unknown := sorted(kinds - set(self.spec.nodes)):
            raise InputError(f"unknown node type {unknown[0]!r}{near(unknown[0], self.spec.nodes)}")
        self.verify()  # timepoints are made anew, from every row
        events = {k: self.events[k] if k in kinds else self.events[k].empty() for k in self.spec.nodes}
        events = with_timepoints(events, self.spec.every, len(self))
        return replace(self, events=events, path=None, manifest_hash=None)

    def statics(self, patient: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the static columns as they were known at each landmark.

        A static value that became known later is missing, as it was then. Models get their inputs from here.

        Parameters
        ----------
        patient, at : ndarray
            Position and second after the origin of each landmark, (landmark,) int64.

        Returns
        -------
        number : ndarray
            (landmark, column) float32, nan = missing.
        category : ndarray
            Positions in `levels`, -1 = missing, (landmark, column) int32.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> number, category = pbc().statics(np.array([0]), np.array([0]))
        >>> number.round(1), category                                    # age; sex and treatment
        (array([[58.8]], dtype=float32), array([[0, 1]], dtype=int32))
        """
        number, category = self.number[patient], self.category[patient]
        if self.number_known is not None:
            number = np.where(self.number_known[patient] <= at[:, None], number, np.float32(np.nan))
        if self.category_known is not None:
            category = np.where(self.category_known[patient] <= at[:, None], category, np.int32(-1))
        return number, category

    # -- outcomes --

    def check_outcome(self, name: str) -> str:
        """Refuse a name that no outcome of the cohort has.

        Parameters
        ----------
        name : str
            Name of an outcome, of whatever kind.

        Returns
        -------
        str
            The name.

        Raises
        ------
        InputError
            When there is no such outcome; the message has the nearest name.
        """
        if name not in self.outcomes:
            raise InputError(f"unknown outcome {name!r}{near(name, self.outcomes)}")
        return name

    def outcome_names(self, name: str | None = None, *, one: bool = False) -> tuple[str, ...]:
        """Give the outcomes that are meant where none is named.

        Parameters
        ----------
        name : str, optional
            An outcome. Default: every survival outcome, or every outcome where there is no survival outcome.
        one : bool
            Whether several are refused.

        Returns
        -------
        tuple of str

        Raises
        ------
        InputError
            When there is no such outcome, none at all, or several where one is wanted.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> pbc().outcome_names()
        ('death',)
        """
        if name is not None:
            return (self.check_outcome(name),)
        if not self.outcomes:
            raise InputError(f"cohort {self.spec.cohort!r} has no outcome; {ADD_OUTCOME}")
        names = tuple(n for n, o in self.outcomes.items() if o.kind == "survival") or tuple(self.outcomes)
        if one and len(names) > 1:
            raise InputError(f"several outcomes; name one of {', '.join(names)}")
        return names

    def survival(self, name: str) -> Survival:
        """Give an outcome that is the time to an event.

        Parameters
        ----------
        name : str
            Name of the outcome.

        Returns
        -------
        Survival

        Raises
        ------
        InputError
            When there is no such outcome, or it is of another kind.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> pbc().survival("death").causes
        ('transplant', 'death')
        """
        causes, outcome = self.causes(name), self.outcomes[name]
        if outcome.kind != "survival":
            raise InputError(
                f"outcome {name!r} is a {outcome.kind}: the time to {causes[0]} depends on the landmark; use "
                f".followed({name!r}).outcome({name!r})"
            )
        return outcome

    def causes(self, name: str) -> tuple[str, ...]:
        """Give the causes of an outcome that has a time to an event.

        Parameters
        ----------
        name : str
            Name of a survival outcome, or of a progression with `worse`.

        Returns
        -------
        tuple of str

        Raises
        ------
        InputError
            When there is no such outcome, or it is of another kind.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> pbc().causes("death")
        ('transplant', 'death')
        """
        outcome = self.outcomes[self.check_outcome(name)]
        if not outcome.has_curve:
            others = ", ".join(n for n, o in self.outcomes.items() if o.has_curve) or "none"
            raise InputError(
                f"outcome {name!r} is a {outcome.kind} and has no time to an event; survival outcomes here: "
                f"{others}"
            )
        return outcome.names

    def outcomes_with_model(self, names: Iterable[str] | None = None) -> dict[str, Outcome]:
        """Give the outcomes for which a model can be fitted.

        Parameters
        ----------
        names : iterable of str, optional
            Names of outcomes. Default: all that a model can be fitted for.

        Returns
        -------
        dict
            Name -> outcome.

        Raises
        ------
        InputError
            When an outcome is unknown, or there is none.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> list(pbc().outcomes_with_model())
        ['death']
        """
        if names is not None and not (names := tuple(names)):
            raise InputError("outcomes = []; name at least one, or leave it out for all")
        with_model = {n: o for n, o in self.outcomes.items() if o.has_model}
        if names is None:
            names = tuple(with_model) or self.outcome_names()
        chosen = [self.check_outcome(name) for name in names]
        return {name: with_model[name] for name in chosen}

    def inputs(self, names: Iterable[str]) -> tuple[str, ...] | None:
        """Give the node types from which outcomes may be predicted.

        Parameters
        ----------
        names : iterable of str
            Names of outcomes.

        Returns
        -------
        tuple of str or None
            Node types, where `when = "same"` names them. None: all.

        Raises
        ------
        InputError
            When the outcomes differ: what one may see would give the other away.
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
        visible = next(iter(kinds.values()), None)
        return None if visible is None else tuple(kind for kind in self.spec.nodes if kind in visible)

    def flow(self) -> list[dict[str, Any]]:
        """Count the patients that are left at each step of eligibility.

        Returns
        -------
        list of dict
            One entry a step: outcome, step, n.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> pbc().flow()[-1]
        {'outcome': 'death', 'step': 'censored', 'n': 143}
        """
        return [
            {"outcome": name, "step": step, "n": int(n)}
            for name, outcome in self.outcomes.items()
            for step, n in (
                *self.report.get("steps", ()),
                *self.report.get("outcome_steps", {}).get(name, ()),
                *outcome.flow(self.at_entry, self.enters).items(),
            )
        ]

    # -- times --

    @property
    def at_entry(self) -> np.ndarray:
        """Second of each patient's landmark at entry, (patient,) int64.

        What was measured at entry is known then, so of a bare date it is the end of that day.
        """
        return self.entry if self.entered is None else self.entered

    @property
    def enters(self) -> np.ndarray:
        """Whether each patient enters, (patient,) bool; the others are at risk of nothing."""
        return np.asarray(self.entry) != FOREVER

    @cached_property
    def has_later_rows(self) -> bool:
        """Whether anything becomes known after entry; if not, entry is the only landmark that makes sense."""
        for e in self.events.values():
            some = np.diff(e.ptr) > 0
            if (e.known[e.ptr[1:][some] - 1] > self.at_entry[some]).any():
                return True
        later = [known for known in (self.number_known, self.category_known) if known is not None]
        return any((known > self.at_entry[:, None]).any() for known in later)

    @cached_property
    def observed_until(self) -> np.ndarray:
        """Second until which each patient is at risk of all of `outcome_names`, (patient,) int64."""
        return self.open_until(*self.outcome_names())

    def open_until(self, *names: str) -> np.ndarray:
        """Give the second until which each patient can have landmarks for some outcomes.

        Parameters
        ----------
        *names : str
            Names of outcomes.

        Returns
        -------
        ndarray
            Seconds after the origin, (patient,) int64. Where no outcome has an end: one second after the last
            row becomes known.
        """
        unending = np.full(len(self), FOREVER)
        ends = reduce(np.minimum, (self.outcomes[name].ends for name in names), unending)
        if not (ends == FOREVER).any():
            return ends
        last = np.where(self.enters, self.entry, 0)
        for e in self.events.values():
            some = np.diff(e.ptr) > 0
            last[some] = np.maximum(last[some], e.known[e.ptr[1:][some] - 1])
        return np.where(ends == FOREVER, last + 1, ends)

    def calendar(self, dates: Any) -> tuple[np.ndarray, np.ndarray]:
        """Convert ISO 8601 dates to seconds since 1970 in UTC.

        Parameters
        ----------
        dates : str, date or array_like of either
            Dates in the time zone of the tables; a clock time may follow.

        Returns
        -------
        first, last : ndarray
            First and last second of each date, int64; with a clock time both are that second.

        Raises
        ------
        InputError
            When a date is incomplete, or none.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> first, last = pbc().calendar("1970-01-02")
        >>> int(first), int(last)
        (86400, 172799)
        """
        import polars as pl

        from gnnpatient.readers.dates import day_span

        days = np.asarray(dates)
        words = [d.isoformat() if isinstance(d, date) else str(d).strip() for d in days.flat]
        begun, ended = day_span(pl.Series(words, dtype=pl.String), self.spec.zone)
        if (unread := begun.is_null()).any():
            shown = words[unread.arg_true()[0]]
            if re.fullmatch(r"\d{4}(-\d\d)?", shown):
                raise InputError(f"time {shown!r}: write the whole date, as in 2021-03-04")
            raise InputError(f"time {shown!r}: neither days nor an ISO 8601 date")
        first, last = begun.dt.epoch("s"), ended.dt.epoch("s")
        return first.to_numpy().reshape(days.shape), last.to_numpy().reshape(days.shape)

    # -- landmarks --

    def at(self, day: Any, patient: Any = None, to: Any = None) -> Landmarks:
        """Make landmarks: patients at a prediction time.

        Parameters
        ----------
        day : float, str, date or array_like of these
            Days after the origin, durations as in "3y" or "36h", or ISO 8601 dates, which mean the end of
            that day in the time zone that the spec gives the tables (of several the patient table's, else
            UTC). A datetime, as `pandas.Timestamp`, is that moment, at midnight the beginning of its day.
            One, or one for each patient.
        patient : str, int or array_like of either, optional
            Ids, as text, or positions, see `positions`. Default: all patients.
        to : float, str, date or array_like of these, optional
            Time after `day` at which a value is wanted, for outcomes of progression.

        Returns
        -------
        Landmarks

        Raises
        ------
        InputError
            When a time is neither, there is no such patient, or `to` is not after `day`.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> pbc().at([365, 730], patient="2").days, pbc().at("3y", patient="2").days
        (array([365., 730.]), array([1095.75]))
        """
        position = self.positions(patient)
        at, until = self._seconds(day, position), None if to is None else self._seconds(to, position)
        try:
            position, at, *rest = np.broadcast_arrays(position, at, *([] if until is None else [until]))
        except ValueError:
            raise InputError(
                f"{np.size(day)} days for {len(position)} patients; give one day, or one for each; "
                "cohort.landmarks(times=[...]) asks about every patient at each of several"
            ) from None
        ahead = np.atleast_1d(rest[0]) if rest else None
        if ahead is not None and (ahead <= at).any():
            raise InputError(f"to = {to!r} at day {day!r}; must be a later day")
        return Landmarks(self, np.atleast_1d(position), np.atleast_1d(at), ahead)

    def entries(self, patients: Any = None) -> Landmarks:
        """Make a landmark at the entry of every patient who enters, see `at_entry`.

        Parameters
        ----------
        patients : str, int or array_like of either, optional
            Ids, as text, or positions, see `positions`. Default: all patients.

        Returns
        -------
        Landmarks

        Examples
        --------
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
        times: Any = None,
        *,
        n: int | None = None,
        seed: int = 0,
        outcomes: Sequence[str] | None = None,
    ) -> Landmarks:
        """Make landmarks at given times, or at times that are drawn.

        Parameters
        ----------
        patients : str, int or array_like of either, optional
            Ids, as text, or positions, see `positions`. Default: all patients.
        times : iterable, optional
            Days after the origin, durations as in "3y", ISO 8601 dates, or "entry"; a landmark for every
            patient at each of them. One alone needs no list.
        n : int, optional
            Instead of `times`, the number of times to draw. The first is each patient's entry, and the only
            one where nothing becomes known later. The others are common to all patients, one drawn from each
            of n - 1 equal parts of the time from the earliest entry to the median end of observation. Only
            patients at risk then have a landmark.
        seed : int
            Of the draw.
        outcomes : sequence of str, optional
            With `n`: at risk of any of these. Default: at risk of all of `outcome_names`.

        Returns
        -------
        Landmarks

        Raises
        ------
        InputError
            When neither or both of `times` and `n` are given, or a time is none.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> len(pbc().landmarks(times=["entry", 365]))
        624
        >>> np.unique(pbc().landmarks(n=4, seed=0).days).round(1)
        array([   0. ,  488.2,  973.3, 1564.4])
        """
        if (times is None) == (n is None):
            hint = "" if patients is None else "; what stands first are the patients"
            raise InputError(f"landmarks: give either times=[...] or n=NUMBER{hint}")
        position = self.positions(patients)
        if times is not None:
            return self._at_times(position, times)
        assert n is not None
        position = position[self.enters[position]]
        if not len(position):
            return self.entries(position)
        ends = self.observed_until if outcomes is None else reduce(np.maximum, map(self.open_until, outcomes))
        X = self._drawn(position, ends[position], n, seed)
        return X.followed() if outcomes is None else X[np.logical_or.reduce([X.at_risk(o) for o in outcomes])]

    def _at_times(self, position: np.ndarray, times: Any) -> Landmarks:
        """Patients at each of some times, or at one."""
        alone = isinstance(times, str | date) or not isinstance(times, Iterable)
        days, dates, entry = _parse_times([times] if alone else times)
        parts = [self.entries(position)] if entry else []
        for some in (days, dates):
            if len(some) or (some is days and not (entry or len(dates))):
                at, patient = np.repeat(some, len(position)), np.tile(position, len(some))
                parts.append(self.at(at, patient=patient))
        return join_landmarks(*parts) if len(parts) > 1 else parts[0]

    def _drawn(self, position: np.ndarray, ends: np.ndarray, n: int, seed: int) -> Landmarks:
        """Patients at entry and at n - 1 drawn times, up to the median of their `ends`."""
        draws = n - 1 if self.has_later_rows else 0
        if draws <= 0:
            return self.entries(position)
        start, end = float(self.entry[position].min()), float(np.median(ends))
        rng = np.random.default_rng(seed)
        days = (start + (np.arange(draws) + rng.random(draws)) / draws * max(end - start, 0)) / DAY
        return self._at_times(position, ["entry", *days.tolist()])

    def moments(self, outcome: str) -> Landmarks:
        """Give the landmarks of an outcome that has its own, as an ACES task.

        Parameters
        ----------
        outcome : str
            Name of the outcome.

        Returns
        -------
        Landmarks

        Raises
        ------
        InputError
            When there is no such outcome, or it has none.
        """
        task = self.outcomes[self.check_outcome(outcome)]
        if not task.has_own_moments:
            raise InputError(f"outcome {outcome!r} has no prediction times of its own; use cohort.at(day)")
        return Landmarks(self, np.asarray(task.patient), np.asarray(task.at))

    def _seconds(self, day: Any, position: np.ndarray) -> np.ndarray:
        """Days or dates as int64 seconds after the origin."""
        days = np.asarray(day)
        dated = days.dtype == object and all(isinstance(d, str | date) for d in days.flat)
        if dated or days.dtype.kind in "UM":
            at = _duration_seconds(days) if _are_durations(days) else self._date_seconds(days, position)
        else:
            try:
                at = days.astype(np.float64) * DAY
            except (TypeError, ValueError):
                raise InputError(
                    f"time {_short(day)}: give days after the origin, text as in '3y', or ISO 8601 dates"
                ) from None
        if not np.isfinite(at).all() or (np.abs(at) > _MAX_SECONDS).any():
            raise InputError(f"time {day!r}: give days after the origin")
        return np.asarray(np.round(at), np.int64)

    def _date_seconds(self, dates: np.ndarray, position: np.ndarray) -> np.ndarray:
        """ISO 8601 dates in seconds after the origin; one without a clock time is the end of that day."""
        shown = str(dates.flat[0]) if dates.size else ""
        if shown == "entry":
            raise InputError("time 'entry': the landmarks at each patient's entry are cohort.entries()")
        if self.origin is None:
            raise InputError(f"time {shown!r}: the cohort's times are offsets without a calendar; give days")
        return self.calendar(dates)[1] - self.origin[position]

    # -- storage --

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
        """Write the cohort as a folder: manifest.json, and one array file a column.

        The folder appears in one step; a process that is killed leaves nothing behind.

        Parameters
        ----------
        path : str or Path
            Folder to make; it must not exist, or be empty.

        Returns
        -------
        Path
            The folder; `open_cohort` opens it.

        Raises
        ------
        InputError
            When there is something at that path, or what is on disk is not as it was packed.
        """
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
    """Open a saved cohort. Its columns are memory-mapped: nothing is read before it is needed.

    Parameters
    ----------
    path : str or Path
        Folder that `Cohort.save` or `gnnpatient pack` wrote.
    manifest_hash : str, optional
        sha256 that the manifest must have.
    verify : bool
        Whether every array is compared with its hashes at once. Else the rows of a patient are compared when
        a graph of that patient is built.

    Returns
    -------
    Cohort

    Raises
    ------
    InputError
        When the folder is no cohort, was changed, or has another hash.
    """
    cohort = Cohort(**stored_fields(path, manifest_hash))
    if verify:
        cohort.verify()
    return cohort


@dataclass(frozen=True, eq=False, repr=False)
class Landmarks(Shown):
    """Patients at prediction times. What lies after the time of a landmark does not exist for it.

    `Cohort.at` and `Cohort.landmarks` make them. They index and split like an array, so scikit-learn can
    split, shuffle and group them.

    Attributes
    ----------
    cohort : Cohort
        The patients.
    patient : ndarray
        Position of the patient in the cohort.
    at : ndarray
        Prediction time, in seconds after the patient's origin.
    to : ndarray, optional
        Second after `at` at which a value is wanted, for outcomes of progression.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> X = pbc().at(365).followed("death")
    >>> X
    Landmarks of cohort pbc: 290, of 290 patients
      at  day 365 (290)
    >>> X[:3].ids.tolist()
    ['1', '100', '101']
    """

    cohort: Cohort
    patient: np.ndarray  # (landmark,) int64
    at: np.ndarray  # (landmark,) int64 seconds
    to: np.ndarray | None = None  # (landmark,) int64 seconds

    def __len__(self) -> int:
        return len(self.patient)

    def _summary(self) -> Summary:
        patients = counted(len(np.unique(self.patient)), "patient")
        title = f"Landmarks of cohort {self.cohort.spec.cohort}: {len(self)}, of {patients}"
        if not len(self):
            return Summary(title)
        at, count = np.unique(self.moments, return_counts=True)
        if len(at) > MAX_LISTED:
            return Summary(
                title, [("at", f"{len(at)} times, day {self.days.min():g} to {self.days.max():g}")]
            )
        named = [
            ("entry" if time == ENTRY else f"day {time / DAY:g}", str(n))
            for time, n in zip(at.tolist(), count.tolist(), strict=True)
        ]
        facts = [("at", ", ".join(f"{time} ({n})" for time, n in named))]
        return Summary(title, facts, [Table(["<at", "landmarks"], named)], ["at"])

    @property
    def shape(self) -> tuple[int]:
        """Number of landmarks, as scikit-learn wants it."""
        return (len(self.patient),)

    @property
    def ids(self) -> np.ndarray:
        """Id of each landmark's patient, (landmark,) str."""
        return self.cohort.ids[self.patient]

    @property
    def days(self) -> np.ndarray:
        """Prediction times in days after the origin, (landmark,) float64."""
        return self.at / DAY

    @property
    def moments(self) -> np.ndarray:
        """Prediction times with ENTRY in the place of each patient's entry, (landmark,) int64.

        Landmarks at entry so belong together, whenever each patient entered.
        """
        return np.where(self.at == self.cohort.at_entry[self.patient], ENTRY, self.at)

    @property
    def by_landmark(self) -> dict[float, np.ndarray]:
        """Day of each prediction time -> positions of its landmarks; the day of entry is their median.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> {day: len(rows) for day, rows in pbc().landmarks(times=["entry", 365]).by_landmark.items()}
        {0.0: 312, 365.0: 312}
        """
        at, which = np.unique(self.moments, return_inverse=True)
        days = at / DAY
        if len(at) and at[0] == ENTRY:
            days[0] = np.median(self.days[which == 0])
            if days[0] in days[1:]:  # of other patients, who entered at another time
                days[0] = np.nextafter(days[0], np.inf)
        return {day: np.flatnonzero(which == i) for i, day in enumerate(days.tolist())}

    @property
    def entry_day(self) -> float | None:
        """The day that stands for entry in `by_landmark`. None: there is no landmark at entry."""
        return next(iter(self.by_landmark)) if (self.moments == ENTRY).any() else None

    @property
    def early_at_entry(self) -> np.ndarray:
        """Whether each landmark is on the day of entry, before its values are known, (landmark,) bool."""
        entered = self.cohort.entry[self.patient] <= self.at
        return entered & (self.at < self.cohort.at_entry[self.patient])

    def __getitem__(self, rows: Any) -> Landmarks:
        if isinstance(rows, tuple) and len(rows) == 2 and (rows[1] is ... or rows[1] == slice(None)):
            rows = rows[0]  # as scikit-learn indexes
        if rows is None or isinstance(rows, str | tuple):
            raise InputTypeError(
                f"landmarks have no item {_short(rows)}; they are indexed by position or mask, as in X[:3], "
                "X[[0, 1]] or X[X.ids == ID]"
            )
        to = None if self.to is None else np.atleast_1d(self.to[rows])
        return Landmarks(self.cohort, np.atleast_1d(self.patient[rows]), np.atleast_1d(self.at[rows]), to)

    def at_risk(self, outcome: str | None = None) -> np.ndarray:
        """Whether each landmark is at risk: the patient has entered, is observed, and without the event.

        For a diagnosis the label must not be known yet. For a progression the patient must not be gone, and
        have a value to compare with.

        Parameters
        ----------
        outcome : str, optional
            Name of an outcome. Default: at risk of all of `Cohort.outcome_names`.

        Returns
        -------
        ndarray
            (landmark,) bool.

        Raises
        ------
        InputError
            When there is no such outcome.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> int(pbc().at(365).at_risk("death").sum())
        290
        """
        names = self.cohort.outcome_names(outcome)
        entered = self.cohort.entry[self.patient] <= self.at
        outcomes = (self.cohort.outcomes[name] for name in names)
        return reduce(np.logical_and, (o.at_risk(self.patient, self.at) for o in outcomes), entered)

    def followed(self, outcome: str | None = None) -> Landmarks:
        """Keep the landmarks at risk, see `at_risk`.

        Parameters
        ----------
        outcome : str, optional
            Name of an outcome. Default: at risk of all of `Cohort.outcome_names`.

        Returns
        -------
        Landmarks

        Raises
        ------
        InputError
            When there is no such outcome.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> len(pbc().at(365).followed("death"))
        290
        """
        return self[self.at_risk(outcome)]

    def outcome(self, name: str | None = None, *, cause: str | None = None) -> np.ndarray:
        """Give what was observed after each landmark.

        Parameters
        ----------
        name : str, optional
            Name of an outcome. Default: the only one of `Cohort.outcome_names`.
        cause : str, optional
            Of a survival outcome one cause: event is then whether that cause came, as scikit-survival wants
            it, and the other causes count as censored. Default: all causes.

        Returns
        -------
        ndarray
            Structured, (landmark,), with days after the landmark. Survival: event (0 = censored, k = the k-th
            cause) and time. Diagnosis: label (-1 = not looked for) and time until it is known. Progression:
            see `gnnpatient.cohort.progression.Progression.truth`, and `worsening.Worsening.truth`.

        Raises
        ------
        InputError
            When there is no such outcome, none or several could be meant, or a landmark is not at risk.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> pbc().at(365).followed("death").outcome("death")[:2].tolist()
        [(2, 35.0), (2, 187.0)]
        >>> pbc().at(365).followed("death").outcome("death", cause="transplant")[:2].tolist()
        [(False, 35.0), (False, 187.0)]
        """
        (name,) = self.cohort.outcome_names(name, one=True)
        causes = () if cause is None else self.cohort.causes(name)
        if cause is not None and cause not in causes:
            raise InputError(f"unknown cause {cause!r} of {name!r}{near(cause, causes)}")
        if not (risk := self.at_risk(name)).all():
            raise InputError(
                f"{int((~risk).sum())} of {len(self)} landmarks are not at risk of {name!r}; "
                f"keep the others with .followed({name!r})"
            )
        truth = self.cohort.outcomes[name].truth(self.patient, self.at, self.to)
        if cause is None:
            return truth
        of_cause = np.empty(len(truth), dtype=[("event", bool), ("time", np.float64)])
        of_cause["event"], of_cause["time"] = truth["event"] == causes.index(cause) + 1, truth["time"]
        return of_cause

    @property
    def groups(self) -> np.ndarray:
        """Group of each landmark's patient that a split keeps together, (landmark,) int64."""
        return self.cohort.groups[self.patient]

    def to_frame(self, *, numeric: bool = False) -> pl.DataFrame:
        """Make a table of what is known at each landmark, for models of other libraries.

        Parameters
        ----------
        numeric : bool, default False
            Whether every column is a number, as most libraries want it: without id, and with a column
            NAME=LEVEL of 0 and 1 for each level of a category. Null stays null: fill it by what was seen in
            training.

        Returns
        -------
        polars.DataFrame
            One row a landmark, in the order of `outcome`, which gives what is to be predicted: id, at (days),
            static columns, and of each code KIND.CODE the last value, its .age in days (of the latest row,
            with or without a value), and .n, the number of rows. null = missing. All landmarks of a cohort
            have the same columns.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> pbc().at(365).to_frame().columns[:8]
        ['id', 'at', 'age', 'sex', 'trt', 'lab.bili', 'lab.bili.age', 'lab.bili.n']
        >>> pbc().at(365).to_frame(numeric=True).columns[:6]
        ['at', 'age', 'sex=f', 'sex=m', 'trt=0', 'trt=1']
        """
        from gnnpatient.cohort.view import landmark_frame

        return landmark_frame(self, numeric=numeric)

    def hetero_data(
        self, outcome: str | None = None, names: Names | None = None, *, ids: bool = False
    ) -> list[HeteroData]:
        """Make one PyG graph a landmark, for networks and loaders of PyG.

        Every node and edge type of the spec is there, also with zero rows. So PyG's `DataLoader` and
        `Batch.from_data_list` lose no node and wire none to another patient; they do both, without a
        warning, where a graph lacks a type.

        Parameters
        ----------
        outcome : str, optional
            Name of the outcome that `y` is of; all landmarks must be at risk. Default: no `y`.
        names : Names, optional
            Codes and levels that keep their name, as `gnnpatient.graphs.frequent` finds them in training
            patients. Default: those of the cohort. Give the same to every cohort that a network sees:
            positions in `code` are those of one cohort.
        ids : bool, default False
            Whether each graph has the id of its patient, as `patient_id`.

        Returns
        -------
        list of torch_geometric.data.HeteroData
            In the order of the landmarks. Each node type has `x`, float32, whose columns `feature_names`
            lists and `Graphs.features` describes, and but for "timepoint" and "patient" `code`, int64, the
            position in `cohort.codes` (0 = other) for an embedding. There is one "patient" node. Each edge
            type has `edge_index`, and `edge_attr` where `Graphs.attribute_names` lists columns, 0 = missing.
            With an outcome, `y` of the graph is (1, 2) float32, event (0 = censored, k = the k-th cause) and
            days after the landmark; of a diagnosis (1,) int64, the class, -1 = unknown, of several labels (1,
            label); of a value (1,) float32. The patient node has the fields of `Landmarks.outcome`, as
            `event` and `time`, or `label`.

        Raises
        ------
        InputError
            When there is no such outcome, or a landmark is not at risk of it.

        Examples
        --------
        >>> from torch_geometric.loader import DataLoader
        >>> from gnnpatient.datasets.shipped import pbc
        >>> X = pbc().at(365).followed("death")
        >>> batch = next(iter(DataLoader(X.hetero_data("death"), batch_size=32)))
        >>> batch["lab"].x.shape, batch["lab"].code.max(), batch.y[:2].tolist()
        (torch.Size([468, 7]), tensor(7), [[2.0, 35.0], [2.0, 187.0]])
        """
        from gnnpatient.cohort.view import landmark_hetero_data

        return landmark_hetero_data(self, outcome, names, ids=ids)

    def feature_names(self, names: Names | None = None) -> dict[str, tuple[str, ...]]:
        """Name the columns of `x` in `hetero_data`; what they are stands in `Graphs.features`.

        Parameters
        ----------
        names : Names, optional
            As in `hetero_data`.

        Returns
        -------
        dict of str to tuple of str
            By node type.

        Examples
        --------
        >>> from gnnpatient.datasets.shipped import pbc
        >>> pbc().at(365).feature_names()["lab"]
        ('value', 'given', 'below', 'above', 'age', 'open', 'duration')
        """
        from gnnpatient.cohort.view import known_graphs

        return known_graphs(self[:0], names).feature_names


def check_landmarks(X: object, call: str) -> Landmarks:
    """Refuse what is no `Landmarks`, with the way to make some of it.

    Parameters
    ----------
    X : object
        What a caller gave.
    call : str
        What was called, for the message.

    Returns
    -------
    Landmarks

    Raises
    ------
    InputTypeError
        When it is anything else.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> check_landmarks(pbc(), "fit")
    Traceback (most recent call last):
    gnnpatient.errors.InputTypeError: fit: X is a Cohort; say when, as in ...
    """
    if isinstance(X, Landmarks):
        return X
    if isinstance(X, Cohort):
        way = "say when, as in cohort.at(365) or cohort.landmarks(times=[0, 365]).followed()"
    elif hasattr(X, "columns"):
        way = 'make a cohort of your tables first, read_cohort(spec, {"t.csv": frame}), then cohort.at(365)'
    elif isinstance(X, list) and X and hasattr(X[0], "node_types"):
        way = "a network of PyG's own takes graphs; here give the landmarks that they were made of"
    elif isinstance(X, np.ndarray | list) and np.asarray(X).dtype.kind in "iub" and np.ndim(X) == 1:
        way = "positions index landmarks, as in X[train]"
    else:
        way = "landmarks are wanted, as cohort.at(365) makes them"
    raise InputTypeError(f"{call}: X is a {type(X).__name__}; {way}")


def join_landmarks(*parts: Landmarks) -> Landmarks:
    """Put landmarks of one cohort one after the other.

    Parameters
    ----------
    *parts : Landmarks
        Landmarks of the same cohort, all of them with `to` or none.

    Returns
    -------
    Landmarks

    Raises
    ------
    InputError
        When the cohorts differ, or only some parts have `to`.

    Examples
    --------
    >>> from gnnpatient.datasets.shipped import pbc
    >>> cohort = pbc()
    >>> join_landmarks(cohort.at(365, "2"), cohort.at(730, "10")).days
    array([365., 730.])
    """
    for part in parts:
        check_landmarks(part, "join_landmarks")
    cohort = parts[0].cohort
    if any(part.cohort is not cohort for part in parts):
        raise InputError("the parts are landmarks of different cohorts; score each cohort on its own")
    asked = [part.to for part in parts if part.to is not None]
    if asked and len(asked) < len(parts):
        raise InputError(
            "some parts ask for a value at a time (to), others do not; give all the time, or none"
        )
    patient, at = (np.concatenate([getattr(part, name) for part in parts]) for name in ("patient", "at"))
    return Landmarks(cohort, patient, at, np.concatenate(asked) if asked else None)


def _group_sizes(outcome: Outcome) -> list[str]:
    """How many patients have each cause or class, in words."""
    if isinstance(outcome, Labels):
        return outcome.sizes
    if not outcome.has_patient_groups:
        return [outcome.kind]
    rest = "censored" if outcome.has_curve else "not looked for"
    return group_sizes(outcome.strata, outcome.names, rest)


def _span(cohort: Cohort) -> str:
    """From when on, and until when, patients are observed, in days."""
    inside = cohort.enters
    if not inside.any():
        return "no patient enters"
    ends = cohort.open_until(*(cohort.outcomes and cohort.outcome_names()))[inside] / DAY
    start = cohort.entry[inside].min() / DAY
    return f"day {start:.4g} to {ends.max():.4g}, median end day {np.median(ends):.4g}"


def _are_durations(days: np.ndarray) -> bool:
    """Whether texts are durations, as "3y" or "365"; a year, or a date without hyphens, is none."""
    words = [day for day in days.flat if isinstance(day, str)]
    found = [bool(_DURATION.fullmatch(word)) and not _YEAR_OR_DATE.fullmatch(word) for word in words]
    if any(found) and not (all(found) and len(words) == days.size):
        raise InputError(f"time {_short(days.tolist())}: durations and dates; give one or the other")
    return bool(found) and all(found)


def _duration_seconds(days: np.ndarray) -> np.ndarray:
    return np.array([seconds(str(day)) for day in days.flat], np.float64).reshape(days.shape)


def _short(value: object) -> str:
    """A value as Python writes it, in one line and not long."""
    return printable(" ".join(repr(value).split()), 60)


def _parse_times(times: Iterable[Any]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Prediction times: the days, the dates, and whether entry is one of them."""
    days, dates, entry = list[float](), list[str](), False
    for time in times:
        if isinstance(time, str) and time == "entry":
            entry = True
        elif isinstance(time, date | np.datetime64) or (
            isinstance(time, str) and re.match(r"\s*\d{4}-?\d\d-?\d\d", time)
        ):
            dates.append(time.isoformat() if isinstance(time, date) else str(time))
        else:
            is_duration = isinstance(time, str) and bool(_DURATION.fullmatch(time))
            try:
                days.append(seconds(time) / DAY if is_duration else float(time))
            except InputError:
                raise
            except (TypeError, ValueError):
                hint = near(time, ["entry"]) if isinstance(time, str) else ""
                raise InputError(
                    f"time {_short(time)}: give days after the origin, durations as in '3y', ISO 8601 dates, "
                    f'or "entry"{hint if "mean" in hint else ""}'
                ) from None
    return np.asarray(days, np.float64), np.asarray(dates, np.str_), entry


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        # until the next release: where read_cohort was before, also for what was pickled there
        if name != "read_cohort":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        warnings.warn("read_cohort is now in gnnpatient.ingest.read", DeprecationWarning, stacklevel=2)
        return getattr(import_module("gnnpatient.ingest.read"), name)

    def _renamed(old: str, new: str) -> property:
        """An attribute by its old name, until the next release."""

        def get(self: Cohort | Landmarks) -> Any:
            warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=2)
            return getattr(self, new)

        return property(get)

    for _class, _names in {
        Cohort: {
            "answered": "outcomes_with_model",
            "observed": "observed_until",
            "timed": "has_later_rows",
            "until": "open_until",
        },
        Landmarks: {"early": "early_at_entry"},
    }.items():
        for _old, _new in _names.items():
            setattr(_class, _old, _renamed(_old, _new))
