"""What a cohort's tables mean: `graphs/<cohort>.toml` read into frozen records with closed keys."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gnnpatient.errors import Refused

EdgeType = tuple[str, str, str]
RESERVED = ("patient", "timepoint")
DAY = 86_400  # seconds
YEAR = 365.25  # days
NEVER = -(2**63)  # the stored time of what is not known to have a time
UNITS = {"s": 1, "min": 60, "h": 3600, "d": DAY, "w": 7 * DAY, "mo": YEAR / 12 * DAY, "y": YEAR * DAY}
"""Seconds in each time unit of the command line and the TOML: 1 y = 365.25 d, 1 mo = y / 12."""


def seconds(text: str) -> int:
    """A duration such as `36h`, `1d` or `6mo` in whole seconds; a bare number is days.

    >>> seconds("36h"), seconds("1y") / DAY, seconds("2")
    (129600, 365.25, 172800)
    """
    found = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    if not found or (found[2] or "d") not in UNITS:
        raise Refused(f"duration {text!r}; write a number and one of {' '.join(UNITS)}, as in 36h or 3y")
    return round(float(found[1]) * UNITS[found[2] or "d"])


class Record(BaseModel):
    """A frozen table of the TOML with a closed set of keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Names = Annotated[tuple[str, ...], Field(strict=False)]


class TableSpec(Record):
    """How one file is read, where the defaults do not fit."""

    key: str | None = Field(
        default=None, description="column with the patient's id; default: the key of [patient]"
    )
    encoding: str = Field(default="utf-8", description="of a CSV, as in latin1")
    separator: str = Field(default=",", description="of the cells of a CSV", min_length=1, max_length=1)
    decimal: Literal[".", ","] = Field(default=".", description="decimal sign of the numbers of a CSV")


class PatientSpec(Record):
    """Who the patients are, and what does not change in them."""

    table: str = Field(description="file whose rows name the patients")
    key: str = Field(description="column with the patient's id; ids are strings, always")
    number: Names = Field(default=(), description="static columns that hold numbers")
    category: Names = Field(default=(), description="static columns that hold names")
    origin: str | None = Field(
        default=None, description="column with the date that is day 0; without it times are offsets"
    )
    entry: str | None = Field(default=None, description="column: observation starts; default: the origin")
    exit: str | None = Field(default=None, description="column: observation ends")
    group: str | None = Field(
        default=None, description="column: what splits must not part (blank = own group)"
    )


class TimepointSpec(Record):
    """How rows are held together in time."""

    every: str = Field(default="1d", description="width of a timepoint: floor(happened / every)")

    @field_validator("every")
    @classmethod
    def _positive(cls, text: str) -> str:
        if seconds(text) <= 0:
            raise Refused(f"every = {text!r}; a timepoint must last some time, as in 1d")
        return text


class Conversion(Record):
    """value in the wanted unit = factor * value + offset; a bare number is the factor."""

    factor: float = Field(default=1.0, description="multiplies")
    offset: float = Field(default=0.0, description="is added then")

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, raw: Any) -> Any:
        return {"factor": raw} if isinstance(raw, int | float) else raw


class UnitSpec(Record):
    """The unit that a code is kept in; rows in another one, or out of range, are refused and counted."""

    to: str = Field(description="the unit that is kept")
    sources: dict[str, Conversion] = Field(
        default={}, alias="from", description="unit = factor, or {factor, offset}"
    )
    range: Annotated[tuple[float, float] | None, Field(strict=False)] = Field(
        default=None, description="lowest and highest possible value, in the unit that is kept"
    )

    @field_validator("range")
    @classmethod
    def _rising(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends and not ends[0] < ends[1]:
            raise Refused(f"range = {list(ends)}; give the lowest value, then the highest")
        return ends


class NodeSpec(Record):
    """One kind of node: a long table (code, value) or a wide one (columns)."""

    table: str = Field(description="file")
    time: str = Field(description="column: when it happened")
    known: str | None = Field(
        default=None, description="column: when it became known; default: when it happened"
    )
    code: str | None = Field(
        default=None, description="long table: column with the name of what was measured"
    )
    value: str | None = Field(
        default=None, description="long table: column with the number; empty makes a nan node"
    )
    unit: str | None = Field(default=None, description="long table: column with the unit")
    columns: dict[str, str] | None = Field(
        default=None, description="wide table: column = code, text = unit; an empty cell makes no node"
    )
    edges: Names = Field(default=("at",), description="edge rules: at, next, same")

    @field_validator("edges")
    @classmethod
    def _rules(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        for rule in rules:
            if rule not in ("at", "next", "same"):
                raise Refused(f"edges: unknown rule {rule!r}{near(rule, ('at', 'next', 'same'))}")
        if "at" not in rules:
            raise Refused(f"edges = {list(rules)}; without 'at' these nodes would not reach the patient")
        return tuple(rule for rule in ("at", "next", "same") if rule in rules)

    @model_validator(mode="after")
    def _long_or_wide(self) -> NodeSpec:
        if (self.code is None) == (self.columns is None):
            raise Refused("a node needs either code = COLUMN (long table) or columns = {...} (wide table)")
        if self.columns is not None and (self.value or self.unit):
            raise Refused("value and unit belong to a long table; in columns = {...} the text is the unit")
        if self.columns == {}:
            raise Refused("columns = {} names no column")
        return self


class CauseSpec(Record):
    """One cause of a survival outcome."""

    time: str = Field(description="column: when it happened, or when observation for it ended")
    flag: str | None = Field(
        default=None, description="column: 1 = happened then, 0 = censored then; default: happened"
    )


class StatusSpec(Record):
    """A survival outcome in one status column."""

    column: str = Field(description="column with the state")
    time: str = Field(description="column with the time of that state")
    states: dict[str, str] = Field(description='what each state means; "censored", else the name of a cause')


class OutcomeSpec(Record):
    """What is asked of the model."""

    kind: Literal["survival"] = Field(description="survival: time to the first of several causes")
    table: str = Field(description="file")
    causes: dict[str, CauseSpec] | None = Field(
        default=None, description="cause = { time, flag }; the earliest counts"
    )
    status: StatusSpec | None = Field(
        default=None, description="instead of causes: one column that names the state"
    )
    exit: str | None = Field(default=None, description="column: observation for this outcome ends")
    prevalent: Literal["exclude"] = Field(
        default="exclude", description="events at or before entry are left out"
    )

    @model_validator(mode="after")
    def _one_form(self) -> OutcomeSpec:
        if (self.causes is None) == (self.status is None):
            raise Refused("a survival outcome needs either causes = {...} or status = {...}")
        names = self.cause_names
        if not names:
            raise Refused("a survival outcome needs at least one cause")
        for name in names:
            if name in ("event_free", "censored"):
                raise Refused(f"cause {name!r} is a word of the package; call it otherwise")
        return self

    @property
    def cause_names(self) -> tuple[str, ...]:
        """Names of the causes in the order of the TOML; event k of the cohort is the k-th (from 1)."""
        if self.causes is not None:
            return tuple(self.causes)
        assert self.status is not None
        return tuple(dict.fromkeys(s for s in self.status.states.values() if s != "censored"))


class GraphSpec(Record):
    """The meaning of one cohort's tables."""

    cohort: str = Field(description="name of the cohort")
    source: str = Field(default="", description="where the tables come from, licence, citation")
    tables: dict[str, TableSpec] = Field(default={}, description="how single files are read")
    patient: PatientSpec
    timepoints: TimepointSpec = TimepointSpec()
    units: dict[str, UnitSpec] = Field(default={}, description="of single codes")
    nodes: dict[str, NodeSpec] = Field(default={}, description="kinds of node")
    outcomes: dict[str, OutcomeSpec] = Field(default={}, description="what is asked")

    @model_validator(mode="after")
    def _kinds(self) -> GraphSpec:
        for place, names in (("nodes", self.nodes), ("outcomes", self.outcomes)):  # names of files, too
            for name in names:
                if name in RESERVED or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
                    reserved = " or ".join(RESERVED)
                    raise Refused(
                        f"{place}.{name}: call it otherwise; letters, digits, _ and -, not {reserved}"
                    )
        twice = set(self.patient.number) & set(self.patient.category)
        if twice:
            raise Refused(f"patient: column {sorted(twice)[0]!r} is both number and category")
        for name, outcome in self.outcomes.items():
            if leak := set(self.patient.number + self.patient.category) & set(_columns(outcome)):
                raise Refused(
                    f"patient: static column {sorted(leak)[0]!r} is part of outcome {name!r}; "
                    "an input that holds the answer is refused"
                )
        return self

    @property
    def edge_types(self) -> tuple[EdgeType, ...]:
        """Every edge type of every graph of this cohort, in order."""
        pairs = [
            (kind, rule, "timepoint" if rule == "at" else kind)
            for kind, node in self.nodes.items()
            for rule in node.edges
        ]
        pairs += [("timepoint", "of", "patient"), ("timepoint", "next", "timepoint")]
        return tuple(e for s, rule, t in pairs for e in ((s, rule, t), (t, f"rev_{rule}", s)))

    @property
    def every(self) -> int:
        """Width of a timepoint in seconds."""
        return seconds(self.timepoints.every)

    def table(self, name: str) -> TableSpec:
        """How a table is read."""
        return self.tables.get(name, TableSpec())

    def to_json(self) -> str:
        return self.model_dump_json(exclude_defaults=True, by_alias=True)

    @classmethod
    def from_json(cls, text: str) -> GraphSpec:
        return cls.model_validate_json(text)

    @property
    def hash(self) -> str:
        """sha256 over the meaning: comments, order and source of the TOML do not change it."""
        meaning = json.loads(self.to_json()) | {"source": ""}
        order = {"nodes": list(self.nodes), "causes": {n: o.cause_names for n, o in self.outcomes.items()}}
        return hashlib.sha256(json.dumps([meaning, order], sort_keys=True).encode()).hexdigest()


def _columns(outcome: OutcomeSpec) -> Iterator[str]:
    """The columns that hold the answer."""
    for cause in (outcome.causes or {}).values():
        yield from (column for column in (cause.time, cause.flag) if column)
    if outcome.status:
        yield from (outcome.status.column, outcome.status.time)
    if outcome.exit:
        yield outcome.exit


SHIPPED = Path(__file__).parent.parent / "specs"
CHECKOUT = Path(__file__).parent.parent.parent / "graphs"


def spec_path(name: str | Path) -> Path:
    """The file behind a shipped name (`pbc`) or a path."""
    for folder in (SHIPPED, CHECKOUT):
        if (path := folder / f"{name}.toml").is_file() and Path(name).name == str(name):
            return path
    path = Path(name)
    if not path.is_file():
        shipped = sorted(p.stem for folder in (SHIPPED, CHECKOUT) for p in folder.glob("*.toml"))
        raise Refused(
            f"spec {str(name)!r} is neither a file nor a shipped cohort; shipped: {', '.join(shipped)}"
        )
    return path


def read_spec(name: str | Path) -> GraphSpec:
    """Read a cohort's TOML by its path, or a shipped one by its name.

    >>> read_spec("pbc").outcomes["death"].cause_names
    ('transplant', 'death')
    """
    path = spec_path(name)
    if path.suffix != ".toml":
        raise Refused(f"{path}: a spec is a .toml file; no other format is read")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        return GraphSpec.model_validate(raw)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise Refused(f"{path}: {error}") from None
    except ValidationError as error:
        raise Refused(f"{path}: {explain(error, GraphSpec)}") from None


def near(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown word: the near name, else all that are known."""
    known = tuple(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of pydantic as one line: where, what it shows, what would do."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    *where, last = first["loc"] or ("",)
    if first["type"] == "extra_forbidden":
        place = ".".join(map(str, where)) or "top level"
        return f"{place}: unknown key {str(last)!r}{near(str(last), _known(model, where))}"
    place = ".".join(map(str, first["loc"])) or "top level"
    if first["type"] == "missing":
        return f"{place}: this key is needed"
    if first["type"] == "value_error":
        return f"{place}: {first['ctx']['error']}" if first["loc"] else str(first["ctx"]["error"])
    return f"{place}: {first['msg'].replace('valid tuple', 'list')}, not {first['input']!r}"


def _known(model: Any, where: list[int | str]) -> tuple[str, ...]:
    """The keys allowed at a place of a model."""
    for step in where:
        if typing.get_origin(model) is dict:
            model = typing.get_args(model)[1]
            continue
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        model = _plain(fields[str(step)].annotation)
    return tuple(field.alias or name for name, field in _plain(model).model_fields.items())


def _plain(annotation: Any) -> Any:
    """Without `| None`."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return next(a for a in typing.get_args(annotation) if a is not type(None))
    return annotation
