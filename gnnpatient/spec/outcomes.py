"""What is to be predicted: time to an event, a class, or the course of a value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from gnnpatient.errors import InputError
from gnnpatient.spec.tables import Moment, Names, PatientSpec, Record, Where
from gnnpatient.times import seconds

Words = tuple[str, ...]
# no and yes, as they may be written
_NO_AND_YES: tuple[Words, ...] = (("0", "1"), ("0.0", "1.0"), ("false", "true"), ("False", "True"))
_ANY_DAY: tuple[Words, ...] = (("of any day",),)  # fits * alone


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


class BaseOutcomeSpec(Record):
    """What a spec asks of every kind of outcome."""

    answers_key: ClassVar[str] = ""
    """The key that names the answers."""

    @property
    def answers(self) -> tuple[str, ...]:
        """The names of the causes, or the classes; none where the answer is a number."""
        return ()

    @property
    def parts(self) -> tuple[tuple[str, CauseSpec], ...]:
        """Each cause with each way in which it may show; none where there are no causes."""
        return ()

    @property
    def tables(self) -> set[str]:
        """The files that hold the answer."""
        return set()

    @property
    def node_names(self) -> Iterator[tuple[str, str | None]]:
        """Each key that names a node type, and the name."""
        yield from ()

    @property
    def end_of_observation(self) -> Moment | None:
        """When observation for this outcome ends, where that is not the end of [patient]."""
        return None

    @property
    def ended_by(self) -> str | None:
        """The survival outcome whose events end this one; None where none is named."""
        return None

    @property
    def ended_by_words(self) -> tuple[str, ...]:
        """What `gone` may be besides the name of a survival outcome."""
        return ()

    @property
    def needs_format(self) -> str | None:
        """The key that only the events of a standard format can answer."""
        return None

    @property
    def causes_without_source(self) -> Iterator[str]:
        """Causes that name neither a table and a time nor codes."""
        yield from ()

    def answer_columns(self, patient: PatientSpec) -> set[str]:
        """The columns that hold the answer."""
        return set()

    def columns_apart(self, patient: PatientSpec) -> set[str]:
        """Columns of the patient table from which the answer can be read where rows are told apart."""
        return set()

    def answer_words(self, patient: PatientSpec) -> dict[str, tuple[Words, ...]]:
        """The words that `where` of [patient] must fit, by column of the patient table that holds an answer.

        All words of one of the forms must fit. A column without a form may not choose patients at all, since
        who has a date there has the event.
        """
        return {}


class SurvivalSpec(BaseOutcomeSpec):
    """Time to the first of several causes."""

    answers_key: ClassVar[str] = "causes"
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

    @property
    def answers(self) -> tuple[str, ...]:
        """The names of the causes."""
        return self.cause_names

    @property
    def tables(self) -> set[str]:
        """The files that hold the answer."""
        return {table for table in (self.table, *(part.table for _, part in self.parts)) if table}

    @property
    def node_names(self) -> Iterator[tuple[str, str | None]]:
        """Each key that names a node type, and the name."""
        yield from ((f"causes.{cause}.node", part.node) for cause, part in self.parts)

    @property
    def end_of_observation(self) -> Moment | None:
        """When observation for this outcome ends, where that is not the end of [patient]."""
        return self.exit

    @property
    def causes_without_source(self) -> Iterator[str]:
        """Causes that name neither a table and a time nor codes."""
        for cause, part in self.parts:
            if part.node is None and (part.time is None or not (part.table or self.table)):
                yield cause

    def answer_columns(self, patient: PatientSpec) -> set[str]:
        """The columns that hold the answer."""
        found = [self.status.column, self.status.time] if self.status else []
        # rows of an event table are told apart by their words
        found += [c for _, part in self.parts if not part.where for c in (part.time, part.flag) if c]
        return {*found, *(end for end in (self.exit, patient.exit) if isinstance(end, str))}

    def columns_apart(self, patient: PatientSpec) -> set[str]:
        """Columns of the patient table from which the answer can be read where rows are told apart."""
        parts = [part for _, part in self.parts if (part.table or self.table) == patient.table and part.where]
        return {name for part in parts for name in (part.time or "", *part.where)}

    def answer_words(self, patient: PatientSpec) -> dict[str, tuple[Words, ...]]:
        """The words that `where` of [patient] must fit, by column of the patient table with an answer."""
        found: dict[str, tuple[Words, ...]] = {}
        for _, part in self.parts:
            if (part.table or self.table) == patient.table and part.time and not part.where:
                found[part.time] = _ANY_DAY if part.flag else ()
                found |= {part.flag: _NO_AND_YES} if part.flag else {}
        if self.status and self.table == patient.table:
            found |= {self.status.time: _ANY_DAY, self.status.column: (tuple(self.status.states),)}
        return found


NOBODY = "none"  # of `gone`: nothing but the end of observation


class DiagnosisSpec(BaseOutcomeSpec):
    """Which of some classes a patient belongs to, asked before that is known."""

    answers_key: ClassVar[str] = "classes"
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

    @property
    def answers(self) -> tuple[str, ...]:
        """The classes."""
        return self.class_names

    @property
    def tables(self) -> set[str]:
        """The files that hold the answer."""
        return {self.table} if self.table else set()

    @property
    def node_names(self) -> Iterator[tuple[str, str | None]]:
        """Each key that names a node type, and the name."""
        yield "node", self.node
        yield from (("inputs", name) for name in self.inputs)

    @property
    def ended_by(self) -> str | None:
        """The survival outcome whose events end this one; None where none is named."""
        return self.gone

    @property
    def ended_by_words(self) -> tuple[str, ...]:
        """What `gone` may be besides the name of a survival outcome."""
        return (NOBODY,)

    @property
    def needs_format(self) -> str | None:
        """The key that only the events of a standard format can answer."""
        return "task" if self.task is not None else None

    def answer_columns(self, patient: PatientSpec) -> set[str]:
        """The columns that hold the answer."""
        ends = [end for end in (patient.exit,) if isinstance(end, str)]
        return {column for column in (self.column, self.known, *ends) if column}

    def answer_words(self, patient: PatientSpec) -> dict[str, tuple[Words, ...]]:
        """The words that `where` of [patient] must fit, by column of the patient table with an answer."""
        if self.column is None or self.table != patient.table:
            return {}
        known = {self.known: _ANY_DAY} if self.known else {}
        return known | {self.column: (tuple(self.classes),) if self.classes else _NO_AND_YES}


class WorseSpec(Record):
    """When a value counts as worse than the one known at the ask."""

    times: float | None = Field(
        default=None, gt=0, description="that many times as high; below 1: that much lower"
    )
    plus: float | None = Field(default=None, description="higher by that much; below 0: lower")
    reaches: float | None = Field(default=None, description="at or above that, from below it")

    @model_validator(mode="after")
    def _one(self) -> WorseSpec:
        rules = [v for v in (self.times, self.plus, self.reaches) if v is not None]
        if len(rules) != 1 or self.times == 1 or self.plus == 0:
            raise InputError("worse needs one of times (not 1), plus (not 0) and reaches")
        return self


class ProgressionSpec(BaseOutcomeSpec):
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

    @property
    def node_names(self) -> Iterator[tuple[str, str | None]]:
        """Each key that names a node type, and the name."""
        yield "node", self.node

    @property
    def ended_by(self) -> str | None:
        """The survival outcome whose events end this one; None where none is named."""
        return self.gone


OutcomeSpec = SurvivalSpec | DiagnosisSpec | ProgressionSpec
