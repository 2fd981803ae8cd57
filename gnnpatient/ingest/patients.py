"""The patient table: who they are, what does not change in them, when their time begins and ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.ingest.cells import ids
from gnnpatient.ingest.source import PEOPLE, SourceTables, TableView, levels, one_each, scripts, take
from gnnpatient.readers.tables import fits
from gnnpatient.spec.tables import Moment, PickSpec
from gnnpatient.times import DAY, FOREVER, NEVER, YEAR, seconds

if TYPE_CHECKING:
    from gnnpatient.ingest.events import Rows

BEYOND = round(400 * YEAR * DAY)  # seconds after the origin: what stands for "never" or "still open"
ALWAYS = np.iinfo(np.int64).min  # since when a static is known that is as of the origin
EXPORTED = ("marital", "deceased")  # of people of a format: as of the export, which is after day 0
MOST = 0.9  # share of the rows in which a column is given that says when each row became known
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
    first_day: (
        np.ndarray
    )  # (patient,) int64 seconds after the origin: the end of day 0 where it is a bare date
    number_known: np.ndarray | None = (
        None  # beside number, int64 seconds: since when; None = as of the origin
    )
    category_known: np.ndarray | None = None  # beside category

    def __len__(self) -> int:
        return len(self.ids)

    def day_zero(self, who: np.ndarray) -> pl.Series | None:
        """The origin of each row's patient; rows of nobody get 0."""
        return None if self.origin is None else pl.Series(take(self.origin, who, 0))


def read_patients(source: SourceTables) -> Patients:
    """Ids, statics, day 0 and group of the patients."""
    spec, table = source.spec.patient, patient_table(source)
    source.open(table)
    schema, key = source.schemas[table], source.key(table)
    born = "age" in spec.number and "age" not in schema and source.door is not None
    read = [name for name in spec.columns if not (born and name == "age")]
    read += [c for c in (spec.origin, spec.group) if isinstance(c, str)] + ["birth"] * born
    if source.is_ours(table):
        _as_of_the_export(source, table)
    clocks = _clocks(source, table)
    timed = [name for time, known, _ in clocks for name in (time, known) if name is not None]
    view = source.view(table, [*read, *timed], spec.where)
    if spec.where:
        every = source.view(table, []).row
        source.accounts[table].refuse(np.setdiff1d(every, view.row), "not chosen by where")
    every_id = ids(view.column(key)).drop_nulls().unique()
    if every_id.str.contains("\0", literal=True).any():  # numpy would take two such ids for one
        raise InputError(f"{table}: column {key!r}: an id holds a NUL; write ids as plain text")
    names = np.sort(every_id.to_numpy().astype(str))
    if not len(names):
        if source.door is not None and not spec.where:
            raise InputError(f"{source.folder}: names no patient, so its rows are nobody's; add the patients")
        chosen = " and fits where" if spec.where else ""
        raise InputError(f"{table}: no patient has an id in column {key!r}{chosen}")
    plain = pl.Series(names).str.normalize("NFKC").str.to_lowercase().str.replace_all(r"[\s\p{Cf}]+", "")
    if alike := len(names) - plain.n_unique():
        source.flags.append(f"{table}: {alike} id(s) differ from another in case or blanks only; kept apart")
    for flag in scripts(every_id, "id(s)"):
        source.doubt(f"{table}: {flag}")
    source.steps.append(["in the patient table", len(names)])

    origin = first_day = None
    if isinstance(spec.origin, PickSpec):
        origin = picked(source, spec.origin, names)
        has = origin != NEVER
        first_day = (picked(source, spec.origin, names, end=True) - origin)[has]
        if not has.any():
            raise InputError(f"origin: no patient has an event that fits {', '.join(spec.origin.code)}")
        if spec.origin.pick == "last":
            source.doubt(
                'origin: pick = "last" is a day 0 of which only later days tell that it was it; who comes '
                "again is not asked about before, so risks hold for the others (first has no such choice)",
                decides=True,
            )
        lost, names, origin = names[~has], names[has], origin[has]
        view.refuse(ids(view.column(key)).is_in(lost.tolist()).fill_null(False).to_numpy(), "no day 0")
        source.steps.append(["with an event that gives day 0", len(names)])
    if isinstance(spec.origin, str) and source.door is not None:  # what a format does not know of someone
        given = ids(view.column(key)).filter(view.column(spec.origin).is_not_null())
        names = names[np.isin(names, given.to_numpy().astype(str))]
        view.refuse(view.column(spec.origin).is_null().to_numpy(), "no day 0")
        source.steps.append([f"with {spec.origin}, which gives day 0", len(names)])
        if not len(names):
            raise InputError(f"{table}: column {spec.origin!r} gives nobody a day 0; name another")
    who, count = view.who(names), len(names)
    if isinstance(spec.origin, str):
        origin, first_day = _origin(view, spec.origin, who, count)
    elif source.door is not None and spec.origin is None:
        raise InputError(
            f"a {source.spec.format} folder has dates; name day 0 in [patient], as in "
            f'origin = {{ code = "...", pick = "first" }}, or a column of people: {", ".join(_dates(schema))}'
        )

    since = _row_known(view, clocks, origin, who)  # None: every row is as of the origin
    seen: dict[str, np.ndarray] = {}
    number_, category = np.zeros((count, 0), np.float32), np.zeros((count, 0), np.int32)
    words: dict[str, tuple[str, ...]] = {}
    for name in spec.number:
        if born and name == "age":
            number_ = np.c_[number_, _age(view, who, count, origin)].astype(np.float32)
            seen[name] = np.full(count, ALWAYS)
            continue
        amount, odd = view.number(name)
        if odd.any():
            raise InputError(
                f"{table}: column {name!r}, line {view.line(int(odd.argmax()))}: not a number; name it a "
                "category?"
            )
        cells = pl.Series(amount, nan_to_null=True)
        rows, seen[name] = _static(view, name, cells, since, who, count)
        number_ = np.c_[number_, take(amount, rows, np.nan)].astype(np.float32)
    for name in spec.category:
        level = view.text(name)
        words[name], index = levels(level)
        rows, seen[name] = _static(view, name, level, since, who, count)
        category = np.c_[category, take(index, rows, -1)].astype(np.int32)

    group = None
    if spec.group:
        site = _groups(source, view, spec.group)
        rows = one_each(view, spec.group, site, who, count)
        group = take(site.fill_null("").to_numpy().astype(str), rows, "")
    if not source.holds_nodes(table):
        view.account.claim(view.row, who)
    beside = [None if since is None else _stacked(seen, some, count) for some in (spec.number, spec.category)]
    if since is not None and any((late := {n: int((at > 0).sum()) for n, at in seen.items()}).values()):
        of = ", ".join(f"{name} of {n}" for name, n in late.items() if n)
        source.doubt(
            f"{table}: statics are known from the time of their row on ({_time_of(source, clocks)}): {of} "
            'patient(s) only after day 0; where that is not so, set known = "0d" or a column in [patient]',
            decides=True,
        )
    first_day = np.zeros(count, np.int64) if first_day is None else first_day
    return Patients(names, number_, category, words, origin, group, first_day, *beside)


def _groups(source: SourceTables, view: TableView, name: str) -> pl.Series:
    """The group of each row, without blanks around it and in one Unicode form; an empty one is null."""
    site = view.text(name).str.strip_chars().str.normalize("NFC")
    site = site.set(site == "", None)
    names = site.drop_nulls().unique()
    plain = names.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"[\s\p{Cf}]+", "")
    if alike := len(names) - plain.n_unique():
        source.doubt(f"{view.table}: {alike} group(s) differ from another in case or blanks only; kept apart")
    return site


def patient_table(source: SourceTables) -> str:
    return source.spec.patient.table or PEOPLE


def _dates(schema: Any) -> list[str]:
    return [name for name, dtype in schema.items() if dtype.is_temporal()]


def _as_of_the_export(source: SourceTables, table: str) -> None:
    """Statics of a format's people that are not of day 0: a date is refused, what may change is flagged."""
    spec, schema = source.spec.patient, source.schemas[table]
    for name in spec.columns:
        if name in schema and schema[name].is_temporal():
            raise InputError(
                f"{table}: column {name!r} is a date, of which day 0 need not know; name a number or a word"
            )
        if name in EXPORTED and name in schema and spec.known is None:
            source.doubt(
                f"{table}: {name!r} is as of the export, not of day 0; leave it out, or say since when it is "
                "known in [patient] known",
                decides=True,
            )


Clock = tuple[str, str | None, bool]
"""Columns: when a row of the patient table happened, became known; whether one without a time is of day 0."""


def _clocks(source: SourceTables, table: str) -> list[Clock]:
    """What may say when a row of the patient table became known: [patient] known, else the times of the nodes
    that are read from it."""
    spec, schema = source.spec.patient, source.schemas[table]
    if spec.known is not None:
        fixed = spec.known not in schema and re.fullmatch(_DURATION, spec.known.strip())
        return [] if fixed else [(spec.known, None, False)]
    found: dict[Clock, None] = {}
    for node in source.spec.nodes.values():
        time, known = node.time, node.known
        if spec.columns and node.table == table and time is not None and time in schema:
            known = known if known in schema else None
            found[time, known, node.untimed == "origin"] = None
    return list(found)


def _time_of(source: SourceTables, clocks: list[Clock]) -> str:
    """The columns that time the rows of the patient table, in words."""
    return " and ".join(dict.fromkeys(known or time for time, known, _ in clocks)) or str(
        source.spec.patient.known
    )


def _row_known(
    view: TableView, clocks: list[Clock], origin: np.ndarray | None, who: np.ndarray
) -> np.ndarray | None:
    """When each row of the patient table became known: (row,) int64 seconds, FOREVER = nothing says so.

    None: all of it is as of the origin. Where nodes of several times are read from the table, a row is known
    at the last of those that most rows have. A time that fewer have is that of an event and not of the row,
    unless it is the only one that tells the rows of a patient apart.
    """
    source, spec = view.source, view.source.spec.patient
    if not clocks:
        late = seconds(spec.known) if spec.known is not None else 0
        return np.full(len(view), late) if late > 0 else None
    at, ours = np.stack([_since(view, clock, origin, who) for clock in clocks]), who >= 0
    share = (at[:, ours] < FOREVER).mean(1) if ours.any() else np.zeros(len(at))
    use = (share >= MOST) | (spec.known is not None)
    if not use.any():
        if np.bincount(who[ours]).max(initial=0) < 2:
            source.doubt(
                f"{view.table}: statics count as known on day 0, whatever {_time_of(source, clocks)} says, "
                "which few rows have; [patient] known names the column that times a row"
            )
            return None
        use[share.argmax()] = True
    at = np.where(at[use] < FOREVER, at[use], ALWAYS).max(0)
    return np.where(at == ALWAYS, FOREVER, at)


def _since(view: TableView, clock: Clock, origin: np.ndarray | None, who: np.ndarray) -> np.ndarray:
    """When each row became known by one clock; a bare date at its end, that of the origin at the origin."""
    start = None if origin is None else pl.Series(take(origin, who, 0))
    time, known, day_zero = clock
    at = np.full(len(view), ALWAYS)
    for name in (time, known):
        if name is None:
            continue
        when = view.moment(name, start)
        begin, end = when.at.fill_null(0).to_numpy(), when.end.fill_null(0).to_numpy()
        given = (when.at.is_not_null() & ~when.bad).to_numpy()
        moment = np.where((begin < end) & (begin <= 0) & (end >= 0), 0, end)
        empty = (when.at.is_null() & ~when.bad).to_numpy() & day_zero & (name == time)
        at = np.maximum(at, np.where(given, moment, np.where(empty, 0, FOREVER)))
    return at


def _static(
    view: TableView, name: str, cells: pl.Series, since: np.ndarray | None, who: np.ndarray, patients: int
) -> tuple[np.ndarray, np.ndarray]:
    """The row that gives each patient's value of a static, -1 = none, and since when it is known (METHODS 6).

    A value of which nothing says when it became known is left out where the other rows say it.
    """
    source, spec = view.source, view.source.spec.patient
    order = view.row if since is None else since
    first = name in spec.first
    rows = _earliest_row(cells, order, who, patients) if first else one_each(view, name, cells, who, patients)
    if since is None:
        place = np.full(patients + 1, -1)  # the first row of each; the last entry is for rows of nobody
        place[who[::-1]] = np.arange(len(who))[::-1]
        later = 0 if spec.known is not None else int(((rows >= 0) & (rows != place[:-1])).sum())
        if later:
            source.doubt(
                f"{view.table}: {name!r} of {later} patient(s) stands in a later row and counts as known on "
                "day 0; [patient] known names the column that times a row",
                decides=True,
            )
        return rows, np.full(patients, ALWAYS)
    known = np.full(patients, FOREVER)
    given = np.flatnonzero(cells.is_not_null().to_numpy() & (who >= 0))
    np.minimum.at(known, who[given], since[given])
    lost = (rows >= 0) & (known == FOREVER)
    if lost.any():
        source.doubt(
            f"{view.table}: {name!r} of {int(lost.sum())} patient(s) stands in rows without a time; left out",
            decides=True,
        )
    return np.where(lost, -1, rows), np.where((rows < 0) | lost, ALWAYS, known)


def _stacked(columns: Mapping[str, np.ndarray], names: tuple[str, ...], patients: int) -> np.ndarray:
    """Some columns side by side: (patient, column) int64."""
    return np.stack([columns[name] for name in names], 1) if names else np.zeros((patients, 0), np.int64)


def _earliest_row(cells: pl.Series, at: np.ndarray, who: np.ndarray, patients: int) -> np.ndarray:
    """The earliest row that gives each patient's value, -1 = none; at one moment the smallest value."""
    rows = np.flatnonzero(cells.is_not_null().to_numpy() & (who >= 0))
    rank = cells.rank("dense").fill_null(0).to_numpy()
    rows = rows[np.lexsort((rank[rows], at[rows]))]
    first = np.full(patients, -1)
    first[who[rows][::-1]] = rows[::-1]
    return first


def _origin(view: TableView, name: str, who: np.ndarray, patients: int) -> tuple[np.ndarray, np.ndarray]:
    """Day 0 of each patient in seconds since 1970, of a bare date its first second; and how many seconds
    later that day ends, 0 where it is no bare date."""
    when = view.moment(name, pl.zeros(len(who), eager=True, dtype=pl.Int64), limit=None)
    bad = when.bad | (when.at.is_not_null() & ~when.dated)  # days after what?
    rows = one_each(view, name, when.at, who, patients)
    if bad.any() or (rows < 0).any():
        bad = bad if bad.any() else pl.Series(who == (rows < 0).argmax())
        row = bad.arg_true()[0]
        raise InputError(
            f"{view.table}: column {name!r}, line {view.line(row)}: not a date; every patient needs a day 0"
            f"{view.shown(name, row)}"
        )
    length = (when.end - when.at).fill_null(0).to_numpy()
    return when.at.fill_null(NEVER).to_numpy()[rows], length[rows]


def first_line(view: TableView, who: np.ndarray, patients: np.ndarray) -> int:
    """The line in which the first of some patients, (patient,) bool, stands first."""
    return view.line(int(np.flatnonzero(who == patients.argmax())[0]))


def _age(view: TableView, who: np.ndarray, patients: int, origin: np.ndarray | None) -> np.ndarray:
    """Years from birth to day 0; nan where either is unknown."""
    assert origin is not None
    born = view.moment("birth", pl.zeros(len(who), eager=True, dtype=pl.Int64), limit=None).at
    rows = one_each(view, "birth", born, who, patients)
    given = take(born.fill_null(NEVER).to_numpy(), rows, NEVER)
    return np.where(given == NEVER, np.nan, (origin - given.astype(np.float64)) / DAY / YEAR)


def picked(
    source: SourceTables,
    pick: PickSpec,
    patients: np.ndarray,
    *,
    end: bool = False,
    seen: bool = False,
    since: np.ndarray | None = None,
) -> np.ndarray:
    """The first or last event of a format that fits, in seconds since 1970, NEVER = none: (patient,) int64.

    A bare date counts from its first second, or from its last (`end`). seen: when it became known.
    since: (patient,) int64 seconds since 1970 before which none of a patient's events counts.
    """
    assert source.door is not None
    parts = []
    for table in source.event_tables(None):
        source.open(table)
        schema = source.schemas[table]
        lazy = source.tables[table].lazy()
        lazy = lazy.filter(pl.col("refused").is_null()) if "refused" in schema else lazy
        at = source.moments(table, end=end).dt.epoch("s")
        if seen and "known" in schema:  # said where it is later; a bare date is known at its end
            late = source.moments(table, "known", end=True).dt.epoch("s")
            at = pl.max_horizontal(at, pl.when(pl.col("known") > pl.col("time")).then(late))
        lazy = lazy.filter(pl.col("time").is_not_null() & fits({"code": pick.code}))
        if since is not None:
            from_ = pl.DataFrame({"id": patients, "since": since}, schema_overrides={"id": pl.String})
            lazy = lazy.join(from_.lazy(), on="id").filter(at >= pl.col("since"))
        best = at.min() if pick.pick == "first" else at.max()
        parts.append(lazy.group_by("id").agg(best.alias("at")).collect(engine="streaming"))
    found = pl.concat(parts, how="vertical_relaxed").group_by("id")
    one = found.agg(pl.col("at").min() if pick.pick == "first" else pl.col("at").max())
    wanted = pl.DataFrame({"id": patients}, schema={"id": pl.String})
    return wanted.join(one, on="id", how="left", maintain_order="left")["at"].fill_null(NEVER).to_numpy()


def moment_of(
    source: SourceTables,
    what: Moment,
    table: str | None,
    patients: Patients,
    rows: Mapping[str, Rows],
    *,
    end: bool = True,
    beyond: bool = False,
) -> np.ndarray:
    """One time a patient in seconds after the origin, NEVER = not given: (patient,) int64.

    what: a column of `table`, a duration after the origin, or the first or last of some events. A bare date
    counts from its last second (`end`), or from its first. `beyond`: see `patient_time`.
    """
    if isinstance(what, PickSpec):
        if what.node is None:
            assert patients.origin is not None
            at = picked(source, what, patients.ids, end=end)
            return np.where(at == NEVER, NEVER, at - patients.origin)
        of = rows[what.node]
        return earliest(of, of.fitting(what.code), len(patients), last=what.pick == "last")
    if is_duration(source, what, table):
        return np.full(len(patients), seconds(what), np.int64)
    if table is None:
        raise InputError(f"{what!r}: a column of which table? a duration such as 1y would do, too")
    view = source.view(table, [what])
    return patient_time(view, what, view.who(patients.ids), patients, end, beyond=beyond)


def is_duration(source: SourceTables, what: Moment | None, table: str | None) -> bool:
    """Whether a moment of the spec is a duration after the origin; a column of that name comes first."""
    if not isinstance(what, str) or (table is not None and what in source.schemas.get(table, {})):
        return False
    return re.fullmatch(_DURATION, what.strip()) is not None


def given_in_days(what: Moment) -> bool:
    """Whether a moment is a duration of whole days, which on a bare date ends with the day."""
    found = re.fullmatch(_DURATION, what.strip()) if isinstance(what, str) else None
    return found is not None and found[2] in ("d", "w") and seconds(found[0]) % DAY == 0


def entered(
    source: SourceTables,
    what: Moment,
    table: str | None,
    patients: Patients,
    rows: Mapping[str, Rows],
    *,
    end: bool,
    since: np.ndarray | None = None,
) -> np.ndarray:
    """When observation starts, in seconds after the origin, NEVER = not given: (patient,) int64.

    An event starts it when it is known, and does so whatever an amendment says of it later: eligibility uses
    nothing later than the ask (METHODS 5). A bare date counts from its first second, or its last (`end`).
    since: (patient,) int64 seconds after the origin before which no event counts.
    """
    if not isinstance(what, PickSpec):
        return moment_of(source, what, table, patients, rows, end=end, beyond=True)
    if what.node is None:
        assert patients.origin is not None
        first = None if since is None else np.where(since == NEVER, NEVER, since + patients.origin)
        at = picked(source, what, patients.ids, end=end, seen=True, since=first)
        return np.where(at == NEVER, NEVER, at - patients.origin)
    of, first = rows[what.node], np.full(len(patients), FOREVER)
    these = of.fitting(what.code)
    if of.replaced is not None:
        these &= of.known < of.replaced
    if since is not None:
        these &= of.known >= since[of.patient]
    np.minimum.at(first, of.patient[these], of.known[these])
    return np.where(first == FOREVER, NEVER, first)


def patient_time(
    view: TableView, name: str, who: np.ndarray, patients: Patients, end: bool = True, *, beyond: bool = False
) -> np.ndarray:
    """The time that a column gives each patient; refused where a patient has two.

    beyond: a year far ahead, as in 9999-12-31, is a time, BEYOND; else it is refused as any slip.
    """
    when = view.moment(name, patients.day_zero(who))
    at, bad = when.end if end else when.at, when.bad
    if beyond and (far := ahead(view, name, bad, who, patients)).any():
        at, bad = at.set(far, BEYOND), bad & ~far
    if bad.any():
        row = bad.arg_true()[0]
        raise InputError(
            f"{view.table}: column {name!r}, line {view.line(row)}: not a time; write days after day 0 or a "
            f"date within 125 years of it{view.shown(name, row)}"
        )
    rows = one_each(view, name, at, who, len(patients))
    return take(at.fill_null(NEVER).to_numpy(), rows, NEVER)


def ahead(view: TableView, name: str, bad: pl.Series, who: np.ndarray, patients: Patients) -> pl.Series:
    """Which of the cells that are no time lie in a year far ahead, as 9999-12-31 does: (row,) Boolean."""
    if not bad.any() or patients.origin is None:
        return bad & False
    year = (
        view.column(name).cast(pl.String).str.extract(r"(\d{4,})").cast(pl.Int64, strict=False).fill_null(0)
    )
    start = pl.Series(take(patients.origin, who, 0)) / DAY / YEAR + 1970
    return bad & (year > start + 100) & (year <= 9999)


def earliest(rows: Rows, these: np.ndarray, patients: int, *, last: bool = False) -> np.ndarray:
    """When the first (or last) of some rows, (row,) bool, happened in each patient; NEVER = in none.

    A row that an amendment replaces, sooner or later, does not count: what it said was wrong.
    """
    these = these & rows.standing
    far = np.iinfo(np.int64).min if last else np.iinfo(np.int64).max
    at = np.full(patients, far)
    (np.maximum if last else np.minimum).at(at, rows.patient[these], rows.happened[these])
    return np.where(at == far, NEVER, at)
