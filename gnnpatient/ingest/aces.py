"""Task files of ACES (predicates, trigger, windows), read and turned into labels at prediction times.

The format is that of https://github.com/justin13601/ACES (Xu et al., ICLR 2025), version 0.7, and a label
means what it means there. In particular what comes after the end of a record counts as *did not happen*: a
target window of a fixed length does not depend on whether the patient was still observed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gnnpatient.errors import InputError, near

MAX_BYTES = 1_000_000  # bytes of a task file
MAX_LEVELS = 10  # levels of a task file; a real one has 5
MAX_SPAN = timedelta(days=200 * 366)
ANY, START, END = "_ANY_EVENT", "_RECORD_START", "_RECORD_END"
SPECIAL = (ANY, START, END)

_WORDS = "w|week|weeks|d|day|days|h|hr|hrs|hour|hours|m|min|mins|minute|minutes|s|sec|secs|second|seconds"
_UNITS = {"w": 7 * 86_400, "d": 86_400, "h": 3600, "m": 60, "s": 1}  # seconds, by the first letter
_PART = re.compile(rf"(\d+(?:\.\d+)?)\s*({_WORDS})(?![a-z])\s*,?\s*")


@dataclass(frozen=True)
class Predicate:
    """What counts as this kind of event: by code and value, or by other predicates at the same moment.

    A row counts if its code is one of `codes` or holds a match of `regex`, and its number is within the
    limits; a row without a number is outside any limits. `any_of` and `all_of` count once a moment, a plain
    predicate once a row.

    Attributes
    ----------
    codes : tuple of str
        Codes that count.
    regex : str or None
        A regular expression that codes match; in place of `codes`.
    value_min, value_max : float or None
        Limits of the number; None = there is no limit.
    value_min_inclusive, value_max_inclusive : bool, default False
        Whether a number on the limit counts.
    any_of, all_of : tuple of str
        Other predicates, of which one or all must be there.
    """

    codes: tuple[str, ...] = ()
    regex: str | None = None
    value_min: float | None = None
    value_max: float | None = None
    value_min_inclusive: bool = False
    value_max_inclusive: bool = False
    any_of: tuple[str, ...] = ()
    all_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bound:
    """A side of a window: another moment, some seconds from it, or an event before or after it.

    Attributes
    ----------
    of : str
        The moment: "trigger", "input.end" of another window, or the other side of the same one: "start",
        "end".
    shift : float, default 0
        Seconds from it.
    predicate : str or None
        The event; None = `shift` counts.
    back : bool, default False
        Take the last such event before the moment instead of the next one after it.
    """

    of: str
    shift: float = 0.0
    predicate: str | None = None
    back: bool = False


@dataclass(frozen=True)
class Window:
    """A span of a record, how often predicates must be in it, and what it is for.

    Attributes
    ----------
    start, end : Bound
        Its sides.
    start_inclusive, end_inclusive : bool
        Whether events at the moment of the side are in it.
    has : mapping of str to (int or None, int or None)
        How often each predicate must be in it, at least and at most; None = there is no limit.
    label : str or None
        The predicate whose presence in this window is the label.
    index_timestamp : str or None
        "start" or "end": the side that is the prediction time.
    """

    start: Bound
    end: Bound
    start_inclusive: bool
    end_inclusive: bool
    has: Mapping[str, tuple[int | None, int | None]] = field(default_factory=dict)
    label: str | None = None
    index_timestamp: str | None = None


@dataclass(frozen=True)
class TaskFile:
    """A task file.

    Attributes
    ----------
    predicates : mapping of str to Predicate
        By name, each after those that it depends on.
    trigger : str
        The predicate at whose moments the task begins.
    windows : mapping of str to Window
        By name, each after those that it depends on.
    """

    predicates: Mapping[str, Predicate]
    trigger: str
    windows: Mapping[str, Window]


# Reading


def read_task(path: Path) -> TaskFile:
    """Read a task file. One window must have `label`, one `index_timestamp`.

    Parameters
    ----------
    path : pathlib.Path
        A YAML file of at most 1 MB.

    Returns
    -------
    TaskFile

    Raises
    ------
    InputError
        When it is not YAML, is larger, has anchors, aliases, tags, a key twice, an unknown key, a name that
        nothing has, or windows that depend on each other or run backwards; and for what ACES has but is not
        read here: `patient_demographics` and `static` predicates, conditions on other columns than code and
        number, predicates without code (those of a separate file), nested expressions.
    """
    try:
        return _task(_yaml(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _yaml(path: Path) -> Any:
    import yaml  # type: ignore[import-untyped,unused-ignore]

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    raise InputError(f"line {key.start_mark.line + 1}: key {key.value!r} appears twice")
                seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
            return super().construct_mapping(node, deep=deep)

    try:
        with path.open("rb") as handle:
            raw = handle.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise InputError(f"larger than {MAX_BYTES:,} bytes; is this a task file?")
        text = raw.decode("utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=base):  # before anything is built, and so expanded
            line = f"line {event.start_mark.line + 1}"
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise InputError(f"{line}: anchors (&) and aliases (*) are not read; write it out")
            if getattr(event, "tag", None):
                raise InputError(f"{line}: tag {event.tag!r} is not read; write a plain value")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_LEVELS:
                raise InputError(f"{line}: more than {MAX_LEVELS} levels deep")
        return yaml.load(text, Loader=Loader)
    except OSError as error:
        raise InputError(error.strerror or "cannot be read") from None
    except UnicodeDecodeError:
        raise InputError("not UTF-8") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2021-99-99
        if isinstance(error, InputError):
            raise
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"not YAML: {what}" + (f", line {mark.line + 1}" if mark else "")) from None


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise InputError(f"{where}: {value!r}; must be a table of names, as in NAME: ...")
    if wrong := [key for key in value if not isinstance(key, str)]:
        raise InputError(f"{where}: the name {wrong[0]!r} is not text; put it in quotes")
    return value


def _keys(value: dict[str, Any], where: str, known: Iterable[str]) -> None:
    known = tuple(known)
    if wrong := [key for key in value if key not in known]:
        raise InputError(f"{where}: key {wrong[0]!r} is not read{near(wrong[0], known)}")


def _task(file: Any) -> TaskFile:
    top = _table(file, "task")
    _keys(top, "task", ("predicates", "trigger", "windows", "description", "metadata"))
    for key in ("predicates", "trigger", "windows"):
        if key not in top:
            raise InputError(f"{key}: this key is needed")
    predicates = {
        name: _predicate(f"predicates.{name}", p)
        for name, p in _table(top["predicates"], "predicates").items()
    }
    if wrong := [name for name in predicates if name in SPECIAL]:
        raise InputError(f"predicates.{wrong[0]}: this name is taken; choose another")
    known = dict.fromkeys((*predicates, *SPECIAL))
    for name, predicate in predicates.items():
        for part in (*predicate.any_of, *predicate.all_of):
            _check_known(part, known, f"predicates.{name}")
    parts = {
        name: [part for part in p.any_of + p.all_of if part in predicates] for name, p in predicates.items()
    }
    predicates = {name: predicates[name] for name in _ordered(parts, "predicates")}
    _check_known(top["trigger"], known, "trigger")
    windows = {name: _window(f"windows.{name}", w) for name, w in _table(top["windows"], "windows").items()}
    for name, window in windows.items():
        for what in (window.start.predicate, window.end.predicate, window.label, *window.has):
            if what is not None:
                _check_known(what, known, f"windows.{name}")
    depends: dict[str, list[str]] = {}
    moments = dict.fromkeys(("trigger", *(f"{name}.{side}" for name in windows for side in ("start", "end"))))
    for name, window in windows.items():
        outer = window.end if window.start.of == "end" else window.start
        _check_known(outer.of, moments, f"windows.{name}")
        depends[name] = [outer.of.rpartition(".")[0]] if outer.of != "trigger" else []
    for key, use in (("label", "the target window"), ("index_timestamp", "the input window: its end")):
        having = [name for name, window in windows.items() if getattr(window, key) is not None]
        if len(having) != 1:
            raise InputError(f"windows: {len(having)} of them have {key}; give it to one, {use}")
    return TaskFile(
        predicates, top["trigger"], {name: windows[name] for name in _ordered(depends, "windows")}
    )


def _check_known(name: Any, known: Mapping[str, Any], where: str) -> None:
    if not isinstance(name, str) or name not in known:
        raise InputError(f"{where}: there is no {name!r}{near(str(name), known)}")


def _ordered(depends: Mapping[str, Iterable[str]], where: str) -> list[str]:
    """Names, each after those that it depends on."""
    try:
        return list(TopologicalSorter(depends).static_order())
    except CycleError as error:
        stuck = min(error.args[1])
        raise InputError(
            f"{where}.{stuck}: depends on itself, through other {where} or not; break the circle"
        ) from None


def _predicate(where: str, value: Any) -> Predicate:
    fields = _table(value, where)
    if "expr" in fields:
        _keys(fields, where, ("expr",))
        found = re.fullmatch(r"\s*(and|or)\(([^()]*)\)\s*", str(fields["expr"]))
        parts = tuple(part.strip() for part in found[2].split(",")) if found else ()
        if not found or len(parts) < 2 or not all(parts):
            raise InputError(
                f"{where}.expr: {fields['expr']!r}; write or(a, b, ...) or and(a, b, ...), not nested"
            )
        return Predicate(any_of=parts) if found[1] == "or" else Predicate(all_of=parts)
    limits = ("value_min", "value_max")
    sides = ("value_min_inclusive", "value_max_inclusive")
    _keys(fields, where, ("code", "expr", *limits, *sides))
    code, codes, regex = fields.get("code"), (), None
    if isinstance(code, dict) and len(code) == 1 and "regex" in code:
        regex = code["regex"]
        try:
            ok = isinstance(regex, str) and regex and len(pl.Series([""]).str.contains(regex))
        except pl.exceptions.PolarsError:
            ok = False
        if not ok:
            raise InputError(
                f"{where}.code.regex: {regex!r} is not a regular expression (look-around is not read)"
            )
    else:
        many = code["any"] if isinstance(code, dict) and list(code) == ["any"] else [code]
        if not isinstance(many, list) or not many or not all(isinstance(one, str) and one for one in many):
            raise InputError(
                f"{where}.code: {code!r}; give a code in quotes, {{regex: ...}} or {{any: [...]}}"
            )
        codes = tuple(many)
    for key in limits:
        number = fields.get(key)
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
            raise InputError(f"{where}.{key}: {number!r} is not a number")
        if number is not None and not math.isfinite(number):
            raise InputError(f"{where}.{key}: {number!r}; leave it out where there is no limit")
    for key in sides:
        if fields.get(key) is not None:
            _truth(fields[key], f"{where}.{key}")
    low, high = (None if fields.get(key) is None else float(fields[key]) for key in limits)
    at_low, at_high = (bool(fields.get(key)) for key in sides)
    return Predicate(codes, regex, low, high, at_low, at_high)


def _truth(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{where}: {value!r}; write true or false")
    return value


def _window(where: str, value: Any) -> Window:
    fields = _table(value, where)
    sides = ("start_inclusive", "end_inclusive")
    _keys(fields, where, ("start", "end", *sides, "has", "label", "index_timestamp"))
    for key in sides:
        if key not in fields:
            raise InputError(f"{where}.{key}: this key is needed; write true or false")
    if fields.get("start") is None and fields.get("end") is None:
        raise InputError(f"{where}: neither start nor end is given; at most one of them may be null")
    start = _bound(fields.get("start"), f"{where}.start", Bound("end", predicate=START, back=True))
    end = _bound(fields.get("end"), f"{where}.end", Bound("start", predicate=END))
    if (start.of == "end") == (end.of == "start") or start.of == "start" or end.of == "end":
        raise InputError(
            f"{where}: one side must depend on the trigger or another window, the other side on this one"
        )
    inner, ahead = (start, False) if start.of == "end" else (end, True)
    backward = inner.back if inner.predicate else inner.shift < 0
    if (inner.predicate or inner.shift) and backward == ahead:
        raise InputError(f"{where}: ends before it starts; write end: start + 24h, or start: end - 24h")
    for key, known in (("label", None), ("index_timestamp", ("start", "end"))):
        word = fields.get(key)
        if word is not None and (not isinstance(word, str) or (known and word not in known)):
            raise InputError(
                f"{where}.{key}: {word!r}; give {' or '.join(known) if known else 'a predicate'}"
            )
    has = fields.get("has") or {}
    return Window(
        start=start,
        end=end,
        start_inclusive=_truth(fields["start_inclusive"], f"{where}.start_inclusive"),
        end_inclusive=_truth(fields["end_inclusive"], f"{where}.end_inclusive"),
        has={k: _limits(v, f"{where}.has.{k}") for k, v in _table(has, f"{where}.has").items()}
        if has
        else {},
        label=fields.get("label"),
        index_timestamp=fields.get("index_timestamp"),
    )


def _bound(value: Any, where: str, absent: Bound) -> Bound:
    if value is None:
        return absent
    found = re.fullmatch(r"\s*([\w.]+)\s*(?:(->|<-)\s*(\S.*?)|([+-])\s*(\S.*?))?\s*", str(value))
    if not isinstance(value, str) or not found:
        raise InputError(
            f"{where}: {value!r}; write trigger, input.end, start + 24h, start -> discharge, or null"
        )
    of, arrow, predicate, sign, span = found.groups()
    if arrow:
        return Bound(of, predicate=predicate, back=arrow == "<-")
    return Bound(of, shift=(-1 if sign == "-" else 1) * _seconds(span, where) if sign else 0.0)


def _seconds(span: str, where: str) -> float:
    """`24h`, `30 days`, `1 day 12 hours`; `m` is minutes."""
    total, rest = 0.0, span.lower()
    while part := _PART.match(rest):
        total, rest = total + float(part[1]) * _UNITS[part[2][0]], rest[part.end() :]
    if rest or total > MAX_SPAN.total_seconds():
        most = (
            f"at most {MAX_SPAN.days // 366} years" if not rest else "weeks, days, hours, minutes and seconds"
        )
        raise InputError(f"{where}: {span!r}; must be {most}, as in 30 days or 1d 12h")
    return total


def _limits(value: Any, where: str) -> tuple[int | None, int | None]:
    """`(1, None)` as ACES writes it, which YAML holds for text, or `[1, null]`."""
    parts = value if isinstance(value, list) else re.split(r"\s*,\s*", str(value).strip().strip("()").strip())
    none = (None, "", "None", "null")
    ok = len(parts) == 2 and all(p in none or re.fullmatch(r"\d{1,9}", str(p)) for p in parts)
    least, most = (None if p in none else int(p) for p in parts) if ok else (1, 0)
    if least is not None and most is not None and least > most:
        raise InputError(f"{where}: {value!r}; give (least, most), None for no limit, as in (1, None)")
    return least, most


# Labels


def label(task: TaskFile, events: pl.DataFrame) -> pl.DataFrame:
    """A row for each trigger of which every window exists and holds what it must.

    Rows without a patient or a time are left out. All rows of a patient at one time are one moment, and there
    is one trigger a moment. As in ACES, `has` of windows after the prediction time decides, too, who is in.

    A window whose side is `-> predicate` exists where such an event follows; the moment itself counts if
    `start_inclusive` (never, where the arrow starts at another window or the trigger). So ACES documents it;
    its code (0.7.3) goes by `end_inclusive` there, which tells apart only an event at that very moment.
    `null` is the first or last moment of the record, likewise. Several triggers with one prediction time
    give several rows.

    Parameters
    ----------
    task : TaskFile
        As of `read_task`.
    events : polars.DataFrame
        subject_id, time (Datetime), code and, where a predicate has limits, numeric_value; further columns
        and the order of rows do not matter.

    Returns
    -------
    polars.DataFrame
        id, at (the prediction time) and label (whether the label's predicate is in its window).

    Raises
    ------
    InputError
        When a column is not there, or the time is no Datetime.

    References
    ----------
    Xu et al., ACES: Automatic Cohort Extraction System for Event-Stream Datasets, ICLR 2025.
    """
    record = _Record(task, events)
    row = np.flatnonzero(record.counts(task.trigger) > 0)
    owner = record.owner[row]
    ok = np.ones(len(row), bool)
    moments = {"trigger": record.time[row]}
    at, hit = moments["trigger"], ok
    for name, window in task.windows.items():
        # which side depends on another moment; the other depends on this side
        begins = window.start.of != "end"
        outer, inner = (window.start, window.end) if begins else (window.end, window.start)
        one, found = record.moment(outer, owner, moments[outer.of], False)
        two, found_too = record.moment(inner, owner, one, window.start_inclusive)
        start, end = (one, two) if begins else (two, one)
        moments |= {f"{name}.start": start, f"{name}.end": end}
        ok = ok & found & found_too
        low = record.before(owner, start, ties=not window.start_inclusive)
        high = np.maximum(low, record.before(owner, end, ties=window.end_inclusive))
        for predicate, (least, most) in window.has.items():
            count = record.between(predicate, low, high)
            ok = ok & (count >= (least or 0)) & (count <= (len(events) if most is None else most))
        if window.label is not None:
            hit = record.between(window.label, low, high) > 0
        if window.index_timestamp is not None:
            at = start if window.index_timestamp == "start" else end
    rows = pl.DataFrame({"at": at[ok], "label": hit[ok]}).select(
        record.ids.gather(row[ok]).alias("id"), pl.col("at").cast(record.kind), "label"
    )
    return rows.sort("id", "at", maintain_order=True)


class _Record:
    """The moments of all records, sorted by patient and time, and how often each predicate is at each."""

    def __init__(self, task: TaskFile, events: pl.DataFrame) -> None:
        used = set(_used(task))
        needed = {name: p for name, p in task.predicates.items() if name in used}
        plain = {name: p for name, p in needed.items() if not (p.any_of or p.all_of)}
        limited = any(p.value_min is not None or p.value_max is not None for p in plain.values())
        for name in ("subject_id", "time", "code", *(["numeric_value"] if limited else [])):
            if name not in events.columns:
                raise InputError(f"events: no column {name!r}{near(name, events.columns)}")
        kind = events.schema["time"]
        if not isinstance(kind, pl.Datetime):
            raise InputError(f"events: column 'time' is {kind}; give Datetime")
        self.kind = pl.Datetime("us", kind.time_zone)
        moments = (
            events.lazy()
            .select(
                pl.col("subject_id"),
                pl.col("time").cast(self.kind),
                pl.col("code").cast(pl.String),
                *([pl.col("numeric_value").cast(pl.Float64)] if limited else []),
            )
            .drop_nulls(["subject_id", "time"])
            .group_by("subject_id", "time")
            .agg(
                _holds(predicate).sum().cast(pl.Int64).alias(f"n{i}")
                for i, predicate in enumerate(plain.values())
            )
            .sort("subject_id", "time")
            .collect()
        )
        self.ids = moments["subject_id"]
        self.owner = self.ids.rle_id().cast(pl.Int64).to_numpy()
        self.time = moments["time"].to_physical().to_numpy()
        self.times, rank = np.unique(self.time, return_inverse=True)
        # rises through all records, so that one search in it finds the place in each
        self.place = self.owner * (len(self.times) + 1) + rank
        edge = np.diff(self.owner, prepend=-1, append=-1) != 0
        special = {ANY: np.ones(len(edge) - 1, np.int64), START: edge[:-1] * 1, END: edge[1:] * 1}
        self._counts = special | {name: moments[f"n{i}"].to_numpy() for i, name in enumerate(plain)}
        for name, predicate in needed.items():  # each after those that it depends on
            if name not in plain:
                join = np.logical_or if predicate.any_of else np.logical_and
                parts = [self.counts(part) > 0 for part in predicate.any_of or predicate.all_of]
                self._counts[name] = join.reduce(parts).astype(np.int64)

    def counts(self, name: str) -> np.ndarray:
        """How often a predicate is at each moment."""
        return self._counts[name]

    def before(self, owner: np.ndarray, time: np.ndarray, *, ties: bool) -> np.ndarray:
        """The number of moments, of all records, before this one of this patient; `ties`: and at it."""
        rank = np.searchsorted(self.times, time, "right" if ties else "left")
        return np.searchsorted(self.place, owner * (len(self.times) + 1) + rank)

    def between(self, name: str, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """How often a predicate is in moments low to high, the last not among them."""
        total = np.concatenate([[0], self.counts(name).cumsum()])
        return total[high] - total[low]

    def moment(
        self, bound: Bound, owner: np.ndarray, time: np.ndarray, itself: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where a bound that depends on `time` lies and if it exists. `itself`: an event at `time` counts."""
        if bound.predicate is None:
            return time + round(bound.shift * 1e6), np.ones(len(time), bool)
        events = np.flatnonzero(self.counts(bound.predicate) > 0)
        cut = self.before(owner, time, ties=bound.back == itself)
        event = np.searchsorted(events, cut) - bound.back
        found = (event >= 0) & (event < len(events))
        place = events[np.where(found, event, 0)] if len(events) else np.zeros(len(time), np.int64)
        found = found & (self.owner[place] == owner) if len(events) else found
        return np.where(found, self.time[place], time), found


def _used(task: TaskFile) -> Iterator[str]:
    """The predicates that the trigger and the windows need, each once."""
    todo = [task.trigger]
    for window in task.windows.values():
        todo += [*window.has, *filter(None, (window.label, window.start.predicate, window.end.predicate))]
    seen = set(SPECIAL)
    while todo:
        if (name := todo.pop()) not in seen:
            seen.add(name)
            yield name
            todo += [*task.predicates[name].any_of, *task.predicates[name].all_of]


def _holds(predicate: Predicate) -> pl.Expr:
    code, value = pl.col("code"), pl.col("numeric_value")
    holds = code.is_in(predicate.codes) if predicate.regex is None else code.str.contains(predicate.regex)
    if predicate.value_min is not None:
        low = predicate.value_min
        holds &= value.is_not_nan() & (value >= low if predicate.value_min_inclusive else value > low)
    if predicate.value_max is not None:
        high = predicate.value_max
        holds &= value.is_not_nan() & (value <= high if predicate.value_max_inclusive else value < high)
    return holds.fill_null(False)
