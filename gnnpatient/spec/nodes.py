"""What becomes a node: six records, one a node type, told apart by the key that only one of them has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from gnnpatient.errors import InputError, near
from gnnpatient.spec.tables import Names, Record, Where

PLAIN_RELATIONS = ("at", "next", "same")
"""What `edges` may name, though these relations are always there, see `GraphSpec.edge_types`."""


class LinkSpec(Record):
    """Edges to the nodes of another node type that have the same study; an edge exists when both ends are
    visible."""

    describes: str | None = Field(
        default=None, description="node type that this one describes, as a report does"
    )
    measures: str | None = Field(
        default=None, description="node type that this one measures, as a region does"
    )
    by: Literal["study"] = Field(default="study", description="what both have in common")

    @model_validator(mode="after")
    def _one(self) -> LinkSpec:
        if (self.describes is None) == (self.measures is None):
            raise InputError("a link names one node type: { describes = NAME } or { measures = NAME }")
        return self

    @property
    def rule(self) -> str:
        """The relation: describes or measures."""
        return "describes" if self.describes is not None else "measures"

    @property
    def kind(self) -> str:
        """The node type at the other end."""
        return self.describes or self.measures or ""


class BaseNodeSpec(Record):
    """What all node types have in common."""

    edges: Annotated[tuple[str | LinkSpec, ...], Field(strict=False)] = Field(
        default=("at",),
        description="{ describes = NAME }, { measures = NAME }: edges to another node type, by study; at, "
        "next and same may be named, but every relation within the table is there without it",
    )
    made: ClassVar[bool] = False
    """Whether the nodes come from those of another node type, not from a table."""
    title: ClassVar[str] = ""
    """The node type in an error message."""
    marker: ClassVar[str] = ""
    """The key and value that make a [nodes.NAME] this node type; of a long table, none."""

    @field_validator("edges")
    @classmethod
    def _plain_first(cls, relations: tuple[str | LinkSpec, ...]) -> tuple[str | LinkSpec, ...]:
        for relation in relations:
            if isinstance(relation, str) and relation not in PLAIN_RELATIONS:
                raise InputError(f"edges: unknown relation {relation!r}{near(relation, PLAIN_RELATIONS)}")
        if "at" not in relations:
            raise InputError(
                f"edges = {list(relations)}; without 'at' these nodes are not joined to the patient; add 'at'"
            )
        plain = tuple(relation for relation in PLAIN_RELATIONS if relation in relations)
        return (*plain, *(relation for relation in relations if not isinstance(relation, str)))

    @model_validator(mode="before")
    @classmethod
    def _keys_of_its_type(cls, raw: Any) -> Any:
        """Explain a key that belongs to another node type; keys of no node type are reported first."""
        if isinstance(raw, dict) and all(key in NODE_KEYS for key in raw):
            for key in raw:
                if key not in cls.model_fields:
                    raise InputError(_misplaced(key, cls))
        return raw

    @model_serializer(mode="wrap")
    def _in_order(self, serialize: Callable[[BaseNodeSpec], dict[str, Any]]) -> dict[str, Any]:
        """Keys in the order of NODE_KEYS, which the bytes of a stored manifest depend on."""
        keys = serialize(self)
        return {key: keys[key] for key in NODE_KEYS if key in keys}

    @property
    def links(self) -> tuple[LinkSpec, ...]:
        """The edges to another node type."""
        return tuple(relation for relation in self.edges if not isinstance(relation, str))

    @property
    def content(self) -> str | None:
        """The column with what is embedded."""
        return None

    @property
    def read(self) -> set[str]:
        """The columns whose content becomes nodes."""
        return set()

    @property
    def prepared(self) -> str:
        """What is done to images or texts before they are embedded; terms that are masked by their hash."""
        return "as they are"


# Keys that only other node types have read as absent, so that code about all node types needs no isinstance.


class _NotAncestors:
    of = None


class _NotMeasured:
    measures = region = None


class _NotLong:
    code = value = unit = None


class _NotWide:
    columns = None


class _NotEmbedded:
    file = text = embed = None
    root, slices, deidentify = ".", 1, False
    steps: ClassVar[Names] = ()
    mask: ClassVar[Names] = ()


class _NotImages:
    file, root, slices = None, ".", 1
    steps: ClassVar[Names] = ()


class _NotTexts:
    text, deidentify = None, False
    mask: ClassVar[Names] = ()


class _NotTracked:
    track = None


class _NotRead(_NotLong, _NotWide, _NotEmbedded, _NotTracked):
    table = time = known = until = study = row = amends = level = None
    untimed = bounds = blank = "refuse"
    where: ClassVar[dict[str, Names]] = {}


class TableNodeSpec(BaseNodeSpec, _NotAncestors, _NotMeasured):
    """Nodes that are read from a table; the tables below have the further keys of each node type. The key
    columns makes a wide table, file images, text texts; without any of them it is a long table."""

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
    bounds: Literal["value", "refuse"] = Field(
        default="value",
        description="<5, >100 and the like, in every format: the number, with a mark on the node that says "
        "on which side of it the truth lies, or refused and counted; named, it reads text of parquet, too",
    )
    blank: Literal["refuse", "same"] = Field(
        default="refuse",
        description="an empty unit beside others of its code, where [units] does not name the code: refused "
        'and counted by code, or the same unit as those; of a code, [units] says it: from = { "" = FACTOR }',
    )
    study: str | None = Field(
        default=None, description="column: what rows of several node types have in common, for links"
    )
    row: str | None = Field(default=None, description="column: the id of this row, for amendments")
    amends: str | None = Field(
        default=None, description="column: the id of the row whose place this one takes, once it is known"
    )
    hierarchy: str | None = Field(default=None, description="name of [hierarchies.NAME] of its codes")
    level: int | None = Field(
        default=None, ge=1, description="codes below this level of the hierarchy become their ancestor there"
    )

    @model_validator(mode="after")
    def _keys_that_need_another(self) -> TableNodeSpec:
        if self.links and self.study is None:
            raise InputError("a link by study needs study = COLUMN")
        if (self.row is None) != (self.amends is None):
            raise InputError(
                "an amendment needs both: row = COLUMN with a row's id, amends = COLUMN naming one"
            )
        if self.level is not None and self.hierarchy is None:
            raise InputError(
                f"level = {self.level} needs hierarchy = NAME, the [hierarchies.NAME] it counts in"
            )
        return self

    def detached(self) -> NodeSpec:
        """The same nodes, joined to no other node type.

        Returns
        -------
        NodeSpec
        """
        return self.model_copy(update={"edges": ("at",)})  # type: ignore[return-value]


class CodedNodeSpec(TableNodeSpec, _NotWide):
    """Nodes of a table in which a row is one node, with a code and perhaps a value."""

    code: str | None = Field(default=None, description="column with the name of what was measured")
    value: str | None = Field(default=None, description="column with the number; empty makes a nan node")
    unit: str | None = Field(default=None, description="column with the unit")

    @property
    def read(self) -> set[str]:
        """The columns whose content becomes nodes."""
        return {column for column in (self.code, self.value) if column}


class LongTable(CodedNodeSpec, _NotEmbedded):
    """A row is a node: its code, and its value where it has one."""

    title: ClassVar[str] = "a long table"
    track: str | None = Field(
        default=None,
        description="column: which object of the patient a row is of (a lesion, an implant, an eye), text or "
        "number, empty = of none; the rows of one object follow each other; the cohort keeps no id of it, "
        "but a number, in the order in which a patient's objects became known",
    )

    @property
    def read(self) -> set[str]:
        """The columns whose content becomes nodes."""
        return super().read | ({self.track} if self.track else set())


class WideTable(TableNodeSpec, _NotLong, _NotEmbedded, _NotTracked):
    """A cell is a node: the column is its code."""

    title: ClassVar[str] = "a wide table"
    marker: ClassVar[str] = "columns = {...}"
    columns: dict[str, str] = Field(
        description="column = code, text = unit; an empty cell makes no node; a name with one * "
        "stands for every column that fits and has no other meaning here, its code is what * stands for",
    )

    @field_validator("columns")
    @classmethod
    def _some(cls, columns: dict[str, str]) -> dict[str, str]:
        if not columns:
            raise InputError("columns = {} names no column")
        return columns

    @property
    def read(self) -> set[str]:
        """The columns whose content becomes nodes."""
        return set(self.columns)


class Images(CodedNodeSpec, _NotTexts, _NotTracked):
    """A row is an image, or a volume of which some slices become nodes."""

    title: ClassVar[str] = "images"
    marker: ClassVar[str] = "file = COLUMN"
    file: str = Field(description="column with the name of the file")
    root: str = Field(default=".", description="the folder they lie in; nothing outside is opened")
    steps: Names = Field(
        default=("stretch",), description="what is done before embedding: none, stretch, clahe"
    )
    slices: int = Field(default=8, ge=1, description="how many slices of a volume become nodes")
    embed: str = Field(
        description="the encoder, by name, or a folder with a transformers model, beside the data or from "
        "the working directory; or a name of your own, given in Python: read_cohort(..., encoders={NAME: f})"
    )

    @property
    def content(self) -> str | None:
        """The column with the name of the file."""
        return self.file

    @property
    def prepared(self) -> str:
        """What is done to images before they are embedded."""
        return f"{'+'.join(self.steps)}, {self.slices} slices"


class Texts(CodedNodeSpec, _NotImages, _NotTracked):
    """A row is a text."""

    title: ClassVar[str] = "texts"
    marker: ClassVar[str] = "text = COLUMN"
    text: str = Field(description="column with the text; a blank one makes no node")
    mask: Names = Field(
        default=(),
        description="what tells the outcome, masked before embedding: words, phrases, /expressions/, "
        '"cut after day 3"; the flags count the rows of each',
    )
    deidentify: bool = Field(
        default=False,
        description="ids, dates, phones, titled names are taken out before embedding; no guarantee",
    )
    embed: str = Field(
        description="the encoder, by name, or a folder with a transformers model, beside the data or from "
        "the working directory; or a name of your own, given in Python: read_cohort(..., encoders={NAME: f})"
    )

    @field_validator("mask")
    @classmethod
    def _findable(cls, terms: tuple[str, ...]) -> tuple[str, ...]:
        if terms:
            from gnnpatient.spec.masks import finder

            for term in terms:
                finder(term)
        return terms

    @property
    def content(self) -> str | None:
        """The column with the text."""
        return self.text

    @property
    def read(self) -> set[str]:
        """The columns whose content becomes nodes."""
        return super().read | {self.text}

    @property
    def prepared(self) -> str:
        """What is done to texts before they are embedded; terms that are masked by their hash."""
        terms = hashlib.sha256(json.dumps(sorted(set(self.mask))).encode()).hexdigest()[:8]
        done = [f"masked by {terms}"] * bool(self.mask) + ["de-identified"] * self.deidentify
        return ", ".join(done) or "as they are"


class Ancestors(BaseNodeSpec, _NotRead, _NotMeasured):
    """The ancestors of another node type's codes, joined to its nodes by is_a."""

    title: ClassVar[str] = "ancestor nodes"
    marker: ClassVar[str] = "of = NAME"
    made: ClassVar[bool] = True
    of: str = Field(description="instead of a table: the node type whose codes have these ancestors")
    hierarchy: str = Field(description="name of [hierarchies.NAME] of its codes")

    def detached(self) -> NodeSpec:
        """The same nodes, no longer made of another node type's and joined to no other.

        Returns
        -------
        NodeSpec
        """
        return LongTable.model_construct(hierarchy=self.hierarchy)


class Measurements(BaseNodeSpec, _NotRead, _NotAncestors):
    """Named measurements of another node type's images, as its steps leave them (shades, outline, texture);
    known and happened when the image is, joined to it by measures."""

    title: ClassVar[str] = "measurements"
    marker: ClassVar[str] = "measures = NAME"
    made: ClassVar[bool] = True
    hierarchy: ClassVar[None] = None
    measures: str = Field(description="instead of a table: the node type whose images are measured")
    region: str | None = Field(
        default=None,
        description="column of the images' table with the file of a mask, in their root; what is "
        "above 0 is measured; default: the whole image",
    )

    @model_validator(mode="after")
    def _joined_already(self) -> Measurements:
        if self.links:
            raise InputError(
                f"edges: measures = {self.measures!r} joins them already; at, next and same are left"
            )
        return self

    def detached(self) -> NodeSpec:
        """The same nodes, no longer made of another node type's and joined to no other.

        Returns
        -------
        NodeSpec
        """
        return LongTable.model_construct()


NODE_TYPES: dict[str, type[BaseNodeSpec]] = {  # by the key that makes a [nodes.NAME] this one, in this order
    "of": Ancestors,
    "measures": Measurements,
    "columns": WideTable,
    "file": Images,
    "text": Texts,
}
NODE_KEYS = (  # of all node types, in the order in which they are stored
    *("table", "where", "time", "known", "until", "untimed", "code", "value", "bounds", "unit", "blank"),
    *("columns", "file", "root", "steps", "slices", "text", "mask", "deidentify", "embed"),
    *("study", "track", "row", "amends", "hierarchy", "level", "of", "measures", "region", "edges"),
)


def _node_type(raw: Any) -> str:
    """The record of a [nodes.NAME], by the key that is there."""
    if isinstance(raw, BaseNodeSpec):
        return type(raw).__name__
    keys = raw if isinstance(raw, dict) else {}
    return next((record.__name__ for key, record in NODE_TYPES.items() if key in keys), "LongTable")


def _misplaced(key: str, record: type[BaseNodeSpec]) -> str:
    """Which node type has a key, which one this table was taken for, and why."""
    node_types: tuple[type[BaseNodeSpec], ...] = (LongTable, *NODE_TYPES.values())
    owners = [owner for owner in node_types if key in owner.model_fields]
    belongs = f"{key} belongs to {' or '.join(owner.title for owner in owners)}"
    if record.marker:
        return f"{belongs}; {record.marker} makes this {record.title}: remove one of the two"
    markers = " or ".join(owner.marker for owner in owners)
    return f"{belongs}; without {markers} this is {record.title}"


NodeSpec = Annotated[
    Annotated[LongTable, Tag("LongTable")]
    | Annotated[WideTable, Tag("WideTable")]
    | Annotated[Images, Tag("Images")]
    | Annotated[Texts, Tag("Texts")]
    | Annotated[Ancestors, Tag("Ancestors")]
    | Annotated[Measurements, Tag("Measurements")],
    Discriminator(_node_type),
]
"""A [nodes.NAME] of the TOML."""
