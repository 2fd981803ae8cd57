"""How tables are read, who the patients are, units, timepoints and hierarchies: records with closed keys."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gnnpatient.errors import InputError, near
from gnnpatient.times import seconds


class Record(BaseModel):
    """A table of the TOML: frozen, and with a closed set of keys, so that a misspelt one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Names = Annotated[tuple[str, ...], Field(strict=False)]
"""A list of strings in the TOML."""


@cache
def _zones() -> frozenset[str]:
    """The time zones of this system, whose many files are listed once."""
    import zoneinfo

    return frozenset(zoneinfo.available_timezones())


class TimeSpec(Record):
    """How the times of a table are written where they are neither days after the origin nor ISO 8601."""

    unit: Literal["s", "min", "h", "d", "w", "mo", "y"] = Field(
        default="d", description="unit of offsets after the origin; 1 y = 365.25 d, 1 mo = y / 12"
    )
    format: str | None = Field(
        default=None, description='format of dates, in the codes of strptime, as in "%d.%m.%Y %H:%M"'
    )
    timezone: str | None = Field(
        default=None,
        description="time zone of dates, and of clock times without one, as in Europe/Berlin; default: UTC",
    )

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str | None) -> str | None:
        if name is not None and name not in (zones := _zones()):
            raise InputError(f"timezone = {name!r} is not a time zone of this system{near(name, zones)}")
        return name


_NAMES = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_NAMES_OR_PAIRS = {
    "anyOf": [*_NAMES["anyOf"], {"type": "object", "additionalProperties": {"type": "string"}}]
}


def _pairs(raw: Any) -> Any:
    """A name or a list of names as pairs of equal names."""
    names = [raw] if isinstance(raw, str) else raw
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return {name: name for name in names}
    return raw


Pairs = Annotated[dict[str, str], WithJsonSchema(_NAMES_OR_PAIRS), BeforeValidator(_pairs)]
"""A name, a list of names, or {here = "there"} where the names differ."""


class JoinSpec(Record):
    """Columns that a table gains from another one, which has one row a key: names of codes from a dictionary,
    what is known of the person in a table of admissions. The rows stay as they are; one whose key the other
    table lacks has empty cells there, and is counted. Keys are compared as ids are. What is gained is a
    column like any other, read as the table says that it comes from; that one may gain columns, too."""

    table: str = Field(description="the other table, with one row a key; exact repeats of a row are one")
    by: Pairs = Field(
        description='columns with the key: "itemid", ["code", "version"], or { here = "there" } where the '
        "names differ"
    )
    columns: Pairs = Field(
        description='columns that are gained: ["label"], or { new = "old" } where a name is taken already'
    )

    @model_validator(mode="after")
    def _some(self) -> JoinSpec:
        for name, pairs in (("by", self.by), ("columns", self.columns)):
            if not pairs:
                raise InputError(f"{name} names no column of {self.table}")
        return self


class TableSpec(Record):
    """How one file is read, where the defaults do not fit."""

    key: str | None = Field(
        default=None, description="column with the patient's id; default: the key of [patient]"
    )
    encoding: str = Field(default="utf-8", description="encoding of a CSV, as in latin1")
    separator: str = Field(
        default=",", description="sign between the cells of a CSV", min_length=1, max_length=1
    )
    decimal: Literal[".", ","] = Field(default=".", description="decimal sign of the numbers of a CSV")
    missing: Names = Field(
        default=(),
        description="words that mean missing in every column but ids, as in NA or -9; default: in codes, "
        "levels, labels and groups only the empty cell does, in numbers and times NA, NaN, null and None do, "
        "too, and the flags count them",
    )
    time: TimeSpec = Field(default=TimeSpec(), description="unit, format and timezone of its times")
    join: Annotated[
        tuple[JoinSpec, ...],
        Field(strict=False),
        BeforeValidator(lambda raw: [raw] if isinstance(raw, dict) else raw),
    ] = Field(
        default=(), description="columns gained from other tables: { table, by, columns }, or a list of such"
    )


Where = Annotated[
    dict[str, Names],
    WithJsonSchema({"type": "object", "additionalProperties": _NAMES}),
    BeforeValidator(
        lambda raw: (
            {k: [v] if isinstance(v, str) else v for k, v in raw.items()} if isinstance(raw, dict) else raw
        )
    ),
]
"""Which rows: {column = pattern or patterns}; * is any text, every column must fit one of its patterns."""


class PickSpec(Record):
    """A time taken from the first or last of a patient's rows: those with some codes, or those of a table."""

    code: Annotated[Names, WithJsonSchema(_NAMES)] = Field(
        default=(), description="patterns of codes, as in HOSPITAL_ADMISSION//*"
    )
    pick: Literal["first", "last"] = Field(default="first", description="which of a patient's rows counts")
    node: str | None = Field(
        default=None,
        description="with code: node type whose rows these are; default: all tables of the format",
    )
    table: str | None = Field(default=None, description="instead of code: file whose rows these are")
    column: str | None = Field(
        default=None, description="with table: column with their time; a row where it is empty does not count"
    )
    where: Where = Field(default={}, description='with table: only these rows, as in { type = "emergency*" }')

    _one_code = field_validator("code", mode="before")(lambda raw: [raw] if isinstance(raw, str) else raw)

    @model_validator(mode="after")
    def _one_form(self) -> PickSpec:
        if (self.table is None) != (self.column is None):
            raise InputError("table = FILE and column = COLUMN belong together")
        if self.table is not None and (self.code or self.node):
            raise InputError(
                "a pick takes either code (and node), or table and column; remove one of the two"
            )
        if self.table is None and not self.code:
            raise InputError("a pick needs code = PATTERN, or table = FILE and column = COLUMN")
        if self.table is None and self.where:
            raise InputError("where belongs to table and column; with code the patterns choose the rows")
        return self

    @property
    def words(self) -> str:
        """What is picked, for people."""
        if self.table is None:
            return ", ".join(self.code)
        chosen = ", ".join(f"{name} = {' | '.join(fit)}" for name, fit in self.where.items())
        return f"column {self.column} of {self.table}" + f" where {chosen}" * bool(chosen)


Moment = Annotated[
    Annotated[str, Tag("str")] | Annotated[PickSpec, Tag("PickSpec")],
    Discriminator(lambda raw: "PickSpec" if isinstance(raw, dict | PickSpec) else "str"),
]
"""A column, a duration after the origin, or a pick among rows."""


class BirthSpec(Record):
    """How old a patient is where no table has a date of birth: the age in one year."""

    age: str = Field(description="column with the age in that year")
    year: str = Field(description="column with the year")


class PatientSpec(Record):
    """Who the patients are, what does not change in them (statics), and when they are observed."""

    table: str | None = Field(
        default=None,
        description="file with a row, or several rows, for each patient; a format brings its own",
    )
    key: str | None = Field(
        default=None,
        description="column with the patient's id, read as a string; a format has its own",
    )
    where: Where = Field(default={}, description="only these rows of the table are patients")
    number: Names = Field(
        default=(),
        description="static columns that hold numbers; age of a format: from the birth to the origin",
    )
    category: Names = Field(default=(), description="static columns that hold categories")
    birth: str | BirthSpec | None = Field(
        default=None,
        description="column with the date of birth, or { age, year }: makes the number age, in years at "
        "day 0; one above 120, as where the very old are moved, is missing and counted",
    )
    first: Names = Field(
        default=(),
        description="static columns that may differ between the rows of a patient: the earliest row counts",
    )
    known: str | None = Field(
        default=None,
        description="when the statics of a row become known: a column, or a duration after the origin "
        "(0d: as of day 0); default: the time of the nodes that are read from the same table, else 0d",
    )
    origin: Moment | None = Field(
        default=None,
        description="day 0: a column with its date, { code, pick }, { node, code, pick } or { table, column, "
        "where, pick }; a patient without such a row is left out; without origin times are offsets",
    )
    entry: Moment | None = Field(
        default=None,
        description="observation starts: a column, a duration after the origin, { code }: when the first "
        "such event is known, or { table, column, where }; a patient without such a row never enters; "
        "default: the origin, or the first start of start-stop rows",
    )
    exit: Moment | None = Field(
        default=None,
        description="observation ends: a column, a duration, { code, pick } or { table, column, where, "
        "pick }; of several ends the earliest counts, and an event at it is an event",
    )
    group: str | None = Field(
        default=None,
        description="column: patients of one group stay in one part of a split (blank = a group of its own)",
    )

    @model_validator(mode="after")
    def _age_from_birth(self) -> PatientSpec:
        if self.birth is not None and (self.origin is None or "age" not in self.number):
            raise InputError(
                'birth makes the age at day 0: name it, number = ["age"], and the column of day 0, origin'
            )
        return self

    @property
    def birth_columns(self) -> tuple[str, ...]:
        """The columns that give the age."""
        if isinstance(self.birth, BirthSpec):
            return self.birth.age, self.birth.year
        return (self.birth,) if self.birth is not None else ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The static columns, each once."""
        return tuple(dict.fromkeys((*self.number, *self.category, *self.first)))


class TimepointSpec(Record):
    """How rows are gathered in time: a timepoint node joins all that happened within one width."""

    every: str = Field(default="1d", description="width of a timepoint: floor(happened / every)")

    @field_validator("every")
    @classmethod
    def _positive(cls, text: str) -> str:
        if seconds(text) <= 0:
            raise InputError(f"every = {text!r}; it must be > 0, as in 1d")
        return text


class Conversion(Record):
    """From one unit to the unit that is kept: factor * value + offset; a number alone is the factor."""

    factor: float = Field(default=1.0, description="factor of the value")
    offset: float = Field(default=0.0, description="added to factor * value")

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


# Lengths of the prefixes that are levels, of codes without their dots.
PREFIXES = {"ATC": (1, 3, 4, 5, 7), "ICD10": (3, 4, 5, 6, 7), "ICD9": (3, 4, 5)}


class HierarchySpec(Record):
    """Which code is a special case of which: by a table, by prefixes of the codes, or by the format."""

    table: str | None = Field(default=None, description="file with a row for each pair")
    child: str = Field(default="child", description="column of that table with the narrower code")
    parent: str = Field(default="parent", description="column of that table with the wider code")
    prefix: Literal["ATC", "ICD10", "ICD9"] | None = Field(
        default=None,
        description="ancestors of a code are its first characters, at the lengths of that system's levels",
    )
    format: Literal[True] | None = Field(
        default=None,
        description="the hierarchy of the format: concept_ancestor of OMOP, parent_codes of MEDS",
    )

    @model_validator(mode="after")
    def _one(self) -> HierarchySpec:
        if sum(way is not None for way in (self.table, self.prefix, self.format)) != 1:
            raise InputError("a hierarchy needs one of table = FILE, prefix = NAME and format = true")
        return self
