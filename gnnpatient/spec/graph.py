"""What a cohort's tables mean: `graphs/<cohort>.toml` read into frozen records with closed keys."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gnnpatient.errors import InputError, near
from gnnpatient.files import is_device, is_name
from gnnpatient.spec.patterns import fitting
from gnnpatient.times import seconds

EdgeType = tuple[str, str, str]
RESERVED = ("patient", "timepoint")
LONGEST, LONGEST_TEXT = 64, 200  # letters of the name of a kind or an outcome; of a cause or a class


LARGEST = 4 << 20  # bytes of a TOML
DOTS = 200  # in one name, which takes time by their square
_PARTED = re.compile(r"[=,#{}\[\]]")
DEEPEST = 12  # lists and tables inside one another; a spec takes 5


class Record(BaseModel):
    """A frozen table of the TOML with a closed set of keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Names = Annotated[tuple[str, ...], Field(strict=False)]


class TimeSpec(Record):
    """How the times of a table are written, where they are neither days nor ISO 8601."""

    unit: Literal["s", "min", "h", "d", "w", "mo", "y"] = Field(
        default="d", description="of offsets after the origin; 1 y = 365.25 d, 1 mo = y / 12"
    )
    format: str | None = Field(
        default=None, description='of dates, in the signs of strptime, as in "%d.%m.%Y %H:%M"'
    )
    timezone: str | None = Field(
        default=None,
        description="of days, and of clock times that name none, as in Europe/Berlin; default: UTC",
    )

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str | None) -> str | None:
        import zoneinfo

        if name is not None and name not in (zones := zoneinfo.available_timezones()):
            raise InputError(f"timezone = {name!r} is not known here{near(name, zones)}")
        return name


class TableSpec(Record):
    """How one file is read, where the defaults do not fit."""

    key: str | None = Field(
        default=None, description="column with the patient's id; default: the key of [patient]"
    )
    encoding: str = Field(default="utf-8", description="of a CSV, as in latin1")
    separator: str = Field(default=",", description="of the cells of a CSV", min_length=1, max_length=1)
    decimal: Literal[".", ","] = Field(default=".", description="decimal sign of the numbers of a CSV")
    missing: Names = Field(
        default=(),
        description="words that mean missing in every column but ids, as in NA or -9; default: in codes, "
        "levels, labels and groups only the empty cell does, in numbers and times NA, NaN, null and None do, "
        "too, and the flags count them",
    )
    time: TimeSpec = Field(default=TimeSpec(), description="unit, format and timezone of its times")


_ONE_OR_MANY = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
Where = Annotated[
    dict[str, Names],
    WithJsonSchema({"type": "object", "additionalProperties": _ONE_OR_MANY}),
    BeforeValidator(
        lambda raw: (
            {k: [v] if isinstance(v, str) else v for k, v in raw.items()} if isinstance(raw, dict) else raw
        )
    ),
]
"""Which rows: {column = pattern or patterns}; * is any text, every column must fit one of its patterns."""


class PickSpec(Record):
    """A moment taken from the first or last of some events."""

    code: Annotated[Names, WithJsonSchema(_ONE_OR_MANY)] = Field(
        description="patterns of codes, as in HOSPITAL_ADMISSION//*"
    )
    pick: Literal["first", "last"] = Field(default="first", description="which of a patient's events counts")
    node: str | None = Field(
        default=None, description="kind of node whose events these are; default: all tables of the format"
    )

    _one_code = field_validator("code", mode="before")(lambda raw: [raw] if isinstance(raw, str) else raw)


Moment = str | PickSpec


class PatientSpec(Record):
    """Who the patients are, and what does not change in them."""

    table: str | None = Field(
        default=None, description="file whose rows name the patients; a format brings its own"
    )
    key: str | None = Field(
        default=None,
        description="column with the patient's id; ids are strings, always; a format has its own",
    )
    where: Where = Field(default={}, description="only these rows of the table are patients")
    number: Names = Field(
        default=(), description="static columns that hold numbers; age: from the birth, at the origin"
    )
    category: Names = Field(default=(), description="static columns that hold names")
    first: Names = Field(
        default=(), description="static columns of which the earliest row counts where rows differ"
    )
    known: str | None = Field(
        default=None,
        description="since when the statics of a row are known: a column, or a duration after the origin "
        "(0d: as of day 0); default: the time of the nodes that are read from the same table, else 0d",
    )
    origin: Moment | None = Field(
        default=None,
        description="day 0: a column with its date, or { code, pick }; without it times are offsets",
    )
    entry: Moment | None = Field(
        default=None,
        description="observation starts: a column, a duration after the origin, or { code }: when the first "
        "such event is known, and whoever has none never enters; default: the origin",
    )
    exit: Moment | None = Field(
        default=None,
        description="observation ends: a column, a duration, or { code, pick }; of several ends the earliest "
        "counts, and an event at it is an event",
    )
    group: str | None = Field(
        default=None, description="column: what splits must not part (blank = own group)"
    )

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.number, *self.category, *self.first)))


class TimepointSpec(Record):
    """How rows are held together in time."""

    every: str = Field(default="1d", description="width of a timepoint: floor(happened / every)")

    @field_validator("every")
    @classmethod
    def _positive(cls, text: str) -> str:
        if seconds(text) <= 0:
            raise InputError(f"every = {text!r}; a timepoint must last some time, as in 1d")
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
    """The unit that a code is kept in; rows in another one, or out of range, are refused and counted.

    Case counts, as in UCUM: mU is not MU. Common spellings of one unit (mg/dl, mg/dL) are one."""

    to: str = Field(description="the unit that is kept")
    sources: dict[str, Conversion] = Field(
        default={},
        alias="from",
        description='unit = factor, or {factor, offset}; "" is the empty unit, which is refused otherwise',
    )
    range: Annotated[tuple[float, float] | None, Field(strict=False)] = Field(
        default=None, description="lowest and highest possible value, in the unit that is kept"
    )

    @field_validator("range")
    @classmethod
    def _rising(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends and not ends[0] < ends[1]:
            raise InputError(f"range = {list(ends)}; give the lowest value, then the highest")
        return ends


PREFIXES = {"ATC": (1, 3, 4, 5, 7), "ICD10": (3, 4, 5, 6, 7), "ICD9": (3, 4, 5)}


class HierarchySpec(Record):
    """Which code is a special case of which: a table of pairs, prefixes of the codes, or the format's own."""

    table: str | None = Field(default=None, description="file with a row for each pair")
    child: str = Field(default="child", description="its column with the narrower code")
    parent: str = Field(default="parent", description="its column with the wider code")
    prefix: Literal["ATC", "ICD10", "ICD9"] | None = Field(
        default=None, description="ancestors are beginnings of the code"
    )
    format: Literal[True] | None = Field(
        default=None, description="that of the format: concept_ancestor of OMOP, parent_codes of MEDS"
    )

    @model_validator(mode="after")
    def _one(self) -> HierarchySpec:
        if sum(way is not None for way in (self.table, self.prefix, self.format)) != 1:
            raise InputError("a hierarchy needs one of table = FILE, prefix = NAME and format = true")
        return self


class LinkSpec(Record):
    """An edge to the nodes of another kind that have the same study; it exists when both ends are visible."""

    describes: str | None = Field(default=None, description="kind that this one describes, as a report does")
    measures: str | None = Field(default=None, description="kind that this one measures, as a region does")
    by: Literal["study"] = Field(default="study", description="what both have in common")

    @model_validator(mode="after")
    def _one(self) -> LinkSpec:
        if (self.describes is None) == (self.measures is None):
            raise InputError("a link names one kind: { describes = KIND } or { measures = KIND }")
        return self

    @property
    def rule(self) -> str:
        return "describes" if self.describes is not None else "measures"

    @property
    def kind(self) -> str:
        return self.describes or self.measures or ""


class NodeSpec(Record):
    """One kind of node: rows of a long table (code, value) or of a wide one (columns), pictures (file), texts
    (text), the ancestors of another kind's codes (of), or what another kind's pictures measure (measures)."""

    table: str | None = Field(default=None, description="file; default: every table of the format")
    where: Where = Field(default={}, description='only these rows, as in { code = "LAB//*" }')
    time: str | None = Field(default=None, description="column: when it happened")
    known: str | None = Field(
        default=None, description="column: when it became known; default: when it happened"
    )
    until: str | None = Field(
        default=None, description="column: when it ended (a drug, a stay); hidden until then, empty = not yet"
    )
    untimed: Literal["refuse", "origin"] = Field(
        default="refuse", description="rows without a time are refused, or known from day 0 on"
    )
    code: str | None = Field(
        default=None, description="long table: column with the name of what was measured"
    )
    value: str | None = Field(
        default=None, description="long table: column with the number; empty makes a nan node"
    )
    bounds: Literal["value", "refuse"] = Field(
        default="value",
        description="<5, >100 and the like, in every format: the number, with a mark on the node that says "
        "on which side of it the truth lies, or refused and counted; named, it reads text of parquet, too",
    )
    unit: str | None = Field(default=None, description="long table: column with the unit")
    blank: Literal["refuse", "same"] = Field(
        default="refuse",
        description="an empty unit beside others of its code, where [units] does not name the code: refused "
        'and counted by code, or the same unit as those; of a code, [units] says it: from = { "" = FACTOR }',
    )
    columns: dict[str, str] | None = Field(
        default=None,
        description="wide table: column = code, text = unit; an empty cell makes no node; a name with one * "
        "stands for every column that fits and has no other meaning here, its code is what * stands for",
    )
    file: str | None = Field(default=None, description="pictures: column with the name of the file")
    root: str = Field(default=".", description="pictures: the folder they lie in; nothing outside is opened")
    steps: Names = Field(
        default=("stretch",), description="pictures: what is done before embedding: none, stretch, clahe"
    )
    slices: int = Field(default=8, ge=1, description="pictures: how many slices of a volume become nodes")
    text: str | None = Field(
        default=None, description="texts: column with the text; a blank one makes no node"
    )
    mask: Names = Field(
        default=(),
        description="texts: what tells the outcome, masked before embedding: words, phrases, /expressions/, "
        '"cut after day 3"; the flags count the rows of each',
    )
    deidentify: bool = Field(
        default=False,
        description="texts: ids, dates, phones, titled names are taken out before embedding; no guarantee",
    )
    embed: str | None = Field(
        default=None,
        description="pictures and texts: the encoder, by name, or a folder with a transformers model, beside "
        "the data or from the working directory",
    )
    study: str | None = Field(
        default=None, description="column: what rows of several kinds have in common, for links"
    )
    row: str | None = Field(default=None, description="column: the id of this row, for amendments")
    amends: str | None = Field(
        default=None, description="column: the id of the row whose place this one takes, once it is known"
    )
    hierarchy: str | None = Field(default=None, description="name of [hierarchies.NAME] of its codes")
    level: int | None = Field(
        default=None, ge=1, description="codes below this level of the hierarchy become their ancestor there"
    )
    of: str | None = Field(
        default=None, description="instead of a table: the ancestors of that kind's codes, joined by is_a"
    )
    measures: str | None = Field(
        default=None,
        description="instead of a table: named measurements of that kind's pictures, as its steps leave them "
        "(shades, outline, texture); known and happened when the picture is, joined to it by measures",
    )
    region: str | None = Field(
        default=None,
        description="measures: column of the pictures' table with the file of a mask, in their root; what is "
        "above 0 is measured; default: the whole picture",
    )
    edges: Annotated[tuple[str | LinkSpec, ...], Field(strict=False)] = Field(
        default=("at",), description="edge rules: at, next, same, { describes = KIND }, { measures = KIND }"
    )

    @field_validator("edges")
    @classmethod
    def _rules(cls, rules: tuple[str | LinkSpec, ...]) -> tuple[str | LinkSpec, ...]:
        for rule in rules:
            if isinstance(rule, str) and rule not in ("at", "next", "same"):
                raise InputError(f"edges: unknown rule {rule!r}{near(rule, ('at', 'next', 'same'))}")
        if "at" not in rules:
            raise InputError(f"edges = {list(rules)}; without 'at' these nodes would not reach the patient")
        plain = tuple(rule for rule in ("at", "next", "same") if rule in rules)
        return (*plain, *(rule for rule in rules if not isinstance(rule, str)))

    @field_validator("mask")
    @classmethod
    def _findable(cls, terms: tuple[str, ...]) -> tuple[str, ...]:
        if terms:
            from gnnpatient.spec.masks import finder

            for term in terms:
                finder(term)
        return terms

    @property
    def rules(self) -> tuple[str, ...]:
        """The edge rules that need no other kind: at, next, same."""
        return tuple(rule for rule in self.edges if isinstance(rule, str))

    @property
    def links(self) -> tuple[LinkSpec, ...]:
        """The edges to another kind."""
        return tuple(rule for rule in self.edges if not isinstance(rule, str))

    @property
    def made(self) -> bool:
        """Whether the nodes come from those of another kind, not from a table."""
        return self.of is not None or self.measures is not None

    @property
    def content(self) -> str | None:
        """The column with what is embedded."""
        return self.file or self.text

    @property
    def read(self) -> set[str]:
        """The columns whose content becomes nodes."""
        return {*(self.columns or ()), *filter(None, (self.code, self.value, self.text))}

    @property
    def prepared(self) -> str:
        """What is done to pictures or texts before they are embedded; terms that are masked by their hash."""
        if self.file is not None:
            return f"{'+'.join(self.steps)}, {self.slices} slices"
        terms = hashlib.sha256(json.dumps(sorted(set(self.mask))).encode()).hexdigest()[:8]
        done = [f"masked by {terms}"] * bool(self.mask) + ["de-identified"] * self.deidentify
        return ", ".join(done) or "as they are"

    @model_validator(mode="after")
    def _whole(self) -> NodeSpec:
        if self.of is not None:
            mine = {"of", "hierarchy", "edges"}
            if other := sorted(name for name in self.model_fields_set if name not in mine):
                raise InputError(f"{other[0]}: nodes made of = {self.of!r} take edges and hierarchy alone")
            return self
        if self.measures is not None:
            mine = {"measures", "region", "edges"}
            if other := sorted(name for name in self.model_fields_set if name not in mine):
                raise InputError(
                    f"{other[0]}: nodes that measure {self.measures!r} take region and edges alone"
                )
            if self.links:
                raise InputError(
                    f"edges: measures = {self.measures!r} joins them already; at, next and same are left"
                )
            return self
        if self.region is not None:
            raise InputError("region = COLUMN says where to measure; it belongs to measures = KIND")
        if self.columns is not None and self.code is not None:
            raise InputError("a node needs either code = COLUMN (long table) or columns = {...} (wide table)")
        if self.columns is not None and (self.value or self.unit):
            raise InputError("value and unit belong to a long table; in columns = {...} the text is the unit")
        if self.columns == {}:
            raise InputError("columns = {} names no column")
        if self.file is not None and self.text is not None:
            raise InputError("file and text are two kinds of node; give each its own [nodes.KIND]")
        if (self.content is None) != (self.embed is None):
            raise InputError("pictures (file) and texts (text) need embed = ENCODER, and nothing else does")
        if self.content is not None and self.columns is not None:
            raise InputError("columns = {...} is a wide table of numbers; a picture or a text is no number")
        if self.text is None and (self.mask or self.deidentify):
            raise InputError("mask and deidentify belong to text = COLUMN")
        if self.file is None and self.model_fields_set & {"root", "steps", "slices"}:
            raise InputError("root, steps and slices belong to file = COLUMN")
        if self.links and self.study is None:
            raise InputError("a link by study needs study = COLUMN")
        if (self.row is None) != (self.amends is None):
            raise InputError(
                "an amendment needs both: row = COLUMN with a row's id, amends = COLUMN naming one"
            )
        if self.level is not None and self.hierarchy is None:
            raise InputError(f"level = {self.level} of what? name the hierarchy")
        return self


class CauseSpec(Record):
    """One cause of a survival outcome: a column, rows of an event table, or codes of a kind of node."""

    time: str | None = Field(
        default=None, description="column: when it happened, or when observation for it ended"
    )
    flag: str | None = Field(
        default=None, description="column: 1 = happened then, 0 = censored then; default: happened"
    )
    table: str | None = Field(default=None, description="file; default: the table of the outcome")
    where: Where = Field(
        default={}, description="only these rows; of several in a patient the earliest counts"
    )
    node: str | None = Field(default=None, description="instead: kind of node")
    codes: Names = Field(default=(), description="patterns of its codes; the earliest row counts")

    @model_validator(mode="after")
    def _one_form(self) -> CauseSpec:
        if (self.node is None) != (not self.codes):
            raise InputError("node = KIND and codes = [...] belong together")
        if self.node is not None and (self.time or self.flag or self.table or self.where):
            raise InputError("a cause is either node and codes, or a column time, not both")
        if self.where and self.flag:
            raise InputError("flag and where are two ways to say which rows count; give one of them")
        return self


Causes = Annotated[
    tuple[CauseSpec, ...],
    Field(strict=False, min_length=1),
    BeforeValidator(lambda raw: [raw] if isinstance(raw, dict) else raw),
]


class StatusSpec(Record):
    """A survival outcome in one status column."""

    column: str = Field(description="column with the state")
    time: str = Field(description="column with the time of that state")
    states: dict[str, str] = Field(description='what each state means; "censored", else the name of a cause')


class SurvivalSpec(Record):
    """Time to the first of several causes."""

    kind: Literal["survival"] = Field(description="survival: time to the first of several causes")
    table: str | None = Field(default=None, description="file; not needed where every cause has its own")
    causes: dict[str, Causes] | None = Field(
        default=None,
        description="cause = { time, flag }, { time, where } or { node, codes }, or a list of them; "
        "the earliest counts",
    )
    status: StatusSpec | None = Field(
        default=None, description="instead of causes: one column that names the state"
    )
    exit: Moment | None = Field(
        default=None,
        description="observation for this outcome ends: a column, a duration, or { code, pick }; a column or "
        "a pick stands in the place of that of [patient], a duration cuts; with the ends of its causes and "
        "periods of observation the earliest counts",
    )
    prevalent: Literal["exclude"] = Field(
        default="exclude", description="events at or before entry are left out"
    )

    @model_validator(mode="after")
    def _one_form(self) -> SurvivalSpec:
        if (self.causes is None) == (self.status is None):
            raise InputError("a survival outcome needs either causes = {...} or status = {...}")
        if self.status is not None and self.table is None:
            raise InputError("status = {...} needs table = FILE")
        names = self.cause_names
        if not names:
            raise InputError("a survival outcome needs at least one cause")
        for name in names:
            if name in ("event_free", "censored"):
                raise InputError(f"cause {name!r} is a word of the package; call it otherwise")
        return self

    @property
    def cause_names(self) -> tuple[str, ...]:
        """Names of the causes in the order of the TOML; event k of the cohort is the k-th (from 1)."""
        if self.causes is not None:
            return tuple(self.causes)
        assert self.status is not None
        return tuple(dict.fromkeys(s for s in self.status.states.values() if s != "censored"))

    @property
    def parts(self) -> tuple[tuple[str, CauseSpec], ...]:
        """Each cause with each way in which it may show; without `causes`, none."""
        return tuple((cause, part) for cause, parts in (self.causes or {}).items() for part in parts)

    @property
    def of_events(self) -> bool:
        """Whether some cause is looked for among many rows of a patient."""
        return any(part.where or part.node for _, part in self.parts)


NOBODY = "none"  # of `gone`: nothing but the end of observation


class DiagnosisSpec(Record):
    """Which of some classes a patient belongs to, asked before that is known."""

    kind: Literal["diagnosis"] = Field(description="diagnosis: one of some classes")
    table: str | None = Field(default=None, description="file with the label")
    column: str | None = Field(default=None, description="its column with the label")
    known: str | None = Field(
        default=None, description="column of that table: when the label became known; default: never in time"
    )
    classes: dict[str, str] = Field(
        default={},
        description="cell = class; other cells: not looked for; figures are about the last of two; default: "
        "0 = no, 1 = yes",
    )
    node: str | None = Field(default=None, description="instead of a table: kind of node")
    codes: Names = Field(default=(), description="patterns of its codes that mean yes")
    task: str | None = Field(
        default=None,
        description="instead: an ACES task file (.yaml) in the data folder, on a format's events",
    )
    horizon: str | None = Field(
        default=None,
        description="with codes: yes within this time; no: free of it for as long, or gone without it",
    )
    gone: str | None = Field(
        default=None,
        description="with horizon: survival outcome whose events end it, which is no censoring; none = no "
        "outcome does; default: every cause after which the rows end",
    )
    gap: str = Field(default="1d", description="an ask must lie this long before the label is known")
    when: Literal["future", "same"] = Field(
        default="future", description="same: what is in the inputs now, which hides all other kinds"
    )
    inputs: Names = Field(default=(), description="with same: the kinds of node that may be seen")
    hide: Names = Field(
        default=(), description="patterns of codes that give the label away; they never become nodes"
    )

    @model_validator(mode="after")
    def _one_form(self) -> DiagnosisSpec:
        if (self.table is None) != (self.column is None) or (self.node is None) != (not self.codes):
            raise InputError("a diagnosis needs table and column, or node and codes")
        if [self.table, self.node, self.task].count(None) != 2:
            raise InputError("a diagnosis needs one of table and column, node and codes, and task")
        if self.task is not None and (self.known or self.classes or self.horizon or self.inputs):
            raise InputError(
                "a task says itself when it is asked and what counts; it takes gap, hide and task alone"
            )
        if self.node is not None and self.when == "future" and self.horizon is None:
            raise InputError("codes that may still come need horizon = DURATION")
        if self.table is not None and self.horizon is not None:
            raise InputError(
                "horizon belongs to codes that may still come; a column says what came of a patient"
            )
        if self.gone is not None and (self.node is None or self.horizon is None):
            raise InputError("gone belongs to codes that may still come, with horizon = DURATION")
        if self.node is not None and (self.known or self.classes):
            raise InputError("known and classes belong to table and column; codes mean yes")
        if (self.when == "same") != bool(self.inputs):
            raise InputError('when = "same" and inputs = [KINDS] belong together')
        if seconds(self.gap) < 0 or (self.horizon and seconds(self.horizon) <= 0):
            raise InputError(f"gap = {self.gap!r}, horizon = {self.horizon!r}; times ahead are positive")
        if len(set(self.class_names)) < 2:
            raise InputError(
                f"classes name {len(set(self.class_names))} class; a diagnosis needs two or more"
            )
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the TOML; label k is the k-th, from 0."""
        return tuple(dict.fromkeys(self.classes.values())) or ("no", "yes")


class WorseSpec(Record):
    """When a value counts as worse than the one known at the ask."""

    times: float | None = Field(
        default=None, gt=0, description="that many times as high; below 1: that much lower"
    )
    plus: float | None = Field(default=None, description="higher by that much; below 0: lower")
    reaches: float | None = Field(default=None, description="at or above that, from below it")

    @model_validator(mode="after")
    def _one(self) -> WorseSpec:
        given = [v for v in (self.times, self.plus, self.reaches) if v is not None]
        if len(given) != 1 or self.times == 1 or self.plus == 0:
            raise InputError("worse needs one of times (not 1), plus (not 0) and reaches")
        return self


class ProgressionSpec(Record):
    """How a value goes on."""

    kind: Literal["progression"] = Field(description="progression: how a value goes on")
    node: str = Field(description="kind of node")
    codes: Names = Field(description="its codes whose value is followed", min_length=1)
    target: Literal["value", "change", "worse"] = Field(
        default="value", description="the value at the asked time, its change, or the time until it is worse"
    )
    worse: WorseSpec | None = Field(default=None, description="what worse means; makes it the target")
    window: str = Field(
        default="90d", description="value and change: how far from the asked time a visit counts for it"
    )
    horizon: str | None = Field(default=None, description="worse: how far ahead it is followed")
    gone: str | None = Field(default=None, description="survival outcome that ends it: a competing event")

    @model_validator(mode="before")
    @classmethod
    def _implied(cls, raw: Any) -> Any:
        return {"target": "worse"} | raw if isinstance(raw, dict) and "worse" in raw else raw

    @model_validator(mode="after")
    def _whole(self) -> ProgressionSpec:
        if (self.target == "worse") != (self.worse is not None):
            raise InputError('target = "worse" and worse = { times | plus | reaches } belong together')
        if (self.target == "worse") != (self.horizon is not None):
            raise InputError("worse needs horizon = DURATION; value and change take a window instead")
        for name in ("window", "horizon"):
            if (text := getattr(self, name)) is not None and seconds(text) <= 0:
                raise InputError(f"{name} = {text!r}; a time ahead is positive")
        return self


OutcomeSpec = SurvivalSpec | DiagnosisSpec | ProgressionSpec
FORMATS = ("meds", "omop", "fhir")


class GraphSpec(Record):
    """The meaning of one cohort's tables."""

    cohort: str = Field(description="name of the cohort")
    source: str = Field(default="", description="where the tables come from, licence, citation")
    format: Literal["meds", "omop", "fhir"] | None = Field(
        default=None, description="the whole folder is in a standard format"
    )
    tables: dict[str, TableSpec] = Field(default={}, description="how single files are read")
    patient: PatientSpec = Field(default=PatientSpec(), description="who the patients are")
    timepoints: TimepointSpec = Field(default=TimepointSpec(), description="how rows are held together")
    units: dict[str, UnitSpec] = Field(
        default={}, description="of codes; a name may be a pattern, in which * stands for any text"
    )
    hierarchies: dict[str, HierarchySpec] = Field(default={}, description="of codes")
    nodes: dict[str, NodeSpec] = Field(default={}, description="kinds of node")
    outcomes: dict[str, Annotated[OutcomeSpec, Field(discriminator="kind")]] = Field(
        default={}, description="what is asked"
    )

    @model_validator(mode="after")
    def _names(self) -> GraphSpec:
        for place, names in (("nodes", self.nodes), ("outcomes", self.outcomes)):  # names of files, too
            alike: dict[str, str] = {}
            for name in names:
                if len(name) > LONGEST or is_device(name):
                    raise InputError(
                        f"{place}.{name[:LONGEST]}: files are named by it; at most {LONGEST} letters, and no "
                        "name that Windows keeps for a device"
                    )
                if (other := alike.setdefault(name.casefold(), name)) != name:
                    raise InputError(
                        f"{place}.{name}: equal to {other!r} but for case; some disks cannot tell their files"
                    )
                if name in RESERVED or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
                    reserved = " or ".join(RESERVED)
                    shown = name if name.isprintable() else repr(name)[1:-1]
                    raise InputError(
                        f"{place}.{shown}: call it otherwise; letters, digits, _ and -, not {reserved}"
                    )
        for name, outcome in self.outcomes.items():
            word = "causes" if isinstance(outcome, SurvivalSpec) else "classes"
            for text in () if isinstance(outcome, ProgressionSpec) else _answers(outcome):
                if not is_name(text) or len(text) > LONGEST_TEXT:
                    raise InputError(
                        f"outcomes.{name}.{word}: {text[:LONGEST]!r} is no name; one line without / and \\ "
                        f"would do, of at most {LONGEST_TEXT} letters"
                    )
        twice = set(self.patient.number) & set(self.patient.category)
        if twice:
            raise InputError(f"patient: column {sorted(twice)[0]!r} is both number and category")
        if lost := set(self.patient.first) - set(self.patient.number) - set(self.patient.category):
            raise InputError(f"patient.first: {sorted(lost)[0]!r} is neither a number nor a category")
        return self

    @model_validator(mode="after")
    def _tables_named(self) -> GraphSpec:
        if self.format is not None:
            return self
        if self.patient.table is None:
            raise InputError("patient.table: this key is needed")
        if self.patient.key is None:
            raise InputError("patient.key: this key is needed")
        for name, node in self.nodes.items():
            if node.made:
                continue
            if node.table is None:
                raise InputError(f"nodes.{name}.table: this key is needed")
            if node.time is None and node.untimed == "refuse":
                raise InputError(
                    f'nodes.{name}.time: this key is needed; untimed = "origin" does without (day 0)'
                )
            if node.code is None and node.columns is None and node.content is None:
                raise InputError(
                    f"nodes.{name}: a node needs either code = COLUMN (long table) or columns = {{...}}"
                )
        for name, outcome in self.outcomes.items():
            if not isinstance(outcome, SurvivalSpec):
                continue
            for cause, how in outcome.parts:
                if how.node is None and (how.time is None or not (how.table or outcome.table)):
                    raise InputError(
                        f"outcomes.{name}.causes.{cause}: needs table and time, or node and codes"
                    )
        return self

    @model_validator(mode="after")
    def _references(self) -> GraphSpec:
        def known(place: str, name: str | None, what: Iterable[str]) -> None:
            if name is not None and name not in (what := tuple(what)):
                raise InputError(f"{place}: {name!r} is not there{near(name, what) if what else ''}")

        moments: dict[str, Moment | None] = {
            f"patient.{n}": getattr(self.patient, n) for n in ("origin", "entry", "exit")
        }
        for name, node in self.nodes.items():
            known(f"nodes.{name}.hierarchy", node.hierarchy, self.hierarchies)
            pictures = [n for n, o in self.nodes.items() if o.file is not None and o.table is not None]
            known(f"nodes.{name}.measures", node.measures, pictures)
            for link in node.links:
                known(f"nodes.{name}.edges", link.kind, [n for n, o in self.nodes.items() if o.study])
            if node.of is not None:
                known(f"nodes.{name}.of", node.of, [n for n, o in self.nodes.items() if not o.made])
                if node.hierarchy is None:
                    raise InputError(f"nodes.{name}.hierarchy: this key is needed")
        for name, outcome in self.outcomes.items():
            place = f"outcomes.{name}"
            if isinstance(outcome, SurvivalSpec):
                moments[f"{place}.exit"] = outcome.exit
                for cause, how in outcome.parts:
                    known(f"{place}.causes.{cause}.node", how.node, self.nodes)
            else:
                known(f"{place}.node", outcome.node, self.nodes)
            if isinstance(outcome, DiagnosisSpec):
                if outcome.task is not None and self.format is None:
                    raise InputError(f"{place}.task: needs the events of a format ({', '.join(FORMATS)})")
                for kind in outcome.inputs:
                    known(f"{place}.inputs", kind, self.nodes)
            if isinstance(outcome, DiagnosisSpec | ProgressionSpec):
                survival = [n for n, o in self.outcomes.items() if isinstance(o, SurvivalSpec)]
                none = (NOBODY,) if isinstance(outcome, DiagnosisSpec) else ()
                known(f"{place}.gone", outcome.gone, (*survival, *none))
        for place, moment in moments.items():
            if isinstance(moment, PickSpec):
                known(f"{place}.node", moment.node, self.nodes)
                if moment.node is None and self.format is None:
                    raise InputError(f"{place}: codes of what? add node = KIND")
        entry = self.patient.entry
        if isinstance(entry, PickSpec) and entry.pick == "last":
            raise InputError(
                'patient.entry: pick = "last" lets a later event take a patient out of an earlier ask; '
                'pick = "first" would do'
            )
        if isinstance(self.patient.origin, PickSpec) and self.patient.origin.node is not None:
            raise InputError("patient.origin: day 0 comes from a column, or from the codes of a format")
        return self

    @model_validator(mode="after")
    def _no_answer_among_the_inputs(self) -> GraphSpec:
        told = {f"{name}{bare}" for name in _TOLD_LATER.get(self.format or "", ()) for bare in ("", "_bare")}
        if self.patient.table in (None, "people") and (leak := set(self.patient.columns) & told):
            raise InputError(
                f"patient: static column {sorted(leak)[0]!r} says what came of a person later; an input that "
                "holds the answer is refused"
            )
        if self.patient.table in (None, "people") and (leak := set(self.patient.where) & told):
            raise InputError(
                f"patient: where chooses by column {sorted(leak)[0]!r}; it says what came of a person later; "
                "who is a patient must not depend on it"
            )
        for kind, node in self.nodes.items():
            if node.table == "people" and (leak := node.read & told):
                raise InputError(
                    f"nodes.{kind}: column {sorted(leak)[0]!r} says what came of a person later; an input "
                    "that holds the answer is refused"
                )
        for name, outcome in self.outcomes.items():
            answer = set(_columns(outcome, self.patient))
            apart = set[str]()
            if isinstance(outcome, SurvivalSpec):
                own = [p for _, p in outcome.parts if (p.table or outcome.table) == self.patient.table]
                apart = {name for part in own if part.where for name in (part.time or "", *part.where)}
            for column, forms in _all_answers(outcome, self.patient).items():
                fit = self.patient.where.get(column)
                if fit and not any(all(fitting(words, fit)) for words in forms):
                    raise InputError(
                        f"patient: where chooses by column {column!r}, a part of outcome {name!r}; who is a "
                        "patient must not depend on what came of them"
                    )
            if leak := set(self.patient.columns) & (answer | apart):
                raise InputError(
                    f"patient: static column {sorted(leak)[0]!r} is part of outcome {name!r}; "
                    "an input that holds the answer is refused"
                )
            for kind, node in self.nodes.items():
                if node.table in _tables(outcome) and (leak := node.read & answer):
                    raise InputError(
                        f"nodes.{kind}: column {sorted(leak)[0]!r} is part of outcome {name!r}; "
                        "an input that holds the answer is refused"
                    )
        return self

    @property
    def edge_types(self) -> tuple[EdgeType, ...]:
        """Every edge type of every graph of this cohort, in order."""
        pairs = [
            (kind, rule, "timepoint" if rule == "at" else kind)
            for kind, node in self.nodes.items()
            for rule in node.rules
        ]
        pairs += [(kind, link.rule, link.kind) for kind, node in self.nodes.items() for link in node.links]
        pairs += [(kind, "measures", node.measures) for kind, node in self.nodes.items() if node.measures]
        pairs += [(node.of, "is_a", kind) for kind, node in self.nodes.items() if node.of is not None]
        pairs += [("timepoint", "of", "patient"), ("timepoint", "next", "timepoint")]
        return tuple(e for s, rule, t in pairs for e in ((s, rule, t), (t, f"rev_{rule}", s)))

    @property
    def every(self) -> int:
        """Width of a timepoint in seconds."""
        return seconds(self.timepoints.every)

    def unit(self, code: str) -> UnitSpec | None:
        """The unit that a code is kept in: by its name, else by the first pattern that it fits."""
        if code in self.units:
            return self.units[code]
        fits = (pattern for pattern in self.units if "*" in pattern and fitting([code], [pattern])[0])
        return self.units.get(next(fits, ""))

    def meant(self, table: str) -> set[str]:
        """The columns of a table that mean something else than a number of a wide row: ids, times, statics,
        answers. A pattern of columns does not fit them."""
        who = self.patient
        found: list[Any] = [self.table(table).key or who.key]
        if who.table == table:
            found += [*who.columns, *who.where, who.group, who.known, who.origin, who.entry, who.exit]
        for node in self.nodes.values():
            if node.table == table:
                found += [node.time, node.known, node.until, node.code, node.value, node.unit, node.file]
                found += [node.text, node.study, node.row, node.amends, *node.where]
            if node.measures is not None and self.nodes[node.measures].table == table:
                found.append(node.region)
        for outcome in self.outcomes.values():
            if table in _tables(outcome):
                found += _columns(outcome, who)
                parts = outcome.parts if isinstance(outcome, SurvivalSpec) else ()
                found += [name for _, part in parts for name in (part.time, *part.where)]
        return {name for name in found if isinstance(name, str)}

    @property
    def zone(self) -> str | None:
        """Of the days that an ask names: the time zone of the tables; of several, the patient table's.

        None: UTC.
        """
        zones = {how.time.timezone for how in self.tables.values()} - {None}
        return zones.pop() if len(zones) == 1 else self.table(self.patient.table or "people").time.timezone

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
        names = {
            name: o.cause_names
            if isinstance(o, SurvivalSpec)
            else o.class_names
            if isinstance(o, DiagnosisSpec)
            else ()
            for name, o in self.outcomes.items()
        }
        order = {"nodes": list(self.nodes), "causes": names}
        return hashlib.sha256(json.dumps([meaning, order], sort_keys=True).encode()).hexdigest()


def _answers(outcome: SurvivalSpec | DiagnosisSpec) -> tuple[str, ...]:
    """The names of the causes, or the classes."""
    return outcome.cause_names if isinstance(outcome, SurvivalSpec) else outcome.class_names


def _columns(outcome: OutcomeSpec, patient: PatientSpec) -> Iterator[str]:
    """The columns that hold the answer."""
    if isinstance(outcome, DiagnosisSpec):
        yield from (column for column in (outcome.column, outcome.known) if column)
        yield from (end for end in (patient.exit,) if isinstance(end, str))
    if not isinstance(outcome, SurvivalSpec):
        return
    for _, cause in outcome.parts:
        if not cause.where:  # rows of an event table are told apart by their words
            yield from (column for column in (cause.time, cause.flag) if column)
    if outcome.status:
        yield from (outcome.status.column, outcome.status.time)
    yield from (end for end in (outcome.exit, patient.exit) if isinstance(end, str))


_WHICHEVER = (("0", "1"), ("0.0", "1.0"), ("false", "true"), ("False", "True"))  # no and yes, as written
_ANY = (("of any day",),)  # fits * alone


def _all_answers(outcome: OutcomeSpec, patient: PatientSpec) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Of each column of the patient table that holds an answer the words that must fit, in one of some forms,
    where it chooses patients; without a form it may not choose, as who has that date has the event."""
    found: dict[str, tuple[tuple[str, ...], ...]] = {}
    if isinstance(outcome, SurvivalSpec):
        for _, part in outcome.parts:
            if (part.table or outcome.table) == patient.table and part.time and not part.where:
                found |= {part.time: _ANY if part.flag else ()} | (
                    {part.flag: _WHICHEVER} if part.flag else {}
                )
        if outcome.status and outcome.table == patient.table:
            found |= {outcome.status.time: _ANY, outcome.status.column: (tuple(outcome.status.states),)}
    elif isinstance(outcome, DiagnosisSpec) and outcome.column and outcome.table == patient.table:
        found |= {outcome.known: _ANY} if outcome.known else {}
        found |= {outcome.column: (tuple(outcome.classes),) if outcome.classes else _WHICHEVER}
    return found


_TOLD_LATER = {  # columns of `people` that tell of the time after day 0
    "fhir": ("death", "deceased", "last"),
    "meds": ("death", "last"),
    "omop": ("death", "observation_end", "last"),
}


def _tables(outcome: OutcomeSpec) -> set[str | None]:
    if isinstance(outcome, ProgressionSpec):
        return set()
    parts = outcome.parts if isinstance(outcome, SurvivalSpec) else ()
    return {outcome.table, *(part.table for _, part in parts)} - {None}


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
        raise InputError(
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
        raise InputError(f"{path}: a spec is a .toml file; no other format is read")
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path}: {path.stat().st_size >> 20} MB; a spec is a page of text")
        text = path.read_text(encoding="utf-8")
        if any(part.count(".") > DOTS for line in text.splitlines() for part in _PARTED.split(line)):
            raise InputError(
                f"{path}: a name of more than {DOTS} names with dots between"
            )  # read for minutes
        raw = tomllib.loads(text)
        if _depth(raw) > DEEPEST:
            raise InputError(f"{path}: lists or tables inside one another, more than {DEEPEST} deep")
        return GraphSpec.model_validate(raw)
    except RecursionError:
        raise InputError(f"{path}: lists or tables inside one another, far too deep") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: {error}") from None
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error, GraphSpec)}") from None


def _depth(raw: Any) -> int:
    """How deep the lists and tables of a TOML lie inside one another; one beyond `DEEPEST` is enough."""
    level, depth = [raw], 0
    while level and depth <= DEEPEST:
        inner = [list(part.values()) if isinstance(part, dict) else part for part in level]
        level = [one for part in inner for one in part if isinstance(one, dict | list)]
        depth += 1
    return depth


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of pydantic as one line: where, what it shows, what would do."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    where = _without_tags(model, first["loc"])
    place = ".".join(map(str, where)) or "top level"
    match first["type"]:
        case "extra_forbidden":
            above = ".".join(map(str, where[:-1])) or "top level"
            return f"{above}: unknown key {str(where[-1])!r}{near(str(where[-1]), _known(model, where[:-1]))}"
        case "missing":
            return f"{place}: this key is needed"
        case "union_tag_not_found":
            return f"{place}.kind: this key is needed"
        case "union_tag_invalid":
            kinds = re.findall(r"'(\w+)'", first["ctx"]["expected_tags"])
            return f"{place}.kind: unknown {first['ctx']['tag']!r}{near(first['ctx']['tag'], kinds)}"
        case "value_error":
            return f"{place}: {first['ctx']['error']}" if where else str(first["ctx"]["error"])
    return f"{place}: {first['msg'].replace('valid tuple', 'list')}, not {first['input']!r}"


def _without_tags(model: Any, loc: tuple[int | str, ...]) -> list[int | str]:
    """The way to a key as the TOML has it: without the names by which pydantic tells its forms apart."""
    way: list[int | str] = []
    forms = [model]
    for step in loc:
        if isinstance(step, int):  # of a list
            forms = [m for form in forms for m in _members(form)] or forms
            continue
        inner = [m for form in forms for m in _step(form, step)]
        if inner or not any(_is_form(form, step) for form in forms):
            way.append(step)
            forms = inner
        else:
            forms = [form for form in forms if _is_form(form, step)]
    return way


def _forms(annotation: Any) -> list[Any]:
    """What may stand there: the members of a union, without None and without annotations."""
    if typing.get_origin(annotation) is Annotated:
        return _forms(typing.get_args(annotation)[0])
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return [form for a in typing.get_args(annotation) for form in _forms(a) if form is not type(None)]
    return [annotation]


def _members(form: Any) -> list[Any]:
    """What a list may hold."""
    return _forms(typing.get_args(form)[0]) if typing.get_origin(form) is tuple else []


def _is_form(form: Any, step: int | str) -> bool:
    kind = form.model_fields.get("kind") if hasattr(form, "model_fields") else None
    return step in (getattr(form, "__name__", ""), *typing.get_args(kind.annotation if kind else None))


def _step(form: Any, step: int | str) -> list[Any]:
    """What stands under a key of a form; nothing where it has no such key."""
    if typing.get_origin(form) is dict:
        return _forms(typing.get_args(form)[1])
    if not hasattr(form, "model_fields"):
        return []
    fields = {field.alias or name: field for name, field in form.model_fields.items()}
    return _forms(fields[str(step)].annotation) if str(step) in fields else []


def _known(model: Any, where: list[int | str]) -> tuple[str, ...]:
    """The keys allowed at a place of a model."""
    forms = [model]
    for step in where:
        forms = [inner for form in forms for inner in _step(form, step)]
        forms = [one for form in forms for one in _members(form) or [form]]
    fields = (item for form in forms if hasattr(form, "model_fields") for item in form.model_fields.items())
    return tuple(dict.fromkeys(field.alias or name for name, field in fields))
