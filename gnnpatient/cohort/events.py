"""Tables to tidy rows: who, when known, when happened, what, how much; used, collapsed or refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gnnpatient.cohort.readers.tables import column, ids, moment, number, read_table, text
from gnnpatient.cohort.spec import DAY, NEVER, Conversion, GraphSpec, NodeSpec, OutcomeSpec, near
from gnnpatient.errors import Refused

_COMMA = r"^\s*(-?\d+),(\d+)\s*$"  # a number with a decimal comma
_FOREVER = np.iinfo(np.int64).max


@dataclass(eq=False)
class Account:
    """What became of each row of one table."""

    used: np.ndarray  # (row,) bool
    collapsed: np.ndarray  # (row,) bool: an exact repeat of a row that is used
    why: np.ndarray  # (row,) int8 into reasons: why a row that is neither used nor collapsed was refused
    reasons: list[str]

    @classmethod
    def of(cls, rows: int) -> Account:
        none = ["nothing in it that the spec asks for"]
        return cls(np.zeros(rows, bool), np.zeros(rows, bool), np.zeros(rows, np.int8), none)

    def refuse(self, where: np.ndarray, reason: str) -> None:
        """Note a reason at positions of rows; the first one that a row gets stays."""
        rows = where[self.why[where] == 0]
        if len(rows):
            self.reasons += [reason] * (reason not in self.reasons)
            self.why[rows] = self.reasons.index(reason)

    def claim(self, who: np.ndarray) -> None:
        """The first row of each patient is used, further ones (the same in what is asked) are collapsed."""
        patients, first = np.unique(who, return_index=True)
        self.used[first[patients >= 0]] = True
        self.collapsed[who >= 0] = True

    def summary(self) -> dict[str, Any]:
        """rows = used + collapsed + refused, for `check`."""
        collapsed = self.collapsed & ~self.used
        refused = ~(self.used | collapsed)
        count = np.bincount(self.why[refused], minlength=len(self.reasons)).tolist()
        return {
            "rows": len(self.used),
            "used": int(self.used.sum()),
            "collapsed": int(collapsed.sum()),
            "refused": {reason: n for reason, n in zip(self.reasons, count, strict=True) if n},
        }


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one kind, not yet sorted."""

    patient: np.ndarray  # (row,) int64, position in the patient table
    known: np.ndarray  # (row,) int64 seconds after the origin
    happened: np.ndarray  # (row,) int64 seconds, <= known
    code: np.ndarray  # (row,) int32 into codes
    value: np.ndarray  # (row,) float32, nan = missing
    source: np.ndarray  # (row,) int64, row of the table it came from
    codes: tuple[str, ...]  # position 0 is "other"
    units: tuple[str, ...]  # one a code


@dataclass(frozen=True, eq=False)
class Patients:
    """The patient table, one entry a patient, by id."""

    ids: np.ndarray  # (patient,) str
    number: np.ndarray  # (patient, column) float32, nan = missing
    category: np.ndarray  # (patient, column) int32 into levels, -1 = missing
    levels: dict[str, tuple[str, ...]]
    origin: np.ndarray | None  # (patient,) int64 seconds since 1970
    entry: np.ndarray  # (patient,) int64 seconds after the origin
    exit: np.ndarray | None  # (patient,) int64 seconds after the origin, NEVER = not given
    group: np.ndarray | None  # (patient,) str, "" = own group


@dataclass(eq=False)
class Source:
    """The tables of a cohort, each read once, with its account."""

    folder: Path
    spec: GraphSpec
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)

    def column(self, table: str, name: str) -> pl.Series:
        if table not in self.tables:
            self.tables[table] = read_table(self.folder, table, self.spec.table(table))
            self.accounts[table] = Account.of(len(self.tables[table]))
        return column(self.tables[table], name, table)

    def number(self, table: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (nan = missing), and where a cell holds something that is not a finite number."""
        cells = self.column(table, name)
        if cells.dtype == pl.String and table.endswith(".parquet"):
            raise Refused(f"{table}: column {name!r} holds text; write numbers with a numeric type")
        value, bad = number(self._points(table, cells))
        if bad.any() and cells.dtype == pl.String:
            comma = bad & cells.str.contains(_COMMA).fill_null(False)
            if comma.any():
                row = comma.arg_true()[0]
                raise Refused(
                    f"{table}: column {name!r}, line {row + 2}: {cells[row]!r}; if that is a decimal comma, "
                    f'set decimal = "," in [tables."{table}"]'
                )
        return value.fill_null(np.nan).to_numpy(), bad.to_numpy()

    def moment(
        self, table: str, name: str, origin: pl.Series | None
    ) -> tuple[pl.Series, pl.Series, pl.Series]:
        """Seconds after the origin, whether it is a bare date, where a cell is not a time."""
        cells = self._points(table, self.column(table, name))
        return moment(cells, origin, f"{table}: column {name!r}")

    def _points(self, table: str, cells: pl.Series) -> pl.Series:
        comma = self.spec.table(table).decimal == "," and cells.dtype == pl.String
        return cells.str.replace(_COMMA, "$1.$2") if comma else cells

    def who(self, table: str, known: np.ndarray) -> np.ndarray:
        """Position of each row's patient, -1 where the row belongs to nobody."""
        name = self.spec.table(table).key or self.spec.patient.key
        key = ids(self.column(table, name))
        if key.null_count() and table.endswith(".parquet"):  # a join gone wrong rather than an empty cell
            raise Refused(
                f"{table}: column {name!r} holds {key.null_count()} null(s); every row needs a patient"
            )
        index = pl.DataFrame(
            {"id": known, "position": np.arange(len(known))}, schema_overrides={"id": pl.String}
        )
        found = pl.DataFrame({"id": key}).join(index, on="id", how="left", maintain_order="left")["position"]
        account = self.accounts[table]
        account.refuse(np.flatnonzero(key.is_null()), "no patient id")
        account.refuse(np.flatnonzero(found.is_null()), "patient not in the patient table")
        return found.fill_null(-1).to_numpy()

    def holds_nodes(self, table: str) -> bool:
        return any(node.table == table for node in self.spec.nodes.values())


def _line(who: np.ndarray, patients: np.ndarray) -> int:
    """The line in which the first of some patients, (patient,) bool, stands first."""
    return int(np.flatnonzero(who == patients.argmax())[0]) + 2


def _one_each(table: str, name: str, values: pl.Series, who: np.ndarray, patients: int) -> np.ndarray:
    """The row that holds each patient's value of a column, -1 = none; refused where a patient has two."""
    rows = np.flatnonzero(values.is_not_null().to_numpy() & (who >= 0))
    first = np.full(patients, -1)
    first[who[rows][::-1]] = rows[::-1]
    cells = values.to_numpy()
    differ = cells[rows] != cells[first[who[rows]]]
    if differ.any():
        row = rows[differ][0]
        raise Refused(
            f"{table}: column {name!r} differs between lines {first[who[row]] + 2} and {row + 2}; "
            "statics and outcomes come from columns that are constant in a patient"
        )
    return first


def _take(values: np.ndarray, rows: np.ndarray, missing: object) -> np.ndarray:
    out = np.asarray(values)[rows]
    out[rows < 0] = missing
    return out


def read_patients(source: Source) -> Patients:
    """The patient table: ids, statics, origin, entry, exit, group."""
    spec, table = source.spec.patient, source.spec.patient.table
    key = ids(source.column(table, spec.key))
    names = np.sort(key.drop_nulls().unique().to_numpy().astype(str))
    if not len(names):
        raise Refused(f"{table}: no patient has an id in column {spec.key!r}")
    if alike := len(names) - pl.Series(names).str.strip_chars().str.to_lowercase().n_unique():
        source.flags.append(f"{table}: {alike} id(s) differ from another in case or blanks only; kept apart")
    who, count = source.who(table, names), len(names)

    number_, category = np.zeros((count, 0), np.float32), np.zeros((count, 0), np.int32)
    levels: dict[str, tuple[str, ...]] = {}
    for name in spec.number:
        amount, odd = source.number(table, name)
        if odd.any():
            raise Refused(
                f"{table}: column {name!r}, line {odd.argmax() + 2}: not a number; name it a category?"
            )
        rows = _one_each(table, name, pl.Series(amount, nan_to_null=True), who, count)
        number_ = np.c_[number_, _take(amount, rows, np.nan)].astype(np.float32)
    for name in spec.category:
        level = text(source.column(table, name))
        levels[name] = tuple(level.drop_nulls().unique().sort())
        index = level.cast(pl.Enum(levels[name])).to_physical().cast(pl.Int32).fill_null(-1)
        rows = _one_each(table, name, level, who, count)
        category = np.c_[category, _take(index.to_numpy(), rows, -1)].astype(np.int32)

    origin = _origin(source, spec.origin, who, count) if spec.origin else None
    entry = np.zeros(count, np.int64)
    if spec.entry:  # on a bare date a patient is there from the first second on
        given = _patient_time(source, table, spec.entry, who, count, origin, end=0)
        entry = np.where(given == NEVER, 0, given)
    group = None
    if spec.group:
        site = text(source.column(table, spec.group))
        rows = _one_each(table, spec.group, site, who, count)
        group = _take(site.fill_null("").to_numpy().astype(str), rows, "")
    if not source.holds_nodes(table):
        source.accounts[table].claim(who)
    return Patients(
        ids=names,
        number=number_,
        category=category,
        levels=levels,
        origin=origin,
        entry=entry,
        exit=_patient_time(source, table, spec.exit, who, count, origin) if spec.exit else None,
        group=group,
    )


def _origin(source: Source, name: str, who: np.ndarray, patients: int) -> np.ndarray:
    """Day 0 of each patient in seconds since 1970; a bare date is its first second."""
    table = source.spec.patient.table
    cells = source.column(table, name)
    stamp, _, bad = source.moment(table, name, pl.zeros(len(who), eager=True, dtype=pl.Int64))
    if not cells.dtype.is_temporal():
        bad |= number(cells)[0].is_not_null()  # days after what?
    rows = _one_each(table, name, stamp, who, patients)
    if bad.any() or (rows < 0).any():
        line = bad.arg_true()[0] + 2 if bad.any() else _line(who, rows < 0)
        raise Refused(f"{table}: column {name!r}, line {line}: not a date; every patient needs a day 0")
    return stamp.fill_null(NEVER).to_numpy()[rows]


def _patient_time(
    source: Source,
    table: str,
    name: str,
    who: np.ndarray,
    patients: int,
    origin: np.ndarray | None,
    end: int = DAY - 1,
) -> np.ndarray:
    """One time a patient in seconds after the origin, NEVER = not given. `end` is added to a bare date."""
    start = None if origin is None else pl.Series(_take(origin, who, 0))
    at, bare, bad = source.moment(table, name, start)
    if bad.any():
        raise Refused(f"{table}: column {name!r}, line {bad.arg_true()[0] + 2}: not a time")
    at = at + bare.cast(pl.Int64) * end
    rows = _one_each(table, name, at, who, patients)
    return _take(at.fill_null(NEVER).to_numpy(), rows, NEVER)


def read_rows(source: Source, kind: str, node: NodeSpec, patients: Patients) -> Rows:
    """The tidy rows of one node kind."""
    who = source.who(node.table, patients.ids)
    account = source.accounts[node.table]
    origin = None if patients.origin is None else pl.Series(_take(patients.origin, who, 0))
    known, happened, good = _times(source, node, origin, account)
    good &= who >= 0

    if node.columns is not None:
        codes = ("other", *node.columns)
        cells, odd = map(np.stack, zip(*(source.number(node.table, c) for c in node.columns), strict=True))
        column_, row = np.nonzero((~np.isnan(cells) | odd) & good)
        value, bad, code = cells[column_, row], odd[column_, row], (column_ + 1).astype(np.int32)
        unit = pl.Series(["", *node.columns.values()])[code]
    else:
        assert node.code is not None
        name = text(source.column(node.table, node.code))
        account.refuse(np.flatnonzero(name.is_null()), "no code")
        row = np.flatnonzero(good & name.is_not_null().to_numpy())
        codes = ("other", *(c for c in name[row].unique().sort() if c != "other"))
        code = name[row].replace_strict(codes, np.arange(len(codes)), return_dtype=pl.Int32).to_numpy()
        unit = pl.Series([""]).new_from_index(0, len(row))
        if node.unit:
            unit = text(source.column(node.table, node.unit))[row].fill_null("")
        value, bad = np.full(len(row), np.nan), np.zeros(len(row), bool)
        if node.value:
            value, bad = (cells[row] for cells in source.number(node.table, node.value))

    value, units, why = _in_units(source.spec, kind, codes, code, unit, value)
    with np.errstate(over="ignore"):
        value = value.astype(np.float32)
    why["value not a finite number"] = bad | np.isinf(value)
    keep = ~np.logical_or.reduce(list(why.values()))
    for reason, cell in why.items():
        account.refuse(row[cell], reason)
        if n := int(np.isin(row[cell], row[keep]).sum()):
            source.flags.append(f"{kind}: {n} cells left out of rows that are used: {reason}")
    row = row[keep]
    return Rows(who[row], known[row], happened[row], code[keep], value[keep], row, codes, units)


def _times(
    source: Source, node: NodeSpec, origin: pl.Series | None, account: Account
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Known and happened of each row (METHODS 1-3), and which rows have them."""
    odd = "is not days, ISO 8601 or within 125 years of day 0"
    at, bare, bad = source.moment(node.table, node.time, origin)
    account.refuse(np.flatnonzero(bad), f"time {odd}")
    account.refuse(np.flatnonzero(at.is_null()), "no time")
    good = at.is_not_null().to_numpy()
    happened, end = at.fill_null(0).to_numpy(), bare.to_numpy() * (DAY - 1)
    if node.known is None:
        return happened + end, happened + end, good
    seen, dated, bad = source.moment(node.table, node.known, origin)
    account.refuse(np.flatnonzero(bad), f"known {odd}")
    account.refuse(np.flatnonzero(seen.is_null()), "no known time")
    good &= seen.is_not_null().to_numpy()
    known = seen.fill_null(0).to_numpy() + dated.to_numpy() * (DAY - 1)
    late = good & (happened > known)  # a bare date is its first second here and its last there: by the day
    account.refuse(np.flatnonzero(late), "happened after it was known")
    return known, np.minimum(happened + end, known), good & ~late


def _in_units(
    spec: GraphSpec, kind: str, codes: tuple[str, ...], code: np.ndarray, unit: pl.Series, value: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...], dict[str, np.ndarray]]:
    """Values in the unit that [units] wants, the unit of each code, and which rows to refuse for what reason.

    A code that [units] does not name must come in one unit: numbers of two units are never mixed.
    """
    rows = pl.DataFrame({"code": code, "unit": unit})
    pairs = rows.group_by("code", "unit").len().sort("code", "len", "unit", descending=[False, True, False])
    units = [spec.units[c].to if c in spec.units else "" for c in codes]
    change: list[tuple[int, str, float | None, float]] = []  # code, unit, factor (None = unknown), offset
    for number_, name, _ in pairs.iter_rows():
        wanted = spec.units.get(codes[number_])
        if wanted is not None:
            how = Conversion() if name == wanted.to else wanted.sources.get(name)
            change.append((number_, name, how.factor if how else None, how.offset if how else 0.0))
        elif not units[number_]:
            units[number_] = name
        elif name and name.casefold() != units[number_].casefold():
            raise Refused(
                f"{kind}: code {codes[number_]!r} comes in {units[number_]!r} and {name!r}; convert it, "
                f'as in [units] "{codes[number_]}" = {{ to = "{units[number_]}", from = {{ "{name}" = 1 }} }}'
            )
    if not change:
        return value, tuple(units), {}
    schema = {"code": pl.Int32, "unit": pl.String, "factor": pl.Float64, "offset": pl.Float64}
    pairs = pl.DataFrame(change, schema=schema, orient="row").with_columns(named=True)
    rows = rows.join(pairs, on=["code", "unit"], how="left", maintain_order="left")
    unknown = (rows["named"].fill_null(False) & rows["factor"].is_null()).to_numpy()
    value = value * rows["factor"].fill_null(1.0).to_numpy() + rows["offset"].fill_null(0.0).to_numpy()
    ends = np.array([(c in spec.units and spec.units[c].range) or (-np.inf, np.inf) for c in codes])[code]
    beyond = ~unknown & ((value < ends[:, 0]) | (value > ends[:, 1]))
    return value, tuple(units), {"unknown unit": unknown, "out of range": beyond}


def read_survival(
    source: Source, name: str, outcome: OutcomeSpec, patients: Patients
) -> tuple[np.ndarray, np.ndarray]:
    """Time (seconds, NEVER = unknown) and event (0 censored, k = k-th cause) of each patient: (patient,).

    The earliest cause counts, of two at one moment the one that the spec names first; an event at the end
    of observation is an event.
    """
    table, count = outcome.table, len(patients.ids)
    who = source.who(table, patients.ids)
    if not source.holds_nodes(table):
        source.accounts[table].claim(who)
    present = np.bincount(who[who >= 0], minlength=count) > 0

    def refuse_if(wrong: np.ndarray, what: str) -> None:
        if (wrong & present).any():
            line = _line(who, wrong & present)
            raise Refused(f"{table}: outcome {name!r}, line {line}: {what}")

    def time_of(column: str) -> np.ndarray:
        return _patient_time(source, table, column, who, count, patients.origin)

    event, time = np.zeros(count, np.int8), np.full(count, _FOREVER)
    last = np.full(count, _FOREVER)  # end of observation
    if outcome.status is not None:
        state = _states(source, name, outcome, who, count)
        when = time_of(outcome.status.time)
        refuse_if((when == NEVER) | (state < 0), "no state or no time; missing is not censored")
        event = state.astype(np.int8)
        time, last = np.where(state > 0, when, time), np.where(state == 0, when, last)
    for k, (cause, spec) in enumerate((outcome.causes or {}).items(), start=1):
        when = time_of(spec.time)
        happened = when != NEVER
        if spec.flag is not None:
            flag = _flags(source, name, cause, table, spec.flag, who, count)
            refuse_if(flag < 0, f"flag {spec.flag!r} is empty; missing is not censored")
            refuse_if((flag == 1) & ~happened, f"cause {cause!r} happened, but no time")
            last = np.where(happened & (flag == 0), np.minimum(last, when), last)
            happened &= flag == 1
        first = happened & (when < time)
        event, time = np.where(first, k, event).astype(np.int8), np.where(first, when, time)
    end = time_of(outcome.exit) if outcome.exit else patients.exit
    if end is not None:
        last = np.where(end != NEVER, end, last)
    refuse_if(
        (event == 0) & (last == _FOREVER), "neither an event nor an end of observation; set exit = COLUMN"
    )
    event = np.where(present & (time <= last), event, 0).astype(np.int8)
    time = np.minimum(time, last)
    refuse_if(time < 0, "the time lies before the origin")
    return np.where(present, time, NEVER), event


def _states(source: Source, name: str, outcome: OutcomeSpec, who: np.ndarray, count: int) -> np.ndarray:
    """What the status column means for each patient: 0 censored, k the k-th cause, -1 not given."""
    assert outcome.status is not None
    table, status = outcome.table, outcome.status
    numbers = ("censored", *outcome.cause_names)
    meaning = {state: numbers.index(word) for state, word in status.states.items()}
    cells = text(source.column(table, status.column)).str.replace(r"^(-?\d+)\.0+$", "$1")
    if (strange := cells.is_not_null() & ~cells.is_in(list(meaning))).any():
        row = strange.arg_true()[0]
        raise Refused(
            f"{table}: outcome {name!r}, line {row + 2}: state {cells[row]!r} is not in states"
            f"{near(cells[row], meaning)}"
        )
    rows = _one_each(table, status.column, cells, who, count)
    code = cells.replace_strict(list(meaning), list(meaning.values()), default=None, return_dtype=pl.Int64)
    return _take(code.fill_null(-1).to_numpy(), rows, -1)


def _flags(
    source: Source, name: str, cause: str, table: str, flag: str, who: np.ndarray, count: int
) -> np.ndarray:
    """1 = happened, 0 = censored, -1 = not given."""
    words = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0}
    cells = text(source.column(table, flag)).str.to_lowercase()
    if (strange := cells.is_not_null() & ~cells.is_in(list(words))).any():
        row = strange.arg_true()[0]
        raise Refused(
            f"{table}: outcome {name!r}, cause {cause!r}, line {row + 2}: flag {cells[row]!r} is not 0 or 1; "
            "give the words a meaning with status = { states = {...} }"
        )
    value = cells.replace_strict(list(words), list(words.values()), default=None, return_dtype=pl.Int64)
    return _take(value.fill_null(-1).to_numpy(), _one_each(table, flag, value, who, count), -1)
