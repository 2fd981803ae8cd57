"""The patient table: who they are, what does not change in them, when their time begins and ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gnnpatient.cohort.readers.tables import fits, ids, number
from gnnpatient.cohort.source import PEOPLE, Source, View, levels, one_each, take
from gnnpatient.cohort.spec import DAY, NEVER, YEAR, Moment, PickSpec, seconds
from gnnpatient.errors import Refused

if TYPE_CHECKING:
    from gnnpatient.cohort.events import Rows

_DURATION = r"-?\d+(\.\d+)?\s*(s|min|h|d|w|mo|y)"


@dataclass(frozen=True, eq=False)
class Patients:
    """The patient table, one entry a patient, by id."""

    ids: np.ndarray  # (patient,) str
    number: np.ndarray  # (patient, column) float32, nan = missing
    category: np.ndarray  # (patient, column) int32 into levels, -1 = missing
    levels: dict[str, tuple[str, ...]]
    origin: np.ndarray | None  # (patient,) int64 seconds since 1970, UTC
    group: np.ndarray | None  # (patient,) str, "" = own group

    def __len__(self) -> int:
        return len(self.ids)

    def day_zero(self, who: np.ndarray) -> pl.Series | None:
        """The origin of each row's patient; rows of nobody get 0."""
        return None if self.origin is None else pl.Series(take(self.origin, who, 0))


def read_patients(source: Source) -> Patients:
    """Ids, statics, day 0 and group of the patients."""
    spec, table = source.spec.patient, patient_table(source)
    source.open(table)
    schema, key = source.schemas[table], source.key(table)
    born = "age" in spec.number and "age" not in schema and source.door is not None
    read = [name for name in spec.columns if not (born and name == "age")]
    read += [c for c in (spec.origin, spec.group) if isinstance(c, str)] + ["birth"] * born
    clock = _clock_of(source, table) if spec.first else None
    view = source.view(table, [*read, *([clock] if clock else [])], spec.where)
    if spec.where:
        every = source.view(table, []).row
        source.accounts[table].refuse(np.setdiff1d(every, view.row), "not chosen by where")
    every_id = ids(view.column(key)).drop_nulls().unique()
    if every_id.str.contains("\0", literal=True).any():  # numpy would take two such ids for one
        raise Refused(f"{table}: column {key!r}: an id holds a NUL; write ids as plain text")
    names = np.sort(every_id.to_numpy().astype(str))
    if not len(names):
        if source.door is not None and not spec.where:
            raise Refused(f"{source.folder}: names no patient, so its rows are nobody's; add the patients")
        chosen = " and fits where" if spec.where else ""
        raise Refused(f"{table}: no patient has an id in column {key!r}{chosen}")
    plain = pl.Series(names).str.normalize("NFKC").str.to_lowercase().str.replace_all(r"[\s\p{Cf}]+", "")
    if alike := len(names) - plain.n_unique():
        source.flags.append(f"{table}: {alike} id(s) differ from another in case or blanks only; kept apart")
    source.steps.append(["in the patient table", len(names)])

    origin = None
    if isinstance(spec.origin, PickSpec):
        origin = picked(source, spec.origin, names)
        has = origin != NEVER
        if not has.any():
            raise Refused(f"origin: no patient has an event that fits {', '.join(spec.origin.code)}")
        lost, names, origin = names[~has], names[has], origin[has]
        view.refuse(ids(view.column(key)).is_in(lost.tolist()).fill_null(False).to_numpy(), "no day 0")
        source.steps.append(["with an event that gives day 0", len(names)])
    if isinstance(spec.origin, str) and source.door is not None:  # what a format does not know of someone
        given = ids(view.column(key)).filter(view.column(spec.origin).is_not_null())
        names = names[np.isin(names, given.to_numpy().astype(str))]
        view.refuse(view.column(spec.origin).is_null().to_numpy(), "no day 0")
        source.steps.append([f"with {spec.origin}, which gives day 0", len(names)])
        if not len(names):
            raise Refused(f"{table}: column {spec.origin!r} gives nobody a day 0; name another")
    who, count = view.who(names), len(names)
    if isinstance(spec.origin, str):
        origin = _origin(view, spec.origin, who, count)
    elif source.door is not None and spec.origin is None:
        raise Refused(
            f"a {source.spec.format} folder has dates; name day 0 in [patient], as in "
            f'origin = {{ code = "...", pick = "first" }}, or a column of people: {", ".join(_dates(schema))}'
        )

    at = _row_times(view, clock, origin, who) if spec.first else np.zeros(0, np.int64)
    number_, category = np.zeros((count, 0), np.float32), np.zeros((count, 0), np.int32)
    words: dict[str, tuple[str, ...]] = {}
    for name in spec.number:
        if born and name == "age":
            number_ = np.c_[number_, _age(view, who, count, origin)].astype(np.float32)
            continue
        amount, odd = view.number(name)
        if odd.any():
            raise Refused(
                f"{table}: column {name!r}, line {view.line(int(odd.argmax()))}: not a number; name it a "
                "category?"
            )
        cells = pl.Series(amount, nan_to_null=True)
        first = name in spec.first
        rows = _earliest_row(cells, at, who, count) if first else one_each(view, name, cells, who, count)
        number_ = np.c_[number_, take(amount, rows, np.nan)].astype(np.float32)
    for name in spec.category:
        level = view.text(name)
        words[name], index = levels(level)
        first = name in spec.first
        rows = _earliest_row(level, at, who, count) if first else one_each(view, name, level, who, count)
        category = np.c_[category, take(index, rows, -1)].astype(np.int32)

    group = None
    if spec.group:
        site = _groups(source, view, spec.group)
        rows = one_each(view, spec.group, site, who, count)
        group = take(site.fill_null("").to_numpy().astype(str), rows, "")
    if not source.holds_nodes(table):
        view.account.claim(view.row, who)
    return Patients(names, number_, category, words, origin, group)


def _groups(source: Source, view: View, name: str) -> pl.Series:
    """The group of each row, without blanks around it and in one Unicode form; an empty one is null."""
    site = view.text(name).str.strip_chars().str.normalize("NFC")
    site = site.set(site == "", None)
    names = site.drop_nulls().unique()
    plain = names.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"[\s\p{Cf}]+", "")
    if alike := len(names) - plain.n_unique():
        source.doubt(f"{view.table}: {alike} group(s) differ from another in case or blanks only; kept apart")
    return site


def patient_table(source: Source) -> str:
    return source.spec.patient.table or PEOPLE


def _dates(schema: Any) -> list[str]:
    return [name for name, dtype in schema.items() if dtype.is_temporal()]


def _clock_of(source: Source, table: str) -> str | None:
    """The column that orders the rows of the patient table: the time of nodes that are read from it."""
    times = [
        n.time for n in source.spec.nodes.values() if n.table == table and n.time in source.schemas[table]
    ]
    return times[0] if times else None


def _row_times(view: View, clock: str | None, origin: np.ndarray | None, who: np.ndarray) -> np.ndarray:
    """What orders the rows of the patient table: their time where it has one, else their place in it."""
    if clock is None:
        return view.row
    start = None if origin is None else pl.Series(take(origin, who, 0))
    return view.moment(clock, start)[0].fill_null(np.iinfo(np.int64).max).to_numpy()


def _earliest_row(cells: pl.Series, at: np.ndarray, who: np.ndarray, patients: int) -> np.ndarray:
    """The earliest row that gives each patient's value, -1 = none; at one moment the smallest value."""
    rows = np.flatnonzero(cells.is_not_null().to_numpy() & (who >= 0))
    rank = cells.rank("dense").fill_null(0).to_numpy()
    rows = rows[np.lexsort((rank[rows], at[rows]))]
    first = np.full(patients, -1)
    first[who[rows][::-1]] = rows[::-1]
    return first


def _origin(view: View, name: str, who: np.ndarray, patients: int) -> np.ndarray:
    """Day 0 of each patient in seconds since 1970; a bare date is its first second."""
    cells = view.column(name)
    stamp, _, bad = view.moment(name, pl.zeros(len(who), eager=True, dtype=pl.Int64))
    if not cells.dtype.is_temporal() and view.source.spec.table(view.table).time.format is None:
        bad |= number(cells)[0].is_not_null()  # days after what?
    rows = one_each(view, name, stamp, who, patients)
    if bad.any() or (rows < 0).any():
        line = view.line(bad.arg_true()[0]) if bad.any() else first_line(view, who, rows < 0)
        raise Refused(f"{view.table}: column {name!r}, line {line}: not a date; every patient needs a day 0")
    return stamp.fill_null(NEVER).to_numpy()[rows]


def first_line(view: View, who: np.ndarray, patients: np.ndarray) -> int:
    """The line in which the first of some patients, (patient,) bool, stands first."""
    return view.line(int(np.flatnonzero(who == patients.argmax())[0]))


def _age(view: View, who: np.ndarray, patients: int, origin: np.ndarray | None) -> np.ndarray:
    """Years from birth to day 0; nan where either is unknown."""
    assert origin is not None
    born, _, _ = view.moment("birth", pl.zeros(len(who), eager=True, dtype=pl.Int64))
    rows = one_each(view, "birth", born, who, patients)
    given = take(born.fill_null(NEVER).to_numpy(), rows, NEVER)
    return np.where(given == NEVER, np.nan, (origin - given.astype(np.float64)) / DAY / YEAR)


def picked(source: Source, pick: PickSpec, patients: np.ndarray, *, end: int = 0) -> np.ndarray:
    """The first or last event of a format that fits, in seconds since 1970, NEVER = none: (patient,) int64.

    A bare date counts from its first second; `end` is added to it.
    """
    assert source.door is not None
    parts = []
    for table in source.event_tables(None):
        source.open(table)
        schema = source.schemas[table]
        lazy = source.tables[table].lazy()
        lazy = lazy.filter(pl.col("refused").is_null()) if "refused" in schema else lazy
        bare = pl.col("time_bare").fill_null(False) if "time_bare" in schema else pl.lit(False)
        at = pl.col("time").dt.epoch("s") + bare.cast(pl.Int64) * end
        lazy = lazy.filter(pl.col("time").is_not_null() & fits({"code": pick.code}))
        best = at.min() if pick.pick == "first" else at.max()
        parts.append(lazy.group_by("id").agg(best.alias("at")).collect(engine="streaming"))
    found = pl.concat(parts, how="vertical_relaxed").group_by("id")
    one = found.agg(pl.col("at").min() if pick.pick == "first" else pl.col("at").max())
    wanted = pl.DataFrame({"id": patients}, schema={"id": pl.String})
    return wanted.join(one, on="id", how="left", maintain_order="left")["at"].fill_null(NEVER).to_numpy()


def moment_of(
    source: Source,
    what: Moment,
    table: str | None,
    patients: Patients,
    rows: Mapping[str, Rows],
    *,
    end: int = DAY - 1,
) -> np.ndarray:
    """One time a patient in seconds after the origin, NEVER = not given: (patient,) int64.

    what: a column of `table`, a duration after the origin, or the first or last of some events. `end` is
    added to a bare date.
    """
    if isinstance(what, PickSpec):
        if what.node is None:
            assert patients.origin is not None
            at = picked(source, what, patients.ids, end=end)
            return np.where(at == NEVER, NEVER, at - patients.origin)
        of = rows[what.node]
        return earliest(of, of.fitting(what.code), len(patients), last=what.pick == "last")
    if table is None or what not in source.schemas.get(table, {}):
        if re.fullmatch(_DURATION, what.strip()):
            return np.full(len(patients), seconds(what), np.int64)
        if table is None:
            raise Refused(f"{what!r}: a column of which table? a duration such as 1y would do, too")
    view = source.view(table, [what])
    return patient_time(view, what, view.who(patients.ids), patients, end)


def patient_time(
    view: View, name: str, who: np.ndarray, patients: Patients, end: int = DAY - 1
) -> np.ndarray:
    """The time that a column gives each patient; refused where a patient has two."""
    at, bare, bad = view.moment(name, patients.day_zero(who))
    if bad.any():
        raise Refused(
            f"{view.table}: column {name!r}, line {view.line(bad.arg_true()[0])}: not a time; write days "
            "after day 0 or a date within 125 years of it"
        )
    at = at + bare.cast(pl.Int64) * end
    rows = one_each(view, name, at, who, len(patients))
    return take(at.fill_null(NEVER).to_numpy(), rows, NEVER)


def earliest(rows: Rows, these: np.ndarray, patients: int, *, last: bool = False) -> np.ndarray:
    """When the first (or last) of some rows, (row,) bool, happened in each patient; NEVER = in none.

    A row that an amendment replaces, sooner or later, does not count: what it said was wrong.
    """
    these = these & rows.standing
    far = np.iinfo(np.int64).min if last else np.iinfo(np.int64).max
    at = np.full(patients, far)
    (np.maximum if last else np.minimum).at(at, rows.patient[these], rows.happened[these])
    return np.where(at == far, NEVER, at)
