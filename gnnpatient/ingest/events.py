"""Tables to tidy rows: who, when known, when happened, what, how much; used, collapsed or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gnnpatient.errors import InputError, near
from gnnpatient.ingest.cells import ids, number, split_bounds, text
from gnnpatient.ingest.patients import Patients
from gnnpatient.ingest.source import SourceTables, TableView, scripts
from gnnpatient.readers.standard import BOUND
from gnnpatient.readers.tables import FRACTIONS, holds_fractions
from gnnpatient.spec.graph import GraphSpec
from gnnpatient.spec.nodes import NodeSpec
from gnnpatient.spec.patterns import fitting
from gnnpatient.spec.tables import PREFIXES, Conversion, HierarchySpec, UnitSpec
from gnnpatient.spec.units import plain_unit
from gnnpatient.times import FOREVER

if TYPE_CHECKING:
    from gnnpatient.content.vectors import EmbedOptions
    from gnnpatient.ingest.hierarchy import Hierarchy


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one kind, not yet sorted."""

    patient: np.ndarray  # (row,) int64, position in the patient table
    known: np.ndarray  # (row,) int64 seconds after the origin
    happened: np.ndarray  # (row,) int64 seconds, <= known
    code: np.ndarray  # (row,) int32 into codes
    value: np.ndarray  # (row,) float32, nan = missing
    source: np.ndarray  # (row,) int64, number of the row it came from, over all tables
    codes: tuple[str, ...]  # position 0 is "other"
    units: tuple[str, ...]  # one a code
    until: np.ndarray | None = None  # (row,) int64 seconds: when it ended, FOREVER = not that one knew
    vector: np.ndarray | None = None  # (row,) int32: row of `matrix`; of a measurement, of its pictures'
    study: np.ndarray | None = None  # (row,) int64: what rows of several kinds share; -1 = none
    matrix: np.ndarray | None = None  # (vector, channel) float32: what pictures and texts say
    replaced: np.ndarray | None = (
        None  # (row,) int64 seconds: when an amendment took its place, FOREVER = never
    )
    narrow: np.ndarray | None = None  # (row,) int32 into narrow_codes: the code that `level` has rolled up
    narrow_codes: tuple[str, ...] = ()
    begun: np.ndarray | None = None  # (row,) int64 seconds: of a bare date its first second, else happened;
    # None = no row is on a bare date
    bound: np.ndarray | None = None  # (row,) int8: -1 the truth lies below the value, 1 above; None = nowhere

    def fitting(self, patterns: Iterable[str]) -> np.ndarray:
        """Which rows have a code that fits one of these patterns, as it is or as it was: (row,) bool."""
        patterns = tuple(patterns)
        fit = np.array(fitting(self.codes, patterns), bool)[self.code]
        if self.narrow is None:
            return fit
        return fit | np.array(fitting(self.narrow_codes, patterns), bool)[self.narrow]

    @property
    def standing(self) -> np.ndarray:
        """Which rows no amendment ever replaces: (row,) bool. What came of a patient is read from these."""
        return np.ones(len(self.known), bool) if self.replaced is None else self.replaced == FOREVER

    def only(self, keep: np.ndarray) -> Rows:
        """Some of the rows, (row,) bool; the codes stay."""
        columns = (
            "patient",
            "known",
            "happened",
            "code",
            "value",
            "source",
            "until",
            "replaced",
            "vector",
            "study",
            "narrow",
            "begun",
            "bound",
        )
        held: dict[str, Any] = {name: getattr(self, name) for name in columns}
        return replace(self, **{name: column[keep] for name, column in held.items() if column is not None})


@dataclass(frozen=True, eq=False)
class _Part:
    """What one table gives to a kind of node."""

    view: TableView
    row: np.ndarray  # position in the view
    who: np.ndarray
    known: np.ndarray
    happened: np.ndarray
    begun: np.ndarray  # the first second at which it can have happened
    until: np.ndarray | None
    codes: tuple[str, ...]  # of all columns of a wide table; of a long one none
    name: pl.Series  # code of each row
    unit: pl.Series
    value: np.ndarray  # float64
    bad: np.ndarray  # a value that is not a finite number
    news: pl.DataFrame | None  # every amendment of the table, see `_news`
    bound: np.ndarray  # int8: -1 the truth lies below it, 1 above, 0 it is the value
    content: pl.Series | None  # file names or texts
    study: pl.Series | None


def read_rows(source: SourceTables, kind: str, node: NodeSpec, patients: Patients) -> Rows:
    """The tidy rows of one node kind."""
    parts = [_part(source, kind, table, node, patients) for table in source.event_tables(node.table)]
    source.asked[kind] = [part.view for part in parts]
    name = pl.concat([part.name for part in parts])
    distinct, narrow = (), None
    if node.level is not None:
        assert node.hierarchy is not None
        distinct = tuple(name.unique().sort())
        narrow = name.cast(pl.Enum(distinct)).to_physical().cast(pl.Int32).to_numpy()
        rolled = hierarchy(source, node.hierarchy, distinct).level(distinct, node.level)
        name = name.replace_strict(distinct, rolled, return_dtype=pl.String) if distinct else name
    wide = tuple(dict.fromkeys(code for part in parts for code in part.codes))
    codes = wide or tuple(sorted(c for c in name.unique() if c != "other"))
    codes = ("other", *(c for c in codes if c != "other"))
    for flag in scripts(pl.Series(codes[1:], dtype=pl.String), "code(s)", letters=False):
        source.doubt(f"{kind}: {flag}")
    code = name.cast(pl.Enum(codes)).to_physical().cast(pl.Int32).to_numpy()
    unit = pl.concat([part.unit for part in parts])
    value = np.concatenate([part.value for part in parts])
    bad = np.concatenate([part.bad for part in parts])
    bound = np.concatenate([part.bound for part in parts])
    value, units, why = _in_units(source, kind, codes, code, unit, value, blank=node.blank, bound=bound)
    with np.errstate(over="ignore"):
        value = value.astype(np.float32)
    why["value not a finite number"] = bad | np.isinf(value)
    if node.bounds == "refuse":
        why["value is a bound (< or >)"] = bound != 0
    keep = ~np.logical_or.reduce(list(why.values()))
    number = np.concatenate([part.view.account.start + part.view.row[part.row] for part in parts])
    for reason, cell in why.items():
        source.refuse(number[cell], reason)
        if n := int(np.isin(number[cell], number[keep]).sum()):
            source.flags.append(f"{kind}: {n} cells left out of rows that are used: {reason}")
    begun = np.concatenate([part.begun for part in parts])
    happened = np.concatenate([part.happened for part in parts])
    rows = Rows(
        patient=np.concatenate([part.who for part in parts]),
        known=np.concatenate([part.known for part in parts]),
        happened=happened,
        code=code,
        value=value,
        source=number,
        codes=codes,
        units=units,
        until=_until(parts),
        study=_studies(source, parts),
        narrow=narrow,
        narrow_codes=distinct,
        begun=begun if (begun < happened).any() else None,
        bound=bound if (bound[keep] != 0).any() else None,
    ).only(keep)
    if rows.bound is not None:
        each = Counter(rows.code[rows.bound != 0].tolist())
        most = ", ".join(f"{n} of {codes[i]!r}" for i, n in each.most_common(5))
        more = f" and {len(each) - 5} more codes" if len(each) > 5 else ""
        source.doubt(
            f"{kind}: {each.total()} value(s) are bounds (< or >), the number taken and marked: {most}{more}"
        )
    if node.content is not None:
        cells = pl.concat([part.content for part in parts if part.content is not None])
        rows = _with_content(source, kind, node, rows, cells.filter(pl.Series(keep)), patients)
    return rows if node.amends is None else _amended(source, kind, rows, parts)


def _part(source: SourceTables, kind: str, table: str, node: NodeSpec, patients: Patients) -> _Part:
    """The rows that one table gives, each with its times, code, unit and value; refused ones are left out."""
    source.open(table)
    own = set(source.schemas[table]) if source.is_events(table) else set()

    def named(name: str) -> str | None:
        """The column of the spec, else that of the format where it has one."""
        return getattr(node, name) or (name if name in own else None)

    time, known, until = named("time"), named("known"), named("until")
    code = None if node.columns else named("code")
    value, unit = (None, None) if node.columns else (named("value"), named("unit"))
    words = "text" if value == "value" and "text" in own and node.text is None else None
    extra = (node.row, node.amends, node.content, node.study, words)
    wanted = [c for c in (time, known, until, code, value, unit, *extra) if c is not None]
    wide = _wide(source, table, node.columns or {})
    view = source.view(table, [*wanted, *wide], node.where)
    who = view.who(patients.ids)
    seen, happened, begun, good = _times(view, node, patients, who, time, known)
    good &= who >= 0
    ended = None if until is None else _ends(source, kind, view, until, patients, who, begun, good)

    if node.columns is not None:
        cells, odd, side = view.amounts(list(wide), words="bounds" in node.model_fields_set)
        column, row = np.nonzero((~np.isnan(cells) | odd) & good)
        amount, bad, bound = cells[column, row], odd[column, row], side[column, row]
        name = pl.Series([code for code, _ in wide.values()], dtype=pl.String)[column]
        units = pl.Series([unit for _, unit in wide.values()], dtype=pl.String)[column]
        units = units.zip_with(units != "", _kept(source.spec, name))
    else:
        every = view.text(code) if code else pl.Series([kind]).new_from_index(0, len(view))
        if code and holds_fractions(dtype := view.column(code).dtype):
            count = every.drop_nulls().n_unique()
            source.doubt(f"{table}: column {code!r} holds {dtype}, {count} codes: {FRACTIONS}")
        view.refuse(every.is_null().to_numpy(), "no code")
        row = np.flatnonzero(good & every.is_not_null().to_numpy())
        name = every[row]
        units = view.plain(unit)[row].fill_null("") if unit else _kept(source.spec, name)
        amount, bad, bound = np.full(len(row), np.nan), np.zeros(len(row), bool), np.zeros(len(row), np.int8)
        if value:
            text_too = "bounds" in node.model_fields_set
            amount, bad, bound = (cells[row] for cells in view.amount(value, words=text_too))
        if words:
            amount, bound = _in_words(view.column(words)[row], amount, bound)
    return _Part(
        view=view,
        row=row,
        who=who[row],
        known=seen[row],
        happened=happened[row],
        begun=begun[row],
        until=None if ended is None else ended[row],
        codes=tuple(code for code, _ in wide.values()),
        name=name.rename("code"),
        unit=units.rename("unit"),
        value=amount,
        bad=bad,
        news=_news(source, table, node, patients, time, known) if node.amends else None,
        bound=bound,
        content=ids(view.column(node.content))[row].rename("content") if node.content else None,
        study=ids(view.column(node.study))[row].rename("study") if node.study else None,
    )


def _in_words(words: pl.Series, amount: np.ndarray, bound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and bounds of a format, with those that it holds in words: a bound, with its number or alone."""
    words = words.cast(pl.String)
    words = words.set(~words.str.contains(BOUND).fill_null(False), None)
    bare, side = split_bounds(words)
    said, none = number(bare.str.replace(",", ".", literal=True))
    found, side_ = said.fill_null(np.nan).to_numpy(), side.to_numpy()
    take = ~np.isnan(found) & ~none.to_numpy() & (np.isnan(amount) | (amount == found))
    return np.where(take, found, amount), np.where(take, side_, bound).astype(np.int8)


def _wide(source: SourceTables, table: str, columns: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Code and unit of each column of a wide table. Columns that fit a pattern come by name, so that their
    order in the file is nothing."""
    schema, meant = source.schemas[table], source.spec.meant(table)
    found: dict[str, tuple[str, str]] = {}
    for name, unit in columns.items():
        if name in schema or name.count("*") != 1:
            found[name] = (name, unit)
            continue
        start, end = name.split("*")
        fit = [c for c in sorted(schema) if c.startswith(start) and c.endswith(end) and len(c) >= len(name)]
        free = [c for c in fit if c not in meant and c not in columns]
        if not free:
            why = f"{fit[0]!r} fits {name!r}, but means something else" if fit else f"no column fits {name!r}"
            raise InputError(
                f"{table}: {why}; take the pattern out of columns = {{...}}, or write another one"
            )
        for column in free:
            found.setdefault(column, (column[len(start) : len(column) - len(end)], unit))
    seen: dict[str, str] = {}
    for column, (code, _) in found.items():
        if seen.setdefault(code, column) != column:
            raise InputError(f"{table}: columns {seen[code]!r} and {column!r} both have the code {code!r}")
    return found


def _kept(spec: GraphSpec, name: pl.Series) -> pl.Series:
    """The unit of each code where the tables say nothing of units: that of [units], else none."""
    units = {code: spec.unit(code) for code in name.unique()}
    kept = {code: how.to for code, how in units.items() if how is not None}
    return name.replace_strict(kept, default="", return_dtype=pl.String) if kept else name.str.slice(0, 0)


def _times(
    view: TableView, node: NodeSpec, patients: Patients, who: np.ndarray, time: str | None, known: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Known and happened of each row (METHODS 1-3), when it can have begun, and which rows have them.

    A bare date counts from its first second where it is judged by its day.
    """
    origin = patients.day_zero(who)
    odd = "is not days, ISO 8601 or within 125 years of day 0"
    if view.source.spec.table(view.table).time.format is not None:
        odd = "is not written in the format of its table, or not within 125 years of day 0"
    if time is None:  # untimed = "origin"
        at = end = pl.zeros(len(view), dtype=pl.Int64, eager=True)
    else:
        when = view.moment(time, origin)
        at, end = when.at, when.end
        view.refuse(when.bad.to_numpy(), f"time {odd}")
        if node.untimed == "origin":
            at, end = (each.fill_null(0).set(when.bad, None) for each in (at, end))
    view.refuse(at.is_null().to_numpy(), "no time")
    good = at.is_not_null().to_numpy()
    happened, last = at.fill_null(0).to_numpy(), end.fill_null(0).to_numpy()
    if known is None:
        return last, last, happened, good
    found = view.moment(known, origin)
    view.refuse(found.bad.to_numpy(), f"known {odd}")
    seen = found.end
    if view.source.is_events(
        view.table
    ):  # a format says when something became known only where that is later
        seen = seen.zip_with(seen.is_not_null() | found.bad, end)
    view.refuse(seen.is_null().to_numpy(), "no known time")
    good &= seen.is_not_null().to_numpy()
    known_ = seen.fill_null(0).to_numpy()
    late = good & (happened > known_)
    view.refuse(late, "happened after it was known")
    return known_, np.minimum(last, known_), happened, good & ~late


def _ends(
    source: SourceTables,
    kind: str,
    view: TableView,
    until: str,
    patients: Patients,
    who: np.ndarray,
    begun: np.ndarray,
    good: np.ndarray,
) -> np.ndarray:
    """When each row's interval ended. An end that cannot be is no end: what began stays, and is counted."""
    when = view.moment(until, patients.day_zero(who))
    end = when.end.fill_null(FOREVER).to_numpy()
    wrong = (when.bad.to_numpy() | (end < begun)) & good
    if n := int(wrong.sum()):
        source.flags.append(f"{kind}: {n} end(s) before the beginning or not a time; taken as not known")
    return np.where(wrong, FOREVER, end)


def _until(parts: list[_Part]) -> np.ndarray | None:
    if all(part.until is None for part in parts):
        return None
    return np.concatenate([np.full(len(p.row), FOREVER) if p.until is None else p.until for p in parts])


def _studies(source: SourceTables, parts: list[_Part]) -> np.ndarray | None:
    """One number a study, the same in every kind; -1 = none."""
    if parts[0].study is None:
        return None
    cells = pl.concat([part.study for part in parts if part.study is not None])
    for word in cells.drop_nulls().unique().sort():
        source.studies.setdefault(word, len(source.studies))
    if not source.studies:
        return np.full(len(cells), -1)
    return cells.replace_strict(source.studies, default=-1, return_dtype=pl.Int64).fill_null(-1).to_numpy()


def _with_content(
    source: SourceTables, kind: str, node: NodeSpec, rows: Rows, cells: pl.Series, patients: Patients
) -> Rows:
    """The rows that have a picture or a text, one a frame or slice; others are refused with the reason."""
    from gnnpatient.content import vectors as content
    from gnnpatient.content.embed import find_encoder

    assert node.embed is not None
    encoder = find_encoder(
        node.embed, source.folder, images=node.file is not None, allow_network=source.allow_network
    )
    node = node.model_copy(update={"embed": str(encoder)})
    how = _how(source)
    if node.file is not None:
        found = content.image_content(kind, node, cells, source.folder, how, rows.patient, patients.ids)
    else:
        found = content.text_content(kind, node, cells, how)
    why = np.array(found.why, dtype=object)
    for reason in sorted(set(found.why) - {""}):
        source.refuse(rows.source[why == reason], reason)
    source.flags += found.flags
    if len(found.vector) and found.encoder:
        source.encoders[kind] = f"{found.encoder}; {node.prepared}"
    source.pictures[kind] = found.keys
    if found.death_rows is not None:
        source.deaths[kind] = rows.patient[found.death_rows], rows.known[found.death_rows]
    rows = rows.only(found.item)
    return replace(rows, vector=found.vector, matrix=found.matrix)


def _how(source: SourceTables) -> EmbedOptions:
    from gnnpatient.content.vectors import EmbedOptions

    return EmbedOptions(source.cache, source.device, source.embed, source.allow_network, source.progress)


def measurements(source: SourceTables, kind: str, node: NodeSpec, rows: Rows) -> Rows:
    """What the pictures `rows` measure, as nodes that are known and happened when their picture is."""
    from gnnpatient.content import vectors as content
    from gnnpatient.content.measure import UNITS

    assert node.measures is not None and rows.vector is not None
    of = source.spec.nodes[node.measures]
    assert of.table is not None and of.file is not None
    columns = [name for name in (of.file, node.region) if name is not None]
    view = source.view(of.table, columns)
    line = rows.source - view.account.start
    pairs = list(zip(*(ids(view.column(name))[line].fill_null("") for name in columns), strict=True))
    keys = [source.pictures[node.measures][i] for i in rows.vector]
    found = content.region_measurements(kind, of, pairs, keys, source.folder, _how(source))
    if len(found.value) and found.encoder:
        source.encoders[kind] = f"{found.encoder}; {of.prepared}"
    for reason, n in sorted(Counter(found.why).items()):
        if reason:
            source.flags.append(f"{kind}: {n} of {len(pairs)} {node.measures} node(s) not measured: {reason}")
    item, column = np.nonzero(~np.isnan(found.value))
    names = pl.Series(list(UNITS), dtype=pl.String)[column]
    codes = ("other", *sorted(names.unique()))
    code = names.cast(pl.Enum(codes)).to_physical().cast(pl.Int32).to_numpy()
    unit = pl.Series(list(UNITS.values()), dtype=pl.String)[column]
    value, units, why = _in_units(source, kind, codes, code, unit, found.value[item, column].astype(float))
    for reason, cell in why.items():
        if cell.any():
            source.flags.append(f"{kind}: {cell.sum()} measurement(s) left out: {reason}")
    keep = ~np.logical_or.reduce([np.zeros(len(item), bool), *why.values()])
    return Rows(
        patient=rows.patient[item],
        known=rows.known[item],
        happened=rows.happened[item],
        code=code,
        value=value.astype(np.float32),
        source=rows.source[item],
        codes=codes,
        units=units,
        vector=rows.vector[item],
        study=None if rows.study is None else rows.study[item],
        replaced=None if rows.replaced is None else rows.replaced[item],
    ).only(keep)


def _news(
    source: SourceTables, table: str, node: NodeSpec, patients: Patients, time: str | None, known: str | None
) -> pl.DataFrame:
    """The rows of a table that have an id or amend another: row (its number), patient, id, amends, since.

    Whatever else becomes of them: a row that is refused, or that `where` leaves out, still says that the one
    it amends is wrong. since: seconds from which on it is known to say so; null = nothing tells.
    """
    assert node.row is not None and node.amends is not None
    view = source.view(table, [c for c in (time, known, node.row, node.amends) if c])
    view = view.some(ids(view.column(node.row)).is_not_null() | view.column(node.amends).is_not_null())
    who = view.who(patients.ids)
    origin, since = patients.day_zero(who), pl.repeat(None, len(view), dtype=pl.Int64, eager=True)
    for name in (known, time):
        if name is None or (name == time and known is not None and not source.is_events(table)):
            continue
        when = view.moment(name, origin)
        at, bad = when.end, when.bad
        if node.untimed == "origin" and name == time:
            at = at.fill_null(0)
        since = since.fill_null(at.set(bad, None))
    if time is None and known is None:
        since = since.fill_null(0)
    frame = pl.DataFrame(
        {
            "row": view.account.start + view.row,
            "patient": who,
            "id": ids(view.column(node.row)),
            "amends": ids(view.column(node.amends)),
            "since": since,
        }
    )
    return frame.filter(pl.col("patient") >= 0)


def _amended(source: SourceTables, kind: str, rows: Rows, parts: list[_Part]) -> Rows:
    """The rows, each with when another that names it took its place: once both are known (METHODS 1).

    So it is, too, where that other one cannot be used itself; where nothing says when it came, the row is
    refused. Of rows that amend each other none stands any more once all are known.
    """
    every = pl.concat([part.news for part in parts if part.news is not None])
    if itself := every.filter(pl.col("id") == pl.col("amends")).height:
        raise InputError(f"{kind}: {itself} row(s) amend themselves; amends names the row that is replaced")
    frame = pl.DataFrame({"row": rows.source, "patient": rows.patient, "known": rows.known})
    frame = frame.join(every.select("row", "id", "amends"), on="row", how="left", maintain_order="left")
    strange = frame.filter(pl.col("amends").is_not_null()).join(
        frame, left_on=["patient", "amends"], right_on=["patient", "id"], how="anti"
    )
    if len(strange):
        source.flags.append(
            f"{kind}: {len(strange)} amendment(s) of a row that the patient does not have; kept"
        )
    lost = ~pl.col("row").is_in(pl.Series(rows.source).unique().implode())  # amendments that are no node
    since = (
        every.drop_nulls("amends")
        .group_by("patient", pl.col("amends").alias("id"))
        .agg(
            pl.col("since").min(), pl.col("since").is_null().any().alias("unknown"), lost.any().alias("lost")
        )
    )
    frame = frame.join(since, on=["patient", "id"], how="left", maintain_order="left")
    gone = pl.when(pl.col("since").is_null()).then(FOREVER).otherwise(pl.max_horizontal("known", "since"))
    replaced = frame.select(gone).to_series().to_numpy()
    unknown = frame["unknown"].fill_null(False).to_numpy()
    if masked := int(frame["lost"].fill_null(False).sum()):
        source.doubt(f"{kind}: {masked} row(s) are amended by a row that is not used; hidden from then on")
    source.refuse(rows.source[unknown], "amended by a row without a known time")
    frame = frame.join(_rings(every), on="row", how="left", maintain_order="left")
    if ring := len(frame) - frame["closed"].null_count():
        source.doubt(f"{kind}: {ring} row(s) amend each other; none counts once all are known")
    # one that was known before stays, so that its day is not taken back by what came later
    never = (pl.col("known") >= pl.col("closed")).fill_null(False) & (pl.Series(replaced) <= pl.col("known"))
    refused = frame.select(never).to_series().to_numpy()
    source.refuse(rows.source[refused], "amends a row that amends it")
    return replace(rows, replaced=replaced).only(~(unknown | refused))


def _rings(news: pl.DataFrame) -> pl.DataFrame:
    """The rows that amend each other, in a ring of any length: row, closed (seconds: when all were known)."""
    news = news.drop_nulls(["id", "amends"])
    ends = news.select("patient", pl.col("amends").alias("id"))
    linked = len(ends.join(news, on=["patient", "id"], how="semi"))  # most amend a row that amends nothing
    if not linked:
        return news.select("row", pl.col("since").alias("closed")).clear()
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    both = pl.concat([news.select("patient", "id"), ends])
    number = both.select(pl.struct("patient", "id").rank("dense").cast(pl.Int64) - 1).to_series().to_numpy()
    start, end, size = number[: len(news)], number[len(news) :], int(number.max()) + 1
    links = coo_array((np.ones(len(news)), (start, end)), shape=(size, size))
    _, part = connected_components(links, directed=True, connection="strong")
    frame = news.with_columns(pl.Series("part", part[start])).filter(pl.Series(part[start] == part[end]))
    return frame.select("row", pl.col("since").max().over("part").alias("closed"))


def _in_units(
    source: SourceTables,
    kind: str,
    codes: tuple[str, ...],
    code: np.ndarray,
    unit: pl.Series,
    value: np.ndarray,
    *,
    blank: str = "refuse",
    bound: np.ndarray | None = None,
) -> tuple[np.ndarray, tuple[str, ...], dict[str, np.ndarray]]:
    """Values in the unit that [units] wants, the unit of each code, and which rows to refuse for what reason.

    A code that [units] does not name must come in one unit: numbers of two units are never mixed, and a
    number without a unit is not of the others' unit unless the spec says so. `bound`: sides of the values, of
    which a factor below 0 turns those here.
    """
    rows = pl.DataFrame({"code": code, "unit": unit, "given": ~np.isnan(value)})
    pairs = rows.group_by("code", "unit").agg(pl.len(), pl.col("given").sum())
    pairs = pairs.sort("code", "len", "unit", descending=[False, True, False])
    known = [source.spec.unit(code) for code in codes]
    units = [how.to if how else "" for how in known]
    change: list[tuple[int, str, float | None, float]] = []  # code, unit, factor (None = unknown), offset
    mixed: dict[str, tuple[str, str]] = {}
    unknown_, blanks = Counter[tuple[int, str]](), Counter[int]()  # values by code and unit, and without one
    for number_, name, _, given in pairs.iter_rows():
        wanted = known[number_]
        if wanted is not None:
            how = _conversion(wanted, name)
            change.append((number_, name, how.factor if how else None, how.offset if how else 0.0))
            unknown_[number_, name] += given * (how is None)
        elif not name:
            blanks[number_] += given
        elif not units[number_]:
            units[number_] = name
        elif plain_unit(name) != plain_unit(units[number_]):
            mixed.setdefault(codes[number_], (units[number_], name))
    if mixed:
        code_, (to, other) = next(iter(mixed.items()))
        more = f" (and {len(mixed) - 1} more codes in two units)" if len(mixed) > 1 else ""
        case = "; case counts, write 1 if they are one" if to.casefold() == other.casefold() else ""
        raise InputError(
            f"{kind}: code {code_!r} comes in {to!r} and {other!r}; convert it, as in [units] "
            f'"{code_}" = {{ to = "{to}", from = {{ "{other}" = FACTOR }} }}{case}{more}'
        )
    beside = {number_: n for number_, n in blanks.items() if n and units[number_]}
    _tell_units(source, kind, codes, units, unknown_, beside, blank)
    none = np.zeros(len(code), bool)
    if beside and blank == "refuse":
        none = np.isin(code, list(beside)) & (unit == "").to_numpy() & ~np.isnan(value)
    if not change:
        return value, tuple(units), {"no unit beside rows with one": none}
    schema = {"code": pl.Int32, "unit": pl.String, "factor": pl.Float64, "offset": pl.Float64}
    pairs = pl.DataFrame(change, schema=schema, orient="row").with_columns(named=True)
    rows = rows.join(pairs, on=["code", "unit"], how="left", maintain_order="left")
    # where there is no number, the unit is nothing
    unknown = (rows["named"].fill_null(False) & rows["factor"].is_null()).to_numpy() & ~np.isnan(value)
    factor = rows["factor"].fill_null(1.0).to_numpy()
    if bound is not None:
        bound[factor < 0] *= -1
    value = value * factor + rows["offset"].fill_null(0.0).to_numpy()
    ends = np.array([(how and how.range) or (-np.inf, np.inf) for how in known])[code]
    beyond = ~unknown & ((value < ends[:, 0]) | (value > ends[:, 1]))
    why = {"unknown unit": unknown, "out of range": beyond, "no unit beside rows with one": none}
    return value, tuple(units), why


def _conversion(wanted: UnitSpec, name: str) -> Conversion | None:
    """From a unit to the wanted one, by its name, else by another spelling of it; None = not known."""
    if name == wanted.to:
        return Conversion()
    if name in wanted.sources or not name:
        return wanted.sources.get(name)
    if plain_unit(name) == plain_unit(wanted.to):
        return Conversion()
    alike = (how for other, how in wanted.sources.items() if plain_unit(other) == plain_unit(name))
    return next(alike, None)


def _tell_units(
    source: SourceTables,
    kind: str,
    codes: tuple[str, ...],
    units: list[str],
    unknown: Counter[tuple[int, str]],
    blanks: Mapping[int, int],
    blank: str,
) -> None:
    """Flag values in a unit that [units] does not know, and those without a unit beside others, by code."""
    listed = []
    for (code, name), n in (+unknown).most_common(5):
        wanted = source.spec.unit(codes[code])
        known = [wanted.to, *filter(None, wanted.sources)] if wanted else []
        listed.append(
            f"{n} of {codes[code]!r} in {name!r}{near(name, known)}"
            if name
            else f"{n} of {codes[code]!r} without a unit"
        )
    if listed:
        more = f" and {len(+unknown) - 5} more" if len(+unknown) > 5 else ""
        source.doubt(f"{kind}: values refused, unknown unit: {', '.join(listed)}{more}", decides=True)
    most = sorted(blanks.items(), key=lambda item: (-item[1], codes[item[0]]))
    if most:
        listed = [f"{n} of {codes[code]!r} (others in {units[code]!r})" for code, n in most[:5]]
        more = f" and {len(most) - 5} more codes" if len(most) > 5 else ""
        done = (
            'taken as the same unit, as blank = "same" says'
            if blank == "same"
            else (
                f'refused; blank = "same" in [nodes.{kind}] takes them as the same unit, '
                'from = { "" = FACTOR } in [units] converts those of a code'
            )
        )
        source.doubt(f"{kind}: values without a unit: {', '.join(listed)}{more}; {done}", decides=True)


def hierarchy(source: SourceTables, name: str, codes: tuple[str, ...]) -> Hierarchy:
    """The hierarchy of that name, for these codes."""
    from gnnpatient.ingest.hierarchy import Hierarchy

    how: HierarchySpec = source.spec.hierarchies[name]
    if how.prefix is not None:
        return Hierarchy.by_prefix(codes, PREFIXES[how.prefix])
    if how.table is not None:
        source.open(how.table)
        for column in (how.child, how.parent):
            if column not in (schema := source.schemas[how.table]):
                raise InputError(f"{how.table}: no column {column!r}{near(column, schema)}")
        pairs = source.tables[how.table].lazy().select(how.child, how.parent).collect()
        source.accounts[how.table].used[:] = True
        missing = source.spec.table(how.table).missing
        return Hierarchy.from_pairs(text(pairs[how.child], missing), text(pairs[how.parent], missing))
    parents = source.door.parents if source.door is not None else None
    if parents is None or not len(parents):
        raise InputError(f"hierarchies.{name}: the folder brings no hierarchy; name a table or a prefix")
    return Hierarchy.from_pairs(parents["child"], parents["parent"])


def family(source: SourceTables, node: NodeSpec, rows: Rows) -> tuple[Rows, np.ndarray]:
    """Ancestors of a kind's codes as nodes, and (2, pair) int32: which code is which ancestor's.

    An ancestor is known from the first of its descendants in the patient on, so that a child's ancestors are
    always there; where amendments have replaced all of those, it is gone until the next one.
    """
    assert node.hierarchy is not None
    child, names, ancestor = hierarchy(source, node.hierarchy, rows.codes).ancestors(rows.codes)
    child, ancestor = child[child > 0], ancestor[child > 0]
    gone = np.full(len(rows.known), FOREVER) if rows.replaced is None else rows.replaced
    frame = pl.DataFrame({name: getattr(rows, name) for name in ("patient", "known", "happened", "code")})
    pairs = pl.DataFrame({"code": child.astype(np.int32), "ancestor": ancestor.astype(np.int32) + 1})
    each, order = ["patient", "ancestor"], ["known", "happened"]
    stand = frame.with_columns(pl.Series("gone", gone)).filter(pl.col("known") < pl.col("gone"))
    stand = stand.join(pairs, on="code").sort(*each, *order)
    before = pl.col("gone").cum_max().shift(1).over(each)  # when the earlier descendants were all replaced
    stand = stand.with_columns((pl.col("known") > before).fill_null(True).cum_sum().alias("spell"))
    first = (
        stand.group_by(*each, "spell")
        .agg(*(pl.col(name).sort_by(*order).first() for name in order), pl.col("gone").max())
        .sort("spell")
    )
    of = Rows(
        patient=first["patient"].to_numpy(),
        known=first["known"].to_numpy(),
        happened=first["happened"].to_numpy(),
        code=first["ancestor"].to_numpy(),
        value=np.full(len(first), np.nan, np.float32),
        source=np.zeros(len(first), np.int64),
        codes=("other", *names),
        units=("",) * (1 + len(names)),
        replaced=None if rows.replaced is None else first["gone"].to_numpy(),
    )
    return of, pairs.select("code", "ancestor").to_numpy().T.astype(np.int32)
