"""How tables are read, who the patients are, units, timepoints and hierarchies: records with closed keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gnnpatient.errors import InputError, near
from gnnpatient.times import seconds


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
