"""What becomes a node, and of which node type."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from gnnpatient.errors import InputError, near
from gnnpatient.spec.tables import Names, Record, Where


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
